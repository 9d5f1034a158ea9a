/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The life of TCP sockets: who owns them, how they end.
 *
 * Each end is told once, by the first program that knows it best: a received reset by
 * reset.bpf.c, a sent one likewise, everything else by the change to CLOSE here. What was told or
 * will be is a flag in the socket's storage.
 */
#include "lib/conn.h"

/* The socket's end, seen at its change to CLOSE. */
static __always_inline void end_of(struct sock *sk, struct hf_sock_life *life, __u32 old)
{
	struct hf_policy *p = hf_policy_get();
	__u32 kind = HF_EVENT_CONN_CLOSED;
	struct hf_conn_event *e;
	__u32 weight = 1;
	bool watched;

	if (!p)
		return;

	if (life)
		life->last_state = old;
	if (old == TCP_SYN_SENT) {
		/* A reset that answered the SYN is told here too, as what it means: refused. */
		kind = HF_EVENT_CONN_FAILED;
	} else if (life && (life->flags & (HF_SOCK_REPORTED | HF_SOCK_RST_RECEIVED))) {
		return;
	} else if (sk->sk_err) {
		kind = old == TCP_SYN_RECV ? HF_EVENT_CONN_FAILED : HF_EVENT_CONN_DROPPED;
		/* Destroyed by an administrator: the reset that went out said it. */
		if (life && (life->flags & HF_SOCK_RST_SENT) && !(life->flags & HF_SOCK_KEEPALIVE))
			return;
	} else if (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT || old == TCP_SYN_RECV) {
		/* No FIN of ours: the kernel sends a reset next, and that is the event. */
		if (life)
			life->flags |= HF_SOCK_ABORTED;
		return;
	} else if (life && (life->flags & HF_SOCK_RST_SENT)) {
		return;
	}

	watched = hf_watched(p, sk);
	if (!watched) {
		if (!hf_policy_has(p, kind)) {
			hf_count_filtered(kind);
			return;
		}
		if (kind == HF_EVENT_CONN_CLOSED && p->closed_one_in > 1) {
			weight = p->closed_one_in;
			if (bpf_get_prandom_u32() % weight) {
				hf_count_filtered(kind);
				return;
			}
		}
	}
	e = hf_conn_event(p, sk, life, kind, old, watched);
	if (!e)
		return;
	hf_life_mark(life, HF_SOCK_REPORTED);
	if (weight > 1) {
		e->header.weight = weight;
		e->header.flags |= HF_EVENT_F_SAMPLED;
	}
	life = HF_AFRESH(life);
	if (life && (life->flags & HF_SOCK_RST_SENT))
		e->header.flags |= HF_EVENT_F_RST_SENT;
	hf_submit(e, watched, sizeof(*e));
}

/* To whom a watched socket matters, the peer's FIN is its end already. */
static __always_inline void tell_fin(struct sock *sk, struct hf_sock_life *life)
{
	struct hf_policy *p = hf_policy_get();
	struct hf_conn_event *e;

	if (!p || !hf_watched(p, sk))
		return;
	e = hf_conn_event(p, sk, life, HF_EVENT_CONN_CLOSED, TCP_CLOSE_WAIT, true);
	if (!e)
		return;
	hf_life_mark(life, HF_SOCK_REPORTED);
	hf_submit(e, true, sizeof(*e));
}

