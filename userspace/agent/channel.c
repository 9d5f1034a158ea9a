/* SPDX-License-Identifier: Apache-2.0 */
/* The owner of session and attempt. Longer than most files, because it is one switch. */
#include "userspace/agent/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/session.h"
#include "userspace/agent/attempt.h"
#include "userspace/agent/backoff.h"
#include "userspace/agent/loss.h"
#include "userspace/agent/netlink.h"
#include "userspace/agent/portal_target.h"
#include "userspace/agent/spool.h"
#include "userspace/net/websocket.h"
#include "userspace/proto/frame.h"

#define CHANNEL_MAGIC         0x4e414843u
#define TIMER_ACCURACY_US     100u              /* 0 would mean 250 ms */
#define SUSPECT_NS            (3 * HF_NS_PER_S) /* DESIGN section 6: 3 s ping */
#define TCP_CHECK_NS          (500 * HF_NS_PER_MS)
#define TCP_CHECK_RETRANSMITS 2u
#define CLOCK_RETRY_NS        (30 * HF_NS_PER_S)
#define REVOKED_RETRY_NS      (900 * HF_NS_PER_S) /* an administrator may change their mind */
#define GOODBYE_NS            (1 * HF_NS_PER_S)
#define TICKET_NS             (500 * HF_NS_PER_MS) /* tickets follow the handshake */
#define OUTAGES_IN_FLIGHT     32u
#define CLOCK_TOLERANCE_NS    (300 * HF_NS_PER_S)

struct hf_channel {
	unsigned magic;
	sd_event *event;
	struct hf_identity *identity;
	struct hf_outages *outages;
	struct hf_disk *disk;
	struct hf_blackbox *blackbox;
	struct hf_self *self;
	const struct hf_config *config;
	struct hf_target *target;
	struct hf_dialer *dialer;
	struct hf_loss *loss;
	struct hf_channel_callbacks cb;
	void *userdata;

	struct hf_machine machine;
	char why[320]; /* of the present state */
	uint64_t state_since_unix_ns;
	struct hf_backoff backoff;

	struct hf_attempt *attempt;
	uint64_t attempt_epoch;
	Bus__Attempt *race; /* a racing attempt that failed: for the record, should it be opened */
	struct hf_failure failure;
	uint32_t max_segment;  /* of the next dial */
	uint32_t safe_segment; /* what the present session was dialled with */

	struct hf_session *session;
	Session__Welcome *welcome; /* of the session; NULL on plain servers */
	uint64_t session_since_unix_ns;
	char local[64], peer[64];
	struct hf_evidence ev; /* about the present session */
	bool uplink_told;
	unsigned outages_in_flight;
	uint64_t reconnects;
	bool was_up; /* in this process */

	sd_event_source *retry, *suspect, *tcp_check, *goodbye, *ticket;
	uint64_t retry_at_ns; /* 0 not armed */
	bool tcp_check_armed;
	uint64_t wait_ms; /* what the portal asked for, for HOLD */
	uint32_t spread_ms;
	bool stopping;

	uint64_t watched; /* cookie of a lost session, until its record is sealed */
	struct hf_blackbox_record box;
	void (*enroll_done)(int r, const char *text, void *userdata);
	void *enroll_userdata;
};

static void handle(struct hf_channel *ch, enum hf_ch_event ev, const char *why);

/* ---- timers ----------------------------------------------------------------------------------- */

static void arm(sd_event_source *s, uint64_t in_ns)
{
	uint64_t at = (hf_now_monotonic_ns() + in_ns) / HF_NS_PER_US;

	/* Neither can fail for a timer of ours; if it did the watchdog would see us idle. */
	(void)sd_event_source_set_time(s, at);
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void disarm(sd_event_source *s)
{
	(void)sd_event_source_set_enabled(s, SD_EVENT_OFF);
}

static void arm_retry(struct hf_channel *ch, uint64_t in_ns)
{
	ch->retry_at_ns = hf_now_monotonic_ns() + in_ns;
	arm(ch->retry, in_ns);
}

static void disarm_retry(struct hf_channel *ch)
{
	ch->retry_at_ns = 0;
	disarm(ch->retry);
}

/*
 * Where the kernel's retransmit event cannot help (no eBPF, or a local firewall swallows the segment
 * before the tracepoint), TCP_INFO does: looked at only while something is unacknowledged.
 */
static void check_tcp_soon(struct hf_channel *ch)
{
	if (ch->tcp_check_armed || !ch->session)
		return;
	ch->tcp_check_armed = true;
	arm(ch->tcp_check, TCP_CHECK_NS);
}

/* ---- the black box ---------------------------------------------------------------------------- */

static void write_box(struct hf_channel *ch)
{
	const Bus__Outage *open = hf_loss_open(ch->loss);

	ch->box.session_epoch = ch->session ? hf_session_epoch(ch->session) : 0;
	ch->box.session_since_ns = ch->session ? ch->session_since_unix_ns : 0;
	ch->box.last_alive_boot_ns = hf_now_boottime_ns();
	ch->box.last_alive_real_ns = hf_now_realtime_ns();
	hf_strlcpy(ch->box.outage_id, open ? open->id : "", sizeof(ch->box.outage_id));
	if (ch->blackbox)
		hf_blackbox_write(ch->blackbox, &ch->box);
}

/* Something other than a certificate says that this host's clock is wrong. */
static bool clock_is_bad(const struct hf_channel *ch)
{
	uint64_t now = hf_now_realtime_ns(), boot = hf_now_boottime_ns(), expected;

	/* No release of this product is older than 2025-01-01. */
	if (now < UINT64_C(1735689600) * HF_NS_PER_S)
		return true;
	if (!ch->box.server_unix_ns)
		return false;
	if (ch->box.server_at_boot_ns == 0 || ch->box.server_at_boot_ns > boot)
		return now + CLOCK_TOLERANCE_NS < ch->box.server_unix_ns; /* before a reboot */
	expected = ch->box.server_unix_ns + (boot - ch->box.server_at_boot_ns);
	return now > expected ? now - expected > CLOCK_TOLERANCE_NS
			      : expected - now > CLOCK_TOLERANCE_NS;
}

/* ---- attempts --------------------------------------------------------------------------------- */

static void drop_attempt(struct hf_channel *ch)
{
	ch->attempt = hf_attempt_free(ch->attempt);
	ch->machine.racing = false;
}

static void drop_race(struct hf_channel *ch)
{
	if (ch->race)
		bus__attempt__free_unpacked(ch->race, NULL);
	ch->race = NULL;
}

static int first_message(struct hf_buf *ret, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);
	struct hf_hello hello = {
		.self = ch->self,
		.epoch = ch->attempt_epoch,
		.attempt_started_boot_ns = hf_now_boottime_ns(),
		.last_close = hf_loss_last_cause(ch->loss),
		.streams = ch->cb.streams,
		.userdata = ch->userdata,
	};
	struct hf_buf csr = {};
	int r = 0;

	if (!ch->machine.enrolled) {
		r = hf_identity_csr(ch->identity, &csr);
		hello.csr = csr.data;
		hello.csr_len = csr.len;
	}
	if (r >= 0)
		r = hf_session_first_message(&hello, ret);
	hf_buf_done(&csr);
	return r;
}

