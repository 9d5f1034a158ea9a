/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a component says and is told on supervise.sock, and what the bus shows of it.
 */
#include "watchdog/component_internal.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "watchdog/kernel_load.h"
#include "watchdog/proc.h"
#include "watchdog/release.h"
#include "watchdog/server.h"

/* ---- from the supervise socket ---------------------------------------------------------------- */

bool hf_component_owns(const struct hf_component *c, uint32_t pid, uint32_t uid)
{
	return c->pid && c->pid == pid && c->uid == uid;
}

static void send_kernel(struct hf_component *c)
{
	_cleanup_close_ int text = hf_kernel_text_fd(c->w->kernel);
	enum hf_kernel_assist assist = hf_kernel_assist(c->w->kernel);
	struct hf_sup_kernel m = {.hdr = hf_peer_header(HF_SUP_KERNEL), .assist = assist};
	int fds[_HF_SUP_FD_MAX];

	_Static_assert((int)HF_KERNEL_ASSIST_EBPF == (int)HF_SUP_ASSIST_EBPF &&
			       (int)HF_KERNEL_ASSIST_PARTIAL == (int)HF_SUP_ASSIST_PARTIAL &&
			       (int)HF_KERNEL_ASSIST_OFF == (int)HF_SUP_ASSIST_OFF,
		       "one numbering");
	if (text < 0) {
		hf_error_r(text, "make the kernel's description for '%s', ignoring", c->spec->name);
		m.assist = HF_SUP_ASSIST_OFF;
		hf_peer_send(c->peer, &m, NULL, 0);
		return;
	}
	if (assist == HF_KERNEL_ASSIST_OFF) {
		m.fds = 1;
		hf_peer_send(c->peer, &m, &text, 1);
		return;
	}
	fds[HF_SUP_FD_RING_URGENT] = hf_kernel_ring_fd(c->w->kernel, HF_RING_URGENT);
	fds[HF_SUP_FD_RING_BULK] = hf_kernel_ring_fd(c->w->kernel, HF_RING_BULK);
	fds[HF_SUP_FD_COUNTERS] = hf_kernel_counters_fd(c->w->kernel);
	fds[HF_SUP_FD_INFO] = text;
	m.fds = _HF_SUP_FD_MAX;
	hf_peer_send(c->peer, &m, fds, _HF_SUP_FD_MAX);
}

static void send_last_exit(struct hf_component *c)
{
	const struct hf_death *d = &c->death;
	struct hf_sup_last_exit m = {
		.hdr = hf_peer_header(HF_SUP_LAST_EXIT),
		.cause = d->cause,
		.pid = d->pid,
		.code = d->code,
		.signal = d->signal,
		.core = d->core,
		.by_pid = d->by_pid,
		.by_uid = d->by_uid,
		.from_kernel = d->from_kernel,
		.at_boot_ns = d->at_boot_ns,
		.exit_to_exec_us = d->exit_to_exec_us,
	};

	(void)hf_strlcpy(m.by_comm, d->by_comm, sizeof(m.by_comm));
	(void)hf_strlcpy(m.text, d->text, sizeof(m.text));
	hf_peer_send(c->peer, &m, NULL, 0);
}

void hf_component_hello(struct hf_component *c, struct hf_peer *peer,
			const struct hf_sup_hello *hello)
{
	struct hf_sup_welcome w = {
		.hdr = hf_peer_header(HF_SUP_WELCOME),
		.expect_ms = (uint32_t)c->w->config.hang.expect_ms,
		.deadline_ms = (uint32_t)c->w->config.hang.deadline_ms,
		.starts = (uint32_t)c->machine.starts,
		.watchdog_pid = (uint32_t)getpid(),
		.watchdog_version = HF_VERSION,
	};

	if (c->peer && c->peer != peer)
		hf_peer_drop(c->peer);
	c->peer = peer;
	(void)hf_strlcpy(c->version, hello->version, sizeof(c->version));
	hf_sanitize(c->version);
	c->takes_kernel = hello->wants_kernel;
	hf_hang_begin(&c->hang, hf_now_monotonic_ns());
	hf_component_check_hang(c);
	hf_peer_send(peer, &w, NULL, 0);
	if (hello->wants_kernel)
		send_kernel(c);
	/* It has been told, when it is the process of an earlier watchdog. */
	if (c->died && !hello->readopted)
		send_last_exit(c);
	hf_releases_tell(c->w->releases, c);
	hf_debug("component '%s' %s (pid %u) says hello", c->spec->name, c->version, c->pid);
}

