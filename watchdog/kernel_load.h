/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads, pins and re-opens the BPF programs, and owns every map write. Only the kernel_*.c
 * beside it use libbpf.
 *
 * Pins live in <pin_root>/<instance>/<schema-hash>/, 0700. The hash is over the object's bytes and
 * the map sizes: pins of the same hash are opened again (counters and rings go on), those of any
 * other are removed. Closing leaves the pins: programs go on recording. Only hf_kernel_unpin()
 * ends them.
 *
 * Never fatal: hf_kernel_open() fails only for want of memory; otherwise hf_kernel_assist() and the
 * list of programs say what works and why the rest does not. Every other call on an object whose
 * assist is "off" returns -ENOSYS.
 *
 * Main loop only; no call blocks except hf_kernel_open() (tens of milliseconds, at start).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/kernel_policy.h"

#define HF_KERNEL_PIN_ROOT     "/sys/fs/bpf/holdfast"
#define HF_KERNEL_URGENT_BYTES (256u * 1024)
#define HF_KERNEL_BULK_BYTES   (2048u * 1024)

enum hf_kernel_mode {
	HF_KERNEL_AUTO, /* whatever the kernel allows */
	HF_KERNEL_OFF,  /* by configuration */
};

enum hf_kernel_assist {
	HF_KERNEL_ASSIST_OFF,
	HF_KERNEL_ASSIST_PARTIAL, /* a program that this product counts on is missing */
	HF_KERNEL_ASSIST_EBPF,
	_HF_KERNEL_ASSIST_MAX,
};

struct hf_kernel_options {
	const char *instance;  /* "main", or derived from the state directory; [A-Za-z0-9_-]+ */
	const char *pin_root;  /* NULL: HF_KERNEL_PIN_ROOT */
	uint32_t urgent_bytes; /* powers of two, page-sized at least; 0: the defaults above */
	uint32_t bulk_bytes;
	enum hf_kernel_mode mode;
	const struct hf_policy *policy; /* NULL: hf_kernel_default_policy() */
};

struct hf_kernel;

struct hf_kernel_program {
	const char *name; /* as in `holdfast status`: "tcp.state", "proc.exit" … */
	bool attached;
	const char *reason; /* "" when attached */
};

/* *ret is the caller's, to be freed with hf_kernel_free(). Logs what is off, and why, once. */
int hf_kernel_open(const struct hf_kernel_options *options, struct hf_kernel **ret);
/* Leaves the pins. Takes NULL; returns NULL. */
struct hf_kernel *hf_kernel_free(struct hf_kernel *k);
/* Detaches the programs and removes this instance's pins: only for a requested stop. */
int hf_kernel_unpin(struct hf_kernel *k);

enum hf_kernel_assist hf_kernel_assist(const struct hf_kernel *k);
/* "off", "partial", "ebpf". */
const char *hf_kernel_assist_name(enum hf_kernel_assist assist);
/* Why the assist is not "ebpf"; "" when it is. Owned by k. */
const char *hf_kernel_reason(const struct hf_kernel *k);
/* True if hf_kernel_open() found the pins of an earlier watchdog and went on with them. */
bool hf_kernel_reopened(const struct hf_kernel *k);
/* Program number i, or NULL past the last. Strings are owned by k. */
const struct hf_kernel_program *hf_kernel_program(const struct hf_kernel *k, size_t i);

void hf_kernel_default_policy(struct hf_policy *ret);
/* Takes effect for the next event; guardian_tgid is filled in. */
int hf_kernel_set_policy(struct hf_kernel *k, const struct hf_policy *policy);
/* Members of the filter maps; which of them count is in the policy's flags. */
int hf_kernel_filter_netns(struct hf_kernel *k, uint32_t netns, bool on);
int hf_kernel_filter_cgroup(struct hf_kernel *k, uint64_t cgroup_id, bool on);
int hf_kernel_filter_port(struct hf_kernel *k, uint16_t port, bool on);

/* Tells what a finished window of skb.drop counted and no later packet has told: from a timer, about
 * once a second. How many records it made, or -errno. */
int hf_kernel_flush_drops(struct hf_kernel *k);

/* Events of the socket with this SO_COOKIE come on the urgent ring. -E2BIG: too many. */
int hf_kernel_watch_socket(struct hf_kernel *k, uint64_t cookie, bool on);

/*
 * Processes whose exit is urgent and leaves a verdict. start_ns: CLOCK_BOOTTIME of the start, exact
 * or field 22 of /proc/PID/stat times HF_PROCESS_TICK_NS. The watchdog's own children leave a
 * verdict without being watched, so a child that dies before it can be watched is no gap.
 */
int hf_kernel_watch_process(struct hf_kernel *k, uint32_t tgid, uint64_t start_ns);
/* -ENOENT: no verdict (yet). */
int hf_kernel_lookup_exit(struct hf_kernel *k, uint32_t tgid, uint64_t start_ns,
			  struct hf_exit_verdict *ret);
/* Forgets watch and verdict. */
int hf_kernel_forget_process(struct hf_kernel *k, uint32_t tgid, uint64_t start_ns);

/*
 * Descriptors for the agent, borrowed from k (SCM_RIGHTS duplicates them): both rings, the counters
 * (frozen: nobody can write by it), and a sealed memfd with the text of kernel_policy.h, made anew by each call of
 * hf_kernel_text_fd() and owned by the caller. -ENOSYS when assist is off, except for the text.
 */
int hf_kernel_ring_fd(const struct hf_kernel *k, enum hf_ring_id ring);
int hf_kernel_counters_fd(const struct hf_kernel *k);
int hf_kernel_text_fd(const struct hf_kernel *k);

/* What program number i missed so far because it would have interrupted itself. */
uint64_t hf_kernel_program_missed(const struct hf_kernel *k, size_t i);
/* Sum of what the programs missed because they interrupted themselves. */
uint64_t hf_kernel_recursion_misses(const struct hf_kernel *k);
