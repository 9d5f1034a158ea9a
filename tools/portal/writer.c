/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer thread and its two lists: queued (loop → thread) and finished (thread → loop, woken by
 * an eventfd). Both are guarded by one mutex that is never held over a database call.
 */
#include "tools/portal/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ratelimit.h"

#define QUEUE_JOBS_MAX  20000u      /* two heartbeat rounds of a large portal's bookkeeping */
#define QUEUE_BYTES_MAX (64u << 20) /* memory: a stalled disk must not take the host down */
#define GROUP_JOBS_MAX  1000u       /* bounds how long a reader of the WAL waits for a commit */
#define WRITER_MAGIC    0x77726974u

struct job {
	struct job *next;
	hf_write_run run;
	hf_write_done done;
	void *arg;
	size_t bytes;
	uint64_t due_ns; /* monotonic */
	bool later;      /* may wait until due_ns for others */
	int r;
};

struct list {
	struct job *head, **tail;
};

struct hf_writer {
	unsigned magic;
	struct hf_store *store; /* the thread's */
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t wake, idle;
	/* Under the lock: */
	struct list queued, finished;
	struct hf_writer_stats stats;
	size_t awaited; /* of the queued: those that may not wait */
	bool stop, busy, draining;
	/* The loop's: */
	int fd;
	sd_event_source *source;
	struct hf_ratelimit log_limit;
};

