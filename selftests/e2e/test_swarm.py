# SPDX-License-Identifier: Apache-2.0
"""A fleet in one process: real TLS, WebSocket, OpAMP and the agent's own backoff."""

import json
import os
import subprocess
import threading
import time

from harness import BIN, InstanceTest, main, wait_for

COUNT = 1000
ACCEPT_PER_S = 1000
SPREAD_S = 2 * COUNT / ACCEPT_PER_S  # what the portal tells a fleet of this size
BUCKET_S = 0.1


class Swarm:
    """holdfast-swarm with its lines read as they come."""

    def __init__(self, instance, token, *args):
        self.started = time.monotonic()
        self.p = subprocess.Popen(
            [BIN / "holdfast-swarm", "--portal", f"wss://{instance.host}:{instance.port}/v1/opamp",
             "--ca", instance.path("portal", "ca.pem"), "--token", "-", "--json", *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.p.stdin.write(token + "\n")
        self.p.stdin.close()
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.p.stdout:
            self.lines.append(json.loads(line))

    def events(self, name):
        return [x for x in list(self.lines) if x["event"] == name]

    def elapsed_ms(self):
        return 1000 * (time.monotonic() - self.started)

    def wait_all_online(self, times, deadline_s):
        return wait_for(lambda: (lambda e: e[times - 1] if len(e) >= times else None)(self.events("all_online")), deadline_s, f"all online, {times}")

    def stop(self):
        """The report."""
        self.p.terminate()
        self.p.wait(20)
        self.reader.join(10)
        self.p.stdout.close()
        return self.events("report")[0]


class Fleet(InstanceTest):
    portal_extra = f"accept_per_s: {ACCEPT_PER_S}\n"

    def start_swarm(self, *args):
        self.start_portal()
        swarm = Swarm(self.i, self.i.create_token()["token"], *args)
        self.addCleanup(lambda: swarm.p.poll() is None and swarm.p.kill())
        return swarm

    def online(self):
        return self.i.api("GET", "/fleet")["by_status"]["online"]

    def peak_to_mean(self, report, began_ms, ended_ms):
        """Arrivals of one wave: the fullest tenth of a second over the mean of the spread window."""
        wave = report["arrivals_at"][int(began_ms / 100) : int(ended_ms / 100) + 1]
        self.assertGreaterEqual(sum(wave), 0.95 * COUNT)
        return max(wave) / (COUNT / (SPREAD_S / BUCKET_S))

    def test_a_thousand_agents_never_synchronise(self):
        swarm = self.start_swarm("--count", str(COUNT), "--rate", "350", "--state", os.path.join(self.tmp, "swarm"))
        swarm.wait_all_online(1, 60)
        self.assertEqual(self.online(), COUNT)
        waves = {}

        def wave(name):
            began = swarm.elapsed_ms()
            yield
            wait_for(lambda: self.online() >= 0.95 * COUNT, 60, f"the fleet after: {name}", interval_s=0.2)
            waves[name] = (began, swarm.elapsed_ms())

        for _ in wave("killed, refused for 5 s"):
            self.i.kill_portal()
            time.sleep(5)  # the fault itself: connections are refused for so long
            self.i.start_portal()
        # Their failures count still, and yet all are back within the window that the goodbye names.
        for _ in wave("restarted"):
            self.i.stop_portal()
            self.i.start_portal()
        report = swarm.stop()
        for name, (began, ended) in waves.items():
            ratio = self.peak_to_mean(report, began, ended)
            print(f"{name}: 95 % back after {(ended - began) / 1000:.1f} s, peak/mean {ratio:.2f}")
            self.assertLess(ratio, 3, name)
        print({k: v for k, v in report.items() if not isinstance(v, list)})
        self.assertEqual((report["enrolled"], report["superseded"], report["errors"]), (COUNT, 0, 0))
        self.assertGreaterEqual(report["resumed"], 0.95 * (report["onlines"] - COUNT))

    def test_telemetry_of_many_is_stored_once(self):
        swarm = self.start_swarm("--count", "50", "--rate", "200", "--events", "600")
        swarm.wait_all_online(1, 30)
        wait_for(lambda: len(self.i.api("GET", "/events?limit=1000")["items"]) >= 500, 20, "500 events")
        report = swarm.stop()
        self.assertGreaterEqual(report["acked"], 500)
        self.assertEqual((report["errors"], report["missed"], report["losses"]), (0, 0, 0))


if __name__ == "__main__":
    main()
