/* SPDX-License-Identifier: Apache-2.0 */
/* Counting events by who, within fixed memory. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"
#include "base/str.h"
#include "userspace/agent/tally.h"

#define SEED  UINT64_C(0x5eed)
#define S(s)  ((char *)(s))
#define BEGIN (1000 * HF_NS_PER_S)

static Bus__Event event(const char *kind, uint32_t pid, const char *comm, const char *unit)
{
	Bus__Event e = BUS__EVENT__INIT;

	e.kind = S(kind);
	e.pid = pid;
	e.comm = S(comm);
	e.unit = S(unit);
	e.boot_ns = BEGIN;
	e.start_boot_ns = pid;
	return e;
}

static const struct hf_tally_row *row_named(const struct hf_tally *t, enum hf_tally_by by,
					    const char *name)
{
	for (unsigned i = 0; i < HF_TALLY_ROWS; i++) {
		const struct hf_tally_row *r =
			&t->table[by].row[i / HF_TALLY_WAYS][i % HF_TALLY_WAYS];

		if (r->id && hf_streq(r->name, name))
			return r;
	}
	return NULL;
}

/* I2 */
static void assert_sums(const struct hf_tally *t)
{
	for (unsigned by = 0; by < _HF_TALLY_BY_MAX; by++) {
		for (unsigned c = 0; c < _HF_TALLY_COLUMN_MAX; c++) {
			uint64_t sum = t->table[by].other[c];

			for (unsigned i = 0; i < HF_TALLY_ROWS; i++)
				sum += t->table[by]
					       .row[i / HF_TALLY_WAYS][i % HF_TALLY_WAYS]
					       .counts[c];
			assert_int_equal(sum, t->totals[c]);
		}
	}
}

static void each_kind_counts_in_its_column(void **state)
{
	static const struct {
		const char *kind;
		enum hf_tally_column column;
	} cases[] = {
		{"conn.reset_received", HF_TALLY_RESETS_RECEIVED},
		{"conn.reset_sent", HF_TALLY_RESETS_SENT},
		{"conn.failed", HF_TALLY_FAILED},
		{"conn.dropped", HF_TALLY_DROPPED},
		{"conn.closed", HF_TALLY_CLOSED},
		{"proc.exit", HF_TALLY_EXITS},
		{"proc.oom", HF_TALLY_OOM},
	};
	struct hf_tally *t = hf_tally_new(SEED);

	(void)state;
	assert_non_null(t);
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		Bus__Event e = event(cases[i].kind, 7, "worker", "app.service");
		uint64_t before[_HF_TALLY_COLUMN_MAX];

		memcpy(before, t->totals, sizeof(before));
		hf_tally_add(t, &e);
		for (unsigned c = 0; c < _HF_TALLY_COLUMN_MAX; c++)
			assert_int_equal(t->totals[c] - before[c], c == cases[i].column);
	}
	assert_sums(t);
	hf_tally_free(t);
}

static void exit_is_bad_by_status_or_signal_only(void **state)
{
	struct hf_tally *t = hf_tally_new(SEED);
	Bus__Event e = event("proc.exit", 7, "worker", "");
	Bus__ExitInfo x = BUS__EXIT_INFO__INIT;

	(void)state;
	e.exit = &x;
	hf_tally_add(t, &e);
	assert_int_equal(t->totals[HF_TALLY_BAD_EXITS], 0);
	x.code = 3;
	hf_tally_add(t, &e);
	x.code = -1;
	x.signal = 9;
	hf_tally_add(t, &e);
	assert_int_equal(t->totals[HF_TALLY_EXITS], 3);
	assert_int_equal(t->totals[HF_TALLY_BAD_EXITS], 2);
	hf_tally_free(t);
}

