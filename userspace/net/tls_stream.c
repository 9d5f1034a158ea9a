/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TLS connection on a non-blocking socket. OpenSSL reads and writes through a BIO of ours:
 * recv() and send(MSG_NOSIGNAL), so that no library user must ignore SIGPIPE, and the errno of a
 * hard error is kept where OpenSSL would lose it.
 *
 * States: handshaking -> established -> failed (sticky: every later call returns the same error).
 *
 * I1  ERR_clear_error() comes before each SSL call: SSL_get_error() reads a queue that is shared by
 *     all connections of the thread, and another one's leftover would be blamed on this one.
 * I2  The first reason stays. What a broken connection reports afterwards is noise.
 */
#include "userspace/net/tls_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/str.h"

#define ALERT_PROTOCOL_VERSION      70
#define ALERT_INSUFFICIENT_SECURITY 71

const char *hf_tls_failure_name(enum hf_tls_failure f)
{
	static const char *const names[] = {
		[HF_TLS_OK] = "ok",
		[HF_TLS_IO] = "io",
		[HF_TLS_EOF] = "eof",
		[HF_TLS_CLOSED] = "closed",
		[HF_TLS_CERT_EXPIRED] = "cert_expired",
		[HF_TLS_CERT_NOT_YET_VALID] = "cert_not_yet_valid",
		[HF_TLS_CERT_UNTRUSTED] = "cert_untrusted",
		[HF_TLS_CERT_NAME] = "cert_name",
		[HF_TLS_CERT_REVOKED] = "cert_revoked",
		[HF_TLS_PIN_MISMATCH] = "pin_mismatch",
		[HF_TLS_INTERCEPTED] = "tls_intercepted",
		[HF_TLS_WEAK_CRYPTO] = "weak_crypto",
		[HF_TLS_ALERT] = "alert",
		[HF_TLS_PROTOCOL] = "protocol",
		[HF_TLS_INTERNAL] = "internal",
	};

	_Static_assert(HF_ARRAY_SIZE(names) == _HF_TLS_FAILURE_MAX, "a failure has no name");
	hf_assert(f >= 0 && f < _HF_TLS_FAILURE_MAX);
	return names[f];
}

int hf_tls_stream_ex_index(void)
{
	static int index = -1;

	if (index < 0)
		index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	return index;
}

struct hf_tls_stream *hf_tls_stream_of(const SSL *ssl)
{
	return SSL_get_ex_data(ssl, hf_tls_stream_ex_index());
}

void hf_tls_set_text(struct hf_tls_stream *s, const char *fmt, ...)
{
	va_list ap;

	if (s->text)
		return;
	va_start(ap, fmt);
	if (vasprintf(&s->text, fmt, ap) < 0)
		s->text = NULL;
	va_end(ap);
}

/* ---- the socket under OpenSSL ---------------------------------------------------------------- */

static int bio_read(BIO *bio, char *buf, int len)
{
	struct hf_tls_stream *s = BIO_get_data(bio);
	ssize_t n = recv(s->fd, buf, (size_t)len, 0);

	BIO_clear_retry_flags(bio);
	if (n > 0)
		return (int)n;
	if (n == 0)
		s->eof = true;
	else if (errno == EAGAIN || errno == EINTR)
		BIO_set_retry_read(bio);
	else
		s->sys_errno = errno;
	return (int)n;
}

/*
 * With hf_tls_hold_flight() the last flight of a handshake waits for the first application data, which our clients have at once
 * (their request) and our server when the request came with that flight: one segment and one wakeup of
 * the peer instead of two. uncork() is for when there is none.
 */
static int bio_write(BIO *bio, const char *buf, int len)
{
	struct hf_tls_stream *s = BIO_get_data(bio);
	ssize_t n = send(s->fd, buf, (size_t)len, MSG_NOSIGNAL | (s->cork ? MSG_MORE : 0));

	BIO_clear_retry_flags(bio);
	if (n >= 0) {
		s->corked = s->cork;
		return (int)n;
	}
	if (errno == EAGAIN || errno == EINTR)
		BIO_set_retry_write(bio);
	else
		s->sys_errno = errno;
	return -1;
}

/* Lets go what bio_write() holds back. */
static void uncork(struct hf_tls_stream *s)
{
	const int one = 1;

	s->cork = false;
	if (!s->corked)
		return;
	s->corked = false;
	/* tcp(7): setting it pushes what is pending. Else the kernel does so 200 ms later. */
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	struct hf_tls_stream *s = BIO_get_data(bio);

	(void)num;
	(void)ptr;
	switch (cmd) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return s->eof;
	default:
		return 0;
	}
}

