# SPDX-License-Identifier: Apache-2.0
"""An instance whose agent is the test component, with keys and releases of it that misbehave."""

import json

from harness import BIN, ROOT, wait_for
from watchdogtest import TESTAGENT, WatchdogTest

from releases import Signer

__all__ = ["ROOT", "ReleaseTest"]


class ReleaseTest(WatchdogTest):
    config_extra = "release:\n  probation_s: 2\nhang:\n  deadline_ms: 1000\n  expect_ms: 200\n"

    def setUp(self):
        super().setUp()
        for name in ("holdfast", "holdfast-sign"):
            (self.i.bin / name).symlink_to(BIN / name)
        self.signer = Signer(self.i)
        self.signer.make_keys()

    def program(self, mode, version):
        return TESTAGENT.read_bytes() + f"\nTESTAGENT {mode};{version}\n".encode()

    def bundle(self, version, mode="ok", *extra, **kw):
        return self.signer.bundle(version, self.program(mode, version), *extra, **kw)

    def stage(self, path, *args, check=True):
        """The CLI's exit code, its JSON and its complaint."""
        r = self.i.cli("release", "stage", str(path), *args, "--json", check=False, timeout_s=60)
        if check:
            self.assertEqual(r.returncode, 0, r.stderr)
        return r.returncode, json.loads(r.stdout) if r.stdout.strip() else None, r.stderr

    def refused(self, path, reason):
        """Staging is refused with this word, and what runs is left alone."""
        before = self.agent()
        code, out, complaint = self.stage(path, check=False)
        self.assertEqual(code, 1, (out, complaint))
        self.assertEqual(out["job"]["state"], "refused", out["job"])
        self.assertEqual(out["job"]["reason"], reason, out["job"])
        self.assertIn(f": {reason}: ", complaint)
        self.assertTrue(out["job"]["text"], out["job"])
        after = self.agent()
        self.assertEqual((before["pid"], before["state"]), (after["pid"], after["state"]))
        return out["job"]["text"]

    def releases(self):
        return json.loads(self.i.cli("release", "list", "--json").stdout)

    def release(self, component="agent"):
        return next(r for r in self.releases()["items"] if r["component"] == component)

    def wait_release(self, predicate, what, component="agent", deadline_s=30):
        return wait_for(lambda: next((r for r in [self.release(component)] if predicate(r)), None), deadline_s, what)

    def wait_phase(self, phase, deadline_s=30, **kw):
        return self.wait_release(lambda r: r["phase"] == phase, f"phase {phase}", deadline_s=deadline_s, **kw)

    def wait_version(self, version, deadline_s=30):
        return self.wait_agent(lambda a: a["state"] == "running" and a["version"] == version, f"version {version}", deadline_s)

    def wait_rollback(self, reason, version_from, version_to="0.1.0", deadline_s=40):
        """The candidate is given up for this reason, the other one is healthy, and it is told."""
        def happened(r):
            b = r["last_rollback"]
            return r["phase"] == "rolled_back" and b and b["from"] == version_from

        r = self.wait_release(happened, f"rollback from {version_from}", deadline_s=deadline_s)
        b = r["last_rollback"]
        self.assertEqual((b["reason"], b["to"]), (reason, version_to), b)
        self.wait_log("launch", f"Rollback of 'agent' from {version_from} to {version_to}: {reason}: ")
        return r
