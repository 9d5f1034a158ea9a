/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading /proc/PID. Every file is read in one go into a bounded buffer; files of one process that
 * do not exist on this kernel (schedstat, stack) leave zeros, they are no error.
 */
#include "watchdog/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "holdfast/kernel_policy.h"
#include "watchdog/cgroup.h"

/* Our components have a handful of threads; a runaway must not make us read for seconds. */
#define THREADS_MAX 32
#define SMALL_FILE  4096

/* Reads a small file; NUL-terminated. Returns its length or -errno. */
static int read_small(int dirfd, const char *path, char buf[static SMALL_FILE])
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = hf_read_full(fd, buf, SMALL_FILE - 1);
	if (n < 0)
		return (int)n;
	buf[n] = 0;
	return (int)n;
}

int hf_proc_parse_stat(const char *text, struct hf_proc_stat *ret)
{
	const char *p = strrchr(text, ')');
	struct hf_proc_stat s = {};
	uint64_t ticks, utime, stime;
	long threads;
	int ppid, session;

	if (!p)
		return -EBADMSG;
	/* Fields 3 (state) to 22 (starttime); see proc_pid_stat(5). */
	if (sscanf(p + 1,
		   " %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
		   " %*d %*d %*d %*d %ld %*d %" SCNu64,
		   &s.state, &ppid, &session, &utime, &stime, &threads, &ticks) != 7)
		return -EBADMSG;
	if (ppid < 0 || session < 0 || threads < 0 || ticks > UINT64_MAX / HF_PROCESS_TICK_NS ||
	    utime > UINT32_MAX * UINT64_C(100) || stime > UINT32_MAX * UINT64_C(100))
		return -EBADMSG;
	s.ppid = (uint32_t)ppid;
	s.session = (uint32_t)session;
	s.threads = (uint32_t)threads;
	s.cpu_ns = (utime + stime) * HF_PROCESS_TICK_NS;
	s.start_ns = ticks * HF_PROCESS_TICK_NS;
	*ret = s;
	return 0;
}

