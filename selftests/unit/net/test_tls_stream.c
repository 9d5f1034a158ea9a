/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS over loopback TCP, both ends in this thread: certificates that must be refused, each with its
 * own reason; client certificates that must be recorded; resumption after abrupt drops; peers that
 * are not TLS, too old, or gone. It is one file because all of it needs the same pair of ends and
 * the same small CA.
 */
#include "selftests/unit/net/certs.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "userspace/net/tls_stream.h"

#define NAME "portal.example.com"
#define SAN  "DNS:portal.example.com,IP:127.0.0.1,IP:::1"

struct fixture {
	struct hf_test_dir *dir;
	struct test_cert ca, other_ca;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	void *dir = NULL;

	if (!f || hf_test_dir_setup(&dir) < 0)
		return -1;
	f->dir = dir;
	f->ca = test_cert_make((struct test_cert_spec){.cn = "Holdfast CA", .ca = true});
	f->other_ca = test_cert_make((struct test_cert_spec){.cn = "ACME Web Gateway", .ca = true});
	test_cert_write(f->dir, "ca", &f->ca, NULL);
	test_cert_write(f->dir, "other", &f->other_ca, NULL);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	void *dir = f->dir;

	test_cert_free(&f->ca);
	test_cert_free(&f->other_ca);
	free(f);
	return hf_test_dir_teardown(&dir);
}

/* A path below the fixture's directory; four may be in use at a time. */
static const char *path_of(const struct fixture *f, const char *name)
{
	static char paths[8][600];
	static unsigned next;
	char *p = paths[next++ % 8];

	(void)hf_strf(p, sizeof(paths[0]), "%s/%s", f->dir->path, name);
	return p;
}

static void issue(const struct fixture *f, const char *name, struct test_cert_spec spec)
{
	struct test_cert c = test_cert_make(spec);

	test_cert_write(f->dir, name, &c,
			spec.issuer && spec.issuer != &f->ca ? spec.issuer : NULL);
	test_cert_free(&c);
}

/* ---- two connected, non-blocking TCP sockets -------------------------------------------------- */

static void tcp_pair(int ret[2])
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(ret[0], (struct sockaddr *)&addr, sizeof(addr)), 0);
	ret[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(ret[1] >= 0);
	assert_ok(hf_set_nonblock(ret[0], true));
	assert_ok(hf_set_nonblock(ret[1], true));
	close(listener);
}

static void reset_on_close(int fd)
{
	struct linger l = {.l_onoff = 1};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
}

static struct hf_tls_context *client_context(const struct fixture *f,
					     const struct hf_tls_client_options *more)
{
	struct hf_tls_client_options o = more ? *more : (struct hf_tls_client_options){};
	struct hf_tls_context *c = NULL;
	struct hf_err err = {};

	if (!o.ca_file)
		o.ca_file = path_of(f, "ca.pem");
	if (hf_tls_client_context_new(&o, &c, &err) < 0)
		fail_msg("%s", err.msg);
	return c;
}

/* The server's own certificate is "<name>.pem"; it is asked for client certificates of ca.pem. */
static struct hf_tls_context *server_context(const struct fixture *f, const char *name,
					     const char *crl)
{
	_cleanup_free_ char *cert = hf_asprintf("%s/%s.pem", f->dir->path, name);
	_cleanup_free_ char *key = hf_asprintf("%s/%s.key", f->dir->path, name);
	struct hf_tls_server_options o = {
		.cert_file = cert,
		.key_file = key,
		.client_ca_file = path_of(f, "ca.pem"),
		.crl_file = crl ? path_of(f, crl) : NULL,
	};
	struct hf_tls_context *c = NULL;
	struct hf_err err = {};

	if (hf_tls_server_context_new(&o, &c, &err) < 0)
		fail_msg("%s", err.msg);
	return c;
}

/* Steps both ends until each is done or failed. */
static void handshake(struct hf_tls_stream *a, struct hf_tls_stream *b, int *ret_a, int *ret_b)
{
	*ret_a = *ret_b = 0;
	for (unsigned i = 0; i < 100 && (*ret_a == 0 || *ret_b == 0); i++) {
		if (*ret_a == 0)
			*ret_a = hf_tls_handshake(a);
		if (*ret_b == 0)
			*ret_b = hf_tls_handshake(b);
		/* A failed end's alert is on its way; the other one must see the end too. */
		if (*ret_a < 0 && *ret_b == 0)
			(void)shutdown(hf_tls_fd(a), SHUT_WR);
		if (*ret_b < 0 && *ret_a == 0)
			(void)shutdown(hf_tls_fd(b), SHUT_WR);
	}
	assert_int_not_equal(*ret_a, 0);
	assert_int_not_equal(*ret_b, 0);
}

struct pair {
	struct hf_tls_stream *client, *server;
	int r_client, r_server;
};

