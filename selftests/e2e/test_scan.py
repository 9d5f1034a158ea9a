# SPDX-License-Identifier: Apache-2.0
"""Scans and collections of a running instance: what was planted is found, what is secret stays."""

import ctypes
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile

from harness import InstanceTest, alive, main, wait_for

CHECKS = {"modules", "bpf", "executables", "listeners", "writable", "setuid", "packages", "baseline"}
SECRET = "hunter2-" + "x" * 16


def own_mounts():
    """From here on this process's mounts are its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000) != 0:  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


class Scan(InstanceTest):
    def start_endpoint(self, extra=""):
        self.prepare()
        tree = self.i.path("watched")
        tree.mkdir(exist_ok=True)
        tree.chmod(0o755)
        config = self.i.path("config.yml")
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace("  cpu_max_percent: 100\n", f"  cpu_max_percent: 100\n  paths: [{tree}]\n{extra}"), encoding="utf-8")
        self.i.start_endpoint()
        return tree

    def scan(self, *args, code=None, **kw):
        r = self.i.cli("scan", "--json", *args, check=False, timeout_s=120, **kw)
        self.assertIn(r.returncode, (0, 1) if code is None else (code,), r)
        return json.loads(r.stdout)

    def finding(self, result, fid, path):
        return next((f for f in result["findings"] if f["id"] == fid and f["path"] == str(path)), None)

    def check(self, result, cid):
        return next(c for c in result["summary"]["checks"] if c["id"] == cid)

    # ---- what is found -----------------------------------------------------------------------

    def test_planted_faults_are_found_by_a_worker_without_network_and_rights(self):
        tree = self.start_endpoint()
        program = self.i.path("sleeper")
        shutil.copy("/bin/sleep", program)
        child = subprocess.Popen([str(program), "1000"])
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        wait_for(lambda: os.readlink(f"/proc/{child.pid}/exe") == str(program), 10, "the program to run")
        program.unlink()
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        setuid = tree / "rooter"
        setuid.write_bytes(b"x")
        setuid.chmod(0o4755)

        result = self.scan("--checks", "executables,listeners,bpf", code=1)
        found = self.finding(result, "executables.deleted", program)
        self.assertEqual(found["severity"], "high")
        self.assertIn(f"pid {child.pid} (", found["evidence"])
        self.assertTrue(found["fix"])
        found = self.finding(result, "listeners.open", f"tcp 127.0.0.1:{listener.getsockname()[1]}")
        self.assertIn(f"pid {os.getpid()} (", found["evidence"])
        if self.i.watchdog() and any(p["attached"] for p in self.i.status()["telemetry"]["programs"]):
            self.assertTrue(any(f["id"] == "bpf.holdfast" and "tcp_state" in f["path"] for f in result["findings"]), result["findings"])

        result = self.scan("--path", str(tree), code=1)
        self.assertEqual({c["id"] for c in result["summary"]["checks"]}, {"setuid", "packages", "baseline"})
        found = self.finding(result, "setuid.open_place", setuid) or self.finding(result, "setuid.unpackaged", setuid)
        self.assertEqual(found["severity"], "high")
        self.assertIn("4755", found["evidence"])

    def test_baseline_is_made_kept_compared_and_renewed(self):
        tree = self.start_endpoint()
        (tree / "conf").write_text("one", encoding="ascii")
        (tree / "tool").write_bytes(b"x")
        (tree / "tool").chmod(0o755)
        result = self.scan("--checks", "baseline", code=0)
        self.assertEqual((result["summary"]["baseline"], result["findings"]), ("created", []))
        kept = self.i.path("state", "watchdog", "scan-baseline")
        self.assertEqual((kept.stat().st_uid, kept.stat().st_mode & 0o777), (0, 0o600))
        self.assertIn(hashlib.sha256(b"one").hexdigest(), kept.read_text(encoding="ascii"))

        (tree / "conf").write_text("two", encoding="ascii")
        (tree / "tool").write_bytes(b"y")
        before = kept.read_bytes()
        for _ in range(2):  # telling it does not accept it
            result = self.scan("--checks", "baseline", code=1)
            self.assertEqual(result["summary"]["baseline"], "compared")
            self.assertEqual(self.finding(result, "baseline.changed", tree / "conf")["severity"], "medium")
            self.assertEqual(self.finding(result, "baseline.changed", tree / "tool")["severity"], "high")
            self.assertEqual(len(result["findings"]), 2)
        self.assertEqual(kept.read_bytes(), before)

        result = self.scan("--accept-baseline", "--checks", "baseline")
        self.assertEqual(result["summary"]["baseline"], "renewed")
        result = self.scan("--checks", "baseline", code=0)
        self.assertEqual(result["findings"], [])
        # Another watchdog finds it again.
        self.i.stop_endpoint()
        self.i.start_endpoint()
        (tree / "conf").unlink()
        result = self.scan("--checks", "baseline")
        self.assertTrue(self.finding(result, "baseline.missing", tree / "conf"))

    def test_the_worker_reads_the_database_of_rpm_and_writes_nothing_there(self):
        if not shutil.which("rpmbuild") or not shutil.which("rpm"):
            self.skipTest("there is no rpm or rpmbuild to make a package with")
        # Both places are the host's: only this process and what it starts see ours there.
        own_mounts()
        database, files = self.i.path("rpmdb"), self.i.path("opt")
        for source, target in ((database, "/var/lib/rpm"), (files, "/opt")):
            source.mkdir(parents=True)
            source.chmod(0o755)
            os.makedirs(target, exist_ok=True)
            subprocess.run(["mount", "--bind", str(source), target], check=True)
            self.addCleanup(subprocess.run, ["umount", target], check=False)
        self.make_rpm(self.i.path("rpmbuild"))
        (files / "planted").mkdir()
        for name, text in (("good", "abc"), ("changed", "abd"), ("settings", "abd")):
            (files / "planted" / name).write_text(text, encoding="ascii")
        self.start_endpoint()
        self.assertTrue(self.i.watchdog())
        before = {p.name: p.read_bytes() for p in database.iterdir()}
        result = self.scan("--checks", "packages", "--path", "/opt")
        self.assertEqual(self.check(result, "packages")["result"], "done", self.check(result, "packages"))
        self.assertEqual(
            {(f["id"], f["severity"], f["path"]) for f in result["findings"]},
            {
                ("packages.changed", "medium", "/opt/planted/changed"),
                ("packages.missing", "low", "/opt/planted/missing"),
                ("packages.config_changed", "low", "/opt/planted/settings"),
            },
        )
        self.assertIn(hashlib.sha256(b"abc").hexdigest(), self.finding(result, "packages.changed", "/opt/planted/changed")["evidence"])
        self.assertEqual({p.name: p.read_bytes() for p in database.iterdir()}, before)

    def make_rpm(self, top):
        spec = top / "planted.spec"
        top.mkdir()
        spec.write_text(
            "Name: planted\nVersion: 1\nRelease: 1\nSummary: s\nLicense: none\nBuildArch: noarch\n%description\nd\n%install\n"
            "mkdir -p %{buildroot}/opt/planted\nfor f in good changed missing settings; do printf abc >%{buildroot}/opt/planted/$f; done\n"
            "%files\n/opt/planted/good\n/opt/planted/changed\n/opt/planted/missing\n%config /opt/planted/settings\n",
            encoding="ascii",
        )
        words = [f"_topdir {top}", f"_tmppath {top}", f"_dbpath {top}/db", "_binary_filedigest_algorithm 8", "_db_backend sqlite"]
        defines = [w for word in words for w in ("--define", word)]
        subprocess.run(["rpmbuild", "-bb", *defines, str(spec)], check=True, capture_output=True, timeout=60)
        package = next(top.glob("RPMS/noarch/*.rpm"))
        # A database that is written ahead, as rpm's is, with nobody who has it open.
        subprocess.run(
            ["rpm", "--define", "_db_backend sqlite", "--dbpath", "/var/lib/rpm", "--justdb", "--nodeps", "--noscripts", "-i", str(package)],
            check=True,
            capture_output=True,
            timeout=60,
        )

    # ---- faults --------------------------------------------------------------------------------

    @staticmethod
    def status_of(pid):
        with open(f"/proc/{pid}/status", encoding="utf-8") as f:
            return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)

    def worker(self):
        """pid of the scan's worker, by the file it runs."""
        for p in os.listdir("/proc"):
            if p.isdigit():
                try:
                    if os.readlink(f"/proc/{p}/exe").endswith("/holdfast-scan") and self.status_of(p)["PPid"] == str(self.i.watchdog()["pid"]):
                        return int(p)
                except OSError:
                    pass
        return None

    def slow_scan(self):
        """A scan of the whole host at one percent of a processor, and its worker."""
        p = subprocess.Popen(
            [str(self.i.bin / "holdfast"), "--dir", str(self.i.dir), "scan", "--json", "--checks", "setuid,packages"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        return p, wait_for(self.worker, 20, "the worker")

    def set_cpu(self, percent):
        config = self.i.path("config.yml")
        config.write_text(config.read_text(encoding="utf-8").replace("cpu_max_percent: 100", f"cpu_max_percent: {percent}"), encoding="utf-8")
        self.i.cli("config", "reload")

    def test_worker_has_its_rights_and_ends_with_a_cancel_or_its_watchdog(self):
        self.start_endpoint()
        self.set_cpu(1)
        cli, worker = self.slow_scan()
        status = self.status_of(worker)
        self.assertEqual(status["Uid"].split()[0], "60542")
        self.assertEqual(int(status["CapEff"], 16), 1 << 2 | 1 << 19)  # DAC_READ_SEARCH, SYS_PTRACE
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, worker), 19)
        r = self.i.cli("scan", check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("a scan is running already", r.stderr)
        # a cancel
        cli.send_signal(signal.SIGINT)
        out, err = cli.communicate(timeout=60)
        self.assertEqual((cli.returncode, out), (1, ""))
        self.assertIn("cancelled", err)
        wait_for(lambda: not alive(worker), 20, "the worker to end")
        # the watchdog's end
        cli, worker = self.slow_scan()
        os.kill(self.i.watchdog()["pid"], signal.SIGKILL)
        wait_for(lambda: not alive(worker), 20, "the worker to end with its watchdog")
        out, err = cli.communicate(timeout=60)
        self.assertNotEqual(cli.returncode, 0)
        self.assertEqual(out, "")
        # and the next one scans again
        wait_for(lambda: "pid" in self.i.watchdog(), 20, "the next watchdog")
        self.set_cpu_back()
        self.scan("--checks", "modules")

    def set_cpu_back(self):
        config = self.i.path("config.yml")
        config.write_text(config.read_text(encoding="utf-8").replace("cpu_max_percent: 1\n", "cpu_max_percent: 100\n"), encoding="utf-8")
        self.i.cli("config", "reload")

    def test_worker_that_is_stopped_or_killed_is_told(self):
        self.start_endpoint()
        self.set_cpu(1)
        cli, worker = self.slow_scan()
        os.kill(worker, signal.SIGKILL)
        out, err = cli.communicate(timeout=60)
        self.assertEqual((cli.returncode, out), (1, ""))
        self.assertIn("ended by signal 9", err)

    def test_without_a_watchdog_the_callers_rights_do(self):
        self.prepare()
        r = self.i.cli("scan", "--json", "--checks", "writable,baseline,bpf", check=False, timeout_s=60)
        self.assertIn(r.returncode, (0, 1))
        self.assertIn("no watchdog answers", r.stderr)
        result = json.loads(r.stdout)
        self.assertEqual(self.check(result, "writable")["result"], "done")
        self.assertEqual(self.check(result, "baseline")["result"], "not_checked")
        self.assertEqual(self.check(result, "bpf")["result"], "not_checked")
        r = self.i.cli("scan", "--checks", "nonsense", "--local", check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("parameter 'checks'", r.stderr)
        for args in (["--path", "relative"], ["--accept-baseline", "--local"], ["--nope"], ["word"]):
            self.assertEqual(self.i.cli("scan", *args, check=False).returncode, 2)

    # ---- by the portal -------------------------------------------------------------------------

    def act(self, kind, params=None, deadline_s=60):
        endpoint = self.i.endpoint()["id"]
        action = self.i.api("POST", f"/endpoints/{endpoint}/actions", {"kind": kind, "params": params or {}})

        def done():
            a = self.i.api("GET", f"/actions/{action['id']}")
            return a if a["state"] not in ("queued", "sent", "accepted", "running") else None

        return wait_for(done, deadline_s, f"the {kind} to end")

    def test_actions_scan_and_collect_bring_findings_and_an_archive_without_secrets(self):
        self.start_online()
        with open(self.i.path("config.yml"), "a", encoding="utf-8") as f:
            f.write(f"# password: {SECRET}\n")
        with open(self.i.path("log", "launch.log"), "a", encoding="utf-8") as f:
            f.write(f"Authorization: Bearer {SECRET}\n-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\ntoken={SECRET}\n")
        a = self.act("scan", {"checks": ["modules", "listeners"]})
        self.assertEqual(a["state"], "succeeded", a)
        self.assertEqual({c["id"] for c in a["result"]["summary"]["checks"]}, {"modules", "listeners"})
        a = self.act("scan", {"nonsense": "1"})
        self.assertEqual((a["state"], a["reason"]), ("rejected", "bad_params"), a)

        a = self.act("collect")
        self.assertEqual(a["state"], "succeeded", a)
        status, raw = self.download(f"/api/v1/actions/{a['id']}/artifact")
        self.assertEqual(status, 200)
        self.assertNotIn(SECRET.encode(), gzip.decompress(raw))
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as t:
            files = {m.name: t.extractfile(m).read().decode() for m in t.getmembers()}
        self.assertEqual(set(files), {f"holdfast/{n}" for n in ("host.txt", "status.json", "config.yml", "outages.json", "log.txt", "events.jsonl", "state.txt", "manifest.json")})
        status = json.loads(files["holdfast/status.json"])
        self.assertEqual(status["agent"]["state"], "online")
        self.assertEqual(status["watchdog"]["components"][0]["name"], "agent")
        self.assertIn("[redacted]", files["holdfast/log.txt"])
        self.assertIn("heartbeat_s: 20", files["holdfast/config.yml"])
        manifest = json.loads(files["holdfast/manifest.json"])
        self.assertGreaterEqual(manifest["redacted"], 3)
        self.assertEqual([f for f in manifest["files"] if f["error"]], [])

    def download(self, path):
        import http.client

        c = http.client.HTTPSConnection(self.i.host, self.i.port, context=self.i.tls_context(), timeout=20)
        try:
            c.request("GET", path, headers={"Authorization": f"Bearer {self.i.admin_token()}"})
            r = c.getresponse()
            return r.status, r.read()
        finally:
            c.close()


if __name__ == "__main__":
    main()
