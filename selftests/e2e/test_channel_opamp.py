# SPDX-License-Identifier: Apache-2.0
"""The agent as an OpAMP agent, towards servers that are not Holdfast's."""

import os
import pathlib
import subprocess

from fakeserver import FakeServer, attributes, custom
from harness import InstanceTest, main, wait_for
from rawclient import first, message, parse

TOKEN = "any-server-token"
APPLIED, APPLYING, FAILED = 1, 2, 3


class OpampTest(InstanceTest):
    session = False
    more = ""

    def server(self, name="fake", **kw):
        kw.setdefault("session", self.session)
        s = FakeServer(pathlib.Path(self.tmp), name=name, **kw)
        s.__enter__()
        self.addCleanup(s.__exit__)
        return s

    def start(self, s):
        """The agent, enrolled at s; returns its connection."""
        self.prepare()
        c = self.i.path("config.yml")
        c.write_text(c.read_text().replace("  ca_file: portal/ca.pem\n", f"  ca_file: {s.ca_file}\n{self.more}").replace(f"wss://{self.i.host}:{self.i.port}/v1/opamp", s.url))
        self.i.start_endpoint()
        self.i.cli("enroll", "--portal", s.url, "--token", "-", input_text=TOKEN + "\n", timeout_s=30)
        self.i.wait_state("online")
        return s.connections[-1]


class Plain(OpampTest):
    agent_extra = "channel:\n  heartbeat_s: 5\n"
    more = "  proxy: http://someone:s3cret@127.0.0.1:1\n  no_proxy: [127.0.0.0/8]\n"

    def test_first_message_is_complete_and_later_ones_are_compressed(self):
        c = self.start(self.server())
        m = c.messages[0]
        self.assertEqual(c.headers["authorization"], f"Bearer {TOKEN}")
        self.assertEqual(len(first(m, 1)), 16)
        self.assertEqual(first(m, 1)[6] >> 4, 7, "the instance uid is no UUIDv7")
        self.assertEqual(first(m, 4), 0x1 | 0x4 | 0x100 | 0x400 | 0x800 | 0x2000 | 0x8000)
        a = attributes(m)
        self.assertEqual(a["service.name"], "holdfast-agent")
        self.assertEqual(a["os.type"], "linux")
        health = parse(first(m, 5))
        self.assertEqual(first(health, 1), 1)
        names = {first(parse(x), 1).decode() for x in health[6]}
        self.assertEqual(names, {"agent", "spool", "kernel", "watchdog"})
        yaml = first(parse(first(parse(first(parse(first(parse(first(m, 6)), 1)), 1)), 2)), 1).decode()
        self.assertIn("heartbeat_s: 5", yaml)
        self.assertNotIn("s3cret", yaml)
        # A heartbeat: nothing but the header, and the next number.
        beat = c.wait_message(lambda x: x is not m, 15, "a heartbeat")
        self.assertEqual((first(beat, 2), set(beat) - {1, 2, 4}), (first(m, 2) + 1, set()))

    def test_server_that_asks_gets_the_full_state(self):
        c = self.start(self.server())
        n = len(c.messages)
        c.send(f6=1)
        full = c.wait_message(lambda m: 3 in m and 5 in m and 6 in m and 12 in m, 10, "the full state", after=n)
        self.assertEqual(attributes(full)["service.name"], "holdfast-agent")

    def test_heartbeat_interval_is_the_servers(self):
        self.agent_extra = "channel:\n  heartbeat_s: 300\n"
        c = self.start(self.server())
        before = len(c.messages)
        c.send(f4=message(f1=b"hash-1", f2=message(f4=5)))
        c.wait_message(lambda m: first(parse(first(m, 15, b"")), 2) == APPLIED, 10, "the settings to be applied", after=before)
        wait_for(lambda: len(c.messages) >= before + 3, 15, "heartbeats each five seconds, not five minutes")

    def test_new_instance_uid_is_used_at_once_and_after_a_restart(self):
        s = self.server()
        c = self.start(s)
        uid = bytes(range(16))
        c.send(f8=message(f1=uid))
        c.wait_message(lambda m: first(m, 1) == uid, 15, "the new uid")
        # Who heard it hears no other, whatever happens.
        pid = self.i.agent()["pid"]
        self.kill(pid)
        wait_for(lambda: self.i.agent().get("pid") not in (None, pid), 20, "a new agent")
        self.assertEqual(first(s.wait_connection(2).messages[0], 1), uid)

    def test_clean_stop_says_agent_disconnect_and_closes(self):
        c = self.start(self.server())
        self.i.stop_endpoint()
        wait_for(lambda: c.ended, 5, "the connection to end")
        self.assertIn(9, c.messages[-1])
        self.assertEqual(c.close_code, 1000)

    def test_restart_command_restarts_the_agent(self):
        s = self.server()
        c = self.start(s)
        pid = self.i.agent()["pid"]
        c.send(f9=message(f1=0))
        wait_for(lambda: 9 in c.messages[-1], 10, "AgentDisconnect")
        wait_for(lambda: self.i.agent().get("pid") not in (None, pid), 20, "a new agent")
        s.wait_connection(2)

    def test_unavailable_with_a_time_is_waited_for(self):
        s = self.server()
        c = self.start(s)
        c.send(f2=message(f1=2, f2="full", f3=message(f1=2_000_000_000)))
        self.i.wait_state("held")
        s.wait_connection(2)
        self.i.wait_state("online")
        self.assertEqual(self.i.local_outages()[-1]["cause"], "portal_overload")


