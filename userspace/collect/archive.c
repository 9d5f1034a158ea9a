/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar through deflate. Small on purpose: a few files of text from memory, no links, no long names.
 */
#include "userspace/collect/archive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "base/fd.h"
#include "base/str.h"

#define BLOCK 512u
/* deflate's worst case, headers, padding and the end of the archive. */
#define OVERHEAD(n) ((n) / 1000 + 4096)

/* IEEE Std 1003.1, ustar interchange format. */
struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
	char magic[6], version[2], owner[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is one block");

static int deflate_out(struct hf_archive *a, const void *data, size_t len, int flush)
{
	z_stream *z = a->stream;
	unsigned char out[16384];

	z->next_in = (unsigned char *)data;
	z->avail_in = (unsigned)len;
	do {
		int r;

		z->next_out = out;
		z->avail_out = sizeof(out);
		if (deflate(z, flush) == Z_STREAM_ERROR)
			return -EIO;
		r = hf_write_full(a->fd, out, sizeof(out) - z->avail_out);
		if (r < 0)
			return r;
		a->written += sizeof(out) - z->avail_out;
	} while (z->avail_out == 0 || z->avail_in > 0);
	return 0;
}

int hf_archive_begin(struct hf_archive *a, int fd, uint64_t max, int64_t mtime)
{
	z_stream *z = calloc(1, sizeof(*z));

	if (!z)
		return -ENOMEM;
	/* 16: a gzip header instead of zlib's. */
	if (deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) !=
	    Z_OK) {
		free(z);
		return -ENOMEM;
	}
	*a = (struct hf_archive){.fd = fd, .max = max, .stream = z, .mtime = mtime};
	return 0;
}

static void fill_header(struct header *h, const char *name, size_t len, int64_t mtime)
{
	unsigned sum = 0;

	*h = (struct header){.type = '0'};
	(void)hf_strlcpy(h->name, name, sizeof(h->name));
	memcpy(h->mode, "0000644", 8);
	memcpy(h->uid, "0000000", 8);
	memcpy(h->gid, "0000000", 8);
	(void)snprintf(h->size, sizeof(h->size), "%011zo", len);
	(void)snprintf(h->mtime, sizeof(h->mtime), "%011llo", (unsigned long long)mtime);
	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((const unsigned char *)h)[i];
	(void)snprintf(h->checksum, 7, "%06o", sum & 0777777);
}

int hf_archive_add(struct hf_archive *a, const char *name, const void *data, size_t len)
{
	static const char zero[BLOCK];
	struct header h;
	int r;

	if (strlen(name) >= sizeof(h.name))
		return -ENAMETOOLONG;
	/* As if it did not become smaller at all: the end must always fit. */
	if (a->written + len + OVERHEAD(len) > a->max)
		return -EFBIG;
	fill_header(&h, name, len, a->mtime);
	r = deflate_out(a, &h, sizeof(h), Z_NO_FLUSH);
	if (r == 0)
		r = deflate_out(a, data, len, Z_NO_FLUSH);
	if (r == 0 && len % BLOCK)
		r = deflate_out(a, zero, BLOCK - len % BLOCK, Z_NO_FLUSH);
	/* So that written is right for the next. */
	return r < 0 ? r : deflate_out(a, NULL, 0, Z_SYNC_FLUSH);
}

int hf_archive_end(struct hf_archive *a)
{
	static const char zero[2 * BLOCK];

	return deflate_out(a, zero, sizeof(zero), Z_FINISH);
}

void hf_archive_done(struct hf_archive *a)
{
	if (a->stream)
		(void)deflateEnd(a->stream);
	free(a->stream);
	a->stream = NULL;
}
