/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keys and values of the maps shared with the BPF programs: what user space tells the kernel
 * (policy, filters, what to watch) and what it reads back by other ways than the rings (exit
 * verdicts, counters). All writes are the watchdog's.
 *
 * I1. The counters map is an array with one slot per possible CPU, written only by that CPU's
 *     programs and mapped read-only by the agent: reading it needs no bpf() call and no right.
 * I2. At quiescence, summed over CPUs, for each ring:
 *     seq - base = submitted + lost, and submitted = consumed + in the ring.
 * I3. A process is named by (tgid, start rounded down to HF_PROCESS_TICK_NS), which is exactly
 *     what field 22 of /proc/PID/stat shows; the kernel's nanoseconds cannot be had from there.
 *
 * The description of the running kernel that the watchdog hands to the agent is lines of text,
 * `keyword value…`, in a memfd of at most HF_KERNEL_TEXT_MAX bytes; unknown keywords are skipped:
 *     abi 1                     HF_EVENT_ABI of the loaded programs
 *     assist ebpf|partial|off
 *     reason TEXT               why assist is not ebpf (rest of the line)
 *     boot_id 32HEX
 *     cpus N                    possible CPUs: slots of the counters map
 *     ring urgent|bulk BYTES
 *     program NAME on|off TEXT  TEXT: why it is off
 *     missed NAME N             recursion misses of a program when the text was made
 *     rst N NAME                enum sk_rst_reason of the running kernel, without its prefix
 *     drop N NAME               enum skb_drop_reason, without its prefix
 */
#pragma once

#include "kernel_event.h"

/* 1 MiB would be far too much: about 160 reasons of 60 bytes and 20 programs. */
#define HF_KERNEL_TEXT_MAX 65536u

/* One tick of /proc's clock: USER_HZ is 100 on every architecture we build for. */
#define HF_PROCESS_TICK_NS 10000000ull

struct hf_process_key {
	__u64 start_tick_ns; /* I3 */
	__u32 tgid;
	__u32 reserved;
};

/* hf_policy.flags */
#define HF_POLICY_F_NETNS_ONLY    (1u << 0) /* only network namespaces in filter_netns */
#define HF_POLICY_F_CGROUP_ONLY   (1u << 1) /* only cgroups in filter_cgroup */
#define HF_POLICY_F_CGROUP_EXCEPT (1u << 2) /* all but those in filter_cgroup */
#define HF_POLICY_F_PORT_ONLY     (1u << 3) /* only local or peer ports in filter_port */
#define HF_POLICY_F_PORT_EXCEPT   (1u << 4)
#define HF_POLICY_F_EXIT_BAD_ONLY (1u << 5) /* no proc.exit for status 0 */
#define HF_POLICY_F_NO_THROTTLE   (1u << 6) /* token buckets off */
#define HF_POLICY_F_UNIT_ONLY     (1u << 7) /* only owners whose cgroup's name is in filter_unit */
#define HF_POLICY_F_UNIT_EXCEPT   (1u << 8)
#define HF_POLICY_F_SET_B         (1u << 31) /* members of the filter maps: set B counts, else A */
/* Any of these: the filter maps have a say. */
#define HF_POLICY_F_FILTERS                                                             \
	(HF_POLICY_F_NETNS_ONLY | HF_POLICY_F_CGROUP_ONLY | HF_POLICY_F_CGROUP_EXCEPT | \
	 HF_POLICY_F_PORT_ONLY | HF_POLICY_F_PORT_EXCEPT | HF_POLICY_F_UNIT_ONLY |      \
	 HF_POLICY_F_UNIT_EXCEPT)

#define HF_POLICY_KIND(kind) (1u << (kind))
/* What is on until a policy says otherwise: all but conn.closed and skb.drop aggregates. */
#define HF_POLICY_KINDS_DEFAULT                                                                \
	(HF_POLICY_KIND(HF_EVENT_CONN_FAILED) | HF_POLICY_KIND(HF_EVENT_CONN_RESET_RECEIVED) | \
	 HF_POLICY_KIND(HF_EVENT_CONN_RESET_SENT) | HF_POLICY_KIND(HF_EVENT_CONN_DROPPED) |    \
	 HF_POLICY_KIND(HF_EVENT_CONN_RETRANSMIT) | HF_POLICY_KIND(HF_EVENT_PROC_EXIT) |       \
	 HF_POLICY_KIND(HF_EVENT_PROC_OOM) | HF_POLICY_KIND(HF_EVENT_TELEMETRY_LOSS))

/* Drop reasons are small numbers (130 in Linux 6.18); the bitmap is of the running kernel's. */
#define HF_DROP_REASON_WORDS 4
#define HF_DROP_REASON_MAX   (HF_DROP_REASON_WORDS * 64)

/*
 * The one element of the policy map. Watched sockets and processes pass every filter. kinds and
 * flags are one 8-byte word, which is written and read as one: a program sees the whole of the old
 * choice or the whole of the new one.
 */
