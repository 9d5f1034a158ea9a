/* SPDX-License-Identifier: Apache-2.0 */
/* A connection reads one request, gets one answer, and is closed; anything else is refused. */
#include "userspace/agent/metrics_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "holdfast/config.h"
#include "userspace/agent/metrics_text.h"
#include "userspace/net/http.h"

#define SERVER_MAGIC 0x5354454du
#define BACKLOG      16
/* Deadlines need not be exact. */
#define ACCURACY_US 250000u

struct listener {
	struct hf_metrics_server *server;
	int fd;
	sd_event_source *io;
	bool tcp;
};

struct connection {
	struct hf_metrics_server *server;
	int fd; /* -1: free */
	bool tcp, answered;
	sd_event_source *io, *deadline;
	struct hf_http_parser *parser;
	struct hf_buf out;
	size_t sent;
	uint64_t number; /* of its coming: the oldest has the lowest */
};

struct hf_metrics_server {
	unsigned magic;
	sd_event *event;
	hf_metrics_write_fn write;
	void *userdata;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	char address[72];
	struct listener local, tcp;
	struct connection connections[HF_METRICS_CONNECTIONS_MAX];
	uint64_t next_number;
	struct hf_buf text;
	uint64_t made_ns; /* 0: never */
	struct hf_metrics_server_stats stats;
};

static void end_connection(struct connection *c)
{
	sd_event_source_disable_unref(c->io);
	sd_event_source_disable_unref(c->deadline);
	c->io = c->deadline = NULL;
	c->parser = hf_http_parser_free(c->parser);
	hf_buf_done(&c->out);
	c->fd = hf_close(c->fd);
}

static void refuse(struct connection *c)
{
	c->server->stats.refused++;
	end_connection(c);
}

/* ---- answers ---------------------------------------------------------------------------------- */

static bool loopback_v4(const char *text)
{
	struct in_addr a;

	return inet_pton(AF_INET, text, &a) == 1 && ntohl(a.s_addr) >> 24 == 127;
}

bool hf_metrics_host_is_loopback(const char *host)
{
	char name[64];
	size_t len;

	if (!host)
		return false;
	if (*host == '[')
		return hf_startswith(host, "[::1]") && (!host[5] || host[5] == ':');
	len = strcspn(host, ":");
	if (len >= sizeof(name))
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	return strcasecmp(name, "localhost") == 0 || loopback_v4(name);
}

static int fresh_text(struct hf_metrics_server *s)
{
	uint64_t now = hf_now_monotonic_ns();
	int r;

	if (s->made_ns && now - s->made_ns < HF_METRICS_FRESH_MS * HF_NS_PER_MS)
		return 0;
	s->made_ns = 0;
	s->text.len = 0;
	r = s->write(&s->text, s->userdata);
	if (r >= 0)
		s->made_ns = now;
	return r;
}

static int put_answer(struct connection *c, unsigned status, const char *type, const void *body,
		      size_t len, bool head)
{
	int r = hf_buf_appendf(&c->out,
			       "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
			       "Cache-Control: no-store\r\n%sConnection: close\r\n\r\n",
			       status, hf_http_status_text(status), type, len,
			       status == 405 ? "Allow: GET, HEAD\r\n" : "");

	if (r == 0 && !head)
		r = hf_buf_append(&c->out, body, len);
	return r;
}

static int put_error(struct connection *c, unsigned status, bool head)
{
	char text[128];

	(void)hf_strf(text, sizeof(text), "%s\n", hf_http_status_text(status));
	c->server->stats.refused++;
	return put_answer(c, status, "text/plain; charset=utf-8", text, strlen(text), head);
}

static int answer(struct connection *c, const struct hf_http_message *m)
{
	struct hf_metrics_server *s = c->server;
	bool head = hf_streq(m->method, "HEAD");
	char path[64];
	const char *query;

	if (c->tcp && !hf_metrics_host_is_loopback(hf_http_header(m, "Host")))
		return put_error(c, 421, head);
	if (!head && !hf_streq(m->method, "GET"))
		return put_error(c, 405, false);
	if (hf_http_split_target(m->target, path, sizeof(path), &query) < 0 ||
	    !hf_streq(path, "/metrics"))
		return put_error(c, 404, head);
	if (fresh_text(s) < 0)
		return put_error(c, 503, head);
	s->stats.answered++;
	return put_answer(c, 200, HF_METRICS_CONTENT_TYPE, s->text.data, s->text.len, head);
}

