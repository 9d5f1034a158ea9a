/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One mapped file. Stores are in the order that ringlog.h names; a compiler barrier keeps them so (a
 * kill is seen between instructions of one thread, so no fence is needed).
 */
#include "userspace/agent/ringlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"

#define RINGLOG_MAGIC 0x524c4f47u /* object */
#define FILE_MAGIC    0x314c5248u /* "HRL1" */
/* Five of the consumer's polls: less is a busy host, not a missing consumer. */
#define BLIND_NS (1500 * HF_NS_PER_MS) /* an idle agent looks once a second */

/* Everything up to base, and base + 1 + i for bit i of later. */
struct seen {
	uint64_t base, later;
};

struct pending {
	uint64_t seq, boot_ns;
	uint64_t ticket; /* 0: not appended yet */
	uint32_t ring, cpu;
};

/* The layout is this program's own: another size or magic is another program's, and not used. */
struct file {
	uint32_t magic;
	uint32_t bytes;
	uint8_t boot_id[16];
	uint64_t alive_ns; /* CLOCK_MONOTONIC */
	uint64_t blind_ns;
	uint64_t head, tail; /* of pending, never wrapped: tail - head of them */
	struct seen seen[_HF_RING_MAX][HF_RINGLOG_CPUS_MAX];
	struct pending pending[HF_RINGLOG_PENDING_MAX];
	struct hf_budget budget;
};

struct hf_ringlog {
	unsigned magic;
	struct file *f;
	/* Of the predecessor: its pending ones, until hf_ringlog_resume(). */
	struct pending *unsure;
	size_t n_unsure;
	bool consuming; /* hf_ringlog_alive() was called */
	uint64_t n_old; /* entries from head on that are wanted and were not read again yet */
};

static void barrier(void)
{
	__asm__ volatile("" ::: "memory");
}

/* Texts of a file are a stranger's until terminated. */
static void mend_budget(struct hf_budget *b)
{
	/* The tokens are by the clock of who had them. */
	b->single = (struct hf_ratelimit){};
	if (b->n > HF_BUDGET_GROUPS_MAX + 1)
		b->n = 0;
	for (size_t i = 0; i < HF_ARRAY_SIZE(b->groups); i++) {
		struct hf_budget_group *g = &b->groups[i];

		g->kind[sizeof(g->kind) - 1] = g->comm[sizeof(g->comm) - 1] = 0;
		g->unit[sizeof(g->unit) - 1] = g->peer[sizeof(g->peer) - 1] = 0;
		g->reason[sizeof(g->reason) - 1] = 0;
	}
}

static int take_unsure(struct hf_ringlog *l)
{
	struct file *f = l->f;
	uint64_t n = f->tail - f->head;

	if (!n || n > HF_RINGLOG_PENDING_MAX)
		return 0;
	l->unsure = calloc(n, sizeof(*l->unsure));
	if (!l->unsure)
		return -ENOMEM;
	for (uint64_t i = 0; i < n; i++)
		l->unsure[l->n_unsure++] = f->pending[(f->head + i) % HF_RINGLOG_PENDING_MAX];
	return 0;
}

static void start_afresh(struct file *f, const uint8_t boot_id[static 16], uint64_t now)
{
	memset(f, 0, sizeof(*f));
	memcpy(f->boot_id, boot_id, sizeof(f->boot_id));
	f->bytes = sizeof(*f);
	f->alive_ns = now;
	barrier();
	f->magic = FILE_MAGIC;
}

/* The counts of the budget are good whatever boot they are of; the rest is of the kernel's rings. */
static void forget_boot(struct file *f, const uint8_t boot_id[static 16], uint64_t now)
{
	memset(f->seen, 0, sizeof(f->seen));
	f->head = f->tail = 0;
	f->blind_ns = 0;
	f->alive_ns = now;
	memcpy(f->boot_id, boot_id, sizeof(f->boot_id));
}

