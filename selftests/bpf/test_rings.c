/* SPDX-License-Identifier: Apache-2.0 */
/* What is lost is counted and proven; what is recorded survives its reader and its loader. */
#include "harness.h"

#include <grp.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/capability.h>

#include "base/str.h"

#define KINDS_CONN \
	(HF_POLICY_KIND(HF_EVENT_CONN_RESET_SENT) | HF_POLICY_KIND(HF_EVENT_CONN_RESET_RECEIVED))

/* A record of a connection with the ring's own header. */
#define RECORD_BYTES (sizeof(struct hf_conn_event) + 8)

/* What a kernel lacks is named; what the verifier refuses is our bug, on any kernel. */
static void no_program_is_refused(void **state)
{
	struct kt *t = *state;
	const struct hf_kernel_program *p;
	size_t i;

	for (i = 0; (p = hf_kernel_program(t->kernel, i)); i++) {
		if (p->attached) {
			assert_string_equal(p->reason, "");
			continue;
		}
		assert_string_not_equal(p->reason, "");
		if (strstr(p->reason, "refused") || strstr(p->reason, "cannot attach"))
			fail_msg("%s: %s", p->name, p->reason);
	}
}

static void with_the_reader_stopped_every_event_is_in_the_ring(void **state)
{
	struct kt *t = *state;
	struct hf_rings_totals s;
	struct kt_behaviour b;

	kt_require(t, "tcp.reset_sent");
	kt_require(t, "tcp.reset_received");
	kt_run(&b, "storm", "100");
	s = kt_totals(t);
	assert_int_equal(s.generated, 201); /* two each, and the behaviour's own end */
	assert_int_equal(s.in_ring, 201);
	assert_int_equal(s.delivered, 0);
	assert_int_equal(s.lost, 0);
	assert_int_equal(s.ring[HF_RING_BULK].in_ring, 200);
	assert_int_equal(s.kind[HF_EVENT_CONN_RESET_SENT].generated, 100);
	assert_int_equal(s.kind[HF_EVENT_CONN_RESET_RECEIVED].generated, 100);
	kt_collect(t, 200);
	s = kt_totals(t);
	assert_int_equal(s.delivered, 201);
	kt_assert_nothing_lost(t);
}

static void a_full_ring_loses_what_is_counted_and_proven(void **state)
{
	struct kt *t = *state;
	/* The last eighth is kept for exits. */
	const uint64_t room = 65536 / 8 * 7 / RECORD_BYTES + 1;
	struct hf_rings_totals s;
	struct kt_behaviour b;

	kt_require(t, "tcp.reset_sent");
	kt_require(t, "tcp.reset_received");
	/* Again, with a small ring. */
	kt_unmap(t);
	assert_ok(hf_kernel_unpin(t->kernel));
	t->kernel = hf_kernel_free(t->kernel);
	kt_open(t, KINDS_CONN, HF_POLICY_F_NO_THROTTLE, 65536);

	kt_run(&b, "storm", "300");
	s = kt_totals(t);
	assert_int_equal(s.ring[HF_RING_BULK].generated, 600);
	assert_int_equal(s.ring[HF_RING_BULK].in_ring, room);
	assert_int_equal(s.ring[HF_RING_BULK].lost, 600 - room);
	assert_int_equal(s.lost, 600 - room);
	assert_int_equal(s.kind[HF_EVENT_CONN_RESET_SENT].lost +
				 s.kind[HF_EVENT_CONN_RESET_RECEIVED].lost,
			 600 - room);
	/* The urgent ring had room all the time. */
	assert_int_equal(s.ring[HF_RING_URGENT].lost, 0);
	kt_collect(t, room);
	assert_int_equal(t->gap_events, 600 - room);

	/* And it goes on where it stopped. */
	t->n_events = 0;
	kt_run(&b, "storm", "10");
	kt_collect(t, 20);
	s = kt_totals(t);
	assert_int_equal(s.generated, s.delivered + s.in_ring + s.lost);
	assert_int_equal(t->gap_events, s.lost);
	assert_int_equal(s.lost, 600 - room);
}

