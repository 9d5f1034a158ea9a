/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a spool directory holds at the start: a lock, the positions, segments. Whatever a crash, a
 * full disk or somebody's hands left is made sense of or removed and counted; nothing here fails
 * because of what is in the directory, only because of what the disk refuses.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "userspace/agent/spool_internal.h"

#define LOCK_NAME      "lock"
#define POSITIONS_NAME "positions"

void hf_segment_name(uint64_t id, char dst[static 24])
{
	(void)snprintf(dst, 24, "%016" PRIx64 ".seg", id);
}

static bool parse_name(const char *name, uint64_t *ret_id)
{
	char again[24];
	uint8_t bytes[8];
	char hex[17];

	if (strlen(name) != 20)
		return false;
	memcpy(hex, name, 16);
	hex[16] = '\0';
	if (hf_hex_decode(bytes, sizeof(bytes), hex) < 0)
		return false;
	*ret_id = 0;
	for (size_t i = 0; i < 8; i++)
		*ret_id = *ret_id << 8 | bytes[i];
	hf_segment_name(*ret_id, again);
	return hf_streq(name, again);
}

static int open_dir(struct hf_spool *s)
{
	_cleanup_close_ int dirfd = -1, lockfd = -1;

	if (mkdir(s->config.dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	dirfd = open(s->config.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	lockfd = openat(dirfd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	/* A disk that became read-only: what is there can still be read and sent. */
	if (lockfd < 0 && (errno == EROFS || errno == EACCES))
		lockfd = openat(dirfd, LOCK_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (lockfd < 0)
		return -errno;
	if (flock(lockfd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	s->dirfd = TAKE_FD(dirfd);
	s->lockfd = TAKE_FD(lockfd);
	return 0;
}

/* Both slots are there from the beginning, so that overwriting them needs no space later. */
static int open_positions(struct hf_spool *s, struct hf_positions *ret)
{
	static const uint8_t zero[2 * HF_POSITIONS_SLOT];
	_cleanup_close_ int fd = -1;
	struct stat st;

	*ret = (struct hf_positions){};
	fd = s->ops->openat(s->dirfd, POSITIONS_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
			    0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size < (off_t)sizeof(zero)) {
		size_t have = (size_t)st.st_size;
		int r = hf_spool_pwrite(s, fd, zero, sizeof(zero) - have, have);

		if (r == 0 && s->ops->fsync(fd) < 0)
			r = -errno;
		if (r < 0)
			return r;
	}
	for (unsigned i = 0; i < 2; i++) {
		uint8_t slot[HF_POSITIONS_SLOT];
		struct hf_positions p;

		if (pread(fd, slot, sizeof(slot), (off_t)(i * sizeof(slot))) ==
			    (ssize_t)sizeof(slot) &&
		    hf_positions_decode(slot, sizeof(slot), &p) == 0 &&
		    p.generation > ret->generation)
			*ret = p;
	}
	s->generation = ret->generation;
	s->posfd = TAKE_FD(fd);
	return 0;
}

static int adopt_positions(struct hf_spool *s, const struct hf_positions *p)
{
	if (p->next_id > s->next_id)
		s->next_id = p->next_id;
	for (size_t i = 0; i < p->n_streams; i++) {
		const struct hf_position *pos = &p->streams[i];
		struct hf_spool_stream_ *st;

		if (hf_spool_stream_find(s, pos->epoch) || s->n_streams == HF_SPOOL_STREAMS_MAX)
			continue;
		st = hf_spool_stream_new(s, pos->prio, pos->epoch);
		if (!st)
			return -ENOMEM;
		st->origin = pos->origin;
		st->acked = pos->acked;
		st->last = pos->last;
		st->volatile_ = pos->volatile_;
	}
	for (size_t i = 0; i < p->n_gaps; i++) {
		struct hf_spool_stream_ *st = hf_spool_stream_find(s, p->gaps[i].epoch);

		/* Counted when they were made. */
		if (st)
			hf_spool_gap_add(s, st, p->gaps[i].gap.first, p->gaps[i].gap.last,
					 p->gaps[i].gap.reason, 0);
	}
	return 0;
}

struct found {
	uint64_t id;
};

static int compare_found(const void *a, const void *b)
{
	uint64_t x = ((const struct found *)a)->id, y = ((const struct found *)b)->id;

	return x < y ? -1 : x > y;
}

static int list_segments(struct hf_spool *s, struct found **ret, size_t *ret_n)
{
	_cleanup_free_ struct found *found = NULL;
	size_t n = 0, cap = 0;
	struct dirent *e;
	DIR *d;
	int fd;

	fd = openat(s->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		int r = -errno;

		(void)hf_close(fd);
		return r;
	}
	while ((e = readdir(d))) {
		uint64_t id;

		/* Somebody's other files are none of our business. */
		if (!parse_name(e->d_name, &id))
			continue;
		if (n == cap) {
			struct found *more =
				reallocarray(found, cap = cap ? cap * 2 : 64, sizeof(*found));

			if (!more) {
				(void)closedir(d);
				return -ENOMEM;
			}
			found = more;
		}
		found[n++].id = id;
	}
	(void)closedir(d);
	if (n)
		qsort(found, n, sizeof(*found), compare_found);
	*ret = TAKE_PTR(found);
	*ret_n = n;
	return 0;
}

static void bad_file(struct hf_spool *s, uint64_t id, uint64_t bytes)
{
	s->stats.corrupt_bytes += bytes;
	hf_spool_trash_add(s, id);
}

static bool have_segment(const struct hf_spool *s, uint64_t id)
{
	for (size_t i = 0; i < s->n_streams; i++)
		for (const struct hf_segment *seg = s->streams[i]->first; seg; seg = seg->next)
			if (seg->h.id == id)
				return true;
	return false;
}

/* Makes a struct of the file, or gets rid of it. */
static int adopt_segment(struct hf_spool *s, uint64_t id)
{
	_cleanup_close_ int fd = -1;
	uint8_t bytes[HF_SEG_HEADER_SIZE];
	struct hf_spool_stream_ *st;
	struct hf_seg_header h;
	struct hf_segment *seg;
	char name[24];
	struct stat stat;
	ssize_t n;

	/* Recovery runs again when a directory that was away is back. */
	if (have_segment(s, id))
		return 0;
	if (id >= s->next_id)
		s->next_id = id + 1;
	hf_segment_name(id, name);
	fd = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode)) {
		bad_file(s, id, 0);
		return 0;
	}
	n = hf_read_full(fd, bytes, sizeof(bytes));
	if (n < (ssize_t)sizeof(bytes) || stat.st_size > INT32_MAX) {
		/* Killed between creating it and the first sync: nothing of it was settled. */
		s->stats.torn_bytes += (uint64_t)stat.st_size;
		hf_spool_trash_add(s, id);
		return 0;
	}
	if (hf_seg_header_decode(bytes, sizeof(bytes), &h) < 0 || h.id != id) {
		bad_file(s, id, (uint64_t)stat.st_size);
		return 0;
	}
	st = hf_spool_stream_find(s, h.epoch);
	if (!st) {
		if (s->n_streams == HF_SPOOL_STREAMS_MAX) {
			bad_file(s, id, (uint64_t)stat.st_size);
			return 0;
		}
		st = hf_spool_stream_new(s, h.prio, h.epoch);
		if (!st)
			return -ENOMEM;
		st->origin = h.origin;
		st->acked = st->last = h.base - 1;
		st->volatile_ = h.volatile_;
	}
	if (st->prio != h.prio || (st->tail && st->tail->h.base >= h.base)) {
		bad_file(s, id, (uint64_t)stat.st_size);
		return 0;
	}
	if (st->tail)
		st->tail->end = st->tail->fill_end = h.base;
	seg = hf_segment_new(st, id, h.base);
	if (!seg)
		return -ENOMEM;
	seg->h = h;
	seg->on_disk = true;
	seg->bytes = (size_t)stat.st_size;
	s->disk_bytes += seg->bytes;
	s->segments++;
	return 0;
}

/* Where the last segment of a stream really ends; what is behind is torn and cut off. */
static int examine_tail(struct hf_spool *s, struct hf_segment *seg)
{
	_cleanup_free_ char *data = NULL;
	struct hf_seg_record rec;
	struct hf_seg_iter it;
	uint64_t have = 0;
	size_t len = 0;
	char name[24];
	int r;

	hf_segment_name(seg->h.id, name);
	r = hf_read_file(s->dirfd, name, seg->bytes, &data, &len);
	if (r == -ENOMEM)
		return r;
	/* Unreadable: its records are missing up to what the positions say was there. */
	if (r < 0 || len < HF_SEG_HEADER_SIZE)
		return 0;
	hf_seg_iter_init(&it, &seg->h, data, len);
	while (hf_seg_next(&it, &rec))
		have += rec.last - rec.seq + 1;
	seg->end = seg->fill_end = it.next;
	seg->checked = true;
	s->stats.dropped[HF_SPOOL_GAP_CORRUPT] += it.next - seg->h.base - have;
	s->stats.corrupt_bytes += it.skipped;
	if (it.good_end < len) {
		_cleanup_close_ int fd = openat(s->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

		s->stats.torn_bytes += len - it.good_end;
		/* If it fails, the bytes are skipped again at the next start. */
		if (fd >= 0)
			(void)!ftruncate(fd, (off_t)it.good_end);
	}
	s->disk_bytes -= seg->bytes - it.good_end;
	seg->bytes = it.good_end;
	return 0;
}

/* Names the newest records, for who has to know which of its last ones were saved. */
static void tell_recovered(struct hf_spool *s, const struct hf_spool_stream_ *st)
{
	/* What the queue may have held at most, and the segment that was being filled. */
	size_t enough = s->config.queue_bytes + s->config.segment_bytes, behind = 0;
	const struct hf_segment *seg;

	if (!s->config.recovered)
		return;
	for (seg = st->first; seg; seg = seg->next)
		behind += seg->bytes;
	for (seg = st->first; seg; seg = seg->next) {
		_cleanup_free_ char *data = NULL;
		struct hf_seg_record rec;
		struct hf_seg_iter it;
		char name[24];
		size_t len;

		behind -= seg->bytes;
		if (behind > enough)
			continue;
		hf_segment_name(seg->h.id, name);
		if (hf_read_file(s->dirfd, name, seg->bytes, &data, &len) < 0 ||
		    len < HF_SEG_HEADER_SIZE)
			continue;
		hf_seg_iter_init(&it, &seg->h, data, len);
		while (hf_seg_next(&it, &rec))
			if (!rec.is_gap)
				s->config.recovered(rec.data, rec.len, s->userdata);
	}
}

static int settle_stream(struct hf_spool *s, struct hf_spool_stream_ *st)
{
	int r;

	if (st->tail) {
		r = examine_tail(s, st->tail);
		if (r < 0)
			return r;
		if (st->tail->end - 1 > st->last)
			st->last = st->tail->end - 1;
		if (st->tail->end == st->tail->h.base)
			hf_segment_discard(s, st->tail);
	}
	while (st->first && st->first->end <= st->acked + 1)
		hf_segment_discard(s, st->first);
	return 0;
}

static void count_absent(struct hf_spool *s, const struct hf_spool_stream_ *st)
{
	uint64_t next = st->acked + 1;

	/* Between segments, and between the last one and what the positions remember. */
	for (const struct hf_segment *seg = st->first;; seg = seg->next) {
		uint64_t until = seg ? seg->h.base : st->last + 1, absent;

		absent = until > next ? until - next : 0;
		for (size_t i = 0; i < st->n_gaps && absent; i++) {
			uint64_t first = st->gaps[i].first > next ? st->gaps[i].first : next;
			uint64_t last = st->gaps[i].last < until - 1 ? st->gaps[i].last : until - 1;

			if (last >= first)
				absent -= last - first + 1;
		}
		s->stats.dropped[HF_SPOOL_GAP_CORRUPT] += absent;
		if (!seg)
			return;
		next = seg->end > next ? seg->end : next;
	}
}

/* The youngest stream of each priority goes on, unless its numbering cannot be trusted. */
static void choose_current(struct hf_spool *s)
{
	for (size_t i = s->n_streams; i-- > 0;) {
		struct hf_spool_stream_ *st = s->streams[i];
		bool youngest = i + 1 == s->n_streams || s->streams[i + 1]->prio != st->prio;

		if (youngest && !s->current[st->prio] && !st->volatile_)
			s->current[st->prio] = st;
		else if (s->current[st->prio] != st && st->acked == st->last && !st->first)
			hf_spool_stream_remove(s, st);
	}
}

int hf_spool_recover(struct hf_spool *s)
{
	_cleanup_free_ struct found *found = NULL;
	struct hf_positions positions;
	size_t n = 0;
	int r, writable;

	r = open_dir(s);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->n_streams; i++)
		s->streams[i]->examined = true;
	writable = open_positions(s, &positions);
	r = adopt_positions(s, &positions);
	if (r == 0)
		r = list_segments(s, &found, &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = adopt_segment(s, found[i].id);
	for (size_t i = 0; r == 0 && i < s->n_streams; i++) {
		if (s->streams[i]->examined)
			continue;
		/* First, while segments that are acknowledged are still there. */
		tell_recovered(s, s->streams[i]);
		r = settle_stream(s, s->streams[i]);
		if (r == 0)
			count_absent(s, s->streams[i]);
	}
	if (r < 0)
		return r;
	choose_current(s);
	s->tell_readable = n > 0;
	return writable;
}