static BIO *bio_new(struct hf_tls_stream *s)
{
	/* Made once per process and kept: connections come and go by the thousand. */
	static BIO_METHOD *method;
	BIO *bio;

	if (!method) {
		BIO_METHOD *m =
			BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "holdfast");

		if (!m || !BIO_meth_set_read(m, bio_read) || !BIO_meth_set_write(m, bio_write) ||
		    !BIO_meth_set_ctrl(m, bio_ctrl)) {
			BIO_meth_free(m);
			return NULL;
		}
		method = m;
	}
	bio = BIO_new(method);
	if (!bio)
		return NULL;
	BIO_set_data(bio, s);
	BIO_set_init(bio, 1);
	return bio;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool is_ip_address(const char *name)
{
	struct in6_addr any;

	return inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1;
}

static int set_up_client(struct hf_tls_stream *s, const char *server_name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(s->ssl);
	size_t len = strcspn(server_name, "%");
	SSL_SESSION *session;
	int ok;

	/* Neither the root's dot nor an interface's name is part of what a certificate says. */
	if (len > 1 && server_name[len - 1] == '.')
		len--;
	s->server_name = strndup(server_name, len);
	if (!s->server_name)
		return -ENOMEM;
	if (is_ip_address(s->server_name)) {
		ok = X509_VERIFY_PARAM_set1_ip_asc(param, s->server_name);
	} else {
		X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
		ok = X509_VERIFY_PARAM_set1_host(param, s->server_name, 0) &&
		     SSL_set_tlsext_host_name(s->ssl, s->server_name);
	}
	if (!ok)
		return -ENOMEM;
	SSL_set_connect_state(s->ssl);
	session = hf_tls_session_get(s->context, s->server_name);
	if (session) {
		(void)SSL_set_session(s->ssl, session);
		SSL_SESSION_free(session);
	}
	return 0;
}

int hf_tls_stream_new(struct hf_tls_context *c, int fd, const char *server_name,
		      struct hf_tls_stream **ret)
{
	_cleanup_(hf_tls_stream_freep) struct hf_tls_stream *s = calloc(1, sizeof(*s));
	BIO *bio;
	int r;

	hf_assert(c->server == !server_name);
	if (!s)
		return -ENOMEM;
	s->fd = -1;
	s->context = c;
	ERR_clear_error();
	s->ssl = SSL_new(c->ssl);
	if (!s->ssl || !SSL_set_ex_data(s->ssl, hf_tls_stream_ex_index(), s))
		return -ENOMEM;
	bio = bio_new(s);
	if (!bio)
		return -ENOMEM;
	SSL_set_bio(s->ssl, bio, bio);
	if (c->server) {
		SSL_set_accept_state(s->ssl);
		s->want_read = EPOLLIN;
	} else {
		r = set_up_client(s, server_name);
		if (r < 0)
			return r;
		s->want_read = EPOLLOUT;
	}
	s->fd = fd;
	*ret = TAKE_PTR(s);
	return 0;
}

struct hf_tls_stream *hf_tls_stream_free(struct hf_tls_stream *s)
{
	if (!s)
		return NULL;
	if (s->ssl) {
		/* Else OpenSSL forgets the session of a connection that ended abruptly. */
		SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(s->ssl);
	}
	(void)hf_close(s->fd);
	free(s->server_name);
	free(s->text);
	OPENSSL_free(s->peer_der);
	free(s);
	return NULL;
}

/* ---- why it failed --------------------------------------------------------------------------- */

static int fail(struct hf_tls_stream *s, enum hf_tls_failure f, int error)
{
	/* The verify callback knows better than the alert it causes. */
	if (s->failure == HF_TLS_OK)
		s->failure = f;
	s->error = error;
	/*
	 * A peer that does not get along with our ticket must not be asked again with it. A cut
	 * connection says nothing about the ticket.
	 */
	if (!s->established && s->server_name && f != HF_TLS_IO && f != HF_TLS_EOF)
		hf_tls_session_drop(s->context, s->server_name);
	return error;
}

static int fail_alert(struct hf_tls_stream *s, int alert)
{
	s->alert = alert;
	if (alert == ALERT_PROTOCOL_VERSION || alert == ALERT_INSUFFICIENT_SECURITY) {
		hf_tls_set_text(s,
				"the other side accepts none of our protocol versions or ciphers");
		return fail(s, HF_TLS_WEAK_CRYPTO, -EPROTO);
	}
	hf_tls_set_text(s, "the other side refused: %s (alert %d)",
			SSL_alert_desc_string_long(alert), alert);
	return fail(s, HF_TLS_ALERT, -EPROTO);
}

