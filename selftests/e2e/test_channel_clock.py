# SPDX-License-Identifier: Apache-2.0
"""The channel while clocks jump: sleep, steps of hours and years, 1970. The clocks are the agent's own."""

import os
import shutil
import struct
import time

from harness import BIN, main, wait_for
from twonets import TwoNetsTest

AGENT = BIN.parent / "test" / "holdfast-agent"
HOUR, YEAR = 3600, 365 * 86400


class ClockTest(TwoNetsTest):
    portal_extra = "heartbeat_s: 5\n"

    def setUp(self):
        super().setUp()
        self.assertTrue(AGENT.exists(), f"{AGENT} is not built; run make e2e")
        bindir = self.i.dir.parent / "bin"
        bindir.mkdir()
        for name in ("holdfast-launch", "holdfast-watchdog", "holdfast", "holdfast-portal"):
            shutil.copy2(BIN / name, bindir / name)
        shutil.copy2(AGENT, bindir / "holdfast-agent")
        self.i.bin = bindir
        self.clock = os.path.join(self.tmp, "clock")
        self.real, self.boot = 0, 0
        self._write()
        os.mkfifo(self.clock + ".set")
        os.chmod(self.clock + ".set", 0o666)
        # Kept open, so that what is said before the agent listens is not lost.
        self.fifo = os.open(self.clock + ".set", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.addCleanup(os.close, self.fifo)
        os.environ["HOLDFAST_TEST_CLOCK"] = self.clock
        self.addCleanup(os.environ.pop, "HOLDFAST_TEST_CLOCK")

    def _write(self):
        # In place: the agent has the file mapped.
        fd = os.open(self.clock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.pwrite(fd, struct.pack("qq", self.real, self.boot), 0)
        os.close(fd)

    def move(self, real_s=0, boot_s=0):
        self.real += int(real_s * 1e9)
        self.boot += int(boot_s * 1e9)
        self._write()
        os.write(self.fifo, b"12345678")

    def to_1970(self):
        self.move(1000 - time.time() - self.real / 1e9)

    def reset_connection(self):
        self.i.api("POST", f"/endpoints/{self.i.endpoint()['id']}/disconnect", {"mode": "reset"})

    def offset_is(self, seconds):
        wait_for(lambda: abs(self.i.agent()["session"]["clock_offset_ms"] - seconds * 1000) < 60000, 15, f"a clock offset of {seconds} s")


class Suspend(ClockTest):
    def test_sleep_that_the_connection_survived_costs_nothing(self):
        before = self.start_online()
        # The cable's coming up has kicked the channel; the next kick is two seconds later.
        wait_for(lambda: self.i.agent()["uptime_s"] > 3, 10, "kicks to be allowed again")
        self.move(0, 600)
        self.wait_log("launch", "this host slept for", 5)
        self.wait_log("launch", "suspect → online", 10)
        after = self.i.wait_online()
        self.assertEqual((after["session"]["epoch"], after["pid"]), (before["session"]["epoch"], before["pid"]))
        self.assertEqual(self.i.local_outages(), [])

    def test_sleep_that_the_connection_did_not_survive_is_named(self):
        self.start_online()
        wait_for(lambda: self.i.agent()["uptime_s"] > 3, 10, "kicks to be allowed again")
        known = self.known_outages()
        self.drop_far("meta l4proto tcp PORTS 4320")
        self.move(0, 7200)
        o = self.begun(known, 10)
        self.assertEqual((o["cause"], o["detected_by"]), ("host_suspend", "clock"), o)
        self.assertRegex(o["detail"], "suspended for (2 h|1 h 59)")
        self.heal()
        self.over(o, 70)
        self.i.wait_online()


class Steps(ClockTest):
    def test_steps_of_hours_and_years_and_to_1970_leave_the_session_alone_and_are_reported(self):
        before = self.start_online()
        total = 0
        for step in (-3 * HOUR, 5 * YEAR):
            total += step
            self.move(step)
            self.offset_is(-total)
        self.to_1970()
        self.offset_is(time.time() - 1000)
        after = self.i.wait_online()
        self.assertEqual((after["session"]["epoch"], after["pid"]), (before["session"]["epoch"], before["pid"]))
        self.assertEqual(self.i.local_outages(), [])

    def test_lost_connection_comes_back_whatever_the_clock_says(self):
        epoch = self.start_online()["session"]["epoch"]
        for move in (lambda: self.move(-6 * HOUR), lambda: self.move(5 * YEAR), self.to_1970):
            move()
            known = self.known_outages()
            self.reset_connection()
            o = self.over(self.begun(known, 10), 20)
            self.assertEqual(o["cause"], "peer_reset", o)
            self.assertLess(o["outage_ms"], 10000, o)
            self.assertEqual(len(o["attempts"]), 1, o)
            now = self.i.wait_online()["session"]["epoch"]
            self.assertGreater(now, epoch)
            epoch = now
        # The portal knows how far off this host is.
        self.assertLess(self.i.endpoint()["clock_offset_ms"], -86400_000)

    def test_agent_restarted_in_1970_remembers_what_time_it_was(self):
        before = self.start_online()
        self.to_1970()
        self.kill(before["pid"])
        wait_for(lambda: self.i.agent().get("pid") not in (None, before["pid"]), 20, "a new agent")
        self.i.wait_online(30)


class Unknown(ClockTest):
    def test_first_contact_in_1970_is_clock_bad_until_the_clock_is_set(self):
        self.to_1970()
        self.start_portal()
        self.i.start_endpoint()
        token = self.i.create_token()["token"]
        r = self.i.cli("enroll", "--portal", f"wss://{self.i.host}:{self.i.port}/v1/opamp", "--token", "-", input_text=token + "\n", check=False, timeout_s=40)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("clock_skew", r.stderr)
        self.i.wait_state("clock_bad")
        self.move(-self.real / 1e9)
        self.i.wait_online(30)


if __name__ == "__main__":
    main()
