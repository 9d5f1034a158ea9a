/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of TLS session tickets, kept over a restart: a fleet that comes back all at once resumes
 * instead of a full handshake each. Who has the file can read tickets, so it is secret, changed once a
 * week, and of no use under another client CA: the keys are derived from both.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "userspace/net/tls_stream.h"

/* File in the state directory: 0600. client_ca: path of the CA bundle. */
#define HF_TICKET_FILE "ticket.key"

int hf_ticket_keys(int dirfd, const char *client_ca, uint64_t now_unix_ns,
		   uint8_t keys[static HF_TLS_TICKET_KEYS_SIZE], struct hf_err *err);
