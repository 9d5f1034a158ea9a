/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to ask the portal's registry for proof that it knows this connection, and when its silence
 * is a loss. Pure: time and randomness are passed in.
 *
 * Only an answer of the registry with our epoch is proof; bytes from the portal are not. At most one
 * question is open.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define HF_HEARTBEAT_MIN_S         5u   /* of the portal's wish: below it heartbeats are load */
#define HF_HEARTBEAT_MAX_S         300u /* above it middleboxes forget us */
#define HF_HEARTBEAT_TIMEOUT_MIN_S 1u
#define HF_HEARTBEAT_TIMEOUT_MAX_S 60u

struct hf_heartbeat {
	uint64_t interval_ns, timeout_ns;
	uint64_t (*random_below)(uint64_t bound);
	uint64_t due_ns;    /* when to ask next */
	uint64_t asked_ns;  /* 0: no question is open */
	uint64_t seq;       /* of the last question */
	uint64_t proven_ns; /* of the last proof */
	uint32_t rtt_us;    /* of the last proof */
};

enum hf_heartbeat_answer {
	HF_HEARTBEAT_STALE, /* an older question's, or none was open */
	HF_HEARTBEAT_PROOF,
	HF_HEARTBEAT_MISMATCH, /* the registry does not know this connection */
};

/* The welcome was the first proof. Values are clamped; 0 keeps 20 s and 10 s. */
void hf_heartbeat_init(struct hf_heartbeat *h, uint32_t interval_s, uint32_t timeout_s,
		       uint64_t (*random_below)(uint64_t bound), uint64_t now_ns);
/* A new interval from the portal: counts from now on. */
void hf_heartbeat_set_interval(struct hf_heartbeat *h, uint32_t interval_s, uint64_t now_ns);

bool hf_heartbeat_should_ask(const struct hf_heartbeat *h, uint64_t now_ns);
bool hf_heartbeat_missed(const struct hf_heartbeat *h, uint64_t now_ns);
/* A question leaves now (also when it was not due: a suspicion). Returns its number. */
uint64_t hf_heartbeat_asked(struct hf_heartbeat *h, uint64_t now_ns);
enum hf_heartbeat_answer hf_heartbeat_answered(struct hf_heartbeat *h, uint64_t seq, uint64_t epoch,
					       uint64_t our_epoch, uint64_t now_ns);
/* When one of the first two may become true. */
uint64_t hf_heartbeat_wakeup_ns(const struct hf_heartbeat *h);
