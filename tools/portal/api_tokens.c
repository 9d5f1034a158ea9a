/* SPDX-License-Identifier: Apache-2.0 */
/* /tokens: enrolment tokens. The secret is shown once, in the answer that makes it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/token.h"
#include "tools/portal/writer.h"
#include "userspace/proto/event_json.h"

struct token_job {
	struct hf_conn *conn;
	struct hf_token_row row;
	char text[HF_SECRET_TEXT_MAX];
	struct hf_audit_row audit;
};

static void job_free(struct token_job *j)
{
	(void)hf_conn_unref(j->conn);
	hf_wipe(j, sizeof(*j));
	free(j);
}

static json_t *token_json(const struct hf_token_row *t)
{
	struct hf_secret none = {};
	const char *state;

	memcpy(none.hash, t->secret_hash, HF_HASH_SIZE);
	switch (hf_token_judge(t, &none, hf_now_realtime_ns())) {
	case HF_TOKEN_REVOKED:
		state = "revoked";
		break;
	case HF_TOKEN_EXPIRED:
		state = "expired";
		break;
	case HF_TOKEN_EXHAUSTED:
		state = "exhausted";
		break;
	default:
		state = "valid";
		break;
	}
	return json_pack("{s:s, s:o, s:s, s:o, s:o, s:I, s:I, s:o, s:b, s:o, s:o, s:o}", "id",
			 t->id, "name", hf_json_string(t->name), "state", state, "created",
			 hf_json_time(t->created_ns), "expires_at", hf_json_time(t->expires_ns),
			 "max_uses", (json_int_t)t->max_uses, "used", (json_int_t)t->used, "group",
			 hf_json_string(t->group), "pre_authorize", t->pre_authorize, "created_by",
			 hf_json_string(t->creator), "last_used", hf_json_time(t->last_used_ns),
			 "revoked_at", hf_json_time(t->revoked_ns));
}

static int run_create(struct hf_store *s, void *arg)
{
	struct token_job *j = arg;
	int r = hf_store_token_insert(s, &j->row);

	return r < 0 ? r : hf_store_audit_insert(s, &j->audit);
}

static void done_create(int r, void *arg)
{
	struct token_job *j = arg;
	json_t *o;

	if (r < 0) {
		hf_reply_error(j->conn, r, "create a token");
	} else {
		hf_notice("%s: enrolment token '%s' made", j->audit.actor, j->row.name);
		o = token_json(&j->row);
		if (o && json_object_set_new(o, "token", json_string(j->text)) < 0) {
			json_decref(o);
			o = NULL;
		}
		hf_reply_json(j->conn, 201, o);
	}
	job_free(j);
}

/* An optional number of the body; answers 400 and returns false when it is something else. */
static bool take_number(struct hf_request *rq, json_t *body, const char *key, uint64_t *v)
{
	json_t *o = json_object_get(body, key);

	if (!o || json_is_null(o))
		return true;
	if (json_is_integer(o) && json_integer_value(o) >= 0) {
		*v = (uint64_t)json_integer_value(o);
		return true;
	}
	hf_reply_problem(rq->conn, 400, "invalid", "%s must be a number that is not negative", key);
	return false;
}

static bool take_string(struct hf_request *rq, json_t *body, const char *key, const char **v)
{
	json_t *o = json_object_get(body, key);

	if (!o || json_is_null(o))
		return true;
	if (json_is_string(o) && strlen(json_string_value(o)) == json_string_length(o)) {
		*v = json_string_value(o);
		return true;
	}
	hf_reply_problem(rq->conn, 400, "invalid", "%s must be a text", key);
	return false;
}

static bool read_request(struct hf_request *rq, json_t *body, struct hf_token_request *t)
{
	json_t *pre = json_object_get(body, "pre_authorize");

	*t = (struct hf_token_request){
		.name = "", .group = "", .creator = rq->who.name, .ttl_s = HF_TOKEN_TTL_DEFAULT_S};
	if (!take_string(rq, body, "name", &t->name) ||
	    !take_string(rq, body, "group", &t->group) ||
	    !take_number(rq, body, "ttl_s", &t->ttl_s) ||
	    !take_number(rq, body, "max_uses", &t->max_uses))
		return false;
	if (pre && !json_is_null(pre) && !json_is_boolean(pre)) {
		hf_reply_problem(rq->conn, 400, "invalid", "pre_authorize must be true or false");
		return false;
	}
	t->pre_authorize = json_is_true(pre);
	return true;
}

