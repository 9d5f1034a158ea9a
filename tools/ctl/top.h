/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `holdfast top` shows: the difference of two answers of the agent, by process, unit or peer,
 * sorted. Pure: messages in, rows and text out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "bus.pb-c.h"
#include "tools/ctl/term.h"

/* More columns than we know are a newer agent's. */
#define HF_TOP_COLUMNS_MAX 16u
/* More rows than any agent of ours has; what is above is not read. */
#define HF_TOP_ROWS_MAX 1024u

enum hf_top_by { HF_TOP_PROCESS, HF_TOP_UNIT, HF_TOP_PEER, _HF_TOP_BY_MAX };

/* The columns of the table; the sum of what hurts comes before them as an order. */
enum hf_top_sort {
	HF_TOP_BY_HURT,
	HF_TOP_BY_RESETS_IN,
	HF_TOP_BY_RESETS_OUT,
	HF_TOP_BY_FAILED,
	HF_TOP_BY_DROPPED,
	HF_TOP_BY_PACKETS,
	HF_TOP_BY_EXITS,
	HF_TOP_BY_BAD_EXITS,
	HF_TOP_BY_OOM,
	HF_TOP_BY_UNSEEN,
	HF_TOP_BY_LAST,
	HF_TOP_BY_NAME,
	_HF_TOP_SORT_MAX,
};

/* Since the agent started, in the last minute, since the answer before. */
enum hf_top_window { HF_TOP_ALL, HF_TOP_MINUTE, HF_TOP_LAST, _HF_TOP_WINDOW_MAX };

const char *hf_top_by_name(enum hf_top_by by);
const char *hf_top_sort_name(enum hf_top_sort sort);
const char *hf_top_window_name(enum hf_top_window window);
/* -EINVAL: no such name. */
int hf_top_parse_by(const char *text, enum hf_top_by *ret);
int hf_top_parse_sort(const char *text, enum hf_top_sort *ret);
int hf_top_parse_window(const char *text, enum hf_top_window *ret);

struct hf_top_row {
	const char *name, *unit; /* borrowed from the message */
	uint32_t pid;
	uint64_t last_unix_ns;
	uint64_t counts[_HF_TOP_SORT_MAX]; /* by column; HURT is the sum */
	const Bus__TopRow *row;            /* NULL: those who made room */
	const Bus__TopRow *before;         /* the same one in the earlier answer, or NULL */
};

struct hf_top_rows {
	struct hf_top_row *row; /* something happened in each; sorted, those who made room last */
	size_t n;
	uint64_t totals[_HF_TOP_SORT_MAX];
	uint64_t window_ms;
	bool since_start; /* there is nothing to compare with */
};

/*
 * What happened between the answers. before NULL, or of an earlier agent: since now's agent started.
 * Out of memory ends the program, as elsewhere in the CLI. To be emptied with hf_top_rows_done().
 */
void hf_top_diff(const Bus__Top *now, const Bus__Top *before, enum hf_top_by by,
		 enum hf_top_sort sort, struct hf_top_rows *ret);
void hf_top_rows_done(struct hf_top_rows *r);

/* Title, sums and table; max_rows 0: all. */
void hf_view_top(const struct hf_term *t, const Bus__Top *now, const struct hf_top_rows *rows,
		 enum hf_top_by by, enum hf_top_sort sort, size_t max_rows);
/* One snapshot with every table; limit 0: all rows. NULL on ENOMEM. */
json_t *hf_top_json(const Bus__Top *now, const Bus__Top *before, enum hf_top_sort sort,
		    size_t limit);
