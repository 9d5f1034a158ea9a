/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout (Documentation/bpf/ringbuf.rst, include/uapi/linux/bpf.h): page 0 is the consumer's
 * position, page 1 the producer's, then the data. The kernel offers the data twice in a row, so that no
 * record is cut; mapping it twice counts twice as resident, so we map it once and mend the cut.
 * A record is 8 bytes of header (length with the busy and discard bits on top, page offset), then
 * its bytes, rounded up to 8. The producer clears the busy bit last, with release order.
 */
#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/bpf.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/fd.h"

#define RINGS_MAGIC 0x52494e47u

/* Positions of a (ring, cpu): enough for the depth to which programs interrupt each other. */
#define WINDOW 64

struct stream {
	uint64_t base;        /* all up to here is accounted */
	uint64_t later;       /* bit i: base + 1 + i was seen; bit 0 is never set */
	uint64_t settled_seq; /* given out by the time of the last settle */
	bool known;           /* base means something */
};

struct ring {
	int fd;
	size_t bytes;
	unsigned long *consumer;       /* our page */
	const unsigned long *producer; /* the kernel's, followed by the data */
	const uint8_t *data;
	size_t producer_map_bytes;
	unsigned long position; /* I1: private */
	struct stream *streams; /* one per CPU */
	union hf_event_any cut; /* where a record that the end of the data cuts is put together */
};

struct wanted {
	uint64_t seq;
	uint32_t ring, cpu;
};

struct hf_rings {
	uint32_t magic;
	uint32_t cpus;
	size_t page;
	struct ring ring[_HF_RING_MAX];
	const struct hf_cpu_counters *counters;
	size_t counters_bytes;
	int counters_fd;
	uint64_t read, gap_events, duplicates, malformed;
	struct wanted *wanted;
	size_t n_wanted;
};

