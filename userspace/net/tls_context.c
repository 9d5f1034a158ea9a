/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process trusts and who it is: SSL_CTX, chain verification with pins, and the client's
 * session tickets.
 *
 * I1  A client never finishes a handshake with a peer that does not verify; the reason is found
 *     while the chain is at hand, because afterwards only an alert number is left.
 * I2  A server always finishes the handshake when the client proves its key. Whether the
 *     certificate is any good is an answer the portal gives by HTTP, with a cause.
 * I3  A ticket is bound to the trust, the pins and the client certificate it was made under
 *     (identity): resumption skips verification, so it must not outlive a change of those.
 * I4  Tickets are kept as DER, copied when they arrive: OpenSSL marks a session unusable when its
 *     connection ends without close_notify, which is the very case resumption is for.
 */
#include "userspace/net/tls_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

/* Debian's bundle of all public CAs is 200 KiB. */
#define PEM_FILE_MAX (4u << 20)
/* RFC 8446 section 4.6.1: tickets live a week at most. A channel often lasts longer than an hour. */
#define TICKET_LIFETIME_S (7L * 24 * 3600)
/* A ticket with a client certificate chain in it is 2 to 4 KiB. */
#define SESSION_MAX       16384u
#define SESSION_MAGIC     "HFTLS1\n"
#define SESSION_MAGIC_LEN 7u

/* ---- texts ----------------------------------------------------------------------------------- */

/* The most telling part of a name: CN, else O, else all of it on one line. Safe to print. */
static void name_text(const X509_NAME *name, char *dst, size_t size)
{
	if (X509_NAME_get_text_by_NID((X509_NAME *)name, NID_commonName, dst, (int)size) < 0 &&
	    X509_NAME_get_text_by_NID((X509_NAME *)name, NID_organizationName, dst, (int)size) < 0)
		(void)X509_NAME_oneline(name, dst, (int)size);
	hf_sanitize(dst);
}

