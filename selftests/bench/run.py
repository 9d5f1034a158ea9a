#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the benches one after the other and prints one table.

    run.py [NAME]       those whose name contains NAME

Each bench is a process of its own (it may enter a network namespace) with a deadline. Its rows go
to build/bench/NAME.json with what is needed to judge them later: kernel, processors, load, time.
Exit 0 iff every bench ran to its end. A goal that was missed is said, not punished: on a busy
machine it says little.
"""

import datetime
import importlib
import json
import os
import pathlib
import platform
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("HOLDFAST_BUILD", HERE.parents[1] / "build"))
OUT = BUILD / "bench"
DEADLINE_S = 900
ROW_KEYS = {"name", "value", "unit", "floor", "ratio", "goal", "met"}


def one(name):
    """In the child: the rows of one bench as JSON on the last line of stdout."""
    sys.path.insert(0, str(HERE))
    rows = importlib.import_module(name).rows()
    for r in rows:
        if set(r) != ROW_KEYS:
            raise ValueError(f"a row of {name} has the keys {sorted(r)}")
    print(json.dumps(rows))


def facts():
    """What the figures depend on."""
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "load_1min": os.getloadavg()[0],
    }


def run_bench(name):
    """The bench's record, or None and the reason on stderr."""
    before = facts()
    try:
        p = subprocess.run(
            [sys.executable, "-B", __file__, "--one", name], stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"bench: {name}: not finished within {DEADLINE_S} s", file=sys.stderr)
        return None
    if p.returncode != 0 or not p.stdout.strip():
        print(f"bench: {name}: failed with exit code {p.returncode}", file=sys.stderr)
        return None
    record = {"bench": name, **before, "rows": json.loads(p.stdout.strip().splitlines()[-1])}
    path = OUT / f"{name.removeprefix('bench_')}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return record


def number(v):
    """Three significant digits, but integers whole."""
    if v is None:
        return ""
    if isinstance(v, int) or v >= 1000:
        return f"{v:.0f}"
    return f"{v:.3g}"


def print_table(records):
    """All rows, columns as wide as needed; numbers to the right."""
    head = ("", "value", "unit", "floor", "ratio", "goal", "")
    lines = [head]
    for record in records:
        for r in record["rows"]:
            met = {True: "met", False: "MISSED", None: ""}[r["met"]]
            lines.append((r["name"], number(r["value"]), r["unit"], number(r["floor"]), number(r["ratio"]), r["goal"] or "", met))
    widths = [max(len(line[c]) for line in lines) for c in range(len(head))]
    for line in lines:
        cells = [line[c].rjust(widths[c]) if c in (1, 3, 4) else line[c].ljust(widths[c]) for c in range(len(head))]
        print("  ".join(cells).rstrip())


def main():
    """0 iff every bench ran to its end."""
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2])
        return 0
    want = sys.argv[1] if len(sys.argv) > 1 else ""
    names = sorted(p.stem for p in HERE.glob("bench_*.py") if want in p.stem)
    if not names:
        print(f"bench: no bench matches '{want}'", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    records = []
    failed = []
    for name in names:
        record = run_bench(name)
        if record:
            records.append(record)
        else:
            failed.append(name)
    print_table(records)
    rows = [r for record in records for r in record["rows"]]
    missed = sum(r["met"] is False for r in rows)
    print(f"bench: {len(rows)} figures, {missed} goals missed, {len(failed)} benches failed; load before {load:.1f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
