/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ed25519 keys and signatures (RFC 8032, by OpenSSL), and SHA-256. A key has an id of 8 random bytes
 * by which a signature names it; nothing follows from an id but which key to try.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "userspace/release/manifest.h"

#define HF_KEY_SIZE       32 /* public: the point; secret: the seed */
#define HF_SIGNATURE_SIZE 64

struct hf_public_key {
	uint8_t id[HF_KEY_ID_SIZE];
	uint8_t point[HF_KEY_SIZE];
};

struct hf_secret_key {
	struct hf_public_key pub;
	uint8_t seed[HF_KEY_SIZE];
};

/* -EIO: the library could not. */
int hf_key_generate(struct hf_secret_key *ret);
/* The key of this seed. */
int hf_key_from_seed(const uint8_t id[static HF_KEY_ID_SIZE],
		     const uint8_t seed[static HF_KEY_SIZE], struct hf_secret_key *ret);
/* For _cleanup_(): forgets the seed. */
void hf_key_wipe(struct hf_secret_key *k);

int hf_key_sign(const struct hf_secret_key *k, const void *msg, size_t len,
		uint8_t ret[static HF_SIGNATURE_SIZE]);
/* True iff it is this key's signature of exactly these bytes. */
bool hf_key_verify(const struct hf_public_key *k, const void *msg, size_t len,
		   const uint8_t sig[static HF_SIGNATURE_SIZE]);

/*
 * Gives the resident code of the crypto library back to the page cache, for a process that verifies
 * seldom and stays for long: 1.8 MiB in the watchdog (measured). It comes back when it is called again.
 */
void hf_crypto_rest(void);
/* scrypt (RFC 7914) with r = 8: takes 1 KiB of memory n times. -ENOMEM. */
int hf_key_scrypt(const char *passphrase, const uint8_t *salt, size_t salt_len, uint64_t n,
		  uint64_t p, uint8_t *dst, size_t len);

int hf_sha256(const void *data, size_t len, uint8_t ret[static HF_SHA256_SIZE]);

/* SHA-256 (or BLAKE2b-512) of what comes in pieces. */
enum hf_digest_kind { HF_DIGEST_SHA256, HF_DIGEST_BLAKE2B512, _HF_DIGEST_MAX };
#define HF_DIGEST_SIZE_MAX 64

struct hf_digest;
/* -ENOMEM, -EIO. */
int hf_digest_new(enum hf_digest_kind kind, struct hf_digest **ret);
struct hf_digest *hf_digest_free(struct hf_digest *d);
HF_DEFINE_CLEANUP(struct hf_digest *, hf_digest_free);
int hf_digest_add(struct hf_digest *d, const void *data, size_t len);
/* dst has 32 or 64 bytes by kind; d can only be freed afterwards. */
int hf_digest_end(struct hf_digest *d, uint8_t *dst);
