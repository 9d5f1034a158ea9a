/* SPDX-License-Identifier: Apache-2.0 */
/* The state table of a release, cell by cell, and the stories that it is made for. */
#include "selftests/unit/test_util.h"

#include "watchdog/release_state.h"

static const struct hf_release_slot v1 = {.version = "1.0.0", .hash = {1}, .security_epoch = 1};
static const struct hf_release_slot v2 = {.version = "2.0.0", .hash = {2}, .security_epoch = 2};
static const struct hf_release_slot v3 = {.version = "3.0.0", .hash = {3}, .security_epoch = 3};

/* v2 runs, v1 was before it, v3 is the candidate where there is one. */
static struct hf_release_record in_phase(uint32_t phase)
{
	struct hf_release_record r = {
		.phase = phase, .active = v2, .previous = v1, .security_epoch = 1};

	if (phase == HF_RELEASE_STAGED || phase == HF_RELEASE_PREFLIGHT ||
	    phase == HF_RELEASE_TRIAL) {
		r.candidate = v3;
		r.tries_left = HF_RELEASE_TRIES;
		r.refunds_left = HF_RELEASE_REFUNDS;
	}
	return r;
}

static int step(struct hf_release_record *r, enum hf_release_event event)
{
	const struct hf_release_input in = {
		.event = event, .slot = &v3, .reason = HF_RELEASE_WHY_CRASHES, .boot_id = {1}};

	return hf_release_step(r, &in);
}

/* What comes of each event: '!' refused, '-' nothing, else the phase, then what runs. */
static const char *const cells[_HF_RELEASE_PHASE_MAX][_HF_RELEASE_EV_MAX] = {
	/* STAGE, CANCEL, PREFLIGHT, OK, P_FAILED, START, HEALTHY, FAILED, ROLLBACK, RECOVER, ADOPT,
	 * GIVE_BACK */
	[HF_RELEASE_IDLE] = {"staged 2", "!", "!", "!", "!", "-", "-", "rolled_back 1",
			     "rolled_back 1", "-", "!", "-"},
	[HF_RELEASE_STAGED] = {"staged 2", "idle 2", "preflight 2", "!", "!", "-", "-", "-",
			       "idle 2", "-", "!", "-"},
	[HF_RELEASE_PREFLIGHT] = {"!", "idle 2", "!", "trial 3", "rolled_back 2", "-", "-", "-",
				  "idle 2", "staged 2", "!", "-"},
	[HF_RELEASE_TRIAL] = {"!", "rolled_back 2", "!", "!", "!", "trial 3", "committed 3",
			      "rolled_back 2", "rolled_back 2", "-", "!", "-"},
	[HF_RELEASE_COMMITTED] = {"staged 2", "!", "!", "!", "!", "-", "-", "rolled_back 1",
				  "rolled_back 1", "-", "!", "-"},
	[HF_RELEASE_ROLLED_BACK] = {"staged 2", "!", "!", "!", "!", "-", "-", "safe 1",
				    "rolled_back 1", "-", "!", "-"},
	[HF_RELEASE_SAFE] = {"staged 2", "!", "!", "!", "!", "-", "idle 2", "safe 1", "safe 1", "-",
			     "!", "-"},
};

static void every_cell_does_what_the_table_says(void **state)
{
	(void)state;
	for (unsigned p = 0; p < _HF_RELEASE_PHASE_MAX; p++)
		for (unsigned e = 0; e < _HF_RELEASE_EV_MAX; e++) {
			struct hf_release_record r = in_phase(p), before = r;
			int result = step(&r, e);
			char got[64] = "-";

			if (result == -EPERM)
				(void)snprintf(got, sizeof(got), "!");
			else if (result > 0)
				(void)snprintf(got, sizeof(got), "%s %c",
					       hf_release_phase_name(r.phase),
					       hf_release_runs(&r)->version[0]);
			if (strcmp(got, cells[p][e]) != 0)
				print_error("%s, event %u: '%s'\n", hf_release_phase_name(p), e,
					    got);
			assert_string_equal(got, cells[p][e]);
			if (result <= 0)
				assert_memory_equal(&r, &before, sizeof(r));
		}
}

