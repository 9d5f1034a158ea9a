/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's word on destroyed sockets, and everything that only looks like it. */
#include "selftests/unit/test_util.h"

#include <arpa/inet.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>

#include "userspace/agent/sockdiag.h"

struct message {
	struct nlmsghdr h;
	struct inet_diag_msg m;
	struct nlattr a;
	struct tcp_info info;
} __attribute__((packed, aligned(4)));

static struct message sample(int family)
{
	struct message s = {
		.h = {.nlmsg_len = sizeof(s), .nlmsg_type = SOCK_DIAG_BY_FAMILY},
		.m = {.idiag_family = (uint8_t)family,
		      .id = {.idiag_sport = htons(1234),
			     .idiag_dport = htons(443),
			     .idiag_cookie = {7, 1}}},
		.a = {.nla_len = NLA_HDRLEN + sizeof(struct tcp_info), .nla_type = INET_DIAG_INFO},
		.info = {.tcpi_rtt = 250, .tcpi_total_retrans = 3, .tcpi_bytes_received = 9},
	};

	(void)inet_pton(family, family == AF_INET ? "10.0.0.1" : "fe80::1", s.m.id.idiag_src);
	(void)inet_pton(family, family == AF_INET ? "10.0.0.2" : "::ffff:10.0.0.2",
			s.m.id.idiag_dst);
	return s;
}

static int parse(const void *data, size_t len, struct hf_sockdiag_event *e)
{
	const void *at = data;

	return hf_sockdiag_parse(&at, &len, e);
}

static void a_message_becomes_an_event(void **state)
{
	struct message s = sample(AF_INET);
	struct hf_sockdiag_event e;

	(void)state;
	assert_int_equal(parse(&s, sizeof(s), &e), 1);
	assert_string_equal(e.event.kind, "conn.closed");
	assert_string_equal(e.event.ring, "fallback");
	assert_string_equal(e.event.local, "10.0.0.1:1234");
	assert_string_equal(e.event.peer, "10.0.0.2:443");
	assert_true(e.event.conn->cookie == (1ull << 32 | 7));
	assert_int_equal(e.event.conn->srtt_us, 250);
	assert_int_equal(e.event.conn->retransmits, 3);
	assert_int_equal(e.event.conn->bytes_received, 9);
	s = sample(AF_INET6);
	assert_int_equal(parse(&s, sizeof(s), &e), 1);
	assert_string_equal(e.event.local, "[fe80::1]:1234");
	assert_string_equal(e.event.peer, "10.0.0.2:443");
}

static void an_older_kernel_says_less(void **state)
{
	struct message s = sample(AF_INET);
	struct hf_sockdiag_event e;
	size_t less = offsetof(struct tcp_info, tcpi_total_retrans);

	(void)state;
	s.a.nla_len = (uint16_t)(NLA_HDRLEN + less);
	s.h.nlmsg_len = (uint32_t)(offsetof(struct message, info) + less);
	assert_int_equal(parse(&s, s.h.nlmsg_len, &e), 1);
	assert_int_equal(e.event.conn->srtt_us, 250);
	assert_int_equal(e.event.conn->retransmits, 0);
	/* No attribute at all. */
	s.h.nlmsg_len = offsetof(struct message, a);
	assert_int_equal(parse(&s, s.h.nlmsg_len, &e), 1);
	assert_int_equal(e.event.conn->srtt_us, 0);
}

static void what_is_no_end_of_a_connection_is_passed_over(void **state)
{
	struct message s = sample(AF_INET);
	struct hf_sockdiag_event e;

	(void)state;
	s.m.id.idiag_dport = 0; /* a listener */
	assert_int_equal(parse(&s, sizeof(s), &e), 0);
	s = sample(AF_INET);
	s.m.idiag_family = AF_UNIX;
	assert_int_equal(parse(&s, sizeof(s), &e), 0);
	s = sample(AF_INET);
	s.h.nlmsg_type = NLMSG_DONE;
	assert_int_equal(parse(&s, sizeof(s), &e), 0);
	s = sample(AF_INET);
	s.h.nlmsg_len = NLMSG_HDRLEN + 4;
	assert_int_equal(parse(&s, sizeof(s), &e), 0);
}

static void lengths_that_lie_are_refused(void **state)
{
	static const uint32_t bad[] = {0, 15, sizeof(struct message) + 1, UINT32_MAX};
	struct message s = sample(AF_INET);
	struct hf_sockdiag_event e;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(bad); i++) {
		s.h.nlmsg_len = bad[i];
		assert_int_equal(parse(&s, sizeof(s), &e), -EBADMSG);
	}
	assert_int_equal(parse(&s, 3, &e), -EBADMSG);
	s = sample(AF_INET);
	s.a.nla_len = 3;
	assert_int_equal(parse(&s, sizeof(s), &e), -EBADMSG);
	s.a.nla_len = UINT16_MAX;
	assert_int_equal(parse(&s, sizeof(s), &e), -EBADMSG);
}

static void one_datagram_holds_several(void **state)
{
	struct message two[2] = {sample(AF_INET), sample(AF_INET6)};
	struct hf_sockdiag_event e;
	const void *at = two;
	size_t len = sizeof(two);

	(void)state;
	assert_int_equal(hf_sockdiag_parse(&at, &len, &e), 1);
	assert_int_equal(len, sizeof(two[1]));
	assert_int_equal(hf_sockdiag_parse(&at, &len, &e), 1);
	assert_string_equal(e.event.local, "[fe80::1]:1234");
	assert_int_equal(len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_becomes_an_event),
		cmocka_unit_test(an_older_kernel_says_less),
		cmocka_unit_test(what_is_no_end_of_a_connection_is_passed_over),
		cmocka_unit_test(lengths_that_lie_are_refused),
		cmocka_unit_test(one_datagram_holds_several),
	};

	return HF_RUN_TESTS(tests);
}