static void an_event_counts_for_as_many_as_it_stands_for(void **state)
{
	struct hf_tally *t = hf_tally_new(SEED);
	Bus__Event e = event("skb.drop", 0, "", "app.service");
	Bus__DropInfo drop = BUS__DROP_INFO__INIT;
	Bus__LossInfo loss = BUS__LOSS_INFO__INIT;

	(void)state;
	e.drop = &drop;
	drop.count = 40;
	hf_tally_add(t, &e);
	e = event("telemetry.loss", 0, "", "loud.service");
	e.loss = &loss;
	loss.count = 1000;
	loss.cause = S("throttled");
	hf_tally_add(t, &e);
	assert_int_equal(t->totals[HF_TALLY_PACKETS], 40);
	assert_int_equal(row_named(t, HF_TALLY_UNIT, "loud.service")->counts[HF_TALLY_UNSEEN],
			 1000);
	assert_int_equal(t->reasons, 2);
	assert_string_equal(t->reason[1].kind, "telemetry.loss");
	assert_string_equal(t->reason[1].reason, "throttled");
	assert_int_equal(t->reason[1].events, 1000);
	hf_tally_free(t);
}

static void a_process_is_its_pid_and_its_start(void **state)
{
	struct hf_tally *t = hf_tally_new(SEED);
	Bus__Event e = event("conn.failed", 7, "worker", "a.service");
	Bus__Top *top;
	unsigned seven = 0;

	(void)state;
	hf_tally_add(t, &e);
	e.start_boot_ns = 99; /* the number was given again */
	hf_tally_add(t, &e);
	top = hf_tally_answer(t, 0);
	for (size_t i = 0; i < top->tables[HF_TALLY_PROCESS]->n_rows; i++) {
		assert_int_equal(top->tables[HF_TALLY_PROCESS]->rows[i]->counts[HF_TALLY_FAILED],
				 1);
		seven += top->tables[HF_TALLY_PROCESS]->rows[i]->pid == 7;
	}
	assert_int_equal(seven, 2);
	assert_int_equal(top->tables[HF_TALLY_UNIT]->n_rows, 1);
	bus__top__free_unpacked(top, NULL);
	hf_tally_free(t);
}

static void peers_have_a_port_where_it_names_their_service(void **state)
{
	static const struct {
		const char *peer, *owner_src, *want;
	} cases[] = {
		{"192.0.2.1:443", "connect", "192.0.2.1:443"},
		{"192.0.2.1:40112", "accept", "192.0.2.1"},
		{"192.0.2.1:40112", "listen", "192.0.2.1"},
		{"192.0.2.1:40112", "none", "192.0.2.1"},
		{"[2001:db8::1]:40112", "accept", "[2001:db8::1]"},
		{"", "none", ""},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		struct hf_tally *t = hf_tally_new(SEED);
		Bus__Event e = event("conn.reset_received", 7, "worker", "");

		e.peer = S(cases[i].peer);
		e.owner_src = S(cases[i].owner_src);
		hf_tally_add(t, &e);
		assert_non_null(row_named(t, HF_TALLY_PEER, cases[i].want));
		hf_tally_free(t);
	}
}

static void unit_is_the_cgroup_where_there_is_none(void **state)
{
	struct hf_tally *t = hf_tally_new(SEED);
	Bus__Event e = event("conn.failed", 7, "worker", "");
	char path[200];

	(void)state;
	memset(path, 'x', sizeof(path));
	memcpy(path + sizeof(path) - 10, "/the-end", sizeof("/the-end"));
	e.cgroup = path;
	hf_tally_add(t, &e);
	for (unsigned i = 0; i < HF_TALLY_ROWS; i++) {
		const struct hf_tally_row *r =
			&t->table[HF_TALLY_UNIT].row[i / HF_TALLY_WAYS][i % HF_TALLY_WAYS];

		if (r->id)
			assert_true(hf_endswith(r->name, "/the-end"));
	}
	hf_tally_free(t);
}

/* A flood of newcomers, each seen once, beside one that goes on and on. */
static void the_loud_keep_their_rows_and_sums_stay_exact(void **state)
{
	struct hf_tally *t = hf_tally_new(SEED);
	uint64_t loud = 0;

	(void)state;
	for (uint32_t i = 1; i <= 100000; i++) {
		Bus__Event e = event("conn.failed", i, "scanner", "scan.service");
		char peer[32];

		(void)snprintf(peer, sizeof(peer), "10.%u.%u.%u:80", i >> 16 & 255, i >> 8 & 255,
			       i & 255);
		e.peer = peer;
		e.boot_ns = BEGIN + i * HF_NS_PER_MS;
		hf_tally_add(t, &e);
		if (i % 100 == 0) {
			e = event("conn.reset_sent", 812, "nginx", "nginx.service");
			e.peer = S("192.0.2.1:443");
			e.owner_src = S("connect");
			e.boot_ns = BEGIN + i * HF_NS_PER_MS;
			hf_tally_add(t, &e);
			loud++;
		}
	}
	assert_sums(t);
	assert_int_equal(row_named(t, HF_TALLY_PROCESS, "nginx")->counts[HF_TALLY_RESETS_SENT],
			 loud);
	assert_int_equal(row_named(t, HF_TALLY_PEER, "192.0.2.1:443")->counts[HF_TALLY_RESETS_SENT],
			 loud);
	assert_true(t->table[HF_TALLY_PEER].folded > 90000);
	assert_int_equal(t->table[HF_TALLY_UNIT].folded, 0);
	hf_tally_free(t);
}

