/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The body around machine.c: pidfd, timers, process, connection, records.
 *
 * I1. c->pid, c->pidfd and c->start_ns name one live (or not yet noticed dead) process exactly in
 *     the states of hf_state_has_process().
 * I2. On the path from an exit to the next exec nothing waits: no fsync, no name lookup, no log.
 *     What is slow comes after. (Exit to exec is measured and is the product's promise.)
 * I3. Every transition passes through input(), which does the actions, arms the timer, saves the
 *     record and logs.
 */
#include "watchdog/component_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "watchdog/account.h"
#include "watchdog/action.h"
#include "watchdog/cgroup.h"
#include "watchdog/kernel_load.h"
#include "watchdog/permit.h"
#include "watchdog/proc.h"
#include "watchdog/records.h"
#include "watchdog/release.h"
#include "watchdog/server.h"
#include "watchdog/spawn.h"

#define ENV_MAX 24

void hf_component_detail(struct hf_component *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(c->detail, sizeof(c->detail), fmt, ap);
	va_end(ap);
}

void hf_component_log(const struct hf_component *c, enum hf_log_level level, const char *cause,
		      const char *fmt, ...)
{
	const struct hf_log_field fields[] = {{"HOLDFAST_COMPONENT", c->spec->name},
					      {cause ? "HOLDFAST_CAUSE" : NULL, cause},
					      {}};
	va_list ap;

	va_start(ap, fmt);
	hf_logv(level, fields, fmt, ap);
	va_end(ap);
}

/* ---- record ---------------------------------------------------------------------------------- */

static void save(struct hf_component *c)
{
	struct hf_record r;
	int e;

	memset(&r, 0, sizeof(r)); /* padding as well: it is checksummed */
	(void)hf_strlcpy(r.name, c->spec->name, sizeof(r.name));
	(void)hf_strlcpy(r.version, c->version, sizeof(r.version));
	r.pid = c->pid;
	r.ready = c->machine.state == HF_STATE_RUNNING;
	r.start_ns = c->start_ns;
	r.starts = c->machine.starts;
	r.failures = c->machine.failures;
	/* The watchdog's own end stops everything, but is no person's word against a component. */
	r.want_up = c->machine.want_up || c->w->stopping;
	r.stopping = c->machine.state == HF_STATE_STOPPING;
	r.died = c->died;
	r.last_exit = c->death;
	e = hf_records_save(c->w->records, &r);
	if (e < 0)
		hf_error_r(e, "save the record of '%s', ignoring", c->spec->name);
}

/* ---- the process ----------------------------------------------------------------------------- */

static int send_signal(const struct hf_component *c, int sig)
{
	if (c->pidfd >= 0 && syscall(SYS_pidfd_send_signal, c->pidfd, sig, NULL, 0) == 0)
		return 0;
	return -errno;
}

static void hold_view(struct hf_component *c)
{
	char path[64];

	(void)hf_strf(path, sizeof(path), "/proc/%u/ns/mnt", c->pid);
	c->view_fd = open(path, O_RDONLY | O_CLOEXEC); /* -1: its end takes longer, no more */
}

void hf_component_drop_old_view(struct hf_component *c)
{
	c->old_view_fd = hf_close(c->old_view_fd);
}

static void forget_process(struct hf_component *c)
{
	hf_component_drop_old_view(c);
	c->old_view_fd = TAKE_FD(c->view_fd);
	for (unsigned i = 0; i < c->watches; i++)
		(void)hf_kernel_watch_socket(c->w->kernel, c->watch[i], false);
	c->watches = 0;
	if (c->pid)
		(void)hf_kernel_forget_process(c->w->kernel, c->pid, c->start_ns);
	if (c->peer) {
		hf_peer_drop(c->peer);
		c->peer = NULL;
	}
	(void)sd_event_source_set_enabled(c->hang_timer, SD_EVENT_OFF);
	c->exit_source = sd_event_source_disable_unref(c->exit_source);
	c->pidfd = hf_close(c->pidfd);
	c->pid = 0;
	c->start_ns = 0;
	c->adopted = false;
	c->in_cgroup = false;
	c->status[0] = 0;
}

/* What is known of the exit, from the kernel program and from waitid(). */
static void judge_exit(struct hf_component *c, uint64_t seen_boot_ns)
{
	struct hf_death_evidence e = {
		.pid = c->pid,
		.intent = c->intent,
		.unanswered = c->unanswered,
		.seen_boot_ns = seen_boot_ns,
	};
	struct hf_exit_verdict verdict;
	siginfo_t si = {};

	if (waitid(P_PIDFD, (id_t)c->pidfd, &si, WEXITED | WNOHANG) == 0 && si.si_pid) {
		e.has_status = true;
		e.status = si.si_code == CLD_EXITED   ? si.si_status << 8
			   : si.si_code == CLD_DUMPED ? si.si_status | 0x80
						      : si.si_status;
	} /* else adopted: another process is its parent */
	if (hf_kernel_lookup_exit(c->w->kernel, c->pid, c->start_ns, &verdict) == 0)
		e.verdict = &verdict;
	hf_death_judge(&e, &c->death);
	c->died = true;
}

/* Out of memory by the limit of its own cgroup, not of the host. */
static bool hit_its_limit(struct hf_component *c)
{
	uint64_t before = c->cgroup_ooms;

	if (!c->in_cgroup || c->cgroup_dir < 0)
		return false;
	c->cgroup_ooms = hf_cgroup_ooms(c->cgroup_dir);
	return c->cgroup_ooms > before;
}

static int on_exit_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_component *c = HF_CAST(userdata, struct hf_component, COMPONENT_MAGIC);
	uint64_t seen_boot_ns = hf_now_boottime_ns();
	struct hf_machine_arg arg = {.random = (uint32_t)hf_random_below(UINT32_MAX)};
	char leaving[HF_SUP_TEXT_MAX];
	bool was_ready, other_version, own_limit;
	uint32_t pid = c->pid;

	(void)source;
	(void)fd;
	(void)revents;
	judge_exit(c, seen_boot_ns);
	own_limit = c->death.cause == HF_EXIT_OOM && hit_its_limit(c);
	/* What it left behind must not live on beside its successor. */
	if (c->in_cgroup && c->cgroup_dir >= 0)
		(void)hf_cgroup_kill(c->cgroup_dir);
	c->tail.origin.pid = 0;
	hf_tail_read(&c->tail);
	hf_tail_text(&c->tail, c->last_stderr);
	hf_tail_clear(&c->tail);
	(void)hf_strlcpy(leaving, c->leaving, sizeof(leaving));
	was_ready = c->machine.was_ready;
	forget_process(c);
	arg.exit_code = c->death.code;
	hf_component_detail(c, "%s", c->death.text);
	/* Before the next start: it may be of another version. */
	other_version = c->release && hf_release_ended(c->release, &c->death, was_ready, own_limit);
	hf_component_input(c, HF_INPUT_EXIT, &arg);
	if (other_version &&
	    (c->machine.state == HF_STATE_BACKOFF || c->machine.state == HF_STATE_HELD))
		hf_component_input(c, HF_INPUT_RESTART, &arg); /* it has failed nobody yet */
	hf_component_log(c,
			 c->death.cause == HF_EXIT_STOPPED_BY_REQUEST ? HF_LOG_INFO : HF_LOG_WARN,
			 hf_exit_cause_name(c->death.cause), "component '%s' (pid %u) %s%s%s",
			 c->spec->name, pid, c->death.text, leaving[0] ? "; it had said: " : "",
			 leaving);
	return 0;
}

