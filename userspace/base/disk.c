/* SPDX-License-Identifier: Apache-2.0 */
/* A queue, a thread, an eventfd. The lock is never held over I/O. */
#include "base/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#define DISK_MAGIC 0x4b534944u
#define LINGER_NS  (HF_DISK_LINGER_MS * HF_NS_PER_MS)

struct job {
	struct job *next;
	char path[HF_DISK_PATH_MAX];
	void *data; /* NULL: unlink, or a copy if fd >= 0 */
	size_t len;
	int fd;
	mode_t mode;
	hf_disk_done_fn done;
	void *userdata;
	uint64_t due_ns; /* monotonic; 0: at once */
	int r;
};

struct hf_disk {
	unsigned magic;
	int dirfd;
	int wake_fd; /* thread → loop */
	sd_event_source *source;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work, empty;
	struct job *queue;    /* waiting, in order */
	struct job *finished; /* done, newest first */
	unsigned n_queue;
	unsigned n_prompt; /* of these, those that may not wait */
	bool busy, stop, started, closing;
	uint64_t progress;
};

static struct job *job_free(struct job *j)
{
	if (!j)
		return NULL;
	if (j->data)
		hf_wipe(j->data, j->len);
	(void)hf_close(j->fd);
	free(j->data);
	free(j);
	return NULL;
}

/* Writes beside the file and renames, as hf_write_file_atomic() does with what is in memory. */
static int copy_file(int dirfd, const struct job *j)
{
	char temporary[HF_DISK_PATH_MAX + 8], dir[HF_DISK_PATH_MAX];
	_cleanup_close_ int out = -1;
	const char *slash;
	off_t off = 0;
	int r = 0;

	hf_strf(temporary, sizeof(temporary), "%s.new", j->path);
	(void)unlinkat(dirfd, temporary, 0); /* of a predecessor */
	out = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		     j->mode);
	if (out < 0)
		return -errno;
	while (r == 0 && (size_t)off < j->len) {
		ssize_t n = sendfile(out, j->fd, &off, j->len - (size_t)off);

		r = n < 0 && errno != EINTR ? -errno : n == 0 ? -EPIPE : 0;
	}
	if (r == 0 && (fsync(out) < 0 || renameat(dirfd, temporary, dirfd, j->path) < 0))
		r = -errno;
	if (r < 0) {
		(void)unlinkat(dirfd, temporary, 0);
		return r;
	}
	hf_strlcpy(dir, j->path, sizeof(dir));
	slash = strrchr(dir, '/');
	if (slash)
		dir[slash - dir] = 0;
	return hf_sync_dir(dirfd, slash ? dir : ".");
}

