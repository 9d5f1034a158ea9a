/* SPDX-License-Identifier: Apache-2.0 */
/* Hang or slow host: courses of events on a fake clock. */
#include "watchdog/hang.h"

#include "../test_util.h"

#define S  HF_NS_PER_S
#define MS HF_NS_PER_MS
#define T0 (1000 * S)

static const struct hf_hang_policy policy = {S, 3 * S, 30 * S};

/* What the process does, per second of silence. */
struct behaviour {
	uint64_t cpu, wait, throttled; /* ns per second */
	bool stopped, traced, blocked;
};

static const struct behaviour asleep = {};
static const struct behaviour spinning = {.cpu = S, .wait = 10 * MS};
static const struct behaviour starved = {.cpu = 20 * MS, .wait = 980 * MS};
static const struct behaviour throttled = {.cpu = 100 * MS, .throttled = 900 * MS};
static const struct behaviour blocked = {.blocked = true};
static const struct behaviour stopped = {.stopped = true};
static const struct behaviour traced = {.traced = true};

static struct hf_proc_sample sample_of(const struct behaviour *b, uint64_t now)
{
	uint64_t s = now - T0;

	return (struct hf_proc_sample){
		.at_ns = now,
		.cpu_ns = s / 1000 * (b->cpu / MS),
		.wait_ns = s / 1000 * (b->wait / MS),
		.throttled_ns = s / 1000 * (b->throttled / MS),
		.stopped = b->stopped,
		.traced = b->traced,
		.uninterruptible = b->blocked,
	};
}

/* Runs the checks as the timer would, from now until `until`; returns when it was HUNG, or 0. */
static uint64_t run(struct hf_hang *h, const struct behaviour *b, uint64_t now, uint64_t until)
{
	while (now < until) {
		struct hf_proc_sample s = sample_of(b, now);
		bool need = hf_hang_needs_sample(h, &policy, now);

		if (hf_hang_check(h, &policy, need ? &s : NULL, now) == HF_LIVE_HUNG)
			return now;
		assert_true(h->due_ns > now);
		now = h->due_ns;
	}
	return 0;
}

static void tick(struct hf_hang *h, uint64_t now, uint64_t a, uint64_t b)
{
	const struct hf_sup_progress p = {.workers = 2, .healthy = 1, .counter = {a, b}};

	assert_ok(hf_hang_progress(h, &p, now));
}

static void silence_is_hung_at_the_deadline(void **state)
{
	const struct behaviour *cases[] = {&asleep, &spinning};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		struct hf_hang h;
		uint64_t hung;

		hf_hang_begin(&h, T0);
		hung = run(&h, cases[i], T0, T0 + 100 * S);
		assert_in_range(hung, T0 + 3 * S, T0 + 3 * S + 600 * MS);
		assert_int_equal(h.stuck_worker, -1);
		assert_int_equal(h.silent_since_ns, T0);
	}
}

static void progress_each_second_is_fine_for_ever(void **state)
{
	struct hf_hang h;

	(void)state;
	hf_hang_begin(&h, T0);
	for (uint64_t t = T0; t < T0 + 3600 * S; t += S) {
		tick(&h, t, t, t + 1);
		assert_false(hf_hang_needs_sample(&h, &policy, t));
		assert_int_equal(hf_hang_check(&h, &policy, NULL, t), HF_LIVE_OK);
	}
}

static void one_stuck_worker_is_hung_though_packets_come(void **state)
{
	struct hf_hang h;
	uint64_t t = T0;

	(void)state;
	hf_hang_begin(&h, T0);
	for (; t < T0 + 60 * S; t += 500 * MS) {
		struct hf_proc_sample s = sample_of(&asleep, t);
		bool need = hf_hang_needs_sample(&h, &policy, t);

		tick(&h, t, 7, t);
		if (hf_hang_check(&h, &policy, need ? &s : NULL, t) == HF_LIVE_HUNG)
			break;
	}
	assert_in_range(t, T0 + 3 * S, T0 + 4 * S);
	assert_int_equal(h.stuck_worker, 0);
}

static void starved_and_blocked_are_stretched_to_thirty_seconds(void **state)
{
	const struct behaviour *cases[] = {&starved, &throttled, &blocked};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		struct hf_hang h;
		uint64_t hung;

		hf_hang_begin(&h, T0);
		assert_int_equal(run(&h, cases[i], T0, T0 + 29 * S), 0);
		assert_int_equal(h.liveness, cases[i]->blocked ? HF_LIVE_BLOCKED : HF_LIVE_STARVED);
		hung = run(&h, cases[i], h.due_ns, T0 + 100 * S);
		assert_in_range(hung, T0 + 30 * S, T0 + 32 * S);
	}
}

