/* SPDX-License-Identifier: Apache-2.0 */
/* Text that goes to a terminal: safe, counted in columns, cut, aligned. */
#include "selftests/unit/test_util.h"

#include <time.h>

#include "base/clock.h"
#include "tools/ctl/term.h"

/* 2026-01-02T03:04:05.678Z */
#define WHEN (UINT64_C(1767323045678) * 1000000)

static void nothing_that_moves_the_cursor_survives(void **state)
{
	static const struct {
		const char *in, *want;
	} cases[] = {
		{"plain", "plain"},
		{"", ""},
		{NULL, ""},
		{"a\nb\rc\td\x7f", "a?b?c?d?"},
		{"\033[2J\033]0;title\007", "?[2J?]0;title?"},
		{"\xc2\x9b"
		 "31m",
		 "?31m"}, /* C1 CSI in UTF-8 */
		{"\x9b"
		 "31m",
		 "?31m"}, /* and as a byte */
		{"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
		{"\xe2\x80\xae"
		 "exe.txt",
		 "?exe.txt"},              /* right-to-left override */
		{"\xe2\x81\xa6x", "?x"},   /* isolate */
		{"\xef\xbb\xbfx", "?x"},   /* BOM */
		{"\xe2\x82", "??"},        /* cut character */
		{"\xed\xa0\x80", "???"},   /* surrogate */
		{"\xf3\xa0\x81\x81", "?"}, /* tag character */
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *safe = hf_term_safe(cases[i].in);

		assert_string_equal(safe, cases[i].want);
	}
}

static void columns_are_counted_not_bytes(void **state)
{
	(void)state;
	assert_int_equal(hf_term_columns(""), 0);
	assert_int_equal(hf_term_columns("abc"), 3);
	assert_int_equal(hf_term_columns("→●…"), 3);
	assert_int_equal(hf_term_columns("日本"), 4);
	assert_int_equal(hf_term_columns("e\xcc\x81"), 1);
	assert_int_equal(hf_term_columns("😀"), 2);
}

static void a_cut_is_visible_and_fits(void **state)
{
	static const struct {
		const char *in;
		size_t columns;
		const char *want;
	} cases[] = {
		{"abcdef", 6, "abcdef"}, {"abcdef", 5, "abcd…"}, {"abcdef", 4, "abc…"},
		{"abcdef", 1, "…"},      {"日本語", 5, "日本…"}, {"日本語", 4, "日…"},
		{"→→→→", 3, "→→…"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *s = hf_term_safe(cases[i].in);

		hf_term_truncate(s, cases[i].columns);
		assert_string_equal(s, cases[i].want);
		assert_true(hf_term_columns(s) <= cases[i].columns);
	}
}

static void numbers_are_grouped(void **state)
{
	char s[HF_TERM_NUMBER_SIZE];

	(void)state;
	hf_term_number(0, s);
	assert_string_equal(s, "0");
	hf_term_number(999, s);
	assert_string_equal(s, "999");
	hf_term_number(18204, s);
	assert_string_equal(s, "18 204");
	hf_term_number(UINT64_MAX, s);
	assert_string_equal(s, "18 446 744 073 709 551 615");
}

static void the_date_is_shown_when_it_is_not_today(void **state)
{
	struct hf_term t = {.now_ns = WHEN};
	char s[HF_TERM_TIME_SIZE];

	(void)state;
	hf_term_time(&t, WHEN - 5 * HF_NS_PER_S, 3, s);
	assert_string_equal(s, "03:04:00.678");
	hf_term_time(&t, WHEN, 0, s);
	assert_string_equal(s, "03:04:05");
	hf_term_time(&t, WHEN - 24 * 3600 * HF_NS_PER_S, 3, s);
	assert_string_equal(s, "2026-01-01 03:04:05.678");
	hf_term_time(&t, 0, 3, s);
	assert_string_equal(s, "-");
}

/* What print() writes. */
static char *printed(void (*print)(const struct hf_term *t), unsigned width, bool colour)
{
	char *text = NULL;
	size_t len = 0;
	struct hf_term t = {.f = open_memstream(&text, &len), .width = width, .colour = colour};

	assert_non_null(t.f);
	print(&t);
	assert_int_equal(fclose(t.f), 0);
	return text;
}

static void print_table(const struct hf_term *t)
{
	static const char *const headers[] = {"NAME", "SIZE", "WHY"};
	struct hf_term_table table;

	hf_term_table_init(&table, 3, headers);
	hf_term_table_row(&table);
	hf_term_table_cell(&table, 0, HF_TERM_GOOD, "naïve");
	hf_term_table_cell(&table, 1, HF_TERM_PLAIN, "%d", 123456);
	hf_term_table_cell(&table, 2, HF_TERM_PLAIN, "because of the\nweather and more");
	hf_term_table_row(&table);
	hf_term_table_cell(&table, 0, HF_TERM_PLAIN, "b");
	hf_term_table_print(&table, t);
	hf_term_table_done(&table);
}

static void a_table_is_aligned_and_has_no_trailing_space(void **state)
{
	_cleanup_free_ char *s = printed(print_table, 0, false);

	(void)state;
	assert_string_equal(s, "NAME   SIZE    WHY\n"
			       "naïve  123456  because of the?weather and more\n"
			       "b\n");
}

static void the_last_column_is_wrapped_below_itself(void **state)
{
	_cleanup_free_ char *s = printed(print_table, 40, false);

	(void)state;
	assert_string_equal(s, "NAME   SIZE    WHY\n"
			       "naïve  123456  because of the?weather\n"
			       "               and more\n"
			       "b\n");
}

static void a_narrow_terminal_gives_the_last_column_lines_of_its_own(void **state)
{
	_cleanup_free_ char *s = printed(print_table, 30, false);

	(void)state;
	assert_string_equal(s, "NAME   SIZE\n"
			       "    WHY\n"
			       "naïve  123456\n"
			       "    because of the?weather and\n"
			       "    more\n"
			       "b\n");
}

static void print_facts(const struct hf_term *t)
{
	hf_term_fact(t, "channel", HF_TERM_PLAIN, "TLS 1.3,  10.0.0.5:1 → 192.0.2.10:443");
	hf_term_fact(t, "a-longer-label", HF_TERM_PLAIN, "x");
	hf_term_fact(t, "empty", HF_TERM_PLAIN, "");
	hf_term_fact(t, "id", HF_TERM_BAD, "0123456789012345678901234567890123456789");
}

static void a_fact_is_wrapped_below_its_text(void **state)
{
	_cleanup_free_ char *wide = printed(print_facts, 0, false);
	_cleanup_free_ char *narrow = printed(print_facts, 40, false);

	(void)state;
	assert_string_equal(wide, "  channel     TLS 1.3,  10.0.0.5:1 → 192.0.2.10:443\n"
				  "  a-longer-label x\n"
				  "  empty       \n"
				  "  id          0123456789012345678901234567890123456789\n");
	assert_string_equal(narrow, "  channel     TLS 1.3,  10.0.0.5:1 →\n"
				    "              192.0.2.10:443\n"
				    "  a-longer-label x\n"
				    "  empty       \n"
				    "  id          01234567890123456789012345\n"
				    "              67890123456789\n");
}

static void a_word_of_wide_characters_is_cut_between_them(void **state)
{
	char *text = NULL;
	size_t len = 0;
	struct hf_term t = {.f = open_memstream(&text, &len), .width = 40};

	(void)state;
	assert_non_null(t.f);
	hf_term_wrap(&t, HF_TERM_PLAIN, "日本日本日本", 31, 14);
	assert_int_equal(fclose(t.f), 0);
	assert_string_equal(text, "日本日本\n              日本\n");
	free(text);
}

static void without_utf8_everything_is_ascii_of_the_same_width(void **state)
{
	_cleanup_free_ char *safe = NULL, *facts = NULL, *cut = NULL;

	(void)state;
	hf_term_set_ascii(true);
	safe = hf_term_safe("● ◐ ◌ ○ △ ✕ ■ □ a → b ← c 5 µs … gr\xc3\xbc\xc3\x9f");
	facts = printed(print_facts, 0, false);
	cut = hf_term_safe("abcdef");
	hf_term_truncate(cut, 4);
	hf_term_set_ascii(false);
	assert_string_equal(safe, "* % . o ^ x # = a > b < c 5 us ~ gr??");
	assert_non_null(strstr(facts, "10.0.0.5:1 > 192.0.2.10:443\n"));
	assert_string_equal(cut, "abc~");
}

static void durations_have_a_digit_where_it_says_something(void **state)
{
	static const struct {
		uint64_t us;
		const char *want;
	} cases[] = {
		{0, "0 s"},
		{35, "35 µs"},
		{100, "0.1 ms"},
		{306, "0.3 ms"},
		{1000, "1 ms"},
		{8349, "8.3 ms"},
		{19312, "19 ms"},
		{8300000, "8.3 s"},
		{7920000000, "2 h 12 min"},
		{UINT64_MAX, "213503 d 23 h"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		char s[HF_TERM_DURATION_SIZE];

		hf_term_duration(cases[i].us, s);
		assert_string_equal(s, cases[i].want);
	}
}

static void colour_adds_nothing_but_codes(void **state)
{
	_cleanup_free_ char *s = printed(print_table, 0, true);

	(void)state;
	assert_string_equal(s, "\033[2mNAME\033[0m   \033[2mSIZE\033[0m    \033[2mWHY\033[0m\n"
			       "\033[32mnaïve\033[0m  123456  because of the?weather and more\n"
			       "b\n");
}

static void a_pipe_has_no_colour_and_no_width(void **state)
{
	struct hf_term t;
	int fds[2];
	FILE *f;

	(void)state;
	(void)setenv("COLUMNS", "80", 1);
	assert_int_equal(pipe(fds), 0);
	f = fdopen(fds[1], "w");
	hf_term_init(&t, f);
	assert_false(t.tty);
	assert_false(t.colour);
	assert_int_equal(t.width, 0);
	(void)fclose(f);
	(void)close(fds[0]);
}

static void a_terminal_has_colour_unless_asked_not_to(void **state)
{
	static const struct {
		const char *no_color, *term;
		bool want;
	} cases[] = {{NULL, "xterm", true},
		     {"", "xterm", true},
		     {"1", "xterm", false},
		     {NULL, "dumb", false}};
	int fd = posix_openpt(O_RDWR | O_NOCTTY);
	FILE *f;

	(void)state;
	if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0) {
		print_message("skipped: no pseudo terminals here\n");
		skip();
	}
	f = fopen(ptsname(fd), "w");
	assert_non_null(f);
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		struct hf_term t;

		(void)(cases[i].no_color ? setenv("NO_COLOR", cases[i].no_color, 1)
					 : unsetenv("NO_COLOR"));
		(void)setenv("TERM", cases[i].term, 1);
		(void)setenv("COLUMNS", "100", 1);
		hf_term_init(&t, f);
		assert_true(t.tty);
		assert_int_equal(t.colour, cases[i].want);
		assert_int_equal(t.width, 100);
	}
	(void)fclose(f);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_that_moves_the_cursor_survives),
		cmocka_unit_test(columns_are_counted_not_bytes),
		cmocka_unit_test(a_cut_is_visible_and_fits),
		cmocka_unit_test(numbers_are_grouped),
		cmocka_unit_test(the_date_is_shown_when_it_is_not_today),
		cmocka_unit_test(a_table_is_aligned_and_has_no_trailing_space),
		cmocka_unit_test(the_last_column_is_wrapped_below_itself),
		cmocka_unit_test(a_narrow_terminal_gives_the_last_column_lines_of_its_own),
		cmocka_unit_test(a_fact_is_wrapped_below_its_text),
		cmocka_unit_test(a_word_of_wide_characters_is_cut_between_them),
		cmocka_unit_test(without_utf8_everything_is_ascii_of_the_same_width),
		cmocka_unit_test(durations_have_a_digit_where_it_says_something),
		cmocka_unit_test(colour_adds_nothing_but_codes),
		cmocka_unit_test(a_pipe_has_no_colour_and_no_width),
		cmocka_unit_test(a_terminal_has_colour_unless_asked_not_to),
	};

	(void)setenv("TZ", "UTC", 1);
	tzset();
	return HF_RUN_TESTS(tests);
}
