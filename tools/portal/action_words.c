/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What endpoints say of their actions: connection, states, results.
 *
 * I1. A result is confirmed only after it is in the database; one that is known is confirmed again.
 * I2. Who says what is known by the link: an endpoint speaks of its own actions only.
 */
#include "tools/portal/action_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/session.h"
#include "tools/portal/action_key.h"
#include "tools/portal/action_table.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/writer.h"
#include "userspace/proto/frame.h"

void hf_actions_linked(struct hf_portal *p, struct hf_endpoint *ep)
{
	if (!p->actions)
		return;
	for (struct hf_act *x = ep->actions; x; x = x->next)
		x->delivered = false;
	hf_act_kick(p->actions, ep);
}

void hf_actions_unlinked(struct hf_portal *p, struct hf_endpoint *ep, bool goodbye)
{
	struct hf_act *next;

	if (!p->actions)
		return;
	for (struct hf_act *x = ep->actions; x; x = next) {
		enum hf_action_state to = (enum hf_action_state)x->row.state;

		next = x->next;
		x->delivered = false;
		if (!x->leaving || x->storing || !goodbye)
			continue;
		/* It said that it would go, and went: that is what was asked for. */
		to = hf_action_next(to, HF_ACTION_IN_LEFT, HF_ACTION_UNKNOWN);
		x->row.inferred = to == HF_ACTION_SUCCEEDED;
		x->row.percent = 100;
		(void)hf_act_set(p->actions, ep, x, to, "", NULL);
	}
	hf_act_kick(p->actions, ep);
}

void hf_actions_forget(struct hf_portal *p, struct hf_endpoint *ep)
{
	struct hf_act *x;

	if (!p->actions)
		return;
	while ((x = ep->actions)) {
		if (hf_action_state_final(x->row.state) ||
		    !hf_act_set(p->actions, ep, x, HF_ACTION_CANCELLED, "the endpoint was deleted",
				NULL))
			hf_act_drop(p->actions, ep, ep->actions);
	}
}

static void on_state(struct hf_actions *a, struct hf_endpoint *ep, const Action__State *m)
{
	enum hf_action_state told = hf_action_state_from_name(m->state), to;
	enum hf_action_input in;
	uint8_t id[HF_ID_SIZE];
	char text[256];
	struct hf_act *x;

	x = hf_uuid_parse(m->action_id, id) == 0 ? hf_act_find(ep, id) : NULL;
	if (!x || x->storing)
		return;
	switch (told) {
	case HF_ACTION_ACCEPTED:
		in = HF_ACTION_IN_ACCEPTED;
		break;
	case HF_ACTION_RUNNING:
		in = HF_ACTION_IN_RUNNING;
		if (!x->row.started_ns)
			x->row.started_ns = hf_now_realtime_ns();
		break;
	case HF_ACTION_UNKNOWN:
		in = HF_ACTION_IN_UNKNOWN;
		break;
	default: /* an outcome comes with its result */
		return;
	}
	x->leaving = m->leaving;
	x->row.percent = m->percent > 100 ? 100 : m->percent;
	(void)hf_strlcpy(text, m->text, sizeof(text));
	for (size_t n = strlen(text); n > 0 && !hf_utf8_valid(text, n); n--)
		text[n - 1] = 0;
	to = hf_action_next((enum hf_action_state)x->row.state, in, told);
	if (to == HF_ACTION_QUEUED)
		x->delivered = false;
	if (hf_act_set(
		    a, ep, x, to,
		    to == HF_ACTION_INDETERMINATE ? hf_action_refusal_name(HF_ACTION_REFUSED_LOST)
						  : "",
		    to == HF_ACTION_INDETERMINATE ? hf_action_refusal_text(HF_ACTION_REFUSED_LOST)
						  : text) ||
	    to == HF_ACTION_QUEUED)
		hf_act_kick(a, ep);
}

struct outcome {
	struct hf_portal *portal;
	struct hf_action_row row;
	uint8_t *json;
	size_t json_len;
};

static void outcome_free(struct outcome *o)
{
	free(o->row.params);
	free(o->json);
	free(o);
}