static void an_unknown_phase_goes_back_to_the_active_one(void **state)
{
	(void)state;
	for (unsigned e = 0; e < _HF_RELEASE_EV_MAX; e++) {
		struct hf_release_record r = in_phase(HF_RELEASE_TRIAL);

		r.phase = 99;
		assert_ptr_equal(hf_release_runs(&r), &r.active);
		assert_int_equal(step(&r, e), 1);
		assert_int_equal(r.phase, HF_RELEASE_ROLLED_BACK);
		assert_int_equal(r.reason, HF_RELEASE_WHY_UNKNOWN);
		assert_string_equal(hf_release_runs(&r)->version, "2.0.0");
		assert_string_equal(r.candidate.version, "");
	}
}

static bool is_bad(const struct hf_release_record *r, const struct hf_release_slot *s)
{
	for (unsigned i = 0; i < HF_RELEASE_BAD_MAX; i++)
		if (memcmp(r->bad[i], s->hash, HF_RELEASE_BAD_SIZE) == 0)
			return true;
	return false;
}

static void a_good_update_is_committed_and_the_old_one_kept(void **state)
{
	struct hf_release_record r = in_phase(HF_RELEASE_IDLE);

	(void)state;
	assert_int_equal(step(&r, HF_RELEASE_EV_STAGE), 1);
	assert_string_equal(hf_release_runs(&r)->version, "2.0.0");
	assert_int_equal(step(&r, HF_RELEASE_EV_PREFLIGHT), 1);
	assert_int_equal(step(&r, HF_RELEASE_EV_PREFLIGHT_OK), 1);
	assert_int_equal(step(&r, HF_RELEASE_EV_START), 1);
	assert_int_equal(r.tries_left, 2);
	assert_int_equal(step(&r, HF_RELEASE_EV_HEALTHY), 1);
	assert_int_equal(r.phase, HF_RELEASE_COMMITTED);
	assert_string_equal(r.active.version, "3.0.0");
	assert_string_equal(r.previous.version, "2.0.0");
	assert_string_equal(r.candidate.version, "");
	/* The floor rises to what both have. */
	assert_int_equal(r.security_epoch, 2);
	assert_false(is_bad(&r, &v3));
}

static void three_starts_without_health_end_the_trial(void **state)
{
	struct hf_release_record r = in_phase(HF_RELEASE_TRIAL);

	(void)state;
	r.boot_id[0] = 1;
	for (unsigned i = 0; i < HF_RELEASE_TRIES; i++) {
		assert_int_equal(step(&r, HF_RELEASE_EV_START), 1);
		assert_int_equal(r.phase, HF_RELEASE_TRIAL);
	}
	assert_int_equal(step(&r, HF_RELEASE_EV_START), 1);
	assert_int_equal(r.phase, HF_RELEASE_ROLLED_BACK);
	assert_int_equal(r.reason, HF_RELEASE_WHY_TRIES);
	assert_string_equal(hf_release_runs(&r)->version, "2.0.0");
	assert_true(is_bad(&r, &v3));
}

static void a_power_cut_gives_a_try_back_three_times(void **state)
{
	struct hf_release_record r = in_phase(HF_RELEASE_TRIAL);
	unsigned starts = 0;

	(void)state;
	for (uint8_t boot = 1; r.phase == HF_RELEASE_TRIAL; boot++) {
		const struct hf_release_input in = {.event = HF_RELEASE_EV_START,
						    .boot_id = {boot}};

		assert_int_equal(hf_release_step(&r, &in), 1);
		starts += r.phase == HF_RELEASE_TRIAL;
		assert_true(starts < 20);
	}
	assert_int_equal(starts, HF_RELEASE_TRIES + HF_RELEASE_REFUNDS);
}

