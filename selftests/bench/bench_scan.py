# SPDX-License-Identifier: Apache-2.0
"""A scan of a tree of 100 000 files beside sha256sum and debsums over the same files, in memory.

The tree is made anew; for `packages` and debsums it is the one package of a dpkg database that is
mounted over the host's in a namespace of this process.
"""

import ctypes
import hashlib
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time

from benchlib import BUILD, row

FILES = 100_000
SIZES = (100, 700, 2500, 9000)  # most files of a host are small
FRAME = struct.Struct("<IIIIQ256s")
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18


def plant(tree):
    """The files; returns their lines of md5sums."""
    lines = []
    for n in range(FILES):
        d = tree / f"{n // 1000:03d}"
        if n % 1000 == 0:
            d.mkdir(parents=True)
        data = (b"%d " % n) * (SIZES[n % len(SIZES)] // 6)
        (d / f"file-{n}").write_bytes(data)
        lines.append(f"{hashlib.md5(data).hexdigest()}  {str(d)[1:]}/file-{n}\n")
    return lines


def mount(source, target):
    libc = ctypes.CDLL(None, use_errno=True)
    if source is None:
        r = libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
    else:
        r = libc.mount(os.fsencode(source), os.fsencode(target), None, MS_BIND, None)
    if r:
        raise OSError(ctypes.get_errno(), "mount")


def plant_database(admin, lines):
    (admin / "info").mkdir(parents=True)
    (admin / "status").write_text("Package: bench\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nMaintainer: x <x@y>\nDescription: x\n\n", encoding="ascii")
    (admin / "info" / "bench.list").write_text("".join("/" + line.split("  ", 1)[1] for line in lines), encoding="ascii")
    (admin / "info" / "bench.md5sums").write_text("".join(lines), encoding="ascii")
    mount(None, None)
    mount(admin, "/var/lib/dpkg")


def memfd(data=b""):
    fd = os.memfd_create("bench")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def scan(params):
    """holdfast-scan as the watchdog starts it; (summary, findings, seconds, seconds of processor)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds = [memfd(params.encode()), os.dup(2), os.dup(2), theirs.detach(), memfd(), memfd(), memfd(), memfd()]
    high = [os.dup2(fd, 100 + i) for i, fd in enumerate(fds)]
    begin = time.monotonic()
    pid = os.posix_spawn(
        str(BUILD / "bin" / "holdfast-scan"), ["holdfast-scan", "--worker"], {},
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, i) for i, fd in enumerate(high)])
    result = high[4]
    os.close(high[3])
    os.close(fds[3])
    while True:
        frame = ours.recv(FRAME.size)
        if not frame or FRAME.unpack(frame)[1] == 2:
            break
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - begin
    if status:
        raise RuntimeError(f"holdfast-scan ended with {status}")
    answer = json.loads(os.pread(result, 1 << 20, 0))
    for fd in high[:3] + high[4:] + fds[:3] + fds[4:]:
        os.close(fd)
    return answer["summary"], answer["findings"], seconds, usage.ru_utime + usage.ru_stime


def peer(command):
    begin = time.monotonic()
    p = subprocess.Popen(command, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = status
    if status:
        raise RuntimeError(f"'{command}' ended with {status}")
    return time.monotonic() - begin, usage.ru_utime + usage.ru_stime


def rows():
    base = pathlib.Path(tempfile.mkdtemp(prefix="hf-bench-scan-"))
    tree = base / "tree"
    try:
        lines = plant(tree)
        plant_database(base / "dpkg", lines)
        sums = f"find {tree} -type f -print0 | xargs -0 sha256sum"
        peer(sums)  # everything is in memory from here on
        sha_s, sha_cpu = peer(sums)
        summary, findings, base_s, base_cpu = scan(f"checks baseline\nwatch {tree}\nbaseline new\ncpu 100\nbpf none\n")
        if summary["baseline"] != "created" or summary["files"] != FILES or findings:
            raise RuntimeError(f"the scan read {summary['files']} of {FILES} files: {summary}")
        out = [
            row("baseline of 100k files", base_s, "s", floor=sha_s, goal="≤ sha256sum", met=base_s <= sha_s),
            row("  its processor time", base_cpu, "s", floor=sha_cpu),
            row("  its memory at the most", summary["memory_peak_bytes"] / 2**20, "MiB", goal="≤ 32", met=summary["memory_peak_bytes"] <= 32 * 2**20),
        ]
        _, _, slow_s, slow_cpu = scan(f"checks baseline\nwatch {tree}\nbaseline new\ncpu 50\nbpf none\n")
        out.append(row("  share of a processor at cpu_max_percent 50", 100 * slow_cpu / slow_s, "%", goal="≤ 55", met=slow_cpu / slow_s <= 0.55))
        summary, findings, pkg_s, pkg_cpu = scan("checks packages\nbaseline none\ncpu 100\nbpf none\n")
        if summary["files"] != FILES or findings:
            raise RuntimeError(f"the check of packages read {summary['files']} of {FILES} files: {findings[:3]}")
        deb_s, deb_cpu = peer("debsums -s bench") if shutil.which("debsums") else (None, None)
        out += [
            row("packages: 100k files", pkg_s, "s", floor=deb_s, goal="≤ debsums", met=pkg_s <= deb_s if deb_s else None),
            row("  its processor time", pkg_cpu, "s", floor=deb_cpu),
        ]
        summary, _, set_s, _ = scan(f"checks setuid\npath {tree}\nbaseline none\ncpu 100\nbpf none\n")
        out.append(row("setuid: 100k names", set_s, "s"))
        return out
    finally:
        shutil.rmtree(base, ignore_errors=True)
