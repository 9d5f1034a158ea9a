/* SPDX-License-Identifier: Apache-2.0 */
/* The table of `holdfast top`. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/top.h"

#define NUMBER_WIDTH 7
#define LAST_WIDTH   10
#define NAME_MIN     18
#define NAME_WIDEST  48
#define UNIT_MIN     12
#define UNIT_WIDEST  32

static const struct {
	enum hf_top_sort column;
	const char *title;
	enum hf_term_style style; /* of a number above 0 */
	unsigned from_width;      /* a narrower terminal does without */
} columns[] = {
	{HF_TOP_BY_RESETS_IN, "RST IN", HF_TERM_WARN, 0},
	{HF_TOP_BY_RESETS_OUT, "RST OUT", HF_TERM_WARN, 0},
	{HF_TOP_BY_FAILED, "FAILED", HF_TERM_WARN, 0},
	{HF_TOP_BY_DROPPED, "DROPPED", HF_TERM_BAD, 52},
	{HF_TOP_BY_PACKETS, "PACKETS", HF_TERM_PLAIN, 92},
	{HF_TOP_BY_EXITS, "EXITS", HF_TERM_PLAIN, 76},
	{HF_TOP_BY_BAD_EXITS, "BAD", HF_TERM_WARN, 60},
	{HF_TOP_BY_OOM, "OOM", HF_TERM_BAD, 68},
	{HF_TOP_BY_UNSEEN, "UNSEEN", HF_TERM_BAD, 84},
};
#define LAST_FROM_WIDTH 104

/* width 0: no limit */
static bool fits(const struct hf_term *t, unsigned from_width)
{
	return t->width == 0 || t->width >= from_width;
}

/* At most NUMBER_WIDTH columns: "18 204", "1.2M". */
static void short_number(uint64_t v, char dst[static HF_TERM_NUMBER_SIZE])
{
	static const char units[] = "kMGTPE";
	double d = (double)v;
	unsigned u = 0;

	hf_term_number(v, dst);
	if (hf_term_columns(dst) <= NUMBER_WIDTH)
		return;
	for (d /= 1000; d >= 999.5 && u + 2 < sizeof(units); u++)
		d /= 1000;
	(void)hf_strf(dst, HF_TERM_NUMBER_SIZE, "%.1f%c", d, units[u]);
}

static void cell(const struct hf_term *t, enum hf_term_style s, const char *text, size_t width,
		 bool right)
{
	size_t used = hf_term_columns(text);
	int pad = used < width ? (int)(width - used) : 0;

	(void)fprintf(t->f, "%*s%s%s%s%*s", right ? pad : 0, "", hf_term_on(t, s), text,
		      hf_term_off(t, s), right ? 0 : pad, "");
}

static char *name_of(const struct hf_top_row *r, enum hf_top_by by)
{
	_cleanup_free_ char *raw = NULL;

	if (!r->row)
		return hf_term_safe("(others)");
	if (!*r->name && !r->pid)
		return hf_term_safe(by == HF_TOP_PEER ? "(no peer)" : "(unknown)");
	if (by != HF_TOP_PROCESS)
		return hf_term_safe(r->name);
	raw = hf_asprintf("%s[%u]", r->name, r->pid);
	return hf_term_safe(raw ? raw : r->name);
}

