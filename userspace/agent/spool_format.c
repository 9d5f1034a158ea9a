/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoding and decoding of segments and positions.
 *
 * I1 whatever the bytes, a reader only looks inside [data, data + len) and goes forward.
 * I2 a record is believed when magic, length and checksum agree; nothing of it is used before.
 */
#include "userspace/agent/spool_format.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/crc32c.h"

#define SEGMENT_MAGIC   "HFSPOOL1"
#define POSITIONS_MAGIC "HFSPPOS1"
#define RECORD_MAGIC    0x31724648u /* "HFr1" */

enum record_kind { RECORD_DATA, RECORD_GAP };

static void put32(uint8_t *dst, uint32_t v)
{
	v = htole32(v);
	memcpy(dst, &v, sizeof(v));
}

static void put64(uint8_t *dst, uint64_t v)
{
	v = htole64(v);
	memcpy(dst, &v, sizeof(v));
}

static uint32_t get32(const uint8_t *src)
{
	uint32_t v;

	memcpy(&v, src, sizeof(v));
	return le32toh(v);
}

static uint64_t get64(const uint8_t *src)
{
	uint64_t v;

	memcpy(&v, src, sizeof(v));
	return le64toh(v);
}

/* Header: magic 8, priority 4, flags 4, id 8, epoch 8, base 8, origin 8, zero 4, crc 4. */
void hf_seg_header_encode(const struct hf_seg_header *h, uint8_t dst[static HF_SEG_HEADER_SIZE])
{
	memcpy(dst, SEGMENT_MAGIC, 8);
	put32(dst + 8, h->prio);
	put32(dst + 12, h->volatile_);
	put64(dst + 16, h->id);
	put64(dst + 24, h->epoch);
	put64(dst + 32, h->base);
	put64(dst + 40, h->origin);
	put32(dst + 48, 0);
	put32(dst + 52, hf_crc32c(0, dst, 52));
}

int hf_seg_header_decode(const void *data, size_t len, struct hf_seg_header *ret)
{
	const uint8_t *p = data;
	struct hf_seg_header h;

	if (len < HF_SEG_HEADER_SIZE || memcmp(p, SEGMENT_MAGIC, 8) != 0 ||
	    get32(p + 52) != hf_crc32c(0, p, 52))
		return -EBADMSG;
	if (get32(p + 8) >= _HF_SPOOL_PRIORITY_MAX || get32(p + 12) > 1)
		return -EBADMSG;
	h = (struct hf_seg_header){
		.prio = get32(p + 8),
		.volatile_ = get32(p + 12),
		.id = get64(p + 16),
		.epoch = get64(p + 24),
		.base = get64(p + 32),
		.origin = get64(p + 40),
	};
	if (h.base == 0 || h.base == UINT64_MAX || h.epoch == 0)
		return -EBADMSG;
	*ret = h;
	return 0;
}

/* Record: magic 4, length 4, kind 4, crc 4, seq 8; the crc covers id, length, kind, seq, payload. */
static uint32_t record_crc(uint64_t id, const uint8_t *header, const uint8_t *payload, size_t len)
{
	uint8_t seed[8];
	uint32_t crc;

	put64(seed, id);
	crc = hf_crc32c(0, seed, sizeof(seed));
	crc = hf_crc32c(crc, header + 4, 8);
	crc = hf_crc32c(crc, header + 16, 8);
	return hf_crc32c(crc, payload, len);
}

static int append(struct hf_buf *b, uint64_t id, enum record_kind kind, uint64_t seq,
		  const void *data, size_t len)
{
	uint8_t *h;
	int r;

	r = hf_buf_reserve(b, HF_REC_HEADER_SIZE + len);
	if (r < 0)
		return r;
	h = b->data + b->len;
	put32(h, RECORD_MAGIC);
	put32(h + 4, (uint32_t)len);
	put32(h + 8, kind);
	put64(h + 16, seq);
	if (len)
		memcpy(h + HF_REC_HEADER_SIZE, data, len);
	put32(h + 12, record_crc(id, h, h + HF_REC_HEADER_SIZE, len));
	b->len += HF_REC_HEADER_SIZE + len;
	return 0;
}

int hf_seg_append(struct hf_buf *b, uint64_t id, uint64_t seq, const void *data, size_t len)
{
	return append(b, id, RECORD_DATA, seq, data, len);
}

int hf_seg_append_gap(struct hf_buf *b, uint64_t id, uint64_t first, uint64_t last,
		      enum hf_spool_gap_reason reason)
{
	uint8_t payload[12];

	put64(payload, last);
	put32(payload + 8, reason);
	return append(b, id, RECORD_GAP, first, payload, sizeof(payload));
}

void hf_seg_iter_init(struct hf_seg_iter *it, const struct hf_seg_header *h, const void *data,
		      size_t len)
{
	*it = (struct hf_seg_iter){
		.data = data,
		.len = len,
		.off = HF_SEG_HEADER_SIZE,
		.good_end = HF_SEG_HEADER_SIZE,
		.id = h->id,
		.next = h->base,
	};
}

