/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded unpacking against what a stranger may send, and OpAMP framing. */
#include "selftests/unit/test_util.h"

#include <malloc.h>

#include "bus.pb-c.h"
#include "holdfast/session.h"
#include "session.pb-c.h"
#include "userspace/proto/frame.h"

#define TO_SERVER &opamp__agent_to_server__descriptor

/* level 0 is the innermost; each level is tag + length + content, built from the inside. */
static void wrap(struct hf_buf *b, uint8_t tag)
{
	struct hf_buf outer = {};
	size_t len = b->len;

	assert_ok(hf_buf_append(&outer, &tag, 1));
	do {
		uint8_t c = (uint8_t)((len & 0x7f) | (len > 0x7f ? 0x80 : 0));

		assert_ok(hf_buf_append(&outer, &c, 1));
		len >>= 7;
	} while (len);
	assert_ok(hf_buf_append(&outer, b->data, b->len));
	hf_buf_done(b);
	*b = outer;
}

static void garbage_is_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int want;
	} cases[] = {
		{"\x0a", 1, -EBADMSG}, /* length missing */
		{"\x0a\x05"
		 "ab",
		 4, -EBADMSG}, /* shorter than its length */
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, -EBADMSG}, /* length 2^64-1 */
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 11, -EBADMSG}, /* over 64 bits */
		{"\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12,
		 -EBADMSG},                            /* 11-byte varint */
		{"\x02\x00", 2, -EBADMSG},             /* field number 0 */
		{"\x0b\x0c", 2, -EBADMSG},             /* a group */
		{"\x0f", 1, -EBADMSG},                 /* wire type 7 */
		{"\x09\x01\x02", 3, -EBADMSG},         /* half a fixed64 */
		{"\x0d\x01\x02", 3, -EBADMSG},         /* half a fixed32 */
		{"\x08\x01", 2, -EBADMSG},             /* instance_uid as a varint */
		{"\x6a\x03\x0a\x01\xff", 5, -EBADMSG}, /* custom_message.capability not UTF-8 */
		{"\x6a\x04\x0a\x02\xc3\x28", 6, -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		Opamp__AgentToServer *m = (void *)0x1;

		assert_err(hf_pb_unpack(TO_SERVER, cases[i].bytes, cases[i].len, &m),
			   cases[i].want);
		assert_ptr_equal(m, (void *)0x1);
	}
}

static void nothing_is_an_empty_message(void **state)
{
	_cleanup_pb_ Opamp__AgentToServer *m = NULL;

	(void)state;
	assert_ok(hf_pb_unpack(TO_SERVER, NULL, 0, &m));
	assert_int_equal(m->sequence_num, 0);
	assert_null(m->custom_message);
}

static void unknown_fields_are_skipped(void **state)
{
	_cleanup_pb_ Opamp__AgentToServer *m = NULL;
	/* sequence_num = 7, field 100 = "x", field 101 = varint */
	static const uint8_t bytes[] = {0x10, 7, 0xa2, 0x06, 1, 'x', 0xa8, 0x06, 5};

	(void)state;
	assert_ok(hf_pb_unpack(TO_SERVER, bytes, sizeof(bytes), &m));
	assert_int_equal(m->sequence_num, 7);
}

/* description.identifying_attributes[0].value.array.values[0].array… */
static void nesting_is_bounded(void **state)
{
	static const struct {
		unsigned pairs;
		int want;
	} cases[] = {{5, 0}, {14, 0}, {15, -EMSGSIZE}, {1000, -EMSGSIZE}};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		Opamp__AgentToServer *m = NULL;
		struct hf_buf b = {};
		int r;

		for (unsigned k = 0; k < cases[i].pairs; k++) {
			wrap(&b, 0x0a); /* ArrayValue.values */
			wrap(&b, 0x2a); /* AnyValue.array_value */
		}
		wrap(&b, 0x12); /* KeyValue.value */
		wrap(&b, 0x0a); /* AgentDescription.identifying_attributes */
		wrap(&b, 0x1a); /* AgentToServer.agent_description */
		r = hf_pb_unpack(TO_SERVER, b.data, b.len, &m);
		if (cases[i].want == 0)
			assert_ok(r);
		else
			assert_err(r, cases[i].want);
		hf_pb_freep(&m);
		hf_buf_done(&b);
	}
}

