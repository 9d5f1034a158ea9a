/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors and whole files, on a real directory. */
#include "selftests/unit/test_util.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static unsigned count_entries(const struct hf_test_dir *d)
{
	DIR *dir = opendir(d->path);
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)))
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	(void)closedir(dir);
	return n;
}

static void assert_content(const struct hf_test_dir *d, const char *name, const char *want)
{
	_cleanup_free_ char *buf = NULL;
	size_t len = 0;

	assert_ok(hf_read_file(d->fd, name, 1 << 20, &buf, &len));
	assert_int_equal(len, strlen(want));
	assert_string_equal(buf, want);
}

static void close_keeps_errno_and_forgets(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	errno = E2BIG;
	fd = hf_close(fd);
	assert_int_equal(fd, -1);
	assert_int_equal(hf_close(fd), -1);
	assert_int_equal(hf_close(999999), -1);
	assert_int_equal(errno, E2BIG);
}

static void cleanup_closes_unless_taken(void **state)
{
	int before = hf_count_open_fds();
	int kept;

	(void)state;
	{
		_cleanup_close_ int gone = open("/dev/null", O_RDONLY | O_CLOEXEC);
		_cleanup_close_ int owner = open("/dev/null", O_RDONLY | O_CLOEXEC);

		assert_int_equal(hf_count_open_fds(), before + 2);
		kept = TAKE_FD(owner);
		assert_int_equal(owner, -1);
		assert_true(gone >= 0);
	}
	assert_int_equal(hf_count_open_fds(), before + 1);
	(void)hf_close(kept);
}

static void reading_refuses_what_is_no_file(void **state)
{
	const struct hf_test_dir *d = *state;
	char *buf = (char *)"untouched";
	size_t len = 7;

	assert_err(hf_read_file(d->fd, "absent", 10, &buf, &len), -ENOENT);
	assert_err(hf_read_file(d->fd, ".", 10, &buf, &len), -EISDIR);
	/* Returns at once although nobody writes into it. */
	assert_int_equal(mkfifoat(d->fd, "fifo", 0600), 0);
	assert_err(hf_read_file(d->fd, "fifo", 10, &buf, &len), -EINVAL);
	hf_test_write(d, "eleven", "12345678901");
	assert_err(hf_read_file(d->fd, "eleven", 10, &buf, &len), -EFBIG);
	assert_string_equal(buf, "untouched");
	assert_int_equal(len, 7);
}

static void reading_gives_the_whole_with_a_nul(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_free_ char *proc = NULL;
	size_t len;

	hf_test_write(d, "ten", "1234567890");
	hf_test_write(d, "empty", "");
	assert_content(d, "ten", "1234567890");
	assert_content(d, "empty", "");
	/* A /proc file says it has 0 bytes. */
	assert_ok(hf_read_file(AT_FDCWD, "/proc/self/stat", 1 << 16, &proc, &len));
	assert_true(len > 20);
	assert_int_equal(strlen(proc), len);
}

static void a_growing_proc_file_is_capped(void **state)
{
	char *buf = NULL;

	(void)state;
	assert_err(hf_read_file(AT_FDCWD, "/proc/self/maps", 100, &buf, NULL), -EFBIG);
	assert_null(buf);
}

