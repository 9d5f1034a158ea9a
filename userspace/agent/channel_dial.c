/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts: what each is made with, what comes of it, enrolment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "userspace/agent/channel_private.h"
#include "userspace/agent/clockwatch.h"
#include "userspace/proto/frame.h"

/* Another environment is a mistake in a configuration: no use in asking often. */
#define ENVIRONMENT_RETRY_MS 60000u

static void attempt_failed(struct hf_channel *ch, const struct hf_failure *f);

void hf_channel_drop_attempt(struct hf_channel *ch)
{
	ch->attempt = hf_attempt_free(ch->attempt);
	ch->machine.racing = false;
}

void hf_channel_drop_race(struct hf_channel *ch)
{
	if (ch->race)
		bus__attempt__free_unpacked(ch->race, NULL);
	ch->race = NULL;
}

/*
 * Our certificate is too old to be let in with: the portal takes it as a proof of the key and gives
 * the next one.
 */
static bool wants_reissue(const struct hf_channel *ch)
{
	return ch->machine.enrolled && !ch->session &&
	       (ch->cert_refused ||
		hf_channel_now_s(ch) >= hf_identity_cert_not_after(ch->identity));
}

int hf_channel_first_message(struct hf_channel *ch, uint64_t epoch, struct hf_buf *ret)
{
	struct hf_hello hello = {
		.self = ch->self,
		.epoch = epoch,
		.attempt_started_boot_ns = hf_now_boottime_ns(),
		.last_close = hf_loss_last_cause(ch->loss),
		.streams = ch->cb.streams,
		.userdata = ch->userdata,
	};
	struct hf_buf csr = {};
	int r = 0;

	if (!ch->machine.enrolled || wants_reissue(ch)) {
		r = hf_identity_csr(ch->identity, &csr);
		hello.csr = csr.data;
		hello.csr_len = csr.len;
	}
	if (r >= 0)
		r = hf_session_first_message(&hello, ret);
	hf_buf_done(&csr);
	return r;
}

static int first_message(struct hf_buf *ret, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	return hf_channel_first_message(ch, ch->attempt_epoch, ret);
}

static void on_socket_made(uint64_t cookie, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	ch->cb.watch(cookie, true, ch->userdata);
}

static void on_socket_gone(uint64_t cookie, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	ch->cb.watch(cookie, false, ch->userdata);
}

void hf_channel_tell_enroll(struct hf_channel *ch, int r, const char *text)
{
	void (*done)(int r, const char *text, void *userdata) = TAKE_PTR(ch->enroll_done);

	if (done)
		done(r, text, ch->enroll_userdata);
}

static void attempt_failed(struct hf_channel *ch, const struct hf_failure *f)
{
	char why[320];

	ch->failure = *f;
	/* Before that it would be the portal's certificate, judged by us. */
	if (f->cause == HF_CAUSE_CERT_EXPIRED &&
	    (f->phase == HF_PHASE_UPGRADE || f->phase == HF_PHASE_HELLO))
		ch->cert_refused = true;
	hf_strf(why, sizeof(why), "%s: %s", hf_cause_name(f->cause), f->text);
	hf_channel_tell_enroll(ch, f->err ? -f->err : -EPROTO, why);
	hf_loss_hint(ch->loss, f->tls, f->dns, f->proxy);
	if (f->cause == HF_CAUSE_CLOCK_SKEW)
		ch->by_own_clock = !ch->by_own_clock;
	if (f->cause == HF_CAUSE_PMTU_BLACKHOLE) {
		/* The next dial heals it; and it explains why the session went silent. */
		ch->max_segment = HF_ATTEMPT_SAFE_MSS;
		ch->ev.pmtu = true;
		hf_loss_amend(ch->loss, HF_CAUSE_BLACKHOLE, f->cause, f->text);
	}
	if (ch->session) {
		/* The race was lost; the session is judged by its own deadline. */
		hf_info("attempt beside the session failed: %s", why);
		if (f->cause == HF_CAUSE_PMTU_BLACKHOLE) /* again, with what passes */
			hf_channel_arm(ch->retry, 0);
		return;
	}
	switch (hf_failure_remedy(f)) {
	case HF_REMEDY_RETRY:
		hf_target_next(ch->target);
		hf_channel_handle(ch, HF_EV_FAILED, why);
		return;
	case HF_REMEDY_HOLD:
		ch->wait_ms = f->retry_after_ms;
		ch->spread_ms = f->spread_ms;
		if (f->cause == HF_CAUSE_PORTAL_OVERLOAD)
			hf_target_next(ch->target); /* another one may have room by then */
		hf_channel_handle(ch, HF_EV_HOLD, why);
		return;
	case HF_REMEDY_REVOKED:
		hf_channel_handle(ch, HF_EV_REVOKED, why);
		return;
	case HF_REMEDY_CLOCK:
		hf_channel_handle(ch, HF_EV_CLOCK, why);
		return;
	case _HF_REMEDY_MAX:
		break;
	}
	hf_assert(false);
}

