/* SPDX-License-Identifier: Apache-2.0 */
/* The uploader with a real spool and a portal that is a few lines of C. */
#include "selftests/unit/agent/spool_util.h"

#include "userspace/agent/uploader.h"
#include "userspace/proto/batch.h"
#include "userspace/proto/frame.h"

/* Commits what follows without a hole, like the real one; remembers who came when. */
struct portal {
	struct stream {
		uint64_t epoch, acked;
	} streams[HF_SPOOL_STREAMS_MAX];
	size_t n_streams;
	struct seen seen;
	unsigned pending; /* batches got and not answered */
	struct {
		uint64_t epoch, last;
	} out[64];
	char order[256]; /* H or L of each batch */
	size_t n_order;
	int refuse;            /* answer of send() */
	unsigned refuse_above; /* records */
	unsigned poison;       /* record number that is always refused; 0 none */
	uint32_t biggest;
};

static struct spool_test t;
static struct portal portal;
static struct hf_uploader *up;
static const struct hf_otlp_resource resource = {.hostname = "h"};

static struct stream *portal_stream(uint64_t epoch)
{
	for (size_t i = 0; i < portal.n_streams; i++)
		if (portal.streams[i].epoch == epoch)
			return &portal.streams[i];
	assert_true(portal.n_streams < HF_SPOOL_STREAMS_MAX);
	portal.streams[portal.n_streams] = (struct stream){.epoch = epoch};
	return &portal.streams[portal.n_streams++];
}

static void commit(const Session__TelemetryBatch *b, const Bus__Events *events)
{
	struct stream *s = portal_stream(b->stream_epoch);

	assert_true(b->first_seq <= s->acked + 1);
	for (size_t i = 0; i < events->n_items; i++) {
		const Bus__Event *e = events->items[i];

		if (hf_batch_seq_at(b, i) <= s->acked)
			continue;
		(*e->comm == 'H' ? portal.seen.high : portal.seen.low)[atoi(e->comm + 1)]++;
		portal.seen.records++;
	}
	for (size_t i = 0; i < b->n_gaps; i++)
		if (b->gaps[i]->last_seq > s->acked)
			portal.seen.gaps += b->gaps[i]->last_seq - b->gaps[i]->first_seq + 1;
	if (b->last_seq > s->acked)
		s->acked = b->last_seq;
}

static int on_send(Session__TelemetryBatch *b, void *userdata)
{
	_cleanup_pb_ Bus__Events *events = NULL;

	(void)userdata;
	assert_ok(hf_batch_check(b));
	if (portal.refuse)
		return portal.refuse;
	if (b->records > 0)
		assert_ok(hf_otlp_decode_deflated(b->otlp.data, b->otlp.len, b->inflated_bytes,
						  &events, NULL, 0));
	if (portal.refuse_above && b->records > portal.refuse_above)
		return -EMSGSIZE;
	for (size_t i = 0; portal.poison && events && i < events->n_items; i++)
		if ((unsigned)atoi(events->items[i]->comm + 1) == portal.poison)
			return -EMSGSIZE;
	if (b->inflated_bytes > portal.biggest)
		portal.biggest = b->inflated_bytes;
	if (portal.n_order < sizeof(portal.order) - 1)
		portal.order[portal.n_order++] = events ? *events->items[0]->comm : 'G';
	assert_true(portal.pending < HF_UPLOAD_WINDOW);
	portal.out[portal.pending].epoch = b->stream_epoch;
	portal.out[portal.pending++].last = b->last_seq;
	if (events)
		commit(b, events);
	else
		commit(b, &(Bus__Events)BUS__EVENTS__INIT);
	return 0;
}

/* Acknowledges the oldest outstanding batch. */
static void answer(void)
{
	Session__TelemetryAck ack = SESSION__TELEMETRY_ACK__INIT;

	assert_true(portal.pending > 0);
	ack.stream_epoch = portal.out[0].epoch;
	ack.acked = portal.out[0].last;
	portal.pending--;
	memmove(portal.out, portal.out + 1, portal.pending * sizeof(portal.out[0]));
	hf_uploader_ack(up, &ack);
}

