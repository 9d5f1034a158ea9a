/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop's side of the spool: queueing, reading, acknowledging. Nothing here touches a file.
 */
#include "userspace/agent/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/random.h"
#include "userspace/agent/spool_internal.h"

static const char *const reason_names[] = {
	[HF_SPOOL_GAP_SPOOL_FULL] = "spool_full",
	[HF_SPOOL_GAP_QUEUE_FULL] = "queue_full",
	[HF_SPOOL_GAP_MEMORY_FULL] = "memory_full",
	[HF_SPOOL_GAP_CORRUPT] = "corrupt",
	[HF_SPOOL_GAP_PORTAL_RESTORED] = "portal_restored",
	[HF_SPOOL_GAP_REFUSED] = "refused",
};
_Static_assert(HF_ARRAY_SIZE(reason_names) == _HF_SPOOL_GAP_REASON_MAX, "every reason has a name");

const char *hf_spool_gap_reason_name(enum hf_spool_gap_reason r)
{
	hf_assert(r < _HF_SPOOL_GAP_REASON_MAX);
	return reason_names[r];
}

/* ---- life ----------------------------------------------------------------------------------- */

static ssize_t real_pwrite(int fd, const void *buf, size_t len, off_t off)
{
	return pwrite(fd, buf, len, off);
}

static int real_openat(int dirfd, const char *name, int flags, mode_t mode)
{
	return openat(dirfd, name, flags, mode);
}

static const struct hf_spool_ops real_ops = {
	.pwrite = real_pwrite,
	.fsync = fsync,
	.openat = real_openat,
	.unlinkat = unlinkat,
};

void hf_spool_notify(struct hf_spool *s)
{
	uint64_t one = 1;

	/* Full is impossible: the loop empties it, and it holds 2^64-2. */
	(void)!write(s->efd, &one, sizeof(one));
}

/* Everything but the thread. */
static void destroy(struct hf_spool *s)
{
	while (s->n_streams)
		hf_spool_stream_remove(s, s->streams[0]);
	while (s->q_first) {
		struct hf_spool_queued *q = s->q_first;

		s->q_first = q->next;
		free(q);
	}
	while (s->trash) {
		struct hf_spool_trash *t = s->trash;

		s->trash = t->next;
		free(t);
	}
	(void)hf_close(s->efd);
	(void)hf_close(s->posfd);
	(void)hf_close(s->lockfd);
	(void)hf_close(s->dirfd);
	(void)pthread_cond_destroy(&s->wake);
	(void)pthread_cond_destroy(&s->idle);
	(void)pthread_mutex_destroy(&s->lock);
	free((char *)s->config.dir);
	free(s);
}

static int start_thread(struct hf_spool *s)
{
	sigset_t all, old;
	int r;

	/* Signals are the loop's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&s->thread, NULL, hf_spool_writer, s);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	s->running = r == 0;
	return r;
}

int hf_spool_open(const struct hf_spool_config *config, const struct hf_spool_callbacks *cb,
		  void *userdata, struct hf_spool **ret)
{
	pthread_condattr_t attr;
	struct hf_spool *s;
	int r;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->magic = HF_SPOOL_MAGIC;
	s->config = *config;
	s->config.dir = NULL;
	s->cb = *cb;
	s->userdata = userdata;
	s->ops = config->ops ? config->ops : &real_ops;
	s->dirfd = s->lockfd = s->posfd = s->efd = -1;
	s->q_end = &s->q_first;
	s->next_ticket = s->next_id = 1;
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&s->wake, &attr);
	(void)pthread_cond_init(&s->idle, &attr);
	(void)pthread_condattr_destroy(&attr);

#define DEFAULT(field, value) s->config.field = config->field ? config->field : (value)
	DEFAULT(max_bytes, 64u << 20);
	DEFAULT(segment_bytes, 256u << 10);
	DEFAULT(queue_bytes, 1u << 20);
	DEFAULT(memory_bytes, 2u << 20);
	DEFAULT(retry_ms, 5000);
#undef DEFAULT
	/* A segment takes at least one record, and dropping the oldest must leave something. */
	r = 0;
	if (!config->dir || s->config.segment_bytes < 1024 ||
	    s->config.max_bytes < 4 * s->config.segment_bytes || s->config.queue_bytes < 1024 ||
	    s->config.memory_bytes < 8 * 1024)
		r = -EINVAL;
	if (r == 0) {
		s->config.dir = strdup(config->dir);
		s->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = !s->config.dir ? -ENOMEM : s->efd < 0 ? -errno : 0;
	}
	if (r == 0) {
		r = hf_spool_recover(s);
		/* Recovery may run again, on the writer thread: that is nobody's news. */
		s->config.recovered = NULL;
		if (r < 0 && r != -EBUSY && r != -ENOMEM) {
			s->disk_error = r;
			s->tell_disk = true;
			s->retry_at_ns = hf_now_monotonic_ns() + s->config.retry_ms * HF_NS_PER_MS;
			r = 0;
		}
	}
	for (unsigned p = 0; r == 0 && p < _HF_SPOOL_PRIORITY_MAX; p++) {
		if (!s->current[p])
			s->current[p] = hf_spool_stream_new(s, p, 0);
		if (!s->current[p])
			r = -ENOMEM;
	}
	if (r == 0)
		r = start_thread(s);
	if (r < 0) {
		destroy(s);
		return r;
	}
	if (s->tell_disk)
		hf_spool_notify(s);
	*ret = s;
	return 0;
}

