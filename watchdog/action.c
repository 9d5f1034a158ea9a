/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order, journal and reports of actions; the kinds themselves are elsewhere.
 *
 * I1. begin() is called only after the record that says so is durable, and resume() only for a
 *     record that says so. (Prevents a second execution after a kill at any instant.)
 * I2. Trust is decided here from signed bytes: the component that brings them decides nothing.
 * I3. One disruptive action at a time, in the order of arrival; of the others one of each kind.
 * I4. What is kept for the portal is bounded: RUNS_MAX that wait, HF_ACTION_JOURNAL_MAX records,
 *     ARTIFACTS_MAX archives.
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
#define RUNS_MAX      64u /* the portal sends the disruptive ones one by one */
#define ARTIFACTS_MAX 4u  /* archives that wait for the portal: 128 MiB of disk at the most */
#define TELL_NS       (250 * HF_NS_PER_MS) /* between two progress messages of one action */
#define HASH_SLICE    (1u << 20) /* of an archive a turn of the loop: half a millisecond */
#define TIMER_US      1000u      /* accuracy: 0 would mean 250 ms */

struct hf_actions {
	unsigned magic;
	struct hf_watchdog *w;
	struct hf_disk *disk;
	struct hf_action_journal *journal;
	struct hf_action_trust trust;
	struct hf_action_time time;
	struct hf_action_run *runs;
	unsigned n_runs;
	struct hf_way_back *way_back;
	struct hf_ratelimit refusal_log;
	bool locked; /* the stored key is damaged: no other is believed until a person says so */
};

static const struct hf_action_handler *const handlers[] = {
	&hf_action_start,
	&hf_action_stop,
	&hf_action_restart,
};

static void schedule(struct hf_actions *a);

struct hf_watchdog *hf_actions_watchdog(const struct hf_actions *a)
{
	return a->w;
}

struct hf_disk *hf_actions_disk(const struct hf_actions *a)
{
	return a->disk;
}

struct hf_way_back **hf_actions_way_back(struct hf_actions *a)
{
	return &a->way_back;
}

struct hf_watchdog *hf_action_watchdog(const struct hf_action_run *run)
{
	return run->actions->w;
}

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

/* ---- telling the agent -------------------------------------------------------------------------- */

static struct hf_peer *agent_peer(const struct hf_actions *a)
{
	struct hf_component *c = hf_watchdog_find(a->w, "agent");

	return c ? hf_component_peer(c) : NULL;
}

static void fill_text(char dst[static HF_SUP_TEXT_MAX], const char *text)
{
	(void)hf_strlcpy(dst, text, HF_SUP_TEXT_MAX);
	/* A cut inside a character is not UTF-8 any more. */
	for (size_t n = strlen(dst); n > 0 && !hf_utf8_valid(dst, n); n--)
		dst[n - 1] = 0;
}

static void tell_plain(struct hf_peer *peer, const char *id, enum hf_action_state state,
		       enum hf_action_refusal refusal)
{
	struct hf_sup_action_state m = {
		.hdr = hf_peer_header(HF_SUP_ACTION_STATE),
		.state = state,
		.refusal = refusal,
	};

	(void)hf_strlcpy(m.id, id, sizeof(m.id));
	fill_text(m.text, hf_action_refusal_text(refusal));
	hf_peer_send(peer, &m, NULL, 0);
}

/* A file of the record, if it has the length that the record says. */
static int open_attachment(const struct hf_actions *a, const Action__Record *r, const char *suffix,
			   uint64_t bytes)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (!bytes)
		return -1;
	fd = hf_action_attachment_open(a->journal, r->action_id, suffix);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes)
		return -1;
	return TAKE_FD(fd);
}

