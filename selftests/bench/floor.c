/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor under a reconnect: what OpenSSL and blocking sockets alone need for TCP, resumed TLS
 * 1.3 with a client certificate, the WebSocket upgrade and the first OpAMP reply of a portal. None
 * of the product's code is in here, on purpose: the product's own figure is shown as a ratio to it.
 *
 * One unmeasured connection fetches a session. Each measured one is resumed (a full handshake in
 * between is counted apart and fails the run) and ends by a reset, as in the fault it is compared
 * with.
 *
 *	floor --host H --port P --ca FILE [--cert FILE --key FILE] [--token T] [--count N] [--json|--paced]
 *
 * --paced: one connection for each line on standard input, answered by a line with its phases in µs,
 * until the input ends. A bench takes its turns with it so that both meet the same machine.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "holdfast/session.h"

#define COUNT_MAX 100000
#define REPLY_MAX (1u << 20)

enum phase { TCP, TLS, UPGRADE, REPLY, PHASES };

struct options {
	const char *host, *port, *ca, *cert, *key, *token;
	unsigned count;
	bool json, paced;
};

struct run {
	struct options o;
	struct addrinfo *address;
	SSL_CTX *ctx;
	SSL_SESSION *session;
	uint8_t uid[16];
	uint8_t message[512]; /* the whole masked frame */
	size_t message_len;
	uint64_t *total_us, *phase_us[PHASES];
};

static _Noreturn void die(const char *what)
{
	unsigned long e = ERR_peek_last_error();

	fprintf(stderr, "floor: %s: %s\n", what,
		e       ? ERR_reason_error_string(e)
		: errno ? strerror(errno)
			: "unexpected");
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the message ----------------------------------------------------------------------------- */

static size_t put_bytes(uint8_t *dst, unsigned field, const void *data, size_t len)
{
	dst[0] = (uint8_t)(field << 3 | 2);
	dst[1] = (uint8_t)len; /* all of ours are shorter than 128 */
	memcpy(dst + 2, data, len);
	return len + 2;
}

/* AgentToServer{instance_uid, sequence_num, capabilities, custom_capabilities, hello} as a frame. */
static void make_message(struct run *r)
{
	static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
	uint8_t body[256], inner[128], hello[16], *f = r->message;
	size_t n = 0, k, h = 0;
	uint64_t sent = (uint64_t)time(NULL) * 1000000000u;

	body[n++] = 0; /* OpAMP's WebSocket header */
	n += put_bytes(body + n, 1, r->uid, sizeof(r->uid));
	body[n++] = 2 << 3;
	body[n++] = 1;
	body[n++] = 4 << 3;
	body[n++] = 1; /* ReportsStatus */
	k = put_bytes(inner, 1, HF_CAP_SESSION, strlen(HF_CAP_SESSION));
	n += put_bytes(body + n, 12, inner, k);
	hello[h++] = 7 << 3;
	for (; sent >= 0x80; sent >>= 7)
		hello[h++] = (uint8_t)(sent | 0x80);
	hello[h++] = (uint8_t)sent;
	k = put_bytes(inner, 1, HF_CAP_SESSION, strlen(HF_CAP_SESSION));
	k += put_bytes(inner + k, 2, HF_MSG_HELLO, strlen(HF_MSG_HELLO));
	k += put_bytes(inner + k, 3, hello, h);
	n += put_bytes(body + n, 13, inner, k);

	*f++ = 0x82;
	if (n < 126) {
		*f++ = (uint8_t)(0x80 | n);
	} else {
		*f++ = 0x80 | 126;
		*f++ = (uint8_t)(n >> 8);
		*f++ = (uint8_t)n;
	}
	memcpy(f, mask, 4);
	f += 4;
	for (size_t i = 0; i < n; i++)
		*f++ = body[i] ^ mask[i % 4];
	r->message_len = (size_t)(f - r->message);
}

/* ---- one connection -------------------------------------------------------------------------- */

static void read_exactly(SSL *ssl, uint8_t *buf, size_t len)
{
	size_t n;

	for (size_t at = 0; at < len; at += n)
		if (SSL_read_ex(ssl, buf + at, len - at, &n) != 1)
			die("read");
}

static void upgrade(const struct run *r, SSL *ssl)
{
	char head[2048];
	size_t len = 0, n;
	int want;

	want = snprintf(head, sizeof(head),
			"GET /v1/opamp HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\n"
			"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s%s%s\r\n",
			r->o.host, r->o.port, r->o.token ? "Authorization: Bearer " : "",
			r->o.token ? r->o.token : "", r->o.token ? "\r\n" : "");
	if (want < 0 || want >= (int)sizeof(head))
		die("request");
	if (SSL_write_ex(ssl, head, (size_t)want, &n) != 1)
		die("write");
	/* The portal says nothing before our first message: no byte behind the head is lost. */
	do {
		if (len == sizeof(head) - 1 ||
		    SSL_read_ex(ssl, head + len, sizeof(head) - 1 - len, &n) != 1)
			die("upgrade");
		len += n;
		head[len] = '\0';
	} while (!strstr(head, "\r\n\r\n"));
	if (strncmp(head, "HTTP/1.1 101 ", 13) != 0) {
		fprintf(stderr, "floor: the portal answered: %.*s\n", (int)strcspn(head, "\r"),
			head);
		exit(1);
	}
}

/* The top-level fields of a ServerToAgent: error_response is a refusal. */
static bool is_refusal(const uint8_t *p, size_t len)
{
	const uint8_t *end = p + len;

	while (p < end) {
		unsigned tag = *p++;
		uint64_t v = 0;

		if (tag >> 3 == 2)
			return true;
		for (unsigned shift = 0; p < end && shift < 64; shift += 7) {
			v |= (uint64_t)(*p & 0x7f) << shift;
			if (!(*p++ & 0x80))
				break;
		}
		if ((tag & 7) == 2) {
			if (v > (uint64_t)(end - p))
				return true;
			p += v;
		} else if ((tag & 7) != 0) {
			return true;
		}
	}
	return false;
}

static void exchange(const struct run *r, SSL *ssl)
{
	static uint8_t payload[REPLY_MAX];
	uint8_t head[10];
	uint64_t len;
	size_t n;

	if (SSL_write_ex(ssl, r->message, r->message_len, &n) != 1)
		die("write");
	read_exactly(ssl, head, 2);
	len = head[1] & 0x7f;
	if (len >= 126) {
		unsigned more = len == 126 ? 2 : 8;

		read_exactly(ssl, head + 2, more);
		len = 0;
		for (unsigned i = 0; i < more; i++)
			len = len << 8 | head[2 + i];
	}
	if (len > sizeof(payload))
		die("reply too long");
	read_exactly(ssl, payload, len);
	if (head[0] != 0x82 || len < 1 || payload[0] != 0 || is_refusal(payload + 1, len - 1)) {
		fprintf(stderr, "floor: the portal refused (first byte %02x, %llu bytes)\n",
			head[0], (unsigned long long)len);
		exit(1);
	}
}

static SSL *ssl_make(const struct run *r, int fd)
{
	SSL *ssl = SSL_new(r->ctx);
	struct in6_addr any;

	if (!ssl || SSL_set_fd(ssl, fd) != 1)
		die("SSL_new");
	if (inet_pton(AF_INET, r->o.host, &any) == 1 || inet_pton(AF_INET6, r->o.host, &any) == 1)
		(void)X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), r->o.host);
	else if (SSL_set1_host(ssl, r->o.host) != 1 ||
		 SSL_set_tlsext_host_name(ssl, r->o.host) != 1)
		die("host name");
	if (r->session && SSL_set_session(ssl, r->session) != 1)
		die("session");
	return ssl;
}

