/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading bundles. Silent.
 *
 * I1 nothing is written before the manifest's signature was verified: unpacking asserts it.
 * I2 what is written is what was hashed: each block is hashed on its way, and the unpacked tree is
 *    read back. The bundle's file may change under us as it likes.
 * I3 memory is bounded by the manifest's cap and one block, whatever the header says.
 */
#include "userspace/release/bundle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/str.h"

#define BLOCK ((size_t)64 * 1024)

struct hf_bundle {
	int fd; /* borrowed */
	struct hf_manifest *manifest;
	uint8_t *text;
	size_t text_len;
	uint8_t signature[HF_SIGNATURE_SIZE];
	uint8_t hash[HF_SHA256_SIZE];
	uint64_t files_at; /* where their bytes start */
	bool verified;
};

struct hf_bundle *hf_bundle_free(struct hf_bundle *b)
{
	if (b) {
		(void)hf_manifest_free(b->manifest);
		free(b->text);
	}
	free(b);
	return NULL;
}

const struct hf_manifest *hf_bundle_manifest(const struct hf_bundle *b)
{
	return b->manifest;
}

const uint8_t *hf_bundle_manifest_text(const struct hf_bundle *b, size_t *ret_len)
{
	*ret_len = b->text_len;
	return b->text;
}

const uint8_t *hf_bundle_signature(const struct hf_bundle *b)
{
	return b->signature;
}

const uint8_t *hf_bundle_hash(const struct hf_bundle *b)
{
	return b->hash;
}

