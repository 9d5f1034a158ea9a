/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS over one non-blocking TCP socket, for client (agent) and server (portal). No event loop in
 * here: the owner watches hf_tls_fd() for hf_tls_events() and calls the function again.
 *
 * The context is made once per process (parsing a CA bundle costs 20 ms) and outlives its streams.
 * Everything runs in the owner's loop thread. Silent; the reason of a failure is kept as an
 * hf_tls_failure until the stream is freed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"

struct hf_tls_context;
struct hf_tls_stream;

/* Why a handshake or stream failed, finer than OpenSSL's codes; maps to DESIGN section 6 causes. */
enum hf_tls_failure {
	HF_TLS_OK,
	HF_TLS_IO,     /* errno in hf_tls_errno(): reset, timeout … */
	HF_TLS_EOF,    /* peer closed without close_notify */
	HF_TLS_CLOSED, /* close_notify received */
	HF_TLS_CERT_EXPIRED,
	HF_TLS_CERT_NOT_YET_VALID,
	HF_TLS_CERT_UNTRUSTED, /* no path to our CA, and nothing better is known */
	HF_TLS_CERT_NAME,      /* hostname mismatch */
	HF_TLS_CERT_REVOKED,
	HF_TLS_PIN_MISMATCH, /* chain fine, no pin matches */
	HF_TLS_INTERCEPTED,  /* chain to a CA that is not ours: issuer in hf_tls_error() */
	HF_TLS_WEAK_CRYPTO,  /* SHA-1, small key, protocol below 1.2 */
	HF_TLS_ALERT,        /* peer sent a fatal alert: number in hf_tls_alert() */
	HF_TLS_PROTOCOL,     /* what came is not TLS */
	HF_TLS_INTERNAL,
	_HF_TLS_FAILURE_MAX,
};

const char *hf_tls_failure_name(enum hf_tls_failure f);

struct hf_tls_client_options {
	const char *ca_file; /* PEM; NULL: the system's store */
	const char *ca_pem;  /* the same in memory; comes before ca_file; NULL none */
	const char *const
		*pins; /* "sha256/<base64 of SubjectPublicKeyInfo hash>" of any chain member but
				    the leaf; NULL: none */
	size_t n_pins;
	const char *cert_file; /* client certificate chain and key; NULL: none yet */
	const char *key_file;
};

struct hf_tls_server_options {
	const char *cert_file;
	const char *key_file;
	const char
		*client_ca_file; /* requests (does not require) a client certificate of this CA */
	const char *crl_file;    /* NULL: none */
	/*
	 * HF_TLS_TICKET_KEYS_SIZE random bytes, secret: kept over a restart, they let every endpoint
	 * resume instead of a full handshake each. NULL: new ones for this context.
	 */
	const uint8_t *ticket_keys;
};

#define HF_TLS_TICKET_KEYS_SIZE 80

/* Reads files now; err says which and why. */
int hf_tls_client_context_new(const struct hf_tls_client_options *o, struct hf_tls_context **ret,
			      struct hf_err *err);
int hf_tls_server_context_new(const struct hf_tls_server_options *o, struct hf_tls_context **ret,
			      struct hf_err *err);
struct hf_tls_context *hf_tls_context_free(struct hf_tls_context *c);
HF_DEFINE_CLEANUP(struct hf_tls_context *, hf_tls_context_free);

/*
 * Verifies certificates for this time (seconds since 1970), for a process that knows better than its
 * host's wall clock; 0: the wall clock.
 */
void hf_tls_context_set_time(struct hf_tls_context *c, int64_t unix_s);

/*
 * Client sessions: the context keeps the newest ticket per server name, so that the next stream
 * resumes even after an abrupt drop. serialize/restore let the agent keep it over a restart
 * (*ret owned by the caller, secret). -ENOENT when there is none. What was serialized under another
 * CA, pins or client certificate is not restored (-ESTALE): resuming skips verification.
 */
int hf_tls_session_serialize(struct hf_tls_context *c, const char *name, uint8_t **ret,
			     size_t *ret_len);
int hf_tls_session_restore(struct hf_tls_context *c, const char *name, const uint8_t *data,
			   size_t len);

/*
 * fd is a connected non-blocking socket and is consumed on success. server_name is for SNI and
 * verification, a DNS name or an IP address (NULL on the server side).
 */
int hf_tls_stream_new(struct hf_tls_context *c, int fd, const char *server_name,
		      struct hf_tls_stream **ret);
/* Marks the session reusable, closes the socket without waiting. */
struct hf_tls_stream *hf_tls_stream_free(struct hf_tls_stream *s);
HF_DEFINE_CLEANUP(struct hf_tls_stream *, hf_tls_stream_free);

/*
 * Before the handshake, by an owner that writes or reads at once when it is done: the last flight
 * leaves together with what is written first, or when a read finds nothing.
 */
void hf_tls_hold_flight(struct hf_tls_stream *s);
/* 1 done, 0 wait for hf_tls_events(), -errno failed (-EPROTO, -ECONNRESET, -EPIPE …). */
int hf_tls_handshake(struct hf_tls_stream *s);
/* > 0 bytes, 0 wait, -errno; -ENODATA: peer closed cleanly or not (see failure). */
ssize_t hf_tls_read(struct hf_tls_stream *s, void *buf, size_t len);
/*
 * > 0 bytes taken (may be fewer), 0 wait, -errno. After 0 the next call must begin with the same
 * bytes (they may have moved and become more).
 */
ssize_t hf_tls_write(struct hf_tls_stream *s, const void *buf, size_t len);
/* Sends close_notify, best effort, once. */
void hf_tls_close_notify(struct hf_tls_stream *s);

int hf_tls_fd(const struct hf_tls_stream *s);
/* EPOLLIN and/or EPOLLOUT that the last call waits for; always has EPOLLIN once established. */
uint32_t hf_tls_events(const struct hf_tls_stream *s);
/* True: decrypted bytes are buffered, call hf_tls_read() without waiting for the fd. */
bool hf_tls_pending(const struct hf_tls_stream *s);

enum hf_tls_failure hf_tls_failure(const struct hf_tls_stream *s);
int hf_tls_errno(const struct hf_tls_stream *s);
int hf_tls_alert(const struct hf_tls_stream *s);
/* One line for people: "certificate issued by 'ACME Web Gateway', expected …". Never NULL. */
const char *hf_tls_error(const struct hf_tls_stream *s);

bool hf_tls_resumed(const struct hf_tls_stream *s);
const char *hf_tls_version(const struct hf_tls_stream *s); /* "TLSv1.3" */
/*
 * The peer's leaf certificate in DER, verified. *ret borrowed from the stream until it is freed.
 * -ENOENT: the peer sent none. -EKEYREJECTED: it sent one that does not verify (server side with
 * a request); its reason is hf_tls_error().
 */
int hf_tls_peer_cert(struct hf_tls_stream *s, const uint8_t **ret_der, size_t *ret_len);
/*
 * The same without the verdict: whose key the peer has proven to hold, for renewal after expiry and
 * for saying who was refused. -ENOENT.
 */
int hf_tls_peer_cert_any(struct hf_tls_stream *s, const uint8_t **ret_der, size_t *ret_len);
/* Why hf_tls_peer_cert() is -EKEYREJECTED; HF_TLS_OK otherwise. The stream itself is usable. */
enum hf_tls_failure hf_tls_peer_cert_failure(struct hf_tls_stream *s);
