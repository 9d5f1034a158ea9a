/* SPDX-License-Identifier: Apache-2.0 */
/* The writer thread: results, order, isolation of a failed job, the end. */
#include "selftests/unit/test_util.h"

#include <pthread.h>
#include <systemd/sd-event.h>

#include "base/str.h"
#include "tools/portal/writer.h"

struct fixture {
	struct hf_test_dir *dir;
	sd_event *event;
	struct hf_writer *w;
	char path[300];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	void *dir;

	if (hf_test_dir_setup(&dir) != 0 || sd_event_new(&f->event) < 0)
		return -1;
	f->dir = dir;
	(void)hf_strf(f->path, sizeof(f->path), "%s/db", f->dir->path);
	*state = f;
	return hf_writer_new(f->event, f->path, &f->w, NULL);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	void *dir = f->dir;

	f->w = hf_writer_free(f->w);
	f->event = sd_event_unref(f->event);
	free(f);
	return hf_test_dir_teardown(&dir);
}

struct job {
	char key[16];
	int fail_with;
	int result;
	unsigned done, order;
	pthread_t ran_in;
};

static unsigned order;

static int run(struct hf_store *s, void *arg)
{
	struct job *j = arg;
	int r = hf_store_meta_set(s, j->key, "1");

	j->ran_in = pthread_self();
	return r < 0 ? r : j->fail_with;
}

static void done(int r, void *arg)
{
	struct job *j = arg;

	j->result = r;
	j->done++;
	j->order = ++order;
}

static bool stored(struct fixture *f, const char *key)
{
	_cleanup_(hf_store_closep) struct hf_store *s = NULL;
	char value[4];

	assert_ok(hf_store_open(f->path, HF_STORE_READ, &s, NULL));
	return hf_store_meta_get(s, key, value, sizeof(value)) == 0;
}

static void a_failed_job_is_undone_alone(void **state)
{
	struct fixture *f = *state;
	struct job a = {.key = "a"}, b = {.key = "b", .fail_with = -EXDEV}, c = {.key = "c"};

	assert_ok(hf_writer_submit(f->w, run, done, &a, 1));
	assert_ok(hf_writer_submit(f->w, run, done, &b, 1));
	assert_ok(hf_writer_submit(f->w, run, done, &c, 1));
	hf_writer_drain(f->w);
	assert_int_equal(a.result, 0);
	assert_int_equal(b.result, -EXDEV);
	assert_int_equal(c.result, 0);
	assert_true(stored(f, "a"));
	assert_false(stored(f, "b"));
	assert_true(stored(f, "c"));
	assert_true(a.order < b.order && b.order < c.order);
	assert_false(pthread_equal(a.ran_in, pthread_self()));
}

static void done_runs_in_the_loop_after_the_commit(void **state)
{
	struct fixture *f = *state;
	struct job a = {.key = "a"};

	assert_ok(hf_writer_submit(f->w, run, done, &a, 1));
	while (!a.done)
		assert_ok(sd_event_run(f->event, 5000000));
	assert_int_equal(a.done, 1);
	assert_true(stored(f, "a"));
}

static void the_queue_is_bounded_in_bytes(void **state)
{
	struct fixture *f = *state;
	struct job a = {.key = "a"}, b = {.key = "b"};
	struct hf_writer_stats s;

	assert_err(hf_writer_submit(f->w, run, done, &a, (size_t)65 << 20), -ENOBUFS);
	assert_int_equal(a.done, 0);
	assert_ok(hf_writer_submit(f->w, run, done, &b, (size_t)63 << 20));
	hf_writer_drain(f->w);
	hf_writer_stats(f->w, &s);
	assert_int_equal(s.refused, 1);
	assert_int_equal(s.queued, 0);
	assert_int_equal(s.queued_bytes, 0);
	assert_int_equal(s.jobs, 1);
}

static void the_end_finishes_what_is_queued(void **state)
{
	struct fixture *f = *state;
	struct job jobs[50] = {};

	for (unsigned i = 0; i < 50; i++) {
		(void)hf_strf(jobs[i].key, sizeof(jobs[i].key), "k%u", i);
		assert_ok(hf_writer_submit(f->w, run, done, &jobs[i], 1));
	}
	f->w = hf_writer_free(f->w);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(jobs[i].done, 1);
		assert_int_equal(jobs[i].result, 0);
	}
	assert_true(stored(f, "k49"));
}

#define WITH_WRITER(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WRITER(a_failed_job_is_undone_alone),
		WITH_WRITER(done_runs_in_the_loop_after_the_commit),
		WITH_WRITER(the_queue_is_bounded_in_bytes),
		WITH_WRITER(the_end_finishes_what_is_queued),
	};

	return HF_RUN_TESTS(tests);
}
