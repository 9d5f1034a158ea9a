/* SPDX-License-Identifier: Apache-2.0 */
/* The route table and its matching. */
#include "selftests/unit/test_util.h"

#include "base/str.h"
#include "tools/portal/router.h"

static void patterns_match_whole_paths_and_one_segment(void **state)
{
	static const struct {
		const char *pattern, *path, *id; /* id NULL: no match */
	} cells[] = {
		{"/a", "/a", ""},
		{"/a", "/a/", NULL},
		{"/a", "/ab", NULL},
		{"/a", "/", NULL},
		{"/a", "", NULL},
		{"/a/{id}", "/a/x", "x"},
		{"/a/{id}", "/a/", NULL},
		{"/a/{id}", "/a/x/y", NULL},
		{"/a/{id}/b", "/a/x/b", "x"},
		{"/a/{id}/b", "/a/x/c", NULL},
		{"/a/{id}/b", "/a//b", NULL},
		{"/a/{id}/b", "/a/x", NULL},
		{"/a/{id}", "/a/0123456789", NULL}, /* longer than an id may be here */
	};
	char id[10];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cells); i++) {
		id[0] = '\0';
		assert_int_equal(hf_router_match(cells[i].pattern, cells[i].path, id, sizeof(id)),
				 cells[i].id != NULL);
		if (cells[i].id)
			assert_string_equal(id, cells[i].id);
	}
}

static void no_two_routes_answer_the_same_and_changes_need_a_role(void **state)
{
	size_t n;
	const struct hf_route *r = hf_router_table(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < i; j++)
			assert_false(hf_streq(r[i].method, r[j].method) &&
				     hf_streq(r[i].path, r[j].path));
		assert_true(strlen(r[i].summary) > 0);
		if (hf_streq(r[i].method, "GET") || hf_streq(r[i].path, "/v1/opamp") ||
		    hf_streq(r[i].path, "/api/v1/session"))
			continue;
		assert_true(r[i].role >= HF_ROLE_OPERATOR);
	}
	for (size_t i = 0; i < n; i++) {
		bool open = hf_streq(r[i].path, "/api/v1/openapi.json") ||
			    hf_streq(r[i].path, "/api/v1/session");

		if (hf_startswith(r[i].path, "/api/") && !open)
			assert_true(r[i].role >= HF_ROLE_VIEWER);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns_match_whole_paths_and_one_segment),
		cmocka_unit_test(no_two_routes_answer_the_same_and_changes_need_a_role),
	};

	return HF_RUN_TESTS(tests);
}
