/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations of strangers: bounded output, and a secret planted behind them never comes out. */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/str.h"
#include "tools/portal/mask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char secret[] = "\npassword: GEHEIM\n";
	struct hf_buf in = {}, out = {};
	unsigned masked;

	hf_assert(hf_buf_append(&in, data, size) == 0);
	hf_assert(hf_buf_append(&in, secret, strlen(secret)) == 0);
	hf_assert(hf_mask_config((const char *)in.data, in.len, &out, &masked) == 0);
	hf_assert(out.len <= 5 * in.len);
	if (!memmem(data, size, "GEHEIM", 6))
		hf_assert(!out.len || !memmem(out.data, out.len, "GEHEIM", 6));
	hf_buf_done(&in);
	hf_buf_done(&out);
	return 0;
}
