/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of actions and of their history. */
#include "tools/portal/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "holdfast/action.h"

#define COLUMNS                                                                                 \
	"id, endpoint, kind, params, state, reason, text, percent, idle_limit_s, hard_limit_s," \
	" ttl_s, created, expires, started, finished, changed, actor, idempotency, cancel,"     \
	" inferred, artifact_bytes, artifact_sha256"

/* params is borrowed from the statement. */
static void read_row(sqlite3_stmt *st, struct hf_action_row *row)
{
	int c = 0;

	*row = (struct hf_action_row){};
	(void)hf_store_blob(st, c++, row->id, sizeof(row->id));
	(void)hf_store_blob(st, c++, row->endpoint, sizeof(row->endpoint));
	hf_store_text(st, c++, row->kind, sizeof(row->kind));
	row->params = (char *)sqlite3_column_text(st, c++);
	row->state = (unsigned)hf_store_u64(st, c++);
	hf_store_text(st, c++, row->reason, sizeof(row->reason));
	hf_store_text(st, c++, row->text, sizeof(row->text));
	row->percent = (uint32_t)hf_store_u64(st, c++);
	row->idle_limit_s = (uint32_t)hf_store_u64(st, c++);
	row->hard_limit_s = (uint32_t)hf_store_u64(st, c++);
	row->ttl_s = (uint32_t)hf_store_u64(st, c++);
	row->created_ns = hf_store_u64(st, c++);
	row->expires_ns = hf_store_u64(st, c++);
	row->started_ns = hf_store_u64(st, c++);
	row->finished_ns = hf_store_u64(st, c++);
	row->changed_ns = hf_store_u64(st, c++);
	hf_store_text(st, c++, row->actor, sizeof(row->actor));
	hf_store_text(st, c++, row->idempotency, sizeof(row->idempotency));
	row->cancel = hf_store_u64(st, c++) != 0;
	row->inferred = hf_store_u64(st, c++) != 0;
	row->artifact_bytes = hf_store_u64(st, c++);
	(void)hf_store_blob(st, c++, row->artifact_sha256, sizeof(row->artifact_sha256));
}

static int write_history(struct hf_store *s, const struct hf_action_row *row)
{
	int r = hf_store_exec(s,
			      "INSERT INTO action_history(action, at, state, reason)"
			      " VALUES(?,?,?,?)",
			      "biit", row->id, sizeof(row->id), row->changed_ns,
			      (uint64_t)row->state, row->reason);

	return r < 0 ? r : 0;
}

int hf_store_action_insert(struct hf_store *s, const struct hf_action_row *row)
{
	int r = hf_store_exec(s,
			      "INSERT INTO actions(" COLUMNS ", over)"
			      " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,0)",
			      "bbttittiiiiiiiiittiiib", row->id, sizeof(row->id), row->endpoint,
			      sizeof(row->endpoint), row->kind, row->params, (uint64_t)row->state,
			      row->reason, row->text, (uint64_t)row->percent,
			      (uint64_t)row->idle_limit_s, (uint64_t)row->hard_limit_s,
			      (uint64_t)row->ttl_s, row->created_ns, row->expires_ns,
			      row->started_ns, row->finished_ns, row->changed_ns, row->actor,
			      row->idempotency, (uint64_t)row->cancel, (uint64_t)row->inferred,
			      row->artifact_bytes, row->artifact_sha256,
			      sizeof(row->artifact_sha256));

	return r < 0 ? r : write_history(s, row);
}

int hf_store_action_update(struct hf_store *s, const struct hf_action_row *row, bool history,
			   const void *result, size_t result_len)
{
	int r = hf_store_exec(
		s,
		"UPDATE actions SET state=?, over=?, reason=?, text=?, percent=?, started=?,"
		" finished=?, changed=?, cancel=?, inferred=?, artifact_bytes=?,"
		" artifact_sha256=?, result=coalesce(?, result) WHERE id=?",
		"iittiiiiiiibbb", (uint64_t)row->state, (uint64_t)hf_action_state_final(row->state),
		row->reason, row->text, (uint64_t)row->percent, row->started_ns, row->finished_ns,
		row->changed_ns, (uint64_t)row->cancel, (uint64_t)row->inferred,
		row->artifact_bytes, row->artifact_sha256, sizeof(row->artifact_sha256), result,
		result_len, row->id, sizeof(row->id));

	if (r < 0)
		return r;
	if (r == 0)
		return -ENOENT;
	return history ? write_history(s, row) : 0;
}

