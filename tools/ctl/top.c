/* SPDX-License-Identifier: Apache-2.0 */
/* Two answers become rows. */
#include "tools/ctl/top.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "userspace/proto/event_json.h"

static const char *const by_names[] = {
	[HF_TOP_PROCESS] = "process",
	[HF_TOP_UNIT] = "unit",
	[HF_TOP_PEER] = "peer",
};
_Static_assert(HF_ARRAY_SIZE(by_names) == _HF_TOP_BY_MAX, "every table has a name");

/* The agent's names of the columns, and ours of the two orders that are none. */
static const char *const sort_names[] = {
	[HF_TOP_BY_HURT] = "hurt",
	[HF_TOP_BY_RESETS_IN] = "resets_received",
	[HF_TOP_BY_RESETS_OUT] = "resets_sent",
	[HF_TOP_BY_FAILED] = "failed",
	[HF_TOP_BY_DROPPED] = "dropped",
	[HF_TOP_BY_PACKETS] = "packets_dropped",
	[HF_TOP_BY_EXITS] = "exits",
	[HF_TOP_BY_BAD_EXITS] = "bad_exits",
	[HF_TOP_BY_OOM] = "oom_kills",
	[HF_TOP_BY_UNSEEN] = "unseen",
	[HF_TOP_BY_LAST] = "last",
	[HF_TOP_BY_NAME] = "name",
};
_Static_assert(HF_ARRAY_SIZE(sort_names) == _HF_TOP_SORT_MAX, "every order has a name");

static const char *const window_names[] = {
	[HF_TOP_ALL] = "all",
	[HF_TOP_MINUTE] = "1m",
	[HF_TOP_LAST] = "last",
};
_Static_assert(HF_ARRAY_SIZE(window_names) == _HF_TOP_WINDOW_MAX, "every window has a name");

const char *hf_top_by_name(enum hf_top_by by)
{
	return by_names[by];
}

const char *hf_top_sort_name(enum hf_top_sort sort)
{
	return sort_names[sort];
}

const char *hf_top_window_name(enum hf_top_window window)
{
	return window_names[window];
}

static int parse(const char *text, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (hf_streq(names[i], text))
			return (int)i;
	return -EINVAL;
}

int hf_top_parse_by(const char *text, enum hf_top_by *ret)
{
	int r = parse(text, by_names, HF_ARRAY_SIZE(by_names));

	if (r >= 0)
		*ret = (enum hf_top_by)r;
	return r < 0 ? r : 0;
}

int hf_top_parse_sort(const char *text, enum hf_top_sort *ret)
{
	int r = parse(text, sort_names, HF_ARRAY_SIZE(sort_names));

	if (r >= 0)
		*ret = (enum hf_top_sort)r;
	return r < 0 ? r : 0;
}

int hf_top_parse_window(const char *text, enum hf_top_window *ret)
{
	int r = parse(text, window_names, HF_ARRAY_SIZE(window_names));

	if (r >= 0)
		*ret = (enum hf_top_window)r;
	return r < 0 ? r : 0;
}

/* ---- differences ------------------------------------------------------------------------------ */

static const Bus__TopTable *table_of(const Bus__Top *top, enum hf_top_by by)
{
	for (size_t i = 0; top && i < top->n_tables; i++)
		if (hf_streq(top->tables[i]->by, by_names[by]))
			return top->tables[i];
	return NULL;
}

