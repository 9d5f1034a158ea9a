/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs cost and how much they can tell. Prints `name<TAB>value<TAB>unit<TAB>goal`
 * (goal "<= N", ">= N" or empty) for selftests/bench/bench_kernel.py. As root.
 *
 * Times per program are the kernel's own (bpf_stats), which add the two clock readings that they
 * need to every run; the wall times beside them are without statistics.
 */
#include "harness.h"

#include <dirent.h>
#include <poll.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "base/str.h"

#define STORM   "20000"
#define STORM_N 20000.0
#define EXITS   "3000"
#define EXITS_N 3000.0
#define ROUNDS  5

static void out(const char *name, double value, const char *unit, const char *goal)
{
	(void)printf("%s\t%.1f\t%s\t%s\n", name, value, unit, goal);
	(void)fflush(stdout);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Median of the wall time of one run, in ns. */
static double wall(const char *behaviour, const char *arg)
{
	double t[ROUNDS];
	int i;

	for (i = 0; i < ROUNDS; i++) {
		struct kt_behaviour b;
		uint64_t start = hf_now_monotonic_ns();

		kt_forget_behaviours();
		kt_run(&b, behaviour, arg);
		t[i] = (double)(hf_now_monotonic_ns() - start);
	}
	qsort(t, ROUNDS, sizeof(t[0]), by_value);
	return t[ROUNDS / 2];
}

/* Calls fn for the pinned program of each link of this process's instance. */
static void each_program(void (*fn)(const char *name, int fd, void *userdata), void *userdata)
{
	char dir[128], path[512];
	struct dirent *set, *pin;
	DIR *d, *s;
	int fd;

	(void)hf_strf(dir, sizeof(dir), "%s/%s", KT_PIN_ROOT, kt_instance());
	d = opendir(dir);
	while (d && (set = readdir(d))) {
		if (set->d_name[0] == '.')
			continue;
		(void)hf_strf(path, sizeof(path), "%s/%s", dir, set->d_name);
		s = opendir(path);
		while (s && (pin = readdir(s))) {
			if (!hf_startswith(pin->d_name, "prog_"))
				continue;
			(void)hf_strf(path, sizeof(path), "%s/%s/%s", dir, set->d_name,
				      pin->d_name);
			fd = bpf_obj_get(path);
			if (fd >= 0)
				fn(pin->d_name + strlen("prog_"), fd, userdata);
			(void)hf_close(fd);
		}
		if (s)
			(void)closedir(s);
	}
	if (d)
		(void)closedir(d);
}

struct runs {
	const char *suffix;
	struct {
		char name[32];
		uint64_t ns, n;
	} of[16];
	size_t n;
};

static void remember_runs(const char *name, int fd, void *userdata)
{
	struct runs *r = userdata;
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0 || r->n == HF_ARRAY_SIZE(r->of))
		return;
	(void)hf_strlcpy(r->of[r->n].name, name, sizeof(r->of[0].name));
	r->of[r->n].ns = info.run_time_ns;
	r->of[r->n++].n = info.run_cnt;
}

/* ns per run of what ran often enough between two readings. */
static void tell_runs(const struct runs *before, const struct runs *after, const char *what,
		      const char *goal)
{
	char name[96];
	size_t i;

	for (i = 0; i < after->n; i++) {
		uint64_t n = after->of[i].n - before->of[i].n;

		if (n < 1000)
			continue;
		(void)hf_strf(name, sizeof(name), "%s, %s", after->of[i].name, what);
		out(name, (double)(after->of[i].ns - before->of[i].ns) / (double)n, "ns",
		    hf_streq(after->of[i].name, "tcp_state") ? "" : goal);
	}
}

