# SPDX-License-Identifier: Apache-2.0
"""One Holdfast instance in a directory: portal, launch, watchdog, agent.

`make run`, `make demo`, the e2e tests and the benches all start and stop the product through this
module, so there is one way to do it. Nothing here answers for the product: state comes from the
CLI and from the portal's API.

Unprivileged daemons work below a directory that they cannot reach by path (a clone in /root):
they are started with the instance directory as their working directory and executed by
descriptor.
"""

import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import time
import urllib.parse

# No such accounts exist on a fresh machine, and none is needed: a number is enough for the kernel.
# Outside of what adduser and systemd hand out (1000-60000 and 61184-65519 are theirs).
AGENT_UID = 60540
PORTAL_UID = 60541
SCAN_UID = 60542


class InstanceError(Exception):
    """What failed, why, and what to do, in one line."""


def wait_for(predicate, deadline_s, what, interval_s=0.02):
    """Polls an observable fact until it holds; returns its value."""
    end = time.monotonic() + deadline_s
    last = None
    while True:
        try:
            value = predicate()
            if value:
                return value
        except (OSError, InstanceError, http.client.HTTPException, ValueError, KeyError) as e:
            last = e
        if time.monotonic() >= end:
            raise InstanceError(f"waited {deadline_s} s for: {what}" + (f" (last error: {last})" if last else ""))
        time.sleep(interval_s)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def proc_start_time(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return int(f.read().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def enter_netns(path):
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), f"setns '{path}'")
    os.close(fd)


