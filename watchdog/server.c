/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervise.sock.
 *
 * I1. A connection exists only for a process that a component owns by pid and uid (SO_PEERCRED is
 *     the kernel's word at connect time). Everybody else is closed at accept, so that strangers
 *     cost one accept each and hold nothing.
 * I2. A packet is looked at only after hf_sup_check(), acted on only after hf_permit_check(). What
 *     is not permitted ends the connection, which is logged once: after it there is no more.
 * I3. Nothing is queued: a component that does not read (full buffer) loses its connection and
 *     gets everything again with its next HELLO.
 */
#include "watchdog/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/str.h"
#include "watchdog/action.h"
#include "watchdog/component.h"
#include "watchdog/permit.h"

#define SERVER_MAGIC 0x53525652u
#define CONN_MAGIC   0x434f4e4eu
/* Each component has one; a second is the moment between two. */
#define CONNS_MAX (2 * HF_COMPONENTS_MAX)
#define BACKLOG   16
/* Packets of one connection per wakeup: PROGRESS comes once a second. */
#define BATCH_MAX 16

struct hf_peer {
	unsigned magic;
	struct hf_server *server;
	struct hf_component *component;
	sd_event_source *io;
	int fd;
	uint32_t pid;
	bool greeted;
	struct hf_permit permit;
	struct hf_peer *next;
};

struct hf_server {
	unsigned magic;
	struct hf_watchdog *w;
	sd_event_source *io;
	int fd;
	struct hf_peer *conns;
	unsigned n_conns;
	struct hf_ratelimit stranger_log;
};

struct hf_sup_hdr hf_peer_header(enum hf_sup_type type)
{
	return (struct hf_sup_hdr){
		.protocol = HF_SUP_PROTOCOL,
		.type = (uint16_t)type,
		.length = (uint32_t)hf_sup_size(type),
	};
}

void hf_peer_drop(struct hf_peer *conn)
{
	struct hf_server *s = conn->server;

	for (struct hf_peer **p = &s->conns; *p; p = &(*p)->next)
		if (*p == conn) {
			*p = conn->next;
			s->n_conns--;
			break;
		}
	sd_event_source_disable_unref(conn->io);
	(void)hf_close(conn->fd);
	conn->magic = 0;
	free(conn);
}

/* Ends it and tells the component. */
static void end_conn(struct hf_peer *conn)
{
	if (conn->greeted)
		hf_component_conn_gone(conn->component, conn);
	hf_peer_drop(conn);
}

void hf_peer_send(struct hf_peer *conn, const void *msg, const int *fds, unsigned n_fds)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(_HF_SUP_FD_MAX * sizeof(int))] = {};
	const struct hf_sup_hdr *hdr = msg;
	struct iovec iov = {.iov_base = (void *)msg, .iov_len = hdr->length};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds > 0) {
		struct cmsghdr *c = (struct cmsghdr *)control;

		hf_assert(n_fds <= _HF_SUP_FD_MAX);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
	}
	if (sendmsg(conn->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)hdr->length)
		return;
	/* Not ended here, where the caller still holds it: the loop finds the end (I3). */
	if (errno != EPIPE && errno != ECONNRESET)
		hf_warn_r(-errno, "send %s to '%s' (pid %u)", hf_sup_type_name(hdr->type),
			  hf_component_name(conn->component), conn->pid);
	(void)shutdown(conn->fd, SHUT_RDWR);
}

static void deny(struct hf_peer *conn, enum hf_sup_type request, int error)
{
	const struct hf_sup_denied m = {
		.hdr = hf_peer_header(HF_SUP_DENIED),
		.request = request,
		.error = error,
	};

	hf_peer_send(conn, &m, NULL, 0);
}

static int on_hello(struct hf_peer *conn, const struct hf_sup_hello *hello)
{
	if (!hf_streq(hello->component, hf_component_name(conn->component)))
		return -EPERM;
	conn->greeted = true;
	hf_component_hello(conn->component, conn, hello);
	return 0;
}

