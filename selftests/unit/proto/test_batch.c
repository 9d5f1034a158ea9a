/* SPDX-License-Identifier: Apache-2.0 */
/* Sequence arithmetic of telemetry batches. */
#include "selftests/unit/test_util.h"

#include "userspace/proto/batch.h"

struct range {
	uint64_t first, last;
};

static int check(uint64_t first, uint64_t last, uint32_t records, const struct range *gaps,
		 size_t n_gaps, uint64_t *seqs)
{
	Session__TelemetryBatch b = SESSION__TELEMETRY_BATCH__INIT;
	Session__Gap gap[HF_BATCH_GAPS_MAX + 1], *gapp[HF_BATCH_GAPS_MAX + 1];
	int r;

	for (size_t i = 0; i < n_gaps; i++) {
		session__gap__init(&gap[i]);
		gap[i].first_seq = gaps[i].first;
		gap[i].last_seq = gaps[i].last;
		gapp[i] = &gap[i];
	}
	b.first_seq = first;
	b.last_seq = last;
	b.records = records;
	b.gaps = gapp;
	b.n_gaps = n_gaps;
	b.otlp.len = records ? 1 : 0;
	r = hf_batch_check(&b);
	for (uint32_t i = 0; r == 0 && seqs && i < records; i++)
		seqs[i] = hf_batch_seq_at(&b, i);
	return r;
}

static void impossible_batches_are_refused(void **state)
{
	static const struct range whole[] = {{1, UINT64_MAX}};
	static const struct range out[] = {{4, 6}}, swapped[] = {{3, 2}},
				  twice[] = {{2, 3}, {3, 4}};
	static const struct range before[] = {{1, 2}};
	struct range many[HF_BATCH_GAPS_MAX + 1];

	(void)state;
	assert_err(check(0, 0, 1, NULL, 0, NULL), -EBADMSG);
	assert_err(check(0, 3, 4, NULL, 0, NULL), -EBADMSG);
	assert_err(check(5, 4, 0, NULL, 0, NULL), -EBADMSG);
	assert_err(check(1, UINT64_MAX, 0, whole, 1, NULL), -EBADMSG);
	assert_err(check(1, 5, 4, NULL, 0, NULL), -EBADMSG);
	assert_err(check(1, 5, 6, NULL, 0, NULL), -EBADMSG);
	assert_err(check(1, 5, 2, out, 1, NULL), -EBADMSG);
	assert_err(check(1, 5, 5, swapped, 1, NULL), -EBADMSG);
	assert_err(check(1, 5, 1, twice, 2, NULL), -EBADMSG);
	assert_err(check(2, 5, 2, before, 1, NULL), -EBADMSG);
	assert_err(check(1, 1, HF_BATCH_RECORDS_MAX + 1, NULL, 0, NULL), -EBADMSG);
	for (size_t i = 0; i < HF_ARRAY_SIZE(many); i++)
		many[i] = (struct range){1 + 2 * i, 1 + 2 * i};
	assert_err(check(1, 2 * HF_ARRAY_SIZE(many), HF_ARRAY_SIZE(many), many, HF_ARRAY_SIZE(many),
			 NULL),
		   -EBADMSG);
}

static void records_are_numbered_around_gaps(void **state)
{
	static const struct range gaps[] = {{1, 2}, {5, 5}, {6, 7}, {10, 10}};
	static const uint64_t want[] = {3, 4, 8, 9};
	uint64_t seqs[4];

	(void)state;
	assert_ok(check(1, 10, 4, gaps, 4, seqs));
	assert_memory_equal(seqs, want, sizeof(want));
}

static void a_batch_may_be_one_gap(void **state)
{
	static const struct range gap[] = {{7, 9000}};

	(void)state;
	assert_ok(check(7, 9000, 0, gap, 1, NULL));
}

static void without_gaps_records_follow_each_other(void **state)
{
	uint64_t seqs[3];

	(void)state;
	assert_ok(check(41, 43, 3, NULL, 0, seqs));
	assert_int_equal(seqs[0], 41);
	assert_int_equal(seqs[2], 43);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(impossible_batches_are_refused),
		cmocka_unit_test(records_are_numbered_around_gaps),
		cmocka_unit_test(a_batch_may_be_one_gap),
		cmocka_unit_test(without_gaps_records_follow_each_other),
	};

	return HF_RUN_TESTS(tests);
}