def bind_files(pairs):
    """In a mount namespace of its own: target shows source's content."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source, target, flags):
        if libc.mount(source, target, None, flags, None) != 0:
            raise OSError(ctypes.get_errno(), f"mount on '{target}'")

    if libc.unshare(0x20000) != 0:  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    mount(b"none", b"/", 0x44000)  # MS_REC | MS_PRIVATE
    for source, target in pairs:
        mount(os.fsencode(source), os.fsencode(target), 0x1000)  # MS_BIND


class Instance:
    def __init__(self, directory, bindir, port=4320, host="127.0.0.1"):
        self.dir = pathlib.Path(directory).resolve()
        self.bin = pathlib.Path(bindir).resolve()
        self.host = host
        self.port = port
        self.portal_environment = {}
        self.children = {}
        self.netns = {}  # daemon's name → path of the network namespace it shall live in
        self.binds = {}  # daemon's name → [(source, target)]: files it shall see in a mount namespace of its own

    # ---- files -------------------------------------------------------------------------------

    def path(self, *parts):
        return self.dir.joinpath(*parts)

    def prepare(self, agent_config=None, portal_config=None):
        """Makes the directories and, where missing, the two configuration files."""
        for d, mode, uid in (("", 0o755, 0), ("log", 0o755, 0), ("pid", 0o755, 0), ("portal", 0o711, PORTAL_UID)):
            p = self.path(d) if d else self.dir
            p.mkdir(parents=True, exist_ok=True)
            if d:
                os.chown(p, uid, uid)
            os.chmod(p, mode)
        config = self.path("config.yml")
        if agent_config is not None or not config.exists():
            config.write_text(agent_config or self.default_agent_config(), encoding="utf-8")
        portal = self.path("portal", "portal.yml")
        if portal_config is not None or not portal.exists():
            portal.write_text(portal_config or self.default_portal_config(), encoding="utf-8")
            os.chown(portal, PORTAL_UID, PORTAL_UID)

    def default_agent_config(self, extra=""):
        return (
            "# Made by `make run`: a development instance.\n"
            "environment: dev\n"
            "portal:\n"
            f"  url: wss://{self.host}:{self.port}/v1/opamp\n"
            "  ca_file: portal/ca.pem\n"
            "component:\n"
            "  agent:\n"
            f"    user: \"{AGENT_UID}\"\n"
            "scan:\n"
            f"  user: \"{SCAN_UID}\"\n"
            "  cpu_max_percent: 100\n"
            "actions:\n"
            "  allow: [start, stop, restart, scan, doctor, collect, update, rollback]\n" + extra
        )

    def default_portal_config(self, extra=""):
        return (
            "# Made by `make run`: a development portal.\n"
            "environment: dev\n"
            f"listen: [\"{self.host}:{self.port}\"]\n"
            f"public_url: https://{self.host}:{self.port}\n" + extra
        )

    def sign_tool(self):
        """holdfast-sign, which a test's own bin directory may not have."""
        own = self.bin / "holdfast-sign"
        return own if own.exists() else pathlib.Path(__file__).resolve().parents[2] / "build" / "bin" / "holdfast-sign"

    # ---- processes ---------------------------------------------------------------------------

    def _spawn(self, name, program, args, uid=None, env=None):
        """Starts a daemon in its own session with cwd = instance directory; remembers its pid."""
        binary = self.bin / program
        if not binary.exists():
            raise InstanceError(f"start {name}: '{binary}' is not built; run make")
        log = os.open(self.path("log", f"{name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        full_env = dict(os.environ)
        full_env.pop("NOTIFY_SOCKET", None)
        full_env.update(env or {})
        exe = os.open(binary, os.O_RDONLY | os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                os.chdir(self.dir)
                null = os.open("/dev/null", os.O_RDONLY)
                os.dup2(null, 0)
                os.dup2(log, 1)
                os.dup2(log, 2)
                if name in self.netns:
                    enter_netns(self.netns[name])
                if name in self.binds:
                    bind_files(self.binds[name])
                if uid is not None:
                    os.setgroups([])
                    os.setresgid(uid, uid, uid)
                    os.setresuid(uid, uid, uid)
                signal.pthread_sigmask(signal.SIG_SETMASK, [])
                os.execve(exe, [program, *args], full_env)
            finally:
                os._exit(127)
        os.close(log)
        os.close(exe)
        self.children[name] = pid
        self.path("pid", name).write_text(f"{pid} {proc_start_time(pid)}\n", encoding="ascii")
        return pid

    def pid_of(self, name):
        """The daemon's pid if it is the process that was started, else None."""
        try:
            pid, start = self.path("pid", name).read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return None
        if not alive(int(pid)) or str(proc_start_time(int(pid))) != start:
            return None
        return int(pid)

    def _reap(self, name):
        pid = self.children.get(name)
        if pid:
            with contextlib.suppress(ChildProcessError):
                done, _ = os.waitpid(pid, os.WNOHANG)
                if done:
                    del self.children[name]

    def log_tail(self, name, lines=5):
        try:
            text = self.path("log", f"{name}.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _wait_gone(self, name, pid, deadline_s):
        def gone():
            self._reap(name)
            return not alive(pid)

        wait_for(gone, deadline_s, f"{name} (pid {pid}) to end")

    def stop_daemon(self, name, deadline_s=20):
        """SIGTERM and wait; SIGKILL after the deadline, which is then an error to tell."""
        pid = self.pid_of(name)
        if pid is None:
            with contextlib.suppress(FileNotFoundError):
                self.path("pid", name).unlink()
            return False
        os.kill(pid, signal.SIGTERM)
        try:
            self._wait_gone(name, pid, deadline_s)
        except InstanceError as e:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._wait_gone(name, pid, 5)
            raise InstanceError(f"stop {name}: pid {pid} ignored SIGTERM for {deadline_s} s and was killed") from e
        finally:
            with contextlib.suppress(FileNotFoundError):
                self.path("pid", name).unlink()
        return True

    # ---- portal ------------------------------------------------------------------------------

    def start_portal(self, env=None, deadline_s=20):
        with contextlib.suppress(FileNotFoundError):
            self.path("portal", "url").unlink()
        self.portal_environment = env or self.portal_environment
        pid = self._spawn("portal", "holdfast-portal", ["--dir", "."], uid=PORTAL_UID, env=self.portal_environment)

        def ready():
            self._reap("portal")
            if not alive(pid):
                raise SystemExit(f"holdfast-portal ended at its start:\n{self.log_tail('portal')}")
            return self.path("portal", "url").exists() and self.request("GET", "/readyz", token=None)[0] == 200

        try:
            wait_for(ready, deadline_s, "the portal to be ready")
        except SystemExit as e:
            raise InstanceError(str(e)) from None
        return pid

    def stop_portal(self, **kw):
        return self.stop_daemon("portal", **kw)

    def kill_portal(self, sig=signal.SIGKILL):
        pid = self.pid_of("portal")
        os.kill(pid, sig)
        self._wait_gone("portal", pid, 10)

    def admin_token(self):
        return self.path("portal", "admin.token").read_text(encoding="ascii").strip()

    def tls_context(self):
        return ssl.create_default_context(cafile=str(self.path("portal", "ca.pem")))

    def request(self, method, path, body=None, token="admin", headers=None, timeout_s=10):
        """One HTTPS request; returns (status, parsed JSON or text, headers)."""
        h = {"Accept": "application/json", **(headers or {})}
        if token == "admin":
            token = self.admin_token()
        if token:
            h["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            h["Content-Type"] = "application/json"
        conn = http.client.HTTPSConnection(self.host, self.port, context=self.tls_context(), timeout=timeout_s)
        try:
            conn.request(method, path, data, h)
            r = conn.getresponse()
            raw = r.read().decode("utf-8", errors="replace")
            kind = r.getheader("Content-Type", "")
            return r.status, (json.loads(raw) if raw and "json" in kind else raw), dict(r.getheaders())
        finally:
            conn.close()

    def api(self, method, path, body=None, **kw):
        """A request under /api/v1 that must succeed."""
        status, value, _ = self.request(method, "/api/v1" + path, body, **kw)
        if status >= 300:
            raise InstanceError(f"{method} /api/v1{path}: HTTP {status}: {value}")
        return value

    def create_token(self, name="dev", ttl_s=86400, max_uses=0, pre_authorize=True, **kw):
        return self.api("POST", "/tokens", {"name": name, "ttl_s": ttl_s, "max_uses": max_uses, "pre_authorize": pre_authorize, **kw})

    def endpoints(self, query=""):
        return self.api("GET", "/endpoints" + query)["items"]

    def endpoint(self):
        """The one endpoint of a test instance."""
        items = self.endpoints()
        if len(items) != 1:
            raise InstanceError(f"expected one endpoint, the portal has {len(items)}")
        return items[0]

    def outages(self, endpoint_id=None):
        q = f"?endpoint={urllib.parse.quote(endpoint_id)}" if endpoint_id else ""
        return self.api("GET", "/outages" + q)["items"]

    # ---- endpoint ----------------------------------------------------------------------------

    def start_endpoint(self, env=None, deadline_s=20):
        """holdfast-launch, and through it the watchdog and the agent; until both answer."""
        pid = self._spawn("launch", "holdfast-launch", ["--dir", "."], env=env)

        def answers():
            self._reap("launch")
            if not alive(pid):
                raise SystemExit(f"holdfast-launch ended at its start:\n{self.log_tail('launch')}")
            s = self.status()
            return "pid" in s.get("agent", {}) and "pid" in s.get("watchdog", {})

        try:
            wait_for(answers, deadline_s, "watchdog and agent to answer")
        except SystemExit as e:
            raise InstanceError(str(e)) from None
        return pid

    def stop_endpoint(self, **kw):
        return self.stop_daemon("launch", **kw)

    def cli(self, *args, check=True, input_text=None, timeout_s=20, env=None):
        """Runs holdfast(1) on this instance; returns CompletedProcess with text."""
        r = subprocess.run(
            [str(self.bin / "holdfast"), "--dir", str(self.dir), *args],
            input=input_text,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, **(env or {})},
        )
        if check and r.returncode != 0:
            raise InstanceError(f"holdfast {' '.join(args)}: exit {r.returncode}: {(r.stderr or r.stdout).strip()}")
        return r

    def status(self):
        r = self.cli("status", "--json", check=False)
        if not r.stdout.strip():
            raise InstanceError(r.stderr.strip() or f"holdfast status: exit {r.returncode} without an answer")
        return json.loads(r.stdout)

    def agent(self):
        return self.status()["agent"]

    def watchdog(self):
        return self.status()["watchdog"]

    def component(self, name="agent"):
        return next(c for c in self.watchdog()["components"] if c["name"] == name)

    def local_outages(self):
        return [json.loads(line) for line in self.cli("outages", "--json").stdout.splitlines()]

    def events(self, *args):
        return [json.loads(line) for line in self.cli("events", "--json", *args).stdout.splitlines()]

    def enroll(self, token=None, deadline_s=20):
        token = token or self.create_token()["token"]
        url = f"wss://{self.host}:{self.port}/v1/opamp"
        self.cli("enroll", "--portal", url, "--token", "-", input_text=token + "\n", timeout_s=deadline_s + 10)

    def wait_state(self, *states, deadline_s=20):
        return wait_for(lambda: (lambda a: a if a.get("state") in states else None)(self.agent()), deadline_s, f"agent state {' or '.join(states)}")

    def wait_online(self, deadline_s=20):
        """Online by the agent's word and by the portal's."""
        agent = self.wait_state("online", deadline_s=deadline_s)
        wait_for(lambda: any(e["status"] == "online" for e in self.endpoints()), deadline_s, "the portal to show the endpoint online")
        return agent

    def start_all(self, deadline_s=30):
        self.prepare()
        self.start_portal(deadline_s=deadline_s)
        self.start_endpoint(deadline_s=deadline_s)
        if self.agent()["state"] == "unenrolled":
            self.enroll()
        return self.wait_online(deadline_s)

    def stop_all(self):
        errors = []
        for stop in (self.stop_endpoint, self.stop_portal):
            try:
                stop()
            except InstanceError as e:
                errors.append(str(e))
        if errors:
            raise InstanceError("; ".join(errors))

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self):
        """One `make run`/`make stop` at a time on this directory."""
        self.dir.mkdir(parents=True, exist_ok=True)
        with open(self.path(".lock"), "w", encoding="ascii") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InstanceError(f"'{self.dir}' is being started or stopped by another command; wait for it") from None
            yield