static void on_socket_made(uint64_t cookie, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	ch->cb.watch(cookie, true, ch->userdata);
}

static void on_socket_gone(uint64_t cookie, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	ch->cb.watch(cookie, false, ch->userdata);
}

static void attempt_failed(struct hf_channel *ch, const struct hf_failure *f);
static void on_attempt_done(struct hf_attempt_result *res, void *userdata);

static void start_attempt(struct hf_channel *ch)
{
	const struct hf_config *c = ch->config;
	struct hf_attempt_options o = {
		.event = ch->event,
		.dialer = ch->dialer,
		.max_segment = ch->max_segment,
		.deadline_ms = (uint32_t)c->channel.connect_timeout_s * 1000,
		.user_timeout_ms = (uint32_t)c->channel.user_timeout_s * 1000,
		.keepalive_idle_s = (uint32_t)c->channel.keepalive_s,
		.clock_bad = clock_is_bad(ch),
		.first_message = first_message,
		.socket_made = on_socket_made,
		.socket_gone = on_socket_gone,
		.done = on_attempt_done,
		.userdata = ch,
	};
	struct hf_failure f;
	struct hf_err err = {};
	int r;

	drop_attempt(ch);
	disarm_retry(ch);
	r = hf_target_prepare(ch->target, c, ch->machine.enrolled, !ch->session, &o.tls, &err);
	if (r >= 0) {
		o.url = hf_target_url(ch->target);
		o.proxy = hf_target_proxy(ch->target);
		o.token = ch->machine.enrolled ? NULL : hf_identity_token(ch->identity);
		ch->attempt_epoch = hf_target_next_epoch(ch->target);
		r = hf_attempt_start(&o, &ch->attempt);
		if (r < 0)
			hf_err_set(&err, r, "start an attempt: %s", strerror(-r));
	}
	if (r < 0) {
		hf_failure_set(&f,
			       r == -EINVAL || r == -ENOENT ? HF_CAUSE_CERT_UNTRUSTED
							    : HF_CAUSE_UNKNOWN,
			       HF_PHASE_RESOLVE, "%s", err.msg);
		attempt_failed(ch, &f);
		return;
	}
	ch->machine.racing = true;
}

static void tell_enroll(struct hf_channel *ch, int r, const char *text)
{
	void (*done)(int r, const char *text, void *userdata) = TAKE_PTR(ch->enroll_done);

	if (done)
		done(r, text, ch->enroll_userdata);
}

static void attempt_failed(struct hf_channel *ch, const struct hf_failure *f)
{
	char why[320];

	ch->failure = *f;
	hf_strf(why, sizeof(why), "%s: %s", hf_cause_name(f->cause), f->text);
	tell_enroll(ch, f->err ? -f->err : -EPROTO, why);
	hf_loss_hint(ch->loss, f->tls, f->dns, f->proxy);
	if (f->cause == HF_CAUSE_PMTU_BLACKHOLE) {
		/* The next dial heals it; and it explains why the session went silent. */
		ch->max_segment = HF_ATTEMPT_SAFE_MSS;
		ch->ev.pmtu = true;
		hf_loss_amend(ch->loss, HF_CAUSE_BLACKHOLE, f->cause, f->text);
	}
	if (ch->session) {
		/* The race was lost; the session is judged by its own deadline. */
		hf_info("attempt beside the session failed: %s", why);
		return;
	}
	switch (hf_failure_remedy(f)) {
	case HF_REMEDY_RETRY:
		hf_target_next(ch->target);
		handle(ch, HF_EV_FAILED, why);
		return;
	case HF_REMEDY_HOLD:
		ch->wait_ms = f->retry_after_ms;
		ch->spread_ms = f->spread_ms;
		handle(ch, HF_EV_HOLD, why);
		return;
	case HF_REMEDY_REVOKED:
		handle(ch, HF_EV_REVOKED, why);
		return;
	case HF_REMEDY_CLOCK:
		handle(ch, HF_EV_CLOCK, why);
		return;
	case _HF_REMEDY_MAX:
		break;
	}
	hf_assert(false);
}

static void on_certificate_stored(int r, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);
	char why[160];

	if (r < 0) {
		struct hf_failure f;

		hf_failure_set(&f, HF_CAUSE_UNKNOWN, HF_PHASE_HELLO,
			       "cannot store the certificate: %s", strerror(-r));
		attempt_failed(ch, &f);
		return;
	}
	ch->machine.enrolled = true;
	hf_target_credentials_changed(ch->target);
	hf_strf(why, sizeof(why), "enrolled as '%s'", hf_identity_endpoint_id(ch->identity));
	handle(ch, HF_EV_ENROLLED, why);
}

static void on_certificate_renewed(int r, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	if (r < 0) {
		hf_error_r(r, "store the renewed certificate");
		return;
	}
	/* The next connection uses it; the present one goes on. */
	hf_target_credentials_changed(ch->target);
	hf_notice("certificate renewed, valid until %lld",
		  (long long)hf_identity_cert_not_after(ch->identity));
}

static void take_link(struct hf_channel *ch, struct hf_attempt_result *res);

