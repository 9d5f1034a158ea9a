/* SPDX-License-Identifier: Apache-2.0 */
/* Differences of the agent's answers, and the table made of them. */
#include "selftests/unit/test_util.h"

#include <time.h>

#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/top.h"

#define S(text) ((char *)(text))
/* 2026-01-02T14:03:11Z */
#define NOW_NS    (UINT64_C(1767362591) * HF_NS_PER_S)
#define N_COLUMNS 4
#define ROWS_MAX  4

/* An answer with one table: columns failed, exits, bad_exits and one we do not know. */
struct answer {
	Bus__Top top;
	Bus__TopTable table, *tables[1];
	Bus__TopRow row[ROWS_MAX], *rows[ROWS_MAX];
	uint64_t counts[ROWS_MAX][N_COLUMNS], other[N_COLUMNS], totals[N_COLUMNS];
};

static char *columns[N_COLUMNS] = {S("failed"), S("exits"), S("bad_exits"), S("of_tomorrow")};

static void begin(struct answer *a, uint64_t uptime_ms)
{
	memset(a, 0, sizeof(*a));
	bus__top__init(&a->top);
	bus__top_table__init(&a->table);
	a->top.columns = columns;
	a->top.n_columns = N_COLUMNS;
	a->top.now_unix_ns = NOW_NS;
	a->top.uptime_ms = uptime_ms;
	a->top.since_unix_ns = NOW_NS - uptime_ms * HF_NS_PER_MS;
	a->top.instance = 1;
	a->tables[0] = &a->table;
	a->top.tables = a->tables;
	a->top.n_tables = 1;
	a->table.by = S("process");
	a->table.rows = a->rows;
	a->table.other = a->other;
	a->table.n_other = N_COLUMNS;
	a->top.totals = a->totals;
	a->top.n_totals = N_COLUMNS;
}

static void add(struct answer *a, uint64_t id, const char *name, uint32_t pid, uint64_t failed,
		uint64_t exits, uint64_t bad)
{
	size_t i = a->table.n_rows++;
	Bus__TopRow *r = &a->row[i];

	bus__top_row__init(r);
	r->id = id;
	r->name = S(name);
	r->unit = S("app.service");
	r->pid = pid;
	r->last_unix_ns = NOW_NS - 2 * HF_NS_PER_S;
	a->counts[i][0] = failed;
	a->counts[i][1] = exits;
	a->counts[i][2] = bad;
	a->counts[i][3] = 77;
	r->counts = a->counts[i];
	r->n_counts = N_COLUMNS;
	a->rows[i] = r;
	a->totals[0] += failed;
	a->totals[1] += exits;
	a->totals[2] += bad;
}

static void without_an_earlier_answer_it_is_since_the_start(void **state)
{
	struct hf_top_rows rows;
	struct answer a;

	(void)state;
	begin(&a, 5000);
	add(&a, 1, "calm", 10, 1, 0, 0);
	add(&a, 2, "loud", 20, 9, 4, 0);
	hf_top_diff(&a.top, NULL, HF_TOP_PROCESS, HF_TOP_BY_HURT, &rows);
	assert_true(rows.since_start);
	assert_int_equal(rows.window_ms, 5000);
	assert_int_equal(rows.n, 2);
	assert_string_equal(rows.row[0].name, "loud");
	assert_int_equal(rows.row[0].counts[HF_TOP_BY_FAILED], 9);
	assert_int_equal(rows.row[0].counts[HF_TOP_BY_HURT], 9);
	assert_int_equal(rows.totals[HF_TOP_BY_EXITS], 4);
	hf_top_rows_done(&rows);
}

static void the_difference_is_what_happened_between(void **state)
{
	struct answer before, now;
	struct hf_top_rows rows;

	(void)state;
	begin(&before, 5000);
	add(&before, 1, "quiet", 10, 100, 0, 0);
	add(&before, 2, "loud", 20, 9, 0, 0);
	add(&before, 3, "gone", 30, 5, 0, 0);
	begin(&now, 7000);
	add(&now, 1, "quiet", 10, 100, 0, 0);
	add(&now, 2, "loud", 20, 12, 0, 0);
	add(&now, 4, "new", 40, 1, 0, 0);
	now.other[0] = 7; /* what `gone` had, and two more */
	now.totals[0] += 7;
	hf_top_diff(&now.top, &before.top, HF_TOP_PROCESS, HF_TOP_BY_HURT, &rows);
	assert_false(rows.since_start);
	assert_int_equal(rows.window_ms, 2000);
	assert_int_equal(rows.n, 3);
	assert_string_equal(rows.row[0].name, "loud");
	assert_int_equal(rows.row[0].counts[HF_TOP_BY_FAILED], 3);
	assert_string_equal(rows.row[1].name, "new");
	assert_null(rows.row[2].row);
	assert_int_equal(rows.row[2].counts[HF_TOP_BY_FAILED], 2);
	assert_int_equal(rows.totals[HF_TOP_BY_FAILED], 6);
	hf_top_rows_done(&rows);
}

