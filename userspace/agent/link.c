/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pump between socket and WebSocket. Everything that can free the link runs between enter() and
 * leave(): a free inside a callback only marks it, the outermost leave() destroys.
 */
#include "userspace/agent/link.h"

#include <errno.h>
#include <netinet/in.h>
/* linux/tcp.h has tcpi_bytes_acked, which netinet/tcp.h of older C libraries lacks. */
#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "holdfast/session.h"
#include "userspace/net/websocket.h"

#define LINK_MAGIC     0x4b4e494cu
#define READ_CHUNK     16384u /* one TLS record */
#define READS_PER_WAKE 32u    /* half a message at most, then the loop looks around */

enum link_state { LINK_TLS, LINK_UPGRADE, LINK_OPEN, LINK_CLOSING, LINK_ENDED };

struct hf_link {
	unsigned magic;
	enum link_state state;
	struct hf_tls_stream *tls;
	struct hf_websocket *ws;
	struct hf_http_parser *parser;
	struct hf_buf request; /* not yet written */
	char key[HF_WS_KEY_SIZE];
	sd_event_source *io, *again;
	uint32_t events;
	struct hf_url url;
	char *bearer, *headers;
	uint64_t cookie;
	int fd;
	size_t answer_len; /* bytes of the upgrade's answer so far */
	struct hf_link_callbacks cb;
	void *userdata;
	struct hf_link_end end;
	uint64_t last_heard_ns, tls_done_ns, open_ns;
	unsigned busy;
	bool doomed;
	bool closed_received;
	bool told;
};

static void pump(struct hf_link *l);

static void destroy(struct hf_link *l)
{
	sd_event_source_disable_unref(l->io);
	sd_event_source_disable_unref(l->again);
	l->ws = hf_ws_free(l->ws);
	l->parser = hf_http_parser_free(l->parser);
	l->tls = hf_tls_stream_free(l->tls);
	hf_wipe(l->request.data, l->request.len);
	hf_buf_done(&l->request);
	if (l->bearer)
		hf_wipe(l->bearer, strlen(l->bearer));
	free(l->bearer);
	if (l->headers)
		hf_wipe(l->headers, strlen(l->headers));
	free(l->headers);
	l->magic = 0;
	free(l);
}

static void enter(struct hf_link *l)
{
	l->busy++;
}

static void leave(struct hf_link *l)
{
	hf_assert(l->busy > 0);
	if (--l->busy == 0 && l->doomed)
		destroy(l);
}

struct hf_link *hf_link_free(struct hf_link *l)
{
	if (!l)
		return NULL;
	l->doomed = true;
	l->state = LINK_ENDED;
	l->told = true;
	if (l->busy == 0) {
		destroy(l);
	} else {
		/* The pump that is running must not be woken for a link that nobody owns. */
		(void)sd_event_source_set_enabled(l->io, SD_EVENT_OFF);
		(void)sd_event_source_set_enabled(l->again, SD_EVENT_OFF);
	}
	return NULL;
}

/* Called inside enter()/leave() only. */
static void end_link(struct hf_link *l)
{
	if (l->told)
		return;
	l->told = true;
	l->state = LINK_ENDED;
	(void)sd_event_source_set_enabled(l->io, SD_EVENT_OFF);
	(void)sd_event_source_set_enabled(l->again, SD_EVENT_OFF);
	l->cb.gone(&l->end, l->userdata);
}

static void end_by_stream(struct hf_link *l, int r)
{
	l->end.tls = hf_tls_failure(l->tls);
	l->end.err = hf_tls_errno(l->tls);
	if (l->end.err == 0 && l->end.tls == HF_TLS_IO)
		l->end.err = -r;
	l->end.alert = hf_tls_alert(l->tls);
	hf_strlcpy(l->end.tls_text, hf_tls_error(l->tls), sizeof(l->end.tls_text));
	hf_sanitize(l->end.tls_text);
	end_link(l);
}

static void end_by_violation(struct hf_link *l, uint16_t code, const char *text)
{
	l->end.violation = code;
	hf_strlcpy(l->end.violation_text, text, sizeof(l->end.violation_text));
	end_link(l);
}

static void on_message(bool binary, const uint8_t *data, size_t len, void *userdata)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, LINK_MAGIC);

	if (l->state != LINK_OPEN || l->doomed)
		return;
	if (!binary) {
		/* OpAMP is binary; RFC 6455 has a code for data of a kind one cannot accept. */
		(void)hf_ws_close(l->ws, HF_WS_CLOSE_UNSUPPORTED, "text message");
		l->end.violation = HF_WS_CLOSE_UNSUPPORTED;
		hf_strlcpy(l->end.violation_text, "a text message", sizeof(l->end.violation_text));
		return;
	}
	l->cb.message(data, len, l->userdata);
}

