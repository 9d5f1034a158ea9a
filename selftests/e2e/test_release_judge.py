# SPDX-License-Identifier: Apache-2.0
"""Releases that fail slowly, late, or are the watchdog's own."""

import os
import signal

from harness import BIN, alive, main, wait_for
from releasetest import ReleaseTest


class Judged(ReleaseTest):
    """What takes some seconds to be seen."""

    config_extra = ReleaseTest.config_extra.replace("probation_s: 2", "probation_s: 30")

    def gives_up(self, mode, reason, **kw):
        self.start()
        self.stage(self.bundle("1.1.0", mode))
        r = self.wait_rollback(reason, "1.1.0", **kw)
        self.wait_version("test-1")
        return r

    def test_candidate_that_takes_all_memory(self):
        config = self.i.path("config.yml")
        config.write_text(config.read_text().replace("  agent:\n", "  agent:\n    memory_max_bytes: 96MiB\n", 1))
        self.gives_up("fat", "limit")

    def test_candidate_that_sees_no_events(self):
        self.start()
        if self.kernel_off_hint():
            self.skipTest("canaries are judged by the kernel programs' events")
        self.stage(self.bundle("1.1.0", "blind"))
        self.wait_rollback("canary_lost", "1.1.0")
        self.wait_version("test-1")

    def test_candidate_without_the_portal_that_the_old_one_had(self):
        config = self.i.path("config.yml")
        config.write_text(config.read_text().replace("probation_s: 30", "probation_s: 2\n  portal_s: 10"))
        self.start()
        self.stage(self.bundle("1.1.0", "offline"))
        self.wait_version("1.1.0")
        r = self.wait_rollback("portal_lost", "1.1.0")
        self.assertEqual(r["bad"], [])  # the portal itself may have been down: it may be offered again
        self.wait_version("test-1")

    def test_candidate_that_ignores_sigterm_goes_all_the_same(self):
        self.start()
        self.stage(self.bundle("1.1.0", "deaf"))
        a = self.wait_version("1.1.0")
        self.i.cli("release", "rollback")
        self.wait_version("test-1", deadline_s=40)
        self.assertFalse(alive(a["pid"]))

    def test_reboot_of_the_watchdog_in_a_trial_goes_on_with_it(self):
        self.start()
        self.stage(self.bundle("1.1.0"))
        a = self.wait_version("1.1.0")
        self.assertEqual(self.release()["tries_left"], 2)
        old = self.watchdog_pid()
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: self.watchdog_pid() not in (0, old), 20, "the next watchdog")
        self.assertEqual(self.agent()["pid"], a["pid"])
        r = self.release()
        self.assertEqual((r["phase"], r["tries_left"], r["runs"]), ("trial", 2, "1.1.0"))


class AfterCommit(ReleaseTest):
    config_extra = ReleaseTest.config_extra.replace("probation_s: 2", "probation_s: 1")

    def test_version_that_crashes_after_its_commit_is_rolled_back_late(self):
        self.start()
        self.stage(self.bundle("1.1.0", "later 2"))
        self.wait_phase("committed")
        self.wait_rollback("crashes", "1.1.0", deadline_s=60)
        self.wait_version("test-1")


class Watchdog(ReleaseTest):
    """The watchdog's own update: judged by holdfast-launch."""

    def watchdog_exe(self):
        return os.readlink(f"/proc/{self.watchdog_pid()}/exe")

    def test_watchdog_is_replaced_while_the_agent_goes_on(self):
        a = self.start()
        old = self.watchdog_pid()
        program = (BIN / "holdfast-watchdog").read_bytes() + b"\nanother build\n"
        self.stage(self.signer.bundle("1.1.0", program, component="watchdog"))
        self.wait_phase("committed", component="watchdog")
        wait_for(lambda: self.release("watchdog")["active"]["version"] == "1.1.0", 30, "the watchdog's release to be committed")
        self.assertIn("/releases/watchdog/1.1.0-", self.watchdog_exe())
        self.assertNotEqual(self.watchdog_pid(), old)
        self.assertEqual(self.agent()["pid"], a["pid"])
        self.i.cli("release", "rollback", "watchdog")
        wait_for(lambda: "/releases/watchdog/0.1.0-" in self.watchdog_exe(), 20, "the watchdog before")
        self.assertEqual(self.agent()["pid"], a["pid"])

    def test_watchdog_that_does_not_work_is_started_three_times_and_goes(self):
        a = self.start()
        self.stage(self.signer.bundle("1.1.0", self.program("crash", "1.1.0"), component="watchdog"))
        self.wait_log("launch", "Rollback of 'watchdog' from 1.1.0 to 0.1.0: tries_used_up", 30)
        r = self.wait_phase("rolled_back", component="watchdog")
        self.assertEqual(r["active"]["version"], "0.1.0")
        self.assertEqual(self.agent()["pid"], a["pid"])

    def test_damaged_watchdog_gives_way_to_the_package(self):
        self.start()
        self.i.stop_endpoint()
        self.start()
        exe = self.watchdog_exe()
        self.assertIn("/releases/watchdog/0.1.0-", exe)
        self.i.stop_endpoint()
        os.chmod(exe, 0o755)
        with open(exe, "r+b") as f:
            f.seek(1000)
            f.write(b"?")
        os.chmod(exe, 0o555)
        self.start()
        self.assertEqual(self.watchdog_exe(), str(self.i.bin / "holdfast-watchdog"))


if __name__ == "__main__":
    main()
