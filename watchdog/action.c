/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order, journal and reports of actions; the kinds themselves are elsewhere.
 *
 * I1. begin() is called only after the record that says so is durable, and resume() only for a
 *     record that says so. (Prevents a second execution after a kill at any instant.)
 * I2. Trust is decided here from signed bytes: the component that brings them decides nothing.
 * I3. One disruptive action at a time, in the order of arrival; of the others one of each kind.
 * I4. What is kept for the portal is bounded: RUNS_MAX that wait, HF_ACTION_JOURNAL_MAX records,
 *     a few archives.
 */
#include "watchdog/action.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/str.h"
#include "userspace/proto/frame.h"
#include "watchdog/action_internal.h"
#include "watchdog/server.h"

#define ACTIONS_MAGIC 0x4143544eu
#define JOURNAL_DIR   "actions"
#define TRUST_FILE    "action-keys"
#define RUNS_MAX      64u   /* the portal sends the disruptive ones one by one */
#define TIMER_US      1000u /* accuracy: 0 would mean 250 ms */

static const struct hf_action_handler *const handlers[] = {
	&hf_action_start,    &hf_action_stop, &hf_action_restart, &hf_action_update,
	&hf_action_rollback, &hf_action_scan, &hf_action_collect,
};

static const struct hf_action_handler *find_handler(const char *kind)
{
	for (size_t i = 0; i < HF_ARRAY_SIZE(handlers); i++)
		if (hf_streq(handlers[i]->kind, kind))
			return handlers[i];
	return NULL;
}

static uint64_t portal_now(const struct hf_actions *a)
{
	return hf_action_time_now(&a->time, hf_now_boottime_ns());
}

/* ---- runs --------------------------------------------------------------------------------------- */

static struct hf_action_run *find_run(const struct hf_actions *a, const Action__Record *r)
{
	struct hf_action_run *run = a->runs;

	while (run && run->rec != r)
		run = run->next;
	return run;
}

static struct hf_action_run *run_new(struct hf_actions *a, Action__Record *rec, Action__Body *body)
{
	struct hf_action_run *run = calloc(1, sizeof(*run)), **p = &a->runs;

	if (!run)
		return NULL;
	run->magic = HF_ACTION_RUN_MAGIC;
	run->actions = a;
	run->rec = rec;
	run->body = body;
	run->spec = hf_action_kind_find(rec->kind);
	run->handler = find_handler(rec->kind);
	run->artifact = -1;
	while (*p)
		p = &(*p)->next;
	*p = run;
	a->n_runs++;
	return run;
}

void hf_action_run_drop(struct hf_action_run *run)
{
	struct hf_actions *a = run->actions;
	struct hf_action_run **p = &a->runs;

	while (*p != run)
		p = &(*p)->next;
	*p = run->next;
	a->n_runs--;
	sd_event_source_disable_unref(run->timer);
	sd_event_source_disable_unref(run->slice);
	hf_digest_free(run->digest);
	(void)hf_close(run->artifact);
	free(run->json);
	if (run->body)
		action__body__free_unpacked(run->body, NULL);
	run->magic = 0;
	free(run);
}

static int on_run_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_action_run *run = HF_CAST(sd_event_source_get_userdata(source),
					    struct hf_action_run, HF_ACTION_RUN_MAGIC);
	void (*fn)(struct hf_action_run *) = NULL;

	(void)usec;
	(void)userdata;
	fn = run->on_timer;
	fn(run);
	return 0;
}

void hf_action_arm(struct hf_action_run *run, uint64_t after_ms,
		   void (*fn)(struct hf_action_run *run))
{
	if (!after_ms) {
		if (run->timer)
			(void)sd_event_source_set_enabled(run->timer, SD_EVENT_OFF);
		return;
	}
	run->on_timer = fn;
	if (!run->timer && sd_event_add_time(run->actions->w->event, &run->timer, CLOCK_MONOTONIC,
					     0, TIMER_US, on_run_timer, run) < 0)
		return; /* ENOMEM: then it has no limit */
	(void)sd_event_source_set_time_relative(run->timer, after_ms * 1000);
	(void)sd_event_source_set_enabled(run->timer, SD_EVENT_ONESHOT);
}

/* ---- the beginning ------------------------------------------------------------------------------- */

static bool class_is_free(const struct hf_actions *a, const struct hf_action_run *run)
{
	for (const struct hf_action_run *o = a->runs; o; o = o->next) {
		/* Its own place in the line. */
		if (o == run)
			return true;
		if (run->spec->disruptive ? o->spec->disruptive
					  : hf_streq(o->rec->kind, run->rec->kind))
			return false;
	}
	return true;
}

