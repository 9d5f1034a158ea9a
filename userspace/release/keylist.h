/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of release keys, signed by k of n root keys that stay offline. Text, as text.h has it:
 *
 *	holdfast-keys 1
 *	version 7
 *	created 2026-01-02T03:04:05Z
 *	expires 2027-01-02T03:04:05Z
 *	threshold 2
 *	root 0123456789ABCDEF POINT              by id, at least `threshold` of them
 *	...
 *	key 0123456789ABCDEF POINT FROM UNTIL ENVIRONMENT|any      by id
 *	...
 *	revoked 0123456789ABCDEF SINCE           by id; such a key vouches for nothing new
 *	...
 *	signature 0123456789ABCDEF SIGNATURE     by id; each of all lines above the first signature
 *	...
 *
 * An endpoint has one list that it trusts: at first the one of its package, then each newer one
 * that the list before it vouches for. So root keys rotate as release keys do: a list that changes
 * the roots is signed by a threshold of the old ones and a threshold of its own.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "userspace/release/keys.h"
#include "userspace/release/verify.h"

#define HF_KEYLIST_SIZE_MAX    ((size_t)64 * 1024)
#define HF_KEYLIST_ROOTS_MAX   16u
#define HF_KEYLIST_KEYS_MAX    64u
#define HF_KEYLIST_REVOKED_MAX 256u
/* A list that changes all roots carries the old ones' signatures and the new ones'. */
#define HF_KEYLIST_SIGNATURES_MAX (2 * HF_KEYLIST_ROOTS_MAX)

struct hf_keylist_key {
	struct hf_public_key key;
	uint64_t from_s, until_s; /* wall clock; [from, until) */
	char environment[HF_MANIFEST_WORD_MAX];
};

struct hf_keylist_revoked {
	uint8_t id[HF_KEY_ID_SIZE];
	uint64_t since_s; /* for people */
};

struct hf_keylist_signature {
	uint8_t id[HF_KEY_ID_SIZE];
	uint8_t sig[HF_SIGNATURE_SIZE];
};

struct hf_keylist {
	uint64_t version;
	uint64_t created_s, expires_s;
	unsigned threshold;
	size_t n_roots, n_keys, n_revoked, n_signatures;
	struct hf_public_key roots[HF_KEYLIST_ROOTS_MAX];
	struct hf_keylist_key keys[HF_KEYLIST_KEYS_MAX];
	struct hf_keylist_revoked revoked[HF_KEYLIST_REVOKED_MAX];
	struct hf_keylist_signature signatures[HF_KEYLIST_SIGNATURES_MAX];
};

/* *ret is owned by the caller: free(). -EBADMSG with line and reason, -EFBIG, -ENOMEM. */
int hf_keylist_decode(const void *text, size_t len, struct hf_keylist **ret, struct hf_err *err);
/* Sorts, checks and appends the text, with or without the signatures. -EINVAL with the reason. */
int hf_keylist_encode(struct hf_keylist *l, bool signatures, struct hf_buf *out,
		      struct hf_err *err);

/* Adds the signature of a root key (of this list or of an older one); replaces its former one. */
int hf_keylist_sign(struct hf_keylist *l, const struct hf_secret_key *root, struct hf_err *err);

/*
 * Whether `next` may take the place of the list that is trusted: enough signatures of the trusted
 * roots and of its own, and no older than it. The same list again is HF_RELEASE_OK. An expired list
 * is accepted, since it may carry a revocation; it only admits no release.
 * trusted NULL: the list of the package, which has to be signed by its own roots.
 */
enum hf_refusal hf_keylist_judge(struct hf_keylist *next, struct hf_keylist *trusted,
				 struct hf_err *err);

const struct hf_keylist_key *hf_keylist_find(const struct hf_keylist *l,
					     const uint8_t id[static HF_KEY_ID_SIZE]);
bool hf_keylist_is_revoked(const struct hf_keylist *l, const uint8_t id[static HF_KEY_ID_SIZE]);
