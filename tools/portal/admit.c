/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may open a channel: a client certificate, an own header, or an enrolment token. What is refused
 * gets an HTTP status and Holdfast-Cause before any WebSocket exists; what a token allows in the end
 * is decided with the first message (enroll.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "holdfast/session.h"
#include "tools/portal/auth.h"
#include "tools/portal/ca.h"
#include "tools/portal/conn.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/router.h"
#include "tools/portal/server.h"
#include "tools/portal/ws_opamp.h"

#define CROWDED_RETRY_S 10u /* places get free by goodbyes and losses, not by the second */

/* Strangers may be refused as often as they like; the log is told so many times a minute. */
void hf_link_log_refusal(const char *peer, const char *reason)
{
	static struct hf_ratelimit limit = {.burst = 30, .interval_ns = 2 * HF_NS_PER_S};
	uint64_t missed;

	if (!hf_ratelimit_take(&limit, hf_now_monotonic_ns()))
		return;
	missed = hf_ratelimit_refused(&limit);
	if (missed)
		hf_info("%llu refusals were not logged", (unsigned long long)missed);
	hf_info("%s: refused: %s", peer, reason);
}

struct refusal {
	unsigned status;
	enum hf_cause cause;
	unsigned retry_after_s; /* 0: waiting does not help */
	const char *detail;
};

static void refuse(struct hf_conn *c, const struct refusal *why)
{
	char headers[128];
	size_t len;

	(void)hf_strf(headers, sizeof(headers), "%s: %s\r\n", HF_HEADER_CAUSE,
		      hf_cause_name(why->cause));
	len = strlen(headers);
	if (why->retry_after_s)
		(void)hf_strf(headers + len, sizeof(headers) - len, "Retry-After: %u\r\n",
			      why->retry_after_s);
	hf_conn_portal(c)->counters.enroll_refused++;
	hf_link_log_refusal(hf_conn_peer(c), hf_cause_name(why->cause));
	hf_reply_problem_with(c, why->status, hf_cause_name(why->cause), headers, "%s",
			      why->detail ? why->detail : hf_cause_text(why->cause));
}

static bool known_endpoint(struct hf_portal *p, const uint8_t *id, struct refusal *why)
{
	struct hf_endpoint *ep = hf_registry_find(p->registry, id);

	if (ep && ep->row.authorization != HF_AUTH_REVOKED)
		return true;
	*why = (struct refusal){403, HF_CAUSE_REVOKED, 0,
				ep ? "the endpoint was revoked" : "the endpoint was deleted"};
	return false;
}

static enum hf_cause certificate_cause(enum hf_tls_failure f)
{
	switch (f) {
	case HF_TLS_CERT_EXPIRED:
		return HF_CAUSE_CERT_EXPIRED;
	case HF_TLS_CERT_NOT_YET_VALID:
		return HF_CAUSE_CERT_NOT_YET_VALID;
	case HF_TLS_CERT_REVOKED:
		return HF_CAUSE_CERT_REVOKED;
	case HF_TLS_WEAK_CRYPTO:
		return HF_CAUSE_WEAK_CRYPTO;
	default:
		return HF_CAUSE_CERT_UNTRUSTED;
	}
}

/*
 * An expired certificate whose key is still the endpoint's is let in for one thing: to ask for the
 * next one. The handshake has proven the key; whose it is, the database says, not the certificate.
 */
static bool admit_expired(struct hf_portal *p, struct hf_conn *c, struct hf_link *l)
{
	uint8_t hash[HF_HASH_SIZE];
	struct hf_endpoint *ep;
	const uint8_t *der;
	size_t len;

	if (hf_conn_peer_cert_any(c, &der, &len) < 0 ||
	    hf_ca_identify(der, len, l->credential_id, &l->cert_expires_ns) < 0 ||
	    hf_ca_key_hash(der, len, hash) < 0)
		return false;
	ep = hf_registry_find(p->registry, l->credential_id);
	if (!ep || !ep->row.has_key || memcmp(ep->row.key_hash, hash, HF_HASH_SIZE) != 0)
		return false;
	l->credential = HF_CREDENTIAL_EXPIRED;
	return true;
}

/* 1 admitted, 0 no certificate, -EACCES with why. */
static int admit_certificate(struct hf_portal *p, struct hf_conn *c, struct hf_link *l,
			     struct refusal *why)
{
	enum hf_tls_failure failure;
	const uint8_t *der;
	size_t len;
	int r = hf_conn_peer_cert(c, &der, &len, &failure);

	if (r == -ENOENT)
		return 0;
	if (r < 0 && failure == HF_TLS_CERT_EXPIRED && admit_expired(p, c, l))
		return known_endpoint(p, l->credential_id, why) ? 1 : -EACCES;
	if (r < 0) {
		*why = (struct refusal){403, certificate_cause(failure), 0, NULL};
		return -EACCES;
	}
	r = hf_ca_identify(der, len, l->credential_id, &l->cert_expires_ns);
	if (r < 0) {
		*why = (struct refusal){403, HF_CAUSE_CERT_UNTRUSTED, 0, NULL};
		return -EACCES;
	}
	/* A resumed session repeats the verdict of its first handshake, which may be a week old. */
	if (l->cert_expires_ns <= hf_now_realtime_ns()) {
		if (admit_expired(p, c, l))
			return known_endpoint(p, l->credential_id, why) ? 1 : -EACCES;
		*why = (struct refusal){403, HF_CAUSE_CERT_EXPIRED, 0, NULL};
		return -EACCES;
	}
	if (!known_endpoint(p, l->credential_id, why))
		return -EACCES;
	l->credential = HF_CREDENTIAL_CERTIFICATE;
	return 1;
}

static int admit_header(struct hf_portal *p, struct hf_link *l, struct refusal *why)
{
	struct hf_endpoint *ep;

	(void)hf_hex_decode(l->credential_id, HF_ID_SIZE, l->secret.id); /* checked by the parser */
	ep = hf_registry_find(p->registry, l->credential_id);
	if (!ep || !ep->row.has_bearer ||
	    !hf_equal_secret(ep->row.bearer_hash, l->secret.hash, HF_HASH_SIZE)) {
		*why = (struct refusal){401, HF_CAUSE_NOT_AUTHORIZED, 0,
					"this header is of no endpoint"};
		return -EACCES;
	}
	if (!known_endpoint(p, l->credential_id, why))
		return -EACCES;
	l->credential = HF_CREDENTIAL_HEADER;
	return 1;
}

/*
 * A token that ended is let in once more while somebody enrolled with it has not shown a credential
 * of their own: an answer may have got lost, or an OpAMP agent has nothing but the token. The first
 * message then decides.
 */
static int admit_token(struct hf_portal *p, struct hf_link *l, struct refusal *why)
{
	struct hf_token_row row;
	enum hf_token_verdict v;
	bool unproven = false;
	int r = hf_store_token_get(p->store, l->secret.id, &row);

	if (r < 0 && r != -ENOENT) {
		*why = (struct refusal){503, HF_CAUSE_PORTAL_OVERLOAD, 5, "the database is busy"};
		return -EACCES;
	}
	v = hf_token_judge(r == 0 ? &row : NULL, &l->secret, hf_now_realtime_ns());
	if (v != HF_TOKEN_OK && v != HF_TOKEN_UNKNOWN)
		(void)hf_store_token_has_unproven(p->store, row.id, &unproven);
	if (v != HF_TOKEN_OK && !unproven) {
		*why = (struct refusal){v == HF_TOKEN_UNKNOWN ? 401 : 403, hf_token_cause(v), 0,
					NULL};
		return -EACCES;
	}
	l->credential = HF_CREDENTIAL_TOKEN;
	(void)hf_strlcpy(l->token_id, l->secret.id, sizeof(l->token_id));
	return 1;
}

static int admit_bearer(struct hf_portal *p, struct hf_link *l, const char *authorization,
			struct refusal *why)
{
	if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0) {
		*why = (struct refusal){401, HF_CAUSE_NOT_AUTHORIZED, 0,
					"neither a client certificate nor a token was presented"};
		return -EACCES;
	}
	if (hf_secret_parse(authorization + 7, &l->secret) < 0) {
		*why = (struct refusal){401, HF_CAUSE_TOKEN_UNKNOWN, 0, NULL};
		return -EACCES;
	}
	switch (l->secret.kind) {
	case HF_SECRET_ENROLL:
		return admit_token(p, l, why);
	case HF_SECRET_AGENT:
		return admit_header(p, l, why);
	case HF_SECRET_API:
	case _HF_SECRET_KIND_MAX:
		break;
	}
	*why = (struct refusal){401, HF_CAUSE_TOKEN_UNKNOWN, 0,
				"an API token does not admit an endpoint"};
	return -EACCES;
}