static void nesting_as_deep_as_a_message_allows_does_not_overflow_the_stack(void **state)
{
	_cleanup_free_ uint8_t *bytes = malloc(HF_MESSAGE_MAX);
	size_t len = HF_MESSAGE_MAX, at = 0;
	Opamp__AnyValue *m = NULL;

	(void)state;
	/* Outermost first: each level's content is all that follows its 4-byte header. */
	assert_non_null(bytes);
	for (unsigned level = 0; at + 8 < len; level++) {
		size_t content = len - at - 4;

		bytes[at++] = level % 2 ? 0x0a : 0x2a;
		bytes[at++] = (uint8_t)(content | 0x80);
		bytes[at++] = (uint8_t)(content >> 7 | 0x80);
		bytes[at++] = (uint8_t)(content >> 14);
	}
	memset(bytes + at, 0, len - at);
	assert_err(hf_pb_unpack(&opamp__any_value__descriptor, bytes, len, &m), -EMSGSIZE);
}

static size_t heap_in_use(void)
{
	return mallinfo2().uordblks + mallinfo2().hblkhd;
}

/* Two bytes of input are a whole element in memory: the budget refuses before it hurts. */
static void empty_elements_do_not_amplify(void **state)
{
	static const struct {
		const ProtobufCMessageDescriptor *desc;
		uint8_t tag;
	} cases[] = {
		{&opamp__agent_description__descriptor, 0x0a},   /* KeyValue */
		{&opamp__component_health__descriptor, 0x32},    /* ComponentHealthEntry */
		{&opamp__packages_available__descriptor, 0x0a},  /* PackageAvailableEntry */
		{&opamp__custom_capabilities__descriptor, 0x0a}, /* strings */
		{&opamp__agent_disconnect__descriptor, 0x0a},    /* unknown fields */
		{&session__hello__descriptor, 0x42},             /* Stream */
		{&session__telemetry_batch__descriptor, 0x2a},   /* Gap */
	};
	_cleanup_free_ uint8_t *bytes = malloc(HF_MESSAGE_MAX);

	(void)state;
	assert_non_null(bytes);
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		ProtobufCMessage *m = NULL;
		size_t before = heap_in_use();

		for (size_t k = 0; k < HF_MESSAGE_MAX; k += 2) {
			bytes[k] = cases[i].tag;
			bytes[k + 1] = 0;
		}
		assert_err(hf_pb_unpack(cases[i].desc, bytes, HF_MESSAGE_MAX, &m), -EMSGSIZE);
		assert_null(m);
		/* A part that fits is taken, and then stays within the budget. */
		if (hf_pb_unpack(cases[i].desc, bytes, 20000, &m) == 0) {
			assert_true(heap_in_use() - before <=
				    HF_PB_BUDGET_BASE + 20000 * HF_PB_BUDGET_RATIO);
			hf_pb_freep(&m);
		}
	}
}

/* protobuf-c copies the merged arrays for every repetition: 300 000 of them would take minutes. */
static void a_repeated_submessage_is_not_quadratic(void **state)
{
	_cleanup_free_ uint8_t *bytes = malloc(HF_MESSAGE_MAX);
	Opamp__AgentToServer *m = NULL;

	(void)state;
	assert_non_null(bytes);
	for (size_t k = 0; k + 4 <= HF_MESSAGE_MAX; k += 4)
		memcpy(bytes + k, "\x1a\x02\x0a", 4); /* description { identifying {} } */
	assert_err(hf_pb_unpack(TO_SERVER, bytes, HF_MESSAGE_MAX, &m), -EMSGSIZE);
}