static void on_pong(const uint8_t *data, size_t len, void *userdata)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, LINK_MAGIC);

	(void)data;
	(void)len;
	if (l->state == LINK_OPEN && !l->doomed && l->cb.pong)
		l->cb.pong(l->userdata);
}

static void on_closed(uint16_t code, const char *reason, void *userdata)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, LINK_MAGIC);

	l->closed_received = true;
	l->end.close_code = code;
	hf_strlcpy(l->end.close_reason, reason ? reason : "", sizeof(l->end.close_reason));
}

static int queue_request(struct hf_link *l)
{
	char authority[300];
	int r;

	hf_ws_make_key(l->key);
	hf_url_authority(&l->url, authority, sizeof(authority));
	r = hf_buf_appendf(&l->request,
			   "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"
			   "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
			   "Sec-WebSocket-Version: 13\r\nUser-Agent: holdfast-agent/" HF_VERSION
			   "\r\n",
			   l->url.path, authority, l->key);
	if (r >= 0 && l->bearer)
		r = hf_buf_appendf(&l->request, "Authorization: Bearer %s\r\n", l->bearer);
	if (r >= 0)
		r = hf_buf_appendf(&l->request, "%s\r\n", l->headers ? l->headers : "");
	return r;
}

/* Writes the request, then frames. 0 all written or would block; -errno. */
static int flush(struct hf_link *l)
{
	while (l->request.len > 0) {
		ssize_t n = hf_tls_write(l->tls, l->request.data, l->request.len);

		if (n <= 0)
			return (int)n;
		hf_wipe(l->request.data, (size_t)n); /* a token may be in it */
		hf_buf_consume(&l->request, (size_t)n);
	}
	while (l->ws) {
		size_t len;
		const uint8_t *out = hf_ws_outgoing(l->ws, &len);
		ssize_t n;

		if (!out || len == 0)
			break;
		n = hf_tls_write(l->tls, out, len);
		if (n <= 0)
			return (int)n;
		hf_ws_consume(l->ws, (size_t)n);
	}
	return 0;
}

/* The whole answer to the upgrade request is there. True: open. */
static bool accept_upgrade(struct hf_link *l, const struct hf_http_message *m)
{
	char want[HF_WS_ACCEPT_SIZE];
	const char *got, *v;

	l->end.http_status = m->status;
	if (m->status != 101) {
		v = hf_http_header(m, HF_HEADER_CAUSE);
		hf_strlcpy(l->end.http_cause, v ? v : "", sizeof(l->end.http_cause));
		hf_sanitize(l->end.http_cause);
		v = hf_http_header(m, "Retry-After");
		hf_strlcpy(l->end.http_retry_after, v ? v : "", sizeof(l->end.http_retry_after));
		return false;
	}
	hf_ws_accept(l->key, want);
	got = hf_http_header(m, "Sec-WebSocket-Accept");
	/* We offered neither extension nor subprotocol: an answer with one is not to our request. */
	if (!m->upgrade_websocket || !got || !hf_streq(got, want) ||
	    hf_http_header(m, "Sec-WebSocket-Extensions") ||
	    hf_http_header(m, "Sec-WebSocket-Protocol")) {
		l->end.bad_accept = true;
		return false;
	}
	return true;
}

static const char *violation_text(int r)
{
	switch (r) {
	case -EMSGSIZE:
		return "a message longer than allowed";
	case -EILSEQ:
		return "text that is not UTF-8";
	case -EPROTO:
		return "a frame that RFC 6455 forbids";
	}
	return strerror(-r);
}

static void feed_websocket(struct hf_link *l, const uint8_t *data, size_t len)
{
	int r = hf_ws_receive(l->ws, data, len);

	if (l->doomed)
		return;
	if (r < 0 || l->end.violation) {
		(void)flush(l); /* best effort: the close frame with its code */
		hf_tls_close_notify(l->tls);
		end_by_violation(l, l->end.violation ? l->end.violation : hf_ws_violation(l->ws),
				 l->end.violation_text[0] ? l->end.violation_text
							  : violation_text(r));
	} else if (l->closed_received) {
		(void)flush(l); /* best effort: the echo */
		hf_tls_close_notify(l->tls);
		end_link(l);
	}
}

/*
 * Whoever answers with something else entirely is recognised by its first bytes: waiting for the end
 * of a head that never comes would only look like silence.
 */
static bool starts_like_http(struct hf_link *l, const uint8_t *data, size_t len)
{
	static const char want[] = "HTTP/1.";

	for (size_t i = 0; i < len && l->answer_len < sizeof(want) - 1; i++) {
		if (data[i] != (uint8_t)want[l->answer_len++])
			return false;
	}
	return true;
}