/* Returns whether TLS was resumed; at[] are the ends of the phases. */
static bool connect_once(struct run *r, uint64_t at[PHASES + 1])
{
	const struct addrinfo *a = r->address;
	struct linger reset = {.l_onoff = 1};
	const int one = 1;
	bool resumed;
	SSL *ssl;
	int fd;

	at[0] = now_ns();
	fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
		die("connect");
	at[1 + TCP] = now_ns();
	ssl = ssl_make(r, fd);
	if (SSL_connect(ssl) != 1)
		die("TLS");
	at[1 + TLS] = now_ns();
	upgrade(r, ssl);
	at[1 + UPGRADE] = now_ns();
	exchange(r, ssl);
	at[1 + REPLY] = now_ns();

	resumed = SSL_session_reused(ssl);
	SSL_SESSION_free(r->session);
	r->session = SSL_get1_session(ssl);
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(ssl);
	close(fd);
	return resumed;
}

/* ---- figures --------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Nearest rank, of a sorted array. */
static uint64_t percentile(const uint64_t *sorted, unsigned n, unsigned p)
{
	return sorted[(n * p + 99) / 100 - 1];
}

static void print(struct run *r)
{
	static const char *const names[PHASES] = {"tcp", "tls", "upgrade", "reply"};
	unsigned n = r->o.count;

	if (r->o.json) {
		printf("{\"count\":%u,\"us\":[", n);
		for (unsigned i = 0; i < n; i++)
			printf("%s%llu", i ? "," : "", (unsigned long long)r->total_us[i]);
		printf("],\"phases_p50_us\":{");
	}
	for (unsigned p = 0; p < PHASES; p++) {
		qsort(r->phase_us[p], n, sizeof(uint64_t), compare);
		printf(r->o.json ? "%s\"%s\":%llu" : "%s%s p50 %llu us", p ? "," : "", names[p],
		       (unsigned long long)percentile(r->phase_us[p], n, 50));
	}
	qsort(r->total_us, n, sizeof(uint64_t), compare);
	printf(r->o.json ? "},\"p50_us\":%llu,\"p95_us\":%llu,\"p99_us\":%llu}\n"
			 : "\ntotal p50 %llu p95 %llu p99 %llu us\n",
	       (unsigned long long)percentile(r->total_us, n, 50),
	       (unsigned long long)percentile(r->total_us, n, 95),
	       (unsigned long long)percentile(r->total_us, n, 99));
}

