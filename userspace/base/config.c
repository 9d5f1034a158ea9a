/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a configuration: libyaml's events against the table.
 *
 * Why not libcyaml: measured with 1.3.1 (Debian 12), a schema cannot bound an integer
 * (heartbeat_s: 99999 is a success, and no position is left to complain about afterwards), an
 * ignored unknown key is told without a line, a duplicate with the line of the first one, and
 * reasons exist only as log lines to be parsed. The events carry the line of every word.
 *
 * I1 the caller's struct is replaced as a whole or not at all.
 * I2 no file can cost more than HF_CONFIG_FILE_MAX bytes of input, HF_CONFIG_NODES_MAX events,
 *    HF_CONFIG_DEPTH_MAX levels, HF_CONFIG_WARNINGS_MAX warnings; there are no aliases to expand.
 * I3 every refusal names file, line, key, what was expected and what was there.
 */
#include "base/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <yaml.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "userspace/base/config_value.h"

/* seen[]: this bit is the key itself, the lower ones the mappings that open at this entry. */
#define SEEN_VALUE 0x80

struct loader {
	const struct hf_config_table *table;
	const char *name;
	const char *text;
	yaml_parser_t parser;
	yaml_event_t event; /* the current one; owned */
	void *cfg;
	uint8_t seen[HF_CONFIG_ENTRIES_MAX];
	uint32_t *lines; /* of each entry's key; 0 where the file has none */
	unsigned nodes;
	unsigned warnings;
	hf_config_warn_fn warn;
	void *userdata;
	struct hf_err *err;
};

static size_t line_of(const struct loader *l)
{
	return l->event.start_mark.line + 1;
}

/* A peer's or an administrator's text for a message: one line, printable, short. */
static void quote(const char *text, size_t len, char *dst, size_t size)
{
	char cut[64];
	size_t n = len < sizeof(cut) - 4 ? len : sizeof(cut) - 4;

	memcpy(cut, text, n);
	for (size_t i = 0; i < n; i++)
		if (!cut[i])
			cut[i] = '?';
	memcpy(cut + n, n < len ? "..." : "\0\0\0", 4);
	hf_sanitize(cut);
	(void)hf_strf(dst, size, "'%s'", cut);
}

static int fail_syntax(struct loader *l)
{
	const yaml_parser_t *p = &l->parser;
	const char *problem = p->problem ? p->problem : "unreadable";
	size_t line = p->problem_mark.line + 1;

	if (p->error == YAML_MEMORY_ERROR)
		return hf_err_set(l->err, -ENOMEM, "%s: out of memory", l->name);
	if (p->error == YAML_READER_ERROR) {
		/* The reader knows only an offset. */
		line = 1;
		for (size_t i = 0; i < p->problem_offset; i++)
			line += l->text[i] == '\n';
	}
	return hf_err_set(l->err, -EINVAL, "%s:%zu: not valid YAML: %s", l->name, line, problem);
}

/* Moves on to the next event. */
static int next(struct loader *l)
{
	yaml_event_delete(&l->event);
	if (!yaml_parser_parse(&l->parser, &l->event))
		return fail_syntax(l);
	if (l->event.type == YAML_ALIAS_EVENT)
		return hf_err_set(l->err, -EINVAL, "%s:%zu: aliases are not allowed", l->name,
				  line_of(l));
	if (++l->nodes > HF_CONFIG_NODES_MAX)
		return hf_err_set(l->err, -EINVAL, "%s:%zu: more than %d keys and values", l->name,
				  line_of(l), HF_CONFIG_NODES_MAX);
	return 0;
}

static const char *scalar(const struct loader *l)
{
	return (const char *)l->event.data.scalar.value;
}

static bool scalar_has_nul(const struct loader *l)
{
	return strlen(scalar(l)) != l->event.data.scalar.length;
}

/* `key:` with nothing behind it. */
static bool is_null(const struct loader *l)
{
	return l->event.type == YAML_SCALAR_EVENT &&
	       l->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (hf_streq(scalar(l), "") || hf_streq(scalar(l), "~") || hf_streq(scalar(l), "null"));
}

