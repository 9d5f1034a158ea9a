# SPDX-License-Identifier: Apache-2.0
"""Reset → dial started → session re-established, beside the bare OpenSSL floor on the same portal.

The portal resets the TCP connection (SO_LINGER 0); the figures are the agent's own outage record,
which starts at the kernel's time stamp of the reset. The floor is build/bench/bin/floor: TCP, resumed
TLS 1.3, upgrade and first reply, with a client certificate of its own. The two take turns with the
same pause before each, so that both meet the same machine: one that runs in a tight loop would find
everything warm and be no floor.
"""

import http.client
import subprocess
import time

from benchlib import bench_instance, nanoseconds, percentile, row
from instance import wait_for
from rawclient import Endpoint

RESETS = 200
QUIET_S = 0.06
CONFIG = "channel:\n  immediate_per_minute: 600\nrestart:\n  settle_s: 0\n"
PHASES = (("tcp", "connect_us"), ("tls", "tls_us"), ("upgrade", "upgrade_us"), ("reply", "hello_us"))


class Floor:
    """The floor's program, a connection each time it is asked; an endpoint of its own."""

    def __init__(self, i):
        peer = Endpoint(i, hostname="floor")
        peer.enroll(i.create_token()["token"])
        key, cert = i.path("floor.key"), i.path("floor.pem")
        key.write_bytes(peer.identity.key_pem())
        cert.write_bytes(peer.identity.certificate)
        peer.close()
        self.process = subprocess.Popen(
            [str(i.bench_bin / "floor"), "--host", i.host, "--port", str(i.port), "--ca", str(i.path("portal", "ca.pem")),
             "--cert", str(cert), "--key", str(key), "--paced"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )

    def once(self):
        """{phase: µs} and its sum under "total"."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline().split()
        if len(line) != len(PHASES) + 1:
            raise RuntimeError("the floor's program ended")
        return dict(zip([p for p, _ in PHASES] + ["total"], map(int, line)))

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


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
        notice, dial, back, resumed, below = [], [], [], 0, []
        phases = {p: [] for p, _ in PHASES}
        endpoint = i.endpoint()["id"]
        floor = Floor(i)
        known = {o["id"] for o in i.local_outages()}
        admin = Admin(i)
        for _ in range(RESETS):
            time.sleep(QUIET_S)
            below.append(floor.once())
            time.sleep(QUIET_S)
            admin.reset(endpoint)
            # Nothing else of ours runs while the agent comes back: two processors are all there is.
            time.sleep(QUIET_S)
            o = wait_for(lambda: next((x for x in i.local_outages() if x["id"] not in known and x["restored"]), None), 20, "the outage record")
            known.add(o["id"])
            if o["cause"] != "peer_reset":
                raise RuntimeError(f"wrong cause {o['cause']}: {o['detail']}")
            last = o["attempts"][-1]
            notice.append(1000 * o["detect_ms"])
            dial.append((nanoseconds(o["attempts"][0]["at"]) - nanoseconds(o["detected_at"])) / 1000)
            back.append(1000 * o["outage_ms"])
            resumed += bool(last.get("tls_resumed"))
            for p, key in PHASES:
                phases[p].append(last[key])
        floor.close()
    total = [f["total"] for f in below]
    out = [
        row("reset: kernel to noticed p50", percentile(notice, 50), "µs"),
        row("reset: kernel to noticed p99", percentile(notice, 99), "µs", goal="≤ 10000", met=percentile(notice, 99) <= 10000),
        row("reset: noticed to dial started p50", percentile(dial, 50), "µs"),
        row("reset: noticed to dial started p99", percentile(dial, 99), "µs", goal="≤ 1000", met=percentile(dial, 99) <= 1000),
        row("floor: connect to first reply p50", percentile(total, 50), "µs"),
        row("floor: connect to first reply p99", percentile(total, 99), "µs"),
    ]
    for p, _ in PHASES:
        out.append(row(f"reset: phase {p} p50", percentile(phases[p], 50), "µs", floor=percentile([f[p] for f in below], 50)))
    for p in (50, 99):
        v, f = percentile(back, p), percentile(total, p)
        out.append(row(f"reset: kernel to re-established p{p}", v, "µs", floor=f, goal="≤ 1.25 × floor" if p == 50 else None, met=v <= 1.25 * f if p == 50 else None))
    out.append(row("reset: TLS resumed", 100.0 * resumed / RESETS, "%"))
    return out
