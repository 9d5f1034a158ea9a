/* SPDX-License-Identifier: Apache-2.0 */
/* The twin records: their bytes, which one counts, and power cuts at every call. */
#include "selftests/unit/release/fake_disk.h"

#include "userspace/release/twin.h"

static struct hf_release_record sample(uint64_t n)
{
	struct hf_release_record r = {
		.phase = HF_RELEASE_TRIAL,
		.tries_left = 3,
		.refunds_left = 2,
		.reason = 7,
		.component = "agent",
		.active = {.version = "1.4.0", .hash = {1, 2, 3}, .security_epoch = 3},
		.previous = {.version = "1.3.9", .hash = {4, 5, 6}, .security_epoch = 2},
		.candidate = {.version = "1.5.0-rc.1", .hash = {7, 8, 9}, .security_epoch = 4},
		.security_epoch = 2,
		.healthy_ms = n,
		.changed_s = 1767323045,
		.boot_id = {0xaa, 0xbb},
		.bad = {{9, 9}, {8, 8}},
	};

	return r;
}

static void a_record_comes_back(void **state)
{
	struct hf_release_record r = sample(12345), back;
	uint8_t buf[HF_TWIN_SIZE];

	(void)state;
	r.generation = 42;
	hf_twin_encode(&r, buf);
	assert_ok(hf_twin_decode(buf, &back));
	assert_memory_equal(&back, &r, sizeof(r));
}

