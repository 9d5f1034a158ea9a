# SPDX-License-Identifier: Apache-2.0
"""What the BPF programs cost and how much they tell; selftests/bpf/bench_kernel.c measures."""

import subprocess

from benchlib import BUILD, row

FLOORS = {"connect + reset, two events told": "connect + reset, without programs", "fork + exit, one event told": "fork + exit, without programs"}


def met(value, goal):
    if not goal:
        return None
    bound = float(goal.split()[1])
    return value <= bound if goal.startswith("<=") else value >= bound


def rows():
    done = subprocess.run([BUILD / "bench" / "bin" / "bench_kernel"], check=True, capture_output=True, text=True, timeout=300)
    lines = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 3]
    if not lines:
        raise RuntimeError(f"bench_kernel measured nothing: {done.stdout}{done.stderr}")
    values = {name: float(value) for name, value, _, _ in lines}
    return [
        row("kernel: " + name, float(value), unit, floor=values.get(FLOORS.get(name)), goal=goal.replace("<=", "≤").replace(">=", "≥") or None, met=met(float(value), goal))
        for name, value, unit, goal in lines
    ]
