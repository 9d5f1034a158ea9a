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

#include <openssl/sha.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "holdfast/session.h"
#include "tools/portal/auth.h"
#include "tools/portal/ca.h"
#include "tools/portal/conn.h"
#include "tools/portal/fleet.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/router.h"
#include "tools/portal/writer.h"
#include "userspace/proto/frame.h"

#define LINK_MAGIC           0x6c696e6bu
#define BACKOFF_WINDOW_MS    2000u /* first try after a loss that is our doing */
#define BACKOFF_CAP_MS       60000u
#define HEARTBEAT_TIMEOUT_S  10u
#define PROGRESS_MAX_ADDRESS 45u

/* Strangers may be refused as often as they like; the log is told so many times a minute. */
static void log_refusal(const char *peer, const char *reason)
{
	static struct hf_ratelimit limit = {.burst = 30, .interval_ns = 2 * HF_NS_PER_S};
	uint64_t missed;

	if (!hf_ratelimit_take(&limit, hf_now_monotonic_ns()))
		return;
	missed = hf_ratelimit_refused(&limit);
	if (missed)
		hf_info("%llu refusals were not logged", (unsigned long long)missed);
	hf_info("%s: refused: %s", peer, reason);
}

/* ---- life of a link ------------------------------------------------------------------------- */

static void link_free(struct hf_link *l)
{
	l->magic = 0;
	free(l);
}

void hf_link_ref_job(struct hf_link *l)
{
	l->jobs++;
}

void hf_link_unref_job(struct hf_link *l)
{
	if (--l->jobs == 0 && !l->conn)
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

static void on_ended(void *userdata, enum hf_conn_end how)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, LINK_MAGIC);
	struct hf_endpoint *ep = l->ep;

	l->state = HF_LINK_CLOSING;
	l->ep = NULL;
	l->conn = hf_conn_unref(l->conn);
	if (ep && hf_registry_unlink(ep, l, lost_reason(l, how), how != HF_CONN_END_TIMEOUT,
				     hf_now_monotonic_ns())) {
		l->portal->counters.links_lost++;
		hf_fleet_judge(l->portal, ep);
		hf_fleet_publish(l->portal, ep);
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
}

void hf_link_superseded(struct hf_link *l)
{
	l->ep = NULL; /* the registry gave its place away already */
	l->portal->counters.links_superseded++;
	close_link(l, HF_WS_CLOSE_SUPERSEDED, "superseded");
}

void hf_link_forget_endpoint(struct hf_link *l)
{
	l->ep = NULL;
	close_link(l, HF_WS_CLOSE_POLICY, hf_cause_name(HF_CAUSE_REVOKED));
}

void hf_link_cut(struct hf_link *l, bool reset)
{
	l->lost_reason = "portal_disconnected";
	if (!l->conn)
		return;
	if (reset)
		hf_conn_reset(l->conn);
	else
		close_link(l, HF_WS_CLOSE_RESTART, "portal_disconnected");
}

/* ---- sending -------------------------------------------------------------------------------- */