static void time_text(const ASN1_TIME *t, char *dst, size_t size)
{
	struct tm tm = {};

	if (!t || !ASN1_TIME_to_tm(t, &tm) || strftime(dst, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		(void)hf_strlcpy(dst, "an unreadable time", size);
}

static void ssl_error_text(char *dst, size_t size)
{
	unsigned long e = ERR_peek_last_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	(void)hf_strlcpy(dst, reason ? reason : "unknown error", size);
	ERR_clear_error();
}

/* ---- why a chain fails ----------------------------------------------------------------------- */

enum hf_tls_failure hf_tls_failure_of_verify(long error)
{
	switch (error) {
	case X509_V_OK:
		return HF_TLS_OK;
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD:
		return HF_TLS_CERT_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
	case X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD:
		return HF_TLS_CERT_NOT_YET_VALID;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return HF_TLS_CERT_NAME;
	case X509_V_ERR_CERT_REVOKED:
		return HF_TLS_CERT_REVOKED;
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
	case X509_V_ERR_CA_MD_TOO_WEAK:
		return HF_TLS_WEAK_CRYPTO;
	case X509_V_ERR_APPLICATION_VERIFICATION:
		return HF_TLS_PIN_MISMATCH;
	default:
		return HF_TLS_CERT_UNTRUSTED;
	}
}

static bool is_no_path_to_ca(int error)
{
	return error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
	       error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
	       error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE ||
	       error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN;
}

static bool name_matches(X509 *leaf, const char *name)
{
	if (X509_check_host(leaf, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1)
		return true;
	return X509_check_ip_asc(leaf, name, 0) == 1;
}

/*
 * A certificate for exactly our name by a CA we do not know, whose name is not our CA's either, is
 * made on the fly by something on the path: nobody else has a reason to issue it.
 */
static bool looks_intercepted(const struct hf_tls_stream *s, X509_STORE_CTX *sc, X509 *leaf)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(sc);
	X509 *top = chain && sk_X509_num(chain) > 0 ? sk_X509_value(chain, sk_X509_num(chain) - 1)
						    : leaf;
	char issuer[128];

	if (!is_no_path_to_ca(X509_STORE_CTX_get_error(sc)) || !name_matches(leaf, s->server_name))
		return false;
	name_text(X509_get_issuer_name(top), issuer, sizeof(issuer));
	return !hf_streq(issuer, s->context->expected);
}

static void describe_failure(struct hf_tls_stream *s, X509_STORE_CTX *sc, enum hf_tls_failure f)
{
	int error = X509_STORE_CTX_get_error(sc);
	X509 *leaf = X509_STORE_CTX_get0_cert(sc), *cert = X509_STORE_CTX_get_current_cert(sc);
	char subject[128] = "?", issuer[128] = "?", when[32], now[HF_RFC3339_SIZE];

	if (!cert)
		cert = leaf;
	if (cert)
		name_text(X509_get_subject_name(cert), subject, sizeof(subject));
	if (leaf)
		name_text(X509_get_issuer_name(leaf), issuer, sizeof(issuer));
	hf_format_rfc3339(hf_now_realtime_ns(), now);

	if (cert && f == HF_TLS_CERT_EXPIRED) {
		time_text(X509_get0_notAfter(cert), when, sizeof(when));
		hf_tls_set_text(s, "certificate '%s' expired at %s, this host's clock says %s",
				subject, when, now);
	} else if (cert && f == HF_TLS_CERT_NOT_YET_VALID) {
		time_text(X509_get0_notBefore(cert), when, sizeof(when));
		hf_tls_set_text(s, "certificate '%s' is valid from %s, this host's clock says %s",
				subject, when, now);
	} else if (f == HF_TLS_INTERCEPTED) {
		hf_tls_set_text(s, "certificate issued by '%s', expected '%s'", issuer,
				s->context->expected[0] ? s->context->expected
							: "a CA of this system's store");
	} else if (f == HF_TLS_PIN_MISMATCH) {
		hf_tls_set_text(s, "certificate issued by '%s', no configured pin matches", issuer);
	} else if (f == HF_TLS_CERT_NAME) {
		hf_tls_set_text(s, "certificate of '%s' is not for '%s'", subject, s->server_name);
	} else {
		hf_tls_set_text(s, "certificate '%s' issued by '%s': %s", subject, issuer,
				X509_verify_cert_error_string(error));
	}
}

static bool pin_matches(const struct hf_tls_context *c, X509 *cert)
{
	unsigned char *spki = NULL, digest[SHA256_DIGEST_LENGTH];
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &spki);
	bool found = false;

	if (len <= 0)
		return false;
	SHA256(spki, (size_t)len, digest);
	OPENSSL_free(spki);
	for (size_t i = 0; i < c->n_pins; i++)
		found |= memcmp(digest, c->pins[i], sizeof(digest)) == 0;
	return found;
}

/* Never the leaf: its renewal would strand the fleet. */
static bool chain_is_pinned(const struct hf_tls_context *c, X509_STORE_CTX *sc)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(sc);

	for (int i = 1; i < sk_X509_num(chain); i++)
		if (pin_matches(c, sk_X509_value(chain, i)))
			return true;
	return false;
}

/* A revocation list that is late or missing for a sub-CA does not lock the whole fleet out. */
static int forgive_stale_crl(int ok, X509_STORE_CTX *sc)
{
	int error = X509_STORE_CTX_get_error(sc);

	if (!ok && (error == X509_V_ERR_CRL_HAS_EXPIRED || error == X509_V_ERR_UNABLE_TO_GET_CRL ||
		    error == X509_V_ERR_CRL_NOT_YET_VALID)) {
		X509_STORE_CTX_set_error(sc, X509_V_OK);
		return 1;
	}
	return ok;
}

