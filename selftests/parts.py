#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the parts of `make test` and counts.

    parts.py run PART ...           each PART is a make target, or NAME=TARGET,VARIABLE=VALUE,...
    parts.py binaries PROGRAM ...   runs cmocka programs: one line each, output of what failed

A part says how it went by its last line `... N passed, N failed, N skipped`, by lines `SKIP: reason`
and by its exit status; 77 is a skip of the whole. A skip that selftests/skips.allowed does not list
is a failure. The last line is the sum; exit 0 iff nothing failed and something passed.
"""

import fnmatch
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SUMMARY = re.compile(r"(\d+) passed, (\d+) failed, (\d+) skipped")
SKIP = re.compile(r"^\s*SKIP: (.+?)\s*$", re.M)
EXIT_SKIP = 77
BINARY_TIMEOUT_S = 180


def allowed_skips(text):
    rows = (line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return [(row[0], row[1].strip()) for row in rows if len(row) == 2]


def is_allowed(part, reason, allowed):
    return any(p == part and fnmatch.fnmatchcase(reason, pattern) for p, pattern in allowed)


def judge(part, code, output, allowed):
    """(passed, failed, skipped, complaints) of a part's exit status and output."""
    complaints = []
    found = SUMMARY.findall(output)
    passed, failed, skipped = map(int, found[-1]) if found else (0, 0, 0)
    reasons = SKIP.findall(output)
    if code == EXIT_SKIP:
        skipped = max(skipped, 1)
    elif code != 0 and failed == 0:
        failed = 1
        complaints.append(f"{part}: ended with status {code}")
    elif code == 0 and not found:
        passed, skipped = (0, len(reasons)) if reasons else (1, 0)
    elif code == 0 and passed + failed + skipped == 0:
        failed = 1
        complaints.append(f"{part}: ran no test")
    unlisted = [r for r in reasons if not is_allowed(part, r, allowed)]
    unlisted += ["no reason given"] * max(0, skipped - len(reasons))
    for reason in unlisted:
        complaints.append(f"{part}: skip is not on the list: {reason}")
    moved = min(len(unlisted), skipped) if skipped else len(unlisted)
    return passed, failed + moved, max(0, skipped - moved), complaints


def run_part(spec, allowed):
    name, _, rest = spec.partition("=")
    command = ["make"] + (rest.split(",") if rest else [name])
    if "jobserver" not in os.environ.get("MAKEFLAGS", ""):
        command.insert(1, f"-j{os.cpu_count() or 1}")
    print(f"---- {name}", flush=True)
    lines = []
    # close_fds: the job server of the make above us is a pair of inherited descriptors.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          close_fds=False) as p:
        for line in p.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        code = p.wait()
    # make turns a recipe's 77 into its own 2 and says so.
    if code == 2 and any(re.search(r"\] Error 77$", line.rstrip()) for line in lines):
        code = EXIT_SKIP
    return (name, *judge(name, code, "".join(lines), allowed))


def run_parts(specs):
    allowed = allowed_skips((HERE / "skips.allowed").read_text(encoding="utf-8"))
    total = [0, 0, 0]
    table, complaints = [], []
    for spec in specs:
        start = time.monotonic()
        name, passed, failed, skipped, said = run_part(spec, allowed)
        table.append(f"  {name:10} {time.monotonic() - start:6.1f} s  {passed:5} passed {failed:4} failed {skipped:4} skipped")
        complaints += said
        total = [a + b for a, b in zip(total, (passed, failed, skipped))]
        if name == "build" and failed:
            break  # whatever follows would test the old build
    print("---- summary")
    print("\n".join(table + complaints))
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped", flush=True)
    return 0 if total[0] > 0 and total[1] == 0 else 1


def count_cmocka(output):
    """(passed, failed, skipped) of cmocka's lines; the list of failures at the end is not counted again."""
    marks = re.findall(r"^\[\s+(OK|FAILED|SKIPPED)\s+\] (?!\d+ test)(.*)$", output, re.M)
    passed = sum(1 for kind, _ in marks if kind == "OK")
    skipped = len({name for kind, name in marks if kind == "SKIPPED"})
    failed = len({name for kind, name in marks if kind == "FAILED"})
    return passed, failed, skipped


def run_binaries(programs):
    total = [0, 0, 0]
    for program in programs:
        start = time.monotonic()
        try:
            r = subprocess.run([os.path.abspath(program)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                               timeout=BINARY_TIMEOUT_S, stdin=subprocess.DEVNULL)
            code, output = r.returncode, r.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as e:
            code, output = 124, (e.stdout or b"").decode(errors="replace") + f"\nno end after {BINARY_TIMEOUT_S} s\n"
        passed, failed, skipped = count_cmocka(output)
        if code == EXIT_SKIP:
            skipped = max(skipped, 1)
        elif code != 0 and failed == 0:
            failed = 1  # a sanitizer, a crash, a descriptor left open
        elif code == 0 and passed + skipped == 0:
            failed = 1
            output += "\nno test ran\n"
        name = "/".join(pathlib.PurePath(program).parts[-2:])
        print(f"{'FAIL' if failed else 'ok':4}  {name:40} {passed:3} tests {time.monotonic() - start:6.1f} s", flush=True)
        for reason in SKIP.findall(output):
            print(f"SKIP: {reason}", flush=True)
        if failed:
            print(output, flush=True)
        total = [a + b for a, b in zip(total, (passed, failed, skipped))]
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped", flush=True)
    return 0 if total[0] > 0 and total[1] == 0 else 1


def main():
    if sys.argv[1:2] == ["run"]:
        return run_parts(sys.argv[2:])
    if sys.argv[1:2] == ["binaries"]:
        return run_binaries(sys.argv[2:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
