/* SPDX-License-Identifier: Apache-2.0 */
/* Outages and events, one a line. */
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/view.h"

void hf_view_outages(const struct hf_term *t, Bus__Outage *const *items, size_t n)
{
	static const char *const headers[] = {"WHEN",    "LASTED",  "CAUSE",
					      "SEEN BY", "NOTICED", "DETAIL"};
	struct hf_term_table table;

	if (n == 0)
		return;
	hf_term_table_init(&table, HF_ARRAY_SIZE(headers), headers);
	for (size_t i = 0; i < n; i++) {
		const Bus__Outage *o = items[i];
		char when[HF_TERM_TIME_SIZE], lasted[HF_TERM_DURATION_SIZE],
			noticed[HF_TERM_DURATION_SIZE];

		hf_term_time(t, o->began_unix_ns ? o->began_unix_ns : o->detected_unix_ns, 3, when);
		hf_term_duration(o->outage_us, lasted);
		hf_term_duration(o->detect_us, noticed);
		hf_term_table_row(&table);
		hf_term_table_cell(&table, 0, HF_TERM_PLAIN, "%s", when);
		if (o->restored_unix_ns)
			hf_term_table_cell(&table, 1, HF_TERM_PLAIN, "%s", lasted);
		else
			hf_term_table_cell(&table, 1, HF_TERM_BAD, "still out");
		hf_term_table_cell(&table, 2, HF_TERM_BOLD, "%s", o->cause);
		hf_term_table_cell(&table, 3, HF_TERM_PLAIN, "%s", o->detected_by);
		hf_term_table_cell(&table, 4, HF_TERM_PLAIN, "%s", noticed);
		hf_term_table_cell(&table, 5, HF_TERM_PLAIN, "%s%s%s", o->detail,
				   *o->telemetry_gap ? "; telemetry lost: " : "", o->telemetry_gap);
	}
	hf_term_table_print(&table, t);
	hf_term_table_done(&table);
}

static enum hf_term_style style_of_action(const Bus__Action *a)
{
	if (hf_streq(a->state, "succeeded"))
		return HF_TERM_GOOD;
	if (hf_streq(a->state, "accepted") || hf_streq(a->state, "running"))
		return HF_TERM_BOLD;
	return hf_streq(a->state, "cancelled") ? HF_TERM_WARN : HF_TERM_BAD;
}

void hf_view_actions(const struct hf_term *t, Bus__Action *const *items, size_t n, uint64_t now_ns)
{
	static const char *const headers[] = {"WHEN", "KIND", "STATE", "TOOK", "DETAIL"};
	struct hf_term_table table;

	if (n == 0)
		return;
	hf_term_table_init(&table, HF_ARRAY_SIZE(headers), headers);
	for (size_t i = 0; i < n; i++) {
		const Bus__Action *a = items[i];
		uint64_t end = a->finished_unix_ns ? a->finished_unix_ns : now_ns;
		char when[HF_TERM_TIME_SIZE], took[HF_TERM_DURATION_SIZE] = "";

		hf_term_time(t, a->created_unix_ns, 3, when);
		if (a->started_unix_ns && end > a->started_unix_ns)
			hf_term_duration((end - a->started_unix_ns) / HF_NS_PER_US, took);
		hf_term_table_row(&table);
		hf_term_table_cell(&table, 0, HF_TERM_PLAIN, "%s", when);
		hf_term_table_cell(&table, 1, HF_TERM_PLAIN, "%s", *a->kind ? a->kind : "?");
		if (hf_streq(a->state, "running"))
			hf_term_table_cell(&table, 2, HF_TERM_BOLD, "running %u %%", a->progress);
		else
			hf_term_table_cell(&table, 2, style_of_action(a), "%s", a->state);
		hf_term_table_cell(&table, 3, HF_TERM_PLAIN, "%s", took);
		hf_term_table_cell(&table, 4, HF_TERM_PLAIN, "%s%s%s%s", a->text,
				   *a->reason ? " (" : "", a->reason, *a->reason ? ")" : "");
	}
	hf_term_table_print(&table, t);
	hf_term_table_done(&table);
}

