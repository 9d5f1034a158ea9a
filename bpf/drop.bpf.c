/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets the kernel threw away. A watched socket's are told one by one: a local firewall's drop
 * has no other witness. All others only as aggregates by reason and owner, when the policy lists
 * the reason: the hook runs for every freed packet, so the ways out come first.
 */
#include "lib/conn.h"

/*
 * sk may come from skb->sk, which newer verifiers give to no helper: no storage and so no owner
 * here. Who asked to watch the socket knows whose it is.
 */
static __always_inline void tell_watched(struct sock *sk, __u32 state, __u32 reason)
{
	struct hf_conn_event *e =
		hf_reserve(struct hf_conn_event, HF_EVENT_SKB_DROP, true, bpf_ktime_get_boot_ns());

	if (!e)
		return;
	e->header.flags |= HF_EVENT_F_WATCHED;
	__builtin_memset(&e->owner, 0, sizeof(e->owner));
	__builtin_memset(&e->conn, 0, sizeof(e->conn));
	hf_conn_base(&e->conn, sk, state);
	e->conn.reason = reason;
	hf_submit(e, true, sizeof(*e));
}

/* One record per key and window; the first at once, so that a single drop is not held back. */
static __always_inline void aggregate(const struct hf_policy *p, const struct sk_buff *skb,
				      struct sock *sk, __u32 reason)
{
	struct hf_drop_count *n, fresh = {};
	struct hf_drop_key key = {};
	struct hf_subject s = {};
	struct hf_conn_event *e;
	struct hf_conn c = {};
	__u64 now, count;

	if (!hf_conn_tuple_from_skb(&c, skb))
		return;
	s.netns = sk ? sk->__sk_common.skc_net.net->ns.inum : hf_skb_netns(skb);
	if (sk && bpf_core_field_exists(struct sock_cgroup_data, cgroup))
		s.cgroup_id = sk->sk_cgrp_data.cgroup->kn->id;
	s.local_port = c.local_port;
	s.peer_port = c.peer_port;
	s.has_ports = true;
	if (!hf_policy_wants(p, HF_EVENT_SKB_DROP, &s)) {
		hf_count_filtered(HF_EVENT_SKB_DROP);
		return;
	}
	key.cgroup_id = s.cgroup_id;
	key.netns = s.netns;
	key.reason = reason;
	n = bpf_map_lookup_elem(&drop_counts, &key);
	if (!n) {
		bpf_map_update_elem(&drop_counts, &key, &fresh, BPF_NOEXIST);
		n = bpf_map_lookup_elem(&drop_counts, &key);
		if (!n)
			return;
	}
	hf_count(&n->count);
	now = bpf_ktime_get_boot_ns();
	if (n->told_ns && now - n->told_ns < p->drop_window_ns)
		return;
	n->told_ns = now;
	if (hf_throttled(p, HF_EVENT_SKB_DROP, HF_BUCKET_DROP, &s, NULL, NULL, now))
		return;
	e = hf_reserve(struct hf_conn_event, HF_EVENT_SKB_DROP, false, now);
	if (!e)
		return;
	count = n->count;
	__sync_fetch_and_add(&n->count, -count);
	e->header.weight = count;
	hf_owner_from_cgroup(&e->owner, s.cgroup_id);
	__builtin_memcpy(&e->conn, &c, sizeof(c));
	e->conn.netns = s.netns;
	e->conn.reason = reason;
	hf_submit(e, false, sizeof(*e));
}

/*
 * What a window had counted when no further packet came to tell it. Attached to nothing: the watchdog
 * runs it (BPF_PROG_TEST_RUN) for a key whose window is over. args: cgroup id, reason << 32 | netns.
 */
SEC("raw_tp")
int skb_drop_flush(struct bpf_raw_tracepoint_args *ctx)
{
	struct hf_drop_key key = {};
	struct hf_conn_event *e;
	struct hf_drop_count *n;
	__u64 now, count;

	key.cgroup_id = ctx->args[0];
	key.netns = (__u32)ctx->args[1];
	key.reason = ctx->args[1] >> 32;
	n = bpf_map_lookup_elem(&drop_counts, &key);
	if (!n || !n->count)
		return 0;
	now = bpf_ktime_get_boot_ns();
	e = hf_reserve(struct hf_conn_event, HF_EVENT_SKB_DROP, false, now);
	if (!e)
		return 0;
	n->told_ns = now;
	count = n->count;
	__sync_fetch_and_add(&n->count, -count);
	e->header.weight = count;
	hf_owner_from_cgroup(&e->owner, key.cgroup_id);
	__builtin_memset(&e->conn, 0, sizeof(e->conn));
	e->conn.netns = key.netns;
	e->conn.reason = key.reason;
	hf_submit(e, false, sizeof(*e));
	return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(skb_drop, struct sk_buff *skb)
{
	__u32 reason = (__u32)ctx[2];
	struct sock *rx_sk = NULL;
	struct hf_policy *p;
	__u64 args[4] = {};
	struct sock *sk;
	bool wanted;

	/* Read in any case: the compiler must not move the context's pointer for it. */
	if (hf_kernel.drop_rx_sk)
		rx_sk = (struct sock *)ctx[3];

	p = hf_policy_get();
	if (!p)
		return 0;
	/* By far the most: nobody is watched, and drops are not asked for. */
	wanted = hf_policy_has(p, HF_EVENT_SKB_DROP) && reason < HF_DROP_REASON_MAX &&
		 (p->drop_reasons[(reason / 64) % HF_DROP_REASON_WORDS] & (1ull << (reason % 64)));
	if (!wanted && !p->watched_cookies)
		return 0;

	sk = skb->sk;
	if (hf_kernel.drop_rx_sk) {
		bpf_probe_read_kernel(args, sizeof(args), ctx);
		if (args[3])
			sk = rx_sk;
	}
	if (sk) {
		__u32 state = sk->__sk_common.skc_state;

		if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV ||
		    sk->sk_protocol != IPPROTO_TCP) {
			sk = NULL;
		} else if (hf_watched(p, sk)) {
			tell_watched(sk, state, reason);
			return 0;
		}
	}
	/* Reasons of other subsystems (upper half) are theirs to explain, and never wanted. */
	if (wanted)
		aggregate(p, skb, sk, reason);
	return 0;
}
