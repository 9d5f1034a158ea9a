/* SPDX-License-Identifier: Apache-2.0 */
/* The classification of failed attempts. */
#include "userspace/agent/failure.h"

#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/str.h"
#include "userspace/net/websocket.h"

/* A token that the portal refused does not become good by asking often. */
#define TOKEN_RETRY_MS  300000u
#define POLICY_RETRY_MS 60000u
#define CLONE_RETRY_MS  300000u
/* A portal that says 429 or 503 without a time (channel.md, H.5). */
#define OVERLOAD_RETRY_MS 5000u
#define RETRY_AFTER_MAX_S 3600u

/* TLS alert numbers, RFC 8446 section 6 and RFC 5246 section 7.2. */
enum {
	ALERT_HANDSHAKE_FAILURE = 40,
	ALERT_BAD_CERTIFICATE = 42,
	ALERT_UNSUPPORTED_CERTIFICATE = 43,
	ALERT_CERTIFICATE_REVOKED = 44,
	ALERT_CERTIFICATE_EXPIRED = 45,
	ALERT_CERTIFICATE_UNKNOWN = 46,
	ALERT_UNKNOWN_CA = 48,
	ALERT_ACCESS_DENIED = 49,
	ALERT_PROTOCOL_VERSION = 70,
	ALERT_INSUFFICIENT_SECURITY = 71,
};

static const char *const phases[] = {
	[HF_PHASE_RESOLVE] = "resolve", [HF_PHASE_TCP] = "tcp",         [HF_PHASE_PROXY] = "proxy",
	[HF_PHASE_TLS] = "tls",         [HF_PHASE_UPGRADE] = "upgrade", [HF_PHASE_HELLO] = "hello",
	[HF_PHASE_ONLINE] = "online",
};
_Static_assert(HF_ARRAY_SIZE(phases) == _HF_PHASE_MAX, "a phase has no name");

const char *hf_phase_name(enum hf_phase p)
{
	hf_assert(p < _HF_PHASE_MAX);
	return phases[p];
}

void hf_failure_set(struct hf_failure *f, enum hf_cause cause, enum hf_phase phase, const char *fmt,
		    ...)
{
	va_list ap;

	*f = (struct hf_failure){.cause = cause, .phase = phase};
	va_start(ap, fmt);
	(void)vsnprintf(f->text, sizeof(f->text), fmt, ap); /* cut is fine: text for people */
	va_end(ap);
	hf_sanitize(f->text);
}

enum hf_remedy hf_failure_remedy(const struct hf_failure *f)
{
	switch (f->cause) {
	case HF_CAUSE_REVOKED:
		return HF_REMEDY_REVOKED;
	case HF_CAUSE_CLOCK_SKEW:
		return HF_REMEDY_CLOCK;
	case HF_CAUSE_TOKEN_EXPIRED:
	case HF_CAUSE_TOKEN_EXHAUSTED:
	case HF_CAUSE_TOKEN_REVOKED:
	case HF_CAUSE_TOKEN_UNKNOWN:
	case HF_CAUSE_NOT_AUTHORIZED:
	case HF_CAUSE_ENVIRONMENT_MISMATCH:
	case HF_CAUSE_CLONE_DETECTED:
		return HF_REMEDY_HOLD;
	case HF_CAUSE_PORTAL_OVERLOAD:
		return f->retry_after_ms > 0 ? HF_REMEDY_HOLD : HF_REMEDY_RETRY;
	default: /* a table of 49 causes: the others are all "try again" */
		return HF_REMEDY_RETRY;
	}
}

/* Waits that we choose where the portal names none. */
static void set_policy_wait(struct hf_failure *f)
{
	if (f->retry_after_ms > 0)
		return;
	switch (f->cause) {
	case HF_CAUSE_TOKEN_EXPIRED:
	case HF_CAUSE_TOKEN_EXHAUSTED:
	case HF_CAUSE_TOKEN_REVOKED:
	case HF_CAUSE_TOKEN_UNKNOWN:
		f->retry_after_ms = TOKEN_RETRY_MS;
		break;
	case HF_CAUSE_CLONE_DETECTED:
		f->retry_after_ms = CLONE_RETRY_MS;
		break;
	case HF_CAUSE_NOT_AUTHORIZED:
	case HF_CAUSE_ENVIRONMENT_MISMATCH:
		f->retry_after_ms = POLICY_RETRY_MS;
		break;
	case HF_CAUSE_PORTAL_OVERLOAD:
		f->retry_after_ms = OVERLOAD_RETRY_MS;
		break;
	default: /* the backoff decides */
		break;
	}
}

