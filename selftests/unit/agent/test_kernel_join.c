/* SPDX-License-Identifier: Apache-2.0 */
/* Which end of a process explains which loss of its sockets. */
#include "../test_util.h"

#include <signal.h>

#include "base/clock.h"
#include "userspace/agent/kernel_join.h"

#define T0 (1000 * HF_NS_PER_S)

static struct hf_join *join;
static char because[HF_JOIN_TEXT_MAX];
static Bus__ExitInfo exit_info;
static Bus__ConnInfo conn_info;

static int setup(void **state)
{
	(void)state;
	join = hf_join_new();
	return join ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	join = hf_join_free(join);
	return 0;
}

static Bus__Event event(const char *kind, uint32_t pid, uint64_t boot_ns)
{
	Bus__Event e = BUS__EVENT__INIT;

	e.kind = (char *)(uintptr_t)kind;
	e.pid = pid;
	e.start_boot_ns = pid * 10;
	e.boot_ns = boot_ns;
	e.netns = 7;
	return e;
}

static void died(uint32_t pid, uint64_t boot_ns, int sig, uint32_t by, bool oom)
{
	Bus__Event e = event("proc.exit", pid, boot_ns);

	bus__exit_info__init(&exit_info);
	exit_info.signal = sig;
	exit_info.code = sig ? -1 : 3;
	exit_info.by_pid = by;
	exit_info.by_comm = (char *)(uintptr_t) "kill";
	exit_info.oom = oom;
	e.exit = &exit_info;
	e.comm = (char *)(uintptr_t) "nginx";
	e.reason = (char *)(uintptr_t)(sig == SIGKILL ? "SIGKILL" : "SIGSEGV");
	hf_join_event(join, &e, because);
	assert_string_equal(because, "");
}

static const char *ended(const char *kind, uint32_t pid, uint64_t boot_ns, const char *local,
			 const char *peer)
{
	Bus__Event e = event(kind, pid, boot_ns);

	bus__conn_info__init(&conn_info);
	e.conn = &conn_info;
	e.local = (char *)(uintptr_t)local;
	e.peer = (char *)(uintptr_t)peer;
	hf_join_event(join, &e, because);
	return because;
}

static void an_end_names_the_death_of_its_owner(void **state)
{
	(void)state;
	died(812, T0, SIGKILL, 77, false);
	assert_string_equal(ended("conn.reset_sent", 812, T0 + 3 * HF_NS_PER_MS, "10.0.0.5:443",
				  "1.2.3.4:5"),
			    "pid 812 'nginx' was killed by SIGKILL from pid 77 'kill' 3 ms before");
	assert_string_equal(
		ended("conn.closed", 812, T0 + 40 * HF_NS_PER_US, "a:1", "b:2"),
		"pid 812 'nginx' was killed by SIGKILL from pid 77 'kill' 40 us before");
}

static void every_kind_of_death_has_its_words(void **state)
{
	(void)state;
	died(1, T0, 0, 0, false);
	assert_string_equal(ended("conn.reset_sent", 1, T0, "a:1", "b:2"),
			    "pid 1 'nginx' exited with status 3 0 us before");
	died(2, T0, SIGKILL, 0, true);
	assert_string_equal(ended("conn.reset_sent", 2, T0, "a:1", "b:2"),
			    "pid 2 'nginx' was ended by the OOM killer 0 us before");
	died(3, T0, SIGSEGV, 3, false);
	assert_string_equal(ended("conn.reset_sent", 3, T0, "a:1", "b:2"),
			    "pid 3 'nginx' was ended by SIGSEGV 0 us before");
}

static void the_other_side_on_this_host_is_told_too(void **state)
{
	(void)state;
	died(812, T0, SIGKILL, 77, false);
	(void)ended("conn.reset_sent", 812, T0, "127.0.0.1:80", "127.0.0.1:5000");
	assert_string_equal(
		ended("conn.reset_received", 9, T0 + HF_NS_PER_MS, "127.0.0.1:5000",
		      "127.0.0.1:80"),
		"the peer, pid 812 'nginx' was killed by SIGKILL from pid 77 'kill' 1 ms before");
	assert_string_equal(ended("conn.reset_received", 9, T0 + HF_NS_PER_MS, "127.0.0.1:5001",
				  "127.0.0.1:80"),
			    "");
}

static void nothing_is_guessed(void **state)
{
	Bus__Event e;

	(void)state;
	died(812, T0, SIGKILL, 77, false);
	/* Long after, before, another process, the same number again, no owner, not an end. */
	assert_string_equal(ended("conn.reset_sent", 812, T0 + HF_JOIN_WINDOW_NS + 1, "a:1", "b:2"),
			    "");
	assert_string_equal(ended("conn.reset_sent", 812, T0 - 1, "a:1", "b:2"), "");
	assert_string_equal(ended("conn.reset_sent", 813, T0, "a:1", "b:2"), "");
	assert_string_equal(ended("conn.reset_sent", 0, T0, "a:1", "b:2"), "");
	assert_string_equal(ended("conn.failed", 812, T0, "a:1", "b:2"), "");
	e = event("conn.reset_sent", 812, T0);
	e.start_boot_ns++;
	e.conn = &conn_info;
	hf_join_event(join, &e, because);
	assert_string_equal(because, "");
}

static void many_deaths_forget_the_oldest_only(void **state)
{
	uint32_t pid, known = 0;

	(void)state;
	for (pid = 1; pid <= 20000; pid++)
		died(pid, T0, SIGKILL, 77, false);
	for (pid = 1; pid <= 20000; pid++)
		known += ended("conn.closed", pid, T0, "a:1", "b:2")[0] != '\0';
	assert_in_range(known, 256, 512);
	assert_string_not_equal(ended("conn.closed", 20000, T0, "a:1", "b:2"), "");
}

int main(void)
{
#define JOIN(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		JOIN(an_end_names_the_death_of_its_owner),
		JOIN(every_kind_of_death_has_its_words),
		JOIN(the_other_side_on_this_host_is_told_too),
		JOIN(nothing_is_guessed),
		JOIN(many_deaths_forget_the_oldest_only),
	};

	return HF_RUN_TESTS(tests);
}
