/* SPDX-License-Identifier: Apache-2.0 */
/* The ring reader against a file laid out like the kernel's ring: the test is the producer. */
#include "../test_util.h"

#include <sys/mman.h>

#include <linux/bpf.h>

#include "userspace/agent/ring.h"

#define CPUS       3u
#define RING_BYTES 8192u
#define BASE       (100ull << HF_SEQ_BASE_SHIFT)

struct fake_ring {
	int fd;
	unsigned long *consumer, *producer;
	uint8_t *data;
	uint8_t *map;
};

struct fake {
	struct fake_ring ring[_HF_RING_MAX];
	int counters_fd;
	struct hf_cpu_counters *counters;
	struct hf_rings *rings;
	size_t page;
	/* What the handler was told. */
	size_t n, n_gaps;
	uint64_t seq[512];
	uint32_t cpu[512];
	struct {
		enum hf_ring_id ring;
		uint32_t cpu;
		uint64_t first, last;
	} gap[64];
};

static void on_record(const struct hf_event_header *h, size_t len, void *userdata)
{
	struct fake *f = userdata;

	assert_int_equal(h->len, len);
	assert_true(f->n < HF_ARRAY_SIZE(f->seq));
	f->seq[f->n] = h->seq - BASE;
	f->cpu[f->n++] = h->cpu;
}

static void on_gap(enum hf_ring_id ring, uint32_t cpu, uint64_t first, uint64_t last,
		   void *userdata)
{
	struct fake *f = userdata;

	assert_true(f->n_gaps < HF_ARRAY_SIZE(f->gap));
	f->gap[f->n_gaps].ring = ring;
	f->gap[f->n_gaps].cpu = cpu;
	f->gap[f->n_gaps].first = first - BASE;
	f->gap[f->n_gaps++].last = last - BASE;
}

static struct hf_rings_handler handler(struct fake *f)
{
	return (struct hf_rings_handler){.record = on_record, .gap = on_gap, .userdata = f};
}

static void open_rings(struct fake *f)
{
	uint32_t bytes[_HF_RING_MAX] = {RING_BYTES, RING_BYTES};
	int fds[_HF_RING_MAX], counters;

	fds[0] = dup(f->ring[0].fd);
	fds[1] = dup(f->ring[1].fd);
	counters = dup(f->counters_fd);
	assert_ok(hf_rings_new(fds, bytes, counters, CPUS, &f->rings));
}

static int setup(void **state)
{
	struct fake *f = calloc(1, sizeof(*f));
	size_t size, counters_size;
	int i;

	f->page = (size_t)sysconf(_SC_PAGESIZE);
	size = 2 * f->page + 2 * RING_BYTES;
	for (i = 0; i < _HF_RING_MAX; i++) {
		struct fake_ring *r = &f->ring[i];

		r->fd = memfd_create("ring", MFD_CLOEXEC);
		assert_int_equal(ftruncate(r->fd, (off_t)size), 0);
		r->map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
		assert_true(r->map != MAP_FAILED);
		r->consumer = (unsigned long *)r->map;
		r->producer = (unsigned long *)(r->map + f->page);
		r->data = r->map + 2 * f->page;
	}
	counters_size = (CPUS * sizeof(*f->counters) + f->page - 1) / f->page * f->page;
	f->counters_fd = memfd_create("counters", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->counters_fd, (off_t)counters_size), 0);
	f->counters =
		mmap(NULL, counters_size, PROT_READ | PROT_WRITE, MAP_SHARED, f->counters_fd, 0);
	assert_true(f->counters != MAP_FAILED);
	for (i = 0; i < (int)CPUS; i++) {
		f->counters[i].ring[0].seq = f->counters[i].ring[0].base = BASE;
		f->counters[i].ring[1].seq = f->counters[i].ring[1].base = BASE;
	}
	open_rings(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fake *f = *state;
	int i;

	f->rings = hf_rings_free(f->rings);
	for (i = 0; i < _HF_RING_MAX; i++) {
		(void)munmap(f->ring[i].map, 2 * f->page + 2 * RING_BYTES);
		(void)close(f->ring[i].fd);
	}
	(void)munmap(f->counters, (CPUS * sizeof(*f->counters) + f->page - 1) / f->page * f->page);
	(void)close(f->counters_fd);
	free(f);
	return 0;
}

/* Both mappings of the data show the same bytes. */
static void poke(struct fake_ring *r, unsigned long at, const void *src, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		r->data[(at + i) % RING_BYTES] = ((const uint8_t *)src)[i];
		r->data[(at + i) % RING_BYTES + RING_BYTES] = ((const uint8_t *)src)[i];
	}
}

