/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ground an instance stands on: its directories, and the lock that makes it one.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "holdfast/paths.h"

/*
 * Makes what is missing and mends owners and modes: state and run directories. The agent's state
 * directory is given to uid:gid; it may also make its sockets in the run directory (sticky, so that
 * it cannot touch ours). uid 0: the user is not known, its directories stay root's.
 */
int hf_instance_make_dirs(const struct hf_paths *p, uid_t uid, gid_t gid, struct hf_err *err);

/*
 * Takes the lock and writes the pid file. -EBUSY with err when another watchdog runs. A watchdog
 * that nobody looks after any more (its holdfast-launch was killed) is asked to hand over (SIGUSR1,
 * SIGKILL after three seconds); its components go on and are adopted.
 */
int hf_instance_lock(const struct hf_paths *p, int *ret_fd, struct hf_err *err);
