/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of clones: kept over a restart, so that a quarantine ends by a word and not by a reboot. */
#include "tools/portal/store_internal.h"

int hf_store_clone_set(struct hf_store *s, const struct hf_clone_row *row)
{
	int r = hf_store_exec(s,
			      "INSERT OR REPLACE INTO clones(endpoint, since, last, attempts,"
			      " address, hostname, machine_id_hash, boot_id, run_id)"
			      " VALUES(?,?,?,?,?,?,?,?,?)",
			      "biiittbbb", row->endpoint, sizeof(row->endpoint), row->since_ns,
			      row->last_ns, row->attempts, row->address, row->hostname,
			      row->machine_id_hash, sizeof(row->machine_id_hash), row->boot_id,
			      sizeof(row->boot_id), row->run_id, sizeof(row->run_id));

	return r < 0 ? r : 0;
}

int hf_store_clone_clear(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE])
{
	int r = hf_store_exec(s, "DELETE FROM clones WHERE endpoint=?", "b", endpoint,
			      (size_t)HF_ID_SIZE);

	return r < 0 ? r : 0;
}

int hf_store_clones(struct hf_store *s, int (*fn)(const struct hf_clone_row *row, void *arg),
		    void *arg)
{
	sqlite3_stmt *st = hf_store_query(s,
					  "SELECT endpoint, since, last, attempts, address,"
					  " hostname, machine_id_hash, boot_id, run_id FROM clones",
					  "");
	struct hf_clone_row row;
	int r;

	while ((r = hf_store_step(s, st)) > 0) {
		(void)hf_store_blob(st, 0, row.endpoint, sizeof(row.endpoint));
		row.since_ns = hf_store_u64(st, 1);
		row.last_ns = hf_store_u64(st, 2);
		row.attempts = hf_store_u64(st, 3);
		hf_store_text(st, 4, row.address, sizeof(row.address));
		hf_store_text(st, 5, row.hostname, sizeof(row.hostname));
		(void)hf_store_blob(st, 6, row.machine_id_hash, sizeof(row.machine_id_hash));
		(void)hf_store_blob(st, 7, row.boot_id, sizeof(row.boot_id));
		(void)hf_store_blob(st, 8, row.run_id, sizeof(row.run_id));
		r = fn(&row, arg);
		if (r < 0)
			break;
	}
	hf_store_end(st);
	return r < 0 ? r : 0;
}
