/* SPDX-License-Identifier: Apache-2.0 */
/* The heartbeat's timing and what counts as proof, with a fake clock. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"
#include "userspace/agent/heartbeat.h"

#define S HF_NS_PER_S

static uint64_t highest(uint64_t bound)
{
	return bound ? bound - 1 : 0;
}

static uint64_t lowest(uint64_t bound)
{
	(void)bound;
	return 0;
}

static void interval_is_twenty_seconds_within_ten_percent(void **state)
{
	struct hf_heartbeat h;

	(void)state;
	hf_heartbeat_init(&h, 0, 0, lowest, 100 * S);
	assert_int_equal(hf_heartbeat_wakeup_ns(&h), 118 * S);
	hf_heartbeat_init(&h, 0, 0, highest, 100 * S);
	assert_int_equal(hf_heartbeat_wakeup_ns(&h), 122 * S - 1);
	assert_false(hf_heartbeat_should_ask(&h, 122 * S - 2));
	assert_true(hf_heartbeat_should_ask(&h, 122 * S - 1));
}

static void wishes_of_the_portal_are_clamped(void **state)
{
	struct hf_heartbeat h;

	(void)state;
	hf_heartbeat_init(&h, 1, 1000, lowest, 0);
	assert_int_equal(h.interval_ns, HF_HEARTBEAT_MIN_S * S);
	assert_int_equal(h.timeout_ns, HF_HEARTBEAT_TIMEOUT_MAX_S * S);
	hf_heartbeat_set_interval(&h, UINT32_MAX, 0);
	assert_int_equal(h.interval_ns, HF_HEARTBEAT_MAX_S * S);
	hf_heartbeat_set_interval(&h, 0, 0);
	assert_int_equal(h.interval_ns, HF_HEARTBEAT_MAX_S * S);
}

static void silence_for_ten_seconds_is_a_loss(void **state)
{
	struct hf_heartbeat h;

	(void)state;
	hf_heartbeat_init(&h, 20, 10, lowest, 0);
	assert_int_equal(hf_heartbeat_asked(&h, 18 * S), 1);
	assert_false(hf_heartbeat_should_ask(&h, 19 * S));
	assert_int_equal(hf_heartbeat_wakeup_ns(&h), 28 * S);
	assert_false(hf_heartbeat_missed(&h, 28 * S - 1));
	assert_true(hf_heartbeat_missed(&h, 28 * S));
}

static void asking_again_gives_no_more_time(void **state)
{
	struct hf_heartbeat h;

	(void)state;
	hf_heartbeat_init(&h, 20, 10, lowest, 0);
	(void)hf_heartbeat_asked(&h, 18 * S);
	assert_int_equal(hf_heartbeat_asked(&h, 25 * S), 2);
	assert_true(hf_heartbeat_missed(&h, 28 * S));
}

static void the_registrys_answer_is_proof_and_measures_the_round_trip(void **state)
{
	struct hf_heartbeat h;
	uint64_t seq;

	(void)state;
	hf_heartbeat_init(&h, 20, 10, lowest, 0);
	seq = hf_heartbeat_asked(&h, 18 * S);
	assert_int_equal(hf_heartbeat_answered(&h, seq, 7, 7, 18 * S + 250 * HF_NS_PER_US),
			 HF_HEARTBEAT_PROOF);
	assert_int_equal(h.rtt_us, 250);
	assert_false(hf_heartbeat_missed(&h, 1000 * S));
	assert_int_equal(hf_heartbeat_wakeup_ns(&h), 36 * S + 250 * HF_NS_PER_US);
}

static void another_epoch_means_the_portal_forgot_us(void **state)
{
	struct hf_heartbeat h;
	uint64_t seq;

	(void)state;
	hf_heartbeat_init(&h, 20, 10, lowest, 0);
	seq = hf_heartbeat_asked(&h, 18 * S);
	assert_int_equal(hf_heartbeat_answered(&h, seq, 0, 7, 19 * S), HF_HEARTBEAT_MISMATCH);
	assert_int_equal(hf_heartbeat_answered(&h, seq, 6, 7, 19 * S), HF_HEARTBEAT_MISMATCH);
	/* A mismatch even when nothing was asked. */
	hf_heartbeat_init(&h, 20, 10, lowest, 0);
	assert_int_equal(hf_heartbeat_answered(&h, 0, 8, 7, 1), HF_HEARTBEAT_MISMATCH);
}

static void answers_nobody_asked_for_prove_nothing(void **state)
{
	struct hf_heartbeat h;

	(void)state;
	hf_heartbeat_init(&h, 20, 10, lowest, 0);
	assert_int_equal(hf_heartbeat_answered(&h, 0, 7, 7, 1), HF_HEARTBEAT_STALE);
	(void)hf_heartbeat_asked(&h, 18 * S);
	(void)hf_heartbeat_asked(&h, 19 * S);
	assert_int_equal(hf_heartbeat_answered(&h, 1, 7, 7, 20 * S), HF_HEARTBEAT_STALE);
	assert_int_equal(hf_heartbeat_answered(&h, 3, 7, 7, 20 * S), HF_HEARTBEAT_STALE);
	assert_true(hf_heartbeat_missed(&h, 28 * S));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(interval_is_twenty_seconds_within_ten_percent),
		cmocka_unit_test(wishes_of_the_portal_are_clamped),
		cmocka_unit_test(silence_for_ten_seconds_is_a_loss),
		cmocka_unit_test(asking_again_gives_no_more_time),
		cmocka_unit_test(the_registrys_answer_is_proof_and_measures_the_round_trip),
		cmocka_unit_test(another_epoch_means_the_portal_forgot_us),
		cmocka_unit_test(answers_nobody_asked_for_prove_nothing),
	};
	return HF_RUN_TESTS(tests);
}
