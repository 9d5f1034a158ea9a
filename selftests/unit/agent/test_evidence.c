/* SPDX-License-Identifier: Apache-2.0 */
/* What was seen of a loss, joined into one verdict: each cause, each detector, each precedence. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"
#include "userspace/agent/evidence.h"

#define NOTICED (100 * HF_NS_PER_S)
#define KERNEL  (99 * HF_NS_PER_S)
#define HEARD   (90 * HF_NS_PER_S)

static const struct {
	const char *what;
	struct hf_evidence ev;
	enum hf_cause cause;
	enum hf_detector by;
	bool lone;
	uint64_t began;
} table[] = {
	{"nothing", {}, HF_CAUSE_UNKNOWN, HF_BY_SOCKET, true, NOTICED},
	{"reset received",
	 {.kernel = {.word = HF_KERNEL_SAID_RESET_RECEIVED, .boot_ns = KERNEL}, .err = ECONNRESET},
	 HF_CAUSE_PEER_RESET,
	 HF_BY_KERNEL,
	 true,
	 KERNEL},
	{"reset, no kernel", {.err = ECONNRESET}, HF_CAUSE_PEER_RESET, HF_BY_SOCKET, true, NOTICED},
	{"reset sent",
	 {.kernel = {.word = HF_KERNEL_SAID_RESET_SENT, .boot_ns = KERNEL}},
	 HF_CAUSE_LOCAL_RESET,
	 HF_BY_KERNEL,
	 true,
	 KERNEL},
	{"aborted by ss -K",
	 {.kernel = {.word = HF_KERNEL_SAID_DROPPED, .boot_ns = KERNEL, .err = ECONNABORTED}},
	 HF_CAUSE_LOCAL_RESET,
	 HF_BY_KERNEL,
	 true,
	 KERNEL},
	{"FIN, kernel",
	 {.kernel = {.word = HF_KERNEL_SAID_CLOSED, .boot_ns = KERNEL}, .tls = HF_TLS_EOF},
	 HF_CAUSE_PEER_CLOSED,
	 HF_BY_KERNEL,
	 true,
	 KERNEL},
	{"FIN, no kernel", {.tls = HF_TLS_EOF}, HF_CAUSE_PEER_CLOSED, HF_BY_SOCKET, true, NOTICED},
	{"our own close explains nothing",
	 {.kernel = {.word = HF_KERNEL_SAID_CLOSED, .boot_ns = NOTICED, .closed_by_local = true},
	  .err = ECONNRESET},
	 HF_CAUSE_PEER_RESET,
	 HF_BY_SOCKET,
	 true,
	 NOTICED},
	{"close frame wins over the reset that follows it",
	 {.kernel = {.word = HF_KERNEL_SAID_RESET_RECEIVED, .boot_ns = KERNEL}, .close_code = 1012},
	 HF_CAUSE_PORTAL_RESTART,
	 HF_BY_PORTAL,
	 false,
	 KERNEL},
	{"plain close", {.close_code = 1000}, HF_CAUSE_PEER_CLOSED, HF_BY_PORTAL, true, NOTICED},
	{"try later", {.close_code = 1013}, HF_CAUSE_PORTAL_OVERLOAD, HF_BY_PORTAL, false, NOTICED},
	{"superseded", {.close_code = 4001}, HF_CAUSE_CLONE_DETECTED, HF_BY_PORTAL, false, NOTICED},
	{"violation", {.violation = 1002}, HF_CAUSE_PROTOCOL_ERROR, HF_BY_SOCKET, false, NOTICED},
	{"portal named a cause",
	 {.portal_said = true, .portal_cause = HF_CAUSE_REVOKED, .close_code = 1000},
	 HF_CAUSE_REVOKED,
	 HF_BY_PORTAL,
	 false,
	 NOTICED},
	{"keepalive",
	 {.kernel = {.word = HF_KERNEL_SAID_DROPPED,
		     .boot_ns = KERNEL,
		     .err = ETIMEDOUT,
		     .timeout = "keepalive"},
	  .err = ETIMEDOUT},
	 HF_CAUSE_BLACKHOLE,
	 HF_BY_KEEPALIVE,
	 true,
	 KERNEL},
	{"user timeout",
	 {.kernel = {.word = HF_KERNEL_SAID_DROPPED,
		     .boot_ns = KERNEL,
		     .err = ETIMEDOUT,
		     .timeout = "user_timeout"}},
	 HF_CAUSE_BLACKHOLE,
	 HF_BY_KEEPALIVE,
	 true,
	 KERNEL},
	{"keepalive, no kernel",
	 {.err = ETIMEDOUT, .last_heard_boot_ns = HEARD},
	 HF_CAUSE_BLACKHOLE,
	 HF_BY_KEEPALIVE,
	 true,
	 HEARD},
	{"retransmits and no proof",
	 {.kernel = {.word = HF_KERNEL_SAID_RETRANSMIT, .boot_ns = KERNEL}, .suspect_over = true},
	 HF_CAUSE_BLACKHOLE,
	 HF_BY_KERNEL,
	 true,
	 KERNEL},
	{"retransmits alone are no end",
	 {.kernel = {.word = HF_KERNEL_SAID_RETRANSMIT, .boot_ns = KERNEL}, .tls = HF_TLS_EOF},
	 HF_CAUSE_PEER_CLOSED,
	 HF_BY_SOCKET,
	 true,
	 KERNEL},
	{"local firewall",
	 {.kernel = {.word = HF_KERNEL_SAID_SKB_DROP,
		     .boot_ns = KERNEL,
		     .reason = "NETFILTER_DROP"},
	  .firewall_drop = true,
	  .suspect_over = true},
	 HF_CAUSE_LOCAL_FIREWALL,
	 HF_BY_KERNEL,
	 true,
	 KERNEL},
	{"local firewall until the timeout",
	 {.kernel = {.word = HF_KERNEL_SAID_DROPPED, .boot_ns = KERNEL, .err = ETIMEDOUT},
	  .firewall_drop = true},
	 HF_CAUSE_LOCAL_FIREWALL,
	 HF_BY_KERNEL,
	 true,
	 KERNEL},
	{"unreachable, kernel",
	 {.kernel = {.word = HF_KERNEL_SAID_DROPPED, .boot_ns = KERNEL, .err = EHOSTUNREACH}},
	 HF_CAUSE_NO_ROUTE,
	 HF_BY_KERNEL,
	 true,
	 KERNEL},
	{"unreachable", {.err = ENETUNREACH}, HF_CAUSE_NO_ROUTE, HF_BY_SOCKET, true, NOTICED},
	{"send refused", {.err = EPERM}, HF_CAUSE_LOCAL_FIREWALL, HF_BY_SOCKET, true, NOTICED},
	{"link down wins over what follows from it",
	 {.net = HF_NET_SAID_LINK_DOWN, .net_text = "eth0 is down", .err = ETIMEDOUT},
	 HF_CAUSE_LINK_DOWN,
	 HF_BY_NETLINK,
	 true,
	 NOTICED},
	{"address lost",
	 {.net = HF_NET_SAID_ADDRESS_LOST, .net_text = "gone"},
	 HF_CAUSE_ADDRESS_LOST,
	 HF_BY_NETLINK,
	 true,
	 NOTICED},
	{"route lost",
	 {.net = HF_NET_SAID_NO_ROUTE, .net_text = "gone"},
	 HF_CAUSE_NO_ROUTE,
	 HF_BY_NETLINK,
	 true,
	 NOTICED},
	{"suspend wins over all",
	 {.suspended = true,
	  .suspended_ms = 5000,
	  .net = HF_NET_SAID_LINK_DOWN,
	  .err = ECONNRESET,
	  .heartbeat_missed = true},
	 HF_CAUSE_HOST_SUSPEND,
	 HF_BY_CLOCK,
	 true,
	 NOTICED},
	{"heartbeat missed, nothing acknowledged",
	 {.heartbeat_missed = true, .last_heard_boot_ns = HEARD},
	 HF_CAUSE_BLACKHOLE,
	 HF_BY_HEARTBEAT,
	 true,
	 HEARD},
	{"heartbeat missed, the portal's kernel lives",
	 {.heartbeat_missed = true, .tcp_acked = true, .last_heard_boot_ns = HEARD},
	 HF_CAUSE_PORTAL_TIMEOUT,
	 HF_BY_HEARTBEAT,
	 true,
	 HEARD},
	{"heartbeat missed, the proxy's kernel lives",
	 {.heartbeat_missed = true,
	  .tcp_acked = true,
	  .through_proxy = true,
	  .last_heard_boot_ns = HEARD},
	 HF_CAUSE_PORTAL_TIMEOUT,
	 HF_BY_HEARTBEAT,
	 true,
	 HEARD},
	{"registry forgot us",
	 {.registry_lost = true},
	 HF_CAUSE_REGISTRY_LOST,
	 HF_BY_HEARTBEAT,
	 true,
	 NOTICED},
	{"TLS alert", {.tls = HF_TLS_ALERT}, HF_CAUSE_PROTOCOL_ERROR, HF_BY_SOCKET, false, NOTICED},
	{"garbage in the stream",
	 {.tls = HF_TLS_PROTOCOL},
	 HF_CAUSE_PROTOCOL_ERROR,
	 HF_BY_SOCKET,
	 false,
	 NOTICED},
	{"an errno nobody expected",
	 {.err = EXFULL},
	 HF_CAUSE_UNKNOWN,
	 HF_BY_SOCKET,
	 true,
	 NOTICED},
};

static void each_combination_has_its_verdict(void **state)
{
	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_evidence ev = table[i].ev;
		struct hf_verdict v;

		ev.noticed_boot_ns = NOTICED;
		hf_evidence_judge(&ev, &v);
		if (v.cause != table[i].cause || v.by != table[i].by || v.lone != table[i].lone ||
		    v.began_boot_ns != table[i].began)
			fail_msg("%s: %s by %s, lone %d, began %llu", table[i].what,
				 hf_cause_name(v.cause), hf_detector_name(v.by), v.lone,
				 (unsigned long long)v.began_boot_ns);
		assert_true(v.detail[0]);
		for (const char *p = v.detail; *p; p++)
			assert_true(*p >= ' ' && *p <= '~');
	}
}

static void bytes_unacknowledged_are_in_the_detail(void **state)
{
	struct hf_evidence ev = {.noticed_boot_ns = NOTICED};
	struct hf_verdict v;

	(void)state;
	ev.kernel = (struct hf_kernel_fact){
		.word = HF_KERNEL_SAID_RESET_RECEIVED,
		.boot_ns = KERNEL,
		.unacked = 1234,
		.unread = 56,
	};
	hf_evidence_judge(&ev, &v);
	assert_non_null(strstr(v.detail, "1234 bytes unacknowledged"));
	assert_non_null(strstr(v.detail, "56 unread"));
}

static void the_stronger_word_of_the_kernel_stays(void **state)
{
	const struct hf_kernel_fact retransmit = {.word = HF_KERNEL_SAID_RETRANSMIT, .boot_ns = 1};
	const struct hf_kernel_fact again = {.word = HF_KERNEL_SAID_RETRANSMIT, .boot_ns = 2};
	const struct hf_kernel_fact reset = {.word = HF_KERNEL_SAID_RESET_RECEIVED, .boot_ns = 3};
	const struct hf_kernel_fact closed = {.word = HF_KERNEL_SAID_CLOSED, .boot_ns = 4};
	struct hf_evidence ev = {};

	(void)state;
	hf_evidence_add_kernel(&ev, &retransmit, (const uint8_t *)"a", 1);
	hf_evidence_add_kernel(&ev, &again, (const uint8_t *)"b", 1);
	assert_int_equal(ev.kernel.boot_ns, 1);
	assert_memory_equal(ev.kernel_event, "a", 1);
	hf_evidence_add_kernel(&ev, &reset, (const uint8_t *)"c", 1);
	hf_evidence_add_kernel(&ev, &closed, (const uint8_t *)"d", 1);
	assert_int_equal(ev.kernel.word, HF_KERNEL_SAID_RESET_RECEIVED);
	assert_memory_equal(ev.kernel_event, "c", 1);
	/* Without the event's bytes the fact still counts. */
	hf_evidence_done(&ev);
	hf_evidence_add_kernel(&ev, &reset, NULL, 0);
	assert_int_equal(ev.kernel.word, HF_KERNEL_SAID_RESET_RECEIVED);
	assert_null(ev.kernel_event);
	hf_evidence_done(&ev);
	hf_evidence_done(&ev);
}

