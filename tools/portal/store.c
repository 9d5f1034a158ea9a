/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to the database: opening, schema and migrations, statements, transactions.
 *
 * I1 The schema version is raised in the same transaction as its change: a kill in between leaves
 *    the old version whole.
 * I2 Values reach SQL only as bound parameters; statement texts are literals.
 * I3 WAL with synchronous=FULL on the writing connection: what a commit confirmed survives a power
 *    cut, because an endpoint drops its telemetry when we acknowledge it.
 */
#include "tools/portal/store_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/str.h"

#define STATEMENTS_MAX 128  /* more than there are query texts; running out is our bug */
#define BUSY_MS        5000 /* another process (holdfast-portal token create) holds the lock */

struct cached {
	const char *sql;
	sqlite3_stmt *st;
};

struct hf_store {
	sqlite3 *db;
	int last; /* SQLite result of the last failure */
	size_t n_cached;
	struct cached cached[STATEMENTS_MAX];
};

/* Each entry takes the schema from version i to i + 1. Never edit one that was released. */
static const char *const migrations[] = {
	"CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE endpoints(id BLOB PRIMARY KEY, instance_uid BLOB NOT NULL,"
	" authorization INTEGER NOT NULL, authorization_changed INTEGER NOT NULL,"
	" authorization_by TEXT NOT NULL, name TEXT NOT NULL, hostname TEXT NOT NULL,"
	" environment TEXT NOT NULL, grp TEXT NOT NULL, version TEXT NOT NULL, os TEXT NOT NULL,"
	" arch TEXT NOT NULL, distro TEXT NOT NULL, kernel TEXT NOT NULL,"
	" kernel_assist TEXT NOT NULL, addresses TEXT NOT NULL, key_hash BLOB, bearer_hash BLOB,"
	" credential_seen INTEGER NOT NULL, token_id TEXT NOT NULL, machine_id_hash BLOB,"
	" boot_id BLOB, epoch INTEGER NOT NULL, clock_offset_ms INTEGER NOT NULL,"
	" cert_expires INTEGER NOT NULL, created INTEGER NOT NULL, last_seen INTEGER NOT NULL,"
	" status TEXT NOT NULL, reason TEXT NOT NULL, status_since INTEGER NOT NULL,"
	" deleted INTEGER) WITHOUT ROWID;"
	"CREATE UNIQUE INDEX endpoints_key ON endpoints(key_hash) WHERE key_hash IS NOT NULL;"
	"CREATE INDEX endpoints_token ON endpoints(token_id, instance_uid);"
	"CREATE TABLE transitions(endpoint BLOB NOT NULL, at INTEGER NOT NULL,"
	" status TEXT NOT NULL, reason TEXT NOT NULL);"
	"CREATE INDEX transitions_endpoint ON transitions(endpoint, at);"
	"CREATE TABLE tokens(id TEXT PRIMARY KEY, name TEXT NOT NULL, secret_hash BLOB NOT NULL,"
	" created INTEGER NOT NULL, expires INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0,"
	" last_used INTEGER NOT NULL DEFAULT 0, max_uses INTEGER NOT NULL,"
	" used INTEGER NOT NULL DEFAULT 0, grp TEXT NOT NULL, creator TEXT NOT NULL,"
	" pre_authorize INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE api_tokens(id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,"
	" secret_hash BLOB NOT NULL, created INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0)"
	" WITHOUT ROWID;"
	"CREATE TABLE streams(endpoint BLOB NOT NULL, epoch INTEGER NOT NULL,"
	" acked INTEGER NOT NULL, changed INTEGER NOT NULL, PRIMARY KEY(endpoint, epoch))"
	" WITHOUT ROWID;"
	"CREATE TABLE events(id INTEGER PRIMARY KEY, endpoint BLOB NOT NULL,"
	" stream INTEGER NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL,"
	" kind TEXT NOT NULL, pid INTEGER NOT NULL, unit TEXT NOT NULL, packed BLOB NOT NULL);"
	"CREATE UNIQUE INDEX events_once ON events(endpoint, stream, seq);"
	"CREATE INDEX events_time ON events(time, id);"
	"CREATE INDEX events_endpoint ON events(endpoint, time, id);"
	"CREATE TABLE gaps(endpoint BLOB NOT NULL, stream INTEGER NOT NULL,"
	" first INTEGER NOT NULL, last INTEGER NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL,"
	" PRIMARY KEY(endpoint, stream, first)) WITHOUT ROWID;"
	"CREATE TABLE outages(id BLOB PRIMARY KEY, endpoint BLOB NOT NULL, began INTEGER NOT NULL,"
	" detected INTEGER NOT NULL, restored INTEGER NOT NULL, detect_us INTEGER NOT NULL,"
	" outage_us INTEGER NOT NULL, cause TEXT NOT NULL, detected_by TEXT NOT NULL,"
	" detail TEXT NOT NULL, received INTEGER NOT NULL, packed BLOB NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX outages_began ON outages(began, id);"
	"CREATE INDEX outages_endpoint ON outages(endpoint, began, id);"
	"CREATE TABLE audit(id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,"
	" actor TEXT NOT NULL, address TEXT NOT NULL, action TEXT NOT NULL, object TEXT NOT NULL,"
	" detail TEXT NOT NULL);",
	"CREATE TABLE clones(endpoint BLOB PRIMARY KEY, since INTEGER NOT NULL,"
	" last INTEGER NOT NULL, attempts INTEGER NOT NULL, address TEXT NOT NULL,"
	" hostname TEXT NOT NULL, machine_id_hash BLOB, boot_id BLOB, run_id BLOB) WITHOUT ROWID;",
	"CREATE TABLE configs(endpoint BLOB NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL,"
	" changed INTEGER NOT NULL, masked INTEGER NOT NULL, body TEXT NOT NULL,"
	" PRIMARY KEY(endpoint, name)) WITHOUT ROWID;"
	"CREATE TABLE offers(endpoint BLOB PRIMARY KEY, heartbeat INTEGER NOT NULL,"
	" destination TEXT NOT NULL, offered INTEGER NOT NULL, changed INTEGER NOT NULL,"
	" state INTEGER NOT NULL, error TEXT NOT NULL) WITHOUT ROWID;",
	"CREATE TABLE actions(id BLOB PRIMARY KEY, endpoint BLOB NOT NULL, kind TEXT NOT NULL,"
	" params TEXT NOT NULL, state INTEGER NOT NULL, over INTEGER NOT NULL, reason TEXT NOT NULL,"
	" text TEXT NOT NULL, percent INTEGER NOT NULL, idle_limit_s INTEGER NOT NULL,"
	" hard_limit_s INTEGER NOT NULL, ttl_s INTEGER NOT NULL, created INTEGER NOT NULL,"
	" expires INTEGER NOT NULL, started INTEGER NOT NULL, finished INTEGER NOT NULL,"
	" changed INTEGER NOT NULL, actor TEXT NOT NULL, idempotency TEXT NOT NULL,"
	" cancel INTEGER NOT NULL, inferred INTEGER NOT NULL, artifact_bytes INTEGER NOT NULL,"
	" artifact_sha256 BLOB, result BLOB) WITHOUT ROWID;"
	"CREATE UNIQUE INDEX actions_once ON actions(endpoint, idempotency)"
	" WHERE idempotency<>'';"
	"CREATE INDEX actions_endpoint ON actions(endpoint, id);"
	"CREATE INDEX actions_active ON actions(over, id);"
	"CREATE TABLE action_history(action BLOB NOT NULL, at INTEGER NOT NULL,"
	" state INTEGER NOT NULL, reason TEXT NOT NULL);"
	"CREATE INDEX action_history_action ON action_history(action);",
};