static void on_attempt_done(struct hf_attempt_result *res, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	if (ch->session) {
		drop_race(ch);
		if (!res->ok)
			ch->race = hf_pb_dup(&res->record.base); /* without memory: not recorded */
	} else {
		hf_loss_attempt(ch->loss, &res->record);
	}
	if (!res->ok) {
		struct hf_failure f = res->failure;

		drop_attempt(ch);
		attempt_failed(ch, &f);
	} else if (res->certificate) {
		struct hf_err err = {};
		int r = hf_identity_store(ch->identity,
					  res->answer->connection_settings->opamp->certificate,
					  on_certificate_stored, ch, &err);

		if (r < 0) {
			struct hf_failure f;

			hf_failure_set(&f, HF_CAUSE_PROTOCOL_ERROR, HF_PHASE_HELLO, "%s", err.msg);
			drop_attempt(ch);
			attempt_failed(ch, &f);
		} else {
			/* The enrolling connection has done its work. */
			ch->cb.watch(hf_link_cookie(res->link), false, ch->userdata);
		}
	} else {
		take_link(ch, res);
	}
}

/* ---- the session ------------------------------------------------------------------------------ */

static void tell_uplink(struct hf_channel *ch)
{
	bool want = ch->session && ch->welcome && ch->machine.authorized;

	if (want == ch->uplink_told)
		return;
	ch->uplink_told = want;
	ch->cb.uplink(want ? ch->welcome : NULL, ch->userdata);
}

static void drop_session(struct hf_channel *ch)
{
	uint64_t cookie;

	disarm(ch->suspect);
	disarm(ch->tcp_check);
	ch->tcp_check_armed = false;
	disarm(ch->ticket);
	if (!ch->session)
		return;
	cookie = hf_session_cookie(ch->session);
	ch->session = hf_session_free(ch->session);
	if (ch->welcome)
		session__welcome__free_unpacked(ch->welcome, NULL);
	ch->welcome = NULL;
	ch->outages_in_flight = 0;
	hf_backoff_offline(&ch->backoff, hf_now_monotonic_ns());
	hf_evidence_done(&ch->ev);
	tell_uplink(ch);
	/* Late kernel evidence is awaited until the record is sealed. */
	if (hf_loss_cookie(ch->loss) == cookie)
		ch->watched = cookie;
	else
		ch->cb.watch(cookie, false, ch->userdata);
}

static void unwatch_sealed(struct hf_channel *ch)
{
	if (ch->watched && hf_loss_cookie(ch->loss) != ch->watched) {
		ch->cb.watch(ch->watched, false, ch->userdata);
		ch->watched = 0;
	}
}

/* Opens the outage of the present session with the evidence at hand, and drops the session. */
static struct hf_verdict lose_session(struct hf_channel *ch)
{
	struct hf_verdict v;
	uint64_t cookie = hf_session_cookie(ch->session);

	unwatch_sealed(ch);
	ch->ev.noticed_boot_ns = hf_now_boottime_ns();
	ch->ev.last_heard_boot_ns = hf_link_last_heard_ns(hf_session_link(ch->session));
	v = hf_loss_begin(ch->loss, &ch->ev, cookie, hf_session_epoch(ch->session));
	if (ch->race) {
		hf_loss_attempt(ch->loss, ch->race);
		drop_race(ch);
	}
	drop_session(ch);
	write_box(ch);
	return v;
}

static void send_outages(struct hf_channel *ch)
{
	Bus__Outage *rec = NULL;

	/* In order, a window at a time: the next window when this one is acknowledged. */
	if (!ch->uplink_told || ch->outages_in_flight > 0)
		return;
	while (ch->outages_in_flight < OUTAGES_IN_FLIGHT &&
	       (rec = hf_outages_next_unacked(ch->outages, rec))) {
		int r = hf_session_send(ch->session, HF_CAP_OUTAGE, HF_MSG_OUTAGE, &rec->base);

		if (r < 0) {
			if (r != -ENOBUFS && r != -EPIPE)
				hf_warn_r(r, "send outage record '%s'", rec->id);
			return;
		}
		ch->outages_in_flight++;
	}
}

static void on_outage_finished(Bus__Outage *rec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	(void)rec;
	unwatch_sealed(ch);
	send_outages(ch);
	write_box(ch);
}

static void on_outage_ack(const char *id, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	if (!hf_outages_ack(ch->outages, id))
		return;
	if (ch->outages_in_flight > 0)
		ch->outages_in_flight--;
	send_outages(ch);
}

static void on_proof(void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	ch->box.server_unix_ns = hf_session_server_unix_ns(ch->session, &ch->box.server_at_boot_ns);
	write_box(ch);
	handle(ch, HF_EV_PROOF, "the portal's registry answered");
}

static void set_authorization(struct hf_channel *ch, const char *authorization)
{
	char why[80];

	if (hf_streq(authorization, "revoked")) {
		handle(ch, HF_EV_REVOKED, "revoked: the portal revoked this endpoint");
		return;
	}
	ch->machine.authorized = hf_streq(authorization, "authorized");
	hf_strf(why, sizeof(why), "the portal says: %s", authorization);
	handle(ch, HF_EV_AUTH_CHANGED, why);
}

static void on_authorization(const char *authorization, void *userdata)
{
	set_authorization(HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC), authorization);
}

static void on_session_lost(const struct hf_session_loss *loss, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);
	struct hf_evidence *ev = &ch->ev;

	if (ch->stopping) {
		drop_session(ch);
		disarm(ch->goodbye);
		ch->cb.stopped(ch->userdata);
		return;
	}
	ev->heartbeat_missed = loss->heartbeat_missed;
	ev->tcp_acked = loss->tcp_acked;
	ev->registry_lost = loss->registry_lost;
	if (loss->end) {
		const struct hf_link_end *e = loss->end;

		ev->err = e->err;
		ev->tls = e->tls;
		hf_strlcpy(ev->tls_text, e->tls_text, sizeof(ev->tls_text));
		ev->close_code = e->close_code;
		hf_strlcpy(ev->close_reason, e->close_reason, sizeof(ev->close_reason));
		/* Superseded by our own racing connection, whose welcome is on its way. */
		if (e->close_code == HF_WS_CLOSE_SUPERSEDED && ch->machine.racing) {
			ev->close_code = 0;
			ev->suspect_over = true;
		}
		ev->violation = e->violation;
		hf_strlcpy(ev->violation_text, e->violation_text, sizeof(ev->violation_text));
		if (e->close_code &&
		    hf_close_cause(e->close_code, e->close_reason) == HF_CAUSE_REVOKED) {
			handle(ch, HF_EV_REVOKED, "revoked: the portal revoked this endpoint");
			return;
		}
	}
	handle(ch, HF_EV_LOST, NULL);
}

