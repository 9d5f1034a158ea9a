/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The WebSocket half of a connection: upgrade, messages, the closing handshake, silence.
 *
 * A close is answered and the connection ends when the peer answered ours or after 2 s; a violation
 * sends its close frame and ends.
 */
#include <errno.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "holdfast/session.h"
#include "tools/portal/conn_internal.h"
#include "tools/portal/portal.h"
#include "tools/portal/server.h"
#include "userspace/net/tls_stream.h"

#define WS_CLOSE_NS  (2 * HF_NS_PER_S)
#define WS_QUEUE_MAX (2u * HF_MESSAGE_MAX)

bool hf_conn_ws_flush(struct hf_conn *c)
{
	for (;;) {
		size_t len;
		const uint8_t *data = hf_ws_outgoing(c->ws, &len);
		ssize_t n;

		if (!data || len == 0)
			return true;
		n = hf_tls_write(c->tls, data, len);
		if (n == 0)
			return false;
		if (n < 0) {
			hf_conn_end_now(c, hf_conn_end_of(c, (int)n));
			return false;
		}
		hf_ws_consume(c->ws, (size_t)n);
	}
}

static void ws_message(bool binary, const uint8_t *data, size_t len, void *userdata)
{
	struct hf_conn *c = HF_CAST(userdata, struct hf_conn, CONN_MAGIC);

	if (c->state == CONN_WEBSOCKET)
		c->ws_owner.message(c->ws_owner.userdata, binary, data, len);
}

static void ws_pong(const uint8_t *data, size_t len, void *userdata)
{
	struct hf_conn *c = HF_CAST(userdata, struct hf_conn, CONN_MAGIC);

	(void)data;
	(void)len;
	if (c->state == CONN_WEBSOCKET && c->ws_owner.pong)
		c->ws_owner.pong(c->ws_owner.userdata);
}

static void ws_closed(uint16_t code, const char *reason, void *userdata)
{
	struct hf_conn *c = HF_CAST(userdata, struct hf_conn, CONN_MAGIC);

	hf_debug("%s: closed with %u '%s'", c->peer, code, reason);
	if (c->state != CONN_WEBSOCKET)
		return;
	/* The shared module answers a close frame by itself; leave when that is out. */
	c->how = HF_CONN_END_PEER;
	c->state = CONN_WS_CLOSING;
	hf_conn_set_deadline(c, WS_CLOSE_NS);
}

static const struct hf_ws_callbacks ws_callbacks = {
	.message = ws_message,
	.pong = ws_pong,
	.closed = ws_closed,
};

int hf_conn_upgrade(struct hf_conn *c, const struct hf_http_message *rq, const char *headers,
		    const struct hf_conn_websocket *ws)
{
	char accept[HF_WS_ACCEPT_SIZE];
	char head[512];
	int r;

	hf_assert(c->state == CONN_ANSWERING && c->running);
	hf_ws_accept(hf_http_header(rq, "Sec-WebSocket-Key"), accept);
	if (!hf_strf(head, sizeof(head),
		     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
		     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
		     accept, headers ? headers : ""))
		return -EMSGSIZE;
	r = hf_ws_new(HF_WS_SERVER, HF_MESSAGE_MAX, WS_QUEUE_MAX, &ws_callbacks, c, &c->ws);
	if (r < 0)
		return r;
	hf_server_portal(c->server)->counters.requests[1]++;
	hf_server_portal(c->server)->counters.ws_opened++;
	hf_server_websockets(c->server, 1);
	c->ws_owner = *ws;
	c->state = CONN_WEBSOCKET;
	c->last_rx_ns = hf_now_monotonic_ns();
	hf_conn_queue_out(c, head, strlen(head));
	hf_conn_set_deadline(c, ws->ping_after_ns);
	return 0;
}

int hf_conn_ws_send(struct hf_conn *c, const void *data, size_t len)
{
	int r;

	if (c->state != CONN_WEBSOCKET)
		return -EPIPE;
	r = hf_ws_send(c->ws, true, data, len);
	if (r == -ENOBUFS) {
		hf_conn_end_now(c, HF_CONN_END_TIMEOUT); /* it does not read what we answer */
		return r;
	}
	if (r == 0)
		hf_conn_push(c);
	return r;
}

void hf_conn_ws_close(struct hf_conn *c, uint16_t code, const char *reason)
{
	if (c->state != CONN_WEBSOCKET)
		return;
	c->how = HF_CONN_END_LOCAL;
	if (hf_ws_close(c->ws, code, reason) < 0) {
		hf_conn_end_now(c, HF_CONN_END_LOCAL);
		return;
	}
	c->state = CONN_WS_CLOSING;
	hf_conn_set_deadline(c, WS_CLOSE_NS);
	hf_conn_push(c);
}

void hf_conn_ws_set_silence(struct hf_conn *c, uint64_t ping_after_ns, uint64_t dead_after_ns)
{
	if (c->ws_owner.ping_after_ns == ping_after_ns &&
	    c->ws_owner.dead_after_ns == dead_after_ns)
		return;
	c->ws_owner.ping_after_ns = ping_after_ns;
	c->ws_owner.dead_after_ns = dead_after_ns;
	if (c->state == CONN_WEBSOCKET)
		hf_conn_set_deadline(c, ping_after_ns);
}

void hf_conn_ws_ping(struct hf_conn *c)
{
	if (c->state != CONN_WEBSOCKET)
		return;
	(void)hf_ws_ping(c->ws, NULL, 0); /* queue full: what is in it must be answered first */
	hf_conn_push(c);
}

void hf_conn_ws_pause(struct hf_conn *c, bool pause)
{
	if (c->state != CONN_WEBSOCKET || c->ws_paused == pause)
		return;
	c->ws_paused = pause;
	if (!pause)
		hf_conn_kick(c);
	else if (!c->running)
		hf_conn_update_events(c);
}

void hf_conn_ws_feed(struct hf_conn *c, const uint8_t *data, size_t len)
{
	int r;

	c->last_rx_ns = hf_now_monotonic_ns();
	c->pinged_ns = 0;
	r = hf_ws_receive(c->ws, data, len);
	if (r == 0 || c->state == CONN_DEAD)
		return;
	hf_server_portal(c->server)->counters.ws_violations++;
	hf_debug("%s: WebSocket violation, closing with %u", c->peer, hf_ws_violation(c->ws));
	c->how = HF_CONN_END_PROTOCOL;
	c->linger = true;
	c->state = CONN_DRAINING;
	hf_conn_set_deadline(c, WS_CLOSE_NS);
}

void hf_conn_ws_timer(struct hf_conn *c)
{
	uint64_t silent = hf_now_monotonic_ns() - c->last_rx_ns;

	if (silent >= c->ws_owner.dead_after_ns) {
		hf_server_portal(c->server)->counters.ws_timeouts++;
		hf_conn_end_now(c, HF_CONN_END_TIMEOUT);
		return;
	}
	if (silent >= c->ws_owner.ping_after_ns && !c->pinged_ns) {
		c->pinged_ns = hf_now_monotonic_ns();
		(void)hf_ws_ping(c->ws, NULL, 0); /* queue full: there is traffic to be answered */
		hf_conn_push(c);
	}
	if (c->state == CONN_WEBSOCKET)
		hf_conn_set_deadline(c, c->pinged_ns ? c->ws_owner.dead_after_ns - silent
						     : c->ws_owner.ping_after_ns - silent);
}
