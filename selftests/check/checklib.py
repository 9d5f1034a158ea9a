# SPDX-License-Identifier: Apache-2.0
"""What the checks share: the list of files, and the samples.

A sample is selftests/check/samples/<check>/<right|wrong>/<rule>--<path with + for slashes>: the
check sees its text under that path. A wrong one has to give exactly that rule, a right one nothing.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLES = pathlib.Path(__file__).resolve().parent / "samples"
# Samples are wrong on purpose, seeds of fuzzers are any bytes.
NOT_OURS_TO_STYLE = ("selftests/check/samples/", "selftests/fuzz/corpus/")
C_INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def tracked():
    """Paths of our files: tracked, or new and not ignored; without git, all outside build/."""
    try:
        out = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "ls-files", "-co", "--exclude-standard"],
                             cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        out = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file() and p.relative_to(ROOT).parts[0] not in ("build", ".git")]
    return sorted(f for f in set(out) if not f.startswith(NOT_OURS_TO_STYLE) and (ROOT / f).is_file())


def c_files():
    return [f for f in tracked() if f.endswith((".c", ".h"))]


def check_samples(check, name):
    faults = count = 0
    rules = {"right": set(), "wrong": set()}
    for side in ("right", "wrong"):
        for sample in sorted((SAMPLES / name / side).iterdir()):
            rule, _, path = sample.name.partition("--")
            got = {f[1] for f in check(path.replace("+", "/"), sample.read_text(encoding="utf-8"))}
            want = {rule} if side == "wrong" else set()
            rules[side].add(rule)
            count += 1
            if got != want:
                faults += 1
                print(f"{sample.relative_to(ROOT)}: expected {sorted(want) or 'nothing'}, got {sorted(got) or 'nothing'}")
    if not rules["right"] or not rules["wrong"]:
        faults += 1
        print(f"{name}: samples of right and of wrong are both needed")
    if not faults:
        print(f"{name}: {count} samples as expected")
    return 1 if faults else 0


def run(check, files, name):
    if sys.argv[1:] == ["--samples"]:
        return check_samples(check, name)
    faults = 0
    paths = sys.argv[1:] or files()
    for path in paths:
        for line, rule, text in check(path, (ROOT / path).read_text(encoding="utf-8")):
            faults += 1
            print(f"{path}:{line}: {rule}: {text}")
    if not faults:
        print(f"{name}: {len(paths)} files, no fault")
    return 1 if faults else 0
