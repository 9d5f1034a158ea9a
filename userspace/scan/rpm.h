/* SPDX-License-Identifier: Apache-2.0 */
/* What rpm knows of installed files, read with the host's own librpm. The only user of that. */
#pragma once

#include "userspace/scan/digest.h"

#define HF_RPM_NAME_MAX 256u

/* A file that a package installed. All borrowed, for the time of the call. */
struct hf_rpm_file {
	const char *path;
	const char *package; /* name, version, release, architecture */
	const char *digest;  /* hex; NULL: not to be compared */
	enum hf_digest_kind kind;
	bool config;       /* meant to be changed by the administrator */
	bool may_miss;     /* by the word of the package */
	bool is_doc;       /* documentation */
	bool unknown_kind; /* there is a digest, of a kind that nobody here can make */
};

/* Is there a database of rpm below the scan's root? */
bool hf_rpm_exists(const struct hf_scan *s);

/*
 * Calls fn for each regular file of each installed package, until it returns below 0. The database
 * is opened read-only and nothing of rpm's configuration is read, as that may run programs. -ENOENT:
 * there is no database; and with why, in words: -ENODATA: it holds no package; -ELIBACC: no librpm;
 * -EIO: librpm cannot read it; -EUCLEAN: it read some of it.
 */
int hf_rpm_each(struct hf_scan *s,
		int (*fn)(struct hf_scan *s, const struct hf_rpm_file *f, void *arg), void *arg,
		char why[static HF_SCAN_NOTE_MAX]);