static void a_weaker_drop_still_marks_the_firewall(void **state)
{
	const struct hf_kernel_fact dropped = {.word = HF_KERNEL_SAID_DROPPED, .boot_ns = 1};
	const struct hf_kernel_fact skb = {
		.word = HF_KERNEL_SAID_SKB_DROP, .boot_ns = 2, .reason = "NETFILTER_DROP"};
	const struct hf_kernel_fact other = {
		.word = HF_KERNEL_SAID_SKB_DROP, .boot_ns = 2, .reason = "TCP_OFOMERGE"};
	struct hf_evidence ev = {};

	(void)state;
	hf_evidence_add_kernel(&ev, &dropped, NULL, 0);
	hf_evidence_add_kernel(&ev, &other, NULL, 0);
	assert_false(ev.firewall_drop);
	hf_evidence_add_kernel(&ev, &skb, NULL, 0);
	assert_true(ev.firewall_drop);
	assert_int_equal(ev.kernel.word, HF_KERNEL_SAID_DROPPED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_combination_has_its_verdict),
		cmocka_unit_test(bytes_unacknowledged_are_in_the_detail),
		cmocka_unit_test(the_stronger_word_of_the_kernel_stays),
		cmocka_unit_test(a_weaker_drop_still_marks_the_firewall),
	};
	return HF_RUN_TESTS(tests);
}
