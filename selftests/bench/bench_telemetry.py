# SPDX-License-Identifier: Apache-2.0
"""What kernel telemetry costs a host, beside the tools people use today, in one run.

Watchdog and agent as they are shipped, everything told (no throttling), against tcpstates, tcplife
and exitsnoop of libbpf-tools (else their likes in bpftrace), each writing to a file. All take turns
round by round, so that they meet the same machine. A tool that does not run here has a row that says
why. Times of programs are the kernel's own statistics, in rounds of their own, because these cost time.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import time

from benchlib import BUILD, bench_instance, row
from instance import wait_for

ROUNDS = 5
CONNECTIONS = 10000
EXITS = 4000
BUSY_PER_S = 10000
BUSY_S = 5
IDLE_S = 8
# Resets a second, of two events each, and by how many processes.
RATES = ((5000, 1), (10000, 1), (20000, 2), (30000, 2), (60000, 2))
STATS = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")
CHURN = BUILD / "bench" / "bin" / "churn"
EVERYTHING = (
    "kernel:\n  netns: own\ntelemetry:\n  cgroup_burst: 0\n  kinds: [conn.failed, conn.reset_received, conn.reset_sent, conn.dropped, "
    "proc.exit, proc.oom, telemetry.loss]\n"
)
# What each tells, and how bpftrace tells the same.
TOOLS = {
    "tcpstates": ("reset", "tracepoint:sock:inet_sock_set_state { printf(\"%d %s %d %d %d %d\\n\", pid, comm, args->sport, args->dport, "
                           "args->oldstate, args->newstate); }"),
    "tcplife": ("reset", "tracepoint:sock:inet_sock_set_state { if (args->newstate == 7) { printf(\"%d %s %d %d\\n\", pid, comm, args->sport, "
                         "args->dport); } }"),
    "exitsnoop": ("exit", "tracepoint:sched:sched_process_exit { printf(\"%d %s\\n\", pid, comm); }"),
}
PROGRAMS = ("handle_set_state", "inet_sock_set", "sched_process_e", "tracepoint")
# The programs need a mounted tracefs; ours is in a namespace of its own.
WITH_TRACEFS = ["unshare", "--mount", "sh", "-c",
                "[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing || exit 9; exec \"$@\"", "-"]


def churn(what, n, *rate):
    """(how many, seconds)"""
    out = subprocess.run([CHURN, what, str(n), *map(str, rate)], check=True, capture_output=True, text=True, timeout=120).stdout.split()
    return int(out[0]), int(out[1]) / 1e9


def cpu_s(pids):
    """Processor time of processes and all their threads, in seconds."""
    ns = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                ns += int(task.read_text().split()[0])
    return ns / 1e9


def memory_mib(pid):
    """Its share of what it has in memory: of a page that two map, half."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return None


def programs(ids=None):
    """{id: (name, ns, runs)} of the loaded programs."""
    shown = json.loads(subprocess.run(["bpftool", "-j", "prog", "show"], check=True, capture_output=True, text=True, timeout=30).stdout)
    return {p["id"]: (p.get("name", "?"), p.get("run_time_ns", 0), p.get("run_cnt", 0)) for p in shown if ids is None or p["id"] in ids}


def pinned(directory):
    """Ids of the programs that this instance has pinned."""
    name = 0xCBF29CE484222325
    for byte in str(directory).encode():
        name = (name ^ byte) * 0x100000001B3 & (1 << 64) - 1
    ids = set()
    for pin in pathlib.Path(f"/sys/fs/bpf/holdfast/dev-{name:016x}").glob("*/prog_*"):
        shown = subprocess.run(["bpftool", "-j", "prog", "show", "pinned", str(pin)], check=True, capture_output=True, text=True, timeout=30)
        ids.add(json.loads(shown.stdout)["id"])
    return ids


class Off:
    """Nothing runs."""

    name = "nothing attached"
    pids = ()
    ids = ()

    def start(self):
        pass

    def stop(self):
        pass