static void describe_event(const struct loader *l, bool secret, char *dst, size_t size)
{
	if (l->event.type == YAML_MAPPING_START_EVENT)
		(void)hf_strf(dst, size, "a mapping");
	else if (l->event.type == YAML_SEQUENCE_START_EVENT)
		(void)hf_strf(dst, size, "a list");
	else if (l->event.type != YAML_SCALAR_EVENT || is_null(l))
		(void)hf_strf(dst, size, "nothing");
	else if (secret)
		(void)hf_strf(dst, size, "something else (not shown)");
	else
		quote(scalar(l), l->event.data.scalar.length, dst, size);
}

static int fail_expected(struct loader *l, const char *key, const char *expected, bool secret)
{
	char got[80];

	describe_event(l, secret, got, sizeof(got));
	return hf_err_set(l->err, -EINVAL, "%s:%zu: %s: expected %s, got %s", l->name, line_of(l),
			  key, expected, got);
}

static int fail_value(struct loader *l, const struct hf_config_entry *e, const char *text)
{
	char expected[320];

	hf_config_value_expected(e, text, expected, sizeof(expected));
	return fail_expected(l, e->key, expected, e->secret);
}

/* Skips the value that starts with the current event. */
static int skip_value(struct loader *l, unsigned depth)
{
	unsigned base = depth;

	for (;;) {
		int r;

		switch (l->event.type) {
		case YAML_MAPPING_START_EVENT:
		case YAML_SEQUENCE_START_EVENT:
			if (++depth > HF_CONFIG_DEPTH_MAX)
				return hf_err_set(l->err, -EINVAL,
						  "%s:%zu: nested deeper than %d levels", l->name,
						  line_of(l), HF_CONFIG_DEPTH_MAX);
			break;
		case YAML_MAPPING_END_EVENT:
		case YAML_SEQUENCE_END_EVENT:
			depth--;
			break;
		default: /* the library's enumeration, not ours */
			break;
		}
		if (depth == base)
			return 0;
		r = next(l);
		if (r < 0)
			return r;
	}
}

static const struct hf_config_entry *find_entry(const struct loader *l, const char *key)
{
	for (size_t i = 0; i < l->table->n; i++)
		if (hf_streq(l->table->entries[i].key, key))
			return &l->table->entries[i];
	return NULL;
}

/* The first entry below this mapping, which stands for it. */
static const struct hf_config_entry *find_section(const struct loader *l, const char *path)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < l->table->n; i++) {
		const char *key = l->table->entries[i].key;

		if (hf_startswith(key, path) && key[len] == '.')
			return &l->table->entries[i];
	}
	return NULL;
}

/* Levenshtein distance, capped: anything above 2 is as good as 3. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned row[HF_CONFIG_KEY_MAX + 1];

	if (n > HF_CONFIG_KEY_MAX || m > HF_CONFIG_KEY_MAX || n > m + 2 || m > n + 2)
		return 3;
	for (size_t j = 0; j <= m; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[m] < 3 ? row[m] : 3;
}

static const char *last_word(const char *key)
{
	const char *dot = strrchr(key, '.');

	return dot ? dot + 1 : key;
}

/* The key or mapping that was probably meant, in dst; false if none is near. */
static bool suggest(const struct loader *l, const char *path, char dst[static HF_CONFIG_KEY_MAX])
{
	unsigned best = 3, same_word = 0;
	const char *moved = NULL;

	for (size_t i = 0; i < l->table->n; i++) {
		const char *key = l->table->entries[i].key, *p = key;
		char part[HF_CONFIG_KEY_MAX];

		/* Each mapping on the way to the key, then the key. */
		do {
			unsigned d;

			p = strchr(p + 1, '.');
			if (!hf_strlcpy(part, key, p ? (size_t)(p - key) + 1 : sizeof(part)) && !p)
				continue;
			d = distance(path, part);
			/* Two wrong letters of three are another word. */
			if (d < best && 3 * d <= strlen(part)) {
				best = d;
				(void)hf_strlcpy(dst, part, HF_CONFIG_KEY_MAX);
			}
		} while (p);
		if (hf_streq(last_word(key), last_word(path))) {
			moved = key;
			same_word++;
		}
	}
	if (best < 3)
		return true;
	/* Right word in the wrong mapping. */
	return same_word == 1 && hf_strlcpy(dst, moved, HF_CONFIG_KEY_MAX);
}

