/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I1. Nothing is sent that is not in the database. (Prevents an action that a kill of the portal
 *     takes away.)
 * I2. Only authorized endpoints get an action; everything else waits, with its reason.
 * I3. Of the disruptive actions of an endpoint one is under way, the oldest; at most UNDER_WAY of all.
 */
#include "tools/portal/action_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <systemd/sd-event.h>

#include "action.pb-c.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/action.h"
#include "holdfast/session.h"
#include "tools/portal/action_key.h"
#include "tools/portal/action_table.h"
#include "tools/portal/hub.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/writer.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"

#define ACTIVE_MAX 65536u /* of all endpoints: 80 MiB at the most */
#define UNDER_WAY  16u    /* of one endpoint: what its agent hands over at once */
#define HISTORY_MAX \
	64u /* lines that only change a reason: a link that flaps must not fill a disk */
#define ACCURACY_US    100000u
#define NOT_AUTHORIZED "blocked: not authorized"

/* ---- lists ---------------------------------------------------------------------------------- */

struct hf_act *hf_act_find(const struct hf_endpoint *ep, const uint8_t id[static HF_ID_SIZE])
{
	struct hf_act *x = ep->actions;

	while (x && memcmp(x->row.id, id, HF_ID_SIZE) != 0)
		x = x->next;
	return x;
}

void hf_act_drop(struct hf_actions *a, struct hf_endpoint *ep, struct hf_act *x)
{
	struct hf_act **p = &ep->actions;

	while (*p != x)
		p = &(*p)->next;
	*p = x->next;
	a->n--;
	free(x->row.params);
	free(x);
}

static struct hf_act *attach(struct hf_actions *a, struct hf_endpoint *ep,
			     const struct hf_action_row *row)
{
	struct hf_act *x = calloc(1, sizeof(*x)), **p = &ep->actions;

	if (!x)
		return NULL;
	x->row = *row;
	while (*p && memcmp((*p)->row.id, row->id, HF_ID_SIZE) < 0)
		p = &(*p)->next;
	x->next = *p;
	*p = x;
	a->n++;
	return x;
}

static struct hf_endpoint *endpoint_of(struct hf_actions *a, const uint8_t id[static HF_ID_SIZE])
{
	return hf_registry_find(a->portal->registry, id);
}

const struct hf_action_row *hf_actions_find(struct hf_actions *a,
					    const uint8_t endpoint[static HF_ID_SIZE],
					    const uint8_t id[static HF_ID_SIZE])
{
	struct hf_endpoint *ep = endpoint_of(a, endpoint);
	struct hf_act *x = ep ? hf_act_find(ep, id) : NULL;

	return x ? &x->row : NULL;
}

/* ---- showing -------------------------------------------------------------------------------- */

json_t *hf_action_json(struct hf_portal *p, const struct hf_action_row *row)
{
	struct hf_endpoint *ep = hf_registry_find(p->registry, row->endpoint);
	char id[HF_UUID_TEXT_SIZE], endpoint[HF_UUID_TEXT_SIZE];
	json_t *params = json_loads(row->params, 0, NULL), *o, *more;

	hf_uuid_format(row->id, id);
	hf_uuid_format(row->endpoint, endpoint);
	o = json_pack("{s:s, s:s, s:o, s:s, s:o, s:s, s:o, s:o, s:i}", "id", id, "endpoint",
		      endpoint, "endpoint_name", ep ? hf_json_string(ep->row.name) : json_null(),
		      "kind", row->kind, "params", params ? params : json_object(), "state",
		      hf_action_state_name(row->state), "reason", hf_json_string(row->reason),
		      "text", hf_json_string(row->text), "progress", (int)row->percent);
	more = json_pack("{s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:i, s:o, s:b}", "created",
			 hf_json_time(row->created_ns), "expires_at", hf_json_time(row->expires_ns),
			 "started", hf_json_time(row->started_ns), "finished",
			 hf_json_time(row->finished_ns), "changed", hf_json_time(row->changed_ns),
			 "delivery_ttl_s", (int)row->ttl_s, "idle_limit_s", (int)row->idle_limit_s,
			 "hard_limit_s", (int)row->hard_limit_s, "actor",
			 hf_json_string(row->actor), "cancel_requested", row->cancel);
	if (!o || !more || json_object_update(o, more) < 0) {
		json_decref(o);
		o = NULL;
	}
	json_decref(more);
	return o;
}

void hf_act_publish(struct hf_actions *a, const struct hf_action_row *row)
{
	if (!hf_hub_idle(a->portal->hub))
		hf_hub_publish(a->portal->hub, "action", hf_action_json(a->portal, row));
}

