/* SPDX-License-Identifier: Apache-2.0 */
/* Whom an end is blamed on, and what leads to a rollback. Time is a number here. */
#include "selftests/unit/test_util.h"

#include <signal.h>

#include "watchdog/release_judge.h"

#define S HF_NS_PER_S

static void every_end_is_blamed_on_the_right_one(void **state)
{
	static const struct {
		enum hf_exit_cause cause;
		int code, signal;
		bool was_ready, own_limit;
		enum hf_release_blame want;
	} cases[] = {
		{HF_EXIT_EXITED, 3, 0, true, false, HF_BLAME_CRASH},
		{HF_EXIT_EXITED, 111, 0, true, false, HF_BLAME_CRASH},
		{HF_EXIT_EXITED, 100, 0, true, false, HF_BLAME_PERMANENT},
		/* A SIGTERM that was obeyed. */
		{HF_EXIT_EXITED, 0, 0, true, false, HF_BLAME_UNKNOWN},
		{HF_EXIT_CRASHED, -1, SIGSEGV, true, false, HF_BLAME_CRASH},
		{HF_EXIT_SIGNALLED, -1, SIGKILL, true, false, HF_BLAME_NOBODY},
		{HF_EXIT_SIGNALLED, -1, SIGTERM, true, false, HF_BLAME_NOBODY},
		{HF_EXIT_SIGNALLED, -1, SIGPIPE, true, false, HF_BLAME_CRASH},
		{HF_EXIT_SIGNALLED, -1, SIGXCPU, true, false, HF_BLAME_CRASH},
		{HF_EXIT_KILLED_BY_OPERATOR, -1, SIGSEGV, true, false, HF_BLAME_NOBODY},
		{HF_EXIT_STOPPED_BY_REQUEST, 0, 0, true, false, HF_BLAME_NOBODY},
		{HF_EXIT_OOM, -1, SIGKILL, true, false, HF_BLAME_NOBODY},
		{HF_EXIT_OOM, -1, SIGKILL, true, true, HF_BLAME_LIMIT},
		{HF_EXIT_LIMIT, -1, SIGTERM, true, false, HF_BLAME_LIMIT},
		{HF_EXIT_HUNG, -1, SIGKILL, true, false, HF_BLAME_HANG},
		{HF_EXIT_HUNG, -1, SIGKILL, false, false, HF_BLAME_NOT_READY},
		{HF_EXIT_UNKNOWN, -1, 0, true, false, HF_BLAME_UNKNOWN},
		{_HF_EXIT_MAX, -1, 0, true, false, HF_BLAME_UNKNOWN},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		const struct hf_death d = {
			.cause = cases[i].cause, .code = cases[i].code, .signal = cases[i].signal};

		assert_int_equal(hf_release_blame(&d, cases[i].was_ready, cases[i].own_limit),
				 cases[i].want);
	}
}

static struct hf_release_judge judge(bool trial)
{
	struct hf_release_judge j;

	memset(&j, 0xff, sizeof(j));
	hf_release_judge_begin(&j, trial, 0, false);
	return j;
}

static void each_fault_has_its_limit_on_trial(void **state)
{
	static const struct {
		enum hf_release_blame blame;
		enum hf_release_reason first, second;
	} cases[] = {
		{HF_BLAME_NOBODY, HF_RELEASE_WHY_NONE, HF_RELEASE_WHY_NONE},
		{HF_BLAME_UNKNOWN, HF_RELEASE_WHY_NONE, HF_RELEASE_WHY_NONE},
		{HF_BLAME_CRASH, HF_RELEASE_WHY_NONE, HF_RELEASE_WHY_CRASHES},
		{HF_BLAME_HANG, HF_RELEASE_WHY_NONE, HF_RELEASE_WHY_HANGS},
		{HF_BLAME_LIMIT, HF_RELEASE_WHY_LIMIT, HF_RELEASE_WHY_LIMIT},
		{HF_BLAME_NOT_READY, HF_RELEASE_WHY_NOT_READY, HF_RELEASE_WHY_NOT_READY},
		{HF_BLAME_PERMANENT, HF_RELEASE_WHY_CRASHES, HF_RELEASE_WHY_CRASHES},
	};

	(void)state;
	assert_int_equal(HF_ARRAY_SIZE(cases), _HF_BLAME_MAX);
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		struct hf_release_judge j = judge(true);

		assert_int_equal(hf_release_judge_end(&j, cases[i].blame, 100 * S), cases[i].first);
		assert_int_equal(hf_release_judge_end(&j, cases[i].blame, 160 * S),
				 cases[i].second);
	}
}