class Holdfast:
    name = "holdfast, all told"

    def __init__(self, instance):
        self.i = instance
        self.pids = ()
        self.ids = ()

    def start(self):
        self.i.start_endpoint()
        wait_for(lambda: self.i.agent()["kernel_assist"] in ("ebpf", "partial"), 20, "the kernel's programs")
        self.i.wait_online()
        self.ids = pinned(self.i.dir)
        s = self.i.status()
        self.pids = (s["agent"]["pid"], s["watchdog"]["pid"])

    def stop(self):
        self.i.stop_endpoint()

    def lost(self):
        t = self.i.status()["telemetry"]
        return t["lost"], t["generated"]


class Tool:
    """One that runs here, or `why` it does not."""

    def __init__(self, name, tmp):
        self.tool = name
        self.what, script = TOOLS[name]
        self.out = pathlib.Path(tmp, name)
        self.p = None
        self.why = []
        self.ids = ()
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or shutil.which(f"{name}.bt")
        trace = shutil.which("bpftrace")
        self.name = None
        for label, argv in ((f"{name} (libbpf-tools)", path and [path]), (f"{name} (bpftrace)", trace and [trace, "-e", script])):
            if not argv:
                self.why.append(f"{label}: not installed")
                continue
            self.name, self.argv = label, argv
            try:
                self.start()
                self.stop()
                return
            except RuntimeError as e:
                self.why.append(f"{label}: {e}")
                self.name = None

    @property
    def pids(self):
        return (self.p.pid,) if self.p else ()

    def start(self):
        known = set(programs())
        with open(self.out, "wb") as f, open(f"{self.out}.err", "wb") as err:
            self.p = subprocess.Popen(WITH_TRACEFS + self.argv, stdout=f, stderr=err)
        end = time.monotonic() + 15
        while not self.ids or not self.ready():
            if self.p.poll() is not None or time.monotonic() > end:
                self.stop()
                lines = pathlib.Path(f"{self.out}.err").read_text(errors="replace").strip().splitlines()
                raise RuntimeError(lines[-1][:120] if lines else "it tells nothing")
            # Others may load programs at the same time.
            self.ids = {i for i, p in programs().items() if i not in known and p[0].startswith(PROGRAMS)}
            time.sleep(0.05)

    def ready(self):
        """It tells what happens by now."""
        churn(self.what, 20)
        time.sleep(0.3)
        return self.out.stat().st_size > 0 or self.tool == "tcplife"

    def stop(self):
        self.ids = ()
        if not self.p:
            return
        self.p.send_signal(signal.SIGINT)
        try:
            self.p.wait(10)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait(10)
        self.p = None


