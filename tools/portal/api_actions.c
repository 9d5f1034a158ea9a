/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /endpoints/{id}/actions and /actions: an action is in the database before its request is answered;
 * what is not over is shown as memory knows it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "holdfast/action.h"
#include "tools/portal/action.h"
#include "tools/portal/action_key.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/fleet.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/writer.h"
#include "userspace/proto/event_json.h"

#define PARAMS_TEXT_MAX 4096u /* as JSON text; what an endpoint takes is less */
#define LIMIT_MAX_S     (7u * 24 * 3600)

struct action_job {
	struct hf_portal *portal;
	struct hf_conn *conn;
	struct hf_action_row row;
	struct hf_audit_row audit;
};

static void job_free(struct action_job *j)
{
	(void)hf_conn_unref(j->conn);
	free(j->row.params);
	free(j);
}

/* ---- asking for one --------------------------------------------------------------------------- */

static int run_create(struct hf_store *s, void *arg)
{
	struct action_job *j = arg;
	int r = hf_store_action_insert(s, &j->row);

	return r < 0 ? r : hf_store_audit_insert(s, &j->audit);
}

static void reply_first(struct action_job *j)
{
	struct hf_action_row row = {};
	const struct hf_action_row *now;
	int r = hf_store_action_by_key(j->portal->store, j->row.endpoint, j->row.idempotency, &row);

	if (r < 0) {
		hf_reply_error(j->conn, r == -ENOENT ? -EEXIST : r, "queue the action");
		return;
	}
	now = hf_actions_find(j->portal->actions, row.endpoint, row.id);
	hf_reply_json(j->conn, 200, hf_action_json(j->portal, now ? now : &row));
	free(row.params);
}

static void done_create(int r, void *arg)
{
	struct action_job *j = arg;
	struct hf_action_row shown = j->row;
	const struct hf_action_row *now;

	if (r == -EEXIST) {
		reply_first(j);
	} else if (r < 0) {
		hf_reply_error(j->conn, r, "queue the action");
	} else {
		hf_notice("%s: action %s for %s", j->audit.actor, j->row.kind, j->audit.object);
		/* The copy shows it should its endpoint be gone. */
		shown.params = strdup(j->row.params);
		hf_actions_add(j->portal->actions, &j->row);
		now = hf_actions_find(j->portal->actions, shown.endpoint, shown.id);
		hf_reply_json(j->conn, 201,
			      shown.params ? hf_action_json(j->portal, now ? now : &shown) : NULL);
		free(shown.params);
	}
	job_free(j);
}

/* An optional whole number within [1, max]; answers 400 and returns false otherwise. */
static bool take_seconds(struct hf_request *rq, json_t *body, const char *key, uint32_t max,
			 uint32_t *v)
{
	json_t *o = json_object_get(body, key);

	if (!o || json_is_null(o))
		return true;
	if (json_is_integer(o) && json_integer_value(o) >= 1 && json_integer_value(o) <= max) {
		*v = (uint32_t)json_integer_value(o);
		return true;
	}
	hf_reply_problem(rq->conn, 400, "invalid", "%s must be a number from 1 to %u", key, max);
	return false;
}

static bool take_key(struct hf_request *rq, struct hf_action_row *row)
{
	const char *key = hf_http_header(rq->msg, "Idempotency-Key");

	if (!key)
		return true;
	if (key[0] && strlen(key) < sizeof(row->idempotency) && hf_utf8_valid(key, strlen(key))) {
		(void)hf_strlcpy(row->idempotency, key, sizeof(row->idempotency));
		return true;
	}
	hf_reply_problem(rq->conn, 400, "invalid", "Idempotency-Key must be 1 to %u bytes",
			 HF_IDEMPOTENCY_MAX - 1);
	return false;
}

static bool take_params(struct hf_request *rq, json_t *body, const struct hf_action_kind *kind,
			struct hf_action_row *row)
{
	json_t *params = json_object_get(body, "params");
	json_t *component;

