/* SPDX-License-Identifier: Apache-2.0 */
/* Every way in which an attempt fails has its cause, its wait and one printable line. */
#include "selftests/unit/test_util.h"

#include "userspace/agent/failure.h"
#include "userspace/net/websocket.h"

static void check_line(const struct hf_failure *f)
{
	assert_true(f->text[0]);
	for (const char *p = f->text; *p; p++)
		assert_true(*p >= ' ' && *p <= '~');
}

static void each_dial_failure_has_its_cause(void **state)
{
	static const struct {
		enum hf_dial_failure failure;
		enum hf_dial_phase phase;
		int code;
		enum hf_cause cause;
		enum hf_phase want_phase;
	} table[] = {
		{HF_DIAL_DNS, HF_DIAL_RESOLVE, -2, HF_CAUSE_DNS_FAILED, HF_PHASE_RESOLVE},
		{HF_DIAL_TIMEOUT, HF_DIAL_RESOLVE, 0, HF_CAUSE_DNS_FAILED, HF_PHASE_RESOLVE},
		{HF_DIAL_TIMEOUT, HF_DIAL_TCP, 0, HF_CAUSE_BLACKHOLE, HF_PHASE_TCP},
		{HF_DIAL_CONNECT, HF_DIAL_TCP, ECONNREFUSED, HF_CAUSE_PORTAL_UNREACHABLE,
		 HF_PHASE_TCP},
		{HF_DIAL_CONNECT, HF_DIAL_TCP, ECONNRESET, HF_CAUSE_PEER_RESET, HF_PHASE_TCP},
		{HF_DIAL_CONNECT, HF_DIAL_TCP, ENETUNREACH, HF_CAUSE_NO_ROUTE, HF_PHASE_TCP},
		{HF_DIAL_CONNECT, HF_DIAL_TCP, EHOSTUNREACH, HF_CAUSE_NO_ROUTE, HF_PHASE_TCP},
		{HF_DIAL_CONNECT, HF_DIAL_TCP, ENETDOWN, HF_CAUSE_LINK_DOWN, HF_PHASE_TCP},
		{HF_DIAL_CONNECT, HF_DIAL_TCP, EPERM, HF_CAUSE_LOCAL_FIREWALL, HF_PHASE_TCP},
		{HF_DIAL_CONNECT, HF_DIAL_TCP, EACCES, HF_CAUSE_LOCAL_FIREWALL, HF_PHASE_TCP},
		{HF_DIAL_CONNECT, HF_DIAL_TCP, EADDRNOTAVAIL, HF_CAUSE_PORTS_EXHAUSTED,
		 HF_PHASE_TCP},
		{HF_DIAL_CONNECT, HF_DIAL_TCP, ETIMEDOUT, HF_CAUSE_BLACKHOLE, HF_PHASE_TCP},
		{HF_DIAL_CONNECT, HF_DIAL_TCP, EXFULL, HF_CAUSE_UNKNOWN, HF_PHASE_TCP},
		{HF_DIAL_PROXY_REFUSED, HF_DIAL_PROXY, 403, HF_CAUSE_PROXY_REFUSED, HF_PHASE_PROXY},
		{HF_DIAL_PROXY_REFUSED, HF_DIAL_PROXY, ECONNREFUSED, HF_CAUSE_PROXY_REFUSED,
		 HF_PHASE_PROXY},
		{HF_DIAL_PROXY_AUTH, HF_DIAL_PROXY, 407, HF_CAUSE_PROXY_AUTH, HF_PHASE_PROXY},
		{HF_DIAL_PROXY_TIMEOUT, HF_DIAL_PROXY, 0, HF_CAUSE_PROXY_TIMEOUT, HF_PHASE_PROXY},
		{HF_DIAL_PROXY_PROTOCOL, HF_DIAL_PROXY, 0, HF_CAUSE_PROXY_REFUSED, HF_PHASE_PROXY},
		{HF_DIAL_CANCELLED, HF_DIAL_TCP, 0, HF_CAUSE_UNKNOWN, HF_PHASE_TCP},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_dial_result res = {
			.failure = table[i].failure,
			.phase = table[i].phase,
			.code = table[i].code,
			.error = "it\r\nfailed",
			.fd = -1,
			.address = "192.0.2.1:443",
		};
		struct hf_failure f;

		hf_failure_from_dial(&f, &res, "portal.example");
		assert_int_equal(f.cause, table[i].cause);
		assert_int_equal(f.phase, table[i].want_phase);
		assert_int_equal(hf_failure_remedy(&f), HF_REMEDY_RETRY);
		check_line(&f);
	}
}

