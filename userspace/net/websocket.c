/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket messages over wslay's frame layer. wslay decodes and masks frames and refuses
 * fragmented or oversized control frames, lengths of 2^63 and overlong length forms; measured with
 * the tests beside this file, it accepts the wrong masking for a role, reserved bits, unknown
 * opcodes and any order of fragments. Those rules, messages, the closing handshake and all bounds
 * are here.
 *
 * A portal holds ten thousand of these: wslay's receive context (4 KiB) exists only while a frame
 * is incomplete, and both buffers are given back when they are empty.
 *
 * I1  After a violation or the peer's close frame nothing more is delivered or parsed.
 * I2  out never exceeds max_queue by more than one close frame: a close always fits.
 * I3  message.len <= max_message, checked against the announced length before a byte is kept.
 */
#include "userspace/net/websocket.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <wslay/wslay.h>

#include "base/assert.h"
#include "base/random.h"
#include "base/str.h"

#define CONTROL_MAX     125u /* RFC 6455 section 5.5 */
#define FRAME_HEAD_MAX  14u  /* 2, 8 bytes of length, 4 of mask */
#define CLOSE_FRAME_MAX (CONTROL_MAX + FRAME_HEAD_MAX)
/* Fragments that carry nothing cost the sender nothing; no sender of good will needs many. */
#define EMPTY_FRAGMENTS_MAX 16u

struct hf_websocket {
	enum hf_ws_role role;
	bool close_sent, close_received;
	uint16_t violation;
	int error; /* what hf_ws_receive() returns from then on */
	size_t max_message, max_queue;
	struct hf_ws_callbacks cb;
	void *userdata;

	wslay_frame_context_ptr rx; /* NULL between frames */
	uint64_t rx_held;           /* bytes rx has swallowed of unfinished frames */
	const uint8_t *in;          /* borrowed during hf_ws_receive() */
	size_t in_len;
	uint64_t frame_got; /* payload bytes of the current frame */
	bool in_frame;

	uint8_t opcode; /* of the message in progress, 0: none */
	unsigned empty_fragments;
	struct hf_buf message;
	uint8_t control_len;
	uint8_t control[CONTROL_MAX];

	struct hf_buf out;
	size_t out_done; /* bytes of out already consumed */
};

int hf_ws_new(enum hf_ws_role role, size_t max_message, size_t max_queue,
	      const struct hf_ws_callbacks *cb, void *userdata, struct hf_websocket **ret)
{
	struct hf_websocket *ws = calloc(1, sizeof(*ws));

	if (!ws)
		return -ENOMEM;
	ws->role = role;
	ws->max_message = max_message;
	ws->max_queue = max_queue;
	ws->cb = *cb;
	ws->userdata = userdata;
	*ret = ws;
	return 0;
}

struct hf_websocket *hf_ws_free(struct hf_websocket *ws)
{
	if (!ws)
		return NULL;
	wslay_frame_context_free(ws->rx);
	hf_buf_done(&ws->message);
	hf_buf_done(&ws->out);
	free(ws);
	return NULL;
}

/* ---- sending --------------------------------------------------------------------------------- */

static ssize_t send_callback(const uint8_t *data, size_t len, int flags, void *userdata)
{
	struct hf_websocket *ws = userdata;

	(void)flags;
	/* Room was reserved: this cannot fail. */
	hf_assert(hf_buf_append(&ws->out, data, len) == 0);
	return (ssize_t)len;
}

static int genmask_callback(uint8_t *buf, size_t len, void *userdata)
{
	(void)userdata;
	hf_random_bytes(buf, len);
	return 0;
}

size_t hf_ws_queued(const struct hf_websocket *ws)
{
	return ws->out.len - ws->out_done;
}

static int queue_frame(struct hf_websocket *ws, uint8_t opcode, const void *data, size_t len,
		       size_t limit)
{
	static const struct wslay_frame_callbacks callbacks = {
		.send_callback = send_callback,
		.genmask_callback = genmask_callback,
	};
	struct wslay_frame_iocb io = {
		.fin = 1,
		.opcode = opcode,
		.payload_length = len,
		.mask = ws->role == HF_WS_CLIENT,
		.data = data,
		.data_length = len,
	};
	wslay_frame_context_ptr tx;
	ssize_t n;
	int r;

	if (hf_ws_queued(ws) > limit || len > limit - hf_ws_queued(ws) ||
	    FRAME_HEAD_MAX > limit - hf_ws_queued(ws) - len)
		return -ENOBUFS;
	if (ws->out_done > ws->out.len / 2) {
		hf_buf_consume(&ws->out, ws->out_done);
		ws->out_done = 0;
	}
	r = hf_buf_reserve(&ws->out, len + FRAME_HEAD_MAX);
	if (r < 0)
		return r;
	if (wslay_frame_context_init(&tx, &callbacks, ws) < 0)
		return -ENOMEM;
	n = wslay_frame_send(tx, &io);
	wslay_frame_context_free(tx);
	hf_assert(n >= 0 && (size_t)n == len);
	return 0;
}

