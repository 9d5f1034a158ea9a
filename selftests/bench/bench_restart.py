# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of the agent → new process exec'd → online again; resident memory of both daemons."""

import json
import os
import signal
import time

from benchlib import bench_instance, percentile, row
from instance import wait_for

KILLS = 100
QUIET_S = 0.06  # nothing else of ours runs while the agent comes back
CONFIG = "channel:\n  immediate_per_minute: 600\nrestart:\n  settle_s: 0\nrelease:\n  probation_s: 1\n"


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def rows():
    with bench_instance(CONFIG) as i:
        to_exec, to_online = [], []
        # A version on trial has its try written down, durably, before each exec. Measured is one that is committed.
        wait_for(lambda: all(x["phase"] == "committed" for x in json.loads(i.cli("release", "list", "--json").stdout)["items"]), 60, "the agent's version to be committed")
        for _ in range(KILLS):
            pid = i.agent()["pid"]
            known = {o["id"] for o in i.local_outages()}
            os.kill(pid, signal.SIGKILL)
            time.sleep(QUIET_S)
            o = wait_for(lambda known=known: next((x for x in i.local_outages() if x["id"] not in known and x["restored"]), None), 30, "the outage record of the kill")
            if o["cause"] != "agent_killed":
                raise RuntimeError(f"wrong cause {o['cause']}: {o['detail']}")
            to_exec.append(i.component()["last_exit"]["exit_to_exec_us"])
            to_online.append(1000 * o["outage_ms"])
        i.wait_online()
        agent = rss_kib(i.agent()["pid"])
        watchdog = rss_kib(i.watchdog()["pid"])
    return [
        row("SIGKILL: exit to exec p50", percentile(to_exec, 50), "µs"),
        row("SIGKILL: exit to exec p99", percentile(to_exec, 99), "µs", goal="≤ 5000", met=percentile(to_exec, 99) <= 5000),
        row("SIGKILL: exit to online p50", percentile(to_online, 50), "µs"),
        row("SIGKILL: exit to online p99", percentile(to_online, 99), "µs"),
        row("agent resident", agent, "KiB", goal="≤ 12288", met=agent <= 12288),
        row("watchdog resident", watchdog, "KiB", goal="≤ 8192", met=watchdog <= 8192),
    ]