static void on_certificate_stored(int r, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);
	char why[160];

	if (r < 0) {
		struct hf_failure f;

		hf_failure_set(&f, HF_CAUSE_UNKNOWN, HF_PHASE_HELLO,
			       "cannot store the certificate: %s", strerror(-r));
		attempt_failed(ch, &f);
		return;
	}
	if (ch->machine.enrolled) {
		hf_strf(why, sizeof(why), "new certificate by proof of the key");
		hf_notice("certificate had expired; %s, valid until %lld", why,
			  (long long)hf_identity_cert_not_after(ch->identity));
	} else {
		hf_strf(why, sizeof(why), "enrolled as '%s'",
			hf_identity_endpoint_id(ch->identity));
	}
	ch->machine.enrolled = true;
	ch->cert_refused = false;
	ch->renewal_asked_ns = 0;
	hf_target_credentials_changed(ch->target);
	hf_channel_handle(ch, HF_EV_ENROLLED, why);
}

bool hf_channel_answer_fits(const struct hf_channel *ch, const struct hf_attempt_result *res,
			    uint64_t epoch, struct hf_failure *f)
{
	const Session__Welcome *w = res->welcome;

	if (!w)
		return true;
	if (w->environment[0] && !hf_streq(w->environment, ch->self->environment)) {
		hf_failure_set(f, HF_CAUSE_ENVIRONMENT_MISMATCH, HF_PHASE_HELLO,
			       "this host is of environment '%s', the portal of '%.32s'",
			       ch->self->environment, w->environment);
		f->retry_after_ms = ENVIRONMENT_RETRY_MS;
		return false;
	}
	if (w->epoch != epoch) {
		hf_failure_set(f, HF_CAUSE_PROTOCOL_ERROR, HF_PHASE_HELLO,
			       "the portal welcomed epoch %llu, we are %llu",
			       (unsigned long long)w->epoch, (unsigned long long)epoch);
		return false;
	}
	if (hf_streq(w->authorization, "revoked")) {
		hf_failure_set(f, HF_CAUSE_REVOKED, HF_PHASE_HELLO,
			       "the portal revoked this endpoint");
		return false;
	}
	return true;
}

