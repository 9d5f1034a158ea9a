/* SPDX-License-Identifier: Apache-2.0 */
/* Events to OTLP and back, and what a stranger's bytes do. */
#include "selftests/unit/test_util.h"

#include "base/random.h"
#include "otlp.pb-c.h"
#include "selftests/unit/proto/sample.h"
#include "userspace/proto/batch.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/otlp_codec.h"

static const struct hf_otlp_resource resource = {
	.instance_uid = "0190-uid",
	.hostname = "web1",
	.boot_id = "b007",
	.version = "0.1.0",
};

static void assert_same(Bus__Event *a, Bus__Event *b)
{
	struct hf_buf x = {}, y = {};

	assert_ok(hf_pb_pack(&a->base, &x));
	assert_ok(hf_pb_pack(&b->base, &y));
	assert_int_equal(x.len, y.len);
	assert_memory_equal(x.data, y.data, x.len);
	hf_buf_done(&x);
	hf_buf_done(&y);
}

/* Encodes, deflates, inflates, decodes. */
static Bus__Events *round_trip(Bus__Event *const *events, size_t n)
{
	Bus__Events *back = NULL;
	struct hf_buf otlp = {}, deflated = {};
	char boot[16];

	assert_int_equal(hf_otlp_encode((const Bus__Event *const *)events, n, &resource,
					HF_BATCH_INFLATED_MAX, &otlp),
			 (int)n);
	assert_ok(hf_otlp_deflate(otlp.data, otlp.len, &deflated));
	assert_ok(hf_otlp_decode_deflated(deflated.data, deflated.len, otlp.len, &back, boot,
					  sizeof(boot)));
	assert_string_equal(boot, "b007");
	assert_int_equal(back->n_items, n);
	hf_buf_done(&otlp);
	hf_buf_done(&deflated);
	return back;
}

static void every_field_survives(void **state)
{
	Bus__Event reset, died, loss = BUS__EVENT__INIT, oom = BUS__EVENT__INIT,
				drop = BUS__EVENT__INIT;
	Bus__Event *events[] = {&reset, &died, &loss, &oom, &drop};
	_cleanup_pb_ Bus__Events *back = NULL;
	Bus__LossInfo l = BUS__LOSS_INFO__INIT;
	Bus__DropInfo d = BUS__DROP_INFO__INIT;
	Bus__OomInfo o = BUS__OOM_INFO__INIT;
	Bus__ConnInfo c;
	Bus__ExitInfo x;

	(void)state;
	sample_reset(&reset, &c);
	sample_exit(&died, &x);
	loss.kind = S("telemetry.loss");
	loss.loss = &l;
	l.count = 5;
	l.first_seq = 1;
	l.last_seq = UINT64_MAX;
	l.cause = S("ring full");
	l.blind_ms = 3;
	oom.kind = S("proc.oom");
	oom.oom = &o;
	o.total_vm_kb = 1;
	o.rss_kb = 2;
	o.oom_score_adj = -1000;
	o.memcg = S("/app.slice");
	drop.kind = S("skb.drop");
	drop.drop = &d;
	d.count = 12;
	d.window_ms = 10000;

	back = round_trip(events, HF_ARRAY_SIZE(events));
	for (size_t i = 0; i < HF_ARRAY_SIZE(events); i++)
		assert_same(back->items[i], events[i]);
}

static void a_part_full_of_zeros_survives(void **state)
{
	Bus__Event e[5] = {BUS__EVENT__INIT, BUS__EVENT__INIT, BUS__EVENT__INIT, BUS__EVENT__INIT,
			   BUS__EVENT__INIT};
	Bus__Event *events[] = {&e[0], &e[1], &e[2], &e[3], &e[4]};
	Bus__ConnInfo c = BUS__CONN_INFO__INIT;
	Bus__ExitInfo x = BUS__EXIT_INFO__INIT;
	Bus__LossInfo l = BUS__LOSS_INFO__INIT;
	Bus__DropInfo d = BUS__DROP_INFO__INIT;
	Bus__OomInfo o = BUS__OOM_INFO__INIT;
	_cleanup_pb_ Bus__Events *back = NULL;

	(void)state;
	e[0].conn = &c;
	e[1].exit = &x;
	e[2].loss = &l;
	e[3].drop = &d;
	e[4].oom = &o;
	back = round_trip(events, 5);
	for (size_t i = 0; i < 5; i++)
		assert_same(back->items[i], events[i]);
}

