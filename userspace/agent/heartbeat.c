/* SPDX-License-Identifier: Apache-2.0 */
/* Interval with jitter, one open question, its deadline. */
#include "userspace/agent/heartbeat.h"

#include "base/clock.h"
#include "base/random.h"

#define DEFAULT_INTERVAL_S 20u
#define DEFAULT_TIMEOUT_S  10u

static uint32_t clamp(uint32_t v, uint32_t def, uint32_t lo, uint32_t hi)
{
	if (v == 0)
		return def;
	return v < lo ? lo : v > hi ? hi : v;
}

/* ± 10 %, so that a fleet that came together does not stay in step. */
static uint64_t jittered(const struct hf_heartbeat *h)
{
	return h->interval_ns - h->interval_ns / 10 + h->random_below(h->interval_ns / 5);
}

void hf_heartbeat_init(struct hf_heartbeat *h, uint32_t interval_s, uint32_t timeout_s,
		       uint64_t (*random_below)(uint64_t bound), uint64_t now_ns)
{
	*h = (struct hf_heartbeat){
		.interval_ns = HF_NS_PER_S * clamp(interval_s, DEFAULT_INTERVAL_S,
						   HF_HEARTBEAT_MIN_S, HF_HEARTBEAT_MAX_S),
		.timeout_ns =
			HF_NS_PER_S * clamp(timeout_s, DEFAULT_TIMEOUT_S,
					    HF_HEARTBEAT_TIMEOUT_MIN_S, HF_HEARTBEAT_TIMEOUT_MAX_S),
		.random_below = random_below ? random_below : hf_random_below,
		.proven_ns = now_ns,
	};
	h->due_ns = now_ns + jittered(h);
}

void hf_heartbeat_set_interval(struct hf_heartbeat *h, uint32_t interval_s, uint64_t now_ns)
{
	if (interval_s == 0)
		return;
	h->interval_ns = HF_NS_PER_S * clamp(interval_s, DEFAULT_INTERVAL_S, HF_HEARTBEAT_MIN_S,
					     HF_HEARTBEAT_MAX_S);
	h->due_ns = now_ns + jittered(h);
}

bool hf_heartbeat_should_ask(const struct hf_heartbeat *h, uint64_t now_ns)
{
	return h->asked_ns == 0 && now_ns >= h->due_ns;
}

bool hf_heartbeat_missed(const struct hf_heartbeat *h, uint64_t now_ns)
{
	return h->asked_ns != 0 && now_ns - h->asked_ns >= h->timeout_ns;
}

uint64_t hf_heartbeat_asked(struct hf_heartbeat *h, uint64_t now_ns)
{
	/* Asking again does not give the portal more time for the first question. */
	if (h->asked_ns == 0)
		h->asked_ns = now_ns;
	return ++h->seq;
}

enum hf_heartbeat_answer hf_heartbeat_answered(struct hf_heartbeat *h, uint64_t seq, uint64_t epoch,
					       uint64_t our_epoch, uint64_t now_ns)
{
	if (epoch != our_epoch)
		return HF_HEARTBEAT_MISMATCH;
	if (h->asked_ns == 0 || seq != h->seq)
		return HF_HEARTBEAT_STALE;
	h->rtt_us = (uint32_t)((now_ns - h->asked_ns) / HF_NS_PER_US);
	h->asked_ns = 0;
	h->proven_ns = now_ns;
	h->due_ns = now_ns + jittered(h);
	return HF_HEARTBEAT_PROOF;
}

uint64_t hf_heartbeat_wakeup_ns(const struct hf_heartbeat *h)
{
	return h->asked_ns ? h->asked_ns + h->timeout_ns : h->due_ns;
}