static void on_hold(const Session__Hold *hold, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);
	enum hf_cause cause = hf_close_cause(1013, hold->reason);
	char why[200];

	ch->wait_ms = hold->retry_after_ms;
	ch->spread_ms = hold->window_ms;
	ch->ev.portal_said = true;
	ch->ev.portal_cause = cause;
	hf_strlcpy(ch->ev.portal_text, hold->reason, sizeof(ch->ev.portal_text));
	hf_sanitize(ch->ev.portal_text);
	hf_strf(why, sizeof(why), "%s: the portal asked to come back after %u ms%s%s",
		hf_cause_name(cause), hold->retry_after_ms, hold->reason[0] ? ": " : "",
		ch->ev.portal_text);
	handle(ch, cause == HF_CAUSE_REVOKED ? HF_EV_REVOKED : HF_EV_HOLD, why);
}

static void on_server_error(const Opamp__ServerErrorResponse *e, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);
	char text[160];

	hf_strf(text, sizeof(text), "%s", e->error_message);
	hf_sanitize(text);
	hf_warn("the portal reports an error: %s", text[0] ? text : "no text");
	if (e->type == OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_Unavailable) {
		Session__Hold hold = SESSION__HOLD__INIT;

		hold.reason = text;
		if (e->details_case == OPAMP__SERVER_ERROR_RESPONSE__DETAILS_RETRY_INFO &&
		    e->retry_info)
			hold.retry_after_ms =
				(uint32_t)(e->retry_info->retry_after_nanoseconds / HF_NS_PER_MS);
		on_hold(&hold, ch);
	}
}

/*
 * The welcome's positions are kept current: they are used again when an endpoint that was suspended
 * is authorized on the same connection.
 */
static void remember_ack(struct hf_channel *ch, const Session__TelemetryAck *ack)
{
	Session__StreamAck **more, *a;

	if (!ch->welcome)
		return;
	for (size_t i = 0; i < ch->welcome->n_acks; i++) {
		a = ch->welcome->acks[i];
		if (a->epoch == ack->stream_epoch) {
			if (ack->acked > a->acked)
				a->acked = ack->acked;
			return;
		}
	}
	if (ch->welcome->n_acks >= HF_SPOOL_STREAMS_MAX)
		return;
	more = realloc(ch->welcome->acks, (ch->welcome->n_acks + 1) * sizeof(*more));
	if (!more)
		return;
	ch->welcome->acks = more;
	a = calloc(1, sizeof(*a));
	if (!a)
		return;
	session__stream_ack__init(a);
	a->epoch = ack->stream_epoch;
	a->acked = ack->acked;
	more[ch->welcome->n_acks++] = a;
}

static void on_telemetry_ack(const Session__TelemetryAck *ack, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	remember_ack(ch, ack);
	ch->cb.telemetry_ack(ack, ch->userdata);
}

static void on_offer(const Opamp__ConnectionSettingsOffers *offer, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);
	struct hf_err err = {};

	if (!offer->opamp || !offer->opamp->certificate || offer->opamp->certificate->cert.len == 0)
		return;
	if (hf_identity_store(ch->identity, offer->opamp->certificate, on_certificate_renewed, ch,
			      &err) < 0)
		hf_error("certificate offered by the portal: %s", err.msg);
}

static void on_new_uid(const uint8_t uid[static 16], void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	if (hf_identity_set_uid(ch->identity, uid) >= 0)
		hf_notice("the portal gave this agent the instance uid %s",
			  hf_identity_uid_text(ch->identity));
}

static void on_asked(void *userdata)
{
	check_tcp_soon(HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC));
}

static void on_restart(void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	ch->cb.restart(ch->userdata);
}

static void on_writable(void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	send_outages(ch);
	ch->cb.writable(ch->userdata);
}

static const struct hf_session_callbacks session_callbacks = {
	.proof = on_proof,
	.authorization = on_authorization,
	.lost = on_session_lost,
	.hold = on_hold,
	.server_error = on_server_error,
	.telemetry_ack = on_telemetry_ack,
	.outage_ack = on_outage_ack,
	.offer = on_offer,
	.new_uid = on_new_uid,
	.restart = on_restart,
	.asked = on_asked,
	.writable = on_writable,
};

/* Asks for a new certificate when a third of its life or less is left. */
static void renew_certificate(struct hf_channel *ch)
{
	int64_t from = hf_identity_cert_not_before(ch->identity);
	int64_t to = hf_identity_cert_not_after(ch->identity);
	int64_t now = (int64_t)(hf_now_realtime_ns() / HF_NS_PER_S);
	struct hf_buf csr = {};
	int r;

	if (!ch->machine.enrolled || !ch->machine.authorized || to - now > (to - from) / 3)
		return;
	r = hf_identity_csr(ch->identity, &csr);
	if (r >= 0)
		r = hf_session_send_csr(ch->session, csr.data, csr.len);
	hf_buf_done(&csr);
	if (r < 0)
		hf_warn_r(r, "ask for a new certificate, trying again with the next connection");
}

