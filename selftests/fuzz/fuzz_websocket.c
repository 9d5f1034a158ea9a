/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket frames from a peer. The first byte chooses the role and how the bytes are cut. Beyond
 * not crashing: whole and cut give the same answer, messages and the send queue keep their bounds,
 * text is UTF-8, and after a violation there is silence.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/str.h"
#include "userspace/net/websocket.h"

#define MAX_MESSAGE 300u
#define MAX_QUEUE   500u

struct seen {
	unsigned messages, pongs, closes;
	uint32_t sum;
	uint16_t violation;
	int error;
};

static void add(struct seen *s, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		s->sum = s->sum * 31 + data[i];
}

static void on_message(bool binary, const uint8_t *data, size_t len, void *userdata)
{
	struct seen *s = userdata;

	hf_assert(len <= MAX_MESSAGE && s->closes == 0);
	hf_assert(binary || hf_utf8_valid(data, len));
	s->messages++;
	add(s, data, len);
}

static void on_pong(const uint8_t *data, size_t len, void *userdata)
{
	struct seen *s = userdata;

	hf_assert(len <= 125);
	s->pongs++;
	add(s, data, len);
}

static void on_closed(uint16_t code, const char *reason, void *userdata)
{
	struct seen *s = userdata;

	hf_assert(strlen(reason) <= 123 && s->closes == 0);
	s->closes++;
	s->sum = s->sum * 31 + code;
	add(s, (const uint8_t *)reason, strlen(reason));
}

static struct seen receive(enum hf_ws_role role, const uint8_t *data, size_t size, size_t step,
			   bool drain)
{
	static const struct hf_ws_callbacks callbacks = {on_message, on_pong, on_closed};
	struct seen s = {};
	struct hf_websocket *ws;

	hf_assert(hf_ws_new(role, MAX_MESSAGE, MAX_QUEUE, &callbacks, &s, &ws) == 0);
	for (size_t at = 0; at < size; at += step) {
		size_t n = size - at < step ? size - at : step, len;
		uint8_t *copy = malloc(n);
		int r;

		hf_assert(copy);
		memcpy(copy, data + at, n);
		r = hf_ws_receive(ws, copy, n);
		free(copy);
		hf_assert(s.error == 0 || r == s.error);
		s.error = r;
		(void)hf_ws_outgoing(ws, &len);
		hf_assert(len <= MAX_QUEUE + 2 * 139);
		if (drain)
			hf_ws_consume(ws, len);
	}
	s.violation = hf_ws_violation(ws);
	hf_assert((s.violation != 0) == (s.error < 0));
	hf_assert(s.error == 0 || hf_ws_close_sent(ws));
	hf_ws_free(ws);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum hf_ws_role role;
	struct seen whole, cut;

	if (size < 2)
		return 0;
	role = data[0] & 1 ? HF_WS_SERVER : HF_WS_CLIENT;
	whole = receive(role, data + 1, size - 1, size, false);
	cut = receive(role, data + 1, size - 1, 1 + (data[0] >> 2), data[0] & 2);
	hf_assert(memcmp(&whole, &cut, sizeof(whole)) == 0);
	return 0;
}
