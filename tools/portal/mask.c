/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Line by line. A secret key without a value on its line (a block scalar, a list, a mapping) hides
 * every following line that is indented deeper, and list items at its own depth.
 */
#include "tools/portal/mask.h"

#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

struct masker {
	struct hf_buf *out;
	unsigned masked;
	int r;
	bool hiding;       /* below a secret key without a value */
	size_t hide_depth; /* of that key */
	bool in_pem;
};

static const char *const secret_words[] = {
	"password",   "passwd",     "passphrase",  "secret",      "token",      "apikey",
	"api_key",    "api-key",    "private_key", "private-key", "privatekey", "authorization",
	"credential", "access_key", "access-key",  "accesskey",   "bearer",     "cookie",
};

/* Where a secret lies is none itself: token_file, secrets_path, client_id. */
static const char *const harmless_ends[] = {"file", "path", "_dir", "_url", "_id"};

static void put(struct masker *m, const char *text, size_t len)
{
	if (m->r == 0)
		m->r = hf_buf_append(m->out, text, len);
}

static void put_mask(struct masker *m)
{
	put(m, "***", 3);
	m->masked++;
}

static bool word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-' || c == '.';
}

static bool has(const char *word, size_t len, const char *part)
{
	size_t n = strlen(part);

	for (size_t i = 0; i + n <= len; i++) {
		if (strncasecmp(word + i, part, n) == 0)
			return true;
	}
	return false;
}

static bool secret_key(const char *word, size_t len)
{
	for (size_t i = 0; i < HF_ARRAY_SIZE(harmless_ends); i++) {
		size_t n = strlen(harmless_ends[i]);

		if (len >= n && strncasecmp(word + len - n, harmless_ends[i], n) == 0)
			return false;
	}
	for (size_t i = 0; i < HF_ARRAY_SIZE(secret_words); i++) {
		if (has(word, len, secret_words[i]))
			return true;
	}
	return false;
}

static size_t depth_of(const char *line, size_t len)
{
	size_t i = 0;

	while (i < len && (line[i] == ' ' || line[i] == '\t'))
		i++;
	return i;
}

/* The value that begins at i: its end. flow: inside of braces or brackets. */
static size_t value_end(const char *line, size_t len, size_t i, bool flow)
{
	if (i < len && (line[i] == '"' || line[i] == '\'')) {
		char quote = line[i++];

		while (i < len && line[i] != quote)
			i += line[i] == '\\' && i + 1 < len ? 2 : 1;
		return i < len ? i + 1 : len;
	}
	if (!flow)
		return len;
	while (i < len && line[i] != ',' && line[i] != '}' && line[i] != ']')
		i++;
	return i;
}

/* A value that goes on below: nothing, a block scalar, an open list or mapping. */
static bool goes_on_below(const char *line, size_t len, size_t i)
{
	size_t end = len;

	while (end > i && (line[end - 1] == ' ' || line[end - 1] == '\t' || line[end - 1] == '\r'))
		end--;
	return end == i || line[i] == '|' || line[i] == '>' || line[i] == '&' || line[i] == '!' ||
	       (end == i + 1 && (line[i] == '[' || line[i] == '{'));
}

/* The end of "user:password@" at i (behind "://"); i when there is none. */
static size_t userinfo_end(const char *line, size_t len, size_t i)
{
	size_t at = i;

	for (size_t j = i; j < len && !strchr(" \t\"'/?#", line[j]); j++) {
		if (line[j] == '@')
			at = j;
	}
	return at;
}

/* At a word of len bytes that ends before i: the beginning of its value, 0 if it is no key. */
static size_t value_begin(const char *line, size_t len, size_t i)
{
	if (i < len && (line[i] == '"' || line[i] == '\''))
		i++;
	while (i < len && (line[i] == ' ' || line[i] == '\t'))
		i++;
	if (i >= len || (line[i] != ':' && line[i] != '='))
		return 0;
	i++;
	while (i < len && (line[i] == ' ' || line[i] == '\t'))
		i++;
	return i;
}

/* Masks the value of the secret key at word; returns where to go on. */
static size_t mask_value(struct masker *m, const char *line, size_t len, size_t word, size_t value,
			 bool flow)
{
	size_t end;

	put(m, line + word, value - word);
	if (!flow && goes_on_below(line, len, value)) {
		m->hiding = true;
		m->hide_depth = depth_of(line, len);
		if (value > 0 && line[value - 1] != ' ')
			put(m, " ", 1);
		put_mask(m);
		return len;
	}
	end = value_end(line, len, value, flow);
	if (end == value || (end == value + 2 && line[value] == line[value + 1])) {
		put(m, line + value, end - value); /* empty: nothing to hide, and good to see */
		return end;
	}
	put_mask(m);
	return end;
}

static void mask_line(struct masker *m, const char *line, size_t len)
{
	unsigned open = 0;
	size_t i = 0;

	while (i < len) {
		size_t start = i, value;

		if (!word_char(line[i])) {
			open += line[i] == '{' || line[i] == '[';
			open -= open && (line[i] == '}' || line[i] == ']');
			put(m, line + i++, 1);
			if (i >= 3 && memcmp(line + i - 3, "://", 3) == 0) {
				value = userinfo_end(line, len, i);
				if (value > i)
					put_mask(m);
				i = value;
			}
			continue;
		}
		while (i < len && word_char(line[i]))
			i++;
		value = value_begin(line, len, i);
		if (value && secret_key(line + start, i - start))
			i = mask_value(m, line, len, start, value, open > 0);
		else
			put(m, line + start, i - start);
	}
}

/* True: the line is part of what is hidden. */
static bool hidden(struct masker *m, const char *line, size_t len)
{
	size_t depth = depth_of(line, len);

	if (m->in_pem) {
		m->in_pem = !memmem(line, len, "-----END", 8);
		return true;
	}
	if (memmem(line, len, "-----BEGIN", 10) && memmem(line, len, "PRIVATE KEY", 11)) {
		put(m, line, depth);
		put_mask(m);
		put(m, "\n", 1);
		m->in_pem = !memmem(line, len, "-----END", 8);
		return true;
	}
	if (!m->hiding)
		return false;
	if (depth == len || (len - depth == 1 && line[depth] == '\r') || depth > m->hide_depth ||
	    (depth == m->hide_depth && line[depth] == '-'))
		return true;
	m->hiding = false;
	return false;
}

int hf_mask_config(const char *text, size_t len, struct hf_buf *out, unsigned *ret)
{
	struct masker m = {.out = out};

	while (len > 0 && m.r == 0) {
		const char *nl = memchr(text, '\n', len);
		size_t n = nl ? (size_t)(nl - text) : len;

		if (!hidden(&m, text, n)) {
			mask_line(&m, text, n);
			if (nl)
				put(&m, "\n", 1);
		}
		n += nl != NULL;
		text += n;
		len -= n;
	}
	*ret = m.masked;
	return m.r;
}
