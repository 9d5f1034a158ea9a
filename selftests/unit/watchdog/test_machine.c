/* SPDX-License-Identifier: Apache-2.0 */
/* The component's state table, cell by cell, and the restart policy as a course of events. */
#include "watchdog/machine.h"

#include "../test_util.h"

#define S  HF_NS_PER_S
#define T0 (1000 * S) /* the fake clock at the start of a test */

static const struct hf_machine_policy policy = {
	.settle_ns = 60 * S,
	.healthy_ns = 600 * S,
	.ready_ns = 30 * S,
	.stop_ns = 10 * S,
	.kill_again_ns = 5 * S,
	.backoff_min_ns = S / 10,
	.backoff_max_ns = 30 * S,
	.held_ns = 70 * S,
};

/* random 200 is a jitter of exactly 100 % */
#define EVEN .random = 200

struct cell {
	enum hf_state state;
	enum hf_input input;
	enum hf_state next;
	unsigned actions;
	uint64_t deadline_after_ns; /* 0: none */
	bool want_up;
};

#define SAME_DEADLINE UINT64_MAX

/* Before each cell: entered at T0 - 1 s with deadline T0 + 1 s, want_up as the state implies. */
#define C(s, i, n, act, after, up)                                       \
	{                                                                \
		HF_STATE_##s, HF_INPUT_##i, HF_STATE_##n, act, after, up \
	}
#define IGNORED(s, i, up) C(s, i, s, 0, SAME_DEADLINE, up)

static const struct cell cells[] = {
	C(STOPPED, START, STARTING, HF_ACTION_SPAWN, 30 * S, true),
	IGNORED(STOPPED, STOP, false),
	C(STOPPED, RESTART, STARTING, HF_ACTION_SPAWN, 30 * S, true),
	IGNORED(STOPPED, SPAWNED, false),
	IGNORED(STOPPED, SPAWN_FAILED, false),
	IGNORED(STOPPED, READY, false),
	IGNORED(STOPPED, EXIT, false),
	IGNORED(STOPPED, HANG, false),
	IGNORED(STOPPED, LIMIT, false),
	IGNORED(STOPPED, TIMER, false),
	C(STOPPED, ADOPT, RUNNING, 0, 600 * S, true),

	IGNORED(STARTING, START, true),
	C(STARTING, STOP, STOPPING, HF_ACTION_TERM, 10 * S, false),
	C(STARTING, RESTART, STOPPING, HF_ACTION_TERM, 10 * S, true),
	C(STARTING, SPAWNED, STARTING, 0, 30 * S, true),
	C(STARTING, SPAWN_FAILED, BACKOFF, 0, S / 10, true),
	C(STARTING, READY, RUNNING, 0, 600 * S, true),
	C(STARTING, EXIT, BACKOFF, 0, S / 10, true),
	C(STARTING, HANG, HUNG, HF_ACTION_KILL, 5 * S, true),
	C(STARTING, LIMIT, STOPPING, HF_ACTION_TERM, 10 * S, true),
	C(STARTING, TIMER, HUNG, HF_ACTION_KILL, 5 * S, true),
	IGNORED(STARTING, ADOPT, true),

	IGNORED(RUNNING, START, true),
	C(RUNNING, STOP, STOPPING, HF_ACTION_TERM, 10 * S, false),
	C(RUNNING, RESTART, STOPPING, HF_ACTION_TERM, 10 * S, true),
	IGNORED(RUNNING, SPAWNED, true),
	IGNORED(RUNNING, SPAWN_FAILED, true),
	IGNORED(RUNNING, READY, true),
	C(RUNNING, EXIT, BACKOFF, 0, S / 10, true),
	C(RUNNING, HANG, HUNG, HF_ACTION_KILL, 5 * S, true),
	C(RUNNING, LIMIT, STOPPING, HF_ACTION_TERM, 10 * S, true),
	C(RUNNING, TIMER, RUNNING, 0, 0, true),
	IGNORED(RUNNING, ADOPT, true),

	C(STOPPING, START, STOPPING, 0, SAME_DEADLINE, true),
	IGNORED(STOPPING, STOP, false),
	C(STOPPING, RESTART, STOPPING, 0, SAME_DEADLINE, true),
	IGNORED(STOPPING, SPAWNED, false),
	IGNORED(STOPPING, SPAWN_FAILED, false),
	IGNORED(STOPPING, READY, false),
	C(STOPPING, EXIT, STOPPED, 0, 0, false),
	IGNORED(STOPPING, HANG, false),
	IGNORED(STOPPING, LIMIT, false),
	C(STOPPING, TIMER, STOPPING, HF_ACTION_KILL, 5 * S, false),
	IGNORED(STOPPING, ADOPT, false),

	C(BACKOFF, START, STARTING, HF_ACTION_SPAWN, 30 * S, true),
	C(BACKOFF, STOP, STOPPED, 0, 0, false),
	C(BACKOFF, RESTART, STARTING, HF_ACTION_SPAWN, 30 * S, true),
	IGNORED(BACKOFF, SPAWNED, true),
	IGNORED(BACKOFF, SPAWN_FAILED, true),
	IGNORED(BACKOFF, READY, true),
	IGNORED(BACKOFF, EXIT, true),
	IGNORED(BACKOFF, HANG, true),
	IGNORED(BACKOFF, LIMIT, true),
	C(BACKOFF, TIMER, STARTING, HF_ACTION_SPAWN, 30 * S, true),
	IGNORED(BACKOFF, ADOPT, true),

	IGNORED(HUNG, START, true),
	C(HUNG, STOP, HUNG, 0, SAME_DEADLINE, false),
	IGNORED(HUNG, RESTART, true),
	IGNORED(HUNG, SPAWNED, true),
	IGNORED(HUNG, SPAWN_FAILED, true),
	IGNORED(HUNG, READY, true),
	C(HUNG, EXIT, BACKOFF, 0, S / 10, true),
	IGNORED(HUNG, HANG, true),
	IGNORED(HUNG, LIMIT, true),
	C(HUNG, TIMER, HUNG, HF_ACTION_KILL, 5 * S, true),
	IGNORED(HUNG, ADOPT, true),

	C(HELD, START, STARTING, HF_ACTION_SPAWN, 30 * S, true),
	C(HELD, STOP, STOPPED, 0, 0, false),
	C(HELD, RESTART, STARTING, HF_ACTION_SPAWN, 30 * S, true),
	IGNORED(HELD, SPAWNED, true),
	IGNORED(HELD, SPAWN_FAILED, true),
	IGNORED(HELD, READY, true),
	IGNORED(HELD, EXIT, true),
	IGNORED(HELD, HANG, true),
	IGNORED(HELD, LIMIT, true),
	C(HELD, TIMER, STARTING, HF_ACTION_SPAWN, 30 * S, true),
	IGNORED(HELD, ADOPT, true),
};
_Static_assert(HF_ARRAY_SIZE(cells) == _HF_STATE_MAX * _HF_INPUT_MAX, "every cell is tested");