/* A connection whose portal has answered becomes the session (HF_DO_ADOPT happens inside). */
static void take_link(struct hf_channel *ch, struct hf_attempt_result *res)
{
	const struct hf_session_options o = {
		.event = ch->event,
		.self = ch->self,
		.epoch = ch->attempt_epoch,
		.welcome = res->welcome,
		.heartbeat_s = (uint32_t)ch->config->channel.heartbeat_s,
		.heartbeat_timeout_s = (uint32_t)ch->config->channel.heartbeat_timeout_s,
		.hello_sent_boot_ns = res->hello_sent_boot_ns,
		.answered_boot_ns = res->answered_boot_ns,
	};
	Session__Welcome *welcome = res->welcome ? hf_pb_dup(&res->welcome->base) : NULL;
	struct hf_session *session = NULL;
	struct hf_failure f;
	char peer[64], local[64];
	char why[160];
	int r;

	if (res->welcome && !hf_streq(res->welcome->environment, ch->self->environment) &&
	    res->welcome->environment[0]) {
		hf_failure_set(&f, HF_CAUSE_ENVIRONMENT_MISMATCH, HF_PHASE_HELLO,
			       "this host is of environment '%s', the portal of '%.32s'",
			       ch->self->environment, res->welcome->environment);
		f.retry_after_ms = 60000;
		r = -EPROTO;
	} else if (res->welcome && res->welcome->epoch != ch->attempt_epoch) {
		hf_failure_set(&f, HF_CAUSE_PROTOCOL_ERROR, HF_PHASE_HELLO,
			       "the portal welcomed epoch %llu, we are %llu",
			       (unsigned long long)res->welcome->epoch,
			       (unsigned long long)ch->attempt_epoch);
		r = -EPROTO;
	} else if (res->welcome && hf_streq(res->welcome->authorization, "revoked")) {
		hf_failure_set(&f, HF_CAUSE_REVOKED, HF_PHASE_HELLO,
			       "the portal revoked this endpoint");
		r = -EPROTO;
	} else {
		r = res->welcome && !welcome
			    ? -ENOMEM
			    : hf_session_new(&o, res->link, &session_callbacks, ch, &session);
		if (r < 0)
			hf_failure_set(&f, HF_CAUSE_UNKNOWN, HF_PHASE_HELLO,
				       "cannot start the session: %s", strerror(-r));
	}
	if (r < 0) {
		ch->cb.watch(hf_link_cookie(res->link), false, ch->userdata);
		if (welcome)
			session__welcome__free_unpacked(welcome, NULL);
		drop_attempt(ch);
		attempt_failed(ch, &f);
		return;
	}
	res->link = NULL;
	hf_strlcpy(peer, res->record.address, sizeof(peer));
	hf_strlcpy(local, res->local, sizeof(local));
	ch->machine.authorized = hf_streq(hf_session_authorization(session), "authorized");
	if (ch->session) {
		/* The race was won. The old session is judged by what was seen of it. */
		ch->ev.suspect_over = true;
		(void)lose_session(ch);
		hf_loss_attempt(ch->loss, &res->record);
	}
	ch->session = session;
	ch->safe_segment = ch->max_segment;
	ch->welcome = welcome;
	hf_strlcpy(ch->peer, peer, sizeof(ch->peer));
	hf_strlcpy(ch->local, local, sizeof(ch->local));
	ch->session_since_unix_ns = hf_now_realtime_ns();
	hf_target_connected(ch->target, peer);
	ch->box.server_unix_ns = hf_session_server_unix_ns(session, &ch->box.server_at_boot_ns);
	hf_strf(why, sizeof(why), "epoch %llu, %s, %s%s, authorization %s",
		(unsigned long long)ch->attempt_epoch, peer,
		hf_link_tls_version(hf_session_link(session)),
		res->record.tls_resumed ? " resumed" : "", hf_session_authorization(session));
	/* Before the event: what follows may start the next attempt already. */
	drop_attempt(ch);
	handle(ch, HF_EV_UP, why);
	/* What else the answer carries; the session may be gone after it. */
	if (ch->session == session)
		hf_session_handle(session, res->answer);
}

/* ---- transitions ------------------------------------------------------------------------------ */

static void enter_state(struct hf_channel *ch, const struct hf_step *step, const char *why)
{
	hf_strlcpy(ch->why, why ? why : "", sizeof(ch->why));
	if (step->from == step->to)
		return;
	ch->state_since_unix_ns = hf_now_realtime_ns();
	hf_notice("channel: %s → %s: %s", hf_ch_state_name(step->from), hf_ch_state_name(step->to),
		  why && why[0] ? why : "no reason given");
	ch->cb.state_changed(step->from, step->to, ch->why, ch->userdata);
}

static void wait_by_backoff(struct hf_channel *ch, enum hf_backoff_why why, uint64_t retry_after_ms,
			    uint32_t spread_ms)
{
	uint64_t delay = hf_backoff_delay_ns(&ch->backoff, why, retry_after_ms, spread_ms,
					     hf_now_monotonic_ns());

	if (delay == 0)
		handle(ch, HF_EV_DUE, "at once");
	else
		arm_retry(ch, delay);
}

static void on_up(struct hf_channel *ch)
{
	uint64_t now = hf_now_monotonic_ns();

	disarm_retry(ch);
	disarm(ch->suspect);
	drop_race(ch);
	hf_backoff_online(&ch->backoff, now);
	if (ch->welcome)
		hf_backoff_set_portal(&ch->backoff, ch->welcome->backoff_window_ms,
				      ch->welcome->backoff_cap_ms);
	if (ch->was_up)
		ch->reconnects++;
	ch->was_up = true;
	ch->box.stopped = 0;
	ch->box.reason[0] = 0;
	hf_loss_restored(ch->loss);
	write_box(ch);
	tell_uplink(ch);
	send_outages(ch);
	renew_certificate(ch);
	arm(ch->ticket, TICKET_NS);
	tell_enroll(ch, 0, hf_ch_state_name(ch->machine.state));
}

static void drop_all(struct hf_channel *ch, const char *said)
{
	drop_attempt(ch);
	disarm_retry(ch);
	if (!ch->session)
		return;
	if (said && !ch->ev.portal_said) {
		ch->ev.portal_said = true;
		ch->ev.portal_cause = HF_CAUSE_REVOKED;
		hf_strlcpy(ch->ev.portal_text, said, sizeof(ch->ev.portal_text));
	}
	(void)lose_session(ch);
}

/*
 * Later, smaller segments were received (SACK) while the large one before them is retransmitted: the
 * path has become narrower and its ICMP does not reach us. The racing dial already heals it.
 */
static void suspect_path_mtu(struct hf_channel *ch)
{
	struct hf_link_tcp tcp;

	if (!hf_link_tcp(hf_session_link(ch->session), &tcp) || tcp.retransmits == 0 ||
	    tcp.sacked == 0 || tcp.snd_mss <= HF_ATTEMPT_SAFE_MSS)
		return;
	ch->ev.pmtu = true;
	ch->max_segment = HF_ATTEMPT_SAFE_MSS;
}

