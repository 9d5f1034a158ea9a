/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of telemetry: events, stream positions, gaps; outages; the audit log; retention. */
#include "tools/portal/store_internal.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

int hf_store_event_insert(struct hf_store *s, const struct hf_event_row *row)
{
	return hf_store_exec(s,
			     "INSERT OR IGNORE INTO events(endpoint, stream, seq, time, kind, pid,"
			     " unit, packed) VALUES(?,?,?,?,?,?,?,?)",
			     "biiititb", row->endpoint, (size_t)HF_ID_SIZE, row->stream_epoch,
			     row->seq, row->time_ns, row->kind, (uint64_t)row->pid, row->unit,
			     row->packed, row->packed_len);
}

#define EVENT_SELECT \
	"SELECT id, endpoint, stream, seq, time, kind, pid, unit, packed FROM events WHERE "
#define EVENT_FILTER                                                   \
	" (?2 IS NULL OR (kind>=?2 AND kind<?3)) AND (?4=0 OR pid=?4)" \
	" AND (?5 IS NULL OR unit=?5) AND time>=?6"                    \
	" AND (?7=0 OR time<?7 OR (time=?7 AND id<?8)) ORDER BY time DESC, id DESC LIMIT ?9"

/* Kinds sort as text, so that a prefix is the range from it to its successor. */
static void kind_range(const char *kind, char from[static 34], char to[static 34])
{
	size_t len;

	(void)hf_strlcpy(from, kind, 33);
	(void)hf_strlcpy(to, kind, 33);
	len = strlen(to);
	if (len > 0 && to[len - 1] == '.') {
		to[len - 1]++;
	} else {
		to[len] = '\x01';
		to[len + 1] = '\0';
	}
}

static void read_event(sqlite3_stmt *st, struct hf_event_row *row)
{
	*row = (struct hf_event_row){};
	row->rowid = hf_store_u64(st, 0);
	(void)hf_store_blob(st, 1, row->endpoint, sizeof(row->endpoint));
	row->stream_epoch = hf_store_u64(st, 2);
	row->seq = hf_store_u64(st, 3);
	row->time_ns = hf_store_u64(st, 4);
	hf_store_text(st, 5, row->kind, sizeof(row->kind));
	row->pid = (uint32_t)hf_store_u64(st, 6);
	hf_store_text(st, 7, row->unit, sizeof(row->unit));
	row->packed = sqlite3_column_blob(st, 8);
	row->packed_len = (size_t)sqlite3_column_bytes(st, 8);
}

int hf_store_events(struct hf_store *s, const struct hf_event_filter *f,
		    int (*fn)(const struct hf_event_row *row, void *arg), void *arg)
{
	/* Two texts, because each has its own index: of one endpoint, and of all by time. */
	static const char of_one[] = EVENT_SELECT "endpoint=?1 AND" EVENT_FILTER;
	static const char of_all[] = EVENT_SELECT "?1 IS NULL AND" EVENT_FILTER;
	char from[34] = "", to[34] = "";
	struct hf_event_row row;
	sqlite3_stmt *st;
	int r;

	if (f->kind)
		kind_range(f->kind, from, to);
	st = hf_store_query(s, f->endpoint ? of_one : of_all, "bttitiiii", f->endpoint,
			    (size_t)HF_ID_SIZE, f->kind ? from : NULL, f->kind ? to : NULL,
			    (uint64_t)f->pid, f->unit, f->since_ns, f->before_time, f->before_rowid,
			    (uint64_t)f->limit);
	while ((r = hf_store_step(s, st)) > 0) {
		read_event(st, &row);
		r = fn(&row, arg);
		if (r < 0)
			break;
	}
	hf_store_end(st);
	return r < 0 ? r : 0;
}

int hf_store_stream_get(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			uint64_t stream_epoch, uint64_t *ret_acked)
{
	sqlite3_stmt *st =
		hf_store_query(s, "SELECT acked FROM streams WHERE endpoint=? AND epoch=?", "bi",
			       endpoint, (size_t)HF_ID_SIZE, stream_epoch);
	int r = hf_store_step(s, st);

	if (r >= 0)
		*ret_acked = r > 0 ? hf_store_u64(st, 0) : 0;
	hf_store_end(st);
	return r < 0 ? r : 0;
}

