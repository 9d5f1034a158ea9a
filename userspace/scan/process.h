/* SPDX-License-Identifier: Apache-2.0 */
/* Processes as /proc shows them. They come and go: whatever is missing is empty. */
#pragma once

#include "userspace/scan/scan.h"

#define HF_UNIT_MAX 128u

struct hf_process {
	uint32_t pid;
	int dir; /* /proc/PID */
	char comm[64];
	char unit[HF_UNIT_MAX]; /* of systemd; "" for none */
	uint32_t uid;
};

/* Calls fn for each process; < 0 ends it. The progress goes from `from` to `to` of the check. */
int hf_process_each(struct hf_scan *s, double from, double to,
		    int (*fn)(struct hf_scan *s, const struct hf_process *p, void *arg), void *arg);

/* The unit in the text of /proc/PID/cgroup. */
void hf_process_unit(const char *cgroup, char dst[static HF_UNIT_MAX]);

/* A link of its directory ("exe"); -errno, also when it is longer than size. */
int hf_process_readlink(const struct hf_process *p, const char *name, char *dst, size_t size);
