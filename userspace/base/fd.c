/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors and whole files.
 *
 * I1 after hf_write_file_atomic() the path has the old or the new content, whole, whatever was
 *    killed or unplugged when; a crash leaves at most one `.NAME.tmp`, which the next write reuses.
 * I2 two writers of one path take turns (flock on the temporary file), so that neither renames
 *    the other's half-written file.
 * I3 a path in a directory that another user may write is never followed through a link.
 */
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

int hf_close(int fd)
{
	int saved = errno;

	/* EINTR included, Linux has released the descriptor; closing again would hit another's. */
	if (fd >= 0)
		(void)close(fd);
	errno = saved;
	return -1;
}

void hf_closep(int *fd)
{
	*fd = hf_close(*fd);
}

int hf_write_full(int fd, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int hf_pwrite_full(int fd, const void *buf, size_t len, off_t off)
{
	const uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t hf_read_full(int fd, void *buf, size_t len)
{
	uint8_t *p = buf;
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, p + done, len - done);

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

int hf_read_file(int dirfd, const char *path, size_t max, char **ret_buf, size_t *ret_len)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *buf = NULL;
	size_t cap, len = 0;
	struct stat st;

	/* O_NONBLOCK: opening a FIFO that has no writer would wait for ever. */
	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size > 0 && (uint64_t)st.st_size > max)
		return -EFBIG;

	/* The size is a hint: /proc says 0, and a file may grow while we read. */
	cap = st.st_size > 0 ? (size_t)st.st_size + 1 : 4096;
	for (;;) {
		char *grown;
		ssize_t n;

		if (cap > max)
			cap = max + 1;
		grown = realloc(buf, cap + 1);
		if (!grown)
			return -ENOMEM;
		buf = grown;
		n = hf_read_full(fd, buf + len, cap - len);
		if (n < 0)
			return (int)n;
		len += (size_t)n;
		if (len > max)
			return -EFBIG;
		if (len < cap)
			break;
		cap *= 2;
	}
	buf[len] = '\0';
	*ret_buf = TAKE_PTR(buf);
	if (ret_len)
		*ret_len = len;
	return 0;
}

/* Splits path: opens its directory and points *ret_name at the last component. */
static int open_parent(int dirfd, const char *path, const char **ret_name)
{
	_cleanup_free_ char *dir = NULL;
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	int fd;

	if (!*name || hf_streq(name, ".") || hf_streq(name, ".."))
		return -EINVAL;
	if (!slash)
		dir = strdup(".");
	else
		dir = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	if (!dir)
		return -ENOMEM;
	fd = openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_name = name;
	return fd;
}

/*
 * Opens and locks the temporary file. What lies there may be another writer's (wait for it), a
 * crash's (reuse it) or a trap (a link to a file of ours: remove the name).
 */
static int open_locked_temp(int parent, const char *temp)
{
	/* Each turn needs another process to rename or plant a file in between. */
	for (int tries = 0; tries < 64; tries++) {
		_cleanup_close_ int fd = -1;
		struct stat ours, named;

		fd = openat(parent, temp,
			    O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK,
			    0600);
		if (fd < 0 && errno != ELOOP && errno != ENXIO)
			return -errno;
		if (fd < 0 || fstat(fd, &ours) < 0 || !S_ISREG(ours.st_mode) || ours.st_nlink > 1 ||
		    ours.st_uid != geteuid()) {
			if (unlinkat(parent, temp, 0) < 0 && errno != ENOENT)
				return -errno;
			continue;
		}
		while (flock(fd, LOCK_EX) < 0)
			if (errno != EINTR)
				return -errno;
		if (fstatat(parent, temp, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
		    named.st_ino == ours.st_ino && named.st_dev == ours.st_dev)
			return TAKE_FD(fd);
	}
	return -EBUSY;
}

int hf_write_file_atomic(int dirfd, const char *path, const void *buf, size_t len, mode_t mode)
{
	_cleanup_close_ int parent = -1, fd = -1;
	_cleanup_free_ char *temp = NULL;
	const char *name = NULL;
	int r;

	parent = open_parent(dirfd, path, &name);
	if (parent < 0)
		return parent;
	temp = hf_asprintf(".%s.tmp", name);
	if (!temp)
		return -ENOMEM;
	fd = open_locked_temp(parent, temp);
	if (fd < 0)
		return fd;

	/* The mode comes before the content, which may be a secret. */
	if (ftruncate(fd, 0) < 0 || fchmod(fd, mode) < 0)
		r = -errno;
	else
		r = hf_write_full(fd, buf, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(parent, temp, parent, name) < 0)
		r = -errno;
	if (r < 0) {
		/* The old content stands; a leftover would be reused anyway. */
		(void)unlinkat(parent, temp, 0);
		return r;
	}
	return fsync(parent) < 0 ? -errno : 0;
}

static int make_one_dir(int parent, const char *name, mode_t mode)
{
	_cleanup_close_ int fd = -1;
	bool made;

	made = mkdirat(parent, name, mode) == 0;
	if (!made && errno != EEXIST)
		return -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (made ? O_NOFOLLOW : 0));
	if (fd < 0 && errno == EACCES && !made)
		/* Search permission is all that passing through needs. */
		fd = openat(parent, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* mkdir() obeys the umask, our callers' modes are meant exactly. */
	if (made && fchmod(fd, mode) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int hf_mkdir_p(int dirfd, const char *path, mode_t mode)
{
	_cleanup_close_ int at = -1;
	_cleanup_free_ char *copy = NULL;
	char *p, *next;

	if (!*path)
		return -EINVAL;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	at = openat(dirfd, *copy == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return -errno;
	for (p = strtok_r(copy, "/", &next); p; p = strtok_r(NULL, "/", &next)) {
		int fd = make_one_dir(at, p, mode);

		if (fd < 0)
			return fd;
		(void)hf_close(at);
		at = fd;
	}
	return 0;
}

int hf_sync_dir(int dirfd, const char *path)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

int hf_set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int hf_count_open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int n = 0;

	if (!d)
		return -errno;
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	(void)closedir(d);
	return n - 1; /* the directory's own descriptor */
}
