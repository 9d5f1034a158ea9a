/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One WebSocket over one TLS connection: the handshake, the upgrade, then messages. Owns the socket,
 * its TLS stream, the framing and the one event source; knows nothing of what the messages mean.
 *
 * States: TLS → UPGRADE → OPEN → (CLOSING) → ENDED. `gone` is called exactly once unless the link is
 * freed before, and is the last callback. Callbacks come from the loop and from hf_link_start(),
 * hf_link_poke() and hf_link_send(); the link may be freed inside any of them.
 *
 * Bounds: HF_MESSAGE_MAX per message in, HF_LINK_QUEUE_MAX bytes queued out (-ENOBUFS), a bounded
 * number of reads per wakeup so that a flooding portal cannot starve the loop.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "userspace/agent/failure.h"
#include "userspace/net/http.h"
#include "userspace/net/tls_stream.h"

/* Two of the largest messages: one on its way, one waiting. */
#define HF_LINK_QUEUE_MAX (2u << 20)

struct hf_link;

/* Why it ended: whatever was seen, unjudged. */
struct hf_link_end {
	enum hf_phase phase; /* TLS, UPGRADE or HELLO (anything after the upgrade) */
	int err;             /* positive errno, 0 none */
	enum hf_tls_failure tls;
	int alert;
	char tls_text[192];
	unsigned http_status; /* of a refused upgrade */
	char http_cause[48];
	char http_retry_after[16];
	bool bad_accept;
	uint16_t close_code; /* received; 0 none */
	char close_reason[124];
	uint16_t violation; /* the peer broke the protocol: the code we closed with */
	char violation_text[96];
};

struct hf_link_callbacks {
	void (*open)(void *userdata);
	void (*message)(const uint8_t *data, size_t len, void *userdata);
	void (*pong)(void *userdata); /* may be NULL */
	void (*gone)(const struct hf_link_end *end, void *userdata);
	/* The queue was written out, at the end of a wakeup; may be NULL. */
	void (*writable)(void *userdata);
};

struct hf_link_options {
	sd_event *event;
	struct hf_tls_context *tls; /* borrowed for the link's life */
	const struct hf_url *url;   /* copied */
	const char *bearer;         /* enrolment token; NULL none; copied and wiped */
	const char *headers;        /* more lines of the request; NULL none; copied and wiped */
	uint64_t cookie;
};

/* fd: connected, non-blocking; consumed on success. */
int hf_link_new(const struct hf_link_options *o, int fd, const struct hf_link_callbacks *cb,
		void *userdata, struct hf_link **ret);
struct hf_link *hf_link_free(struct hf_link *l);
HF_DEFINE_CLEANUP(struct hf_link *, hf_link_free);

/* Hands it to another owner; may be done inside a callback. */
void hf_link_set_callbacks(struct hf_link *l, const struct hf_link_callbacks *cb, void *userdata);

/* Takes the first steps without waiting for the loop. */
void hf_link_start(struct hf_link *l);
/* Reads what is there now: the kernel said that something happened to the socket. */
void hf_link_poke(struct hf_link *l);

/* Binary message. -ENOBUFS, -EPIPE (closing or ended), -ENOTCONN (not open yet). */
int hf_link_send(struct hf_link *l, const void *data, size_t len);
int hf_link_ping(struct hf_link *l);
/* Sends a close frame and close_notify, then waits for the peer's end; `gone` follows. */
void hf_link_close(struct hf_link *l, uint16_t code, const char *reason);

bool hf_link_is_open(const struct hf_link *l);
size_t hf_link_queued(const struct hf_link *l);
uint64_t hf_link_cookie(const struct hf_link *l);
int hf_link_fd(const struct hf_link *l);
const char *hf_link_tls_version(const struct hf_link *l);
bool hf_link_tls_resumed(const struct hf_link *l);
/* CLOCK_BOOTTIME of the last byte received. */
uint64_t hf_link_last_heard_ns(const struct hf_link *l);
/* Monotonic; 0 while not there yet. */
uint64_t hf_link_tls_done_ns(const struct hf_link *l);
uint64_t hf_link_open_ns(const struct hf_link *l);
/* TCP_INFO: unacknowledged segments, smoothed round trip. false when the kernel does not say. */
struct hf_link_tcp {
	uint32_t unacked, sacked, retransmits, rtt_us, snd_mss, last_ack_ms;
	uint64_t bytes_acked;
};
bool hf_link_tcp(const struct hf_link *l, struct hf_link_tcp *ret);
