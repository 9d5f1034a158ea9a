/* SPDX-License-Identifier: Apache-2.0 */
/* Which watchdog is to run: that of the twin records of `watchdog`, or the package's. */
#pragma once

#include "holdfast/paths.h"
#include "userspace/release/version.h"

struct hf_pick {
	int fd;                       /* verified and open for reading; owned by the caller */
	char version[HF_VERSION_MAX]; /* "": the package's */
};

/*
 * Takes a try of a release on trial, durably, before it returns it; counts starts, and goes back to
 * the version before when the present one is started again and again. Never fails while the package's
 * own program can be opened: -errno then. packaged: the directory of this program.
 */
int hf_pick_watchdog(const struct hf_paths *paths, const char *packaged, struct hf_pick *ret);
/* Executing the picked one failed: it counts against it. */
void hf_pick_failed(const struct hf_paths *paths, const struct hf_pick *pick, const char *why);
/* The package's own, whatever the records say. */
int hf_pick_packaged(const char *packaged, struct hf_pick *ret);