struct hf_spool *hf_spool_close(struct hf_spool *s, unsigned timeout_ms)
{
	uint64_t until_ns = hf_now_monotonic_ns() + timeout_ms * HF_NS_PER_MS;
	struct timespec until = {.tv_sec = (time_t)(until_ns / HF_NS_PER_S),
				 .tv_nsec = (long)(until_ns % HF_NS_PER_S)};
	bool ended;

	if (!s)
		return NULL;
	(void)pthread_mutex_lock(&s->lock);
	s->stop = true;
	(void)pthread_cond_signal(&s->wake);
	while (s->running && pthread_cond_timedwait(&s->idle, &s->lock, &until) == 0)
		;
	ended = !s->running;
	(void)pthread_mutex_unlock(&s->lock);
	if (!ended) {
		/* It hangs in the disk. It still uses its memory, which the exit will give back. */
		(void)pthread_detach(s->thread);
		return NULL;
	}
	(void)pthread_join(s->thread, NULL);
	destroy(s);
	return NULL;
}

struct hf_spool *hf_spool_free(struct hf_spool *s)
{
	return hf_spool_close(s, 1000);
}

int hf_spool_fd(const struct hf_spool *s)
{
	return s->efd;
}

void hf_spool_dispatch(struct hf_spool *s)
{
	bool settled, readable, disk, in_memory;
	uint64_t ticket, drained;
	int error;

	(void)!read(s->efd, &drained, sizeof(drained));
	(void)pthread_mutex_lock(&s->lock);
	settled = s->tell_settled;
	readable = s->tell_readable;
	disk = s->tell_disk;
	in_memory = s->settled_in_memory;
	ticket = s->settled;
	error = s->disk_error;
	s->tell_settled = s->tell_readable = s->tell_disk = s->settled_in_memory = false;
	(void)pthread_mutex_unlock(&s->lock);

	if (disk && s->cb.disk)
		s->cb.disk(error, s->userdata);
	if (settled && s->cb.settled)
		s->cb.settled(ticket, !in_memory, s->userdata);
	if (readable && s->cb.readable)
		s->cb.readable(s->userdata);
}

/* ---- append --------------------------------------------------------------------------------- */

int hf_spool_append(struct hf_spool *s, enum hf_spool_priority prio, const void *data, size_t len,
		    uint64_t *ret_ticket)
{
	struct hf_spool_queued *q = NULL;
	bool was_idle;
	int r = 0;

	hf_assert(prio < _HF_SPOOL_PRIORITY_MAX);
	if (len > HF_SPOOL_RECORD_MAX ||
	    len + HF_REC_HEADER_SIZE + HF_SEG_HEADER_SIZE > s->config.segment_bytes) {
		r = -EMSGSIZE;
	} else {
		q = malloc(sizeof(*q) + len);
		if (!q)
			r = -ENOBUFS;
	}
	if (q) {
		q->next = NULL;
		q->prio = prio;
		q->len = len;
		if (len)
			memcpy(q->data, data, len);
	}

	(void)pthread_mutex_lock(&s->lock);
	was_idle = !s->q_first && !s->q_any_lost;
	if (q && s->q_bytes + sizeof(*q) + len > s->config.queue_bytes) {
		free(q);
		q = NULL;
		r = -ENOBUFS;
	}
	if (ret_ticket)
		*ret_ticket = s->next_ticket;
	if (q) {
		q->ticket = s->next_ticket;
		*s->q_end = q;
		s->q_end = &q->next;
		s->q_bytes += sizeof(*q) + len;
		if (prio == HF_SPOOL_HIGH)
			s->q_urgent = true;
	} else {
		s->q_lost[prio][HF_SPOOL_GAP_QUEUE_FULL]++;
		s->q_any_lost = true;
	}
	s->next_ticket++;
	s->stats.appended++;
	if (was_idle)
		s->q_since_ns = hf_now_monotonic_ns();
	if (was_idle || prio == HF_SPOOL_HIGH || s->q_bytes > s->config.queue_bytes / 2)
		(void)pthread_cond_signal(&s->wake);
	(void)pthread_mutex_unlock(&s->lock);
	return r;
}

