/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool's bytes on disk, as pure functions over buffers. Little-endian.
 *
 * A segment is a header and records one after the other. A record's checksum is seeded with the
 * segment's id, so that stale blocks of a deleted segment, which some file systems show after a
 * power cut, are never taken for records of a new one. After a damaged record the reader looks for
 * the next good one; the jump of the sequence number tells how much is missing.
 *
 * The positions file is two slots of HF_POSITIONS_SLOT bytes, written in turn with a growing
 * generation and overwritten in place: a full disk does not keep us from noting what may go.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "userspace/agent/spool.h"

#define HF_SEG_HEADER_SIZE 56u
#define HF_REC_HEADER_SIZE 24u

struct hf_seg_header {
	uint64_t id;
	uint64_t epoch;
	uint64_t base;   /* first sequence number, in the segment's own counting */
	uint64_t origin; /* what the portal sees is the number less this */
	enum hf_spool_priority prio;
	bool volatile_; /* numbers of this epoch were sent before they were on disk: never go on */
};

void hf_seg_header_encode(const struct hf_seg_header *h, uint8_t dst[static HF_SEG_HEADER_SIZE]);
/* -EBADMSG. */
int hf_seg_header_decode(const void *data, size_t len, struct hf_seg_header *ret);

struct hf_seg_record {
	uint64_t seq, last; /* equal unless it is a gap */
	bool is_gap;
	enum hf_spool_gap_reason reason; /* of a gap */
	const uint8_t *data;             /* points into the buffer */
	size_t len;
};

/* Appends a data record or a gap. -ENOMEM. */
int hf_seg_append(struct hf_buf *b, uint64_t id, uint64_t seq, const void *data, size_t len);
int hf_seg_append_gap(struct hf_buf *b, uint64_t id, uint64_t first, uint64_t last,
		      enum hf_spool_gap_reason reason);

/* Walks the records of a segment's bytes [off, len). */
struct hf_seg_iter {
	const uint8_t *data;
	size_t len;
	size_t off; /* where to look next; HF_SEG_HEADER_SIZE at the start */
	uint64_t id;
	uint64_t next;   /* the next number that would be no jump */
	size_t skipped;  /* damaged bytes passed over so far */
	size_t good_end; /* behind the last good record */
};
void hf_seg_iter_init(struct hf_seg_iter *it, const struct hf_seg_header *h, const void *data,
		      size_t len);
/* Numbers never go back: a record with a smaller one is damage. False at the end. */
bool hf_seg_next(struct hf_seg_iter *it, struct hf_seg_record *ret);

#define HF_POSITIONS_SLOT 4096u

struct hf_positions {
	uint64_t generation;
	uint64_t next_id;
	size_t n_streams, n_gaps;
	struct hf_position {
		uint64_t epoch, origin, acked, last; /* in the segments' own counting */
		enum hf_spool_priority prio;
		bool volatile_;
	} streams[HF_SPOOL_STREAMS_MAX];
	struct hf_position_gap {
		uint64_t epoch;
		struct hf_spool_gap gap;
	} gaps[HF_SPOOL_GAPS_MAX];
};
void hf_positions_encode(const struct hf_positions *p, uint8_t dst[static HF_POSITIONS_SLOT]);
/* One slot. -EBADMSG. */
int hf_positions_decode(const void *data, size_t len, struct hf_positions *ret);
