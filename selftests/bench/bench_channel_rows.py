# SPDX-License-Identifier: Apache-2.0
"""Each way of losing the channel (DESIGN section 6): noticed after, back after; beside a plain client.

A lane is an endpoint and a portal in two network namespaces with a cable between them; several run
at the same time, because a black hole takes its seconds. What is dropped vanishes on the portal's
side. Injection is this program's clock, just before the fault; the agent's times are those of its
outage record. The peer is npm's `ws` with its defaults and an immediate redial, in the same lanes
and on the same faults; it is told of nothing but what TCP tells it.

"back" counts from the injection where a new connection works at once (reset, black hole of the old
connection), else from the moment the fault was undone.

Suspend, a registry that forgot, and a black hole behind a proxy are in bench_channel_seldom.

    BENCH_N=8 BENCH_LANES=4 make bench T=channel_rows      a shorter run
"""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from benchlib import BUILD, nanoseconds, percentile, row
from harness import enter_own_netns, run
from instance import Instance, InstanceError, wait_for

HOLES = int(os.environ.get("BENCH_N", "20"))
RESETS = 10 * HOLES
LANES = int(os.environ.get("BENCH_LANES", "7"))
IDLE_S = max(60, 3 * HOLES)  # several heartbeats
NEAR, FAR = "10.78.0.1", "10.78.0.2"
PEER_WAIT_S = 8  # how long the peer is given beyond the agent's own detection
NODE = BUILD / "bench" / "node"
CONFIG = "channel:\n  immediate_per_minute: 600\nrestart:\n  settle_s: 0\ntelemetry:\n  kinds: [%s]\n"
DAY_NS = 86400 * 10**9


def since(stamp, began_ns):
    """Milliseconds from a moment (Unix ns) to a stamp of the outage record."""
    return (nanoseconds(stamp) - began_ns % DAY_NS) / 1e6


class Peer:
    """The plain client; its lines as they come."""

    def __init__(self, i, token, ping_ms):
        self.p = subprocess.Popen(
            ["node", NODE / "wsclient.js", f"wss://{i.host}:{i.port}/v1/opamp", i.path("portal", "ca.pem"), token, str(ping_ms)],
            stdout=subprocess.PIPE, text=True)
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.p.stdout:
            self.lines.append(json.loads(line))

    def after(self, event, t_ns, deadline_s):
        """The time of its next such event in ms, None if it does not come."""
        try:
            e = wait_for(lambda: next((x for x in list(self.lines) if x["event"] == event and x["t"] > t_ns), None), deadline_s, event)
        except InstanceError:
            return None
        return (e["t"] - t_ns) / 1e6

    def stop(self):
        self.p.kill()
        self.p.wait(10)


