/* SPDX-License-Identifier: Apache-2.0 */
/* What leaves the host under a flood, and what `holdfast events` remembers. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"
#include "userspace/agent/budget.h"
#include "userspace/agent/recent.h"
#include "userspace/proto/frame.h"

struct out {
	unsigned n;
	uint64_t count;
	char kind[32], comm[32], reason[32];
	uint32_t pid;
	bool loss;
};

static void emit(Bus__Event *e, void *userdata)
{
	struct out *o = userdata;

	o->n++;
	o->count += e->drop->count;
	o->pid = e->pid;
	o->loss = e->loss;
	assert_string_equal(e->ring, "aggregate");
	(void)snprintf(o->kind, sizeof(o->kind), "%s", e->kind);
	(void)snprintf(o->comm, sizeof(o->comm), "%s", e->comm);
	(void)snprintf(o->reason, sizeof(o->reason), "%s", e->reason);
}

static Bus__Event event(const char *kind, const char *comm, uint32_t pid)
{
	Bus__Event e = BUS__EVENT__INIT;

	e.kind = (char *)kind;
	e.comm = (char *)comm;
	e.pid = pid;
	return e;
}

static void the_burst_leaves_the_rest_is_counted_exactly(void **state)
{
	struct hf_budget *b = calloc(1, sizeof(*b));
	Bus__Event e = event("proc.exit", "sh", 7);
	uint64_t now = HF_NS_PER_S;
	struct out out = {};
	unsigned left = 0;

	(void)state;
	assert_non_null(b);
	hf_budget_init(b, 50, 1000);
	for (unsigned i = 0; i < 5000; i++)
		left += hf_budget_take(b, &e, now);
	assert_int_equal(left, 1000);
	assert_false(hf_budget_due(b, now + 9 * HF_NS_PER_S));
	now += 10 * HF_NS_PER_S;
	assert_true(hf_budget_due(b, now));
	hf_budget_flush(b, now, emit, &out);
	assert_int_equal(out.n, 1);
	assert_int_equal(out.count, 4000);
	assert_string_equal(out.kind, "proc.exit");
	assert_string_equal(out.comm, "sh");
	assert_int_equal(out.pid, 7);
	assert_false(hf_budget_due(b, now + 100 * HF_NS_PER_S));
	/* Ten seconds gave 500 tokens back. */
	left = 0;
	for (unsigned i = 0; i < 5000; i++)
		left += hf_budget_take(b, &e, now);
	assert_int_equal(left, 500);
	free(b);
}

static void groups_are_by_kind_owner_peer_and_reason(void **state)
{
	struct hf_budget *b = calloc(1, sizeof(*b));
	Bus__Event a = event("proc.exit", "sh", 7), c = event("proc.exit", "sh", 8),
		   d = event("proc.exit", "cc1", 9), e = event("conn.failed", "cc1", 9);
	struct out out = {};

	(void)state;
	assert_non_null(b);
	hf_budget_init(b, 1, 0);
	assert_false(hf_budget_take(b, &a, 1));
	assert_false(hf_budget_take(b, &c, 1)); /* same name, another process: one group */
	assert_int_equal(b->n, 1);
	assert_int_equal(b->groups[0].pid, 0);
	assert_false(hf_budget_take(b, &d, 1));
	assert_false(hf_budget_take(b, &e, 1));
	e.peer = (char *)"192.0.2.1:80";
	assert_false(hf_budget_take(b, &e, 1));
	e.reason = (char *)"ECONNREFUSED";
	assert_false(hf_budget_take(b, &e, 1));
	assert_int_equal(b->n, 5);
	hf_budget_flush(b, 2, emit, &out);
	assert_int_equal(out.n, 5);
	assert_int_equal(out.count, 6);
	free(b);
}

static void more_groups_than_fit_are_counted_in_the_last(void **state)
{
	struct hf_budget *b = calloc(1, sizeof(*b));
	struct out out = {};
	char comm[16];

	(void)state;
	assert_non_null(b);
	hf_budget_init(b, 1, 0);
	for (unsigned i = 0; i < 2 * HF_BUDGET_GROUPS_MAX; i++) {
		Bus__Event e;

		(void)snprintf(comm, sizeof(comm), "p%u", i);
		e = event("proc.exit", comm, i + 1);
		assert_false(hf_budget_take(b, &e, 1));
	}
	hf_budget_flush(b, 2, emit, &out);
	assert_int_equal(out.n, HF_BUDGET_GROUPS_MAX + 1);
	assert_int_equal(out.count, 2 * HF_BUDGET_GROUPS_MAX);
	assert_string_equal(out.kind, "telemetry.loss");
	assert_true(out.loss);
	free(b);
}

