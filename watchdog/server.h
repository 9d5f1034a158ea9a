/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervise.sock: takes the connections of our components and nobody else's, checks every packet
 * (hf_sup_check(), then the permit table), hands it to the component, and sends.
 */
#pragma once

#include "base/cleanup.h"
#include "holdfast/supervise.h"
#include "watchdog/watchdog.h"

struct hf_peer;

int hf_server_new(struct hf_watchdog *w, struct hf_server **ret);
/* Removes the socket's file as well. Takes NULL, returns NULL. */
struct hf_server *hf_server_free(struct hf_server *s);
HF_DEFINE_CLEANUP(struct hf_server *, hf_server_free);

struct hf_sup_hdr hf_peer_header(enum hf_sup_type type);
/* msg is a whole message; fds are borrowed. A connection that cannot take it is ended. */
void hf_peer_send(struct hf_peer *conn, const void *msg, const int *fds, unsigned n_fds);
/* Ends the connection from the component's side of things: it calls nothing back. */
void hf_peer_drop(struct hf_peer *conn);
