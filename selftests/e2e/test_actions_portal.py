# SPDX-License-Identifier: Apache-2.0
"""The portal's side of actions, with endpoints that say exactly what a test wants."""

import hashlib
import http.client
import os
import signal
import subprocess
import time

from harness import InstanceTest, main, wait_for
from rawclient import Closed, Endpoint, first, message, parse

ACTION = "io.holdfast.action/1"


class Actor(Endpoint):
    """An endpoint that does actions by hand."""

    def tell(self, kind, body):
        self.send(custom=(ACTION, kind, body))

    def state(self, ident, state, percent=0, text="", leaving=False):
        self.tell("state", message(f1=ident, f2=state, f3=percent or None, f4=text or None, f6=leaving or None))

    def result(self, ident, state="succeeded", reason=None, text=None, json=None, artifact=None):
        self.tell("result", message(f1=ident, f2=state, f3=reason, f4=text, f5=json, f6=time.time_ns(), f7=time.time_ns(),
                                    f8=artifact and len(artifact), f9=artifact and hashlib.sha256(artifact).digest()))

    def order(self):
        """The next action: (id, known, body)."""
        m = self.wait_custom("action")
        envelope = parse(first(m, 2))
        return first(m, 1).decode(), bool(first(m, 3)), parse(first(envelope, 1))

    def nothing(self, kind):
        """The portal answers a heartbeat, and had not said this before."""
        self.heartbeat(seq=int(time.time() * 1000) & 0xFFFFFFF)
        return kind not in [k for k, _ in self.custom]

    def again(self):
        """A new connection, as after a lost one."""
        self.ws.close()
        self.custom.clear()
        self.open()
        return self