static int perform(int dirfd, const struct job *j)
{
	const char *slash;
	char dir[HF_DISK_PATH_MAX];
	int r;

	if (j->data)
		return hf_write_file_atomic(dirfd, j->path, j->data, j->len, j->mode);
	if (j->fd >= 0)
		return copy_file(dirfd, j);
	if (unlinkat(dirfd, j->path, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	hf_strlcpy(dir, j->path, sizeof(dir));
	slash = strrchr(dir, '/');
	if (slash)
		dir[slash - dir] = 0;
	r = hf_sync_dir(dirfd, slash ? dir : ".");
	return r;
}

/* Until when the first job may wait for a later content of the same path; 0: no longer. */
static uint64_t due(const struct hf_disk *d)
{
	return d->n_prompt || d->closing || d->n_queue > HF_DISK_JOBS_MAX / 2 ? 0
									      : d->queue->due_ns;
}

static void *writer(void *arg)
{
	struct hf_disk *d = HF_CAST(arg, struct hf_disk, DISK_MAGIC);

	(void)pthread_mutex_lock(&d->lock);
	for (;;) {
		struct job *j = d->queue;
		int r;

		if (!j) {
			(void)pthread_cond_broadcast(&d->empty);
			if (d->stop)
				break;
			(void)pthread_cond_wait(&d->work, &d->lock);
			continue;
		}
		if (due(d) > hf_now_monotonic_ns()) {
			struct timespec until = {.tv_sec = (time_t)(j->due_ns / HF_NS_PER_S),
						 .tv_nsec = (long)(j->due_ns % HF_NS_PER_S)};

			(void)pthread_cond_timedwait(&d->work, &d->lock, &until);
			continue;
		}
		d->queue = j->next;
		d->n_queue--;
		d->n_prompt -= j->due_ns == 0;
		d->busy = true;
		(void)pthread_mutex_unlock(&d->lock);
		r = perform(d->dirfd, j);
		(void)pthread_mutex_lock(&d->lock);
		d->busy = false;
		d->progress += j->len + 1;
		j->r = r;
		j->next = d->finished;
		d->finished = j;
		(void)eventfd_write(d->wake_fd, 1); /* EAGAIN: the loop is awake anyway */
	}
	(void)pthread_mutex_unlock(&d->lock);
	return NULL;
}

static int on_wake(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct hf_disk *d = HF_CAST(userdata, struct hf_disk, DISK_MAGIC);
	struct job *list, *in_order = NULL;
	uint64_t n;

	(void)s;
	(void)revents;
	(void)eventfd_read(fd, &n); /* only clears it */
	(void)pthread_mutex_lock(&d->lock);
	list = TAKE_PTR(d->finished);
	(void)pthread_mutex_unlock(&d->lock);
	while (list) {
		struct job *j = list;

		list = j->next;
		j->next = in_order;
		in_order = j;
	}
	while (in_order) {
		struct job *j = in_order;

		in_order = j->next;
		if (j->done)
			j->done(j->r, j->userdata);
		job_free(j);
	}
	return 0;
}

int hf_disk_new(sd_event *event, int dirfd, struct hf_disk **ret)
{
	struct hf_disk *d = calloc(1, sizeof(*d));
	pthread_condattr_t attr;
	sigset_t all, old;
	int r;

	if (!d)
		return -ENOMEM;
	d->magic = DISK_MAGIC;
	d->dirfd = dirfd;
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->wake_fd < 0) {
		r = -errno;
		free(d);
		return r;
	}
	(void)pthread_mutex_init(&d->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&d->work, &attr);
	(void)pthread_cond_init(&d->empty, &attr);
	(void)pthread_condattr_destroy(&attr);
	r = sd_event_add_io(event, &d->source, d->wake_fd, EPOLLIN, on_wake, d);
	if (r < 0)
		goto cleanup;
	(void)sd_event_source_set_description(d->source, "disk"); /* for debugging only */
	/* Signals are the loop's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&d->thread, NULL, writer, d);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0)
		goto cleanup;
	(void)pthread_setname_np(d->thread, "disk"); /* for people looking at threads */
	d->started = true;
	*ret = d;
	return 0;

cleanup:
	hf_disk_close(d, 0);
	return r;
}

struct hf_disk *hf_disk_close(struct hf_disk *d, unsigned timeout_ms)
{
	struct timespec until;
	uint64_t end;

	if (!d)
		return NULL;
	sd_event_source_disable_unref(d->source);
	if (d->started) {
		end = hf_now_monotonic_ns() + timeout_ms * HF_NS_PER_MS;
		until = (struct timespec){.tv_sec = (time_t)(end / HF_NS_PER_S),
					  .tv_nsec = (long)(end % HF_NS_PER_S)};
		(void)pthread_mutex_lock(&d->lock);
		d->closing = true;
		(void)pthread_cond_signal(&d->work);
		while (d->queue || d->busy) {
			if (pthread_cond_timedwait(&d->empty, &d->lock, &until) == ETIMEDOUT)
				break;
		}
		/* What is left after the time is not written: the file keeps its old content. */
		while (d->queue) {
			struct job *j = d->queue;

			d->queue = j->next;
			job_free(j);
		}
		d->stop = true;
		(void)pthread_cond_signal(&d->work);
		(void)pthread_mutex_unlock(&d->lock);
		(void)pthread_join(d->thread, NULL);
	}
	while (d->finished) {
		struct job *j = d->finished;

		d->finished = j->next;
		job_free(j);
	}
	(void)pthread_cond_destroy(&d->work);
	(void)pthread_cond_destroy(&d->empty);
	(void)pthread_mutex_destroy(&d->lock);
	(void)hf_close(d->wake_fd);
	d->magic = 0;
	free(d);
	return NULL;
}

struct hf_disk *hf_disk_free(struct hf_disk *d)
{
	return hf_disk_close(d, 2000);
}

static int enqueue(struct hf_disk *d, struct job *j)
{
	struct job **p;
	int r = 0;

	(void)pthread_mutex_lock(&d->lock);
	for (p = &d->queue; *p; p = &(*p)->next) {
		struct job *old = *p;

		/* A job with a callback stays: its owner waits for that very content. */
		if (!old->done && hf_streq(old->path, j->path)) {
			*p = old->next;
			d->n_queue--;
			d->n_prompt -= old->due_ns == 0;
			job_free(old);
			if (!*p)
				break;
		}
	}
	if (d->n_queue >= HF_DISK_JOBS_MAX) {
		r = -ENOBUFS;
	} else {
		while (*p)
			p = &(*p)->next;
		*p = j;
		d->n_queue++;
		d->n_prompt += j->due_ns == 0;
		(void)pthread_cond_signal(&d->work);
	}
	(void)pthread_mutex_unlock(&d->lock);
	if (r < 0)
		job_free(j);
	return r;
}

static struct job *job_new(const char *path, hf_disk_done_fn done, void *userdata)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	hf_assert(hf_strlcpy(j->path, path, sizeof(j->path))); /* paths are constants of ours */
	j->fd = -1;
	j->done = done;
	j->userdata = userdata;
	return j;
}

