/* SPDX-License-Identifier: Apache-2.0 */
/* The permit table, cell by cell: every type in every state. */
#include "watchdog/permit.h"

#include "../test_util.h"

static void every_request_in_every_state(void **state)
{
	/* rows: what is permitted in NEW, GREETED, READY, STOPPING */
	static const struct {
		enum hf_sup_type type;
		bool ok[_HF_CONN_MAX];
		int next[_HF_CONN_MAX];
	} rows[] = {
		{HF_SUP_HELLO, {true, false, false, false}, {HF_CONN_GREETED, 1, 2, 3}},
		{HF_SUP_READY, {false, true, false, false}, {0, HF_CONN_READY, 2, 3}},
		{HF_SUP_PROGRESS, {false, true, true, true}, {0, 1, 2, 3}},
		{HF_SUP_STATUS, {false, true, true, true}, {0, 1, 2, 3}},
		{HF_SUP_WATCH_SOCKET, {false, true, true, false}, {0, 1, 2, 3}},
		{HF_SUP_UNWATCH_SOCKET, {false, true, true, true}, {0, 1, 2, 3}},
		{HF_SUP_STOPPING,
		 {false, true, true, false},
		 {0, HF_CONN_STOPPING, HF_CONN_STOPPING, 3}},
		{HF_SUP_CANARY_SEEN, {false, false, true, false}, {0, 1, 2, 3}},
		{HF_SUP_WELCOME, {}, {0, 1, 2, 3}},
		{HF_SUP_KERNEL, {}, {0, 1, 2, 3}},
		{HF_SUP_LAST_EXIT, {}, {0, 1, 2, 3}},
		{HF_SUP_STOP, {}, {0, 1, 2, 3}},
		{HF_SUP_RELOAD, {}, {0, 1, 2, 3}},
		{HF_SUP_DENIED, {}, {0, 1, 2, 3}},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++)
		for (unsigned s = 0; s < _HF_CONN_MAX; s++) {
			struct hf_permit p = {.state = (enum hf_conn_state)s};
			int r = hf_permit_check(&p, rows[i].type);

			if (r != (rows[i].ok[s] ? 0 : -EPERM) || (int)p.state != rows[i].next[s]) {
				print_error("%s in state %u: %d, now %d\n",
					    hf_sup_type_name(rows[i].type), s, r, (int)p.state);
				fail();
			}
		}
	for (unsigned t = 0; t < 300; t++) {
		struct hf_permit p = {.state = HF_CONN_READY};

		if (!hf_sup_size(t))
			assert_err(hf_permit_check(&p, (enum hf_sup_type)t), -EPERM);
	}
}

static void once_only_requests_are_good_for_once(void **state)
{
	struct hf_permit p = {};

	(void)state;
	assert_ok(hf_permit_check(&p, HF_SUP_HELLO));
	assert_err(hf_permit_check(&p, HF_SUP_HELLO), -EPERM);
	assert_ok(hf_permit_check(&p, HF_SUP_READY));
	assert_err(hf_permit_check(&p, HF_SUP_READY), -EPERM);
	p.state = HF_CONN_GREETED; /* even if the state would allow it */
	assert_err(hf_permit_check(&p, HF_SUP_READY), -EPERM);
}

static void watches_have_a_share(void **state)
{
	struct hf_permit p = {.state = HF_CONN_READY, .watches = HF_PERMIT_WATCHES_MAX};

	(void)state;
	assert_err(hf_permit_check(&p, HF_SUP_WATCH_SOCKET), -ENOSPC);
	assert_ok(hf_permit_check(&p, HF_SUP_UNWATCH_SOCKET));
	p.watches--;
	assert_ok(hf_permit_check(&p, HF_SUP_WATCH_SOCKET));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_request_in_every_state),
		cmocka_unit_test(once_only_requests_are_good_for_once),
		cmocka_unit_test(watches_have_a_share),
	};
	return HF_RUN_TESTS(tests);
}
