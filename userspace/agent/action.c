/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every action that the portal has not confirmed is an item; its record is in the journal.
 *
 * I1. `accepted` is said to the portal only after the record is on disk. (Prevents an action that
 *     the portal believes to be here and that a kill has taken away.)
 * I2. An id with a record is never handed over as new; one that ran and that the watchdog does not
 *     know any more is indeterminate, never begun again.
 * I3. Nothing is said twice in a hurry: what waits for an answer is repeated every RETRY_MS, and at
 *     once on a new connection.
 */
#include "userspace/agent/action.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "action.pb-c.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/str.h"
#include "holdfast/action.h"
#include "holdfast/session.h"
#include "userspace/agent/action_upload.h"
#include "userspace/proto/action_journal.h"
#include "userspace/proto/frame.h"

#define MAGIC       0x41414354u
#define ITEM_MAGIC  0x4154494du
#define JOURNAL_DIR "actions"
#define RETRY_MS    10000u
#define ACCURACY_US 100000u
#define ASKED_MAX   32u /* ids that the portal asks about and we do not know: it asks again */
#define KEYS_MAX    HF_SUP_BLOB_MAX
#define PUSH_MAX    16u /* packets of 4 KiB at once: more than a portal has under way */

struct item {
	unsigned magic;
	struct hf_agent_actions *owner;
	struct item *next;
	Action__Record *rec;
	bool writing; /* its first record is on its way to the disk */
	uint32_t percent;
	bool leaving;
	uint64_t sent_ns; /* the result, to the portal; 0: not on this connection */
};

struct hf_agent_actions {
	unsigned magic;
	struct hf_action_journal *journal;
	const struct hf_config *config;
	struct hf_agent_actions_callbacks cb;
	void *userdata;
	struct item *items;
	sd_event_source *timer;
	bool online;
	char endpoint_id[HF_ACTION_ID_SIZE];
	uint8_t keys[KEYS_MAX];
	size_t keys_len;
	struct hf_action_upload upload;
	char asked[ASKED_MAX][HF_ACTION_ID_SIZE];
	size_t n_asked;
	unsigned pushed; /* the timer's turn begins behind so many */
	struct hf_ratelimit log_limit;
};

static uint64_t portal_now(const struct hf_agent_actions *a)
{
	uint64_t ns = a->cb.portal_unix_ns(a->userdata);

	return ns ? ns : hf_now_realtime_ns();
}

/* A time of this host's clock, as the portal's clock would have shown it. */
static uint64_t as_portal(const struct hf_agent_actions *a, uint64_t local_unix_ns)
{
	return local_unix_ns ? local_unix_ns + (portal_now(a) - hf_now_realtime_ns()) : 0;
}

static int send_portal(const char *type, ProtobufCMessage *body, void *userdata)
{
	struct hf_agent_actions *a = HF_CAST(userdata, struct hf_agent_actions, MAGIC);

	return a->online ? a->cb.send(type, body, a->userdata) : -EPIPE;
}

/* ---- items ---------------------------------------------------------------------------------------- */

static struct item *find_item(const struct hf_agent_actions *a, const char *id)
{
	struct item *i = a->items;

	while (i && !hf_streq(i->rec->action_id, id))
		i = i->next;
	return i;
}

static struct item *item_new(struct hf_agent_actions *a, Action__Record *rec)
{
	struct item *i = calloc(1, sizeof(*i)), **p = &a->items;

	if (!i)
		return NULL;
	i->magic = ITEM_MAGIC;
	i->owner = a;
	i->rec = rec;
	while (*p)
		p = &(*p)->next;
	*p = i;
	return i;
}

static void item_drop(struct item *i)
{
	struct item **p = &i->owner->items;

	while (*p != i)
		p = &(*p)->next;
	*p = i->next;
	i->magic = 0;
	free(i);
}