static struct pair pair_make(struct hf_tls_context *client, struct hf_tls_context *server,
			     const char *name)
{
	struct pair p = {};
	int fds[2];

	tcp_pair(fds);
	assert_ok(hf_tls_stream_new(client, fds[0], name, &p.client));
	assert_ok(hf_tls_stream_new(server, fds[1], NULL, &p.server));
	handshake(p.client, p.server, &p.r_client, &p.r_server);
	return p;
}

static void pair_free(struct pair *p)
{
	hf_tls_stream_free(p->client);
	hf_tls_stream_free(p->server);
}

/* Reads with a deadline; 0 bytes only when nothing came within it. */
static ssize_t read_wait(struct hf_tls_stream *s, void *buf, size_t len)
{
	for (unsigned i = 0; i < 100; i++) {
		ssize_t n = hf_tls_read(s, buf, len);
		struct pollfd p = {.fd = hf_tls_fd(s), .events = POLLIN};

		if (n != 0)
			return n;
		(void)poll(&p, 1, 20);
	}
	return 0;
}

/* Moves "hello" from a to b, which also lets a client see the server's tickets. */
static void exchange(struct hf_tls_stream *from, struct hf_tls_stream *to)
{
	char buf[16];

	assert_int_equal(hf_tls_write(from, "hello", 5), 5);
	assert_int_equal(read_wait(to, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
}

/* ---- a server that knows nothing of our rules ------------------------------------------------- */

struct raw_server {
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;
};

static struct raw_server raw_server_make(const struct fixture *f, const char *name, int max_version,
					 int fd)
{
	struct raw_server s = {.ctx = SSL_CTX_new(TLS_server_method()), .fd = fd};
	_cleanup_free_ char *cert = hf_asprintf("%s/%s.pem", f->dir->path, name);
	_cleanup_free_ char *key = hf_asprintf("%s/%s.key", f->dir->path, name);

	SSL_CTX_set_security_level(s.ctx, 0);
	assert_int_equal(SSL_CTX_set_min_proto_version(s.ctx, TLS1_VERSION), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(s.ctx, max_version), 1);
	assert_int_equal(SSL_CTX_use_certificate_chain_file(s.ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey_file(s.ctx, key, SSL_FILETYPE_PEM), 1);
	s.ssl = SSL_new(s.ctx);
	SSL_set_fd(s.ssl, fd);
	SSL_set_accept_state(s.ssl);
	return s;
}

static void raw_server_free(struct raw_server *s)
{
	SSL_free(s->ssl);
	SSL_CTX_free(s->ctx);
	close(s->fd);
}

/* What the client makes of a server with this certificate. */
static struct hf_tls_stream *client_against_raw(struct hf_tls_context *client,
						const struct fixture *f, const char *cert,
						int max_version, const char *name, int *ret)
{
	struct hf_tls_stream *s = NULL;
	struct raw_server raw;
	int fds[2];

	tcp_pair(fds);
	raw = raw_server_make(f, cert, max_version, fds[1]);
	assert_ok(hf_tls_stream_new(client, fds[0], name, &s));
	*ret = 0;
	for (unsigned i = 0; i < 100 && *ret == 0; i++) {
		*ret = hf_tls_handshake(s);
		(void)SSL_do_handshake(raw.ssl);
	}
	raw_server_free(&raw);
	return s;
}

/* ---- the facts -------------------------------------------------------------------------------- */

static void a_server_certificate_that_is_wrong_is_refused_with_its_reason(void **state)
{
	struct fixture *f = *state;
	const long day = 86400;
	struct test_cert namesake =
		test_cert_make((struct test_cert_spec){.cn = "Holdfast CA", .ca = true});
	struct test_cert sha1_ca = test_cert_make((struct test_cert_spec){
		.cn = "Old Sub CA", .ca = true, .issuer = &f->ca, .md = EVP_sha1()});
	const struct {
		const char *what;
		struct test_cert_spec spec;
		const char *name;
		enum hf_tls_failure failure;
		const char *text;
	} table[] = {
		{"expired",
		 {.cn = "p", .san = SAN, .issuer = &f->ca, .from_s = -2 * day, .to_s = -day},
		 NAME,
		 HF_TLS_CERT_EXPIRED,
		 "'p' expired at "},
		{"not yet valid",
		 {.cn = "p", .san = SAN, .issuer = &f->ca, .from_s = day, .to_s = 2 * day},
		 NAME,
		 HF_TLS_CERT_NOT_YET_VALID,
		 "'p' is valid from "},
		{"other CA, our name: interception",
		 {.cn = "p", .san = SAN, .issuer = &f->other_ca},
		 NAME,
		 HF_TLS_INTERCEPTED,
		 "issued by 'ACME Web Gateway', expected 'Holdfast CA'"},
		{"other CA, another name",
		 {.cn = "p", .san = "DNS:other", .issuer = &f->other_ca},
		 NAME,
		 HF_TLS_CERT_UNTRUSTED,
		 "issued by 'ACME Web Gateway'"},
		{"our CA made anew under the same name",
		 {.cn = "p", .san = SAN, .issuer = &namesake},
		 NAME,
		 HF_TLS_CERT_UNTRUSTED,
		 "issued by 'Holdfast CA'"},
		{"self-signed", {.cn = "p", .san = SAN}, NAME, HF_TLS_CERT_UNTRUSTED, "self"},
		{"wrong host",
		 {.cn = NAME, .san = "DNS:other.example.com", .issuer = &f->ca},
		 NAME,
		 HF_TLS_CERT_NAME,
		 "is not for '" NAME "'"},
		{"wildcard one level up",
		 {.cn = "p", .san = "DNS:*.com", .issuer = &f->ca},
		 NAME,
		 HF_TLS_CERT_NAME,
		 "is not for"},
		{"wrong address",
		 {.cn = "p", .san = "IP:127.0.0.2,DNS:127.0.0.1", .issuer = &f->ca},
		 "127.0.0.1",
		 HF_TLS_CERT_NAME,
		 "is not for '127.0.0.1'"},
		{"SHA-1",
		 {.cn = "p", .san = SAN, .issuer = &f->ca, .md = EVP_sha1()},
		 NAME,
		 HF_TLS_WEAK_CRYPTO,
		 "digest algorithm too weak"},
		{"SHA-1 in the intermediate",
		 {.cn = "p", .san = SAN, .issuer = &sha1_ca},
		 NAME,
		 HF_TLS_WEAK_CRYPTO,
		 "digest algorithm too weak"},
		{"RSA-1024",
		 {.cn = "p", .san = SAN, .issuer = &f->ca, .rsa_bits = 1024},
		 NAME,
		 HF_TLS_WEAK_CRYPTO,
		 "key too weak"},
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
			_cleanup_(hf_tls_context_freep) struct hf_tls_context *client =
				client_context(f, NULL);
			_cleanup_(hf_tls_stream_freep) struct hf_tls_stream *s = NULL;
			uint8_t *blob;
			size_t len;
			int r;

			issue(f, "server", table[i].spec);
			s = client_against_raw(client, f, "server", version, table[i].name, &r);
			if (r != -EPROTO || hf_tls_failure(s) != table[i].failure ||
			    !strstr(hf_tls_error(s), table[i].text))
				fail_msg("%s: %d %s: %s", table[i].what, r,
					 hf_tls_failure_name(hf_tls_failure(s)), hf_tls_error(s));
			assert_err(hf_tls_handshake(s), -EPROTO);
			assert_err(hf_tls_session_serialize(client, table[i].name, &blob, &len),
				   -ENOENT);
		}
	}
	test_cert_free(&namesake);
	test_cert_free(&sha1_ca);
}

static void names_and_addresses_of_the_certificate_are_accepted(void **state)
{
	static const char *const names[] = {NAME, NAME ".", "127.0.0.1", "::1",
					    "PORTAL.example.com"};
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = client_context(f, NULL);
	struct hf_tls_context *server;

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	server = server_context(f, "server", NULL);
	for (size_t i = 0; i < HF_ARRAY_SIZE(names); i++) {
		struct pair p = pair_make(client, server, names[i]);
		const uint8_t *der;
		size_t len;

		assert_int_equal(p.r_client, 1);
		assert_int_equal(p.r_server, 1);
		assert_string_equal(hf_tls_version(p.client), "TLSv1.3");
		/* The final dot makes no other name. */
		assert_int_equal(hf_tls_resumed(p.client), i == 1);
		exchange(p.client, p.server);
		exchange(p.server, p.client);
		assert_ok(hf_tls_peer_cert(p.client, &der, &len));
		assert_true(len > 100);
		assert_err(hf_tls_peer_cert(p.server, &der, &len), -ENOENT);
		assert_int_equal(hf_tls_peer_cert_failure(p.server), HF_TLS_OK);
		assert_int_equal(hf_tls_events(p.client), EPOLLIN);
		pair_free(&p);
	}
	hf_tls_context_free(server);
}

static void tls12_is_the_floor(void **state)
{
	static const struct {
		int version;
		bool accepted;
	} table[] = {{TLS1_VERSION, false},
		     {TLS1_1_VERSION, false},
		     {TLS1_2_VERSION, true},
		     {TLS1_3_VERSION, true}};
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = client_context(f, NULL);

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		_cleanup_(hf_tls_stream_freep) struct hf_tls_stream *s = NULL;
		int r;

		s = client_against_raw(client, f, "server", table[i].version, NAME, &r);
		assert_int_equal(r, table[i].accepted ? 1 : -EPROTO);
		assert_int_equal(hf_tls_failure(s),
				 table[i].accepted ? HF_TLS_OK : HF_TLS_WEAK_CRYPTO);
	}
}

static void client_certificates_are_judged_but_never_cut_the_handshake(void **state)
{
	struct fixture *f = *state;
	const long day = 86400;
	const struct {
		const char *what;
		struct test_cert_spec spec;
		enum hf_tls_failure failure;
		const char *text;
	} table[] = {
		{"good", {.cn = "host", .issuer = &f->ca, .serial = 7}, HF_TLS_OK, ""},
		{"expired",
		 {.cn = "host", .issuer = &f->ca, .from_s = -2 * day, .to_s = -day},
		 HF_TLS_CERT_EXPIRED,
		 "'host' expired at "},
		{"not yet valid",
		 {.cn = "host", .issuer = &f->ca, .from_s = day, .to_s = 2 * day},
		 HF_TLS_CERT_NOT_YET_VALID,
		 "'host' is valid from "},
		{"other CA", {.cn = "host", .issuer = &f->other_ca}, HF_TLS_CERT_UNTRUSTED, "ACME"},
		{"self-signed", {.cn = "host"}, HF_TLS_CERT_UNTRUSTED, "self"},
		{"revoked",
		 {.cn = "host", .issuer = &f->ca, .serial = 66},
		 HF_TLS_CERT_REVOKED,
		 "revoked"},
	};
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *server = NULL;

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	/* The list is overdue, which must neither hide a revocation nor refuse everybody. */
	test_crl_write(f->dir, "crl.pem", &f->ca, 66, -60);
	server = server_context(f, "server", "crl.pem");
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = NULL;

		issue(f, "client", table[i].spec);
		client = client_context(f, &(struct hf_tls_client_options){
						   .cert_file = path_of(f, "client.pem"),
						   .key_file = path_of(f, "client.key"),
					   });
		/* Full, then resumed: the verdict is the same. */
		for (unsigned round = 0; round < 2; round++) {
			struct pair p = pair_make(client, server, NAME);
			const uint8_t *der;
			size_t len;

			assert_int_equal(p.r_client, 1);
			assert_int_equal(p.r_server, 1);
			assert_int_equal(hf_tls_resumed(p.server), round == 1);
			exchange(p.client, p.server);
			exchange(p.server, p.client);
			assert_int_equal(hf_tls_peer_cert_failure(p.server), table[i].failure);
			assert_ok(hf_tls_peer_cert_any(p.server, &der, &len));
			assert_err(hf_tls_peer_cert(p.server, &der, &len),
				   table[i].failure == HF_TLS_OK ? 0 : -EKEYREJECTED);
			assert_int_equal(hf_tls_failure(p.server), HF_TLS_OK);
			if (round == 0 && !strstr(hf_tls_error(p.server), table[i].text))
				fail_msg("%s: %s", table[i].what, hf_tls_error(p.server));
			if (table[i].failure != HF_TLS_OK)
				assert_string_not_equal(hf_tls_error(p.server), "");
			pair_free(&p);
		}
	}
}

