/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NEW → (ENROLLING →) LIVE → CLOSING. The first message identifies the agent; every message is
 * answered; what is answered about presence comes from the registry.
 *
 * I1 A link speaks for an endpoint only while the registry says so; its end unregisters only itself.
 * I2 Identity comes from the credential, never from what the message says.
 * I3 Nothing of a peer is trusted to be short, UTF-8 or well-formed before the codec said so.
 */
#include "tools/portal/ws_opamp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "holdfast/session.h"
#include "tools/portal/action.h"
#include "tools/portal/conn.h"
#include "tools/portal/fleet.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/writer.h"
#include "userspace/proto/frame.h"

#define SPREAD_MIN_MS       2000u /* first try after a loss that is our doing */
#define SPREAD_MAX_MS       120000u
#define RESTART_FLOOR_MS    1000u /* who dials before we are back is refused, and waits much longer */
#define BACKOFF_CAP_MS      60000u
#define HEARTBEAT_TIMEOUT_S 10u
#define HF_POLL_REPLY_MAX   (64u << 10)

/* ---- life of a link ------------------------------------------------------------------------- */

static void link_free(struct hf_link *l)
{
	l->magic = 0;
	l->expiry = sd_event_source_disable_unref(l->expiry);
	hf_buf_done(&l->reply);
	free(l);
}

void hf_link_ref_job(struct hf_link *l)
{
	l->jobs++;
}

void hf_link_unref_job(struct hf_link *l)
{
	if (--l->jobs == 0 && !l->conn && !l->polling)
		link_free(l);
}

static const char *lost_reason(const struct hf_link *l, enum hf_conn_end how)
{
	if (l->lost_reason)
		return l->lost_reason;
	if (l->portal->stopping)
		return "portal_restarted";
	switch (how) {
	case HF_CONN_END_RESET:
		return "peer_reset";
	case HF_CONN_END_TIMEOUT:
		return "blackhole";
	case HF_CONN_END_PROTOCOL:
		return "protocol_error";
	case HF_CONN_END_PEER:
	case HF_CONN_END_LOCAL:
		break;
	}
	return "link_lost";
}

void hf_link_on_ended(void *userdata, enum hf_conn_end how)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, HF_LINK_MAGIC);
	struct hf_endpoint *ep = l->ep;

	hf_contest_abandon(l);
	l->state = HF_LINK_CLOSING;
	l->ep = NULL;
	l->conn = hf_conn_unref(l->conn);
	l->polling = false;
	if (ep && hf_registry_unlink(ep, l, lost_reason(l, how), how != HF_CONN_END_TIMEOUT,
				     hf_now_monotonic_ns())) {
		l->portal->counters.links_lost++;
		hf_fleet_judge(l->portal, ep);
		hf_fleet_publish(l->portal, ep);
		hf_contest_holder_gone(ep);
		hf_actions_unlinked(l->portal, ep, false);
	}
	if (l->jobs == 0)
		link_free(l);
}

static void close_link(struct hf_link *l, uint16_t code, const char *reason)
{
	if (l->state == HF_LINK_CLOSING)
		return;
	l->state = HF_LINK_CLOSING;
	if (l->conn)
		hf_conn_ws_close(l->conn, code, reason);
	else if (l->polling)
		hf_link_on_ended(l, HF_CONN_END_LOCAL); /* between two polls: nobody to tell */
}

void hf_link_superseded(struct hf_link *l)
{
	l->ep = NULL; /* the registry gave its place away already */
	l->portal->counters.links_superseded++;
	close_link(l, HF_WS_CLOSE_SUPERSEDED, "superseded");
}

void hf_link_ping(struct hf_link *l)
{
	if (l->conn)
		hf_conn_ws_ping(l->conn);
}

void hf_link_forget_endpoint(struct hf_link *l)
{
	l->ep = NULL;
	close_link(l, HF_WS_CLOSE_POLICY, hf_cause_name(HF_CAUSE_REVOKED));
}

