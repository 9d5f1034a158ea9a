/* SPDX-License-Identifier: Apache-2.0 */
/* The components' records over the death of a watchdog at any moment. */
#include "watchdog/records.h"

#include <sys/stat.h>

#include "../test_util.h"
#include "base/str.h"

static struct hf_record record(const char *name, uint32_t pid, uint64_t starts)
{
	struct hf_record r;

	memset(&r, 0, sizeof(r));
	(void)hf_strlcpy(r.name, name, sizeof(r.name));
	r.pid = pid;
	r.starts = starts;
	r.want_up = 1;
	return r;
}

static struct hf_records *reopen(struct hf_records *r, const struct hf_test_dir *d)
{
	(void)hf_records_free(r);
	r = NULL;
	assert_ok(hf_records_open(d->fd, "components", &r));
	return r;
}

static void saved_records_are_found_by_the_next(void **state)
{
	struct hf_test_dir *d = *state;
	struct hf_records *r = reopen(NULL, d);
	struct hf_record a = record("agent", 10, 3), b = record("engine", 11, 1);
	struct stat st;

	assert_null(hf_records_find(r, "agent"));
	assert_ok(hf_records_save(r, &a));
	assert_ok(hf_records_save(r, &b));
	a.pid = 20;
	assert_ok(hf_records_save(r, &a));
	r = reopen(r, d);
	assert_int_equal(hf_records_find(r, "agent")->pid, 20);
	assert_int_equal(hf_records_find(r, "agent")->starts, 3);
	assert_int_equal(hf_records_find(r, "engine")->pid, 11);
	assert_null(hf_records_find(r, "x"));
	assert_int_equal(fstatat(d->fd, "components", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	(void)hf_records_free(r);
}

/* Overwrites bytes of the file as a torn or wild write would. */
static void damage(const struct hf_test_dir *d, off_t at, size_t len)
{
	_cleanup_close_ int fd = openat(d->fd, "components", O_RDWR | O_CLOEXEC);
	unsigned char junk[64];

	memset(junk, 0xa5, sizeof(junk));
	assert_true(len <= sizeof(junk));
	assert_ok(hf_pwrite_full(fd, junk, len, at));
}

static void torn_write_leaves_the_record_before(void **state)
{
	struct hf_test_dir *d = *state;
	struct hf_records *r = reopen(NULL, d);
	struct hf_record a = record("agent", 1, 1);

	/* generation 1 goes to slot 1, generation 2 to slot 0 */
	assert_ok(hf_records_save(r, &a));
	a.pid = 2;
	assert_ok(hf_records_save(r, &a));
	damage(d, 200, 8);
	r = reopen(r, d);
	assert_int_equal(hf_records_find(r, "agent")->pid, 1);
	/* and the next write does not touch the good one */
	a.pid = 3;
	assert_ok(hf_records_save(r, &a));
	r = reopen(r, d);
	assert_int_equal(hf_records_find(r, "agent")->pid, 3);
	(void)hf_records_free(r);
}

static void any_garbage_reads_as_empty(void **state)
{
	struct hf_test_dir *d = *state;
	struct hf_records *r = NULL;
	char junk[40000];

	for (size_t len = 0; len < sizeof(junk); len += 3333) {
		memset(junk, 0xff, sizeof(junk));
		assert_ok(hf_write_file_atomic(d->fd, "components", junk, len, 0600));
		r = reopen(r, d);
		assert_null(hf_records_find(r, "agent"));
	}
	(void)hf_records_free(r);
}

static void number_of_records_is_bounded(void **state)
{
	struct hf_test_dir *d = *state;
	struct hf_records *r = reopen(NULL, d);
	struct hf_record a;
	char name[8];

	for (unsigned i = 0; i < HF_RECORDS_MAX; i++) {
		(void)snprintf(name, sizeof(name), "c%u", i);
		a = record(name, i + 1, 1);
		assert_ok(hf_records_save(r, &a));
	}
	a = record("more", 99, 1);
	assert_err(hf_records_save(r, &a), -ENOSPC);
	(void)hf_records_free(r);
}

int main(void)
{
#define CASE(t) cmocka_unit_test_setup_teardown(t, hf_test_dir_setup, hf_test_dir_teardown)
	const struct CMUnitTest tests[] = {
		CASE(saved_records_are_found_by_the_next),
		CASE(torn_write_leaves_the_record_before),
		CASE(any_garbage_reads_as_empty),
		CASE(number_of_records_is_bounded),
	};
	return HF_RUN_TESTS(tests);
}
