/* SPDX-License-Identifier: Apache-2.0 */
/* /events, /outages, /audit: lists from the database, newest first, paged by cursor. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "bus.pb-c.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/fleet.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/outage_json.h"

/* A page being made: one row more than the limit is asked for, to know whether there is a next. */
struct page {
	struct hf_portal *portal;
	json_t *items;
	unsigned limit, n;
	bool more;
	char next[80]; /* cursor of the last row shown */
};

static void add_endpoint(struct page *pg, json_t *o, const uint8_t *id)
{
	struct hf_endpoint *ep = hf_registry_find(pg->portal->registry, id);
	char text[HF_UUID_TEXT_SIZE];

	hf_uuid_format(id, text);
	/* ENOMEM leaves a key out, the whole reply fails then. */
	(void)json_object_set_new(o, "endpoint", json_string(text));
	(void)json_object_set_new(o, "endpoint_name",
				  ep ? hf_json_string(ep->row.name) : json_null());
}

/* True: the row belongs to the page. */
static bool page_takes(struct page *pg)
{
	if (pg->n == pg->limit) {
		pg->more = true;
		return false;
	}
	pg->n++;
	return true;
}

static void page_reply(struct page *pg, struct hf_request *rq, int r, const char *what)
{
	if (r < 0) {
		json_decref(pg->items);
		hf_reply_error(rq->conn, r, what);
		return;
	}
	hf_api_list(rq, pg->items, pg->more ? pg->next : NULL);
}

/* "<number>.<rest>": rest is a number or an id. */
static int split_cursor(struct hf_request *rq, uint64_t *ret, char *rest, size_t size)
{
	char text[96], *dot;
	int r = hf_api_query(rq, "after", text, sizeof(text));

	if (r <= 0)
		return r;
	dot = strchr(text, '.');
	if (dot) {
		*dot = '\0';
		if (hf_parse_u64(text, ret) == 0 && *ret && hf_strlcpy(rest, dot + 1, size))
			return 1;
	}
	hf_reply_problem(rq->conn, 400, "invalid_query", "after is not a cursor of this list");
	return -EINVAL;
}

/* ---- events --------------------------------------------------------------------------------- */

static int add_event(const struct hf_event_row *row, void *arg)
{
	struct page *pg = arg;
	_cleanup_pb_ Bus__Event *e = NULL;
	json_t *o;
	int r;

	if (!page_takes(pg))
		return 0;
	r = hf_pb_unpack(&bus__event__descriptor, row->packed, row->packed_len, &e);
	if (r < 0)
		return r;
	o = hf_event_json(e);
	if (!o)
		return -ENOMEM;
	add_endpoint(pg, o, row->endpoint);
	(void)json_object_set_new(o, "stream", json_integer((json_int_t)row->stream_epoch));
	(void)json_object_set_new(o, "stream_seq", json_integer((json_int_t)row->seq));
	(void)json_array_append_new(pg->items, o);
	(void)hf_strf(pg->next, sizeof(pg->next), "%llu.%llu", (unsigned long long)row->time_ns,
		      (unsigned long long)row->rowid);
	return 0;
}

void hf_api_events_list(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_event_filter f = {};
	struct page pg = {.portal = p};
	uint8_t endpoint[HF_ID_SIZE];
	char kind[32], unit[96], text[16], rest[32];
	int by_endpoint, by_kind, by_unit, by_pid, cursor;

	by_endpoint = hf_api_query_id(rq, "endpoint", endpoint);
	if (by_endpoint < 0)
		return;
	by_kind = hf_api_query(rq, "kind", kind, sizeof(kind));
	if (by_kind < 0)
		return;
	by_unit = hf_api_query(rq, "unit", unit, sizeof(unit));
	if (by_unit < 0)
		return;
	by_pid = hf_api_query(rq, "pid", text, sizeof(text));
	if (by_pid < 0 || hf_api_since(rq, "since", &f.since_ns) < 0 ||
	    hf_api_limit(rq, &pg.limit) < 0)
		return;
	cursor = split_cursor(rq, &f.before_time, rest, sizeof(rest));
	if (cursor < 0)
		return;
	if ((by_pid > 0 && hf_parse_u32(text, &f.pid) < 0) ||
	    (cursor > 0 && hf_parse_u64(rest, &f.before_rowid) < 0)) {
		hf_reply_problem(rq->conn, 400, "invalid_query", "pid and after must be numbers");
		return;
	}
	f.endpoint = by_endpoint ? endpoint : NULL;
	f.kind = by_kind ? kind : NULL;
	f.unit = by_unit ? unit : NULL;
	f.limit = pg.limit + 1;
	pg.items = json_array();
	page_reply(&pg, rq, hf_store_events(p->store, &f, add_event, &pg), "list events");
}

