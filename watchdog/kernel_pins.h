/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pin directories of kernel_load.c: plain file system work, no libbpf. Silent: -errno.
 *
 * <root>/<instance>/<schema>/ holds one complete set of pins. It is made as new-<schema> and
 * renamed when complete, so a loader killed half-way leaves nothing that could be re-opened.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define HF_PINS_PATH_MAX 256

struct hf_pins {
	char instance[HF_PINS_PATH_MAX]; /* <root>/<instance> */
	char final[HF_PINS_PATH_MAX];    /* …/<schema> */
	char fresh[HF_PINS_PATH_MAX];    /* …/new-<schema> */
};

/* -EINVAL: an instance name that is none. -ENAMETOOLONG. */
int hf_pins_init(struct hf_pins *p, const char *root, const char *instance, uint64_t schema);
/* Mounts a bpf file system on /sys/fs/bpf if root is below it and nobody did; *ret_mounted says so.
 * -ENOTSUP: root is on no bpf file system. */
int hf_pins_ensure_bpffs(const char *root, bool *ret_mounted);
/* True if a complete set is there. */
bool hf_pins_exist(const struct hf_pins *p);
/* Makes an empty fresh directory, 0700 as all above it. */
int hf_pins_begin(const struct hf_pins *p);
/* fresh becomes final. */
int hf_pins_finish(const struct hf_pins *p);
/* Removes fresh and what is in it. */
void hf_pins_abort(const struct hf_pins *p);
/* Removes all sets of this instance but final; returns how many there were. */
int hf_pins_remove_others(const struct hf_pins *p);
/* Removes final too, and the instance's directory. */
int hf_pins_remove_all(const struct hf_pins *p);
