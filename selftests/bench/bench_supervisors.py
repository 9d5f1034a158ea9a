# SPDX-License-Identifier: Apache-2.0
"""One trivial service, killed again and again under each supervisor, in one run.

holdfast-watchdog beside s6, runit, monit and supervisord (Debian's packages, their own defaults; monit
looks every second, the shortest it takes) and the bare floor of pidfd and exec. Each supervisor has several
services, so that every one has been up for UP_S before it is killed: s6 and runit wait a second
before they restart what ran for less. They take turns, so that all meet the same machine. From the moment before kill() to
the stamp that the new process made in main(), and to the one it made when it had said that it was ready.

BENCH_N: kills for each supervisor (1000; a twentieth of it for supervisord and monit, which take a second).
"""

import mmap
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from benchlib import bench_instance, percentile, row
from instance import wait_for

KILLS = int(os.environ.get("BENCH_N", "1000"))
SERVICES = 12
UP_S = 1.3
GIVE_UP_S = 15


class Service:
    """What the service stamped, mapped."""

    def __init__(self, path):
        path.write_bytes(bytes(24))
        path.chmod(0o666)
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 24)
        self.killed_at = 0.0

    def stamp(self):
        return struct.unpack("<QQQ", self.map[:24])

    @property
    def pid(self):
        return self.stamp()[0]

    def kill(self):
        """(exec, ready) in µs after the kill."""
        old = self.pid
        began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: self.pid != old, GIVE_UP_S, "the service to be restarted", 0.002)
        _, at, ready = self.stamp()
        self.killed_at = time.monotonic()
        return (at - began) / 1000, (ready - began) / 1000


class Supervisor:
    def __init__(self, name, services, stop):
        self.name, self.services, self.stop = name, services, stop
        self.exec_us, self.ready_us, self.turn = [], [], 0

    def kill_next(self):
        s = self.services[self.turn % len(self.services)]
        self.turn += 1
        wait = s.killed_at + UP_S - time.monotonic()
        if wait > 0 and len(self.services) > 1:
            time.sleep(wait)
        a, b = s.kill()
        self.exec_us.append(a)
        self.ready_us.append(b)

    def rows(self, floor):
        out = []
        for what, values in (("exec", self.exec_us), ("ready", self.ready_us)):
            for p in (50, 99):
                below = percentile(getattr(floor, f"{what}_us"), p) if floor is not self else None
                out.append(row(f"{self.name}: kill to {what} p{p}", percentile(values, p), "µs", floor=below))
        return out


def peers(root, service, floor_program):
    """(name, needed program, [command of its own] for each service or one for all)."""
    children = []

    def start(*argv, **kw):
        children.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kw))
        return children[-1]

    def stop(procs, sig=signal.SIGTERM):
        for p in procs:
            if p.poll() is None:
                p.send_signal(sig)
        for p in procs:
            p.wait(20)

    def stamps(name):
        d = root / name
        d.mkdir()
        return d, [Service(d / f"stamp{n}") for n in range(SERVICES)]

    def script(path, text):
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    d, services = stamps("floor")
    procs = [start(floor_program, service, d / f"stamp{n}") for n in range(SERVICES)]

    def stop_floor(procs=procs, services=services):
        stop(procs, signal.SIGKILL)
        for s in services:
            os.kill(s.pid, signal.SIGKILL)

    yield Supervisor("bare pidfd + exec", services, stop_floor)

    if shutil.which("s6-supervise"):
        d, services = stamps("s6")
        procs = []
        for n in range(SERVICES):
            sv = d / f"sv{n}"
            sv.mkdir()
            script(sv / "run", f"exec {service} {d}/stamp{n}")
            (sv / "notification-fd").write_text("3\n")
            procs.append(start("s6-supervise", sv))
        yield Supervisor("s6", services, lambda procs=procs: stop(procs))
    if shutil.which("runsv"):
        d, services = stamps("runit")
        procs = []
        for n in range(SERVICES):
            sv = d / f"sv{n}"
            sv.mkdir()
            script(sv / "run", f"exec {service} {d}/stamp{n}")
            procs.append(start("runsv", sv))
        yield Supervisor("runit", services, lambda procs=procs: stop(procs))
    if shutil.which("supervisord"):
        d, services = stamps("supervisord")
        conf = d / "supervisord.conf"
        conf.write_text(f"[supervisord]\nnodaemon=true\nlogfile={d}/log\npidfile={d}/pid\nchildlogdir={d}\n" + "".join(
            f"[program:s{n}]\ncommand={service} {d}/stamp{n}\nautorestart=true\n" for n in range(SERVICES)))
        p = start("supervisord", "-c", conf)
        yield Supervisor("supervisord", services, lambda p=p: stop([p]))
    if shutil.which("monit"):
        d, services = stamps("monit")
        lines = ["set daemon 1", f"set idfile {d}/id", f"set statefile {d}/state", f"set pidfile {d}/pid"]
        for n in range(SERVICES):
            script(d / f"start{n}", f"{service} {d}/stamp{n} & echo $! >{d}/pid{n}")
            lines.append(f"check process s{n} with pidfile {d}/pid{n}\n  start program = \"{d}/start{n}\"")
        conf = d / "monitrc"
        conf.write_text("\n".join(lines) + "\n")
        conf.chmod(0o600)
        p = start("monit", "-I", "-c", conf)

        def stop_monit(p=p, services=services):
            stop([p])
            for s in services:
                if s.pid:
                    os.kill(s.pid, signal.SIGKILL)

        yield Supervisor("monit", services, stop_monit)


def rows():
    out = []
    with bench_instance("restart:\n  settle_s: 0\n", enrol=False) as i:
        service, floor_program = i.bench_bin / "service", i.bench_bin / "supervisor"
        bindir = i.dir.parent / "bin"
        bindir.mkdir()
        for name in ("holdfast-launch", "holdfast-watchdog"):
            shutil.copy2(i.bin / name, bindir / name)
        shutil.copy2(service, bindir / "holdfast-agent")
        i.bin = bindir
        i._spawn("launch", "holdfast-launch", ["--dir", "."])
        # It finds no stamp at first, ends, and is started again: the stamp's file needs its directory.
        wait_for(lambda: i.path("state", "agent").is_dir(), GIVE_UP_S, "the watchdog")
        ours = Service(i.path("state", "agent", "stamp"))
        root = Path(tempfile.mkdtemp(prefix="hf-supervisors-", dir=i.dir.parent))
        running = []
        try:
            running = [Supervisor("holdfast-watchdog", [ours], lambda: None)]
            running.extend(peers(root, str(service), str(floor_program)))
            for s in running:
                for x in s.services:
                    wait_for(lambda x=x: x.pid, GIVE_UP_S, f"the services of {s.name}")
                    x.killed_at = time.monotonic()
            slow = [s for s in running if s.name in ("monit", "supervisord")]
            for n in range(KILLS):
                for s in running:
                    # A second and more each: a twentieth of the kills.
                    if s in slow and n % 20:
                        continue
                    s.kill_next()
            floor = next(s for s in running if s.name.startswith("bare"))
            for s in running:
                out += s.rows(floor)
            for name in ("s6", "runit", "supervisord", "monit"):
                if name not in [s.name for s in running]:
                    print(f"bench: supervisors: {name} is not installed here and was left out")
        finally:
            for s in running:
                s.stop()
    return out
