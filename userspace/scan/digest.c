/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a file once, in pieces between which a scan can be slowed down and cancelled. */
#include "userspace/scan/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "base/cleanup.h"

#define PIECE 65536

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static int feed(struct hf_scan *s, int fd, EVP_MD_CTX *c, const char *path, uint64_t size)
{
	static unsigned char buf[PIECE];

	for (uint64_t at = 0;;) {
		ssize_t n = pread(fd, buf, sizeof(buf), (off_t)at);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		if (EVP_DigestUpdate(c, buf, (size_t)n) != 1)
			return -EIO;
		at += (uint64_t)n;
		s->bytes += (uint64_t)n;
		/* One that grows as fast as we read has no end. */
		if (at > size)
			return 0;
		r = hf_scan_tick(s, 1, path);
		if (r < 0)
			return r;
	}
}

static const char *const names[] = {
	[HF_DIGEST_MD5] = "md5",
	[HF_DIGEST_SHA256] = "sha256",
	[HF_DIGEST_SHA384] = "sha384",
	[HF_DIGEST_SHA512] = "sha512",
};
_Static_assert(HF_ARRAY_SIZE(names) == _HF_DIGEST_MAX, "every digest has a name");

const char *hf_digest_name(enum hf_digest_kind kind)
{
	return names[kind];
}

static const EVP_MD *algorithm(enum hf_digest_kind kind)
{
	static EVP_MD *fetched[_HF_DIGEST_MAX];

	/* Once: looking it up costs more than a small file. It lives as long as we do. */
	if (!fetched[kind])
		fetched[kind] = EVP_MD_fetch(NULL, names[kind], NULL);
	return fetched[kind];
}

static int digest_once(struct hf_scan *s, int fd, const EVP_MD *md, const char *path,
		       unsigned char *digest, unsigned *len)
{
	static EVP_MD_CTX *context; /* likewise */
	struct stat before, after;
	int r;

	if (!context)
		context = EVP_MD_CTX_new();
	if (!context || EVP_DigestInit_ex(context, md, NULL) != 1)
		return -ENOMEM;
	if (fstat(fd, &before) < 0)
		return -errno;
	r = feed(s, fd, context, path, (uint64_t)before.st_size);
	if (r < 0)
		return r;
	if (EVP_DigestFinal_ex(context, digest, len) != 1)
		return -EIO;
	if (fstat(fd, &after) < 0)
		return -errno;
	return same(&before, &after) ? 0 : -EAGAIN;
}

int hf_digest_file(struct hf_scan *s, int fd, enum hf_digest_kind kind, const char *path,
		   char ret[static HF_DIGEST_HEX_MAX])
{
	const EVP_MD *md = algorithm(kind);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	int r;

	if (!md)
		return -ENOTSUP;
	r = digest_once(s, fd, md, path, digest, &len);
	if (r == -EAGAIN)
		r = digest_once(s, fd, md, path, digest, &len);
	if (r < 0)
		return r;
	s->files++;
	hf_hex_encode(ret, digest, len);
	return 0;
}

int hf_digest_text(const void *data, size_t len, char ret[static HF_DIGEST_HEX_MAX])
{
	const EVP_MD *md = algorithm(HF_DIGEST_SHA256);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (!md || EVP_Digest(data, len, digest, &n, md, NULL) != 1)
		return -EIO;
	hf_hex_encode(ret, digest, n);
	return 0;
}
