/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The component's end of supervise.sock: dial, greet, tell, listen, dial again.
 *
 * States: dialling (fd < 0, dial timer armed), greeting (connected, HELLO sent), welcomed.
 *
 * I1. The owner's facts (ready, status, watches) live here, not in the connection; on WELCOME all
 *     of them are sent. Whatever cannot be sent breaks the connection, so that the repeat after
 *     the next WELCOME is complete. (Prevents a watch lost in a full socket buffer.) Only PROGRESS
 *     may be dropped: the next one says the same.
 * I2. Public calls never run a callback: a send that fails shuts the socket down, and the loop
 *     finds the end of it. (Prevents re-entering the owner.)
 * I3. Worker counters and idle flags are the only members other threads touch; they are atomic.
 */
#include "userspace/agent/supervise.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/action.h"

#define SUPERVISE_MAGIC 0x53555056u

#define REDIAL_MIN_MS   100u
#define REDIAL_MAX_MS   1000u
/* What WELCOME may ask for; outside of it our own idea is safer than a wrong number. */
#define EXPECT_MIN_MS 10u
#define EXPECT_MAX_MS 60000u
/* Packets taken per wakeup, so that a talkative watchdog cannot starve the loop. */
#define BATCH_MAX 16

struct worker {
	_Atomic uint64_t counter;
	_Atomic bool idle;
};

struct hf_supervise {
	unsigned magic;
	sd_event *event;
	sd_event_source *io, *dial, *tick, *post;
	struct hf_supervise_callbacks cb;
	void *arg;
	char component[HF_SUP_NAME_MAX];
	char version[HF_SUP_VERSION_MAX];
	struct sockaddr_un addr;
	bool wants_kernel;

	int fd;
	bool welcomed;
	bool was_welcomed; /* ever: the next HELLO says readopted */
	unsigned redial_ms;
	unsigned expect_ms;

	uint32_t watchdog_pid;
	bool ready, healthy, online, session_told;
	char status[HF_SUP_TEXT_MAX];
	uint64_t watch[HF_SUPERVISE_WATCHES_MAX];
	unsigned watches;

	struct worker worker[HF_SUP_WORKERS_MAX];
	unsigned workers;
};

static struct hf_sup_hdr header(enum hf_sup_type type)
{
	return (struct hf_sup_hdr){
		.protocol = HF_SUP_PROTOCOL,
		.type = (uint16_t)type,
		.length = (uint32_t)hf_sup_size(type),
	};
}

/* msg is a whole message. Sends only when welcomed, but HELLO; see I1 and I2 for failures. */
static void send_message(struct hf_supervise *s, const void *msg)
{
	const struct hf_sup_hdr *hdr = msg;

	if (s->fd < 0 || (!s->welcomed && hdr->type != HF_SUP_HELLO))
		return;
	if (send(s->fd, msg, hdr->length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)hdr->length)
		return;
	if (errno == EAGAIN && hdr->type == HF_SUP_PROGRESS)
		return;
	(void)shutdown(s->fd, SHUT_RDWR);
}

static void send_hello(struct hf_supervise *s)
{
	struct hf_sup_hello m = {
		.hdr = header(HF_SUP_HELLO),
		.wants_kernel = s->wants_kernel,
		.readopted = s->was_welcomed,
	};

	(void)hf_strlcpy(m.component, s->component, sizeof(m.component));
	(void)hf_strlcpy(m.version, s->version, sizeof(m.version));
	send_message(s, &m);
}

static void send_session(struct hf_supervise *s)
{
	struct hf_sup_session m = {.hdr = header(HF_SUP_SESSION), .online = s->online};

	if (s->welcomed)
		send_message(s, &m);
}

static void send_ready(struct hf_supervise *s)
{
	struct hf_sup_hdr m = header(HF_SUP_READY);

	send_message(s, &m);
}

static void send_text(struct hf_supervise *s, enum hf_sup_type type, const char *text)
{
	struct hf_sup_text m = {.hdr = header(type)};

	(void)hf_strlcpy(m.text, text, sizeof(m.text));
	/* A cut inside a character is not UTF-8 any more, and the watchdog would hang up. */
	for (size_t n = strlen(m.text); n > 0 && !hf_utf8_valid(m.text, n); n--)
		m.text[n - 1] = 0;
	send_message(s, &m);
}

