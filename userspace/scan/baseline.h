/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The accepted state of watched files as text, in the order of a walk, so that it is compared and
 * made in one pass with the memory of two lines:
 *
 *	holdfast-baseline 1
 *	watch <path>                                      one per watched path, in order
 *	<mode> <uid> <gid> <size> <digest> <path>         mode with its type, in octal
 *	end <number of files>
 *
 * digest is the sha256 of a file's content or of a link's target, "-" for what has none. In paths
 * \ooo stands for a backslash and for every byte that is not printable ASCII.
 */
#pragma once

#include <stdio.h>

#include "userspace/scan/scan.h"

#define HF_BASELINE_LINE_MAX (4 * 4096 + 256)

struct hf_baseline_entry {
	uint32_t mode, uid, gid;
	uint64_t size;
	char digest[65];
	char path[4096];
};

/* -EBADMSG: not such a line (without its newline). */
int hf_baseline_parse(const char *line, struct hf_baseline_entry *ret);
/* The line with its newline, for dst of HF_BASELINE_LINE_MAX. */
void hf_baseline_format(const struct hf_baseline_entry *e, char *dst);

/* Escapes a path into dst (4 * 4096 + 1 bytes), and back; false: bad escape or too long. */
void hf_baseline_escape(const char *path, char *dst);
bool hf_baseline_unescape(const char *text, char dst[static 4096]);

struct hf_baseline_reader {
	FILE *file; /* owned */
	char *watched[HF_SCAN_PATHS_MAX];
	size_t watched_n;
	struct hf_baseline_entry entry; /* the present one, while has is true */
	bool has;
	uint64_t entries;
	char *line;
	char last[4096]; /* path before: the order is checked */
};

/*
 * Opens fd (borrowed, read from its beginning) and reads the first entry. -EBADMSG: it is no
 * baseline, is cut off, or its order is wrong; so does _next().
 */
int hf_baseline_open(struct hf_baseline_reader *b, int fd);
int hf_baseline_next(struct hf_baseline_reader *b);
void hf_baseline_close(struct hf_baseline_reader *b);
