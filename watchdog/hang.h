/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells a hang from a slow host. Pure: it is given PROGRESS packets, samples of /proc and the time.
 *
 * A component is late when it was silent, or one of its workers stood still, for the deadline. It
 * is hung only if in that time it had the chance to run and did not use it:
 *
 *   stopped, traced   somebody holds it: reported, never killed; the deadline begins anew after
 *   starved           it was runnable without a CPU, or throttled: stretched to the long deadline
 *   uninterruptible   it waits in the kernel (D): likewise
 *   we were late      our own check came late (suspend, a paused VM, our own starvation): our fault
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "holdfast/supervise.h"
#include "watchdog/proc.h"

struct hf_hang_policy {
	uint64_t expect_ns;   /* PROGRESS comes at least so often */
	uint64_t deadline_ns; /* silence that is a hang */
	uint64_t stretch_ns;  /* the same for a starved or D-state process */
};

#define HF_HANG_POLICY_DEFAULT                                            \
	(struct hf_hang_policy)                                           \
	{                                                                 \
		.expect_ns = HF_NS_PER_S, .deadline_ns = 3 * HF_NS_PER_S, \
		.stretch_ns = 30 * HF_NS_PER_S,                           \
	}

enum hf_liveness {
	HF_LIVE_OK,
	HF_LIVE_LATE,    /* silent, the deadline has not come */
	HF_LIVE_STARVED, /* excused */
	HF_LIVE_BLOCKED, /* excused: D state */
	HF_LIVE_STOPPED, /* excused for as long as it lasts */
	HF_LIVE_TRACED,  /* likewise */
	HF_LIVE_HUNG,
	_HF_LIVE_MAX,
};

struct hf_hang {
	unsigned workers;
	uint64_t counter[HF_SUP_WORKERS_MAX];
	uint64_t moved_ns[HF_SUP_WORKERS_MAX]; /* when it last changed */
	uint64_t packet_ns;                    /* the last PROGRESS */
	uint64_t silent_since_ns;              /* computed by the last check */
	uint64_t excused_ns;                   /* last time it had a good excuse */
	uint64_t due_ns;                       /* when the next check was meant to come */
	bool sampled;
	struct hf_proc_sample sample; /* the previous one */
	enum hf_liveness liveness;
	int stuck_worker; /* -1: silence as a whole */
};

/* Watching begins (HELLO): the first PROGRESS is due like any other. */
void hf_hang_begin(struct hf_hang *h, uint64_t now_ns);

/* A PROGRESS packet came. -EBADMSG: more workers than there can be. */
int hf_hang_progress(struct hf_hang *h, const struct hf_sup_progress *p, uint64_t now_ns);

/*
 * Is a sample of /proc needed for the check at now_ns? (Only when it is late already, so that a
 * healthy component costs nothing.)
 */
bool hf_hang_needs_sample(const struct hf_hang *h, const struct hf_hang_policy *p, uint64_t now_ns);

/* sample NULL: not needed, or /proc could not be read. Sets h->liveness and h->due_ns. */
enum hf_liveness hf_hang_check(struct hf_hang *h, const struct hf_hang_policy *p,
			       const struct hf_proc_sample *sample, uint64_t now_ns);

const char *hf_liveness_name(enum hf_liveness l);
