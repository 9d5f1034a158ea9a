/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I1 Transitions are due-time driven: one timer per endpoint, armed for the moment its status
 *    changes by itself; the sweep (TUNNEL_STATUS_CHECK_INTERVAL) only reconciles.
 * I2 After a restart nobody is online: who was, is reconnecting with the portal as the reason, and
 *    has the whole offline limit from our start on, since our own downtime proves nothing.
 */
#include "tools/portal/fleet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "tools/portal/action.h"
#include "tools/portal/hub.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/server.h"
#include "tools/portal/writer.h"
#include "tools/portal/ws_opamp.h"
#include "userspace/proto/event_json.h"

#define DUE_ACCURACY_US   10000 /* 10 ms; transitions may be a second late */
#define SWEEP_ACCURACY_US 100000

struct hf_fleet {
	struct hf_portal *portal;
	sd_event_source *sweep;
};

/* ---- writing -------------------------------------------------------------------------------- */

struct transition {
	uint8_t id[HF_ID_SIZE];
	uint64_t at_ns;
	char status[24], reason[HF_REASON_SIZE];
};

static int run_transition(struct hf_store *s, void *arg)
{
	const struct transition *t = arg;

	return hf_store_transition(s, t->id, t->at_ns, t->status, t->reason);
}

static void free_done(int r, void *arg)
{
	(void)r; /* the writer counted and logged it; memory holds the truth meanwhile */
	free(arg);
}

static void write_transition(struct hf_portal *p, const struct hf_endpoint *ep)
{
	struct transition *t = calloc(1, sizeof(*t));

	if (!t)
		return;
	memcpy(t->id, ep->row.id, HF_ID_SIZE);
	t->at_ns = ep->row.status_since_ns;
	(void)hf_strlcpy(t->status, ep->row.status, sizeof(t->status));
	(void)hf_strlcpy(t->reason, ep->row.reason, sizeof(t->reason));
	if (hf_writer_submit_later(p->writer, run_transition, free_done, t, sizeof(*t)) < 0)
		free(t);
}

static int run_save(struct hf_store *s, void *arg)
{
	return hf_store_endpoint_update(s, arg);
}

void hf_fleet_save(struct hf_portal *p, struct hf_endpoint *ep)
{
	struct hf_endpoint_row *row = malloc(sizeof(*row));

	if (!row)
		return;
	*row = ep->row;
	ep->seen_saved_ns = row->last_seen_ns;
	if (hf_writer_submit_later(p->writer, run_save, free_done, row, sizeof(*row)) < 0)
		free(row);
}

struct seen_batch {
	size_t n;
	struct {
		uint8_t id[HF_ID_SIZE];
		uint64_t seen_ns;
	} items[512];
};

static int run_seen(struct hf_store *s, void *arg)
{
	const struct seen_batch *b = arg;
	int r = 0;

	for (size_t i = 0; i < b->n && r == 0; i++)
		r = hf_store_endpoint_seen(s, b->items[i].id, b->items[i].seen_ns);
	return r;
}

static void submit_seen(struct hf_portal *p, struct seen_batch *b)
{
	if (b && hf_writer_submit_later(p->writer, run_seen, free_done, b, sizeof(*b)) < 0)
		free(b);
}

void hf_fleet_flush_seen(struct hf_portal *p)
{
	struct seen_batch *b = NULL;

	for (size_t i = 0; i < hf_registry_count(p->registry); i++) {
		struct hf_endpoint *ep = hf_registry_at(p->registry, i);

		if (ep->row.last_seen_ns == ep->seen_saved_ns)
			continue;
		if (!b)
			b = calloc(1, sizeof(*b));
		if (!b)
			return;
		memcpy(b->items[b->n].id, ep->row.id, HF_ID_SIZE);
		b->items[b->n++].seen_ns = ep->row.last_seen_ns;
		ep->seen_saved_ns = ep->row.last_seen_ns;
		if (b->n == HF_ARRAY_SIZE(b->items)) {
			submit_seen(p, b);
			b = NULL;
		}
	}
	submit_seen(p, b);
}

