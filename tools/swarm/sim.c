/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One simulated endpoint: WAITING → TCP → TLS → UPGRADE → HELLO → ONLINE → WAITING …, with an
 * enrolment (HELLO by token, then again with what the portal gave) before the first time.
 *
 * I1 One timer: the next dial, the attempt's deadline, or the heartbeat.
 * I2 A connection is torn down in one place, lose(), which also says how it ended: at once for a lone
 *    loss, into the backoff for everything else, as the agent does it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/random.h"
#include "holdfast/session.h"
#include "opamp.pb-c.h"
#include "session.pb-c.h"
#include "tools/swarm/swarm.h"
#include "userspace/agent/backoff.h"
#include "userspace/agent/heartbeat.h"
#include "userspace/net/tls_stream.h"
#include "userspace/net/websocket.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/otlp_codec.h"

#define SIM_MAGIC         0x73696d75u
#define ATTEMPT_NS        (20 * HF_NS_PER_S) /* as the agent's */
#define TIMER_ACCURACY_US 1000               /* 0 would mean 250 ms */
#define READ_CHUNK        8192
#define QUEUE_MAX         (256u << 10)
#define BEARER_MAX        192

/* AgentCapabilities: status, effective config is not made up, connection settings, health, heartbeat. */
#define CAPABILITIES (0x1u | 0x100u | 0x800u | 0x2000u)

enum sim_state { SIM_WAITING, SIM_TCP, SIM_TLS, SIM_UPGRADE, SIM_HELLO, SIM_ONLINE };

struct hf_sim {
	unsigned magic;
	struct hf_swarm *swarm;
	unsigned index;
	enum sim_state state;
	sd_event_source *timer, *io;
	int fd; /* until the TLS stream owns it */
	uint32_t events;
	struct hf_tls_context *own_tls;
	struct hf_tls_stream *tls;
	struct hf_http_parser *parser;
	struct hf_websocket *ws;
	struct hf_buf request;
	char key[HF_WS_KEY_SIZE];
	char bearer[BEARER_MAX]; /* its own header; "" before */
	bool enrolled, lost;
	uint16_t close_code;
	uint64_t due_ns; /* when the present or next dial is meant to be */
	uint64_t retry_after_ms;
	uint32_t spread_ms;
	uint8_t uid[16], boot_id[16], machine_id_hash[32], run_id[16];
	uint64_t epoch, sequence, stream_epoch, next_seq, next_batch_ns, acked;
	struct hf_backoff backoff;
	struct hf_heartbeat beat;
};

static void connect_now(struct hf_sim *m);
static void lose(struct hf_sim *m, enum hf_backoff_why why);

static struct hf_swarm_stats *stats(struct hf_sim *m)
{
	return &m->swarm->stats;
}

/* ---- timer and descriptor ------------------------------------------------------------------- */

static void arm(struct hf_sim *m, uint64_t at_ns)
{
	(void)sd_event_source_set_time(m->timer, at_ns / HF_NS_PER_US + 1);
	(void)sd_event_source_set_enabled(m->timer, SD_EVENT_ONESHOT);
}

static void arm_online(struct hf_sim *m)
{
	uint64_t at = hf_heartbeat_wakeup_ns(&m->beat);

	if (m->next_batch_ns && m->next_batch_ns < at)
		at = m->next_batch_ns;
	arm(m, at);
}

static void watch(struct hf_sim *m, uint32_t events)
{
	if (m->events == events || !m->io)
		return;
	m->events = events;
	(void)sd_event_source_set_io_events(m->io, events);
}

/* ---- sending -------------------------------------------------------------------------------- */

/* True unless the connection is gone. */
static bool flush(struct hf_sim *m)
{
	while (m->request.len > 0) {
		ssize_t n = hf_tls_write(m->tls, m->request.data, m->request.len);

		if (n < 0)
			return false;
		if (n == 0)
			return true;
		hf_buf_consume(&m->request, (size_t)n);
	}
	while (m->ws) {
		size_t len;
		const uint8_t *out = hf_ws_outgoing(m->ws, &len);
		ssize_t n;

		if (!out || len == 0)
			return true;
		n = hf_tls_write(m->tls, out, len);
		if (n < 0)
			return false;
		if (n == 0)
			return true;
		hf_ws_consume(m->ws, (size_t)n);
	}
	return true;
}

