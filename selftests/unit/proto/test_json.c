/* SPDX-License-Identifier: Apache-2.0 */
/* Golden documents: the shapes of DESIGN section 10, byte for byte. */
#include "selftests/unit/test_util.h"

#include "selftests/unit/proto/sample.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/outage_json.h"
#include "userspace/proto/status_json.h"

#define T "2026-01-02T03:04:05.000000006Z"

static void assert_json(json_t *v, const char *want)
{
	_cleanup_free_ char *got = json_dumps(v, HF_JSON_FLAGS | JSON_ENCODE_ANY);

	assert_non_null(got);
	assert_string_equal(got, want);
	json_decref(v);
}

static void a_reset_event(void **state)
{
	Bus__ConnInfo c;
	Bus__Event e;

	(void)state;
	sample_reset(&e, &c);
	assert_json(hf_event_json(&e),
		    "{\"time\":\"" T "\",\"kind\":\"conn.reset_sent\",\"ring\":\"bulk\",\"cpu\":1,"
		    "\"seq\":77,\"pid\":812,\"comm\":\"nginx\",\"uid\":33,"
		    "\"cgroup\":\"/system.slice/nginx.service\",\"unit\":\"nginx.service\","
		    "\"netns\":4026531840,\"owner_src\":\"accept\",\"local\":\"10.0.0.5:443\","
		    "\"peer\":\"[2001:db8::7]:40112\",\"reason\":\"TCP_CLOSE\","
		    "\"detail\":\"closed with 1204 bytes unread\","
		    "\"because\":\"pid 812 nginx was SIGKILLed by pid 77 3 ms before\","
		    "\"container\":\"abc123\",\"watched\":true,\"cookie\":4711,"
		    "\"state\":\"ESTABLISHED\",\"err\":104,\"err_name\":\"ECONNRESET\","
		    "\"age_us\":5000000,\"bytes_sent\":10,\"bytes_received\":20,\"unread\":1204,"
		    "\"unacked\":312,\"unsent\":1,\"srtt_us\":800,\"retransmits\":2,"
		    "\"timeout\":\"rto\",\"closed_first\":\"local\"}");
}

static void an_exit_by_signal_has_no_code(void **state)
{
	Bus__ExitInfo x;
	Bus__Event e;

	(void)state;
	sample_exit(&e, &x);
	assert_json(hf_event_json(&e),
		    "{\"time\":\"" T "\",\"kind\":\"proc.exit\",\"ring\":\"urgent\",\"cpu\":0,"
		    "\"seq\":5,\"pid\":4410,\"comm\":\"worker\",\"uid\":0,\"cgroup\":null,"
		    "\"unit\":null,\"netns\":null,\"owner_src\":null,\"local\":null,\"peer\":null,"
		    "\"reason\":null,\"detail\":null,\"because\":null,\"container\":null,"
		    "\"watched\":false,\"code\":null,\"signal\":9,\"core\":true,\"by_pid\":77,"
		    "\"by_comm\":\"kill\",\"by_uid\":0,\"oom\":true,\"runtime_ms\":10920000,"
		    "\"ppid\":1,\"threads\":4}");
}

static void an_exit_by_itself_has_no_signal_and_no_sender(void **state)
{
	Bus__ExitRecord x = BUS__EXIT_RECORD__INIT;

	(void)state;
	x.cause = S("exited");
	x.code = 3;
	x.exit_to_exec_us = 900;
	assert_json(hf_exit_record_json(&x),
		    "{\"cause\":\"exited\",\"code\":3,\"signal\":null,\"core\":false,"
		    "\"by_pid\":null,\"by_comm\":null,\"by_uid\":null,\"exit_to_exec_us\":900,"
		    "\"exit_to_ready_us\":null,\"at\":null,\"text\":null,\"pid\":null,"
		    "\"from_kernel\":false}");
	assert_json(hf_exit_record_json(NULL), "null");
}

static void an_empty_event_has_every_common_key(void **state)
{
	Bus__Event e = BUS__EVENT__INIT;

	(void)state;
	assert_json(hf_event_json(&e),
		    "{\"time\":null,\"kind\":null,\"ring\":null,\"cpu\":0,\"seq\":0,\"pid\":null,"
		    "\"comm\":null,\"uid\":null,\"cgroup\":null,\"unit\":null,\"netns\":null,"
		    "\"owner_src\":null,\"local\":null,\"peer\":null,\"reason\":null,"
		    "\"detail\":null,\"because\":null,\"container\":null,\"watched\":false}");
}

