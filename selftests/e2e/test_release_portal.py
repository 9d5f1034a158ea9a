# SPDX-License-Identifier: Apache-2.0
"""Releases of the real agent: its canaries, its portal, the outages they cause, and the portal's actions."""

import json

from harness import BIN, InstanceTest, main, wait_for

from releases import Signer


class Portal(InstanceTest):
    agent_extra = "release:\n  probation_s: 3\n"

    def bundle(self, version):
        return self.signer.bundle(version, (BIN / "holdfast-agent").read_bytes() + f"\nbuild {version}\n".encode())

    def stage(self, path, *args):
        return self.i.cli("release", "stage", str(path), *args, "--json", timeout_s=90)

    def release(self):
        return next(r for r in json.loads(self.i.cli("release", "list", "--json").stdout)["items"] if r["component"] == "agent")

    def action(self, kind, **params):
        endpoint = self.i.endpoint()["id"]
        return self.i.api("POST", f"/endpoints/{endpoint}/actions", {"kind": kind, "params": params})["id"]

    def outcome(self, action):
        final = ("succeeded", "failed", "timed_out", "cancelled", "expired", "rejected", "indeterminate")
        return wait_for(lambda: next((a for a in [self.i.api("GET", f"/actions/{action}")] if a["state"] in final), None), 60, "the action's end")

    def wait_outage(self, cause):
        wait_for(lambda: any(o["cause"] == cause for o in self.i.outages()), 30, f"an outage of cause {cause} at the portal")

    def test_update_and_rollback_of_a_connected_agent(self):
        self.start_online()
        self.signer = Signer(self.i)
        self.signer.make_keys()
        old = self.i.component()["pid"]
        update = self.action("update", component="agent", version="1.1.0")
        self.stage(self.bundle("1.1.0"), "--wait")
        r = self.release()
        self.assertEqual((r["phase"], r["active"]["version"]), ("committed", "1.1.0"))
        self.assertNotEqual(self.i.component()["pid"], old)
        a = self.outcome(update)
        self.assertEqual(a["state"], "succeeded", a)
        self.i.wait_online()
        self.wait_outage("agent_update")
        self.assertFalse([e for e in self.i.events("--kind", "proc.exit") if e["comm"].startswith("hfc")], "canaries are shown to nobody")
        a = self.outcome(self.action("rollback", component="agent"))
        self.assertEqual(a["state"], "succeeded", a)
        self.assertEqual(self.release()["phase"], "rolled_back")
        self.wait_log("launch", "Rollback of 'agent' from 1.1.0 to 0.1.0: asked: asked for by the portal")
        self.i.wait_online()
        self.wait_outage("agent_rollback")
        self.assertIn("rolled back 1.1.0", self.i.cli("status").stdout)
        for params in ({"component": "nobody"}, {"component": "agent", "more": "x"}):
            a = self.outcome(self.action("rollback", **params))
            self.assertIn(a["state"], ("rejected", "failed"), a)


if __name__ == "__main__":
    main()