static void on_watch(struct hf_peer *conn, const struct hf_sup_cookie *m)
{
	bool on = m->hdr.type == HF_SUP_WATCH_SOCKET;
	int r = hf_component_watch_socket(conn->component, m->cookie, on);

	if (r < 0)
		deny(conn, (enum hf_sup_type)m->hdr.type, r);
	else if (on)
		conn->permit.watches++;
	else if (conn->permit.watches > 0)
		conn->permit.watches--;
}

/* 0, or why the connection must end. */
static int on_packet(struct hf_peer *conn, const void *packet, size_t len)
{
	const struct hf_sup_hdr *hdr = packet;
	int r;

	r = hf_sup_check(packet, len);
	if (r < 0)
		return r;
	r = hf_permit_check(&conn->permit, (enum hf_sup_type)hdr->type);
	if (r == -ENOSPC) {
		deny(conn, (enum hf_sup_type)hdr->type, r);
		return 0;
	}
	if (r < 0)
		return r;
	switch ((enum hf_sup_type)hdr->type) {
	case HF_SUP_HELLO:
		return on_hello(conn, packet);
	case HF_SUP_READY:
		hf_component_ready(conn->component);
		return 0;
	case HF_SUP_PROGRESS:
		return hf_component_progress(conn->component, packet);
	case HF_SUP_STATUS:
		hf_component_status(conn->component, ((const struct hf_sup_text *)packet)->text);
		return 0;
	case HF_SUP_WATCH_SOCKET:
	case HF_SUP_UNWATCH_SOCKET:
		on_watch(conn, packet);
		return 0;
	case HF_SUP_STOPPING:
		hf_component_stopping(conn->component, ((const struct hf_sup_text *)packet)->text);
		return 0;
	case HF_SUP_CANARY_SEEN:
		hf_component_canary_seen(conn->component,
					 ((const struct hf_sup_canary *)packet)->nonce);
		return 0;
	case HF_SUP_SESSION:
		hf_component_session(conn->component,
				     ((const struct hf_sup_session *)packet)->online);
		return 0;
	case HF_SUP_ACTION_KEYS:
	case HF_SUP_ACTION_TIME:
	case HF_SUP_ACTION:
	case HF_SUP_ACTION_CANCEL:
	case HF_SUP_ACTION_QUERY:
	case HF_SUP_ACTION_FORGET:
		r = hf_actions_packet(conn->server->w->actions, conn, packet);
		if (r < 0)
			deny(conn, (enum hf_sup_type)hdr->type, r);
		return 0;
	case HF_SUP_WELCOME:
	case HF_SUP_KERNEL:
	case HF_SUP_LAST_EXIT:
	case HF_SUP_STOP:
	case HF_SUP_RELOAD:
	case HF_SUP_RELEASE:
	case HF_SUP_DENIED:
	case HF_SUP_ACTION_NONCE:
	case HF_SUP_ACTION_STATE:
		break;
	}
	return -EPERM; /* not in the permit table either */
}

static void log_violation(const struct hf_peer *conn, const void *packet, size_t len, int r)
{
	const struct hf_sup_hdr *hdr = packet;
	unsigned type = len >= sizeof(*hdr) ? hdr->type : 0;

	if (r == -EPERM)
		hf_error(
			"component '%s' (pid %u) sent %s (%u), which it may not now: its connection is ended",
			hf_component_name(conn->component), conn->pid, hf_sup_type_name(type),
			type);
	else
		hf_error_r(
			r,
			"component '%s' (pid %u) sent %zu bytes that are no message: its connection is ended",
			hf_component_name(conn->component), conn->pid, len);
}

