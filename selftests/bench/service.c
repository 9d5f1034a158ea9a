/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trivial service that bench_supervisors has every supervisor restart: stamps the time of its
 * main() and of its readiness into a file that the bench has mapped, and waits.
 *
 *	service STAMP	for the others; says it is ready with a newline on descriptor 3 where that is a
 *			pipe (s6's convention)
 *	service --dir .	in the agent's place under holdfast-watchdog, whose protocol it speaks
 */
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "holdfast/supervise.h"

struct stamp {
	uint64_t pid, exec_ns, ready_ns; /* CLOCK_BOOTTIME */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct hf_sup_hdr head(uint16_t type, size_t len)
{
	return (struct hf_sup_hdr){HF_SUP_PROTOCOL, type, (uint32_t)len};
}

static int watchdog_connect(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "run/supervise.sock"};
	struct hf_sup_hello hello = {.hdr = head(HF_SUP_HELLO, sizeof(hello))};
	struct hf_sup_hdr ready = head(HF_SUP_READY, sizeof(ready));
	char answer[HF_SUP_PACKET_MAX];
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)strcpy(hello.component, "agent");
	(void)strcpy(hello.version, "bench");
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) < 0 ||
	    recv(fd, answer, sizeof(answer), 0) <= 0 ||
	    send(fd, &ready, sizeof(ready), MSG_NOSIGNAL) < 0)
		return -1;
	return fd;
}

/* Progress twice a second, until the watchdog says stop or goes. */
static int supervised(int fd)
{
	struct hf_sup_progress p = {
		.hdr = head(HF_SUP_PROGRESS, sizeof(p)), .workers = 1, .healthy = 1};

	for (;;) {
		struct pollfd pf = {.fd = fd, .events = POLLIN};
		char packet[HF_SUP_PACKET_MAX];
		struct hf_sup_hdr h;

		if (poll(&pf, 1, 500) > 0) {
			if (recv(fd, packet, sizeof(packet), 0) < (ssize_t)sizeof(h))
				return 0;
			memcpy(&h, packet, sizeof(h));
			if (h.type == HF_SUP_STOP)
				return 0;
		}
		p.counter[0]++;
		if (send(fd, &p, sizeof(p), MSG_NOSIGNAL) < 0)
			return 0;
	}
}

int main(int argc, char **argv)
{
	const bool ours = argc == 3 && strcmp(argv[1], "--dir") == 0;
	const uint64_t began = now_ns();
	struct stamp *s;
	struct stat st;
	int fd;

	if (!ours && argc != 2)
		return 2;
	fd = open(ours ? "state/agent/stamp" : argv[1], O_RDWR | O_CLOEXEC);
	s = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (s == MAP_FAILED) {
		perror("service");
		return 1;
	}
	s->exec_ns = began;
	fd = ours ? watchdog_connect() : 0;
	if (!ours && fstat(3, &st) == 0 && S_ISFIFO(st.st_mode))
		(void)!write(3, "\n", 1);
	s->ready_ns = now_ns();
	/* Last: the bench takes the rest as true once the pid is new. */
	__atomic_store_n(&s->pid, (uint64_t)getpid(), __ATOMIC_RELEASE);
	if (ours)
		return fd < 0 ? 1 : supervised(fd);
	for (;;)
		(void)pause();
}