/* Loads in a child that is killed, as a watchdog may be. */
static void open_and_die(void)
{
	struct hf_kernel_options o = {.instance = kt_instance(), .pin_root = KT_PIN_ROOT};
	struct hf_kernel *k;
	int status;
	pid_t pid;

	/* kt_instance() is by pid: made before the fork, it names ours in the child too. */
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (hf_kernel_open(&o, &k) < 0 || !hf_kernel_reopened(k))
			_exit(1);
		(void)raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, SIGKILL);
}

static void pins_go_on_when_the_loader_has_died(void **state)
{
	struct kt *t = *state;
	struct hf_kernel_options o = {.instance = kt_instance(), .pin_root = KT_PIN_ROOT};
	struct hf_rings_position positions[64];
	enum hf_kernel_assist assist;
	struct kt_behaviour b;
	struct hf_policy p;
	size_t n, i;

	kt_require(t, "tcp.reset_sent");
	kt_require(t, "tcp.reset_received");
	hf_kernel_default_policy(&p);
	p.kinds = KINDS_CONN;
	p.flags = HF_POLICY_F_NETNS_ONLY | HF_POLICY_F_NO_THROTTLE;
	o.policy = &p;

	kt_run(&b, "storm", "5");
	kt_collect(t, 10);
	n = hf_rings_positions(t->rings, positions, HF_ARRAY_SIZE(positions));
	assert_in_range(n, 1, HF_ARRAY_SIZE(positions));
	kt_unmap(t);
	assist = hf_kernel_assist(t->kernel);
	t->kernel = hf_kernel_free(t->kernel);
	open_and_die();
	/* Nobody is there; the programs are. */
	kt_run(&b, "storm", "7");
	assert_ok(hf_kernel_open(&o, &t->kernel));
	assert_true(hf_kernel_reopened(t->kernel));
	assert_int_equal(hf_kernel_assist(t->kernel), assist);
	kt_map(t);
	for (i = 0; i < n; i++)
		hf_rings_set_position(t->rings, &positions[i]);
	t->n_events = 0;
	t->n_ends = 0;
	/* The storm is whole, and no number is missing: neither of it nor of what died meanwhile. */
	kt_drain(t);
	kt_run(&b, "storm", "1");
	kt_drain(t);
	kt_drain(t);
	/* By socket: on a host that stalls, a late packet may earn a reset from the listener as well. */
	for (i = n = 0; i < t->n_events; i++)
		n += t->events[i].header.kind == HF_EVENT_CONN_RESET_SENT &&
		     !(t->events[i].header.flags & HF_EVENT_F_NO_SOCKET) &&
		     t->events[i].conn.conn.state != TCP_LISTEN;
	if (n != 8)
		kt_show(t);
	assert_int_equal(n, 8);
	assert_int_equal(t->gap_events, 0);
	assert_int_equal(kt_totals(t).lost, 0);
	assert_int_equal(kt_totals(t).duplicates, 0);
}

static void count_record(const struct hf_event_header *h, size_t len, void *userdata)
{
	(void)h;
	(void)len;
	(*(unsigned *)userdata)++;
}

static unsigned read_bulk(struct kt *t)
{
	unsigned n = 0;
	const struct hf_rings_handler h = {.record = count_record, .userdata = &n};

	while (hf_rings_read(t->rings, HF_RING_BULK, 16, &h) == 16)
		;
	return n;
}