static void on_saved(int r, void *userdata)
{
	struct hf_agent_actions *a = HF_CAST(userdata, struct hf_agent_actions, MAGIC);

	/* The watchdog has it in its own journal: we ask there after a restart. */
	if (r < 0 && hf_ratelimit_take(&a->log_limit, hf_now_monotonic_ns()))
		hf_error_r(r, "write the journal of actions, going on");
}

static void save(struct hf_agent_actions *a, const Action__Record *rec)
{
	int r = hf_action_journal_save(a->journal, rec, on_saved, a);

	if (r < 0)
		on_saved(r, a);
}

/* ---- to the portal -------------------------------------------------------------------------------- */

static void tell_state(struct hf_agent_actions *a, const char *id, enum hf_action_state state,
		       const struct item *i)
{
	Action__State m = ACTION__STATE__INIT;

	m.action_id = (char *)id;
	m.state = (char *)hf_action_state_name(state);
	m.at_unix_ns = portal_now(a);
	if (i) {
		m.percent = i->percent;
		m.text = i->rec->text;
		m.leaving = i->leaving;
	}
	/* Lost with the connection: the next one tells all of it again. */
	(void)send_portal(HF_MSG_STATE, &m.base, a);
}

static void send_result(struct hf_agent_actions *a, struct item *i, int result_fd,
			bool with_artifact)
{
	Action__Result m = ACTION__RESULT__INIT;
	_cleanup_free_ uint8_t *json = NULL;
	const Action__Record *rec = i->rec;
	ssize_t n = 0;

	if (result_fd >= 0) {
		json = malloc(HF_ACTION_RESULT_MAX);
		n = json ? pread(result_fd, json, HF_ACTION_RESULT_MAX, 0) : -1;
		if (n < 0)
			return; /* the timer asks again */
	}
	m.action_id = rec->action_id;
	m.state = (char *)hf_action_state_name(rec->state);
	m.reason = (char *)hf_action_refusal_name(rec->refusal);
	m.text = rec->text;
	m.json = (ProtobufCBinaryData){.data = json, .len = (size_t)n};
	m.started_unix_ns = as_portal(a, rec->started_unix_ns);
	m.finished_unix_ns = as_portal(a, rec->finished_unix_ns);
	if (with_artifact) {
		m.artifact_bytes = rec->artifact_bytes;
		m.artifact_sha256 = rec->artifact_sha256;
	}
	if (send_portal(HF_MSG_RESULT, &m.base, a) == 0)
		i->sent_ns = hf_now_monotonic_ns();
}

/* A result for an action that has no record: it was refused, and that is all there is. */
static void send_refusal(struct hf_agent_actions *a, const char *id, enum hf_action_state state,
			 enum hf_action_refusal why, const char *text)
{
	Action__Result m = ACTION__RESULT__INIT;

	m.action_id = (char *)id;
	m.state = (char *)hf_action_state_name(state);
	m.reason = (char *)hf_action_refusal_name(why);
	m.text = (char *)(text ? text : hf_action_refusal_text(why));
	(void)send_portal(HF_MSG_RESULT, &m.base, a); /* else the portal sends the action again */
}

/* ---- to the watchdog ------------------------------------------------------------------------------ */

/* What this action needs next; every call may be repeated. */
static void push(struct hf_agent_actions *a, struct item *i)
{
	Action__Record *rec = i->rec;

	if (i->writing)
		return;
	if (hf_action_state_final(rec->state)) {
		if (!a->online)
			return;
		if (rec->local)
			send_result(a, i, -1, false);
		else if (!hf_streq(a->upload.id, rec->action_id))
			(void)a->cb.id(HF_SUP_ACTION_QUERY, rec->action_id, a->userdata);
	} else if (rec->cancel) {
		(void)a->cb.id(HF_SUP_ACTION_CANCEL, rec->action_id, a->userdata);
	} else if (rec->state == HF_ACTION_ACCEPTED) {
		(void)a->cb.blob(HF_SUP_ACTION, rec->envelope.data, rec->envelope.len, a->userdata);
	} else {
		(void)a->cb.id(HF_SUP_ACTION_QUERY, rec->action_id, a->userdata);
	}
}

