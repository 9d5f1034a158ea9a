/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The upload budget (DESIGN section 6): so many single events a second leave this host; what is
 * above is counted by kind, owner, peer and reason and leaves as one event per group every ten
 * seconds. Pure: time is passed in.
 *
 * Bounds: HF_BUDGET_GROUPS_MAX groups a window; what finds no group is counted in one last group
 * without owner, peer and reason.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ratelimit.h"
#include "bus.pb-c.h"

#define HF_BUDGET_GROUPS_MAX 256u
#define HF_BUDGET_WINDOW_MS  10000u

struct hf_budget_group {
	uint64_t count;
	uint64_t first_unix_ns, last_unix_ns;
	uint32_t pid, uid;
	char kind[24], comm[16], unit[64], peer[64], reason[48];
};

struct hf_budget {
	struct hf_ratelimit single;
	struct hf_budget_group groups[HF_BUDGET_GROUPS_MAX + 1]; /* the last one: the rest */
	size_t n;
	uint64_t window_began_ns;
};

void hf_budget_init(struct hf_budget *b, uint64_t max_per_s, uint64_t burst);
void hf_budget_configure(struct hf_budget *b, uint64_t max_per_s, uint64_t burst);
/* True: it leaves as it is. False: it is counted. */
bool hf_budget_take(struct hf_budget *b, const Bus__Event *e, uint64_t now_ns);
/* True once the window is over and there is something to send. */
bool hf_budget_due(const struct hf_budget *b, uint64_t now_ns);
/* Calls emit for each group (the event is borrowed for the call) and begins a new window. */
void hf_budget_flush(struct hf_budget *b, uint64_t now_ns,
		     void (*emit)(Bus__Event *e, void *userdata), void *userdata);