/* ---- start ----------------------------------------------------------------------------------- */

static struct options parse_options(int argc, char **argv)
{
	static const struct option table[] = {
		{"host", required_argument, NULL, 'h'},  {"port", required_argument, NULL, 'p'},
		{"ca", required_argument, NULL, 'a'},    {"cert", required_argument, NULL, 'c'},
		{"key", required_argument, NULL, 'k'},   {"token", required_argument, NULL, 't'},
		{"count", required_argument, NULL, 'n'}, {"json", no_argument, NULL, 'j'},
		{"paced", no_argument, NULL, 's'},       {},
	};
	struct options o = {.host = "127.0.0.1", .count = 200};
	int c;

	while ((c = getopt_long(argc, argv, "", table, NULL)) >= 0) {
		switch (c) {
		case 'h':
			o.host = optarg;
			break;
		case 'p':
			o.port = optarg;
			break;
		case 'a':
			o.ca = optarg;
			break;
		case 'c':
			o.cert = optarg;
			break;
		case 'k':
			o.key = optarg;
			break;
		case 't':
			o.token = optarg;
			break;
		case 'n':
			o.count = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'j':
			o.json = true;
			break;
		case 's':
			o.paced = true;
			break;
		default:
			exit(2);
		}
	}
	if (!o.port || !o.ca || optind != argc || o.count == 0 || o.count > COUNT_MAX) {
		fprintf(stderr, "usage: floor --host H --port P --ca FILE [--cert FILE --key FILE] "
				"[--token T] [--count N] [--json|--paced]\n");
		exit(2);
	}
	return o;
}

static SSL_CTX *context_make(const struct options *o)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_load_verify_file(ctx, o->ca) != 1)
		die(o->ca);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (o->cert && SSL_CTX_use_certificate_chain_file(ctx, o->cert) != 1)
		die(o->cert);
	if (o->key && SSL_CTX_use_PrivateKey_file(ctx, o->key, SSL_FILETYPE_PEM) != 1)
		die(o->key);
	return ctx;
}

static bool measure(struct run *r, unsigned i)
{
	uint64_t at[PHASES + 1];

	if (!connect_once(r, at)) {
		fprintf(stderr, "floor: connection %u was not resumed\n", i);
		return false;
	}
	r->total_us[i] = (at[PHASES] - at[0]) / 1000;
	for (unsigned p = 0; p < PHASES; p++)
		r->phase_us[p][i] = (at[p + 1] - at[p]) / 1000;
	return true;
}

/* What each line of the input asks for. */
static bool measure_paced(struct run *r)
{
	char line[16];

	while (fgets(line, sizeof(line), stdin)) {
		if (!measure(r, 0))
			return false;
		for (unsigned p = 0; p < PHASES; p++)
			printf("%llu ", (unsigned long long)r->phase_us[p][0]);
		printf("%llu\n", (unsigned long long)r->total_us[0]);
		(void)fflush(stdout);
	}
	return true;
}

int main(int argc, char **argv)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct run r = {.o = parse_options(argc, argv)};
	uint64_t at[PHASES + 1];
	int e = getaddrinfo(r.o.host, r.o.port, &hints, &r.address);

	if (e != 0) {
		fprintf(stderr, "floor: %s: %s\n", r.o.host, gai_strerror(e));
		return 1;
	}
	r.ctx = context_make(&r.o);
	r.total_us = calloc(r.o.count, sizeof(uint64_t));
	for (unsigned p = 0; p < PHASES; p++)
		r.phase_us[p] = calloc(r.o.count, sizeof(uint64_t));
	if (!r.total_us || !r.phase_us[REPLY] || getrandom(r.uid, sizeof(r.uid), 0) < 0)
		die("start");
	r.uid[6] = (r.uid[6] & 0x0f) | 0x70; /* UUID version 7, variant 1 */
	r.uid[8] = (r.uid[8] & 0x3f) | 0x80;
	make_message(&r);

	(void)connect_once(&r, at);
	if (r.o.paced) {
		if (!measure_paced(&r))
			return 1;
	} else {
		for (unsigned i = 0; i < r.o.count; i++)
			if (!measure(&r, i))
				return 1;
		print(&r);
	}
	SSL_SESSION_free(r.session);
	SSL_CTX_free(r.ctx);
	freeaddrinfo(r.address);
	free(r.total_us);
	for (unsigned p = 0; p < PHASES; p++)
		free(r.phase_us[p]);
	return 0;
}