static void what_was_not_committed_is_read_again_and_known_again(void **state)
{
	struct kt *t = *state;
	struct hf_rings_position positions[64];
	struct kt_behaviour b;
	size_t n, i;

	kt_require(t, "tcp.reset_sent");
	kt_require(t, "tcp.reset_received");
	kt_run(&b, "storm", "20");
	/* A reader takes all, keeps them, and dies before it says so to the kernel. */
	assert_int_equal(read_bulk(t), 40);
	n = hf_rings_positions(t->rings, positions, HF_ARRAY_SIZE(positions));
	kt_unmap(t);
	/* One without a memory sees them again. */
	kt_map(t);
	assert_int_equal(read_bulk(t), 40);
	kt_unmap(t);
	/* One that remembers does not. */
	kt_map(t);
	for (i = 0; i < n; i++)
		hf_rings_set_position(t->rings, &positions[i]);
	assert_int_equal(read_bulk(t), 0);
	assert_int_equal(kt_totals(t).duplicates, 40);
	assert_int_equal(kt_totals(t).gap_events, 0);
	hf_rings_commit(t->rings, HF_RING_BULK, hf_rings_mark(t->rings, HF_RING_BULK));
	kt_unmap(t);
	kt_map(t);
	assert_int_equal(read_bulk(t), 0);
	assert_int_equal(kt_totals(t).duplicates, 0);
}

static void drop_everything(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}};

	if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 ||
	    setresuid(65534, 65534, 65534) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_capset, &h, d) < 0)
		_exit(10);
}

/* The child's exit code tells where it went wrong. */
static void consume_unprivileged(struct kt *t, const int fds[], int counters, int text)
{
	struct hf_rings_totals s;
	unsigned n;

	drop_everything();
	if (hf_kernel_info_read(text, &t->info) < 0)
		_exit(11);
	if (hf_rings_new(fds, hf_kernel_info_ring_bytes(t->info), counters,
			 hf_kernel_info_cpus(t->info), &t->rings) < 0)
		_exit(12);
	n = read_bulk(t);
	if (n != 6)
		_exit(13);
	hf_rings_commit(t->rings, HF_RING_BULK, hf_rings_mark(t->rings, HF_RING_BULK));
	hf_rings_totals(t->rings, &s);
	if (s.ring[HF_RING_BULK].generated != 6 || s.ring[HF_RING_BULK].in_ring != 0)
		_exit(14);
	/* Numbers that the agent cannot touch. */
	if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, counters, 0) != MAP_FAILED)
		_exit(15);
	_exit(0);
}

static void a_reader_needs_no_privilege(void **state)
{
	struct kt *t = *state;
	int fds[_HF_RING_MAX], counters, text, status;
	struct kt_behaviour b;
	pid_t pid;

	kt_require(t, "tcp.reset_sent");
	kt_require(t, "tcp.reset_received");
	kt_run(&b, "storm", "3");
	fds[0] = hf_kernel_ring_fd(t->kernel, HF_RING_URGENT);
	fds[1] = hf_kernel_ring_fd(t->kernel, HF_RING_BULK);
	counters = hf_kernel_counters_fd(t->kernel);
	text = hf_kernel_text_fd(t->kernel);
	assert_ok(text);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		consume_unprivileged(t, fds, counters, text);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	(void)hf_close(text);
	/* What it committed is gone from the ring for everybody. */
	kt_unmap(t);
	kt_map(t);
	assert_int_equal(read_bulk(t), 0);
}

static void a_storm_that_fills_the_ring_hides_no_exit(void **state)
{
	struct kt *t = *state;
	struct hf_rings_totals s;
	struct kt_behaviour b;

	kt_require(t, "tcp.reset_sent");
	kt_require(t, "proc.exit");
	kt_unmap(t);
	assert_ok(hf_kernel_unpin(t->kernel));
	t->kernel = hf_kernel_free(t->kernel);
	kt_open(t, KINDS_CONN | HF_POLICY_KIND(HF_EVENT_PROC_EXIT), HF_POLICY_F_NO_THROTTLE, 65536);
	kt_run(&b, "storm", "300");
	assert_true(kt_totals(t).lost > 0);
	kt_run(&b, "exit", "3");
	s = kt_totals(t);
	assert_int_equal(s.kind[HF_EVENT_PROC_EXIT].lost, 0);
	kt_drain(t);
	kt_drain(t);
	assert_int_equal(kt_exit(t, kt_fact(&b, "pid"))->exit.status, 3 << 8);
	assert_int_equal(kt_totals(t).lost, t->gap_events);
}