static void connect_portal(void)
{
	Session__Welcome w = SESSION__WELCOME__INIT;
	Session__StreamAck acks[HF_SPOOL_STREAMS_MAX], *ackp[HF_SPOOL_STREAMS_MAX];

	portal.pending = 0;
	for (size_t i = 0; i < portal.n_streams; i++) {
		session__stream_ack__init(&acks[i]);
		acks[i].epoch = portal.streams[i].epoch;
		acks[i].acked = portal.streams[i].acked;
		ackp[i] = &acks[i];
	}
	w.acks = ackp;
	w.n_acks = portal.n_streams;
	hf_uploader_online(up, &w);
}

static void kick_when_readable(void *userdata)
{
	on_readable(userdata);
	hf_uploader_kick(up);
}

static void begin(void **fixture)
{
	static const struct hf_spool_callbacks cb = {on_settled, kick_when_readable, on_disk};
	static const struct hf_uploader_callbacks up_cb = {on_send};

	spool_init(&t, fixture);
	t.config.segment_bytes = 256 << 10; /* records of these tests fit one: no loads */
	t.config.max_bytes = 8 << 20;
	memset(&portal, 0, sizeof(portal));
	assert_ok(hf_spool_open(&t.config, &cb, &t, &t.spool));
	assert_ok(hf_uploader_new(t.spool, &resource, &up_cb, NULL, &up));
}

static void end(void)
{
	up = hf_uploader_free(up);
	spool_close(&t);
}

/* An event whose comm says which one it is. */
static void event(enum hf_spool_priority prio, unsigned n)
{
	Bus__Event e = BUS__EVENT__INIT;
	struct hf_buf b = {};
	char comm[16];

	(void)snprintf(comm, sizeof(comm), "%c%u", prio == HF_SPOOL_HIGH ? 'H' : 'L', n);
	e.kind = (char *)"proc.exit";
	e.comm = comm;
	e.seq = n;
	assert_ok(hf_pb_pack(&e.base, &b));
	assert_ok(hf_spool_append(t.spool, prio, b.data, b.len, NULL));
	hf_buf_done(&b);
}

static void events(enum hf_spool_priority prio, unsigned from, unsigned to)
{
	struct hf_spool_stats st;

	for (unsigned n = from; n <= to; n++)
		event(prio, n);
	do {
		spool_turn(&t);
		hf_spool_stats(t.spool, &st);
	} while (st.settled < st.appended);
	spool_turn(&t);
}

/* Answers until nothing is outstanding and everything was sent. */
static void drain(void)
{
	struct hf_spool_stream streams[HF_SPOOL_STREAMS_MAX];
	uint64_t until = hf_now_monotonic_ns() + WAIT_MS * HF_NS_PER_MS;

	for (;;) {
		size_t n = hf_spool_streams(t.spool, streams);
		bool left = false;

		for (size_t i = 0; i < n; i++)
			left |= streams[i].first_unacked <= streams[i].last;
		if (!left)
			return;
		if (portal.pending)
			answer();
		else
			spool_turn(&t);
		if (hf_now_monotonic_ns() > until)
			fail_msg("not drained");
	}
}

static void nothing_is_sent_while_offline(void **state)
{
	begin(state);
	events(HF_SPOOL_LOW, 1, 10);
	assert_int_equal(portal.n_order, 0);
	connect_portal();
	assert_int_equal(portal.n_order, 1);
	hf_uploader_offline(up);
	events(HF_SPOOL_LOW, 11, 20);
	assert_int_equal(portal.n_order, 1);
	end();
}

static void everything_arrives_once_and_is_removed(void **state)
{
	begin(state);
	connect_portal();
	events(HF_SPOOL_LOW, 1, 3000);
	events(HF_SPOOL_HIGH, 1, 300);
	drain();
	assert_seen(portal.seen.low, 1, 3000, 1);
	assert_seen(portal.seen.high, 1, 300, 1);
	assert_int_equal(portal.seen.gaps, 0);
	assert_true(portal.biggest <= HF_BATCH_INFLATED_MAX);
	end();
}

static void a_backlog_of_many_files_arrives_once(void **state)
{
	static const struct hf_spool_callbacks cb = {on_settled, kick_when_readable, on_disk};

	begin(state);
	spool_close(&t);
	t.config.segment_bytes = 4096;
	t.settled = 0;
	assert_ok(hf_spool_open(&t.config, &cb, &t, &t.spool));
	up = hf_uploader_free(up);
	assert_ok(hf_uploader_new(t.spool, &resource, &(struct hf_uploader_callbacks){on_send},
				  NULL, &up));
	events(HF_SPOOL_LOW, 1, 3000);
	events(HF_SPOOL_HIGH, 1, 3000);
	connect_portal();
	drain();
	assert_seen(portal.seen.low, 1, 3000, 1);
	assert_seen(portal.seen.high, 1, 3000, 1);
	assert_int_equal(portal.seen.gaps, 0);
	end();
}

