# SPDX-License-Identifier: Apache-2.0
"""The portal by name: a resolver that fails, addresses that changed, some of which do not answer."""

import atexit
import ctypes
import os
import pathlib
import shutil
import signal
import ssl
import tempfile

from harness import InstanceTest, main, run, wait_for

NAME = "portal.test"
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18


class Files:
    """Own /etc/hosts and /etc/resolv.conf, seen by this process and what it starts only."""

    def __init__(self):
        libc = ctypes.CDLL(None, use_errno=True)

        def check(r, what):
            if r != 0:
                raise OSError(ctypes.get_errno(), what)

        check(libc.unshare(CLONE_NEWNS), "unshare(CLONE_NEWNS)")
        check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount private")
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="hf-etc-"))
        atexit.register(shutil.rmtree, self.dir, True)
        self.hosts = self.dir / "hosts"
        # Nobody listens there: asking it fails at once.
        for name, text in (("hosts", "127.0.0.1 localhost\n"), ("resolv.conf", "nameserver 127.0.0.53\noptions timeout:1 attempts:1\n")):
            (self.dir / name).write_text(text)
            os.chmod(self.dir / name, 0o644)
            target = os.path.realpath(f"/etc/{name}").encode()
            check(libc.mount(str(self.dir / name).encode(), target, None, MS_BIND, None), f"bind {name}")
        os.chmod(self.dir, 0o755)

    def say(self, *addresses):
        # Written in place: the mount is of this very file.
        self.hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{a} {NAME}\n" for a in addresses))


class Dns(InstanceTest):
    files = None

    def setUp(self):
        super().setUp()
        if not Dns.files:
            Dns.files = Files()
        self.files = Dns.files
        self.files.say("127.0.0.1")
        self.addCleanup(run, "nft", "delete", "table", "inet", "hf", check=False)

    def start_named(self):
        """Online at the portal's name."""
        self.prepare()
        for path in ("config.yml", "portal/portal.yml"):
            p = self.i.path(path)
            p.write_text(p.read_text().replace(f"//{self.i.host}:{self.i.port}", f"//{NAME}:{self.i.port}"))
        self.i.start_portal()
        self.i.start_endpoint()
        token = self.i.create_token()["token"]
        self.i.cli("enroll", "--portal", f"wss://{NAME}:{self.i.port}/v1/opamp", "--token", "-", input_text=token + "\n", timeout_s=40)
        return self.i.wait_online()

    def lose(self):
        self.i.api("POST", f"/endpoints/{self.i.endpoint()['id']}/disconnect", {"mode": "reset"})

    def back(self, before, deadline_s=30):
        wait_for(lambda: (self.i.agent()["session"] or {"epoch": 0})["epoch"] > before["session"]["epoch"], deadline_s, "a new session")
        return self.i.wait_online()

    def test_resolver_that_fails_is_outlived_by_the_last_good_address(self):
        before = self.start_named()
        self.files.say()
        # Longer than an answer counts as fresh.
        wait_for(lambda: self.i.agent()["uptime_s"] > 8, 20, "the answer to be old")
        self.lose()
        self.back(before)

    def test_agent_started_without_a_resolver_uses_the_last_good_address(self):
        before = self.start_named()
        wait_for(lambda: list(self.i.dir.rglob("last_good")), 10, "the address to be on disk")
        self.files.say()
        os.kill(before["pid"], signal.SIGKILL)
        wait_for(lambda: self.i.agent().get("pid") not in (None, before["pid"]), 20, "a new agent")
        self.back(before)

    def test_first_dial_without_a_resolver_is_dns_failed(self):
        self.files.say()
        self.start_portal()
        self.i.start_endpoint()
        token = self.i.create_token()["token"]
        r = self.i.cli("enroll", "--portal", f"wss://{NAME}:{self.i.port}/v1/opamp", "--token", "-", input_text=token + "\n", check=False, timeout_s=40)
        self.assertNotEqual(r.returncode, 0)
        self.assertRegex(r.stderr, f"dns_failed.*{NAME}")

    def test_address_that_does_not_answer_costs_a_quarter_second(self):
        before = self.start_named()
        run("nft", "add", "table", "inet", "hf")
        run("nft", "add", "chain", "inet", "hf", "in", "{ type filter hook input priority 0; }")
        run("nft", "add", "rule", "inet", "hf", "in", "ip", "daddr", "127.0.0.9", "drop")
        self.files.say("127.0.0.9", "127.0.0.1")
        wait_for(lambda: self.i.agent()["uptime_s"] > 8, 20, "the answer to be old")
        self.lose()
        a = self.back(before)
        self.assertEqual(a["session"]["peer"], f"127.0.0.1:{self.i.port}")

    def listen_on_both(self):
        """The portal on IPv4 and IPv6, the name with both addresses, v6 first as resolvers give it."""
        self.prepare()
        for path in ("config.yml", "portal/portal.yml"):
            p = self.i.path(path)
            p.write_text(p.read_text().replace(f"//{self.i.host}:{self.i.port}", f"//{NAME}:{self.i.port}").replace('listen: ["127.0.0.1:4320"]', 'listen: ["127.0.0.1:4320", "[::1]:4320"]'))
        self.files.say("::1", "127.0.0.1")
        self.i.start_portal()
        self.i.start_endpoint()
        token = self.i.create_token()["token"]
        self.i.cli("enroll", "--portal", f"wss://{NAME}:{self.i.port}/v1/opamp", "--token", "-", input_text=token + "\n", timeout_s=40)
        return self.i.wait_online()

    def test_black_holed_ipv6_costs_a_quarter_second_and_ipv4_carries(self):
        before = self.listen_on_both()
        self.assertEqual(before["session"]["peer"], f"[::1]:{self.i.port}")
        run("nft", "add", "table", "inet", "hf")
        run("nft", "add", "chain", "inet", "hf", "in", "{ type filter hook input priority 0; }")
        wait_for(lambda: self.i.agent()["uptime_s"] > 8, 20, "the answer to be old")
        self.lose_over_ipv6()
        a = self.back(before)
        self.assertEqual(a["session"]["peer"], f"127.0.0.1:{self.i.port}")
        o = self.i.local_outages()[-1]
        self.assertEqual(len(o["attempts"]), 1, o)
        self.assertLess(o["attempts"][0]["connect_us"], 2_000_000, o)

    def lose_over_ipv6(self):
        endpoint = self.i.endpoint()["id"]
        run("nft", "add", "rule", "inet", "hf", "in", "meta", "nfproto", "ipv6", "tcp", "flags", "&", "syn", "==", "syn", "drop")
        self.i.api("POST", f"/endpoints/{endpoint}/disconnect", {"mode": "reset"})

    def test_changed_address_is_followed(self):
        before = self.start_named()
        self.i.stop_portal()
        p = self.i.path("portal", "portal.yml")
        p.write_text(p.read_text().replace("127.0.0.1:", "127.0.0.5:"))
        self.files.say("127.0.0.5")
        self.i.host = "127.0.0.5"
        self.i.tls_context = lambda: ssl._create_unverified_context()
        self.i.start_portal()
        a = self.back(before, 60)
        self.assertEqual(a["session"]["peer"], f"127.0.0.5:{self.i.port}")