static void send_message(struct hf_sim *m, Opamp__AgentToServer *a)
{
	_cleanup_(hf_buf_done) struct hf_buf frame = {};

	a->instance_uid = (ProtobufCBinaryData){sizeof(m->uid), m->uid};
	a->sequence_num = ++m->sequence;
	a->capabilities = CAPABILITIES;
	if (hf_opamp_encode(&a->base, &frame) < 0 ||
	    hf_ws_send(m->ws, true, frame.data, frame.len) < 0)
		stats(m)->errors++;
}

static void send_custom(struct hf_sim *m, const char *capability, const char *type,
			ProtobufCMessage *body)
{
	Opamp__AgentToServer a = OPAMP__AGENT_TO_SERVER__INIT;
	_cleanup_pb_ Opamp__CustomMessage *cm = hf_opamp_custom_new(capability, type, body);

	a.custom_message = cm;
	if (cm)
		send_message(m, &a);
}

static void fill_hello(struct hf_sim *m, Session__Hello *h, char *hostname, size_t size)
{
	(void)hf_strf(hostname, size, "swarm-%05u", m->index);
	h->boot_id = (ProtobufCBinaryData){sizeof(m->boot_id), m->boot_id};
	h->machine_id_hash = (ProtobufCBinaryData){sizeof(m->machine_id_hash), m->machine_id_hash};
	h->run_id = (ProtobufCBinaryData){sizeof(m->run_id), m->run_id};
	h->epoch = m->epoch;
	h->version = (char *)HF_VERSION; /* only read while packing, as the next */
	h->environment = (char *)m->swarm->o.environment;
	h->kernel_assist = (char *)"off";
	h->sent_unix_ns = hf_now_realtime_ns();
	h->hostname = hostname;
}

static void send_hello(struct hf_sim *m)
{
	Opamp__AgentToServer a = OPAMP__AGENT_TO_SERVER__INIT;
	Opamp__AgentDescription description = OPAMP__AGENT_DESCRIPTION__INIT;
	Opamp__ConnectionSettingsRequest request = OPAMP__CONNECTION_SETTINGS_REQUEST__INIT;
	Opamp__OpAMPConnectionSettingsRequest opamp =
		OPAMP__OP_AMPCONNECTION_SETTINGS_REQUEST__INIT;
	Opamp__CertificateRequest wanted = OPAMP__CERTIFICATE_REQUEST__INIT;
	Session__Hello hello = SESSION__HELLO__INIT;
	_cleanup_(hf_buf_done) struct hf_buf csr = {};
	_cleanup_pb_ Opamp__CustomMessage *cm = NULL;
	struct hf_err err = {};
	char hostname[32];

	fill_hello(m, &hello, hostname, sizeof(hostname));
	cm = hf_opamp_custom_new(HF_CAP_SESSION, HF_MSG_HELLO, &hello.base);
	a.custom_message = cm;
	a.agent_description = &description;
	if (!m->enrolled && m->swarm->o.state_dir) {
		if (hf_swarm_csr(m->swarm, m->index, &csr, &err) < 0) {
			stats(m)->errors++;
			hf_error("%s", err.msg);
			return;
		}
		wanted.csr = (ProtobufCBinaryData){csr.len, csr.data};
		opamp.certificate_request = &wanted;
		request.opamp = &opamp;
		a.connection_settings_request = &request;
	}
	send_message(m, &a);
}

static void send_batch(struct hf_sim *m, uint64_t now_ns)
{
	Session__TelemetryBatch b = SESSION__TELEMETRY_BATCH__INIT;
	Bus__Event event = BUS__EVENT__INIT;
	const Bus__Event *one = &event;
	const struct hf_otlp_resource resource = {.hostname = "swarm"};
	_cleanup_(hf_buf_done) struct hf_buf otlp = {}, deflated = {};

	m->next_batch_ns = now_ns + 60 * HF_NS_PER_S / m->swarm->o.events_per_minute;
	event.time_unix_ns = hf_now_realtime_ns();
	event.kind = (char *)"proc.exit"; /* only read while packing, as the next */
	event.comm = (char *)"swarm";
	event.pid = m->index + 1;
	event.seq = m->next_seq;
	if (hf_otlp_encode(&one, 1, &resource, HF_MESSAGE_MAX / 2, &otlp) < 0 ||
	    hf_otlp_deflate(otlp.data, otlp.len, &deflated) < 0) {
		stats(m)->errors++;
		return;
	}
	b.stream_epoch = m->stream_epoch;
	b.first_seq = b.last_seq = m->next_seq++;
	b.records = 1;
	b.inflated_bytes = (uint32_t)otlp.len;
	b.otlp = (ProtobufCBinaryData){deflated.len, deflated.data};
	stats(m)->events++;
	send_custom(m, HF_CAP_TELEMETRY, HF_MSG_BATCH, &b.base);
}

