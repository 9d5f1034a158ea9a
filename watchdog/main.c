/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-watchdog: loads the kernel programs, starts the components, judges and restarts them.
 *
 * I1. It never ends because of a component, a configuration, a kernel without BPF or a full disk:
 *     what is missing is said and done without. What it cannot do without is its directories, its
 *     lock, its loop and the supervise socket.
 * I2. Only a requested stop stops components and unpins programs. Every other end, by a signal or
 *     by a failure at start, leaves them as they are for the next watchdog.
 * I3. It opens no network socket: AF_UNIX only.
 */
#include "watchdog/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "holdfast/launch.h"
#include "watchdog/account.h"
#include "watchdog/action.h"
#include "watchdog/bus.h"
#include "watchdog/cgroup.h"
#include "watchdog/component.h"
#include "watchdog/instance.h"
#include "watchdog/kernel_load.h"
#include "watchdog/policy.h"
#include "watchdog/records.h"
#include "watchdog/release.h"
#include "watchdog/server.h"
#include "watchdog/worker.h"
#include "watchdog/worker_table.h"

/* The component table. Lower than the watchdog's own score would be useless; -500 spares it from
 * everything but a host that has nothing else left. */
static const struct hf_component_spec specs[] = {
	{.name = "agent",
	 .program = "holdfast-agent",
	 .oom_score_adj = -500,
	 .network = true,
	 .owns_agent_state = true},
};
_Static_assert(HF_ARRAY_SIZE(specs) <= HF_COMPONENTS_MAX, "records.h keeps them all");

/* ---- configuration ---------------------------------------------------------------------------- */

static void warn_config(void *userdata, const char *line)
{
	(void)userdata;
	hf_warn("%s", line);
}

static void apply_config(const struct hf_watchdog *w)
{
	if (!getenv("HOLDFAST_LOG"))
		hf_log_set_level(hf_config_log_level(w->config.log.level));
}

struct changes {
	const struct hf_config *from, *to;
	struct hf_buf *text;
};

static void on_change(void *userdata, const struct hf_config_entry *e)
{
	const struct changes *c = userdata;
	_cleanup_(hf_buf_done) struct hf_buf line = {};

	/* Without memory it is not told; the change itself is made. */
	if (hf_config_print_change(e, c->from, c->to, &line) < 0)
		return;
	hf_notice("configuration: %.*s", (int)line.len, (const char *)line.data);
	if (c->text)
		(void)hf_buf_appendf(c->text, "%.*s\n", (int)line.len, (const char *)line.data);
}

/* What the kernel shall record. -ENOSYS: there is no kernel assist to tell it. */
static int apply_policy(struct hf_watchdog *w, const struct hf_config *config, struct hf_err *err)
{
	struct hf_kernel_filter f;

	hf_policy_from_config(config, &f);
	return hf_kernel_filter_apply(w->kernel, &f, err);
}

int hf_watchdog_reload(struct hf_watchdog *w, struct hf_buf *ret_changes, struct hf_err *err)
{
	struct hf_config fresh = {};
	struct changes changes = {.from = &w->config, .to = &fresh, .text = ret_changes};
	int r = hf_config_load(&hf_config_table, AT_FDCWD, w->paths.config, &fresh, warn_config,
			       NULL, err);

	/* Forms and ranges are good; what is left is what only this kernel knows. */
	if (r >= 0) {
		r = apply_policy(w, &fresh, err);
		if (r == -ENOSYS)
			r = 0;
		if (r < 0)
			(void)hf_err_wrap(err, "%s: telemetry", w->paths.config);
	}
	if (r < 0) {
		hf_config_done(&hf_config_table, &fresh);
		hf_error("%s: keeping the configuration as it was", err->msg);
		return r;
	}
	if (hf_config_diff(&hf_config_table, &w->config, &fresh, on_change, &changes) == 0)
		hf_notice("configuration read again: nothing changed");
	hf_config_done(&hf_config_table, &w->config);
	w->config = fresh;
	apply_config(w);
	for (size_t i = 0; i < w->components; i++)
		hf_component_reconfigure(w->component[i]);
	if (w->workers)
		hf_worker_table_reload(w);
	hf_releases_reconfigure(w->releases);
	return 0;
}