class Lane:
    def __init__(self, tmp, kinds):
        enter_own_netns()
        self.far_pid = subprocess.Popen(["unshare", "-n", "cat"], stdin=subprocess.PIPE)
        own = os.stat("/proc/self/ns/net").st_ino
        wait_for(lambda: os.stat(f"/proc/{self.far_pid.pid}/ns/net").st_ino != own, 10, "the far namespace")
        run("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", str(self.far_pid.pid))
        self.wire()
        for argv in (("ip", "link", "set", "lo", "up"), ("ip", "addr", "add", f"{FAR}/24", "dev", "far0"), ("ip", "link", "set", "far0", "up")):
            self.far(*argv)
        self.i = Instance(os.path.join(tmp, "i"), BUILD / "bin", host=FAR)
        self.i.netns["portal"] = f"/proc/{self.far_pid.pid}/ns/net"
        self.i.prepare(agent_config=self.i.default_agent_config("kernel:\n  netns: own\n" + CONFIG % kinds))
        self.i.start_portal()
        self.i.start_endpoint()
        self.i.enroll()
        self.i.wait_online()
        self.samples = []
        self.peer = None

    def stop(self):
        if self.peer:
            self.peer.stop()
        with contextlib.suppress(InstanceError):
            self.i.stop_all()
        self.far_pid.stdin.close()
        self.far_pid.wait(10)

    def start_peer(self, ping_ms):
        if self.peer:
            self.peer.stop()
            self.peer = None
        if (NODE / "node_modules" / "ws").exists():
            token = self.i.create_token()["token"]
            self.peer = Peer(self.i, token, ping_ms)
            if self.peer.after("open", 0, 20) is None:
                raise RuntimeError("the plain client does not get through")

    def wire(self):
        run("ip", "addr", "replace", f"{NEAR}/24", "dev", "near0")
        run("ip", "link", "set", "near0", "up")

    def far(self, *argv, **kw):
        return run("nsenter", "-t", str(self.far_pid.pid), "-n", *argv, **kw)

    def drop_present_connections(self):
        """What is connected now is a black hole from here on; new connections pass."""
        out = run("ss", "-Htn", "state", "established", "dst", f"{FAR}:{self.i.port}").stdout
        ports = ", ".join(sorted({line.split()[2].rsplit(":", 1)[1] for line in out.splitlines() if line}))
        rules = (
            "table inet hf {\n"
            f" chain in {{ type filter hook prerouting priority -300; tcp sport {{ {ports} }} drop; }}\n"
            f" chain out {{ type filter hook postrouting priority -300; tcp dport {{ {ports} }} drop; }}\n}}\n"
        )
        began = time.time_ns()
        self.far("nft", "-f", "-", input=rules)
        return began

    def heal(self):
        self.far("nft", "delete", "table", "inet", "hf", check=False)

    def settle(self):
        """Nothing is on its way: what was spooled in earlier faults is acknowledged."""

        def quiet():
            t = self.i.status()["telemetry"]
            return t["acked"] >= t["spooled"]

        wait_for(quiet, 30, "the spool to be acknowledged", interval_s=0.2)

    def known(self):
        return {o["id"] for o in self.i.local_outages()}

    def outage(self, known, deadline_s, restored):
        return wait_for(
            lambda: next((o for o in self.i.local_outages() if o["id"] not in known and (o["restored"] or not restored)), None),
            deadline_s, "the outage's " + ("end" if restored else "beginning"), interval_s=0.05)

    def add(self, what, who, detect_ms, back_ms, note=""):
        self.samples.append({"row": what, "who": who, "detect": detect_ms, "back": back_ms, "note": note})

    # ---- the rows

    def hole(self, what, ping_ms, traffic):
        """The connections of agent and peer become black holes; a new one passes."""
        self.start_peer(ping_ms)
        self.settle()
        known = self.known()
        began = self.drop_present_connections()
        if traffic:  # telemetry to send: connections that are refused
            for _ in range(5):
                socket.socket().connect_ex(("127.0.0.1", 1))
        o = self.outage(known, 60, True)
        self.add(what, "agent", since(o["detected_at"], began), since(o["restored"], began), o["detected_by"])
        if self.peer:
            self.add(what, "ws", self.peer.after("close", began, PEER_WAIT_S), None)
        self.heal()

    def local(self, what, break_it, undo):
        self.start_peer(0)
        known = self.known()
        began = time.time_ns()
        break_it()
        o = self.outage(known, 20, False)
        noticed = self.peer.after("close", began, 1) if self.peer else None
        undone = time.time_ns()
        undo()
        o = self.outage(known, 90, True)
        self.add(what, "agent", since(o["detected_at"], began), since(o["restored"], undone), o["cause"])
        if self.peer:
            self.add(what, "ws", noticed, None)

    def restart(self):
        self.start_peer(0)
        known = self.known()
        began = time.time_ns()
        self.i.stop_portal()
        self.i.start_portal()
        ready = time.time_ns()
        o = self.outage(known, 90, True)
        self.add("portal restarts", "agent", since(o["detected_at"], began), max(0.0, since(o["restored"], ready)), o["cause"])
        if self.peer:
            noticed = self.peer.after("close", began, 5)
            back = self.peer.after("open", ready, 20)
            self.add("portal restarts", "ws", noticed, back)

    def half_dead(self):
        self.start_peer(0)
        known = self.known()
        pid = self.i.pid_of("portal")
        os.kill(pid, signal.SIGSTOP)
        began = time.time_ns()
        try:
            o = self.outage(known, 60, False)
            noticed = self.peer.after("close", began, 1) if self.peer else None
        finally:
            undone = time.time_ns()
            os.kill(pid, signal.SIGCONT)
        o = self.outage(known, 90, True)
        self.add("half-dead portal", "agent", since(o["detected_at"], began), since(o["restored"], undone), o["cause"])
        if self.peer:
            self.add("half-dead portal", "ws", noticed, None)

    def rounds(self, n):
        routes = ("10.78.0.0/24", "dev", "near0")
        for _ in range(n):
            self.local("interface down", lambda: run("ip", "link", "set", "near0", "down"), self.wire)
            self.hole("black hole while sending", 100, True)
            self.local("address removed", lambda: run("ip", "addr", "flush", "dev", "near0"), self.wire)
            self.hole("black hole while idle", 0, False)
            self.local("route removed", lambda: run("ip", "route", "del", *routes), lambda: run("ip", "route", "add", *routes, "src", NEAR))
            self.restart()
            self.i.wait_online(60)
            self.half_dead()
            self.i.wait_online(60)

    def resets(self, n):
        """The portal resets agent and peer in turn; both begin with the kernel's stamp."""
        self.start_peer(0)
        admin = http.client.HTTPSConnection(self.i.host, self.i.port, context=self.i.tls_context(), timeout=10)
        headers = {"Authorization": f"Bearer {self.i.admin_token()}", "Content-Type": "application/json"}
        ids = {("agent" if e["kernel_assist"] else "ws"): e["id"] for e in self.i.endpoints()}
        known = self.known()

        def reset(who):
            admin.request("POST", f"/api/v1/endpoints/{ids[who]}/disconnect", b'{"mode":"reset"}', headers)
            r = admin.getresponse()
            r.read()
            if r.status != 200:
                raise RuntimeError(f"disconnect: HTTP {r.status}")

        for _ in range(n):
            reset("agent")
            time.sleep(0.06)
            o = self.outage(known, 20, True)
            known.add(o["id"])
            self.add("reset", "agent", o["detect_ms"], o["outage_ms"])
            if not self.peer:
                continue
            before = time.time_ns()
            reset("ws")
            if self.peer.after("open", before, 10) is None:
                raise RuntimeError("the plain client did not come back")
            began = wait_for(lambda: self.kernel_reset(before), 5, "the kernel's record of the peer's reset")
            self.add("reset", "ws", self.peer.after("close", began - 10**6, 1) - 1, self.peer.after("open", began, 1))

    def kernel_reset(self, before_ns):
        """Unix ns of the kernel's stamp of the newest reset of the peer's socket."""
        for e in self.i.events("--kind", "conn.reset_received"):
            if e["pid"] == self.peer.p.pid and nanoseconds(e["time"]) > before_ns % DAY_NS - 10**7:
                return before_ns - before_ns % DAY_NS + nanoseconds(e["time"])
        return None

    def floor(self, n):
        agent = self.i.path("state", "agent")
        r = run(str(BUILD / "bench" / "bin" / "floor"), "--host", self.i.host, "--port", str(self.i.port), "--ca", str(self.i.path("portal", "ca.pem")),
                "--cert", str(agent / "cert.pem"), "--key", str(agent / "key.pem"), "--count", str(n), "--json", timeout=120)
        return json.loads(r.stdout)["us"]

    def idle(self, seconds):
        """Bytes on the cable and wakeups of the agent over a quiet stretch, per hour."""
        pid = self.i.agent()["pid"]
        if self.peer:
            self.peer.stop()
            self.peer = None
        time.sleep(2)

        def now():
            (link,) = json.loads(run("ip", "-j", "-s", "link", "show", "near0").stdout)
            wire = link["stats64"]["rx"]["bytes"] + link["stats64"]["tx"]["bytes"]
            tasks = pathlib.Path(f"/proc/{pid}/task")
            switches = sum(
                int(line.split()[1]) for t in tasks.iterdir() for line in (t / "status").read_text().splitlines() if line.startswith("voluntary"))
            return wire, switches

        first = now()
        time.sleep(seconds)
        last = now()
        return [(b - a) * 3600 / seconds for a, b in zip(first, last)]