/* ---- read ----------------------------------------------------------------------------------- */

size_t hf_spool_streams(struct hf_spool *s, struct hf_spool_stream ret[static HF_SPOOL_STREAMS_MAX])
{
	size_t n = 0;

	(void)pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->n_streams; i++) {
		const struct hf_spool_stream_ *st = s->streams[i];

		if (st->last == st->acked && s->current[st->prio] != st)
			continue;
		ret[n++] = (struct hf_spool_stream){
			.epoch = st->epoch,
			.prio = st->prio,
			.first_unacked = st->acked + 1 - st->origin,
			.last = st->last - st->origin,
		};
	}
	(void)pthread_mutex_unlock(&s->lock);
	return n;
}

void hf_spool_chunk_done(struct hf_spool_chunk *c)
{
	free(c->items);
	hf_buf_done(&c->data);
	*c = (struct hf_spool_chunk){};
}

/* False when the chunk takes no more gaps. */
static bool chunk_gap(struct hf_spool_chunk *c, uint64_t first, uint64_t last,
		      enum hf_spool_gap_reason reason)
{
	struct hf_spool_gap *prev = c->n_gaps ? &c->gaps[c->n_gaps - 1] : NULL;

	if (prev && prev->last + 1 == first && prev->reason == reason) {
		prev->last = last;
		return true;
	}
	if (c->n_gaps == HF_SPOOL_GAPS_MAX)
		return false;
	c->gaps[c->n_gaps++] = (struct hf_spool_gap){first, last, reason};
	return true;
}

static int chunk_item(struct hf_spool_chunk *c, uint64_t seq, const uint8_t *data, size_t len)
{
	size_t off = c->data.len;
	int r;

	if (c->n_items == c->cap_items) {
		size_t cap = c->cap_items ? c->cap_items * 2 : 64;
		struct hf_spool_item *items = reallocarray(c->items, cap, sizeof(*items));

		if (!items)
			return -ENOMEM;
		c->items = items;
		c->cap_items = cap;
	}
	r = hf_buf_append(&c->data, data, len);
	if (r < 0)
		return r;
	c->items[c->n_items++] = (struct hf_spool_item){seq, off, len};
	return 0;
}

struct limits {
	size_t max_items, max_bytes;
};

static bool chunk_full(const struct hf_spool_chunk *c, const struct limits *l, size_t more)
{
	return c->n_items > 0 && (c->n_items >= l->max_items || c->data.len + more > l->max_bytes);
}

/* The gap that has seq, or else the first one behind it, or NULL. */
static const struct hf_spool_gap *gap_at_or_after(const struct hf_spool_stream_ *st, uint64_t seq)
{
	for (size_t i = 0; i < st->n_gaps; i++)
		if (st->gaps[i].last >= seq)
			return &st->gaps[i];
	return NULL;
}

/*
 * Numbers [seq, last] have no record although one should be there; a known gap inside keeps its own
 * reason. Returns the next number, or 0 when the chunk takes no more.
 */
static uint64_t chunk_missing(struct hf_spool_chunk *c, const struct hf_spool_stream_ *st,
			      uint64_t seq, uint64_t last)
{
	while (seq <= last) {
		const struct hf_spool_gap *g = gap_at_or_after(st, seq);
		enum hf_spool_gap_reason reason = HF_SPOOL_GAP_CORRUPT;
		uint64_t until = last;

		if (g && g->first <= seq) {
			reason = g->reason;
			until = g->last < last ? g->last : last;
		} else if (g && g->first <= last) {
			until = g->first - 1;
		}
		if (!chunk_gap(c, seq, until, reason))
			return 0;
		seq = until + 1;
	}
	return seq;
}

