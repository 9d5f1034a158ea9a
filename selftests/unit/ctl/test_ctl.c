/* SPDX-License-Identifier: Apache-2.0 */
/* Options and points in time. */
#include "selftests/unit/test_util.h"

#include <time.h>

#include "base/clock.h"
#include "tools/ctl/ctl.h"

/* 2026-01-02T14:03:11Z */
#define NOW_S  UINT64_C(1767362591)
#define NOW_NS (NOW_S * HF_NS_PER_S)

static void points_in_time_in_every_form(void **state)
{
	static const struct {
		const char *text;
		uint64_t want_s;
	} cases[] = {
		{"0", NOW_S},
		{"90", NOW_S - 90},
		{"5m", NOW_S - 300},
		{"2h", NOW_S - 7200},
		{"1d", NOW_S - 86400},
		{"99999999999d", 0}, /* before the epoch: everything */
		{"14:03", NOW_S - 11},
		{"14:03:09", NOW_S - 2},
		{"2026-01-02", NOW_S - 14 * 3600 - 191},
		{"2026-01-01 14:03", NOW_S - 86400 - 11},
		{"2026-01-01 14:03:11", NOW_S - 86400},
		{"2026-01-02T14:03:11Z", NOW_S},
		{"2026-01-02T15:03:11+01:00", NOW_S},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		uint64_t got = 1;

		assert_ok(hf_ctl_parse_since(cases[i].text, NOW_NS, &got));
		assert_int_equal(got / HF_NS_PER_S, cases[i].want_s);
	}
}

static void no_points_in_time_are_refused(void **state)
{
	static const char *const texts[] = {
		"",           "yesterday",           "-5m", "5 m", "25:00", "14:03:61x",
		"2026-13-01", "2026-01-02T14:03:11", "14:"};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(texts); i++) {
		uint64_t got = 1;

		assert_err(hf_ctl_parse_since(texts[i], NOW_NS, &got), -EINVAL);
		assert_int_equal(got, 1);
	}
}

struct parsed {
	bool follow;
	const char *pid, *kinds[2], *words[2];
	size_t n_kinds, n_words;
	struct hf_ctl ctl;
};

/* stderr is somebody else's business here. */
static int parse(struct parsed *p, char **argv)
{
	const struct hf_ctl_option options[] = {
		{.name = "--follow", .flag = &p->follow},
		{.name = "--pid", .value = &p->pid},
		{.name = "--kind", .list = p->kinds, .list_n = &p->n_kinds, .list_max = 2},
	};
	int argc = 0, saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC), r;

	*p = (struct parsed){};
	while (argv[argc])
		argc++;
	assert_true(saved >= 0 && null >= 0);
	(void)dup2(null, STDERR_FILENO);
	r = hf_ctl_parse(&p->ctl, argc, argv, "x", options, HF_ARRAY_SIZE(options), p->words, 2,
			 &p->n_words);
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	(void)close(null);
	return r;
}

static void options_in_every_form(void **state)
{
	char *argv[] = {(char *)"events",
			(char *)"--pid=12",
			(char *)"--json",
			(char *)"word",
			(char *)"--kind",
			(char *)"a",
			(char *)"--kind=",
			(char *)"--follow",
			(char *)"--",
			(char *)"--pid",
			NULL};
	struct parsed p;

	(void)state;
	assert_int_equal(parse(&p, argv), 0);
	assert_true(p.ctl.json);
	assert_true(p.follow);
	assert_string_equal(p.pid, "12");
	assert_int_equal(p.n_kinds, 2);
	assert_string_equal(p.kinds[0], "a");
	assert_string_equal(p.kinds[1], "");
	assert_int_equal(p.n_words, 2);
	assert_string_equal(p.words[0], "word");
	assert_string_equal(p.words[1], "--pid");
}

static void a_lone_dash_is_a_value_and_a_word(void **state)
{
	char *argv[] = {(char *)"x", (char *)"--pid", (char *)"-", (char *)"-", NULL};
	struct parsed p;

	(void)state;
	assert_int_equal(parse(&p, argv), 0);
	assert_string_equal(p.pid, "-");
	assert_string_equal(p.words[0], "-");
}

static void wrong_options_are_usage_errors(void **state)
{
	static char *const cases[][5] = {
		{(char *)"x", (char *)"--nope", NULL},
		{(char *)"x", (char *)"--pid", NULL},
		{(char *)"x", (char *)"--follow=1", NULL},
		{(char *)"x", (char *)"--pidx", NULL},
		{(char *)"x", (char *)"a", (char *)"b", (char *)"c", NULL},
	};
	char *kinds[] = {(char *)"x", (char *)"--kind=1", (char *)"--kind=2", (char *)"--kind=3",
			 NULL};
	struct parsed p;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++)
		assert_int_equal(parse(&p, (char **)cases[i]), HF_CTL_USAGE);
	assert_int_equal(parse(&p, kinds), HF_CTL_USAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(points_in_time_in_every_form),
		cmocka_unit_test(no_points_in_time_are_refused),
		cmocka_unit_test(options_in_every_form),
		cmocka_unit_test(a_lone_dash_is_a_value_and_a_word),
		cmocka_unit_test(wrong_options_are_usage_errors),
	};

	(void)setenv("TZ", "UTC", 1);
	tzset();
	return HF_RUN_TESTS(tests);
}