static void list_init(struct list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static void list_push(struct list *l, struct job *j)
{
	j->next = NULL;
	*l->tail = j;
	l->tail = &j->next;
}

/* Moves at most max jobs from one list to the other. */
static size_t list_move(struct list *to, struct list *from, size_t max)
{
	size_t n = 0;

	while (from->head && n < max) {
		struct job *j = from->head;

		from->head = j->next;
		if (!from->head)
			from->tail = &from->head;
		list_push(to, j);
		n++;
	}
	return n;
}

static int run_one(struct hf_store *s, struct job *j)
{
	int r = hf_store_savepoint(s);

	if (r < 0)
		return r;
	r = j->run(s, j->arg);
	if (r < 0) {
		hf_store_savepoint_undo(s);
		return r;
	}
	return hf_store_savepoint_release(s);
}

static void run_group(struct hf_writer *w, struct list *group)
{
	int r = hf_store_begin(w->store);

	for (struct job *j = group->head; j; j = j->next)
		j->r = r < 0 ? r : run_one(w->store, j);
	if (r < 0)
		return;
	r = hf_store_commit(w->store);
	if (r == 0)
		return;
	hf_store_rollback(w->store);
	for (struct job *j = group->head; j; j = j->next) {
		if (j->r >= 0)
			j->r = r;
	}
}

static void account(struct hf_writer *w, const struct list *group, size_t n, uint64_t took_ns)
{
	w->stats.commits++;
	w->stats.jobs += n;
	w->stats.last_error = 0;
	w->stats.last_commit_us = took_ns / HF_NS_PER_US;
	for (const struct job *j = group->head; j; j = j->next) {
		w->stats.queued--;
		w->stats.queued_bytes -= j->bytes;
		/* What a request got wrong (-EEXIST, -ENOENT …) is its answer, not a fault. */
		if (j->r == -ENOSPC || j->r == -EIO || j->r == -EUCLEAN || j->r == -EBUSY ||
		    j->r == -EACCES || j->r == -ENOMEM) {
			w->stats.failed++;
			w->stats.last_error = j->r;
		}
	}
}

/* Waits for a job that may be run now; false: the thread is to end. Called with the lock. */
static bool wait_for_job(struct hf_writer *w)
{
	for (;;) {
		const struct job *first = w->queued.head;
		struct timespec until;

		if (!first) {
			if (w->stop)
				return false;
			(void)pthread_cond_wait(&w->wake, &w->lock);
			continue;
		}
		if (w->awaited || w->stop || w->draining || hf_now_monotonic_ns() >= first->due_ns)
			return true;
		until = (struct timespec){.tv_sec = (time_t)(first->due_ns / HF_NS_PER_S),
					  .tv_nsec = (long)(first->due_ns % HF_NS_PER_S)};
		(void)pthread_cond_timedwait(&w->wake, &w->lock, &until);
	}
}

static void *writer_main(void *arg)
{
	struct hf_writer *w = HF_CAST(arg, struct hf_writer, WRITER_MAGIC);
	const uint64_t one = 1;

	(void)pthread_mutex_lock(&w->lock);
	for (;;) {
		struct list group;
		uint64_t start;
		size_t n;

		list_init(&group);
		if (!wait_for_job(w))
			break;
		n = list_move(&group, &w->queued, GROUP_JOBS_MAX);
		for (const struct job *j = group.head; j; j = j->next)
			w->awaited -= !j->later;
		w->busy = true;
		(void)pthread_mutex_unlock(&w->lock);

		start = hf_now_monotonic_ns();
		run_group(w, &group);

		(void)pthread_mutex_lock(&w->lock);
		account(w, &group, n, hf_now_monotonic_ns() - start);
		(void)list_move(&w->finished, &group, n);
		w->busy = false;
		(void)pthread_cond_broadcast(&w->idle);
		/* An eventfd write fails only at 2^64-1: the loop is woken already then. */
		(void)!write(w->fd, &one, sizeof(one));
	}
	(void)pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void call_finished(struct hf_writer *w)
{
	struct list done;
	int error;

	list_init(&done);
	(void)pthread_mutex_lock(&w->lock);
	(void)list_move(&done, &w->finished, SIZE_MAX);
	error = w->stats.last_error;
	(void)pthread_mutex_unlock(&w->lock);
	if (error < 0 && hf_ratelimit_take(&w->log_limit, hf_now_monotonic_ns()))
		hf_error_r(error, "Database refuses writes, telemetry stays on the endpoints");
	while (done.head) {
		struct job *j = done.head;

		done.head = j->next;
		if (j->done)
			j->done(j->r, j->arg);
		free(j);
	}
}

static int on_finished(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_writer *w = HF_CAST(userdata, struct hf_writer, WRITER_MAGIC);
	uint64_t count;

	(void)source;
	(void)revents;
	(void)!read(fd, &count, sizeof(count)); /* -EAGAIN: a drain was faster */
	call_finished(w);
	return 0;
}

static int start_thread(struct hf_writer *w)
{
	sigset_t all, old;
	int r;

	/* Signals belong to the loop's thread. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&w->thread, NULL, writer_main, w);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	w->started = r == 0;
	return r;
}

int hf_writer_new(sd_event *event, const char *path, struct hf_writer **ret, struct hf_err *err)
{
	_cleanup_(hf_writer_freep) struct hf_writer *w = calloc(1, sizeof(*w));
	pthread_condattr_t attr;
	int r;

	if (!w)
		return hf_err_set(err, -ENOMEM, "out of memory");
	w->magic = WRITER_MAGIC;
	w->fd = -1;
	w->log_limit = (struct hf_ratelimit){.burst = 1, .interval_ns = 30 * HF_NS_PER_S};
	list_init(&w->queued);
	list_init(&w->finished);
	(void)pthread_mutex_init(&w->lock, NULL); /* default attributes never fail */
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&w->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	(void)pthread_cond_init(&w->idle, NULL);
	r = hf_store_open(path, HF_STORE_WRITE, &w->store, err);
	if (r < 0)
		return r;
	w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->fd < 0)
		return hf_err_set(err, -errno, "eventfd: %m");
	r = sd_event_add_io(event, &w->source, w->fd, EPOLLIN, on_finished, w);
	if (r < 0)
		return hf_err_set(err, r, "watch the database writer");
	(void)sd_event_source_set_description(w->source, "database-writer"); /* only a name */
	r = start_thread(w);
	if (r < 0)
		return hf_err_set(err, r, "start the database writer");
	*ret = TAKE_PTR(w);
	return 0;
}

struct hf_writer *hf_writer_free(struct hf_writer *w)
{
	if (!w)
		return NULL;
	if (w->started) {
		(void)pthread_mutex_lock(&w->lock);
		w->stop = true;
		(void)pthread_cond_signal(&w->wake);
		(void)pthread_mutex_unlock(&w->lock);
		(void)pthread_join(w->thread, NULL);
		call_finished(w);
	}
	w->source = sd_event_source_unref(w->source);
	w->fd = hf_close(w->fd);
	w->store = hf_store_close(w->store);
	(void)pthread_cond_destroy(&w->idle);
	(void)pthread_cond_destroy(&w->wake);
	(void)pthread_mutex_destroy(&w->lock);
	free(w);
	return NULL;
}

static int submit(struct hf_writer *w, hf_write_run run, hf_write_done done, void *arg,
		  size_t bytes, bool later)
{
	struct job *j;
	bool full;

	(void)pthread_mutex_lock(&w->lock);
	full = w->stats.queued >= QUEUE_JOBS_MAX ||
	       w->stats.queued_bytes + bytes > QUEUE_BYTES_MAX || w->stop;
	if (full)
		w->stats.refused++;
	(void)pthread_mutex_unlock(&w->lock);
	if (full)
		return -ENOBUFS;
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	*j = (struct job){.run = run, .done = done, .arg = arg, .bytes = bytes, .later = later};
	j->due_ns = hf_now_monotonic_ns() + HF_WRITER_LINGER_MS * HF_NS_PER_MS;
	(void)pthread_mutex_lock(&w->lock);
	list_push(&w->queued, j);
	w->stats.queued++;
	w->stats.queued_bytes += bytes;
	w->awaited += !later;
	(void)pthread_cond_signal(&w->wake);
	(void)pthread_mutex_unlock(&w->lock);
	return 0;
}

int hf_writer_submit(struct hf_writer *w, hf_write_run run, hf_write_done done, void *arg,
		     size_t bytes)
{
	return submit(w, run, done, arg, bytes, false);
}

int hf_writer_submit_later(struct hf_writer *w, hf_write_run run, hf_write_done done, void *arg,
			   size_t bytes)
{
	return submit(w, run, done, arg, bytes, true);
}

void hf_writer_drain(struct hf_writer *w)
{
	bool more;

	/* done() may submit again: until nothing is left on either side. */
	do {
		(void)pthread_mutex_lock(&w->lock);
		w->draining = true;
		(void)pthread_cond_signal(&w->wake);
		while (w->queued.head || w->busy)
			(void)pthread_cond_wait(&w->idle, &w->lock);
		w->draining = false;
		more = w->finished.head != NULL;
		(void)pthread_mutex_unlock(&w->lock);
		call_finished(w);
	} while (more);
}

void hf_writer_stats(struct hf_writer *w, struct hf_writer_stats *ret)
{
	(void)pthread_mutex_lock(&w->lock);
	*ret = w->stats;
	(void)pthread_mutex_unlock(&w->lock);
}
