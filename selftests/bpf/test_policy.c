/* SPDX-License-Identifier: Apache-2.0 */
/* What a policy leaves out or asks for in addition: sampling, cgroups, watched closes, drops. */
#include "harness.h"

#include <bpf/btf.h>

#include "base/str.h"
#include "watchdog/kernel_probe.h"

static void set_policy(struct kt *t, struct hf_policy *p)
{
	p->flags |= HF_POLICY_F_NETNS_ONLY | HF_POLICY_F_NO_THROTTLE;
	assert_ok(hf_kernel_set_policy(t->kernel, p));
}

static void closes_are_sampled(void **state)
{
	struct kt *t = *state;
	struct kt_behaviour b;
	struct hf_policy p;

	kt_require(t, "tcp.state");
	hf_kernel_default_policy(&p);
	p.kinds = HF_POLICY_KIND(HF_EVENT_CONN_CLOSED);
	p.closed_one_in = 1u << 30;
	set_policy(t, &p);
	kt_run(&b, "orderly", "4");
	kt_run(&b, "orderly", "4");
	kt_collect(t, 0);
	assert_true(kt_totals(t).kind[HF_EVENT_CONN_CLOSED].filtered >= 4);
	/* One of one is each of them, and none of them stands for others. */
	p.closed_one_in = 1;
	set_policy(t, &p);
	kt_run(&b, "orderly", "4");
	kt_collect(t, 2);
	assert_int_equal(t->events[0].header.weight, 1);
	assert_int_equal(t->events[0].header.flags & HF_EVENT_F_SAMPLED, 0);
	/* Of two about half, each for two. */
	t->n_events = t->n_ends = 0;
	p.closed_one_in = 2;
	set_policy(t, &p);
	while (!t->n_events) {
		kt_run(&b, "orderly", "4");
		kt_drain(t);
	}
	assert_int_equal(t->events[0].header.weight, 2);
	assert_int_equal(t->events[0].header.flags & HF_EVENT_F_SAMPLED, HF_EVENT_F_SAMPLED);
}

static void a_kind_that_is_off_is_counted(void **state)
{
	struct kt *t = *state;
	struct kt_behaviour b;
	struct hf_policy p;

	kt_require(t, "tcp.reset_sent");
	hf_kernel_default_policy(&p);
	p.kinds = 0;
	set_policy(t, &p);
	kt_run(&b, "reset_by_peer", "4");
	kt_collect(t, 0);
	assert_true(kt_totals(t).kind[HF_EVENT_CONN_RESET_SENT].filtered >= 1);
}

static void cgroups_are_chosen_by_id(void **state)
{
	struct kt *t = *state;
	struct kt_behaviour b;
	struct hf_policy p;
	uint64_t id;

	kt_require(t, "tcp.state");
	hf_kernel_default_policy(&p);
	p.kinds = HF_POLICY_KIND(HF_EVENT_CONN_FAILED);
	set_policy(t, &p);
	kt_run(&b, "refused", "4");
	kt_collect(t, 1);
	id = kt_only(t, HF_EVENT_CONN_FAILED)->conn.owner.cgroup_id;
	assert_int_not_equal(id, 0);

	p.flags = HF_POLICY_F_CGROUP_ONLY;
	set_policy(t, &p);
	kt_run(&b, "refused", "4");
	kt_collect(t, 1);
	assert_ok(hf_kernel_filter_cgroup(t->kernel, id, true));
	kt_run(&b, "refused", "4");
	kt_collect(t, 2);
	p.flags = HF_POLICY_F_CGROUP_EXCEPT;
	set_policy(t, &p);
	kt_run(&b, "refused", "4");
	kt_collect(t, 2);
	assert_ok(hf_kernel_filter_cgroup(t->kernel, id, false));
	kt_run(&b, "refused", "4");
	kt_collect(t, 3);
}

static void a_watched_socket_tells_the_fin_at_once(void **state)
{
	struct kt *t = *state;
	const struct hf_conn_event *e;
	struct kt_behaviour b;
	struct hf_policy p;

	kt_require(t, "tcp.state");
	hf_kernel_default_policy(&p);
	p.kinds = 0; /* watched sockets are told whatever the policy says */
	set_policy(t, &p);
	kt_start(&b, "orderly_wait", "4");
	(void)kt_wait_fact(&b, "ready");
	assert_ok(hf_kernel_watch_socket(t->kernel, kt_fact(&b, "client_cookie"), true));
	kt_go(&b);
	kt_finish(&b);
	kt_collect(t, 1);
	e = &kt_only(t, HF_EVENT_CONN_CLOSED)->conn;
	assert_int_equal(e->header.ring, HF_RING_URGENT);
	assert_int_equal(e->conn.cookie, kt_fact(&b, "client_cookie"));
	assert_int_equal(e->conn.closed_by, HF_CLOSED_BY_PEER);
	assert_string_equal(kt_decode(t, (const union hf_event_any *)e)->reason, "FIN_RECEIVED");
	assert_string_equal(kt_decode(t, (const union hf_event_any *)e)->conn->state, "CLOSE_WAIT");
	assert_ok(hf_kernel_watch_socket(t->kernel, kt_fact(&b, "client_cookie"), false));
	kt_assert_nothing_lost(t);
}

