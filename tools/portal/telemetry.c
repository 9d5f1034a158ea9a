/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of events and outage records: to the writer, acknowledged after its commit.
 *
 * I1 Acknowledged means committed. A failed write is not acknowledged; the agent keeps its spool and
 *    sends again.
 * I2 Positions are contiguous: what is acknowledged has no hole but counted gaps.
 * I3 The same record twice changes nothing ((endpoint, stream, seq) and outage ids are unique).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "holdfast/session.h"
#include "tools/portal/fleet.h"
#include "tools/portal/hub.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/writer.h"
#include "userspace/net/websocket.h"
#include "userspace/proto/batch.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/otlp_codec.h"
#include "userspace/proto/outage_json.h"

#define OUTAGE_PACKED_MAX 65536u /* 64 attempts with texts stay far below */
#define RETRY_AFTER_S     5u

static void unavailable(struct hf_link *l, const char *what)
{
	Opamp__ServerToAgent m = OPAMP__SERVER_TO_AGENT__INIT;
	Opamp__ServerErrorResponse e = OPAMP__SERVER_ERROR_RESPONSE__INIT;
	Opamp__RetryInfo retry = OPAMP__RETRY_INFO__INIT;

	retry.retry_after_nanoseconds = RETRY_AFTER_S * HF_NS_PER_S;
	e.type = OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_Unavailable;
	e.error_message = (char *)what; /* only read while packing */
	e.details_case = OPAMP__SERVER_ERROR_RESPONSE__DETAILS_RETRY_INFO;
	e.retry_info = &retry;
	m.error_response = &e;
	hf_link_send(l, &m);
}

static bool may_store(const struct hf_link *l)
{
	return l->ep && l->ep->row.authorization == HF_AUTH_AUTHORIZED;
}

/* ---- batches -------------------------------------------------------------------------------- */

struct batch_job {
	struct hf_link *link;
	Session__TelemetryBatch *batch;
	uint8_t endpoint[HF_ID_SIZE];
	uint64_t first_unacked; /* what the agent says it still has of this stream; 0 unknown */
	/* results */
	uint64_t acked, stored, duplicate, gap;
};

static int store_event(struct hf_store *s, struct batch_job *j, uint64_t seq, const Bus__Event *e)
{
	_cleanup_(hf_buf_done) struct hf_buf packed = {};
	struct hf_event_row row = {.stream_epoch = j->batch->stream_epoch,
				   .seq = seq,
				   .time_ns = e->time_unix_ns,
				   .pid = e->pid};
	int r;

	memcpy(row.endpoint, j->endpoint, HF_ID_SIZE);
	(void)hf_strlcpy(row.kind, e->kind, sizeof(row.kind));
	(void)hf_strlcpy(row.unit, e->unit, sizeof(row.unit));
	r = hf_buf_reserve(&packed, bus__event__get_packed_size(e) + 1);
	if (r < 0)
		return r;
	row.packed_len = bus__event__pack(e, packed.data);
	row.packed = packed.data;
	r = hf_store_event_insert(s, &row);
	if (r > 0)
		j->stored++;
	else if (r == 0)
		j->duplicate++;
	return r;
}