unsigned hf_store_schema_version(void)
{
	return HF_ARRAY_SIZE(migrations);
}

static int to_errno(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CANTOPEN:
		return -ENOENT;
	default:
		return -EIO;
	}
}

static int failed(struct hf_store *s, int rc)
{
	s->last = rc;
	return to_errno(rc);
}

int hf_store_errno(const struct hf_store *s)
{
	int r = to_errno(s->last);

	return r < 0 ? r : -EIO;
}

const char *hf_store_error(const struct hf_store *s)
{
	return sqlite3_errmsg(s->db);
}

static int exec_text(struct hf_store *s, const char *sql)
{
	int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : failed(s, rc);
}

static int bind_one(sqlite3_stmt *st, int i, char type, va_list *ap)
{
	const void *p;
	size_t len;

	switch (type) {
	case 't':
		p = va_arg(*ap, const char *);
		return p ? sqlite3_bind_text(st, i, p, -1, SQLITE_TRANSIENT)
			 : sqlite3_bind_null(st, i);
	case 'i':
		return sqlite3_bind_int64(st, i, (sqlite3_int64)va_arg(*ap, uint64_t));
	case 'b':
		p = va_arg(*ap, const void *);
		len = va_arg(*ap, size_t);
		return p ? sqlite3_bind_blob64(st, i, p, len, SQLITE_TRANSIENT)
			 : sqlite3_bind_null(st, i);
	default:
		hf_assert(false);
	}
}