class Session(OpampTest):
    session = True

    def test_goodbye_with_the_reason_comes_before_agent_disconnect(self):
        s = self.server()
        c = self.start(s)
        # The enrolling connection was left in order as well.
        enrolling = s.wait_connection(1)
        self.assertIsNot(enrolling, c)
        wait_for(lambda: enrolling.ended, 5, "the enrolling connection to end")
        self.assertIn(9, enrolling.messages[-1])
        self.assertEqual(enrolling.close_code, 1000)
        self.i.stop_endpoint()
        wait_for(lambda: c.ended, 5, "the connection to end")
        kinds = [custom(m) for m in c.messages]
        bye = next(i for i, (k, _) in enumerate(kinds) if k == "goodbye")
        self.assertEqual(first(kinds[bye][1], 1), b"agent_stopped")
        self.assertIn(9, c.messages[bye + 1])

    def test_portal_that_forgot_the_connection_is_left(self):
        s = self.server()
        s.welcome = {"f4": 5}
        c = self.start(s)
        s.session = False  # heartbeats are no longer answered by the server itself
        m = c.wait_message(lambda m: custom(m)[0] == "heartbeat", 15, "a heartbeat")
        s.session = True
        c.custom("heartbeat_ack", message(f1=0, f2=first(custom(m)[1], 2), f4="authorized"))
        o = wait_for(lambda: next((o for o in self.i.local_outages() if o["restored"]), None), 15, "an outage that is over")
        self.assertEqual((o["cause"], o["detected_by"]), ("registry_lost", "heartbeat"), o)


class TooBig(OpampTest):
    session = True
    agent_extra = "telemetry:\n  max_events_per_s: 10000\n  burst: 100000\n"

    def test_batch_that_is_refused_with_1009_is_split_and_everything_arrives(self):
        s = self.server()
        s.answering = True
        self.start(s)
        s.batch_max = 4
        for _ in range(60):
            subprocess.run(["/bin/true"], check=True)
        wait_for(lambda: s.refused, 15, "a batch that is too big")

        def complete():
            t = self.i.status()["telemetry"]
            return t["spooled"] >= 60 and t["acked"] == t["spooled"]

        wait_for(complete, 90, "all of it to be acknowledged", interval_s=0.2)
        sizes = [b[3] for b in s.refused]
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        # Each number once, in order, per stream: nothing was given up on the way.
        for stream in {b[0] for b in s.batches}:
            expect = 1
            for _, low, high, records in (b for b in s.batches if b[0] == stream):
                self.assertEqual((low, records), (expect, high - low + 1))
                expect = high + 1


