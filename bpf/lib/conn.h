/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From sockets and packets to struct hf_conn, and the one place where a connection event is
 * filtered, throttled and written.
 */
#pragma once

#include "lib/policy.h"

#ifdef HF_NO_FETCH
static __always_inline struct hf_sock_life *hf_life_by_address(struct sock *sk, bool create)
{
	__u64 key = (__u64)(unsigned long)sk;
	struct hf_sock_life *life = bpf_map_lookup_elem(&life_by_address, &key);

	if (!life && create) {
		struct hf_sock_life fresh = {};

		bpf_map_update_elem(&life_by_address, &key, &fresh, BPF_NOEXIST);
		life = bpf_map_lookup_elem(&life_by_address, &key);
	}
	return life;
}
#else
static __always_inline struct hf_sock_life *hf_life_by_address(struct sock *sk, bool create)
{
	return NULL;
}
#endif

/* NULL: nothing is known of this socket. */
static __always_inline struct hf_sock_life *hf_life(struct sock *sk)
{
	if (!hf_kernel.sk_storage)
		return hf_life_by_address(sk, false);
	return bpf_sk_storage_get(&sock_life, sk, NULL, 0);
}

/* NULL: no memory. */
static __always_inline struct hf_sock_life *hf_life_or_new(struct sock *sk)
{
	struct hf_sock_life *life;

	if (hf_kernel.sk_storage)
		life = bpf_sk_storage_get(&sock_life, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	else
		life = hf_life_by_address(sk, true);
	if (!life)
		hf_count_misc(HF_MISC_STORAGE_FULL);
	return life;
}

static __always_inline void hf_life_mark(struct hf_sock_life *life, __u32 flags)
{
	life = HF_AFRESH(life);
	if (life)
		life->flags |= flags;
}

/*
 * The cookie as SO_COOKIE shows it. The kernel makes it when it is first asked for; where we may
 * not ask, a socket that somebody else has asked about (the agent its channel's) still has one.
 */
static __always_inline __u64 hf_cookie(struct sock *sk)
{
	__u64 cookie = sk->__sk_common.skc_cookie.counter;

	if (!cookie && hf_kernel.sk_cookie)
		cookie = bpf_get_socket_cookie(sk);
	return cookie;
}

/* A watched socket has a cookie already: that is how it was named. */
static __always_inline bool hf_watched(const struct hf_policy *p, struct sock *sk)
{
	__u64 cookie = sk->__sk_common.skc_cookie.counter;

	if (!(p->watched_cookies & HF_WATCH_BIT(cookie)) || !cookie)
		return false;
	return bpf_map_lookup_elem(&watched_cookie, &cookie);
}

/* The change to CLOSE gives the port back before it is traced, but leaves the header's copy. */
static __always_inline __u16 hf_local_port(struct sock *sk)
{
	__u16 port = sk->__sk_common.skc_num;

	return port ? port : hf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
}

static __always_inline bool hf_is_v4mapped(const __u32 a[4])
{
	return !a[0] && !a[1] && a[2] == __builtin_bswap32(0xffff);
}

static __always_inline void hf_conn_set_v6(struct hf_conn *c, const __u32 local[4],
					   const __u32 peer[4])
{
	/* A listener or an unconnected socket has "any" as one side: both sides decide. */
	if (hf_is_v4mapped(peer) || hf_is_v4mapped(local)) {
		c->family = AF_INET;
		*(__u32 *)c->local_addr = local[3];
		*(__u32 *)c->peer_addr = peer[3];
		return;
	}
	c->family = AF_INET6;
	__builtin_memcpy(c->local_addr, local, 16);
	__builtin_memcpy(c->peer_addr, peer, 16);
}

static __always_inline void hf_conn_tuple_from_sock(struct hf_conn *c, struct sock *sk)
{
	c->local_port = hf_local_port(sk);
	c->peer_port = hf_ntohs(sk->__sk_common.skc_dport);
	if (sk->__sk_common.skc_family == AF_INET6) {
		__u32 local[4], peer[4];

		BPF_CORE_READ_INTO(&local, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
		BPF_CORE_READ_INTO(&peer, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
		hf_conn_set_v6(c, local, peer);
		return;
	}
	c->family = AF_INET;
	*(__u32 *)c->local_addr = sk->__sk_common.skc_rcv_saddr;
	*(__u32 *)c->peer_addr = sk->__sk_common.skc_daddr;
}

/*
 * The packet was received: its source is the peer. Header offsets are set for every packet that
 * TCP sees. False: not an IP packet we understand.
 */
static __always_inline bool hf_conn_tuple_from_skb(struct hf_conn *c, const struct sk_buff *skb)
{
	const unsigned char *head = BPF_CORE_READ(skb, head);
	const unsigned char *ip = head + BPF_CORE_READ(skb, network_header);
	const unsigned char *tcp = head + BPF_CORE_READ(skb, transport_header);
	__u16 ports[2] = {};
	__u8 version = 0;

	if (!head || bpf_probe_read_kernel(&version, 1, ip))
		return false;
	if (version >> 4 == 4) {
		c->family = AF_INET;
		bpf_probe_read_kernel(c->peer_addr, 4, ip + 12);
		bpf_probe_read_kernel(c->local_addr, 4, ip + 16);
	} else if (version >> 4 == 6) {
		__u32 local[4] = {}, peer[4] = {};

		bpf_probe_read_kernel(peer, 16, ip + 8);
		bpf_probe_read_kernel(local, 16, ip + 24);
		hf_conn_set_v6(c, local, peer);
	} else {
		return false;
	}
	bpf_probe_read_kernel(ports, sizeof(ports), tcp);
	c->peer_port = hf_ntohs(ports[0]);
	c->local_port = hf_ntohs(ports[1]);
	c->sock_flags |= HF_SOCK_F_TUPLE_GUESSED;
	return true;
}

static __always_inline __u32 hf_skb_netns(const struct sk_buff *skb)
{
	return BPF_CORE_READ(skb, dev, nd_net.net, ns.inum);
}

/* Sequence space counts SYN and FIN as a byte; people do not. */
static __always_inline void hf_conn_bytes(struct hf_conn *c, struct tcp_sock *tp, __u32 state,
					  bool fin_received)
{
	__u32 unread = tp->rcv_nxt - tp->copied_seq;
	__u32 unacked = tp->snd_nxt - tp->snd_una;
	__u32 unsent = tp->write_seq - tp->snd_nxt;
	bool fin_queued = state == TCP_FIN_WAIT1 || state == TCP_CLOSING || state == TCP_LAST_ACK;

	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV)
		unread = unacked = 0;
	if (fin_received && unread)
		unread--;
	if (fin_queued && unsent)
		unsent--;
	else if (fin_queued && unacked)
		unacked--;
	c->unread_bytes = unread;
	c->unacked_bytes = unacked;
	c->unsent_bytes = unsent;
}

static __always_inline __u32 hf_timeout_kind(const struct hf_conn *c,
					     const struct hf_sock_life *life)
{
	if (c->sk_err != ETIMEDOUT)
		return HF_TIMEOUT_NONE;
	if (c->state == TCP_SYN_SENT || c->state == TCP_SYN_RECV)
		return HF_TIMEOUT_SYN;
	life = HF_AFRESH(life);
	if (life && (life->flags & HF_SOCK_KEEPALIVE))
		return HF_TIMEOUT_KEEPALIVE;
	/* Window probes are sent when nothing is in flight; they count like keepalive's. */
	if (c->probes_out && !c->unacked_bytes)
		return c->unsent_bytes ? HF_TIMEOUT_ZERO_WINDOW : HF_TIMEOUT_KEEPALIVE;
	/* The kernel looks at the number of retransmissions only without a user timeout. */
	return c->user_timeout_ms ? HF_TIMEOUT_USER : HF_TIMEOUT_RTO;
}

/* What any pointer to a full socket gives. c is zeroed; state is the one to report. */
static __always_inline void hf_conn_base(struct hf_conn *c, struct sock *sk, __u32 state)
{
	unsigned long flags = sk->__sk_common.skc_flags;

	c->cookie = sk->__sk_common.skc_cookie.counter;
	c->netns = sk->__sk_common.skc_net.net->ns.inum;
	c->state = state;
	c->reason = HF_REASON_NONE;
	c->sk_err = sk->sk_err;
	hf_conn_tuple_from_sock(c, sk);
	if (flags & (1ul << SOCK_KEEPOPEN))
		c->sock_flags |= HF_SOCK_F_KEEPALIVE;
	if (flags & (1ul << SOCK_DEAD))
		c->sock_flags |= HF_SOCK_F_ORPHAN;
}

/* And what one that came as a tracepoint's argument gives, which helpers accept. */
static __always_inline void hf_conn_from_sock(struct hf_conn *c, struct sock *sk,
					      const struct hf_sock_life *life, __u32 state,
					      __u64 now)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	hf_conn_base(c, sk, state);
	c->cookie = hf_cookie(sk);
	life = HF_AFRESH(life);
	if (life) {
		if (life->born_ns)
			c->age_ns = now - life->born_ns;
		c->closed_by = life->closed_by;
		c->retransmits_now = life->rtx_count;
		if (life->flags & HF_SOCK_ABORTED)
			c->sock_flags |= HF_SOCK_F_ABORTED;
	}
	if (state == TCP_LISTEN) {
		c->backlog = sk->sk_ack_backlog;
		c->backlog_max = sk->sk_max_ack_backlog;
		return;
	}
	if (!tp)
		return;
	c->bytes_received = tp->bytes_received;
	c->bytes_acked = tp->bytes_acked;
	c->srtt_us = tp->srtt_us >> 3;
	c->retransmits = tp->total_retrans;
	c->probes_out = tp->inet_conn.icsk_probes_out;
	c->user_timeout_ms = tp->inet_conn.icsk_user_timeout;
	if (!c->retransmits_now)
		c->retransmits_now = tp->inet_conn.icsk_retransmits;
	hf_conn_bytes(c, tp, state, sk->__sk_common.skc_flags & (1ul << SOCK_DONE));
	c->timeout_kind = hf_timeout_kind(c, life);
}

static __always_inline void hf_subject_from_sock(struct hf_subject *s, struct sock *sk,
						 const struct hf_sock_life *life)
{
	life = HF_AFRESH(life);
	s->cgroup_id = life ? life->cgroup_id : 0;
	s->uid = life ? life->uid : 0;
}

/* What filters ask for in addition; most policies have none. */
static __always_inline void hf_subject_add_address(struct hf_subject *s, struct sock *sk)
{
	s->netns = sk->__sk_common.skc_net.net->ns.inum;
	s->local_port = hf_local_port(sk);
	s->peer_port = hf_ntohs(sk->__sk_common.skc_dport);
	s->has_ports = true;
}

/*
 * Room for an event of a full socket, owner and connection filled in; NULL when it is not wanted,
 * too much, or there is no room, each of which is counted.
 */
static __always_inline struct hf_conn_event *hf_conn_event(const struct hf_policy *p,
							   struct sock *sk,
							   struct hf_sock_life *life, __u32 kind,
							   __u32 state, bool watched)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct hf_subject s = {};
	struct hf_conn_event *e;

	if (!watched) {
		hf_subject_from_sock(&s, sk, life);
		if (hf_policy_filters(p)) {
			hf_subject_add_address(&s, sk);
			if (!hf_filters_pass(p->flags, &s)) {
				hf_count_filtered(kind);
				return NULL;
			}
		}
		if (hf_throttled(p, kind, HF_BUCKET_CONN, &s, NULL, life, now))
			return NULL;
	}
	e = hf_reserve(struct hf_conn_event, kind, watched, now);
	if (!e)
		return NULL;
	if (watched)
		e->header.flags |= HF_EVENT_F_WATCHED;
	hf_owner_from_life(&e->owner, life);
	__builtin_memset(&e->conn, 0, sizeof(e->conn));
	hf_conn_from_sock(&e->conn, sk, life, state, now);
	return e;
}
