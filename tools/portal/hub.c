/* SPDX-License-Identifier: Apache-2.0 */
/* The list of subscribers, and the comment that keeps their connections from looking idle. */
#include "tools/portal/hub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/assert.h"
#include "base/str.h"
#include "tools/portal/conn.h"

#define SUBSCRIBERS_MAX 256u /* open pages; each may queue half a megabyte */
/* Below every proxy's idle limit, and how a page notices that the portal is gone. */
#define KEEPALIVE_US (15 * UINT64_C(1000000))
#define ACCURACY_US  (UINT64_C(100000))
#define HUB_MAGIC    0x68756273u

struct subscriber {
	struct hf_hub *hub;
	struct hf_conn *conn; /* NULL: free */
};

struct hf_hub {
	unsigned magic;
	size_t n;
	struct subscriber subscribers[SUBSCRIBERS_MAX];
	sd_event_source *timer;
};

static void broadcast(struct hf_hub *h, const void *data, size_t len)
{
	for (size_t i = 0; i < SUBSCRIBERS_MAX; i++) {
		if (h->subscribers[i].conn) /* a failure ends it, on_ended() follows */
			(void)hf_conn_stream_write(h->subscribers[i].conn, data, len);
	}
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_hub *h = HF_CAST(userdata, struct hf_hub, HUB_MAGIC);

	broadcast(h, ": still here\n\n", 14);
	(void)sd_event_source_set_time(source, usec + KEEPALIVE_US);
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

int hf_hub_new(sd_event *event, struct hf_hub **ret)
{
	_cleanup_(hf_hub_freep) struct hf_hub *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->magic = HUB_MAGIC;
	r = sd_event_add_time_relative(event, &h->timer, CLOCK_MONOTONIC, KEEPALIVE_US, ACCURACY_US,
				       on_timer, h);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(h->timer, "stream-keepalive"); /* only a name */
	*ret = TAKE_PTR(h);
	return 0;
}

struct hf_hub *hf_hub_free(struct hf_hub *h)
{
	if (!h)
		return NULL;
	hf_assert(h->n == 0); /* the server ended its connections before */
	h->timer = sd_event_source_disable_unref(h->timer);
	free(h);
	return NULL;
}

static void on_ended(void *userdata)
{
	struct subscriber *s = userdata;

	s->conn = hf_conn_unref(s->conn);
	s->hub->n--;
}

int hf_hub_subscribe(struct hf_hub *h, struct hf_conn *c)
{
	size_t i = 0;

	while (i < SUBSCRIBERS_MAX && h->subscribers[i].conn)
		i++;
	if (i == SUBSCRIBERS_MAX)
		return -EUSERS;
	h->subscribers[i] = (struct subscriber){.hub = h, .conn = hf_conn_ref(c)};
	h->n++;
	hf_conn_stream_start(c, on_ended, &h->subscribers[i]);
	/* retry: how long a browser waits before it comes again. */
	if (h->subscribers[i].conn)
		(void)hf_conn_stream_write(c, "retry: 2000\nevent: hello\ndata: {}\n\n", 35);
	return 0;
}

bool hf_hub_idle(const struct hf_hub *h)
{
	return h->n == 0;
}

size_t hf_hub_subscribers(const struct hf_hub *h)
{
	return h->n;
}

void hf_hub_publish(struct hf_hub *h, const char *event, json_t *value)
{
	_cleanup_(hf_buf_done) struct hf_buf frame = {};
	_cleanup_free_ char *text = value && h->n ? json_dumps(value, JSON_COMPACT) : NULL;

	json_decref(value);
	/* Compact JSON has no line breaks, so that one data line carries it. */
	if (!text || hf_buf_appendf(&frame, "event: %s\ndata: %s\n\n", event, text) < 0)
		return;
	broadcast(h, frame.data, frame.len);
}
