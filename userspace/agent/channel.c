/* SPDX-License-Identifier: Apache-2.0 */
/* The channel's life, its transitions and what each action does. */
#include "userspace/agent/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/session.h"
#include "userspace/agent/channel_private.h"

#define TIMER_ACCURACY_US 100u              /* 0 would mean 250 ms */
#define SUSPECT_NS        (3 * HF_NS_PER_S) /* DESIGN section 6: 3 s ping */
#define HEAD_START_NS     (200 * HF_NS_PER_MS)
#define CLOCK_RETRY_NS    (30 * HF_NS_PER_S)
#define REVOKED_RETRY_NS  (900 * HF_NS_PER_S) /* an administrator may change their mind */
#define GOODBYE_NS        (1 * HF_NS_PER_S)
#define TICKET_NS         (500 * HF_NS_PER_MS) /* tickets follow the handshake */

static const char not_enrolled[] = "not enrolled: run 'holdfast enroll --portal URL --token TOKEN'";

void hf_channel_arm(sd_event_source *s, uint64_t in_ns)
{
	uint64_t at = (hf_now_monotonic_ns() + in_ns) / HF_NS_PER_US;

	/* Neither can fail for a timer of ours; if it did the watchdog would see us idle. */
	(void)sd_event_source_set_time(s, at);
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

void hf_channel_disarm(sd_event_source *s)
{
	(void)sd_event_source_set_enabled(s, SD_EVENT_OFF);
}

static void arm_retry(struct hf_channel *ch, uint64_t in_ns)
{
	ch->retry_at_ns = hf_now_monotonic_ns() + in_ns;
	hf_channel_arm(ch->retry, in_ns);
}

void hf_channel_disarm_retry(struct hf_channel *ch)
{
	ch->retry_at_ns = 0;
	hf_channel_disarm(ch->retry);
}

void hf_channel_write_box(struct hf_channel *ch)
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
		hf_channel_handle(ch, HF_EV_DUE, "at once");
	else
		arm_retry(ch, delay);
}

static void on_up(struct hf_channel *ch)
{
	uint64_t now = hf_now_monotonic_ns();

	hf_channel_disarm_retry(ch);
	hf_channel_disarm(ch->suspect);
	hf_channel_drop_race(ch);
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
	hf_channel_write_box(ch);
	hf_channel_tell_uplink(ch);
	hf_channel_send_outages(ch);
	hf_channel_renew_certificate(ch);
	hf_channel_arm(ch->ticket, TICKET_NS);
	hf_channel_tell_enroll(ch, 0, hf_ch_state_name(ch->machine.state));
}

static void drop_all(struct hf_channel *ch, const char *said)
{
	hf_channel_drop_trial(ch);
	hf_channel_drop_attempt(ch);
	hf_channel_disarm_retry(ch);
	if (!ch->session)
		return;
	if (said && !ch->ev.portal_said) {
		ch->ev.portal_said = true;
		ch->ev.portal_cause = HF_CAUSE_REVOKED;
		hf_strlcpy(ch->ev.portal_text, said, sizeof(ch->ev.portal_text));
	}
	(void)hf_channel_lose_session(ch);
}

