/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of a configuration: text in, text out.
 *
 * I1 a value that is refused leaves the old one as it was.
 * I2 what hf_config_value_print() wrote is read back as the same value (secrets excepted).
 */
#include "userspace/base/config_value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/cleanup.h"

/* Paths and URLs fit; nobody writes a longer one by hand. */
#define STRING_MAX 4096
#define LIST_MAX   64

static const void *at(const struct hf_config_entry *e, const void *cfg)
{
	return (const char *)cfg + e->offset;
}

static void *at_mut(const struct hf_config_entry *e, void *cfg)
{
	return (char *)cfg + e->offset;
}

uint64_t hf_config_value_max(const struct hf_config_entry *e)
{
	if (e->max > 0)
		return e->max;
	if (e->type == HF_CONFIG_STRING)
		return STRING_MAX;
	if (e->type == HF_CONFIG_LIST)
		return LIST_MAX;
	return UINT64_MAX;
}

static bool has_control_characters(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return true;
	return false;
}

static int find_name(const char *const *names, const char *text)
{
	for (int i = 0; names[i]; i++)
		if (hf_streq(names[i], text))
			return i;
	return -EINVAL;
}

static int parse_bool(const char *text, bool *ret)
{
	static const struct {
		const char *text;
		bool value;
	} words[] = {{"true", true},   {"yes", true}, {"on", true},
		     {"false", false}, {"no", false}, {"off", false}};

	for (size_t i = 0; i < HF_ARRAY_SIZE(words); i++) {
		if (!hf_streq(text, words[i].text))
			continue;
		*ret = words[i].value;
		return 0;
	}
	return -EINVAL;
}

/* A bare number counts in the entry's unit; "5m" is converted, if it comes out even. */
static int parse_duration(const struct hf_config_entry *e, const char *text, uint64_t *ret)
{
	uint64_t ms;
	int r;

	if (hf_parse_u64(text, ret) == 0)
		return 0;
	r = hf_parse_duration_ms(text, &ms);
	if (r < 0)
		return r;
	if (hf_streq(e->unit, "ms")) {
		*ret = ms;
		return 0;
	}
	if (ms % 1000)
		return -EINVAL;
	*ret = ms / 1000;
	return 0;
}

static int parse_size(const char *text, uint64_t *ret)
{
	static const struct {
		const char *suffix;
		unsigned shift;
	} units[] = {{"", 0},     {"K", 10}, {"KiB", 10}, {"M", 20},
		     {"MiB", 20}, {"G", 30}, {"GiB", 30}};
	size_t digits = strspn(text, "0123456789");
	char number[24];
	uint64_t v;
	int r;

	if (digits >= sizeof(number))
		return -ERANGE;
	memcpy(number, text, digits);
	number[digits] = '\0';
	r = hf_parse_u64(number, &v);
	if (r < 0)
		return r;
	for (size_t i = 0; i < HF_ARRAY_SIZE(units); i++) {
		if (!hf_streq(text + digits, units[i].suffix))
			continue;
		if (v > UINT64_MAX >> units[i].shift)
			return -ERANGE;
		*ret = v << units[i].shift;
		return 0;
	}
	return -EINVAL;
}

static int set_number(const struct hf_config_entry *e, void *cfg, const char *text)
{
	uint64_t v = 0;
	int r;

	if (e->type == HF_CONFIG_DURATION)
		r = parse_duration(e, text, &v);
	else if (e->type == HF_CONFIG_SIZE)
		r = parse_size(text, &v);
	else
		r = hf_parse_u64(text, &v);
	if (r < 0 || v < e->min || v > hf_config_value_max(e))
		return -EINVAL;
	*(uint64_t *)at_mut(e, cfg) = v;
	return 0;
}

static int set_string(const struct hf_config_entry *e, void *cfg, const char *text)
{
	char **slot = at_mut(e, cfg);
	size_t len = strlen(text);
	char *copy;

	if (len < e->min || len > hf_config_value_max(e) || has_control_characters(text))
		return -EINVAL;
	if (len > 0 && e->check && e->check(text))
		return -EINVAL;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*slot);
	*slot = copy;
	return 0;
}

int hf_config_value_set(const struct hf_config_entry *e, void *cfg, const char *text)
{
	bool flag;
	int r;

	switch (e->type) {
	case HF_CONFIG_STRING:
		return set_string(e, cfg, text);
	case HF_CONFIG_BOOL:
		r = parse_bool(text, &flag);
		if (r == 0)
			*(bool *)at_mut(e, cfg) = flag;
		return r;
	case HF_CONFIG_UINT:
	case HF_CONFIG_DURATION:
	case HF_CONFIG_SIZE:
		return set_number(e, cfg, text);
	case HF_CONFIG_ENUM:
		r = find_name(e->names, text);
		if (r >= 0)
			*(unsigned *)at_mut(e, cfg) = (unsigned)r;
		return r < 0 ? r : 0;
	case HF_CONFIG_LIST:
	case _HF_CONFIG_TYPE_MAX:
		break;
	}
	hf_assert(!"a list has no scalar value");
	return -EINVAL;
}

