/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one file of the release library that calls OpenSSL. Silent.
 *
 * SHA-256 is the library's own function, not its EVP: the watchdog hashes what it executes, and EVP makes
 * 1.7 MiB of providers and configuration resident for that (measured); a signature is checked rarely.
 *
 * I1 whatever the library answers but a plain yes is a no: hf_key_verify() fails closed.
 */
/* SHA256_Init() and its like are declared deprecated since 3.0, for there is a way with providers. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "userspace/release/keys.h"

#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/assert.h"
#include "base/random.h"

struct hf_digest {
	SHA256_CTX sha256;
	EVP_MD_CTX *ctx; /* NULL: SHA-256 */
	unsigned size;
};

/* Our callers say what failed; nothing may stay in the thread's queue for a later, other reader. */
static int library_error(void)
{
	ERR_clear_error();
	return -EIO;
}

int hf_key_from_seed(const uint8_t id[static HF_KEY_ID_SIZE],
		     const uint8_t seed[static HF_KEY_SIZE], struct hf_secret_key *ret)
{
	size_t len = HF_KEY_SIZE;
	uint8_t point[HF_KEY_SIZE];
	EVP_PKEY *key;
	int ok;

	key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, HF_KEY_SIZE);
	ok = key && EVP_PKEY_get_raw_public_key(key, point, &len) == 1 && len == HF_KEY_SIZE;
	EVP_PKEY_free(key);
	if (!ok)
		return library_error();
	memcpy(ret->pub.id, id, HF_KEY_ID_SIZE);
	memcpy(ret->pub.point, point, HF_KEY_SIZE);
	memcpy(ret->seed, seed, HF_KEY_SIZE);
	return 0;
}

int hf_key_generate(struct hf_secret_key *ret)
{
	static const uint8_t none[HF_KEY_ID_SIZE];
	uint8_t id[HF_KEY_ID_SIZE], seed[HF_KEY_SIZE];
	int r;

	do
		hf_random_bytes(id, sizeof(id));
	while (memcmp(id, none, sizeof(id)) == 0); /* means "not signed" in a manifest */
	hf_random_bytes(seed, sizeof(seed));
	r = hf_key_from_seed(id, seed, ret);
	hf_wipe(seed, sizeof(seed));
	return r;
}

void hf_key_wipe(struct hf_secret_key *k)
{
	hf_wipe(k, sizeof(*k));
}

int hf_key_sign(const struct hf_secret_key *k, const void *msg, size_t len,
		uint8_t ret[static HF_SIGNATURE_SIZE])
{
	size_t sig_len = HF_SIGNATURE_SIZE;
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, k->seed, HF_KEY_SIZE);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok;

	ok = key && ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
	     EVP_DigestSign(ctx, ret, &sig_len, msg, len) == 1 && sig_len == HF_SIGNATURE_SIZE;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return ok ? 0 : library_error();
}

bool hf_key_verify(const struct hf_public_key *k, const void *msg, size_t len,
		   const uint8_t sig[static HF_SIGNATURE_SIZE])
{
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, k->point, HF_KEY_SIZE);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok;

	ok = key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
	     EVP_DigestVerify(ctx, sig, HF_SIGNATURE_SIZE, msg, len) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return ok;
}

int hf_digest_new(enum hf_digest_kind kind, struct hf_digest **ret)
{
	_cleanup_(hf_digest_freep) struct hf_digest *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	switch (kind) {
	case HF_DIGEST_SHA256:
		d->size = HF_SHA256_SIZE;
		if (SHA256_Init(&d->sha256) != 1)
			return library_error();
		break;
	case HF_DIGEST_BLAKE2B512:
		d->ctx = EVP_MD_CTX_new();
		if (!d->ctx)
			return -ENOMEM;
		d->size = (unsigned)EVP_MD_get_size(EVP_blake2b512());
		hf_assert(d->size <= HF_DIGEST_SIZE_MAX);
		if (EVP_DigestInit_ex(d->ctx, EVP_blake2b512(), NULL) != 1)
			return library_error();
		break;
	case _HF_DIGEST_MAX:
		hf_assert(false);
	}
	*ret = TAKE_PTR(d);
	return 0;
}

struct hf_digest *hf_digest_free(struct hf_digest *d)
{
	if (d)
		EVP_MD_CTX_free(d->ctx);
	free(d);
	return NULL;
}

int hf_digest_add(struct hf_digest *d, const void *data, size_t len)
{
	int ok =
		d->ctx ? EVP_DigestUpdate(d->ctx, data, len) : SHA256_Update(&d->sha256, data, len);

	return ok == 1 ? 0 : library_error();
}

int hf_digest_end(struct hf_digest *d, uint8_t *dst)
{
	unsigned len = d->size;
	int ok = d->ctx ? EVP_DigestFinal_ex(d->ctx, dst, &len) : SHA256_Final(dst, &d->sha256);

	return ok == 1 && len == d->size ? 0 : library_error();
}

int hf_key_scrypt(const char *passphrase, const uint8_t *salt, size_t salt_len, uint64_t n,
		  uint64_t p, uint8_t *dst, size_t len)
{
	/* Beside the 1024·n bytes OpenSSL counts p blocks and a few more. */
	uint64_t memory = 1024 * (n + p) + (UINT64_C(1) << 20);

	if (EVP_PBE_scrypt(passphrase, strlen(passphrase), salt, salt_len, n, 8, p, memory, dst,
			   len) != 1) {
		ERR_clear_error();
		return -ENOMEM;
	}
	return 0;
}

int hf_sha256(const void *data, size_t len, uint8_t ret[static HF_SHA256_SIZE])
{
	SHA256_CTX c; /* SHA256() itself goes through EVP */

	return SHA256_Init(&c) == 1 && SHA256_Update(&c, data, len) == 1 &&
			       SHA256_Final(ret, &c) == 1
		       ? 0
		       : library_error();
}

/* The read-only segments of libcrypto: constant pages of its file, so that dropping them loses nothing. */
static int drop_segments(struct dl_phdr_info *info, size_t size, void *arg)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size;
	(void)arg;
	if (!strstr(info->dlpi_name, "libcrypto"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uintptr_t from = (info->dlpi_addr + h->p_vaddr + page - 1) & ~(page - 1);
		uintptr_t to = (info->dlpi_addr + h->p_vaddr + h->p_memsz) & ~(page - 1);

		if (h->p_type == PT_LOAD && !(h->p_flags & PF_W) && to > from)
			(void)madvise((void *)from, to - from, MADV_DONTNEED);
	}
	return 1;
}

void hf_crypto_rest(void)
{
	(void)dl_iterate_phdr(drop_segments, NULL);
}
