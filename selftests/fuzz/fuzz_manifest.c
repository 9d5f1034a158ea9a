/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manifest from a stranger. Beyond not crashing: what decodes, encodes to the same bytes, and no
 * path in it can leave its directory.
 */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "userspace/release/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_manifest *m = NULL;
	struct hf_buf again = {};
	struct hf_err err = {};

	if (hf_manifest_decode(data, size, &m, &err) < 0) {
		hf_assert(!m && err.code < 0 && err.msg[0]);
		return 0;
	}
	hf_assert(hf_manifest_encode(m, &again, &err) == 0);
	hf_assert(again.len == size && memcmp(again.data, data, size) == 0);
	for (size_t i = 0; i < m->n_files; i++) {
		/* No component starts with a dot: no "..", nothing hidden. */
		hf_assert(m->files[i].path[0] != '/' && m->files[i].path[0] != '.' &&
			  !strstr(m->files[i].path, "/.") && !strstr(m->files[i].path, "//"));
		hf_assert(m->files[i].mode == 0444 || m->files[i].mode == 0555);
		hf_assert(i == 0 || strcmp(m->files[i - 1].path, m->files[i].path) < 0);
	}
	hf_buf_done(&again);
	(void)hf_manifest_free(m);
	return 0;
}
