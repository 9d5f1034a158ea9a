# SPDX-License-Identifier: Apache-2.0
"""A client that says exactly what a test wants: TLS, HTTP, WebSocket frames, OpAMP messages.

Nothing here shares code with the product: the wire formats are written down a second time, so
that a mistake in the product's codecs cannot hide behind itself.
"""

import base64
import contextlib
import copy
import os
import socket
import ssl
import struct
import tempfile
import threading
import time
import uuid
import zlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

SESSION = "io.holdfast.session/1"
TELEMETRY = "io.holdfast.telemetry/1"
OUTAGE = "io.holdfast.outage/1"


# ---- protobuf --------------------------------------------------------------------------------


def varint(v):
    out = b""
    while True:
        out += bytes([(v & 0x7F) | (0x80 if v > 0x7F else 0)])
        v >>= 7
        if not v:
            return out


def field(number, value):
    """One field: int as varint, float as double, bytes and str with their length."""
    if isinstance(value, bool) or isinstance(value, int):
        return varint(number << 3) + varint(int(value))
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def fixed64(number, value):
    return varint(number << 3 | 1) + struct.pack("<Q", value)


def message(**fields):
    """message(f1=…, f2=[…]): a list repeats the field; None leaves it out."""
    out = b""
    for name, value in fields.items():
        for v in value if isinstance(value, list) else [value]:
            if v is not None:
                out += field(int(name[1:]), v)
    return out


def parse(data):
    """{number: [values]}: ints and bytes."""
    fields, i = {}, 0

    def take():
        nonlocal i
        shift = result = 0
        while True:
            b = data[i]
            i += 1
            result |= (b & 0x7F) << shift
            if b < 0x80:
                return result
            shift += 7

    while i < len(data):
        key = take()
        kind = key & 7
        if kind == 0:
            value = take()
        elif kind == 1:
            value = struct.unpack_from("<Q", data, i)[0]
            i += 8
        elif kind == 2:
            n = take()
            value = bytes(data[i : i + n])
            i += n
        elif kind == 5:
            value = struct.unpack_from("<I", data, i)[0]
            i += 4
        else:
            raise ValueError(f"wire type {kind}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def first(fields, number, default=None):
    return fields.get(number, [default])[0]


def key_value(key, value):
    return message(f1=key, f2=message(f1=value))


# ---- identity --------------------------------------------------------------------------------


class Identity:
    """A key made here, its request, and the certificate that came back."""

    def __init__(self, curve=None):
        self.key = ec.generate_private_key(curve or ec.SECP256R1())
        self.certificate = None
        self.ca = None

    def csr(self, common_name="ignored", key=None):
        builder = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        )
        return builder.sign(key or self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def rsa_csr(self):
        return self.csr(key=rsa.generate_private_key(65537, 2048))

    def key_pem(self):
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def load_into(self, context):
        with tempfile.NamedTemporaryFile() as f:
            f.write(self.certificate + self.key_pem())
            f.flush()
            context.load_cert_chain(f.name)


# ---- connections -----------------------------------------------------------------------------


class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, status, headers, body):
        super().__init__(f"HTTP {status} {headers.get('holdfast-cause')}: {body[:200]!r}")
        self.status, self.headers, self.body = status, headers, body
        self.cause = headers.get("holdfast-cause")


class Closed(Exception):
    """The peer closed: code of the close frame, 1006 without one."""

    def __init__(self, code, reason=""):
        super().__init__(f"closed with {code} {reason}")
        self.code, self.reason = code, reason


