/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of connections, one each. All run in one process unless who owns what is the point. */
#include "behave.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct pair {
	int listener, client, server;
	uint16_t port;
};

static struct pair connected(const char *arg)
{
	int family = family_of(arg);
	struct pair p;

	p.listener = listener(family, 8, &p.port);
	p.client = dial(family, p.port);
	p.server = accept4(p.listener, NULL, NULL, SOCK_CLOEXEC);
	check(p.server >= 0, "accept");
	fact("port", p.port);
	fact("client_port", local_port(p.client));
	fact("client_cookie", cookie_of(p.client));
	fact("server_cookie", cookie_of(p.server));
	return p;
}

static void set_int(int fd, int level, int option, int value)
{
	check(setsockopt(fd, level, option, &value, sizeof(value)) == 0, "setsockopt");
}

/* Waits until fd has an error and takes it. */
static int take_error(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd};
	socklen_t len = sizeof(int);
	int err = 0;

	check(poll(&p, 1, timeout_ms) == 1, "poll for an error");
	check(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0, "SO_ERROR");
	return err;
}

/* Nobody listens: ECONNREFUSED here, and a reset that no socket sent. */
int behave_refused(int argc, char **argv)
{
	int family = family_of(argc > 1 ? argv[1] : NULL), fd;
	struct endpoint e;
	uint16_t port;

	/* A port that was free a moment ago, in a namespace of our own. */
	(void)close(listener(family, 1, &port));
	fact("port", port);
	e = loopback(family, port);
	fd = tcp_socket(family);
	check(connect(fd, (struct sockaddr *)&e.addr, e.len) < 0 && errno == ECONNREFUSED,
	      "be refused");
	return 0;
}

/* A listener that never hears the SYN; TCP_USER_TIMEOUT ends it at the first retransmission. */
int behave_syn_timeout(int argc, char **argv)
{
	int family = family_of(argc > 1 ? argv[1] : NULL), fd;
	struct endpoint e;
	uint16_t port;

	become_wall(listener(family, 1, &port));
	fact("port", port);
	e = loopback(family, port);
	fd = tcp_socket(family);
	set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 100);
	check(connect(fd, (struct sockaddr *)&e.addr, e.len) < 0 && errno == ETIMEDOUT, "time out");
	return 0;
}

/* The owner closes while the SYN is unanswered. */
int behave_abandoned(int argc, char **argv)
{
	int family = family_of(argc > 1 ? argv[1] : NULL), fd;
	struct endpoint e;
	uint16_t port;

	become_wall(listener(family, 1, &port));
	fact("port", port);
	e = loopback(family, port);
	fd = tcp_socket(family);
	check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "O_NONBLOCK");
	check(connect(fd, (struct sockaddr *)&e.addr, e.len) < 0 && errno == EINPROGRESS,
	      "be on its way");
	(void)close(fd);
	return 0;
}

/* The server aborts with linger 0 while 7 bytes are unread at the client. */
int behave_reset_by_peer(int argc, char **argv)
{
	struct pair p = connected(argc > 1 ? argv[1] : NULL);

	check(write(p.server, "7 bytes", 7) == 7, "write");
	linger_zero(p.server);
	(void)close(p.server);
	check(take_error(p.client, 2000) == ECONNRESET, "ECONNRESET");
	return 0;
}

/* The server closes with 5 bytes unread, which TCP answers with a reset. */
int behave_close_unread(int argc, char **argv)
{
	struct pair p = connected(argc > 1 ? argv[1] : NULL);
	struct pollfd in = {.fd = p.server, .events = POLLIN};

	check(write(p.client, "12345", 5) == 5, "write");
	check(poll(&in, 1, 2000) == 1, "data to arrive");
	(void)close(p.server);
	check(take_error(p.client, 2000) == ECONNRESET, "ECONNRESET");
	return 0;
}

/* FIN both ways: the server first. */
static int close_orderly(const char *arg, bool wait)
{
	struct pair p = connected(arg);
	char c;

	if (wait) {
		fact("ready", 1);
		check(read(STDIN_FILENO, &c, 1) == 1, "go");
	}
	check(shutdown(p.server, SHUT_WR) == 0, "shutdown");
	check(read(p.client, &c, 1) == 0, "end of file");
	(void)close(p.client);
	check(read(p.server, &c, 1) == 0, "end of file");
	(void)close(p.server);
	return 0;
}

int behave_orderly(int argc, char **argv)
{
	return close_orderly(argc > 1 ? argv[1] : NULL, false);
}

/* Waits for a line on stdin once it is connected, so that a socket of it can be watched. */
int behave_orderly_wait(int argc, char **argv)
{
	return close_orderly(argc > 1 ? argv[1] : NULL, true);
}

int behave_user_timeout(int argc, char **argv)
{
	struct pair p = connected(argc > 1 ? argv[1] : NULL);

	set_int(p.client, IPPROTO_TCP, TCP_USER_TIMEOUT, 300);
	become_wall(p.server);
	check(write(p.client, "hello", 5) == 5, "write");
	check(take_error(p.client, 5000) == ETIMEDOUT, "ETIMEDOUT");
	return 0;
}

