/* SPDX-License-Identifier: Apache-2.0 */
/* Immediate budget, first window, full jitter, floors and kicks. */
#include "userspace/agent/backoff.h"

#include <string.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/random.h"

#define MINUTE_NS    (60 * HF_NS_PER_S)
#define KICK_GAP_NS  (2 * HF_NS_PER_S)
#define WINDOW_MS    2000u
#define CAP_MS       60000u
#define BASE_MS      1000u
#define FAILURES_MAX 16u /* 1 s << 16 is far above any cap: more would only overflow */

void hf_backoff_init(struct hf_backoff *b, uint32_t immediate_per_minute,
		     uint64_t (*random_below)(uint64_t bound))
{
	*b = (struct hf_backoff){
		.immediate_per_minute = immediate_per_minute,
		.window_ms = WINDOW_MS,
		.cap_ms = CAP_MS,
		.random_below = random_below ? random_below : hf_random_below,
	};
	if (b->immediate_per_minute > HF_BACKOFF_IMMEDIATE_MAX)
		b->immediate_per_minute = HF_BACKOFF_IMMEDIATE_MAX;
}

void hf_backoff_set_portal(struct hf_backoff *b, uint32_t window_ms, uint32_t cap_ms)
{
	if (window_ms > 0)
		b->window_ms =
			window_ms < HF_BACKOFF_WINDOW_MAX_MS ? window_ms : HF_BACKOFF_WINDOW_MAX_MS;
	if (cap_ms > 0)
		b->cap_ms = cap_ms < HF_BACKOFF_CAP_MAX_MS ? cap_ms : HF_BACKOFF_CAP_MAX_MS;
}

void hf_backoff_online(struct hf_backoff *b, uint64_t now_ns)
{
	if (!b->online)
		b->online_since_ns = now_ns;
	b->online = true;
}

void hf_backoff_offline(struct hf_backoff *b, uint64_t now_ns)
{
	if (b->online && now_ns - b->online_since_ns >= HF_BACKOFF_STABLE_NS)
		b->failures = 0;
	b->online = false;
}

/* True and counted if fewer than the budget were made within the last minute. */
static bool take_immediate(struct hf_backoff *b, uint64_t now_ns)
{
	unsigned recent = 0;

	for (unsigned i = 0; i < b->n_immediate && i < HF_BACKOFF_IMMEDIATE_MAX; i++) {
		unsigned at = (b->n_immediate - 1 - i) % HF_BACKOFF_IMMEDIATE_MAX;

		if (now_ns - b->immediate_at[at] >= MINUTE_NS)
			break;
		recent++;
	}
	if (recent >= b->immediate_per_minute)
		return false;
	b->immediate_at[b->n_immediate % HF_BACKOFF_IMMEDIATE_MAX] = now_ns;
	b->n_immediate++;
	/* Keep the index small without moving the ring. */
	if (b->n_immediate >= 2 * HF_BACKOFF_IMMEDIATE_MAX)
		b->n_immediate -= HF_BACKOFF_IMMEDIATE_MAX;
	return true;
}

uint64_t hf_backoff_delay_ns(struct hf_backoff *b, enum hf_backoff_why why, uint64_t retry_after_ms,
			     uint32_t spread_ms, uint64_t now_ns)
{
	uint64_t bound_ms;

	hf_assert(why < _HF_BACKOFF_WHY_MAX);
	if (why == HF_BACKOFF_LONE_LOSS && retry_after_ms == 0 && take_immediate(b, now_ns))
		return 0;

	if (retry_after_ms > HF_BACKOFF_FLOOR_MAX_MS)
		retry_after_ms = HF_BACKOFF_FLOOR_MAX_MS;
	if (spread_ms > 0) {
		bound_ms =
			spread_ms < HF_BACKOFF_WINDOW_MAX_MS ? spread_ms : HF_BACKOFF_WINDOW_MAX_MS;
	} else if (b->failures == 0) {
		bound_ms = b->window_ms;
	} else {
		/*
		 * The portal's window says how long its fleet needs to come back; who failed once
		 * must not crowd into less. With the default window this is 1 s << n.
		 */
		uint64_t window_ms = (uint64_t)b->window_ms << (b->failures - 1);
		uint64_t cap_ms = b->cap_ms > b->window_ms ? b->cap_ms : b->window_ms;

		bound_ms = (uint64_t)BASE_MS << b->failures;
		if (bound_ms < window_ms)
			bound_ms = window_ms;
		if (bound_ms > cap_ms)
			bound_ms = cap_ms;
	}
	if (b->failures < FAILURES_MAX)
		b->failures++;
	return retry_after_ms * HF_NS_PER_MS + b->random_below(bound_ms * HF_NS_PER_MS);
}

bool hf_backoff_kick(struct hf_backoff *b, uint64_t now_ns)
{
	const unsigned n = HF_ARRAY_SIZE(b->kicked_at_ns);
	uint64_t newest, oldest;

	if (b->n_kicks > 0) {
		newest = b->kicked_at_ns[(b->n_kicks - 1) % n];
		if (now_ns - newest < KICK_GAP_NS)
			return false;
	}
	if (b->n_kicks >= n) {
		oldest = b->kicked_at_ns[b->n_kicks % n];
		if (now_ns - oldest < MINUTE_NS)
			return false;
	}
	b->kicked_at_ns[b->n_kicks % n] = now_ns;
	b->n_kicks++;
	if (b->n_kicks >= 2 * n)
		b->n_kicks -= n;
	return true;
}
