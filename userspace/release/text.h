/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text form that everything signed here has: `key value` lines in a fixed order.
 *
 * Why text, and why this one. What a signature covers must have one spelling, or two readers may
 * see two things. Formats that exist leave choices (JSON: spaces, escapes, number forms, order,
 * duplicate keys; protobuf: order, unknown fields, default values; CBOR and DER can be made
 * canonical, by rules that need more code than the content does). Lines of one key, one space and a
 * value without escapes need no library, are bounded by eye, and a person reads with `less` what was
 * signed. Canonical is defined by the encoder: a text is valid iff encoding what was decoded gives
 * the same bytes again, which every decoder checks at its end.
 *
 *	text  = first-line *line        ; first-line names the kind and its format: it is also the
 *	line  = key SP value LF         ; domain of the signature
 *	value = 1*(%x21-7E / SP)        ; no control characters, no tabs, no CR
 *
 * A word is 1 or more of A-Z a-z 0-9 . _ + @ ~ - and starts with a letter or digit.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define HF_TEXT_LINE_MAX 512
/* "2026-01-02T03:04:05Z" and NUL. */
#define HF_TEXT_TIME_SIZE 21

struct hf_text {
	const char *p, *end;
	unsigned line; /* of the line last taken */
	int r;         /* the first fault; from then on every call returns it and does nothing */
	struct hf_err *err;
	char value[HF_TEXT_LINE_MAX];
};

/* text is borrowed as long as t is used. */
void hf_text_init(struct hf_text *t, const void *text, size_t len, struct hf_err *err);

/* Whether the next line has this key; false at the end and after a fault. */
bool hf_text_has(const struct hf_text *t, const char *key);
/* Takes the next line, which must have this key; its value is in t->value. -EBADMSG. */
int hf_text_take(struct hf_text *t, const char *key);
/* Splits the first word off *rest, a place in t->value; the last one leaves "". -EBADMSG. */
int hf_text_split(struct hf_text *t, char **rest, char **ret_word);

/* Reports what is wrong with the line last taken and returns -EBADMSG. The first fault stays. */
int hf_text_fault(struct hf_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Values of the line last taken, or of one of its words. -EBADMSG with the line in err. */
int hf_text_word(struct hf_text *t, const char *s, char *dst, size_t size);
int hf_text_number(struct hf_text *t, const char *s, uint64_t max, uint64_t *ret);
int hf_text_time(struct hf_text *t, const char *s, uint64_t *ret_s);
int hf_text_hex(struct hf_text *t, const char *s, void *dst, size_t len);

/* Lines taken one by one. */
int hf_text_take_word(struct hf_text *t, const char *key, char *dst, size_t size);
int hf_text_take_number(struct hf_text *t, const char *key, uint64_t max, uint64_t *ret);
int hf_text_take_time(struct hf_text *t, const char *key, uint64_t *ret_s);

/* Seconds since 1970, at most the end of the year 9999. */
#define HF_TEXT_TIME_MAX UINT64_C(253402300799)
void hf_text_format_time(uint64_t s, char dst[static HF_TEXT_TIME_SIZE]);
/* The exact form above; -EINVAL. */
int hf_text_parse_time(const char *s, uint64_t *ret_s);

bool hf_text_is_word(const char *s, size_t size);
