# SPDX-License-Identifier: Apache-2.0
"""Endpoint and portal in two network namespaces with a cable between them.

The test process and the endpoint are on the near side (10.77.0.1), the portal on the far side
(10.77.0.2). What is dropped on the far side leaves no trace on the near one: a true black hole.
"""

import os
import subprocess

from harness import Instance, InstanceTest, BIN, run, wait_for

NEAR, FAR = "10.77.0.1", "10.77.0.2"


class TwoNetsTest(InstanceTest):
    def setUp(self):
        # Cleanups run backwards: the instance, set up last, is stopped while there is still a cable.
        self.holder = subprocess.Popen(["unshare", "-n", "cat"], stdin=subprocess.PIPE)
        self.addCleanup(self.holder.wait, 10)
        self.addCleanup(self.holder.stdin.close)
        self.router_holder = None
        self.addCleanup(self._remove_router)
        own = os.stat("/proc/self/ns/net").st_ino
        wait_for(lambda: os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino != own, 10, "the far namespace")
        run("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", str(self.holder.pid))
        self.addCleanup(run, "ip", "link", "del", "near0", check=False)
        self.wire_near()
        self.far("ip", "link", "set", "lo", "up")
        self.far("ip", "addr", "add", f"{FAR}/24", "dev", "far0")
        self.far("ip", "link", "set", "far0", "up")
        super().setUp()
        self.i = Instance(os.path.join(self.tmp, "i"), BIN, host=FAR)
        self.i.netns["portal"] = f"/proc/{self.holder.pid}/ns/net"

    def _tear_down(self):
        self.heal()
        super()._tear_down()

    def wire_near(self):
        run("ip", "addr", "replace", f"{NEAR}/24", "dev", "near0")
        run("ip", "link", "set", "near0", "up")

    def far(self, *argv, **kw):
        return run("nsenter", "-t", str(self.holder.pid), "-n", *argv, **kw)

    def put_router(self):
        """Before the instance starts: a router takes the cable's place. Its far leg is r1, see router()."""
        self.router_holder = subprocess.Popen(["unshare", "-n", "cat"], stdin=subprocess.PIPE)
        own = os.stat("/proc/self/ns/net").st_ino
        wait_for(lambda: os.stat(f"/proc/{self.router_holder.pid}/ns/net").st_ino != own, 10, "the router's namespace")
        run("ip", "link", "del", "near0")
        pid = str(self.router_holder.pid)
        run("ip", "link", "add", "near0", "type", "veth", "peer", "name", "r0", "netns", pid)
        self.far("ip", "link", "add", "far0", "type", "veth", "peer", "name", "r1", "netns", pid)
        self.wire_near()
        self.router("ip", "addr", "add", "10.77.0.254/24", "dev", "r0")
        self.router("ip", "addr", "add", "10.78.0.254/24", "dev", "r1")
        self.router("ip", "link", "set", "r0", "up")
        self.router("ip", "link", "set", "r1", "up")
        self.router("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.router("ip", "route", "add", f"{FAR}/32", "via", "10.78.0.2")
        self.far("ip", "addr", "add", "10.78.0.2/24", "dev", "far0")
        self.far("ip", "addr", "add", f"{FAR}/32", "dev", "lo")
        self.far("ip", "link", "set", "far0", "up")
        self.far("ip", "route", "add", f"{NEAR}/32", "via", "10.78.0.254", "src", FAR)
        run("ip", "route", "add", f"{FAR}/32", "via", "10.77.0.254")

    def _remove_router(self):
        if self.router_holder:
            self.router_holder.stdin.close()
            self.router_holder.wait(10)

    def router(self, *argv, **kw):
        return run("nsenter", "-t", str(self.router_holder.pid), "-n", *argv, **kw)

    def drop_far(self, match):
        """Packets that match vanish on the far side, in both directions (match may use PORTS)."""
        self.far("nft", "add", "table", "inet", "hf")
        for hook, ports in (("prerouting", "th dport"), ("postrouting", "th sport")):
            self.far("nft", "add", "chain", "inet", "hf", hook, f"{{ type filter hook {hook} priority -300; }}")
            self.far("nft", "add", "rule", "inet", "hf", hook, f"{match.replace('PORTS', ports)} drop")

    def heal(self):
        self.far("nft", "delete", "table", "inet", "hf", check=False)
        run("nft", "delete", "table", "inet", "hf", check=False)
        self.wire_near()

    def known_outages(self):
        return {o["id"] for o in self.i.local_outages()}

    def begun(self, known, deadline_s):
        """The next outage's record, while it may still last, once it is sealed (the log says so)."""
        sealed = self.log("launch").count(" notice: outage: ")
        record = wait_for(lambda: next((o for o in self.i.local_outages() if o["id"] not in known), None), deadline_s, "an outage to begin")
        if not any(record["evidence"].values()):
            wait_for(lambda: self.log("launch").count(" notice: outage: ") > sealed, 5, "the outage to be sealed")
        return next(o for o in self.i.local_outages() if o["id"] == record["id"])

    def over(self, record, deadline_s):
        return wait_for(lambda: next((o for o in self.i.local_outages() if o["id"] == record["id"] and o["restored"]), None), deadline_s, "the outage to end")