/* A bad file must not leave a host unwatched: the defaults stand in, and it is said loudly. */
static int init_config(struct hf_watchdog *w)
{
	struct hf_err err = {};
	int r;

	r = hf_config_load(&hf_config_table, AT_FDCWD, w->paths.config, &w->config, warn_config,
			   NULL, &err);
	if (r == HF_CONFIG_MISSING)
		hf_notice("there is no '%s': using defaults", w->paths.config);
	if (r < 0) {
		hf_error("%s: using defaults until it is mended", err.msg);
		r = hf_config_load_text(&hf_config_table, "defaults", "", 0, &w->config,
					warn_config, NULL, &err);
	}
	if (r >= 0)
		apply_config(w);
	return r < 0 ? r : 0;
}

static void exit_config(struct hf_watchdog *w)
{
	hf_config_done(&hf_config_table, &w->config);
}

/*
 * Ahead of what it watches: a busy host must not delay a restart, nor make us judge late. It uses
 * less than a thousandth of a processor. Under systemd the unit's Nice= has done it already.
 */
#define OWN_NICE (-10)

static int init_priority(struct hf_watchdog *w)
{
	(void)w;
	if (setpriority(PRIO_PROCESS, 0, OWN_NICE) < 0 && getpriority(PRIO_PROCESS, 0) > OWN_NICE)
		hf_info("runs at normal priority: %s", strerror(errno));
	return 0;
}

/* ---- ground ------------------------------------------------------------------------------------ */

static int init_ground(struct hf_watchdog *w)
{
	struct hf_err err = {};
	uid_t uid = 0;
	gid_t gid = 0;
	int r;

	/* An unknown user is told by the component that needs it. */
	(void)hf_account_resolve(w->config.component.agent.user, "component.agent.user", &uid, &gid,
				 NULL);
	r = hf_instance_make_dirs(&w->paths, uid, gid, &err);
	if (r == 0)
		r = hf_instance_lock(&w->paths, &w->lock_fd, &err);
	if (r < 0) {
		hf_error("%s", err.msg);
		return r;
	}
	w->state_dir = open(w->paths.watchdog_state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->state_dir < 0)
		return -errno;
	r = hf_records_open(w->state_dir, "components", &w->records);
	if (r < 0)
		hf_error_r(r, "open the records '%s/components'", w->paths.watchdog_state);
	return r;
}

static void exit_ground(struct hf_watchdog *w)
{
	w->records = hf_records_free(w->records);
	if (w->lock_fd < 0)
		return; /* another one's */
	if (!w->handing_over)
		(void)unlink(w->paths.watchdog_pid);
	/* An orderly end: it does not count as one of too many starts. */
	if (w->stopping || w->handing_over)
		(void)unlinkat(w->state_dir, HF_LAUNCH_STARTS, 0);
	w->state_dir = hf_close(w->state_dir);
	w->lock_fd = hf_close(w->lock_fd);
}

/*
 * Where the package's programs are: holdfast-launch knows, since this watchdog may be of a release in
 * the store; without it they lie beside us. Opened as root, so that nobody needs to reach them by path.
 */
static int init_bin_dir(struct hf_watchdog *w)
{
	const char *given = getenv(HF_LAUNCH_ENV_DIR);
	char path[PATH_MAX], *slash;
	ssize_t n;

	if (given && hf_strlcpy(path, given, sizeof(path))) {
		w->bin_dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (w->bin_dir >= 0)
			w->launch_fd = openat(w->bin_dir, HF_LAUNCH_PROGRAM, O_PATH | O_CLOEXEC);
	}
	if (w->bin_dir >= 0)
		return 0;
	n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n < 0)
		return hf_error_r(-errno, "read /proc/self/exe");
	path[n] = 0;
	slash = strrchr(path, '/');
	if (slash)
		*slash = 0;
	w->bin_dir = open(*path ? path : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (w->bin_dir < 0)
		return hf_error_r(-errno, "open '%s'", path);
	return 0;
}

static void exit_bin_dir(struct hf_watchdog *w)
{
	w->bin_dir = hf_close(w->bin_dir);
}

static int init_cgroup(struct hf_watchdog *w)
{
	const char *why;

	w->cgroup_base = hf_cgroup_open_base(w->paths.instance, &why);
	if (w->cgroup_base < 0) {
		hf_notice("components get no cgroup of their own: %s", why);
		w->cgroup_base = -1;
	}
	return 0;
}

