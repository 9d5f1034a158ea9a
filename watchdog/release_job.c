/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs. Logs nothing: the owner does.
 *
 * I1. The child takes no lock that another thread may have held at the fork: it calls libc's
 *     allocator (which handles fork), libcrypto's digests and file operations, and neither nng nor
 *     the log.
 * I2. A watchdog that dies takes the child along (PR_SET_PDEATHSIG), so two never write to one store.
 */
#include "watchdog/release_job.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#define JOB_MAGIC 0x4a4f4253u
/* The largest bundle from a slow disk; a network file system that hangs must not hold us for ever. */
#define JOB_MAX_S 600u

struct hf_release_child {
	int fd;
	unsigned told;
};

struct hf_release_job {
	unsigned magic;
	struct hf_release_work work;
	pid_t pid;
	int fd;
	sd_event_source *io, *timer;
};

/* On the pipe: one byte of percent, or RESULT and the outcome. */
#define RESULT 0xffu

void hf_release_child_progress(struct hf_release_child *c, unsigned percent)
{
	uint8_t byte = (uint8_t)(percent > 100 ? 100 : percent);

	if (percent == c->told)
		return;
	c->told = percent;
	(void)!write(c->fd, &byte, 1); /* who does not read it does not miss it */
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void close_between(int first, int last)
{
	if (first > last)
		return;
	if (syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0u) == 0)
		return;
	for (int fd = first; fd <= last && fd < 4096; fd++)
		(void)close(fd);
}

static void close_others(const struct hf_release_work *w, int pipe_fd)
{
	int keep[HF_ARRAY_SIZE(w->keep) + 1];
	unsigned n = 0;
	int next = 3;

	for (unsigned i = 0; i < w->n_keep; i++)
		if (w->keep[i] >= 0)
			keep[n++] = w->keep[i];
	keep[n++] = pipe_fd;
	qsort(keep, n, sizeof(keep[0]), compare_ints);
	for (unsigned i = 0; i < n; i++) {
		close_between(next, keep[i] - 1);
		next = keep[i] + 1;
	}
	close_between(next, INT32_MAX);
}

_Noreturn static void child(const struct hf_release_work *w, int fd, pid_t parent)
{
	struct hf_release_child c = {.fd = fd, .told = UINT32_MAX};
	struct hf_release_outcome o = {};
	uint8_t buf[1 + sizeof(o)];
	sigset_t none;

	(void)prctl(PR_SET_NAME, "hf-release");
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1); /* it was faster */
	(void)sigemptyset(&none);
	(void)signal(SIGTERM, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setpriority(PRIO_PROCESS, 0, 5); /* behind what is watched */
	close_others(w, fd);
	w->run(&c, w->arg, &o);
	buf[0] = RESULT;
	memcpy(buf + 1, &o, sizeof(o));
	(void)hf_write_full(fd, buf, sizeof(buf));
	_exit(0);
}

static void end(struct hf_release_job *j, const struct hf_release_outcome *o)
{
	struct hf_release_work w = j->work;

	(void)hf_release_job_free(j);
	w.done(o, w.arg);
}

static void fail(struct hf_release_job *j, int r, const char *text)
{
	struct hf_release_outcome o = {.r = r};

	(void)hf_strlcpy(o.text, text, sizeof(o.text));
	end(j, &o);
}

static int on_pipe(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_release_job *j = HF_CAST(userdata, struct hf_release_job, JOB_MAGIC);
	struct hf_release_outcome o;
	int percent = -1;
	uint8_t byte;
	ssize_t n;

	(void)source;
	(void)revents;
	while ((n = read(fd, &byte, 1)) == 1 && byte != RESULT)
		percent = byte;
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		if (percent >= 0)
			j->work.progress((unsigned)percent, j->work.arg);
		return 0;
	}
	if (n == 1) {
		/* Written whole in one piece. */
		n = hf_read_full(fd, &o, sizeof(o));
		o.text[sizeof(o.text) - 1] = 0;
		o.component[sizeof(o.component) - 1] = 0;
		if (n == (ssize_t)sizeof(o) && o.refusal < _HF_RELEASE_MAX) {
			end(j, &o);
			return 0;
		}
	}
	fail(j, -EIO, "the process that did it was killed");
	return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_release_job *j = HF_CAST(userdata, struct hf_release_job, JOB_MAGIC);

	(void)source;
	(void)usec;
	fail(j, -ETIMEDOUT, "it took longer than 10 minutes");
	return 0;
}

int hf_release_job_start(sd_event *event, const struct hf_release_work *work,
			 struct hf_release_job **ret)
{
	_cleanup_(hf_release_job_freep) struct hf_release_job *j = calloc(1, sizeof(*j));
	_cleanup_close_ int write_fd = -1;
	pid_t parent = getpid();
	int fds[2], r;

	if (!j)
		return -ENOMEM;
	j->magic = JOB_MAGIC;
	j->work = *work;
	j->fd = -1;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	j->fd = fds[0];
	write_fd = fds[1];
	r = hf_set_nonblock(j->fd, true);
	if (r >= 0)
		r = sd_event_add_io(event, &j->io, j->fd, EPOLLIN, on_pipe, j);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &j->timer, CLOCK_MONOTONIC,
					       JOB_MAX_S * UINT64_C(1000000), 1000000, on_timeout,
					       j);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(j->io, "release-job");
	(void)sd_event_source_set_description(j->timer, "release-job-timeout");
	j->pid = fork();
	if (j->pid == 0)
		child(work, write_fd, parent);
	if (j->pid < 0) {
		r = -errno;
		j->pid = 0;
		return r;
	}
	*ret = TAKE_PTR(j);
	return 0;
}

/* It has ended, or does so at once; one that hangs in the kernel is left to whoever is init. */
static void end_child(pid_t pid)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	(void)kill(pid, SIGKILL);
	if (fd >= 0)
		(void)poll(&p, 1, 200);
	(void)waitpid(pid, NULL, WNOHANG);
}

struct hf_release_job *hf_release_job_free(struct hf_release_job *j)
{
	if (!j)
		return NULL;
	sd_event_source_disable_unref(j->io);
	sd_event_source_disable_unref(j->timer);
	if (j->pid > 0)
		end_child(j->pid);
	(void)hf_close(j->fd);
	j->magic = 0;
	free(j);
	return NULL;
}