static void send_cookie(struct hf_supervise *s, enum hf_sup_type type, uint64_t cookie)
{
	struct hf_sup_cookie m = {.hdr = header(type), .cookie = cookie};

	send_message(s, &m);
}

static void send_progress(struct hf_supervise *s)
{
	struct hf_sup_progress m = {
		.hdr = header(HF_SUP_PROGRESS),
		.workers = s->workers,
		.healthy = s->healthy,
	};

	for (unsigned i = 0; i < s->workers; i++) {
		if (atomic_load(&s->worker[i].idle))
			atomic_fetch_add(&s->worker[i].counter, 1);
		m.counter[i] = atomic_load(&s->worker[i].counter);
	}
	send_message(s, &m);
}

static int arm(sd_event_source *timer, unsigned after_ms)
{
	int r = sd_event_source_set_time_relative(timer, (uint64_t)after_ms * 1000);

	return r < 0 ? r : sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

static void disconnect(struct hf_supervise *s)
{
	bool told = s->welcomed;

	s->io = sd_event_source_disable_unref(s->io);
	s->fd = hf_close(s->fd);
	s->welcomed = false;
	(void)sd_event_source_set_enabled(s->tick, SD_EVENT_OFF);
	/* Fails only for a timer the kernel took from us; then there is nothing left to try. */
	(void)arm(s->dial, s->redial_ms);
	s->redial_ms = s->redial_ms * 2 < REDIAL_MAX_MS ? s->redial_ms * 2 : REDIAL_MAX_MS;
	if (told) {
		hf_debug("the watchdog is gone, dialling it again"); /* lost() tells */
		if (s->cb.lost)
			s->cb.lost(s->arg);
	}
}

static void on_welcome(struct hf_supervise *s, const struct hf_sup_welcome *w)
{
	bool plausible = w->expect_ms >= EXPECT_MIN_MS && w->expect_ms <= EXPECT_MAX_MS;

	if (s->was_welcomed)
		hf_info("adopted by watchdog %s (pid %u)", w->watchdog_version, w->watchdog_pid);
	s->welcomed = true;
	s->was_welcomed = true;
	s->watchdog_pid = w->watchdog_pid;
	s->redial_ms = REDIAL_MIN_MS;
	s->expect_ms = plausible ? w->expect_ms : 1000;
	if (s->ready)
		send_ready(s);
	if (s->status[0])
		send_text(s, HF_SUP_STATUS, s->status);
	if (s->session_told)
		send_session(s);
	for (unsigned i = 0; i < s->watches; i++)
		send_cookie(s, HF_SUP_WATCH_SOCKET, s->watch[i]);
	send_progress(s);
	(void)arm(s->tick, s->expect_ms - s->expect_ms / 10);
	if (s->cb.welcome)
		s->cb.welcome(w, s->arg);
}

static void on_kernel(struct hf_supervise *s, const struct hf_sup_kernel *k, int *fds, unsigned n)
{
	int out[_HF_SUP_FD_MAX] = {-1, -1, -1, -1};

	_Static_assert(_HF_SUP_FD_MAX == 4, "initialise every entry");
	/* INFO alone comes when there is no assistance. */
	if (n == 1)
		out[HF_SUP_FD_INFO] = TAKE_FD(fds[0]);
	else
		for (unsigned i = 0; i < n; i++)
			out[i] = TAKE_FD(fds[i]);
	if (s->cb.kernel)
		s->cb.kernel((enum hf_sup_assist)k->assist, out, s->arg);
	for (unsigned i = 0; i < _HF_SUP_FD_MAX; i++)
		out[i] = hf_close(out[i]);
}

/* The files come in one order; which of them are there is in the sizes. */
static int on_action_state(struct hf_supervise *s, const struct hf_sup_action_state *m, int *fds,
			   unsigned n)
{
	int result = -1, artifact = -1;
	unsigned want = (m->result_bytes > 0) + (m->artifact_bytes > 0);

	if (m->state >= _HF_ACTION_STATE_MAX || m->refusal >= _HF_ACTION_REFUSED_MAX || n != want)
		return -EBADMSG;
	if (m->result_bytes)
		result = fds[0];
	if (m->artifact_bytes)
		artifact = fds[n - 1];
	if (s->cb.action_state)
		s->cb.action_state(m, result, artifact, s->arg);
	return 0;
}

/* Dispatches one checked packet. -EBADMSG when the watchdog may not say that now. */
static int on_packet(struct hf_supervise *s, const void *packet, int *fds, unsigned n_fds)
{
	const struct hf_sup_hdr *hdr = packet;
	const struct hf_sup_kernel *k = packet;
	const struct hf_sup_denied *denied = packet;

	if (!s->welcomed && hdr->type != HF_SUP_WELCOME)
		return -EBADMSG;
	if (n_fds && hdr->type != HF_SUP_KERNEL && hdr->type != HF_SUP_ACTION_STATE)
		return -EBADMSG;
	switch (hdr->type) {
	case HF_SUP_WELCOME:
		if (s->welcomed)
			return -EBADMSG;
		on_welcome(s, packet);
		return 0;
	case HF_SUP_KERNEL:
		if (k->assist >= _HF_SUP_ASSIST_MAX || k->fds != n_fds ||
		    (n_fds > 1 && n_fds != _HF_SUP_FD_MAX))
			return -EBADMSG;
		on_kernel(s, k, fds, n_fds);
		return 0;
	case HF_SUP_LAST_EXIT:
		if (s->cb.last_exit)
			s->cb.last_exit(packet, s->arg);
		return 0;
	case HF_SUP_STOP:
		if (s->cb.stop)
			s->cb.stop(((const struct hf_sup_text *)packet)->text, s->arg);
		return 0;
	case HF_SUP_RELOAD:
		if (s->cb.reload)
			s->cb.reload(s->arg);
		return 0;
	case HF_SUP_DENIED:
		if (s->cb.denied)
			s->cb.denied((enum hf_sup_type)denied->request, -denied->error, s->arg);
		return 0;
	case HF_SUP_RELEASE:
		if (s->cb.release)
			s->cb.release(packet, s->arg);
		return 0;
	case HF_SUP_ACTION_NONCE:
		if (s->cb.action_nonce)
			s->cb.action_nonce(packet, s->arg);
		return 0;
	case HF_SUP_ACTION_STATE:
		return on_action_state(s, packet, fds, n_fds);
	default: /* a component's own messages, reflected */
		return -EBADMSG;
	}
}

static unsigned collect_fds(struct msghdr *msg, int fds[static _HF_SUP_FD_MAX])
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (n < _HF_SUP_FD_MAX)
				fds[n++] = fd;
			else
				(void)hf_close(fd);
		}
	}
	return n;
}

