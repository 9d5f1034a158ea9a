# SPDX-License-Identifier: Apache-2.0
"""What must not be installed, and disks that cannot take it: each refusal has a name and changes nothing."""

import contextlib
import os
import shutil
import struct
import subprocess
import time

from harness import main, run, wait_for
from releasetest import ReleaseTest

HEADER, SIGNATURE = 24, 64


def take_apart(data):
    """The manifest's text, its signature, the files' bytes."""
    n = struct.unpack_from("<I", data, 8)[0]
    return data[HEADER : HEADER + n].decode(), data[HEADER + n : HEADER + n + SIGNATURE], data[HEADER + n + SIGNATURE :]


def put_together(text, signature, files, length=None):
    body = text.encode()
    return struct.pack("<8sIIQ", b"HFBUNDL1", len(body), 0, len(files) if length is None else length) + body + signature + files


class Refused(ReleaseTest):
    def crafted(self, name, text, signature, files, **kw):
        path = self.signer.dir / name
        path.write_bytes(put_together(text, signature, files, **kw))
        return path

    def test_bytes_that_are_no_bundle(self):
        self.start()
        good = self.bundle("1.1.0")
        data = good.read_bytes()
        text, signature, files = take_apart(data)
        line = next(x for x in text.splitlines() if x.startswith("file "))
        other = self.bundle("1.2.0", "crash")
        cases = {
            "empty": b"",
            "truncated": data[:-100],
            "truncated-manifest": data[:60],
            "longer": data + b"x",
            "flipped": data[:-5000] + bytes([data[-5000] ^ 1]) + data[-4999:],
            "mixed": data[: -len(files)] + take_apart(other.read_bytes())[2][: len(files)].ljust(len(files), b"x"),
            "huge-manifest": struct.pack("<8sIIQ", b"HFBUNDL1", 0x7FFFFFFF, 0, 1) + data[HEADER:],
            "escaping": put_together(text.replace("bin/holdfast-agent", "../holdfast-agent"), signature, files),
            "absolute": put_together(text.replace("bin/holdfast-agent", "/bin/holdfast-agent"), signature, files),
            "setuid": put_together(text.replace("file 0555", "file 4555"), signature, files),
            "writable": put_together(text.replace("file 0555", "file 0755"), signature, files),
            "duplicate": put_together(text.replace(line, line + "\n" + line), signature, files + files),
            "oversized": put_together(text.replace(line.split()[2], "999999999999"), signature, files),
        }
        for name, content in cases.items():
            with self.subTest(name):
                path = self.signer.dir / f"{name}.hfb"
                path.write_bytes(content)
                self.refused(path, "bundle")
        with self.subTest("directory"):
            self.refused(self.signer.dir, "bundle")
        with self.subTest("missing"):
            self.refused(self.signer.dir / "nothing", "file")
        with self.subTest("changed"):  # signed, and then another word in the manifest
            self.refused(self.crafted("changed.hfb", text.replace("security-epoch 0", "security-epoch 9"), signature, files), "signature")
        self.assertEqual(sorted(p.name.split("-")[0] for p in self.i.path("state", "releases", "agent").glob("[0-9]*")), ["0.1.0"])

    def test_release_that_is_not_for_this_host(self):
        self.start()
        for reason, *extra in (
            ("product", "--product", "other"),
            ("os", "--os", "plan9"),
            ("arch", "--arch", "riscv64"),
            ("distro", "--distro", "slackware"),
            ("libc", "--libc", "glibc-9.99"),
            ("environment", "--environment", "prod"),
            ("expired", "--created", "2024-01-01T00:00:00Z", "--expires", "2024-02-01T00:00:00Z"),
            ("from_version", "--min-from", "0.9.0"),
        ):
            with self.subTest(reason):
                self.refused(self.bundle("1.1.0", "ok", *extra, name=f"{reason}.hfb"), reason)
        with self.subTest("component"):
            self.refused(self.signer.bundle("1.1.0", self.program("ok", "1.1.0"), component="exporter"), "component")

    def test_signature_that_does_not_count(self):
        self.start()
        s = self.signer
        self.refused(self.bundle("1.1.0", key=None, name="unsigned.hfb"), "unsigned")
        s.sign("release-key", "new", "--unencrypted", "stranger")
        self.refused(self.bundle("1.1.0", key="stranger", name="stranger.hfb"), "key_unknown")
        s.sign("release-key", "new", "--unencrypted", "old")
        s.sign("release-key", "new", "--unencrypted", "next")
        first = self.i.path("first-keys")
        shutil.copy(s.list, first)
        now = time.time()
        def stamp(t):
            return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t))
        newer = s.change_keys("--from", stamp(now - 9000), "--until", stamp(now - 3600), "--add", "old.pub",
                              "--from", stamp(now + 86400), "--until", stamp(now + 2 * 86400), "--add", "next.pub", path=self.i.path("newer-keys"))
        self.i.cli("release", "keys", str(newer))
        self.assertEqual(self.releases()["keys"]["version"], 2)
        self.refused(self.bundle("1.1.0", key="old", name="old.hfb"), "key_expired")
        self.refused(self.bundle("1.1.0", key="next", name="next.hfb"), "key_early")
        # A list with another root key that the trusted ones did not vouch for; and the first one again.
        s.sign("root-key", "new", "--unencrypted", "evil")
        s.sign("keys", "sign", "--root", "evil.pub", "--add", "stranger.pub", "--key", "evil.key", self.i.path("evil-keys"))
        for path, word in ((self.i.path("evil-keys"), "keys_roots"), (first, "keys_older"), (s.dir / "root.pub", "no_keys")):
            r = self.i.cli("release", "keys", str(path), check=False)
            self.assertEqual(r.returncode, 1, r)
            self.assertIn(word, r.stderr)
        self.assertEqual(self.releases()["keys"]["version"], 2)
        build = s.sign("show", "build.pub")["id"]
        self.i.cli("release", "keys", str(s.change_keys("--revoke", build, path=newer)))
        self.refused(self.bundle("1.1.0"), "key_revoked")

    def test_two_of_three_roots_must_sign(self):
        self.start()
        s = self.signer
        for n in ("bob", "eve"):
            s.sign("root-key", "new", "--unencrypted", n)
        path = s.change_keys("--root", "bob.pub", "--root", "eve.pub", "--threshold", "2", path=self.i.path("three"))
        r = self.i.cli("release", "keys", str(path), check=False)
        self.assertIn("keys_roots", r.stderr)
        s.sign("keys", "sign", "--key", "bob.key", path)
        self.i.cli("release", "keys", str(path))
        self.assertEqual(self.releases()["keys"]["version"], 2)

    def test_list_of_keys_that_is_frozen_is_told_and_admits_nothing(self):
        s = self.signer
        s.change_keys("--expires", "1s")
        time.sleep(1.1)  # the one thing that only time can do
        self.start()
        self.assertEqual(self.releases()["keys"]["state"], "expired")
        self.refused(self.bundle("1.1.0"), "keys_expired")
        self.i.path("release-keys").unlink()
        self.refused(self.bundle("1.1.0"), "no_keys")
        self.assertEqual(self.releases()["keys"]["state"], "none")

    def test_second_update_waits_for_the_first_and_nothing_gets_below_the_floor(self):
        config = self.i.path("config.yml")
        config.write_text(config.read_text().replace("probation_s: 2", "probation_s: 3"))
        self.start()
        self.stage(self.bundle("1.1.0", "ok", "--epoch", "3"))
        self.wait_version("1.1.0")
        self.refused(self.bundle("1.2.0", "ok", "--epoch", "3"), "busy")
        self.wait_phase("committed")
        self.refused(self.signer.dir / "agent-1.1.0.hfb", "same")
        self.stage(self.signer.dir / "agent-1.2.0.hfb", "--wait")
        self.assertEqual(self.release()["security_epoch"], 3)
        self.refused(self.bundle("1.3.0", "ok", "--epoch", "2"), "security_epoch")

    def test_only_root_may_install(self):
        self.start()
        path = self.bundle("1.1.0")
        r = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(self.i.bin / "holdfast"), "--dir", str(self.i.dir),
                            "release", "stage", str(path)], capture_output=True, text=True, timeout=20, check=False)
        self.assertEqual(r.returncode, 1, r)
        self.assertIn("permission denied", r.stderr)
        self.assertIsNone(self.releases()["job"])


