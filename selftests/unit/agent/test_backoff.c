/* SPDX-License-Identifier: Apache-2.0 */
/* The backoff policy with a fake clock and a fake die. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"
#include "base/random.h"
#include "userspace/agent/backoff.h"

static uint64_t last_bound;

static uint64_t highest(uint64_t bound)
{
	last_bound = bound;
	return bound ? bound - 1 : 0;
}

static uint64_t lowest(uint64_t bound)
{
	last_bound = bound;
	return 0;
}

static void a_lone_loss_dials_at_once_until_the_budget_is_spent(void **state)
{
	struct hf_backoff b;
	uint64_t now = 1000 * HF_NS_PER_S;

	(void)state;
	hf_backoff_init(&b, 20, highest);
	for (int i = 0; i < 20; i++)
		assert_int_equal(hf_backoff_delay_ns(&b, HF_BACKOFF_LONE_LOSS, 0, 0, now + i), 0);
	assert_int_not_equal(hf_backoff_delay_ns(&b, HF_BACKOFF_LONE_LOSS, 0, 0, now + 20), 0);
	assert_int_equal(last_bound, 2000 * HF_NS_PER_MS);
	/* The first stamp is a minute old: one dial comes back, not two. */
	now += 60 * HF_NS_PER_S;
	assert_int_equal(hf_backoff_delay_ns(&b, HF_BACKOFF_LONE_LOSS, 0, 0, now), 0);
	assert_int_not_equal(hf_backoff_delay_ns(&b, HF_BACKOFF_LONE_LOSS, 0, 0, now), 0);
}

static void a_budget_of_zero_never_dials_at_once(void **state)
{
	struct hf_backoff b;

	(void)state;
	hf_backoff_init(&b, 0, highest);
	assert_int_not_equal(hf_backoff_delay_ns(&b, HF_BACKOFF_LONE_LOSS, 0, 0, 5), 0);
}

static void an_absurd_budget_is_clamped_to_the_ring(void **state)
{
	struct hf_backoff b;
	unsigned n = 0;

	(void)state;
	hf_backoff_init(&b, UINT32_MAX, highest);
	while (n < 1000 && hf_backoff_delay_ns(&b, HF_BACKOFF_LONE_LOSS, 0, 0, HF_NS_PER_S) == 0)
		n++;
	assert_int_equal(n, HF_BACKOFF_IMMEDIATE_MAX);
}

static void the_budget_holds_over_a_thousand_losses(void **state)
{
	struct hf_backoff b;
	unsigned at_once = 0;

	(void)state;
	hf_backoff_init(&b, 20, highest);
	/* One loss every 100 ms for 100 s: 20 in each minute, 40 in all. */
	for (uint64_t t = 0; t < 1000; t++)
		at_once += hf_backoff_delay_ns(&b, HF_BACKOFF_LONE_LOSS, 0, 0,
					       HF_NS_PER_S + t * 100 * HF_NS_PER_MS) == 0;
	assert_int_equal(at_once, 40);
}

static void failures_go_window_then_doubling_to_the_cap(void **state)
{
	static const unsigned want_ms[] = {2000,  2000,  4000,  8000,  16000,
					   32000, 60000, 60000, 60000, 60000};
	struct hf_backoff b;

	(void)state;
	hf_backoff_init(&b, 20, highest);
	for (size_t i = 0; i < HF_ARRAY_SIZE(want_ms); i++) {
		uint64_t d = hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 0, 1);

		assert_int_equal(last_bound, want_ms[i] * HF_NS_PER_MS);
		assert_int_equal(d, last_bound - 1);
	}
	for (int i = 0; i < 100; i++)
		(void)hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 0, 1);
	assert_int_equal(last_bound, 60000 * HF_NS_PER_MS);
}

static void a_large_fleets_window_is_never_undercut_by_a_retry(void **state)
{
	static const unsigned want_ms[] = {10000, 10000, 20000, 40000, 60000, 60000};
	static const unsigned wide_ms[] = {90000, 90000, 90000};
	struct hf_backoff b;

	(void)state;
	hf_backoff_init(&b, 0, highest);
	hf_backoff_set_portal(&b, 10000, 0);
	for (size_t i = 0; i < HF_ARRAY_SIZE(want_ms); i++) {
		(void)hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 0, 1);
		assert_int_equal(last_bound, want_ms[i] * HF_NS_PER_MS);
	}
	hf_backoff_init(&b, 0, highest);
	hf_backoff_set_portal(&b, 90000, 0);
	for (size_t i = 0; i < HF_ARRAY_SIZE(wide_ms); i++) {
		(void)hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 0, 1);
		assert_int_equal(last_bound, wide_ms[i] * HF_NS_PER_MS);
	}
}

static void jitter_reaches_down_to_zero_even_at_the_cap(void **state)
{
	struct hf_backoff b;

	(void)state;
	hf_backoff_init(&b, 20, lowest);
	for (int i = 0; i < 10; i++)
		assert_int_equal(hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 0, 1), 0);
}

