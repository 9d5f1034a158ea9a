/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
static void a_fact(void **state)
{
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {WITH_DIR(a_fact)};

	return HF_RUN_TESTS(tests);
}
