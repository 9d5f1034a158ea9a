/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer of both kernel rings: maps the inherited descriptors by the kernel's documented
 * layout (no libbpf, no bpf() call, no capability), reads in bounded batches, proves losses.
 *
 * I1. Reading moves a private position. The shared one, which frees room for the kernel, moves
 *     only by hf_rings_commit(): the caller first has the records safe. A killed agent's successor
 *     reads the uncommitted ones again and drops what hf_rings_set_position() says was kept.
 * I2. Every sequence number of a (ring, cpu) is accounted once: as a record or as part of a gap. A
 *     hole may still be filled by a program that was interrupted; it is declared a gap when 64
 *     later numbers came or when it is older than the last hf_rings_settle().
 * I3. The rings' memory is shared with the kernel only; records are still treated as untrusted.
 *
 * A ring's descriptor stays readable until commit: add it to the loop edge-triggered (EPOLLET), and
 * read both rings from a 100 ms timer as well (the bulk ring wakes by fill level). After a wakeup
 * read until hf_rings_read() returns less than max.
 *
 * One thread. Silent: returns -errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/kernel_policy.h"

struct hf_rings;

/*
 * fds: urgent and bulk; bytes: their sizes; cpus: slots of the counters map (all three from
 * struct hf_kernel_info). The descriptors are consumed on success only.
 */
int hf_rings_new(const int fds[static _HF_RING_MAX], const uint32_t bytes[static _HF_RING_MAX],
		 int counters_fd, uint32_t cpus, struct hf_rings **ret);
struct hf_rings *hf_rings_free(struct hf_rings *r);

/* For the event loop; borrowed. */
int hf_rings_fd(const struct hf_rings *r, enum hf_ring_id ring);

struct hf_rings_handler {
	/* header->len == len, kind is known to be in range, ring and cpu are checked. */
	void (*record)(const struct hf_event_header *header, size_t len, void *userdata);
	/* Events first…last of (ring, cpu) are lost; last - first + 1 of them. */
	void (*gap)(enum hf_ring_id ring, uint32_t cpu, uint64_t first, uint64_t last,
		    void *userdata);
	void *userdata;
};

/* Reads at most max records. Returns how many were taken off (duplicates included). */
int hf_rings_read(struct hf_rings *r, enum hf_ring_id ring, unsigned max,
		  const struct hf_rings_handler *handler);
/* Call from the 100 ms timer after both rings were read to their end. */
void hf_rings_settle(struct hf_rings *r, const struct hf_rings_handler *handler);

/* The private position, to be handed to commit when everything read before it is safe. */
uint64_t hf_rings_mark(const struct hf_rings *r, enum hf_ring_id ring);
void hf_rings_commit(struct hf_rings *r, enum hf_ring_id ring, uint64_t mark);

/* What was accounted of one (ring, cpu): everything up to seq, and seq + 1 + i for bit i of later. */
struct hf_rings_position {
	uint32_t ring;
	uint32_t cpu;
	uint64_t seq;
	uint64_t later;
};

/* Number of (ring, cpu) pairs whose position is known; fills at most max of them. */
size_t hf_rings_positions(const struct hf_rings *r, struct hf_rings_position *ret, size_t max);
/*
 * Before the first read. A position of an earlier load of the programs (below its base) or of
 * another boot must not be given or is ignored: the caller compares boot ids, this the base.
 */
void hf_rings_set_position(struct hf_rings *r, const struct hf_rings_position *p);

/*
 * A record that the position covers, but that was not kept: it is handed out once more when it is
 * met. -ENOMEM; more than HF_RINGS_WANTED_MAX: -ENOSPC.
 */
#define HF_RINGS_WANTED_MAX 8192u
int hf_rings_want(struct hf_rings *r, enum hf_ring_id ring, uint32_t cpu, uint64_t seq);

/* Sums over CPUs; exact when nothing is being recorded (kernel_policy.h, I2). */
struct hf_rings_totals {
	uint64_t generated; /* = delivered + in_ring + lost */
	uint64_t delivered; /* read by this agent or its predecessors */
	uint64_t in_ring;   /* not read yet */
	uint64_t lost;
	uint64_t filtered;
	uint64_t throttled;
	struct {
		uint64_t generated, submitted, lost, in_ring;
	} ring[_HF_RING_MAX];
	struct hf_kind_counters kind[HF_EVENT_KIND_SLOTS];
	uint64_t misc[HF_MISC_SLOTS];
	/* of this consumer */
	uint64_t read;       /* records handed to the handler */
	uint64_t gap_events; /* declared lost to the handler */
	uint64_t duplicates;
	uint64_t malformed; /* records dropped for what their header said */
};

void hf_rings_totals(const struct hf_rings *r, struct hf_rings_totals *ret);
