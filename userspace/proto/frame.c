/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded protobuf, OpAMP frames, custom messages.
 *
 * I1 nothing is unpacked before check_message() has walked it: depth and field count are bounded,
 *    every length lies inside its parent, every string is UTF-8. Prevents a stack overflow in
 *    protobuf-c, which recurses per level, and text that JSON and SQL would choke on later.
 * I2 unpacking allocates at most HF_PB_BUDGET_BASE + HF_PB_BUDGET_RATIO × length bytes in its whole
 *    course, freed ones included: that bounds the time as well, since protobuf-c copies the arrays
 *    of a sub-message anew each time the sub-message is repeated (quadratic).
 */
#include "userspace/proto/frame.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "holdfast/session.h"

struct budget {
	size_t left;
	bool exceeded;
};

static void *budget_alloc(void *data, size_t size)
{
	struct budget *b = data;
	size_t cost;

	/* malloc's own overhead counts, or a million empty elements would be free. */
	if (__builtin_add_overflow(size, (size_t)16, &cost) || cost > b->left) {
		b->exceeded = true;
		return NULL;
	}
	b->left -= cost;
	return malloc(size);
}

static void budget_free(void *data, void *p)
{
	(void)data;
	free(p);
}

/* A varint of at most 10 bytes. Returns false at the end of the data or beyond 64 bits. */
static bool take_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 70; shift += 7) {
		uint8_t c;

		if (*p == end)
			return false;
		c = *(*p)++;
		if (shift == 63 && c > 1)
			return false;
		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*ret = v;
			return true;
		}
	}
	return false;
}

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* Recursion is bounded by HF_PB_DEPTH_MAX. */
static int check_message(const ProtobufCMessageDescriptor *desc, const uint8_t *p,
			 const uint8_t *end, unsigned depth, unsigned *fields)
{
	if (depth > HF_PB_DEPTH_MAX)
		return -EMSGSIZE;

	while (p < end) {
		const ProtobufCFieldDescriptor *field;
		uint64_t tag, v;
		int r;

		if (++*fields > HF_PB_FIELDS_MAX)
			return -EMSGSIZE;
		/* Field numbers are 29 bits, 1 and up. */
		if (!take_varint(&p, end, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
			return -EBADMSG;
		switch (tag & 7) {
		case WIRE_VARINT:
			if (!take_varint(&p, end, &v))
				return -EBADMSG;
			continue;
		case WIRE_FIXED64:
			if (end - p < 8)
				return -EBADMSG;
			p += 8;
			continue;
		case WIRE_FIXED32:
			if (end - p < 4)
				return -EBADMSG;
			p += 4;
			continue;
		case WIRE_BYTES:
			break;
		default: /* groups: not in proto3 */
			return -EBADMSG;
		}
		if (!take_varint(&p, end, &v) || v > (uint64_t)(end - p))
			return -EBADMSG;
		field = protobuf_c_message_descriptor_get_field(desc, (unsigned)(tag >> 3));
		if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
			r = check_message(field->descriptor, p, p + v, depth + 1, fields);
			if (r < 0)
				return r;
		} else if (field && field->type == PROTOBUF_C_TYPE_STRING) {
			if (!hf_utf8_valid(p, v))
				return -EBADMSG;
		}
		p += v;
	}
	return 0;
}

void hf_pb_freep(void *p)
{
	ProtobufCMessage *m = *(ProtobufCMessage **)p;

	if (m)
		protobuf_c_message_free_unpacked(m, NULL);
}

int hf_pb_unpack(const ProtobufCMessageDescriptor *desc, const void *data, size_t len, void *ret)
{
	struct budget budget = {.left = HF_PB_BUDGET_BASE};
	ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
	ProtobufCMessage *m;
	unsigned fields = 0;
	int r;

	/* NULL + 0 is undefined, and an empty message is a message. */
	if (len == 0)
		data = "";
	if (len > SIZE_MAX / HF_PB_BUDGET_RATIO - HF_PB_BUDGET_BASE)
		return -EMSGSIZE;
	budget.left += len * HF_PB_BUDGET_RATIO;
	r = check_message(desc, data, (const uint8_t *)data + len, 1, &fields);
	if (r < 0)
		return r;
	m = protobuf_c_message_unpack(desc, &allocator, len, data);
	if (!m)
		return budget.exceeded ? -EMSGSIZE : -EBADMSG;
	memcpy(ret, &m, sizeof(m));
	return 0;
}

static void fix_string(char *s)
{
	size_t len;

	if (!s)
		return;
	len = strlen(s);
	/* A literal is valid and therefore never written to. */
	if (hf_utf8_valid(s, len))
		return;
	for (size_t i = 0; i < len; i++)
		if ((uint8_t)s[i] >= 0x80)
			s[i] = '?';
}

static void fix_strings(ProtobufCMessage *m)
{
	const ProtobufCMessageDescriptor *desc = m->descriptor;

	for (unsigned i = 0; i < desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &desc->fields[i];
		uint8_t *member = (uint8_t *)m + f->offset;
		size_t n = 1;
		void **values = (void **)(void *)member;

		if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
			uint32_t which;

			memcpy(&which, (uint8_t *)m + f->quantifier_offset, sizeof(which));
			if (which != f->id)
				continue;
		} else if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			memcpy(&n, (uint8_t *)m + f->quantifier_offset, sizeof(n));
			values = *(void ***)(void *)member;
		}
		for (size_t k = 0; k < n; k++) {
			if (f->type == PROTOBUF_C_TYPE_STRING)
				fix_string(values[k]);
			else if (values[k])
				fix_strings(values[k]);
		}
	}
}

