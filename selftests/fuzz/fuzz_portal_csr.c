/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate requests and certificates of strangers. What is refused has a sentence that says why. */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "tools/portal/ca.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t hash[HF_HASH_SIZE], id[HF_ID_SIZE];
	struct hf_csr *csr = NULL;
	struct hf_err err = {};
	uint64_t expires;

	if (hf_csr_parse(data, size, &csr, hash, &err) < 0)
		hf_assert(!csr && err.msg[0]);
	else
		hf_assert(csr);
	(void)hf_csr_free(csr);
	(void)hf_ca_identify(data, size, id, &expires); /* any answer is right */
	return 0;
}
