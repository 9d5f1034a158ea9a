/* SPDX-License-Identifier: Apache-2.0 */
/* The OpAMP session; see the header. */
#include "userspace/agent/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "holdfast/session.h"
#include "userspace/net/websocket.h"
#include "userspace/proto/frame.h"

#define SESSION_MAGIC     0x53534553u
#define TIMER_ACCURACY_US 1000u /* 0 would mean 250 ms */

/* AgentCapabilities of the OpAMP specification. */
#define CAP_REPORTS_STATUS           0x00000001u
#define CAP_REPORTS_EFFECTIVE_CONFIG 0x00000004u
#define CAP_ACCEPTS_CONNECTION       0x00000100u
#define CAP_ACCEPTS_RESTART          0x00000400u
#define CAP_REPORTS_HEALTH           0x00000800u
#define CAP_REPORTS_HEARTBEAT        0x00002000u
#define CAP_REPORTS_SETTINGS         0x00008000u
#define CAPABILITIES                                                                  \
	(CAP_REPORTS_STATUS | CAP_REPORTS_EFFECTIVE_CONFIG | CAP_ACCEPTS_CONNECTION | \
	 CAP_ACCEPTS_RESTART | CAP_REPORTS_HEALTH | CAP_REPORTS_HEARTBEAT | CAP_REPORTS_SETTINGS)
/* ServerToAgentFlags and AgentToServer.flags */
#define SERVER_FLAG_REPORT_FULL_STATE 1u
#define COMMAND_RESTART               0

struct hf_session {
	unsigned magic;
	struct hf_self *self;
	struct hf_link *link;
	struct hf_heartbeat beat;
	sd_event_source *timer;
	struct hf_session_callbacks cb;
	void *userdata;
	uint64_t epoch;
	bool plain;
	bool full_state_wanted, status_changed, settings_changed;
	bool leaving;
	bool over; /* lost was told */
	bool queue_was_full;
	char authorization[24];
	int64_t clock_offset_ms;
	uint64_t server_unix_ns, server_at_boot_ns;
	uint64_t malformed;
	struct hf_ratelimit malformed_log;
	uint64_t last_asked_ns, last_rtt_us;
	unsigned busy;
	bool doomed;
};

/* ---- building ------------------------------------------------------------------------------- */

/* Everything a full report points to, on the stack of the one who sends it. */
struct report {
	Opamp__AgentDescription description;
	Opamp__KeyValue *identifying[4], *other[12];
	Opamp__ComponentHealth health, part_health[HF_PARTS_MAX];
	Opamp__ComponentHealthEntry health_entry[HF_PARTS_MAX];
	Opamp__ComponentHealthEntry *health_entries[HF_PARTS_MAX];
	Opamp__CustomCapabilities custom;
	Opamp__EffectiveConfig config;
	Opamp__AgentConfigMap config_map;
	Opamp__AgentConfigEntry config_entry;
	Opamp__AgentConfigEntry *config_entries[1];
	Opamp__AgentConfigFile config_file;
	char *yaml;
	Opamp__ConnectionSettingsStatus settings;
};

static const char *const our_capabilities[] = {HF_CAP_SESSION, HF_CAP_TELEMETRY, HF_CAP_OUTAGE,
					       HF_CAP_ACTION};

static void report_done(struct report *r)
{
	for (size_t i = 0; i < r->description.n_identifying_attributes; i++)
		opamp__key_value__free_unpacked(r->identifying[i], NULL);
	for (size_t i = 0; i < r->description.n_non_identifying_attributes; i++)
		opamp__key_value__free_unpacked(r->other[i], NULL);
	free(r->yaml);
}

