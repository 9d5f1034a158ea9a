/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration and its table as text for people: `config show`, man pages; and the comparison. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "userspace/base/config_value.h"

/* Length of the common leading mappings of two keys, the dot included. */
static size_t common_mappings(const char *a, const char *b)
{
	size_t common = 0;

	for (size_t i = 0; a[i] && a[i] == b[i]; i++)
		if (a[i] == '.')
			common = i + 1;
	return common;
}

static unsigned count_dots(const char *s, size_t len)
{
	unsigned n = 0;

	for (size_t i = 0; i < len && s[i]; i++)
		n += s[i] == '.';
	return n;
}

static void describe_range(const struct hf_config_entry *e, char *dst, size_t size)
{
	char expected[320];
	size_t len;

	if (e->type == HF_CONFIG_LIST && e->names) {
		(void)hf_strf(dst, size, "list of %" PRIu64 " to %" PRIu64 " of", e->min,
			      hf_config_value_max(e));
		for (size_t i = 0; e->names[i]; i++) {
			len = strlen(dst);
			(void)hf_strf(dst + len, size - len, "%s %s", i ? "," : "", e->names[i]);
		}
		return;
	}
	if (e->type == HF_CONFIG_STRING && e->min == 0) {
		(void)hf_strf(dst, size, "text"); /* the bound is only against nonsense */
		return;
	}
	hf_config_value_expected(e, NULL, expected, sizeof(expected));
	(void)hf_strf(dst, size, "%s", expected + (hf_startswith(expected, "a ") ? 2 : 0));
}

/* "number of seconds from 5 to 300; default 20; applies at restart". */
static void describe(const struct hf_config_entry *e, char *dst, size_t size)
{
	char range[320];

	describe_range(e, range, sizeof(range));
	(void)hf_strf(dst, size, "%s; default %s; %s%s%s%s", range,
		      e->secret || !*e->def ? "none" : e->def,
		      e->restart ? "applies at restart" : "applies at once",
		      e->env ? "; environment " : "", e->env ? e->env : "",
		      e->secret ? "; secret, not shown" : "");
}

/* Opens the mappings in which key is and the previous key was not. */
static int open_mappings(const char *previous, const char *key, struct hf_buf *out)
{
	size_t start = common_mappings(previous, key);
	const char *dot;
	int r = 0;

	for (; r == 0 && (dot = strchr(key + start, '.')); start = (size_t)(dot - key) + 1)
		r = hf_buf_appendf(out, "%*s%.*s:\n", (int)(4 * count_dots(key, start)), "",
				   (int)(dot - key - (ptrdiff_t)start), key + start);
	return r;
}

int hf_config_print(const struct hf_config_table *t, const void *cfg, struct hf_buf *out)
{
	const char *previous = "";

	for (size_t i = 0; i < t->n; i++) {
		const struct hf_config_entry *e = &t->entries[i];
		int indent = (int)(4 * count_dots(e->key, SIZE_MAX));
		const char *word = strrchr(e->key, '.');
		char about[HF_ERR_MSG_MAX];
		int r;

		describe(e, about, sizeof(about));
		r = i > 0 ? hf_buf_append(out, "\n", 1) : 0;
		if (r == 0)
			r = open_mappings(previous, e->key, out);
		if (r == 0)
			r = hf_buf_appendf(out, "%*s# %s\n%*s# %s\n%*s%s: ", indent, "", e->prose,
					   indent, "", about, indent, "", word ? word + 1 : e->key);
		if (r == 0)
			r = hf_config_value_print(e, cfg, out);
		if (r == 0)
			r = hf_buf_append(out, "\n", 1);
		if (r < 0)
			return r;
		previous = e->key;
	}
	return 0;
}

/* roff takes a leading dot or quote and every backslash and hyphen for its own. */
static int append_roff(struct hf_buf *out, const char *s)
{
	int r = 0;

	if (*s == '.' || *s == '\'')
		r = hf_buf_append(out, "\\&", 2);
	for (; r == 0 && *s; s++) {
		if (*s == '\\')
			r = hf_buf_append(out, "\\e", 2);
		else if (*s == '-')
			r = hf_buf_append(out, "\\-", 2);
		else
			r = hf_buf_append(out, s, 1);
	}
	return r;
}

int hf_config_print_man(const struct hf_config_table *t, struct hf_buf *out)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct hf_config_entry *e = &t->entries[i];
		const char *lines[] = {e->key, e->prose, NULL};
		char about[HF_ERR_MSG_MAX];
		int r;

		describe(e, about, sizeof(about));
		lines[2] = about;
		r = hf_buf_append(out, ".TP\n.B ", 7);
		for (size_t k = 0; r == 0 && k < HF_ARRAY_SIZE(lines); k++) {
			r = append_roff(out, lines[k]);
			if (r == 0)
				r = hf_buf_appendf(out, k == 1 ? "\n.br\n" : "\n");
		}
		if (r < 0)
			return r;
	}
	return 0;
}

