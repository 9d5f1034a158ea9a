/* SPDX-License-Identifier: Apache-2.0 */
/* Semantic versions: which are ones, and their order. */
#include "selftests/unit/test_util.h"

#include "userspace/release/version.h"

static void what_is_no_version_is_refused(void **state)
{
	static const char *const wrong[] = {
		"",
		"1",
		"1.2",
		"1.2.",
		"1.2.3.4",
		"v1.2.3",
		"01.2.3",
		"1.02.3",
		"1.2.03",
		"1.2.3-",
		"1.2.3+",
		"1.2.3-a..b",
		"1.2.3-01",
		"1.2.3-a.01",
		"1.2.3-a_b",
		"1.2.3 ",
		" 1.2.3",
		"1.2.-3",
		"1.2.3+a+b",
		"1.2.3/",
		"../1.2.3",
		"1.2.3-\xc3",
		"1.2.3\n",
		"-1.2.3",
		"1.2.3-+b",
		"1.2.3-a.",
		"1.2.3+a..b",
		"1234567890.0.0",
		"1.2.3-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(wrong); i++) {
		if (hf_version_valid(wrong[i]))
			print_error("accepted: '%s'\n", wrong[i]);
		assert_false(hf_version_valid(wrong[i]));
	}
}

static void every_version_is_in_its_place(void **state)
{
	/* Each is before all that follow. */
	static const char *const order[] = {
		"0.0.0",
		"0.0.1",
		"0.1.0-0",
		"0.1.0",
		"1.0.0-1",
		"1.0.0-2",
		"1.0.0-10",
		"1.0.0--",
		"1.0.0-alpha",
		"1.0.0-alpha.1",
		"1.0.0-alpha.beta",
		"1.0.0-alphaa",
		"1.0.0-beta",
		"1.0.0-beta.2",
		"1.0.0-beta.11",
		"1.0.0-rc.1",
		"1.0.0",
		"1.0.1",
		"1.2.0",
		"1.10.0",
		"2.0.0",
		"10.0.0",
		"999999999.0.0",
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(order); i++) {
		assert_true(hf_version_valid(order[i]));
		for (size_t k = 0; k < HF_ARRAY_SIZE(order); k++) {
			int c = hf_version_compare(order[i], order[k]);

			if ((i < k) != (c < 0) || (i > k) != (c > 0))
				print_error("%s against %s: %d\n", order[i], order[k], c);
			assert_int_equal((c > 0) - (c < 0), (i > k) - (i < k));
		}
	}
}

static void build_metadata_does_not_count(void **state)
{
	(void)state;
	assert_int_equal(hf_version_compare("1.2.3+a", "1.2.3+b.01"), 0);
	assert_int_equal(hf_version_compare("1.2.3-rc.1+a", "1.2.3-rc.1"), 0);
	assert_true(hf_version_compare("1.2.3-rc.1+a", "1.2.3+a") < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_version_is_refused),
		cmocka_unit_test(every_version_is_in_its_place),
		cmocka_unit_test(build_metadata_does_not_count),
	};

	return HF_RUN_TESTS(tests);
}
