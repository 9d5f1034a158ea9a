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
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "base/str.h"

#define STORM   "20000"
#define STORM_N 20000.0
#define EXITS   "3000"
#define EXITS_N 3000.0
#define ROUNDS  5
/* Fewer runs of a program are no measurement. */
#define RUNS_MIN 100

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
	struct run {
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

static const struct run *find_run(const struct runs *r, const char *name)
{
	for (size_t i = 0; i < r->n; i++)
		if (hf_streq(r->of[i].name, name))
			return &r->of[i];
	return NULL;
}

/* ns per run between two readings; 0 if it did not run often enough to say. */
static double ns_per_run(const struct runs *before, const struct runs *after, const char *name)
{
	const struct run *x = find_run(before, name), *y = find_run(after, name);

	if (!x || !y || y->n - x->n < RUNS_MIN)
		return 0;
	return (double)(y->ns - x->ns) / (double)(y->n - x->n);
}

/* A piece that fits the ring: a reader keeps up, as an agent would. */
static void exercise(struct kt *t)
{
	struct kt_behaviour b;

	kt_forget_behaviours();
	kt_run(&b, "storm", "1000");
	kt_run(&b, "exits", "200");
	if (t)
		kt_drain_all(t);
}

/* Of so many pieces the median counts: the machine has other things to do. */
#define PIECES 21

static double median(double *of, size_t n)
{
	qsort(of, n, sizeof(*of), by_value);
	return n ? of[n / 2] : 0;
}

/* ---- floors: what the hook itself costs, in the same run -------------------------------------- */

static const struct {
	const char *tracepoint;
	const char *program; /* ours there */
	uint32_t record;     /* what it writes */
} hooks[] = {
	{"inet_sock_set_state", "tcp_state", sizeof(struct hf_conn_event)},
	{"tcp_send_reset", "tcp_reset_sent", sizeof(struct hf_conn_event)},
	{"tcp_receive_reset", "tcp_reset_received", sizeof(struct hf_conn_event)},
	{"inet_sk_error_report", "tcp_error", sizeof(struct hf_conn_event)},
	{"tcp_rcv_space_adjust", "tcp_owner", sizeof(struct hf_conn_event)},
	{"sched_process_exit", "proc_exit", sizeof(struct hf_exit_event)},
	{"signal_generate", "proc_signal", sizeof(struct hf_exit_event)},
};

struct floor_program {
	int prog, link;
};

static void attach_floor(struct floor_program *f, const char *tracepoint,
			 const struct bpf_insn *insns, size_t n)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_RAW_TP);
	int id = libbpf_find_vmlinux_btf_id(tracepoint, BPF_TRACE_RAW_TP);

	assert_true(id > 0);
	opts.attach_btf_id = (uint32_t)id;
	f->prog = bpf_prog_load(BPF_PROG_TYPE_TRACING, "hf_floor", "GPL", insns, n, &opts);
	assert_true(f->prog >= 0);
	f->link = bpf_raw_tracepoint_open(NULL, f->prog);
	assert_true(f->link >= 0);
}

static void run_floors(struct floor_program *f, double *ret)
{
	double of[HF_ARRAY_SIZE(hooks)][PIECES];
	uint64_t ns[HF_ARRAY_SIZE(hooks)] = {0}, runs[HF_ARRAY_SIZE(hooks)] = {0};
	size_t n[HF_ARRAY_SIZE(hooks)] = {0};
	int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);

	for (int piece = 0; piece <= PIECES; piece++) {
		if (piece)
			exercise(NULL);
		for (size_t i = 0; i < HF_ARRAY_SIZE(hooks); i++) {
			struct bpf_prog_info info = {0};
			uint32_t len = sizeof(info);

			assert_ok(bpf_obj_get_info_by_fd(f[i].prog, &info, &len));
			if (piece && info.run_cnt - runs[i] > RUNS_MIN)
				of[i][n[i]++] = (double)(info.run_time_ns - ns[i]) /
						(double)(info.run_cnt - runs[i]);
			ns[i] = info.run_time_ns;
			runs[i] = info.run_cnt;
		}
	}
	for (size_t i = 0; i < HF_ARRAY_SIZE(hooks); i++) {
		ret[i] = median(of[i], n[i]);
		(void)close(f[i].link);
		(void)close(f[i].prog);
	}
	(void)close(stats);
}

/* A program that does nothing. */
static void measure_empty(double *ret)
{
	const struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	struct floor_program f[HF_ARRAY_SIZE(hooks)];

	for (size_t i = 0; i < HF_ARRAY_SIZE(hooks); i++)
		attach_floor(&f[i], hooks[i].tracepoint, insns, HF_ARRAY_SIZE(insns));
	run_floors(f, ret);
}

/*
 * A program that takes room for a record of ours and submits it as it is, without a wakeup. Nobody
 * reads the ring: it is so large that it does not fill up.
 */
