# SPDX-License-Identifier: Apache-2.0
"""Releases: staged, tried, kept or rolled back; and everything that must be refused."""

import json
import os
import signal

from harness import main, wait_for
from releasetest import ReleaseTest


class Trial(ReleaseTest):
    def test_good_release_is_tried_committed_and_survives_restarts(self):
        self.start()
        first = self.release()
        self.assertEqual((first["phase"], first["active"]["version"]), ("committed", "0.1.0"))
        code, out, _ = self.stage(self.bundle("1.1.0"), "--wait")
        r = next(x for x in out["items"] if x["component"] == "agent")
        self.assertEqual((code, r["phase"], r["active"]["version"], r["previous"]["version"]), (0, "committed", "1.1.0", "0.1.0"))
        a = self.wait_version("1.1.0")
        self.assertIn(f"/releases/agent/1.1.0-{r['active']['hash'][:12]}/bin/holdfast-agent", os.readlink(f"/proc/{a['pid']}/exe"))
        self.wait_log("launch", "is committed: healthy for")
        self.kill(a["pid"])
        self.wait_agent(lambda b: b["state"] == "running" and b["pid"] != a["pid"] and b["version"] == "1.1.0", "the same version again")
        self.i.stop_endpoint()
        self.start()
        self.wait_version("1.1.0")

    def gives_up(self, mode, reason, extra=(), **kw):
        """A candidate in this mode is rolled back for this reason; the version before is healthy."""
        a = self.start()
        self.stage(self.bundle("1.1.0", mode, *extra))
        r = self.wait_rollback(reason, "1.1.0", **kw)
        b = self.wait_version("test-1")
        self.assertNotEqual(a["pid"], b["pid"] if reason != "preflight" else 0)
        self.assertIsNone(r["candidate"])
        self.assertEqual(r["active"]["version"], "0.1.0")
        self.assertEqual(len(r["bad"]), 1)
        return r["last_rollback"]["text"]

    def test_crash_at_once(self):
        self.assertIn("SIGABRT", self.gives_up("crash", "crashes"))

    def test_crash_after_ready(self):
        self.assertIn("SIGABRT", self.gives_up("crash-ready", "crashes"))

    def test_permanent_failure_needs_no_second_try(self):
        self.assertIn("code 100", self.gives_up("exit 100", "crashes"))

    def test_hang_after_ready(self):
        self.gives_up("sleep", "hangs")

    def test_program_that_cannot_be_loaded_never_runs(self):
        text = self.gives_up("preflight", "preflight")
        self.assertIn("code 127: libmissing.so", text)
        self.assertEqual(self.agent()["restarts"], 0)

    def test_children_left_behind_do_not_outlive_the_rollback(self):
        self.gives_up("litter", "crashes")
        a = self.agent()
        mine = {self.i.pid_of("launch"), self.watchdog_pid(), a["pid"]}
        wait_for(lambda: set(self.processes()) == mine, 10, "only launch, watchdog and component to be left")

    def test_operator_kills_are_not_the_versions_fault(self):
        self.start()
        if self.kernel_off_hint():
            self.skipTest("without the kernel programs nobody knows who sent a signal")
        self.stage(self.bundle("1.1.0"))
        for _ in range(5):
            a = self.wait_version("1.1.0")
            os.kill(a["pid"], signal.SIGKILL)
            self.wait_agent(lambda b, pid=a["pid"]: b["pid"] not in (0, pid), "the next process")
        r = self.wait_phase("committed", deadline_s=60)
        self.assertEqual((r["active"]["version"], r["bad"]), ("1.1.0", []))

    def test_rollback_by_hand_goes_back_and_stays_there(self):
        self.start()
        self.stage(self.bundle("1.1.0"), "--wait")
        out = json.loads(self.i.cli("release", "rollback", "--json").stdout)
        r = next(x for x in out["items"] if x["component"] == "agent")
        self.assertEqual((r["phase"], r["active"]["version"], r["last_rollback"]["reason"]), ("rolled_back", "0.1.0", "asked"))
        self.wait_version("test-1")
        self.wait_log("launch", "Rollback of 'agent' from 1.1.0 to 0.1.0: asked")
        self.i.cli("component", "rollback", "agent")  # to where it came from: the other one
        self.wait_version("1.1.0")


class NotReady(ReleaseTest):
    config_extra = ReleaseTest.config_extra + "  stretch_ms: 5000\n"

    def test_candidate_that_never_is_ready(self):
        config = self.i.path("config.yml")
        config.write_text(config.read_text().replace("settle_s: 0", "settle_s: 0\n  ready_s: 1"))
        self.start()
        self.stage(self.bundle("1.1.0", "unready"))
        self.wait_rollback("not_ready", "1.1.0")
        self.wait_version("test-1")

if __name__ == "__main__":
    main()
