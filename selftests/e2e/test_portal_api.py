# SPDX-License-Identifier: Apache-2.0
"""The JSON API, sessions, the page's files, and the command line."""

import gzip
import json
import subprocess

from harness import BIN, InstanceTest, main, wait_for
from rawclient import Endpoint, Raw, first


class PortalApi(InstanceTest):
    def setUp(self):
        super().setUp()
        self.start_portal()

    def problem(self, status, code, method, path, body=None, **kw):
        got, value, headers = self.i.request(method, path, body, **kw)
        self.assertEqual((got, value["code"], value["status"]), (status, code, status), value)
        self.assertEqual(headers["Content-Type"], "application/problem+json")
        self.assertEqual(set(value), {"type", "title", "status", "detail", "code"})
        return value, headers

    def test_everything_but_health_needs_a_credential(self):
        self.assertEqual(self.i.request("GET", "/healthz", token=None)[0], 200)
        self.assertEqual(self.i.request("GET", "/readyz", token=None)[0], 200)
        self.assertEqual(self.i.request("GET", "/metrics", token=None)[0], 200)
        doc = self.i.request("GET", "/api/v1/openapi.json", token=None)[1]
        for path, methods in doc["paths"].items():
            for method, op in methods.items():
                if op.get("security") == []:
                    continue
                _, headers = self.problem(401, "unauthorized", method.upper(), path.replace("{id}", "x"), token=None)
                self.assertIn("Bearer", headers["WWW-Authenticate"])

    def test_the_openapi_document_tells_what_is_absent_and_it_answers_501(self):
        doc = self.i.request("GET", "/api/v1/openapi.json")[1]
        self.assertEqual(doc["openapi"], "3.1.0")
        absent = [(m, p) for p, ms in doc["paths"].items() for m, op in ms.items() if op.get("x-not-implemented")]
        self.assertIn(("post", "/api/v1/rollouts"), absent)
        for method, path in absent:
            value, _ = self.problem(501, "not_implemented", method.upper(), path.replace("{id}", "x"))
            self.assertEqual(value["detail"], "not implemented in this version")
        for ref in set(str(doc).split("#/components/schemas/")[1:]):
            self.assertIn(ref.split("'")[0], doc["components"]["schemas"])

    def test_an_endpoint_has_every_key_of_the_contract(self):
        ep = Endpoint(self.i).online(self.i.create_token()["token"])
        row = self.i.api("GET", f"/endpoints/{ep.id}")
        for key in (
            "id name status reason authorized last_seen since version os arch distro kernel kernel_assist environment group "
            "addresses clock_offset_ms cert_expires last_outage components authorization"
        ).split():
            self.assertIn(key, row)
        self.assertIs(row["authorized"], True)
        self.assertEqual((row["addresses"], row["components"], row["last_outage"]), (["127.0.0.1"], [], None))
        self.assertRegex(row["since"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$")
        documented = self.i.request("GET", "/api/v1/openapi.json")[1]["components"]["schemas"]["Endpoint"]["properties"]
        self.assertEqual(set(documented), set(row))
        ep.close()

    def test_lists_filter_and_page_on_the_server(self):
        token = self.i.create_token(group="web")["token"]
        eps = [Endpoint(self.i, hostname=f"h{n:02d}").online(token) for n in range(7)]
        self.i.api("POST", f"/endpoints/{eps[3].id}/suspend")
        names, after = [], ""
        while True:
            page = self.i.api("GET", f"/endpoints?limit=3{after}")
            self.assertLessEqual(len(page["items"]), 3)
            names += [e["name"] for e in page["items"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        self.assertEqual(names, [f"h{n:02d}" for n in range(7)])
        # a row that goes between two pages neither hides nor repeats another
        page = self.i.api("GET", "/endpoints?limit=3")
        self.i.request("DELETE", f"/api/v1/endpoints/{page['items'][2]['id']}")
        rest = self.i.api("GET", f"/endpoints?limit=9&after={page['next']}")["items"]
        self.assertEqual([e["name"] for e in rest], ["h03", "h04", "h05", "h06"])
        self.assertEqual([e["name"] for e in self.i.endpoints("?status=suspended")], ["h03"])
        self.assertEqual(len(self.i.endpoints("?status=online,suspended")), 6)
        self.assertEqual([e["name"] for e in self.i.endpoints("?authorized=suspended")], ["h03"])
        self.assertEqual(len(self.i.endpoints("?authorized=true")), 5)
        self.assertEqual([e["name"] for e in self.i.endpoints("?q=H05")], ["h05"])
        self.assertEqual(len(self.i.endpoints("?group=web")), 6)
        self.assertEqual(self.i.api("GET", "/fleet")["by_status"]["suspended"], 1)
        for bad in ("status=nope", "authorized=maybe", "limit=0", "limit=x", "after=zz", "q=%ff"):
            self.problem(400, "invalid_query", "GET", f"/api/v1/endpoints?{bad}")
        for ep in eps:
            ep.close()

    def test_an_endpoint_is_renamed_and_keeps_its_name(self):
        ep = Endpoint(self.i, hostname="before").online(self.i.create_token()["token"])
        row = self.i.api("PATCH", f"/endpoints/{ep.id}", {"name": "after", "group": "g"})
        self.assertEqual((row["name"], row["group"]), ("after", "g"))
        ep.close()
        ep.open()
        self.i.kill_portal()
        self.i.start_portal()
        row = self.i.api("GET", f"/endpoints/{ep.id}")
        self.assertEqual((row["name"], row["hostname"], row["group"]), ("after", "before", "g"))
        for bad in ({"name": ""}, {"name": 5}, {"name": "x" * 96}, {"name": "a\nb"}, {"name": "a\u0000b"}):
            self.assertEqual(self.i.request("PATCH", f"/api/v1/endpoints/{ep.id}", bad)[0], 400, bad)
        ep.close()

    def test_token_requests_are_checked(self):
        t = self.i.api("POST", "/tokens", {"name": "n", "ttl_s": 60, "max_uses": 3, "group": "g", "pre_authorize": True})
        self.assertEqual((t["max_uses"], t["used"]), (3, 0))
        self.assertRegex(t["token"], r"^hfe_[0-9a-f]{16}_[0-9a-f]{64}$")
        listed = self.i.api("GET", "/tokens")["items"][0]
        self.assertNotIn("token", listed)
        self.assertEqual(listed["id"], t["id"])
        for bad in ({"ttl_s": 0}, {"ttl_s": -1}, {"ttl_s": "1"}, {"max_uses": 1.5}, {"name": 5}, {"pre_authorize": 1}, {"ttl_s": 10**9}):
            self.problem(400, "invalid", "POST", "/api/v1/tokens", bad)
        self.problem(404, "not_found", "DELETE", "/api/v1/tokens/none")
        self.problem(405, "method_not_allowed", "PUT", "/api/v1/tokens")
        self.problem(404, "not_found", "GET", "/api/v1/nothing")
        raw = Raw(self.i)
        auth = f"Authorization: Bearer {self.i.admin_token()}\r\n"
        for body in (b"{", b"[]", b'{"name":"a\\u0000"}', b'{"a":1,"a":2}', b"\xff", b"[" * 5000):
            status, _, answer = raw.request("POST", "/api/v1/tokens", f"{auth}Content-Length: {len(body)}\r\n", body)
            self.assertEqual((status, json.loads(answer)["code"]), (400, "invalid_json"))

    def test_changes_are_in_the_audit_log(self):
        ep = Endpoint(self.i, hostname="h").online(self.i.create_token(pre_authorize=False)["token"])
        self.i.api("POST", f"/endpoints/{ep.id}/authorize")
        items = self.i.api("GET", "/audit")["items"]
        self.assertEqual([a["action"] for a in items], ["endpoint.authorize", "endpoint.enroll", "token.create"])
        self.assertEqual((items[0]["actor"], items[0]["address"], items[0]["object"]), ("admin", "127.0.0.1", ep.id))
        self.assertEqual(items[0]["detail"], "pending → authorized")
        page = self.i.api("GET", "/audit?limit=2")
        self.assertEqual([a["action"] for a in self.i.api("GET", f"/audit?after={page['next']}")["items"]], ["token.create"])
        self.assertEqual(self.i.api("GET", f"/endpoints/{ep.id}")["authorization_by"], "admin")
        ep.close()

    # ---- sessions

    def login(self):
        status, value, headers = self.i.request("POST", "/api/v1/session", {"token": self.i.admin_token()}, token=None)
        self.assertEqual(status, 201)
        cookie = headers["Set-Cookie"]
        for part in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
            self.assertIn(part, cookie)
        return cookie.split(";")[0], value["csrf"]

    def test_a_session_changes_things_only_with_its_csrf_header(self):
        cookie, csrf = self.login()
        with_cookie = {"Cookie": cookie}
        self.assertEqual(self.i.request("GET", "/api/v1/session", token=None, headers=with_cookie)[1]["role"], "admin")
        self.assertEqual(self.i.request("GET", "/api/v1/endpoints", token=None, headers=with_cookie)[0], 200)
        self.problem(403, "csrf", "POST", "/api/v1/tokens", {}, token=None, headers=with_cookie)
        self.problem(403, "csrf", "POST", "/api/v1/tokens", {}, token=None, headers={**with_cookie, "Holdfast-CSRF": "0" * 64})
        self.assertEqual(self.i.request("POST", "/api/v1/tokens", {}, token=None, headers={**with_cookie, "Holdfast-CSRF": csrf})[0], 201)
        self.assertEqual(self.i.request("DELETE", "/api/v1/session", token=None, headers={**with_cookie, "Holdfast-CSRF": csrf})[0], 204)
        self.problem(401, "unauthorized", "GET", "/api/v1/endpoints", token=None, headers=with_cookie)
        self.problem(401, "unauthorized", "POST", "/api/v1/session", {"token": "wrong"}, token=None)

    # ---- the page

    def test_the_page_is_whole_cached_and_allows_only_itself(self):
        status, page, headers = self.i.request("GET", "/", token=None)
        self.assertEqual(status, 200)
        policy = headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertNotIn("<script>", page)
        self.assertNotIn("style=", page)
        self.assertNotIn("://", page)
        total = 0
        for name in ("/", "/ui/app.js", "/ui/lib.js", "/ui/endpoints.js", "/ui/app.css", "/ui/icon.svg"):
            raw = Raw(self.i)
            status, headers, plain = raw.request("GET", name)
            self.assertEqual(status, 200, name)
            again, _, none = raw.request("GET", name, f"If-None-Match: {headers['etag']}\r\n")
            self.assertEqual((again, none), (304, b""))
            _, zipped, body = raw.request("GET", name, "Accept-Encoding: gzip\r\n")
            self.assertEqual((zipped["content-encoding"], gzip.decompress(body)), ("gzip", plain))
            total += len(body)
            raw.send(f"HEAD {name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            self.assertTrue(raw.ended())
            self.assertTrue(raw.buffer.endswith(b"\r\n\r\n"))
        self.assertLess(total, 100_000)

    def test_the_stream_tells_changes_at_once(self):
        raw = Raw(self.i)
        raw.send(f"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.i.admin_token()}\r\n\r\n".encode())
        self.assertEqual(raw.response()[1]["content-type"], "text/event-stream")
        ep = Endpoint(self.i, hostname="streamed").online(self.i.create_token()["token"])

        def told():
            raw.more()
            events = [e for e in raw.buffer.decode().split("\n\n") if e.startswith("event: endpoint")]
            return any(json.loads(e.split("data: ", 1)[1])["status"] == "online" for e in events)

        wait_for(told, 5, "the event")
        ep.close()

    # ---- the command line

    def cli(self, *args):
        return subprocess.run([str(BIN / "holdfast-portal"), "--dir", str(self.i.dir), *args], capture_output=True, text=True, timeout=20)

    def test_tokens_are_made_beside_the_running_portal(self):
        r = self.cli("token", "create", "--name", "cli", "--ttl", "1h", "--max-uses", "1", "--pre-authorize")
        self.assertEqual(r.returncode, 0, r.stderr)
        ep = Endpoint(self.i).online(r.stdout.strip())
        self.assertEqual(first(ep.welcome, 2), b"authorized")
        ep.close()
        listed = self.cli("token", "list")
        self.assertIn("token_exhausted", listed.stdout)
        token_id = self.i.api("GET", "/tokens")["items"][0]["id"]
        self.assertEqual(self.cli("token", "revoke", token_id).returncode, 0)
        self.assertEqual(self.i.api("GET", "/tokens")["items"][0]["state"], "revoked")
        self.assertEqual(self.cli("token", "revoke", "none").returncode, 1)
        self.assertEqual(self.cli("token", "create", "--ttl", "x").returncode, 2)
        self.assertEqual(self.cli("frobnicate").returncode, 2)
        self.assertEqual(self.cli("check").returncode, 0)

    def test_a_second_portal_and_bad_configurations_say_why(self):
        r = self.cli()
        self.assertEqual(r.returncode, 111)
        self.assertIn("listen on '127.0.0.1:4320': Address already in use", r.stderr)
        self.i.stop_portal()
        config = self.i.path("portal", "portal.yml")
        config.write_text("environment: dev\nlisten: [\"127.0.0.1:4320\"]\nheartbeat_s: soon\n")
        r = self.cli("check")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("portal.yml:3", r.stderr)
        config.write_text("environment: dev\nlisten: [\"127.0.0.1:4320\"]\nheartbeet_s: 5\n")
        r = self.cli("check")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("portal.yml:3: unknown key 'heartbeet_s'", r.stderr)

    def test_a_damaged_database_or_key_is_named_and_nothing_is_overwritten(self):
        self.i.stop_portal()
        for name in ("portal.db", "client-ca.key"):
            path = self.i.path("portal", name)
            good = path.read_bytes()
            path.write_bytes(b"garbage" * 1000)
            r = self.cli()
            self.assertEqual(r.returncode, 100, r.stderr)
            self.assertIn(name, r.stderr)
            self.assertEqual(path.read_bytes(), b"garbage" * 1000)
            path.write_bytes(good)
        self.i.start_portal()


if __name__ == "__main__":
    main()