	if (params && !json_is_null(params) && !json_is_object(params)) {
		hf_reply_problem(rq->conn, 400, "invalid", "params must be an object");
		return false;
	}
	component = json_object_get(params, "component");
	if (kind->component && (!json_is_string(component) || !json_string_length(component))) {
		hf_reply_problem(rq->conn, 400, "invalid", "%s needs params {\"component\": NAME}",
				 kind->name);
		return false;
	}
	row->params = json_is_object(params) ? json_dumps(params, JSON_COMPACT) : strdup("{}");
	if (!row->params) {
		hf_reply_error(rq->conn, -ENOMEM, "queue the action");
		return false;
	}
	if (strlen(row->params) <= PARAMS_TEXT_MAX)
		return true;
	hf_reply_problem(rq->conn, 413, "too_large", "params are more than %u bytes",
			 PARAMS_TEXT_MAX);
	return false;
}

static bool read_request(struct hf_request *rq, json_t *body, struct hf_action_row *row)
{
	const char *name = json_string_value(json_object_get(body, "kind"));
	const struct hf_action_kind *kind = name ? hf_action_kind_find(name) : NULL;

	if (!kind) {
		hf_reply_problem(rq->conn, 400, "invalid", "kind is none of those known");
		return false;
	}
	(void)hf_strlcpy(row->kind, kind->name, sizeof(row->kind));
	row->ttl_s = kind->ttl_s;
	row->idle_limit_s = HF_ACTION_IDLE_LIMIT_S;
	row->hard_limit_s = kind->hard_limit_s;
	return take_key(rq, row) && take_params(rq, body, kind, row) &&
	       take_seconds(rq, body, "delivery_ttl_s", HF_ACTION_TTL_MAX_S, &row->ttl_s) &&
	       take_seconds(rq, body, "idle_limit_s", LIMIT_MAX_S, &row->idle_limit_s) &&
	       take_seconds(rq, body, "hard_limit_s", LIMIT_MAX_S, &row->hard_limit_s);
}

static struct hf_endpoint *find_endpoint(struct hf_portal *p, struct hf_request *rq)
{
	uint8_t id[HF_ID_SIZE];
	struct hf_endpoint *ep =
		hf_uuid_parse(rq->id, id) == 0 ? hf_registry_find(p->registry, id) : NULL;

	if (!ep)
		hf_reply_problem(rq->conn, 404, "not_found", "there is no such endpoint");
	return ep;
}

static bool may_add(struct hf_portal *p, struct hf_request *rq, const struct hf_endpoint *ep,
		    const struct hf_action_row *row)
{
	struct hf_action_row known = {};

	/* A repeated request is answered with the first action, however full the queue is. */
	if (row->idempotency[0] &&
	    hf_store_action_by_key(p->store, row->endpoint, row->idempotency, &known) == 0) {
		free(known.params);
		return true;
	}
	switch (hf_actions_may_add(p->actions, ep)) {
	case 0:
		break;
	case -EPERM:
		hf_reply_problem(rq->conn, 409, "revoked", "a revoked endpoint gets no action");
		return false;
	case -EDQUOT:
		hf_reply_problem_with(rq->conn, 429, "too_many", "Retry-After: 60\r\n",
				      "%u actions of this endpoint are not over yet",
				      HF_ACTIONS_PER_ENDPOINT);
		return false;
	default:
		hf_reply_error(rq->conn, -EBUSY, "queue the action");
		return false;
	}
	if (hf_actions_check(p->actions, row) == 0)
		return true;
	hf_reply_problem(rq->conn, 400, "invalid",
			 "params must be texts, numbers, true or false, or lists of them: at most "
			 "%u values, %u bytes each, %u in all",
			 HF_ACTION_PARAMS_MAX, HF_ACTION_PARAM_VALUE_MAX, HF_ACTION_PARAMS_BYTES);
	return false;
}