static void yesterdays_row_makes_room_before_todays(void **state)
{
	struct hf_tally *t = hf_tally_new(SEED);
	Bus__Event old = event("conn.failed", 1, "old", "");

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		hf_tally_add(t, &old);
	for (uint32_t i = 2; i < 4000; i++) {
		Bus__Event e = event("conn.failed", i, "new", "");

		e.boot_ns = BEGIN + 3600 * HF_NS_PER_S;
		hf_tally_add(t, &e);
	}
	assert_null(row_named(t, HF_TALLY_PROCESS, "old"));
	assert_true(t->table[HF_TALLY_PROCESS].other[HF_TALLY_FAILED] >= 1000);
	assert_sums(t);
	hf_tally_free(t);
}

static void reasons_are_bounded_and_never_go_back(void **state)
{
	struct hf_tally *t = hf_tally_new(SEED);
	uint64_t first, sum = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		Bus__Event e = event("skb.drop", 0, "", "");
		char reason[32];

		(void)snprintf(reason, sizeof(reason), "REASON_%u", i);
		e.reason = reason;
		hf_tally_add(t, &e);
	}
	first = t->reason[0].events;
	assert_int_equal(first, 1);
	assert_true(t->reasons < HF_TALLY_REASONS);
	for (size_t i = 0; i < t->reasons; i++)
		sum += t->reason[i].events;
	assert_int_equal(sum, 1000);
	assert_int_equal(t->reasons_folded, 1000 - (t->reasons - 1));
	assert_string_equal(t->reason[t->reasons - 1].reason, "other");
	hf_tally_free(t);
}

static void answer_has_every_table_in_wall_time(void **state)
{
	struct hf_tally *t = hf_tally_new(SEED);
	Bus__Event e = event("conn.failed", 7, "worker", "a.service");
	const Bus__TopRow *r;
	Bus__Top *top;

	(void)state;
	hf_tally_add(t, &e);
	top = hf_tally_answer(t, (int64_t)HF_NS_PER_S);
	assert_non_null(top);
	assert_int_equal(top->n_columns, _HF_TALLY_COLUMN_MAX);
	assert_string_equal(top->columns[HF_TALLY_FAILED], "failed");
	assert_int_equal(top->n_tables, 3);
	assert_string_equal(top->tables[0]->by, "process");
	r = top->tables[0]->rows[0];
	assert_string_equal(r->name, "worker");
	assert_string_equal(r->unit, "a.service");
	assert_int_equal(r->pid, 7);
	assert_int_equal(r->last_unix_ns, BEGIN + HF_NS_PER_S);
	assert_int_equal(r->counts[HF_TALLY_FAILED], 1);
	assert_int_equal(top->totals[HF_TALLY_FAILED], 1);
	bus__top__free_unpacked(top, NULL);
	hf_tally_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_counts_in_its_column),
		cmocka_unit_test(exit_is_bad_by_status_or_signal_only),
		cmocka_unit_test(an_event_counts_for_as_many_as_it_stands_for),
		cmocka_unit_test(a_process_is_its_pid_and_its_start),
		cmocka_unit_test(peers_have_a_port_where_it_names_their_service),
		cmocka_unit_test(unit_is_the_cgroup_where_there_is_none),
		cmocka_unit_test(the_loud_keep_their_rows_and_sums_stay_exact),
		cmocka_unit_test(yesterdays_row_makes_room_before_todays),
		cmocka_unit_test(reasons_are_bounded_and_never_go_back),
		cmocka_unit_test(answer_has_every_table_in_wall_time),
	};
	return HF_RUN_TESTS(tests);
}
