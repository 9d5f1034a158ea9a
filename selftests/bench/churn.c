/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work for a bench: connections over the loopback, or processes, so many or so many a second.
 *
 *	churn reset N [RATE SECONDS]    connect, then reset
 *	churn close N [RATE SECONDS]    connect, then close well, the client first
 *	churn exit  N [RATE SECONDS]    vfork, _exit(0), wait
 *
 * With a rate N is how many go in a batch between two waits. Prints "DONE NANOSECONDS".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int listener;
static struct sockaddr_in addr;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static unsigned long long now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (unsigned long long)ts.tv_sec * 1000000000ull + (unsigned long long)ts.tv_nsec;
}

static void start_listening(void)
{
	socklen_t len = sizeof(addr);

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(listener >= 0, "socket");
	addr.sin_family = AF_INET;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(bind(listener, (struct sockaddr *)&addr, sizeof(addr)) == 0, "bind");
	must(getsockname(listener, (struct sockaddr *)&addr, &len) == 0, "getsockname");
	must(listen(listener, 128) == 0, "listen");
}

static void connect_once(int reset)
{
	const struct linger off = {.l_onoff = 1, .l_linger = 0};
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), server;

	must(client >= 0, "socket");
	/* Ports that wait for the last stray segment are not to run out. */
	must(setsockopt(client, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int)) == 0,
	     "setsockopt");
	while (connect(client, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		must(errno == EADDRNOTAVAIL, "connect");
		(void)usleep(1000);
	}
	server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	must(server >= 0, "accept4");
	if (reset)
		must(setsockopt(client, SOL_SOCKET, SO_LINGER, &off, sizeof(off)) == 0, "linger");
	(void)close(client);
	(void)close(server);
}

static void exit_once(void)
{
	pid_t pid = vfork();
	int status;

	if (pid == 0)
		_exit(0);
	must(pid > 0 && waitpid(pid, &status, 0) == pid, "vfork");
}

static void once(const char *what)
{
	if (strcmp(what, "exit") == 0)
		exit_once();
	else
		connect_once(strcmp(what, "reset") == 0);
}

int main(int argc, char **argv)
{
	unsigned long long n, rate, begun, end, done = 0;

	if (argc != 3 && argc != 5) {
		(void)fprintf(stderr, "usage: churn reset|close|exit N [RATE SECONDS]\n");
		return 2;
	}
	n = strtoull(argv[2], NULL, 10);
	start_listening();
	begun = now_ns();
	if (argc == 3) {
		for (; done < n; done++)
			once(argv[1]);
	} else {
		rate = strtoull(argv[3], NULL, 10);
		end = begun + strtoull(argv[4], NULL, 10) * 1000000000ull;
		while (now_ns() < end) {
			unsigned long long due = begun + done * 1000000000ull / rate;
			struct timespec ts = {.tv_sec = (time_t)(due / 1000000000ull),
					      .tv_nsec = (long)(due % 1000000000ull)};

			(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
			for (unsigned long long i = 0; i < n; i++, done++)
				once(argv[1]);
		}
	}
	(void)printf("%llu %llu\n", done, now_ns() - begun);
	return 0;
}
