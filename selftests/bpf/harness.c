/* SPDX-License-Identifier: Apache-2.0 */
/* A BPF test's own namespace, its loaded programs, and the events it waits for with a deadline. */
#include "harness.h"

#include <dirent.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "selftests/behave/behave.h"
#include "watchdog/kernel_pins.h"

#define DEADLINE_NS (10 * HF_NS_PER_S)
/* How long an event too many may take: softirq work of what has ended is done long before. */
#define AFTERWARDS_NS (60 * HF_NS_PER_MS)

/* Those of this test, for is_behaviour(). */
static uint32_t behaviour_pids[KT_ENDS_MAX];
static size_t n_behaviour_pids;

const char *kt_instance(void)
{
	static char name[32];

	/* Once: a forked child means its parent's. */
	if (!name[0])
		(void)hf_strf(name, sizeof(name), "test-%d", getpid());
	return name;
}

static void set_policy(struct kt *t, uint32_t kinds, uint32_t flags)
{
	struct hf_policy p;

	hf_kernel_default_policy(&p);
	p.kinds = kinds;
	p.flags = flags | HF_POLICY_F_NETNS_ONLY;
	assert_ok(hf_kernel_filter_netns(t->kernel, t->netns, true));
	assert_ok(hf_kernel_set_policy(t->kernel, &p));
}

void kt_map(struct kt *t)
{
	int fds[_HF_RING_MAX], counters, text, i;

	text = hf_kernel_text_fd(t->kernel);
	assert_ok(text);
	assert_ok(hf_kernel_info_read(text, &t->info));
	(void)hf_close(text);
	for (i = 0; i < _HF_RING_MAX; i++) {
		fds[i] = dup(hf_kernel_ring_fd(t->kernel, (enum hf_ring_id)i));
		assert_true(fds[i] >= 0);
	}
	counters = dup(hf_kernel_counters_fd(t->kernel));
	assert_true(counters >= 0);
	assert_ok(hf_rings_new(fds, hf_kernel_info_ring_bytes(t->info), counters,
			       hf_kernel_info_cpus(t->info), &t->rings));
	memset(&t->before, 0, sizeof(t->before));
}

void kt_unmap(struct kt *t)
{
	t->reusable = false;
	t->rings = hf_rings_free(t->rings);
	t->info = hf_kernel_info_free(t->info);
}

static uint32_t own_netns(void)
{
	struct stat st;

	assert_int_equal(stat("/proc/self/ns/net", &st), 0);
	return (uint32_t)st.st_ino;
}

void kt_open(struct kt *t, uint32_t kinds, uint32_t flags, uint32_t bulk_bytes)
{
	struct hf_policy quiet;
	struct hf_kernel_options options = {
		.instance = kt_instance(),
		.pin_root = KT_PIN_ROOT,
		.bulk_bytes = bulk_bytes,
		.policy = &quiet,
	};

	/* Nothing is recorded until the filter is in place. */
	hf_kernel_default_policy(&quiet);
	quiet.flags = HF_POLICY_F_NETNS_ONLY;
	t->netns = own_netns();
	assert_ok(hf_kernel_open(&options, &t->kernel));
	if (hf_kernel_assist(t->kernel) == HF_KERNEL_ASSIST_OFF)
		fail_msg("no programs: %s", hf_kernel_reason(t->kernel));
	set_policy(t, kinds, flags);
	kt_map(t);
}

/* Loading takes a second in a virtual machine: the next test goes on with what this one leaves. */
static struct kt *kept;

static struct kt *new_fixture(uint32_t kinds)
{
	struct kt *t = kept;

	n_behaviour_pids = 0;
	if (t) {
		kept = NULL;
		set_policy(t, kinds, HF_POLICY_F_NO_THROTTLE);
		kt_drain(t);
		t->n_events = t->n_ends = 0;
		t->gap_events = 0;
		memset(&t->before, 0, sizeof(t->before));
		t->before = kt_totals(t);
		return t;
	}
	t = calloc(1, sizeof(*t));
	assert_non_null(t);
	t->events = calloc(KT_EVENTS_MAX, sizeof(*t->events));
	assert_non_null(t->events);
	kt_open(t, kinds, HF_POLICY_F_NO_THROTTLE, 0);
	t->reusable = true;
	return t;
}

