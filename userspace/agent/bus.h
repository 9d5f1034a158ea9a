/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's end of the local bus: requests on agent.sock, the event stream on events.sock. The only
 * user of nng here. nng's threads take messages in and hand them to the loop by an eventfd.
 *
 * Callers are checked by the kernel's word about the peer (uid, groups): root, our own user, and
 * members of group `holdfast`; others get EPERM and one line, and no events.
 *
 * Bounds: HF_BUS_REQUESTS_MAX requests at a time (further callers wait in nng), HF_BUS_REQUEST_MAX
 * bytes each, HF_BUS_ANSWER_MAX bytes back. A subscriber that does not keep up loses events (nng
 * drops at its queue's end); the recent buffer has them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "bus.pb-c.h"

#define HF_BUS_REQUESTS_MAX 4u
#define HF_BUS_REQUEST_MAX  (128u << 10) /* an enrolment with a CA bundle */
#define HF_BUS_ANSWER_MAX   (900u << 10) /* nng's default limit for a received message is 1 MiB */

struct hf_bus;
/* A request under way; valid until answered. */
struct hf_bus_call;

/* The handler answers now or later, exactly once, with hf_bus_answer(). m is borrowed for the call. */
typedef void (*hf_bus_request_fn)(struct hf_bus_call *call, const Bus__Request *m, void *userdata);

/* -errno with nothing listening. URLs are "ipc://…". */
int hf_bus_new(sd_event *event, const char *request_url, const char *events_url,
	       hf_bus_request_fn request, void *userdata, struct hf_bus **ret);
/* Calls not answered yet are dropped: their callers see the connection end. */
struct hf_bus *hf_bus_free(struct hf_bus *b);
HF_DEFINE_CLEANUP(struct hf_bus *, hf_bus_free);

void hf_bus_answer(struct hf_bus_call *call, Bus__Response *m);
/* An error answer: error is a positive errno, message one line. */
void hf_bus_refuse(struct hf_bus_call *call, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* To every subscriber; dropped where there is none. */
void hf_bus_publish(struct hf_bus *b, const void *packed, size_t len);
