/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of the kernel's records, kept in a mapped file so that a killed agent's successor goes
 * on exactly there: nothing lost, nothing twice. Also the time without any consumer, and the upload
 * budget's counts that have not left yet.
 *
 * A record is handed on in this order, each step a store to the map:
 *	hf_ringlog_begin (it is about to go to the spool) → hf_spool_append → hf_ringlog_appended
 *	→ hf_ringlog_done → … → hf_ringlog_settled, when the spool has it safe.
 * Whatever step the kill comes after, the successor knows: a record that is done and settled is a
 * duplicate; one that was begun is one if the spool recovered it, else it is wanted again (the ring
 * still has it: rings are committed only up to what is settled).
 *
 * The map survives the process, not the host: after a reboot the rings are new as well. No fsync.
 * Garbage in the file is a fresh start. Silent; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "userspace/agent/budget.h"
#include "userspace/agent/ring.h"

struct hf_ringlog;

/* More unsettled records than the spool's queue (1 MiB) can hold. */
#define HF_RINGLOG_PENDING_MAX 8192u
/* CPUs beyond are not remembered: there, duplicates are possible after a kill. */
#define HF_RINGLOG_CPUS_MAX 512u

int hf_ringlog_open(int dirfd, const char *name, const uint8_t boot_id[static 16],
		    uint64_t now_monotonic_ns, struct hf_ringlog **ret);
/* Leaves the file. Takes NULL; returns NULL. */
struct hf_ringlog *hf_ringlog_free(struct hf_ringlog *l);
HF_DEFINE_CLEANUP(struct hf_ringlog *, hf_ringlog_free);

/* ---- after a predecessor ---- */
/* Records whose fate the spool has to tell. */
size_t hf_ringlog_unsure(const struct hf_ringlog *l);
/* The spool has this one. */
void hf_ringlog_on_disk(struct hf_ringlog *l, uint32_t ring, uint32_t cpu, uint64_t seq,
			uint64_t boot_ns);
/* Tells the rings, mapped just now, where to go on. */
void hf_ringlog_resume(struct hf_ringlog *l, struct hf_rings *rings);
/* Both rings were read to their end: what was wanted and did not come will not. */
void hf_ringlog_caught_up(struct hf_ringlog *l);

/* ---- for each record ---- */
void hf_ringlog_begin(struct hf_ringlog *l, uint32_t ring, uint32_t cpu, uint64_t seq,
		      uint64_t boot_ns);
void hf_ringlog_appended(struct hf_ringlog *l, uint64_t ticket);
void hf_ringlog_done(struct hf_ringlog *l, uint32_t ring, uint32_t cpu, uint64_t seq);
void hf_ringlog_settled(struct hf_ringlog *l, uint64_t ticket);

/* ---- time ---- */
/*
 * The consumer is at work: call it with each pass over the rings. Returns how long there was none
 * before: since a former process's last call, or since our own if that is over 1.5 s ago (a
 * process that is stopped consumes nothing either); 0 else.
 */
uint64_t hf_ringlog_alive(struct hf_ringlog *l, uint64_t now_monotonic_ns);
/* There are no rings any more; time is blind until the next hf_ringlog_alive(). */
void hf_ringlog_away(struct hf_ringlog *l);
/* Time without a consumer since this boot's first agent, until now. */
uint64_t hf_ringlog_blind_ns(const struct hf_ringlog *l, uint64_t now_monotonic_ns);

/* Lives in the map. Its limits are to be configured by the caller. */
struct hf_budget *hf_ringlog_budget(struct hf_ringlog *l);
