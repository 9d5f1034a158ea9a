/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One accepted connection: TLS, then HTTP/1.1 requests one after the other, perhaps then an event
 * stream or a WebSocket. One loop thread.
 *
 * A handler answers a request now or later (hf_conn_ref() meanwhile); until then no further request
 * of this connection is read. A connection that ended stays a valid object while it is referenced;
 * what is sent to it then goes nowhere. It is never freed inside a call on it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "userspace/net/http.h"
#include "userspace/net/tls_stream.h"
#include "userspace/net/websocket.h"

struct hf_conn;
struct hf_portal;
struct hf_server;

/* How a connection ended, for the status reason and the counters. */
enum hf_conn_end {
	HF_CONN_END_PEER,    /* FIN, close_notify or a close frame */
	HF_CONN_END_RESET,   /* RST */
	HF_CONN_END_TIMEOUT, /* silence */
	HF_CONN_END_PROTOCOL,
	HF_CONN_END_LOCAL, /* we closed it */
};

/* What runs on a WebSocket. Its object is made before the 101 and told of the end exactly once. */
struct hf_conn_websocket {
	void (*message)(void *userdata, bool binary, const uint8_t *data, size_t len);
	void (*pong)(void *userdata);
	void (*stopping)(void *userdata); /* closes it by hf_conn_ws_close() */
	/* Silence: nothing was received for so long; the connection has been asked to ping. */
	void (*ended)(void *userdata, enum hf_conn_end how);
	void *userdata;
	uint64_t ping_after_ns; /* of silence */
	uint64_t dead_after_ns;
};

/* fd is consumed on success. peer: "192.0.2.1:5122". */
int hf_conn_new(struct hf_server *server, int fd, const char *peer, struct hf_conn **ret);
struct hf_conn *hf_conn_ref(struct hf_conn *c);
struct hf_conn *hf_conn_unref(struct hf_conn *c); /* returns NULL */

struct hf_portal *hf_conn_portal(struct hf_conn *c);
const char *hf_conn_peer(const struct hf_conn *c);    /* with port */
const char *hf_conn_address(const struct hf_conn *c); /* without */
const char *hf_conn_tls_version(const struct hf_conn *c);
bool hf_conn_alive(const struct hf_conn *c);
/* The client's certificate, as hf_tls_peer_cert(). *ret_failure: why it does not verify. */
int hf_conn_peer_cert(struct hf_conn *c, const uint8_t **ret_der, size_t *ret_len,
		      enum hf_tls_failure *ret_failure);
/* The same without the verdict: whose key the client has proven to hold. */
int hf_conn_peer_cert_any(struct hf_conn *c, const uint8_t **ret_der, size_t *ret_len);

/* ---- answers -------------------------------------------------------------------------------- */
struct hf_reply {
	unsigned status;
	const char *type; /* NULL: no body */
	const void *body; /* copied */
	size_t len;
	const char *headers; /* further "Name: value\r\n" lines, NULL: none */
	bool cacheable;      /* else Cache-Control: no-store */
	bool close;
};

void hf_conn_reply(struct hf_conn *c, const struct hf_reply *reply);

/* Answers with an event stream: headers now, then hf_conn_stream_write(); ended is called once. */
void hf_conn_stream_start(struct hf_conn *c, void (*ended)(void *userdata), void *userdata);
/* -ENOBUFS: the peer reads too slowly, the connection is closed. */
int hf_conn_stream_write(struct hf_conn *c, const void *data, size_t len);

/* Answers with 101. headers as above. */
int hf_conn_upgrade(struct hf_conn *c, const struct hf_http_message *rq, const char *headers,
		    const struct hf_conn_websocket *ws);
/* -ENOBUFS: queue full, the connection is closed; -EPIPE: it ended. */
int hf_conn_ws_send(struct hf_conn *c, const void *data, size_t len);
/* Sends the close frame and ends the connection when the peer answered it or after 2 s. */
void hf_conn_ws_close(struct hf_conn *c, uint16_t code, const char *reason);
/* As in struct hf_conn_websocket; from the next timer on. */
void hf_conn_ws_set_silence(struct hf_conn *c, uint64_t ping_after_ns, uint64_t dead_after_ns);
/* Asks for a pong. */
void hf_conn_ws_ping(struct hf_conn *c);
/* Stops reading messages until called with false; what was received meanwhile waits in the kernel. */
void hf_conn_ws_pause(struct hf_conn *c, bool pause);

/* Ends it: what is queued is still sent if the socket takes it at once. */
void hf_conn_close(struct hf_conn *c, enum hf_conn_end how);
/* Ends it by a TCP reset (SO_LINGER 0). */
void hf_conn_reset(struct hf_conn *c);

/* ---- for the server ------------------------------------------------------------------------- */
struct hf_conn *hf_conn_next(struct hf_conn *c);
/* The portal stops: 1012 on WebSockets, the rest closes when idle. */
void hf_conn_stop(struct hf_conn *c);
bool hf_conn_handshaking(const struct hf_conn *c);
/* The list of the dead; returns what was next before. */
struct hf_conn *hf_conn_set_next_dead(struct hf_conn *c, struct hf_conn *next);
/* Of a dead one: tells its owners, closes the socket, leaves the server's list. */
void hf_conn_reap(struct hf_conn *c);
