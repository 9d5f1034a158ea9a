# SPDX-License-Identifier: Apache-2.0
"""Each way of losing the channel: noticed by the named evidence, with the right cause, and undone."""

import os
import pathlib
import signal
import subprocess

from harness import main, run, skip, wait_for
from records import SINGLE_RECORDS, Records
from twonets import FAR, NEAR, TwoNetsTest


def make_events(n=20):
    """Processes that end: telemetry to send."""
    for _ in range(n):
        subprocess.run(["/bin/true"], check=True)


class BlackHole(TwoNetsTest):
    def test_black_hole_while_sending_is_noticed_by_retransmits(self):
        self.start_online()
        known = self.known_outages()
        self.drop_far("meta l4proto tcp PORTS 4320")
        make_events()
        o = self.begun(known, 12)
        self.assertEqual((o["cause"], o["detected_by"]), ("blackhole", "kernel"), o)
        self.assertEqual(o["evidence"]["kernel"]["kind"], "conn.retransmit")
        self.heal()
        o = self.over(o, 70)
        self.i.wait_online()

    def test_only_the_old_path_is_dead_and_the_race_wins(self):
        before = self.start_online()
        known = self.known_outages()
        port = before["session"]["local"].rsplit(":", 1)[1]
        self.far("nft", "add", "table", "inet", "hf")
        self.far("nft", "add", "chain", "inet", "hf", "in", "{ type filter hook prerouting priority -300; }")
        self.far("nft", "add", "rule", "inet", "hf", "in", "tcp", "sport", port, "drop")
        make_events()
        o = self.over(self.begun(known, 12), 12)
        self.assertEqual((o["cause"], o["detected_by"]), ("blackhole", "kernel"), o)
        self.assertLess(o["outage_ms"], 6000, o)
        after = self.i.wait_online()
        self.assertGreater(after["session"]["epoch"], before["session"]["epoch"])
        self.assertEqual(after["pid"], before["pid"])
        # The old connection's end, whenever the portal notices it, must not unregister the new one.
        self.heal()
        wait_for(lambda: self.i.endpoint()["epoch"] == after["session"]["epoch"], 10, "the portal to keep the new connection")
        self.assertEqual(self.i.endpoint()["status"], "online")


class PathMtu(TwoNetsTest):
    def test_large_packets_that_vanish_are_named_and_healed_by_smaller_segments(self):
        self.start_online()
        known = self.known_outages()
        # One packet a segment, so that the drop below sees what a wire would.
        run("ethtool", "-K", "near0", "tso", "off", "gso", "off")
        self.far("nft", "add", "table", "inet", "hf")
        self.far("nft", "add", "chain", "inet", "hf", "in", "{ type filter hook prerouting priority -300; }")
        self.far("nft", "add", "rule", "inet", "hf", "in", "ip", "saddr", NEAR, "meta", "length", ">", "1280", "drop")
        make_events(300)
        # At the first loss.
        o = self.over(self.begun(known, 12), 12)
        self.assertEqual(o["cause"], "pmtu_blackhole", o)
        self.assertLess(o["outage_ms"], 10000, o)
        # Still too narrow for large segments, and online all the same.
        self.i.wait_online()
        make_events(300)
        known = self.known_outages()
        acked = self.i.status()["telemetry"]["acked"]
        wait_for(lambda: self.i.status()["telemetry"]["acked"] > acked + 200, 20, "telemetry to flow in small segments")
        self.assertEqual(self.known_outages(), known)

    def test_router_with_a_smaller_mtu_that_says_nothing_is_named_and_healed(self):
        """The real thing: a leg in the middle shrinks, and what the router has to say about it is filtered."""
        self.put_router()
        # Packets, not bundles of them, as from another host.
        self.far("ethtool", "-K", "far0", "tso", "off", "gso", "off")
        self.start_online()
        known = self.known_outages()
        self.router("nft", "add", "table", "inet", "hf")
        self.router("nft", "add", "chain", "inet", "hf", "out", "{ type filter hook output priority 0; }")
        self.router("nft", "add", "rule", "inet", "hf", "out", "icmp", "type", "destination-unreachable", "counter", "drop")
        told = self.icmp_unreachable()
        self.router("ip", "link", "set", "r1", "mtu", "1280")
        make_events(300)
        o = self.over(self.begun(known, 12), 12)
        self.assertEqual(o["cause"], "pmtu_blackhole", o)
        # The router tried to tell, and nobody heard it.
        self.assertRegex(self.router("nft", "list", "table", "inet", "hf").stdout, r"counter packets [1-9]")
        self.assertEqual(self.icmp_unreachable(), told)
        # The leg is as narrow as before, too narrow for the API's answers; the channel lives with it both ways.
        self.i.wait_state("online")
        known = self.known_outages()
        acked = self.i.status()["telemetry"]["acked"]
        make_events(300)
        wait_for(lambda: self.i.status()["telemetry"]["acked"] > acked + 200, 20, "telemetry to flow in small segments")
        self.assertEqual(self.known_outages(), known)

    def icmp_unreachable(self):
        """How many of them this side received."""
        snmp = pathlib.Path("/proc/net/snmp").read_text(encoding="ascii").splitlines()
        names, values = (line.split() for line in snmp if line.startswith("Icmp:"))
        return int(values[names.index("InDestUnreachs")])


