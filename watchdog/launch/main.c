/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-launch: starts the watchdog that the twin records name (pick.h). Owned by the package,
 * never updates itself, so it does as little as possible.
 *
 * Under systemd (NOTIFY_SOCKET) it becomes the watchdog and systemd restarts that. Otherwise, or
 * with --foreground, it stays the parent:
 *
 * I1. A watchdog that ended for any reason but a requested stop is started again: at once if it had
 *     been up for a while, else after 0.1 s, doubling to 5 s. It never gives up. Only exit code 100
 *     (another instance runs, wrong usage) ends it.
 * I2. SIGTERM and SIGINT stop everything: they are passed on, and we end when the watchdog has.
 * I3. Orphans of a killed watchdog are adopted (subreaper) and reaped, so that the next watchdog's
 *     pidfd sees their end and none stays a zombie.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/launch.h"
#include "holdfast/paths.h"
#include "watchdog/launch/pick.h"

#define EXIT_PERMANENT HF_LAUNCH_EXIT_PERMANENT
#define EXIT_EXEC      126
/* A candidate that counts no healthy time for so long hangs, or is none: it has lost this try. */
#define TRIAL_NS (90 * HF_NS_PER_S)
/* Up for so long it is no crash loop. */
#define SETTLE_NS    (10 * HF_NS_PER_S)
#define DELAY_MIN_NS (100 * HF_NS_PER_MS)
#define DELAY_MAX_NS (5 * HF_NS_PER_S)
/* The watchdog gives a component 10 s before SIGKILL; then it unpins and ends. */
#define STOP_NS (15 * HF_NS_PER_S)

/* Of the instance: where the records are, and of this program: where the package's watchdog is. */
static struct hf_paths paths;
static char packaged[PATH_MAX];

static int init_paths(const char *dir)
{
	ssize_t n = readlink("/proc/self/exe", packaged, sizeof(packaged) - 1);
	char *slash;

	if (n < 0)
		return -errno;
	packaged[n] = 0;
	slash = strrchr(packaged, '/');
	if (!slash || slash == packaged)
		return -ENOENT;
	*slash = 0;
	if (setenv(HF_LAUNCH_ENV_DIR, packaged, 1) < 0 ||
	    setenv(HF_LAUNCH_ENV_VERSION, HF_VERSION, 1) < 0)
		return -ENOMEM;
	return hf_paths_init(dir, &paths);
}

static int execute(const struct hf_pick *pick)
{
	char name[] = HF_LAUNCH_WATCHDOG, flag[] = "--dir", dot[] = ".";
	char *argv[] = {name, paths.installed ? NULL : flag, dot, NULL};

	(void)syscall(SYS_execveat, pick->fd, "", argv, environ, AT_EMPTY_PATH);
	return -errno;
}

/* Returns only if it failed: -errno. */
static int exec_watchdog(void)
{
	struct hf_pick pick;
	int r;

	/* The one on trial, the active one, the one before; then the package's. */
	for (int i = 0; i < 3; i++) {
		r = hf_pick_watchdog(&paths, packaged, &pick);
		if (r < 0)
			return r;
		r = execute(&pick);
		(void)hf_close(pick.fd);
		if (!pick.version[0])
			return r;
		hf_error_r(r, "execute release %s of the watchdog", pick.version);
		hf_pick_failed(&paths, &pick, strerror(-r));
	}
	r = hf_pick_packaged(packaged, &pick);
	if (r < 0)
		return r;
	r = execute(&pick);
	(void)hf_close(pick.fd);
	return r;
}

/* The child ends with EXIT_EXEC when it could not become what was picked. */
static pid_t start_watchdog(const struct hf_pick *pick)
{
	pid_t pid = fork();
	sigset_t none;
	int r;

	if (pid != 0)
		return pid < 0 ? -errno : pid;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	r = execute(pick);
	hf_error_r(r, "execute '" HF_LAUNCH_WATCHDOG "'");
	_exit(EXIT_EXEC);
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / HF_NS_PER_S),
		.tv_nsec = (long)(ns % HF_NS_PER_S),
	};
}