int hf_store_stream_set(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			uint64_t stream_epoch, uint64_t acked, uint64_t now_ns)
{
	int r = hf_store_exec(s,
			      "INSERT INTO streams(endpoint, epoch, acked, changed) VALUES(?,?,?,?)"
			      " ON CONFLICT(endpoint, epoch) DO UPDATE SET"
			      " acked=max(acked, excluded.acked), changed=excluded.changed",
			      "biii", endpoint, (size_t)HF_ID_SIZE, stream_epoch, acked, now_ns);

	return r < 0 ? r : 0;
}

int hf_store_gap_insert(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			uint64_t stream_epoch, uint64_t first, uint64_t last, const char *reason,
			uint64_t now_ns)
{
	int r = hf_store_exec(
		s,
		"INSERT OR IGNORE INTO gaps(endpoint, stream, first, last, reason, at)"
		" VALUES(?,?,?,?,?,?)",
		"biiiti", endpoint, (size_t)HF_ID_SIZE, stream_epoch, first, last, reason, now_ns);

	return r < 0 ? r : 0;
}

int hf_store_outage_insert(struct hf_store *s, const struct hf_outage_row *row, uint64_t now_ns)
{
	return hf_store_exec(
		s,
		"INSERT OR IGNORE INTO outages(id, endpoint, began, detected, restored,"
		" detect_us, outage_us, cause, detected_by, detail, received, packed)"
		" VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
		"bbiiiiitttib", row->id, (size_t)HF_ID_SIZE, row->endpoint, (size_t)HF_ID_SIZE,
		row->began_ns, row->detected_ns, row->restored_ns, row->detect_us, row->outage_us,
		row->cause, row->detected_by, row->detail, now_ns, row->packed, row->packed_len);
}

#define OUTAGE_COLUMNS                                                                       \
	"id, endpoint, began, detected, restored, detect_us, outage_us, cause, detected_by," \
	" detail, packed"

static void read_outage(sqlite3_stmt *st, struct hf_outage_row *row)
{
	*row = (struct hf_outage_row){};
	(void)hf_store_blob(st, 0, row->id, sizeof(row->id));
	(void)hf_store_blob(st, 1, row->endpoint, sizeof(row->endpoint));
	row->began_ns = hf_store_u64(st, 2);
	row->detected_ns = hf_store_u64(st, 3);
	row->restored_ns = hf_store_u64(st, 4);
	row->detect_us = hf_store_u64(st, 5);
	row->outage_us = hf_store_u64(st, 6);
	hf_store_text(st, 7, row->cause, sizeof(row->cause));
	hf_store_text(st, 8, row->detected_by, sizeof(row->detected_by));
	hf_store_text(st, 9, row->detail, sizeof(row->detail));
	row->packed = sqlite3_column_blob(st, 10);
	row->packed_len = (size_t)sqlite3_column_bytes(st, 10);
}

static int each_outage(struct hf_store *s, sqlite3_stmt *st,
		       int (*fn)(const struct hf_outage_row *row, void *arg), void *arg)
{
	struct hf_outage_row row;
	int r;

	while ((r = hf_store_step(s, st)) > 0) {
		read_outage(st, &row);
		r = fn(&row, arg);
		if (r < 0)
			break;
	}
	hf_store_end(st);
	return r < 0 ? r : 0;
}

#define OUTAGE_SELECT "SELECT " OUTAGE_COLUMNS " FROM outages WHERE "
#define OUTAGE_FILTER                             \
	" (?2 IS NULL OR cause=?2) AND began>=?3" \
	" AND (?4=0 OR began<?4 OR (began=?4 AND id<?5)) ORDER BY began DESC, id DESC LIMIT ?6"

int hf_store_outages(struct hf_store *s, const struct hf_outage_filter *f,
		     int (*fn)(const struct hf_outage_row *row, void *arg), void *arg)
{
	static const char of_one[] = OUTAGE_SELECT "endpoint=?1 AND" OUTAGE_FILTER;
	static const char of_all[] = OUTAGE_SELECT "?1 IS NULL AND" OUTAGE_FILTER;

	return each_outage(s,
			   hf_store_query(s, f->endpoint ? of_one : of_all, "btiibi", f->endpoint,
					  (size_t)HF_ID_SIZE, f->cause, f->since_ns,
					  f->before_began, f->before_id, (size_t)HF_ID_SIZE,
					  (uint64_t)f->limit),
			   fn, arg);
}