static void two_crashes_in_a_minute_or_three_in_ten_are_too_many(void **state)
{
	struct hf_release_judge j = judge(true);

	(void)state;
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_CRASH, 100 * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_CRASH, 161 * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_CRASH, 700 * S), HF_RELEASE_WHY_CRASHES);

	j = judge(true);
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_CRASH, 100 * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_CRASH, 400 * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_CRASH, 701 * S), HF_RELEASE_WHY_NONE);
	/* A hang between two crashes is no third one. */
	j = judge(true);
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_CRASH, 100 * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_HANG, 200 * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_CRASH, 300 * S), HF_RELEASE_WHY_NONE);
}

static void a_kept_version_has_to_fail_five_times(void **state)
{
	static const enum hf_release_blame blames[] = {HF_BLAME_CRASH, HF_BLAME_HANG,
						       HF_BLAME_LIMIT, HF_BLAME_PERMANENT};
	struct hf_release_judge j = judge(false);

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(hf_release_judge_end(&j, blames[i], (100 + i) * S),
				 HF_RELEASE_WHY_NONE);
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_NOBODY, 110 * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(hf_release_judge_end(&j, HF_BLAME_CRASH, 700 * S), HF_RELEASE_WHY_CRASHES);
	j = judge(false);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(hf_release_judge_end(&j, HF_BLAME_CRASH, (100 + i * 151) * S),
				 HF_RELEASE_WHY_NONE);
}

static const struct hf_release_look good = {
	.healthy = true, .connected = true, .canaries = true, .portal_ns = 600 * S};

