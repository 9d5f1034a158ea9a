/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection's life:
 *
 *   HANDSHAKE → HTTP ⇄ ANSWERING → … → DRAINING (→ LINGERING) → DEAD
 *                         ├→ STREAM (event stream)            → DEAD
 *                         └→ WEBSOCKET → WS_CLOSING           → DEAD
 *
 * I1 Nothing is freed inside a call on the connection: it becomes DEAD, and the server reaps it from
 *    the loop, which is also where a WebSocket's or stream's owner is told.
 * I2 Every state has a deadline; silence or a trickle of bytes ends it.
 * I3 What waits to be sent is bounded: one answer at a time, a cap for streams and WebSockets.
 */
#include "tools/portal/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/session.h"
#include "tools/portal/conn_internal.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/router.h"
#include "tools/portal/server.h"
#include "userspace/net/tls_stream.h"

#define HANDSHAKE_NS      (10 * HF_NS_PER_S)
#define HEAD_NS           (10 * HF_NS_PER_S) /* first byte to the end of the headers */
#define BODY_NS           (30 * HF_NS_PER_S)
#define IDLE_NS           (60 * HF_NS_PER_S)  /* between requests */
#define ANSWER_NS         (120 * HF_NS_PER_S) /* ours to keep: longer is a bug, not a wait */
#define DRAIN_NS          (5 * HF_NS_PER_S)
#define LINGER_NS         (2 * HF_NS_PER_S) /* a peer that still sends when we refused it */
#define TIMER_ACCURACY_US 50000 /* 50 ms: coarse on purpose, there are as many timers as peers */
#define REQUESTS_MAX      1000u /* per connection; bounds what one may cost before a new handshake */
#define BODY_MAX          65536u /* no request of the API is larger */
#define READ_SIZE         16384u /* one TLS record */
#define READS_PER_WAKE    8u     /* then the others' turn */
#define STREAM_SNDBUF     65536
#define STREAM_QUEUE_MAX  (512u << 10)

/* One loop thread reads for all connections. */
static uint8_t read_buffer[READ_SIZE];

static void conn_run(struct hf_conn *c);

static uint64_t now_ns(void)
{
	return hf_now_monotonic_ns();
}

