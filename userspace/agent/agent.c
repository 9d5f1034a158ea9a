/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts the parts in order, wires them, and undoes in reverse what was started.
 *
 * I1. A part that cannot start and without which the agent can do its main work (rtnetlink, clock
 *     watch, black box) is a warning; any other is the end, with exit code 100 or 111.
 * I2. The watchdog hears READY only after everything is up.
 * I3. Both SIGTERM and the watchdog's STOP lead to hf_agent_stop(): one goodbye, one exit.
 */
#include "userspace/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "userspace/agent/kernel_decode.h"

#define TICK_US          1000000u
#define TICK_ACCURACY_US 250000u
#define TRIM_AFTER_TICKS 5u
#define SETTLE_MS        500u
#define SPOOL_DIR        "spool"
#define BLACKBOX_FILE    "blackbox"
#define RINGLOG_FILE     "rings"
/* The last writes at a stop; systemd and the watchdog give us more than this. */
#define CLOSE_MS 2000u

/* ---- what the parts say to each other --------------------------------------------------------- */

static void on_state_changed(enum hf_ch_state from, enum hf_ch_state to, const char *why,
			     void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	(void)from;
	if (a->supervise) {
		hf_supervise_status(a->supervise, "%s: %s", hf_ch_state_name(to), why);
		/* Pending is as good: the portal answers. */
		hf_supervise_session(a->supervise, to == HF_CH_ONLINE || to == HF_CH_SUSPECT ||
							   to == HF_CH_PENDING);
	}
}

static void on_uplink(const Session__Welcome *welcome, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	if (welcome) {
		hf_uploader_online(a->uploader, welcome);
		hf_agent_actions_online(a->actions, welcome->endpoint_id, welcome->action_keys.data,
					welcome->action_keys.len);
	} else {
		hf_uploader_offline(a->uploader);
		hf_agent_actions_offline(a->actions);
	}
}

static int on_action(const char *type, const void *data, size_t len, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	return hf_agent_actions_message(a->actions, type, data, len);
}

static int on_send_action(const char *type, ProtobufCMessage *body, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	return a->channel ? hf_channel_send_action(a->channel, type, body) : -EPIPE;
}

/* Who has said that it leaves may not ask the watchdog for anything: the successor does. */
static int on_action_blob(enum hf_sup_type type, const void *bytes, size_t len, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	return a->supervise && !a->stopping
		       ? hf_supervise_action_blob(a->supervise, type, bytes, len)
		       : -ENOTCONN;
}

static int on_action_id(enum hf_sup_type type, const char *id, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	return a->supervise && !a->stopping ? hf_supervise_action_id(a->supervise, type, id)
					    : -ENOTCONN;
}

static uint64_t on_portal_time(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	return a->channel ? hf_channel_portal_unix_ns(a->channel) : 0;
}

static const struct hf_agent_actions_callbacks actions_callbacks = {
	.send = on_send_action,
	.blob = on_action_blob,
	.id = on_action_id,
	.portal_unix_ns = on_portal_time,
};

static void on_too_big(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_uploader_refused(a->uploader);
}

static void on_telemetry_ack(const Session__TelemetryAck *ack, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_uploader_ack(a->uploader, ack);
}

static void on_writable(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_uploader_kick(a->uploader);
	hf_agent_actions_writable(a->actions);
}

static int on_streams(Session__Hello *hello, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	return hf_uploader_hello(a->uploader, hello);
}

static void on_watch(uint64_t cookie, bool on, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);
	int r;

	if (!a->supervise)
		return;
	if (!on) {
		hf_supervise_unwatch_socket(a->supervise, cookie);
		return;
	}
	r = hf_supervise_watch_socket(a->supervise, cookie);
	if (r < 0)
		hf_warn_r(r, "have the kernel watch our socket, going on without");
}

static void on_channel_stopped(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	(void)sd_event_exit(a->event, 0);
}

static void on_restart_asked(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_notice("the portal asks for a restart");
	hf_agent_stop(a, hf_cause_name(HF_CAUSE_AGENT_STOPPED));
}

