/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal. */
#include "tools/ctl/term.h"

#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

/* Beside a label or a column, less than this is no text. */
#define TEXT_MIN     24
#define LABEL_WIDTH  11
#define FACT_INDENT  14
#define ALONE_INDENT 4

/* One for the process, as the locale is. */
static bool ascii_only;

_Noreturn void hf_term_out_of_memory(void)
{
	(void)fputs("holdfast: out of memory; try again when the host has some\n", stderr);
	exit(1);
}

static void *must(void *p)
{
	if (!p)
		hf_term_out_of_memory();
	return p;
}

void hf_term_init(struct hf_term *t, FILE *f)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	uint32_t n;

	hf_term_set_ascii(!hf_streq(nl_langinfo(CODESET), "UTF-8"));
	*t = (struct hf_term){.f = f, .tty = isatty(fileno(f)), .now_ns = hf_now_realtime_ns()};
	if (!t->tty)
		return;
	t->colour = !(no_color && *no_color) && !(term && hf_streq(term, "dumb"));
	if (columns && hf_parse_u32(columns, &n) == 0)
		t->width = n;
	else if (ioctl(fileno(f), TIOCGWINSZ, &size) == 0)
		t->width = size.ws_col;
	/* Too narrow for any table: let the terminal wrap. */
	if (t->width < 40)
		t->width = 0;
}

void hf_term_set_ascii(bool on)
{
	ascii_only = on;
}

static const char *const styles[] = {
	[HF_TERM_PLAIN] = "",        [HF_TERM_BOLD] = "\033[1m",  [HF_TERM_DIM] = "\033[2m",
	[HF_TERM_GOOD] = "\033[32m", [HF_TERM_WARN] = "\033[33m", [HF_TERM_BAD] = "\033[31m",
};
_Static_assert(sizeof(styles) / sizeof(styles[0]) == _HF_TERM_STYLE_MAX, "every style has a code");

const char *hf_term_on(const struct hf_term *t, enum hf_term_style s)
{
	return t->colour ? styles[s] : "";
}

const char *hf_term_off(const struct hf_term *t, enum hf_term_style s)
{
	return t->colour && s != HF_TERM_PLAIN ? "\033[0m" : "";
}

/* Length of the well-formed character at s and its code point; 0 if there is none. */
static size_t decode(const char *s, uint32_t *ret)
{
	uint8_t c = (uint8_t)*s;
	size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

	if (strnlen(s, n) < n || !hf_utf8_valid(s, n))
		return 0;
	*ret = n == 1 ? c : c & (0x7fu >> n);
	for (size_t i = 1; i < n; i++)
		*ret = *ret << 6 | ((uint8_t)s[i] & 0x3f);
	return n;
}

static bool harmless(uint32_t c)
{
	if (c < 0x20 || (c >= 0x7f && c < 0xa0))
		return false;
	/* Marks and overrides of direction, line and paragraph separators, isolates, BOM. */
	return !(c >= 0x200b && c <= 0x200f) && !(c >= 0x2028 && c <= 0x202e) &&
	       !(c >= 0x2060 && c <= 0x2069) && c != 0x061c && c != 0xfeff &&
	       !(c >= 0xe0000 && c <= 0xe007f);
}

/* Of the same width, so that nothing moves. */
static char ascii_form(uint32_t c)
{
	static const struct {
		uint32_t c;
		char ascii;
	} forms[] = {
		{0xb5, 'u'},   /* µ */
		{0x2026, '~'}, /* … */
		{0x2190, '<'}, /* ← */
		{0x2192, '>'}, /* → */
		{0x25a0, '#'}, /* ■ */
		{0x25a1, '='}, /* □ */
		{0x25b3, '^'}, /* △ */
		{0x25cb, 'o'}, /* ○ */
		{0x25cc, '.'}, /* ◌ */
		{0x25cf, '*'}, /* ● */
		{0x25d0, '%'}, /* ◐ */
		{0x2715, 'x'}, /* ✕ */
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(forms); i++)
		if (forms[i].c == c)
			return forms[i].ascii;
	return '?';
}

char *hf_term_safe(const char *s)
{
	size_t len = s ? strlen(s) : 0, at = 0;
	char *out = must(malloc(len + sizeof("…"))); /* hf_term_truncate() may need it */

	for (size_t i = 0; i < len;) {
		uint32_t c = 0;
		size_t n = decode(s + i, &c);

		if (n == 0 || !harmless(c)) {
			out[at++] = '?';
			i += n ? n : 1;
			continue;
		}
		if (ascii_only && c >= 0x80) {
			out[at++] = ascii_form(c);
			i += n;
			continue;
		}
		memcpy(out + at, s + i, n);
		at += n;
		i += n;
	}
	out[at] = '\0';
	return out;
}