static sqlite3_stmt *cached(struct hf_store *s, const char *sql)
{
	sqlite3_stmt *st;
	int rc;

	for (size_t i = 0; i < s->n_cached; i++) {
		if (s->cached[i].sql == sql) {
			(void)sqlite3_reset(
				s->cached[i].st); /* repeats an error already reported */
			return s->cached[i].st;
		}
	}
	hf_assert(s->n_cached < STATEMENTS_MAX);
	rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
	if (rc != SQLITE_OK) {
		(void)failed(s, rc);
		return NULL;
	}
	s->cached[s->n_cached++] = (struct cached){.sql = sql, .st = st};
	return st;
}

static sqlite3_stmt *query_ap(struct hf_store *s, const char *sql, const char *types, va_list *ap)
{
	sqlite3_stmt *st = cached(s, sql);

	if (!st)
		return NULL;
	hf_assert(sqlite3_bind_parameter_count(st) == (int)strlen(types));
	for (int i = 0; types[i]; i++) {
		int rc = bind_one(st, i + 1, types[i], ap);

		if (rc != SQLITE_OK) {
			(void)failed(s, rc);
			return NULL;
		}
	}
	return st;
}

sqlite3_stmt *hf_store_query(struct hf_store *s, const char *sql, const char *types, ...)
{
	sqlite3_stmt *st;
	va_list ap;

	va_start(ap, types);
	st = query_ap(s, sql, types, &ap);
	va_end(ap);
	return st;
}

int hf_store_step(struct hf_store *s, sqlite3_stmt *st)
{
	int rc;

	if (!st)
		return hf_store_errno(s);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		return 1;
	if (rc == SQLITE_DONE)
		return 0;
	return failed(s, rc);
}

void hf_store_end(sqlite3_stmt *st)
{
	if (!st)
		return;
	(void)sqlite3_reset(st); /* repeats an error already reported */
	(void)sqlite3_clear_bindings(st);
}

int hf_store_exec(struct hf_store *s, const char *sql, const char *types, ...)
{
	sqlite3_stmt *st;
	va_list ap;
	int r;

	va_start(ap, types);
	st = query_ap(s, sql, types, &ap);
	va_end(ap);
	r = hf_store_step(s, st);
	hf_store_end(st);
	if (r < 0)
		return r;
	return sqlite3_changes(s->db);
}

void hf_store_text(sqlite3_stmt *st, int col, char *dst, size_t size)
{
	const unsigned char *t = sqlite3_column_text(st, col);

	(void)hf_strlcpy(dst, t ? (const char *)t : "", size);
}

bool hf_store_blob(sqlite3_stmt *st, int col, void *dst, size_t size)
{
	const void *p = sqlite3_column_blob(st, col);

	if (!p || (size_t)sqlite3_column_bytes(st, col) != size) {
		memset(dst, 0, size);
		return false;
	}
	memcpy(dst, p, size);
	return true;
}

int hf_store_begin(struct hf_store *s)
{
	return exec_text(s, "BEGIN IMMEDIATE");
}

int hf_store_commit(struct hf_store *s)
{
	return exec_text(s, "COMMIT");
}

void hf_store_rollback(struct hf_store *s)
{
	/* SQLite may have rolled back on its own (disk full): then there is nothing left to undo. */
	if (!sqlite3_get_autocommit(s->db))
		(void)exec_text(s, "ROLLBACK");
}

int hf_store_savepoint(struct hf_store *s)
{
	return exec_text(s, "SAVEPOINT job");
}

int hf_store_savepoint_release(struct hf_store *s)
{
	return exec_text(s, "RELEASE job");
}

void hf_store_savepoint_undo(struct hf_store *s)
{
	if (sqlite3_get_autocommit(s->db))
		return;
	(void)exec_text(s, "ROLLBACK TO job");
	(void)exec_text(s, "RELEASE job");
}

static int read_version(struct hf_store *s, unsigned *ret)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*ret = (unsigned)sqlite3_column_int(st, 0);
	(void)sqlite3_finalize(st); /* repeats rc */
	return rc == SQLITE_ROW ? 0 : failed(s, rc);
}

