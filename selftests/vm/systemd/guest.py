#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs inside a systemd machine: installs the packages as an administrator would and checks facts.

    guest.py                    the checks of this boot; the phase is in /var/lib/vm-phase
    guest.py record-shutdown    asks the portal what it says of this host now, into a file

The verdict goes to the second serial port, as in the initramfs machines: "@@TEST name
pass|fail|skip seconds reason", "@@FACT name value", "@@PROG name yes|no reason", "@@RC n".
"""
import glob
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path("/opt/vm")
PHASE = pathlib.Path("/var/lib/vm-phase")
MEMORY = pathlib.Path("/var/lib/vm-memory.json")  # what a later phase has to know
AT_SHUTDOWN = pathlib.Path("/var/lib/vm-at-shutdown.json")
PORTAL_STATE = pathlib.Path("/var/lib/holdfast-portal")
CONFIG = pathlib.Path("/etc/holdfast/config.yml")
PORT = 4320
URL = f"wss://localhost:{PORT}/v1/opamp"
UNIT_CGROUP = pathlib.Path("/sys/fs/cgroup/system.slice/holdfast.service")
PINS = pathlib.Path("/sys/fs/bpf/holdfast")
# Emulated processors: a second there is some ten of ours.
SLOW = 60


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def require(truth, text):
    if not truth:
        raise Failure(text)


def run(*argv, check=True, timeout=120, **kw):
    r = subprocess.run(argv, stdin=None if "input" in kw else subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, **kw)
    if check and r.returncode:
        raise Failure(f"{' '.join(argv)}: exit {r.returncode}: {(r.stderr or r.stdout).strip()[-600:]}")
    return r


def wait_for(what, predicate, deadline_s=SLOW, interval_s=0.1):
    """The value of predicate once it is true; what it raises meanwhile is remembered for the message."""
    end, last = time.monotonic() + deadline_s, None
    while True:
        try:
            value = predicate()
            if value:
                return value
        except (OSError, Failure, ValueError, KeyError, LookupError, http.client.HTTPException, subprocess.TimeoutExpired) as e:
            last = e
        if time.monotonic() > end:
            raise Failure(f"waited {deadline_s} s for {what}" + (f" (last: {last})" if last else ""))
        time.sleep(interval_s)


def uptime():
    return float(pathlib.Path("/proc/uptime").read_text().split()[0])


# ---- the product, as an administrator asks it ------------------------------------------------------


def status():
    r = run("holdfast", "status", "--json", check=False, timeout=20)
    if not r.stdout.strip():
        raise Failure(f"holdfast status: exit {r.returncode}: {r.stderr.strip()}")
    return json.loads(r.stdout)


def agent():
    a = status()["agent"]
    require("pid" in a, f"agent does not answer: {a}")
    return a


def watchdog():
    w = status()["watchdog"]
    require("pid" in w, f"watchdog does not answer: {w}")
    return w


def component(name="agent"):
    return next(c for c in watchdog()["components"] if c["name"] == name)


def outages():
    return [json.loads(x) for x in run("holdfast", "outages", "--json", timeout=20).stdout.splitlines()]


def api(method, path, body=None):
    token = (PORTAL_STATE / "admin.token").read_text().strip()
    context = ssl.create_default_context(cafile=str(PORTAL_STATE / "ca.pem"))
    conn = http.client.HTTPSConnection("localhost", PORT, context=context, timeout=20)
    try:
        conn.request(method, path, None if body is None else json.dumps(body),
                     {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        r = conn.getresponse()
        text = r.read().decode()
        if r.status >= 300:
            raise Failure(f"{method} {path}: HTTP {r.status}: {text[:300]}")
        return json.loads(text) if text.startswith(("{", "[")) else text
    finally:
        conn.close()


def endpoint():
    items = api("GET", "/api/v1/endpoints")["items"]
    require(len(items) == 1, f"the portal has {len(items)} endpoints, not 1")
    return items[0]


def online():
    a = agent()
    return a if a["state"] == "online" and endpoint()["status"] == "online" else None


def wait_online(deadline_s=SLOW):
    return wait_for("agent and portal to say online", online, deadline_s)


def show(unit, name):
    return run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()


def processes(*names):
    found = []
    for d in glob.glob("/proc/[0-9]*"):
        try:
            exe = os.path.basename(os.readlink(d + "/exe").replace(" (deleted)", ""))
        except OSError:
            continue
        if exe in names:
            found.append(int(os.path.basename(d)))
    return found


ENDPOINT_PROGRAMS = ("holdfast-launch", "holdfast-watchdog", "holdfast-agent", "holdfast-fetch", "holdfast-scan", "holdfast-doctor")


def nothing_runs():
    left = processes(*ENDPOINT_PROGRAMS)
    require(not left, f"processes left: {left}")
    pins = [str(p) for p in PINS.rglob("*")] if PINS.exists() else []
    require(not pins, f"pins left: {pins[:5]}")
    return True


def kill(pid, sig=signal.SIGKILL):
    os.kill(pid, sig)


def deb(name, version):
    return str(HERE / f"{name}_{version}_amd64.deb")


def dpkg_install(*files):
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    return run("dpkg", "-i", *files, env=env, timeout=300)


# ---- checks ------------------------------------------------------------------------------------------

CHECKS = {"first": [], "second": []}
memory = json.loads(MEMORY.read_text()) if MEMORY.exists() else {}


def check(phase, needs=None):
    """Checks run in the order they are written. `needs` names one without which it makes no sense."""
    def wrap(fn):
        CHECKS[phase].append((fn.__name__.replace("_", "-"), fn, needs))
        return fn
    return wrap


def fact(name, value):
    report(f"@@FACT {name} {value}")


def tree():
    """Every path of the system but those that belong to the machine's life or to the checks."""
    skip = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/opt/vm", "/var/log", "/var/lib/dpkg",
            "/var/cache", "/var/lib/systemd", "/root", "/var/lib/vm-", "/etc/systemd/system/holdfast.service.d")
    found = set()
    for folder, dirs, files in os.walk("/"):
        dirs[:] = [d for d in dirs if not os.path.join(folder, d).startswith(skip)]
        found.update(os.path.join(folder, x) for x in dirs + files if not os.path.join(folder, x).startswith(skip))
    return sorted(x for x in found if "__pycache__" not in x and not x.endswith(("-", ".lock")))