void hf_api_action_create(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_endpoint *ep = find_endpoint(p, rq);
	json_t *body = ep ? hf_api_body(rq) : NULL;
	struct action_job *j;
	int r;

	if (!body)
		return;
	j = calloc(1, sizeof(*j));
	if (!j) {
		hf_reply_error(rq->conn, -ENOMEM, "queue the action");
		json_decref(body);
		return;
	}
	j->portal = p;
	hf_uuid_v7(j->row.id);
	memcpy(j->row.endpoint, ep->row.id, HF_ID_SIZE);
	j->row.state = HF_ACTION_QUEUED;
	j->row.created_ns = j->row.changed_ns = hf_now_realtime_ns();
	(void)hf_strlcpy(j->row.actor, rq->who.name, sizeof(j->row.actor));
	if (!read_request(rq, body, &j->row)) {
		json_decref(body);
		job_free(j);
		return;
	}
	json_decref(body);
	j->row.expires_ns = j->row.created_ns + j->row.ttl_s * HF_NS_PER_S;
	if (!may_add(p, rq, ep, &j->row)) {
		job_free(j);
		return;
	}
	hf_api_audit_row(rq, "action.create", rq->id, &j->audit);
	(void)hf_strf(j->audit.detail, sizeof(j->audit.detail), "%s %.200s", j->row.kind,
		      j->row.params);
	for (size_t n = strlen(j->audit.detail); n > 0 && !hf_utf8_valid(j->audit.detail, n); n--)
		j->audit.detail[n - 1] = 0;
	j->conn = hf_conn_ref(rq->conn);
	r = hf_writer_submit(p->writer, run_create, done_create, j, sizeof(*j) + PARAMS_TEXT_MAX);
	if (r < 0) {
		hf_reply_error(rq->conn, r, "queue the action");
		job_free(j);
	}
}

/* ---- reading ---------------------------------------------------------------------------------- */

struct page {
	struct hf_portal *portal;
	json_t *items;
	unsigned limit, n;
	bool more;
	char next[HF_UUID_TEXT_SIZE];
};

static int add_action(const struct hf_action_row *row, void *arg)
{
	struct page *pg = arg;
	const struct hf_action_row *now;

	if (pg->n == pg->limit) {
		pg->more = true;
		return 0;
	}
	pg->n++;
	now = hf_actions_find(pg->portal->actions, row->endpoint, row->id);
	/* ENOMEM: the list is shorter, the reply fails then. */
	(void)json_array_append_new(pg->items, hf_action_json(pg->portal, now ? now : row));
	hf_uuid_format(row->id, pg->next);
	return 0;
}

static void list(struct hf_portal *p, struct hf_request *rq, const uint8_t *endpoint)
{
	struct hf_action_filter f = {.endpoint = endpoint};
	struct page pg = {.portal = p};
	uint8_t before[HF_ID_SIZE];
	char kind[16];
	int by_kind, cursor, r;

	by_kind = hf_api_query(rq, "kind", kind, sizeof(kind));
	if (by_kind < 0 || hf_api_limit(rq, &pg.limit) < 0)
		return;
	cursor = hf_api_query_id(rq, "after", before);
	if (cursor < 0)
		return;
	f.kind = by_kind ? kind : NULL;
	f.before = cursor ? before : NULL;
	f.limit = pg.limit + 1;
	pg.items = json_array();
	r = hf_store_actions(p->store, &f, add_action, &pg);
	if (r < 0) {
		json_decref(pg.items);
		hf_reply_error(rq->conn, r, "list actions");
		return;
	}
	hf_api_list(rq, pg.items, pg.more ? pg.next : NULL);
}

void hf_api_endpoint_actions(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_endpoint *ep = find_endpoint(p, rq);

	if (ep)
		list(p, rq, ep->row.id);
}