size_t hf_config_diff(const struct hf_config_table *t, const void *a, const void *b,
		      void (*fn)(void *userdata, const struct hf_config_entry *e), void *userdata)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++) {
		if (hf_config_value_equal(&t->entries[i], a, b))
			continue;
		n++;
		if (fn)
			fn(userdata, &t->entries[i]);
	}
	return n;
}

static bool list_has(const struct hf_config_list *l, const char *item)
{
	for (size_t i = 0; i < l->n; i++)
		if (hf_streq(l->items[i], item))
			return true;
	return false;
}

/* The items of l that are not in the other. Returns how many there were, or -ENOMEM. */
static int print_missing(const struct hf_config_list *l, const struct hf_config_list *other,
			 char sign, struct hf_buf *out)
{
	int n = 0;

	for (size_t i = 0; i < l->n; i++) {
		if (list_has(other, l->items[i]))
			continue;
		if (hf_buf_appendf(out, " %c%s", sign, l->items[i]) < 0)
			return -ENOMEM;
		n++;
	}
	return n;
}

static int print_list_change(const struct hf_config_entry *e, const void *a, const void *b,
			     struct hf_buf *out)
{
	const struct hf_config_list *old = (const void *)((const uint8_t *)a + e->offset);
	const struct hf_config_list *new = (const void *)((const uint8_t *)b + e->offset);
	int added = print_missing(new, old, '+', out), removed;

	if (added < 0)
		return added;
	removed = print_missing(old, new, '-', out);
	if (removed < 0)
		return removed;
	return added || removed ? 0 : hf_buf_appendf(out, " another order");
}

int hf_config_print_change(const struct hf_config_entry *e, const void *a, const void *b,
			   struct hf_buf *out)
{
	int r = hf_buf_appendf(out, "%s:", e->key);

	if (r == 0 && e->secret) {
		r = hf_buf_appendf(out, " changed");
	} else if (r == 0 && e->type == HF_CONFIG_LIST) {
		r = print_list_change(e, a, b, out);
	} else if (r == 0) {
		r = hf_buf_append(out, " ", 1);
		if (r == 0)
			r = hf_config_value_print(e, a, out);
		if (r == 0)
			r = hf_buf_append(out, " -> ", 4);
		if (r == 0)
			r = hf_config_value_print(e, b, out);
	}
	if (r == 0 && e->restart)
		r = hf_buf_appendf(out, " (at the next start)");
	return r;
}

/* Whether the mapping of entry i was already closed by an entry of another mapping before it. */
static bool mapping_reopened(const struct hf_config_table *t, size_t i)
{
	const char *key = t->entries[i].key;

	for (size_t j = 0; j + 1 < i; j++)
		if (common_mappings(t->entries[j].key, key) >
		    common_mappings(t->entries[i - 1].key, key))
			return true;
	return false;
}

static const char *entry_fault(const struct hf_config_table *t, size_t i, void *scratch)
{
	const struct hf_config_entry *e = &t->entries[i];

	if (!e->key || !*e->key || strlen(e->key) >= HF_CONFIG_KEY_MAX)
		return "bad key";
	if (count_dots(e->key, SIZE_MAX) >= HF_CONFIG_DEPTH_MAX)
		return "nested too deep";
	if (!e->prose || !*e->prose || strchr(e->prose, '\n'))
		return "prose is one line";
	if (!e->def)
		return "no default";
	if (e->max > 0 && e->min > e->max)
		return "min above max";
	if (e->type == HF_CONFIG_DURATION &&
	    (!e->unit || (!hf_streq(e->unit, "s") && !hf_streq(e->unit, "ms"))))
		return "a duration's unit is s or ms";
	if (e->type == HF_CONFIG_ENUM && !e->names)
		return "an enumeration without names";
	if (e->type == HF_CONFIG_LIST && e->env)
		return "a list from the environment";
	for (size_t j = 0; j < i; j++) {
		const char *other = t->entries[j].key;
		size_t n = strlen(other) < strlen(e->key) ? strlen(other) : strlen(e->key);

		if (hf_streq(other, e->key))
			return "the key is there twice";
		if (strncmp(other, e->key, n) == 0 && (other[n] == '.' || e->key[n] == '.'))
			return "a value and a mapping";
	}
	if (mapping_reopened(t, i))
		return "keys of one mapping stand apart";
	if (hf_config_value_default(e, scratch) < 0)
		return "the default is no legal value";
	return NULL;
}

int hf_config_table_check(const struct hf_config_table *t, struct hf_err *err)
{
	_cleanup_free_ void *scratch = calloc(1, t->struct_size);
	const char *fault = NULL;
	size_t i;

	if (!scratch)
		return hf_err_set(err, -ENOMEM, "out of memory");
	if (t->n > HF_CONFIG_ENTRIES_MAX)
		return hf_err_set(err, -EINVAL, "more than %d entries", HF_CONFIG_ENTRIES_MAX);
	for (i = 0; i < t->n && !fault; i++)
		fault = entry_fault(t, i, scratch);
	hf_config_done(t, scratch);
	if (fault)
		return hf_err_set(err, -EINVAL, "%s: %s", t->entries[i - 1].key, fault);
	return 0;
}
