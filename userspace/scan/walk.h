/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking a tree: sorted, by descriptors, never through a symbolic link, on local file systems only.
 * Each file system is entered once, however often it is mounted.
 */
#pragma once

#include "userspace/scan/scan.h"

struct hf_walk_entry {
	const char *path; /* absolute */
	int dir;          /* its directory */
	const char *name; /* in it */
	struct stat st;   /* not followed */
};

/* < 0 ends the walk with that. */
typedef int (*hf_walk_fn)(void *userdata, const struct hf_walk_entry *e);

/*
 * Calls fn for root and everything below, a directory before what is in it, in the order of their
 * names. What cannot be read, is too deep or too long is counted in the check's state. 0, or what
 * ended it; a root that is not there is no fault.
 */
int hf_walk(struct hf_scan *s, const char *root, hf_walk_fn fn, void *userdata);

/* The order of a walk: as strcmp, with '/' before every other byte. */
int hf_path_compare(const char *a, const char *b);

/*
 * Opens an entry's file for reading; it is what the walk saw, else -ESTALE. -ELOOP: a link by now.
 */
int hf_walk_open(const struct hf_walk_entry *e);