int kt_setup_conn(void **state)
{
	*state = new_fixture(
		(HF_POLICY_KINDS_DEFAULT | HF_POLICY_KIND(HF_EVENT_CONN_CLOSED)) &
		~(HF_POLICY_KIND(HF_EVENT_PROC_EXIT) | HF_POLICY_KIND(HF_EVENT_PROC_OOM)));
	return 0;
}

int kt_setup_proc(void **state)
{
	*state =
		new_fixture(HF_POLICY_KIND(HF_EVENT_PROC_EXIT) | HF_POLICY_KIND(HF_EVENT_PROC_OOM));
	return 0;
}

static void free_fixture(struct kt *t)
{
	kt_unmap(t);
	if (t->kernel)
		(void)hf_kernel_unpin(t->kernel);
	t->kernel = hf_kernel_free(t->kernel);
	free(t->events);
	free(t);
}

int kt_teardown(void **state)
{
	struct kt *t = *state;

	if (t->reusable)
		kept = t;
	else
		free_fixture(t);
	return 0;
}

static int free_kept(void **state)
{
	(void)state;
	if (kept)
		free_fixture(kept);
	kept = NULL;
	return 0;
}

/* ---- behaviours ---------------------------------------------------------------------------- */

void kt_start(struct kt_behaviour *b, const char *name, const char *arg)
{
	int in[2], out[2];

	memset(b, 0, sizeof(*b));
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	(void)fflush(stdout);
	b->pid = fork();
	assert_true(b->pid >= 0);
	if (b->pid == 0) {
		(void)dup2(in[0], STDIN_FILENO);
		(void)dup2(out[1], STDOUT_FILENO);
		(void)execl("/proc/self/exe", "behave", "--behave", name, arg, (char *)NULL);
		_exit(97);
	}
	assert_true(n_behaviour_pids < KT_ENDS_MAX);
	behaviour_pids[n_behaviour_pids++] = (uint32_t)b->pid;
	(void)close(in[0]);
	(void)close(out[1]);
	b->in = in[1];
	b->out = out[0];
}

/* One line of the behaviour, or false at its end. */
static bool read_fact(struct kt_behaviour *b)
{
	char line[96], *eq;
	size_t n = 0;
	struct pollfd p = {.fd = b->out, .events = POLLIN};

	for (;;) {
		ssize_t r;

		if (poll(&p, 1, 20000) != 1)
			fail_msg("behaviour %d is silent", b->pid);
		r = read(b->out, line + n, 1);
		if (r <= 0)
			return false;
		if (line[n] == '\n')
			break;
		if (n < sizeof(line) - 1)
			n++;
	}
	line[n] = '\0';
	eq = strchr(line, '=');
	assert_non_null(eq);
	*eq = '\0';
	assert_true(b->facts.n < KT_FACTS_MAX);
	(void)hf_strlcpy(b->facts.fact[b->facts.n].key, line, sizeof(b->facts.fact[0].key));
	assert_ok(hf_parse_u64(eq + 1, &b->facts.fact[b->facts.n].value));
	b->facts.n++;
	return true;
}

static const uint64_t *find_fact(const struct kt_behaviour *b, const char *key)
{
	size_t i;

	for (i = 0; i < b->facts.n; i++)
		if (hf_streq(b->facts.fact[i].key, key))
			return &b->facts.fact[i].value;
	return NULL;
}

uint64_t kt_wait_fact(struct kt_behaviour *b, const char *key)
{
	while (!find_fact(b, key))
		if (!read_fact(b))
			fail_msg("behaviour ended without '%s'", key);
	return *find_fact(b, key);
}

void kt_go(struct kt_behaviour *b)
{
	assert_int_equal(write(b->in, "\n", 1), 1);
}

void kt_finish(struct kt_behaviour *b)
{
	int status;

	while (read_fact(b))
		;
	assert_int_equal(waitpid(b->pid, &status, 0), b->pid);
	b->in = hf_close(b->in);
	b->out = hf_close(b->out);
	if (status)
		fail_msg("behaviour failed with status 0x%x", (unsigned)status);
}