static void feed_upgrade(struct hf_link *l, const uint8_t *data, size_t len)
{
	const struct hf_ws_callbacks cb = {
		.message = on_message,
		.pong = on_pong,
		.closed = on_closed,
	};
	ssize_t n = starts_like_http(l, data, len) ? hf_http_parse(l->parser, data, len) : -EBADMSG;
	const struct hf_http_message *m;
	int r;

	if (n < 0) {
		l->end.http_status = 0;
		end_by_violation(l, HF_WS_CLOSE_PROTOCOL, "the answer is not HTTP/1.1");
		return;
	}
	m = hf_http_parser_message(l->parser);
	if (!m)
		return;
	if (!accept_upgrade(l, m)) {
		end_link(l);
		return;
	}
	r = hf_ws_new(HF_WS_CLIENT, HF_MESSAGE_MAX, HF_LINK_QUEUE_MAX, &cb, l, &l->ws);
	if (r < 0) {
		l->end.err = -r;
		end_link(l);
		return;
	}
	l->state = LINK_OPEN;
	l->open_ns = hf_now_monotonic_ns();
	l->end.phase = HF_PHASE_HELLO;
	l->parser = hf_http_parser_free(l->parser);
	l->cb.open(l->userdata);
	if (!l->doomed && l->state == LINK_OPEN && (size_t)n < len)
		feed_websocket(l, data + n, len - (size_t)n);
}

/* Reads until there is nothing, or the budget is used up. */
static void drain(struct hf_link *l)
{
	uint8_t buf[READ_CHUNK];

	for (unsigned i = 0; i < READS_PER_WAKE; i++) {
		ssize_t n;

		if (l->doomed || l->state == LINK_ENDED)
			return;
		n = hf_tls_read(l->tls, buf, sizeof(buf));
		if (n == 0)
			return;
		if (n < 0) {
			end_by_stream(l, (int)n);
			return;
		}
		l->last_heard_ns = hf_now_boottime_ns();
		if (l->state == LINK_UPGRADE)
			feed_upgrade(l, buf, (size_t)n);
		else
			feed_websocket(l, buf, (size_t)n);
	}
	if (!l->doomed && l->state != LINK_ENDED && hf_tls_pending(l->tls))
		(void)sd_event_source_set_enabled(l->again, SD_EVENT_ONESHOT);
}

static void rearm(struct hf_link *l)
{
	uint32_t events;

	if (l->doomed || l->state == LINK_ENDED)
		return;
	events = hf_tls_events(l->tls);
	if (events != l->events && sd_event_source_set_io_events(l->io, events) >= 0)
		l->events = events;
}

static void pump(struct hf_link *l)
{
	int r;

	if (l->state == LINK_ENDED)
		return;
	enter(l);
	if (l->state == LINK_TLS) {
		r = hf_tls_handshake(l->tls);
		if (r < 0) {
			end_by_stream(l, r);
			leave(l);
			return;
		}
		if (r == 0) {
			rearm(l);
			leave(l);
			return;
		}
		l->tls_done_ns = hf_now_monotonic_ns();
		l->state = LINK_UPGRADE;
		l->end.phase = HF_PHASE_UPGRADE;
		r = queue_request(l);
		if (r < 0) {
			l->end.err = -r;
			end_link(l);
			leave(l);
			return;
		}
	}
	r = flush(l);
	/* A failed write is told by the read: what the peer said before it went comes first. */
	drain(l);
	if (!l->doomed && l->state != LINK_ENDED) {
		if (r >= 0)
			r = flush(l);
		if (r < 0)
			end_by_stream(l, r);
		else if (l->state == LINK_OPEN && l->cb.writable && hf_ws_queued(l->ws) == 0)
			l->cb.writable(l->userdata);
		if (!l->doomed && l->state == LINK_OPEN && hf_ws_queued(l->ws) > 0 && r >= 0)
			(void)flush(l); /* a failure shows at the next wakeup */
	}
	rearm(l);
	leave(l);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, LINK_MAGIC);

	(void)s;
	(void)fd;
	(void)revents;
	pump(l);
	return 0;
}

static int on_again(sd_event_source *s, void *userdata)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, LINK_MAGIC);

	(void)s;
	pump(l);
	return 0;
}