static void push_all(struct hf_agent_actions *a)
{
	unsigned n = 0;

	/* As much as the socket's buffer takes; the timer goes on with the rest. */
	for (struct item *i = a->items; i && n < PUSH_MAX; i = i->next, n++)
		push(a, i);
	for (size_t k = 0; k < a->n_asked; k++)
		(void)a->cb.id(HF_SUP_ACTION_QUERY, a->asked[k], a->userdata);
}

static void push_keys(struct hf_agent_actions *a)
{
	if (a->online && a->keys_len)
		(void)a->cb.blob(HF_SUP_ACTION_KEYS, a->keys, a->keys_len, a->userdata);
}

/* ---- outcomes ------------------------------------------------------------------------------------- */

static void set_final(struct hf_agent_actions *a, struct item *i, enum hf_action_state state,
		      enum hf_action_refusal why, const char *text, bool local)
{
	Action__Record *rec = i->rec;

	rec->state = state;
	rec->refusal = why;
	rec->local = local;
	if (!rec->finished_unix_ns)
		rec->finished_unix_ns = hf_now_realtime_ns();
	hf_action_record_text(&rec->text, text && text[0] ? text : hf_action_refusal_text(why));
	hf_action_record_bytes(&rec->envelope, NULL, 0);
	i->percent = state == HF_ACTION_SUCCEEDED ? 100 : i->percent;
	i->leaving = false;
	hf_notice("action '%s' (%s): %s%s%s", rec->action_id, rec->kind,
		  hf_action_state_name(state), rec->text[0] ? ": " : "", rec->text);
	save(a, rec);
}

static void end_here(struct hf_agent_actions *a, struct item *i, enum hf_action_state state,
		     enum hf_action_refusal why, const char *text)
{
	set_final(a, i, state, why, text, true);
	push(a, i);
}

static void on_confirmed(struct hf_agent_actions *a, const char *id)
{
	struct item *i = find_item(a, id);

	if (!i || !hf_action_state_final(i->rec->state))
		return;
	i->rec->confirmed = true;
	save(a, i->rec);
	if (hf_streq(a->upload.id, id))
		hf_upload_end(&a->upload);
	/* Not heard, the watchdog keeps the files until it is told again. */
	(void)a->cb.id(HF_SUP_ACTION_FORGET, id, a->userdata);
	item_drop(i);
}

/* ---- the portal gives an action -------------------------------------------------------------------- */

static enum hf_action_refusal judge(const struct hf_agent_actions *a, const Action__Deliver *m,
				    const Action__Body *b)
{
	if (!b || !hf_streq(b->action_id, m->action_id))
		return HF_ACTION_REFUSED_MALFORMED;
	if (!hf_streq(b->endpoint_id, a->endpoint_id))
		return HF_ACTION_REFUSED_WRONG_ENDPOINT;
	if (!hf_action_kind_find(b->kind))
		return HF_ACTION_REFUSED_UNKNOWN_KIND;
	if (!hf_config_allows(a->config, b->kind))
		return HF_ACTION_REFUSED_NOT_ALLOWED;
	if (portal_now(a) >= b->expires_unix_ns)
		return HF_ACTION_REFUSED_EXPIRED;
	return HF_ACTION_REFUSED_NONE;
}

static Action__Body *open_envelope(const ProtobufCBinaryData *data)
{
	_cleanup_pb_ Action__Envelope *e = NULL;
	Action__Body *b = NULL;

	if (data->len > HF_ACTION_ENVELOPE_MAX ||
	    hf_pb_unpack(&action__envelope__descriptor, data->data, data->len, &e) < 0 ||
	    hf_pb_unpack(&action__body__descriptor, e->body.data, e->body.len, &b) < 0)
		return NULL;
	return b;
}

