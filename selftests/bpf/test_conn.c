/* SPDX-License-Identifier: Apache-2.0 */
/* How connections end: each behaviour gives exactly these events, and nothing is lost. */
#include "harness.h"

#include <arpa/inet.h>

#define STATE_ESTABLISHED 1
#define STATE_SYN_SENT    2

/* Kernels before 6.10 have no tracepoint for a reset without a socket. */
static bool tells_unowned_resets(const struct kt *t)
{
	return hf_kernel_info_rst(t->info, 1) != NULL;
}

static void check_refused(struct kt *t, const char *family, const char *host)
{
	bool unowned = tells_unowned_resets(t);
	const struct hf_conn_event *e;
	const Bus__Event *b;
	struct kt_behaviour r;
	char peer[64];

	kt_require(t, "tcp.state");
	kt_run(&r, "refused", family);
	kt_collect(t, unowned ? 2 : 1);
	e = &kt_only(t, HF_EVENT_CONN_FAILED)->conn;
	assert_int_equal(e->owner.tgid, r.pid);
	assert_int_equal(e->owner.src, HF_OWNER_CONNECT);
	assert_string_equal(e->owner.comm, "refused");
	assert_int_equal(e->conn.sk_err, ECONNREFUSED);
	assert_int_equal(e->conn.state, STATE_SYN_SENT);
	assert_int_equal(e->conn.peer_port, kt_fact(&r, "port"));
	assert_int_equal(e->conn.netns, t->netns);
	assert_int_equal(e->conn.unread_bytes, 0);
	assert_int_equal(e->conn.unacked_bytes, 0);
	assert_true(e->conn.age_ns > 0 && e->conn.age_ns < 1000000000);
	b = kt_decode(t, (const union hf_event_any *)e);
	(void)snprintf(peer, sizeof(peer), "%s:%u", host, (unsigned)kt_fact(&r, "port"));
	assert_string_equal(b->kind, "conn.failed");
	assert_string_equal(b->reason, "ECONNREFUSED");
	assert_string_equal(b->peer, peer);
	assert_string_equal(b->ring, "bulk");
	if (unowned) {
		e = &kt_only(t, HF_EVENT_CONN_RESET_SENT)->conn;
		assert_int_equal(e->owner.tgid, 0);
		assert_int_equal(e->owner.src, HF_OWNER_NONE);
		assert_int_equal(e->conn.local_port, kt_fact(&r, "port"));
		assert_int_equal(e->conn.netns, t->netns);
		b = kt_decode(t, (const union hf_event_any *)e);
		assert_string_equal(b->reason, "NO_SOCKET");
		assert_string_equal(b->local, peer);
	}
	kt_assert_nothing_lost(t);
}

static void a_refused_connect_is_one_failure(void **state)
{
	check_refused(*state, "4", "127.0.0.1");
}

static void a_refused_connect_over_ipv6_is_one_failure(void **state)
{
	check_refused(*state, "6", "[::1]");
}

static void an_unanswered_syn_is_a_timeout(void **state)
{
	struct kt *t = *state;
	const struct hf_conn_event *e;
	struct kt_behaviour r;

	kt_require(t, "tcp.state");
	kt_run(&r, "syn_timeout", "4");
	kt_collect(t, 1);
	e = &kt_only(t, HF_EVENT_CONN_FAILED)->conn;
	assert_int_equal(e->owner.tgid, r.pid);
	assert_int_equal(e->conn.sk_err, ETIMEDOUT);
	assert_int_equal(e->conn.timeout_kind, HF_TIMEOUT_SYN);
	assert_string_equal(kt_decode(t, &t->events[0])->reason, "ETIMEDOUT");
	kt_assert_nothing_lost(t);
}

static void a_connect_given_up_by_its_owner_is_a_failure_without_error(void **state)
{
	struct kt *t = *state;
	const struct hf_conn_event *e;
	struct kt_behaviour r;

	kt_require(t, "tcp.state");
	kt_run(&r, "abandoned", "4");
	kt_collect(t, 1);
	e = &kt_only(t, HF_EVENT_CONN_FAILED)->conn;
	assert_int_equal(e->owner.tgid, r.pid);
	assert_int_equal(e->conn.sk_err, 0);
	assert_string_equal(kt_decode(t, &t->events[0])->reason, "CLOSED_BY_OWNER");
	kt_assert_nothing_lost(t);
}

