# SPDX-License-Identifier: Apache-2.0
"""holdfast(1) from outside: exit codes, one-line errors, paths, the stream, what a terminal is spared."""

import contextlib
import ctypes
import json
import os
import pathlib
import pty
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BIN, InstanceTest, main, wait_for

NOBODY = 65534
PR_SET_NAME = 15


def holdfast(*argv, env=None, **kw):
    return subprocess.run([str(BIN / "holdfast"), *map(str, argv)], capture_output=True, text=True, timeout=20, check=False,
                          env={**os.environ, **(env or {})}, **kw)


class Alone(unittest.TestCase):
    """No daemon is running."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="hf-cli-"))
        self.addCleanup(shutil.rmtree, self.dir, True)

    def assert_one_line(self, r, code, *words):
        self.assertEqual(r.returncode, code, r)
        lines = r.stderr.splitlines()
        self.assertEqual(len(lines), 1, r.stderr)
        self.assertTrue(lines[0].startswith("holdfast: "), lines)
        for w in words:
            self.assertIn(w, lines[0])

    def test_verbs_without_a_daemon_say_what_to_do_and_exit_3(self):
        for argv in (["status"], ["outages"], ["events"], ["events", "--follow"], ["component"], ["component", "restart"], ["config", "show"],
                     ["config", "reload"], ["reset"], ["enroll", "--token", "x"]):
            with self.subTest(argv):
                r = holdfast("--dir", self.dir, *argv, stdin=subprocess.DEVNULL)
                self.assert_one_line(r, 3, "not running", "make run")
                self.assertEqual(r.stdout, "")

    def test_status_in_json_has_both_errors(self):
        r = holdfast("--dir", self.dir, "status", "--json")
        self.assertEqual(r.returncode, 3)
        s = json.loads(r.stdout)
        self.assertEqual(set(s), {"agent", "watchdog", "telemetry"})
        for part in s.values():
            self.assertIn("not running", part["error"])

    def test_installed_instance_is_started_by_systemctl(self):
        if os.path.exists("/run/holdfast/agent.sock"):
            self.skipTest("an installed instance is running")
        self.assert_one_line(holdfast("status", env={"HOLDFAST_DIR": ""}), 3, "systemctl start holdfast")

    def test_usage_errors_exit_2(self):
        for argv in (["--nope"], ["nope"], ["--dir"], ["status", "word"], ["events", "--pid", "x"], ["events", "--since", "yesterday"], ["enroll"],
                     ["component", "explode"], ["config", "eat"], ["enroll", "--token", "two words"], ["enroll", "--token", "x", "--ca", "/nonexistent"]):
            with self.subTest(argv):
                r = holdfast("--dir", self.dir, *argv) if argv[0] != "--dir" else holdfast(*argv)
                self.assertEqual(r.returncode, 2, r)
                self.assertTrue(r.stderr.startswith("holdfast: "), r.stderr)
        self.assertEqual(holdfast().returncode, 2)

    def test_verbs_of_later_versions_say_so(self):
        for verb in ("top", "doctor", "actions", "scan", "release"):
            r = holdfast("--dir", self.dir, verb, "--json")
            self.assert_one_line(r, 2)
            self.assertEqual(r.stderr, f"holdfast: {verb}: not in this version\n")
            self.assertNotRegex(holdfast("--help").stdout, rf"(?m)^  {verb} ")
        self.assert_one_line(holdfast("--dir", self.dir, "component", "rollback"), 2, "not in this version")

    def test_help_and_version_need_nothing(self):
        r = holdfast("--help")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn("exit code", r.stdout)
        self.assertRegex(holdfast("--version").stdout, r"^holdfast \d+\.\d+\.\d+\n$")
        self.assertIn("usage: holdfast events", holdfast("events", "--help").stdout)

    def test_missing_directory_is_named(self):
        self.assert_one_line(holdfast("--dir", self.dir / "nothing", "status"), 3, "nothing", "No such file")

    def test_config_check_names_the_line_and_reads_the_callers_paths(self):
        (self.dir / "mine.yml").write_text("environment: dev\nchannel:\n  heartbeat_s: soon\n")
        (self.dir / "good.yml").write_text("environment: dev\nsurprise: 1\n")
        (self.dir / "i").mkdir()
        r = holdfast("--dir", "i", "config", "check", "mine.yml", cwd=self.dir)
        self.assert_one_line(r, 1, "mine.yml:3", "heartbeat_s")
        r = holdfast("--dir", "i", "config", "check", "good.yml", cwd=self.dir)
        self.assertEqual((r.returncode, r.stdout), (0, "good.yml: ok\n"))
        self.assertIn("surprise", r.stderr)
        r = holdfast("--dir", "i", "config", "check", "good.yml", "--json", cwd=self.dir)
        v = json.loads(r.stdout)
        self.assertEqual((v["ok"], v["error"], len(v["warnings"])), (True, None, 1))
        self.assert_one_line(holdfast("--dir", "i", "config", "check", cwd=self.dir), 1, "config.yml")

    def test_socket_of_somebody_dead_is_not_running(self):
        (self.dir / "run").mkdir()
        # A socket's file whose process is gone.
        subprocess.run(["/usr/bin/python3", "-c", f"import os, socket; os.chdir({str(self.dir)!r}); socket.socket(socket.AF_UNIX).bind('run/agent.sock')"],
                       check=True)
        self.assert_one_line(holdfast("--dir", self.dir, "outages"), 3, "not running")

    def test_daemon_that_hangs_is_given_up(self):
        (self.dir / "run").mkdir()
        p = subprocess.Popen(["/usr/bin/python3", "-c",
                              "import os, socket, sys; os.chdir(sys.argv[1]); s = socket.socket(socket.AF_UNIX); s.bind('run/agent.sock');"
                              "s.listen(); print('up', flush=True); sys.stdin.read()", str(self.dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            p.stdout.readline()
            start = time.monotonic()
            self.assert_one_line(holdfast("--dir", self.dir, "outages"), 3, "no answer in time")
            self.assertLess(time.monotonic() - start, 10)
        finally:
            p.stdin.close()
            p.wait(10)
            p.stdout.close()


class WithInstance(InstanceTest):
    @contextlib.contextmanager
    def follow(self, *argv):
        p = subprocess.Popen([str(BIN / "holdfast"), "--dir", str(self.i.dir), "events", "--follow", "--json", *argv],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        p.lines = queue.Queue()
        reader = threading.Thread(target=lambda: [p.lines.put(line) for line in p.stdout])
        reader.start()
        try:
            yield p
        finally:
            if p.poll() is None:
                p.kill()
            p.wait(10)
            reader.join(10)
            p.stdout.close()
            p.stderr.close()

    def read_event(self, p, predicate, what, deadline_s=15):
        end = time.monotonic() + deadline_s
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                e = json.loads(p.lines.get(timeout=left))
                if predicate(e):
                    return e
        self.fail(f"no {what} within {deadline_s} s")

    def child(self, code):
        p = subprocess.Popen(["/bin/sh", "-c", f"read x; exit {code}"], stdin=subprocess.PIPE)
        return p

    def test_follow_shows_what_happens_now_and_ends_at_ctrl_c(self):
        self.start_online()
        c = self.child(7)
        with self.follow("--kind", "proc.exit", "--pid", str(c.pid)) as p:
            # Once it has printed or waited, it is subscribed; an exit before that is among the recent ones.
            c.stdin.close()
            c.wait(10)
            e = self.read_event(p, lambda e: True, "exit of the child")
            self.assertEqual((e["kind"], e["pid"], e["code"], e["signal"]), ("proc.exit", c.pid, 7, None))
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.wait(10), 0)

    def test_follow_survives_an_agent_that_is_killed(self):
        before = self.start_online()["pid"]
        c = self.child(5)
        c.stdin.close()
        c.wait(10)
        wait_for(lambda: self.i.events("--pid", str(c.pid)), 10, "the child's exit")
        with self.follow("--kind", "proc.exit", "--since", "1m") as p:
            self.read_event(p, lambda e: e["pid"] == c.pid, "exit of a child")
            self.kill(before)
            e = self.read_event(p, lambda e: e["pid"] == before, "exit of the agent")
            self.assertEqual((e["signal"], e["by_pid"]), (9, os.getpid()))
            p.send_signal(signal.SIGTERM)
            self.assertEqual(p.wait(10), 0)
            self.assertIn("the agent is back", p.stderr.read())

    def test_recent_events_are_filtered(self):
        self.start_online()
        c = self.child(3)
        c.stdin.close()
        c.wait(10)
        mine = wait_for(lambda: self.i.events("--pid", str(c.pid)), 10, "the child's exit")
        self.assertEqual([(e["kind"], e["code"]) for e in mine if e["kind"] == "proc.exit"], [("proc.exit", 3)])
        self.assertEqual(self.i.events("--pid", str(c.pid), "--kind", "proc.oom"), [])
        self.assertEqual(self.i.events("--pid", str(c.pid), "--since", "0"), [])
        self.assertEqual(self.i.events("--unit", "no-such.service"), [])
        self.assertTrue(all(e["kind"] == "proc.exit" for e in self.i.events("--kind", "proc.exit")))
        self.assertEqual(len(self.i.events("--limit", "1")), 1)

    def test_name_of_a_process_cannot_move_the_cursor(self):
        self.start_online()
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(PR_SET_NAME, b"a\x1b[2J\xff\x9b", 0, 0, 0)
            os._exit(9)
        os.waitpid(pid, 0)
        wait_for(lambda: self.i.events("--pid", str(pid), "--kind", "proc.exit"), 10, "the exit")
        for argv in (["events", "--pid", pid], ["events", "--pid", pid, "--json"]):
            r = subprocess.run([str(BIN / "holdfast"), "--dir", str(self.i.dir), *map(str, argv)], capture_output=True, timeout=20, check=True)
            self.assertNotRegex(r.stdout, rb"[\x00-\x09\x0b-\x1f\x7f-\xff]")
            self.assertIn(b"[2J", r.stdout)

    def test_instance_is_found_by_environment_and_by_a_long_path(self):
        self.start_online()
        r = holdfast("status", "--json", env={"HOLDFAST_DIR": str(self.i.dir)})
        self.assertEqual((r.returncode, json.loads(r.stdout)["agent"]["state"]), (0, "online"))
        deep = pathlib.Path(self.tmp, *["d" * 60] * 3)
        deep.mkdir(parents=True)
        (deep / "i").symlink_to(self.i.dir)
        self.assertGreater(len(str(deep / "i")), 108)
        r = holdfast("--dir", deep / "i", "status")
        self.assertEqual(r.returncode, 0, r)
        self.assertTrue(r.stdout.startswith("● online "), r.stdout)

    def test_status_with_one_daemon_is_bad_news(self):
        self.start_online()
        self.assertEqual(self.i.cli("status").stdout.splitlines()[0].split()[1], "online")
        r = self.i.cli("component", "stop", "agent", "--json")
        self.assertIn(json.loads(r.stdout)["state"], ("stopping", "stopped"))
        wait_for(lambda: self.i.component()["state"] == "stopped", 20, "the agent to be stopped")
        r = self.i.cli("status", "--json", check=False)
        s = json.loads(r.stdout)
        self.assertEqual((r.returncode, r.stderr), (1, ""))
        self.assertIn("not running", s["agent"]["error"])
        self.assertEqual(s["watchdog"]["components"][0]["last_exit"]["cause"], "stopped_by_request")
        r = self.i.cli("status", check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("not running", r.stdout.splitlines()[0])
        self.assertRegex(self.i.cli("component").stdout, r"agent +stopped")
        self.i.cli("component", "start")
        self.i.wait_online()

    def test_component_that_is_not_there_is_named(self):
        self.start_online()
        r = self.i.cli("component", "show", "toaster", check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("toaster", r.stderr)

    def test_reset_forgets_and_enrolment_begins_anew(self):
        uid = self.start_online()["instance_uid"]
        self.i.cli("reset", "--yes")
        self.i.wait_state("unenrolled")
        self.assertIn("holdfast enroll", self.i.cli("status").stdout)
        token = self.i.create_token("again")["token"]
        path = pathlib.Path(self.tmp) / "token"
        path.write_text(token + "\n")
        r = self.i.cli("enroll", "--portal", f"wss://127.0.0.1:{self.i.port}/v1/opamp", "--token-file", str(path), "--json", timeout_s=40)
        self.assertNotEqual(json.loads(r.stdout)["instance_uid"], uid)
        self.i.wait_online()

    def test_outages_since_a_point_in_time(self):
        self.start_online()
        self.i.cli("component", "restart")
        all_of_them = wait_for(lambda: [o for o in self.i.local_outages() if o["restored"]], 20, "an outage")
        self.assertEqual(json.loads(self.i.cli("outages", "--json", "--since", "1h").stdout.splitlines()[0])["id"], all_of_them[0]["id"])
        self.assertEqual(self.i.cli("outages", "--json", "--since", "0").stdout, "")
        lines = self.i.cli("outages").stdout.splitlines()
        self.assertEqual(lines[0].split()[:3], ["WHEN", "LASTED", "CAUSE"])
        self.assertIn(all_of_them[0]["cause"], lines[1])

    def test_full_output_is_not_success(self):
        self.start_online()
        with open("/dev/full", "w", encoding="ascii") as full:
            r = subprocess.run([str(BIN / "holdfast"), "--dir", str(self.i.dir), "status"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=20,
                               check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("No space left", r.stderr)

    def test_colour_is_for_terminals_only(self):
        self.start_online()
        self.assertNotIn("\033", self.i.cli("status").stdout)
        for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
            out = self.on_a_terminal(env)
            self.assertEqual(b"\033[" in out, coloured, out)
            self.assertIn("● online".encode(), out)

    def on_a_terminal(self, env):
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(BIN / "holdfast", ["holdfast", "--dir", str(self.i.dir), "status"], {**os.environ, "TERM": "xterm", **env})
        out = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(fd, 4096):
                out += chunk
        os.close(fd)
        os.waitpid(pid, 0)
        return out

    def test_callers_that_hang_up_early_do_not_close_the_bus(self):
        # nng 1.5 stops accepting for ever when its greeting fails with EPIPE.
        self.start_online()
        greetings = (b"", b"\0S", b"garbage!", b"\0SP\0\0\x30\0\0", b"\0SP\0\0\x30\0\0\1" + b"\xff" * 8)
        cwd = os.open(".", os.O_RDONLY)
        os.chdir(self.i.dir)
        try:
            for name in ("agent", "watchdog", "events"):
                for n in range(60):
                    with socket.socket(socket.AF_UNIX) as s:
                        s.connect(f"run/{name}.sock")
                        with contextlib.suppress(OSError):
                            s.sendall(greetings[n % len(greetings)])
        finally:
            os.fchdir(cwd)
            os.close(cwd)
        self.assertEqual(self.i.cli("status").returncode, 0)
        c = self.child(4)
        with self.follow("--pid", str(c.pid), "--since", "1m") as p:
            c.stdin.close()
            c.wait(10)
            self.read_event(p, lambda e: e["kind"] == "proc.exit" and e["code"] == 4, "exit of a child")

    def test_callers_that_say_nothing_keep_nobody_out(self):
        self.start_online()
        cwd = os.open(".", os.O_RDONLY)
        os.chdir(self.i.dir)
        with contextlib.ExitStack() as stack:
            try:
                for name in ("agent", "watchdog"):
                    for _ in range(40):
                        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(f"run/{name}.sock")
            finally:
                os.fchdir(cwd)
                os.close(cwd)
            self.assertEqual(self.i.cli("status").returncode, 0)

    def test_stranger_gets_no_stream_and_may_not_act(self):
        self.start_online()
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for argv in (["events", "--follow"], ["component", "stop"], ["reset"], ["config", "reload"]):
            with self.subTest(argv):
                r = holdfast("--dir", self.i.dir, *argv, stdin=subprocess.DEVNULL, **who)
                self.assertNotEqual(r.returncode, 0)
                self.assertEqual((len(r.stderr.splitlines()), r.stdout), (1, ""), r)
                self.assertRegex(r.stderr, "root")
        self.assertEqual(self.i.agent()["state"], "online")


if __name__ == "__main__":
    main()
