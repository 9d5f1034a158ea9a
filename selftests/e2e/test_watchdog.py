# SPDX-License-Identifier: Apache-2.0
"""The watchdog against a component that misbehaves in every way it can."""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

from harness import alive, main, wait_for
from watchdogtest import Bus, BusError, WatchdogTest, field

PTRACE_ATTACH, PTRACE_DETACH = 16, 17


class Restart(WatchdogTest):
    def test_killed_component_is_back_and_the_killer_is_named(self):
        a = self.start()
        killer = subprocess.Popen(["/bin/sh", "-c", f"kill -9 {a['pid']}; exec cat"], stdin=subprocess.PIPE)
        try:
            b = self.wait_new(a["pid"])
        finally:
            killer.stdin.close()
            killer.wait(10)
        e = b["last_exit"]
        self.assertEqual((e["pid"], e["signal"], e["code"]), (a["pid"], 9, -1))
        self.assertEqual(b["restarts"], a["restarts"] + 1)
        self.assertGreater(e["exit_to_exec_us"], 0)
        self.assertGreaterEqual(e["exit_to_ready_us"], e["exit_to_exec_us"])
        if self.kernel_off_hint():
            self.assertEqual(e["cause"], "signalled")
            self.assertIn("sender unknown", e["text"])
        else:
            self.assertEqual((e["cause"], e["by_pid"], e["by_uid"]), ("killed_by_operator", killer.pid, 0), e)
            self.assertEqual(e["from_kernel"], 1)
        cause = "signalled" if self.kernel_off_hint() else "killed_by_operator"
        self.wait_log("launch", f"last_exit cause={cause} pid={a['pid']}")

    def test_crash_loop_backs_off_with_last_words_and_recovers_when_mended(self):
        self.start("crash", until="backoff")
        a = self.wait_agent(lambda a: a["restarts"] >= 3 and a["state"] == "backoff", "the third restart")
        self.assertEqual(a["last_exit"]["cause"], "crashed")
        self.assertEqual(a["last_exit"]["signal"], signal.SIGABRT)
        self.assertIn("last words of a crashing component", a["last_stderr"])
        self.mode("ok")
        b = self.wait_state("running")
        self.assertGreater(b["restarts"], a["restarts"])

    def test_permanent_failure_is_held_until_a_reload(self):
        self.start("exit 100", until="held")
        a = self.agent()
        self.assertEqual((a["last_exit"]["cause"], a["last_exit"]["code"]), ("exited", 100))
        self.assertEqual(a["pid"], 0)
        self.mode("ok")
        os.kill(self.i.pid_of("launch"), signal.SIGHUP)
        self.wait_state("running", 5)

    def test_temporary_failure_is_retried(self):
        self.start("exit 111", until=None)
        a = self.wait_agent(lambda a: a["restarts"] >= 2, "restarts")
        self.assertEqual((a["last_exit"]["cause"], a["last_exit"]["code"]), ("exited", 111))

    def test_children_left_behind_end_with_their_parent(self):
        self.start("litter", until=None)
        self.wait_agent(lambda a: a["restarts"] >= 2, "restarts")
        self.mode("ok")
        a = self.wait_state("running")
        if not self.in_cgroup(a["pid"]):
            self.skipTest("this host gives components no cgroup v2 of their own")
        mine = {self.i.pid_of("launch"), self.watchdog_pid(), a["pid"]}
        wait_for(lambda: set(self.processes()) == mine, 5, "only launch, watchdog and component to be left")

    def in_cgroup(self, pid):
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as f:
            return any(line.startswith("0::") and line.strip().endswith("/agent") for line in f)

    def test_missing_program_is_retried_and_named(self):
        program = self.i.bin / "holdfast-agent"
        away = program.with_suffix(".away")
        program.rename(away)
        self.start(until=None)
        a = self.wait_state("backoff")
        self.assertIn("holdfast-agent", a["detail"])
        self.assertIn("No such file", a["detail"])
        away.rename(program)
        self.wait_state("running")


