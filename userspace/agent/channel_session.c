/* SPDX-License-Identifier: Apache-2.0 */
/* What the portal says on the session, outage records on their way, the end of a session. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/session.h"
#include "userspace/agent/channel_private.h"
#include "userspace/agent/spool.h"
#include "userspace/net/websocket.h"

/* Records sent and not acknowledged: a window that fits the send queue many times over. */
#define OUTAGES_IN_FLIGHT 32u
/* Between two requests for a new certificate. */
#define RENEWAL_PAUSE_MIN_S 10
#define RENEWAL_PAUSE_MAX_S 3600

void hf_channel_tell_uplink(struct hf_channel *ch)
{
	bool want = ch->session && ch->welcome && ch->machine.authorized;

	if (want == ch->uplink_told)
		return;
	ch->uplink_told = want;
	ch->cb.uplink(want ? ch->welcome : NULL, ch->userdata);
}

void hf_channel_drop_session(struct hf_channel *ch)
{
	uint64_t cookie;

	hf_channel_disarm(ch->suspect);
	hf_channel_disarm(ch->tcp_check);
	ch->tcp_check_armed = false;
	hf_channel_disarm(ch->ticket);
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
	hf_channel_tell_uplink(ch);
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
struct hf_verdict hf_channel_lose_session(struct hf_channel *ch)
{
	struct hf_verdict v;
	uint64_t cookie = hf_session_cookie(ch->session);

	unwatch_sealed(ch);
	ch->ev.noticed_boot_ns = hf_now_boottime_ns();
	ch->ev.last_heard_boot_ns = hf_link_last_heard_ns(hf_session_link(ch->session));
	v = hf_loss_begin(ch->loss, &ch->ev, cookie, hf_session_epoch(ch->session));
	if (ch->race) {
		hf_loss_attempt(ch->loss, ch->race);
		hf_channel_drop_race(ch);
	}
	hf_channel_drop_session(ch);
	hf_channel_write_box(ch);
	return v;
}

void hf_channel_send_outages(struct hf_channel *ch)
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

void hf_channel_on_outage_finished(Bus__Outage *rec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	(void)rec;
	unwatch_sealed(ch);
	hf_channel_send_outages(ch);
	hf_channel_write_box(ch);
}

static void on_outage_ack(const char *id, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	if (!hf_outages_ack(ch->outages, id))
		return;
	if (ch->outages_in_flight > 0)
		ch->outages_in_flight--;
	hf_channel_send_outages(ch);
}

static void on_proof(void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	ch->box.server_unix_ns = hf_session_server_unix_ns(ch->session, &ch->box.server_at_boot_ns);
	hf_channel_write_box(ch);
	hf_channel_renew_certificate(ch);
	hf_channel_handle(ch, HF_EV_PROOF, "the portal's registry answered");
}

static void set_authorization(struct hf_channel *ch, const char *authorization)
{
	char why[80];

	if (hf_streq(authorization, "revoked")) {
		hf_channel_handle(ch, HF_EV_REVOKED, "revoked: the portal revoked this endpoint");
		return;
	}
	ch->machine.authorized = hf_streq(authorization, "authorized");
	hf_strf(why, sizeof(why), "the portal says: %s", authorization);
	hf_channel_handle(ch, HF_EV_AUTH_CHANGED, why);
}

static void on_authorization(const char *authorization, void *userdata)
{
	set_authorization(HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC), authorization);
}

static void on_session_lost(const struct hf_session_loss *loss, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);
	struct hf_evidence *ev = &ch->ev;

	if (ch->stopping) {
		hf_channel_drop_session(ch);
		hf_channel_disarm(ch->goodbye);
		ch->cb.stopped(ch->userdata);
		return;
	}
	ev->heartbeat_missed = loss->heartbeat_missed;
	ev->tcp_acked = loss->tcp_acked;
	ev->through_proxy = hf_target_proxy(ch->target) != NULL;
	ev->registry_lost = loss->registry_lost;
	if (loss->end) {
		const struct hf_link_end *e = loss->end;

		ev->err = e->err;
		ev->tls = e->tls;
		hf_strlcpy(ev->tls_text, e->tls_text, sizeof(ev->tls_text));
		ev->close_code = e->close_code;
		hf_strlcpy(ev->close_reason, e->close_reason, sizeof(ev->close_reason));
		/* By our own trial of offered settings at the same portal: it is the session to be. */
		if (e->close_code == HF_WS_CLOSE_SUPERSEDED && ch->trial.attempt) {
			hf_channel_handle(ch, HF_EV_MOVED,
					  "the settings offered by the portal work");
			return;
		}
		/* Superseded by our own racing connection, whose welcome is on its way. */
		if (e->close_code == HF_WS_CLOSE_SUPERSEDED && ch->machine.racing) {
			ev->close_code = 0;
			ev->suspect_over = true;
		}
		if (e->close_code == HF_WS_CLOSE_TOO_BIG && ch->uplink_told)
			ch->cb.too_big(ch->userdata);
		ev->violation = e->violation;
		hf_strlcpy(ev->violation_text, e->violation_text, sizeof(ev->violation_text));
		if (e->close_code &&
		    hf_close_cause(e->close_code, e->close_reason) == HF_CAUSE_REVOKED) {
			hf_channel_handle(ch, HF_EV_REVOKED,
					  "revoked: the portal revoked this endpoint");
			return;
		}
	}
	hf_channel_handle(ch, HF_EV_LOST, NULL);
}