int hf_link_new(const struct hf_link_options *o, int fd, const struct hf_link_callbacks *cb,
		void *userdata, struct hf_link **ret)
{
	struct hf_link *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->magic = LINK_MAGIC;
	l->cb = *cb;
	l->userdata = userdata;
	l->url = *o->url;
	hf_wipe(l->url.userinfo, sizeof(l->url.userinfo));
	l->cookie = o->cookie;
	l->fd = fd;
	l->end.phase = HF_PHASE_TLS;
	l->last_heard_ns = hf_now_boottime_ns();
	l->events = EPOLLIN | EPOLLOUT;
	if (o->bearer) {
		l->bearer = strdup(o->bearer);
		if (!l->bearer) {
			r = -ENOMEM;
			goto cleanup;
		}
	}
	if (o->headers) {
		l->headers = strdup(o->headers);
		if (!l->headers) {
			r = -ENOMEM;
			goto cleanup;
		}
	}
	r = hf_http_parser_new(HF_HTTP_RESPONSE, 0, true, &l->parser);
	if (r < 0)
		goto cleanup;
	r = sd_event_add_io(o->event, &l->io, fd, l->events, on_io, l);
	if (r < 0)
		goto cleanup;
	r = sd_event_source_set_priority(l->io, SD_EVENT_PRIORITY_NORMAL - 10);
	if (r < 0)
		goto cleanup;
	(void)sd_event_source_set_description(l->io, "link"); /* for debugging only */
	r = sd_event_add_defer(o->event, &l->again, on_again, l);
	if (r < 0)
		goto cleanup;
	r = sd_event_source_set_enabled(l->again, SD_EVENT_OFF);
	if (r < 0)
		goto cleanup;
	/* Last, since it consumes fd. */
	r = hf_tls_stream_new(o->tls, fd, l->url.host, &l->tls);
	if (r < 0)
		goto cleanup;
	hf_tls_hold_flight(l->tls);
	*ret = l;
	return 0;

cleanup:
	destroy(l);
	return r;
}

void hf_link_set_callbacks(struct hf_link *l, const struct hf_link_callbacks *cb, void *userdata)
{
	l->cb = *cb;
	l->userdata = userdata;
}

void hf_link_start(struct hf_link *l)
{
	pump(l);
}

void hf_link_poke(struct hf_link *l)
{
	if (l->busy == 0)
		pump(l);
}

/* Inside a callback the running pump flushes at its end. */
static void flush_soon(struct hf_link *l)
{
	int r;

	if (l->busy > 0)
		return;
	enter(l);
	r = flush(l);
	if (r < 0)
		drain(l);
	if (r < 0 && !l->doomed && l->state != LINK_ENDED)
		end_by_stream(l, r);
	rearm(l);
	leave(l);
}

int hf_link_send(struct hf_link *l, const void *data, size_t len)
{
	int r;

	if (l->state == LINK_CLOSING || l->state == LINK_ENDED)
		return -EPIPE;
	if (l->state != LINK_OPEN)
		return -ENOTCONN;
	r = hf_ws_send(l->ws, true, data, len);
	if (r < 0)
		return r;
	flush_soon(l);
	return 0;
}

int hf_link_ping(struct hf_link *l)
{
	int r;

	if (l->state != LINK_OPEN)
		return -ENOTCONN;
	r = hf_ws_ping(l->ws, "hf", 2);
	if (r < 0)
		return r;
	flush_soon(l);
	return 0;
}

void hf_link_close(struct hf_link *l, uint16_t code, const char *reason)
{
	if (l->state != LINK_OPEN)
		return;
	(void)hf_ws_close(l->ws, code, reason); /* -EPIPE: it was closed already */
	if (l->busy > 0)
		(void)flush(l); /* the owner may free us before the running pump comes to it */
	else
		flush_soon(l);
	if (l->state == LINK_OPEN)
		l->state = LINK_CLOSING;
}

bool hf_link_is_open(const struct hf_link *l)
{
	return l->state == LINK_OPEN;
}

size_t hf_link_queued(const struct hf_link *l)
{
	return l->ws ? hf_ws_queued(l->ws) : 0;
}

uint64_t hf_link_cookie(const struct hf_link *l)
{
	return l->cookie;
}

int hf_link_fd(const struct hf_link *l)
{
	return l->fd;
}

const char *hf_link_tls_version(const struct hf_link *l)
{
	return hf_tls_version(l->tls);
}

bool hf_link_tls_resumed(const struct hf_link *l)
{
	return hf_tls_resumed(l->tls);
}

uint64_t hf_link_last_heard_ns(const struct hf_link *l)
{
	return l->last_heard_ns;
}

uint64_t hf_link_tls_done_ns(const struct hf_link *l)
{
	return l->tls_done_ns;
}

uint64_t hf_link_open_ns(const struct hf_link *l)
{
	return l->open_ns;
}

bool hf_link_tcp(const struct hf_link *l, struct hf_link_tcp *ret)
{
	struct tcp_info ti = {};
	socklen_t len = sizeof(ti);

	if (getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &ti, &len) < 0)
		return false;
	*ret = (struct hf_link_tcp){
		.unacked = ti.tcpi_unacked,
		.sacked = ti.tcpi_sacked,
		.retransmits = ti.tcpi_retransmits,
		.rtt_us = ti.tcpi_rtt,
		.snd_mss = ti.tcpi_snd_mss,
		.last_ack_ms = ti.tcpi_last_ack_recv,
		.bytes_acked = ti.tcpi_bytes_acked,
	};
	return true;
}
