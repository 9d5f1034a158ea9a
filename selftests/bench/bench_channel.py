# SPDX-License-Identifier: Apache-2.0
"""Reset → dial started → session re-established, beside the bare OpenSSL floor on the same portal.

The portal resets the TCP connection (SO_LINGER 0); the figures are the agent's own outage record,
which starts at the kernel's time stamp of the reset. The floor is build/bench/bin/floor: TCP, resumed TLS 1.3,
upgrade and first reply, with the same client certificate, in the same run, before and after.
"""

import http.client
import json
import subprocess
import time

from benchlib import bench_instance, nanoseconds, percentile, row
from instance import wait_for

RESETS = 200
QUIET_S = 0.06
CONFIG = "channel:\n  immediate_per_minute: 600\nrestart:\n  settle_s: 0\n"


def floor(i, n):
    """The floor's connect-to-first-reply times in µs."""
    agent = i.path("state", "agent")
    r = subprocess.run(
        [str(i.bench_bin / "floor"), "--host", i.host, "--port", str(i.port), "--ca", str(i.path("portal", "ca.pem")),
         "--cert", str(agent / "cert.pem"), "--key", str(agent / "key.pem"), "--count", str(n), "--json"],
        capture_output=True, text=True, timeout=120, check=True,
    )
    return json.loads(r.stdout)


class Admin:
    """The portal's API over one kept connection, so that no handshake disturbs the measurement."""

    def __init__(self, i):
        self.headers = {"Authorization": f"Bearer {i.admin_token()}", "Content-Type": "application/json"}
        self.conn = http.client.HTTPSConnection(i.host, i.port, context=i.tls_context(), timeout=10)

    def reset(self, endpoint):
        self.conn.request("POST", f"/api/v1/endpoints/{endpoint}/disconnect", b'{"mode":"reset"}', self.headers)
        r = self.conn.getresponse()
        r.read()
        if r.status != 200:
            raise RuntimeError(f"disconnect: HTTP {r.status}")


def rows():
    with bench_instance(CONFIG) as i:
        i.stop_endpoint()
        before = floor(i, RESETS)
        i.start_endpoint()
        i.wait_online()
        notice, dial, back, resumed = [], [], [], 0
        endpoint = i.endpoint()["id"]
        known = {o["id"] for o in i.local_outages()}
        admin = Admin(i)
        for _ in range(RESETS):
            admin.reset(endpoint)
            # Nothing else of ours runs while the agent comes back: two processors are all there is.
            time.sleep(QUIET_S)
            o = wait_for(lambda: next((x for x in i.local_outages() if x["id"] not in known and x["restored"]), None), 20, "the outage record")
            known.add(o["id"])
            if o["cause"] != "peer_reset":
                raise RuntimeError(f"wrong cause {o['cause']}: {o['detail']}")
            notice.append(1000 * o["detect_ms"])
            dial.append((nanoseconds(o["attempts"][0]["at"]) - nanoseconds(o["detected_at"])) / 1000)
            back.append(1000 * o["outage_ms"])
            resumed += bool(o["attempts"][-1].get("tls_resumed"))
        i.stop_endpoint()
        after = floor(i, RESETS)
    floor_us = before["us"] + after["us"]
    f50, f99 = percentile(floor_us, 50), percentile(floor_us, 99)
    out = [
        row("reset: kernel to noticed p50", percentile(notice, 50), "µs"),
        row("reset: kernel to noticed p99", percentile(notice, 99), "µs", goal="≤ 10000", met=percentile(notice, 99) <= 10000),
        row("reset: noticed to dial started p50", percentile(dial, 50), "µs"),
        row("reset: noticed to dial started p99", percentile(dial, 99), "µs", goal="≤ 1000", met=percentile(dial, 99) <= 1000),
        row("floor: connect to first reply p50", f50, "µs"),
        row("floor: connect to first reply p99", f99, "µs"),
    ]
    for p, f in ((50, f50), (99, f99)):
        v = percentile(back, p)
        out.append(row(f"reset: kernel to re-established p{p}", v, "µs", floor=f, goal="≤ 1.25 × floor" if p == 50 else None, met=v <= 1.25 * f if p == 50 else None))
    out.append(row("reset: TLS resumed", 100.0 * resumed / RESETS, "%"))
    return out
