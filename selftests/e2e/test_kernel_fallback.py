# SPDX-License-Identifier: Apache-2.0
"""With the kernel's programs off, what the kernel tells by other ways is there, and its source is named."""

import os
import signal
import socket

from harness import InstanceTest, main, wait_for


class Fallback(InstanceTest):
    def start(self):
        self.prepare()
        config = self.i.path("config.yml")
        text = config.read_text()
        self.assertIn("kernel:\n", text)
        config.write_text(text.replace("kernel:\n", "kernel:\n  mode: off\n"))
        self.i.start_endpoint()
        wait_for(lambda: [p for p in self.programs() if p["name"] == "fallback.sock_diag" and p["attached"]], 15, "the fallback source")

    def programs(self):
        return self.i.status()["telemetry"]["programs"]

    def closed_connection(self, family, host):
        with socket.socket(family) as s:
            s.bind((host, 0))
            s.listen()
            c = socket.socket(family)
            c.connect(s.getsockname())
            port = c.getsockname()[1]
            a, _ = s.accept()
            a.sendall(b"12345")
            a.close()
            while c.recv(16):
                pass
            c.close()
        return port

    def check(self, family, host, shown):
        port = self.closed_connection(family, host)
        e = wait_for(lambda: [e for e in self.i.events("--kind", "conn.closed") if e["local"] == f"{shown}:{port}"], 15, "the closed socket")[0]
        self.assertEqual(e["ring"], "fallback")
        self.assertEqual(e["reason"], "SOCKET_DESTROYED")
        self.assertEqual(e["owner_src"], "none")
        self.assertIn("sock_diag", e["detail"])
        self.assertIn(e["bytes_received"], (5, 6))  # the kernel counts a FIN as a byte

    def test_closed_sockets_come_from_sock_diag(self):
        self.start()
        self.assertEqual(self.i.agent()["kernel_assist"], "off")
        self.check(socket.AF_INET, "127.0.0.1", "127.0.0.1")
        self.check(socket.AF_INET6, "::1", "[::1]")
        self.assertTrue(all(not p["attached"] and p["reason"] for p in self.programs() if not p["name"].startswith("fallback.")))

    def test_the_watchdog_sees_a_death_by_pidfd(self):
        self.start()
        old = self.i.agent()["pid"]
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: self.i.agent().get("pid") not in (None, old), 30, "a new agent")
        last = self.i.component()["last_exit"]
        self.assertEqual(last["signal"], signal.SIGKILL)


if __name__ == "__main__":
    main()