static void on_written(int r, void *userdata)
{
	struct item *i = HF_CAST(userdata, struct item, ITEM_MAGIC);
	struct hf_agent_actions *a = i->owner;
	char text[HF_ACTION_TEXT_MAX];

	i->writing = false;
	if (r < 0) {
		/* Nothing was begun, and nothing will be: it is as if it had never come. */
		hf_error_r(r, "write down action '%s', refusing it", i->rec->action_id);
		hf_strf(text, sizeof(text), "%s: %s",
			hf_action_refusal_text(HF_ACTION_REFUSED_JOURNAL), strerror(-r));
		send_refusal(a, i->rec->action_id, HF_ACTION_REJECTED, HF_ACTION_REFUSED_JOURNAL,
			     text);
		hf_action_journal_remove(a->journal, i->rec);
		item_drop(i);
		return;
	}
	if (i->rec->cancel && !hf_action_state_final(i->rec->state)) {
		end_here(a, i, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE, NULL);
		return;
	}
	if (!hf_action_state_final(i->rec->state))
		tell_state(a, i->rec->action_id, HF_ACTION_ACCEPTED, i);
	push(a, i);
}

static void accept_new(struct hf_agent_actions *a, const Action__Deliver *m)
{
	_cleanup_pb_ Action__Body *b = open_envelope(&m->envelope);
	enum hf_action_refusal why = m->envelope.len > HF_ACTION_ENVELOPE_MAX
					     ? HF_ACTION_REFUSED_OVERSIZED
					     : judge(a, m, b);
	Action__Record *rec;
	struct item *i = NULL;
	int r = hf_action_journal_add(a->journal, m->action_id, portal_now(a), &rec);

	if (r == 0) {
		i = item_new(a, rec);
		if (!i) {
			hf_action_journal_remove(a->journal, rec);
			r = -ENOMEM;
		}
	}
	if (r < 0 || !i) {
		send_refusal(a, m->action_id, HF_ACTION_REJECTED,
			     r == -EINVAL ? HF_ACTION_REFUSED_MALFORMED : HF_ACTION_REFUSED_BUSY,
			     NULL);
		return;
	}
	rec->state = HF_ACTION_ACCEPTED;
	rec->received_unix_ns = hf_now_realtime_ns();
	if (b) {
		rec->issued_unix_ns = b->issued_unix_ns;
		rec->expires_unix_ns = b->expires_unix_ns;
		if (strlen(b->kind) < HF_ACTION_KIND_MAX)
			hf_action_record_text(&rec->kind, b->kind);
	}
	if (why == HF_ACTION_REFUSED_NONE) {
		hf_action_record_bytes(&rec->envelope, m->envelope.data, m->envelope.len);
	} else {
		rec->state =
			why == HF_ACTION_REFUSED_EXPIRED ? HF_ACTION_EXPIRED : HF_ACTION_REJECTED;
		rec->refusal = why;
		rec->local = true;
		rec->finished_unix_ns = hf_now_realtime_ns();
		hf_action_record_text(&rec->text, hf_action_refusal_text(why));
		hf_warn("action '%s' (%s) is refused: %s", m->action_id, rec->kind, rec->text);
	}
	i->writing = true;
	r = hf_action_journal_save(a->journal, rec, on_written, i);
	if (r < 0)
		on_written(r, i);
}

/* The portal believes that we know it. */
static void ask_about(struct hf_agent_actions *a, const char *id)
{
	for (size_t k = 0; k < a->n_asked; k++)
		if (hf_streq(a->asked[k], id))
			return;
	if (a->n_asked == ASKED_MAX || !hf_strlcpy(a->asked[a->n_asked], id, sizeof(a->asked[0])))
		return;
	a->n_asked++;
	(void)a->cb.id(HF_SUP_ACTION_QUERY, id, a->userdata); /* again when the watchdog is back */
}

