/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest of a release: what a signature vouches for. Text, as text.h has it:
 *
 *	holdfast-manifest 1
 *	product holdfast
 *	component agent
 *	version 1.4.0
 *	os linux
 *	arch x86_64
 *	distro debian-12            any | ID | ID-VERSION, as in os-release
 *	libc glibc-2.36             any | FAMILY-VERSION: the oldest that will do
 *	environment prod            any | a word
 *	security-epoch 3
 *	min-from-version 1.2.0      the oldest version that may be updated to this one
 *	created 2026-01-02T03:04:05Z
 *	expires 2027-01-02T03:04:05Z
 *	key 0123456789ABCDEF        the release key that signs; zeros: not signed yet
 *	file 0555 1234 SHA256 bin/holdfast-agent
 *	...
 *
 * Files are regular ones, sorted by the bytes of their paths, so that there is no duplicate. A path
 * is relative; its components are words of [A-Za-z0-9._+@~-] that start with a letter or digit (so
 * there is no "..", no hidden file, nothing that looks like an option), and no path passes through
 * another file. Modes are 0444 and 0555: no setuid, no writer.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"
#include "userspace/release/version.h"

/* What a stranger's manifest may cost us before its signature is looked at. */
#define HF_MANIFEST_SIZE_MAX    ((size_t)256 * 1024)
#define HF_MANIFEST_FILES_MAX   1024u
#define HF_MANIFEST_PATH_MAX    192 /* with NUL */
#define HF_MANIFEST_DEPTH_MAX   8u
#define HF_MANIFEST_FILE_MAX    (UINT64_C(256) << 20)
#define HF_MANIFEST_PAYLOAD_MAX (UINT64_C(512) << 20)
#define HF_MANIFEST_WORD_MAX    32 /* with NUL */
#define HF_MANIFEST_EPOCH_MAX   UINT64_C(1000000000)
#define HF_MANIFEST_ANY         "any"

#define HF_SHA256_SIZE          32
#define HF_KEY_ID_SIZE          8

struct hf_manifest_file {
	char path[HF_MANIFEST_PATH_MAX];
	uint32_t mode;
	uint64_t size;
	uint8_t sha256[HF_SHA256_SIZE];
};

struct hf_manifest {
	char product[HF_MANIFEST_WORD_MAX];
	char component[HF_MANIFEST_WORD_MAX];
	char version[HF_VERSION_MAX];
	char os[HF_MANIFEST_WORD_MAX];
	char arch[HF_MANIFEST_WORD_MAX];
	char distro[HF_MANIFEST_WORD_MAX];
	char libc[HF_MANIFEST_WORD_MAX];
	char environment[HF_MANIFEST_WORD_MAX];
	uint64_t security_epoch;
	char min_from_version[HF_VERSION_MAX];
	uint64_t created_s, expires_s; /* wall clock, seconds since 1970 */
	uint8_t key_id[HF_KEY_ID_SIZE];
	struct hf_manifest_file *files; /* owned */
	size_t n_files;
	uint64_t payload_bytes; /* sum of the sizes; set by decode and check */
};

/* *ret is owned by the caller. -EBADMSG with line and reason, -EFBIG, -ENOMEM. */
int hf_manifest_decode(const void *text, size_t len, struct hf_manifest **ret, struct hf_err *err);
struct hf_manifest *hf_manifest_free(struct hf_manifest *m);
HF_DEFINE_CLEANUP(struct hf_manifest *, hf_manifest_free);

/* Appends the text. Refuses what decode would refuse: -EINVAL with the reason. */
int hf_manifest_encode(const struct hf_manifest *m, struct hf_buf *out, struct hf_err *err);

/* Why this cannot be a release's path ("an empty component"), or NULL if it can. */
const char *hf_manifest_path_fault(const char *path);

/* Sorts files as the text wants them. */
void hf_manifest_sort(struct hf_manifest *m);

/* A key's id as minisign(1) shows it: 16 upper-case hex digits, the last byte first. */
#define HF_KEY_ID_TEXT_SIZE (2 * HF_KEY_ID_SIZE + 1)
void hf_key_id_format(const uint8_t id[static HF_KEY_ID_SIZE],
		      char dst[static HF_KEY_ID_TEXT_SIZE]);
int hf_key_id_parse(const char *s, uint8_t ret[static HF_KEY_ID_SIZE]);
