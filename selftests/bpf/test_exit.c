/* SPDX-License-Identifier: Apache-2.0 */
/* How processes end: the status waitpid() gives, one event each, and who sent the signal. */
#include "harness.h"

#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include <linux/magic.h>

#include "base/clock.h"
#include "base/str.h"

/* One end besides the behaviour's own, with exactly the status that waitpid() gave. */
static const struct hf_exit_event *run(struct kt *t, struct kt_behaviour *b, const char *name,
				       const char *arg)
{
	const struct hf_exit_event *e;

	kt_require(t, "proc.exit");
	kt_run(b, name, arg);
	kt_collect(t, 1);
	e = kt_exit(t, kt_fact(b, "pid"));
	assert_int_equal(e->exit.status, kt_fact(b, "status"));
	assert_int_equal(e->exit.ppid, b->pid);
	assert_string_equal(e->exit.parent_comm, name);
	assert_int_equal(e->exit.netns, t->netns);
	assert_int_equal(e->owner.src, HF_OWNER_SELF);
	assert_int_equal(e->exit.runtime_ns, e->header.boot_ns - e->owner.start_ns);
	assert_int_equal(t->n_ends, 1);
	kt_assert_nothing_lost(t);
	return e;
}

static void an_exit_has_its_code(void **state)
{
	struct kt *t = *state;
	const struct hf_exit_event *e;
	const Bus__Event *d;
	struct kt_behaviour b;

	e = run(t, &b, "exit", "77");
	assert_int_equal(e->exit.status, 77 << 8);
	assert_int_equal(e->exit.sender.boot_ns, 0);
	assert_int_equal(e->exit.oom, 0);
	assert_int_equal(e->exit.threads, 1);
	assert_string_equal(e->owner.comm, "exit");
	assert_true(e->exit.max_rss_kib > 100);
	d = kt_decode(t, (const union hf_event_any *)e);
	assert_string_equal(d->kind, "proc.exit");
	assert_string_equal(d->owner_src, "self");
	assert_int_equal(d->exit->code, 77);
	assert_int_equal(d->exit->signal, 0);
	assert_string_equal(d->ring, "bulk");
}

static void a_clean_exit_is_told_too(void **state)
{
	struct kt_behaviour b;

	assert_int_equal(run(*state, &b, "exit", "0")->exit.status, 0);
}

static void check_killed(struct kt *t, const char *arg, uint32_t sig)
{
	const struct hf_exit_event *e;
	const Bus__Event *d;
	struct kt_behaviour b;

	e = run(t, &b, "killed", arg);
	assert_int_equal(e->exit.status & 0x7f, sig);
	if (!kt_program_on(t, "proc.signal"))
		return;
	assert_int_equal(e->exit.sender.pid, kt_fact(&b, "sender"));
	assert_int_equal(e->exit.sender.uid, 0);
	assert_int_equal(e->exit.sender.signal, sig);
	assert_int_equal(e->exit.sender.si_code, 0);
	assert_string_equal(e->exit.sender.comm, "killed");
	assert_true(e->exit.sender.boot_ns <= e->header.boot_ns);
	d = kt_decode(t, (const union hf_event_any *)e);
	assert_int_equal(d->exit->by_pid, b.pid);
	assert_string_equal(d->exit->by_comm, "killed");
	assert_int_equal(d->exit->code, -1);
}

static void a_sigkill_names_its_sender(void **state)
{
	check_killed(*state, "9", SIGKILL);
}

static void a_sigterm_names_its_sender(void **state)
{
	check_killed(*state, "15", SIGTERM);
}

static void a_real_time_signal_names_its_sender(void **state)
{
	check_killed(*state, "34", 34);
}

static void a_core_dump_keeps_its_bit(void **state)
{
	const struct hf_exit_event *e;
	struct kt_behaviour b;

	e = run(*state, &b, "abort", NULL);
	/* Whether a core could be written is the machine's affair; run() compared it. */
	assert_int_equal(e->exit.status & 0x7f, SIGABRT);
}

static void the_leader_may_go_first(void **state)
{
	const struct hf_exit_event *e;
	struct kt_behaviour b;

	e = run(*state, &b, "leader_first", NULL);
	assert_int_equal(e->exit.status, 3 << 8);
	assert_int_equal(e->exit.threads, 2);
}