static void another_agent_is_not_compared_with(void **state)
{
	struct answer before, now;
	struct hf_top_rows rows;

	(void)state;
	begin(&before, 5000);
	add(&before, 1, "old", 10, 100, 0, 0);
	begin(&now, 9000);
	now.top.instance = 2;
	add(&now, 1, "new", 10, 3, 0, 0);
	hf_top_diff(&now.top, &before.top, HF_TOP_PROCESS, HF_TOP_BY_HURT, &rows);
	assert_true(rows.since_start);
	assert_int_equal(rows.row[0].counts[HF_TOP_BY_FAILED], 3);
	hf_top_rows_done(&rows);
}

static void every_order_puts_its_most_first(void **state)
{
	static const struct {
		enum hf_top_sort sort;
		const char *want;
	} cases[] = {
		{HF_TOP_BY_HURT, "b"},      {HF_TOP_BY_FAILED, "b"}, {HF_TOP_BY_EXITS, "c"},
		{HF_TOP_BY_BAD_EXITS, "a"}, {HF_TOP_BY_NAME, "a"},   {HF_TOP_BY_LAST, "b"},
	};
	struct answer a;

	(void)state;
	begin(&a, 5000);
	add(&a, 1, "a", 10, 1, 3, 3);
	add(&a, 2, "b", 20, 9, 0, 0);
	add(&a, 3, "c", 30, 0, 8, 0);
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		struct hf_top_rows rows;

		hf_top_diff(&a.top, NULL, HF_TOP_PROCESS, cases[i].sort, &rows);
		assert_string_equal(rows.row[0].name, cases[i].want);
		hf_top_rows_done(&rows);
	}
}

/* A message is what another process sent. */
static void an_answer_with_parts_missing_is_no_harm(void **state)
{
	struct hf_top_rows rows;
	struct answer a;
	json_t *o;

	(void)state;
	begin(&a, 5000);
	add(&a, 1, "x", 10, 1, 0, 0);
	a.row[0].n_counts = 0;
	a.table.n_other = 0;
	a.top.n_totals = 1;
	hf_top_diff(&a.top, NULL, HF_TOP_PROCESS, HF_TOP_BY_HURT, &rows);
	assert_int_equal(rows.n, 0);
	hf_top_rows_done(&rows);
	a.row[0].n_counts = N_COLUMNS;
	a.top.n_columns = 1;
	hf_top_diff(&a.top, NULL, HF_TOP_UNIT, HF_TOP_BY_HURT, &rows);
	assert_int_equal(rows.n, 0);
	hf_top_rows_done(&rows);
	o = hf_top_json(&a.top, NULL, HF_TOP_BY_HURT, 0);
	assert_non_null(o);
	json_decref(o);
}

static void json_limits_rows_and_keeps_the_sum(void **state)
{
	const json_t *table;
	struct answer a;
	json_t *o;

	(void)state;
	begin(&a, 5000);
	add(&a, 1, "a", 10, 5, 0, 0);
	add(&a, 2, "b", 20, 4, 0, 0);
	add(&a, 3, "c", 30, 3, 0, 0);
	o = hf_top_json(&a.top, NULL, HF_TOP_BY_HURT, 1);
	table = json_object_get(o, "process");
	assert_int_equal(json_array_size(json_object_get(table, "rows")), 1);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(table, "other"), "failed")), 7);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(o, "totals"), "of_tomorrow")),
		0);
	assert_int_equal(json_integer_value(json_object_get(o, "window_ms")), 5000);
	json_decref(o);
}

