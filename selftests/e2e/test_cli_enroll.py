# SPDX-License-Identifier: Apache-2.0
"""holdfast enroll, reset and outages: what a person is told, and what nobody else may read."""

import json
import os
import socket
import subprocess

from harness import BIN, InstanceTest, main, wait_for

TOKEN = "hfe_0000000000000000_" + "0" * 43


class CliEnroll(InstanceTest):
    def enroll(self, *args, token=TOKEN, port=None):
        return self.i.cli("enroll", "--portal", f"wss://127.0.0.1:{port or self.i.port}/v1/opamp", "--token", "-", *args,
                          input_text=token + "\n", check=False, timeout_s=50)

    def fails(self, r, *texts):
        self.assertEqual((r.returncode, r.stdout), (1, ""), r)
        self.assertEqual(len(r.stderr.splitlines()), 1, r.stderr)
        self.assertRegex(r.stderr, r"^holdfast: enroll: [a-z_]+: .+; .+\n$")
        for text in texts:
            self.assertIn(text, r.stderr)

    def without_ca(self):
        config = self.i.path("config.yml")
        config.write_text(config.read_text().replace("  ca_file: portal/ca.pem\n", ""))

    def test_failure_says_why_and_what_to_do_in_one_line(self):
        self.start_portal()
        self.i.start_endpoint()
        self.fails(self.enroll(), "token_unknown", "; check the token")
        expired = self.i.create_token("used", max_uses=1)
        self.i.api("DELETE", f"/tokens/{expired['id']}")
        self.fails(self.enroll(token=expired["token"]), "token_revoked", "; make a new token in the portal")
        self.fails(self.enroll(port=1), "portal_unreachable", "; check the portal's address")
        self.assertEqual(self.i.agent()["authorized"], False)

    def test_empty_or_double_token_is_usage(self):
        self.prepare()
        for token in ("", "  ", "two words", "x" * 600):
            r = self.enroll(token=token)
            self.assertEqual((r.returncode, r.stdout), (2, ""), r)
            self.assertNotIn(token.strip() or "\0", r.stderr)
        r = self.i.cli("enroll", "--token", "x", "--ca", "none.pem", check=False)
        self.assertEqual(r.returncode, 2)
        self.assertIn("none.pem: No such file", r.stderr)

    def test_ca_file_is_read_from_where_the_caller_stands(self):
        self.start_portal()
        self.without_ca()
        self.i.start_endpoint()
        token = self.i.create_token()["token"]
        self.fails(self.enroll(token=token), "Holdfast portal CA", "--ca FILE")
        argv = [str(BIN / "holdfast"), "--dir", str(self.i.dir), "enroll", "--portal", f"wss://127.0.0.1:{self.i.port}/v1/opamp",
                "--token", "-", "--ca", "ca.pem", "--json"]
        r = subprocess.run(argv, input=token, cwd=self.i.path("portal"), capture_output=True, text=True, timeout=50, check=False)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertEqual(json.loads(r.stdout)["instance_uid"], self.i.agent()["instance_uid"])
        self.i.wait_online()

    def test_token_in_an_argument_does_not_stay_in_ps(self):
        self.prepare()
        self.without_ca()
        self.i.start_endpoint()
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            p = subprocess.Popen([str(BIN / "holdfast"), "--dir", str(self.i.dir), "enroll", "--token", TOKEN,
                                  "--portal", f"wss://127.0.0.1:{silent.getsockname()[1]}/v1/opamp"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                silent.settimeout(10)
                with silent.accept()[0], open(f"/proc/{p.pid}/cmdline", "rb") as f:
                    argv = f.read().split(b"\0")
                self.assertIn(b"*" * len(TOKEN), argv)
                self.assertNotIn(TOKEN.encode(), argv)
            finally:
                self.kill(p.pid)
                p.communicate(timeout=10)
        # The caller went away in the middle; that is nothing to the agent.
        self.assertIn("pid", self.i.agent())
        self.assertNotIn(TOKEN, self.log("launch"))

    def test_reset_forgets_and_the_host_enrols_again(self):
        before = self.start_online()
        self.assertIn("identity removed", self.i.cli("reset", input_text="").stdout)
        a = self.i.wait_state("unenrolled")
        self.assertEqual(a["session"], None)
        self.assertIn("holdfast enroll", self.i.cli("status").stdout)
        self.i.enroll()
        self.assertNotEqual(self.i.wait_state("online")["session"]["epoch"], before["session"]["epoch"])

    def test_result_says_when_somebody_has_to_approve(self):
        self.start_portal()
        self.i.start_endpoint()
        r = self.enroll(token=self.i.create_token("pending", pre_authorize=False)["token"])
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertRegex(r.stdout, r"^enrolled as [0-9a-f-]{36}, pending\napprove this host in the portal")

    def test_outages_are_chosen_by_time_and_shown_as_a_table(self):
        before = self.start_online()
        self.assertEqual(self.i.cli("outages").stdout, "")
        self.kill(before["pid"])
        o = wait_for(lambda: next((o for o in self.i.local_outages() if o["restored"]), None), 20, "the record")
        table = self.i.cli("outages").stdout.splitlines()
        self.assertEqual(table[0].split(), ["WHEN", "LASTED", "CAUSE", "SEEN", "BY", "NOTICED", "DETAIL"])
        self.assertIn(o["cause"], table[1])
        self.assertIn(str(os.getpid()), table[1])
        self.assertEqual(len(self.i.cli("outages", "--since", "1h", "--json").stdout.splitlines()), 1)
        self.assertEqual(self.i.cli("outages", "--since", "2100-01-01T00:00:00Z", "--json").stdout, "")


if __name__ == "__main__":
    main()
