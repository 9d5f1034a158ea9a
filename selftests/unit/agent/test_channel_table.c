/* SPDX-License-Identifier: Apache-2.0 */
/* The channel's table, cell by cell, written down a second time as text. */
#include "selftests/unit/test_util.h"

#include "base/str.h"
#include "userspace/agent/channel_table.h"

/*
 * One row a state, one column an event, in the order of the enums: "action>state", "." for a cell
 * that does nothing. D = NEXT_DIAL, U = NEXT_UP, R = NEXT_RACE, = same state.
 */
static const char *const want[_HF_CH_STATE_MAX][_HF_EV_MAX] = {
	/* configured due kick enrolled up failed hold revoked clock lost suspicion proof
	   suspect_over auth_changed moved stop reset */
	[HF_CH_UNENROLLED] = {"dial>D", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".",
			      ".", ".", "stop>stopped", "wipe>unenrolled"},
	[HF_CH_ENROLLING] = {"redial>D", ".", "redial>D", "redial>connecting", "adopt>U",
			     "wait>backoff", "hold>held", "halt>revoked", "wait>clock_bad", ".",
			     ".", ".", ".", ".", ".", "stop>stopped", "wipe>unenrolled"},
	[HF_CH_PENDING] = {"redial>D", ".", "probe>suspect", ".", ".", ".", "hold>held",
			   "halt>revoked", ".", "lose>backoff", "prove>suspect", ".", ".",
			   "update>U", "move>connecting", "stop>stopped", "wipe>unenrolled"},
	[HF_CH_CONNECTING] = {"redial>D", ".", "redial>D", "redial>connecting", "adopt>U",
			      "wait>backoff", "hold>held", "halt>revoked", "wait>clock_bad", ".",
			      ".", ".", ".", ".", "move>connecting", "stop>stopped",
			      "wipe>unenrolled"},
	[HF_CH_ONLINE] = {"redial>D", ".", "probe>suspect", ".", ".", ".", "hold>held",
			  "halt>revoked", ".", "lose>backoff", "prove>suspect", ".", ".",
			  "update>U", "move>connecting", "stop>stopped", "wipe>unenrolled"},
	[HF_CH_SUSPECT] = {"redial>D", "rerace>=", "rerace>=", ".", "adopt>U", ".", "hold>held",
			   "halt>revoked", ".", "overtake>R", ".", "calm>U", "overtake>R",
			   "update>=", "move>connecting", "stop>stopped", "wipe>unenrolled"},
	[HF_CH_BACKOFF] = {"dial>D", "dial>D", "dial>D", ".", ".", ".", ".", ".", ".", ".", ".",
			   ".", ".", ".", "move>connecting", "stop>stopped", "wipe>unenrolled"},
	[HF_CH_HELD] = {"dial>D", "dial>D", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".",
			".", ".", "stop>stopped", "wipe>unenrolled"},
	[HF_CH_REVOKED] = {"dial>D", "dial>D", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".",
			   ".", ".", ".", "stop>stopped", "wipe>unenrolled"},
	[HF_CH_CLOCK_BAD] = {"dial>D", "dial>D", "dial>D", ".", ".", ".", ".", ".", ".", ".", ".",
			     ".", ".", ".", ".", "stop>stopped", "wipe>unenrolled"},
	[HF_CH_STOPPED] = {".", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".",
			   ".", ".", "."},
};

static const char *resolve(const char *next, const struct hf_machine *m)
{
	switch (next[0]) {
	case 'D':
		return m->enrolled ? "connecting" : "enrolling";
	case 'U':
		return m->authorized ? "online" : "pending";
	case 'R':
		return m->racing ? "connecting" : "backoff";
	case '=':
		return hf_ch_state_name(m->state);
	}
	return next;
}

