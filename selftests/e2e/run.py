#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the e2e test files, each in a process (and network namespace) of its own.

    run.py [--jobs N] [--timeout S] [FILE-OR-PATTERN ...]

Prints one line a test, the output of what failed, and a summary. Skips are printed with their
reason. Exit 0 iff nothing failed.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
LINE = re.compile(r"^(\w+) \(.*\).*? \.\.\. ?(?:.*?)(ok|FAIL|ERROR|skipped .*|expected failure)$", re.M)


def end_leftovers(directory):
    """Ends what still works below a test's directory; returns what it was."""
    left = []
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(p / "cwd").startswith(directory):
                left.append(f"{p.name} ({(p / 'comm').read_text().strip()})")
                os.kill(int(p.name), signal.SIGKILL)
        except OSError:
            continue
    return left


def run_file(path, timeout_s):
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"hf-{path.stem}-", ignore_cleanup_errors=True) as tmp:
        os.chmod(tmp, 0o755)
        try:
            r = subprocess.run(
                ["/usr/bin/python3", str(path)], capture_output=True, text=True, timeout=timeout_s, check=False, cwd=HERE,
                env={**os.environ, "TMPDIR": tmp}, stdin=subprocess.DEVNULL,
            )
            code, out = r.returncode, r.stdout + r.stderr
        except subprocess.TimeoutExpired as e:
            code = 124
            out = "".join(x.decode(errors="replace") if isinstance(x, bytes) else (x or "") for x in (e.stdout, e.stderr))
            out += f"\nTIMEOUT after {timeout_s} s\n"
        left = end_leftovers(tmp)
        if left:
            code = code or 1
            out += f"\nleft running: {', '.join(left)}\n"
    return path, code, out, time.monotonic() - start


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--timeout", type=int, default=420)
    p.add_argument("patterns", nargs="*")
    a = p.parse_args()
    files = sorted(HERE.glob("test_*.py"))
    if a.patterns:
        files = [f for f in files if any(x in f.name for x in a.patterns)]
    passed = failed = skipped = 0
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        for path, code, out, seconds in pool.map(lambda f: run_file(f, a.timeout), files):
            ran = re.search(r"^Ran (\d+) tests?", out, re.M)
            total = int(ran.group(1)) if ran else 0
            m = re.search(r"^FAILED \((.*)\)", out, re.M)
            bad = sum(int(n) for n in re.findall(r"(?:failures|errors)=(\d+)", m.group(1))) if m else 0
            skips = re.findall(r"skipped ['\"](.*)['\"]$", out, re.M)
            if code == 77:
                skips = re.findall(r"^SKIP: (.*)$", out, re.M) or ["no reason given"]
            elif code != 0 and not bad:
                bad = 1  # died, timed out, or ran nothing
            elif code == 0 and total == 0:
                bad = 1
                out += "\nno test in this file\n"
            passed += max(0, total - bad - (len(skips) if code != 77 else 0))
            failed += bad
            skipped += len(skips)
            print(f"{'FAIL' if bad else 'ok':4}  {path.name:44} {total:3} tests  {seconds:5.1f} s", flush=True)
            for s in skips:
                print(f"SKIP: {s}", flush=True)
            if bad:
                print(out, flush=True)
    print(f"e2e: {passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or passed + skipped == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
