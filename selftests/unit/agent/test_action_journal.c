/* SPDX-License-Identifier: Apache-2.0 */
/* The journal of actions: what a kill, a torn file, a full journal and an old record leave. */
#include "selftests/unit/agent/loop_util.h"

#include <dirent.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "holdfast/action.h"
#include "userspace/proto/action_journal.h"

#define ID   "01900000-0000-7000-8000-000000000001"
#define ID_2 "01900000-0000-7000-8000-000000000002"
#define DAY  (24 * 3600 * HF_NS_PER_S)

struct fixture {
	struct hf_test_dir *dir;
	sd_event *event;
	struct hf_disk *disk;
	struct hf_action_journal *j;
	unsigned done;
	int r;
};

static void on_done(int r, void *userdata)
{
	struct fixture *f = userdata;

	f->done++;
	f->r = r;
}

static void open_all(struct fixture *f)
{
	assert_ok(hf_disk_new(f->event, f->dir->fd, &f->disk));
	assert_ok(hf_action_journal_open(f->dir->fd, "actions", f->disk, &f->j));
}

/* As a kill would: what is queued is finished, nothing else is said. */
static void close_all(struct fixture *f)
{
	f->disk = hf_disk_free(f->disk);
	f->j = hf_action_journal_free(f->j);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	void *dir;

	if (hf_test_dir_setup(&dir) != 0 || sd_event_new(&f->event) < 0)
		return -1;
	f->dir = dir;
	open_all(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	void *dir = f->dir;

	close_all(f);
	sd_event_unref(f->event);
	free(f);
	return hf_test_dir_teardown(&dir);
}

static void wait_done(struct fixture *f, unsigned n)
{
	while (f->done < n)
		assert_true(sd_event_run(f->event, 10 * 1000000) > 0);
}

static Action__Record *add(struct fixture *f, const char *id)
{
	Action__Record *r;

	assert_ok(hf_action_journal_add(f->j, id, 0, &r));
	r->state = HF_ACTION_RUNNING;
	hf_action_record_text(&r->kind, "restart");
	hf_action_record_bytes(&r->envelope, "sealed", 6);
	return r;
}

static void write_file(struct fixture *f, const char *path, const void *data, size_t len)
{
	int fd = openat(f->dir->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_ok(hf_write_full(fd, data, len));
	close(fd);
}

static void a_saved_record_is_there_after_a_kill(void **state)
{
	struct fixture *f = *state;
	Action__Record *r = add(f, ID);

	assert_ok(hf_action_journal_save(f->j, r, on_done, f));
	wait_done(f, 1);
	assert_int_equal(f->r, 0);
	close_all(f);
	open_all(f);
	assert_int_equal(hf_action_journal_count(f->j), 1);
	r = hf_action_journal_find(f->j, ID);
	assert_non_null(r);
	assert_int_equal(r->state, HF_ACTION_RUNNING);
	assert_string_equal(r->kind, "restart");
	assert_int_equal(r->envelope.len, 6);
	assert_memory_equal(r->envelope.data, "sealed", 6);
	assert_int_equal(hf_action_journal_damaged(f->j), 0);
}

static void what_was_not_saved_is_not_there(void **state)
{
	struct fixture *f = *state;

	(void)add(f, ID);
	close_all(f);
	open_all(f);
	assert_null(hf_action_journal_find(f->j, ID));
}

static void a_torn_file_is_an_action_whose_outcome_is_lost(void **state)
{
	struct fixture *f = *state;
	Action__Record *r = add(f, ID);
	struct hf_buf whole = {};

	assert_ok(hf_action_record_build(r, &whole));
	for (size_t len = 0; len < whole.len; len++) {
		close_all(f);
		write_file(f, "actions/" ID, whole.data, len);
		open_all(f);
		assert_int_equal(hf_action_journal_damaged(f->j), 1);
		r = hf_action_journal_find(f->j, ID);
		assert_non_null(r);
		assert_int_equal(r->state, HF_ACTION_INDETERMINATE);
		assert_int_equal(r->refusal, HF_ACTION_REFUSED_LOST);
		assert_false(r->confirmed);
	}
	hf_buf_done(&whole);
}

static void every_flipped_bit_is_noticed(void **state)
{
	struct fixture *f = *state;
	Action__Record *r = add(f, ID), *back;
	struct hf_buf whole = {};

	assert_ok(hf_action_record_build(r, &whole));
	assert_ok(hf_action_record_parse(ID, whole.data, whole.len, &back));
	action__record__free_unpacked(back, NULL);
	for (size_t bit = 0; bit < whole.len * 8; bit++) {
		whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_err(hf_action_record_parse(ID, whole.data, whole.len, &back), -EBADMSG);
		whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	/* Whole, but another action's. */
	assert_err(hf_action_record_parse(ID_2, whole.data, whole.len, &back), -EBADMSG);
	hf_buf_done(&whole);
}

static void leftovers_go_and_attachments_of_a_record_stay(void **state)
{
	struct fixture *f = *state;
	Action__Record *r = add(f, ID);
	struct stat st;

	r->result_bytes = 3;
	assert_ok(hf_action_journal_save(f->j, r, on_done, f));
	wait_done(f, 1);
	close_all(f);
	write_file(f, "actions/" ID ".result", "abc", 3);
	write_file(f, "actions/" ID ".artifact", "of nothing", 10);
	write_file(f, "actions/" ID_2 ".result", "of nobody", 9);
	write_file(f, "actions/" ID ".result.new", "torn", 4);
	open_all(f);
	assert_int_equal(fstatat(f->dir->fd, "actions/" ID ".result", &st, 0), 0);
	assert_int_equal(fstatat(f->dir->fd, "actions/" ID ".artifact", &st, 0), -1);
	assert_int_equal(fstatat(f->dir->fd, "actions/" ID_2 ".result", &st, 0), -1);
	assert_int_equal(fstatat(f->dir->fd, "actions/" ID ".result.new", &st, 0), -1);
	hf_action_journal_remove(f->j, hf_action_journal_find(f->j, ID));
	close_all(f);
	assert_int_equal(fstatat(f->dir->fd, "actions/" ID ".result", &st, 0), -1);
	assert_int_equal(fstatat(f->dir->fd, "actions/" ID, &st, 0), -1);
	open_all(f);
}

static void ids_have_one_spelling(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"../etc/passwd",
		"01900000-0000-7000-8000-00000000000",
		"01900000-0000-7000-8000-00000000000A",
		"01900000-0000-7000-8000-0000000000011",
	};
	struct fixture *f = *state;
	Action__Record *r;

	for (size_t i = 0; i < HF_ARRAY_SIZE(bad); i++)
		assert_err(hf_action_journal_add(f->j, bad[i], 0, &r), -EINVAL);
	(void)add(f, ID);
	assert_err(hf_action_journal_add(f->j, ID, 0, &r), -EEXIST);
}

static void only_what_is_over_confirmed_and_old_is_forgotten(void **state)
{
	static const struct {
		unsigned state;
		bool confirmed;
		uint64_t now;
		bool old;
	} rows[] = {
		{HF_ACTION_SUCCEEDED, true, 108 * DAY, true},
		{HF_ACTION_SUCCEEDED, true, 107 * DAY, false}, /* 7 days to the nanosecond */
		{HF_ACTION_SUCCEEDED, true, 107 * DAY + 1, true},
		{HF_ACTION_SUCCEEDED, false, 500 * DAY, false},
		{HF_ACTION_RUNNING, true, 500 * DAY, false},
		{HF_ACTION_INDETERMINATE, true, 500 * DAY, true},
		{HF_ACTION_SUCCEEDED, true, 0, false}, /* the portal's time is not known */
	};
	struct fixture *f = *state;
	Action__Record *r = add(f, ID);

	r->expires_unix_ns = 100 * DAY;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		r->state = rows[i].state;
		r->confirmed = rows[i].confirmed;
		assert_int_equal(hf_action_record_old(r, rows[i].now), rows[i].old);
	}
}

static void a_lost_record_is_kept_by_the_time_in_its_id(void **state)
{
	struct fixture *f = *state;
	/* 0x019000000000 ms */
	const uint64_t made = UINT64_C(0x019000000000) * HF_NS_PER_MS;
	Action__Record *r = add(f, ID);

	r->state = HF_ACTION_INDETERMINATE;
	r->confirmed = true;
	assert_false(hf_action_record_old(r, made + 13 * DAY));
	assert_true(hf_action_record_old(r, made + 15 * DAY));
}

static void a_full_journal_takes_no_more_until_something_is_old(void **state)
{
	struct fixture *f = *state;
	Action__Record *r;
	char id[HF_ACTION_ID_SIZE];

	for (unsigned i = 0; i < HF_ACTION_JOURNAL_MAX; i++) {
		hf_strf(id, sizeof(id), "01900000-0000-7000-8000-%012x", i);
		assert_ok(hf_action_journal_add(f->j, id, 10 * DAY, &r));
		r->state = HF_ACTION_SUCCEEDED;
		r->expires_unix_ns = 10 * DAY + i;
	}
	assert_err(hf_action_journal_add(f->j, "01900000-0000-7000-8000-ffffffffffff", 17 * DAY + 5,
					 &r),
		   -ENOSPC);
	/* Over and old, but the portal has not confirmed: five would be old, two are confirmed. */
	hf_action_journal_at(f->j, 0)->confirmed = true;
	hf_action_journal_at(f->j, 3)->confirmed = true;
	assert_ok(hf_action_journal_add(f->j, "01900000-0000-7000-8000-ffffffffffff", 17 * DAY + 5,
					&r));
	assert_int_equal(hf_action_journal_count(f->j), HF_ACTION_JOURNAL_MAX - 1);
	assert_null(hf_action_journal_find(f->j, "01900000-0000-7000-8000-000000000000"));
	assert_non_null(hf_action_journal_find(f->j, "01900000-0000-7000-8000-000000000001"));
}

static void a_disk_that_refuses_is_told(void **state)
{
	struct fixture *f = *state;
	Action__Record *r = add(f, ID);

	/* The directory is gone: what a mount that turned read-only does to rename(2). */
	assert_int_equal(unlinkat(f->dir->fd, "actions", AT_REMOVEDIR), 0);
	assert_ok(hf_action_journal_save(f->j, r, on_done, f));
	wait_done(f, 1);
	assert_int_equal(f->r, -ENOENT);
	assert_int_equal(mkdirat(f->dir->fd, "actions", 0700), 0);
}

static void a_record_that_would_not_be_read_is_not_written(void **state)
{
	struct fixture *f = *state;
	Action__Record *r = add(f, ID);
	_cleanup_free_ char *big = calloc(1, HF_ACTION_RECORD_MAX);

	hf_action_record_bytes(&r->envelope, big, HF_ACTION_RECORD_MAX);
	assert_err(hf_action_journal_save(f->j, r, on_done, f), -EMSGSIZE);
}

static void records_are_in_the_order_of_their_ids(void **state)
{
	struct fixture *f = *state;

	(void)add(f, ID_2);
	(void)add(f, ID);
	assert_string_equal(hf_action_journal_at(f->j, 0)->action_id, ID);
	assert_string_equal(hf_action_journal_at(f->j, 1)->action_id, ID_2);
	assert_null(hf_action_journal_at(f->j, 2));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_saved_record_is_there_after_a_kill),
		T(what_was_not_saved_is_not_there),
		T(a_torn_file_is_an_action_whose_outcome_is_lost),
		T(every_flipped_bit_is_noticed),
		T(leftovers_go_and_attachments_of_a_record_stay),
		T(ids_have_one_spelling),
		T(only_what_is_over_confirmed_and_old_is_forgotten),
		T(a_lost_record_is_kept_by_the_time_in_its_id),
		T(a_full_journal_takes_no_more_until_something_is_old),
		T(a_disk_that_refuses_is_told),
		T(a_record_that_would_not_be_read_is_not_written),
		T(records_are_in_the_order_of_their_ids),
	};
	return HF_RUN_TESTS(tests);
}
