/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the portal keeps of an agent's description and hello: every text is terminated, valid UTF-8
 * and without control characters, so that database, JSON and log can take it as it is.
 */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/str.h"
#include "tools/portal/link.h"
#include "userspace/proto/frame.h"

static void clean(const char *s, size_t size)
{
	hf_assert(memchr(s, '\0', size) && hf_utf8_valid(s, strlen(s)));
	for (; *s; s++)
		hf_assert((unsigned char)*s >= 0x20 && *s != 0x7f);
}

#define CLEAN(row, field) clean((row)->field, sizeof((row)->field))

static void check(const struct hf_endpoint_row *row)
{
	CLEAN(row, version);
	CLEAN(row, os);
	CLEAN(row, arch);
	CLEAN(row, distro);
	CLEAN(row, kernel);
	CLEAN(row, kernel_assist);
	CLEAN(row, hostname);
	CLEAN(row, environment);
	for (size_t i = 0; i < HF_ENDPOINT_ADDRESSES; i++) {
		CLEAN(row, addresses[i]);
		hf_assert(!strchr(row->addresses[i], ','));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_pb_ Opamp__AgentToServer *m = NULL;
	_cleanup_pb_ Session__Hello *hello = NULL;
	struct hf_endpoint_row row = {};

	if (hf_opamp_decode_to_server(data, size, &m) == 0) {
		(void)hf_link_describe(&row, m, NULL);
		check(&row);
		/* The same again changes nothing. */
		hf_assert(!hf_link_describe(&row, m, NULL));
	}
	if (hf_pb_unpack(&session__hello__descriptor, data, size, &hello) == 0) {
		(void)hf_link_describe(&row, NULL, hello);
		check(&row);
	}
	return 0;
}
