# SPDX-License-Identifier: Apache-2.0
"""holdfast events for people: what joins is told, what is asked for is shown, and nothing else."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

from harness import BIN, InstanceTest, main, skip, wait_for
from test_top import Terminal

SERVER = """
import socket, time
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
c.recv(1)
print("read", flush=True)
time.sleep(60)
"""


def cgroup2():
    """Where version 2 is mounted, or None."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2" and line.split()[1].startswith("/sys/"):
            return pathlib.Path(line.split()[1])
    return None


class Events(InstanceTest):
    def start(self):
        self.prepare()
        self.i.start_endpoint()
        wait_for(lambda: self.i.agent()["kernel_assist"] == "ebpf", 10, "the kernel's programs")

    def marker(self, code, **kw):
        p = subprocess.Popen(["/bin/sh", "-c", f"exit {code}"], **kw)
        p.wait(10)
        wait_for(lambda: [e for e in self.i.events("--kind", "proc.exit") if e["pid"] == p.pid], 10, "the marker")
        return p.pid

    def test_reset_by_a_killed_owner_says_who_killed_it(self):
        self.start()
        p = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.stdout.close)
        port = int(p.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as c:
            c.sendall(b"x")  # read, so that it is known who uses the socket
            p.stdout.readline()
            c.sendall(b"unread" * 100)
            p.kill()
            p.wait(10)
        event = wait_for(lambda: next((e for e in self.i.events("--kind", "conn.reset_sent") if e["pid"] == p.pid), None), 10, "the reset")
        self.assertIn("SIGKILL", event["because"])
        self.assertIn(f"pid {os.getpid()}", event["because"])
        text = self.i.cli("events", "--kind", "conn.reset_sent", "--pid", str(p.pid)).stdout
        self.assertEqual(len(text.splitlines()), 1, text)
        self.assertRegex(text, rf"conn\.reset_sent +\S+\[{p.pid}\] +127\.0\.0\.1:{port} ← 127\.0\.0\.1:\d+ .*, because pid {p.pid} .*SIGKILL.* before")

    def test_unit_and_since_choose(self):
        self.start()
        root = cgroup2()
        group = root and root / f"hf-events-{os.getpid()}.service"
        try:
            group.mkdir()
        except (OSError, AttributeError):
            skip("no cgroup v2 hierarchy to make a cgroup in")
        self.addCleanup(group.rmdir)
        inside = self.marker(4, preexec_fn=lambda: (group / "cgroup.procs").write_text("0"))
        outside = self.marker(5)
        self.assertEqual({e["pid"] for e in self.i.events("--unit", group.name)}, {inside})
        self.assertEqual(next(e["unit"] for e in self.i.events("--pid", str(inside))), group.name)
        moment = next(e["time"] for e in self.i.events("--pid", str(outside)))
        since = {e["pid"] for e in self.i.events("--kind", "proc.exit", "--since", moment)}
        self.assertIn(outside, since)
        self.assertNotIn(inside, since)
        self.assertIn(inside, {e["pid"] for e in self.i.events("--since", "5m")})
        text = self.i.cli("events", "--unit", group.name).stdout
        self.assertTrue(text.rstrip().endswith(group.name), text)

    def test_follow_on_a_terminal_is_a_line_an_event_in_colour_unless_refused(self):
        self.start()
        lines = {}
        for colour in ("", "1"):
            t = Terminal(["env", f"NO_COLOR={colour}", str(BIN / "holdfast"), "--dir", str(self.i.dir), "events", "--follow", "--kind", "proc.exit"],
                         columns=400)
            self.addCleanup(t.close)
            pid = None

            def seen(t=t):
                nonlocal pid
                pid = self.marker(9)
                return f"[{pid}]" in t.text()

            wait_for(seen, 20, "the stream to be open")
            line = next(x for x in t.text().splitlines() if f"[{pid}]" in x)
            self.assertIn("exited with status 9", line)
            lines[colour] = line
            t.p.send_signal(signal.SIGINT)
            self.assertEqual(t.p.wait(10), 0)
        self.assertIn("\x1b[33mproc.exit\x1b[0m", lines[""])
        self.assertNotIn("\x1b", lines["1"])

    def test_reader_that_goes_away_ends_it_without_a_word(self):
        self.start()
        p = subprocess.Popen([str(BIN / "holdfast"), "--dir", str(self.i.dir), "events", "--follow", "--json"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        self.addCleanup(p.stderr.close)
        self.marker(6)
        p.stdout.readline()
        p.stdout.close()
        wait_for(lambda: self.marker(6) and p.poll() is not None, 20, "its end")
        self.assertEqual((p.returncode, p.stderr.read()), (-signal.SIGPIPE, ""))


if __name__ == "__main__":
    main()
