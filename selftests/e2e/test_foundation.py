# SPDX-License-Identifier: Apache-2.0
"""The whole product in one namespace: enrol, lose the channel, lose the agent, lose the watchdog."""

import datetime
import json
import os
import signal
import subprocess

from harness import BIN, InstanceTest, alive, main, wait_for

NOBODY = 65534


class Foundation(InstanceTest):
    def new_outage(self, known, deadline_s=20):
        return wait_for(
            lambda: next((o for o in self.i.local_outages() if o["id"] not in known and o["restored"]), None), deadline_s, "a new outage record"
        )

    def known_outages(self):
        return {o["id"] for o in self.i.local_outages()}

    def test_enrolled_endpoint_is_online_on_both_sides(self):
        self.start_online()
        s = self.i.status()
        a, e = s["agent"], self.i.endpoint()
        self.assertEqual(a["state"], "online")
        self.assertIs(a["authorized"], True)
        self.assertEqual(a["session"]["tls_version"], "TLSv1.3")
        self.assertEqual(a["session"]["peer"], f"127.0.0.1:{self.i.port}")
        self.assertEqual(a["kernel_assist"], "ebpf", s["telemetry"]["programs"])
        self.assertEqual((e["status"], e["authorized"]), ("online", True))
        self.assertEqual(e["version"], a["version"])
        self.assertEqual(e["kernel"], os.uname().release)
        t = s["telemetry"]
        self.assertEqual(t["lost"], 0)
        with open(f"/proc/{a['pid']}/status", encoding="ascii") as f:
            status = dict(line.split(":\t", 1) for line in f if ":\t" in line)
        self.assertNotIn("0\t", status["Uid"][:2])
        for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[caps], 16), 0, caps)
        self.assertEqual(status["NoNewPrivs"].strip(), "1")

    def test_reset_by_the_portal_is_seen_by_the_kernel_and_named(self):
        before = self.start_online()
        known = self.known_outages()
        self.i.api("POST", f"/endpoints/{self.i.endpoint()['id']}/disconnect", {"mode": "reset"})
        o = self.new_outage(known)
        self.assertEqual((o["cause"], o["detected_by"]), ("peer_reset", "kernel"), o)
        self.assertEqual(o["evidence"]["kernel"]["kind"], "conn.reset_received")
        self.assertEqual(o["attempts"][-1]["phase"], "online")
        self.assertIs(o["attempts"][-1]["tls_resumed"], True)
        after = self.i.wait_online()
        self.assertEqual(after["pid"], before["pid"])
        self.assertGreater(after["session"]["epoch"], before["session"]["epoch"])
        wait_for(lambda: any(x["id"] == o["id"] and x["cause"] == "peer_reset" for x in self.i.outages()), 10, "the portal to have the record")
        self.assertEqual(self.i.endpoint()["last_outage"]["cause"], "peer_reset")

    def test_close_by_the_portal_is_a_restart_not_a_reset(self):
        self.start_online()
        known = self.known_outages()
        self.i.api("POST", f"/endpoints/{self.i.endpoint()['id']}/disconnect", {"mode": "close"})
        o = self.new_outage(known, 30)
        self.assertEqual(o["cause"], "portal_restart", o)

    def test_killed_agent_is_back_and_names_its_killer(self):
        before = self.start_online()
        known = self.known_outages()
        killer = subprocess.Popen(["/bin/sh", "-c", f"kill -9 {before['pid']}; exec cat"], stdin=subprocess.PIPE)
        try:
            wait_for(lambda: self.i.agent().get("pid") not in (None, before["pid"]), 20, "a new agent")
            self.i.wait_online()
            last = self.i.component()["last_exit"]
            self.assertEqual((last["cause"], last["signal"], last["by_pid"], last["by_uid"]), ("killed_by_operator", 9, killer.pid, 0), last)
            o = self.new_outage(known)
            self.assertEqual(o["cause"], "agent_killed", o)
            self.assertIn(str(killer.pid), o["detail"])
            wait_for(lambda: any(x["id"] == o["id"] for x in self.i.outages()), 10, "the portal to have the record")
        finally:
            killer.stdin.close()
            killer.wait(10)

    def test_replaced_watchdog_adopts_the_running_agent(self):
        before = self.start_online()
        old = self.i.watchdog()["pid"]
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: self.i.watchdog().get("pid") not in (None, old), 20, "a new watchdog")
        wait_for(lambda: self.i.component()["state"] == "running", 20, "the component to be running")
        self.assertEqual(self.i.component()["pid"], before["pid"])
        after = self.i.wait_online()
        self.assertEqual((after["pid"], after["session"]["epoch"]), (before["pid"], before["session"]["epoch"]))
        # and it still does its work for it
        known = self.known_outages()
        os.kill(before["pid"], signal.SIGKILL)
        o = self.new_outage(known)
        self.assertEqual(o["cause"], "agent_killed", o)
        self.assertEqual(self.i.component()["last_exit"]["by_pid"], os.getpid())

    def test_portal_that_is_down_at_start_is_unreachable_then_online(self):
        self.start_online()
        self.i.stop_endpoint()
        self.i.stop_portal()
        self.i.start_endpoint()
        a = self.i.wait_state("backoff", "connecting")
        self.assertTrue(alive(a["pid"]))
        wait_for(lambda: "portal_unreachable" in self.log("launch"), 10, "the log to name portal_unreachable")
        self.i.start_portal()
        self.i.wait_online(40)

    def test_portal_restart_is_named_and_survived(self):
        self.start_online()
        known = self.known_outages()
        self.i.stop_portal()
        self.i.start_portal()
        o = self.new_outage(known, 40)
        self.assertEqual(o["cause"], "portal_restart", o)
        self.i.wait_online()

    def test_killed_portal_is_named_and_survived(self):
        self.start_online()
        known = self.known_outages()
        self.i.kill_portal()
        self.i.start_portal()
        o = self.new_outage(known, 40)
        self.assertIn(o["cause"], ("peer_closed", "peer_reset"), o)
        self.i.wait_online()

    def test_unknown_and_expired_tokens_are_told_apart(self):
        self.start_portal()
        self.i.start_endpoint()
        url = f"wss://127.0.0.1:{self.i.port}/v1/opamp"
        used = self.i.create_token("once", max_uses=1)
        short = self.i.create_token("short", ttl_s=1)
        revoked = self.i.create_token("revoked")
        self.i.api("DELETE", f"/tokens/{revoked['id']}")
        wait_for(lambda: self.expired(short), 10, "the token to expire")
        for token, cause in (("hfe_0000000000000000_" + "0" * 43, "token_unknown"), (short["token"], "token_expired"), (revoked["token"], "token_revoked")):
            r = self.i.cli("enroll", "--portal", url, "--token", "-", input_text=token, check=False, timeout_s=40)
            self.assertNotEqual(r.returncode, 0)
            self.assertEqual(len(r.stderr.strip().splitlines()), 1, r.stderr)
            self.wait_log("launch", cause)
        self.i.enroll(used["token"])
        self.i.wait_online()

    def expired(self, token):
        return datetime.datetime.fromisoformat(token["expires_at"][:26] + "+00:00") < datetime.datetime.now(datetime.timezone.utc)

    def test_pending_endpoint_is_online_once_it_is_authorized(self):
        self.start_portal()
        self.i.start_endpoint()
        self.i.enroll(self.i.create_token("pending", pre_authorize=False)["token"])
        self.i.wait_state("pending")
        e = self.i.endpoint()
        self.assertEqual((e["status"], e["authorized"]), ("pending", False))
        self.i.api("POST", f"/endpoints/{e['id']}/authorize")
        a = self.i.wait_online()
        self.assertIs(a["authorized"], True)
        self.i.api("POST", f"/endpoints/{e['id']}/revoke")
        self.i.wait_state("revoked")
        self.assertEqual(self.i.endpoint()["status"], "revoked")

    def test_stranger_on_the_bus_is_refused_in_one_line(self):
        self.start_online()
        for verb in ("status", "outages"):
            r = subprocess.run(
                [str(BIN / "holdfast"), "--dir", str(self.i.dir), verb],
                capture_output=True, text=True, timeout=20, check=False, user=NOBODY, group=NOBODY, extra_groups=[],
            )
            self.assertNotEqual(r.returncode, 0)
            self.assertEqual(len(r.stderr.strip().splitlines()), 1, r.stderr)
            self.assertRegex(r.stderr, "permission denied.*(root|group)")
        self.assertTrue(alive(self.i.agent()["pid"]))

    def test_bad_configuration_names_file_line_and_what_was_expected(self):
        self.prepare()
        self.i.path("config.yml").write_text(self.i.default_agent_config() + "channel:\n  heartbeat_s: soon\n")
        line = self.i.path("config.yml").read_text().splitlines().index("  heartbeat_s: soon") + 1
        r = self.i.cli("config", "check", str(self.i.path("config.yml")), check=False)
        self.assertEqual(r.returncode, 1)
        self.assertRegex(r.stderr + r.stdout, rf"config\.yml:{line}: channel\.heartbeat_s: expected .*5.*300.*'soon'")

    def test_stop_leaves_no_process_and_no_pin(self):
        a = self.start_online()
        w = self.i.watchdog()["pid"]
        self.assertTrue(os.path.isdir(f"/sys/fs/bpf/holdfast/{self.instance_name()}"))
        self.i.stop_endpoint()
        self.assertFalse(alive(a["pid"]))
        self.assertFalse(alive(w))
        e = wait_for(lambda: (lambda x: x if x["status"] in ("offline", "powered_off") else None)(self.i.endpoint()), 5, "the goodbye to be shown at once")
        self.assertIn("agent_stopped", json.dumps(e["reason"]))
        self.assertFalse(os.path.exists(f"/sys/fs/bpf/holdfast/{self.instance_name()}"))

    def instance_name(self):
        """As userspace/proto/paths.c derives it: FNV-1a of the directory."""
        h = 0xCBF29CE484222325
        for b in str(self.i.dir).encode():
            h = (h ^ b) * 0x100000001B3 % 2**64
        return f"dev-{h:016x}"


if __name__ == "__main__":
    main()