int hf_config_value_append(const struct hf_config_entry *e, void *cfg, const char *text)
{
	struct hf_config_list *list = at_mut(e, cfg);
	_cleanup_free_ char *copy = NULL;
	char **items;

	if (list->n >= hf_config_value_max(e))
		return -E2BIG;
	if (!*text || strlen(text) > STRING_MAX || has_control_characters(text))
		return -EINVAL;
	if (e->names && find_name(e->names, text) < 0)
		return -EINVAL;
	if (e->check && e->check(text))
		return -EINVAL;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	items = realloc(list->items, (list->n + 1) * sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	list->items[list->n++] = TAKE_PTR(copy);
	return 0;
}

static void wipe_and_free(const struct hf_config_entry *e, char *s)
{
	if (s && e->secret)
		hf_wipe(s, strlen(s));
	free(s);
}

void hf_config_value_clear(const struct hf_config_entry *e, void *cfg)
{
	struct hf_config_list *list;
	char **string;

	switch (e->type) {
	case HF_CONFIG_STRING:
		string = at_mut(e, cfg);
		wipe_and_free(e, *string);
		*string = NULL;
		return;
	case HF_CONFIG_LIST:
		list = at_mut(e, cfg);
		for (size_t i = 0; i < list->n; i++)
			wipe_and_free(e, list->items[i]);
		free(list->items);
		*list = (struct hf_config_list){};
		return;
	case HF_CONFIG_BOOL:
		*(bool *)at_mut(e, cfg) = false;
		return;
	case HF_CONFIG_UINT:
	case HF_CONFIG_DURATION:
	case HF_CONFIG_SIZE:
		*(uint64_t *)at_mut(e, cfg) = 0;
		return;
	case HF_CONFIG_ENUM:
		*(unsigned *)at_mut(e, cfg) = 0;
		return;
	case _HF_CONFIG_TYPE_MAX:
		return;
	}
}

int hf_config_value_default(const struct hf_config_entry *e, void *cfg)
{
	_cleanup_free_ char *copy = NULL;
	char *p, *next;

	hf_config_value_clear(e, cfg);
	if (e->type != HF_CONFIG_LIST)
		return hf_config_value_set(e, cfg, e->def);
	copy = strdup(e->def);
	if (!copy)
		return -ENOMEM;
	for (p = strtok_r(copy, ",", &next); p; p = strtok_r(NULL, ",", &next)) {
		int r = hf_config_value_append(e, cfg, p);

		if (r < 0)
			return r;
	}
	return 0;
}

static void join_names(const char *const *names, char *dst, size_t size)
{
	size_t len = 0;

	*dst = '\0';
	for (size_t i = 0; names[i] && len < size; i++) {
		(void)hf_strf(dst + len, size - len, "%s%s", i ? ", " : "", names[i]);
		len = strlen(dst);
	}
}

static const char *unit_words(const char *unit)
{
	if (hf_streq(unit, "s"))
		return "seconds";
	if (hf_streq(unit, "ms"))
		return "milliseconds";
	return unit;
}

static void expected_number(const struct hf_config_entry *e, char *dst, size_t size)
{
	uint64_t max = hf_config_value_max(e);
	char what[96];

	if (e->type == HF_CONFIG_SIZE)
		(void)hf_strf(what, sizeof(what), "a number of bytes (or KiB, MiB, GiB)");
	else if (e->unit)
		(void)hf_strf(what, sizeof(what), "a number of %s", unit_words(e->unit));
	else
		(void)hf_strf(what, sizeof(what), "a number");
	if (max == UINT64_MAX)
		(void)hf_strf(dst, size, "%s, at least %" PRIu64, what, e->min);
	else
		(void)hf_strf(dst, size, "%s from %" PRIu64 " to %" PRIu64, what, e->min, max);
}

void hf_config_value_expected(const struct hf_config_entry *e, const char *text, char *dst,
			      size_t size)
{
	const char *why = text && *text && e->check ? e->check(text) : NULL;
	char names[256];

	switch (e->type) {
	case HF_CONFIG_STRING:
		if (why)
			(void)hf_strf(dst, size, "%s", why);
		else if (e->min > 0)
			(void)hf_strf(dst, size, "text of %" PRIu64 " to %" PRIu64 " bytes", e->min,
				      hf_config_value_max(e));
		else
			(void)hf_strf(dst, size,
				      "text of at most %" PRIu64 " bytes, no control characters",
				      hf_config_value_max(e));
		return;
	case HF_CONFIG_BOOL:
		(void)hf_strf(dst, size, "true or false");
		return;
	case HF_CONFIG_UINT:
	case HF_CONFIG_DURATION:
	case HF_CONFIG_SIZE:
		expected_number(e, dst, size);
		return;
	case HF_CONFIG_ENUM:
		join_names(e->names, names, sizeof(names));
		(void)hf_strf(dst, size, "one of %s", names);
		return;
	case HF_CONFIG_LIST:
		if (why)
			(void)hf_strf(dst, size, "%s", why);
		else if (text && e->names) {
			join_names(e->names, names, sizeof(names));
			(void)hf_strf(dst, size, "one of %s", names);
		} else if (text)
			(void)hf_strf(dst, size, "text of 1 to %d bytes, no control characters",
				      STRING_MAX);
		else if (e->min > 0)
			(void)hf_strf(dst, size, "a list of %" PRIu64 " to %" PRIu64 " items",
				      e->min, hf_config_value_max(e));
		else
			(void)hf_strf(dst, size, "a list of at most %" PRIu64 " items",
				      hf_config_value_max(e));
		return;
	case _HF_CONFIG_TYPE_MAX:
		return;
	}
}

/* Double-quoted: the two characters that need an escape are the only ones that can occur. */
static int print_string(const struct hf_config_entry *e, const char *s, struct hf_buf *out)
{
	int r;

	if (e->secret)
		return hf_buf_appendf(out, "\"%s\"", *s ? "********" : "");
	r = hf_buf_append(out, "\"", 1);
	for (; r == 0 && *s; s++) {
		if (*s == '"' || *s == '\\')
			r = hf_buf_append(out, "\\", 1);
		if (r == 0)
			r = hf_buf_append(out, s, 1);
	}
	return r < 0 ? r : hf_buf_append(out, "\"", 1);
}

int hf_config_value_print(const struct hf_config_entry *e, const void *cfg, struct hf_buf *out)
{
	const struct hf_config_list *list;
	const char *string;
	int r;

	switch (e->type) {
	case HF_CONFIG_STRING:
		string = *(char *const *)at(e, cfg);
		return print_string(e, string ? string : "", out);
	case HF_CONFIG_BOOL:
		return hf_buf_appendf(out, "%s", *(const bool *)at(e, cfg) ? "true" : "false");
	case HF_CONFIG_UINT:
	case HF_CONFIG_DURATION:
	case HF_CONFIG_SIZE:
		return hf_buf_appendf(out, "%" PRIu64, *(const uint64_t *)at(e, cfg));
	case HF_CONFIG_ENUM:
		return hf_buf_appendf(out, "%s", e->names[*(const unsigned *)at(e, cfg)]);
	case HF_CONFIG_LIST:
		list = at(e, cfg);
		r = hf_buf_append(out, "[", 1);
		for (size_t i = 0; r == 0 && i < list->n; i++) {
			if (i > 0)
				r = hf_buf_append(out, ", ", 2);
			if (r == 0)
				r = print_string(e, list->items[i], out);
		}
		return r < 0 ? r : hf_buf_append(out, "]", 1);
	case _HF_CONFIG_TYPE_MAX:
		break;
	}
	return -EINVAL;
}

bool hf_config_value_equal(const struct hf_config_entry *e, const void *a, const void *b)
{
	const struct hf_config_list *la, *lb;

	switch (e->type) {
	case HF_CONFIG_STRING:
		return hf_streq0(*(char *const *)at(e, a), *(char *const *)at(e, b));
	case HF_CONFIG_BOOL:
		return *(const bool *)at(e, a) == *(const bool *)at(e, b);
	case HF_CONFIG_UINT:
	case HF_CONFIG_DURATION:
	case HF_CONFIG_SIZE:
		return *(const uint64_t *)at(e, a) == *(const uint64_t *)at(e, b);
	case HF_CONFIG_ENUM:
		return *(const unsigned *)at(e, a) == *(const unsigned *)at(e, b);
	case HF_CONFIG_LIST:
		la = at(e, a);
		lb = at(e, b);
		if (la->n != lb->n)
			return false;
		for (size_t i = 0; i < la->n; i++)
			if (!hf_streq(la->items[i], lb->items[i]))
				return false;
		return true;
	case _HF_CONFIG_TYPE_MAX:
		break;
	}
	return true;
}