static void a_first_release_that_fails_leaves_the_packages_own(void **state)
{
	struct hf_release_record r = {};

	(void)state;
	assert_null(hf_release_runs(&r));
	assert_int_equal(step(&r, HF_RELEASE_EV_STAGE), 1);
	assert_int_equal(step(&r, HF_RELEASE_EV_PREFLIGHT), 1);
	assert_int_equal(step(&r, HF_RELEASE_EV_PREFLIGHT_OK), 1);
	assert_string_equal(hf_release_runs(&r)->version, "3.0.0");
	assert_int_equal(step(&r, HF_RELEASE_EV_FAILED), 1);
	assert_null(hf_release_runs(&r));
	assert_int_equal(step(&r, HF_RELEASE_EV_FAILED), 0);
	assert_int_equal(step(&r, HF_RELEASE_EV_ROLLBACK), -ENOENT);
}

static void the_first_release_is_adopted_and_no_second_one(void **state)
{
	struct hf_release_record r = {};

	(void)state;
	assert_int_equal(step(&r, HF_RELEASE_EV_ADOPT), 1);
	assert_int_equal(r.phase, HF_RELEASE_COMMITTED);
	assert_string_equal(hf_release_runs(&r)->version, "3.0.0");
	assert_int_equal(step(&r, HF_RELEASE_EV_ADOPT), -EPERM);
}

static void a_try_is_given_back_but_never_more_than_there_were(void **state)
{
	struct hf_release_record r = in_phase(HF_RELEASE_TRIAL);

	(void)state;
	r.boot_id[0] = 1;
	assert_int_equal(step(&r, HF_RELEASE_EV_GIVE_BACK), 0);
	assert_int_equal(step(&r, HF_RELEASE_EV_START), 1);
	assert_int_equal(r.tries_left, HF_RELEASE_TRIES - 1);
	assert_int_equal(step(&r, HF_RELEASE_EV_GIVE_BACK), 1);
	assert_int_equal(r.tries_left, HF_RELEASE_TRIES);
}

static void who_gave_way_or_missed_the_portal_is_not_bad(void **state)
{
	struct hf_release_record r = in_phase(HF_RELEASE_TRIAL);
	const struct hf_release_input portal = {.event = HF_RELEASE_EV_FAILED,
						.reason = HF_RELEASE_WHY_PORTAL};

	(void)state;
	assert_int_equal(hf_release_step(&r, &portal), 1);
	assert_int_equal(r.phase, HF_RELEASE_ROLLED_BACK);
	assert_int_equal(r.reason, HF_RELEASE_WHY_PORTAL);
	assert_false(is_bad(&r, &v3));
	r = in_phase(HF_RELEASE_TRIAL);
	assert_int_equal(step(&r, HF_RELEASE_EV_CANCEL), 1);
	assert_false(is_bad(&r, &v3));
	r = in_phase(HF_RELEASE_TRIAL);
	assert_int_equal(step(&r, HF_RELEASE_EV_ROLLBACK), 1);
	assert_true(is_bad(&r, &v3));
}

static void both_failing_is_safe_and_takes_turns_for_ever(void **state)
{
	struct hf_release_record r = in_phase(HF_RELEASE_COMMITTED);

	(void)state;
	assert_int_equal(step(&r, HF_RELEASE_EV_FAILED), 1);
	assert_int_equal(r.phase, HF_RELEASE_ROLLED_BACK);
	assert_string_equal(hf_release_runs(&r)->version, "1.0.0");
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(step(&r, HF_RELEASE_EV_FAILED), 1);
		assert_int_equal(r.phase, HF_RELEASE_SAFE);
		assert_string_equal(hf_release_runs(&r)->version, i % 2 ? "1.0.0" : "2.0.0");
	}
	/* A cure can be installed from there. */
	assert_int_equal(step(&r, HF_RELEASE_EV_STAGE), 1);
	assert_int_equal(r.phase, HF_RELEASE_STAGED);
}

