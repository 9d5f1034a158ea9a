# SPDX-License-Identifier: Apache-2.0
"""The agent's OpenMetrics, read by somebody else's strict parser; and what packaging makes of them."""

import http.client
import json
import re
import socket
import stat
import subprocess
import time

from harness import ROOT, InstanceTest, main, skip, wait_for

try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
except ImportError:
    text_string_to_metric_families = None

NAME = re.compile(r"\bholdfast_[a-z0-9_]+")
PORT = 9464


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


class Metrics(InstanceTest):
    agent_extra = f"telemetry:\n  metrics_listen: 127.0.0.1:{PORT}\n"

    def setUp(self):
        super().setUp()
        if text_string_to_metric_families is None:
            skip("python3-prometheus-client is not installed")

    def local(self):
        return UnixConnection(str(self.i.path("run", "metrics.sock")))

    def scrape(self, connection=None):
        """{name: {labels: value}} as the parser of prometheus_client reads it."""
        c = connection or self.local()
        c.request("GET", "/metrics")
        r = c.getresponse()
        self.assertEqual(r.status, 200)
        self.assertEqual(r.getheader("Content-Type"), "application/openmetrics-text; version=1.0.0; charset=utf-8")
        text = r.read().decode("utf-8")
        c.close()
        values = {}
        for family in text_string_to_metric_families(text):
            for s in family.samples:
                values.setdefault(s.name, {})[tuple(sorted(s.labels.items()))] = s.value
        return values

    def value(self, values, name, **labels):
        return values.get(name, {}).get(tuple(sorted(labels.items())))

    def start(self):
        self.prepare()
        self.i.start_endpoint()
        wait_for(lambda: self.i.agent()["kernel_assist"] == "ebpf", 10, "the kernel's programs")

    def raw(self, data, address):
        """What comes back, until the other side closes."""
        with socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(address)
            s.sendall(data)
            got = b""
            while True:
                try:
                    more = s.recv(65536)
                except ConnectionResetError:
                    break
                if not more:
                    break
                got += more
        return got

    def test_what_happens_is_counted_and_parses_strictly(self):
        self.start_online()
        mode = self.i.path("run", "metrics.sock").stat().st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(mode & 0o777, 0o660)
        before = self.scrape()
        self.assertEqual(self.value(before, "holdfast_channel_up"), 1)
        self.assertEqual(self.value(before, "holdfast_agent_watchdog_connected"), 1)
        self.assertEqual(self.value(before, "holdfast_channel_state", holdfast_channel_state="online"), 1)
        self.assertEqual(self.value(before, "holdfast_channel_outages_total", cause="agent_killed"), 0)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            free = s.getsockname()[1]
        for _ in range(5):
            with socket.socket() as s:
                s.connect_ex(("127.0.0.1", free))
        wait_for(lambda: (self.value(self.scrape(), "holdfast_events_total", kind="conn.failed", reason="ECONNREFUSED") or 0) >= 5, 10,
                 "five refused connects")
        status = self.i.status()["telemetry"]
        now = self.scrape(http.client.HTTPConnection("127.0.0.1", PORT, timeout=10))
        self.assertGreaterEqual(self.value(now, "holdfast_kernel_records_generated_total"), status["generated"])
        self.assertEqual(self.value(now, "holdfast_kernel_records_lost_total"), 0)
        self.assertGreaterEqual(self.value(now, "holdfast_kernel_blind_seconds_total"), self.value(before, "holdfast_kernel_blind_seconds_total"))
        self.assertEqual({dict(k)["program"] for k in now["holdfast_kernel_program_attached"]}, {p["name"] for p in status["programs"]})
        self.assertGreater(self.value(now, "holdfast_agent_resident_memory_bytes"), 1 << 20)
        # The agent dies: its successor counts the outage, by the cause that `outages` shows, and its own restart.
        self.kill(self.i.agent()["pid"])
        self.i.wait_online()
        wait_for(lambda: self.value(self.scrape(), "holdfast_channel_outages_total", cause="agent_killed") == 1, 10, "the outage")
        after = self.scrape()
        self.assertGreater(self.value(after, "holdfast_channel_outage_seconds_total", cause="agent_killed"), 0)
        self.assertEqual(self.value(after, "holdfast_agent_restarts_total"), 1)

    def test_packaged_rules_and_dashboard_use_only_what_is_exported(self):
        self.start_online()
        subprocess.run(["/bin/sh", "-c", "exit 3"], check=False)  # an event there must be
        wait_for(lambda: "holdfast_events_total" in self.scrape(), 10, "an event")
        exported = set(self.scrape())
        rules = ROOT.joinpath("packaging/prometheus/holdfast.rules.yml").read_text()
        expressions = re.findall(r"(?m)^ +expr: (.+)$", rules)
        self.assertEqual(len(expressions), len(re.findall(r"(?m)^ +- alert: Holdfast\w+$", rules)))
        for want in ("summary", "description", "severity"):
            self.assertEqual(len(re.findall(rf"(?m)^ +{want}: \S", rules)), len(expressions), want)
        self.assertEqual(set(NAME.findall("\n".join(expressions))) - exported, set())
        board = json.loads(ROOT.joinpath("packaging/grafana/holdfast.json").read_text())
        used = [t["expr"] for p in board["panels"] for t in p.get("targets", [])]
        used += [a["expr"] for a in board["annotations"]["list"]] + [v.get("definition", "") for v in board["templating"]["list"]]
        self.assertGreater(len(used), 20)
        self.assertEqual(set(NAME.findall("\n".join(used))) - exported, set())
        places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
        self.assertEqual(len(places), len(set(places)))
        self.assertTrue(all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in board["panels"]))
        self.assertEqual(len({p["id"] for p in board["panels"]}), len(board["panels"]))
        # What the labels are asked for is what they may be.
        values = self.scrape()
        for label, value in re.findall(r'(\w+)="(off|oom_kills|resets_sent)"', rules):
            self.assertTrue(any((label, value) in k for n in values.values() for k in n), (label, value))

    def test_garbage_and_slow_readers_hinder_nobody(self):
        self.start()
        local = str(self.i.path("run", "metrics.sock"))
        for address in (local, ("127.0.0.1", PORT)):
            for data, want in ((b"\x00\xff" * 500 + b"\r\n\r\n", b"HTTP/1.1 400 "), (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 404 "),
                               (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20000, b"HTTP/1.1 431 ")):
                self.assertTrue(self.raw(data, address).startswith(want), (address, data[:20]))
        self.assertTrue(self.raw(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", ("127.0.0.1", PORT)).startswith(b"HTTP/1.1 421 "))
        slow = []
        for _ in range(30):
            s = socket.socket(socket.AF_UNIX)
            self.addCleanup(s.close)
            s.connect(local)
            s.sendall(b"GET /me")
            slow.append(s)
        self.assertGreaterEqual(self.value(self.scrape(), "holdfast_agent_scrapes_refused_total"), 20)
        # And those that stay are ended in time.
        begun = time.monotonic()
        slow[-1].settimeout(30)
        self.assertEqual(slow[-1].recv(1), b"")
        self.assertLess(time.monotonic() - begun, 20)
        # One that asks and does not read.
        with socket.socket(socket.AF_UNIX) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(local)
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(self.value(self.scrape(), "holdfast_agent_watchdog_connected"), 1)
        self.assertEqual(self.i.component()["state"], "running")

    def test_port_that_another_has_is_taken_once_it_is_free(self):
        self.prepare()
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", PORT))
            s.listen()
            self.i.start_endpoint()
            self.wait_log("launch", f"serve metrics at '127.0.0.1:{PORT}'")
            self.assertEqual(self.value(self.scrape(), "holdfast_agent_watchdog_connected"), 1)
        wait_for(lambda: self.scrape(http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)), 30, "the port")

    def test_address_that_is_not_the_loopbacks_is_refused(self):
        self.prepare()
        for address in ("0.0.0.0:9464", "[::]:9464", "127.evil.example:80"):
            self.i.path("bad.yml").write_text(f"telemetry:\n  metrics_listen: '{address}'\n")
            r = subprocess.run([str(self.i.bin / "holdfast"), "--dir", str(self.i.dir), "config", "check", str(self.i.path("bad.yml"))],
                               capture_output=True, text=True, timeout=20, check=False)
            self.assertEqual(r.returncode, 1)
            self.assertRegex(r.stderr, r"bad\.yml:2: telemetry\.metrics_listen: expected a loopback address")


if __name__ == "__main__":
    main()