static void send_heartbeat(struct hf_sim *m, uint64_t now_ns)
{
	Session__Heartbeat hb = SESSION__HEARTBEAT__INIT;

	hb.epoch = m->epoch;
	hb.seq = hf_heartbeat_asked(&m->beat, now_ns);
	hb.sent_unix_ns = hf_now_realtime_ns();
	stats(m)->heartbeats++;
	send_custom(m, HF_CAP_SESSION, HF_MSG_HEARTBEAT, &hb.base);
}

/* ---- receiving ------------------------------------------------------------------------------ */

static void go_online(struct hf_sim *m, const Session__Welcome *w)
{
	uint64_t now = hf_now_monotonic_ns();
	uint32_t heartbeat = m->swarm->o.heartbeat_s ? m->swarm->o.heartbeat_s : w->heartbeat_s;

	m->state = SIM_ONLINE;
	stats(m)->onlines++;
	hf_swarm_count(m->swarm, stats(m)->onlines_at, now);
	hf_backoff_set_portal(&m->backoff, w->backoff_window_ms, w->backoff_cap_ms);
	hf_backoff_online(&m->backoff, now);
	hf_heartbeat_init(&m->beat, heartbeat, w->heartbeat_timeout_s, NULL, now);
	if (m->swarm->o.events_per_minute)
		m->next_batch_ns =
			now + hf_random_below(60 * HF_NS_PER_S / m->swarm->o.events_per_minute);
	arm_online(m);
	hf_swarm_online(m->swarm, 1);
}

/* What the portal gave instead of the token; the next connection uses it. */
static void take_offer(struct hf_sim *m, const Opamp__OpAMPConnectionSettings *s)
{
	if (!m->enrolled && s->certificate && s->certificate->cert.len &&
	    hf_swarm_store_cert(m->swarm, m->index, s->certificate->cert.data,
				s->certificate->cert.len) == 0) {
		m->enrolled = true;
		stats(m)->enrolled++;
	}
	for (size_t i = 0; s->headers && i < s->headers->n_headers; i++) {
		const Opamp__Header *h = s->headers->headers[i];

		if (!hf_streq(h->key, "Authorization") || !hf_startswith(h->value, "Bearer "))
			continue;
		(void)hf_strlcpy(m->bearer, h->value + 7, sizeof(m->bearer));
		stats(m)->enrolled += !m->enrolled;
		m->enrolled = true;
	}
}

static void take_hold(struct hf_sim *m, const Opamp__CustomMessage *cm)
{
	_cleanup_pb_ Session__Hold *hold = NULL;

	if (hf_opamp_custom_unpack(cm, &session__hold__descriptor, &hold) < 0)
		return;
	stats(m)->holds++;
	m->retry_after_ms = hold->retry_after_ms;
	m->spread_ms = hold->window_ms;
	m->lost = true;
}