def lane_main(kind, n):
    tmp = tempfile.mkdtemp(prefix="hf-rows-")
    os.chmod(tmp, 0o755)
    lane = None
    out = {}
    try:
        lane = Lane(tmp, "conn.failed" if kind == "rounds" else "conn.reset_received")
        if kind == "rounds":
            lane.rounds(n)
        else:
            lane.resets(n)
            lane.i.stop_endpoint()
            out["floor"] = lane.floor(n)
            lane.i.start_endpoint()
            lane.i.wait_online()
            out["idle"] = lane.idle(IDLE_S)
        out["samples"] = lane.samples
    finally:
        if lane:
            lane.stop()
        shutil.rmtree(tmp, ignore_errors=True)
    print(json.dumps(out))


def start_lane(kind, n):
    return subprocess.Popen([sys.executable, "-B", __file__, "--lane", kind, str(n)], stdout=subprocess.PIPE, text=True)


def finish_lane(p):
    out, _ = p.communicate(timeout=600)
    if p.returncode != 0:
        raise RuntimeError(f"a lane ended with {p.returncode}")
    return json.loads(out.splitlines()[-1])


GOALS = {  # ms, from DESIGN's table: noticed, back
    "reset": (10, None),
    "interface down": (250, None),
    "address removed": (250, None),
    "route removed": (250, None),
    "black hole while sending": (5000, 6000),
    "black hole while idle": (15000, 16000),
    "half-dead portal": (33000, None),
}