static unsigned status_of(ssize_t r)
{
	switch (r) {
	case -EMSGSIZE:
		return 413;
	case -E2BIG:
		return 431;
	case -ENOSYS:
		return 501;
	case -EPROTONOSUPPORT:
		return 505;
	}
	return 400;
}

/* ---- connections ------------------------------------------------------------------------------ */

static void send_more(struct connection *c)
{
	while (c->sent < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (sd_event_source_set_io_events(c->io, EPOLLOUT) < 0)
				end_connection(c);
			return;
		}
		if (n < 0) {
			end_connection(c);
			return;
		}
		c->sent += (size_t)n;
	}
	/* The reader ends after Content-Length; what it may have sent too much is not read, and a
	 * reset for it may come only after it has our end. */
	(void)shutdown(c->fd, SHUT_WR);
	end_connection(c);
}

static void begin_answer(struct connection *c, const struct hf_http_message *m, unsigned status)
{
	int r = m ? answer(c, m) : put_error(c, status, false);

	c->answered = true;
	if (r < 0)
		refuse(c);
	else
		send_more(c);
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct connection *c = userdata;
	uint8_t bytes[4096];
	ssize_t n, taken;

	(void)source;
	(void)revents;
	hf_assert(c->server->magic == SERVER_MAGIC);
	if (c->answered) {
		send_more(c);
		return 0;
	}
	n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		refuse(c);
		return 0;
	}
	taken = hf_http_parse(c->parser, bytes, (size_t)n);
	if (taken < 0)
		begin_answer(c, NULL, status_of(taken));
	else if (hf_http_parser_message(c->parser))
		begin_answer(c, hf_http_parser_message(c->parser), 0);
	return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct connection *c = userdata;

	(void)source;
	(void)usec;
	refuse(c);
	return 0;
}

static struct connection *place(struct hf_metrics_server *s)
{
	struct connection *oldest = &s->connections[0];

	for (unsigned i = 0; i < HF_METRICS_CONNECTIONS_MAX; i++) {
		struct connection *c = &s->connections[i];

		if (c->fd < 0)
			return c;
		if (c->number < oldest->number)
			oldest = c;
	}
	refuse(oldest);
	return oldest;
}

/* Takes fd over. */
static void take_on(struct hf_metrics_server *s, int fd, bool tcp)
{
	struct connection *c = place(s);
	int r;

	*c = (struct connection){.server = s, .fd = fd, .tcp = tcp, .number = ++s->next_number};
	r = hf_http_parser_new(HF_HTTP_REQUEST, 0, false, &c->parser);
	if (r >= 0)
		r = sd_event_add_io(s->event, &c->io, fd, EPOLLIN, on_connection, c);
	if (r >= 0)
		r = sd_event_add_time_relative(s->event, &c->deadline, CLOCK_MONOTONIC,
					       HF_METRICS_DEADLINE_MS * UINT64_C(1000), ACCURACY_US,
					       on_deadline, c);
	/* Behind everything the channel needs. */
	if (r >= 0)
		r = sd_event_source_set_priority(c->io, SD_EVENT_PRIORITY_IDLE);
	if (r < 0)
		refuse(c);
}

static int on_listener(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata)
{
	struct listener *l = userdata;
	int fd;

	(void)source;
	(void)revents;
	hf_assert(l->server->magic == SERVER_MAGIC);
	fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		take_on(l->server, fd, l->tcp);
		return 0;
	}
	/* No descriptors: those that wait go with the oldest of ours, or wait on. */
	if (errno == EMFILE || errno == ENFILE)
		(void)place(l->server);
	return 0;
}

/* ---- listening -------------------------------------------------------------------------------- */

static void close_listener(struct listener *l)
{
	sd_event_source_disable_unref(l->io);
	l->io = NULL;
	l->fd = hf_close(l->fd);
}