static void perform(struct hf_channel *ch, enum hf_ch_action action)
{
	struct hf_verdict v;

	switch (action) {
	case HF_DO_NOTHING:
		return;
	case HF_DO_DIAL:
		hf_channel_dial(ch);
		return;
	case HF_DO_REDIAL:
		hf_channel_drop_trial(ch);
		hf_channel_drop_attempt(ch);
		hf_channel_drop_session(ch);
		hf_channel_dial(ch);
		return;
	case HF_DO_WAIT:
		if (ch->machine.state == HF_CH_CLOCK_BAD)
			arm_retry(ch, CLOCK_RETRY_NS);
		else
			wait_by_backoff(ch, HF_BACKOFF_FAILURE, ch->failure.retry_after_ms,
					ch->failure.spread_ms);
		return;
	case HF_DO_LOSE:
		v = hf_channel_lose_session(ch);
		wait_by_backoff(ch, v.lone ? HF_BACKOFF_LONE_LOSS : HF_BACKOFF_FAILURE, 0, 0);
		return;
	case HF_DO_ADOPT:
		on_up(ch);
		return;
	case HF_DO_MOVE:
		hf_channel_drop_attempt(ch);
		hf_channel_disarm_retry(ch);
		if (ch->session) {
			hf_session_goodbye(ch->session, hf_cause_name(HF_CAUSE_AGENT_STOPPED));
			hf_channel_drop_session(ch);
		}
		return;
	case HF_DO_PROVE:
		hf_channel_drop_race(ch);
		hf_channel_suspect_path_mtu(ch);
		hf_channel_arm(ch->suspect, SUSPECT_NS);
		hf_session_probe(ch->session);
		if (ch->session && ch->machine.state == HF_CH_SUSPECT)
			hf_channel_dial(ch);
		return;
	case HF_DO_PROBE:
		/* Most likely it lives: a second connection only if it does not answer at once. */
		hf_channel_drop_race(ch);
		hf_channel_arm(ch->suspect, SUSPECT_NS);
		arm_retry(ch, HEAD_START_NS);
		hf_session_probe(ch->session);
		return;
	case HF_DO_RERACE:
		hf_channel_dial(ch);
		return;
	case HF_DO_CALM:
		hf_channel_drop_attempt(ch);
		hf_channel_disarm_retry(ch);
		ch->max_segment = ch->safe_segment;
		hf_channel_drop_race(ch);
		hf_channel_disarm(ch->suspect);
		hf_evidence_done(&ch->ev);
		return;
	case HF_DO_OVERTAKE:
		v = hf_channel_lose_session(ch);
		if (ch->machine.state == HF_CH_BACKOFF)
			wait_by_backoff(ch, v.lone ? HF_BACKOFF_LONE_LOSS : HF_BACKOFF_FAILURE, 0,
					0);
		return;
	case HF_DO_UPDATE:
		hf_channel_tell_uplink(ch);
		hf_channel_send_outages(ch);
		hf_channel_write_box(ch);
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
		hf_channel_drop_trial(ch);
		hf_channel_drop_attempt(ch);
		hf_channel_disarm_retry(ch);
		return;
	case _HF_DO_MAX:
		break;
	}
	hf_assert(false);
}

void hf_channel_handle(struct hf_channel *ch, enum hf_ch_event ev, const char *why)
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

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	(void)s;
	(void)usec;
	ch->retry_at_ns = 0;
	hf_channel_handle(ch, HF_EV_DUE, "the wait is over");
	return 0;
}

static int on_goodbye_over(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	(void)s;
	(void)usec;
	hf_channel_drop_session(ch);
	ch->cb.stopped(ch->userdata);
	return 0;
}

static int on_ticket(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	(void)s;
	(void)usec;
	hf_target_save_ticket(ch->target);
	return 0;
}

void hf_channel_status_changed(struct hf_channel *ch)
{
	if (!ch->session)
		return;
	hf_session_status_changed(ch->session);
	hf_session_probe(ch->session); /* the next message carries it: let there be one */
}

int hf_channel_send_batch(struct hf_channel *ch, Session__TelemetryBatch *batch)
{
	int r;

	if (!ch->uplink_told)
		return -EPIPE;
	r = hf_session_send(ch->session, HF_CAP_TELEMETRY, HF_MSG_BATCH, &batch->base);
	hf_channel_check_tcp_soon(ch);
	return r;
}

int hf_channel_send_action(struct hf_channel *ch, const char *type, ProtobufCMessage *body)
{
	int r;

	if (!ch->uplink_told)
		return -EPIPE;
	r = hf_session_send(ch->session, HF_CAP_ACTION, type, body);
	hf_channel_check_tcp_soon(ch);
	return r;
}