static void send_ack(struct hf_endpoint *ep, const char *id)
{
	Action__ResultAck m = ACTION__RESULT_ACK__INIT;

	m.action_id = (char *)id;
	if (ep->link)
		hf_link_send_custom(ep->link, HF_CAP_ACTION, HF_MSG_RESULT_ACK, &m.base);
}

static int run_outcome(struct hf_store *s, void *arg)
{
	const struct outcome *o = arg;

	return hf_store_action_update(s, &o->row, true, o->json, o->json_len);
}

static void done_outcome(int r, void *arg)
{
	struct outcome *o = arg;
	struct hf_actions *a = o->portal->actions;
	struct hf_endpoint *ep = hf_registry_find(o->portal->registry, o->row.endpoint);
	struct hf_act *x = ep ? hf_act_find(ep, o->row.id) : NULL;
	char id[HF_UUID_TEXT_SIZE];

	hf_uuid_format(o->row.id, id);
	if (x)
		x->storing = false;
	/* A full disk: not confirmed, so the endpoint brings it again. */
	if (r == 0 && ep) {
		hf_info("Action '%s' (%s on '%s'): %s%s%s", id, o->row.kind, ep->row.name,
			hf_action_state_name(o->row.state), o->row.text[0] ? ": " : "",
			o->row.text);
		o->portal->counters.actions_over[o->row.state]++;
		if (x) {
			free(x->row.params);
			x->row = o->row;
			o->row.params = NULL;
			hf_act_publish(a, &x->row);
			hf_act_drop(a, ep, x);
		}
		send_ack(ep, id);
		hf_act_kick(a, ep);
	}
	outcome_free(o);
}

/* The JSON of a result is shown to browsers: what is not an object is not kept. */
static bool json_ok(const ProtobufCBinaryData *data)
{
	json_t *o = json_loadb((const char *)data->data, data->len, JSON_REJECT_DUPLICATES, NULL);
	bool ok = json_is_object(o);

	json_decref(o);
	return ok;
}

static int store_outcome(struct hf_actions *a, const struct hf_action_row *row,
			 const Action__Result *m, enum hf_action_state state)
{
	struct outcome *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return -ENOMEM;
	o->portal = a->portal;
	o->row = *row;
	o->row.params = strdup(row->params);
	o->row.state = state;
	o->row.inferred = false;
	o->row.changed_ns = hf_now_realtime_ns();
	o->row.percent = state == HF_ACTION_SUCCEEDED ? 100 : row->percent;
	o->row.started_ns = m->started_unix_ns;
	o->row.finished_ns = m->finished_unix_ns ? m->finished_unix_ns : o->row.changed_ns;
	(void)hf_strlcpy(o->row.reason, m->reason, sizeof(o->row.reason));
	(void)hf_strlcpy(o->row.text, m->text, sizeof(o->row.text));
	for (size_t n = strlen(o->row.text); n > 0 && !hf_utf8_valid(o->row.text, n); n--)
		o->row.text[n - 1] = 0;
	hf_sanitize(o->row.reason);
	if (m->artifact_bytes && m->artifact_sha256.len == HF_HASH_SIZE) {
		o->row.artifact_bytes = m->artifact_bytes;
		memcpy(o->row.artifact_sha256, m->artifact_sha256.data, HF_HASH_SIZE);
	}
	if (m->json.len && m->json.len <= HF_ACTION_RESULT_MAX && json_ok(&m->json)) {
		o->json = malloc(m->json.len);
		if (o->json) {
			memcpy(o->json, m->json.data, m->json.len);
			o->json_len = m->json.len;
		}
	}
	if (!o->row.params || (m->json.len && !o->json && json_ok(&m->json))) {
		outcome_free(o);
		return -ENOMEM;
	}
	r = hf_writer_submit(a->portal->writer, run_outcome, done_outcome, o,
			     sizeof(*o) + o->json_len);
	if (r < 0)
		outcome_free(o);
	return r;
}