struct launch {
	sigset_t signals;
	pid_t watchdog;       /* 0: none */
	struct hf_pick pick;  /* what it executes; its fd is closed */
	uint64_t progress;    /* of its trial, as it was … */
	uint64_t progress_ns; /* … when it last changed */
	int status;           /* how it ended */
	uint64_t started_ns;
	uint64_t due_ns; /* next start, or SIGKILL when stopping; 0: none */
	unsigned failures;
	bool stopping;
};

static void reap(struct launch *l)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == l->watchdog) {
			l->watchdog = 0;
			l->status = status;
		}
}

static void stop(struct launch *l, uint64_t now_ns)
{
	if (l->stopping)
		return;
	l->stopping = true;
	l->due_ns = now_ns + STOP_NS;
	if (l->watchdog > 0) {
		(void)kill(l->watchdog, SIGTERM);
		(void)kill(l->watchdog, SIGCONT);
	}
}

static void describe(int status, char dst[static 48])
{
	if (WIFSIGNALED(status))
		(void)hf_strf(dst, 48, "was ended by signal %d", WTERMSIG(status));
	else
		(void)hf_strf(dst, 48, "exited with code %d", WEXITSTATUS(status));
}

/* The watchdog is gone and was not meant to be. */
static void schedule(struct launch *l, uint64_t now_ns)
{
	uint64_t delay_ns = 0;
	char how[48];

	/* It gave way to another release of itself: no failure. */
	if (WIFEXITED(l->status) && WEXITSTATUS(l->status) == HF_LAUNCH_EXIT_SUCCESSOR) {
		l->failures = 0;
		l->due_ns = now_ns;
		return;
	}
	describe(l->status, how);
	/* An operator, or the host for want of memory: no fault of its version. */
	if (WIFSIGNALED(l->status) && WTERMSIG(l->status) == SIGKILL)
		hf_pick_forgive(&paths);
	if (now_ns - l->started_ns >= SETTLE_NS) {
		l->failures = 0;
	} else {
		delay_ns = DELAY_MIN_NS;
		for (unsigned i = 0; i < l->failures && delay_ns < DELAY_MAX_NS; i++)
			delay_ns *= 2;
		if (delay_ns > DELAY_MAX_NS)
			delay_ns = DELAY_MAX_NS;
		l->failures++;
	}
	l->due_ns = now_ns + delay_ns;
	hf_warn("the watchdog %s: next start in %llu ms", how,
		(unsigned long long)(delay_ns / HF_NS_PER_MS));
}

/* The word of a candidate that nothing is to be done any more is not taken. */
static bool ended_for_good(const struct launch *l)
{
	if (l->stopping)
		return true;
	if (!WIFEXITED(l->status))
		return false;
	if (WEXITSTATUS(l->status) == 0)
		return hf_pick_ended_orderly(&paths, &l->pick);
	return WEXITSTATUS(l->status) == EXIT_PERMANENT && !l->pick.trial;
}

/* Without systemd nobody else notices that a candidate hangs. */
static void check_trial(struct launch *l, uint64_t now_ns)
{
	uint64_t progress;

	if (!l->pick.trial || l->watchdog <= 0 || l->stopping)
		return;
	progress = hf_pick_trial_progress(&paths);
	if (progress == 0) {
		l->pick.trial = false; /* it has passed */
		l->due_ns = 0;
		return;
	}
	if (progress != l->progress) {
		l->progress = progress;
		l->progress_ns = now_ns;
	}
	l->due_ns = l->progress_ns + TRIAL_NS;
	if (now_ns < l->due_ns)
		return;
	hf_error("the watchdog on trial shows no progress for 90 s: SIGKILL");
	(void)kill(l->watchdog, SIGKILL);
	l->due_ns = now_ns + HF_NS_PER_S;
}

static void start(struct launch *l, uint64_t now_ns)
{
	pid_t pid = hf_pick_watchdog(&paths, packaged, &l->pick);

	l->started_ns = now_ns;
	l->due_ns = 0;
	if (pid == 0) {
		pid = start_watchdog(&l->pick);
		l->pick.fd = hf_close(l->pick.fd);
	}
	if (pid < 0) {
		hf_error_r(pid, "start '" HF_LAUNCH_WATCHDOG "'");
		l->status = 1 << 8;
		schedule(l, now_ns);
		return;
	}
	l->watchdog = pid;
	l->progress_ns = now_ns;
	l->progress = 0;
	check_trial(l, now_ns);
}

