/* SPDX-License-Identifier: Apache-2.0 */
/* The kept end of a component's stderr, and the FIFO that outlives both sides. */
#include "watchdog/tail.h"

#include <sys/stat.h>

#include "../test_util.h"

static char passed[8192];

static void pass_on(const struct hf_log_origin *o, const char *line, size_t len)
{
	(void)o;
	strncat(passed, line, len);
	strcat(passed, "|");
}

static void feed(struct hf_tail *t, const char *s)
{
	hf_tail_feed(t, s, strlen(s), pass_on);
}

static void lines_are_passed_on_whole(void **state)
{
	struct hf_tail t = {};

	(void)state;
	passed[0] = 0;
	feed(&t, "one\ntw");
	assert_string_equal(passed, "one|");
	feed(&t, "o\n\nthree");
	assert_string_equal(passed, "one|two||");
}

static void endless_line_is_passed_on_in_pieces(void **state)
{
	struct hf_tail t = {};

	(void)state;
	passed[0] = 0;
	for (size_t i = 0; i < 2 * sizeof(t.line) + 100; i++)
		feed(&t, "x");
	assert_int_equal(strlen(passed), 2 * sizeof(t.line) + 2);
}

static void kept_text_is_the_end_and_begins_at_a_line(void **state)
{
	struct hf_tail t = {};
	char text[HF_TAIL_KEEP + 1], line[32];

	(void)state;
	feed(&t, "a\x1b[31m\n");
	hf_tail_text(&t, text);
	assert_string_equal(text, "a?[31m\n");
	for (int i = 0; i < 1000; i++) {
		(void)snprintf(line, sizeof(line), "line %04d\n", i);
		feed(&t, line);
		passed[0] = 0;
	}
	hf_tail_text(&t, text);
	assert_true(strlen(text) > HF_TAIL_KEEP - 20);
	assert_memory_equal(text, "line 0", 6);
	assert_non_null(strstr(text, "line 0999\n"));
	hf_tail_clear(&t);
	hf_tail_text(&t, text);
	assert_string_equal(text, "");
}

static void writer_neither_fails_nor_waits_without_a_reader(void **state)
{
	struct hf_test_dir *d = *state;
	struct hf_tail t = {}, next = {};
	char block[4096], text[HF_TAIL_KEEP + 1];
	int writer;

	memset(block, 'x', sizeof(block));
	assert_ok(hf_tail_open(&t, d->fd, "agent.stderr"));
	writer = hf_tail_open_writer(d->fd, "agent.stderr");
	assert_true(writer >= 0);
	hf_tail_done(&t); /* the watchdog dies */
	assert_int_equal(write(writer, "kept\n", 5), 5);
	assert_ok(hf_tail_open(&next, d->fd, "agent.stderr")); /* the next one reads on */
	hf_tail_read(&next);
	hf_tail_text(&next, text);
	assert_string_equal(text, "kept\n");
	hf_tail_done(&next);
	for (int i = 0; i < 100; i++)
		if (write(writer, block, sizeof(block)) < 0)
			break;
	assert_int_equal(errno, EAGAIN);
	(void)hf_close(writer);
}

static void something_else_in_its_place_is_refused(void **state)
{
	struct hf_test_dir *d = *state;
	struct hf_tail t = {};

	hf_test_write(d, "agent.stderr", "a file");
	assert_err(hf_tail_open(&t, d->fd, "agent.stderr"), -EBADF);
	assert_int_equal(symlinkat("/dev/null", d->fd, "link.stderr"), 0);
	assert_err(hf_tail_open(&t, d->fd, "link.stderr"), -ELOOP);
}

int main(void)
{
#define DIR_CASE(t) cmocka_unit_test_setup_teardown(t, hf_test_dir_setup, hf_test_dir_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_passed_on_whole),
		cmocka_unit_test(endless_line_is_passed_on_in_pieces),
		cmocka_unit_test(kept_text_is_the_end_and_begins_at_a_line),
		DIR_CASE(writer_neither_fails_nor_waits_without_a_reader),
		DIR_CASE(something_else_in_its_place_is_refused),
	};
	return HF_RUN_TESTS(tests);
}