static void fill_health(struct report *r, const struct hf_self *self)
{
	bool healthy = !self->last_error || !self->last_error[0];
	struct hf_part_health parts[HF_PARTS_MAX] = {
		{"agent", healthy, healthy ? "running" : "degraded",
		 healthy ? "" : self->last_error},
	};
	size_t n = self->parts ? self->parts(parts, self->userdata) : 1;

	opamp__component_health__init(&r->health);
	r->health.healthy = healthy;
	r->health.start_time_unix_nano = self->started_unix_ns;
	r->health.status_time_unix_nano = hf_now_realtime_ns();
	r->health.status = (char *)(healthy ? "running" : "degraded");
	r->health.last_error = (char *)(healthy ? "" : self->last_error);
	for (size_t i = 0; i < n; i++) {
		/* Only read while packing. */
		r->part_health[i] = r->health;
		r->part_health[i].healthy = parts[i].healthy;
		r->part_health[i].status = (char *)parts[i].status;
		r->part_health[i].last_error = (char *)parts[i].error;
		opamp__component_health_entry__init(&r->health_entry[i]);
		r->health_entry[i].key = (char *)parts[i].name;
		r->health_entry[i].value = &r->part_health[i];
		r->health_entries[i] = &r->health_entry[i];
	}
	r->health.component_health_map = r->health_entries;
	r->health.n_component_health_map = n;
}

static int fill_description(struct report *r, const struct hf_self *self)
{
	const struct hf_host *h = self->host;
	char uid[HF_UUID_TEXT_SIZE];
	const struct {
		const char *key, *value;
	} identifying[] =
		{
			{"service.name", "holdfast-agent"},
			{"service.version", self->version},
			{"service.instance.id", uid},
		},
	  other[] = {
		  {"host.name", h->hostname},
		  {"host.id", h->machine_id_hex},
		  {"host.arch", h->arch},
		  {"os.type", h->os},
		  {"os.name", h->distro},
		  {"os.version", h->distro_version},
		  {"os.description", h->pretty},
		  {"holdfast.kernel", h->kernel},
		  {"holdfast.environment", self->environment},
		  {"holdfast.kernel_assist", self->kernel_assist},
		  {"holdfast.boot_id", h->boot_id_text},
	  };
	_Static_assert(HF_ARRAY_SIZE(identifying) <= HF_ARRAY_SIZE(r->identifying), "room");
	_Static_assert(HF_ARRAY_SIZE(other) <= HF_ARRAY_SIZE(r->other), "room");

	hf_uuid_format(self->instance_uid, uid);
	opamp__agent_description__init(&r->description);
	r->description.identifying_attributes = r->identifying;
	r->description.non_identifying_attributes = r->other;
	for (size_t i = 0; i < HF_ARRAY_SIZE(identifying); i++) {
		r->identifying[i] = hf_opamp_kv_new(identifying[i].key, identifying[i].value);
		if (!r->identifying[i])
			return -ENOMEM;
		r->description.n_identifying_attributes++;
	}
	for (size_t i = 0; i < HF_ARRAY_SIZE(other); i++) {
		r->other[i] = hf_opamp_kv_new(other[i].key, other[i].value);
		if (!r->other[i])
			return -ENOMEM;
		r->description.n_non_identifying_attributes++;
	}
	return 0;
}

static void fill_config(struct report *r, struct hf_self *self)
{
	self->config_sent = true;
	r->yaml = self->effective_config ? self->effective_config(self->userdata) : NULL;
	if (!r->yaml)
		return;
	opamp__effective_config__init(&r->config);
	opamp__agent_config_map__init(&r->config_map);
	opamp__agent_config_entry__init(&r->config_entry);
	opamp__agent_config_file__init(&r->config_file);
	r->config_file.body.data = (uint8_t *)r->yaml;
	r->config_file.body.len = strlen(r->yaml);
	r->config_file.content_type = (char *)"text/yaml";
	r->config_entry.key = (char *)"config.yml";
	r->config_entry.value = &r->config_file;
	r->config_entries[0] = &r->config_entry;
	r->config_map.config_map = r->config_entries;
	r->config_map.n_config_map = 1;
	r->config.config_map = &r->config_map;
}

/*
 * Points m at a full report; report_done() afterwards, also on failure. with_config false leaves out
 * the configuration: a server that lacks it sees a gap in our sequence numbers and asks for all.
 */
