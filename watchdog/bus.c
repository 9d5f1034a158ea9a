/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of the CLI and of the agent.
 *
 * I1. Nothing here blocks: nng's own threads do the transport, we are woken by its descriptor,
 *     receive and send without waiting. A caller that does not take its answer loses it.
 * I2. The caller is who the kernel says (uid of the ipc peer), never who the message says.
 * I3. A request is bounded in bytes by nng, in shape and memory by hf_pb_unpack().
 */
#include "watchdog/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/str.h"
#include "bus.pb-c.h"
#include "userspace/proto/bus_access.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/nng_guard.h"
#include "watchdog/action.h"
#include "watchdog/bus_release.h"
#include "watchdog/bus_scan.h"
#include "watchdog/component.h"
#include "watchdog/kernel_load.h"

#define BUS_MAGIC 0x42555320u
/* Our requests have less than a hundred bytes; a path is the longest thing in one. */
#define REQUEST_MAX (16 * 1024)
/* Requests per wakeup; the CLI sends one. */
#define BATCH_MAX    8
#define PROGRAMS_MAX 32

struct hf_bus {
	unsigned magic;
	struct hf_watchdog *w;
	nng_socket socket;
	bool open;
	int64_t bus_gid; /* -1: there is no such group */
	sd_event_source *io;
	struct hf_ratelimit stranger_log;
	struct hf_bus_scan *scan;
};

enum right {
	RIGHT_NONE,
	RIGHT_READ,
	RIGHT_ALL,
};

/* nng's own codes overlap with no errno we would show. */
static int from_nng(int r)
{
	switch (r) {
	case 0:
		return 0;
	case NNG_ENOMEM:
		return -ENOMEM;
	case NNG_EADDRINUSE:
		return -EADDRINUSE;
	case NNG_EPERM:
		return -EPERM;
	case NNG_EAGAIN:
		return -EAGAIN;
	default:
		return -EIO;
	}
}

static enum right right_of(const struct hf_bus *b, nng_pipe pipe, uint64_t uid)
{
	uint64_t gid = UINT32_MAX, pid = 0;

	if (uid == 0 || uid == geteuid())
		return RIGHT_ALL;
	for (size_t i = 0; i < b->w->components; i++) {
		struct hf_component_view v;

		hf_component_view(b->w->component[i], &v);
		if (v.uid != 0 && v.uid == uid)
			return RIGHT_READ;
	}
	(void)nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_GID, &gid);
	(void)nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_PID, &pid);
	return hf_bus_in_group((uint32_t)gid, (pid_t)pid, b->bus_gid) ? RIGHT_READ : RIGHT_NONE;
}

/* ---- answers: messages live in one of these on the stack while they are packed ---------------- */

struct answer {
	Bus__Response response;
	char message[300];
	Bus__WatchdogStatus status;
	Bus__Component component[HF_COMPONENTS_MAX];
	Bus__Component *component_ptr[HF_COMPONENTS_MAX];
	Bus__ExitRecord exit[HF_COMPONENTS_MAX];
	struct hf_component_view view[HF_COMPONENTS_MAX];
	Bus__Program program[PROGRAMS_MAX];
	Bus__Program *program_ptr[PROGRAMS_MAX];
	Bus__ConfigResult config;
	char *change_ptr[HF_CONFIG_ENTRIES_MAX];
	struct hf_buf changes;
	Bus__ScanState scan;
	struct hf_bus_releases releases;
};

