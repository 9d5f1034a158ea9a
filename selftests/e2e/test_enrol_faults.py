# SPDX-License-Identifier: Apache-2.0
"""Enrolment when something goes wrong in the middle, twice, or is undone."""

import os
import signal
import subprocess

from harness import BIN, InstanceTest, main, wait_for


class Enrol(InstanceTest):
    def url(self):
        return f"wss://{self.i.host}:{self.i.port}/v1/opamp"

    def enroll_cli(self, token):
        return self.i.cli("enroll", "--portal", self.url(), "--token", "-", input_text=token + "\n", check=False, timeout_s=40)

    def test_second_enrolment_is_refused_until_a_reset(self):
        a = self.start_online()
        r = self.enroll_cli(self.i.create_token()["token"])
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("already enrolled", r.stderr)
        self.assertIn("reset", r.stderr)
        self.assertEqual(self.i.wait_online()["pid"], a["pid"])
        self.i.cli("reset", "--yes")
        self.i.wait_state("unenrolled")
        self.i.enroll()
        b = self.i.wait_state("online")
        self.assertNotEqual(a["instance_uid"], b["instance_uid"])
        self.assertEqual(len(self.i.endpoints()), 2)

    def test_agent_killed_in_the_middle_goes_on_and_uses_the_token_once(self):
        self.start_portal()
        self.i.start_endpoint()
        token = self.i.create_token("once", max_uses=1)
        portal, agent = self.i.pid_of("portal"), self.i.agent()["pid"]
        os.kill(portal, signal.SIGSTOP)
        try:
            cli = subprocess.Popen(
                [str(BIN / "holdfast"), "--dir", str(self.i.dir), "enroll", "--portal", self.url(), "--token", "-"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
            )
            cli.stdin.write(token["token"] + "\n")
            cli.stdin.close()
            self.i.wait_state("enrolling")
            # The request is on its way or answered: nobody on this side knows.
            os.kill(agent, signal.SIGKILL)
        finally:
            os.kill(portal, signal.SIGCONT)
        cli.wait(60)
        self.i.wait_online(60)
        self.assertEqual(len(self.i.endpoints()), 1)
        used = next(t for t in self.i.api("GET", "/tokens")["items"] if t["id"] == token["id"])["used"]
        self.assertEqual(used, 1)

    def test_certificate_that_cannot_be_stored_is_asked_for_again_without_another_use(self):
        self.start_portal()
        self.i.start_endpoint()
        token = self.i.create_token("once", max_uses=1)
        # The disk refuses: something that cannot be replaced is in the certificate's place.
        in_the_way = self.i.path("state", "agent", "cert.pem")
        in_the_way.mkdir()
        r = self.enroll_cli(token["token"])
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("certificate", r.stderr)
        in_the_way.rmdir()
        self.i.wait_online(60)
        self.assertEqual(len(self.i.endpoints()), 1)
        used = next(t for t in self.i.api("GET", "/tokens")["items"] if t["id"] == token["id"])["used"]
        self.assertEqual(used, 1)

    def test_endpoint_deleted_in_the_portal_is_told_so_and_does_not_flap(self):
        self.start_online()
        self.i.api("DELETE", f"/endpoints/{self.i.endpoint()['id']}")
        a = self.i.wait_state("revoked", "held")
        self.assertRegex(a["state_detail"] if "state_detail" in a else self.log("launch"), "revoked|not_authorized|cert_revoked")

    def test_private_key_is_readable_by_the_agent_only(self):
        self.start_online()
        st = os.stat(self.i.path("state", "agent", "key.pem"))
        self.assertEqual(st.st_mode & 0o777, 0o600)
        self.assertEqual(st.st_uid, int(self.i.path("config.yml").read_text().split('user: "')[1].split('"')[0]))


if __name__ == "__main__":
    main()
