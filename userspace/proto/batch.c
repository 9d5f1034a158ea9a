/* SPDX-License-Identifier: Apache-2.0 */
/* Sequence numbers of a batch. */
#include "userspace/proto/batch.h"

#include <errno.h>

int hf_batch_check(const Session__TelemetryBatch *b)
{
	uint64_t numbers, next = b->first_seq;

	if (b->first_seq == 0 || b->last_seq < b->first_seq || b->last_seq == UINT64_MAX)
		return -EBADMSG;
	if (b->records > HF_BATCH_RECORDS_MAX || b->n_gaps > HF_BATCH_GAPS_MAX ||
	    b->inflated_bytes > HF_BATCH_INFLATED_MAX)
		return -EBADMSG;
	numbers = b->last_seq - b->first_seq + 1;
	for (size_t i = 0; i < b->n_gaps; i++) {
		const Session__Gap *g = b->gaps[i];

		if (g->first_seq < next || g->last_seq < g->first_seq || g->last_seq > b->last_seq)
			return -EBADMSG;
		numbers -= g->last_seq - g->first_seq + 1;
		next = g->last_seq + 1;
	}
	if (numbers != b->records)
		return -EBADMSG;
	if ((b->records == 0) != (b->otlp.len == 0))
		return -EBADMSG;
	return 0;
}

uint64_t hf_batch_seq_at(const Session__TelemetryBatch *b, size_t index)
{
	uint64_t seq = b->first_seq + index;

	for (size_t i = 0; i < b->n_gaps && b->gaps[i]->first_seq <= seq; i++)
		seq += b->gaps[i]->last_seq - b->gaps[i]->first_seq + 1;
	return seq;
}