class Confinement(WatchdogTest):
    def test_component_has_no_right_and_no_descriptor_of_ours(self):
        a = self.start()
        with open(f"/proc/{a['pid']}/status", encoding="ascii") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[caps], 16), 0, caps)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(set(status["Uid"].split()), {"60540"})
        self.assertEqual(set(status["Gid"].split()), {"60540"})
        self.assertEqual(status["Groups"].strip(), "")
        self.assertEqual(int(status["SigIgn"], 16), 0)
        with open(f"/proc/{a['pid']}/limits", encoding="ascii") as f:
            limits = f.read()
        self.assertRegex(limits, r"Max core file size +0 +0 ")
        ours = set()
        fds = f"/proc/{self.watchdog_pid()}/fd"
        for n in os.listdir(fds):
            with contextlib.suppress(FileNotFoundError):  # closed while we look
                ours.add(os.readlink(f"{fds}/{n}"))
        for n in os.listdir(f"/proc/{a['pid']}/fd"):
            if int(n) > 2:
                try:
                    target = os.readlink(f"/proc/{a['pid']}/fd/{n}")
                except FileNotFoundError:  # closed while we look
                    continue
                self.assertTrue(target.startswith(("socket:", "anon_inode:")) and target not in ours - {x for x in ours if x.startswith("anon_inode")}, target)

    def test_watchdog_and_launch_have_no_network_socket(self):
        a = self.start()
        self.bus.status()
        inet = set()
        for family in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet", "udplite", "icmp"):
            path = pathlib.Path(f"/proc/{self.watchdog_pid()}/net/{family}")
            if not path.exists():
                continue
            lines = path.read_text(encoding="ascii").splitlines()[1:]
            column = 8 if family == "packet" else 9
            inet |= {line.split()[column] for line in lines}
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # the lists do show sockets of this namespace
        probe.bind(("127.0.0.1", 0))
        udp = pathlib.Path("/proc/self/net/udp").read_text(encoding="ascii")
        self.assertIn(str(os.fstat(probe.fileno()).st_ino), udp)
        probe.close()
        for pid in (self.watchdog_pid(), self.i.pid_of("launch"), a["pid"]):
            sockets = set()
            for n in os.listdir(f"/proc/{pid}/fd"):
                try:
                    target = os.readlink(f"/proc/{pid}/fd/{n}")
                except FileNotFoundError:  # closed while we look
                    continue
                if target.startswith("socket:["):
                    sockets.add(target[8:-1])
            self.assertEqual(sockets & inet, set(), pid)

    def test_root_is_refused_as_a_components_user(self):
        self.i.path("config.yml").write_text(self.i.path("config.yml").read_text().replace('"60540"', '"0"'))
        self.start(until=None)
        a = self.wait_agent(lambda a: a["state"] in ("backoff", "running"), "a decision")
        if a["state"] == "running":  # a checked configuration falls back to the default user, which must not be root either
            self.assertNotEqual(os.stat(f"/proc/{a['pid']}").st_uid, 0)
        else:
            self.assertEqual(a["pid"], 0)


class Permits(WatchdogTest):
    def test_request_that_is_not_permitted_ends_the_connection(self):
        a = self.start("violate")
        self.wait_log("launch", "sent READY (2), which it may not now")
        self.wait_log("launch", "connection ended by the watchdog")
        self.assertEqual(self.agent()["pid"], a["pid"])  # it is not killed for that, and comes again

    def test_garbage_ends_the_connection(self):
        a = self.start("garbage")
        self.wait_log("launch", "sent 5 bytes that are no message")
        self.assertEqual(self.agent()["pid"], a["pid"])

    def test_stranger_on_the_supervise_socket_is_turned_away(self):
        self.start()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(5)
            s.connect(str(self.i.path("run", "supervise.sock")))
            try:
                self.assertEqual(s.recv(100), b"")
            except ConnectionResetError:
                pass
        self.wait_log("launch", f"pid {os.getpid()}, uid 0 is no component of ours")

    def test_stranger_on_the_bus_gets_one_clear_line(self):
        self.start()
        program = (
            "import os,sys\nsys.path.insert(0, sys.argv[1])\nimport watchdogtest as w\nos.setgroups([])\nos.setresgid(65534,65534,65534)\n"
            "os.setresuid(65534,65534,65534)\nb=w.Bus(sys.argv[2])\n"
            "for body in (w.field(1, b''), w.field(7, w.field(1, 2) + w.field(2, 'agent'))):\n"
            "  try:\n    b.ask(body)\n    print('allowed')\n  except w.BusError as e:\n    print(e.error, e.message)\n"
        )
        r = subprocess.run(
            ["/usr/bin/python3", "-c", program, os.path.dirname(os.path.abspath(__file__)), self.bus.path], capture_output=True, text=True, timeout=30, check=True
        )
        lines = r.stdout.splitlines()
        self.assertEqual(len(lines), 2, r)
        for line in lines:
            self.assertEqual(line, "1 permission denied: run as root or join group 'holdfast'")
        self.assertEqual(self.agent()["state"], "running")

    def test_malformed_requests_are_answered_and_harmless(self):
        self.start()
        for body in (b"\xff\xff\xff", b"\x0a\xff", field(99, b"x"), b""):
            with self.assertRaises(BusError):
                self.bus.ask(body)
        with self.assertRaises(BusError) as e:
            self.bus.command(Bus.SHOW, "nobody")
        self.assertIn("there is no component 'nobody'", e.exception.message)
        self.assertEqual(self.agent()["state"], "running")


