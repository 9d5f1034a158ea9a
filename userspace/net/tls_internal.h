/* SPDX-License-Identifier: Apache-2.0 */
/* What tls_context.c (trust, verification, sessions) and tls_stream.c (one connection) share. */
#pragma once

#include <openssl/ssl.h>

#include "userspace/net/tls_stream.h"

/* A fleet has a handful of portal endpoints; the oldest name leaves first. */
#define HF_TLS_SESSIONS_MAX 8u
#define HF_TLS_PINS_MAX     16u

struct hf_tls_session {
	char *name;
	/*
	 * A copy no connection has: OpenSSL marks the session of one that ended by a fatal alert as not
	 * resumable. Kept decoded: decoding its certificate took as long as the resumed handshake.
	 */
	SSL_SESSION *session;
	uint64_t stored; /* order of storing */
};

struct hf_tls_context {
	bool server;
	SSL_CTX *ssl;
	X509_CRL *crl; /* server, may be NULL */
	char expected
		[128]; /* name of the CA we trust, for error texts; "" for the system's store */
	uint8_t pins[HF_TLS_PINS_MAX][32];
	size_t n_pins;
	time_t verify_at;     /* 0: now */
	uint8_t identity[32]; /* hash of trust, pins and client certificate */
	struct hf_tls_session sessions[HF_TLS_SESSIONS_MAX];
	uint64_t stored;
};

struct hf_tls_stream {
	struct hf_tls_context *context; /* borrowed, outlives the stream */
	SSL *ssl;
	int fd;
	char *server_name; /* client: without a final dot, NULL on the server side */
	bool established;
	bool eof; /* recv() returned 0 */
	bool close_sent;
	bool hold, cork, corked;        /* see bio_write() */
	unsigned turns;                 /* calls of the handshake */
	int sys_errno;                  /* of the last hard error of recv() or send() */
	uint32_t want_read, want_write; /* EPOLLIN or EPOLLOUT, what each direction waits for */
	int error;                      /* sticky -errno */
	enum hf_tls_failure failure;
	int alert;
	char *text;

	enum hf_tls_failure peer_failure; /* server: why the peer's certificate was refused */
	bool peer_judged;
	uint8_t *peer_der;
	size_t peer_len;
};

/* The stream of an SSL, by ex_data. */
struct hf_tls_stream *hf_tls_stream_of(const SSL *ssl);
int hf_tls_stream_ex_index(void);

/* Keeps the reason; the first one stays. Text is printf-style and allocated. */
void hf_tls_set_text(struct hf_tls_stream *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* X509_V_ERR_… to our reasons; HF_TLS_CERT_UNTRUSTED for what has no better name. */
enum hf_tls_failure hf_tls_failure_of_verify(long error);
/* Server, resumed: the ticket vouches for the chain, not for today. Sets peer_failure and text. */
void hf_tls_judge_resumed_peer(struct hf_tls_stream *s);

/* A session for this name that may be used now, owned by the caller; NULL if there is none. */
SSL_SESSION *hf_tls_session_get(struct hf_tls_context *c, const char *name);
void hf_tls_session_drop(struct hf_tls_context *c, const char *name);
