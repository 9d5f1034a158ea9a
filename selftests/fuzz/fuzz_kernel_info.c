/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the description of a kernel. */
#include <stdint.h>
#include <stdlib.h>

#include "userspace/agent/kernel_info.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_kernel_info *i = NULL;
	const char *s;
	uint32_t n;

	if (hf_kernel_info_parse((const char *)data, size, &i) < 0)
		return 0;
	for (s = hf_kernel_info_reason(i); *s; s++)
		if (*s < ' ' || *s > '~')
			abort();
	for (n = 0; n < 70000; n++)
		if (hf_kernel_info_rst(i, n) && !*hf_kernel_info_rst(i, n))
			abort();
	(void)hf_kernel_info_free(i);
	return 0;
}