/* ---- changing ------------------------------------------------------------------------------- */

struct update {
	struct hf_action_row row;
	bool history;
};

static int run_update(struct hf_store *s, void *arg)
{
	const struct update *u = arg;

	return hf_store_action_update(s, &u->row, u->history, NULL, 0);
}

static void free_update(int r, void *arg)
{
	(void)r; /* the writer counted and logged it; the endpoint tells again what matters */
	free(arg);
}

static void save(struct hf_actions *a, struct hf_act *x, bool history)
{
	struct update *u = calloc(1, sizeof(*u));

	if (!u)
		return;
	u->row = x->row;
	u->row.params = NULL; /* never changes */
	u->history = history;
	if (hf_writer_submit(a->portal->writer, run_update, free_update, u, sizeof(*u)) < 0)
		free(u);
}

bool hf_act_set(struct hf_actions *a, struct hf_endpoint *ep, struct hf_act *x,
		enum hf_action_state state, const char *reason, const char *text)
{
	bool moved = state != x->row.state;
	bool said = reason && !hf_streq(reason, x->row.reason);
	char id[HF_UUID_TEXT_SIZE];

	if (text)
		(void)hf_strlcpy(x->row.text, text, sizeof(x->row.text));
	if (!moved && !said) {
		if (text)
			hf_act_publish(a, &x->row);
		return false;
	}
	x->row.changed_ns = hf_now_realtime_ns();
	x->row.state = state;
	(void)hf_strlcpy(x->row.reason, reason ? reason : "", sizeof(x->row.reason));
	hf_uuid_format(x->row.id, id);
	hf_info("Action '%s' (%s on '%s'): %s%s%s", id, x->row.kind, ep->row.name,
		hf_action_state_name(state), x->row.reason[0] ? ": " : "", x->row.reason);
	if (hf_action_state_final(state) && !x->row.finished_ns)
		x->row.finished_ns = x->row.changed_ns;
	save(a, x, moved || x->history++ < HISTORY_MAX);
	hf_act_publish(a, &x->row);
	if (!hf_action_state_final(state))
		return false;
	a->portal->counters.actions_over[state]++;
	hf_act_drop(a, ep, x);
	return true;
}

/* ---- sending -------------------------------------------------------------------------------- */

/* JSON text → the body's parameters. -EINVAL: not flat, or more than an endpoint takes. */
static int fill_params(const char *text, Action__Body *b, Action__Param *params,
		       Action__Param **pointers, json_t **ret_json, char numbers[][32])
{
	json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *value, *one;
	const char *name;
	size_t i, bytes = 0;

	*ret_json = o;
	if (!json_is_object(o))
		return -EINVAL;
	json_object_foreach(o, name, value)
	{
		size_t n = json_is_array(value) ? json_array_size(value) : 1;

		if (!name[0] || strlen(name) > HF_ACTION_PARAM_NAME_MAX ||
		    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(name))
			return -EINVAL;
		for (i = 0; i < n; i++) {
			Action__Param *m = &params[b->n_params];

			one = json_is_array(value) ? json_array_get(value, i) : value;
			if (b->n_params == HF_ACTION_PARAMS_MAX)
				return -EINVAL;
			action__param__init(m);
			m->name = (char *)name;
			if (json_is_string(one) &&
			    strlen(json_string_value(one)) == json_string_length(one)) {
				m->value = (char *)json_string_value(one);
			} else if (json_is_integer(one)) {
				(void)hf_strf(numbers[b->n_params], 32, "%lld",
					      (long long)json_integer_value(one));
				m->value = numbers[b->n_params];
			} else if (json_is_boolean(one)) {
				m->value = (char *)(json_is_true(one) ? "true" : "false");
			} else {
				return -EINVAL;
			}
			if (strlen(m->value) > HF_ACTION_PARAM_VALUE_MAX ||
			    strpbrk(m->value, "\n\r"))
				return -EINVAL;
			bytes += strlen(name) + strlen(m->value);
			pointers[b->n_params++] = m;
		}
	}
	return bytes <= HF_ACTION_PARAMS_BYTES ? 0 : -EINVAL;
}

