/* SPDX-License-Identifier: Apache-2.0 */
/* Is a component over its limits, and for long enough to matter? */
#include "watchdog/limit.h"

#include <stdbool.h>

static bool over_cpu(struct hf_limit *l, uint64_t max_percent, uint64_t cpu_ns, uint64_t now_ns)
{
	uint64_t window_ns, used_ns;

	if (!l->window_start_ns || cpu_ns < l->window_cpu_ns) {
		l->window_start_ns = now_ns;
		l->window_cpu_ns = cpu_ns;
		return false;
	}
	window_ns = now_ns - l->window_start_ns;
	if (window_ns < HF_LIMIT_CPU_WINDOW_NS)
		return false;
	used_ns = cpu_ns - l->window_cpu_ns;
	l->cpu_permille = used_ns / (window_ns / 1000);
	l->window_start_ns = now_ns;
	l->window_cpu_ns = cpu_ns;
	return max_percent && l->cpu_permille > max_percent * 10;
}

enum hf_limit_verdict hf_limit_check(struct hf_limit *l, uint64_t memory_max,
				     uint64_t cpu_max_percent, uint64_t rss, uint64_t cpu_ns,
				     uint64_t now_ns)
{
	bool cpu = over_cpu(l, cpu_max_percent, cpu_ns, now_ns);

	l->over_memory = memory_max && rss > memory_max ? l->over_memory + 1 : 0;
	if (l->over_memory >= 2)
		return HF_LIMIT_MEMORY;
	return cpu ? HF_LIMIT_CPU : HF_LIMIT_OK;
}
