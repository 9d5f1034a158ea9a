/* SPDX-License-Identifier: Apache-2.0 */
/* What the black box gives back after any end. */
#include "selftests/unit/test_util.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "userspace/agent/blackbox.h"

static void the_first_start_has_no_predecessor(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_blackbox_record r;
	struct hf_blackbox *b;

	assert_ok(hf_blackbox_open(d->fd, "box", &b));
	assert_false(hf_blackbox_previous(b, &r));
	b = hf_blackbox_free(b);
	/* Opened but never written is still none. */
	assert_ok(hf_blackbox_open(d->fd, "box", &b));
	assert_false(hf_blackbox_previous(b, &r));
	hf_blackbox_free(b);
}

static void a_killed_process_leaves_its_last_word(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_blackbox_record r = {.session_epoch = 41};
	struct hf_blackbox *b;
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		if (hf_blackbox_open(d->fd, "box", &b) < 0)
			_exit(1);
		hf_blackbox_write(b, &r);
		r.session_epoch = 42;
		(void)snprintf(r.reason, sizeof(r.reason), "agent_stopped");
		hf_blackbox_write(b, &r);
		(void)kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_ok(hf_blackbox_open(d->fd, "box", &b));
	assert_true(hf_blackbox_previous(b, &r));
	assert_int_equal(r.session_epoch, 42);
	assert_string_equal(r.reason, "agent_stopped");
	hf_blackbox_free(b);
}

static void a_torn_write_leaves_the_one_before(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_blackbox_record r = {};
	struct hf_blackbox *b;
	struct stat st;
	uint8_t page[4096];
	size_t hits = 0;
	int fd;

	assert_ok(hf_blackbox_open(d->fd, "box", &b));
	for (uint64_t i = 1; i <= 9; i++) {
		r.session_epoch = i;
		hf_blackbox_write(b, &r);
	}
	hf_blackbox_free(b);
	fd = openat(d->fd, "box", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, sizeof(page));
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(pread(fd, page, sizeof(page), 0), sizeof(page));
	/* Damage the newest slot: the one that has epoch 9 in it. */
	for (size_t i = 0; i + 8 <= sizeof(page); i += 8) {
		uint64_t v;

		memcpy(&v, page + i, 8);
		if (v == 9 && hits++ == 0) {
			v = 10;
			assert_int_equal(pwrite(fd, &v, 8, (off_t)i), 8);
		}
	}
	assert_true(hits > 0);
	(void)hf_close(fd);
	assert_ok(hf_blackbox_open(d->fd, "box", &b));
	assert_true(hf_blackbox_previous(b, &r));
	assert_int_equal(r.session_epoch, 8);
	hf_blackbox_free(b);
}

static void garbage_is_no_predecessor(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_blackbox_record r;
	struct hf_blackbox *b;
	uint8_t page[8192];

	memset(page, 0xa5, sizeof(page));
	assert_ok(hf_write_file_atomic(d->fd, "box", page, sizeof(page), 0600));
	assert_ok(hf_blackbox_open(d->fd, "box", &b));
	assert_false(hf_blackbox_previous(b, &r));
	hf_blackbox_free(b);
	hf_test_write(d, "box", "short");
	assert_ok(hf_blackbox_open(d->fd, "box", &b));
	assert_false(hf_blackbox_previous(b, &r));
	hf_blackbox_free(b);
}

static void a_link_in_its_place_is_refused(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_blackbox *b;

	assert_int_equal(symlinkat("/etc/passwd", d->fd, "box"), 0);
	assert_err(hf_blackbox_open(d->fd, "box", &b), -ELOOP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_first_start_has_no_predecessor,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(a_killed_process_leaves_its_last_word,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(a_torn_write_leaves_the_one_before,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(garbage_is_no_predecessor, hf_test_dir_setup,
						hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(a_link_in_its_place_is_refused, hf_test_dir_setup,
						hf_test_dir_teardown),
	};
	return HF_RUN_TESTS(tests);
}
