# SPDX-License-Identifier: Apache-2.0
"""What strangers send: the portal answers with the right refusal, and serves on."""

import os
import signal
import socket
import time

from harness import InstanceTest, main, wait_for
from rawclient import Closed, Endpoint, Raw, WebSocket, first, message, parse, varint, ws_frame


class PortalBadInput(InstanceTest):
    def setUp(self):
        super().setUp()
        self.start_portal()
        self.pid = self.i.pid_of("portal")
        self.good = Endpoint(self.i, hostname="bystander").online(self.i.create_token()["token"])
        self.addCleanup(self.good.close)
        self.bad = Endpoint(self.i, hostname="bad")
        self.bad.enroll(self.i.create_token()["token"])
        self.bad.close()

    def tearDown(self):
        # Whatever was sent: the same process serves, and the bystander never lost its connection.
        self.assertEqual(self.i.pid_of("portal"), self.pid)
        self.assertEqual(first(self.good.heartbeat(), 1), self.good.epoch)
        super().tearDown()

    def metric(self, name):
        text = self.i.request("GET", "/metrics", token=None)[1]
        return next(int(x.split()[-1]) for x in text.splitlines() if x.startswith(f"holdfast_portal_{name} "))

    def closes(self, ws, code):
        with self.assertRaises(Closed) as c:
            while True:
                ws.message()
        self.assertEqual(c.exception.code, code, c.exception)

    def channel(self):
        return WebSocket(self.i, identity=self.bad.identity)

    # ---- below HTTP

    def test_bytes_that_are_not_tls_end_the_connection(self):
        raw = Raw(self.i, tls=False)
        raw.send(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(500))
        self.assertTrue(raw.ended())
        wait_for(lambda: self.metric("tls_handshakes_failed_total") == 1, 5, "the count")

    def test_a_handshake_that_never_comes_is_ended(self):
        quiet = [socket.create_connection((self.i.host, self.i.port)) for _ in range(20)]
        for s in quiet:
            s.settimeout(15)
        self.assertEqual([s.recv(1) for s in quiet], [b""] * 20)
        self.assertEqual(self.metric("tls_handshakes_timed_out_total"), 20)

    def test_a_flood_of_half_open_connections_does_not_keep_others_out(self):
        flood = [socket.create_connection((self.i.host, self.i.port)) for _ in range(150)]
        ep = Endpoint(self.i, hostname="late").online(self.i.create_token()["token"])
        self.assertEqual(first(ep.heartbeat(), 1), ep.epoch)
        ep.close()
        for s in flood:
            s.close()

    # ---- HTTP

    def answers(self, sent, status, code):
        raw = Raw(self.i)
        raw.send(sent)
        got, _, body = raw.response()
        self.assertEqual(got, status, body)
        self.assertIn(f'"{code}"'.encode(), body)
        self.assertTrue(raw.ended())

    def test_malformed_requests_have_their_status(self):
        self.answers(b"\x00\x01\x02garbage\r\n\r\n", 400, "malformed")
        self.answers(b"GET / HTTP/1.1\nHost: x\n\n", 400, "malformed")
        self.answers(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "malformed")
        self.answers(b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", 400, "malformed")
        self.answers(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400, "malformed")
        self.answers(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "malformed")
        self.answers(b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "http_version")
        self.answers(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "transfer_coding")

    def test_too_much_has_its_status(self):
        self.answers(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431, "head_too_large")
        self.answers(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431, "head_too_large")
        self.answers(b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413, "body_too_large")

    def test_a_slow_head_is_cut_off(self):
        raw = Raw(self.i, timeout_s=15)
        raw.send(b"GET / HTTP/1.1\r\n")
        start = time.monotonic()
        raw.sock.settimeout(0.5)
        answer = b""
        while time.monotonic() - start < 14:
            try:
                raw.send(b"X: y\r\n")
                answer += raw.sock.recv(1000)
                if answer:
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        took = time.monotonic() - start
        self.assertIn(b" 408 ", answer)
        self.assertTrue(9 <= took <= 12, took)

    def test_requests_on_one_connection_are_answered_in_order(self):
        raw = Raw(self.i)
        one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        late = b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 2\r\n\r\n{}" % self.i.admin_token().encode()
        raw.send(one + late + b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" + one)
        self.assertEqual([raw.response()[0] for _ in range(4)], [200, 201, 404, 200])

    def test_a_body_may_come_in_chunks_and_after_100_continue(self):
        auth = f"Authorization: Bearer {self.i.admin_token()}\r\n"
        raw = Raw(self.i)
        status, _, body = raw.request("POST", "/api/v1/tokens", auth + "Transfer-Encoding: chunked\r\n", b'5\r\n{"nam\r\n7\r\ne":"c"}\r\n0\r\n\r\n')
        self.assertEqual(status, 201, body)
        raw.send(f"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\n{auth}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode())
        self.assertEqual(raw.response()[0], 100)
        raw.send(b"{}")
        self.assertEqual(raw.response()[0], 201)

    def test_paths_with_tricks_find_nothing(self):
        raw = Raw(self.i)
        for path in ("/ui/../admin.token", "/ui/%2e%2e/admin.token", "/ui/..%2fadmin.token", "/ui/admin.token", "/ui/%00", "/api/v1/endpoints/%ff"):
            status = raw.request("GET", path, f"Authorization: Bearer {self.i.admin_token()}\r\n")[0]
            self.assertIn(status, (400, 404), path)

    # ---- WebSocket

    def test_upgrades_that_are_none_are_refused(self):
        raw = Raw(self.i)
        self.assertEqual(raw.request("GET", "/v1/opamp")[0], 426)
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        self.assertEqual(raw.request("GET", "/v1/opamp", upgrade + key)[0], 426)
        self.assertEqual(raw.request("GET", "/v1/opamp", upgrade + key + "Sec-WebSocket-Version: 12\r\n")[0], 426)
        self.assertEqual(raw.request("GET", "/v1/opamp", upgrade + "Sec-WebSocket-Version: 13\r\n")[0], 400)
        self.assertEqual(raw.request("GET", "/v1/opamp", upgrade + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n")[0], 400)

    def test_an_unmasked_frame_closes_1002(self):
        ws = self.channel()
        ws.send_frame(2, b"\0", masked=False)
        self.closes(ws, 1002)

    def test_reserved_bits_and_opcodes_close_1002(self):
        for frame in (ws_frame(2, b"\0", rsv=4), ws_frame(3, b""), ws_frame(9, b"x" * 126), ws_frame(9, b"", fin=False)):
            ws = self.channel()
            ws.send(frame)
            self.closes(ws, 1002)

    def test_an_oversized_message_closes_1009_before_it_is_received(self):
        ws = self.channel()
        ws.send(ws_frame(2, b"x", length=1 << 40))
        self.closes(ws, 1009)
        ws = self.channel()
        ws.send_frame(2, b"a" * 900_000, fin=False)
        ws.send_frame(0, b"a" * 200_000)
        self.closes(ws, 1009)

    def test_a_truncated_frame_is_forgotten_with_its_connection(self):
        ws = self.channel()
        ws.send(ws_frame(2, b"", length=1000)[:-4] + b"half")
        ws.close()
        wait_for(lambda: self.metric("channels") == 1, 5, "the truncated channel to be gone")

    def test_text_closes_1003(self):
        ws = self.channel()
        ws.send_frame(1, b"{}")
        self.closes(ws, 1003)

    # ---- OpAMP

    def test_malformed_messages_are_answered_and_closed_1007(self):
        nested = b""
        for _ in range(3000):
            nested = message(f2=message(f6=message(f1=nested))) if len(nested) < 30000 else nested  # KeyValue in KeyValue
        for body in (
            b"",
            b"\0\xff",
            b"\x05" + b"x",
            b"\0" + os.urandom(200),
            b"\0" + message(f1=b"short"),
            b"\0" + message(f1=os.urandom(16)) + varint(3 << 3 | 2) + varint(1 << 30),
            b"\0" + message(f1=os.urandom(16), f3=message(f1=[nested])),
            b"\0" + message(f1=os.urandom(16), f13=message(f1=b"\xff\xfe", f2="hello")),
            b"\0" + message(f1=os.urandom(16), f13=message(f1="io.holdfast.session/1", f2="hello", f3=b"\xff")),
        ):
            ws = self.channel()
            ws.send_frame(2, body)
            answer = parse(ws.message()[1:])
            self.assertEqual(first(parse(first(answer, 2)), 1), 1, body[:20])  # BadRequest
            self.closes(ws, 1007)
        self.assertEqual(self.metric("opamp_malformed_total"), 9)

    def test_an_identity_may_not_change_within_a_connection(self):
        ep = Endpoint(self.i, hostname="two").online(self.i.create_token()["token"])
        ep.send(uid=os.urandom(16))
        with self.assertRaises(Closed) as c:
            while True:
                ep.receive()
        self.assertEqual(c.exception.code, 1007)
        ep.close()

    def test_names_of_strangers_are_data(self):
        name = "'); DROP TABLE endpoints;--<script>\n\x1b[2J"
        ep = Endpoint(self.i, hostname=name).online(self.i.create_token()["token"])
        row = self.i.api("GET", f"/endpoints/{ep.id}")
        self.assertEqual(row["name"], "'); DROP TABLE endpoints;--<script>  [2J")
        self.assertNotIn("\x1b", self.log("portal"))
        ep.close()

    # ---- guesses

    def test_guessing_tokens_is_slowed_down_and_says_so(self):
        statuses = []
        for _ in range(40):
            raw = Raw(self.i)
            statuses.append(raw.request("GET", "/api/v1/endpoints", "Authorization: Bearer hfp_0123456789abcdef_" + "0" * 64 + "\r\n")[0])
            raw.close()
        self.assertEqual(statuses[:20], [401] * 20)
        self.assertEqual(statuses[-1], 429)

    def test_a_stopped_reader_of_the_stream_is_cut_off_and_costs_little(self):
        raw = Raw(self.i, receive_buffer=4096)
        raw.send(f"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.i.admin_token()}\r\n\r\n".encode())
        self.assertEqual(raw.response()[0], 200)
        wait_for(lambda: self.metric("streams") == 1, 5, "the stream")
        writer = Raw(self.i)
        auth = f"Authorization: Bearer {self.i.admin_token()}\r\n"
        for n in range(3000):
            body = b'{"group":"%s%d"}' % (b"g" * 60, n % 10)
            path = f"/api/v1/endpoints/{self.good.id}"
            status = writer.request("PATCH", path, f"{auth}Content-Length: {len(body)}\r\n", body)[0]
            if status != 200:  # the connection's last request is answered with Connection: close
                self.fail(f"HTTP {status}")
            if n % 900 == 899:
                writer.close()
                writer = Raw(self.i)
                if self.metric("streams_dropped_total"):
                    break
        self.assertEqual(self.metric("streams_dropped_total"), 1)
        self.assertEqual(self.metric("streams"), 0)
        raw.close()

    def test_a_suspended_process_picks_up_where_it_was(self):
        os.kill(self.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(self.pid, signal.SIGCONT)
        self.assertEqual(first(self.good.heartbeat(), 1), self.good.epoch)


if __name__ == "__main__":
    main()
