# SPDX-License-Identifier: Apache-2.0
"""Actions through the real portal, agent, watchdog and workers; whoever is killed in the middle, all agree on the end."""

import ctypes
import hashlib
import http.client
import json
import os
import signal
import subprocess
import uuid

from harness import InstanceTest, main, wait_for

OPEN = ("queued", "sent", "accepted", "running")


class Whole(InstanceTest):
    def ask(self, kind, params=None):
        endpoint = self.i.endpoint()["id"]
        return self.i.api("POST", f"/endpoints/{endpoint}/actions", {"kind": kind, "params": params or {}})["id"]

    def get(self, ident):
        return self.i.api("GET", f"/actions/{ident}")

    def over(self, ident):
        return wait_for(lambda: (lambda a: a if a["state"] not in OPEN else None)(self.get(ident)), 60, "the end")

    def download(self, path):
        conn = http.client.HTTPSConnection(self.i.host, self.i.port, context=self.i.tls_context(), timeout=20)
        conn.request("GET", path, headers={"Authorization": f"Bearer {self.i.admin_token()}"})
        try:
            return conn.getresponse().read()
        finally:
            conn.close()

    def test_an_archive_comes_whole_and_a_worker_that_is_cut_short_has_an_end(self):
        self.start_online()
        a = self.over(self.ask("collect"))
        self.assertEqual(a["state"], "succeeded")
        data = self.download(a["artifact"]["url"])
        self.assertEqual((len(data), hashlib.sha256(data).hexdigest()), (a["artifact"]["bytes"], a["artifact"]["sha256"]))
        for victim, state in (("watchdog", "failed"), ("agent", "succeeded"), ("portal", "succeeded")):
            with self.subTest(victim):
                # Long enough to be hit; a small tree, so that it ends soon when it may.
                ident = self.ask("scan", {"checks": ["setuid"], "paths": ["/usr/lib"]})
                wait_for(lambda ident=ident: self.get(ident)["state"] != "sent", 15, "the scan to begin")
                if victim == "portal":
                    self.i.kill_portal()
                    self.i.start_portal()
                else:
                    self.kill((self.i.watchdog() if victim == "watchdog" else self.i.agent())["pid"])
                # It may have ended before the kill struck: then its outcome stands.
                self.assertIn(self.over(ident)["state"], (state, "succeeded"))
                self.i.wait_online()
        self.assertEqual(self.over(self.ask("restart", {"component": "agent"}))["state"], "succeeded")

    def another_boot(self):
        """From here on this process and what it starts read another boot id."""
        if ctypes.CDLL(None, use_errno=True).unshare(0x00020000) != 0:  # CLONE_NEWNS
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        known = self.i.path("boot_id")
        known.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        known.chmod(0o644)
        where = "/proc/sys/kernel/random/boot_id"
        subprocess.run(["mount", "--bind", str(known), where], check=True)
        self.addCleanup(subprocess.run, ["umount", where], check=False)
        with open(where, encoding="ascii") as f:
            self.assertEqual(f.read(), known.read_text(encoding="ascii"))

    def test_a_host_that_lost_power_in_the_middle_has_one_end_of_each_action_on_both_sides(self):
        self.start_online()
        for kind, params in (("scan", {"checks": ["setuid"], "paths": ["/usr"]}), ("restart", {"component": "agent"})):
            for again in ("same boot", "another boot"):
                with self.subTest(kind, again=again):
                    victims = [self.i.pid_of("launch"), self.i.watchdog()["pid"], self.i.agent()["pid"]]
                    ident = self.ask(kind, params)
                    wait_for(lambda ident=ident: f"action '{ident}' (" in self.log("launch"), 15, "the action to begin")
                    # Stopped first, so that nobody acts on another's end.
                    for sig in (signal.SIGSTOP, signal.SIGKILL):
                        for pid in victims:
                            self.kill(pid, sig)
                    if again == "another boot":
                        self.another_boot()
                    self.i.stop_endpoint()
                    self.i.start_endpoint()
                    self.i.wait_online()
                    end = self.over(ident)
                    self.assertIn(end["state"], ("succeeded", "failed", "indeterminate"))
                    self.assertFalse({self.i.watchdog()["pid"], self.i.agent()["pid"]} & set(victims))
                    local = wait_for(lambda ident=ident: self.confirmed(ident), 20, "the agent to have it confirmed")
                    self.assertEqual(local["state"], end["state"])
                    begun = [x for x in self.log("launch").splitlines() if f"action '{ident}' (" in x and x.endswith("begins")]
                    self.assertEqual(len(begun), 1, begun)

    def confirmed(self, ident):
        lines = self.i.cli("actions", "--json", "--limit", "500", check=False).stdout.splitlines()
        return next((a for a in map(json.loads, lines) if a["id"] == ident and a["confirmed"]), None)


if __name__ == "__main__":
    main()
