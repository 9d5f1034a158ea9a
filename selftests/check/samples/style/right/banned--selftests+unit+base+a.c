/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
void f(char *d)
{
	strcpy(d, "x");
}