void kt_run(struct kt_behaviour *b, const char *name, const char *arg)
{
	kt_start(b, name, arg);
	kt_finish(b);
}

uint64_t kt_fact(const struct kt_behaviour *b, const char *key)
{
	const uint64_t *v = find_fact(b, key);

	if (!v)
		fail_msg("behaviour did not say '%s'", key);
	return *v;
}

/* ---- events -------------------------------------------------------------------------------- */

static bool is_behaviour(uint32_t pid)
{
	size_t i;

	for (i = 0; i < n_behaviour_pids; i++)
		if (behaviour_pids[i] == pid)
			return true;
	return false;
}

static void keep(const struct hf_event_header *h, size_t len, void *userdata)
{
	struct kt *t = userdata;

	if (h->kind == HF_EVENT_PROC_EXIT &&
	    is_behaviour(((const struct hf_exit_event *)h)->owner.tgid)) {
		assert_true(t->n_ends < KT_ENDS_MAX);
		memcpy(&t->ends[t->n_ends++], h, len);
		return;
	}
	if (t->n_events == KT_EVENTS_MAX)
		fail_msg("more than %d events", KT_EVENTS_MAX);
	memcpy(&t->events[t->n_events++], h, len);
}

static void keep_gap(enum hf_ring_id ring, uint32_t cpu, uint64_t first, uint64_t last,
		     void *userdata)
{
	struct kt *t = userdata;

	(void)ring;
	(void)cpu;
	t->gap_events += last - first + 1;
}

void kt_drain(struct kt *t)
{
	const struct hf_rings_handler h = {.record = keep, .gap = keep_gap, .userdata = t};
	int i;

	for (i = 0; i < _HF_RING_MAX; i++) {
		while (hf_rings_read(t->rings, (enum hf_ring_id)i, 64, &h) == 64)
			;
		hf_rings_commit(t->rings, (enum hf_ring_id)i,
				hf_rings_mark(t->rings, (enum hf_ring_id)i));
	}
	hf_rings_settle(t->rings, &h);
}

static void keep_nothing(const struct hf_event_header *h, size_t len, void *userdata)
{
	(void)h;
	(void)len;
	(void)userdata;
}

void kt_drain_all(struct kt *t)
{
	const struct hf_rings_handler h = {.record = keep_nothing};
	int i;

	for (i = 0; i < _HF_RING_MAX; i++) {
		while (hf_rings_read(t->rings, (enum hf_ring_id)i, 1024, &h) == 1024)
			;
		hf_rings_commit(t->rings, (enum hf_ring_id)i,
				hf_rings_mark(t->rings, (enum hf_ring_id)i));
	}
	t->n_events = t->n_ends = 0;
}

void kt_forget_behaviours(void)
{
	n_behaviour_pids = 0;
}

void kt_show(struct kt *t)
{
	size_t i;

	for (i = 0; i < t->n_events && i < 20; i++) {
		const Bus__Event *e = kt_decode(t, &t->events[i]);

		print_error("  %s %u/%llu %s pid %u '%s' (%s) %s -> %s state %u reason %s: %s\n",
			    e->ring, t->events[i].header.cpu,
			    (unsigned long long)t->events[i].header.seq, e->kind, e->pid, e->comm,
			    e->owner_src, e->local, e->peer,
			    e->conn ? t->events[i].conn.conn.state : 0, e->reason, e->detail);
	}
}

void kt_collect(struct kt *t, size_t n)
{
	uint64_t deadline = hf_now_monotonic_ns() + DEADLINE_NS, enough_at = 0;

	for (;;) {
		uint64_t now = hf_now_monotonic_ns();

		kt_drain(t);
		if (t->n_events >= n && !enough_at)
			enough_at = now;
		if (enough_at && now - enough_at > AFTERWARDS_NS)
			break;
		if (now > deadline)
			break;
		(void)poll(NULL, 0, 5);
	}
	if (t->n_events != n) {
		print_error("%zu events, expected %zu:\n", t->n_events, n);
		kt_show(t);
		fail();
	}
}