static void atomic_write_replaces_with_exact_mode(void **state)
{
	const struct hf_test_dir *d = *state;
	struct stat st;
	mode_t mask = umask(077);

	assert_ok(hf_write_file_atomic(d->fd, "f", "old", 3, 0644));
	(void)umask(mask);
	assert_int_equal(fstatat(d->fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_ok(hf_write_file_atomic(d->fd, "f", "new!", 4, 0600));
	assert_content(d, "f", "new!");
	assert_int_equal(fstatat(d->fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(count_entries(d), 1);
}

static void atomic_write_reuses_what_a_crash_left(void **state)
{
	const struct hf_test_dir *d = *state;

	hf_test_write(d, ".f.tmp", "half of something longer");
	assert_ok(hf_write_file_atomic(d->fd, "f", "new", 3, 0600));
	assert_content(d, "f", "new");
	assert_int_equal(count_entries(d), 1);
}

static void atomic_write_follows_no_link_and_writes_no_linked_file(void **state)
{
	const struct hf_test_dir *d = *state;

	hf_test_write(d, "victim", "precious");
	assert_int_equal(symlinkat("victim", d->fd, ".f.tmp"), 0);
	assert_ok(hf_write_file_atomic(d->fd, "f", "1", 1, 0600));
	assert_content(d, "victim", "precious");
	assert_int_equal(linkat(d->fd, "victim", d->fd, ".f.tmp", 0), 0);
	assert_ok(hf_write_file_atomic(d->fd, "f", "2", 1, 0600));
	assert_content(d, "victim", "precious");
	assert_content(d, "f", "2");
	assert_int_equal(mkfifoat(d->fd, ".f.tmp", 0600), 0);
	assert_ok(hf_write_file_atomic(d->fd, "f", "3", 1, 0600));
	assert_content(d, "f", "3");
}

static void atomic_write_keeps_the_old_content_on_failure(void **state)
{
	const struct hf_test_dir *d = *state;

	assert_err(hf_write_file_atomic(d->fd, "absent/f", "x", 1, 0600), -ENOENT);
	assert_err(hf_write_file_atomic(d->fd, "", "x", 1, 0600), -EINVAL);
	assert_err(hf_write_file_atomic(d->fd, "..", "x", 1, 0600), -EINVAL);
	assert_err(hf_write_file_atomic(d->fd, "dir/", "x", 1, 0600), -EINVAL);
	assert_int_equal(mkdirat(d->fd, "dir", 0700), 0);
	assert_err(hf_write_file_atomic(d->fd, "dir", "x", 1, 0600), -EISDIR);
	assert_int_equal(count_entries(d), 1);
}

static void a_full_disk_keeps_the_old_content(void **state)
{
	const struct hf_test_dir *d = *state;
	static const char big[4096];
	int status;
	pid_t pid;

	hf_test_write(d, "f", "old");
	pid = fork();
	assert_ok(pid);
	if (pid == 0) {
		/* The write is cut short in the middle, as on a full disk, and the next one fails. */
		struct rlimit cap = {.rlim_cur = 1000, .rlim_max = 1000};

		(void)signal(SIGXFSZ, SIG_IGN);
		if (setrlimit(RLIMIT_FSIZE, &cap) < 0)
			_exit(2);
		_exit(hf_write_file_atomic(d->fd, "f", big, sizeof(big), 0600) != -EFBIG);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_content(d, "f", "old");
	assert_int_equal(count_entries(d), 1);
}

static void writers_of_one_file_take_turns(void **state)
{
	const struct hf_test_dir *d = *state;
	enum { WRITERS = 4, ROUNDS = 20, SIZE = 5000 };
	_cleanup_free_ char *buf = NULL;
	size_t len;

	for (int w = 0; w < WRITERS; w++) {
		pid_t pid = fork();

		assert_ok(pid);
		if (pid == 0) {
			char mine[SIZE];

			memset(mine, 'a' + w, sizeof(mine));
			for (int i = 0; i < ROUNDS; i++)
				if (hf_write_file_atomic(d->fd, "f", mine, sizeof(mine), 0600) < 0)
					_exit(1);
			_exit(0);
		}
	}
	for (int w = 0; w < WRITERS; w++) {
		int status;

		assert_ok(wait(&status));
		assert_int_equal(status, 0);
	}
	assert_ok(hf_read_file(d->fd, "f", SIZE, &buf, &len));
	assert_int_equal(len, SIZE);
	for (size_t i = 1; i < len; i++)
		assert_int_equal(buf[i], buf[0]);
	assert_int_equal(count_entries(d), 1);
}

static void mkdir_p_makes_all_with_the_mode_and_twice(void **state)
{
	const struct hf_test_dir *d = *state;
	struct stat st;
	mode_t mask;

	assert_err(hf_mkdir_p(d->fd, "", 0700), -EINVAL);
	hf_test_write(d, "file", "");
	assert_err(hf_mkdir_p(d->fd, "file", 0700), -ENOTDIR);
	assert_err(hf_mkdir_p(d->fd, "file/x", 0700), -ENOTDIR);
	assert_int_equal(mkdirat(d->fd, "a", 0711), 0);
	mask = umask(077);
	assert_ok(hf_mkdir_p(d->fd, "a//b/c/", 0755));
	(void)umask(mask);
	assert_ok(hf_mkdir_p(d->fd, "a/b/c", 0700));
	assert_int_equal(fstatat(d->fd, "a", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
	assert_int_equal(fstatat(d->fd, "a/b", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(fstatat(d->fd, "a/b/c", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_ok(hf_mkdir_p(AT_FDCWD, d->path, 0700));
	assert_ok(hf_sync_dir(d->fd, "a/b"));
	assert_err(hf_sync_dir(d->fd, "file"), -ENOTDIR);
}

static void full_io_survives_a_pipe_in_pieces(void **state)
{
	char out[100000], in[sizeof(out)];
	int p[2], status;
	pid_t pid;

	(void)state;
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (char)(i * 7);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid = fork();
	assert_ok(pid);
	if (pid == 0)
		_exit(hf_write_full(p[1], out, sizeof(out)) < 0);
	(void)hf_close(p[1]);
	assert_int_equal(hf_read_full(p[0], in, sizeof(in)), sizeof(in));
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(hf_read_full(p[0], in, sizeof(in)), 0);
	(void)hf_close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void a_full_pipe_that_may_not_block_says_so(void **state)
{
	static const char big[1 << 20];
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_ok(hf_set_nonblock(p[1], true));
	assert_err(hf_write_full(p[1], big, sizeof(big)), -EAGAIN);
	assert_int_equal(fcntl(p[1], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_ok(hf_set_nonblock(p[1], false));
	assert_int_equal(fcntl(p[1], F_GETFL) & O_NONBLOCK, 0);
	assert_err(hf_set_nonblock(999999, true), -EBADF);
	(void)hf_close(p[0]);
	(void)hf_close(p[1]);
}

static void no_space_is_an_error(void **state)
{
	_cleanup_close_ int full = open("/dev/full", O_RDWR | O_CLOEXEC);

	(void)state;
	assert_ok(full);
	assert_err(hf_write_full(full, "x", 1), -ENOSPC);
	assert_err(hf_pwrite_full(full, "x", 1, 0), -ENOSPC);
	assert_err(hf_write_full(-1, "x", 1), -EBADF);
	assert_err(hf_read_full(-1, (char[1]){}, 1), -EBADF);
}

static void pwrite_lands_at_its_offset(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_close_ int fd = -1;

	hf_test_write(d, "f", "........");
	fd = openat(d->fd, "f", O_WRONLY | O_CLOEXEC);
	assert_ok(hf_pwrite_full(fd, "xy", 2, 3));
	assert_content(d, "f", "...xy...");
}

#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, hf_test_dir_setup, hf_test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(close_keeps_errno_and_forgets),
		cmocka_unit_test(cleanup_closes_unless_taken),
		WITH_DIR(reading_refuses_what_is_no_file),
		WITH_DIR(reading_gives_the_whole_with_a_nul),
		cmocka_unit_test(a_growing_proc_file_is_capped),
		WITH_DIR(atomic_write_replaces_with_exact_mode),
		WITH_DIR(atomic_write_reuses_what_a_crash_left),
		WITH_DIR(atomic_write_follows_no_link_and_writes_no_linked_file),
		WITH_DIR(atomic_write_keeps_the_old_content_on_failure),
		WITH_DIR(a_full_disk_keeps_the_old_content),
		WITH_DIR(writers_of_one_file_take_turns),
		WITH_DIR(mkdir_p_makes_all_with_the_mode_and_twice),
		cmocka_unit_test(full_io_survives_a_pipe_in_pieces),
		cmocka_unit_test(a_full_pipe_that_may_not_block_says_so),
		cmocka_unit_test(no_space_is_an_error),
		WITH_DIR(pwrite_lands_at_its_offset),
	};

	return HF_RUN_TESTS(tests);
}
