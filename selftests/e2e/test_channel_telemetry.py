# SPDX-License-Identifier: Apache-2.0
"""Telemetry over faults: each marked process's end is in the portal exactly once, whatever was killed."""

import os
import signal
import subprocess

from harness import InstanceTest, main, wait_for


class ExactlyOnce(InstanceTest):
    agent_extra = "telemetry:\n  max_events_per_s: 10000\n  burst: 100000\n"

    def setUp(self):
        super().setUp()
        self.marked = []

    def mark(self, n):
        """n processes that end with exit code 77: found again by pid and code."""
        for _ in range(n):
            p = subprocess.Popen(["/bin/sh", "-c", "exit 77"])
            p.wait(10)
            self.marked.append(p.pid)

    def received(self):
        """pid → how often the portal has its end."""
        seen = {}
        after = None
        wanted = set(self.marked)
        while True:
            page = self.i.api("GET", "/events?kind=proc.exit&limit=500" + (f"&after={after}" if after else ""))
            for e in page["items"]:
                if e["pid"] in wanted and e["code"] == 77:
                    seen[e["pid"]] = seen.get(e["pid"], 0) + 1
            after = page["next"]
            if not after:
                return seen

    def complete(self, deadline_s=40):
        wait_for(lambda: len(self.received()) == len(self.marked), deadline_s, f"{len(self.marked)} marked events in the portal", interval_s=0.2)
        self.assertEqual({p: n for p, n in self.received().items() if n != 1}, {}, "events that are there more than once")
        self.assertEqual(self.i.status()["telemetry"]["lost"], 0)

    def test_undisturbed(self):
        self.start_online()
        self.mark(200)
        self.complete()

    def test_agent_killed_while_sending(self):
        self.start_online()
        for _ in range(3):
            self.mark(60)
            pid = self.i.agent()["pid"]
            os.kill(pid, signal.SIGKILL)
            self.mark(20)  # while there is no agent: the kernel's ring keeps them
            wait_for(lambda pid=pid: self.i.agent().get("pid") not in (None, pid), 30, "a new agent")
        self.mark(20)
        self.complete()

    def test_portal_killed_and_connection_reset_while_sending(self):
        self.start_online()
        self.mark(60)
        self.i.kill_portal()
        self.mark(60)
        self.i.start_portal()
        self.mark(20)
        self.i.wait_online(70)
        for _ in range(5):
            self.mark(20)
            self.i.api("POST", f"/endpoints/{self.i.endpoint()['id']}/disconnect", {"mode": "reset"})
        self.complete(60)

    def test_watchdog_killed(self):
        self.start_online()
        self.mark(40)
        old = self.i.watchdog()["pid"]
        os.kill(old, signal.SIGKILL)
        self.mark(40)
        wait_for(lambda: self.i.watchdog().get("pid") not in (None, old), 20, "a new watchdog")
        self.mark(40)
        self.complete()

    def test_offline_for_a_while(self):
        self.start_online()
        self.i.stop_portal()
        self.mark(300)
        self.i.start_portal()
        self.i.wait_online(70)
        self.complete(60)


if __name__ == "__main__":
    main()
