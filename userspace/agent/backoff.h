/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to dial next (DESIGN section 6, "Backoff"). Pure: time and randomness are passed in, no I/O,
 * no log. One object per channel, used from the loop's thread.
 *
 * I1. A delay never exceeds max(retry-after, 0) + max(window, cap): the channel never goes mute.
 * I2. Jitter is applied after the cap, so that a fleet at the cap stays spread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define HF_BACKOFF_IMMEDIATE_MAX \
	600u /* of immediate_per_minute (config.yml): the ring is this long */
#define HF_BACKOFF_WINDOW_MAX_MS 600000u               /* a portal cannot ask for a longer spread */
#define HF_BACKOFF_CAP_MAX_MS    600000u               /* nor for a longer cap */
#define HF_BACKOFF_FLOOR_MAX_MS  3600000u              /* nor for a longer retry-after */
#define HF_BACKOFF_STABLE_NS     UINT64_C(60000000000) /* online this long forgets the failures */

enum hf_backoff_why {
	HF_BACKOFF_LONE_LOSS, /* reset, FIN, local cause: at once while the budget lasts */
	HF_BACKOFF_FAILURE,   /* refused, unanswered, portal restarts, retry-after */
	_HF_BACKOFF_WHY_MAX,
};

struct hf_backoff {
	/* Limits; the setters clamp them. */
	uint32_t immediate_per_minute;
	uint32_t window_ms;
	uint32_t cap_ms;
	/* Uniform in [0, bound); 0 when bound is 0. */
	uint64_t (*random_below)(uint64_t bound);

	/* Private. */
	uint64_t immediate_at[HF_BACKOFF_IMMEDIATE_MAX];
	unsigned n_immediate; /* ever made; the newest is [(n-1) % MAX] */
	unsigned failures;    /* waits since the last stable session */
	uint64_t online_since_ns;
	bool online;
	uint64_t kicked_at_ns[6]; /* the last kicks: one per 2 s, six a minute */
	unsigned n_kicks;
};

void hf_backoff_init(struct hf_backoff *b, uint32_t immediate_per_minute,
		     uint64_t (*random_below)(uint64_t bound));
/* From the portal's Welcome; 0 keeps the present value. */
void hf_backoff_set_portal(struct hf_backoff *b, uint32_t window_ms, uint32_t cap_ms);

/* A session is up / no longer is. */
void hf_backoff_online(struct hf_backoff *b, uint64_t now_ns);
void hf_backoff_offline(struct hf_backoff *b, uint64_t now_ns);

/* How long to wait, 0: at once. retry_after_ms is a floor, spread_ms replaces the window if not 0. */
uint64_t hf_backoff_delay_ns(struct hf_backoff *b, enum hf_backoff_why why, uint64_t retry_after_ms,
			     uint32_t spread_ms, uint64_t now_ns);

/* A network change, resume or new configuration: true if a dial may start now. */
bool hf_backoff_kick(struct hf_backoff *b, uint64_t now_ns);