static void on_deliver(struct hf_agent_actions *a, const Action__Deliver *m)
{
	Action__Record *rec = hf_action_journal_find(a->journal, m->action_id);
	struct item *i = rec ? find_item(a, m->action_id) : NULL;

	if (!rec && m->known) {
		ask_about(a, m->action_id);
		return;
	}
	if (!rec) {
		accept_new(a, m);
		return;
	}
	if (!i) {
		/* Confirmed long ago; a portal that lost it hears it again. */
		i = item_new(a, rec);
		if (!i)
			return;
		rec->confirmed = false;
	}
	if (i->writing)
		return;
	if (!hf_action_state_final(rec->state))
		tell_state(a, rec->action_id, (enum hf_action_state)rec->state, i);
	push(a, i);
}

static void on_cancel(struct hf_agent_actions *a, const char *id)
{
	Action__Record *rec = hf_action_journal_find(a->journal, id);
	struct item *i = rec ? find_item(a, id) : NULL;

	if (!rec) {
		/* The portal sends nothing behind a cancellation: it cannot begin any more. */
		send_refusal(a, id, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE,
			     "it was cancelled before it came here");
		return;
	}
	if (!i)
		i = item_new(a, rec);
	if (!i)
		return;
	rec->confirmed = false;
	rec->cancel = true;
	push(a, i);
}

static void on_artifact_ack(struct hf_agent_actions *a, const Action__ArtifactAck *ack)
{
	struct item *i = find_item(a, ack->action_id);
	int r = hf_upload_acked(&a->upload, ack, send_portal, a, hf_now_monotonic_ns());

	if (r == 0)
		return;
	if (r < 0)
		hf_warn("the portal does not take the archive of action '%s': %s", ack->action_id,
			ack->refused[0] ? ack->refused : "it does not match");
	if (i)
		send_result(a, i, a->upload.result, r > 0);
	hf_upload_end(&a->upload);
	push_all(a); /* another archive may wait */
}

static void set_keys(struct hf_agent_actions *a, const void *keys, size_t len)
{
	if (len > sizeof(a->keys)) {
		hf_error("the portal's action keys are %zu bytes, ignoring them", len);
		return;
	}
	if (len)
		memcpy(a->keys, keys, len);
	a->keys_len = len;
	push_keys(a);
}

int hf_agent_actions_message(struct hf_agent_actions *a, const char *type, const void *data,
			     size_t len)
{
	int r = 0;

	if (hf_streq(type, HF_MSG_ACTION)) {
		_cleanup_pb_ Action__Deliver *m = NULL;

		r = hf_pb_unpack(&action__deliver__descriptor, data, len, &m);
		if (r == 0)
			on_deliver(a, m);
	} else if (hf_streq(type, HF_MSG_CANCEL)) {
		_cleanup_pb_ Action__Cancel *m = NULL;

		r = hf_pb_unpack(&action__cancel__descriptor, data, len, &m);
		if (r == 0)
			on_cancel(a, m->action_id);
	} else if (hf_streq(type, HF_MSG_RESULT_ACK)) {
		_cleanup_pb_ Action__ResultAck *m = NULL;

		r = hf_pb_unpack(&action__result_ack__descriptor, data, len, &m);
		if (r == 0)
			on_confirmed(a, m->action_id);
	} else if (hf_streq(type, HF_MSG_ARTIFACT_ACK)) {
		_cleanup_pb_ Action__ArtifactAck *m = NULL;

		r = hf_pb_unpack(&action__artifact_ack__descriptor, data, len, &m);
		if (r == 0)
			on_artifact_ack(a, m);
	} else if (hf_streq(type, HF_MSG_TIME)) {
		r = a->cb.blob(HF_SUP_ACTION_TIME, data, len, a->userdata);
		r = r == -ENOTCONN ? 0 : r;
	} else if (hf_streq(type, HF_MSG_KEYS)) {
		set_keys(a, data, len);
	}
	/* Another type is a newer portal's. */
	return r < 0 ? -EBADMSG : 0;
}

/* ---- the watchdog's word ---------------------------------------------------------------------------- */