static void warn_unknown(struct loader *l, const char *path)
{
	char line[HF_ERR_MSG_MAX], quoted[80], near[HF_CONFIG_KEY_MAX];

	if (l->warnings++ >= HF_CONFIG_WARNINGS_MAX || !l->warn)
		return;
	quote(path, strlen(path), quoted, sizeof(quoted));
	if (suggest(l, path, near))
		(void)hf_strf(line, sizeof(line),
			      "%s:%zu: unknown key %s, ignoring (did you mean '%s'?)", l->name,
			      line_of(l), quoted, near);
	else
		(void)hf_strf(line, sizeof(line), "%s:%zu: unknown key %s, ignoring", l->name,
			      line_of(l), quoted);
	l->warn(l->userdata, line);
}

static int load_list(struct loader *l, const struct hf_config_entry *e)
{
	const struct hf_config_list *list;
	size_t line;
	int r;

	hf_config_value_clear(e, l->cfg);
	if (is_null(l))
		return e->min > 0 ? fail_value(l, e, NULL) : 0;
	if (l->event.type != YAML_SEQUENCE_START_EVENT)
		return fail_value(l, e, NULL);
	line = line_of(l);
	for (;;) {
		r = next(l);
		if (r < 0)
			return r;
		if (l->event.type == YAML_SEQUENCE_END_EVENT)
			break;
		if (l->event.type != YAML_SCALAR_EVENT || scalar_has_nul(l))
			return fail_value(l, e, "");
		r = hf_config_value_append(e, l->cfg, scalar(l));
		if (r == -ENOMEM)
			return hf_err_set(l->err, r, "%s: out of memory", l->name);
		if (r == -E2BIG)
			return hf_err_set(l->err, -EINVAL, "%s:%zu: %s: more than %llu items",
					  l->name, line_of(l), e->key,
					  (unsigned long long)hf_config_value_max(e));
		if (r < 0)
			return fail_value(l, e, scalar(l));
	}
	list = (const void *)((const char *)l->cfg + e->offset);
	if (list->n < e->min)
		return hf_err_set(l->err, -EINVAL, "%s:%zu: %s: fewer than %llu items", l->name,
				  line, e->key, (unsigned long long)e->min);
	return 0;
}

static int load_value(struct loader *l, const struct hf_config_entry *e)
{
	int r;

	if (e->type == HF_CONFIG_LIST)
		return load_list(l, e);
	if (l->event.type != YAML_SCALAR_EVENT || scalar_has_nul(l))
		return fail_value(l, e, NULL);
	r = hf_config_value_set(e, l->cfg,
				is_null(l) && e->type == HF_CONFIG_STRING ? "" : scalar(l));
	if (r == -ENOMEM)
		return hf_err_set(l->err, r, "%s: out of memory", l->name);
	return r < 0 ? fail_value(l, e, scalar(l)) : 0;
}

static int mark_seen(struct loader *l, const struct hf_config_entry *e, uint8_t bit,
		     const char *path, size_t line)
{
	uint8_t *seen = &l->seen[e - l->table->entries];

	if (*seen & bit)
		return hf_err_set(l->err, -EINVAL, "%s:%zu: %s: the key is there twice", l->name,
				  line, path);
	*seen |= bit;
	if (bit == SEEN_VALUE)
		l->lines[e - l->table->entries] = (uint32_t)line;
	return 0;
}

static unsigned count_dots(const char *s)
{
	unsigned n = 0;

	for (; *s; s++)
		n += *s == '.';
	return n;
}

static int load_mapping(struct loader *l, const char *prefix, unsigned depth);

