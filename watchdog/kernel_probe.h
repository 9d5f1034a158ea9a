/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the running kernel offers to the programs, asked from its BTF and by trying, never from its
 * version: distributions move features both ways. For kernel_load.c. Silent.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct btf;

/* As bpf/maps.h has it. */
struct hf_kernel_features {
	bool sk_storage;
	bool sk_cookie;
	bool rst_reason;
	bool group_dead;
	bool retransmit_err;
	bool drop_rx_sk;
	uint32_t page_kib;
	uint32_t bulk_eighth;
};

/* Arguments of a tracepoint; -ENOENT if the kernel has none of this name. */
int hf_probe_tracepoint_args(const struct btf *btf, const char *tracepoint);
/* All but page_kib and bulk_eighth. */
void hf_probe_features(const struct btf *btf, struct hf_kernel_features *ret);
/* "rst" and "drop" lines of holdfast/kernel_policy.h. */
int hf_probe_reason_names(const struct btf *btf, struct hf_buf *ret);
/* The instruction set has an add that returns the old value. Needs the right to load programs; false
 * without it. */
bool hf_probe_atomic_fetch(void);
