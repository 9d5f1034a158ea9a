/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks and times as text. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"

static void rfc3339_refuses_garbage(void **state)
{
	static const char *const bad[] = {
		"",
		"now",
		"2026-01-02",
		"2026-01-02T03:04:05",
		"2026-01-02T03:04Z",
		"2026-1-02T03:04:05Z",
		"2026-13-02T03:04:05Z",
		"2026-00-02T03:04:05Z",
		"2026-01-00T03:04:05Z",
		"2026-02-29T03:04:05Z",
		"2100-02-29T03:04:05Z",
		"2026-04-31T03:04:05Z",
		"2026-01-02T24:04:05Z",
		"2026-01-02T03:60:05Z",
		"2026-01-02T03:04:61Z",
		"2026-01-02T03:04:05.Z",
		"2026-01-02T03:04:05.1234567890Z",
		"2026-01-02T03:04:05+1:00",
		"2026-01-02T03:04:05+0100",
		"2026-01-02T03:04:05+24:00",
		"2026-01-02T03:04:05+01:60",
		"2026-01-02T03:04:05Zx",
		"2026-01-02T03:04:05 Z",
		" 2026-01-02T03:04:05Z",
		"1969-12-31T23:59:59Z",
		"1970-01-01T00:00:00+00:01",
		"2554-07-21T23:34:34Z",
		"9999-12-31T23:59:59Z",
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(bad); i++) {
		uint64_t ns = 42;

		assert_err(hf_parse_rfc3339(bad[i], &ns), -EINVAL);
		assert_int_equal(ns, 42);
	}
}

static void rfc3339_exact_values(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} rows[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"1970-01-01T00:00:00.000000001Z", 1},
		{"1970-01-01T01:00:00+01:00", 0},
		{"2026-01-02T03:04:05.123456789Z", UINT64_C(1767323045123456789)},
		{"2026-01-02t03:04:05.123456789z", UINT64_C(1767323045123456789)},
		{"2026-01-02T03:04:05.1Z", UINT64_C(1767323045100000000)},
		{"2026-01-01T22:34:05.1-04:30", UINT64_C(1767323045100000000)},
		{"2024-02-29T00:00:00Z", UINT64_C(1709164800000000000)},
		{"2000-02-29T23:59:59Z", UINT64_C(951868799000000000)},
		{"2016-12-31T23:59:60Z", UINT64_C(1483228800000000000)},
		{"2554-07-21T23:34:33.709551615Z", UINT64_MAX},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		uint64_t ns = 42;

		assert_ok(hf_parse_rfc3339(rows[i].text, &ns));
		assert_int_equal(ns, rows[i].ns);
	}
}

static void rfc3339_format_is_utc_with_nanoseconds(void **state)
{
	char text[HF_RFC3339_SIZE];
	uint64_t ns;

	(void)state;
	assert_int_equal(setenv("TZ", "America/St_Johns", 1), 0);
	hf_format_rfc3339(0, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000000000Z");
	hf_format_rfc3339(UINT64_C(1767323045123456789), text);
	assert_string_equal(text, "2026-01-02T03:04:05.123456789Z");
	hf_format_rfc3339(UINT64_MAX, text);
	assert_string_equal(text, "2554-07-21T23:34:33.709551615Z");
	/* Every day of 60 years, by way of its text. */
	for (uint64_t d = 0; d < UINT64_C(365) * 60; d++) {
		hf_format_rfc3339(d * 86400 * HF_NS_PER_S + d, text);
		assert_ok(hf_parse_rfc3339(text, &ns));
		assert_int_equal(ns, d * 86400 * HF_NS_PER_S + d);
	}
}

static void durations_for_people(void **state)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} rows[] = {
		{0, "0 s"},
		{999, "999 ns"},
		{35999, "35 µs"},
		{UINT64_C(4000000), "4 ms"},
		{UINT64_C(999999999), "999 ms"},
		{UINT64_C(1000000000), "1 s"},
		{UINT64_C(8390000000), "8.3 s"},
		{UINT64_C(9999999999), "9.9 s"},
		{UINT64_C(10500000000), "10 s"},
		{UINT64_C(59999999999), "59 s"},
		{UINT64_C(200000000000), "3 min 20 s"},
		{UINT64_C(7920000000000), "2 h 12 min"},
		{UINT64_C(86399000000000), "23 h 59 min"},
		{UINT64_C(90000000000000), "1 d 1 h"},
		{UINT64_MAX, "213503 d 23 h"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		char text[32];

		hf_format_duration(rows[i].ns, text, sizeof(text));
		assert_string_equal(text, rows[i].text);
	}
}

static void clocks_move_forward(void **state)
{
	uint64_t m = hf_now_monotonic_ns(), b = hf_now_boottime_ns();

	(void)state;
	assert_true(m > 0);
	assert_true(hf_now_monotonic_ns() >= m);
	assert_true(hf_now_boottime_ns() >= b);
	/* 2020-01-01: a machine whose clock is older cannot run these tests from a checkout. */
	assert_true(hf_now_realtime_ns() > UINT64_C(1577836800) * HF_NS_PER_S);
}

static void boottime_stamps_show_as_wall_clock(void **state)
{
	uint64_t boot = hf_now_boottime_ns(), real = hf_now_realtime_ns();
	uint64_t hour = UINT64_C(3600) * HF_NS_PER_S;
	uint64_t got;

	(void)state;
	got = hf_boottime_to_realtime_ns(boot);
	assert_true(got < real + HF_NS_PER_S && got + HF_NS_PER_S > real);
	got = hf_boottime_to_realtime_ns(boot + hour);
	assert_true(got < real + hour + HF_NS_PER_S && got + HF_NS_PER_S > real + hour);
}

static void boot_id_is_stable_and_not_zero(void **state)
{
	static const uint8_t zero[16];
	uint8_t a[16], b[16];

	(void)state;
	assert_ok(hf_boot_id(a));
	assert_ok(hf_boot_id(b));
	assert_memory_equal(a, b, 16);
	assert_memory_not_equal(a, zero, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc3339_refuses_garbage),
		cmocka_unit_test(rfc3339_exact_values),
		cmocka_unit_test(rfc3339_format_is_utc_with_nanoseconds),
		cmocka_unit_test(durations_for_people),
		cmocka_unit_test(clocks_move_forward),
		cmocka_unit_test(boottime_stamps_show_as_wall_clock),
		cmocka_unit_test(boot_id_is_stable_and_not_zero),
	};

	return HF_RUN_TESTS(tests);
}
