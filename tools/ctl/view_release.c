/* SPDX-License-Identifier: Apache-2.0 */
/* Releases: a table, and what is worth a sentence. */
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/view.h"

#define SHORT_HASH 12

static void cell(struct hf_term_table *table, size_t column, enum hf_term_style s,
		 const Bus__ReleaseVersion *v)
{
	if (v)
		hf_term_table_cell(table, column, s, "%s-%.*s", v->version, SHORT_HASH, v->hash);
	else
		hf_term_table_cell(table, column, HF_TERM_DIM, "-");
}

static enum hf_term_style style_of(const Bus__Release *r)
{
	if (hf_streq(r->phase, "rolled_back") || hf_streq(r->phase, "safe"))
		return HF_TERM_BAD;
	if (hf_streq(r->phase, "trial") || hf_streq(r->phase, "preflight"))
		return HF_TERM_WARN;
	return HF_TERM_GOOD;
}

/* "rolled back 1.1.0 → 1.0.0 at 14:03:11: crashes: exited with code 3" */
static char *rollback_text(const struct hf_term *t, const Bus__ReleaseRollback *b)
{
	char when[HF_TERM_TIME_SIZE];

	hf_term_time(t, b->at_unix_ns, 0, when);
	return hf_asprintf("%s → %s at %s: %s: %s", b->from, b->to, when, b->reason, b->text);
}

/* The sentence of a component, NULL when there is nothing to tell. */
static char *sentence(const struct hf_term *t, const Bus__Release *r)
{
	if (*r->error)
		return hf_asprintf("%s: the package's program runs: %s", r->component, r->error);
	if (hf_streq(r->phase, "trial"))
		return hf_asprintf("%s: healthy for %llu of %llu s, %u of 3 tries left",
				   r->component, (unsigned long long)(r->healthy_ms / 1000),
				   (unsigned long long)(r->probation_ms / 1000), r->tries_left);
	if (r->last_rollback) {
		_cleanup_free_ char *text = rollback_text(t, r->last_rollback);

		return hf_asprintf("%s: rolled back %s", r->component, text ? text : "");
	}
	return NULL;
}

static void print_keys(const struct hf_term *t, const Bus__ReleaseKeys *k)
{
	_cleanup_free_ char *text = NULL;
	char expires[HF_TERM_TIME_SIZE];
	bool good = hf_streq(k->state, "ok");

	if (!k->version) {
		text = hf_asprintf("%s%s%s", k->state, *k->text ? ": " : "", k->text);
	} else {
		hf_term_time(t, k->expires_unix_s * HF_NS_PER_S, 0, expires);
		text = hf_asprintf("list %llu, %u key%s, %s %s%s%s", (unsigned long long)k->version,
				   k->keys, k->keys == 1 ? "" : "s",
				   good ? "good until" : "expired on", expires,
				   *k->text ? "; " : "", k->text);
	}
	hf_term_fact(t, "keys", good ? HF_TERM_PLAIN : HF_TERM_WARN, text);
}

void hf_view_releases(const struct hf_term *t, const Bus__Releases *m)
{
	static const char *const headers[] = {"COMPONENT", "PHASE", "ACTIVE", "PREVIOUS",
					      "CANDIDATE"};
	struct hf_term_table table;

	hf_term_table_init(&table, HF_ARRAY_SIZE(headers), headers);
	for (size_t i = 0; i < m->n_items; i++) {
		const Bus__Release *r = m->items[i];

		hf_term_table_row(&table);
		hf_term_table_cell(&table, 0, HF_TERM_BOLD, "%s", r->component);
		hf_term_table_cell(&table, 1, style_of(r), "%s", *r->phase ? r->phase : "no store");
		cell(&table, 2, HF_TERM_PLAIN, r->active);
		cell(&table, 3, HF_TERM_PLAIN, r->previous);
		cell(&table, 4, HF_TERM_WARN, r->candidate);
	}
	hf_term_table_print(&table, t);
	hf_term_table_done(&table);
	for (size_t i = 0; i < m->n_items; i++) {
		_cleanup_free_ char *text = sentence(t, m->items[i]);

		if (text)
			hf_term_fact(t, "note", style_of(m->items[i]), text);
	}
	if (m->keys)
		print_keys(t, m->keys);
}

void hf_view_release_line(const struct hf_term *t, const Bus__Release *r)
{
	_cleanup_free_ char *text = NULL;

	/* A rollback is news until the next update. */
	if (!hf_streq(r->phase, "trial") && !hf_streq(r->phase, "safe") &&
	    !hf_streq(r->phase, "rolled_back"))
		return;
	text = sentence(t, r);
	if (text)
		hf_term_fact(t, "update", style_of(r), text);
}