static void exit_cgroup(struct hf_watchdog *w)
{
	if (w->cgroup_base < 0)
		return;
	if (w->stopping) {
		for (size_t i = 0; i < HF_ARRAY_SIZE(specs); i++)
			hf_cgroup_remove(w->cgroup_base, specs[i].name);
		hf_cgroup_remove_base(w->paths.instance);
	}
	w->cgroup_base = hf_close(w->cgroup_base);
}

/* ---- why it is asked to stop ------------------------------------------------------------------- */

/*
 * Who stops the unit may know more than SIGTERM says (the host goes down, a package is upgraded) and
 * has left a cause's name in <run>/stop-reason, for one stop. Anybody who may write there is root.
 */
static const char *stop_reason(const struct hf_watchdog *w, const char *fallback)
{
	_cleanup_free_ char *text = NULL;
	char path[HF_PATH_MAX + 16];
	enum hf_cause cause;
	struct stat st;
	size_t len;

	if (!hf_strf(path, sizeof(path), "%s/stop-reason", w->paths.run_dir))
		return fallback;
	/* The agent's group may write into the directory, but not speak for root. */
	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    hf_read_file(AT_FDCWD, path, 64, &text, &len) < 0)
		return fallback;
	(void)unlink(path);
	text[strcspn(text, "\n")] = 0;
	cause = hf_cause_from_name(text);
	return cause == HF_CAUSE_UNKNOWN ? fallback : hf_cause_name(cause);
}