static void refuse(struct answer *a, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void refuse(struct answer *a, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(a->message, sizeof(a->message), fmt, ap);
	va_end(ap);
	a->response.error = error;
	a->response.message = a->message;
}

static void fill_exit(Bus__ExitRecord *m, const struct hf_death *d)
{
	bus__exit_record__init(m);
	m->cause = (char *)hf_exit_cause_name(d->cause);
	m->code = d->code;
	m->signal = d->signal;
	m->core = d->core;
	m->by_pid = d->by_pid;
	m->by_comm = (char *)d->by_comm;
	m->by_uid = d->by_uid;
	m->exit_to_exec_us = d->exit_to_exec_us;
	m->exit_to_ready_us = d->exit_to_ready_us;
	m->at_unix_ns = d->at_boot_ns ? hf_boottime_to_realtime_ns(d->at_boot_ns) : 0;
	m->text = (char *)d->text;
	m->pid = d->pid;
	m->from_kernel = d->from_kernel;
}

static Bus__Component *fill_component(struct answer *a, size_t i, const struct hf_component *c)
{
	struct hf_component_view *v = &a->view[i];
	Bus__Component *m = &a->component[i];

	hf_component_view(c, v);
	bus__component__init(m);
	m->name = (char *)v->name;
	m->pid = v->pid;
	m->version = (char *)v->version;
	m->state = (char *)hf_state_name(v->state);
	m->restarts = v->restarts;
	m->status_text = (char *)v->status_text;
	m->since_unix_ns = v->since_realtime_ns;
	m->rss_bytes = v->rss_bytes;
	m->last_stderr = v->last_stderr;
	m->detail = v->detail;
	m->confinement = v->confinement;
	if (v->last_exit) {
		fill_exit(&a->exit[i], v->last_exit);
		m->last_exit = &a->exit[i];
	}
	return m;
}

static void answer_status(struct hf_bus *b, struct answer *a)
{
	struct hf_watchdog *w = b->w;
	Bus__WatchdogStatus *s = &a->status;
	const struct hf_kernel_program *p;
	size_t n = 0;

	bus__watchdog_status__init(s);
	s->pid = (uint32_t)getpid();
	s->version = (char *)HF_VERSION;
	s->uptime_ms = (hf_now_monotonic_ns() - w->started_ns) / HF_NS_PER_MS;
	s->kernel_assist = (char *)hf_kernel_assist_name(hf_kernel_assist(w->kernel));
	for (size_t i = 0; i < w->components; i++)
		a->component_ptr[i] = fill_component(a, i, w->component[i]);
	s->n_components = w->components;
	s->components = a->component_ptr;
	while (n < PROGRAMS_MAX && (p = hf_kernel_program(w->kernel, n))) {
		bus__program__init(&a->program[n]);
		a->program[n].name = (char *)p->name;
		a->program[n].attached = p->attached;
		a->program[n].reason = (char *)p->reason;
		a->program[n].missed = hf_kernel_program_missed(w->kernel, n);
		a->program_ptr[n] = &a->program[n];
		n++;
	}
	hf_bus_fill_releases(w->releases, &a->releases);
	s->releases = a->releases.items;
	s->n_releases = a->releases.m.n_items;
	for (size_t i = 0; i < s->n_releases; i++)
		if (s->releases[i]->previous && hf_streq(s->releases[i]->component, "agent"))
			s->previous_version = s->releases[i]->previous->version;
	s->n_programs = n;
	s->programs = a->program_ptr;
	a->response.what_case = BUS__RESPONSE__WHAT_WATCHDOG_STATUS;
	a->response.watchdog_status = s;
}

static void answer_component(struct hf_bus *b, const Bus__ComponentRequest *q, struct answer *a)
{
	struct hf_component *c = hf_watchdog_find(b->w, q->name);

	if (!c) {
		refuse(a, ENOENT, "there is no component '%.64s'", q->name);
		return;
	}
	if (b->w->stopping && q->verb != BUS__COMPONENT_REQUEST__VERB__SHOW) {
		refuse(a, ESHUTDOWN, "the watchdog is stopping");
		return;
	}
	switch (q->verb) {
	case BUS__COMPONENT_REQUEST__VERB__SHOW:
		break;
	case BUS__COMPONENT_REQUEST__VERB__START:
		hf_actions_person(b->w->actions, c);
		hf_component_request(c, HF_INPUT_START, "start requested");
		break;
	case BUS__COMPONENT_REQUEST__VERB__STOP:
		hf_actions_person(b->w->actions, c);
		hf_component_request(c, HF_INPUT_STOP, "stop requested");
		break;
	case BUS__COMPONENT_REQUEST__VERB__RESTART:
		hf_component_request(c, HF_INPUT_RESTART, "restart requested");
		break;
	case BUS__COMPONENT_REQUEST__VERB__ROLLBACK: {
		struct hf_err err = {};
		int r = hf_releases_roll_back(b->w->releases, q->name, "asked on this host", &err);

		if (r < 0) {
			refuse(a, -r, "%.200s", err.msg);
			return;
		}
		break;
	}
	default: /* a newer client's verb: protobuf enums are open */
		refuse(a, EOPNOTSUPP, "this watchdog does not know that component request");
		return;
	}
	a->response.what_case = BUS__RESPONSE__WHAT_COMPONENT;
	a->response.component = fill_component(a, 0, c);
}

static void answer_reload(struct hf_bus *b, struct answer *a)
{
	struct hf_err err = {};
	char *rest, *line;

	if (hf_watchdog_reload(b->w, &a->changes, &err) < 0) {
		refuse(a, EINVAL, "%.250s", err.msg);
		return;
	}
	bus__config_result__init(&a->config);
	a->config.changes = a->change_ptr;
	/* One key may change at most once, so that all have room. */
	if (a->changes.len && hf_buf_append(&a->changes, "", 1) == 0) {
		rest = (char *)a->changes.data;
		while ((line = strsep(&rest, "\n")))
			if (*line && a->config.n_changes < HF_ARRAY_SIZE(a->change_ptr))
				a->change_ptr[a->config.n_changes++] = line;
	}
	a->response.what_case = BUS__RESPONSE__WHAT_CONFIG;
	a->response.config = &a->config;
}

static void answer_scan(struct hf_bus *b, const Bus__ScanRequest *q, struct answer *a)
{
	struct hf_err err = {};
	int r = hf_bus_scan_answer(b->scan, q, &a->scan, &err);

	if (r < 0) {
		refuse(a, -r, "%.200s", err.msg);
		return;
	}
	a->response.what_case = BUS__RESPONSE__WHAT_SCAN;
	a->response.scan = &a->scan;
}

static void answer_release(struct hf_bus *b, const Bus__ReleaseRequest *q, struct answer *a)
{
	char text[200] = "";
	int error = hf_bus_release_request(b->w->releases, q, text, sizeof(text));

	if (error) {
		refuse(a, error, "%s", text);
		return;
	}
	hf_bus_fill_releases(b->w->releases, &a->releases);
	hf_bus_fill_release_keys(b->w->releases, &a->releases);
	a->response.what_case = BUS__RESPONSE__WHAT_RELEASES;
	a->response.releases = &a->releases.m;
}

static bool only_reads(const Bus__Request *q)
{
	return q->what_case == BUS__REQUEST__WHAT_STATUS ||
	       (q->what_case == BUS__REQUEST__WHAT_COMPONENT &&
		q->component->verb == BUS__COMPONENT_REQUEST__VERB__SHOW) ||
	       (q->what_case == BUS__REQUEST__WHAT_RELEASE &&
		q->release->verb == BUS__RELEASE_REQUEST__VERB__LIST);
}

static void handle(struct hf_bus *b, const Bus__Request *q, nng_pipe pipe, uint64_t uid,
		   struct answer *a)
{
	enum right right = right_of(b, pipe, uid);
	int r;

	if (right == RIGHT_NONE || (right == RIGHT_READ && !only_reads(q))) {
		if (right == RIGHT_NONE)
			refuse(a, EPERM,
			       "permission denied: run as root or join group '" HF_BUS_GROUP "'");
		else
			refuse(a, EPERM, "permission denied: only root may command the watchdog");
		if (hf_ratelimit_take(&b->stranger_log, hf_now_monotonic_ns()))
			hf_warn("refused a request of uid %llu on the bus",
				(unsigned long long)uid);
		return;
	}
	switch (q->what_case) {
	case BUS__REQUEST__WHAT_STATUS:
		answer_status(b, a);
		return;
	case BUS__REQUEST__WHAT_COMPONENT:
		answer_component(b, q->component, a);
		return;
	case BUS__REQUEST__WHAT_RELEASE:
		answer_release(b, q->release, a);
		return;
	case BUS__REQUEST__WHAT_STOP:
		hf_watchdog_stop(b->w, q->stop->reason[0] ? q->stop->reason : "stop requested");
		return;
	case BUS__REQUEST__WHAT_CONFIG:
		if (q->config->verb == BUS__CONFIG_REQUEST__VERB__RELOAD) {
			answer_reload(b, a);
			return;
		}
		refuse(a, EOPNOTSUPP, "ask the agent for the configuration");
		return;
	case BUS__REQUEST__WHAT_TRUST:
		r = hf_actions_forget_trust(b->w->actions);
		if (r < 0)
			refuse(a, -r, "forget the portal's action key: %s", strerror(-r));
		return;
	case BUS__REQUEST__WHAT_SCAN:
		answer_scan(b, q->scan, a);
		return;
	default:
		refuse(a, EOPNOTSUPP, "this is not a request for the watchdog");
		return;
	}
}

/* Consumes msg: it becomes the answer, or is freed. */
static void answer_message(struct hf_bus *b, nng_msg *msg)
{
	_cleanup_(hf_pb_freep) Bus__Request *q = NULL;
	struct answer *a = calloc(1, sizeof(*a));
	struct hf_buf out = {};
	nng_pipe pipe = nng_msg_get_pipe(msg);
	uint64_t uid = UINT64_MAX;
	int r;

	if (!a) {
		nng_msg_free(msg);
		return;
	}
	bus__response__init(&a->response);
	r = nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_UID, &uid);
	if (r != 0)
		uid = UINT64_MAX; /* nobody */
	r = hf_pb_unpack(&bus__request__descriptor, nng_msg_body(msg), nng_msg_len(msg), &q);
	if (r < 0)
		refuse(a, EBADMSG, "the request is not one of ours: %s", strerror(-r));
	else
		handle(b, q, pipe, uid, a);
	r = hf_pb_pack(&a->response.base, &out);
	hf_buf_done(&a->changes);
	free(a);
	nng_msg_clear(msg);
	if (r < 0 || nng_msg_append(msg, out.data, out.len) != 0 ||
	    nng_sendmsg(b->socket, msg, NNG_FLAG_NONBLOCK) != 0)
		nng_msg_free(msg); /* I1 */
	hf_buf_done(&out);
}

