# SPDX-License-Identifier: Apache-2.0
"""A portal for action tests: it signs what a test wants and confirms only what the test lets it.

Speaks Holdfast's session (fakeserver.py) and io.holdfast.action/1; wire formats and signatures are
written down here a second time, so that a mistake of the product cannot hide behind itself.
"""

import os
import struct
import time
import uuid

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakeserver import FakeServer, custom
from harness import wait_for
from rawclient import first, fixed64, message

ACTION = "io.holdfast.action/1"
FINAL = ("succeeded", "failed", "timed_out", "cancelled", "expired", "rejected", "indeterminate")


def action_id(at_s=None):
    """A UUIDv7: six bytes of milliseconds, the rest random."""
    ms = int((at_s or time.time()) * 1000)
    raw = bytearray(struct.pack("!Q", ms)[2:] + os.urandom(10))
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(raw)))


class Key:
    def __init__(self):
        self.private = Ed25519PrivateKey.generate()
        self.id = os.urandom(8)
        self.point = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def sign(self, purpose, data):
        return self.private.sign(purpose.encode() + b"\0" + data)


class ActionPortal(FakeServer):
    def __init__(self, directory, shift_s=0, **kw):
        super().__init__(directory, session=True, **kw)
        self.host = action_id()
        self.keys = [Key()]
        self.heard = []  # (type, parsed body, connection), in order
        self.confirm = True  # answer results
        self.give_time = True
        self.shift_s = shift_s  # this portal's clock
        self.archive = b""
        self.tell_keys()

    # -- keys

    @property
    def key(self):
        return self.keys[-1]

    def chain(self):
        links = []
        for n, k in enumerate(self.keys):
            signer = self.keys[n - 1] if n else k
            link = message(f1=k.id, f2=k.point) + fixed64(3, time.time_ns()) + (message(f4=self.keys[n - 1].id) if n else b"")
            links.append(message(f1=link, f2=signer.sign("holdfast action key/1", link)))
        return message(f1=self.host, f2=links)

    def tell_keys(self):
        self.welcome.update(f9=self.host, f12=self.chain(), f3=self.now_ns())

    def now_ns(self):
        return time.time_ns() + int(self.shift_s * 10**9)

    # -- actions

    def envelope(self, kind="start", params=(("component", "agent"),), ident=None, host=None, key=None, issued_ns=None, ttl_s=60, sign=True, hard_s=120):
        issued = issued_ns or self.now_ns()
        body = message(f1=host or self.host, f2=ident or action_id(), f3=kind, f4=[message(f1=k, f2=v) for k, v in params])
        body += fixed64(5, issued) + fixed64(6, issued + int(ttl_s * 10**9)) + message(f7=60, f8=hard_s, f9=(key or self.key).id)
        signer = key or self.key
        return message(f1=body, f2=signer.sign("holdfast action/1", body) if sign else os.urandom(64))

    def tell(self, kind, body, c=None):
        (c or self.connections[-1]).send(f11=message(f1=ACTION, f2=kind, f3=body))

    def deliver(self, ident, envelope, known=False, c=None):
        self.tell("action", message(f1=ident, f2=envelope, f3=known or None), c)

    def give(self, kind="start", params=(("component", "agent"),), **kw):
        """A new action, signed and sent; returns (id, envelope)."""
        ident = action_id()
        e = self.envelope(kind, params, ident=ident, **kw)
        self.deliver(ident, e)
        return ident, e

    def of(self, kind, ident):
        return [(b, c) for k, b, c in list(self.heard) if k == kind and first(b, 1, b"").decode() == ident]

    def states(self, ident):
        return [first(b, 2).decode() for b, _ in self.of("state", ident)]

    def results(self, ident):
        return [first(b, 2).decode() for b, _ in self.of("result", ident)]

    def wait_state(self, ident, *states, deadline_s=15):
        wait_for(lambda: any(s in states for s in self.states(ident) + self.results(ident)), deadline_s, f"state {states} of {ident}")

    def wait_result(self, ident, deadline_s=30, n=1):
        """The nth result: (state, reason, parsed)."""
        b = wait_for(lambda: self.of("result", ident)[n - 1 : n], deadline_s, f"a result of {ident}")[0][0]
        return first(b, 2).decode(), first(b, 3, b"").decode(), b

    # -- what it answers by itself

    def answer(self, c, m):
        kind, body = custom(m)
        if kind == "hello":
            self.tell_keys()
        if kind == "heartbeat":
            c.custom("heartbeat_ack", message(f1=first(body, 1), f2=first(body, 2), f3=self.now_ns(), f4="authorized"))
            return
        if kind not in ("state", "result", "time_ask", "artifact"):
            super().answer(c, m)
            return
        self.heard.append((kind, body, c))
        if kind == "time_ask" and self.give_time:
            stamp = message(f1=first(body, 1), f2=self.host) + fixed64(3, self.now_ns()) + message(f4=self.key.id)
            self.tell("time", message(f1=stamp, f2=self.key.sign("holdfast action time/1", stamp)), c)
        elif kind == "result" and self.confirm:
            self.tell("result_ack", message(f1=first(body, 1)), c)
        elif kind == "artifact":
            data, offset, total = first(body, 4, b""), first(body, 3, 0), first(body, 2)
            if data and offset == len(self.archive):
                self.archive += data
            self.tell("artifact_ack", message(f1=first(body, 1), f2=len(self.archive) or None, f3=len(self.archive) == total or None), c)
