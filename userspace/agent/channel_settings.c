/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection settings that a server offers. They are tried by an attempt of their own beside the
 * present session; only when the server they name has answered as ours does, they become the
 * settings, its connection becomes the session, and the old one is left. Whatever fails before that
 * leaves everything as it was, and is told.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "userspace/agent/channel_private.h"

static void report(struct hf_channel *ch, const uint8_t *hash, size_t len,
		   enum hf_settings_status status, const char *error)
{
	struct hf_settings_report *r = &ch->self->settings;

	if (len > sizeof(r->hash))
		len = 0; /* no hash of ours: it could not be told apart from another */
	if (len > 0)
		memmove(r->hash, hash, len);
	r->hash_len = len;
	r->status = status;
	hf_strlcpy(r->error, error, sizeof(r->error));
	hf_sanitize(r->error);
	if (ch->session)
		hf_session_report_settings(ch->session);
}

static void report_again(struct hf_channel *ch, enum hf_settings_status status, const char *error)
{
	report(ch, ch->self->settings.hash, ch->self->settings.hash_len, status, error);
}

static void free_trial(struct hf_channel *ch)
{
	ch->trial.attempt = hf_attempt_free(ch->trial.attempt);
	ch->trial.target = hf_target_free(ch->trial.target);
	ch->trial.dialer = hf_dialer_free(ch->trial.dialer);
}

void hf_channel_drop_trial(struct hf_channel *ch)
{
	if (!ch->trial.target)
		return;
	free_trial(ch);
	report_again(ch, HF_SETTINGS_FAILED, "interrupted before the offered server answered");
}

static void trial_failed(struct hf_channel *ch, enum hf_cause cause, const char *text)
{
	char why[320];

	hf_strf(why, sizeof(why), "%s: %s", hf_cause_name(cause), text);
	hf_warn("the connection settings offered do not work, keeping the old ones: %s", why);
	free_trial(ch);
	report_again(ch, HF_SETTINGS_FAILED, why);
	/* The old session ended for the sake of the new one: back to the old server. */
	if (!ch->session && !ch->attempt && ch->machine.state == HF_CH_CONNECTING)
		hf_channel_dial(ch);
}

static void on_saved(int r, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	if (r < 0) {
		hf_error_r(r, "keep the offered connection settings over a restart");
		report_again(ch, HF_SETTINGS_FAILED, "in use, but they cannot be stored");
	} else {
		report_again(ch, HF_SETTINGS_APPLIED, "");
	}
}

static void commit(struct hf_channel *ch)
{
	int r;

	hf_target_adopt(ch->target, ch->trial.target);
	ch->trial.target = hf_target_free(ch->trial.target);
	r = hf_settings_save(hf_target_settings(ch->target), ch->disk, on_saved, ch);
	if (r < 0)
		on_saved(r, ch);
}

static void on_trial_done(struct hf_attempt_result *res, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);
	struct hf_failure f = res->failure;
	char why[160];

	hf_channel_count_tls(ch, res);
	if (!res->ok || !hf_channel_answer_fits(ch, res, ch->trial.epoch, &f)) {
		if (res->ok)
			ch->cb.watch(hf_link_cookie(res->link), false, ch->userdata);
		trial_failed(ch, f.cause, f.text);
		return;
	}
	hf_strf(why, sizeof(why), "the settings offered by the portal work: %.100s",
		hf_target_text(ch->trial.target, ch->config));
	hf_channel_handle(ch, HF_EV_MOVED, why);
	if (ch->machine.state != HF_CH_CONNECTING) {
		/* Held, revoked, stopping: not the time to move. */
		ch->cb.watch(hf_link_cookie(res->link), false, ch->userdata);
		hf_channel_drop_trial(ch);
		return;
	}
	/* No stream of the old settings is left. */
	commit(ch);
	ch->attempt = TAKE_PTR(ch->trial.attempt);
	ch->attempt_epoch = ch->trial.epoch;
	hf_channel_take_link(ch, res);
	/* Last: the attempt that is over borrowed it. */
	ch->trial.dialer = hf_dialer_free(ch->trial.dialer);
}

static int on_first_message(struct hf_buf *ret, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);

	ch->self->config_sent = false; /* another server lacks it */
	return hf_channel_first_message(ch, ch->trial.epoch, ret);
}

static int start_trial(struct hf_channel *ch, struct hf_settings *s, struct hf_err *err)
{
	struct hf_attempt_options o;
	int r = hf_dialer_new(ch->event, &ch->trial.dialer);

	if (r >= 0)
		r = hf_target_new_trial(ch->target, s, ch->trial.dialer, &ch->trial.target);
	if (r < 0)
		return hf_err_set(err, r, "cannot try the settings: %s", strerror(-r));
	hf_channel_attempt_options(ch, &o);
	r = hf_target_prepare(ch->trial.target, ch->config, ch->machine.enrolled, true, &o.tls,
			      err);
	if (r < 0)
		return r;
	o.url = hf_target_url(ch->trial.target);
	o.proxy = hf_target_proxy(ch->trial.target);
	o.headers = hf_target_headers(ch->trial.target);
	o.dialer = ch->trial.dialer;
	o.first_message = on_first_message;
	o.done = on_trial_done;
	ch->trial.epoch = hf_target_next_epoch(ch->target);
	r = hf_attempt_start(&o, &ch->trial.attempt);
	return r < 0 ? hf_err_set(err, r, "cannot try the settings: %s", strerror(-r)) : 0;
}

static bool in_use(const struct hf_channel *ch, const struct hf_settings *s)
{
	const struct hf_settings *now = hf_target_settings(ch->target);

	return s->hash_len > 0 && now->hash_len == s->hash_len &&
	       memcmp(now->hash, s->hash, s->hash_len) == 0;
}

void hf_channel_offered(struct hf_channel *ch, const Opamp__ConnectionSettingsOffers *offer)
{
	struct hf_settings s = {};
	struct hf_err err = {};
	int r = hf_settings_parse(offer, ch->config->portal.url, &s, &err);

	if (r >= 0 && s.heartbeat_s)
		ch->offered_heartbeat_s = s.heartbeat_s;
	if (r == 0 || (r > 0 && in_use(ch, &s))) {
		/* What concerns the present connection was applied by whoever called. */
		if (s.hash_len > 0 && !ch->trial.target)
			report(ch, s.hash, s.hash_len, HF_SETTINGS_APPLIED, "");
		hf_settings_done(&s);
		return;
	}
	free_trial(ch); /* a newer offer takes the place of one being tried */
	if (r < 0) {
		hf_warn("the connection settings offered cannot be used: %s", err.msg);
		report(ch, offer->hash.data, offer->hash.len, HF_SETTINGS_FAILED, err.msg);
		return;
	}
	hf_notice("trying connection settings offered by the portal: %s",
		  s.url[0] ? s.url : "the same address");
	report(ch, s.hash, s.hash_len, HF_SETTINGS_APPLYING, "");
	r = start_trial(ch, &s, &err);
	hf_settings_done(&s);
	if (r < 0)
		trial_failed(ch, HF_CAUSE_UNKNOWN, err.msg);
}
