/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slow work with releases (reading, hashing, unpacking, removing) in a child process of the watchdog,
 * which has the same program and memory, and nothing but its work: it ends with the watchdog, opens no
 * socket and writes only into the store. One at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "userspace/release/twin.h"
#include "userspace/release/verify.h"

/* What comes back. Fixed size: less than PIPE_BUF, so that it is read whole or not at all. */
struct hf_release_outcome {
	uint32_t refusal; /* enum hf_refusal, where it was a policy that said no */
	int32_t r;        /* 0, or -errno */
	uint32_t staged;  /* 1: slot is in the store, durable, and no record speaks of it yet */
	char component[HF_MANIFEST_WORD_MAX];
	struct hf_release_slot slot;
	char text[HF_ERR_MSG_MAX]; /* why not, one sentence */
};

struct hf_release_job;

/* In the child: tells the watchdog how far it is. */
struct hf_release_child;
void hf_release_child_progress(struct hf_release_child *c, unsigned percent);

struct hf_release_work {
	/* In the child. arg is as it was at the fork; keep[] are the descriptors left open. */
	void (*run)(struct hf_release_child *child, void *arg, struct hf_release_outcome *ret);
	/* On the loop. */
	void (*progress)(unsigned percent, void *arg);
	/* Once, and the job is gone when it is called. A child that died says so in *o. */
	void (*done)(const struct hf_release_outcome *o, void *arg);
	void *arg;
	int keep[4];
	unsigned n_keep;
};

/* work is copied, arg is borrowed until done() or free. Times out after 10 minutes. */
int hf_release_job_start(sd_event *event, const struct hf_release_work *work,
			 struct hf_release_job **ret);
/* Kills the child if it is still at it; done() is not called. Takes NULL, returns NULL. */
struct hf_release_job *hf_release_job_free(struct hf_release_job *j);
HF_DEFINE_CLEANUP(struct hf_release_job *, hf_release_job_free);