void hf_agent_actions_watchdog(struct hf_agent_actions *a)
{
	size_t n = hf_action_journal_count(a->journal);

	push_keys(a);
	push_all(a);
	/* Should one have been lost, with the last connection or with the last of us. */
	for (size_t k = 0; k < n && k < PUSH_MAX; k++) {
		const Action__Record *rec = hf_action_journal_at(a->journal, n - 1 - k);

		if (rec->confirmed && !rec->local)
			(void)a->cb.id(HF_SUP_ACTION_FORGET, rec->action_id, a->userdata);
	}
}

void hf_agent_actions_nonce(struct hf_agent_actions *a, const struct hf_sup_action_nonce *m)
{
	Action__TimeAsk ask = ACTION__TIME_ASK__INIT;

	if (m->error) {
		hf_error("the watchdog does not trust the portal's action keys: %s", m->text);
		return;
	}
	if (!m->time_wanted) {
		for (struct item *i = a->items; i; i = i->next)
			if (i->rec->state == HF_ACTION_ACCEPTED)
				push(a, i);
		return;
	}
	ask.nonce = (ProtobufCBinaryData){.data = (uint8_t *)m->nonce, .len = sizeof(m->nonce)};
	(void)send_portal(HF_MSG_TIME_ASK, &ask.base, a); /* offline: asked again when online */
}

static struct item *answer_asked(struct hf_agent_actions *a, const struct hf_sup_action_state *m)
{
	Action__Record *rec;
	size_t k = 0;

	while (k < a->n_asked && !hf_streq(a->asked[k], m->id))
		k++;
	if (k == a->n_asked)
		return NULL;
	memmove(a->asked[k], a->asked[a->n_asked - 1], sizeof(a->asked[k]));
	a->n_asked--;
	if (m->state == HF_ACTION_UNKNOWN ||
	    hf_action_journal_add(a->journal, m->id, portal_now(a), &rec) < 0) {
		tell_state(a, m->id, HF_ACTION_UNKNOWN, NULL);
		return NULL;
	}
	/* Our journal lost it, the watchdog's did not. */
	rec->state = HF_ACTION_RUNNING;
	rec->received_unix_ns = hf_now_realtime_ns();
	return item_new(a, rec);
}

static void on_unknown(struct hf_agent_actions *a, struct item *i)
{
	if (hf_action_state_final(i->rec->state)) {
		send_result(a, i, -1, false);
	} else if (i->rec->state == HF_ACTION_RUNNING) {
		end_here(a, i, HF_ACTION_INDETERMINATE, HF_ACTION_REFUSED_LOST, NULL);
	} else if (i->rec->cancel) {
		end_here(a, i, HF_ACTION_CANCELLED, HF_ACTION_REFUSED_NONE, NULL);
	} /* else: it has not come there yet, and is on its way */
}

static void on_final(struct hf_agent_actions *a, struct item *i,
		     const struct hf_sup_action_state *m, int result_fd, int artifact_fd)
{
	Action__Record *rec = i->rec;
	int r;

	rec->result_bytes = m->result_bytes;
	rec->artifact_bytes = m->artifact_bytes;
	if (m->artifact_bytes)
		hf_action_record_bytes(&rec->artifact_sha256, m->artifact_sha256,
				       sizeof(m->artifact_sha256));
	if (!hf_action_state_final(rec->state)) {
		rec->started_unix_ns = m->started_unix_ns;
		rec->finished_unix_ns = m->finished_unix_ns;
		set_final(a, i, (enum hf_action_state)m->state, (enum hf_action_refusal)m->refusal,
			  m->text, false);
	}
	if (!a->online)
		return;
	if (artifact_fd < 0) {
		send_result(a, i, result_fd, false);
		return;
	}
	r = hf_upload_begin(&a->upload, rec->action_id, artifact_fd, result_fd, m->artifact_bytes,
			    m->artifact_sha256, send_portal, a, hf_now_monotonic_ns());
	if (r < 0 && r != -EBUSY)
		hf_error_r(r, "begin to send the archive of action '%s'", rec->action_id);
}