const union hf_event_any *kt_only(const struct kt *t, uint32_t kind)
{
	const union hf_event_any *found = NULL;
	size_t i;

	for (i = 0; i < t->n_events; i++) {
		if (t->events[i].header.kind != kind)
			continue;
		if (found)
			fail_msg("two events of kind %s", hf_event_kind_name(kind));
		found = &t->events[i];
	}
	if (!found)
		fail_msg("no event of kind %s", hf_event_kind_name(kind));
	return found;
}

const struct hf_conn_event *kt_conn(const struct kt *t, uint32_t kind, uint16_t local_port)
{
	const struct hf_conn_event *found = NULL;
	size_t i;

	for (i = 0; i < t->n_events; i++) {
		const struct hf_conn_event *e = &t->events[i].conn;

		if (e->header.kind != kind || e->conn.local_port != local_port ||
		    (e->header.flags & HF_EVENT_F_NO_SOCKET))
			continue;
		if (found)
			fail_msg("two events of kind %s", hf_event_kind_name(kind));
		found = e;
	}
	if (!found)
		fail_msg("no event of kind %s at port %u", hf_event_kind_name(kind), local_port);
	return found;
}

const struct hf_exit_event *kt_exit(const struct kt *t, uint64_t pid)
{
	const struct hf_exit_event *found = NULL;
	size_t i;

	for (i = 0; i < t->n_events; i++) {
		const struct hf_exit_event *e = &t->events[i].exit;

		if (e->header.kind != HF_EVENT_PROC_EXIT || e->owner.tgid != pid)
			continue;
		if (found)
			fail_msg("process %u ended twice", (unsigned)pid);
		found = e;
	}
	if (!found)
		fail_msg("no end of process %u", (unsigned)pid);
	return found;
}

const Bus__Event *kt_decode(struct kt *t, const union hf_event_any *e)
{
	assert_ok(hf_kernel_decode(t->info, e, e->header.len, 0, &t->decoded));
	return &t->decoded.event;
}

struct hf_rings_totals kt_totals(const struct kt *t)
{
	const struct hf_rings_totals *b = &t->before;
	struct hf_rings_totals s;
	int i;

	hf_rings_totals(t->rings, &s);
	s.generated -= b->generated;
	s.delivered -= b->delivered;
	s.in_ring -= b->in_ring;
	s.lost -= b->lost;
	s.filtered -= b->filtered;
	s.throttled -= b->throttled;
	s.read -= b->read;
	s.gap_events -= b->gap_events;
	s.duplicates -= b->duplicates;
	s.malformed -= b->malformed;
	for (i = 0; i < _HF_RING_MAX; i++) {
		s.ring[i].generated -= b->ring[i].generated;
		s.ring[i].submitted -= b->ring[i].submitted;
		s.ring[i].lost -= b->ring[i].lost;
	}
	for (i = 0; i < HF_EVENT_KIND_SLOTS; i++) {
		s.kind[i].generated -= b->kind[i].generated;
		s.kind[i].lost -= b->kind[i].lost;
		s.kind[i].filtered -= b->kind[i].filtered;
		s.kind[i].throttled -= b->kind[i].throttled;
	}
	for (i = 0; i < HF_MISC_SLOTS; i++)
		s.misc[i] -= b->misc[i];
	return s;
}

void kt_assert_nothing_lost(const struct kt *t)
{
	struct hf_rings_totals s = kt_totals(t);
	int i;

	assert_int_equal(s.lost, 0);
	assert_int_equal(s.throttled, 0);
	assert_int_equal(s.in_ring, 0);
	assert_int_equal(s.malformed, 0);
	assert_int_equal(s.duplicates, 0);
	assert_int_equal(s.gap_events, 0);
	assert_int_equal(t->gap_events, 0);
	assert_int_equal(s.generated, s.delivered);
	assert_int_equal(s.read, t->n_events + t->n_ends);
	assert_int_equal(s.generated, s.read);
	for (i = 0; i < HF_MISC_SLOTS; i++)
		assert_int_equal(s.misc[i], 0);
}

bool kt_program_on(const struct kt *t, const char *name)
{
	const struct hf_kernel_program *p;
	size_t i;

	for (i = 0; (p = hf_kernel_program(t->kernel, i)); i++)
		if (hf_streq(p->name, name))
			return p->attached;
	fail_msg("no program is called '%s'", name);
	return false;
}