def show(out, what, samples):
    mine = [s for s in samples if s["row"] == what and s["who"] == "agent"]
    peer = [s for s in samples if s["row"] == what and s["who"] == "ws"]
    noticed_goal, back_goal = GOALS.get(what, (None, None))
    for key, name, goal in (("detect", "noticed", noticed_goal), ("back", "back", back_goal)):
        values = [s[key] for s in mine]
        for p in (50, 95, 99):
            v = percentile(values, p)
            judged = goal if p == 99 else None
            out.append(row(f"{what}: {name} p{p} (n={len(values)})", v, "ms", goal=f"≤ {judged}" if judged else None, met=v <= judged if judged else None))
    if not peer:
        return
    seen = [s["detect"] for s in peer if s["detect"] is not None]
    out.append(row(f"{what}: npm ws noticed at all within the agent's time + {PEER_WAIT_S if 'hole' in what else 1} s", 100 * len(seen) / len(peer), "%"))
    if seen:
        out.append(row(f"{what}: npm ws noticed p50 (n={len(seen)})", percentile(seen, 50), "ms"))
    back = [s["back"] for s in peer if s["back"] is not None]
    if back:
        out.append(row(f"{what}: npm ws back p50 (n={len(back)})", percentile(back, 50), "ms"))


def rows():
    out = []
    quiet = finish_lane(start_lane("resets", RESETS))  # alone: its figures are microseconds
    show(out, "reset", quiet["samples"])
    floor = quiet["floor"]
    back = [s["back"] for s in quiet["samples"] if s["who"] == "agent"]
    f50 = percentile(floor, 50) / 1000
    v = percentile(back, 50)
    out.append(row("reset: back p50 beside the OpenSSL floor", v, "ms", floor=f50, goal="≤ 1.25 × floor", met=v <= 1.25 * f50))
    lanes = [start_lane("rounds", -(-HOLES // LANES)) for _ in range(LANES)]
    samples = []
    try:
        for p in lanes:
            samples += finish_lane(p)["samples"]
    finally:
        for p in lanes:
            if p.poll() is None:
                p.terminate()
                p.wait(60)
    for what in ("interface down", "address removed", "route removed", "black hole while sending", "black hole while idle", "half-dead portal", "portal restarts"):
        show(out, what, samples)
    wire, wakeups = quiet["idle"]
    out.append(row(f"idle channel: bytes on the wire per hour (measured for {IDLE_S} s, scaled)", round(wire), "bytes"))
    out.append(row(f"idle channel: agent wakeups per hour (measured for {IDLE_S} s, scaled)", round(wakeups), ""))
    return out


if __name__ == "__main__" and sys.argv[1:2] == ["--lane"]:
    lane_main(sys.argv[2], int(sys.argv[3]))