static struct hf_machine in_state(enum hf_state state)
{
	return (struct hf_machine){
		.state = state,
		.want_up = state != HF_STATE_STOPPED && state != HF_STATE_STOPPING,
		.was_ready = state != HF_STATE_STARTING,
		.since_ns = T0 - S,
		.started_at_ns = T0 - S,
		.deadline_ns = state == HF_STATE_STOPPED ? 0 : T0 + S,
		.starts = 1,
	};
}

static void every_cell_does_what_the_table_says(void **state)
{
	bool seen[_HF_STATE_MAX][_HF_INPUT_MAX] = {};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cells); i++) {
		const struct cell *c = &cells[i];
		struct hf_machine m = in_state(c->state);
		uint64_t before_ns = m.deadline_ns, want_ns;
		const struct hf_machine_arg arg = {.exit_code = 1, .ready = true, EVEN};
		unsigned actions = hf_machine_input(&m, &policy, c->input, &arg, T0);

		assert_false(seen[c->state][c->input]);
		seen[c->state][c->input] = true;
		want_ns = c->deadline_after_ns == SAME_DEADLINE ? before_ns
			  : c->deadline_after_ns                ? T0 + c->deadline_after_ns
								: 0;
		if (m.state != c->next || actions != c->actions || m.deadline_ns != want_ns ||
		    m.want_up != c->want_up) {
			print_error("%s + %s: %s actions %x deadline %llu up %d\n",
				    hf_state_name(c->state), hf_input_name(c->input),
				    hf_state_name(m.state), actions,
				    (unsigned long long)m.deadline_ns, m.want_up);
			fail();
		}
	}
}

static void no_cell_spawns_while_a_process_exists_and_none_strands(void **state)
{
	(void)state;
	for (unsigned s = 0; s < _HF_STATE_MAX; s++)
		for (unsigned i = 0; i < _HF_INPUT_MAX; i++) {
			struct hf_machine m = in_state((enum hf_state)s);
			const struct hf_machine_arg arg = {.exit_code = 1, EVEN};
			unsigned a = hf_machine_input(&m, &policy, (enum hf_input)i, &arg, T0);

			if (a & HF_ACTION_SPAWN)
				assert_true(!hf_state_has_process((enum hf_state)s) ||
					    i == HF_INPUT_EXIT);
			if (!hf_state_has_process(m.state) && m.state != HF_STATE_STOPPED)
				assert_true(m.deadline_ns > 0);
		}
}

