/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration loader with the tables of config.yml and portal.yml. Beyond not crashing: what
 * is refused has a message, and what is accepted and printed is read back as the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "holdfast/config.h"

static void one(const struct hf_config_table *t, const uint8_t *data, size_t size)
{
	void *cfg = calloc(1, t->struct_size), *back = calloc(1, t->struct_size);
	struct hf_buf out = {};
	struct hf_err err = {};

	hf_assert(cfg && back);
	if (hf_config_load_text(t, "f", (const char *)data, size, cfg, NULL, NULL, &err) < 0) {
		hf_assert(err.code < 0 && hf_startswith(err.msg, "f:"));
	} else {
		hf_assert(hf_config_print(t, cfg, &out) == 0);
		/* A masked secret may be out of its own range. */
		if (!memmem(out.data, out.len, "\"********\"", 10)) {
			hf_assert(hf_config_load_text(t, "f", (const char *)out.data, out.len, back,
						      NULL, NULL, &err) == 0);
			hf_assert(hf_config_diff(t, cfg, back, NULL, NULL) == 0);
		}
	}
	hf_buf_done(&out);
	hf_config_done(t, cfg);
	hf_config_done(t, back);
	free(cfg);
	free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	one(&hf_config_table, data, size);
	one(&hf_portal_config_table, data, size);
	return 0;
}
