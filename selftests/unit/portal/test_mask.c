/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets leave a configuration before it is stored; what explains an outage stays. */
#include "selftests/unit/test_util.h"

#include <string.h>

#include "tools/portal/mask.h"

struct cell {
	const char *in, *want;
	unsigned masked;
};

static const struct cell cells[] = {
	{"", "", 0},
	{"environment: prod\n", "environment: prod\n", 0},
	{"heartbeat_s: 20", "heartbeat_s: 20", 0},
	{"password: hunter2\n", "password: ***\n", 1},
	{"  db_password : a,b c\nuser: x\n", "  db_password : ***\nuser: x\n", 1},
	{"- API_KEY=\"a b\" # why\n", "- API_KEY=*** # why\n", 1},
	{"token: ''\n", "token: ''\n", 0},
	{"token_file: /etc/token\n", "token_file: /etc/token\n", 0},
	{"client_id: web\n", "client_id: web\n", 0},
	/* JSON and YAML flow: what stands beside it stays */
	{"{\"user\": \"u\", \"secret\": \"a\\\"b\", \"port\": 1}",
	 "{\"user\": \"u\", \"secret\": ***, \"port\": 1}", 1},
	{"auth: {token: abc, user: u}\n", "auth: {token: ***, user: u}\n", 1},
	/* what goes on below */
	{"private_key: |\n  AAA\n  BBB\nnext: 1\n", "private_key: ***\nnext: 1\n", 1},
	{"tokens:\n- a\n- b\nnext: 1\n", "tokens: ***\nnext: 1\n", 1},
	{"\"tokens\": [\n  \"a\"\n],\n", "\"tokens\": ***\n],\n", 1},
	/* URLs and keys anywhere */
	{"proxy: http://user:pw@proxy:3128/\n", "proxy: http://***@proxy:3128/\n", 1},
	{"url: https://portal/a@b\n", "url: https://portal/a@b\n", 0},
	{"x: |\n  -----BEGIN EC PRIVATE KEY-----\n  AAA\n  -----END EC PRIVATE KEY-----\ny: 1\n",
	 "x: |\n  ***\ny: 1\n", 1},
	{"a: -----BEGIN CERTIFICATE-----\n", "a: -----BEGIN CERTIFICATE-----\n", 0},
	/* garbage ends where it ends */
	{"password: \"open", "password: ***", 1},
	{"secret: \"\\", "secret: ***", 1},
	{"://@", "://@", 0},
	{"}]}]:=\n", "}]}]:=\n", 0},
	{"-----BEGIN PRIVATE KEY-----\nAAA", "***\n", 1},
};

static void each_cell_is_masked_as_it_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cells); i++) {
		struct hf_buf out = {};
		unsigned masked;

		assert_ok(hf_mask_config(cells[i].in, strlen(cells[i].in), &out, &masked));
		assert_ok(hf_buf_append(&out, "", 1));
		if (strcmp((const char *)out.data, cells[i].want) != 0 || masked != cells[i].masked)
			fail_msg("cell %zu: '%s', %u masked", i, (const char *)out.data, masked);
		hf_buf_done(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_cell_is_masked_as_it_says),
	};

	return HF_RUN_TESTS(tests);
}
