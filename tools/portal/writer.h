/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one writer of the database: a thread, because a commit waits for the disk and the loop must
 * not. Jobs that arrive while a commit runs share the next one (group commit).
 *
 * A job's run() works in the writer thread and may touch only its argument and the store it is
 * given; its done() runs in the loop's thread exactly once, after the commit, with run()'s result
 * or the commit's error. A failed job's changes are undone; the others of its group stand.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "tools/portal/store.h"

typedef struct sd_event sd_event;

struct hf_writer;

typedef int (*hf_write_run)(struct hf_store *s, void *arg);
typedef void (*hf_write_done)(int r, void *arg);

struct hf_writer_stats {
	uint64_t commits, jobs, failed, refused;
	size_t queued, queued_bytes;
	int last_error; /* of the last commit or job: 0 or -errno */
	uint64_t last_commit_us;
};

/* Opens (creates, migrates) the database and starts the thread. */
int hf_writer_new(sd_event *event, const char *path, struct hf_writer **ret, struct hf_err *err);
/* Finishes what is queued, calls every done(), closes. */
struct hf_writer *hf_writer_free(struct hf_writer *w);
HF_DEFINE_CLEANUP(struct hf_writer *, hf_writer_free);

/*
 * arg is consumed on success only. bytes is what the job holds in memory, for the queue's bound.
 * -ENOBUFS when the queue is full: the caller refuses its peer, nothing was taken. done may be NULL.
 */
int hf_writer_submit(struct hf_writer *w, hf_write_run run, hf_write_done done, void *arg,
		     size_t bytes);
/*
 * The same for what nobody waits for (where an endpoint stands, when it was seen): it may wait up to
 * HF_WRITER_LINGER_MS for company, so that a fleet that comes and goes costs few commits and an
 * endpoint that comes back does not meet the commit of its own loss. The order of all jobs is kept.
 */
#define HF_WRITER_LINGER_MS 25u
int hf_writer_submit_later(struct hf_writer *w, hf_write_run run, hf_write_done done, void *arg,
			   size_t bytes);
/* Waits until everything queued is committed and its done() was called. */
void hf_writer_drain(struct hf_writer *w);
void hf_writer_stats(struct hf_writer *w, struct hf_writer_stats *ret);
