/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a datagram of sock_diag: every message taken off, every text printable. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/agent/sockdiag.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *text, size_t room)
{
	if (strnlen(text, room) == room)
		abort();
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A heap copy shows any overrun. */
	void *copy = malloc(size ? size : 1);
	const void *at = copy;
	size_t len = size;

	if (!copy)
		return 0;
	if (size)
		memcpy(copy, data, size);
	while (len) {
		struct hf_sockdiag_event e;
		size_t before = len;
		int r = hf_sockdiag_parse(&at, &len, &e);

		if (r < 0)
			break;
		if (len >= before)
			abort();
		if (r == 1) {
			check(e.local, sizeof(e.local));
			check(e.peer, sizeof(e.peer));
			check(e.detail, sizeof(e.detail));
		}
	}
	free(copy);
	return 0;
}
