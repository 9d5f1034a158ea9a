/* SPDX-License-Identifier: Apache-2.0 */
/* URLs, request targets and queries: refusals first. */
#include "selftests/unit/test_util.h"

#include "userspace/net/http.h"

static void what_is_no_url_of_ours_is_refused(void **state)
{
	static const char *const table[] = {
		"",
		"portal.example.com",
		"//portal",
		"ftp://a/",
		"https:/a",
		"https:///x",
		"https://",
		"https://:443/",
		"https://a:0/",
		"https://a:65536/",
		"https://a:99999999999/",
		"https://a:+1/",
		"https://a:1x/",
		"https://a b/",
		"https://a/ b",
		"https://a/\n",
		"https://a/b#c",
		"https://a#c",
		"https://a/\xc3\xa4",
		"https://\xc3\xa4/",
		"https://a..b/",
		"https://.a/",
		"https://a/%\x7f",
		"https://[::1/",
		"https://[::1]x/",
		"https://[::g]/",
		"https://[1.2.3.4]/",
		"https://[fe80::1%eth0]/",
		"https://[fe80::1%25]/",
		"https://[fe80::1%25a/b]/",
		"https://[fe80::1%250123456789abcdef]/",
		"https://::1/",
		"https://a%41/",
		"https://u%zz@a/",
		"https://u%00@a/",
		"https://u%0d%0aX:y@a/",
		"https://u@/",
		"https://a,b/",
		"https://0123456789012345678901234567890123456789012345678901234567890123.a/",
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_url u = {.port = 7};

		if (hf_url_parse(table[i], &u) != -EINVAL)
			fail_msg("'%s' was accepted", table[i]);
		assert_int_equal(u.port, 7);
	}
}

static void urls_are_taken_apart(void **state)
{
	static const struct {
		const char *text, *host, *path, *authority, *userinfo;
		unsigned port;
		bool tls, ipv6;
	} table[] = {
		{"https://p.example.com", "p.example.com", "/", "p.example.com:443", "", 443, true,
		 false},
		{"WSS://P.Example.com:4320/v1/opamp", "p.example.com", "/v1/opamp",
		 "p.example.com:4320", "", 4320, true, false},
		{"ws://a:/x?y=z", "a", "/x?y=z", "a:80", "", 80, false, false},
		{"http://a?y", "a", "/?y", "a:80", "", 80, false, false},
		{"http://a.", "a.", "/", "a.:80", "", 80, false, false},
		{"https://127.0.0.1:1", "127.0.0.1", "/", "127.0.0.1:1", "", 1, true, false},
		{"https://[::1]:65535/", "::1", "/", "[::1]:65535", "", 65535, true, true},
		{"https://[fe80::1%25eth0]", "fe80::1%eth0", "/", "[fe80::1]:443", "", 443, true,
		 true},
		{"http://u:p%40%3a@proxy:3128", "proxy", "/", "proxy:3128", "u:p@:", 3128, false,
		 false},
		{"http://u@v:w@proxy", "proxy", "/", "proxy:80", "u@v:w", 80, false, false},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_url u;
		char authority[300];

		assert_ok(hf_url_parse(table[i].text, &u));
		assert_string_equal(u.host, table[i].host);
		assert_string_equal(u.path, table[i].path);
		assert_string_equal(u.userinfo, table[i].userinfo);
		assert_int_equal(u.port, table[i].port);
		assert_int_equal(u.tls, table[i].tls);
		assert_int_equal(u.ipv6, table[i].ipv6);
		hf_url_authority(&u, authority, sizeof(authority));
		assert_string_equal(authority, table[i].authority);
	}
}

static void overlong_parts_are_refused(void **state)
{
	char url[4096] = "https://a/";
	struct hf_url u;

	(void)state;
	memset(url + 10, 'x', HF_HTTP_TARGET_MAX - 2);
	assert_ok(hf_url_parse(url, &u));
	url[10 + HF_HTTP_TARGET_MAX - 2] = 'x';
	assert_err(hf_url_parse(url, &u), -EINVAL);
	memcpy(url, "https://", 8);
	memset(url + 8, 'u', 255);
	(void)hf_strlcpy(url + 263, "@a/", 4);
	assert_ok(hf_url_parse(url, &u));
	(void)hf_strlcpy(url + 263, "u@a/", 5);
	assert_err(hf_url_parse(url, &u), -EINVAL);
}

static void targets_that_escape_or_hide_are_refused(void **state)
{
	static const char *const table[] = {
		"",        "x",        "*",          "/..",        "/../",        "/a/..",
		"/a/../b", "/%2e%2e/", "/a%2f..%2f", "/%2E.",      "/%",          "/%4",
		"/%zz",    "/%00",     "/%0a",       "/%7f",       "/%ff",        "/%c0%ae",
		"/\x01",   "http://",  "http://a",   "http://a?b", "http://a/..",
	};
	char path[64];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++)
		if (hf_http_split_target(table[i], path, sizeof(path), NULL) != -EINVAL)
			fail_msg("'%s' was accepted", table[i]);
	assert_err(hf_http_split_target("/234567", path, 7, NULL), -EINVAL);
	assert_ok(hf_http_split_target("/23456", path, 7, NULL));
}

static void targets_are_decoded(void **state)
{
	static const struct {
		const char *target, *path, *query;
	} table[] = {
		{"/", "/", ""},
		{"/a%20b/%C3%A4", "/a b/\xc3\xa4", ""},
		{"/a+b?c=%20&d", "/a+b", "c=%20&d"},
		{"/..a/.b/c..", "/..a/.b/c..", ""},
		{"/a?../b?c", "/a", "../b?c"},
		{"http://portal:1/api?x", "/api", "x"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		char path[64];
		const char *query;

		assert_ok(hf_http_split_target(table[i].target, path, sizeof(path), &query));
		assert_string_equal(path, table[i].path);
		assert_string_equal(query, table[i].query);
	}
}

static void query_values_are_found_and_decoded(void **state)
{
	static const struct {
		const char *query, *key, *value;
		int r;
	} table[] = {
		{"a=1&b=2", "b", "2", 0},
		{"a=1&a=2", "a", "1", 0},
		{"a=b=c", "a", "b=c", 0},
		{"a&b=2", "a", "", 0},
		{"a=", "a", "", 0},
		{"%61=x+y%2B", "a", "x y+", 0},
		{"ab=1", "a", NULL, -ENOENT},
		{"", "a", NULL, -ENOENT},
		{"&&", "a", NULL, -ENOENT},
		{"a=%0", "a", NULL, -EINVAL},
		{"a=%00", "a", NULL, -EINVAL},
		{"a=%ff", "a", NULL, -EINVAL},
		{"%zz=1&a=2", "a", NULL, -EINVAL},
		{"a=12345678", "a", NULL, -ENOBUFS},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		char value[8];

		assert_err(hf_http_query(table[i].query, table[i].key, value, sizeof(value)),
			   table[i].r);
		if (table[i].r == 0)
			assert_string_equal(value, table[i].value);
	}
	assert_err(hf_http_query(NULL, "a", NULL, 0), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_url_of_ours_is_refused),
		cmocka_unit_test(urls_are_taken_apart),
		cmocka_unit_test(overlong_parts_are_refused),
		cmocka_unit_test(targets_that_escape_or_hide_are_refused),
		cmocka_unit_test(targets_are_decoded),
		cmocka_unit_test(query_values_are_found_and_decoded),
	};

	return HF_RUN_TESTS(tests);
}
