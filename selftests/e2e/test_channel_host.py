# SPDX-License-Identifier: Apache-2.0
"""Sleep, shutdown, stop and restart are told to the portal with their reason before they happen."""

import ctypes
import os
import pathlib
import re
import signal
import subprocess

from harness import BIN, InstanceTest, main, wait_for

FAKE = BIN.parent / "test" / "fakelogind"
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 16384, 1 << 18
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy></busconfig>
"""


def own_run():
    """A /run that only this process and what it starts see: a system bus may be put there."""
    libc = ctypes.CDLL(None, use_errno=True)
    for r in (libc.unshare(CLONE_NEWNS), libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), libc.mount(b"none", b"/run", b"tmpfs", 0, b"mode=755")):
        if r != 0:
            raise OSError(ctypes.get_errno(), "own /run")


class Logind:
    """A bus and a logind on it, by lines."""

    def __init__(self, test):
        os.makedirs("/run/dbus", exist_ok=True)
        conf = pathlib.Path(test.tmp, "bus.conf")
        conf.write_text(BUS)
        with open(pathlib.Path(test.tmp, "bus.log"), "wb") as f:
            self.bus = subprocess.Popen(["dbus-daemon", "--nofork", f"--config-file={conf}"], stderr=f)
        test.addCleanup(self.end, self.bus)
        wait_for(lambda: os.path.exists("/run/dbus/system_bus_socket"), 10, "the bus")
        self.out = pathlib.Path(test.tmp, "logind.out")
        with open(self.out, "wb") as f:
            self.logind = subprocess.Popen([str(FAKE)], stdin=subprocess.PIPE, stdout=f, text=True)
        test.addCleanup(self.end, self.logind)
        wait_for(lambda: "ready" in self.said(), 10, "logind")

    @staticmethod
    def end(p):
        if p.stdin:
            p.stdin.close()
        p.terminate()
        p.wait(10)

    def said(self):
        return self.out.read_text().splitlines()

    def say(self, line):
        self.logind.stdin.write(line + "\n")
        self.logind.stdin.flush()

    def wait(self, line, n=1):
        wait_for(lambda: self.said().count(line) >= n, 45, f"'{line}' from the agent")


class HostStates(InstanceTest):
    def setUp(self):
        super().setUp()
        self.assertTrue(FAKE.exists(), f"{FAKE} is not built; run make e2e")
        self.addCleanup(self.no_bus)

    def prepare(self):
        super().prepare()
        # A bus daemon turns users away that it cannot look up.
        c = self.i.path("config.yml")
        c.write_text(re.sub(r'user: "\d+"', 'user: "nobody"', c.read_text()))

    @staticmethod
    def no_bus():
        if os.path.exists("/run/dbus/system_bus_socket"):
            os.unlink("/run/dbus/system_bus_socket")

    def status_is(self, *want):
        return wait_for(lambda: next((e for e in [self.i.endpoint()] if (e["status"], e["reason"]) in want or e["reason"] in want), None), 15, f"status {want}")

    def test_sleep_is_announced_and_ended(self):
        logind = Logind(self)
        before = self.start_online()
        logind.wait("inhibit sleep:shutdown delay")
        logind.say("sleep 1")
        self.status_is("host_suspend")
        # Only then the host may sleep.
        logind.wait("released")
        self.i.wait_state("held")
        logind.say("sleep 0")
        after = self.i.wait_online()
        self.assertGreater(after["session"]["epoch"], before["session"]["epoch"])
        self.assertEqual(self.i.local_outages()[-1]["cause"], "host_suspend")
        logind.wait("inhibit sleep:shutdown delay", 2)

    def test_shutdown_is_announced_before_the_agent_is_stopped_and_may_be_called_off(self):
        logind = Logind(self)
        self.start_online()
        logind.wait("inhibit sleep:shutdown delay")
        logind.say("shutdown 1")
        self.status_is("host_shutdown")
        logind.wait("released")
        logind.say("shutdown 0")
        self.i.wait_online()
        logind.wait("inhibit sleep:shutdown delay", 2)
        logind.say("shutdown 1")
        self.status_is("host_shutdown")
        self.i.stop_endpoint()
        self.assertEqual(self.i.endpoint()["reason"], "host_shutdown")

    def test_bus_that_comes_later_or_goes_away_is_survived(self):
        self.start_online()
        pid = self.i.agent()["pid"]
        logind = Logind(self)
        logind.wait("inhibit sleep:shutdown delay")
        logind.bus.kill()
        logind.bus.wait(10)
        self.assertEqual(self.i.wait_online()["pid"], pid)

    def test_stop_and_kill_are_told_apart(self):
        self.start_online()
        pid = self.i.agent()["pid"]
        self.i.stop_endpoint()
        self.status_is("agent_stopped")
        self.i.start_endpoint()
        pid = self.i.wait_online()["pid"]
        self.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.i.agent().get("pid") not in (None, pid), 20, "a new agent")
        self.i.wait_online()
        self.assertEqual(self.i.local_outages()[-1]["cause"], "agent_killed")


if __name__ == "__main__":
    if os.geteuid() == 0:
        own_run()
    main()
