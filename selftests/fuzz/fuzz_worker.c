/* SPDX-License-Identifier: Apache-2.0 */
/* A taken-over worker's packets: what passes is a line of UTF-8 and a percentage. */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/str.h"
#include "holdfast/worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_worker_frame f;

	if (hf_worker_frame_check(data, size) < 0)
		return 0;
	hf_assert(size == sizeof(f));
	memcpy(&f, data, sizeof(f));
	hf_assert(f.percent <= 100 && f.outcome != HF_WORKER_TIMED_OUT);
	hf_assert(strnlen(f.text, sizeof(f.text)) < sizeof(f.text));
	hf_assert(!strchr(f.text, '\n') && hf_utf8_valid(f.text, strlen(f.text)));
	return 0;
}
