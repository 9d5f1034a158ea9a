/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers: start, limits, frames, end.
 *
 *   running    its process lives; frames extend the idle limit when their work grew
 *   ending     SIGTERM was sent or DONE came: SIGKILL when the grace is over
 *   killed     SIGKILL was sent, its end is awaited
 *   clearing   its process is gone, what it left is being killed
 *   stuck      told as ended, but the kernel does not let go of it (D state): its line stays busy
 *
 * I1. The verdict is set once, by what comes first: its DONE, a broken rule, a limit, a cancel. What
 *     comes later changes nothing, so on_done cannot contradict itself.
 * I2. on_done comes from the loop only, never from within hf_worker_start() or _cancel(): callers
 *     need not expect it under their own feet.
 * I3. Its frames are read in bounded batches, and too many of them end it: a worker cannot keep the
 *     loop from the components.
 */
#include "watchdog/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/str.h"
#include "watchdog/account.h"
#include "watchdog/cgroup.h"
#include "watchdog/confine.h"
#include "watchdog/proc.h"
#include "watchdog/spawn.h"
#include "watchdog/tail.h"

#define WORKER_MAGIC 0x574f524bu
/* Ours send four frames a second; a burst is what lay in the socket while we were busy. */
#define FRAMES_BURST       1000
#define FRAMES_INTERVAL_NS (2 * HF_NS_PER_MS)
/* Frames per wakeup: the socket's buffer holds some hundreds. */
#define BATCH_MAX 64
#define DRAIN_MAX 4096
/* To write its result after SIGTERM, and to exit after DONE. */
#define GRACE_NS (5 * HF_NS_PER_S)
/* SIGKILL ends everything that is not in the kernel; what has not ended by then is. */
#define STUCK_NS (10 * HF_NS_PER_S)
/* What a worker left may fork while it is being killed: looked at again until there is nothing. */
#define CLEAR_STEP_NS (10 * HF_NS_PER_MS)
#define CLEAR_MAX_NS  (5 * HF_NS_PER_S)
#define ENV_MAX       8
/* For SIGKILL to do its work, when we end ourselves. */
#define LAST_WAIT_MS 2000

enum phase {
	PHASE_RUNNING,
	PHASE_ENDING,
	PHASE_KILLED,
	PHASE_CLEARING,
	PHASE_STUCK,
};

struct hf_worker {
	unsigned magic;
	struct hf_workers *owner;
	struct hf_worker_spec spec; /* as it was at the start */
	struct hf_worker_request request;
	enum phase phase;
	pid_t pid;
	int pidfd, sock, result, cgroup_dir;
	uid_t uid;
	bool in_cgroup;
	bool asked; /* cancelled by our caller */
	char last_text[HF_WORKER_TEXT_MAX];
	uint32_t percent;
	uint64_t work;
	uint64_t started_ns, idle_end_ns, hard_end_ns;
	uint64_t phase_end_ns; /* of every phase but running */
	bool judged;           /* I1 */
	enum hf_worker_outcome outcome;
	char reason[HF_WORKER_TEXT_MAX];
	struct hf_ratelimit frames;
	struct hf_tail tail;
	struct hf_log_field fields[2]; /* of its lines in the journal */
	sd_event_source *exit_source, *frame_source, *timer, *tail_source;
};

struct hf_workers {
	struct hf_watchdog *w;
	struct hf_worker_spec table[HF_WORKERS_MAX];
	struct hf_worker *running[HF_WORKERS_MAX]; /* of the line of that number */
	size_t n;
};

static struct hf_worker *worker_free(struct hf_worker *k)
{
	if (!k)
		return NULL;
	sd_event_source_disable_unref(k->exit_source);
	sd_event_source_disable_unref(k->frame_source);
	sd_event_source_disable_unref(k->timer);
	sd_event_source_disable_unref(k->tail_source);
	hf_tail_done(&k->tail);
	(void)hf_close(k->pidfd);
	(void)hf_close(k->sock);
	(void)hf_close(k->result);
	(void)hf_close(k->cgroup_dir);
	k->magic = 0;
	free(k);
	return NULL;
}
HF_DEFINE_CLEANUP(struct hf_worker *, worker_free);