static bool reason_is_weak_crypto(int reason)
{
	switch (reason) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_DH_KEY_TOO_SMALL:
	case SSL_R_EE_KEY_TOO_SMALL:
	case SSL_R_CA_KEY_TOO_SMALL:
	case SSL_R_CA_MD_TOO_WEAK:
	case SSL_R_WRONG_SIGNATURE_TYPE:
	case SSL_R_LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_WRONG_CIPHER_RETURNED:
	case SSL_R_UNKNOWN_CIPHER_RETURNED:
		return true;
	default:
		return false;
	}
}

static int fail_library(struct hf_tls_stream *s)
{
	unsigned long e = ERR_peek_error();
	int reason = ERR_GET_REASON(e);
	const char *text = ERR_reason_error_string(e);

	/* Verification was judged in its callback, with a text. */
	if (s->failure != HF_TLS_OK)
		return fail(s, s->failure, -EPROTO);
	if (ERR_GET_LIB(e) == ERR_LIB_SSL) {
		if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
			return fail(s, HF_TLS_EOF, -ENODATA);
		if (reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255)
			return fail_alert(s, reason - SSL_AD_REASON_OFFSET);
		hf_tls_set_text(s, "%s", text ? text : "unknown error");
		if (reason_is_weak_crypto(reason))
			return fail(s, HF_TLS_WEAK_CRYPTO, -EPROTO);
		if (reason != ERR_R_MALLOC_FAILURE && reason != ERR_R_INTERNAL_ERROR)
			return fail(s, HF_TLS_PROTOCOL, -EPROTO);
	}
	hf_tls_set_text(s, "%s", text ? text : "unknown error");
	return fail(s, HF_TLS_INTERNAL, reason == ERR_R_MALLOC_FAILURE ? -ENOMEM : -EPROTO);
}

/* After an SSL call that returned ret <= 0. want is the direction's field. 0 or -errno. */
static int judge(struct hf_tls_stream *s, int ret, uint32_t *want)
{
	switch (SSL_get_error(s->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		*want = EPOLLIN;
		return 0;
	case SSL_ERROR_WANT_WRITE:
		*want = EPOLLOUT;
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		return fail(s, HF_TLS_CLOSED, -ENODATA);
	case SSL_ERROR_SYSCALL:
		if (s->sys_errno == 0)
			return fail(s, HF_TLS_EOF, -ENODATA);
		return fail(s, HF_TLS_IO, -s->sys_errno);
	case SSL_ERROR_SSL:
		return fail_library(s);
	default:
		return fail(s, HF_TLS_INTERNAL, -EPROTO);
	}
}

/* ---- moving bytes ---------------------------------------------------------------------------- */

static void begin(struct hf_tls_stream *s)
{
	ERR_clear_error();
	s->sys_errno = 0;
}

void hf_tls_hold_flight(struct hf_tls_stream *s)
{
	s->hold = true;
}

int hf_tls_handshake(struct hf_tls_stream *s)
{
	int ret;

	if (s->error < 0)
		return s->error;
	if (s->established)
		return 1;
	begin(s);
	/* From the second turn of either side on, its flight may be the last. */
	s->cork = s->turns++ > 0 && s->hold;
	ret = SSL_do_handshake(s->ssl);
	if (ret <= 0) {
		uncork(s);
		return judge(s, ret, &s->want_read);
	}
	s->cork = false;
	s->established = true;
	s->want_read = EPOLLIN;
	s->want_write = 0;
	return 1;
}

ssize_t hf_tls_read(struct hf_tls_stream *s, void *buf, size_t len)
{
	size_t n;
	int ret;

	hf_assert(s->established || s->error < 0);
	if (s->error < 0)
		return s->error;
	begin(s);
	s->want_read = EPOLLIN;
	ret = SSL_read_ex(s->ssl, buf, len, &n);
	if (ret > 0)
		return (ssize_t)n;
	uncork(s);
	return judge(s, ret, &s->want_read);
}

/*
 * A peer that refuses us sends an alert and resets; our write meets the reset first. The alert is
 * still in the socket's queue and says why.
 */
static int look_for_alert(struct hf_tls_stream *s, int error)
{
	uint8_t byte;
	size_t n;
	unsigned long e;

	ERR_clear_error();
	if (SSL_peek_ex(s->ssl, &byte, 1, &n) > 0)
		return fail(s, HF_TLS_IO, error);
	e = ERR_peek_error();
	if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) > SSL_AD_REASON_OFFSET)
		return fail_alert(s, ERR_GET_REASON(e) - SSL_AD_REASON_OFFSET);
	s->sys_errno = -error;
	return fail(s, HF_TLS_IO, error);
}

