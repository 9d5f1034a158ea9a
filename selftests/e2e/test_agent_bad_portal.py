# SPDX-License-Identifier: Apache-2.0
"""Whatever answers at the portal's address: a named cause, no crash, and the agent goes on."""

import unittest

from badportal import BadPortal
from harness import InstanceTest, main, wait_for

TOKEN = "hfe_0000000000000000_" + "0" * 43

# fault → cause that must be named, and the close code that must be sent where a frame was wrong
CASES = {
    "silent_tcp": "portal_timeout",
    "silent_after_tls": "portal_timeout",
    "slow_response": "portal_timeout",
    "plain_http": "protocol_error",
    "wrong_ca": "tls_intercepted|cert_untrusted",
    "expired": "cert_expired",
    "not_yet_valid": "cert_not_yet_valid|clock_skew",
    "wrong_host": "cert_untrusted|dns_wrong",
    "weak_key": "weak_crypto",
    "not_http": "protocol_error",
    "upgrade_ignored": "proxy_strips_upgrade",
    "captive": "captive_portal",
    "overloaded": "portal_overload",
    "token_expired": "token_expired",
    "header_flood": "protocol_error",
    "wrong_accept": "protocol_error",
    "reset_at_upgrade": "peer_reset",
    "truncated_frame": "peer_reset",
    "oversized_frame": "protocol_error",
    "negative_length": "protocol_error",
    "masked_frame": "protocol_error",
    "reserved_bits": "protocol_error",
    "reserved_opcode": "protocol_error",
    "oversized_ping": "protocol_error",
    "invalid_utf8": "protocol_error",
    "text_message": "protocol_error",
    "bad_close_code": "protocol_error",
    "malformed_protobuf": "protocol_error",
    "wrong_header": "protocol_error",
    "empty_message": "protocol_error",
    "fragment_flood": "protocol_error",
    "new_message_within_a_message": "protocol_error",
    "continuation_of_nothing": "protocol_error",
    "fragmented_ping": "protocol_error",
    "long_length_form": "protocol_error",
    "close_of_one_byte": "protocol_error",
    "close_reason_not_utf8": "protocol_error",
    "endless_header_line": "protocol_error",
    "endless_body": "proxy_strips_upgrade",
    "endless_chunks": "protocol_error",
    "ping_flood": "portal_timeout",
}

CODES = {
    "oversized_frame": 1009,
    "negative_length": 1002,
    "masked_frame": 1002,
    "reserved_bits": 1002,
    "reserved_opcode": 1002,
    "oversized_ping": 1002,
    "invalid_utf8": 1007,
    "text_message": 1003,
    "bad_close_code": 1002,
    "malformed_protobuf": 1007,
    "wrong_header": 1007,
    "empty_message": 1007,
    "fragment_flood": 1008,
    "new_message_within_a_message": 1002,
    "continuation_of_nothing": 1002,
    "fragmented_ping": 1002,
    "long_length_form": 1002,
    "close_of_one_byte": 1002,
    "close_reason_not_utf8": 1007,
}

# What grows without bounds would be seen in here.
RSS_MAX_KB = 65536


def rss_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmHWM:")).split()[1])


class BadPortalTest(InstanceTest):
    agent_extra = "channel:\n  connect_timeout_s: 2\n"

    def check(self, fault):
        causes = CASES[fault].split("|")
        with BadPortal(self.tmp, fault) as p:
            self.prepare()
            text = self.i.path("config.yml").read_text()
            self.i.path("config.yml").write_text(
                text.replace("portal/ca.pem", "badportal-ca.pem").replace(f":{self.i.port}/", f":{p.port}/")
            )
            self.i.path("badportal-ca.pem").write_bytes(p.ca_file.read_bytes())
            self.i.start_endpoint()
            pid = self.i.agent()["pid"]
            r = self.i.cli("enroll", "--portal", f"wss://127.0.0.1:{p.port}/v1/opamp", "--token", "-", input_text=TOKEN, check=False, timeout_s=40)
            self.assertNotEqual(r.returncode, 0, r.stdout)
            message = r.stderr.strip()
            self.assertEqual(len(message.splitlines()), 1, f"not one line: {message!r}")
            self.assertTrue(message.startswith("holdfast: "), message)
            wait_for(lambda: any(c in self.log("launch") for c in causes), 10, f"the log to name {' or '.join(causes)}")
            self.assertEqual(self.i.agent()["pid"], pid, "the agent was replaced")
            self.assertEqual(self.i.component()["restarts"], 0)
            self.assertLess(rss_kb(pid), RSS_MAX_KB, "memory grew with what the portal sent")
            if fault in CODES:
                wait_for(lambda: p.close_codes, 10, "the agent's close frame")
                self.assertEqual(p.close_codes[0], CODES[fault])


def add(fault):
    def test(self):
        self.check(fault)

    setattr(BadPortalTest, f"test_{fault}_is_named_{CASES[fault].split('|')[0]}", test)


for f in CASES:
    add(f)

if __name__ == "__main__":
    assert issubclass(BadPortalTest, unittest.TestCase)
    main()