/* Room for len bytes with this word in front; returns its position. */
static unsigned long reserve(struct fake_ring *r, uint32_t word, const void *record, size_t len)
{
	unsigned long at = *r->producer;

	assert_true(at + (len + 15) / 8 * 8 - *r->consumer <= RING_BYTES);
	poke(r, at, &word, sizeof(word));
	poke(r, at + 8, record, len);
	*r->producer = at + (len + 15) / 8 * 8;
	return at;
}

static struct hf_conn_event event(enum hf_ring_id ring, uint32_t cpu, uint64_t seq)
{
	return (struct hf_conn_event){.header = {
					      .seq = BASE + seq,
					      .kind = HF_EVENT_CONN_CLOSED,
					      .cpu = cpu,
					      .ring = ring,
					      .len = sizeof(struct hf_conn_event),
				      }};
}

/* As the programs do: number, room, submitted or lost. */
static void produce(struct fake *f, enum hf_ring_id ring, uint32_t cpu, uint64_t seq)
{
	struct hf_conn_event e = event(ring, cpu, seq);
	struct hf_ring_counters *c = &f->counters[cpu].ring[ring];

	if (BASE + seq > c->seq)
		c->seq = BASE + seq;
	c->submitted++;
	(void)reserve(&f->ring[ring], sizeof(e), &e, sizeof(e));
}

static void lose(struct fake *f, enum hf_ring_id ring, uint32_t cpu, unsigned n)
{
	f->counters[cpu].ring[ring].seq += n;
	f->counters[cpu].ring[ring].lost += n;
}

static int read_all(struct fake *f, enum hf_ring_id ring)
{
	const struct hf_rings_handler h = handler(f);

	return hf_rings_read(f->rings, ring, 1000, &h);
}

static void settle(struct fake *f)
{
	const struct hf_rings_handler h = handler(f);

	hf_rings_settle(f->rings, &h);
}

static struct hf_rings_totals totals(const struct fake *f)
{
	struct hf_rings_totals t;

	hf_rings_totals(f->rings, &t);
	return t;
}

static void sizes_that_cannot_be_are_refused(void **state)
{
	struct fake *f = *state;
	static const uint32_t bad[] = {0, 1, 4095, 12288, 6u << 20};
	int fds[_HF_RING_MAX] = {f->ring[0].fd, f->ring[1].fd};
	struct hf_rings *r = NULL;
	size_t i;

	for (i = 0; i < HF_ARRAY_SIZE(bad); i++) {
		uint32_t bytes[_HF_RING_MAX] = {RING_BYTES, bad[i]};

		assert_err(hf_rings_new(fds, bytes, f->counters_fd, CPUS, &r), -EINVAL);
	}
	assert_err(hf_rings_new(fds, (uint32_t[]){RING_BYTES, RING_BYTES}, f->counters_fd, 0, &r),
		   -EINVAL);
	assert_err(hf_rings_new(fds, (uint32_t[]){RING_BYTES, RING_BYTES}, -1, CPUS, &r), -EBADF);
	assert_null(r);
	/* The descriptors are still ours. */
	assert_true(fcntl(fds[0], F_GETFD) >= 0);
}

static void records_come_in_order_and_bounded(void **state)
{
	struct fake *f = *state;
	const struct hf_rings_handler h = handler(f);
	uint64_t i;

	for (i = 1; i <= 10; i++)
		produce(f, HF_RING_BULK, 1, i);
	assert_int_equal(hf_rings_read(f->rings, HF_RING_BULK, 4, &h), 4);
	assert_int_equal(f->n, 4);
	assert_int_equal(hf_rings_read(f->rings, HF_RING_BULK, 4, &h), 4);
	assert_int_equal(hf_rings_read(f->rings, HF_RING_BULK, 4, &h), 2);
	assert_int_equal(hf_rings_read(f->rings, HF_RING_BULK, 4, &h), 0);
	for (i = 0; i < 10; i++) {
		assert_int_equal(f->seq[i], i + 1);
		assert_int_equal(f->cpu[i], 1);
	}
	assert_int_equal(f->n_gaps, 0);
}