@check("first")
def installs_without_a_question():
    memory["tree"] = tree()
    began = time.monotonic()
    memory["install_began"] = began
    r = dpkg_install(deb("holdfast-portal", memory["version"]), deb("holdfast", memory["version"]))
    fact("dpkg_s", f"{time.monotonic() - began:.1f}")
    for name in ("holdfast", "holdfast-portal"):
        fact(f"package_kib_{name}", os.stat(deb(name, memory["version"])).st_size // 1024)
        fact(f"installed_kib_{name}", run("dpkg-query", "-W", "-f", "${Installed-Size}", name).stdout)
    for unit in ("holdfast.service", "holdfast-portal.service"):
        require(run("systemctl", "is-enabled", unit, check=False).stdout.strip() == "enabled", f"{unit} is not enabled\n{r.stderr}")
        require(show(unit, "ActiveState") == "active", f"{unit} is {show(unit, 'ActiveState')}: {show(unit, 'Result')}")


@check("first", "installs-without-a-question")
def portal_is_ready():
    wait_for("the portal's readyz", lambda: api("GET", "/readyz") is not None)
    require(show("holdfast-portal.service", "User") == "holdfast-portal", "the portal's user")


@check("first", "installs-without-a-question")
def unenrolled_endpoint_waits_and_says_so():
    a = wait_for("the agent to answer", agent)
    require(a["state"] == "unenrolled", f"state is {a['state']}")
    require(watchdog()["pid"] == int(show("holdfast.service", "MainPID")), "the unit's main process is not the watchdog")


@check("first", "installs-without-a-question")
def installed_configuration_is_good():
    run("holdfast", "config", "check", timeout=20)
    run("holdfast", "config", "show", timeout=20)


@check("first", "portal-is-ready")
def enrols_and_is_online():
    token = api("POST", "/api/v1/tokens", {"name": "vm", "ttl_s": 3600, "max_uses": 1, "pre_authorize": True})["token"]
    run("holdfast", "enroll", "--portal", URL, "--token", "-", "--ca", str(PORTAL_STATE / "ca.pem"), input=token + "\n")
    a = wait_online()
    fact("install_to_online_s", f"{time.monotonic() - memory['install_began']:.1f}")
    fact("kernel_assist", a["kernel_assist"])
    memory["uid"] = a["instance_uid"]
    for p in status()["telemetry"]["programs"]:
        report(f"@@PROG {p['name']} {'yes' if p['attached'] else 'no'} {p.get('reason', '')}")


def configure(key, default, value):
    """As an administrator does: the commented-out default becomes a value."""
    text = CONFIG.read_text()
    require(f"#{key}: {default}\n" in text, f"config.yml has no '#{key}: {default}'")
    text = text.replace(f"#{key}: {default}\n", f"{key}: {value}\n")
    CONFIG.write_text(text)
    run("systemctl", "reload", "holdfast.service")
    name = key.split(".")[-1]
    wait_for("the value in force", lambda: re.search(rf"\b{name}: {value}\b", run("holdfast", "config", "show", timeout=20).stdout))
    memory["config"] = text


@check("first", "enrols-and-is-online")
def reload_takes_a_changed_configuration():
    configure("channel.heartbeat_s", 20, 15)


@check("first", "enrols-and-is-online")
def agent_has_no_right():
    lines = dict(x.split(":", 1) for x in pathlib.Path(f"/proc/{agent()['pid']}/status").read_text().splitlines())
    uid = run("id", "-u", "holdfast").stdout.strip()
    require(lines["Uid"].split() == [uid] * 4, f"uid {lines['Uid']}")
    for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        require(int(lines[key], 16) == 0, f"{key} is {lines[key]}")
    require(lines["NoNewPrivs"].strip() == "1", "no_new_privs is not set")
    require(lines["Seccomp"].strip() == "2", "no seccomp filter")
    mounts = [x.split() for x in pathlib.Path(f"/proc/{agent()['pid']}/mountinfo").read_text().splitlines()]
    writable = {m[4] for m in mounts if "rw" in m[5].split(",")}
    require(writable == {"/run/holdfast", "/var/lib/holdfast/agent"}, f"it can write {sorted(writable)}")
    said = component()["confinement"]
    require(said == "system call filter, read-only view", f"the watchdog says '{said}'")


@check("first", "enrols-and-is-online")
def watchdog_has_no_network_socket():
    pid = watchdog()["pid"]
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        m = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
        if m:
            inodes.add(m[1])
    require(inodes, "no socket at all: the check looks at the wrong thing")
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            require(not inodes & set(line.split()), f"a socket of /proc/net/{table}: {line}")


@check("first", "installs-without-a-question")
def status_line_tells_the_truth():
    text = show("holdfast.service", "StatusText")
    require("watching 1 component" in text and status()["agent"]["kernel_assist"] in text, f"StatusText is '{text}'")
    require(show("holdfast-portal.service", "StatusText") != "", "the portal has no StatusText")


@check("first", "installs-without-a-question")
def units_are_confined():
    # The watchdog's exceptions are argued in its unit; a new one has to be argued here, too.
    for unit, limit in (("holdfast-portal.service", 2.0), ("holdfast.service", 5.0)):
        line = run("systemd-analyze", "security", "--no-pager", unit).stdout.strip().splitlines()[-1]
        score = float(re.search(r": ([0-9.]+) ", line)[1])
        fact(f"exposure_{unit.split('.')[0]}", score)
        require(score <= limit, f"{unit}: {score} > {limit}")


@check("first", "enrols-and-is-online")
def reset_by_the_peer_is_named_and_mended():
    before = agent()
    seen = {o["id"] for o in outages()}
    # The portal's end is aborted: the kernel sends a reset, as a broken middlebox would.
    r = run("ss", "-K", "-t", "state", "established", "sport", "=", f":{PORT}")
    require("ESTAB" in r.stdout or "127.0.0.1" in r.stdout or "::1" in r.stdout, f"ss killed nothing: {r.stdout} {r.stderr}")

    def record():
        return next((o for o in outages() if o["id"] not in seen and o.get("restored")), None)

    o = wait_for("an outage record", record)
    wait_online()
    require(o["cause"] == "peer_reset", f"cause {o['cause']}, detail {o.get('detail')}")
    require(agent()["pid"] == before["pid"], "the agent was restarted")
    fact("reset_detected_by", o["detected_by"])


def dies_and_returns(sig, cause):
    a = agent()
    restarts = component()["restarts"]
    kill(a["pid"], sig)
    c = wait_for("the agent to be restarted", lambda: (lambda c: c if c["restarts"] > restarts and c["pid"] not in (0, a["pid"]) else None)(component()))
    last = c["last_exit"]
    require(last["cause"] == cause and last["signal"] == int(sig), f"last_exit {last}")
    wait_online()
    return last


@check("first", "enrols-and-is-online")
def killed_agent_returns_and_the_killer_is_named():
    last = dies_and_returns(signal.SIGKILL, "killed_by_operator")
    fact("agent_exit_to_exec_us", last["exit_to_exec_us"])
    if status()["agent"]["kernel_assist"] != "off":
        require(last["by_pid"] == os.getpid(), f"killed by {os.getpid()}, said {last['by_pid']}")


def entries(since, **match):
    """The unit's entries of the journal with these fields."""
    r = run("journalctl", "-u", "holdfast.service", "-o", "json", "--since", since, *(f"{k}={v}" for k, v in match.items()))
    return [json.loads(line) for line in r.stdout.splitlines()]


def wall_clock():
    return time.strftime("%Y-%m-%d %H:%M:%S")


@check("first", "enrols-and-is-online")
def journal_has_cause_and_component_as_fields():
    since, a = wall_clock(), wait_online()
    run("ss", "-K", "-t", "state", "established", "sport", "=", f":{PORT}")
    lost = wait_for("the agent's line", lambda: entries(since, HOLDFAST_COMPONENT="agent", HOLDFAST_CAUSE="peer_reset"), 30)[0]
    require(lost["_PID"] == str(a["pid"]) and lost["SYSLOG_IDENTIFIER"] == "holdfast-agent" and lost["PRIORITY"] == "5", f"{lost}")
    require(lost["MESSAGE"].startswith("outage: peer_reset") and "cause=" not in lost["MESSAGE"], f"{lost['MESSAGE']}")
    dies_and_returns(signal.SIGKILL, "killed_by_operator" if a["kernel_assist"] != "off" else "signalled")
    died = wait_for("the watchdog's line", lambda: [e for e in entries(since, HOLDFAST_COMPONENT="agent") if e.get("HOLDFAST_CAUSE") in ("killed_by_operator", "signalled")], 30)[0]
    require(died["_PID"] == str(watchdog()["pid"]) and f"pid {a['pid']}" in died["MESSAGE"] and died["PRIORITY"] == "4", f"{died}")
    # As people read it: no time, level or program twice in a line.
    for line in run("journalctl", "-u", "holdfast.service", "-o", "short", "--no-hostname").stdout.splitlines():
        require(not re.search(r"\]: 20\d\d-\d\d-\d\dT", line), f"a line that is a log line itself: {line}")
    for name in ("holdfast-watchdog", "holdfast-agent"):
        require(entries(since, SYSLOG_IDENTIFIER=name), f"no line of {name}")


def median(values):
    return sorted(values)[len(values) // 2]


def restart_by_systemd_ms(restart_sec):
    """SIGKILL to the next exec of a trivial service, as systemd's own clock has it."""
    unit = pathlib.Path("/run/systemd/system/vm-peer.service")
    unit.write_text(f"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep infinity\nRestart=always\n{restart_sec}")
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "vm-peer.service")
    took = []
    try:
        for _ in range(5):
            pid = int(show("vm-peer.service", "MainPID"))
            began = time.monotonic_ns() // 1000
            kill(pid)
            wait_for("systemd to restart it", lambda: int(show("vm-peer.service", "MainPID")) not in (0, pid))
            took.append((int(show("vm-peer.service", "ExecMainStartTimestampMonotonic")) - began) / 1000)
    finally:
        run("systemctl", "stop", "vm-peer.service")
        unit.unlink()
        run("systemctl", "daemon-reload")
    return median(took)


@check("first", "enrols-and-is-online")
def settled_agent_is_restarted_faster_than_systemd_would():
    before = CONFIG.read_text()
    CONFIG.write_text(before.replace("#restart.settle_s: 60", "restart.settle_s: 0"))
    run("systemctl", "reload", "holdfast.service")
    try:
        took = [dies_and_returns(signal.SIGKILL, "killed_by_operator")["exit_to_exec_us"] / 1000 for _ in range(5)]
    finally:
        CONFIG.write_text(before)
        run("systemctl", "reload", "holdfast.service")
    ours, default, fastest = median(took), restart_by_systemd_ms(""), restart_by_systemd_ms("RestartSec=0\n")
    fact("restart_by_watchdog_ms", f"{ours:.1f}")
    fact("restart_by_systemd_default_ms", f"{default:.1f}")
    fact("restart_by_systemd_0_ms", f"{fastest:.1f}")
    require(ours < default, f"{ours} ms against systemd's {default} ms")


@check("first", "enrols-and-is-online")
def killed_watchdog_returns_and_keeps_the_agent():
    a, w = wait_online(), watchdog()
    restarts = int(show("holdfast.service", "NRestarts"))
    began = time.monotonic()
    kill(w["pid"])
    new = wait_for("another watchdog", lambda: (lambda x: x if x["pid"] != w["pid"] else None)(watchdog()))
    fact("watchdog_sigkill_to_answer_s", f"{time.monotonic() - began:.2f}")
    require(int(show("holdfast.service", "NRestarts")) == restarts + 1, "NRestarts")
    c = wait_for("the agent to be known again", lambda: (lambda c: c if c["pid"] == a["pid"] else None)(component()))
    require(c["pid"] == a["pid"], f"agent pid {a['pid']} became {c['pid']}")
    after = wait_online()
    require(after["session"]["epoch"] == a["session"]["epoch"], "the channel was lost")
    require(new["pid"] == int(show("holdfast.service", "MainPID")), "main pid")
    require(show("holdfast.service", "ActiveState") == "active", "the unit is not active")


@check("first", "killed-watchdog-returns-and-keeps-the-agent")
def readopted_agent_is_still_watched():
    dies_and_returns(signal.SIGKILL, "killed_by_operator")


@check("first", "enrols-and-is-online")
def stopped_watchdog_is_replaced_by_systemd():
    a, w = wait_online(), watchdog()
    began = time.monotonic()
    kill(w["pid"], signal.SIGSTOP)
    wait_for("systemd to replace it", lambda: int(show("holdfast.service", "MainPID")) not in (0, w["pid"]), 90)
    fact("watchdog_sigstop_to_replaced_s", f"{time.monotonic() - began:.1f}")
    wait_for("the next watchdog to answer", lambda: watchdog()["pid"] != w["pid"])
    require(wait_online()["pid"] == a["pid"], "the agent was restarted")


@check("first", "enrols-and-is-online")
def stopped_agent_is_reported_and_not_killed():
    a, restarts = wait_online(), component()["restarts"]
    kill(a["pid"], signal.SIGSTOP)
    try:
        wait_for("the watchdog to say so", lambda: "stopped by a signal" in (component()["detail"] or ""), 30)
        time.sleep(4)  # longer than hang.deadline_ms
    finally:
        kill(a["pid"], signal.SIGCONT)
    require(wait_online()["pid"] == a["pid"], "the agent was killed")
    require(component()["restarts"] == restarts, "a restart was counted")


@check("first", "enrols-and-is-online")
def callers_that_leave_at_once_do_not_silence_the_bus():
    wait_online()
    for path in ("/run/holdfast/agent.sock", "/run/holdfast/watchdog.sock"):
        for _ in range(100):
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            s.close()
    wait_online(20)


@check("first", "enrols-and-is-online")
def out_of_memory_agent_returns_and_oom_is_named():
    a = wait_online()
    limit = UNIT_CGROUP / "agent" / "memory.max"
    if not limit.exists():
        limit = UNIT_CGROUP / "memory.max"
    require(limit.exists(), "no memory controller at the unit")
    old, restarts = limit.read_text(), component()["restarts"]
    # Below what it has; whatever it touches next is one page too many. The agent is the bigger one and
    # has the higher score, so the watchdog survives where both share the limit.
    try:
        limit.write_text("1M")
        wait_for("the agent to die", lambda: not pathlib.Path(f"/proc/{a['pid']}").exists(), 30)
    finally:
        limit.write_text(old)
    c = wait_for("the agent to return", lambda: (lambda c: c if c["restarts"] > restarts and c["pid"] not in (0, a["pid"]) else None)(component()))
    require(c["last_exit"]["cause"] == "oom", f"last_exit {c['last_exit']}")
    require(show("holdfast.service", "ActiveState") == "active", "systemd ended the unit")
    wait_online()


@check("first", "enrols-and-is-online")
def restart_by_systemctl_comes_back():
    a, w = wait_online(), watchdog()
    run("systemctl", "restart", "holdfast.service")
    b = wait_online()
    require(b["pid"] != a["pid"] and watchdog()["pid"] != w["pid"], "something was not restarted")
    require(b["instance_uid"] == memory["uid"], "another identity")


@check("first", "enrols-and-is-online")
def without_bpf_everything_else_works():
    dropin = pathlib.Path("/run/systemd/system/holdfast.service.d/no-bpf.conf")
    dropin.parent.mkdir(parents=True, exist_ok=True)
    dropin.write_text("[Service]\nSystemCallFilter=~bpf\n")
    try:
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "holdfast.service")
        a = wait_online()
        require(a["kernel_assist"] == "off", f"kernel_assist {a['kernel_assist']}")
        require(all(p["reason"] for p in status()["telemetry"]["programs"] if not p["attached"]), "a program without a reason")
        everything_but_the_kernels_rows()
    finally:
        dropin.unlink()
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "holdfast.service")
    require(wait_online()["kernel_assist"] != "off", "kernel_assist did not return")