static void group_name(const struct hf_worker_spec *spec, char dst[static 64])
{
	(void)hf_strf(dst, 64, "worker-%s", spec->name);
}

/* ---- the end of a worker --------------------------------------------------------------------- */

/* I1 */
static void judge(struct hf_worker *k, enum hf_worker_outcome outcome, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void judge(struct hf_worker *k, enum hf_worker_outcome outcome, const char *fmt, ...)
{
	va_list ap;

	if (k->judged)
		return;
	k->judged = true;
	k->outcome = outcome;
	va_start(ap, fmt);
	(void)vsnprintf(k->reason, sizeof(k->reason), fmt, ap);
	va_end(ap);
}

/*
 * Is everything of its user a leftover of it? Only where the user serves one installed instance and
 * nothing else: development instances share numbers, and an administrator may name any account.
 */
static bool owns_its_user(const struct hf_workers *ws, const struct hf_worker_spec *spec,
			  const struct hf_worker *self, uid_t uid)
{
	if (!ws->w->paths.installed || hf_streq0(spec->account, ws->w->config.component.agent.user))
		return false;
	for (size_t i = 0; i < ws->n; i++)
		if (ws->running[i] && ws->running[i] != self && ws->running[i]->uid == uid)
			return false;
	return true;
}

static void count_one(uint32_t pid, void *arg)
{
	(void)pid;
	(*(unsigned *)arg)++;
}

/* Kills what is left of it; how many there still were. */
static unsigned kill_leftovers(struct hf_worker *k)
{
	unsigned n = 0;

	if (!k->in_cgroup)
		return hf_proc_kill_session((uint32_t)k->pid, k->uid,
					    owns_its_user(k->owner, &k->spec, k, k->uid));
	(void)hf_cgroup_kill(k->cgroup_dir);
	return hf_cgroup_each(k->cgroup_dir, count_one, &n) < 0 ? 0 : n;
}

/* What it wrote becomes unchangeable and ours to hand out. */
static int take_result(struct hf_worker *k)
{
	struct stat st;

	if (fstat(k->result, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size > k->spec.result_bytes)
		return -EFBIG;
	if (fcntl(k->result, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0 ||
	    lseek(k->result, 0, SEEK_SET) < 0)
		return -errno;
	return 0;
}

/* Tells how it ended. A stuck one stays on its line until the kernel lets go of it. */
static void report(struct hf_worker *k)
{
	_cleanup_close_ int result = -1;
	int r;

	if (k->judged && k->outcome == HF_WORKER_SUCCEEDED) {
		r = take_result(k);
		if (r < 0) {
			k->outcome = HF_WORKER_FAILED;
			(void)hf_strf(k->reason, sizeof(k->reason), "take its result: %s",
				      strerror(-r));
		} else {
			result = TAKE_FD(k->result);
		}
	}
	judge(k, HF_WORKER_FAILED, "ended without a word"); /* unless something is known */
	hf_sanitize(k->reason);
	if (k->outcome == HF_WORKER_FAILED || k->outcome == HF_WORKER_TIMED_OUT)
		hf_warn("worker '%s' %s: %s", k->spec.name, hf_worker_outcome_name(k->outcome),
			k->reason);
	else
		hf_info("worker '%s' %s", k->spec.name, hf_worker_outcome_name(k->outcome));
	k->request.on_done(k->request.userdata, k->outcome, TAKE_FD(result), k->reason);
	k->request.on_done = NULL;
}

static void finish(struct hf_worker *k)
{
	struct hf_workers *ws = k->owner;
	char name[64];

	for (size_t i = 0; i < ws->n; i++)
		if (ws->running[i] == k)
			ws->running[i] = NULL;
	k->cgroup_dir = hf_close(k->cgroup_dir);
	group_name(&k->spec, name);
	if (ws->w->cgroup_base >= 0)
		hf_cgroup_remove(ws->w->cgroup_base, name);
	if (k->request.on_done)
		report(k);
	worker_free(k);
}

static void arm(struct hf_worker *k)
{
	uint64_t at_ns = k->phase_end_ns;

	if (k->phase == PHASE_RUNNING)
		at_ns = k->idle_end_ns < k->hard_end_ns ? k->idle_end_ns : k->hard_end_ns;
	(void)sd_event_source_set_time(k->timer, at_ns / HF_NS_PER_US + 1);
	(void)sd_event_source_set_enabled(k->timer, SD_EVENT_ONESHOT);
}

static void enter(struct hf_worker *k, enum phase phase, uint64_t length_ns)
{
	k->phase = phase;
	k->phase_end_ns = hf_now_monotonic_ns() + length_ns;
	arm(k);
}

static void send_signal(const struct hf_worker *k, int sig)
{
	(void)syscall(SYS_pidfd_send_signal, k->pidfd, sig, NULL, 0); /* gone is as good */
}

static void kill_it(struct hf_worker *k)
{
	if (k->phase >= PHASE_KILLED)
		return;
	send_signal(k, SIGKILL);
	(void)kill_leftovers(k);
	enter(k, PHASE_KILLED, STUCK_NS);
}

/* The last line it wrote to stderr, for a worker that died without a word. */
static void last_line(struct hf_worker *k, char *dst, size_t size)
{
	char text[HF_TAIL_KEEP + 1], *line;

	hf_tail_read(&k->tail);
	hf_tail_text(&k->tail, text);
	while (*text && text[strlen(text) - 1] == '\n')
		text[strlen(text) - 1] = 0;
	line = strrchr(text, '\n');
	(void)hf_strlcpy(dst, line ? line + 1 : text, size);
}

static void judge_status(struct hf_worker *k, int status)
{
	char line[128];

	if (k->judged)
		return;
	k->tail.origin.pid = 0;
	last_line(k, line, sizeof(line));
	if (k->asked)
		judge(k, HF_WORKER_CANCELLED, "cancelled");
	else if (WIFSIGNALED(status))
		judge(k, HF_WORKER_FAILED, "ended by signal %d (%s)%s%s", WTERMSIG(status),
		      strsignal(WTERMSIG(status)), *line ? ": " : "", line);
	else
		judge(k, HF_WORKER_FAILED, "ended with code %d before it was done%s%s",
		      WEXITSTATUS(status), *line ? ": " : "", line);
}

/* ---- frames ----------------------------------------------------------------------------------- */

static void on_progress(struct hf_worker *k, const struct hf_worker_frame *f)
{
	bool news = f->percent > k->percent || !hf_streq(f->text, k->last_text);

	if (f->work > k->work) {
		k->work = f->work;
		k->idle_end_ns = hf_now_monotonic_ns() + k->request.idle_limit_ns;
	}
	if (f->percent > k->percent)
		k->percent = f->percent;
	(void)hf_strlcpy(k->last_text, f->text, sizeof(k->last_text));
	if (news && k->request.on_progress)
		k->request.on_progress(k->request.userdata, k->percent, k->last_text);
}

static void on_frame(struct hf_worker *k, const struct hf_worker_frame *f)
{
	if (f->type == HF_WORKER_PROGRESS) {
		on_progress(k, f);
		return;
	}
	judge(k, (enum hf_worker_outcome)f->outcome, "%s", f->text);
	if (k->phase < PHASE_KILLED)
		enter(k, PHASE_ENDING, GRACE_NS);
}

/* Takes up to max frames. False: there will be no more that count. */
static bool take_frames(struct hf_worker *k, unsigned max)
{
	for (unsigned i = 0; i < max && !k->judged; i++) {
		union {
			struct hf_worker_frame frame;
			char bytes[sizeof(struct hf_worker_frame) + 1];
		} packet;
		ssize_t n = recv(k->sock, &packet, sizeof(packet), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0)
			return false; /* it closed its end; its own end decides */
		if (hf_worker_frame_check(&packet, (size_t)n) < 0) {
			judge(k, HF_WORKER_FAILED, "sent what is not a frame");
			kill_it(k);
		} else if (!hf_ratelimit_take(&k->frames, hf_now_monotonic_ns())) {
			judge(k, HF_WORKER_FAILED, "sent more frames than a worker may");
			kill_it(k);
		} else {
			on_frame(k, &packet.frame);
		}
	}
	return !k->judged;
}

static int on_frames(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_worker *k = HF_CAST(userdata, struct hf_worker, WORKER_MAGIC);

	(void)fd;
	(void)revents;
	if (!take_frames(k, BATCH_MAX))
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	else if (k->phase == PHASE_RUNNING)
		arm(k);
	return 0;
}

static int on_stderr(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_worker *k = HF_CAST(userdata, struct hf_worker, WORKER_MAGIC);

	(void)source;
	(void)fd;
	(void)revents;
	hf_tail_read(&k->tail);
	return 0;
}

/* ---- time and exit ------------------------------------------------------------------------------ */

static void clear(struct hf_worker *k)
{
	uint64_t now_ns = hf_now_monotonic_ns();

	if (kill_leftovers(k) == 0 || now_ns >= k->phase_end_ns) {
		finish(k);
		return;
	}
	(void)sd_event_source_set_time(k->timer, (now_ns + CLEAR_STEP_NS) / HF_NS_PER_US);
	(void)sd_event_source_set_enabled(k->timer, SD_EVENT_ONESHOT);
}

static int on_exit_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_worker *k = HF_CAST(userdata, struct hf_worker, WORKER_MAGIC);
	int status = 0;

	(void)fd;
	(void)revents;
	if (waitpid(k->pid, &status, WNOHANG) == 0)
		return 0;
	(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	(void)sd_event_source_set_enabled(k->frame_source, SD_EVENT_OFF);
	/* Its last words may still lie in the socket. */
	(void)take_frames(k, DRAIN_MAX);
	judge_status(k, status);
	k->phase = PHASE_CLEARING;
	k->phase_end_ns = hf_now_monotonic_ns() + CLEAR_MAX_NS;
	clear(k);
	return 0;
}

static void format_limit(uint64_t ns, char dst[static 32])
{
	hf_format_duration(ns, dst, 32);
}

static void check_limits(struct hf_worker *k)
{
	uint64_t now_ns = hf_now_monotonic_ns();
	char limit[32];

	if (now_ns >= k->hard_end_ns) {
		format_limit(k->request.hard_limit_ns, limit);
		judge(k, HF_WORKER_TIMED_OUT, "not done after %s: %s", limit, k->last_text);
		kill_it(k);
	} else if (now_ns >= k->idle_end_ns) {
		format_limit(k->request.idle_limit_ns, limit);
		judge(k, HF_WORKER_TIMED_OUT, "no progress for %s: %s", limit, k->last_text);
		kill_it(k);
	} else {
		arm(k);
	}
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_worker *k = HF_CAST(userdata, struct hf_worker, WORKER_MAGIC);

	(void)source;
	(void)usec;
	switch (k->phase) {
	case PHASE_RUNNING:
		/* What it said may wait in the socket since we were busy ourselves. */
		if (!take_frames(k, BATCH_MAX))
			(void)sd_event_source_set_enabled(k->frame_source, SD_EVENT_OFF);
		if (k->phase == PHASE_RUNNING)
			check_limits(k);
		break;
	case PHASE_ENDING:
		judge(k, HF_WORKER_CANCELLED, "cancelled");
		kill_it(k);
		break;
	case PHASE_KILLED:
		k->phase = PHASE_STUCK;
		report(k);
		break;
	case PHASE_CLEARING:
		clear(k);
		break;
	case PHASE_STUCK:
		break;
	}
	return 0;
}

/* ---- the start of a worker ----------------------------------------------------------------------- */

static int make_memfd(const char *name, const char *text)
{
	_cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	if (!text)
		return TAKE_FD(fd);
	r = hf_write_full(fd, text, strlen(text));
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0 ||
	    lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static void build_env(char *env[static ENV_MAX + 1], char *path)
{
	static const char *const passed[] = {
		"HOLDFAST_LOG=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS="};
	size_t n = 0;

	env[n++] = path;
	for (char **e = environ; *e && n < ENV_MAX; e++)
		for (size_t i = 0; i < HF_ARRAY_SIZE(passed); i++)
			if (hf_startswith(*e, passed[i])) {
				env[n++] = *e;
				break;
			}
	env[n] = NULL;
}

static int watch(struct hf_worker *k)
{
	sd_event *event = k->owner->w->event;
	int r;

	r = sd_event_add_io(event, &k->exit_source, k->pidfd, EPOLLIN, on_exit_event, k);
	if (r >= 0)
		r = sd_event_add_io(event, &k->frame_source, k->sock, EPOLLIN, on_frames, k);
	if (r >= 0)
		r = sd_event_add_io(event, &k->tail_source, k->tail.fd, EPOLLIN, on_stderr, k);
	if (r >= 0)
		r = sd_event_add_time(event, &k->timer, CLOCK_MONOTONIC, UINT64_MAX,
				      HF_NS_PER_MS / 1000, on_timer, k);
	if (r < 0)
		return r;
	arm(k);
	return 0;
}

/* The cgroup is a convenience; what it cannot do is done by limits of the process. */
static void make_cgroup(struct hf_worker *k)
{
	int base = k->owner->w->cgroup_base;
	char name[64];

	if (base < 0)
		return;
	group_name(&k->spec, name);
	k->cgroup_dir = hf_cgroup_open_component(base, name);
	if (k->cgroup_dir < 0)
		k->cgroup_dir = -1;
	else if (k->spec.memory_bytes)
		hf_cgroup_limit_memory(base, k->cgroup_dir, k->spec.memory_bytes);
}

/* Sanitizers keep terabytes of private mappings. */
#ifdef __SANITIZE_ADDRESS__
#define LIMITS_MEMORY 0
#else
#define LIMITS_MEMORY 1
#endif

static int spawn(struct hf_worker *k, gid_t gid, struct hf_err *err)
{
	_cleanup_close_ int exe = -1, out = -1, params = -1, theirs = -1;
	char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", flag[] = "--worker";
	char *argv[] = {(char *)k->spec.program, flag, NULL}, *env[ENV_MAX + 1];
	int fds[2 + HF_WORKER_INPUTS_MAX], pair[2];
	char fifo[64 + sizeof(".stderr")], group[64];
	struct hf_spawned spawned;
	struct hf_confine confine;
	const char *step;
	int r;

	exe = openat(k->owner->w->bin_dir, k->spec.program, O_PATH | O_CLOEXEC);
	if (exe < 0)
		return hf_err_set(err, -errno, "open '%s': %s", k->spec.program, strerror(errno));
	params = make_memfd("holdfast-params", k->request.params ? k->request.params : "");
	k->result = make_memfd("holdfast-result", NULL);
	if (params < 0 || k->result < 0)
		return hf_err_set(err, params < 0 ? params : k->result, "make a memfd");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return hf_err_set(err, -errno, "make a socket: %s", strerror(errno));
	k->sock = pair[0];
	theirs = pair[1];
	group_name(&k->spec, group);
	(void)hf_strf(fifo, sizeof(fifo), "%s.stderr", group);
	r = hf_tail_open(&k->tail, k->owner->w->state_dir, fifo);
	if (r >= 0)
		r = out = hf_tail_open_writer(k->owner->w->state_dir, fifo);
	if (r < 0)
		return hf_err_set(err, r, "open its stderr '%s': %s", fifo, strerror(-r));

	fds[0] = theirs;
	fds[1] = k->result;
	for (size_t i = 0; i < k->request.inputs_n; i++)
		fds[2 + i] = k->request.inputs[i];
	build_env(env, path);
	make_cgroup(k);
	hf_confine_make(k->spec.network, &confine); /* what it writes is behind its descriptors */
	r = hf_spawn(
		&(struct hf_spawn){
			.exe_fd = exe,
			.name = k->spec.program,
			.argv = argv,
			.envp = env,
			.uid = k->uid,
			.gid = gid,
			.stderr_fd = out,
			.confine = &confine,
			.cgroup_dir = k->cgroup_dir,
			.oom_score_adj = 500, /* the first of ours to go */
			.worker =
				{
					.capabilities = k->spec.capabilities,
					.stdin_fd = params,
					.fds = fds,
					.fds_n = 2 + k->request.inputs_n,
					.dies_with_us = true,
					.no_network = !k->spec.network,
					.background = true,
					.memory_bytes = LIMITS_MEMORY ? k->spec.memory_bytes : 0,
					.file_bytes = k->spec.file_bytes,
				},
		},
		&spawned, &step);
	if (r < 0)
		return hf_err_set(err, r, "start '%s': %s: %s", k->spec.program, step,
				  strerror(-r));
	k->pid = spawned.pid;
	k->pidfd = spawned.pidfd;
	k->in_cgroup = spawned.in_cgroup;
	k->fields[0] = (struct hf_log_field){"HOLDFAST_COMPONENT", k->spec.name};
	k->tail.origin = (struct hf_log_origin){.name = k->spec.program,
						.pid = k->pid,
						.uid = k->uid,
						.gid = gid,
						.fields = k->fields};
	if (spawned.view_error)
		hf_warn_r(spawned.view_error, "worker '%s' runs without a read-only view",
			  k->spec.name);
	if (spawned.filter_error)
		hf_warn_r(spawned.filter_error, "worker '%s' runs without a system call filter",
			  k->spec.name);
	return 0;
}

static uint64_t limit_of(uint64_t asked_ns, uint64_t most_ns)
{
	return asked_ns && asked_ns < most_ns ? asked_ns : most_ns;
}

static size_t find_line(const struct hf_workers *ws, const char *name)
{
	size_t i = 0;

	while (i < ws->n && !hf_streq(ws->table[i].name, name))
		i++;
	return i;
}

static int refuse(const struct hf_workers *ws, size_t line, const struct hf_worker_request *q,
		  struct hf_err *err)
{
	if (line == ws->n)
		return hf_err_set(err, -ENOENT, "there is no worker '%s'", q->name);
	if (ws->w->stopping)
		return hf_err_set(err, -ESHUTDOWN, "the watchdog is stopping");
	if (ws->running[line])
		return hf_err_set(err, -EBUSY, "a %s is running already", q->name);
	if (q->params && strlen(q->params) > HF_WORKER_PARAMS_MAX)
		return hf_err_set(err, -E2BIG, "the parameters are longer than %d bytes",
				  HF_WORKER_PARAMS_MAX);
	return 0;
}

int hf_worker_start(struct hf_workers *ws, const struct hf_worker_request *q,
		    struct hf_worker **ret, struct hf_err *err)
{
	_cleanup_(worker_freep) struct hf_worker *k = NULL;
	size_t line = find_line(ws, q->name);
	gid_t gid;
	int r;

	hf_assert(q->on_done && q->inputs_n <= HF_WORKER_INPUTS_MAX);
	r = refuse(ws, line, q, err);
	if (r < 0)
		return r;
	k = calloc(1, sizeof(*k));
	if (!k)
		return hf_err_set(err, -ENOMEM, "out of memory");
	k->magic = WORKER_MAGIC;
	k->owner = ws;
	k->spec = ws->table[line];
	k->request = *q;
	k->pidfd = k->sock = k->result = k->cgroup_dir = k->tail.fd = -1;
	k->frames = (struct hf_ratelimit){.burst = FRAMES_BURST, .interval_ns = FRAMES_INTERVAL_NS};
	k->request.idle_limit_ns = limit_of(q->idle_limit_ns, k->spec.idle_limit_ns);
	k->request.hard_limit_ns = limit_of(q->hard_limit_ns, k->spec.hard_limit_ns);
	r = hf_account_resolve(k->spec.account, k->spec.account_key, &k->uid, &gid, err);
	if (r == 0)
		r = spawn(k, gid, err);
	k->request.params = NULL; /* the caller's from here on, as the inputs are */
	k->request.inputs = NULL;
	if (r < 0)
		return r;
	k->started_ns = hf_now_monotonic_ns();
	k->idle_end_ns = k->started_ns + k->request.idle_limit_ns;
	k->hard_end_ns = k->started_ns + k->request.hard_limit_ns;
	r = k->pidfd < 0 ? -ENOSYS : watch(k);
	if (r < 0) {
		/* Nobody has heard of it yet. */
		(void)kill(k->pid, SIGKILL);
		(void)waitpid(k->pid, NULL, 0);
		return hf_err_set(err, r, "watch '%s': %s", k->spec.program, strerror(-r));
	}
	hf_info("worker '%s' runs as pid %d", k->spec.name, (int)k->pid);
	*ret = ws->running[line] = TAKE_PTR(k);
	return 0;
}

void hf_worker_cancel(struct hf_worker *k)
{
	if (k->asked || k->phase != PHASE_RUNNING)
		return;
	k->asked = true;
	send_signal(k, SIGTERM);
	/* A stopped one could not hear it. */
	send_signal(k, SIGCONT);
	enter(k, PHASE_ENDING, GRACE_NS);
}

bool hf_worker_runs(const struct hf_workers *ws, const char *name)
{
	size_t line = find_line(ws, name);

	return line < ws->n && ws->running[line];
}

pid_t hf_worker_pid(const struct hf_worker *k)
{
	return k->pid;
}

/* ---- the table ------------------------------------------------------------------------------------ */

/* What a predecessor left: its workers died with it, their children perhaps not. */
static void sweep(const struct hf_workers *ws, const struct hf_worker_spec *spec)
{
	_cleanup_close_ int dir = -1;
	char name[64];
	uid_t uid;
	gid_t gid;

	group_name(spec, name);
	if (ws->w->cgroup_base >= 0) {
		dir = hf_cgroup_open_component(ws->w->cgroup_base, name);
		if (dir >= 0)
			(void)hf_cgroup_kill(dir);
		hf_cgroup_remove(ws->w->cgroup_base, name);
	} else if (hf_account_resolve(spec->account, spec->account_key, &uid, &gid, NULL) == 0 &&
		   owns_its_user(ws, spec, NULL, uid)) {
		(void)hf_proc_kill_session(0, uid, true);
	}
}

int hf_workers_new(struct hf_watchdog *w, const struct hf_worker_spec *table, size_t n,
		   struct hf_workers **ret)
{
	struct hf_workers *ws;

	hf_assert(n <= HF_WORKERS_MAX);
	ws = calloc(1, sizeof(*ws));
	if (!ws)
		return -ENOMEM;
	ws->w = w;
	ws->n = n;
	for (size_t i = 0; i < n; i++) {
		ws->table[i] = table[i];
		sweep(ws, &table[i]);
	}
	*ret = ws;
	return 0;
}

void hf_workers_reconfigure(struct hf_workers *ws, const struct hf_worker_spec *spec)
{
	size_t line = find_line(ws, spec->name);

	hf_assert(line < ws->n);
	ws->table[line] = *spec;
}

struct hf_workers *hf_workers_free(struct hf_workers *ws)
{
	if (!ws)
		return NULL;
	for (size_t i = 0; i < ws->n; i++) {
		struct hf_worker *k = ws->running[i];

		if (!k)
			continue;
		judge(k, HF_WORKER_CANCELLED, "the watchdog ended");
		send_signal(k, SIGKILL);
		(void)kill_leftovers(k);
		/* One that the kernel does not let go of must not keep us. */
		(void)poll(&(struct pollfd){.fd = k->pidfd, .events = POLLIN}, 1, LAST_WAIT_MS);
		(void)waitpid(k->pid, NULL, WNOHANG);
		(void)kill_leftovers(k);
		finish(k);
	}
	free(ws);
	return NULL;
}