/* Takes what a loaded segment has from seq on. Returns the next number; 0: the chunk is full. */
static uint64_t read_segment(struct hf_spool_chunk *c, const struct hf_spool_stream_ *st,
			     struct hf_segment *seg, uint64_t seq, const struct limits *l,
			     int *ret_r)
{
	struct hf_seg_record rec;
	struct hf_seg_iter it;

	hf_seg_iter_init(&it, &seg->h, seg->mem.data,
			 seg->mem.len < seg->bytes ? seg->mem.len : seg->bytes);
	if (seg->cursor_next <= seq) {
		it.off = seg->cursor_off;
		it.next = seg->cursor_next;
	}
	for (;;) {
		size_t off = it.off;
		uint64_t next = it.next;
		const struct hf_spool_gap *g;

		seg->cursor_off = off;
		seg->cursor_next = next;
		if (!hf_seg_next(&it, &rec))
			break;
		if (rec.last < seq)
			continue;
		if (rec.seq > seq) {
			seq = chunk_missing(c, st, seq, rec.seq - 1);
			if (!seq)
				return 0;
		}
		if (rec.is_gap) {
			if (!chunk_gap(c, seq, rec.last, rec.reason))
				return 0;
			seq = rec.last + 1;
			continue;
		}
		g = gap_at_or_after(st, seq);
		if (g && g->first <= seq) {
			/* Given up: the record is there, but must not go. */
			if (!chunk_gap(c, seq, seq, g->reason))
				return 0;
			seq++;
			continue;
		}
		if (chunk_full(c, l, rec.len))
			return 0;
		*ret_r = chunk_item(c, seq, rec.data, rec.len);
		if (*ret_r < 0)
			return 0;
		seq++;
	}
	/* The tail may be damaged. */
	return seq < seg->end ? chunk_missing(c, st, seq, seg->end - 1) : seq;
}

/* Lock held; numbers are the stream's own. */
static int read_stream(struct hf_spool *s, const struct hf_spool_stream_ *st, uint64_t from,
		       const struct limits *l, struct hf_spool_chunk *c)
{
	struct hf_segment *seg = st->first;
	uint64_t seq = from, next;
	int r = 0;

	while (seq <= st->last && !chunk_full(c, l, 0)) {
		while (seg && seg->end <= seq)
			seg = seg->next;
		if (!seg || seg->h.base > seq) {
			uint64_t last = seg && seg->h.base <= st->last ? seg->h.base - 1 : st->last;

			next = chunk_missing(c, st, seq, last);
		} else if (!seg->mem.data) {
			if (!seg->load_wanted) {
				seg->load_wanted = s->work = true;
				(void)pthread_cond_signal(&s->wake);
			}
			if (seq == from)
				return -EAGAIN;
			break;
		} else {
			next = read_segment(c, st, seg, seq, l, &r);
			if (r < 0)
				return r;
		}
		if (next == 0)
			break;
		seq = next;
	}
	return 0;
}

/* What the chunk covers, from its last item and gap; the portal's numbering. */
static void finish_chunk(struct hf_spool_chunk *c, const struct hf_spool_stream_ *st, uint64_t from)
{
	uint64_t last = from - 1;

	if (c->n_items)
		last = c->items[c->n_items - 1].seq;
	if (c->n_gaps && c->gaps[c->n_gaps - 1].last > last)
		last = c->gaps[c->n_gaps - 1].last;
	c->epoch = st->epoch;
	c->first = from - st->origin;
	c->last = last - st->origin;
	for (size_t i = 0; i < c->n_items; i++)
		c->items[i].seq -= st->origin;
	for (size_t i = 0; i < c->n_gaps; i++) {
		c->gaps[i].first -= st->origin;
		c->gaps[i].last -= st->origin;
	}
}

int hf_spool_read(struct hf_spool *s, uint64_t epoch, uint64_t from, size_t max_items,
		  size_t max_bytes, struct hf_spool_chunk *ret)
{
	const struct limits l = {max_items, max_bytes};
	const struct hf_spool_stream_ *st;
	int r;

	ret->n_items = ret->n_gaps = 0;
	ret->data.len = 0;
	(void)pthread_mutex_lock(&s->lock);
	st = hf_spool_stream_find(s, epoch);
	if (!st || from == 0) {
		r = -ENOENT;
	} else {
		r = read_stream(s, st, from + st->origin, &l, ret);
		if (r == 0)
			finish_chunk(ret, st, from + st->origin);
	}
	(void)pthread_mutex_unlock(&s->lock);
	if (r < 0)
		return r;
	return ret->n_items || ret->n_gaps ? 1 : 0;
}