void hf_link_send(struct hf_link *l, Opamp__ServerToAgent *m)
{
	_cleanup_(hf_buf_done) struct hf_buf frame = {};
	int r;

	if (!l->conn || l->state == HF_LINK_CLOSING)
		return;
	m->instance_uid.data = l->uid;
	m->instance_uid.len = sizeof(l->uid);
	m->capabilities = HF_OPAMP_SERVER_CAPABILITIES;
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

	log_refusal(l->conn ? hf_conn_peer(l->conn) : "?", reason);
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

/* ---- what a message says of the agent ------------------------------------------------------- */

static bool take(char *dst, size_t size, const char *value)
{
	char clean[128];

	if (!value || !*value)
		return false;
	(void)hf_strlcpy(clean, value, size < sizeof(clean) ? size : sizeof(clean));
	/* A cut may have split a character. */
	while (*clean && !hf_utf8_valid(clean, strlen(clean)))
		clean[strlen(clean) - 1] = '\0';
	for (char *p = clean; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	}
	if (hf_streq(dst, clean))
		return false;
	(void)hf_strlcpy(dst, clean, size);
	return true;
}

static const char *attribute(const Opamp__AgentDescription *d, const char *key)
{
	const char *v = hf_opamp_kv_get(d->non_identifying_attributes,
					d->n_non_identifying_attributes, key);

	return v ? v : hf_opamp_kv_get(d->identifying_attributes, d->n_identifying_attributes, key);
}

static bool add_address(struct hf_endpoint_row *row, unsigned *n, const char *text, size_t len)
{
	char address[PROGRESS_MAX_ADDRESS + 1];
	bool changed;

	if (*n >= HF_ENDPOINT_ADDRESSES || len == 0 || len > PROGRESS_MAX_ADDRESS)
		return false;
	memcpy(address, text, len);
	address[len] = '\0';
	hf_sanitize(address);
	if (strchr(address, ','))
		return false;
	changed = !hf_streq(row->addresses[*n], address);
	(void)hf_strlcpy(row->addresses[(*n)++], address, sizeof(row->addresses[0]));
	return changed;
}

static bool describe_addresses(struct hf_endpoint_row *row, const Opamp__AgentDescription *d)
{
	bool changed = false, found = false;
	unsigned n = 0;

	for (size_t i = 0; i < d->n_non_identifying_attributes; i++) {
		const Opamp__KeyValue *kv = d->non_identifying_attributes[i];
		const Opamp__AnyValue *v = kv->value;

		if (!hf_streq(kv->key, "host.ip") || !v)
			continue;
		found = true;
		if (v->value_case == OPAMP__ANY_VALUE__VALUE_ARRAY_VALUE) {
			for (size_t j = 0; j < v->array_value->n_values; j++) {
				const Opamp__AnyValue *e = v->array_value->values[j];

				if (e->value_case == OPAMP__ANY_VALUE__VALUE_STRING_VALUE)
					changed |= add_address(row, &n, e->string_value,
							       strlen(e->string_value));
			}
		} else if (v->value_case == OPAMP__ANY_VALUE__VALUE_STRING_VALUE) {
			for (const char *p = v->string_value; *p;) {
				size_t len = strcspn(p, ", ");

				changed |= add_address(row, &n, p, len);
				p += len + (p[len] != '\0');
			}
		}
	}
	if (found && n < HF_ENDPOINT_ADDRESSES && row->addresses[n][0]) {
		row->addresses[n][0] = '\0';
		changed = true;
	}
	return changed;
}

static bool describe_distro(struct hf_endpoint_row *row, const Opamp__AgentDescription *d)
{
	const char *text = attribute(d, "os.description");
	const char *name = attribute(d, "os.name"), *version = attribute(d, "os.version");
	char both[64];

	if (!text && name) {
		(void)hf_strf(both, sizeof(both), "%s%s%s", name, version ? " " : "",
			      version ? version : "");
		text = both;
	}
	return take(row->distro, sizeof(row->distro), text);
}

bool hf_link_describe(struct hf_endpoint_row *row, const Opamp__AgentToServer *m,
		      const Session__Hello *hello)
{
	const Opamp__AgentDescription *d = m ? m->agent_description : NULL;
	bool changed = false;

	if (d) {
		const char *kernel = attribute(d, "os.kernel.release");

		changed |=
			take(row->version, sizeof(row->version), attribute(d, "service.version"));
		changed |= take(row->os, sizeof(row->os), attribute(d, "os.type"));
		changed |= take(row->arch, sizeof(row->arch), attribute(d, "host.arch"));
		changed |= describe_distro(row, d);
		changed |= take(row->kernel, sizeof(row->kernel),
				kernel ? kernel : attribute(d, "holdfast.kernel"));
		changed |= take(row->hostname, sizeof(row->hostname), attribute(d, "host.name"));
		changed |= take(row->environment, sizeof(row->environment),
				attribute(d, "deployment.environment.name"));
		changed |= take(row->kernel_assist, sizeof(row->kernel_assist),
				attribute(d, "holdfast.kernel_assist"));
		changed |= describe_addresses(row, d);
	}
	if (hello) {
		changed |= take(row->version, sizeof(row->version), hello->version);
		changed |= take(row->hostname, sizeof(row->hostname), hello->hostname);
		changed |= take(row->environment, sizeof(row->environment), hello->environment);
		changed |=
			take(row->kernel_assist, sizeof(row->kernel_assist), hello->kernel_assist);
	}
	return changed;
}

static bool take_presence(struct hf_endpoint *ep, const Session__Presence *presence)
{
	bool changed;

	if (!presence)
		return false;
	changed =
		take(ep->row.kernel_assist, sizeof(ep->row.kernel_assist), presence->kernel_assist);
	ep->lost_events = presence->lost_events;
	if (presence->n_components > 0 && !ep->components)
		ep->components = calloc(HF_COMPONENTS_MAX, sizeof(*ep->components));
	if (!ep->components)
		return changed;
	for (size_t i = 0; i < presence->n_components && i < HF_COMPONENTS_MAX; i++) {
		const Session__ComponentState *from = presence->components[i];
		struct hf_component_info *to = &ep->components[i];

		changed |= take(to->name, sizeof(to->name), from->name);
		changed |= take(to->version, sizeof(to->version), from->version);
		changed |= take(to->state, sizeof(to->state), from->state);
		changed |= to->restarts != from->restarts;
		to->restarts = from->restarts;
		if (ep->n_components < i + 1)
			ep->n_components = (unsigned)(i + 1);
	}
	return changed;
}

/* ---- going live ----------------------------------------------------------------------------- */

static int clock_offset_ms(const Session__Hello *hello)
{
	int64_t diff = (int64_t)(hello->sent_unix_ns - hf_now_realtime_ns());
	int64_t ms = diff / (int64_t)HF_NS_PER_MS;

	return ms > INT32_MAX ? INT32_MAX : ms < -INT32_MAX ? -INT32_MAX : (int)ms;
}

static bool register_link(struct hf_link *l, struct hf_endpoint *ep, const Session__Hello *hello)
{
	struct hf_link *old = NULL;
	struct hf_link_claim claim = {.link = l};
	struct hf_counters *n = &l->portal->counters;

	if (hello) {
		claim.epoch = hello->epoch;
		if (hello->machine_id_hash.len == HF_HASH_SIZE)
			claim.machine_id_hash = hello->machine_id_hash.data;
		if (hello->boot_id.len == HF_ID_SIZE)
			claim.boot_id = hello->boot_id.data;
	}
	switch (hf_registry_link(ep, &claim, &l->portal->policy, hf_now_monotonic_ns(), &old)) {
	case HF_LINK_OK:
		n->links_made++;
		if (old)
			hf_link_superseded(old);
		return true;
	case HF_LINK_STALE:
		n->links_stale++;
		close_link(l, HF_WS_CLOSE_SUPERSEDED, "superseded");
		return false;
	case HF_LINK_CLONE:
		n->links_clone++;
		hf_warn("Endpoint '%s': another machine uses its identity from %s", ep->row.name,
			hf_conn_peer(l->conn));
		hf_link_refuse(
			l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
			HF_WS_CLOSE_POLICY, hf_cause_name(HF_CAUSE_CLONE_DETECTED));
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

static void fill_acks(struct hf_link *l, const Session__Hello *hello, Session__StreamAck *acks,
		      Session__StreamAck **pointers, Session__Welcome *w)
{
	for (size_t i = 0; i < hello->n_streams && i < HF_LINK_STREAMS_MAX; i++) {
		const Session__Stream *s = hello->streams[i];
		uint64_t acked = 0;

		/* A failed read says 0: the agent then sends again what is known already. */
		(void)hf_store_stream_get(l->portal->store, l->ep->row.id, s->epoch, &acked);
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

static Opamp__CustomMessage *make_welcome(struct hf_link *l, const Session__Hello *hello)
{
	Session__StreamAck acks[HF_LINK_STREAMS_MAX], *pointers[HF_LINK_STREAMS_MAX];
	Session__Welcome w = SESSION__WELCOME__INIT;
	struct hf_portal *p = l->portal;
	char id[HF_UUID_TEXT_SIZE];

	hf_uuid_format(l->ep->row.id, id);
	l->n_streams = 0;
	fill_acks(l, hello, acks, pointers, &w);
	w.epoch = l->ep->epoch;
	w.authorization = (char *)hf_authorization_name(l->ep->row.authorization);
	w.server_unix_ns = hf_now_realtime_ns();
	w.heartbeat_s = p->policy.heartbeat_s;
	w.heartbeat_timeout_s = HEARTBEAT_TIMEOUT_S;
	w.backoff_window_ms = BACKOFF_WINDOW_MS;
	w.backoff_cap_ms = BACKOFF_CAP_MS;
	w.endpoint_id = id;
	w.environment = p->config.environment;
	w.portal_version = (char *)HF_VERSION; /* only read while packing */
	return hf_opamp_custom_new(HF_CAP_SESSION, HF_MSG_WELCOME, &w.base);
}

/* An OpAMP agent without our session takes its heartbeat interval by a settings offer. */
static void offer_heartbeat(struct hf_link *l, Opamp__ConnectionSettingsOffers *offers)
{
	offers->opamp->heartbeat_interval_seconds = l->portal->policy.heartbeat_s;
	l->offered_heartbeat = true;
}

static bool wants_heartbeat_offer(const struct hf_link *l)
{
	return !l->has_hello && !l->offered_heartbeat &&
	       (l->capabilities & HF_OPAMP_ACCEPTS_CONNECTION_SETTINGS) &&
	       (l->capabilities & HF_OPAMP_REPORTS_HEARTBEAT);
}

static void hash_offers(Opamp__ConnectionSettingsOffers *offers, uint8_t hash[static HF_HASH_SIZE])
{
	_cleanup_(hf_buf_done) struct hf_buf packed = {};

	offers->hash.len = 0;
	memset(hash, 0, HF_HASH_SIZE);
	if (hf_pb_pack(&offers->base, &packed) == 0)
		(void)SHA256(packed.data, packed.len, hash);
	offers->hash.data = hash;
	offers->hash.len = HF_HASH_SIZE;
}

static bool sequence_gap(struct hf_endpoint *ep, const Opamp__AgentToServer *m)
{
	bool gap = !ep->sequence_known ||
		   (m->sequence_num != ep->sequence + 1 && m->sequence_num != ep->sequence);

	ep->sequence_known = true;
	ep->sequence = m->sequence_num;
	return gap;
}

static void answer(struct hf_link *l, const Opamp__AgentToServer *m, Opamp__CustomMessage *cm,
		   Opamp__ConnectionSettingsOffers *offers)
{
	static char session[] = HF_CAP_SESSION, telemetry[] = HF_CAP_TELEMETRY,
		    outage[] = HF_CAP_OUTAGE;
	char *names[] = {session, telemetry, outage};
	Opamp__CustomCapabilities capabilities = OPAMP__CUSTOM_CAPABILITIES__INIT;
	Opamp__ConnectionSettingsOffers own = OPAMP__CONNECTION_SETTINGS_OFFERS__INIT;
	Opamp__OpAMPConnectionSettings settings = OPAMP__OP_AMPCONNECTION_SETTINGS__INIT;
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
		hash_offers(offers, hash);
	}
	reply.connection_settings = offers;
	reply.custom_message = cm;
	if (m->custom_capabilities || l->has_hello)
		reply.custom_capabilities = &capabilities;
	if (l->ep && sequence_gap(l->ep, m) && !m->agent_description)
		reply.flags = HF_OPAMP_REPORT_FULL_STATE;
	hf_link_send(l, &reply);
}

void hf_link_go_live(struct hf_link *l, struct hf_endpoint *ep, Opamp__AgentToServer *m,
		     Session__Hello *hello, Opamp__ConnectionSettingsOffers *offers)
{
	_cleanup_pb_ Opamp__CustomMessage *welcome = NULL;
	struct hf_portal *p = l->portal;

	if (l->state == HF_LINK_CLOSING || !register_link(l, ep, hello))
		return;
	l->state = HF_LINK_LIVE;
	l->ep = ep;
	l->epoch = ep->epoch;
	if (memcmp(ep->row.instance_uid, l->uid, HF_ID_SIZE) != 0) {
		memcpy(ep->row.instance_uid, l->uid, HF_ID_SIZE);
		ep->sequence_known = false;
	}
	(void)hf_link_describe(&ep->row, m, hello);
	if (hello)
		ep->row.clock_offset_ms = clock_offset_ms(hello);
	if (l->cert_expires_ns)
		ep->row.cert_expires_ns = l->cert_expires_ns;
	ep->row.last_seen_ns = hf_now_realtime_ns();
	(void)hf_strlcpy(ep->remote, hf_conn_peer(l->conn), sizeof(ep->remote));
	(void)hf_strlcpy(ep->tls_version, hf_conn_tls_version(l->conn), sizeof(ep->tls_version));
	mark_credential_seen(l, ep);
	if (hello)
		welcome = make_welcome(l, hello);
	answer(l, m, welcome, offers);
	hf_fleet_judge(p, ep);
	hf_fleet_save(p, ep);
	hf_fleet_publish(p, ep);
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
		bool changed = take_presence(l->ep, hb->presence);

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
	l->portal->counters.links_goodbye++;
	hf_fleet_judge(l->portal, ep);
	hf_fleet_save(l->portal, ep);
	hf_fleet_publish(l->portal, ep);
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
		if (hf_link_describe(&ep->row, m, NULL)) {
			hf_fleet_save(l->portal, ep);
			hf_fleet_publish(l->portal, ep);
		}
	}
	if (on_custom(l, m)) {
		if (!hf_opamp_custom_is(m->custom_message, HF_CAP_SESSION, HF_MSG_HEARTBEAT) &&
		    l->ep)
			(void)sequence_gap(l->ep, m); /* its own answer has no flags */
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

	if (hf_opamp_custom_is((*m)->custom_message, HF_CAP_SESSION, HF_MSG_HELLO)) {
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
	if (l->has_uid && memcmp(l->uid, m->instance_uid.data, HF_ID_SIZE) != 0) {
		bad_request(l, "instance_uid changed within a connection");
		return false;
	}
	memcpy(l->uid, m->instance_uid.data, HF_ID_SIZE);
	l->has_uid = true;
	return true;
}

static void on_message(void *userdata, bool binary, const uint8_t *data, size_t len)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, LINK_MAGIC);
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
	if (!check_uid(l, m))
		return;
	switch (l->state) {
	case HF_LINK_NEW:
		on_first_message(l, &m);
		break;
	case HF_LINK_LIVE:
		on_live_message(l, m);
		break;
	case HF_LINK_ENROLLING: /* reading is paused; what was in flight is answered later */
	case HF_LINK_CLOSING:
		break;
	}
}

static void on_pong(void *userdata)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, LINK_MAGIC);

	/* Our own agent proves itself by heartbeats; a plain one may have none to send. */
	if (l->ep && !l->has_hello) {
		hf_registry_proof(l->ep, l, hf_now_monotonic_ns(), hf_now_realtime_ns());
		if (l->ep->verdict.status != HF_STATUS_ONLINE)
			hf_fleet_judge(l->portal, l->ep);
	}
}

/* ---- admission ------------------------------------------------------------------------------ */

struct refusal {
	unsigned status;
	enum hf_cause cause;
	unsigned retry_after_s; /* 0: waiting does not help */
	const char *detail;
};

static void refuse(struct hf_conn *c, const struct refusal *why)
{
	char headers[128];
	size_t len;

	(void)hf_strf(headers, sizeof(headers), "%s: %s\r\n", HF_HEADER_CAUSE,
		      hf_cause_name(why->cause));
	len = strlen(headers);
	if (why->retry_after_s)
		(void)hf_strf(headers + len, sizeof(headers) - len, "Retry-After: %u\r\n",
			      why->retry_after_s);
	hf_conn_portal(c)->counters.enroll_refused++;
	log_refusal(hf_conn_peer(c), hf_cause_name(why->cause));
	hf_reply_problem_with(c, why->status, hf_cause_name(why->cause), headers, "%s",
			      why->detail ? why->detail : hf_cause_text(why->cause));
}

static bool known_endpoint(struct hf_portal *p, const uint8_t *id, struct refusal *why)
{
	struct hf_endpoint *ep = hf_registry_find(p->registry, id);

	if (ep && ep->row.authorization != HF_AUTH_REVOKED)
		return true;
	*why = (struct refusal){403, HF_CAUSE_REVOKED, 0,
				ep ? "the endpoint was revoked" : "the endpoint was deleted"};
	return false;
}

static enum hf_cause certificate_cause(enum hf_tls_failure f)
{
	switch (f) {
	case HF_TLS_CERT_EXPIRED:
		return HF_CAUSE_CERT_EXPIRED;
	case HF_TLS_CERT_NOT_YET_VALID:
		return HF_CAUSE_CERT_NOT_YET_VALID;
	case HF_TLS_CERT_REVOKED:
		return HF_CAUSE_CERT_REVOKED;
	case HF_TLS_WEAK_CRYPTO:
		return HF_CAUSE_WEAK_CRYPTO;
	default:
		return HF_CAUSE_CERT_UNTRUSTED;
	}
}

/* 1 admitted, 0 no certificate, -EACCES with why. */
static int admit_certificate(struct hf_portal *p, struct hf_conn *c, struct hf_link *l,
			     struct refusal *why)
{
	enum hf_tls_failure failure;
	const uint8_t *der;
	size_t len;
	int r = hf_conn_peer_cert(c, &der, &len, &failure);

	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		*why = (struct refusal){403, certificate_cause(failure), 0, NULL};
		return -EACCES;
	}
	r = hf_ca_identify(der, len, l->credential_id, &l->cert_expires_ns);
	if (r < 0) {
		*why = (struct refusal){403, HF_CAUSE_CERT_UNTRUSTED, 0, NULL};
		return -EACCES;
	}
	if (!known_endpoint(p, l->credential_id, why))
		return -EACCES;
	l->credential = HF_CREDENTIAL_CERTIFICATE;
	return 1;
}