static void a_certificate_that_expires_or_is_revoked_after_its_ticket_is_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t keys[HF_TLS_TICKET_KEYS_SIZE] = {1, 2, 3};
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = NULL;
	struct hf_tls_context *before, *after;
	struct hf_tls_server_options o = {
		.cert_file = path_of(f, "server.pem"),
		.key_file = path_of(f, "server.key"),
		.client_ca_file = path_of(f, "ca.pem"),
		.ticket_keys = keys,
	};
	struct hf_err err;
	struct pair p;

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	issue(f, "client", (struct test_cert_spec){.cn = "host", .issuer = &f->ca, .serial = 9});
	client = client_context(f, &(struct hf_tls_client_options){
					   .cert_file = path_of(f, "client.pem"),
					   .key_file = path_of(f, "client.key"),
				   });
	assert_ok(hf_tls_server_context_new(&o, &before, &err));
	p = pair_make(client, before, NAME);
	exchange(p.server, p.client);
	assert_int_equal(hf_tls_peer_cert_failure(p.server), HF_TLS_OK);
	pair_free(&p);
	/* The portal restarts: same ticket keys, and a list that names the client. */
	test_crl_write(f->dir, "crl.pem", &f->ca, 9, 3600);
	o.crl_file = path_of(f, "crl.pem");
	assert_ok(hf_tls_server_context_new(&o, &after, &err));
	p = pair_make(client, after, NAME);
	assert_true(hf_tls_resumed(p.server));
	assert_int_equal(hf_tls_peer_cert_failure(p.server), HF_TLS_CERT_REVOKED);
	assert_non_null(strstr(hf_tls_error(p.server), "'host' was revoked"));
	pair_free(&p);
	hf_tls_context_free(before);
	hf_tls_context_free(after);
}