static void measure_programs(struct kt *t, uint32_t kinds, const char *what, const char *goal)
{
	struct runs before = {0}, after = {0};
	struct kt_behaviour b;
	struct hf_policy p;
	int stats;

	hf_kernel_default_policy(&p);
	p.kinds = kinds;
	p.flags = HF_POLICY_F_NETNS_ONLY | HF_POLICY_F_NO_THROTTLE;
	assert_ok(hf_kernel_set_policy(t->kernel, &p));
	stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (stats < 0) {
		(void)fprintf(stderr, "no program statistics: %s\n", strerror(errno));
		return;
	}
	each_program(remember_runs, &before);
	kt_forget_behaviours();
	kt_run(&b, "storm", STORM);
	kt_run(&b, "exits", EXITS);
	each_program(remember_runs, &after);
	(void)close(stats);
	tell_runs(&before, &after, what, goal);
}

/* A producer and a reader at the same time: what comes through, and what does not. */
static void measure_throughput(struct kt *t)
{
	struct hf_rings_totals before, s;
	struct kt_behaviour a, b;
	uint64_t start, end;

	kt_forget_behaviours();
	hf_rings_totals(t->rings, &before);
	start = hf_now_monotonic_ns();
	kt_start(&a, "storm", STORM);
	kt_start(&b, "storm", STORM);
	do {
		t->n_events = t->n_ends = 0;
		kt_drain(t);
		hf_rings_totals(t->rings, &s);
		(void)poll(NULL, 0, 5);
	} while (s.generated - before.generated < 4 * (uint64_t)STORM_N &&
		 hf_now_monotonic_ns() - start < 60 * HF_NS_PER_S);
	end = hf_now_monotonic_ns();
	kt_finish(&a);
	kt_finish(&b);
	out("events told per second, two storms", 4 * STORM_N * 1e9 / (double)(end - start), "1/s",
	    "");
	out("events lost meanwhile", (double)(s.lost - before.lost), "", "<= 0");
}

static void measure_decoding(struct kt *t)
{
	struct kt_behaviour b;
	uint64_t start, ns;
	size_t i, n = 0;

	kt_forget_behaviours();
	t->n_events = t->n_ends = 0;
	kt_run(&b, "storm", "1000");
	kt_drain(t);
	start = hf_now_monotonic_ns();
	do {
		for (i = 0; i < t->n_events; i++)
			(void)kt_decode(t, &t->events[i]);
		n += t->n_events;
		ns = hf_now_monotonic_ns() - start;
	} while (ns < HF_NS_PER_S && t->n_events);
	out("events decoded per second and core", (double)n * 1e9 / (double)ns, "1/s",
	    ">= 2000000");
}

static void bench(void **state)
{
	struct kt t = {0};
	double bare_storm, bare_exit, storm, exit_;

	(void)state;
	t.events = calloc(KT_EVENTS_MAX, sizeof(*t.events));
	assert_non_null(t.events);
	(void)wall("storm", "1000"); /* warm */
	bare_storm = wall("storm", STORM) / STORM_N;
	bare_exit = wall("exits", EXITS) / EXITS_N;
	/* Room for all of a storm: what is measured is delivering, not losing. */
	kt_open(&t, HF_POLICY_KINDS_DEFAULT, HF_POLICY_F_NO_THROTTLE, 64u << 20);
	storm = wall("storm", STORM) / STORM_N;
	exit_ = wall("exits", EXITS) / EXITS_N;
	out("connect + reset, without programs", bare_storm, "ns", "");
	out("connect + reset, two events told", storm, "ns", "");
	out("fork + exit, without programs", bare_exit, "ns", "");
	out("fork + exit, one event told", exit_, "ns", "");
	kt_drain_all(&t);
	measure_programs(&t, HF_POLICY_KINDS_DEFAULT, "told", "<= 150");
	kt_drain_all(&t);
	measure_programs(&t, 0, "filtered out", "<= 40");
	kt_unmap(&t);
	assert_ok(hf_kernel_unpin(t.kernel));
	t.kernel = hf_kernel_free(t.kernel);
	kt_open(&t, HF_POLICY_KINDS_DEFAULT, HF_POLICY_F_NO_THROTTLE, 0);
	measure_throughput(&t);
	measure_decoding(&t);
	kt_unmap(&t);
	assert_ok(hf_kernel_unpin(t.kernel));
	t.kernel = hf_kernel_free(t.kernel);
	free(t.events);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bench),
	};

	return KT_MAIN(argc, argv, tests);
}