static enum hf_term_style style_of(const Bus__Event *e)
{
	if (hf_streq(e->kind, "proc.oom") || hf_streq(e->kind, "telemetry.loss"))
		return HF_TERM_BAD;
	if (hf_streq(e->kind, "proc.exit"))
		return e->exit && (e->exit->signal || e->exit->code) ? HF_TERM_WARN : HF_TERM_PLAIN;
	if (hf_streq(e->kind, "conn.closed"))
		return HF_TERM_PLAIN;
	return HF_TERM_WARN;
}

/* A column of at least `width`; text that is longer pushes the rest, so that nothing is hidden. Returns what it took. */
static size_t column(const struct hf_term *t, enum hf_term_style s, const char *text, size_t width)
{
	size_t columns = hf_term_columns(text);

	if (width < columns)
		width = columns;
	(void)fprintf(t->f, "%s%s%s%*s  ", hf_term_on(t, s), text, hf_term_off(t, s),
		      (int)(width - columns), "");
	return width + 2;
}

/* "10.0.0.5:443 ← 203.0.113.7:40112": the arrow goes from who connected. */
static char *addresses(const Bus__Event *e)
{
	bool inbound = hf_streq(e->owner_src, "accept") || hf_streq(e->owner_src, "listen");

	if (!*e->local && !*e->peer)
		return strdup("");
	return hf_asprintf("%s %s %s", *e->local ? e->local : "?", inbound ? "←" : "→",
			   *e->peer ? e->peer : "?");
}

/* "TCP_CLOSE: closed with 1204 bytes unread" */
static char *sentence(const Bus__Event *e)
{
	bool both = *e->reason && *e->detail && !strstr(e->detail, e->reason);

	return hf_asprintf("%s%s%s", both || !*e->detail ? e->reason : "", both ? ": " : "",
			   e->detail);
}

void hf_view_event(const struct hf_term *t, const Bus__Event *e)
{
	_cleanup_free_ char *owner_raw =
		e->pid ? hf_asprintf("%s[%u]", e->comm, e->pid) : strdup("-");
	_cleanup_free_ char *addr_raw = addresses(e), *detail_raw = sentence(e);
	_cleanup_free_ char *kind = hf_term_safe(e->kind), *owner = hf_term_safe(owner_raw);
	_cleanup_free_ char *addr = hf_term_safe(addr_raw), *detail = hf_term_safe(detail_raw);
	_cleanup_free_ char *unit = hf_term_safe(e->unit);
	_cleanup_free_ char *cause_raw =
		*e->because ? hf_asprintf(", because %s", e->because) : strdup("");
	_cleanup_free_ char *cause = hf_term_safe(cause_raw);
	char when[HF_TERM_TIME_SIZE];
	size_t used = 0;

	hf_term_time(t, e->time_unix_ns, 3, when);
	used += column(t, HF_TERM_DIM, when, 12);
	used += column(t, style_of(e), kind, 19);
	used += column(t, HF_TERM_BOLD, owner, 22);
	if (*addr)
		used += column(t, HF_TERM_PLAIN, addr, 36);
	if (*unit)
		used += hf_term_columns(unit) + 2;
	/*
	 * The joined cause is what one looks for: what it explains is cut for it. Cut only where enough
	 * of the sentence stays; else the terminal may wrap it.
	 */
	used += hf_term_columns(cause);
	if (t->width > used + 24)
		hf_term_truncate(detail, t->width - used);
	(void)fprintf(t->f, "%s%s%s%s", detail, hf_term_on(t, HF_TERM_BAD), cause,
		      hf_term_off(t, HF_TERM_BAD));
	if (*unit)
		(void)fprintf(t->f, "  %s%s%s", hf_term_on(t, HF_TERM_DIM), unit,
			      hf_term_off(t, HF_TERM_DIM));
	(void)fputc('\n', t->f);
}