static enum hf_cause cause_of_connect_errno(int err)
{
	switch (err) {
	case ECONNREFUSED:
		return HF_CAUSE_PORTAL_UNREACHABLE;
	case ECONNRESET:
		return HF_CAUSE_PEER_RESET;
	case ENETUNREACH:
	case EHOSTUNREACH:
		return HF_CAUSE_NO_ROUTE;
	case ENETDOWN:
		return HF_CAUSE_LINK_DOWN;
	case EPERM:
	case EACCES: /* netfilter or a cgroup program said no to connect(2) itself */
		return HF_CAUSE_LOCAL_FIREWALL;
	case EPIPE:
		return HF_CAUSE_PEER_CLOSED;
	case ECONNABORTED:
		return HF_CAUSE_LOCAL_RESET;
	case EADDRNOTAVAIL:
		return HF_CAUSE_PORTS_EXHAUSTED;
	case ETIMEDOUT:
		return HF_CAUSE_BLACKHOLE;
	}
	return HF_CAUSE_UNKNOWN;
}

/* The dialer's line mostly says it all; what it lacks is said before it. */
static void set_proxy(struct hf_failure *f, enum hf_cause cause, const char *before,
		      const char *error)
{
	hf_failure_set(f, cause, HF_PHASE_PROXY, "%s%s",
		       hf_startswith(error, "the proxy ") ? "" : before, error);
	hf_strlcpy(f->proxy, f->text, sizeof(f->proxy));
}

void hf_failure_from_dial(struct hf_failure *f, const struct hf_dial_result *res, const char *host)
{
	static const enum hf_phase phase_of[] = {
		[HF_DIAL_RESOLVE] = HF_PHASE_RESOLVE,
		[HF_DIAL_TCP] = HF_PHASE_TCP,
		[HF_DIAL_PROXY] = HF_PHASE_PROXY,
		[HF_DIAL_DONE] = HF_PHASE_TLS,
	};
	enum hf_phase phase =
		res->phase < _HF_DIAL_PHASE_MAX ? phase_of[res->phase] : HF_PHASE_RESOLVE;
	const char *where = res->address[0] ? res->address : host;

	switch (res->failure) {
	case HF_DIAL_OK:
		hf_assert(false);
		break;
	case HF_DIAL_DNS:
		hf_failure_set(f, HF_CAUSE_DNS_FAILED, phase, "cannot resolve '%s': %s", host,
			       res->error);
		hf_strlcpy(f->dns, res->error, sizeof(f->dns));
		break;
	case HF_DIAL_CONNECT:
		hf_failure_set(f, cause_of_connect_errno(res->code), phase,
			       "cannot connect to %s: %s", where,
			       res->error[0] ? res->error : strerror(res->code));
		f->err = res->code;
		break;
	case HF_DIAL_TIMEOUT:
		if (phase == HF_PHASE_RESOLVE) {
			hf_failure_set(f, HF_CAUSE_DNS_FAILED, phase,
				       "the resolver did not answer for '%s'", host);
			hf_strlcpy(f->dns, "timeout", sizeof(f->dns));
		} else {
			hf_failure_set(f, HF_CAUSE_BLACKHOLE, phase,
				       "no answer from %s to the connection request", where);
			f->err = ETIMEDOUT;
		}
		break;
	case HF_DIAL_PROXY_REFUSED:
		/* An errno, or what the proxy answered; a refusal is never below 200. */
		if (res->code < 200) {
			set_proxy(f, HF_CAUSE_PROXY_REFUSED, "cannot use the proxy: ", res->error);
			f->err = res->code;
		} else {
			char answered[40];

			hf_strf(answered, sizeof(answered), "the proxy answered %d: ", res->code);
			set_proxy(f, HF_CAUSE_PROXY_REFUSED, answered, res->error);
		}
		break;
	case HF_DIAL_PROXY_AUTH:
		set_proxy(f, HF_CAUSE_PROXY_AUTH,
			  "the proxy asks for credentials (407): ", res->error);
		break;
	case HF_DIAL_PROXY_TIMEOUT:
		set_proxy(f, HF_CAUSE_PROXY_TIMEOUT, "the proxy does not answer: ", res->error);
		break;
	case HF_DIAL_PROXY_PROTOCOL:
		set_proxy(f, HF_CAUSE_PROXY_REFUSED,
			  "the proxy's answer is not HTTP: ", res->error);
		break;
	case HF_DIAL_CANCELLED:
	case _HF_DIAL_FAILURE_MAX:
		hf_failure_set(f, HF_CAUSE_UNKNOWN, phase, "the dial was given up");
		break;
	}
}

