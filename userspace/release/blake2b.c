/* SPDX-License-Identifier: Apache-2.0 */
/* BLAKE2b as RFC 7693 section 3 states it, plainly: it hashes 74 bytes. */
#include "userspace/release/blake2b.h"

#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/str.h"

#define BLOCK 128

static const uint64_t iv[8] = {
	0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
	0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static const uint8_t sigma[10][16] = {
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	{14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
	{11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
	{7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
	{9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
	{2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
	{12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
	{13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
	{6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
	{10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static uint64_t rotate_right(uint64_t x, unsigned n)
{
	return x >> n | x << (64 - n);
}

static uint64_t load_le64(const uint8_t *p)
{
	uint64_t x = 0;

	for (unsigned i = 0; i < 8; i++)
		x |= (uint64_t)p[i] << (8 * i);
	return x;
}

static void mix(uint64_t v[static 16], unsigned a, unsigned b, unsigned c, unsigned d, uint64_t x,
		uint64_t y)
{
	v[a] += v[b] + x;
	v[d] = rotate_right(v[d] ^ v[a], 32);
	v[c] += v[d];
	v[b] = rotate_right(v[b] ^ v[c], 24);
	v[a] += v[b] + y;
	v[d] = rotate_right(v[d] ^ v[a], 16);
	v[c] += v[d];
	v[b] = rotate_right(v[b] ^ v[c], 63);
}

static void compress(uint64_t h[static 8], const uint8_t block[static BLOCK], uint64_t total,
		     int last)
{
	uint64_t v[16], m[16];

	for (unsigned i = 0; i < 8; i++) {
		v[i] = h[i];
		v[i + 8] = iv[i];
	}
	v[12] ^= total; /* the high half of the counter is 0: no input has 2^64 bytes */
	if (last)
		v[14] = ~v[14];
	for (unsigned i = 0; i < 16; i++)
		m[i] = load_le64(block + 8 * i);
	for (unsigned round = 0; round < 12; round++) {
		const uint8_t *s = sigma[round % 10];

		mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]]);
		mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]]);
		mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]]);
		mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]]);
		mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]]);
		mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]]);
		mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]]);
		mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]]);
	}
	for (unsigned i = 0; i < 8; i++)
		h[i] ^= v[i] ^ v[i + 8];
	hf_wipe(v, sizeof(v)); /* the input may be a secret key */
	hf_wipe(m, sizeof(m));
}

void hf_blake2b(void *dst, size_t dst_len, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t block[BLOCK], *out = dst;
	uint64_t h[8], total = 0;

	hf_assert(dst_len >= 1 && dst_len <= 64);
	memcpy(h, iv, sizeof(h));
	h[0] ^= 0x01010000 ^ dst_len;
	/* The last block is never empty, but for an empty input. */
	while (len > BLOCK) {
		total += BLOCK;
		compress(h, p, total, 0);
		p += BLOCK;
		len -= BLOCK;
	}
	memset(block, 0, sizeof(block));
	if (len > 0)
		memcpy(block, p, len);
	compress(h, block, total + len, 1);
	for (size_t i = 0; i < dst_len; i++)
		out[i] = (uint8_t)(h[i / 8] >> (8 * (i % 8)));
	hf_wipe(block, sizeof(block));
}
