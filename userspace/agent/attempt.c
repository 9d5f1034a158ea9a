/* SPDX-License-Identifier: Apache-2.0 */
/* One connection attempt; see the header for its invariants. */
#include "userspace/agent/attempt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "holdfast/session.h"
#include "userspace/net/websocket.h"
#include "userspace/proto/frame.h"

#define ATTEMPT_MAGIC     0x50545441u
#define TIMER_ACCURACY_US 1000u /* 0 would mean 250 ms */
/* Large segments that vanish while small ones pass are recognised long before the deadline. */
#define PROBE_US          500000u
#define PROBE_RETRANSMITS 3u
/* Enough where a later, smaller segment is known to have arrived. */
#define PROBE_RETRANSMITS_SACKED 2u

struct hf_attempt {
	unsigned magic;
	sd_event *event;
	struct hf_dialer *dialer;
	struct hf_tls_context *tls;
	struct hf_url url;
	char *token;
	const char *headers;
	bool clock_bad, wants_certificate;
	int (*first_message)(struct hf_buf *ret, void *userdata);
	void (*socket_made)(uint64_t cookie, void *userdata);
	void (*socket_gone)(uint64_t cookie, void *userdata);
	void (*done)(struct hf_attempt_result *res, void *userdata);
	void *userdata;

	sd_event_source *deadline, *probe;
	struct hf_link *link;
	uint64_t cookie; /* of the link; 0 while dialling */
	enum hf_phase phase;
	uint64_t started_ns, started_real_ns;
	uint64_t dialled_ns, hello_ns, hello_boot_ns;
	struct hf_dial_result dial;
	bool dialling, finished;
	bool speaks_session; /* the server announced our capability */
	Session__Welcome *welcome;
};

static uint64_t us_between(uint64_t from_ns, uint64_t to_ns)
{
	return from_ns && to_ns > from_ns ? (to_ns - from_ns) / HF_NS_PER_US : 0;
}

struct hf_attempt *hf_attempt_free(struct hf_attempt *a)
{
	if (!a)
		return NULL;
	if (a->dialling)
		hf_dial_cancel(a->dialer);
	if (a->cookie && a->socket_gone)
		a->socket_gone(a->cookie, a->userdata);
	sd_event_source_disable_unref(a->deadline);
	sd_event_source_disable_unref(a->probe);
	a->link = hf_link_free(a->link);
	if (a->welcome)
		session__welcome__free_unpacked(a->welcome, NULL);
	if (a->token)
		hf_wipe(a->token, strlen(a->token));
	free(a->token);
	sd_event_unref(a->event);
	a->magic = 0;
	free(a);
	return NULL;
}

/* Tells the owner, who most likely frees us inside. Nothing may be touched after it. */
static void finish(struct hf_attempt *a, struct hf_attempt_result *res)
{
	const struct hf_link *link = res->link ? res->link : a->link;
	uint64_t now = hf_now_monotonic_ns();
	Bus__Attempt *rec = &res->record;

	hf_assert(!a->finished);
	a->finished = true;
	(void)sd_event_source_set_enabled(a->deadline, SD_EVENT_OFF);
	(void)sd_event_source_set_enabled(a->probe, SD_EVENT_OFF);
	bus__attempt__init(rec);
	rec->at_unix_ns = a->started_real_ns;
	rec->address = a->dial.address;
	rec->phase = (char *)hf_phase_name(res->ok ? HF_PHASE_ONLINE : res->failure.phase);
	rec->resolve_us = a->dial.resolve_us;
	rec->connect_us = a->dial.connect_us;
	rec->proxy_us = a->dial.proxy_us;
	if (link) {
		uint64_t tls_ns = hf_link_tls_done_ns(link), open_ns = hf_link_open_ns(link);

		rec->tls_us = us_between(a->dialled_ns, tls_ns ? tls_ns : now);
		rec->upgrade_us = tls_ns ? us_between(tls_ns, open_ns ? open_ns : now) : 0;
		rec->hello_us = us_between(a->hello_ns, now);
		rec->tls_resumed = tls_ns && hf_link_tls_resumed(link);
	}
	if (!res->ok) {
		rec->error = res->failure.text;
		rec->cause = (char *)hf_cause_name(res->failure.cause);
	}
	res->started_ns = a->started_ns;
	hf_strlcpy(res->local, a->dial.local, sizeof(res->local));
	a->done(res, a->userdata);
}

static void fail(struct hf_attempt *a, const struct hf_failure *f)
{
	struct hf_attempt_result res = {.failure = *f};

	finish(a, &res);
}

