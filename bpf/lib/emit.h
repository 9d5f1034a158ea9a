/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Room on a ring and its accounting, in this order: sequence number, room, submitted or lost. A
 * number is taken even when there is no room, so that the reader sees the gap.
 */
#pragma once

#include "lib/counters.h"

/*
 * The next number of this CPU's ring; 0: none could be had. Where the instruction set has an add
 * that returns the old value (5.12), a program that interrupts another one on its CPU simply takes
 * the next number. Before, it must not come between the load and the store: a mark tells it that it
 * does, and its event is lost and counted. The mark is safe because interruptions nest.
 */
static __always_inline __u64 hf_next_seq(struct hf_cpu_counters *c, __u32 ring)
{
#ifndef HF_NO_FETCH
	return __sync_fetch_and_add(&c->ring[ring].seq, 1) + 1;
#else
	volatile __u64 *seq = &c->ring[ring].seq;
	volatile __u32 *taking;
	__u32 zero = 0;
	__u64 n;

	taking = bpf_map_lookup_elem(&seq_taking, &zero);
	if (!taking || *taking) {
		hf_count(&c->misc[HF_MISC_NESTED]);
		return 0;
	}
	*taking = 1;
	n = *seq + 1;
	*seq = n;
	*taking = 0;
	return n;
#endif
}

static __always_inline void hf_event_header_fill(struct hf_event_header *h, __u64 now, __u64 seq,
						 __u32 ring, __u32 kind, __u32 len)
{
	h->boot_ns = now;
	h->seq = seq;
	h->kind = kind;
	h->flags = 0;
	h->cpu = bpf_get_smp_processor_id();
	h->ring = ring;
	h->len = len;
	h->weight = 1;
}

/*
 * Many cgroups that are each within their limits can still fill the ring with connections. The last
 * eighth is kept for exits, which are few and are what explains the rest.
 */
static __always_inline bool hf_bulk_has_room(__u32 kind)
{
	if (kind == HF_EVENT_PROC_EXIT)
		return true;
	return bpf_ringbuf_query(&ring_bulk, BPF_RB_AVAIL_DATA) <= 7 * (__u64)hf_kernel.bulk_eighth;
}

/*
 * NULL: no room, and counted. The record is not zeroed but for its header. Reading the clock is the
 * dearest single thing an event costs (40 ns measured), so it is read once and handed on.
 */
#define hf_reserve(type, event_kind, urgent, now)                                               \
	({                                                                                      \
		const __u32 _kind = (event_kind);                                               \
		const __u32 _ring = (urgent) ? HF_RING_URGENT : HF_RING_BULK;                   \
		struct hf_cpu_counters *_c = hf_counters();                                     \
		type *_e = NULL;                                                                \
		if (_c) {                                                                       \
			__u64 _seq = hf_next_seq(_c, _ring);                                    \
			hf_count(&_c->kind[_kind].generated);                                   \
			if (!_seq)                                                              \
				_e = NULL;                                                      \
			else if (_ring == HF_RING_URGENT)                                       \
				_e = bpf_ringbuf_reserve(&ring_urgent, sizeof(type), 0);        \
			else if (hf_bulk_has_room(_kind))                                       \
				_e = bpf_ringbuf_reserve(&ring_bulk, sizeof(type), 0);          \
			if (_e) {                                                               \
				hf_count(&_c->ring[_ring].submitted);                           \
				hf_event_header_fill((struct hf_event_header *)_e, (now), _seq, \
						     _ring, _kind, sizeof(type));               \
			} else {                                                                \
				if (_seq)                                                       \
					hf_count(&_c->ring[_ring].lost);                        \
				hf_count(&_c->kind[_kind].lost);                                \
			}                                                                       \
		}                                                                               \
		_e;                                                                             \
	})

/*
 * Urgent records wake the reader at once. Bulk ones each time an eighth of the ring has filled up:
 * one wakeup per event would cost more than the event; the reader's timer bounds the delay.
 */
static __always_inline void hf_submit(void *e, bool urgent, __u32 size)
{
	__u64 flags = BPF_RB_FORCE_WAKEUP;

	if (!urgent) {
		__u64 filled = bpf_ringbuf_query(&ring_bulk, BPF_RB_AVAIL_DATA);

		/* The kernel's own 8-byte header goes with each record. Sizes are powers of two. */
		if (!((filled ^ (filled - size - 8)) & -(__u64)hf_kernel.bulk_eighth))
			flags = BPF_RB_NO_WAKEUP;
	}
	bpf_ringbuf_submit(e, flags);
}