/* Takes fd over; it is bound. */
static int start_listening(struct hf_metrics_server *s, struct listener *l, int fd)
{
	int r;

	l->fd = fd;
	if (listen(fd, BACKLOG) < 0)
		r = -errno;
	else
		r = sd_event_add_io(s->event, &l->io, fd, EPOLLIN, on_listener, l);
	if (r >= 0)
		r = sd_event_source_set_priority(l->io, SD_EVENT_PRIORITY_IDLE);
	if (r >= 0)
		r = sd_event_source_set_description(l->io, "metrics");
	if (r < 0)
		close_listener(l);
	return r < 0 ? r : 0;
}

static int listen_local(struct hf_metrics_server *s, const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;

	if (!hf_strlcpy(sa.sun_path, path, sizeof(sa.sun_path)))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	/* Nobody can connect before listen(). */
	if (chmod(path, 0660) < 0)
		return -errno;
	(void)hf_strlcpy(s->path, path, sizeof(s->path));
	return start_listening(s, &s->local, TAKE_FD(fd));
}

static int parse_loopback(const char *address, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
	char host[64];
	uint16_t port;

	*ret = (struct sockaddr_storage){};
	if (hf_config_split_host_port(address, host, sizeof(host), &port) < 0 || port == 0)
		return -EINVAL;
	if (hf_streq(host, "::1")) {
		v6->sin6_family = AF_INET6;
		v6->sin6_addr = in6addr_loopback;
		v6->sin6_port = htons(port);
		*ret_len = sizeof(*v6);
		return 0;
	}
	if (!hf_streq(host, "localhost") && !loopback_v4(host))
		return -EINVAL;
	v4->sin_family = AF_INET;
	v4->sin_port = htons(port);
	(void)inet_pton(AF_INET, hf_streq(host, "localhost") ? "127.0.0.1" : host, &v4->sin_addr);
	*ret_len = sizeof(*v4);
	return 0;
}

int hf_metrics_server_listen(struct hf_metrics_server *s, const char *address)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_storage sa;
	socklen_t len;
	int one = 1, r;

	if (s->tcp.fd >= 0 && hf_streq(address, s->address))
		return 0;
	close_listener(&s->tcp);
	s->address[0] = '\0';
	if (!*address)
		return 0;
	r = parse_loopback(address, &sa, &len);
	if (r < 0)
		return r;
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Our own former connections in TIME_WAIT do not keep us out. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&sa, len) < 0)
		return -errno;
	r = start_listening(s, &s->tcp, TAKE_FD(fd));
	if (r == 0)
		(void)hf_strlcpy(s->address, address, sizeof(s->address));
	return r;
}

/* ---- life ------------------------------------------------------------------------------------- */

int hf_metrics_server_new(sd_event *event, const char *socket_path, hf_metrics_write_fn write,
			  void *userdata, struct hf_metrics_server **ret)
{
	_cleanup_(hf_metrics_server_freep) struct hf_metrics_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->magic = SERVER_MAGIC;
	s->event = sd_event_ref(event);
	s->write = write;
	s->userdata = userdata;
	s->local = (struct listener){.server = s, .fd = -1};
	s->tcp = (struct listener){.server = s, .fd = -1, .tcp = true};
	for (unsigned i = 0; i < HF_METRICS_CONNECTIONS_MAX; i++)
		s->connections[i].fd = -1;
	r = listen_local(s, socket_path);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

struct hf_metrics_server *hf_metrics_server_free(struct hf_metrics_server *s)
{
	if (!s)
		return NULL;
	for (unsigned i = 0; i < HF_METRICS_CONNECTIONS_MAX; i++)
		if (s->connections[i].fd >= 0)
			end_connection(&s->connections[i]);
	close_listener(&s->tcp);
	if (s->local.fd >= 0)
		(void)unlink(s->path);
	close_listener(&s->local);
	hf_buf_done(&s->text);
	sd_event_unref(s->event);
	s->magic = 0;
	free(s);
	return NULL;
}

void hf_metrics_server_stats(const struct hf_metrics_server *s, struct hf_metrics_server_stats *ret)
{
	*ret = s->stats;
}
