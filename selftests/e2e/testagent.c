/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A component that misbehaves on demand, for e2e tests of the watchdog. It is put in the place of
 * holdfast-agent and speaks the real protocol with the real client (userspace/agent/supervise.c).
 *
 * What it does is the first line of `testagent.mode` in the instance directory, read at each start:
 *   ok                works; ends on SIGTERM or STOP
 *   exit N            READY, then ends with code N
 *   crash             writes a line to stderr and aborts before HELLO
 *   sleep             READY, then never returns to its loop
 *   spin              READY, then burns CPU outside its loop
 *   worker            READY, with a worker that is busy for ever
 *   deaf              works, but ignores SIGTERM and STOP
 *   silent            never says anything
 *   violate           says READY twice on a connection of its own
 *   garbage           sends five bytes on a connection of its own
 *   dstate            READY, then waits 2.5 s in the kernel, unkillable (D), and goes on
 *   busy              works, a fifth of the time on a CPU
 *   leak              works, and takes 64 MiB more
 *   litter            leaves a child behind and exits with code 3
 *   call N            READY, then makes system call number N
 *   write             works, and says what came of writing state/agent/f and open/f
 *   crash-ready       READY, then aborts
 *   unready           works, but never says READY
 *   blind             works, but reports no canary
 *   fat               works, and takes 32 MiB more each 0.1 s
 *   later N           works for N seconds, then aborts
 *   offline           works, but says that it has no portal
 *   preflight         cannot even say its version
 *
 * A release of it has its own mode and version behind the program's end, as "\nTESTAGENT MODE;VERSION\n":
 * it takes both, whatever testagent.mode says, and asks for no kernel events, so that canaries are no
 * matter of its; except in mode blind. All but `offline` say that they have their portal.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/paths.h"
#include "userspace/agent/supervise.h"

static struct hf_paths paths;
static sd_event *event;
static struct hf_supervise *supervise;
static char mode[64], version[HF_SUP_VERSION_MAX] = "test-1";
static bool is_release;

static bool is(const char *m)
{
	return hf_startswith(mode, m);
}

static void on_welcome(const struct hf_sup_welcome *w, void *arg)
{
	(void)arg;
	hf_notice("welcome from %u starts %u", w->watchdog_pid, w->starts);
}

static void on_kernel(enum hf_sup_assist assist, int fds[static _HF_SUP_FD_MAX], void *arg)
{
	(void)arg;
	hf_notice("kernel %s urgent %d bulk %d counters %d info %d", hf_sup_assist_name(assist),
		  fds[0] >= 0, fds[1] >= 0, fds[2] >= 0, fds[3] >= 0);
}

static void on_last_exit(const struct hf_sup_last_exit *e, void *arg)
{
	(void)arg;
	hf_notice("last_exit cause=%s pid=%u code=%d signal=%d", hf_exit_cause_name(e->cause),
		  e->pid, e->code, e->signal);
}

static void on_stop(const char *reason, void *arg)
{
	(void)arg;
	hf_notice("stop: %s", reason);
	if (!is("deaf"))
		(void)sd_event_exit(event, 0);
}

static void on_reload(void *arg)
{
	(void)arg;
	hf_notice("reload");
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *arg)
{
	(void)source;
	(void)si;
	(void)arg;
	if (!is("deaf"))
		(void)sd_event_exit(event, 0);
	return 0;
}

static int raw_connection(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)hf_strlcpy(addr.sun_path, paths.supervise_sock, sizeof(addr.sun_path));
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		exit(4);
	return fd;
}

static void wait_end(int fd)
{
	char buf[HF_SUP_PACKET_MAX];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		;
	hf_notice("connection ended by the watchdog");
	(void)hf_close(fd);
}

static void violate(void)
{
	struct hf_sup_hello hello = {
		.hdr = {HF_SUP_PROTOCOL, HF_SUP_HELLO, sizeof(hello)},
		.component = "agent",
		.version = "raw",
	};
	struct hf_sup_hdr ready = {HF_SUP_PROTOCOL, HF_SUP_READY, sizeof(ready)};
	int fd = raw_connection();

	(void)!send(fd, &hello, sizeof(hello), MSG_NOSIGNAL);
	(void)!send(fd, &ready, sizeof(ready), MSG_NOSIGNAL);
	(void)!send(fd, &ready, sizeof(ready), MSG_NOSIGNAL);
	wait_end(fd);
}

static void garbage(void)
{
	int fd = raw_connection();

	(void)!send(fd, "hello", 5, MSG_NOSIGNAL);
	wait_end(fd);
}