static void only_commit_gives_room_back(void **state)
{
	struct fake *f = *state;
	uint64_t mark;

	produce(f, HF_RING_BULK, 0, 1);
	produce(f, HF_RING_BULK, 0, 2);
	assert_int_equal(read_all(f, HF_RING_BULK), 2);
	assert_int_equal(*f->ring[HF_RING_BULK].consumer, 0);
	mark = hf_rings_mark(f->rings, HF_RING_BULK);
	produce(f, HF_RING_BULK, 0, 3);
	assert_int_equal(read_all(f, HF_RING_BULK), 1);
	hf_rings_commit(f->rings, HF_RING_BULK, mark);
	assert_int_equal(*f->ring[HF_RING_BULK].consumer, mark);
	assert_true(hf_rings_mark(f->rings, HF_RING_BULK) > mark);
	/* An older mark changes nothing. */
	hf_rings_commit(f->rings, HF_RING_BULK, 0);
	assert_int_equal(*f->ring[HF_RING_BULK].consumer, mark);
}

static void a_record_across_the_end_is_whole(void **state)
{
	struct fake *f = *state;
	uint64_t i;

	for (i = 1; i <= 100; i++) {
		produce(f, HF_RING_URGENT, 2, i);
		assert_int_equal(read_all(f, HF_RING_URGENT), 1);
		hf_rings_commit(f->rings, HF_RING_URGENT, hf_rings_mark(f->rings, HF_RING_URGENT));
	}
	assert_int_equal(f->n, 100);
	assert_int_equal(totals(f).malformed, 0);
	assert_true(*f->ring[HF_RING_URGENT].producer > 4 * RING_BYTES);
}

static void reading_stops_at_a_record_that_is_being_written(void **state)
{
	struct fake *f = *state;
	struct hf_conn_event e = event(HF_RING_BULK, 0, 1);
	struct fake_ring *r = &f->ring[HF_RING_BULK];
	uint32_t done = sizeof(e);
	unsigned long at;

	at = reserve(r, sizeof(e) | BPF_RINGBUF_BUSY_BIT, &e, sizeof(e));
	produce(f, HF_RING_BULK, 0, 2);
	assert_int_equal(read_all(f, HF_RING_BULK), 0);
	poke(r, at, &done, sizeof(done));
	assert_int_equal(read_all(f, HF_RING_BULK), 2);
	assert_int_equal(f->n, 2);
	assert_int_equal(f->n_gaps, 0);
}

static void discarded_records_are_stepped_over(void **state)
{
	struct fake *f = *state;
	struct hf_conn_event e = event(HF_RING_BULK, 0, 1);

	(void)reserve(&f->ring[HF_RING_BULK], sizeof(e) | BPF_RINGBUF_DISCARD_BIT, &e, sizeof(e));
	produce(f, HF_RING_BULK, 0, 1);
	assert_int_equal(totals(f).in_ring, 1);
	assert_int_equal(read_all(f, HF_RING_BULK), 2);
	assert_int_equal(f->n, 1);
}

static void a_record_that_lies_about_itself_is_dropped(void **state)
{
	struct fake *f = *state;
	struct hf_conn_event good = event(HF_RING_BULK, 0, 1), e;
	struct fake_ring *r = &f->ring[HF_RING_BULK];
	uint8_t garbage[16];

	memset(garbage, 0xff, sizeof(garbage));
	(void)reserve(r, sizeof(garbage), garbage, sizeof(garbage));
	(void)reserve(r, 0, garbage, 0);
	e = good, e.header.len++;
	(void)reserve(r, sizeof(e), &e, sizeof(e));
	e = good, e.header.kind = _HF_EVENT_KIND_MAX;
	(void)reserve(r, sizeof(e), &e, sizeof(e));
	e = good, e.header.kind = HF_EVENT_NONE;
	(void)reserve(r, sizeof(e), &e, sizeof(e));
	e = good, e.header.cpu = CPUS;
	(void)reserve(r, sizeof(e), &e, sizeof(e));
	e = good, e.header.ring = HF_RING_URGENT;
	(void)reserve(r, sizeof(e), &e, sizeof(e));
	(void)reserve(r, sizeof(good), &good, sizeof(good));
	assert_int_equal(read_all(f, HF_RING_BULK), 8);
	assert_int_equal(f->n, 1);
	assert_int_equal(totals(f).malformed, 7);
}

static void an_interrupted_program_may_come_later(void **state)
{
	struct fake *f = *state;
	static const uint64_t order[] = {1, 3, 4, 2, 6, 5};
	size_t i;

	for (i = 0; i < HF_ARRAY_SIZE(order); i++)
		produce(f, HF_RING_BULK, 0, order[i]);
	assert_int_equal(read_all(f, HF_RING_BULK), 6);
	settle(f);
	settle(f);
	settle(f);
	assert_int_equal(f->n, 6);
	assert_int_equal(f->n_gaps, 0);
}