static void the_last_thread_decides_without_exit_group(void **state)
{
	struct kt_behaviour b;

	(void)run(*state, &b, "thread_exit", NULL);
}

static void a_thousand_threads_killed_at_once_are_one_event(void **state)
{
	const struct hf_exit_event *e;
	struct kt_behaviour b;

	e = run(*state, &b, "many_threads", "999");
	assert_int_equal(e->exit.status, SIGKILL);
	/* Threads that ended while the last one did may be missing from the count. */
	assert_in_range(e->exit.threads, 900, 1000);
}

static void exec_in_a_thread_is_no_end(void **state)
{
	struct kt_behaviour b;

	assert_int_equal(run(*state, &b, "exec_thread", NULL)->exit.status, 9 << 8);
}

static void a_child_of_the_watchdog_is_urgent_and_leaves_a_verdict(void **state)
{
	struct kt *t = *state;
	struct hf_exit_verdict v;
	struct kt_behaviour b;
	const struct hf_exit_event *e = &t->ends[0].exit;

	kt_require(t, "proc.exit");
	kt_run(&b, "exit", "5");
	kt_collect(t, 1);
	assert_int_equal(t->n_ends, 1);
	assert_int_equal(e->header.ring, HF_RING_URGENT);
	assert_true(e->header.flags & HF_EVENT_F_WATCHED);
	assert_int_equal(e->owner.tgid, b.pid);
	assert_ok(hf_kernel_lookup_exit(t->kernel, (uint32_t)b.pid, e->owner.start_ns, &v));
	assert_int_equal(v.status, 0);
	assert_int_equal(v.start_ns, e->owner.start_ns);
	assert_string_equal(v.comm, "exit");
	/* Only processes that are watched, or the watchdog's own, leave one. */
	e = kt_exit(t, kt_fact(&b, "pid"));
	assert_err(hf_kernel_lookup_exit(t->kernel, e->owner.tgid, e->owner.start_ns, &v), -ENOENT);
}

/* By /proc alone, as a new watchdog knows a process it did not start. */
static uint64_t start_by_proc(pid_t pid)
{
	char path[64], *text = NULL, *p;
	uint64_t ticks;
	size_t len;
	int i;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	assert_ok(hf_read_file(AT_FDCWD, path, 4096, &text, &len));
	p = strrchr(text, ')') + 2;
	for (i = 3; i < 22; i++)
		p = strchr(p, ' ') + 1;
	*strchr(p, ' ') = '\0';
	assert_ok(hf_parse_u64(p, &ticks));
	free(text);
	return ticks * HF_PROCESS_TICK_NS;
}

static void the_verdict_is_there_when_waitpid_returns(void **state)
{
	struct kt *t = *state;
	struct hf_exit_verdict v;
	uint64_t start;
	int status;
	pid_t pid;

	kt_require(t, "proc.exit");
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		for (;;)
			(void)pause();
	start = start_by_proc(pid);
	assert_ok(hf_kernel_watch_process(t->kernel, (uint32_t)pid, start));
	assert_err(hf_kernel_lookup_exit(t->kernel, (uint32_t)pid, start, &v), -ENOENT);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_ok(hf_kernel_lookup_exit(t->kernel, (uint32_t)pid, start, &v));
	assert_int_equal(v.status, status);
	assert_int_equal(v.oom, 0);
	if (kt_program_on(t, "proc.signal"))
		assert_int_equal(v.sender.pid, getpid());
	assert_true(v.boot_ns <= hf_now_boottime_ns());
	assert_ok(hf_kernel_forget_process(t->kernel, (uint32_t)pid, start));
	assert_err(hf_kernel_lookup_exit(t->kernel, (uint32_t)pid, start, &v), -ENOENT);
	kt_collect(t, 1);
}

