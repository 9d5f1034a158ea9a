/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection settings that an administrator gives one endpoint: another heartbeat interval, another
 * address. Kept in the database until withdrawn, sent when the endpoint is there, and what it says of
 * them (tried, in use, failed) is kept beside them.
 *
 * I1 The presence rule never expects the new interval before the endpoint has it: until it says
 *    "applied", the longer of the two counts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/fleet.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/writer.h"
#include "tools/portal/ws_opamp.h"
#include "userspace/net/http.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"

#define HEARTBEAT_MIN_S 5u
#define HEARTBEAT_MAX_S 300u

/* ConnectionSettingsStatuses of the specification. */
enum { STATUS_UNSET, STATUS_APPLIED, STATUS_APPLYING, STATUS_FAILED };

static const char *const state_names[] = {
	[HF_OFFER_WAITING] = "waiting",   [HF_OFFER_SENT] = "sent",
	[HF_OFFER_APPLYING] = "applying", [HF_OFFER_APPLIED] = "applied",
	[HF_OFFER_FAILED] = "failed",
};

_Static_assert(HF_ARRAY_SIZE(state_names) == _HF_OFFER_MAX, "every state has a name");

struct hf_presence_policy hf_fleet_policy(const struct hf_portal *p, const struct hf_endpoint *ep)
{
	struct hf_presence_policy policy = p->policy;
	const struct hf_offer_row *o = ep->offer;

	if (o && o->heartbeat_s &&
	    (o->state == HF_OFFER_APPLIED || o->heartbeat_s > policy.heartbeat_s) &&
	    o->state != HF_OFFER_FAILED)
		policy.heartbeat_s = (uint32_t)o->heartbeat_s;
	return policy;
}

json_t *hf_offer_json(const struct hf_offer_row *o)
{
	json_t *heartbeat;

	if (!o)
		return json_null();
	heartbeat = o->heartbeat_s ? json_integer((json_int_t)o->heartbeat_s) : json_null();
	return json_pack("{s:o, s:o, s:s, s:o, s:o, s:o}", "heartbeat_s", heartbeat, "destination",
			 hf_json_string(o->destination), "state", state_names[o->state], "error",
			 hf_json_string(o->error), "offered", hf_json_time(o->offered_ns),
			 "changed", hf_json_time(o->changed_ns));
}

void hf_offer_hash(Opamp__ConnectionSettingsOffers *offers, uint8_t hash[static HF_HASH_SIZE])
{
	_cleanup_(hf_buf_done) struct hf_buf packed = {};

	offers->hash.len = 0;
	memset(hash, 0, HF_HASH_SIZE);
	if (hf_pb_pack(&offers->base, &packed) == 0)
		hf_hash_sha256(packed.data, packed.len, hash);
	offers->hash.data = hash;
	offers->hash.len = HF_HASH_SIZE;
}

/* ---- state ---------------------------------------------------------------------------------- */

static int run_save(struct hf_store *s, void *arg)
{
	return hf_store_offer_set(s, arg);
}

static void done_save(int r, void *arg)
{
	(void)r; /* memory holds it; after a restart it is sent and answered once more */
	free(arg);
}

static void enter(struct hf_portal *p, struct hf_endpoint *ep, enum hf_offer_state state,
		  const char *error)
{
	struct hf_offer_row *copy;

	ep->offer->state = state;
	ep->offer->changed_ns = hf_now_realtime_ns();
	ep->offer->error[0] = '\0';
	(void)hf_link_take(ep->offer->error, sizeof(ep->offer->error), error);
	if (state != HF_OFFER_SENT)
		hf_info("Endpoint '%s': connection settings: %s%s%s", ep->row.name,
			state_names[state], error[0] ? ": " : "", ep->offer->error);
	copy = malloc(sizeof(*copy));
	if (!copy)
		return;
	*copy = *ep->offer;
	if (hf_writer_submit(p->writer, run_save, done_save, copy, sizeof(*copy)) < 0)
		free(copy);
}

static void fill(Opamp__OpAMPConnectionSettings *settings, const struct hf_offer_row *o)
{
	settings->heartbeat_interval_seconds = o->heartbeat_s;
	settings->destination_endpoint = (char *)o->destination; /* only read while packing */
}

