# SPDX-License-Identifier: Apache-2.0
"""Against OpenTelemetry's own OpAMP library (opamp-go): its server with our agent, its clients with our portal."""

import json
import os
import pathlib
import subprocess
import sys
import threading
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from harness import InstanceTest, main, wait_for  # noqa: E402

PEER = os.environ["HOLDFAST_INTEROP_PEER"]


class Peer:
    def __init__(self, *args):
        self.p = subprocess.Popen([PEER, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.p.stdout:
            self.lines.append(json.loads(line))

    def say(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()

    def wait(self, event, after=0, deadline_s=20, **want):
        """The next such line behind the first `after` ones."""
        return wait_for(
            lambda: next((x for x in self.lines[after:] if x["event"] == event and all(x.get(k) == v for k, v in want.items())), None),
            deadline_s, f"{event} {want}")

    def stop(self):
        self.p.kill()
        self.p.wait(10)
        self.reader.join(5)
        self.p.stdin.close()
        self.p.stdout.close()


class OurAgent(InstanceTest):
    """Our agent and a server that knows OpAMP and nothing of us."""

    def setUp(self):
        super().setUp()
        self.prepare()
        ca = self.i.path("portal", "ca.pem")
        self.peer = Peer("server", f"{self.i.host}:{self.i.port}", ca)
        self.addCleanup(lambda: self.peer.stop())
        self.peer.wait("ready")
        self.i.start_endpoint()

    def test_it_enrols_by_a_certificate_request_and_is_a_plain_correct_agent(self):
        self.i.enroll("made-up-token")
        self.assertEqual(self.peer.wait("connecting")["authorization"], "Bearer made-up-token")
        m = self.peer.wait("message", certificate="interop endpoint")
        self.assertTrue(m["described"])
        self.assertEqual((m["service.name"], m["healthy"]), ("holdfast-agent", True))
        self.i.wait_state("online")
        # Its number goes up by one, and a full state comes when it is asked for.
        n = len(self.peer.lines)
        self.peer.say("fullstate")
        full = self.peer.wait("message", n, described=True)
        self.assertEqual(full["config"], ["config.yml"])
        # An interval from the server is kept: heartbeats come without being asked for.
        n = len(self.peer.lines)
        self.peer.say("heartbeat 5")
        one = self.peer.wait("message", n, described=False, custom="", deadline_s=30)
        n = self.peer.lines.index(one) + 1
        two = self.peer.wait("message", n, described=False, custom="", deadline_s=30)
        self.assertEqual(two["sequence"], one["sequence"] + 1)
        # A new uid is used from then on.
        fresh = uuid.uuid4().hex
        self.peer.say(f"uid {fresh}")
        self.peer.wait("message", len(self.peer.lines), uid=fresh, deadline_s=30)
        # It says goodbye the protocol's way.
        n = len(self.peer.lines)
        self.i.stop_endpoint()
        self.peer.wait("message", n, disconnect=True)
        self.assertEqual([x for x in self.peer.lines if x["event"] == "malformed" and "1006" not in x["error"]], [])

    def test_a_server_that_goes_is_found_again(self):
        self.i.enroll("made-up-token")
        self.i.wait_state("online")
        self.peer.stop()
        self.i.wait_state("backoff", "connecting")
        self.peer = Peer("server", f"{self.i.host}:{self.i.port}", self.i.path("portal", "ca2.pem"))
        self.peer.wait("ready")
        # Another CA under the same address: it is not trusted, and it is said why.
        wait_for(lambda: "cert_untrusted" in self.log("launch") or "tls_intercepted" in self.log("launch"), 30, "the reason")


class OurPortal(InstanceTest):
    def start_client(self, scheme, token, uid):
        peer = Peer("client", f"{scheme}://{self.i.host}:{self.i.port}/v1/opamp", self.i.path("portal", "ca.pem"), token, uid)
        self.addCleanup(peer.stop)
        return peer

    def shown(self, scheme):
        self.start_portal()
        uid = uuid.uuid4().hex
        peer = self.start_client(scheme, self.i.create_token()["token"], uid)
        peer.wait("connected")
        ep = wait_for(lambda: (lambda e: e if e["status"] == "online" else None)(self.i.endpoint()), 10, "online")
        self.assertEqual((ep["name"], ep["version"], ep["os"]), ("collector-1", "0.1.2", "linux"))
        self.assertEqual(ep["instance_uid"].replace("-", ""), uid)
        self.assertEqual(ep["components"][0]["components"][0]["name"], "exporter:otlp")
        (config,) = wait_for(lambda: self.i.api("GET", f"/endpoints/{ep['id']}/config")["items"], 10, "its configuration")
        self.assertNotIn("hunter2", config["body"])
        self.assertEqual(config["masked"], 1)
        # It gets a header of its own instead of the token.
        self.assertRegex(peer.wait("settings")["authorization"], r"^Bearer hfa_")
        peer.say("unhealthy")
        wait_for(lambda: not self.i.endpoint()["components"][0]["healthy"], 10, "its health")
        self.assertEqual(self.i.endpoint()["components"][0]["components"][0]["last_error"], "cannot reach the exporter")
        # The portal asks for the full state after a restart, and the library sends it.
        self.i.kill_portal()
        self.i.start_portal()
        wait_for(lambda: self.i.endpoint()["status"] == "online" and self.i.endpoint()["components"], 60, "back with its state")
        # It used the token again, so it was given a new header; the newest counts.
        own = [x for x in peer.lines if x["event"] == "settings"][-1]["authorization"]
        peer.say("stop")
        peer.wait("stopped")
        wait_for(lambda: self.i.endpoint()["reason"] == "agent_stopped" or scheme == "https", 10, "its goodbye")
        # And comes back by its own header.
        again = self.start_client(scheme, own.removeprefix("Bearer "), uid)
        again.wait("connected")
        wait_for(lambda: self.i.endpoint()["status"] == "online", 10, "online by its own header")
        self.assertEqual([x for x in peer.lines + again.lines if x["event"] == "error"], [])

    def test_its_websocket_client_is_shown_and_served(self):
        self.shown("wss")

    def test_its_polling_client_is_shown_and_served(self):
        self.shown("https")

    def test_a_wrong_token_is_refused_to_it(self):
        self.start_portal()
        peer = self.start_client("wss", "hfe_0123456789abcdef_" + "0" * 64, uuid.uuid4().hex)
        self.assertIn("bad handshake", peer.wait("failed")["error"])
        self.wait_log("portal", "refused: token_unknown")


if __name__ == "__main__":
    main()
