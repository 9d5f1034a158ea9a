/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool's thread: everything that touches a file after the start.
 *
 * One turn: place queued records into the growing segment of their priority, write and sync what
 * grew, settle; then load, relabel and remove what is asked for. While the disk refuses the same
 * segments stay in memory, and each retry_ms the thread tries to write them out.
 *
 * Entered with the lock held, every function here returns with it held; those that do I/O drop it
 * in between and say so.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "userspace/agent/spool_internal.h"

static void lock(struct hf_spool *s)
{
	(void)pthread_mutex_lock(&s->lock);
}

static void unlock(struct hf_spool *s)
{
	(void)pthread_mutex_unlock(&s->lock);
}

int hf_spool_pwrite(struct hf_spool *s, int fd, const uint8_t *p, size_t len, size_t off)
{
	while (len > 0) {
		ssize_t n = s->ops->pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		off += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static size_t segment_limit(const struct hf_spool *s)
{
	size_t small = s->config.memory_bytes / 8;

	/* In memory the oldest segment is what is dropped: keep the steps small. */
	return s->disk_error && small < s->config.segment_bytes ? small : s->config.segment_bytes;
}

/*
 * While the disk refuses, numbers are sent before they are on disk; so they must be of a stream
 * that no later process goes on with. NULL on ENOMEM.
 */
static struct hf_spool_stream_ *volatile_stream(struct hf_spool *s, enum hf_spool_priority prio)
{
	struct hf_spool_stream_ *old = s->current[prio], *st;

	if (old->volatile_)
		return old;
	/* Nothing of it was ever seen outside. */
	if (old->last == 0 && !old->first) {
		old->volatile_ = true;
		return old;
	}
	st = hf_spool_stream_new(s, prio, 0);
	if (!st)
		return NULL;
	st->volatile_ = true;
	s->current[prio] = st;
	if (old->acked == old->last && !old->first)
		hf_spool_stream_remove(s, old);
	return st;
}

/* The growing segment of a priority, made when there is none. NULL on ENOMEM. */
static struct hf_segment *active_segment(struct hf_spool *s, enum hf_spool_priority prio)
{
	struct hf_spool_stream_ *st;
	struct hf_segment *seg = s->active[prio];

	if (seg)
		return seg;
	st = s->disk_error ? volatile_stream(s, prio) : s->current[prio];
	seg = st ? hf_segment_new(st, s->next_id, st->last + 1) : NULL;
	if (!seg)
		return NULL;
	if (hf_buf_reserve(&seg->mem, HF_SEG_HEADER_SIZE) < 0) {
		hf_segment_discard(s, seg);
		return NULL;
	}
	hf_seg_header_encode(&seg->h, seg->mem.data);
	seg->mem.len = HF_SEG_HEADER_SIZE;
	seg->active = true;
	s->active[prio] = seg;
	s->next_id++;
	return seg;
}

static void deactivate(struct hf_spool *s, struct hf_segment *seg)
{
	seg->active = false;
	s->active[seg->stream->prio] = NULL;
	seg->fd = hf_close(seg->fd);
	if (seg->on_disk) {
		/* It stays readable without a load until the next one is closed. */
		struct hf_segment *old = s->loaded[s->next_loaded];

		if (old)
			hf_buf_done(&old->mem);
		s->loaded[s->next_loaded] = seg;
		s->next_loaded = (s->next_loaded + 1) % HF_SPOOL_LOADED_MAX;
	}
}

static void lose(struct hf_spool *s, enum hf_spool_priority prio, uint64_t n)
{
	s->q_lost[prio][HF_SPOOL_GAP_QUEUE_FULL] += n;
	s->q_any_lost = true;
}

/* Gives what was lost its numbers: gap marks in the growing segments. */
static void mark_lost(struct hf_spool *s)
{
	s->q_any_lost = false;
	for (unsigned i = 0; i < _HF_SPOOL_PRIORITY_MAX * _HF_SPOOL_GAP_REASON_MAX; i++) {
		enum hf_spool_priority prio = i / _HF_SPOOL_GAP_REASON_MAX;
		enum hf_spool_gap_reason reason = i % _HF_SPOOL_GAP_REASON_MAX;
		struct hf_segment *seg;
		uint64_t n;

		if (!s->q_lost[prio][reason])
			continue;
		seg = active_segment(s, prio);
		/* Making a segment may have dropped a stream and added to the count. */
		n = s->q_lost[prio][reason];
		if (!seg || hf_seg_append_gap(&seg->mem, seg->h.id, seg->fill_end,
					      seg->fill_end + n - 1, reason) < 0) {
			/* Without memory for the mark the count waits, and so does the thread. */
			s->q_since_ns = hf_now_monotonic_ns() + 100 * HF_NS_PER_MS;
			s->q_any_lost = true;
			continue;
		}
		seg->fill_end += n;
		s->stats.dropped[reason] += n;
		s->q_lost[prio][reason] = 0;
	}
}

/*
 * Moves records from the queue into the growing segments until one is full. Returns true if there
 * is more; *ret_ticket is the last one that is placed (or lost).
 */
static bool place(struct hf_spool *s, uint64_t *ret_ticket)
{
	size_t limit = segment_limit(s);

	while (s->q_first) {
		struct hf_spool_queued *q = s->q_first;
		struct hf_segment *seg = active_segment(s, q->prio);

		if (seg && seg->mem.len > HF_SEG_HEADER_SIZE &&
		    seg->mem.len + HF_REC_HEADER_SIZE + q->len > limit)
			return true;
		if (!seg || hf_seg_append(&seg->mem, seg->h.id, seg->fill_end, q->data, q->len) < 0)
			lose(s, q->prio, 1);
		else
			seg->fill_end++;
		*ret_ticket = q->ticket;
		s->q_first = q->next;
		s->q_bytes -= sizeof(*q) + q->len;
		free(q);
	}
	s->q_end = &s->q_first;
	s->q_urgent = false;
	if (s->q_any_lost)
		mark_lost(s);
	*ret_ticket = s->next_ticket - 1;
	return false;
}

/* ---- the disk ------------------------------------------------------------------------------- */

/* Creates the segment's file. Without the lock. */
static int create_file(struct hf_spool *s, struct hf_segment *seg)
{
	char name[24];
	int fd;

	if (s->dirfd < 0)
		return -ENOENT;
	hf_segment_name(seg->h.id, name);
	fd = s->ops->openat(s->dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
			    0600);
	if (fd < 0)
		return -errno;
	seg->fd = fd;
	return 0;
}

/* Writes [from, to) of the segment's bytes and makes them durable. Without the lock. */
static int write_out(struct hf_spool *s, struct hf_segment *seg, size_t from, size_t to)
{
	bool is_new = seg->fd < 0;
	int r = 0;

	if (is_new)
		r = create_file(s, seg);
	if (r == 0)
		r = hf_spool_pwrite(s, seg->fd, seg->mem.data + from, to - from, from);
	if (r == 0 && s->ops->fsync(seg->fd) < 0)
		r = -errno;
	if (r == 0 && is_new && s->ops->fsync(s->dirfd) < 0)
		r = -errno;
	if (r < 0 && seg->fd >= 0) {
		char name[24];

		/* What was not settled must not come back at the next start. */
		hf_segment_name(seg->h.id, name);
		if (from == 0)
			(void)s->ops->unlinkat(s->dirfd, name, 0);
		else
			(void)!ftruncate(seg->fd, (off_t)from);
		seg->fd = hf_close(seg->fd);
	}
	return r;
}

static void settle_segment(struct hf_spool *s, struct hf_segment *seg, bool on_disk)
{
	uint64_t *total = on_disk ? &s->disk_bytes : &s->memory_bytes;

	if (on_disk && !seg->on_disk)
		s->segments++;
	seg->on_disk = on_disk;
	*total += seg->mem.len - seg->bytes;
	seg->bytes = seg->mem.len;
	seg->end = seg->fill_end;
	seg->stream->last = seg->end - 1;
	s->tell_readable = true;
}

static void refuse(struct hf_spool *s, int r)
{
	s->stats.write_errors++;
	s->retry_at_ns = hf_now_monotonic_ns() + s->config.retry_ms * HF_NS_PER_MS;
	if (!s->disk_error || s->disk_error != r)
		s->tell_disk = true;
	s->disk_error = r;
}

/*
 * What is placed but not settled moves to a segment in memory, with a numbering of its own.
 * -ENOMEM: some of it is lost; the caller counts.
 */
static int move_to_memory(struct hf_spool *s, enum hf_spool_priority prio, uint64_t *ret_moved)
{
	struct hf_segment *old = s->active[prio], *seg;
	struct hf_buf records = old->mem;
	struct hf_seg_record rec;
	struct hf_seg_iter it;
	int r;

	*ret_moved = 0;
	old->mem = (struct hf_buf){};
	hf_seg_iter_init(&it, &old->h, records.data, records.len);
	it.off = old->bytes ? old->bytes : HF_SEG_HEADER_SIZE;
	it.next = old->end;
	/* What is settled of it stays a closed segment, loaded when somebody wants to read it. */
	s->active[prio] = NULL;
	old->active = false;
	if (old->bytes == 0)
		hf_segment_discard(s, old);

	seg = active_segment(s, prio);
	r = seg ? 0 : -ENOMEM;
	while (r == 0 && hf_seg_next(&it, &rec)) {
		uint64_t n = rec.last - rec.seq + 1, next = seg->fill_end;

		r = rec.is_gap ? hf_seg_append_gap(&seg->mem, seg->h.id, next, next + n - 1,
						   rec.reason)
			       : hf_seg_append(&seg->mem, seg->h.id, next, rec.data, rec.len);
		if (r == 0) {
			seg->fill_end += n;
			*ret_moved += n;
		}
	}
	hf_buf_done(&records);
	return r;
}

static void keep_in_memory(struct hf_spool *s)
{
	for (unsigned p = 0; p < _HF_SPOOL_PRIORITY_MAX; p++) {
		struct hf_segment *seg = s->active[p];

		if (seg && seg->mem.len > seg->bytes && seg->fill_end > seg->end)
			settle_segment(s, seg, false);
	}
	s->settled_in_memory = true;
	while (s->memory_bytes > s->config.memory_bytes &&
	       hf_spool_drop_oldest(s, false, HF_SPOOL_GAP_MEMORY_FULL))
		;
}

static void enter_memory(struct hf_spool *s, int r)
{
	refuse(s, r);
	for (unsigned p = 0; p < _HF_SPOOL_PRIORITY_MAX; p++) {
		struct hf_segment *seg = s->active[p];
		uint64_t placed = seg ? seg->fill_end - seg->end : 0, moved;

		if (!seg)
			continue;
		if (placed > 0) {
			if (move_to_memory(s, p, &moved) < 0)
				lose(s, p, placed - moved);
		} else {
			deactivate(s, seg);
			if (seg->bytes == 0)
				hf_segment_discard(s, seg);
		}
	}
}

/* Writes what grew. Drops the lock. */
static void flush(struct hf_spool *s)
{
	for (unsigned p = 0; p < _HF_SPOOL_PRIORITY_MAX && !s->disk_error; p++) {
		struct hf_segment *seg = s->active[p];
		size_t from, to;
		int r;

		if (!seg || seg->fill_end == seg->end)
			continue;
		from = seg->bytes;
		to = seg->mem.len;
		seg->busy = true;
		unlock(s);
		r = write_out(s, seg, from, to);
		lock(s);
		seg->busy = false;
		s->stats.syncs++;
		if (r < 0)
			enter_memory(s, r);
		else
			settle_segment(s, seg, true);
	}
	if (s->disk_error) {
		keep_in_memory(s);
		return;
	}
	while ((s->disk_bytes > s->config.max_bytes || s->segments > HF_SPOOL_SEGMENTS_MAX) &&
	       hf_spool_drop_oldest(s, true, HF_SPOOL_GAP_SPOOL_FULL))
		;
}

static void close_full(struct hf_spool *s)
{
	size_t limit = segment_limit(s);

	for (unsigned p = 0; p < _HF_SPOOL_PRIORITY_MAX; p++) {
		struct hf_segment *seg = s->active[p];
		/* The next record of this priority may be the one that did not fit. */
		size_t next = s->q_first && s->q_first->prio == p
				      ? HF_REC_HEADER_SIZE + s->q_first->len
				      : 0;

		if (seg && seg->bytes > HF_SEG_HEADER_SIZE && seg->bytes + next >= limit)
			deactivate(s, seg);
	}
}

/* ---- positions ------------------------------------------------------------------------------ */

static void snapshot(struct hf_spool *s, struct hf_positions *p)
{
	*p = (struct hf_positions){.generation = s->generation + 1, .next_id = s->next_id};
	for (size_t i = 0; i < s->n_streams; i++) {
		const struct hf_spool_stream_ *st = s->streams[i];

		p->streams[p->n_streams++] = (struct hf_position){
			.epoch = st->epoch,
			.origin = st->origin,
			.acked = st->acked,
			.last = st->last,
			.prio = st->prio,
			.volatile_ = st->volatile_,
		};
		for (size_t k = 0; k < st->n_gaps && p->n_gaps < HF_SPOOL_GAPS_MAX; k++)
			p->gaps[p->n_gaps++] = (struct hf_position_gap){st->epoch, st->gaps[k]};
	}
}

/* Drops the lock. */
static int write_positions(struct hf_spool *s)
{
	uint8_t slot[HF_POSITIONS_SLOT];
	struct hf_positions p;
	int r = 0;

	snapshot(s, &p);
	s->positions_dirty = false;
	unlock(s);
	if (s->posfd < 0) {
		r = -ENOENT;
	} else {
		hf_positions_encode(&p, slot);
		r = hf_spool_pwrite(s, s->posfd, slot, sizeof(slot),
				    (p.generation & 1) * HF_POSITIONS_SLOT);
		if (r == 0 && s->ops->fsync(s->posfd) < 0)
			r = -errno;
	}
	lock(s);
	if (r == 0)
		s->generation = p.generation;
	else
		s->positions_dirty = true;
	return r;
}

/* Removes files that nobody needs, once that is written down. Drops the lock. */
static void empty_trash(struct hf_spool *s)
{
	struct hf_spool_trash *t = s->trash;

	if (!t || s->posfd < 0)
		return;
	s->trash = NULL;
	if (write_positions(s) < 0) {
		struct hf_spool_trash *last = t;

		/* A file too many does no harm; the next turn tries again. */
		while (last->next)
			last = last->next;
		last->next = s->trash;
		s->trash = t;
		return;
	}
	unlock(s);
	while (t) {
		struct hf_spool_trash *next = t->next;
		char name[24];

		hf_segment_name(t->id, name);
		(void)s->ops->unlinkat(s->dirfd, name, 0);
		free(t);
		t = next;
	}
	lock(s);
	/* Room was made: no need to wait. */
	if (s->disk_error == -ENOSPC || s->disk_error == -EDQUOT)
		s->retry_at_ns = 0;
}

/* ---- load and relabel ----------------------------------------------------------------------- */

static int read_segment_file(struct hf_spool *s, const struct hf_segment *seg, struct hf_buf *ret)
{
	_cleanup_close_ int fd = -1;
	char name[24];
	ssize_t n;
	int r;

	hf_segment_name(seg->h.id, name);
	fd = s->dirfd < 0 ? -1 : openat(s->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	r = hf_buf_reserve(ret, seg->bytes + 1);
	if (r < 0)
		return r;
	/* What cannot be read is found missing by the reader and becomes a gap. */
	n = fd < 0 ? 0 : hf_read_full(fd, ret->data, seg->bytes);
	ret->len = n < 0 ? 0 : (size_t)n;
	return 0;
}

/* Numbers of the segment that no good record or gap mark has. */
static uint64_t count_missing(const struct hf_segment *seg, const struct hf_buf *mem,
			      size_t *ret_damaged)
{
	uint64_t have = 0, all = seg->end - seg->h.base;
	struct hf_seg_record rec;
	struct hf_seg_iter it;

	hf_seg_iter_init(&it, &seg->h, mem->data, mem->len);
	while (hf_seg_next(&it, &rec))
		have += rec.last - rec.seq + 1;
	*ret_damaged = it.skipped + (seg->bytes > it.good_end ? seg->bytes - it.good_end : 0);
	return have < all ? all - have : 0;
}

/* Drops the lock. */
static void load(struct hf_spool *s, struct hf_segment *seg)
{
	struct hf_segment *old;
	uint64_t missing = 0;
	size_t damaged = 0;
	struct hf_buf mem = {};
	int r;

	seg->busy = true;
	seg->load_wanted = false;
	unlock(s);
	r = read_segment_file(s, seg, &mem);
	if (r == 0)
		missing = count_missing(seg, &mem, &damaged);
	lock(s);
	seg->busy = false;
	if (seg->dead || r < 0) {
		hf_buf_done(&mem);
		if (seg->dead)
			hf_segment_free(seg);
		return;
	}
	if (!seg->checked) {
		seg->checked = true;
		s->stats.dropped[HF_SPOOL_GAP_CORRUPT] += missing;
		s->stats.corrupt_bytes += damaged;
	}
	/* The reader may have asked again meanwhile. */
	seg->load_wanted = false;
	old = s->loaded[s->next_loaded];
	if (old)
		hf_buf_done(&old->mem);
	s->loaded[s->next_loaded] = seg;
	s->next_loaded = (s->next_loaded + 1) % HF_SPOOL_LOADED_MAX;
	hf_buf_done(&seg->mem);
	seg->mem = mem;
	seg->cursor_off = HF_SEG_HEADER_SIZE;
	seg->cursor_next = seg->h.base;
	s->tell_readable = true;
}

/* Gives the file its stream's new epoch. Drops the lock. */
static void relabel(struct hf_spool *s, struct hf_segment *seg)
{
	uint8_t header[HF_SEG_HEADER_SIZE];
	char name[24];
	int fd;

	hf_seg_header_encode(&seg->h, header);
	if (seg->mem.len >= HF_SEG_HEADER_SIZE)
		memcpy(seg->mem.data, header, sizeof(header));
	seg->relabel = false;
	if (!seg->on_disk)
		return;
	hf_segment_name(seg->h.id, name);
	seg->busy = true;
	unlock(s);
	fd = s->dirfd < 0 ? -1 : s->ops->openat(s->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
	/* On failure the next process finds the old epoch, and again that the portal has more. */
	if (fd >= 0 && hf_spool_pwrite(s, fd, header, sizeof(header), 0) == 0)
		(void)s->ops->fsync(fd);
	(void)hf_close(fd);
	lock(s);
	seg->busy = false;
	if (seg->dead)
		hf_segment_free(seg);
}

/* One segment that wants something; the list may have changed whenever the lock was dropped. */
static struct hf_segment *find_wanting(struct hf_spool *s)
{
	for (size_t i = 0; i < s->n_streams; i++)
		for (struct hf_segment *seg = s->streams[i]->first; seg; seg = seg->next)
			if (seg->relabel || (seg->load_wanted && !seg->active))
				return seg;
	return NULL;
}

static void serve(struct hf_spool *s)
{
	struct hf_segment *seg;

	s->work = false;
	while ((seg = find_wanting(s))) {
		if (seg->relabel)
			relabel(s, seg);
		else
			load(s, seg);
	}
	empty_trash(s);
}

/* ---- a refusing disk ------------------------------------------------------------------------ */

static struct hf_segment *find_unwritten(struct hf_spool *s)
{
	for (size_t i = 0; i < s->n_streams; i++)
		for (struct hf_segment *seg = s->streams[i]->first; seg; seg = seg->next)
			if (!seg->on_disk && seg->bytes > 0)
				return seg;
	return NULL;
}

/* The directory may have been away, or removed and made anew. Drops the lock. */
static int reopen(struct hf_spool *s)
{
	struct stat st;

	if (s->dirfd >= 0 && s->posfd >= 0 && fstat(s->dirfd, &st) == 0 && st.st_nlink > 0)
		return 0;
	/*
	 * Recovery adds streams, so it has the lock; the loop may wait here for a directory scan.
	 * That is once per incident, on a disk that was away before.
	 */
	s->posfd = hf_close(s->posfd);
	s->lockfd = hf_close(s->lockfd);
	s->dirfd = hf_close(s->dirfd);
	return hf_spool_recover(s);
}

/* Tries to write out what is in memory. Drops the lock. */
static void retry_disk(struct hf_spool *s)
{
	struct hf_segment *seg;
	int r;

	r = reopen(s);
	while (r == 0 && (seg = find_unwritten(s))) {
		size_t to = seg->bytes;

		seg->busy = true;
		unlock(s);
		r = write_out(s, seg, 0, to);
		if (r == 0 && !seg->active)
			seg->fd = hf_close(seg->fd);
		lock(s);
		seg->busy = false;
		if (seg->dead) {
			if (r == 0)
				hf_spool_trash_add(s, seg->h.id);
			hf_segment_free(seg);
			continue;
		}
		if (r < 0)
			break;
		seg->on_disk = true;
		s->segments++;
		s->memory_bytes -= seg->bytes;
		s->disk_bytes += seg->bytes;
		if (!seg->active)
			hf_buf_done(&seg->mem);
	}
	if (r == 0)
		r = write_positions(s);
	if (r < 0) {
		refuse(s, r);
		return;
	}
	s->disk_error = 0;
	s->tell_disk = true;
}

/* ---- the thread ----------------------------------------------------------------------------- */

static bool has_queued(const struct hf_spool *s)
{
	return s->q_first || s->q_any_lost;
}

/* Until when it may sleep: 0 not at all, UINT64_MAX for ever. */
static uint64_t sleep_until(const struct hf_spool *s)
{
	uint64_t until = UINT64_MAX;

	if (s->stop || s->work)
		return 0;
	if (has_queued(s)) {
		if (s->q_bytes > s->config.queue_bytes / 2)
			return 0;
		until = s->q_since_ns +
			(s->q_urgent ? s->config.urgent_linger_ms : s->config.linger_ms) *
				HF_NS_PER_MS;
	}
	if (s->disk_error && s->retry_at_ns < until)
		until = s->retry_at_ns;
	return until;
}

static void wait_for_work(struct hf_spool *s)
{
	uint64_t until;

	while ((until = sleep_until(s)) > hf_now_monotonic_ns()) {
		struct timespec ts = {.tv_sec = (time_t)(until / HF_NS_PER_S),
				      .tv_nsec = (long)(until % HF_NS_PER_S)};

		if (until == UINT64_MAX)
			(void)pthread_cond_wait(&s->wake, &s->lock);
		else
			(void)pthread_cond_timedwait(&s->wake, &s->lock, &ts);
	}
}

static void write_queued(struct hf_spool *s)
{
	bool more = true;

	while (more) {
		uint64_t ticket = s->settled;

		more = place(s, &ticket);
		flush(s);
		close_full(s);
		if (ticket > s->settled) {
			s->settled = ticket;
			s->tell_settled = true;
			hf_spool_notify(s);
		}
	}
}

void *hf_spool_writer(void *spool)
{
	struct hf_spool *s = spool;

	lock(s);
	for (;;) {
		wait_for_work(s);
		if (s->disk_error && hf_now_monotonic_ns() >= s->retry_at_ns)
			retry_disk(s);
		if (has_queued(s))
			write_queued(s);
		serve(s);
		if (s->tell_settled || s->tell_readable || s->tell_disk)
			hf_spool_notify(s);
		if (s->stop && !s->q_first)
			break;
	}
	if (s->q_any_lost)
		write_queued(s);
	if (s->disk_error)
		retry_disk(s);
	if (s->positions_dirty && !s->disk_error)
		(void)write_positions(s);
	s->running = false;
	(void)pthread_cond_signal(&s->idle);
	unlock(s);
	return NULL;
}