/* The current event is a key of the mapping called prefix. */
static int load_key(struct loader *l, const char *prefix, unsigned depth)
{
	const struct hf_config_entry *e, *section;
	char path[HF_CONFIG_KEY_MAX];
	size_t line = line_of(l);
	bool fits;
	int r;

	if (l->event.type != YAML_SCALAR_EVENT || scalar_has_nul(l))
		return hf_err_set(l->err, -EINVAL, "%s:%zu: expected a key, got something else",
				  l->name, line);
	fits = hf_strf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "." : "", scalar(l));
	e = fits ? find_entry(l, path) : NULL;
	section = fits && !e ? find_section(l, path) : NULL;
	if (!e && !section)
		warn_unknown(l, path);

	if (e)
		r = mark_seen(l, e, SEEN_VALUE, path, line);
	else if (section)
		r = mark_seen(l, section, (uint8_t)(1U << count_dots(path)), path, line);
	else
		r = 0;
	if (r == 0)
		r = next(l);
	if (r < 0)
		return r;
	if (e)
		return load_value(l, e);
	if (!section)
		return skip_value(l, depth);
	if (is_null(l))
		return 0;
	if (l->event.type != YAML_MAPPING_START_EVENT)
		return fail_expected(l, path, "a mapping", false);
	return load_mapping(l, path, depth + 1);
}

/* The current event opens the mapping. Recursion ends with the table: a path in it has few dots. */
static int load_mapping(struct loader *l, const char *prefix, unsigned depth)
{
	for (;;) {
		int r = next(l);

		if (r < 0)
			return r;
		if (l->event.type == YAML_MAPPING_END_EVENT)
			return 0;
		r = load_key(l, prefix, depth);
		if (r < 0)
			return r;
	}
}

static int load_document(struct loader *l)
{
	int r;

	r = next(l); /* the stream starts */
	if (r == 0)
		r = next(l);
	if (r < 0 || l->event.type == YAML_STREAM_END_EVENT)
		return r; /* a file of comments is one of defaults */
	r = next(l);
	if (r < 0)
		return r;
	if (l->event.type == YAML_MAPPING_START_EVENT)
		r = load_mapping(l, "", 1);
	else if (!is_null(l))
		r = fail_expected(l, "the file", "a mapping", false);
	if (r == 0)
		r = next(l); /* the document ends */
	if (r == 0)
		r = next(l);
	if (r == 0 && l->event.type != YAML_STREAM_END_EVENT)
		return hf_err_set(l->err, -EINVAL, "%s:%zu: a second document is not allowed",
				  l->name, line_of(l));
	return r;
}

static int load_text(const struct hf_config_table *t, const char *name, const char *text,
		     size_t len, void *cfg, uint32_t *lines, hf_config_warn_fn warn, void *userdata,
		     struct hf_err *err)
{
	struct loader l = {
		.table = t,
		.lines = lines,
		.name = name,
		.text = text,
		.cfg = cfg,
		.warn = warn,
		.userdata = userdata,
		.err = err,
	};
	char more[HF_ERR_MSG_MAX];
	int r;

	if (!yaml_parser_initialize(&l.parser))
		return hf_err_set(err, -ENOMEM, "%s: out of memory", name);
	yaml_parser_set_encoding(&l.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&l.parser, (const unsigned char *)text, len);
	r = load_document(&l);
	yaml_event_delete(&l.event);
	yaml_parser_delete(&l.parser);
	if (r == 0 && warn && l.warnings > HF_CONFIG_WARNINGS_MAX) {
		(void)hf_strf(more, sizeof(more), "%s: %u more unknown keys, ignoring", name,
			      l.warnings - HF_CONFIG_WARNINGS_MAX);
		warn(userdata, more);
	}
	return r;
}

static int load_environment(const struct hf_config_table *t, void *cfg, struct hf_err *err)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct hf_config_entry *e = &t->entries[i];
		const char *text = e->env ? getenv(e->env) : NULL;
		char expected[320], got[80];
		int r;

		if (!text || !*text)
			continue;
		r = hf_config_value_set(e, cfg, text);
		if (r == -ENOMEM)
			return hf_err_set(err, r, "%s: out of memory", e->env);
		if (r == 0)
			continue;
		hf_config_value_expected(e, text, expected, sizeof(expected));
		quote(text, strlen(text), got, sizeof(got));
		return hf_err_set(err, -EINVAL, "environment variable %s: expected %s, got %s",
				  e->env, expected, e->secret ? "something else (not shown)" : got);
	}
	return 0;
}

