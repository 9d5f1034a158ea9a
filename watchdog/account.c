/* SPDX-License-Identifier: Apache-2.0 */
/* Names and numbers of users. */
#include "watchdog/account.h"

#include <errno.h>
#include <pwd.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

static int refuse_root(const char *user, uid_t uid, gid_t gid, struct hf_err *err)
{
	if (uid != 0 && gid != 0)
		return 0;
	return hf_err_set(err, -EINVAL, "user '%s' has root's %s: a component never runs as root",
			  user, uid == 0 ? "uid" : "group");
}

int hf_account_resolve(const char *user, const char *key, uid_t *ret_uid, gid_t *ret_gid,
		       struct hf_err *err)
{
	char buf[4096];
	struct passwd pw, *found = NULL;
	uid_t uid;
	gid_t gid;
	uint32_t number;
	int r;

	if (hf_parse_u32(user, &number) == 0) {
		/* -1 means "leave it" to setresuid(). */
		if (number == UINT32_MAX)
			return hf_err_set(err, -EINVAL, "user '%s' is out of range", user);
		uid = gid = number;
	} else {
		r = getpwnam_r(user, &pw, buf, sizeof(buf), &found);
		if (!found)
			return hf_err_set(err, r ? -r : -ENOENT, "there is no user '%s' (%s)", user,
					  key);
		uid = pw.pw_uid;
		gid = pw.pw_gid;
	}
	r = refuse_root(user, uid, gid, err);
	if (r < 0)
		return r;
	*ret_uid = uid;
	*ret_gid = gid;
	return 0;
}