void hf_offer_send(struct hf_link *l)
{
	Opamp__ConnectionSettingsOffers offers = OPAMP__CONNECTION_SETTINGS_OFFERS__INIT;
	Opamp__OpAMPConnectionSettings settings = OPAMP__OP_AMPCONNECTION_SETTINGS__INIT;
	Opamp__ServerToAgent m = OPAMP__SERVER_TO_AGENT__INIT;
	struct hf_endpoint *ep = l->ep;

	if (!ep || !ep->offer || ep->offer->state == HF_OFFER_FAILED)
		return;
	fill(&settings, ep->offer);
	offers.opamp = &settings;
	hf_offer_hash(&offers, ep->offer_hash);
	if (ep->offer->state == HF_OFFER_APPLIED)
		return; /* it keeps them; the hash is for what it may still say */
	if (!(l->capabilities & HF_OPAMP_ACCEPTS_CONNECTION_SETTINGS)) {
		enter(l->portal, ep, HF_OFFER_FAILED, "the agent takes no connection settings");
		return;
	}
	m.connection_settings = &offers;
	hf_link_send(l, &m);
	enter(l->portal, ep, HF_OFFER_SENT, "");
}

bool hf_offer_answered(struct hf_portal *p, struct hf_endpoint *ep,
		       const Opamp__ConnectionSettingsStatus *status)
{
	enum hf_offer_state state;

	if (!ep->offer || status->last_connection_settings_hash.len != HF_HASH_SIZE ||
	    memcmp(status->last_connection_settings_hash.data, ep->offer_hash, HF_HASH_SIZE) != 0)
		return false; /* of an offer that was withdrawn or replaced */
	switch (status->status) {
	case STATUS_APPLIED:
		state = HF_OFFER_APPLIED;
		break;
	case STATUS_APPLYING:
		state = HF_OFFER_APPLYING;
		break;
	case STATUS_FAILED:
		state = HF_OFFER_FAILED;
		break;
	default:
		return false;
	}
	if (state == ep->offer->state)
		return false;
	enter(p, ep, state, status->error_message);
	if (ep->link)
		hf_link_set_silence(ep->link);
	hf_fleet_judge(p, ep);
	return true;
}

/* ---- API ------------------------------------------------------------------------------------ */

struct change {
	struct hf_portal *portal;
	struct hf_conn *conn;
	uint8_t id[HF_ID_SIZE];
	bool withdraw;
	struct hf_offer_row row;
	struct hf_audit_row audit;
};

static int run_change(struct hf_store *s, void *arg)
{
	const struct change *c = arg;
	int r = c->withdraw ? hf_store_offer_clear(s, c->id) : hf_store_offer_set(s, &c->row);

	return r < 0 ? r : hf_store_audit_insert(s, &c->audit);
}

/* The endpoint goes back to the portal's own interval; an address that it took is its own now. */
static void tell_withdrawn(struct hf_link *l)
{
	Opamp__ConnectionSettingsOffers offers = OPAMP__CONNECTION_SETTINGS_OFFERS__INIT;
	Opamp__OpAMPConnectionSettings settings = OPAMP__OP_AMPCONNECTION_SETTINGS__INIT;
	Opamp__ServerToAgent m = OPAMP__SERVER_TO_AGENT__INIT;
	uint8_t hash[HF_HASH_SIZE];

	if (!(l->capabilities & HF_OPAMP_ACCEPTS_CONNECTION_SETTINGS))
		return;
	settings.heartbeat_interval_seconds = l->portal->policy.heartbeat_s;
	offers.opamp = &settings;
	hf_offer_hash(&offers, hash);
	m.connection_settings = &offers;
	hf_link_send(l, &m);
}

static int apply(struct change *c, struct hf_endpoint *ep)
{
	if (c->withdraw) {
		free(ep->offer);
		ep->offer = NULL;
		if (ep->link)
			tell_withdrawn(ep->link);
		return 0;
	}
	if (!ep->offer)
		ep->offer = malloc(sizeof(*ep->offer));
	if (!ep->offer)
		return -ENOMEM;
	*ep->offer = c->row;
	if (ep->link) {
		hf_offer_send(ep->link);
		hf_link_set_silence(ep->link);
	}
	return 0;
}

static void done_change(int r, void *arg)
{
	struct change *c = arg;
	struct hf_endpoint *ep = hf_registry_find(c->portal->registry, c->id);

	if (r == 0 && !ep)
		r = -ENOENT;
	if (r == 0)
		r = apply(c, ep);
	if (r < 0) {
		hf_reply_error(c->conn, r, "change the connection settings");
	} else {
		hf_notice("%s: %s '%s' %s", c->audit.actor, c->audit.action, ep->row.name,
			  c->audit.detail);
		hf_fleet_judge(c->portal, ep);
		hf_fleet_publish(c->portal, ep);
		hf_reply_json(c->conn, 200, hf_endpoint_json(c->portal, ep));
	}
	(void)hf_conn_unref(c->conn);
	free(c);
}

