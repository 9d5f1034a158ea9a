/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a process ended: what waitid() says, what the kernel program recorded, and what we ourselves
 * had in mind, made into one cause and one sentence. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/kernel_policy.h"
#include "holdfast/supervise.h"

struct hf_death_evidence {
	uint32_t pid;
	bool has_status; /* status is as waitpid() gives it: by waitid() or by the verdict */
	int status;
	const struct hf_exit_verdict *verdict; /* NULL: the kernel programs did not see it */
	/* HF_EXIT_HUNG, _LIMIT or _STOPPED_BY_REQUEST when we were ending it; else UNKNOWN. */
	enum hf_exit_cause intent;
	bool unanswered; /* intent STOPPED_BY_REQUEST: SIGTERM did not help, SIGKILL did */
	uint64_t
		seen_boot_ns; /* CLOCK_BOOTTIME when we noticed: the best we have without verdict */
};

struct hf_death {
	enum hf_exit_cause cause;
	uint32_t pid;
	int32_t code;   /* -1 when ended by a signal or unknown */
	int32_t signal; /* 0 when it exited */
	bool core;
	uint32_t by_pid; /* 0: unknown, or nobody but the kernel */
	uint32_t by_uid;
	bool from_kernel;
	uint64_t at_boot_ns;
	uint64_t exit_to_exec_us;  /* filled in later, 0 until then */
	uint64_t exit_to_ready_us; /* likewise */
	char by_comm[HF_SUP_COMM_MAX];
	char text[HF_SUP_TEXT_MAX]; /* for people: "killed by SIGKILL from pid 77 'bash', uid 0" */
};

void hf_death_judge(const struct hf_death_evidence *e, struct hf_death *ret);
