/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ends of processes: the status waitpid() gives, who sent the signal, whether it was for want of
 * memory. A process ends with its last thread, whichever that is.
 */
#include "lib/policy.h"

/* include/trace/events/signal.h: queued and to be acted on. */
#define TRACE_SIGNAL_DELIVERED 0

/* Values of a siginfo pointer that are no pointers (include/linux/signal.h). */
#define SEND_SIG_NOINFO 0ull
#define SEND_SIG_PRIV   1ull

#define SI_USER         0
#define SI_KERNEL       0x80
#define SI_QUEUE        -1
#define SI_TKILL        -6

#define SIGKILL         9

/* Signals whose default action does not end a process: CHLD CONT STOP TSTP TTIN TTOU URG WINCH. */
#define HARMLESS_SIGNALS                                                               \
	(1ull << 17 | 1ull << 18 | 1ull << 19 | 1ull << 20 | 1ull << 21 | 1ull << 22 | \
	 1ull << 23 | 1ull << 28)

static __always_inline bool default_action(const struct task_struct *task, int sig)
{
	const void *hand = BPF_CORE_READ(task, sighand);
	void *handler = (void *)1;

	hand += bpf_core_field_offset(struct sighand_struct, action) +
		(sig - 1) * bpf_core_type_size(struct k_sigaction) +
		bpf_core_field_offset(struct k_sigaction, sa.sa_handler);
	bpf_probe_read_kernel(&handler, sizeof(handler), hand);
	return !handler;
}

/*
 * Keeps the sender of each signal that will end its target. It runs in the sender's context when a
 * process sent it; a signal of the kernel's own (a fault, a timer, OOM) has no sender, and the
 * current task is then anybody.
 */
SEC("tp_btf/signal_generate")
int BPF_PROG(proc_signal, int sig, struct kernel_siginfo *info, struct task_struct *task, int group,
	     int result)
{
	struct hf_signal_key key = {};
	struct hf_sender from = {};
	struct task_struct *me;
	__u64 raw = 0;

	if (result != TRACE_SIGNAL_DELIVERED || sig < 1 || sig > 64 ||
	    (HARMLESS_SIGNALS & (1ull << (sig & 63))))
		return 0;
	if (sig != SIGKILL && !default_action(task, sig))
		return 0;

	bpf_probe_read_kernel(&raw, sizeof(raw), &ctx[1]);
	if (raw == SEND_SIG_NOINFO)
		from.si_code = SI_USER;
	else if (raw == SEND_SIG_PRIV)
		from.si_code = SI_KERNEL;
	else
		from.si_code = BPF_CORE_READ(info, si_code);
	from.boot_ns = bpf_ktime_get_boot_ns();
	from.signal = sig;
	if (from.si_code == SI_USER || from.si_code == SI_TKILL || from.si_code == SI_QUEUE) {
		me = hf_current();
		from.pid = bpf_get_current_pid_tgid() >> 32;
		from.uid = (__u32)bpf_get_current_uid_gid();
		hf_comm(from.comm, HF_GET(me, group_leader));
	}
	key.start_ns = HF_GET(task, group_leader, start_boottime);
	key.tgid = HF_GET(task, tgid);
	key.signal = sig;
	if (bpf_map_update_elem(&fatal_signals, &key, &from, BPF_ANY))
		hf_count_misc(HF_MISC_SIGNAL_FULL);
	return 0;
}

/*
 * True for the last thread only. Since 6.16 the kernel says so; before, the count of live threads
 * can be seen as 0 by two that end together, so the first to say so wins.
 */
static __always_inline bool is_last_thread(const struct task_struct *task, bool group_dead,
					   struct hf_process_key *key, __u32 *ret_threads)
{
	struct hf_thread_count fresh = {.ended = 1}, *n;
	bool alone = HF_GET(task, signal, nr_threads) <= 1;

	*ret_threads = 1;
	if (!hf_kernel.group_dead)
		group_dead = HF_GET(task, signal, live.counter) <= 0;
	/* By far the most: a process that never had another thread. */
	if (group_dead && alone && !HF_GET(task, signal, sum_sched_runtime))
		return true;
	n = bpf_map_lookup_elem(&thread_counts, key);
	if (!group_dead) {
		if (n)
			__sync_fetch_and_add(&n->ended, 1);
		else
			bpf_map_update_elem(&thread_counts, key, &fresh, BPF_NOEXIST);
		return false;
	}
	if (n) {
		if (n->told)
			return false;
		*ret_threads = n->ended + 1;
	}
	if (hf_kernel.group_dead || alone) {
		if (n)
			bpf_map_delete_elem(&thread_counts, key);
		return true;
	}
	fresh.told = 1;
	if (n)
		n->told = 1;
	else if (bpf_map_update_elem(&thread_counts, key, &fresh, BPF_NOEXIST))
		return false;
	return true;
}

