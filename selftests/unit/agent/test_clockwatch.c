/* SPDX-License-Identifier: Apache-2.0 */
/* When this host's wall clock is proven wrong, and that setting it is noticed. */
#include "selftests/unit/agent/loop_util.h"

#include "userspace/agent/clockwatch.h"

#define S    HF_NS_PER_S
#define NOW  (UINT64_C(1800000000) * S) /* 2027 */
#define BOOT (1000 * S)

static void a_clock_is_bad_only_with_proof(void **state)
{
	static const struct {
		uint64_t server, at, now, boot;
		bool bad;
	} table[] = {
		{0, 0, NOW, BOOT, false},
		{0, 0, 0, BOOT, true},                        /* 1970 */
		{0, 0, UINT64_C(1500000000) * S, BOOT, true}, /* 2017 */
		/* The same boot: both directions are proof. */
		{NOW, BOOT, NOW, BOOT, false},
		{NOW, BOOT, NOW + 60 * S, BOOT + 60 * S, false},
		{NOW, BOOT, NOW + 86400 * S, BOOT + 86400 * S, false},
		{NOW, BOOT, NOW + 300 * S, BOOT, false},
		{NOW, BOOT, NOW + 301 * S, BOOT, true},
		{NOW, BOOT, NOW - 300 * S, BOOT, false},
		{NOW, BOOT, NOW - 301 * S, BOOT, true},
		{NOW, BOOT, NOW + 10 * UINT64_C(31536000) * S, BOOT + 1, true},
		/* Another boot: time went on, nobody knows how far; back it did not go. */
		{NOW, 0, NOW + UINT64_C(31536000) * S, 5 * S, false},
		{NOW, 0, NOW - 301 * S, 5 * S, true},
		{NOW, 0, NOW - 299 * S, 5 * S, false},
		{NOW, BOOT, NOW + UINT64_C(31536000) * S, 5 * S,
		 false}, /* stamp beyond our uptime */
		{UINT64_MAX, 0, NOW, BOOT, true},
		{86400 * S, BOOT, NOW, BOOT, false}, /* the portal was in 1970: no proof */
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		if (hf_clock_is_bad(table[i].server, table[i].at, table[i].now, table[i].boot) !=
		    table[i].bad)
			fail_msg("row %zu", i);
	}
}

static void on_set(void *userdata)
{
	(void)userdata;
	fail_msg("nobody set the clock");
}

static void on_resumed(uint64_t slept_ms, void *userdata)
{
	(void)slept_ms;
	(void)userdata;
	fail_msg("nobody slept");
}

static void a_quiet_clock_says_nothing(void **state)
{
	const struct hf_clockwatch_callbacks cb = {.set = on_set, .resumed = on_resumed};
	struct hf_clockwatch *w;
	sd_event *event;

	(void)state;
	assert_ok(sd_event_new(&event));
	assert_ok(hf_clockwatch_new(event, &cb, NULL, &w));
	assert_ok(sd_event_run(event, 20000));
	hf_clockwatch_free(w);
	sd_event_unref(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_clock_is_bad_only_with_proof),
		cmocka_unit_test(a_quiet_clock_says_nothing),
	};
	return HF_RUN_TESTS(tests);
}