static void tell_record(const struct hf_actions *a, struct hf_peer *peer, const Action__Record *r,
			const struct hf_action_run *run)
{
	_cleanup_close_ int result = -1, artifact = -1;
	bool final = hf_action_state_final(r->state);
	struct hf_sup_action_state m = {
		.hdr = hf_peer_header(HF_SUP_ACTION_STATE),
		.state = r->state,
		.refusal = r->refusal,
		.percent = run ? run->percent : 0,
		.leaving = run && run->leaving,
		.started_unix_ns = r->started_unix_ns,
		.finished_unix_ns = r->finished_unix_ns,
	};
	int fds[2];
	unsigned n = 0;

	if (!peer)
		return;
	/* Until its outcome is durable it is running: nobody hears what a kill could still change. */
	if (run && final)
		m.state = r->started_unix_ns ? HF_ACTION_RUNNING : HF_ACTION_ACCEPTED;
	(void)hf_strlcpy(m.id, r->action_id, sizeof(m.id));
	fill_text(m.text, run ? run->text : r->text);
	if (!run && final) {
		result = open_attachment(a, r, "result", r->result_bytes);
		artifact = open_attachment(a, r, "artifact", r->artifact_bytes);
		if (result >= 0) {
			m.result_bytes = r->result_bytes;
			fds[n++] = result;
		}
		if (artifact >= 0) {
			m.artifact_bytes = r->artifact_bytes;
			if (r->artifact_sha256.len == sizeof(m.artifact_sha256))
				memcpy(m.artifact_sha256, r->artifact_sha256.data,
				       sizeof(m.artifact_sha256));
			fds[n++] = artifact;
		}
	}
	hf_peer_send(peer, &m, fds, n);
}

static struct hf_action_run *find_run(const struct hf_actions *a, const Action__Record *r)
{
	struct hf_action_run *run = a->runs;

	while (run && run->rec != r)
		run = run->next;
	return run;
}

void hf_action_tell(struct hf_action_run *run)
{
	run->told_ns = hf_now_monotonic_ns();
	tell_record(run->actions, agent_peer(run->actions), run->rec, run);
}

void hf_action_progress(struct hf_action_run *run, uint32_t percent, const char *text)
{
	bool moved = percent != run->percent || !hf_streq(text, run->text);

	run->percent = percent > 100 ? 100 : percent;
	fill_text(run->text, text);
	if (moved && hf_now_monotonic_ns() - run->told_ns >= TELL_NS)
		hf_action_tell(run);
}

/* ---- runs --------------------------------------------------------------------------------------- */

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

static void run_drop(struct hf_action_run *run)
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

/* ---- the end of an action ------------------------------------------------------------------------ */

static void drop_attachments(struct hf_action_run *run)
{
	hf_action_attachments_drop(run->actions->journal, run->rec);
	run->rec->result_bytes = run->rec->artifact_bytes = 0;
}

static void finished(struct hf_action_run *run)
{
	struct hf_actions *a = run->actions;
	Action__Record *rec = run->rec;

	hf_notice("action '%s' (%s): %s%s%s", rec->action_id, rec->kind,
		  hf_action_state_name(rec->state), rec->text[0] ? ": " : "", rec->text);
	run_drop(run);
	tell_record(a, agent_peer(a), rec, NULL);
	schedule(a);
}

static void on_ended(int r, void *userdata);

static int on_not_saved(sd_event_source *source, void *userdata)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);

	(void)source;
	on_ended(-EIO, run);
	return 0;
}

/* Never ends the run before it returns: its kind is still using it. */
static void save_end(struct hf_action_run *run)
{
	int r = hf_action_journal_save(run->actions->journal, run->rec, on_ended, run);

	if (r == 0)
		return;
	hf_error_r(r, "write the outcome of action '%s'", run->rec->action_id);
	run->slice = sd_event_source_disable_unref(run->slice);
	r = sd_event_add_defer(run->actions->w->event, &run->slice, on_not_saved, run);
	hf_assert(
		r >=
		0); /* ENOMEM for a hundred bytes: a fresh watchdog is better than a lost action */
}

static void on_ended(int r, void *userdata)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);

	if (r < 0) {
		/* It is done all the same: the agent hears it, and keeps it in its own journal. */
		hf_error_r(r, "write the outcome of action '%s'", run->rec->action_id);
	} else if (run->write_error < 0) {
		char text[HF_SUP_TEXT_MAX];

		hf_strf(text, sizeof(text), "its result cannot be stored: %s",
			strerror(-run->write_error));
		run->write_error = 0;
		drop_attachments(run);
		run->rec->state = HF_ACTION_FAILED;
		hf_action_record_text(&run->rec->text, text);
		save_end(run);
		return;
	}
	finished(run);
}

