/* SPDX-License-Identifier: Apache-2.0 */
/* Whose connection it was: never a guess from whoever was running. */
#include "harness.h"

#include "base/str.h"

static void before_accept_it_belongs_to_the_listener(void **state)
{
	struct kt *t = *state;
	const struct hf_conn_event *sent, *received;
	struct kt_behaviour b;

	kt_require(t, "tcp.owner");
	kt_run(&b, "reset_before_accept", "4");
	kt_collect(t, 2);
	sent = &kt_only(t, HF_EVENT_CONN_RESET_SENT)->conn;
	received = &kt_only(t, HF_EVENT_CONN_RESET_RECEIVED)->conn;
	assert_int_equal(sent->owner.tgid, kt_fact(&b, "client_pid"));
	assert_int_equal(sent->owner.src, HF_OWNER_CONNECT);
	if (kt_inherits_owner(t)) {
		assert_int_equal(received->owner.tgid, kt_fact(&b, "listener_pid"));
		assert_int_equal(received->owner.src, HF_OWNER_LISTEN);
	} else {
		assert_int_equal(received->owner.tgid, 0);
		assert_int_equal(received->owner.src, HF_OWNER_NONE);
	}
	assert_int_equal(received->conn.local_port, kt_fact(&b, "port"));
	kt_assert_nothing_lost(t);
}

static void check_prefork(struct kt *t, const char *family)
{
	const struct hf_conn_event *received;
	struct kt_behaviour b;

	kt_require(t, "tcp.owner");
	kt_run(&b, "prefork", family);
	kt_collect(t, 2);
	received = &kt_only(t, HF_EVENT_CONN_RESET_RECEIVED)->conn;
	assert_int_equal(received->owner.tgid, kt_fact(&b, "worker_pid"));
	assert_int_equal(received->owner.src, HF_OWNER_ACCEPT);
	assert_string_equal(received->owner.comm, "prefork");
	assert_int_equal(received->conn.bytes_received, 5);
	assert_int_equal(kt_only(t, HF_EVENT_CONN_RESET_SENT)->conn.owner.tgid,
			 kt_fact(&b, "client_pid"));
	kt_assert_nothing_lost(t);
}

static void a_prefork_worker_owns_what_it_reads(void **state)
{
	check_prefork(*state, "4");
}

static void a_prefork_worker_owns_what_it_reads_over_ipv6(void **state)
{
	check_prefork(*state, "6");
}

static void sockets_older_than_the_programs_are_owned_by_the_snapshot(void **state)
{
	struct kt *t = *state;
	const struct hf_conn_event *sent, *received;
	struct kt_behaviour b;

	kt_require(t, "snapshot");
	/* Away with the programs; the sockets come first this time. */
	kt_unmap(t);
	assert_ok(hf_kernel_unpin(t->kernel));
	t->kernel = hf_kernel_free(t->kernel);
	kt_start(&b, "older_socket", "4");
	(void)kt_wait_fact(&b, "ready");
	kt_open(t, HF_POLICY_KINDS_DEFAULT & ~HF_POLICY_KIND(HF_EVENT_PROC_EXIT),
		HF_POLICY_F_NO_THROTTLE, 0);
	kt_go(&b);
	kt_finish(&b);
	kt_collect(t, 2);
	sent = &kt_only(t, HF_EVENT_CONN_RESET_SENT)->conn;
	received = &kt_only(t, HF_EVENT_CONN_RESET_RECEIVED)->conn;
	assert_int_equal(sent->owner.tgid, b.pid);
	assert_int_equal(sent->owner.src, HF_OWNER_SNAPSHOT);
	assert_int_equal(received->owner.tgid, b.pid);
	assert_int_equal(received->owner.src, HF_OWNER_SNAPSHOT);
	assert_string_equal(received->owner.comm, "older_socket");
	kt_assert_nothing_lost(t);
}

/* Waits on its standard input before it connects, so that its cookie can be watched. */
static void a_watched_socket_tells_the_second_retransmission_at_once(void **state)
{
	struct kt *t = *state;
	const struct hf_conn_event *e, *reset;
	const Bus__Event *d;
	struct kt_behaviour b;
	uint64_t cookie;

	kt_require(t, "tcp.retransmit");
	kt_start(&b, "retransmit", "4");
	cookie = kt_wait_fact(&b, "client_cookie");
	assert_ok(hf_kernel_watch_socket(t->kernel, cookie, true));
	(void)kt_wait_fact(&b, "ready");
	kt_go(&b);
	kt_finish(&b);
	kt_drain(t);
	e = &kt_only(t, HF_EVENT_CONN_RETRANSMIT)->conn;
	assert_int_equal(e->header.ring, HF_RING_URGENT);
	assert_true(e->header.flags & HF_EVENT_F_WATCHED);
	assert_int_equal(e->conn.cookie, cookie);
	assert_int_equal(e->conn.retransmits_now, 2);
	assert_int_equal(e->conn.unacked_bytes, 5);
	assert_int_equal(e->conn.sk_err, 0);
	d = kt_decode(t, (const union hf_event_any *)e);
	assert_string_equal(d->kind, "conn.retransmit");
	assert_true(d->watched);
	assert_string_equal(d->detail,
			    "2 retransmits unanswered by 127.0.0.1 with 5 bytes unacknowledged");
	/* And its end, urgent as well. */
	reset = kt_conn(t, HF_EVENT_CONN_RESET_SENT, e->conn.local_port);
	assert_int_equal(reset->header.ring, HF_RING_URGENT);
	assert_int_equal(reset->conn.cookie, cookie);
	assert_ok(hf_kernel_watch_socket(t->kernel, cookie, false));
	kt_assert_nothing_lost(t);
}

static void watching_has_a_limit(void **state)
{
	struct kt *t = *state;
	uint64_t i;

	t->reusable = false;
	for (i = 0; i < HF_WATCHED_COOKIE_MAX; i++)
		assert_ok(hf_kernel_watch_socket(t->kernel, UINT64_MAX - i, true));
	assert_err(hf_kernel_watch_socket(t->kernel, 1, true), -E2BIG);
	assert_ok(hf_kernel_watch_socket(t->kernel, UINT64_MAX, false));
	assert_ok(hf_kernel_watch_socket(t->kernel, UINT64_MAX, false));
	assert_ok(hf_kernel_watch_socket(t->kernel, 1, true));
}

int main(int argc, char **argv)
{
#define CONN(f) cmocka_unit_test_setup_teardown(f, kt_setup_conn, kt_teardown)
	const struct CMUnitTest tests[] = {
		CONN(before_accept_it_belongs_to_the_listener),
		CONN(a_prefork_worker_owns_what_it_reads),
		CONN(a_prefork_worker_owns_what_it_reads_over_ipv6),
		CONN(sockets_older_than_the_programs_are_owned_by_the_snapshot),
		CONN(a_watched_socket_tells_the_second_retransmission_at_once),
		CONN(watching_has_a_limit),
	};

	return KT_MAIN(argc, argv, tests);
}
