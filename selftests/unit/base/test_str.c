/* SPDX-License-Identifier: Apache-2.0 */
/* Strings, numbers, encodings, the growing buffer: exact values, garbage first. */
#include "selftests/unit/test_util.h"

#include "base/str.h"

static void numbers_are_strict_decimal(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t value;
	} rows[] = {
		{"", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1e3", -EINVAL, 0},
		{"99999999999999999999x", -EINVAL, 0},
		{"18446744073709551616", -ERANGE, 0},
		{"0", 0, 0},
		{"007", 0, 7},
		{"4294967296", 0, UINT64_C(4294967296)},
		{"18446744073709551615", 0, UINT64_MAX},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		uint64_t v = 42;

		assert_err(hf_parse_u64(rows[i].text, &v), rows[i].r);
		assert_int_equal(v, rows[i].r < 0 ? 42 : rows[i].value);
	}
}

static void u32_ends_at_its_range(void **state)
{
	uint32_t v = 42;

	(void)state;
	assert_err(hf_parse_u32("x", &v), -EINVAL);
	assert_err(hf_parse_u32("4294967296", &v), -ERANGE);
	assert_err(hf_parse_u32("99999999999999999999", &v), -ERANGE);
	assert_int_equal(v, 42);
	assert_ok(hf_parse_u32("4294967295", &v));
	assert_int_equal(v, UINT32_MAX);
}

static void durations_have_units(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t ms;
	} rows[] = {
		{"", -EINVAL, 0},
		{"s", -EINVAL, 0},
		{"-1s", -EINVAL, 0},
		{"1 s", -EINVAL, 0},
		{"1.5s", -EINVAL, 0},
		{"1S", -EINVAL, 0},
		{"1w", -EINVAL, 0},
		{"99999999999999999999s", -ERANGE, 0},
		{"18446744073709551615d", -ERANGE, 0},
		{"90", 0, 90000},
		{"90s", 0, 90000},
		{"5m", 0, 300000},
		{"2h", 0, 7200000},
		{"1d", 0, 86400000},
		{"250ms", 0, 250},
		{"0", 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		uint64_t ms = 42;

		assert_err(hf_parse_duration_ms(rows[i].text, &ms), rows[i].r);
		assert_int_equal(ms, rows[i].r < 0 ? 42 : rows[i].ms);
	}
}

static void starts_and_ends(void **state)
{
	(void)state;
	assert_true(hf_startswith("abc", ""));
	assert_true(hf_startswith("abc", "abc"));
	assert_false(hf_startswith("ab", "abc"));
	assert_true(hf_endswith("abc", ""));
	assert_true(hf_endswith("abc", "bc"));
	assert_false(hf_endswith("bc", "abc"));
	assert_true(hf_streq0(NULL, NULL));
	assert_false(hf_streq0(NULL, ""));
	assert_false(hf_streq0("", NULL));
}

static void copies_stay_inside(void **state)
{
	char buf[4] = "xxx";

	(void)state;
	assert_false(hf_strlcpy(buf, "abcd", 0));
	assert_string_equal(buf, "xxx");
	assert_false(hf_strlcpy(buf, "abcd", sizeof(buf)));
	assert_string_equal(buf, "abc");
	assert_true(hf_strlcpy(buf, "abc", sizeof(buf)));
	assert_true(hf_strlcpy(buf, "", 1));
	assert_string_equal(buf, "");
	assert_false(hf_strf(buf, sizeof(buf), "%d", 12345));
	assert_string_equal(buf, "123");
	assert_true(hf_strf(buf, sizeof(buf), "%d", 123));
}

static void hex_round_trip(void **state)
{
	uint8_t out[3] = {7, 7, 7};
	char text[7];

	(void)state;
	assert_err(hf_hex_decode(out, 3, "00ff1"), -EINVAL);
	assert_err(hf_hex_decode(out, 3, "00ff1g"), -EINVAL);
	assert_err(hf_hex_decode(out, 3, "00ff1000"), -EINVAL);
	assert_memory_equal(out, ((uint8_t[]){7, 7, 7}), 3);
	assert_ok(hf_hex_decode(out, 3, "00Ff1a"));
	assert_memory_equal(out, ((uint8_t[]){0x00, 0xff, 0x1a}), 3);
	hf_hex_encode(text, out, 3);
	assert_string_equal(text, "00ff1a");
	assert_ok(hf_hex_decode(out, 0, ""));
}

static void base64_vectors_of_rfc4648(void **state)
{
	static const char *const rows[][2] = {
		{"", ""},
		{"f", "Zg=="},
		{"fo", "Zm8="},
		{"foo", "Zm9v"},
		{"foob", "Zm9vYg=="},
		{"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		char text[16];
		uint8_t bytes[16];
		size_t len = sizeof(bytes);

		assert_int_equal(hf_base64_encode(text, rows[i][0], strlen(rows[i][0])),
				 strlen(rows[i][1]));
		assert_string_equal(text, rows[i][1]);
		assert_ok(hf_base64_decode(bytes, &len, text, strlen(text)));
		assert_int_equal(len, strlen(rows[i][0]));
		assert_memory_equal(bytes, rows[i][0], len);
	}
}

static void base64_has_one_text_per_value(void **state)
{
	static const char *const bad[] = {
		"Z",        "Zg",   "Zg=",    "Zh==",     "Zm9=", "====", "=g==",
		"Zg==Zg==", "Z===", "Zm9v\n", "Zm9v    ", "Zm-_", "Zm 9", "Zg=a",
	};
	uint8_t out[16];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(bad); i++) {
		size_t len = sizeof(out);

		assert_err(hf_base64_decode(out, &len, bad[i], strlen(bad[i])), -EINVAL);
		assert_int_equal(len, sizeof(out));
	}
}

