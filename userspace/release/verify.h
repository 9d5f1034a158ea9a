/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may be installed: one pure function over a manifest, its signature, the list of keys, this
 * host and the time. It has one named refusal for each reason, with a sentence for people.
 *
 * It is asked before a release is installed. It is not asked for a version that runs or is rolled
 * back to: what was accepted once stays runnable when keys expire (the store checks its digests).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "userspace/release/manifest.h"
#include "userspace/release/twin.h"

struct hf_keylist;

/* name, what it says without details */
#define HF_REFUSALS(X)                                                                \
	X(OK, "ok", "may be installed")                                               \
	X(KEYS_ROOTS, "keys_roots", "too few root keys signed the list of keys")      \
	X(KEYS_OLDER, "keys_older", "the list of keys is older than the trusted one") \
	X(KEYS_FORKED, "keys_forked", "two different lists of keys have one version") \
	X(NO_KEYS, "no_keys", "there is no list of release keys")                     \
	X(CLOCK, "clock", "the clock of this host is behind")                         \
	X(KEYS_EXPIRED, "keys_expired", "the list of release keys has expired")       \
	X(UNSIGNED, "unsigned", "the release is not signed")                          \
	X(KEY_REVOKED, "key_revoked", "the signing key was revoked")                  \
	X(KEY_UNKNOWN, "key_unknown", "the signing key is not in the list")           \
	X(KEY_EARLY, "key_early", "the signing key is not valid yet")                 \
	X(KEY_EXPIRED, "key_expired", "the signing key has expired")                  \
	X(SIGNATURE, "signature", "the signature is not of this manifest")            \
	X(KEY_SCOPE, "key_scope", "the signing key is for another environment")       \
	X(EXPIRED, "expired", "the release has expired")                              \
	X(PRODUCT, "product", "another product")                                      \
	X(COMPONENT, "component", "another component")                                \
	X(OS, "os", "another operating system")                                       \
	X(ARCH, "arch", "another architecture")                                       \
	X(DISTRO, "distro", "another distribution")                                   \
	X(LIBC, "libc", "another C library, or an older one")                         \
	X(ENVIRONMENT, "environment", "another environment")                          \
	X(SECURITY_EPOCH, "security_epoch", "below the security epoch of this host")  \
	X(KNOWN_BAD, "known_bad", "rolled back on this host before")                  \
	X(SAME, "same", "installed already")                                          \
	X(DOWNGRADE, "downgrade", "older than the installed version")                 \
	X(SAME_VERSION, "same_version", "another build of the installed version")     \
	X(FROM_VERSION, "from_version", "the installed version is too old to update from")

enum hf_refusal {
#define X(id, name, text) HF_RELEASE_##id,
	HF_REFUSALS(X)
#undef X
		_HF_RELEASE_MAX,
};

const char *hf_refusal_name(enum hf_refusal refusal);
const char *hf_refusal_text(enum hf_refusal refusal);

/* What the host is; strings as in the manifest. */
struct hf_release_host {
	char product[HF_MANIFEST_WORD_MAX];
	char os[HF_MANIFEST_WORD_MAX];             /* "linux" */
	char arch[HF_MANIFEST_WORD_MAX];           /* as uname -m */
	char distro[HF_MANIFEST_WORD_MAX];         /* ID of os-release */
	char distro_version[HF_MANIFEST_WORD_MAX]; /* VERSION_ID, or "" */
	char libc[HF_MANIFEST_WORD_MAX];           /* "glibc-2.36", or "" if not known */
	char environment[HF_MANIFEST_WORD_MAX];
};

/* Who wants it: an offer of the portal, or the administrator of this host by his own word. */
enum hf_release_origin { HF_RELEASE_OFFERED, HF_RELEASE_BY_ADMIN };

struct hf_release_state {
	const char *component;
	const char *version;                       /* installed and active, or NULL: none */
	uint8_t manifest_hash[HF_SHA256_SIZE];     /* of the active one */
	uint64_t security_epoch;                   /* the floor */
	const uint8_t (*bad)[HF_RELEASE_BAD_SIZE]; /* what was rolled back, as in the twin record */
	size_t n_bad;
};

struct hf_release_question {
	const struct hf_manifest *manifest;
	const void *manifest_text;
	size_t manifest_len;
	const uint8_t *signature; /* HF_SIGNATURE_SIZE bytes */
	struct hf_keylist *keys;  /* the trusted one, or NULL */
	const struct hf_release_host *host;
	const struct hf_release_state *state;
	enum hf_release_origin origin;
	uint64_t now_s; /* wall clock */
};

/*
 * The signature comes first: nothing that a stranger's manifest says is looked at before. err has a
 * sentence with the values that do not fit (may be NULL).
 *
 * An administrator may install an older version, another build of the same one, or one that failed
 * before; neither he nor anybody else gets below the security epoch or past a signature.
 */
enum hf_refusal hf_release_verify(const struct hf_release_question *q, struct hf_err *err);

/* Its parts: who signed; whether it is of this time; whether it is for this host and newer. */
enum hf_refusal hf_release_verify_signature(const struct hf_release_question *q,
					    struct hf_err *err);
enum hf_refusal hf_release_verify_times(const struct hf_release_question *q, struct hf_err *err);
enum hf_refusal hf_release_verify_fit(const struct hf_release_question *q, struct hf_err *err);

/* A clock may be this wrong before a signed "created" in the future is the clock's fault. */
#define HF_RELEASE_CLOCK_SLACK_S (UINT64_C(24) * 3600)