static int on_request(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_bus *b = HF_CAST(userdata, struct hf_bus, BUS_MAGIC);

	(void)source;
	(void)fd;
	(void)revents;
	for (int i = 0; i < BATCH_MAX; i++) {
		nng_msg *msg;

		if (nng_recvmsg(b->socket, &msg, NNG_FLAG_NONBLOCK) != 0)
			return 0;
		answer_message(b, msg);
	}
	return 0;
}

static int listen_at(struct hf_bus *b)
{
	const char *url = b->w->paths.watchdog_url;
	nng_listener listener;
	int fd, r;

	hf_nng_guard();
	r = nng_rep0_open(&b->socket);
	if (r != 0)
		return from_nng(r);
	b->open = true;
	r = nng_socket_set_size(b->socket, NNG_OPT_RECVMAXSZ, REQUEST_MAX);
	if (r == 0)
		r = nng_listener_create(&listener, b->socket, url);
	/* Anybody may ask; I2 decides, and the answer says why not. */
	if (r == 0)
		r = nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, 0666);
	if (r == 0)
		r = nng_listener_start(listener, 0);
	if (r == 0)
		r = nng_socket_get_int(b->socket, NNG_OPT_RECVFD, &fd);
	if (r != 0)
		return from_nng(r);
	r = sd_event_add_io(b->w->event, &b->io, fd, EPOLLIN, on_request, b);
	if (r < 0)
		return r;
	return sd_event_source_set_description(b->io, "bus");
}

int hf_bus_new(struct hf_watchdog *w, struct hf_bus **ret)
{
	_cleanup_(hf_bus_freep) struct hf_bus *b = NULL;
	int r;

	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->magic = BUS_MAGIC;
	b->bus_gid = hf_bus_group();
	b->w = w;
	r = hf_bus_scan_new(w, &b->scan);
	if (r < 0)
		return r;
	b->stranger_log = (struct hf_ratelimit){.burst = 5, .interval_ns = 60 * HF_NS_PER_S};
	/* We hold the instance's lock: whatever is there is a predecessor's. */
	(void)unlink(w->paths.watchdog_sock);
	r = listen_at(b);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

struct hf_bus *hf_bus_free(struct hf_bus *b)
{
	if (!b)
		return NULL;
	sd_event_source_disable_unref(b->io);
	b->scan = hf_bus_scan_free(b->scan);
	if (b->open) {
		(void)nng_close(b->socket);
		(void)unlink(b->w->paths.watchdog_sock);
	}
	b->magic = 0;
	free(b);
	return NULL;
}