class InFlight(Records, TwoNetsTest):
    agent_extra = SINGLE_RECORDS

    def portal_side(self):
        """The endpoint's ports of the channels that the portal's host has established."""
        out = self.far("ss", "-Htn", "state", "established", "src", FAR, "sport", "=", "4320").stdout
        return {line.split()[-1].rsplit(":", 1)[1] for line in out.splitlines()}

    def test_action_and_telemetry_in_flight_move_over_to_the_connection_that_won(self):
        before = self.start_online()
        known = self.known_outages()
        endpoint = self.i.endpoint()["id"]
        old = before["session"]["local"].rsplit(":", 1)[1]
        wait_for(lambda: old in self.portal_side(), 10, "the first connection at the portal")
        # Towards the portal the path is dead: it can still send an action, and gets no answer on it.
        self.far("nft", "add", "table", "inet", "hf")
        self.far("nft", "add", "chain", "inet", "hf", "in", "{ type filter hook prerouting priority -300; }")
        self.far("nft", "add", "rule", "inet", "hf", "in", "tcp", "sport", old, "counter", "drop")
        ident = self.i.api("POST", f"/endpoints/{endpoint}/actions", {"kind": "start", "params": {"component": "agent"}})["id"]
        pids = self.exits(40)
        o = self.over(self.begun(known, 12), 12)
        self.assertEqual(o["cause"], "blackhole", o)
        pids += self.exits(20)
        after = self.i.wait_online()
        self.assertGreater(after["session"]["epoch"], before["session"]["epoch"])
        self.assertEqual(after["pid"], before["pid"])
        # The portal keeps exactly one, the new one.
        new = after["session"]["local"].rsplit(":", 1)[1]
        wait_for(lambda: old not in (ports := self.portal_side()) and new in ports, 15, "the portal to keep the new connection only")
        self.assertEqual(self.i.endpoint()["epoch"], after["session"]["epoch"])
        # The action ran once and its one result arrived.
        action = wait_for(lambda: (a if (a := self.i.api("GET", f"/actions/{ident}"))["state"] == "succeeded" else None), 20, "the action's result")
        self.assertEqual([h["state"] for h in action["history"]].count("succeeded"), 1, action)
        self.assertEqual(sum(1 for x in self.log("launch").splitlines() if f"action '{ident}' (" in x and x.endswith("begins")), 1)
        # So did every record.
        self.assert_once(pids)
        self.assert_contiguous()
        # The old path comes alive again: its connection's rest changes nothing.
        self.heal()
        self.assert_once(self.exits(5))
        self.assertEqual((self.i.endpoint()["epoch"], self.i.endpoint()["status"]), (after["session"]["epoch"], "online"))


class IdleBlackHole(TwoNetsTest):
    agent_extra = "telemetry:\n  kinds: [telemetry.loss]\n"

    def test_black_hole_while_idle_is_noticed_by_keepalive(self):
        self.start_online()
        known = self.known_outages()
        self.drop_far("meta l4proto tcp PORTS 4320")
        o = self.begun(known, 30)
        self.assertEqual(o["cause"], "blackhole", o)
        self.assertIn(o["detected_by"], ("keepalive", "kernel"), o)
        self.heal()
        self.over(o, 70)

    def test_swapped_route_moves_the_channel_to_the_new_address(self):
        """Another way to the portal, from another address, while the old one leads nowhere."""
        self.far("ip", "route", "add", "10.78.0.0/24", "dev", "far0")
        self.start_online()
        wait_for(lambda: self.i.agent()["uptime_s"] > 3, 10, "kicks to be allowed again")
        known = self.known_outages()
        # What still comes from the old address is dropped without a word.
        self.far("nft", "add", "table", "inet", "hf")
        self.far("nft", "add", "chain", "inet", "hf", "in", "{ type filter hook prerouting priority -300; }")
        self.far("nft", "add", "rule", "inet", "hf", "in", "ip", "saddr", NEAR, "drop")
        run("ip", "addr", "add", "10.78.0.1/24", "dev", "near0")
        run("ip", "route", "add", f"{FAR}/32", "dev", "near0", "src", "10.78.0.1")
        o = self.over(self.begun(known, 15), 20)
        self.assertEqual((o["cause"], o["detected_by"]), ("no_route", "netlink"), o)
        self.assertIn("another address", o["detail"])
        self.assertTrue(self.i.wait_online()["session"]["local"].startswith("10.78.0.1:"))


