/* SPDX-License-Identifier: Apache-2.0 */
/* Semantic versions. Numbers have no leading zero and at most 9 digits, so that they fit. */
#include "userspace/release/version.h"

#include <stddef.h>
#include <string.h>

#include "base/assert.h"

#define DIGITS_MAX 9

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_identifier_char(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

/* The length of a number at s, or 0 if there is none. */
static size_t number_len(const char *s)
{
	size_t n = 0;

	while (is_digit(s[n]))
		n++;
	return n > DIGITS_MAX || (n > 1 && s[0] == '0') ? 0 : n;
}

static size_t identifier_len(const char *s)
{
	size_t n = 0;

	while (is_identifier_char(s[n]))
		n++;
	return n;
}

static bool all_digits(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!is_digit(s[i]))
			return false;
	return len > 0;
}

/* Identifiers with dots between them; returns where they end, or NULL. */
static const char *skip_identifiers(const char *s, bool numbers_are_strict)
{
	for (;;) {
		size_t n = identifier_len(s);

		if (n == 0)
			return NULL;
		if (numbers_are_strict && all_digits(s, n) && number_len(s) != n)
			return NULL;
		s += n;
		if (*s != '.')
			return s;
		s++;
	}
}

bool hf_version_valid(const char *s)
{
	if (strnlen(s, HF_VERSION_MAX) >= HF_VERSION_MAX)
		return false;
	for (int part = 0; part < 3; part++) {
		size_t n = number_len(s);

		if (n == 0)
			return false;
		s += n;
		if (part < 2 && *s++ != '.')
			return false;
	}
	if (*s == '-') {
		s = skip_identifiers(s + 1, true);
		if (!s)
			return false;
	}
	if (*s == '+') {
		s = skip_identifiers(s + 1, false);
		if (!s)
			return false;
	}
	return *s == '\0';
}

static int compare_numbers(const char *a, size_t a_len, const char *b, size_t b_len)
{
	if (a_len != b_len)
		return a_len < b_len ? -1 : 1; /* no leading zeros */
	return strncmp(a, b, a_len);
}

static int compare_identifiers(const char *a, size_t a_len, const char *b, size_t b_len)
{
	bool a_num = all_digits(a, a_len), b_num = all_digits(b, b_len);
	size_t shorter = a_len < b_len ? a_len : b_len;
	int c;

	if (a_num && b_num)
		return compare_numbers(a, a_len, b, b_len);
	if (a_num != b_num)
		return a_num ? -1 : 1;
	c = strncmp(a, b, shorter);
	if (c != 0)
		return c;
	return (a_len > b_len) - (a_len < b_len);
}

static int compare_prereleases(const char *a, const char *b)
{
	for (;;) {
		size_t a_len = identifier_len(a), b_len = identifier_len(b);
		int c = compare_identifiers(a, a_len, b, b_len);

		if (c != 0)
			return c;
		a += a_len;
		b += b_len;
		if (*a != '.' || *b != '.')
			return (*a == '.') - (*b == '.');
		a++;
		b++;
	}
}

int hf_version_compare(const char *a, const char *b)
{
	hf_assert(hf_version_valid(a) && hf_version_valid(b));
	for (int part = 0; part < 3; part++) {
		size_t a_len = number_len(a), b_len = number_len(b);
		int c = compare_numbers(a, a_len, b, b_len);

		if (c != 0)
			return c;
		a += a_len + (part < 2);
		b += b_len + (part < 2);
	}
	if (*a == '-' && *b == '-')
		return compare_prereleases(a + 1, b + 1);
	/* A pre-release comes before its release. */
	return (*b == '-') - (*a == '-');
}
