/* SPDX-License-Identifier: Apache-2.0 */
/* The watchdog's text about the kernel, as the agent reads it. */
#include "../test_util.h"

#include <sys/mman.h>

#include "base/str.h"
#include "userspace/agent/kernel_info.h"

static int parse(const char *text, struct hf_kernel_info **ret)
{
	return hf_kernel_info_parse(text, strlen(text), ret);
}

static void garbage_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"\n\n\n",
		"abi 1\n",              /* no assist */
		"assist ebpf\n",        /* no abi */
		"abi 2\nassist ebpf\n", /* not ours */
		"abi x\nassist ebpf\n",
		"abi 1\nassist maybe\n",
		"abi 1\nassist ebpf\nboot_id 12\n",
		"abi 1\nassist ebpf\ncpus -1\n",
		"abi 1\nassist ebpf\nring middle 5\n",
		"abi 1\nassist ebpf\nring bulk many\n",
		"abi 1\nassist ebpf\nprogram x perhaps\n",
		"abi 1\nassist ebpf\nprogram\n",
		"abi 1\nassist ebpf\nrst one NAME\n",
		"abi 1\nassist ebpf\nrst 1 \x1b[31mRED\n",
		"abi 1\nassist ebpf\nrst 1\n",
		"abi 1\nassist ebpf\ndrop 99999999999 NAME\n",
		"abi 1\nassist ebpf\nmissed tcp.state many\n",
	};
	struct hf_kernel_info *i = NULL;
	size_t n;

	(void)state;
	for (n = 0; n < HF_ARRAY_SIZE(bad); n++)
		assert_err(parse(bad[n], &i), -EINVAL);
	assert_err(hf_kernel_info_parse("abi 1\0assist off\n", 17, &i), -EINVAL);
	assert_null(i);
}

static void a_text_that_is_too_long_is_refused(void **state)
{
	struct hf_kernel_info *i = NULL;
	char *text = malloc(HF_KERNEL_TEXT_MAX + 1);

	(void)state;
	memset(text, '\n', HF_KERNEL_TEXT_MAX + 1);
	memcpy(text, "abi 1\nassist off\n", 17);
	assert_err(hf_kernel_info_parse(text, HF_KERNEL_TEXT_MAX + 1, &i), -EMSGSIZE);
	assert_ok(hf_kernel_info_parse(text, HF_KERNEL_TEXT_MAX, &i));
	(void)hf_kernel_info_free(i);
	free(text);
}

static void every_line_is_found_again(void **state)
{
	static const uint8_t boot[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
					 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
	struct hf_kernel_info *i;

	(void)state;
	assert_ok(parse("abi 1\nassist partial\nreason one is off\n"
			"boot_id 0123456789abcdef0123456789abcdef\ncpus 12\n"
			"ring urgent 262144\nring bulk 2097152\n"
			"program tcp.state on\nprogram skb.drop off no such tracepoint\n"
			"missed tcp.state 42\nnews of a later watchdog\n"
			"rst 1 NO_SOCKET\ndrop 12 NETFILTER_DROP\ndrop 65535 FAR\nrst 7 X",
			&i));
	assert_string_equal(hf_kernel_info_assist(i), "partial");
	assert_string_equal(hf_kernel_info_reason(i), "one is off");
	assert_memory_equal(hf_kernel_info_boot_id(i), boot, 16);
	assert_int_equal(hf_kernel_info_cpus(i), 12);
	assert_int_equal(hf_kernel_info_ring_bytes(i)[HF_RING_URGENT], 262144);
	assert_int_equal(hf_kernel_info_ring_bytes(i)[HF_RING_BULK], 2097152);
	assert_string_equal(hf_kernel_info_program(i, 0)->name, "tcp.state");
	assert_true(hf_kernel_info_program(i, 0)->attached);
	assert_int_equal(hf_kernel_info_program(i, 0)->missed, 42);
	assert_string_equal(hf_kernel_info_program(i, 1)->name, "skb.drop");
	assert_false(hf_kernel_info_program(i, 1)->attached);
	assert_string_equal(hf_kernel_info_program(i, 1)->reason, "no such tracepoint");
	assert_null(hf_kernel_info_program(i, 2));
	assert_string_equal(hf_kernel_info_rst(i, 1), "NO_SOCKET");
	assert_string_equal(hf_kernel_info_rst(i, 7), "X");
	assert_null(hf_kernel_info_rst(i, 2));
	assert_null(hf_kernel_info_rst(i, UINT32_MAX));
	assert_string_equal(hf_kernel_info_drop(i, 12), "NETFILTER_DROP");
	assert_null(hf_kernel_info_drop(i, 65535));
	(void)hf_kernel_info_free(i);
}

static void reasons_reach_a_terminal_as_plain_text(void **state)
{
	struct hf_kernel_info *i;

	(void)state;
	assert_ok(parse("abi 1\nassist off\nreason a\x1b[2Jb\nprogram p off c\td\n", &i));
	assert_string_equal(hf_kernel_info_reason(i), "a?[2Jb");
	assert_string_equal(hf_kernel_info_program(i, 0)->reason, "c?d");
	(void)hf_kernel_info_free(i);
}

static void programs_past_the_limit_are_left_out(void **state)
{
	struct hf_buf b = {0};
	struct hf_kernel_info *i;
	int n;

	(void)state;
	assert_ok(hf_buf_appendf(&b, "abi 1\nassist ebpf\n"));
	for (n = 0; n < 2 * HF_KERNEL_PROGRAMS_MAX; n++)
		assert_ok(hf_buf_appendf(&b, "program p%d on\n", n));
	assert_ok(hf_kernel_info_parse((char *)b.data, b.len, &i));
	assert_non_null(hf_kernel_info_program(i, HF_KERNEL_PROGRAMS_MAX - 1));
	assert_null(hf_kernel_info_program(i, HF_KERNEL_PROGRAMS_MAX));
	(void)hf_kernel_info_free(i);
	hf_buf_done(&b);
}

static void a_descriptor_is_read_from_its_beginning(void **state)
{
	_cleanup_close_ int fd = memfd_create("text", MFD_CLOEXEC);
	struct hf_kernel_info *i;

	(void)state;
	assert_ok(hf_write_full(fd, "abi 1\nassist off\n", 17)); /* the offset is at the end */
	assert_ok(hf_kernel_info_read(fd, &i));
	assert_string_equal(hf_kernel_info_assist(i), "off");
	assert_string_equal(hf_kernel_info_reason(i), "");
	(void)hf_kernel_info_free(i);
	assert_err(hf_kernel_info_read(-1, &i), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(garbage_is_refused),
		cmocka_unit_test(a_text_that_is_too_long_is_refused),
		cmocka_unit_test(every_line_is_found_again),
		cmocka_unit_test(reasons_reach_a_terminal_as_plain_text),
		cmocka_unit_test(programs_past_the_limit_are_left_out),
		cmocka_unit_test(a_descriptor_is_read_from_its_beginning),
	};

	return HF_RUN_TESTS(tests);
}
