/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves OpenMetrics on a local socket (mode 0660: root and the agent's group) and, if configured,
 * on a port of the loopback: GET or HEAD of /metrics, nothing else; one answer a connection.
 *
 * I1. At most HF_METRICS_CONNECTIONS_MAX at a time: for another one the oldest is closed, so that
 *     slow ones keep nobody out. Each has HF_METRICS_DEADLINE_MS from its first to its last byte.
 * I2. The text is made at most each HF_METRICS_FRESH_MS; who asks more often gets the same again.
 * I3. On the port, the request's Host must be the loopback: a page in a browser of this host, whose
 *     name was made to resolve to it, reads nothing.
 */
#pragma once

#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/str.h"

#define HF_METRICS_CONNECTIONS_MAX 8u
#define HF_METRICS_DEADLINE_MS     5000u
#define HF_METRICS_FRESH_MS        100u

struct hf_metrics_server;

/* Appends the text; negative: the caller gets 503. */
typedef int (*hf_metrics_write_fn)(struct hf_buf *out, void *userdata);

/*
 * Listens at socket_path (what is there is replaced: the caller is the only one of its instance).
 * -errno: nothing listens.
 */
int hf_metrics_server_new(sd_event *event, const char *socket_path, hf_metrics_write_fn write,
			  void *userdata, struct hf_metrics_server **ret);
struct hf_metrics_server *hf_metrics_server_free(struct hf_metrics_server *s);
HF_DEFINE_CLEANUP(struct hf_metrics_server *, hf_metrics_server_free);

/*
 * Also listens at host:port, a loopback address ("" none, the former one is closed). -EINVAL: it is
 * none. -errno: it cannot be had, nothing listens there; try again later.
 */
int hf_metrics_server_listen(struct hf_metrics_server *s, const char *address);

struct hf_metrics_server_stats {
	uint64_t answered; /* with the text */
	uint64_t refused;  /* malformed, not ours, too slow, too many */
};
void hf_metrics_server_stats(const struct hf_metrics_server *s,
			     struct hf_metrics_server_stats *ret);

/* Pure: is this request's Host header the loopback? NULL: there is none. */
bool hf_metrics_host_is_loopback(const char *host);