static uint32_t drop_reason(const struct kt *t, const char *name)
{
	uint32_t i;

	for (i = 0; i < HF_DROP_REASON_MAX; i++)
		if (hf_streq0(hf_kernel_info_drop(t->info, i), name))
			return i;
	fail_msg("no drop reason '%s' on this kernel", name);
	return 0;
}

static void drops_are_aggregated_by_reason(void **state)
{
	struct kt *t = *state;
	uint32_t reason, packets = 0;
	struct kt_behaviour b;
	struct hf_policy p;
	size_t i;

	kt_require(t, "skb.drop");
	reason = drop_reason(t, "SOCKET_FILTER");
	hf_kernel_default_policy(&p);
	p.kinds = HF_POLICY_KIND(HF_EVENT_SKB_DROP);
	p.drop_reasons[reason / 64] = 1ull << (reason % 64);
	p.drop_window_ns = 1; /* a record each time */
	set_policy(t, &p);
	kt_run(&b, "user_timeout", "4"); /* sends into a socket whose filter drops everything */
	kt_drain(t);
	assert_true(t->n_events >= 2);
	for (i = 0; i < t->n_events; i++) {
		const union hf_event_any *e = &t->events[i];

		assert_int_equal(e->header.kind, HF_EVENT_SKB_DROP);
		assert_int_equal(e->conn.conn.reason, reason);
		assert_int_equal(e->conn.conn.local_port, kt_fact(&b, "port"));
		assert_string_equal(kt_decode(t, e)->reason, "SOCKET_FILTER");
		packets += e->header.weight;
	}
	assert_int_equal(packets, t->n_events);

	/* In one window they are one record and a rest. */
	t->n_events = t->n_ends = 0;
	p.drop_window_ns = 3600ull * 1000000000;
	set_policy(t, &p);
	kt_run(&b, "user_timeout", "4");
	kt_drain(t);
	assert_in_range(t->n_events, 0, 1);
	assert_int_equal(hf_kernel_flush_drops(t->kernel), 0);

	/* The rest is told when the window is over, without another packet. */
	t->n_events = t->n_ends = 0;
	p.drop_window_ns = 1;
	set_policy(t, &p);
	assert_int_equal(hf_kernel_flush_drops(t->kernel), 1);
	assert_int_equal(hf_kernel_flush_drops(t->kernel), 0);
	kt_drain(t);
	assert_int_equal(t->n_events, 1);
	assert_true(t->events[0].header.weight >= 1);
	assert_int_equal(t->events[0].conn.conn.reason, reason);
	assert_int_equal(t->events[0].conn.conn.netns, t->netns);
	assert_string_equal(kt_decode(t, &t->events[0])->reason, "SOCKET_FILTER");
}

static bool drops_name_the_receiver(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	int n;

	assert_non_null(btf);
	n = hf_probe_tracepoint_args(btf, "kfree_skb");
	btf__free(btf);
	return n >= 4;
}

static void a_watched_socket_tells_each_drop(void **state)
{
	struct kt *t = *state;
	struct kt_behaviour b;
	struct hf_policy p;
	uint64_t cookie;
	size_t i;

	kt_require(t, "skb.drop");
	if (!drops_name_the_receiver()) {
		print_message("SKIP kfree_skb does not name the receiving socket here\n");
		skip();
	}
	hf_kernel_default_policy(&p);
	p.kinds = 0;
	set_policy(t, &p);
	kt_start(&b, "user_timeout", "4");
	cookie = kt_wait_fact(&b, "server_cookie");
	assert_ok(hf_kernel_watch_socket(t->kernel, cookie, true));
	kt_finish(&b);
	kt_drain(t);
	for (i = 0; i < t->n_events; i++) {
		const union hf_event_any *e = &t->events[i];

		if (e->header.kind != HF_EVENT_SKB_DROP)
			continue;
		assert_int_equal(e->header.ring, HF_RING_URGENT);
		assert_int_equal(e->conn.conn.cookie, cookie);
		assert_string_equal(kt_decode(t, e)->reason, "SOCKET_FILTER");
		break;
	}
	assert_true(i < t->n_events);
	assert_ok(hf_kernel_watch_socket(t->kernel, cookie, false));
}

int main(int argc, char **argv)
{
#define CONN(f) cmocka_unit_test_setup_teardown(f, kt_setup_conn, kt_teardown)
	const struct CMUnitTest tests[] = {
		CONN(closes_are_sampled),
		CONN(a_kind_that_is_off_is_counted),
		CONN(cgroups_are_chosen_by_id),
		CONN(a_watched_socket_tells_the_fin_at_once),
		CONN(drops_are_aggregated_by_reason),
		CONN(a_watched_socket_tells_each_drop),
	};

	return KT_MAIN(argc, argv, tests);
}