int hf_store_last_outages(struct hf_store *s, int (*fn)(const struct hf_outage_row *row, void *arg),
			  void *arg)
{
	return each_outage(
		s,
		hf_store_query(s,
			       "SELECT " OUTAGE_COLUMNS " FROM outages o WHERE began="
			       "(SELECT max(began) FROM outages WHERE endpoint=o.endpoint)",
			       ""),
		fn, arg);
}

int hf_store_audit_insert(struct hf_store *s, const struct hf_audit_row *row)
{
	int r = hf_store_exec(s,
			      "INSERT INTO audit(at, actor, address, action, object, detail)"
			      " VALUES(?,?,?,?,?,?)",
			      "ittttt", row->at_ns, row->actor, row->address, row->action,
			      row->object, row->detail);

	return r < 0 ? r : 0;
}

int hf_store_audit(struct hf_store *s, uint64_t before, unsigned limit,
		   int (*fn)(const struct hf_audit_row *row, void *arg), void *arg)
{
	sqlite3_stmt *st = hf_store_query(s,
					  "SELECT id, at, actor, address, action, object, detail"
					  " FROM audit WHERE ?1=0 OR id<?1"
					  " ORDER BY id DESC LIMIT ?2",
					  "ii", before, (uint64_t)limit);
	int r;

	while ((r = hf_store_step(s, st)) > 0) {
		struct hf_audit_row row = {.id = hf_store_u64(st, 0), .at_ns = hf_store_u64(st, 1)};

		hf_store_text(st, 2, row.actor, sizeof(row.actor));
		hf_store_text(st, 3, row.address, sizeof(row.address));
		hf_store_text(st, 4, row.action, sizeof(row.action));
		hf_store_text(st, 5, row.object, sizeof(row.object));
		hf_store_text(st, 6, row.detail, sizeof(row.detail));
		r = fn(&row, arg);
		if (r < 0)
			break;
	}
	hf_store_end(st);
	return r < 0 ? r : 0;
}

int hf_store_expire(struct hf_store *s, const struct hf_retention *p)
{
	uint64_t slice = p->slice;
	int total = 0, r;

	r = hf_store_exec(s,
			  "DELETE FROM events WHERE id IN"
			  " (SELECT id FROM events WHERE time<? ORDER BY time LIMIT ?)",
			  "ii", p->events_before_ns, slice);
	if (r < 0)
		return r;
	total += r;
	/* Row ids only grow, so that everything this far below the newest is over the row limit. */
	r = hf_store_exec(s,
			  "DELETE FROM events WHERE id IN (SELECT id FROM events"
			  " WHERE id<=(SELECT max(id) FROM events)-? ORDER BY id LIMIT ?)",
			  "ii", p->events_max_rows, slice);
	if (r < 0)
		return r;
	total += r;
	r = hf_store_exec(s,
			  "DELETE FROM outages WHERE id IN"
			  " (SELECT id FROM outages WHERE began<? ORDER BY began LIMIT ?)",
			  "ii", p->outages_before_ns, slice);
	if (r < 0)
		return r;
	total += r;
	r = hf_store_exec(s,
			  "DELETE FROM transitions WHERE rowid IN"
			  " (SELECT rowid FROM transitions WHERE at<? LIMIT ?)",
			  "ii", p->outages_before_ns, slice);
	if (r < 0)
		return r;
	total += r;
	r = hf_store_exec(s,
			  "DELETE FROM audit WHERE id IN"
			  " (SELECT id FROM audit WHERE at<? ORDER BY id LIMIT ?)",
			  "ii", p->audit_before_ns, slice);
	if (r < 0)
		return r;
	total += r;
	r = hf_store_exec(s,
			  "DELETE FROM actions WHERE id IN"
			  " (SELECT id FROM actions WHERE over=1 AND changed<? LIMIT ?)",
			  "ii", p->actions_before_ns, slice);
	if (r < 0)
		return r;
	total += r;
	r = hf_store_exec(s,
			  "DELETE FROM action_history WHERE rowid IN (SELECT h.rowid FROM"
			  " action_history h LEFT JOIN actions a ON a.id=h.action"
			  " WHERE a.id IS NULL LIMIT ?)",
			  "i", slice);
	return r < 0 ? r : total + r;
}