static void on_begun(int r, void *userdata)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);

	run->step = HF_RUN_GOING;
	if (r < 0) {
		hf_error_r(r, "write that action '%s' begins, refusing it", run->rec->action_id);
		run->rec->started_unix_ns = 0;
		hf_action_end_plain(run, HF_ACTION_REJECTED, HF_ACTION_REFUSED_JOURNAL);
		return;
	}
	run->durable = true;
	if (run->cancel) {
		run->rec->started_unix_ns = 0;
		hf_action_end_plain(run, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE);
		return;
	}
	hf_notice("action '%s' (%s) begins", run->rec->action_id, run->rec->kind);
	hf_action_tell(run);
	run->handler->begin(run);
}

/* Its turn has come: the record says running before anything is done. */
static void begin(struct hf_action_run *run)
{
	uint64_t now = portal_now(run->actions);
	int r;

	if (!now || now >= run->rec->expires_unix_ns) {
		hf_action_end_plain(run, HF_ACTION_EXPIRED, HF_ACTION_REFUSED_EXPIRED);
		return;
	}
	run->step = HF_RUN_WRITING;
	run->rec->state = HF_ACTION_RUNNING;
	run->rec->started_unix_ns = hf_now_realtime_ns();
	if (run->handler->prepare)
		run->handler->prepare(run);
	r = hf_action_journal_save(run->actions->journal, run->rec, on_begun, run);
	if (r < 0)
		on_begun(r, run);
}

void hf_actions_schedule(struct hf_actions *a)
{
	for (struct hf_action_run *run = a->runs; run; run = run->next) {
		if (run->step != HF_RUN_WAITING || !run->durable || !class_is_free(a, run))
			continue;
		begin(run);
		/* It may have ended at once and changed the list: from the start. */
		hf_actions_schedule(a);
		return;
	}
}

static void on_accepted(int r, void *userdata)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);

	if (r < 0) {
		hf_error_r(r, "write down action '%s', refusing it", run->rec->action_id);
		hf_action_end_plain(run, HF_ACTION_REJECTED, HF_ACTION_REFUSED_JOURNAL);
		return;
	}
	run->durable = true;
	if (run->cancel) {
		hf_action_end_plain(run, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE);
		return;
	}
	hf_action_tell(run);
	hf_actions_schedule(run->actions);
}

/* Consumes b. */
static void enqueue(struct hf_actions *a, Action__Record *rec, Action__Body *b)
{
	struct hf_action_run *run = run_new(a, rec, b);
	int r;

	if (!run) {
		action__body__free_unpacked(b, NULL);
		return; /* ENOMEM: it stays accepted, and the agent asks again */
	}
	hf_assert(run->spec && run->handler);
	if (class_is_free(a, run)) {
		/* One write less: the record begins as running. */
		begin(run);
		return;
	}
	(void)hf_strlcpy(run->text, "waits for another action", sizeof(run->text));
	r = hf_action_journal_save(a->journal, rec, on_accepted, run);
	if (r < 0)
		on_accepted(r, run);
}

/* ---- what the agent brings ----------------------------------------------------------------------- */

static void want_time(struct hf_actions *a, struct hf_peer *peer, int error, const char *text)
{
	struct hf_sup_action_nonce m = {
		.hdr = hf_peer_header(HF_SUP_ACTION_NONCE),
		.error = error,
	};

	if (a->trust.pinned && error == 0) {
		m.time_wanted = hf_action_time_ask(&a->time, hf_now_boottime_ns());
		memcpy(m.nonce, a->time.nonce, sizeof(m.nonce));
	}
	if (a->trust.pinned)
		memcpy(m.key_id, a->trust.key.id, sizeof(m.key_id));
	hf_action_text(m.text, text);
	hf_peer_send(peer, &m, NULL, 0);
}

static void on_trust_written(int r, void *userdata)
{
	(void)userdata;
	if (r < 0)
		hf_error_r(r, "store the portal's action key: the next watchdog trusts anew");
}

