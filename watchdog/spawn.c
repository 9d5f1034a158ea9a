/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork and exec of a component or a worker.
 *
 * I1. Between clone and exec the child calls only raw system calls and pure functions: other
 *     threads (nng's) may have held any lock of libc. glibc's setresuid() would even signal
 *     threads that do not exist in the child.
 * I2. The first failing step ends the child before exec: nothing runs with more rights than meant.
 *     Only what a host may refuse for good reason may fail without that: the cgroup, the OOM score,
 *     limits above our own, and, reported to the caller, the view and the filter of confine.h.
 */
#include "watchdog/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "watchdog/confine.h"

/* Newer kernels have more capabilities than our headers know; the kernel says EINVAL at its end. */
#define CAP_END 64
/*
 * The limit of descriptors of what we start; and the number of the one that is executed, which
 * thereby can never be opened again (confine_filter.c).
 */
#define FD_LIMIT 1024
/* Above every number that a worker's descriptors get, below every limit of descriptors. */
#define OUT_OF_THE_WAY 64
/* Class 3 of ioprio_set(2), which has no header of libc: only when nobody else wants the disk. */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_IDLE        (3 << 13)

/* The path of an exec by descriptor. An object of its own: the filter knows it by its address. */
static const char no_path[] = "";

/* Steps of the child, in order; what it reports is the number and an errno. */
enum step {
	STEP_SESSION,
	STEP_NETWORK,
	STEP_STDIO,
	STEP_DESCRIPTORS,
	STEP_VIEW,
	STEP_BOUNDING,
	STEP_GROUPS,
	STEP_GID,
	STEP_UID,
	STEP_CAPABILITIES,
	STEP_NO_NEW_PRIVS,
	STEP_SIGNALS,
	STEP_PARENT,
	STEP_FILTER,
	STEP_EXEC,
	_STEP_MAX,
};

static const char *const step_names[] = {
	[STEP_SESSION] = "setsid",
	[STEP_NETWORK] = "leave the network",
	[STEP_STDIO] = "set up descriptors",
	[STEP_DESCRIPTORS] = "close descriptors",
	[STEP_VIEW] = "read-only view",
	[STEP_BOUNDING] = "drop the bounding set",
	[STEP_GROUPS] = "setgroups",
	[STEP_GID] = "setresgid",
	[STEP_UID] = "setresuid",
	[STEP_CAPABILITIES] = "drop capabilities",
	[STEP_NO_NEW_PRIVS] = "no_new_privs",
	[STEP_SIGNALS] = "reset signals",
	[STEP_PARENT] = "outlive nobody",
	[STEP_FILTER] = "system call filter",
	[STEP_EXEC] = "exec",
};
_Static_assert(HF_ARRAY_SIZE(step_names) == _STEP_MAX, "every step has a name");

struct failure {
	int step;
	int error;
};

static int close_others(void)
{
	struct rlimit limit;
	int end = 4096;

	/* All of ours are close-on-exec already; this is for what a library forgot. */
	if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
		return 0;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)end)
		end = (int)limit.rlim_cur;
	for (int fd = 3; fd < end; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (flags >= 0 && fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0)
			return -1;
	}
	return 0;
}

static int set_stdio(const struct hf_spawn *s)
{
	int in = s->worker.fds_n ? s->worker.stdin_fd : open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (in < 0)
		return -1;
	if (dup2(in, STDIN_FILENO) < 0 || dup2(s->stderr_fd, STDOUT_FILENO) < 0 ||
	    dup2(s->stderr_fd, STDERR_FILENO) < 0)
		return -1;
	return 0;
}

/*
 * Puts a worker's descriptors at 3, 4, …. All of them first move out of the way of each other, and
 * so does the one that the rest of the child needs; the executable has done so before.
 */
static int set_descriptors(const struct hf_spawn *s, int *report_fd)
{
	int moved[HF_SPAWN_FDS_MAX];

	if (!s->worker.fds_n)
		return 0;
	*report_fd = fcntl(*report_fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	if (*report_fd < 0)
		return -1;
	for (size_t i = 0; i < s->worker.fds_n; i++) {
		moved[i] = fcntl(s->worker.fds[i], F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
		if (moved[i] < 0)
			return -1;
	}
	for (size_t i = 0; i < s->worker.fds_n; i++)
		if (dup2(moved[i], (int)i + 3) < 0)
			return -1;
	return 0;
}

static int drop_bounding(uint64_t keep)
{
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long cap = 0; cap < CAP_END; cap++) {
		if (keep >> cap & 1 || prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
			continue;
		if (errno != EINVAL || cap == 0)
			return -1;
		break;
	}
	/* What is kept has to survive the change of user. */
	return keep ? prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) : 0;
}

/* Everything but `keep`, of which we may have only a part ourselves (a container). */
static int drop_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

	if (keep && syscall(SYS_capget, &header, data) < 0)
		return -1;
	for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i].permitted &= (uint32_t)(keep >> (32 * i));
		data[i].effective = data[i].inheritable = data[i].permitted;
	}
	keep = data[0].permitted | (uint64_t)data[1].permitted << 32;
	if (syscall(SYS_capset, &header, data) < 0)
		return -1;
	for (unsigned long cap = 0; cap < CAP_END; cap++)
		if (keep >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return -1;
	return 0;
}