static void the_table_says_it_in_columns(void **state)
{
	struct hf_term t = {.now_ns = NOW_NS};
	struct hf_top_rows rows;
	struct answer a;
	char *text = NULL;
	size_t len;

	(void)state;
	begin(&a, 65000);
	add(&a, 1, "nginx", 812, 1234567, 0, 0);
	add(&a, 2, "\033[2Jevil", 20, 0, 2, 2);
	a.other[0] = 5;
	a.totals[0] += 5;
	t.f = open_memstream(&text, &len);
	hf_top_diff(&a.top, NULL, HF_TOP_PROCESS, HF_TOP_BY_HURT, &rows);
	hf_view_top(&t, &a.top, &rows, HF_TOP_PROCESS, HF_TOP_BY_HURT, 0);
	hf_top_rows_done(&rows);
	assert_int_equal(fclose(t.f), 0);
	assert_string_equal(
		text,
		"14:03:11  by process, most hurt first, since the agent started 1 min 5 s ago\n"
		"0 resets in, 0 out, 1 234 572 failed, 0 dropped, 2 exits, 2 bad, 0 OOM kills\n"
		"not told one by one since the programs were loaded: 0 lost, 0 throttled\n"
		"\n"
		"PROCESS            UNIT          RST IN RST OUT  FAILED DROPPED PACKETS   EXITS     "
		"BAD     OOM  UNSEEN    LAST AGO\n"
		"nginx[812]         app.service        0       0    1.2M       0       0       0       "
		"0       0       0         2 s\n"
		"?[2Jevil[20]       app.service        0       0       0       0       0       2       "
		"2       0       0         2 s\n"
		"(others)                              0       0       5       0       0       0       "
		"0       0       0            \n");
	free(text);
}

static void no_line_is_wider_than_the_terminal(void **state)
{
	struct hf_top_rows rows;
	struct answer a;

	(void)state;
	begin(&a, 65000);
	add(&a, 1, "a-process-with-quite-a-long-name-for-a-comm-field", 4000000, 1234567, 3, 1);
	add(&a, 2, "x", 20, 0, 2, 2);
	for (unsigned width = 42; width < 160; width++) {
		struct hf_term t = {.now_ns = NOW_NS, .width = width};
		char *text = NULL, *rest, *line;
		size_t len;

		t.f = open_memstream(&text, &len);
		hf_top_diff(&a.top, NULL, HF_TOP_PROCESS, HF_TOP_BY_HURT, &rows);
		hf_view_top(&t, &a.top, &rows, HF_TOP_PROCESS, HF_TOP_BY_HURT, 0);
		hf_top_rows_done(&rows);
		assert_int_equal(fclose(t.f), 0);
		rest = text;
		while ((line = strsep(&rest, "\n")))
			assert_in_range(hf_term_columns(line), 0, width);
		free(text);
	}
}

static void names_are_read_and_others_refused(void **state)
{
	enum hf_top_by by = HF_TOP_PROCESS;
	enum hf_top_sort sort;
	enum hf_top_window window;

	(void)state;
	assert_ok(hf_top_parse_by("peer", &by));
	assert_int_equal(by, HF_TOP_PEER);
	assert_err(hf_top_parse_by("pear", &by), -EINVAL);
	assert_int_equal(by, HF_TOP_PEER);
	for (unsigned i = 0; i < _HF_TOP_SORT_MAX; i++) {
		assert_ok(hf_top_parse_sort(hf_top_sort_name((enum hf_top_sort)i), &sort));
		assert_int_equal(sort, i);
	}
	for (unsigned i = 0; i < _HF_TOP_WINDOW_MAX; i++) {
		assert_ok(hf_top_parse_window(hf_top_window_name((enum hf_top_window)i), &window));
		assert_int_equal(window, i);
	}
	assert_err(hf_top_parse_window("", &window), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_an_earlier_answer_it_is_since_the_start),
		cmocka_unit_test(the_difference_is_what_happened_between),
		cmocka_unit_test(another_agent_is_not_compared_with),
		cmocka_unit_test(every_order_puts_its_most_first),
		cmocka_unit_test(an_answer_with_parts_missing_is_no_harm),
		cmocka_unit_test(json_limits_rows_and_keeps_the_sum),
		cmocka_unit_test(the_table_says_it_in_columns),
		cmocka_unit_test(no_line_is_wider_than_the_terminal),
		cmocka_unit_test(names_are_read_and_others_refused),
	};

	setenv("TZ", "UTC", 1);
	tzset();
	return HF_RUN_TESTS(tests);
}