/* ---- judging -------------------------------------------------------------------------------- */

static int on_due(sd_event_source *source, uint64_t usec, void *userdata);

struct due {
	struct hf_portal *portal;
	struct hf_endpoint *ep;
};

static void due_free(void *userdata)
{
	free(userdata);
}

static int make_due(struct hf_portal *p, struct hf_endpoint *ep)
{
	struct due *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	*d = (struct due){.portal = p, .ep = ep};
	r = sd_event_add_time(p->event, &ep->due, CLOCK_MONOTONIC, 0, DUE_ACCURACY_US, on_due, d);
	if (r < 0) {
		free(d);
		return r;
	}
	(void)sd_event_source_set_destroy_callback(ep->due, due_free); /* cannot fail on a source */
	(void)sd_event_source_set_description(ep->due, "endpoint-due");
	return 0;
}

static void arm(struct hf_portal *p, struct hf_endpoint *ep)
{
	if (ep->verdict.due_ns == UINT64_MAX) {
		if (ep->due)
			(void)sd_event_source_set_enabled(ep->due, SD_EVENT_OFF);
		return;
	}
	if (!ep->due && make_due(p, ep) < 0)
		return; /* the sweep will find it */
	(void)sd_event_source_set_time(ep->due, ep->verdict.due_ns / HF_NS_PER_US + 1);
	(void)sd_event_source_set_enabled(ep->due, SD_EVENT_ONESHOT);
}

static int on_due(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct due *d = userdata;

	(void)source;
	(void)usec;
	hf_fleet_judge(d->portal, d->ep);
	return 0;
}

void hf_fleet_publish(struct hf_portal *p, struct hf_endpoint *ep)
{
	if (!hf_hub_idle(p->hub))
		hf_hub_publish(p->hub, "endpoint", hf_endpoint_json(p, ep));
}

void hf_fleet_judge(struct hf_portal *p, struct hf_endpoint *ep)
{
	const char *before = ep->row.status;
	struct hf_presence_policy policy = hf_fleet_policy(p, ep);
	struct hf_verdict v;

	hf_presence_judge(&ep->presence, &policy, hf_now_monotonic_ns(), &v);
	ep->verdict = v;
	arm(p, ep);
	if (hf_streq(before, hf_status_name(v.status)) && hf_streq(ep->row.reason, v.reason))
		return;
	hf_info("Endpoint '%s': %s → %s (%s)", ep->row.name, before[0] ? before : "new",
		hf_status_name(v.status), v.reason);
	p->counters.transitions[v.status]++;
	(void)hf_strlcpy(ep->row.status, hf_status_name(v.status), sizeof(ep->row.status));
	(void)hf_strlcpy(ep->row.reason, v.reason, sizeof(ep->row.reason));
	ep->row.status_since_ns = hf_now_realtime_ns();
	write_transition(p, ep);
	hf_fleet_publish(p, ep);
}

void hf_fleet_apply_authorization(struct hf_portal *p, struct hf_endpoint *ep,
				  enum hf_authorization a, const char *actor, uint64_t at_ns)
{
	ep->row.authorization = a;
	ep->row.authorization_changed_ns = at_ns;
	(void)hf_strlcpy(ep->row.authorization_by, actor, sizeof(ep->row.authorization_by));
	ep->presence.authorization = a;
	hf_fleet_judge(p, ep);
	hf_fleet_publish(p, ep);
	if (ep->link)
		hf_link_authorization_changed(ep->link);
	hf_actions_linked(p, ep);
}

/* ---- life ----------------------------------------------------------------------------------- */

int hf_fleet_add(struct hf_portal *p, const struct hf_endpoint_row *row, struct hf_endpoint **ret)
{
	int r = hf_registry_add(p->registry, row, ret);

	if (r == 0)
		hf_fleet_judge(p, *ret);
	return r;
}

