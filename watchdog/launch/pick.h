/* SPDX-License-Identifier: Apache-2.0 */
/* Which watchdog is to run: that of the twin records of `watchdog`, or the package's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/paths.h"
#include "userspace/release/version.h"

struct hf_pick {
	int fd;                       /* verified and open for reading; owned by the caller */
	char version[HF_VERSION_MAX]; /* "": the package's */
	bool trial;                   /* its word that it ended as it should is not taken */
};

/*
 * Takes a try of a release on trial, durably, before it returns it; counts starts, and goes back to
 * the version before when the present one is started again and again. Never fails while the package's
 * own program can be opened: -errno then. packaged: the directory of this program.
 */
int hf_pick_watchdog(const struct hf_paths *paths, const char *packaged, struct hf_pick *ret);
/* Executing the picked one failed: it counts against it. */
void hf_pick_failed(const struct hf_paths *paths, const struct hf_pick *pick, const char *why);
/* A release that ended orderly has removed the mark of its start; one of the package has none. */
bool hf_pick_ended_orderly(const struct hf_paths *paths, const struct hf_pick *pick);
/* Somebody else ended it: its starts do not count. */
void hf_pick_forgive(const struct hf_paths *paths);
/*
 * How far the trial is: a number that changes while the candidate counts healthy time (or that is over);
 * 0 when nothing is on trial.
 */
uint64_t hf_pick_trial_progress(const struct hf_paths *paths);
/* The package's own, whatever the records say. */
int hf_pick_packaged(const char *packaged, struct hf_pick *ret);
