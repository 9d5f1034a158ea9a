/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of endpoints and of their status transitions. */
#include "tools/portal/store_internal.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/str.h"

static const char *const authorization_names[] = {
	[HF_AUTH_PENDING] = "pending",
	[HF_AUTH_AUTHORIZED] = "authorized",
	[HF_AUTH_SUSPENDED] = "suspended",
	[HF_AUTH_REVOKED] = "revoked",
};

_Static_assert(HF_ARRAY_SIZE(authorization_names) == _HF_AUTH_MAX,
	       "every authorization has a name");

const char *hf_authorization_name(enum hf_authorization a)
{
	hf_assert(a < _HF_AUTH_MAX);
	return authorization_names[a];
}

int hf_authorization_from_name(const char *name)
{
	for (unsigned a = 0; a < _HF_AUTH_MAX; a++) {
		if (hf_streq(authorization_names[a], name))
			return (int)a;
	}
	return -EINVAL;
}

/* Addresses are kept as one comma-separated text: they are shown, never searched. */
static void join_addresses(const struct hf_endpoint_row *row, char *dst, size_t size)
{
	size_t len = 0;

	dst[0] = '\0';
	for (unsigned i = 0; i < HF_ENDPOINT_ADDRESSES && row->addresses[i][0]; i++) {
		(void)hf_strf(dst + len, size - len, "%s%s", i ? "," : "", row->addresses[i]);
		len += strlen(dst + len);
	}
}

static void split_addresses(struct hf_endpoint_row *row, const char *text)
{
	unsigned n = 0;

	while (*text && n < HF_ENDPOINT_ADDRESSES) {
		size_t len = strcspn(text, ",");

		if (len > 0 && len < sizeof(row->addresses[0])) {
			memcpy(row->addresses[n], text, len);
			row->addresses[n++][len] = '\0';
		}
		text += len + (text[len] == ',');
	}
}

#define COLUMNS                                                                                     \
	"id, instance_uid, authorization, authorization_changed, authorization_by, name,"           \
	" hostname, environment, grp, version, os, arch, distro, kernel, kernel_assist, addresses," \
	" key_hash, bearer_hash, credential_seen, token_id, machine_id_hash, boot_id, epoch,"       \
	" clock_offset_ms, cert_expires, created, last_seen, status, reason, status_since"

#define ADDRESSES_TEXT \
	(HF_ENDPOINT_ADDRESSES * (sizeof(((struct hf_endpoint_row *)0)->addresses[0]) + 1))

static void read_row(sqlite3_stmt *st, struct hf_endpoint_row *row)
{
	char addresses[ADDRESSES_TEXT];
	uint64_t authorization;
	int c = 0;

	*row = (struct hf_endpoint_row){};
	(void)hf_store_blob(st, c++, row->id, sizeof(row->id));
	(void)hf_store_blob(st, c++, row->instance_uid, sizeof(row->instance_uid));
	authorization = hf_store_u64(st, c++);
	/* A value that is not ours must not admit anybody. */
	row->authorization = authorization < _HF_AUTH_MAX ? (enum hf_authorization)authorization
							  : HF_AUTH_SUSPENDED;
	row->authorization_changed_ns = hf_store_u64(st, c++);
	hf_store_text(st, c++, row->authorization_by, sizeof(row->authorization_by));
	hf_store_text(st, c++, row->name, sizeof(row->name));
	hf_store_text(st, c++, row->hostname, sizeof(row->hostname));
	hf_store_text(st, c++, row->environment, sizeof(row->environment));
	hf_store_text(st, c++, row->group, sizeof(row->group));
	hf_store_text(st, c++, row->version, sizeof(row->version));
	hf_store_text(st, c++, row->os, sizeof(row->os));
	hf_store_text(st, c++, row->arch, sizeof(row->arch));
	hf_store_text(st, c++, row->distro, sizeof(row->distro));
	hf_store_text(st, c++, row->kernel, sizeof(row->kernel));
	hf_store_text(st, c++, row->kernel_assist, sizeof(row->kernel_assist));
	hf_store_text(st, c++, addresses, sizeof(addresses));
	split_addresses(row, addresses);
	row->has_key = hf_store_blob(st, c++, row->key_hash, sizeof(row->key_hash));
	row->has_bearer = hf_store_blob(st, c++, row->bearer_hash, sizeof(row->bearer_hash));
	row->credential_seen = hf_store_u64(st, c++) != 0;
	hf_store_text(st, c++, row->token_id, sizeof(row->token_id));
	(void)hf_store_blob(st, c++, row->machine_id_hash, sizeof(row->machine_id_hash));
	(void)hf_store_blob(st, c++, row->boot_id, sizeof(row->boot_id));
	row->epoch = hf_store_u64(st, c++);
	row->clock_offset_ms = (int64_t)hf_store_u64(st, c++);
	row->cert_expires_ns = hf_store_u64(st, c++);
	row->created_ns = hf_store_u64(st, c++);
	row->last_seen_ns = hf_store_u64(st, c++);
	hf_store_text(st, c++, row->status, sizeof(row->status));
	hf_store_text(st, c++, row->reason, sizeof(row->reason));
	row->status_since_ns = hf_store_u64(st, c++);
}