uint64_t hf_channel_portal_unix_ns(const struct hf_channel *ch)
{
	uint64_t at_boot_ns, unix_ns;

	if (!ch->session)
		return 0;
	unix_ns = hf_session_server_unix_ns(ch->session, &at_boot_ns);
	return unix_ns ? unix_ns + (hf_now_boottime_ns() - at_boot_ns) : 0;
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
	ch->magic = HF_CHANNEL_MAGIC;
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
		r = hf_loss_new(o->event, o->outages, hf_channel_on_outage_finished, ch, &ch->loss);
	if (r >= 0)
		r = add_timer(ch, &ch->retry, on_retry, "retry");
	if (r >= 0)
		r = add_timer(ch, &ch->suspect, hf_channel_on_suspect, "suspect");
	if (r >= 0)
		r = add_timer(ch, &ch->tcp_check, hf_channel_on_tcp_check, "tcp check");
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
	ch->trial.attempt = hf_attempt_free(ch->trial.attempt);
	ch->session = hf_session_free(ch->session);
	if (ch->welcome)
		session__welcome__free_unpacked(ch->welcome, NULL);
	hf_channel_drop_race(ch);
	hf_evidence_done(&ch->ev);
	ch->loss = hf_loss_free(ch->loss);
	ch->target = hf_target_free(ch->target);
	ch->dialer = hf_dialer_free(ch->dialer);
	ch->trial.target = hf_target_free(ch->trial.target);
	ch->trial.dialer = hf_dialer_free(ch->trial.dialer);
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
	hf_channel_write_box(ch);
	if (configured(ch))
		hf_channel_handle(ch, HF_EV_CONFIGURED, "started");
	else
		hf_strlcpy(ch->why, not_enrolled, sizeof(ch->why));
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
		hf_channel_handle(ch, HF_EV_CONFIGURED, "the configuration changed");
}

void hf_channel_stop(struct hf_channel *ch, const char *reason)
{
	if (ch->stopping)
		return;
	ch->stopping = true;
	hf_channel_handle(ch, HF_EV_STOP, reason);
	hf_loss_stop(ch->loss);
	ch->box.stopped = 1;
	hf_strlcpy(ch->box.reason, reason, sizeof(ch->box.reason));
	/* The epoch stays in the box: the successor opens the outage that this stop begins. */
	hf_channel_write_box(ch);
	if (ch->session) {
		hf_target_save_ticket(ch->target);
		hf_channel_arm(ch->goodbye, GOODBYE_NS);
		hf_session_goodbye(ch->session, reason);
	} else {
		hf_channel_arm(ch->goodbye, 0);
	}
}

void hf_channel_enroll(struct hf_channel *ch, void (*done)(int r, const char *text, void *userdata),
		       void *userdata)
{
	hf_channel_tell_enroll(ch, -ECANCELED, "another enrolment took its place");
	ch->enroll_done = done;
	ch->enroll_userdata = userdata;
	hf_target_credentials_changed(ch->target);
	hf_channel_handle(ch, HF_EV_CONFIGURED, "enrolment asked for");
}

void hf_channel_forget(struct hf_channel *ch)
{
	if (ch->session) {
		hf_session_goodbye(ch->session, hf_cause_name(HF_CAUSE_AGENT_STOPPED));
		hf_channel_drop_session(ch);
	}
	hf_channel_tell_enroll(ch, -ECANCELED, "the identity was reset");
	ch->machine.enrolled = ch->machine.authorized = false;
	hf_target_forget(ch->target);
	hf_channel_handle(ch, HF_EV_RESET, "the identity was reset");
	hf_strlcpy(ch->why, not_enrolled, sizeof(ch->why));
	hf_channel_write_box(ch);
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
		.tls_handshakes = ch->tls_handshakes,
		.tls_resumptions = ch->tls_resumptions,
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
