/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What does this kernel let a tracing program do? One small program per question; probe.h lists
 * them. Each counts its runs in `hits` and leaves one number in `value`, for the report to show
 * that it did what it says and not merely load. Kernel types are the few fields that are read, by
 * CO-RE, so that the probe does not need the headers of the product it informs.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char probe_license[] SEC("license") = "GPL";

__u64 hits;
__s64 value;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kernfs_node {
	__u64 id;
	const char *name;
};
struct cgroup {
	struct kernfs_node *kn;
};
struct css_set {
	struct cgroup *dfl_cgrp;
};
struct signal_struct {
	int group_exit_code;
	struct {
		int counter;
	} live;
};
struct task_struct {
	int pid;
	int tgid;
	__u64 start_boottime;
	int exit_code;
	char comm[16];
	struct signal_struct *signal;
	struct css_set *cgroups;
};
struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned short skc_num;
	__be16 skc_dport;
	struct {
		__s64 counter;
	} skc_cookie;
};
struct sock {
	struct sock_common __sk_common;
	int sk_err;
};
struct tcp_sock {
	__u32 snd_una;
	__u32 write_seq;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u64 bytes_acked;
};
struct socket {
	struct sock *sk;
};
struct sk_buff {
	struct sock *sk;
};
struct path {
	void *mnt;
	void *dentry;
};
struct file {
	struct path f_path;
};
struct linux_binprm {
	struct file *file;
};
struct kernel_siginfo {
	int si_signo;
	int si_code;
	struct {
		struct {
			int _pid;
			int _uid;
		} _kill;
	} _sifields;
};
struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};
struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};
#pragma clang attribute pop
struct tcp6_sock;
struct bpf_map;

static __always_inline int hit(__s64 v)
{
	value = v;
	__sync_fetch_and_add(&hits, 1);
	return 0;
}

