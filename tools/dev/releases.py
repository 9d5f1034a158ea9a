# SPDX-License-Identifier: Apache-2.0
"""Release keys and bundles of a development instance, made with holdfast-sign as an engineer would.

The keys lie in <instance>/signing: root.key signs the list of release keys, build.key the bundles. The
list is what the instance trusts (<instance>/release-keys).
"""

import json
import os
import pathlib
import shutil
import subprocess


class Signer:
    def __init__(self, instance):
        self.instance = instance
        self.dir = instance.path("signing")
        self.list = instance.path("release-keys")

    def sign(self, *argv, env=None):
        """holdfast-sign in the keys' directory; its JSON, or an exception with its sentence."""
        tool = str(self.instance.sign_tool())
        r = subprocess.run([tool, "--json", *map(str, argv)], cwd=self.dir, capture_output=True, text=True,
                           timeout=60, check=False, env={**os.environ, **(env or {})})
        if r.returncode != 0:
            raise RuntimeError(f"holdfast-sign {' '.join(map(str, argv))}: {r.stderr.strip()}")
        return json.loads(r.stdout) if r.stdout.strip() else None

    def make_keys(self, *names):
        """One root key and these release keys (build), and the list that the instance trusts."""
        self.dir.mkdir(exist_ok=True, mode=0o700)
        names = names or ("build",)
        self.sign("root-key", "new", "--unencrypted", "root")
        adds = []
        for n in names:
            self.sign("release-key", "new", "--unencrypted", n)
            adds += ["--add", f"{n}.pub"]
        self.sign("keys", "sign", "--root", "root.pub", *adds, "--key", "root.key", self.list)

    def change_keys(self, *change, path=None):
        """A next version of the list; of the list at path if it is given, which begins as a copy."""
        target = pathlib.Path(path or self.list)
        if not target.exists():
            shutil.copy(self.list, target)
        self.sign("keys", "sign", *change, "--key", "root.key", target)
        return target

    def bundle(self, version, program, *extra, component="agent", name=None, key="build", files=None):
        """A signed bundle of one program (bytes or a path); extra are options of `bundle build`."""
        tree = self.dir / f"files-{component}-{version}"
        shutil.rmtree(tree, ignore_errors=True)
        (tree / "bin").mkdir(parents=True)
        target = tree / "bin" / f"holdfast-{component}"
        if isinstance(program, bytes):
            target.write_bytes(program)
        else:
            shutil.copyfile(program, target)
        target.chmod(0o755)
        for path, data in (files or {}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        out = self.dir / (name or f"{component}-{version}.hfb")
        self.sign("bundle", "build", "--component", component, "--version", version, *extra, "--files", tree, "--out", out)
        if key:
            self.sign("bundle", "sign", "--key", f"{key}.key", out)
        return out