/* What the portal thinks of our certificate, or of the protocol. */
static enum hf_cause cause_of_alert(int alert)
{
	switch (alert) {
	case ALERT_CERTIFICATE_REVOKED:
		return HF_CAUSE_CERT_REVOKED;
	case ALERT_CERTIFICATE_EXPIRED:
		return HF_CAUSE_CERT_EXPIRED;
	case ALERT_BAD_CERTIFICATE:
	case ALERT_UNSUPPORTED_CERTIFICATE:
	case ALERT_CERTIFICATE_UNKNOWN:
	case ALERT_UNKNOWN_CA:
	case ALERT_ACCESS_DENIED:
		return HF_CAUSE_CERT_UNTRUSTED;
	case ALERT_HANDSHAKE_FAILURE:
	case ALERT_PROTOCOL_VERSION:
	case ALERT_INSUFFICIENT_SECURITY:
		return HF_CAUSE_WEAK_CRYPTO;
	}
	return HF_CAUSE_PROTOCOL_ERROR;
}

static enum hf_cause cause_of_tls(const struct hf_tls_report *t, bool clock_bad)
{
	switch (t->failure) {
	case HF_TLS_IO:
		return t->err ? cause_of_connect_errno(t->err) : HF_CAUSE_UNKNOWN;
	case HF_TLS_EOF:
	case HF_TLS_CLOSED:
		return HF_CAUSE_PEER_CLOSED;
	case HF_TLS_CERT_EXPIRED:
		return clock_bad ? HF_CAUSE_CLOCK_SKEW : HF_CAUSE_CERT_EXPIRED;
	case HF_TLS_CERT_NOT_YET_VALID:
		return clock_bad ? HF_CAUSE_CLOCK_SKEW : HF_CAUSE_CERT_NOT_YET_VALID;
	case HF_TLS_CERT_UNTRUSTED:
	case HF_TLS_CERT_NAME:
	case HF_TLS_PIN_MISMATCH:
		return HF_CAUSE_CERT_UNTRUSTED;
	case HF_TLS_CERT_REVOKED:
		return HF_CAUSE_CERT_REVOKED;
	case HF_TLS_INTERCEPTED:
		return HF_CAUSE_TLS_INTERCEPTED;
	case HF_TLS_WEAK_CRYPTO:
		return HF_CAUSE_WEAK_CRYPTO;
	case HF_TLS_ALERT:
		return cause_of_alert(t->alert);
	case HF_TLS_PROTOCOL:
		return HF_CAUSE_PROTOCOL_ERROR;
	case HF_TLS_OK:
	case HF_TLS_INTERNAL:
	case _HF_TLS_FAILURE_MAX:
		break;
	}
	return HF_CAUSE_UNKNOWN;
}

void hf_failure_from_tls(struct hf_failure *f, const struct hf_tls_report *t, enum hf_phase phase,
			 bool clock_bad)
{
	hf_failure_set(
		f, cause_of_tls(t, clock_bad), phase, "%s during %s: %s",
		t->failure == HF_TLS_IO || t->failure == HF_TLS_EOF || t->failure == HF_TLS_CLOSED
			? "the connection ended"
			: "TLS failed",
		hf_phase_name(phase), t->error && t->error[0] ? t->error : "no reason given");
	f->err = t->err;
	hf_strlcpy(f->tls, t->error ? t->error : "", sizeof(f->tls));
	hf_sanitize(f->tls);
}

/* Causes that a peer may name to us: what the portal decided or is, not what this host is. */
static bool peer_may_claim(enum hf_cause c)
{
	enum hf_cause_side side = hf_cause_side(c);

	return side == HF_SIDE_POLICY || c == HF_CAUSE_PORTAL_RESTART ||
	       c == HF_CAUSE_PORTAL_OVERLOAD || c == HF_CAUSE_CERT_REVOKED ||
	       c == HF_CAUSE_CERT_EXPIRED || c == HF_CAUSE_CERT_NOT_YET_VALID ||
	       c == HF_CAUSE_CERT_UNTRUSTED || c == HF_CAUSE_PROTOCOL_ERROR ||
	       c == HF_CAUSE_CLOCK_SKEW || c == HF_CAUSE_REGISTRY_LOST;
}

/* The leading word of a text, if it is a cause that a peer may claim. */
static bool claimed_cause(const char *text, enum hf_cause *ret)
{
	char word[40];
	size_t n = text ? strspn(text, "abcdefghijklmnopqrstuvwxyz_") : 0;
	enum hf_cause c;

	if (n == 0 || n >= sizeof(word) || (text[n] && !strchr(": ;,", text[n])))
		return false;
	memcpy(word, text, n);
	word[n] = 0;
	c = hf_cause_from_name(word);
	if (c == HF_CAUSE_UNKNOWN || !peer_may_claim(c))
		return false;
	*ret = c;
	return true;
}

