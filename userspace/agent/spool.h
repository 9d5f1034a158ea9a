/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool: records written ahead to disk, kept until the portal has them. One loop thread calls
 * everything here; a writer thread of the spool's own does all file I/O (no fsync on the loop).
 *
 * A record is bytes (a packed bus.Event). hf_spool_append() hands it over and returns a ticket;
 * when the record is safe, `settled` reports the highest ticket up to which everything is settled,
 * and the rings may be committed that far. While the disk refuses (full, read-only, EIO) records
 * are kept in memory within a bound and settle as well, `on_disk` false: memory is then the best
 * there is, and a ring held back would blind the agent.
 *
 * Two priorities, each its own stream: (epoch, sequence from 1, without holes but named gaps).
 * An epoch is a random number; a new one starts when the old numbering cannot be trusted: the
 * directory was lost, the disk refused and memory took over, the portal has acknowledged more than
 * we have (our state is older than the portal's). So no number ever means two records.
 *
 * Bounds: max_bytes on disk (oldest low-priority segment dropped first, then high), queue_bytes
 * between loop and thread, memory_bytes while the disk refuses. What is dropped becomes a gap that
 * travels to the portal in place of the records, with a reason, and is counted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/str.h"

#define HF_SPOOL_RECORD_MAX  (32u << 10) /* bytes; a packed event is about 200 */
#define HF_SPOOL_STREAMS_MAX 16u         /* epochs held at once, both priorities */
#define HF_SPOOL_GAPS_MAX    64u         /* gaps of one read; further ones come with the next */

enum hf_spool_priority {
	HF_SPOOL_HIGH, /* ring_urgent: resets of our channel, exits, OOM, loss marks */
	HF_SPOOL_LOW,  /* everything else */
	_HF_SPOOL_PRIORITY_MAX,
};

/* Why sequence numbers have no record; the name travels in session.Gap.reason. */
enum hf_spool_gap_reason {
	HF_SPOOL_GAP_SPOOL_FULL,      /* max_bytes reached, oldest dropped */
	HF_SPOOL_GAP_QUEUE_FULL,      /* the writer thread did not keep up */
	HF_SPOOL_GAP_MEMORY_FULL,     /* disk refused and memory_bytes reached */
	HF_SPOOL_GAP_CORRUPT,         /* the disk gave back something else, or nothing */
	HF_SPOOL_GAP_PORTAL_RESTORED, /* acknowledged once, deleted, and the portal has lost it */
	HF_SPOOL_GAP_REFUSED,         /* the portal would not take it */
	_HF_SPOOL_GAP_REASON_MAX,
};
const char *hf_spool_gap_reason_name(enum hf_spool_gap_reason r);

struct hf_spool_gap {
	uint64_t first, last; /* inclusive */
	enum hf_spool_gap_reason reason;
};

/* The system calls of the writer thread, so that tests inject faults: -1 and errno as usual. */
struct hf_spool_ops {
	ssize_t (*pwrite)(int fd, const void *buf, size_t len, off_t off);
	int (*fsync)(int fd); /* data and, on a directory, names */
	int (*openat)(int dirfd, const char *name, int flags, mode_t mode);
	int (*unlinkat)(int dirfd, const char *name, int flags);
};

struct hf_spool_config {
	const char *dir;           /* created (0700) when missing; its parent must exist */
	uint64_t max_bytes;        /* 0: 64 MiB; at least 4 segments */
	size_t segment_bytes;      /* 0: 256 KiB */
	size_t queue_bytes;        /* 0: 1 MiB */
	size_t memory_bytes;       /* 0: 2 MiB */
	unsigned urgent_linger_ms; /* the same of urgent ones; their ring keeps them until then */
	unsigned linger_ms; /* low-priority records gather this long before a sync; 0: not at all */
	unsigned retry_ms;  /* 0: 5000; how often a refusing disk is tried again */
	const struct hf_spool_ops *ops; /* NULL: the real ones; borrowed for the spool's life */
	/* From inside hf_spool_open(): a record found in the newest segments of a stream, at least as
	 * much as may have been written without a `settled`. May be NULL;
	 * userdata is the callbacks'. */
	void (*recovered)(const void *data, size_t len, void *userdata);
};

struct hf_spool_callbacks {
	/* Everything up to ticket is settled. on_disk: all of it since the last call is on disk. */
	void (*settled)(uint64_t ticket, bool on_disk, void *userdata);
	/* There may be something new to read: records became ready, or a segment was loaded. */
	void (*readable)(void *userdata);
	/* The disk began (r < 0) or ceased (r == 0) to refuse. May be NULL. */
	void (*disk)(int r, void *userdata);
};

struct hf_spool;

/*
 * Opens or creates; recovers what is there: torn tails truncated, damaged records counted. Does
 * file I/O on the caller's thread, at start only. A directory that cannot be used is not an error
 * (the spool starts in memory and retries); -EBUSY: another process has it open; -EINVAL; -ENOMEM.
 */
int hf_spool_open(const struct hf_spool_config *config, const struct hf_spool_callbacks *cb,
		  void *userdata, struct hf_spool **ret);
/* Writes what is queued (waits at most timeout_ms for it), stops the thread, frees. */
struct hf_spool *hf_spool_close(struct hf_spool *s, unsigned timeout_ms);
/* hf_spool_close() with one second. */
struct hf_spool *hf_spool_free(struct hf_spool *s);
HF_DEFINE_CLEANUP(struct hf_spool *, hf_spool_free);

/* Polls readable when hf_spool_dispatch() has something to tell; the callbacks run inside that. */
int hf_spool_fd(const struct hf_spool *s);
void hf_spool_dispatch(struct hf_spool *s);

/*
 * Queues a copy of the record. *ret_ticket (may be NULL) grows by one per call, dropped records
 * included, so that settling never waits for what is gone. 0; -ENOBUFS: the queue is full, the
 * record is lost and will be a gap; -EMSGSIZE: longer than HF_SPOOL_RECORD_MAX, likewise.
 */
int hf_spool_append(struct hf_spool *s, enum hf_spool_priority prio, const void *data, size_t len,
		    uint64_t *ret_ticket);

/* For Hello: each stream that holds something, and the current one of each priority. */
struct hf_spool_stream {
	uint64_t epoch;
	enum hf_spool_priority prio;
	uint64_t first_unacked; /* last + 1 when all is acknowledged */
	uint64_t last;          /* highest number that may be sent */
};
/* Returns the number of streams; upload order: high before low, older epochs before newer. */
size_t hf_spool_streams(struct hf_spool *s,
			struct hf_spool_stream ret[static HF_SPOOL_STREAMS_MAX]);

/* Records and gaps of one stream in order. Zero-initialise; hf_spool_chunk_done() empties it. */
struct hf_spool_chunk {
	uint64_t epoch;
	uint64_t first, last; /* what records and gaps together cover, without a hole */
	struct hf_spool_item {
		uint64_t seq;
		size_t off, len; /* in data */
	} * items;
	size_t n_items, cap_items;
	struct hf_spool_gap gaps[HF_SPOOL_GAPS_MAX];
	size_t n_gaps;
	struct hf_buf data;
};
void hf_spool_chunk_done(struct hf_spool_chunk *c);

/*
 * Reads from number `from` of a stream at most max_items records and max_bytes of payload (at least
 * one record). 1: ret (emptied first) has something; 0: nothing there yet; -EAGAIN: being loaded
 * from disk, `readable` will come; -ENOENT: no such stream (any more); -ENOMEM.
 */
int hf_spool_read(struct hf_spool *s, uint64_t epoch, uint64_t from, size_t max_items,
		  size_t max_bytes, struct hf_spool_chunk *ret);

/* The portal has committed everything of the epoch up to acked. -ENOENT: no such stream. */
int hf_spool_ack(struct hf_spool *s, uint64_t epoch, uint64_t acked);

/*
 * What a Welcome says of one of our streams (acked 0 when it does not name it); the one place where
 * an acknowledgement may go back. Lower than what we deleted becomes a gap; higher than what we have
 * moves what we hold to a new epoch. 1: streams changed, ask hf_spool_streams() again; 0; -ENOENT.
 */
int hf_spool_resume(struct hf_spool *s, uint64_t epoch, uint64_t acked);

/* The portal refuses this one record for good: it becomes a gap. -ENOENT. */
int hf_spool_give_up(struct hf_spool *s, uint64_t epoch, uint64_t seq);

struct hf_spool_stats {
	uint64_t appended, settled; /* tickets */
	uint64_t acked;             /* numbers the portal has committed, gaps included */
	uint64_t dropped[_HF_SPOOL_GAP_REASON_MAX]; /* records known lost, by reason */
	uint64_t disk_bytes, segments;              /* now */
	uint64_t memory_bytes;                      /* kept in memory because the disk refuses */
	uint64_t corrupt_bytes;                     /* skipped in damaged files */
	uint64_t torn_bytes;                        /* truncated at recovery: never settled */
	uint64_t syncs, write_errors;
	int disk_error; /* 0, or the -errno because of which it is in memory */
};
void hf_spool_stats(struct hf_spool *s, struct hf_spool_stats *ret);
