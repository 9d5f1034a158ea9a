/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every unit test shares: assertions on our return convention, a directory that goes away, and
 * a main() that fails when a test left a descriptor open.
 *
 * A test program ends with
 *
 *	int main(void)
 *	{
 *		const struct CMUnitTest tests[] = {
 *			cmocka_unit_test(a_fact),
 *			cmocka_unit_test_setup_teardown(another_fact, hf_test_dir_setup,
 *							hf_test_dir_teardown),
 *		};
 *		return HF_RUN_TESTS(tests);
 *	}
 */
#pragma once

/* cmocka.h needs these four before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define HF_TEST_SKIPPED 77

static inline void hf_assert_ok_(long long r, const char *expr, const char *file, int line)
{
	if (r >= 0)
		return;
	print_error("%s = %lld (%s), expected success\n", expr, r, strerror((int)-r));
	_fail(file, line);
}

static inline void hf_assert_err_(long long r, long long want, const char *expr, const char *file,
				  int line)
{
	if (r == want)
		return;
	print_error("%s = %lld, expected %lld (%s)\n", expr, r, want, strerror((int)-want));
	_fail(file, line);
}

/* r is 0 or positive. */
#define assert_ok(expr) hf_assert_ok_((expr), #expr, __FILE__, __LINE__)
/* r is exactly this negative errno. */
#define assert_err(expr, want) hf_assert_err_((expr), (want), #expr, __FILE__, __LINE__)

/* A fixture: *state is a struct hf_test_dir while the test runs. */
struct hf_test_dir {
	char path[256];
	int fd;
};

static inline int hf_test_dir_setup(void **state)
{
	const char *base = getenv("TMPDIR");
	struct hf_test_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return -1;
	(void)snprintf(d->path, sizeof(d->path), "%s/hf-unit-XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(d->path)) {
		free(d);
		return -1;
	}
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = d;
	return d->fd < 0 ? -1 : 0;
}

static inline int hf_test_remove_one_(const char *path, const struct stat *st, int type,
				      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline int hf_test_dir_teardown(void **state)
{
	struct hf_test_dir *d = *state;
	int r;

	(void)hf_close(d->fd);
	r = nftw(d->path, hf_test_remove_one_, 8, FTW_DEPTH | FTW_PHYS);
	free(d);
	return r;
}

/* A file of the fixture's directory with this text. */
static inline void hf_test_write(const struct hf_test_dir *d, const char *name, const char *text)
{
	assert_ok(hf_write_file_atomic(d->fd, name, text, strlen(text), 0600));
}

static inline int hf_run_tests_(const char *file, const struct CMUnitTest *tests, size_t n)
{
	int before = hf_count_open_fds();
	int failed = _cmocka_run_group_tests(file, tests, n, NULL, NULL);
	int after = hf_count_open_fds();

	if (before != after) {
		print_error("%s: %d descriptors open at the end, %d at the start\n", file, after,
			    before);
		return 1;
	}
	return failed ? 1 : 0;
}

#define HF_RUN_TESTS(tests) hf_run_tests_(__FILE__, (tests), HF_ARRAY_SIZE(tests))
