/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last events of this host for `holdfast events`: packed, in memory, bounded by number and by
 * bytes (a flood of long ones must not grow the agent). The oldest goes first.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "bus.pb-c.h"

#define HF_RECENT_MAX       4096u
#define HF_RECENT_BYTES_MAX (1u << 20)

struct hf_recent;

struct hf_recent *hf_recent_new(void); /* NULL on ENOMEM */
struct hf_recent *hf_recent_free(struct hf_recent *r);
HF_DEFINE_CLEANUP(struct hf_recent *, hf_recent_free);

/* Keeps a copy; without memory it is not kept. */
void hf_recent_add(struct hf_recent *r, const void *packed, size_t len);
size_t hf_recent_count(const struct hf_recent *r);

/*
 * The newest events that match the request, oldest first, as one Response's Events (owned by the
 * caller: bus__events__free_unpacked). At most max_bytes of packed events. NULL on ENOMEM.
 */
Bus__Events *hf_recent_query(const struct hf_recent *r, const Bus__EventsRequest *q,
			     size_t max_bytes);
/* Pure: does it match? */
bool hf_recent_matches(const Bus__Event *e, const Bus__EventsRequest *q);