/* Waits for a signal or the deadline; returns the signal or 0. */
static int wait_signal(const struct launch *l)
{
	struct timespec timeout;
	uint64_t now_ns = hf_now_monotonic_ns();
	int sig;

	if (!l->due_ns)
		sig = sigwaitinfo(&l->signals, NULL);
	else {
		timeout = timespec_of(l->due_ns > now_ns ? l->due_ns - now_ns : 0);
		sig = sigtimedwait(&l->signals, NULL, &timeout);
	}
	return sig > 0 ? sig : 0;
}

static int supervise(void)
{
	struct launch l = {};

	(void)sigemptyset(&l.signals);
	(void)sigaddset(&l.signals, SIGCHLD);
	(void)sigaddset(&l.signals, SIGTERM);
	(void)sigaddset(&l.signals, SIGINT);
	(void)sigaddset(&l.signals, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &l.signals, NULL);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		hf_warn_r(-errno, "become the reaper of orphans, ignoring");
	start(&l, hf_now_monotonic_ns());
	for (;;) {
		int sig = wait_signal(&l);
		uint64_t now_ns = hf_now_monotonic_ns();
		pid_t before = l.watchdog;

		if (sig == SIGTERM || sig == SIGINT)
			stop(&l, now_ns);
		else if (sig == SIGHUP && l.watchdog > 0)
			(void)kill(l.watchdog, SIGHUP);
		reap(&l);
		if (before > 0 && l.watchdog == 0) {
			if (WIFEXITED(l.status) && WEXITSTATUS(l.status) == EXIT_EXEC)
				hf_pick_failed(&paths, &l.pick, "it cannot be executed");
			if (ended_for_good(&l))
				return WIFEXITED(l.status) ? WEXITSTATUS(l.status) : EXIT_FAILURE;
			schedule(&l, now_ns);
			now_ns = hf_now_monotonic_ns();
		}
		if (l.stopping && l.watchdog == 0)
			return EXIT_SUCCESS;
		if (!l.due_ns || now_ns < l.due_ns)
			continue;
		if (l.stopping) {
			hf_error(
				"the watchdog did not stop in time: SIGKILL; its components may go on");
			(void)kill(l.watchdog, SIGKILL);
			l.due_ns = now_ns + HF_NS_PER_S;
		} else if (l.watchdog == 0) {
			start(&l, now_ns);
		} else {
			l.due_ns = 0;
			check_trial(&l, now_ns);
		}
	}
}

static void usage(FILE *f)
{
	(void)fprintf(
		f, "Usage: holdfast-launch [--dir DIR] [--foreground]\n"
		   "\n"
		   "Starts holdfast-watchdog. Under systemd it becomes the watchdog; otherwise it\n"
		   "stays and restarts it. SIGTERM stops everything.\n"
		   "\n"
		   "  --dir DIR      the instance in DIR instead of the installed one\n"
		   "  --foreground   stay the parent under systemd as well\n"
		   "  --version      print the version\n"
		   "  --help         print this\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"dir", required_argument, NULL, 'd'},
		{"foreground", no_argument, NULL, 'f'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{},
	};
	const char *dir = NULL;
	bool foreground = !getenv("NOTIFY_SOCKET");
	int opt, r;

	hf_log_init("holdfast-launch");
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'd':
			dir = optarg;
			break;
		case 'f':
			foreground = true;
			(void)unsetenv("NOTIFY_SOCKET");
			break;
		case 'V':
			(void)printf("holdfast-launch %s\n", HF_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return EXIT_PERMANENT;
		}
	}
	if (optind != argc) {
		usage(stderr);
		return EXIT_PERMANENT;
	}
	r = init_paths(dir);
	if (r < 0) {
		hf_error_r(r, "find the instance '%s'", dir ? dir : "");
		return EXIT_PERMANENT;
	}
	if (foreground)
		return supervise();
	r = exec_watchdog();
	hf_error_r(r, "execute '" HF_LAUNCH_WATCHDOG "'");
	return EXIT_FAILURE;
}