/* Puts this process, and so the behaviours it starts, into a cgroup of v2. */
static bool enter_cgroup(const char *name)
{
	const char *root = access("/sys/fs/cgroup/cgroup.procs", W_OK) == 0
				   ? "/sys/fs/cgroup"
				   : "/sys/fs/cgroup/unified";
	char path[128];
	FILE *file;

	(void)hf_strf(path, sizeof(path), "%s%s", root, name);
	(void)mkdir(path, 0755);
	(void)hf_strf(path, sizeof(path), "%s%s/cgroup.procs", root, name);
	file = fopen(path, "we");
	if (!file)
		return false;
	assert_true(fprintf(file, "%d\n", getpid()) > 0);
	return fclose(file) == 0;
}

static void remove_cgroup(const char *name)
{
	char path[128];

	(void)hf_strf(path, sizeof(path), "/sys/fs/cgroup%s%s",
		      access("/sys/fs/cgroup/cgroup.procs", W_OK) == 0 ? "" : "/unified", name);
	assert_int_equal(rmdir(path), 0);
}

static void a_loud_cgroup_costs_another_one_nothing(void **state)
{
	static const char loud[] = "/hf-test-loud", quiet[] = "/hf-test-quiet";
	struct kt *t = *state;
	struct kt_behaviour b;
	struct hf_policy p;
	size_t told = 0;

	kt_require(t, "tcp.reset_sent");
	if (!enter_cgroup(loud)) {
		print_message("SKIP no cgroup v2 to write to here\n");
		skip();
	}
	hf_kernel_default_policy(&p);
	p.kinds = KINDS_CONN | HF_POLICY_KIND(HF_EVENT_CONN_FAILED) |
		  HF_POLICY_KIND(HF_EVENT_PROC_EXIT);
	p.flags = HF_POLICY_F_NETNS_ONLY;
	p.bucket_burst = 10;
	p.bucket_interval_ns = 3600ull * 1000000000;
	assert_ok(hf_kernel_set_policy(t->kernel, &p));
	kt_run(&b, "storm", "50");
	/* Where a listener's owner is not inherited, the resets of nobody share one bucket. */
	assert_true(kt_totals(t).throttled >= (kt_inherits_owner(t) ? 90 : 80));
	assert_true(enter_cgroup(quiet));
	remove_cgroup(loud);
	kt_drain(t);
	t->n_events = t->n_ends = 0;
	kt_run(&b, "reset_by_peer", "4");
	kt_drain(t);
	for (size_t i = 0; i < t->n_events; i++)
		told += t->events[i].header.kind != HF_EVENT_TELEMETRY_LOSS;
	assert_int_equal(told, kt_inherits_owner(t) ? 2 : 1);
	assert_true(enter_cgroup(""));
	remove_cgroup(quiet);
	assert_int_equal(kt_totals(t).lost, 0);
}