static void sessions_survive_abrupt_drops(void **state)
{
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = NULL;
	struct hf_tls_context *server;
	unsigned resumed = 0;

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	issue(f, "client", (struct test_cert_spec){.cn = "host", .issuer = &f->ca});
	client = client_context(f, &(struct hf_tls_client_options){
					   .cert_file = path_of(f, "client.pem"),
					   .key_file = path_of(f, "client.key"),
				   });
	server = server_context(f, "server", NULL);
	for (unsigned i = 0; i < 21; i++) {
		struct pair p = pair_make(client, server, NAME);
		char byte;

		assert_int_equal(p.r_client, 1);
		assert_int_equal(p.r_server, 1);
		resumed += hf_tls_resumed(p.client);
		exchange(p.client, p.server);
		exchange(p.server, p.client);
		/* Odd ones are cut before the client has read anything more, by the server or itself. */
		reset_on_close(hf_tls_fd(i % 2 ? p.server : p.client));
		if (i % 2) {
			p.server = hf_tls_stream_free(p.server);
			assert_err(read_wait(p.client, &byte, 1), -ECONNRESET);
			assert_int_equal(hf_tls_failure(p.client), HF_TLS_IO);
			assert_int_equal(hf_tls_errno(p.client), ECONNRESET);
		}
		pair_free(&p);
	}
	assert_true(resumed >= 19);
	hf_tls_context_free(server);
}