static void a_hole_that_stays_is_a_gap_after_two_settles(void **state)
{
	struct fake *f = *state;

	produce(f, HF_RING_BULK, 0, 1);
	produce(f, HF_RING_BULK, 0, 4);
	assert_int_equal(read_all(f, HF_RING_BULK), 2);
	settle(f);
	assert_int_equal(f->n_gaps, 0);
	settle(f);
	assert_int_equal(f->n_gaps, 1);
	assert_int_equal(f->gap[0].ring, HF_RING_BULK);
	assert_int_equal(f->gap[0].cpu, 0);
	assert_int_equal(f->gap[0].first, 2);
	assert_int_equal(f->gap[0].last, 3);
	/* Told once; and a straggler is not told twice. */
	settle(f);
	produce(f, HF_RING_BULK, 0, 2);
	assert_int_equal(read_all(f, HF_RING_BULK), 1);
	assert_int_equal(f->n, 2);
	assert_int_equal(f->n_gaps, 1);
	assert_int_equal(totals(f).duplicates, 1);
}

static void losses_at_the_end_are_proven_without_a_later_record(void **state)
{
	struct fake *f = *state;

	produce(f, HF_RING_BULK, 1, 1);
	lose(f, HF_RING_BULK, 1, 50);
	lose(f, HF_RING_BULK, 2, 7); /* nothing of this CPU ever got through */
	assert_int_equal(read_all(f, HF_RING_BULK), 1);
	settle(f);
	settle(f);
	assert_int_equal(f->n_gaps, 2);
	assert_int_equal(f->gap[0].first, 2);
	assert_int_equal(f->gap[0].last, 51);
	assert_int_equal(f->gap[1].cpu, 2);
	assert_int_equal(f->gap[1].first, 1);
	assert_int_equal(f->gap[1].last, 7);
	assert_int_equal(totals(f).gap_events, 57);
	assert_int_equal(totals(f).lost, 57);
}

static void nothing_is_a_gap_while_records_wait_to_be_read(void **state)
{
	struct fake *f = *state;

	produce(f, HF_RING_BULK, 0, 1);
	settle(f);
	settle(f);
	settle(f);
	assert_int_equal(f->n_gaps, 0);
	assert_int_equal(read_all(f, HF_RING_BULK), 1);
	assert_int_equal(f->n_gaps, 0);
}

static void a_far_jump_closes_the_holes_it_passes(void **state)
{
	struct fake *f = *state;

	produce(f, HF_RING_BULK, 0, 1);
	produce(f, HF_RING_BULK, 0, 3);
	produce(f, HF_RING_BULK, 0, 1000);
	assert_int_equal(read_all(f, HF_RING_BULK), 3);
	assert_int_equal(f->n, 3);
	assert_int_equal(f->n_gaps, 2);
	assert_int_equal(f->gap[0].first, 2);
	assert_int_equal(f->gap[0].last, 2);
	assert_int_equal(f->gap[1].first, 4);
	assert_int_equal(f->gap[1].last, 999);
	assert_int_equal(totals(f).gap_events, 997);
}

/* Every CPU and both rings count for themselves. */
static void streams_are_independent(void **state)
{
	struct fake *f = *state;
	uint32_t cpu;

	for (cpu = 0; cpu < CPUS; cpu++) {
		produce(f, HF_RING_BULK, cpu, 1);
		produce(f, HF_RING_URGENT, cpu, 1);
		produce(f, HF_RING_BULK, cpu, 2);
	}
	assert_int_equal(read_all(f, HF_RING_BULK), 6);
	assert_int_equal(read_all(f, HF_RING_URGENT), 3);
	settle(f);
	settle(f);
	assert_int_equal(f->n, 9);
	assert_int_equal(f->n_gaps, 0);
}

static void a_successor_drops_what_was_kept(void **state)
{
	struct fake *f = *state;
	struct hf_rings_position p[8];
	size_t n, i;

	produce(f, HF_RING_BULK, 0, 1);
	produce(f, HF_RING_BULK, 0, 2);
	produce(f, HF_RING_BULK, 0, 4); /* 3 is on its way */
	assert_int_equal(read_all(f, HF_RING_BULK), 3);
	n = hf_rings_positions(f->rings, p, HF_ARRAY_SIZE(p));
	assert_int_equal(n, CPUS * _HF_RING_MAX);
	f->rings = hf_rings_free(f->rings);
	produce(f, HF_RING_BULK, 0, 3);
	produce(f, HF_RING_BULK, 0, 5);
	open_rings(f);
	for (i = 0; i < n; i++)
		hf_rings_set_position(f->rings, &p[i]);
	f->n = 0;
	assert_int_equal(read_all(f, HF_RING_BULK), 5);
	assert_int_equal(f->n, 2);
	assert_int_equal(f->seq[0], 3);
	assert_int_equal(f->seq[1], 5);
	assert_int_equal(totals(f).duplicates, 3);
	assert_int_equal(f->n_gaps, 0);
}