void hf_fleet_remove(struct hf_portal *p, struct hf_endpoint *ep)
{
	struct hf_link *link = ep->link;

	if (link) {
		(void)hf_registry_unlink(ep, link, "revoked", true, hf_now_monotonic_ns());
		hf_link_forget_endpoint(link);
	}
	if (ep->contender) {
		link = ep->contender;
		hf_contest_abandon(link);
		hf_link_forget_endpoint(link);
	}
	hf_actions_forget(p, ep);
	ep->due = sd_event_source_disable_unref(ep->due);
	hf_registry_remove(p->registry, ep);
}

/* Unix time of the past as this process's monotonic time, which may be before its start. */
static uint64_t monotonic_of(uint64_t unix_ns, uint64_t now_unix_ns, uint64_t now_ns)
{
	uint64_t ago = now_unix_ns > unix_ns ? now_unix_ns - unix_ns : 0;

	return ago < now_ns ? now_ns - ago : 1;
}

static int load_one(const struct hf_endpoint_row *row, void *arg)
{
	struct hf_portal *p = arg;
	struct hf_presence *presence;
	struct hf_endpoint *ep;
	uint64_t now_ns = hf_now_monotonic_ns();
	int status = hf_status_from_name(row->status);
	int r;

	r = hf_registry_add(p->registry, row, &ep);
	if (r < 0)
		return r;
	presence = &ep->presence;
	presence->last_update_ns = now_ns;
	switch (status) {
	case HF_STATUS_OFFLINE:
	case HF_STATUS_MISSING:
	case HF_STATUS_POWERED_OFF:
		presence->offline_ns =
			monotonic_of(row->status_since_ns, hf_now_realtime_ns(), now_ns);
		(void)hf_strlcpy(presence->lost, row->reason, sizeof(presence->lost));
		if (status == HF_STATUS_POWERED_OFF)
			(void)hf_strlcpy(presence->goodbye, row->reason, sizeof(presence->goodbye));
		break;
	default:
		(void)hf_strlcpy(presence->lost, "portal_restarted", sizeof(presence->lost));
		break;
	}
	return 0;
}

static int load_outage(const struct hf_outage_row *row, void *arg)
{
	struct hf_portal *p = arg;
	struct hf_endpoint *ep = hf_registry_find(p->registry, row->endpoint);

	if (ep)
		hf_endpoint_set_outage(ep, row);
	return 0;
}

static int load_clone(const struct hf_clone_row *row, void *arg)
{
	struct hf_portal *p = arg;
	struct hf_endpoint *ep = hf_registry_find(p->registry, row->endpoint);

	if (!ep)
		return 0;
	ep->clone = malloc(sizeof(*ep->clone));
	if (!ep->clone)
		return -ENOMEM;
	*ep->clone = *row;
	ep->presence.clone = true;
	return 0;
}

static int load_config_owner(const uint8_t *endpoint, void *arg)
{
	struct hf_portal *p = arg;
	struct hf_endpoint *ep = hf_registry_find(p->registry, endpoint);

	if (ep)
		ep->config_known = true;
	return 0;
}

static int load_offer(const struct hf_offer_row *row, void *arg)
{
	struct hf_portal *p = arg;
	struct hf_endpoint *ep = hf_registry_find(p->registry, row->endpoint);

	if (!ep)
		return 0;
	ep->offer = malloc(sizeof(*ep->offer));
	if (!ep->offer)
		return -ENOMEM;
	*ep->offer = *row;
	return 0;
}

void hf_fleet_clear_clone(struct hf_portal *p, struct hf_endpoint *ep)
{
	free(ep->clone);
	ep->clone = NULL;
	ep->presence.clone = false;
	hf_fleet_judge(p, ep);
}

static void expire_done(int r, void *arg)
{
	free(arg);
	(void)r; /* the writer tells of a full disk; the next sweep goes on */
}