/* Retransmissions used up. The namespace's limit is lowered first: it is 15 minutes by default. */
int behave_rto(int argc, char **argv)
{
	int fd = open("/proc/sys/net/ipv4/tcp_retries2", O_WRONLY | O_CLOEXEC);
	struct pair p;

	check(fd >= 0 && write(fd, "2", 1) == 1, "tcp_retries2");
	(void)close(fd);
	p = connected(argc > 1 ? argv[1] : NULL);
	become_wall(p.server);
	check(write(p.client, "hello", 5) == 5, "write");
	check(take_error(p.client, 10000) == ETIMEDOUT, "ETIMEDOUT");
	return 0;
}

int behave_keepalive(int argc, char **argv)
{
	struct pair p = connected(argc > 1 ? argv[1] : NULL);

	set_int(p.client, IPPROTO_TCP, TCP_KEEPIDLE, 1);
	set_int(p.client, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	set_int(p.client, IPPROTO_TCP, TCP_KEEPCNT, 1);
	set_int(p.client, SOL_SOCKET, SO_KEEPALIVE, 1);
	become_wall(p.server);
	check(take_error(p.client, 6000) == ETIMEDOUT, "ETIMEDOUT");
	return 0;
}

/*
 * Prints the cookie before the connection is made and waits for a line on stdin, so that somebody
 * can watch it; then sends into a wall until the second retransmission has happened.
 */
int behave_retransmit(int argc, char **argv)
{
	int family = family_of(argc > 1 ? argv[1] : NULL), fd, server, l, i;
	struct tcp_info info;
	socklen_t len = sizeof(info);
	struct endpoint e;
	uint16_t port;
	char c;

	l = listener(family, 8, &port);
	fd = tcp_socket(family);
	fact("port", port);
	fact("client_cookie", cookie_of(fd));
	fact("ready", 1);
	check(read(STDIN_FILENO, &c, 1) == 1, "go");
	e = loopback(family, port);
	check(connect(fd, (struct sockaddr *)&e.addr, e.len) == 0, "connect");
	server = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	check(server >= 0, "accept");
	become_wall(server);
	check(write(fd, "hello", 5) == 5, "write");
	for (i = 0; i < 500; i++) {
		(void)poll(NULL, 0, 10);
		check(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0, "TCP_INFO");
		if (info.tcpi_total_retrans >= 2)
			break;
	}
	fact("retransmits", info.tcpi_total_retrans);
	linger_zero(fd);
	(void)close(fd);
	return 0;
}

/* The client is gone before the server takes the connection: it belongs to who listens. */
int behave_reset_before_accept(int argc, char **argv)
{
	int family = family_of(argc > 1 ? argv[1] : NULL), fd, l;
	uint16_t port;
	pid_t child;

	l = listener(family, 8, &port);
	fact("port", port);
	fact("listener_pid", (uint64_t)getpid());
	child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		(void)close(l);
		fd = dial(family, port);
		linger_zero(fd);
		(void)close(fd);
		_exit(0);
	}
	fact("client_pid", (uint64_t)child);
	check(waitpid(child, NULL, 0) == child, "wait");
	(void)close(l);
	return 0;
}

/* A parent listens, a child accepts and reads, another connects and resets. */
int behave_prefork(int argc, char **argv)
{
	int family = family_of(argc > 1 ? argv[1] : NULL), fd, l, ready[2];
	pid_t worker, client;
	uint16_t port;
	char buf[8];

	l = listener(family, 8, &port);
	fact("port", port);
	fact("listener_pid", (uint64_t)getpid());
	check(pipe(ready) == 0, "pipe");
	worker = fork();
	check(worker >= 0, "fork");
	if (worker == 0) {
		struct pollfd p;

		p.fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		check(p.fd >= 0, "accept");
		check(read(p.fd, buf, sizeof(buf)) == 5, "read");
		check(write(ready[1], "r", 1) == 1, "tell");
		p.events = POLLIN;
		check(poll(&p, 1, 3000) == 1, "the reset");
		_exit(0);
	}
	client = fork();
	check(client >= 0, "fork");
	if (client == 0) {
		(void)close(l);
		fd = dial(family, port);
		check(write(fd, "hello", 5) == 5, "write");
		check(read(ready[0], buf, 1) == 1, "the worker");
		linger_zero(fd);
		(void)close(fd);
		_exit(0);
	}
	fact("worker_pid", (uint64_t)worker);
	fact("client_pid", (uint64_t)client);
	check(waitpid(client, NULL, 0) == client && waitpid(worker, NULL, 0) == worker, "wait");
	return 0;
}

/* Connects, waits for a line on stdin (the programs are loaded meanwhile), then aborts. */
int behave_older_socket(int argc, char **argv)
{
	struct pair p = connected(argc > 1 ? argv[1] : NULL);
	char c;

	fact("ready", 1);
	check(read(STDIN_FILENO, &c, 1) == 1, "go");
	linger_zero(p.server);
	(void)close(p.server);
	check(take_error(p.client, 2000) == ECONNRESET, "ECONNRESET");
	return 0;
}

/* argv: how many connections, each reset by the server: two events each. */
int behave_storm(int argc, char **argv)
{
	int i, n = argc > 1 ? atoi(argv[1]) : 1000, l, client, server;
	uint16_t port;

	l = listener(AF_INET, 128, &port);
	fact("port", port);
	for (i = 0; i < n; i++) {
		client = dial(AF_INET, port);
		server = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		check(server >= 0, "accept");
		linger_zero(server);
		(void)close(server);
		/* Closing before the reset is there would send a FIN to nobody. */
		check(take_error(client, 2000) == ECONNRESET, "ECONNRESET");
		(void)close(client);
	}
	return 0;
}