int hf_store_endpoint_insert(struct hf_store *s, const struct hf_endpoint_row *row)
{
	char addresses[ADDRESSES_TEXT];
	int r;

	join_addresses(row, addresses, sizeof(addresses));
	r = hf_store_exec(s,
			  "INSERT INTO endpoints(" COLUMNS ")"
			  " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
			  "bbiitttttttttttt"
			  "bbitbbiiiiitti",
			  row->id, sizeof(row->id), row->instance_uid, sizeof(row->instance_uid),
			  (uint64_t)row->authorization, row->authorization_changed_ns,
			  row->authorization_by, row->name, row->hostname, row->environment,
			  row->group, row->version, row->os, row->arch, row->distro, row->kernel,
			  row->kernel_assist, addresses, row->has_key ? row->key_hash : NULL,
			  sizeof(row->key_hash), row->has_bearer ? row->bearer_hash : NULL,
			  sizeof(row->bearer_hash), (uint64_t)row->credential_seen, row->token_id,
			  row->machine_id_hash, sizeof(row->machine_id_hash), row->boot_id,
			  sizeof(row->boot_id), row->epoch, (uint64_t)row->clock_offset_ms,
			  row->cert_expires_ns, row->created_ns, row->last_seen_ns, row->status,
			  row->reason, row->status_since_ns);
	return r < 0 ? r : 0;
}

int hf_store_endpoint_update(struct hf_store *s, const struct hf_endpoint_row *row)
{
	char addresses[ADDRESSES_TEXT];
	int r;

	join_addresses(row, addresses, sizeof(addresses));
	r = hf_store_exec(
		s,
		"UPDATE endpoints SET instance_uid=?, authorization=?, authorization_changed=?,"
		" authorization_by=?, name=?, hostname=?, environment=?, grp=?, version=?, os=?,"
		" arch=?, distro=?, kernel=?, kernel_assist=?, addresses=?, machine_id_hash=?,"
		" boot_id=?, epoch=?, clock_offset_ms=?, last_seen=?, status=?, reason=?,"
		" status_since=? WHERE id=? AND deleted IS NULL",
		"biittttttttttttbbiiittib", row->instance_uid, sizeof(row->instance_uid),
		(uint64_t)row->authorization, row->authorization_changed_ns, row->authorization_by,
		row->name, row->hostname, row->environment, row->group, row->version, row->os,
		row->arch, row->distro, row->kernel, row->kernel_assist, addresses,
		row->machine_id_hash, sizeof(row->machine_id_hash), row->boot_id,
		sizeof(row->boot_id), row->epoch, (uint64_t)row->clock_offset_ms, row->last_seen_ns,
		row->status, row->reason, row->status_since_ns, row->id, sizeof(row->id));
	return r < 0 ? r : r == 0 ? -ENOENT : 0;
}