static void a_reader_without_memory_begins_where_the_ring_does(void **state)
{
	struct fake *f = *state;

	produce(f, HF_RING_BULK, 0, 1);
	assert_int_equal(read_all(f, HF_RING_BULK), 1);
	hf_rings_commit(f->rings, HF_RING_BULK, hf_rings_mark(f->rings, HF_RING_BULK));
	f->rings = hf_rings_free(f->rings);
	produce(f, HF_RING_BULK, 0, 2);
	open_rings(f);
	f->n = 0;
	assert_int_equal(read_all(f, HF_RING_BULK), 1);
	assert_int_equal(f->n, 1);
	assert_int_equal(f->n_gaps, 0);
}

static void positions_of_another_load_are_ignored(void **state)
{
	struct fake *f = *state;
	const struct hf_rings_position bad[] = {
		{.ring = HF_RING_BULK, .cpu = 0, .seq = BASE - 5},
		{.ring = HF_RING_BULK, .cpu = 0, .seq = BASE + 1000000},
		{.ring = _HF_RING_MAX, .cpu = 0, .seq = BASE},
		{.ring = HF_RING_BULK, .cpu = CPUS, .seq = BASE},
	};
	size_t i;

	produce(f, HF_RING_BULK, 0, 1);
	for (i = 0; i < HF_ARRAY_SIZE(bad); i++)
		hf_rings_set_position(f->rings, &bad[i]);
	assert_int_equal(read_all(f, HF_RING_BULK), 1);
	assert_int_equal(f->n, 1);
	assert_int_equal(f->n_gaps, 0);
}

static void totals_are_exact_at_rest(void **state)
{
	struct fake *f = *state;
	struct hf_rings_totals t;

	produce(f, HF_RING_BULK, 0, 1);
	produce(f, HF_RING_BULK, 0, 2);
	produce(f, HF_RING_URGENT, 1, 1);
	lose(f, HF_RING_BULK, 2, 5);
	f->counters[1].kind[HF_EVENT_CONN_FAILED].filtered = 11;
	f->counters[2].kind[HF_EVENT_PROC_EXIT].throttled = 13;
	f->counters[2].misc[HF_MISC_STORAGE_FULL] = 17;
	t = totals(f);
	assert_int_equal(t.generated, 8);
	assert_int_equal(t.in_ring, 3);
	assert_int_equal(t.delivered, 0);
	assert_int_equal(t.lost, 5);
	assert_int_equal(t.filtered, 11);
	assert_int_equal(t.throttled, 13);
	assert_int_equal(t.misc[HF_MISC_STORAGE_FULL], 17);
	assert_int_equal(read_all(f, HF_RING_BULK), 2);
	t = totals(f);
	assert_int_equal(t.delivered, 2);
	assert_int_equal(t.in_ring, 1);
	assert_int_equal(t.generated, t.delivered + t.in_ring + t.lost);
	assert_int_equal(t.ring[HF_RING_URGENT].in_ring, 1);
}

int main(void)
{
#define FAKE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		FAKE(sizes_that_cannot_be_are_refused),
		FAKE(records_come_in_order_and_bounded),
		FAKE(only_commit_gives_room_back),
		FAKE(a_record_across_the_end_is_whole),
		FAKE(reading_stops_at_a_record_that_is_being_written),
		FAKE(discarded_records_are_stepped_over),
		FAKE(a_record_that_lies_about_itself_is_dropped),
		FAKE(an_interrupted_program_may_come_later),
		FAKE(a_hole_that_stays_is_a_gap_after_two_settles),
		FAKE(losses_at_the_end_are_proven_without_a_later_record),
		FAKE(nothing_is_a_gap_while_records_wait_to_be_read),
		FAKE(a_far_jump_closes_the_holes_it_passes),
		FAKE(streams_are_independent),
		FAKE(a_successor_drops_what_was_kept),
		FAKE(a_reader_without_memory_begins_where_the_ring_does),
		FAKE(positions_of_another_load_are_ignored),
		FAKE(totals_are_exact_at_rest),
	};

	return HF_RUN_TESTS(tests);
}