static void succeed(struct hf_attempt *a, Opamp__ServerToAgent *answer, bool certificate)
{
	struct hf_attempt_result res = {
		.ok = true,
		.link = a->link,
		.answer = answer,
		.welcome = a->welcome,
		.certificate = certificate,
		.hello_sent_boot_ns = a->hello_boot_ns,
		.answered_boot_ns = hf_now_boottime_ns(),
	};

	/* Link and watch are the owner's from here on; it may free the attempt inside. */
	a->link = NULL;
	a->cookie = 0;
	finish(a, &res);
	hf_link_free(res.link);
}

/* What the portal said instead of a welcome. True: it was a refusal, and `done` was called. */
static bool refused(struct hf_attempt *a, const Opamp__ServerToAgent *m)
{
	struct hf_failure f;
	const Opamp__ServerErrorResponse *e = m->error_response;

	if (hf_opamp_custom_is(m->custom_message, HF_CAP_SESSION, HF_MSG_HOLD)) {
		_cleanup_pb_ Session__Hold *hold = NULL;

		if (hf_opamp_custom_unpack(m->custom_message, &session__hold__descriptor, &hold) <
		    0)
			return false;
		hf_failure_from_close(&f, 1013, hold->reason);
		if (f.cause == HF_CAUSE_PORTAL_OVERLOAD || hold->retry_after_ms > 0)
			f.retry_after_ms = hold->retry_after_ms;
		f.spread_ms = hold->window_ms;
		f.close_code = 0;
		hf_strf(f.text, sizeof(f.text), "the portal asked to come back later: %s",
			hold->reason[0] ? hold->reason : "no reason given");
		hf_sanitize(f.text);
		fail(a, &f);
		return true;
	}
	if (!e)
		return false;
	if (e->type == OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_Unavailable) {
		hf_failure_from_close(&f, 1013, e->error_message);
		if (e->details_case == OPAMP__SERVER_ERROR_RESPONSE__DETAILS_RETRY_INFO &&
		    e->retry_info)
			f.retry_after_ms = e->retry_info->retry_after_nanoseconds / HF_NS_PER_MS;
	} else {
		hf_failure_from_close(&f, 1002, e->error_message);
	}
	f.close_code = 0;
	hf_strf(f.text, sizeof(f.text), "the portal refused the first message: %s",
		e->error_message[0] ? e->error_message : "no reason given");
	hf_sanitize(f.text);
	fail(a, &f);
	return true;
}

static bool has_capability(const Opamp__CustomCapabilities *c, const char *name)
{
	for (size_t i = 0; c && i < c->n_capabilities; i++) {
		if (hf_streq(c->capabilities[i], name))
			return true;
	}
	return false;
}

static void on_message(const uint8_t *data, size_t len, void *userdata)
{
	struct hf_attempt *a = HF_CAST(userdata, struct hf_attempt, ATTEMPT_MAGIC);
	_cleanup_pb_ Opamp__ServerToAgent *m = NULL;
	const Opamp__ConnectionSettingsOffers *offer;
	bool certificate;
	int r;

	if (a->finished)
		return;
	r = hf_opamp_decode_to_agent(data, len, &m);
	if (r < 0) {
		struct hf_failure f;

		hf_failure_set(&f, HF_CAUSE_PROTOCOL_ERROR, HF_PHASE_HELLO,
			       "the portal's answer is not a valid OpAMP message (%zu bytes): %s",
			       len, r == -EPROTONOSUPPORT ? "unknown header" : strerror(-r));
		hf_link_close(a->link, HF_WS_CLOSE_INVALID, "malformed protobuf");
		fail(a, &f);
		return;
	}
	if (refused(a, m))
		return;
	if (has_capability(m->custom_capabilities, HF_CAP_SESSION))
		a->speaks_session = true;
	if (!a->welcome && hf_opamp_custom_is(m->custom_message, HF_CAP_SESSION, HF_MSG_WELCOME)) {
		r = hf_opamp_custom_unpack(m->custom_message, &session__welcome__descriptor,
					   &a->welcome);
		if (r < 0) {
			struct hf_failure f;

			hf_failure_set(&f, HF_CAUSE_PROTOCOL_ERROR, HF_PHASE_HELLO,
				       "the portal's welcome is malformed: %s", strerror(-r));
			fail(a, &f);
			return;
		}
	}
	offer = m->connection_settings;
	certificate = offer && offer->opamp && offer->opamp->certificate &&
		      offer->opamp->certificate->cert.len > 0;
	if (a->token) {
		if (certificate || (!a->welcome && !a->speaks_session))
			succeed(a, m, certificate);
	} else if (a->welcome || !a->speaks_session) {
		succeed(a, m, certificate && a->wants_certificate);
	}
}