static void only_a_minute_online_forgets_failures(void **state)
{
	struct hf_backoff b;

	(void)state;
	hf_backoff_init(&b, 20, highest);
	for (int i = 0; i < 4; i++)
		(void)hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 0, 1);
	hf_backoff_online(&b, 100 * HF_NS_PER_S);
	hf_backoff_offline(&b, 160 * HF_NS_PER_S - 1);
	(void)hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 0, 1);
	assert_int_equal(last_bound, 16000 * HF_NS_PER_MS);
	hf_backoff_online(&b, 200 * HF_NS_PER_S);
	/* A second "online" (authorization changed) does not restart the minute. */
	hf_backoff_online(&b, 230 * HF_NS_PER_S);
	hf_backoff_offline(&b, 260 * HF_NS_PER_S);
	(void)hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 0, 1);
	assert_int_equal(last_bound, 2000 * HF_NS_PER_MS);
}

static void retry_after_is_a_floor_and_capped(void **state)
{
	struct hf_backoff b;

	(void)state;
	hf_backoff_init(&b, 20, lowest);
	assert_int_equal(hf_backoff_delay_ns(&b, HF_BACKOFF_LONE_LOSS, 5000, 0, 1),
			 5000 * HF_NS_PER_MS);
	assert_int_equal(hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, UINT64_MAX, 0, 1),
			 HF_BACKOFF_FLOOR_MAX_MS * HF_NS_PER_MS);
}

static void the_portals_window_spread_and_cap_are_used_and_clamped(void **state)
{
	struct hf_backoff b;

	(void)state;
	hf_backoff_init(&b, 20, highest);
	hf_backoff_set_portal(&b, 30000, 0);
	(void)hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 0, 1);
	assert_int_equal(last_bound, 30000 * HF_NS_PER_MS);
	(void)hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 700, 1);
	assert_int_equal(last_bound, 700 * HF_NS_PER_MS);
	(void)hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, UINT32_MAX, 1);
	assert_int_equal(last_bound, HF_BACKOFF_WINDOW_MAX_MS * HF_NS_PER_MS);
	hf_backoff_set_portal(&b, UINT32_MAX, UINT32_MAX);
	assert_int_equal(b.window_ms, HF_BACKOFF_WINDOW_MAX_MS);
	assert_int_equal(b.cap_ms, HF_BACKOFF_CAP_MAX_MS);
	hf_backoff_set_portal(&b, 0, 0);
	assert_int_equal(b.window_ms, HF_BACKOFF_WINDOW_MAX_MS);
}

static void kicks_are_two_seconds_apart_and_six_a_minute(void **state)
{
	struct hf_backoff b;
	uint64_t t = HF_NS_PER_S;
	unsigned kicks = 0;

	(void)state;
	hf_backoff_init(&b, 20, highest);
	assert_true(hf_backoff_kick(&b, t));
	assert_false(hf_backoff_kick(&b, t + 2 * HF_NS_PER_S - 1));
	assert_true(hf_backoff_kick(&b, t + 2 * HF_NS_PER_S));
	hf_backoff_init(&b, 20, highest);
	for (uint64_t s = 0; s < 600; s++)
		kicks += hf_backoff_kick(&b, t + s * HF_NS_PER_S);
	assert_int_equal(kicks, 60);
}

static void a_thousand_agents_do_not_synchronise(void **state)
{
	unsigned per_bucket[20] = {}, most = 0;

	(void)state;
	/* First dial after a portal restart: spread over the 2 s window in 100 ms buckets. */
	for (int i = 0; i < 1000; i++) {
		struct hf_backoff b;
		uint64_t d;

		hf_backoff_init(&b, 20, hf_random_below);
		d = hf_backoff_delay_ns(&b, HF_BACKOFF_FAILURE, 0, 0, 1);
		assert_true(d < 2000 * HF_NS_PER_MS);
		per_bucket[d / (100 * HF_NS_PER_MS)]++;
	}
	for (size_t i = 0; i < HF_ARRAY_SIZE(per_bucket); i++)
		most = per_bucket[i] > most ? per_bucket[i] : most;
	assert_true(most < 3 * 1000 / 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lone_loss_dials_at_once_until_the_budget_is_spent),
		cmocka_unit_test(a_budget_of_zero_never_dials_at_once),
		cmocka_unit_test(an_absurd_budget_is_clamped_to_the_ring),
		cmocka_unit_test(the_budget_holds_over_a_thousand_losses),
		cmocka_unit_test(failures_go_window_then_doubling_to_the_cap),
		cmocka_unit_test(a_large_fleets_window_is_never_undercut_by_a_retry),
		cmocka_unit_test(jitter_reaches_down_to_zero_even_at_the_cap),
		cmocka_unit_test(only_a_minute_online_forgets_failures),
		cmocka_unit_test(retry_after_is_a_floor_and_capped),
		cmocka_unit_test(the_portals_window_spread_and_cap_are_used_and_clamped),
		cmocka_unit_test(kicks_are_two_seconds_apart_and_six_a_minute),
		cmocka_unit_test(a_thousand_agents_do_not_synchronise),
	};
	return HF_RUN_TESTS(tests);
}