class Control(WatchdogTest):
    def test_stop_start_and_restart_by_request(self):
        a = self.start()
        self.bus.command(Bus.RESTART)
        b = self.wait_new(a["pid"])
        self.assertEqual(b["last_exit"]["cause"], "stopped_by_request")
        self.bus.command(Bus.STOP)
        c = self.wait_state("stopped")
        self.assertEqual((c["pid"], c["last_exit"]["code"]), (0, 0))
        self.assertFalse(alive(b["pid"]))
        self.bus.command(Bus.START)
        self.wait_state("running")

    def test_stop_leaves_no_process_no_pin_and_no_socket(self):
        a = self.start()
        watchdog = self.watchdog_pid()
        if not self.kernel_off_hint():
            self.assertTrue(self.pins())
        self.i.stop_daemon("launch")
        self.assertFalse(alive(a["pid"]) or alive(watchdog))
        self.assertEqual(self.processes(), [])
        self.assertEqual(sorted(p.name for p in self.i.path("run").iterdir() if p.name != "watchdog.lock"), [])
        self.assertFalse(self.pins(), "pins are left")

    def test_stop_by_the_bus_ends_launch_as_well(self):
        a = self.start()
        launch = self.i.pid_of("launch")
        self.bus.stop_all("test")
        self.i._wait_gone("launch", launch, 10)
        self.assertFalse(alive(a["pid"]))

    def test_second_watchdog_says_that_one_runs(self):
        a = self.start()
        r = subprocess.run([self.i.bin / "holdfast-launch", "--dir", self.i.dir], capture_output=True, text=True, timeout=20, check=False)
        self.assertEqual(r.returncode, 100)
        self.assertIn(f"runs already (holdfast-watchdog, pid {self.watchdog_pid()})", r.stderr)
        self.assertEqual(self.agent()["pid"], a["pid"])

    def test_bad_configuration_is_named_and_does_not_stop_the_watch(self):
        good = self.i.path("config.yml").read_text()
        a = self.start()
        self.i.path("config.yml").write_text(good + "hang:\n  deadline_ms: soon\n")
        os.kill(self.i.pid_of("launch"), signal.SIGHUP)
        line = self.wait_log("launch", "keeping the configuration as it was")
        self.assertRegex(line, r"config\.yml:\d+")
        self.i.path("config.yml").write_text(good)
        os.kill(self.i.pid_of("launch"), signal.SIGHUP)
        self.wait_log("launch", "testagent[")
        self.wait_log("launch", "notice: reload")
        self.assertEqual(self.agent()["pid"], a["pid"])


class Deaf(WatchdogTest):
    def test_component_that_ignores_sigterm_is_killed_after_ten_seconds(self):
        a = self.start("deaf")
        begin = time.monotonic()
        self.bus.command(Bus.STOP)
        b = self.wait_state("stopped", 20)
        self.assertGreater(time.monotonic() - begin, 9)
        self.assertEqual((b["last_exit"]["cause"], b["last_exit"]["signal"]), ("stopped_by_request", 9))
        self.assertIn("SIGTERM did not help", b["last_exit"]["text"])
        self.assertFalse(alive(a["pid"]))


