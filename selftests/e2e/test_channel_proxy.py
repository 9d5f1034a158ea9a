# SPDX-License-Identifier: Apache-2.0
"""The channel through HTTP proxies: real ones, and one that fails in each way, each with its cause."""

import base64
import contextlib
import os
import pathlib
import pwd
import re
import select
import shutil
import socket
import subprocess
import threading

from badportal import BadPortal
from harness import InstanceTest, main, run, wait_for


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Proxy:
    """A CONNECT proxy for tests: works, or fails in one chosen way. `requests` are the heads it got."""

    def __init__(self, fault=None):
        self.fault = fault
        self.requests = []
        self.swallow = 0  # of so many tunnels, the oldest ones, what comes is taken and not passed on
        self.tunnels = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._stop = threading.Event()
        self._socks = []
        self.listener.settimeout(0.2)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self):
        # The thread first: a descriptor closed under its accept() may be the next proxy's.
        self._stop.set()
        self._thread.join(5)
        self.reset_all()
        self.listener.close()

    def reset_all(self):
        """Ends every tunnel, as a proxy that restarts does."""
        for s in self._socks:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while not self._stop.is_set():
            try:
                c, _ = self.listener.accept()
            except TimeoutError:
                continue
            self._socks.append(c)
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        answers = {
            "auth": b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n",
            "forbidden": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            "garbage": b"\x16\x03\x01\x00\x00",
        }
        with contextlib.suppress(OSError), c, contextlib.ExitStack() as stack:
            head = b""
            while b"\r\n\r\n" not in head:
                data = c.recv(4096)
                if not data:
                    return
                head += data
            self.requests.append(head.decode(errors="replace"))
            if self.fault == "stall":
                self._stop.wait()
                return
            if self.fault in answers:
                c.sendall(answers[self.fault])
                return
            host, port = head.split(b" ")[1].rsplit(b":", 1)
            up = socket.create_connection((host.decode(), int(port)), 5)
            stack.enter_context(up)
            self._socks.append(up)
            self.tunnels += 1
            number = self.tunnels
            c.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            while not self._stop.is_set():
                for s in select.select([c, up], [], [], 0.5)[0]:
                    data = s.recv(65536)
                    if not data:
                        return
                    if number > self.swallow:
                        (up if s is c else c).sendall(data)


class ProxyTest(InstanceTest):
    def use(self, proxy_url, more="", connect_s=20):
        """Configures the endpoint to go through a proxy, and enrols it (or tries to)."""
        self.agent_extra = f"channel:\n  connect_timeout_s: {connect_s}\n"
        self.start_portal()
        c = self.i.path("config.yml")
        c.write_text(c.read_text().replace("portal:\n", f"portal:\n  proxy: {proxy_url}\n{more}", 1))
        self.i.start_endpoint()

    def enroll_fails(self):
        url = f"wss://127.0.0.1:{self.i.port}/v1/opamp"
        token = self.i.create_token()["token"]
        r = self.i.cli("enroll", "--portal", url, "--token", "-", input_text=token + "\n", check=False, timeout_s=40)
        self.assertNotEqual(r.returncode, 0, r.stdout)
        self.assertEqual(len(r.stderr.strip().splitlines()), 1, r.stderr)
        return r.stderr

    def proxy(self, fault=None):
        p = Proxy(fault)
        self.addCleanup(p.close)
        return p


