/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text for people: width, colour, safe text, tables. Colour only on a terminal, never with NO_COLOR
 * (https://no-color.org) or TERM=dumb, and never the only carrier of a meaning.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct hf_term {
	FILE *f;
	bool tty, colour;
	unsigned width;  /* columns; 0: no limit */
	uint64_t now_ns; /* wall clock, for "today" */
};

/* setlocale() was called. Where the locale is not UTF-8, all text becomes ASCII (for the process). */
void hf_term_init(struct hf_term *t, FILE *f);
void hf_term_set_ascii(bool on);

enum hf_term_style {
	HF_TERM_PLAIN,
	HF_TERM_BOLD,
	HF_TERM_DIM,
	HF_TERM_GOOD,
	HF_TERM_WARN,
	HF_TERM_BAD,
	_HF_TERM_STYLE_MAX,
};
/* Begins and ends a style; nothing without colour. */
const char *hf_term_on(const struct hf_term *t, enum hf_term_style s);
const char *hf_term_off(const struct hf_term *t, enum hf_term_style s);

/*
 * A copy of s in which nothing moves the cursor, changes the terminal or turns the direction of
 * text: control characters, C1, bidirectional marks and bytes that are not UTF-8 become '?'. In ASCII,
 * what we write ourselves (→ ● µ …) has a character of the same width that stands in for it.
 * "" for NULL. Owned by the caller; exits on ENOMEM, as a tool may.
 */
char *hf_term_safe(const char *s);
_Noreturn void hf_term_out_of_memory(void);
/* Columns that safe text takes. */
size_t hf_term_columns(const char *s);
/* Cuts what hf_term_safe() gave to at most `columns`, the last of them '…' if something went. */
void hf_term_truncate(char *s, size_t columns);

/*
 * Prints safe text and a newline, the cursor being at column `at`; what does not fit goes on in lines
 * indented by `indent`. Breaks at spaces, and within a word that is longer than a line.
 */
void hf_term_wrap(const struct hf_term *t, enum hf_term_style s, const char *safe, size_t at,
		  size_t indent);
/* "  label       text": a line of an answer. text is made safe here. */
void hf_term_fact(const struct hf_term *t, const char *label, enum hf_term_style s,
		  const char *text);

/* "0.3 ms", "8.3 s", "2 h 12 min" */
#define HF_TERM_DURATION_SIZE 32
void hf_term_duration(uint64_t us, char dst[static HF_TERM_DURATION_SIZE]);
/* "18 204" */
#define HF_TERM_NUMBER_SIZE 32
void hf_term_number(uint64_t v, char dst[static HF_TERM_NUMBER_SIZE]);
/* Local time: "14:03:11.207", with the date before it when it is not today. digits: 0 or 3. */
#define HF_TERM_TIME_SIZE 32
void hf_term_time(const struct hf_term *t, uint64_t unix_ns, unsigned digits,
		  char dst[static HF_TERM_TIME_SIZE]);

/*
 * A table: cells are copied and made safe. Columns are as wide as their widest cell, two spaces
 * between; the last one is wrapped within what the terminal has left, or on lines of its own.
 */
#define HF_TERM_TABLE_COLUMNS 8

struct hf_term_table {
	size_t columns, rows, cap;
	struct hf_term_row {
		char *cell[HF_TERM_TABLE_COLUMNS];
		enum hf_term_style style[HF_TERM_TABLE_COLUMNS];
	} * row;
};
/* headers: NULL for none. */
void hf_term_table_init(struct hf_term_table *t, size_t columns, const char *const *headers);
/* A new row; its cells are empty until set. */
void hf_term_table_row(struct hf_term_table *t);
void hf_term_table_cell(struct hf_term_table *t, size_t column, enum hf_term_style s,
			const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void hf_term_table_print(const struct hf_term_table *t, const struct hf_term *term);
void hf_term_table_done(struct hf_term_table *t);
