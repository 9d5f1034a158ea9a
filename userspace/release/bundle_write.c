/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and signing bundles, on the release engineer's machine. Silent.
 *
 * I1 the same files and the same head make the same bundle, byte for byte.
 * I2 only bytes whose digests are in the manifest are signed: the source may change under us, and
 *    that is an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "userspace/release/bundle.h"

#define BLOCK ((size_t)64 * 1024)

static void put_le(uint8_t *p, unsigned n, uint64_t v)
{
	for (unsigned i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

/* Header, manifest and signature at the start of out_fd. */
static int write_front(int out_fd, const struct hf_buf *text, uint64_t payload,
		       const uint8_t sig[static HF_SIGNATURE_SIZE])
{
	uint8_t header[HF_BUNDLE_HEADER_SIZE] = HF_BUNDLE_MAGIC;
	int r;

	put_le(header + 8, 4, text->len);
	put_le(header + 12, 4, 0);
	put_le(header + 16, 8, payload);
	r = hf_pwrite_full(out_fd, header, sizeof(header), 0);
	if (r == 0)
		r = hf_pwrite_full(out_fd, text->data, text->len, sizeof(header));
	if (r == 0)
		r = hf_pwrite_full(out_fd, sig, HF_SIGNATURE_SIZE,
				   (off_t)(sizeof(header) + text->len));
	return r;
}

/* Copies len bytes (or, with len UINT64_MAX, all); sha256 and length of what was copied. */
static int copy_hashed(int in_fd, uint64_t in_at, uint64_t len, int out_fd, uint64_t out_at,
		       uint8_t ret_sha256[static HF_SHA256_SIZE], uint64_t *ret_len)
{
	_cleanup_(hf_digest_freep) struct hf_digest *d = NULL;
	_cleanup_free_ uint8_t *block = malloc(BLOCK);
	uint64_t done = 0;
	int r = block ? hf_digest_new(HF_DIGEST_SHA256, &d) : -ENOMEM;

	while (r == 0 && done < len) {
		size_t want = len - done < BLOCK ? (size_t)(len - done) : BLOCK;
		ssize_t n = hf_io_real.read(&hf_io_real, in_fd, block, want, in_at + done);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		r = hf_digest_add(d, block, (size_t)n);
		if (r == 0 && out_fd >= 0)
			r = hf_pwrite_full(out_fd, block, (size_t)n, (off_t)(out_at + done));
		done += (uint64_t)n;
	}
	if (r == 0)
		r = hf_digest_end(d, ret_sha256);
	*ret_len = done;
	return r;
}

/* ---- build ------------------------------------------------------------------------------------ */

static int collect(struct hf_manifest *m, int dir, const char *prefix, unsigned depth,
		   struct hf_err *err);

static int add_file(struct hf_manifest *m, int dir, const char *name, const char *path,
		    const struct stat *st, struct hf_err *err)
{
	struct hf_manifest_file *f = &m->files[m->n_files];
	_cleanup_close_ int fd = -1;
	int r;

	if (m->n_files == HF_MANIFEST_FILES_MAX)
		return hf_err_set(err, -E2BIG, "more than %u files", HF_MANIFEST_FILES_MAX);
	if (st->st_mode & 07000)
		return hf_err_set(err, -EINVAL, "'%s' has a setuid, setgid or sticky bit", path);
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return hf_err_set(err, -errno, "open '%s': %s", path, strerror(errno));
	(void)hf_strlcpy(f->path, path, sizeof(f->path)); /* path_fault() said that it fits */
	f->mode = st->st_mode & 0100 ? 0555 : 0444;
	r = copy_hashed(fd, 0, HF_MANIFEST_FILE_MAX + 1, -1, 0, f->sha256, &f->size);
	if (r < 0)
		return hf_err_set(err, r, "read '%s': %s", path, strerror(-r));
	m->n_files++;
	return 0;
}

static int add_entry(struct hf_manifest *m, int dir, const char *prefix, const char *name,
		     unsigned depth, struct hf_err *err)
{
	_cleanup_free_ char *path = hf_asprintf("%s%s%s", prefix, *prefix ? "/" : "", name);
	const char *fault;
	struct stat st;
	int sub, r;

	if (!path)
		return hf_err_set(err, -ENOMEM, "out of memory");
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return hf_err_set(err, -errno, "stat '%s': %s", path, strerror(errno));
	fault = hf_manifest_path_fault(path);
	if (fault)
		return hf_err_set(err, -EINVAL, "'%s': %s", path, fault);
	if (S_ISREG(st.st_mode))
		return add_file(m, dir, name, path, &st, err);
	if (!S_ISDIR(st.st_mode))
		return hf_err_set(err, -EINVAL, "'%s' is neither a regular file nor a directory",
				  path);
	sub = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub < 0)
		return hf_err_set(err, -errno, "open '%s': %s", path, strerror(errno));
	r = collect(m, sub, path, depth + 1, err);
	(void)hf_close(sub);
	return r;
}

static int collect(struct hf_manifest *m, int dir, const char *prefix, unsigned depth,
		   struct hf_err *err)
{
	_cleanup_(hf_io_names_done) struct hf_io_names names = {};
	int r = depth <= HF_MANIFEST_DEPTH_MAX ? hf_io_real.list(&hf_io_real, dir, &names) : -ELOOP;

	if (r < 0)
		return hf_err_set(err, r, "list '%s': %s", *prefix ? prefix : ".", strerror(-r));
	for (size_t i = 0; i < names.n && r == 0; i++)
		r = add_entry(m, dir, prefix, names.names[i], depth, err);
	return r;
}

/* Opens a path of the manifest, component by component, as it was collected. */
static int open_collected(int dir, const char *path)
{
	char component[HF_MANIFEST_PATH_MAX];
	_cleanup_close_ int at = fcntl(dir, F_DUPFD_CLOEXEC, 0);
	int fd;

	if (at < 0)
		return -errno;
	for (size_t len; path[len = strcspn(path, "/")]; path += len + 1) {
		memcpy(component, path, len);
		component[len] = '\0';
		fd = openat(at, component, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		(void)hf_close(at);
		at = fd;
	}
	fd = openat(at, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* name: of the one file, when there is no more than one; NULL: each has its path as name. */
static int copy_collected(const struct hf_manifest *m, int files_dir, const char *name, int out_fd,
			  uint64_t at, struct hf_err *err)
{
	for (size_t i = 0; i < m->n_files; i++) {
		const struct hf_manifest_file *f = &m->files[i];
		_cleanup_close_ int fd = open_collected(files_dir, name ? name : f->path);
		uint8_t digest[HF_DIGEST_SIZE_MAX];
		uint64_t len;
		int r;

		if (fd < 0)
			return hf_err_set(err, fd, "open '%s': %s", f->path, strerror(-fd));
		r = copy_hashed(fd, 0, f->size + 1, out_fd, at, digest, &len);
		if (r < 0)
			return hf_err_set(err, r, "copy '%s': %s", f->path, strerror(-r));
		if (len != f->size || memcmp(digest, f->sha256, HF_SHA256_SIZE) != 0)
			return hf_err_set(err, -EBUSY, "'%s' was changed while it was read",
					  f->path);
		at += f->size;
	}
	return 0;
}

static int begin(struct hf_manifest *head, struct hf_err *err)
{
	free(head->files);
	head->n_files = 0;
	memset(head->key_id, 0, sizeof(head->key_id));
	head->files = calloc(HF_MANIFEST_FILES_MAX, sizeof(*head->files));
	return head->files ? 0 : hf_err_set(err, -ENOMEM, "out of memory");
}

static int finish(struct hf_manifest *head, int files_dir, const char *name, int out_fd,
		  struct hf_err *err)
{
	static const uint8_t no_signature[HF_SIGNATURE_SIZE];
	struct hf_buf text = {};
	int r;

	hf_manifest_sort(head);
	head->payload_bytes = 0;
	for (size_t i = 0; i < head->n_files; i++)
		head->payload_bytes += head->files[i].size;
	r = hf_manifest_encode(head, &text, err);
	if (r == 0) {
		r = write_front(out_fd, &text, head->payload_bytes, no_signature);
		if (r < 0)
			(void)hf_err_set(err, r, "write: %s", strerror(-r));
	}
	if (r == 0)
		r = copy_collected(head, files_dir, name, out_fd,
				   HF_BUNDLE_HEADER_SIZE + text.len + HF_SIGNATURE_SIZE, err);
	hf_buf_done(&text);
	return r;
}

int hf_bundle_build(struct hf_manifest *head, int files_dir, int out_fd, struct hf_err *err)
{
	int r = begin(head, err);

	if (r == 0)
		r = collect(head, files_dir, "", 0, err);
	return r < 0 ? r : finish(head, files_dir, NULL, out_fd, err);
}

int hf_bundle_build_one(struct hf_manifest *head, int dir, const char *name, const char *path,
			int out_fd, struct hf_err *err)
{
	struct stat st;
	int r = begin(head, err);

	if (r < 0)
		return r;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return hf_err_set(err, -errno, "stat '%s': %s", name, strerror(errno));
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0100))
		return hf_err_set(err, -EINVAL, "'%s' is no executable file", name);
	r = add_file(head, dir, name, path, &st, err);
	return r < 0 ? r : finish(head, dir, name, out_fd, err);
}

/* ---- sign ------------------------------------------------------------------------------------- */

static int copy_payload(const struct hf_manifest *m, int in_fd, int out_fd, uint64_t at,
			struct hf_err *err)
{
	for (size_t i = 0; i < m->n_files; i++) {
		const struct hf_manifest_file *f = &m->files[i];
		uint8_t digest[HF_DIGEST_SIZE_MAX];
		uint64_t len;
		int r = copy_hashed(in_fd, at, f->size, out_fd, at, digest, &len);

		if (r < 0)
			return hf_err_set(err, r, "copy '%s': %s", f->path, strerror(-r));
		if (len != f->size || memcmp(digest, f->sha256, HF_SHA256_SIZE) != 0)
			return hf_err_set(err, -EBADMSG, "file '%s' is not the one of the manifest",
					  f->path);
		at += f->size;
	}
	return 0;
}

int hf_bundle_sign(int in_fd, const struct hf_secret_key *k, int out_fd, struct hf_err *err)
{
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	_cleanup_(hf_manifest_freep) struct hf_manifest *m = NULL;
	uint8_t sig[HF_SIGNATURE_SIZE];
	struct hf_buf text = {};
	const uint8_t *old;
	size_t old_len;
	int r;

	r = hf_bundle_open(in_fd, &b, err);
	if (r < 0)
		return r;
	old = hf_bundle_manifest_text(b, &old_len);
	r = hf_manifest_decode(old, old_len, &m, err);
	if (r < 0)
		return r;
	/* An id has one length: everything behind it stays where it was. */
	memcpy(m->key_id, k->pub.id, sizeof(m->key_id));
	r = hf_manifest_encode(m, &text, err);
	if (r == 0 && hf_key_sign(k, text.data, text.len, sig) < 0)
		r = hf_err_set(err, -EIO, "cannot sign");
	if (r == 0) {
		r = write_front(out_fd, &text, m->payload_bytes, sig);
		if (r < 0)
			(void)hf_err_set(err, r, "write: %s", strerror(-r));
	}
	if (r == 0)
		r = copy_payload(m, in_fd, out_fd,
				 HF_BUNDLE_HEADER_SIZE + text.len + HF_SIGNATURE_SIZE, err);
	hf_buf_done(&text);
	return r;
}
