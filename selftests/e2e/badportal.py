# SPDX-License-Identifier: Apache-2.0
"""A portal that misbehaves in one chosen way: real TCP, real TLS, real upgrade, then the fault.

    with BadPortal(directory, fault="silent_after_tls") as p: ... p.port, p.ca_file, p.seen

`seen` counts connections, so a test can wait for the agent's next attempt.
"""

import base64
import contextlib
import datetime
import hashlib
import ipaddress
import pathlib
import socket
import ssl
import struct
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def make_ca(name="Test CA"):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.utcnow()
    cert = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - 900 * DAY).not_valid_after(now + 900 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
        .sign(key, hashes.SHA256())
    )
    return cert, key


def make_leaf(ca, start=-DAY, end=30 * DAY, host="127.0.0.1", weak=False, sha1=False):
    """A server certificate; weak: RSA with 1024 bits; sha1: signed with it."""
    ca_cert, ca_key = ca
    key = rsa.generate_private_key(65537, 1024) if weak else ec.generate_private_key(ec.SECP256R1())
    try:
        san = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        san = x509.DNSName(host)
    now = datetime.datetime.utcnow()
    cert = (
        x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "portal")]))
        .issuer_name(ca_cert.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now + start).not_valid_after(now + end)
        .add_extension(x509.SubjectAlternativeName([san]), critical=False)
        .sign(ca_key, hashes.SHA1() if sha1 else hashes.SHA256())
    )
    return cert, key


def pem(cert, key=None):
    out = cert.public_bytes(serialization.Encoding.PEM)
    if key is not None:
        out += key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return out


def frame(opcode, payload, first=0x80, length=None, mask=False):
    """One WebSocket frame; `length` lies about the payload's size."""
    n = len(payload) if length is None else length
    head = bytes([first | opcode])
    m = 0x80 if mask else 0
    if n < 126:
        head += bytes([m | n])
    elif n < 1 << 16:
        head += bytes([m | 126]) + struct.pack("!H", n)
    else:
        head += bytes([m | 127]) + struct.pack("!Q", n)
    return head + (b"\0\0\0\0" if mask else b"") + payload


# What is sent after a correct upgrade.
FRAMES = {
    "truncated_frame": frame(2, b"\0abc", length=100),
    "oversized_frame": frame(2, b"\0", length=1 << 40),
    "negative_length": frame(2, b"\0", length=1 << 63),
    "masked_frame": frame(2, b"\0", mask=True),
    "reserved_bits": frame(2, b"\0", first=0xC0),
    "reserved_opcode": frame(3, b"\0"),
    "oversized_ping": frame(9, b"x" * 126),
    "invalid_utf8": frame(1, b"\xff\xfe"),
    "text_message": frame(1, b"hello"),
    "bad_close_code": frame(8, struct.pack("!H", 1006)),
    "malformed_protobuf": frame(2, b"\0\x0a\xff\xff\xff\xff\x0f"),
    "wrong_header": frame(2, b"\x07\x0a\x00"),
    "empty_message": frame(2, b""),
    "fragment_flood": frame(2, b"", first=0) + frame(0, b"", first=0) * 1000,
    "new_message_within_a_message": frame(2, b"\0", first=0) + frame(2, b"\0"),
    "continuation_of_nothing": frame(0, b"\0"),
    "fragmented_ping": frame(9, b"", first=0),
    "long_length_form": bytes([0x82, 127]) + struct.pack("!Q", 2) + b"\0\0",
    "close_of_one_byte": frame(8, b"\x03"),
    "close_reason_not_utf8": frame(8, struct.pack("!H", 1000) + b"\xff\xfe"),
}

# Sent again and again instead of an answer.
ENDLESS = {
    "endless_header_line": b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"y" * 4096,
    "endless_body": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"z" * 65536,
    "endless_chunks": b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10\r\n0123456789abcdef\r\n" * 1000,
}

RESPONSES = {
    "not_http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "upgrade_ignored": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "captive": b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n",
    "overloaded": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "token_expired": b"HTTP/1.1 401 Unauthorized\r\nHoldfast-Cause: token_expired\r\nContent-Length: 0\r\n\r\n",
    "header_flood": b"HTTP/1.1 101 Switching Protocols\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n",
    "wrong_accept": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
}