static void the_window_is_bounded_and_one_place_is_for_the_others(void **state)
{
	struct hf_uploader_stats st;

	begin(state);
	events(HF_SPOOL_HIGH, 1, 6000);
	connect_portal();
	assert_string_equal(portal.order, "HHH");
	events(HF_SPOOL_LOW, 1, 6000);
	assert_string_equal(portal.order, "HHHL");
	hf_uploader_stats(up, &st);
	assert_int_equal(st.outstanding, HF_UPLOAD_WINDOW);
	answer();
	assert_string_equal(portal.order, "HHHLH");
	drain();
	assert_seen(portal.seen.high, 1, 6000, 1);
	assert_seen(portal.seen.low, 1, 6000, 1);
	end();
}

static void urgent_records_overtake_a_backlog(void **state)
{
	begin(state);
	events(HF_SPOOL_LOW, 1, 6000);
	connect_portal();
	assert_string_equal(portal.order, "LLL");
	events(HF_SPOOL_HIGH, 1, 1);
	assert_string_equal(portal.order, "LLLH");
	end();
}

static void after_a_reconnect_it_goes_on_behind_what_the_portal_has(void **state)
{
	begin(state);
	events(HF_SPOOL_LOW, 1, 2500);
	connect_portal();
	/* The batches arrived, their acknowledgements did not. */
	assert_int_equal(portal.pending, 3);
	hf_uploader_offline(up);
	connect_portal();
	drain();
	assert_seen(portal.seen.low, 1, 2500, 1);
	assert_int_equal(portal.seen.gaps, 0);
	end();
}

static void a_portal_that_forgot_gets_what_is_left_and_the_gap(void **state)
{
	begin(state);
	connect_portal();
	events(HF_SPOOL_LOW, 1, 12000); /* two segments and a part */
	drain();
	events(HF_SPOOL_LOW, 12001, 12010);
	hf_uploader_offline(up);
	portal.streams[0].acked = 100;
	memset(&portal.seen, 0, sizeof(portal.seen));
	connect_portal();
	drain();
	assert_int_equal(portal.seen.records + portal.seen.gaps, 12010 - 100);
	assert_seen(portal.seen.low, 12001, 12010, 1);
	assert_true(portal.seen.gaps > 1000);
	end();
}

static void a_refused_size_is_halved(void **state)
{
	struct hf_uploader_stats st;

	begin(state);
	events(HF_SPOOL_LOW, 1, 2000);
	portal.refuse_above = 100;
	connect_portal();
	drain();
	assert_seen(portal.seen.low, 1, 2000, 1);
	hf_uploader_stats(up, &st);
	assert_in_range(st.refused, 3, 8);
	assert_int_equal(st.given_up, 0);
	end();
}

static void a_record_that_is_always_refused_is_given_up(void **state)
{
	struct hf_uploader_stats st;

	begin(state);
	events(HF_SPOOL_LOW, 1, 100);
	portal.poison = 42;
	connect_portal();
	drain();
	assert_seen(portal.seen.low, 1, 41, 1);
	assert_seen(portal.seen.low, 43, 100, 1);
	assert_int_equal(portal.seen.low[42], 0);
	assert_int_equal(portal.seen.gaps, 1);
	hf_uploader_stats(up, &st);
	assert_int_equal(st.given_up, 1);
	end();
}

/* The portal closes 1009 each time instead of saying so: one reconnect halves once. */
static void closing_with_too_big_halves_as_well(void **state)
{
	struct hf_uploader_stats st;

	begin(state);
	events(HF_SPOOL_LOW, 1, 8);
	for (unsigned i = 0; i < 20; i++) {
		connect_portal();
		memset(portal.streams, 0, sizeof(portal.streams));
		portal.n_streams = 0;
		hf_uploader_refused(up);
		hf_uploader_offline(up);
	}
	hf_uploader_stats(up, &st);
	assert_true(st.given_up >= 8);
	memset(&portal.seen, 0, sizeof(portal.seen));
	connect_portal();
	drain();
	assert_int_equal(portal.seen.records, 0);
	assert_int_equal(portal.seen.gaps, 8);
	end();
}

