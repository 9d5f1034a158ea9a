/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to the system bus. Whatever fails ends it, and a timer tries again.
 *
 * I1. No call waits: the loop must not hang on a bus daemon that does.
 * I2. The lock is let go a moment after the goodbye was handed to the kernel, never kept: logind waits
 *     five seconds for whoever forgets.
 */
#include "userspace/agent/hoststate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <systemd/sd-bus.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/log.h"

#define HOSTSTATE_MAGIC 0x54534f48u
#define LOGIND          "org.freedesktop.login1"
#define LOGIND_PATH     "/org/freedesktop/login1"
#define LOGIND_MANAGER  "org.freedesktop.login1.Manager"
/* At boot the bus may come after us; a host without one is asked again for nothing. */
#define RETRY_US          (10u * 1000000)
#define RETRY_ACCURACY_US (1u * 1000000)
/* The last segment leaves the host within a round of the network's queues. */
#define LINGER_US          100000u
#define LINGER_ACCURACY_US 10000u

struct hf_hoststate {
	unsigned magic;
	sd_event *event;
	sd_bus *bus; /* NULL: not connected */
	sd_event_source *retry, *linger;
	int lock; /* -1 none */
	bool away;
	struct hf_hoststate_callbacks cb;
	void *userdata;
};

static void let_go(struct hf_hoststate *h)
{
	h->lock = hf_close(h->lock);
}

static void disconnect(struct hf_hoststate *h)
{
	let_go(h);
	if (h->bus) {
		(void)sd_bus_detach_event(h->bus);
		h->bus = sd_bus_close_unref(h->bus);
	}
	(void)sd_event_source_set_time_relative(h->retry, RETRY_US);
	(void)sd_event_source_set_enabled(h->retry, SD_EVENT_ONESHOT);
}

static int on_lock(sd_bus_message *m, void *userdata, sd_bus_error *err)
{
	struct hf_hoststate *h = HF_CAST(userdata, struct hf_hoststate, HOSTSTATE_MAGIC);
	int fd;

	(void)err;
	/* Without it we still hear of sleep, only perhaps too late to say so. */
	if (sd_bus_message_is_method_error(m, NULL)) {
		hf_debug("logind gives no inhibitor: %s", sd_bus_message_get_error(m)->message);
		return 0;
	}
	if (sd_bus_message_read(m, "h", &fd) < 0)
		return 0;
	let_go(h);
	h->lock = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* the message's own is closed with it */
	return 0;
}

static int take_lock(struct hf_hoststate *h)
{
	return sd_bus_call_method_async(h->bus, NULL, LOGIND, LOGIND_PATH, LOGIND_MANAGER,
					"Inhibit", on_lock, h, "ssss", "sleep:shutdown", "Holdfast",
					"Tells the portal why the host leaves", "delay");
}

static int prepare(struct hf_hoststate *h, sd_bus_message *m, void (*begin)(void *userdata))
{
	int starts;

	if (sd_bus_message_read(m, "b", &starts) < 0)
		return 0;
	if (starts && !h->away) {
		h->away = true;
		begin(h->userdata);
		(void)sd_event_source_set_time_relative(h->linger, LINGER_US);
		(void)sd_event_source_set_enabled(h->linger, SD_EVENT_ONESHOT);
	} else if (!starts && h->away) {
		h->away = false;
		(void)sd_event_source_set_enabled(h->linger, SD_EVENT_OFF);
		if (take_lock(h) < 0)
			hf_debug("cannot ask logind for an inhibitor again");
		h->cb.back(h->userdata);
	}
	return 0;
}

static int on_sleep(sd_bus_message *m, void *userdata, sd_bus_error *err)
{
	struct hf_hoststate *h = HF_CAST(userdata, struct hf_hoststate, HOSTSTATE_MAGIC);

	(void)err;
	return prepare(h, m, h->cb.sleeping);
}

static int on_shutdown(sd_bus_message *m, void *userdata, sd_bus_error *err)
{
	struct hf_hoststate *h = HF_CAST(userdata, struct hf_hoststate, HOSTSTATE_MAGIC);

	(void)err;
	return prepare(h, m, h->cb.going_down);
}