class BadPortal:
    def __init__(self, directory, fault, port=0, ca=None):
        self.fault = fault
        self.ca = ca or make_ca()
        self.dir = pathlib.Path(directory)
        self.ca_file = self.dir / "badportal-ca.pem"
        self.seen = 0
        self.closed_by_peer = 0
        self.close_codes = []  # of close frames that came after the fault
        self._stop = threading.Event()
        self._threads = []
        self._conns = []
        issuer = make_ca("ACME Web Gateway") if fault == "wrong_ca" else self.ca
        leaf = {
            "expired": lambda: make_leaf(issuer, start=-60 * DAY, end=-DAY),
            "not_yet_valid": lambda: make_leaf(issuer, start=10 * DAY, end=60 * DAY),
            "wrong_host": lambda: make_leaf(issuer, host="other.example"),
            "weak_key": lambda: make_leaf(issuer, weak=True),
            "sha1_signature": lambda: make_leaf(issuer, sha1=True),
        }.get(fault, lambda: make_leaf(issuer))()
        self.ca_file.write_bytes(pem(self.ca[0]))
        self.ca_file.chmod(0o644)
        cert_file = self.dir / "badportal.pem"
        cert_file.write_bytes(pem(*leaf))
        self.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ctx.set_ciphers("DEFAULT@SECLEVEL=0")
        self.ctx.load_cert_chain(cert_file)
        if fault == "tls11":
            self.ctx.minimum_version = ssl.TLSVersion.TLSv1
            self.ctx.maximum_version = ssl.TLSVersion.TLSv1_1
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        t = threading.Thread(target=self._accept, daemon=True)
        t.start()
        self._threads.append(t)
        return self

    def __exit__(self, *_):
        self._stop.set()
        self.listener.close()
        for c in self._conns:
            with contextlib.suppress(OSError):
                c.close()

    def _accept(self):
        self.listener.settimeout(0.2)
        while not self._stop.is_set():
            try:
                conn, _ = self.listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.seen += 1
            self._conns.append(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _hold(self, conn):
        """Says nothing until the peer gives up."""
        conn.settimeout(0.2)
        while not self._stop.is_set():
            try:
                if not conn.recv(65536):
                    break
            except TimeoutError:
                continue
            except (OSError, ValueError):
                break
        self.closed_by_peer += 1

    def _await_close(self, conn):
        """Reads the agent's frames until its close frame."""
        conn.settimeout(20)
        data = b""
        with contextlib.suppress(OSError, ValueError):
            while not self._stop.is_set():
                while len(data) >= 6:
                    n, head = data[1] & 0x7F, 2
                    if n >= 126:
                        head += 2 if n == 126 else 8
                        n = int.from_bytes(data[2:head], "big")
                    if len(data) < head + 4 + n:
                        break
                    key, payload = data[head : head + 4], data[head + 4 : head + 4 + n]
                    if data[0] & 0x0F == 8:
                        self.close_codes.append(int.from_bytes(bytes(b ^ key[i % 4] for i, b in enumerate(payload))[:2], "big"))
                        return
                    data = data[head + 4 + n :]
                more = conn.recv(65536)
                if not more:
                    return
                data += more

    def _endless(self, conn, piece):
        """The same again and again until the peer has had enough."""
        with contextlib.suppress(OSError, ValueError):
            while not self._stop.is_set():
                conn.sendall(piece)
        self.closed_by_peer += 1

    def _serve(self, conn):
        with contextlib.suppress(OSError, ValueError):
            if self.fault == "silent_tcp":
                return self._hold(conn)
            if self.fault == "plain_http":
                conn.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                return self._hold(conn)
            tls = self.ctx.wrap_socket(conn, server_side=True)
            self._conns.append(tls)
            if self.fault == "silent_after_tls":
                return self._hold(tls)
            head = b""
            while b"\r\n\r\n" not in head:
                head += tls.recv(65536)
            if self.fault == "reset_at_upgrade":
                tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return tls.close()
            if self.fault == "slow_response":
                for b in b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 10000:
                    tls.sendall(bytes([b]))
                    if self._stop.wait(0.2):
                        return None
            if self.fault in ENDLESS:
                return self._endless(tls, ENDLESS[self.fault])
            if self.fault in RESPONSES:
                tls.sendall(RESPONSES[self.fault])
                return self._hold(tls)
            key = next(line.split(b":", 1)[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
            tls.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
            if self.fault in FRAMES:
                tls.sendall(FRAMES[self.fault])
                if self.fault == "truncated_frame":
                    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return tls.close()
                self._await_close(tls)
            if self.fault == "ping_flood":
                return self._endless(tls, frame(9, b"x" * 125) * 64)
            return self._hold(tls)
        return None