static int admit_header(struct hf_portal *p, struct hf_link *l, struct refusal *why)
{
	struct hf_endpoint *ep;

	(void)hf_hex_decode(l->credential_id, HF_ID_SIZE, l->secret.id); /* checked by the parser */
	ep = hf_registry_find(p->registry, l->credential_id);
	if (!ep || !ep->row.has_bearer ||
	    !hf_equal_secret(ep->row.bearer_hash, l->secret.hash, HF_HASH_SIZE)) {
		*why = (struct refusal){401, HF_CAUSE_NOT_AUTHORIZED, 0,
					"this header is of no endpoint"};
		return -EACCES;
	}
	if (!known_endpoint(p, l->credential_id, why))
		return -EACCES;
	l->credential = HF_CREDENTIAL_HEADER;
	return 1;
}

/*
 * A token that ended is let in once more while somebody enrolled with it has not shown a credential
 * of their own: an answer may have got lost, or an OpAMP agent has nothing but the token. The first
 * message then decides.
 */
static int admit_token(struct hf_portal *p, struct hf_link *l, struct refusal *why)
{
	struct hf_token_row row;
	enum hf_token_verdict v;
	bool unproven = false;
	int r = hf_store_token_get(p->store, l->secret.id, &row);

	if (r < 0 && r != -ENOENT) {
		*why = (struct refusal){503, HF_CAUSE_PORTAL_OVERLOAD, 5, "the database is busy"};
		return -EACCES;
	}
	v = hf_token_judge(r == 0 ? &row : NULL, &l->secret, hf_now_realtime_ns());
	if (v != HF_TOKEN_OK && v != HF_TOKEN_UNKNOWN)
		(void)hf_store_token_has_unproven(p->store, row.id, &unproven);
	if (v != HF_TOKEN_OK && !unproven) {
		*why = (struct refusal){v == HF_TOKEN_UNKNOWN ? 401 : 403, hf_token_cause(v), 0,
					NULL};
		return -EACCES;
	}
	l->credential = HF_CREDENTIAL_TOKEN;
	(void)hf_strlcpy(l->token_id, l->secret.id, sizeof(l->token_id));
	return 1;
}