/* ---- acknowledge ---------------------------------------------------------------------------- */

/* Everything of the stream up to acked may go. Lock held. */
static void advance(struct hf_spool *s, struct hf_spool_stream_ *st, uint64_t acked)
{
	struct hf_segment *seg, *next;

	s->stats.acked += acked - st->acked;
	st->acked = acked;
	/* Written with the next removal or at the end; older ones only mean sending twice. */
	s->positions_dirty = true;
	while (st->n_gaps && st->gaps[0].last <= acked)
		hf_spool_gap_delete(st, 0);
	if (st->n_gaps && st->gaps[0].first <= acked)
		st->gaps[0].first = acked + 1;
	for (seg = st->first; seg; seg = next) {
		next = seg->next;
		if (seg->active || seg->end > acked + 1)
			break;
		hf_segment_discard(s, seg);
	}
	if (st->acked == st->last && !st->first && s->current[st->prio] != st)
		hf_spool_stream_remove(s, st);
	if (s->work)
		(void)pthread_cond_signal(&s->wake);
}

int hf_spool_ack(struct hf_spool *s, uint64_t epoch, uint64_t acked)
{
	struct hf_spool_stream_ *st;
	int r = 0;

	(void)pthread_mutex_lock(&s->lock);
	st = hf_spool_stream_find(s, epoch);
	if (!st) {
		r = -ENOENT;
	} else {
		/* Beyond what we have sent it can only be nonsense; resume() is for that. */
		if (acked > st->last - st->origin)
			acked = st->last - st->origin;
		if (acked + st->origin > st->acked)
			advance(s, st, acked + st->origin);
	}
	(void)pthread_mutex_unlock(&s->lock);
	return r;
}

/*
 * The portal has more of this epoch than we: a disk or a machine was restored. What we hold under
 * these numbers is not what it has, so it moves to a new epoch and counts from 1 there.
 */
static void relabel(struct hf_spool *s, struct hf_spool_stream_ *st)
{
	st->epoch = hf_spool_new_epoch();
	st->origin = st->acked;
	for (struct hf_segment *seg = st->first; seg; seg = seg->next) {
		seg->h.epoch = st->epoch;
		seg->h.origin = st->origin;
		seg->relabel = true;
	}
	s->positions_dirty = s->work = true;
	(void)pthread_cond_signal(&s->wake);
}

int hf_spool_resume(struct hf_spool *s, uint64_t epoch, uint64_t acked)
{
	struct hf_spool_stream_ *st;
	int r = 0;

	(void)pthread_mutex_lock(&s->lock);
	st = hf_spool_stream_find(s, epoch);
	if (!st) {
		r = -ENOENT;
	} else if (acked > st->last - st->origin) {
		relabel(s, st);
		r = 1;
	} else if (acked + st->origin > st->acked) {
		advance(s, st, acked + st->origin);
	} else if (acked + st->origin < st->acked) {
		uint64_t first = acked + st->origin + 1;
		uint64_t have = st->first && st->first->h.base <= st->acked ? st->first->h.base
									    : st->acked + 1;

		s->stats.acked -= st->acked - (first - 1);
		st->acked = first - 1;
		if (have > first)
			hf_spool_gap_add(s, st, first, have - 1, HF_SPOOL_GAP_PORTAL_RESTORED,
					 have - first);
	}
	(void)pthread_mutex_unlock(&s->lock);
	return r;
}

int hf_spool_give_up(struct hf_spool *s, uint64_t epoch, uint64_t seq)
{
	struct hf_spool_stream_ *st;
	int r = -ENOENT;

	(void)pthread_mutex_lock(&s->lock);
	st = hf_spool_stream_find(s, epoch);
	if (st && seq + st->origin > st->acked && seq <= st->last - st->origin) {
		hf_spool_gap_add(s, st, seq + st->origin, seq + st->origin, HF_SPOOL_GAP_REFUSED,
				 1);
		r = 0;
	}
	(void)pthread_mutex_unlock(&s->lock);
	return r;
}

void hf_spool_stats(struct hf_spool *s, struct hf_spool_stats *ret)
{
	(void)pthread_mutex_lock(&s->lock);
	*ret = s->stats;
	ret->settled = s->settled;
	ret->disk_bytes = s->disk_bytes;
	ret->memory_bytes = s->memory_bytes;
	ret->segments = s->segments;
	ret->disk_error = s->disk_error;
	(void)pthread_mutex_unlock(&s->lock);
}
