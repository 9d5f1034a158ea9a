/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every protobuf message that a peer may send: OpAMP frames of both directions, custom messages, the
 * local bus. The first byte chooses. What is unpacked within the bounds can be packed, and then
 * unpacked as the same.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bus.pb-c.h"
#include "session.pb-c.h"
#include "userspace/agent/settings.h"
#include "userspace/proto/batch.h"
#include "userspace/proto/frame.h"

static const ProtobufCMessageDescriptor *const kinds[] = {
	&opamp__agent_to_server__descriptor,
	&opamp__server_to_agent__descriptor,
	&session__hello__descriptor,
	&session__welcome__descriptor,
	&session__heartbeat__descriptor,
	&session__heartbeat_ack__descriptor,
	&session__hold__descriptor,
	&session__telemetry_batch__descriptor,
	&session__telemetry_ack__descriptor,
	&bus__outage__descriptor,
	&bus__request__descriptor,
	&bus__response__descriptor,
	&bus__event__descriptor,
};

static void check_batch(const ProtobufCMessage *m)
{
	const Session__TelemetryBatch *b = (const void *)m;
	uint64_t before = 0;

	if (hf_batch_check(b) < 0)
		return;
	for (size_t i = 0; i < b->records; i++) {
		uint64_t seq = hf_batch_seq_at(b, i);

		hf_assert(seq > before && seq >= b->first_seq && seq <= b->last_seq);
		before = seq;
	}
}

/* What of an offer is taken can be stored and taken again. */
static void check_offer(const Opamp__ServerToAgent *m)
{
	struct hf_settings s = {};
	struct hf_err err = {};

	if (m->connection_settings && hf_settings_parse(m->connection_settings, "", &s, &err) > 0) {
		hf_assert(s.url[0] || s.headers || s.ca_pem || s.proxy[0]);
		hf_assert(!s.headers || strlen(s.headers) <= HF_SETTINGS_TEXT_MAX);
	}
	hf_settings_done(&s);
}

static void again(ProtobufCMessage *m)
{
	_cleanup_pb_ ProtobufCMessage *copy = NULL;
	struct hf_buf one = {}, two = {};
	int r;

	hf_assert(hf_pb_pack(m, &one) == 0);
	r = hf_pb_unpack(m->descriptor, one.data, one.len, &copy);
	/* Defaults that were on the wire are gone now, so the budget of the shorter text may not do. */
	hf_assert(r == 0 || r == -EMSGSIZE);
	if (r == 0) {
		hf_assert(hf_pb_pack(copy, &two) == 0);
		hf_assert(one.len == two.len &&
			  (one.len == 0 || memcmp(one.data, two.data, one.len) == 0));
	}
	hf_buf_done(&one);
	hf_buf_done(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_pb_ ProtobufCMessage *m = NULL;
	const ProtobufCMessageDescriptor *kind;

	if (size == 0)
		return 0;
	kind = kinds[data[0] % HF_ARRAY_SIZE(kinds)];
	if (data[0] >= 128) {
		_cleanup_pb_ Opamp__AgentToServer *up = NULL;
		_cleanup_pb_ Opamp__ServerToAgent *down = NULL;

		(void)hf_opamp_decode_to_server(data + 1, size - 1, &up);
		if (hf_opamp_decode_to_agent(data + 1, size - 1, &down) >= 0)
			check_offer(down);
		return 0;
	}
	if (hf_pb_unpack(kind, data + 1, size - 1, &m) < 0)
		return 0;
	if (kind == &session__telemetry_batch__descriptor)
		check_batch(m);
	again(m);
	return 0;
}
