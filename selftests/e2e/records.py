# SPDX-License-Identifier: Apache-2.0
"""Single telemetry records, made here and counted in the portal's database."""

import sqlite3
import subprocess

from harness import wait_for

# Configuration of the endpoint: no aggregates.
SINGLE_RECORDS = "telemetry:\n  max_events_per_s: 10000\n  burst: 100000\n"


class Records:
    """Beside InstanceTest: self.i is the instance."""

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