static int open_proc(uint32_t pid)
{
	char path[32];
	int fd;

	(void)hf_strf(path, sizeof(path), "/proc/%u", pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	return fd;
}

int hf_proc_stat(uint32_t pid, struct hf_proc_stat *ret)
{
	_cleanup_close_ int dir = open_proc(pid);
	char buf[SMALL_FILE];
	int r;

	if (dir < 0)
		return dir;
	r = read_small(dir, "stat", buf);
	return r < 0 ? r : hf_proc_parse_stat(buf, ret);
}

/* Calls fn for each thread's directory, THREADS_MAX at most. */
static int for_each_thread(int proc_dir, void (*fn)(int dir, void *arg), void *arg)
{
	int fd = openat(proc_dir, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned n = 0;
	DIR *d;

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	d = fdopendir(fd);
	if (!d) {
		int r = -errno;

		(void)hf_close(fd);
		return r;
	}
	for (struct dirent *e; n < THREADS_MAX && (e = readdir(d));) {
		_cleanup_close_ int thread = -1;

		if (e->d_name[0] == '.')
			continue;
		thread = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (thread < 0)
			continue; /* ended meanwhile */
		fn(thread, arg);
		n++;
	}
	(void)closedir(d);
	return 0;
}

static void sample_thread(int dir, void *arg)
{
	struct hf_proc_sample *s = arg;
	struct hf_proc_stat st;
	char buf[SMALL_FILE];
	uint64_t cpu, wait;

	if (read_small(dir, "schedstat", buf) > 0 &&
	    sscanf(buf, "%" SCNu64 " %" SCNu64, &cpu, &wait) == 2) {
		s->cpu_ns += cpu;
		s->wait_ns += wait;
	}
	if (read_small(dir, "stat", buf) > 0 && hf_proc_parse_stat(buf, &st) == 0) {
		s->uninterruptible |= st.state == 'D';
		s->stopped |= st.state == 'T';
		s->traced |= st.state == 't';
	}
}

static uint64_t keyed_number(const char *text, const char *key)
{
	const char *p = strstr(text, key);

	return p ? strtoull(p + strlen(key), NULL, 10) : 0;
}

int hf_proc_sample(uint32_t pid, uint64_t now_ns, struct hf_proc_sample *ret)
{
	_cleanup_close_ int dir = open_proc(pid);
	struct hf_proc_sample s = {.at_ns = now_ns};
	char buf[SMALL_FILE];
	bool frozen;
	int r;

	if (dir < 0)
		return dir;
	r = for_each_thread(dir, sample_thread, &s);
	if (r < 0)
		return r;
	/* A debugger that has let it run still holds it: breakpoints stop it again any moment. */
	if (read_small(dir, "status", buf) > 0 && keyed_number(buf, "\nTracerPid:") > 0)
		s.traced = true;
	hf_cgroup_hardship(pid, &s.throttled_ns, &frozen);
	s.stopped |= frozen;
	*ret = s;
	return 0;
}

uint64_t hf_proc_rss(uint32_t pid)
{
	_cleanup_close_ int dir = open_proc(pid);
	char buf[SMALL_FILE];
	uint64_t pages;

	if (dir < 0 || read_small(dir, "statm", buf) <= 0 ||
	    sscanf(buf, "%*u %" SCNu64, &pages) != 1)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The pidfd makes it the same process that was looked at. */
static bool kill_if(uint32_t pid, uint32_t session, uint32_t uid, bool any_session)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	_cleanup_close_ int dir = open_proc(pid);
	struct hf_proc_stat st;
	char buf[SMALL_FILE];

	if (dir < 0 || read_small(dir, "stat", buf) <= 0 || hf_proc_parse_stat(buf, &st) < 0 ||
	    st.state == 'Z' || st.state == 'X' || (!any_session && st.session != session))
		return false;
	/* Not the directory's owner: what is not dumpable looks like root's. */
	if (read_small(dir, "status", buf) <= 0 || keyed_number(buf, "\nUid:") != uid)
		return false;
	return syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0;
}

unsigned hf_proc_kill_session(uint32_t session, uint32_t uid, bool any_session)
{
	DIR *d = uid ? opendir("/proc") : NULL;
	unsigned n = 0;

	if (!d)
		return 0;
	for (struct dirent *e; (e = readdir(d));) {
		uint32_t pid;

		if (hf_parse_u32(e->d_name, &pid) == 0 && kill_if(pid, session, uid, any_session))
			n++;
	}
	(void)closedir(d);
	return n;
}

static void describe_thread(int dir, void *arg)
{
	struct hf_buf *out = arg;
	struct hf_proc_stat st;
	char buf[SMALL_FILE];

	if (read_small(dir, "comm", buf) <= 0)
		return;
	buf[strcspn(buf, "\n")] = 0;
	hf_sanitize(buf);
	(void)hf_buf_appendf(out, "thread '%s'", buf);
	if (read_small(dir, "stat", buf) > 0 && hf_proc_parse_stat(buf, &st) == 0)
		(void)hf_buf_appendf(out, " state %c", st.state);
	if (read_small(dir, "wchan", buf) > 0)
		(void)hf_buf_appendf(out, " wchan %s", buf);
	if (read_small(dir, "syscall", buf) > 0)
		(void)hf_buf_appendf(out, " syscall %.*s", (int)strcspn(buf, "\n"), buf);
	(void)hf_buf_appendf(out, "\n");
	if (read_small(dir, "stack", buf) > 0)
		(void)hf_buf_appendf(out, "%s", buf);
}

void hf_proc_describe(uint32_t pid, struct hf_buf *out)
{
	_cleanup_close_ int dir = open_proc(pid);
	char buf[SMALL_FILE];

	if (dir < 0)
		return;
	if (read_small(dir, "status", buf) > 0)
		(void)hf_buf_appendf(out, "%s", buf);
	(void)for_each_thread(dir, describe_thread, out);
}