static void on_open(void *userdata)
{
	struct hf_attempt *a = HF_CAST(userdata, struct hf_attempt, ATTEMPT_MAGIC);
	struct hf_failure f;
	struct hf_buf buf = {};
	int r;

	a->phase = HF_PHASE_HELLO;
	a->hello_ns = hf_now_monotonic_ns();
	a->hello_boot_ns = hf_now_boottime_ns();
	r = a->first_message(&buf, a->userdata);
	if (r >= 0)
		r = hf_link_send(a->link, buf.data, buf.len);
	hf_buf_done(&buf);
	if (r < 0) {
		hf_failure_set(&f, HF_CAUSE_UNKNOWN, HF_PHASE_HELLO,
			       "cannot send the first message: %s", strerror(-r));
		fail(a, &f);
	}
}

static void on_gone(const struct hf_link_end *end, void *userdata)
{
	struct hf_attempt *a = HF_CAST(userdata, struct hf_attempt, ATTEMPT_MAGIC);
	struct hf_failure f;

	if (a->finished)
		return;
	if (end->close_code) {
		hf_failure_from_close(&f, end->close_code, end->close_reason);
	} else if (end->violation) {
		hf_failure_set(&f, HF_CAUSE_PROTOCOL_ERROR, end->phase,
			       "the portal broke the protocol during %s: %s",
			       hf_phase_name(end->phase), end->violation_text);
	} else if (end->phase == HF_PHASE_UPGRADE && (end->http_status || end->bad_accept)) {
		const struct hf_http_report h = {
			.status = end->http_status,
			.cause = end->http_cause[0] ? end->http_cause : NULL,
			.retry_after = end->http_retry_after[0] ? end->http_retry_after : NULL,
			.by_token = a->token,
			.via_proxy = a->dial.proxy_us > 0,
			.bad_accept = end->bad_accept,
		};

		hf_failure_from_http(&f, &h);
	} else {
		const struct hf_tls_report t = {
			.failure = end->tls,
			.err = end->err,
			.alert = end->alert,
			.error = end->tls_text[0] ? end->tls_text
				 : end->err       ? strerror(end->err)
						  : NULL,
		};

		hf_failure_from_tls(&f, &t, end->phase, a->clock_bad);
	}
	fail(a, &f);
}

static const struct hf_link_callbacks link_callbacks = {
	.open = on_open,
	.message = on_message,
	.gone = on_gone,
};

static void on_dialled(struct hf_dial_result *res, void *userdata)
{
	struct hf_attempt *a = HF_CAST(userdata, struct hf_attempt, ATTEMPT_MAGIC);
	const struct hf_link_options lo = {
		.event = a->event,
		.tls = a->tls,
		.url = &a->url,
		.bearer = a->token,
		.headers = a->headers,
		.cookie = res->cookie,
	};
	struct hf_failure f;
	int r;

	a->dialling = false;
	a->dial = *res;
	a->dial.fd = -1;
	if (res->failure != HF_DIAL_OK) {
		hf_failure_from_dial(&f, res, a->url.host);
		fail(a, &f);
		return;
	}
	a->phase = HF_PHASE_TLS;
	a->dialled_ns = hf_now_monotonic_ns();
	a->cookie = res->cookie;
	r = hf_link_new(&lo, res->fd, &link_callbacks, a, &a->link);
	if (r < 0) {
		hf_failure_set(&f, HF_CAUSE_UNKNOWN, HF_PHASE_TLS, "cannot set up TLS: %s",
			       strerror(-r));
		fail(a, &f);
		return;
	}
	res->fd = -1;
	(void)sd_event_source_set_time_relative(a->probe, PROBE_US);
	(void)sd_event_source_set_enabled(a->probe, SD_EVENT_ONESHOT);
	hf_link_start(a->link);
}

static void on_socket_made(uint64_t cookie, void *userdata)
{
	struct hf_attempt *a = HF_CAST(userdata, struct hf_attempt, ATTEMPT_MAGIC);

	a->phase = HF_PHASE_TCP;
	if (a->socket_made)
		a->socket_made(cookie, a->userdata);
}

static void on_socket_gone(uint64_t cookie, void *userdata)
{
	struct hf_attempt *a = HF_CAST(userdata, struct hf_attempt, ATTEMPT_MAGIC);

	if (a->socket_gone)
		a->socket_gone(cookie, a->userdata);
}