static int verify_chain(X509_STORE_CTX *sc, void *arg)
{
	struct hf_tls_context *c = arg;
	SSL *ssl = X509_STORE_CTX_get_ex_data(sc, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct hf_tls_stream *s = hf_tls_stream_of(ssl);
	enum hf_tls_failure f;
	int r;

	if (c->server)
		X509_STORE_CTX_set_verify_cb(sc, forgive_stale_crl);
	if (c->verify_at)
		X509_STORE_CTX_set_time(sc, 0, c->verify_at);
	r = X509_verify_cert(sc);
	if (r > 0 && c->n_pins > 0 && !chain_is_pinned(c, sc)) {
		X509_STORE_CTX_set_error(sc, X509_V_ERR_APPLICATION_VERIFICATION);
		r = 0;
	}
	if (r > 0)
		return 1;
	f = hf_tls_failure_of_verify(X509_STORE_CTX_get_error(sc));
	if (f == HF_TLS_OK)
		f = HF_TLS_INTERNAL;
	if (!c->server && f == HF_TLS_CERT_UNTRUSTED &&
	    looks_intercepted(s, sc, X509_STORE_CTX_get0_cert(sc)))
		f = HF_TLS_INTERCEPTED;
	describe_failure(s, sc, f);
	if (c->server) {
		s->peer_failure = f;
		return 1;
	}
	s->failure = f;
	return 0;
}

void hf_tls_judge_resumed_peer(struct hf_tls_stream *s)
{
	X509 *leaf = SSL_get0_peer_certificate(s->ssl);
	X509_REVOKED *revoked;
	char subject[128], when[32];

	s->peer_failure = hf_tls_failure_of_verify(SSL_get_verify_result(s->ssl));
	if (s->peer_failure != HF_TLS_OK) {
		hf_tls_set_text(s, "%s",
				X509_verify_cert_error_string(SSL_get_verify_result(s->ssl)));
		return;
	}
	name_text(X509_get_subject_name(leaf), subject, sizeof(subject));
	if (X509_cmp_current_time(X509_get0_notAfter(leaf)) < 0) {
		s->peer_failure = HF_TLS_CERT_EXPIRED;
		time_text(X509_get0_notAfter(leaf), when, sizeof(when));
		hf_tls_set_text(s, "certificate '%s' expired at %s", subject, when);
	} else if (s->context->crl && X509_CRL_get0_by_cert(s->context->crl, &revoked, leaf) == 1) {
		s->peer_failure = HF_TLS_CERT_REVOKED;
		hf_tls_set_text(s, "certificate '%s' was revoked", subject);
	}
}

/* ---- client sessions ------------------------------------------------------------------------- */

static void session_clear(struct hf_tls_session *e)
{
	SSL_SESSION_free(e->session);
	free(e->name);
	*e = (struct hf_tls_session){};
}

static struct hf_tls_session *session_find(struct hf_tls_context *c, const char *name)
{
	for (size_t i = 0; i < HF_TLS_SESSIONS_MAX; i++)
		if (c->sessions[i].name && hf_streq(c->sessions[i].name, name))
			return &c->sessions[i];
	return NULL;
}

/* session is consumed on success. */
static int session_store(struct hf_tls_context *c, const char *name, SSL_SESSION *session)
{
	struct hf_tls_session *e = session_find(c, name);
	char *copy;

	if (!e) {
		e = &c->sessions[0];
		for (size_t i = 1; i < HF_TLS_SESSIONS_MAX; i++)
			if (c->sessions[i].stored < e->stored)
				e = &c->sessions[i];
	}
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	session_clear(e);
	*e = (struct hf_tls_session){.name = copy, .session = session, .stored = ++c->stored};
	return 0;
}

void hf_tls_session_drop(struct hf_tls_context *c, const char *name)
{
	struct hf_tls_session *e = session_find(c, name);

	if (e)
		session_clear(e);
}

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
	struct hf_tls_stream *s = hf_tls_stream_of(ssl);
	SSL_SESSION *copy;

	/* 0: OpenSSL keeps its reference. Without memory the next handshake is a full one. */
	if (!s || !s->server_name)
		return 0;
	copy = SSL_SESSION_dup(session);
	if (copy && session_store(s->context, s->server_name, copy) < 0)
		SSL_SESSION_free(copy);
	return 0;
}

SSL_SESSION *hf_tls_session_get(struct hf_tls_context *c, const char *name)
{
	struct hf_tls_session *e = session_find(c, name);
	time_t now = c->verify_at ? c->verify_at : time(NULL);
	X509 *leaf;

	if (!e)
		return NULL;
	leaf = SSL_SESSION_get0_peer(e->session);
	/* A ticket outlives the certificate it stands for: then only a full handshake is honest. */
	if (!leaf || X509_cmp_time(X509_get0_notAfter(leaf), &now) < 0 ||
	    X509_cmp_time(X509_get0_notBefore(leaf), &now) > 0) {
		session_clear(e);
		return NULL;
	}
	return SSL_SESSION_dup(e->session);
}