/*
 * SYN_SENT and LISTEN are entered in connect() and listen(), so the current task is the owner. All
 * other changes may come from a softirq that interrupted anybody.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int old, int new)
{
	struct hf_sock_life *life;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;

	switch (new) {
	case TCP_SYN_SENT:
	case TCP_LISTEN:
		life = hf_life_or_new(sk);
		if (!life)
			return 0;
		__builtin_memset(life, 0, sizeof(*life));
		life->born_ns = bpf_ktime_get_boot_ns();
		hf_life_capture(life, hf_current(),
				new == TCP_LISTEN ? HF_OWNER_LISTEN : HF_OWNER_CONNECT);
		return 0;
	case TCP_SYN_RECV:
		/* A copy of the listener's storage came with the new socket, if there was any. */
		life = hf_life_or_new(sk);
		if (!life)
			return 0;
		if (!hf_kernel.sk_storage)
			__builtin_memset(life, 0, sizeof(*life));
		life->born_ns = bpf_ktime_get_boot_ns();
		if (life->src != HF_OWNER_NONE)
			life->src = HF_OWNER_LISTEN;
		life->flags = HF_SOCK_PASSIVE;
		life->last_state = 0;
		life->closed_by = HF_CLOSED_BY_NONE;
		life->rtx_count = 0;
		return 0;
	case TCP_FIN_WAIT1:
	case TCP_CLOSE_WAIT:
		life = hf_life_or_new(sk);
		if (life && !life->closed_by)
			life->closed_by =
				new == TCP_FIN_WAIT1 ? HF_CLOSED_BY_LOCAL : HF_CLOSED_BY_PEER;
		if (new == TCP_CLOSE_WAIT)
			tell_fin(sk, life);
		return 0;
	case TCP_CLOSE:
		if (old != TCP_LISTEN && old != TCP_CLOSE)
			end_of(sk, hf_life(sk), old);
		return 0;
	}
	return 0;
}

/*
 * Errors that reach a watched socket before, or without, its end: an ICMP error it asked for, and
 * on older kernels (which report first and close then) any fatal one.
 */
SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(tcp_error, struct sock *sk)
{
	__u32 state = sk->__sk_common.skc_state;
	struct hf_policy *p = hf_policy_get();
	struct hf_sock_life *life;
	struct hf_conn_event *e;

	if (!p || sk->sk_protocol != IPPROTO_TCP || !sk->sk_err)
		return 0;
	if (state == TCP_CLOSE || state == TCP_SYN_SENT || !hf_watched(p, sk))
		return 0;
	life = hf_life_or_new(sk);
	if (life && (life->flags & (HF_SOCK_REPORTED | HF_SOCK_RST_RECEIVED)))
		return 0;
	e = hf_conn_event(p, sk, life, HF_EVENT_CONN_DROPPED, state, true);
	if (!e)
		return 0;
	hf_life_mark(life, HF_SOCK_REPORTED);
	hf_submit(e, true, sizeof(*e));
	return 0;
}

/*
 * Runs at each recvmsg() of data, in the reader's context: an accepted socket belongs to who reads
 * from it, not to the process that called listen(). Also reached from softirq (in-kernel readers of
 * the stream), where the socket is not owned by a task. The hottest program: one storage lookup,
 * and a comparison.
 */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(tcp_owner, struct sock *sk)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct hf_sock_life *life = hf_life(sk);
	struct task_struct *task;

	if (!life || !(life->flags & HF_SOCK_PASSIVE))
		return 0;
	if (life->tgid == tgid && life->src == HF_OWNER_ACCEPT)
		return 0;
	if (!sk->sk_lock.owned)
		return 0;
	task = hf_current();
	if (HF_GET(task, flags) & PF_KTHREAD)
		return 0;
	hf_life_capture(life, task, HF_OWNER_ACCEPT);
	return 0;
}

/*
 * Counts segments sent again without progress. Since 6.17 it also runs for a segment that could not
 * be sent (err): no retransmission, but for a watched socket the sign of a local obstacle.
 */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit, struct sock *sk)
{
	struct hf_policy *p = hf_policy_get();
	struct hf_sock_life *life;
	struct hf_conn_event *e;
	struct tcp_sock *tp;
	__u32 una, count;
	int err = 0;

	if (hf_kernel.retransmit_err)
		err = (int)ctx[2];
	if (!p || !hf_watched(p, sk))
		return 0;
	life = hf_life_or_new(sk);
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	una = tp->snd_una;
	if (life) {
		if (life->rtx_una != una || !life->rtx_count) {
			life->rtx_una = una;
			life->rtx_count = 0;
		}
		count = ++life->rtx_count;
	} else {
		count = tp->inet_conn.icsk_retransmits;
	}
	if (count < 2 && !err)
		return 0;
	e = hf_conn_event(p, sk, life, HF_EVENT_CONN_RETRANSMIT, sk->__sk_common.skc_state, true);
	if (!e)
		return 0;
	e->conn.sk_err = err;
	hf_submit(e, true, sizeof(*e));
	return 0;
}

char LICENSE[] HF_SHARED SEC("license") = "Dual BSD/GPL";
