/* SPDX-License-Identifier: Apache-2.0 */
/* Bundles: made, signed, read, unpacked; and every way in which a stranger's can be wrong. */
#include "selftests/unit/release/keys_fixture.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "base/str.h"
#include "userspace/release/bundle.h"

#define NOW (MADE + DAY)

static struct hf_manifest head(void)
{
	return (struct hf_manifest){.product = "holdfast",
				    .component = "agent",
				    .version = "1.4.0",
				    .os = "linux",
				    .arch = "x86_64",
				    .distro = "any",
				    .libc = "any",
				    .environment = "any",
				    .security_epoch = 1,
				    .min_from_version = "0.0.0",
				    .created_s = MADE,
				    .expires_s = MADE + 100 * DAY};
}

static void put(const struct hf_test_dir *d, const char *path, const char *text, mode_t mode)
{
	hf_test_write(d, path, text);
	assert_int_equal(fchmodat(d->fd, path, mode, 0), 0);
}

/* A directory `name` with three files, one of them empty and one larger than a block. */
static int source_dir(const struct hf_test_dir *d, const char *name)
{
	static char large[150001];
	char path[64];
	int fd;

	(void)hf_strf(path, sizeof(path), "%s/share/doc", name);
	assert_ok(hf_mkdir_p(d->fd, path, 0755));
	(void)hf_strf(path, sizeof(path), "%s/bin", name);
	assert_ok(hf_mkdir_p(d->fd, path, 0755));
	memset(large, 'x', sizeof(large) - 1);
	(void)hf_strf(path, sizeof(path), "%s/bin/agent", name);
	put(d, path, large, 0755);
	(void)hf_strf(path, sizeof(path), "%s/share/doc/README", name);
	put(d, path, "read me\n", 0644);
	(void)hf_strf(path, sizeof(path), "%s/share/empty", name);
	put(d, path, "", 0600);
	fd = openat(d->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int memory_file(void)
{
	int fd = memfd_create("bundle", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* The bundle of `name`, signed by KEY_A; the caller closes it. */
static int signed_bundle(const struct hf_test_dir *d, const char *name)
{
	_cleanup_close_ int files = source_dir(d, name), plain = memory_file();
	struct hf_secret_key k = test_key(KEY_A);
	struct hf_manifest m = head();
	struct hf_err err = {};
	int fd = memory_file();

	assert_ok(hf_bundle_build(&m, files, plain, &err));
	free(m.files);
	assert_ok(hf_bundle_sign(plain, &k, fd, &err));
	return fd;
}

static enum hf_refusal verify(struct hf_bundle *b, const char *installed)
{
	struct hf_keylist keys = test_list();
	struct hf_release_host host = {.product = "holdfast", .os = "linux", .arch = "x86_64"};
	struct hf_release_state state = {.component = "agent", .version = installed};
	struct hf_release_question q = {
		.keys = &keys, .host = &host, .state = &state, .now_s = NOW};

	return hf_bundle_verify(b, &q, NULL);
}

static void a_bundle_has_the_files_it_was_made_of(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	_cleanup_close_ int fd = signed_bundle(d, "src");
	const struct hf_manifest *m;
	struct hf_err err = {};

	assert_ok(hf_bundle_open(fd, &b, &err));
	m = hf_bundle_manifest(b);
	assert_int_equal(m->n_files, 3);
	assert_string_equal(m->files[0].path, "bin/agent");
	assert_int_equal(m->files[0].mode, 0555);
	assert_int_equal(m->files[0].size, 150000);
	assert_string_equal(m->files[1].path, "share/doc/README");
	assert_int_equal(m->files[1].mode, 0444);
	assert_string_equal(m->files[2].path, "share/empty");
	assert_int_equal(m->files[2].size, 0);
	assert_int_equal(m->payload_bytes, 150008);
	assert_memory_equal(m->key_id, test_key(KEY_A).pub.id, HF_KEY_ID_SIZE);
	assert_ok(hf_bundle_check_files(b, &err));
	assert_int_equal(verify(b, NULL), HF_RELEASE_OK);
	assert_int_equal(verify(b, "1.5.0"), HF_RELEASE_DOWNGRADE);
}

static void the_same_files_make_the_same_bytes(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_close_ int a = signed_bundle(d, "one"), b = signed_bundle(d, "two");
	static char x[200000], y[200000];
	ssize_t n;

	n = pread(a, x, sizeof(x), 0);
	assert_int_equal(n, pread(b, y, sizeof(y), 0));
	assert_memory_equal(x, y, (size_t)n);
}

static void an_unpacked_release_is_sealed_and_checked(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	_cleanup_close_ int fd = signed_bundle(d, "src"), out = -1;
	struct hf_err err = {};
	struct stat st;

	assert_ok(hf_bundle_open(fd, &b, &err));
	assert_int_equal(verify(b, NULL), HF_RELEASE_OK);
	assert_int_equal(mkdirat(d->fd, "out", 0700), 0);
	out = openat(d->fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(hf_bundle_unpack(b, &hf_io_real, out, &err));
	assert_int_equal(fstatat(out, "bin/agent", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0555);
	assert_int_equal(st.st_size, 150000);
	assert_int_equal(fstatat(out, "bin", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0555);
	assert_int_equal(fstatat(out, HF_RELEASE_MANIFEST, &st, 0), 0);
	assert_ok(hf_release_check_tree(&hf_io_real, out, hf_bundle_manifest(b), &err));

	/* What could be done to it afterwards. */
	put(d, "out/share/added", "", 0444);
	assert_err(hf_release_check_tree(&hf_io_real, out, hf_bundle_manifest(b), &err), -EBADMSG);
	assert_string_equal(err.msg, "6 files, 5 are in the manifest");
	assert_int_equal(unlinkat(out, "share/added", 0), 0);
	put(d, "out/share/doc/README", "read mE\n", 0444);
	assert_err(hf_release_check_tree(&hf_io_real, out, hf_bundle_manifest(b), &err), -EBADMSG);
	assert_string_equal(err.msg,
			    "'share/doc/README': its content is not the one of the manifest");
	put(d, "out/share/doc/README", "read me", 0444);
	assert_err(hf_release_check_tree(&hf_io_real, out, hf_bundle_manifest(b), &err), -EBADMSG);
	put(d, "out/share/doc/README", "read me\n", 04755);
	assert_err(hf_release_check_tree(&hf_io_real, out, hf_bundle_manifest(b), &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "its mode"));
	assert_int_equal(unlinkat(out, "share/doc/README", 0), 0);
	assert_err(hf_release_check_tree(&hf_io_real, out, hf_bundle_manifest(b), &err), -ENOENT);
	assert_int_equal(symlinkat("../../bin/agent", out, "share/doc/README"), 0);
	assert_err(hf_release_check_tree(&hf_io_real, out, hf_bundle_manifest(b), &err), -ELOOP);

	assert_ok(hf_io_remove_tree(&hf_io_real, d->fd, "out"));
	assert_int_equal(fstatat(d->fd, "out", &st, 0), -1);
	assert_ok(hf_io_remove_tree(&hf_io_real, d->fd, "out"));
}

static void a_trap_in_the_target_is_not_walked_into(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	_cleanup_close_ int fd = signed_bundle(d, "src"), out = -1;
	struct hf_err err = {};
	struct stat st;

	assert_ok(hf_bundle_open(fd, &b, &err));
	assert_int_equal(verify(b, NULL), HF_RELEASE_OK);
	assert_int_equal(mkdirat(d->fd, "out", 0700), 0);
	assert_int_equal(mkdirat(d->fd, "elsewhere", 0700), 0);
	out = openat(d->fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(symlinkat("../elsewhere", out, "bin"), 0);
	assert_err(hf_bundle_unpack(b, &hf_io_real, out, &err), -ENOTDIR);
	assert_int_equal(fstatat(d->fd, "elsewhere/agent", &st, 0), -1);
	assert_int_equal(unlinkat(out, "bin", 0), 0);
	assert_int_equal(mkdirat(out, "bin", 0700), 0);
	assert_int_equal(symlinkat("../../elsewhere/agent", out, "bin/agent"), 0);
	assert_err(hf_bundle_unpack(b, &hf_io_real, out, &err), -EEXIST);
	assert_int_equal(fstatat(d->fd, "elsewhere/agent", &st, 0), -1);
}

/* The bundle's bytes in memory, for tests that damage them. */
static uint8_t *bytes_of(int fd, size_t *ret_len)
{
	struct stat st;
	uint8_t *p;

	assert_int_equal(fstat(fd, &st), 0);
	p = malloc((size_t)st.st_size);
	assert_non_null(p);
	assert_int_equal(pread(fd, p, (size_t)st.st_size, 0), st.st_size);
	*ret_len = (size_t)st.st_size;
	return p;
}

/* 0: the whole of it is good and may be installed. */
static int judge_bytes(const uint8_t *p, size_t len)
{
	_cleanup_close_ int fd = memory_file();
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	struct hf_err err = {};
	int r;

	assert_ok(hf_write_full(fd, p, len));
	r = hf_bundle_open(fd, &b, &err);
	assert_true((r < 0) == (err.code < 0));
	if (r < 0)
		return r;
	if (verify(b, NULL) != HF_RELEASE_OK)
		return -EKEYREJECTED;
	return hf_bundle_check_files(b, NULL);
}

static void small_source(const struct hf_test_dir *d)
{
	assert_int_equal(mkdirat(d->fd, "small", 0755), 0);
	put(d, "small/a", "aaaa", 0755);
	put(d, "small/b", "bbbb", 0644);
}

static int small_bundle(const struct hf_test_dir *d)
{
	_cleanup_close_ int files = -1, plain = memory_file();
	struct hf_secret_key k = test_key(KEY_A);
	struct hf_manifest m = head();
	int fd = memory_file();

	small_source(d);
	files = openat(d->fd, "small", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(hf_bundle_build(&m, files, plain, NULL));
	free(m.files);
	assert_ok(hf_bundle_sign(plain, &k, fd, NULL));
	return fd;
}

static void every_truncation_is_refused(void **state)
{
	_cleanup_close_ int fd = small_bundle(*state);
	size_t len;
	_cleanup_free_ uint8_t *p = bytes_of(fd, &len);

	assert_ok(judge_bytes(p, len));
	for (size_t n = 0; n < len; n++)
		assert_err(judge_bytes(p, n), -EBADMSG);
}

static void every_bit_flip_is_refused(void **state)
{
	_cleanup_close_ int fd = small_bundle(*state);
	size_t len;
	_cleanup_free_ uint8_t *p = bytes_of(fd, &len);

	for (size_t bit = 0; bit < 8 * len; bit++) {
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_true(judge_bytes(p, len) < 0);
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_ok(judge_bytes(p, len));
}

static void what_stands_behind_the_end_is_refused(void **state)
{
	_cleanup_close_ int fd = small_bundle(*state);
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	struct hf_err err = {};
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_ok(hf_pwrite_full(fd, "", 1, st.st_size));
	assert_err(hf_bundle_open(fd, &b, &err), -EBADMSG);
	assert_string_equal(err.msg, "there is something behind the bundle's end");
}

static void lengths_of_a_stranger_take_no_memory(void **state)
{
	_cleanup_close_ int fd = small_bundle(*state);
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	struct hf_err err = {};

	assert_ok(hf_pwrite_full(fd, "\xff\xff\xff\xff", 4, 8));
	assert_err(hf_bundle_open(fd, &b, &err), -EFBIG);
	assert_ok(hf_pwrite_full(fd, "\x00\x00\x04\x00", 4, 8)); /* 256 KiB, the cap */
	assert_err(hf_bundle_open(fd, &b, &err), -EBADMSG);
	assert_string_equal(err.msg, "the bundle ends within its manifest");
}

static void files_of_two_releases_do_not_mix(void **state)
{
	_cleanup_close_ int fd = small_bundle(*state);
	size_t len;
	_cleanup_free_ uint8_t *p = bytes_of(fd, &len);

	/* a's bytes and b's bytes change places: each is a file of the release, in its size. */
	memcpy(p + len - 8, "bbbbaaaa", 8);
	assert_err(judge_bytes(p, len), -EBADMSG);
	memcpy(p + len - 8, "aaaabbbb", 8);
	assert_ok(judge_bytes(p, len));
}

static void a_wrong_payload_is_not_left_unpacked_as_good(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_close_ int fd = small_bundle(d), out = -1;
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	struct hf_err err = {};
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_ok(hf_bundle_open(fd, &b, &err));
	assert_int_equal(verify(b, NULL), HF_RELEASE_OK);
	/* The download is swapped between verification and unpacking. */
	assert_ok(hf_pwrite_full(fd, "evil", 4, st.st_size - 4));
	assert_int_equal(mkdirat(d->fd, "out", 0700), 0);
	out = openat(d->fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_err(hf_bundle_unpack(b, &hf_io_real, out, &err), -EBADMSG);
	assert_string_equal(err.msg, "file 'b' is not the one of the manifest");
	assert_int_equal(fstatat(out, HF_RELEASE_MANIFEST, &st, 0), -1);
}

static void an_unsigned_bundle_is_named_so(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_close_ int files = -1, plain = memory_file();
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	struct hf_manifest m = head();

	small_source(d);
	files = openat(d->fd, "small", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(hf_bundle_build(&m, files, plain, NULL));
	free(m.files);
	assert_ok(hf_bundle_open(plain, &b, NULL));
	assert_int_equal(verify(b, NULL), HF_RELEASE_UNSIGNED);
}

static void what_has_no_place_in_a_release_is_not_built(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_close_ int files = -1, out = memory_file();
	struct hf_manifest m = head();
	struct hf_err err = {};

	small_source(d);
	files = openat(d->fd, "small", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(symlinkat("/etc/passwd", files, "link"), 0);
	assert_err(hf_bundle_build(&m, files, out, &err), -EINVAL);
	assert_string_equal(err.msg, "'link' is neither a regular file nor a directory");
	assert_int_equal(unlinkat(files, "link", 0), 0);
	put(d, "small/su", "", 04755);
	assert_err(hf_bundle_build(&m, files, out, &err), -EINVAL);
	assert_string_equal(err.msg, "'su' has a setuid, setgid or sticky bit");
	assert_int_equal(unlinkat(files, "su", 0), 0);
	put(d, "small/.git", "", 0644);
	assert_err(hf_bundle_build(&m, files, out, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "'.git': a component that is no word"));
	assert_int_equal(unlinkat(files, ".git", 0), 0);
	assert_int_equal(mkfifoat(files, "fifo", 0600), 0);
	assert_err(hf_bundle_build(&m, files, out, &err), -EINVAL);
	assert_int_equal(unlinkat(files, "fifo", 0), 0);
	assert_int_equal(unlinkat(files, "a", 0) + unlinkat(files, "b", 0), 0);
	assert_err(hf_bundle_build(&m, files, out, &err), -EINVAL);
	assert_string_equal(err.msg, "the manifest has no file");
	free(m.files);
}

#define WITH_DIR(test) \
	cmocka_unit_test_setup_teardown(test, hf_test_dir_setup, hf_test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DIR(a_bundle_has_the_files_it_was_made_of),
		WITH_DIR(the_same_files_make_the_same_bytes),
		WITH_DIR(an_unpacked_release_is_sealed_and_checked),
		WITH_DIR(a_trap_in_the_target_is_not_walked_into),
		WITH_DIR(every_truncation_is_refused),
		WITH_DIR(every_bit_flip_is_refused),
		WITH_DIR(what_stands_behind_the_end_is_refused),
		WITH_DIR(lengths_of_a_stranger_take_no_memory),
		WITH_DIR(files_of_two_releases_do_not_mix),
		WITH_DIR(a_wrong_payload_is_not_left_unpacked_as_good),
		WITH_DIR(an_unsigned_bundle_is_named_so),
		WITH_DIR(what_has_no_place_in_a_release_is_not_built),
	};

	return HF_RUN_TESTS(tests);
}
