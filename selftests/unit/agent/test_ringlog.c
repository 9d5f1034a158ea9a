/* SPDX-License-Identifier: Apache-2.0 */
/* What a killed agent's successor knows of the kernel's records: at each step of handing one on. */
#include "selftests/unit/test_util.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "userspace/agent/ringlog.h"

#define BASE       (100ull << HF_SEQ_BASE_SHIFT)
#define RING_BYTES 8192u
#define CPU        0u
#define RING       HF_RING_BULK

static const uint8_t this_boot[16] = {1}, other_boot[16] = {2};

/* A ring of records 1…n of one CPU that nobody has committed. */
struct fake {
	struct hf_rings *rings;
	uint64_t got[64];
	size_t n;
};

static int ring_file(unsigned n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = memfd_create("ring", MFD_CLOEXEC);
	unsigned long *producer;
	uint8_t *map;

	assert_int_equal(ftruncate(fd, (off_t)(2 * page + 2 * RING_BYTES)), 0);
	map = mmap(NULL, 2 * page + RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	producer = (unsigned long *)(map + page);
	for (unsigned i = 1; i <= n; i++) {
		struct hf_event_header h = {.boot_ns = 1000 + i,
					    .seq = BASE + i,
					    .kind = HF_EVENT_PROC_EXIT,
					    .ring = RING,
					    .len = sizeof(h)};
		uint32_t len = sizeof(h);

		memcpy(map + 2 * page + *producer, &len, sizeof(len));
		memcpy(map + 2 * page + *producer + 8, &h, sizeof(h));
		*producer += 8 + sizeof(h);
	}
	(void)munmap(map, 2 * page + RING_BYTES);
	return fd;
}

static void open_rings(struct fake *f, unsigned n)
{
	const uint32_t bytes[_HF_RING_MAX] = {RING_BYTES, RING_BYTES};
	const int fds[_HF_RING_MAX] = {ring_file(0), ring_file(n)};
	int counters = memfd_create("counters", MFD_CLOEXEC);
	struct hf_cpu_counters c = {};

	for (int i = 0; i < _HF_RING_MAX; i++) {
		c.ring[i].base = BASE;
		c.ring[i].seq = BASE + n;
	}
	assert_int_equal(ftruncate(counters, sysconf(_SC_PAGESIZE)), 0);
	assert_int_equal(pwrite(counters, &c, sizeof(c), 0), sizeof(c));
	*f = (struct fake){};
	assert_ok(hf_rings_new(fds, bytes, counters, 1, &f->rings));
}

static void on_record(const struct hf_event_header *h, size_t len, void *userdata)
{
	struct fake *f = userdata;

	(void)len;
	f->got[f->n++] = h->seq - BASE;
}

/* What the successor is handed out of a ring of n. */
static void read_as_successor(struct fake *f, struct hf_ringlog *l, unsigned n)
{
	const struct hf_rings_handler h = {.record = on_record, .userdata = f};

	open_rings(f, n);
	hf_ringlog_resume(l, f->rings);
	assert_int_equal(hf_rings_read(f->rings, RING, 64, &h), n);
}

static struct hf_ringlog *open_log(const struct hf_test_dir *d, const uint8_t boot[16],
				   uint64_t now)
{
	struct hf_ringlog *l;

	assert_ok(hf_ringlog_open(d->fd, "rings", boot, now, &l));
	return l;
}

enum step { BEGUN, APPENDED, DONE, SETTLED };

static void hand_on(struct hf_ringlog *l, unsigned i, enum step until)
{
	hf_ringlog_begin(l, RING, CPU, BASE + i, 1000 + i);
	if (until == BEGUN)
		return;
	hf_ringlog_appended(l, i);
	if (until == APPENDED)
		return;
	hf_ringlog_done(l, RING, CPU, BASE + i);
	if (until == SETTLED)
		hf_ringlog_settled(l, i);
}

static void each_step_of_a_kill(void **state)
{
	static const struct {
		enum step step;
		bool on_disk, again;
	} cells[] = {
		{BEGUN, false, true},    {BEGUN, true, false}, {APPENDED, false, true},
		{APPENDED, true, false}, {DONE, false, true},  {DONE, true, false},
		{SETTLED, false, false},
	};
	const struct hf_test_dir *d = *state;

	for (size_t c = 0; c < HF_ARRAY_SIZE(cells); c++) {
		struct hf_ringlog *l;
		struct fake f;
		int status;
		pid_t pid;

		(void)unlinkat(d->fd, "rings", 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			l = open_log(d, this_boot, 1);
			hand_on(l, 1, SETTLED);
			hand_on(l, 2, cells[c].step);
			(void)raise(SIGKILL);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, SIGKILL);
		l = open_log(d, this_boot, 2);
		assert_int_equal(hf_ringlog_unsure(l), cells[c].step == SETTLED ? 0 : 1);
		if (cells[c].on_disk) {
			/* Records of others say nothing of it. */
			hf_ringlog_on_disk(l, RING, CPU, BASE + 2, 999);
			hf_ringlog_on_disk(l, RING, CPU, BASE + 7, 1002);
			assert_int_equal(hf_ringlog_unsure(l), 1);
			hf_ringlog_on_disk(l, RING, CPU, BASE + 2, 1002);
			assert_int_equal(hf_ringlog_unsure(l), 0);
		}
		read_as_successor(&f, l, 3);
		assert_int_equal(f.n, cells[c].again ? 2 : 1);
		assert_int_equal(f.got[0], cells[c].again ? 2 : 3);
		assert_int_equal(f.got[f.n - 1], 3);
		f.rings = hf_rings_free(f.rings);
		l = hf_ringlog_free(l);
	}
}

static void a_successor_that_is_killed_as_well_leaves_it_to_the_next(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_ringlog *l = open_log(d, this_boot, 1);
	struct fake f;

	hand_on(l, 1, DONE);
	hand_on(l, 2, DONE);
	l = hf_ringlog_free(l);
	l = open_log(d, this_boot, 2);
	read_as_successor(&f, l, 2);
	assert_int_equal(f.n, 2);
	/* The first is on its way again when it is killed. */
	hand_on(l, 1, SETTLED);
	hf_ringlog_settled(l, 1);
	f.rings = hf_rings_free(f.rings);
	l = hf_ringlog_free(l);
	l = open_log(d, this_boot, 3);
	read_as_successor(&f, l, 2);
	assert_true(f.n >= 1);
	assert_int_equal(f.got[f.n - 1], 2);
	hf_ringlog_caught_up(l);
	f.rings = hf_rings_free(f.rings);
	l = hf_ringlog_free(l);
	/* What did not come is not waited for. */
	l = open_log(d, this_boot, 4);
	assert_int_equal(hf_ringlog_unsure(l), 0);
	hf_ringlog_free(l);
}

static void numbers_out_of_order_are_all_remembered(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_ringlog *l = open_log(d, this_boot, 1);
	struct fake f;

	hf_ringlog_done(l, RING, CPU, BASE + 1);
	hf_ringlog_done(l, RING, CPU, BASE + 4);
	hf_ringlog_done(l, RING, CPU, BASE + 2);
	hf_ringlog_done(l, RING, CPU, BASE + 2);
	l = hf_ringlog_free(l);
	l = open_log(d, this_boot, 2);
	read_as_successor(&f, l, 5);
	assert_int_equal(f.n, 2);
	assert_int_equal(f.got[0], 3);
	assert_int_equal(f.got[1], 5);
	f.rings = hf_rings_free(f.rings);
	/* Of nowhere. */
	hf_ringlog_done(l, 7, CPU, BASE + 1);
	hf_ringlog_done(l, RING, HF_RINGLOG_CPUS_MAX, BASE + 1);
	hf_ringlog_free(l);
}

static void another_boot_keeps_only_the_counts_that_have_not_left(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_ringlog *l = open_log(d, this_boot, 1);
	Bus__Event e = BUS__EVENT__INIT;
	struct fake f;

	e.kind = (char *)"conn.closed";
	hf_budget_configure(hf_ringlog_budget(l), 1, 0);
	assert_false(hf_budget_take(hf_ringlog_budget(l), &e, 5));
	hand_on(l, 1, DONE);
	(void)hf_ringlog_alive(l, 900 * HF_NS_PER_S);
	l = hf_ringlog_free(l);
	l = open_log(d, other_boot, 3);
	assert_int_equal(hf_ringlog_unsure(l), 0);
	assert_int_equal(hf_ringlog_blind_ns(l, 3), 0);
	assert_int_equal(hf_ringlog_budget(l)->n, 1);
	assert_string_equal(hf_ringlog_budget(l)->groups[0].kind, "conn.closed");
	read_as_successor(&f, l, 1);
	assert_int_equal(f.n, 1);
	f.rings = hf_rings_free(f.rings);
	hf_ringlog_free(l);
}

static void garbage_is_a_fresh_start(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_ringlog *l = open_log(d, this_boot, 1);
	uint8_t noise[4096];
	struct fake f;
	int fd;

	hand_on(l, 1, DONE);
	l = hf_ringlog_free(l);
	fd = openat(d->fd, "rings", O_WRONLY | O_CLOEXEC);
	memset(noise, 0xa5, sizeof(noise));
	assert_int_equal(pwrite(fd, noise, sizeof(noise), 0), sizeof(noise));
	(void)close(fd);
	l = open_log(d, this_boot, 2);
	assert_int_equal(hf_ringlog_unsure(l), 0);
	assert_int_equal(hf_ringlog_budget(l)->n, 0);
	read_as_successor(&f, l, 2);
	assert_int_equal(f.n, 2);
	f.rings = hf_rings_free(f.rings);
	hf_ringlog_free(l);
}

static void time_without_a_consumer_is_blind(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_ringlog *l = open_log(d, this_boot, 10 * HF_NS_PER_S);
	const uint64_t ms = HF_NS_PER_MS;
	uint64_t t = 10 * HF_NS_PER_S;

	/* No rings yet: it grows with the clock. */
	assert_int_equal(hf_ringlog_blind_ns(l, t + 300 * ms), 300 * ms);
	assert_int_equal(hf_ringlog_alive(l, t += 300 * ms), 300 * ms);
	/* At work. */
	assert_int_equal(hf_ringlog_alive(l, t += 100 * ms), 0);
	assert_int_equal(hf_ringlog_alive(l, t += 499 * ms), 0);
	assert_int_equal(hf_ringlog_blind_ns(l, t), 300 * ms);
	/* Stopped for three seconds. */
	assert_int_equal(hf_ringlog_alive(l, t += 3000 * ms), 3000 * ms);
	/* The rings are taken away. */
	hf_ringlog_away(l);
	assert_int_equal(hf_ringlog_blind_ns(l, t + 50 * ms), 3350 * ms);
	assert_int_equal(hf_ringlog_alive(l, t += 50 * ms), 50 * ms);
	/* Killed, and back after 20 ms: that counts to the millisecond. */
	l = hf_ringlog_free(l);
	l = open_log(d, this_boot, t + 10 * ms);
	assert_int_equal(hf_ringlog_alive(l, t += 20 * ms), 20 * ms);
	assert_int_equal(hf_ringlog_blind_ns(l, t), 3370 * ms);
	hf_ringlog_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define LOG(f) cmocka_unit_test_setup_teardown(f, hf_test_dir_setup, hf_test_dir_teardown)
		LOG(each_step_of_a_kill),
		LOG(a_successor_that_is_killed_as_well_leaves_it_to_the_next),
		LOG(numbers_out_of_order_are_all_remembered),
		LOG(another_boot_keeps_only_the_counts_that_have_not_left),
		LOG(garbage_is_a_fresh_start),
		LOG(time_without_a_consumer_is_blind),
	};

	return HF_RUN_TESTS(tests);
}