static const struct hf_channel_callbacks channel_callbacks = {
	.state_changed = on_state_changed,
	.uplink = on_uplink,
	.too_big = on_too_big,
	.telemetry_ack = on_telemetry_ack,
	.action = on_action,
	.writable = on_writable,
	.streams = on_streams,
	.watch = on_watch,
	.restart = on_restart_asked,
	.stopped = on_channel_stopped,
};

static int on_send_batch(Session__TelemetryBatch *batch, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	return hf_channel_send_batch(a->channel, batch);
}

static void on_socket_event(uint64_t cookie, const struct hf_kernel_fact *fact,
			    const uint8_t *event, size_t len, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	(void)hf_channel_kernel(a->channel, cookie, fact, event, len);
}

static void on_publish(const uint8_t *event, size_t len, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	if (a->bus)
		hf_bus_publish(a->bus, event, len);
}

static void on_assist_changed(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);
	const char *assist = hf_events_assist(a->events);

	if (hf_streq(assist, a->self.kernel_assist))
		return;
	a->self.kernel_assist = assist;
	if (hf_streq(assist, "ebpf"))
		hf_info("kernel assist: ebpf");
	else
		hf_notice("kernel assist: %s: %s", assist, hf_events_assist_reason(a->events));
}

static void on_canary(uint64_t nonce, uint32_t parent, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	if (a->supervise)
		hf_supervise_canary_seen(a->supervise, nonce, parent);
}

static void on_events_progress(uint64_t records, void *userdata)
{
	(void)records;
	(void)userdata; /* the loop's own counter says the same */
}

static const struct hf_events_callbacks events_callbacks = {
	.socket = on_socket_event,
	.publish = on_publish,
	.assist_changed = on_assist_changed,
	.canary = on_canary,
	.progress = on_events_progress,
};

static void on_spool_settled(uint64_t ticket, bool on_disk, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	(void)on_disk;
	if (a->events)
		hf_events_settled(a->events, ticket);
}

static void on_spool_readable(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	if (a->uploader)
		hf_uploader_kick(a->uploader);
}

static void on_spool_disk(int r, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	if (r < 0) {
		hf_error_r(r, "write the spool, keeping telemetry in memory meanwhile");
		hf_strf(a->last_error, sizeof(a->last_error), "the spool cannot be written: %s",
			strerror(-r));
	} else {
		hf_notice("the spool can be written again");
		a->last_error[0] = 0;
	}
	if (a->channel)
		hf_channel_status_changed(a->channel);
}

static int on_spool_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	(void)s;
	(void)fd;
	(void)revents;
	hf_spool_dispatch(a->spool);
	return 0;
}

static void on_kernel(enum hf_sup_assist assist, int fds[static _HF_SUP_FD_MAX], void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_events_kernel(a->events, assist, fds);
	/* It comes with each watchdog: the health has changed with it. */
	if (a->channel)
		hf_channel_status_changed(a->channel);
}

static void on_last_exit(const struct hf_sup_last_exit *e, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	if (a->channel)
		hf_channel_last_exit(a->channel, e);
}

static void on_watchdog_stop(const char *reason, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_agent_stop(a, reason);
}

static void on_watchdog_reload(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);
	struct hf_err err = {};

	if (hf_agent_reload(a, &err) < 0)
		hf_error("%s, keeping the old configuration", err.msg);
}

static void on_denied(enum hf_sup_type request, int error, void *userdata)
{
	(void)userdata;
	hf_warn("the watchdog refused request %d: %s", (int)request, strerror(error));
}

static void on_watchdog_lost(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_warn("the watchdog went away, dialling it again");
	if (a->channel)
		hf_channel_status_changed(a->channel);
}

static void on_welcome(const struct hf_sup_welcome *w, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	a->starts = w->starts;
	hf_agent_actions_watchdog(a->actions);
}

static void on_action_nonce(const struct hf_sup_action_nonce *m, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_agent_actions_nonce(a->actions, m);
}

static void on_action_state(const struct hf_sup_action_state *m, int result_fd, int artifact_fd,
			    void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_agent_actions_state(a->actions, m, result_fd, artifact_fd);
}