static int run_expire(struct hf_store *s, void *arg)
{
	return hf_store_expire(s, arg);
}

static void expire(struct hf_portal *p)
{
	const uint64_t day_ns = 24 * 3600 * HF_NS_PER_S;
	uint64_t now = hf_now_realtime_ns();
	struct hf_retention *keep = calloc(1, sizeof(*keep));

	if (!keep)
		return;
	*keep = (struct hf_retention){
		.events_before_ns = now - p->config.retention.events_days * day_ns,
		.outages_before_ns = now - p->config.retention.outages_days * day_ns,
		.audit_before_ns = now - p->config.retention.outages_days * day_ns,
		.actions_before_ns = now - p->config.retention.outages_days * day_ns,
		.events_max_rows = 5000000, /* 2 GB at 400 bytes each: what a small server has */
		.slice = 5000,
	};
	if (hf_writer_submit(p->writer, run_expire, expire_done, keep, sizeof(*keep)) < 0)
		free(keep);
}

static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_fleet *f = userdata;
	struct hf_portal *p = f->portal;

	(void)usec;
	for (size_t i = 0; i < hf_registry_count(p->registry); i++)
		hf_fleet_judge(p, hf_registry_at(p->registry, i));
	hf_fleet_flush_seen(p);
	expire(p);
	(void)sd_event_source_set_time_relative(source,
						p->config.tunnel_status_check_interval_s * 1000000);
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

int hf_fleet_new(struct hf_portal *p, struct hf_fleet **ret, struct hf_err *err)
{
	_cleanup_(hf_fleet_freep) struct hf_fleet *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return hf_err_set(err, -ENOMEM, "out of memory");
	f->portal = p;
	r = hf_store_endpoints(p->store, load_one, p);
	if (r == 0)
		r = hf_store_last_outages(p->store, load_outage, p);
	if (r == 0)
		r = hf_store_clones(p->store, load_clone, p);
	if (r == 0)
		r = hf_store_config_owners(p->store, load_config_owner, p);
	if (r == 0)
		r = hf_store_offers(p->store, load_offer, p);
	if (r < 0)
		return hf_err_set(err, r, "load the endpoints: %s", hf_store_error(p->store));
	for (size_t i = 0; i < hf_registry_count(p->registry); i++)
		hf_fleet_judge(p, hf_registry_at(p->registry, i));
	r = sd_event_add_time_relative(p->event, &f->sweep, CLOCK_MONOTONIC,
				       p->config.tunnel_status_check_interval_s * 1000000,
				       SWEEP_ACCURACY_US, on_sweep, f);
	if (r < 0)
		return hf_err_set(err, r, "start the status sweep: %s", strerror(-r));
	(void)sd_event_source_set_description(f->sweep, "status-sweep"); /* only a name */
	*ret = TAKE_PTR(f);
	return 0;
}

struct hf_fleet *hf_fleet_free(struct hf_fleet *f)
{
	if (!f)
		return NULL;
	f->sweep = sd_event_source_disable_unref(f->sweep);
	for (size_t i = 0; i < hf_registry_count(f->portal->registry); i++) {
		struct hf_endpoint *ep = hf_registry_at(f->portal->registry, i);

		ep->due = sd_event_source_disable_unref(ep->due);
	}
	free(f);
	return NULL;
}

void hf_fleet_count(struct hf_portal *p, size_t counts[static _HF_STATUS_MAX])
{
	memset(counts, 0, _HF_STATUS_MAX * sizeof(*counts));
	for (size_t i = 0; i < hf_registry_count(p->registry); i++)
		counts[hf_registry_at(p->registry, i)->verdict.status]++;
}

/* ---- showing -------------------------------------------------------------------------------- */