class PortalActions(InstanceTest):
    def setUp(self):
        super().setUp()
        self.start_portal()

    def actor(self, **kw):
        return Actor(self.i).online(self.i.create_token(**kw)["token"])

    def ask(self, ep, kind="start", params=None, key=None, **kw):
        headers = {"Idempotency-Key": key} if key else None
        params = {"component": "agent"} if params is None and kind in ("start", "stop", "restart") else params or {}
        return self.i.api("POST", f"/endpoints/{ep.id}/actions", {"kind": kind, "params": params, **kw}, headers=headers)["id"]

    def get(self, ident):
        return self.i.api("GET", f"/actions/{ident}")

    def wait(self, ident, state, reason=None, deadline_s=10):
        def there():
            a = self.get(ident)
            return a if a["state"] == state and (reason is None or a["reason"] == reason) else None

        return wait_for(there, deadline_s, f"action {state} {reason or ''}")

    def restart_portal(self, how=signal.SIGKILL):
        self.i.kill_portal(how)
        self.i.start_portal()

    # ---- roles

    def portal_cli(self, *args, code=0):
        r = subprocess.run([str(self.i.bin / "holdfast-portal"), "--dir", str(self.i.dir), *args], capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(r.returncode, code, r)
        return r.stdout.strip()

    def test_a_viewer_looks_an_operator_acts_and_a_revoked_token_does_neither(self):
        for args in (("--role", "root", "x"), ("--role", "viewer", ""), ("--role", "viewer", "x\ny"), ("--role", "viewer", "x" * 64)):
            self.portal_cli("token", *args, code=1)
        self.portal_cli("token", "--role", "viewer", code=2)
        tokens = {role: self.portal_cli("token", "--role", role, f"the {role}") for role in ("viewer", "operator", "admin")}
        ep = self.actor()
        ident = self.ask(ep)

        def status(role, method, path, body=None):
            return self.i.request(method, f"/api/v1{path}", body, token=tokens[role])[0]

        actions, cancel = f"/endpoints/{ep.id}/actions", f"/actions/{ident}/cancel"
        body = {"kind": "start", "params": {"component": "agent"}}
        self.assertEqual([status("viewer", "GET", p) for p in (actions, f"/actions/{ident}", "/endpoints")], [200] * 3)
        self.assertEqual([status("viewer", "POST", p, b) for p, b in ((actions, body), (cancel, {}), ("/tokens", {}))], [403] * 3)
        self.assertEqual(status("viewer", "DELETE", f"/endpoints/{ep.id}"), 403)
        # What was refused has not happened.
        self.assertEqual([a["id"] for a in self.i.api("GET", actions)["items"]], [ident])
        self.assertNotEqual(self.get(ident)["state"], "cancelled")
        self.assertIn(status("operator", "POST", actions, body), (201, 202))
        self.assertIn(status("operator", "POST", cancel, {}), (200, 202))
        self.assertEqual(status("admin", "GET", "/audit"), 200)
        # Only the hash is kept; each of them is in the audit log.
        files = b"".join(p.read_bytes() for p in self.i.path("portal").glob("portal.db*"))
        self.assertTrue(files)
        for token in tokens.values():
            self.assertNotIn(token.split("_")[2].encode(), files)
        made = [a["object"] for a in self.i.api("GET", "/audit")["items"] if a["action"] == "api_token.create"]
        self.assertEqual(set(made), {t.split("_")[1] for t in tokens.values()})
        self.portal_cli("token", "revoke", tokens["operator"].split("_")[1])
        self.assertEqual([status(r, "GET", "/endpoints") for r in ("operator", "viewer")], [401, 200])

    # ---- delivery

    def test_an_action_is_signed_for_its_endpoint_and_followed_to_its_end(self):
        ep = self.actor()
        ident = self.ask(ep, "restart", delivery_ttl_s=90, idle_limit_s=7, hard_limit_s=70)
        got, known, body = ep.order()
        self.assertEqual((got, known), (ident, False))
        self.assertEqual((first(body, 1).decode(), first(body, 2).decode(), first(body, 3)), (ep.id, ident, b"restart"))
        self.assertEqual([(first(parse(p), 1), first(parse(p), 2)) for p in body[4]], [(b"component", b"agent")])
        self.assertEqual(first(body, 6) - first(body, 5), 90 * 10**9)
        self.assertEqual((first(body, 7), first(body, 8)), (7, 70))
        self.assertEqual(self.get(ident)["state"], "sent")
        ep.state(ident, "accepted")
        self.wait(ident, "accepted")
        ep.state(ident, "running", 40, "half way")
        self.assertEqual((self.wait(ident, "running")["progress"], self.get(ident)["text"]), (40, "half way"))
        ep.result(ident, json=b'{"pid": 12}', text="done")
        self.assertEqual(first(ep.wait_custom("result_ack"), 1).decode(), ident)
        a = self.get(ident)
        self.assertEqual((a["state"], a["progress"], a["result"], a["text"]), ("succeeded", 100, {"pid": 12}, "done"))
        self.assertEqual([h["state"] for h in a["history"]], ["queued", "sent", "accepted", "running", "succeeded"])
        self.assertEqual(self.i.api("GET", f"/endpoints/{ep.id}/actions")["items"][0]["id"], ident)
        self.assertIn("action.create", [x["action"] for x in self.i.api("GET", "/audit")["items"]])

    def test_disruptive_actions_go_one_by_one_and_a_scan_beside_them(self):
        ep = self.actor()
        a, b, s, c = self.ask(ep), self.ask(ep, "restart"), self.ask(ep, "scan"), self.ask(ep, "stop")
        self.assertEqual([ep.order()[0], ep.order()[0]], [a, s])
        self.assertTrue(ep.nothing("action"))
        self.assertEqual(self.get(b)["reason"], "waits for an earlier action")
        for ident, following in ((a, b), (b, c)):
            ep.state(ident, "running")
            ep.result(ident, "failed")
            self.assertEqual(ep.order()[0], following)
        self.wait(a, "failed")

    def test_only_authorized_endpoints_get_actions_within_their_time(self):
        ep = self.actor(pre_authorize=False)
        ident, short = self.ask(ep), self.ask(ep, "scan", delivery_ttl_s=1)
        self.assertEqual((self.get(ident)["state"], self.get(ident)["reason"]), ("queued", "blocked: not authorized"))
        self.wait(short, "expired")
        self.assertTrue(ep.nothing("action"))
        self.i.api("POST", f"/endpoints/{ep.id}/authorize")
        self.assertEqual(ep.order()[0], ident)
        ep.result(ident)
        self.wait(ident, "succeeded")
        self.i.api("POST", f"/endpoints/{ep.id}/suspend")
        ident = self.ask(ep)
        self.assertEqual(self.get(ident)["reason"], "blocked: not authorized")
        self.assertTrue(ep.nothing("action"))
        self.i.api("POST", f"/endpoints/{ep.id}/authorize")
        self.assertEqual(ep.order()[0], ident)
        self.i.api("POST", f"/endpoints/{ep.id}/revoke")
        self.assertEqual(self.i.request("POST", f"/api/v1/endpoints/{ep.id}/actions", {"kind": "scan"})[0], 409)
        self.assertEqual(self.get(ident)["state"], "sent")

    def test_an_offline_endpoint_gets_it_when_it_comes(self):
        ep = self.actor()
        ep.close()
        wait_for(lambda: self.i.endpoint()["status"] != "online", 10, "offline")
        ident = self.ask(ep)
        self.assertEqual(self.get(ident)["reason"], "waits for the endpoint to connect")
        ep.open()
        self.assertEqual(ep.order()[0], ident)

    def test_what_was_sent_ends_by_the_endpoints_word_only(self):
        ep = self.actor()
        ident = self.ask(ep, delivery_ttl_s=1)
        ep.order()
        self.wait(ident, "sent", "expired, but it may have arrived: waits for the endpoint's word")
        ep.again()
        self.assertEqual(ep.order()[:2], (ident, False))
        ep.result(ident, "expired", "expired")
        self.assertEqual(self.wait(ident, "expired")["reason"], "expired")

    # ---- lost words

    def test_a_lost_connection_is_asked_again_at_every_step(self):
        ep = self.actor()
        ident = self.ask(ep)
        self.assertEqual(ep.order()[:2], (ident, False))
        self.assertEqual(ep.again().order()[:2], (ident, False))
        ep.state(ident, "accepted")
        self.wait(ident, "accepted")
        self.assertEqual(ep.again().order()[:2], (ident, True))
        ep.state(ident, "running")
        self.wait(ident, "running")
        self.assertEqual(ep.again().order()[:2], (ident, True))
        ep.result(ident, json=b'{"n": 1}')
        self.wait(ident, "succeeded")
        # The confirmation was lost: the same result again, and twice, is confirmed and changes nothing.
        ep.again()
        for _ in range(2):
            ep.result(ident, json=b'{"n": 2}')
            self.assertEqual(first(ep.wait_custom("result_ack"), 1).decode(), ident)
        self.assertEqual(self.get(ident)["result"], {"n": 1})
        self.assertTrue(ep.nothing("action"))

    def test_a_killed_portal_knows_every_step_again(self):
        ep = self.actor(pre_authorize=False)
        ident = self.ask(ep)
        steps = (
            ("queued", lambda: None),
            ("sent", lambda: self.i.api("POST", f"/endpoints/{ep.id}/authorize") and ep.order()),
            ("accepted", lambda: ep.state(ident, "accepted")),
            ("running", lambda: ep.state(ident, "running", 5)),
        )
        for state, step in steps:
            step()
            self.wait(ident, state)
            # Memory shows it first; the kill must find it in the database.
            wait_for(lambda: self.history(ident)[-1] == state, 5, f"{state} in the history")
            self.restart_portal()
            self.assertEqual(self.get(ident)["state"], state)
            ep.again()
            if state != "queued":
                self.assertEqual(ep.order()[:2], (ident, state in ("accepted", "running")))
        ep.result(ident, json=b"{}")
        ep.wait_custom("result_ack")
        self.restart_portal()
        self.assertEqual(self.get(ident)["state"], "succeeded")
        ep.again().result(ident)
        ep.wait_custom("result_ack")
        self.assertEqual(self.history(ident).count("succeeded"), 1)

    def history(self, ident):
        return [h["state"] for h in self.get(ident)["history"]]

    def test_an_endpoint_that_lost_it_makes_it_indeterminate(self):
        ep = self.actor()
        ident, after = self.ask(ep), self.ask(ep, "restart")
        ep.order()
        ep.state(ident, "accepted")
        ep.again()
        self.assertEqual(ep.order()[:2], (ident, True))
        ep.state(ident, "unknown")
        self.assertEqual(self.wait(ident, "indeterminate")["reason"], "lost")
        self.assertEqual(ep.order()[0], after)
        # Sent and never acknowledged: it may be sent again.
        ep.state(after, "unknown")
        self.assertEqual(ep.order()[:2], (after, False))

    def test_a_stop_that_was_announced_is_done_when_the_agent_left(self):
        ep = self.actor()
        ident = self.ask(ep, "stop")
        ep.order()
        ep.state(ident, "running", 50, "comes back after 600 s", leaving=True)
        self.wait(ident, "running")
        ep.goodbye("agent_stopped")
        self.assertEqual(self.wait(ident, "succeeded")["text"], "comes back after 600 s")
        # Its own word counts more.
        ep.again().result(ident, "failed", text="somebody started it again")
        ep.wait_custom("result_ack")
        self.assertEqual(self.get(ident)["state"], "failed")

    def test_a_lost_link_is_no_announcement(self):
        ep = self.actor()
        ident = self.ask(ep, "stop")
        ep.order()
        ep.state(ident, "running", 50, "x", leaving=True)
        self.wait(ident, "running")
        ep.ws.tcp.close()
        ep.ws.close()
        wait_for(lambda: self.i.endpoint()["status"] != "online", 10, "the link to be lost")
        self.assertEqual(self.get(ident)["state"], "running")

    # ---- who says what

    def test_an_endpoint_speaks_of_its_own_actions_only(self):
        a, b = self.actor(), Actor(self.i, hostname="other").online(self.i.create_token(name="b")["token"])
        ident = self.ask(a)
        a.order()
        b.state(ident, "running")
        b.result(ident, "failed")
        self.assertEqual(first(b.wait_custom("result_ack"), 1).decode(), ident)  # so that it stops asking
        b.tell("artifact", message(f1=ident, f2=4, f4=b"evil", f5=bytes(32)))
        self.assertTrue(b.nothing("artifact_ack"))
        self.assertEqual(self.get(ident)["state"], "sent")

    def test_nonsense_of_an_endpoint_changes_nothing(self):
        ep = self.actor()
        ident = self.ask(ep)
        ep.order()
        for state in ("queued", "sent", "exploded", ""):
            ep.state(ident, state)
            ep.result(ident, state)
        ep.state("x", "running")
        ep.result("x")
        self.assertTrue(ep.nothing("result_ack"))
        self.assertEqual(self.get(ident)["state"], "sent")
        ep.state(ident, "running", 4000000000, "\x1b[31m")
        self.assertEqual(self.wait(ident, "running")["progress"], 100)
        ep.result(ident, json=b"[1, 2")
        self.wait(ident, "succeeded")
        self.assertIsNone(self.get(ident)["result"])
        ep.tell("state", b"\xff\xff")
        with self.assertRaises(Closed) as c:
            while True:
                ep.receive()
        self.assertEqual(c.exception.code, 1007)

    # ---- cancelling

    def test_cancelling_ends_what_waits_and_asks_what_was_sent(self):
        ep = self.actor()
        a, b = self.ask(ep), self.ask(ep)
        ep.order()
        self.assertEqual(self.i.api("POST", f"/actions/{b}/cancel")["state"], "cancelled")
        self.wait(b, "cancelled")
        self.assertTrue(self.i.api("POST", f"/actions/{a}/cancel")["cancel_requested"])
        self.assertEqual(first(ep.wait_custom("cancel"), 1).decode(), a)
        # Lost on the way: it is asked again behind the action.
        ep.again()
        self.assertEqual(ep.order()[0], a)
        self.assertEqual(first(ep.wait_custom("cancel"), 1).decode(), a)
        ep.result(a, "cancelled")
        self.wait(a, "cancelled")
        self.assertEqual(self.i.request("POST", f"/api/v1/actions/{a}/cancel")[0], 409)
        # The completion was first.
        c = self.ask(ep)
        ep.order()
        ep.state(c, "running")
        self.i.api("POST", f"/actions/{c}/cancel")
        ep.result(c, "succeeded")
        self.wait(c, "succeeded")

    def test_a_deleted_endpoint_takes_its_actions_along(self):
        ep = self.actor()
        ident = self.ask(ep)
        ep.order()
        self.assertEqual(self.i.request("DELETE", f"/api/v1/endpoints/{ep.id}")[0], 204)
        self.assertEqual(self.wait(ident, "cancelled")["reason"], "the endpoint was deleted")

    # ---- asking

    def test_a_repeated_request_is_the_first_action(self):
        ep = self.actor()
        first_one = self.ask(ep, key="click-1")
        self.assertEqual(self.ask(ep, key="click-1"), first_one)
        self.assertNotEqual(self.ask(ep, key="click-2"), first_one)
        ep.order()
        ep.result(first_one)
        self.wait(first_one, "succeeded")
        self.restart_portal()
        self.assertEqual(self.ask(ep, key="click-1"), first_one)
        self.assertEqual(len(self.i.api("GET", f"/endpoints/{ep.id}/actions")["items"]), 2)

    def test_bad_requests_are_named(self):
        ep = self.actor()
        path = f"/api/v1/endpoints/{ep.id}/actions"
        for body, status in (
            ({}, 400),
            ({"kind": "format-disk"}, 400),
            ({"kind": 7}, 400),
            ({"kind": "restart"}, 400),
            ({"kind": "restart", "params": []}, 400),
            ({"kind": "restart", "params": {"component": 7}}, 400),
            ({"kind": "scan", "params": {"a": {"b": 1}}}, 400),
            ({"kind": "scan", "params": {"Bad-Name": 1}}, 400),
            ({"kind": "scan", "params": {"a": None}}, 400),
            ({"kind": "scan", "params": {"a": "x\ny"}}, 400),
            ({"kind": "scan", "params": {"a": "x" * 513}}, 400),
            ({"kind": "scan", "params": {"a": ["x"] * 33}}, 400),
            ({"kind": "scan", "params": {"a": ["x" * 512] * 5}}, 400),
            ({"kind": "scan", "params": {"a": "x" * 5000}}, 413),
            ({"kind": "scan", "delivery_ttl_s": 0}, 400),
            ({"kind": "scan", "delivery_ttl_s": 604801}, 400),
            ({"kind": "scan", "idle_limit_s": "1"}, 400),
            ({"kind": "scan", "hard_limit_s": -1}, 400),
        ):
            self.assertEqual(self.i.request("POST", path, body)[0], status, body)
        self.assertEqual(self.i.request("POST", path, {"kind": "scan"}, headers={"Idempotency-Key": "k" * 200})[0], 400)
        self.assertEqual(self.i.request("POST", "/api/v1/endpoints/none/actions", {"kind": "scan"})[0], 404)
        self.assertEqual(self.i.request("GET", "/api/v1/actions/none")[0], 404)
        self.assertEqual(self.i.request("POST", path, {"kind": "scan"}, token="hfa_none")[0], 401)
        self.assertTrue(ep.nothing("action"))
        self.ask(ep, "scan", {"paths": ["/etc", "/usr/bin"], "n": 3, "accept_baseline": True})
        params = [(first(parse(p), 1), first(parse(p), 2)) for p in ep.order()[2][4]]
        self.assertEqual(params, [(b"paths", b"/etc"), (b"paths", b"/usr/bin"), (b"n", b"3"), (b"accept_baseline", b"true")])

    def test_a_queue_has_an_end(self):
        ep = self.actor(pre_authorize=False)
        for _ in range(64):
            self.ask(ep, "scan")
        self.assertEqual(self.i.request("POST", f"/api/v1/endpoints/{ep.id}/actions", {"kind": "scan"})[0], 429)

    def test_progress_is_on_the_event_stream(self):
        ep = self.actor()
        conn = http.client.HTTPSConnection(self.i.host, self.i.port, context=self.i.tls_context(), timeout=10)
        conn.request("GET", "/api/v1/stream", headers={"Authorization": f"Bearer {self.i.admin_token()}"})
        stream = conn.getresponse()
        ident = self.ask(ep)
        ep.order()
        ep.state(ident, "running", 33, "almost")
        ep.result(ident)
        seen = []
        while not any('"succeeded"' in s for s in seen):
            line = stream.readline().decode()
            if line.startswith("data:") and ident in line:
                seen.append(line)
        self.assertTrue(any('"progress":33' in s and '"running"' in s for s in seen), seen)
        conn.close()

    # ---- keys

    def test_a_rotation_is_told_at_once_and_signs_again_what_was_not_taken(self):
        ep = self.actor()
        ident = self.ask(ep)
        old = first(ep.order()[2], 9)
        before = self.i.api("GET", "/action-key")
        self.assertEqual((before["id"], before["keys"]), (old.hex(), 1))
        cli = [str(self.i.bin / "holdfast-portal"), "--dir", str(self.i.dir), "rotate-action-key"]
        new = subprocess.run(cli, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        keys = ep.wait_custom("keys")
        self.assertEqual(len(keys[2]), 2)
        again = ep.order()
        self.assertEqual((again[0], first(again[2], 9).hex()), (ident, new))
        self.assertEqual(self.i.api("POST", "/action-key/rotate")["keys"], 3)
        self.assertEqual(len(ep.wait_custom("keys")[2]), 3)
        self.restart_portal()
        ep.again()
        self.assertEqual(len(parse(first(ep.welcome, 12))[2]), 3)

    # ---- archives

    def upload(self, ep, ident, data, chunk=100000, until=None):
        offset, digest = None, hashlib.sha256(data).digest()
        while True:
            piece = b"" if offset is None else data[offset : offset + chunk]
            ep.tell("artifact", message(f1=ident, f2=len(data), f3=offset or None, f4=piece or None, f5=digest))
            ack = ep.wait_custom("artifact_ack")
            offset = first(ack, 2, 0)
            if first(ack, 3) or first(ack, 4) or (until and offset >= until):
                return ack

    def test_an_archive_comes_in_chunks_and_goes_on_where_it_was(self):
        ep = self.actor()
        ident = self.ask(ep, "collect")
        ep.order()
        data = os.urandom(450000)
        self.assertEqual(first(self.upload(ep, ident, data, until=200000), 2), 200000)
        ep.again()
        ep.order()
        self.upload(ep, ident, data, until=300000)
        self.restart_portal()
        ep.again()
        ep.order()
        ep.tell("artifact", message(f1=ident, f2=len(data), f5=hashlib.sha256(data).digest()))
        self.assertEqual(first(ep.wait_custom("artifact_ack"), 2), 300000)
        self.assertTrue(first(self.upload(ep, ident, data), 3))
        ep.result(ident, json=b"{}", artifact=data)
        self.wait(ident, "succeeded")
        a = self.get(ident)["artifact"]
        self.assertEqual((a["bytes"], a["sha256"]), (len(data), hashlib.sha256(data).hexdigest()))
        self.assertEqual(self.download(a["url"]), data)
        self.assertEqual(self.i.request("GET", f"/api/v1/actions/{self.ask(ep)}/artifact")[0], 404)

    def download(self, path):
        conn = http.client.HTTPSConnection(self.i.host, self.i.port, context=self.i.tls_context(), timeout=20)
        conn.request("GET", path, headers={"Authorization": f"Bearer {self.i.admin_token()}"})
        try:
            return conn.getresponse().read()
        finally:
            conn.close()

    def test_an_archive_that_is_not_what_it_says_is_refused(self):
        ep = self.actor()
        ident = self.ask(ep, "collect")
        ep.order()
        ep.tell("artifact", message(f1=ident, f2=5, f4=b"hello", f5=bytes(32)))
        self.assertIn(b"digest", first(ep.wait_custom("artifact_ack"), 4))
        for total in (0, 1 << 40):
            ep.tell("artifact", message(f1=ident, f2=total or None, f4=b"x", f5=bytes(32)))
            self.assertTrue(first(ep.wait_custom("artifact_ack"), 4))
        # Out of order: it is told where to go on.
        ep.tell("artifact", message(f1=ident, f2=50, f3=30, f4=b"late", f5=bytes(32)))
        ack = ep.wait_custom("artifact_ack")
        self.assertEqual((first(ack, 2, 0), first(ack, 4)), (0, None))
        ep.result(ident, "failed")
        self.wait(ident, "failed")
        self.assertIsNone(self.get(ident)["artifact"])


if __name__ == "__main__":
    main()
