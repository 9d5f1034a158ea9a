# SPDX-License-Identifier: Apache-2.0
"""Telemetry from the kernel to the portal's database, while agent, watchdog and portal are killed."""

import contextlib
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess

from harness import InstanceTest, main, run, wait_for
from instance import AGENT_UID


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

    # ---- the disk and the portal's past

    def spool_on_its_own_disk(self, size):
        """A small file system under the agent's spool; returns its directory."""
        self.start_portal()
        d = self.i.path("state", "agent", "spool")
        d.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700,uid={AGENT_UID},gid={AGENT_UID}", "none", str(d))
        self.addCleanup(run, "umount", "-l", str(d), check=False)
        os.chown(d.parent, AGENT_UID, AGENT_UID)
        self.i.start_endpoint()
        self.i.enroll()
        self.i.wait_online()
        return d

    def test_full_disk_loses_nothing_uncounted_and_is_recovered_from(self):
        d = self.spool_on_its_own_disk("256k")
        pids = self.exits(10)
        self.assert_once(pids)
        fd = os.open(d / "filler", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            while os.write(fd, bytes(4096)):
                pass
        os.close(fd)
        self.i.stop_portal()
        pids += self.exits(100)
        wait_for(lambda: "write the spool" in self.log("launch"), 20, "the agent to notice the full disk")
        os.unlink(d / "filler")
        wait_for(lambda: "the spool can be written again" in self.log("launch"), 30, "the agent to write again")
        self.i.start_portal()
        self.i.wait_online(70)
        self.assert_once(pids, 60)
        self.assert_contiguous()

    def test_agent_started_on_a_read_only_disk_sends_from_memory(self):
        d = self.spool_on_its_own_disk("16m")
        pids = self.exits(10)
        self.assert_once(pids)
        run("mount", "-t", "tmpfs", "-o", f"ro,size=1m,mode=700,uid={AGENT_UID},gid={AGENT_UID}", "none", str(d))
        self.addCleanup(run, "umount", "-l", str(d), check=False)
        agent = self.i.agent()["pid"]
        self.kill(agent)
        wait_for(lambda: self.i.agent().get("pid") not in (None, agent), 30, "a new agent on a read-only disk")
        self.wait_log("launch", "write the spool", 20)
        self.i.wait_online(30)
        pids += self.exits(20)
        self.assert_once(pids, 40)

    def test_portal_restored_from_an_older_backup_gets_the_rest_once_and_a_gap(self):
        self.start_online()
        pids = self.exits(20)
        self.assert_once(pids)
        self.i.stop_portal()
        database = self.database()
        copy = database.with_suffix(".backup")
        shutil.copy2(database, copy)
        self.i.start_portal()
        self.i.wait_online(40)
        forgotten = self.exits(20)
        self.assert_once(forgotten)
        # All of it acknowledged, and so no longer on the endpoint.
        wait_for(lambda: (t := self.i.status()["telemetry"])["spooled"] == t["acked"], 20, "acknowledgements")
        self.i.stop_portal()
        for suffix in ("-wal", "-shm"):
            pathlib.Path(str(database) + suffix).unlink(missing_ok=True)
        shutil.copy2(copy, database)
        self.i.start_portal()
        self.i.wait_online(40)
        later = self.exits(20)
        self.assert_once(pids + later, 40)
        self.assert_contiguous()
        missing = [p for p, n in self.stored(forgotten).items() if n == 0]
        gaps = self.query("SELECT sum(last - first + 1) FROM gaps")[0][0] or 0
        self.assertGreaterEqual(gaps, len(missing), "what the backup lacks is neither there nor counted")


if __name__ == "__main__":
    main()