static const struct hf_supervise_callbacks supervise_callbacks = {
	.welcome = on_welcome,
	.action_nonce = on_action_nonce,
	.action_state = on_action_state,
	.kernel = on_kernel,
	.last_exit = on_last_exit,
	.stop = on_watchdog_stop,
	.reload = on_watchdog_reload,
	.denied = on_denied,
	.lost = on_watchdog_lost,
};

/* ---- signals, tick ---------------------------------------------------------------------------- */

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	(void)s;
	if (si->ssi_signo == SIGHUP)
		on_watchdog_reload(a);
	else
		hf_agent_stop(a, hf_cause_name(HF_CAUSE_AGENT_STOPPED));
	return 0;
}

/* Once a second: what has no event of its own. */
static int on_tick(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	a->self.lost_events = hf_events_lost(a->events);
	if (a->has_disk_worker && hf_disk_idle(a->disk))
		hf_supervise_idle(a->supervise, a->disk_worker, true);
	else if (a->has_disk_worker)
		hf_supervise_progress(a->supervise, a->disk_worker, hf_disk_progress(a->disk));
	hf_agent_metrics_tick(a);
	/* What the start needed once goes back to the kernel. */
	if (++a->ticks == TRIM_AFTER_TICKS)
		(void)malloc_trim(0);
	(void)sd_event_source_set_time(s, usec + TICK_US);
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
	return 0;
}

/* ---- configuration ---------------------------------------------------------------------------- */

static void on_config_warning(void *userdata, const char *line)
{
	(void)userdata;
	hf_warn("%s", line);
}

struct diff {
	bool portal;
};

static void on_config_diff(void *userdata, const struct hf_config_entry *e)
{
	struct diff *d = userdata;

	hf_notice("configuration: %s changed%s", e->key,
		  e->restart ? ", takes effect at the next start" : "");
	if (hf_startswith(e->key, "portal."))
		d->portal = true;
}

int hf_agent_reload(struct hf_agent *a, struct hf_err *err)
{
	struct hf_config fresh = {};
	struct diff diff = {};
	int r;

	r = hf_config_load(&hf_config_table, AT_FDCWD, a->paths.config, &fresh, on_config_warning,
			   a, err);
	if (r < 0)
		return r;
	(void)hf_config_diff(&hf_config_table, &a->config, &fresh, on_config_diff, &diff);
	hf_config_done(&hf_config_table, &a->config);
	a->config = fresh;
	hf_log_set_level(hf_config_log_level(a->config.log.level));
	hf_events_configure(a->events, &a->config);
	a->self.config_sent = false;
	hf_channel_configure(a->channel, &a->config, diff.portal);
	hf_agent_metrics_configure(a);
	return 0;
}

static int start_config(struct hf_agent *a)
{
	struct hf_err err = {};
	int r;

	r = hf_config_load(&hf_config_table, AT_FDCWD, a->paths.config, &a->config,
			   on_config_warning, a, &err);
	if (r < 0) {
		hf_error("%s", err.msg);
		return r;
	}
	if (r == HF_CONFIG_MISSING)
		hf_notice("'%s' does not exist, using the defaults", a->paths.config);
	hf_log_set_level(hf_config_log_level(a->config.log.level));
	hf_strlcpy(a->environment, a->config.environment, sizeof(a->environment));
	return 0;
}

static void stop_config(struct hf_agent *a)
{
	hf_config_done(&hf_config_table, &a->config);
}

/* ---- parts ------------------------------------------------------------------------------------ */

