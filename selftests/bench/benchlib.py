# SPDX-License-Identifier: Apache-2.0
"""What the benches share: an online instance of the release build, percentiles, rows."""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "dev"))
sys.path.insert(0, str(ROOT / "selftests" / "e2e"))

from harness import enter_own_netns  # noqa: E402
from instance import Instance  # noqa: E402

BUILD = pathlib.Path(os.environ.get("HOLDFAST_BUILD", ROOT / "build"))


def nanoseconds(rfc3339):
    """Of the day: enough for the distance of two stamps of one outage."""
    h, m, s = rfc3339.split("T")[1].rstrip("Z").split(":")
    return (int(h) * 3600 + int(m) * 60) * 10**9 + int(s.replace(".", "").ljust(11, "0"))


def percentile(values, p):
    """Nearest rank."""
    s = sorted(values)
    return s[max(0, -(-len(s) * p // 100) - 1)]


def row(name, value, unit, floor=None, goal=None, met=None):
    return {"name": name, "value": value, "unit": unit, "floor": floor, "ratio": value / floor if floor else None, "goal": goal, "met": met}


@contextlib.contextmanager
def bench_instance(extra_config="", enrol=True):
    """An instance in an own network namespace, online; stopped and removed afterwards."""
    enter_own_netns()
    tmp = tempfile.mkdtemp(prefix="hf-bench-")
    os.chmod(tmp, 0o755)
    i = Instance(os.path.join(tmp, "i"), BUILD / "bin")
    i.bench_bin = BUILD / "bench" / "bin"
    try:
        i.prepare(agent_config=i.default_agent_config(extra_config))
        i.start_portal()
        if enrol:
            i.start_endpoint()
            i.enroll()
            i.wait_online()
        yield i
    finally:
        i.stop_all()
        shutil.rmtree(tmp, ignore_errors=True)