class Faults(ProxyTest):
    def test_working_proxy_carries_the_channel_and_is_shown(self):
        p = self.proxy()
        self.use(f"http://127.0.0.1:{p.port}")
        self.i.enroll()
        a = self.i.wait_online()
        self.assertTrue(p.requests[0].startswith(f"CONNECT 127.0.0.1:{self.i.port} HTTP/1.1\r\n"), p.requests[0])
        self.assertEqual(a["session"]["proxy"], f"127.0.0.1:{p.port}")

    def test_tunnel_ended_by_the_proxy_is_redialled(self):
        p = self.proxy()
        self.use(f"http://127.0.0.1:{p.port}")
        self.i.enroll()
        before = self.i.wait_online()
        p.reset_all()
        o = wait_for(lambda: next((o for o in self.i.local_outages() if o["restored"]), None), 20, "the outage to be over")
        self.assertIn(o["cause"], ("peer_closed", "peer_reset"), o)
        self.assertGreater(self.i.wait_online()["session"]["epoch"], before["session"]["epoch"])

    def test_black_hole_behind_the_proxy_is_found_by_an_unanswered_heartbeat(self):
        """The proxy acknowledges everything: neither the kernel's timers nor retransmits can tell."""
        p = self.proxy()
        self.portal_extra = "heartbeat_s: 5\n"
        self.use(f"http://127.0.0.1:{p.port}")
        self.i.enroll()
        before = self.i.wait_online()
        p.swallow = p.tunnels
        o = wait_for(lambda: next((o for o in self.i.local_outages() if o["restored"]), None), 40, "the outage to be over")
        self.assertEqual((o["cause"], o["detected_by"]), ("portal_timeout", "heartbeat"), o)
        self.assertIn("proxy", o["detail"])
        self.assertGreater(self.i.wait_online()["session"]["epoch"], before["session"]["epoch"])

    def test_name_and_password_are_sent_and_never_shown(self):
        p = self.proxy()
        self.use(f"http://someone:s3cret@127.0.0.1:{p.port}")
        self.i.enroll()
        self.i.wait_online()
        want = base64.b64encode(b"someone:s3cret").decode()
        self.assertIn(f"Proxy-Authorization: Basic {want}\r\n", p.requests[0])
        self.assertNotIn("s3cret", self.log("launch") + self.i.cli("status").stdout + self.i.cli("config", "show").stdout)

    def test_proxy_that_wants_other_credentials_is_named_with_its_schemes(self):
        self.use(f"http://127.0.0.1:{self.proxy('auth').port}")
        text = self.enroll_fails()
        self.assertIn("proxy_auth", text)
        self.assertRegex(text, r"NTLM.*Negotiate")

    def test_proxy_that_forbids_is_named(self):
        self.use(f"http://127.0.0.1:{self.proxy('forbidden').port}")
        self.assertRegex(self.enroll_fails(), r"proxy_refused.*403")

    def test_proxy_that_says_nothing_is_named(self):
        self.use(f"http://127.0.0.1:{self.proxy('stall').port}", connect_s=2)
        self.assertIn("proxy_timeout", self.enroll_fails())

    def test_proxy_that_is_no_proxy_is_named(self):
        self.use(f"http://127.0.0.1:{self.proxy('garbage').port}", connect_s=3)
        self.assertIn("proxy_refused", self.enroll_fails())

    def test_proxy_that_is_down_is_named(self):
        self.use(f"http://127.0.0.1:{free_port()}")
        self.assertIn("proxy_refused", self.enroll_fails())

    def test_proxy_of_the_environment_is_used_and_its_no_proxy_obeyed(self):
        p, q = self.proxy(), self.proxy("forbidden")
        self.start_portal()
        self.i.start_endpoint(env={"https_proxy": f"http://127.0.0.1:{p.port}"})
        self.i.enroll()
        self.assertEqual(self.i.wait_online()["session"]["proxy"], f"127.0.0.1:{p.port}")
        self.i.stop_endpoint()
        self.i.start_endpoint(env={"HTTPS_PROXY": f"http://127.0.0.1:{q.port}", "NO_PROXY": "example.com,127.0.0.1"})
        self.assertFalse(self.i.wait_online()["session"]["proxy"])
        self.assertEqual(q.requests, [])

    def test_proxy_of_the_configuration_comes_before_the_environments(self):
        p, q = self.proxy(), self.proxy("forbidden")
        self.start_portal()
        c = self.i.path("config.yml")
        c.write_text(c.read_text().replace("portal:\n", f"portal:\n  proxy: http://127.0.0.1:{p.port}\n", 1))
        self.i.start_endpoint(env={"https_proxy": f"http://127.0.0.1:{q.port}", "no_proxy": "*"})
        self.i.enroll()
        self.assertEqual(self.i.wait_online()["session"]["proxy"], f"127.0.0.1:{p.port}")
        self.assertEqual(q.requests, [])

    def behind_gateway(self, fault):
        """Enrols through a proxy at a portal that answers as a gateway on the way would."""
        gateway = BadPortal(self.tmp, fault)
        gateway.__enter__()
        self.addCleanup(gateway.__exit__)
        p = self.proxy()
        self.use(f"http://127.0.0.1:{p.port}", connect_s=3)
        c = self.i.path("config.yml")
        c.write_text(c.read_text().replace("portal/ca.pem", str(gateway.ca_file)))
        self.i.cli("config", "reload")
        r = self.i.cli("enroll", "--portal", f"wss://127.0.0.1:{gateway.port}/v1/opamp", "--token", "-", input_text="x\n", check=False, timeout_s=40)
        self.assertNotEqual(r.returncode, 0)
        return r.stderr

    def test_proxy_that_strips_the_upgrade_is_named(self):
        self.assertIn("proxy_strips_upgrade", self.behind_gateway("upgrade_ignored"))

    def test_proxy_that_looks_into_tls_is_named_with_its_issuer(self):
        self.assertRegex(self.behind_gateway("wrong_ca"), "tls_intercepted.*ACME Web Gateway.*expected 'Test CA'")

    def test_no_proxy_goes_straight(self):
        p = self.proxy("forbidden")
        self.use(f"http://127.0.0.1:{p.port}", "  no_proxy: [127.0.0.0/8]\n")
        self.i.enroll()
        self.i.wait_online()
        self.assertEqual(p.requests, [])


