/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the rings to everybody who wants events: the channel (its own socket, first of all), the
 * recent buffer, the bus's subscribers, and within the upload budget the spool.
 *
 * Order of work for a wakeup: the urgent ring is read into a batch; a record about a watched socket
 * goes to the channel while the batch is still being read, so that a redial starts before anything
 * is decoded for other purposes; then the batch is worked off. A ring is committed only up to
 * records that the spool calls settled.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "bus.pb-c.h"
#include "holdfast/config.h"
#include "holdfast/supervise.h"
#include "userspace/agent/evidence.h"
#include "userspace/agent/recent.h"
#include "userspace/agent/ring.h"
#include "userspace/agent/ringlog.h"
#include "userspace/agent/spool.h"
#include "userspace/agent/tally.h"

struct hf_events;

struct hf_events_callbacks {
	/* A record about a watched socket. event: packed bus.Event, borrowed. */
	void (*socket)(uint64_t cookie, const struct hf_kernel_fact *fact, const uint8_t *event,
		       size_t len, void *userdata);
	/* Every event, packed, for subscribers. */
	void (*publish)(const uint8_t *event, size_t len, void *userdata);
	/* Kernel assist or its programs changed. */
	void (*assist_changed)(void *userdata);
	/* The end of a process that may be the watchdog's canary, and of whose child it was. */
	void (*canary)(uint64_t nonce, uint32_t parent, void *userdata);
	/* Progress for the watchdog: records read. */
	void (*progress)(uint64_t records, void *userdata);
};

/* spool, log and config are borrowed; config until hf_events_configure(). */
int hf_events_new(sd_event *event, struct hf_spool *spool, struct hf_ringlog *log,
		  const struct hf_config *config, const struct hf_events_callbacks *cb,
		  void *userdata, struct hf_events **ret);
struct hf_events *hf_events_free(struct hf_events *e);
HF_DEFINE_CLEANUP(struct hf_events *, hf_events_free);

void hf_events_configure(struct hf_events *e, const struct hf_config *config);
/* The watchdog's descriptors; takes those it keeps (sets them to -1). */
void hf_events_kernel(struct hf_events *e, enum hf_sup_assist assist,
		      int fds[static _HF_SUP_FD_MAX]);
/* From the spool: everything up to ticket is settled. */
void hf_events_settled(struct hf_events *e, uint64_t ticket);
/* Something read waits for the spool before the rings may be committed. */
bool hf_events_unsettled(const struct hf_events *e);

const char *hf_events_assist(const struct hf_events *e); /* ebpf partial off */
const char *hf_events_assist_reason(const struct hf_events *e);
uint64_t hf_events_lost(const struct hf_events *e);
/* Records read by this agent; those of them that could not be used. */
void hf_events_counts(const struct hf_events *e, uint64_t *ret_read, uint64_t *ret_malformed);
const struct hf_recent *hf_events_recent(const struct hf_events *e);
const struct hf_tally *hf_events_tally(const struct hf_events *e);
/* Wall clock minus CLOCK_BOOTTIME, at most a second old. */
int64_t hf_events_realtime_offset_ns(struct hf_events *e);

/* Fills counters and programs; strings borrowed from e. programs has room for max. */
void hf_events_telemetry(struct hf_events *e, Bus__Telemetry *t, Bus__Program *programs,
			 Bus__Program **pointers, size_t max);
