/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's file operations, and what is made of any table's. Silent. */
#include "userspace/release/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

/* Deeper than any release: someone else made it. */
#define DEPTH_MAX 16

static int real_open_dir(const struct hf_io *io, int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	(void)io;
	return fd < 0 ? -errno : fd;
}

static int real_open_file(const struct hf_io *io, int dir, const char *name, bool write)
{
	/* O_NONBLOCK: a FIFO of that name would hold us for ever. */
	int fd = openat(dir, name,
			(write ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY |
				O_CLOEXEC);

	(void)io;
	return fd < 0 ? -errno : fd;
}

static void real_close(const struct hf_io *io, int fd)
{
	(void)io;
	(void)hf_close(fd);
}

static ssize_t real_read(const struct hf_io *io, int fd, void *buf, size_t len, uint64_t at)
{
	uint8_t *p = buf;
	size_t done = 0;

	(void)io;
	while (done < len) {
		ssize_t n = pread(fd, p + done, len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int real_stat(const struct hf_io *io, int fd, struct hf_io_stat *ret)
{
	struct stat st;

	(void)io;
	if (fstat(fd, &st) < 0)
		return -errno;
	*ret = (struct hf_io_stat){.is_file = S_ISREG(st.st_mode),
				   .is_dir = S_ISDIR(st.st_mode),
				   .mode = st.st_mode & 07777,
				   .size = (uint64_t)st.st_size};
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_name(struct hf_io_names *n, const char *name)
{
	if (n->n == HF_IO_NAMES_MAX)
		return -E2BIG;
	n->names[n->n] = strdup(name);
	if (!n->names[n->n])
		return -ENOMEM;
	n->n++;
	return 0;
}

static void close_stream(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}

static int real_list(const struct hf_io *io, int dir, struct hf_io_names *ret)
{
	_cleanup_(hf_io_names_done) struct hf_io_names found = {};
	_cleanup_(close_stream) DIR *d = NULL;
	struct dirent *e;
	int fd, r;

	(void)io;
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		r = -errno;
		(void)hf_close(fd);
		return r;
	}
	found.names = calloc(HF_IO_NAMES_MAX, sizeof(*found.names));
	if (!found.names)
		return -ENOMEM;
	for (errno = 0; (e = readdir(d)); errno = 0) {
		if (hf_streq(e->d_name, ".") || hf_streq(e->d_name, ".."))
			continue;
		r = add_name(&found, e->d_name);
		if (r < 0)
			return r;
	}
	if (errno != 0)
		return -errno;
	qsort(found.names, found.n, sizeof(*found.names), compare_names);
	*ret = found;
	found = (struct hf_io_names){};
	return 0;
}

static int real_create(const struct hf_io *io, int dir, const char *name)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	(void)io;
	return fd < 0 ? -errno : fd;
}

static int real_write(const struct hf_io *io, int fd, const void *buf, size_t len, uint64_t at)
{
	(void)io;
	return hf_pwrite_full(fd, buf, len, (off_t)at);
}

static int real_sync(const struct hf_io *io, int fd)
{
	(void)io;
	return fsync(fd) < 0 ? -errno : 0;
}

static int real_chmod(const struct hf_io *io, int fd, uint32_t mode)
{
	(void)io;
	return fchmod(fd, mode) < 0 ? -errno : 0;
}

static int real_mkdir(const struct hf_io *io, int dir, const char *name)
{
	(void)io;
	return mkdirat(dir, name, 0700) < 0 ? -errno : 0;
}

static int real_rename(const struct hf_io *io, int from_dir, const char *from, int to_dir,
		       const char *to)
{
	(void)io;
	return renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

static int real_remove(const struct hf_io *io, int dir, const char *name, bool is_dir)
{
	(void)io;
	return unlinkat(dir, name, is_dir ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}

const struct hf_io hf_io_real = {
	.open_dir = real_open_dir,
	.open_file = real_open_file,
	.close = real_close,
	.read = real_read,
	.stat = real_stat,
	.list = real_list,
	.create = real_create,
	.write = real_write,
	.sync = real_sync,
	.chmod = real_chmod,
	.mkdir = real_mkdir,
	.rename = real_rename,
	.remove = real_remove,
};

void hf_io_names_done(struct hf_io_names *n)
{
	for (size_t i = 0; i < n->n; i++)
		free(n->names[i]);
	free(n->names);
	*n = (struct hf_io_names){};
}

static int remove_below(const struct hf_io *io, int dir, const char *name, unsigned depth)
{
	_cleanup_(hf_io_names_done) struct hf_io_names names = {};
	int fd, r;

	r = io->remove(io, dir, name, false);
	if (r != -EISDIR && r != -EPERM)
		return r == -ENOENT ? 0 : r;
	if (depth > DEPTH_MAX)
		return -ELOOP;
	fd = io->open_dir(io, dir, name);
	if (fd < 0)
		return fd;
	/* A release's directories have no write permission; root does not mind, others do. */
	r = io->chmod(io, fd, 0700);
	if (r == 0)
		r = io->list(io, fd, &names);
	for (size_t i = 0; i < names.n && r == 0; i++)
		r = remove_below(io, fd, names.names[i], depth + 1);
	io->close(io, fd);
	return r < 0 ? r : io->remove(io, dir, name, true);
}

int hf_io_remove_tree(const struct hf_io *io, int dir, const char *name)
{
	return remove_below(io, dir, name, 0);
}

int hf_io_write_file(const struct hf_io *io, int dir, const char *name, const void *data,
		     size_t len, uint32_t mode)
{
	int fd = io->create(io, dir, name), r;

	if (fd < 0)
		return fd;
	r = io->write(io, fd, data, len, 0);
	if (r == 0)
		r = io->chmod(io, fd, mode);
	if (r == 0)
		r = io->sync(io, fd);
	io->close(io, fd);
	return r;
}

int hf_io_read_file(const struct hf_io *io, int dir, const char *name, size_t max, uint8_t **ret,
		    size_t *ret_len)
{
	_cleanup_free_ uint8_t *buf = NULL;
	int fd = io->open_file(io, dir, name, false), r;
	struct hf_io_stat st;
	ssize_t n = 0;

	if (fd < 0)
		return fd;
	r = io->stat(io, fd, &st);
	if (r == 0 && !st.is_file)
		r = -EINVAL;
	if (r == 0 && st.size > max)
		r = -EFBIG;
	if (r == 0) {
		buf = malloc(st.size + 1);
		r = buf ? 0 : -ENOMEM;
	}
	if (r == 0)
		n = io->read(io, fd, buf, st.size, 0);
	io->close(io, fd);
	if (r < 0 || n < 0)
		return r < 0 ? r : (int)n;
	*ret = TAKE_PTR(buf);
	*ret_len = (size_t)n;
	return 0;
}
