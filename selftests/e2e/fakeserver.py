# SPDX-License-Identifier: Apache-2.0
"""An OpAMP server that says what a test wants and remembers what it heard.

    with FakeServer(directory) as s:
        c = s.wait_connection()
        m = c.wait_message(lambda m: 5 in m)      # parsed AgentToServer: {field number: [values]}
        c.send(f6=1)                              # ServerToAgent, by field numbers

Plain OpAMP by default; session=True speaks Holdfast's session as well: it signs what the agent asks
for, welcomes, and answers heartbeats. Wire formats are rawclient.py's, not the product's.
"""

import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
import time

from badportal import GUID, make_ca, make_leaf, pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from harness import wait_for
from rawclient import SESSION, TELEMETRY, first, message, parse, ws_frame

__all__ = ["Connection", "FakeServer", "attributes", "custom"]


def custom(m):
    """(type, body) of a message's custom part in Holdfast's session, or (None, None)."""
    raw = first(m, 13)
    if raw is None:
        return None, None
    cm = parse(raw)
    return first(cm, 2, b"").decode(), parse(first(cm, 3, b""))


def attributes(m):
    """The agent description's attributes as a dict of texts."""
    out = {}
    d = parse(first(m, 3, b""))
    for kv in d.get(1, []) + d.get(2, []):
        kv = parse(kv)
        out[first(kv, 1).decode()] = first(parse(first(kv, 2, b"")), 1, b"").decode()
    return out


class Connection:
    def __init__(self, server, sock):
        self.server, self.sock = server, sock
        self.headers = {}
        self.messages = []  # parsed, without the first byte
        self.close_code = None  # of the frame received
        self.ended = False
        self._buffer = b""
        self._lock = threading.Lock()

    # -- what the test says

    def send(self, **fields):
        fields.setdefault("f7", 0x1 | 0x20)
        uid = first(self.messages[0], 1) if self.messages else None
        self.frame(2, b"\0" + message(f1=uid, **fields))

    def frame(self, opcode, payload, **kw):
        with self._lock:
            self.sock.sendall(ws_frame(opcode, payload, masked=False, **kw))

    def custom(self, kind, body, capability=SESSION, **fields):
        self.send(f11=message(f1=capability, f2=kind, f3=body), **fields)

    def close(self, code):
        self.frame(8, struct.pack("!H", code))

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_message(self, predicate, deadline_s=10, what="a message", after=0):
        return wait_for(lambda: next((m for m in self.messages[after:] if predicate(m)), None), deadline_s, what)

    # -- the thread

    def _take(self, n):
        while len(self._buffer) < n:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("end")
            self._buffer += data
        out, self._buffer = self._buffer[:n], self._buffer[n:]
        return out

    def _upgrade(self):
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self.sock.recv(65536) or b"\r\n\r\n"
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        self.headers = {k.strip().lower(): v.strip() for k, v in (x.split(":", 1) for x in lines[1:])}
        if self.server.refuse:
            self.sock.sendall(self.server.refuse)
            raise ConnectionError("refused")
        accept = base64.b64encode(hashlib.sha1(self.headers["sec-websocket-key"].encode() + GUID).digest())
        self.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")

    def _frame(self):
        b0, b1 = self._take(2)
        n = b1 & 0x7F
        if n == 126:
            n = struct.unpack("!H", self._take(2))[0]
        elif n == 127:
            n = struct.unpack("!Q", self._take(8))[0]
        key = self._take(4)
        return b0 & 0x0F, bytes(b ^ key[i % 4] for i, b in enumerate(self._take(n)))

    def serve(self):
        try:
            self._upgrade()
            while True:
                opcode, payload = self._frame()
                if opcode == 8:
                    self.close_code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                    self.frame(8, payload[:2])
                    return
                if opcode == 9:
                    self.frame(10, payload)
                if opcode == 2:
                    m = parse(payload[1:])
                    self.messages.append(m)
                    self.server.answer(self, m)
        except (OSError, ValueError, ConnectionError):
            pass
        finally:
            self.ended = True
            with contextlib.suppress(OSError):
                self.sock.close()


