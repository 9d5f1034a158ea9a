# SPDX-License-Identifier: Apache-2.0
"""Actions through the real portal, agent, watchdog and workers; whoever is killed in the middle, all agree on the end."""

import hashlib
import http.client

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


if __name__ == "__main__":
    main()