int hf_ringlog_open(int dirfd, const char *name, const uint8_t boot_id[static 16],
		    uint64_t now_monotonic_ns, struct hf_ringlog **ret)
{
	_cleanup_(hf_ringlog_freep) struct hf_ringlog *l = calloc(1, sizeof(*l));
	_cleanup_close_ int fd = -1;
	void *map;
	int r;

	if (!l)
		return -ENOMEM;
	l->magic = RINGLOG_MAGIC;
	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	/* Reserved now: a full disk must not become a SIGBUS later. */
	r = posix_fallocate(fd, 0, sizeof(struct file));
	if (r != 0)
		return -r;
	map = mmap(NULL, sizeof(struct file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	l->f = map;
	if (l->f->magic != FILE_MAGIC || l->f->bytes != sizeof(struct file))
		start_afresh(l->f, boot_id, now_monotonic_ns);
	mend_budget(&l->f->budget);
	if (memcmp(l->f->boot_id, boot_id, sizeof(l->f->boot_id)) != 0)
		forget_boot(l->f, boot_id, now_monotonic_ns);
	r = take_unsure(l);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(l);
	return 0;
}

struct hf_ringlog *hf_ringlog_free(struct hf_ringlog *l)
{
	if (!l)
		return NULL;
	hf_assert(l->magic == RINGLOG_MAGIC);
	if (l->f)
		(void)munmap(l->f, sizeof(*l->f)); /* cannot fail for our own mapping */
	free(l->unsure);
	l->magic = 0;
	free(l);
	return NULL;
}

/* ---- seen -------------------------------------------------------------------------------------- */

static struct seen *seen_of(struct hf_ringlog *l, uint32_t ring, uint32_t cpu)
{
	if (ring >= _HF_RING_MAX || cpu >= HF_RINGLOG_CPUS_MAX)
		return NULL;
	return &l->f->seen[ring][cpu];
}

/* Numbers that were left out 64 places ago are gaps, and were told as such. */
void hf_ringlog_done(struct hf_ringlog *l, uint32_t ring, uint32_t cpu, uint64_t seq)
{
	struct seen *s = seen_of(l, ring, cpu), n;

	if (!s || seq <= s->base)
		return;
	n = *s;
	if (!n.base || seq - n.base > 128) {
		n = (struct seen){.base = seq - 1};
	} else {
		while (seq - n.base > 64) {
			n.base++;
			n.later >>= 1;
		}
	}
	n.later |= UINT64_C(1) << (seq - n.base - 1);
	while (n.later & 1) {
		n.base++;
		n.later >>= 1;
	}
	/* later first: for an instant it claims too little, never too much. */
	if (n.base != s->base) {
		s->later = 0;
		barrier();
		s->base = n.base;
		barrier();
	}
	s->later = n.later;
	barrier();
}

/* ---- after a predecessor ----------------------------------------------------------------------- */

size_t hf_ringlog_unsure(const struct hf_ringlog *l)
{
	return l->n_unsure;
}

void hf_ringlog_on_disk(struct hf_ringlog *l, uint32_t ring, uint32_t cpu, uint64_t seq,
			uint64_t boot_ns)
{
	for (size_t i = 0; i < l->n_unsure; i++) {
		const struct pending *p = &l->unsure[i];

		if (p->seq != seq || p->ring != ring || p->cpu != cpu || p->boot_ns != boot_ns)
			continue;
		hf_ringlog_done(l, ring, cpu, seq);
		/* Perhaps twice: a kill in hf_ringlog_resume(). */
		l->unsure[i--] = l->unsure[--l->n_unsure];
	}
}

/* What is wanted stays in the file, without a ticket, in case that we are killed as well. */
static void keep_wanted(struct hf_ringlog *l)
{
	struct file *f = l->f;
	uint64_t was = f->tail;

	if (f->tail - f->head + l->n_unsure > HF_RINGLOG_PENDING_MAX)
		return;
	for (size_t i = 0; i < l->n_unsure; i++) {
		l->unsure[i].ticket = 0;
		f->pending[(was + i) % HF_RINGLOG_PENDING_MAX] = l->unsure[i];
	}
	barrier();
	f->tail = was + l->n_unsure;
	barrier();
	f->head = was;
	l->n_old = l->n_unsure;
}

void hf_ringlog_resume(struct hf_ringlog *l, struct hf_rings *rings)
{
	for (uint32_t ring = 0; ring < _HF_RING_MAX; ring++) {
		for (uint32_t cpu = 0; cpu < HF_RINGLOG_CPUS_MAX; cpu++) {
			const struct seen *s = &l->f->seen[ring][cpu];
			const struct hf_rings_position p = {
				.ring = ring, .cpu = cpu, .seq = s->base, .later = s->later};

			if (s->base)
				hf_rings_set_position(rings, &p);
		}
	}
	keep_wanted(l);
	for (size_t i = 0; i < l->n_unsure; i++)
		hf_rings_want(rings, (enum hf_ring_id)l->unsure[i].ring, l->unsure[i].cpu,
			      l->unsure[i].seq);
	l->n_unsure = 0;
	free(l->unsure);
	l->unsure = NULL;
}

/* The record is read again and has an entry of its own now. */
static void forget_old(struct hf_ringlog *l, uint32_t ring, uint32_t cpu, uint64_t seq)
{
	struct file *f = l->f;

	for (uint64_t i = 0; i < l->n_old; i++) {
		struct pending *p = &f->pending[(f->head + i) % HF_RINGLOG_PENDING_MAX];

		if (p->seq != seq || p->ring != ring || p->cpu != cpu)
			continue;
		*p = f->pending[f->head % HF_RINGLOG_PENDING_MAX];
		f->head++;
		l->n_old--;
		return;
	}
}

void hf_ringlog_caught_up(struct hf_ringlog *l)
{
	l->f->head += l->n_old;
	l->n_old = 0;
}

/* ---- for each record --------------------------------------------------------------------------- */

void hf_ringlog_begin(struct hf_ringlog *l, uint32_t ring, uint32_t cpu, uint64_t seq,
		      uint64_t boot_ns)
{
	struct file *f = l->f;

	/* Cannot be, by the bound of the spool's queue; the oldest would be the safest. */
	if (f->tail - f->head >= HF_RINGLOG_PENDING_MAX)
		f->head = f->tail - HF_RINGLOG_PENDING_MAX + 1;
	f->pending[f->tail % HF_RINGLOG_PENDING_MAX] =
		(struct pending){.seq = seq, .boot_ns = boot_ns, .ring = ring, .cpu = cpu};
	barrier();
	f->tail++;
	barrier();
	if (l->n_old)
		forget_old(l, ring, cpu, seq);
}

void hf_ringlog_appended(struct hf_ringlog *l, uint64_t ticket)
{
	struct file *f = l->f;

	if (f->tail != f->head)
		f->pending[(f->tail - 1) % HF_RINGLOG_PENDING_MAX].ticket = ticket;
}

void hf_ringlog_settled(struct hf_ringlog *l, uint64_t ticket)
{
	struct file *f = l->f;

	while (f->head != f->tail) {
		const struct pending *p = &f->pending[f->head % HF_RINGLOG_PENDING_MAX];

		if (!p->ticket || p->ticket > ticket)
			break;
		f->head++;
	}
}

/* ---- time -------------------------------------------------------------------------------------- */

uint64_t hf_ringlog_alive(struct hf_ringlog *l, uint64_t now)
{
	struct file *f = l->f;
	uint64_t away = now > f->alive_ns ? now - f->alive_ns : 0;

	/* A new process knows that there was none before it, however short that was. */
	if (l->consuming && away < BLIND_NS)
		away = 0;
	l->consuming = true;
	f->blind_ns += away;
	f->alive_ns = now;
	return away;
}

void hf_ringlog_away(struct hf_ringlog *l)
{
	l->consuming = false;
}

uint64_t hf_ringlog_blind_ns(const struct hf_ringlog *l, uint64_t now)
{
	if (l->consuming || now < l->f->alive_ns)
		return l->f->blind_ns;
	return l->f->blind_ns + now - l->f->alive_ns;
}

struct hf_budget *hf_ringlog_budget(struct hf_ringlog *l)
{
	return &l->f->budget;
}
