/* SPDX-License-Identifier: Apache-2.0 */
/* /session: how the web page logs in; /stream: what it listens to. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/hub.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "userspace/proto/event_json.h"

static json_t *session_json(const struct hf_principal *who, const char *csrf)
{
	return json_pack("{s:s, s:s, s:s, s:o}", "name", who->name, "role", hf_role_name(who->role),
			 "csrf", csrf, "time", hf_json_time(hf_now_realtime_ns()));
}

void hf_api_session_open(struct hf_portal *p, struct hf_request *rq)
{
	json_t *body = hf_api_body(rq);
	uint64_t now_ns = hf_now_monotonic_ns();
	char id[HF_SESSION_HEX + 1], csrf[HF_SESSION_HEX + 1], headers[256];
	struct hf_principal who;
	const char *token;
	int r;

	if (!body)
		return;
	if (!hf_auth_may_try(p->auth, hf_conn_address(rq->conn), now_ns)) {
		json_decref(body);
		p->counters.rate_limited++;
		hf_reply_problem_with(rq->conn, 429, "rate_limited", "Retry-After: 3\r\n",
				      "too many failed tries from this address");
		return;
	}
	token = json_string_value(json_object_get(body, "token"));
	r = token ? hf_auth_bearer(p->auth, token, &who) : -EACCES;
	json_decref(body);
	if (r == -EACCES) {
		hf_auth_failed(p->auth, hf_conn_address(rq->conn), now_ns);
		p->counters.auth_failed++;
		hf_reply_problem(rq->conn, 401, "unauthorized", "this token is not valid here");
		return;
	}
	if (r < 0) {
		hf_reply_error(rq->conn, r, "log in");
		return;
	}
	hf_auth_login(p->auth, &who, now_ns, id, csrf);
	(void)hf_strf(headers, sizeof(headers),
		      "Set-Cookie: " HF_SESSION_COOKIE
		      "=%s; Path=/; Secure; HttpOnly; SameSite=Strict\r\n",
		      id);
	hf_notice("%s: '%s' logged in", hf_conn_peer(rq->conn), who.name);
	hf_reply_json_with(rq->conn, 201, session_json(&who, csrf), headers);
	hf_wipe(headers, sizeof(headers));
	hf_wipe(id, sizeof(id));
}

void hf_api_session_get(struct hf_portal *p, struct hf_request *rq)
{
	(void)p;
	hf_reply_json(rq->conn, 200, session_json(&rq->who, rq->who.csrf));
}

void hf_api_session_close(struct hf_portal *p, struct hf_request *rq)
{
	const char *cookie = hf_http_header(rq->msg, "Cookie");

	if (cookie)
		hf_auth_logout(p->auth, cookie);
	hf_conn_reply(rq->conn,
		      &(struct hf_reply){.status = 204,
					 .headers = "Set-Cookie: " HF_SESSION_COOKIE
						    "=; Path=/; Max-Age=0; Secure; HttpOnly; "
						    "SameSite=Strict\r\n"});
}

void hf_api_stream(struct hf_portal *p, struct hf_request *rq)
{
	if (hf_hub_subscribe(p->hub, rq->conn) < 0)
		hf_reply_problem_with(rq->conn, 503, "too_many_streams", "Retry-After: 10\r\n",
				      "as many pages as the portal serves are open already");
}