int hf_ws_send(struct hf_websocket *ws, bool binary, const void *data, size_t len)
{
	if (ws->close_sent || ws->close_received)
		return -EPIPE;
	return queue_frame(ws, binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, data, len,
			   ws->max_queue);
}

int hf_ws_ping(struct hf_websocket *ws, const void *data, size_t len)
{
	hf_assert(len <= CONTROL_MAX);
	if (ws->close_sent || ws->close_received)
		return -EPIPE;
	return queue_frame(ws, WSLAY_PING, data, len, ws->max_queue);
}

int hf_ws_close(struct hf_websocket *ws, uint16_t code, const char *reason)
{
	uint8_t payload[CONTROL_MAX];
	size_t len = 0;
	int r;

	if (ws->close_sent)
		return -EPIPE;
	if (code != HF_WS_CLOSE_NO_STATUS) {
		size_t n = reason ? strlen(reason) : 0;

		if (n > sizeof(payload) - 2)
			n = sizeof(payload) - 2;
		/* Not in the middle of a character. */
		while (n > 0 && !hf_utf8_valid(reason, n))
			n--;
		payload[0] = (uint8_t)(code >> 8);
		payload[1] = (uint8_t)code;
		if (n > 0)
			memcpy(payload + 2, reason, n);
		len = n + 2;
	}
	r = queue_frame(ws, WSLAY_CONNECTION_CLOSE, payload, len,
			ws->max_queue + 2 * (size_t)CLOSE_FRAME_MAX);
	if (r < 0)
		return r;
	ws->close_sent = true;
	return 0;
}

const uint8_t *hf_ws_outgoing(struct hf_websocket *ws, size_t *ret_len)
{
	*ret_len = hf_ws_queued(ws);
	return *ret_len > 0 ? ws->out.data + ws->out_done : NULL;
}

void hf_ws_consume(struct hf_websocket *ws, size_t n)
{
	hf_assert(n <= hf_ws_queued(ws));
	ws->out_done += n;
	if (ws->out_done == ws->out.len) {
		hf_buf_done(&ws->out);
		ws->out_done = 0;
	}
}

bool hf_ws_close_sent(const struct hf_websocket *ws)
{
	return ws->close_sent;
}

bool hf_ws_close_received(const struct hf_websocket *ws)
{
	return ws->close_received;
}

