/* SPDX-License-Identifier: Apache-2.0 */
/* Copy, reboot, re-imaged host, second connection: the rule cell by cell. */
#include "selftests/unit/test_util.h"

#include <string.h>

#include "tools/portal/clone.h"

/* 0: not told. */
static struct hf_origin origin(uint8_t machine, uint8_t boot, uint8_t run)
{
	struct hf_origin o;

	memset(o.machine_id_hash, machine, sizeof(o.machine_id_hash));
	memset(o.boot_id, boot, sizeof(o.boot_id));
	memset(o.run_id, run, sizeof(o.run_id));
	return o;
}

struct cell {
	uint8_t suspect[3]; /* all 0xff: nobody is in quarantine */
	uint8_t claim[3];
	enum hf_clone_verdict lives, gone; /* the holder is {1, 1, 1} */
};

#define NOBODY                   \
	{                        \
		0xff, 0xff, 0xff \
	}
#define NO      HF_CLONE_NO
#define YES     HF_CLONE_YES
#define CONTEST HF_CLONE_CONTEST

/* clang-format off */
static const struct cell cells[] = {
	/* nobody: what differs is asked for while the holder lives, and taken when it is gone */
	{NOBODY,    {1, 1, 1}, NO,      NO},
	{NOBODY,    {0, 0, 0}, NO,      NO},
	{NOBODY,    {1, 1, 2}, CONTEST, NO},
	{NOBODY,    {1, 2, 2}, CONTEST, NO},
	{NOBODY,    {2, 2, 2}, CONTEST, NO},
	{NOBODY,    {2, 0, 0}, CONTEST, NO},
	/* a suspect of another machine: that installation stays out, the holder's own is free */
	{{2, 2, 2}, {2, 2, 2}, YES,     YES},
	{{2, 2, 2}, {2, 3, 3}, YES,     YES},
	{{2, 2, 2}, {3, 3, 3}, YES,     YES},
	{{2, 2, 2}, {1, 1, 1}, NO,      NO},
	{{2, 2, 2}, {1, 1, 4}, CONTEST, NO},
	{{2, 2, 2}, {1, 4, 4}, CONTEST, NO},
	/* the same machine id: told apart by the boot, else both are held */
	{{1, 2, 2}, {1, 2, 2}, YES,     YES},
	{{1, 2, 2}, {1, 2, 9}, YES,     YES},
	{{1, 2, 2}, {1, 1, 1}, NO,      NO},
	{{1, 2, 2}, {1, 1, 4}, CONTEST, NO},
	{{1, 2, 2}, {1, 3, 3}, CONTEST, YES},
	/* the same kernel: told apart by the process, else both are held */
	{{1, 1, 2}, {1, 1, 2}, YES,     YES},
	{{1, 1, 2}, {1, 1, 1}, NO,      NO},
	{{1, 1, 2}, {1, 1, 3}, CONTEST, YES},
	/* a suspect that told nothing */
	{{0, 0, 0}, {0, 0, 0}, NO,      NO},
	{{0, 0, 0}, {2, 2, 2}, YES,     YES},
	{{0, 0, 0}, {1, 1, 1}, NO,      NO},
};
/* clang-format on */

static void every_cell_is_as_the_comment_says(void **state)
{
	const struct hf_origin holder = origin(1, 1, 1);

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cells); i++) {
		const struct cell *c = &cells[i];
		const struct hf_origin suspect =
			origin(c->suspect[0], c->suspect[1], c->suspect[2]);
		const struct hf_origin claim = origin(c->claim[0], c->claim[1], c->claim[2]);
		const struct hf_origin *s = c->suspect[0] == 0xff ? NULL : &suspect;

		if (hf_clone_judge(&holder, true, s, &claim) != c->lives ||
		    hf_clone_judge(&holder, false, s, &claim) != c->gone)
			fail_msg("cell %zu: %d and %d", i, hf_clone_judge(&holder, true, s, &claim),
				 hf_clone_judge(&holder, false, s, &claim));
	}
}

static void a_holder_of_whom_nothing_is_known_is_replaced(void **state)
{
	const struct hf_origin none = origin(0, 0, 0), claim = origin(1, 2, 3);

	(void)state;
	assert_int_equal(hf_clone_judge(&none, true, NULL, &claim), HF_CLONE_NO);
	assert_false(hf_origin_differs(&none, &claim));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cell_is_as_the_comment_says),
		cmocka_unit_test(a_holder_of_whom_nothing_is_known_is_replaced),
	};

	return HF_RUN_TESTS(tests);
}
