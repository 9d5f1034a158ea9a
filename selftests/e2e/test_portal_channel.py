# SPDX-License-Identifier: Apache-2.0
"""The portal's side of the channel: admission, enrolment, registration, presence, telemetry."""

import concurrent.futures
import datetime
import errno
import os
import signal
import socket
import struct
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from harness import InstanceTest, main, run, wait_for
from rawclient import Closed, Endpoint, Identity, Raw, Refused, WebSocket, first, message, parse


class PortalChannel(InstanceTest):
    def setUp(self):
        super().setUp()
        self.start_portal()

    def token(self, **kw):
        return self.i.create_token(**kw)["token"]

    def status(self, ep):
        return self.i.api("GET", f"/endpoints/{ep.id}")

    def wait_status(self, ep, status, deadline_s=5):
        return wait_for(lambda: (s := self.status(ep)) and s["status"] == status and s, deadline_s, f"status {status}")

    def refused(self, cause, status, **kw):
        with self.assertRaises(Refused) as r:
            WebSocket(self.i, **kw)
        self.assertEqual((r.exception.cause, r.exception.status), (cause, status))

    def closed(self, ep):
        with self.assertRaises(Closed) as c:
            while True:
                ep.receive()
        return c.exception.code, c.exception.reason

    # ---- enrolment

    def test_a_token_enrols_and_the_certificate_brings_the_endpoint_online(self):
        ep = Endpoint(self.i, hostname="web-1").online(self.token())
        self.assertEqual(ep.authorization, "authorized")
        s = self.wait_status(ep, "online")
        self.assertEqual((s["name"], s["authorized"], s["authorization"]), ("web-1", True, "authorized"))
        self.assertEqual((s["version"], s["os"], s["arch"], s["kernel_assist"]), ("9.9.9", "linux", "amd64", "ebpf"))
        self.assertEqual(s["epoch"], 2)
        self.assertLess(abs(s["clock_offset_ms"]), 2000)
        self.assertIsNotNone(s["cert_expires"])
        self.assertEqual(first(ep.welcome, 4), 20)

    def test_a_token_without_pre_authorization_leaves_the_endpoint_pending_until_approved(self):
        ep = Endpoint(self.i).online(self.token(pre_authorize=False))
        self.assertEqual(ep.authorization, "pending")
        self.assertEqual(self.status(ep)["status"], "pending")
        self.assertFalse(self.status(ep)["authorized"])
        self.i.api("POST", f"/endpoints/{ep.id}/authorize")
        self.assertEqual(first(ep.wait_custom("heartbeat_ack"), 4), b"authorized")
        self.assertEqual(self.status(ep)["status"], "online")
        self.i.api("POST", f"/endpoints/{ep.id}/suspend")
        self.assertEqual(first(ep.wait_custom("heartbeat_ack"), 4), b"suspended")
        self.assertEqual(self.status(ep)["status"], "suspended")

    def test_a_revoked_endpoint_is_closed_and_stays_out(self):
        ep = Endpoint(self.i).online(self.token())
        self.i.api("POST", f"/endpoints/{ep.id}/revoke")
        self.assertEqual(self.closed(ep), (1008, "revoked"))
        self.refused("revoked", 403, identity=ep.identity)
        self.assertEqual(self.status(ep)["status"], "revoked")
        self.assertEqual(self.i.request("POST", f"/api/v1/endpoints/{ep.id}/authorize")[0], 409)

    def test_a_deleted_endpoint_is_gone_and_stays_out(self):
        ep = Endpoint(self.i).online(self.token())
        self.assertEqual(self.i.request("DELETE", f"/api/v1/endpoints/{ep.id}")[0], 204)
        self.assertEqual(self.closed(ep), (1008, "revoked"))
        self.refused("revoked", 403, identity=ep.identity)
        self.assertEqual(self.i.endpoints(), [])

    def test_each_token_failure_has_its_own_code(self):
        self.refused("not_authorized", 401)
        self.refused("token_unknown", 401, token="nonsense")
        self.refused("token_unknown", 401, token="hfe_0123456789abcdef_" + "0" * 64)
        self.refused("token_unknown", 401, token=self.i.admin_token())
        t = self.i.create_token(ttl_s=1)
        wait_for(lambda: time.time() > 0 and self.i.api("GET", "/tokens")["items"][0]["state"] == "expired", 5, "expiry")
        self.refused("token_expired", 403, token=t["token"])
        t = self.i.create_token()
        self.i.request("DELETE", f"/api/v1/tokens/{t['id']}")
        self.refused("token_revoked", 403, token=t["token"])
        t = self.i.create_token(max_uses=1)
        Endpoint(self.i).online(t["token"])
        wait_for(lambda: self.refusal(t["token"]) == "token_exhausted", 5, "token_exhausted")

    def refusal(self, token):
        try:
            WebSocket(self.i, token=token).close()
        except Refused as r:
            return r.cause
        return None

    def test_racing_redeems_of_one_use_make_one_endpoint(self):
        token = self.token(max_uses=1)

        def redeem(n):
            ep = Endpoint(self.i, hostname=f"racer-{n}")
            try:
                ep.enroll(token)
                return "enrolled"
            except Refused as r:
                return r.cause
            except Closed as c:
                return c.reason
            except AttributeError:  # an error response instead of an offer
                return self.closed(ep)[1]
            except TypeError:
                return self.closed(ep)[1]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            results = sorted(pool.map(redeem, range(8)))
        self.assertEqual(results.count("enrolled"), 1, results)
        self.assertEqual(results.count("token_exhausted"), 7, results)
        self.assertEqual(len(self.i.endpoints()), 1)
        self.assertEqual(self.i.api("GET", "/tokens")["items"][0]["used"], 1)

    def test_the_same_key_again_is_the_same_endpoint_and_uses_nothing(self):
        token = self.token(max_uses=1)
        ep = Endpoint(self.i)
        ep.enroll(token)
        before = ep.id
        ep.close()
        ep.identity.certificate = None  # the answer got lost: it asks again
        ep.enroll(token)
        self.assertEqual(ep.id, before)
        self.assertEqual(self.i.api("GET", "/tokens")["items"][0]["used"], 1)
        self.assertEqual(len(self.i.endpoints()), 1)

    def test_expiry_of_its_token_does_not_touch_an_enrolled_endpoint(self):
        t = self.i.create_token(ttl_s=1)
        ep = Endpoint(self.i).online(t["token"])
        wait_for(lambda: self.i.api("GET", "/tokens")["items"][0]["state"] == "expired", 5, "expiry")
        ep.close()
        ep.open()
        self.assertEqual(ep.authorization, "authorized")

    def test_a_request_that_is_not_p256_or_not_signed_is_refused(self):
        token = self.token(max_uses=5)
        other = Identity()
        bad = other.csr()[:200] + b"AAAA" + other.csr()[204:]
        for csr in (Identity().rsa_csr(), bad, b"-----BEGIN", b"\xff" * 9000):
            ep = Endpoint(self.i)
            answer = ep.open(token=token, csr=csr)
            self.assertEqual(first(parse(first(answer, 2)), 1), 1)  # BadRequest
            self.assertEqual(self.closed(ep)[0], 1008)
        self.assertEqual(self.i.api("GET", "/tokens")["items"][0]["used"], 0)
        self.assertEqual(self.i.endpoints(), [])

    def test_the_certificate_carries_the_portals_identity_not_the_requests(self):
        ep = Endpoint(self.i)
        answer = ep.open(token=self.token(), csr=ep.identity.csr(common_name="00000000-0000-0000-0000-000000000000"))
        ep.take_offer(answer)
        cert = x509.load_pem_x509_certificate(ep.identity.certificate)
        self.assertEqual(cert.subject.rfc4514_string(), f"CN={ep.id}")

    def test_another_environment_is_refused_by_name(self):
        ep = Endpoint(self.i, environment="prod")
        answer = ep.open(token=self.token())
        self.assertEqual(first(parse(first(answer, 2)), 2), b"environment_mismatch")
        self.assertEqual(self.closed(ep), (1008, "environment_mismatch"))
        self.assertEqual(self.i.endpoints(), [])

    def forge(self, ep, issuer=None, key=None, start=-1, end=1):
        """A certificate for ep's id; by itself, or by an authority's name and key."""
        identity = Identity()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ep.id)])
        now = datetime.datetime.utcnow()
        identity.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer or name)
            .public_key(identity.key.public_key())
            .serial_number(1)
            .not_valid_before(now + datetime.timedelta(days=start))
            .not_valid_after(now + datetime.timedelta(days=end))
            .sign(key or identity.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )
        return identity

    def test_a_certificate_of_another_ca_is_refused(self):
        ep = Endpoint(self.i).online(self.token())
        self.refused("cert_untrusted", 403, identity=self.forge(ep))

    def test_an_expired_certificate_and_one_of_the_future_are_told_apart(self):
        ep = Endpoint(self.i).online(self.token())
        ca = x509.load_pem_x509_certificate(self.i.path("portal", "client-ca.pem").read_bytes())
        key = serialization.load_pem_private_key(self.i.path("portal", "client-ca.key").read_bytes(), None)
        self.refused("cert_expired", 403, identity=self.forge(ep, ca.subject, key, -100, -10))
        self.refused("cert_not_yet_valid", 403, identity=self.forge(ep, ca.subject, key, 10, 100))
        WebSocket(self.i, identity=self.forge(ep, ca.subject, key)).close()

    # ---- registration

    def test_a_newer_connection_takes_over_and_the_old_close_does_not_unregister_it(self):
        ep = Endpoint(self.i).online(self.token())
        old = ep.ws
        ep.open()
        with self.assertRaises(Closed) as c:
            while True:
                old.message()
        self.assertEqual((c.exception.code, c.exception.reason), (4001, "superseded"))
        old.close()
        self.assertEqual(first(ep.heartbeat(), 1), ep.epoch)
        self.assertEqual(self.status(ep)["status"], "online")
        self.assertEqual(first(ep.heartbeat(2), 2), 2)

    def test_an_older_connection_that_arrives_late_does_not_win(self):
        ep = Endpoint(self.i).online(self.token())
        good, epoch = ep.ws, ep.epoch
        ep.epoch = 0  # says 1
        with self.assertRaises(Closed) as c:
            ep.open()
        self.assertEqual(c.exception.code, 4001)
        ep.ws, ep.epoch = good, epoch
        self.assertEqual(first(ep.heartbeat(), 1), epoch)

    def held(self, ep):
        """The answer to the first message is a Hold; returns its fields."""
        answer = ep.open()
        error = parse(first(answer, 2))
        self.assertEqual((first(error, 1), first(error, 2)), (2, b"clone_detected"))
        hold = ep.custom_of(answer)
        self.assertEqual(hold[1], "hold")
        self.assertEqual(first(hold[2], 3), b"clone_detected")
        self.assertEqual(first(hold[2], 1) * 10**6, first(parse(first(error, 3)), 1))
        self.assertEqual(self.closed(ep), (1008, "clone_detected"))
        return hold[2]

    def audit(self, action):
        return [a for a in self.i.api("GET", "/audit")["items"] if a["action"] == action]

    def test_a_copy_on_another_machine_is_held_and_reported_until_an_operator_decides(self):
        ep = Endpoint(self.i, hostname="web-1").online(self.token())
        other = ep.copy(machine_id_hash=b"x" * 32, boot_id=b"y" * 16, run_id=b"z" * 16, hostname="web-1-copy")
        with ep.answering():
            hold = self.held(other)
            self.assertGreaterEqual(first(hold, 1), 300_000)
            self.held(other)
        s = self.status(ep)
        self.assertEqual((s["status"], s["reason"]), ("online", "clone_detected"))
        c = s["clone"]
        self.assertEqual((c["hostname"], c["address"], c["attempts"]), ("web-1-copy", "127.0.0.1", 2))
        self.assertEqual((c["machine_id_hash"], c["same_machine_id"]), ((b"x" * 32).hex(), False))
        self.assertEqual(len(self.audit("endpoint.clone_detected")), 1)
        self.assertIn("web-1-copy", self.audit("endpoint.clone_detected")[0]["detail"])
        # Neither the endpoint's absence nor a restart of the portal lets the copy in.
        ep.close()
        self.wait_status(ep, "reconnecting")
        self.held(other)
        self.i.kill_portal()
        self.i.start_portal()
        self.held(other)
        ep.open()
        self.assertEqual(self.status(ep)["reason"], "clone_detected")
        ep.close()
        self.wait_status(ep, "reconnecting")
        # The operator says which one it is by what comes next.
        s = self.i.api("POST", f"/endpoints/{ep.id}/authorize")
        self.assertIsNone(s["clone"])
        self.assertIn("quarantine of 'web-1-copy'", self.audit("endpoint.authorize")[0]["detail"])
        other.open()
        self.assertEqual((self.status(ep)["status"], self.status(ep)["reason"]), ("online", "connected"))

    def test_a_copied_process_of_the_same_kernel_is_a_clone(self):
        ep = Endpoint(self.i).online(self.token())
        other = ep.copy(run_id=b"z" * 16)
        with ep.answering():
            self.held(other)
        self.assertTrue(self.status(ep)["clone"]["same_machine_id"])
        self.assertEqual(first(ep.heartbeat(), 1), ep.epoch)

    def test_a_rebooted_host_is_not_a_clone(self):
        ep = Endpoint(self.i).online(self.token())
        booted = ep.copy(boot_id=b"y" * 16, run_id=b"z" * 16)
        # The old connection is there but nobody answers on it: the host lost power.
        booted.open()
        self.assertEqual(booted.authorization, "authorized")
        self.assertIn("does not answer", self.log("portal"))
        s = self.status(ep)
        self.assertEqual((s["status"], s["reason"], s["clone"]), ("online", "connected", None))
        with self.assertRaises(Closed) as c:
            while True:
                ep.ws.message()
        self.assertEqual(c.exception.code, 4001)
        self.assertEqual(first(booted.heartbeat(), 1), booted.epoch)

    def test_a_reset_of_the_old_connection_decides_at_once(self):
        ep = Endpoint(self.i).online(self.token())
        booted = ep.copy(boot_id=b"y" * 16, run_id=b"z" * 16)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(booted.open)
            ep.ws.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            ep.close()
            waiting.result(timeout=10)
        self.assertNotIn("does not answer", self.log("portal"))
        self.assertEqual(booted.authorization, "authorized")

    def test_a_reimaged_host_is_not_a_clone(self):
        ep = Endpoint(self.i).online(self.token())
        ep.close()
        self.wait_status(ep, "reconnecting")
        imaged = ep.copy(machine_id_hash=b"x" * 32, boot_id=b"y" * 16, run_id=b"z" * 16)
        imaged.open()
        s = self.status(ep)
        self.assertEqual((s["status"], s["reason"], s["clone"]), ("online", "connected", None))

    def test_heartbeats_are_answered_from_the_registry(self):
        ep = Endpoint(self.i).online(self.token())
        ack = ep.heartbeat(7)
        self.assertEqual((first(ack, 1), first(ack, 2), first(ack, 4)), (ep.epoch, 7, b"authorized"))
        self.assertLess(abs(first(ack, 3) - time.time_ns()), 5e9)

    # ---- leaving

    def test_a_goodbye_moves_the_status_at_once(self):
        token = self.token()
        for reason, status in (("agent_stopped", "offline"), ("host_shutdown", "powered_off"), ("agent_update", "updating")):
            ep = Endpoint(self.i, hostname=reason).online(token)
            ep.goodbye(reason)
            s = self.wait_status(ep, status, 2)
            self.assertEqual(s["reason"], reason)
            ep.close()
            ep.open()
            self.assertEqual(self.status(ep)["status"], "online")

    def test_a_lost_link_is_reconnecting(self):
        ep = Endpoint(self.i).online(self.token())
        ep.close()
        s = self.wait_status(ep, "reconnecting", 2)
        self.assertIn(s["reason"], ("link_lost", "peer_reset"))

    def test_disconnect_resets_the_connection_for_real(self):
        ep = Endpoint(self.i).online(self.token())
        r = self.i.api("POST", f"/endpoints/{ep.id}/disconnect", {"mode": "reset"})
        self.assertTrue(r["disconnected"])
        # Python's ssl turns a reset into an end of file, so the kernel is asked instead.
        wait_for(lambda: ep.ws.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET, 2, "ECONNRESET")
        s = self.wait_status(ep, "reconnecting", 2)
        self.assertEqual(s["reason"], "portal_disconnected")
        ep.close()
        ep.open()
        self.i.api("POST", f"/endpoints/{ep.id}/disconnect", {"mode": "close"})
        self.assertEqual(self.closed(ep)[0], 1012)
        self.assertEqual([a["action"] for a in self.i.api("GET", "/audit")["items"][:2]], ["endpoint.disconnect"] * 2)
        self.assertEqual(self.i.request("POST", f"/api/v1/endpoints/{ep.id}/disconnect", {"mode": "soft"})[0], 400)

    # ---- telemetry

    def test_telemetry_is_acknowledged_after_the_commit_and_stored_once(self):
        ep = Endpoint(self.i).online(self.token())
        now = time.time_ns()
        events = [(now + n, "proc.exit", 100 + n) for n in range(5)]
        ep.batch(3, 1, events)
        self.assertEqual(first(ep.wait_custom("ack"), 2), 5)
        ep.batch(3, 1, events)
        self.assertEqual(first(ep.wait_custom("ack"), 2), 5)
        ep.batch(3, 4, events[3:] + [(now + 9, "conn.reset_sent", 7)])
        self.assertEqual(first(ep.wait_custom("ack"), 2), 6)
        items = self.i.api("GET", f"/events?endpoint={ep.id}")["items"]
        self.assertEqual([e["pid"] for e in items], [7, 104, 103, 102, 101, 100])
        self.assertEqual([e["kind"] for e in items[:2]], ["conn.reset_sent", "proc.exit"])
        self.assertEqual([e["pid"] for e in self.i.api("GET", "/events?kind=conn.")["items"]], [7])
        page = self.i.api("GET", "/events?limit=4")
        rest = self.i.api("GET", f"/events?limit=4&after={page['next']}")
        self.assertEqual([e["pid"] for e in page["items"] + rest["items"]], [7, 104, 103, 102, 101, 100])
        self.assertIsNone(rest["next"])

    def test_positions_survive_kill_and_are_told_in_the_welcome(self):
        ep = Endpoint(self.i).online(self.token())
        ep.batch(3, 1, [(time.time_ns(), "proc.exit", 1)] * 3)
        self.assertEqual(first(ep.wait_custom("ack"), 2), 3)
        self.i.kill_portal()
        self.i.start_portal()
        ep.close()
        ep.streams = [(3, 1, 3)]
        ep.open()
        self.assertEqual(parse(first(ep.welcome, 8)), {1: [3], 2: [3]})

    def test_a_hole_is_not_acknowledged_and_a_gap_is(self):
        ep = Endpoint(self.i).online(self.token())
        one = [(time.time_ns(), "proc.exit", 1)]
        ep.batch(9, 1, one)
        self.assertEqual(first(ep.wait_custom("ack"), 2), 1)
        ep.batch(9, 3, one)
        self.assertEqual(first(ep.wait_custom("ack"), 2), 1)
        ep.batch(9, 2, one, gaps=[(3, 10)], last_seq=10)
        self.assertEqual(first(ep.wait_custom("ack"), 2), 10)

    def test_a_malformed_batch_is_refused_and_nothing_is_stored(self):
        ep = Endpoint(self.i).online(self.token())
        ep.send(custom=("io.holdfast.telemetry/1", "batch", message(f1=1, f2=5, f3=2, f6=1)))
        self.assertEqual(self.closed(ep)[0], 1007)
        self.assertEqual(self.i.api("GET", "/events")["items"], [])

    def test_telemetry_of_a_pending_endpoint_is_not_stored(self):
        ep = Endpoint(self.i).online(self.token(pre_authorize=False))
        ep.batch(1, 1, [(time.time_ns(), "proc.exit", 1)])
        ep.heartbeat()
        self.assertEqual(self.i.api("GET", "/events")["items"], [])

    def test_outages_are_stored_once_and_shown_as_the_last(self):
        ep = Endpoint(self.i).online(self.token())
        now = time.time_ns()
        oid = ep.outage("peer_reset", now - 4_000_000, now, detail="reset from 10.0.0.1")
        self.assertEqual(first(ep.wait_custom("outage_ack"), 1).decode(), oid)
        ep.outage("peer_reset", now - 4_000_000, now, outage_id=oid)
        ep.wait_custom("outage_ack")
        items = self.i.outages(ep.id)
        self.assertEqual(len(items), 1)
        self.assertEqual((items[0]["cause"], items[0]["detected_by"], items[0]["endpoint"]), ("peer_reset", "kernel", ep.id))
        last = self.status(ep)["last_outage"]
        self.assertEqual((last["cause"], last["detail"]), ("peer_reset", "reset from 10.0.0.1"))

    # ---- plain OpAMP agents

    def test_a_plain_opamp_agent_is_served(self):
        ep = Endpoint(self.i, hostname="plain", plain=True)
        answer = ep.open(token=self.token())
        settings = parse(first(parse(first(answer, 4)), 2))
        header = parse(first(parse(first(settings, 2)), 1))
        self.assertEqual(first(header, 1), b"Authorization")
        self.assertEqual(first(settings, 4), 20)
        self.assertEqual(first(answer, 7) & 0x61, 0x61)
        s = self.i.endpoint()
        self.assertEqual((s["name"], s["status"]), ("plain", "online"))
        # an answer to a message out of sequence asks for the whole state
        ep.send()
        self.assertEqual(first(ep.receive(), 6, 0), 0)
        ep.send(sequence=77)
        self.assertEqual(first(ep.receive(), 6, 0), 1)
        ep.send(sequence=77)
        self.assertEqual(first(ep.receive(), 6, 0), 0)
        # its own header admits it again
        ep.close()
        own = first(header, 2).decode().removeprefix("Bearer ")
        ep.open(token=own)
        self.assertEqual(self.i.endpoint()["status"], "online")
        ep.send(disconnect=True)
        wait_for(lambda: self.i.endpoint()["status"] == "offline", 3, "offline after AgentDisconnect")
        self.assertEqual(self.i.endpoint()["reason"], "agent_stopped")

    def test_a_plain_agent_gets_a_certificate_on_request(self):
        ep = Endpoint(self.i, plain=True)
        ep.open(token=self.token())
        ep.send(csr=ep.identity.csr())
        while not (answer := ep.receive()).get(4):
            pass
        ep.take_offer(answer)
        ep.close()
        ep.open()
        self.assertEqual(self.i.endpoint()["status"], "online")

    def test_a_second_plain_agent_of_one_image_is_an_endpoint_of_its_own(self):
        token = self.token()
        one = Endpoint(self.i, hostname="image", plain=True)
        one.open(token=token)
        two = one.copy()
        with one.answering():
            answer = two.open(token=token)
        given = first(parse(first(answer, 8)), 1)
        self.assertEqual((len(given), given[6] >> 4, given[8] >> 6), (16, 7, 2))  # a UUID of version 7
        two.uid = given
        two.send()
        self.assertIsNone(first(two.receive(), 2))
        self.assertEqual([e["status"] for e in self.i.endpoints()], ["online", "online"])
        self.assertEqual(len({e["instance_uid"] for e in self.i.endpoints()}), 2)
        one.send()
        self.assertEqual(first(one.receive(), 1), one.uid)

    def test_an_instance_uid_in_use_is_replaced_and_one_asked_for_is_given(self):
        token = self.token()
        one = Endpoint(self.i, hostname="one").online(token)
        two = Endpoint(self.i, hostname="two")
        two.uid = one.uid
        two.enroll(token)
        two.close()
        answer = two.open()
        given = first(parse(first(answer, 8)), 1)
        self.assertNotEqual(given, one.uid)
        self.assertEqual(self.status(two)["instance_uid"].replace("-", ""), given.hex())
        two.uid = given
        self.assertEqual(first(two.heartbeat(), 1), two.epoch)
        two.close()
        self.assertIsNone(first(two.open(), 8))
        answer = two.open(first_message={"flags": 1})
        self.assertNotEqual(first(parse(first(answer, 8)), 1), given)

    # ---- plain HTTP

    def poll(self, ep, token, kind="application/x-protobuf", **kw):
        """One POST; (status, parsed answer or problem)."""
        raw = Raw(self.i)
        try:
            body = ep.to_server(**kw)[1:]
            status, headers, answer = raw.request(
                "POST", "/v1/opamp", f"Authorization: Bearer {token}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n", body)
        finally:
            raw.close()
        if status != 200:
            return status, headers.get("holdfast-cause")
        self.assertEqual(headers["content-type"], "application/x-protobuf")
        return status, parse(answer)

    @staticmethod
    def own_header(answer):
        header = parse(first(parse(first(parse(first(parse(first(answer, 4)), 2)), 2)), 1))
        return first(header, 2).decode().removeprefix("Bearer ")

    def test_an_agent_that_polls_is_served(self):
        ep = Endpoint(self.i, hostname="poller", plain=True)
        status, answer = self.poll(ep, self.token(), description=True, health=ep.health(children={"pipeline": ep.health()}))
        self.assertEqual((status, first(answer, 1)), (200, ep.uid))
        own = self.own_header(answer)
        s = self.i.endpoint()
        self.assertEqual((s["name"], s["status"], s["components"][0]["name"]), ("poller", "online", "pipeline"))
        epoch = s["epoch"]
        _, answer = self.poll(ep, own)
        self.assertEqual(first(answer, 6, 0), 0)
        ep.sequence += 3
        _, answer = self.poll(ep, own)
        self.assertEqual(first(answer, 6, 0), 1)
        # What is to be said between two polls waits for the next.
        self.i.api("POST", f"/endpoints/{s['id']}/connection", {"heartbeat_s": 60})
        _, answer = self.poll(ep, own)
        self.assertEqual(first(parse(first(parse(first(answer, 4)), 2)), 4), 60)
        self.assertIsNone(first(self.poll(ep, own)[1], 4))
        self.assertEqual((self.i.endpoint()["status"], self.i.endpoint()["epoch"]), ("online", epoch))
        self.assertEqual(self.poll(ep, own, disconnect=True)[0], 200)
        self.assertEqual((self.i.endpoint()["status"], self.i.endpoint()["reason"]), ("offline", "agent_stopped"))
        self.assertEqual(self.poll(ep, own, description=True)[0], 200)
        self.assertEqual(self.i.endpoint()["status"], "online")

    def test_a_polling_agent_may_come_by_websocket_and_is_cut_and_revoked_like_any(self):
        ep = Endpoint(self.i, plain=True)
        own = self.own_header(self.poll(ep, self.token(), description=True)[1])
        eid = self.i.endpoint()["id"]
        self.assertTrue(self.i.api("POST", f"/endpoints/{eid}/disconnect", {"mode": "close"})["disconnected"])
        self.assertEqual(self.i.endpoint()["status"], "reconnecting")
        ep.open(token=own)
        self.assertEqual(self.i.endpoint()["status"], "online")
        ep.close()
        wait_for(lambda: self.i.endpoint()["status"] == "reconnecting", 5, "the loss")
        self.poll(ep, own, description=True)
        ep.open(token=own)  # while its polls still count: it takes over
        self.assertEqual(self.i.endpoint()["status"], "online")
        ep.close()
        wait_for(lambda: self.i.endpoint()["status"] == "reconnecting", 5, "the loss")
        self.poll(ep, own, description=True)
        self.i.api("POST", f"/endpoints/{eid}/revoke")
        self.assertEqual(self.poll(ep, own), (403, "revoked"))
        self.assertEqual(self.i.endpoint()["status"], "revoked")

    def test_bad_polls_are_refused(self):
        ep = Endpoint(self.i, plain=True)
        token = self.token()
        self.assertEqual(self.poll(ep, "hfe_0123456789abcdef_" + "0" * 64), (401, "token_unknown"))
        self.assertEqual(self.poll(ep, token, kind="application/json")[0], 415)
        ep.uid = b"short"
        status, answer = self.poll(ep, token)
        self.assertEqual((status, first(parse(first(answer, 2)), 1)), (200, 1))  # BadRequest
        ep.to_server = lambda: b"\0\xff\xff"
        self.assertEqual(self.poll(ep, token)[0], 400)
        self.assertEqual(self.i.endpoints(), [])

    # ---- state

    def test_the_health_tree_is_shown_as_components(self):
        ep = Endpoint(self.i).online(self.token())
        h = ep.health
        ep.send(health=h(False, "1 part failed", "degraded", {"pipeline": h(children={"receiver": h(False, "connection\x01refused")})}))
        ep.heartbeat()
        s = self.status(ep)
        self.assertEqual((s["health"]["healthy"], s["health"]["status"], s["health"]["last_error"]), (False, "degraded", "1 part failed"))
        (pipeline,) = s["components"]
        self.assertEqual((pipeline["name"], pipeline["healthy"]), ("pipeline", True))
        (receiver,) = pipeline["components"]
        self.assertEqual((receiver["name"], receiver["healthy"], receiver["last_error"]), ("receiver", False, "connection refused"))
        ep.heartbeat(2)  # says nothing of it: nothing changed
        self.assertEqual(self.status(ep)["components"], [pipeline])

    def test_a_health_bomb_is_cut(self):
        ep = Endpoint(self.i).online(self.token())
        h = ep.health
        ep.send(health=h(children={f"c{n}": h() for n in range(100)}))
        ep.heartbeat()
        self.assertEqual(len(self.status(ep)["components"]), 31)
        deep = h()
        for _ in range(100):
            deep = h(children={"x": deep})
        ep.send(health=deep)
        self.assertEqual(self.closed(ep)[0], 1007)

    def test_the_effective_configuration_is_kept_and_its_secrets_are_not(self):
        ep = Endpoint(self.i)
        ep.capabilities |= 4
        ep.online(self.token())
        path = f"/endpoints/{ep.id}/config"
        self.assertEqual(self.i.api("GET", path)["items"], [])
        ep.send(config={"config.yml": "environment: dev\nportal:\n  proxy: http://u:geheim@proxy:3128\n  token: geheim\n"})
        ep.heartbeat()
        (c,) = wait_for(lambda: self.i.api("GET", path)["items"], 5, "the configuration")
        self.assertEqual((c["name"], c["masked"]), ("config.yml", 2))
        self.assertEqual(c["body"], "environment: dev\nportal:\n  proxy: http://***@proxy:3128\n  token: ***\n")
        self.i.stop_portal()
        files = b"".join(f.read_bytes() for f in self.i.path("portal").glob("portal.db*"))
        self.assertIn(b"environment: dev", files)
        self.assertNotIn(b"geheim", files)
        self.i.start_portal()
        self.assertEqual(self.i.api("GET", path)["items"], [c])

    def test_a_gap_seen_in_telemetry_asks_for_the_full_state_with_the_next_answer(self):
        ep = Endpoint(self.i).online(self.token())
        ep.sequence += 5
        ep.batch(1, 1, [(time.time_ns(), "proc.exit", 1)])
        ep.wait_custom("ack")
        ep.send()
        self.assertEqual(first(ep.receive(), 6, 0), 1)
        ep.send(description=True)
        self.assertEqual(first(ep.receive(), 6, 0), 0)

    # ---- connection settings

    def offer_of(self, ep):
        """(hash, destination, heartbeat) of the next offer."""
        while not (offers := first(ep.receive(), 4)):
            pass
        offers = parse(offers)
        settings = parse(first(offers, 2))
        return first(offers, 1), first(settings, 1), first(settings, 4)

    def test_connection_settings_are_offered_and_what_became_of_them_is_shown(self):
        ep = Endpoint(self.i).online(self.token())
        path = f"/endpoints/{ep.id}/connection"
        url = "wss://portal.example:4320/v1/opamp"
        s = self.i.api("POST", path, {"heartbeat_s": 60, "destination": url})
        self.assertEqual((s["connection"]["state"], s["connection"]["heartbeat_s"]), ("sent", 60))
        digest, destination, heartbeat = self.offer_of(ep)
        self.assertEqual((destination.decode(), heartbeat), (url, 60))
        for number, state in ((2, "applying"), (1, "applied")):
            ep.send(settings_status=(digest, number, ""))
            wait_for(lambda state=state: self.status(ep)["connection"]["state"] == state, 5, state)
        # It survives a restart of the portal and is in the next welcome.
        self.i.kill_portal()
        self.i.start_portal()
        ep.close()
        ep.open()
        self.assertEqual(first(ep.welcome, 4), 60)
        self.assertEqual(self.status(ep)["connection"]["state"], "applied")
        # One that fails is told, and not offered for ever.
        self.i.api("POST", path, {"destination": url + "2"})
        digest, destination, heartbeat = self.offer_of(ep)
        self.assertIsNone(heartbeat)
        ep.send(settings_status=(b"x" * 32, 3, "of another offer"))
        ep.send(settings_status=(digest, 3, "no answer from there"))
        c = wait_for(lambda: (lambda c: c if c["state"] == "failed" else None)(self.status(ep)["connection"]), 5, "failed")
        self.assertEqual(c["error"], "no answer from there")
        ep.close()
        self.assertIsNone(first(ep.open(), 4))
        ep.heartbeat()
        self.assertIsNone(self.i.api("DELETE", path)["connection"])
        self.assertEqual(self.offer_of(ep)[2], 20)
        self.assertEqual(len(self.audit("endpoint.connection")), 3)

    def test_connection_settings_wait_for_an_endpoint_that_is_away(self):
        ep = Endpoint(self.i).online(self.token())
        ep.close()
        self.wait_status(ep, "reconnecting")
        s = self.i.api("POST", f"/endpoints/{ep.id}/connection", {"heartbeat_s": 30})
        self.assertEqual(s["connection"]["state"], "waiting")
        ep.open()
        self.assertEqual(self.offer_of(ep)[2], 30)

    def test_connection_settings_that_make_no_sense_are_refused(self):
        ep = Endpoint(self.i).online(self.token())
        for body in ({}, {"heartbeat_s": 1}, {"heartbeat_s": "60"}, {"heartbeat_s": 301}, {"destination": "ws://a"}, {"destination": "wss://u:p@a"}, {"destination": 7}):
            self.assertEqual(self.i.request("POST", f"/api/v1/endpoints/{ep.id}/connection", body)[0], 400, body)
        self.assertIsNone(self.status(ep)["connection"])

    # ---- restart

    def test_a_graceful_stop_says_1012_and_exits_0(self):
        ep = Endpoint(self.i).online(self.token())
        pid = self.i.pid_of("portal")
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(self.closed(ep)[0], 1012)
        ep.close()
        _, status = os.waitpid(pid, 0)
        del self.i.children["portal"]
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)
        self.i.start_portal()
        s = self.status(ep)
        self.assertEqual((s["status"], s["reason"]), ("reconnecting", "portal_restarted"))
        ep.open()
        self.assertEqual(self.status(ep)["status"], "online")


