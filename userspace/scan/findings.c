/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping findings, and their strings as JSON. */
#include "userspace/scan/findings.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

static const char *const severity_names[] = {
	[HF_SEVERITY_INFO] = "info",         [HF_SEVERITY_LOW] = "low",
	[HF_SEVERITY_MEDIUM] = "medium",     [HF_SEVERITY_HIGH] = "high",
	[HF_SEVERITY_CRITICAL] = "critical",
};
_Static_assert(HF_ARRAY_SIZE(severity_names) == _HF_SEVERITY_MAX, "every severity has a name");

const char *hf_severity_name(unsigned severity)
{
	return severity < _HF_SEVERITY_MAX ? severity_names[severity] : "unknown";
}

static void clear(struct hf_finding *i)
{
	free(i->path);
	free(i->evidence);
	i->path = i->evidence = NULL;
}

/* A place for one of this check: a new one, that of a lesser one, or NULL. */
static struct hf_finding *place_for(struct hf_findings *f, const struct hf_finding *finding)
{
	struct hf_finding *least = NULL;
	size_t same = 0;

	for (size_t i = 0; i < f->n; i++) {
		if (f->items[i].check != finding->check)
			continue;
		same++;
		if (!least || f->items[i].severity < least->severity)
			least = &f->items[i];
	}
	if (same >= HF_FINDINGS_PER_CHECK) {
		f->dropped++;
		if (least->severity >= finding->severity)
			return NULL;
		clear(least);
		return least;
	}
	if (f->n == f->cap) {
		size_t cap = f->cap ? 2 * f->cap : 64;
		struct hf_finding *items = realloc(f->items, cap * sizeof(*items));

		if (!items) {
			f->dropped++;
			return NULL;
		}
		f->items = items;
		f->cap = cap;
	}
	f->items[f->n] = (struct hf_finding){};
	return &f->items[f->n++];
}

void hf_findings_add(struct hf_findings *f, const struct hf_finding *finding)
{
	_cleanup_free_ char *path = strdup(finding->path), *evidence = strdup(finding->evidence);
	struct hf_finding *place;

	f->total[finding->severity]++;
	if (!path || !evidence) {
		f->dropped++;
		return;
	}
	place = place_for(f, finding);
	if (!place)
		return;
	*place = *finding;
	place->path = TAKE_PTR(path);
	place->evidence = TAKE_PTR(evidence);
}

static int compare(const void *a, const void *b)
{
	const struct hf_finding *x = a, *y = b;

	if (x->severity != y->severity)
		return x->severity < y->severity ? 1 : -1;
	if (x->check != y->check)
		return x->check < y->check ? -1 : 1;
	return strcmp(x->path, y->path);
}

void hf_findings_sort(struct hf_findings *f)
{
	if (f->n)
		qsort(f->items, f->n, sizeof(*f->items), compare);
}

void hf_findings_done(struct hf_findings *f)
{
	for (size_t i = 0; i < f->n; i++)
		clear(&f->items[i]);
	free(f->items);
	*f = (struct hf_findings){};
}

/* Bytes of the well-formed character at s; 0: there is none. */
static size_t character(const char *s)
{
	size_t len = strnlen(s, 4);

	for (size_t n = 1; n <= len; n++)
		if (hf_utf8_valid(s, n))
			return n;
	return 0;
}

bool hf_findings_json_string(struct hf_buf *out, const char *s)
{
	bool text = true;

	(void)hf_buf_append(out, "\"", 1);
	while (*s) {
		unsigned char c = (unsigned char)*s;
		size_t n = character(s);

		if (n == 0) {
			(void)hf_buf_appendf(out, "\\\\x%02x", c);
			text = false;
			n = 1;
		} else if (c == '"' || c == '\\') {
			(void)hf_buf_appendf(out, "\\%c", c);
		} else if (c < 0x20 || c == 0x7f) {
			(void)hf_buf_appendf(out, "\\u%04x", c);
		} else {
			(void)hf_buf_append(out, s, n);
		}
		s += n;
	}
	(void)hf_buf_append(out, "\"", 1);
	return text;
}