static void an_errno_of_the_proxys_connection_is_no_http_status(void **state)
{
	struct hf_dial_result res = {
		.failure = HF_DIAL_PROXY_REFUSED,
		.phase = HF_DIAL_PROXY,
		.code = ECONNRESET, /* 104 */
		.error = "Connection reset by peer",
	};
	struct hf_failure f;

	(void)state;
	hf_failure_from_dial(&f, &res, "portal.example");
	assert_int_equal(f.err, ECONNRESET);
	assert_null(strstr(f.text, "answered"));
	res.code = 503;
	hf_failure_from_dial(&f, &res, "portal.example");
	assert_int_equal(f.err, 0);
	assert_non_null(strstr(f.text, "answered 503"));
}

static void each_tls_failure_has_its_cause(void **state)
{
	static const struct {
		struct hf_tls_report report;
		bool clock_bad;
		enum hf_cause cause;
		enum hf_remedy remedy;
	} table[] = {
		{{HF_TLS_IO, ECONNRESET, 0, "x"}, false, HF_CAUSE_PEER_RESET, HF_REMEDY_RETRY},
		{{HF_TLS_IO, 0, 0, "x"}, false, HF_CAUSE_UNKNOWN, HF_REMEDY_RETRY},
		{{HF_TLS_EOF, 0, 0, "x"}, false, HF_CAUSE_PEER_CLOSED, HF_REMEDY_RETRY},
		{{HF_TLS_CLOSED, 0, 0, "x"}, false, HF_CAUSE_PEER_CLOSED, HF_REMEDY_RETRY},
		{{HF_TLS_CERT_EXPIRED, 0, 0, "x"}, false, HF_CAUSE_CERT_EXPIRED, HF_REMEDY_RETRY},
		{{HF_TLS_CERT_EXPIRED, 0, 0, "x"}, true, HF_CAUSE_CLOCK_SKEW, HF_REMEDY_CLOCK},
		{{HF_TLS_CERT_NOT_YET_VALID, 0, 0, "x"},
		 false,
		 HF_CAUSE_CERT_NOT_YET_VALID,
		 HF_REMEDY_RETRY},
		{{HF_TLS_CERT_NOT_YET_VALID, 0, 0, "x"},
		 true,
		 HF_CAUSE_CLOCK_SKEW,
		 HF_REMEDY_CLOCK},
		{{HF_TLS_CERT_UNTRUSTED, 0, 0, "x"},
		 true,
		 HF_CAUSE_CERT_UNTRUSTED,
		 HF_REMEDY_RETRY},
		{{HF_TLS_CERT_NAME, 0, 0, "x"}, false, HF_CAUSE_CERT_UNTRUSTED, HF_REMEDY_RETRY},
		{{HF_TLS_PIN_MISMATCH, 0, 0, "x"}, false, HF_CAUSE_CERT_UNTRUSTED, HF_REMEDY_RETRY},
		{{HF_TLS_CERT_REVOKED, 0, 0, "x"}, false, HF_CAUSE_CERT_REVOKED, HF_REMEDY_RETRY},
		{{HF_TLS_INTERCEPTED, 0, 0, "x"}, false, HF_CAUSE_TLS_INTERCEPTED, HF_REMEDY_RETRY},
		{{HF_TLS_WEAK_CRYPTO, 0, 0, "x"}, false, HF_CAUSE_WEAK_CRYPTO, HF_REMEDY_RETRY},
		{{HF_TLS_ALERT, 0, 44, "x"}, false, HF_CAUSE_CERT_REVOKED, HF_REMEDY_RETRY},
		{{HF_TLS_ALERT, 0, 45, "x"}, false, HF_CAUSE_CERT_EXPIRED, HF_REMEDY_RETRY},
		{{HF_TLS_ALERT, 0, 48, "x"}, false, HF_CAUSE_CERT_UNTRUSTED, HF_REMEDY_RETRY},
		{{HF_TLS_ALERT, 0, 40, "x"}, false, HF_CAUSE_WEAK_CRYPTO, HF_REMEDY_RETRY},
		{{HF_TLS_ALERT, 0, 80, "x"}, false, HF_CAUSE_PROTOCOL_ERROR, HF_REMEDY_RETRY},
		{{HF_TLS_PROTOCOL, 0, 0, "x"}, false, HF_CAUSE_PROTOCOL_ERROR, HF_REMEDY_RETRY},
		{{HF_TLS_INTERNAL, 0, 0, NULL}, false, HF_CAUSE_UNKNOWN, HF_REMEDY_RETRY},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_failure f;

		hf_failure_from_tls(&f, &table[i].report, HF_PHASE_TLS, table[i].clock_bad);
		assert_int_equal(f.cause, table[i].cause);
		assert_int_equal(hf_failure_remedy(&f), table[i].remedy);
		check_line(&f);
	}
}