static int admit_bearer(struct hf_portal *p, struct hf_link *l, const char *authorization,
			struct refusal *why)
{
	if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0) {
		*why = (struct refusal){401, HF_CAUSE_NOT_AUTHORIZED, 0,
					"neither a client certificate nor a token was presented"};
		return -EACCES;
	}
	if (hf_secret_parse(authorization + 7, &l->secret) < 0) {
		*why = (struct refusal){401, HF_CAUSE_TOKEN_UNKNOWN, 0, NULL};
		return -EACCES;
	}
	switch (l->secret.kind) {
	case HF_SECRET_ENROLL:
		return admit_token(p, l, why);
	case HF_SECRET_AGENT:
		return admit_header(p, l, why);
	case HF_SECRET_API:
	case _HF_SECRET_KIND_MAX:
		break;
	}
	*why = (struct refusal){401, HF_CAUSE_TOKEN_UNKNOWN, 0,
				"an API token does not admit an endpoint"};
	return -EACCES;
}

static bool admit(struct hf_portal *p, struct hf_request *rq, struct hf_link *l,
		  struct refusal *why)
{
	const char *authorization = hf_http_header(rq->msg, "Authorization");
	uint64_t now_ns = hf_now_monotonic_ns();
	int r = admit_certificate(p, rq->conn, l, why);

