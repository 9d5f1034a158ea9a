/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
int f(void)
{
	return open(g("x"),
		    O_RDONLY | O_CLOEXEC);
}
