/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All maps and load-time constants. Each program file gets the same weak definitions; the static
 * linker keeps one. Sizes of rings and counters are set by the loader.
 */
#pragma once

#include "kernel_types.h"

#include "holdfast/kernel_policy.h"

#define HF_SHARED __attribute__((weak))

/* What the loader found out about the running kernel (argument counts come from its BTF). Frozen
 * before verification, so the verifier never looks at the branches that do not apply. */
struct hf_kernel_features {
	bool sk_storage;     /* bpf_sk_storage_get() in tracing programs (5.11) */
	bool sk_cookie;      /* bpf_get_socket_cookie() in tracing programs (5.12) */
	bool rst_reason;     /* tcp_send_reset(sk, skb, reason) */
	bool group_dead;     /* sched_process_exit(task, group_dead) */
	bool retransmit_err; /* tcp_retransmit_skb(sk, skb, err) */
	bool drop_rx_sk;     /* kfree_skb(skb, location, reason, rx_sk) */
	__u32 page_kib;
	__u32 bulk_eighth; /* an eighth of ring_bulk, bytes: the last one is kept for exits */
};

HF_SHARED const volatile struct hf_kernel_features hf_kernel = {};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} ring_urgent HF_SHARED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2048 * 1024);
} ring_bulk HF_SHARED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hf_cpu_counters);
} counters HF_SHARED SEC(".maps");

#ifdef HF_NO_FETCH
/* lib/emit.h: a sequence number is being taken on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} seq_taking HF_SHARED SEC(".maps");
#endif

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hf_policy);
} policy HF_SHARED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * HF_FILTER_NETNS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} filter_netns HF_SHARED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * HF_FILTER_CGROUP_MAX);
	__type(key, __u64);
	__type(value, __u32);
} filter_cgroup HF_SHARED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * HF_FILTER_PORT_MAX);
	__type(key, __u16);
	__type(value, __u32);
} filter_port HF_SHARED SEC(".maps");

struct hf_unit_name {
	char name[HF_CGROUP_LEAF_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * HF_FILTER_UNIT_MAX);
	__type(key, struct hf_unit_name);
	__type(value, __u32);
} filter_unit HF_SHARED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HF_WATCHED_COOKIE_MAX);
	__type(key, __u64);
	__type(value, __u32);
} watched_cookie HF_SHARED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HF_WATCHED_PROCESS_MAX);
	__type(key, struct hf_process_key);
	__type(value, __u32);
} watched_process HF_SHARED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HF_EXIT_VERDICT_MAX);
	__type(key, struct hf_process_key);
	__type(value, struct hf_exit_verdict);
} exit_verdict HF_SHARED SEC(".maps");

/*
 * The life of one socket. It lives in the socket and dies with it, so there is no table to fill
 * and no stale entry; BPF_F_CLONE copies a listener's to each connection it spawns, which is why a
 * connection that dies before accept() still has an owner.
 */
#define HF_SOCK_RST_RECEIVED (1u << 0)
#define HF_SOCK_RST_SENT     (1u << 1)
#define HF_SOCK_REPORTED     (1u << 2) /* its end was told: nothing more for it */
#define HF_SOCK_ABORTED      (1u << 3) /* went to CLOSE without FIN */
#define HF_SOCK_KEEPALIVE    (1u << 4) /* ended by unanswered keepalive probes */
#define HF_SOCK_PASSIVE      (1u << 5) /* came from a listener: its reader is its owner */

struct hf_sock_life {
	__u64 start_ns;
	__u64 cgroup_id;
	__u64 born_ns;
	__u32 tgid;
	__u32 uid;
	__u32 src; /* enum hf_owner_src */
	__u32 flags;
	__u32 last_state; /* before CLOSE */
	__u32 closed_by;
	__u32 rtx_una; /* snd_una when rtx_count began: progress resets the count */
	__u32 rtx_count;
	char comm[HF_COMM_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct hf_sock_life);
} sock_life HF_SHARED SEC(".maps");

#ifdef HF_NO_FETCH
/*
 * Where tracing programs have no socket storage (before 5.11): by address. No copy from a listener,
 * and old entries are evicted instead of dying with the socket; each new socket begins a new one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct hf_sock_life);
} life_by_address HF_SHARED SEC(".maps");
#endif

/* Names of the cgroups of owners: an event in softirq must not walk another process. */
struct hf_cgroup_names {
	char leaf[HF_CGROUP_LEAF_SIZE];
	char parent[HF_CGROUP_LEAF_SIZE]; /* as long, to be a key of filter_unit */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct hf_cgroup_names);
} cgroup_names HF_SHARED SEC(".maps");

/* Classes have buckets of their own: a reset storm must not cost a cgroup its exits. */
enum hf_bucket_class {
	HF_BUCKET_CONN,
	HF_BUCKET_EXIT,
	HF_BUCKET_EXIT_BAD, /* by a signal or with a status: the ones people ask about */
	HF_BUCKET_DROP,
};

struct hf_bucket_key {
	__u64 group; /* cgroup id; bit 63 set: a uid, where there is no cgroup */
	__u32 class;
	__u32 reserved;
};

struct hf_bucket {
	__u64 full_at_ns; /* when all tokens will be back: the whole state of the bucket */
	__u64 throttled;  /* since the last mark */
	__u64 since_ns;
	__u64 marked_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct hf_bucket_key);
	__type(value, struct hf_bucket);
} buckets HF_SHARED SEC(".maps");

/* The last signal with a deadly default action that was sent to a process, by number. */
struct hf_signal_key {
	__u64 start_ns;
	__u32 tgid;
	__u32 signal;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct hf_signal_key);
	__type(value, struct hf_sender);
} fatal_signals HF_SHARED SEC(".maps");

/* Threads of a process that ended before its last one; also the mark that its exit was told. */
struct hf_thread_count {
	__u32 ended;
	__u32 told;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct hf_process_key); /* with the exact start */
	__type(value, struct hf_thread_count);
} thread_counts HF_SHARED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HF_DROP_COUNTS_MAX);
	__type(key, struct hf_drop_key);
	__type(value, struct hf_drop_count);
} drop_counts HF_SHARED SEC(".maps");