/* ---- hooks ---------------------------------------------------------------------------------- */
#define HOOK(name)                       \
	SEC("tp_btf/" #name)             \
	int h_##name(__u64 *ctx)         \
	{                                \
		return hit(ctx[0] != 0); \
	}
HOOK(inet_sock_set_state)
HOOK(tcp_send_reset)
HOOK(tcp_receive_reset)
HOOK(inet_sk_error_report)
HOOK(tcp_rcv_space_adjust)
HOOK(tcp_retransmit_skb)
HOOK(tcp_destroy_sock)
HOOK(tcp_probe)
HOOK(kfree_skb)
HOOK(sched_process_fork)
HOOK(sched_process_exec)
HOOK(sched_process_exit)
HOOK(sched_process_free)
HOOK(signal_generate)
HOOK(signal_deliver)
HOOK(mark_victim)
HOOK(cgroup_attach_task)

#define ARG(name, hook, n)                 \
	SEC("tp_btf/" #hook)               \
	int name(__u64 *ctx)               \
	{                                  \
		return hit((__s64)ctx[n]); \
	}
ARG(a_send_reset_reason, tcp_send_reset, 2)
ARG(a_kfree_skb_reason, kfree_skb, 2)
ARG(a_kfree_skb_rx_sk, kfree_skb, 3)
ARG(a_retransmit_err, tcp_retransmit_skb, 2)
ARG(a_exit_group_dead, sched_process_exit, 1)

SEC("tp_btf/mark_victim")
int a_mark_victim_task(__u64 *ctx)
{
	/* A pid until 6.8, then a task; a scalar cannot be followed. */
	struct task_struct *task = (struct task_struct *)ctx[0];

	return hit(task->tgid);
}

/* ---- maps ----------------------------------------------------------------------------------- */
struct cell {
	__u64 a;
	__u64 b;
};
struct locked_cell {
	struct bpf_spin_lock lock;
	__u64 a;
};
struct timer_cell {
	struct bpf_timer timer;
};

#define MAP(name, kind, k, v, n, flags)   \
	struct {                          \
		__uint(type, kind);       \
		__uint(max_entries, n);   \
		__uint(map_flags, flags); \
		__type(key, k);           \
		__type(value, v);         \
	} name SEC(".maps")
MAP(hash, BPF_MAP_TYPE_HASH, __u64, struct cell, 256, 0);
MAP(hash_lazy, BPF_MAP_TYPE_HASH, __u64, struct cell, 256, BPF_F_NO_PREALLOC);
MAP(lru, BPF_MAP_TYPE_LRU_HASH, __u64, struct cell, 256, 0);
MAP(percpu, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct cell, 4, 0);
MAP(mmapable, BPF_MAP_TYPE_ARRAY, __u32, struct cell, 4, BPF_F_MMAPABLE);
MAP(sks, BPF_MAP_TYPE_SK_STORAGE, int, struct cell, 0, BPF_F_NO_PREALLOC);
MAP(sks_clone, BPF_MAP_TYPE_SK_STORAGE, int, struct cell, 0, BPF_F_NO_PREALLOC | BPF_F_CLONE);
MAP(tasks, BPF_MAP_TYPE_TASK_STORAGE, int, struct cell, 0, BPF_F_NO_PREALLOC);
MAP(locked, BPF_MAP_TYPE_ARRAY, __u32, struct locked_cell, 1, 0);
MAP(timers, BPF_MAP_TYPE_ARRAY, __u32, struct timer_cell, 1, 0);
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} ring SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

#define ON_STATE(name)                    \
	SEC("tp_btf/inet_sock_set_state") \
	int BPF_PROG(name, struct sock *sk, int oldstate, int newstate)

#define KEYED(name, map)                                               \
	ON_STATE(name)                                                 \
	{                                                              \
		__u64 key = (__u64)(unsigned long)sk;                  \
		struct cell c = {.a = 1};                              \
		long r = bpf_map_update_elem(&map, &key, &c, BPF_ANY); \
		struct cell *p = bpf_map_lookup_elem(&map, &key);      \
                                                                       \
		return hit(r ? r : p != 0);                            \
	}
KEYED(m_hash, hash)
KEYED(m_hash_no_prealloc, hash_lazy)
KEYED(m_lru_hash, lru)

#define CELL(name, map)                                           \
	ON_STATE(name)                                            \
	{                                                         \
		__u32 key = 0;                                    \
		struct cell *p = bpf_map_lookup_elem(&map, &key); \
                                                                  \
		if (!p)                                           \
			return hit(-1);                           \
		p->a++;                                           \
		return hit((__s64)p->a);                          \
	}
CELL(m_percpu_array, percpu)
CELL(m_mmapable_array, mmapable)

ON_STATE(m_percpu_lookup)
{
	__u32 key = 0;
	struct cell *p = bpf_map_lookup_percpu_elem(&percpu, &key, 0);

	return hit(p != 0);
}

ON_STATE(m_ringbuf_reserve)
{
	struct cell *p = bpf_ringbuf_reserve(&ring, sizeof(*p), 0);

	if (!p)
		return hit(-1);
	p->a = 1;
	p->b = 2;
	bpf_ringbuf_submit(p, BPF_RB_FORCE_WAKEUP);
	return hit(1);
}

ON_STATE(m_ringbuf_output)
{
	struct cell c = {1, 2};

	return hit(bpf_ringbuf_output(&ring, &c, sizeof(c), BPF_RB_NO_WAKEUP));
}

ON_STATE(m_ringbuf_query)
{
	return hit((__s64)bpf_ringbuf_query(&ring, BPF_RB_RING_SIZE));
}

ON_STATE(m_perf_event_output)
{
	struct cell c = {1, 2};

	/* Nobody has opened the ring: -ENOENT says that the helper ran. */
	return hit(bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &c, sizeof(c)));
}