static void a_full_send_queue_waits_for_the_kick(void **state)
{
	begin(state);
	events(HF_SPOOL_LOW, 1, 10);
	portal.refuse = -ENOBUFS;
	connect_portal();
	assert_int_equal(portal.n_order, 0);
	portal.refuse = 0;
	hf_uploader_kick(up);
	assert_int_equal(portal.n_order, 1);
	drain();
	assert_seen(portal.seen.low, 1, 10, 1);
	end();
}

static void a_broken_connection_waits_for_the_next(void **state)
{
	begin(state);
	events(HF_SPOOL_LOW, 1, 10);
	portal.refuse = -EPIPE;
	connect_portal();
	portal.refuse = 0;
	hf_uploader_kick(up);
	assert_int_equal(portal.n_order, 0);
	connect_portal();
	drain();
	assert_seen(portal.seen.low, 1, 10, 1);
	end();
}

static void bytes_that_are_no_event_are_given_up(void **state)
{
	begin(state);
	event(HF_SPOOL_LOW, 1);
	assert_ok(hf_spool_append(t.spool, HF_SPOOL_LOW, "\xff\xff\xff", 3, NULL));
	events(HF_SPOOL_LOW, 3, 4);
	connect_portal();
	drain();
	assert_int_equal(portal.seen.records, 3);
	assert_int_equal(portal.seen.gaps, 1);
	end();
}

static void gaps_travel_without_records(void **state)
{
	begin(state);
	events(HF_SPOOL_LOW, 1, 3);
	connect_portal();
	drain();
	hf_uploader_offline(up);
	portal.streams[0].acked = 0;
	memset(&portal.seen, 0, sizeof(portal.seen));
	spool_close(&t);
	up = hf_uploader_free(up);
	/* Restarted, all files are gone and the portal has forgotten. */
	{
		static const struct hf_spool_callbacks cb = {on_settled, kick_when_readable,
							     on_disk};
		static const struct hf_uploader_callbacks up_cb = {on_send};

		t.settled = 0;
		assert_ok(hf_spool_open(&t.config, &cb, &t, &t.spool));
		assert_ok(hf_uploader_new(t.spool, &resource, &up_cb, NULL, &up));
	}
	portal.n_order = 0;
	memset(portal.order, 0, sizeof(portal.order));
	connect_portal();
	assert_string_equal(portal.order, "G");
	drain();
	assert_int_equal(portal.seen.gaps, 3);
	end();
}

static void hello_lists_what_is_held(void **state)
{
	Session__Hello *hello = malloc(sizeof(*hello));

	begin(state);
	session__hello__init(hello);
	events(HF_SPOOL_LOW, 1, 5);
	assert_ok(hf_uploader_hello(up, hello));
	assert_int_equal(hello->n_streams, 2);
	assert_int_equal(hello->streams[0]->last, 0);
	assert_int_equal(hello->streams[0]->first_unacked, 1);
	assert_int_equal(hello->streams[1]->last, 5);
	session__hello__free_unpacked(hello, NULL);
	end();
}

#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, hf_test_dir_setup, hf_test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DIR(nothing_is_sent_while_offline),
		WITH_DIR(everything_arrives_once_and_is_removed),
		WITH_DIR(a_backlog_of_many_files_arrives_once),
		WITH_DIR(the_window_is_bounded_and_one_place_is_for_the_others),
		WITH_DIR(urgent_records_overtake_a_backlog),
		WITH_DIR(after_a_reconnect_it_goes_on_behind_what_the_portal_has),
		WITH_DIR(a_portal_that_forgot_gets_what_is_left_and_the_gap),
		WITH_DIR(a_refused_size_is_halved),
		WITH_DIR(a_record_that_is_always_refused_is_given_up),
		WITH_DIR(closing_with_too_big_halves_as_well),
		WITH_DIR(a_full_send_queue_waits_for_the_kick),
		WITH_DIR(a_broken_connection_waits_for_the_next),
		WITH_DIR(bytes_that_are_no_event_are_given_up),
		WITH_DIR(gaps_travel_without_records),
		WITH_DIR(hello_lists_what_is_held),
	};

	return HF_RUN_TESTS(tests);
}