/* ---- outages -------------------------------------------------------------------------------- */

static int add_outage(const struct hf_outage_row *row, void *arg)
{
	struct page *pg = arg;
	_cleanup_pb_ Bus__Outage *outage = NULL;
	char id[HF_UUID_TEXT_SIZE];
	json_t *o;
	int r;

	if (!page_takes(pg))
		return 0;
	r = hf_pb_unpack(&bus__outage__descriptor, row->packed, row->packed_len, &outage);
	if (r < 0)
		return r;
	o = hf_outage_json(outage);
	if (!o)
		return -ENOMEM;
	add_endpoint(pg, o, row->endpoint);
	(void)json_array_append_new(pg->items, o);
	hf_uuid_format(row->id, id);
	(void)hf_strf(pg->next, sizeof(pg->next), "%llu.%s", (unsigned long long)row->began_ns, id);
	return 0;
}

void hf_api_outages_list(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_outage_filter f = {};
	struct page pg = {.portal = p};
	uint8_t endpoint[HF_ID_SIZE], before[HF_ID_SIZE];
	char cause[32], rest[HF_UUID_TEXT_SIZE];
	int by_endpoint, by_cause, cursor;

	by_endpoint = hf_api_query_id(rq, "endpoint", endpoint);
	if (by_endpoint < 0)
		return;
	by_cause = hf_api_query(rq, "cause", cause, sizeof(cause));
	if (by_cause < 0 || hf_api_since(rq, "since", &f.since_ns) < 0 ||
	    hf_api_limit(rq, &pg.limit) < 0)
		return;
	cursor = split_cursor(rq, &f.before_began, rest, sizeof(rest));
	if (cursor < 0)
		return;
	if (cursor > 0 && hf_uuid_parse(rest, before) < 0) {
		hf_reply_problem(rq->conn, 400, "invalid_query",
				 "after is not a cursor of this list");
		return;
	}
	f.endpoint = by_endpoint ? endpoint : NULL;
	f.cause = by_cause ? cause : NULL;
	f.before_id = cursor ? before : NULL;
	f.limit = pg.limit + 1;
	pg.items = json_array();
	page_reply(&pg, rq, hf_store_outages(p->store, &f, add_outage, &pg), "list outages");
}

/* ---- audit ---------------------------------------------------------------------------------- */

static int add_audit(const struct hf_audit_row *row, void *arg)
{
	struct page *pg = arg;

	if (!page_takes(pg))
		return 0;
	(void)json_array_append_new(
		pg->items,
		json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "id", (json_int_t)row->id, "time",
			  hf_json_time(row->at_ns), "actor", hf_json_string(row->actor), "address",
			  hf_json_string(row->address), "action", hf_json_string(row->action),
			  "object", hf_json_string(row->object), "detail",
			  hf_json_string(row->detail)));
	(void)hf_strf(pg->next, sizeof(pg->next), "%llu", (unsigned long long)row->id);
	return 0;
}

void hf_api_audit_list(struct hf_portal *p, struct hf_request *rq)
{
	struct page pg = {.portal = p};
	char after[24];
	uint64_t before = 0;
	int cursor;

	if (hf_api_limit(rq, &pg.limit) < 0)
		return;
	cursor = hf_api_query(rq, "after", after, sizeof(after));
	if (cursor < 0)
		return;
	if (cursor > 0 && hf_parse_u64(after, &before) < 0) {
		hf_reply_problem(rq->conn, 400, "invalid_query",
				 "after is not a cursor of this list");
		return;
	}
	pg.items = json_array();
	page_reply(&pg, rq, hf_store_audit(p->store, before, pg.limit + 1, add_audit, &pg),
		   "list the audit log");
}