static void each_http_answer_has_its_cause_and_wait(void **state)
{
	static const struct {
		struct hf_http_report report;
		enum hf_cause cause;
		enum hf_remedy remedy;
		uint64_t wait_ms;
	} table[] = {
		{{.status = 401, .cause = "token_expired", .by_token = true},
		 HF_CAUSE_TOKEN_EXPIRED,
		 HF_REMEDY_HOLD,
		 300000},
		{{.status = 401, .cause = "token_exhausted", .by_token = true},
		 HF_CAUSE_TOKEN_EXHAUSTED,
		 HF_REMEDY_HOLD,
		 300000},
		{{.status = 401, .cause = "token_revoked", .by_token = true},
		 HF_CAUSE_TOKEN_REVOKED,
		 HF_REMEDY_HOLD,
		 300000},
		{{.status = 401, .by_token = true}, HF_CAUSE_TOKEN_UNKNOWN, HF_REMEDY_HOLD, 300000},
		{{.status = 401}, HF_CAUSE_NOT_AUTHORIZED, HF_REMEDY_HOLD, 60000},
		{{.status = 403, .cause = "revoked"}, HF_CAUSE_REVOKED, HF_REMEDY_REVOKED, 0},
		{{.status = 403, .cause = "clone_detected"},
		 HF_CAUSE_CLONE_DETECTED,
		 HF_REMEDY_HOLD,
		 300000},
		/* A resumed session: this side has not looked at the certificates, the other has. */
		{{.status = 403, .cause = "cert_not_yet_valid"},
		 HF_CAUSE_CERT_NOT_YET_VALID,
		 HF_REMEDY_RETRY,
		 0},
		{{.status = 403, .cause = "environment_mismatch"},
		 HF_CAUSE_ENVIRONMENT_MISMATCH,
		 HF_REMEDY_HOLD,
		 60000},
		{{.status = 403, .via_proxy = true}, HF_CAUSE_PROXY_REFUSED, HF_REMEDY_RETRY, 0},
		{{.status = 503, .retry_after = "7"},
		 HF_CAUSE_PORTAL_OVERLOAD,
		 HF_REMEDY_HOLD,
		 7000},
		{{.status = 429}, HF_CAUSE_PORTAL_OVERLOAD, HF_REMEDY_HOLD, 5000},
		{{.status = 503, .retry_after = "99999999"},
		 HF_CAUSE_PORTAL_OVERLOAD,
		 HF_REMEDY_HOLD,
		 3600000},
		{{.status = 503, .retry_after = "-1"},
		 HF_CAUSE_PORTAL_OVERLOAD,
		 HF_REMEDY_HOLD,
		 5000},
		{{.status = 503, .retry_after = "Wed, 21 Oct 2015 07:28:00 GMT"},
		 HF_CAUSE_PORTAL_OVERLOAD,
		 HF_REMEDY_HOLD,
		 5000},
		{{.status = 502}, HF_CAUSE_PORTAL_UNREACHABLE, HF_REMEDY_RETRY, 0},
		{{.status = 504}, HF_CAUSE_PORTAL_UNREACHABLE, HF_REMEDY_RETRY, 0},
		{{.status = 200}, HF_CAUSE_PROXY_STRIPS_UPGRADE, HF_REMEDY_RETRY, 0},
		{{.status = 426}, HF_CAUSE_PROXY_STRIPS_UPGRADE, HF_REMEDY_RETRY, 0},
		{{.status = 302}, HF_CAUSE_CAPTIVE_PORTAL, HF_REMEDY_RETRY, 0},
		{{.status = 404}, HF_CAUSE_PROTOCOL_ERROR, HF_REMEDY_RETRY, 0},
		{{.status = 101, .bad_accept = true}, HF_CAUSE_PROTOCOL_ERROR, HF_REMEDY_RETRY, 0},
		/* A cause that only this host can know, or none at all, decides nothing. */
		{{.status = 404, .cause = "agent_killed"},
		 HF_CAUSE_PROTOCOL_ERROR,
		 HF_REMEDY_RETRY,
		 0},
		{{.status = 404, .cause = "link_down"},
		 HF_CAUSE_PROTOCOL_ERROR,
		 HF_REMEDY_RETRY,
		 0},
		{{.status = 404, .cause = "\x1b[31mred"},
		 HF_CAUSE_PROTOCOL_ERROR,
		 HF_REMEDY_RETRY,
		 0},
		{{.status = 0}, HF_CAUSE_PROTOCOL_ERROR, HF_REMEDY_RETRY, 0},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_failure f;

		hf_failure_from_http(&f, &table[i].report);
		assert_int_equal(f.cause, table[i].cause);
		assert_int_equal(hf_failure_remedy(&f), table[i].remedy);
		assert_int_equal(f.retry_after_ms, table[i].wait_ms);
		check_line(&f);
	}
}

