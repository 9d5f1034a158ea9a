# SPDX-License-Identifier: Apache-2.0
"""The rows of the channel's table that need a stage of their own: a black hole behind a proxy, a portal that
forgot the connection, a sleep. Noticed after, back after, as in bench_channel_rows.

Behind the proxy and with the forgetful portal only the heartbeat (20 s, the default) can tell, so the moment
of the fault falls anywhere between two of them. The portal that forgets is the tests' own server: the real
one does so only when it is broken. The sleep is a jump of the agent's own CLOCK_BOOTTIME (the tests' build of the
agent, with its clock linked in; a real suspend is in `make vm-systemd`), over which the connection has become a
black hole. npm's `ws` takes no part: it knows no proxy, no registry and no sleep.

    BENCH_N=7 BENCH_LANES=7 make bench T=channel_seldom      a shorter run
"""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import bench_channel_rows
from bench_channel_rows import HOLES, LANES, Lane, since
from benchlib import BUILD, percentile, row
from fakeserver import FakeServer, custom
from harness import enter_own_netns
from instance import Instance, wait_for
from rawclient import first, message
from test_channel_proxy import Proxy

CONFIG = "kernel:\n  netns: own\nchannel:\n  immediate_per_minute: 600\nrestart:\n  settle_s: 0\n"
GOALS = {"black hole behind a proxy": (33000, 34000), "portal forgot us": (32000, 33000), "sleep": (1000, 4000)}


class Forgetful(FakeServer):
    """Answers the heartbeats of forgotten connections as one that does not know them."""

    forgotten = ()

    def answer(self, c, m):
        kind, body = custom(m)
        if c in self.forgotten and kind == "heartbeat":
            c.custom("heartbeat_ack", message(f1=0, f2=first(body, 2), f4="authorized"))
        else:
            super().answer(c, m)


def online(i):
    i.start_endpoint()
    i.enroll()
    i.wait_online()


def next_outage(i, known, deadline_s):
    return wait_for(lambda: next((o for o in i.local_outages() if o["id"] not in known and o["restored"]), None), deadline_s, "the outage to be over", interval_s=0.05)


def measure(i, what, n, inject, deadline_s=60):
    samples = []
    for k in range(n):
        # Not always at the same distance from a heartbeat.
        time.sleep(1 + 2.7 * k)
        known = {o["id"] for o in i.local_outages()}
        began = time.time_ns()
        inject()
        o = next_outage(i, known, deadline_s)
        samples.append({"row": what, "detect": since(o["detected_at"], began), "back": since(o["restored"], began), "cause": o["cause"]})
        i.wait_state("online", deadline_s=30)
    return samples


def behind_proxy(tmp, n):
    enter_own_netns()
    proxy = Proxy()
    i = Instance(os.path.join(tmp, "i"), BUILD / "bin")
    i.prepare(agent_config=i.default_agent_config(CONFIG).replace("portal:\n", f"portal:\n  proxy: http://127.0.0.1:{proxy.port}\n", 1))
    try:
        i.start_portal()
        online(i)

        def inject():
            proxy.swallow = proxy.tunnels

        return measure(i, "black hole behind a proxy", n, inject)
    finally:
        i.stop_all()
        proxy.close()


def forgetful(tmp, n):
    enter_own_netns()
    i = Instance(os.path.join(tmp, "i"), BUILD / "bin")
    with Forgetful(pathlib.Path(tmp), session=True) as s:
        config = i.default_agent_config(CONFIG).replace("ca_file: portal/ca.pem", f"ca_file: {s.ca_file}").replace(f"wss://{i.host}:{i.port}/v1/opamp", s.url)
        i.prepare(agent_config=config)
        try:
            i.start_endpoint()
            i.cli("enroll", "--portal", s.url, "--token", "-", input_text="any\n", timeout_s=30)
            i.wait_state("online")

            def inject():
                s.forgotten = list(s.connections)

            return measure(i, "portal forgot us", n, inject)
        finally:
            i.stop_all()


def sleeper(tmp, n):
    build = pathlib.Path(tmp) / "b"
    shutil.copytree(BUILD / "bin", build / "bin")
    shutil.copy2(BUILD / "test" / "holdfast-agent", build / "bin" / "holdfast-agent")
    bench_channel_rows.BUILD = build
    clock = os.path.join(tmp, "clock")
    boot = 0

    def write():
        fd = os.open(clock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.pwrite(fd, struct.pack("qq", 0, boot), 0)
        os.close(fd)

    write()
    os.mkfifo(clock + ".set")
    os.chmod(clock + ".set", 0o666)
    fifo = os.open(clock + ".set", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.environ["HOLDFAST_TEST_CLOCK"] = clock
    lane = Lane(tmp, "conn.failed")

    def inject():
        nonlocal boot
        lane.heal()
        lane.drop_present_connections()
        boot += 7200 * 10**9
        write()
        os.write(fifo, b"12345678")

    try:
        return measure(lane.i, "sleep", n, inject)
    finally:
        lane.stop()
        os.close(fifo)


KINDS = {"proxy": behind_proxy, "forgetful": forgetful, "sleep": sleeper}


def lane_main(kind, n):
    tmp = tempfile.mkdtemp(prefix="hf-seldom-")
    os.chmod(tmp, 0o755)
    try:
        print(json.dumps(KINDS[kind](tmp, n)))
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def rows():
    each = -(-HOLES // LANES)
    lanes = [(kind, subprocess.Popen([sys.executable, "-B", __file__, "--lane", kind, str(each)], stdout=subprocess.PIPE, text=True))
             for kind in KINDS for _ in range(LANES)]
    samples = []
    try:
        for kind, p in lanes:
            out, _ = p.communicate(timeout=600)
            if p.returncode != 0:
                raise RuntimeError(f"a lane of {kind} ended with {p.returncode}")
            samples += json.loads(out.splitlines()[-1])
    finally:
        for _, p in lanes:
            if p.poll() is None:
                p.terminate()
                p.wait(60)
    out = []
    for what, goals in GOALS.items():
        mine = [s for s in samples if s["row"] == what]
        for key, name, goal in (("detect", "noticed", goals[0]), ("back", "back", goals[1])):
            values = [s[key] for s in mine]
            for p in (50, 95, 99):
                v = percentile(values, p)
                out.append(row(f"{what}: {name} p{p} (n={len(values)})", v, "ms", goal=f"≤ {goal}" if p == 99 else None, met=v <= goal if p == 99 else None))
    return out


if __name__ == "__main__" and sys.argv[1:2] == ["--lane"]:
    lane_main(sys.argv[2], int(sys.argv[3]))