ssize_t hf_tls_write(struct hf_tls_stream *s, const void *buf, size_t len)
{
	size_t n;
	int ret;

	hf_assert(s->established || s->error < 0);
	if (s->error < 0)
		return s->error;
	if (len == 0)
		return 0;
	begin(s);
	s->want_write = 0;
	ret = SSL_write_ex(s->ssl, buf, len, &n);
	if (ret > 0)
		return (ssize_t)n;
	if (s->sys_errno == EPIPE || s->sys_errno == ECONNRESET)
		return look_for_alert(s, -s->sys_errno);
	return judge(s, ret, &s->want_write);
}

void hf_tls_close_notify(struct hf_tls_stream *s)
{
	if (!s->established || s->error < 0 || s->close_sent)
		return;
	begin(s);
	(void)SSL_shutdown(s->ssl);
	s->close_sent = true;
}

int hf_tls_fd(const struct hf_tls_stream *s)
{
	return s->fd;
}

uint32_t hf_tls_events(const struct hf_tls_stream *s)
{
	return s->established ? EPOLLIN | s->want_read | s->want_write : s->want_read;
}

bool hf_tls_pending(const struct hf_tls_stream *s)
{
	return s->established && s->error == 0 && SSL_pending(s->ssl) > 0;
}

/* ---- what is known --------------------------------------------------------------------------- */

enum hf_tls_failure hf_tls_failure(const struct hf_tls_stream *s)
{
	return s->failure;
}

int hf_tls_errno(const struct hf_tls_stream *s)
{
	return s->failure == HF_TLS_IO ? s->sys_errno : 0;
}

int hf_tls_alert(const struct hf_tls_stream *s)
{
	return s->alert;
}

const char *hf_tls_error(const struct hf_tls_stream *s)
{
	if (s->text)
		return s->text;
	switch (s->failure) {
	case HF_TLS_OK:
		return "";
	case HF_TLS_IO:
		return strerrordesc_np(s->sys_errno) ? strerrordesc_np(s->sys_errno) : "I/O error";
	case HF_TLS_EOF:
		return "the other side closed the connection without saying so";
	case HF_TLS_CLOSED:
		return "the other side closed the connection";
	case HF_TLS_CERT_EXPIRED:
	case HF_TLS_CERT_NOT_YET_VALID:
	case HF_TLS_CERT_UNTRUSTED:
	case HF_TLS_CERT_NAME:
	case HF_TLS_CERT_REVOKED:
	case HF_TLS_PIN_MISMATCH:
	case HF_TLS_INTERCEPTED:
	case HF_TLS_WEAK_CRYPTO:
	case HF_TLS_ALERT:
	case HF_TLS_PROTOCOL:
	case HF_TLS_INTERNAL:
	case _HF_TLS_FAILURE_MAX:
		break;
	}
	return hf_tls_failure_name(s->failure);
}

bool hf_tls_resumed(const struct hf_tls_stream *s)
{
	return s->established && SSL_session_reused(s->ssl);
}

const char *hf_tls_version(const struct hf_tls_stream *s)
{
	return SSL_get_version(s->ssl);
}

int hf_tls_peer_cert_any(struct hf_tls_stream *s, const uint8_t **ret_der, size_t *ret_len)
{
	X509 *leaf = s->established ? SSL_get0_peer_certificate(s->ssl) : NULL;

	if (!leaf)
		return -ENOENT;
	if (!s->peer_der) {
		int len = i2d_X509(leaf, &s->peer_der);

		if (len <= 0)
			return -ENOMEM;
		s->peer_len = (size_t)len;
	}
	*ret_der = s->peer_der;
	*ret_len = s->peer_len;
	return 0;
}

enum hf_tls_failure hf_tls_peer_cert_failure(struct hf_tls_stream *s)
{
	if (!s->context->server || !s->established || !SSL_get0_peer_certificate(s->ssl))
		return HF_TLS_OK;
	if (!s->peer_judged && SSL_session_reused(s->ssl))
		hf_tls_judge_resumed_peer(s);
	s->peer_judged = true;
	return s->peer_failure;
}

int hf_tls_peer_cert(struct hf_tls_stream *s, const uint8_t **ret_der, size_t *ret_len)
{
	const uint8_t *der;
	size_t len;
	int r = hf_tls_peer_cert_any(s, &der, &len);

	if (r < 0)
		return r;
	if (hf_tls_peer_cert_failure(s) != HF_TLS_OK)
		return -EKEYREJECTED;
	*ret_der = der;
	*ret_len = len;
	return 0;
}