def everything_but_the_kernels_rows():
    reset_by_the_peer_is_named_and_mended()
    # Nobody but the kernel program knows who sent a signal.
    dies_and_returns(signal.SIGKILL, "signalled")
    killed_watchdog_returns_and_keeps_the_agent()
    # The status of an adopted process is its new parent's to know; without the kernel program, nobody's.
    a = wait_online()
    kill(a["pid"])
    c = wait_for("the adopted agent to be restarted", lambda: (lambda c: c if c["pid"] not in (0, a["pid"]) else None)(component()))
    require(c["last_exit"]["cause"] in ("unknown", "signalled"), f"last_exit {c['last_exit']}")
    wait_online()
    stopped_agent_is_reported_and_not_killed()
    # What cannot be seen is not claimed: nothing is lost, and the time without sight is counted.
    t = status()["telemetry"]
    require(t["lost"] == 0 and t["blind_ms"] > 0, f"telemetry {t}")
    wait_for("the portal to have what there is", lambda: status()["telemetry"]["acked"] >= t["spooled"])
    require(api("GET", "/api/v1/outages")["items"], "the portal has no outage")
    run("holdfast", "events", "--json", timeout=20)
    stop_leaves_no_process_and_no_pin()


@check("first", "enrols-and-is-online")
def in_a_unit_like_a_container_it_works_with_what_is_left():
    """No right over BPF, mounts, other users' files or processes; its cgroups are read-only."""
    dropin = pathlib.Path("/run/systemd/system/holdfast.service.d/container.conf")
    dropin.parent.mkdir(parents=True, exist_ok=True)
    dropin.write_text("[Service]\nCapabilityBoundingSet=~CAP_BPF CAP_PERFMON CAP_SYS_ADMIN CAP_SYS_RESOURCE CAP_SYS_PTRACE\n"
                      "ProtectControlGroups=yes\nProtectKernelTunables=yes\n")
    try:
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "holdfast.service")
        require(wait_online()["kernel_assist"] == "off", "kernel_assist is not off")
        said = component()["confinement"]
        require(said == "system call filter, no read-only view (Operation not permitted)", f"the watchdog says '{said}'")
        reset_by_the_peer_is_named_and_mended()
        dies_and_returns(signal.SIGKILL, "signalled")
    finally:
        dropin.unlink()
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "holdfast.service")
    require(wait_online()["kernel_assist"] != "off", "kernel_assist did not return")