void hf_link_cut(struct hf_link *l, bool reset)
{
	l->lost_reason = "portal_disconnected";
	if (l->polling)
		close_link(l, HF_WS_CLOSE_RESTART, "portal_disconnected");
	else if (!l->conn)
		return;
	else if (reset)
		hf_conn_reset(l->conn);
	else
		close_link(l, HF_WS_CLOSE_RESTART, "portal_disconnected");
}

/* ---- sending -------------------------------------------------------------------------------- */

void hf_link_send(struct hf_link *l, Opamp__ServerToAgent *m)
{
	_cleanup_(hf_buf_done) struct hf_buf frame = {};
	int r;

	if ((!l->conn && !l->polling) || l->state == HF_LINK_CLOSING)
		return;
	m->instance_uid.data = l->uid;
	m->instance_uid.len = sizeof(l->uid);
	m->capabilities = HF_OPAMP_SERVER_CAPABILITIES;
	if (l->polling) {
		/* Who does not poll any more needs no growing heap of news. */
		if (l->reply.len < HF_POLL_REPLY_MAX)
			(void)hf_pb_pack(&m->base, &l->reply);
		return;
	}
	r = hf_opamp_encode(&m->base, &frame);
	if (r == 0)
		r = hf_conn_ws_send(l->conn, frame.data, frame.len);
	if (r == 0)
		l->portal->counters.opamp_sent++;
	else if (r != -EPIPE)
		hf_debug("%s: send: %s", hf_conn_peer(l->conn), strerror(-r));
}

void hf_link_send_custom(struct hf_link *l, const char *capability, const char *type,
			 ProtobufCMessage *body)
{
	Opamp__ServerToAgent m = OPAMP__SERVER_TO_AGENT__INIT;
	_cleanup_pb_ Opamp__CustomMessage *cm = hf_opamp_custom_new(capability, type, body);

	if (!cm)
		return;
	m.custom_message = cm;
	hf_link_send(l, &m);
}

void hf_link_refuse(struct hf_link *l, Opamp__ServerErrorResponseType type, uint16_t code,
		    const char *reason)
{
	Opamp__ServerToAgent m = OPAMP__SERVER_TO_AGENT__INIT;
	Opamp__ServerErrorResponse e = OPAMP__SERVER_ERROR_RESPONSE__INIT;

	hf_link_log_refusal(l->conn ? hf_conn_peer(l->conn) : "?", reason);
	e.type = type;
	e.error_message = (char *)reason; /* only read while packing */
	m.error_response = &e;
	hf_link_send(l, &m);
	close_link(l, code, reason);
}

static void bad_request(struct hf_link *l, const char *what)
{
	l->portal->counters.opamp_bad++;
	hf_link_refuse(l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
		       HF_WS_CLOSE_INVALID, what);
}

void hf_link_hold(struct hf_link *l, const char *reason, uint32_t retry_after_ms,
		  uint32_t window_ms, uint16_t code)
{
	Opamp__ServerToAgent m = OPAMP__SERVER_TO_AGENT__INIT;
	Opamp__ServerErrorResponse e = OPAMP__SERVER_ERROR_RESPONSE__INIT;
	Opamp__RetryInfo retry = OPAMP__RETRY_INFO__INIT;
	Session__Hold hold = SESSION__HOLD__INIT;
	_cleanup_pb_ Opamp__CustomMessage *cm = NULL;

	hf_link_log_refusal(l->conn ? hf_conn_peer(l->conn) : "?", reason);
	hold.reason = (char *)reason; /* only read while packing, as the next */
	hold.retry_after_ms = retry_after_ms;
	hold.window_ms = window_ms;
	if (l->has_hello)
		cm = hf_opamp_custom_new(HF_CAP_SESSION, HF_MSG_HOLD, &hold.base);
	retry.retry_after_nanoseconds = retry_after_ms * HF_NS_PER_MS;
	e.type = OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_Unavailable;
	e.error_message = (char *)reason;
	e.details_case = OPAMP__SERVER_ERROR_RESPONSE__DETAILS_RETRY_INFO;
	e.retry_info = &retry;
	m.error_response = &e;
	m.custom_message = cm;
	hf_link_send(l, &m);
	close_link(l, code, reason);
}