static void sessions_survive_a_restart_of_the_agent_but_not_a_change_of_trust(void **state)
{
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = client_context(f, NULL);
	struct hf_tls_context *server;
	struct hf_tls_context *next;
	_cleanup_free_ uint8_t *blob = NULL;
	struct test_cert spare = test_cert_make((struct test_cert_spec){.cn = "spare", .ca = true});
	char pin[64];
	const char *const pins[] = {pin};
	struct pair p;
	size_t len;

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	issue(f, "client", (struct test_cert_spec){.cn = "host", .issuer = &f->ca});
	server = server_context(f, "server", NULL);
	assert_err(hf_tls_session_serialize(client, NAME, &blob, &len), -ENOENT);
	p = pair_make(client, server, NAME);
	exchange(p.server, p.client);
	pair_free(&p);
	assert_ok(hf_tls_session_serialize(client, NAME, &blob, &len));
	client = hf_tls_context_free(client);

	next = client_context(f, NULL);
	assert_err(hf_tls_session_restore(next, "other.example.com", blob, len), -ESTALE);
	assert_err(hf_tls_session_restore(next, NAME, blob, 20), -EINVAL);
	assert_err(hf_tls_session_restore(next, NAME, blob, len - 1), -EINVAL);
	assert_ok(hf_tls_session_restore(next, NAME, blob, len));
	p = pair_make(next, server, NAME);
	assert_true(hf_tls_resumed(p.client));
	pair_free(&p);
	hf_tls_context_free(next);

	next = client_context(f,
			      &(struct hf_tls_client_options){.ca_file = path_of(f, "other.pem")});
	assert_err(hf_tls_session_restore(next, NAME, blob, len), -ESTALE);
	hf_tls_context_free(next);
	next = client_context(f, &(struct hf_tls_client_options){
					 .cert_file = path_of(f, "client.pem"),
					 .key_file = path_of(f, "client.key"),
				 });
	assert_err(hf_tls_session_restore(next, NAME, blob, len), -ESTALE);
	hf_tls_context_free(next);
	test_cert_pin(&spare, pin);
	next = client_context(f, &(struct hf_tls_client_options){.pins = pins, .n_pins = 1});
	assert_err(hf_tls_session_restore(next, NAME, blob, len), -ESTALE);
	hf_tls_context_free(next);
	hf_tls_context_free(server);
	test_cert_free(&spare);
}

static void a_ticket_of_another_server_falls_back_to_a_full_handshake(void **state)
{
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = client_context(f, NULL);
	struct hf_tls_context *server;

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	for (unsigned i = 0; i < 3; i++) {
		struct pair p;

		server = server_context(f, "server", NULL);
		p = pair_make(client, server, NAME);
		assert_int_equal(p.r_client, 1);
		assert_false(hf_tls_resumed(p.client));
		exchange(p.server, p.client);
		pair_free(&p);
		hf_tls_context_free(server);
	}
}

static void many_names_keep_the_newest_sessions(void **state)
{
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = client_context(f, NULL);
	struct hf_tls_context *server;
	uint8_t *blob;
	size_t len;

	issue(f, "server",
	      (struct test_cert_spec){.cn = "p", .san = "DNS:*.example.com", .issuer = &f->ca});
	server = server_context(f, "server", NULL);
	for (unsigned i = 0; i < 10; i++) {
		char name[32];
		struct pair p;

		(void)hf_strf(name, sizeof(name), "p%u.example.com", i);
		p = pair_make(client, server, name);
		assert_int_equal(p.r_client, 1);
		exchange(p.server, p.client);
		pair_free(&p);
	}
	assert_err(hf_tls_session_serialize(client, "p1.example.com", &blob, &len), -ENOENT);
	assert_ok(hf_tls_session_serialize(client, "p2.example.com", &blob, &len));
	free(blob);
	assert_ok(hf_tls_session_serialize(client, "p9.example.com", &blob, &len));
	free(blob);
	hf_tls_context_free(server);
}

