/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of `key value`, read strictly. Silent; every refusal has the line's number and a reason.
 *
 * I1 nothing behind `end` is read, and the text need not end with a NUL: it comes from a file that
 *    a stranger wrote.
 * I2 after a fault nothing is taken any more, so that a decoder is a plain list of what it takes.
 */
#include "userspace/release/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"

void hf_text_init(struct hf_text *t, const void *text, size_t len, struct hf_err *err)
{
	*t = (struct hf_text){.p = len ? text : "", .err = err};
	t->end = t->p + len;
}

int hf_text_fault(struct hf_text *t, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	if (t->r < 0)
		return t->r;
	va_start(ap, fmt);
	if (vsnprintf(what, sizeof(what), fmt, ap) < 0)
		what[0] = '\0';
	va_end(ap);
	hf_sanitize(what); /* it may quote the stranger */
	t->r = hf_err_set(t->err, -EBADMSG, "line %u: %s", t->line, what);
	return t->r;
}

bool hf_text_has(const struct hf_text *t, const char *key)
{
	size_t len = strlen(key), left = (size_t)(t->end - t->p);

	return t->r == 0 && left > len && memcmp(t->p, key, len) == 0 && t->p[len] == ' ';
}

int hf_text_take(struct hf_text *t, const char *key)
{
	size_t left = (size_t)(t->end - t->p), len;
	const char *nl, *value;

	if (t->r < 0)
		return t->r;
	t->line++;
	if (left == 0)
		return hf_text_fault(t, "the text ends where '%s' was expected", key);
	if (!hf_text_has(t, key))
		return hf_text_fault(t, "'%s' was expected", key);
	nl = memchr(t->p, '\n', left);
	if (!nl)
		return hf_text_fault(t, "the line has no end");
	value = t->p + strlen(key) + 1;
	len = (size_t)(nl - value);
	if (len == 0 || len >= sizeof(t->value))
		return hf_text_fault(t, "'%s' has %zu characters, 1 to %zu are allowed", key, len,
				     sizeof(t->value) - 1);
	for (size_t i = 0; i < len; i++)
		if (value[i] < 0x20 || value[i] > 0x7e)
			return hf_text_fault(t, "'%s' has a byte that is no printable ASCII", key);
	memcpy(t->value, value, len);
	t->value[len] = '\0';
	t->p = nl + 1;
	return 0;
}

int hf_text_split(struct hf_text *t, char **rest, char **ret_word)
{
	char *word = *rest, *space = strchr(word, ' ');

	*ret_word = word;
	if (t->r < 0)
		return t->r;
	if (!*word || space == word)
		return hf_text_fault(t, "a word is missing");
	if (space)
		*space = '\0';
	*rest = space ? space + 1 : word + strlen(word);
	return 0;
}

bool hf_text_is_word(const char *s, size_t size)
{
	static const char also[] = "._+@~-";
	size_t i;

	for (i = 0; s[i]; i++) {
		bool alnum = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
			     (s[i] >= '0' && s[i] <= '9');

		if (!alnum && (i == 0 || !strchr(also, s[i])))
			return false;
	}
	return i > 0 && i < size;
}

int hf_text_word(struct hf_text *t, const char *s, char *dst, size_t size)
{
	if (t->r < 0)
		return t->r;
	if (!hf_text_is_word(s, size))
		return hf_text_fault(t, "'%.64s' is no word of 1 to %zu letters, digits and ._+@~-",
				     s, size - 1);
	(void)hf_strlcpy(dst, s, size); /* it fits: is_word() said so */
	return 0;
}

int hf_text_number(struct hf_text *t, const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t n;

	if (t->r < 0)
		return t->r;
	if (hf_parse_u64(s, &n) < 0 || n > max || (s[0] == '0' && s[1]))
		return hf_text_fault(t, "'%.64s' is no number from 0 to %llu", s,
				     (unsigned long long)max);
	*ret = n;
	return 0;
}

void hf_text_format_time(uint64_t s, char dst[static HF_TEXT_TIME_SIZE])
{
	time_t at = (time_t)(s > HF_TEXT_TIME_MAX ? HF_TEXT_TIME_MAX : s);
	struct tm tm;

	/* gmtime_r() and strftime() have no failure in this range. */
	(void)gmtime_r(&at, &tm);
	(void)strftime(dst, HF_TEXT_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

int hf_text_parse_time(const char *s, uint64_t *ret_s)
{
	char again[HF_TEXT_TIME_SIZE];
	struct tm tm = {};
	const char *end;
	time_t at;

	end = strptime(s, "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (!end || *end)
		return -EINVAL;
	at = timegm(&tm);
	if (at < 0 || (uint64_t)at > HF_TEXT_TIME_MAX)
		return -EINVAL;
	/* strptime() takes 30 February and a single digit; the one true spelling comes back. */
	hf_text_format_time((uint64_t)at, again);
	if (!hf_streq(again, s))
		return -EINVAL;
	*ret_s = (uint64_t)at;
	return 0;
}

int hf_text_time(struct hf_text *t, const char *s, uint64_t *ret_s)
{
	if (t->r < 0)
		return t->r;
	if (hf_text_parse_time(s, ret_s) < 0)
		return hf_text_fault(t, "'%.64s' is no time such as 2026-01-02T03:04:05Z", s);
	return 0;
}

int hf_text_hex(struct hf_text *t, const char *s, void *dst, size_t len)
{
	if (t->r < 0)
		return t->r;
	if (hf_hex_decode(dst, len, s) < 0)
		return hf_text_fault(t, "'%.64s' is not %zu bytes in hexadecimal", s, len);
	return 0;
}

int hf_text_take_word(struct hf_text *t, const char *key, char *dst, size_t size)
{
	(void)hf_text_take(t, key); /* a fault stays in t */
	return hf_text_word(t, t->value, dst, size);
}

int hf_text_take_number(struct hf_text *t, const char *key, uint64_t max, uint64_t *ret)
{
	(void)hf_text_take(t, key); /* a fault stays in t */
	return hf_text_number(t, t->value, max, ret);
}

int hf_text_take_time(struct hf_text *t, const char *key, uint64_t *ret_s)
{
	(void)hf_text_take(t, key); /* a fault stays in t */
	return hf_text_time(t, t->value, ret_s);
}