	if (r > 0)
		return true;
	if (r < 0 && !authorization)
		return false;
	if (!hf_auth_may_try(p->auth, hf_conn_address(rq->conn), now_ns)) {
		p->counters.rate_limited++;
		*why = (struct refusal){429, HF_CAUSE_PORTAL_OVERLOAD, 30,
					"too many failed tries from this address"};
		return false;
	}
	r = admit_bearer(p, l, authorization, why);
	if (r > 0)
		return true;
	/* Only guesses count: a token that ended proves that its holder once had it. */
	if (authorization &&
	    (why->cause == HF_CAUSE_TOKEN_UNKNOWN || why->cause == HF_CAUSE_NOT_AUTHORIZED))
		hf_auth_failed(p->auth, hf_conn_address(rq->conn), now_ns);
	return false;
}

static bool upgradable(struct hf_request *rq)
{
	const char *version = hf_http_header(rq->msg, "Sec-WebSocket-Version");
	const char *key = hf_http_header(rq->msg, "Sec-WebSocket-Key");

	if (!rq->msg->upgrade_websocket || rq->msg->minor == 0) {
		hf_reply_problem_with(rq->conn, 426, "upgrade_required", "Upgrade: websocket\r\n",
				      "this path speaks OpAMP over WebSocket");
		return false;
	}
	if (!version || !hf_streq(version, "13")) {
		hf_reply_problem_with(rq->conn, 426, "websocket_version",
				      "Sec-WebSocket-Version: 13\r\n",
				      "only WebSocket version 13 is spoken");
		return false;
	}
	if (!key || !hf_ws_key_valid(key)) {
		hf_reply_problem(rq->conn, 400, "websocket_key",
				 "Sec-WebSocket-Key is missing or malformed");
		return false;
	}
	return true;
}

