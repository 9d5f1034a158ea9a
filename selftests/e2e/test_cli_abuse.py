# SPDX-License-Identifier: Apache-2.0
"""What others can do to the local bus and to the terminal of who reads it; where an instance is found."""

import contextlib
import ctypes
import json
import os
import pathlib
import socket
import subprocess

from harness import BIN, InstanceTest, main, wait_for

PR_SET_NAME = 15
# Nothing, a part of nng's greeting, none at all, a whole one, one and a message that never ends.
GREETINGS = (b"", b"\0S", b"garbage!", b"\0SP\0\0\x30\0\0", b"\0SP\0\0\x30\0\0\1" + b"\xff" * 8)


class Abuse(InstanceTest):
    @contextlib.contextmanager
    def inside(self):
        """Socket paths are relative to the instance: a long one does not fit sun_path."""
        cwd = os.open(".", os.O_RDONLY)
        os.chdir(self.i.dir)
        try:
            yield
        finally:
            os.fchdir(cwd)
            os.close(cwd)

    def test_callers_that_hang_up_early_do_not_close_the_bus(self):
        self.start_online()
        with self.inside():
            for name in ("agent", "watchdog", "events"):
                for n in range(60):
                    with socket.socket(socket.AF_UNIX) as s:
                        s.connect(f"run/{name}.sock")
                        with contextlib.suppress(OSError):
                            s.sendall(GREETINGS[n % len(GREETINGS)])
        self.assertEqual(self.i.cli("status").returncode, 0)

    def test_callers_that_say_nothing_keep_nobody_out(self):
        self.start_online()
        with contextlib.ExitStack() as stack, self.inside():
            for name in ("agent", "watchdog"):
                for _ in range(40):
                    stack.enter_context(socket.socket(socket.AF_UNIX)).connect(f"run/{name}.sock")
            self.assertEqual(self.i.cli("status").returncode, 0)

    def test_name_of_a_process_cannot_move_the_cursor(self):
        self.start_online()
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(PR_SET_NAME, b"a\x1b[2J\xff\x9b", 0, 0, 0)
            os._exit(9)
        os.waitpid(pid, 0)
        wait_for(lambda: self.i.events("--pid", str(pid), "--kind", "proc.exit"), 10, "the exit")
        for argv in (["events", "--pid", str(pid)], ["events", "--pid", str(pid), "--json"]):
            r = subprocess.run([str(BIN / "holdfast"), "--dir", str(self.i.dir), *argv], capture_output=True, timeout=20, check=True)
            self.assertNotRegex(r.stdout, rb"[\x00-\x09\x0b-\x1f\x7f-\xff]")
            self.assertIn(b"[2J", r.stdout)

    def test_instance_is_found_by_environment_and_by_a_long_path(self):
        self.start_online()
        deep = pathlib.Path(self.tmp, *["d" * 60] * 3)
        deep.mkdir(parents=True)
        (deep / "i").symlink_to(self.i.dir)
        self.assertGreater(len(str(deep / "i")), 108)
        for argv, env in (([], {"HOLDFAST_DIR": str(self.i.dir)}), (["--dir", str(deep / "i")], {"HOLDFAST_DIR": "/nonexistent"})):
            r = subprocess.run([str(BIN / "holdfast"), *argv, "status", "--json"], capture_output=True, text=True, timeout=20, check=False,
                               env={**os.environ, **env})
            self.assertEqual((r.returncode, json.loads(r.stdout)["agent"]["state"]), (0, "online"))


if __name__ == "__main__":
    main()
