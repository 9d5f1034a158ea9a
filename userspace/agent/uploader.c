/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The uploader.
 *
 * I1 a cursor only moves behind what send() has taken; offline() forgets cursors and window, so that
 *    what the portal did not commit is sent again.
 * I2 at most HF_UPLOAD_WINDOW batches are out, at most one when a batch is a single record: then a
 *    refusal names the record.
 */
#include "userspace/agent/uploader.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "userspace/proto/batch.h"
#include "userspace/proto/frame.h"

#define UPLOADER_MAGIC 0x55706c64u
/* One record with everything in it is about 1.5 KiB of OTLP. */
#define BATCH_BYTES_MIN 4096u
/* A batch also is one transaction of the portal: not too long a one. */
#define BATCH_RECORDS_MAX 1000u
/* OTLP is about five times a packed event: reading more than this is work for nothing. */
#define READ_RATIO 4u
/* After so many good batches a size that was refused once is tried again. */
#define GROW_AFTER 64u

struct cursor {
	uint64_t epoch, next;
};

struct flight {
	uint64_t epoch, first, last;
	enum hf_spool_priority prio;
};

struct hf_uploader {
	uint32_t magic;
	struct hf_spool *spool;
	const struct hf_otlp_resource *resource;
	struct hf_uploader_callbacks cb;
	void *userdata;
	bool online, pumping;
	size_t batch_bytes, batch_records;
	unsigned good; /* batches acknowledged since the last change of size */
	struct cursor cursors[HF_SPOOL_STREAMS_MAX];
	size_t n_cursors;
	struct flight flights[HF_UPLOAD_WINDOW];
	unsigned n_flights;
	struct hf_spool_chunk chunk;
	struct hf_buf otlp, deflated;
	struct hf_uploader_stats stats;
};

int hf_uploader_new(struct hf_spool *spool, const struct hf_otlp_resource *resource,
		    const struct hf_uploader_callbacks *cb, void *userdata,
		    struct hf_uploader **ret)
{
	struct hf_uploader *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->magic = UPLOADER_MAGIC;
	u->spool = spool;
	u->resource = resource;
	u->cb = *cb;
	u->userdata = userdata;
	u->batch_bytes = HF_BATCH_INFLATED_MAX;
	u->batch_records = BATCH_RECORDS_MAX;
	*ret = u;
	return 0;
}

struct hf_uploader *hf_uploader_free(struct hf_uploader *u)
{
	if (!u)
		return NULL;
	hf_spool_chunk_done(&u->chunk);
	hf_buf_done(&u->otlp);
	hf_buf_done(&u->deflated);
	free(u);
	return NULL;
}

int hf_uploader_hello(struct hf_uploader *u, Session__Hello *hello)
{
	struct hf_spool_stream streams[HF_SPOOL_STREAMS_MAX];
	size_t n = hf_spool_streams(u->spool, streams);

	hello->streams = calloc(n, sizeof(*hello->streams));
	if (!hello->streams)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		Session__Stream *s = malloc(sizeof(*s));

		if (!s)
			return -ENOMEM;
		session__stream__init(s);
		s->epoch = streams[i].epoch;
		s->first_unacked = streams[i].first_unacked;
		s->last = streams[i].last;
		hello->streams[hello->n_streams++] = s;
	}
	return 0;
}

static unsigned window(const struct hf_uploader *u)
{
	return u->batch_records == 1 ? 1 : HF_UPLOAD_WINDOW;
}

/* Makes batches smaller, after one of `records` was too big. False: there is no smaller one. */
static bool halve(struct hf_uploader *u, size_t records)
{
	u->stats.refused++;
	u->good = 0;
	if (records <= 1)
		return false;
	u->batch_records = records / 2;
	if (u->batch_bytes / 2 >= BATCH_BYTES_MIN)
		u->batch_bytes /= 2;
	return true;
}

static void grow(struct hf_uploader *u)
{
	if (++u->good < GROW_AFTER)
		return;
	u->good = 0;
	u->batch_records *= 2;
	if (u->batch_records > BATCH_RECORDS_MAX)
		u->batch_records = BATCH_RECORDS_MAX;
	u->batch_bytes *= 2;
	if (u->batch_bytes > HF_BATCH_INFLATED_MAX)
		u->batch_bytes = HF_BATCH_INFLATED_MAX;
}

static void give_up(struct hf_uploader *u, uint64_t epoch, uint64_t seq)
{
	u->stats.given_up++;
	(void)hf_spool_give_up(u->spool, epoch, seq);
}

/* The stream's cursor; at its first unacknowledged number when it is new. */
static struct cursor *find_cursor(struct hf_uploader *u, const struct hf_spool_stream *s)
{
	struct cursor *c;