static void addresses_survive_in_any_shape(void **state)
{
	static const char *const shapes[] = {
		"",
		"10.0.0.5:443",
		"[::1]:1",
		"[fe80::1%eth0]:65535",
		"10.0.0.5",
		"::1",
		"[::1]",
		"[::1]:65536",
		"10.0.0.5:",
		":80",
		"host:00080",
		"[10.0.0.5]:80",
		"a:b:80",
		"[]:80",
		"0.0.0.0:0",
		"[[::1]]:80",
		"unix:/a/b.c",
		"[::ffff:1.2.3.4]:80",
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(shapes); i++) {
		Bus__Event e = BUS__EVENT__INIT, *events[] = {&e};
		_cleanup_pb_ Bus__Events *back = NULL;

		e.local = S(shapes[i]);
		e.peer = S(shapes[HF_ARRAY_SIZE(shapes) - 1 - i]);
		back = round_trip(events, 1);
		assert_string_equal(back->items[0]->local, e.local);
		assert_string_equal(back->items[0]->peer, e.peer);
	}
}

static const Otlp__AnyValue *find(const Otlp__LogRecord *r, const char *key)
{
	for (size_t i = 0; i < r->n_attributes; i++)
		if (strcmp(r->attributes[i]->key, key) == 0)
			return r->attributes[i]->value;
	return NULL;
}

/* What another OpenTelemetry backend sees: names are a contract. */
static void the_record_reads_as_opentelemetry(void **state)
{
	_cleanup_pb_ Otlp__ExportLogsServiceRequest *req = NULL;
	const Bus__Event *events[1];
	const Otlp__LogRecord *log;
	struct hf_buf otlp = {};
	Bus__ConnInfo c;
	Bus__Event e;

	(void)state;
	sample_reset(&e, &c);
	events[0] = &e;
	assert_int_equal(hf_otlp_encode(events, 1, &resource, HF_BATCH_INFLATED_MAX, &otlp), 1);
	assert_ok(hf_pb_unpack(&otlp__export_logs_service_request__descriptor, otlp.data, otlp.len,
			       &req));
	assert_int_equal(req->n_resource_logs, 1);
	assert_int_equal(req->resource_logs[0]->resource->n_attributes, 6);
	assert_string_equal(req->resource_logs[0]->resource->attributes[0]->key, "service.name");
	assert_string_equal(req->resource_logs[0]->scope_logs[0]->scope->name, "io.holdfast");
	log = req->resource_logs[0]->scope_logs[0]->log_records[0];
	assert_string_equal(log->event_name, "conn.reset_sent");
	assert_int_equal(log->time_unix_nano, SAMPLE_NS);
	assert_int_equal(log->severity_number, 13);
	assert_string_equal(log->severity_text, "WARN");
	assert_string_equal(log->body->string_value, "closed with 1204 bytes unread");
	assert_int_equal(find(log, "process.pid")->int_value, 812);
	assert_string_equal(find(log, "process.executable.name")->string_value, "nginx");
	assert_string_equal(find(log, "network.local.address")->string_value, "10.0.0.5");
	assert_int_equal(find(log, "network.local.port")->int_value, 443);
	assert_string_equal(find(log, "network.peer.address")->string_value, "2001:db8::7");
	assert_int_equal(find(log, "network.peer.port")->int_value, 40112);
	assert_string_equal(find(log, "error.type")->string_value, "ECONNRESET");
	assert_string_equal(find(log, "holdfast.reason")->string_value, "TCP_CLOSE");
	assert_int_equal(find(log, "holdfast.conn.unread")->int_value, 1204);
	assert_null(find(log, "process.exit.code"));
	hf_buf_done(&otlp);
}