static int reset_signals(void)
{
	/* As the kernel takes it: handler, flags, restorer, mask. All zero is SIG_DFL. */
	static const unsigned long dfl[4];
	sigset_t none;

	/*
	 * exec resets handlers, but keeps what is ignored and what is blocked. By system call: libc
	 * refuses its own two signals, which a parent may have left ignored.
	 */
	for (int sig = 1; sig < NSIG; sig++)
		(void)syscall(SYS_rt_sigaction, sig, dfl, NULL, NSIG / 8); /* not KILL and STOP */
	(void)sigemptyset(&none);
	return (int)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, NSIG / 8);
}

static void set_limit(int resource, uint64_t value)
{
	const struct rlimit r = {value, value};

	if (value)
		(void)setrlimit((__rlimit_resource_t)resource, &r);
}

static void set_limits(const struct hf_spawn *s)
{
	/* A core would hold the agent's key; descriptors and threads: ten times what it needs. */
	static const struct {
		int resource;
		rlim_t value;
	} limits[] = {
		{RLIMIT_CORE, 0},
		{RLIMIT_NOFILE, FD_LIMIT},
		{RLIMIT_NPROC, 512},
	};
	char text[8];
	int n = 0, v = s->oom_score_adj, fd;

	if (s->worker.background) {
		(void)setpriority(PRIO_PROCESS, 0, 19);
		(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
	} /* else ours, until hf_spawn() gives it its own: a busy host does not delay the exec */
	set_limit(RLIMIT_DATA, s->worker.memory_bytes);
	set_limit(RLIMIT_FSIZE, s->worker.file_bytes);
	for (size_t i = 0; i < HF_ARRAY_SIZE(limits); i++) {
		const struct rlimit r = {limits[i].value, limits[i].value};

		(void)setrlimit((__rlimit_resource_t)limits[i].resource, &r);
	}
	if (v < 0) {
		text[n++] = '-';
		v = -v;
	}
	for (int digit = 1000; digit; digit /= 10)
		text[n++] = (char)('0' + v / digit % 10);
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!write(fd, text, (size_t)n); /* lower than ours needs CAP_SYS_RESOURCE */
}

/* Where the host's limit does not reach so far, as far as it must. */
static int move_executable(int fd)
{
	const struct rlimit limit = {FD_LIMIT + 1, FD_LIMIT + 1};
	int moved;

	(void)setrlimit(RLIMIT_NOFILE, &limit); /* set_limits() brings it down again */
	moved = fcntl(fd, F_DUPFD_CLOEXEC, FD_LIMIT);
	return moved >= 0 ? moved : fcntl(fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
}

static void report(int report_fd, enum step step, int error)
{
	const struct failure f = {.step = (int)step, .error = error};

	(void)!write(report_fd, &f, sizeof(f));
}

_Noreturn static void fail(int report_fd, enum step step)
{
	report(report_fd, step, errno);
	_exit(127);
}

/* After the last change of user, which forgets it. We may have ended before it was set. */
static int die_with_parent(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return -1;
	errno = ESRCH;
	return syscall(SYS_getppid) == parent ? 0 : -1;
}

_Noreturn static void child(const struct hf_spawn *s, pid_t parent, int report_fd)
{
	int exe_fd, no_network_error = 0, r;

	if (syscall(SYS_setsid) < 0)
		fail(report_fd, STEP_SESSION);
	if (s->worker.no_network && unshare(CLONE_NEWNET) < 0)
		no_network_error = errno;
	exe_fd = move_executable(s->exe_fd);
	if (exe_fd < 0)
		fail(report_fd, STEP_DESCRIPTORS);
	set_limits(s);
	if (set_stdio(s) < 0)
		fail(report_fd, STEP_STDIO);
	if (close_others() < 0)
		fail(report_fd, STEP_DESCRIPTORS);
	if (set_descriptors(s, &report_fd) < 0)
		fail(report_fd, STEP_STDIO);
	r = s->confine ? hf_confine_view(s->confine) : 0;
	if (r < 0)
		report(report_fd, STEP_VIEW, -r);
	if (drop_bounding(s->worker.capabilities) < 0)
		fail(report_fd, STEP_BOUNDING);
	if (syscall(SYS_setgroups, 0, NULL) < 0)
		fail(report_fd, STEP_GROUPS);
	if (syscall(SYS_setresgid, s->gid, s->gid, s->gid) < 0)
		fail(report_fd, STEP_GID);
	if (syscall(SYS_setresuid, s->uid, s->uid, s->uid) < 0)
		fail(report_fd, STEP_UID);
	if (drop_capabilities(s->worker.capabilities) < 0)
		fail(report_fd, STEP_CAPABILITIES);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(report_fd, STEP_NO_NEW_PRIVS);
	if (reset_signals() < 0)
		fail(report_fd, STEP_SIGNALS);
	if (s->worker.dies_with_us && die_with_parent(parent) < 0)
		fail(report_fd, STEP_PARENT);
	r = s->confine ? hf_confine_seal(s->confine, exe_fd, no_path) : 0;
	if (r < 0)
		report(report_fd, STEP_FILTER, -r);
	/* Without a namespace of its own (a container) the filter has to keep it from the network. */
	errno = no_network_error;
	if (no_network_error && (r < 0 || !s->confine))
		fail(report_fd, STEP_NETWORK);
	(void)syscall(SYS_execveat, exe_fd, no_path, s->argv, s->envp, AT_EMPTY_PATH);
	fail(report_fd, STEP_EXEC);
}

static pid_t clone_child(const struct hf_spawn *s, int *pidfd, bool *in_cgroup)
{
	struct clone_args args = {
		.flags = CLONE_VFORK | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
	};
	pid_t pid;

	*in_cgroup = false;
	if (s->cgroup_dir >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)s->cgroup_dir;
		/* Said before, since the child sees its own copy of it. */
		*in_cgroup = true;
		pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
		if (pid >= 0)
			return pid;
		*in_cgroup = false;
		args.flags &= ~(uint64_t)CLONE_INTO_CGROUP;
		args.cgroup = 0;
	}
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid >= 0 || (errno != ENOSYS && errno != EPERM && errno != EINVAL))
		return pid;
	/* Seccomp profiles of old container runtimes refuse clone3. */
	*pidfd = -1;
	return (pid_t)syscall(SYS_clone, CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL);
}

