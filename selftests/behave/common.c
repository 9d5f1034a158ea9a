/* SPDX-License-Identifier: Apache-2.0 */
/* What the behaviours share: sockets on loopback, packets made to vanish, facts told to the test. */
#include "behave.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/filter.h>

void fact(const char *key, uint64_t value)
{
	(void)printf("%s=%llu\n", key, (unsigned long long)value);
	(void)fflush(stdout);
}

void check(bool ok, const char *what)
{
	if (ok)
		return;
	(void)fprintf(stderr, "behave: %s: %s\n", what, strerror(errno));
	exit(99);
}

/* IPv4 through an IPv6 socket. */
static bool mapped;

int family_of(const char *arg)
{
	mapped = arg && strcmp(arg, "mapped") == 0;
	return mapped || (arg && strcmp(arg, "6") == 0) ? AF_INET6 : AF_INET;
}

struct endpoint loopback(int family, uint16_t port)
{
	struct endpoint e = {0};

	if (family == AF_INET6) {
		struct sockaddr_in6 *a = (struct sockaddr_in6 *)&e.addr;

		a->sin6_family = AF_INET6;
		a->sin6_addr = in6addr_loopback;
		if (mapped)
			check(inet_pton(AF_INET6, "::ffff:127.0.0.1", &a->sin6_addr) == 1,
			      "address");
		a->sin6_port = htons(port);
		e.len = sizeof(*a);
	} else {
		struct sockaddr_in *a = (struct sockaddr_in *)&e.addr;

		a->sin_family = AF_INET;
		a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		a->sin_port = htons(port);
		e.len = sizeof(*a);
	}
	return e;
}

int tcp_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check(fd >= 0, "socket");
	return fd;
}

uint16_t local_port(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	check(getsockname(fd, (struct sockaddr *)&a, &len) == 0, "getsockname");
	/* The port is at the same place in both families. */
	return ntohs(((struct sockaddr_in *)&a)->sin_port);
}

uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	check(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0, "SO_COOKIE");
	return cookie;
}

int listener(int family, int backlog, uint16_t *ret_port)
{
	struct endpoint e = loopback(family, 0);
	int fd = tcp_socket(family);

	check(bind(fd, (struct sockaddr *)&e.addr, e.len) == 0, "bind");
	check(listen(fd, backlog) == 0, "listen");
	*ret_port = local_port(fd);
	return fd;
}

int dial(int family, uint16_t port)
{
	struct endpoint e = loopback(family, port);
	int fd = tcp_socket(family);

	check(connect(fd, (struct sockaddr *)&e.addr, e.len) == 0, "connect");
	return fd;
}

void linger_zero(int fd)
{
	struct linger l = {.l_onoff = 1};

	check(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) == 0, "SO_LINGER");
}

void become_wall(int fd)
{
	struct sock_filter drop[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog prog = {.len = 1, .filter = drop};

	check(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == 0,
	      "SO_ATTACH_FILTER");
}