/* Takes one packet. 1 taken, 0 nothing there, -errno when the connection is over. */
static int receive_one(struct hf_supervise *s)
{
	_Alignas(uint64_t) unsigned char packet[HF_SUP_PACKET_MAX];
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(_HF_SUP_FD_MAX * sizeof(int))];
	struct iovec iov = {.iov_base = packet, .iov_len = sizeof(packet)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fds[_HF_SUP_FD_MAX] = {-1, -1, -1, -1};
	unsigned n_fds;
	ssize_t n;
	int r;

	n = recvmsg(s->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	n_fds = collect_fds(&msg, fds);
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		r = -EBADMSG;
	else
		r = hf_sup_check(packet, (size_t)n);
	if (r == 0)
		r = on_packet(s, packet, fds, n_fds);
	for (unsigned i = 0; i < _HF_SUP_FD_MAX; i++)
		(void)hf_close(fds[i]);
	return r < 0 ? r : 1;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_supervise *s = HF_CAST(userdata, struct hf_supervise, SUPERVISE_MAGIC);
	int r = 1;

	(void)source;
	(void)fd;
	(void)revents; /* reading tells hangup and error as well */
	for (int i = 0; i < BATCH_MAX && r > 0; i++)
		r = receive_one(s);
	if (r < 0) {
		if (r == -EBADMSG || r == -EPROTONOSUPPORT)
			hf_warn_r(r, "the watchdog sent what we do not understand");
		disconnect(s);
	}
	return 0;
}

/* Only root, or in development our own user, may supervise us. */
static int check_peer(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	return cred.uid == 0 || cred.uid == geteuid() ? 0 : -EPERM;
}

static int dial(struct hf_supervise *s)
{
	_cleanup_close_ int fd = -1;
	int r;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&s->addr, sizeof(s->addr)) < 0)
		return -errno;
	r = check_peer(fd);
	if (r < 0)
		return r;
	r = sd_event_add_io(s->event, &s->io, fd, EPOLLIN, on_io, s);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(s->io, "supervise");
	s->fd = TAKE_FD(fd);
	send_hello(s);
	return 0;
}