static bool admit(struct hf_portal *p, struct hf_request *rq, struct hf_link *l,
		  struct refusal *why)
{
	const char *authorization = hf_http_header(rq->msg, "Authorization");
	uint64_t now_ns = hf_now_monotonic_ns();
	int r = admit_certificate(p, rq->conn, l, why);

	if (r > 0)
		return true;
	if (r < 0 && !authorization)
		return false;
	if (!hf_auth_may_try(p->auth, hf_conn_address(rq->conn), now_ns)) {
		p->counters.rate_limited++;
		*why = (struct refusal){429, HF_CAUSE_PORTAL_OVERLOAD, 30,
					"too many failed tries from this address"};
		return false;
	}
	r = admit_bearer(p, l, authorization, why);
	if (r > 0)
		return true;
	/* Only guesses count: a token that ended proves that its holder once had it. */
	if (authorization &&
	    (why->cause == HF_CAUSE_TOKEN_UNKNOWN || why->cause == HF_CAUSE_NOT_AUTHORIZED))
		hf_auth_failed(p->auth, hf_conn_address(rq->conn), now_ns);
	return false;
}

bool hf_link_admit(struct hf_portal *p, struct hf_request *rq, struct hf_link *l)
{
	struct refusal why = {};

	if (admit(p, rq, l, &why))
		return true;
	refuse(rq->conn, &why);
	return false;
}