class Real(ProxyTest):
    def start(self, argv, port, user):
        log = open(os.path.join(self.tmp, "proxy.log"), "wb")  # noqa: SIM115 closed by the cleanup
        self.addCleanup(log.close)
        p = subprocess.Popen(argv, stdout=log, stderr=log, user=user, group=user, extra_groups=[])

        def end():
            p.terminate()
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait(10)

        self.addCleanup(end)
        wait_for(lambda: accepts(port), 15, f"{argv[0]} to listen")

    def own_dir(self, user):
        d = pathlib.Path(self.tmp, "proxy")
        d.mkdir()
        os.chown(d, pwd.getpwnam(user).pw_uid, -1)
        return d

    def carries(self, port, more=""):
        self.use(f"http://127.0.0.1:{port}", more)
        self.i.enroll()
        a = self.i.wait_online()
        self.assertEqual(a["session"]["proxy"].rsplit("@")[-1], f"127.0.0.1:{port}")
        # Data both ways, and a redial through it.
        acked = self.i.status()["telemetry"]["acked"]
        run("/bin/true")
        wait_for(lambda: self.i.status()["telemetry"]["acked"] > acked, 20, "telemetry through the proxy")
        self.i.api("POST", f"/endpoints/{self.i.endpoint()['id']}/disconnect", {"mode": "reset"})
        wait_for(lambda: (self.i.agent()["session"] or {"epoch": 0})["epoch"] > a["session"]["epoch"], 20, "a new session")
        self.i.wait_online()

    def squid(self, access):
        self.assertTrue(shutil.which("squid"), "squid is not installed; make deps")
        port, d = free_port(), self.own_dir("proxy")
        conf = d / "squid.conf"
        conf.write_text(
            f"http_port 127.0.0.1:{port}\n{access.format(d=d)}\naccess_log none\ncache deny all\ncache_log {d}/cache.log\n"
            f"pid_filename none\ncoredump_dir {d}\nnetdb_filename none\npinger_enable off\nshutdown_lifetime 1 seconds\n"
        )
        self.start(["squid", "-N", "-f", str(conf), "-n", re.sub(r"\W", "", pathlib.Path(self.tmp).name)[:20]], port, "proxy")
        return port

    def test_squid_carries_the_channel(self):
        self.carries(self.squid("http_access allow all"))

    def test_squid_that_wants_name_and_password(self):
        port = self.squid(
            "auth_param basic program /usr/lib/squid/basic_fake_auth\nauth_param basic credentialsttl 1 hour\n"
            "acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all"
        )
        self.use(f"http://127.0.0.1:{port}")
        self.assertRegex(self.enroll_fails(), r"proxy_auth.*Basic.*none is configured")
        c = self.i.path("config.yml")
        c.write_text(c.read_text().replace(f"http://127.0.0.1:{port}", f"http://me:secret@127.0.0.1:{port}"))
        self.i.cli("config", "reload")
        self.i.wait_online(30)

    def test_squid_that_refuses_name_and_password(self):
        port = self.squid(
            "auth_param basic program /bin/sh -c \"while read x; do echo ERR; done\"\n"
            "acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all"
        )
        self.use(f"http://me:wrong@127.0.0.1:{port}")
        self.assertRegex(self.enroll_fails(), r"proxy_auth.*refused the configured user and password")

    def test_squid_that_wants_what_we_do_not_speak(self):
        port = self.squid(
            "auth_param negotiate program /usr/lib/squid/ntlm_fake_auth\nauth_param ntlm program /usr/lib/squid/ntlm_fake_auth\n"
            "auth_param digest program /usr/lib/squid/digest_file_auth {d}/none\nauth_param digest realm squid\n"
            "acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all"
        )
        self.use(f"http://me:secret@127.0.0.1:{port}")
        text = self.enroll_fails()
        for word in ("proxy_auth", "Digest", "NTLM", "Negotiate", "only Basic is supported: allow this host"):
            self.assertIn(word, text)

    def test_squid_that_forbids(self):
        self.use(f"http://127.0.0.1:{self.squid('http_access deny all')}")
        self.assertRegex(self.enroll_fails(), r"proxy_refused.*403")

    def tinyproxy(self, more=""):
        self.assertTrue(shutil.which("tinyproxy"), "tinyproxy is not installed; make deps")
        port, d = free_port(), self.own_dir("tinyproxy")
        conf = d / "tinyproxy.conf"
        conf.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 20\nAllow 127.0.0.1\nLogLevel Error\n{more}")
        self.start(["tinyproxy", "-d", "-c", str(conf)], port, "tinyproxy")
        return port

    def test_tinyproxy_carries_the_channel(self):
        self.carries(self.tinyproxy())

    def test_tinyproxy_that_knows_us_by_name_and_password(self):
        port = self.tinyproxy("BasicAuth me secret\n")
        self.use(f"http://me:wrong@127.0.0.1:{port}")
        self.assertRegex(self.enroll_fails(), "proxy_auth|proxy_refused")
        c = self.i.path("config.yml")
        c.write_text(c.read_text().replace("me:wrong@", "me:secret@"))
        self.i.cli("config", "reload")
        self.i.wait_online(30)

    def test_tinyproxy_that_allows_other_ports_only(self):
        self.use(f"http://127.0.0.1:{self.tinyproxy('ConnectPort 443' + chr(10))}")
        self.assertRegex(self.enroll_fails(), r"proxy_refused.*403")


if __name__ == "__main__":
    main()