/* Combining marks take no column, wide East Asian characters and emoji two. */
static unsigned columns_of(uint32_t c)
{
	if ((c >= 0x300 && c <= 0x36f) || (c >= 0xfe00 && c <= 0xfe0f) ||
	    (c >= 0x20d0 && c <= 0x20ff))
		return 0;
	if ((c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) ||
	    (c >= 0xac00 && c <= 0xd7a3) || (c >= 0xf900 && c <= 0xfaff) ||
	    (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) ||
	    (c >= 0xffe0 && c <= 0xffe6) || (c >= 0x1f300 && c <= 0x1faff) ||
	    (c >= 0x20000 && c <= 0x3fffd))
		return 2;
	return 1;
}

size_t hf_term_columns(const char *s)
{
	size_t columns = 0;

	while (*s) {
		uint32_t c = 0;
		size_t n = decode(s, &c);

		columns += n ? columns_of(c) : 1;
		s += n ? n : 1;
	}
	return columns;
}

void hf_term_truncate(char *s, size_t columns)
{
	size_t used = 0, cut = 0, at = 0;

	if (hf_term_columns(s) <= columns)
		return;
	while (s[at]) {
		uint32_t c = 0;
		size_t n = decode(s + at, &c);
		unsigned w = n ? columns_of(c) : 1;

		if (used + w + 1 > columns)
			break;
		used += w;
		at += n ? n : 1;
		cut = at;
	}
	if (columns == 0)
		s[cut] = '\0';
	else if (ascii_only)
		memcpy(s + cut, "~", sizeof("~"));
	else
		memcpy(s + cut, "…", sizeof("…"));
}

/* Columns of the first n bytes. */
static size_t columns_n(const char *s, size_t n)
{
	const char *end = s + n;
	size_t columns = 0;

	while (s < end) {
		uint32_t c = 0;
		size_t len = decode(s, &c);

		columns += len ? columns_of(c) : 1;
		s += len ? len : 1;
	}
	return columns;
}

/* How many bytes of a word fit; at least one character, so that there is progress. */
static size_t bytes_that_fit(const char *word, size_t len, size_t room)
{
	size_t at = 0, used = 0;

	while (at < len) {
		uint32_t c = 0;
		size_t n = decode(word + at, &c);

		used += n ? columns_of(c) : 1;
		if (used > room && at > 0)
			break;
		at += n ? n : 1;
	}
	return at;
}

void hf_term_wrap(const struct hf_term *t, enum hf_term_style s, const char *safe, size_t at,
		  size_t indent)
{
	size_t column = at, start = at;
	const char *p = safe;

	if (indent + TEXT_MIN > t->width)
		indent = ALONE_INDENT;
	(void)fputs(hf_term_on(t, s), t->f);
	while (*p) {
		size_t gap = strspn(p, " "), len = strcspn(p + gap, " "), n = len;
		const char *word = p + gap;

		if (len == 0)
			break;
		if (t->width && column > start && column + gap + columns_n(word, len) > t->width) {
			(void)fprintf(t->f, "\n%*s", (int)indent, "");
			column = start = indent;
			gap = 0;
		}
		column += gap;
		if (t->width)
			n = bytes_that_fit(word, len, t->width > column ? t->width - column : 1);
		(void)fprintf(t->f, "%*s%.*s", (int)gap, "", (int)n, word);
		column += columns_n(word, n);
		p = word + n;
		if (n < len) {
			(void)fprintf(t->f, "\n%*s", (int)indent, "");
			column = start = indent;
		}
	}
	(void)fprintf(t->f, "%s\n", hf_term_off(t, s));
}

void hf_term_fact(const struct hf_term *t, const char *label, enum hf_term_style s,
		  const char *text)
{
	_cleanup_free_ char *name = hf_term_safe(label), *safe = hf_term_safe(text);
	size_t columns = hf_term_columns(name);
	size_t gap = columns < LABEL_WIDTH ? LABEL_WIDTH - columns + 1 : 1;

	(void)fprintf(t->f, "  %s%s%s%*s", hf_term_on(t, HF_TERM_DIM), name,
		      hf_term_off(t, HF_TERM_DIM), (int)gap, "");
	hf_term_wrap(t, s, safe, 2 + columns + gap, FACT_INDENT);
}

void hf_term_duration(uint64_t us, char dst[static HF_TERM_DURATION_SIZE])
{
	if (us >= 100 && us < 10000 && us % 1000)
		(void)hf_strf(dst, HF_TERM_DURATION_SIZE, "%u.%u ms", (unsigned)us / 1000,
			      (unsigned)us / 100 % 10);
	else
		hf_format_duration(us > UINT64_MAX / HF_NS_PER_US ? UINT64_MAX : us * HF_NS_PER_US,
				   dst, HF_TERM_DURATION_SIZE);
}

