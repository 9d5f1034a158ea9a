# SPDX-License-Identifier: Apache-2.0
"""Connection settings from our portal's API to our agent: tried first, told back, kept or not."""

from harness import InstanceTest, main, wait_for

OTHER_PORT = 4321


class Settings(InstanceTest):
    def prepare(self):
        super().prepare()
        config = self.i.path("portal", "portal.yml")
        here = f"{self.i.host}:{self.i.port}"
        config.write_text(config.read_text().replace(f'listen: ["{here}"]', f'listen: ["{here}", "{self.i.host}:{OTHER_PORT}"]'))

    def offer(self, **settings):
        return self.i.api("POST", f"/endpoints/{self.i.endpoint()['id']}/connection", settings)["connection"]

    def wait_state(self, state):
        return wait_for(lambda: (lambda c: c if c and c["state"] == state else None)(self.i.endpoint()["connection"]), 40, f"the settings to be {state}")

    def test_a_heartbeat_interval_is_taken_and_kept_over_a_restart(self):
        self.start_online()
        self.offer(heartbeat_s=60)
        self.wait_state("applied")
        self.i.stop_endpoint()
        self.i.start_endpoint()
        self.i.wait_online()
        self.assertEqual(self.i.endpoint()["connection"]["state"], "applied")

    def test_another_address_is_moved_to_once_it_works(self):
        self.start_online()
        url = f"wss://{self.i.host}:{OTHER_PORT}/v1/opamp"
        self.offer(destination=url)
        self.wait_state("applied")
        wait_for(lambda: self.i.agent().get("session", {}).get("peer", "").endswith(f":{OTHER_PORT}"), 20, "the agent at the other address")
        self.assertEqual(self.i.wait_online()["state"], "online")

    def test_an_address_where_nobody_answers_changes_nothing(self):
        epoch = self.start_online()["session"]["epoch"]
        self.offer(destination=f"wss://{self.i.host}:{OTHER_PORT + 1}/v1/opamp")
        self.assertTrue(self.wait_state("failed")["error"])
        agent = self.i.agent()
        self.assertEqual((agent["state"], agent["session"]["epoch"]), ("online", epoch))
        self.assertEqual(self.i.endpoint()["status"], "online")


if __name__ == "__main__":
    main()