static void on_keys(struct hf_actions *a, struct hf_peer *peer, const struct hf_sup_blob *m)
{
	struct hf_err err = {};
	int r = a->locked ? hf_err_set(
				    &err, -EUCLEAN,
				    "the stored action key of the portal is damaged: run `holdfast "
				    "enroll` to trust the portal's key again")
			  : hf_action_trust_take(&a->trust, m->bytes, m->length, &err);

	if (r < 0) {
		if (hf_ratelimit_take(&a->refusal_log, hf_now_monotonic_ns()))
			hf_error("%s", err.msg);
		want_time(a, peer, r, err.msg);
		return;
	}
	if (r > 0) {
		hf_notice("trusts the portal's action key, %zu before it, for endpoint %s",
			  a->trust.n_old, a->trust.endpoint_id);
		a->time = (struct hf_action_time){};
		r = hf_disk_write(a->disk, TRUST_FILE, m->bytes, m->length, 0600, on_trust_written,
				  NULL);
		if (r < 0)
			on_trust_written(r, NULL);
	}
	want_time(a, peer, 0, "");
}

static void on_time(struct hf_actions *a, struct hf_peer *peer, const struct hf_sup_blob *m)
{
	int r = hf_action_time_take(&a->time, &a->trust, m->bytes, m->length, hf_now_boottime_ns());

	/* One that was asked for twice comes twice; one that proves nothing must not start a quarrel. */
	if (r < 0) {
		if (!portal_now(a) && hf_ratelimit_take(&a->refusal_log, hf_now_monotonic_ns()))
			hf_warn_r(r, "the portal's time is not proven");
		return;
	}
	want_time(a, peer, 0, "");
}

static enum hf_action_refusal may_run(struct hf_actions *a, const Action__Body *b)
{
	const struct hf_action_handler *h = find_handler(b->kind);

	if (!h)
		return HF_ACTION_REFUSED_UNKNOWN_KIND;
	if (!hf_config_allows(&a->w->config, b->kind))
		return HF_ACTION_REFUSED_NOT_ALLOWED;
	if (a->w->stopping || a->n_runs >= RUNS_MAX)
		return HF_ACTION_REFUSED_BUSY;
	return h->check      ? h->check(a, b)
	       : b->n_params ? HF_ACTION_REFUSED_BAD_PARAMS
			     : HF_ACTION_REFUSED_NONE;
}

static void refuse(struct hf_actions *a, struct hf_peer *peer, const Action__Body *b,
		   enum hf_action_refusal why)
{
	char id[HF_ACTION_ID_SIZE] = "";

	if (b)
		(void)hf_strlcpy(id, b->action_id, sizeof(id));
	if (hf_ratelimit_take(&a->refusal_log, hf_now_monotonic_ns()))
		hf_warn("action '%s' is refused: %s: %s", id[0] ? id : "?",
			hf_action_refusal_name(why), hf_action_refusal_text(why));
	hf_action_tell_plain(
		peer, id, why == HF_ACTION_REFUSED_EXPIRED ? HF_ACTION_EXPIRED : HF_ACTION_REJECTED,
		why);
}

/* An id we know: it is told, and begun only if it never was. */
static void again(struct hf_actions *a, struct hf_peer *peer, Action__Record *rec, Action__Body **b,
		  enum hf_action_refusal why)
{
	struct hf_action_run *run = find_run(a, rec);

	if (!run && rec->state == HF_ACTION_ACCEPTED && why == HF_ACTION_REFUSED_NONE) {
		enqueue(a, rec, TAKE_PTR(*b));
		return;
	}
	if (!run && rec->state == HF_ACTION_ACCEPTED) {
		run = run_new(a, rec, NULL);
		if (run)
			hf_action_end_plain(run,
					    why == HF_ACTION_REFUSED_EXPIRED ? HF_ACTION_EXPIRED
									     : HF_ACTION_REJECTED,
					    why);
		return;
	}
	hf_debug("action '%s' came again, it is %s", rec->action_id,
		 hf_action_state_name(rec->state));
	hf_action_tell_record(a, peer, rec, run);
}

