# SPDX-License-Identifier: Apache-2.0
"""What a component cannot do, on a running one: the watchdog took it away before the exec."""

import ctypes
import os
import signal

from harness import InstanceTest, main, wait_for
from watchdogtest import WatchdogTest

SYS_BPF, SYS_SETUID = 321, 105  # of x86-64
PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21
FULL = "system call filter, read-only view"


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def mounts(pid):
    """Mount point → its options, of the tree that a process sees; the topmost one wins."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as f:
        return {fields[4]: fields[5].split(",") for fields in map(str.split, f)}


class Agent(InstanceTest):
    def test_the_agent_has_no_right_and_a_read_only_view(self):
        self.start_online()
        pid = self.i.agent()["pid"]
        s = status(pid)
        self.assertEqual((s["Seccomp"], s["NoNewPrivs"]), ("2", "1"))
        self.assertEqual({s[k] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}, {"0" * 16})
        m = mounts(pid)
        writable = {path for path, options in m.items() if "rw" in options}
        self.assertEqual(writable, {str(self.i.path("state", "agent")), str(self.i.path("run"))})
        self.assertIn("ro", m["/"])
        c = self.i.component()
        self.assertEqual(c["confinement"], FULL)
        self.assertIn(FULL, self.i.cli("component", "show", "agent").stdout)
        self.assertNotIn("runs with no", self.log("launch"))
        # Ours is as it was: the view is its own.
        self.assertIn("rw", mounts(os.getpid())["/"])

    def test_an_adopted_agent_is_seen_to_be_confined(self):
        self.start_online()
        pid, watchdog = self.i.agent()["pid"], self.i.watchdog()["pid"]
        self.kill(watchdog)
        wait_for(lambda: self.i.watchdog().get("pid") not in (None, watchdog), 15, "the next watchdog")
        self.assertEqual(self.i.agent()["pid"], pid)
        self.assertEqual(self.i.component()["confinement"], FULL)


class Component(WatchdogTest):
    def test_it_writes_in_its_own_directories_only(self):
        self.i.path("open").mkdir()
        self.i.path("open").chmod(0o777)
        self.start("write")
        self.wait_log("launch", "write 'state/agent/f': done")
        self.wait_log("launch", "write 'open/f': Read-only file system")

    def test_a_call_that_is_not_for_it_is_refused(self):
        a = self.start(f"call {SYS_SETUID}")
        self.wait_log("launch", "call: Operation not permitted")
        self.assertEqual(self.agent()["pid"], a["pid"])

    def test_a_call_of_an_attacker_ends_it_and_it_is_restarted(self):
        a = self.start(f"call {SYS_BPF}")
        b = self.wait_agent(lambda x: x["restarts"] > a["restarts"] and x["last_exit"], "its end")
        self.assertEqual((b["last_exit"]["cause"], b["last_exit"]["signal"]), ("crashed", signal.SIGSYS))
        self.assertIn("forbidden system call", b["last_exit"]["text"])
        self.assertNotIn("call: ", self.log("launch"))
        self.mode("ok")
        self.wait_state("running")

    def test_a_host_that_refuses_the_view_is_told_and_the_component_runs(self):
        self.mode("ok")
        pid = os.fork()
        if pid == 0:  # what is dropped here, launch and watchdog never have
            try:
                ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)
                self.i._spawn("launch", "holdfast-launch", ["--dir", "."])
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        a = self.wait_state("running")
        self.wait_log("launch", "no read-only view (Operation not permitted)")
        self.assertEqual(a["confinement"], "system call filter, no read-only view (Operation not permitted)")
        self.assertEqual(status(a["pid"])["Seccomp"], "2")


if __name__ == "__main__":
    main()