static int store_records(struct hf_store *s, struct batch_job *j, uint64_t acked)
{
	_cleanup_pb_ Bus__Events *events = NULL;
	const Session__TelemetryBatch *b = j->batch;
	int r;

	if (b->records == 0)
		return 0;
	r = hf_otlp_decode_deflated(b->otlp.data, b->otlp.len, HF_BATCH_INFLATED_MAX, &events, NULL,
				    0);
	if (r < 0)
		return r;
	if (events->n_items != b->records)
		return -EBADMSG;
	for (size_t i = 0; i < events->n_items; i++) {
		uint64_t seq = hf_batch_seq_at(b, i);

		if (seq <= acked) {
			j->duplicate++;
			continue;
		}
		r = store_event(s, j, seq, events->items[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int store_gaps(struct hf_store *s, struct batch_job *j, uint64_t acked)
{
	const Session__TelemetryBatch *b = j->batch;

	for (size_t i = 0; i < b->n_gaps; i++) {
		const Session__Gap *g = b->gaps[i];
		char reason[48];
		int r;

		if (g->last_seq <= acked)
			continue;
		(void)hf_strlcpy(reason, g->reason, sizeof(reason));
		hf_sanitize(reason);
		r = hf_store_gap_insert(s, j->endpoint, b->stream_epoch, g->first_seq, g->last_seq,
					reason, hf_now_realtime_ns());
		if (r < 0)
			return r;
		j->gap += g->last_seq - g->first_seq + 1;
	}
	return 0;
}

/* The position after this batch; see I2. */
static int advance(struct hf_store *s, struct batch_job *j, uint64_t acked)
{
	const Session__TelemetryBatch *b = j->batch;
	uint64_t now = hf_now_realtime_ns();
	int r = 0;

	if (b->first_seq > acked + 1) {
		/* The agent gave up what we had confirmed once: our database is older than that. */
		if (j->first_unacked == 0 || b->first_seq > j->first_unacked) {
			j->acked = acked;
			return 0;
		}
		r = hf_store_gap_insert(s, j->endpoint, b->stream_epoch, acked + 1,
					b->first_seq - 1, "portal_restored", now);
		j->gap += b->first_seq - 1 - acked;
	}
	j->acked = b->last_seq > acked ? b->last_seq : acked;
	if (r == 0)
		r = hf_store_stream_set(s, j->endpoint, b->stream_epoch, j->acked, now);
	return r;
}

static int run_batch(struct hf_store *s, void *arg)
{
	struct batch_job *j = arg;
	uint64_t acked;
	int r = hf_store_stream_get(s, j->endpoint, j->batch->stream_epoch, &acked);

	if (r == 0)
		r = store_records(s, j, acked);
	if (r == 0)
		r = store_gaps(s, j, acked);
	if (r == 0)
		r = advance(s, j, acked);
	return r;
}

static void publish_batch(struct hf_portal *p, const struct batch_job *j)
{
	char id[HF_UUID_TEXT_SIZE];

	if (j->stored == 0 || hf_hub_idle(p->hub))
		return;
	hf_uuid_format(j->endpoint, id);
	hf_hub_publish(p->hub, "events",
		       json_pack("{s:s, s:I}", "endpoint", id, "count", (json_int_t)j->stored));
}

static void done_batch(int r, void *arg)
{
	struct batch_job *j = arg;
	struct hf_link *l = j->link;
	struct hf_counters *n = &l->portal->counters;
	Session__TelemetryAck ack = SESSION__TELEMETRY_ACK__INIT;

	if (r == 0) {
		n->batches++;
		n->events_stored += j->stored;
		n->events_duplicate += j->duplicate;
		n->events_gap += j->gap;
		ack.stream_epoch = j->batch->stream_epoch;
		ack.acked = j->acked;
		hf_link_send_custom(l, HF_CAP_TELEMETRY, HF_MSG_TELEMETRY_ACK, &ack.base);
		publish_batch(l->portal, j);
	} else {
		n->batches_refused++;
		if (r == -EBADMSG || r == -EMSGSIZE)
			hf_link_refuse(
				l,
				OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
				r == -EMSGSIZE ? HF_WS_CLOSE_TOO_BIG : HF_WS_CLOSE_INVALID,
				"malformed telemetry batch");
		else
			unavailable(l, "the portal cannot store telemetry now");
	}
	hf_link_unref_job(l);
	session__telemetry_batch__free_unpacked(j->batch, NULL);
	free(j);
}

void hf_telemetry_batch(struct hf_link *l, Session__TelemetryBatch *b)
{
	struct batch_job *j = NULL;

	if (hf_batch_check(b) < 0) {
		l->portal->counters.batches_refused++;
		hf_link_refuse(
			l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
			HF_WS_CLOSE_INVALID, "malformed telemetry batch");
		goto cleanup;
	}
	if (!may_store(l)) { /* not acknowledged: it stays in the agent's spool until approved */
		l->portal->counters.batches_refused++;
		goto cleanup;
	}
	j = calloc(1, sizeof(*j));
	if (!j)
		goto cleanup;
	j->link = l;
	j->batch = b;
	memcpy(j->endpoint, l->ep->row.id, HF_ID_SIZE);
	for (size_t i = 0; i < l->n_streams; i++) {
		if (l->first_unacked[i].epoch == b->stream_epoch)
			j->first_unacked = l->first_unacked[i].acked;
	}
	if (hf_writer_submit(l->portal->writer, run_batch, done_batch, j,
			     sizeof(*j) + b->otlp.len + b->inflated_bytes) < 0) {
		l->portal->counters.batches_refused++;
		unavailable(l, "the portal cannot store telemetry now");
		goto cleanup;
	}
	hf_link_ref_job(l);
	return;

cleanup:
	free(j);
	session__telemetry_batch__free_unpacked(b, NULL);
}

/* ---- outages -------------------------------------------------------------------------------- */

struct outage_job {
	struct hf_link *link;
	Bus__Outage *outage;
	struct hf_outage_row row;
	struct hf_buf packed;
	bool stored;
};

static void outage_job_free(struct outage_job *j)
{
	bus__outage__free_unpacked(j->outage, NULL);
	hf_buf_done(&j->packed);
	free(j);
}

static int run_outage(struct hf_store *s, void *arg)
{
	struct outage_job *j = arg;
	int r = hf_store_outage_insert(s, &j->row, hf_now_realtime_ns());

	j->stored = r > 0;
	return r < 0 ? r : 0;
}

static void publish_outage(struct hf_portal *p, const struct outage_job *j)
{
	struct hf_endpoint *ep = hf_registry_find(p->registry, j->row.endpoint);
	char id[HF_UUID_TEXT_SIZE];
	json_t *o;

	if (!ep)
		return;
	hf_endpoint_set_outage(ep, &j->row);
	hf_fleet_publish(p, ep);
	if (hf_hub_idle(p->hub))
		return;
	o = hf_outage_json(j->outage);
	hf_uuid_format(j->row.endpoint, id);
	if (o) {
		(void)json_object_set_new(o, "endpoint", json_string(id)); /* ENOMEM: without */
		(void)json_object_set_new(o, "endpoint_name", json_string(ep->row.name));
	}
	hf_hub_publish(p->hub, "outage", o);
}

static void done_outage(int r, void *arg)
{
	struct outage_job *j = arg;
	struct hf_link *l = j->link;
	Session__OutageAck ack = SESSION__OUTAGE_ACK__INIT;

	if (r == 0) {
		if (j->stored) {
			l->portal->counters.outages_stored++;
			publish_outage(l->portal, j);
		} else {
			l->portal->counters.outages_duplicate++;
		}
		ack.id = j->outage->id;
		hf_link_send_custom(l, HF_CAP_OUTAGE, HF_MSG_OUTAGE_ACK, &ack.base);
	} else {
		unavailable(l, "the portal cannot store outages now");
	}
	hf_link_unref_job(l);
	outage_job_free(j);
}

static int fill_outage(struct outage_job *j)
{
	const Bus__Outage *o = j->outage;
	struct hf_outage_row *row = &j->row;
	size_t size = bus__outage__get_packed_size(o);
	int r;

	if (hf_uuid_parse(o->id, row->id) < 0 || size > OUTAGE_PACKED_MAX)
		return -EBADMSG;
	r = hf_buf_reserve(&j->packed, size + 1);
	if (r < 0)
		return r;
	j->packed.len = bus__outage__pack(o, j->packed.data);
	row->packed = j->packed.data;
	row->packed_len = j->packed.len;
	row->began_ns = o->began_unix_ns;
	row->detected_ns = o->detected_unix_ns;
	row->restored_ns = o->restored_unix_ns;
	row->detect_us = o->detect_us;
	row->outage_us = o->outage_us;
	(void)hf_strlcpy(row->cause, hf_cause_name(hf_cause_from_name(o->cause)),
			 sizeof(row->cause));
	(void)hf_strlcpy(row->detected_by, o->detected_by, sizeof(row->detected_by));
	(void)hf_strlcpy(row->detail, o->detail, sizeof(row->detail));
	return 0;
}

void hf_telemetry_outage(struct hf_link *l, const Opamp__CustomMessage *cm)
{
	struct outage_job *j;

	if (!may_store(l))
		return;
	j = calloc(1, sizeof(*j));
	if (!j)
		return;
	j->link = l;
	memcpy(j->row.endpoint, l->ep->row.id, HF_ID_SIZE);
	if (hf_opamp_custom_unpack(cm, &bus__outage__descriptor, &j->outage) < 0 ||
	    fill_outage(j) < 0) {
		hf_link_refuse(
			l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
			HF_WS_CLOSE_INVALID, "malformed outage record");
		outage_job_free(j);
		return;
	}
	if (hf_writer_submit(l->portal->writer, run_outage, done_outage, j,
			     sizeof(*j) + 2 * j->packed.len) < 0) {
		unavailable(l, "the portal cannot store outages now");
		outage_job_free(j);
		return;
	}
	hf_link_ref_job(l);
}
