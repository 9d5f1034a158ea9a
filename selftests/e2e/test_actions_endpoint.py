# SPDX-License-Identifier: Apache-2.0
"""Agent and watchdog with a portal that drops, repeats, forges and holds back: an action runs once or not at all."""

import json
import os
import pathlib
import random
import socket

from actionportal import ActionPortal, Key, action_id
from harness import InstanceTest, main, run, wait_for
from rawclient import first, message

TOKEN = "any-token"


class ActionTest(InstanceTest):
    def start(self, **kw):
        p = ActionPortal(pathlib.Path(self.tmp), **kw)
        p.__enter__()
        self.addCleanup(p.__exit__)
        self.p = p
        self.prepare()
        c = self.i.path("config.yml")
        c.write_text(c.read_text().replace("portal/ca.pem", str(p.ca_file)).replace(f"wss://{self.i.host}:{self.i.port}/v1/opamp", p.url))
        self.i.start_endpoint()
        self.enroll()
        return p

    def enroll(self):
        self.i.cli("enroll", "--portal", self.p.url, "--token", "-", input_text=TOKEN + "\n", timeout_s=30)
        self.i.wait_state("online")

    def begun(self, ident):
        """How often the watchdog began it."""
        return sum(1 for line in self.log("launch").splitlines() if f"action '{ident}' (" in line and line.endswith("begins"))

    def once(self, ident, state="succeeded"):
        """It ran once, and both sides say the same."""
        self.assertEqual(self.begun(ident), 1)
        self.assertEqual(set(self.p.results(ident)), {state})
        local = wait_for(lambda: next((a for a in self.actions() if a["id"] == ident and a["confirmed"]), None), 15, "the agent to have it confirmed")
        self.assertEqual(local["state"], state)

    def actions(self):
        return [json.loads(line) for line in self.i.cli("actions", "--json", "--limit", "500").stdout.splitlines()]

    def wait_new_connection(self, before, deadline_s=30):
        return wait_for(lambda: len([c for c in self.p.connections if c.messages]) > before and self.p.connections[-1], deadline_s, "a new connection")

    def reconnected(self, hurt, deadline_s=30):
        """Does what hurts and waits for the agent's next session."""
        n = len([c for c in self.p.connections if c.messages])
        hurt()
        c = self.wait_new_connection(n, deadline_s)
        self.i.wait_state("online", deadline_s=deadline_s)
        return c

    def restarts_asked(self):
        """How often an agent was told to stop for a restart."""
        return sum(1 for line in self.log("launch").splitlines() if "holdfast-agent[" in line and "stopping: restart asked for by the portal" in line)

    def drop(self):
        """The link is gone; the thread that reads it must notice before the kernel tells the peer."""
        self.p.connections[-1].sock.shutdown(socket.SHUT_RDWR)

    def kill_agent(self):
        self.kill(self.i.agent()["pid"])

    def kill_watchdog(self):
        """Launch starts the next one."""
        pid = self.i.watchdog()["pid"]
        self.kill(pid)
        wait_for(lambda: self.i.watchdog().get("pid", pid) != pid, 20, "another watchdog")


