/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
/* strcpy() */
void f(char *d)
{
	hf_strlcpy(d, "sprintf()", 2);
	x->system(1);
}
