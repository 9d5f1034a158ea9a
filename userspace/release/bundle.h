/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bundle: a release as one file, with no archive format to attack.
 *
 *	0   8   "HFBUNDL1"
 *	8   4   length of the manifest, little-endian
 *	12  4   zero
 *	16  8   length of the files together, little-endian
 *	24      the manifest's text, the signature of it (64 bytes), then the files' bytes one after
 *		the other in the manifest's order, and nothing behind them
 *
 * The lengths only say where things are; they have to agree with the manifest, which is signed.
 *
 * Reading, hashing and unpacking take as long as the disk does: a program with a loop does them in a
 * child process.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "userspace/release/io.h"
#include "userspace/release/keys.h"
#include "userspace/release/manifest.h"
#include "userspace/release/verify.h"

#define HF_BUNDLE_HEADER_SIZE 24u
#define HF_BUNDLE_MAGIC       "HFBUNDL1"

/* Beside the files in an unpacked release; no file's path can be one of these. */
#define HF_RELEASE_MANIFEST  ".manifest"
#define HF_RELEASE_SIGNATURE ".signature"

struct hf_bundle;

/*
 * Reads header, manifest and signature, and believes nothing of it. fd is a regular file, borrowed
 * as long as the bundle lives. -EBADMSG with the reason, -EFBIG.
 */
int hf_bundle_open(int fd, struct hf_bundle **ret, struct hf_err *err);
struct hf_bundle *hf_bundle_free(struct hf_bundle *b);
HF_DEFINE_CLEANUP(struct hf_bundle *, hf_bundle_free);

const struct hf_manifest *hf_bundle_manifest(const struct hf_bundle *b);
const uint8_t *hf_bundle_manifest_text(const struct hf_bundle *b, size_t *ret_len);
const uint8_t *hf_bundle_signature(const struct hf_bundle *b);
/* SHA-256 of the manifest's text: the release's name among its versions. */
const uint8_t *hf_bundle_hash(const struct hf_bundle *b);

/*
 * Asks hf_release_verify(). q has all but the manifest's four fields. After HF_RELEASE_OK the
 * bundle may be unpacked.
 */
enum hf_refusal hf_bundle_verify(struct hf_bundle *b, const struct hf_release_question *q,
				 struct hf_err *err);

/* For a bundle that the caller himself built of files he trusts (those of the package), and whose
 * file nobody else can write to: it may be unpacked without a signature. */
void hf_bundle_trust_own(struct hf_bundle *b);

/* Whether the files' bytes are those of the manifest; writes nothing. -EBADMSG. */
int hf_bundle_check_files(const struct hf_bundle *b, struct hf_err *err);

/*
 * Unpacks into the empty directory `dir` of io, synced down to the directories, then reads all of it
 * back. The bundle was verified: asserted. On failure the directory has a part of it.
 */
int hf_bundle_unpack(const struct hf_bundle *b, const struct hf_io *io, int dir,
		     struct hf_err *err);

/*
 * Whether a directory is this unpacked release: each file with its mode, size and digest, and not a
 * file more. -EBADMSG names the first that is not.
 */
int hf_release_check_tree(const struct hf_io *io, int dir, const struct hf_manifest *m,
			  struct hf_err *err);

/*
 * Opens one file of an unpacked release for reading, and only if it is that of the manifest: what is
 * read or executed by this descriptor is what was checked, whatever becomes of its name. *ret_fd is
 * the caller's.
 */
int hf_release_open_file(const struct hf_io *io, int dir, const struct hf_manifest_file *f,
			 int *ret_fd, struct hf_err *err);

/*
 * Makes an unsigned bundle of the regular files below files_dir (links and other kinds are refused;
 * whoever is executable by its owner becomes 0555, the rest 0444). head has everything but the
 * files, which are filled in. out_fd is an empty regular file.
 */
int hf_bundle_build(struct hf_manifest *head, int files_dir, int out_fd, struct hf_err *err);
/* The same of one executable file, `name` in dir, which becomes `path`. */
int hf_bundle_build_one(struct hf_manifest *head, int dir, const char *name, const char *path,
			int out_fd, struct hf_err *err);
/* Copies the bundle with the key's id in its manifest and the signature. The files are checked. */
int hf_bundle_sign(int in_fd, const struct hf_secret_key *k, int out_fd, struct hf_err *err);