class Local(TwoNetsTest):
    def lose(self, undo, cause, by, break_it):
        self.start_online()
        known = self.known_outages()
        break_it()
        o = self.begun(known, 15)
        self.assertEqual((o["cause"], o["detected_by"]), (cause, by), o)
        undo()
        o = self.over(o, 70)
        self.i.wait_online()
        return o

    def test_link_down_is_named_by_netlink_and_link_up_kicks(self):
        o = self.lose(self.wire_near, "link_down", "netlink", lambda: run("ip", "link", "set", "near0", "down"))
        self.assertIn("near0", o["detail"])

    def test_removed_address_is_named(self):
        o = self.lose(self.wire_near, "address_lost", "netlink", lambda: run("ip", "addr", "flush", "dev", "near0"))
        self.assertIn(NEAR, o["detail"])

    def test_removed_route_is_named(self):
        self.lose(
            lambda: run("ip", "route", "add", "10.77.0.0/24", "dev", "near0", "src", NEAR),
            "no_route", "netlink", lambda: run("ip", "route", "del", "10.77.0.0/24", "dev", "near0"),
        )

    def test_local_firewall_is_named_by_the_kernel(self):
        def firewall():
            run("nft", "add", "table", "inet", "hf")
            run("nft", "add", "chain", "inet", "hf", "out", "{ type filter hook output priority 0; }")
            run("nft", "add", "rule", "inet", "hf", "out", "tcp", "dport", "4320", "drop")
            make_events()

        self.lose(self.heal, "local_firewall", "kernel", firewall)

    def test_connection_killed_on_this_host_is_a_local_reset(self):
        def kill():
            r = run("ss", "-K", "dst", FAR, "dport", "=", "4320", check=False)
            if "ESTAB" not in r.stdout:
                skip("this kernel cannot destroy sockets (CONFIG_INET_DIAG_DESTROY)")

        self.lose(lambda: None, "local_reset", "kernel", kill)

    def test_firewall_on_the_way_that_rejects_with_a_reset(self):
        def reject():
            self.far("nft", "add", "table", "inet", "hf")
            self.far("nft", "add", "chain", "inet", "hf", "in", "{ type filter hook input priority 0; }")
            self.far("nft", "add", "rule", "inet", "hf", "in", "tcp", "dport", "4320", "reject", "with", "tcp", "reset")
            make_events()

        self.lose(self.heal, "peer_reset", "kernel", reject)


class NoKernelHelp(TwoNetsTest):
    """The same without eBPF: sockets, TCP_INFO, netlink and heartbeats are enough, only slower."""

    agent_extra = "kernel.mode: off\n"
    portal_extra = "heartbeat_s: 5\n"

    def test_reset_is_seen_by_the_socket(self):
        self.start_online()
        self.assertEqual(self.i.agent()["kernel_assist"], "off")
        known = self.known_outages()
        self.i.api("POST", f"/endpoints/{self.i.endpoint()['id']}/disconnect", {"mode": "reset"})
        o = self.over(self.begun(known, 10), 10)
        self.assertEqual((o["cause"], o["detected_by"]), ("peer_reset", "socket"), o)

    def test_black_hole_is_found_by_an_unanswered_heartbeat(self):
        self.start_online()
        known = self.known_outages()
        self.drop_far("meta l4proto tcp PORTS 4320")
        o = self.begun(known, 20)
        self.assertEqual(o["cause"], "blackhole", o)
        self.heal()
        self.over(o, 70)

    def test_removed_address_is_named_all_the_same(self):
        self.start_online()
        known = self.known_outages()
        run("ip", "addr", "flush", "dev", "near0")
        o = self.begun(known, 10)
        self.assertEqual((o["cause"], o["detected_by"]), ("address_lost", "netlink"), o)
        self.wire_near()
        self.over(o, 70)


class Portal(TwoNetsTest):
    portal_extra = "heartbeat_s: 5\n"

    def test_stopped_portal_is_a_timeout_not_a_black_hole(self):
        self.start_online()
        known = self.known_outages()
        pid = self.i.pid_of("portal")
        os.kill(pid, signal.SIGSTOP)
        try:
            o = self.begun(known, 40)
            self.assertEqual((o["cause"], o["detected_by"]), ("portal_timeout", "heartbeat"), o)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.over(o, 70)
        self.i.wait_online(30)


if __name__ == "__main__":
    main()
