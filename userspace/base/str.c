/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings, numbers, encodings, the growing buffer. Decoders are strict: one text for one value, and
 * the destination is written only when the whole source was good.
 */
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"

bool hf_startswith(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool hf_endswith(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool hf_strlcpy(char *dst, const char *src, size_t size)
{
	size_t len = strlen(src);
	size_t n;

	if (size == 0)
		return false;
	n = len < size ? len : size - 1;
	memcpy(dst, src, n);
	dst[n] = '\0';
	return n == len;
}

bool hf_strf(char *dst, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(dst, size, fmt, ap);
	va_end(ap);
	if (n < 0 && size > 0)
		dst[0] = '\0';
	return n >= 0 && (size_t)n < size;
}

char *hf_asprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

/* Digits at *p; moves *p behind them. */
static int take_u64(const char **p, uint64_t *ret)
{
	uint64_t v = 0;

	if (**p < '0' || **p > '9')
		return -EINVAL;
	for (; **p >= '0' && **p <= '9'; (*p)++) {
		if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
		    __builtin_add_overflow(v, (uint64_t)(**p - '0'), &v))
			return -ERANGE;
	}
	*ret = v;
	return 0;
}

int hf_parse_u64(const char *s, uint64_t *ret)
{
	uint64_t v;
	int r;

	/* "99999999999999999999x" is no number at all, so that form comes before range. */
	if (!*s || s[strspn(s, "0123456789")])
		return -EINVAL;
	r = take_u64(&s, &v);
	if (r < 0)
		return r;
	*ret = v;
	return 0;
}

int hf_parse_u32(const char *s, uint32_t *ret)
{
	uint64_t v;
	int r;

	r = hf_parse_u64(s, &v);
	if (r < 0)
		return r;
	if (v > UINT32_MAX)
		return -ERANGE;
	*ret = (uint32_t)v;
	return 0;
}

int hf_parse_duration_ms(const char *s, uint64_t *ret_ms)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = {{"", 1000},   {"ms", 1},      {"s", 1000},
		     {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
	const char *unit = s + strspn(s, "0123456789");
	uint64_t v;
	int r;

	if (unit == s)
		return -EINVAL;
	for (size_t i = 0; i < HF_ARRAY_SIZE(units); i++) {
		if (!hf_streq(unit, units[i].name))
			continue;
		r = take_u64(&s, &v);
		if (r < 0)
			return r;
		if (__builtin_mul_overflow(v, units[i].ms, &v))
			return -ERANGE;
		*ret_ms = v;
		return 0;
	}
	return -EINVAL;
}

void hf_hex_encode(char *dst, const void *src, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = src;

	for (size_t i = 0; i < len; i++) {
		*dst++ = digits[p[i] >> 4];
		*dst++ = digits[p[i] & 15];
	}
	*dst = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hf_hex_decode(void *dst, size_t len, const char *src)
{
	uint8_t *p = dst;

	if (strlen(src) != 2 * len)
		return -EINVAL;
	for (size_t i = 0; i < 2 * len; i++)
		if (hex_digit(src[i]) < 0)
			return -EINVAL;
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((unsigned)hex_digit(src[2 * i]) << 4 |
				 (unsigned)hex_digit(src[2 * i + 1]));
	return 0;
}

static const char base64_alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t hf_base64_encode(char *dst, const void *src, size_t len)
{
	const uint8_t *p = src;
	char *out = dst;

	for (size_t i = 0; i < len; i += 3) {
		size_t have = len - i < 3 ? len - i : 3;
		uint32_t v = (uint32_t)p[i] << 16;

		if (have > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (have > 2)
			v |= p[i + 2];
		*out++ = base64_alphabet[v >> 18];
		*out++ = base64_alphabet[v >> 12 & 63];
		*out++ = have > 1 ? base64_alphabet[v >> 6 & 63] : '=';
		*out++ = have > 2 ? base64_alphabet[v & 63] : '=';
	}
	*out = '\0';
	return (size_t)(out - dst);
}

static int base64_digit(char c)
{
	const char *at = c ? strchr(base64_alphabet, c) : NULL;

	return at ? (int)(at - base64_alphabet) : -1;
}

int hf_base64_decode(void *dst, size_t *len, const char *src, size_t src_len)
{
	size_t pad = 0, out_len, n = 0;
	uint8_t *p = dst;

	if (src_len % 4)
		return -EINVAL;
	while (pad < 2 && pad < src_len && src[src_len - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < src_len - pad; i++)
		if (base64_digit(src[i]) < 0)
			return -EINVAL;
	/* The last digit's unused bits must be 0, or two texts would mean one value. */
	if (pad > 0 && base64_digit(src[src_len - 1 - pad]) & (pad == 2 ? 15 : 3))
		return -EINVAL;
	out_len = src_len / 4 * 3 - pad;
	if (out_len > *len)
		return -ENOBUFS;

	for (size_t i = 0; i < src_len; i += 4) {
		uint32_t v = 0;

		for (size_t k = 0; k < 4; k++)
			v = v << 6 | (src[i + k] == '=' ? 0 : (uint32_t)base64_digit(src[i + k]));
		for (int shift = 16; shift >= 0 && n < out_len; shift -= 8)
			p[n++] = (uint8_t)(v >> shift);
	}
	*len = out_len;
	return 0;
}

bool hf_utf8_valid(const void *s, size_t len)
{
	const uint8_t *p = s, *end = p + len;

	while (p < end) {
		uint8_t c = *p++, low = 0x80, high = 0xbf;
		unsigned more;

		if (c < 0x80)
			continue;
		if (c >= 0xc2 && c <= 0xdf)
			more = 1;
		else if (c >= 0xe0 && c <= 0xef)
			more = 2;
		else if (c >= 0xf0 && c <= 0xf4)
			more = 3;
		else
			return false;
		/* The second byte keeps out overlong forms, surrogates and what is above 10FFFF. */
		if (c == 0xe0)
			low = 0xa0;
		else if (c == 0xed)
			high = 0x9f;
		else if (c == 0xf0)
			low = 0x90;
		else if (c == 0xf4)
			high = 0x8f;
		for (; more > 0; more--, low = 0x80, high = 0xbf) {
			if (p == end || *p < low || *p > high)
				return false;
			p++;
		}
	}
	return true;
}

void hf_sanitize(char *s)
{
	for (; *s; s++)
		if (*s < 0x20 || *s > 0x7e)
			*s = '?';
}

bool hf_equal_secret(const void *a, const void *b, size_t len)
{
	const volatile uint8_t *p = a, *q = b;
	uint8_t diff = 0;

	for (size_t i = 0; i < len; i++)
		diff |= p[i] ^ q[i];
	return diff == 0;
}

void hf_wipe(void *p, size_t len)
{
	if (len > 0)
		explicit_bzero(p, len);
}

int hf_buf_reserve(struct hf_buf *b, size_t more)
{
	size_t need, cap;
	uint8_t *data;

	if (__builtin_add_overflow(b->len, more, &need))
		return -ENOMEM;
	if (need <= b->cap)
		return 0;
	cap = b->cap > 0 ? b->cap : 64;
	while (cap < need)
		if (__builtin_mul_overflow(cap, (size_t)2, &cap))
			return -ENOMEM;
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

int hf_buf_append(struct hf_buf *b, const void *data, size_t len)
{
	int r;

	if (len == 0)
		return 0;
	r = hf_buf_reserve(b, len);
	if (r < 0)
		return r;
	memcpy(b->data + b->len, data, len);
	b->len += len;
	return 0;
}

int hf_buf_appendf(struct hf_buf *b, const char *fmt, ...)
{
	va_list ap;
	int n, r;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	r = hf_buf_reserve(b, (size_t)n + 1);
	if (r < 0)
		return r;
	va_start(ap, fmt);
	(void)vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

void hf_buf_consume(struct hf_buf *b, size_t n)
{
	if (n >= b->len) {
		b->len = 0;
		return;
	}
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

void hf_buf_done(struct hf_buf *b)
{
	free(b->data);
	*b = (struct hf_buf){};
}
