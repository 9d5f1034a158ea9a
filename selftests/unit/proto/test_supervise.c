/* SPDX-License-Identifier: Apache-2.0 */
/* The gate of supervise.sock: only whole, terminated messages of our protocol pass. */
#include "holdfast/supervise.h"

#include "../test_util.h"

static struct hf_sup_hello hello(void)
{
	return (struct hf_sup_hello){
		.hdr = {HF_SUP_PROTOCOL, HF_SUP_HELLO, sizeof(struct hf_sup_hello)},
		.component = "agent",
		.version = "1",
	};
}

static void whole_message_passes(void **state)
{
	struct hf_sup_hello h = hello();
	struct hf_sup_hdr ready = {HF_SUP_PROTOCOL, HF_SUP_READY, sizeof(ready)};

	(void)state;
	assert_ok(hf_sup_check(&h, sizeof(h)));
	assert_ok(hf_sup_check(&ready, sizeof(ready)));
}

static void every_wrong_length_is_refused(void **state)
{
	unsigned char big[HF_SUP_PACKET_MAX + 1] = {};
	struct hf_sup_hello h = hello();

	(void)state;
	memcpy(big, &h, sizeof(h));
	for (size_t len = 0; len <= sizeof(big); len++)
		if (len != sizeof(h))
			assert_err(hf_sup_check(big, len), -EBADMSG);
}

static void length_field_must_tell_the_truth(void **state)
{
	struct hf_sup_hello h = hello();

	(void)state;
	h.hdr.length--;
	assert_err(hf_sup_check(&h, sizeof(h)), -EBADMSG);
}

static void another_protocol_is_told_apart_from_garbage(void **state)
{
	struct hf_sup_hello h = hello();

	(void)state;
	h.hdr.protocol = HF_SUP_PROTOCOL + 1;
	assert_err(hf_sup_check(&h, sizeof(h)), -EPROTONOSUPPORT);
}

static void unknown_types_are_refused(void **state)
{
	struct hf_sup_hdr h = {.protocol = HF_SUP_PROTOCOL, .length = sizeof(h)};
	unsigned known = 0;

	(void)state;
	for (unsigned t = 0; t <= UINT16_MAX; t++) {
		h.type = (uint16_t)t;
		known += hf_sup_check(&h, sizeof(h)) == 0;
	}
	assert_int_equal(known, 2); /* READY and RELOAD are a header only */
	assert_int_equal(hf_sup_size(0), 0);
	assert_string_equal(hf_sup_type_name(999), "unknown");
}

static void texts_must_end_and_be_utf8(void **state)
{
	struct hf_sup_hello h = hello();

	(void)state;
	memset(h.component, 'x', sizeof(h.component));
	assert_err(hf_sup_check(&h, sizeof(h)), -EBADMSG);
	h = hello();
	memset(h.version, 'x', sizeof(h.version));
	assert_err(hf_sup_check(&h, sizeof(h)), -EBADMSG);
	h = hello();
	h.version[0] = (char)0xff;
	assert_err(hf_sup_check(&h, sizeof(h)), -EBADMSG);
	h = hello();
	memset(h.version + 2, 0xff, sizeof(h.version) - 2); /* behind the end: nobody reads it */
	assert_ok(hf_sup_check(&h, sizeof(h)));
}

static void names_are_those_of_the_contract(void **state)
{
	static const char *const causes[] = {
		"unknown", "exited", "signalled", "killed_by_operator", "oom",
		"crashed", "hung",   "limit",     "stopped_by_request"};

	(void)state;
	for (unsigned i = 0; i < _HF_EXIT_MAX; i++)
		assert_string_equal(hf_exit_cause_name(i), causes[i]);
	assert_string_equal(hf_exit_cause_name(_HF_EXIT_MAX), "unknown");
	assert_string_equal(hf_sup_assist_name(HF_SUP_ASSIST_EBPF), "ebpf");
	assert_string_equal(hf_sup_assist_name(HF_SUP_ASSIST_PARTIAL), "partial");
	assert_string_equal(hf_sup_assist_name(HF_SUP_ASSIST_OFF), "off");
	assert_string_equal(hf_sup_assist_name(7), "unknown");
}

static void only_a_whole_canary_name_is_one(void **state)
{
	static const struct {
		const char *comm;
		uint64_t nonce;
	} cases[] = {
		{"", 0},
		{"hfc", 0},
		{"hfc00000000000", 0},
		{"hfc000000000001", 1},
		{"hfcffffffffffff", HF_CANARY_NONCE_MAX - 1},
		{"hfc0123456789ab", UINT64_C(0x123456789ab)},
		{"hfc0123456789aB", 0},
		{"hfc0123456789a ", 0},
		{"hfc0123456789abc", 0},
		{"xfc0123456789ab", 0},
		{"hfc000000000000", 0},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++)
		assert_int_equal(hf_sup_canary_nonce(cases[i].comm), cases[i].nonce);
	_Static_assert(sizeof(HF_CANARY_PREFIX) - 1 + HF_CANARY_DIGITS < HF_SUP_COMM_MAX,
		       "it fits a process's name");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_a_whole_canary_name_is_one),
		cmocka_unit_test(whole_message_passes),
		cmocka_unit_test(every_wrong_length_is_refused),
		cmocka_unit_test(length_field_must_tell_the_truth),
		cmocka_unit_test(another_protocol_is_told_apart_from_garbage),
		cmocka_unit_test(unknown_types_are_refused),
		cmocka_unit_test(texts_must_end_and_be_utf8),
		cmocka_unit_test(names_are_those_of_the_contract),
	};
	return HF_RUN_TESTS(tests);
}
