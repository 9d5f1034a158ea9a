/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of enrolment tokens and API tokens. */
#include "tools/portal/store_internal.h"

#include <errno.h>

#include "base/str.h"

#define COLUMNS                                                                             \
	"id, name, secret_hash, created, expires, revoked, last_used, max_uses, used, grp," \
	" creator, pre_authorize"

static void read_row(sqlite3_stmt *st, struct hf_token_row *row)
{
	int c = 0;

	*row = (struct hf_token_row){};
	hf_store_text(st, c++, row->id, sizeof(row->id));
	hf_store_text(st, c++, row->name, sizeof(row->name));
	(void)hf_store_blob(st, c++, row->secret_hash, sizeof(row->secret_hash));
	row->created_ns = hf_store_u64(st, c++);
	row->expires_ns = hf_store_u64(st, c++);
	row->revoked_ns = hf_store_u64(st, c++);
	row->last_used_ns = hf_store_u64(st, c++);
	row->max_uses = hf_store_u64(st, c++);
	row->used = hf_store_u64(st, c++);
	hf_store_text(st, c++, row->group, sizeof(row->group));
	hf_store_text(st, c++, row->creator, sizeof(row->creator));
	row->pre_authorize = hf_store_u64(st, c++) != 0;
}

int hf_store_token_insert(struct hf_store *s, const struct hf_token_row *row)
{
	int r = hf_store_exec(s, "INSERT INTO tokens(" COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
			      "ttbiiiiiitti", row->id, row->name, row->secret_hash,
			      sizeof(row->secret_hash), row->created_ns, row->expires_ns,
			      row->revoked_ns, row->last_used_ns, row->max_uses, row->used,
			      row->group, row->creator, (uint64_t)row->pre_authorize);

	return r < 0 ? r : 0;
}

int hf_store_token_get(struct hf_store *s, const char *id, struct hf_token_row *ret)
{
	sqlite3_stmt *st = hf_store_query(s, "SELECT " COLUMNS " FROM tokens WHERE id=?", "t", id);
	int r = hf_store_step(s, st);

	if (r > 0)
		read_row(st, ret);
	hf_store_end(st);
	return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

int hf_store_token_revoke(struct hf_store *s, const char *id, uint64_t now_ns)
{
	int r = hf_store_exec(
		s,
		"UPDATE tokens SET revoked=CASE WHEN revoked=0 THEN ? ELSE revoked END"
		" WHERE id=?",
		"it", now_ns, id);

	return r < 0 ? r : r == 0 ? -ENOENT : 0;
}

int hf_store_token_reserve(struct hf_store *s, const char *id, uint64_t now_ns)
{
	int r = hf_store_exec(s,
			      "UPDATE tokens SET used=used+1, last_used=? WHERE id=? AND revoked=0"
			      " AND expires>? AND (max_uses=0 OR used<max_uses)",
			      "iti", now_ns, id, now_ns);

	return r < 0 ? r : r == 0 ? -EDQUOT : 0;
}

int hf_store_token_release(struct hf_store *s, const char *id)
{
	int r = hf_store_exec(s, "UPDATE tokens SET used=used-1 WHERE id=? AND used>0", "t", id);

	return r < 0 ? r : 0;
}

int hf_store_token_has_unproven(struct hf_store *s, const char *id, bool *ret)
{
	sqlite3_stmt *st = hf_store_query(s,
					  "SELECT 1 FROM endpoints WHERE token_id=?"
					  " AND credential_seen=0 AND deleted IS NULL LIMIT 1",
					  "t", id);
	int r = hf_store_step(s, st);

	hf_store_end(st);
	if (r < 0)
		return r;
	*ret = r > 0;
	return 0;
}

int hf_store_tokens(struct hf_store *s, const char *before, struct hf_token_row *ret, size_t max)
{
	/* Ids begin with the creation time: newest first is id order. */
	sqlite3_stmt *st = hf_store_query(s,
					  "SELECT " COLUMNS " FROM tokens WHERE (?1='' OR id<?1)"
					  " ORDER BY id DESC LIMIT ?2",
					  "ti", before, (uint64_t)max);
	size_t n = 0;
	int r;

	while ((r = hf_store_step(s, st)) > 0 && n < max)
		read_row(st, &ret[n++]);
	hf_store_end(st);
	return r < 0 ? r : (int)n;
}

int hf_store_api_token_insert(struct hf_store *s, const struct hf_api_token_row *row)
{
	int r = hf_store_exec(
		s,
		"INSERT INTO api_tokens(id, name, role, secret_hash, created, revoked)"
		" VALUES(?,?,?,?,?,?)",
		"tttbii", row->id, row->name, row->role, row->secret_hash, sizeof(row->secret_hash),
		row->created_ns, row->revoked_ns);

	return r < 0 ? r : 0;
}

int hf_store_api_token_revoke(struct hf_store *s, const char *id, uint64_t now_ns)
{
	int r = hf_store_exec(
		s,
		"UPDATE api_tokens SET revoked=CASE WHEN revoked=0 THEN ? ELSE revoked END"
		" WHERE id=?",
		"it", now_ns, id);

	return r < 0 ? r : r == 0 ? -ENOENT : 0;
}

int hf_store_api_token_get(struct hf_store *s, const char *id, struct hf_api_token_row *ret)
{
	sqlite3_stmt *st = hf_store_query(s,
					  "SELECT id, name, role, secret_hash, created, revoked"
					  " FROM api_tokens WHERE id=?",
					  "t", id);
	int r = hf_store_step(s, st);

	if (r > 0) {
		*ret = (struct hf_api_token_row){};
		hf_store_text(st, 0, ret->id, sizeof(ret->id));
		hf_store_text(st, 1, ret->name, sizeof(ret->name));
		hf_store_text(st, 2, ret->role, sizeof(ret->role));
		(void)hf_store_blob(st, 3, ret->secret_hash, sizeof(ret->secret_hash));
		ret->created_ns = hf_store_u64(st, 4);
		ret->revoked_ns = hf_store_u64(st, 5);
	}
	hf_store_end(st);
	return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}
