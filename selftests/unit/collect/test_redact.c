/* SPDX-License-Identifier: Apache-2.0 */
/* Planted secrets: none comes out, and what is no secret stays. */
#include "userspace/collect/redact.h"

#include "../test_util.h"

#define SECRET64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define KEY_BODY "MC4CAQAwBQYDK2VwBCIEIGqz8Tn3m3sXJYx1oVhYkYjV0M7a1xPqkqkqkqkqkqkq"

static char *redact(const char *text, long *ret_n)
{
	struct hf_buf b = {};

	*ret_n = hf_redact(text, strlen(text), &b);
	assert_true(*ret_n >= 0);
	assert_ok(hf_buf_append(&b, "", 1));
	return (char *)b.data;
}

static void values_of_secret_keys_are_taken_out(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"password=hunter2 next", "password=[redacted] next"},
		{"  password: hunter2", "  password: [redacted]"},
		{"{\"token\":\"abc\",\"x\":1}", "{\"token\":\"[redacted]\",\"x\":1}"},
		{"{\\\"api_key\\\": \\\"abc\\\"}", "{\\\"api_key\\\": \\\"[redacted]\\\"}"},
		{"X-Auth-Token: abc", "X-Auth-Token: [redacted]"},
		{"holdfast enroll --token abc --portal x",
		 "holdfast enroll --token [redacted] --portal x"},
		{"--token=abc", "--token=[redacted]"},
		{"client_secret = \"a b c\"; y", "client_secret = \"[redacted]\"; y"},
		{"PGPASSWORD=x", "PGPASSWORD=[redacted]"},
		{"Authorization: Digest username=\"a\", response=\"b\"",
		 "Authorization: [redacted]"},
		{"Cookie: session=abc; other=def", "Cookie: [redacted]"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *out = NULL;
		long n;

		out = redact(rows[i].in, &n);
		assert_string_equal(out, rows[i].out);
		assert_int_equal(n, 1);
	}
}

static void secrets_are_known_by_their_own_form(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"joined with hfe_0123456789abcdef_" SECRET64 ".",
		 "joined with hfe_0123456789abcdef_[redacted]."},
		{"GET / Bearer abcdefgh1234", "GET / Bearer [redacted]"},
		{"a Basic dXNlcjpwYXNz z", "a Basic [redacted] z"},
		{"proxy http://user:pass@proxy:3128/", "proxy http://[redacted]@proxy:3128/"},
		{"jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdef end", "jwt [redacted] end"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *out = NULL;
		long n;

		out = redact(rows[i].in, &n);
		assert_string_equal(out, rows[i].out);
		assert_int_equal(n, 1);
	}
}

static void what_is_no_secret_stays(void **state)
{
	static const char *const rows[] = {
		"",
		"\n\n",
		"the token was refused: token_expired at 14:03",
		"{\"cause\":\"token_expired\",\"detail\":\"x\"}",
		"http://portal:4320/path?user=a@b",
		"sha256 " SECRET64,
		"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
		"basic rules apply",
		"passwords are not logged",
		"{\"token\":null,\"tokens\":{},\"has_secret\":true,\"cookie\":\"\"}",
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *out = NULL;
		long n;

		out = redact(rows[i], &n);
		assert_string_equal(out, rows[i]);
		assert_int_equal(n, 0);
	}
}

static void private_keys_leave_nothing_behind(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"a\n-----BEGIN PRIVATE KEY-----\n" KEY_BODY "\n" KEY_BODY
		 "\n-----END PRIVATE KEY-----\nb\n",
		 "a\n[redacted]\nb\n"},
		{"a\n-----BEGIN RSA PRIVATE KEY-----\n" KEY_BODY "\n", "a\n[redacted]\n"},
		/* the text begins within a key */
		{KEY_BODY "\n" KEY_BODY "\n-----END EC PRIVATE KEY-----\nb\n", "[redacted]\nb\n"},
		{"x \"-----BEGIN PRIVATE KEY-----\\n" KEY_BODY
		 "\\n-----END PRIVATE KEY-----\\n\" y\n",
		 "x \"[redacted]\\n\" y\n"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *out = NULL;
		long n;

		out = redact(rows[i].in, &n);
		assert_null(strstr(out, "MC4CAQ"));
		assert_string_equal(out, rows[i].out);
		assert_int_equal(n, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_of_secret_keys_are_taken_out),
		cmocka_unit_test(secrets_are_known_by_their_own_form),
		cmocka_unit_test(what_is_no_secret_stays),
		cmocka_unit_test(private_keys_leave_nothing_behind),
	};
	return HF_RUN_TESTS(tests);
}