def measure(subjects, what, n):
    """{name: (median ns of one, median ns of processor time of its processes, MiB of each)}"""
    wall, user, memory = {}, {}, {}
    for _ in range(ROUNDS):
        for s in subjects:
            s.start()
            churn(what, n // 10)
            before = cpu_s(s.pids)
            done, seconds = churn(what, n)
            time.sleep(0.3)  # what is still in a ring or pipe
            wall.setdefault(s.name, []).append(seconds / done * 1e9)
            user.setdefault(s.name, []).append((cpu_s(s.pids) - before) / done * 1e9)
            memory[s.name] = [memory_mib(p) for p in s.pids]
            s.stop()
    return {k: (statistics.median(wall[k]), statistics.median(user[k]), memory[k]) for k in wall}


def program_ns(subject, what, n):
    """ns in its programs for each connection or exit; None without statistics."""
    if not STATS.exists():
        return None
    was = STATS.read_text()
    subject.start()
    try:
        STATS.write_text("1")
        before = programs(subject.ids)
        done, _ = churn(what, n)
        after = programs(subject.ids)
    finally:
        STATS.write_text(was)
        subject.stop()
    return sum(after[i][1] - before.get(i, ("", 0, 0))[1] for i in after) / done


def side_by_side(off, mine, tools, what, n, noun):
    subjects = [off, mine] + [t for t in tools if t.what == what and t.name]
    got = measure(subjects, what, n)
    base = got[off.name][0]
    out = [row(f"{noun}, {s.name}", got[s.name][0], "ns", floor=None if s is off else base) for s in subjects]
    for s in subjects[1:]:
        ns = program_ns(s, what, n)
        label = f"{noun}, {s.name}: in its kernel programs"
        out.append(row(label, ns, "ns" if ns is not None else "no bpf_stats here"))
        out.append(row(f"{noun}, {s.name}: in its processes", got[s.name][1], "ns"))
        for pid_name, mib in zip(("agent", "watchdog") if s is mine else ("",), got[s.name][2]):
            if mib and what == "reset" or s.name.startswith("exitsnoop"):
                out.append(row(f"memory, {s.name} {pid_name}".rstrip(), mib, "MiB", goal="≤ 16 MiB" if s is mine else None, met=mib <= 16 if s is mine else None))
    return out


def alone(mine):
    """Idle, busy, and how much gets through."""
    out = []
    mine.start()
    time.sleep(7)  # past the start's own work
    before = cpu_s(mine.pids)
    time.sleep(IDLE_S)
    out.append(row("processor of an idle host, agent and watchdog", (cpu_s(mine.pids) - before) / IDLE_S * 100, "% of a core"))
    before = cpu_s(mine.pids)
    done, seconds = churn("close", 20, BUSY_PER_S, BUSY_S)
    busy = (cpu_s(mine.pids) - before) / seconds * 100
    out.append(row(f"processor at {done / seconds:.0f} connections/s that end well, agent and watchdog", busy, "% of a core"))
    best = 0
    lost_at = None
    for rate, makers in RATES:
        lost, generated = mine.lost()
        before = cpu_s(mine.pids[:1])
        with concurrent.futures.ThreadPoolExecutor(makers) as pool:
            seconds = max(took for _, took in pool.map(lambda _, each=rate // makers: churn("reset", 20, each, 3), range(makers)))
        used = cpu_s(mine.pids[:1]) - before
        now_lost, now_generated = mine.lost()
        events = (now_generated - generated) / seconds
        out.append(row(f"agent's processor time an event, at {events:.0f} events/s", used / max(1, now_generated - generated) * 1e9, "ns"))
        out.append(row(f"events lost at {events:.0f} events/s", now_lost - lost, "", goal="0" if events <= 50000 else None,
                       met=now_lost == lost if events <= 50000 else None))
        if now_lost > lost:
            lost_at = events
            break
        best = max(best, events)
    name = "events/s told without loss" + ("" if lost_at else ", as many as this host could make")
    out.append(row(name, best, "1/s", goal="≥ 50000", met=best >= 50000 if lost_at or best >= 50000 else None))
    mine.stop()
    ns = program_ns(mine, "close", CONNECTIONS)
    if ns is not None:
        share = ns * BUSY_PER_S / 1e9 * 100
        out.append(row(f"kernel programs at {BUSY_PER_S} connections/s that end well, statistics included", share, "% of a core"))
        out.append(row("both together", busy + share, "% of a core", goal="≤ 0.5", met=busy + share <= 0.5))
    return out


def rows():
    with bench_instance(EVERYTHING) as i:
        i.stop_endpoint()
        off, mine = Off(), Holdfast(i)
        tools = [Tool(name, i.path()) for name in TOOLS]
        out = []
        for t in tools:
            out += [row(f"DID NOT RUN: {why}", None, "") for why in t.why if not t.name or "not installed" not in why]
        out += side_by_side(off, mine, tools, "reset", CONNECTIONS, "connect + reset")
        out += side_by_side(off, mine, tools, "exit", EXITS, "vfork + exit")
        out += alone(mine)
    return [dict(r, name="telemetry: " + r["name"]) for r in out]