static void pins_match_the_ca_or_a_backup_but_never_the_leaf(void **state)
{
	struct fixture *f = *state;
	struct test_cert sub = test_cert_make(
		(struct test_cert_spec){.cn = "Sub CA", .ca = true, .issuer = &f->ca});
	struct test_cert leaf =
		test_cert_make((struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &sub});
	char ca_pin[64], sub_pin[64], leaf_pin[64], other_pin[64];
	const struct {
		const char *pins[2];
		size_t n;
		bool accepted;
	} table[] = {
		{{ca_pin}, 1, true},    {{sub_pin}, 1, true},    {{other_pin, ca_pin}, 2, true},
		{{leaf_pin}, 1, false}, {{other_pin}, 1, false}, {{leaf_pin, other_pin}, 2, false},
	};
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *server = NULL;

	test_cert_pin(&f->ca, ca_pin);
	test_cert_pin(&sub, sub_pin);
	test_cert_pin(&leaf, leaf_pin);
	test_cert_pin(&f->other_ca, other_pin);
	test_cert_write(f->dir, "server", &leaf, &sub);
	server = server_context(f, "server", NULL);
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		_cleanup_(hf_tls_context_freep) struct hf_tls_context *client =
			client_context(f, &(struct hf_tls_client_options){.pins = table[i].pins,
									  .n_pins = table[i].n});
		struct pair p = pair_make(client, server, NAME);

		assert_int_equal(p.r_client, table[i].accepted ? 1 : -EPROTO);
		assert_int_equal(hf_tls_failure(p.client),
				 table[i].accepted ? HF_TLS_OK : HF_TLS_PIN_MISMATCH);
		if (!table[i].accepted) {
			assert_non_null(strstr(hf_tls_error(p.client), "'Sub CA'"));
			assert_int_equal(hf_tls_failure(p.server), HF_TLS_ALERT);
		}
		pair_free(&p);
	}
	test_cert_free(&sub);
	test_cert_free(&leaf);
}

static void an_intermediate_may_be_the_anchor(void **state)
{
	struct fixture *f = *state;
	struct test_cert sub = test_cert_make(
		(struct test_cert_spec){.cn = "Sub CA", .ca = true, .issuer = &f->ca});
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = NULL;
	struct hf_tls_context *server;
	struct pair p;

	test_cert_write(f->dir, "sub", &sub, NULL);
	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &sub});
	client = client_context(f,
				&(struct hf_tls_client_options){.ca_file = path_of(f, "sub.pem")});
	server = server_context(f, "server", NULL);
	p = pair_make(client, server, NAME);
	assert_int_equal(p.r_client, 1);
	pair_free(&p);
	hf_tls_context_free(server);
	test_cert_free(&sub);
}

static void contexts_name_the_file_that_is_wrong(void **state)
{
	struct fixture *f = *state;
	static const char *const bad_pins[] = {"sha1/AAAA", "sha256/AAAA", "sha256/!", ""};
	struct hf_tls_context *c = NULL;
	struct hf_err err;

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	issue(f, "weak", (struct test_cert_spec){.cn = "p", .issuer = &f->ca, .rsa_bits = 1024});
	hf_test_write(f->dir, "empty.pem", "");
	const struct {
		struct hf_tls_client_options o;
		const char *text;
	} table[] = {
		{{.ca_file = path_of(f, "nothing.pem")}, "nothing.pem': No such file"},
		{{.ca_file = path_of(f, "empty.pem")}, "no certificate in it"},
		{{.ca_file = path_of(f, "ca.pem"), .cert_file = path_of(f, "empty.pem")},
		 "empty.pem"},
		{{.ca_file = path_of(f, "ca.pem"),
		  .cert_file = path_of(f, "server.pem"),
		  .key_file = path_of(f, "ca.key")},
		 "ca.key': key values mismatch"},
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		assert_true(hf_tls_client_context_new(&table[i].o, &c, &err) < 0);
		assert_null(c);
		if (!strstr(err.msg, table[i].text))
			fail_msg("'%s' does not say '%s'", err.msg, table[i].text);
	}
	for (size_t i = 0; i < HF_ARRAY_SIZE(bad_pins); i++) {
		struct hf_tls_client_options o = {
			.ca_file = path_of(f, "ca.pem"), .pins = &bad_pins[i], .n_pins = 1};

		assert_err(hf_tls_client_context_new(&o, &c, &err), -EINVAL);
	}
	assert_true(hf_tls_server_context_new(
			    &(struct hf_tls_server_options){.cert_file = path_of(f, "weak.pem"),
							    .key_file = path_of(f, "weak.key")},
			    &c, &err) < 0);
	assert_non_null(strstr(err.msg, "too small"));
	/* Parsing the system's store must not need a file of ours. */
	assert_ok(hf_tls_client_context_new(&(struct hf_tls_client_options){}, &c, &err));
	hf_tls_context_free(c);
}

