/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preparing a scan and keeping its baseline.
 *
 * I1. The worker reads a baseline that cannot change under it, and writes a new one where it cannot
 *     reach the old: two descriptors, no name.
 * I2. The new one is copied to disk by a child of ours (a copy of megabytes and two fsyncs would
 *     keep the loop), under another name, and renamed when it is whole.
 */
#include "watchdog/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "watchdog/kernel_list.h"

#define SCAN_MAGIC    0x5343414eu
#define BASELINE_NAME "scan-baseline"
#define BASELINE_TMP  "scan-baseline.new"

struct hf_scan_run {
	unsigned magic;
	struct hf_watchdog *w;
	struct hf_worker *worker; /* NULL: ended */
	int baseline_out;
	void (*on_progress)(void *userdata, uint32_t percent, const char *text);
	void (*on_done)(void *userdata, enum hf_worker_outcome outcome, int result,
			const char *reason);
	void *userdata;
	int result; /* while the baseline is being written */
	pid_t writer;
	int writer_fd;
	sd_event_source *writer_source;
};

static struct hf_scan_run *scan_free(struct hf_scan_run *s)
{
	if (!s)
		return NULL;
	sd_event_source_disable_unref(s->writer_source);
	(void)hf_close(s->baseline_out);
	(void)hf_close(s->result);
	(void)hf_close(s->writer_fd);
	s->magic = 0;
	free(s);
	return NULL;
}
HF_DEFINE_CLEANUP(struct hf_scan_run *, scan_free);

/* ---- the order as text --------------------------------------------------------------------------- */

static bool is_plain_path(const char *path)
{
	size_t len = strlen(path);

	if (*path != '/' || len >= 4096 || (len > 1 && path[len - 1] == '/'))
		return false;
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return false;
	return !strstr(path, "//") && !strstr(path, "/../") && !strstr(path, "/./") &&
	       !hf_endswith(path, "/..") && !hf_endswith(path, "/.");
}

int hf_scan_order_check(const struct hf_scan_order *o, struct hf_err *err)
{
	const char *checks = o->checks ? o->checks : "";

	if (strlen(checks) > 256 || checks[strspn(checks, "abcdefghijklmnopqrstuvwxyz_,")])
		return hf_err_set(err, -EINVAL, "'%.64s' is not a list of checks", checks);
	if (o->paths_n > HF_SCAN_ORDER_PATHS_MAX)
		return hf_err_set(err, -EINVAL, "more than %u paths", HF_SCAN_ORDER_PATHS_MAX);
	for (size_t i = 0; i < o->paths_n; i++)
		if (!is_plain_path(o->paths[i]))
			return hf_err_set(err, -EINVAL,
					  "'%.200s' is not an absolute path without '..'",
					  o->paths[i]);
	return 0;
}

static int append_paths(struct hf_buf *b, const char *key, char *const *items, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = hf_buf_appendf(b, "%s %s\n", key, items[i]);
	return r;
}

static int make_params(const struct hf_watchdog *w, const struct hf_scan_order *o,
		       bool have_baseline, const char *bpf, struct hf_buf *b)
{
	const struct hf_config *c = &w->config;
	int r = 0;

	if (o->checks && *o->checks)
		r = hf_buf_appendf(b, "checks %s\n", o->checks);
	if (r == 0)
		r = append_paths(b, "path", (char *const *)o->paths, o->paths_n);
	if (r == 0)
		r = append_paths(b, "watch", c->scan.paths.items, c->scan.paths.n);
	if (r == 0)
		r = append_paths(b, "exclude", c->scan.exclude.items, c->scan.exclude.n);
	if (r == 0)
		r = hf_buf_appendf(b, "cpu %llu\naccept %d\nbaseline %s\nbpf %s",
				   (unsigned long long)c->scan.cpu_max_percent, o->accept_baseline,
				   have_baseline ? "have" : "new", bpf);
	return r < 0 ? r : hf_buf_append(b, "\n", 2); /* with its NUL */
}

/* ---- what it gets --------------------------------------------------------------------------------- */