static void the_bytes_on_disk_are_these(void **state)
{
	struct hf_release_record r = sample(0x1122);
	uint8_t buf[HF_TWIN_SIZE];

	(void)state;
	r.generation = 0x0102030405060708;
	hf_twin_encode(&r, buf);
	assert_memory_equal(buf, "HFTWIN\r\n\1\0\0\0", 12);
	assert_memory_equal(buf + 16, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
	assert_memory_equal(buf + 24, "\3\0\0\0\3\0\0\0\2\0\0\0\7\0\0\0agent\0", 22);
	assert_string_equal((char *)buf + 72, "1.4.0");
	assert_string_equal((char *)buf + 160, "1.3.9");
	assert_string_equal((char *)buf + 248, "1.5.0-rc.1");
	assert_memory_equal(buf + 344, "\x22\x11\0\0", 4);
}

static void every_bit_flip_is_seen(void **state)
{
	struct hf_release_record r = sample(1), back;
	uint8_t buf[HF_TWIN_SIZE];

	(void)state;
	hf_twin_encode(&r, buf);
	for (size_t bit = 0; bit < 8 * sizeof(buf); bit++) {
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_err(hf_twin_decode(buf, &back), -EBADMSG);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	memset(buf, 0, sizeof(buf));
	assert_err(hf_twin_decode(buf, &back), -EBADMSG);
	memset(buf, 0xff, sizeof(buf));
	assert_err(hf_twin_decode(buf, &back), -EBADMSG);
}

static void a_phase_of_a_later_version_is_read(void **state)
{
	struct hf_release_record r = sample(1), back;
	uint8_t buf[HF_TWIN_SIZE];

	(void)state;
	r.phase = 99;
	hf_twin_encode(&r, buf);
	assert_ok(hf_twin_decode(buf, &back));
	assert_int_equal(back.phase, 99);
}

static void they_are_written_in_turn(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_release_record r = sample(1), back;
	struct hf_twin t;
	char *before = NULL, *after = NULL;

	assert_err(hf_twin_load(&t, &hf_io_real, d->fd, &back), -ENOENT);
	assert_ok(hf_twin_save(&t, &r));
	assert_int_equal(r.generation, 1);
	assert_int_equal(faccessat(d->fd, "state.b", F_OK, 0), -1);
	r.healthy_ms = 2;
	assert_ok(hf_twin_save(&t, &r));
	assert_ok(hf_read_file(d->fd, "state.b", HF_TWIN_SIZE, &before, NULL));
	r.healthy_ms = 3;
	assert_ok(hf_twin_save(&t, &r));
	assert_ok(hf_read_file(d->fd, "state.b", HF_TWIN_SIZE, &after, NULL));
	assert_memory_equal(before, after, HF_TWIN_SIZE);
	free(before);
	free(after);
	assert_ok(hf_twin_load(&t, &hf_io_real, d->fd, &back));
	assert_int_equal(back.healthy_ms, 3);
	assert_int_equal(back.generation, 3);
}

static void the_other_one_counts_when_one_is_damaged(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_release_record r = sample(1), back;
	struct hf_twin t;

	assert_err(hf_twin_load(&t, &hf_io_real, d->fd, &back), -ENOENT);
	for (uint64_t n = 1; n <= 3; n++) {
		r.healthy_ms = n;
		assert_ok(hf_twin_save(&t, &r));
	}
	hf_test_write(d, "state.a", "torn"); /* generation 3 */
	assert_ok(hf_twin_load(&t, &hf_io_real, d->fd, &back));
	assert_int_equal(back.healthy_ms, 2);
	/* The damaged one is written next, and its number is not used again below the other's. */
	assert_ok(hf_twin_save(&t, &r));
	assert_int_equal(r.generation, 3);
	hf_test_write(d, "state.b", "");
	assert_ok(hf_twin_load(&t, &hf_io_real, d->fd, &back));
	assert_int_equal(back.healthy_ms, 3);
	hf_test_write(d, "state.a", "");
	assert_err(hf_twin_load(&t, &hf_io_real, d->fd, &back), -EBADMSG);
	assert_ok(hf_twin_save(&t, &r));
	assert_ok(hf_twin_load(&t, &hf_io_real, d->fd, &back));
}

#define SAVES 6
#define SEEDS 24

/* Saves 1, 2, 3 … until the machine is off; returns the last one that was acknowledged. */
static uint64_t save_until_off(struct fake_disk *d, uint64_t first)
{
	struct hf_release_record r = sample(0), found;
	struct hf_twin t;
	int root = fake_root(d);
	uint64_t acknowledged = first - 1;

	(void)hf_twin_load(&t, &d->io, root, &found); /* none at first */
	for (uint64_t n = first; n < first + SAVES; n++) {
		r.healthy_ms = n;
		if (hf_twin_save(&t, &r) < 0)
			break;
		acknowledged = n;
	}
	fake_close(&d->io, root);
	assert_int_equal(fake_open_count(d), 0);
	return acknowledged;
}

/* What is found is what was acknowledged last, or the one that was being written. */
static void assert_found(struct fake_disk *after, uint64_t acknowledged)
{
	struct hf_release_record found;
	struct hf_twin t;
	int root = fake_root(after), r = hf_twin_load(&t, &after->io, root, &found);

	if (acknowledged == 0 && r < 0) {
		assert_true(r == -ENOENT || r == -EBADMSG); /* the very first one */
	} else {
		assert_ok(r);
		assert_true(found.healthy_ms == acknowledged ||
			    found.healthy_ms == acknowledged + 1);
	}
	fake_close(&after->io, root);
}

static void a_power_cut_at_any_call_leaves_a_valid_record(void **state)
{
	unsigned cuts = 0;

	(void)state;
	for (unsigned k = 1;; k++) {
		struct fake_disk *d = fake_disk_new();
		uint64_t acknowledged;
		bool off;

		d->stop_at = k;
		acknowledged = save_until_off(d, 1);
		off = d->off;
		for (uint64_t seed = 0; off && seed < SEEDS; seed++) {
			enum fake_cut cut = seed < 2 ? (enum fake_cut)seed : FAKE_SOME;
			struct fake_disk *after = fake_after_cut(d, cut, seed);

			assert_found(after, acknowledged);
			/* And once more, from there. */
			if (acknowledged > 0) {
				struct fake_disk *again;
				uint64_t more;

				after->stop_at = 1 + (unsigned)(seed % 5);
				more = save_until_off(after, acknowledged + 2);
				again = fake_after_cut(after, FAKE_SOME, seed + k);
				if (more >= acknowledged + 2)
					assert_found(again, more);
				again = fake_disk_free(again);
			}
			after = fake_disk_free(after);
			cuts++;
		}
		d = fake_disk_free(d);
		if (!off)
			break;
	}
	print_message("%u power cuts, a valid record after each\n", cuts);
	assert_true(cuts > 200);
}

static void the_harness_finds_a_twin_that_is_written_twice(void **state)
{
	unsigned lost = 0;

	/* What must not be done: both records with the new state before either is synced. */
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct hf_release_record r = sample(1), found;
		struct fake_disk *d = fake_disk_new(), *after;
		uint8_t buf[HF_TWIN_SIZE];
		int root = fake_root(d), a, b;
		struct hf_twin t;

		(void)hf_twin_load(&t, &d->io, root, &found);
		assert_ok(hf_twin_save(&t, &r));
		assert_ok(hf_twin_save(&t, &r));
		r.healthy_ms = UINT64_MAX;
		memset(r.bad, 0xee, sizeof(r.bad));
		hf_twin_encode(&r, buf);
		a = fake_open_file(&d->io, root, "state.a", true);
		b = fake_open_file(&d->io, root, "state.b", true);
		assert_ok(fake_write(&d->io, a, buf, sizeof(buf), 0));
		assert_ok(fake_write(&d->io, b, buf, sizeof(buf), 0));
		fake_close(&d->io, a);
		fake_close(&d->io, b);
		fake_close(&d->io, root);
		after = fake_after_cut(d, FAKE_SOME, seed);
		root = fake_root(after);
		lost += hf_twin_load(&t, &after->io, root, &found) < 0;
		fake_close(&after->io, root);
		after = fake_disk_free(after);
		d = fake_disk_free(d);
	}
	assert_true(lost > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_comes_back),
		cmocka_unit_test(the_bytes_on_disk_are_these),
		cmocka_unit_test(every_bit_flip_is_seen),
		cmocka_unit_test(a_phase_of_a_later_version_is_read),
		cmocka_unit_test_setup_teardown(they_are_written_in_turn, hf_test_dir_setup,
						hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(the_other_one_counts_when_one_is_damaged,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test(a_power_cut_at_any_call_leaves_a_valid_record),
		cmocka_unit_test(the_harness_finds_a_twin_that_is_written_twice),
	};

	return HF_RUN_TESTS(tests);
}
