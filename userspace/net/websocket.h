/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RFC 6455 framing for both roles over wslay, without I/O: bytes in, messages and bytes out. The
 * owner moves bytes between this and a TLS stream. One loop thread; silent.
 *
 * Bounds: a message is at most max_message bytes (more: close 1009), control frames at most 125
 * (RFC 6455 section 5.5), the send queue at most max_queue bytes (-ENOBUFS, the caller decides).
 * A client masks with getrandom(2); a server refuses unmasked frames and a client masked ones
 * (section 5.1) with close 1002. Invalid UTF-8 in text closes 1007. RSV bits close 1002.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct hf_websocket;

enum hf_ws_role { HF_WS_CLIENT, HF_WS_SERVER };

/* RFC 6455 section 7.4 and the IANA registry. */
enum hf_ws_close {
	HF_WS_CLOSE_NORMAL = 1000,
	HF_WS_CLOSE_GOING_AWAY = 1001,
	HF_WS_CLOSE_PROTOCOL = 1002,
	HF_WS_CLOSE_UNSUPPORTED = 1003,
	HF_WS_CLOSE_NO_STATUS = 1005, /* never on the wire */
	HF_WS_CLOSE_ABNORMAL = 1006,  /* never on the wire */
	HF_WS_CLOSE_INVALID = 1007,
	HF_WS_CLOSE_POLICY = 1008,
	HF_WS_CLOSE_TOO_BIG = 1009,
	HF_WS_CLOSE_INTERNAL = 1011,
	HF_WS_CLOSE_RESTART = 1012,
	HF_WS_CLOSE_TRY_LATER = 1013,
	HF_WS_CLOSE_SUPERSEDED = 4001, /* ours: a newer connection of the same endpoint took over */
};

struct hf_ws_callbacks {
	/* A whole data message; data is borrowed for the call. Not called after a close was sent. */
	void (*message)(bool binary, const uint8_t *data, size_t len, void *userdata);
	void (*pong)(const uint8_t *data, size_t len, void *userdata); /* may be NULL */
	/* The peer's close frame; code HF_WS_CLOSE_NO_STATUS when it had none. reason is sanitised. */
	void (*closed)(uint16_t code, const char *reason, void *userdata);
};

int hf_ws_new(enum hf_ws_role role, size_t max_message, size_t max_queue,
	      const struct hf_ws_callbacks *cb, void *userdata, struct hf_websocket **ret);
struct hf_websocket *hf_ws_free(struct hf_websocket *ws);
HF_DEFINE_CLEANUP(struct hf_websocket *, hf_ws_free);

/*
 * Feeds received bytes; callbacks run inside. 0, or -EPROTO/-EMSGSIZE/-EILSEQ after a violation:
 * the close frame is queued then, flush it and drop the connection. Frees nothing: the owner must
 * not free ws inside a callback.
 */
int hf_ws_receive(struct hf_websocket *ws, const uint8_t *data, size_t len);
/* The close code queued after a violation, 0 if none; for logs and the outage record. */
uint16_t hf_ws_violation(const struct hf_websocket *ws);

/* -ENOBUFS: queue full; -EPIPE: close was sent or received. data is copied. */
int hf_ws_send(struct hf_websocket *ws, bool binary, const void *data, size_t len);
int hf_ws_ping(struct hf_websocket *ws, const void *data, size_t len); /* len ≤ 125 */
int hf_ws_close(struct hf_websocket *ws, uint16_t code, const char *reason);

/* Bytes to write to the stream; borrowed until consume or the next call. NULL/0: nothing. */
const uint8_t *hf_ws_outgoing(struct hf_websocket *ws, size_t *ret_len);
void hf_ws_consume(struct hf_websocket *ws, size_t n);
size_t hf_ws_queued(const struct hf_websocket *ws); /* bytes not yet consumed */
bool hf_ws_close_sent(const struct hf_websocket *ws);
bool hf_ws_close_received(const struct hf_websocket *ws);

/* Sec-WebSocket-Key / -Accept (RFC 6455 section 4.1, 4.2.2). */
#define HF_WS_KEY_SIZE    25 /* 24 characters and NUL */
#define HF_WS_ACCEPT_SIZE 29
void hf_ws_make_key(char dst[static HF_WS_KEY_SIZE]);
bool hf_ws_key_valid(const char *key);
void hf_ws_accept(const char *key, char dst[static HF_WS_ACCEPT_SIZE]);