uint32_t hf_link_spread_ms(const struct hf_portal *p)
{
	uint64_t ms = hf_registry_count(p->registry) * 2000 / p->config.accept_per_s;

	return ms < SPREAD_MIN_MS ? SPREAD_MIN_MS : ms > SPREAD_MAX_MS ? SPREAD_MAX_MS : ms;
}

void hf_link_on_stopping(void *userdata)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, HF_LINK_MAGIC);
	uint32_t window = hf_link_spread_ms(l->portal);

	/* The window of the welcome counts for a first failure only; this one counts for all. */
	if (l->state == HF_LINK_LIVE)
		hf_link_hold(l, hf_cause_name(HF_CAUSE_PORTAL_RESTART), RESTART_FLOOR_MS, window,
			     HF_WS_CLOSE_RESTART);
	close_link(l, HF_WS_CLOSE_RESTART, hf_cause_name(HF_CAUSE_PORTAL_RESTART));
}

static void fill_ack(const struct hf_link *l, Session__HeartbeatAck *ack)
{
	const struct hf_endpoint *ep = l->ep;

	*ack = (Session__HeartbeatAck)SESSION__HEARTBEAT_ACK__INIT;
	ack->server_unix_ns = hf_now_realtime_ns();
	/* Epoch 0 says: the registry does not know this connection (any more). */
	ack->epoch = ep && ep->link == l ? ep->epoch : 0;
	ack->authorization =
		(char *)hf_authorization_name(ep ? ep->row.authorization : HF_AUTH_REVOKED);
}

void hf_link_authorization_changed(struct hf_link *l)
{
	Session__HeartbeatAck ack;

	if (l->has_hello) {
		fill_ack(l, &ack);
		hf_link_send_custom(l, HF_CAP_SESSION, HF_MSG_HEARTBEAT_ACK, &ack.base);
	}
	if (l->ep && l->ep->row.authorization == HF_AUTH_REVOKED)
		close_link(l, HF_WS_CLOSE_POLICY, hf_cause_name(HF_CAUSE_REVOKED));
}

/* ---- going live ----------------------------------------------------------------------------- */

static int clock_offset_ms(const Session__Hello *hello)
{
	int64_t diff = (int64_t)(hello->sent_unix_ns - hf_now_realtime_ns());
	int64_t ms = diff / (int64_t)HF_NS_PER_MS;

	return ms > INT32_MAX ? INT32_MAX : ms < -INT32_MAX ? -INT32_MAX : (int)ms;
}

static bool register_link(struct hf_link *l, struct hf_endpoint *ep, const Opamp__AgentToServer *m,
			  const Session__Hello *hello,
			  const Opamp__ConnectionSettingsOffers *offers)
{
	struct hf_link *old = NULL;
	struct hf_link_claim claim = {.link = l, .uncontested = l->uncontested};
	struct hf_presence_policy policy = hf_fleet_policy(l->portal, ep);
	struct hf_counters *n = &l->portal->counters;

	hf_link_origin(hello, &claim.origin);
	if (hello)
		claim.epoch = hello->epoch;
	switch (hf_registry_link(ep, &claim, &policy, hf_now_monotonic_ns(), &old)) {
	case HF_LINK_OK:
		n->links_made++;
		if (old)
			hf_link_superseded(old);
		return true;
	case HF_LINK_STALE:
		n->links_stale++;
		close_link(l, HF_WS_CLOSE_SUPERSEDED, "superseded");
		return false;
	case HF_LINK_CONTESTED:
		hf_contest_start(l, ep, m, hello, offers);
		return false;
	case HF_LINK_CLONE:
		hf_contest_quarantine(l, ep, hello);
		return false;
	}
	return false;
}

struct seen_job {
	uint8_t id[HF_ID_SIZE];
};

static int run_credential_seen(struct hf_store *s, void *arg)
{
	const struct seen_job *j = arg;

	return hf_store_endpoint_credential_seen(s, j->id);
}

static void done_credential_seen(int r, void *arg)
{
	(void)r; /* only lets a token be offered once more; the next connection repeats it */
	free(arg);
}