static int read_one(struct hf_store *s, sqlite3_stmt *st, struct hf_endpoint_row *ret)
{
	int r = hf_store_step(s, st);

	if (r > 0)
		read_row(st, ret);
	hf_store_end(st);
	return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

int hf_store_endpoint_get(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			  struct hf_endpoint_row *ret)
{
	return read_one(s,
			hf_store_query(s,
				       "SELECT " COLUMNS
				       " FROM endpoints WHERE id=? AND deleted IS NULL",
				       "b", id, (size_t)HF_ID_SIZE),
			ret);
}

int hf_store_endpoint_by_key(struct hf_store *s, const uint8_t hash[static HF_HASH_SIZE],
			     struct hf_endpoint_row *ret)
{
	return read_one(s,
			hf_store_query(s,
				       "SELECT " COLUMNS
				       " FROM endpoints WHERE key_hash=? AND deleted IS NULL",
				       "b", hash, (size_t)HF_HASH_SIZE),
			ret);
}

int hf_store_endpoint_by_token(struct hf_store *s, const char *token_id,
			       const uint8_t uid[static HF_ID_SIZE], struct hf_endpoint_row *ret)
{
	return read_one(s,
			hf_store_query(s,
				       "SELECT " COLUMNS
				       " FROM endpoints WHERE token_id=? AND instance_uid=?"
				       " AND key_hash IS NULL AND deleted IS NULL",
				       "tb", token_id, uid, (size_t)HF_ID_SIZE),
			ret);
}

int hf_store_endpoint_delete(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			     uint64_t now_ns)
{
	/* The key is freed for a new enrolment; the row stays so that its certificate is refused. */
	int r = hf_store_exec(s,
			      "UPDATE endpoints SET deleted=?, key_hash=NULL, bearer_hash=NULL"
			      " WHERE id=? AND deleted IS NULL",
			      "ib", now_ns, id, (size_t)HF_ID_SIZE);

	return r < 0 ? r : r == 0 ? -ENOENT : 0;
}

int hf_store_endpoint_set_cert(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			       const uint8_t hash[static HF_HASH_SIZE], uint64_t expires_ns)
{
	int r = hf_store_exec(s,
			      "UPDATE endpoints SET key_hash=?, cert_expires=?"
			      " WHERE id=? AND deleted IS NULL",
			      "bib", hash, (size_t)HF_HASH_SIZE, expires_ns, id,
			      (size_t)HF_ID_SIZE);

	return r < 0 ? r : r == 0 ? -ENOENT : 0;
}

int hf_store_endpoint_set_bearer(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
				 const uint8_t hash[static HF_HASH_SIZE])
{
	int r = hf_store_exec(s,
			      "UPDATE endpoints SET bearer_hash=? WHERE id=? AND deleted IS NULL",
			      "bb", hash, (size_t)HF_HASH_SIZE, id, (size_t)HF_ID_SIZE);

	return r < 0 ? r : r == 0 ? -ENOENT : 0;
}

int hf_store_endpoint_credential_seen(struct hf_store *s, const uint8_t id[static HF_ID_SIZE])
{
	int r = hf_store_exec(s, "UPDATE endpoints SET credential_seen=1 WHERE id=?", "b", id,
			      (size_t)HF_ID_SIZE);

	return r < 0 ? r : 0;
}

int hf_store_endpoint_seen(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			   uint64_t seen_ns)
{
	int r = hf_store_exec(s, "UPDATE endpoints SET last_seen=? WHERE id=? AND last_seen<?",
			      "ibi", seen_ns, id, (size_t)HF_ID_SIZE, seen_ns);

	return r < 0 ? r : 0;
}

int hf_store_endpoints(struct hf_store *s, int (*fn)(const struct hf_endpoint_row *row, void *arg),
		       void *arg)
{
	struct hf_endpoint_row row;
	sqlite3_stmt *st =
		hf_store_query(s, "SELECT " COLUMNS " FROM endpoints WHERE deleted IS NULL", "");
	int r;

	while ((r = hf_store_step(s, st)) > 0) {
		read_row(st, &row);
		r = fn(&row, arg);
		if (r < 0)
			break;
	}
	hf_store_end(st);
	return r < 0 ? r : 0;
}

int hf_store_transition(struct hf_store *s, const uint8_t id[static HF_ID_SIZE], uint64_t at_ns,
			const char *status, const char *reason)
{
	int r = hf_store_exec(s,
			      "INSERT INTO transitions(endpoint, at, status, reason)"
			      " VALUES(?,?,?,?)",
			      "bitt", id, (size_t)HF_ID_SIZE, at_ns, status, reason);

	if (r >= 0)
		r = hf_store_exec(s,
				  "UPDATE endpoints SET status=?, reason=?, status_since=?"
				  " WHERE id=?",
				  "ttib", status, reason, at_ns, id, (size_t)HF_ID_SIZE);
	return r < 0 ? r : 0;
}
