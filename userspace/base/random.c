/* SPDX-License-Identifier: Apache-2.0 */
/* Randomness and UUIDs. The kernel's generator is the only source; nothing is buffered or seeded. */
#include "base/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/str.h"

void hf_random_bytes(void *dst, size_t len)
{
	uint8_t *p = dst;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		/* Predictable keys are worse than no process. */
		hf_assert(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

uint64_t hf_random_below(uint64_t bound)
{
	uint64_t limit, v;

	if (bound == 0)
		return 0;
	/* 2^64 mod bound values at the low end would come up once too often: draw again. */
	limit = -bound % bound;
	do {
		hf_random_bytes(&v, sizeof(v));
	} while (v < limit);
	return v % bound;
}

void hf_uuid_v7(uint8_t ret[static 16])
{
	uint64_t ms = hf_now_realtime_ns() / HF_NS_PER_MS;

	hf_random_bytes(ret, 16);
	for (int i = 0; i < 6; i++)
		ret[i] = (uint8_t)(ms >> (8 * (5 - i)));
	ret[6] = (uint8_t)(0x70 | (ret[6] & 0x0f));
	ret[8] = (uint8_t)(0x80 | (ret[8] & 0x3f));
}

/* Bytes after which the text has a hyphen: 8-4-4-4-12 digits. */
static bool hyphen_after(unsigned byte)
{
	return byte == 3 || byte == 5 || byte == 7 || byte == 9;
}

void hf_uuid_format(const uint8_t uuid[static 16], char dst[static HF_UUID_TEXT_SIZE])
{
	char *p = dst;

	for (unsigned i = 0; i < 16; i++) {
		hf_hex_encode(p, &uuid[i], 1);
		p += 2;
		if (hyphen_after(i))
			*p++ = '-';
	}
	*p = '\0';
}

int hf_uuid_parse(const char *s, uint8_t ret[static 16])
{
	uint8_t id[16];
	const char *p = s;

	if (strlen(s) != HF_UUID_TEXT_SIZE - 1)
		return -EINVAL;
	for (unsigned i = 0; i < 16; i++) {
		char two[3] = {p[0], p[1], '\0'};

		if (hf_hex_decode(&id[i], 1, two) < 0)
			return -EINVAL;
		p += 2;
		if (hyphen_after(i) && *p++ != '-')
			return -EINVAL;
	}
	memcpy(ret, id, sizeof(id));
	return 0;
}