class Disk(ReleaseTest):
    def mount(self, options):
        target = self.i.path("state", "releases")
        target.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755," + options, "tmpfs", str(target))
        self.addCleanup(subprocess.run, ["umount", "-l", str(target)], check=False)
        return target

    def test_full_disk_and_full_inodes(self):
        target = self.mount("size=48m,nr_inodes=64")
        self.start()
        filler = target / "filler"
        with contextlib.suppress(OSError), open(filler, "wb") as f:
            while True:
                f.write(b"x" * 65536)
        self.refused(self.bundle("1.1.0"), "disk_full")
        filler.unlink()
        with contextlib.suppress(OSError):
            for n in range(64):
                (target / f"inode-{n}").touch()
        self.refused(self.signer.dir / "agent-1.1.0.hfb", "disk_full")
        for p in target.glob("inode-*"):
            p.unlink()
        self.stage(self.signer.dir / "agent-1.1.0.hfb", "--wait")

    def test_disk_that_becomes_read_only(self):
        target = self.mount("size=48m")
        self.start()
        run("mount", "-o", "remount,ro", str(target))
        self.refused(self.bundle("1.1.0"), "read_only")
        a = self.agent()
        self.kill(a["pid"])
        self.wait_new(a["pid"])
        run("mount", "-o", "remount,rw", str(target))
        self.stage(self.signer.dir / "agent-1.1.0.hfb", "--wait")

    def test_disk_that_becomes_read_only_in_a_trial(self):
        config = self.i.path("config.yml")
        config.write_text(config.read_text().replace("probation_s: 2", "probation_s: 60"))
        target = self.mount("size=48m")
        self.start()
        self.stage(self.bundle("1.1.0"))
        a = self.wait_version("1.1.0")
        run("mount", "-o", "remount,ro", str(target))
        self.kill(a["pid"])
        # Its next try cannot be written down: the version before runs meanwhile.
        self.wait_version("test-1")
        run("mount", "-o", "remount,rw", str(target))
        self.i.cli("component", "restart", "agent")
        self.wait_version("1.1.0")

    def test_disk_that_may_not_be_executed_from(self):
        self.mount("size=48m,noexec")
        self.start()
        self.assertEqual(os.readlink(f"/proc/{self.agent()['pid']}/exe"), str(self.i.bin / "holdfast-agent"))
        r = self.i.cli("release", "stage", str(self.bundle("1.1.0")), check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("noexec", r.stderr)
        self.assertIn("noexec", self.release()["error"])


class Swapped(ReleaseTest):
    def exe(self):
        return os.readlink(f"/proc/{self.agent()['pid']}/exe").removesuffix(" (deleted)")

    def test_file_that_takes_the_programs_name_is_not_run(self):
        self.start()
        self.stage(self.bundle("1.1.0"), "--wait")
        a = self.wait_version("1.1.0")
        exe = self.exe()
        os.rename(exe, exe + ".away")
        shutil.copy2("/bin/sleep", exe)
        self.kill(a["pid"])
        b = self.wait_new(a["pid"])
        self.assertIn(b["version"], ("1.1.0", "test-1"))  # one that was verified, by what it is and not by its name
        self.assertNotIn(os.path.realpath("/bin/sleep"), os.readlink(f"/proc/{b['pid']}/exe"))

    def test_program_that_was_changed_gives_way_to_the_version_before(self):
        self.start()
        self.stage(self.bundle("1.1.0"), "--wait")
        self.wait_version("1.1.0")
        exe = self.exe()
        self.i.cli("component", "stop", "agent")
        os.chmod(exe, 0o755)
        with open(exe, "r+b") as f:
            f.seek(5000)
            f.write(b"????")
        os.chmod(exe, 0o555)
        self.i.cli("component", "start", "agent")
        self.wait_rollback("digest_mismatch", "1.1.0")
        self.wait_version("test-1")


class Package(ReleaseTest):
    config_extra = ReleaseTest.config_extra.replace("probation_s: 2", "probation_s: 3")

    def install(self, mode, version):
        """What a package does: another program in its directory, the postinst's word, a restart."""
        self.i.stop_endpoint()
        program = self.i.bin / "holdfast-agent"
        program.unlink()
        program.write_bytes(self.program(mode, version))
        program.chmod(0o755)
        for mark in self.i.path("state", "releases").glob("*/packaged"):
            mark.unlink()
        self.start()

    def test_upgrade_is_tried_and_rolled_back_like_any_release(self):
        self.start()
        self.install("ok", "new")
        self.wait_version("new")
        self.wait_phase("committed")
        self.i.stop_endpoint()
        self.mode("ok")
        program = self.i.bin / "holdfast-agent"
        program.unlink()
        program.write_bytes(self.program("crash", "broken"))
        program.chmod(0o755)
        self.i._spawn("launch", "holdfast-launch", ["--dir", "."])
        self.wait_version("new")
        r = self.wait_phase("rolled_back")
        self.assertEqual((r["last_rollback"]["reason"], len(r["bad"])), ("crashes", 1))
        self.i.stop_endpoint()
        self.start()  # it is not tried again at each start
        self.assertEqual(self.wait_version("new")["restarts"] >= 0, True)
        self.assertEqual(self.release()["phase"], "rolled_back")

    def test_package_and_purge_in_the_middle_of_a_trial(self):
        self.start()
        self.stage(self.bundle("1.1.0", "ok"))
        self.wait_version("1.1.0")
        self.install("ok", "new")  # the administrator's word: the trial is over
        self.wait_version("new")
        self.wait_log("launch", "release 1.1.0 of 'agent' gives way to the package's")
        self.i.stop_endpoint()
        shutil.rmtree(self.i.path("state"))
        self.start()
        r = self.release()
        self.assertEqual((r["phase"], r["candidate"], r["last_rollback"]), ("committed", None, None))
        wait_for(lambda: self.agent()["state"] == "running", 10, "the agent")


if __name__ == "__main__":
    main()