static int on_dial(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_supervise *s = HF_CAST(userdata, struct hf_supervise, SUPERVISE_MAGIC);
	int r;

	(void)source;
	(void)usec;
	r = dial(s);
	if (r < 0) {
		hf_debug("dial '%s': %s", s->addr.sun_path, strerror(-r));
		disconnect(s);
	}
	return 0;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_supervise *s = HF_CAST(userdata, struct hf_supervise, SUPERVISE_MAGIC);

	(void)source;
	(void)usec;
	send_progress(s);
	(void)arm(s->tick, s->expect_ms - s->expect_ms / 10);
	return 0;
}

/* Runs after anything else was dispatched: the loop's own progress. */
static int on_post(sd_event_source *source, void *userdata)
{
	struct hf_supervise *s = HF_CAST(userdata, struct hf_supervise, SUPERVISE_MAGIC);

	(void)source;
	atomic_fetch_add(&s->worker[HF_SUPERVISE_LOOP].counter, 1);
	return 0;
}

static int add_timer(struct hf_supervise *s, sd_event_source **ret, uint64_t accuracy_us,
		     sd_event_time_handler_t handler, const char *description)
{
	int r = sd_event_add_time(s->event, ret, CLOCK_MONOTONIC, 0, accuracy_us, handler, s);

	if (r < 0)
		return r;
	(void)sd_event_source_set_description(*ret, description);
	return sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

int hf_supervise_new(sd_event *event, const char *path, const char *component, const char *version,
		     bool wants_kernel, const struct hf_supervise_callbacks *callbacks, void *arg,
		     struct hf_supervise **ret)
{
	_cleanup_(hf_supervise_freep) struct hf_supervise *s = NULL;
	int r;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->magic = SUPERVISE_MAGIC;
	s->fd = -1;
	s->event = sd_event_ref(event);
	s->arg = arg;
	if (callbacks)
		s->cb = *callbacks;
	s->wants_kernel = wants_kernel;
	s->redial_ms = REDIAL_MIN_MS;
	s->expect_ms = 1000;
	s->healthy = true;
	s->workers = HF_SUPERVISE_LOOP + 1;
	s->addr.sun_family = AF_UNIX;
	if (!hf_strlcpy(s->addr.sun_path, path, sizeof(s->addr.sun_path)))
		return -ENAMETOOLONG;
	if (!component[0] || !hf_strlcpy(s->component, component, sizeof(s->component)) ||
	    !hf_strlcpy(s->version, version, sizeof(s->version)))
		return -EINVAL;
	r = add_timer(s, &s->dial, 1000, on_dial, "supervise-dial");
	if (r < 0)
		return r;
	/* One wakeup a second is allowed to drift with others; silence is judged at 3 s. */
	r = add_timer(s, &s->tick, 100 * 1000, on_tick, "supervise-progress");
	if (r < 0)
		return r;
	r = sd_event_add_post(event, &s->post, on_post, s);
	if (r < 0)
		return r;
	if (dial(s) < 0) {
		r = arm(s->dial, s->redial_ms);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(s);
	return 0;
}

struct hf_supervise *hf_supervise_free(struct hf_supervise *s)
{
	if (!s)
		return NULL;
	sd_event_source_disable_unref(s->io);
	sd_event_source_disable_unref(s->dial);
	sd_event_source_disable_unref(s->tick);
	sd_event_source_disable_unref(s->post);
	sd_event_unref(s->event);
	(void)hf_close(s->fd);
	s->magic = 0;
	free(s);
	return NULL;
}

bool hf_supervise_connected(const struct hf_supervise *s)
{
	return s->welcomed;
}

void hf_supervise_ready(struct hf_supervise *s)
{
	if (s->ready)
		return;
	s->ready = true;
	send_ready(s);
}

void hf_supervise_status(struct hf_supervise *s, const char *fmt, ...)
{
	char text[HF_SUP_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (hf_streq(text, s->status))
		return;
	(void)hf_strlcpy(s->status, text, sizeof(s->status));
	send_text(s, HF_SUP_STATUS, s->status);
}

void hf_supervise_healthy(struct hf_supervise *s, bool healthy)
{
	s->healthy = healthy;
}

void hf_supervise_stopping(struct hf_supervise *s, const char *reason)
{
	send_text(s, HF_SUP_STOPPING, reason);
}

int hf_supervise_watch_socket(struct hf_supervise *s, uint64_t cookie)
{
	for (unsigned i = 0; i < s->watches; i++)
		if (s->watch[i] == cookie)
			return 0;
	if (s->watches == HF_SUPERVISE_WATCHES_MAX)
		return -ENOSPC;
	s->watch[s->watches++] = cookie;
	send_cookie(s, HF_SUP_WATCH_SOCKET, cookie);
	return 0;
}

void hf_supervise_unwatch_socket(struct hf_supervise *s, uint64_t cookie)
{
	for (unsigned i = 0; i < s->watches; i++)
		if (s->watch[i] == cookie) {
			s->watch[i] = s->watch[--s->watches];
			send_cookie(s, HF_SUP_UNWATCH_SOCKET, cookie);
			return;
		}
}

void hf_supervise_canary_seen(struct hf_supervise *s, uint64_t nonce, uint32_t parent)
{
	struct hf_sup_canary m = {.hdr = header(HF_SUP_CANARY_SEEN), .nonce = nonce};

	/* Anybody may name a process so; the watchdog's children are its own. */
	if (s->welcomed && s->ready && parent == s->watchdog_pid)
		send_message(s, &m);
}

void hf_supervise_session(struct hf_supervise *s, bool online)
{
	if (s->session_told && s->online == online)
		return;
	s->online = online;
	s->session_told = true;
	send_session(s);
}

int hf_supervise_action_blob(struct hf_supervise *s, enum hf_sup_type type, const void *bytes,
			     size_t len)
{
	struct hf_sup_blob m = {.hdr = header(type), .length = (uint32_t)len};

	hf_assert(hf_sup_size(type) == sizeof(m));
	if (len > sizeof(m.bytes))
		return -EMSGSIZE;
	if (!s->welcomed)
		return -ENOTCONN;
	memcpy(m.bytes, bytes, len);
	send_message(s, &m);
	return 0;
}

int hf_supervise_action_id(struct hf_supervise *s, enum hf_sup_type type, const char *id)
{
	struct hf_sup_action_id m = {.hdr = header(type)};

	hf_assert(hf_sup_size(type) == sizeof(m));
	if (!hf_strlcpy(m.id, id, sizeof(m.id)))
		return -EINVAL;
	if (!s->welcomed)
		return -ENOTCONN;
	send_message(s, &m);
	return 0;
}

int hf_supervise_add_worker(struct hf_supervise *s)
{
	if (s->workers == HF_SUP_WORKERS_MAX)
		return -ENOSPC;
	atomic_store(&s->worker[s->workers].idle, true);
	return (int)s->workers++;
}

void hf_supervise_progress(struct hf_supervise *s, unsigned worker, uint64_t value)
{
	hf_assert(worker < HF_SUP_WORKERS_MAX);
	atomic_store(&s->worker[worker].counter, value);
	atomic_store(&s->worker[worker].idle, false);
}

void hf_supervise_idle(struct hf_supervise *s, unsigned worker, bool idle)
{
	hf_assert(worker < HF_SUP_WORKERS_MAX);
	atomic_store(&s->worker[worker].idle, idle);
}
