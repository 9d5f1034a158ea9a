/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of files that may change while they are read. The only user of libcrypto here. */
#pragma once

#include "userspace/scan/scan.h"

enum hf_digest_kind {
	HF_DIGEST_MD5,
	HF_DIGEST_SHA256,
	HF_DIGEST_SHA384,
	HF_DIGEST_SHA512,
	_HF_DIGEST_MAX,
};

#define HF_DIGEST_HEX_MAX 129u

/* "md5", "sha256", ... */
const char *hf_digest_name(enum hf_digest_kind kind);

/*
 * Hex digest of the open regular file. -EAGAIN: it changed while it was read, twice; -ECANCELED and
 * -EPIPE as hf_scan_tick(); -ENOTSUP: this libcrypto has no such digest (MD5 under FIPS rules).
 */
int hf_digest_file(struct hf_scan *s, int fd, enum hf_digest_kind kind, const char *path,
		   char ret[static HF_DIGEST_HEX_MAX]);

/* SHA-256 of bytes in memory. */
int hf_digest_text(const void *data, size_t len, char ret[static HF_DIGEST_HEX_MAX]);