class Several(InstanceTest):
    """Several portal endpoints: tried in their order, the next one when one is away."""

    def start_with(self, *urls):
        self.prepare()
        c = self.i.path("config.yml")
        first, more = urls[0], ", ".join(urls[1:])
        c.write_text(c.read_text().replace(f"  url: wss://127.0.0.1:{self.i.port}/v1/opamp\n", f"  url: {first}\n  urls: [{more}]\n") + "channel:\n  connect_timeout_s: 3\n")
        self.i.start_portal()
        self.i.start_endpoint()

    def test_portals_are_tried_in_order_until_one_answers(self):
        dead = "wss://127.0.0.1:1/v1/opamp"
        unknown = "wss://no-such-host.invalid/v1/opamp"
        good = f"wss://127.0.0.1:{self.i.port}/v1/opamp"
        self.start_with(good, dead, unknown)
        self.i.enroll()
        self.i.wait_online()
        # Its address is now the last of the list; the others come first, in order.
        c = self.i.path("config.yml")
        c.write_text(c.read_text().replace(f"url: {good}", f"url: {dead}").replace(f"[{dead}, {unknown}]", f"[{unknown}, {good}]"))
        self.i.cli("config", "reload")
        self.wait_log("launch", "cannot resolve 'no-such-host.invalid'", 30)
        a = self.i.wait_online(40)
        self.assertEqual(a["session"]["peer"], f"127.0.0.1:{self.i.port}")
        log = self.log("launch")
        self.assertLess(log.index("cannot connect to 127.0.0.1:1"), log.index("cannot resolve 'no-such-host.invalid'"))

    def test_next_portal_takes_over_when_the_first_goes_away(self):
        second = f"wss://127.0.0.2:{self.i.port}/v1/opamp"
        self.start_with(f"wss://127.0.0.1:{self.i.port}/v1/opamp", second)
        self.i.enroll()
        before = self.i.wait_online()
        # The same portal, moved: its database and its CA, another address.
        self.i.stop_portal()
        p = self.i.path("portal", "portal.yml")
        p.write_text(p.read_text().replace("127.0.0.1:", "127.0.0.2:"))
        self.i.host = "127.0.0.2"
        self.i.start_portal()
        a = wait_for(lambda: next((a for a in [self.i.agent()] if (a["session"] or {"epoch": 0})["epoch"] > before["session"]["epoch"]), None), 60, "a new session")
        self.assertEqual(a["session"]["peer"], f"127.0.0.2:{self.i.port}")


if __name__ == "__main__":
    main()