static bool upgradable(struct hf_request *rq)
{
	const char *version = hf_http_header(rq->msg, "Sec-WebSocket-Version");
	const char *key = hf_http_header(rq->msg, "Sec-WebSocket-Key");

	if (!rq->msg->upgrade_websocket || rq->msg->minor == 0) {
		hf_reply_problem_with(rq->conn, 426, "upgrade_required", "Upgrade: websocket\r\n",
				      "this path speaks OpAMP over WebSocket");
		return false;
	}
	if (!version || !hf_streq(version, "13")) {
		hf_reply_problem_with(rq->conn, 426, "websocket_version",
				      "Sec-WebSocket-Version: 13\r\n",
				      "only WebSocket version 13 is spoken");
		return false;
	}
	if (!key || !hf_ws_key_valid(key)) {
		hf_reply_problem(rq->conn, 400, "websocket_key",
				 "Sec-WebSocket-Key is missing or malformed");
		return false;
	}
	return true;
}

/*
 * Near the limit of connections: who comes now is told so while that is still possible. At the limit
 * the server closes without a word (server.c), and above the accept budget the kernel keeps them.
 */
static bool crowded(struct hf_portal *p)
{
	struct hf_server_stats s;

	hf_server_stats(p->server, &s);
	return s.websockets + 1 > p->config.max_connections - p->config.max_connections / 16;
}

void hf_opamp_upgrade(struct hf_portal *p, struct hf_request *rq)
{
	const uint64_t heartbeat_ns = p->policy.heartbeat_s * HF_NS_PER_S;
	struct hf_conn_websocket ws = {
		.message = hf_link_on_message,
		.pong = hf_link_on_pong,
		.stopping = hf_link_on_stopping,
		.ended = hf_link_on_ended,
		/* After the agent's own heartbeat is late; then as long again until it is dead. */
		.ping_after_ns = heartbeat_ns + heartbeat_ns / 4,
		.dead_after_ns = 2 * hf_presence_proof_window_ns(&p->policy),
	};
	struct hf_link *l;
	int r;

	if (!upgradable(rq))
		return;
	if (p->stopping) {
		refuse(rq->conn, &(struct refusal){503, HF_CAUSE_PORTAL_RESTART, 2, NULL});
		return;
	}
	if (crowded(p)) {
		p->counters.overload_refused++;
		refuse(rq->conn, &(struct refusal){503, HF_CAUSE_PORTAL_OVERLOAD,
						   CROWDED_RETRY_S + hf_link_spread_ms(p) / 1000,
						   "as many connections as the portal may hold"});
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		hf_reply_error(rq->conn, -ENOMEM, "open a channel");
		return;
	}
	l->magic = HF_LINK_MAGIC;
	l->portal = p;
	if (!hf_link_admit(p, rq, l)) {
		free(l);
		return;
	}
	ws.userdata = l;
	r = hf_conn_upgrade(rq->conn, rq->msg, NULL, &ws);
	if (r < 0) {
		free(l);
		hf_reply_error(rq->conn, r, "open a channel");
		return;
	}
	l->conn = hf_conn_ref(rq->conn);
}