static void close_codes_and_their_reasons_have_causes(void **state)
{
	static const struct {
		uint16_t code;
		const char *reason;
		enum hf_cause cause;
	} table[] = {
		{1000, "", HF_CAUSE_PEER_CLOSED},
		{1001, "", HF_CAUSE_PORTAL_RESTART},
		{1012, "service restart", HF_CAUSE_PORTAL_RESTART},
		{1013, "", HF_CAUSE_PORTAL_OVERLOAD},
		{1002, "", HF_CAUSE_PROTOCOL_ERROR},
		{1007, "", HF_CAUSE_PROTOCOL_ERROR},
		{1009, "", HF_CAUSE_PROTOCOL_ERROR},
		{1008, "", HF_CAUSE_NOT_AUTHORIZED},
		{1008, "revoked: by admin", HF_CAUSE_REVOKED},
		{1008, "revoked", HF_CAUSE_REVOKED},
		{1008, "revokedly", HF_CAUSE_NOT_AUTHORIZED},
		{1008, "link_down", HF_CAUSE_NOT_AUTHORIZED},
		{4001, "", HF_CAUSE_CLONE_DETECTED},
		{1005, "", HF_CAUSE_PEER_CLOSED},
		{1011, "", HF_CAUSE_PEER_CLOSED},
		{65535, "\xff", HF_CAUSE_PEER_CLOSED},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_failure f;

		assert_int_equal(hf_close_cause(table[i].code, table[i].reason), table[i].cause);
		hf_failure_from_close(&f, table[i].code, table[i].reason);
		assert_int_equal(f.cause, table[i].cause);
		assert_int_equal(f.close_code, table[i].code);
		check_line(&f);
	}
	assert_int_equal(hf_close_cause(1001, NULL), HF_CAUSE_PORTAL_RESTART);
}

static void a_stall_is_named_by_where_it_happened(void **state)
{
	static const struct {
		struct hf_stall stall;
		enum hf_cause cause;
	} table[] = {
		{{HF_PHASE_RESOLVE, "", false, false, 20000}, HF_CAUSE_DNS_FAILED},
		{{HF_PHASE_TCP, "192.0.2.1:443", false, false, 20000}, HF_CAUSE_BLACKHOLE},
		{{HF_PHASE_PROXY, "192.0.2.1:3128", false, false, 20000}, HF_CAUSE_PROXY_TIMEOUT},
		{{HF_PHASE_TLS, "192.0.2.1:443", false, false, 20000}, HF_CAUSE_PORTAL_TIMEOUT},
		{{HF_PHASE_TLS, "192.0.2.1:443", true, false, 20000}, HF_CAUSE_BLACKHOLE},
		{{HF_PHASE_UPGRADE, "192.0.2.1:443", true, true, 20000}, HF_CAUSE_PMTU_BLACKHOLE},
		{{HF_PHASE_HELLO, "192.0.2.1:443", false, true, 20000}, HF_CAUSE_PORTAL_TIMEOUT},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_failure f;

		hf_failure_from_stall(&f, &table[i].stall);
		assert_int_equal(f.cause, table[i].cause);
		assert_int_equal(f.phase, table[i].stall.phase);
		check_line(&f);
	}
}

static void a_long_text_is_cut_not_overrun(void **state)
{
	struct hf_failure f;
	char text[1000];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	hf_failure_set(&f, HF_CAUSE_UNKNOWN, HF_PHASE_TLS, "%s", text);
	assert_int_equal(strlen(f.text), sizeof(f.text) - 1);
	hf_failure_from_tls(&f, &(struct hf_tls_report){HF_TLS_PROTOCOL, 0, 0, text}, HF_PHASE_TLS,
			    false);
	assert_int_equal(strlen(f.tls), sizeof(f.tls) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_dial_failure_has_its_cause),
		cmocka_unit_test(an_errno_of_the_proxys_connection_is_no_http_status),
		cmocka_unit_test(each_tls_failure_has_its_cause),
		cmocka_unit_test(each_http_answer_has_its_cause_and_wait),
		cmocka_unit_test(close_codes_and_their_reasons_have_causes),
		cmocka_unit_test(a_stall_is_named_by_where_it_happened),
		cmocka_unit_test(a_long_text_is_cut_not_overrun),
	};
	return HF_RUN_TESTS(tests);
}
