/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table, and what happens before a handler runs: target, route, limit, credential, role, CSRF.
 */
#include "tools/portal/router.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "holdfast/session.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/ws_opamp.h"

#define API "/api/v1"

/* clang-format off */
static const struct hf_route routes[] = {
	/* method, path, role, handler, summary, request, response, query */
	{"GET", HF_OPAMP_PATH, HF_ROLE_NONE, hf_opamp_upgrade, "OpAMP over WebSocket", NULL, NULL, NULL},
	{"POST", HF_OPAMP_PATH, HF_ROLE_NONE, hf_opamp_post, "OpAMP over plain HTTP: a poll", NULL, NULL, NULL},
	{"GET", "/healthz", HF_ROLE_NONE, hf_api_healthz, "The process answers", NULL, "Health", NULL},
	{"GET", "/readyz", HF_ROLE_NONE, hf_api_readyz, "The portal can serve: database reads and writes", NULL, "Health", NULL},
	{"GET", "/metrics", HF_ROLE_NONE, hf_api_metrics, "OpenMetrics of the portal", NULL, NULL, NULL},

	{"POST", API "/session", HF_ROLE_NONE, hf_api_session_open, "Log in with an API token; sets the session cookie", "Login", "Session", NULL},
	{"GET", API "/session", HF_ROLE_VIEWER, hf_api_session_get, "Who I am", NULL, "Session", NULL},
	{"DELETE", API "/session", HF_ROLE_VIEWER, hf_api_session_close, "Log out", NULL, NULL, NULL},
	{"GET", API "/openapi.json", HF_ROLE_NONE, hf_api_openapi, "This document", NULL, NULL, NULL},
	{"GET", API "/about", HF_ROLE_VIEWER, hf_api_about, "Version and policy of the portal", NULL, "About", NULL},
	{"GET", API "/stream", HF_ROLE_VIEWER, hf_api_stream, "Server-sent events: endpoint, outage, events, action", NULL, NULL, NULL},
	{"GET", API "/fleet", HF_ROLE_VIEWER, hf_api_fleet, "Endpoints by status", NULL, "Fleet", NULL},

	{"GET", API "/endpoints", HF_ROLE_VIEWER, hf_api_endpoints_list, "Endpoints, by name", NULL, "EndpointList", "status authorized group q limit after"},
	{"GET", API "/endpoints/{id}", HF_ROLE_VIEWER, hf_api_endpoint_get, "One endpoint", NULL, "Endpoint", NULL},
	{"PATCH", API "/endpoints/{id}", HF_ROLE_OPERATOR, hf_api_endpoint_patch, "Change name or group", "EndpointChange", "Endpoint", NULL},
	{"DELETE", API "/endpoints/{id}", HF_ROLE_ADMIN, hf_api_endpoint_delete, "Delete; its certificate is refused from then on", NULL, NULL, NULL},
	{"POST", API "/endpoints/{id}/authorize", HF_ROLE_OPERATOR, hf_api_endpoint_authorize, "Authorize; takes effect at once, and lifts a clone quarantine", NULL, "Endpoint", NULL},
	{"POST", API "/endpoints/{id}/suspend", HF_ROLE_OPERATOR, hf_api_endpoint_suspend, "Suspend; it keeps its channel, nothing is taken from it", NULL, "Endpoint", NULL},
	{"POST", API "/endpoints/{id}/revoke", HF_ROLE_ADMIN, hf_api_endpoint_revoke, "Revoke for good; its channel is closed", NULL, "Endpoint", NULL},
	{"POST", API "/endpoints/{id}/disconnect", HF_ROLE_ADMIN, hf_api_endpoint_disconnect, "Cut its connection: reset (TCP RST) or close (1012)", "Disconnect", "Disconnected", NULL},
	{"GET", API "/endpoints/{id}/config", HF_ROLE_OPERATOR, hf_api_endpoint_config, "Its effective configuration as it reported it; secrets are masked", NULL, "ConfigList", NULL},
	{"POST", API "/endpoints/{id}/connection", HF_ROLE_ADMIN, hf_api_connection_set, "Offer other connection settings: heartbeat interval, address; the agent tries them before it drops its own", "Connection", "Endpoint", NULL},
	{"DELETE", API "/endpoints/{id}/connection", HF_ROLE_ADMIN, hf_api_connection_clear, "Withdraw them; the heartbeat interval is the portal's again", NULL, "Endpoint", NULL},
	{"POST", API "/endpoints/{id}/actions", HF_ROLE_OPERATOR, hf_api_action_create, "Queue an action; with an Idempotency-Key header the same request again returns the first action", "ActionRequest", "Action", NULL},
	{"GET", API "/endpoints/{id}/actions", HF_ROLE_VIEWER, hf_api_endpoint_actions, "Actions of an endpoint, newest first", NULL, "ActionList", "kind limit after"},
	{"GET", API "/actions", HF_ROLE_VIEWER, hf_api_actions_list, "Actions, newest first", NULL, "ActionList", "endpoint kind limit after"},
	{"GET", API "/actions/{id}", HF_ROLE_VIEWER, hf_api_action_get, "One action with its result and history", NULL, "Action", NULL},
	{"GET", API "/actions/{id}/artifact", HF_ROLE_OPERATOR, hf_api_action_artifact, "The archive that it brought", NULL, NULL, NULL},
	{"POST", API "/actions/{id}/cancel", HF_ROLE_OPERATOR, hf_api_action_cancel, "Cancel; one that was sent ends by the endpoint's word", NULL, "Action", NULL},
	{"GET", API "/action-key", HF_ROLE_VIEWER, hf_api_action_key_get, "The key that signs actions", NULL, "ActionKey", NULL},
	{"POST", API "/action-key/rotate", HF_ROLE_ADMIN, hf_api_action_key_rotate, "A new key, signed by the old one", NULL, "ActionKey", NULL},

	{"GET", API "/tokens", HF_ROLE_OPERATOR, hf_api_tokens_list, "Enrolment tokens, newest first", NULL, "TokenList", "limit after"},
	{"POST", API "/tokens", HF_ROLE_OPERATOR, hf_api_tokens_create, "Make an enrolment token; the answer is the only copy of its secret", "TokenRequest", "Token", NULL},
	{"DELETE", API "/tokens/{id}", HF_ROLE_OPERATOR, hf_api_token_revoke, "Revoke; enrolled endpoints are not affected", NULL, NULL, NULL},

	{"GET", API "/events", HF_ROLE_VIEWER, hf_api_events_list, "Kernel events, newest first", NULL, "EventList", "endpoint kind unit pid since limit after"},
	{"GET", API "/outages", HF_ROLE_VIEWER, hf_api_outages_list, "Outage records, newest first", NULL, "OutageList", "endpoint cause since limit after"},
	{"GET", API "/audit", HF_ROLE_ADMIN, hf_api_audit_list, "Who changed what, newest first", NULL, "AuditList", "limit after"},

	{"POST", API "/releases", HF_ROLE_ADMIN, NULL, "Upload a release", NULL, NULL, NULL},
	{"GET", API "/releases", HF_ROLE_VIEWER, NULL, "Releases", NULL, NULL, NULL},
	{"POST", API "/rollouts", HF_ROLE_OPERATOR, NULL, "Start a rollout", NULL, NULL, NULL},
	{"GET", API "/rollouts", HF_ROLE_VIEWER, NULL, "Rollouts", NULL, NULL, NULL},
	{"POST", API "/rollouts/{id}/pause", HF_ROLE_OPERATOR, NULL, "Halt a rollout", NULL, NULL, NULL},
	{"POST", API "/rollouts/{id}/resume", HF_ROLE_OPERATOR, NULL, "Go on with a rollout", NULL, NULL, NULL},
	{"POST", API "/rollouts/{id}/rollback", HF_ROLE_OPERATOR, NULL, "Roll a rollout back", NULL, NULL, NULL},
	{"GET", API "/alerts", HF_ROLE_VIEWER, NULL, "Alerts", NULL, NULL, NULL},

	{"GET", "/", HF_ROLE_NONE, hf_ui_asset, "The web page", NULL, NULL, NULL},
	{"GET", "/ui/{id}", HF_ROLE_NONE, hf_ui_asset, "The web page's files", NULL, NULL, NULL},
};
/* clang-format on */