class OwnDeath(WatchdogTest):
    def test_killed_watchdog_is_replaced_and_adopts_the_same_process(self):
        a = self.start()
        old = self.watchdog_pid()
        self.kill(old)
        wait_for(lambda: self.watchdog_pid() != old, 10, "a new watchdog")
        b = self.wait_state("running")
        self.assertEqual((b["pid"], b["restarts"]), (a["pid"], a["restarts"]))
        self.wait_log("launch", f"component 'agent' (pid {a['pid']}) was running and is adopted")
        self.wait_log("launch", f"welcome from {self.watchdog_pid()} ")
        # and its death is still noticed, and explained as far as the kernel saw it
        self.kill(a["pid"])
        c = self.wait_new(a["pid"])
        self.assertEqual(c["restarts"], a["restarts"] + 1)
        e = c["last_exit"]
        if self.kernel_off_hint():
            self.assertEqual(e["cause"], "unknown")
        else:
            self.assertEqual((e["cause"], e["by_pid"], e["signal"]), ("killed_by_operator", os.getpid(), 9), e)

    def test_component_that_died_unwatched_is_started_once(self):
        a = self.start()
        old = self.watchdog_pid()
        os.kill(self.i.pid_of("launch"), signal.SIGSTOP)
        self.kill(old)
        wait_for(lambda: not alive(old), 5, "the watchdog to be gone")
        self.kill(a["pid"])
        wait_for(lambda: not alive(a["pid"]), 5, "the component to be gone")
        os.kill(self.i.pid_of("launch"), signal.SIGCONT)
        b = self.wait_new(a["pid"])
        self.wait_log("launch", "ended while there was no watchdog")
        self.assertEqual(set(self.processes()), {self.i.pid_of("launch"), self.watchdog_pid(), b["pid"]})

    def test_stopped_component_stays_stopped_over_a_watchdogs_death(self):
        self.start()
        self.bus.command(Bus.STOP)
        self.wait_state("stopped")
        old = self.watchdog_pid()
        self.kill(old)
        wait_for(lambda: self.watchdog_pid() != old, 10, "a new watchdog")
        self.assertEqual(self.agent()["state"], "stopped")

    def test_many_deaths_leave_one_component(self):
        a = self.start()
        for _ in range(5):
            old = self.watchdog_pid()
            self.kill(old)
            wait_for(lambda old=old: self.watchdog_pid() != old, 15, "a new watchdog")
        b = self.wait_state("running")
        self.assertEqual(b["pid"], a["pid"])
        self.assertEqual(set(self.processes()), {self.i.pid_of("launch"), self.watchdog_pid(), a["pid"]})

    def test_new_launch_takes_over_when_launch_was_killed(self):
        a = self.start()
        launch, old = self.i.pid_of("launch"), self.watchdog_pid()
        self.kill(launch)
        wait_for(lambda: not alive(launch), 5, "launch to be gone")
        self.i._reap("launch")
        self.assertEqual(self.agent()["pid"], a["pid"])  # still watched
        self.i._spawn("launch", "holdfast-launch", ["--dir", "."])
        wait_for(lambda: self.watchdog_pid() != old, 10, "a new watchdog")
        self.assertEqual(self.wait_state("running")["pid"], a["pid"])
        self.assertFalse(alive(old))

    def test_damaged_record_is_no_obstacle(self):
        a = self.start()
        self.i.stop_daemon("launch")
        self.i.path("state", "watchdog", "components").write_bytes(b"\xff" * 40000)
        b = self.start()
        self.assertNotEqual(a["pid"], b["pid"])