static int add_full_state(Opamp__AgentToServer *m, struct report *r, struct hf_self *self,
			  bool with_config)
{
	int e = fill_description(r, self);

	if (e < 0)
		return e;
	fill_health(r, self);
	if (with_config)
		fill_config(r, self);
	opamp__custom_capabilities__init(&r->custom);
	r->custom.capabilities = (char **)our_capabilities;
	r->custom.n_capabilities = HF_ARRAY_SIZE(our_capabilities);
	m->agent_description = &r->description;
	m->health = &r->health;
	m->custom_capabilities = &r->custom;
	if (r->yaml)
		m->effective_config = &r->config;
	return 0;
}

static void add_settings(Opamp__AgentToServer *m, struct report *r, const struct hf_self *self)
{
	if (self->settings.hash_len == 0)
		return;
	opamp__connection_settings_status__init(&r->settings);
	r->settings.last_connection_settings_hash.data = (uint8_t *)self->settings.hash;
	r->settings.last_connection_settings_hash.len = self->settings.hash_len;
	r->settings.status = (int32_t)self->settings.status;
	r->settings.error_message = (char *)self->settings.error; /* only read while packing */
	m->connection_settings_status = &r->settings;
}

/* Numbers the message and appends its encoding. */
static int encode(Opamp__AgentToServer *m, struct hf_self *self, struct hf_buf *ret)
{
	int r;

	m->instance_uid.data = (uint8_t *)self->instance_uid;
	m->instance_uid.len = 16;
	m->capabilities = CAPABILITIES;
	m->sequence_num = self->sequence_num + 1;
	r = hf_opamp_encode(&m->base, ret);
	if (r >= 0)
		self->sequence_num++;
	return r;
}

int hf_session_first_message(const struct hf_hello *h, struct hf_buf *ret)
{
	Opamp__AgentToServer m = OPAMP__AGENT_TO_SERVER__INIT;
	Opamp__ConnectionSettingsRequest request = OPAMP__CONNECTION_SETTINGS_REQUEST__INIT;
	Opamp__OpAMPConnectionSettingsRequest opamp =
		OPAMP__OP_AMPCONNECTION_SETTINGS_REQUEST__INIT;
	Opamp__CertificateRequest cert = OPAMP__CERTIFICATE_REQUEST__INIT;
	Session__Hello hello = SESSION__HELLO__INIT;
	struct hf_self *self = h->self;
	struct report report = {};
	int r;

	hello.boot_id.data = (uint8_t *)self->host->boot_id;
	hello.boot_id.len = sizeof(self->host->boot_id);
	hello.machine_id_hash.data = (uint8_t *)self->host->machine_id_hash;
	hello.machine_id_hash.len = sizeof(self->host->machine_id_hash);
	hello.run_id.data = self->run_id;
	hello.run_id.len = sizeof(self->run_id);
	hello.epoch = h->epoch;
	hello.version = (char *)self->version;
	hello.environment = (char *)self->environment;
	hello.kernel_assist = (char *)self->kernel_assist;
	hello.sent_unix_ns = hf_now_realtime_ns();
	hello.attempt_started_boot_ns = h->attempt_started_boot_ns;
	hello.hostname = (char *)self->host->hostname;
	hello.last_close = (char *)h->last_close;
	if (h->streams) {
		r = h->streams(&hello, h->userdata);
		if (r < 0)
			hf_warn_r(r, "tell the portal what telemetry is held, ignoring");
	}
	if (h->csr) {
		cert.csr.data = (uint8_t *)h->csr;
		cert.csr.len = h->csr_len;
		opamp.certificate_request = &cert;
		request.opamp = &opamp;
		m.connection_settings_request = &request;
	}
	r = add_full_state(&m, &report, self, !self->config_sent);
	add_settings(&m, &report, self);
	if (r >= 0)
		m.custom_message = hf_opamp_custom_new(HF_CAP_SESSION, HF_MSG_HELLO, &hello.base);
	if (r >= 0 && !m.custom_message)
		r = -ENOMEM;
	if (r >= 0)
		r = encode(&m, self, ret);
	if (m.custom_message)
		opamp__custom_message__free_unpacked(m.custom_message, NULL);
	for (size_t i = 0; i < hello.n_streams; i++)
		session__stream__free_unpacked(hello.streams[i], NULL);
	free(hello.streams);
	report_done(&report);
	return r;
}