static int migrate_one(struct hf_store *s, unsigned from)
{
	char sql[64];
	int r;

	r = hf_store_begin(s);
	if (r < 0)
		return r;
	r = exec_text(s, migrations[from]);
	(void)hf_strf(sql, sizeof(sql), "PRAGMA user_version=%u", from + 1);
	if (r == 0)
		r = exec_text(s, sql);
	if (r == 0)
		r = hf_store_commit(s);
	if (r < 0)
		hf_store_rollback(s);
	return r;
}

static int migrate(struct hf_store *s, struct hf_err *err)
{
	unsigned version = 0;
	int r;

	r = read_version(s, &version);
	if (r < 0)
		return hf_err_set(err, r, "read schema version: %s", hf_store_error(s));
	if (version > HF_ARRAY_SIZE(migrations))
		return hf_err_set(err, -EPROTONOSUPPORT,
				  "the database has schema version %u, this portal knows %zu; "
				  "install the newer portal again",
				  version, HF_ARRAY_SIZE(migrations));
	for (; version < HF_ARRAY_SIZE(migrations); version++) {
		r = migrate_one(s, version);
		if (r < 0)
			return hf_err_set(err, r, "migrate to schema version %u: %s", version + 1,
					  hf_store_error(s));
	}
	return 0;
}

static int configure(struct hf_store *s, enum hf_store_mode mode)
{
	int r;

	(void)sqlite3_busy_timeout(s->db, BUSY_MS); /* fails only for an invalid handle */
	if (mode == HF_STORE_READ)
		return exec_text(s, "PRAGMA query_only=1; PRAGMA cache_size=-4096");
	r = exec_text(s, "PRAGMA journal_mode=WAL");
	if (r < 0)
		return r;
	return exec_text(s, "PRAGMA synchronous=FULL; PRAGMA cache_size=-8192;"
			    "PRAGMA journal_size_limit=16777216");
}

int hf_store_open(const char *path, enum hf_store_mode mode, struct hf_store **ret,
		  struct hf_err *err)
{
	_cleanup_(hf_store_closep) struct hf_store *s = calloc(1, sizeof(*s));
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
	mode_t mask;
	int r, rc;

	if (!s)
		return hf_err_set(err, -ENOMEM, "out of memory");
	if (mode == HF_STORE_WRITE)
		flags |= SQLITE_OPEN_CREATE;
	mask = umask(0077); /* hashes of secrets and an audit log: nobody else's business */
	rc = sqlite3_open_v2(path, &s->db, flags, NULL);
	if (rc == SQLITE_OK) {
		(void)sqlite3_extended_result_codes(s->db, 1); /* cannot fail on an open handle */
		r = configure(s, mode);
	} else {
		r = failed(s, rc);
	}
	(void)umask(mask);
	if (r < 0)
		return hf_err_set(err, r, "open '%s': %s", path,
				  s->db ? hf_store_error(s) : "out of memory");
	if (mode == HF_STORE_WRITE) {
		r = migrate(s, err);
		if (r < 0)
			return hf_err_wrap(err, "open '%s'", path);
	}
	*ret = TAKE_PTR(s);
	return 0;
}

struct hf_store *hf_store_close(struct hf_store *s)
{
	if (!s)
		return NULL;
	for (size_t i = 0; i < s->n_cached; i++)
		(void)sqlite3_finalize(s->cached[i].st); /* repeats an error already reported */
	(void)sqlite3_close(s->db); /* cannot be busy: all statements are gone */
	free(s);
	return NULL;
}

int hf_store_meta_get(struct hf_store *s, const char *key, char *dst, size_t size)
{
	sqlite3_stmt *st = hf_store_query(s, "SELECT value FROM meta WHERE key=?", "t", key);
	int r = hf_store_step(s, st);

	if (r > 0)
		hf_store_text(st, 0, dst, size);
	hf_store_end(st);
	return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

int hf_store_meta_set(struct hf_store *s, const char *key, const char *value)
{
	int r = hf_store_exec(s,
			      "INSERT INTO meta(key, value) VALUES(?, ?)"
			      " ON CONFLICT(key) DO UPDATE SET value=excluded.value",
			      "tt", key, value);

	return r < 0 ? r : 0;
}

int hf_store_probe(struct hf_store *s)
{
	return hf_store_meta_set(s, "probe", "1");
}

int hf_store_ping(struct hf_store *s)
{
	sqlite3_stmt *st = hf_store_query(s, "SELECT count(*) FROM meta", "");
	int r = hf_store_step(s, st);

	hf_store_end(st);
	return r < 0 ? r : 0;
}
