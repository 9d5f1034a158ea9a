/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepting and reaping.
 *
 * I1 Descriptors running out never makes accept spin: the listening sources rest for a moment.
 * I2 Above the accept budget or the handshake limit new connections wait in the kernel's backlog,
 *    which costs us nothing; above max_connections they are closed at once and counted.
 */
#include "tools/portal/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/str.h"
#include "tools/portal/conn.h"
#include "tools/portal/portal.h"

#define SERVER_MAGIC     0x73727672u
#define LISTEN_MAX       16u /* as many as the configuration's list may have */
#define BACKLOG          4096
#define ACCEPTS_PER_WAKE 64u   /* then the established ones' turn */
#define HANDSHAKES_MAX   1024u /* at once; each holds 50 KiB until done and 10 s at most */
#define PAUSE_NS         (100 * HF_NS_PER_MS)
/* Give malloc's memory back after this many connections left at once. */
#define TRIM_AFTER 1000u

struct listener {
	struct hf_server *server;
	int fd;
	sd_event_source *source;
};

struct hf_server {
	unsigned magic;
	struct hf_portal *portal;
	struct listener listeners[LISTEN_MAX];
	size_t n_listeners;
	struct hf_conn_list connections, dead;
	size_t n_connections, n_handshakes, n_websockets, reaped_since_trim;
	struct hf_ratelimit budget, log_limit;
	sd_event_source *resume, *reaper, *deadline;
	bool paused, stopping;
	void (*done)(void *userdata);
	void *done_userdata;
};

struct hf_portal *hf_server_portal(struct hf_server *s)
{
	return s->portal;
}

struct hf_conn_list *hf_server_connections(struct hf_server *s)
{
	return &s->connections;
}

static void enable_listeners(struct hf_server *s, bool on)
{
	for (size_t i = 0; i < s->n_listeners; i++) {
		if (s->listeners[i].source)
			(void)sd_event_source_set_enabled(s->listeners[i].source,
							  on ? SD_EVENT_ON : SD_EVENT_OFF);
	}
}

static void pause_accepting(struct hf_server *s, uint64_t for_ns)
{
	s->paused = true;
	enable_listeners(s, false);
	(void)sd_event_source_set_time(s->resume, (hf_now_monotonic_ns() + for_ns) / HF_NS_PER_US);
	(void)sd_event_source_set_enabled(s->resume, SD_EVENT_ONESHOT);
}

static int on_resume(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_server *s = HF_CAST(userdata, struct hf_server, SERVER_MAGIC);

	(void)source;
	(void)usec;
	s->paused = false;
	enable_listeners(s, true);
	return 0;
}

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static void format_peer(const union address *sa, char *dst, size_t size)
{
	char text[INET6_ADDRSTRLEN] = "?";

	if (sa->any.sa_family == AF_INET6) {
		(void)inet_ntop(AF_INET6, &sa->in6.sin6_addr, text, sizeof(text));
		(void)hf_strf(dst, size, "[%s]:%u", text, ntohs(sa->in6.sin6_port));
	} else {
		(void)inet_ntop(AF_INET, &sa->in.sin_addr, text, sizeof(text));
		(void)hf_strf(dst, size, "%s:%u", text, ntohs(sa->in.sin_port));
	}
}

/* A dead path is found by the kernel where our own pings are not enough (event streams, HTTP). */
static void set_socket_options(int fd)
{
	const struct {
		int level, name, value;
	} options[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, 30}, {IPPROTO_TCP, TCP_KEEPINTVL, 10},
		{IPPROTO_TCP, TCP_KEEPCNT, 3},   {IPPROTO_TCP, TCP_USER_TIMEOUT, 30000},
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(options); i++) /* a kernel without one: works too */
		(void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
				 sizeof(options[i].value));
}

