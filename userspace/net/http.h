/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 messages, strict (RFC 9112): an incremental parser for requests (portal) and responses
 * (agent: upgrade and CONNECT), without I/O. Refused: obsolete folding, bare LF or CR, spaces
 * before the colon, a control character in a value, Content-Length twice with different values or
 * together with Transfer-Encoding, any transfer coding but chunked, more than one Host.
 *
 * Bounds: HF_HTTP_HEAD_MAX for start line and headers together, HF_HTTP_HEADERS_MAX of them; the
 * body's cap is the caller's. One loop thread; silent.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/str.h"

#define HF_HTTP_HEAD_MAX    8192u /* a cookie and a token fit; a flood does not */
#define HF_HTTP_HEADERS_MAX 64u
#define HF_HTTP_TARGET_MAX  2048u

enum hf_http_kind { HF_HTTP_REQUEST, HF_HTTP_RESPONSE };

struct hf_http_header {
	const char *name;  /* as sent; compare without case */
	const char *value; /* trimmed */
};

struct hf_http_message {
	enum hf_http_kind kind;
	const char *method; /* request */
	const char *target;
	unsigned status; /* response */
	const char *reason;
	unsigned minor; /* HTTP/1.x */
	struct hf_http_header headers[HF_HTTP_HEADERS_MAX];
	size_t n_headers;
	const uint8_t *body; /* whole, once complete */
	size_t body_len;
	bool keep_alive;
	bool upgrade_websocket; /* Connection: upgrade and Upgrade: websocket are both there */
	bool expect_continue;
};

struct hf_http_parser;

/*
 * max_body: larger bodies fail with -EMSGSIZE (413). For a response to CONNECT set no_body:
 * everything behind the head is the next protocol's. For a response to an Upgrade it need not be
 * set (101 never has a body, and a refusal's body may name the reason). Interim responses but 101
 * are skipped.
 */
int hf_http_parser_new(enum hf_http_kind kind, size_t max_body, bool no_body,
		       struct hf_http_parser **ret);
struct hf_http_parser *hf_http_parser_free(struct hf_http_parser *p);
HF_DEFINE_CLEANUP(struct hf_http_parser *, hf_http_parser_free);

/*
 * Feeds bytes. Returns how many were taken (the rest belongs to what follows); afterwards
 * hf_http_parser_message() is non-NULL once complete. -EBADMSG malformed (400), -EMSGSIZE body too
 * large (413), -E2BIG head or target too large (431), -ENOSYS unknown transfer coding (501), -EPROTONOSUPPORT
 * version (505).
 */
ssize_t hf_http_parse(struct hf_http_parser *p, const uint8_t *data, size_t len);
/*
 * The peer closed its side. A response without any length ends so and is complete now: 0. -EBADMSG:
 * truncated.
 */
int hf_http_parser_eof(struct hf_http_parser *p);
/* The head is complete (headers readable), the body perhaps not. NULL before. */
const struct hf_http_message *hf_http_parser_head(const struct hf_http_parser *p);
/* The message is complete; borrowed from the parser until reset. */
const struct hf_http_message *hf_http_parser_message(const struct hf_http_parser *p);
/* For the next message on the connection. */
void hf_http_parser_reset(struct hf_http_parser *p);

/* First value of a header, NULL if absent. */
const char *hf_http_header(const struct hf_http_message *m, const char *name);
/* True iff the comma-separated header has the token (without case). */
bool hf_http_has_token(const struct hf_http_message *m, const char *name, const char *token);

/* Splits "/a/b?x=1": decoded path (-EINVAL on bad escapes, controls, "..") and borrowed query. */
int hf_http_split_target(const char *target, char *path, size_t path_size, const char **ret_query);
/* Finds and percent-decodes key in a query. -ENOENT, -EINVAL, -ENOBUFS. */
int hf_http_query(const char *query, const char *key, char *dst, size_t size);

struct hf_url {
	bool tls;       /* https, wss */
	char host[256]; /* without brackets */
	uint16_t port;
	char path[HF_HTTP_TARGET_MAX]; /* with query, at least "/" */
	bool ipv6;                     /* host is an IPv6 literal */
	char userinfo[256];            /* decoded "user:password", empty mostly; secret */
};

/* http, https, ws, wss; default ports 80 and 443. -EINVAL. */
int hf_url_parse(const char *s, struct hf_url *ret);
/* "host:port" with brackets for IPv6. */
void hf_url_authority(const struct hf_url *u, char *dst, size_t size);
const char *hf_http_status_text(unsigned status);