static enum hf_cause cause_of_status(const struct hf_http_report *h)
{
	if (h->bad_accept)
		return HF_CAUSE_PROTOCOL_ERROR;
	switch (h->status) {
	case 401:
		return h->by_token ? HF_CAUSE_TOKEN_UNKNOWN : HF_CAUSE_NOT_AUTHORIZED;
	case 403:
		/* Without the portal's header this is most likely a proxy in front of it. */
		return h->via_proxy ? HF_CAUSE_PROXY_REFUSED : HF_CAUSE_NOT_AUTHORIZED;
	case 429:
	case 503:
		return HF_CAUSE_PORTAL_OVERLOAD;
	case 502:
	case 504:
		return HF_CAUSE_PORTAL_UNREACHABLE;
	case 200:
	case 400:
	case 426:
		return HF_CAUSE_PROXY_STRIPS_UPGRADE;
	}
	if (h->status >= 300 && h->status < 400)
		return HF_CAUSE_CAPTIVE_PORTAL;
	return HF_CAUSE_PROTOCOL_ERROR;
}

void hf_failure_from_http(struct hf_failure *f, const struct hf_http_report *h)
{
	enum hf_cause cause;
	uint32_t after_s = 0;
	bool named = claimed_cause(h->cause, &cause);

	if (!named)
		cause = cause_of_status(h);
	if (h->bad_accept)
		hf_failure_set(f, cause, HF_PHASE_UPGRADE,
			       "the answer to the WebSocket upgrade is wrong");
	else
		hf_failure_set(f, cause, HF_PHASE_UPGRADE,
			       "the upgrade was answered with HTTP %u: %s", h->status,
			       hf_cause_text(cause));
	if (h->retry_after && hf_parse_u32(h->retry_after, &after_s) >= 0) {
		if (after_s > RETRY_AFTER_MAX_S)
			after_s = RETRY_AFTER_MAX_S;
		f->retry_after_ms = (uint64_t)after_s * 1000;
	}
	set_policy_wait(f);
}

enum hf_cause hf_close_cause(uint16_t code, const char *reason)
{
	enum hf_cause cause;

	if (claimed_cause(reason, &cause))
		return cause;
	switch (code) {
	case HF_WS_CLOSE_GOING_AWAY:
	case HF_WS_CLOSE_RESTART:
		return HF_CAUSE_PORTAL_RESTART;
	case HF_WS_CLOSE_TRY_LATER:
		return HF_CAUSE_PORTAL_OVERLOAD;
	case HF_WS_CLOSE_PROTOCOL:
	case HF_WS_CLOSE_UNSUPPORTED:
	case HF_WS_CLOSE_INVALID:
	case HF_WS_CLOSE_TOO_BIG:
		return HF_CAUSE_PROTOCOL_ERROR;
	case HF_WS_CLOSE_POLICY:
		return HF_CAUSE_NOT_AUTHORIZED;
	case HF_WS_CLOSE_SUPERSEDED:
		return HF_CAUSE_CLONE_DETECTED;
	}
	return HF_CAUSE_PEER_CLOSED;
}

void hf_failure_from_close(struct hf_failure *f, uint16_t code, const char *reason)
{
	hf_failure_set(f, hf_close_cause(code, reason), HF_PHASE_HELLO, "closed with code %u%s%s",
		       code, reason && reason[0] ? ": " : "", reason ? reason : "");
	f->close_code = code;
	set_policy_wait(f);
}

void hf_failure_from_stall(struct hf_failure *f, const struct hf_stall *s)
{
	switch (s->phase) {
	case HF_PHASE_RESOLVE:
		hf_failure_set(f, HF_CAUSE_DNS_FAILED, s->phase,
			       "the resolver did not answer within %llu ms",
			       (unsigned long long)s->waited_ms);
		return;
	case HF_PHASE_TCP:
		hf_failure_set(f, HF_CAUSE_BLACKHOLE, s->phase,
			       "no answer from %s to the connection request within %llu ms",
			       s->address, (unsigned long long)s->waited_ms);
		f->err = ETIMEDOUT;
		return;
	case HF_PHASE_PROXY:
		hf_failure_set(f, HF_CAUSE_PROXY_TIMEOUT, s->phase,
			       "the proxy did not answer within %llu ms",
			       (unsigned long long)s->waited_ms);
		return;
	case HF_PHASE_TLS:
	case HF_PHASE_UPGRADE:
	case HF_PHASE_HELLO:
	case HF_PHASE_ONLINE:
	case _HF_PHASE_MAX:
		break;
	}
	if (s->unacked)
		hf_failure_set(f, s->any_acked ? HF_CAUSE_PMTU_BLACKHOLE : HF_CAUSE_BLACKHOLE,
			       s->phase, "%s answered first, then our packets vanished during %s",
			       s->address, hf_phase_name(s->phase));
	else
		hf_failure_set(f, HF_CAUSE_PORTAL_TIMEOUT, s->phase,
			       "%s accepted the connection and then said nothing for %llu ms (%s)",
			       s->address, (unsigned long long)s->waited_ms,
			       hf_phase_name(s->phase));
	f->err = ETIMEDOUT;
}
