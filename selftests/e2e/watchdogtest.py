# SPDX-License-Identifier: Apache-2.0
"""An instance of launch and watchdog with the misbehaving test component in the agent's place."""

import os
import shutil
import signal
import socket
import struct

from harness import BIN, ROOT, InstanceTest, alive, wait_for

TESTAGENT = BIN.parent / "test" / "testagent"

__all__ = ["ROOT", "Bus", "WatchdogTest"]


# ---- the bus, without the product's own client: nng's REQ over ipc, and protobuf by hand ----------


def _varint(n):
    out = bytearray()
    while True:
        out.append(n & 0x7F | (0x80 if n > 0x7F else 0))
        n >>= 7
        if not n:
            return bytes(out)


def field(number, value):
    """One protobuf field: int or bytes/str."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    value = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def parse(data):
    """A message as {number: [values]}."""
    out, i = {}, 0

    def take():
        nonlocal i
        n = shift = 0
        while True:
            b = data[i]
            i += 1
            n |= (b & 0x7F) << shift
            shift += 7
            if b < 0x80:
                return n

    while i < len(data):
        tag = take()
        if tag & 7 == 0:
            v = take()
        elif tag & 7 == 2:
            n = take()
            v = data[i : i + n]
            i += n
        else:
            raise ValueError(f"wire type {tag & 7}")
        out.setdefault(tag >> 3, []).append(v)
    return out


def _text(m, n):
    return m.get(n, [b""])[0].decode()


def _int(m, n):
    v = m.get(n, [0])[0]
    return v - (1 << 64) if v >= 1 << 63 else v


EXIT_FIELDS = {"code": 2, "signal": 3, "core": 4, "by_pid": 5, "by_uid": 7, "exit_to_exec_us": 8, "at_unix_ns": 9, "pid": 11, "from_kernel": 12, "exit_to_ready_us": 13}


def component(data):
    m = parse(data)
    c = {"name": _text(m, 1), "pid": _int(m, 2), "version": _text(m, 3), "state": _text(m, 4), "restarts": _int(m, 5), "status_text": _text(m, 7)}
    c.update(rss_bytes=_int(m, 9), last_stderr=_text(m, 10), detail=_text(m, 11), confinement=_text(m, 12), last_exit=None)
    if 6 in m:
        e = parse(m[6][0])
        c["last_exit"] = {"cause": _text(e, 1), "by_comm": _text(e, 6), "text": _text(e, 10), **{k: _int(e, n) for k, n in EXIT_FIELDS.items()}}
    return c


class BusError(Exception):
    def __init__(self, error, message):
        super().__init__(f"{error}: {message}")
        self.error, self.message = error, message


class Bus:
    """One request per connection."""

    START, STOP, RESTART, SHOW = 1, 2, 3, 0

    def __init__(self, path):
        self.path = str(path)

    def raw(self, body, timeout_s=10):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(timeout_s)
            self._connect(s)
            s.sendall(b"\0SP\0" + struct.pack(">HH", 0x30, 0))
            self._exactly(s, 8)
            payload = struct.pack(">I", 0x80000001) + body
            s.sendall(b"\x01" + struct.pack(">Q", len(payload)) + payload)
            head = self._exactly(s, 9)
            return self._exactly(s, struct.unpack(">Q", head[1:])[0])[4:]

    def _connect(self, s):
        # By its directory's descriptor: a path of ours may be longer than an address can be.
        directory = os.open(os.path.dirname(self.path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            s.connect(f"/proc/self/fd/{directory}/{os.path.basename(self.path)}")
        finally:
            os.close(directory)

    @staticmethod
    def _exactly(s, n):
        out = b""
        while len(out) < n:
            part = s.recv(n - len(out))
            if not part:
                raise ConnectionError("the bus closed the connection")
            out += part
        return out

    def ask(self, body):
        r = parse(self.raw(body))
        if _int(r, 1):
            raise BusError(_int(r, 1), _text(r, 2))
        return r

    def status(self):
        m = parse(self.ask(field(1, b""))[11][0])
        return {"pid": _int(m, 1), "version": _text(m, 2), "kernel_assist": _text(m, 4), "components": [component(x) for x in m.get(3, [])]}

    def command(self, verb, name="agent"):
        return component(self.ask(field(7, (field(1, verb) if verb else b"") + field(2, name)))[16][0])

    def stop_all(self, reason=""):
        return self.ask(field(9, field(1, reason)))


class WatchdogTest(InstanceTest):
    """self.bus, self.agent(), self.mode(), and a bin directory of its own."""

    settle_s = 0
    config_extra = ""

    def setUp(self):
        self.addCleanup(self._expect_no_strays)  # cleanups run last in first out: after the instance was stopped
        super().setUp()
        self.assertTrue(TESTAGENT.exists(), f"{TESTAGENT} is not built; run make e2e")
        bindir = self.i.dir.parent / "bin"
        bindir.mkdir()
        for name in ("holdfast-launch", "holdfast-watchdog"):
            shutil.copy2(BIN / name, bindir / name)
        shutil.copy2(TESTAGENT, bindir / "holdfast-agent")
        self.i.bin = bindir
        self.bus = Bus(self.i.path("run", "watchdog.sock"))
        self.i.prepare(agent_config=self.i.default_agent_config(f"restart:\n  settle_s: {self.settle_s}\n" + self.config_extra))

    def _expect_no_strays(self):
        """A stop leaves nothing: no process, no pin. What is there is ended and is a failure."""
        strays = self.processes()
        while self.processes():
            for pid in self.processes():
                self.kill(pid)
        pins = self.pins()
        if pins:
            shutil.rmtree(self.pin_dir(), ignore_errors=True)
        self.assertEqual((strays, pins), ([], []))

    def pin_dir(self):
        h = 0xCBF29CE484222325
        for b in str(self.i.dir).encode():
            h = (h ^ b) * 0x100000001B3 & (1 << 64) - 1
        return f"/sys/fs/bpf/holdfast/dev-{h:016x}"

    def pins(self):
        return os.listdir(self.pin_dir()) if os.path.isdir(self.pin_dir()) else []

    def processes(self):
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                try:
                    if os.readlink(f"/proc/{entry}/cwd").split(" ")[0] == str(self.i.dir) and alive(int(entry)):
                        found.append(int(entry))
                except OSError:
                    pass
        return found

    def mode(self, text):
        self.i.path("testagent.mode").write_text(text + "\n", encoding="ascii")

    def start(self, mode="ok", until="running"):
        self.mode(mode)
        self.i._spawn("launch", "holdfast-launch", ["--dir", "."])
        return self.wait_state(until) if until else None

    def agent(self):
        return self.bus.status()["components"][0]

    def wait_agent(self, predicate, what, deadline_s=15):
        return wait_for(lambda: next((a for a in [self.agent()] if predicate(a)), None), deadline_s, what)

    def wait_state(self, state, deadline_s=15):
        return self.wait_agent(lambda a: a["state"] == state, f"component state '{state}'", deadline_s)

    def wait_new(self, old_pid, deadline_s=15):
        return self.wait_agent(lambda a: a["state"] == "running" and a["pid"] != old_pid, "a new process, ready", deadline_s)

    def watchdog_pid(self):
        return self.bus.status()["pid"]

    def kernel_off_hint(self):
        """True where the kernel programs are not loaded: senders of signals are then unknown."""
        return self.bus.status()["kernel_assist"] == "off"

    def stop_signal(self, pid):
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(self.kill, pid, signal.SIGCONT)
