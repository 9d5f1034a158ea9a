/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key files and detached signatures as minisign(1) has them, so that a release can be checked with a
 * tool that is not ours, and a key made by either serves both.
 *
 *	public key   "untrusted comment: …" LF base64("Ed" id[8] point[32]) LF
 *	secret key   "untrusted comment: …" LF base64("Ed" kdf[2] "B2" salt[32] ops[8] mem[8]
 *	             (id[8] seed[32] point[32] checksum[32]) xor keystream) LF
 *	signature    "untrusted comment: …" LF base64("ED" id[8] sig[64]) LF
 *	             "trusted comment: …" LF base64(global[64]) LF
 *
 * kdf is "Sc" (scrypt of the passphrase makes the keystream) or two NULs (no passphrase, no
 * keystream). sig signs the file's BLAKE2b-512, global signs sig and the trusted comment. The older
 * "Ed" signatures, of the file itself, are refused: they need the whole file in memory.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "userspace/release/keys.h"

#define HF_MINISIGN_FILE_MAX    ((size_t)16 * 1024)
#define HF_MINISIGN_COMMENT_MAX 512 /* with NUL */

/* What guessing a passphrase costs: libsodium's parameters. */
enum hf_minisign_kdf {
	HF_MINISIGN_KDF_SENSITIVE,   /* 1 GiB of memory, a few seconds: for keys that matter */
	HF_MINISIGN_KDF_INTERACTIVE, /* 16 MiB: for tests */
	_HF_MINISIGN_KDF_MAX,
};

/* Appends the file's text. The comment is one line of printable text: -EINVAL. */
int hf_minisign_format_public(const struct hf_public_key *k, const char *comment,
			      struct hf_buf *out);
/* The same as one word, what `minisign -P` takes. */
int hf_minisign_format_public_word(const struct hf_public_key *k, struct hf_buf *out);
/* passphrase NULL: not encrypted. */
int hf_minisign_format_secret(const struct hf_secret_key *k, const char *comment,
			      const char *passphrase, enum hf_minisign_kdf kdf, struct hf_buf *out);

/* -EBADMSG with the reason. */
int hf_minisign_parse_public(const char *text, size_t len, struct hf_public_key *ret,
			     struct hf_err *err);
/* -ENOKEY: it needs a passphrase and there is none; -EKEYREJECTED: it is the wrong one. */
int hf_minisign_parse_secret(const char *text, size_t len, const char *passphrase,
			     struct hf_secret_key *ret, struct hf_err *err);

/* Signs what can be read from fd, from its start; appends the signature file's text. */
int hf_minisign_sign(const struct hf_secret_key *k, int fd, const char *trusted_comment,
		     struct hf_buf *out, struct hf_err *err);
/*
 * Checks a signature file's text against fd. ret_comment gets the trusted comment, after it was
 * verified. -EBADMSG: no such signature; -EKEYREJECTED: of another key, or of another file.
 */
int hf_minisign_verify(const struct hf_public_key *k, int fd, const char *text, size_t len,
		       char ret_comment[static HF_MINISIGN_COMMENT_MAX], struct hf_err *err);
