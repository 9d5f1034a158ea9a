/* SPDX-License-Identifier: Apache-2.0 */
/* Reading /proc: hostile names, and this very process. */
#include "watchdog/proc.h"

#include "../test_util.h"
#include "base/clock.h"
#include "holdfast/kernel_policy.h"

#define REST " 5 6 7 -1 9 10 11 12 13 14 15 16 17 20 0 3 0 12345 99 1"

static void stat_is_parsed_behind_the_last_parenthesis(void **state)
{
	static const char *const names[] = {"(sh)", "(a b)", "(x) R 1 (y)",
					    "(()",  "()",    "(new\nline)"};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(names); i++) {
		struct hf_proc_stat s;
		char text[256];

		(void)snprintf(text, sizeof(text), "42 %s S 4" REST, names[i]);
		assert_ok(hf_proc_parse_stat(text, &s));
		assert_int_equal(s.state, 'S');
		assert_int_equal(s.ppid, 4);
		assert_int_equal(s.threads, 3);
		assert_int_equal(s.cpu_ns, (14 + 15) * HF_PROCESS_TICK_NS);
		assert_int_equal(s.start_ns, 12345 * HF_PROCESS_TICK_NS);
	}
}

static void garbage_is_refused(void **state)
{
	static const char *const bad[] = {
		"", "42", "42 (sh", "42 (sh)", "42 (sh) S", "42 (sh) S 4 5", "42 (sh) S -4" REST};
	struct hf_proc_stat s = {.ppid = 77};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(bad); i++)
		assert_err(hf_proc_parse_stat(bad[i], &s), -EBADMSG);
	assert_int_equal(s.ppid, 77);
}

static void own_process_is_seen(void **state)
{
	struct hf_proc_sample sample;
	struct hf_proc_stat s;
	struct hf_buf text = {};

	(void)state;
	assert_ok(hf_proc_stat((uint32_t)getpid(), &s));
	assert_int_equal(s.ppid, getppid());
	assert_true(s.start_ns <= hf_now_boottime_ns());
	assert_true(s.start_ns % HF_PROCESS_TICK_NS == 0);
	assert_ok(hf_proc_sample((uint32_t)getpid(), 1, &sample));
	assert_false(sample.stopped);
	assert_int_equal(sample.at_ns, 1);
	assert_true(hf_proc_rss((uint32_t)getpid()) > 100000);
	hf_proc_describe((uint32_t)getpid(), &text);
	assert_ok(hf_buf_append(&text, "", 1));
	assert_non_null(strstr((char *)text.data, "VmRSS"));
	assert_non_null(strstr((char *)text.data, "thread 'test_proc'"));
	hf_buf_done(&text);
}

static void gone_process_is_esrch(void **state)
{
	struct hf_proc_sample sample;
	struct hf_proc_stat s;

	(void)state;
	assert_err(hf_proc_stat(UINT32_MAX, &s), -ESRCH);
	assert_err(hf_proc_sample(UINT32_MAX, 1, &sample), -ESRCH);
	assert_int_equal(hf_proc_rss(UINT32_MAX), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stat_is_parsed_behind_the_last_parenthesis),
		cmocka_unit_test(garbage_is_refused),
		cmocka_unit_test(own_process_is_seen),
		cmocka_unit_test(gone_process_is_esrch),
	};
	return HF_RUN_TESTS(tests);
}
