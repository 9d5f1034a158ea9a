/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C against the vectors of RFC 3720 appendix B.4, both implementations against each other. */
#include "selftests/unit/test_util.h"

#include "base/crc32c.h"
#include "base/random.h"

static void vectors_of_rfc3720(void **state)
{
	uint8_t zeros[32] = {}, ones[32], up[32], down[32];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	for (unsigned i = 0; i < 32; i++) {
		up[i] = (uint8_t)i;
		down[i] = (uint8_t)(31 - i);
	}
	assert_int_equal(hf_crc32c(0, zeros, 32), 0x8a9136aa);
	assert_int_equal(hf_crc32c(0, ones, 32), 0x62a8ab43);
	assert_int_equal(hf_crc32c(0, up, 32), 0x46dd794e);
	assert_int_equal(hf_crc32c(0, down, 32), 0x113fdb5c);
	assert_int_equal(hf_crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(hf_crc32c_portable(0, "123456789", 9), 0xe3069283);
	assert_int_equal(hf_crc32c_portable(0, down, 32), 0x113fdb5c);
}

static void nothing_changes_nothing(void **state)
{
	(void)state;
	assert_int_equal(hf_crc32c(0, "", 0), 0);
	assert_int_equal(hf_crc32c(0xe3069283, "", 0), 0xe3069283);
}

static void pieces_give_the_whole(void **state)
{
	(void)state;
	for (size_t cut = 0; cut <= 9; cut++)
		assert_int_equal(hf_crc32c(hf_crc32c(0, "123456789", cut), "123456789" + cut,
					   9 - cut),
				 0xe3069283);
}

static void both_ways_agree_at_every_length_and_alignment(void **state)
{
	uint8_t buf[80];

	(void)state;
	hf_random_bytes(buf, sizeof(buf));
	for (size_t off = 0; off < 8; off++)
		for (size_t len = 0; len <= sizeof(buf) - off; len++)
			assert_int_equal(hf_crc32c(7, buf + off, len),
					 hf_crc32c_portable(7, buf + off, len));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors_of_rfc3720),
		cmocka_unit_test(nothing_changes_nothing),
		cmocka_unit_test(pieces_give_the_whole),
		cmocka_unit_test(both_ways_agree_at_every_length_and_alignment),
	};

	return HF_RUN_TESTS(tests);
}
