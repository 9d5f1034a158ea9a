/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the spool's files share: spool.c (the loop's side), spool_writer.c (the thread),
 * spool_recover.c (what is there at the start), spool_stream.c (streams and segments in memory).
 *
 * I1 everything below is guarded by `lock`, except what is said to be the thread's alone.
 * I2 no file I/O happens with the lock held (recovery before the thread runs excepted): the loop
 *    waits for a memcpy at the most.
 * I3 a number is sent only after its record is on disk, or its stream is volatile; a volatile
 *    stream is never continued by a later process. So no number ever means two records.
 * I4 a file is removed only after the positions that make it superfluous are on disk. So numbers
 *    never start again after all files of a stream are gone.
 * I5 a segment that the thread works on without the lock is `busy`: the loop may mark it dead, the
 *    thread frees it.
 */
#pragma once

#include <pthread.h>

#include "userspace/agent/spool.h"
#include "userspace/agent/spool_format.h"

/* Closed segments kept in memory for reading: one backlog of each priority. */
#define HF_SPOOL_LOADED_MAX 2u
/* A crash loop makes tiny segments; each costs an inode and a struct. */
#define HF_SPOOL_SEGMENTS_MAX 4096u

struct hf_spool_stream_;

struct hf_segment {
	struct hf_segment *next; /* in the stream, ascending */
	struct hf_spool_stream_ *stream;
	struct hf_seg_header h;
	uint64_t end;      /* number after the last settled record */
	uint64_t fill_end; /* number after the last placed one; thread */
	size_t bytes;      /* settled */
	struct hf_buf mem; /* the content; data NULL: only on disk. Behind `bytes`: not settled */
	int fd;            /* open while it grows; the thread's alone */
	bool active, on_disk, busy, dead, load_wanted, relabel, checked;
	/* Where the last read ended. */
	size_t cursor_off;
	uint64_t cursor_next;
};

/* Numbers here are the segments' own; the portal sees them less `origin`. */
struct hf_spool_stream_ {
	uint64_t epoch, origin, acked, last;
	enum hf_spool_priority prio;
	bool volatile_;
	bool examined; /* by recovery, or made after it */
	struct hf_segment *first, *tail;
	struct hf_spool_gap gaps[HF_SPOOL_GAPS_MAX]; /* ascending, disjoint, above acked */
	size_t n_gaps;
};

struct hf_spool_queued {
	struct hf_spool_queued *next;
	uint64_t ticket;
	enum hf_spool_priority prio;
	size_t len;
	uint8_t data[];
};

struct hf_spool_trash {
	struct hf_spool_trash *next;
	uint64_t id;
};

struct hf_spool {
	uint32_t magic;
	struct hf_spool_config config; /* defaults filled in; dir owned */
	const struct hf_spool_ops *ops;
	struct hf_spool_callbacks cb;
	void *userdata;

	pthread_mutex_t lock;
	pthread_cond_t wake; /* CLOCK_MONOTONIC */
	pthread_cond_t idle; /* the thread ended */
	pthread_t thread;
	bool running, stop;
	int efd;

	struct hf_spool_queued *q_first, **q_end;
	size_t q_bytes;
	uint64_t q_since_ns; /* when the oldest queued low record came */
	bool q_urgent;
	/* Records that never got a number, by why; a gap mark in the stream will stand for them. */
	uint64_t q_lost[_HF_SPOOL_PRIORITY_MAX][_HF_SPOOL_GAP_REASON_MAX];
	bool q_any_lost;

	uint64_t next_ticket, settled;
	bool settled_in_memory, tell_settled, tell_readable, tell_disk;

	struct hf_spool_stream_ *streams[HF_SPOOL_STREAMS_MAX]; /* high first, older first */
	size_t n_streams;
	struct hf_spool_stream_ *current[_HF_SPOOL_PRIORITY_MAX];
	struct hf_segment *active[_HF_SPOOL_PRIORITY_MAX];
	struct hf_segment *loaded[HF_SPOOL_LOADED_MAX];
	size_t next_loaded;
	bool work; /* load_wanted, relabel or trash somewhere */

	int dirfd, lockfd, posfd; /* the thread's once it runs */
	uint64_t generation;      /* of positions; thread */
	uint64_t next_id;
	struct hf_spool_trash *trash;
	bool positions_dirty;
	int disk_error;
	uint64_t retry_at_ns;
	uint64_t disk_bytes, memory_bytes, segments;
	struct hf_spool_stats stats;
};

#define HF_SPOOL_MAGIC 0x53706f6fu

/* spool_stream.c; lock held */
uint64_t hf_spool_new_epoch(void);
/* epoch 0: a new one. NULL on ENOMEM. When there are too many the least valuable goes. */
struct hf_spool_stream_ *hf_spool_stream_new(struct hf_spool *s, enum hf_spool_priority prio,
					     uint64_t epoch);
struct hf_spool_stream_ *hf_spool_stream_find(struct hf_spool *s, uint64_t epoch);
void hf_spool_stream_remove(struct hf_spool *s, struct hf_spool_stream_ *st);
/* Adds a gap and counts `numbers` of it as lost; merges with neighbours, keeps within the cap. */
void hf_spool_gap_add(struct hf_spool *s, struct hf_spool_stream_ *st, uint64_t first,
		      uint64_t last, enum hf_spool_gap_reason reason, uint64_t numbers);
void hf_spool_gap_delete(struct hf_spool_stream_ *st, size_t i);
struct hf_segment *hf_segment_new(struct hf_spool_stream_ *st, uint64_t id, uint64_t base);
/* Unlinks from its stream and frees (or marks dead if busy); its file becomes trash. */
void hf_segment_discard(struct hf_spool *s, struct hf_segment *seg);
struct hf_segment *hf_segment_free(struct hf_segment *seg);
/* Drops the oldest closed segment, on disk or in memory, low priority first. False: none. */
bool hf_spool_drop_oldest(struct hf_spool *s, bool on_disk, enum hf_spool_gap_reason reason);
void hf_spool_trash_add(struct hf_spool *s, uint64_t id);

/* spool.c */
void hf_spool_notify(struct hf_spool *s);

/* spool_writer.c */
void *hf_spool_writer(void *spool);
/* All of it, or -errno. */
int hf_spool_pwrite(struct hf_spool *s, int fd, const uint8_t *p, size_t len, size_t off);

/* spool_recover.c; lock held or thread not running. 0, -EBUSY, or the disk's error. */
int hf_spool_recover(struct hf_spool *s);
void hf_segment_name(uint64_t id, char dst[static 24]);