static void mark_credential_seen(struct hf_link *l, struct hf_endpoint *ep)
{
	struct seen_job *j;

	if (l->credential == HF_CREDENTIAL_TOKEN || ep->row.credential_seen)
		return;
	j = calloc(1, sizeof(*j));
	if (!j)
		return;
	memcpy(j->id, ep->row.id, HF_ID_SIZE);
	ep->row.credential_seen = true;
	if (hf_writer_submit(l->portal->writer, run_credential_seen, done_credential_seen, j,
			     sizeof(*j)) < 0)
		free(j);
}

static void fill_acks(struct hf_link *l, const struct hf_endpoint *ep, const Session__Hello *hello,
		      Session__StreamAck *acks, Session__StreamAck **pointers, Session__Welcome *w)
{
	for (size_t i = 0; i < hello->n_streams && i < HF_LINK_STREAMS_MAX; i++) {
		const Session__Stream *s = hello->streams[i];
		uint64_t acked = 0;

		/* A failed read says 0: the agent then sends again what is known already. */
		(void)hf_store_stream_get(l->portal->store, ep->row.id, s->epoch, &acked);
		l->first_unacked[l->n_streams++] =
			(struct hf_stream_row){.epoch = s->epoch, .acked = s->first_unacked};
		acks[i] = (Session__StreamAck)SESSION__STREAM_ACK__INIT;
		acks[i].epoch = s->epoch;
		acks[i].acked = acked;
		pointers[i] = &acks[i];
		w->n_acks++;
	}
	w->acks = pointers;
}

static Opamp__CustomMessage *make_welcome(struct hf_link *l, const struct hf_endpoint *ep,
					  const Session__Hello *hello)
{
	Session__StreamAck acks[HF_LINK_STREAMS_MAX], *pointers[HF_LINK_STREAMS_MAX];
	Session__Welcome w = SESSION__WELCOME__INIT;
	_cleanup_(hf_buf_done) struct hf_buf keys = {};
	struct hf_portal *p = l->portal;
	char id[HF_UUID_TEXT_SIZE];

	hf_uuid_format(ep->row.id, id);
	l->n_streams = 0;
	fill_acks(l, ep, hello, acks, pointers, &w);
	w.epoch = hello->epoch; /* registered under it, or just told */
	w.authorization = (char *)hf_authorization_name(ep->row.authorization);
	w.server_unix_ns = hf_now_realtime_ns();
	w.heartbeat_s = hf_fleet_policy(p, ep).heartbeat_s;
	w.heartbeat_timeout_s = HEARTBEAT_TIMEOUT_S;
	w.backoff_window_ms = hf_link_spread_ms(p);
	w.backoff_cap_ms = BACKOFF_CAP_MS;
	w.endpoint_id = id;
	w.environment = p->config.environment;
	w.portal_version = (char *)HF_VERSION; /* only read while packing */
	hf_actions_keys(p, ep, &keys);
	w.action_keys = (ProtobufCBinaryData){.data = keys.data, .len = keys.len};
	return hf_opamp_custom_new(HF_CAP_SESSION, HF_MSG_WELCOME, &w.base);
}

/* An OpAMP agent without our session takes its heartbeat interval by a settings offer. */
static void offer_heartbeat(struct hf_link *l, Opamp__ConnectionSettingsOffers *offers)
{
	offers->opamp->heartbeat_interval_seconds =
		l->ep ? hf_fleet_policy(l->portal, l->ep).heartbeat_s
		      : l->portal->policy.heartbeat_s;
	l->offered_heartbeat = true;
}

static bool wants_heartbeat_offer(const struct hf_link *l)
{
	return !l->has_hello && !l->offered_heartbeat &&
	       (l->capabilities & HF_OPAMP_ACCEPTS_CONNECTION_SETTINGS) &&
	       (l->capabilities & HF_OPAMP_REPORTS_HEARTBEAT);
}

/*
 * Notes the message's number. Messages that left out what did not change are only understood by who
 * had the ones before: after a gap, or where we lack what the agent offers, all of it is wanted.
 */