void hf_opamp_upgrade(struct hf_portal *p, struct hf_request *rq)
{
	const uint64_t heartbeat_ns = p->policy.heartbeat_s * HF_NS_PER_S;
	struct hf_conn_websocket ws = {
		.message = on_message,
		.pong = on_pong,
		.ended = on_ended,
		/* After the agent's own heartbeat is late; then as long again until it is dead. */
		.ping_after_ns = heartbeat_ns + heartbeat_ns / 4,
		.dead_after_ns = 2 * hf_presence_proof_window_ns(&p->policy),
	};
	struct hf_link *l;
	struct refusal why = {};
	int r;

	if (!upgradable(rq))
		return;
	if (p->stopping) {
		refuse(rq->conn, &(struct refusal){503, HF_CAUSE_PORTAL_RESTART, 2, NULL});
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		hf_reply_error(rq->conn, -ENOMEM, "open a channel");
		return;
	}
	l->magic = LINK_MAGIC;
	l->portal = p;
	if (!admit(p, rq, l, &why)) {
		refuse(rq->conn, &why);
		free(l);
		return;
	}
	ws.userdata = l;
	r = hf_conn_upgrade(rq->conn, rq->msg, NULL, &ws);
	if (r < 0) {
		free(l);
		hf_reply_error(rq->conn, r, "open a channel");
		return;
	}
	l->conn = hf_conn_ref(rq->conn);
}
