/* SPDX-License-Identifier: Apache-2.0 */
/* Effective configurations and connection settings, by endpoint. */
#include "tools/portal/store_internal.h"

#include <string.h>

#include "base/str.h"

int hf_store_config_set(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			const struct hf_config_row *rows, size_t n)
{
	int r = hf_store_exec(s, "DELETE FROM configs WHERE endpoint=?", "b", endpoint,
			      (size_t)HF_ID_SIZE);

	for (size_t i = 0; i < n && r >= 0; i++)
		r = hf_store_exec(s,
				  "INSERT OR REPLACE INTO configs(endpoint, name, type, changed,"
				  " masked, body) VALUES(?,?,?,?,?,CAST(? AS TEXT))",
				  "bttiib", endpoint, (size_t)HF_ID_SIZE, rows[i].name,
				  rows[i].type, rows[i].changed_ns, rows[i].masked, rows[i].body,
				  rows[i].len);
	return r < 0 ? r : 0;
}

int hf_store_config_get(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			int (*fn)(const struct hf_config_row *row, void *arg), void *arg)
{
	sqlite3_stmt *st = hf_store_query(s,
					  "SELECT name, type, changed, masked, body FROM configs"
					  " WHERE endpoint=? ORDER BY name",
					  "b", endpoint, (size_t)HF_ID_SIZE);
	struct hf_config_row row;
	int r;

	while ((r = hf_store_step(s, st)) > 0) {
		hf_store_text(st, 0, row.name, sizeof(row.name));
		hf_store_text(st, 1, row.type, sizeof(row.type));
		row.changed_ns = hf_store_u64(st, 2);
		row.masked = hf_store_u64(st, 3);
		row.body = (const char *)sqlite3_column_text(st, 4);
		row.len = (size_t)sqlite3_column_bytes(st, 4);
		r = fn(&row, arg);
		if (r < 0)
			break;
	}
	hf_store_end(st);
	return r < 0 ? r : 0;
}

int hf_store_config_owners(struct hf_store *s, int (*fn)(const uint8_t *endpoint, void *arg),
			   void *arg)
{
	sqlite3_stmt *st = hf_store_query(s, "SELECT DISTINCT endpoint FROM configs", "");
	uint8_t id[HF_ID_SIZE];
	int r;

	while ((r = hf_store_step(s, st)) > 0) {
		(void)hf_store_blob(st, 0, id, sizeof(id));
		r = fn(id, arg);
		if (r < 0)
			break;
	}
	hf_store_end(st);
	return r < 0 ? r : 0;
}

int hf_store_offer_set(struct hf_store *s, const struct hf_offer_row *row)
{
	int r = hf_store_exec(s,
			      "INSERT OR REPLACE INTO offers(endpoint, heartbeat, destination,"
			      " offered, changed, state, error) VALUES(?,?,?,?,?,?,?)",
			      "bitiiit", row->endpoint, sizeof(row->endpoint), row->heartbeat_s,
			      row->destination, row->offered_ns, row->changed_ns,
			      (uint64_t)row->state, row->error);

	return r < 0 ? r : 0;
}

int hf_store_offer_clear(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE])
{
	int r = hf_store_exec(s, "DELETE FROM offers WHERE endpoint=?", "b", endpoint,
			      (size_t)HF_ID_SIZE);

	return r < 0 ? r : 0;
}

int hf_store_offers(struct hf_store *s, int (*fn)(const struct hf_offer_row *row, void *arg),
		    void *arg)
{
	sqlite3_stmt *st = hf_store_query(s,
					  "SELECT endpoint, heartbeat, destination, offered,"
					  " changed, state, error FROM offers",
					  "");
	struct hf_offer_row row;
	uint64_t state;
	int r;

	while ((r = hf_store_step(s, st)) > 0) {
		(void)hf_store_blob(st, 0, row.endpoint, sizeof(row.endpoint));
		row.heartbeat_s = hf_store_u64(st, 1);
		hf_store_text(st, 2, row.destination, sizeof(row.destination));
		row.offered_ns = hf_store_u64(st, 3);
		row.changed_ns = hf_store_u64(st, 4);
		state = hf_store_u64(st, 5);
		row.state = state < _HF_OFFER_MAX ? (enum hf_offer_state)state : HF_OFFER_WAITING;
		hf_store_text(st, 6, row.error, sizeof(row.error));
		r = fn(&row, arg);
		if (r < 0)
			break;
	}
	hf_store_end(st);
	return r < 0 ? r : 0;
}