void hf_conn_set_deadline(struct hf_conn *c, uint64_t from_now_ns)
{
	if (!c->timer)
		return;
	(void)sd_event_source_set_time(c->timer, (now_ns() + from_now_ns) / HF_NS_PER_US);
	(void)sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* A NULL timer or a bad event state are the only failures of these calls, and both are our bugs. */
static void silence(sd_event_source *s)
{
	if (s)
		(void)sd_event_source_set_enabled(s, SD_EVENT_OFF);
}

void hf_conn_end_now(struct hf_conn *c, enum hf_conn_end how)
{
	if (c->state == CONN_DEAD)
		return;
	if (c->state == CONN_HANDSHAKE)
		hf_server_handshake_done(c->server);
	c->state = CONN_DEAD;
	c->how = how;
	silence(c->io);
	silence(c->timer);
	silence(c->kick);
	hf_server_reap_later(c->server, c);
}

static void conn_free(struct hf_conn *c)
{
	c->io = sd_event_source_disable_unref(c->io);
	c->timer = sd_event_source_disable_unref(c->timer);
	c->kick = sd_event_source_disable_unref(c->kick);
	c->parser = hf_http_parser_free(c->parser);
	c->ws = hf_ws_free(c->ws);
	c->tls = hf_tls_stream_free(c->tls);
	hf_buf_done(&c->in);
	hf_buf_done(&c->out);
	c->magic = 0;
	free(c);
}

struct hf_conn *hf_conn_ref(struct hf_conn *c)
{
	c->refs++;
	return c;
}

struct hf_conn *hf_conn_unref(struct hf_conn *c)
{
	if (c && --c->refs == 0)
		conn_free(c);
	return NULL;
}

struct hf_conn *hf_conn_next(struct hf_conn *c)
{
	return c->next;
}

struct hf_conn *hf_conn_set_next_dead(struct hf_conn *c, struct hf_conn *next)
{
	struct hf_conn *old = c->next_dead;

	c->next_dead = next;
	return old;
}

/* From the loop, for a DEAD connection: tells the owners, closes the socket, leaves the list. */
void hf_conn_reap(struct hf_conn *c)
{
	struct hf_conn_list *l = hf_server_connections(c->server);
	bool websocket = c->ws != NULL;

	hf_assert(c->state == CONN_DEAD && !c->reaped);
	c->reaped = true;
	if (c->ws_owner.ended)
		c->ws_owner.ended(c->ws_owner.userdata, c->how);
	if (c->stream_ended)
		c->stream_ended(c->stream_userdata);
	c->ws_owner = (struct hf_conn_websocket){};
	c->stream_ended = NULL;
	c->io = sd_event_source_disable_unref(c->io);
	c->timer = sd_event_source_disable_unref(c->timer);
	c->kick = sd_event_source_disable_unref(c->kick);
	c->tls = hf_tls_stream_free(c->tls);
	if (c->prev)
		c->prev->next = c->next;
	else
		l->head = c->next;
	if (c->next)
		c->next->prev = c->prev;
	if (websocket)
		hf_server_websockets(c->server, -1);
	hf_server_conn_gone(c->server);
	(void)hf_conn_unref(c);
}

/* ---- sending -------------------------------------------------------------------------------- */

enum hf_conn_end hf_conn_end_of(struct hf_conn *c, int r)
{
	switch (hf_tls_failure(c->tls)) {
	case HF_TLS_CLOSED:
	case HF_TLS_EOF:
		return HF_CONN_END_PEER;
	case HF_TLS_IO:
		r = hf_tls_errno(c->tls);
		break;
	default:
		break;
	}
	if (r == -ETIMEDOUT || r == ETIMEDOUT || r == EHOSTUNREACH || r == -EHOSTUNREACH)
		return HF_CONN_END_TIMEOUT;
	if (r == -ENODATA)
		return HF_CONN_END_PEER;
	if (r == -ECONNRESET || r == ECONNRESET || r == -EPIPE || r == EPIPE)
		return HF_CONN_END_RESET;
	return HF_CONN_END_PROTOCOL;
}

/* True: everything of buf was taken. */
static bool flush_out(struct hf_conn *c)
{
	while (c->out_off < c->out.len) {
		ssize_t n = hf_tls_write(c->tls, c->out.data + c->out_off, c->out.len - c->out_off);

		if (n == 0)
			return false;
		if (n < 0) {
			hf_conn_end_now(c, hf_conn_end_of(c, (int)n));
			return false;
		}
		c->out_off += (size_t)n;
	}
	hf_buf_done(&c->out); /* an idle connection keeps no buffer */
	c->out_off = 0;
	return true;
}

static void flush(struct hf_conn *c)
{
	if (c->state == CONN_DEAD || c->state == CONN_HANDSHAKE || !flush_out(c))
		return;
	if (c->ws && !hf_conn_ws_flush(c))
		return;
	if (c->state == CONN_DRAINING && c->linger) {
		hf_tls_close_notify(c->tls);
		(void)shutdown(hf_tls_fd(c->tls), SHUT_WR); /* fails when the peer is gone */
		c->state = CONN_LINGERING;
		hf_conn_set_deadline(c, LINGER_NS);
	} else if (c->state == CONN_DRAINING) {
		hf_tls_close_notify(c->tls);
		hf_conn_end_now(c, HF_CONN_END_LOCAL);
	} else if (c->state == CONN_WS_CLOSING && hf_ws_close_received(c->ws) &&
		   hf_ws_close_sent(c->ws)) {
		hf_tls_close_notify(c->tls);
		hf_conn_end_now(c, c->how);
	}
}

static bool may_read(const struct hf_conn *c)
{
	switch (c->state) {
	case CONN_HTTP:
	case CONN_STREAM:
	case CONN_WS_CLOSING:
	case CONN_LINGERING:
		return true;
	case CONN_WEBSOCKET:
		return !c->ws_paused;
	case CONN_HANDSHAKE:
	case CONN_ANSWERING:
	case CONN_DRAINING:
	case CONN_DEAD:
		return false;
	}
	return false;
}

void hf_conn_update_events(struct hf_conn *c)
{
	uint32_t events;

	if (c->state == CONN_DEAD)
		return;
	events = hf_tls_events(c->tls);
	if (c->state != CONN_HANDSHAKE && !may_read(c))
		events &= ~(uint32_t)EPOLLIN;
	if (events != c->events) {
		c->events = events;
		(void)sd_event_source_set_io_events(c->io, events); /* as silence() */
	}
}

/* After something was queued from outside of conn_run(). */
void hf_conn_push(struct hf_conn *c)
{
	if (c->running || c->state == CONN_DEAD)
		return;
	flush(c);
	hf_conn_update_events(c);
}

static int on_kick(sd_event_source *source, void *userdata)
{
	struct hf_conn *c = HF_CAST(userdata, struct hf_conn, CONN_MAGIC);

	(void)source;
	conn_run(c);
	return 0;
}

/* Bytes that were received already wait for us: epoll will not tell. */
void hf_conn_kick(struct hf_conn *c)
{
	if (c->state == CONN_DEAD)
		return;
	if (!c->kick) {
		if (sd_event_add_defer(hf_server_portal(c->server)->event, &c->kick, on_kick, c) <
		    0) {
			hf_conn_end_now(c, HF_CONN_END_LOCAL);
			return;
		}
		(void)sd_event_source_set_description(c->kick, "connection-kick"); /* a name */
	}
	(void)sd_event_source_set_enabled(c->kick, SD_EVENT_ONESHOT);
}

void hf_conn_queue_out(struct hf_conn *c, const void *data, size_t len)
{
	if (hf_buf_append(&c->out, data, len) < 0)
		hf_conn_end_now(c, HF_CONN_END_LOCAL);
}

void hf_conn_reply(struct hf_conn *c, const struct hf_reply *reply)
{
	struct hf_counters *n = &hf_server_portal(c->server)->counters;
	_cleanup_(hf_buf_done) struct hf_buf head = {};
	bool keep = c->keep_alive && !reply->close && c->requests < REQUESTS_MAX &&
		    !hf_server_portal(c->server)->stopping;
	int r;

	if (reply->status / 100 < HF_ARRAY_SIZE(n->requests))
		n->requests[reply->status / 100]++;
	if (c->state != CONN_ANSWERING)
		return; /* it ended meanwhile */
	r = hf_buf_appendf(&head, "HTTP/1.1 %u %s\r\n", reply->status,
			   hf_http_status_text(reply->status));
	if (r == 0 && reply->type)
		r = hf_buf_appendf(&head, "Content-Type: %s\r\n", reply->type);
	if (r == 0 && reply->status != 204 && reply->status != 304)
		r = hf_buf_appendf(&head, "Content-Length: %zu\r\n", reply->len);
	if (r == 0)
		r = hf_buf_appendf(&head,
				   "X-Content-Type-Options: nosniff\r\n"
				   "Referrer-Policy: no-referrer\r\n%s%s%s\r\n",
				   reply->cacheable ? "" : "Cache-Control: no-store\r\n",
				   keep ? "" : "Connection: close\r\n",
				   reply->headers ? reply->headers : "");
	if (r < 0) {
		hf_conn_end_now(c, HF_CONN_END_LOCAL);
		return;
	}
	hf_conn_queue_out(c, head.data, head.len);
	if (reply->len && !c->head_only)
		hf_conn_queue_out(c, reply->body, reply->len);
	if (c->state == CONN_DEAD)
		return;
	c->state = keep ? CONN_HTTP : CONN_DRAINING;
	hf_conn_set_deadline(c, keep ? IDLE_NS : DRAIN_NS);
	if (!c->running) {
		hf_conn_push(c);
		if (keep)
			hf_conn_kick(c);
	}
}

void hf_conn_stream_start(struct hf_conn *c, void (*ended)(void *userdata), void *userdata)
{
	static const char head[] = "HTTP/1.1 200 OK\r\n"
				   "Content-Type: text/event-stream\r\n"
				   "Cache-Control: no-store\r\n"
				   "X-Content-Type-Options: nosniff\r\n"
				   "Connection: close\r\n\r\n";
	const int sndbuf = STREAM_SNDBUF;

	if (c->state != CONN_ANSWERING) {
		ended(userdata);
		return;
	}
	hf_server_portal(c->server)->counters.requests[2]++;
	/* The kernel would queue megabytes for a page that stopped reading. */
	(void)setsockopt(hf_tls_fd(c->tls), SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
	c->state = CONN_STREAM;
	c->stream_ended = ended;
	c->stream_userdata = userdata;
	silence(c->timer); /* TCP keepalive and the hub's comments find a dead peer */
	hf_conn_queue_out(c, head, sizeof(head) - 1);
	hf_conn_push(c);
}

int hf_conn_stream_write(struct hf_conn *c, const void *data, size_t len)
{
	if (c->state != CONN_STREAM)
		return -EPIPE;
	if (c->out.len - c->out_off + len > STREAM_QUEUE_MAX) {
		hf_server_portal(c->server)->counters.sse_dropped++;
		hf_conn_end_now(c, HF_CONN_END_TIMEOUT);
		return -ENOBUFS;
	}
	hf_conn_queue_out(c, data, len);
	hf_conn_push(c);
	return 0;
}

void hf_conn_close(struct hf_conn *c, enum hf_conn_end how)
{
	if (c->state == CONN_DEAD)
		return;
	if (!c->running && c->state != CONN_HANDSHAKE) {
		flush(c);
		if (c->state != CONN_DEAD)
			hf_tls_close_notify(c->tls);
	}
	hf_conn_end_now(c, how);
}

void hf_conn_reset(struct hf_conn *c)
{
	const struct linger hard = {.l_onoff = 1, .l_linger = 0};

	if (c->state == CONN_DEAD)
		return;
	/* A failure means an ordinary close: the endpoint notices that as well. */
	(void)setsockopt(hf_tls_fd(c->tls), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	hf_conn_end_now(c, HF_CONN_END_LOCAL);
}

void hf_conn_stop(struct hf_conn *c)
{
	switch (c->state) {
	case CONN_WEBSOCKET:
		c->ws_owner.stopping(c->ws_owner.userdata);
		return;
	case CONN_HANDSHAKE:
	case CONN_HTTP:
	case CONN_STREAM:
		hf_conn_close(c, HF_CONN_END_LOCAL);
		return;
	case CONN_ANSWERING: /* its answer says Connection: close */
	case CONN_WS_CLOSING:
	case CONN_LINGERING:
	case CONN_DRAINING:
	case CONN_DEAD:
		return;
	}
}

/* ---- receiving ------------------------------------------------------------------------------ */

static void dispatch(struct hf_conn *c)
{
	struct hf_portal *p = hf_server_portal(c->server);
	const struct hf_http_message *m = hf_http_parser_message(c->parser);

	c->requests++;
	c->state = CONN_ANSWERING;
	c->keep_alive = m->keep_alive;
	c->head_only = hf_streq(m->method, "HEAD");
	c->head_started = false;
	c->continued = false;
	hf_conn_set_deadline(c, ANSWER_NS);
	hf_router_dispatch(p, c, m);
	if (c->state == CONN_WEBSOCKET)
		c->parser = hf_http_parser_free(c->parser);
	else
		hf_http_parser_reset(c->parser);
}

static void refuse_bytes(struct hf_conn *c, int r)
{
	static const struct {
		int r;
		unsigned status;
		const char *code, *detail;
	} refusals[] = {
		{-EMSGSIZE, 413, "body_too_large", "the request's body is too large"},
		{-E2BIG, 431, "head_too_large", "the request's headers are too large"},
		{-ENOSYS, 501, "transfer_coding", "this transfer coding is not known"},
		{-EPROTONOSUPPORT, 505, "http_version", "only HTTP/1.0 and HTTP/1.1 are spoken"},
		{-EBADMSG, 400, "malformed", "the request is not well-formed HTTP"},
	};
	size_t i = 0;

	while (i < HF_ARRAY_SIZE(refusals) - 1 && refusals[i].r != r)
		i++;
	hf_server_portal(c->server)->counters.bad_requests++;
	c->keep_alive = false;
	c->head_only = false;
	c->linger = true;
	c->state = CONN_ANSWERING;
	hf_reply_problem(c, refusals[i].status, refusals[i].code, "%s", refusals[i].detail);
}

/* Returns how many bytes were taken; what is left belongs to the next request or protocol. */
static size_t feed_http(struct hf_conn *c, const uint8_t *data, size_t len)
{
	const struct hf_http_message *head;
	ssize_t n;

	if (!c->head_started) {
		c->head_started = true;
		hf_conn_set_deadline(c, HEAD_NS);
	}
	n = hf_http_parse(c->parser, data, len);
	if (n < 0) {
		refuse_bytes(c, (int)n);
		return len;
	}
	if (hf_http_parser_message(c->parser)) {
		dispatch(c);
		return (size_t)n;
	}
	head = hf_http_parser_head(c->parser);
	if (head && !c->continued) {
		c->continued = true;
		hf_conn_set_deadline(c, BODY_NS);
		if (head->expect_continue)
			hf_conn_queue_out(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	}
	return (size_t)n;
}

static void feed(struct hf_conn *c, const uint8_t *data, size_t len)
{
	while (len > 0) {
		size_t n;

		switch (c->state) {
		case CONN_HTTP:
			n = feed_http(c, data, len);
			data += n;
			len -= n;
			break;
		case CONN_WEBSOCKET:
		case CONN_WS_CLOSING:
			hf_conn_ws_feed(c, data, len);
			return;
		case CONN_ANSWERING:
			if (hf_buf_append(&c->in, data, len) < 0)
				hf_conn_end_now(c, HF_CONN_END_LOCAL);
			return;
		case CONN_STREAM: /* nothing is expected, nothing is kept */
		case CONN_LINGERING:
		case CONN_HANDSHAKE:
		case CONN_DRAINING:
		case CONN_DEAD:
			return;
		}
	}
}

static void feed_kept(struct hf_conn *c)
{
	struct hf_buf kept = c->in;

	if (kept.len == 0 || !may_read(c))
		return;
	c->in = (struct hf_buf){};
	feed(c, kept.data, kept.len);
	hf_buf_done(&kept);
}

static void read_all(struct hf_conn *c)
{
	feed_kept(c);
	for (unsigned i = 0; may_read(c); i++) {
		ssize_t n;

		if (i == READS_PER_WAKE) {
			hf_conn_kick(c);
			return;
		}
		n = hf_tls_read(c->tls, read_buffer, sizeof(read_buffer));
		if (n == 0)
			return;
		if (n < 0) {
			/* A reset or end that follows a close frame is the end of that close. */
			hf_conn_end_now(c, c->state == CONN_WS_CLOSING ? c->how
								       : hf_conn_end_of(c, (int)n));
			return;
		}
		feed(c, read_buffer, (size_t)n);
	}
}

static void handshake(struct hf_conn *c)
{
	struct hf_counters *n = &hf_server_portal(c->server)->counters;
	int r = hf_tls_handshake(c->tls);

	if (r == 0)
		return;
	if (r < 0) {
		n->handshakes_failed++;
		hf_debug("%s: TLS: %s", c->peer, hf_tls_error(c->tls));
		hf_conn_end_now(c, HF_CONN_END_PROTOCOL);
		return;
	}
	n->handshakes_ok++;
	r = hf_http_parser_new(HF_HTTP_REQUEST, BODY_MAX, false, &c->parser);
	if (r < 0) {
		hf_conn_end_now(c, HF_CONN_END_LOCAL);
		return;
	}
	hf_server_handshake_done(c->server);
	c->state = CONN_HTTP;
	hf_conn_set_deadline(c, HEAD_NS);
}

static void conn_run(struct hf_conn *c)
{
	if (c->state == CONN_DEAD)
		return;
	c->running = true;
	if (c->state == CONN_HANDSHAKE)
		handshake(c);
	if (c->state != CONN_HANDSHAKE)
		read_all(c);
	flush(c);
	c->running = false;
	hf_conn_update_events(c);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_conn *c = HF_CAST(userdata, struct hf_conn, CONN_MAGIC);

	(void)source;
	(void)fd;
	if ((revents & (EPOLLHUP | EPOLLERR)) && c->state != CONN_HANDSHAKE && !may_read(c)) {
		hf_conn_end_now(c, HF_CONN_END_RESET);
		return 0;
	}
	conn_run(c);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_conn *c = HF_CAST(userdata, struct hf_conn, CONN_MAGIC);
	struct hf_counters *n = &hf_server_portal(c->server)->counters;

	(void)source;
	(void)usec;
	switch (c->state) {
	case CONN_HANDSHAKE:
		n->handshakes_timed_out++;
		hf_conn_end_now(c, HF_CONN_END_TIMEOUT);
		break;
	case CONN_HTTP:
		if (!c->head_started) {
			hf_conn_close(c, HF_CONN_END_LOCAL);
			break;
		}
		n->header_timeouts++;
		c->keep_alive = false;
		c->state = CONN_ANSWERING;
		hf_reply_problem(c, 408, "timeout", "the request took too long to arrive");
		break;
	case CONN_WEBSOCKET:
		hf_conn_ws_timer(c);
		break;
	case CONN_ANSWERING:
		hf_warn("%s: a request was not answered within %llu s", c->peer,
			(unsigned long long)(ANSWER_NS / HF_NS_PER_S));
		hf_conn_end_now(c, HF_CONN_END_LOCAL);
		break;
	case CONN_WS_CLOSING:
	case CONN_LINGERING:
		hf_conn_end_now(c, c->how);
		break;
	case CONN_DRAINING:
		hf_conn_end_now(c, HF_CONN_END_TIMEOUT);
		break;
	case CONN_STREAM:
	case CONN_DEAD:
		break;
	}
	return 0;
}

/* ---- making --------------------------------------------------------------------------------- */

static int add_sources(struct hf_conn *c, sd_event *event)
{
	int r;

	c->events = EPOLLIN;
	r = sd_event_add_io(event, &c->io, hf_tls_fd(c->tls), c->events, on_io, c);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(c->io, "connection"); /* only a name */
	r = sd_event_add_time(event, &c->timer, CLOCK_MONOTONIC,
			      (now_ns() + HANDSHAKE_NS) / HF_NS_PER_US, TIMER_ACCURACY_US, on_timer,
			      c);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(c->timer, "connection-deadline");
	return 0;
}

int hf_conn_new(struct hf_server *server, int fd, const char *peer, struct hf_conn **ret)
{
	struct hf_portal *p = hf_server_portal(server);
	struct hf_conn_list *l = hf_server_connections(server);
	struct hf_conn *c = calloc(1, sizeof(*c));
	char *port;
	int r;

	if (!c)
		return -ENOMEM;
	c->magic = CONN_MAGIC;
	c->refs = 1;
	c->server = server;
	(void)hf_strlcpy(c->peer, peer, sizeof(c->peer));
	(void)hf_strlcpy(c->address, peer, sizeof(c->address));
	port = strrchr(c->address, ':');
	if (port)
		*port = '\0';
	r = hf_tls_stream_new(p->tls, fd, NULL, &c->tls);
	if (r < 0) {
		free(c);
		return r;
	}
	hf_tls_hold_flight(c->tls);
	r = add_sources(c, p->event);
	if (r < 0) {
		conn_free(c); /* with the descriptor, which the stream took */
		return 0;
	}
	c->next = l->head;
	if (l->head)
		l->head->prev = c;
	l->head = c;
	hf_server_conn_added(server);
	*ret = c;
	return 0;
}

struct hf_portal *hf_conn_portal(struct hf_conn *c)
{
	return hf_server_portal(c->server);
}

const char *hf_conn_peer(const struct hf_conn *c)
{
	return c->peer;
}

const char *hf_conn_address(const struct hf_conn *c)
{
	return c->address;
}

const char *hf_conn_tls_version(const struct hf_conn *c)
{
	return c->tls ? hf_tls_version(c->tls) : "";
}

bool hf_conn_alive(const struct hf_conn *c)
{
	return c->state != CONN_DEAD;
}

bool hf_conn_handshaking(const struct hf_conn *c)
{
	return c->state == CONN_HANDSHAKE;
}

int hf_conn_peer_cert(struct hf_conn *c, const uint8_t **ret_der, size_t *ret_len,
		      enum hf_tls_failure *ret_failure)
{
	*ret_failure = hf_tls_peer_cert_failure(c->tls);
	return hf_tls_peer_cert(c->tls, ret_der, ret_len);
}

int hf_conn_peer_cert_any(struct hf_conn *c, const uint8_t **ret_der, size_t *ret_len)
{
	return hf_tls_peer_cert_any(c->tls, ret_der, ret_len);
}
