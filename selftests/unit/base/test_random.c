/* SPDX-License-Identifier: Apache-2.0 */
/* Randomness, UUIDs. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"
#include "base/random.h"

static void below_stays_below_and_reaches_all(void **state)
{
	unsigned seen[5] = {};

	(void)state;
	assert_int_equal(hf_random_below(0), 0);
	assert_int_equal(hf_random_below(1), 0);
	for (int i = 0; i < 2000; i++) {
		uint64_t v = hf_random_below(5);

		assert_in_range(v, 0, 4);
		seen[v]++;
	}
	/* 400 expected each; below 200 is 11 standard deviations off. */
	for (int i = 0; i < 5; i++)
		assert_true(seen[i] > 200);
	/* A bound above 2^63 refuses nearly half of the draws. */
	for (int i = 0; i < 100; i++)
		assert_true(hf_random_below(UINT64_MAX / 2 + 2) < UINT64_MAX / 2 + 2);
}

static void bytes_differ_and_stay_inside(void **state)
{
	uint8_t a[34] = {}, b[34] = {};

	(void)state;
	hf_random_bytes(a + 1, 32);
	hf_random_bytes(b + 1, 32);
	assert_memory_not_equal(a, b, 34);
	assert_int_equal(a[0] | a[33] | b[0] | b[33], 0);
	hf_random_bytes(NULL, 0);
}

static void uuid_v7_carries_time_version_and_variant(void **state)
{
	uint64_t before = hf_now_realtime_ns() / HF_NS_PER_MS, after, ms = 0;
	uint8_t id[16], other[16];

	(void)state;
	hf_uuid_v7(id);
	hf_uuid_v7(other);
	after = hf_now_realtime_ns() / HF_NS_PER_MS;
	for (int i = 0; i < 6; i++)
		ms = ms << 8 | id[i];
	assert_in_range(ms, before, after);
	assert_int_equal(id[6] >> 4, 7);
	assert_int_equal(id[8] >> 6, 2);
	assert_memory_not_equal(id, other, 16);
}

static void uuid_text_is_strict(void **state)
{
	static const char *const bad[] = {
		"",
		"0190163d8694739bb1c5f9f5a5d2f9ab",
		"0190163d-8694-739b-b1c5-f9f5a5d2f9a",
		"0190163d-8694-739b-b1c5-f9f5a5d2f9abc",
		"0190163d-8694-739b-b1c5-f9f5a5d2f9ag",
		"0190163d-8694-739b-b1c5f-9f5a5d2f9ab",
		"{190163d-8694-739b-b1c5-f9f5a5d2f9ab",
		"0190163d 8694-739b-b1c5-f9f5a5d2f9ab",
		" 190163d-8694-739b-b1c5-f9f5a5d2f9ab",
	};
	static const uint8_t want[16] = {0x01, 0x90, 0x16, 0x3d, 0x86, 0x94, 0x73, 0x9b,
					 0xb1, 0xc5, 0xf9, 0xf5, 0xa5, 0xd2, 0xf9, 0xab};
	uint8_t id[16] = {};
	char text[HF_UUID_TEXT_SIZE];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(bad); i++)
		assert_err(hf_uuid_parse(bad[i], id), -EINVAL);
	assert_memory_equal(id, ((uint8_t[16]){}), 16);
	assert_ok(hf_uuid_parse("0190163D-8694-739b-b1c5-f9f5a5d2f9ab", id));
	assert_memory_equal(id, want, 16);
	hf_uuid_format(id, text);
	assert_string_equal(text, "0190163d-8694-739b-b1c5-f9f5a5d2f9ab");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(below_stays_below_and_reaches_all),
		cmocka_unit_test(bytes_differ_and_stay_inside),
		cmocka_unit_test(uuid_v7_carries_time_version_and_variant),
		cmocka_unit_test(uuid_text_is_strict),
	};

	return HF_RUN_TESTS(tests);
}