/* What a serialized session is bound to: I3, and the name. */
static void session_binding(const struct hf_tls_context *c, const char *name, uint8_t dst[32])
{
	uint8_t buf[32 + 256] = {};

	memcpy(buf, c->identity, 32);
	(void)hf_strlcpy((char *)buf + 32, name, 256);
	SHA256(buf, sizeof(buf), dst);
}

int hf_tls_session_serialize(struct hf_tls_context *c, const char *name, uint8_t **ret,
			     size_t *ret_len)
{
	struct hf_tls_session *e = session_find(c, name);
	int len = e ? i2d_SSL_SESSION(e->session, NULL) : 0;
	uint8_t *blob, *end;

	if (len <= 0 || (unsigned)len > SESSION_MAX)
		return -ENOENT;
	blob = malloc(SESSION_MAGIC_LEN + 32 + (size_t)len);
	if (!blob)
		return -ENOMEM;
	memcpy(blob, SESSION_MAGIC, SESSION_MAGIC_LEN);
	session_binding(c, name, blob + SESSION_MAGIC_LEN);
	end = blob + SESSION_MAGIC_LEN + 32;
	(void)i2d_SSL_SESSION(e->session, &end);
	*ret = blob;
	*ret_len = SESSION_MAGIC_LEN + 32 + (size_t)len;
	return 0;
}

int hf_tls_session_restore(struct hf_tls_context *c, const char *name, const uint8_t *data,
			   size_t len)
{
	uint8_t binding[32];
	const uint8_t *in;
	SSL_SESSION *session;

	if (len <= SESSION_MAGIC_LEN + 32 || len > SESSION_MAX + SESSION_MAGIC_LEN + 32 ||
	    memcmp(data, SESSION_MAGIC, SESSION_MAGIC_LEN) != 0)
		return -EINVAL;
	session_binding(c, name, binding);
	if (!hf_equal_secret(binding, data + SESSION_MAGIC_LEN, sizeof(binding)))
		return -ESTALE;
	data += SESSION_MAGIC_LEN + 32;
	len -= SESSION_MAGIC_LEN + 32;
	in = data;
	ERR_clear_error();
	session = d2i_SSL_SESSION(NULL, &in, (long)len);
	if (!session || in != data + len) {
		SSL_SESSION_free(session);
		return -EINVAL;
	}
	if (session_store(c, name, session) < 0) {
		SSL_SESSION_free(session);
		return -ENOMEM;
	}
	return 0;
}

/* ---- making contexts ------------------------------------------------------------------------- */

struct hf_tls_context *hf_tls_context_free(struct hf_tls_context *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < HF_TLS_SESSIONS_MAX; i++)
		session_clear(&c->sessions[i]);
	X509_CRL_free(c->crl);
	SSL_CTX_free(c->ssl);
	free(c);
	return NULL;
}

void hf_tls_context_set_time(struct hf_tls_context *c, int64_t unix_s)
{
	c->verify_at = (time_t)unix_s;
}

/* The certificates of a PEM text go into the store, their names to names (may be NULL). */
static int take_anchors(struct hf_tls_context *c, const char *path, const char *pem, size_t len,
			STACK_OF(X509_NAME) * names, struct hf_err *err)
{
	size_t n = 0;
	BIO *bio;
	X509 *cert;
	int r = 0;

	SHA256((const unsigned char *)pem, len, c->identity);
	bio = BIO_new_mem_buf(pem, (int)len);
	if (!bio)
		return hf_err_set(err, -ENOMEM, "out of memory");
	while (r == 0 && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		X509_NAME *name = X509_NAME_dup(X509_get_subject_name(cert));

		if (n++ == 0)
			name_text(name, c->expected, sizeof(c->expected));
		if (!name || !X509_STORE_add_cert(SSL_CTX_get_cert_store(c->ssl), cert))
			r = -ENOMEM;
		if (names && name && sk_X509_NAME_push(names, name) > 0)
			name = NULL;
		X509_NAME_free(name);
		X509_free(cert);
	}
	BIO_free(bio);
	ERR_clear_error();
	if (r < 0)
		return hf_err_set(err, r, "CA file '%s': out of memory", path);
	if (n == 0)
		return hf_err_set(err, -EINVAL, "CA file '%s': no certificate in it", path);
	return 0;
}