void hf_api_tokens_create(struct hf_portal *p, struct hf_request *rq)
{
	json_t *body = hf_api_body(rq);
	struct hf_token_request t;
	struct token_job *j;
	int r;

	if (!body)
		return;
	j = calloc(1, sizeof(*j));
	if (!j || !read_request(rq, body, &t)) {
		if (!j)
			hf_reply_error(rq->conn, -ENOMEM, "create a token");
		free(j);
		json_decref(body);
		return;
	}
	r = hf_token_make(&t, hf_now_realtime_ns(), &j->row, j->text);
	if (r == 0) {
		hf_api_audit_row(rq, "token.create", j->row.id, &j->audit);
		(void)hf_strf(j->audit.detail, sizeof(j->audit.detail), "'%s', %llu s, %llu uses%s",
			      t.name, (unsigned long long)t.ttl_s, (unsigned long long)t.max_uses,
			      t.pre_authorize ? ", pre-authorized" : "");
		j->conn = hf_conn_ref(rq->conn);
		r = hf_writer_submit(p->writer, run_create, done_create, j, sizeof(*j));
	}
	json_decref(body);
	if (r == -EINVAL)
		hf_reply_problem(rq->conn, 400, "invalid",
				 "ttl_s must be 1 to %u, max_uses at most %u, name and group "
				 "short texts",
				 HF_TOKEN_TTL_MAX_S, HF_TOKEN_USES_MAX);
	else if (r < 0)
		hf_reply_error(rq->conn, r, "create a token");
	if (r < 0)
		job_free(j);
}

void hf_api_tokens_list(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_token_row *rows;
	char after[17] = "";
	unsigned limit;
	json_t *items;
	int n;

	if (hf_api_limit(rq, &limit) < 0 || hf_api_query(rq, "after", after, sizeof(after)) < 0)
		return;
	rows = calloc(limit + 1, sizeof(*rows));
	n = rows ? hf_store_tokens(p->store, after, rows, limit + 1) : -ENOMEM;
	if (n < 0) {
		hf_reply_error(rq->conn, n, "list tokens");
		free(rows);
		return;
	}
	items = json_array();
	for (unsigned i = 0; i < (unsigned)n && i < limit; i++)
		(void)json_array_append_new(items, token_json(&rows[i])); /* ENOMEM: shorter */
	hf_api_list(rq, items, (unsigned)n > limit ? rows[limit - 1].id : NULL);
	free(rows);
}

static int run_revoke(struct hf_store *s, void *arg)
{
	struct token_job *j = arg;
	int r = hf_store_token_revoke(s, j->row.id, j->audit.at_ns);

	return r < 0 ? r : hf_store_audit_insert(s, &j->audit);
}

static void done_revoke(int r, void *arg)
{
	struct token_job *j = arg;

	if (r < 0) {
		hf_reply_error(j->conn, r, "revoke the token");
	} else {
		hf_notice("%s: enrolment token '%s' revoked", j->audit.actor, j->row.id);
		hf_reply_empty(j->conn, 204);
	}
	job_free(j);
}

void hf_api_token_revoke(struct hf_portal *p, struct hf_request *rq)
{
	struct token_job *j = calloc(1, sizeof(*j));
	int r = -ENOMEM;

	if (j) {
		if (!hf_strlcpy(j->row.id, rq->id, sizeof(j->row.id)))
			j->row.id[0] = '\0'; /* too long to be one: not found */
		hf_api_audit_row(rq, "token.revoke", j->row.id, &j->audit);
		j->conn = hf_conn_ref(rq->conn);
		r = hf_writer_submit(p->writer, run_revoke, done_revoke, j, sizeof(*j));
	}
	if (r < 0) {
		hf_reply_error(rq->conn, r, "revoke the token");
		if (j)
			job_free(j);
	}
}