static int take_one(struct hf_store *s, sqlite3_stmt *st, struct hf_action_row *ret)
{
	struct hf_action_row row;
	int r = hf_store_step(s, st);

	if (r > 0) {
		read_row(st, &row);
		row.params = strdup(row.params ? row.params : "{}");
		if (row.params)
			*ret = row;
		r = row.params ? 0 : -ENOMEM;
	} else if (r == 0) {
		r = -ENOENT;
	}
	hf_store_end(st);
	return r;
}

int hf_store_action_get(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			struct hf_action_row *ret)
{
	return take_one(s,
			hf_store_query(s, "SELECT " COLUMNS " FROM actions WHERE id=?", "b", id,
				       (size_t)HF_ID_SIZE),
			ret);
}

int hf_store_action_by_key(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			   const char *idempotency, struct hf_action_row *ret)
{
	return take_one(s,
			hf_store_query(s,
				       "SELECT " COLUMNS " FROM actions WHERE endpoint=?"
				       " AND idempotency=? AND idempotency<>''",
				       "bt", endpoint, (size_t)HF_ID_SIZE, idempotency),
			ret);
}

int hf_store_action_result(struct hf_store *s, const uint8_t id[static HF_ID_SIZE], char **ret,
			   size_t *ret_len)
{
	sqlite3_stmt *st = hf_store_query(s, "SELECT result FROM actions WHERE id=?", "b", id,
					  (size_t)HF_ID_SIZE);
	int r = hf_store_step(s, st);
	const void *p;
	size_t len;

	*ret = NULL;
	*ret_len = 0;
	if (r > 0) {
		p = sqlite3_column_blob(st, 0);
		len = (size_t)sqlite3_column_bytes(st, 0);
		r = 0;
		if (p && len) {
			*ret = malloc(len + 1);
			if (*ret) {
				memcpy(*ret, p, len);
				(*ret)[len] = '\0';
				*ret_len = len;
			} else {
				r = -ENOMEM;
			}
		}
	} else if (r == 0) {
		r = -ENOENT;
	}
	hf_store_end(st);
	return r;
}

int hf_store_actions(struct hf_store *s, const struct hf_action_filter *f,
		     int (*fn)(const struct hf_action_row *row, void *arg), void *arg)
{
	struct hf_action_row row;
	sqlite3_stmt *st;
	int r;

	if (f->active)
		st = hf_store_query(s, "SELECT " COLUMNS " FROM actions WHERE over=0 ORDER BY id",
				    "");
	else if (f->endpoint)
		st = hf_store_query(s,
				    "SELECT " COLUMNS " FROM actions WHERE endpoint=?1"
				    " AND (?2 IS NULL OR id<?2) AND (?3 IS NULL OR kind=?3)"
				    " ORDER BY id DESC LIMIT ?4",
				    "bbti", f->endpoint, (size_t)HF_ID_SIZE, f->before,
				    (size_t)HF_ID_SIZE, f->kind, (uint64_t)f->limit);
	else
		st = hf_store_query(s,
				    "SELECT " COLUMNS " FROM actions WHERE (?1 IS NULL OR id<?1)"
				    " AND (?2 IS NULL OR kind=?2) ORDER BY id DESC LIMIT ?3",
				    "bti", f->before, (size_t)HF_ID_SIZE, f->kind,
				    (uint64_t)f->limit);
	while ((r = hf_store_step(s, st)) > 0) {
		read_row(st, &row);
		r = fn(&row, arg);
		if (r < 0)
			break;
	}
	hf_store_end(st);
	return r;
}

int hf_store_action_history(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			    int (*fn)(const struct hf_action_step *step, void *arg), void *arg)
{
	sqlite3_stmt *st = hf_store_query(s,
					  "SELECT at, state, reason FROM action_history"
					  " WHERE action=? ORDER BY rowid",
					  "b", id, (size_t)HF_ID_SIZE);
	struct hf_action_step step;
	int r;

	while ((r = hf_store_step(s, st)) > 0) {
		step.at_ns = hf_store_u64(st, 0);
		step.state = (unsigned)hf_store_u64(st, 1);
		hf_store_text(st, 2, step.reason, sizeof(step.reason));
		r = fn(&step, arg);
		if (r < 0)
			break;
	}
	hf_store_end(st);
	return r;
}
