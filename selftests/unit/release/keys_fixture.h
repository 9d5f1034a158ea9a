/* SPDX-License-Identifier: Apache-2.0 */
/* Keys whose ids sort as their numbers, and a list of them. */
#pragma once

#include "selftests/unit/test_util.h"

#include "userspace/release/keylist.h"
#include "userspace/release/keys.h"

#define DAY UINT64_C(86400)
/* 2026-01-02T03:04:05Z: when everything here was made. */
#define MADE UINT64_C(1767323045)

/* The n-th key, always the same. */
static inline struct hf_secret_key test_key(uint8_t n)
{
	uint8_t id[HF_KEY_ID_SIZE] = {n, 2, 3, 4, 5, 6, 7, n}, seed[HF_KEY_SIZE] = {n};
	struct hf_secret_key k;

	assert_ok(hf_key_from_seed(id, seed, &k));
	return k;
}

enum { ROOT_A = 1, ROOT_B, ROOT_C, KEY_A, KEY_B, KEY_DEV, KEY_REVOKED, KEY_STRANGER };

static inline void test_add_key(struct hf_keylist *l, uint8_t n, uint64_t from_s, uint64_t until_s,
				const char *environment)
{
	struct hf_keylist_key *k = &l->keys[l->n_keys++];

	k->key = test_key(n).pub;
	k->from_s = from_s;
	k->until_s = until_s;
	assert_true(hf_strlcpy(k->environment, environment, sizeof(k->environment)));
}

/*
 * Version 5, 2 of the 3 roots, for a year. KEY_A is good for all that time, KEY_B from day 100 to
 * day 200, KEY_DEV for "dev" only; KEY_REVOKED is listed and revoked. Not signed yet.
 */
static inline struct hf_keylist test_list(void)
{
	struct hf_keylist l = {
		.version = 5,
		.created_s = MADE,
		.expires_s = MADE + 365 * DAY,
		.threshold = 2,
		.n_roots = 3,
		.roots = {test_key(ROOT_A).pub, test_key(ROOT_B).pub, test_key(ROOT_C).pub},
	};

	test_add_key(&l, KEY_A, MADE, MADE + 365 * DAY, "any");
	test_add_key(&l, KEY_B, MADE + 100 * DAY, MADE + 200 * DAY, "prod");
	test_add_key(&l, KEY_DEV, MADE, MADE + 365 * DAY, "dev");
	test_add_key(&l, KEY_REVOKED, MADE, MADE + 365 * DAY, "any");
	l.revoked[l.n_revoked].since_s = MADE + DAY;
	memcpy(l.revoked[l.n_revoked++].id, test_key(KEY_REVOKED).pub.id, HF_KEY_ID_SIZE);
	return l;
}

static inline void test_sign_list(struct hf_keylist *l, uint8_t n)
{
	struct hf_secret_key k = test_key(n);

	assert_ok(hf_keylist_sign(l, &k, NULL));
}
