/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent is told of actions, and their end: digest of an archive, attachments, record.
 *
 * I1. An outcome is told when it is durable; until then the action is running. (Prevents two words
 *     about one action when we are killed between.)
 * I2. Attachments are written before the record that tells of them, by one thread in this order.
 * I3. hf_action_end() returns before the run is gone, whatever fails.
 */
#include "watchdog/action_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "watchdog/server.h"

#define ARTIFACTS_MAX 4u /* archives that wait for the portal: 128 MiB of disk at the most */
#define TELL_NS       (250 * HF_NS_PER_MS) /* between two progress messages of one action */
#define HASH_SLICE    (1u << 20) /* of an archive a turn of the loop: half a millisecond */

/* ---- telling the agent -------------------------------------------------------------------------- */

struct hf_peer *hf_action_agent(const struct hf_actions *a)
{
	struct hf_component *c = hf_watchdog_find(a->w, "agent");

	return c ? hf_component_peer(c) : NULL;
}

void hf_action_text(char dst[static HF_SUP_TEXT_MAX], const char *text)
{
	(void)hf_strlcpy(dst, text, HF_SUP_TEXT_MAX);
	/* A cut inside a character is not UTF-8 any more. */
	for (size_t n = strlen(dst); n > 0 && !hf_utf8_valid(dst, n); n--)
		dst[n - 1] = 0;
}

void hf_action_tell_plain(struct hf_peer *peer, const char *id, enum hf_action_state state,
			  enum hf_action_refusal refusal)
{
	struct hf_sup_action_state m = {
		.hdr = hf_peer_header(HF_SUP_ACTION_STATE),
		.state = state,
		.refusal = refusal,
	};

	(void)hf_strlcpy(m.id, id, sizeof(m.id));
	hf_action_text(m.text, hf_action_refusal_text(refusal));
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

void hf_action_tell_record(const struct hf_actions *a, struct hf_peer *peer,
			   const Action__Record *r, const struct hf_action_run *run)
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
	hf_action_text(m.text, run ? run->text : r->text);
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

void hf_action_tell(struct hf_action_run *run)
{
	run->told_ns = hf_now_monotonic_ns();
	hf_action_tell_record(run->actions, hf_action_agent(run->actions), run->rec, run);
}

void hf_action_progress(struct hf_action_run *run, uint32_t percent, const char *text)
{
	bool moved = percent != run->percent || !hf_streq(text, run->text);

	run->percent = percent > 100 ? 100 : percent;
	hf_action_text(run->text, text);
	if (moved && hf_now_monotonic_ns() - run->told_ns >= TELL_NS)
		hf_action_tell(run);
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
	hf_action_run_drop(run);
	hf_action_tell_record(a, hf_action_agent(a), rec, NULL);
	hf_actions_schedule(a);
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

void hf_action_end_plain(struct hf_action_run *run, enum hf_action_state state,
			 enum hf_action_refusal refusal)
{
	hf_action_end(run, &(struct hf_action_outcome){.state = state,
						       .refusal = refusal,
						       .text = hf_action_refusal_text(refusal),
						       .artifact = -1});
}