static void submit(struct hf_portal *p, struct hf_request *rq, const struct change *as)
{
	struct change *c = malloc(sizeof(*c));
	int r;

	if (!c) {
		hf_reply_error(rq->conn, -ENOMEM, "change the connection settings");
		return;
	}
	*c = *as;
	c->portal = p;
	c->conn = hf_conn_ref(rq->conn);
	r = hf_writer_submit(p->writer, run_change, done_change, c, sizeof(*c));
	if (r < 0) {
		hf_reply_error(rq->conn, r, "change the connection settings");
		(void)hf_conn_unref(c->conn);
		free(c);
	}
}

/* NULL: fine. Else what is wrong. */
static const char *read_body(json_t *body, struct hf_offer_row *row)
{
	json_t *heartbeat = json_object_get(body, "heartbeat_s");
	json_t *destination = json_object_get(body, "destination");
	struct hf_url url;

	if (heartbeat && !json_is_null(heartbeat)) {
		json_int_t v = json_integer_value(heartbeat);

		if (!json_is_integer(heartbeat) || v < HEARTBEAT_MIN_S || v > HEARTBEAT_MAX_S)
			return "heartbeat_s must be 5 to 300";
		row->heartbeat_s = (uint64_t)v;
	}
	if (destination && !json_is_null(destination)) {
		const char *v = json_string_value(destination);

		if (!v || strlen(v) != json_string_length(destination) ||
		    strlen(v) >= HF_DESTINATION_MAX || !hf_startswith(v, "wss://") ||
		    hf_url_parse(v, &url) < 0 || url.userinfo[0])
			return "destination must be a wss:// URL of at most 255 bytes";
		(void)hf_strlcpy(row->destination, v, sizeof(row->destination));
	}
	return row->heartbeat_s || row->destination[0] ? NULL
						       : "heartbeat_s or destination must be given";
}

static struct hf_endpoint *find(struct hf_portal *p, struct hf_request *rq)
{
	uint8_t id[HF_ID_SIZE];
	struct hf_endpoint *ep = NULL;

	if (hf_uuid_parse(rq->id, id) == 0)
		ep = hf_registry_find(p->registry, id);
	if (!ep)
		hf_reply_problem(rq->conn, 404, "not_found", "there is no endpoint with this id");
	return ep;
}

void hf_api_connection_set(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_endpoint *ep = find(p, rq);
	json_t *body = ep ? hf_api_body(rq) : NULL;
	struct change c = {};
	const char *wrong;

	if (!body)
		return;
	wrong = read_body(body, &c.row);
	json_decref(body);
	if (wrong) {
		hf_reply_problem(rq->conn, 400, "invalid", "%s", wrong);
		return;
	}
	memcpy(c.id, ep->row.id, HF_ID_SIZE);
	memcpy(c.row.endpoint, ep->row.id, HF_ID_SIZE);
	c.row.offered_ns = c.row.changed_ns = hf_now_realtime_ns();
	hf_api_audit_row(rq, "endpoint.connection", rq->id, &c.audit);
	(void)hf_strf(c.audit.detail, sizeof(c.audit.detail), "heartbeat %llu s, destination '%s'",
		      (unsigned long long)c.row.heartbeat_s, c.row.destination);
	submit(p, rq, &c);
}

void hf_api_connection_clear(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_endpoint *ep = find(p, rq);
	struct change c = {.withdraw = true};

	if (!ep)
		return;
	memcpy(c.id, ep->row.id, HF_ID_SIZE);
	hf_api_audit_row(rq, "endpoint.connection", rq->id, &c.audit);
	(void)hf_strlcpy(c.audit.detail, "withdrawn", sizeof(c.audit.detail));
	submit(p, rq, &c);
}

/* ---- effective configuration ---------------------------------------------------------------- */

static int add_config(const struct hf_config_row *row, void *arg)
{
	/* A failed append leaves a shorter list: only under ENOMEM. */
	(void)json_array_append_new(
		arg, json_pack("{s:o, s:o, s:o, s:I, s:o}", "name", hf_json_string(row->name),
			       "content_type", hf_json_string(row->type), "changed",
			       hf_json_time(row->changed_ns), "masked", (json_int_t)row->masked,
			       "body", json_stringn(row->body ? row->body : "", row->len)));
	return 0;
}

void hf_api_endpoint_config(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_endpoint *ep = find(p, rq);
	json_t *items;
	int r;

	if (!ep)
		return;
	items = json_array();
	r = hf_store_config_get(p->store, ep->row.id, add_config, items);
	if (r < 0) {
		json_decref(items);
		hf_reply_error(rq->conn, r, "read the configuration");
		return;
	}
	hf_api_list(rq, items, NULL);
}