static void what_is_not_tls_is_said_so(void **state)
{
#define ANSWER(s)            \
	{                    \
		s, sizeof(s) \
	}
	static const struct {
		const char *bytes;
		size_t len;
	} answers[] = {ANSWER("HTTP/1.1 400 Bad Request\r\n\r\n"),
		       ANSWER("SSH-2.0-OpenSSH_9.2p1 Debian\r\n"),
		       ANSWER("\x16\x03\x03\xff\xff\x02\x00\x00\x00 nonsense")};
#undef ANSWER
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = client_context(f, NULL);

	for (size_t i = 0; i < HF_ARRAY_SIZE(answers); i++) {
		struct hf_tls_stream *s;
		int fds[2], r = 0;

		tcp_pair(fds);
		assert_ok(hf_tls_stream_new(client, fds[0], NAME, &s));
		assert_int_equal(hf_tls_handshake(s), 0);
		assert_int_equal(hf_tls_events(s), EPOLLIN);
		assert_true(write(fds[1], answers[i].bytes, answers[i].len) > 0);
		for (unsigned k = 0; k < 50 && r == 0; k++)
			r = hf_tls_handshake(s);
		assert_err(r, -EPROTO);
		assert_int_equal(hf_tls_failure(s), HF_TLS_PROTOCOL);
		assert_string_not_equal(hf_tls_error(s), "");
		hf_tls_stream_free(s);
		close(fds[1]);
	}
}

static void ends_of_a_connection_are_told_apart(void **state)
{
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = client_context(f, NULL);
	struct hf_tls_context *server;
	struct hf_tls_stream *s;
	char byte;
	struct pair p;
	int fds[2], r = 0;

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	server = server_context(f, "server", NULL);

	p = pair_make(client, server, NAME);
	hf_tls_close_notify(p.server);
	assert_err(read_wait(p.client, &byte, 1), -ENODATA);
	assert_int_equal(hf_tls_failure(p.client), HF_TLS_CLOSED);
	assert_err(hf_tls_read(p.client, &byte, 1), -ENODATA);
	pair_free(&p);

	p = pair_make(client, server, NAME);
	p.server = hf_tls_stream_free(p.server);
	assert_err(read_wait(p.client, &byte, 1), -ENODATA);
	assert_int_equal(hf_tls_failure(p.client), HF_TLS_EOF);
	assert_int_equal(hf_tls_errno(p.client), 0);
	pair_free(&p);

	/* Writing into a reset raises no signal. */
	p = pair_make(client, server, NAME);
	reset_on_close(hf_tls_fd(p.server));
	p.server = hf_tls_stream_free(p.server);
	for (unsigned i = 0; i < 50 && r >= 0; i++)
		r = (int)hf_tls_write(p.client, "x", 1);
	assert_true(r == -ECONNRESET || r == -EPIPE);
	assert_int_equal(hf_tls_failure(p.client), HF_TLS_IO);
	assert_int_equal(hf_tls_errno(p.client), -r);
	pair_free(&p);

	tcp_pair(fds);
	assert_ok(hf_tls_stream_new(client, fds[0], NAME, &s));
	assert_int_equal(hf_tls_handshake(s), 0);
	close(fds[1]);
	for (r = 0; r == 0;)
		r = hf_tls_handshake(s);
	/* The hello was unread: the kernel sends a reset, or the end if it was faster. */
	assert_true(r == -ECONNRESET || r == -ENODATA);
	assert_int_equal(hf_tls_failure(s), r == -ENODATA ? HF_TLS_EOF : HF_TLS_IO);
	hf_tls_stream_free(s);
	hf_tls_context_free(server);
}