static void a_loud_cgroup_is_throttled_and_the_mark_says_so(void **state)
{
	struct kt *t = *state;
	struct hf_rings_totals s;
	struct kt_behaviour b;
	uint64_t marked = 0;
	struct hf_policy p;
	size_t i, resets = 0;

	kt_require(t, "tcp.reset_sent");
	hf_kernel_default_policy(&p);
	p.kinds = KINDS_CONN | HF_POLICY_KIND(HF_EVENT_PROC_EXIT);
	p.flags = HF_POLICY_F_NETNS_ONLY;
	p.bucket_burst = 10;
	p.bucket_interval_ns = 3600ull * 1000000000;
	p.mark_interval_ns = 1; /* a mark each time */
	assert_ok(hf_kernel_set_policy(t->kernel, &p));
	kt_run(&b, "storm", "50");
	kt_drain(t);
	s = kt_totals(t);
	for (i = 0; i < t->n_events; i++) {
		const union hf_event_any *e = &t->events[i];

		if (e->header.kind == HF_EVENT_TELEMETRY_LOSS) {
			assert_int_equal(e->header.ring, HF_RING_URGENT);
			assert_int_equal(e->loss.loss.cause, HF_LOSS_THROTTLED);
			marked += e->loss.loss.count;
			assert_string_equal(kt_decode(t, e)->reason, "throttled");
		} else {
			resets++;
		}
	}
	assert_int_equal(resets, 10);
	assert_int_equal(s.throttled, 90);
	assert_int_equal(marked, 90);
	assert_int_equal(s.lost, 0);
	/* A bucket emptied for hours by this policy is not that for the next one. */
	p.bucket_interval_ns = 1000;
	assert_ok(hf_kernel_set_policy(t->kernel, &p));
	t->n_events = 0;
	kt_run(&b, "storm", "2");
	kt_collect(t, 4);
	/* Exits have a bucket of their own: the storm has not emptied it. */
	t->n_events = 0;
	kt_run(&b, "exit", "3");
	kt_collect(t, 1);
	assert_int_equal(kt_exit(t, kt_fact(&b, "pid"))->exit.status, 3 << 8);
}

static void other_ports_are_filtered_and_counted(void **state)
{
	struct kt *t = *state;
	struct hf_rings_totals s;
	struct kt_behaviour b;
	struct hf_policy p;

	kt_require(t, "tcp.reset_sent");
	kt_require(t, "tcp.reset_received");
	hf_kernel_default_policy(&p);
	p.kinds = KINDS_CONN;
	p.flags = HF_POLICY_F_NETNS_ONLY | HF_POLICY_F_PORT_ONLY;
	assert_ok(hf_kernel_filter_port(t->kernel, 1, true));
	assert_ok(hf_kernel_set_policy(t->kernel, &p));
	kt_run(&b, "storm", "4");
	kt_collect(t, 0);
	s = kt_totals(t);
	/* Those of other namespaces are filtered as well. */
	assert_true(s.kind[HF_EVENT_CONN_RESET_SENT].filtered >= 4);
	assert_true(s.kind[HF_EVENT_CONN_RESET_RECEIVED].filtered >= 4);
	p.flags = HF_POLICY_F_NETNS_ONLY | HF_POLICY_F_NO_THROTTLE | HF_POLICY_F_PORT_EXCEPT;
	assert_ok(hf_kernel_set_policy(t->kernel, &p));
	kt_run(&b, "storm", "4");
	kt_collect(t, 8);
}

static void pins_of_another_schema_are_removed(void **state)
{
	struct kt *t = *state;
	struct hf_kernel_options o = {.instance = kt_instance(), .pin_root = KT_PIN_ROOT};
	struct hf_policy p;
	char dir[128];
	struct stat st;

	hf_kernel_default_policy(&p);
	p.flags = HF_POLICY_F_NETNS_ONLY;
	o.policy = &p;
	(void)hf_strf(dir, sizeof(dir), "%s/%s", KT_PIN_ROOT, kt_instance());
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	(void)hf_strf(dir, sizeof(dir), "%s/%s/0123456789abcdef", KT_PIN_ROOT, kt_instance());
	assert_int_equal(mkdir(dir, 0700), 0);
	kt_unmap(t);
	t->kernel = hf_kernel_free(t->kernel);
	assert_ok(hf_kernel_open(&o, &t->kernel));
	assert_true(hf_kernel_reopened(t->kernel));
	assert_true(stat(dir, &st) < 0 && errno == ENOENT);
	kt_map(t);
}