static void on_hold(const Session__Hold *hold, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);
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
	hf_channel_handle(ch, cause == HF_CAUSE_REVOKED ? HF_EV_REVOKED : HF_EV_HOLD, why);
}

static void on_server_error(const Opamp__ServerErrorResponse *e, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);
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
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	remember_ack(ch, ack);
	ch->cb.telemetry_ack(ack, ch->userdata);
}

static int on_action(const char *type, const void *data, size_t len, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	/* Not authorized: the portal sends none, and who does is not answered. */
	return ch->uplink_told ? ch->cb.action(type, data, len, ch->userdata) : 0;
}

static void on_certificate_renewed(int r, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	if (r < 0) {
		hf_error_r(r, "store the renewed certificate");
		return;
	}
	/* The next connection uses it; the present one goes on. */
	ch->renewal_asked_ns = 0;
	ch->cert_refused = false;
	hf_target_credentials_changed(ch->target);
	hf_notice("certificate renewed, valid until %lld",
		  (long long)hf_identity_cert_not_after(ch->identity));
}

static void on_offer(const Opamp__ConnectionSettingsOffers *offer, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);
	struct hf_err err = {};

	hf_channel_offered(ch, offer);
	if (!offer->opamp || !offer->opamp->certificate || offer->opamp->certificate->cert.len == 0)
		return;
	if (hf_identity_store(ch->identity, offer->opamp->certificate, on_certificate_renewed, ch,
			      &err) < 0)
		hf_error("certificate offered by the portal: %s", err.msg);
}

static void on_uid_stored(int r, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	hf_notice("the portal gave this agent the instance uid %s",
		  hf_identity_uid_text(ch->identity));
	if (r < 0)
		hf_error_r(r, "keep the new instance uid over a restart");
	if (ch->session)
		hf_session_probe(ch->session); /* the first message with it */
}

static void on_new_uid(const uint8_t uid[static 16], void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);
	int r;

	if (memcmp(uid, hf_identity_uid(ch->identity), 16) == 0)
		return;
	r = hf_identity_set_uid(ch->identity, uid, on_uid_stored, ch);
	if (r < 0)
		hf_error_r(r, "store the instance uid that the portal gave");
}

static void on_asked(void *userdata)
{
	hf_channel_check_tcp_soon(HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC));
}

static void on_restart(void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	ch->cb.restart(ch->userdata);
}

static void on_writable(void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	hf_channel_send_outages(ch);
	ch->cb.writable(ch->userdata);
}

const struct hf_session_callbacks hf_channel_session_callbacks = {
	.proof = on_proof,
	.authorization = on_authorization,
	.lost = on_session_lost,
	.hold = on_hold,
	.server_error = on_server_error,
	.telemetry_ack = on_telemetry_ack,
	.outage_ack = on_outage_ack,
	.action = on_action,
	.offer = on_offer,
	.new_uid = on_new_uid,
	.restart = on_restart,
	.asked = on_asked,
	.writable = on_writable,
};

int64_t hf_channel_now_s(const struct hf_channel *ch)
{
	uint64_t boot = hf_now_boottime_ns(), real = hf_now_realtime_ns();

	/* The issuer's clock decides over its certificates; ours may have been set to 1970. */
	if (ch->box.server_unix_ns && ch->box.server_at_boot_ns &&
	    ch->box.server_at_boot_ns <= boot)
		real = ch->box.server_unix_ns + (boot - ch->box.server_at_boot_ns);
	return (int64_t)(real / HF_NS_PER_S);
}

/* Again, where an answer got lost: often enough to be in time, seldom enough for a portal that is ill. */
static uint64_t renewal_pause_ns(int64_t left_s)
{
	int64_t s = left_s / 8;

	s = s > RENEWAL_PAUSE_MAX_S ? RENEWAL_PAUSE_MAX_S : s;
	return (uint64_t)(s < RENEWAL_PAUSE_MIN_S ? RENEWAL_PAUSE_MIN_S : s) * HF_NS_PER_S;
}

void hf_channel_renew_certificate(struct hf_channel *ch)
{
	int64_t from = hf_identity_cert_not_before(ch->identity);
	int64_t to = hf_identity_cert_not_after(ch->identity);
	int64_t left = to - hf_channel_now_s(ch);
	uint64_t now_ns = hf_now_monotonic_ns();
	struct hf_buf csr = {};
	int r;

	if (!ch->session || !ch->machine.enrolled || !ch->machine.authorized ||
	    left > (to - from) / 3)
		return;
	if (ch->renewal_asked_ns && now_ns - ch->renewal_asked_ns < renewal_pause_ns(left))
		return;
	ch->renewal_asked_ns = now_ns;
	r = hf_identity_csr(ch->identity, &csr);
	if (r >= 0)
		r = hf_session_send_csr(ch->session, csr.data, csr.len);
	hf_buf_done(&csr);
	if (r < 0)
		hf_warn_r(r, "ask for a new certificate, trying again later");
}
