/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities of a file, as its extended attribute security.capability has them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hf_filecap {
	uint64_t permitted, inheritable;
	bool effective;
	uint32_t rootid; /* of the user namespace they are for; 0: ours */
};

/* -EBADMSG unless it is a sound attribute of version 1, 2 or 3. */
int hf_filecap_parse(const void *attribute, size_t len, struct hf_filecap *ret);

/* "cap_net_raw,cap_net_admin+ep"; a capability that has no name here is its number. */
void hf_filecap_text(const struct hf_filecap *c, char *dst, size_t size);

/* Do they make whoever runs the file as good as root? */
bool hf_filecap_is_root(const struct hf_filecap *c);
