/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who a socket or an event belongs to. The current task is asked only where the kernel runs on its
 * behalf (connect, listen, recvmsg); events in softirq take what was kept in the socket.
 */
#pragma once

#include "lib/counters.h"

/*
 * A pointer that the compiler must compare with NULL again: otherwise it keeps the outcome of an
 * earlier comparison on the stack, where the verifier does not connect it with the pointer.
 */
#define HF_AFRESH(p)                    \
	({                              \
		__typeof__(p) _p = (p); \
		barrier_var(_p);        \
		_p;                     \
	})

/*
 * The cgroup that names a process: its v2 cgroup, or the memory hierarchy's where the process is
 * in the v2 root (hybrid and v1 hosts keep services there).
 */
static __always_inline const struct kernfs_node *hf_task_kernfs(const struct task_struct *task,
								__u64 *ret_id)
{
	const struct css_set *set = HF_GET(task, cgroups);
	const struct kernfs_node *kn = HF_GET(set, dfl_cgrp, kn);
	const struct cgroup_subsys_state *css = NULL;
	__u32 at;

	*ret_id = HF_GET(kn, id);
	/* 1 is the root's id in every hierarchy. */
	if (*ret_id != 1 || !bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return kn;
	/* The index is known only when loading; a constant all the same. */
	at = bpf_core_field_offset(struct css_set, subsys) +
	     bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id) * sizeof(void *);
#ifndef HF_NO_FETCH
	css = *(const struct cgroup_subsys_state **)((const void *)set + at);
#else
	bpf_probe_read_kernel(&css, sizeof(css), (const void *)set + at);
#endif
	if (!css)
		return kn;
	kn = HF_GET(css, cgroup, kn);
	*ret_id = HF_GET(kn, id);
	return kn;
}

/* The name of the process, not of the thread: task is a group leader. */
static __always_inline void hf_comm(char dst[HF_COMM_SIZE], const struct task_struct *leader)
{
#ifndef HF_NO_FETCH
	((__u64 *)dst)[0] = *(const __u64 *)&leader->comm[0];
	((__u64 *)dst)[1] = *(const __u64 *)&leader->comm[8];
#else
	bpf_probe_read_kernel_str(dst, HF_COMM_SIZE, &leader->comm);
#endif
}

static __always_inline __u64 hf_task_cgroup_id(const struct task_struct *task)
{
	__u64 id;

	(void)hf_task_kernfs(task, &id);
	return id;
}

static __always_inline struct kernfs_node *hf_kernfs_parent(const struct kernfs_node *kn)
{
	struct kernfs_node *parent = NULL;

	if (bpf_core_field_exists(struct kernfs_node___new, __parent))
		parent = BPF_CORE_READ((const struct kernfs_node___new *)kn, __parent);
	else if (bpf_core_field_exists(struct kernfs_node___old, parent))
		parent = BPF_CORE_READ((const struct kernfs_node___old *)kn, parent);
	return parent;
}

/* leaf and parent are zeroed memory of their sizes. */
static __always_inline void hf_kernfs_names(const struct kernfs_node *kn, char *leaf, char *parent)
{
	const char *name = BPF_CORE_READ(kn, name);
	struct kernfs_node *up = hf_kernfs_parent(kn);

	bpf_probe_read_kernel_str(leaf, HF_CGROUP_LEAF_SIZE, name);
	if (!up)
		return;
	name = BPF_CORE_READ(up, name);
	bpf_probe_read_kernel_str(parent, HF_CGROUP_LEAF_SIZE, name);
}

HF_SHARED const volatile struct hf_cgroup_names hf_no_names = {};

static __always_inline struct hf_cgroup_names *hf_remember_names(const struct kernfs_node *kn,
								 __u64 id)
{
	struct hf_cgroup_names *n = bpf_map_lookup_elem(&cgroup_names, &id);

	if (n)
		return n;
	if (bpf_map_update_elem(&cgroup_names, &id, (const void *)&hf_no_names, BPF_NOEXIST))
		return NULL;
	n = bpf_map_lookup_elem(&cgroup_names, &id);
	if (n)
		hf_kernfs_names(kn, n->leaf, n->parent);
	return n;
}

/* task: any thread of the process that runs, or a task the kernel handed to the program. */
static __always_inline void hf_life_capture(struct hf_sock_life *life,
					    const struct task_struct *task, __u32 src)
{
	const struct task_struct *leader = HF_GET(task, group_leader);
	const struct kernfs_node *kn = hf_task_kernfs(leader, &life->cgroup_id);

	life->tgid = HF_GET(task, tgid);
	life->uid = HF_GET(task, cred, uid.val);
	life->start_ns = HF_GET(leader, start_boottime);
	life->src = src;
	hf_comm(life->comm, leader);
	(void)hf_remember_names(kn, life->cgroup_id);
}

static __always_inline void hf_task_remember_names(const struct task_struct *task)
{
	const struct kernfs_node *kn;
	__u64 id;

	kn = hf_task_kernfs(task, &id);
	(void)hf_remember_names(kn, id);
}

static __always_inline void hf_owner_names(struct hf_owner *o, const struct hf_cgroup_names *names)
{
	if (!names)
		return;
	__builtin_memcpy(o->cgroup_leaf, names->leaf, sizeof(o->cgroup_leaf));
	__builtin_memcpy(o->cgroup_parent, names->parent, sizeof(o->cgroup_parent));
	o->cgroup_parent[sizeof(o->cgroup_parent) - 1] = 0;
}

/* life may be NULL: nobody knows. */
static __always_inline void hf_owner_from_life(struct hf_owner *o, const struct hf_sock_life *life)
{
	__u64 id;

	__builtin_memset(o, 0, sizeof(*o));
	life = HF_AFRESH(life);
	if (!life || life->src == HF_OWNER_NONE)
		return;
	id = life->cgroup_id;
	o->tgid = life->tgid;
	o->uid = life->uid;
	o->start_ns = life->start_ns;
	o->cgroup_id = life->cgroup_id;
	o->src = life->src;
	__builtin_memcpy(o->comm, life->comm, sizeof(o->comm));
	hf_owner_names(o, bpf_map_lookup_elem(&cgroup_names, &id));
}

/* The cgroup is known, the process is not. */
static __always_inline void hf_owner_from_cgroup(struct hf_owner *o, __u64 cgroup_id)
{
	__builtin_memset(o, 0, sizeof(*o));
	o->cgroup_id = cgroup_id;
	hf_owner_names(o, bpf_map_lookup_elem(&cgroup_names, &cgroup_id));
}

static __always_inline void hf_owner_from_task(struct hf_owner *o, const struct task_struct *task)
{
	const struct task_struct *leader = HF_GET(task, group_leader);
	const struct kernfs_node *kn;

	__builtin_memset(o, 0, sizeof(*o));
	kn = hf_task_kernfs(task, &o->cgroup_id);
	o->tgid = HF_GET(task, tgid);
	o->uid = HF_GET(task, cred, uid.val);
	o->start_ns = HF_GET(leader, start_boottime);
	o->src = HF_OWNER_SELF;
	hf_comm(o->comm, leader);
	hf_owner_names(o, hf_remember_names(kn, o->cgroup_id));
}

static __always_inline __u32 hf_task_netns(const struct task_struct *task)
{
	return HF_GET(task, nsproxy, net_ns, ns.inum);
}
