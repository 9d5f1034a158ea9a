/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the version to blame? What happened to a component's process, with the time, goes in; a reason to
 * roll its version back comes out. Pure: no clock, no process, no file.
 *
 * On trial a version is judged strictly (DESIGN section 7); a kept one only when it ends again and
 * again, because then the cause is rarely in the version.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "watchdog/death.h"
#include "watchdog/release_state.h"

enum hf_release_blame {
	HF_BLAME_NOBODY,  /* somebody else's doing: an operator, a host without memory, a request */
	HF_BLAME_UNKNOWN, /* nobody knows why: counts as a try, not as a fault */
	HF_BLAME_CRASH,
	HF_BLAME_HANG,
	HF_BLAME_LIMIT,
	HF_BLAME_NOT_READY,
	HF_BLAME_PERMANENT, /* exit code 100: it says itself that trying again is of no use */
	_HF_BLAME_MAX,
};

/* was_ready: this process had said READY. own_limit: out of memory by its own cgroup's limit. */
enum hf_release_blame hf_release_blame(const struct hf_death *d, bool was_ready, bool own_limit);

/* Ends of a kept version within HF_RELEASE_LATE_NS that lead to a late rollback. */
#define HF_RELEASE_LATE_ENDS 5u
#define HF_RELEASE_LATE_NS   (600 * HF_NS_PER_S)

/* A canary that was not reported after this is lost: the rings are emptied each 100 ms. */
#define HF_CANARY_WAIT_NS (5 * HF_NS_PER_S)
#define HF_CANARY_LOST    3u
#define HF_CANARIES_MAX   8u

struct hf_release_judge {
	bool trial;
	uint64_t ends_ns[HF_RELEASE_LATE_ENDS]; /* newest first; 0: none */
	unsigned hangs;

	struct {
		uint64_t nonce, due_ns; /* nonce 0: free */
	} canary[HF_CANARIES_MAX];
	unsigned canaries_seen, canaries_lost; /* lost: in a row */

	uint64_t healthy_ns; /* of all processes of this trial together */
	uint64_t tick_ns;    /* of the last look; 0: not healthy then */

	bool expects_portal; /* the version before was connected when it was stopped */
	bool had_portal;     /* this one was as well */
	uint64_t without_portal_ns;
};

/* A version begins. healthy_ns: what an earlier watchdog had counted. */
void hf_release_judge_begin(struct hf_release_judge *j, bool trial, uint64_t healthy_ns,
			    bool expects_portal);

/* Its process ended. WHY_NONE: it stays. */
enum hf_release_reason hf_release_judge_end(struct hf_release_judge *j, enum hf_release_blame blame,
					    uint64_t now_ns);

/* False when all are still on their way: nothing is noted, and none needs to be sent. */
bool hf_release_judge_canary_sent(struct hf_release_judge *j, uint64_t nonce, uint64_t now_ns);
/* It could not be sent after all. */
void hf_release_judge_canary_cancel(struct hf_release_judge *j, uint64_t nonce);
void hf_release_judge_canary_seen(struct hf_release_judge *j, uint64_t nonce);
/* The process that should have seen them is gone, or could not run. */
void hf_release_judge_canaries_forget(struct hf_release_judge *j);

/* What the process is like now; asked about once a second while a version is on trial. */
struct hf_release_look {
	bool healthy;       /* READY, moves, and says that it is well */
	bool connected;     /* has its portal */
	bool canaries;      /* they are judged here: the kernel programs see ends of processes */
	uint64_t portal_ns; /* how long it may be without the portal */
};
enum hf_release_reason hf_release_judge_look(struct hf_release_judge *j,
					     const struct hf_release_look *l, uint64_t now_ns);
/* It has passed. */
bool hf_release_judge_passed(const struct hf_release_judge *j, const struct hf_release_look *l,
			     uint64_t probation_ns);
