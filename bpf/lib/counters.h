/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * This CPU's counters. A softirq may interrupt a program of a task on the same CPU, so every
 * change is an atomic add even though no other CPU writes the slot.
 */
#pragma once

#include "maps.h"

static __always_inline struct hf_cpu_counters *hf_counters(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&counters, &cpu);
}

static __always_inline void hf_count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

static __always_inline void hf_count_filtered(__u32 kind)
{
	struct hf_cpu_counters *c = hf_counters();

	if (c && kind < HF_EVENT_KIND_SLOTS)
		hf_count(&c->kind[kind].filtered);
}

static __always_inline void hf_count_misc(enum hf_misc_counter which)
{
	struct hf_cpu_counters *c = hf_counters();

	if (c && which < HF_MISC_SLOTS)
		hf_count(&c->misc[which]);
}