/* 1 accepted, 0 nothing there, -errno. */
static int accept_one(struct hf_server *s, int listen_fd)
{
	struct hf_counters *n = &s->portal->counters;
	_cleanup_close_ int fd = -1;
	union address sa = {};
	socklen_t len = sizeof(sa);
	struct hf_conn *c;
	char peer[64];
	int r;

	fd = accept4(listen_fd, &sa.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (s->n_connections >= s->portal->config.max_connections) {
		n->accept_refused++;
		return 1;
	}
	set_socket_options(fd);
	format_peer(&sa, peer, sizeof(peer));
	r = hf_conn_new(s, fd, peer, &c);
	if (r < 0)
		return r;
	(void)TAKE_FD(fd); /* the connection's now */
	n->accepted++;
	return 1;
}

static int on_listen(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct listener *l = userdata;
	struct hf_server *s = HF_CAST(l->server, struct hf_server, SERVER_MAGIC);

	(void)source;
	(void)revents;
	for (unsigned i = 0; i < ACCEPTS_PER_WAKE; i++) {
		uint64_t now_ns = hf_now_monotonic_ns();
		int r;

		if (s->n_handshakes >= HANDSHAKES_MAX || !hf_ratelimit_take(&s->budget, now_ns)) {
			pause_accepting(s, PAUSE_NS / 10);
			return 0;
		}
		r = accept_one(s, fd);
		if (r == 0)
			return 0;
		/* The peer left the queue by itself: not our trouble. */
		if (r == -ECONNABORTED || r == -EPROTO || r == -EINTR)
			continue;
		if (r < 0) {
			s->portal->counters.accept_failed++;
			if (hf_ratelimit_take(&s->log_limit, now_ns))
				hf_error_r(r, "Accept a connection, pausing");
			pause_accepting(s, PAUSE_NS);
			return 0;
		}
	}
	return 0;
}

static int parse_listen(const char *text, union address *sa, socklen_t *ret_len)
{
	char host[256];
	uint16_t port;
	int r;

	r = hf_config_split_host_port(text, host, sizeof(host), &port);
	if (r < 0)
		return r;
	*sa = (union address){};
	if (inet_pton(AF_INET, hf_streq(host, "localhost") ? "127.0.0.1" : host,
		      &sa->in.sin_addr) == 1) {
		sa->in.sin_family = AF_INET;
		sa->in.sin_port = htons(port);
		*ret_len = sizeof(sa->in);
		return 0;
	}
	if (inet_pton(AF_INET6, host, &sa->in6.sin6_addr) == 1) {
		sa->in6.sin6_family = AF_INET6;
		sa->in6.sin6_port = htons(port);
		*ret_len = sizeof(sa->in6);
		return 0;
	}
	return -EINVAL;
}

static int listen_on(struct hf_server *s, const char *text, struct hf_err *err)
{
	_cleanup_close_ int fd = -1;
	union address sa;
	struct listener *l = &s->listeners[s->n_listeners];
	const int one = 1;
	socklen_t len;
	int r;

	r = parse_listen(text, &sa, &len);
	if (r < 0)
		return hf_err_set(err, r, "listen on '%s': not an address and port", text);
	fd = socket(sa.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return hf_err_set(err, -errno, "listen on '%s': %m", text);
	/* The restarted portal must not wait for the old one's sockets in TIME_WAIT. */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (sa.any.sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, &sa.any, len) < 0)
		return hf_err_set(err, -errno, "listen on '%s': %m", text);
	if (listen(fd, BACKLOG) < 0)
		return hf_err_set(err, -errno, "listen on '%s': %m", text);
	*l = (struct listener){.server = s, .fd = fd};
	r = sd_event_add_io(s->portal->event, &l->source, fd, EPOLLIN, on_listen, l);
	if (r < 0)
		return hf_err_set(err, r, "watch '%s': %s", text, strerror(-r));
	(void)sd_event_source_set_description(l->source, "listen"); /* only a name */
	(void)TAKE_FD(fd);                                          /* the listener's */
	s->n_listeners++;
	return 0;
}

static void maybe_done(struct hf_server *s)
{
	void (*done)(void *) = s->done;

	if (!s->stopping || s->n_connections > 0 || !done)
		return;
	s->done = NULL;
	done(s->done_userdata);
}

static int on_reap(sd_event_source *source, void *userdata)
{
	struct hf_server *s = HF_CAST(userdata, struct hf_server, SERVER_MAGIC);

	(void)source;
	while (s->dead.head) {
		struct hf_conn *c = s->dead.head;

		s->dead.head = hf_conn_set_next_dead(c, NULL);
		hf_conn_reap(c);
		s->reaped_since_trim++;
	}
	if (s->reaped_since_trim >= TRIM_AFTER) {
		s->reaped_since_trim = 0;
		(void)malloc_trim(0); /* says only whether there was something to give back */
	}
	maybe_done(s);
	return 0;
}

void hf_server_reap_later(struct hf_server *s, struct hf_conn *c)
{
	(void)hf_conn_set_next_dead(c, s->dead.head);
	s->dead.head = c;
	(void)sd_event_source_set_enabled(s->reaper, SD_EVENT_ONESHOT);
}

void hf_server_conn_added(struct hf_server *s)
{
	s->n_connections++;
	s->n_handshakes++;
}

void hf_server_conn_gone(struct hf_server *s)
{
	s->n_connections--;
}

void hf_server_handshake_done(struct hf_server *s)
{
	s->n_handshakes--;
}

void hf_server_websockets(struct hf_server *s, int delta)
{
	s->n_websockets = (size_t)((ssize_t)s->n_websockets + delta);
	if (delta < 0)
		s->portal->counters.ws_closed++;
}

static int add_sources(struct hf_server *s)
{
	sd_event *event = s->portal->event;
	int r;

	r = sd_event_add_time(event, &s->resume, CLOCK_MONOTONIC, 0, 1000, on_resume, s);
	if (r < 0)
		return r;
	(void)sd_event_source_set_enabled(s->resume, SD_EVENT_OFF);
	(void)sd_event_source_set_description(s->resume, "accept-resume");
	r = sd_event_add_defer(event, &s->reaper, on_reap, s);
	if (r < 0)
		return r;
	(void)sd_event_source_set_enabled(s->reaper, SD_EVENT_OFF);
	/* Before new input: a registry without dead links answers the next heartbeat truly. */
	(void)sd_event_source_set_priority(s->reaper, SD_EVENT_PRIORITY_IMPORTANT);
	(void)sd_event_source_set_description(s->reaper, "connection-reaper");
	return 0;
}

int hf_server_new(struct hf_portal *p, struct hf_server **ret, struct hf_err *err)
{
	_cleanup_(hf_server_freep) struct hf_server *s = calloc(1, sizeof(*s));
	uint64_t rate = p->config.accept_per_s;
	int r;

	if (!s)
		return hf_err_set(err, -ENOMEM, "out of memory");
	s->magic = SERVER_MAGIC;
	s->portal = p;
	s->budget =
		(struct hf_ratelimit){.burst = (uint32_t)rate, .interval_ns = HF_NS_PER_S / rate};
	s->log_limit = (struct hf_ratelimit){.burst = 1, .interval_ns = 10 * HF_NS_PER_S};
	r = add_sources(s);
	if (r < 0)
		return hf_err_set(err, r, "prepare the server: %s", strerror(-r));
	for (size_t i = 0; i < p->config.listen.n && i < LISTEN_MAX; i++) {
		r = listen_on(s, p->config.listen.items[i], err);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(s);
	return 0;
}

static void close_listeners(struct hf_server *s)
{
	for (size_t i = 0; i < s->n_listeners; i++) {
		s->listeners[i].source = sd_event_source_disable_unref(s->listeners[i].source);
		s->listeners[i].fd = hf_close(s->listeners[i].fd);
	}
	s->n_listeners = 0;
}

struct hf_server *hf_server_free(struct hf_server *s)
{
	if (!s)
		return NULL;
	close_listeners(s);
	for (struct hf_conn *c = s->connections.head; c; c = hf_conn_next(c))
		hf_conn_close(c, HF_CONN_END_LOCAL);
	if (s->reaper)
		(void)on_reap(NULL, s);
	s->resume = sd_event_source_disable_unref(s->resume);
	s->reaper = sd_event_source_disable_unref(s->reaper);
	s->deadline = sd_event_source_disable_unref(s->deadline);
	free(s);
	return NULL;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_server *s = HF_CAST(userdata, struct hf_server, SERVER_MAGIC);

	(void)source;
	(void)usec;
	for (struct hf_conn *c = s->connections.head; c; c = hf_conn_next(c))
		hf_conn_close(c, HF_CONN_END_LOCAL);
	(void)sd_event_source_set_enabled(s->reaper, SD_EVENT_ONESHOT);
	return 0;
}

void hf_server_stop(struct hf_server *s, uint64_t deadline_ms, void (*done)(void *userdata),
		    void *userdata)
{
	s->stopping = true;
	s->done = done;
	s->done_userdata = userdata;
	close_listeners(s);
	(void)sd_event_source_set_enabled(s->resume, SD_EVENT_OFF);
	for (struct hf_conn *c = s->connections.head; c; c = hf_conn_next(c))
		hf_conn_stop(c);
	if (sd_event_add_time_relative(s->portal->event, &s->deadline, CLOCK_MONOTONIC,
				       deadline_ms * 1000, 1000, on_deadline, s) < 0)
		(void)on_deadline(NULL, 0, s);
	(void)sd_event_source_set_enabled(s->reaper, SD_EVENT_ONESHOT);
}

void hf_server_stats(const struct hf_server *s, struct hf_server_stats *ret)
{
	*ret = (struct hf_server_stats){.connections = s->n_connections,
					.handshakes = s->n_handshakes,
					.websockets = s->n_websockets,
					.accepting = !s->paused && !s->stopping};
}

uint16_t hf_server_port(const struct hf_server *s)
{
	union address sa = {};
	socklen_t len = sizeof(sa);

	if (s->n_listeners == 0 || getsockname(s->listeners[0].fd, &sa.any, &len) < 0)
		return 0;
	return ntohs(sa.any.sa_family == AF_INET6 ? sa.in6.sin6_port : sa.in.sin_port);
}
