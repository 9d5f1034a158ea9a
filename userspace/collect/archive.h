/* SPDX-License-Identifier: Apache-2.0 */
/* A gzipped tar (POSIX ustar) written to a descriptor. The only user of zlib here. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct hf_archive {
	int fd; /* borrowed */
	uint64_t written, max;
	void *stream; /* z_stream */
	int64_t mtime;
};

/* max: of the compressed bytes. */
int hf_archive_begin(struct hf_archive *a, int fd, uint64_t max, int64_t mtime);
/* name: at most 100 bytes. -EFBIG: this one would not fit for sure; nothing of it was written. */
int hf_archive_add(struct hf_archive *a, const char *name, const void *data, size_t len);
/* Ends the archive: it is whole only then. */
int hf_archive_end(struct hf_archive *a);
void hf_archive_done(struct hf_archive *a);