uint16_t hf_ws_violation(const struct hf_websocket *ws)
{
	return ws->violation;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static ssize_t recv_callback(uint8_t *buf, size_t len, int flags, void *userdata)
{
	struct hf_websocket *ws = userdata;
	size_t n = len < ws->in_len ? len : ws->in_len;

	(void)flags;
	if (n == 0)
		return -1;
	memcpy(buf, ws->in, n);
	ws->in += n;
	ws->in_len -= n;
	ws->rx_held += n;
	return (ssize_t)n;
}

/* Queues the close frame that names the fault and remembers it. Returns its -errno. */
static int violate(struct hf_websocket *ws, uint16_t code, const char *reason)
{
	ws->violation = code;
	ws->error = code == HF_WS_CLOSE_TOO_BIG    ? -EMSGSIZE
		    : code == HF_WS_CLOSE_INVALID  ? -EILSEQ
		    : code == HF_WS_CLOSE_INTERNAL ? -ENOMEM
						   : -EPROTO;
	/* After our own close nothing can be said any more; without memory neither. */
	(void)hf_ws_close(ws, code, reason);
	hf_buf_done(&ws->message);
	return ws->error;
}

/* RFC 6455 section 7.4 and the registry up to 1014; 1004 to 1006 and 1015 are never sent. */
static bool close_code_may_travel(unsigned code)
{
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
	       (code >= 3000 && code <= 4999);
}

static int on_close(struct hf_websocket *ws)
{
	char reason[CONTROL_MAX] = "";
	uint16_t code = HF_WS_CLOSE_NO_STATUS;

	if (ws->control_len == 1)
		return violate(ws, HF_WS_CLOSE_PROTOCOL, "close frame of one byte");
	if (ws->control_len >= 2) {
		code = (uint16_t)(ws->control[0] << 8 | ws->control[1]);
		if (!close_code_may_travel(code))
			return violate(ws, HF_WS_CLOSE_PROTOCOL, "invalid close code");
		if (!hf_utf8_valid(ws->control + 2, ws->control_len - 2u))
			return violate(ws, HF_WS_CLOSE_INVALID, "invalid UTF-8 in close reason");
		memcpy(reason, ws->control + 2, ws->control_len - 2u);
		for (size_t i = 0; i < ws->control_len - 2u; i++)
			if (reason[i] == '\0')
				reason[i] = '?';
		hf_sanitize(reason);
	}
	ws->close_received = true;
	if (!ws->close_sent)
		(void)hf_ws_close(ws, code, NULL);
	if (ws->cb.closed)
		ws->cb.closed(code, reason, ws->userdata);
	return 0;
}

static int on_control(struct hf_websocket *ws, uint8_t opcode)
{
	switch (opcode) {
	case WSLAY_CONNECTION_CLOSE:
		return on_close(ws);
	case WSLAY_PING:
		/*
		 * A pong that does not fit is left out: the peer floods us or does not read, and
		 * section 5.5.3 asks for an answer to the latest ping only.
		 */
		if (!ws->close_sent)
			(void)queue_frame(ws, WSLAY_PONG, ws->control, ws->control_len,
					  ws->max_queue);
		return 0;
	default:
		if (ws->cb.pong)
			ws->cb.pong(ws->control, ws->control_len, ws->userdata);
		return 0;
	}
}

static int deliver(struct hf_websocket *ws, const uint8_t *data, size_t len)
{
	bool binary = ws->opcode == WSLAY_BINARY_FRAME;

	ws->opcode = 0;
	ws->empty_fragments = 0;
	if (!binary && !hf_utf8_valid(data, len))
		return violate(ws, HF_WS_CLOSE_INVALID, "invalid UTF-8");
	if (!ws->close_sent)
		ws->cb.message(binary, data, len, ws->userdata);
	return 0;
}

/* The rules that can be judged by a frame's head. */
static int check_frame(struct hf_websocket *ws, const struct wslay_frame_iocb *io)
{
	if (io->rsv != 0)
		return violate(ws, HF_WS_CLOSE_PROTOCOL, "reserved bits set");
	if (ws->role == HF_WS_SERVER && !io->mask)
		return violate(ws, HF_WS_CLOSE_PROTOCOL, "frame not masked");
	if (ws->role == HF_WS_CLIENT && io->mask)
		return violate(ws, HF_WS_CLOSE_PROTOCOL, "frame masked");
	if (io->opcode == WSLAY_CONNECTION_CLOSE || io->opcode == WSLAY_PING ||
	    io->opcode == WSLAY_PONG) {
		ws->control_len = 0;
		return 0;
	}
	if (io->opcode == WSLAY_TEXT_FRAME || io->opcode == WSLAY_BINARY_FRAME) {
		if (ws->opcode != 0)
			return violate(ws, HF_WS_CLOSE_PROTOCOL, "message inside a message");
		ws->opcode = io->opcode;
	} else if (io->opcode != WSLAY_CONTINUATION_FRAME) {
		return violate(ws, HF_WS_CLOSE_PROTOCOL, "unknown opcode");
	} else if (ws->opcode == 0) {
		return violate(ws, HF_WS_CLOSE_PROTOCOL, "continuation of nothing");
	}
	if (io->payload_length > ws->max_message - ws->message.len)
		return violate(ws, HF_WS_CLOSE_TOO_BIG, "message too big");
	if (io->payload_length == 0 && !io->fin && ++ws->empty_fragments > EMPTY_FRAGMENTS_MAX)
		return violate(ws, HF_WS_CLOSE_POLICY, "too many empty fragments");
	return 0;
}

/* Undoes what recv_callback() counted, now that the frame is complete. */
static void forget_frame(struct hf_websocket *ws, const struct wslay_frame_iocb *io)
{
	uint64_t head = 2 + (io->mask ? 4 : 0);

	if (io->payload_length > UINT16_MAX)
		head += 8;
	else if (io->payload_length > CONTROL_MAX)
		head += 2;
	hf_assert(ws->rx_held >= head + io->payload_length);
	ws->rx_held -= head + io->payload_length;
	ws->in_frame = false;
	ws->frame_got = 0;
}

/* One piece of a frame's payload, or the whole of an empty frame. */
static int on_piece(struct hf_websocket *ws, const struct wslay_frame_iocb *io)
{
	bool first = !ws->in_frame, last;
	int r;

	if (first) {
		ws->in_frame = true;
		r = check_frame(ws, io);
		if (r < 0)
			return r;
	}
	ws->frame_got += io->data_length;
	last = ws->frame_got == io->payload_length;
	if (last)
		forget_frame(ws, io);
	if (wslay_is_ctrl_frame(io->opcode)) {
		memcpy(ws->control + ws->control_len, io->data, io->data_length);
		ws->control_len = (uint8_t)(ws->control_len + io->data_length);
		return last ? on_control(ws, io->opcode) : 0;
	}
	/* A message that came in one piece needs no copy. */
	if (first && last && io->fin && ws->message.len == 0)
		return deliver(ws, io->data, io->data_length);
	r = hf_buf_append(&ws->message, io->data, io->data_length);
	if (r < 0)
		return violate(ws, HF_WS_CLOSE_INTERNAL, "out of memory");
	if (!last || !io->fin)
		return 0;
	r = deliver(ws, ws->message.data, ws->message.len);
	hf_buf_done(&ws->message);
	return r;
}

static int parse_frames(struct hf_websocket *ws)
{
	while (!ws->close_received) {
		struct wslay_frame_iocb io = {};
		size_t before = ws->in_len;
		ssize_t n = wslay_frame_recv(ws->rx, &io);
		int r;

		if (n == WSLAY_ERR_WANT_READ) {
			if (ws->in_len == 0)
				return 0;
			/* It asks for more only after it took something. */
			hf_assert(ws->in_len < before);
			continue;
		}
		if (n < 0)
			return violate(ws, HF_WS_CLOSE_PROTOCOL, "malformed frame");
		r = on_piece(ws, &io);
		if (r < 0)
			return r;
	}
	return 0;
}

int hf_ws_receive(struct hf_websocket *ws, const uint8_t *data, size_t len)
{
	static const struct wslay_frame_callbacks callbacks = {.recv_callback = recv_callback};
	int r;

	if (ws->error < 0)
		return ws->error;
	if (ws->close_received || len == 0)
		return 0;
	if (!ws->rx && wslay_frame_context_init(&ws->rx, &callbacks, ws) < 0) {
		ws->rx = NULL;
		return violate(ws, HF_WS_CLOSE_INTERNAL, "out of memory");
	}
	ws->in = data;
	ws->in_len = len;
	r = parse_frames(ws);
	ws->in = NULL;
	ws->in_len = 0;
	if (r < 0 || ws->close_received || ws->rx_held == 0) {
		wslay_frame_context_free(ws->rx);
		ws->rx = NULL;
		ws->rx_held = 0;
	}
	return r;
}

/* ---- the handshake's key --------------------------------------------------------------------- */

#define KEY_BYTES 16u

void hf_ws_make_key(char dst[static HF_WS_KEY_SIZE])
{
	uint8_t key[KEY_BYTES];

	hf_random_bytes(key, sizeof(key));
	(void)hf_base64_encode(dst, key, sizeof(key));
}

bool hf_ws_key_valid(const char *key)
{
	uint8_t bytes[KEY_BYTES];
	size_t len = sizeof(bytes);

	return strlen(key) == HF_WS_KEY_SIZE - 1 &&
	       hf_base64_decode(bytes, &len, key, HF_WS_KEY_SIZE - 1) == 0 && len == KEY_BYTES;
}

void hf_ws_accept(const char *key, char dst[static HF_WS_ACCEPT_SIZE])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	uint8_t digest[SHA_DIGEST_LENGTH];
	char text[HF_WS_KEY_SIZE + sizeof(guid)];

	/* SHA-1 is the protocol's, as a checksum against caches; nothing here is secret. */
	(void)hf_strf(text, sizeof(text), "%s%s", key, guid);
	SHA1((const unsigned char *)text, strlen(text), digest);
	(void)hf_base64_encode(dst, digest, sizeof(digest));
}