static void nothing_goes_below_the_floor(void **state)
{
	struct hf_release_record r = in_phase(HF_RELEASE_COMMITTED);

	(void)state;
	r.security_epoch = 2;
	assert_int_equal(step(&r, HF_RELEASE_EV_ROLLBACK), -ENOENT);
	assert_int_equal(step(&r, HF_RELEASE_EV_FAILED), 1);
	assert_int_equal(r.phase, HF_RELEASE_SAFE);
	assert_string_equal(hf_release_runs(&r)->version, "2.0.0");
}

static void a_preflight_that_takes_the_watchdog_down_is_tried_three_times(void **state)
{
	struct hf_release_record r = in_phase(HF_RELEASE_STAGED);
	unsigned n = 0;

	(void)state;
	while (r.phase == HF_RELEASE_STAGED) {
		assert_int_equal(step(&r, HF_RELEASE_EV_PREFLIGHT), 1);
		assert_int_equal(step(&r, HF_RELEASE_EV_RECOVER), 1);
		assert_true(++n < 10);
	}
	assert_int_equal(n, HF_RELEASE_TRIES);
	assert_int_equal(r.phase, HF_RELEASE_ROLLED_BACK);
	assert_true(is_bad(&r, &v3));
}

static void bad_ones_are_remembered_newest_first_and_forgiven_when_staged(void **state)
{
	struct hf_release_record r = in_phase(HF_RELEASE_IDLE);

	(void)state;
	for (uint8_t i = 1; i <= HF_RELEASE_BAD_MAX + 2; i++) {
		const struct hf_release_slot s = {.version = "9.0.0", .hash = {100 + i}};
		const struct hf_release_input stage = {.event = HF_RELEASE_EV_STAGE, .slot = &s};

		assert_int_equal(hf_release_step(&r, &stage), 1);
		assert_int_equal(step(&r, HF_RELEASE_EV_PREFLIGHT), 1);
		assert_int_equal(step(&r, HF_RELEASE_EV_PREFLIGHT_FAILED), 1);
	}
	for (unsigned i = 0; i < HF_RELEASE_BAD_MAX; i++)
		assert_int_equal(r.bad[i][0], 100 + HF_RELEASE_BAD_MAX + 2 - i);
	{
		const struct hf_release_slot s = {.version = "9.0.0", .hash = {105}};
		const struct hf_release_input stage = {.event = HF_RELEASE_EV_STAGE, .slot = &s};

		assert_true(is_bad(&r, &s));
		assert_int_equal(hf_release_step(&r, &stage), 1);
		assert_false(is_bad(&r, &s));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cell_does_what_the_table_says),
		cmocka_unit_test(an_unknown_phase_goes_back_to_the_active_one),
		cmocka_unit_test(a_good_update_is_committed_and_the_old_one_kept),
		cmocka_unit_test(three_starts_without_health_end_the_trial),
		cmocka_unit_test(a_power_cut_gives_a_try_back_three_times),
		cmocka_unit_test(a_first_release_that_fails_leaves_the_packages_own),
		cmocka_unit_test(the_first_release_is_adopted_and_no_second_one),
		cmocka_unit_test(a_try_is_given_back_but_never_more_than_there_were),
		cmocka_unit_test(who_gave_way_or_missed_the_portal_is_not_bad),
		cmocka_unit_test(both_failing_is_safe_and_takes_turns_for_ever),
		cmocka_unit_test(nothing_goes_below_the_floor),
		cmocka_unit_test(a_preflight_that_takes_the_watchdog_down_is_tried_three_times),
		cmocka_unit_test(bad_ones_are_remembered_newest_first_and_forgiven_when_staged),
	};

	return HF_RUN_TESTS(tests);
}
