/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bundle from a stranger, in a file of memory. Beyond not crashing: what opens has a manifest whose
 * sizes are the file's, nobody's key verifies it, and its files are only good if they are hashed to
 * what the manifest says.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/fd.h"
#include "userspace/release/bundle.h"
#include "userspace/release/keylist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct hf_release_host host;
	static const struct hf_release_state state = {.component = "agent"};
	static struct hf_keylist nobody = {.expires_s = 10};
	const struct hf_release_question q = {
		.keys = &nobody, .host = &host, .state = &state, .now_s = 5};
	static int fd = -1;
	struct hf_bundle *b = NULL;
	struct hf_err err = {};

	if (fd < 0)
		fd = memfd_create("bundle", MFD_CLOEXEC);
	hf_assert(fd >= 0 && ftruncate(fd, 0) == 0);
	hf_assert(hf_pwrite_full(fd, data, size, 0) == 0);
	if (hf_bundle_open(fd, &b, &err) < 0) {
		hf_assert(!b && err.code < 0 && err.msg[0]);
		return 0;
	}
	hf_assert(hf_bundle_manifest(b)->payload_bytes < size);
	hf_assert(hf_bundle_verify(b, &q, &err) != HF_RELEASE_OK);
	(void)hf_bundle_check_files(b, &err); /* good or not */
	(void)hf_bundle_free(b);
	return 0;
}
