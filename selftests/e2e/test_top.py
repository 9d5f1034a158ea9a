# SPDX-License-Identifier: Apache-2.0
"""holdfast top: counted by the agent, shown live on a terminal, as text and as JSON elsewhere."""

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time

from harness import BIN, InstanceTest, main, wait_for


class Terminal:
    """A program on a terminal of its own; text() is all it wrote so far."""

    def __init__(self, argv, rows=30, columns=120):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.p = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                  env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"})
        self.raw = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def text(self):
        while select.select([self.master], [], [], 0)[0]:
            try:
                more = os.read(self.master, 65536)
            except OSError:
                break
            if not more:
                break
            self.raw += more
        return self.raw.decode(errors="replace")

    def screen(self):
        """The last whole picture."""
        parts = self.text().split("\x1b[H")
        return parts[-1] if "\x1b[J" in parts[-1] else parts[-2] if len(parts) > 1 else ""

    def type(self, keys):
        os.write(self.master, keys)

    def close(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait(10)
        os.close(self.master)
        os.close(self.slave)


class Top(InstanceTest):
    def start(self):
        self.prepare()
        self.i.start_endpoint()
        wait_for(lambda: self.i.agent()["kernel_assist"] == "ebpf", 10, "the kernel's programs")

    def refused(self, n):
        """That many failed connects of this process."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            free = s.getsockname()[1]
        for _ in range(n):
            with socket.socket() as s:
                s.connect_ex(("127.0.0.1", free))
        return free

    def snapshot(self, *args):
        return json.loads(self.i.cli("top", "--json", *args).stdout)

    def mine(self, snapshot):
        return next((r for r in snapshot["process"]["rows"] if r["pid"] == os.getpid()), None)

    def test_counts_are_those_of_what_happened_by_process_and_peer(self):
        self.start()
        port = self.refused(7)
        wait_for(lambda: (self.mine(self.snapshot()) or {}).get("failed") == 7, 10, "seven failed connects")
        s = self.snapshot()
        peer = next(r for r in s["peer"]["rows"] if r["name"] == f"127.0.0.1:{port}")
        self.assertEqual(peer["failed"], 7)
        for table in ("process", "unit", "peer"):
            for column, total in s["totals"].items():
                if column == "closed":
                    continue
                self.assertEqual(sum(r[column] for r in s[table]["rows"]) + s[table]["other"][column], total, (table, column))
        text = self.i.cli("top", "--by", "peer", "--sort", "failed").stdout
        self.assertRegex(text, r"^\d\d:\d\d:\d\d  by peer, most failed first, since the agent started ")
        self.assertRegex(text, rf"(?m)^127\.0\.0\.1:{port} +0 +0 +7 ")
        self.assertEqual(self.snapshot("--limit", "1")["process"]["rows"][1:], [])

    def test_snapshots_in_a_row_show_each_interval(self):
        self.start()
        p = subprocess.Popen([str(BIN / "holdfast"), "--dir", str(self.i.dir), "top", "--json", "--interval", "0.5", "--count", "8"],
                             stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.stdout.close)
        first = json.loads(p.stdout.readline())
        self.assertIsNone(self.mine(first))
        self.refused(5)
        rest = [json.loads(line) for line in p.stdout]
        self.assertEqual(p.wait(10), 0)
        self.assertEqual(len(rest), 7)
        self.assertEqual(sum((self.mine(s) or {"failed": 0})["failed"] for s in rest), 5)
        for s in rest:
            self.assertLess(s["window_ms"], 60000)

    def test_on_a_terminal_it_is_live_sorts_resizes_and_leaves_it_as_it_was(self):
        self.start()
        t = Terminal([str(BIN / "holdfast"), "--dir", str(self.i.dir), "top", "--interval", "0.2"])
        self.addCleanup(t.close)
        wait_for(lambda: "q quit" in t.screen(), 10, "the first picture")
        self.assertIn("\x1b[?1049h", t.text())
        port = self.refused(3)
        wait_for(lambda: f"[{os.getpid()}]" in t.screen(), 10, "our row")
        t.type(b"e")
        wait_for(lambda: f"127.0.0.1:{port}" in t.screen() and "by peer" in t.screen(), 10, "the peers")
        t.type(b"s")
        wait_for(lambda: "most resets_received first" in t.screen(), 10, "another order")
        t.type(b"w")
        wait_for(lambda: ", last " in t.screen().splitlines()[0], 10, "another window")
        self.assertIn("PACKETS", t.screen())
        t.resize(10, 60)
        wait_for(lambda: "PACKETS" not in t.screen() and "\x1b[10;1H" in t.screen(), 10, "the smaller picture")
        pid = self.i.agent()["pid"]
        self.kill(pid)
        wait_for(lambda: self.i.agent().get("pid") not in (None, pid), 10, "a new agent")
        self.refused(1)
        t.type(b"w")
        wait_for(lambda: f"127.0.0.1:{port}" not in t.screen() and "127.0.0.1:" in t.screen(), 10, "what the new agent counts")
        t.type(b"q")
        self.assertEqual(t.p.wait(10), 0)
        self.assertTrue(t.text().endswith("\x1b[?25h\x1b[?1049l"), t.text()[-80:])
        self.assertEqual(termios.tcgetattr(t.slave)[3], t.before[3])

    def test_signal_leaves_the_terminal_as_it_was(self):
        self.start()
        for sig in (signal.SIGINT, signal.SIGTERM):
            t = Terminal([str(BIN / "holdfast"), "--dir", str(self.i.dir), "top"])
            self.addCleanup(t.close)
            wait_for(lambda t=t: "q quit" in t.screen(), 10, "the first picture")
            t.p.send_signal(sig)
            self.assertEqual(t.p.wait(10), 0)
            self.assertTrue(t.text().endswith("\x1b[?25h\x1b[?1049l"))
            self.assertEqual(termios.tcgetattr(t.slave)[3], t.before[3])

    def test_wrong_arguments_are_refused_and_no_agent_is_exit_3(self):
        self.prepare()
        for args in (["--by", "pear"], ["--sort", "x"], ["--window", "2m"], ["--interval", "0"], ["--interval", "nan"], ["--count", "0"], ["x"]):
            r = self.i.cli("top", *args, check=False)
            self.assertEqual((r.returncode, r.stdout), (2, ""), (args, r))
        r = self.i.cli("top", check=False)
        self.assertEqual((r.returncode, r.stdout), (3, ""))
        self.assertIn("is not running", r.stderr)

    def test_reader_that_goes_away_ends_it(self):
        self.start()
        p = subprocess.Popen([str(BIN / "holdfast"), "--dir", str(self.i.dir), "top", "--interval", "0.1"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        self.addCleanup(p.stderr.close)
        p.stdout.readline()
        p.stdout.close()
        begun = time.monotonic()
        self.assertIn(p.wait(10), (1, -signal.SIGPIPE))
        self.assertLess(time.monotonic() - begun, 10)


if __name__ == "__main__":
    main()
