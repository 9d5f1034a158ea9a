/* SPDX-License-Identifier: Apache-2.0 */
/* The table of links and addresses, fed with messages as the kernel writes them, and with garbage. */
#include "selftests/unit/test_util.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include "base/random.h"
#include "userspace/agent/netlink.h"

struct message {
	_Alignas(NLMSG_ALIGNTO) uint8_t bytes[512];
	size_t len;
};

static void put(struct message *m, const void *data, size_t len, size_t space)
{
	memcpy(m->bytes + m->len, data, len);
	m->len += space;
}

/* Header, the message's own struct, one attribute. */
static struct message message(uint16_t type, const void *body, size_t body_len, uint16_t attr_type,
			      const void *value, size_t value_len)
{
	const struct rtattr a = {
		.rta_type = attr_type,
		.rta_len = (unsigned short)RTA_LENGTH(value_len),
	};
	struct nlmsghdr h = {.nlmsg_type = type};
	struct message m = {};

	put(&m, &h, sizeof(h), NLMSG_HDRLEN);
	put(&m, body, body_len, NLMSG_ALIGN(body_len));
	put(&m, &a, sizeof(a), RTA_LENGTH(0));
	put(&m, value, value_len, RTA_ALIGN(value_len));
	h.nlmsg_len = (uint32_t)m.len;
	memcpy(m.bytes, &h, sizeof(h));
	return m;
}

static struct message link_message(uint16_t type, int ifindex, unsigned flags, const char *name)
{
	const struct ifinfomsg ifi = {.ifi_index = ifindex, .ifi_flags = flags};

	return message(type, &ifi, sizeof(ifi), IFLA_IFNAME, name, strlen(name) + 1);
}

static struct message addr_message(uint16_t type, int ifindex, const char *text)
{
	const struct ifaddrmsg ifa = {
		.ifa_index = (unsigned)ifindex,
		.ifa_family = strchr(text, ':') ? AF_INET6 : AF_INET,
	};
	uint8_t addr[16];

	assert_int_equal(inet_pton(ifa.ifa_family, text, addr), 1);
	return message(type, &ifa, sizeof(ifa), IFA_ADDRESS, addr,
		       ifa.ifa_family == AF_INET ? 4 : 16);
}

static void feed(struct hf_net_table *t, struct message m)
{
	assert_true(hf_net_table_feed(t, m.bytes, m.len));
}

static struct sockaddr_storage address(const char *text)
{
	struct sockaddr_storage sa = {};

	if (strchr(text, ':')) {
		sa.ss_family = AF_INET6;
		assert_int_equal(
			inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&sa)->sin6_addr), 1);
	} else {
		sa.ss_family = AF_INET;
		assert_int_equal(inet_pton(AF_INET, text, &((struct sockaddr_in *)&sa)->sin_addr),
				 1);
	}
	return sa;
}

static enum hf_net_state check(const struct hf_net_table *t, const char *text)
{
	struct sockaddr_storage sa = address(text);
	char why[128];

	return hf_net_table_check(t, (struct sockaddr *)&sa, why, sizeof(why));
}

static struct hf_net_table *host(void)
{
	struct hf_net_table *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	feed(t, link_message(RTM_NEWLINK, 1, IFF_UP | IFF_LOWER_UP, "lo"));
	feed(t, link_message(RTM_NEWLINK, 2, IFF_UP | IFF_LOWER_UP, "eth0"));
	feed(t, addr_message(RTM_NEWADDR, 1, "127.0.0.1"));
	feed(t, addr_message(RTM_NEWADDR, 2, "192.0.2.7"));
	feed(t, addr_message(RTM_NEWADDR, 2, "2001:db8::7"));
	t->dumped = true;
	return t;
}

static void an_address_of_a_link_that_is_up_is_fine(void **state)
{
	struct hf_net_table *t = host();

	(void)state;
	assert_int_equal(check(t, "192.0.2.7"), HF_NET_FINE);
	assert_int_equal(check(t, "2001:db8::7"), HF_NET_FINE);
	assert_int_equal(check(t, "::ffff:192.0.2.7"), HF_NET_FINE);
	assert_int_equal(check(t, "127.0.0.53"), HF_NET_FINE);
	free(t);
}

static void link_down_and_carrier_lost_are_noticed(void **state)
{
	struct hf_net_table *t = host();
	struct sockaddr_storage sa = address("192.0.2.7");
	char why[128];

	(void)state;
	feed(t, link_message(RTM_NEWLINK, 2, IFF_UP, "eth0"));
	assert_int_equal(hf_net_table_check(t, (struct sockaddr *)&sa, why, sizeof(why)),
			 HF_NET_LINK_DOWN);
	assert_string_equal(why, "interface eth0, which has 192.0.2.7, is down");
	feed(t, link_message(RTM_NEWLINK, 2, IFF_UP | IFF_LOWER_UP, "eth0"));
	assert_int_equal(check(t, "192.0.2.7"), HF_NET_FINE);
	feed(t, link_message(RTM_NEWLINK, 2, 0, "eth0"));
	assert_int_equal(check(t, "2001:db8::7"), HF_NET_LINK_DOWN);
	free(t);
}

