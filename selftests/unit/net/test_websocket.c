/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RFC 6455 by hand-made frames: what breaks the protocol first, each with the close code that must
 * answer it, whole and cut at every byte; then messages, the closing handshake and the bounds.
 */
#include "selftests/unit/test_util.h"

#include <malloc.h>

#include "base/random.h"
#include "base/str.h"
#include "userspace/net/websocket.h"

#define MAX_MESSAGE 200u
#define MAX_QUEUE   1000u

struct seen {
	unsigned messages, pongs, closes;
	bool binary;
	char data[70000];
	size_t len;
	uint16_t code;
	char reason[130];
};

static void on_message(bool binary, const uint8_t *data, size_t len, void *userdata)
{
	struct seen *s = userdata;

	s->messages++;
	s->binary = binary;
	assert_true(len <= sizeof(s->data));
	memcpy(s->data, data, len);
	s->len = len;
}

static void on_pong(const uint8_t *data, size_t len, void *userdata)
{
	struct seen *s = userdata;

	s->pongs++;
	memcpy(s->data, data, len);
	s->len = len;
}

static void on_closed(uint16_t code, const char *reason, void *userdata)
{
	struct seen *s = userdata;

	s->closes++;
	s->code = code;
	(void)hf_strlcpy(s->reason, reason, sizeof(s->reason));
}

static const struct hf_ws_callbacks callbacks = {on_message, on_pong, on_closed};

static struct hf_websocket *make(enum hf_ws_role role, struct seen *s)
{
	struct hf_websocket *ws;

	memset(s, 0, sizeof(*s));
	assert_ok(hf_ws_new(role, MAX_MESSAGE, MAX_QUEUE, &callbacks, s, &ws));
	return ws;
}

/* A frame as a peer of the other role would send it. */
static void frame_as(struct hf_buf *b, bool mask, unsigned first_byte, const void *data, size_t len)
{
	uint8_t head[14], key[4] = {0x11, 0x80, 0x00, 0xff};
	size_t n = 0;

	head[n++] = (uint8_t)first_byte;
	if (len < 126) {
		head[n++] = (uint8_t)len;
	} else if (len < 65536) {
		head[n++] = 126;
		head[n++] = (uint8_t)(len >> 8);
		head[n++] = (uint8_t)len;
	} else {
		head[n++] = 127;
		for (int shift = 56; shift >= 0; shift -= 8)
			head[n++] = (uint8_t)((uint64_t)len >> shift);
	}
	if (mask) {
		head[1] |= 0x80;
		memcpy(head + n, key, 4);
		n += 4;
	}
	assert_ok(hf_buf_append(b, head, n));
	for (size_t i = 0; i < len; i++) {
		uint8_t c = ((const uint8_t *)data)[i];

		if (mask)
			c ^= key[i % 4];
		assert_ok(hf_buf_append(b, &c, 1));
	}
}

#define FIN    0x80u
#define TEXT   0x1u
#define BINARY 0x2u
#define CLOSE  0x8u
#define PING   0x9u
#define PONG   0xau

struct piece {
	unsigned first_byte;
	const char *data;
	size_t len;
};

