/* SPDX-License-Identifier: Apache-2.0 */
/* What os-release says. */
#include "selftests/unit/test_util.h"

#include "userspace/agent/host.h"

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
		cmocka_unit_test(os_release_values_with_and_without_quotes),
		cmocka_unit_test(this_host_has_a_kernel_and_a_boot),
	};
	return HF_RUN_TESTS(tests);
}
