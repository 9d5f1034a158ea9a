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

void hf_term_init(struct hf_term *t, FILE *f);

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
 * text: control characters, C1, bidirectional marks and bytes that are not UTF-8 become '?'.
 * "" for NULL. Owned by the caller; exits on ENOMEM, as a tool may.
 */
char *hf_term_safe(const char *s);
/* Columns that safe text takes. */
size_t hf_term_columns(const char *s);
/* Cuts what hf_term_safe() gave to at most `columns`, the last of them '…' if something went. */
void hf_term_truncate(char *s, size_t columns);

/* "18 204" */
#define HF_TERM_NUMBER_SIZE 32
void hf_term_number(uint64_t v, char dst[static HF_TERM_NUMBER_SIZE]);
/* Local time: "14:03:11.207", with the date before it when it is not today. digits: 0 or 3. */
#define HF_TERM_TIME_SIZE 32
void hf_term_time(const struct hf_term *t, uint64_t unix_ns, unsigned digits,
		  char dst[static HF_TERM_TIME_SIZE]);

/*
 * A table: cells are copied and made safe. Columns are as wide as their widest cell, two spaces
 * between; the last one is cut to the terminal's width, and never when there is none.
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