/* What wait_task_zombie() would return. */
static __always_inline __u32 wait_status(const struct task_struct *task,
					 const struct task_struct *leader)
{
	if (HF_GET(task, signal, flags) & SIGNAL_GROUP_EXIT)
		return HF_GET(task, signal, group_exit_code) & 0xffff;
	return HF_GET(leader, exit_code) & 0xffff;
}

static __always_inline void fill_sender(struct hf_sender *s, const struct hf_process_key *key,
					__u32 status)
{
	struct hf_signal_key sk = {.start_ns = key->start_tick_ns, .tgid = key->tgid};
	struct hf_sender *from;

	sk.signal = status & 0x7f;
	if (!sk.signal)
		return;
	from = bpf_map_lookup_elem(&fatal_signals, &sk);
	if (!from)
		return;
	__builtin_memcpy(s, from, sizeof(*s));
	bpf_map_delete_elem(&fatal_signals, &sk);
}

static __always_inline bool exit_passes(const struct hf_policy *p, const struct task_struct *task,
					struct hf_subject *s)
{
	if (!hf_policy_filters(p))
		return true;
	if (p->flags & (HF_POLICY_F_UNIT_ONLY | HF_POLICY_F_UNIT_EXCEPT))
		hf_task_remember_names(task);
	s->netns = hf_task_netns(task);
	return hf_filters_pass(p->flags, s);
}

