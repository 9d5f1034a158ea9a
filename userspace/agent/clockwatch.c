/* SPDX-License-Identifier: Apache-2.0 */
/* One timerfd that is only ever cancelled. */
#include "userspace/agent/clockwatch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"

#define CLOCKWATCH_MAGIC 0x4b434c43u

/* 2025-01-01: no release of this product is older. */
#define CLOCK_FLOOR_NS     (UINT64_C(1735689600) * HF_NS_PER_S)
#define CLOCK_TOLERANCE_NS (300 * HF_NS_PER_S)

bool hf_clock_is_bad(uint64_t server_unix_ns, uint64_t server_at_boot_ns, uint64_t now_unix_ns,
		     uint64_t now_boot_ns)
{
	uint64_t expected;

	if (now_unix_ns < CLOCK_FLOOR_NS)
		return true;
	/* A portal whose own clock was in 1970 has proven nothing. */
	if (server_unix_ns < CLOCK_FLOOR_NS)
		return false;
	if (server_at_boot_ns == 0 || server_at_boot_ns > now_boot_ns)
		return now_unix_ns < server_unix_ns &&
		       server_unix_ns - now_unix_ns > CLOCK_TOLERANCE_NS;
	expected = server_unix_ns + (now_boot_ns - server_at_boot_ns);
	return now_unix_ns > expected ? now_unix_ns - expected > CLOCK_TOLERANCE_NS
				      : expected - now_unix_ns > CLOCK_TOLERANCE_NS;
}

struct hf_clockwatch {
	unsigned magic;
	int fd;
	sd_event_source *io;
	uint64_t slept_ns; /* boottime − monotonic when looked at last */
	struct hf_clockwatch_callbacks cb;
	void *userdata;
};

static uint64_t slept_so_far(void)
{
	uint64_t mono = hf_now_monotonic_ns(), boot = hf_now_boottime_ns();

	return boot > mono ? boot - mono : 0;
}

static int arm(const struct hf_clockwatch *w)
{
	/* Far away: it is not meant to expire. */
	const struct itimerspec never = {.it_value = {.tv_sec = INT64_C(1) << 40}};

	return timerfd_settime(w->fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0
		       ? -errno
		       : 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct hf_clockwatch *w = HF_CAST(userdata, struct hf_clockwatch, CLOCKWATCH_MAGIC);
	uint64_t n, slept = slept_so_far(), before = w->slept_ns;

	(void)s;
	(void)revents;
	if (read(fd, &n, sizeof(n)) < 0 && errno == EAGAIN)
		return 0; /* -ECANCELED is the message */
	w->slept_ns = slept;
	if (arm(w) < 0)
		(void)sd_event_source_set_enabled(w->io, SD_EVENT_OFF);
	if (slept > before && slept - before >= HF_SLEPT_MIN_MS * HF_NS_PER_MS)
		w->cb.resumed((slept - before) / HF_NS_PER_MS, w->userdata);
	else
		w->cb.set(w->userdata);
	return 0;
}

int hf_clockwatch_new(sd_event *event, const struct hf_clockwatch_callbacks *cb, void *userdata,
		      struct hf_clockwatch **ret)
{
	_cleanup_(hf_clockwatch_freep) struct hf_clockwatch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->magic = CLOCKWATCH_MAGIC;
	w->cb = *cb;
	w->userdata = userdata;
	w->slept_ns = slept_so_far();
	w->fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (w->fd < 0)
		return -errno;
	r = arm(w);
	if (r < 0)
		return r;
	r = sd_event_add_io(event, &w->io, w->fd, EPOLLIN, on_io, w);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(w->io, "clock watch"); /* for debugging only */
	*ret = TAKE_PTR(w);
	return 0;
}

struct hf_clockwatch *hf_clockwatch_free(struct hf_clockwatch *w)
{
	if (!w)
		return NULL;
	sd_event_source_disable_unref(w->io);
	if (w->fd > 0)
		(void)hf_close(w->fd);
	w->magic = 0;
	free(w);
	return NULL;
}