static void on_attached(int r, void *userdata)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);

	if (r < 0)
		run->write_error = r;
}

/* The oldest archives go when there are too many: the portal was away for long. */
static void limit_artifacts(struct hf_actions *a)
{
	unsigned n = 0;

	for (size_t i = hf_action_journal_count(a->journal); i > 0; i--) {
		Action__Record *r = hf_action_journal_at(a->journal, i - 1);

		if (!r->artifact_bytes || ++n < ARTIFACTS_MAX)
			continue;
		hf_action_attachments_drop(a->journal, r);
		r->artifact_bytes = r->result_bytes = 0;
		hf_action_record_text(&r->text,
				      "its archive was dropped: later ones needed the room");
		(void)hf_action_journal_save(a->journal, r, NULL, NULL); /* opening checks again */
	}
}

/* Everything is known: attachments first, then the record that tells of them, in one order. */
static void write_end(struct hf_action_run *run)
{
	struct hf_actions *a = run->actions;
	char path[HF_DISK_PATH_MAX];
	int r;

	if (run->rec->artifact_bytes) {
		limit_artifacts(a);
		hf_action_attachment_path(a->journal, run->rec->action_id, "artifact", path);
		r = hf_disk_copy(a->disk, path, run->artifact, run->rec->artifact_bytes, 0600,
				 on_attached, run);
		if (r < 0)
			run->write_error = r;
	}
	if (run->rec->result_bytes) {
		hf_action_attachment_path(a->journal, run->rec->action_id, "result", path);
		r = hf_disk_write(a->disk, path, run->json, run->json_len, 0600, on_attached, run);
		if (r < 0)
			run->write_error = r;
	}
	save_end(run);
}

/* One slice of the archive's digest a turn, so that no restart waits for it. */
static int on_slice(sd_event_source *source, void *userdata)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);
	_cleanup_free_ uint8_t *buf = malloc(HASH_SLICE);
	uint8_t digest[HF_SHA256_SIZE];
	ssize_t n;

	(void)source;
	n = buf ? pread(run->artifact, buf, HASH_SLICE, (off_t)run->hashed) : -1;
	if (n > 0 && hf_digest_add(run->digest, buf, (size_t)n) == 0) {
		run->hashed += (uint64_t)n;
		if (run->hashed < run->rec->artifact_bytes)
			return 0;
	}
	if (run->hashed == run->rec->artifact_bytes && hf_digest_end(run->digest, digest) == 0)
		hf_action_record_bytes(&run->rec->artifact_sha256, digest, sizeof(digest));
	else
		run->write_error = -EIO;
	run->slice = sd_event_source_disable_unref(run->slice);
	write_end(run);
	return 0;
}

static void measure_artifact(struct hf_action_run *run, int fd)
{
	struct stat st;
	int r = 0;

	run->artifact = fd;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (st.st_size == 0 || st.st_size > (off_t)HF_ACTION_ARTIFACT_MAX)
		r = -EFBIG;
	else
		r = hf_digest_new(HF_DIGEST_SHA256, &run->digest);
	if (r == 0)
		r = sd_event_add_defer(run->actions->w->event, &run->slice, on_slice, run);
	if (r >= 0)
		r = sd_event_source_set_enabled(run->slice, SD_EVENT_ON);
	if (r < 0) {
		run->write_error = r;
		run->slice = sd_event_source_disable_unref(run->slice);
		return;
	}
	run->rec->artifact_bytes = (uint64_t)st.st_size;
}