static int start_state(struct hf_agent *a)
{
	int r;

	a->state_dirfd = open(a->paths.agent_state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (a->state_dirfd < 0) {
		r = -errno;
		hf_error_r(r, "open state directory '%s'", a->paths.agent_state);
		return r;
	}
	hf_host_read(&a->host);
	r = hf_disk_new(a->event, a->state_dirfd, &a->disk);
	if (r < 0)
		hf_error_r(r, "start the disk thread");
	return r;
}

static void stop_state(struct hf_agent *a)
{
	a->disk = hf_disk_close(a->disk, CLOSE_MS);
	a->state_dirfd = hf_close(a->state_dirfd);
}

static int start_identity(struct hf_agent *a)
{
	struct hf_err err = {};
	int r = hf_identity_open(a->state_dirfd, a->disk, &a->identity, &err);

	if (r < 0) {
		hf_error("identity: %s", err.msg);
		return r;
	}
	a->self = (struct hf_self){
		.host = &a->host,
		.instance_uid = hf_identity_uid(a->identity),
		.version = HF_VERSION,
		.environment = a->environment,
		.kernel_assist = "off",
		.started_unix_ns = hf_now_realtime_ns(),
		.last_error = a->last_error,
		.parts = hf_agent_parts,
		.effective_config = hf_agent_effective_config,
		.userdata = a,
	};
	hf_random_bytes(a->self.run_id, sizeof(a->self.run_id));
	return 0;
}

static void stop_identity(struct hf_agent *a)
{
	a->identity = hf_identity_free(a->identity);
}

static int start_outages(struct hf_agent *a)
{
	int r = hf_outages_open(a->state_dirfd, a->disk, &a->outages);

	if (r < 0) {
		hf_error_r(r, "open the outage records");
		return r;
	}
	if (hf_outages_damaged(a->outages))
		hf_warn("%llu damaged outage records were removed",
			(unsigned long long)hf_outages_damaged(a->outages));
	r = hf_blackbox_open(a->state_dirfd, BLACKBOX_FILE, &a->blackbox);
	if (r < 0)
		hf_warn_r(r, "open '%s', outages by a killed agent will lack their begin",
			  BLACKBOX_FILE);
	return 0;
}

static void stop_outages(struct hf_agent *a)
{
	a->blackbox = hf_blackbox_free(a->blackbox);
	a->outages = hf_outages_free(a->outages);
}

/* A record that a killed predecessor wrote: which of the kernel's it was. */
static void on_spool_recovered(const void *data, size_t len, void *userdata)
{
	struct hf_agent *a = userdata;
	Bus__Event *ev = bus__event__unpack(NULL, len, data);

	if (!ev)
		return;
	for (uint32_t i = 0; i < _HF_RING_MAX; i++)
		if (hf_streq(ev->ring, hf_ring_name((enum hf_ring_id)i)))
			hf_ringlog_on_disk(a->ringlog, i, ev->cpu, ev->seq, ev->boot_ns);
	bus__event__free_unpacked(ev, NULL);
}

static int start_spool(struct hf_agent *a)
{
	const struct hf_spool_callbacks cb = {
		.settled = on_spool_settled,
		.readable = on_spool_readable,
		.disk = on_spool_disk,
	};
	const struct hf_uploader_callbacks up = {.send = on_send_batch};
	char dir[128];
	struct hf_spool_config config = {
		.dir = dir,
		.max_bytes = a->config.telemetry.spool_max_bytes,
		/* Not beside the dial that the same event has started. */
		.urgent_linger_ms = 20,
		.linger_ms = 100,
	};
	int r;

	r = hf_ringlog_open(a->state_dirfd, RINGLOG_FILE, a->host.boot_id, hf_now_monotonic_ns(),
			    &a->ringlog);
	if (r < 0)
		return hf_error_r(r, "open '%s'", RINGLOG_FILE);
	/* Only who has left something unsure must be looked for. */
	if (hf_ringlog_unsure(a->ringlog))
		config.recovered = on_spool_recovered;
	hf_strf(dir, sizeof(dir), "%s/%s", a->paths.agent_state, SPOOL_DIR);
	r = hf_spool_open(&config, &cb, a, &a->spool);
	if (r < 0) {
		hf_error_r(r, "open the spool '%s'", dir);
		return r;
	}
	r = sd_event_add_io(a->event, &a->spool_io, hf_spool_fd(a->spool), EPOLLIN, on_spool_io, a);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(a->spool_io, "spool"); /* for debugging only */
	a->resource = (struct hf_otlp_resource){
		.instance_uid = hf_identity_uid_text(a->identity),
		.hostname = a->host.hostname,
		.machine_id = a->host.machine_id_hex,
		.boot_id = a->host.boot_id_text,
		.version = HF_VERSION,
	};
	r = hf_uploader_new(a->spool, &a->resource, &up, a, &a->uploader);
	if (r < 0)
		hf_error_r(r, "start the uploader");
	return r;
}

static void stop_spool(struct hf_agent *a)
{
	a->uploader = hf_uploader_free(a->uploader);
	sd_event_source_disable_unref(a->spool_io);
	a->spool_io = NULL;
	a->spool = hf_spool_close(a->spool, CLOSE_MS);
	a->ringlog = hf_ringlog_free(a->ringlog);
}

static int start_events(struct hf_agent *a)
{
	int r = hf_events_new(a->event, a->spool, a->ringlog, &a->config, &events_callbacks, a,
			      &a->events);

	if (r < 0)
		hf_error_r(r, "start the event reader");
	return r;
}

static void stop_events(struct hf_agent *a)
{
	struct pollfd p = {.fd = a->spool ? hf_spool_fd(a->spool) : -1, .events = POLLIN};
	uint64_t end = hf_now_monotonic_ns() + SETTLE_MS * HF_NS_PER_MS;

	/* What is on disk is committed, so that a successor does not read and send it again. */
	while (a->events && a->spool && hf_events_unsettled(a->events) &&
	       hf_now_monotonic_ns() < end) {
		if (poll(&p, 1, 10) > 0)
			hf_spool_dispatch(a->spool);
	}
	a->events = hf_events_free(a->events);
}

static int start_actions(struct hf_agent *a)
{
	int r = hf_agent_actions_new(a->event, a->state_dirfd, a->disk, &a->config,
				     &actions_callbacks, a, &a->actions);

	if (r < 0)
		hf_error_r(r, "open the journal of actions");
	return r;
}

static void stop_actions(struct hf_agent *a)
{
	a->actions = hf_agent_actions_free(a->actions);
}

static int start_channel(struct hf_agent *a)
{
	const struct hf_channel_options o = {
		.event = a->event,
		.state_dirfd = a->state_dirfd,
		.state_dir = a->paths.agent_state,
		.identity = a->identity,
		.outages = a->outages,
		.disk = a->disk,
		.blackbox = a->blackbox,
		.self = &a->self,
		.config = &a->config,
	};
	int r = hf_channel_new(&o, &channel_callbacks, a, &a->channel);

	if (r < 0)
		hf_error_r(r, "set up the channel");
	return r;
}

static void stop_channel(struct hf_agent *a)
{
	a->channel = hf_channel_free(a->channel);
}

static int start_supervise(struct hf_agent *a)
{
	int r = hf_supervise_new(a->event, a->paths.supervise_sock, "agent", HF_VERSION, true,
				 &supervise_callbacks, a, &a->supervise);

	if (r < 0) {
		hf_error_r(r, "talk to the watchdog at '%s'", a->paths.supervise_sock);
		return r;
	}
	r = hf_supervise_add_worker(a->supervise);
	a->has_disk_worker = r >= 0;
	a->disk_worker = r >= 0 ? (unsigned)r : 0;
	return 0;
}

static void stop_supervise(struct hf_agent *a)
{
	a->supervise = hf_supervise_free(a->supervise);
}

static int start_bus(struct hf_agent *a)
{
	int r = hf_bus_new(a->event, a->paths.agent_url, a->paths.events_url, hf_agent_request, a,
			   &a->bus);

	if (r < 0)
		hf_error_r(r, "listen on '%s'", a->paths.agent_sock);
	return r;
}

static void stop_bus(struct hf_agent *a)
{
	a->enroll_call = NULL; /* goes with the bus */
	a->bus = hf_bus_free(a->bus);
}

static int start_signals(struct hf_agent *a)
{
	int r;

	/* They are blocked since main(), before any thread. */
	r = sd_event_add_signal(a->event, &a->sigterm, SIGTERM, on_signal, a);
	/* After the watchdog's word, which comes with it and knows why. */
	if (r >= 0)
		r = sd_event_source_set_priority(a->sigterm, SD_EVENT_PRIORITY_NORMAL + 10);
	if (r >= 0)
		r = sd_event_add_signal(a->event, &a->sigint, SIGINT, on_signal, a);
	if (r >= 0)
		r = sd_event_add_signal(a->event, &a->sighup, SIGHUP, on_signal, a);
	if (r >= 0)
		r = sd_event_add_time_relative(a->event, &a->tick, CLOCK_MONOTONIC, TICK_US,
					       TICK_ACCURACY_US, on_tick, a);
	if (r < 0)
		hf_error_r(r, "set up signals");
	return r;
}

static void stop_signals(struct hf_agent *a)
{
	sd_event_source_disable_unref(a->tick);
	sd_event_source_disable_unref(a->sighup);
	sd_event_source_disable_unref(a->sigint);
	sd_event_source_disable_unref(a->sigterm);
	a->tick = a->sighup = a->sigint = a->sigterm = NULL;
}

static const struct part {
	const char *name;
	int (*start)(struct hf_agent *a);
	void (*stop)(struct hf_agent *a);
} parts[] = {
	{"config", start_config, stop_config},
	{"state", start_state, stop_state},
	{"identity", start_identity, stop_identity},
	{"outages", start_outages, stop_outages},
	{"spool", start_spool, stop_spool},
	{"events", start_events, stop_events},
	{"actions", start_actions, stop_actions},
	{"supervise", start_supervise, stop_supervise},
	{"channel", start_channel, stop_channel},
	{"watches", hf_agent_start_watches, hf_agent_stop_watches},
	{"bus", start_bus, stop_bus},
	{"metrics", hf_agent_metrics_start, hf_agent_metrics_stop},
	{"signals", start_signals, stop_signals},
};

/* ---- life ------------------------------------------------------------------------------------- */

void hf_agent_stop(struct hf_agent *a, const char *reason)
{
	enum hf_cause cause = hf_cause_from_name(reason);

	if (a->stopping)
		return;
	a->stopping = true;
	/* A reason that is no cause is a person's text. */
	if (cause == HF_CAUSE_UNKNOWN)
		cause = HF_CAUSE_AGENT_STOPPED;
	if (cause == HF_CAUSE_AGENT_STOPPED && a->host_goes_down)
		cause = HF_CAUSE_HOST_SHUTDOWN;
	hf_log_fields(HF_LOG_NOTICE,
		      (const struct hf_log_field[]){{"HOLDFAST_CAUSE", hf_cause_name(cause)}, {}},
		      "stopping: %s", reason);
	hf_supervise_stopping(a->supervise, reason);
	hf_channel_stop(a->channel, hf_cause_name(cause));
}

/* A broken configuration or state does not mend itself; the rest may. */
static int exit_code_of(int r)
{
	switch (r) {
	case -EINVAL:
	case -ENOENT:
	case -EACCES:
	case -EPERM:
	case -ENOTDIR:
		return HF_EXIT_PERMANENT;
	}
	return HF_EXIT_TEMPORARY;
}

int hf_agent_run(const char *dir)
{
	struct hf_agent a = {.magic = HF_AGENT_MAGIC, .state_dirfd = -1};
	size_t started = 0;
	int r, code;

	a.started_ns = hf_now_monotonic_ns();
	r = hf_paths_init(dir, &a.paths);
	if (r < 0) {
		hf_error_r(r, "use directory '%s'", dir ? dir : "/");
		return exit_code_of(r);
	}
	r = sd_event_new(&a.event);
	if (r < 0) {
		hf_error_r(r, "make an event loop");
		return HF_EXIT_TEMPORARY;
	}
	for (; started < HF_ARRAY_SIZE(parts); started++) {
		r = parts[started].start(&a);
		if (r < 0)
			break;
	}
	if (r < 0) {
		hf_error_r(r, "cannot start '%s'", parts[started].name);
		/* What a failed start left half done is undone by its own stop. */
		started++;
		code = exit_code_of(r);
	} else {
		hf_notice("holdfast-agent %s started, instance %s, uid %s", HF_VERSION,
			  a.paths.instance, hf_identity_uid_text(a.identity));
		hf_channel_start(a.channel);
		hf_supervise_ready(a.supervise);
		code = sd_event_loop(a.event);
		if (code < 0) {
			hf_error_r(code, "event loop");
			code = HF_EXIT_TEMPORARY;
		}
	}
	while (started > 0)
		parts[--started].stop(&a);
	sd_event_unref(a.event);
	return code;
}
