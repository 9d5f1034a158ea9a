/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linked into a copy of the agent for tests: the clocks of that process are moved while it runs,
 * without touching those of the machine.
 *
 * HOLDFAST_TEST_CLOCK names a file of two native int64: nanoseconds added to CLOCK_REALTIME and to
 * CLOCK_BOOTTIME. The kernel cannot cancel a timer for a step that it does not know of, so a
 * timerfd on CLOCK_REALTIME becomes a FIFO, "<file>.set", readable when the test has moved a clock.
 * Symbols of the program come before those of libraries: OpenSSL sees the moved clock as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS INT64_C(1000000000)

static const volatile int64_t *shift; /* [0] realtime, [1] boottime; NULL: none */
static int set_fd = -1;

static const volatile int64_t *shifts(void)
{
	static const volatile int64_t none[2];
	const char *path = getenv("HOLDFAST_TEST_CLOCK");
	void *p;
	int fd;

	if (shift)
		return shift;
	fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return shift = none;
	p = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	(void)close(fd);
	return shift = p == MAP_FAILED ? none : p;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int64_t ns;

	if (syscall(SYS_clock_gettime, id, ts) < 0)
		return -1;
	if (id != CLOCK_REALTIME && id != CLOCK_BOOTTIME)
		return 0;
	ns = ts->tv_sec * NS + ts->tv_nsec + shifts()[id == CLOCK_BOOTTIME];
	ts->tv_sec = ns / NS;
	ts->tv_nsec = ns % NS;
	return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;

	(void)tz;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	*tv = (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	if (ret)
		*ret = ts.tv_sec;
	return ts.tv_sec;
}

int timerfd_create(int clock, int flags)
{
	const char *path = getenv("HOLDFAST_TEST_CLOCK");
	char fifo[4096];

	if (clock != CLOCK_REALTIME || !path)
		return (int)syscall(SYS_timerfd_create, clock, flags);
	(void)snprintf(fifo, sizeof(fifo), "%s.set", path);
	set_fd = open(fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	return set_fd;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	if (fd >= 0 && fd == set_fd)
		return 0;
	return (int)syscall(SYS_timerfd_settime, fd, flags, new, old);
}