struct hf_policy {
	__u32 kinds;              /* HF_POLICY_KIND() of what is recorded */
	__u32 flags;              /* HF_POLICY_F_* */
	__u32 closed_one_in;      /* conn.closed: one of this many; 0 and 1: all */
	__u32 bucket_burst;       /* events of one cgroup and class at once */
	__u64 bucket_interval_ns; /* then one every so often */
	__u64 mark_interval_ns;   /* at most one telemetry.loss per cgroup and class in this time */
	__u64 drop_window_ns;     /* skb.drop aggregates: one record per key in this time */
	__u32 guardian_tgid; /* the watchdog: exits of its children get a verdict without asking */
	__u32 reserved;
	/* One bit per member of watched_cookie and watched_process, HF_WATCH_BIT() of cookie and
	 * tgid: almost every event is of nobody watched, and need not ask the maps. */
	__u64 watched_cookies;
	__u64 watched_tgids;
	__u64 drop_reasons[HF_DROP_REASON_WORDS]; /* which reasons are aggregated */
};

#define HF_WATCH_BIT(n) (1ull << ((n)&63))

/*
 * The filter maps (keys: __u32 netns inode, __u64 cgroup id, __u16 port, a name of
 * HF_CGROUP_LEAF_SIZE bytes) hold two sets: a value is a mask of those that the key is in. A new
 * policy fills the set that does not count and then switches. Sizes are of one set.
 */
#define HF_FILTER_SET_A      1u
#define HF_FILTER_SET_B      2u
#define HF_FILTER_NETNS_MAX  256
#define HF_FILTER_CGROUP_MAX 1024
#define HF_FILTER_PORT_MAX   1024
#define HF_FILTER_UNIT_MAX   256

/* watched_cookie: __u64 cookie → __u32 flags (0 for now). An agent has one channel, two while
 * racing; benches and tests a few more. */
#define HF_WATCHED_COOKIE_MAX 64
/* watched_process: struct hf_process_key → __u32. Components and workers of one watchdog. */
#define HF_WATCHED_PROCESS_MAX 256

/* exit_verdict: struct hf_process_key → this, written before the exit can be seen by pidfd or
 * waitpid. For watched processes and the guardian's children; least recently used are evicted. */
#define HF_EXIT_VERDICT_MAX 1024

struct hf_exit_verdict {
	struct hf_sender sender;
	__u64 boot_ns;  /* when it exited */
	__u64 start_ns; /* exact */
	__u32 status;   /* as waitpid() gives it */
	__u32 oom;
	char comm[HF_COMM_SIZE];
};

/* Drops that no watched socket saw, by reason and owner. */
#define HF_DROP_COUNTS_MAX 2048u

struct hf_drop_key {
	__u64 cgroup_id;
	__u32 netns;
	__u32 reason;
};

struct hf_drop_count {
	__u64 count; /* since the last record */
	__u64 told_ns;
};

/* Counts of what went wrong inside the programs, one index each. */
enum hf_misc_counter {
	HF_MISC_STORAGE_FULL, /* no memory for a socket's owner: it will show as owner none */
	HF_MISC_SIGNAL_FULL,  /* a fatal signal's sender could not be kept */
	HF_MISC_VERDICT_FULL,
	HF_MISC_BUCKET_FULL, /* no token bucket: the event passed unlimited */
	HF_MISC_NESTED,      /* lost because no sequence number could be had (Linux < 5.12) */
	_HF_MISC_COUNTER_MAX,
};
#define HF_MISC_SLOTS 8

struct hf_ring_counters {
	__u64 seq;  /* last sequence number given out */
	__u64 base; /* where seq began, see HF_SEQ_BASE_SHIFT; generated = seq - base */
	__u64 submitted;
	__u64 lost; /* no room */
};

/*
 * Sequence numbers must not repeat within a boot, even after the programs were unloaded and loaded
 * again: each load starts them at its CLOCK_BOOTTIME in milliseconds << 14, which no CPU can
 * overtake (16 million events per second).
 */
#define HF_SEQ_BASE_SHIFT 14

struct hf_kind_counters {
	__u64 generated;
	__u64 lost;
	__u64 filtered; /* by policy, before a sequence number was taken */
	__u64 throttled;
};

/* One CPU's slot; whole cache lines, so that CPUs do not share any. */
struct hf_cpu_counters {
	struct hf_ring_counters ring[_HF_RING_MAX];
	__u64 misc[HF_MISC_SLOTS];
	struct hf_kind_counters kind[HF_EVENT_KIND_SLOTS];
};

_Static_assert(sizeof(struct hf_process_key) == 16, "ABI");
_Static_assert(sizeof(struct hf_policy) == 96, "ABI");
_Static_assert(sizeof(struct hf_exit_verdict) == 80, "ABI");
_Static_assert(sizeof(struct hf_cpu_counters) == 640, "ABI");
_Static_assert(sizeof(struct hf_cpu_counters) % 64 == 0, "cache lines");
_Static_assert(_HF_MISC_COUNTER_MAX <= HF_MISC_SLOTS, "fits");