static void take_session(struct hf_sim *m, const Opamp__CustomMessage *cm)
{
	_cleanup_pb_ Session__Welcome *w = NULL;
	_cleanup_pb_ Session__HeartbeatAck *ack = NULL;

	if (hf_opamp_custom_is(cm, HF_CAP_SESSION, HF_MSG_HOLD)) {
		take_hold(m, cm);
	} else if (hf_opamp_custom_is(cm, HF_CAP_SESSION, HF_MSG_WELCOME) &&
		   m->state == SIM_HELLO &&
		   hf_opamp_custom_unpack(cm, &session__welcome__descriptor, &w) == 0) {
		/* A certificate is used by coming again; the introduction was not a registration. */
		if (m->own_tls || !m->swarm->o.state_dir)
			go_online(m, w);
		else
			m->lost = true;
	} else if (hf_opamp_custom_is(cm, HF_CAP_SESSION, HF_MSG_HEARTBEAT_ACK) &&
		   m->state == SIM_ONLINE &&
		   hf_opamp_custom_unpack(cm, &session__heartbeat_ack__descriptor, &ack) == 0) {
		if (hf_heartbeat_answered(&m->beat, ack->seq, ack->epoch, m->epoch,
					  hf_now_monotonic_ns()) == HF_HEARTBEAT_MISMATCH)
			m->lost = true;
		else
			arm_online(m);
	} else if (hf_opamp_custom_is(cm, HF_CAP_TELEMETRY, HF_MSG_TELEMETRY_ACK)) {
		_cleanup_pb_ Session__TelemetryAck *t = NULL;

		if (hf_opamp_custom_unpack(cm, &session__telemetry_ack__descriptor, &t) == 0 &&
		    t->acked > m->acked) {
			stats(m)->acked += t->acked - m->acked;
			m->acked = t->acked;
		}
	}
}

static void on_message(bool binary, const uint8_t *data, size_t len, void *userdata)
{
	struct hf_sim *m = HF_CAST(userdata, struct hf_sim, SIM_MAGIC);
	_cleanup_pb_ Opamp__ServerToAgent *s = NULL;

	if (m->lost)
		return;
	if (!binary || hf_opamp_decode_to_agent(data, len, &s) < 0) {
		stats(m)->errors++;
		m->lost = true;
		return;
	}
	if (s->connection_settings && s->connection_settings->opamp)
		take_offer(m, s->connection_settings->opamp);
	if (s->error_response) {
		stats(m)->errors += !s->custom_message; /* else it is a Hold's other half */
		m->lost = true;
		if (s->error_response->details_case ==
		    OPAMP__SERVER_ERROR_RESPONSE__DETAILS_RETRY_INFO)
			m->retry_after_ms = s->error_response->retry_info->retry_after_nanoseconds /
					    HF_NS_PER_MS;
	}
	if (s->custom_message)
		take_session(m, s->custom_message);
}

static void on_closed(uint16_t code, const char *reason, void *userdata)
{
	struct hf_sim *m = HF_CAST(userdata, struct hf_sim, SIM_MAGIC);

	(void)reason;
	m->close_code = code;
	m->lost = true;
	stats(m)->superseded += code == HF_WS_CLOSE_SUPERSEDED;
}

static bool feed_upgrade(struct hf_sim *m, const uint8_t *data, size_t len)
{
	static const struct hf_ws_callbacks callbacks = {
		.message = on_message,
		.closed = on_closed,
	};
	ssize_t n = hf_http_parse(m->parser, data, len);
	const struct hf_http_message *answer = n < 0 ? NULL : hf_http_parser_message(m->parser);
	char want[HF_WS_ACCEPT_SIZE];
	const char *v;
	uint32_t after_s;

	if (n < 0)
		return false;
	if (!answer)
		return true;
	if (answer->status != 101) {
		v = hf_http_header(answer, "Retry-After");
		if (v && hf_parse_u32(v, &after_s) >= 0)
			m->retry_after_ms = after_s * UINT64_C(1000);
		stats(m)->holds++;
		return false;
	}
	hf_ws_accept(m->key, want);
	v = hf_http_header(answer, "Sec-WebSocket-Accept");
	if (!v || !hf_streq(v, want) ||
	    hf_ws_new(HF_WS_CLIENT, HF_MESSAGE_MAX, QUEUE_MAX, &callbacks, m, &m->ws) < 0)
		return false;
	m->parser = hf_http_parser_free(m->parser);
	m->state = SIM_HELLO;
	send_hello(m);
	return (size_t)n == len || hf_ws_receive(m->ws, data + n, len - (size_t)n) >= 0;
}

/* True: the connection goes on. */
static bool drain(struct hf_sim *m)
{
	uint8_t buf[READ_CHUNK];

	for (;;) {
		ssize_t n = hf_tls_read(m->tls, buf, sizeof(buf));

		if (n == 0)
			return true;
		if (n < 0)
			return false;
		if (m->ws ? hf_ws_receive(m->ws, buf, (size_t)n) < 0
			  : !feed_upgrade(m, buf, (size_t)n))
			return false;
		if (m->lost)
			return false;
	}
}

/* ---- the connection ------------------------------------------------------------------------- */