/* The kept one, or an empty memfd. */
static int open_baseline(const struct hf_watchdog *w, bool *ret_have)
{
	int fd = openat(w->state_dir, BASELINE_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	*ret_have = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
	if (*ret_have)
		return fd;
	if (fd < 0 && errno != ENOENT)
		hf_warn_r(-errno, "open the baseline '%s', making a new one", BASELINE_NAME);
	(void)hf_close(fd);
	fd = memfd_create("holdfast-baseline", MFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int list_programs(char why[static 128])
{
	_cleanup_close_ int fd = memfd_create("holdfast-bpf", MFD_CLOEXEC);
	struct hf_buf b = {};
	int r;

	if (fd < 0)
		return -errno;
	(void)hf_strlcpy(why, "have", 128);
	r = hf_kernel_list(&b);
	if (r == 0)
		r = hf_write_full(fd, b.data, b.len);
	if (r < 0)
		(void)hf_strf(why, 128, "the kernel does not list them: %s", strerror(-r));
	hf_buf_done(&b);
	return lseek(fd, 0, SEEK_SET) < 0 ? -errno : TAKE_FD(fd);
}

/* ---- keeping the baseline --------------------------------------------------------------------------- */

/* In the child: system calls only. Never returns. */
_Noreturn static void write_baseline(int from, int dir)
{
	off_t at = 0;
	struct stat st;
	int fd;

	(void)syscall(SYS_unlinkat, dir, BASELINE_TMP, 0);
	fd = (int)syscall(SYS_openat, dir, BASELINE_TMP,
			  O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(from, &st) < 0)
		_exit(errno & 0xff);
	while (at < st.st_size)
		if (sendfile(fd, from, &at, (size_t)(st.st_size - at)) <= 0)
			_exit(errno ? errno & 0xff : EIO);
	if (fsync(fd) < 0 || syscall(SYS_renameat2, dir, BASELINE_TMP, dir, BASELINE_NAME, 0) < 0 ||
	    fsync(dir) < 0)
		_exit(errno & 0xff);
	_exit(0);
}

static void finish(struct hf_scan_run *s, enum hf_worker_outcome outcome, const char *reason)
{
	s->on_done(s->userdata, outcome, TAKE_FD(s->result), reason);
	scan_free(s);
}

static void baseline_written(struct hf_scan_run *s, int error)
{
	char reason[160] = "";

	if (error) {
		(void)hf_strf(reason, sizeof(reason), "the new baseline could not be kept: %s",
			      strerror(error));
		hf_error("%s", reason);
	}
	finish(s, HF_WORKER_SUCCEEDED, reason);
}

static int on_writer(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_scan_run *s = HF_CAST(userdata, struct hf_scan_run, SCAN_MAGIC);
	int status = 0;

	(void)source;
	(void)fd;
	(void)revents;
	if (waitpid(s->writer, &status, WNOHANG) == 0)
		return 0;
	baseline_written(s, WIFEXITED(status) ? WEXITSTATUS(status) : EINTR);
	return 0;
}

/* Is there a new baseline, such as may be kept? */
static bool has_new_baseline(const struct hf_scan_run *s)
{
	static const char magic[] = "holdfast-baseline ";
	char head[sizeof(magic) - 1];
	struct stat st;

	return fstat(s->baseline_out, &st) == 0 && st.st_size > 0 &&
	       (uint64_t)st.st_size <= HF_SCAN_BASELINE_MAX &&
	       pread(s->baseline_out, head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
	       memcmp(head, magic, sizeof(head)) == 0;
}

static int start_writer(struct hf_scan_run *s)
{
	pid_t pid = fork();

	if (pid == 0)
		write_baseline(s->baseline_out, s->w->state_dir);
	if (pid < 0)
		return -errno;
	s->writer = pid;
	s->writer_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (s->writer_fd < 0 || sd_event_add_io(s->w->event, &s->writer_source, s->writer_fd,
						EPOLLIN, on_writer, s) < 0) {
		int status = 0;

		(void)waitpid(pid, &status, 0);
		baseline_written(s, WIFEXITED(status) ? WEXITSTATUS(status) : EINTR);
	}
	return 0;
}

static void on_worker_done(void *userdata, enum hf_worker_outcome outcome, int result,
			   const char *reason)
{
	struct hf_scan_run *s = HF_CAST(userdata, struct hf_scan_run, SCAN_MAGIC);
	int r;

	s->worker = NULL;
	s->result = result;
	if (outcome != HF_WORKER_SUCCEEDED || !has_new_baseline(s)) {
		finish(s, outcome, reason);
		return;
	}
	r = start_writer(s);
	if (r < 0)
		baseline_written(s, -r);
}

static void on_worker_progress(void *userdata, uint32_t percent, const char *text)
{
	struct hf_scan_run *s = HF_CAST(userdata, struct hf_scan_run, SCAN_MAGIC);

	if (s->on_progress)
		s->on_progress(s->userdata, percent, text);
}

/* ---- start -------------------------------------------------------------------------------------------- */

static int start(struct hf_scan_run *s, const struct hf_scan_order *o, struct hf_err *err)
{
	_cleanup_close_ int in = -1, bpf = -1;
	struct hf_buf params = {};
	char why[128];
	bool have;
	int r;

	in = open_baseline(s->w, &have);
	bpf = list_programs(why);
	s->baseline_out = memfd_create("holdfast-baseline", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (in < 0 || bpf < 0 || s->baseline_out < 0)
		return hf_err_set(err, -EMFILE, "make the worker's descriptors");
	r = make_params(s->w, o, have, why, &params);
	if (r == 0)
		r = hf_worker_start(s->w->workers,
				    &(struct hf_worker_request){
					    .name = "scan",
					    .params = (const char *)params.data,
					    .inputs = (const int[]){in, s->baseline_out, bpf},
					    .inputs_n = 3,
					    .idle_limit_ns = o->idle_limit_ns,
					    .hard_limit_ns = o->hard_limit_ns,
					    .on_progress = on_worker_progress,
					    .on_done = on_worker_done,
					    .userdata = s,
				    },
				    &s->worker, err);
	else
		hf_err_set(err, r, "out of memory");
	hf_buf_done(&params);
	return r;
}

int hf_scan_begin(struct hf_watchdog *w, const struct hf_scan_order *o,
		  void (*on_progress)(void *userdata, uint32_t percent, const char *text),
		  void (*on_done)(void *userdata, enum hf_worker_outcome outcome, int result,
				  const char *reason),
		  void *userdata, struct hf_scan_run **ret, struct hf_err *err)
{
	_cleanup_(scan_freep) struct hf_scan_run *s = NULL;
	int r = hf_scan_order_check(o, err);

	if (r < 0)
		return r;
	if (!w->workers)
		return hf_err_set(err, -EAGAIN, "the watchdog is not ready");
	s = calloc(1, sizeof(*s));
	if (!s)
		return hf_err_set(err, -ENOMEM, "out of memory");
	s->magic = SCAN_MAGIC;
	s->w = w;
	s->baseline_out = s->result = s->writer_fd = -1;
	s->on_progress = on_progress;
	s->on_done = on_done;
	s->userdata = userdata;
	r = start(s, o, err);
	if (r == 0)
		*ret = TAKE_PTR(s); /* its own until on_done */
	return r;
}

void hf_scan_cancel(struct hf_scan_run *s)
{
	if (s->worker)
		hf_worker_cancel(s->worker);
}
