/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog's description of the running kernel, as the agent reads it (format:
 * holdfast/kernel_policy.h): which programs are on, ring sizes, the names of reset and drop reasons.
 * The text is untrusted: capped, checked, and what comes out is printable ASCII. Silent.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/kernel_policy.h"

#define HF_KERNEL_PROGRAMS_MAX 32

struct hf_kernel_info_program {
	char name[32];
	bool attached;
	char reason[160];
	uint64_t missed;
};

struct hf_kernel_info;

/* -EINVAL: not such a text (of our ABI); -EMSGSIZE: too long. *ret is the caller's. */
int hf_kernel_info_parse(const char *text, size_t len, struct hf_kernel_info **ret);
/* Reads the whole of fd from its beginning. fd is borrowed. */
int hf_kernel_info_read(int fd, struct hf_kernel_info **ret);
struct hf_kernel_info *hf_kernel_info_free(struct hf_kernel_info *i);

/* "ebpf", "partial" or "off". */
const char *hf_kernel_info_assist(const struct hf_kernel_info *i);
/* Why it is not "ebpf"; "" when it is. */
const char *hf_kernel_info_reason(const struct hf_kernel_info *i);
const uint8_t *hf_kernel_info_boot_id(const struct hf_kernel_info *i); /* 16 bytes */
uint32_t hf_kernel_info_cpus(const struct hf_kernel_info *i);
/* Two sizes, for hf_rings_new(). */
const uint32_t *hf_kernel_info_ring_bytes(const struct hf_kernel_info *i);
/* NULL past the last. */
const struct hf_kernel_info_program *hf_kernel_info_program(const struct hf_kernel_info *i,
							    size_t n);

/* Name of a reason number on this kernel; NULL: it has none. */
const char *hf_kernel_info_rst(const struct hf_kernel_info *i, uint32_t n);
const char *hf_kernel_info_drop(const struct hf_kernel_info *i, uint32_t n);
