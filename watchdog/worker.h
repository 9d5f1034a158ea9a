/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Short-lived workers: a program with its own user and few rights that does one thing, tells its
 * progress, leaves a result and ends. What a worker may do is one line of a table; nothing it sends
 * can change that.
 *
 * Whatever a worker does (hangs, floods, crashes, leaves children), on_done comes once, and when it
 * comes nothing of the worker runs any more. A worker does not outlive this process, and what a
 * predecessor of ours left is killed when the table is set up.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "holdfast/worker.h"
#include "watchdog/watchdog.h"

#define HF_WORKERS_MAX        4u          /* lines of the table, each runs once at a time */
#define HF_WORKER_INPUTS_MAX  3u          /* as many as spawn.h passes */
#define HF_WORKER_PARAMS_MAX  (64 * 1024) /* a scan's paths and excludes */
#define HF_WORKER_ACCOUNT_MAX 40u         /* a user name has at most 32 bytes */

struct hf_worker_spec {
	const char *name;    /* "scan" */
	const char *program; /* "holdfast-scan", beside the watchdog */
	char account[HF_WORKER_ACCOUNT_MAX];
	const char *account_key; /* of config.yml, for messages */
	uint64_t capabilities;   /* bit n is capability n */
	bool network;
	uint64_t memory_bytes; /* of private memory; its cgroup's limit too, where there is one */
	uint64_t result_bytes; /* of the result */
	uint64_t file_bytes;   /* of any file it writes, result and inputs included */
	uint64_t idle_limit_ns, hard_limit_ns; /* when a request names none, and the most it may */
};

struct hf_workers;
struct hf_worker;

/* The table is copied, the strings in it are borrowed. */
int hf_workers_new(struct hf_watchdog *w, const struct hf_worker_spec *table, size_t n,
		   struct hf_workers **ret);
/* Kills what runs; each on_done comes, as cancelled. Takes NULL, returns NULL. */
struct hf_workers *hf_workers_free(struct hf_workers *ws);
HF_DEFINE_CLEANUP(struct hf_workers *, hf_workers_free);

/* A new line of the table in place of the one of that name; for the next start. */
void hf_workers_reconfigure(struct hf_workers *ws, const struct hf_worker_spec *spec);

struct hf_worker_request {
	const char *name;
	const char *params; /* text; NULL is "" */
	const int *inputs;  /* borrowed; become HF_WORKER_FD_INPUT, +1 … */
	size_t inputs_n;
	uint64_t idle_limit_ns, hard_limit_ns; /* 0: the table's; never more than the table's */

	/* text is borrowed, one line of UTF-8; comes only when something changed. NULL: not wanted */
	void (*on_progress)(void *userdata, uint32_t percent, const char *text);
	/*
	 * Once, always from the loop (or hf_workers_free()). result is a sealed memfd, owned by the
	 * callee; -1 unless the worker succeeded. reason is one line, "" when it succeeded. The worker
	 * is gone when this returns; unless the kernel does not let go of it, which is then busy.
	 */
	void (*on_done)(void *userdata, enum hf_worker_outcome outcome, int result,
			const char *reason);
	void *userdata;
};

/*
 * 0, or -errno with a sentence in err: -ENOENT no such worker or program, -EBUSY it runs already,
 * -E2BIG parameters. on_done comes only after 0. *ret stays valid until on_done.
 */
int hf_worker_start(struct hf_workers *ws, const struct hf_worker_request *q,
		    struct hf_worker **ret, struct hf_err *err);

/*
 * Asks it to stop, SIGKILL after some seconds. on_done says cancelled, unless it had come to
 * another end before it heard of it. A second call changes nothing.
 */
void hf_worker_cancel(struct hf_worker *k);

bool hf_worker_runs(const struct hf_workers *ws, const char *name);
pid_t hf_worker_pid(const struct hf_worker *k);