void hf_api_actions_list(struct hf_portal *p, struct hf_request *rq)
{
	uint8_t endpoint[HF_ID_SIZE];
	int r = hf_api_query_id(rq, "endpoint", endpoint);

	if (r >= 0)
		list(p, rq, r ? endpoint : NULL);
}

static int find_row(struct hf_portal *p, struct hf_request *rq, struct hf_action_row *ret)
{
	uint8_t id[HF_ID_SIZE];
	int r = hf_uuid_parse(rq->id, id) == 0 ? hf_store_action_get(p->store, id, ret) : -ENOENT;

	if (r == -ENOENT)
		hf_reply_problem(rq->conn, 404, "not_found", "there is no such action");
	else if (r < 0)
		hf_reply_error(rq->conn, r, "read the action");
	return r;
}

static int add_step(const struct hf_action_step *step, void *arg)
{
	json_t *list_of = arg;

	(void)json_array_append_new(list_of,
				    json_pack("{s:o, s:s, s:o}", "at", hf_json_time(step->at_ns),
					      "state", hf_action_state_name(step->state), "reason",
					      hf_json_string(step->reason)));
	return 0;
}

/* The whole of it: with result, history and archive. */
static void add_rest(struct hf_portal *p, const struct hf_action_row *row, json_t *o)
{
	_cleanup_free_ char *text = NULL;
	char digest[2 * HF_HASH_SIZE + 1], url[96], id[HF_UUID_TEXT_SIZE];
	json_t *history = json_array(), *result = NULL;
	size_t len;

	if (hf_store_action_result(p->store, row->id, &text, &len) == 0 && text)
		result = json_loadb(text, len, 0, NULL);
	(void)hf_store_action_history(p->store, row->id, add_step, history); /* partial on error */
	(void)json_object_set_new(o, "result", result ? result : json_null());
	(void)json_object_set_new(o, "history", history);
	if (!row->artifact_bytes) {
		(void)json_object_set_new(o, "artifact", json_null());
		return;
	}
	hf_uuid_format(row->id, id);
	hf_hex_encode(digest, row->artifact_sha256, HF_HASH_SIZE);
	(void)hf_strf(url, sizeof(url), "/api/v1/actions/%s/artifact", id);
	(void)json_object_set_new(o, "artifact",
				  json_pack("{s:I, s:s, s:s}", "bytes",
					    (json_int_t)row->artifact_bytes, "sha256", digest,
					    "url", url));
}

static void reply_whole(struct hf_portal *p, struct hf_conn *conn, const struct hf_action_row *row)
{
	const struct hf_action_row *now = hf_actions_find(p->actions, row->endpoint, row->id);
	json_t *o;

	if (now)
		row = now;
	o = hf_action_json(p, row);
	if (o)
		add_rest(p, row, o);
	hf_reply_json(conn, 200, o);
}

void hf_api_action_get(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_action_row row = {};

	if (find_row(p, rq, &row) < 0)
		return;
	reply_whole(p, rq->conn, &row);
	free(row.params);
}

void hf_api_action_artifact(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_action_row row = {};
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *data = NULL;
	char headers[128];
	struct stat st;

	if (find_row(p, rq, &row) < 0)
		return;
	free(row.params);
	fd = row.artifact_bytes ? hf_artifact_read(p, row.id) : -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > (off_t)HF_ACTION_ARTIFACT_MAX) {
		hf_reply_problem(rq->conn, 404, "not_found", "this action has no archive");
		return;
	}
	data = malloc(st.st_size ? (size_t)st.st_size : 1);
	if (!data || hf_read_full(fd, data, (size_t)st.st_size) != st.st_size) {
		hf_reply_error(rq->conn, data ? -EIO : -ENOMEM, "read the archive");
		return;
	}
	(void)hf_strf(headers, sizeof(headers),
		      "Content-Disposition: attachment; filename=\"holdfast-%.36s.tar.gz\"\r\n",
		      rq->id);
	hf_conn_reply(rq->conn, &(struct hf_reply){.status = 200,
						   .type = "application/gzip",
						   .body = data,
						   .len = (size_t)st.st_size,
						   .headers = headers});
}