int hf_pb_pack(ProtobufCMessage *m, struct hf_buf *ret)
{
	size_t size;
	int r;

	fix_strings(m);
	size = protobuf_c_message_get_packed_size(m);
	if (size == 0)
		return 0;
	r = hf_buf_reserve(ret, size);
	if (r < 0)
		return r;
	ret->len += protobuf_c_message_pack(m, ret->data + ret->len);
	return 0;
}

void *hf_pb_dup(ProtobufCMessage *m)
{
	struct hf_buf buf = {};
	ProtobufCMessage *copy = NULL;

	if (hf_pb_pack(m, &buf) == 0)
		copy = protobuf_c_message_unpack(m->descriptor, NULL, buf.len,
						 buf.len ? buf.data : (const uint8_t *)"");
	hf_buf_done(&buf);
	return copy;
}

int hf_opamp_encode(ProtobufCMessage *m, struct hf_buf *ret)
{
	size_t start = ret->len;
	int r;

	r = hf_buf_append(ret, "\0", 1);
	if (r == 0)
		r = hf_pb_pack(m, ret);
	if (r == 0 && ret->len - start > HF_MESSAGE_MAX)
		r = -EMSGSIZE;
	if (r < 0)
		ret->len = start;
	return r;
}

static int decode(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len,
		  void *ret)
{
	if (len > HF_MESSAGE_MAX)
		return -EMSGSIZE;
	if (len == 0)
		return -EBADMSG;
	if (data[0] != 0)
		return -EPROTONOSUPPORT;
	return hf_pb_unpack(desc, data + 1, len - 1, ret);
}

int hf_opamp_decode_to_server(const void *data, size_t len, Opamp__AgentToServer **ret)
{
	return decode(&opamp__agent_to_server__descriptor, data, len, ret);
}

int hf_opamp_decode_to_agent(const void *data, size_t len, Opamp__ServerToAgent **ret)
{
	return decode(&opamp__server_to_agent__descriptor, data, len, ret);
}

Opamp__CustomMessage *hf_opamp_custom_new(const char *capability, const char *type,
					  ProtobufCMessage *body)
{
	_cleanup_pb_ Opamp__CustomMessage *m = malloc(sizeof(*m));
	struct hf_buf buf = {};

	if (!m)
		return NULL;
	opamp__custom_message__init(m);
	m->capability = strdup(capability);
	m->type = strdup(type);
	if (!m->capability || !m->type)
		return NULL;
	if (body) {
		if (hf_pb_pack(body, &buf) < 0)
			return NULL;
		m->data.data = buf.data;
		m->data.len = buf.len;
	}
	return TAKE_PTR(m);
}

bool hf_opamp_custom_is(const Opamp__CustomMessage *m, const char *capability, const char *type)
{
	return m && hf_streq(m->capability, capability) && hf_streq(m->type, type);
}

int hf_opamp_custom_unpack(const Opamp__CustomMessage *m, const ProtobufCMessageDescriptor *desc,
			   void *ret)
{
	return hf_pb_unpack(desc, m->data.data, m->data.len, ret);
}

int hf_opamp_encode_custom_to_server(const uint8_t instance_uid[static 16], uint64_t sequence_num,
				     const char *capability, const char *type,
				     ProtobufCMessage *body, struct hf_buf *ret)
{
	_cleanup_pb_ Opamp__CustomMessage *custom = hf_opamp_custom_new(capability, type, body);
	Opamp__AgentToServer m = OPAMP__AGENT_TO_SERVER__INIT;

	if (!custom)
		return -ENOMEM;
	m.instance_uid = (ProtobufCBinaryData){16, (uint8_t *)instance_uid};
	m.sequence_num = sequence_num;
	m.custom_message = custom;
	return hf_opamp_encode(&m.base, ret);
}

int hf_opamp_encode_custom_to_agent(const uint8_t instance_uid[static 16], const char *capability,
				    const char *type, ProtobufCMessage *body, struct hf_buf *ret)
{
	_cleanup_pb_ Opamp__CustomMessage *custom = hf_opamp_custom_new(capability, type, body);
	Opamp__ServerToAgent m = OPAMP__SERVER_TO_AGENT__INIT;

	if (!custom)
		return -ENOMEM;
	m.instance_uid = (ProtobufCBinaryData){16, (uint8_t *)instance_uid};
	m.custom_message = custom;
	return hf_opamp_encode(&m.base, ret);
}

Opamp__KeyValue *hf_opamp_kv_new(const char *key, const char *value)
{
	_cleanup_pb_ Opamp__KeyValue *kv = malloc(sizeof(*kv));

	if (!kv)
		return NULL;
	opamp__key_value__init(kv);
	kv->key = strdup(key);
	kv->value = malloc(sizeof(*kv->value));
	if (!kv->value)
		return NULL;
	opamp__any_value__init(kv->value);
	kv->value->value_case = OPAMP__ANY_VALUE__VALUE_STRING_VALUE;
	kv->value->string_value = strdup(value);
	if (!kv->key || !kv->value->string_value)
		return NULL;
	return TAKE_PTR(kv);
}

const char *hf_opamp_kv_get(Opamp__KeyValue *const *kvs, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++) {
		const Opamp__AnyValue *v = kvs[i]->value;

		if (v && hf_streq(kvs[i]->key, key))
			return v->value_case == OPAMP__ANY_VALUE__VALUE_STRING_VALUE
				       ? v->string_value
				       : NULL;
	}
	return NULL;
}