#define KEY_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789_."

/* Of the keys that a message names, the line of the one furthest down in the file; 0: none is in it. */
static uint32_t line_of_complaint(const struct hf_config_table *t, const uint32_t *lines,
				  const struct hf_err *err)
{
	const char *word = err->msg;
	uint32_t last = 0;

	while (*word) {
		size_t len = strspn(word, KEY_CHARACTERS);

		for (size_t i = 0; len && i < t->n; i++)
			if (lines[i] > last && strlen(t->entries[i].key) == len &&
			    memcmp(t->entries[i].key, word, len) == 0)
				last = lines[i];
		word += len ? len : 1;
	}
	return last;
}

/* text is NULL where there is no file. */
static int build(const struct hf_config_table *t, const char *name, const char *text, size_t len,
		 void *fresh, hf_config_warn_fn warn, void *userdata, struct hf_err *err)
{
	uint32_t lines[HF_CONFIG_ENTRIES_MAX] = {}, line;
	int r = 0;

	for (size_t i = 0; r == 0 && i < t->n; i++)
		r = hf_config_value_default(&t->entries[i], fresh);
	hf_assert(r == 0 || r == -ENOMEM); /* else the table is wrong */
	if (r < 0)
		return hf_err_set(err, r, "%s: out of memory", name);
	if (text)
		r = load_text(t, name, text, len, fresh, lines, warn, userdata, err);
	if (r == 0)
		r = load_environment(t, fresh, err);
	if (r == 0 && t->check) {
		r = t->check(fresh, err);
		line = r < 0 ? line_of_complaint(t, lines, err) : 0;
		if (line)
			(void)hf_err_wrap(err, "%s:%" PRIu32, name, line);
		else if (r < 0)
			(void)hf_err_wrap(err, "%s", name);
	}
	return r;
}

int hf_config_load_text(const struct hf_config_table *t, const char *name, const char *text,
			size_t len, void *cfg, hf_config_warn_fn warn, void *userdata,
			struct hf_err *err)
{
	_cleanup_free_ void *fresh = calloc(1, t->struct_size);
	int r;

	hf_assert(t->n <= HF_CONFIG_ENTRIES_MAX);
	if (!fresh)
		return hf_err_set(err, -ENOMEM, "%s: out of memory", name);
	if (len > HF_CONFIG_FILE_MAX)
		return hf_err_set(err, -EFBIG, "%s: larger than %zu bytes", name,
				  HF_CONFIG_FILE_MAX);
	r = build(t, name, text, len, fresh, warn, userdata, err);
	if (r < 0) {
		hf_config_done(t, fresh);
		return r;
	}
	hf_config_done(t, cfg);
	memcpy(cfg, fresh, t->struct_size);
	return 0;
}

int hf_config_load(const struct hf_config_table *t, int dirfd, const char *path, void *cfg,
		   hf_config_warn_fn warn, void *userdata, struct hf_err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	int r;

	r = hf_read_file(dirfd, path, HF_CONFIG_FILE_MAX, &text, &len);
	if (r == -ENOENT) {
		r = hf_config_load_text(t, path, NULL, 0, cfg, warn, userdata, err);
		return r < 0 ? r : HF_CONFIG_MISSING;
	}
	if (r == -EFBIG)
		return hf_err_set(err, r, "%s: larger than %zu bytes", path, HF_CONFIG_FILE_MAX);
	if (r < 0)
		return hf_err_set(err, r, "%s: %s", path, strerror(-r));
	return hf_config_load_text(t, path, text, len, cfg, warn, userdata, err);
}

void hf_config_done(const struct hf_config_table *t, void *cfg)
{
	for (size_t i = 0; i < t->n; i++)
		hf_config_value_clear(&t->entries[i], cfg);
}
