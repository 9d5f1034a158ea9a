/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets: form, hash, judgement. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"
#include "base/str.h"
#include "tools/portal/token.h"

#define NOW (UINT64_C(1700000000) * HF_NS_PER_S)

static void garbage_is_no_secret(void **state)
{
	static const char *const texts[] = {
		"",
		"hfe",
		"hfe_",
		"hfe__",
		"hfx_0123456789abcdef_",
		"Bearer hfe_0123456789abcdef",
		"hfe_0123456789abcdef_0000", /* short */
		"hfe_0123456789ABCDEF_0000000000000000000000000000000000000000000000000000000000000000",
		"hfe_0123456789abcdef-0000000000000000000000000000000000000000000000000000000000000000",
		"hfe_0123456789abcdef_000000000000000000000000000000000000000000000000000000000000000g",
		"hfe_0123456789abcdef_00000000000000000000000000000000000000000000000000000000000000000",
		"hfa_0123456789abcdef_0000000000000000000000000000000000000000000000000000000000000000",
	};
	struct hf_secret s;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(texts); i++)
		assert_err(hf_secret_parse(texts[i], &s), -EINVAL);
}

static void what_is_made_parses_to_the_same(void **state)
{
	static const struct {
		enum hf_secret_kind kind;
		const char *id, *prefix;
	} kinds[] = {
		{HF_SECRET_ENROLL, NULL, "hfe_"},
		{HF_SECRET_API, NULL, "hfp_"},
		{HF_SECRET_AGENT, "00112233445566778899aabbccddeeff", "hfa_"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(kinds); i++) {
		char text[HF_SECRET_TEXT_MAX], other[HF_SECRET_TEXT_MAX];
		struct hf_secret made, parsed;

		hf_secret_make(kinds[i].kind, kinds[i].id, NOW, &made, text);
		assert_true(hf_startswith(text, kinds[i].prefix));
		assert_ok(hf_secret_parse(text, &parsed));
		assert_int_equal(parsed.kind, kinds[i].kind);
		assert_string_equal(parsed.id, made.id);
		assert_memory_equal(parsed.hash, made.hash, HF_HASH_SIZE);
		hf_secret_make(kinds[i].kind, kinds[i].id, NOW, &made, other);
		assert_string_not_equal(text, other);
	}
}

static void ids_sort_by_age(void **state)
{
	char text[HF_SECRET_TEXT_MAX];
	struct hf_secret older, newer;

	(void)state;
	hf_secret_make(HF_SECRET_ENROLL, NULL, NOW, &older, text);
	hf_secret_make(HF_SECRET_ENROLL, NULL, NOW + HF_NS_PER_MS, &newer, text);
	assert_true(strcmp(older.id, newer.id) < 0);
}

static void each_verdict_has_its_cell(void **state)
{
	const struct hf_token_row good = {.expires_ns = NOW + 1, .max_uses = 2, .used = 1};
	struct hf_secret right = {}, wrong = {.hash = {1}};
	struct hf_token_row row;

	(void)state;
	assert_int_equal(hf_token_judge(NULL, &right, NOW), HF_TOKEN_UNKNOWN);
	assert_int_equal(hf_token_judge(&good, &wrong, NOW), HF_TOKEN_UNKNOWN);
	assert_int_equal(hf_token_judge(&good, &right, NOW), HF_TOKEN_OK);
	assert_int_equal(hf_token_judge(&good, &right, NOW + 1), HF_TOKEN_EXPIRED);
	row = good;
	row.used = 2;
	assert_int_equal(hf_token_judge(&row, &right, NOW), HF_TOKEN_EXHAUSTED);
	row.max_uses = 0;
	row.used = 1000000;
	assert_int_equal(hf_token_judge(&row, &right, NOW), HF_TOKEN_OK);
	row.revoked_ns = 1;
	assert_int_equal(hf_token_judge(&row, &right, NOW + 1), HF_TOKEN_REVOKED);
	/* Whoever does not know the secret learns nothing of the token. */
	assert_int_equal(hf_token_judge(&row, &wrong, NOW), HF_TOKEN_UNKNOWN);
	assert_string_equal(hf_cause_name(hf_token_cause(HF_TOKEN_EXHAUSTED)), "token_exhausted");
	assert_string_equal(hf_cause_name(hf_token_cause(HF_TOKEN_EXPIRED)), "token_expired");
	assert_string_equal(hf_cause_name(hf_token_cause(HF_TOKEN_REVOKED)), "token_revoked");
	assert_string_equal(hf_cause_name(hf_token_cause(HF_TOKEN_UNKNOWN)), "token_unknown");
}

static void requests_out_of_bounds_are_refused(void **state)
{
	const struct hf_token_request good = {
		.name = "n", .group = "", .creator = "me", .ttl_s = 60, .max_uses = 3};
	struct hf_token_request bad;
	char text[HF_SECRET_TEXT_MAX];
	struct hf_token_row row;

	(void)state;
	assert_ok(hf_token_make(&good, NOW, &row, text));
	assert_int_equal(row.expires_ns, NOW + 60 * HF_NS_PER_S);
	assert_int_equal(row.max_uses, 3);
	bad = good;
	bad.ttl_s = 0;
	assert_err(hf_token_make(&bad, NOW, &row, text), -EINVAL);
	bad.ttl_s = HF_TOKEN_TTL_MAX_S + 1;
	assert_err(hf_token_make(&bad, NOW, &row, text), -EINVAL);
	bad = good;
	bad.max_uses = HF_TOKEN_USES_MAX + 1;
	assert_err(hf_token_make(&bad, NOW, &row, text), -EINVAL);
	bad = good;
	bad.name = "line\nbreak";
	assert_err(hf_token_make(&bad, NOW, &row, text), -EINVAL);
	bad.name = "\xff\xfe";
	assert_err(hf_token_make(&bad, NOW, &row, text), -EINVAL);
	bad.name = "0123456789012345678901234567890123456789012345678901234567890123";
	assert_err(hf_token_make(&bad, NOW, &row, text), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(garbage_is_no_secret),
		cmocka_unit_test(what_is_made_parses_to_the_same),
		cmocka_unit_test(ids_sort_by_age),
		cmocka_unit_test(each_verdict_has_its_cell),
		cmocka_unit_test(requests_out_of_bounds_are_refused),
	};

	return HF_RUN_TESTS(tests);
}