static void a_refused_client_learns_the_alert(void **state)
{
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = client_context(f, NULL);
	struct hf_tls_stream *s;
	struct raw_server raw;
	int fds[2], r = 0;
	char byte;

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	for (unsigned write_first = 0; write_first < 2; write_first++) {
		tcp_pair(fds);
		raw = raw_server_make(f, "server", TLS1_3_VERSION, fds[1]);
		SSL_set_verify(raw.ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		assert_ok(hf_tls_stream_new(client, fds[0], NAME, &s));
		for (r = 0; r == 0;) {
			r = hf_tls_handshake(s);
			(void)SSL_do_handshake(raw.ssl);
		}
		/* In TLS 1.3 the client is done before the server has judged. */
		assert_int_equal(r, 1);
		(void)SSL_do_handshake(raw.ssl);
		reset_on_close(fds[1]);
		if (write_first) {
			raw_server_free(&raw);
			for (r = 0; r >= 0;)
				r = (int)hf_tls_write(s, "x", 1);
		} else {
			r = (int)read_wait(s, &byte, 1);
			raw_server_free(&raw);
		}
		assert_err(r, -EPROTO);
		assert_int_equal(hf_tls_failure(s), HF_TLS_ALERT);
		assert_int_equal(hf_tls_alert(s), SSL_AD_CERTIFICATE_REQUIRED);
		assert_non_null(strstr(hf_tls_error(s), "alert 116"));
		hf_tls_stream_free(s);
	}
}

static void large_transfers_wait_and_go_on(void **state)
{
	enum { TOTAL = 3000000 };
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *client = client_context(f, NULL);
	struct hf_tls_context *server;
	uint8_t *data = malloc(TOTAL), *got = malloc(TOTAL);
	size_t sent = 0, received = 0;
	const int small = 65536;
	bool waited = false;
	struct pair p;

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	server = server_context(f, "server", NULL);
	p = pair_make(client, server, NAME);
	assert_int_equal(
		setsockopt(hf_tls_fd(p.client), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	assert_int_equal(
		setsockopt(hf_tls_fd(p.server), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	for (size_t i = 0; i < TOTAL; i++)
		data[i] = (uint8_t)(i * 7 + i / 1000);
	while (received < TOTAL) {
		/* The bytes move to another buffer between the calls. */
		_cleanup_free_ uint8_t *copy = malloc(TOTAL - sent + 1);
		ssize_t n;

		memcpy(copy, data + sent, TOTAL - sent);
		while (sent < TOTAL && (n = hf_tls_write(p.client, data + sent, TOTAL - sent)) > 0)
			sent += (size_t)n;
		if (sent < TOTAL) {
			assert_int_equal(hf_tls_events(p.client), EPOLLIN | EPOLLOUT);
			waited = true;
			n = hf_tls_write(p.client, copy, TOTAL - sent);
			assert_true(n >= 0);
			sent += (size_t)n;
		}
		while ((n = hf_tls_read(p.server, got + received, TOTAL - received)) > 0)
			received += (size_t)n;
		assert_int_equal(n == 0 || received == TOTAL, 1);
	}
	assert_true(waited);
	assert_memory_equal(data, got, TOTAL);
	/* A short read leaves the rest of the record pending. */
	assert_int_equal(hf_tls_write(p.client, "abc", 3), 3);
	assert_int_equal(read_wait(p.server, got, 1), 1);
	assert_true(hf_tls_pending(p.server));
	assert_int_equal(hf_tls_read(p.server, got, 8), 2);
	assert_false(hf_tls_pending(p.server));
	pair_free(&p);
	hf_tls_context_free(server);
	free(data);
	free(got);
}

static void only_http11_is_negotiated(void **state)
{
	struct fixture *f = *state;
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *server = NULL;
	static const struct {
		const char *offer;
		unsigned len;
		bool accepted;
	} table[] = {{"\x02h2\x08http/1.1", 12, true}, {"\x02h2", 3, false}, {NULL, 0, true}};

	issue(f, "server", (struct test_cert_spec){.cn = "p", .san = SAN, .issuer = &f->ca});
	server = server_context(f, "server", NULL);
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
		SSL *ssl = SSL_new(ctx);
		struct hf_tls_stream *s;
		int fds[2], r = 0;

		tcp_pair(fds);
		if (table[i].offer)
			SSL_set_alpn_protos(ssl, (const unsigned char *)table[i].offer,
					    table[i].len);
		SSL_set_fd(ssl, fds[0]);
		SSL_set_connect_state(ssl);
		assert_ok(hf_tls_stream_new(server, fds[1], NULL, &s));
		for (unsigned k = 0; k < 50 && r == 0; k++) {
			(void)SSL_do_handshake(ssl);
			r = hf_tls_handshake(s);
		}
		assert_int_equal(r, table[i].accepted ? 1 : -EPROTO);
		hf_tls_stream_free(s);
		SSL_free(ssl);
		SSL_CTX_free(ctx);
		close(fds[0]);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_server_certificate_that_is_wrong_is_refused_with_its_reason),
		T(names_and_addresses_of_the_certificate_are_accepted),
		T(tls12_is_the_floor),
		T(client_certificates_are_judged_but_never_cut_the_handshake),
		T(a_certificate_that_expires_or_is_revoked_after_its_ticket_is_refused),
		T(sessions_survive_abrupt_drops),
		T(sessions_survive_a_restart_of_the_agent_but_not_a_change_of_trust),
		T(a_ticket_of_another_server_falls_back_to_a_full_handshake),
		T(many_names_keep_the_newest_sessions),
		T(pins_match_the_ca_or_a_backup_but_never_the_leaf),
		T(an_intermediate_may_be_the_anchor),
		T(contexts_name_the_file_that_is_wrong),
		T(what_is_not_tls_is_said_so),
		T(ends_of_a_connection_are_told_apart),
		T(a_refused_client_learns_the_alert),
		T(large_transfers_wait_and_go_on),
		T(only_http11_is_negotiated),
	};

	return HF_RUN_TESTS(tests);
}