	for (size_t i = 0; i < u->n_cursors; i++)
		if (u->cursors[i].epoch == s->epoch)
			return &u->cursors[i];
	/* Streams come and go; the table holds as many as there can be. */
	if (u->n_cursors == HF_SPOOL_STREAMS_MAX) {
		memmove(u->cursors, u->cursors + 1,
			(HF_SPOOL_STREAMS_MAX - 1) * sizeof(*u->cursors));
		u->n_cursors--;
	}
	c = &u->cursors[u->n_cursors++];
	*c = (struct cursor){s->epoch, s->first_unacked};
	return c;
}

/* Packed records to events; NULL where the bytes are none. */
static void unpack_items(const struct hf_spool_chunk *c, Bus__Event **events)
{
	for (size_t i = 0; i < c->n_items; i++) {
		events[i] = NULL;
		(void)hf_pb_unpack(&bus__event__descriptor, c->data.data + c->items[i].off,
				   c->items[i].len, &events[i]);
	}
}

/*
 * Encodes what fits of the chunk into u->deflated. Returns the number of records; -EBADMSG or
 * -EMSGSIZE: the first one cannot be sent at all.
 */
static int encode_chunk(struct hf_uploader *u)
{
	const struct hf_spool_chunk *c = &u->chunk;
	_cleanup_free_ Bus__Event **events = NULL;
	size_t n = 0;
	int r;

	u->otlp.len = u->deflated.len = 0;
	if (c->n_items == 0)
		return 0;
	events = calloc(c->n_items, sizeof(*events));
	if (!events)
		return -ENOMEM;
	unpack_items(c, events);
	while (n < c->n_items && events[n])
		n++;
	r = n ? hf_otlp_encode((const Bus__Event *const *)events, n, u->resource, u->batch_bytes,
			       &u->otlp)
	      : -EBADMSG;
	for (size_t i = 0; i < c->n_items; i++)
		hf_pb_freep(&events[i]);
	if (r > 0) {
		int zr = hf_otlp_deflate(u->otlp.data, u->otlp.len, &u->deflated);

		if (zr < 0)
			r = zr;
	}
	return r;
}

/* Sends n records of the chunk with the gaps up to them. Returns send()'s answer. */
static int send_chunk(struct hf_uploader *u, size_t n, enum hf_spool_priority prio)
{
	const struct hf_spool_chunk *c = &u->chunk;
	Session__TelemetryBatch b = SESSION__TELEMETRY_BATCH__INIT;
	Session__Gap gaps[HF_SPOOL_GAPS_MAX], *gapp[HF_SPOOL_GAPS_MAX];
	uint64_t last = n < c->n_items ? c->items[n].seq - 1 : c->last;
	int r;

	b.stream_epoch = c->epoch;
	b.first_seq = c->first;
	b.last_seq = last;
	b.records = (uint32_t)n;
	b.inflated_bytes = (uint32_t)u->otlp.len;
	b.otlp = (ProtobufCBinaryData){u->deflated.len, u->deflated.data};
	b.gaps = gapp;
	for (size_t i = 0; i < c->n_gaps && c->gaps[i].first <= last; i++) {
		session__gap__init(&gaps[i]);
		gaps[i].first_seq = c->gaps[i].first;
		gaps[i].last_seq = c->gaps[i].last;
		gaps[i].reason = (char *)hf_spool_gap_reason_name(c->gaps[i].reason);
		gapp[b.n_gaps++] = &gaps[i];
	}
	r = u->cb.send(&b, u->userdata);
	if (r < 0)
		return r;
	u->stats.batches++;
	u->stats.records += n;
	u->stats.bytes += b.otlp.len;
	/* The answer may have come inside, or the connection gone. */
	if (u->online && u->n_flights < HF_UPLOAD_WINDOW)
		u->flights[u->n_flights++] = (struct flight){c->epoch, c->first, last, prio};
	return (int)n;
}

/* One batch of the stream. 1 sent, 0 nothing to send now, -errno of send(). */
static int upload(struct hf_uploader *u, const struct hf_spool_stream *s, struct cursor *cursor)
{
	for (;;) {
		uint64_t epoch, first;
		int n, r;

		r = hf_spool_read(u->spool, s->epoch, cursor->next, u->batch_records,
				  u->batch_bytes / READ_RATIO, &u->chunk);
		if (r <= 0)
			return 0;
		epoch = u->chunk.epoch;
		first = u->chunk.n_items ? u->chunk.items[0].seq : 0;
		n = encode_chunk(u);
		if (n == -EBADMSG || n == -EMSGSIZE) {
			give_up(u, epoch, first);
			continue;
		}
		if (n < 0)
			return 0;
		cursor->next =
			(size_t)n < u->chunk.n_items ? u->chunk.items[n].seq : u->chunk.last + 1;
		r = send_chunk(u, (size_t)n, s->prio);
		if (r >= 0)
			return 1;
		cursor->next = u->chunk.first;
		if (r != -EMSGSIZE)
			return r;
		if (!halve(u, (size_t)n)) {
			/* A batch of nothing but gaps is small; a transport that refuses it is broken. */
			if (n == 0)
				return -EPROTO;
			give_up(u, epoch, first);
		}
	}
}