class Delivery(ActionTest):
    def test_a_hundred_duplicates_out_of_order_run_each_action_once(self):
        p = self.start()
        all_of = [(i := action_id(), p.envelope(ident=i)) for _ in range(4)]
        order = all_of * 25
        random.Random(1).shuffle(order)
        for n, (i, e) in enumerate(order):
            p.deliver(i, e)
            if n == 50:
                self.reconnected(self.drop)
        for i, _ in all_of:
            p.wait_result(i)
            self.once(i)

    def drop_at(self, hurt):
        """Does it at each observable point of an action's way; the portal sends again as a portal does."""
        p = self.p
        for point in ("before the ack", "after the ack", "before the result's ack"):
            with self.subTest(point):
                p.confirm = point != "before the result's ack"
                i, e = p.give()
                if point == "after the ack":
                    p.wait_state(i, "accepted")
                elif point == "before the result's ack":
                    p.wait_result(i)
                self.reconnected(hurt)
                p.confirm = True
                heard = p.states(i)
                p.deliver(i, e, known="accepted" in heard)
                wait_for(lambda: [1 for b, c in p.of("result", i) if c is p.connections[-1]], 30, "the result on the new connection")
                self.once(i)

    def test_a_dropped_link_costs_nothing_at_any_point(self):
        self.start()
        self.drop_at(self.drop)

    def test_a_killed_agent_costs_nothing_at_any_point(self):
        self.start()
        self.drop_at(self.kill_agent)

    def test_a_killed_watchdog_costs_nothing_at_any_point(self):
        p = self.start()
        for point in ("before the ack", "after the ack", "before the result's ack"):
            with self.subTest(point):
                p.confirm = point != "before the result's ack"
                i, _ = p.give()
                if point == "after the ack":
                    p.wait_state(i, "accepted")
                elif point == "before the result's ack":
                    p.wait_result(i)
                self.kill_watchdog()
                p.confirm = True
                if point == "before the result's ack":
                    p.wait_result(i, n=2)
                else:
                    p.wait_result(i)
                self.once(i)

    def test_a_restart_is_done_once_whoever_is_killed_in_the_middle(self):
        p = self.start()
        for victim in ("watchdog", "agent", "both"):
            with self.subTest(victim):
                before = self.i.agent()["pid"]
                watchdog = self.i.watchdog()["pid"]
                asked = self.restarts_asked()
                i, e = p.give("restart")
                wait_for(lambda: self.begun(i), 15, "the restart to begin")
                if victim in ("watchdog", "both"):
                    self.kill(watchdog)
                if victim in ("agent", "both"):
                    self.kill(before)
                n = len([c for c in p.connections if c.messages])
                p.wait_result(i, 60)
                self.assertEqual(p.results(i)[0], "succeeded")
                self.assertNotEqual(self.i.agent()["pid"], before)
                self.once(i)
                self.assertLessEqual(self.restarts_asked() - asked, 1)
                self.assertGreaterEqual(len(p.connections), n)

    def test_a_stopped_agent_comes_back_by_itself_although_the_watchdog_is_killed(self):
        p = self.start()
        pid = self.i.agent()["pid"]
        i, _ = p.give("stop", (("component", "agent"), ("back_after_s", "4")))
        said = wait_for(lambda: [b for b, _ in p.of("state", i) if first(b, 6)], 15, "the announcement")[0]
        self.assertIn(b"comes back by itself after 4 s", first(said, 4))
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 15, "the agent to stop")
        n = len([c for c in p.connections if c.messages])
        self.kill(self.i.watchdog()["pid"])
        self.wait_new_connection(n)
        self.assertEqual(p.wait_result(i)[0], "succeeded")
        self.i.wait_state("online")
        self.once(i)
        self.assertIn("comes back: the time of its stop by action", self.log("launch"))

    def test_a_cancellation_and_the_completion_agree_whoever_is_first(self):
        p = self.start()
        for n in range(8):
            i, _ = p.give()
            if n % 2:
                p.wait_state(i, "accepted")
            p.tell("cancel", message(f1=i))
            state = p.wait_result(i)[0]
            self.assertIn(state, ("succeeded", "cancelled"))
            # A start that began is not undone: cancelled means that it never did.
            self.assertEqual(self.begun(i), 1 if state == "succeeded" else 0)
            self.assertEqual(len(set(p.results(i))), 1)
        i = action_id()
        p.tell("cancel", message(f1=i))
        self.assertEqual(p.wait_result(i)[0], "cancelled")


