/* SPDX-License-Identifier: Apache-2.0 */
/* The archive is one that gzip and tar read, and it never grows over its limit. */
#include "userspace/collect/archive.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <zlib.h>

#include "../test_util.h"
#include "base/str.h"

static char *inflate_all(int fd, size_t *ret_len)
{
	char *out = calloc(1, 1 << 20);
	gzFile g;
	int n;

	assert_non_null(out);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	g = gzdopen(dup(fd), "rb");
	assert_non_null(g);
	n = gzread(g, out, 1 << 20);
	assert_true(n >= 0);
	assert_int_equal(gzclose(g), Z_OK);
	*ret_len = (size_t)n;
	return out;
}

static void files_are_blocks_of_a_ustar_archive(void **state)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);
	_cleanup_free_ char *tar = NULL;
	struct hf_archive a;
	size_t len;

	(void)state;
	assert_true(fd >= 0);
	assert_ok(hf_archive_begin(&a, fd, 1 << 20, 0));
	assert_ok(hf_archive_add(&a, "holdfast/a", "hello", 5));
	assert_ok(hf_archive_add(&a, "holdfast/empty", NULL, 0));
	assert_ok(hf_archive_end(&a));
	hf_archive_done(&a);
	tar = inflate_all(fd, &len);
	/* header, block, header, two empty blocks */
	assert_int_equal(len, 5 * 512);
	assert_string_equal(tar, "holdfast/a");
	assert_string_equal(tar + 124, "00000000005");
	assert_memory_equal(tar + 257,
			    "ustar\0"
			    "00",
			    8);
	assert_memory_equal(tar + 512, "hello\0", 6);
	assert_string_equal(tar + 1024, "holdfast/empty");
	assert_string_equal(tar + 1024 + 124, "00000000000");
	(void)hf_close(fd);
}

static void what_might_not_fit_is_refused_before_it_is_written(void **state)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);
	_cleanup_free_ char *big = malloc(100000), *tar = NULL;
	struct hf_archive a;
	struct stat st;
	size_t len;

	(void)state;
	assert_true(fd >= 0 && big);
	/* As deflate sees it, noise. */
	for (uint32_t i = 0, x = 1; i < 100000; i++)
		big[i] = (char)((x = x * 1664525u + 1013904223u) >> 24);
	assert_ok(hf_archive_begin(&a, fd, 150000, 0));
	assert_err(hf_archive_add(&a,
				  "this-name-is-longer-than-a-header-of-a-ustar-archive-can-hold-"
				  "which-is-one-hundred-bytes-with-its-end",
				  "", 0),
		   -ENAMETOOLONG);
	assert_ok(hf_archive_add(&a, "first", big, 100000));
	assert_err(hf_archive_add(&a, "second", big, 100000), -EFBIG);
	assert_ok(hf_archive_add(&a, "small", "x", 1));
	assert_ok(hf_archive_end(&a));
	hf_archive_done(&a);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_size <= 150000);
	tar = inflate_all(fd, &len);
	assert_int_equal(len, 512 + 100352 + 1024 + 1024);
	(void)hf_close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_blocks_of_a_ustar_archive),
		cmocka_unit_test(what_might_not_fit_is_refused_before_it_is_written),
	};
	return HF_RUN_TESTS(tests);
}