void hf_endpoint_set_outage(struct hf_endpoint *ep, const struct hf_outage_row *row)
{
	struct hf_outage_info *o = &ep->outage;

	if (ep->has_outage && row->began_ns < o->began_ns)
		return;
	ep->has_outage = true;
	memcpy(o->id, row->id, HF_ID_SIZE);
	o->began_ns = row->began_ns;
	o->detected_ns = row->detected_ns;
	o->restored_ns = row->restored_ns;
	o->detect_us = row->detect_us;
	o->outage_us = row->outage_us;
	(void)hf_strlcpy(o->cause, row->cause, sizeof(o->cause));
	(void)hf_strlcpy(o->detected_by, row->detected_by, sizeof(o->detected_by));
	(void)hf_strlcpy(o->detail, row->detail, sizeof(o->detail));
}

static json_t *outage_json(const struct hf_endpoint *ep)
{
	const struct hf_outage_info *o = &ep->outage;
	char id[HF_UUID_TEXT_SIZE];

	if (!ep->has_outage)
		return json_null();
	hf_uuid_format(o->id, id);
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "id", id, "cause",
			 o->cause, "cause_text", hf_cause_text(hf_cause_from_name(o->cause)),
			 "detected_by", o->detected_by, "detail", hf_json_string(o->detail),
			 "began", hf_json_time(o->began_ns), "detected_at",
			 hf_json_time(o->detected_ns), "restored", hf_json_time(o->restored_ns),
			 "detect_ms", hf_json_us_as_ms(o->detect_us), "outage_ms",
			 hf_json_us_as_ms(o->outage_us));
}

/* Who came with the same identity, from where: what an operator needs to find the copy. */
static json_t *clone_json(const struct hf_endpoint *ep)
{
	const struct hf_clone_row *c = ep->clone;
	char machine[2 * HF_HASH_SIZE + 1], boot[HF_UUID_TEXT_SIZE];

	if (!c)
		return json_null();
	hf_hex_encode(machine, c->machine_id_hash, HF_HASH_SIZE);
	hf_uuid_format(c->boot_id, boot);
	return json_pack("{s:o, s:o, s:I, s:o, s:o, s:s, s:s, s:b}", "since",
			 hf_json_time(c->since_ns), "last_seen", hf_json_time(c->last_ns),
			 "attempts", (json_int_t)c->attempts, "address", hf_json_string(c->address),
			 "hostname", hf_json_string(c->hostname), "machine_id_hash", machine,
			 "boot_id", boot, "same_machine_id",
			 memcmp(c->machine_id_hash, ep->row.machine_id_hash, HF_HASH_SIZE) == 0);
}

/* What a node of the health tree says, into o. */
static void put_health(json_t *o, const struct hf_health_node *n)
{
	(void)json_object_set_new(o, "healthy", json_boolean(n->healthy));
	(void)json_object_set_new(o, "status", hf_json_string(n->status));
	(void)json_object_set_new(o, "last_error", hf_json_string(n->error));
	(void)json_object_set_new(o, "started", hf_json_time(n->start_ns));
}

/* The nodes below one, as a list; depth is bounded where the tree is read. */
static json_t *health_children(const struct hf_endpoint *ep, int parent)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < ep->n_health; i++) {
		json_t *o;

		if (ep->health[i].parent != parent)
			continue;
		o = json_pack("{s:o}", "name", hf_json_string(ep->health[i].name));
		put_health(o, &ep->health[i]);
		(void)json_object_set_new(o, "components", health_children(ep, (int)i));
		(void)json_array_append_new(list, o);
	}
	return list;
}

static int health_of(const struct hf_endpoint *ep, const char *name)
{
	for (unsigned i = 0; i < ep->n_health; i++) {
		if (ep->health[i].parent == 0 && hf_streq(ep->health[i].name, name))
			return (int)i;
	}
	return -1;
}