static int seal(struct hf_actions *a, const struct hf_action_row *row, struct hf_buf *ret)
{
	Action__Body b = ACTION__BODY__INIT;
	Action__Param params[HF_ACTION_PARAMS_MAX], *pointers[HF_ACTION_PARAMS_MAX];
	char id[HF_UUID_TEXT_SIZE], endpoint[HF_UUID_TEXT_SIZE];
	char numbers[HF_ACTION_PARAMS_MAX][32];
	json_t *json = NULL;
	int r;

	hf_uuid_format(row->id, id);
	hf_uuid_format(row->endpoint, endpoint);
	b.action_id = id;
	b.endpoint_id = endpoint;
	b.kind = (char *)row->kind;
	b.params = pointers;
	b.issued_unix_ns = row->created_ns;
	b.expires_unix_ns = row->expires_ns;
	b.idle_limit_s = row->idle_limit_s;
	b.hard_limit_s = row->hard_limit_s;
	r = fill_params(row->params, &b, params, pointers, &json, numbers);
	if (r == 0)
		r = hf_action_key_seal(a->key, &b, ret);
	json_decref(json);
	return r;
}

int hf_actions_check(struct hf_actions *a, const struct hf_action_row *row)
{
	_cleanup_(hf_buf_done) struct hf_buf envelope = {};

	return seal(a, row, &envelope);
}

static void send_cancel(const struct hf_endpoint *ep, const struct hf_act *x)
{
	Action__Cancel m = ACTION__CANCEL__INIT;
	char id[HF_UUID_TEXT_SIZE];

	hf_uuid_format(x->row.id, id);
	m.action_id = id;
	hf_link_send_custom(ep->link, HF_CAP_ACTION, HF_MSG_CANCEL, &m.base);
}

static void deliver(struct hf_actions *a, struct hf_endpoint *ep, struct hf_act *x)
{
	_cleanup_(hf_buf_done) struct hf_buf envelope = {};
	Action__Deliver m = ACTION__DELIVER__INIT;
	char id[HF_UUID_TEXT_SIZE];
	int r = seal(a, &x->row, &envelope);

	if (r < 0) {
		/* It was checked when it came: no memory, and the next sweep tries again. */
		hf_error_r(r, "sign an action for '%s'", ep->row.name);
		return;
	}
	hf_uuid_format(x->row.id, id);
	m.action_id = id;
	m.envelope = (ProtobufCBinaryData){.data = envelope.data, .len = envelope.len};
	m.known = x->row.state == HF_ACTION_ACCEPTED || x->row.state == HF_ACTION_RUNNING;
	x->delivered = true;
	a->portal->counters.actions_sent++;
	hf_link_send_custom(ep->link, HF_CAP_ACTION, HF_MSG_ACTION, &m.base);
	(void)hf_act_set(a, ep, x,
			 hf_action_next((enum hf_action_state)x->row.state, HF_ACTION_IN_SEND,
					HF_ACTION_UNKNOWN),
			 "", NULL);
	if (x->row.cancel)
		send_cancel(ep, x);
}

static bool is_disruptive(const struct hf_act *x)
{
	const struct hf_action_kind *k = hf_action_kind_find(x->row.kind);

	return !k || k->disruptive;
}

/* Why nothing goes to this endpoint now; NULL: it may. */
static const char *blocked(const struct hf_endpoint *ep)
{
	if (ep->row.authorization != HF_AUTH_AUTHORIZED)
		return NOT_AUTHORIZED;
	if (!ep->link)
		return "waits for the endpoint to connect";
	if (!ep->link->has_hello)
		return "blocked: this OpAMP agent has no actions";
	return NULL;
}

void hf_act_kick(struct hf_actions *a, struct hf_endpoint *ep)
{
	const char *why = blocked(ep);
	bool busy = false; /* an older disruptive one is not over */
	unsigned under_way = 0;
	struct hf_act *next;

	for (struct hf_act *x = ep->actions; x; x = next) {
		bool disruptive = is_disruptive(x);

		next = x->next;
		if (x->row.state != HF_ACTION_QUEUED) {
			if (!why && !x->delivered && !x->storing)
				deliver(a, ep, x);
			under_way++;
		} else if (why) {
			(void)hf_act_set(a, ep, x, HF_ACTION_QUEUED, why, NULL);
		} else if (disruptive && busy) {
			(void)hf_act_set(a, ep, x, HF_ACTION_QUEUED, "waits for an earlier action",
					 NULL);
		} else if (under_way >= UNDER_WAY) {
			(void)hf_act_set(a, ep, x, HF_ACTION_QUEUED, "waits for other actions",
					 NULL);
		} else {
			deliver(a, ep, x);
			under_way++;
		}
		busy |= disruptive;
	}
}

/* ---- time ----------------------------------------------------------------------------------- */

