/* SPDX-License-Identifier: Apache-2.0 */
/* The connection, seen by its two parts: conn.c (TLS, HTTP, streams) and conn_ws.c (WebSocket). */
#pragma once

#include "base/str.h"
#include "tools/portal/conn.h"

typedef struct sd_event_source sd_event_source;

#define CONN_MAGIC 0x636f6e6eu

enum conn_state {
	CONN_HANDSHAKE,
	CONN_HTTP,
	CONN_ANSWERING, /* a handler has the request */
	CONN_STREAM,
	CONN_WEBSOCKET,
	CONN_WS_CLOSING,
	CONN_DRAINING, /* closes when everything is sent */
	CONN_LINGERING, /* all is sent; what still comes is thrown away, or a reset would eat our answer */
	CONN_DEAD,
};

struct hf_conn {
	unsigned magic;
	unsigned refs;
	enum conn_state state;
	enum hf_conn_end how;
	struct hf_server *server;
	struct hf_conn *next, *prev, *next_dead;
	struct hf_tls_stream *tls;
	sd_event_source *io, *timer, *kick;
	uint32_t events;
	struct hf_http_parser *parser;
	struct hf_buf in;  /* received behind the present request */
	struct hf_buf out; /* to send before anything of ws */
	size_t out_off;
	unsigned requests;
	bool head_only; /* HEAD: no body */
	bool keep_alive, running, head_started, continued, ws_paused, reaped, linger;
	struct hf_websocket *ws;
	struct hf_conn_websocket ws_owner;
	void (*stream_ended)(void *userdata);
	void *stream_userdata;
	uint64_t last_rx_ns, pinged_ns;
	char peer[64];
	char address[64];
};

/* From now on, on the monotonic clock. */
void hf_conn_set_deadline(struct hf_conn *c, uint64_t from_now_ns);
/* DEAD: reaped from the loop. */
void hf_conn_end_now(struct hf_conn *c, enum hf_conn_end how);
/* What a failed read or write (r) says of the connection's end. */
enum hf_conn_end hf_conn_end_of(struct hf_conn *c, int r);
/* After something was queued: sends it now unless the connection is being run anyway. */
void hf_conn_push(struct hf_conn *c);
/* Runs the connection again from the loop: bytes that epoll will not tell of wait for it. */
void hf_conn_kick(struct hf_conn *c);
void hf_conn_queue_out(struct hf_conn *c, const void *data, size_t len);
void hf_conn_update_events(struct hf_conn *c);

/* ---- conn_ws.c ------------------------------------------------------------------------------ */
/* True: everything queued was taken by the socket. */
bool hf_conn_ws_flush(struct hf_conn *c);
void hf_conn_ws_feed(struct hf_conn *c, const uint8_t *data, size_t len);
void hf_conn_ws_timer(struct hf_conn *c);
