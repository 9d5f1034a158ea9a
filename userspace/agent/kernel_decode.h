/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From raw ring records to events as people and the portal see them: names instead of numbers,
 * "addr:port" texts, the unit and container of a cgroup, one sentence of detail.
 *
 * Records are untrusted: lengths, kinds, enums and strings are checked, and every text that comes
 * out is printable ASCII. Pure functions, no allocation per event. Silent.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus.pb-c.h"

#include "holdfast/kernel_event.h"
#include "kernel_info.h"

/*
 * A decoded event and the room its pointers point into. event is valid until the object is used
 * again; whoever keeps it packs it. Large (about 2 KiB): one per reader, reused.
 */
struct hf_decoded {
	Bus__Event event;
	Bus__ConnInfo conn;
	Bus__ExitInfo exit;
	Bus__LossInfo loss;
	Bus__DropInfo drop;
	Bus__OomInfo oom;
	union hf_event_any raw; /* aligned copy of the record */
	size_t used;
	char text[1024];
};

/*
 * record: len bytes as the ring gave them; realtime_offset_ns: CLOCK_REALTIME - CLOCK_BOOTTIME now.
 * -EBADMSG: not a record of this ABI.
 */
int hf_kernel_decode(const struct hf_kernel_info *i, const void *record, size_t len,
		     int64_t realtime_offset_ns, struct hf_decoded *ret);

/* telemetry.loss for a proven gap. now_boot_ns: when it was noticed. */
void hf_kernel_decode_gap(enum hf_ring_id ring, uint32_t cpu, uint64_t first, uint64_t last,
			  uint64_t now_boot_ns, int64_t realtime_offset_ns, struct hf_decoded *ret);

/* telemetry.loss for time in which nobody read the rings; said by the agent itself. */
void hf_kernel_decode_blind(uint64_t ms, uint64_t now_boot_ns, int64_t realtime_offset_ns,
			    struct hf_decoded *ret);

/* "urgent", "bulk". */
const char *hf_ring_name(enum hf_ring_id ring);
/* "conn.failed" …; NULL for a number that is no kind. */
const char *hf_event_kind_name(uint32_t kind);
/* enum hf_event_kind of a name, -EINVAL. */
int hf_event_kind_from_name(const char *name);

/*
 * "nginx.service", "session-3.scope": the innermost of leaf and parent that is a systemd unit; ""
 * if neither is. And the container id where one of them shows it. dst is always terminated.
 */
void hf_cgroup_unit(const char *leaf, const char *parent, char *dst, size_t size);
void hf_cgroup_container(const char *leaf, const char *parent, char *dst, size_t size);
