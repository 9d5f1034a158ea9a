/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening sockets and all connections. Protects the process: an accept budget per second, a limit
 * of handshakes at the same time and of connections in all, a pause when descriptors run out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct hf_conn;
struct hf_portal;
struct hf_server;
typedef struct sd_event_source sd_event_source;

/* Binds and listens; accepting begins with the loop. */
int hf_server_new(struct hf_portal *p, struct hf_server **ret, struct hf_err *err);
struct hf_server *hf_server_free(struct hf_server *s);
HF_DEFINE_CLEANUP(struct hf_server *, hf_server_free);

/* Stops listening and asks every connection to end; none is left, or deadline_ms passed: done(). */
void hf_server_stop(struct hf_server *s, uint64_t deadline_ms, void (*done)(void *userdata),
		    void *userdata);

struct hf_server_stats {
	size_t connections, handshakes, websockets;
	bool accepting;
};

void hf_server_stats(const struct hf_server *s, struct hf_server_stats *ret);
/* The port of the first listening socket (listen on port 0 picks one). */
uint16_t hf_server_port(const struct hf_server *s);

/* ---- for conn.c ----------------------------------------------------------------------------- */
struct hf_conn_list {
	struct hf_conn *head;
};

struct hf_portal *hf_server_portal(struct hf_server *s);
struct hf_conn_list *hf_server_connections(struct hf_server *s);
/* Reaps c from the loop, outside of any call on the connection. */
void hf_server_reap_later(struct hf_server *s, struct hf_conn *c);
void hf_server_conn_added(struct hf_server *s);
void hf_server_conn_gone(struct hf_server *s);
void hf_server_handshake_done(struct hf_server *s);
void hf_server_websockets(struct hf_server *s, int delta);
