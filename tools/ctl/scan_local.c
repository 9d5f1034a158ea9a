/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog's part of a scan, as far as it can be played without rights: parameters, socket,
 * result. Nobody keeps a baseline, and nobody lists BPF programs; the scan says so.
 */
#include "tools/ctl/scan_local.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "holdfast/config.h"
#include "holdfast/worker.h"

#define PROGRAM "holdfast-scan"
#define FDS     (HF_WORKER_FD_INPUT + 3)
/* Above all numbers that it gets. */
#define OUT_OF_THE_WAY 64

/* Beside us (a build directory), or where it is installed. */
static int open_program(void)
{
	char path[PATH_MAX + sizeof(PROGRAM)], *slash;
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
	int fd = -1;

	if (n > 0) {
		path[n] = 0;
		slash = strrchr(path, '/');
		(void)hf_strlcpy(slash ? slash + 1 : path, PROGRAM, sizeof(PROGRAM));
		fd = open(path, O_PATH | O_CLOEXEC);
	}
	if (fd < 0)
		fd = open("/usr/libexec/holdfast/" PROGRAM, O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int append_paths(struct hf_buf *b, const char *key, const char *const *items, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = hf_buf_appendf(b, "%s %s\n", key, items[i]);
	return r;
}

static int make_params(const struct hf_ctl *c, const struct hf_scan_wish *w)
{
	_cleanup_close_ int fd = memfd_create("holdfast-params", MFD_CLOEXEC);
	struct hf_config config = {};
	struct hf_buf b = {};
	int r;

	if (fd < 0)
		return -errno;
	/* What it cannot read of the configuration it does without: these are only exceptions. */
	r = hf_config_load(&hf_config_table, AT_FDCWD, c->paths.config, &config, NULL, NULL, NULL);
	if (r >= 0)
		(void)append_paths(&b, "exclude", (const char *const *)config.scan.exclude.items,
				   config.scan.exclude.n);
	hf_config_done(&hf_config_table, &config);
	if (w->checks)
		(void)hf_buf_appendf(&b, "checks %s\n", w->checks);
	(void)append_paths(&b, "path", w->paths, w->paths_n);
	(void)hf_buf_appendf(&b, "cpu 100\nbaseline none\nbpf only the watchdog may list them\n");
	r = hf_write_full(fd, b.data, b.len);
	hf_buf_done(&b);
	return r < 0 || lseek(fd, 0, SEEK_SET) < 0 ? -EIO : TAKE_FD(fd);
}

_Noreturn static void child(int exe, const int fds[static FDS])
{
	char program[] = PROGRAM, flag[] = "--worker", *argv[] = {program, flag, NULL};
	int moved[FDS];

	/* The terminal's ^C is ours; we ask it then. */
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	exe = fcntl(exe, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	for (int i = 0; i < FDS; i++)
		moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	for (int i = 0; i < FDS; i++)
		if (dup2(moved[i], i) < 0)
			_exit(126);
	(void)execveat(exe, "", argv, environ, AT_EMPTY_PATH);
	_exit(127);
}

/* Frames until DONE or the end. -errno, with why. */
static int follow(int sock, pid_t pid, const volatile int *stop,
		  void (*progress)(void *userdata, unsigned percent, const char *text),
		  void *userdata, char why[static 256])
{
	bool asked = false;

	for (;;) {
		struct pollfd p = {.fd = sock, .events = POLLIN};
		struct hf_worker_frame f;
		ssize_t n;

		if (*stop && !asked) {
			asked = true;
			(void)kill(pid, SIGTERM);
		}
		if (poll(&p, 1, 100) <= 0)
			continue; /* a signal, or nothing yet */
		n = recv(sock, &f, sizeof(f), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0 || hf_worker_frame_check(&f, (size_t)n) < 0) {
			(void)hf_strlcpy(why, PROGRAM " ended before it was done", 256);
			return asked ? -ECANCELED : -EPIPE;
		}
		if (f.type == HF_WORKER_PROGRESS) {
			progress(userdata, f.percent, f.text);
			continue;
		}
		(void)hf_strlcpy(why, f.text, 256);
		if (f.outcome == HF_WORKER_SUCCEEDED)
			return 0;
		return f.outcome == HF_WORKER_CANCELLED ? -ECANCELED : -EIO;
	}
}

static int take_result(int fd, struct hf_buf *out)
{
	off_t size = lseek(fd, 0, SEEK_END);
	ssize_t n;
	int r;

	if (size <= 0 || size > 1 << 20)
		return -EIO;
	r = hf_buf_reserve(out, (size_t)size + 1);
	if (r < 0)
		return r;
	n = pread(fd, out->data, (size_t)size, 0);
	if (n != size)
		return -EIO;
	out->len = (size_t)n;
	out->data[n] = 0;
	return 0;
}

int hf_scan_local(const struct hf_ctl *c, const struct hf_scan_wish *w, const volatile int *stop,
		  void (*progress)(void *userdata, unsigned percent, const char *text),
		  void *userdata, struct hf_buf *out, char why[static 256])
{
	_cleanup_close_ int exe = -1, params = -1, result = -1, empty = -1, ours = -1, theirs = -1;
	int pair[2], r;
	pid_t pid;

	exe = open_program();
	if (exe < 0) {
		(void)hf_strf(why, 256, "find '" PROGRAM "': %s", strerror(-exe));
		return exe;
	}
	params = make_params(c, w);
	result = memfd_create("holdfast-result", MFD_CLOEXEC);
	empty = memfd_create("holdfast-none", MFD_CLOEXEC);
	if (params < 0 || result < 0 || empty < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		(void)hf_strf(why, 256, "prepare the scan: %s", strerror(errno));
		return -EIO;
	}
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid == 0)
		child(exe, (const int[FDS]){params, STDERR_FILENO, STDERR_FILENO, theirs, result,
					    empty, empty, empty});
	if (pid < 0) {
		(void)hf_strf(why, 256, "fork: %s", strerror(errno));
		return -EIO;
	}
	(void)hf_close(TAKE_FD(theirs));
	r = follow(ours, pid, stop, progress, userdata, why);
	(void)waitpid(pid, NULL, 0);
	if (r == 0 && (r = take_result(result, out)) < 0)
		(void)hf_strlcpy(why, "its result cannot be read", 256);
	return r;
}
