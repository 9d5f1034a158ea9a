/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What /proc says of a process. Silent; the process may vanish at any moment, which is -ESRCH.
 * A pid names a process only together with its start time (HF_PROCESS_TICK_NS steps).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct hf_proc_stat {
	char state; /* R S D Z T t X I */
	uint32_t ppid;
	uint32_t session;
	uint64_t start_ns; /* CLOCK_BOOTTIME of the start, rounded down to a tick */
	uint32_t threads;
	uint64_t cpu_ns; /* user and system, ended threads included; in ticks */
};

/* The text of /proc/PID/stat; comm may hold anything, ')' and newlines included. -EBADMSG. */
int hf_proc_parse_stat(const char *text, struct hf_proc_stat *ret);
int hf_proc_stat(uint32_t pid, struct hf_proc_stat *ret);

/* How a silent process spent its time: cumulative numbers, to be compared with an earlier one. */
struct hf_proc_sample {
	uint64_t at_ns;        /* CLOCK_MONOTONIC */
	uint64_t cpu_ns;       /* on a CPU, all threads */
	uint64_t wait_ns;      /* runnable without a CPU, all threads: starvation */
	uint64_t throttled_ns; /* its cgroups were over their quota */
	bool stopped;          /* SIGSTOP, or a frozen cgroup */
	bool traced;           /* a debugger holds it */
	bool uninterruptible;  /* some thread is in D state */
};

int hf_proc_sample(uint32_t pid, uint64_t now_ns, struct hf_proc_sample *ret);

/* Resident memory in bytes, 0 if unknown. */
uint64_t hf_proc_rss(uint32_t pid);

/*
 * SIGKILL to every process of the user that is of this session, or to all of the user's. For what a
 * worker left where there are no cgroups. Returns how many there were. Never for uid 0.
 */
unsigned hf_proc_kill_session(uint32_t session, uint32_t uid, bool any_session);

/* What is worth keeping of a process before it is killed: state, wchan, stacks. Appends text. */
void hf_proc_describe(uint32_t pid, struct hf_buf *out);