static void only_time_between_two_healthy_looks_counts(void **state)
{
	struct hf_release_judge j = judge(true);
	struct hf_release_look sick = good, well = good;

	(void)state;
	sick.healthy = false;
	well.canaries = false;
	assert_int_equal(hf_release_judge_look(&j, &well, 100 * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(j.healthy_ns, 0);
	(void)hf_release_judge_look(&j, &well, 101 * S);
	assert_int_equal(j.healthy_ns, S);
	(void)hf_release_judge_look(&j, &sick, 102 * S);
	(void)hf_release_judge_look(&j, &well, 103 * S);
	assert_int_equal(j.healthy_ns, S);
	/* A suspend, or a loop that was held up. */
	(void)hf_release_judge_look(&j, &well, 500 * S);
	assert_int_equal(j.healthy_ns, S);
	(void)hf_release_judge_look(&j, &well, 501 * S);
	assert_int_equal(j.healthy_ns, 2 * S);
	/* A new process begins between looks. */
	(void)hf_release_judge_end(&j, HF_BLAME_NOBODY, 501 * S);
	(void)hf_release_judge_look(&j, &well, 503 * S);
	assert_int_equal(j.healthy_ns, 2 * S);
	assert_false(hf_release_judge_passed(&j, &well, 3 * S));
	assert_true(hf_release_judge_passed(&j, &well, 2 * S));
	assert_false(hf_release_judge_passed(&j, &sick, 2 * S));
}

static void what_an_earlier_watchdog_counted_is_kept(void **state)
{
	struct hf_release_judge j;

	(void)state;
	hf_release_judge_begin(&j, true, 50 * S, false);
	assert_int_equal(j.healthy_ns, 50 * S);
}

static void three_lost_canaries_in_a_row_are_too_many(void **state)
{
	struct hf_release_judge j = judge(true);

	(void)state;
	(void)hf_release_judge_look(&j, &good, 100 * S);
	for (uint64_t n = 1; n <= 3; n++)
		assert_true(hf_release_judge_canary_sent(&j, n, (100 + n) * S));
	for (uint64_t t = 101; t < 108; t++)
		assert_int_equal(hf_release_judge_look(&j, &good, t * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(j.canaries_lost, 2);
	assert_int_equal(hf_release_judge_look(&j, &good, 108 * S), HF_RELEASE_WHY_CANARY);
}

static void a_canary_that_is_seen_ends_the_row(void **state)
{
	struct hf_release_judge j = judge(true);

	(void)state;
	(void)hf_release_judge_look(&j, &good, 100 * S);
	assert_true(hf_release_judge_canary_sent(&j, 1, 100 * S));
	assert_true(hf_release_judge_canary_sent(&j, 2, 100 * S));
	assert_true(hf_release_judge_canary_sent(&j, 3, 104 * S));
	(void)hf_release_judge_look(&j, &good, 105 * S);
	assert_int_equal(j.canaries_lost, 2);
	assert_false(hf_release_judge_passed(&j, &good, S));
	hf_release_judge_canary_seen(&j, 77); /* nobody's */
	hf_release_judge_canary_seen(&j, 0);
	assert_int_equal(j.canaries_seen, 0);
	hf_release_judge_canary_seen(&j, 3);
	hf_release_judge_canary_seen(&j, 3); /* twice is once */
	assert_int_equal(j.canaries_seen, 1);
	assert_int_equal(hf_release_judge_look(&j, &good, 106 * S), HF_RELEASE_WHY_NONE);
	assert_true(hf_release_judge_passed(&j, &good, S));
}

static void a_starved_process_loses_no_canary(void **state)
{
	struct hf_release_judge j = judge(true);
	struct hf_release_look starved = good;

	(void)state;
	starved.healthy = false;
	(void)hf_release_judge_look(&j, &good, 100 * S);
	for (uint64_t n = 1; n <= HF_CANARIES_MAX; n++)
		assert_true(hf_release_judge_canary_sent(&j, n, 100 * S));
	assert_false(hf_release_judge_canary_sent(&j, 99, 100 * S));
	for (uint64_t t = 101; t < 130; t++)
		assert_int_equal(hf_release_judge_look(&j, &starved, t * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(hf_release_judge_look(&j, &good, 130 * S), HF_RELEASE_WHY_NONE);
	assert_int_equal(j.canaries_lost, 0);
	/* Where they are not judged, none needs to be seen. */
	starved = good;
	starved.canaries = false;
	j.healthy_ns = 9 * S;
	assert_true(hf_release_judge_passed(&j, &starved, S));
	assert_false(hf_release_judge_passed(&j, &good, S));
}

static void a_canary_that_could_not_be_sent_is_not_waited_for(void **state)
{
	struct hf_release_judge j = judge(true);

	(void)state;
	(void)hf_release_judge_look(&j, &good, 100 * S);
	assert_true(hf_release_judge_canary_sent(&j, 5, 100 * S));
	hf_release_judge_canary_cancel(&j, 5);
	(void)hf_release_judge_look(&j, &good, 106 * S);
	assert_int_equal(j.canaries_lost, 0);
}

static void the_portal_is_waited_for_where_the_old_version_had_it(void **state)
{
	struct hf_release_judge j;
	struct hf_release_look away = good;
	uint64_t t = 1000;

	(void)state;
	away.connected = false;
	away.canaries = false;
	away.portal_ns = 20 * S;
	hf_release_judge_begin(&j, true, 0, true);
	for (; t < 1020; t++)
		assert_int_equal(hf_release_judge_look(&j, &away, t * S), HF_RELEASE_WHY_NONE);
	assert_false(hf_release_judge_passed(&j, &away, 5 * S));
	assert_int_equal(hf_release_judge_look(&j, &away, t * S), HF_RELEASE_WHY_PORTAL);

	/* Once connected it may lose it like any other. */
	hf_release_judge_begin(&j, true, 0, true);
	away.connected = true;
	(void)hf_release_judge_look(&j, &away, 2000 * S);
	away.connected = false;
	for (t = 2001; t < 2100; t++)
		assert_int_equal(hf_release_judge_look(&j, &away, t * S), HF_RELEASE_WHY_NONE);
	assert_true(hf_release_judge_passed(&j, &away, 5 * S));

	/* Nor is it expected where the old one had none. */
	hf_release_judge_begin(&j, true, 0, false);
	for (t = 3000; t < 3100; t++)
		assert_int_equal(hf_release_judge_look(&j, &away, t * S), HF_RELEASE_WHY_NONE);
	assert_true(hf_release_judge_passed(&j, &away, 5 * S));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_end_is_blamed_on_the_right_one),
		cmocka_unit_test(each_fault_has_its_limit_on_trial),
		cmocka_unit_test(two_crashes_in_a_minute_or_three_in_ten_are_too_many),
		cmocka_unit_test(a_kept_version_has_to_fail_five_times),
		cmocka_unit_test(only_time_between_two_healthy_looks_counts),
		cmocka_unit_test(what_an_earlier_watchdog_counted_is_kept),
		cmocka_unit_test(three_lost_canaries_in_a_row_are_too_many),
		cmocka_unit_test(a_canary_that_is_seen_ends_the_row),
		cmocka_unit_test(a_starved_process_loses_no_canary),
		cmocka_unit_test(a_canary_that_could_not_be_sent_is_not_waited_for),
		cmocka_unit_test(the_portal_is_waited_for_where_the_old_version_had_it),
	};

	return HF_RUN_TESTS(tests);
}