static void on_running(struct hf_agent_actions *a, struct item *i,
		       const struct hf_sup_action_state *m)
{
	Action__Record *rec = i->rec;

	if (hf_action_state_final(rec->state))
		return; /* we had given up on it */
	i->percent = m->percent;
	i->leaving = m->leaving;
	hf_action_record_text(&rec->text, m->text);
	if (m->state == HF_ACTION_RUNNING && rec->state != HF_ACTION_RUNNING) {
		rec->state = HF_ACTION_RUNNING;
		rec->started_unix_ns = m->started_unix_ns;
		save(a, rec); /* I2 after a restart */
	}
	tell_state(a, rec->action_id, (enum hf_action_state)rec->state, i);
	/* It waits for this: the announcement is on its way to the portal. */
	if (m->leaving)
		(void)a->cb.id(HF_SUP_ACTION_QUERY, rec->action_id, a->userdata);
}

void hf_agent_actions_state(struct hf_agent_actions *a, const struct hf_sup_action_state *m,
			    int result_fd, int artifact_fd)
{
	struct item *i = find_item(a, m->id);

	if (!i)
		i = answer_asked(a, m);
	if (!i || i->writing)
		return;
	if (m->state == HF_ACTION_UNKNOWN)
		on_unknown(a, i);
	else if (hf_action_state_final(m->state))
		on_final(a, i, m, result_fd, artifact_fd);
	else
		on_running(a, i, m);
}

/* ---- connection, time ------------------------------------------------------------------------------- */

void hf_agent_actions_online(struct hf_agent_actions *a, const char *endpoint_id, const void *keys,
			     size_t keys_len)
{
	a->online = true;
	(void)hf_strlcpy(a->endpoint_id, endpoint_id, sizeof(a->endpoint_id));
	set_keys(a, keys, keys_len);
	for (struct item *i = a->items; i; i = i->next) {
		i->sent_ns = 0;
		if (!i->writing && !hf_action_state_final(i->rec->state))
			tell_state(a, i->rec->action_id, (enum hf_action_state)i->rec->state, i);
	}
	hf_upload_again(&a->upload, send_portal, a, hf_now_monotonic_ns());
	push_all(a);
}

void hf_agent_actions_offline(struct hf_agent_actions *a)
{
	a->online = false;
}