static void note_sequence(struct hf_link *l, const Opamp__AgentToServer *m)
{
	struct hf_endpoint *ep = l->ep;
	bool gap;

	if (!ep)
		return;
	gap = !ep->sequence_known ||
	      (m->sequence_num != ep->sequence + 1 && m->sequence_num != ep->sequence);
	ep->sequence_known = true;
	ep->sequence = m->sequence_num;
	if (!gap)
		return;
	if (!m->agent_description || ((l->capabilities & HF_OPAMP_REPORTS_EFFECTIVE_CONFIG) &&
				      !m->effective_config && !ep->config_known))
		ep->full_state_wanted = true;
}

static void answer(struct hf_link *l, const Opamp__AgentToServer *m, Opamp__CustomMessage *cm,
		   Opamp__ConnectionSettingsOffers *offers)
{
	static char session[] = HF_CAP_SESSION, telemetry[] = HF_CAP_TELEMETRY,
		    outage[] = HF_CAP_OUTAGE, action[] = HF_CAP_ACTION;
	char *names[] = {session, telemetry, outage, action};
	Opamp__CustomCapabilities capabilities = OPAMP__CUSTOM_CAPABILITIES__INIT;
	Opamp__ConnectionSettingsOffers own = OPAMP__CONNECTION_SETTINGS_OFFERS__INIT;
	Opamp__OpAMPConnectionSettings settings = OPAMP__OP_AMPCONNECTION_SETTINGS__INIT;
	Opamp__AgentIdentification identification = OPAMP__AGENT_IDENTIFICATION__INIT;
	Opamp__ServerToAgent reply = OPAMP__SERVER_TO_AGENT__INIT;
	uint8_t hash[HF_HASH_SIZE];

	capabilities.n_capabilities = HF_ARRAY_SIZE(names);
	capabilities.capabilities = names;
	if (!offers && wants_heartbeat_offer(l)) {
		own.opamp = &settings;
		offers = &own;
	}
	if (offers) {
		if (wants_heartbeat_offer(l))
			offer_heartbeat(l, offers);
		hf_offer_hash(offers, hash);
	}
	reply.connection_settings = offers;
	reply.custom_message = cm;
	if (m->custom_capabilities || l->has_hello)
		reply.custom_capabilities = &capabilities;
	if (l->uid_given) {
		identification.new_instance_uid =
			(ProtobufCBinaryData){sizeof(l->new_uid), l->new_uid};
		reply.agent_identification = &identification;
	}
	note_sequence(l, m);
	if (l->ep && l->ep->full_state_wanted) {
		reply.flags = HF_OPAMP_REPORT_FULL_STATE;
		l->ep->full_state_wanted = false;
	}
	hf_link_send(l, &reply);
}

void hf_link_introduce(struct hf_link *l, struct hf_endpoint *ep, Opamp__AgentToServer *m,
		       Session__Hello *hello, Opamp__ConnectionSettingsOffers *offers)
{
	_cleanup_pb_ Opamp__CustomMessage *welcome = NULL;

	if (l->state == HF_LINK_CLOSING)
		return;
	l->state = HF_LINK_LIVE;
	welcome = make_welcome(l, ep, hello);
	answer(l, m, welcome, offers);
}

const uint8_t *hf_link_uid(const struct hf_link *l)
{
	return l->uid_given ? l->new_uid : l->uid;
}

static void give_uid(struct hf_link *l)
{
	hf_uuid_v7(l->new_uid);
	l->uid_given = true;
}

/* Two agents under one uid (a copied image), or one that asks for its uid: it gets a new one. */
static void settle_uid(struct hf_link *l, struct hf_endpoint *ep, bool first_time)
{
	bool changed = memcmp(ep->row.instance_uid, hf_link_uid(l), HF_ID_SIZE) != 0;

	if (!l->uid_given && (l->flags & HF_OPAMP_REQUEST_INSTANCE_UID))
		give_uid(l);
	else if (!l->uid_given && (changed || first_time) &&
		 hf_registry_uid_taken(l->portal->registry, l->uid, ep))
		give_uid(l);
	if (l->uid_given)
		hf_info("Endpoint '%s': gets a new instance uid", ep->row.name);
	if (changed || l->uid_given)
		ep->sequence_known = false;
	memcpy(ep->row.instance_uid, hf_link_uid(l), HF_ID_SIZE);
}