static void check_reset(struct kt *t, const char *family)
{
	const struct hf_conn_event *sent, *received;
	struct kt_behaviour r;

	kt_require(t, "tcp.reset_sent");
	kt_require(t, "tcp.reset_received");
	kt_run(&r, "reset_by_peer", family);
	kt_collect(t, 2);
	sent = kt_conn(t, HF_EVENT_CONN_RESET_SENT, (uint16_t)kt_fact(&r, "port"));
	received = kt_conn(t, HF_EVENT_CONN_RESET_RECEIVED, (uint16_t)kt_fact(&r, "client_port"));
	assert_int_equal(sent->owner.tgid, kt_inherits_owner(t) ? r.pid : 0);
	assert_int_equal(sent->conn.cookie, kt_fact(&r, "server_cookie"));
	assert_int_equal(sent->conn.state, STATE_ESTABLISHED);
	assert_int_equal(sent->conn.peer_port, kt_fact(&r, "client_port"));
	assert_int_equal(sent->conn.unread_bytes, 0);
	assert_int_equal(received->owner.tgid, r.pid);
	assert_int_equal(received->owner.src, HF_OWNER_CONNECT);
	assert_int_equal(received->conn.cookie, kt_fact(&r, "client_cookie"));
	assert_int_equal(received->conn.state, STATE_ESTABLISHED);
	assert_int_equal(received->conn.sk_err, ECONNRESET);
	assert_int_equal(received->conn.unread_bytes, 7);
	assert_int_equal(received->conn.bytes_received, 7);
	assert_string_equal(kt_decode(t, (const union hf_event_any *)sent)->reason, "TCP_STATE");
	kt_assert_nothing_lost(t);
}

static void a_reset_is_seen_on_both_sides(void **state)
{
	check_reset(*state, "4");
}

static void a_reset_over_ipv6_is_seen_on_both_sides(void **state)
{
	check_reset(*state, "6");
}

static void ipv4_by_an_ipv6_socket_is_ipv4(void **state)
{
	struct kt *t = *state;
	const struct hf_conn_event *e;
	struct kt_behaviour r;
	char peer[64];

	kt_require(t, "tcp.reset_received");
	kt_run(&r, "reset_by_peer", "mapped");
	kt_collect(t, 2);
	e = kt_conn(t, HF_EVENT_CONN_RESET_RECEIVED, (uint16_t)kt_fact(&r, "client_port"));
	assert_int_equal(e->conn.family, AF_INET);
	(void)snprintf(peer, sizeof(peer), "127.0.0.1:%u", (unsigned)kt_fact(&r, "port"));
	assert_string_equal(kt_decode(t, (const union hf_event_any *)e)->peer, peer);
	e = kt_conn(t, HF_EVENT_CONN_RESET_SENT, (uint16_t)kt_fact(&r, "port"));
	assert_int_equal(e->conn.family, AF_INET);
	assert_string_equal(kt_decode(t, (const union hf_event_any *)e)->local, peer);
	kt_assert_nothing_lost(t);
}

static void closing_with_unread_data_names_the_bytes(void **state)
{
	struct kt *t = *state;
	const struct hf_conn_event *sent, *received;
	const Bus__Event *b;
	struct kt_behaviour r;

	kt_require(t, "tcp.reset_sent");
	kt_run(&r, "close_unread", "4");
	kt_collect(t, 2);
	sent = kt_conn(t, HF_EVENT_CONN_RESET_SENT, (uint16_t)kt_fact(&r, "port"));
	received = kt_conn(t, HF_EVENT_CONN_RESET_RECEIVED, (uint16_t)kt_fact(&r, "client_port"));
	assert_int_equal(sent->conn.unread_bytes, 5);
	assert_int_equal(received->conn.unread_bytes, 0);
	b = kt_decode(t, (const union hf_event_any *)sent);
	assert_string_equal(b->reason, "TCP_ABORT_ON_CLOSE");
	assert_string_equal(b->detail, "closed with 5 bytes unread");
	kt_assert_nothing_lost(t);
}