/* Heartbeats tell of processes, the health tree of what works in them: one list by name. */
static json_t *components_json(const struct hf_endpoint *ep)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < ep->n_components; i++) {
		const struct hf_component_info *c = &ep->components[i];
		int health = health_of(ep, c->name);
		/* A failed set leaves a part out: only under ENOMEM, where the reply fails. */
		json_t *o =
			json_pack("{s:o, s:o, s:o, s:I}", "name", hf_json_string(c->name),
				  "version", hf_json_string(c->version), "state",
				  hf_json_string(c->state), "restarts", (json_int_t)c->restarts);

		if (health >= 0) {
			put_health(o, &ep->health[health]);
			(void)json_object_set_new(o, "components", health_children(ep, health));
		}
		(void)json_array_append_new(list, o);
	}
	for (unsigned i = 0; i < ep->n_health; i++) {
		json_t *o;
		bool listed = false;

		if (ep->health[i].parent != 0)
			continue;
		for (unsigned j = 0; j < ep->n_components; j++)
			listed |= hf_streq(ep->components[j].name, ep->health[i].name);
		if (listed)
			continue;
		o = json_pack("{s:o}", "name", hf_json_string(ep->health[i].name));
		put_health(o, &ep->health[i]);
		(void)json_object_set_new(o, "components", health_children(ep, (int)i));
		(void)json_array_append_new(list, o);
	}
	return list;
}

static json_t *health_json(const struct hf_endpoint *ep)
{
	json_t *o;

	if (ep->n_health == 0)
		return json_null();
	o = json_object();
	put_health(o, &ep->health[0]);
	return o;
}

static json_t *addresses_json(const struct hf_endpoint *ep)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < HF_ENDPOINT_ADDRESSES && ep->row.addresses[i][0]; i++)
		(void)json_array_append_new(list, hf_json_string(ep->row.addresses[i]));
	return list;
}

json_t *hf_endpoint_json(struct hf_portal *p, const struct hf_endpoint *ep)
{
	const struct hf_endpoint_row *r = &ep->row;
	char id[HF_UUID_TEXT_SIZE], uid[HF_UUID_TEXT_SIZE];
	json_t *o, *more;

	hf_uuid_format(r->id, id);
	hf_uuid_format(r->instance_uid, uid);
	o = json_pack("{s:s, s:o, s:s, s:s, s:s, s:b, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
		      "id", id, "name", hf_json_string(r->name), "status", r->status, "reason",
		      r->reason, "reason_text", hf_reason_text(r->reason), "authorized",
		      r->authorization == HF_AUTH_AUTHORIZED, "authorization",
		      hf_authorization_name(r->authorization), "last_seen",
		      hf_json_time(r->last_seen_ns), "since", hf_json_time(r->status_since_ns),
		      "version", hf_json_string(r->version), "os", hf_json_string(r->os), "arch",
		      hf_json_string(r->arch), "distro", hf_json_string(r->distro), "kernel",
		      hf_json_string(r->kernel));
	more = json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:s, s:I, s:o, s:o, s:i, s:o,"
		" s:o, s:o, s:o, s:o, s:o}",
		"kernel_assist", hf_json_string(r->kernel_assist), "environment",
		hf_json_string(r->environment), "group", hf_json_string(r->group), "hostname",
		hf_json_string(r->hostname), "addresses", addresses_json(ep), "clock_offset_ms",
		(json_int_t)r->clock_offset_ms, "cert_expires", hf_json_time(r->cert_expires_ns),
		"last_outage", outage_json(ep), "components", components_json(ep), "instance_uid",
		uid, "epoch", (json_int_t)ep->epoch, "remote",
		hf_json_string(ep->link ? ep->remote : ""), "tls_version",
		hf_json_string(ep->link ? ep->tls_version : ""), "rtt_us", (int)ep->rtt_us,
		"created", hf_json_time(r->created_ns), "authorization_changed",
		hf_json_time(r->authorization_changed_ns), "authorization_by",
		hf_json_string(r->authorization_by), "clone", clone_json(ep), "health",
		health_json(ep), "connection", hf_offer_json(ep->offer));
	(void)p;
	if (!o || !more || json_object_update(o, more) < 0) {
		json_decref(o);
		o = NULL;
	}
	json_decref(more);
	return o;
}