/* After the agent's own heartbeat is late we ask; then as long again until it is dead. */
void hf_link_set_silence(struct hf_link *l)
{
	struct hf_presence_policy policy = hf_fleet_policy(l->portal, l->ep);

	if (l->polling)
		return; /* its poll arms the expiry */
	hf_conn_ws_set_silence(l->conn, policy.heartbeat_s * HF_NS_PER_S * 5 / 4,
			       2 * hf_presence_proof_window_ns(&policy));
}

void hf_link_go_live(struct hf_link *l, struct hf_endpoint *ep, Opamp__AgentToServer *m,
		     Session__Hello *hello, Opamp__ConnectionSettingsOffers *offers)
{
	_cleanup_pb_ Opamp__CustomMessage *welcome = NULL;
	struct hf_portal *p = l->portal;
	bool known_before = ep->presence.ever_connected;

	if (l->state == HF_LINK_CLOSING || !register_link(l, ep, m, hello, offers))
		return;
	l->state = HF_LINK_LIVE;
	l->ep = ep;
	l->epoch = ep->epoch;
	settle_uid(l, ep, !known_before);
	(void)hf_link_describe(&ep->row, m, hello);
	if (hello)
		ep->row.clock_offset_ms = clock_offset_ms(hello);
	if (l->cert_expires_ns)
		ep->row.cert_expires_ns = l->cert_expires_ns;
	if (!ep->row.addresses
		     [0]
		     [0]) /* the agent does not tell its own: what we see is better than nothing */
		(void)hf_strlcpy(ep->row.addresses[0], hf_conn_address(l->conn),
				 sizeof(ep->row.addresses[0]));
	ep->row.last_seen_ns = hf_now_realtime_ns();
	(void)hf_strlcpy(ep->remote, hf_conn_peer(l->conn), sizeof(ep->remote));
	(void)hf_strlcpy(ep->tls_version, hf_conn_tls_version(l->conn), sizeof(ep->tls_version));
	(void)hf_link_report(l, m); /* published below */
	hf_link_set_silence(l);
	mark_credential_seen(l, ep);
	if (hello)
		welcome = make_welcome(l, ep, hello);
	answer(l, m, welcome, offers);
	hf_offer_send(l);
	hf_fleet_judge(p, ep);
	hf_fleet_save(p, ep);
	hf_fleet_publish(p, ep);
	hf_actions_linked(p, ep);
}

/* ---- messages of a live link ---------------------------------------------------------------- */

static void on_heartbeat(struct hf_link *l, const Opamp__AgentToServer *m)
{
	_cleanup_pb_ Session__Heartbeat *hb = NULL;
	_cleanup_pb_ Opamp__CustomMessage *cm = NULL;
	Session__HeartbeatAck ack;

	if (hf_opamp_custom_unpack(m->custom_message, &session__heartbeat__descriptor, &hb) < 0) {
		bad_request(l, "malformed heartbeat");
		return;
	}
	l->portal->counters.heartbeats++;
	if (l->ep) {
		bool changed = hf_link_take_presence(l->ep, hb->presence);

		l->ep->rtt_us = hb->rtt_us;
		if (changed)
			hf_fleet_publish(l->portal, l->ep);
	}
	fill_ack(l, &ack);
	ack.seq = hb->seq;
	cm = hf_opamp_custom_new(HF_CAP_SESSION, HF_MSG_HEARTBEAT_ACK, &ack.base);
	answer(l, m, cm, NULL);
}

/* A cause name that a goodbye may give; anything else is "stopped". */
static const char *goodbye_cause(const char *reason)
{
	enum hf_cause c = hf_cause_from_name(reason);

	return c == HF_CAUSE_UNKNOWN ? hf_cause_name(HF_CAUSE_AGENT_STOPPED) : hf_cause_name(c);
}

static void leave(struct hf_link *l, const char *cause)
{
	struct hf_endpoint *ep = l->ep;

	if (!ep || !hf_registry_goodbye(ep, l, cause, hf_now_monotonic_ns()))
		return;
	l->goodbye = true;
	l->ep = NULL;
	hf_contest_holder_gone(ep);
	l->portal->counters.links_goodbye++;
	hf_fleet_judge(l->portal, ep);
	hf_fleet_save(l->portal, ep);
	hf_fleet_publish(l->portal, ep);
	hf_actions_unlinked(l->portal, ep, true);
}

