/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redaction of any bytes. Beyond not crashing: a private key planted behind them is gone, and so is
 * the value of a key that says it is a secret.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "userspace/collect/redact.h"

#define PLANTED \
	"\npassword=PLANTEDVALUE\n-----BEGIN PRIVATE KEY-----\nPLANTEDKEY+++++++\n-----END PRIVATE KEY-----\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_buf in = {}, out = {};

	if (hf_buf_append(&in, data, size) < 0 || hf_buf_append(&in, PLANTED, strlen(PLANTED)) < 0)
		abort();
	hf_assert(hf_redact((const char *)in.data, in.len, &out) >= 1);
	hf_assert(out.len <= 16 * in.len);
	hf_assert(!memmem(out.data, out.len, "PLANTEDKEY", 10) ||
		  memmem(data, size, "PLANTEDKEY", 10));
	hf_assert(!memmem(out.data, out.len, "PLANTEDVALUE", 12) ||
		  memmem(data, size, "PLANTEDVALUE", 12));
	hf_buf_done(&in);
	hf_buf_done(&out);
	return 0;
}