static void burn(uint64_t ns)
{
	struct timespec t;
	uint64_t end = 0, now;

	do {
		(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
		now = (uint64_t)t.tv_sec * HF_NS_PER_S + (uint64_t)t.tv_nsec;
		end = end ? end : now + ns;
	} while (now < end);
}

static void try_write(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	hf_notice("write '%s': %s", path, fd < 0 ? strerror(errno) : "done");
	(void)hf_close(fd);
}

/* After READY: what the mode does next, from the loop. */
static int on_later(sd_event_source *source, uint64_t usec, void *arg)
{
	volatile unsigned long n = 0;

	(void)usec;
	(void)arg;
	if (is("exit "))
		exit(atoi(mode + 5));
	if (is("call "))
		hf_notice("call: %s", syscall(atol(mode + 5)) < 0 ? strerror(errno) : "done");
	if (is("write")) {
		try_write("state/agent/f");
		try_write("open/f");
	}
	if (is("leak")) {
		void *p = malloc(64 << 20);

		if (p)
			memset(p, 1, 64 << 20); /* kept until the end */
	}
	/* The parent of a vfork waits uninterruptibly until the child ends. */
	if (is("dstate") && vfork() == 0) {
		(void)usleep(2500000);
		_exit(0);
	}
	if (is("busy")) {
		burn(20 * HF_NS_PER_MS);
		(void)sd_event_source_set_time_relative(source, 100000);
		(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	if (is("crash-ready") || is("later"))
		abort();
	if (is("fat")) {
		void *p = malloc(32 << 20);

		if (p)
			memset(p, 1, 32 << 20);
		(void)sd_event_source_set_time_relative(source, 100000);
		(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	while (is("sleep"))
		(void)pause();
	while (is("spin"))
		n++;
	return 0;
}

static void read_mode(void)
{
	FILE *f = fopen("testagent.mode", "re");

	if (!f || !fgets(mode, sizeof(mode), f))
		(void)hf_strlcpy(mode, "ok", sizeof(mode));
	mode[strcspn(mode, "\n")] = 0;
	if (f)
		(void)fclose(f);
}

/* What stands behind the end of a release's program. */
static void read_trailer(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char text[129] = "", *at;
	off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;

	if (end > 128)
		(void)!pread(fd, text, 128, end - 128);
	(void)hf_close(fd);
	/* The program's own bytes may have a NUL anywhere. */
	at = memmem(text, 128, "\nTESTAGENT ", 11);
	if (!at)
		return;
	at += 11;
	at[strcspn(at, "\n")] = 0;
	is_release = true;
	(void)hf_strlcpy(version, strchr(at, ';') ? strchr(at, ';') + 1 : "", sizeof(version));
	at[strcspn(at, ";")] = 0;
	(void)hf_strlcpy(mode, at, sizeof(mode));
}

int main(int argc, char **argv)
{
	static const struct hf_supervise_callbacks callbacks = {
		.welcome = on_welcome,
		.kernel = on_kernel,
		.last_exit = on_last_exit,
		.stop = on_stop,
		.reload = on_reload,
	};
	sd_event_source *later = NULL;
	sigset_t set;
	int r;

	uint64_t later_us = 200000;

	hf_log_init("testagent");
	read_trailer();
	if (argc == 2 && hf_streq(argv[1], "--version")) {
		if (is("preflight")) {
			(void)fprintf(stderr, "libmissing.so: cannot open shared object file\n");
			return 127;
		}
		(void)printf("testagent %s\n", version);
		return 0;
	}
	/* --dir DIR, or the installed instance. */
	if ((argc != 1 && argc != 3) || hf_paths_init(argc == 3 ? argv[2] : NULL, &paths) < 0)
		return 2;
	if (!is_release)
		read_mode();
	if (is("later "))
		later_us = strtoull(mode + 6, NULL, 10) * 1000000;
	hf_notice("pid %d uid %u mode %s version %s", getpid(), getuid(), mode, version);
	if (is("crash")) {
		(void)fprintf(stderr, "last words of a crashing component\n");
		abort();
	}
	if (is("litter") && fork() == 0) {
		(void)sleep(60);
		_exit(0);
	}
	if (is("litter"))
		exit(3);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	if (is("silent"))
		for (;;)
			(void)pause();
	if (is("violate"))
		violate();
	if (is("garbage"))
		garbage();
	r = sd_event_default(&event);
	if (r >= 0)
		r = sd_event_add_signal(event, NULL, SIGTERM, on_signal, NULL);
	if (r >= 0)
		r = hf_supervise_new(event, paths.supervise_sock, "agent", version,
				     !is_release || is("blind"), &callbacks, NULL, &supervise);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &later, CLOCK_MONOTONIC, later_us, 1000,
					       on_later, NULL);
	if (r < 0)
		return 1;
	if (is("worker"))
		hf_supervise_progress(supervise, (unsigned)hf_supervise_add_worker(supervise), 7);
	if (!is("unready"))
		hf_supervise_ready(supervise);
	hf_supervise_session(supervise, !is("offline"));
	hf_supervise_status(supervise, "mode %s", mode);
	(void)sd_event_loop(event);
	supervise = hf_supervise_free(supervise);
	return 0;
}
