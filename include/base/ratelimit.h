/* SPDX-License-Identifier: Apache-2.0 */
/* Token bucket with a count of what it refused. Not thread-safe: one bucket, one loop. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hf_ratelimit {
	uint32_t burst;       /* tokens at the most; 0 refuses everything */
	uint64_t interval_ns; /* one token comes back per interval */
	uint64_t tokens;      /* private from here on */
	uint64_t refilled_at_ns;
	uint64_t refused;
	bool started;
};

/* True if the caller may go on. Starts full. */
bool hf_ratelimit_take(struct hf_ratelimit *l, uint64_t now_ns);
/* What was refused since the last call. */
uint64_t hf_ratelimit_refused(struct hf_ratelimit *l);