class Crowded(InstanceTest):
    portal_extra = "max_connections: 16\n"

    def test_who_finds_no_place_is_told_when_to_come_back(self):
        self.start_portal()
        token = self.i.create_token()["token"]
        eps = [Endpoint(self.i, hostname=f"h{n}") for n in range(16)]
        for ep in eps[:-1]:
            ep.online(token)
        with self.assertRaises(Refused) as r:
            eps[-1].online(token)
        self.assertEqual((r.exception.status, r.exception.cause), (503, "portal_overload"))
        self.assertGreaterEqual(int(r.exception.headers["retry-after"]), 10)
        eps[0].goodbye("agent_stopped")
        eps[0].close()
        wait_for(lambda: self.i.endpoints("?status=offline"), 5, "a free place")
        wait_for(lambda: eps[-1].online(token), 10, "the last one's turn")


class DiskFull(InstanceTest):
    def test_nothing_is_acknowledged_on_a_full_disk_and_all_of_it_later(self):
        self.prepare()
        portal = self.i.path("portal")
        kept = {p.name: p.read_bytes() for p in portal.iterdir()}
        run("mount", "-t", "tmpfs", "-o", f"size=8m,mode=0711,uid={portal.stat().st_uid},gid={portal.stat().st_gid}", "tmpfs", str(portal))
        self.addCleanup(run, "umount", "-l", str(portal))
        for name, data in kept.items():
            portal.joinpath(name).write_bytes(data)
        self.i.start_portal()
        ep = Endpoint(self.i).online(self.i.create_token()["token"])
        filler = portal.joinpath("filler")
        with filler.open("wb", buffering=0) as f, self.assertRaises(OSError):
            while True:
                f.write(b"x" * 65536)
        events = [(time.time_ns() + n, "proc.exit", n + 1) for n in range(2000)]
        ep.batch(1, 1, events)
        answer = ep.receive()
        while not answer.get(2):
            answer = ep.receive()
        error = parse(first(answer, 2))
        self.assertEqual(first(error, 1), 2)  # Unavailable
        self.assertGreater(first(parse(first(error, 3)), 1), 0)  # retry after
        self.assertEqual(self.i.request("GET", "/readyz", token=None)[0], 503)
        self.assertEqual(self.i.request("POST", "/api/v1/tokens", {})[0], 507)
        self.assertEqual(first(ep.heartbeat(), 1), ep.epoch)  # presence needs no disk
        filler.unlink()
        ep.batch(1, 1, events)
        self.assertEqual(first(ep.wait_custom("ack"), 2), 2000)
        self.assertEqual(self.i.request("GET", "/readyz", token=None)[0], 200)
        self.assertEqual(len(self.i.api("GET", "/events?limit=1000")["items"]), 1000)


class OfflineTime(InstanceTest):
    portal_env = {"AGENT_MAX_OFFLINE_TIME": "2", "TUNNEL_STATUS_CHECK_INTERVAL": "3600"}

    def test_offline_after_the_environments_limit_and_not_before(self):
        self.start_portal()
        ep = Endpoint(self.i).online(self.i.create_token()["token"])
        ep.close()
        lost = time.monotonic()

        def status(want):
            return lambda: self.i.api("GET", f"/endpoints/{ep.id}")["status"] == want

        wait_for(status("reconnecting"), 1, "reconnecting")
        wait_for(status("offline"), 4, "offline")
        took = time.monotonic() - lost
        self.assertGreaterEqual(took, 1.9)
        self.assertEqual(self.i.api("GET", f"/endpoints/{ep.id}")["reason"], "no_update")
        self.assertEqual(len(self.i.endpoints("?status=offline")), 1)
        self.assertEqual(self.i.endpoints("?status=online"), [])


if __name__ == "__main__":
    main()