static void end_of_starvation_gives_a_whole_deadline(void **state)
{
	struct hf_hang h;
	uint64_t hung;

	(void)state;
	hf_hang_begin(&h, T0);
	assert_int_equal(run(&h, &starved, T0, T0 + 10 * S), 0);
	hung = run(&h, &asleep, h.due_ns, T0 + 100 * S);
	assert_in_range(hung, T0 + 12 * S, T0 + 15 * S);
}

static void stopped_or_traced_is_never_hung(void **state)
{
	const struct behaviour *cases[] = {&stopped, &traced};
	uint64_t hung;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		struct hf_hang h;

		hf_hang_begin(&h, T0);
		assert_int_equal(run(&h, cases[i], T0, T0 + 86400 * S), 0);
		assert_int_equal(h.liveness, i == 0 ? HF_LIVE_STOPPED : HF_LIVE_TRACED);
		/* and once it is let go, it has the whole deadline */
		hung = run(&h, &asleep, h.due_ns, T0 + 90000 * S);
		assert_in_range(hung, T0 + 86400 * S + 2 * S, T0 + 86400 * S + 6 * S);
	}
}

static void our_own_lateness_excuses_it(void **state)
{
	struct hf_hang h;
	struct hf_proc_sample s;

	(void)state;
	hf_hang_begin(&h, T0);
	tick(&h, T0, 1, 1);
	assert_int_equal(hf_hang_check(&h, &policy, NULL, T0), HF_LIVE_OK);
	/* The next check was due in 1.5 s and comes after a minute: suspend, or a paused VM. */
	s = sample_of(&asleep, T0 + 60 * S);
	assert_int_equal(hf_hang_check(&h, &policy, &s, T0 + 60 * S), HF_LIVE_OK);
	assert_true(h.due_ns > T0 + 60 * S);
}

static void first_sample_alone_convicts_nobody(void **state)
{
	struct hf_proc_sample s = sample_of(&asleep, T0 + 1600 * MS);
	struct hf_hang h;

	(void)state;
	hf_hang_begin(&h, T0);
	assert_int_equal(hf_hang_check(&h, &policy, NULL, T0), HF_LIVE_OK);
	assert_true(hf_hang_needs_sample(&h, &policy, T0 + 1600 * MS));
	assert_int_equal(hf_hang_check(&h, &policy, &s, T0 + 1600 * MS), HF_LIVE_LATE);
	assert_int_equal(h.due_ns, T0 + 3 * S);
}

static void old_sample_of_an_earlier_silence_is_not_used(void **state)
{
	struct hf_proc_sample s = sample_of(&asleep, T0 + 2 * S);
	struct hf_hang h;

	(void)state;
	hf_hang_begin(&h, T0);
	assert_int_equal(hf_hang_check(&h, &policy, &s, T0 + 2 * S), HF_LIVE_LATE);
	tick(&h, T0 + 2 * S, 1, 1);
	assert_int_equal(hf_hang_check(&h, &policy, NULL, T0 + 2 * S), HF_LIVE_OK);
	assert_false(h.sampled);
}

static void impossible_number_of_workers_is_refused(void **state)
{
	struct hf_sup_progress p = {.workers = HF_SUP_WORKERS_MAX + 1};
	struct hf_hang h;

	(void)state;
	hf_hang_begin(&h, T0);
	assert_err(hf_hang_progress(&h, &p, T0), -EBADMSG);
	p.workers = UINT32_MAX;
	assert_err(hf_hang_progress(&h, &p, T0), -EBADMSG);
}

static void without_samples_nobody_is_convicted(void **state)
{
	struct hf_hang h;

	(void)state;
	hf_hang_begin(&h, T0);
	for (uint64_t t = T0; t < T0 + 100 * S; t = h.due_ns)
		assert_true(hf_hang_check(&h, &policy, NULL, t) != HF_LIVE_HUNG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_is_hung_at_the_deadline),
		cmocka_unit_test(progress_each_second_is_fine_for_ever),
		cmocka_unit_test(one_stuck_worker_is_hung_though_packets_come),
		cmocka_unit_test(starved_and_blocked_are_stretched_to_thirty_seconds),
		cmocka_unit_test(end_of_starvation_gives_a_whole_deadline),
		cmocka_unit_test(stopped_or_traced_is_never_hung),
		cmocka_unit_test(our_own_lateness_excuses_it),
		cmocka_unit_test(first_sample_alone_convicts_nobody),
		cmocka_unit_test(old_sample_of_an_earlier_silence_is_not_used),
		cmocka_unit_test(impossible_number_of_workers_is_refused),
		cmocka_unit_test(without_samples_nobody_is_convicted),
	};
	return HF_RUN_TESTS(tests);
}