void hf_term_number(uint64_t v, char dst[static HF_TERM_NUMBER_SIZE])
{
	char digits[24];
	size_t n, at = 0;

	(void)hf_strf(digits, sizeof(digits), "%llu", (unsigned long long)v);
	n = strlen(digits);
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			dst[at++] = ' ';
		dst[at++] = digits[i];
	}
	dst[at] = '\0';
}

void hf_term_time(const struct hf_term *t, uint64_t unix_ns, unsigned digits,
		  char dst[static HF_TERM_TIME_SIZE])
{
	time_t when = (time_t)(unix_ns / HF_NS_PER_S), now = (time_t)(t->now_ns / HF_NS_PER_S);
	struct tm a = {}, b = {};
	bool today;
	size_t n;

	if (unix_ns == 0 || !localtime_r(&when, &a) || !localtime_r(&now, &b)) {
		(void)hf_strlcpy(dst, "-", HF_TERM_TIME_SIZE);
		return;
	}
	today = a.tm_year == b.tm_year && a.tm_yday == b.tm_yday;
	n = strftime(dst, HF_TERM_TIME_SIZE, today ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &a);
	if (digits)
		(void)hf_strf(dst + n, HF_TERM_TIME_SIZE - n, ".%03u",
			      (unsigned)(unix_ns % HF_NS_PER_S / HF_NS_PER_MS));
}

/* ---- tables --------------------------------------------------------------------------------- */

void hf_term_table_init(struct hf_term_table *t, size_t columns, const char *const *headers)
{
	hf_assert(columns > 0 && columns <= HF_TERM_TABLE_COLUMNS);
	*t = (struct hf_term_table){.columns = columns};
	if (!headers)
		return;
	hf_term_table_row(t);
	for (size_t i = 0; i < columns; i++)
		hf_term_table_cell(t, i, HF_TERM_DIM, "%s", headers[i]);
}

void hf_term_table_row(struct hf_term_table *t)
{
	if (t->rows == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 16;
		t->row = must(reallocarray(t->row, t->cap, sizeof(*t->row)));
	}
	t->row[t->rows++] = (struct hf_term_row){};
}

void hf_term_table_cell(struct hf_term_table *t, size_t column, enum hf_term_style s,
			const char *fmt, ...)
{
	struct hf_term_row *row = &t->row[t->rows - 1];
	char *text = NULL;
	va_list ap;

	hf_assert(t->rows > 0 && column < t->columns && !row->cell[column]);
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	row->cell[column] = hf_term_safe(must(text));
	row->style[column] = s;
	free(text);
}

static void print_row(const struct hf_term_table *t, const struct hf_term *term,
		      const struct hf_term_row *row, const size_t *width)
{
	size_t used = 0, last = t->columns;

	/* No spaces behind the last cell that has something. */
	while (last > 0 && (!row->cell[last - 1] || !*row->cell[last - 1]))
		last--;
	for (size_t i = 0; i < last; i++) {
		const char *text = row->cell[i] ? row->cell[i] : "";

		if (i + 1 == t->columns) {
			hf_term_wrap(term, row->style[i], text, used, used);
			return;
		}
		(void)fprintf(term->f, "%s%s%s", hf_term_on(term, row->style[i]), text,
			      hf_term_off(term, row->style[i]));
		used += width[i] + 2;
		if (i + 2 == last && last == t->columns && term->width &&
		    used + TEXT_MIN > term->width) {
			used = ALONE_INDENT;
			(void)fprintf(term->f, "\n%*s", ALONE_INDENT, "");
		} else if (i + 1 < last) {
			(void)fprintf(term->f, "%*s", (int)(width[i] - hf_term_columns(text) + 2),
				      "");
		}
	}
	(void)fputc('\n', term->f);
}

void hf_term_table_print(const struct hf_term_table *t, const struct hf_term *term)
{
	size_t width[HF_TERM_TABLE_COLUMNS] = {};

	for (size_t r = 0; r < t->rows; r++) {
		for (size_t i = 0; i < t->columns; i++) {
			const char *text = t->row[r].cell[i];
			size_t columns = text ? hf_term_columns(text) : 0;

			if (columns > width[i])
				width[i] = columns;
		}
	}
	for (size_t r = 0; r < t->rows; r++)
		print_row(t, term, &t->row[r], width);
}

void hf_term_table_done(struct hf_term_table *t)
{
	for (size_t r = 0; r < t->rows; r++)
		for (size_t i = 0; i < t->columns; i++)
			free(t->row[r].cell[i]);
	free(t->row);
	*t = (struct hf_term_table){};
}