/* ---- life ----------------------------------------------------------------------------------- */

static void destroy(struct hf_session *s)
{
	sd_event_source_disable_unref(s->timer);
	s->link = hf_link_free(s->link);
	s->magic = 0;
	free(s);
}

struct hf_session *hf_session_free(struct hf_session *s)
{
	if (!s)
		return NULL;
	s->doomed = true;
	s->over = true;
	if (s->busy == 0)
		destroy(s);
	else
		(void)sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
	return NULL;
}

static void enter(struct hf_session *s)
{
	s->busy++;
}

static void leave(struct hf_session *s)
{
	hf_assert(s->busy > 0);
	if (--s->busy == 0 && s->doomed)
		destroy(s);
}

static void tell_lost(struct hf_session *s, const struct hf_session_loss *loss)
{
	if (s->over)
		return;
	s->over = true;
	(void)sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
	s->cb.lost(loss, s->userdata);
}

static void arm(struct hf_session *s)
{
	uint64_t at;

	if (s->doomed || s->over)
		return;
	at = hf_heartbeat_wakeup_ns(&s->beat) / HF_NS_PER_US + 1;
	if (sd_event_source_set_time(s->timer, at) >= 0)
		(void)sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

/* Sends what is in message with whatever of the status the portal lacks. */
static int transmit(struct hf_session *s, const Opamp__AgentToServer *message)
{
	Opamp__AgentToServer m = *message; /* it points into report, which ends with this call */
	struct report report = {};
	struct hf_buf buf = {};
	int r = 0;

	if (s->over)
		return -EPIPE;
	if (s->full_state_wanted || s->status_changed)
		r = add_full_state(&m, &report, s->self,
				   s->full_state_wanted || !s->self->config_sent);
	if (s->full_state_wanted || s->settings_changed)
		add_settings(&m, &report, s->self);
	if (r >= 0)
		r = encode(&m, s->self, &buf);
	if (r >= 0) {
		r = hf_link_send(s->link, buf.data, buf.len);
		if (r < 0) {
			s->self->sequence_num--; /* it never left */
			s->self->config_sent = s->self->config_sent && !report.yaml;
		} else {
			s->full_state_wanted = s->status_changed = false;
			s->settings_changed = false;
		}
	}
	if (r == -ENOBUFS)
		s->queue_was_full = true;
	hf_buf_done(&buf);
	report_done(&report);
	return r;
}

int hf_session_send(struct hf_session *s, const char *capability, const char *type,
		    ProtobufCMessage *body)
{
	Opamp__AgentToServer m = OPAMP__AGENT_TO_SERVER__INIT;
	int r;

	if (s->plain)
		return -EPIPE; /* it would not know what to do with it */
	m.custom_message = hf_opamp_custom_new(capability, type, body);
	if (!m.custom_message)
		return -ENOMEM;
	enter(s);
	r = transmit(s, &m);
	opamp__custom_message__free_unpacked(m.custom_message, NULL);
	leave(s);
	return r;
}

void hf_session_report_settings(struct hf_session *s)
{
	Opamp__AgentToServer m = OPAMP__AGENT_TO_SERVER__INIT;

	s->settings_changed = true;
	enter(s);
	(void)transmit(s, &m); /* refused: it goes with the next */
	leave(s);
}

int hf_session_send_csr(struct hf_session *s, const void *csr, size_t len)
{
	Opamp__AgentToServer m = OPAMP__AGENT_TO_SERVER__INIT;
	Opamp__ConnectionSettingsRequest request = OPAMP__CONNECTION_SETTINGS_REQUEST__INIT;
	Opamp__OpAMPConnectionSettingsRequest opamp =
		OPAMP__OP_AMPCONNECTION_SETTINGS_REQUEST__INIT;
	Opamp__CertificateRequest cert = OPAMP__CERTIFICATE_REQUEST__INIT;
	int r;

	cert.csr.data = (uint8_t *)csr;
	cert.csr.len = len;
	opamp.certificate_request = &cert;
	request.opamp = &opamp;
	m.connection_settings_request = &request;
	enter(s);
	r = transmit(s, &m);
	leave(s);
	return r;
}

static void send_heartbeat(struct hf_session *s)
{
	Session__Heartbeat beat = SESSION__HEARTBEAT__INIT;
	Session__Presence presence = SESSION__PRESENCE__INIT;
	uint64_t now = hf_now_monotonic_ns();
	int r;

	if (s->plain) {
		Opamp__AgentToServer m = OPAMP__AGENT_TO_SERVER__INIT;

		(void)hf_heartbeat_asked(&s->beat, now);
		s->last_asked_ns = now;
		r = transmit(s, &m); /* OpAMP's own heartbeat: nothing but the header */
		if (r >= 0 && !s->over)
			r = hf_link_ping(s->link);
	} else {
		presence.kernel_assist = (char *)s->self->kernel_assist;
		presence.lost_events = s->self->lost_events;
		beat.epoch = s->epoch;
		beat.seq = hf_heartbeat_asked(&s->beat, now);
		s->last_asked_ns = now;
		beat.sent_unix_ns = hf_now_realtime_ns();
		beat.rtt_us = (uint32_t)s->last_rtt_us;
		beat.presence = &presence;
		r = hf_session_send(s, HF_CAP_SESSION, HF_MSG_HEARTBEAT, &beat.base);
	}
	if (r >= 0 && !s->over)
		s->cb.asked(s->userdata);
	/* A full queue is no answer either: the deadline judges both. */
	if (r < 0 && r != -ENOBUFS && r != -EPIPE)
		hf_warn_r(r, "send heartbeat, ignoring");
}

void hf_session_probe(struct hf_session *s)
{
	enter(s);
	send_heartbeat(s);
	arm(s);
	leave(s);
}

void hf_session_status_changed(struct hf_session *s)
{
	s->status_changed = true;
}

static int on_timer(sd_event_source *src, uint64_t usec, void *userdata)
{
	struct hf_session *s = HF_CAST(userdata, struct hf_session, SESSION_MAGIC);
	uint64_t now = hf_now_monotonic_ns();

	(void)src;
	(void)usec;
	enter(s);
	if (hf_heartbeat_missed(&s->beat, now)) {
		struct hf_session_loss loss = {.heartbeat_missed = true};
		struct hf_link_tcp tcp;

		loss.tcp_acked = hf_link_tcp(s->link, &tcp) && tcp.unacked == 0;
		tell_lost(s, &loss);
	} else {
		if (hf_heartbeat_should_ask(&s->beat, now))
			send_heartbeat(s);
		arm(s);
	}
	leave(s);
	return 0;
}

/* ---- what the portal says -------------------------------------------------------------------- */

static void note_server_time(struct hf_session *s, uint64_t server_unix_ns, uint64_t rtt_ns)
{
	uint64_t now_real = hf_now_realtime_ns();

	if (server_unix_ns == 0 || server_unix_ns > INT64_MAX)
		return;
	s->server_unix_ns = server_unix_ns;
	s->server_at_boot_ns = hf_now_boottime_ns();
	/* It was read half a round trip ago. */
	s->clock_offset_ms = ((int64_t)(server_unix_ns + rtt_ns / 2) - (int64_t)now_real) /
			     (int64_t)HF_NS_PER_MS;
}

static void set_authorization(struct hf_session *s, const char *authorization)
{
	if (!authorization || !authorization[0] || hf_streq(authorization, s->authorization))
		return;
	hf_strlcpy(s->authorization, authorization, sizeof(s->authorization));
	hf_sanitize(s->authorization);
	s->cb.authorization(s->authorization, s->userdata);
}

static void handle_ack(struct hf_session *s, const Session__HeartbeatAck *ack)
{
	uint64_t now = hf_now_monotonic_ns();

	if (ack->seq == 0 && ack->epoch == s->epoch) { /* unsolicited: authorization changed */
		set_authorization(s, ack->authorization);
		return;
	}
	switch (hf_heartbeat_answered(&s->beat, ack->seq, ack->epoch, s->epoch, now)) {
	case HF_HEARTBEAT_STALE:
		set_authorization(s, ack->authorization);
		return;
	case HF_HEARTBEAT_PROOF:
		s->last_rtt_us = (now - s->last_asked_ns) / HF_NS_PER_US;
		note_server_time(s, ack->server_unix_ns, now - s->last_asked_ns);
		arm(s);
		set_authorization(s, ack->authorization);
		if (!s->doomed && !s->over)
			s->cb.proof(s->userdata);
		return;
	case HF_HEARTBEAT_MISMATCH:
		tell_lost(s, &(struct hf_session_loss){.registry_lost = true});
		return;
	}
}

static void handle_session(struct hf_session *s, const Opamp__CustomMessage *m)
{
	int r = 0;

	if (hf_streq(m->type, HF_MSG_HEARTBEAT_ACK)) {
		_cleanup_pb_ Session__HeartbeatAck *ack = NULL;

		r = hf_opamp_custom_unpack(m, &session__heartbeat_ack__descriptor, &ack);
		if (r >= 0)
			handle_ack(s, ack);
	} else if (hf_streq(m->type, HF_MSG_HOLD)) {
		_cleanup_pb_ Session__Hold *hold = NULL;

		r = hf_opamp_custom_unpack(m, &session__hold__descriptor, &hold);
		if (r >= 0)
			s->cb.hold(hold, s->userdata);
	}
	if (r < 0)
		s->malformed++;
}

static void handle_custom(struct hf_session *s, const Opamp__CustomMessage *m)
{
	int r = 0;

	if (hf_streq(m->capability, HF_CAP_SESSION)) {
		handle_session(s, m);
	} else if (hf_opamp_custom_is(m, HF_CAP_TELEMETRY, HF_MSG_TELEMETRY_ACK)) {
		_cleanup_pb_ Session__TelemetryAck *ack = NULL;

		r = hf_opamp_custom_unpack(m, &session__telemetry_ack__descriptor, &ack);
		if (r >= 0)
			s->cb.telemetry_ack(ack, s->userdata);
	} else if (hf_opamp_custom_is(m, HF_CAP_OUTAGE, HF_MSG_OUTAGE_ACK)) {
		_cleanup_pb_ Session__OutageAck *ack = NULL;

		r = hf_opamp_custom_unpack(m, &session__outage_ack__descriptor, &ack);
		if (r >= 0)
			s->cb.outage_ack(ack->id, s->userdata);
	} else if (hf_streq(m->capability, HF_CAP_ACTION)) {
		r = s->cb.action(m->type, m->data.data, m->data.len, s->userdata);
	}
	/* Another capability or type: a newer portal's, ignored as OpAMP asks. */
	if (r < 0)
		s->malformed++;
}

void hf_session_handle(struct hf_session *s, const Opamp__ServerToAgent *m)
{
	enter(s);
	if (m->flags & SERVER_FLAG_REPORT_FULL_STATE) {
		Opamp__AgentToServer full = OPAMP__AGENT_TO_SERVER__INIT;

		s->full_state_wanted = true;
		(void)transmit(s, &full); /* refused: it stays wanted and goes with the next */
	}
	if (!s->doomed && m->agent_identification &&
	    m->agent_identification->new_instance_uid.len == 16)
		s->cb.new_uid(m->agent_identification->new_instance_uid.data, s->userdata);
	if (!s->doomed && m->connection_settings) {
		const Opamp__OpAMPConnectionSettings *o = m->connection_settings->opamp;

		if (o && o->heartbeat_interval_seconds &&
		    o->heartbeat_interval_seconds <= UINT32_MAX) {
			hf_heartbeat_set_interval(&s->beat, (uint32_t)o->heartbeat_interval_seconds,
						  hf_now_monotonic_ns());
			arm(s);
		}
		s->cb.offer(m->connection_settings, s->userdata);
	}
	if (!s->doomed && m->custom_message)
		handle_custom(s, m->custom_message);
	if (!s->doomed && m->command && m->command->type == COMMAND_RESTART)
		s->cb.restart(s->userdata);
	if (!s->doomed && m->error_response)
		s->cb.server_error(m->error_response, s->userdata);
	leave(s);
}

static void on_message(const uint8_t *data, size_t len, void *userdata)
{
	struct hf_session *s = HF_CAST(userdata, struct hf_session, SESSION_MAGIC);
	_cleanup_pb_ Opamp__ServerToAgent *m = NULL;
	int r;

	if (s->over || s->leaving)
		return;
	r = hf_opamp_decode_to_agent(data, len, &m);
	if (r < 0) {
		s->malformed++;
		if (hf_ratelimit_take(&s->malformed_log, hf_now_monotonic_ns()))
			hf_warn("message of %zu bytes from the portal is not valid OpAMP (%s), closing",
				len, strerror(-r));
		enter(s);
		hf_link_close(s->link, HF_WS_CLOSE_INVALID, "malformed protobuf");
		if (!s->over) {
			struct hf_link_end end = {.phase = HF_PHASE_ONLINE,
						  .violation = HF_WS_CLOSE_INVALID};

			hf_strf(end.violation_text, sizeof(end.violation_text),
				"a message of %zu bytes is not valid OpAMP", len);
			tell_lost(s, &(struct hf_session_loss){.end = &end});
		}
		leave(s);
		return;
	}
	hf_session_handle(s, m);
}

static void on_pong(void *userdata)
{
	struct hf_session *s = HF_CAST(userdata, struct hf_session, SESSION_MAGIC);
	uint64_t now = hf_now_monotonic_ns();

	if (!s->plain || s->over)
		return;
	enter(s);
	if (hf_heartbeat_answered(&s->beat, s->beat.seq, s->epoch, s->epoch, now) ==
	    HF_HEARTBEAT_PROOF) {
		s->last_rtt_us = (now - s->last_asked_ns) / HF_NS_PER_US;
		arm(s);
		s->cb.proof(s->userdata);
	}
	leave(s);
}

static void on_open(void *userdata)
{
	(void)userdata; /* it was open before the session existed */
}

static void on_gone(const struct hf_link_end *end, void *userdata)
{
	struct hf_session *s = HF_CAST(userdata, struct hf_session, SESSION_MAGIC);

	enter(s);
	tell_lost(s, &(struct hf_session_loss){.end = end});
	leave(s);
}

static void on_writable(void *userdata)
{
	struct hf_session *s = HF_CAST(userdata, struct hf_session, SESSION_MAGIC);

	if (!s->queue_was_full || s->over)
		return;
	s->queue_was_full = false;
	enter(s);
	s->cb.writable(s->userdata);
	leave(s);
}

static const struct hf_link_callbacks link_callbacks = {
	.open = on_open,
	.message = on_message,
	.pong = on_pong,
	.gone = on_gone,
	.writable = on_writable,
};

int hf_session_new(const struct hf_session_options *o, struct hf_link *link,
		   const struct hf_session_callbacks *cb, void *userdata, struct hf_session **ret)
{
	struct hf_session *s = calloc(1, sizeof(*s));
	uint64_t now = hf_now_monotonic_ns();
	int r;

	if (!s)
		return -ENOMEM;
	s->magic = SESSION_MAGIC;
	s->self = o->self;
	s->cb = *cb;
	s->userdata = userdata;
	s->epoch = o->epoch;
	s->plain = !o->welcome;
	s->malformed_log = (struct hf_ratelimit){.burst = 3, .interval_ns = 60 * HF_NS_PER_S};
	hf_strlcpy(s->authorization, "authorized", sizeof(s->authorization));
	if (o->welcome) {
		const char *a = o->welcome->authorization;

		hf_strlcpy(s->authorization, a[0] ? a : "pending", sizeof(s->authorization));
		hf_sanitize(s->authorization);
		note_server_time(s, o->welcome->server_unix_ns,
				 o->answered_boot_ns - o->hello_sent_boot_ns);
		s->last_rtt_us = (o->answered_boot_ns - o->hello_sent_boot_ns) / HF_NS_PER_US;
	}
	hf_heartbeat_init(
		&s->beat,
		o->welcome && o->welcome->heartbeat_s ? o->welcome->heartbeat_s : o->heartbeat_s,
		o->welcome && o->welcome->heartbeat_timeout_s ? o->welcome->heartbeat_timeout_s
							      : o->heartbeat_timeout_s,
		NULL, now);
	r = sd_event_add_time(o->event, &s->timer, CLOCK_MONOTONIC,
			      hf_heartbeat_wakeup_ns(&s->beat) / HF_NS_PER_US + 1,
			      TIMER_ACCURACY_US, on_timer, s);
	if (r < 0) {
		free(s);
		return r;
	}
	(void)sd_event_source_set_description(s->timer, "heartbeat"); /* for debugging only */
	s->link = link;
	hf_link_set_callbacks(link, &link_callbacks, s);
	*ret = s;
	return 0;
}

void hf_session_part(struct hf_self *self, struct hf_link *link, const char *reason)
{
	Opamp__AgentToServer m = OPAMP__AGENT_TO_SERVER__INIT;
	Opamp__AgentDisconnect disconnect = OPAMP__AGENT_DISCONNECT__INIT;
	struct hf_buf buf = {};

	m.agent_disconnect = &disconnect;
	if (encode(&m, self, &buf) >= 0 && hf_link_send(link, buf.data, buf.len) < 0)
		self->sequence_num--; /* it never left */
	hf_buf_done(&buf);
	hf_link_close(link, HF_WS_CLOSE_NORMAL, reason);
}

void hf_session_goodbye(struct hf_session *s, const char *reason)
{
	Opamp__AgentToServer m = OPAMP__AGENT_TO_SERVER__INIT;
	Opamp__AgentDisconnect disconnect = OPAMP__AGENT_DISCONNECT__INIT;
	Session__Goodbye goodbye = SESSION__GOODBYE__INIT;

	if (s->over || s->leaving)
		return;
	enter(s);
	if (!s->plain) {
		goodbye.reason = (char *)reason;
		/* Best effort: a queue that is full will not empty in our last second. */
		(void)hf_session_send(s, HF_CAP_SESSION, HF_MSG_GOODBYE, &goodbye.base);
	}
	m.agent_disconnect = &disconnect;
	(void)transmit(s, &m); /* likewise */
	s->leaving = true;
	(void)sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
	hf_link_close(s->link, HF_WS_CLOSE_NORMAL, reason);
	leave(s);
}

void hf_session_poke(struct hf_session *s)
{
	enter(s);
	hf_link_poke(s->link);
	leave(s);
}

uint64_t hf_session_epoch(const struct hf_session *s)
{
	return s->epoch;
}

uint64_t hf_session_cookie(const struct hf_session *s)
{
	return hf_link_cookie(s->link);
}

const struct hf_link *hf_session_link(const struct hf_session *s)
{
	return s->link;
}

const char *hf_session_authorization(const struct hf_session *s)
{
	return s->authorization;
}

bool hf_session_plain(const struct hf_session *s)
{
	return s->plain;
}

uint32_t hf_session_rtt_us(const struct hf_session *s)
{
	return (uint32_t)s->last_rtt_us;
}

int64_t hf_session_clock_offset_ms(const struct hf_session *s)
{
	return s->clock_offset_ms;
}

uint64_t hf_session_server_unix_ns(const struct hf_session *s, uint64_t *ret_at_boot_ns)
{
	*ret_at_boot_ns = s->server_at_boot_ns;
	return s->server_unix_ns;
}

uint64_t hf_session_malformed(const struct hf_session *s)
{
	return s->malformed;
}