static void an_orderly_close_says_who_was_first(void **state)
{
	struct kt *t = *state;
	const struct hf_conn_event *server, *client;
	struct kt_behaviour r;

	kt_require(t, "tcp.state");
	kt_run(&r, "orderly", "4");
	kt_collect(t, 2);
	server = kt_conn(t, HF_EVENT_CONN_CLOSED, (uint16_t)kt_fact(&r, "port"));
	client = kt_conn(t, HF_EVENT_CONN_CLOSED, (uint16_t)kt_fact(&r, "client_port"));
	assert_int_equal(server->conn.closed_by, HF_CLOSED_BY_LOCAL);
	assert_int_equal(client->conn.closed_by, HF_CLOSED_BY_PEER);
	assert_int_equal(server->conn.unread_bytes + server->conn.unacked_bytes, 0);
	assert_int_equal(client->conn.unread_bytes + client->conn.unacked_bytes, 0);
	kt_assert_nothing_lost(t);
}

/*
 * The client's end. The server's socket, a wall, ends with the process and sends a reset or a FIN
 * of its own; what comes of that is not the point here, so it is told apart by its port.
 */
static void check_timeout(struct kt *t, const char *behaviour, uint32_t kind, const char *name)
{
	const struct hf_conn_event *e;
	struct kt_behaviour r;
	const Bus__Event *b;
	uint16_t port;
	size_t i;

	kt_require(t, "tcp.state");
	kt_start(&r, behaviour, "4");
	kt_finish(&r);
	kt_drain(t);
	port = (uint16_t)kt_fact(&r, "client_port");
	e = kt_conn(t, HF_EVENT_CONN_DROPPED, port);
	assert_int_equal(e->owner.tgid, r.pid);
	assert_int_equal(e->conn.sk_err, ETIMEDOUT);
	assert_int_equal(e->conn.timeout_kind, kind);
	assert_int_equal(e->conn.state, STATE_ESTABLISHED);
	b = kt_decode(t, (const union hf_event_any *)e);
	assert_string_equal(b->reason, "ETIMEDOUT");
	assert_string_equal(b->conn->timeout, name);
	/* The dead connection's port still answers the wall's late packets, without a socket. */
	for (i = 0; i < t->n_events; i++)
		if (&t->events[i].conn != e && !(t->events[i].header.flags & HF_EVENT_F_NO_SOCKET))
			assert_int_not_equal(t->events[i].conn.conn.local_port, port);
	kt_assert_nothing_lost(t);
}

static void a_user_timeout_is_told_apart(void **state)
{
	struct kt *t = *state;

	check_timeout(t, "user_timeout", HF_TIMEOUT_USER, "user_timeout");
	assert_int_equal(kt_only(t, HF_EVENT_CONN_DROPPED)->conn.conn.unacked_bytes, 5);
	assert_int_equal(kt_only(t, HF_EVENT_CONN_DROPPED)->conn.conn.user_timeout_ms, 300);
}

static void used_up_retransmissions_are_told_apart(void **state)
{
	struct kt *t = *state;

	check_timeout(t, "rto", HF_TIMEOUT_RTO, "rto");
	assert_int_equal(kt_only(t, HF_EVENT_CONN_DROPPED)->conn.conn.unacked_bytes, 5);
}

static void a_keepalive_timeout_is_one_event_though_a_reset_is_sent(void **state)
{
	struct kt *t = *state;

	check_timeout(t, "keepalive", HF_TIMEOUT_KEEPALIVE, "keepalive");
	assert_true(kt_only(t, HF_EVENT_CONN_DROPPED)->header.flags & HF_EVENT_F_RST_SENT);
}

int main(int argc, char **argv)
{
#define CONN(f) cmocka_unit_test_setup_teardown(f, kt_setup_conn, kt_teardown)
	const struct CMUnitTest tests[] = {
		CONN(a_refused_connect_is_one_failure),
		CONN(a_refused_connect_over_ipv6_is_one_failure),
		CONN(an_unanswered_syn_is_a_timeout),
		CONN(a_connect_given_up_by_its_owner_is_a_failure_without_error),
		CONN(a_reset_is_seen_on_both_sides),
		CONN(a_reset_over_ipv6_is_seen_on_both_sides),
		CONN(ipv4_by_an_ipv6_socket_is_ipv4),
		CONN(closing_with_unread_data_names_the_bytes),
		CONN(an_orderly_close_says_who_was_first),
		CONN(a_user_timeout_is_told_apart),
		CONN(used_up_retransmissions_are_told_apart),
		CONN(a_keepalive_timeout_is_one_event_though_a_reset_is_sent),
	};

	return KT_MAIN(argc, argv, tests);
}
