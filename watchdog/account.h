/* SPDX-License-Identifier: Apache-2.0 */
/* The user that a component or worker runs as. */
#pragma once

#include <sys/types.h>

#include "base/err.h"

/*
 * user is an account's name or a number (development: no account is needed then, and the group has
 * the same number). Never root. Asks the system's name service, so not on a restart's path. key is
 * the configuration's that named it, for the message.
 */
int hf_account_resolve(const char *user, const char *key, uid_t *ret_uid, gid_t *ret_gid,
		       struct hf_err *err);
