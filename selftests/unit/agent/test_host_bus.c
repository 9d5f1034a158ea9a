/* SPDX-License-Identifier: Apache-2.0 */
/* Who may use the bus; what os-release says. */
#include "selftests/unit/test_util.h"

#include "userspace/agent/bus.h"
#include "userspace/agent/host.h"

static void only_root_the_agent_and_the_group_may_use_the_bus(void **state)
{
	(void)state;
	assert_true(hf_bus_permitted(0, 0, NULL, 990, 991));
	assert_true(hf_bus_permitted(990, 990, NULL, 990, 991));
	assert_true(hf_bus_permitted(1000, 991, NULL, 990, 991));
	assert_true(hf_bus_permitted(1000, 1000, "\t4 24 991 1000 ", 990, 991));
	assert_false(hf_bus_permitted(1000, 1000, "\t4 24 9910 1991 ", 990, 991));
	assert_false(hf_bus_permitted(1000, 1000, "", 990, 991));
	assert_false(hf_bus_permitted(1000, 1000, NULL, 990, 991));
	assert_false(hf_bus_permitted(1000, 1000, "\t991x garbage", 990, 992));
	/* No such group: its missing number must not match anybody. */
	assert_false(hf_bus_permitted(1000, UINT32_MAX, "\t4294967295", 990, -1));
	assert_false(hf_bus_permitted(UINT32_MAX, UINT32_MAX, NULL, 990, 991));
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

static void os_release_values_with_and_without_quotes(void **state)
{
	static const char text[] =
		"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME='x'\nID=debian\n"
		"VERSION_ID=\"12\"\nEMPTY=\nHALF=\"open\nLAST=z";
	char v[64];

	(void)state;
	assert_true(hf_os_release_get(text, "ID", v, sizeof(v)));
	assert_string_equal(v, "debian");
	assert_true(hf_os_release_get(text, "VERSION_ID", v, sizeof(v)));
	assert_string_equal(v, "12");
	assert_true(hf_os_release_get(text, "NAME", v, sizeof(v)));
	assert_string_equal(v, "x");
	assert_true(hf_os_release_get(text, "EMPTY", v, sizeof(v)));
	assert_string_equal(v, "");
	assert_true(hf_os_release_get(text, "HALF", v, sizeof(v)));
	assert_string_equal(v, "\"open");
	assert_true(hf_os_release_get(text, "LAST", v, sizeof(v)));
	assert_string_equal(v, "z");
	assert_true(hf_os_release_get(text, "PRETTY_NAME", v, 7));
	assert_string_equal(v, "Debian");
	assert_false(hf_os_release_get(text, "NOTHING", v, sizeof(v)));
	assert_false(hf_os_release_get("", "ID", v, sizeof(v)));
}

static void this_host_has_a_kernel_and_a_boot(void **state)
{
	static const uint8_t zero[16];
	struct hf_host h;

	(void)state;
	hf_host_read(&h);
	assert_true(h.kernel[0]);
	assert_string_equal(h.os, "linux");
	assert_memory_not_equal(h.boot_id, zero, 16);
	assert_int_equal(strlen(h.machine_id_hex), 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_root_the_agent_and_the_group_may_use_the_bus),
		cmocka_unit_test(the_groups_number_is_read_from_its_own_line),
		cmocka_unit_test(os_release_values_with_and_without_quotes),
		cmocka_unit_test(this_host_has_a_kernel_and_a_boot),
	};
	return HF_RUN_TESTS(tests);
}