void hf_action_end(struct hf_action_run *run, const struct hf_action_outcome *o)
{
	Action__Record *rec = run->rec;

	hf_assert(hf_action_state_final(o->state) && run->step != HF_RUN_ENDING);
	run->step = HF_RUN_ENDING;
	hf_action_arm(run, 0, NULL);
	rec->state = o->state;
	rec->refusal = o->refusal;
	rec->finished_unix_ns = hf_now_realtime_ns();
	hf_action_record_text(&rec->text, o->text ? o->text : "");
	hf_action_record_bytes(&rec->envelope, NULL, 0);
	if (o->json_len > HF_ACTION_RESULT_MAX) {
		run->write_error = -EFBIG;
	} else if (o->json_len) {
		run->json = malloc(o->json_len);
		if (run->json) {
			memcpy(run->json, o->json, o->json_len);
			run->json_len = o->json_len;
			rec->result_bytes = o->json_len;
		} else {
			run->write_error = -ENOMEM;
		}
	}
	if (o->artifact >= 0)
		measure_artifact(run, o->artifact);
	if (!run->slice)
		write_end(run);
}

static void end_plain(struct hf_action_run *run, enum hf_action_state state,
		      enum hf_action_refusal refusal)
{
	hf_action_end(run, &(struct hf_action_outcome){.state = state,
						       .refusal = refusal,
						       .text = hf_action_refusal_text(refusal),
						       .artifact = -1});
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
		end_plain(run, HF_ACTION_REJECTED, HF_ACTION_REFUSED_JOURNAL);
		return;
	}
	run->durable = true;
	if (run->cancel) {
		run->rec->started_unix_ns = 0;
		end_plain(run, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE);
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
		end_plain(run, HF_ACTION_EXPIRED, HF_ACTION_REFUSED_EXPIRED);
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

static void schedule(struct hf_actions *a)
{
	for (struct hf_action_run *run = a->runs; run; run = run->next) {
		if (run->step != HF_RUN_WAITING || !run->durable || !class_is_free(a, run))
			continue;
		begin(run);
		/* It may have ended at once and changed the list: from the start. */
		schedule(a);
		return;
	}
}

static void on_accepted(int r, void *userdata)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);

	if (r < 0) {
		hf_error_r(r, "write down action '%s', refusing it", run->rec->action_id);
		end_plain(run, HF_ACTION_REJECTED, HF_ACTION_REFUSED_JOURNAL);
		return;
	}
	run->durable = true;
	if (run->cancel) {
		end_plain(run, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE);
		return;
	}
	hf_action_tell(run);
	schedule(run->actions);
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
	fill_text(m.text, text);
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

	if (r < 0 && hf_ratelimit_take(&a->refusal_log, hf_now_monotonic_ns()))
		hf_warn_r(r, "the portal's time is not proven");
	/* Answered in any case: time_wanted says whether it did. */
	want_time(a, peer, 0, r < 0 ? "the time is not proven" : "");
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
	tell_plain(peer, id,
		   why == HF_ACTION_REFUSED_EXPIRED ? HF_ACTION_EXPIRED : HF_ACTION_REJECTED, why);
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
			end_plain(run,
				  why == HF_ACTION_REFUSED_EXPIRED ? HF_ACTION_EXPIRED
								   : HF_ACTION_REJECTED,
				  why);
		return;
	}
	hf_debug("action '%s' came again, it is %s", rec->action_id,
		 hf_action_state_name(rec->state));
	tell_record(a, peer, rec, run);
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
			end_plain(run, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE);
		else if (rec)
			tell_record(a, peer, rec, NULL);
		else
			tell_plain(peer, id, HF_ACTION_UNKNOWN, HF_ACTION_REFUSED_NONE);
		return;
	}
	if (run->cancel)
		return;
	run->cancel = true;
	hf_notice("action '%s': cancellation asked for", id);
	switch (run->step) {
	case HF_RUN_WAITING:
		if (run->durable)
			end_plain(run, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE);
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
		tell_plain(peer, id, HF_ACTION_UNKNOWN, HF_ACTION_REFUSED_NONE);
		return;
	}
	if (run && run->leaving && run->step == HF_RUN_GOING && run->handler->announced) {
		run->handler->announced(run);
		return;
	}
	tell_record(a, peer, rec, run);
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
	if (peer != agent_peer(a))
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
		run_drop(a->runs);
	a->journal = hf_action_journal_free(a->journal);
	a->magic = 0;
	free(a);
	return NULL;
}
