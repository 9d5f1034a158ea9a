# SPDX-License-Identifier: Apache-2.0
"""What the kernel's events go through when their consumer is stopped, killed or late: the account is exact."""

import os
import signal
import subprocess
import time

from harness import InstanceTest, main, wait_for


class Continuity(InstanceTest):
    def start(self):
        self.prepare()
        self.i.start_endpoint()
        wait_for(lambda: self.i.agent()["kernel_assist"] == "ebpf", 10, "the kernel's programs")

    def ends(self, n):
        """n processes that end with exit code 78; their pids."""
        pids = set()
        for _ in range(n):
            p = subprocess.Popen(["/bin/sh", "-c", "exit 78"])
            p.wait(10)
            pids.add(p.pid)
        return pids

    def seen(self):
        return [e["pid"] for e in self.i.events("--kind", "proc.exit") if e["code"] == 78]

    def account(self):
        """The counters once everything that was generated is read."""
        def quiet():
            t = self.i.status()["telemetry"]
            return t if t["in_ring"] == 0 else None

        t = wait_for(quiet, 15, "the rings to be empty")
        self.assertEqual(t["generated"], t["delivered"] + t["in_ring"] + t["lost"])
        return t

    def test_a_stopped_consumer_loses_nothing_and_says_how_long(self):
        self.start()
        pid = self.i.agent()["pid"]
        before = self.account()["blind_ms"]
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            pids = self.ends(50)
            time.sleep(2.2)  # blind for at least this long, which is more than an idle agent's pause: measured, not waited for
        finally:
            away_ms = (time.monotonic() - began) * 1000
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: pids <= set(self.seen()), 15, "what ended meanwhile")
        t = self.account()
        self.assertEqual(t["lost"], 0)
        self.assertEqual(len(self.seen()), len(pids))
        self.assertGreaterEqual(t["blind_ms"] - before, away_ms - 150)
        marks = [e for e in self.i.events("--kind", "telemetry.loss") if e["reason"] == "no_consumer"]
        self.assertGreaterEqual(max(e["blind_ms"] for e in marks), away_ms - 150)

    def test_a_killed_consumer_is_blind_time_and_no_loss(self):
        self.start()
        before = self.account()
        pid = self.i.agent()["pid"]
        os.kill(pid, signal.SIGKILL)
        pids = self.ends(30)
        wait_for(lambda: self.i.agent().get("pid") not in (None, pid), 30, "a new agent")
        wait_for(lambda: pids - set(self.seen()) == set() or self.i.status()["telemetry"]["in_ring"] == 0, 15, "what ended meanwhile")
        t = self.account()
        self.assertEqual(t["lost"], 0)
        self.assertGreater(t["blind_ms"], before["blind_ms"])
        self.assertGreaterEqual(t["generated"], before["generated"] + 30)


if __name__ == "__main__":
    main()
