/* SPDX-License-Identifier: Apache-2.0 */
/* The portal's table of actions, cell by cell. */
#include "tools/portal/action_table.h"

#include "../test_util.h"
#include "base/cleanup.h"
#include "base/str.h"

#define S(name) HF_ACTION_##name

/* Columns: send accepted running final(failed) unknown expire cancel left */
static const struct {
	enum hf_action_state from;
	enum hf_action_state to[_HF_ACTION_IN_MAX];
} cells[] = {
	{S(QUEUED),
	 {S(SENT), S(ACCEPTED), S(RUNNING), S(FAILED), S(QUEUED), S(EXPIRED), S(CANCELLED),
	  S(QUEUED)}},
	{S(SENT),
	 {S(SENT), S(ACCEPTED), S(RUNNING), S(FAILED), S(QUEUED), S(SENT), S(SENT), S(SENT)}},
	{S(ACCEPTED),
	 {S(ACCEPTED), S(ACCEPTED), S(RUNNING), S(FAILED), S(INDETERMINATE), S(ACCEPTED),
	  S(ACCEPTED), S(ACCEPTED)}},
	{S(RUNNING),
	 {S(RUNNING), S(RUNNING), S(RUNNING), S(FAILED), S(INDETERMINATE), S(RUNNING), S(RUNNING),
	  S(SUCCEEDED)}},
};

static void each_cell_is_as_written(void **state)
{
	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cells); i++)
		for (unsigned in = 0; in < _HF_ACTION_IN_MAX; in++) {
			enum hf_action_state to =
				hf_action_next(cells[i].from, (enum hf_action_input)in, S(FAILED));

			if (to != cells[i].to[in])
				fail_msg("%s + %s: %s, not %s", hf_action_state_name(cells[i].from),
					 hf_action_input_name((enum hf_action_input)in),
					 hf_action_state_name(to),
					 hf_action_state_name(cells[i].to[in]));
		}
}

static void nothing_changes_what_is_over(void **state)
{
	(void)state;
	for (unsigned s = 0; s < _HF_ACTION_STATE_MAX; s++)
		for (unsigned in = 0; in < _HF_ACTION_IN_MAX; in++)
			for (unsigned told = 0; told < _HF_ACTION_STATE_MAX; told++)
				if (hf_action_state_final(s) || s == S(UNKNOWN))
					assert_int_equal(hf_action_next((enum hf_action_state)s,
									(enum hf_action_input)in,
									(enum hf_action_state)told),
							 s);
}

static void an_outcome_must_be_one(void **state)
{
	(void)state;
	for (unsigned told = 0; told < _HF_ACTION_STATE_MAX; told++) {
		enum hf_action_state to =
			hf_action_next(S(RUNNING), HF_ACTION_IN_FINAL, (enum hf_action_state)told);

		assert_int_equal(to, hf_action_state_final(told) ? told : S(RUNNING));
	}
}

static void what_was_sent_ends_by_the_endpoints_word_only(void **state)
{
	static const enum hf_action_input own[] = {HF_ACTION_IN_SEND, HF_ACTION_IN_EXPIRE,
						   HF_ACTION_IN_CANCEL};
	static const enum hf_action_state sent[] = {S(SENT), S(ACCEPTED), S(RUNNING)};

	(void)state;
	for (size_t s = 0; s < HF_ARRAY_SIZE(sent); s++)
		for (size_t i = 0; i < HF_ARRAY_SIZE(own); i++)
			assert_int_equal(hf_action_next(sent[s], own[i], S(UNKNOWN)), sent[s]);
}

static void names_of_states_are_those_of_the_contract(void **state)
{
	static const char *const names[] = {"unknown",   "queued",    "sent",     "accepted",
					    "running",   "succeeded", "failed",   "timed_out",
					    "cancelled", "expired",   "rejected", "indeterminate"};

	(void)state;
	assert_int_equal(HF_ARRAY_SIZE(names), _HF_ACTION_STATE_MAX);
	for (unsigned i = 0; i < _HF_ACTION_STATE_MAX; i++) {
		assert_string_equal(hf_action_state_name(i), names[i]);
		assert_int_equal(hf_action_state_from_name(names[i]), i);
		assert_int_equal(hf_action_state_final(i), i >= HF_ACTION_SUCCEEDED);
	}
	assert_string_equal(hf_action_state_name(99), "unknown");
	assert_false(hf_action_state_final(99));
	assert_int_equal(hf_action_state_from_name("nonsense"), HF_ACTION_UNKNOWN);
	assert_string_equal(hf_action_refusal_name(99), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_cell_is_as_written),
		cmocka_unit_test(nothing_changes_what_is_over),
		cmocka_unit_test(an_outcome_must_be_one),
		cmocka_unit_test(what_was_sent_ends_by_the_endpoints_word_only),
		cmocka_unit_test(names_of_states_are_those_of_the_contract),
	};
	return HF_RUN_TESTS(tests);
}