/* Before the exit can be seen by anybody else: for the watchdog, which looks it up. */
static __always_inline void keep_verdict(const struct task_struct *leader,
					 const struct hf_process_key *tick,
					 const struct hf_process_key *key,
					 const struct hf_sender *sender, __u32 status, __u32 oom,
					 __u64 now)
{
	struct hf_exit_verdict v = {};

	__builtin_memcpy(&v.sender, sender, sizeof(*sender));
	v.boot_ns = now;
	v.start_ns = key->start_tick_ns;
	v.status = status;
	v.oom = oom;
	hf_comm(v.comm, leader);
	if (bpf_map_update_elem(&exit_verdict, tick, &v, BPF_ANY))
		hf_count_misc(HF_MISC_VERDICT_FULL);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(proc_exit, struct task_struct *task)
{
	const struct task_struct *leader = HF_GET(task, group_leader);
	const struct task_struct *parent;
	struct hf_policy *p = hf_policy_get();
	struct hf_process_key key = {}, tick = {};
	struct hf_sender sender = {};
	bool dead = false, watched;
	__u32 threads, status, oom;
	struct hf_subject s = {};
	struct hf_exit_event *e;
	struct hf_owner *owner;
	__u64 now;

	if (hf_kernel.group_dead)
		dead = ctx[1] & 0xff;
	if (!p || (HF_GET(task, flags) & PF_KTHREAD))
		return 0;
	key.tgid = HF_GET(task, tgid);
	key.start_tick_ns = HF_GET(leader, start_boottime);
	if (!is_last_thread(task, dead, &key, &threads))
		return 0;

	parent = HF_GET(leader, real_parent);
	tick.tgid = key.tgid;
	tick.start_tick_ns = key.start_tick_ns - key.start_tick_ns % HF_PROCESS_TICK_NS;
	watched = (p->guardian_tgid && HF_GET(parent, tgid) == (int)p->guardian_tgid) ||
		  ((p->watched_tgids & HF_WATCH_BIT(key.tgid)) &&
		   bpf_map_lookup_elem(&watched_process, &tick));
	if (!watched && !hf_policy_has(p, HF_EVENT_PROC_EXIT)) {
		hf_count_filtered(HF_EVENT_PROC_EXIT);
		return 0;
	}
	status = wait_status(task, leader);
	if (!watched) {
		s.cgroup_id = hf_task_cgroup_id(task);
		if (((p->flags & HF_POLICY_F_EXIT_BAD_ONLY) && !status) ||
		    !exit_passes(p, task, &s)) {
			hf_count_filtered(HF_EVENT_PROC_EXIT);
			return 0;
		}
		s.uid = HF_GET(task, cred, uid.val);
	}
	now = bpf_ktime_get_boot_ns();
	fill_sender(&sender, &key, status);
	/* A dying process can be made a victim as well: only the killer's own signal counts. */
	oom = HF_GET(task, signal, oom_mm) && (status & 0x7f) == SIGKILL &&
	      sender.si_code == SI_KERNEL;
	/* Out of memory is never throttled: it is rare, and the question of the night. */
	if (!watched && !oom &&
	    hf_throttled(p, HF_EVENT_PROC_EXIT, status ? HF_BUCKET_EXIT_BAD : HF_BUCKET_EXIT, &s,
			 task, NULL, now))
		return 0;
	if (watched)
		keep_verdict(leader, &tick, &key, &sender, status, oom, now);

	e = hf_reserve(struct hf_exit_event, HF_EVENT_PROC_EXIT, watched || oom, now);
	if (!e)
		return 0;
	if (watched)
		e->header.flags |= HF_EVENT_F_WATCHED;
	owner = &e->owner;
	hf_owner_from_task(owner, task);
	__builtin_memset(&e->exit, 0, sizeof(e->exit));
	__builtin_memcpy(&e->exit.sender, &sender, sizeof(sender));
	e->exit.runtime_ns = now - key.start_tick_ns;
	/* The last thread's own time joins the group's only when it is reaped. */
	e->exit.utime_ns = HF_GET(task, signal, utime) + HF_GET(task, utime);
	e->exit.stime_ns = HF_GET(task, signal, stime) + HF_GET(task, stime);
	e->exit.max_rss_kib = HF_GET(task, signal, maxrss) * hf_kernel.page_kib;
	e->exit.status = status;
	e->exit.oom = oom;
	e->exit.threads = threads;
	e->exit.netns = hf_task_netns(task);
	e->exit.ppid = HF_GET(parent, tgid);
	hf_comm(e->exit.parent_comm, HF_GET(parent, group_leader));
	hf_submit(e, watched || oom, sizeof(*e));
	return 0;
}

static __always_inline __u64 rss_kib(const struct mm_struct *mm, __u32 which)
{
	__s64 pages = 0;

	if (bpf_core_field_exists(struct mm_struct___new, rss_stat[0].count)) {
		const struct mm_struct___new *m = (const void *)mm;

		if (which == 0)
			pages = BPF_CORE_READ(m, rss_stat[0].count);
		else if (which == 1)
			pages = BPF_CORE_READ(m, rss_stat[1].count);
		else
			pages = BPF_CORE_READ(m, rss_stat[3].count);
	} else if (bpf_core_field_exists(struct mm_struct___old, rss_stat.count)) {
		const struct mm_struct___old *m = (const void *)mm;

		if (which == 0)
			pages = BPF_CORE_READ(m, rss_stat.count[0].counter);
		else if (which == 1)
			pages = BPF_CORE_READ(m, rss_stat.count[1].counter);
		else
			pages = BPF_CORE_READ(m, rss_stat.count[3].counter);
	}
	return pages > 0 ? (__u64)pages * hf_kernel.page_kib : 0;
}

/* Never filtered by kind of process, never throttled: OOM is rare and always matters. */
static __always_inline struct hf_oom_event *oom_event(__u32 netns, __u64 cgroup_id)
{
	struct hf_policy *p = hf_policy_get();
	struct hf_subject s = {.netns = netns, .cgroup_id = cgroup_id};
	struct hf_oom_event *e;

	if (!p)
		return NULL;
	if (!hf_policy_wants(p, HF_EVENT_PROC_OOM, &s)) {
		hf_count_filtered(HF_EVENT_PROC_OOM);
		return NULL;
	}
	e = hf_reserve(struct hf_oom_event, HF_EVENT_PROC_OOM, true, bpf_ktime_get_boot_ns());
	if (!e)
		return NULL;
	__builtin_memset(&e->owner, 0, sizeof(e->owner) + sizeof(e->oom));
	/* Runs where memory was asked for and not found. */
	e->oom.invoker_pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(e->oom.invoker_comm, sizeof(e->oom.invoker_comm));
	e->oom.netns = netns;
	return e;
}

/* mark_victim(task, uid): 6.8, and stable kernels that took it over. */
SEC("tp_btf/mark_victim")
int BPF_PROG(proc_oom, struct task_struct *task)
{
	struct hf_oom_event *e;
	struct mm_struct *mm;

	e = oom_event(hf_task_netns(task), hf_task_cgroup_id(task));
	if (!e)
		return 0;
	hf_owner_from_task(&e->owner, task);
	mm = BPF_CORE_READ(task, mm);
	if (!mm)
		mm = BPF_CORE_READ(task, signal, oom_mm);
	e->oom.total_vm_kib = BPF_CORE_READ(mm, total_vm) * hf_kernel.page_kib;
	e->oom.file_rss_kib = rss_kib(mm, 0);
	e->oom.anon_rss_kib = rss_kib(mm, 1);
	e->oom.shmem_rss_kib = rss_kib(mm, 3);
	e->oom.pgtables_kib = (__u64)BPF_CORE_READ(mm, pgtables_bytes.counter) / 1024;
	e->oom.oom_score_adj = HF_GET(task, signal, oom_score_adj);
	hf_submit(e, true, sizeof(*e));
	return 0;
}

/* mark_victim(pid) before that: the number is all there is. */
SEC("tp_btf/mark_victim")
int BPF_PROG(proc_oom_pid, int pid)
{
	struct hf_oom_event *e = oom_event(0, 0);

	if (!e)
		return 0;
	e->owner.tgid = pid;
	e->owner.src = HF_OWNER_SELF;
	hf_submit(e, true, sizeof(*e));
	return 0;
}