static void perform(struct hf_channel *ch, enum hf_ch_action action)
{
	struct hf_verdict v;

	switch (action) {
	case HF_DO_NOTHING:
		return;
	case HF_DO_DIAL:
		start_attempt(ch);
		return;
	case HF_DO_REDIAL:
		drop_attempt(ch);
		drop_session(ch);
		start_attempt(ch);
		return;
	case HF_DO_WAIT:
		if (ch->machine.state == HF_CH_CLOCK_BAD)
			arm_retry(ch, CLOCK_RETRY_NS);
		else
			wait_by_backoff(ch, HF_BACKOFF_FAILURE, ch->failure.retry_after_ms,
					ch->failure.spread_ms);
		return;
	case HF_DO_LOSE:
		v = lose_session(ch);
		wait_by_backoff(ch, v.lone ? HF_BACKOFF_LONE_LOSS : HF_BACKOFF_FAILURE, 0, 0);
		return;
	case HF_DO_ADOPT:
		on_up(ch);
		return;
	case HF_DO_PROVE:
		drop_race(ch);
		suspect_path_mtu(ch);
		arm(ch->suspect, SUSPECT_NS);
		hf_session_probe(ch->session);
		if (ch->session && ch->machine.state == HF_CH_SUSPECT)
			start_attempt(ch);
		return;
	case HF_DO_RERACE:
		start_attempt(ch);
		return;
	case HF_DO_CALM:
		drop_attempt(ch);
		ch->max_segment = ch->safe_segment;
		drop_race(ch);
		disarm(ch->suspect);
		hf_evidence_done(&ch->ev);
		return;
	case HF_DO_OVERTAKE:
		v = lose_session(ch);
		if (ch->machine.state == HF_CH_BACKOFF)
			wait_by_backoff(ch, v.lone ? HF_BACKOFF_LONE_LOSS : HF_BACKOFF_FAILURE, 0,
					0);
		return;
	case HF_DO_UPDATE:
		tell_uplink(ch);
		send_outages(ch);
		write_box(ch);
		return;
	case HF_DO_HOLD:
		drop_all(ch, NULL);
		arm_retry(ch, hf_backoff_delay_ns(&ch->backoff, HF_BACKOFF_FAILURE,
						  ch->wait_ms ? ch->wait_ms : 1, ch->spread_ms,
						  hf_now_monotonic_ns()));
		return;
	case HF_DO_HALT:
		ch->machine.authorized = false;
		drop_all(ch, "revoked");
		arm_retry(ch, REVOKED_RETRY_NS);
		return;
	case HF_DO_STOP:
	case HF_DO_WIPE:
		drop_attempt(ch);
		disarm_retry(ch);
		return;
	case _HF_DO_MAX:
		break;
	}
	hf_assert(false);
}

static void handle(struct hf_channel *ch, enum hf_ch_event ev, const char *why)
{
	struct hf_step step = hf_machine_step(&ch->machine, ev, hf_now_monotonic_ns());
	struct hf_verdict v;

	if (step.action == HF_DO_NOTHING)
		return;
	if (!why && ch->session) {
		ch->ev.noticed_boot_ns = hf_now_boottime_ns();
		hf_evidence_judge(&ch->ev, &v);
		hf_strf(ch->why, sizeof(ch->why), "%s: %s", hf_cause_name(v.cause), v.detail);
		why = strdupa(ch->why);
	}
	enter_state(ch, &step, why);
	perform(ch, step.action);
}

/* ---- timers' handlers ------------------------------------------------------------------------- */

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	(void)s;
	(void)usec;
	ch->retry_at_ns = 0;
	handle(ch, HF_EV_DUE, "the wait is over");
	return 0;
}

static int on_suspect(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);
	struct hf_link_tcp tcp;

	(void)s;
	(void)usec;
	if (!ch->session)
		return 0;
	ch->ev.suspect_over = true;
	ch->ev.tcp_acked = hf_link_tcp(hf_session_link(ch->session), &tcp) && tcp.unacked == 0;
	handle(ch, HF_EV_SUSPECT_OVER, NULL);
	return 0;
}

static int on_tcp_check(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);
	struct hf_link_tcp tcp;

	(void)s;
	(void)usec;
	ch->tcp_check_armed = false;
	if (!ch->session || !hf_link_tcp(hf_session_link(ch->session), &tcp) || tcp.unacked == 0)
		return 0;
	if (tcp.retransmits >= TCP_CHECK_RETRANSMITS)
		handle(ch, HF_EV_SUSPICION, "sent data is not acknowledged (TCP_INFO)");
	check_tcp_soon(ch);
	return 0;
}

static int on_goodbye_over(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	(void)s;
	(void)usec;
	drop_session(ch);
	ch->cb.stopped(ch->userdata);
	return 0;
}

static int on_ticket(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, CHANNEL_MAGIC);

	(void)s;
	(void)usec;
	hf_target_save_ticket(ch->target);
	return 0;
}

/* ---- evidence --------------------------------------------------------------------------------- */

bool hf_channel_kernel(struct hf_channel *ch, uint64_t cookie, const struct hf_kernel_fact *fact,
		       const uint8_t *event, size_t len)
{
	char why[128];

	if (ch->session && hf_session_cookie(ch->session) == cookie) {
		hf_evidence_add_kernel(&ch->ev, fact, event, len);
		switch (fact->word) {
		case HF_KERNEL_SAID_RETRANSMIT:
		case HF_KERNEL_SAID_SKB_DROP:
			hf_strf(why, sizeof(why),
				"the kernel reports %s on our socket (%u bytes unacknowledged)",
				fact->word == HF_KERNEL_SAID_RETRANSMIT ? "retransmits"
									: "a dropped packet",
				fact->unacked);
			/* A single dropped packet is TCP's daily life; one a firewall eats is not. */
			if (fact->word == HF_KERNEL_SAID_RETRANSMIT || ch->ev.firewall_drop)
				handle(ch, HF_EV_SUSPICION, why);
			break;
		case HF_KERNEL_SAID_CLOSED:
		case HF_KERNEL_SAID_DROPPED:
		case HF_KERNEL_SAID_RESET_SENT:
		case HF_KERNEL_SAID_RESET_RECEIVED:
			/* Read what is still there (a close frame) and then the error itself. */
			hf_session_poke(ch->session);
			break;
		case HF_KERNEL_SAID_NOTHING:
		case _HF_KERNEL_SAID_MAX:
			break;
		}
		return true;
	}
	if (hf_loss_late_kernel(ch->loss, cookie, fact, event, len))
		return true;
	if (ch->attempt && fact->word != HF_KERNEL_SAID_RETRANSMIT)
		hf_attempt_poke(ch->attempt, cookie);
	return false;
}