static void settled_process_is_restarted_at_once(void **state)
{
	struct hf_machine m = in_state(HF_STATE_RUNNING);
	const struct hf_machine_arg arg = {.exit_code = -1, EVEN};

	(void)state;
	m.started_at_ns = T0 - policy.settle_ns;
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_EXIT, &arg, T0), HF_ACTION_SPAWN);
	assert_int_equal(m.state, HF_STATE_STARTING);
	assert_int_equal(m.starts, 2);

	m = in_state(HF_STATE_RUNNING);
	m.started_at_ns = T0 - policy.settle_ns + 1;
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_EXIT, &arg, T0), 0);
	assert_int_equal(m.state, HF_STATE_BACKOFF);
}

static void process_that_never_was_ready_waits_even_without_a_settle_time(void **state)
{
	struct hf_machine_policy eager = policy;
	struct hf_machine m = in_state(HF_STATE_STARTING);
	const struct hf_machine_arg arg = {.exit_code = 1, EVEN};

	(void)state;
	eager.settle_ns = 0;
	assert_int_equal(hf_machine_input(&m, &eager, HF_INPUT_EXIT, &arg, T0), 0);
	assert_int_equal(m.state, HF_STATE_BACKOFF);
	m = in_state(HF_STATE_RUNNING);
	assert_int_equal(hf_machine_input(&m, &eager, HF_INPUT_EXIT, &arg, T0), HF_ACTION_SPAWN);
}

static void delays_double_to_the_cap_and_it_never_gives_up(void **state)
{
	static const uint64_t want_ms[] = {100,  200,   400,   800,   1600,  3200,
					   6400, 12800, 25600, 30000, 30000, 30000};
	const struct hf_machine_arg arg = {.exit_code = 1, EVEN};
	struct hf_machine m = {};
	uint64_t now = T0;

	(void)state;
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_START, NULL, now), HF_ACTION_SPAWN);
	for (unsigned i = 0; i < 1000; i++) {
		unsigned k = i < HF_ARRAY_SIZE(want_ms) ? i : HF_ARRAY_SIZE(want_ms) - 1;

		(void)hf_machine_input(&m, &policy, HF_INPUT_SPAWNED, NULL, now);
		assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_EXIT, &arg, now), 0);
		assert_int_equal((m.deadline_ns - now) / HF_NS_PER_MS, want_ms[k]);
		now = m.deadline_ns;
		assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_TIMER, NULL, now),
				 HF_ACTION_SPAWN);
	}
	assert_int_equal(m.starts, 1001);
}

static void jitter_stays_within_a_fifth(void **state)
{
	(void)state;
	for (uint32_t random = 0; random < 5000; random += 7) {
		struct hf_machine m = in_state(HF_STATE_RUNNING);
		const struct hf_machine_arg arg = {.exit_code = 1, .random = random};

		(void)hf_machine_input(&m, &policy, HF_INPUT_EXIT, &arg, T0);
		assert_in_range(m.deadline_ns - T0, 80 * HF_NS_PER_MS, 120 * HF_NS_PER_MS);
	}
}

static void ten_healthy_minutes_forget_failures_and_one_minute_does_not(void **state)
{
	const struct hf_machine_arg arg = {.exit_code = 1, EVEN};
	struct hf_machine m = in_state(HF_STATE_STARTING);

	(void)state;
	m.failures = 5;
	(void)hf_machine_input(&m, &policy, HF_INPUT_READY, NULL, T0);
	m.started_at_ns = T0;
	/* settled: at once, but the exponent is kept */
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_EXIT, &arg, T0 + 61 * S),
			 HF_ACTION_SPAWN);
	assert_int_equal(m.failures, 5);
	(void)hf_machine_input(&m, &policy, HF_INPUT_SPAWNED, NULL, T0 + 61 * S);
	(void)hf_machine_input(&m, &policy, HF_INPUT_READY, NULL, T0 + 62 * S);
	assert_int_equal(m.deadline_ns, T0 + 662 * S);
	(void)hf_machine_input(&m, &policy, HF_INPUT_TIMER, NULL, T0 + 662 * S);
	assert_int_equal(m.failures, 0);
}

