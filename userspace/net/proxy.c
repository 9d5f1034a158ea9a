/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CONNECT exchange. The answer is peeked and only what belongs to it is taken, so that the first
 * bytes of what comes through the tunnel stay in the socket for TLS.
 */
#include "userspace/net/proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/str.h"

struct hf_proxy_talk {
	struct hf_buf request; /* with the password */
	bool with_credentials;
	struct hf_http_parser *answer;
};

int hf_proxy_talk_new(const struct hf_url *target, const char *userinfo, struct hf_proxy_talk **ret)
{
	_cleanup_(hf_proxy_talk_freep) struct hf_proxy_talk *t = calloc(1, sizeof(*t));
	char authority[300], basic[4 * ((256 + 2) / 3) + 1];
	int r;

	if (!t)
		return -ENOMEM;
	r = hf_http_parser_new(HF_HTTP_RESPONSE, 0, true, &t->answer);
	if (r < 0)
		return r;
	/* Enough for all of it: growing would leave the password behind in freed memory. */
	r = hf_buf_reserve(&t->request, 1536);
	if (r < 0)
		return r;
	hf_url_authority(target, authority, sizeof(authority));
	r = hf_buf_appendf(&t->request,
			   "CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: holdfast/" HF_VERSION
			   "\r\n",
			   authority, authority);
	if (r == 0 && *userinfo) {
		t->with_credentials = true;
		(void)hf_base64_encode(basic, userinfo, strlen(userinfo));
		r = hf_buf_appendf(&t->request, "Proxy-Authorization: Basic %s\r\n", basic);
		hf_wipe(basic, sizeof(basic));
	}
	if (r == 0)
		r = hf_buf_append(&t->request, "\r\n", 2);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

struct hf_proxy_talk *hf_proxy_talk_free(struct hf_proxy_talk *t)
{
	if (!t)
		return NULL;
	if (t->request.data)
		hf_wipe(t->request.data, t->request.cap);
	hf_buf_done(&t->request);
	hf_http_parser_free(t->answer);
	free(t);
	return NULL;
}

uint32_t hf_proxy_talk_events(const struct hf_proxy_talk *t)
{
	return t->request.len > 0 ? EPOLLOUT : EPOLLIN;
}

static int verdict(struct hf_proxy_verdict *v, enum hf_dial_failure f, int code, const char *fmt,
		   ...) __attribute__((format(printf, 4, 5)));

static int verdict(struct hf_proxy_verdict *v, enum hf_dial_failure f, int code, const char *fmt,
		   ...)
{
	va_list ap;

	v->failure = f;
	v->code = code;
	va_start(ap, fmt);
	(void)vsnprintf(v->text, sizeof(v->text), fmt, ap);
	va_end(ap);
	hf_sanitize(v->text);
	return 1;
}

/* The authentication schemes offered, each once: "Negotiate, NTLM". */
static void list_schemes(const struct hf_http_message *m, char *dst, size_t size)
{
	dst[0] = '\0';
	for (size_t i = 0; i < m->n_headers; i++) {
		const char *value = m->headers[i].value;
		char scheme[24];
		size_t used = strlen(dst), len = strcspn(value, " ,\t");

		if (strcasecmp(m->headers[i].name, "Proxy-Authenticate") != 0 || len == 0 ||
		    len >= sizeof(scheme))
			continue;
		memcpy(scheme, value, len);
		scheme[len] = '\0';
		if (!strcasestr(dst, scheme))
			(void)hf_strf(dst + used, size - used, "%s%s", used ? ", " : "", scheme);
	}
	if (!*dst)
		(void)hf_strlcpy(dst, "no scheme named", size);
}

static int auth_verdict(const struct hf_proxy_talk *t, const struct hf_http_message *m,
			struct hf_proxy_verdict *v)
{
	char schemes[100];

	list_schemes(m, schemes, sizeof(schemes));
	if (!strcasestr(schemes, "Basic"))
		return verdict(v, HF_DIAL_PROXY_AUTH, 407,
			       "the proxy asks for %s; only Basic is supported: allow this host or "
			       "use a local relay",
			       schemes);
	if (t->with_credentials)
		return verdict(v, HF_DIAL_PROXY_AUTH, 407,
			       "the proxy refused the configured user and password (%s)", schemes);
	return verdict(v, HF_DIAL_PROXY_AUTH, 407,
		       "the proxy asks for a user and password (%s), none is configured", schemes);
}

static int judge(const struct hf_proxy_talk *t, const struct hf_http_message *m,
		 struct hf_proxy_verdict *v)
{
	if (m->status >= 200 && m->status < 300)
		return verdict(v, HF_DIAL_OK, 0, "%s", "");
	if (m->status == 407)
		return auth_verdict(t, m, v);
	/* 101 and the like: no proxy answers CONNECT so. */
	if (m->status < 200)
		return verdict(v, HF_DIAL_PROXY_PROTOCOL, (int)m->status,
			       "the proxy answered CONNECT with %u", m->status);
	return verdict(v, HF_DIAL_PROXY_REFUSED, (int)m->status, "the proxy answered %u %s",
		       m->status, *m->reason ? m->reason : hf_http_status_text(m->status));
}

static int send_request(struct hf_proxy_talk *t, int fd, struct hf_proxy_verdict *v)
{
	ssize_t n = send(fd, t->request.data, t->request.len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return verdict(v, HF_DIAL_PROXY_REFUSED, errno, "the proxy: %s", strerror(errno));
	if (n > 0) {
		hf_buf_consume(&t->request, (size_t)n);
		if (t->request.len == 0)
			hf_wipe(t->request.data, t->request.cap);
	}
	return 0;
}

int hf_proxy_talk_step(struct hf_proxy_talk *t, int fd, struct hf_proxy_verdict *ret_verdict)
{
	if (t->request.len > 0)
		return send_request(t, fd, ret_verdict);
	for (;;) {
		uint8_t buf[2048];
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_PEEK), taken;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n < 0)
			return verdict(ret_verdict, HF_DIAL_PROXY_REFUSED, errno, "the proxy: %s",
				       strerror(errno));
		if (n == 0)
			return verdict(ret_verdict, HF_DIAL_PROXY_PROTOCOL, 0,
				       "the proxy closed the connection without an answer");
		taken = hf_http_parse(t->answer, buf, (size_t)n);
		if (taken < 0)
			return verdict(ret_verdict, HF_DIAL_PROXY_PROTOCOL, 0,
				       "what answered is not an HTTP proxy");
		/* These bytes are there: they were just seen. */
		(void)recv(fd, buf, (size_t)taken, 0);
		if (hf_http_parser_message(t->answer))
			return judge(t, hf_http_parser_message(t->answer), ret_verdict);
	}
}
