# SPDX-License-Identifier: Apache-2.0
"""Telemetry from the kernel to the portal's database, while agent, watchdog and portal are killed."""

import os
import signal
import sqlite3
import subprocess

from harness import InstanceTest, main, wait_for


class Spool(InstanceTest):
    # No aggregates: this is about single records.
    agent_extra = "telemetry:\n  max_events_per_s: 10000\n  burst: 100000\n"

    def exits(self, n):
        """Ends n processes with code 42; returns their pids."""
        pids = []
        for _ in range(n):
            p = subprocess.Popen(["/bin/sh", "-c", "exit 42"])
            p.wait(10)
            pids.append(p.pid)
        return pids

    def query(self, sql, *args):
        db = sqlite3.connect(f"file:{self.database()}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(sql, args).fetchall()
        finally:
            db.close()

    def database(self):
        return next(p for p in self.i.path("portal").rglob("*") if p.is_file() and p.read_bytes()[:15] == b"SQLite format 3")

    def stored(self, pids):
        """How often the exit of each of these arrived."""
        count = dict.fromkeys(pids, 0)
        for (pid,) in self.query("SELECT pid FROM events WHERE kind = 'proc.exit'"):
            if pid in count:
                count[pid] += 1
        return count

    def assert_once(self, pids, deadline_s=30):
        wait_for(lambda: all(self.stored(pids).values()), deadline_s, "every exit to arrive")
        twice = {p: n for p, n in self.stored(pids).items() if n != 1}
        self.assertEqual(twice, {})

    def assert_contiguous(self):
        """Numbers of each stream up to what is acknowledged are records or in a gap, once."""
        for stream, acked in self.query("SELECT epoch, acked FROM streams"):
            have = {seq for (seq,) in self.query("SELECT seq FROM events WHERE stream = ? AND seq <= ?", stream, acked)}
            lost = 0
            for first, last in self.query("SELECT first, last FROM gaps WHERE stream = ?", stream):
                lost += last - first + 1
            self.assertEqual(len(have) + lost, acked, (stream, len(have), lost, acked))

    def test_each_exit_arrives_once_though_the_agent_is_killed_between(self):
        self.start_online()
        pids = []
        for _ in range(4):
            pids += self.exits(20)
            old = self.i.agent()["pid"]
            os.kill(old, signal.SIGKILL)
            pids += self.exits(20)
            wait_for(lambda old=old: self.i.agent().get("pid") not in (None, old), 20, "a new agent")
        self.i.wait_online()
        self.assert_once(pids)
        self.assert_contiguous()

    def test_each_exit_arrives_once_though_the_portal_is_killed_between(self):
        self.start_online()
        pids = self.exits(20)
        for _ in range(2):
            self.i.kill_portal()
            pids += self.exits(20)
            self.i.start_portal()
            pids += self.exits(20)
            self.i.wait_online(40)
        self.assert_once(pids)
        self.assert_contiguous()

    def test_what_happened_without_a_portal_arrives_later(self):
        self.start_online()
        self.i.stop_portal()
        self.i.wait_state("backoff", "connecting")
        pids = self.exits(50)
        os.kill(self.i.agent()["pid"], signal.SIGKILL)
        pids += self.exits(50)
        self.i.start_portal()
        self.i.wait_online(60)
        self.assert_once(pids)
        self.assert_contiguous()

    def test_status_counts_what_is_spooled_and_acknowledged(self):
        self.start_online()
        self.exits(10)

        def all_acked():
            t = self.i.status()["telemetry"]
            return t if t["spooled"] >= 10 and t["acked"] >= 10 else None

        t = wait_for(all_acked, 20, "acknowledgements")
        self.assertGreaterEqual(t["spooled"], t["acked"])


if __name__ == "__main__":
    main()