# ---- time -----------------------------------------------------------------------------------------------


def agent_online():
    """Its own word: the portal's page has a certificate, which is not valid at every time."""
    a = agent()
    return a if a["state"] == "online" else None


def step_clock(seconds):
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


@check("first", "enrols-and-is-online")
def clock_steps_change_nothing():
    a, restarts, known = wait_online(), component()["restarts"], {o["id"] for o in outages()}
    real = time.time() - time.monotonic()
    try:
        for step in (7200, -14400, 3 * 365 * 86400, -6 * 365 * 86400):
            step_clock(step)
            time.sleep(3)  # a timer on the wall clock would fire now, or never again
            b = wait_for(f"online after a step of {step} s", agent_online, 30)
            require(b["session"]["epoch"] == a["session"]["epoch"] and b["pid"] == a["pid"], f"a step of {step} s cost the session: {outages()[:1]}")
        # A computer whose battery is empty.
        time.clock_settime(time.CLOCK_REALTIME, 86400)
        time.sleep(3)
        b = wait_for("online in 1970", agent_online, 30)
        require(b["session"]["epoch"] == a["session"]["epoch"] and b["pid"] == a["pid"], f"1970 cost the session: {outages()[:1]}")
    finally:
        time.clock_settime(time.CLOCK_REALTIME, real + time.monotonic())
    require(wait_online()["session"]["epoch"] == a["session"]["epoch"], "coming back cost the session")
    require(component()["restarts"] == restarts, "the agent was restarted")
    new = [o for o in outages() if o["id"] not in known]
    require(not new, f"an outage was written: {new}")