static uint64_t get_le(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

/* Exactly len bytes, or it is a fault of the file. */
static int read_exactly(int fd, void *dst, size_t len, uint64_t at, const char *what,
			struct hf_err *err)
{
	ssize_t n = hf_io_real.read(&hf_io_real, fd, dst, len, at);

	if (n < 0)
		return hf_err_set(err, (int)n, "read %s: %s", what, strerror((int)-n));
	if ((size_t)n < len)
		return hf_err_set(err, -EBADMSG, "the bundle ends within its %s", what);
	return 0;
}

static int read_header(struct hf_bundle *b, uint64_t *ret_payload, struct hf_err *err)
{
	uint8_t header[HF_BUNDLE_HEADER_SIZE];
	uint64_t len;
	int r;

	r = read_exactly(b->fd, header, sizeof(header), 0, "header", err);
	if (r < 0)
		return r;
	if (memcmp(header, HF_BUNDLE_MAGIC, 8) != 0)
		return hf_err_set(err, -EBADMSG, "not a bundle, or of another format");
	len = get_le(header + 8, 4);
	if (len > HF_MANIFEST_SIZE_MAX)
		return hf_err_set(err, -EFBIG, "a manifest of %" PRIu64 " bytes, %zu are allowed",
				  len, HF_MANIFEST_SIZE_MAX);
	if (get_le(header + 12, 4) != 0)
		return hf_err_set(err, -EBADMSG, "the header has bits that are not known");
	b->text_len = (size_t)len;
	*ret_payload = get_le(header + 16, 8);
	return 0;
}

static int check_size(const struct hf_bundle *b, uint64_t payload, struct hf_err *err)
{
	struct stat st;

	if (payload != b->manifest->payload_bytes)
		return hf_err_set(err, -EBADMSG, "header and manifest differ in the files' size");
	if (fstat(b->fd, &st) < 0)
		return hf_err_set(err, -errno, "stat the bundle: %s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return hf_err_set(err, -EBADMSG, "not a regular file");
	if ((uint64_t)st.st_size < b->files_at + payload)
		return hf_err_set(err, -EBADMSG, "the bundle ends within its files");
	if ((uint64_t)st.st_size > b->files_at + payload)
		return hf_err_set(err, -EBADMSG, "there is something behind the bundle's end");
	return 0;
}

int hf_bundle_open(int fd, struct hf_bundle **ret, struct hf_err *err)
{
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = calloc(1, sizeof(*b));
	uint64_t payload = 0;
	int r;

	if (!b)
		return hf_err_set(err, -ENOMEM, "out of memory");
	b->fd = fd;
	r = read_header(b, &payload, err);
	if (r < 0)
		return r;
	b->files_at = HF_BUNDLE_HEADER_SIZE + b->text_len + HF_SIGNATURE_SIZE;
	b->text = malloc(b->text_len + 1);
	if (!b->text)
		return hf_err_set(err, -ENOMEM, "out of memory");
	r = read_exactly(fd, b->text, b->text_len, HF_BUNDLE_HEADER_SIZE, "manifest", err);
	if (r == 0)
		r = read_exactly(fd, b->signature, sizeof(b->signature),
				 HF_BUNDLE_HEADER_SIZE + b->text_len, "signature", err);
	if (r < 0)
		return r;
	r = hf_manifest_decode(b->text, b->text_len, &b->manifest, err);
	if (r < 0) {
		(void)hf_err_wrap(err, "manifest");
		return r;
	}
	if (hf_sha256(b->text, b->text_len, b->hash) < 0)
		return hf_err_set(err, -EIO, "no SHA-256");
	r = check_size(b, payload, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

enum hf_refusal hf_bundle_verify(struct hf_bundle *b, const struct hf_release_question *q,
				 struct hf_err *err)
{
	struct hf_release_question full = *q;
	enum hf_refusal refusal;

	full.manifest = b->manifest;
	full.manifest_text = b->text;
	full.manifest_len = b->text_len;
	full.signature = b->signature;
	refusal = hf_release_verify(&full, err);
	b->verified = refusal == HF_RELEASE_OK;
	return refusal;
}

void hf_bundle_trust_own(struct hf_bundle *b)
{
	b->verified = true;
}

/* ---- files ------------------------------------------------------------------------------------ */

/* Copies one file's bytes to out (-1: nowhere) and compares their digest with the manifest's. */
static int copy_file(const struct hf_bundle *b, const struct hf_manifest_file *f, uint64_t at,
		     const struct hf_io *io, int out, struct hf_err *err)
{
	_cleanup_(hf_digest_freep) struct hf_digest *d = NULL;
	_cleanup_free_ uint8_t *block = malloc(BLOCK);
	uint8_t digest[HF_DIGEST_SIZE_MAX];
	int r = block ? hf_digest_new(HF_DIGEST_SHA256, &d) : -ENOMEM;

	if (r < 0)
		return hf_err_set(err, r, "file '%s': %s", f->path, strerror(-r));
	for (uint64_t done = 0; done < f->size;) {
		size_t len = f->size - done < BLOCK ? (size_t)(f->size - done) : BLOCK;

		r = read_exactly(b->fd, block, len, at + done, "files", err);
		if (r < 0)
			return r;
		r = hf_digest_add(d, block, len);
		if (r == 0 && out >= 0)
			r = io->write(io, out, block, len, done);
		if (r < 0)
			return hf_err_set(err, r, "write '%s': %s", f->path, strerror(-r));
		done += len;
	}
	if (hf_digest_end(d, digest) < 0 || memcmp(digest, f->sha256, HF_SHA256_SIZE) != 0)
		return hf_err_set(err, -EBADMSG, "file '%s' is not the one of the manifest",
				  f->path);
	return 0;
}

int hf_bundle_check_files(const struct hf_bundle *b, struct hf_err *err)
{
	uint64_t at = b->files_at;

	for (size_t i = 0; i < b->manifest->n_files; i++) {
		int r = copy_file(b, &b->manifest->files[i], at, NULL, -1, err);

		if (r < 0)
			return r;
		at += b->manifest->files[i].size;
	}
	return 0;
}

/*
 * Walks to the directory of path, making what is missing; the caller closes it unless it is `dir`.
 * *ret_name is the last component.
 */
static int walk(const struct hf_io *io, int dir, const char *path, bool make, const char **ret_name)
{
	char component[HF_MANIFEST_PATH_MAX];
	int at = dir;

	for (;;) {
		size_t len = strcspn(path, "/");
		int next;

		if (!path[len])
			break;
		memcpy(component, path, len);
		component[len] = '\0';
		next = io->open_dir(io, at, component);
		if (next == -ENOENT && make) {
			int r = io->mkdir(io, at, component);

			next = r < 0 ? r : io->open_dir(io, at, component);
		}
		if (at != dir)
			io->close(io, at);
		if (next < 0)
			return next;
		at = next;
		path += len + 1;
	}
	*ret_name = path;
	return at;
}

static int unpack_one(const struct hf_bundle *b, const struct hf_manifest_file *f, uint64_t at,
		      const struct hf_io *io, int dir, struct hf_err *err)
{
	const char *name = NULL;
	int parent, fd, r;

	parent = walk(io, dir, f->path, true, &name);
	if (parent < 0)
		return hf_err_set(err, parent, "make the directory of '%s': %s", f->path,
				  strerror(-parent));
	fd = io->create(io, parent, name);
	if (parent != dir)
		io->close(io, parent);
	if (fd < 0)
		return hf_err_set(err, fd, "create '%s': %s", f->path, strerror(-fd));
	r = copy_file(b, f, at, io, fd, err);
	if (r == 0) {
		r = io->chmod(io, fd, f->mode);
		if (r == 0)
			r = io->sync(io, fd);
		if (r < 0)
			(void)hf_err_set(err, r, "sync '%s': %s", f->path, strerror(-r));
	}
	io->close(io, fd);
	return r;
}

/* Makes the directories immutable for people and durable, from the inside out. */
static int seal(const struct hf_io *io, int dir, unsigned depth)
{
	_cleanup_(hf_io_names_done) struct hf_io_names names = {};
	int r = io->list(io, dir, &names);

	for (size_t i = 0; i < names.n && r == 0; i++) {
		int sub = io->open_dir(io, dir, names.names[i]);

		if (sub == -ENOTDIR)
			continue;
		if (sub < 0)
			return sub;
		r = depth < HF_MANIFEST_DEPTH_MAX ? seal(io, sub, depth + 1) : -ELOOP;
		io->close(io, sub);
	}
	if (r == 0)
		r = io->chmod(io, dir, 0555);
	return r < 0 ? r : io->sync(io, dir);
}

int hf_bundle_unpack(const struct hf_bundle *b, const struct hf_io *io, int dir, struct hf_err *err)
{
	const struct hf_manifest *m = b->manifest;
	uint64_t at = b->files_at;
	int r;

	hf_assert(b->verified);
	for (size_t i = 0; i < m->n_files; i++) {
		r = unpack_one(b, &m->files[i], at, io, dir, err);
		if (r < 0)
			return r;
		at += m->files[i].size;
	}
	r = hf_io_write_file(io, dir, HF_RELEASE_MANIFEST, b->text, b->text_len, 0444);
	if (r == 0)
		r = hf_io_write_file(io, dir, HF_RELEASE_SIGNATURE, b->signature,
				     sizeof(b->signature), 0444);
	if (r == 0)
		r = seal(io, dir, 0);
	if (r < 0)
		return hf_err_set(err, r, "seal the release: %s", strerror(-r));
	r = hf_release_check_tree(io, dir, m, err);
	if (r < 0)
		(void)hf_err_wrap(err, "read back");
	return r;
}

/* ---- trees ------------------------------------------------------------------------------------ */

static int check_content(const struct hf_io *io, int fd, const struct hf_manifest_file *f)
{
	_cleanup_(hf_digest_freep) struct hf_digest *d = NULL;
	_cleanup_free_ uint8_t *block = malloc(BLOCK);
	uint8_t digest[HF_DIGEST_SIZE_MAX];
	int r = block ? hf_digest_new(HF_DIGEST_SHA256, &d) : -ENOMEM;

	for (uint64_t done = 0; r == 0 && done < f->size;) {
		size_t len = f->size - done < BLOCK ? (size_t)(f->size - done) : BLOCK;
		ssize_t n = io->read(io, fd, block, len, done);

		if (n < 0)
			return (int)n;
		if ((size_t)n < len)
			return -EBADMSG;
		r = hf_digest_add(d, block, len);
		done += len;
	}
	if (r == 0)
		r = hf_digest_end(d, digest);
	if (r < 0)
		return r;
	return memcmp(digest, f->sha256, HF_SHA256_SIZE) == 0 ? 0 : -EBADMSG;
}

int hf_release_open_file(const struct hf_io *io, int dir, const struct hf_manifest_file *f,
			 int *ret_fd, struct hf_err *err)
{
	const char *name = NULL, *what = "its content";
	int parent = walk(io, dir, f->path, false, &name), fd, r;
	struct hf_io_stat st;

	if (parent < 0)
		return hf_err_set(err, parent, "'%s': %s", f->path, strerror(-parent));
	fd = io->open_file(io, parent, name, false);
	if (parent != dir)
		io->close(io, parent);
	if (fd < 0)
		return hf_err_set(err, fd, "'%s': %s", f->path, strerror(-fd));
	r = io->stat(io, fd, &st);
	if (r == 0 && (!st.is_file || st.size != f->size)) {
		what = "its size";
		r = -EBADMSG;
	}
	if (r == 0 && st.mode != f->mode) {
		what = "its mode";
		r = -EBADMSG;
	}
	if (r == 0)
		r = check_content(io, fd, f);
	if (r == 0) {
		*ret_fd = fd;
		return 0;
	}
	io->close(io, fd);
	if (r == -EBADMSG)
		return hf_err_set(err, r, "'%s': %s is not the one of the manifest", f->path, what);
	return hf_err_set(err, r, "'%s': %s", f->path, strerror(-r));
}

static int check_one(const struct hf_io *io, int dir, const struct hf_manifest_file *f,
		     struct hf_err *err)
{
	int fd, r = hf_release_open_file(io, dir, f, &fd, err);

	if (r == 0)
		io->close(io, fd);
	return r;
}

static int count_files(const struct hf_io *io, int dir, unsigned depth, size_t *count)
{
	_cleanup_(hf_io_names_done) struct hf_io_names names = {};
	int r = io->list(io, dir, &names);

	for (size_t i = 0; i < names.n && r == 0; i++) {
		int sub = io->open_dir(io, dir, names.names[i]);

		if (sub < 0) {
			(*count)++; /* a file, or a link: the count tells */
			continue;
		}
		r = depth < HF_MANIFEST_DEPTH_MAX ? count_files(io, sub, depth + 1, count) : -ELOOP;
		io->close(io, sub);
	}
	return r;
}

int hf_release_check_tree(const struct hf_io *io, int dir, const struct hf_manifest *m,
			  struct hf_err *err)
{
	size_t count = 0;
	int r;

	for (size_t i = 0; i < m->n_files; i++) {
		r = check_one(io, dir, &m->files[i], err);
		if (r < 0)
			return r;
	}
	r = count_files(io, dir, 0, &count);
	if (r < 0)
		return hf_err_set(err, r, "list the release: %s", strerror(-r));
	if (count != m->n_files + 2) /* manifest and signature */
		return hf_err_set(err, -EBADMSG, "%zu files, %zu are in the manifest", count,
				  m->n_files + 2);
	return 0;
}