void hf_channel_take_link(struct hf_channel *ch, struct hf_attempt_result *res)
{
	const struct hf_session_options o = {
		.event = ch->event,
		.self = ch->self,
		.epoch = ch->attempt_epoch,
		.welcome = res->welcome,
		.heartbeat_s = ch->offered_heartbeat_s ? ch->offered_heartbeat_s
						       : (uint32_t)ch->config->channel.heartbeat_s,
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

	if (!hf_channel_answer_fits(ch, res, ch->attempt_epoch, &f)) {
		r = -EPROTO;
	} else {
		r = res->welcome && !welcome
			    ? -ENOMEM
			    : hf_session_new(&o, res->link, &hf_channel_session_callbacks, ch,
					     &session);
		if (r < 0)
			hf_failure_set(&f, HF_CAUSE_UNKNOWN, HF_PHASE_HELLO,
				       "cannot start the session: %s", strerror(-r));
	}
	if (r < 0) {
		ch->cb.watch(hf_link_cookie(res->link), false, ch->userdata);
		if (welcome)
			session__welcome__free_unpacked(welcome, NULL);
		hf_channel_drop_attempt(ch);
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
		(void)hf_channel_lose_session(ch);
		hf_loss_attempt(ch->loss, &res->record);
	}
	ch->session = session;
	ch->by_own_clock = false;
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
	hf_channel_drop_attempt(ch);
	hf_channel_handle(ch, HF_EV_UP, why);
	/* What else the answer carries; the session may be gone after it. */
	if (ch->session == session)
		hf_session_handle(session, res->answer);
}

void hf_channel_count_tls(struct hf_channel *ch, const struct hf_attempt_result *res)
{
	if (!res->ok && res->failure.phase <= HF_PHASE_TLS)
		return;
	ch->tls_handshakes++;
	ch->tls_resumptions += res->record.tls_resumed ? 1 : 0;
}

static void on_attempt_done(struct hf_attempt_result *res, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	hf_channel_count_tls(ch, res);
	if (ch->session) {
		hf_channel_drop_race(ch);
		if (!res->ok)
			ch->race = hf_pb_dup(&res->record.base); /* without memory: not recorded */
	} else {
		hf_loss_attempt(ch->loss, &res->record);
	}
	if (!res->ok) {
		struct hf_failure f = res->failure;

		hf_channel_drop_attempt(ch);
		attempt_failed(ch, &f);
	} else if (res->certificate) {
		struct hf_err err = {};
		int r = hf_identity_store(ch->identity,
					  res->answer->connection_settings->opamp->certificate,
					  on_certificate_stored, ch, &err);

		if (r < 0) {
			struct hf_failure f;

			hf_failure_set(&f, HF_CAUSE_PROTOCOL_ERROR, HF_PHASE_HELLO, "%s", err.msg);
			hf_channel_drop_attempt(ch);
			attempt_failed(ch, &f);
		} else {
			/* The enrolling connection has done its work. */
			ch->cb.watch(hf_link_cookie(res->link), false, ch->userdata);
			hf_session_part(ch->self, res->link, "enrolled");
		}
	} else {
		hf_channel_take_link(ch, res);
	}
}

/*
 * What time it is at least, by the portal's word on an earlier connection; 0: it never told. A wall
 * clock that is proven wrong then does not keep certificates from being verified.
 */
static int64_t proven_time_s(const struct hf_channel *ch)
{
	uint64_t boot = hf_now_boottime_ns(), at = ch->box.server_unix_ns;

	if (at && ch->box.server_at_boot_ns && ch->box.server_at_boot_ns <= boot)
		at += boot - ch->box.server_at_boot_ns;
	return (int64_t)(at / HF_NS_PER_S);
}

void hf_channel_attempt_options(struct hf_channel *ch, struct hf_attempt_options *o)
{
	const struct hf_config *c = ch->config;

	*o = (struct hf_attempt_options){
		.event = ch->event,
		.max_segment = ch->max_segment,
		.deadline_ms = (uint32_t)c->channel.connect_timeout_s * 1000,
		.user_timeout_ms = (uint32_t)c->channel.user_timeout_s * 1000,
		.keepalive_idle_s = (uint32_t)c->channel.keepalive_s,
		.clock_bad = hf_clock_is_bad(ch->box.server_unix_ns, ch->box.server_at_boot_ns,
					     hf_now_realtime_ns(), hf_now_boottime_ns()),
		.socket_made = on_socket_made,
		.socket_gone = on_socket_gone,
		.userdata = ch,
	};
	/* The portal's clock may have been the wrong one: by turns, so that neither locks us out. */
	hf_target_set_time(ch->target, o->clock_bad && !ch->by_own_clock ? proven_time_s(ch) : 0);
}

void hf_channel_dial(struct hf_channel *ch)
{
	const struct hf_config *c = ch->config;
	struct hf_attempt_options o;
	struct hf_failure f;
	struct hf_err err = {};
	int r;

	hf_channel_drop_attempt(ch);
	hf_channel_disarm_retry(ch);
	hf_channel_attempt_options(ch, &o);
	o.dialer = ch->dialer;
	o.first_message = first_message;
	o.done = on_attempt_done;
	r = hf_target_prepare(ch->target, c, ch->machine.enrolled, !ch->session, &o.tls, &err);
	if (r >= 0) {
		o.url = hf_target_url(ch->target);
		o.proxy = hf_target_proxy(ch->target);
		o.headers = hf_target_headers(ch->target);
		o.token = ch->machine.enrolled ? NULL : hf_identity_token(ch->identity);
		o.wants_certificate = wants_reissue(ch);
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
