# SPDX-License-Identifier: Apache-2.0
"""holdfast-sign as a release engineer uses it, and what the real minisign says of its files."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from harness import BIN, main

SIGN = str(BIN / "holdfast-sign")
ENV = {**os.environ, "SOURCE_DATE_EPOCH": "1767323045"}  # 2026-01-02T03:04:05Z
LATER = "2026-03-02T00:00:00Z"


class SignTest(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="hf-sign-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def run_tool(self, *argv, code=0, **kw):
        r = subprocess.run(argv, cwd=self.dir, env=ENV, capture_output=True, text=True, timeout=60, check=False, **kw)
        self.assertEqual(r.returncode, code, f"{' '.join(argv)}\n{r.stdout}{r.stderr}")
        return r

    def sign(self, *argv, code=0):
        return self.run_tool(SIGN, *argv, code=code)

    def refused(self, *argv, code=1):
        r = self.sign(*argv, code=code)
        self.assertEqual(r.stdout, "")
        self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        self.assertTrue(r.stderr.startswith("holdfast-sign: "), r.stderr)
        return r.stderr

    def key(self, kind, name):
        return json.loads(self.sign("--json", f"{kind}-key", "new", "--unencrypted", name).stdout)["id"]

    def keys(self, *names):
        """A list signed by the one root `root` with these release keys."""
        self.key("root", "root")
        adds = [x for n in names for x in ("--add", f"{n}.pub")]
        ids = [self.key("release", n) for n in names]
        self.sign("keys", "sign", "--root", "root.pub", *adds, "--key", "root.key", "keys")
        return ids

    def bundle(self, name="a.hfb", version="1.0.0", key="build", extra=()):
        files = self.dir / "files"
        if not files.exists():
            (files / "bin").mkdir(parents=True)
            (files / "bin" / "agent").write_bytes(os.urandom(100_000))
            (files / "bin" / "agent").chmod(0o755)
            (files / "README").write_text("read me\n")
        self.sign("bundle", "build", "--component", "agent", "--version", version, "--files", "files", "--out", name, *extra)
        if key:
            self.sign("bundle", "sign", "--key", f"{key}.key", name)
        return self.dir / name

    def verdict(self, name="a.hfb", *argv, now=LATER):
        r = subprocess.run([SIGN, "--json", "bundle", "verify", "--keys", "keys", "--now", now, *argv, name],
                           cwd=self.dir, env=ENV, capture_output=True, text=True, timeout=30, check=False)
        v = json.loads(r.stdout)["verdict"]
        self.assertEqual(r.returncode, 0 if v == "ok" else 1)
        return v

    def test_minisign_accepts_our_signature_and_nothing_else(self):
        self.keys("build", "other")
        b = self.bundle()
        out = self.run_tool("minisign", "-V", "-p", "build.pub", "-m", "a.hfb").stdout
        self.assertIn("Trusted comment: holdfast agent 1.0.0 linux/", out)
        word = json.loads(self.sign("--json", "show", "build.pub").stdout)["public"]
        self.run_tool("minisign", "-V", "-H", "-P", word, "-m", "a.hfb")
        self.run_tool("minisign", "-V", "-p", "other.pub", "-m", "a.hfb", code=1)
        b.write_bytes(b.read_bytes()[:-1] + b"?")
        self.run_tool("minisign", "-V", "-p", "build.pub", "-m", "a.hfb", code=1)

    def test_keys_serve_minisign_and_minisigns_keys_serve_us(self):
        self.keys("build")
        (self.dir / "file").write_text("x\n")
        self.run_tool("minisign", "-S", "-s", "build.key", "-m", "file")
        self.run_tool("minisign", "-V", "-p", "build.pub", "-m", "file")
        self.run_tool("minisign", "-G", "-W", "-p", "theirs.pub", "-s", "theirs.key")
        self.sign("keys", "sign", "--add", "theirs.pub", "--key", "root.key", "keys")
        self.bundle(key="theirs")
        self.assertEqual(self.verdict("a.hfb", "--signature", "a.hfb.minisig"), "ok")
        self.run_tool("minisign", "-V", "-p", "theirs.pub", "-m", "a.hfb")

    def test_an_encrypted_key_needs_its_passphrase_in_both_tools(self):
        (self.dir / "right").write_text("correct horse\n")
        (self.dir / "wrong").write_text("battery staple\n")
        self.keys("build")
        self.sign("release-key", "new", "--passphrase-file", "right", "enc")
        self.bundle(key=None)
        self.assertIn("wrong passphrase", self.refused("bundle", "sign", "--key", "enc.key", "--passphrase-file", "wrong", "a.hfb"))
        self.sign("bundle", "sign", "--key", "enc.key", "--passphrase-file", "right", "a.hfb")
        (self.dir / "file").write_text("x\n")
        self.run_tool("minisign", "-S", "-s", "enc.key", "-m", "file", input="correct horse\n")
        self.run_tool("minisign", "-V", "-p", "enc.pub", "-m", "file")
        self.assertEqual((self.dir / "enc.key").stat().st_mode & 0o777, 0o600)

    def test_a_bundle_is_the_same_bytes_each_time(self):
        self.keys("build")
        one = self.bundle("one.hfb").read_bytes()
        self.assertEqual(one, self.bundle("two.hfb").read_bytes())

    def test_verify_names_what_is_wrong(self):
        build, lost = self.keys("build", "lost")
        self.key("release", "stranger")
        self.bundle()
        self.assertEqual(self.verdict(), "ok")
        self.assertEqual(self.verdict(now="2025-01-01T00:00:00Z"), "clock")
        self.assertEqual(self.verdict(now="2027-06-01T00:00:00Z"), "keys_expired")
        self.bundle("unsigned.hfb", key=None)
        self.assertEqual(self.verdict("unsigned.hfb"), "unsigned")
        self.bundle("stranger.hfb", key="stranger")
        self.assertEqual(self.verdict("stranger.hfb"), "key_unknown")
        self.bundle("short.hfb", extra=("--expires", "30d"))
        self.assertEqual(self.verdict("short.hfb"), "expired")
        self.bundle("lost.hfb", key="lost")
        self.assertEqual(self.verdict("lost.hfb"), "ok")
        self.sign("keys", "sign", "--revoke", lost, "--key", "root.key", "keys")
        self.assertEqual(self.verdict("lost.hfb"), "key_revoked")
        self.assertIn("revoked already", self.refused("keys", "sign", "--revoke", lost, "--key", "root.key", "keys"))
        self.sign("keys", "sign", "--drop", build, "--key", "root.key", "keys")
        self.assertEqual(self.verdict(), "key_unknown")

    def test_a_changed_byte_is_found_wherever_it_is(self):
        self.keys("build")
        b = self.bundle()
        good = b.read_bytes()
        manifest = good.index(b"security-epoch 0")
        for at, want in ((manifest + 15, "signature"), (len(good) - 5, "files")):
            bad = bytearray(good)
            bad[at] ^= 1
            b.write_bytes(bad)
            self.assertEqual(self.verdict(), want)
        b.write_bytes(good[:-1])
        self.assertIn("ends within its files", self.refused("bundle", "verify", "--keys", "keys", "a.hfb"))
        b.write_bytes(good + b"x")
        self.assertIn("behind the bundle's end", self.refused("bundle", "verify", "--keys", "keys", "a.hfb"))
        b.write_bytes(good)
        sig = self.dir / "a.hfb.minisig"
        sig.write_text(sig.read_text().replace("1.0.0", "2.0.0"))
        self.assertEqual(self.verdict("a.hfb", "--signature", "a.hfb.minisig"), "detached_signature")

    def test_two_of_three_roots_must_sign_and_rotation_needs_both_sides(self):
        for n in ("a", "b", "c", "d"):
            self.key("root", n)
        self.key("release", "build")
        out = self.sign("keys", "sign", "--root", "a.pub", "--root", "b.pub", "--root", "c.pub", "--threshold", "2",
                        "--add", "build.pub", "--key", "a.key", "keys").stdout
        self.assertIn("1 of 2 signatures; more root keys must sign", out)
        self.bundle()
        self.assertEqual(self.verdict(), "keys_roots")
        self.sign("keys", "sign", "--key", "c.key", "keys")
        self.assertEqual(self.verdict(), "ok")
        shutil.copy(self.dir / "keys", self.dir / "first")
        drop = [json.loads(self.sign("--json", "show", f"{n}.pub").stdout)["id"] for n in ("a", "b")]
        self.sign("keys", "sign", "--root", "d.pub", "--drop-root", drop[0], "--drop-root", drop[1], "--key", "c.key", "--key", "d.key", "keys")
        self.assertEqual(self.verdict(), "ok")
        self.assertEqual(self.verdict("a.hfb", "--trusted", "first"), "keys_roots")
        self.sign("keys", "sign", "--key", "b.key", "keys")
        self.assertEqual(self.verdict("a.hfb", "--trusted", "first"), "ok")
        # The list of before does not come back.
        os.rename(self.dir / "keys", self.dir / "second")
        os.rename(self.dir / "first", self.dir / "keys")
        self.assertEqual(self.verdict("a.hfb", "--trusted", "second"), "keys_roots")

    def test_a_replayed_list_is_named_older(self):
        build = self.keys("build")[0]
        shutil.copy(self.dir / "keys", self.dir / "old")
        self.sign("keys", "sign", "--revoke", build, "--key", "root.key", "keys")
        self.bundle()
        os.rename(self.dir / "keys", self.dir / "new")
        os.rename(self.dir / "old", self.dir / "keys")
        self.assertEqual(self.verdict("a.hfb", "--trusted", "new"), "keys_older")

    def test_nothing_is_overwritten_and_no_half_bundle_is_left(self):
        self.keys("build")
        before = (self.dir / "build.key").read_bytes()
        self.assertIn("there is a key already", self.refused("release-key", "new", "--unencrypted", "build"))
        self.assertEqual((self.dir / "build.key").read_bytes(), before)
        (self.dir / "files").mkdir()
        os.symlink("/etc/passwd", self.dir / "files" / "link")
        self.assertIn("'link' is neither", self.refused("bundle", "build", "--component", "agent", "--version", "1.0.0",
                                                        "--files", "files", "--out", "x.hfb"))
        self.assertEqual([p.name for p in self.dir.iterdir() if p.name.startswith("x.hfb")], [])

    def test_show_says_what_was_signed(self):
        ids = self.keys("build")
        self.bundle(extra=("--environment", "prod", "--epoch", "3", "--libc", "glibc-2.36"))
        text = self.sign("show", "a.hfb").stdout
        self.assertIn("\nenvironment prod\nsecurity-epoch 3\n", text)
        j = json.loads(self.sign("show", "--json", "a.hfb").stdout)
        self.assertEqual((j["libc"], j["key"], [f["mode"] for f in j["files"]]), ("glibc-2.36", ids[0], ["0444", "0555"]))
        k = json.loads(self.sign("show", "keys", "--json").stdout)
        self.assertEqual((k["version"], k["keys"][0]["id"]), (1, ids[0]))
        self.assertIn("neither a bundle", self.refused("show", "files/README"))

    def test_wrong_usage_is_one_line_and_status_2(self):
        for argv in (("frobnicate",), ("bundle",), ("bundle", "build"), ("bundle", "sign", "x"), ("show",), ("keys", "sign"),
                     ("root-key", "new"), ("bundle", "verify", "x")):
            self.refused(*argv, code=2)
        self.assertIn("usage: holdfast-sign bundle sign", self.sign("bundle", "sign", "--help").stdout)


if __name__ == "__main__":
    main()
