/* SPDX-License-Identifier: Apache-2.0 */
/* The token bucket on a clock of our own. */
#include "selftests/unit/test_util.h"

#include "base/ratelimit.h"

#define MS UINT64_C(1000000)

static unsigned take_n(struct hf_ratelimit *l, unsigned n, uint64_t now)
{
	unsigned got = 0;

	for (unsigned i = 0; i < n; i++)
		got += hf_ratelimit_take(l, now);
	return got;
}

static void burst_zero_refuses_everything(void **state)
{
	struct hf_ratelimit l = {.burst = 0, .interval_ns = 1};

	(void)state;
	assert_int_equal(take_n(&l, 5, 0), 0);
	assert_int_equal(take_n(&l, 5, 1000 * MS), 0);
	assert_int_equal(hf_ratelimit_refused(&l), 10);
}

static void starts_full_and_counts_what_it_refused(void **state)
{
	struct hf_ratelimit l = {.burst = 3, .interval_ns = 10 * MS};

	(void)state;
	assert_int_equal(take_n(&l, 5, 7), 3);
	assert_int_equal(hf_ratelimit_refused(&l), 2);
	assert_int_equal(hf_ratelimit_refused(&l), 0);
}

static void one_token_comes_back_per_interval(void **state)
{
	struct hf_ratelimit l = {.burst = 3, .interval_ns = 10 * MS};

	(void)state;
	assert_int_equal(take_n(&l, 3, 0), 3);
	assert_int_equal(take_n(&l, 1, 10 * MS - 1), 0);
	assert_int_equal(take_n(&l, 2, 10 * MS), 1);
	/* The 9 ms beyond the first interval are not lost. */
	assert_int_equal(take_n(&l, 2, 29 * MS), 1);
	assert_int_equal(take_n(&l, 2, 30 * MS), 1);
}

static void a_long_pause_gives_one_burst(void **state)
{
	struct hf_ratelimit l = {.burst = 3, .interval_ns = 10 * MS};

	(void)state;
	assert_int_equal(take_n(&l, 3, 0), 3);
	assert_int_equal(take_n(&l, 9, UINT64_MAX), 3);
}

static void a_clock_that_goes_back_gives_nothing(void **state)
{
	struct hf_ratelimit l = {.burst = 2, .interval_ns = 10 * MS};

	(void)state;
	assert_int_equal(take_n(&l, 2, 100 * MS), 2);
	assert_int_equal(take_n(&l, 2, 0), 0);
	assert_int_equal(take_n(&l, 2, 110 * MS), 1);
}

static void interval_zero_never_waits(void **state)
{
	struct hf_ratelimit l = {.burst = 2, .interval_ns = 0};

	(void)state;
	assert_int_equal(take_n(&l, 3, 1), 2);
	assert_int_equal(take_n(&l, 3, 2), 2);
}

static void a_lowered_burst_takes_effect(void **state)
{
	struct hf_ratelimit l = {.burst = 100, .interval_ns = 10 * MS};

	(void)state;
	assert_int_equal(take_n(&l, 1, 0), 1);
	l.burst = 2;
	assert_int_equal(take_n(&l, 50, 0), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(burst_zero_refuses_everything),
		cmocka_unit_test(starts_full_and_counts_what_it_refused),
		cmocka_unit_test(one_token_comes_back_per_interval),
		cmocka_unit_test(a_long_pause_gives_one_burst),
		cmocka_unit_test(a_clock_that_goes_back_gives_nothing),
		cmocka_unit_test(interval_zero_never_waits),
		cmocka_unit_test(a_lowered_burst_takes_effect),
	};

	return HF_RUN_TESTS(tests);
}