ON_STATE(m_sk_storage)
{
	struct cell *p = bpf_sk_storage_get(&sks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	return hit(p != 0);
}

/* value: how many sockets came to SYN_RECV→ESTABLISHED with what their listener carried. */
ON_STATE(m_sk_storage_clone)
{
	struct cell *p;

	if (newstate == 10 /* TCP_LISTEN */) {
		p = bpf_sk_storage_get(&sks_clone, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (p)
			p->a = 42;
		return 0;
	}
	if (oldstate != 3 /* TCP_SYN_RECV */)
		return 0;
	p = bpf_sk_storage_get(&sks_clone, sk, 0, 0);
	return hit(p ? (__s64)p->a : -1);
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(m_sk_storage_reset, struct sock *sk)
{
	return hit(bpf_sk_storage_get(&sks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) != 0);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(m_task_storage, struct task_struct *task)
{
	return hit(bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE) != 0);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(m_task_storage_current, struct task_struct *task)
{
	return hit(bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0,
					BPF_LOCAL_STORAGE_GET_F_CREATE) != 0);
}

ON_STATE(m_spin_lock)
{
	__u32 key = 0;
	struct locked_cell *p = bpf_map_lookup_elem(&locked, &key);

	if (!p)
		return 0;
	bpf_spin_lock(&p->lock);
	p->a++;
	bpf_spin_unlock(&p->lock);
	return hit((__s64)p->a);
}

ON_STATE(m_timer)
{
	__u32 key = 0;
	struct timer_cell *p = bpf_map_lookup_elem(&timers, &key);

	if (!p)
		return 0;
	return hit(bpf_timer_init(&p->timer, &timers, 7 /* CLOCK_BOOTTIME */));
}

/* ---- instructions ---------------------------------------------------------------------------- */
__u64 word;

ON_STATE(i_atomic_add)
{
	__sync_fetch_and_add(&word, 2);
	return hit(2);
}

ON_STATE(i_atomic_fetch_add)
{
	return hit((__s64)__sync_fetch_and_add(&word, 1));
}

ON_STATE(i_atomic_xchg)
{
	return hit((__s64)__sync_lock_test_and_set(&word, 7));
}

ON_STATE(i_atomic_cmpxchg)
{
	return hit((__s64)__sync_val_compare_and_swap(&word, 0, 9));
}

ON_STATE(i_atomic_fetch_or)
{
	return hit((__s64)__sync_fetch_and_or(&word, 4));
}

ON_STATE(i_bounded_loop)
{
	__u64 sum = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 100; i++)
		sum += (__u64)i * (__u64)(unsigned)newstate;
	return hit((__s64)sum);
}

__attribute__((noinline)) int global_function(int a, int b)
{
	__sync_fetch_and_add(&word, a);
	return a * 10 + b;
}

ON_STATE(i_global_function)
{
	return hit(global_function(oldstate, newstate));
}

/* ---- helpers --------------------------------------------------------------------------------- */
ON_STATE(f_socket_cookie)
{
	return hit((__s64)bpf_get_socket_cookie(sk));
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(f_socket_cookie_reset, struct sock *sk)
{
	return hit((__s64)bpf_get_socket_cookie(sk));
}

ON_STATE(f_skc_to_tcp_sock)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	return hit(tp ? (__s64)tp->write_seq : -1);
}

ON_STATE(f_skc_to_tcp6_sock)
{
	return hit(bpf_skc_to_tcp6_sock(sk) != 0);
}

#define ON_EXIT(name)                    \
	SEC("tp_btf/sched_process_exit") \
	int BPF_PROG(name, struct task_struct *task)

ON_EXIT(f_current_task)
{
	return hit(bpf_get_current_task() != 0);
}

ON_EXIT(f_current_task_btf)
{
	return hit(((struct task_struct *)bpf_get_current_task_btf())->tgid);
}

ON_EXIT(f_current_cgroup_id)
{
	return hit((__s64)bpf_get_current_cgroup_id());
}

ON_EXIT(f_current_ancestor_cgroup_id)
{
	return hit((__s64)bpf_get_current_ancestor_cgroup_id(0));
}

ON_EXIT(f_ns_current_pid_tgid)
{
	struct bpf_pidns_info ns;

	/* No such namespace: -EINVAL says that the helper ran. */
	return hit(bpf_get_ns_current_pid_tgid(1, 1, &ns, sizeof(ns)));
}

ON_EXIT(f_ktime_boot)
{
	return hit((__s64)bpf_ktime_get_boot_ns());
}

ON_EXIT(f_ktime_coarse)
{
	return hit((__s64)bpf_ktime_get_coarse_ns());
}

ON_EXIT(f_ktime_tai)
{
	return hit((__s64)bpf_ktime_get_tai_ns());
}

ON_EXIT(f_probe_read_kernel_str)
{
	char comm[16];

	return hit(bpf_probe_read_kernel_str(comm, sizeof(comm), &task->comm));
}

ON_EXIT(f_snprintf)
{
	static const char fmt[] = "%d";
	__u64 args[] = {(__u64)task->tgid};
	char out[16];

	return hit(bpf_snprintf(out, sizeof(out), fmt, args, sizeof(args)));
}

static long on_loop(__u32 i, void *arg)
{
	*(__u64 *)arg += i;
	return 0;
}

ON_EXIT(f_loop)
{
	__u64 sum = 0;

	return hit(bpf_loop(10, on_loop, &sum, 0));
}

static long on_each(struct bpf_map *map, __u32 *key, struct cell *c, void *arg)
{
	return 0;
}

ON_EXIT(f_for_each)
{
	return hit(bpf_for_each_map_elem(&percpu, on_each, 0, 0));
}

ON_EXIT(f_strncmp)
{
	static const char name[] = "holdfast";
	char comm[16] = {0};

	bpf_get_current_comm(comm, sizeof(comm));
	return hit(bpf_strncmp(comm, sizeof(comm), name));
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(f_d_path_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	char out[64];

	return hit(bpf_d_path(&bprm->file->f_path, out, sizeof(out)));
}

SEC("tp_btf/sched_process_exit")
int f_func_arg_cnt(void *ctx)
{
	return hit((__s64)bpf_get_func_arg_cnt(ctx));
}

ON_EXIT(f_dynptr_ringbuf)
{
	struct bpf_dynptr p;
	long r = bpf_ringbuf_reserve_dynptr(&ring, 64, 0, &p);

	bpf_ringbuf_discard_dynptr(&p, 0);
	return hit(r);
}

/* ---- sockets seen from other hooks than the one that made the storage --------------------------- */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(s_send_reset_checked, struct sock *sk)
{
	if (!sk)
		return hit(-1);
	return hit(sk->__sk_common.skc_num);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(s_send_reset_unchecked, struct sock *sk)
{
	return hit(sk->__sk_common.skc_num);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(s_send_reset_storage, struct sock *sk)
{
	if (!sk)
		return hit(-1);
	return hit(bpf_sk_storage_get(&sks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) != 0);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(s_send_reset_cookie, struct sock *sk)
{
	if (!sk)
		return hit(-1);
	return hit((__s64)bpf_get_socket_cookie(sk));
}

SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(s_error_storage, struct sock *sk)
{
	return hit(bpf_sk_storage_get(&sks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) != 0);
}

SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(s_rcv_space_storage, struct sock *sk)
{
	return hit(bpf_sk_storage_get(&sks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) != 0);
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(s_retransmit_storage, struct sock *sk)
{
	return hit(bpf_sk_storage_get(&sks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) != 0);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(s_destroy_storage, struct sock *sk)
{
	return hit(bpf_sk_storage_get(&sks, sk, 0, 0) != 0);
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(s_skb_sk_storage, struct sk_buff *skb)
{
	struct sock *sk = skb->sk;

	if (!sk)
		return hit(-1);
	return hit(bpf_sk_storage_get(&sks, sk, 0, 0) != 0);
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(s_skb_sk_cookie, struct sk_buff *skb)
{
	struct sock *sk = skb->sk;

	if (!sk)
		return hit(-1);
	return hit((__s64)bpf_get_socket_cookie(sk));
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(s_skb_rx_sk_storage, struct sk_buff *skb, void *where, int reason, struct sock *rx_sk)
{
	if (!rx_sk)
		return hit(-1);
	return hit(bpf_sk_storage_get(&sks, rx_sk, 0, 0) != 0);
}

/* 0 until something asked for the cookie; SO_COOKIE in user space does. */
ON_STATE(s_cookie_field)
{
	__s64 cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);

	return cookie ? hit(cookie) : 0;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(s_signal_task_storage, int sig, struct kernel_siginfo *info, struct task_struct *task)
{
	return hit(bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE) != 0);
}

/* ---- code behind a constant that is false: may it name what this kernel lacks? -------------------- */
const volatile bool wanted;

SEC("tp_btf/tcp_send_reset")
int d_dead_argument(__u64 *ctx)
{
	return hit(wanted ? (__s64)ctx[2] : 0);
}

ON_STATE(d_dead_cookie)
{
	return hit(wanted ? (__s64)bpf_get_socket_cookie(sk) : 0);
}

ON_STATE(d_dead_sk_storage)
{
	return hit(wanted ? bpf_sk_storage_get(&sks, sk, 0, 0) != 0 : 0);
}

ON_STATE(d_dead_sk_storage_no_map)
{
	return hit(wanted ? bpf_sk_storage_get(&sks, sk, 0, 0) != 0 : 0);
}

ON_EXIT(d_dead_task_storage_no_map)
{
	return hit(wanted ? bpf_task_storage_get(&tasks, task, 0, 0) != 0 : 0);
}

ON_STATE(d_dead_fetch_add)
{
	return hit(wanted ? (__s64)__sync_fetch_and_add(&word, 1) : 0);
}

/* ---- fields ---------------------------------------------------------------------------------- */
/* value: the wait status of the last thread of a process that exits with 3. */
ON_EXIT(c_exit_status)
{
	if (task->pid != task->tgid || task->signal->live.counter != 0)
		return 0;
	if (task->signal->group_exit_code)
		return hit(task->signal->group_exit_code);
	return hit(task->exit_code);
}

ON_EXIT(c_task_cgroup_name)
{
	char name[32];
	const char *p = task->cgroups->dfl_cgrp->kn->name;

	return hit(bpf_probe_read_kernel_str(name, sizeof(name), p));
}

ON_STATE(c_sock_fields)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	return hit((BPF_CORE_READ(tp, write_seq) - BPF_CORE_READ(tp, snd_una)) +
		   BPF_CORE_READ(sk, __sk_common.skc_num) + (__u32)BPF_CORE_READ(sk, sk_err));
}

/* value: the pid that sent the SIGKILL. 0, 1 and 2 are SEND_SIG_NOINFO and its kin, no pointers. */
SEC("tp_btf/signal_generate")
int BPF_PROG(c_siginfo_sender, int sig, struct kernel_siginfo *info, struct task_struct *task)
{
	if (sig != 9 || (unsigned long)info <= 2)
		return 0;
	return hit(BPF_CORE_READ(info, _sifields._kill._pid));
}

/* ---- iterators ------------------------------------------------------------------------------- */
SEC("iter/task")
int t_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	return task ? hit(task->tgid) : 0;
}

SEC("iter/task_file")
int t_task_file(struct bpf_iter__task_file *ctx)
{
	return ctx->file ? hit(ctx->fd) : 0;
}

SEC("iter/task_file")
int t_task_file_sock(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct socket *sock;

	if (!file)
		return 0;
	sock = bpf_sock_from_file(file);
	if (!sock || !sock->sk)
		return 0;
	return hit(sock->sk->__sk_common.skc_num);
}

SEC("iter/task_file")
int t_task_file_sock_storage(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct socket *sock;

	if (!file)
		return 0;
	sock = bpf_sock_from_file(file);
	if (!sock || !sock->sk)
		return 0;
	return hit(bpf_sk_storage_get(&sks, sock->sk, 0, BPF_SK_STORAGE_GET_F_CREATE) != 0);
}

SEC("iter/task_file")
int t_task_file_d_path(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	char out[64];

	if (!file)
		return 0;
	return hit(bpf_d_path(&file->f_path, out, sizeof(out)));
}

SEC("iter/tcp")
int t_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	return sk ? hit(sk->skc_num) : 0;
}

SEC("iter/tcp")
int t_tcp_cookie(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	return sk ? hit((__s64)bpf_get_socket_cookie(sk)) : 0;
}

SEC("iter/tcp")
int t_tcp_storage(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct tcp_sock *tp;

	if (!skc)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp)
		return 0;
	return hit(bpf_sk_storage_get(&sks, tp, 0, BPF_SK_STORAGE_GET_F_CREATE) != 0);
}

/* ---- other program types --------------------------------------------------------------------- */
SEC("raw_tp/inet_sock_set_state")
int o_raw_tp(void *ctx)
{
	return hit(1);
}

SEC("fentry/tcp_close")
int o_fentry(void *ctx)
{
	return hit(1);
}

SEC("fexit/tcp_v4_connect")
int o_fexit(void *ctx)
{
	return hit(1);
}

SEC("kprobe/tcp_close")
int o_kprobe(void *ctx)
{
	return hit(1);
}

SEC("tracepoint/sock/inet_sock_set_state")
int o_tracepoint(void *ctx)
{
	return hit(1);
}

/* What inet_sk_error_report would tell where that tracepoint is missing (before 5.14). */
SEC("fentry/sock_def_error_report")
int BPF_PROG(o_fentry_error_report, struct sock *sk)
{
	return hit(sk->sk_err);
}

SEC("lsm/bprm_committed_creds")
int o_lsm(void *ctx)
{
	hit(1);
	return 0;
}