const struct hf_route *hf_router_table(size_t *ret_n)
{
	*ret_n = HF_ARRAY_SIZE(routes);
	return routes;
}

bool hf_router_match(const char *pattern, const char *path, char *id, size_t id_size)
{
	while (*pattern) {
		if (hf_startswith(pattern, "{id}")) {
			size_t len = strcspn(path, "/");

			if (len == 0 || len >= id_size)
				return false;
			memcpy(id, path, len);
			id[len] = '\0';
			pattern += 4;
			path += len;
		} else if (*pattern++ != *path++) {
			return false;
		}
	}
	return *path == '\0';
}

/* HEAD is GET without the body. */
static bool method_fits(const char *route, const char *method)
{
	return hf_streq(route, method) || (hf_streq(method, "HEAD") && hf_streq(route, "GET"));
}

static const struct hf_route *find_route(struct hf_request *rq, char *allow, size_t size)
{
	size_t len = 0;

	allow[0] = '\0';
	for (size_t i = 0; i < HF_ARRAY_SIZE(routes); i++) {
		if (!hf_router_match(routes[i].path, rq->path, rq->id, sizeof(rq->id)))
			continue;
		if (method_fits(routes[i].method, rq->msg->method))
			return &routes[i];
		(void)hf_strf(allow + len, size - len, "%s%s", len ? ", " : "", routes[i].method);
		len += strlen(allow + len);
	}
	return NULL;
}

