/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Resets, sent and received. The tracepoints run before the socket's state changes (received), or
 * before or after it (sent), with whatever task was interrupted as the current one.
 */
#include "lib/conn.h"

static __always_inline bool is_full(__u32 state)
{
	return state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV;
}

/* While one of these is recorded, a socket keeps in mind that it was reset: one end, one event. */
#define ENDS                                                                                       \
	(HF_POLICY_KIND(HF_EVENT_CONN_RESET_RECEIVED) | HF_POLICY_KIND(HF_EVENT_CONN_RESET_SENT) | \
	 HF_POLICY_KIND(HF_EVENT_CONN_DROPPED) | HF_POLICY_KIND(HF_EVENT_CONN_FAILED) |            \
	 HF_POLICY_KIND(HF_EVENT_CONN_CLOSED))

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_reset_received, struct sock *sk)
{
	__u32 state = sk->__sk_common.skc_state;
	struct hf_policy *p = hf_policy_get();
	struct hf_sock_life *life;
	struct hf_conn_event *e;
	bool watched;

	/* The answer to a SYN: conn.failed says it, at the change to CLOSE that follows. */
	if (!p || state == TCP_SYN_SENT || !is_full(state))
		return 0;
	watched = hf_watched(p, sk);
	if (!watched && !(p->kinds & ENDS)) {
		hf_count_filtered(HF_EVENT_CONN_RESET_RECEIVED);
		return 0;
	}
	life = hf_life_or_new(sk);
	if (life) {
		if (life->flags & HF_SOCK_RST_RECEIVED)
			return 0;
		life->flags |= HF_SOCK_RST_RECEIVED;
	}
	if (!watched && !hf_policy_has(p, HF_EVENT_CONN_RESET_RECEIVED)) {
		hf_count_filtered(HF_EVENT_CONN_RESET_RECEIVED);
		return 0;
	}
	e = hf_conn_event(p, sk, life, HF_EVENT_CONN_RESET_RECEIVED, state, watched);
	if (!e)
		return 0;
	/* What the kernel is about to set. */
	e->conn.sk_err = state == TCP_CLOSE_WAIT ? EPIPE : ECONNRESET;
	hf_submit(e, watched, sizeof(*e));
	return 0;
}

/* A reset for a packet that nobody waited for, or whose socket is no full one. */
static __always_inline void answer_to_packet(const struct sk_buff *skb, struct sock *listener,
					     __u32 netns, __u32 state, __u32 reason)
{
	struct hf_sock_life *life = NULL;
	struct hf_policy *p = hf_policy_get();
	struct hf_conn_event *e;
	struct hf_conn c = {};
	struct hf_subject s = {};
	__u64 now;

	if (!p)
		return;
	if (!hf_policy_has(p, HF_EVENT_CONN_RESET_SENT)) {
		hf_count_filtered(HF_EVENT_CONN_RESET_SENT);
		return;
	}
	if (!hf_conn_tuple_from_skb(&c, skb))
		return;
	if (listener)
		life = hf_life(listener);
	s.netns = netns;
	s.local_port = c.local_port;
	s.peer_port = c.peer_port;
	s.has_ports = true;
	s.cgroup_id = life ? life->cgroup_id : 0;
	s.uid = life ? life->uid : 0;
	if (!hf_policy_wants(p, HF_EVENT_CONN_RESET_SENT, &s)) {
		hf_count_filtered(HF_EVENT_CONN_RESET_SENT);
		return;
	}
	now = bpf_ktime_get_boot_ns();
	/* Nobody's resets share one bucket: a port scan throttles itself only. */
	if (hf_throttled(p, HF_EVENT_CONN_RESET_SENT, HF_BUCKET_CONN, &s, NULL, life, now))
		return;
	e = hf_reserve(struct hf_conn_event, HF_EVENT_CONN_RESET_SENT, false, now);
	if (!e)
		return;
	e->header.flags |= HF_EVENT_F_NO_SOCKET;
	hf_owner_from_life(&e->owner, life);
	__builtin_memcpy(&e->conn, &c, sizeof(c));
	e->conn.netns = netns;
	e->conn.state = state;
	e->conn.reason = reason;
	if (listener) {
		e->conn.backlog = listener->sk_ack_backlog;
		e->conn.backlog_max = listener->sk_max_ack_backlog;
	}
	hf_submit(e, false, sizeof(*e));
}

