/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams, their segments and gaps in memory: making, finding, dropping. Everything here is called
 * with the lock held and touches no file; a file that is not needed any more becomes trash.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/random.h"
#include "userspace/agent/spool_internal.h"

struct hf_segment *hf_segment_free(struct hf_segment *seg)
{
	if (!seg)
		return NULL;
	(void)hf_close(seg->fd);
	hf_buf_done(&seg->mem);
	free(seg);
	return NULL;
}

struct hf_segment *hf_segment_new(struct hf_spool_stream_ *st, uint64_t id, uint64_t base)
{
	struct hf_segment *seg = calloc(1, sizeof(*seg));

	if (!seg)
		return NULL;
	seg->fd = -1;
	seg->stream = st;
	seg->h = (struct hf_seg_header){
		.id = id,
		.epoch = st->epoch,
		.base = base,
		.origin = st->origin,
		.prio = st->prio,
		.volatile_ = st->volatile_,
	};
	seg->end = seg->fill_end = base;
	seg->cursor_off = HF_SEG_HEADER_SIZE;
	seg->cursor_next = base;
	if (st->tail)
		st->tail->next = seg;
	else
		st->first = seg;
	st->tail = seg;
	return seg;
}

void hf_spool_trash_add(struct hf_spool *s, uint64_t id)
{
	struct hf_spool_trash *t = malloc(sizeof(*t));

	/* Out of memory: the file stays until the next start finds it acknowledged. */
	if (!t)
		return;
	t->id = id;
	t->next = s->trash;
	s->trash = t;
	s->positions_dirty = s->work = true;
}

static void unload(struct hf_spool *s, struct hf_segment *seg)
{
	for (size_t i = 0; i < HF_SPOOL_LOADED_MAX; i++)
		if (s->loaded[i] == seg)
			s->loaded[i] = NULL;
}

void hf_segment_discard(struct hf_spool *s, struct hf_segment *seg)
{
	struct hf_spool_stream_ *st = seg->stream;
	struct hf_segment **p = &st->first, *prev = NULL;

	while (*p != seg) {
		prev = *p;
		p = &prev->next;
	}
	*p = seg->next;
	if (st->tail == seg)
		st->tail = prev;
	unload(s, seg);
	if (s->active[st->prio] == seg)
		s->active[st->prio] = NULL;
	if (seg->on_disk) {
		s->disk_bytes -= seg->bytes;
		s->segments--;
		hf_spool_trash_add(s, seg->h.id);
	} else {
		s->memory_bytes -= seg->bytes;
	}
	seg->stream = NULL;
	seg->next = NULL;
	if (seg->busy)
		seg->dead = true;
	else
		hf_segment_free(seg);
}

void hf_spool_gap_delete(struct hf_spool_stream_ *st, size_t i)
{
	memmove(&st->gaps[i], &st->gaps[i + 1], (st->n_gaps - i - 1) * sizeof(*st->gaps));
	st->n_gaps--;
}

/* Makes room by joining the two gaps that are nearest; what lies between is lost as well. */
static void gaps_squeeze(struct hf_spool *s, struct hf_spool_stream_ *st)
{
	uint64_t best = UINT64_MAX;
	size_t at = 0;

	for (size_t i = 0; i + 1 < st->n_gaps; i++) {
		uint64_t between = st->gaps[i + 1].first - st->gaps[i].last - 1;

		if (between < best) {
			best = between;
			at = i;
		}
	}
	s->stats.dropped[st->gaps[at].reason] += best;
	st->gaps[at].last = st->gaps[at + 1].last;
	hf_spool_gap_delete(st, at + 1);
}

