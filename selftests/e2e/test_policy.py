# SPDX-License-Identifier: Apache-2.0
"""What config.yml says about telemetry is what the kernel records, from the next event on."""

import json
import os
import signal
import socket
import subprocess

from harness import InstanceTest, main, wait_for

DEFAULT = "conn.failed, conn.reset_received, conn.reset_sent, conn.dropped, proc.exit, proc.oom, telemetry.loss"


class Policy(InstanceTest):
    def start(self):
        self.prepare()
        self.good = self.i.path("config.yml").read_text()
        self.i.start_endpoint()
        wait_for(lambda: self.i.agent()["kernel_assist"] == "ebpf", 10, "the kernel's programs")
        self.pid = os.getpid()

    def write(self, telemetry):
        """The file as at the start, with this below telemetry."""
        self.i.path("config.yml").write_text(self.good + ("telemetry:\n" + telemetry if telemetry else ""))

    def reload(self, telemetry, check=True):
        self.write(telemetry)
        return self.i.cli("config", "reload", check=check)

    def closed_connection(self):
        """One that ends well; its client's port."""
        with socket.create_server(("127.0.0.1", 0)) as s:
            c = socket.create_connection(s.getsockname())
            port = c.getsockname()[1]
            a, _ = s.accept()
            a.close()
            c.recv(1)
            c.close()
        return port

    def refused_connection(self, port):
        with socket.socket() as s:
            s.connect_ex(("127.0.0.1", port))

    def marker(self, code=3):
        """An event behind everything before it: once it is there, what is not there never comes."""
        p = subprocess.Popen(["/bin/sh", "-c", f"exit {code}"])
        p.wait(10)
        return wait_for(lambda: [e for e in self.i.events("--kind", "proc.exit") if e["pid"] == p.pid], 10, "the marker")[0]

    def ports_of(self, kind):
        """Ports of that kind's events of this process, local and peer."""
        return {int(e[side].rsplit(":", 1)[1]) for e in self.i.events("--kind", kind) for side in ("local", "peer") if e[side]}

    def settled_ports_of(self, kind):
        self.marker()
        # The marker is of another CPU's part of the ring, perhaps: the bulk ring is polled ten times a second.
        read = self.i.status()["telemetry"]
        wait_for(lambda: self.i.status()["telemetry"]["delivered"] >= read["generated"] - read["lost"], 10, "everything to be read")
        return self.ports_of(kind)

    def test_kind_is_switched_on_and_off_by_reload(self):
        self.start()
        before = self.closed_connection()
        self.assertNotIn(before, self.settled_ports_of("conn.closed"))
        r = self.reload(f"  kinds: [{DEFAULT}, conn.closed]\n")
        self.assertEqual(r.stdout, "configuration reloaded\n  telemetry.kinds: +conn.closed\n")
        during = self.closed_connection()
        wait_for(lambda: during in self.ports_of("conn.closed"), 10, "the closed connection")
        programs = self.i.status()["telemetry"]["programs"]
        r = self.reload("")
        self.assertEqual(r.stdout, "configuration reloaded\n  telemetry.kinds: -conn.closed\n")
        after = self.closed_connection()
        seen = self.settled_ports_of("conn.closed")
        self.assertIn(during, seen)
        self.assertNotIn(after, seen)
        self.assertEqual(self.i.status()["telemetry"]["programs"], programs)
        self.assertEqual(self.reload("").stdout, "configuration reloaded: nothing changed\n")

    def test_signal_reloads_as_the_command_does(self):
        self.start()
        self.write(f"  kinds: [{DEFAULT}, conn.closed]\n")
        os.kill(self.i.status()["watchdog"]["pid"], signal.SIGHUP)
        self.wait_log("launch", "configuration: telemetry.kinds: +conn.closed")
        port = self.closed_connection()
        wait_for(lambda: port in self.ports_of("conn.closed"), 10, "the closed connection")

    def test_bad_policy_is_refused_whole_with_file_and_line(self):
        self.start()
        self.reload(f"  kinds: [{DEFAULT}, conn.closed]\n")
        bad = (
            ("  kinds: [conn.failed]\n  ports: [443, 70000]\n", r"telemetry\.ports: expected a port from 1 to 65535, got '70000'"),
            ("  kinds: [conn.failed, conn.closd]\n", r"telemetry\.kinds: expected .*conn\.closed.*, got 'conn\.closd'"),
            ("  kinds: [conn.failed]\n  ports: [1]\n  ports_except: [2]\n", r"telemetry\.ports_except: expected either this or telemetry\.ports, got both"),
            ("  kinds: [conn.failed]\n  closed_one_in: 0\n", r"telemetry\.closed_one_in: expected "),
            ("  kinds: [conn.failed]\n  cgroups: [system.slice]\n", r"telemetry\.cgroups: expected an absolute path"),
        )
        for text, want in bad:
            r = self.reload(text, check=False)
            line = (self.good + "telemetry:\n" + text).count("\n")
            self.assertEqual((r.returncode, r.stdout), (1, ""), text)
            self.assertRegex(r.stderr, rf"^holdfast: config: config\.yml:{line}: {want}")
        # Only this kernel knows that it has no such reason.
        r = self.reload("  kinds: [conn.failed]\n  drop_reasons: [NO_SUCH_REASON]\n", check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("config.yml: telemetry: this kernel has no drop reason 'NO_SUCH_REASON'", r.stderr)
        # All of that said `kinds: [conn.failed]` as well, and nothing of it is in force.
        port = self.closed_connection()
        self.assertIn(port, self.settled_ports_of("conn.closed"))
        shown = json.loads(self.i.cli("config", "show", "--json").stdout)["telemetry"]
        self.assertIn("conn.closed", shown["kinds"])
        self.assertEqual((shown["ports"], shown["drop_reasons"]), ([], []))

    def test_ports_choose_connections_and_nothing_else(self):
        self.start()
        self.reload("  ports: [7001]\n")
        for port in (7001, 7002):
            self.refused_connection(port)
        seen = self.settled_ports_of("conn.failed")
        self.assertIn(7001, seen)
        self.assertNotIn(7002, seen)
        r = self.reload("  ports_except: [7003]\n")
        self.assertEqual(r.stdout, "configuration reloaded\n  telemetry.ports: -7001\n  telemetry.ports_except: +7003\n")
        for port in (7003, 7004):
            self.refused_connection(port)
        seen = self.settled_ports_of("conn.failed")
        self.assertIn(7004, seen)
        self.assertNotIn(7003, seen)

    def test_only_bad_exits_where_that_is_asked_for(self):
        self.start()
        r = self.reload("  exits: bad\n")
        self.assertEqual(r.stdout, "configuration reloaded\n  telemetry.exits: all -> bad\n")
        good = subprocess.Popen(["/bin/true"])
        good.wait(10)
        self.marker(5)
        self.assertEqual(self.i.events("--pid", str(good.pid)), [])

    def test_without_an_agent_the_kernel_records_by_it_all_the_same(self):
        self.start()
        self.i.cli("component", "stop", "agent")
        r = self.reload(f"  kinds: [{DEFAULT}, conn.closed]\n", check=False)
        self.assertEqual((r.returncode, r.stdout), (1, "configuration reloaded\n  telemetry.kinds: +conn.closed\n"))
        self.assertIn("it reads the file when it starts", r.stderr)
        port = self.closed_connection()
        self.i.cli("component", "start", "agent")
        wait_for(lambda: port in self.ports_of("conn.closed"), 10, "what was recorded meanwhile")

    def test_where_no_programs_are_a_bad_policy_is_refused_as_well(self):
        self.prepare()
        self.good = self.i.path("config.yml").read_text().replace("  netns: own\n", "  netns: own\n  mode: off\n")
        self.write("")
        self.i.start_endpoint()
        self.assertEqual(self.i.agent()["kernel_assist"], "off")
        r = self.reload("  units: [a/b]\n", check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("telemetry.units: expected a unit such as nginx.service, got 'a/b'", r.stderr)
        self.assertEqual(self.reload("  units: [a.service]\n").stdout, "configuration reloaded\n  telemetry.units: +a.service\n")

    def test_policy_outlives_the_watchdog(self):
        self.start()
        self.reload(f"  kinds: [{DEFAULT}, conn.closed]\n")
        pid = self.i.status()["watchdog"]["pid"]
        self.kill(pid)
        wait_for(lambda: self.i.status()["watchdog"].get("pid") not in (None, pid), 20, "a new watchdog")
        port = self.closed_connection()
        wait_for(lambda: port in self.ports_of("conn.closed"), 10, "the closed connection")


if __name__ == "__main__":
    main()
