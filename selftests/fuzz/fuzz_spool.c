/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spool files from a bad disk: a segment (first byte even) or a slot of the positions. Numbers only
 * go forward and everything read lies inside the file; good positions survive another round.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "userspace/agent/spool_format.h"

static void segment(const uint8_t *data, size_t size)
{
	/* Also without a good header, which a fuzzer rarely makes: the checksum is in the way. */
	struct hf_seg_header h = {.id = 7, .base = 1};
	struct hf_seg_record rec;
	struct hf_seg_iter it;
	uint64_t next;
	size_t end = HF_SEG_HEADER_SIZE;

	if (hf_seg_header_decode(data, size, &h) == 0)
		hf_assert(h.prio < _HF_SPOOL_PRIORITY_MAX && h.epoch != 0 && h.base != 0);
	next = h.base;
	hf_seg_iter_init(&it, &h, data, size);
	while (hf_seg_next(&it, &rec)) {
		hf_assert(rec.seq >= next && rec.last >= rec.seq);
		hf_assert(rec.data >= data + end && rec.data + rec.len <= data + size);
		hf_assert(it.good_end > end && it.good_end <= size);
		next = rec.last + 1;
		end = it.good_end;
	}
	hf_assert(it.skipped <= size);
}

static void positions(const uint8_t *data, size_t size)
{
	uint8_t slot[HF_POSITIONS_SLOT];
	struct hf_positions p, q;

	if (hf_positions_decode(data, size, &p) < 0)
		return;
	hf_positions_encode(&p, slot);
	hf_assert(hf_positions_decode(slot, sizeof(slot), &q) == 0);
	hf_assert(memcmp(&p, &q, sizeof(p)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] & 1)
		positions(data + 1, size - 1);
	else
		segment(data + 1, size - 1);
	return 0;
}