int hf_spawn(const struct hf_spawn *s, struct hf_spawned *ret, const char **ret_step)
{
	_cleanup_close_ int report_read = -1, report_write = -1, pidfd = -1;
	struct hf_spawned out = {};
	struct failure failure;
	sigset_t all, before;
	pid_t self = getpid();
	int pipe_fd[2];
	ssize_t n;

	*ret_step = "clone";
	if (s->uid == 0 || s->gid == 0 || s->worker.fds_n > HF_SPAWN_FDS_MAX)
		return -EINVAL;
	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return -errno;
	report_read = pipe_fd[0];
	report_write = pipe_fd[1];

	/* No signal of ours may be handled in the child before it reset them. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	out.pid = clone_child(s, &pidfd, &out.in_cgroup);
	if (out.pid == 0)
		child(s, self, report_write);
	out.exec_ns = hf_now_boottime_ns();
	n = -errno;
	if (out.pid > 0 && !s->worker.background)
		(void)setpriority(PRIO_PROCESS, (id_t)out.pid,
				  0); /* before it has a second thread */
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (out.pid < 0)
		return (int)n;

	(void)hf_close(TAKE_FD(report_write));
	/* exec closed the child's end, so this never waits. */
	while (hf_read_full(report_read, &failure, sizeof(failure)) == (ssize_t)sizeof(failure) &&
	       failure.step < _STEP_MAX) {
		if (failure.step == STEP_VIEW) {
			out.view_error = -failure.error;
		} else if (failure.step == STEP_FILTER) {
			out.filter_error = -failure.error;
		} else {
			(void)waitpid(out.pid, NULL, 0); /* it is on its way out */
			*ret_step = step_names[failure.step];
			return failure.error > 0 ? -failure.error : -EIO;
		}
	}
	if (pidfd < 0)
		pidfd = (int)syscall(SYS_pidfd_open, out.pid, 0);
	out.pidfd = TAKE_FD(pidfd);
	*ret = out;
	return 0;
}
