/* SPDX-License-Identifier: Apache-2.0 */
/* Strings, numbers as text, hex, base64. Silent: returns -errno. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool hf_streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* NULL equals NULL only. */
static inline bool hf_streq0(const char *a, const char *b)
{
	return a && b ? hf_streq(a, b) : a == b;
}

bool hf_startswith(const char *s, const char *prefix);
bool hf_endswith(const char *s, const char *suffix);

/* Copies at most size-1 bytes and terminates. Returns false if src did not fit. */
bool hf_strlcpy(char *dst, const char *src, size_t size);

/* Like snprintf into an array, never fails; returns false when truncated. */
bool hf_strf(char *dst, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Allocates; NULL on ENOMEM. */
char *hf_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Strict decimal: no sign, no space, no trailing text. -EINVAL or -ERANGE. */
int hf_parse_u64(const char *s, uint64_t *ret);
int hf_parse_u32(const char *s, uint32_t *ret);
/* "90", "90s", "5m", "2h", "1d", "250ms" to milliseconds. */
int hf_parse_duration_ms(const char *s, uint64_t *ret_ms);

/* Lower-case hex; dst needs 2*len+1 bytes. */
void hf_hex_encode(char *dst, const void *src, size_t len);
/* Exactly 2*len hex digits. -EINVAL otherwise. */
int hf_hex_decode(void *dst, size_t len, const char *src);

/* Standard alphabet with padding; dst needs 4*((len+2)/3)+1 bytes. Returns the text's length. */
size_t hf_base64_encode(char *dst, const void *src, size_t len);
/* Strict; *len is dst's size in and the decoded length out. -EINVAL, -ENOBUFS. */
int hf_base64_decode(void *dst, size_t *len, const char *src, size_t src_len);

/* True iff s[0..len) is well-formed UTF-8 (RFC 3629; no surrogates, no overlong forms). */
bool hf_utf8_valid(const void *s, size_t len);

/* Replaces control and non-ASCII bytes by '?', for text of a peer that goes to a terminal or log. */
void hf_sanitize(char *s);

/* Constant time for equal lengths; for secrets. */
bool hf_equal_secret(const void *a, const void *b, size_t len);
/* Cannot be optimised away. */
void hf_wipe(void *p, size_t len);

/* A growing byte buffer. Zero-initialise; hf_buf_done() empties it. */
struct hf_buf {
	uint8_t *data;
	size_t len, cap;
};

int hf_buf_reserve(struct hf_buf *b, size_t more);
int hf_buf_append(struct hf_buf *b, const void *data, size_t len);
int hf_buf_appendf(struct hf_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drops the first n bytes. */
void hf_buf_consume(struct hf_buf *b, size_t n);
void hf_buf_done(struct hf_buf *b);