class Hang(WatchdogTest):
    config_extra = "hang:\n  expect_ms: 200\n  deadline_ms: 800\n  stretch_ms: 4000\n"

    def assert_hung(self, mode):
        a = self.start(mode)
        self.wait_agent(lambda x: x["restarts"] > a["restarts"], "the hung process to be replaced", 20)
        self.mode("ok")
        b = self.wait_agent(lambda x: x["state"] == "running" and x["status_text"] == "mode ok", "a good process", 20)
        self.assertEqual(b["last_exit"]["cause"], "hung", b)
        report = self.i.path("state", "watchdog", "agent.hang").read_text()
        self.assertIn("no progress", report)
        self.assertIn("thread 'holdfast-agent'", report.replace("testagent", "holdfast-agent"))
        self.assertIn("last stderr:", report)

    def test_process_that_sleeps_outside_its_loop_is_hung(self):
        self.assert_hung("sleep")

    def test_process_that_spins_outside_its_loop_is_hung(self):
        self.assert_hung("spin")

    def test_worker_that_does_not_move_is_hung_though_the_loop_moves(self):
        self.assert_hung("worker")

    def test_stopped_process_is_reported_and_not_killed(self):
        a = self.start()
        self.stop_signal(a["pid"])
        b = self.wait_agent(lambda x: "stopped by a signal" in x["detail"], "the report")
        time.sleep(5)  # the fact is that nothing happens, beyond the stretched deadline
        c = self.agent()
        self.assertEqual((b["pid"], c["pid"], c["restarts"], c["state"]), (a["pid"], a["pid"], a["restarts"], "running"))
        os.kill(a["pid"], signal.SIGCONT)
        self.wait_log("launch", "moves again")
        time.sleep(1.5)
        self.assertEqual(self.agent()["pid"], a["pid"])

    def test_process_in_a_debugger_is_reported_and_not_killed(self):
        a = self.start()
        libc = ctypes.CDLL(None, use_errno=True)
        self.assertEqual(libc.ptrace(PTRACE_ATTACH, a["pid"], None, None), 0, os.strerror(ctypes.get_errno()))
        os.waitpid(a["pid"], 0)
        self.wait_agent(lambda x: "debugger" in x["detail"], "the report")
        time.sleep(2)  # the fact is that nothing happens
        self.assertEqual(self.agent()["pid"], a["pid"])
        libc.ptrace(PTRACE_DETACH, a["pid"], None, None)
        self.wait_log("launch", "moves again")
        self.assertEqual(self.agent()["pid"], a["pid"])

    def test_process_blocked_in_the_kernel_is_given_the_long_deadline(self):
        a = self.start("dstate")
        self.wait_agent(lambda x: "blocked in the kernel" in x["detail"], "the report")
        self.wait_log("launch", "moves again")
        b = self.agent()
        self.assertEqual((b["pid"], b["restarts"]), (a["pid"], a["restarts"]))

    def test_throttled_process_is_given_the_long_deadline(self):
        quota = pathlib.Path("/sys/fs/cgroup/cpu")
        if not (quota / "tasks").exists():
            self.skipTest("no cgroup v1 cpu hierarchy to set a quota in")
        a = self.start("busy")
        group = quota / f"hf-test-{os.getpid()}"
        group.mkdir()
        try:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("1000")
            (group / "tasks").write_text(str(a["pid"]))
            self.wait_agent(lambda x: "starved" in x["detail"], "the report")
            time.sleep(1.5)  # well beyond the short deadline
            self.assertEqual(self.agent()["pid"], a["pid"])
        finally:
            for pid in (group / "tasks").read_text().split():
                (quota / "tasks").write_text(pid)
            group.rmdir()
        self.wait_log("launch", "moves again")
        self.assertEqual(self.agent()["pid"], a["pid"])

    def test_working_process_is_left_alone(self):
        a = self.start()
        time.sleep(4)
        b = self.agent()
        self.assertEqual((a["pid"], b["pid"], b["state"], b["detail"]), (b["pid"], a["pid"], "running", ""))


class Limits(WatchdogTest):
    def test_component_over_its_memory_is_ended_in_order_and_restarted(self):
        config = self.i.path("config.yml").read_text().replace('    user: "60540"', '    user: "60540"\n    memory_max_bytes: 48MiB')
        self.i.path("config.yml").write_text(config)
        a = self.start("leak")
        self.wait_agent(lambda x: x["restarts"] > a["restarts"], "a restart")
        self.mode("ok")
        b = self.wait_agent(lambda x: x["status_text"] == "mode ok", "a good process")
        self.assertEqual(b["last_exit"]["cause"], "limit")
        self.assertEqual(b["last_exit"]["code"], 0)
        self.wait_log("launch", "48 are allowed")


class Memory(WatchdogTest):
    def test_resident_memory_stays_small(self):
        self.start()
        with open(f"/proc/{self.watchdog_pid()}/smaps_rollup", encoding="ascii") as f:
            rss_kib = next(int(line.split()[1]) for line in f if line.startswith("Rss:"))
        print(json.dumps({"watchdog_rss_kib": rss_kib}), flush=True)
        self.assertLess(rss_kib, 16 * 1024)


if __name__ == "__main__":
    main()