static void on_action(struct hf_actions *a, struct hf_peer *peer, const struct hf_sup_blob *m)
{
	_cleanup_pb_ Action__Body *b = NULL;
	Action__Record *rec;
	enum hf_action_refusal why =
		hf_action_verify(&a->trust, portal_now(a), m->bytes, m->length, &b);
	int r;

	if (why == HF_ACTION_REFUSED_NO_TIME) {
		want_time(a, peer, 0, ""); /* the agent brings it, then the action again */
		return;
	}
	if (why == HF_ACTION_REFUSED_NONE)
		why = may_run(a, b);
	rec = b ? hf_action_journal_find(a->journal, b->action_id) : NULL;
	if (rec) {
		again(a, peer, rec, &b, why);
		return;
	}
	if (why != HF_ACTION_REFUSED_NONE) {
		refuse(a, peer, b, why);
		return;
	}
	r = hf_action_journal_add(a->journal, b->action_id, portal_now(a), &rec);
	if (r < 0) {
		refuse(a, peer, b, HF_ACTION_REFUSED_BUSY);
		return;
	}
	rec->state = HF_ACTION_ACCEPTED;
	rec->received_unix_ns = hf_now_realtime_ns();
	rec->issued_unix_ns = b->issued_unix_ns;
	rec->expires_unix_ns = b->expires_unix_ns;
	hf_action_record_text(&rec->kind, b->kind);
	hf_action_record_bytes(&rec->envelope, m->bytes, m->length);
	enqueue(a, rec, TAKE_PTR(b));
}

static void on_cancel(struct hf_actions *a, struct hf_peer *peer, const char *id)
{
	Action__Record *rec = hf_action_journal_find(a->journal, id);
	struct hf_action_run *run = rec ? find_run(a, rec) : NULL;

	if (!run) {
		/* Accepted by a predecessor and never begun: then it never is. */
		run = rec && rec->state == HF_ACTION_ACCEPTED ? run_new(a, rec, NULL) : NULL;
		if (run)
			hf_action_end_plain(run, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE);
		else if (rec)
			hf_action_tell_record(a, peer, rec, NULL);
		else
			hf_action_tell_plain(peer, id, HF_ACTION_UNKNOWN, HF_ACTION_REFUSED_NONE);
		return;
	}
	if (run->cancel)
		return;
	run->cancel = true;
	hf_notice("action '%s': cancellation asked for", id);
	switch (run->step) {
	case HF_RUN_WAITING:
		if (run->durable)
			hf_action_end_plain(run, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE);
		return;
	case HF_RUN_GOING:
		if (run->handler->cancel)
			run->handler->cancel(run);
		return;
	case HF_RUN_WRITING: /* judged when it is written */
	case HF_RUN_ENDING:  /* too late */
		return;
	}
}

static void on_query(struct hf_actions *a, struct hf_peer *peer, const char *id)
{
	Action__Record *rec = hf_action_journal_find(a->journal, id);
	struct hf_action_run *run = rec ? find_run(a, rec) : NULL;

	if (!rec) {
		hf_action_tell_plain(peer, id, HF_ACTION_UNKNOWN, HF_ACTION_REFUSED_NONE);
		return;
	}
	if (run && run->leaving && run->step == HF_RUN_GOING && run->handler->announced) {
		run->handler->announced(run);
		return;
	}
	hf_action_tell_record(a, peer, rec, run);
}

static void on_forget(struct hf_actions *a, const char *id)
{
	Action__Record *rec = hf_action_journal_find(a->journal, id);

	if (!rec || rec->confirmed || !hf_action_state_final(rec->state) || find_run(a, rec))
		return;
	rec->confirmed = true;
	hf_action_attachments_drop(a->journal, rec);
	rec->result_bytes = rec->artifact_bytes = 0;
	/* Lost, the agent says it again: what it frees is only room. */
	(void)hf_action_journal_save(a->journal, rec, NULL, NULL);
}

int hf_actions_packet(struct hf_actions *a, struct hf_peer *peer, const void *packet)
{
	const struct hf_sup_hdr *hdr = packet;
	const char *id = ((const struct hf_sup_action_id *)packet)->id;

	if (!a)
		return -EOPNOTSUPP;
	if (peer != hf_action_agent(a))
		return -EPERM;
	switch (hdr->type) {
	case HF_SUP_ACTION_KEYS:
		on_keys(a, peer, packet);
		return 0;
	case HF_SUP_ACTION_TIME:
		on_time(a, peer, packet);
		return 0;
	case HF_SUP_ACTION:
		on_action(a, peer, packet);
		return 0;
	case HF_SUP_ACTION_CANCEL:
		on_cancel(a, peer, id);
		return 0;
	case HF_SUP_ACTION_QUERY:
		on_query(a, peer, id);
		return 0;
	case HF_SUP_ACTION_FORGET:
		on_forget(a, id);
		return 0;
	}
	return -EOPNOTSUPP;
}

void hf_actions_component_changed(struct hf_actions *a, const struct hf_component *c)
{
	struct hf_action_run *next;

	if (!a)
		return;
	for (struct hf_action_run *run = a->runs; run; run = next) {
		next = run->next;
		if (run->step == HF_RUN_GOING && run->handler->changed)
			run->handler->changed(run, c);
	}
}