static int watch_exit(struct hf_component *c)
{
	int r = sd_event_add_io(c->w->event, &c->exit_source, c->pidfd, EPOLLIN, on_exit_event, c);

	if (r < 0)
		return r;
	(void)sd_event_source_set_description(c->exit_source, "component-exit");
	/* Before everything else that is ready: this is what we are for. */
	return sd_event_source_set_priority(c->exit_source, SD_EVENT_PRIORITY_IMPORTANT);
}

static void build_env(char *env[static ENV_MAX + 1], char *path)
{
	/* What a developer's or administrator's environment may legitimately change. */
	static const char *const passed[] = {
		"HOLDFAST_",     "TZ=",
		"http_proxy=",   "https_proxy=",
		"no_proxy=",     "all_proxy=",
		"HTTP_PROXY=",   "HTTPS_PROXY=",
		"NO_PROXY=",     "ALL_PROXY=",
		"ASAN_OPTIONS=", "UBSAN_OPTIONS=",
		"LSAN_OPTIONS=", "SSL_CERT_FILE=",
		"SSL_CERT_DIR=",
	};
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

static void tail_name(const struct hf_component *c, char dst[static HF_SUP_NAME_MAX + 8])
{
	(void)hf_strf(dst, HF_SUP_NAME_MAX + 8, "%s.stderr", c->spec->name);
}

static void set_origin(struct hf_component *c)
{
	c->tail.origin.pid = (pid_t)c->pid;
	c->tail.origin.uid = c->uid;
	c->tail.origin.gid = c->gid;
}

static int resolve_user(struct hf_component *c)
{
	struct hf_err err = {};
	int r;

	if (c->have_user)
		return 0;
	r = hf_account_resolve(c->w->config.component.agent.user, "component.agent.user", &c->uid,
			       &c->gid, &err);
	if (r < 0)
		hf_component_detail(c, "%s", err.msg);
	c->have_user = r == 0;
	return r;
}

/* Starts the process; detail says why when it fails, and whether exec() itself did. */
static int start_process(struct hf_component *c, bool *ret_not_executable)
{
	_cleanup_close_ int out = -1;
	char dir_flag[] = "--dir", dot[] = ".", path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	char *argv[4] = {(char *)c->spec->program};
	char *env[ENV_MAX + 1], name[HF_SUP_NAME_MAX + 8];
	struct hf_spawned spawned;
	struct hf_proc_stat stat;
	const char *step, *version;
	struct hf_err err = {};
	int exe, r;

	r = resolve_user(c);
	if (r < 0)
		return r;
	exe = hf_release_program(c->release, &version, &err);
	if (exe < 0) {
		hf_component_detail(c, "%s", err.msg);
		return exe;
	}
	tail_name(c, name);
	out = hf_tail_open_writer(c->w->state_dir, name);
	if (out < 0) {
		hf_component_detail(c, "open its stderr '%s': %s", name, strerror(-out));
		return out;
	}
	if (!c->w->paths.installed) {
		argv[1] = dir_flag;
		argv[2] = dot;
	}
	build_env(env, path);
	r = hf_spawn(
		&(struct hf_spawn){
			.exe_fd = exe,
			.name = c->spec->program,
			.argv = argv,
			.envp = env,
			.uid = c->uid,
			.gid = c->gid,
			.stderr_fd = out,
			.confine = &c->confine,
			.cgroup_dir = c->cgroup_dir,
			.oom_score_adj = c->spec->oom_score_adj,
		},
		&spawned, &step);
	if (r < 0) {
		hf_component_detail(c, "start '%s'%s%s: %s: %s", c->spec->program,
				    *version ? " of release " : "", version, step, strerror(-r));
		/* What we lack ourselves says nothing about the program. */
		*ret_not_executable = hf_streq(step, "exec") && r != -ENOMEM && r != -EAGAIN;
		return r;
	}
	c->pid = (uint32_t)spawned.pid;
	c->pidfd = spawned.pidfd;
	c->in_cgroup = spawned.in_cgroup;
	set_origin(c);
	c->confined.filter_error = spawned.filter_error;
	c->confined.view_error = spawned.view_error;
	if (c->died && !c->death.exit_to_exec_us && spawned.exec_ns > c->death.at_boot_ns)
		c->death.exit_to_exec_us = (spawned.exec_ns - c->death.at_boot_ns) / HF_NS_PER_US;
	if (hf_proc_stat(c->pid, &stat) == 0)
		c->start_ns = stat.start_ns;
	hold_view(c);
	r = c->pidfd < 0 ? -ENOSYS : watch_exit(c);
	if (r < 0) {
		/* Without word of its end it cannot be supervised. */
		(void)kill(spawned.pid, SIGKILL);
		(void)waitpid(spawned.pid, NULL, 0);
		forget_process(c);
		hf_component_detail(c, "watch '%s': %s", c->spec->program, strerror(-r));
		return r;
	}
	return 0;
}

/* Once for each change: a host that refuses does so at every start. */
static void tell_confinement(struct hf_component *c, const struct hf_confined *before)
{
	char text[192];

	c->confined.filter = !c->confined.filter_error;
	c->confined.view = !c->confined.view_error;
	if (c->confined.filter_error == before->filter_error &&
	    c->confined.view_error == before->view_error)
		return;
	hf_confine_describe(&c->confined, text, sizeof(text));
	hf_component_log(c, HF_LOG_WARN, NULL,
			 "component '%s' runs with %s: what the host refuses it goes without",
			 c->spec->name, text);
}

static void spawn(struct hf_component *c)
{
	struct hf_machine_arg arg = {.random = (uint32_t)hf_random_below(UINT32_MAX)};
	const struct hf_confined before = c->confined;
	int r = 0;

	c->intent = HF_EXIT_UNKNOWN;
	c->unanswered = false;
	c->leaving[0] = 0;
	c->version[0] = 0;
	c->limit = (struct hf_limit){};
	c->takes_kernel = c->online = false;
	c->well = true;
	/* Each time another version: at the end it is the package's own. */
	for (int i = 0; i < 4; i++) {
		bool not_executable = false;

		r = start_process(c, &not_executable);
		if (r >= 0 || !not_executable || !hf_release_exec_failed(c->release, c->detail))
			break;
	}
	if (r < 0) {
		hf_component_log(c, HF_LOG_ERROR, NULL, "component '%s' does not start: %s",
				 c->spec->name, c->detail);
		hf_component_input(c, HF_INPUT_SPAWN_FAILED, &arg);
		return;
	}
	(void)hf_kernel_watch_process(c->w->kernel, c->pid, c->start_ns);
	c->awaiting_ready = c->died && !c->death.exit_to_ready_us;
	hf_component_input(c, HF_INPUT_SPAWNED, &arg);
	if (c->died)
		hf_component_log(
			c, HF_LOG_INFO, NULL,
			"component '%s' started (pid %u), %llu µs after its predecessor's end",
			c->spec->name, c->pid, (unsigned long long)c->death.exit_to_exec_us);
	else
		hf_component_log(c, HF_LOG_INFO, NULL, "component '%s' started (pid %u)",
				 c->spec->name, c->pid);
	tell_confinement(c, &before);
}

static void terminate(struct hf_component *c)
{
	struct hf_sup_text stop = {.hdr = hf_peer_header(HF_SUP_STOP)};

	if (c->intent == HF_EXIT_UNKNOWN)
		c->intent = HF_EXIT_STOPPED_BY_REQUEST;
	(void)hf_strlcpy(stop.text, c->detail, sizeof(stop.text));
	/* A cut inside a character is not UTF-8 any more. */
	for (size_t n = strlen(stop.text); n > 0 && !hf_utf8_valid(stop.text, n); n--)
		stop.text[n - 1] = 0;
	if (c->peer)
		hf_peer_send(c->peer, &stop, NULL, 0);
	(void)send_signal(c, SIGTERM); /* gone already: the pidfd says so */
	(void)send_signal(c, SIGCONT); /* a stopped process must be able to obey */
}

static void kill_process(struct hf_component *c)
{
	if (c->machine.state == HF_STATE_STOPPING) {
		if (!c->unanswered)
			hf_component_log(
				c, HF_LOG_WARN, NULL,
				"component '%s' (pid %u) did not stop within %llu s: SIGKILL",
				c->spec->name, c->pid,
				(unsigned long long)(c->policy.stop_ns / HF_NS_PER_S));
		c->unanswered = true;
	}
	(void)send_signal(c, SIGKILL);
	if (c->in_cgroup && c->cgroup_dir >= 0)
		(void)hf_cgroup_kill(c->cgroup_dir);
}

/* ---- transitions ------------------------------------------------------------------------------ */

void hf_component_arm(sd_event_source *timer, uint64_t deadline_ns)
{
	if (!deadline_ns) {
		(void)sd_event_source_set_enabled(timer, SD_EVENT_OFF);
		return;
	}
	/* Rounded up: a timer never fires before its time. */
	(void)sd_event_source_set_time(timer, deadline_ns / HF_NS_PER_US + 1);
	(void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

void hf_component_input(struct hf_component *c, enum hf_input in, const struct hf_machine_arg *arg)
{
	enum hf_state before = c->machine.state;
	uint64_t now_ns = hf_now_monotonic_ns();
	unsigned actions = hf_machine_input(&c->machine, &c->policy, in, arg, now_ns);
	enum hf_state after = c->machine.state;

	hf_component_arm(c->timer, c->machine.deadline_ns);
	if (actions & HF_ACTION_SPAWN) {
		/* Its own inputs follow and save, log and arm for themselves. */
		c->since_realtime_ns = hf_now_realtime_ns();
		spawn(c);
		return;
	}
	if (actions & HF_ACTION_TERM)
		terminate(c);
	if (actions & HF_ACTION_KILL)
		kill_process(c);
	if (before != after || in == HF_INPUT_SPAWNED) {
		c->since_realtime_ns = hf_now_realtime_ns();
		save(c);
	}
	if (before == after)
		return;
	hf_actions_component_changed(c->w->actions, c);
	if (after == HF_STATE_BACKOFF || after == HF_STATE_HELD)
		hf_component_log(
			c, HF_LOG_NOTICE, NULL, "component '%s' %s → %s, next start in %llu ms: %s",
			c->spec->name, hf_state_name(before), hf_state_name(after),
			(unsigned long long)((c->machine.deadline_ns - now_ns) / HF_NS_PER_MS),
			c->detail);
	else
		hf_component_log(c, HF_LOG_INFO, NULL, "component '%s' %s → %s%s%s", c->spec->name,
				 hf_state_name(before), hf_state_name(after),
				 c->detail[0] ? ": " : "", c->detail);
	if (after == HF_STATE_STOPPED)
		hf_watchdog_component_stopped(c->w);
}

/* A starting component that is not READY: does it move, or can it not be blamed? */
static bool is_alive(const struct hf_component *c)
{
	struct hf_proc_sample s;

	if (c->peer)
		return c->hang.liveness != HF_LIVE_HUNG;
	if (hf_proc_sample(c->pid, 0, &s) < 0)
		return false;
	return s.stopped || s.traced || s.uninterruptible;
}

/* Then nobody's version is to blame that it is late. */
static bool is_excused(const struct hf_component *c)
{
	struct hf_proc_sample s;

	return hf_proc_sample(c->pid, 0, &s) == 0 &&
	       (s.stopped || s.traced || s.uninterruptible || c->hang.liveness == HF_LIVE_STARVED);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_component *c = HF_CAST(userdata, struct hf_component, COMPONENT_MAGIC);
	struct hf_machine_arg arg = {.exit_code = -1};

	(void)source;
	(void)usec;
	if (!c->machine.deadline_ns)
		return 0;
	if (hf_now_monotonic_ns() < c->machine.deadline_ns) {
		hf_component_arm(c->timer, c->machine.deadline_ns);
		return 0;
	}
	if (c->machine.state == HF_STATE_STARTING) {
		arg.alive = is_alive(c);
		if (!arg.alive)
			c->intent = HF_EXIT_HUNG;
		hf_component_detail(c, "not ready after %llu s",
				    (unsigned long long)(c->policy.ready_ns / HF_NS_PER_S));
		hf_component_log(c, HF_LOG_WARN, NULL, "component '%s' (pid %u) is %s%s",
				 c->spec->name, c->pid, c->detail,
				 arg.alive ? ", but it moves" : " and does not move");
		if (arg.alive && !is_excused(c) && hf_release_not_ready(c->release, c->detail)) {
			arg.alive = false;
			c->intent = HF_EXIT_HUNG;
		}
	}
	hf_component_input(c, HF_INPUT_TIMER, &arg);
	return 0;
}

static int on_tail(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_component *c = HF_CAST(userdata, struct hf_component, COMPONENT_MAGIC);

	(void)source;
	(void)fd;
	(void)revents;
	hf_tail_read(&c->tail);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void take_policies(struct hf_component *c)
{
	const struct hf_config *cfg = &c->w->config;

	c->policy = HF_MACHINE_POLICY_DEFAULT;
	c->policy.settle_ns = cfg->restart.settle_s * HF_NS_PER_S;
	c->policy.ready_ns = cfg->restart.ready_s * HF_NS_PER_S;
	c->policy.backoff_max_ns = cfg->restart.backoff_cap_s * HF_NS_PER_S;
	c->hang_policy.expect_ns = cfg->hang.expect_ms * HF_NS_PER_MS;
	c->hang_policy.deadline_ns = cfg->hang.deadline_ms * HF_NS_PER_MS;
	c->hang_policy.stretch_ns = cfg->hang.stretch_ms * HF_NS_PER_MS;
}

static int add_timer(struct hf_component *c, sd_event_source **ret, sd_event_time_handler_t fn,
		     const char *description)
{
	/* 1 ms: a backoff's start is due then; hang checks gain nothing from less. */
	int r = sd_event_add_time(c->w->event, ret, CLOCK_MONOTONIC, 0, 1000, fn, c);

	if (r < 0)
		return r;
	(void)sd_event_source_set_description(*ret, description);
	return sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static int open_tail(struct hf_component *c)
{
	char name[HF_SUP_NAME_MAX + 8];
	int r;

	tail_name(c, name);
	r = hf_tail_open(&c->tail, c->w->state_dir, name);
	if (r == -EBADF) {
		/* Something else is in its place; the directory is ours alone. */
		(void)unlinkat(c->w->state_dir, name, 0);
		r = hf_tail_open(&c->tail, c->w->state_dir, name);
	}
	if (r < 0)
		return r;
	r = sd_event_add_io(c->w->event, &c->tail_source, c->tail.fd, EPOLLIN, on_tail, c);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(c->tail_source, "component-stderr");
	return sd_event_source_set_priority(c->tail_source, SD_EVENT_PRIORITY_IDLE);
}

int hf_component_new(struct hf_watchdog *w, const struct hf_component_spec *spec,
		     struct hf_component **ret)
{
	_cleanup_(hf_component_freep) struct hf_component *c = NULL;
	int r;

	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->magic = COMPONENT_MAGIC;
	c->w = w;
	c->spec = spec;
	c->pidfd = c->view_fd = c->old_view_fd = -1;
	c->tail.fd = -1;
	c->fields[0] = (struct hf_log_field){"HOLDFAST_COMPONENT", spec->name};
	c->tail.origin = (struct hf_log_origin){.name = spec->program, .fields = c->fields};
	c->cgroup_dir = -1;
	hf_confine_make(spec->network, &c->confine);
	if (spec->owns_agent_state)
		hf_confine_add_writable(&c->confine, w->paths.agent_state);
	hf_confine_add_writable(&c->confine, w->paths.run_dir); /* its sockets */
	take_policies(c);
	if (w->cgroup_base >= 0) {
		c->cgroup_dir = hf_cgroup_open_component(w->cgroup_base, spec->name);
		if (c->cgroup_dir < 0)
			hf_warn_r(c->cgroup_dir, "no cgroup for component '%s', ignoring",
				  spec->name);
		else
			c->cgroup_ooms = hf_cgroup_ooms(c->cgroup_dir);
	}
	r = add_timer(c, &c->timer, on_timer, "component-timer");
	if (r < 0)
		return r;
	r = add_timer(c, &c->hang_timer, hf_component_on_hang_timer, "component-hang");
	if (r < 0)
		return r;
	r = open_tail(c);
	if (r < 0)
		return r;
	(void)resolve_user(c); /* told when it is started */
	c->release = hf_releases_attach(w->releases, c, spec->name, spec->program);
	hf_assert(c->release); /* release.c has the same table */
	*ret = TAKE_PTR(c);
	return 0;
}

struct hf_component *hf_component_free(struct hf_component *c)
{
	if (!c)
		return NULL;
	if (c->peer)
		hf_peer_drop(c->peer);
	sd_event_source_disable_unref(c->exit_source);
	sd_event_source_disable_unref(c->timer);
	sd_event_source_disable_unref(c->hang_timer);
	sd_event_source_disable_unref(c->tail_source);
	(void)hf_close(c->view_fd);
	(void)hf_close(c->old_view_fd);
	hf_tail_done(&c->tail);
	(void)hf_close(c->pidfd);
	if (c->cgroup_dir >= 0)
		(void)hf_close(c->cgroup_dir);
	c->magic = 0;
	free(c);
	return NULL;
}

/* The recorded process, if it is that one and alive: its pidfd, or -ESRCH. */
static int open_recorded(const struct hf_record *r)
{
	_cleanup_close_ int fd = -1;
	struct hf_proc_stat st;

	if (!r->pid)
		return -ESRCH;
	fd = (int)syscall(SYS_pidfd_open, (pid_t)r->pid, 0);
	if (fd < 0)
		return -errno;
	/* After the open: now the pid cannot be given to another process any more. */
	if (hf_proc_stat(r->pid, &st) < 0 || st.start_ns != r->start_ns || st.state == 'Z' ||
	    st.state == 'X')
		return -ESRCH;
	return TAKE_FD(fd);
}

static bool adopt(struct hf_component *c, const struct hf_record *r)
{
	uint64_t now_ns = hf_now_monotonic_ns(), boot_ns = hf_now_boottime_ns();
	uint64_t age_ns = boot_ns > r->start_ns ? boot_ns - r->start_ns : 0;
	const struct hf_machine_arg arg = {
		.ready = r->ready,
		.started_at_ns = now_ns > age_ns ? now_ns - age_ns : 0,
	};
	int fd = open_recorded(r);

	if (fd < 0)
		return false;
	c->pid = r->pid;
	c->start_ns = r->start_ns;
	c->pidfd = fd;
	c->adopted = true;
	set_origin(c);
	c->confined = (struct hf_confined){};
	c->in_cgroup = c->cgroup_dir >= 0;
	hold_view(c);
	(void)hf_strlcpy(c->version, r->version, sizeof(c->version));
	if (watch_exit(c) < 0) {
		forget_process(c);
		return false;
	}
	(void)hf_kernel_watch_process(c->w->kernel, c->pid, c->start_ns);
	hf_component_detail(c, "adopted from the previous watchdog");
	hf_component_input(c, HF_INPUT_ADOPT, &arg);
	/* It dials within a second of our start: from now on it is judged like any other. */
	hf_hang_begin(&c->hang, now_ns);
	hf_component_check_hang(c);
	hf_component_log(c, HF_LOG_NOTICE, NULL,
			 "component '%s' (pid %u) was running and is adopted", c->spec->name,
			 c->pid);
	return true;
}

/* It ended while no watchdog was there: say why, as far as the kernel program saw it. */
static void judge_missed_exit(struct hf_component *c, const struct hf_record *r)
{
	struct hf_exit_verdict verdict;
	struct hf_death_evidence e = {
		.pid = r->pid,
		.intent = r->stopping ? HF_EXIT_STOPPED_BY_REQUEST : HF_EXIT_UNKNOWN,
		.seen_boot_ns = hf_now_boottime_ns(),
	};

	if (hf_kernel_lookup_exit(c->w->kernel, r->pid, r->start_ns, &verdict) == 0)
		e.verdict = &verdict;
	hf_death_judge(&e, &c->death);
	c->died = true;
	hf_component_detail(c, "%s", c->death.text);
	hf_component_log(c, HF_LOG_WARN, hf_exit_cause_name(c->death.cause),
			 "component '%s' (pid %u) ended while there was no watchdog: %s",
			 c->spec->name, r->pid, c->death.text);
}

static void kill_orphan(uint32_t pid, void *arg)
{
	struct hf_component *c = arg;

	if (pid == c->pid || pid == (uint32_t)getpid())
		return;
	hf_component_log(c, HF_LOG_WARN, NULL,
			 "pid %u is in the cgroup of '%s' and is not its process: SIGKILL", pid,
			 c->spec->name);
	(void)kill((pid_t)pid, SIGKILL);
}

void hf_component_begin(struct hf_component *c)
{
	const struct hf_record *found = hf_records_find(c->w->records, c->spec->name);
	struct hf_record r = {.want_up = 1};
	bool adopted;

	if (found)
		r = *found;
	c->machine.starts = r.starts;
	c->machine.failures = r.failures;
	c->died = r.died;
	c->death = r.last_exit;
	adopted = adopt(c, &r);
	c->well = true;
	/* Started by a watchdog that died before it could write it down. */
	if (c->cgroup_dir >= 0)
		(void)hf_cgroup_each(c->cgroup_dir, kill_orphan, c);
	if (adopted) {
		if (!r.want_up || r.stopping)
			hf_component_request(c, r.want_up ? HF_INPUT_RESTART : HF_INPUT_STOP,
					     "its stop had begun");
		else if (hf_release_adopted(c->release, c->pid))
			hf_component_request(c, HF_INPUT_RESTART, "agent_update");
		return;
	}
	if (r.pid)
		judge_missed_exit(c, &r);
	if (!r.want_up) {
		hf_component_detail(c, "stopped by request");
		c->since_realtime_ns = hf_now_realtime_ns();
		hf_component_log(c, HF_LOG_INFO, NULL,
				 "component '%s' stays stopped, as somebody asked", c->spec->name);
		return;
	}
	hf_component_request(c, HF_INPUT_START, "");
}

void hf_component_reconfigure(struct hf_component *c)
{
	const struct hf_sup_hdr reload = hf_peer_header(HF_SUP_RELOAD);

	take_policies(c);
	c->have_user = false;
	(void)resolve_user(c);
	if (c->peer)
		hf_peer_send(c->peer, &reload, NULL, 0);
	if (c->machine.state == HF_STATE_HELD)
		hf_component_request(c, HF_INPUT_START, "the configuration was read again");
}

void hf_component_request(struct hf_component *c, enum hf_input in, const char *reason)
{
	hf_assert(in == HF_INPUT_START || in == HF_INPUT_STOP || in == HF_INPUT_RESTART);
	hf_component_detail(c, "%s", reason);
	hf_component_input(c, in, NULL);
	/* Where the state did not change, the wish may have. */
	save(c);
}