static void every_cell_does_what_is_written_here(void **state)
{
	(void)state;
	for (unsigned s = 0; s < _HF_CH_STATE_MAX; s++) {
		for (unsigned e = 0; e < _HF_EV_MAX; e++) {
			for (unsigned bits = 0; bits < 8; bits++) {
				const char *cell = want[s][e], *to, *arrow;
				char action[32] = "nothing", got[64], expected[64];
				struct hf_machine m = {
					.state = s,
					.since_ns = 7,
					.enrolled = bits & 1,
					.authorized = bits & 2,
					.racing = bits & 4,
				};
				struct hf_step step;

				to = hf_ch_state_name(s);
				arrow = strchr(cell, '>');
				if (arrow) {
					hf_strf(action, sizeof(action), "%.*s", (int)(arrow - cell),
						cell);
					to = resolve(arrow + 1, &m);
				}
				hf_strf(expected, sizeof(expected), "%s+%s: %s>%s",
					hf_ch_state_name(s), hf_ch_event_name(e), action, to);
				step = hf_machine_step(&m, e, 99);
				hf_strf(got, sizeof(got), "%s+%s: %s>%s", hf_ch_state_name(s),
					hf_ch_event_name(e), hf_ch_action_name(step.action),
					hf_ch_state_name(step.to));
				assert_string_equal(got, expected);
				assert_int_equal(step.from, s);
				assert_int_equal(m.state, step.to);
				assert_int_equal(m.since_ns, step.to == s ? 7 : 99);
			}
		}
	}
}

static void a_reset_connection_goes_back_online(void **state)
{
	struct hf_machine m;

	(void)state;
	hf_machine_init(&m, true, 0);
	m.authorized = true;
	(void)hf_machine_step(&m, HF_EV_CONFIGURED, 1);
	(void)hf_machine_step(&m, HF_EV_UP, 2);
	assert_int_equal(m.state, HF_CH_ONLINE);
	assert_int_equal(hf_machine_step(&m, HF_EV_LOST, 3).action, HF_DO_LOSE);
	assert_int_equal(hf_machine_step(&m, HF_EV_DUE, 3).action, HF_DO_DIAL);
	assert_int_equal(m.state, HF_CH_CONNECTING);
	assert_int_equal(hf_machine_step(&m, HF_EV_UP, 4).action, HF_DO_ADOPT);
	assert_int_equal(m.state, HF_CH_ONLINE);
	assert_int_equal(m.since_ns, 4);
}

static void enrolment_ends_in_a_dial_with_the_certificate(void **state)
{
	struct hf_machine m;

	(void)state;
	hf_machine_init(&m, false, 0);
	(void)hf_machine_step(&m, HF_EV_CONFIGURED, 1);
	assert_int_equal(m.state, HF_CH_ENROLLING);
	m.enrolled = true;
	assert_int_equal(hf_machine_step(&m, HF_EV_ENROLLED, 2).action, HF_DO_REDIAL);
	assert_int_equal(m.state, HF_CH_CONNECTING);
	(void)hf_machine_step(&m, HF_EV_UP, 3);
	assert_int_equal(m.state, HF_CH_PENDING);
	m.authorized = true;
	(void)hf_machine_step(&m, HF_EV_AUTH_CHANGED, 4);
	assert_int_equal(m.state, HF_CH_ONLINE);
}

static void every_waiting_state_can_be_left_by_its_timer(void **state)
{
	static const enum hf_ch_state waiting[] = {HF_CH_BACKOFF, HF_CH_HELD, HF_CH_REVOKED,
						   HF_CH_CLOCK_BAD};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(waiting); i++) {
		struct hf_machine m = {.state = waiting[i], .enrolled = true};

		assert_int_equal(hf_machine_step(&m, HF_EV_DUE, 1).to, HF_CH_CONNECTING);
	}
}

static void stopped_is_final(void **state)
{
	(void)state;
	for (unsigned s = 0; s < _HF_CH_STATE_MAX; s++) {
		struct hf_machine m = {.state = s};

		(void)hf_machine_step(&m, HF_EV_STOP, 1);
		for (unsigned e = 0; e < _HF_EV_MAX; e++) {
			assert_int_equal(hf_machine_step(&m, e, 2).action, HF_DO_NOTHING);
			assert_int_equal(m.state, HF_CH_STOPPED);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cell_does_what_is_written_here),
		cmocka_unit_test(a_reset_connection_goes_back_online),
		cmocka_unit_test(enrolment_ends_in_a_dial_with_the_certificate),
		cmocka_unit_test(every_waiting_state_can_be_left_by_its_timer),
		cmocka_unit_test(stopped_is_final),
	};
	return HF_RUN_TESTS(tests);
}