@check("first", "clock-steps-change-nothing")
def wrong_clock_at_a_new_connection_is_named_and_left_behind():
    a, real = wait_online(), time.time() - time.monotonic()
    known = {o["id"] for o in outages()}
    try:
        time.clock_settime(time.CLOCK_REALTIME, 86400)
        run("ss", "-K", "-t", "state", "established", "sport", "=", f":{PORT}")
        state = wait_for("it to see that no certificate is valid yet", lambda: (lambda x: x if x["state"] != "online" else None)(agent()), 30)
        # Supervision does not know the time of day.
        dies_and_returns_offline(a["pid"])
        # Its own judgement of the portal's certificate; or, where the session is resumed, the portal's of its.
        state = wait_for("the clock to be named", lambda: (lambda x: x if x["state"] == "clock_bad" or "cert_not_yet_valid" in (x["state_detail"] or "") else None)(agent()), 60)
        fact("state_in_1970", state["state"])
    finally:
        time.clock_settime(time.CLOCK_REALTIME, real + time.monotonic())
    wait_online(120)
    require(any(o["id"] not in known and o.get("restored") for o in outages()), "no outage record")


def dies_and_returns_offline(pid):
    kill(pid)
    c = wait_for("the agent to be restarted", lambda: (lambda c: c if c["pid"] not in (0, pid) else None)(component()))
    require(c["last_exit"]["signal"] == signal.SIGKILL, f"last_exit {c['last_exit']}")