static void arm(struct hf_actions *a, uint64_t at_unix_ns)
{
	uint64_t now = hf_now_realtime_ns(), in_ns = at_unix_ns > now ? at_unix_ns - now : 0;

	/* Looked at once an hour anyway: the wall clock may be set. */
	if (in_ns > 3600 * HF_NS_PER_S)
		in_ns = 3600 * HF_NS_PER_S;
	(void)sd_event_source_set_time_relative(a->expiry, in_ns / HF_NS_PER_US + 1000);
	(void)sd_event_source_set_enabled(a->expiry, SD_EVENT_ONESHOT);
}

static int on_expiry(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_actions *a = userdata;
	struct hf_registry *g = a->portal->registry;
	uint64_t now = hf_now_realtime_ns(), earliest = UINT64_MAX;

	(void)source;
	(void)usec;
	for (size_t i = 0; a->n && i < hf_registry_count(g); i++) {
		struct hf_endpoint *ep = hf_registry_at(g, i);
		struct hf_act *next;
		bool changed = false;

		for (struct hf_act *x = ep->actions; x; x = next) {
			enum hf_action_state to;

			next = x->next;
			if (x->row.expires_ns > now) {
				if (x->row.expires_ns < earliest)
					earliest = x->row.expires_ns;
				continue;
			}
			to = hf_action_next((enum hf_action_state)x->row.state, HF_ACTION_IN_EXPIRE,
					    HF_ACTION_UNKNOWN);
			/* Sent, and no word since: only the endpoint knows whether it came. */
			changed |= hf_act_set(
				a, ep, x, to,
				to == HF_ACTION_EXPIRED ? "expired"
				: to == HF_ACTION_SENT
					? "expired, but it may have arrived: waits for the "
					  "endpoint's word"
					: x->row.reason,
				to == HF_ACTION_EXPIRED ? "its time to be delivered is over"
							: NULL);
		}
		if (changed)
			hf_act_kick(a, ep);
	}
	arm(a, earliest);
	return 0;
}

/* ---- asked for ------------------------------------------------------------------------------ */

int hf_actions_may_add(struct hf_actions *a, const struct hf_endpoint *ep)
{
	unsigned n = 0;

	if (ep->row.authorization == HF_AUTH_REVOKED)
		return -EPERM;
	for (const struct hf_act *x = ep->actions; x; x = x->next)
		n++;
	if (n >= HF_ACTIONS_PER_ENDPOINT)
		return -EDQUOT;
	return a->n >= ACTIVE_MAX ? -EUSERS : 0;
}

void hf_actions_add(struct hf_actions *a, struct hf_action_row *row)
{
	struct hf_endpoint *ep = endpoint_of(a, row->endpoint);
	struct hf_act *x = ep ? attach(a, ep, row) : NULL;

	if (!x) {
		/* Deleted meanwhile; without memory it is taken up at the next start. */
		free(row->params);
		row->params = NULL;
		return;
	}
	row->params = NULL;
	a->portal->counters.actions_made++;
	hf_act_publish(a, &x->row);
	hf_act_kick(a, ep);
	arm(a, hf_now_realtime_ns()); /* finds the earliest anew */
}

bool hf_actions_cancel(struct hf_actions *a, const uint8_t endpoint[static HF_ID_SIZE],
		       const uint8_t id[static HF_ID_SIZE])
{
	struct hf_endpoint *ep = endpoint_of(a, endpoint);
	struct hf_act *x = ep ? hf_act_find(ep, id) : NULL;
	enum hf_action_state to;

	if (!x)
		return false;
	to = hf_action_next((enum hf_action_state)x->row.state, HF_ACTION_IN_CANCEL,
			    HF_ACTION_UNKNOWN);
	if (hf_act_set(a, ep, x, to, to == HF_ACTION_CANCELLED ? "" : x->row.reason,
		       to == HF_ACTION_CANCELLED ? "cancelled before it was sent" : NULL)) {
		hf_act_kick(a, ep);
		return true;
	}
	x->row.cancel = true;
	save(a, x, false);
	hf_act_publish(a, &x->row);
	if (!blocked(ep))
		send_cancel(ep, x);
	return true;
}

/* ---- keys ----------------------------------------------------------------------------------- */

const struct hf_action_key *hf_actions_key(const struct hf_actions *a)
{
	return a->key;
}

void hf_actions_keys(struct hf_portal *p, const struct hf_endpoint *ep, struct hf_buf *ret)
{
	/* Failed: the endpoint learns them with the next connection. */
	if (p->actions)
		(void)hf_action_key_chain(p->actions->key, ep->row.id, ret);
}