static bool unsafe_method(const char *method)
{
	return !hf_streq(method, "GET") && !hf_streq(method, "HEAD");
}

/* 0: rq->who is somebody; else it is answered. */
static int authenticate(struct hf_portal *p, struct hf_request *rq)
{
	const char *authorization = hf_http_header(rq->msg, "Authorization");
	const char *cookie = hf_http_header(rq->msg, "Cookie");
	uint64_t now_ns = hf_now_monotonic_ns();
	int r = -EACCES;

	if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0)
		r = hf_auth_bearer(p->auth, authorization + 7, &rq->who);
	else if (cookie)
		r = hf_auth_cookie(p->auth, cookie, now_ns, &rq->who);
	if (r == 0)
		return 0;
	if (r != -EACCES) {
		hf_reply_error(rq->conn, r, "check the credential");
		return r;
	}
	if (authorization) {
		p->counters.auth_failed++;
		hf_auth_failed(p->auth, hf_conn_address(rq->conn), now_ns);
	}
	hf_reply_problem_with(rq->conn, 401, "unauthorized",
			      "WWW-Authenticate: Bearer realm=\"holdfast\"\r\n",
			      "an API token or a session is needed");
	return r;
}

static bool may_call(struct hf_portal *p, struct hf_request *rq, const struct hf_route *route)
{
	if (route->role == HF_ROLE_NONE)
		return true;
	/* Before a credential is looked at: guessing must not get cheaper by being refused. */
	if (hf_http_header(rq->msg, "Authorization") &&
	    !hf_auth_may_try(p->auth, hf_conn_address(rq->conn), hf_now_monotonic_ns())) {
		p->counters.rate_limited++;
		hf_reply_problem_with(rq->conn, 429, "rate_limited", "Retry-After: 3\r\n",
				      "too many failed tries from this address");
		return false;
	}
	if (authenticate(p, rq) < 0)
		return false;
	if (rq->who.role < route->role) {
		hf_reply_problem(rq->conn, 403, "forbidden", "this needs the role %s, yours is %s",
				 hf_role_name(route->role), hf_role_name(rq->who.role));
		return false;
	}
	if (unsafe_method(rq->msg->method) &&
	    !hf_auth_csrf_ok(&rq->who, hf_http_header(rq->msg, HF_CSRF_HEADER))) {
		hf_reply_problem(rq->conn, 403, "csrf",
				 "a session's change needs the header " HF_CSRF_HEADER);
		return false;
	}
	return true;
}

void hf_router_dispatch(struct hf_portal *p, struct hf_conn *conn,
			const struct hf_http_message *msg)
{
	struct hf_request rq = {.conn = conn, .msg = msg};
	const struct hf_route *route;
	char allow[64], header[80];

	if (hf_http_split_target(msg->target, rq.path, sizeof(rq.path), &rq.query) < 0) {
		hf_reply_problem(conn, 400, "invalid_target", "the request's path is malformed");
		return;
	}
	if (!rq.query)
		rq.query = "";
	route = find_route(&rq, allow, sizeof(allow));
	if (!route && allow[0]) {
		(void)hf_strf(header, sizeof(header), "Allow: %s\r\n", allow);
		hf_reply_problem_with(conn, 405, "method_not_allowed", header,
				      "this resource has the methods %s", allow);
		return;
	}
	if (!route) {
		hf_reply_problem(conn, 404, "not_found", "there is no such resource");
		return;
	}
	if (!may_call(p, &rq, route))
		return;
	if (!route->handler) {
		hf_reply_problem(conn, 501, "not_implemented", "not implemented in this version");
		return;
	}
	route->handler(p, &rq);
}
