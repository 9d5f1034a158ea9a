/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the file of an outage record; the checksum is mended, or nothing would get past it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "userspace/agent/outage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char name[] = "01a1fc4e-dc3a-74ac-99db-d2799a5a86fe";
	Bus__Outage *o = NULL;
	uint8_t *copy;
	uint32_t v;
	bool acked;

	if (size > HF_OUTAGE_FILE_MAX)
		return 0;
	copy = malloc(size ? size : 1);
	if (!copy)
		return 0;
	if (size)
		memcpy(copy, data, size);
	if (size >= 16) {
		v = (uint32_t)(size - 16);
		memcpy(copy + 12, &v, 4);
		v = hf_crc32c(0, copy + 8, size - 8);
		memcpy(copy + 4, &v, 4);
	}
	if (hf_outage_parse(name, copy, size, &o, &acked) >= 0) {
		if (strcmp(o->id, name) != 0)
			abort();
		bus__outage__free_unpacked(o, NULL);
	}
	free(copy);
	return 0;
}