@check("first", "enrols-and-is-online")
def suspend_is_noticed_and_survived():
    state, alarm = pathlib.Path("/sys/power/state"), pathlib.Path("/sys/class/rtc/rtc0/wakealarm")
    # To memory: from s2idle ("freeze") the emulator's clock does not wake the machine.
    if not alarm.exists() or "mem" not in state.read_text():
        raise Skip("this kernel cannot suspend to memory here, or has no clock to wake it")
    a, restarts, since = wait_online(), component()["restarts"], wall_clock()
    slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    alarm.write_text("0")
    alarm.write_text("+10")
    state.write_text("mem")
    slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() - slept
    fact("slept_s", f"{slept:.1f}")
    woke = time.monotonic()
    if slept < 2:
        raise Skip(f"the emulator woke it at once ({slept:.1f} s)")
    wait_for("the agent to notice", lambda: [e for e in entries(since, SYSLOG_IDENTIFIER="holdfast-agent") if "this host slept" in e["MESSAGE"]], 30)
    b = wait_online()
    fact("wake_to_online_s", f"{time.monotonic() - woke:.1f}")
    require(b["pid"] == a["pid"] and component()["restarts"] == restarts, "sleep was taken for a hang")


# ---- releases -------------------------------------------------------------------------------------------

SIGNING = pathlib.Path("/root/signing")


def release(component="agent"):
    items = json.loads(run("holdfast", "release", "list", "--json", timeout=20).stdout)["items"]
    return next(r for r in items if r["component"] == component)


def wait_version(version):
    a = wait_for(f"{version} to be online", lambda: (lambda a: a if a and a["version"] == version else None)(online()), 120)
    require(a["instance_uid"] == memory["uid"], "another identity")
    return a


def wait_kept(version, component):
    """Its trial is over."""
    def kept():
        r = release(component)
        require(r["phase"] == "committed" and r["active"]["version"] == version, f"{r}")
        return r

    return wait_for(f"{version} of {component} to be committed", kept, 180, 0.5)


def rollback_line(since, component, version_from, version_to, reason):
    """The journal's line of it, as an administrator finds it."""
    begins = f"Rollback of '{component}' from {version_from} to {version_to}: {reason}"

    def told():
        lines = run("journalctl", "-u", "holdfast", "--since", since, "-g", "Rollback", "-o", "cat", check=False).stdout.splitlines()
        require(any(x.startswith(begins) for x in lines), f"no '{begins}' in {lines}")
        return next(x for x in lines if x.startswith(begins))

    return wait_for("the journal's line of the rollback", told, 30)


def sign(*argv):
    run("holdfast-sign", *map(str, argv), cwd=SIGNING, timeout=60)


def bundle(component, version, program):
    """A signed release of that program, made as an engineer would."""
    tree_ = SIGNING / f"{component}-{version}"
    (tree_ / "bin").mkdir(parents=True)
    target = tree_ / "bin" / f"holdfast-{component}"
    target.write_bytes(program)
    target.chmod(0o755)
    out = SIGNING / f"{component}-{version}.hfb"
    sign("bundle", "build", "--component", component, "--version", version, "--files", tree_, "--out", out)
    sign("bundle", "sign", "--key", "build.key", out)
    return str(out)


def broken_agent(mode, version):
    """testagent of the e2e tests: it speaks the protocol and then misbehaves as its last line says."""
    return (HERE / "testagent").read_bytes() + f"\nTESTAGENT {mode};{version}\n".encode()


@check("first", "enrols-and-is-online")
def upgrade_keeps_identity_and_configuration():
    # Agent and watchdog of the new package run at once, and are kept when they were healthy for so long.
    # Longer than a hang takes to be seen twice: until it is, the time counts as healthy.
    configure("release.probation_s", 120, 15)
    before, known = wait_online(), {o["id"] for o in outages()}
    require(before["version"] == memory["version"], f"version {before['version']}")
    dpkg_install(deb("holdfast", memory["next"]))
    wait_version(memory["next"])
    require(watchdog()["version"] == memory["next"], f"the watchdog is {watchdog()['version']}")
    causes = [o["cause"] for o in outages() if o["id"] not in known]
    require(causes == ["agent_update"], f"the outages of it have causes {causes}")
    for component_ in ("agent", "watchdog"):
        r = wait_kept(memory["next"], component_)
        require(r["previous"]["version"] == memory["version"], f"nothing to go back to: {r}")
    require(CONFIG.read_text() == memory["config"], "config.yml was changed")


