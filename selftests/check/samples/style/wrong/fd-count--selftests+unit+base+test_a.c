/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
static void a_fact(void **state)
{
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_fact)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
