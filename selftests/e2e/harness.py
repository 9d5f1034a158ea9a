# SPDX-License-Identifier: Apache-2.0
"""What e2e tests share: an own network namespace, an own instance, deadlines.

A test file is a process of its own: importing this module moves it (and everything it starts)
into a fresh network namespace with only loopback. Test classes derive from InstanceTest; methods
are named for the fact they prove.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "dev"))

from instance import Instance, InstanceError, alive, wait_for  # noqa: E402

__all__ = ["ROOT", "BIN", "Instance", "InstanceError", "InstanceTest", "alive", "main", "run", "skip", "wait_for"]

BIN = pathlib.Path(os.environ.get("HOLDFAST_BIN", ROOT / "build" / "bin"))
CLONE_NEWNET = 0x40000000
# A test sees the events of its own namespace only.
OWN_NETNS = "kernel:\n  netns: own\n"


def run(*argv, check=True, **kw):
    """Runs a command, text output captured."""
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=kw.pop("timeout", 30), **kw)


def enter_own_netns():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    run("ip", "link", "set", "lo", "up")


def skip(reason):
    """A visible skip: counted by the runner, and failed unless listed in selftests/skips.allowed."""
    raise unittest.SkipTest(reason)


class InstanceTest(unittest.TestCase):
    """A fresh instance per test method; logs are printed when it fails."""

    agent_extra = ""
    portal_extra = ""
    portal_env = {}

    def setUp(self):
        name = re.sub(r"[^a-z0-9]+", "-", self.id().split(".")[-1].lower())[:40]
        self.tmp = tempfile.mkdtemp(prefix=f"hf-{name}-")
        os.chmod(self.tmp, 0o755)
        self.i = Instance(os.path.join(self.tmp, "i"), BIN)
        self.addCleanup(shutil.rmtree, self.tmp, True)
        self.addCleanup(self._tear_down)

    def _tear_down(self):
        failed = any(error for _, error in getattr(self._outcome, "errors", [])) or any(
            t is self for t, _ in getattr(self._outcome.result, "failures", []) + getattr(self._outcome.result, "errors", [])
        )
        stop_error = None
        try:
            self.i.stop_all()
        except InstanceError as e:
            stop_error = str(e)
        if failed or stop_error:
            for log in sorted(self.i.path("log").glob("*.log")):
                print(f"---- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-60:]), file=sys.stderr)
        self.i.remove()
        if stop_error and not failed:
            self.fail(stop_error)

    def prepare(self):
        self.i.prepare(
            agent_config=self.i.default_agent_config(OWN_NETNS + self.agent_extra),
            portal_config=self.i.default_portal_config(self.portal_extra),
        )

    def start_portal(self):
        self.prepare()
        self.i.start_portal(env=self.portal_env)

    def start_online(self):
        """Portal and endpoint up, enrolled, authorized, online."""
        self.start_portal()
        self.i.start_endpoint()
        self.i.enroll()
        return self.i.wait_online()

    def kill(self, pid, sig=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)

    def log(self, name):
        return self.i.log_tail(name, 10000)

    def wait_log(self, name, text, deadline_s=10):
        return wait_for(lambda: next((x for x in self.log(name).splitlines() if text in x), None), deadline_s, f"'{text}' in {name}.log")


def main():
    if os.geteuid() != 0:
        print("SKIP: needs root", flush=True)
        sys.exit(77)
    enter_own_netns()
    unittest.main(module="__main__", verbosity=2)
