/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is recorded and how much of it. Each event that is left out here is counted: filtered when
 * the policy did not ask for it, throttled when its cgroup was too loud.
 */
#pragma once

#include "lib/emit.h"
#include "lib/owner.h"

static __always_inline struct hf_policy *hf_policy_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&policy, &zero);
}

struct hf_subject {
	__u64 cgroup_id;
	__u32 netns;
	__u32 uid;
	__u16 local_port;
	__u16 peer_port;
	bool has_ports;
};

/* Whether a value of a filter map is of the set that counts. */
static __always_inline bool hf_in_set(const __u32 *value, __u32 flags)
{
	return value && (*value & (flags & HF_POLICY_F_SET_B ? HF_FILTER_SET_B : HF_FILTER_SET_A));
}

/* By the last two names of the owner's cgroup; one that nobody has named is in no unit. */
static __always_inline bool hf_unit_listed(__u64 cgroup_id, __u32 flags)
{
	struct hf_cgroup_names *n = bpf_map_lookup_elem(&cgroup_names, &cgroup_id);

	return n && (hf_in_set(bpf_map_lookup_elem(&filter_unit, n->leaf), flags) ||
		     hf_in_set(bpf_map_lookup_elem(&filter_unit, n->parent), flags));
}

static __always_inline bool hf_filters_pass(__u32 flags, const struct hf_subject *s)
{
	__u32 netns = s->netns;
	__u64 cgroup_id = s->cgroup_id;

	if ((flags & HF_POLICY_F_NETNS_ONLY) &&
	    !hf_in_set(bpf_map_lookup_elem(&filter_netns, &netns), flags))
		return false;
	if (s->has_ports && (flags & (HF_POLICY_F_PORT_ONLY | HF_POLICY_F_PORT_EXCEPT))) {
		__u16 local = s->local_port, peer = s->peer_port;
		bool listed = hf_in_set(bpf_map_lookup_elem(&filter_port, &local), flags) ||
			      hf_in_set(bpf_map_lookup_elem(&filter_port, &peer), flags);

		if (listed != !!(flags & HF_POLICY_F_PORT_ONLY))
			return false;
	}
	if (flags & (HF_POLICY_F_CGROUP_ONLY | HF_POLICY_F_CGROUP_EXCEPT)) {
		bool listed = hf_in_set(bpf_map_lookup_elem(&filter_cgroup, &cgroup_id), flags);

		if (listed != !!(flags & HF_POLICY_F_CGROUP_ONLY))
			return false;
	}
	if (flags & (HF_POLICY_F_UNIT_ONLY | HF_POLICY_F_UNIT_EXCEPT))
		return hf_unit_listed(cgroup_id, flags) == !!(flags & HF_POLICY_F_UNIT_ONLY);
	return true;
}

/* The one thing to be asked first, and for most events the last. */
static __always_inline bool hf_policy_has(const struct hf_policy *p, __u32 kind)
{
	return p->kinds & HF_POLICY_KIND(kind);
}

static __always_inline bool hf_policy_filters(const struct hf_policy *p)
{
	return p->flags & HF_POLICY_F_FILTERS;
}

static __always_inline bool hf_policy_wants(const struct hf_policy *p, __u32 kind,
					    const struct hf_subject *s)
{
	/* kinds and flags as they were written: in one. */
	__u64 word = *(const volatile __u64 *)&p->kinds;
	__u32 flags = word >> 32;

	if (!(word & HF_POLICY_KIND(kind)))
		return false;
	return !(flags & HF_POLICY_F_FILTERS) || hf_filters_pass(flags, s);
}

/*
 * A token bucket held as one time: full_at_ns is when it would be full again. An event moves it by
 * one interval and passes if it is then at most burst intervals ahead. Two CPUs may race for the
 * last token; then both get it, which bounds the error to one token per CPU.
 */
static __always_inline bool hf_bucket_take(struct hf_bucket *b, const struct hf_policy *p,
					   __u64 now)
{
	__u64 interval = p->bucket_interval_ns;
	__u64 depth = interval * p->bucket_burst;
	__u64 full_at = b->full_at_ns;

	if (full_at < now)
		full_at = now;
	/* A slower policy before this one left it deeper than this one's buckets are. */
	if (full_at - now > depth)
		full_at = b->full_at_ns = now + depth;
	if (full_at - now + interval > depth)
		return false;
	b->full_at_ns = full_at + interval;
	return true;
}

/* True: the event is not to be recorded, and was counted. The owner is task's, or life's. */
static __always_inline bool hf_throttled(const struct hf_policy *p, __u32 kind, __u32 class,
					 const struct hf_subject *s, const struct task_struct *task,
					 const struct hf_sock_life *life, __u64 now)
{
	struct hf_bucket_key key = {.class = class};
	struct hf_cpu_counters *c;
	struct hf_loss_event *e;
	struct hf_bucket *b;
	__u64 count;

	if (p->flags & HF_POLICY_F_NO_THROTTLE)
		return false;
	key.group = s->cgroup_id > 1 ? s->cgroup_id : (1ull << 63 | s->uid);
	b = bpf_map_lookup_elem(&buckets, &key);
	if (!b) {
		struct hf_bucket fresh = {};

		bpf_map_update_elem(&buckets, &key, &fresh, BPF_NOEXIST);
		b = bpf_map_lookup_elem(&buckets, &key);
		if (!b) {
			hf_count_misc(HF_MISC_BUCKET_FULL);
			return false;
		}
	}
	if (hf_bucket_take(b, p, now))
		return false;

	c = hf_counters();
	if (c && kind < HF_EVENT_KIND_SLOTS)
		hf_count(&c->kind[kind].throttled);
	if (!b->throttled)
		b->since_ns = now;
	hf_count(&b->throttled);
	if (b->marked_ns && now - b->marked_ns < p->mark_interval_ns)
		return true;
	b->marked_ns = now;
	e = hf_reserve(struct hf_loss_event, HF_EVENT_TELEMETRY_LOSS, true, now);
	if (!e)
		return true;
	/* What others add between these two lines goes into the next mark. */
	count = b->throttled;
	__sync_fetch_and_add(&b->throttled, -count);
	if (task)
		hf_owner_from_task(&e->owner, task);
	else
		hf_owner_from_life(&e->owner, life);
	e->loss.count = count;
	e->loss.since_boot_ns = b->since_ns;
	e->loss.cause = HF_LOSS_THROTTLED;
	e->loss.kind = kind;
	e->loss.ring = HF_RING_BULK;
	e->loss.reserved = 0;
	hf_submit(e, true, sizeof(*e));
	return true;
}
