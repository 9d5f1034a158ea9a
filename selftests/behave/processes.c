/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of processes, one each. `pid` is the process to look for, `status` what waitpid() gave. */
#include "behave.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int wait_for(pid_t pid)
{
	int status;

	fact("pid", (uint64_t)pid);
	check(waitpid(pid, &status, 0) == pid, "waitpid");
	fact("status", (uint64_t)(unsigned)status);
	return 0;
}

static pid_t child(void)
{
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	check(pid >= 0, "fork");
	if (pid == 0)
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void sleep_ms(long ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	(void)nanosleep(&t, NULL);
}

int behave_exit(int argc, char **argv)
{
	pid_t pid = child();

	if (pid == 0)
		_exit(argc > 1 ? atoi(argv[1]) : 0);
	return wait_for(pid);
}

/* argv: signal number. The sender is this process. */
int behave_killed(int argc, char **argv)
{
	pid_t pid = child();

	if (pid == 0)
		for (;;)
			(void)pause();
	fact("sender", (uint64_t)getpid());
	check(kill(pid, argc > 1 ? atoi(argv[1]) : SIGKILL) == 0, "kill");
	return wait_for(pid);
}

/* Dumps core where it may (the working directory is the test's). */
int behave_abort(int argc, char **argv)
{
	struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	pid_t pid = child();

	(void)argc;
	(void)argv;
	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &unlimited);
		abort();
	}
	return wait_for(pid);
}

static void *exit_later(void *arg)
{
	sleep_ms(50);
	exit((int)(intptr_t)arg);
}

/* The first thread ends at once with 5; the process goes on and ends with 3. */
int behave_leader_first(int argc, char **argv)
{
	pid_t pid = child();
	pthread_t t;

	(void)argc;
	(void)argv;
	if (pid == 0) {
		check(pthread_create(&t, NULL, exit_later, (void *)3) == 0, "thread");
		(void)syscall(SYS_exit, 5);
	}
	return wait_for(pid);
}

static void *thread_exit(void *arg)
{
	sleep_ms(50);
	(void)syscall(SYS_exit, (int)(intptr_t)arg);
	return NULL;
}

/* Nobody calls exit_group(): the first thread ends with 5, then the last one with 7. */
int behave_thread_exit(int argc, char **argv)
{
	pid_t pid = child();
	pthread_t t;

	(void)argc;
	(void)argv;
	if (pid == 0) {
		check(pthread_create(&t, NULL, thread_exit, (void *)7) == 0, "thread");
		(void)syscall(SYS_exit, 5);
	}
	return wait_for(pid);
}

static void *idle(void *arg)
{
	while (pause() < 0)
		;
	return arg;
}

/* argv: how many threads besides the first; all die of one signal. */
int behave_many_threads(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 200, i, ready[2];
	pthread_attr_t small;
	pthread_t t;
	pid_t pid;
	char c;

	check(pipe(ready) == 0, "pipe");
	pid = child();
	if (pid == 0) {
		(void)pthread_attr_init(&small);
		(void)pthread_attr_setstacksize(&small, 65536);
		for (i = 0; i < n; i++)
			check(pthread_create(&t, &small, idle, NULL) == 0, "thread");
		check(write(ready[1], "r", 1) == 1, "tell");
		(void)idle(NULL);
	}
	check(read(ready[0], &c, 1) == 1, "ready");
	fact("threads", (uint64_t)n + 1);
	fact("sender", (uint64_t)getpid());
	check(kill(pid, SIGKILL) == 0, "kill");
	return wait_for(pid);
}

static void *exec_here(void *arg)
{
	(void)arg;
	(void)execl("/proc/self/exe", "behave", "--behave", "exec_thread", "now", (char *)NULL);
	_exit(98);
}

/* A thread that is not the first replaces the program: same pid, and still one exit, with 9. */
int behave_exec_thread(int argc, char **argv)
{
	pthread_t t;
	pid_t pid;

	if (argc > 1 && strcmp(argv[1], "now") == 0)
		_exit(9);
	pid = child();
	if (pid == 0) {
		check(pthread_create(&t, NULL, exec_here, NULL) == 0, "thread");
		(void)idle(NULL);
	}
	return wait_for(pid);
}

static bool write_file(const char *dir, const char *name, const char *text)
{
	char path[512];
	int fd;
	bool ok;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	(void)close(fd);
	return ok;
}

/* argv: a directory of a memory cgroup of our own. The child needs more than its limit. */
int behave_oom(int argc, char **argv)
{
	const size_t want = 64u << 20;
	char text[32];
	pid_t pid;
	char *p;

	check(argc > 1, "a cgroup");
	check(write_file(argv[1], "memory.max", "16777216") ||
		      write_file(argv[1], "memory.limit_in_bytes", "16777216"),
	      "limit");
	/* Swap would only make it slow. */
	(void)(write_file(argv[1], "memory.swap.max", "0") ||
	       write_file(argv[1], "memory.memsw.limit_in_bytes", "16777216"));
	pid = child();
	if (pid == 0) {
		(void)snprintf(text, sizeof(text), "%d", getpid());
		check(write_file(argv[1], "cgroup.procs", text), "move");
		p = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		check(p != MAP_FAILED, "mmap");
		memset(p, 1, want);
		_exit(0);
	}
	return wait_for(pid);
}

/* argv: how many children end with status 1, one after the other. */
int behave_exits(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 100, i;
	pid_t pid;

	for (i = 0; i < n; i++) {
		pid = fork();
		check(pid >= 0, "fork");
		if (pid == 0)
			_exit(1);
		check(waitpid(pid, NULL, 0) == pid, "waitpid");
	}
	return 0;
}
