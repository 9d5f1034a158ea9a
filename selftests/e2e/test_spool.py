# SPDX-License-Identifier: Apache-2.0
"""Telemetry from the kernel to the portal's database, while agent, watchdog and portal are killed."""

import contextlib
import os
import pathlib
import shutil
import signal

from harness import InstanceTest, main, run, wait_for
from instance import AGENT_UID
from records import SINGLE_RECORDS, Records


class Spool(Records, InstanceTest):
    agent_extra = SINGLE_RECORDS

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

    def test_disk_that_becomes_read_only_under_the_agent_and_is_repaired_loses_nothing(self):
        """As on a real error: ext4 turns read-only under open files, and only a new mount ends that."""
        image = pathlib.Path(self.tmp, "spool.img")
        with open(image, "wb") as f:
            f.truncate(16 << 20)
        run("mkfs.ext4", "-q", "-E", f"root_owner={AGENT_UID}:{AGENT_UID}", str(image))
        self.start_portal()
        d = self.i.path("state", "agent", "spool")
        d.mkdir(parents=True)
        os.chown(d.parent, AGENT_UID, AGENT_UID)
        mount = ("mount", "-o", "loop,errors=remount-ro", str(image), str(d))
        run(*mount)
        self.addCleanup(run, "umount", "-l", str(d), check=False)
        self.i.start_endpoint()
        self.i.enroll()
        self.i.wait_online()
        pids = self.exits(20)
        self.assert_once(pids)
        run("mount", "-o", "remount,abort", str(d))
        with self.assertRaises(OSError):
            (d / "probe").write_bytes(b"x")
        pids += self.exits(20)
        self.wait_log("launch", "write the spool", 20)
        # From memory: also over a lost connection.
        self.i.api("POST", f"/endpoints/{self.i.endpoint()['id']}/disconnect", {"mode": "reset"})
        pids += self.exits(20)
        self.assert_once(pids)
        self.assert_contiguous()
        # It cannot be made writable while it is in use.
        self.i.stop_endpoint()
        run("umount", str(d))
        self.assertIn(run("e2fsck", "-fy", str(image), check=False).returncode, (0, 1))
        run(*mount)
        self.i.start_endpoint()
        self.i.wait_online()
        # The disk knows less than the portal has: no number is given twice.
        pids += self.exits(20)
        self.assert_once(pids)
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
