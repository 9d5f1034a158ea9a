/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which sequence numbers a TelemetryBatch covers. Records follow each other from first_seq; a gap
 * (first to last, inclusive) says which numbers have no record. Gaps are ascending, disjoint and
 * inside [first_seq, last_seq]; a batch may consist of gaps only, with records 0 and no otlp.
 * Silent, any thread, no state.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "session.pb-c.h"

#define HF_BATCH_INFLATED_MAX \
	(256u << 10) /* bytes of OTLP before deflate; a receiver refuses more */
#define HF_BATCH_RECORDS_MAX 4096u
#define HF_BATCH_GAPS_MAX    64u

/* -EBADMSG unless first, last, gaps, records and inflated_bytes agree and are within the caps. */
int hf_batch_check(const Session__TelemetryBatch *b);

/* Sequence number of record index (< records) of a checked batch. */
uint64_t hf_batch_seq_at(const Session__TelemetryBatch *b, size_t index);
