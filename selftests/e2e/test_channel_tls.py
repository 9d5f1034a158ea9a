# SPDX-License-Identifier: Apache-2.0
"""TLS of the channel: resumption over abrupt ends, pins with a backup, what is refused and why."""

import base64
import hashlib
import signal

from badportal import BadPortal
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from harness import InstanceTest, main, wait_for


def pin_of(pem):
    key = x509.load_pem_x509_certificate(pem).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256/" + base64.b64encode(hashlib.sha256(spki).digest()).decode()


NOBODY = "sha256/" + base64.b64encode(bytes(32)).decode()


class Resumption(InstanceTest):
    def lose(self, how):
        before = self.i.wait_online()["session"]["epoch"]
        how()
        return wait_for(lambda: next((a for a in [self.i.agent()] if (a.get("session") or {"epoch": 0})["epoch"] > before), None), 40, "a new session")

    def test_handshakes_after_the_first_two_are_resumed_and_the_rate_is_shown(self):
        a = self.start_online()
        # One with the token, one with the certificate: neither has a ticket.
        self.assertEqual((a["tls_handshakes"], a["tls_resumed"]), (2, 0))
        endpoint = self.i.endpoint()["id"]
        for _ in range(5):
            a = self.lose(lambda: self.i.api("POST", f"/endpoints/{endpoint}/disconnect", {"mode": "reset"}))
            self.assertTrue(a["session"]["tls_resumed"])
        self.assertEqual((a["tls_handshakes"], a["tls_resumed"]), (7, 5))
        self.assertIn("5 of 7 handshakes resumed", self.i.cli("status").stdout)
        self.assertTrue(all(o["attempts"][-1]["tls_resumed"] for o in self.i.local_outages()))
        # The portal's keys and the agent's ticket outlive them both.
        wait_for(lambda: list(self.i.dir.rglob("ticket")), 10, "the ticket to be stored")
        def both():
            self.i.kill_portal()
            self.kill(a["pid"], signal.SIGKILL)
            self.i.start_portal()
        a = self.lose(both)
        self.assertTrue(a["session"]["tls_resumed"], a)


class Pins(InstanceTest):
    def start_pinned(self, *pins):
        self.start_portal()
        ca = self.i.path("portal", "ca.pem").read_bytes()
        leaf = self.i.path("portal", "server.pem").read_bytes()
        pins = [{"ca": pin_of(ca), "leaf": pin_of(leaf)}.get(p, p) for p in pins]
        c = self.i.path("config.yml")
        c.write_text(c.read_text().replace("portal:\n", f"portal:\n  pins: [{', '.join(pins)}]\n", 1))
        self.i.start_endpoint()

    def test_backup_pin_carries_when_the_first_matches_nobody(self):
        self.start_pinned(NOBODY, "ca")
        self.i.enroll()
        self.i.wait_online()

    def refused(self):
        token = self.i.create_token()["token"]
        r = self.i.cli("enroll", "--portal", f"wss://127.0.0.1:{self.i.port}/v1/opamp", "--token", "-", input_text=token + "\n", check=False, timeout_s=40)
        self.assertNotEqual(r.returncode, 0)
        return r.stderr

    def test_pins_that_match_nobody_refuse_and_name_the_issuer(self):
        self.start_pinned(NOBODY)
        self.assertRegex(self.refused(), "cert_untrusted.*issued by 'Holdfast portal CA.*no configured pin matches")

    def test_pin_of_the_leaf_is_none(self):
        self.start_pinned("leaf")
        self.assertRegex(self.refused(), "no configured pin matches")


class Refused(InstanceTest):
    def reason(self, fault):
        with BadPortal(self.tmp, fault) as p:
            self.prepare()
            c = self.i.path("config.yml")
            c.write_text(c.read_text().replace("portal/ca.pem", str(p.ca_file)))
            self.i.start_endpoint()
            r = self.i.cli("enroll", "--portal", f"wss://127.0.0.1:{p.port}/v1/opamp", "--token", "-", input_text="x\n", check=False, timeout_s=40)
            self.assertNotEqual(r.returncode, 0)
            return r.stderr

    def test_interception_is_named_with_the_intercepting_issuer(self):
        self.assertRegex(self.reason("wrong_ca"), "tls_intercepted.*issued by 'ACME Web Gateway', expected 'Test CA'")

    def test_sha1_signature_is_refused_with_the_reason(self):
        self.assertRegex(self.reason("sha1_signature"), "weak_crypto.*digest algorithm too weak")

    def test_short_key_is_refused_with_the_reason(self):
        self.assertRegex(self.reason("weak_key"), "weak_crypto.*key too (small|weak)")

    def test_old_protocol_is_refused_with_the_reason(self):
        self.assertRegex(self.reason("tls11"), "weak_crypto|protocol")


if __name__ == "__main__":
    main()
