/* SPDX-License-Identifier: Apache-2.0 */
/* The user that a component runs as. */
#pragma once

#include <sys/types.h>

#include "base/err.h"

/*
 * user is an account's name or a number (development: no account is needed then, and the group has
 * the same number). Never root. Asks the system's name service, so not on a restart's path.
 */
int hf_account_resolve(const char *user, uid_t *ret_uid, gid_t *ret_gid, struct hf_err *err);