static void measure_bare_record(double *ret)
{
	struct floor_program f[HF_ARRAY_SIZE(hooks)];
	int ring = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "hf_floor", 0, 0, 64u << 20, NULL);

	assert_true(ring >= 0);
	for (size_t i = 0; i < HF_ARRAY_SIZE(hooks); i++) {
		const struct bpf_insn insns[] = {
			{.code = BPF_LD | BPF_DW | BPF_IMM,
			 .dst_reg = BPF_REG_1,
			 .src_reg = BPF_PSEUDO_MAP_FD,
			 .imm = ring},
			{.code = 0},
			{.code = BPF_ALU64 | BPF_MOV | BPF_K,
			 .dst_reg = BPF_REG_2,
			 .imm = (int)hooks[i].record},
			{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = 0},
			{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_ringbuf_reserve},
			{.code = BPF_JMP | BPF_JEQ | BPF_K,
			 .dst_reg = BPF_REG_0,
			 .off = 3,
			 .imm = 0},
			{.code = BPF_ALU64 | BPF_MOV | BPF_X,
			 .dst_reg = BPF_REG_1,
			 .src_reg = BPF_REG_0},
			{.code = BPF_ALU64 | BPF_MOV | BPF_K,
			 .dst_reg = BPF_REG_2,
			 .imm = BPF_RB_NO_WAKEUP},
			{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_ringbuf_submit},
			{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
			{.code = BPF_JMP | BPF_EXIT},
		};

		attach_floor(&f[i], hooks[i].tracepoint, insns, HF_ARRAY_SIZE(insns));
	}
	run_floors(f, ret);
	(void)close(ring);
}

/* ---- our programs ------------------------------------------------------------------------------ */

static void measure_programs(struct kt *t, uint32_t kinds, uint32_t flags, const char *what,
			     const char *goal, const double *empty)
{
	double of[HF_ARRAY_SIZE(hooks)][PIECES];
	size_t n[HF_ARRAY_SIZE(hooks)] = {0};
	struct hf_policy p;
	char name[96];
	int stats;

	hf_kernel_default_policy(&p);
	p.kinds = kinds;
	p.flags = flags;
	/* The bucket is asked, and never empty. */
	p.bucket_burst = 1u << 30;
	p.bucket_interval_ns = 1;
	assert_ok(hf_kernel_set_policy(t->kernel, &p));
	stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (stats < 0) {
		(void)fprintf(stderr, "no program statistics: %s\n", strerror(errno));
		return;
	}
	for (int piece = 0; piece < PIECES; piece++) {
		struct runs before = {0}, after = {0};

		each_program(remember_runs, &before);
		exercise(t);
		each_program(remember_runs, &after);
		for (size_t i = 0; i < HF_ARRAY_SIZE(hooks); i++) {
			double one = ns_per_run(&before, &after, hooks[i].program);

			if (one > 0)
				of[i][n[i]++] = one;
		}
	}
	(void)close(stats);
	for (size_t i = 0; i < HF_ARRAY_SIZE(hooks); i++) {
		double ns = median(of[i], n[i]);

		if (ns == 0 || empty[i] == 0)
			continue;
		(void)hf_strf(name, sizeof(name), "%s, %s, above an empty program",
			      hooks[i].program, what);
		out(name, ns - empty[i], "ns", goal);
		(void)hf_strf(name, sizeof(name), "%s, %s, as the kernel counts", hooks[i].program,
			      what);
		out(name, ns, "ns", "");
	}
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
	struct hf_policy unlimited;
	struct kt t = {0};
	double empty[HF_ARRAY_SIZE(hooks)] = {0}, bare[HF_ARRAY_SIZE(hooks)] = {0};
	double bare_storm, bare_exit, storm, exit_;

	(void)state;
	t.events = calloc(KT_EVENTS_MAX, sizeof(*t.events));
	assert_non_null(t.events);
	(void)wall("storm", "1000"); /* warm */
	measure_empty(empty);
	measure_bare_record(bare);
	for (size_t i = 0; i < HF_ARRAY_SIZE(hooks); i++) {
		char name[96];

		if (!empty[i])
			continue;
		(void)hf_strf(name, sizeof(name), "%s, floor: an empty program there",
			      hooks[i].program);
		out(name, empty[i], "ns", "");
		(void)hf_strf(name, sizeof(name),
			      "%s, floor: room for its record taken and submitted, above empty",
			      hooks[i].program);
		out(name, bare[i] - empty[i], "ns", "");
	}
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
	kt_unmap(&t);
	assert_ok(hf_kernel_unpin(t.kernel));
	t.kernel = hf_kernel_free(t.kernel);
	kt_open(&t, HF_POLICY_KINDS_DEFAULT, HF_POLICY_F_NO_THROTTLE, 0);
	measure_programs(&t, HF_POLICY_KINDS_DEFAULT, 0, "told", "<= 150", empty);
	measure_programs(&t, 0, 0, "filtered out", "<= 40", empty);
	hf_kernel_default_policy(&unlimited);
	unlimited.flags = HF_POLICY_F_NETNS_ONLY | HF_POLICY_F_NO_THROTTLE;
	assert_ok(hf_kernel_set_policy(t.kernel, &unlimited));
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