static int write_job(struct hf_disk *d, const char *path, const void *data, size_t len, mode_t mode,
		     uint64_t due_ns, hf_disk_done_fn done, void *userdata)
{
	struct job *j;

	if (len > HF_DISK_BYTES_MAX)
		return -EMSGSIZE;
	j = job_new(path, done, userdata);
	if (!j)
		return -ENOMEM;
	j->data = malloc(len ? len : 1);
	if (!j->data) {
		job_free(j);
		return -ENOMEM;
	}
	memcpy(j->data, data, len);
	j->len = len;
	j->mode = mode;
	j->due_ns = due_ns;
	return enqueue(d, j);
}

int hf_disk_write(struct hf_disk *d, const char *path, const void *data, size_t len, mode_t mode,
		  hf_disk_done_fn done, void *userdata)
{
	return write_job(d, path, data, len, mode, 0, done, userdata);
}

int hf_disk_write_later(struct hf_disk *d, const char *path, const void *data, size_t len,
			mode_t mode)
{
	return write_job(d, path, data, len, mode, hf_now_monotonic_ns() + LINGER_NS, NULL, NULL);
}

int hf_disk_copy(struct hf_disk *d, const char *path, int fd, uint64_t len, mode_t mode,
		 hf_disk_done_fn done, void *userdata)
{
	struct job *j = job_new(path, done, userdata);

	if (!j)
		return -ENOMEM;
	j->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (j->fd < 0) {
		int r = -errno;

		job_free(j);
		return r;
	}
	j->len = len;
	j->mode = mode;
	return enqueue(d, j);
}

int hf_disk_unlink(struct hf_disk *d, const char *path, hf_disk_done_fn done, void *userdata)
{
	struct job *j = job_new(path, done, userdata);

	return j ? enqueue(d, j) : -ENOMEM;
}

uint64_t hf_disk_progress(const struct hf_disk *d)
{
	struct hf_disk *m = (struct hf_disk *)d; /* the lock changes, the object does not */
	uint64_t n;

	(void)pthread_mutex_lock(&m->lock);
	n = m->progress;
	(void)pthread_mutex_unlock(&m->lock);
	return n;
}

bool hf_disk_idle(const struct hf_disk *d)
{
	struct hf_disk *m = (struct hf_disk *)d;
	bool idle;

	(void)pthread_mutex_lock(&m->lock);
	idle = !m->queue && !m->busy;
	(void)pthread_mutex_unlock(&m->lock);
	return idle;
}