static void severity_follows_the_kind(void **state)
{
	(void)state;
	assert_int_equal(hf_otlp_severity("proc.oom"), 17);
	assert_int_equal(hf_otlp_severity("telemetry.loss"), 17);
	assert_int_equal(hf_otlp_severity("proc.exit"), 9);
	assert_int_equal(hf_otlp_severity("conn.closed"), 9);
	assert_int_equal(hf_otlp_severity("conn.failed"), 13);
	assert_int_equal(hf_otlp_severity("conn.reset_received"), 13);
	assert_int_equal(hf_otlp_severity("skb.drop"), 13);
	assert_int_equal(hf_otlp_severity("something.new"), 9);
}

static void only_what_fits_is_encoded(void **state)
{
	Bus__ConnInfo c;
	Bus__Event e;
	const Bus__Event *events[100];
	struct hf_buf otlp = {};
	_cleanup_pb_ Bus__Events *back = NULL;
	int n;

	(void)state;
	sample_reset(&e, &c);
	for (size_t i = 0; i < 100; i++)
		events[i] = &e;
	n = hf_otlp_encode(events, 100, &resource, 20000, &otlp);
	assert_in_range(n, 5, 50);
	assert_true(otlp.len <= 20000);
	assert_ok(hf_otlp_decode(otlp.data, otlp.len, &back));
	assert_int_equal(back->n_items, n);
	otlp.len = 3;
	assert_err(hf_otlp_encode(events, 100, &resource, 500, &otlp), -EMSGSIZE);
	assert_int_equal(otlp.len, 3);
	hf_buf_done(&otlp);
}

static void text_that_is_not_utf8_is_mended(void **state)
{
	Bus__Event e = BUS__EVENT__INIT, *events[] = {&e};
	_cleanup_pb_ Bus__Events *back = NULL;

	(void)state;
	e.kind = S("proc.\xff");
	e.comm = S("a\xc3(");
	e.detail = S("\xed\xa0\x80");
	back = round_trip(events, 1);
	assert_string_equal(back->items[0]->kind, "proc.?");
	assert_string_equal(back->items[0]->comm, "a?(");
	assert_string_equal(back->items[0]->detail, "???");
	assert_string_equal(e.comm, "a\xc3(");
}

static void an_inflate_bomb_stops_at_the_cap(void **state)
{
	_cleanup_free_ uint8_t *zeros = calloc(1, 64 << 20);
	struct hf_buf deflated = {}, out = {};

	(void)state;
	assert_non_null(zeros);
	assert_ok(hf_otlp_deflate(zeros, 64 << 20, &deflated));
	assert_true(deflated.len < 100000);
	assert_ok(hf_buf_append(&out, "keep", 4));
	assert_err(hf_otlp_inflate(deflated.data, deflated.len, 1 << 20, &out), -EMSGSIZE);
	assert_int_equal(out.len, 4);
	assert_true(out.cap <= 4 << 20);
	hf_buf_done(&deflated);
	hf_buf_done(&out);
}

static void the_cap_itself_is_allowed(void **state)
{
	struct hf_buf deflated = {}, out = {};
	uint8_t bytes[5000];

	(void)state;
	hf_random_bytes(bytes, sizeof(bytes));
	assert_ok(hf_otlp_deflate(bytes, sizeof(bytes), &deflated));
	assert_err(hf_otlp_inflate(deflated.data, deflated.len, sizeof(bytes) - 1, &out),
		   -EMSGSIZE);
	assert_ok(hf_otlp_inflate(deflated.data, deflated.len, sizeof(bytes), &out));
	assert_int_equal(out.len, sizeof(bytes));
	assert_memory_equal(out.data, bytes, sizeof(bytes));
	hf_buf_done(&deflated);
	hf_buf_done(&out);
}

static void torn_and_trailing_bytes_are_refused(void **state)
{
	struct hf_buf deflated = {}, out = {};

	(void)state;
	assert_ok(hf_otlp_deflate("hello hello hello", 17, &deflated));
	for (size_t len = 0; len < deflated.len; len++)
		assert_err(hf_otlp_inflate(deflated.data, len, 100, &out), -EBADMSG);
	assert_ok(hf_buf_append(&deflated, "x", 1));
	assert_err(hf_otlp_inflate(deflated.data, deflated.len, 100, &out), -EBADMSG);
	assert_err(hf_otlp_inflate("\xff\xff\xff", 3, 100, &out), -EBADMSG);
	assert_int_equal(out.len, 0);
	hf_buf_done(&deflated);
	hf_buf_done(&out);
}

