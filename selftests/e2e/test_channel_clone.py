# SPDX-License-Identifier: Apache-2.0
"""Two real machines' worth of agents with one identity: the state directory of one is copied."""

import os
import uuid

from harness import BIN, Instance, InstanceTest, main, run, wait_for


class Clone(InstanceTest):
    def copy_instance(self, machine_id, boot_id):
        """A second endpoint with the first one's state, on what looks like another machine."""
        other = Instance(os.path.join(self.tmp, "copy"), BIN)
        other.prepare()
        for part in ("state/agent", "config.yml", "portal/ca.pem"):
            target = other.path(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            run("cp", "-a", "-T", str(self.i.path(part)), str(target))
        os.chmod(other.path("state"), self.i.path("state").stat().st_mode)
        ids = []
        for name, text, target in (("machine-id", machine_id, "/etc/machine-id"), ("boot-id", boot_id, "/proc/sys/kernel/random/boot_id")):
            path = os.path.join(self.tmp, name)
            with open(path, "w", encoding="ascii") as f:
                f.write(text + "\n")
            ids.append((path, target))
        other.binds["launch"] = ids
        self.addCleanup(other.remove)
        self.addCleanup(other.stop_all)
        return other

    def test_a_copied_state_directory_is_held_while_the_original_stays_online(self):
        self.start_online()
        self.i.stop_endpoint()  # what is copied is whole
        copy = self.copy_instance(uuid.uuid4().hex, str(uuid.uuid4()))
        self.i.start_endpoint()
        epoch = self.i.wait_online()["session"]["epoch"]
        copy.start_endpoint()
        held = copy.wait_state("held")
        self.assertNotEqual(held["pid"], self.i.agent()["pid"])
        ep = wait_for(lambda: (lambda e: e if e["clone"] else None)(self.i.endpoint()), 10, "the clone's report")
        self.assertEqual((ep["status"], ep["reason"]), ("online", "clone_detected"))
        self.assertEqual((ep["clone"]["attempts"], ep["clone"]["same_machine_id"]), (1, False))
        self.assertIn("clone_detected", copy.log_tail("launch", 400))
        agent = self.i.agent()
        self.assertEqual((agent["state"], agent["session"]["epoch"]), ("online", epoch))
        # What the copy needs is an identity of its own; the operator then closes the case.
        copy.cli("reset", "--yes")
        copy.wait_state("unenrolled")
        copy.enroll(self.i.create_token()["token"])
        copy.wait_state("online")
        wait_for(lambda: sorted(e["status"] for e in self.i.endpoints()) == ["online", "online"], 10, "both online")
        self.assertIsNone(self.i.api("POST", f"/endpoints/{ep['id']}/authorize")["clone"])
        self.assertEqual({e["reason"] for e in self.i.endpoints()}, {"connected"})


if __name__ == "__main__":
    main()