void hf_spool_gap_add(struct hf_spool *s, struct hf_spool_stream_ *st, uint64_t first,
		      uint64_t last, enum hf_spool_gap_reason reason, uint64_t numbers)
{
	size_t i = 0;

	if (last < first)
		return;
	s->stats.dropped[reason] += numbers;
	s->positions_dirty = true;
	while (i < st->n_gaps && st->gaps[i].last < first)
		i++;
	/* Swallow what it overlaps: a number is in one gap only. */
	while (i < st->n_gaps && st->gaps[i].first <= last) {
		if (st->gaps[i].first < first)
			first = st->gaps[i].first;
		if (st->gaps[i].last > last)
			last = st->gaps[i].last;
		hf_spool_gap_delete(st, i);
	}
	if (i > 0 && st->gaps[i - 1].last + 1 == first && st->gaps[i - 1].reason == reason) {
		st->gaps[i - 1].last = last;
		return;
	}
	if (i < st->n_gaps && st->gaps[i].first == last + 1 && st->gaps[i].reason == reason) {
		st->gaps[i].first = first;
		return;
	}
	if (st->n_gaps == HF_SPOOL_GAPS_MAX) {
		gaps_squeeze(s, st);
		i = 0;
		while (i < st->n_gaps && st->gaps[i].last < first)
			i++;
		if (i < st->n_gaps && st->gaps[i].first <= first)
			return; /* it lay between the two that were joined */
	}
	memmove(&st->gaps[i + 1], &st->gaps[i], (st->n_gaps - i) * sizeof(*st->gaps));
	st->gaps[i] = (struct hf_spool_gap){first, last, reason};
	st->n_gaps++;
}

void hf_spool_stream_remove(struct hf_spool *s, struct hf_spool_stream_ *st)
{
	while (st->first)
		hf_segment_discard(s, st->first);
	for (size_t i = 0; i < s->n_streams; i++) {
		if (s->streams[i] != st)
			continue;
		memmove(&s->streams[i], &s->streams[i + 1],
			(s->n_streams - i - 1) * sizeof(struct hf_spool_stream_ *));
		s->n_streams--;
		break;
	}
	s->positions_dirty = true;
	free(st);
}

/* The least valuable stream goes whole: oldest low, else oldest high; never a current one. */
static void make_room_for_stream(struct hf_spool *s)
{
	struct hf_spool_stream_ *victim = NULL;

	for (size_t i = 0; i < s->n_streams; i++) {
		struct hf_spool_stream_ *st = s->streams[i];

		if (s->current[st->prio] != st && (!victim || st->prio > victim->prio))
			victim = st;
	}
	hf_assert(victim);
	/* Its gap has to travel in the stream that goes on. */
	s->q_lost[victim->prio][HF_SPOOL_GAP_SPOOL_FULL] += victim->last - victim->acked;
	s->q_any_lost = true;
	hf_spool_stream_remove(s, victim);
}

uint64_t hf_spool_new_epoch(void)
{
	uint64_t epoch = 0;

	/* 0 means "none" in the protocol; SQLite and JSON know 63 bits. */
	while (epoch == 0) {
		hf_random_bytes(&epoch, sizeof(epoch));
		epoch >>= 1;
	}
	return epoch;
}

struct hf_spool_stream_ *hf_spool_stream_new(struct hf_spool *s, enum hf_spool_priority prio,
					     uint64_t epoch)
{
	struct hf_spool_stream_ *st = calloc(1, sizeof(*st));
	size_t at = 0;

	if (!st)
		return NULL;
	if (s->n_streams == HF_SPOOL_STREAMS_MAX)
		make_room_for_stream(s);
	st->epoch = epoch ? epoch : hf_spool_new_epoch();
	st->prio = prio;
	while (at < s->n_streams && s->streams[at]->prio <= prio)
		at++;
	memmove(&s->streams[at + 1], &s->streams[at],
		(s->n_streams - at) * sizeof(struct hf_spool_stream_ *));
	s->streams[at] = st;
	s->n_streams++;
	s->positions_dirty = true;
	return st;
}

struct hf_spool_stream_ *hf_spool_stream_find(struct hf_spool *s, uint64_t epoch)
{
	for (size_t i = 0; i < s->n_streams; i++)
		if (s->streams[i]->epoch == epoch)
			return s->streams[i];
	return NULL;
}

bool hf_spool_drop_oldest(struct hf_spool *s, bool on_disk, enum hf_spool_gap_reason reason)
{
	for (int prio = HF_SPOOL_LOW; prio >= 0; prio--) {
		for (size_t i = 0; i < s->n_streams; i++) {
			struct hf_spool_stream_ *st = s->streams[i];
			struct hf_segment *seg = st->first;
			uint64_t first;

			if ((int)st->prio != prio)
				continue;
			while (seg && (seg->active || seg->busy || seg->on_disk != on_disk))
				seg = seg->next;
			if (!seg)
				continue;
			first = seg->h.base > st->acked ? seg->h.base : st->acked + 1;
			if (seg->end > first)
				hf_spool_gap_add(s, st, first, seg->end - 1, reason,
						 seg->end - first);
			hf_segment_discard(s, seg);
			return true;
		}
	}
	return false;
}
