/* SPDX-License-Identifier: Apache-2.0 */
/* Limits forgive a peak and not a habit. */
#include "watchdog/limit.h"

#include "../test_util.h"

#define S   HF_NS_PER_S
#define T0  (1000 * S)
#define MIB (1024 * 1024)

static void memory_must_be_over_twice_in_a_row(void **state)
{
	struct hf_limit l = {};

	(void)state;
	assert_int_equal(hf_limit_check(&l, 10 * MIB, 0, 11 * MIB, 0, T0), HF_LIMIT_OK);
	assert_int_equal(hf_limit_check(&l, 10 * MIB, 0, 9 * MIB, 0, T0 + 2 * S), HF_LIMIT_OK);
	assert_int_equal(hf_limit_check(&l, 10 * MIB, 0, 11 * MIB, 0, T0 + 4 * S), HF_LIMIT_OK);
	assert_int_equal(hf_limit_check(&l, 10 * MIB, 0, 11 * MIB, 0, T0 + 6 * S), HF_LIMIT_MEMORY);
}

static void no_limit_and_unknown_are_never_over(void **state)
{
	struct hf_limit l = {};

	(void)state;
	for (int i = 0; i < 100; i++) {
		uint64_t now = T0 + (uint64_t)i * 2 * S;

		assert_int_equal(hf_limit_check(&l, 0, 0, UINT64_MAX, (uint64_t)i * 10 * S, now),
				 HF_LIMIT_OK);
	}
	l = (struct hf_limit){};
	for (int i = 0; i < 10; i++)
		assert_int_equal(hf_limit_check(&l, 1, 0, 0, 0, T0 + (uint64_t)i * 2 * S),
				 HF_LIMIT_OK);
}

/* Seconds until a steady use of so many percent is found over a limit of 50, or 0. */
static unsigned found_after(unsigned percent)
{
	struct hf_limit l = {};

	for (unsigned s = 0; s <= 60; s += 2)
		if (hf_limit_check(&l, 0, 50, 0, (uint64_t)s * percent * (S / 100), T0 + s * S) ==
		    HF_LIMIT_CPU)
			return s;
	return 0;
}

static void steady_processor_use_is_found_after_a_window(void **state)
{
	(void)state;
	assert_int_equal(found_after(49), 0);
	assert_int_equal(found_after(50), 0);
	assert_int_equal(found_after(52), 12);
	assert_int_equal(found_after(400), 12);
}

static void burst_within_a_window_is_forgiven(void **state)
{
	struct hf_limit l = {};
	uint64_t cpu = 0;

	(void)state;
	for (unsigned s = 0; s < 600; s += 2) {
		if (s % 12 < 4) /* a third of the time at full speed */
			cpu += 2 * S;
		assert_int_equal(hf_limit_check(&l, 0, 50, 0, cpu, T0 + s * S), HF_LIMIT_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_must_be_over_twice_in_a_row),
		cmocka_unit_test(no_limit_and_unknown_are_never_over),
		cmocka_unit_test(steady_processor_use_is_found_after_a_window),
		cmocka_unit_test(burst_within_a_window_is_forgiven),
	};
	return HF_RUN_TESTS(tests);
}