static int load_anchors(struct hf_tls_context *c, const char *path, STACK_OF(X509_NAME) * names,
			struct hf_err *err)
{
	_cleanup_free_ char *pem = NULL;
	size_t len;
	int r = hf_read_file(AT_FDCWD, path, PEM_FILE_MAX, &pem, &len);

	if (r < 0)
		return hf_err_set(err, r, "CA file '%s': %s", path, strerror(-r));
	return take_anchors(c, path, pem, len, names, err);
}

static int load_own(struct hf_tls_context *c, const char *cert_file, const char *key_file,
		    struct hf_err *err)
{
	char why[128];

	/* A passphrase prompt would block the loop; without a callback OpenSSL asks the terminal. */
	SSL_CTX_set_default_passwd_cb_userdata(c->ssl, (void *)"");
	if (SSL_CTX_use_certificate_chain_file(c->ssl, cert_file) != 1) {
		ssl_error_text(why, sizeof(why));
		return hf_err_set(err, -EINVAL, "certificate '%s': %s", cert_file, why);
	}
	if (SSL_CTX_use_PrivateKey_file(c->ssl, key_file, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(c->ssl) != 1) {
		ssl_error_text(why, sizeof(why));
		return hf_err_set(err, -EINVAL, "key '%s': %s", key_file, why);
	}
	return 0;
}

static int load_pins(struct hf_tls_context *c, const struct hf_tls_client_options *o,
		     struct hf_err *err)
{
	if (o->n_pins > HF_TLS_PINS_MAX)
		return hf_err_set(err, -E2BIG, "more than %u pins", HF_TLS_PINS_MAX);
	for (size_t i = 0; i < o->n_pins; i++) {
		const char *pin = o->pins[i];
		size_t len = sizeof(c->pins[i]);

		if (!hf_startswith(pin, "sha256/") ||
		    hf_base64_decode(c->pins[i], &len, pin + 7, strlen(pin + 7)) < 0 ||
		    len != sizeof(c->pins[i]))
			return hf_err_set(err, -EINVAL,
					  "pin '%s' is not sha256/<base64 of 32 bytes>", pin);
	}
	c->n_pins = o->n_pins;
	return 0;
}

static int load_crl(struct hf_tls_context *c, const char *path, struct hf_err *err)
{
	BIO *bio = BIO_new_file(path, "re");
	char why[128];

	if (bio)
		c->crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
	BIO_free(bio);
	if (!c->crl || !X509_STORE_add_crl(SSL_CTX_get_cert_store(c->ssl), c->crl)) {
		ssl_error_text(why, sizeof(why));
		return hf_err_set(err, -EINVAL, "revocation list '%s': %s", path, why);
	}
	X509_STORE_set_flags(SSL_CTX_get_cert_store(c->ssl), X509_V_FLAG_CRL_CHECK);
	return 0;
}

/* RFC 8446/5246 with forward secrecy and AEAD only, 112 bits at least; for both roles. */
static int context_new(bool server, struct hf_tls_context **ret, struct hf_err *err)
{
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *c = calloc(1, sizeof(*c));

	if (!c)
		return hf_err_set(err, -ENOMEM, "out of memory");
	ERR_clear_error();
	c->server = server;
	c->ssl = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	if (!c->ssl || hf_tls_stream_ex_index() < 0 ||
	    SSL_CTX_set_min_proto_version(c->ssl, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(c->ssl, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1)
		return hf_err_set(err, -ENOMEM, "cannot make a TLS context");
	/* 2: RSA from 2048 bits, no SHA-1 in a chain. Said here, so that no build default lowers it. */
	SSL_CTX_set_security_level(c->ssl, 2);
	(void)SSL_CTX_set_options(c->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
						  SSL_OP_CIPHER_SERVER_PREFERENCE);
	(void)SSL_CTX_set_mode(c->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_cert_verify_callback(c->ssl, verify_chain, c);
	(void)SSL_CTX_set_timeout(c->ssl, TICKET_LIFETIME_S);
	*ret = TAKE_PTR(c);
	return 0;
}

/* I3: mixes what else decides over trust into the hash of the CA file. */
static void seal_identity(struct hf_tls_context *c)
{
	X509 *own = SSL_CTX_get0_certificate(c->ssl);
	uint8_t buf[32 + sizeof(c->pins) + 32] = {};
	unsigned len;

	memcpy(buf, c->identity, 32);
	memcpy(buf + 32, c->pins, sizeof(c->pins));
	if (own)
		(void)X509_digest(own, EVP_sha256(), buf + 32 + sizeof(c->pins), &len);
	SHA256(buf, sizeof(buf), c->identity);
}

int hf_tls_client_context_new(const struct hf_tls_client_options *o, struct hf_tls_context **ret,
			      struct hf_err *err)
{
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *c = NULL;
	static const unsigned char alpn[] = "\x08http/1.1";
	int r = context_new(false, &c, err);

	if (r < 0)
		return r;
	if (o->ca_pem || o->ca_file) {
		r = o->ca_pem ? take_anchors(c, "offered", o->ca_pem, strlen(o->ca_pem), NULL, err)
			      : load_anchors(c, o->ca_file, NULL, err);
		if (r < 0)
			return r;
		/* Whoever writes the file may name an intermediate as the anchor. */
		X509_STORE_set_flags(SSL_CTX_get_cert_store(c->ssl), X509_V_FLAG_PARTIAL_CHAIN);
	} else if (SSL_CTX_set_default_verify_paths(c->ssl) != 1) {
		return hf_err_set(err, -ENOENT, "this system has no store of CA certificates");
	}
	r = load_pins(c, o, err);
	if (r < 0)
		return r;
	if (o->cert_file) {
		r = load_own(c, o->cert_file, o->key_file ? o->key_file : o->cert_file, err);
		if (r < 0)
			return r;
	}
	/* Returns 0 on success, unlike its neighbours. */
	if (SSL_CTX_set_alpn_protos(c->ssl, alpn, sizeof(alpn) - 1) != 0)
		return hf_err_set(err, -ENOMEM, "out of memory");
	SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
	(void)SSL_CTX_set_session_cache_mode(c->ssl,
					     SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(c->ssl, on_new_session);
	seal_identity(c);
	*ret = TAKE_PTR(c);
	return 0;
}

/* Only HTTP/1.1 is spoken here; a client that offers protocols without it gets an alert. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
		       const unsigned char *in, unsigned inlen, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto((unsigned char **)out, outlen, ours, sizeof(ours) - 1, in,
				  inlen) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

int hf_tls_server_context_new(const struct hf_tls_server_options *o, struct hf_tls_context **ret,
			      struct hf_err *err)
{
	_cleanup_(hf_tls_context_freep) struct hf_tls_context *c = NULL;
	static const unsigned char session_context[] = "holdfast";
	int r = context_new(true, &c, err);

	if (r < 0)
		return r;
	r = load_own(c, o->cert_file, o->key_file, err);
	if (r < 0)
		return r;
	if (o->client_ca_file) {
		STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();

		r = load_anchors(c, o->client_ca_file, names, err);
		SSL_CTX_set_client_CA_list(c->ssl, names);
		if (r < 0)
			return r;
		SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
		if (o->crl_file) {
			r = load_crl(c, o->crl_file, err);
			if (r < 0)
				return r;
		}
	}
	if (o->ticket_keys && SSL_CTX_set_tlsext_ticket_keys(c->ssl, (void *)o->ticket_keys,
							     HF_TLS_TICKET_KEYS_SIZE) != 1)
		return hf_err_set(err, -EINVAL, "cannot use the ticket keys");
	/* Without this a server that asks for certificates refuses every resumption. */
	if (SSL_CTX_set_session_id_context(c->ssl, session_context, sizeof(session_context) - 1) !=
	    1)
		return hf_err_set(err, -ENOMEM, "out of memory");
	/* The state is in the tickets; nothing is kept here per client. */
	(void)SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(c->ssl, 1);
	SSL_CTX_set_alpn_select_cb(c->ssl, select_alpn, NULL);
	*ret = TAKE_PTR(c);
	return 0;
}