/*
 * Keepalive gives up by sending a reset and then reports ETIMEDOUT: that is one end, told as
 * conn.dropped. Kernels since 6.12 name the reason; before, it is a reset that answers no packet,
 * from a timer, on a connection nobody has shut down and whose probes went unanswered.
 */
static __always_inline bool is_keepalive_end(struct sock *sk, __u32 state, __u32 reason)
{
	struct tcp_sock *tp;

	if (bpf_core_enum_value_exists(enum sk_rst_reason, SK_RST_REASON_TCP_KEEPALIVE_TIMEOUT))
		return reason == (__u32)bpf_core_enum_value(enum sk_rst_reason,
							    SK_RST_REASON_TCP_KEEPALIVE_TIMEOUT);
	if (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT)
		return false;
	tp = bpf_skc_to_tcp_sock(sk);
	return tp && tp->inet_conn.icsk_probes_out && !sk->sk_err && sk->sk_shutdown != 3 &&
	       (sk->__sk_common.skc_flags & (1ul << SOCK_KEEPOPEN));
}

/*
 * sk and skb may each be NULL. Verifiers before 6.13 believe that tracepoint arguments are not and
 * drop a comparison with NULL; the same value read back as a number cannot be argued with.
 */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_reset_sent, struct sock *sk, struct sk_buff *skb)
{
	struct hf_policy *p = hf_policy_get();
	__u32 reason = HF_REASON_NONE;
	struct hf_sock_life *life;
	struct hf_conn_event *e;
	__u64 args[2] = {};
	bool watched;
	__u32 state;

	if (!p)
		return 0;
	if (hf_kernel.rst_reason)
		reason = (__u32)ctx[2];
	if (!(p->kinds & ENDS) && !p->watched_cookies) {
		hf_count_filtered(HF_EVENT_CONN_RESET_SENT);
		return 0;
	}
	bpf_probe_read_kernel(args, sizeof(args), ctx);
	if (!args[0] || !sk) {
		/* Without a socket only the packet's device would know the namespace. */
		if (args[1] && skb)
			answer_to_packet(skb, NULL, hf_skb_netns(skb), TCP_CLOSE, reason);
		return 0;
	}
	state = sk->__sk_common.skc_state;
	if (!is_full(state) || state == TCP_LISTEN) {
		if (args[1] && skb)
			answer_to_packet(skb, state == TCP_LISTEN ? sk : NULL,
					 sk->__sk_common.skc_net.net->ns.inum, state, reason);
		return 0;
	}

	watched = hf_watched(p, sk);
	if (!watched && !(p->kinds & ENDS)) {
		hf_count_filtered(HF_EVENT_CONN_RESET_SENT);
		return 0;
	}
	life = hf_life_or_new(sk);
	if (life) {
		life->flags |= HF_SOCK_RST_SENT;
		if (state == TCP_CLOSE && life->last_state)
			state = life->last_state;
	}
	if (is_keepalive_end(sk, state, reason)) {
		hf_life_mark(life, HF_SOCK_KEEPALIVE);
		return 0;
	}
	if (!watched && !hf_policy_has(p, HF_EVENT_CONN_RESET_SENT)) {
		hf_count_filtered(HF_EVENT_CONN_RESET_SENT);
		return 0;
	}
	e = hf_conn_event(p, sk, life, HF_EVENT_CONN_RESET_SENT, state, watched);
	if (!e)
		return 0;
	e->conn.reason = reason;
	hf_submit(e, watched, sizeof(*e));
	return 0;
}