static void attributes_of_a_wrong_type_or_twice_do_no_harm(void **state)
{
	Otlp__ExportLogsServiceRequest req = OTLP__EXPORT_LOGS_SERVICE_REQUEST__INIT;
	Otlp__ResourceLogs rl = OTLP__RESOURCE_LOGS__INIT, *rlp = &rl;
	Otlp__ScopeLogs sl = OTLP__SCOPE_LOGS__INIT, *slp = &sl;
	Otlp__LogRecord log = OTLP__LOG_RECORD__INIT, *logp = &log;
	Otlp__AnyValue text = OTLP__ANY_VALUE__INIT, big = OTLP__ANY_VALUE__INIT;
	Otlp__KeyValue kv[6], *kvp[6];
	static const char *const keys[] = {
		"process.pid", "process.pid", "process.executable.name", "process.executable.name",
		"foo.bar",     "error.type"};
	_cleanup_pb_ Bus__Events *back = NULL;
	struct hf_buf b = {};

	(void)state;
	text.value_case = OTLP__ANY_VALUE__VALUE_STRING_VALUE;
	text.string_value = S("x");
	big.value_case = OTLP__ANY_VALUE__VALUE_INT_VALUE;
	big.int_value = INT64_MAX;
	for (size_t i = 0; i < 6; i++) {
		otlp__key_value__init(&kv[i]);
		kv[i].key = S(keys[i]);
		kv[i].value = &text;
		kvp[i] = &kv[i];
	}
	kv[1].value = &big;
	kv[5].value = NULL;
	req.resource_logs = &rlp;
	rl.scope_logs = &slp;
	sl.log_records = &logp;
	log.attributes = kvp;
	req.n_resource_logs = rl.n_scope_logs = sl.n_log_records = 1;
	log.n_attributes = 6;
	log.observed_time_unix_nano = 12;
	assert_ok(hf_pb_pack(&req.base, &b));
	assert_ok(hf_otlp_decode(b.data, b.len, &back));
	assert_int_equal(back->n_items, 1);
	assert_int_equal(back->items[0]->pid, 0);
	assert_string_equal(back->items[0]->comm, "x");
	assert_int_equal(back->items[0]->time_unix_ns, 12);
	assert_null(back->items[0]->conn);
	hf_buf_done(&b);
}

static void too_many_records_are_refused(void **state)
{
	/* resource_logs { scope_logs { log_records{} × N } } */
	enum { N = HF_BATCH_RECORDS_MAX + 1, INNER = 2 * N };
	_cleanup_free_ uint8_t *b = malloc(INNER + 16);
	Bus__Events *back = NULL;
	size_t at = 0;

	(void)state;
	assert_non_null(b);
	b[at++] = 0x0a;
	b[at++] = (uint8_t)((INNER + 4) | 0x80);
	b[at++] = (uint8_t)((INNER + 4) >> 7 | 0x80);
	b[at++] = (uint8_t)((INNER + 4) >> 14);
	b[at++] = 0x12;
	b[at++] = (uint8_t)(INNER | 0x80);
	b[at++] = (uint8_t)(INNER >> 7 | 0x80);
	b[at++] = (uint8_t)(INNER >> 14);
	for (size_t i = 0; i < N; i++) {
		b[at++] = 0x12;
		b[at++] = 0;
	}
	assert_err(hf_otlp_decode(b, at, &back), -EMSGSIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_survives),
		cmocka_unit_test(a_part_full_of_zeros_survives),
		cmocka_unit_test(addresses_survive_in_any_shape),
		cmocka_unit_test(the_record_reads_as_opentelemetry),
		cmocka_unit_test(severity_follows_the_kind),
		cmocka_unit_test(only_what_fits_is_encoded),
		cmocka_unit_test(text_that_is_not_utf8_is_mended),
		cmocka_unit_test(an_inflate_bomb_stops_at_the_cap),
		cmocka_unit_test(the_cap_itself_is_allowed),
		cmocka_unit_test(torn_and_trailing_bytes_are_refused),
		cmocka_unit_test(attributes_of_a_wrong_type_or_twice_do_no_harm),
		cmocka_unit_test(too_many_records_are_refused),
	};

	return HF_RUN_TESTS(tests);
}