static void add(struct hf_recent *r, uint64_t time, const char *kind, uint32_t pid,
		const char *unit)
{
	Bus__Event e = event(kind, "x", pid);
	struct hf_buf buf = {};

	e.time_unix_ns = time;
	e.unit = (char *)unit;
	assert_ok(hf_pb_pack(&e.base, &buf));
	hf_recent_add(r, buf.data, buf.len);
	hf_buf_done(&buf);
}

static void the_newest_that_match_come_oldest_first(void **state)
{
	struct hf_recent *r = hf_recent_new();
	Bus__EventsRequest q = BUS__EVENTS_REQUEST__INIT;
	char *kinds[] = {(char *)"proc.exit"};
	Bus__Events *l;

	(void)state;
	for (uint64_t i = 1; i <= 10; i++)
		add(r, i, i % 2 ? "proc.exit" : "conn.failed", (uint32_t)i,
		    i == 9 ? "a.service" : "");
	q.limit = 3;
	l = hf_recent_query(r, &q, 1 << 20);
	assert_int_equal(l->n_items, 3);
	assert_int_equal(l->items[0]->time_unix_ns, 8);
	assert_int_equal(l->items[2]->time_unix_ns, 10);
	bus__events__free_unpacked(l, NULL);

	q.kinds = kinds;
	q.n_kinds = 1;
	q.since_unix_ns = 5;
	l = hf_recent_query(r, &q, 1 << 20);
	assert_int_equal(l->n_items, 3);
	assert_int_equal(l->items[0]->time_unix_ns, 5);
	bus__events__free_unpacked(l, NULL);

	q.unit = (char *)"a.service";
	l = hf_recent_query(r, &q, 1 << 20);
	assert_int_equal(l->n_items, 1);
	bus__events__free_unpacked(l, NULL);

	q.pid = 1;
	l = hf_recent_query(r, &q, 1 << 20);
	assert_int_equal(l->n_items, 0);
	bus__events__free_unpacked(l, NULL);
	hf_recent_free(r);
}

static void memory_is_bounded_by_number_and_bytes(void **state)
{
	struct hf_recent *r = hf_recent_new();
	Bus__EventsRequest q = BUS__EVENTS_REQUEST__INIT;
	char *big = malloc(HF_RECENT_BYTES_MAX / 4);
	Bus__Events *l;

	(void)state;
	assert_non_null(big);
	for (uint64_t i = 1; i <= HF_RECENT_MAX + 100; i++)
		add(r, i, "proc.exit", 1, "");
	assert_int_equal(hf_recent_count(r), HF_RECENT_MAX);
	q.limit = UINT32_MAX;
	l = hf_recent_query(r, &q, SIZE_MAX);
	assert_int_equal(l->n_items, HF_RECENT_MAX);
	assert_int_equal(l->items[0]->time_unix_ns, 101);
	bus__events__free_unpacked(l, NULL);
	l = hf_recent_query(r, &q, 1000);
	assert_true(l->n_items > 0 && l->n_items < 100);
	bus__events__free_unpacked(l, NULL);

	memset(big, 0, HF_RECENT_BYTES_MAX / 4);
	for (int i = 0; i < 9; i++)
		hf_recent_add(r, big, HF_RECENT_BYTES_MAX / 4);
	assert_int_equal(hf_recent_count(r), 4);
	hf_recent_add(r, big, 0);
	assert_int_equal(hf_recent_count(r), 4);
	/* What does not unpack is passed over. */
	l = hf_recent_query(r, &q, SIZE_MAX);
	assert_int_equal(l->n_items, 0);
	bus__events__free_unpacked(l, NULL);
	hf_recent_free(r);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_burst_leaves_the_rest_is_counted_exactly),
		cmocka_unit_test(groups_are_by_kind_owner_peer_and_reason),
		cmocka_unit_test(more_groups_than_fit_are_counted_in_the_last),
		cmocka_unit_test(the_newest_that_match_come_oldest_first),
		cmocka_unit_test(memory_is_bounded_by_number_and_bytes),
	};
	return HF_RUN_TESTS(tests);
}