void hf_component_ready(struct hf_component *c)
{
	if (c->awaiting_ready) {
		uint64_t now_ns = hf_now_boottime_ns();

		c->awaiting_ready = false;
		if (now_ns > c->death.at_boot_ns)
			c->death.exit_to_ready_us = (now_ns - c->death.at_boot_ns) / HF_NS_PER_US;
	}
	c->detail[0] = 0;
	hf_component_input(c, HF_INPUT_READY, NULL);
	hf_component_drop_old_view(c);
}

int hf_component_progress(struct hf_component *c, const struct hf_sup_progress *p)
{
	enum hf_liveness before = c->hang.liveness;
	int r;

	c->well = p->healthy;
	r = hf_hang_progress(&c->hang, p, hf_now_monotonic_ns());

	/* The timer looks again by itself; only an excused one is told at once that it moves. */
	if (r == 0 && before != HF_LIVE_OK)
		hf_component_check_hang(c);
	if (r == 0)
		hf_component_check_limits(c);
	return r;
}

void hf_component_session(struct hf_component *c, bool online)
{
	c->online = online;
}

void hf_component_canary_seen(struct hf_component *c, uint64_t nonce)
{
	if (c->release)
		hf_release_canary_seen(c->release, nonce);
}

void hf_component_health(const struct hf_component *c, struct hf_component_health *ret)
{
	enum hf_liveness l = c->hang.liveness;

	*ret = (struct hf_component_health){
		.pid = c->pid,
		.healthy = c->machine.state == HF_STATE_RUNNING && c->peer && c->well &&
			   (l == HF_LIVE_OK || l == HF_LIVE_LATE),
		.connected = c->pid && c->online,
	};
}

const struct hf_confine *hf_component_confine(const struct hf_component *c)
{
	return &c->confine;
}

bool hf_component_takes_kernel(const struct hf_component *c)
{
	return c->takes_kernel;
}

void hf_component_tell(struct hf_component *c, const void *msg)
{
	if (c->peer)
		hf_peer_send(c->peer, msg, NULL, 0);
}

void hf_component_status(struct hf_component *c, const char *text)
{
	(void)hf_strlcpy(c->status, text, sizeof(c->status));
}

void hf_component_stopping(struct hf_component *c, const char *reason)
{
	(void)hf_strlcpy(c->leaving, reason, sizeof(c->leaving));
	hf_sanitize(c->leaving);
}

int hf_component_watch_socket(struct hf_component *c, uint64_t cookie, bool on)
{
	unsigned i = 0;
	int r;

	while (i < c->watches && c->watch[i] != cookie)
		i++;
	if (!on && i == c->watches)
		return 0;
	if (on && i == c->watches && c->watches == HF_PERMIT_WATCHES_MAX)
		return -ENOSPC;
	r = hf_kernel_watch_socket(c->w->kernel, cookie, on);
	if (r < 0 && on)
		return r;
	if (!on)
		c->watch[i] = c->watch[--c->watches];
	else if (i == c->watches)
		c->watch[c->watches++] = cookie;
	return 0;
}

void hf_component_conn_gone(struct hf_component *c, struct hf_peer *peer)
{
	if (c->peer != peer)
		return;
	c->peer = NULL;
	/* It dials again within a second. If it never does, that is silence like any other. */
	hf_hang_begin(&c->hang, hf_now_monotonic_ns());
	hf_component_check_hang(c);
}

/* ---- for the bus ------------------------------------------------------------------------------ */

void hf_component_view(const struct hf_component *c, struct hf_component_view *ret)
{
	struct hf_confined confined = c->confined;

	*ret = (struct hf_component_view){
		.name = c->spec->name,
		.version = c->version,
		.pid = c->pid,
		.start_ns = c->start_ns,
		.uid = c->uid,
		.state = c->machine.state,
		.restarts = c->machine.starts ? c->machine.starts - 1 : 0,
		.since_realtime_ns = c->since_realtime_ns,
		.rss_bytes = c->pid ? hf_proc_rss(c->pid) : 0,
		.status_text = c->status,
		.last_exit = c->died ? &c->death : NULL,
	};
	(void)hf_strlcpy(ret->detail, c->detail, sizeof(ret->detail));
	/* Its start told; of an adopted one, whose start was another watchdog's, /proc tells. */
	if (c->pid && (!c->adopted || hf_confine_observe(c->pid, &confined) == 0))
		hf_confine_describe(&confined, ret->confinement, sizeof(ret->confinement));
	(void)hf_strlcpy(ret->last_stderr, c->last_stderr, sizeof(ret->last_stderr));
}

struct hf_peer *hf_component_peer(const struct hf_component *c)
{
	return c->peer;
}

const char *hf_component_name(const struct hf_component *c)
{
	return c->spec->name;
}

bool hf_component_stopped(const struct hf_component *c)
{
	return c->machine.state == HF_STATE_STOPPED;
}