/* Both are of one agent process. */
static bool comparable(const Bus__Top *now, const Bus__Top *before)
{
	return before && before->instance == now->instance && before->uptime_ms <= now->uptime_ms;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* Adds sign * (the message's counts) to the columns we know. */
static void add_counts(const Bus__Top *now, const uint64_t *counts, size_t n, bool minus,
		       uint64_t to[static _HF_TOP_SORT_MAX])
{
	for (size_t i = 0; i < n && i < now->n_columns && i < HF_TOP_COLUMNS_MAX; i++) {
		for (unsigned c = HF_TOP_BY_RESETS_IN; c <= HF_TOP_BY_UNSEEN; c++) {
			if (!hf_streq(now->columns[i], sort_names[c]))
				continue;
			to[c] = minus ? less(to[c], counts[i]) : to[c] + counts[i];
		}
	}
}

/* Exits that went well, and what nobody saw, hurt nobody that we know of. */
static void sum_up(uint64_t counts[static _HF_TOP_SORT_MAX])
{
	counts[HF_TOP_BY_HURT] = counts[HF_TOP_BY_RESETS_IN] + counts[HF_TOP_BY_RESETS_OUT] +
				 counts[HF_TOP_BY_FAILED] + counts[HF_TOP_BY_DROPPED] +
				 counts[HF_TOP_BY_PACKETS] + counts[HF_TOP_BY_BAD_EXITS] +
				 counts[HF_TOP_BY_OOM];
}

static bool nothing_in(const uint64_t counts[static _HF_TOP_SORT_MAX])
{
	for (unsigned c = HF_TOP_BY_RESETS_IN; c <= HF_TOP_BY_UNSEEN; c++)
		if (counts[c])
			return false;
	return true;
}

static int compare_ids(const void *a, const void *b)
{
	const Bus__TopRow *x = *(Bus__TopRow *const *)a, *y = *(Bus__TopRow *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static const Bus__TopRow *find_id(Bus__TopRow *const *sorted, size_t n, uint64_t id)
{
	Bus__TopRow key = {.id = id}, *p = &key;
	Bus__TopRow *const *found = n ? bsearch(&p, sorted, n, sizeof(*sorted), compare_ids) : NULL;

	return found ? *found : NULL;
}

static enum hf_top_sort order; /* qsort() has no argument of ours */

static int compare_rows(const void *a, const void *b)
{
	const struct hf_top_row *x = a, *y = b;
	int r = 0;

	if (!x->row != !y->row)
		return x->row ? -1 : 1;
	if (order == HF_TOP_BY_LAST)
		r = x->last_unix_ns > y->last_unix_ns ? -1 : x->last_unix_ns < y->last_unix_ns;
	else if (order != HF_TOP_BY_NAME)
		r = x->counts[order] > y->counts[order] ? -1 : x->counts[order] < y->counts[order];
	if (r == 0 && order != HF_TOP_BY_NAME)
		r = x->counts[HF_TOP_BY_HURT] > y->counts[HF_TOP_BY_HURT]
			    ? -1
			    : x->counts[HF_TOP_BY_HURT] < y->counts[HF_TOP_BY_HURT];
	if (r == 0)
		r = strcmp(x->name, y->name);
	if (r == 0)
		r = x->pid < y->pid ? -1 : x->pid > y->pid;
	return r;
}

static void *must(void *p)
{
	if (!p)
		hf_term_out_of_memory();
	return p;
}

void hf_top_diff(const Bus__Top *now, const Bus__Top *before, enum hf_top_by by,
		 enum hf_top_sort sort, struct hf_top_rows *ret)
{
	const Bus__TopTable *t = table_of(now, by), *bt;
	_cleanup_free_ Bus__TopRow **new_ids = NULL, **old_ids = NULL;
	size_t n, n_old;
	struct hf_top_row other = {.name = "", .unit = ""};

	*ret = (struct hf_top_rows){};
	if (!comparable(now, before))
		before = NULL;
	ret->since_start = !before;
	ret->window_ms = now->uptime_ms - (before ? before->uptime_ms : 0);
	add_counts(now, now->totals, now->n_totals, false, ret->totals);
	if (before)
		add_counts(now, before->totals, before->n_totals, true, ret->totals);
	sum_up(ret->totals);
	if (!t)
		return;
	bt = table_of(before, by);
	n = t->n_rows < HF_TOP_ROWS_MAX ? t->n_rows : HF_TOP_ROWS_MAX;
	n_old = !bt ? 0 : bt->n_rows < HF_TOP_ROWS_MAX ? bt->n_rows : HF_TOP_ROWS_MAX;
	ret->row = must(calloc(n + 1, sizeof(*ret->row)));
	new_ids = must(calloc(n + 1, sizeof(*new_ids)));
	old_ids = must(calloc(n_old + 1, sizeof(*old_ids)));
	if (n)
		memcpy(new_ids, t->rows, n * sizeof(*new_ids));
	if (n_old)
		memcpy(old_ids, bt->rows, n_old * sizeof(*old_ids));
	qsort(new_ids, n, sizeof(*new_ids), compare_ids);
	qsort(old_ids, n_old, sizeof(*old_ids), compare_ids);

	for (size_t i = 0; i < n; i++) {
		const Bus__TopRow *was = find_id(old_ids, n_old, t->rows[i]->id);
		struct hf_top_row *r = &ret->row[ret->n];

		*r = (struct hf_top_row){
			.name = t->rows[i]->name,
			.unit = t->rows[i]->unit,
			.pid = t->rows[i]->pid,
			.last_unix_ns = t->rows[i]->last_unix_ns,
			.row = t->rows[i],
			.before = was,
		};
		add_counts(now, t->rows[i]->counts, t->rows[i]->n_counts, false, r->counts);
		if (was)
			add_counts(now, was->counts, was->n_counts, true, r->counts);
		sum_up(r->counts);
		if (!nothing_in(r->counts))
			ret->n++;
	}
	/* What those who made room had before is in `other` now, and happened earlier. */
	add_counts(now, t->other, t->n_other, false, other.counts);
	if (bt)
		add_counts(now, bt->other, bt->n_other, true, other.counts);
	for (size_t i = 0; i < n_old; i++)
		if (!find_id(new_ids, n, old_ids[i]->id))
			add_counts(now, old_ids[i]->counts, old_ids[i]->n_counts, true,
				   other.counts);
	sum_up(other.counts);
	if (!nothing_in(other.counts))
		ret->row[ret->n++] = other;
	order = sort;
	qsort(ret->row, ret->n, sizeof(*ret->row), compare_rows);
}

void hf_top_rows_done(struct hf_top_rows *r)
{
	free(r->row);
	*r = (struct hf_top_rows){};
}

/* ---- JSON ------------------------------------------------------------------------------------- */

static void put_columns(json_t **o, const Bus__Top *now, const uint64_t *counts, size_t n,
			const uint64_t *before, size_t n_before)
{
	for (size_t i = 0; i < n && i < now->n_columns; i++)
		hf_json_put(o, now->columns[i],
			    hf_json_u64(less(counts[i], i < n_before ? before[i] : 0)));
}

static json_t *row_json(const Bus__Top *now, const struct hf_top_row *r, enum hf_top_by by)
{
	json_t *o = json_object();

	hf_json_put(&o, "name", hf_json_string(r->name));
	if (by == HF_TOP_PROCESS) {
		hf_json_put(&o, "pid", hf_json_u64_or_null(r->pid));
		hf_json_put(&o, "unit", hf_json_string(r->unit));
	}
	hf_json_put(&o, "last", hf_json_time(r->last_unix_ns));
	put_columns(&o, now, r->row->counts, r->row->n_counts, r->before ? r->before->counts : NULL,
		    r->before ? r->before->n_counts : 0);
	return o;
}

static json_t *table_json(const Bus__Top *now, const Bus__Top *before, enum hf_top_by by,
			  enum hf_top_sort sort, size_t limit)
{
	json_t *o = json_object(), *list = json_array(), *other = json_object();
	struct hf_top_rows rows;
	uint64_t rest[_HF_TOP_SORT_MAX] = {};

	hf_top_diff(now, before, by, sort, &rows);
	for (size_t i = 0; i < rows.n; i++) {
		if (rows.row[i].row && (limit == 0 || i < limit)) {
			hf_json_append(&list, row_json(now, &rows.row[i], by));
			continue;
		}
		for (unsigned c = 0; c < _HF_TOP_SORT_MAX; c++)
			rest[c] += rows.row[i].counts[c];
	}
	for (unsigned c = HF_TOP_BY_RESETS_IN; c <= HF_TOP_BY_UNSEEN; c++)
		hf_json_put(&other, sort_names[c], hf_json_u64(rest[c]));
	hf_top_rows_done(&rows);
	hf_json_put(&o, "rows", list);
	hf_json_put(&o, "other", other);
	return o;
}

json_t *hf_top_json(const Bus__Top *now, const Bus__Top *before, enum hf_top_sort sort,
		    size_t limit)
{
	json_t *o = json_object(), *totals = json_object();

	if (!comparable(now, before))
		before = NULL;
	hf_json_put(&o, "time", hf_json_time(now->now_unix_ns));
	hf_json_put(&o, "since", hf_json_time(before ? before->now_unix_ns : now->since_unix_ns));
	hf_json_put(&o, "window_ms",
		    hf_json_u64(now->uptime_ms - (before ? before->uptime_ms : 0)));
	put_columns(&totals, now, now->totals, now->n_totals, before ? before->totals : NULL,
		    before ? before->n_totals : 0);
	hf_json_put(&o, "totals", totals);
	hf_json_put(&o, "lost", hf_json_u64(less(now->lost, before ? before->lost : 0)));
	hf_json_put(&o, "throttled",
		    hf_json_u64(less(now->throttled, before ? before->throttled : 0)));
	for (unsigned by = 0; by < _HF_TOP_BY_MAX; by++)
		hf_json_put(&o, by_names[by],
			    table_json(now, before, (enum hf_top_by)by, sort, limit));
	return o;
}