class FakeServer:
    def __init__(self, directory, session=False, ca=None, port=0, name="fake", answer=True):
        self.session, self.answering = session, answer
        self.ca = ca or make_ca(f"{name} CA")
        self.ca_file = directory / f"{name}-ca.pem"
        self.ca_file.write_bytes(pem(self.ca[0]))
        self.ca_file.chmod(0o644)
        cert_file = directory / f"{name}.pem"
        cert_file.write_bytes(pem(*make_leaf(self.ca)))
        self.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ctx.load_cert_chain(cert_file)
        self.listener = socket.create_server(("127.0.0.1", port))
        self.listener.settimeout(0.2)
        self.port = self.listener.getsockname()[1]
        self.connections = []
        self.refuse = None  # bytes: what every upgrade is answered with
        self.welcome = {}  # override fields of the welcome
        self.batch_max = None  # records; a batch of more closes 1009
        self.batches = []  # (stream, first, last, records) that were acknowledged
        self.refused = []  # the same of those that were not
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self):
        return f"wss://127.0.0.1:{self.port}/v1/opamp"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        # The thread first: a descriptor closed under its accept() may be another server's next.
        self._stop.set()
        self._thread.join(5)
        self.listener.close()
        for c in self.connections:
            with contextlib.suppress(OSError):
                c.sock.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while not self._stop.is_set():
            try:
                raw, _ = self.listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw):
        raw.settimeout(60)
        with contextlib.suppress(OSError):
            c = Connection(self, self.ctx.wrap_socket(raw, server_side=True))
            self.connections.append(c)
            c.serve()

    def wait_connection(self, n=1, deadline_s=15):
        """The nth connection that has said something."""
        return wait_for(lambda: [c for c in self.connections if c.messages][n - 1 : n], deadline_s, f"connection {n}")[0]

    # -- what it answers by itself

    def _certificate(self, csr_pem):
        csr = x509.load_pem_x509_csr(csr_pem)
        leaf = make_leaf(self.ca)[0]
        cert = (
            x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "endpoint")]))
            .issuer_name(self.ca[0].subject).public_key(csr.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(leaf.not_valid_before).not_valid_after(leaf.not_valid_after).sign(self.ca[1], hashes.SHA256())
        )
        return message(f2=message(f3=message(f1=cert.public_bytes(serialization.Encoding.PEM), f3=pem(self.ca[0]))))

    def _acks(self):
        last = {stream: high for stream, _, high, _ in self.batches}
        return [message(f1=stream, f2=high) for stream, high in last.items()]

    def _batch(self, c, body):
        batch = (first(body, 1), first(body, 2), first(body, 3), first(body, 6, 0))
        if self.batch_max is not None and batch[3] > self.batch_max:
            self.refused.append(batch)
            c.close(1009)
            return
        self.batches.append(batch)
        c.custom("ack", message(f1=batch[0], f2=batch[2]), capability=TELEMETRY)

    def answer(self, c, m):
        if not self.answering:
            return
        fields = {}
        asked = first(m, 11)
        if asked is not None and self.session:
            fields["f4"] = self._certificate(first(parse(first(parse(first(parse(asked), 1)), 1)), 1))
        kind, body = custom(m)
        if self.session and kind == "hello":
            welcome = {"f1": first(body, 3), "f2": "authorized", "f3": time.time_ns(), "f4": 20, "f5": 10, "f8": self._acks(), "f9": "endpoint", "f10": "dev", **self.welcome}
            c.custom("welcome", message(**welcome), f10=message(f1=[SESSION, TELEMETRY]), **fields)
        elif self.session and kind == "heartbeat":
            c.custom("heartbeat_ack", message(f1=first(body, 1), f2=first(body, 2), f3=time.time_ns(), f4="authorized"), **fields)
        elif self.session and kind == "batch":
            self._batch(c, body)
        elif kind is None or not self.session:
            if 9 not in m:
                c.send(**fields)
