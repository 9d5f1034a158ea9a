/* SPDX-License-Identifier: Apache-2.0 */
/* Directories, lock and pid file of an instance. At start only: may wait. */
#include "watchdog/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "watchdog/proc.h"

/* How long an orphaned watchdog may take to let go; it does so within milliseconds. */
#define HAND_OVER_NS (3 * HF_NS_PER_S)

/* Opens the directory itself, never what a link points at, and sets owner and mode. */
static int make_dir(const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	_cleanup_close_ int fd = -1;
	int r;

	r = hf_mkdir_p(AT_FDCWD, path, 0755);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fchown(fd, uid, gid) < 0 || fchmod(fd, mode) < 0)
		return -errno;
	return 0;
}

int hf_instance_make_dirs(const struct hf_paths *p, uid_t uid, gid_t gid, struct hf_err *err)
{
	const struct {
		const char *path;
		mode_t mode;
		uid_t uid;
		gid_t gid;
	} dirs[] = {
		{p->state_dir, 0755, 0, 0},
		{p->watchdog_state, 0700, 0, 0},
		{p->agent_state, 0700, uid, gid},
		{p->run_dir, gid ? 01775 : 0755, 0, gid},
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(dirs); i++) {
		int r = make_dir(dirs[i].path, dirs[i].mode, dirs[i].uid, dirs[i].gid);

		if (r < 0)
			return hf_err_set(err, r, "make directory '%s': %s", dirs[i].path,
					  strerror(-r));
	}
	return 0;
}

static uint32_t read_pid(const char *path)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	uint32_t pid;

	if (hf_read_file(AT_FDCWD, path, 32, &text, &len) < 0)
		return 0;
	text[strcspn(text, "\n")] = 0;
	return hf_parse_u32(text, &pid) == 0 ? pid : 0;
}

/* The last component of /proc/PID/exe, "" if unknown. */
static void program_of(uint32_t pid, char dst[static 64])
{
	char link[64], target[4096], *slash;
	ssize_t n;

	dst[0] = 0;
	(void)hf_strf(link, sizeof(link), "/proc/%u/exe", pid);
	n = readlink(link, target, sizeof(target) - 1);
	if (n <= 0)
		return;
	target[n] = 0;
	target[strcspn(target, " ")] = 0; /* " (deleted)" after an upgrade */
	slash = strrchr(target, '/');
	(void)hf_strlcpy(dst, slash ? slash + 1 : target, 64);
}

/* Is it a watchdog, and does nobody look after it? systemd's own stay systemd's. */
static bool is_orphan(uint32_t pid)
{
	_cleanup_free_ char *environment = NULL;
	char path[64], program[64];
	struct hf_proc_stat st;
	size_t len;

	program_of(pid, program);
	if (!hf_streq(program, "holdfast-watchdog") || hf_proc_stat(pid, &st) < 0)
		return false;
	program_of(st.ppid, program);
	if (hf_streq(program, "holdfast-launch"))
		return false;
	(void)hf_strf(path, sizeof(path), "/proc/%u/environ", pid);
	if (hf_read_file(AT_FDCWD, path, 1 << 20, &environment, &len) < 0)
		return false;
	return !memmem(environment, len, "NOTIFY_SOCKET=", strlen("NOTIFY_SOCKET="));
}

static bool lock_within(int fd, uint64_t timeout_ns)
{
	const struct timespec pause = {.tv_nsec = 5000000};
	uint64_t end_ns = hf_now_monotonic_ns() + timeout_ns;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (hf_now_monotonic_ns() >= end_ns)
			return false;
		(void)nanosleep(&pause, NULL);
	}
	return true;
}

static bool take_over(int fd, uint32_t pid)
{
	if (!pid || !is_orphan(pid))
		return false;
	hf_notice("watchdog pid %u lost its holdfast-launch: taking over from it", pid);
	(void)kill((pid_t)pid, SIGUSR1);
	if (lock_within(fd, HAND_OVER_NS))
		return true;
	(void)kill((pid_t)pid, SIGKILL);
	return lock_within(fd, HF_NS_PER_S);
}

int hf_instance_lock(const struct hf_paths *p, int *ret_fd, struct hf_err *err)
{
	_cleanup_close_ int fd = -1;
	char text[16];
	uint32_t pid;
	int r;

	fd = open(p->watchdog_lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		r = -errno;
		return hf_err_set(err, r, "open '%s': %s", p->watchdog_lock, strerror(-r));
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		pid = read_pid(p->watchdog_pid);
		if (!take_over(fd, pid))
			return hf_err_set(err, -EBUSY,
					  "this instance runs already (holdfast-watchdog, pid %u)",
					  pid);
	}
	(void)hf_strf(text, sizeof(text), "%d\n", getpid());
	/* The run directory is open to the component's group: the name is replaced, not followed. */
	r = hf_write_file_atomic(AT_FDCWD, p->watchdog_pid, text, strlen(text), 0644);
	if (r < 0)
		return hf_err_set(err, r, "write '%s': %s", p->watchdog_pid, strerror(-r));
	*ret_fd = TAKE_FD(fd);
	return 0;
}