static void text_that_is_not_utf8_is_replaced(void **state)
{
	(void)state;
	assert_json(hf_json_string("a\xff"
				   "b\xc3"),
		    "\"a\xef\xbf\xbd"
		    "b\xef\xbf\xbd\"");
	assert_json(hf_json_string("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"),
		    "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\"");
	assert_json(hf_json_string("\xe2\x82"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");
	assert_json(hf_json_string(""), "null");
	assert_json(hf_json_string(NULL), "null");
}

static void numbers_beyond_json_are_clamped(void **state)
{
	(void)state;
	assert_json(hf_json_u64(UINT64_MAX), "9223372036854775807");
	assert_json(hf_json_u64_or_null(0), "null");
	assert_json(hf_json_us_as_ms(300), "0.3");
	assert_json(hf_json_us_as_ms(4000), "4.0");
}

static void an_outage(void **state)
{
	Bus__Outage o = BUS__OUTAGE__INIT;
	Bus__Evidence ev = BUS__EVIDENCE__INIT;
	Bus__Attempt a = BUS__ATTEMPT__INIT, *attempts[] = {&a};

	(void)state;
	o.id = S("0190");
	o.began_unix_ns = o.detected_unix_ns = o.restored_unix_ns = SAMPLE_NS;
	o.cause = S("peer_reset");
	o.detected_by = S("kernel");
	o.detail = S("reset");
	o.detect_us = 300;
	o.outage_us = 4100;
	o.session_epoch = 41;
	o.attempts = attempts;
	o.n_attempts = o.attempts_total = 1;
	o.evidence = &ev;
	ev.err = 104;
	ev.err_name = S("ECONNRESET");
	a.at_unix_ns = SAMPLE_NS;
	a.address = S("192.0.2.10:443");
	a.phase = S("online");
	a.connect_us = 200;
	a.tls_us = 1000;
	a.tls_resumed = true;
	assert_json(hf_outage_json(&o),
		    "{\"id\":\"0190\",\"began\":\"" T "\",\"detected_at\":\"" T "\","
		    "\"restored\":\"" T "\",\"cause\":\"peer_reset\",\"detected_by\":\"kernel\","
		    "\"detail\":\"reset\",\"detect_ms\":0.3,\"outage_ms\":4.1,"
		    "\"attempts_total\":1,\"session_epoch\":41,\"evidence\":{\"kernel\":null,"
		    "\"err\":104,\"err_name\":\"ECONNRESET\",\"tls\":null,\"dns\":null,"
		    "\"proxy\":null,\"netlink\":null,\"close_code\":null,\"close_reason\":null,"
		    "\"exit\":null},\"attempts\":[{\"at\":\"" T "\","
		    "\"address\":\"192.0.2.10:443\",\"phase\":\"online\",\"resolve_us\":null,"
		    "\"connect_us\":200,\"proxy_us\":null,\"tls_us\":1000,\"upgrade_us\":null,"
		    "\"hello_us\":null,\"tls_resumed\":true,\"error\":null,\"cause\":null}],"
		    "\"telemetry_gap\":null}");
}

static void an_outage_that_lasts_has_no_end_and_no_length(void **state)
{
	Bus__Outage o = BUS__OUTAGE__INIT;
	json_t *v;

	(void)state;
	o.outage_us = 5;
	v = hf_outage_json(&o);
	assert_true(json_is_null(json_object_get(v, "restored")));
	assert_true(json_is_null(json_object_get(v, "outage_ms")));
	assert_int_equal(json_array_size(json_object_get(v, "attempts")), 0);
	assert_true(json_is_null(json_object_get(v, "evidence")));
	json_decref(v);
	assert_json(hf_outage_json(NULL), "null");
}

static void status_with_both_daemons(void **state)
{
	Bus__AgentStatus a = BUS__AGENT_STATUS__INIT;
	Bus__Session s = BUS__SESSION__INIT;
	Bus__Telemetry t = BUS__TELEMETRY__INIT;
	Bus__Program p = BUS__PROGRAM__INIT, *programs[] = {&p};
	Bus__WatchdogStatus w = BUS__WATCHDOG_STATUS__INIT;
	Bus__Component c = BUS__COMPONENT__INIT, *components[] = {&c};
	json_t *v;

	(void)state;
	a.pid = 812;
	a.version = S("0.1.0");
	a.state = S("online");
	a.authorized = S("authorized");
	a.endpoint = S("https://portal.example:443");
	a.kernel_assist = S("ebpf");
	a.uptime_ms = 1500;
	a.session = &s;
	a.telemetry = &t;
	s.epoch = 41;
	s.tls_version = S("TLSv1.3");
	s.tls_resumed = true;
	s.rtt_us = 800;
	t.generated = 9;
	w.pid = 790;
	w.version = S("0.1.0");
	p.name = S("tcp_state");
	p.missed = 4;
	p.attached = true;
	w.programs = programs;
	w.n_programs = 1;
	w.components = components;
	w.n_components = 1;
	c.name = S("agent");
	c.pid = 812;
	c.state = S("running");
	v = hf_status_json(&a, NULL, &w, NULL);
	assert_json(json_incref(json_object_get(v, "agent")),
		    "{\"pid\":812,\"version\":\"0.1.0\",\"state\":\"online\",\"state_detail\":null,"
		    "\"state_since\":null,\"next_attempt_ms\":null,\"authorized\":true,"
		    "\"authorization\":\"authorized\",\"instance_uid\":null,"
		    "\"endpoint\":\"https://portal.example:443\",\"kernel_assist\":\"ebpf\","
		    "\"uptime_s\":1.5,\"session\":{\"epoch\":41,\"since\":null,\"local\":null,"
		    "\"peer\":null,\"tls_version\":\"TLSv1.3\",\"tls_resumed\":true,"
		    "\"rtt_us\":800,\"clock_offset_ms\":0,\"proxy\":null},\"reconnects\":0,"
		    "\"tls_handshakes\":0,\"tls_resumed\":0,"
		    "\"last_outage\":null}");
	assert_json(
		json_incref(json_object_get(v, "watchdog")),
		"{\"pid\":790,\"version\":\"0.1.0\",\"uptime_s\":0.0,\"kernel_assist\":null,"
		"\"previous_version\":null,\"components\":[{\"name\":\"agent\",\"pid\":812,"
		"\"version\":null,\"state\":\"running\",\"detail\":null,\"since\":null,"
		"\"restarts\":0,\"last_exit\":null,\"status\":null,\"rss_bytes\":null,"
		"\"last_stderr\":null,\"confinement\":null}],\"releases\":[],\"programs\":[{\"name\":\"tcp_state\","
		"\"attached\":true,\"reason\":null,\"missed\":4}]}");
	assert_json(
		json_incref(json_object_get(v, "telemetry")),
		"{\"generated\":9,\"delivered\":0,\"in_ring\":0,\"lost\":0,\"filtered\":0,"
		"\"throttled\":0,\"spooled\":0,\"acked\":0,\"blind_ms\":0,"
		"\"programs\":[{\"name\":\"tcp_state\",\"attached\":true,\"reason\":null,\"missed\":4}]}");
	json_decref(v);
}

static void status_of_a_daemon_that_is_away_is_its_error(void **state)
{
	Bus__AgentStatus a = BUS__AGENT_STATUS__INIT;
	json_t *v;

	(void)state;
	assert_json(hf_status_json(NULL, "not running", NULL, NULL),
		    "{\"agent\":{\"error\":\"not running\"},\"watchdog\":{\"error\":\"no answer\"},"
		    "\"telemetry\":{\"error\":\"not running\"}}");
	a.authorized = S("pending");
	v = hf_status_json(&a, NULL, NULL, "gone");
	assert_true(json_is_false(json_object_get(json_object_get(v, "agent"), "authorized")));
	assert_true(json_is_null(json_object_get(v, "telemetry")));
	json_decref(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reset_event),
		cmocka_unit_test(an_exit_by_signal_has_no_code),
		cmocka_unit_test(an_exit_by_itself_has_no_signal_and_no_sender),
		cmocka_unit_test(an_empty_event_has_every_common_key),
		cmocka_unit_test(text_that_is_not_utf8_is_replaced),
		cmocka_unit_test(numbers_beyond_json_are_clamped),
		cmocka_unit_test(an_outage),
		cmocka_unit_test(an_outage_that_lasts_has_no_end_and_no_length),
		cmocka_unit_test(status_with_both_daemons),
		cmocka_unit_test(status_of_a_daemon_that_is_away_is_its_error),
	};

	return HF_RUN_TESTS(tests);
}