class Trust(ActionTest):
    def refused(self, reason, state="rejected", **kw):
        i, _ = self.p.give(**kw)
        self.assertEqual(self.p.wait_result(i)[:2], (state, reason), kw)
        self.assertFalse(self.begun(i))
        return i

    def test_what_is_not_for_this_host_now_and_by_this_portal_is_refused_and_named(self):
        p = self.start()
        ok, e = p.give()
        p.wait_result(ok)
        self.refused("wrong_endpoint", host=action_id())
        self.refused("bad_signature", sign=False)
        self.refused("unknown_key", key=Key())
        self.refused("unknown_kind", kind="format-disk")
        self.refused("bad_params", params=())
        self.refused("bad_params", params=(("component", "nothing-of-that-name"),))
        self.refused("bad_params", params=(("component", "agent"), ("force", "yes")))
        self.refused("bad_params", kind="stop", params=(("component", "agent"), ("back_after_s", "0")))
        self.refused("oversized", params=(("component", "a" * 3900),))
        self.refused("expired", "expired", issued_ns=p.now_ns() - 3600 * 10**9)
        i = action_id()
        p.deliver(i, p.envelope(ident=action_id()))  # another action in the envelope
        self.assertEqual(p.wait_result(i)[:2], ("rejected", "malformed"))
        p.deliver("../../x", b"\xff")
        self.assertEqual(p.wait_result("../../x")[:2], ("rejected", "malformed"))
        # A second time: the known answer, and nothing is done.
        p.deliver(ok, e)
        p.wait_result(ok, n=2)
        self.once(ok)

    def test_an_old_key_ends_with_the_rotation_also_for_who_was_offline(self):
        p = self.start()
        old = p.key
        i, _ = p.give()
        p.wait_result(i)
        # Twice while it is away.
        p.keys += [Key(), Key()]
        self.reconnected(self.drop)
        self.refused("old_key", key=old)
        i, _ = p.give()
        p.wait_result(i)
        self.once(i)
        # And once while it is here.
        p.keys.append(Key())
        p.tell("keys", p.chain())
        i, _ = p.give()
        p.wait_result(i)
        self.once(i)
        self.refused("old_key", key=old)
        # A stranger's chain changes nothing.
        mine, p.keys = p.keys, [Key()]
        p.tell("keys", p.chain())
        self.wait_log("launch", "do not continue the trusted one")
        self.refused("unknown_key")
        p.keys = mine
        # Nor does the next watchdog forget.
        self.kill_watchdog()
        self.refused("old_key", key=old)
        i, _ = p.give()
        p.wait_result(i)
        self.once(i)

    def test_a_person_who_enrols_again_makes_the_next_key_trusted(self):
        p = self.start()
        p.keys, p.host = [Key()], action_id()
        self.reconnected(self.drop)
        self.wait_log("launch", "the portal calls this host")
        self.i.cli("reset", "--yes")
        self.enroll()
        i, _ = p.give()
        self.assertEqual(p.wait_result(i)[0], "succeeded")

    def test_nothing_begins_before_the_time_of_the_portal_is_proven(self):
        p = self.start()
        p.give_time = False
        self.kill_watchdog()  # the next one knows no time
        i, _ = p.give()
        p.wait_state(i, "accepted")
        wait_for(lambda: [1 for k, _, _ in p.heard if k == "time_ask"], 15, "the question for the time")
        self.assertFalse(self.begun(i))
        p.give_time = True
        p.wait_result(i, 40)
        self.once(i)

    def clocks_apart(self, shift_s):
        p = self.start(shift_s=shift_s)
        i, _ = p.give()
        self.assertEqual(p.wait_result(i)[0], "succeeded")
        self.refused("expired", "expired", issued_ns=p.now_ns() - 3600 * 10**9)
        # Good by this host's clock, over by the portal's.
        self.refused("expired", "expired", issued_ns=p.now_ns() - 61 * 10**9)

    def test_a_host_whose_clock_is_days_behind_takes_actions_and_no_expired_ones(self):
        self.clocks_apart(20 * 86400)

    def test_a_host_whose_clock_is_days_ahead_takes_actions_and_no_expired_ones(self):
        self.clocks_apart(-20 * 86400)


