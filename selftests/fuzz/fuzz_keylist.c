/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of keys from a stranger, and minisign's files. Beyond not crashing: what decodes, encodes
 * to the same bytes, and a list without a root's real signature is trusted by nobody.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "userspace/release/keylist.h"
#include "userspace/release/minisign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void keylist(const uint8_t *data, size_t size)
{
	struct hf_keylist *l = NULL;
	struct hf_buf again = {};
	struct hf_err err = {};

	if (hf_keylist_decode(data, size, &l, &err) < 0) {
		hf_assert(!l && err.code < 0 && err.msg[0]);
		return;
	}
	hf_assert(hf_keylist_encode(l, true, &again, &err) == 0);
	hf_assert(again.len == size && memcmp(again.data, data, size) == 0);
	(void)hf_keylist_judge(l, l, &err); /* it may have signed itself: the seeds did */
	hf_buf_done(&again);
	free(l);
}

static void minisign(const char *text, size_t size)
{
	struct hf_secret_key secret;
	struct hf_public_key public;

	(void)hf_minisign_parse_public(text, size, &public, NULL); /* refused or not */
	/* Without a passphrase: scrypt is slow, and not ours. */
	if (hf_minisign_parse_secret(text, size, NULL, &secret, NULL) == 0) {
		struct hf_secret_key back;

		hf_assert(hf_key_from_seed(secret.pub.id, secret.seed, &back) == 0);
		hf_assert(memcmp(&back, &secret, sizeof(back)) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	keylist(data, size);
	minisign((const char *)data, size);
	return 0;
}
