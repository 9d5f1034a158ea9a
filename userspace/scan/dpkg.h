/* SPDX-License-Identifier: Apache-2.0 */
/* What dpkg knows of installed files. Everything here reads text that may hold anything. */
#pragma once

#include "userspace/scan/scan.h"

#define HF_DPKG_NAME_MAX 128u
#define HF_MD5_HEX       32u

/*
 * The next stanza of the text of /var/lib/dpkg/status at *p, which is advanced. False: no more. A
 * stanza without a name is passed over.
 */
struct hf_dpkg_package {
	char name[HF_DPKG_NAME_MAX];
	bool installed; /* wholly */
	bool gone;      /* nothing of it but perhaps its configuration */
};

bool hf_dpkg_status_next(const char **p, struct hf_dpkg_package *ret);

/*
 * A line of a .md5sums file, without its newline: digest and absolute path ("/" in front added into
 * dst). False: not such a line.
 */
bool hf_dpkg_md5_line(const char *line, char md5[static HF_MD5_HEX + 1], char *path, size_t size);

/* Where the file of a package really is, by the text of /var/lib/dpkg/diversions. */
const char *hf_dpkg_diverted(char *const *lines, size_t n, const char *path, const char *package);

/* ---- looking files up ---------------------------------------------------------------------------- */

struct hf_dpkg_query {
	const char *path; /* borrowed */
	char package[HF_DPKG_NAME_MAX];
	char md5[HF_MD5_HEX + 1]; /* "" when unknown, configuration files for example */
};

/*
 * Fills in what is known; package stays "" where nothing is. queries are sorted by this. -ENOENT:
 * there is no dpkg database.
 */
int hf_dpkg_find(struct hf_scan *s, struct hf_dpkg_query *queries, size_t n);

/* Calls fn for each file /var/lib/dpkg/info/<package>.<ending>; progress goes from 0 to 1. */
int hf_dpkg_each(struct hf_scan *s, const char *ending,
		 int (*fn)(struct hf_scan *s, const char *package, char *text, void *arg),
		 void *arg);