static struct hf_tls_context *tls_context(struct hf_sim *m)
{
	return m->own_tls ? m->own_tls : m->swarm->tls;
}

static int queue_request(struct hf_sim *m)
{
	const char *bearer = m->bearer[0] ? m->bearer : m->enrolled ? NULL : m->swarm->o.token;
	char authority[300];

	hf_ws_make_key(m->key);
	hf_url_authority(&m->swarm->url, authority, sizeof(authority));
	return hf_buf_appendf(&m->request,
			      "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"
			      "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
			      "Sec-WebSocket-Version: 13\r\n%s%s%s\r\n",
			      m->swarm->url.path, authority, m->key,
			      bearer ? "Authorization: Bearer " : "", bearer ? bearer : "",
			      bearer ? "\r\n" : "");
}

static bool start_tls(struct hf_sim *m)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(m->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err) {
		stats(m)->refused++;
		return false;
	}
	stats(m)->connected++;
	hf_swarm_count(m->swarm, stats(m)->arrivals_at, m->due_ns);
	if (hf_tls_stream_new(tls_context(m), m->fd, m->swarm->url.host, &m->tls) < 0)
		return false;
	m->fd = -1;
	m->state = SIM_TLS;
	return true;
}

static bool shake(struct hf_sim *m)
{
	int r = hf_tls_handshake(m->tls);

	if (r < 0)
		return false;
	if (r == 0)
		return true;
	stats(m)->handshakes++;
	stats(m)->resumed += hf_tls_resumed(m->tls);
	if (hf_http_parser_new(HF_HTTP_RESPONSE, 4096, false, &m->parser) < 0 ||
	    queue_request(m) < 0)
		return false;
	m->state = SIM_UPGRADE;
	return true;
}

static bool advance(struct hf_sim *m)
{
	if (m->state == SIM_TCP && !start_tls(m))
		return false;
	if (m->state == SIM_TLS && !shake(m))
		return false;
	if (m->state >= SIM_UPGRADE)
		return flush(m) && drain(m) && flush(m);
	return true;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_sim *m = HF_CAST(userdata, struct hf_sim, SIM_MAGIC);
	bool lone;

	(void)source;
	(void)fd;
	(void)revents;
	if (advance(m) && !m->lost) {
		watch(m, hf_tls_events(m->tls) |
				 (m->request.len || (m->ws && hf_ws_queued(m->ws)) ? EPOLLOUT : 0));
		return 0;
	}
	/* A reset or FIN of a session is a lone loss; what the portal said or refused is not. */
	lone = m->state == SIM_ONLINE && !m->close_code && !m->retry_after_ms && !m->spread_ms;
	lose(m, lone || (m->state == SIM_HELLO && m->enrolled && m->lost && !m->retry_after_ms)
			? HF_BACKOFF_LONE_LOSS
			: HF_BACKOFF_FAILURE);
	return 0;
}

static void drop(struct hf_sim *m)
{
	m->io = sd_event_source_disable_unref(m->io);
	m->ws = hf_ws_free(m->ws);
	m->parser = hf_http_parser_free(m->parser);
	m->tls = hf_tls_stream_free(m->tls);
	m->fd = hf_close(m->fd);
	hf_buf_done(&m->request);
	m->request = (struct hf_buf){};
	m->events = 0;
}

static void lose(struct hf_sim *m, enum hf_backoff_why why)
{
	uint64_t now = hf_now_monotonic_ns(), delay;
	bool was_online = m->state == SIM_ONLINE;

	drop(m);
	m->state = SIM_WAITING;
	if (was_online) {
		stats(m)->losses++;
		hf_backoff_offline(&m->backoff, now);
	}
	delay = hf_backoff_delay_ns(&m->backoff, why, m->retry_after_ms, m->spread_ms, now);
	m->retry_after_ms = 0;
	m->spread_ms = 0;
	m->close_code = 0;
	m->lost = false;
	m->due_ns = now + delay;
	arm(m, m->due_ns);
	if (was_online)
		hf_swarm_online(m->swarm, -1);
}