@check("first", "upgrade-keeps-identity-and-configuration")
def upgrade_is_rolled_back_by_hand_and_taken_again():
    since = wall_clock()
    run("holdfast", "release", "rollback", timeout=60)
    wait_version(memory["version"])
    rollback_line(since, "agent", memory["next"], memory["version"], "asked")
    require(release()["phase"] == "rolled_back", f"{release()}")
    # It outlives a restart: what a person decided is not decided anew.
    run("systemctl", "restart", "holdfast.service")
    wait_version(memory["version"])
    run("holdfast", "release", "rollback", timeout=60)
    wait_version(memory["next"])


@check("first", "upgrade-is-rolled-back-by-hand-and-taken-again")
def downgrade_is_the_administrators_word():
    dpkg_install(deb("holdfast", memory["version"]))
    wait_version(memory["version"])
    for component_ in ("agent", "watchdog"):
        wait_kept(memory["version"], component_)
    require(watchdog()["version"] == memory["version"], f"the watchdog is {watchdog()['version']}")


@check("first", "enrols-and-is-online")
def release_without_a_trusted_key_is_refused():
    wait_online()
    dpkg_install(deb("holdfast-sign", memory["version"]))
    SIGNING.mkdir(mode=0o700)
    sign("root-key", "new", "--unencrypted", "root")
    sign("release-key", "new", "--unencrypted", "build")
    memory["bundle"] = bundle("agent", "9.0.0", broken_agent("crash-ready", "9.0.0"))
    r = run("holdfast", "release", "stage", memory["bundle"], check=False, timeout=120)
    require(r.returncode == 1 and "no_keys" in r.stderr, f"exit {r.returncode}: {r.stderr}")
    require(release()["candidate"] is None, f"{release()}")


def trust():
    keys = pathlib.Path("/etc/holdfast/release-keys")
    if not keys.exists():
        sign("keys", "sign", "--root", "root.pub", "--add", "build.pub", "--key", "root.key", keys)


@check("first", "release-without-a-trusted-key-is-refused")
def broken_release_is_rolled_back_and_the_failed_check_is_named():
    trust()
    good = release()["active"]["version"]
    for bundle_, version, reason, words in (
            (memory["bundle"], "9.0.0", "crashes", "SIGABRT"),
            (bundle("agent", "9.0.1", broken_agent("sleep", "9.0.1")), "9.0.1", "hangs", "")):
        since = wall_clock()
        began = time.monotonic()
        run("holdfast", "release", "stage", bundle_, timeout=120)
        line = rollback_line_of_a_trial(since, version, good, reason)
        fact(f"staged_to_rolled_back_s_{reason}", f"{time.monotonic() - began:.1f}")
        require(words in line, f"the journal says '{line}'")
        wait_version(good)
        r = release()
        require(r["phase"] == "rolled_back" and r["last_rollback"]["reason"] == reason, f"{r}")


def rollback_line_of_a_trial(since, version, good, reason):
    wait_for("its trial to be over", lambda: (release()["last_rollback"] or {}).get("from") == version, 180, 0.5)
    return rollback_line(since, "agent", version, good, reason)


@check("first", "release-without-a-trusted-key-is-refused")
def broken_watchdog_is_rolled_back_under_systemd():
    trust()
    a, good, since = wait_online(), watchdog()["version"], wall_clock()
    # It can be loaded and says a version, but is no watchdog: exits with 1.
    run("holdfast", "release", "stage", bundle("watchdog", "9.0.2", pathlib.Path("/bin/sleep").read_bytes()), timeout=120)
    line = wait_for("the rollback", lambda: rollback_line(since, "watchdog", "9.0.2", good, "tries_used_up"), 180)
    require("three times" in line, f"the journal says '{line}'")
    wait_for("the watchdog before it to answer", lambda: watchdog()["version"] == good, 60)
    require(wait_online()["pid"] == a["pid"], "the agent was restarted")
    require(show("holdfast.service", "ActiveState") == "active", "the unit is not active")


@check("first", "release-without-a-trusted-key-is-refused")
def holdfast_sign_leaves_nothing_behind():
    run("dpkg", "-P", "holdfast-sign", timeout=300)


@check("first", "enrols-and-is-online")
def stop_leaves_no_process_and_no_pin():
    wait_online()
    run("systemctl", "stop", "holdfast.service")
    nothing_runs()
    e = wait_for("the portal to know", lambda: (lambda e: e if e["status"] != "online" else None)(endpoint()))
    fact("portal_says_after_stop", e["status"])
    require(e["reason"] == "agent_stopped", f"the portal says {e['status']}: {e['reason']}")
    run("systemctl", "start", "holdfast.service")
    wait_online()


@check("first", "enrols-and-is-online")
def stop_right_after_a_crash_leaves_nothing():
    wait_online()
    kill(watchdog()["pid"])
    run("systemctl", "stop", "holdfast.service")
    nothing_runs()
    # No watchdog was there to tell the agent; its goodbye came through all the same.
    e = wait_for("the portal to know", lambda: (lambda e: e if e["status"] != "online" else None)(endpoint()))
    require(e["reason"] == "agent_stopped", f"the portal says {e['status']}: {e['reason']}")
    run("systemctl", "start", "holdfast.service")
    wait_online()


