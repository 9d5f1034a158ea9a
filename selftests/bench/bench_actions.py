# SPDX-License-Identifier: Apache-2.0
"""Actions: from the click to the first sign of work and to the result on the page; what the journals cost.

Beside it the floor: one small file replaced durably (write, fsync, rename, fsync of the directory),
which each journal does once before it says so, on the same disk in the same run.
"""

import http.client
import json
import os
import threading
import time

from benchlib import bench_instance, nanoseconds, percentile, row
from instance import wait_for

ACTIONS = 100
REPLACES = 100


class Stream(threading.Thread):
    """The event stream as a page reads it: when which state of which action was there."""

    def __init__(self, i):
        super().__init__(daemon=True)
        self.seen = {}
        conn = http.client.HTTPSConnection(i.host, i.port, context=i.tls_context(), timeout=60)
        conn.request("GET", "/api/v1/stream", headers={"Authorization": f"Bearer {i.admin_token()}"})
        self.response = conn.getresponse()
        self.start()

    def run(self):
        event = ""
        try:
            while line := self.response.readline().decode():
                if line.startswith("event:"):
                    event = line.split(":", 1)[1].strip()
                elif line.startswith("data:") and event == "action":
                    a = json.loads(line[5:])
                    self.seen.setdefault((a["id"], a["state"]), time.monotonic())
        except OSError:
            pass


def written(pid):
    with open(f"/proc/{pid}/io", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("wchar:"))


def replace_us(directory):
    """One durable replacement of a file of a record's size."""
    path, t = os.path.join(directory, "floor"), time.monotonic()
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, b"x" * 500)
    os.fsync(fd)
    os.close(fd)
    os.rename(path + ".new", path)
    d = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(d)
    os.close(d)
    return (time.monotonic() - t) * 1e6


def rows():
    with bench_instance() as i:
        floor = [replace_us(i.dir) for _ in range(REPLACES)]
        endpoint, stream = i.endpoint()["id"], Stream(i)
        daemons = (i.agent()["pid"], i.watchdog()["pid"])
        before = [written(pid) for pid in daemons]
        started, visible, accepted = [], [], []
        for _ in range(ACTIONS):
            t = time.monotonic()
            ident = i.api("POST", f"/endpoints/{endpoint}/actions", {"kind": "start", "params": {"component": "agent"}})["id"]
            wait_for(lambda ident=ident: (ident, "succeeded") in stream.seen, 30, "the result", interval_s=0.002)
            visible.append((stream.seen[ident, "succeeded"] - t) * 1e6)
            if (ident, "running") in stream.seen:
                started.append((stream.seen[ident, "running"] - t) * 1e6)
            at = {h["state"]: nanoseconds(h["at"]) for h in i.api("GET", f"/actions/{ident}")["history"]}
            accepted.append((at["accepted"] - at["sent"]) / 1000)
        wrote = sum(written(pid) - b for pid, b in zip(daemons, before)) / ACTIONS
        started = started or visible
    return [
        row("click to started p50", percentile(started, 50), "µs"),
        row("click to started p99", percentile(started, 99), "µs"),
        row("click to result on the page p50", percentile(visible, 50), "µs"),
        row("click to result on the page p99", percentile(visible, 99), "µs"),
        row("sent to accepted, the agent's journal in it p50", percentile(accepted, 50), "µs", floor=percentile(floor, 50)),
        row("written by agent and watchdog for an action: journals, log, TLS", wrote, "bytes"),
    ]