static void a_full_honest_message_fits_the_budget(void **state)
{
	Opamp__AgentDescription d = OPAMP__AGENT_DESCRIPTION__INIT;
	_cleanup_pb_ Opamp__AgentDescription *back = NULL;
	enum { N = 20000 };
	struct hf_buf b = {};

	(void)state;
	d.identifying_attributes = calloc(N, sizeof(*d.identifying_attributes));
	d.n_identifying_attributes = N;
	for (size_t i = 0; i < N; i++)
		d.identifying_attributes[i] = hf_opamp_kv_new("a.key", "v");
	assert_ok(hf_pb_pack(&d.base, &b));
	assert_ok(hf_pb_unpack(d.base.descriptor, b.data, b.len, &back));
	assert_int_equal(back->n_identifying_attributes, N);
	hf_buf_done(&b);
	for (size_t i = 0; i < N; i++)
		hf_pb_freep(&d.identifying_attributes[i]);
	free(d.identifying_attributes);
}

static void text_that_is_not_utf8_is_mended_before_it_leaves(void **state)
{
	char comm[] = "ev\xff"
		      "il\xc3";
	Bus__ExitRecord x = BUS__EXIT_RECORD__INIT;
	Bus__Component c = BUS__COMPONENT__INIT, *list[] = {&c};
	Bus__WatchdogStatus w = BUS__WATCHDOG_STATUS__INIT;
	_cleanup_pb_ Bus__WatchdogStatus *back = NULL;
	struct hf_buf b = {};

	(void)state;
	x.by_comm = comm;
	c.last_exit = &x;
	w.components = list;
	w.n_components = 1;
	assert_ok(hf_pb_pack(&w.base, &b));
	assert_ok(hf_pb_unpack(w.base.descriptor, b.data, b.len, &back));
	assert_string_equal(back->components[0]->last_exit->by_comm, "ev?il?");
	hf_buf_done(&b);
}

static void a_duplicate_is_equal_and_separate(void **state)
{
	Bus__Outage o = BUS__OUTAGE__INIT;
	char id[] = "id", cause[] = "peer_reset";
	_cleanup_pb_ Bus__Outage *copy = NULL;

	(void)state;
	o.id = id;
	o.cause = cause;
	o.detect_us = 300;
	copy = hf_pb_dup(&o.base);
	assert_non_null(copy);
	id[0] = 'x';
	assert_string_equal(copy->id, "id");
	assert_string_equal(copy->cause, "peer_reset");
	assert_int_equal(copy->detect_us, 300);
}

static void a_frame_is_a_zero_byte_and_the_message(void **state)
{
	Opamp__AgentToServer m = OPAMP__AGENT_TO_SERVER__INIT;
	_cleanup_pb_ Opamp__AgentToServer *back = NULL;
	static const uint8_t want[] = {0x00, 0x10, 0x05};
	struct hf_buf b = {};

	(void)state;
	m.sequence_num = 5;
	assert_ok(hf_opamp_encode(&m.base, &b));
	assert_int_equal(b.len, sizeof(want));
	assert_memory_equal(b.data, want, sizeof(want));
	assert_ok(hf_opamp_decode_to_server(b.data, b.len, &back));
	assert_int_equal(back->sequence_num, 5);
	hf_buf_done(&b);
}

static void a_frame_with_another_header_is_refused(void **state)
{
	Opamp__AgentToServer *m = NULL;
	Opamp__ServerToAgent *s = NULL;

	(void)state;
	assert_err(hf_opamp_decode_to_server("", 0, &m), -EBADMSG);
	assert_err(hf_opamp_decode_to_server("\x01\x10\x05", 3, &m), -EPROTONOSUPPORT);
	assert_err(hf_opamp_decode_to_agent("\x0a\x10\x05", 3, &s), -EPROTONOSUPPORT);
	assert_ok(hf_opamp_decode_to_agent("\0", 1, &s));
	hf_pb_freep(&s);
}

static void a_frame_over_the_cap_is_refused_both_ways(void **state)
{
	Opamp__AgentToServer m = OPAMP__AGENT_TO_SERVER__INIT, *back = NULL;
	_cleanup_free_ uint8_t *big = calloc(1, HF_MESSAGE_MAX + 1);
	struct hf_buf b = {};

	(void)state;
	assert_non_null(big);
	assert_ok(hf_buf_append(&b, "keep", 4));
	m.instance_uid = (ProtobufCBinaryData){HF_MESSAGE_MAX, big};
	assert_err(hf_opamp_encode(&m.base, &b), -EMSGSIZE);
	assert_int_equal(b.len, 4);
	assert_err(hf_opamp_decode_to_server(big, HF_MESSAGE_MAX + 1, &back), -EMSGSIZE);
	hf_buf_done(&b);
}

