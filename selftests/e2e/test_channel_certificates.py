# SPDX-License-Identifier: Apache-2.0
"""The endpoint's certificate over its life: renewed while online, given again after it ended, revoked."""

import datetime

from harness import InstanceTest, main, wait_for
from rawclient import Closed, Endpoint, Refused, WebSocket


def unix(text):
    return datetime.datetime.fromisoformat(text[:19] + "+00:00").timestamp()


def now():
    return datetime.datetime.now(datetime.timezone.utc).timestamp()


class Certificates(InstanceTest):
    portal_extra = "certificate_life_s: 12\nheartbeat_s: 5\n"

    def expires(self):
        return self.i.endpoint()["cert_expires"]

    def test_certificate_is_renewed_online_and_by_proof_of_the_key_after_its_end(self):
        before = self.start_online()
        given = self.expires()
        wait_for(lambda: self.expires() != given, 30, "a renewed certificate")
        self.wait_log("launch", "certificate renewed", 10)
        after = self.i.wait_online()
        self.assertEqual((after["session"]["epoch"], after["pid"]), (before["session"]["epoch"], before["pid"]))
        self.assertEqual(self.i.local_outages(), [])
        # Switched off until it has expired.
        self.i.stop_endpoint()
        name = self.i.endpoint()["id"]
        end = unix(self.expires())
        wait_for(lambda: now() > end + 1, 30, "the certificate to expire")
        self.i.start_endpoint()
        self.i.wait_online(30)
        self.assertIn("new certificate by proof of the key", self.log("launch"))
        self.assertEqual(self.i.endpoint()["id"], name)
        self.assertGreater(unix(self.expires()), end)

    def test_expired_certificate_opens_nothing_but_its_own_renewal(self):
        self.start_portal()
        token = self.i.create_token()["token"]
        ep = Endpoint(self.i, hostname="late").online(token)
        revoked = Endpoint(self.i, hostname="gone").online(token)
        self.i.api("POST", f"/endpoints/{revoked.id}/revoke")
        for e in (ep, revoked):
            e.close()
        end = max(unix(e["cert_expires"]) for e in self.i.endpoints())
        wait_for(lambda: now() > end + 1, 30, "the certificates to expire")
        # Without a request it learns why it is not let in.
        with self.assertRaises(Closed) as c:
            ep.open()
            while True:
                ep.receive()
        self.assertEqual((c.exception.code, c.exception.reason), (1008, "cert_expired"))
        # A request with another key is no proof.
        other = Endpoint(self.i)
        with self.assertRaises(Closed) as c:
            ep.open(csr=other.identity.csr())
            while True:
                ep.receive()
        self.assertEqual(c.exception.reason, "cert_expired")
        # Whoever was revoked stays out.
        with self.assertRaises(Refused) as r:
            WebSocket(self.i, identity=revoked.identity)
        self.assertEqual(r.exception.cause, "revoked")
        # With its own it comes back, as the same endpoint.
        ep.take_offer(ep.open(csr=ep.identity.csr()))
        ep.close()
        ep.open()
        self.assertEqual(ep.authorization, "authorized")
        self.assertEqual(len(self.i.endpoints()), 2)


class Revocation(InstanceTest):
    def test_revoked_endpoint_stays_out_over_a_restart_until_it_is_enrolled_anew(self):
        self.start_online()
        self.i.api("POST", f"/endpoints/{self.i.endpoint()['id']}/revoke")
        self.i.wait_state("revoked")
        self.i.stop_endpoint()
        self.i.start_endpoint()
        self.i.wait_state("revoked")
        self.i.cli("reset", "--yes")
        self.i.enroll()
        self.assertTrue(self.i.wait_state("online")["authorized"])


if __name__ == "__main__":
    main()