class NotAllowed(ActionTest):
    def test_the_hosts_own_configuration_decides_about_kinds(self):
        p = self.start()
        c = self.i.path("config.yml")
        c.write_text(c.read_text().replace("[start, stop, restart,", "[stop, restart,"))
        self.i.cli("config", "reload")
        i, _ = p.give("start")
        self.assertEqual(p.wait_result(i)[:2], ("rejected", "not_allowed"))
        self.assertFalse(self.begun(i))
        i, _ = p.give("restart")
        self.assertEqual(p.wait_result(i)[0], "succeeded")


class Disk(ActionTest):
    def journal(self, daemon):
        return next(p for p in self.i.dir.rglob("actions") if p.is_dir() and daemon in str(p.relative_to(self.i.dir)))

    def refuses_until(self, mend):
        """The journal takes nothing: refused and not begun; then it is mended."""
        p = self.p
        i, _ = p.give()
        self.assertEqual(p.wait_result(i)[:2], ("rejected", "journal"))
        self.assertFalse(self.begun(i))
        mend()
        i, _ = p.give()
        self.assertEqual(p.wait_result(i)[0], "succeeded")
        self.once(i)

    def test_an_agent_that_may_not_write_its_journal_refuses(self):
        self.start()
        where = self.journal("agent")
        mine = os.stat(where).st_uid
        os.chown(where, 0, 0)
        self.refuses_until(lambda: os.chown(where, mine, mine))

    def test_a_watchdog_whose_journal_is_read_only_refuses(self):
        self.start()
        where = str(self.journal("watchdog"))
        # The watchdog sees what was mounted before it began.
        self.i.stop_endpoint()
        run("mount", "--bind", where, where)
        self.addCleanup(run, "umount", "-l", where, check=False)
        run("mount", "-o", "remount,bind,ro", where)
        self.i.start_endpoint()
        self.i.wait_state("online")
        i, _ = self.p.give()
        self.assertEqual(self.p.wait_result(i)[:2], ("rejected", "journal"))
        self.assertFalse(self.begun(i))

    def test_a_full_disk_refuses_and_takes_the_next_when_there_is_room(self):
        os.makedirs(self.i.dir)
        run("mount", "-t", "tmpfs", "-o", "size=24m,mode=0755", "none", str(self.i.dir))
        self.addCleanup(run, "umount", "-l", str(self.i.dir), check=False)
        self.start()
        fill = self.i.path("fill")
        with open(fill, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 65536)
            except OSError:
                pass
            try:
                while True:
                    f.write(b"x")
            except OSError:
                pass
        self.refuses_until(fill.unlink)

    def test_torn_records_are_indeterminate_and_never_begin_again(self):
        p = self.start()
        i, e = p.give()
        p.wait_result(i)
        self.once(i)
        self.i.stop_endpoint()
        for daemon in ("agent", "watchdog"):
            (self.journal(daemon) / i).write_bytes(b"")
        n = len(p.heard)
        self.i.start_endpoint()
        self.i.wait_state("online")
        p.deliver(i, e, known=True)
        wait_for(lambda: "indeterminate" in [first(b, 2).decode() for k, b, _ in p.heard[n:] if k == "result"], 30, "indeterminate")
        self.assertEqual(self.begun(i), 1)

    def test_a_lost_journal_of_the_agent_is_made_good_by_the_watchdogs(self):
        p = self.start()
        p.confirm = False
        i, e = p.give()
        p.wait_result(i)
        self.i.stop_endpoint()
        (self.journal("agent") / i).unlink()
        n = len(p.heard)
        p.confirm = True
        self.i.start_endpoint()
        self.i.wait_state("online")
        p.deliver(i, e, known=True)
        wait_for(lambda: "succeeded" in [first(b, 2).decode() for k, b, _ in p.heard[n:] if k == "result"], 30, "the outcome")
        self.assertEqual(self.begun(i), 1)
        # Nobody knows this one.
        i = action_id()
        p.deliver(i, p.envelope(ident=i), known=True)
        wait_for(lambda: "unknown" in p.states(i), 15, "unknown")
        self.assertFalse(self.begun(i))


if __name__ == "__main__":
    main()