static void on_result(struct hf_actions *a, struct hf_endpoint *ep, const Action__Result *m)
{
	enum hf_action_state told = hf_action_state_from_name(m->state);
	struct hf_action_row row = {};
	uint8_t id[HF_ID_SIZE];
	struct hf_act *x;
	int r;

	if (hf_uuid_parse(m->action_id, id) < 0 || !hf_action_state_final(told))
		return;
	x = hf_act_find(ep, id);
	if (x) {
		if (!x->storing)
			x->storing = store_outcome(a, &x->row, m, told) == 0;
		return;
	}
	r = hf_store_action_get(a->portal->store, id, &row);
	if (r == 0 && memcmp(row.endpoint, ep->row.id, HF_ID_SIZE) != 0)
		r = -ENOENT; /* I2 */
	if (r == 0 && row.inferred) {
		/* What we concluded is replaced by what it says; confirmed when stored. */
		(void)store_outcome(a, &row, m, told); /* refused: it comes again */
	} else if (r == 0 || r == -ENOENT) {
		/* Known already, or of a portal that was restored from an older backup. */
		send_ack(ep, m->action_id);
	}
	free(row.params);
}

static void on_time_ask(struct hf_actions *a, struct hf_endpoint *ep, const Action__TimeAsk *m)
{
	_cleanup_(hf_buf_done) struct hf_buf packed = {};
	_cleanup_pb_ Action__Time *time = NULL;

	if (m->nonce.len != HF_ACTION_NONCE_SIZE ||
	    hf_action_key_stamp(a->key, ep->row.id, &m->nonce, hf_now_realtime_ns(), &packed) < 0)
		return;
	if (hf_pb_unpack(&action__time__descriptor, packed.data, packed.len, &time) == 0)
		hf_link_send_custom(ep->link, HF_CAP_ACTION, HF_MSG_TIME, &time->base);
}

static void on_artifact(struct hf_actions *a, struct hf_link *l, const Action__Artifact *m)
{
	struct hf_action_row row = {};
	uint8_t id[HF_ID_SIZE];
	struct hf_act *x;

	if (hf_uuid_parse(m->action_id, id) < 0)
		return;
	x = hf_act_find(l->ep, id);
	if (x) {
		hf_artifact_chunk(l, &x->row, m);
		return;
	}
	/* Its result is here and the confirmation was lost: it is answered from the file. */
	if (hf_store_action_get(a->portal->store, id, &row) == 0 &&
	    memcmp(row.endpoint, l->ep->row.id, HF_ID_SIZE) == 0)
		hf_artifact_chunk(l, &row, m);
	free(row.params);
}

int hf_actions_message(struct hf_link *l, const Opamp__CustomMessage *cm)
{
	struct hf_actions *a = l->portal->actions;
	struct hf_endpoint *ep = l->ep;
	int r = 0;

	if (!ep || !a || ep->link != l)
		return 0;
	if (hf_streq(cm->type, HF_MSG_STATE)) {
		_cleanup_pb_ Action__State *m = NULL;

		r = hf_opamp_custom_unpack(cm, &action__state__descriptor, &m);
		if (r == 0)
			on_state(a, ep, m);
	} else if (hf_streq(cm->type, HF_MSG_RESULT)) {
		_cleanup_pb_ Action__Result *m = NULL;

		r = hf_opamp_custom_unpack(cm, &action__result__descriptor, &m);
		if (r == 0)
			on_result(a, ep, m);
	} else if (hf_streq(cm->type, HF_MSG_TIME_ASK)) {
		_cleanup_pb_ Action__TimeAsk *m = NULL;

		r = hf_opamp_custom_unpack(cm, &action__time_ask__descriptor, &m);
		if (r == 0)
			on_time_ask(a, ep, m);
	} else if (hf_streq(cm->type, HF_MSG_ARTIFACT)) {
		_cleanup_pb_ Action__Artifact *m = NULL;

		r = hf_opamp_custom_unpack(cm, &action__artifact__descriptor, &m);
		if (r == 0)
			on_artifact(a, l, m);
	}
	return r < 0 ? -EBADMSG : 0;
}
