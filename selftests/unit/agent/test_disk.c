/* SPDX-License-Identifier: Apache-2.0 */
/* The writer of small files: what is written, in which order, and what the owner hears. */
#include "selftests/unit/agent/loop_util.h"

#include <poll.h>
#include <sys/stat.h>

#include "base/disk.h"

struct heard {
	bool done;
	int r;
	unsigned calls;
};

static void on_done(int r, void *userdata)
{
	struct heard *h = userdata;

	h->done = true;
	h->r = r;
	h->calls++;
}

static void assert_content(const struct hf_test_dir *d, const char *path, const char *want)
{
	_cleanup_free_ char *text = NULL;
	size_t len;

	assert_ok(hf_read_file(d->fd, path, 4096, &text, &len));
	assert_string_equal(text, want);
}

static void a_write_is_durable_when_its_owner_hears_of_it(void **state)
{
	const struct hf_test_dir *d = *state;
	struct heard h = {};
	struct hf_disk *disk;
	struct stat st;
	sd_event *event;

	assert_ok(sd_event_new(&event));
	assert_ok(hf_disk_new(event, d->fd, &disk));
	assert_ok(hf_disk_write(disk, "a", "hello", 5, 0600, on_done, &h));
	hf_test_run_until(event, &h.done);
	assert_int_equal(h.r, 0);
	assert_content(d, "a", "hello");
	assert_int_equal(fstatat(d->fd, "a", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	hf_disk_free(disk);
	sd_event_unref(event);
}

static void the_last_content_of_a_path_wins(void **state)
{
	const struct hf_test_dir *d = *state;
	struct heard h = {};
	struct hf_disk *disk;
	sd_event *event;
	char text[16];

	assert_ok(sd_event_new(&event));
	assert_ok(hf_disk_new(event, d->fd, &disk));
	for (int i = 0; i < 1000; i++) {
		(void)snprintf(text, sizeof(text), "%d", i);
		assert_ok(hf_disk_write(disk, "a", text, strlen(text), 0600, NULL, NULL));
	}
	assert_ok(hf_disk_write(disk, "b", "last", 4, 0600, on_done, &h));
	hf_test_run_until(event, &h.done);
	assert_content(d, "a", "999");
	hf_disk_free(disk);
	sd_event_unref(event);
}

static void what_may_wait_is_replaced_by_what_comes_later_and_hurried_by_what_may_not(void **state)
{
	const struct hf_test_dir *d = *state;
	struct heard h = {};
	struct hf_disk *disk;
	sd_event *event;

	assert_ok(sd_event_new(&event));
	assert_ok(hf_disk_new(event, d->fd, &disk));
	assert_ok(hf_disk_write_later(disk, "a", "old", 3, 0600));
	assert_ok(hf_disk_write_later(disk, "a", "new", 3, 0600));
	/* In order: when the second is written, the first one is. */
	assert_ok(hf_disk_write(disk, "b", "now", 3, 0600, on_done, &h));
	hf_test_run_until(event, &h.done);
	assert_content(d, "a", "new");
	/* And it does not wait for ever. */
	assert_ok(hf_disk_write_later(disk, "a", "last", 4, 0600));
	for (int i = 0; i < 5000 && !hf_disk_idle(disk); i++)
		(void)poll(NULL, 0, 1);
	assert_content(d, "a", "last");
	hf_disk_free(disk);
	sd_event_unref(event);
}

static void every_owner_that_waits_is_told_once(void **state)
{
	const struct hf_test_dir *d = *state;
	struct heard h = {}, last = {};
	struct hf_disk *disk;
	sd_event *event;

	assert_ok(sd_event_new(&event));
	assert_ok(hf_disk_new(event, d->fd, &disk));
	for (int i = 0; i < 20; i++)
		assert_ok(hf_disk_write(disk, "a", "x", 1, 0600, on_done, &h));
	assert_ok(hf_disk_unlink(disk, "a", on_done, &last));
	hf_test_run_until(event, &last.done);
	assert_int_equal(h.calls, 20);
	assert_int_equal(last.r, 0);
	assert_int_equal(faccessat(d->fd, "a", F_OK, 0), -1);
	hf_disk_free(disk);
	sd_event_unref(event);
}

static void closing_writes_what_is_queued(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_disk *disk;
	sd_event *event;

	assert_ok(sd_event_new(&event));
	assert_ok(hf_disk_new(event, d->fd, &disk));
	for (char c = 'a'; c <= 'z'; c++) {
		const char name[2] = {c, 0};

		assert_ok(hf_disk_write(disk, name, name, 1, 0600, NULL, NULL));
	}
	hf_disk_close(disk, 5000);
	assert_content(d, "z", "z");
	sd_event_unref(event);
}

static void a_directory_that_is_gone_is_an_error_for_the_owner(void **state)
{
	const struct hf_test_dir *d = *state;
	struct heard h = {};
	struct hf_disk *disk;
	sd_event *event;

	assert_ok(sd_event_new(&event));
	assert_ok(hf_disk_new(event, d->fd, &disk));
	assert_ok(hf_disk_write(disk, "no/such/dir", "x", 1, 0600, on_done, &h));
	hf_test_run_until(event, &h.done);
	assert_err(h.r, -ENOENT);
	/* Removing what is not there is fine. */
	h.done = false;
	assert_ok(hf_disk_unlink(disk, "nothing", on_done, &h));
	hf_test_run_until(event, &h.done);
	assert_int_equal(h.r, 0);
	hf_disk_free(disk);
	sd_event_unref(event);
}

static void the_queue_is_bounded(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_disk *disk;
	sd_event *event;
	char *big = calloc(1, HF_DISK_BYTES_MAX + 1);
	bool full = false;

	assert_non_null(big);
	assert_ok(sd_event_new(&event));
	assert_ok(hf_disk_new(event, d->fd, &disk));
	assert_err(hf_disk_write(disk, "a", big, HF_DISK_BYTES_MAX + 1, 0600, NULL, NULL),
		   -EMSGSIZE);
	for (unsigned i = 0; i < 20 * HF_DISK_JOBS_MAX && !full; i++) {
		char name[16];
		int r;

		(void)snprintf(name, sizeof(name), "f%u", i);
		r = hf_disk_write(disk, name, "x", 1, 0600, NULL, NULL);
		full = r == -ENOBUFS;
		assert_true(r == 0 || full);
	}
	assert_true(full);
	hf_disk_close(disk, 0);
	sd_event_unref(event);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_write_is_durable_when_its_owner_hears_of_it,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(the_last_content_of_a_path_wins, hf_test_dir_setup,
						hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(
			what_may_wait_is_replaced_by_what_comes_later_and_hurried_by_what_may_not,
			hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(every_owner_that_waits_is_told_once,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(closing_writes_what_is_queued, hf_test_dir_setup,
						hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(a_directory_that_is_gone_is_an_error_for_the_owner,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(the_queue_is_bounded, hf_test_dir_setup,
						hf_test_dir_teardown),
	};
	return HF_RUN_TESTS(tests);
}