/* Feeds bytes at once or one by one; returns the first error. */
static int feed(struct hf_websocket *ws, const struct hf_buf *b, size_t step)
{
	for (size_t at = 0; at < b->len; at += step) {
		size_t n = b->len - at < step ? b->len - at : step;
		uint8_t *copy = malloc(n);
		int r;

		assert_non_null(copy);
		memcpy(copy, b->data + at, n);
		r = hf_ws_receive(ws, copy, n);
		free(copy);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The close code of the one frame that is queued for sending. */
static unsigned queued_close_code(struct hf_websocket *ws, enum hf_ws_role role)
{
	size_t len;
	const uint8_t *out = hf_ws_outgoing(ws, &len);
	bool masked = role == HF_WS_CLIENT;
	const uint8_t *key, *payload;

	assert_non_null(out);
	assert_int_equal(out[0], FIN | CLOSE);
	assert_int_equal(out[1] >> 7, masked);
	assert_true((out[1] & 0x7f) >= 2);
	assert_int_equal(len, 2 + (masked ? 4 : 0) + (out[1] & 0x7fu));
	key = out + 2;
	payload = out + 2 + (masked ? 4 : 0);
	if (!masked)
		return (unsigned)(payload[0] << 8 | payload[1]);
	return (unsigned)((payload[0] ^ key[0]) << 8 | (payload[1] ^ key[1]));
}

static void assert_violation(enum hf_ws_role role, const struct hf_buf *b, unsigned code, int error,
			     const char *what)
{
	for (size_t step = 1; step <= b->len; step += step == 1 ? b->len - 1 + (b->len == 1) : 1) {
		struct seen *s = malloc(sizeof(*s));
		_cleanup_(hf_ws_freep) struct hf_websocket *ws = make(role, s);
		int r = feed(ws, b, step);

		if (r != error || hf_ws_violation(ws) != code)
			fail_msg("%s (role %d, step %zu): %d %u, wanted %d %u", what, role, step, r,
				 hf_ws_violation(ws), error, code);
		assert_int_equal(queued_close_code(ws, role), code);
		assert_true(hf_ws_close_sent(ws));
		assert_int_equal(s->messages, 0);
		assert_int_equal(s->closes, 0);
		/* Nothing is parsed or sent afterwards. */
		assert_err(hf_ws_receive(ws, (const uint8_t *)"\x81\x00", 2), error);
		assert_err(hf_ws_send(ws, true, "x", 1), -EPIPE);
		free(s);
	}
}

static void violations_are_closed_with_the_right_code(void **state)
{
	static const struct {
		const char *what;
		struct piece pieces[3];
		unsigned code;
		int error;
	} table[] = {
		{"rsv1", {{FIN | 0x40 | TEXT, "a", 1}}, 1002, -EPROTO},
		{"rsv2", {{FIN | 0x20 | TEXT, "a", 1}}, 1002, -EPROTO},
		{"rsv3 on an empty ping", {{FIN | 0x10 | PING, "", 0}}, 1002, -EPROTO},
		{"opcode 3", {{FIN | 3, "a", 1}}, 1002, -EPROTO},
		{"opcode 7", {{FIN | 7, "", 0}}, 1002, -EPROTO},
		{"opcode 11", {{FIN | 11, "", 0}}, 1002, -EPROTO},
		{"opcode 15", {{FIN | 15, "a", 1}}, 1002, -EPROTO},
		{"fragmented ping", {{PING, "a", 1}}, 1002, -EPROTO},
		{"fragmented close", {{CLOSE, "\x03\xe8", 2}}, 1002, -EPROTO},
		{"continuation of nothing", {{FIN, "a", 1}}, 1002, -EPROTO},
		{"continuation of nothing, unfinished", {{0, "a", 1}}, 1002, -EPROTO},
		{"text in a text", {{TEXT, "a", 1}, {FIN | TEXT, "b", 1}}, 1002, -EPROTO},
		{"binary in an empty text", {{TEXT, "", 0}, {FIN | BINARY, "b", 1}}, 1002, -EPROTO},
		{"close of one byte", {{FIN | CLOSE, "a", 1}}, 1002, -EPROTO},
		{"close 0", {{FIN | CLOSE, "\0\0", 2}}, 1002, -EPROTO},
		{"close 999", {{FIN | CLOSE, "\x03\xe7", 2}}, 1002, -EPROTO},
		{"close 1004", {{FIN | CLOSE, "\x03\xec", 2}}, 1002, -EPROTO},
		{"close 1005", {{FIN | CLOSE, "\x03\xed", 2}}, 1002, -EPROTO},
		{"close 1006", {{FIN | CLOSE, "\x03\xee", 2}}, 1002, -EPROTO},
		{"close 1015", {{FIN | CLOSE, "\x03\xf7", 2}}, 1002, -EPROTO},
		{"close 1016", {{FIN | CLOSE, "\x03\xf8", 2}}, 1002, -EPROTO},
		{"close 2999", {{FIN | CLOSE, "\x0b\xb7", 2}}, 1002, -EPROTO},
		{"close 5000", {{FIN | CLOSE, "\x13\x88", 2}}, 1002, -EPROTO},
		{"close 65535", {{FIN | CLOSE, "\xff\xff", 2}}, 1002, -EPROTO},
		{"bad UTF-8 in the reason", {{FIN | CLOSE, "\x03\xe8\xff", 3}}, 1007, -EILSEQ},
		{"bad UTF-8", {{FIN | TEXT, "a\xff", 2}}, 1007, -EILSEQ},
		{"surrogate", {{FIN | TEXT, "\xed\xa0\x80", 3}}, 1007, -EILSEQ},
		{"overlong slash", {{FIN | TEXT, "\xc0\xaf", 2}}, 1007, -EILSEQ},
		{"unfinished character", {{FIN | TEXT, "\xc3", 1}}, 1007, -EILSEQ},
		{"bad UTF-8 over fragments",
		 {{TEXT, "a\xe2\x82", 3}, {0, "", 0}, {FIN, "\x28", 1}},
		 1007,
		 -EILSEQ},
		{"bad UTF-8 around a pong",
		 {{TEXT, "\xf0\x9f", 2}, {FIN | PONG, "", 0}, {FIN, "a", 1}},
		 1007,
		 -EILSEQ},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		for (enum hf_ws_role role = HF_WS_CLIENT; role <= HF_WS_SERVER; role++) {
			struct hf_buf b = {};

			for (size_t k = 0; k < 3 && table[i].pieces[k].data; k++)
				frame_as(&b, role == HF_WS_SERVER, table[i].pieces[k].first_byte,
					 table[i].pieces[k].data, table[i].pieces[k].len);
			assert_violation(role, &b, table[i].code, table[i].error, table[i].what);
			hf_buf_done(&b);
		}
	}
}

static void masking_of_the_wrong_role_is_refused(void **state)
{
	static const unsigned first[] = {FIN | TEXT, FIN | BINARY, FIN | PING, FIN | PONG,
					 FIN | CLOSE};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(first); i++) {
		for (size_t len = 0; len <= 2; len += 2) {
			struct hf_buf b = {};

			frame_as(&b, false, first[i], "\x03\xe8", len);
			assert_violation(HF_WS_SERVER, &b, 1002, -EPROTO, "unmasked client frame");
			hf_buf_done(&b);
			frame_as(&b, true, first[i], "\x03\xe8", len);
			assert_violation(HF_WS_CLIENT, &b, 1002, -EPROTO, "masked server frame");
			hf_buf_done(&b);
		}
	}
}

static void lengths_that_lie_are_refused(void **state)
{
	static const struct {
		const char *what, *bytes;
		size_t len;
		unsigned code;
		int error;
	} table[] = {
		{"2^63", "\x82\x7f\x80\0\0\0\0\0\0\0", 10, 1002, -EPROTO},
		{"all ones", "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 10, 1002, -EPROTO},
		{"2^63 - 1", "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff_", 11, 1009, -EMSGSIZE},
		{"2^32", "\x82\x7f\0\0\0\x01\0\0\0\0_", 11, 1009, -EMSGSIZE},
		{"one more than the bound", "\x82\x7e\0\xc9_", 5, 1009, -EMSGSIZE},
		{"64-bit form of a small length", "\x82\x7f\0\0\0\0\0\0\0\x05_____", 15, 1002,
		 -EPROTO},
		{"16-bit form of a small length", "\x82\x7e\0\x05_____", 9, 1002, -EPROTO},
		{"ping of 126", "\x89\x7e\0\x7e", 4, 1002, -EPROTO},
		{"close of 2^16", "\x88\x7f\0\0\0\0\0\x01\0\0", 10, 1002, -EPROTO},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_buf b = {};

		assert_ok(hf_buf_append(&b, table[i].bytes, table[i].len));
		assert_violation(HF_WS_CLIENT, &b, table[i].code, table[i].error, table[i].what);
		hf_buf_done(&b);
	}
}

static void a_message_that_grows_past_the_bound_by_fragments_is_refused(void **state)
{
	struct hf_buf b = {};
	char chunk[50] = {};

	(void)state;
	frame_as(&b, true, BINARY, chunk, sizeof(chunk));
	for (unsigned i = 0; i < 3; i++)
		frame_as(&b, true, 0, chunk, sizeof(chunk));
	frame_as(&b, true, FIN, chunk, 1);
	assert_violation(HF_WS_SERVER, &b, 1009, -EMSGSIZE, "201 bytes in fragments");
	hf_buf_done(&b);
}

static void a_flood_of_empty_fragments_is_refused(void **state)
{
	struct hf_buf b = {};

	(void)state;
	frame_as(&b, true, BINARY, "x", 1);
	for (unsigned i = 0; i < 20; i++)
		frame_as(&b, true, 0, "", 0);
	assert_violation(HF_WS_SERVER, &b, 1008, -EPROTO, "empty fragments");
	hf_buf_done(&b);
}

static void messages_arrive_however_they_are_cut(void **state)
{
	struct seen *s = malloc(sizeof(*s));
	struct hf_buf b = {};
	char big[MAX_MESSAGE];

	(void)state;
	memset(big, 'b', sizeof(big));
	frame_as(&b, true, TEXT, "a\xe2", 2);
	frame_as(&b, true, FIN | PING, "now", 3);
	frame_as(&b, true, 0, "", 0);
	frame_as(&b, true, 0, "\x82", 1);
	frame_as(&b, true, FIN | PONG, "then", 4);
	frame_as(&b, true, FIN, "\xac", 1);
	frame_as(&b, true, FIN | BINARY, "", 0);
	frame_as(&b, true, FIN | BINARY, big, sizeof(big));
	frame_as(&b, true, FIN | TEXT, "end", 3);
	for (size_t step = 1; step <= b.len; step++) {
		_cleanup_(hf_ws_freep) struct hf_websocket *ws = make(HF_WS_SERVER, s);
		const uint8_t *out;
		size_t len;

		assert_ok(feed(ws, &b, step));
		assert_int_equal(s->messages, 4);
		assert_int_equal(s->pongs, 1);
		assert_int_equal(s->len, 3);
		assert_memory_equal(s->data, "end", 3);
		assert_false(s->binary);
		out = hf_ws_outgoing(ws, &len);
		assert_int_equal(len, 5);
		assert_memory_equal(out, "\x8a\x03now", 5);
		hf_ws_consume(ws, 2);
		assert_int_equal(hf_ws_queued(ws), 3);
		hf_ws_consume(ws, 3);
		assert_null(hf_ws_outgoing(ws, &len));
		assert_int_equal(hf_ws_violation(ws), 0);
	}
	hf_buf_done(&b);
	free(s);
}

static void a_text_over_fragments_is_one_message(void **state)
{
	struct seen *s = malloc(sizeof(*s));
	_cleanup_(hf_ws_freep) struct hf_websocket *ws = make(HF_WS_CLIENT, s);
	struct hf_buf b = {};

	(void)state;
	frame_as(&b, false, TEXT, "a\xe2", 2);
	frame_as(&b, false, 0, "\x82", 1);
	frame_as(&b, false, FIN, "\xac", 1);
	assert_ok(feed(ws, &b, b.len));
	assert_int_equal(s->messages, 1);
	assert_int_equal(s->len, 4);
	assert_memory_equal(s->data, "a\xe2\x82\xac", 4);
	hf_buf_done(&b);
	free(s);
}

/* Moves everything that a has queued to b. */
static void pump(struct hf_websocket *a, struct hf_websocket *b)
{
	const uint8_t *out;
	size_t len;

	while ((out = hf_ws_outgoing(a, &len))) {
		size_t n = len > 7 ? len / 2 : len;

		assert_ok(hf_ws_receive(b, out, n));
		hf_ws_consume(a, n);
	}
}

static void both_roles_understand_each_other_at_every_length_form(void **state)
{
	static const size_t sizes[] = {0, 1, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 70000};
	struct seen *sc = malloc(sizeof(*sc)), *ss = malloc(sizeof(*ss));
	struct hf_websocket *client, *server;
	char *data = malloc(70000);

	(void)state;
	memset(sc, 0, sizeof(*sc));
	memset(ss, 0, sizeof(*ss));
	hf_random_bytes(data, 70000);
	assert_ok(hf_ws_new(HF_WS_CLIENT, 70000, 80000, &callbacks, sc, &client));
	assert_ok(hf_ws_new(HF_WS_SERVER, 70000, 80000, &callbacks, ss, &server));
	for (size_t i = 0; i < HF_ARRAY_SIZE(sizes); i++) {
		assert_ok(hf_ws_send(client, true, data, sizes[i]));
		pump(client, server);
		assert_int_equal(ss->messages, i + 1);
		assert_int_equal(ss->len, sizes[i]);
		assert_memory_equal(ss->data, data, sizes[i]);
		assert_ok(hf_ws_send(server, true, data, sizes[i]));
		pump(server, client);
		assert_int_equal(sc->messages, i + 1);
		assert_memory_equal(sc->data, data, sizes[i]);
	}
	assert_ok(hf_ws_ping(client, "p", 1));
	pump(client, server);
	pump(server, client);
	assert_int_equal(sc->pongs, 1);
	hf_ws_free(client);
	hf_ws_free(server);
	free(data);
	free(sc);
	free(ss);
}

static void a_client_masks_each_frame_with_another_key(void **state)
{
	struct seen *s = malloc(sizeof(*s));
	uint8_t keys[32][4];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(keys); i++) {
		_cleanup_(hf_ws_freep) struct hf_websocket *ws = make(HF_WS_CLIENT, s);
		const uint8_t *out;
		size_t len;

		assert_ok(hf_ws_send(ws, true, "\0\0\0\0", 4));
		out = hf_ws_outgoing(ws, &len);
		assert_int_equal(len, 10);
		assert_int_equal(out[1], 0x84);
		assert_memory_equal(out + 2, out + 6, 4);
		memcpy(keys[i], out + 2, 4);
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(keys[k], keys[i], 4);
	}
	free(s);
}

static void the_closing_handshake_ends_both_sides(void **state)
{
	struct seen *sc = malloc(sizeof(*sc)), *ss = malloc(sizeof(*ss));
	_cleanup_(hf_ws_freep) struct hf_websocket *client = make(HF_WS_CLIENT, sc);
	_cleanup_(hf_ws_freep) struct hf_websocket *server = make(HF_WS_SERVER, ss);

	(void)state;
	assert_ok(hf_ws_send(client, true, "late", 4));
	assert_ok(hf_ws_close(server, HF_WS_CLOSE_RESTART, "back\x1b soon"));
	assert_err(hf_ws_close(server, HF_WS_CLOSE_NORMAL, ""), -EPIPE);
	assert_err(hf_ws_send(server, true, "x", 1), -EPIPE);
	assert_err(hf_ws_ping(server, "", 0), -EPIPE);
	/* What was on its way is not delivered any more. */
	pump(client, server);
	assert_int_equal(ss->messages, 0);
	pump(server, client);
	assert_int_equal(sc->closes, 1);
	assert_int_equal(sc->code, HF_WS_CLOSE_RESTART);
	assert_string_equal(sc->reason, "back? soon");
	assert_true(hf_ws_close_received(client));
	assert_true(hf_ws_close_sent(client));
	assert_err(hf_ws_send(client, true, "x", 1), -EPIPE);
	pump(client, server);
	assert_int_equal(ss->closes, 1);
	assert_int_equal(ss->code, HF_WS_CLOSE_RESTART);
	/* Bytes behind the close frame are ignored. */
	assert_ok(hf_ws_receive(server, (const uint8_t *)"\xff\xff", 2));
	assert_int_equal(hf_ws_violation(server), 0);
	free(sc);
	free(ss);
}

static void a_close_without_status_says_so(void **state)
{
	struct seen *sc = malloc(sizeof(*sc)), *ss = malloc(sizeof(*ss));
	_cleanup_(hf_ws_freep) struct hf_websocket *client = make(HF_WS_CLIENT, sc);
	_cleanup_(hf_ws_freep) struct hf_websocket *server = make(HF_WS_SERVER, ss);

	(void)state;
	assert_ok(hf_ws_close(client, HF_WS_CLOSE_NO_STATUS, NULL));
	pump(client, server);
	assert_int_equal(ss->code, HF_WS_CLOSE_NO_STATUS);
	assert_string_equal(ss->reason, "");
	pump(server, client);
	assert_int_equal(sc->code, HF_WS_CLOSE_NO_STATUS);
	free(sc);
	free(ss);
}

static void a_long_reason_is_cut_between_characters(void **state)
{
	struct seen *sc = malloc(sizeof(*sc)), *ss = malloc(sizeof(*ss));
	_cleanup_(hf_ws_freep) struct hf_websocket *client = make(HF_WS_CLIENT, sc);
	_cleanup_(hf_ws_freep) struct hf_websocket *server = make(HF_WS_SERVER, ss);
	char reason[200];

	(void)state;
	memset(reason, 'r', sizeof(reason));
	memcpy(reason + 122, "\xc3\xa4", 3);
	assert_ok(hf_ws_close(client, HF_WS_CLOSE_NORMAL, reason));
	pump(client, server);
	assert_int_equal(ss->closes, 1);
	assert_int_equal(strlen(ss->reason), 122);
	free(sc);
	free(ss);
}

static void the_send_queue_is_bounded_and_a_close_still_fits(void **state)
{
	struct seen *s = malloc(sizeof(*s));
	_cleanup_(hf_ws_freep) struct hf_websocket *ws = make(HF_WS_SERVER, s);
	char chunk[100] = {};
	struct hf_buf b = {};
	unsigned n = 0;

	(void)state;
	while (hf_ws_send(ws, true, chunk, sizeof(chunk)) == 0)
		n++;
	assert_int_equal(n, 9);
	assert_err(hf_ws_send(ws, true, chunk, sizeof(chunk)), -ENOBUFS);
	assert_err(hf_ws_send(ws, true, chunk, MAX_QUEUE + 1), -ENOBUFS);
	assert_true(hf_ws_queued(ws) <= MAX_QUEUE);
	/* A ping flood of a peer that does not read adds nothing without end. */
	for (unsigned i = 0; i < 100; i++)
		frame_as(&b, true, FIN | PING, chunk, sizeof(chunk));
	assert_ok(feed(ws, &b, b.len));
	assert_true(hf_ws_queued(ws) <= MAX_QUEUE);
	assert_ok(hf_ws_close(ws, HF_WS_CLOSE_POLICY, "slow"));
	hf_buf_done(&b);
	free(s);
}

static void an_idle_connection_holds_no_buffers(void **state)
{
	struct seen *s = malloc(sizeof(*s));
	struct hf_websocket *ws[200];
	struct hf_buf b = {};
	struct mallinfo2 before, after;

	(void)state;
	frame_as(&b, true, BINARY, "12345", 5);
	frame_as(&b, true, FIN, "678", 3);
	frame_as(&b, true, FIN | PING, "p", 1);
	before = mallinfo2();
	for (size_t i = 0; i < HF_ARRAY_SIZE(ws); i++) {
		const uint8_t *out;
		size_t len;

		ws[i] = make(HF_WS_SERVER, s);
		assert_ok(feed(ws[i], &b, 4));
		assert_int_equal(s->messages, 1);
		while ((out = hf_ws_outgoing(ws[i], &len)))
			hf_ws_consume(ws[i], len);
	}
	after = mallinfo2();
#ifndef __SANITIZE_ADDRESS__
	assert_true((after.uordblks - before.uordblks) / HF_ARRAY_SIZE(ws) < 600);
#else
	(void)before;
	(void)after;
#endif
	for (size_t i = 0; i < HF_ARRAY_SIZE(ws); i++)
		hf_ws_free(ws[i]);
	hf_buf_done(&b);
	free(s);
}

static void the_key_and_its_answer_are_those_of_the_rfc(void **state)
{
	char accept[HF_WS_ACCEPT_SIZE], key[HF_WS_KEY_SIZE], other[HF_WS_KEY_SIZE];

	(void)state;
	hf_ws_accept("dGhlIHNhbXBsZSBub25jZQ==", accept);
	assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	hf_ws_make_key(key);
	hf_ws_make_key(other);
	assert_true(hf_ws_key_valid(key));
	assert_string_not_equal(key, other);
	assert_true(hf_ws_key_valid("dGhlIHNhbXBsZSBub25jZQ=="));
	assert_false(hf_ws_key_valid(""));
	assert_false(hf_ws_key_valid("dGhlIHNhbXBsZSBub25jZQ="));
	assert_false(hf_ws_key_valid("dGhlIHNhbXBsZSBub25jZQ===="));
	assert_false(hf_ws_key_valid("dGhlIHNhbXBsZSBub25jZWFh"));
	assert_false(hf_ws_key_valid("dGhlIHNhbXBsZSBub25j!Q=="));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(violations_are_closed_with_the_right_code),
		cmocka_unit_test(masking_of_the_wrong_role_is_refused),
		cmocka_unit_test(lengths_that_lie_are_refused),
		cmocka_unit_test(a_message_that_grows_past_the_bound_by_fragments_is_refused),
		cmocka_unit_test(a_flood_of_empty_fragments_is_refused),
		cmocka_unit_test(messages_arrive_however_they_are_cut),
		cmocka_unit_test(a_text_over_fragments_is_one_message),
		cmocka_unit_test(both_roles_understand_each_other_at_every_length_form),
		cmocka_unit_test(a_client_masks_each_frame_with_another_key),
		cmocka_unit_test(the_closing_handshake_ends_both_sides),
		cmocka_unit_test(a_close_without_status_says_so),
		cmocka_unit_test(a_long_reason_is_cut_between_characters),
		cmocka_unit_test(the_send_queue_is_bounded_and_a_close_still_fits),
		cmocka_unit_test(an_idle_connection_holds_no_buffers),
		cmocka_unit_test(the_key_and_its_answer_are_those_of_the_rfc),
	};

	return HF_RUN_TESTS(tests);
}