static void exits_with_status_0_can_be_left_out(void **state)
{
	struct kt *t = *state;
	struct hf_rings_totals s;
	struct kt_behaviour b;
	struct hf_policy p;

	kt_require(t, "proc.exit");
	hf_kernel_default_policy(&p);
	p.flags = HF_POLICY_F_NETNS_ONLY | HF_POLICY_F_EXIT_BAD_ONLY;
	assert_ok(hf_kernel_set_policy(t->kernel, &p));
	kt_run(&b, "exit", "0");
	kt_run(&b, "exit", "1");
	kt_collect(t, 1);
	assert_int_equal(kt_exit(t, kt_fact(&b, "pid"))->exit.status, 1 << 8);
	s = kt_totals(t);
	assert_true(s.kind[HF_EVENT_PROC_EXIT].filtered >= 1);
}

/* A cgroup with a memory controller, v2 or v1; NULL where there is none. */
static const char *memory_cgroup(char *dst, size_t size)
{
	struct statfs s;

	if (statfs("/sys/fs/cgroup", &s) == 0 && s.f_type == CGROUP2_SUPER_MAGIC) {
		int fd = open("/sys/fs/cgroup/cgroup.subtree_control", O_WRONLY | O_CLOEXEC);

		if (fd >= 0) {
			(void)!write(fd, "+memory", 7);
			(void)hf_close(fd);
		}
		(void)hf_strf(dst, size, "/sys/fs/cgroup/hf-oom-%d", getpid());
	} else {
		(void)hf_strf(dst, size, "/sys/fs/cgroup/memory/hf-oom-%d", getpid());
	}
	return mkdir(dst, 0755) == 0 ? dst : NULL;
}

static void an_oom_kill_is_told_and_joined_to_the_exit(void **state)
{
	struct kt *t = *state;
	const struct hf_exit_event *e;
	const struct hf_oom_event *o;
	struct kt_behaviour b;
	char dir[128], name[HF_CGROUP_LEAF_SIZE];

	kt_require(t, "proc.oom");
	if (!memory_cgroup(dir, sizeof(dir))) {
		print_message("SKIP no memory cgroup: %s\n", strerror(errno));
		skip();
	}
	kt_run(&b, "oom", dir);
	kt_collect(t, 2);
	(void)rmdir(dir);
	o = &kt_only(t, HF_EVENT_PROC_OOM)->oom;
	e = kt_exit(t, kt_fact(&b, "pid"));
	assert_int_equal(o->owner.tgid, kt_fact(&b, "pid"));
	assert_int_equal(o->header.ring, HF_RING_URGENT);
	assert_int_equal(e->exit.status & 0x7f, SIGKILL);
	assert_int_equal(e->exit.status, kt_fact(&b, "status"));
	if (hf_kernel_info_drop(t->info, 2)) { /* 6.8 and later tell who, not only the number */
		assert_int_equal(o->oom.invoker_pid, kt_fact(&b, "pid"));
		assert_true(o->oom.anon_rss_kib > 1024);
		assert_true(o->oom.total_vm_kib > 65536);
	}
	if (kt_program_on(t, "proc.signal")) {
		assert_int_equal(e->exit.oom, 1);
		assert_int_equal(e->exit.sender.pid, 0);
		assert_int_equal(e->header.ring, HF_RING_URGENT);
	}
	(void)hf_strf(name, sizeof(name), "hf-oom-%d", getpid());
	assert_string_equal(e->owner.cgroup_leaf, name);
	assert_true(e->owner.cgroup_id > 1);
	kt_assert_nothing_lost(t);
}

int main(int argc, char **argv)
{
#define PROC(f) cmocka_unit_test_setup_teardown(f, kt_setup_proc, kt_teardown)
	const struct CMUnitTest tests[] = {
		PROC(an_exit_has_its_code),
		PROC(a_clean_exit_is_told_too),
		PROC(a_sigkill_names_its_sender),
		PROC(a_sigterm_names_its_sender),
		PROC(a_real_time_signal_names_its_sender),
		PROC(a_core_dump_keeps_its_bit),
		PROC(the_leader_may_go_first),
		PROC(the_last_thread_decides_without_exit_group),
		PROC(a_thousand_threads_killed_at_once_are_one_event),
		PROC(exec_in_a_thread_is_no_end),
		PROC(a_child_of_the_watchdog_is_urgent_and_leaves_a_verdict),
		PROC(the_verdict_is_there_when_waitpid_returns),
		PROC(exits_with_status_0_can_be_left_out),
		PROC(an_oom_kill_is_told_and_joined_to_the_exit),
	};

	return KT_MAIN(argc, argv, tests);
}
