# SPDX-License-Identifier: Apache-2.0
"""holdfast(1) with daemons that are there, absent, stopped, or somebody else's."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

from harness import BIN, InstanceTest, alive, main, wait_for

NOBODY = 65534
DENIED = "permission denied: run as root or join group 'holdfast'"
ASKING = (["status"], ["outages"], ["events"], ["component", "list"], ["config", "show"], ["actions"])
LATER = ("doctor",)
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class Cli(InstanceTest):
    def holdfast(self, *args, **kw):
        """The program alone, without --dir."""
        return subprocess.run([str(BIN / "holdfast"), *args], capture_output=True, text=True, timeout=20, check=False, **kw)

    def one_line(self, r, code, text):
        self.assertEqual((r.returncode, r.stdout), (code, ""), r)
        self.assertEqual(len(r.stderr.splitlines()), 1, r.stderr)
        self.assertTrue(r.stderr.startswith("holdfast: "), r.stderr)
        self.assertIn(text, r.stderr)

    def start_endpoint(self):
        self.prepare()
        self.i.start_endpoint()

    # ---- without a daemon --------------------------------------------------------------------

    def test_nobody_there_is_exit_3_and_one_line(self):
        self.prepare()
        for args in ASKING:
            self.one_line(self.i.cli(*args, check=False), 3, "is not running (nothing listens on 'run/")
            self.one_line(self.i.cli(*args, "--json", check=False), 3, f"holdfast: {args[0]}: ")

    def test_socket_of_a_dead_daemon_is_not_running(self):
        self.prepare()
        os.mkdir(self.i.path("run"))
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(self.i.path("run", "agent.sock")))
        self.one_line(self.i.cli("outages", check=False), 3, "is not running")

    def test_wrong_usage_is_exit_2(self):
        for args in (["frobnicate"], ["status", "--nope"], ["--nope"], [], ["--dir"], ["status", "x"], ["events", "--kind", "conn.closd"],
                     ["events", "--pid", "0"], ["outages", "--since", "soon"], ["component", "eat", "agent"], ["release", "eat"], ["release", "stage"], ["release", "rollback", "--wait"], ["config", "x"], ["enroll"]):
            r = self.holdfast(*args)
            self.assertEqual((r.returncode, r.stdout), (2, ""), (args, r))
            self.assertTrue(r.stderr.startswith("holdfast: "), (args, r))
        for verb in LATER:
            self.one_line(self.holdfast(verb, "--json"), 2, f"holdfast: {verb}: not in this version")

    def test_help_and_version_need_no_daemon(self):
        r = self.holdfast("--help")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        for verb in ("status", "outages", "events", "top", "enroll", "reset", "component", "config", *LATER):
            self.assertIn(verb, r.stdout)
        self.assertRegex(r.stdout, r"not in this version:.*doctor")
        self.assertRegex(self.holdfast("events", "--help").stdout, r"^usage: holdfast events .*--follow")
        self.assertRegex(self.holdfast("status", "--version").stdout, r"^holdfast \d+\.\d+\.\d+\n$")

    # ---- one daemon, a stopped one -----------------------------------------------------------

    def test_agent_that_is_absent_is_an_error_in_its_place(self):
        self.start_endpoint()
        self.i.cli("component", "stop", "agent")
        r = self.i.cli("status", "--json", check=False)
        s = json.loads(r.stdout)
        self.assertEqual((r.returncode, r.stderr), (1, ""))
        self.assertEqual(list(s["agent"]), ["error"])
        self.assertIn("not running", s["agent"]["error"])
        self.assertEqual(s["watchdog"]["components"][0]["state"], "stopped")
        r = self.i.cli("status", check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("the agent is not running", r.stdout)

    def test_stopped_daemon_costs_three_seconds_and_answers_once_it_goes_on(self):
        self.start_endpoint()
        for name in ("agent", "watchdog"):
            pid = self.i.status()[name]["pid"]
            os.kill(pid, signal.SIGSTOP)
            try:
                begun = time.monotonic()
                r = self.i.cli("status", "--json", check=False)
                took = time.monotonic() - begun
                self.assertEqual(r.returncode, 1)
                self.assertEqual(json.loads(r.stdout)[name], {"error": f"the {name} did not answer in time; see its log file"})
                self.assertTrue(2.9 < took < 4.5, took)
            finally:
                os.kill(pid, signal.SIGCONT)
            self.assertEqual(wait_for(lambda n=name: self.i.status()[n].get("pid"), 5, f"the {name} to answer again"), pid)

    def test_both_stopped_cost_no_more_than_one(self):
        self.start_endpoint()
        s = self.i.status()
        pids = [s[name]["pid"] for name in ("agent", "watchdog")]
        begun = time.monotonic()
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            self.one_line(self.i.cli("status", check=False), 3, "did not answer in time")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        self.assertLess(time.monotonic() - begun, 4.5)

    # ---- strangers ---------------------------------------------------------------------------

    def test_stranger_is_denied_by_every_verb_in_the_same_words(self):
        self.start_endpoint()
        as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for args in (*ASKING, ["component", "stop", "agent"], ["config", "reload"], ["reset"], ["enroll", "--portal", "wss://x", "--token", "x"]):
            r = self.holdfast("--dir", str(self.i.dir), *args, **as_nobody)
            self.one_line(r, 1, f"holdfast: {args[0]}: {DENIED}")
        os.chmod(self.i.dir, 0o700)
        self.one_line(self.holdfast("--dir", str(self.i.dir), "status", **as_nobody), 1, f"holdfast: status: {DENIED}")
        os.chmod(self.i.dir, 0o755)
        os.chmod(self.i.path("run"), 0o700)
        self.one_line(self.holdfast("--dir", str(self.i.dir), "status", **as_nobody), 1, f"holdfast: status: {DENIED}")
        self.assertEqual(self.i.component()["state"], "running")

    # ---- arguments and output ----------------------------------------------------------------

    def test_options_stand_before_and_behind_the_verb(self):
        self.start_endpoint()
        d = str(self.i.dir)
        for args, env in ((["--dir", d, "--json", "status"], {}), (["status", "--json", "--dir", d], {}),
                          ([f"--dir={d}", "status", "--json"], {}), (["--json", "status"], {"HOLDFAST_DIR": d})):
            r = self.holdfast(*args, env={**os.environ, **env})
            self.assertEqual(r.returncode, 0, r)
            self.assertEqual(json.loads(r.stdout)["agent"]["state"], "unenrolled")
        r = self.holdfast("--dir", "x", "status", cwd=os.path.dirname(d))
        self.one_line(r, 3, "holdfast: status: x: No such file or directory")

    def test_answer_that_cannot_be_written_is_a_failure(self):
        self.start_endpoint()
        with open("/dev/full", "w", encoding="ascii") as full:
            r = subprocess.run([str(BIN / "holdfast"), "--dir", str(self.i.dir), "status"], stdout=full, stderr=subprocess.PIPE,
                               text=True, timeout=20, check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("No space left on device", r.stderr)

    def on_terminal(self, columns, *args, **env):
        """What it writes to a terminal of that width."""
        master, slave = pty.openpty()
        p = subprocess.Popen([str(BIN / "holdfast"), "--dir", str(self.i.dir), *args], stdout=slave, stderr=slave, stdin=subprocess.DEVNULL,
                             env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "LC_ALL": "C.UTF-8", **env})
        os.close(slave)
        text = b""
        try:
            while select.select([master], [], [], 10)[0]:
                try:
                    more = os.read(master, 65536)
                except OSError:
                    break  # EIO: nobody has the other end any more
                if not more:
                    break
                text += more
        finally:
            os.close(master)
        self.assertEqual(p.wait(10), 0, text)
        return text.decode().replace("\r\n", "\n")

    def test_terminal_gets_lines_that_fit_and_colour_unless_refused(self):
        self.start_endpoint()
        coloured = self.on_terminal(60, "status")
        self.assertIn("\x1b[", coloured)
        plain = self.on_terminal(60, "status", NO_COLOR="1")
        self.assertNotIn("\x1b", plain)
        self.assertEqual(plain.splitlines()[0].split()[:2], ["○", "unenrolled"])
        self.assertIn("holdfast enroll", plain)
        for line in plain.splitlines() + ESCAPE.sub("", coloured).splitlines():
            self.assertLessEqual(len(line), 60, line)
        piped = self.i.cli("status", env={"COLUMNS": "60", "TERM": "xterm"}).stdout
        self.assertNotIn("\x1b", piped)
        self.assertTrue(self.i.cli("status", env={"LC_ALL": "C"}).stdout.isascii())

    # ---- events ------------------------------------------------------------------------------

    def follow(self, *args):
        p = subprocess.Popen([str(BIN / "holdfast"), "--dir", str(self.i.dir), "events", "--follow", "--json", *args],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.wait)
        self.addCleanup(self.kill, p.pid)
        os.set_blocking(p.stdout.fileno(), False)
        p.seen = b""
        return p

    def lines(self, p):
        p.seen += p.stdout.read() or b""
        return [json.loads(line) for line in p.seen.split(b"\n")[:-1]]

    def marker(self, code):
        """A process that ends with this code; returns its pid."""
        p = subprocess.Popen(["/bin/sh", "-c", f"exit {code}"])
        p.wait(10)
        return p.pid

    def exits_of(self, p, pid):
        return [e for e in self.lines(p) if e["pid"] == pid]

    def test_follow_shows_each_event_once_and_outlives_the_agent(self):
        self.start_endpoint()
        early = self.marker(41)
        wait_for(lambda: [e for e in self.i.events("--kind", "proc.exit") if e["pid"] == early], 5, "the event to be recent")
        p = self.follow("--kind", "proc.exit", "--since", "1h")
        wait_for(lambda: self.exits_of(p, early), 5, "what was recent")
        late = self.marker(42)
        wait_for(lambda: self.exits_of(p, late), 5, "what came then")
        before = self.i.agent()["pid"]
        self.kill(before)
        between = self.marker(43)
        wait_for(lambda: self.i.agent().get("pid") not in (None, before), 10, "a new agent")
        wait_for(lambda: self.exits_of(p, between), 10, "what happened while it was away")
        after = self.marker(44)
        wait_for(lambda: self.exits_of(p, after), 10, "what happened afterwards")
        for pid, code in ((early, 41), (late, 42), (between, 43), (after, 44)):
            self.assertEqual([e["code"] for e in self.exits_of(p, pid)], [code], pid)
        self.assertEqual({e["kind"] for e in self.lines(p)}, {"proc.exit"})
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(5), 0)
        self.assertIn(b"the agent is back", p.stderr.read())

    def test_filters_choose(self):
        self.start_endpoint()
        one, two = self.marker(7), self.marker(8)
        wait_for(lambda: [e for e in self.i.events() if e["pid"] == two], 5, "the events")
        self.assertEqual({e["pid"] for e in self.i.events("--pid", str(one))}, {one})
        self.assertEqual({e["kind"] for e in self.i.events("--kind", "proc.exit")}, {"proc.exit"})
        self.assertEqual(self.i.events("--kind", "conn.failed", "--pid", str(one)), [])
        self.assertEqual(self.i.events("--unit", "no-such.service"), [])
        self.assertEqual(self.i.events("--since", "2100-01-01T00:00:00Z"), [])
        text = self.i.cli("events", "--pid", str(one)).stdout
        self.assertRegex(text, rf"^\d\d:\d\d:\d\d\.\d\d\d  proc\.exit +\S+\[{one}\] +exited with status 7 ")

    # ---- component, config -------------------------------------------------------------------

    def test_component_requests_end_with_what_was_asked_for(self):
        self.start_endpoint()
        before = self.i.agent()["pid"]
        r = json.loads(self.i.cli("component", "restart", "agent", "--json").stdout)
        self.assertEqual((r["name"], r["state"], r["restarts"]), ("agent", "running", 1))
        self.assertNotEqual(r["pid"], before)
        self.assertFalse(alive(before))
        self.assertRegex(self.i.cli("component", "stop", "agent").stdout, r"^  agent .* stopped")
        self.assertFalse(alive(r["pid"]))
        self.assertRegex(self.i.cli("component", "start", "agent").stdout, r"^  agent .* healthy")
        self.assertRegex(self.i.cli("component", "show", "agent").stdout, r"last exit +\d\d:\d\d:\d\d\.\d\d\d  pid \d+ ")
        self.assertEqual(self.i.cli("component", "list").stdout.splitlines()[0].split()[:3], ["NAME", "STATE", "SINCE"])
        self.one_line(self.i.cli("component", "restart", "nothing", check=False), 1, "holdfast: component: there is no component 'nothing'")
        self.one_line(self.i.cli("component", "rollback", "agent", check=False), 1, "component: agent: there is no earlier version to go back to")

    def test_config_check_reads_from_where_the_caller_stands(self):
        self.prepare()
        with open(os.path.join(self.tmp, "new.yml"), "w", encoding="ascii") as f:
            f.write("environment: dev\nchannel:\n  heartbeat_s: soon\n")
        r = self.holdfast("config", "check", "new.yml", "--dir", str(self.i.dir), cwd=self.tmp)
        self.one_line(r, 1, "holdfast: new.yml:3: channel.heartbeat_s: expected")
        with open(os.path.join(self.tmp, "new.yml"), "w", encoding="ascii") as f:
            f.write("environment: dev\nhartbeat: 1\n")
        r = self.holdfast("config", "check", "new.yml", "--dir", str(self.i.dir), cwd=self.tmp)
        self.assertEqual((r.returncode, r.stdout), (0, "new.yml: ok\n"))
        self.assertRegex(r.stderr, r"^holdfast: new\.yml:2: .*'hartbeat'.*\nholdfast: portal\.url is not set")
        r = json.loads(self.holdfast("config", "check", "new.yml", "--json", "--dir", str(self.i.dir), cwd=self.tmp).stdout)
        self.assertEqual((r["ok"], r["error"], len(r["warnings"])), (True, None, 2))
        self.one_line(self.i.cli("config", "check", "none.yml", check=False), 1, "none.yml: there is no such file")

    def test_reloaded_configuration_is_the_one_shown_and_a_bad_one_is_not(self):
        self.start_endpoint()
        good = self.i.path("config.yml").read_text()
        self.assertEqual(json.loads(self.i.cli("config", "show", "--json").stdout)["channel"]["heartbeat_s"], 20)
        self.i.path("config.yml").write_text(good + "channel:\n  heartbeat_s: 33\n")
        self.assertEqual(self.i.cli("config", "reload").stdout, "configuration reloaded\n  channel.heartbeat_s: 20 -> 33\n")
        self.assertEqual(json.loads(self.i.cli("config", "show", "--json").stdout)["channel"]["heartbeat_s"], 33)
        self.assertRegex(self.i.cli("config", "show").stdout, r"(?m)^ +heartbeat_s: 33")
        self.i.path("config.yml").write_text(good + "channel:\n  heartbeat_s: 1\n")
        self.one_line(self.i.cli("config", "reload", check=False), 1, "channel.heartbeat_s: expected")
        self.assertEqual(json.loads(self.i.cli("config", "show", "--json").stdout)["channel"]["heartbeat_s"], 33)


if __name__ == "__main__":
    main()
