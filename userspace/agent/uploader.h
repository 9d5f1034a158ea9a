/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The uploader: moves records from the spool to the portal in windowed batches. Pure logic on the
 * loop thread; the session sends.
 *
 * While online it keeps at most HF_UPLOAD_WINDOW batches unacknowledged, each at most
 * HF_BATCH_INFLATED_MAX of OTLP before deflate. Urgent streams go first, but one place of the
 * window is for the others while they have something, so that a flood of exits cannot starve them.
 * Nothing is remembered of what was sent on a lost connection: Welcome says what the portal has,
 * and sending goes on behind that. A batch the portal refuses as too big is halved, down to one
 * record; a single record that is refused is given up as a gap.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "session.pb-c.h"
#include "userspace/agent/spool.h"
#include "userspace/proto/otlp_codec.h"

#define HF_UPLOAD_WINDOW 4u

struct hf_uploader_callbacks {
	/*
	 * Sends a batch (io.holdfast.telemetry/1 "batch"), borrowed for the call. 0; -EMSGSIZE: too
	 * big, halve it; -ENOBUFS: not now, kick me when the send queue has room; anything else: the
	 * connection is as good as gone, wait for online().
	 */
	int (*send)(Session__TelemetryBatch *batch, void *userdata);
};

struct hf_uploader;

/* spool and resource (and its strings) are borrowed for the uploader's life. */
int hf_uploader_new(struct hf_spool *spool, const struct hf_otlp_resource *resource,
		    const struct hf_uploader_callbacks *cb, void *userdata,
		    struct hf_uploader **ret);
struct hf_uploader *hf_uploader_free(struct hf_uploader *u);
HF_DEFINE_CLEANUP(struct hf_uploader *, hf_uploader_free);

/* Fills Hello.streams from the spool: array and elements are malloc'ed, as unpacked ones are. */
int hf_uploader_hello(struct hf_uploader *u, Session__Hello *hello);

/* The Welcome of a new connection whose endpoint may send telemetry; sends what the window takes. */
void hf_uploader_online(struct hf_uploader *u, const Session__Welcome *welcome);
void hf_uploader_offline(struct hf_uploader *u);
/* There may be something new: call it from the spool's `readable`, and after -ENOBUFS. */
void hf_uploader_kick(struct hf_uploader *u);
void hf_uploader_ack(struct hf_uploader *u, const Session__TelemetryAck *ack);
/* The portal closed with 1009 after a batch: that size is too big, halve from the next one on. */
void hf_uploader_refused(struct hf_uploader *u);

struct hf_uploader_stats {
	uint64_t batches, records, bytes; /* sent; bytes after deflate */
	uint64_t refused, given_up;
	unsigned outstanding;
	size_t batch_bytes; /* what one batch may hold now, before deflate */
};
void hf_uploader_stats(const struct hf_uploader *u, struct hf_uploader_stats *ret);