static void base64_refuses_a_small_buffer(void **state)
{
	uint8_t out[3] = {1, 2, 3};
	size_t len = 2;

	(void)state;
	assert_err(hf_base64_decode(out, &len, "Zm9v", 4), -ENOBUFS);
	assert_memory_equal(out, ((uint8_t[]){1, 2, 3}), 3);
	len = 2;
	assert_ok(hf_base64_decode(out, &len, "Zm8=", 4));
	assert_int_equal(len, 2);
	assert_int_equal(out[2], 3);
	len = 3;
	assert_err(hf_base64_decode(out, &len, "Zm\0v", 4), -EINVAL);
}

static void utf8_follows_rfc3629(void **state)
{
	static const struct {
		const char *bytes;
		bool valid;
	} rows[] = {
		{"", true},
		{"a", true},
		{"\xc2\x80", true},
		{"\xdf\xbf", true},
		{"\xe0\xa0\x80", true},
		{"\xed\x9f\xbf", true},
		{"\xee\x80\x80", true},
		{"\xf0\x90\x80\x80", true},
		{"\xf4\x8f\xbf\xbf", true},
		{"\x80", false},
		{"\xc0\xaf", false}, /* overlong '/' */
		{"\xc1\xbf", false},
		{"\xc2", false}, /* cut */
		{"\xc2z", false},
		{"\xe0\x9f\xbf", false}, /* overlong */
		{"\xed\xa0\x80", false}, /* surrogate */
		{"\xe2\x82", false},
		{"\xf0\x8f\xbf\xbf", false}, /* overlong */
		{"\xf4\x90\x80\x80", false}, /* above 10FFFF */
		{"\xf5\x80\x80\x80", false},
		{"\xff", false},
		{"ok\xfe", false},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++)
		assert_int_equal(hf_utf8_valid(rows[i].bytes, strlen(rows[i].bytes)),
				 rows[i].valid);
	assert_true(hf_utf8_valid("a\0b", 3));
	/* The length counts, not what lies behind it. */
	assert_false(hf_utf8_valid("\xc2\x80", 1));
}

static void sanitized_text_is_printable_ascii(void **state)
{
	char s[] = "a\x1b[31m\n\x7f\xc3\xa4~ ";

	(void)state;
	hf_sanitize(s);
	assert_string_equal(s, "a?[31m????~ ");
}

static void secrets_compare_and_vanish(void **state)
{
	char a[] = "secret", b[] = "secret";

	(void)state;
	assert_true(hf_equal_secret(a, b, 6));
	b[5] = 'x';
	assert_false(hf_equal_secret(a, b, 6));
	assert_true(hf_equal_secret(a, b, 5));
	assert_true(hf_equal_secret(a, b, 0));
	hf_wipe(a, 6);
	assert_memory_equal(a, "\0\0\0\0\0\0", 6);
	hf_wipe(NULL, 0);
}

static void buffer_grows_and_consumes(void **state)
{
	struct hf_buf b = {};

	(void)state;
	assert_err(hf_buf_reserve(&b, SIZE_MAX), -ENOMEM);
	assert_null(b.data);
	assert_ok(hf_buf_append(&b, NULL, 0));
	assert_null(b.data);
	for (int i = 0; i < 1000; i++)
		assert_ok(hf_buf_appendf(&b, "%03d,", i));
	assert_int_equal(b.len, 4000);
	assert_err(hf_buf_reserve(&b, SIZE_MAX - 100), -ENOMEM);
	assert_int_equal(b.len, 4000);
	hf_buf_consume(&b, 0);
	hf_buf_consume(&b, 3992);
	assert_int_equal(b.len, 8);
	assert_memory_equal(b.data, "998,999,", 8);
	hf_buf_consume(&b, 9);
	assert_int_equal(b.len, 0);
	hf_buf_done(&b);
	assert_null(b.data);
	assert_int_equal(b.cap, 0);
	hf_buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_strict_decimal),
		cmocka_unit_test(u32_ends_at_its_range),
		cmocka_unit_test(durations_have_units),
		cmocka_unit_test(starts_and_ends),
		cmocka_unit_test(copies_stay_inside),
		cmocka_unit_test(hex_round_trip),
		cmocka_unit_test(base64_vectors_of_rfc4648),
		cmocka_unit_test(base64_has_one_text_per_value),
		cmocka_unit_test(base64_refuses_a_small_buffer),
		cmocka_unit_test(utf8_follows_rfc3629),
		cmocka_unit_test(sanitized_text_is_printable_ascii),
		cmocka_unit_test(secrets_compare_and_vanish),
		cmocka_unit_test(buffer_grows_and_consumes),
	};

	return HF_RUN_TESTS(tests);
}