/* The kernel's __u64 is not our uint64_t by name, only by size. */
static uint64_t load(const __u64 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static int map_ring(struct ring *ring, int fd, uint32_t bytes, size_t page, uint32_t cpus)
{
	void *p;

	if (!bytes || bytes % page || bytes & (bytes - 1))
		return -EINVAL;
	ring->bytes = bytes;
	p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	ring->consumer = p;
	ring->producer_map_bytes = page + ring->bytes;
	p = mmap(NULL, ring->producer_map_bytes, PROT_READ, MAP_SHARED, fd, (off_t)page);
	if (p == MAP_FAILED)
		return -errno;
	ring->producer = p;
	ring->data = (const uint8_t *)p + page;
	ring->streams = calloc(cpus, sizeof(*ring->streams));
	if (!ring->streams)
		return -ENOMEM;
	ring->position = __atomic_load_n(ring->consumer, __ATOMIC_ACQUIRE);
	return 0;
}

static void unmap_ring(struct ring *ring, size_t page)
{
	if (ring->consumer)
		(void)munmap(ring->consumer, page);
	if (ring->producer)
		(void)munmap((void *)ring->producer, ring->producer_map_bytes);
	free(ring->streams);
}

struct hf_rings *hf_rings_free(struct hf_rings *r)
{
	int i;

	if (!r)
		return NULL;
	hf_assert(r->magic == RINGS_MAGIC);
	for (i = 0; i < _HF_RING_MAX; i++) {
		unmap_ring(&r->ring[i], r->page);
		(void)hf_close(r->ring[i].fd);
	}
	if (r->counters)
		(void)munmap((void *)r->counters, r->counters_bytes);
	(void)hf_close(r->counters_fd);
	free(r->wanted);
	r->magic = 0;
	free(r);
	return NULL;
}

HF_DEFINE_CLEANUP(struct hf_rings *, hf_rings_free);

/* A ring nobody has read from: its numbers begin at their base, so even the first are proven. */
static void begin_streams(struct hf_rings *r, int i)
{
	uint32_t cpu;

	if (r->ring[i].position)
		return;
	for (cpu = 0; cpu < r->cpus; cpu++) {
		r->ring[i].streams[cpu].base = load(&r->counters[cpu].ring[i].base);
		r->ring[i].streams[cpu].known = true;
	}
}

int hf_rings_new(const int fds[static _HF_RING_MAX], const uint32_t bytes[static _HF_RING_MAX],
		 int counters_fd, uint32_t cpus, struct hf_rings **ret)
{
	_cleanup_(hf_rings_freep) struct hf_rings *r = NULL;
	void *p;
	int i, e;

	/* The kernel's own limit is 8192; more means a text we should not have believed. */
	if (!cpus || cpus > 65536)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->magic = RINGS_MAGIC;
	r->cpus = cpus;
	r->page = (size_t)sysconf(_SC_PAGESIZE);
	r->counters_fd = -1;
	for (i = 0; i < _HF_RING_MAX; i++)
		r->ring[i].fd = -1;

	for (i = 0; i < _HF_RING_MAX; i++) {
		e = map_ring(&r->ring[i], fds[i], bytes[i], r->page, cpus);
		if (e < 0)
			return e;
	}
	r->counters_bytes = cpus * sizeof(struct hf_cpu_counters);
	r->counters_bytes = (r->counters_bytes + r->page - 1) / r->page * r->page;
	p = mmap(NULL, r->counters_bytes, PROT_READ, MAP_SHARED, counters_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	r->counters = p;
	for (i = 0; i < _HF_RING_MAX; i++)
		begin_streams(r, i);
	/* Only now are the descriptors ours. */
	for (i = 0; i < _HF_RING_MAX; i++)
		r->ring[i].fd = fds[i];
	r->counters_fd = counters_fd;
	*ret = TAKE_PTR(r);
	return 0;
}

int hf_rings_fd(const struct hf_rings *r, enum hf_ring_id ring)
{
	hf_assert(ring < _HF_RING_MAX);
	return r->ring[ring].fd;
}

/* ---- sequence numbers ---------------------------------------------------------------------- */

static void tell_gap(struct hf_rings *r, enum hf_ring_id ring, uint32_t cpu, uint64_t first,
		     uint64_t last, const struct hf_rings_handler *h)
{
	r->gap_events += last - first + 1;
	if (h && h->gap)
		h->gap(ring, cpu, first, last, h->userdata);
}

/* Moves base over what was seen. */
static void advance(struct stream *s)
{
	while (s->later & 1) {
		s->later >>= 1;
		s->base++;
	}
}

/* Declares what is missing right above base lost, but nothing beyond limit. */
static void close_hole(struct hf_rings *r, enum hf_ring_id ring, uint32_t cpu, struct stream *s,
		       uint64_t limit, const struct hf_rings_handler *h)
{
	uint64_t hole = limit - s->base;

	if (s->later && (uint64_t)__builtin_ctzll(s->later) < hole)
		hole = (uint64_t)__builtin_ctzll(s->later);
	tell_gap(r, ring, cpu, s->base + 1, s->base + hole, h);
	s->base += hole;
	s->later = hole < WINDOW ? s->later >> hole : 0;
	advance(s);
}

/* True once for each that was asked for. */
static bool take_wanted(struct hf_rings *r, enum hf_ring_id ring, uint32_t cpu, uint64_t seq)
{
	for (size_t i = 0; i < r->n_wanted; i++) {
		if (r->wanted[i].seq != seq || r->wanted[i].ring != (uint32_t)ring ||
		    r->wanted[i].cpu != cpu)
			continue;
		r->wanted[i] = r->wanted[--r->n_wanted];
		return true;
	}
	return false;
}

int hf_rings_want(struct hf_rings *r, enum hf_ring_id ring, uint32_t cpu, uint64_t seq)
{
	if (!r->wanted)
		r->wanted = calloc(HF_RINGS_WANTED_MAX, sizeof(*r->wanted));
	if (!r->wanted)
		return -ENOMEM;
	if (r->n_wanted == HF_RINGS_WANTED_MAX)
		return -ENOSPC;
	r->wanted[r->n_wanted++] = (struct wanted){.ring = (uint32_t)ring, .cpu = cpu, .seq = seq};
	return 0;
}

/* False: a duplicate. */
static bool account(struct hf_rings *r, enum hf_ring_id ring, uint32_t cpu, uint64_t seq,
		    const struct hf_rings_handler *h)
{
	struct stream *s = &r->ring[ring].streams[cpu];

	if (!s->known) {
		/* Nobody told what a predecessor had read: begin here. */
		s->known = true;
		s->base = seq - 1;
	}
	if (seq <= s->base)
		return false;
	while (seq - s->base > WINDOW)
		close_hole(r, ring, cpu, s, seq - 1, h);
	if (s->later & (UINT64_C(1) << (seq - s->base - 1)))
		return false;
	s->later |= UINT64_C(1) << (seq - s->base - 1);
	advance(s);
	return true;
}

void hf_rings_settle(struct hf_rings *r, const struct hf_rings_handler *h)
{
	uint32_t cpu;
	int i;

	for (i = 0; i < _HF_RING_MAX; i++) {
		const struct ring *ring = &r->ring[i];

		/* Numbers are only missing when there is nothing left to read. */
		if (__atomic_load_n(ring->producer, __ATOMIC_ACQUIRE) != ring->position)
			continue;
		for (cpu = 0; cpu < r->cpus; cpu++) {
			struct stream *s = &ring->streams[cpu];

			if (!s->known)
				continue;
			while (s->base < s->settled_seq)
				close_hole(r, (enum hf_ring_id)i, cpu, s, s->settled_seq, h);
			s->settled_seq = load(&r->counters[cpu].ring[i].seq);
		}
	}
}

size_t hf_rings_positions(const struct hf_rings *r, struct hf_rings_position *ret, size_t max)
{
	size_t n = 0;
	uint32_t cpu;
	int i;

	for (i = 0; i < _HF_RING_MAX; i++) {
		for (cpu = 0; cpu < r->cpus; cpu++) {
			const struct stream *s = &r->ring[i].streams[cpu];

			if (!s->known)
				continue;
			if (n < max)
				ret[n] = (struct hf_rings_position){
					.ring = (uint32_t)i,
					.cpu = cpu,
					.seq = s->base,
					.later = s->later,
				};
			n++;
		}
	}
	return n;
}

void hf_rings_set_position(struct hf_rings *r, const struct hf_rings_position *p)
{
	struct stream *s;

	if (p->ring >= _HF_RING_MAX || p->cpu >= r->cpus)
		return;
	/* Of an earlier load, or from the future: of another boot. */
	if (p->seq < load(&r->counters[p->cpu].ring[p->ring].base) ||
	    p->seq > load(&r->counters[p->cpu].ring[p->ring].seq))
		return;
	s = &r->ring[p->ring].streams[p->cpu];
	s->known = true;
	s->base = p->seq;
	s->later = p->later;
	advance(s);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Next record at position: its length, or -EAGAIN. Steps over nothing. */
static int64_t peek(const struct ring *ring, unsigned long position, bool *ret_discarded)
{
	unsigned long end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	const uint8_t *head = ring->data + (position & (ring->bytes - 1));
	uint32_t len;

	if (position >= end)
		return -EAGAIN;
	len = __atomic_load_n((const uint32_t *)head, __ATOMIC_ACQUIRE);
	if (len & BPF_RINGBUF_BUSY_BIT)
		return -EAGAIN;
	*ret_discarded = len & BPF_RINGBUF_DISCARD_BIT;
	return len & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
}

/* The bytes of the record at position, whole; until the next call. NULL: longer than any of ours. */
static const uint8_t *body(struct ring *ring, unsigned long position, size_t len)
{
	size_t at = (position + BPF_RINGBUF_HDR_SZ) & (ring->bytes - 1);
	size_t first = ring->bytes - at;

	if (len > sizeof(ring->cut))
		return NULL;
	if (len <= first)
		return ring->data + at;
	memcpy(&ring->cut, ring->data + at, first);
	memcpy((uint8_t *)&ring->cut + first, ring->data, len - first);
	return (const uint8_t *)&ring->cut;
}

static unsigned long step(int64_t len)
{
	return ((unsigned long)len + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
}

static bool valid(const struct hf_rings *r, enum hf_ring_id ring, const struct hf_event_header *h,
		  size_t len)
{
	return len >= sizeof(*h) && len <= sizeof(union hf_event_any) && h->len == len &&
	       h->ring == (uint32_t)ring && h->cpu < r->cpus && h->kind > HF_EVENT_NONE &&
	       h->kind < _HF_EVENT_KIND_MAX && h->seq > 0;
}

int hf_rings_read(struct hf_rings *r, enum hf_ring_id id, unsigned max,
		  const struct hf_rings_handler *handler)
{
	struct ring *ring;
	bool discarded;
	int64_t len;
	unsigned n;

	hf_assert(id < _HF_RING_MAX);
	ring = &r->ring[id];
	for (n = 0; n < max; n++) {
		const struct hf_event_header *h;

		len = peek(ring, ring->position, &discarded);
		if (len < 0)
			break;
		/* The kernel rounds up to 8, so the header is aligned. */
		h = (const struct hf_event_header *)body(ring, ring->position, (size_t)len);
		ring->position += step(len);
		if (discarded)
			continue;
		if (!h || !valid(r, id, h, (size_t)len)) {
			r->malformed++;
			continue;
		}
		if (!account(r, id, h->cpu, h->seq, handler) &&
		    !take_wanted(r, id, h->cpu, h->seq)) {
			r->duplicates++;
			continue;
		}
		r->read++;
		handler->record(h, (size_t)len, handler->userdata);
	}
	return (int)n;
}

uint64_t hf_rings_mark(const struct hf_rings *r, enum hf_ring_id ring)
{
	hf_assert(ring < _HF_RING_MAX);
	return r->ring[ring].position;
}

void hf_rings_commit(struct hf_rings *r, enum hf_ring_id id, uint64_t mark)
{
	struct ring *ring;
	unsigned long now;

	hf_assert(id < _HF_RING_MAX);
	ring = &r->ring[id];
	now = __atomic_load_n(ring->consumer, __ATOMIC_RELAXED);
	hf_assert(mark <= ring->position);
	if (mark > now)
		__atomic_store_n(ring->consumer, (unsigned long)mark, __ATOMIC_RELEASE);
}

/* ---- counters ------------------------------------------------------------------------------ */

static uint64_t count_unread(const struct ring *ring)
{
	unsigned long position = ring->position;
	bool discarded;
	uint64_t n = 0;
	int64_t len;

	for (;;) {
		len = peek(ring, position, &discarded);
		if (len < 0)
			return n;
		position += step(len);
		if (!discarded)
			n++;
	}
}

void hf_rings_totals(const struct hf_rings *r, struct hf_rings_totals *ret)
{
	uint32_t cpu;
	int i;

	*ret = (struct hf_rings_totals){
		.read = r->read,
		.gap_events = r->gap_events,
		.duplicates = r->duplicates,
		.malformed = r->malformed,
	};
	for (cpu = 0; cpu < r->cpus; cpu++) {
		const struct hf_cpu_counters *c = &r->counters[cpu];

		for (i = 0; i < _HF_RING_MAX; i++) {
			ret->ring[i].generated += load(&c->ring[i].seq) - load(&c->ring[i].base);
			ret->ring[i].submitted += load(&c->ring[i].submitted);
			ret->ring[i].lost += load(&c->ring[i].lost);
		}
		for (i = 0; i < HF_EVENT_KIND_SLOTS; i++) {
			ret->kind[i].generated += c->kind[i].generated;
			ret->kind[i].lost += c->kind[i].lost;
			ret->kind[i].filtered += c->kind[i].filtered;
			ret->kind[i].throttled += c->kind[i].throttled;
		}
		for (i = 0; i < HF_MISC_SLOTS; i++)
			ret->misc[i] += c->misc[i];
	}
	for (i = 0; i < _HF_RING_MAX; i++) {
		ret->ring[i].in_ring = count_unread(&r->ring[i]);
		ret->generated += ret->ring[i].generated;
		ret->in_ring += ret->ring[i].in_ring;
		ret->lost += ret->ring[i].lost;
		ret->delivered += ret->ring[i].submitted - ret->ring[i].in_ring;
	}
	for (i = 0; i < HF_EVENT_KIND_SLOTS; i++) {
		ret->filtered += ret->kind[i].filtered;
		ret->throttled += ret->kind[i].throttled;
	}
}