/* A good record at off. */
static bool record_at(const struct hf_seg_iter *it, size_t off, struct hf_seg_record *ret)
{
	const uint8_t *h = it->data + off;
	size_t room, len;
	uint32_t kind;

	if (off > it->len || it->len - off < HF_REC_HEADER_SIZE || get32(h) != RECORD_MAGIC)
		return false;
	room = it->len - off - HF_REC_HEADER_SIZE;
	len = get32(h + 4);
	kind = get32(h + 8);
	if (len > room || len > HF_SPOOL_RECORD_MAX || kind > RECORD_GAP ||
	    get32(h + 12) != record_crc(it->id, h, h + HF_REC_HEADER_SIZE, len))
		return false;
	*ret = (struct hf_seg_record){
		.seq = get64(h + 16),
		.last = get64(h + 16),
		.is_gap = kind == RECORD_GAP,
		.data = h + HF_REC_HEADER_SIZE,
		.len = len,
	};
	if (ret->is_gap) {
		if (len != 12 || get32(ret->data + 8) >= _HF_SPOOL_GAP_REASON_MAX)
			return false;
		ret->last = get64(ret->data);
		ret->reason = get32(ret->data + 8);
	}
	return ret->seq >= it->next && ret->last >= ret->seq && ret->last < UINT64_MAX;
}

bool hf_seg_next(struct hf_seg_iter *it, struct hf_seg_record *ret)
{
	static const uint8_t magic[4] = {'H', 'F', 'r', '1'};
	size_t off = it->off;

	while (off < it->len) {
		const uint8_t *p;

		if (record_at(it, off, ret)) {
			it->skipped += off - it->off;
			it->off = off + HF_REC_HEADER_SIZE + ret->len;
			it->good_end = it->off;
			it->next = ret->last + 1;
			return true;
		}
		p = memmem(it->data + off + 1, it->len - off - 1, magic, sizeof(magic));
		if (!p)
			break;
		off = (size_t)(p - it->data);
	}
	return false;
}

/* Slot: magic 8, generation 8, next_id 8, streams 4, gaps 4, entries of 40, zero …, crc 4. */
#define POSITION_HEADER 32u
#define POSITION_ENTRY  40u

_Static_assert(POSITION_HEADER + (HF_SPOOL_STREAMS_MAX + HF_SPOOL_GAPS_MAX) * POSITION_ENTRY <=
		       HF_POSITIONS_SLOT - 4,
	       "everything fits one slot");

void hf_positions_encode(const struct hf_positions *p, uint8_t dst[static HF_POSITIONS_SLOT])
{
	uint8_t *e = dst + POSITION_HEADER;

	memset(dst, 0, HF_POSITIONS_SLOT);
	memcpy(dst, POSITIONS_MAGIC, 8);
	put64(dst + 8, p->generation);
	put64(dst + 16, p->next_id);
	put32(dst + 24, (uint32_t)p->n_streams);
	put32(dst + 28, (uint32_t)p->n_gaps);
	for (size_t i = 0; i < p->n_streams; i++, e += POSITION_ENTRY) {
		put64(e, p->streams[i].epoch);
		put64(e + 8, p->streams[i].origin);
		put64(e + 16, p->streams[i].acked);
		put64(e + 24, p->streams[i].last);
		put32(e + 32, p->streams[i].prio);
		put32(e + 36, p->streams[i].volatile_);
	}
	for (size_t i = 0; i < p->n_gaps; i++, e += POSITION_ENTRY) {
		put64(e, p->gaps[i].epoch);
		put64(e + 8, p->gaps[i].gap.first);
		put64(e + 16, p->gaps[i].gap.last);
		put32(e + 24, p->gaps[i].gap.reason);
	}
	put32(dst + HF_POSITIONS_SLOT - 4, hf_crc32c(0, dst, HF_POSITIONS_SLOT - 4));
}

int hf_positions_decode(const void *data, size_t len, struct hf_positions *ret)
{
	const uint8_t *src = data, *e = src + POSITION_HEADER;
	struct hf_positions p = {};

	if (len != HF_POSITIONS_SLOT || memcmp(src, POSITIONS_MAGIC, 8) != 0 ||
	    get32(src + HF_POSITIONS_SLOT - 4) != hf_crc32c(0, src, HF_POSITIONS_SLOT - 4))
		return -EBADMSG;
	p.generation = get64(src + 8);
	p.next_id = get64(src + 16);
	p.n_streams = get32(src + 24);
	p.n_gaps = get32(src + 28);
	if (p.n_streams > HF_SPOOL_STREAMS_MAX || p.n_gaps > HF_SPOOL_GAPS_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < p.n_streams; i++, e += POSITION_ENTRY) {
		struct hf_position *s = &p.streams[i];

		*s = (struct hf_position){
			.epoch = get64(e),
			.origin = get64(e + 8),
			.acked = get64(e + 16),
			.last = get64(e + 24),
			.prio = get32(e + 32),
			.volatile_ = get32(e + 36),
		};
		if (s->epoch == 0 || get32(e + 32) >= _HF_SPOOL_PRIORITY_MAX ||
		    s->origin > s->acked || s->acked > s->last || s->last == UINT64_MAX)
			return -EBADMSG;
	}
	for (size_t i = 0; i < p.n_gaps; i++, e += POSITION_ENTRY) {
		struct hf_position_gap *g = &p.gaps[i];

		g->epoch = get64(e);
		g->gap.first = get64(e + 8);
		g->gap.last = get64(e + 16);
		g->gap.reason = get32(e + 24);
		if (g->gap.first == 0 || g->gap.last < g->gap.first || g->gap.last == UINT64_MAX ||
		    get32(e + 24) >= _HF_SPOOL_GAP_REASON_MAX)
			return -EBADMSG;
	}
	*ret = p;
	return 0;
}