static void on_goodbye(struct hf_link *l, const Opamp__CustomMessage *cm)
{
	_cleanup_pb_ Session__Goodbye *bye = NULL;

	if (hf_opamp_custom_unpack(cm, &session__goodbye__descriptor, &bye) < 0) {
		bad_request(l, "malformed goodbye");
		return;
	}
	leave(l, goodbye_cause(bye->reason));
}

static void on_batch(struct hf_link *l, const Opamp__CustomMessage *cm)
{
	Session__TelemetryBatch *b = NULL;

	if (hf_opamp_custom_unpack(cm, &session__telemetry_batch__descriptor, &b) < 0) {
		bad_request(l, "malformed telemetry batch");
		return;
	}
	hf_telemetry_batch(l, b);
}

/* True: the message's custom part was answered by its own message, now or later. */
static bool on_custom(struct hf_link *l, const Opamp__AgentToServer *m)
{
	const Opamp__CustomMessage *cm = m->custom_message;

	if (!cm)
		return false;
	if (hf_opamp_custom_is(cm, HF_CAP_SESSION, HF_MSG_HEARTBEAT)) {
		on_heartbeat(l, m);
		return true;
	}
	if (hf_opamp_custom_is(cm, HF_CAP_SESSION, HF_MSG_GOODBYE)) {
		on_goodbye(l, cm);
		return true;
	}
	if (hf_opamp_custom_is(cm, HF_CAP_TELEMETRY, HF_MSG_BATCH)) {
		on_batch(l, cm);
		return true;
	}
	if (hf_opamp_custom_is(cm, HF_CAP_OUTAGE, HF_MSG_OUTAGE)) {
		hf_telemetry_outage(l, cm);
		return true;
	}
	if (hf_streq(cm->capability, HF_CAP_ACTION)) {
		if (hf_actions_message(l, cm) < 0)
			bad_request(l, "malformed action message");
		return true;
	}
	return false; /* a capability we do not have: ignored, as the specification asks */
}

static void on_live_message(struct hf_link *l, Opamp__AgentToServer *m)
{
	struct hf_endpoint *ep = l->ep;

	if (ep) {
		hf_registry_proof(ep, l, hf_now_monotonic_ns(), hf_now_realtime_ns());
		if (ep->verdict.status == HF_STATUS_STALE ||
		    ep->verdict.status == HF_STATUS_OFFLINE)
			hf_fleet_judge(l->portal, ep);
		if (hf_link_report(l, m))
			hf_fleet_publish(l->portal, ep);
		if (hf_link_describe(&ep->row, m, NULL)) {
			hf_fleet_save(l->portal, ep);
			hf_fleet_publish(l->portal, ep);
		}
	}
	if (on_custom(l, m)) {
		/* Its own answer has no flags; the next one has. */
		if (!hf_opamp_custom_is(m->custom_message, HF_CAP_SESSION, HF_MSG_HEARTBEAT))
			note_sequence(l, m);
		if (!m->agent_disconnect)
			return;
	}
	if (m->agent_disconnect) {
		leave(l, hf_cause_name(HF_CAUSE_AGENT_STOPPED));
		return; /* the specification wants no answer */
	}
	if (m->connection_settings_request && m->connection_settings_request->opamp &&
	    m->connection_settings_request->opamp->certificate_request)
		hf_enroll_renew(l,
				&m->connection_settings_request->opamp->certificate_request->csr);
	answer(l, m, NULL, NULL);
}

/* ---- the first message ---------------------------------------------------------------------- */