void hf_agent_actions_writable(struct hf_agent_actions *a)
{
	if (a->upload.blocked)
		hf_upload_again(&a->upload, send_portal, a, hf_now_monotonic_ns());
	for (struct item *i = a->items; i; i = i->next)
		if (hf_action_state_final(i->rec->state) && !i->sent_ns)
			push(a, i);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_agent_actions *a = HF_CAST(userdata, struct hf_agent_actions, MAGIC);
	uint64_t now = hf_now_monotonic_ns();
	unsigned k = 0, n = 0;

	(void)usec;
	/* In turns, should there be more than fit. */
	for (struct item *i = a->items; i; i = i->next) {
		if (i->sent_ns && now - i->sent_ns < RETRY_MS * HF_NS_PER_MS / 2)
			continue;
		if (k++ < a->pushed)
			continue;
		if (n++ == PUSH_MAX)
			break;
		push(a, i);
	}
	a->pushed = n > PUSH_MAX ? a->pushed + PUSH_MAX : 0;
	if (a->upload.id[0] && now - a->upload.asked_ns > RETRY_MS * HF_NS_PER_MS)
		hf_upload_again(&a->upload, send_portal, a, now);
	(void)sd_event_source_set_time_relative(source, RETRY_MS * 1000);
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

/* ---- for people ------------------------------------------------------------------------------------- */

static Bus__Action *list_item(const struct hf_agent_actions *a, const Action__Record *rec)
{
	const struct item *i = find_item(a, rec->action_id);
	Bus__Action m = BUS__ACTION__INIT;

	m.id = rec->action_id;
	m.kind = rec->kind;
	m.state = (char *)hf_action_state_name(rec->state);
	m.progress = rec->state == HF_ACTION_SUCCEEDED ? 100 : i ? i->percent : 0;
	m.created_unix_ns = rec->received_unix_ns;
	m.updated_unix_ns = rec->finished_unix_ns  ? rec->finished_unix_ns
			    : rec->started_unix_ns ? rec->started_unix_ns
						   : rec->received_unix_ns;
	m.text = rec->text;
	m.reason = (char *)hf_action_refusal_name(rec->refusal);
	m.started_unix_ns = rec->started_unix_ns;
	m.finished_unix_ns = rec->finished_unix_ns;
	m.confirmed = rec->confirmed;
	return hf_pb_dup(&m.base);
}

Bus__Actions *hf_agent_actions_list(const struct hf_agent_actions *a, uint32_t limit)
{
	size_t n = hf_action_journal_count(a->journal);
	Bus__Actions *list = calloc(1, sizeof(*list));

	if (!list)
		return NULL;
	bus__actions__init(list);
	if (limit == 0 || limit > n)
		limit = (uint32_t)n;
	list->items = calloc(limit ? limit : 1, sizeof(list->items[0]));
	if (!list->items) {
		free(list);
		return NULL;
	}
	for (size_t k = 0; k < limit; k++) {
		Bus__Action *m = list_item(a, hf_action_journal_at(a->journal, n - 1 - k));

		if (m)
			list->items[list->n_items++] = m;
	}
	return list;
}

/* ---- life ------------------------------------------------------------------------------------------- */

static int take_up(struct hf_agent_actions *a)
{
	for (size_t k = 0; k < hf_action_journal_count(a->journal); k++) {
		Action__Record *rec = hf_action_journal_at(a->journal, k);

		/* A damaged record may have run: the watchdog knows, or nobody does. */
		if (rec->state == HF_ACTION_INDETERMINATE && !rec->confirmed && !rec->local)
			rec->state = HF_ACTION_RUNNING;
		if (!rec->confirmed && !item_new(a, rec))
			return -ENOMEM;
	}
	return 0;
}

int hf_agent_actions_new(sd_event *event, int state_dirfd, struct hf_disk *disk,
			 const struct hf_config *config,
			 const struct hf_agent_actions_callbacks *cb, void *userdata,
			 struct hf_agent_actions **ret)
{
	_cleanup_(hf_agent_actions_freep) struct hf_agent_actions *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->magic = MAGIC;
	a->config = config;
	a->cb = *cb;
	a->userdata = userdata;
	a->upload = (struct hf_action_upload){.fd = -1, .result = -1};
	a->log_limit = (struct hf_ratelimit){.burst = 5, .interval_ns = 60 * HF_NS_PER_S};
	r = hf_action_journal_open(state_dirfd, JOURNAL_DIR, disk, &a->journal);
	if (r < 0)
		return r;
	if (hf_action_journal_damaged(a->journal))
		hf_warn("%llu damaged records of actions, asking the watchdog",
			(unsigned long long)hf_action_journal_damaged(a->journal));
	r = take_up(a);
	if (r < 0)
		return r;
	r = sd_event_add_time_relative(event, &a->timer, CLOCK_MONOTONIC, RETRY_MS * 1000,
				       ACCURACY_US, on_timer, a);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(a->timer, "actions"); /* only a name */
	*ret = TAKE_PTR(a);
	return 0;
}

struct hf_agent_actions *hf_agent_actions_free(struct hf_agent_actions *a)
{
	if (!a)
		return NULL;
	sd_event_source_disable_unref(a->timer);
	hf_upload_end(&a->upload);
	while (a->items)
		item_drop(a->items);
	a->journal = hf_action_journal_free(a->journal);
	a->magic = 0;
	free(a);
	return NULL;
}
