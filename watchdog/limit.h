/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory and processor limits of a component by looking now and then: works on every host, with and
 * without cgroup controllers. Pure. A peak is forgiven; what lasts is not.
 */
#pragma once

#include <stdint.h>

#include "base/clock.h"

/* How often it is worth looking. */
#define HF_LIMIT_EVERY_NS (2 * HF_NS_PER_S)
/* Processor time is an average over so long: a reconnect or a compression burst is no offence. */
#define HF_LIMIT_CPU_WINDOW_NS (12 * HF_NS_PER_S)

enum hf_limit_verdict {
	HF_LIMIT_OK,
	HF_LIMIT_MEMORY, /* over the limit at two looks in a row */
	HF_LIMIT_CPU,    /* over the limit on average over the window */
};

/* Zero-initialise for each process. */
struct hf_limit {
	unsigned over_memory; /* looks in a row */
	uint64_t window_start_ns;
	uint64_t window_cpu_ns; /* used when the window began */
	uint64_t cpu_permille;  /* of one CPU, in the last whole window */
};

/* memory_max 0, cpu_max_percent 0: no limit. rss 0 is "unknown". Times are CLOCK_MONOTONIC. */
enum hf_limit_verdict hf_limit_check(struct hf_limit *l, uint64_t memory_max,
				     uint64_t cpu_max_percent, uint64_t rss, uint64_t cpu_ns,
				     uint64_t now_ns);