class Offers(OpampTest):
    """Settings are tried beside the present connection; the old ones go when the new ones work."""

    def offer(self, c, settings, digest=b"offer-1"):
        n = len(c.messages)
        c.send(f4=message(f1=digest, f2=settings))
        return n

    def status(self, c, want, after=0, deadline_s=20):
        def said(m):
            st = parse(first(m, 15, b""))
            return first(st, 2) == want
        return parse(first(c.wait_message(said, deadline_s, f"settings status {want}", after=after), 15))

    def test_better_server_is_moved_to_without_an_outage_and_over_a_restart(self):
        old, new = self.server("old"), self.server("new")
        c = self.start(old)
        connections = len(old.connections)
        n = self.offer(c, message(f1=new.url, f2=message(f1=[message(f1="Authorization", f2="Bearer other")]), f5=message(f1=new.ca_file.read_text())))
        self.status(c, APPLYING, n)
        d = new.wait_connection()
        self.assertEqual(d.headers["authorization"], "Bearer other")
        st = self.status(d, APPLIED)
        self.assertEqual(first(st, 1), b"offer-1")
        wait_for(lambda: c.ended, 10, "the old connection to be left")
        self.assertIn(9, c.messages[-1])
        # The new server was told everything.
        self.assertTrue({3, 5, 6} <= set(d.messages[0]))
        a = self.i.wait_state("online")
        self.assertEqual(a["endpoint"], new.url)
        self.assertEqual(self.i.local_outages(), [])
        self.kill(a["pid"])
        wait_for(lambda: self.i.agent().get("pid") not in (None, a["pid"]), 20, "a new agent")
        e = new.wait_connection(2)
        self.assertEqual(e.headers["authorization"], "Bearer other")
        self.assertEqual(len(old.connections), connections)

    def test_server_that_does_not_answer_changes_nothing_and_is_told_why(self):
        old = self.server("old")
        c = self.start(old)
        dead = self.server("dead")
        dead.refuse = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        before = self.i.agent()["session"]
        for i, (settings, why) in enumerate((
            (message(f1="wss://127.0.0.1:1/v1/opamp"), "portal_unreachable"),
            (message(f1=dead.url), "tls_intercepted|cert_untrusted"),
            (message(f1=dead.url, f5=message(f1=dead.ca_file.read_text())), "404"),
            (message(f1="ws://127.0.0.1:1/"), "wss://"),
            (message(f5=message(f3=1)), "verification"),
            (message(f2=message(f1=[message(f1="Host", f2="evil")])), "header 1"),
            (message(f2=message(f1=[message(f1="X", f2="a\r\nY: b")])), "header 1"),
            (message(f5=message(f1="no pem")), "PEM"),
        )):
            n = self.offer(c, settings, b"offer-%d" % i)
            st = self.status(c, FAILED, n)
            self.assertEqual(first(st, 1), b"offer-%d" % i)
            self.assertRegex(first(st, 3).decode(), why)
        after = self.i.wait_state("online")["session"]
        self.assertEqual((after["epoch"], after["peer"]), (before["epoch"], before["peer"]))
        self.assertEqual(self.i.local_outages(), [])
        self.assertFalse(list(self.i.path("state").rglob("settings")) if self.i.path("state").exists() else False)

    def test_old_server_is_the_fallback_when_the_new_one_goes_away(self):
        old, new = self.server("old"), self.server("new")
        c = self.start(old)
        self.offer(c, message(f1=new.url, f5=message(f1=new.ca_file.read_text())))
        self.status(new.wait_connection(), APPLIED)
        new.refuse = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
        new.connections[-1].reset()
        old.wait_connection(2, 40)
        self.i.wait_state("online", deadline_s=20)

    def test_administrator_who_changes_the_configuration_wins(self):
        old, new = self.server("old"), self.server("new")
        c = self.start(old)
        self.offer(c, message(f1=new.url, f5=message(f1=new.ca_file.read_text())))
        self.status(new.wait_connection(), APPLIED)
        path = self.i.path("config.yml")
        path.write_text(path.read_text().replace(old.url, old.url + "/2"))
        self.i.cli("config", "reload")
        old.wait_connection(2)
        self.assertEqual(self.i.agent()["endpoint"], old.url + "/2")


class WithThePortal(InstanceTest):
    """The same between Holdfast's own two ends: the new connection supersedes the old one there."""

    def test_endpoint_moves_to_the_address_that_the_portal_offers_or_says_why_not(self):
        self.prepare()
        p = self.i.path("portal", "portal.yml")
        p.write_text(p.read_text().replace('listen: ["127.0.0.1:4320"]', 'listen: ["127.0.0.1:4320", "127.0.0.2:4320"]'))
        self.i.start_portal()
        self.i.start_endpoint()
        self.i.enroll()
        before = self.i.wait_online()
        path = f"/endpoints/{self.i.endpoint()['id']}/connection"

        def state(want):
            return wait_for(lambda: next((c for c in [self.i.endpoint_detail()["connection"]] if c["state"] == want), None), 20, f"settings to be {want}")

        self.i.endpoint_detail = lambda: self.i.api("GET", path.rsplit("/", 1)[0])
        self.i.api("POST", path, {"destination": "wss://127.0.0.3:1/v1/opamp"})
        self.assertIn("portal_unreachable", state("failed")["error"])
        self.assertEqual(self.i.wait_online()["session"]["epoch"], before["session"]["epoch"])
        self.i.api("POST", path, {"destination": "wss://127.0.0.2:4320/v1/opamp", "heartbeat_s": 7})
        state("applied")
        after = self.i.wait_online()
        self.assertEqual(after["session"]["peer"], "127.0.0.2:4320")
        self.assertEqual(self.i.endpoint()["epoch"], after["session"]["epoch"])
        self.assertEqual(self.i.local_outages(), [])


if __name__ == "__main__":
    assert os.geteuid() == 0
    main()
