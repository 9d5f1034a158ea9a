/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The parts of kernel types that our programs read, written by hand. preserve_access_index makes
 * the loader replace each offset by that of the running kernel, so order and omissions here do not
 * matter, only names and types. A type with a ___suffix is the same kernel type as it looked in
 * other versions; which one is there is asked with bpf_core_field_exists().
 */
#pragma once

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define AF_INET     2
#define AF_INET6    10

#define IPPROTO_TCP 6

/* include/net/tcp_states.h; the numbers are user ABI (inet_diag). */
#define TCP_ESTABLISHED  1
#define TCP_SYN_SENT     2
#define TCP_SYN_RECV     3
#define TCP_FIN_WAIT1    4
#define TCP_FIN_WAIT2    5
#define TCP_TIME_WAIT    6
#define TCP_CLOSE        7
#define TCP_CLOSE_WAIT   8
#define TCP_LAST_ACK     9
#define TCP_LISTEN       10
#define TCP_CLOSING      11
#define TCP_NEW_SYN_RECV 12

#define EPIPE            32
#define ECONNRESET       104
#define ETIMEDOUT        110

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__s64 counter;
} atomic64_t;

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__u32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__u32 skc_daddr;
	__u32 skc_rcv_saddr;
	__u16 skc_dport; /* network order */
	__u16 skc_num;   /* host order */
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	unsigned long skc_flags;
};

typedef struct {
	int owned;
} socket_lock_t;

struct kernfs_node {
	const char *name;
	__u64 id;
};

/* parent was renamed when it became RCU-protected (6.15). */
struct kernfs_node___old {
	struct kernfs_node *parent;
};

struct kernfs_node___new {
	struct kernfs_node *__parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

/* Before 5.15 the pointer shares a word with net_cls data; it is not read there. */
struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	int sk_err;
	__u16 sk_protocol;
	__u8 sk_shutdown;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
	struct sock_cgroup_data sk_cgrp_data;
};

struct socket {
	struct sock *sk;
};

struct inet_sock {
	__u16 inet_sport; /* network order */
};

struct inet_connection_sock {
	__u8 icsk_retransmits;
	__u8 icsk_probes_out;
	__u32 icsk_user_timeout;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 copied_seq;
	__u32 rcv_nxt;
	__u32 write_seq;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 srtt_us; /* eighths of a microsecond */
	__u32 total_retrans;
	__u32 packets_out;
	__u64 bytes_received;
	__u64 bytes_acked;
};

struct net_device {
	possible_net_t nd_net;
};

struct sk_buff {
	struct sock *sk;
	struct net_device *dev;
	__u16 protocol; /* network order */
	__u16 transport_header;
	__u16 network_header;
	unsigned char *head;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

typedef struct {
	__u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
};

struct nsproxy {
	struct net *net_ns;
};

struct mm_rss_stat {
	atomic64_t count[4];
};

/* Until 6.2; then per-CPU counters, whose global part is close enough for a victim. */
struct mm_struct___old {
	struct mm_rss_stat rss_stat;
};

struct percpu_counter {
	__s64 count;
};

struct mm_struct___new {
	struct percpu_counter rss_stat[4];
};

struct mm_struct {
	unsigned long total_vm;
	atomic64_t pgtables_bytes;
};

struct signal_struct {
	atomic_t live;
	int nr_threads;
	int group_exit_code;
	unsigned int flags;
	__u64 utime;
	__u64 stime;
	unsigned long long sum_sched_runtime; /* of threads that are gone */
	unsigned long maxrss;                 /* pages */
	short oom_score_adj;
	struct mm_struct *oom_mm;
};

struct sigaction {
	void *sa_handler;
};

struct k_sigaction {
	struct sigaction sa;
};

struct sighand_struct {
	struct k_sigaction action[64];
};

struct kernel_siginfo {
	int si_signo;
	int si_errno;
	int si_code;
};

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	__u64 start_boottime;
	__u64 utime;
	__u64 stime;
	const struct cred *cred;
	char comm[16];
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct sighand_struct *sighand;
	struct css_set *cgroups;
	struct mm_struct *mm;
};

struct file;
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

/* Only to ask which members the running kernel's enums have, and their values there. */
enum sk_rst_reason {
	SK_RST_REASON_TCP_KEEPALIVE_TIMEOUT = 15,
};

enum cgroup_subsys_id {
	memory_cgrp_id = 4,
};

enum sock_flags {
	SOCK_DEAD,
	SOCK_DONE,
	SOCK_KEEPOPEN = 3,
};

#pragma clang attribute pop

#define PF_KTHREAD        0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004

static __always_inline __u16 hf_ntohs(__u16 v)
{
	return __builtin_bswap16(v);
}

/*
 * A chain of members behind a pointer whose type the verifier knows (a tracepoint's argument, or
 * the current task): plain loads, a fault reads 0. Before 5.11 the current task is only a number
 * there, and so every task is read the slow way.
 */
#ifndef HF_NO_FETCH
#define HF_GET(src, ...) ___arrow(src, __VA_ARGS__)
static __always_inline struct task_struct *hf_current(void)
{
	return (struct task_struct *)bpf_get_current_task_btf();
}
#else
#define HF_GET(src, ...) BPF_CORE_READ(src, __VA_ARGS__)
static __always_inline struct task_struct *hf_current(void)
{
	return (struct task_struct *)bpf_get_current_task();
}
#endif
