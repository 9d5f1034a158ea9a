/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who does what, counted: every event of this host by process, unit and peer for `holdfast top`,
 * and by kind and reason for OpenMetrics. Pure: events in, counts out; time is the events' own.
 *
 * I1. Memory is fixed: HF_TALLY_ROWS rows for each of the three, HF_TALLY_REASONS reasons.
 * I2. Nothing is forgotten in the sums: of each of the three, the rows and `other` together are the
 *     totals, exactly, whoever had to make room.
 * I3. Those with much going on keep their rows: a newcomer takes the place of the quietest of the
 *     HF_TALLY_WAYS that its key may lie in; a row's past counts half as much each minute.
 * I4. A reason's row is never given up, so that its counter never goes back; what finds no row is
 *     counted as reason `other` of its kind.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus.pb-c.h"

/* As a processor's cache: sets of ways, so that finding, and making room, costs the same always. */
#define HF_TALLY_SETS    32u
#define HF_TALLY_WAYS    8u
#define HF_TALLY_ROWS    (HF_TALLY_SETS * HF_TALLY_WAYS)
#define HF_TALLY_REASONS 192u

enum hf_tally_by {
	HF_TALLY_PROCESS,
	HF_TALLY_UNIT,
	HF_TALLY_PEER,
	_HF_TALLY_BY_MAX,
};

enum hf_tally_column {
	HF_TALLY_RESETS_RECEIVED,
	HF_TALLY_RESETS_SENT,
	HF_TALLY_FAILED,
	HF_TALLY_DROPPED,   /* connections given up */
	HF_TALLY_PACKETS,   /* dropped in the kernel */
	HF_TALLY_CLOSED,    /* connections, where they are recorded */
	HF_TALLY_EXITS,     /* all of them */
	HF_TALLY_BAD_EXITS, /* status not 0, or a signal */
	HF_TALLY_OOM,
	HF_TALLY_UNSEEN, /* events that the kernel says it did not tell one by one */
	_HF_TALLY_COLUMN_MAX,
};

struct hf_tally_row {
	uint64_t id; /* 0: free */
	uint64_t hash, start_boot_ns, last_boot_ns;
	uint64_t counts[_HF_TALLY_COLUMN_MAX];
	uint32_t pid;
	uint32_t heat;
	char name[72]; /* cut: longer ones that begin alike are one */
	char unit[56];
};

struct hf_tally_table {
	struct hf_tally_row row[HF_TALLY_SETS][HF_TALLY_WAYS];
	uint64_t other[_HF_TALLY_COLUMN_MAX];
	uint64_t folded; /* rows that made room */
};

struct hf_tally_reason {
	char kind[24], reason[48];
	uint64_t events;
};

struct hf_tally {
	struct hf_tally_table table[_HF_TALLY_BY_MAX];
	uint64_t totals[_HF_TALLY_COLUMN_MAX];
	struct hf_tally_reason reason[HF_TALLY_REASONS];
	size_t reasons;
	uint64_t reasons_folded; /* events whose reason found no row */
	uint64_t next_id, seed, instance;
};

/* seed: anything a stranger cannot guess, so that he cannot choose whose place he takes. */
struct hf_tally *hf_tally_new(uint64_t seed); /* NULL on ENOMEM */
struct hf_tally *hf_tally_free(struct hf_tally *t);

void hf_tally_add(struct hf_tally *t, const Bus__Event *e);

const char *hf_tally_by_name(enum hf_tally_by by);             /* process unit peer */
const char *hf_tally_column_name(enum hf_tally_column column); /* resets_received … */

/*
 * The answer to a TopRequest; owned by the caller (bus__top__free_unpacked). realtime_offset_ns:
 * wall clock minus CLOCK_BOOTTIME. NULL on ENOMEM.
 */
Bus__Top *hf_tally_answer(const struct hf_tally *t, int64_t realtime_offset_ns);
