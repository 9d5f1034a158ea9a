# SPDX-License-Identifier: Apache-2.0
"""What vm-matrix and systemd/vm-systemd share: where the cache is, kernels, a machine's report."""
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
NEEDS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static"}


def missing_tool():
    """What keeps this machine from running others; "" when nothing does."""
    for tool, package in NEEDS.items():
        if not shutil.which(tool):
            return f"no {tool} on this machine (package {package})"
    return ""


def cache():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(os.environ.get("HOLDFAST_CACHE") or os.path.join(home, "holdfast"), "vm")


class Result:
    def __init__(self, kernel):
        self.kernel, self.version, self.boot, self.wall = kernel, "-", "-", 0.0
        self.verdict, self.why = "SKIP", ""
        self.tests, self.programs, self.facts = [], [], []
        self.skips = []  # tests that a program left out
        self.notes = []  # what else people should know

    def read(self, report):
        with open(report, errors="replace") as f:
            for line in f:
                word, _, rest = line.strip().partition(" ")
                if word == "@@BOOT":
                    self.boot = rest
                elif word == "@@TEST":
                    name, verdict, seconds, why = (rest.split(" ", 3) + [""])[:4]
                    self.tests.append((name, verdict, seconds, why))
                elif word == "@@SKIP":
                    name, _, why = rest.partition(" ")
                    self.skips.append((name, why))
                elif word == "@@PROG":
                    name, yes, why = (rest.split(" ", 2) + [""])[:3]
                    self.programs.append((name, yes == "yes", why))
                elif word in ("@@FACT", "@@ASK"):
                    self.facts.append(rest)

    def count(self, verdict):
        return sum(t[1] == verdict for t in self.tests)


def kernel_directory(kernel, res):
    """Fetches a kernel if it is not there; None and the reason in res when it cannot be had."""
    p = subprocess.run([os.path.join(HERE, "fetch-kernels"), kernel], stderr=subprocess.PIPE, text=True)
    sys.stderr.write(p.stderr)
    if p.returncode:
        res.why = p.stderr.strip().split("\n")[-1] or f"fetch-kernels: exit {p.returncode}"
        return None
    kdir = os.path.join(cache(), "kernels", kernel)
    with open(os.path.join(kdir, "version")) as f:
        res.version = f.read().strip()
    return kdir