void hf_channel_network_changed(struct hf_channel *ch, const struct hf_net_table *t)
{
	struct sockaddr_storage local = {}, peer = {}, source = {};
	socklen_t local_len = sizeof(local), peer_len = sizeof(peer);
	int fd, r;

	if (!ch->session) {
		ch->max_segment = 0; /* another path may be wider */
		if (hf_backoff_kick(&ch->backoff, hf_now_monotonic_ns()))
			handle(ch, HF_EV_KICK, "the network changed");
		return;
	}
	fd = hf_link_fd(hf_session_link(ch->session));
	if (getsockname(fd, (struct sockaddr *)&local, &local_len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
		return; /* the socket's own error comes by itself */
	switch (hf_net_table_check(t, (struct sockaddr *)&local, ch->ev.net_text,
				   sizeof(ch->ev.net_text))) {
	case HF_NET_LINK_DOWN:
		ch->ev.net = HF_NET_SAID_LINK_DOWN;
		handle(ch, HF_EV_LOST, NULL);
		return;
	case HF_NET_ADDRESS_GONE:
		ch->ev.net = HF_NET_SAID_ADDRESS_LOST;
		handle(ch, HF_EV_LOST, NULL);
		return;
	case HF_NET_FINE:
	case HF_NET_UNKNOWN:
		break;
	}
	r = hf_net_source_for((struct sockaddr *)&peer, peer_len, &source);
	if (r == -ENETUNREACH || r == -EHOSTUNREACH || r == -EACCES) {
		ch->ev.net = HF_NET_SAID_NO_ROUTE;
		hf_strf(ch->ev.net_text, sizeof(ch->ev.net_text), "no route to %s any more: %s",
			ch->peer, strerror(-r));
		handle(ch, HF_EV_LOST, NULL);
	} else if (r >= 0 &&
		   !hf_net_same_address((struct sockaddr *)&source, (struct sockaddr *)&local) &&
		   hf_backoff_kick(&ch->backoff, hf_now_monotonic_ns())) {
		/* Counts only if the session does not prove itself. */
		ch->ev.net = HF_NET_SAID_NO_ROUTE;
		hf_strf(ch->ev.net_text, sizeof(ch->ev.net_text),
			"the route to %s now leaves from another address than %s", ch->peer,
			ch->local);
		handle(ch, HF_EV_KICK, ch->ev.net_text);
	}
}

void hf_channel_resumed(struct hf_channel *ch, uint64_t slept_ms)
{
	char slept[32], why[96];

	hf_format_duration(slept_ms * HF_NS_PER_MS, slept, sizeof(slept));
	hf_strf(why, sizeof(why), "this host slept for %s", slept);
	if (ch->session) {
		ch->ev.suspended = true;
		ch->ev.suspended_ms = slept_ms;
	}
	if (hf_backoff_kick(&ch->backoff, hf_now_monotonic_ns()))
		handle(ch, HF_EV_KICK, why);
}

void hf_channel_clock_set(struct hf_channel *ch)
{
	if (ch->machine.state == HF_CH_CLOCK_BAD &&
	    hf_backoff_kick(&ch->backoff, hf_now_monotonic_ns()))
		handle(ch, HF_EV_KICK, "the clock was set");
}

void hf_channel_last_exit(struct hf_channel *ch, const struct hf_sup_last_exit *e)
{
	hf_loss_last_exit(ch->loss, e);
}

/* ---- outside ---------------------------------------------------------------------------------- */

int hf_channel_send_batch(struct hf_channel *ch, Session__TelemetryBatch *batch)
{
	int r;

	if (!ch->uplink_told)
		return -EPIPE;
	r = hf_session_send(ch->session, HF_CAP_TELEMETRY, HF_MSG_BATCH, &batch->base);
	check_tcp_soon(ch);
	return r;
}

static int add_timer(struct hf_channel *ch, sd_event_source **ret, sd_event_time_handler_t fn,
		     const char *name)
{
	int r = sd_event_add_time(ch->event, ret, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_US, fn, ch);

	if (r < 0)
		return r;
	(void)sd_event_source_set_description(*ret, name); /* for debugging only */
	return sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

int hf_channel_new(const struct hf_channel_options *o, const struct hf_channel_callbacks *cb,
		   void *userdata, struct hf_channel **ret)
{
	_cleanup_(hf_channel_freep) struct hf_channel *ch = calloc(1, sizeof(*ch));
	int r;

	if (!ch)
		return -ENOMEM;
	ch->magic = CHANNEL_MAGIC;
	ch->event = sd_event_ref(o->event);
	ch->identity = o->identity;
	ch->outages = o->outages;
	ch->disk = o->disk;
	ch->blackbox = o->blackbox;
	ch->self = o->self;
	ch->config = o->config;
	ch->cb = *cb;
	ch->userdata = userdata;
	hf_machine_init(&ch->machine, hf_identity_enrolled(o->identity), hf_now_monotonic_ns());
	ch->state_since_unix_ns = hf_now_realtime_ns();
	hf_backoff_init(&ch->backoff, (uint32_t)o->config->channel.immediate_per_minute, NULL);
	hf_backoff_set_portal(&ch->backoff, 0, (uint32_t)o->config->channel.backoff_cap_s * 1000);
	r = hf_dialer_new(o->event, &ch->dialer);
	if (r >= 0)
		r = hf_target_new(o->state_dirfd, o->state_dir, o->identity, o->disk, ch->dialer,
				  &ch->target);
	if (r >= 0)
		r = hf_loss_new(o->event, o->outages, on_outage_finished, ch, &ch->loss);
	if (r >= 0)
		r = add_timer(ch, &ch->retry, on_retry, "retry");
	if (r >= 0)
		r = add_timer(ch, &ch->suspect, on_suspect, "suspect");
	if (r >= 0)
		r = add_timer(ch, &ch->tcp_check, on_tcp_check, "tcp check");
	if (r >= 0)
		r = add_timer(ch, &ch->goodbye, on_goodbye_over, "goodbye");
	if (r >= 0)
		r = add_timer(ch, &ch->ticket, on_ticket, "ticket");
	if (r < 0)
		return r;
	*ret = TAKE_PTR(ch);
	return 0;
}

static void watch_nothing(uint64_t cookie, bool on, void *userdata)
{
	(void)cookie;
	(void)on;
	(void)userdata;
}

struct hf_channel *hf_channel_free(struct hf_channel *ch)
{
	if (!ch)
		return NULL;
	/* Nobody listens any more. */
	ch->cb = (struct hf_channel_callbacks){.watch = watch_nothing};
	ch->attempt = hf_attempt_free(ch->attempt);
	ch->session = hf_session_free(ch->session);
	if (ch->welcome)
		session__welcome__free_unpacked(ch->welcome, NULL);
	drop_race(ch);
	hf_evidence_done(&ch->ev);
	ch->loss = hf_loss_free(ch->loss);
	ch->target = hf_target_free(ch->target);
	ch->dialer = hf_dialer_free(ch->dialer);
	sd_event_source_disable_unref(ch->retry);
	sd_event_source_disable_unref(ch->suspect);
	sd_event_source_disable_unref(ch->tcp_check);
	sd_event_source_disable_unref(ch->goodbye);
	sd_event_source_disable_unref(ch->ticket);
	sd_event_unref(ch->event);
	ch->magic = 0;
	free(ch);
	return NULL;
}

/* Something to dial with: a portal, and a certificate or a token. */
static bool configured(const struct hf_channel *ch)
{
	return hf_target_known(ch->target, ch->config) &&
	       (ch->machine.enrolled || hf_identity_token(ch->identity));
}

void hf_channel_start(struct hf_channel *ch)
{
	struct hf_blackbox_record before;

	memcpy(ch->box.boot_id, ch->self->host->boot_id, sizeof(ch->box.boot_id));
	ch->box.pid = (uint32_t)getpid();
	if (ch->blackbox && hf_blackbox_previous(ch->blackbox, &before)) {
		ch->box.server_unix_ns = before.server_unix_ns;
		if (memcmp(before.boot_id, ch->box.boot_id, sizeof(before.boot_id)) == 0)
			ch->box.server_at_boot_ns = before.server_at_boot_ns;
		hf_loss_from_predecessor(ch->loss, &before, ch->self->host->boot_id);
	}
	write_box(ch);
	if (configured(ch))
		handle(ch, HF_EV_CONFIGURED, "started");
	else
		hf_strlcpy(ch->why,
			   "not enrolled: run 'holdfast enroll --portal URL --token TOKEN'",
			   sizeof(ch->why));
}

void hf_channel_configure(struct hf_channel *ch, const struct hf_config *config,
			  bool portal_changed)
{
	ch->config = config;
	ch->backoff.immediate_per_minute =
		(uint32_t)config->channel.immediate_per_minute < HF_BACKOFF_IMMEDIATE_MAX
			? (uint32_t)config->channel.immediate_per_minute
			: HF_BACKOFF_IMMEDIATE_MAX;
	hf_backoff_set_portal(&ch->backoff, 0, (uint32_t)config->channel.backoff_cap_s * 1000);
	if (!portal_changed)
		return;
	hf_target_credentials_changed(ch->target);
	if (configured(ch))
		handle(ch, HF_EV_CONFIGURED, "the configuration changed");
}

void hf_channel_stop(struct hf_channel *ch, const char *reason)
{
	if (ch->stopping)
		return;
	ch->stopping = true;
	handle(ch, HF_EV_STOP, reason);
	hf_loss_stop(ch->loss);
	ch->box.stopped = 1;
	hf_strlcpy(ch->box.reason, reason, sizeof(ch->box.reason));
	/* The epoch stays in the box: the successor opens the outage that this stop begins. */
	write_box(ch);
	if (ch->session) {
		hf_target_save_ticket(ch->target);
		arm(ch->goodbye, GOODBYE_NS);
		hf_session_goodbye(ch->session, reason);
	} else {
		arm(ch->goodbye, 0);
	}
}

void hf_channel_enroll(struct hf_channel *ch, void (*done)(int r, const char *text, void *userdata),
		       void *userdata)
{
	tell_enroll(ch, -ECANCELED, "another enrolment took its place");
	ch->enroll_done = done;
	ch->enroll_userdata = userdata;
	hf_target_credentials_changed(ch->target);
	handle(ch, HF_EV_CONFIGURED, "enrolment asked for");
}

void hf_channel_forget(struct hf_channel *ch)
{
	if (ch->session) {
		hf_session_goodbye(ch->session, hf_cause_name(HF_CAUSE_AGENT_STOPPED));
		drop_session(ch);
	}
	tell_enroll(ch, -ECANCELED, "the identity was reset");
	ch->machine.enrolled = ch->machine.authorized = false;
	hf_target_forget(ch->target);
	handle(ch, HF_EV_RESET, "the identity was reset");
	hf_strlcpy(ch->why, "not enrolled: run 'holdfast enroll --portal URL --token TOKEN'",
		   sizeof(ch->why));
	write_box(ch);
}

void hf_channel_view(const struct hf_channel *ch, struct hf_channel_view *v)
{
	uint64_t now = hf_now_monotonic_ns();

	*v = (struct hf_channel_view){
		.state = ch->machine.state,
		.authorized = "unknown",
		.state_since_unix_ns = ch->state_since_unix_ns,
		.next_attempt_ms =
			ch->retry_at_ns > now ? (ch->retry_at_ns - now) / HF_NS_PER_MS : 0,
		.reconnects = ch->reconnects,
		.endpoint = hf_target_text(ch->target, ch->config),
	};
	hf_strlcpy(v->detail, ch->why, sizeof(v->detail));
	if (ch->attempt && !ch->session)
		hf_strf(v->detail, sizeof(v->detail), "%s%s%s",
			hf_phase_name(hf_attempt_phase(ch->attempt)), ch->why[0] ? "; " : "",
			ch->why);
	if (ch->machine.state == HF_CH_REVOKED)
		v->authorized = "revoked";
	if (!ch->session)
		return;
	v->up = true;
	v->authorized = hf_session_authorization(ch->session);
	v->epoch = hf_session_epoch(ch->session);
	v->session_since_unix_ns = ch->session_since_unix_ns;
	hf_strlcpy(v->local, ch->local, sizeof(v->local));
	hf_strlcpy(v->peer, ch->peer, sizeof(v->peer));
	hf_strlcpy(v->tls_version, hf_link_tls_version(hf_session_link(ch->session)),
		   sizeof(v->tls_version));
	hf_strlcpy(v->proxy, hf_target_proxy_shown(ch->target), sizeof(v->proxy));
	v->tls_resumed = hf_link_tls_resumed(hf_session_link(ch->session));
	v->rtt_us = hf_session_rtt_us(ch->session);
	v->clock_offset_ms = hf_session_clock_offset_ms(ch->session);
}