static void a_removed_address_is_gone_the_other_stays(void **state)
{
	struct hf_net_table *t = host();

	(void)state;
	feed(t, addr_message(RTM_DELADDR, 2, "192.0.2.7"));
	assert_int_equal(check(t, "192.0.2.7"), HF_NET_ADDRESS_GONE);
	assert_int_equal(check(t, "2001:db8::7"), HF_NET_FINE);
	/* Twice gone, and one never there: nothing happens. */
	feed(t, addr_message(RTM_DELADDR, 2, "192.0.2.7"));
	feed(t, addr_message(RTM_DELADDR, 2, "192.0.2.8"));
	assert_int_equal(check(t, "2001:db8::7"), HF_NET_FINE);
	free(t);
}

static void before_the_dump_nothing_is_known(void **state)
{
	struct hf_net_table *t = host();

	(void)state;
	t->dumped = false;
	assert_int_equal(check(t, "192.0.2.99"), HF_NET_UNKNOWN);
	free(t);
}

static void more_addresses_than_fit_make_absence_no_proof(void **state)
{
	struct hf_net_table *t = host();

	(void)state;
	for (unsigned i = 0; i < HF_NET_ADDRS_MAX + 10; i++) {
		char text[32];

		(void)snprintf(text, sizeof(text), "10.1.%u.%u", i / 256, i % 256);
		feed(t, addr_message(RTM_NEWADDR, 2, text));
	}
	assert_int_equal(t->n_addrs, HF_NET_ADDRS_MAX);
	assert_int_equal(check(t, "10.9.9.9"), HF_NET_UNKNOWN);
	free(t);
}

static void garbage_changes_nothing_and_never_overruns(void **state)
{
	struct hf_net_table *t = host();
	_Alignas(NLMSG_ALIGNTO) uint8_t buf[256];

	(void)state;
	assert_true(hf_net_table_feed(t, buf, 0));
	/* A length of zero, one beyond the end, one below the header. */
	for (uint32_t len = 0; len < 16; len++) {
		struct nlmsghdr h = {.nlmsg_len = len, .nlmsg_type = RTM_NEWLINK};

		memcpy(buf, &h, sizeof(h));
		assert_false(hf_net_table_feed(t, buf, sizeof(h)));
	}
	for (unsigned i = 0; i < 20000; i++) {
		size_t len = hf_random_below(sizeof(buf));
		struct nlmsghdr h;

		hf_random_bytes(buf, sizeof(buf));
		/* Half of them get a plausible header, so that the inner parsers are reached. */
		if (i & 1 && len >= sizeof(h)) {
			h = (struct nlmsghdr){
				.nlmsg_len = (uint32_t)len,
				.nlmsg_type = (uint16_t)(RTM_NEWLINK + hf_random_below(10)),
			};
			memcpy(buf, &h, sizeof(h));
		}
		(void)hf_net_table_feed(t, buf, len);
	}
	assert_true(t->n_links <= HF_NET_LINKS_MAX && t->n_addrs <= HF_NET_ADDRS_MAX);
	free(t);
}

static void an_attribute_cut_inside_its_padding_ends_the_message(void **state)
{
	struct hf_net_table *t = host();
	struct message m = link_message(RTM_NEWLINK, 3, IFF_UP | IFF_LOWER_UP, "e");
	struct nlmsghdr h;

	(void)state;
	/* Found by the fuzzer: the last attribute's two padding bytes are not there. */
	memcpy(&h, m.bytes, sizeof(h));
	h.nlmsg_len -= 2;
	memcpy(m.bytes, &h, sizeof(h));
	memset(m.bytes + h.nlmsg_len, 0xff, sizeof(m.bytes) - h.nlmsg_len);
	(void)hf_net_table_feed(t, m.bytes, h.nlmsg_len);
	assert_int_equal(t->n_links, 3);
	assert_string_equal(t->links[2].name, "e");
	free(t);
}

static void the_source_address_for_loopback_is_loopback(void **state)
{
	struct sockaddr_storage peer = address("127.0.0.1"), source, other = address("127.0.0.2");

	(void)state;
	((struct sockaddr_in *)&peer)->sin_port = htons(9);
	assert_ok(hf_net_source_for((struct sockaddr *)&peer, sizeof(struct sockaddr_in), &source));
	assert_true(hf_net_same_address((struct sockaddr *)&peer, (struct sockaddr *)&source));
	assert_false(hf_net_same_address((struct sockaddr *)&other, (struct sockaddr *)&source));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_of_a_link_that_is_up_is_fine),
		cmocka_unit_test(link_down_and_carrier_lost_are_noticed),
		cmocka_unit_test(a_removed_address_is_gone_the_other_stays),
		cmocka_unit_test(before_the_dump_nothing_is_known),
		cmocka_unit_test(more_addresses_than_fit_make_absence_no_proof),
		cmocka_unit_test(garbage_changes_nothing_and_never_overruns),
		cmocka_unit_test(an_attribute_cut_inside_its_padding_ends_the_message),
		cmocka_unit_test(the_source_address_for_loopback_is_loopback),
	};
	return HF_RUN_TESTS(tests);
}