static void a_custom_message_goes_there_and_back(void **state)
{
	uint8_t uid[16] = {1, 2, 3};
	Session__Heartbeat hb = SESSION__HEARTBEAT__INIT;
	_cleanup_pb_ Session__Heartbeat *got = NULL;
	_cleanup_pb_ Opamp__AgentToServer *m = NULL;
	struct hf_buf b = {};

	(void)state;
	hb.epoch = 41;
	hb.seq = 7;
	assert_ok(hf_opamp_encode_custom_to_server(uid, 9, HF_CAP_SESSION, HF_MSG_HEARTBEAT,
						   &hb.base, &b));
	assert_ok(hf_opamp_decode_to_server(b.data, b.len, &m));
	assert_int_equal(m->sequence_num, 9);
	assert_int_equal(m->instance_uid.len, 16);
	assert_memory_equal(m->instance_uid.data, uid, 16);
	assert_true(hf_opamp_custom_is(m->custom_message, HF_CAP_SESSION, HF_MSG_HEARTBEAT));
	assert_false(hf_opamp_custom_is(m->custom_message, HF_CAP_SESSION, HF_MSG_HELLO));
	assert_false(hf_opamp_custom_is(m->custom_message, HF_CAP_OUTAGE, HF_MSG_HEARTBEAT));
	assert_false(hf_opamp_custom_is(NULL, HF_CAP_SESSION, HF_MSG_HEARTBEAT));
	assert_ok(hf_opamp_custom_unpack(m->custom_message, &session__heartbeat__descriptor, &got));
	assert_int_equal(got->epoch, 41);
	assert_int_equal(got->seq, 7);
	hf_buf_done(&b);
}

static void a_custom_message_may_have_no_body(void **state)
{
	uint8_t uid[16] = {};
	_cleanup_pb_ Opamp__ServerToAgent *m = NULL;
	struct hf_buf b = {};

	(void)state;
	assert_ok(hf_opamp_encode_custom_to_agent(uid, "cap", "type", NULL, &b));
	assert_ok(hf_opamp_decode_to_agent(b.data, b.len, &m));
	assert_int_equal(m->custom_message->data.len, 0);
	hf_buf_done(&b);
}

static void attributes_are_found_by_key(void **state)
{
	Opamp__KeyValue *kvs[2] = {hf_opamp_kv_new("host.name", "h1"),
				   hf_opamp_kv_new("os.type", "linux")};

	(void)state;
	assert_string_equal(hf_opamp_kv_get(kvs, 2, "os.type"), "linux");
	assert_null(hf_opamp_kv_get(kvs, 2, "nothing"));
	assert_null(hf_opamp_kv_get(NULL, 0, "os.type"));
	hf_pb_freep(&kvs[0]);
	hf_pb_freep(&kvs[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(garbage_is_refused),
		cmocka_unit_test(nothing_is_an_empty_message),
		cmocka_unit_test(unknown_fields_are_skipped),
		cmocka_unit_test(nesting_is_bounded),
		cmocka_unit_test(nesting_as_deep_as_a_message_allows_does_not_overflow_the_stack),
		cmocka_unit_test(empty_elements_do_not_amplify),
		cmocka_unit_test(a_repeated_submessage_is_not_quadratic),
		cmocka_unit_test(a_full_honest_message_fits_the_budget),
		cmocka_unit_test(text_that_is_not_utf8_is_mended_before_it_leaves),
		cmocka_unit_test(a_duplicate_is_equal_and_separate),
		cmocka_unit_test(a_frame_is_a_zero_byte_and_the_message),
		cmocka_unit_test(a_frame_with_another_header_is_refused),
		cmocka_unit_test(a_frame_over_the_cap_is_refused_both_ways),
		cmocka_unit_test(a_custom_message_goes_there_and_back),
		cmocka_unit_test(a_custom_message_may_have_no_body),
		cmocka_unit_test(attributes_are_found_by_key),
	};

	return HF_RUN_TESTS(tests);
}