static void unpinning_stops_the_programs(void **state)
{
	struct kt *t = *state;
	struct kt_behaviour b;
	struct stat st;
	char dir[128];
	int i;

	kt_require(t, "tcp.reset_sent");
	kt_run(&b, "storm", "1");
	assert_int_not_equal(kt_totals(t).generated, 0);
	kt_drain(t);
	t->n_events = 0;
	t->reusable = false;
	assert_ok(hf_kernel_unpin(t->kernel));
	(void)hf_strf(dir, sizeof(dir), "%s/%s", KT_PIN_ROOT, kt_instance());
	assert_true(stat(dir, &st) < 0 && errno == ENOENT);
	/* Older kernels detach a moment later, which is long on an emulator. */
	for (i = 0; i < 100; i++) {
		t->n_events = 0;
		kt_run(&b, "storm", "5");
		kt_drain(t);
		if (!t->n_events)
			return;
		(void)usleep(50000);
	}
	fail_msg("still %zu events", t->n_events);
}

static void switched_off_it_says_so(void **state)
{
	struct hf_kernel_options o = {.instance = "off", .mode = HF_KERNEL_OFF};
	struct hf_kernel_info *info;
	struct hf_kernel *k;
	int fd;

	(void)state;
	assert_ok(hf_kernel_open(&o, &k));
	assert_int_equal(hf_kernel_assist(k), HF_KERNEL_ASSIST_OFF);
	assert_string_equal(hf_kernel_reason(k), "switched off by configuration");
	assert_err(hf_kernel_ring_fd(k, HF_RING_BULK), -ENOSYS);
	assert_err(hf_kernel_watch_socket(k, 1, true), -ENOSYS);
	fd = hf_kernel_text_fd(k);
	assert_ok(fd);
	assert_ok(hf_kernel_info_read(fd, &info));
	assert_string_equal(hf_kernel_info_assist(info), "off");
	assert_string_equal(hf_kernel_info_reason(info), "switched off by configuration");
	assert_false(hf_kernel_info_program(info, 0)->attached);
	(void)hf_close(fd);
	(void)hf_kernel_info_free(info);
	(void)hf_kernel_free(k);
}

static void a_bad_instance_name_is_refused(void **state)
{
	static const char *const names[] = {"", "..", "a/b", "a.b", "a b"};
	struct hf_kernel *k;
	size_t i;

	(void)state;
	for (i = 0; i < HF_ARRAY_SIZE(names); i++) {
		struct hf_kernel_options o = {.instance = names[i], .pin_root = KT_PIN_ROOT};

		assert_ok(hf_kernel_open(&o, &k));
		assert_int_equal(hf_kernel_assist(k), HF_KERNEL_ASSIST_OFF);
		(void)hf_kernel_free(k);
	}
}

int main(int argc, char **argv)
{
#define CONN(f) cmocka_unit_test_setup_teardown(f, kt_setup_conn, kt_teardown)
	const struct CMUnitTest tests[] = {
		CONN(no_program_is_refused),
		CONN(with_the_reader_stopped_every_event_is_in_the_ring),
		CONN(a_full_ring_loses_what_is_counted_and_proven),
		CONN(pins_go_on_when_the_loader_has_died),
		CONN(what_was_not_committed_is_read_again_and_known_again),
		CONN(a_reader_needs_no_privilege),
		CONN(a_storm_that_fills_the_ring_hides_no_exit),
		CONN(a_loud_cgroup_is_throttled_and_the_mark_says_so),
		CONN(a_loud_cgroup_costs_another_one_nothing),
		CONN(other_ports_are_filtered_and_counted),
		CONN(pins_of_another_schema_are_removed),
		CONN(unpinning_stops_the_programs),
		cmocka_unit_test(switched_off_it_says_so),
		cmocka_unit_test(a_bad_instance_name_is_refused),
	};

	return KT_MAIN(argc, argv, tests);
}
