/* SPDX-License-Identifier: Apache-2.0 */
/* Who is in the group that may use the bus. */
#include "selftests/unit/test_util.h"

#include "userspace/proto/bus_access.h"

static void membership_is_by_number_and_whole(void **state)
{
	(void)state;
	assert_true(hf_bus_in_groups(991, NULL, 991));
	assert_true(hf_bus_in_groups(1000, "\t4 24 991 1000 ", 991));
	assert_false(hf_bus_in_groups(1000, "\t4 24 9910 1991 ", 991));
	assert_false(hf_bus_in_groups(1000, "", 991));
	assert_false(hf_bus_in_groups(1000, NULL, 991));
	assert_false(hf_bus_in_groups(1000, "\t991x garbage", 992));
	/* No such group: its missing number must not match anybody. */
	assert_false(hf_bus_in_groups(UINT32_MAX, "\t4294967295", -1));
	assert_false(hf_bus_in_groups(UINT32_MAX, NULL, 991));
}

static void the_groups_number_is_read_from_its_own_line(void **state)
{
	static const char text[] =
		"root:x:0:\nholdfast-x:x:5:\nholdfast:x:991:alice,bob\nlast:x:7:";

	(void)state;
	assert_int_equal(hf_bus_group_in(text, "holdfast"), 991);
	assert_int_equal(hf_bus_group_in(text, "root"), 0);
	assert_int_equal(hf_bus_group_in(text, "last"), 7);
	assert_int_equal(hf_bus_group_in(text, "hold"), -1);
	assert_int_equal(hf_bus_group_in("", "holdfast"), -1);
	assert_int_equal(hf_bus_group_in("holdfast", "holdfast"), -1);
	assert_int_equal(hf_bus_group_in("holdfast:x", "holdfast"), -1);
	assert_int_equal(hf_bus_group_in("holdfast:x:", "holdfast"), -1);
	assert_int_equal(hf_bus_group_in("holdfast:x:-1:", "holdfast"), -1);
	assert_int_equal(hf_bus_group_in("holdfast:x:4294967295:", "holdfast"), -1);
	assert_int_equal(hf_bus_group_in("holdfast:x:99999999999999999999:", "holdfast"), -1);
	assert_int_equal(hf_bus_group_in("\n\n\nholdfast:x:1:", "holdfast"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(membership_is_by_number_and_whole),
		cmocka_unit_test(the_groups_number_is_read_from_its_own_line),
	};

	return HF_RUN_TESTS(tests);
}