static size_t clamp(size_t v, size_t lo, size_t hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

struct layout {
	size_t name, unit; /* widths; unit 0: no such column */
};

/* The unit goes first when there is no room, then the name gets shorter. */
static struct layout lay_out(const struct hf_term *t, const struct hf_top_rows *rows,
			     enum hf_top_by by, size_t max_rows)
{
	size_t fixed = fits(t, LAST_FROM_WIDTH) ? LAST_WIDTH + 2 : 0;
	struct layout l = {.name = NAME_MIN, .unit = 0};

	for (size_t i = 0; i < HF_ARRAY_SIZE(columns); i++)
		fixed += fits(t, columns[i].from_width) ? NUMBER_WIDTH + 1 : 0;
	for (size_t i = 0; i < rows->n && i < max_rows; i++) {
		_cleanup_free_ char *name = name_of(&rows->row[i], by);
		size_t unit = by == HF_TOP_PROCESS ? hf_term_columns(rows->row[i].unit) : 0;

		l.name = clamp(hf_term_columns(name), l.name, NAME_WIDEST);
		l.unit = clamp(unit, l.unit, UNIT_WIDEST);
	}
	if (l.unit && l.unit < UNIT_MIN)
		l.unit = UNIT_MIN;
	if (t->width == 0)
		return l;
	if (l.unit && fixed + l.name + l.unit + 1 > t->width)
		l.unit = fixed + l.name + UNIT_MIN + 1 <= t->width ? t->width - fixed - l.name - 1
								   : 0;
	if (fixed + l.name > t->width)
		l.name = t->width > fixed + NAME_MIN ? t->width - fixed : NAME_MIN;
	return l;
}

static void print_name(const struct hf_term *t, const struct hf_top_row *r, enum hf_top_by by,
		       const struct layout *l)
{
	_cleanup_free_ char *name = name_of(r, by), *unit = hf_term_safe(r->unit);

	hf_term_truncate(name, l->name);
	cell(t, r->row ? HF_TERM_BOLD : HF_TERM_DIM, name, l->name, false);
	if (!l->unit)
		return;
	hf_term_truncate(unit, l->unit);
	(void)fputc(' ', t->f);
	cell(t, HF_TERM_DIM, unit, l->unit, false);
}

static void print_row(const struct hf_term *t, const Bus__Top *now, const struct hf_top_row *r,
		      enum hf_top_by by, const struct layout *l)
{
	char text[HF_TERM_NUMBER_SIZE], ago[HF_TERM_DURATION_SIZE];

	print_name(t, r, by, l);
	for (size_t i = 0; i < HF_ARRAY_SIZE(columns); i++) {
		uint64_t v = r->counts[columns[i].column];

		if (!fits(t, columns[i].from_width))
			continue;
		short_number(v, text);
		(void)fputc(' ', t->f);
		cell(t, v ? columns[i].style : HF_TERM_DIM, text, NUMBER_WIDTH, true);
	}
	ago[0] = '\0';
	if (r->row) {
		uint64_t ns =
			now->now_unix_ns > r->last_unix_ns ? now->now_unix_ns - r->last_unix_ns : 0;

		/* Whole seconds: what changes each time is hard to read. */
		hf_term_duration(ns / HF_NS_PER_S * UINT64_C(1000000), ago);
	}
	if (fits(t, LAST_FROM_WIDTH)) {
		(void)fputs("  ", t->f);
		cell(t, HF_TERM_DIM, ago, LAST_WIDTH, true);
	}
	(void)fputc('\n', t->f);
}

static void print_line(const struct hf_term *t, enum hf_term_style s, const char *text)
{
	_cleanup_free_ char *safe = hf_term_safe(text);

	if (t->width)
		hf_term_truncate(safe, t->width);
	(void)fprintf(t->f, "%s%s%s\n", hf_term_on(t, s), safe, hf_term_off(t, s));
}

/* What happened, and on a line of its own how much of it is not in there. */
static void print_sums(const struct hf_term *t, const Bus__Top *now, const struct hf_top_rows *rows)
{
	static const struct {
		enum hf_top_sort column;
		const char *text;
	} sums[] = {
		{HF_TOP_BY_RESETS_IN, "resets in"}, {HF_TOP_BY_RESETS_OUT, "out"},
		{HF_TOP_BY_FAILED, "failed"},       {HF_TOP_BY_DROPPED, "dropped"},
		{HF_TOP_BY_EXITS, "exits"},         {HF_TOP_BY_BAD_EXITS, "bad"},
		{HF_TOP_BY_OOM, "OOM kills"},
	};
	char text[512] = "", number[HF_TERM_NUMBER_SIZE], lost[HF_TERM_NUMBER_SIZE];
	size_t len = 0;

	for (size_t i = 0; i < HF_ARRAY_SIZE(sums); i++) {
		hf_term_number(rows->totals[sums[i].column], number);
		(void)hf_strf(text + len, sizeof(text) - len, "%s%s %s", i ? ", " : "", number,
			      sums[i].text);
		len = strlen(text);
	}
	print_line(t, HF_TERM_PLAIN, text);
	hf_term_number(now->lost, lost);
	hf_term_number(now->throttled, number);
	(void)hf_strf(text, sizeof(text),
		      "not told one by one since the programs were loaded: %s lost, %s throttled",
		      lost, number);
	print_line(t, now->lost ? HF_TERM_BAD : now->throttled ? HF_TERM_WARN : HF_TERM_DIM, text);
}

static void print_title(const struct hf_term *t, const Bus__Top *now,
			const struct hf_top_rows *rows, enum hf_top_by by, enum hf_top_sort sort)
{
	char when[HF_TERM_TIME_SIZE], window[HF_TERM_DURATION_SIZE];
	_cleanup_free_ char *title = NULL;

	hf_term_time(t, now->now_unix_ns, 0, when);
	hf_term_duration(rows->window_ms * 1000, window);
	title = hf_asprintf("%s  by %s, most %s first, %s %s%s", when, hf_top_by_name(by),
			    hf_top_sort_name(sort),
			    rows->since_start ? "since the agent started" : "last", window,
			    rows->since_start ? " ago" : "");
	print_line(t, HF_TERM_BOLD, title);
}

void hf_view_top(const struct hf_term *t, const Bus__Top *now, const struct hf_top_rows *rows,
		 enum hf_top_by by, enum hf_top_sort sort, size_t max_rows)
{
	static const char *const first[] = {"PROCESS", "UNIT", "PEER"};
	size_t n = max_rows ? max_rows : SIZE_MAX;
	struct layout l = lay_out(t, rows, by, n);

	print_title(t, now, rows, by, sort);
	print_sums(t, now, rows);
	(void)fputc('\n', t->f);
	cell(t, HF_TERM_DIM, first[by], l.name, false);
	if (l.unit) {
		(void)fputc(' ', t->f);
		cell(t, HF_TERM_DIM, "UNIT", l.unit, false);
	}
	for (size_t i = 0; i < HF_ARRAY_SIZE(columns); i++) {
		if (!fits(t, columns[i].from_width))
			continue;
		(void)fputc(' ', t->f);
		cell(t, columns[i].column == sort ? HF_TERM_BOLD : HF_TERM_DIM, columns[i].title,
		     NUMBER_WIDTH, true);
	}
	if (fits(t, LAST_FROM_WIDTH)) {
		(void)fputs("  ", t->f);
		cell(t, HF_TERM_DIM, "LAST AGO", LAST_WIDTH, true);
	}
	(void)fputc('\n', t->f);
	for (size_t i = 0; i < rows->n && i < n; i++)
		print_row(t, now, &rows->row[i], by, &l);
	if (rows->n == 0)
		(void)fprintf(t->f, "%snothing happened%s\n", hf_term_on(t, HF_TERM_DIM),
			      hf_term_off(t, HF_TERM_DIM));
}