static void permanent_exit_is_held_and_tried_again_slowly(void **state)
{
	struct hf_machine m = in_state(HF_STATE_RUNNING);
	const struct hf_machine_arg arg = {.exit_code = HF_EXIT_CODE_PERMANENT, EVEN};

	(void)state;
	m.started_at_ns = 0; /* even when settled */
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_EXIT, &arg, T0), 0);
	assert_int_equal(m.state, HF_STATE_HELD);
	assert_int_equal(m.deadline_ns, T0 + 70 * S);
}

static void restart_request_starts_again_without_delay_or_blame(void **state)
{
	struct hf_machine m = in_state(HF_STATE_RUNNING);
	const struct hf_machine_arg arg = {.exit_code = 0, EVEN};

	(void)state;
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_RESTART, NULL, T0), HF_ACTION_TERM);
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_EXIT, &arg, T0 + S),
			 HF_ACTION_SPAWN);
	assert_int_equal(m.failures, 0);
}

static void limit_is_a_failure_and_waits_where_a_restart_does_not(void **state)
{
	struct hf_machine m = in_state(HF_STATE_RUNNING);
	const struct hf_machine_arg arg = {.exit_code = 0, EVEN};

	(void)state;
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_LIMIT, NULL, T0), HF_ACTION_TERM);
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_EXIT, &arg, T0 + S), 0);
	assert_int_equal(m.state, HF_STATE_BACKOFF);
	/* unless a person asks for it meanwhile */
	m = in_state(HF_STATE_RUNNING);
	(void)hf_machine_input(&m, &policy, HF_INPUT_LIMIT, NULL, T0);
	(void)hf_machine_input(&m, &policy, HF_INPUT_RESTART, NULL, T0);
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_EXIT, &arg, T0 + S),
			 HF_ACTION_SPAWN);
}

static void stop_during_a_hang_or_failed_start_stays_stopped(void **state)
{
	struct hf_machine m = in_state(HF_STATE_HUNG);
	const struct hf_machine_arg arg = {.exit_code = -1, EVEN};

	(void)state;
	(void)hf_machine_input(&m, &policy, HF_INPUT_STOP, NULL, T0);
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_EXIT, &arg, T0 + S), 0);
	assert_int_equal(m.state, HF_STATE_STOPPED);

	m = in_state(HF_STATE_STARTING);
	m.want_up = false;
	(void)hf_machine_input(&m, &policy, HF_INPUT_SPAWN_FAILED, &arg, T0);
	assert_int_equal(m.state, HF_STATE_STOPPED);
}

static void late_ready_is_waited_for_while_it_moves(void **state)
{
	struct hf_machine m = in_state(HF_STATE_STARTING);
	struct hf_machine_arg arg = {.alive = true};

	(void)state;
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_TIMER, &arg, T0), 0);
	assert_int_equal(m.state, HF_STATE_STARTING);
	assert_int_equal(m.deadline_ns, T0 + 30 * S);
	arg.alive = false;
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_TIMER, &arg, T0 + 30 * S),
			 HF_ACTION_KILL);
	assert_int_equal(m.state, HF_STATE_HUNG);
}

static void adopted_process_keeps_its_age(void **state)
{
	const struct hf_machine_arg exit_arg = {.exit_code = -1, EVEN};
	const struct hf_machine_arg adopted = {.ready = true, .started_at_ns = T0 - 100 * S};
	struct hf_machine m = {.starts = 7};

	(void)state;
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_ADOPT, &adopted, T0), 0);
	assert_int_equal(m.state, HF_STATE_RUNNING);
	assert_int_equal(m.starts, 7);
	assert_int_equal(hf_machine_input(&m, &policy, HF_INPUT_EXIT, &exit_arg, T0),
			 HF_ACTION_SPAWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cell_does_what_the_table_says),
		cmocka_unit_test(no_cell_spawns_while_a_process_exists_and_none_strands),
		cmocka_unit_test(settled_process_is_restarted_at_once),
		cmocka_unit_test(process_that_never_was_ready_waits_even_without_a_settle_time),
		cmocka_unit_test(delays_double_to_the_cap_and_it_never_gives_up),
		cmocka_unit_test(jitter_stays_within_a_fifth),
		cmocka_unit_test(ten_healthy_minutes_forget_failures_and_one_minute_does_not),
		cmocka_unit_test(permanent_exit_is_held_and_tried_again_slowly),
		cmocka_unit_test(restart_request_starts_again_without_delay_or_blame),
		cmocka_unit_test(limit_is_a_failure_and_waits_where_a_restart_does_not),
		cmocka_unit_test(stop_during_a_hang_or_failed_start_stays_stopped),
		cmocka_unit_test(late_ready_is_waited_for_while_it_moves),
		cmocka_unit_test(adopted_process_keeps_its_age),
	};
	return HF_RUN_TESTS(tests);
}