void hf_actions_person(struct hf_actions *a, const struct hf_component *c)
{
	if (a)
		hf_action_way_back_drop(a, hf_component_name(c));
}

int hf_actions_forget_trust(struct hf_actions *a)
{
	int r;

	if (!a)
		return -EOPNOTSUPP;
	a->trust = (struct hf_action_trust){};
	a->time = (struct hf_action_time){};
	a->locked = false;
	r = hf_disk_unlink(a->disk, TRUST_FILE, NULL, NULL);
	hf_notice("the portal's action key is forgotten: the next one is trusted");
	return r;
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void load_trust(struct hf_actions *a)
{
	_cleanup_free_ char *data = NULL;
	struct hf_err err = {};
	size_t len;
	int r = hf_read_file(a->w->state_dir, TRUST_FILE, HF_SUP_BLOB_MAX, &data, &len);

	if (r == -ENOENT)
		return;
	if (r == 0)
		r = hf_action_trust_take(&a->trust, data, len, &err);
	else
		hf_err_set(&err, r, "%s", strerror(-r));
	/* Then nothing is trusted: a damaged file must not open the door for another key. */
	if (r < 0)
		hf_error("the stored action key '%s/%s' cannot be used: %s; run `holdfast enroll` "
			 "to trust the portal's key again",
			 a->w->paths.watchdog_state, TRUST_FILE, err.msg);
	a->locked = r < 0;
}

/* What a record of our own says was asked for: its signature was right when it was written. */
static Action__Body *body_of(const Action__Record *rec)
{
	_cleanup_pb_ Action__Envelope *e = NULL;
	Action__Body *b = NULL;

	if (hf_pb_unpack(&action__envelope__descriptor, rec->envelope.data, rec->envelope.len,
			 &e) == 0 &&
	    hf_pb_unpack(&action__body__descriptor, e->body.data, e->body.len, &b) == 0)
		return b;
	return NULL;
}

/* What a predecessor had begun. Its outcome is found out, or it is said that it ended with it. */
static void resume(struct hf_actions *a)
{
	for (size_t i = 0; i < hf_action_journal_count(a->journal); i++) {
		Action__Record *rec = hf_action_journal_at(a->journal, i);
		struct hf_action_run *run;

		if (rec->state != HF_ACTION_RUNNING)
			continue;
		run = run_new(a, rec, body_of(rec));
		if (!run)
			continue;
		run->step = HF_RUN_GOING;
		run->durable = true;
		hf_notice("action '%s' (%s) had begun under another watchdog", rec->action_id,
			  rec->kind);
		if (run->handler && run->spec && run->handler->resume)
			run->handler->resume(run);
		else
			hf_action_end(run,
				      &(struct hf_action_outcome){
					      .state = HF_ACTION_FAILED,
					      .text = "the watchdog was replaced while it ran, "
						      "which ended it: ask for it again",
					      .artifact = -1});
	}
}

int hf_actions_new(struct hf_watchdog *w, struct hf_actions **ret)
{
	_cleanup_(hf_actions_freep) struct hf_actions *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->magic = ACTIONS_MAGIC;
	a->w = w;
	a->refusal_log = (struct hf_ratelimit){.burst = 10, .interval_ns = 60 * HF_NS_PER_S};
	r = hf_disk_new(w->event, w->state_dir, &a->disk);
	if (r == 0)
		r = hf_action_journal_open(w->state_dir, JOURNAL_DIR, a->disk, &a->journal);
	if (r < 0)
		return r;
	if (hf_action_journal_damaged(a->journal))
		hf_warn("%llu damaged records of actions: their outcome is not known any more",
			(unsigned long long)hf_action_journal_damaged(a->journal));
	load_trust(a);
	r = hf_action_way_back_open(a);
	if (r < 0)
		return r;
	resume(a);
	*ret = TAKE_PTR(a);
	return 0;
}

struct hf_actions *hf_actions_free(struct hf_actions *a)
{
	if (!a)
		return NULL;
	hf_action_way_back_close(a);
	/* Finishes what is queued and calls nobody back. */
	a->disk = hf_disk_free(a->disk);
	while (a->runs)
		hf_action_run_drop(a->runs);
	a->journal = hf_action_journal_free(a->journal);
	a->magic = 0;
	free(a);
	return NULL;
}