/* ---- cancelling ------------------------------------------------------------------------------- */

static int run_audit(struct hf_store *s, void *arg)
{
	const struct action_job *j = arg;

	return hf_store_audit_insert(s, &j->audit);
}

static void done_cancel(int r, void *arg)
{
	struct action_job *j = arg;

	if (r < 0) {
		hf_reply_error(j->conn, r, "cancel the action");
	} else if (!hf_actions_cancel(j->portal->actions, j->row.endpoint, j->row.id)) {
		hf_reply_problem(j->conn, 409, "over", "the action is over");
	} else {
		const struct hf_action_row *now =
			hf_actions_find(j->portal->actions, j->row.endpoint, j->row.id);

		hf_notice("%s: action '%s' cancelled", j->audit.actor, j->audit.object);
		if (!now) {
			/* Not yet in the database, but decided. */
			j->row.state = HF_ACTION_CANCELLED;
			(void)hf_strlcpy(j->row.reason, "", sizeof(j->row.reason));
		}
		hf_reply_json(j->conn, 202, hf_action_json(j->portal, now ? now : &j->row));
	}
	job_free(j);
}

void hf_api_action_cancel(struct hf_portal *p, struct hf_request *rq)
{
	struct action_job *j = calloc(1, sizeof(*j));
	int r;

	if (!j) {
		hf_reply_error(rq->conn, -ENOMEM, "cancel the action");
		return;
	}
	if (find_row(p, rq, &j->row) < 0) {
		free(j);
		return;
	}
	j->portal = p;
	hf_api_audit_row(rq, "action.cancel", rq->id, &j->audit);
	(void)hf_strlcpy(j->audit.detail, j->row.kind, sizeof(j->audit.detail));
	j->conn = hf_conn_ref(rq->conn);
	r = hf_writer_submit(p->writer, run_audit, done_cancel, j, sizeof(*j));
	if (r < 0) {
		hf_reply_error(rq->conn, r, "cancel the action");
		job_free(j);
	}
}

/* ---- the key ---------------------------------------------------------------------------------- */

static json_t *key_json(struct hf_portal *p)
{
	const struct hf_action_key *k = hf_actions_key(p->actions);
	char id[17];

	hf_action_key_id(k, id);
	return json_pack("{s:s, s:o, s:i}", "id", id, "created",
			 hf_json_time(hf_action_key_created_ns(k)), "keys",
			 (int)hf_action_key_count(k));
}

void hf_api_action_key_get(struct hf_portal *p, struct hf_request *rq)
{
	hf_reply_json(rq->conn, 200, key_json(p));
}

static void done_rotate(int r, void *arg)
{
	struct action_job *j = arg;
	struct hf_err err = {};

	if (r == 0)
		r = hf_actions_rotate(j->portal->actions, &err);
	if (r < 0) {
		if (err.msg[0])
			hf_error("%s", err.msg);
		hf_reply_error(j->conn, r, "rotate the action key");
	} else {
		hf_notice("%s: action key rotated", j->audit.actor);
		hf_reply_json(j->conn, 200, key_json(j->portal));
	}
	job_free(j);
}

void hf_api_action_key_rotate(struct hf_portal *p, struct hf_request *rq)
{
	struct action_job *j = calloc(1, sizeof(*j));
	int r = -ENOMEM;

	if (j) {
		j->portal = p;
		hf_api_audit_row(rq, "action_key.rotate", "", &j->audit);
		j->conn = hf_conn_ref(rq->conn);
		r = hf_writer_submit(p->writer, run_audit, done_rotate, j, sizeof(*j));
	}
	if (r < 0) {
		hf_reply_error(rq->conn, r, "rotate the action key");
		if (j)
			job_free(j);
	}
}