static int load_certificate(struct hf_sim *m)
{
	char cert[256], key[256];
	struct hf_tls_client_options o = {
		.ca_file = m->swarm->o.ca_file, .cert_file = cert, .key_file = key};
	struct hf_err err = {};
	int r;

	hf_swarm_path(m->swarm, m->index, "crt", cert, sizeof(cert));
	hf_swarm_path(m->swarm, m->index, "key", key, sizeof(key));
	r = hf_tls_client_context_new(&o, &m->own_tls, &err);
	if (r < 0)
		hf_error("Endpoint %u: %s", m->index, err.msg);
	return r;
}

static void connect_now(struct hf_sim *m)
{
	const struct hf_swarm *s = m->swarm;
	uint64_t now = hf_now_monotonic_ns();

	if (m->enrolled && s->o.state_dir && !m->own_tls && load_certificate(m) < 0) {
		stats(m)->errors++;
		return; /* without its certificate it will never get in */
	}
	m->epoch++;
	stats(m)->dials++;
	hf_swarm_count(m->swarm, stats(m)->dials_at, m->due_ns);
	m->fd = socket(s->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (m->fd < 0 ||
	    (connect(m->fd, (const struct sockaddr *)&s->address, s->address_len) < 0 &&
	     errno != EINPROGRESS) ||
	    sd_event_add_io(s->event, &m->io, m->fd, EPOLLOUT, on_io, m) < 0) {
		stats(m)->refused++;
		lose(m, HF_BACKOFF_FAILURE);
		return;
	}
	m->events = EPOLLOUT;
	m->state = SIM_TCP;
	arm(m, now + ATTEMPT_NS);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_sim *m = HF_CAST(userdata, struct hf_sim, SIM_MAGIC);
	uint64_t now = hf_now_monotonic_ns();

	(void)source;
	(void)usec;
	switch (m->state) {
	case SIM_WAITING:
		connect_now(m);
		return 0;
	case SIM_TCP:
	case SIM_TLS:
	case SIM_UPGRADE:
	case SIM_HELLO:
		stats(m)->missed++;
		lose(m, HF_BACKOFF_FAILURE);
		return 0;
	case SIM_ONLINE:
		break;
	}
	if (hf_heartbeat_missed(&m->beat, now)) {
		stats(m)->missed++;
		lose(m, HF_BACKOFF_LONE_LOSS);
		return 0;
	}
	if (hf_heartbeat_should_ask(&m->beat, now))
		send_heartbeat(m, now);
	if (m->next_batch_ns && now >= m->next_batch_ns)
		send_batch(m, now);
	if (!flush(m)) {
		lose(m, HF_BACKOFF_LONE_LOSS);
		return 0;
	}
	watch(m, hf_tls_events(m->tls) | (hf_ws_queued(m->ws) ? EPOLLOUT : 0));
	arm_online(m);
	return 0;
}

int hf_sim_new(struct hf_swarm *s, unsigned index, uint64_t delay_ns, struct hf_sim **ret)
{
	struct hf_sim *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->magic = SIM_MAGIC;
	m->swarm = s;
	m->index = index;
	m->fd = -1;
	hf_uuid_v7(m->uid);
	hf_random_bytes(m->boot_id, sizeof(m->boot_id));
	hf_random_bytes(m->machine_id_hash, sizeof(m->machine_id_hash));
	hf_random_bytes(m->run_id, sizeof(m->run_id));
	m->epoch = hf_now_realtime_ns() / HF_NS_PER_MS; /* higher than a former run's */
	m->stream_epoch = m->epoch;
	m->next_seq = 1;
	m->enrolled = s->o.state_dir && hf_swarm_has_cert(s, index);
	hf_backoff_init(&m->backoff, s->o.immediate_per_minute, NULL);
	m->due_ns = hf_now_monotonic_ns() + delay_ns;
	r = sd_event_add_time(s->event, &m->timer, CLOCK_MONOTONIC, m->due_ns / HF_NS_PER_US,
			      TIMER_ACCURACY_US, on_timer, m);
	if (r < 0) {
		free(m);
		return r;
	}
	(void)sd_event_source_set_description(m->timer, "endpoint"); /* only a name */
	*ret = m;
	return 0;
}

struct hf_sim *hf_sim_free(struct hf_sim *m)
{
	if (!m)
		return NULL;
	drop(m);
	m->timer = sd_event_source_disable_unref(m->timer);
	m->own_tls = hf_tls_context_free(m->own_tls);
	m->magic = 0;
	free(m);
	return NULL;
}