static int on_probe(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_attempt *a = HF_CAST(userdata, struct hf_attempt, ATTEMPT_MAGIC);
	struct hf_link_tcp tcp;
	struct hf_failure f;

	(void)usec;
	if (!a->link || !hf_link_tcp(a->link, &tcp))
		return 0;
	if (tcp.retransmits >= (tcp.sacked ? PROBE_RETRANSMITS_SACKED : PROBE_RETRANSMITS) &&
	    tcp.bytes_acked > 1 && tcp.snd_mss > HF_ATTEMPT_SAFE_MSS) {
		const struct hf_stall stall = {
			.phase = hf_attempt_phase(a),
			.address = a->dial.address,
			.waited_ms = (hf_now_monotonic_ns() - a->started_ns) / HF_NS_PER_MS,
			.unacked = true,
			.any_acked = true,
		};

		hf_failure_from_stall(&f, &stall);
		fail(a, &f);
		return 0;
	}
	(void)sd_event_source_set_time_relative(s, PROBE_US);
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
	return 0;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_attempt *a = HF_CAST(userdata, struct hf_attempt, ATTEMPT_MAGIC);
	struct hf_stall stall = {
		.phase = hf_attempt_phase(a),
		.address = a->dial.address,
		.waited_ms = (hf_now_monotonic_ns() - a->started_ns) / HF_NS_PER_MS,
	};
	struct hf_link_tcp tcp;
	struct hf_failure f;

	(void)s;
	(void)usec;
	if (a->link && hf_link_tcp(a->link, &tcp)) {
		stall.unacked = tcp.unacked > 0 && tcp.retransmits > 0;
		stall.any_acked = tcp.bytes_acked > 1; /* more than the SYN */
	}
	hf_failure_from_stall(&f, &stall);
	fail(a, &f);
	return 0;
}

enum hf_phase hf_attempt_phase(const struct hf_attempt *a)
{
	if (!a->link)
		return a->phase;
	if (hf_link_open_ns(a->link))
		return HF_PHASE_HELLO;
	return hf_link_tls_done_ns(a->link) ? HF_PHASE_UPGRADE : HF_PHASE_TLS;
}

const char *hf_attempt_address(const struct hf_attempt *a)
{
	return a->dial.address;
}

void hf_attempt_poke(struct hf_attempt *a, uint64_t cookie)
{
	if (a->link && a->cookie == cookie)
		hf_link_poke(a->link);
}

int hf_attempt_start(const struct hf_attempt_options *o, struct hf_attempt **ret)
{
	_cleanup_(hf_attempt_freep) struct hf_attempt *a = calloc(1, sizeof(*a));
	const uint32_t deadline_ms = o->deadline_ms ? o->deadline_ms : HF_ATTEMPT_DEADLINE_MS;
	struct hf_dial_options d = {
		.url = *o->url,
		.proxy = o->proxy,
		/* A little less, so that the dial's own, more exact verdict comes first. */
		.timeout_ms = deadline_ms > 1000 ? deadline_ms - 500 : deadline_ms,
		.user_timeout_ms = o->user_timeout_ms,
		.keepalive_idle_s = o->keepalive_idle_s,
		.max_segment = o->max_segment,
		.socket_made = on_socket_made,
		.socket_gone = on_socket_gone,
		.done = on_dialled,
		.userdata = a,
	};
	int r;

	if (!a)
		return -ENOMEM;
	a->magic = ATTEMPT_MAGIC;
	a->event = sd_event_ref(o->event);
	a->dialer = o->dialer;
	a->tls = o->tls;
	a->url = *o->url;
	a->clock_bad = o->clock_bad;
	a->headers = o->headers;
	a->wants_certificate = o->wants_certificate;
	a->first_message = o->first_message;
	a->socket_made = o->socket_made;
	a->socket_gone = o->socket_gone;
	a->done = o->done;
	a->userdata = o->userdata;
	a->phase = HF_PHASE_RESOLVE;
	a->dial.fd = -1;
	a->started_ns = hf_now_monotonic_ns();
	a->started_real_ns = hf_now_realtime_ns();
	if (o->token) {
		a->token = strdup(o->token);
		if (!a->token)
			return -ENOMEM;
	}
	r = sd_event_add_time_relative(a->event, &a->deadline, CLOCK_MONOTONIC,
				       (uint64_t)deadline_ms * 1000, TIMER_ACCURACY_US, on_deadline,
				       a);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(a->deadline, "attempt deadline"); /* debugging only */
	r = sd_event_add_time_relative(a->event, &a->probe, CLOCK_MONOTONIC, PROBE_US,
				       TIMER_ACCURACY_US, on_probe, a);
	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(a->probe, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = hf_dial_start(a->dialer, &d);
	if (r < 0)
		return r;
	a->dialling = true;
	*ret = TAKE_PTR(a);
	return 0;
}