static void tell_keys(struct hf_actions *a, struct hf_endpoint *ep)
{
	_cleanup_(hf_buf_done) struct hf_buf packed = {};
	_cleanup_pb_ Action__Keys *m = NULL;

	if (hf_action_key_chain(a->key, ep->row.id, &packed) == 0 &&
	    hf_pb_unpack(&action__keys__descriptor, packed.data, packed.len, &m) == 0)
		hf_link_send_custom(ep->link, HF_CAP_ACTION, HF_MSG_KEYS, &m->base);
}

/* Takes over the key of the file, if it is another one, and tells it to who is connected. */
static int reload_key(struct hf_actions *a, struct hf_err *err)
{
	struct hf_registry *g = a->portal->registry;
	struct hf_action_key *fresh = NULL;
	char before[17], now[17];
	int r = hf_action_key_open(a->portal->state_fd, hf_now_realtime_ns(), &fresh, err);

	if (r < 0)
		return r;
	hf_action_key_id(a->key, before);
	hf_action_key_id(fresh, now);
	(void)hf_action_key_free(a->key);
	a->key = fresh;
	if (hf_streq(before, now))
		return 0;
	hf_notice("Action key %s replaces %s", now, before);
	for (size_t i = 0; i < hf_registry_count(g); i++) {
		struct hf_endpoint *ep = hf_registry_at(g, i);

		if (!ep->link || !ep->link->has_hello)
			continue;
		tell_keys(a, ep);
		/* What was sent and not heard of is signed anew and sent behind the key. */
		for (struct hf_act *x = ep->actions; x; x = x->next)
			x->delivered &= x->row.state != HF_ACTION_SENT;
		hf_act_kick(a, ep);
	}
	return 0;
}

int hf_actions_rotate(struct hf_actions *a, struct hf_err *err)
{
	int r = hf_action_key_rotate(a->portal->state_fd, hf_now_realtime_ns(), err);

	return r < 0 ? r : reload_key(a, err);
}

/* `holdfast-portal rotate-action-key` wrote it. */
static int on_file(sd_event_source *source, const struct inotify_event *e, void *userdata)
{
	struct hf_actions *a = userdata;
	struct hf_err err = {};

	(void)source;
	if (e->len && hf_streq(e->name, HF_ACTION_KEY_FILE) && reload_key(a, &err) < 0)
		hf_error("%s, keeping the key as it was", err.msg);
	return 0;
}

/* ---- life ----------------------------------------------------------------------------------- */

static int load_one(const struct hf_action_row *row, void *arg)
{
	struct hf_actions *a = arg;
	struct hf_endpoint *ep = endpoint_of(a, row->endpoint);
	struct hf_action_row copy = *row;

	if (!ep)
		return 0;
	copy.params = strdup(row->params ? row->params : "{}");
	if (!copy.params)
		return -ENOMEM;
	if (!attach(a, ep, &copy)) {
		free(copy.params);
		return -ENOMEM;
	}
	return 0;
}

int hf_actions_new(struct hf_portal *p, struct hf_actions **ret, struct hf_err *err)
{
	const struct hf_action_filter f = {.active = true};
	_cleanup_(hf_actions_freep) struct hf_actions *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return hf_err_set(err, -ENOMEM, "out of memory");
	a->portal = p;
	r = hf_action_key_open(p->state_fd, hf_now_realtime_ns(), &a->key, err);
	if (r == 0)
		r = hf_artifacts_open(p, err);
	if (r < 0)
		return r;
	r = hf_store_actions(p->store, &f, load_one, a);
	if (r < 0)
		return hf_err_set(err, r, "load the actions: %s", hf_store_error(p->store));
	r = sd_event_add_time_relative(p->event, &a->expiry, CLOCK_MONOTONIC, 0, ACCURACY_US,
				       on_expiry, a);
	if (r >= 0)
		r = sd_event_add_inotify(p->event, &a->key_watch, ".", IN_MOVED_TO, on_file, a);
	if (r < 0)
		return hf_err_set(err, r, "watch the action key: %s", strerror(-r));
	(void)sd_event_source_set_description(a->expiry, "actions-expire"); /* only a name */
	*ret = TAKE_PTR(a);
	return 0;
}

struct hf_actions *hf_actions_free(struct hf_actions *a)
{
	struct hf_registry *g;

	if (!a)
		return NULL;
	sd_event_source_disable_unref(a->expiry);
	sd_event_source_disable_unref(a->key_watch);
	g = a->portal->registry;
	for (size_t i = 0; g && i < hf_registry_count(g); i++) {
		struct hf_endpoint *ep = hf_registry_at(g, i);

		while (ep->actions)
			hf_act_drop(a, ep, ep->actions);
	}
	a->key = hf_action_key_free(a->key);
	free(a);
	return NULL;
}