static void on_first_message(struct hf_link *l, Opamp__AgentToServer **m)
{
	_cleanup_pb_ Session__Hello *hello = NULL;
	struct hf_portal *p = l->portal;
	struct hf_endpoint *ep;

	/* Our session needs a connection: who polls is a plain agent. */
	if (!l->polling && hf_opamp_custom_is((*m)->custom_message, HF_CAP_SESSION, HF_MSG_HELLO)) {
		if (hf_opamp_custom_unpack((*m)->custom_message, &session__hello__descriptor,
					   &hello) < 0) {
			bad_request(l, "malformed hello");
			return;
		}
		l->has_hello = true;
	}
	l->capabilities = (*m)->capabilities;
	if (hello && hello->environment[0] &&
	    !hf_streq(hello->environment, p->config.environment)) {
		hf_link_refuse(
			l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
			HF_WS_CLOSE_POLICY, hf_cause_name(HF_CAUSE_ENVIRONMENT_MISMATCH));
		return;
	}
	if (l->credential == HF_CREDENTIAL_TOKEN) {
		l->state = HF_LINK_ENROLLING;
		hf_enroll_start(l, TAKE_PTR(*m), TAKE_PTR(hello));
		return;
	}
	ep = hf_registry_find(p->registry, l->credential_id);
	if (!ep || ep->row.authorization == HF_AUTH_REVOKED) {
		hf_link_refuse(
			l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
			HF_WS_CLOSE_POLICY, hf_cause_name(HF_CAUSE_REVOKED));
		return;
	}
	if (l->credential == HF_CREDENTIAL_EXPIRED) {
		l->state = HF_LINK_ENROLLING;
		hf_enroll_reissue(l, ep, TAKE_PTR(*m), TAKE_PTR(hello));
		return;
	}
	hf_link_go_live(l, ep, *m, hello, NULL);
	if (l->state == HF_LINK_LIVE && (*m)->connection_settings_request &&
	    (*m)->connection_settings_request->opamp &&
	    (*m)->connection_settings_request->opamp->certificate_request)
		hf_enroll_renew(
			l, &(*m)->connection_settings_request->opamp->certificate_request->csr);
}

static bool check_uid(struct hf_link *l, const Opamp__AgentToServer *m)
{
	if (m->instance_uid.len != HF_ID_SIZE) {
		bad_request(l, "instance_uid is not 16 bytes");
		return false;
	}
	if (l->uid_given && memcmp(l->new_uid, m->instance_uid.data, HF_ID_SIZE) == 0) {
		memcpy(l->uid, l->new_uid, HF_ID_SIZE);
		l->uid_given = false;
	}
	if (l->has_uid && memcmp(l->uid, m->instance_uid.data, HF_ID_SIZE) != 0) {
		bad_request(l, "instance_uid changed within a connection");
		return false;
	}
	memcpy(l->uid, m->instance_uid.data, HF_ID_SIZE);
	l->has_uid = true;
	l->flags = m->flags;
	return true;
}

void hf_link_take_message(struct hf_link *l, Opamp__AgentToServer **m)
{
	if (!check_uid(l, *m))
		return;
	switch (l->state) {
	case HF_LINK_NEW:
		on_first_message(l, m);
		break;
	case HF_LINK_LIVE:
		on_live_message(l, *m);
		break;
	case HF_LINK_ENROLLING: /* reading is paused; what was in flight is answered later */
	case HF_LINK_CONTESTING:
	case HF_LINK_CLOSING:
		break;
	}
}

void hf_link_on_message(void *userdata, bool binary, const uint8_t *data, size_t len)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, HF_LINK_MAGIC);
	_cleanup_pb_ Opamp__AgentToServer *m = NULL;

	if (l->state == HF_LINK_CLOSING)
		return;
	l->portal->counters.opamp_received++;
	if (!binary) {
		close_link(l, HF_WS_CLOSE_UNSUPPORTED, "text messages are not OpAMP");
		return;
	}
	if (hf_opamp_decode_to_server(data, len, &m) < 0) {
		bad_request(l, "malformed OpAMP message");
		return;
	}
	hf_link_take_message(l, &m);
}

void hf_link_on_pong(void *userdata)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, HF_LINK_MAGIC);

	if (l->ep)
		hf_contest_answered(l->ep);
	/* Our own agent proves itself by heartbeats; a plain one may have none to send. */
	if (l->ep && !l->has_hello) {
		hf_registry_proof(l->ep, l, hf_now_monotonic_ns(), hf_now_realtime_ns());
		if (l->ep->verdict.status != HF_STATUS_ONLINE)
			hf_fleet_judge(l->portal, l->ep);
	}
}