@check("second")
def boots_online():
    require("uid" in memory, "the first boot did not enrol")
    a = wait_online(120)
    fact("boot_to_online_s", f"{uptime():.1f}")
    require(a["instance_uid"] == memory["uid"], "another identity")


@check("second")
def shutdown_was_announced():
    require(AT_SHUTDOWN.exists(), "nothing was recorded at shutdown")
    said = json.loads(AT_SHUTDOWN.read_text())
    fact("portal_says_at_shutdown", said.get("status", said))
    require(said.get("status") == "powered_off", f"the portal said {said}")


@check("second", "boots-online")
def outage_of_the_shutdown_has_its_cause():
    last = wait_for("the outage of the shutdown", lambda: [o for o in outages() if o["cause"] == "host_shutdown"], 20)
    require(last, "no record")


@check("second", "boots-online")
def remove_stops_and_unpins():
    run("dpkg", "-r", "holdfast", timeout=300)
    nothing_runs()
    require(CONFIG.exists() and pathlib.Path("/var/lib/holdfast").exists(), "remove took configuration or state")
    require(show("holdfast.service", "LoadState") in ("not-found", "masked"), "the unit is still there")


@check("second", "remove-stops-and-unpins")
def reinstallation_goes_on_as_before():
    dpkg_install(deb("holdfast", memory["version"]))
    require(wait_online()["instance_uid"] == memory["uid"], "another identity")


@check("second")
def purge_leaves_nothing_behind():
    run("dpkg", "-P", "holdfast", "holdfast-portal", timeout=300)
    nothing_runs()
    require(not processes("holdfast-portal"), "the portal runs")
    left = sorted(set(tree()) - set(memory["tree"]))
    require(not left, f"left behind: {left[:10]}")
    for name in ("holdfast", "holdfast-portal"):
        require(run("getent", "passwd", name, check=False).returncode == 2, f"user {name} is left")
    require(not pathlib.Path("/run/holdfast").exists(), "/run/holdfast is left")


# ---- running them ----------------------------------------------------------------------------------

PORT_FD = None


def report(line):
    os.write(PORT_FD, (line.replace("\n", " | ") + "\n").encode())
    print(line, flush=True)


def journal(*args):
    """The units' own words, to the console's file."""
    r = run("journalctl", "--no-pager", "-o", "short-monotonic", "-u", "holdfast.service", "-u", "holdfast-portal.service", *args, check=False)
    print(r.stdout, flush=True)


def chosen(phase):
    """All checks, or those that match the plan's pattern and what they need."""
    checks, pattern = CHECKS[phase], memory.get("only") or ""
    names = {name for name, _, _ in checks if re.search(pattern, name)}
    for name, _, needs in reversed(checks):
        if name in names and needs:
            names.add(needs)
    return [c for c in checks if c[0] in names]


def perform(phase):
    results = {}
    for name, fn, needs in chosen(phase):
        if needs and results.get(needs) != "pass":
            results[name] = "skip"
            report(f"@@TEST {name} skip 0 {needs} did not pass")
            continue
        print(f"== {name}", flush=True)
        began, since, why = time.monotonic(), time.strftime("%Y-%m-%d %H:%M:%S"), ""
        try:
            fn()
            results[name] = "pass"
        except Skip as e:
            results[name], why = "skip", str(e)
        except Exception as e:  # noqa: BLE001  whatever it is, the next check must run
            results[name], why = "fail", f"{type(e).__name__}: {e}" if not isinstance(e, Failure) else str(e)
            if not isinstance(e, Failure):
                traceback.print_exc(file=sys.stdout)
            journal("--since", since, "-n", "80")
        report(f"@@TEST {name} {results[name]} {time.monotonic() - began:.1f} {why}")
        MEMORY.write_text(json.dumps(memory))
    return results


def record_shutdown():
    try:
        said = endpoint()
        wait = time.monotonic() + 5
        while said["status"] == "online" and time.monotonic() < wait:
            time.sleep(0.1)
            said = endpoint()
    except Exception as e:  # noqa: BLE001
        said = {"error": str(e)}
    AT_SHUTDOWN.write_text(json.dumps(said))
    os.sync()


def main():
    global PORT_FD
    if sys.argv[1:] == ["record-shutdown"]:
        record_shutdown()
        return
    PORT_FD = os.open("/dev/ttyS1", os.O_WRONLY | os.O_NOCTTY)
    subprocess.run(["stty", "-F", "/dev/ttyS1", "raw"], check=False)
    phase = "second" if PHASE.exists() else "first"
    report(f"@@BOOT {uptime():.1f}")
    if phase == "first":
        memory.update(json.loads((HERE / "plan.json").read_text()))
        PHASE.write_text("second\n")
        dropin = pathlib.Path("/etc/systemd/system/holdfast.service.d/vm.conf")
        dropin.parent.mkdir(parents=True, exist_ok=True)
        dropin.write_text("[Unit]\nAfter=vm-recorder.service holdfast-portal.service\n")
    results = perform(phase)
    print("== the whole journal")
    journal("-b", "-n", "1000")
    bad = sum(v == "fail" for v in results.values())
    report(f"@@RC {1 if bad else 0}")
    subprocess.run(["stty", "-F", "/dev/ttyS1", "raw"], check=False)
    os.close(PORT_FD)
    os.sync()
    subprocess.run(["systemctl", "reboot" if phase == "first" else "poweroff"], check=False)


if __name__ == "__main__":
    main()