static int on_conn(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_peer *conn = HF_CAST(userdata, struct hf_peer, CONN_MAGIC);
	_Alignas(uint64_t) unsigned char packet[HF_SUP_PACKET_MAX + 1];

	(void)source;
	(void)revents; /* reading tells hangup and error as well */
	for (int i = 0; i < BATCH_MAX; i++) {
		/* No control buffer: descriptors that somebody sends are dropped by the kernel. */
		ssize_t n = recv(fd, packet, sizeof(packet), MSG_DONTWAIT);
		int r;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n <= 0) {
			end_conn(conn);
			return 0;
		}
		r = on_packet(conn, packet, (size_t)n);
		if (r < 0) {
			log_violation(conn, packet, (size_t)n, r);
			end_conn(conn);
			return 0;
		}
	}
	return 0;
}

static struct hf_component *find_owner(const struct hf_watchdog *w, const struct ucred *peer)
{
	for (size_t i = 0; i < w->components; i++)
		if (hf_component_owns(w->component[i], (uint32_t)peer->pid, peer->uid))
			return w->component[i];
	return NULL;
}

static int add_conn(struct hf_server *s, int fd, struct hf_component *component, uint32_t pid)
{
	struct hf_peer *conn = calloc(1, sizeof(*conn));
	int r;

	if (!conn)
		return -ENOMEM;
	conn->magic = CONN_MAGIC;
	conn->server = s;
	conn->component = component;
	conn->pid = pid;
	conn->fd = fd;
	r = sd_event_add_io(s->w->event, &conn->io, fd, EPOLLIN, on_conn, conn);
	if (r < 0) {
		free(conn);
		return r;
	}
	(void)sd_event_source_set_description(conn->io, "supervise-conn");
	conn->next = s->conns;
	s->conns = conn;
	s->n_conns++;
	return 0;
}

static int on_accept(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_server *s = HF_CAST(userdata, struct hf_server, SERVER_MAGIC);
	_cleanup_close_ int peer = -1;
	struct hf_component *owner;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int r;

	(void)source;
	(void)revents;
	peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (peer < 0)
		return 0; /* gone again, or no descriptor left: it dials again */
	if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return 0;
	owner = find_owner(s->w, &cred);
	if (!owner || s->n_conns >= CONNS_MAX) {
		if (hf_ratelimit_take(&s->stranger_log, hf_now_monotonic_ns()))
			hf_warn("pid %d, uid %u is no component of ours: its connection to supervise.sock is closed",
				cred.pid, cred.uid);
		return 0;
	}
	r = add_conn(s, peer, owner, (uint32_t)cred.pid);
	if (r < 0)
		hf_error_r(r, "take the connection of '%s'", hf_component_name(owner));
	else
		(void)TAKE_FD(peer);
	return 0;
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;

	if (!hf_strlcpy(addr.sun_path, path, sizeof(addr.sun_path)))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* We hold the instance's lock: whatever is there is a predecessor's. */
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	/* Anybody may knock; I1 decides. Components have users of their own. */
	if (chmod(path, 0666) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int hf_server_new(struct hf_watchdog *w, struct hf_server **ret)
{
	_cleanup_(hf_server_freep) struct hf_server *s = NULL;
	int r;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->magic = SERVER_MAGIC;
	s->w = w;
	s->stranger_log = (struct hf_ratelimit){.burst = 5, .interval_ns = 60 * HF_NS_PER_S};
	s->fd = listen_at(w->paths.supervise_sock);
	if (s->fd < 0)
		return s->fd;
	r = sd_event_add_io(w->event, &s->io, s->fd, EPOLLIN, on_accept, s);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(s->io, "supervise-accept");
	*ret = TAKE_PTR(s);
	return 0;
}

struct hf_server *hf_server_free(struct hf_server *s)
{
	if (!s)
		return NULL;
	while (s->conns)
		end_conn(s->conns);
	sd_event_source_disable_unref(s->io);
	if (s->fd >= 0) {
		(void)hf_close(s->fd);
		(void)unlink(s->w->paths.supervise_sock);
	}
	s->magic = 0;
	free(s);
	return NULL;
}
