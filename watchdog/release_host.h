/* SPDX-License-Identifier: Apache-2.0 */
/* What this host is, in the words of a manifest; and who may vouch for what is installed here. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "userspace/release/keylist.h"
#include "userspace/release/verify.h"

/* Never fails: what cannot be known is "", and then only "any" fits. */
void hf_release_host(const char *environment, struct hf_release_host *ret);
/* text of os-release(5) into its ID and VERSION_ID. */
void hf_release_host_distro(const char *text, size_t len, struct hf_release_host *ret);

/*
 * The list of keys that is trusted: the newest that was accepted (`keys` in the store's directory), or
 * that of the package or administrator (etc_path) where it is newer and the accepted one vouches for
 * it. *ret is owned by the caller: free(). HF_RELEASE_NO_KEYS: there is none; other refusals: the one
 * that is there cannot be trusted, err says why. Reads two small files.
 */
enum hf_refusal hf_release_keys_load(int releases, const char *etc_path, struct hf_keylist **ret,
				     struct hf_err *err);
/*
 * Takes a newer list, if the trusted one vouches for it. HF_RELEASE_OK: it is the trusted one now (or
 * was already), on disk. -errno in err->code when it is none, or could not be written.
 */
enum hf_refusal hf_release_keys_take(int releases, const char *etc_path, const void *text,
				     size_t len, struct hf_err *err);
