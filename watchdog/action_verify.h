/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a portal may have this host do: its action key, this endpoint's id, the portal's time; and
 * whether a signed action may begin. Pure but for the signatures (userspace/release/keys.h).
 *
 * The first key is believed (the agent got it over the portal's TLS at the enrolment); after that
 * only a chain in which each key is signed by the one before it, starting at the trusted one. Whoever
 * took over the agent can bring neither another key nor another endpoint's actions, and it cannot
 * turn the clock: the time is the portal's, signed together with our nonce.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "action.pb-c.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "holdfast/action.h"
#include "userspace/release/keys.h"

struct hf_action_trust {
	bool pinned;
	char endpoint_id[HF_ACTION_ID_SIZE];
	struct hf_public_key key;
	uint8_t old[HF_ACTION_KEYS_MAX][HF_KEY_ID_SIZE]; /* ids of keys before it */
	size_t n_old;
};

/*
 * keys: packed action.Keys. 1: trusts what it did not before (key or endpoint), 0: nothing new,
 * -EBADMSG: not well-formed, -EKEYREJECTED: the chain does not continue the trusted key,
 * -EXDEV: for another endpoint. t is unchanged unless 1.
 */
int hf_action_trust_take(struct hf_action_trust *t, const void *keys, size_t len,
			 struct hf_err *err);

/* The portal's time, from a proof. Zero-initialise. */
struct hf_action_time {
	uint8_t nonce[HF_ACTION_NONCE_SIZE];
	uint64_t asked_boot_ns; /* 0: no nonce is out */
	uint64_t unix_ns;       /* 0: not known */
	uint64_t at_boot_ns;
};

/* Older than this the proof of a nonce is worth nothing, and a known time is asked for again. */
#define HF_ACTION_NONCE_LIFE_NS (60 * UINT64_C(1000000000))
#define HF_ACTION_TIME_LIFE_NS  (24 * 3600 * UINT64_C(1000000000))

/* True: the portal shall sign t->nonce. */
bool hf_action_time_ask(struct hf_action_time *t, uint64_t boot_ns);
/* proof: packed action.Time. -EBADMSG, -EKEYREJECTED, -ETIME (no such nonce, or too late). */
int hf_action_time_take(struct hf_action_time *t, const struct hf_action_trust *trust,
			const void *proof, size_t len, uint64_t boot_ns);
/* Not later than the portal's time; 0: not known. */
uint64_t hf_action_time_now(const struct hf_action_time *t, uint64_t boot_ns);

/*
 * Whether this envelope may begin at server_unix_ns (0: the time is not known, which is a refusal
 * of its own when all else is right). *ret_body is owned by the caller and set whenever it can be
 * read: with a refusal it only serves to name the action in the answer to who brought it.
 */
enum hf_action_refusal hf_action_verify(const struct hf_action_trust *t, uint64_t server_unix_ns,
					const void *envelope, size_t len, Action__Body **ret_body);

/* The one value of a parameter; NULL: not there, or there several times. */
const char *hf_action_param(const Action__Body *b, const char *name);
/* True iff every parameter's name is in names (ends with NULL). */
bool hf_action_params_only(const Action__Body *b, const char *const *names);