/* The bus itself went away: sd-bus says so with a message of its own making. */
static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *err)
{
	struct hf_hoststate *h = HF_CAST(userdata, struct hf_hoststate, HOSTSTATE_MAGIC);

	(void)m;
	(void)err;
	disconnect(h);
	return 0;
}

/* logind came (again): what it gave us before it ended is worth nothing. */
static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *err)
{
	struct hf_hoststate *h = HF_CAST(userdata, struct hf_hoststate, HOSTSTATE_MAGIC);
	const char *name, *before, *now;

	(void)err;
	if (sd_bus_message_read(m, "sss", &name, &before, &now) >= 0 && now[0] && !h->away)
		(void)take_lock(h); /* the next owner is a next chance */
	return 0;
}

static int subscribe(struct hf_hoststate *h)
{
	int r = sd_bus_match_signal_async(h->bus, NULL, LOGIND, LOGIND_PATH, LOGIND_MANAGER,
					  "PrepareForSleep", on_sleep, NULL, h);

	if (r >= 0)
		r = sd_bus_match_signal_async(h->bus, NULL, LOGIND, LOGIND_PATH, LOGIND_MANAGER,
					      "PrepareForShutdown", on_shutdown, NULL, h);
	if (r >= 0)
		r = sd_bus_match_signal(h->bus, NULL, "org.freedesktop.DBus.Local", NULL,
					"org.freedesktop.DBus.Local", "Disconnected",
					on_disconnected, h);
	if (r >= 0)
		r = sd_bus_add_match_async(
			h->bus, NULL,
			"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" LOGIND
			"'",
			on_owner, NULL, h);
	return r >= 0 ? take_lock(h) : r;
}

static void connect_bus(struct hf_hoststate *h)
{
	int r = sd_bus_open_system_with_description(&h->bus, "holdfast-agent");

	if (r >= 0)
		r = sd_bus_attach_event(h->bus, h->event, SD_EVENT_PRIORITY_NORMAL);
	if (r >= 0)
		r = subscribe(h);
	if (r < 0) {
		hf_debug("no logind to listen to (%s), trying again later", strerror(-r));
		disconnect(h);
	}
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
	(void)s;
	(void)usec;
	connect_bus(HF_CAST(userdata, struct hf_hoststate, HOSTSTATE_MAGIC));
	return 0;
}

static int on_linger(sd_event_source *s, uint64_t usec, void *userdata)
{
	(void)s;
	(void)usec;
	let_go(HF_CAST(userdata, struct hf_hoststate, HOSTSTATE_MAGIC));
	return 0;
}

int hf_hoststate_new(sd_event *event, const struct hf_hoststate_callbacks *cb, void *userdata,
		     struct hf_hoststate **ret)
{
	_cleanup_(hf_hoststate_freep) struct hf_hoststate *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->magic = HOSTSTATE_MAGIC;
	h->event = sd_event_ref(event);
	h->cb = *cb;
	h->userdata = userdata;
	h->lock = -1;
	r = sd_event_add_time(event, &h->retry, CLOCK_MONOTONIC, 0, RETRY_ACCURACY_US, on_retry, h);
	if (r >= 0)
		r = sd_event_source_set_enabled(h->retry, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(event, &h->linger, CLOCK_MONOTONIC, 0, LINGER_ACCURACY_US,
				      on_linger, h);
	if (r >= 0)
		r = sd_event_source_set_enabled(h->linger, SD_EVENT_OFF);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(h->retry, "system bus");  /* for debugging only */
	(void)sd_event_source_set_description(h->linger, "sleep lock"); /* likewise */
	connect_bus(h);
	*ret = TAKE_PTR(h);
	return 0;
}

struct hf_hoststate *hf_hoststate_free(struct hf_hoststate *h)
{
	if (!h)
		return NULL;
	if (h->retry)
		disconnect(h);
	else
		h->lock = hf_close(h->lock);
	sd_event_source_disable_unref(h->retry);
	sd_event_source_disable_unref(h->linger);
	sd_event_unref(h->event);
	h->magic = 0;
	free(h);
	return NULL;
}
