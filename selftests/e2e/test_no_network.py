# SPDX-License-Identifier: Apache-2.0
"""The watchdog never opens a network socket: every socket() of its life is seen, not only those that
are open when somebody looks. (That its sources cannot is the boundary check's.)"""

import os
import re
import shutil
import signal

from harness import InstanceTest, main, wait_for

CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(socket|socketpair|execveat|execve|clone3?|v?fork)\b(.*)")
FAMILY = re.compile(r"\((AF_\w+|0x[0-9a-f]+)")


class Trace:
    """What a file of strace says: socket families by the program that a process was at the time."""

    def __init__(self, path):
        self.families, self.programs = {}, set()
        parent, program = {}, {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            m = CALL.match(line)
            if not m:
                continue
            pid, call, rest = int(m[1]), m[2], m[3]
            if call.startswith(("clone", "fork", "vfork")):
                child = re.search(r"= (\d+)$", rest)
                if child:
                    parent[int(child[1])] = pid
            elif call.startswith("exec") and rest.endswith("= 0"):
                if "resumed" not in line:
                    name = re.search(r'\["([^"]+)"', rest)
                    program[pid] = name[1] if name else "?"
                    self.programs.add(program[pid])
            elif call.startswith("exec"):
                name = re.search(r'\["([^"]+)"', rest)  # unfinished: its line with the result follows
                if name:
                    program[pid] = name[1]
                    self.programs.add(name[1])
            elif call.startswith("socket"):
                family = FAMILY.search(rest)
                if family:
                    self.families.setdefault(self._program(pid, program, parent), set()).add(family[1])

    @staticmethod
    def _program(pid, program, parent):
        # Before its exec a child still is what its parent is.
        while pid not in program and pid in parent:
            pid = parent[pid]
        return program.get(pid, "holdfast-launch")


class NoNetwork(InstanceTest):
    def test_neither_launch_nor_watchdog_makes_one_in_all_its_life(self):
        strace = shutil.which("strace")
        self.assertTrue(strace, "strace is missing: it is in packaging/deps.txt")
        self.start_portal()
        bin_dir = self.i.dir.parent / "bin"
        bin_dir.mkdir()
        for name in ("holdfast-launch", "holdfast-watchdog", "holdfast-agent", "holdfast"):
            shutil.copy2(self.i.bin / name, bin_dir / name)
        os.symlink(strace, bin_dir / "strace")
        self.i.bin = bin_dir
        log = self.i.dir.parent / "trace"
        # -D: launch stays our child, and what we know as its pid.
        self.i._spawn("launch", "strace", ["-D", "-f", "-qq", "-s", "256", "-o", str(log), "-e", "trace=socket,socketpair,%process",
                                           str(bin_dir / "holdfast-launch"), "--dir", "."])
        wait_for(lambda: self.i.agent().get("state") == "unenrolled", 60, "watchdog and agent to answer")
        self.i.enroll(deadline_s=60)
        first = self.i.wait_online(60)

        # Everything that it does in a life: restart, reload, requests, the end of a component, its own end and heir.
        os.kill(first["pid"], signal.SIGKILL)
        wait_for(lambda: self.i.component()["restarts"] > 0 and self.i.agent().get("state") == "online", 60, "the agent to be restarted")
        os.kill(self.i.pid_of("launch"), signal.SIGHUP)
        self.i.cli("component", "restart", "agent")
        wait_for(lambda: self.i.component()["restarts"] > 1 and self.i.agent().get("state") == "online", 60, "the agent to be restarted by request")
        watchdog = self.i.watchdog()["pid"]
        os.kill(watchdog, signal.SIGKILL)
        wait_for(lambda: self.i.watchdog().get("pid") not in (None, watchdog), 60, "the next watchdog")
        self.i.stop_endpoint(deadline_s=60)

        t = Trace(log)
        self.assertTrue({"holdfast-launch", "holdfast-watchdog", "holdfast-agent"} <= {os.path.basename(p) for p in t.programs}, t.programs)
        seen = {os.path.basename(p): f for p, f in t.families.items()}
        # The trace sees network sockets where there are some.
        self.assertTrue({"AF_INET", "AF_NETLINK"} <= seen["holdfast-agent"], seen)
        self.assertLessEqual(seen["holdfast-watchdog"], {"AF_UNIX", "AF_NETLINK"}, seen)
        self.assertIn("AF_UNIX", seen["holdfast-watchdog"])
        self.assertLessEqual(seen.get("holdfast-launch", set()), {"AF_UNIX"}, seen)


if __name__ == "__main__":
    main()