class Raw:
    """TLS to the portal, then bytes."""

    def __init__(self, instance, identity=None, timeout_s=10, tls=True, receive_buffer=None):
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.tcp.settimeout(timeout_s)
        if receive_buffer:
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.tcp.connect((instance.host, instance.port))
        self.sock = self.tcp
        if tls:
            context = ssl.create_default_context(cafile=str(instance.path("portal", "ca.pem")))
            if identity and identity.certificate:
                identity.load_into(context)
            self.sock = context.wrap_socket(self.tcp, server_hostname=instance.host)
        self.buffer = b""

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def more(self):
        data = self.sock.recv(65536)
        if not data:
            raise Closed(1006, "end of stream")
        self.buffer += data

    def take(self, n):
        while len(self.buffer) < n:
            self.more()
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def response(self):
        """(status, headers in lower case, body)."""
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, v in (x.split(":", 1) for x in lines[1:])}
        body = self.take(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers, body

    def request(self, method, path, headers="", body=b""):
        self.send(f"{method} {path} HTTP/1.1\r\nHost: portal\r\n{headers}\r\n".encode() + body)
        return self.response()

    def ended(self):
        """Reads until the peer ends the connection; True if it does before the deadline."""
        try:
            while True:
                self.more()
        except (Closed, ConnectionError, ssl.SSLError):
            return True
        except TimeoutError:
            return False


def mask(data, key):
    return bytes(b ^ key[i % 4] for i, b in enumerate(data))


def ws_frame(opcode, payload, fin=True, masked=True, length=None, rsv=0):
    n = len(payload) if length is None else length
    first_byte = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    if n < 126:
        head = struct.pack("!BB", first_byte, bit | n)
    elif n < 65536:
        head = struct.pack("!BBH", first_byte, bit | 126, n)
    else:
        head = struct.pack("!BBQ", first_byte, bit | 127, n)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + mask(payload, key)


class WebSocket(Raw):
    def __init__(self, instance, token=None, identity=None, extra="", **kw):
        super().__init__(instance, identity, **kw)
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        key = base64.b64encode(os.urandom(16)).decode()
        self.send(
            f"GET /v1/opamp HTTP/1.1\r\nHost: portal\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{authorization}{extra}\r\n".encode()
        )
        status, headers, body = self.response()
        if status != 101:
            self.close()
            raise Refused(status, headers, body)

    def send_frame(self, opcode, payload, **kw):
        self.send(ws_frame(opcode, payload, **kw))

    def frame(self):
        b0, b1 = self.take(2)
        n = b1 & 0x7F
        if n == 126:
            n = struct.unpack("!H", self.take(2))[0]
        elif n == 127:
            n = struct.unpack("!Q", self.take(8))[0]
        return b0 & 0x0F, self.take(n)

    def message(self):
        """The next data message; answers pings; raises Closed."""
        while True:
            opcode, payload = self.frame()
            if opcode == 9:
                self.send_frame(10, payload)
            elif opcode == 8:
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                raise Closed(code, payload[2:].decode())
            elif opcode in (1, 2):
                return payload


# ---- OpAMP -----------------------------------------------------------------------------------


class Endpoint:
    """A simulated endpoint: Holdfast's session by default, a plain OpAMP agent with plain=True."""

    def __init__(self, instance, hostname="sim", environment="dev", plain=False):
        self.i = instance
        self.identity = Identity()
        self.uid = uuid.uuid4().bytes
        self.boot_id = os.urandom(16)
        self.machine_id_hash = os.urandom(32)
        self.run_id = os.urandom(16)
        self.hostname, self.environment, self.plain = hostname, environment, plain
        self.capabilities = 0x1 | 0x100 | 0x2000
        self.epoch = 0
        self.sequence = 0
        self.ws = None
        self.welcome = None
        self.streams = []
        self.custom = []  # custom messages that came while waiting for another

    # -- making messages

    def description(self):
        return message(
            f1=[key_value("service.name", "sim"), key_value("service.version", "9.9.9")],
            f2=[
                key_value("host.name", self.hostname),
                key_value("os.type", "linux"),
                key_value("host.arch", "amd64"),
                key_value("os.description", "Debian GNU/Linux 12 (bookworm)"),
            ],
        )

    def hello(self, **override):
        f = {
            "f1": self.boot_id,
            "f2": self.machine_id_hash,
            "f3": self.epoch,
            "f4": "9.9.9",
            "f5": self.environment,
            "f6": "ebpf",
            "f7": time.time_ns(),
            "f8": [message(f1=s, f2=a, f3=b) for s, a, b in self.streams],
            "f10": self.hostname,
            "f12": self.run_id,
        }
        return message(**{**f, **override})

    def to_server(self, custom=None, csr=None, description=False, uid=None, disconnect=False, sequence=None, health=None, config=None, flags=None, settings_status=None):
        self.sequence += 1
        parts = message(
            f1=self.uid if uid is None else uid,
            f2=self.sequence if sequence is None else sequence,
            f3=self.description() if description else None,
            f4=self.capabilities,
            f5=health,
            f6=message(f1=message(f1=[message(f1=k, f2=message(f1=v, f2="text/yaml")) for k, v in config.items()])) if config is not None else None,
            f9=b"" if disconnect else None,
            f11=message(f1=message(f1=message(f1=csr))) if csr else None,
            f10=flags,
            f13=message(f1=custom[0], f2=custom[1], f3=custom[2]) if custom else None,
            f15=message(f1=settings_status[0], f2=settings_status[1], f3=settings_status[2]) if settings_status else None,
        )
        return b"\0" + parts

    def send(self, **kw):
        self.ws.send_frame(2, self.to_server(**kw))

    # -- reading answers

    def receive(self):
        raw = self.ws.message()
        if raw[:1] != b"\0":
            raise AssertionError(f"OpAMP header is {raw[:1]!r}")
        return parse(raw[1:])

    @staticmethod
    def custom_of(answer):
        cm = first(answer, 11)
        if cm is None:
            return None
        cm = parse(cm)
        return first(cm, 1).decode(), first(cm, 2).decode(), parse(first(cm, 3, b""))

    def wait_custom(self, kind):
        for n, (k, body) in enumerate(self.custom):
            if k == kind:
                del self.custom[n]
                return body
        while True:
            got = self.custom_of(self.receive())
            if got and got[1] == kind:
                return got[2]
            if got:
                self.custom.append((got[1], got[2]))

    # -- what an endpoint does

    def copy(self, **changes):
        """The same credential and counters on another machine; what `changes` leaves out stays."""
        other = copy.copy(self)
        other.ws, other.welcome, other.custom = None, None, []
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    @contextlib.contextmanager
    def answering(self):
        """Reads meanwhile, so that pings are answered; what comes else is thrown away."""
        stop = threading.Event()

        def read():
            self.ws.sock.settimeout(0.1)
            while not stop.is_set():
                try:
                    self.ws.message()
                except TimeoutError:
                    continue
                except (Closed, OSError):
                    return

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            if self.ws:
                self.ws.sock.settimeout(10)

    @staticmethod
    def health(healthy=True, error="", status="", children=None):
        """A ComponentHealth; children: {name: health}."""
        entries = [message(f1=k, f2=v) for k, v in (children or {}).items()]
        return message(f1=healthy or None, f3=error or None, f4=status or None, f6=entries)

    def open(self, token=None, csr=None, first_message=None, **kw):
        """Connects, says hello; returns the first answer."""
        self.epoch += 1
        self.ws = WebSocket(self.i, token=token, identity=self.identity, **kw)
        hello = None if self.plain else (SESSION, "hello", self.hello())
        self.send(custom=hello, csr=csr, description=True, **(first_message or {}))
        answer = self.receive()
        got = self.custom_of(answer)
        if got and got[1] == "welcome":
            self.welcome = got[2]
        return answer

    def enroll(self, token):
        """Enrols and keeps the certificate; the connection stays open."""
        answer = self.open(token=token, csr=self.identity.csr())
        self.take_offer(answer)
        return answer

    def take_offer(self, answer):
        settings = parse(first(parse(first(answer, 4)), 2))
        certificate = parse(first(settings, 3))
        self.identity.certificate = first(certificate, 1)
        self.identity.ca = first(certificate, 3)

    def online(self, token):
        """Enrols, then comes back with its certificate."""
        self.enroll(token)
        self.close()
        self.open()
        return self

    @property
    def id(self):
        return first(self.welcome, 9).decode()

    @property
    def authorization(self):
        return first(self.welcome, 2).decode()

    def heartbeat(self, seq=1):
        self.send(custom=(SESSION, "heartbeat", message(f1=self.epoch, f2=seq, f3=time.time_ns())))
        return self.wait_custom("heartbeat_ack")

    def goodbye(self, reason):
        self.send(custom=(SESSION, "goodbye", message(f1=reason)))
        self.send(disconnect=True)

    def batch(self, stream, first_seq, events, gaps=(), last_seq=None):
        otlp = self.otlp(events)
        deflate = zlib.compressobj(wbits=-15)
        body = message(
            f1=stream,
            f2=first_seq,
            f3=last_seq if last_seq is not None else first_seq + len(events) - 1,
            f4=deflate.compress(otlp) + deflate.flush() if events else None,
            f5=[message(f1=a, f2=b, f3="spool_full") for a, b in gaps],
            f6=len(events),
            f7=len(otlp) if events else 0,
        )
        self.send(custom=(TELEMETRY, "batch", body))

    @staticmethod
    def otlp(events):
        """events: (time_ns, kind, pid)."""
        records = [
            fixed64(1, t)
            + field(2, 9)
            + field(6, message(f1="process.pid", f2=varint(3 << 3) + varint(pid)))
            + field(12, kind)
            for t, kind, pid in events
        ]
        return message(f1=message(f2=message(f2=records)))

    def outage(self, cause, began_ns, restored_ns, outage_id=None, detail=""):
        outage_id = outage_id or str(uuid.uuid4())
        body = message(
            f1=outage_id, f2=began_ns, f3=began_ns + 1000, f4=restored_ns, f5=cause, f6="kernel", f7=detail, f12=1, f13=4000
        )
        self.send(custom=(OUTAGE, "outage", body))
        return outage_id

    def close(self):
        if self.ws:
            self.ws.close()
            self.ws = None
