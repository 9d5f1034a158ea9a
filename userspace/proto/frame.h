/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protobuf from strangers, in bounds; OpAMP's WebSocket framing; custom messages. Silent, any
 * thread, no state.
 *
 * protobuf-c alone believes its input: it recurses once per nesting level (a 1 MiB message can nest
 * 200 000 deep and overflow the stack) and allocates for every empty element (2 bytes become a
 * hundred). So each message is walked by its descriptor first (depth, field count, lengths, UTF-8)
 * and unpacked with a memory budget in proportion to its size.
 *
 * What comes out is freed by <type>__free_unpacked(m, NULL) or by _cleanup_pb_.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "opamp.pb-c.h"

#define HF_PB_DEPTH_MAX    32u     /* OpAMP's deepest real message nests 9; each level is stack */
#define HF_PB_FIELDS_MAX   262144u /* fields of one message in all; bounds the walk's time */
#define HF_PB_BUDGET_BASE  65536u  /* bytes allocated for the smallest message at the most */
#define HF_PB_BUDGET_RATIO 16u     /* and per byte of input: measured worst honest case is 9 */

/* Any unpacked message; for `_cleanup_pb_ Session__Hello *h = NULL;`. */
void hf_pb_freep(void *p);
#define _cleanup_pb_ _cleanup_(hf_pb_freep)

/*
 * Unpacks data as a message of desc. ret is the address of a pointer to that type; written on
 * success only, owned by the caller. -EMSGSIZE: too deep, too many fields, or over the memory
 * budget; -EBADMSG: not a well-formed message (or a string is not UTF-8); -ENOMEM.
 */
int hf_pb_unpack(const ProtobufCMessageDescriptor *desc, const void *data, size_t len, void *ret);

/*
 * Appends the packed message to ret. Bytes of its strings that are not UTF-8 (a comm, a path) are
 * replaced by '?' in place first, since the receiver refuses a message that has them.
 */
int hf_pb_pack(ProtobufCMessage *m, struct hf_buf *ret);

/* Deep copy by pack and unpack. NULL on ENOMEM. For our own messages, not a stranger's. */
void *hf_pb_dup(ProtobufCMessage *m);

/*
 * One binary WebSocket message: varint header 0 + protobuf. Encoding appends to ret and gives
 * -EMSGSIZE above HF_MESSAGE_MAX (ret unchanged). Decoding: -EMSGSIZE, -EPROTONOSUPPORT (header is
 * not 0), and hf_pb_unpack()'s.
 */
int hf_opamp_encode(ProtobufCMessage *m, struct hf_buf *ret);
int hf_opamp_decode_to_server(const void *data, size_t len, Opamp__AgentToServer **ret);
int hf_opamp_decode_to_agent(const void *data, size_t len, Opamp__ServerToAgent **ret);

/* body may be NULL (no data). Owned by the caller. NULL on ENOMEM. */
Opamp__CustomMessage *hf_opamp_custom_new(const char *capability, const char *type,
					  ProtobufCMessage *body);
/* m may be NULL. */
bool hf_opamp_custom_is(const Opamp__CustomMessage *m, const char *capability, const char *type);
/* m's data as a message of desc; as hf_pb_unpack(). */
int hf_opamp_custom_unpack(const Opamp__CustomMessage *m, const ProtobufCMessageDescriptor *desc,
			   void *ret);

/* A whole encoded message that carries only a custom message: the usual case of both sides. */
int hf_opamp_encode_custom_to_server(const uint8_t instance_uid[static 16], uint64_t sequence_num,
				     const char *capability, const char *type,
				     ProtobufCMessage *body, struct hf_buf *ret);
int hf_opamp_encode_custom_to_agent(const uint8_t instance_uid[static 16], const char *capability,
				    const char *type, ProtobufCMessage *body, struct hf_buf *ret);

/* A KeyValue with a string value. Owned by the caller. NULL on ENOMEM. */
Opamp__KeyValue *hf_opamp_kv_new(const char *key, const char *value);
/* The string value of key; NULL if it is not there or not a string. Borrowed. */
const char *hf_opamp_kv_get(Opamp__KeyValue *const *kvs, size_t n, const char *key);