bool kt_inherits_owner(const struct kt *t)
{
	/* Both need the same: storage in the socket. */
	return kt_program_on(t, "snapshot");
}

void kt_require(const struct kt *t, const char *name)
{
	const struct hf_kernel_program *p;
	size_t i;

	if (kt_program_on(t, name))
		return;
	for (i = 0; (p = hf_kernel_program(t->kernel, i)); i++)
		if (hf_streq(p->name, name))
			print_message("SKIP %s is off: %s\n", name, p->reason);
	skip();
}

/* ---- the program --------------------------------------------------------------------------- */

static int loopback_up(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), e;

	if (fd < 0)
		return -errno;
	r.ifr_flags = IFF_UP;
	e = ioctl(fd, SIOCSIFFLAGS, &r) < 0 ? -errno : 0;
	(void)close(fd);
	return e;
}

static void print_programs(void)
{
	struct hf_kernel_options o = {.instance = kt_instance(), .pin_root = KT_PIN_ROOT};
	const struct hf_kernel_program *p;
	struct hf_kernel *k;
	size_t i;

	if (hf_kernel_open(&o, &k) < 0)
		return;
	for (i = 0; (p = hf_kernel_program(k, i)); i++)
		(void)printf("@@PROG %s %s %s\n", p->name, p->attached ? "yes" : "no", p->reason);
	(void)hf_kernel_unpin(k);
	(void)hf_kernel_free(k);
}

/* Pins outlive who made them, and so a test that was killed. */
static void remove_dead_pins(void)
{
	DIR *root = opendir(KT_PIN_ROOT);
	char path[HF_PINS_PATH_MAX - 8];
	struct dirent *e;

	while (root && (e = readdir(root))) {
		struct hf_pins p = {0};
		int pid = 0;

		if (sscanf(e->d_name, "test-%d", &pid) != 1 || kill(pid, 0) == 0)
			continue;
		(void)hf_strf(path, sizeof(path), "%s/test-%d", KT_PIN_ROOT, pid);
		(void)snprintf(p.instance, sizeof(p.instance), "%s", path);
		(void)snprintf(p.final, sizeof(p.final), "%s/none", path);
		(void)hf_pins_remove_all(&p);
	}
	if (root)
		(void)closedir(root);
}

/* What a test that failed in its setup left behind. */
static void remove_pins(void)
{
	struct hf_kernel_options o = {.instance = kt_instance(), .pin_root = KT_PIN_ROOT};
	struct hf_kernel *k;

	if (access(KT_PIN_ROOT, F_OK) == 0 && hf_kernel_open(&o, &k) == 0) {
		(void)hf_kernel_unpin(k);
		(void)hf_kernel_free(k);
	}
	(void)rmdir(KT_PIN_ROOT); /* another test program may be using it */
}

/* As hf_run_tests_(), with the fixture that tests hand on. */
static int run_group(const char *file, const struct CMUnitTest *tests, size_t n)
{
	int before = hf_count_open_fds();
	int failed = _cmocka_run_group_tests(file, tests, n, NULL, free_kept);
	int after = hf_count_open_fds();

	if (before != after) {
		print_error("%s: %d descriptors open at the end, %d at the start\n", file, after,
			    before);
		return 1;
	}
	return failed ? 1 : 0;
}

int kt_main(int argc, char **argv, const char *file, const struct CMUnitTest *tests, size_t n)
{
	int failed;

	if (argc > 1 && hf_streq(argv[1], "--behave"))
		return behave_main(argc - 2, argv + 2);
	hf_log_init("bpf-test");
	(void)signal(SIGPIPE, SIG_IGN);
	if (geteuid() != 0) {
		(void)printf("SKIP needs root\n");
		return HF_TEST_SKIPPED;
	}
	/* Core files of what is made to crash go there. */
	if (chdir("/tmp") < 0 || unshare(CLONE_NEWNET) < 0 || loopback_up() < 0) {
		(void)printf("SKIP cannot have a network namespace: %s\n", strerror(errno));
		return HF_TEST_SKIPPED;
	}
	remove_dead_pins();
	/* One of them tells for all. */
	if (strstr(file, "test_rings"))
		print_programs();
	failed = run_group(file, tests, n);
	remove_pins();
	return failed;
}