static unsigned count_flights(const struct hf_uploader *u, enum hf_spool_priority prio)
{
	unsigned n = 0;

	for (unsigned i = 0; i < u->n_flights; i++)
		n += u->flights[i].prio == prio;
	return n;
}

/* One place of the window is kept for the other priority. */
static bool may_send(const struct hf_uploader *u, enum hf_spool_priority prio)
{
	unsigned w = window(u);

	if (u->n_flights >= w)
		return false;
	return w == 1 || count_flights(u, prio) < w - 1;
}

/* Sends one batch of the first stream that has something and may. */
static int upload_one(struct hf_uploader *u)
{
	struct hf_spool_stream streams[HF_SPOOL_STREAMS_MAX];
	size_t n = hf_spool_streams(u->spool, streams);

	for (size_t i = 0; i < n; i++) {
		struct cursor *c;
		int r;

		if (!may_send(u, streams[i].prio))
			continue;
		c = find_cursor(u, &streams[i]);
		if (c->next < streams[i].first_unacked)
			c->next = streams[i].first_unacked;
		if (c->next > streams[i].last)
			continue;
		r = upload(u, &streams[i], c);
		if (r != 0)
			return r;
	}
	return 0;
}

static void pump(struct hf_uploader *u)
{
	int r = 1;

	/* send() may call back into ack() or offline(). */
	if (u->pumping)
		return;
	u->pumping = true;
	while (r > 0 && u->online)
		r = upload_one(u);
	u->pumping = false;
	if (r < 0 && r != -ENOBUFS)
		hf_uploader_offline(u);
}

static uint64_t acked_in(const Session__Welcome *w, uint64_t epoch)
{
	for (size_t i = 0; i < w->n_acks; i++)
		if (w->acks[i]->epoch == epoch)
			return w->acks[i]->acked;
	return 0;
}

void hf_uploader_online(struct hf_uploader *u, const Session__Welcome *welcome)
{
	struct hf_spool_stream streams[HF_SPOOL_STREAMS_MAX];
	size_t n = hf_spool_streams(u->spool, streams);

	hf_uploader_offline(u);
	for (size_t i = 0; i < n; i++)
		(void)hf_spool_resume(u->spool, streams[i].epoch,
				      acked_in(welcome, streams[i].epoch));
	u->online = true;
	pump(u);
}

void hf_uploader_offline(struct hf_uploader *u)
{
	u->online = false;
	u->n_cursors = u->n_flights = 0;
}

void hf_uploader_kick(struct hf_uploader *u)
{
	pump(u);
}

void hf_uploader_ack(struct hf_uploader *u, const Session__TelemetryAck *ack)
{
	unsigned kept = 0;

	(void)hf_spool_ack(u->spool, ack->stream_epoch, ack->acked);
	for (unsigned i = 0; i < u->n_flights; i++) {
		const struct flight *f = &u->flights[i];

		if (f->epoch == ack->stream_epoch && f->last <= ack->acked)
			grow(u);
		else
			u->flights[kept++] = *f;
	}
	u->n_flights = kept;
	pump(u);
}

void hf_uploader_refused(struct hf_uploader *u)
{
	const struct flight *f = u->n_flights ? &u->flights[0] : NULL;
	uint64_t largest = 0;

	/* One of these it was: what is allowed at most does not matter where less was sent. */
	for (unsigned i = 0; i < u->n_flights; i++)
		if (u->flights[i].last - u->flights[i].first + 1 > largest)
			largest = u->flights[i].last - u->flights[i].first + 1;
	if (largest == 0 || largest > u->batch_records)
		largest = u->batch_records;
	/* With one record a batch, one batch is out: that is the one. */
	if (!halve(u, (size_t)largest) && f)
		give_up(u, f->epoch, f->last);
}

void hf_uploader_stats(const struct hf_uploader *u, struct hf_uploader_stats *ret)
{
	*ret = u->stats;
	ret->outstanding = u->n_flights;
	ret->batch_bytes = u->batch_bytes;
}