/* ---- loop -------------------------------------------------------------------------------------- */

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata)
{
	struct hf_watchdog *w = userdata;
	struct hf_err err = {};

	(void)source;
	switch (si->ssi_signo) {
	case SIGTERM:
	case SIGINT:
		hf_watchdog_stop(w,
				 stop_reason(w, si->ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT"));
		break;
	case SIGHUP:
		(void)hf_watchdog_reload(w, NULL, &err); /* it has told */
		break;
	case SIGUSR1:
		hf_notice("handing over to another watchdog");
		w->handing_over = true;
		return sd_event_exit(w->event, 0);
	}
	return 0;
}

static int init_loop(struct hf_watchdog *w)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
	int r;

	r = sd_event_default(&w->event);
	for (size_t i = 0; r >= 0 && i < HF_ARRAY_SIZE(signals); i++)
		r = sd_event_add_signal(w->event, NULL, signals[i], on_signal, w);
	if (r >= 0)
		r = sd_event_set_watchdog(w->event, true);
	return r < 0 ? hf_error_r(r, "make the loop") : 0;
}

static void exit_loop(struct hf_watchdog *w)
{
	w->event = sd_event_unref(w->event);
}

/* ---- kernel ------------------------------------------------------------------------------------ */

/* Cgroups that a policy names may come and go. */
static int on_refresh(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_watchdog *w = userdata;
	int r = hf_kernel_filter_refresh(w->kernel);

	/* What it could not tell, the next packet or second does. */
	(void)hf_kernel_flush_drops(w->kernel);
	if (r > 0)
		hf_info("the cgroups that the telemetry policy names have changed");
	(void)sd_event_source_set_time(source, usec + (HF_NS_PER_S / HF_NS_PER_US));
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

static int init_kernel(struct hf_watchdog *w)
{
	const struct hf_kernel_options options = {
		.instance = w->paths.instance,
		.urgent_bytes = (uint32_t)w->config.kernel.urgent_ring_bytes,
		.bulk_bytes = (uint32_t)w->config.kernel.bulk_ring_bytes,
		.mode = w->config.kernel.mode == HF_CONFIG_KERNEL_OFF ? HF_KERNEL_OFF
								      : HF_KERNEL_AUTO,
	};
	struct hf_err err = {};
	int r = hf_kernel_open(&options, &w->kernel);

	if (r < 0)
		return hf_error_r(r, "load the kernel programs");
	if (hf_kernel_assist(w->kernel) == HF_KERNEL_ASSIST_OFF)
		return 0;
	r = apply_policy(w, &w->config, &err);
	if (r < 0)
		hf_error("%s: recording by the policy as it was", err.msg);
	r = sd_event_add_time_relative(w->event, NULL, CLOCK_MONOTONIC,
				       (HF_NS_PER_S / HF_NS_PER_US),
				       (HF_NS_PER_S / HF_NS_PER_US) / 4, on_refresh, w);
	return r < 0 ? hf_error_r(r, "make a timer") : 0;
}

static void exit_kernel(struct hf_watchdog *w)
{
	if (w->stopping && w->kernel) {
		int r = hf_kernel_unpin(w->kernel);

		if (r < 0 && r != -ENOSYS)
			hf_warn_r(r, "unpin the kernel programs, ignoring");
	}
	w->kernel = hf_kernel_free(w->kernel);
}

/* ---- sockets and components --------------------------------------------------------------------- */

static int init_server(struct hf_watchdog *w)
{
	int r = hf_server_new(w, &w->server);

	return r < 0 ? hf_error_r(r, "listen at '%s'", w->paths.supervise_sock) : 0;
}

static void exit_server(struct hf_watchdog *w)
{
	w->server = hf_server_free(w->server);
}

static int init_releases(struct hf_watchdog *w)
{
	return hf_releases_new(w, &w->releases);
}

static void exit_releases(struct hf_watchdog *w)
{
	w->releases = hf_releases_free(w->releases);
}

static int init_components(struct hf_watchdog *w)
{
	for (size_t i = 0; i < HF_ARRAY_SIZE(specs); i++) {
		int r = hf_component_new(w, &specs[i], &w->component[w->components]);

		if (r < 0)
			return hf_error_r(r, "set up component '%s'", specs[i].name);
		w->components++;
	}
	for (size_t i = 0; i < w->components; i++)
		hf_component_begin(w->component[i]);
	hf_releases_begin(w->releases);
	return 0;
}

static void exit_components(struct hf_watchdog *w)
{
	while (w->components > 0) {
		w->components--;
		w->component[w->components] = hf_component_free(w->component[w->components]);
	}
}

/* Without a journal no action is taken, but components are watched: not fatal. */
static int init_actions(struct hf_watchdog *w)
{
	int r = hf_actions_new(w, &w->actions);

	if (r < 0)
		hf_error_r(r, "open the journal of actions, going on without actions");
	return 0;
}

static void exit_actions(struct hf_watchdog *w)
{
	w->actions = hf_actions_free(w->actions);
}

/* Without the bus people see nothing, but components are still watched: not fatal. */
static int init_bus(struct hf_watchdog *w)
{
	int r = hf_bus_new(w, &w->bus);

	if (r < 0)
		hf_error_r(r, "open the bus at '%s', going on without", w->paths.watchdog_sock);
	return 0;
}

static void exit_bus(struct hf_watchdog *w)
{
	w->bus = hf_bus_free(w->bus);
}

/* ---- workers ------------------------------------------------------------------------------------ */

/* After the bus, so that whoever waits for a worker on it hears of its end. */
static int init_workers(struct hf_watchdog *w)
{
	struct hf_worker_spec table[HF_WORKERS_MAX];
	size_t n = hf_worker_table(&w->config, table);
	int r = hf_workers_new(w, table, n, &w->workers);

	return r < 0 ? hf_error_r(r, "set up the workers") : 0;
}

static void exit_workers(struct hf_watchdog *w)
{
	w->workers = hf_workers_free(w->workers);
}

/* ---- the start table: undone in reverse, as far as it had come ------------------------------------ */

static const struct {
	const char *name;
	int (*init)(struct hf_watchdog *w);
	void (*exit)(struct hf_watchdog *w);
} steps[] = {
	{"configuration", init_config, exit_config},
	{"priority", init_priority, NULL},
	{"ground", init_ground, exit_ground},
	{"bin", init_bin_dir, exit_bin_dir},
	{"cgroup", init_cgroup, exit_cgroup},
	{"loop", init_loop, exit_loop},
	{"kernel", init_kernel, exit_kernel},
	{"server", init_server, exit_server},
	{"releases", init_releases, exit_releases},
	{"components", init_components, exit_components},
	{"actions", init_actions, exit_actions},
	{"bus", init_bus, exit_bus},
	{"workers", init_workers, exit_workers},
};

struct hf_component *hf_watchdog_find(const struct hf_watchdog *w, const char *name)
{
	for (size_t i = 0; i < w->components; i++)
		if (hf_streq(hf_component_name(w->component[i]), name))
			return w->component[i];
	return NULL;
}

void hf_watchdog_component_stopped(struct hf_watchdog *w)
{
	if (!w->stopping)
		return;
	for (size_t i = 0; i < w->components; i++)
		if (!hf_component_stopped(w->component[i]))
			return;
	hf_info("everything is stopped");
	(void)sd_event_exit(w->event, 0);
}

void hf_watchdog_stop(struct hf_watchdog *w, const char *reason)
{
	if (w->stopping)
		return;
	w->stopping = true;
	hf_notice("stopping: %s", reason);
	(void)sd_notify(0, "STOPPING=1");
	for (size_t i = 0; i < w->components; i++)
		hf_component_request(w->component[i], HF_INPUT_STOP, reason);
	hf_watchdog_component_stopped(w);
}

static void block_signals(void)
{
	sigset_t set;

	/* Before any thread: every one inherits it, so that only the loop takes them. */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGUSR1);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

static int run(struct hf_watchdog *w)
{
	size_t started = 0;
	int r = 0;

	for (; started < HF_ARRAY_SIZE(steps); started++) {
		r = steps[started].init(w);
		if (r < 0) {
			if (!w->succeeded)
				hf_error_r(r, "start '%s'", steps[started].name);
			/* What the failed step had made is its own exit's to undo. */
			started++;
			break;
		}
	}
	if (r == 0) {
		(void)sd_notifyf(0, "READY=1\nSTATUS=watching %zu component(s), kernel_assist %s",
				 w->components, hf_kernel_assist_name(hf_kernel_assist(w->kernel)));
		hf_notice("holdfast-watchdog %s watches %zu component(s), kernel_assist %s",
			  HF_VERSION, w->components,
			  hf_kernel_assist_name(hf_kernel_assist(w->kernel)));
		r = sd_event_loop(w->event);
		if (r < 0)
			hf_error_r(r, "loop");
	}
	while (started-- > 0)
		if (steps[started].exit)
			steps[started].exit(w);
	return r;
}

/* Another release of us is to run. Under systemd it is this process that becomes it. */
static int succeed(const struct hf_watchdog *w)
{
	char name[] = HF_LAUNCH_PROGRAM, flag[] = "--dir", dot[] = ".";
	char *argv[] = {name, w->paths.installed ? NULL : flag, dot, NULL};

	if (getenv("NOTIFY_SOCKET")) {
		(void)syscall(SYS_execveat, w->launch_fd, "", argv, environ, AT_EMPTY_PATH);
		hf_error_r(-errno, "execute '" HF_LAUNCH_PROGRAM "'");
	}
	return HF_LAUNCH_EXIT_SUCCESSOR;
}

static void usage(FILE *f)
{
	(void)fprintf(f, "Usage: holdfast-watchdog [--dir DIR]\n"
			 "\n"
			 "Starts, watches and restarts the components of Holdfast. Started by\n"
			 "holdfast-launch.\n"
			 "\n"
			 "  --dir DIR   the instance in DIR instead of the installed one\n"
			 "  --version   print the version\n"
			 "  --help      print this\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"dir", required_argument, NULL, 'd'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{},
	};
	static struct hf_watchdog w = {
		.lock_fd = -1, .launch_fd = -1, .bin_dir = -1, .state_dir = -1, .cgroup_base = -1};
	const char *dir = NULL;
	int opt, r;

	hf_log_init("holdfast-watchdog");
	/* Executed by descriptor, older kernels name us by its number. */
	(void)prctl(PR_SET_NAME, "holdfast-watchd");
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'd':
			dir = optarg;
			break;
		case 'V':
			(void)printf("holdfast-watchdog %s\n", HF_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return HF_EXIT_CODE_PERMANENT;
		}
	}
	if (optind != argc) {
		usage(stderr);
		return HF_EXIT_CODE_PERMANENT;
	}
	if (geteuid() != 0) {
		hf_error("holdfast-watchdog must be started as root");
		return HF_EXIT_CODE_PERMANENT;
	}
	r = hf_paths_init(dir, &w.paths);
	if (r < 0) {
		hf_error_r(r, "change into '%s'", dir);
		return HF_EXIT_CODE_PERMANENT;
	}
	block_signals();
	w.started_ns = hf_now_monotonic_ns();
	r = run(&w);
	if (w.succeeded)
		return succeed(&w);
	if (r == -EBUSY)
		return HF_EXIT_CODE_PERMANENT;
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
