/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I1. A name is looked at and entered relative to its directory's descriptor, never by its path:
 *     what somebody renames or replaces by a link meanwhile leads nowhere else.
 * I2. Depth, and with it descriptors and stack, is bounded; so is a directory's memory, by the
 *     limit of the process: what does not fit is counted as unreadable.
 */
#include "userspace/scan/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* Real trees end at some thirty; a descriptor each. */
#define DEPTH_MAX 200
#define PATH_SIZE 4096
/* Mounted file systems of one host; containers have hundreds, which are left out. */
#define DEVICES_MAX 512

struct walk {
	struct hf_scan *s;
	hf_walk_fn fn;
	void *userdata;
	char path[PATH_SIZE];
	dev_t devices[DEVICES_MAX];
	size_t devices_n;
	dev_t root_device;
};

struct names {
	char **items;
	size_t n, cap;
};

static void names_done(struct names *l)
{
	while (l->n > 0)
		free(l->items[--l->n]);
	free(l->items);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int hf_path_compare(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	if (*a == *b)
		return 0;
	if (*a == 0 || *b == 0)
		return *a == 0 ? -1 : 1;
	if (*a == '/' || *b == '/')
		return *a == '/' ? -1 : 1;
	return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
}

/*
 * What lives in memory of the kernel, on another host, or in the layers of containers (whose files
 * are found where the layers are).
 */
static bool is_foreign(const struct walk *w, int dir, dev_t device)
{
	static const uint32_t types[] = {
		PROC_SUPER_MAGIC,
		SYSFS_MAGIC,
		CGROUP_SUPER_MAGIC,
		CGROUP2_SUPER_MAGIC,
		DEVPTS_SUPER_MAGIC,
		DEBUGFS_MAGIC,
		TRACEFS_MAGIC,
		SECURITYFS_MAGIC,
		BPF_FS_MAGIC,
		PSTOREFS_MAGIC,
		EFIVARFS_MAGIC,
		BINFMTFS_MAGIC,
		NSFS_MAGIC,
		HUGETLBFS_MAGIC,
		SELINUX_MAGIC,
		AUTOFS_SUPER_MAGIC,
		NFS_SUPER_MAGIC,
		SMB_SUPER_MAGIC,
		CIFS_SUPER_MAGIC,
		SMB2_SUPER_MAGIC,
		CODA_SUPER_MAGIC,
		AFS_SUPER_MAGIC,
		V9FS_MAGIC,
		FUSE_SUPER_MAGIC,
		CEPH_SUPER_MAGIC,
		0x19800202 /* mqueue */,
		0x62656570 /* configfs */,
		0x65735543 /* fusectl */,
		0x67596969 /* rpc_pipefs */,
		0x0bd00bd0 /* lustre */,
		0x01161970 /* gfs2 */,
		0x7461636f /* ocfs2 */,
	};
	struct statfs fs;

	if (fstatfs(dir, &fs) < 0)
		return true;
	if (device == w->root_device)
		return false; /* whatever it is: it is what was asked for */
	for (size_t i = 0; i < HF_ARRAY_SIZE(types); i++)
		if ((uint32_t)fs.f_type == types[i])
			return true;
	return (uint32_t)fs.f_type == OVERLAYFS_SUPER_MAGIC;
}

/* First time on this file system? */
static bool enter_device(struct walk *w, dev_t device)
{
	for (size_t i = 0; i < w->devices_n; i++)
		if (w->devices[i] == device)
			return false;
	if (w->devices_n == DEVICES_MAX)
		return false;
	w->devices[w->devices_n++] = device;
	return true;
}

static bool is_mount_root(int dir)
{
	struct statx x;

	return statx(dir, "", AT_EMPTY_PATH, STATX_INO, &x) == 0 &&
	       x.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT &&
	       x.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

static void unreadable(struct walk *w)
{
	w->s->state[w->s->current].unreadable++;
}

static bool list(DIR *d, struct names *l)
{
	for (struct dirent *e; (e = readdir(d));) {
		if (hf_streq(e->d_name, ".") || hf_streq(e->d_name, ".."))
			continue;
		if (l->n == l->cap) {
			size_t cap = l->cap ? 2 * l->cap : 32;
			char **items = realloc(l->items, cap * sizeof(*items));

			if (!items)
				return false;
			l->items = items;
			l->cap = cap;
		}
		l->items[l->n] = strdup(e->d_name);
		if (!l->items[l->n])
			return false;
		l->n++;
	}
	if (l->n)
		qsort(l->items, l->n, sizeof(*l->items), by_name);
	return true;
}

static int visit(struct walk *w, int dir, const char *name, size_t len, unsigned depth,
		 dev_t parent_device);

/* Consumes fd. */
static int walk_dir(struct walk *w, int fd, size_t len, unsigned depth, dev_t device)
{
	struct names names = {};
	DIR *d = fdopendir(fd);
	int r = 0;

	if (!d) {
		(void)hf_close(fd);
		unreadable(w);
		return 0;
	}
	if (!list(d, &names))
		unreadable(w); /* what there was memory for is still looked at */
	if (len == 1)
		len = 0; /* "/" and its names share the slash */
	for (size_t i = 0; i < names.n && r == 0; i++) {
		size_t n = strlen(names.items[i]);

		if (len + 1 + n >= PATH_SIZE) {
			unreadable(w);
			continue;
		}
		w->path[len] = '/';
		memcpy(w->path + len + 1, names.items[i], n + 1);
		r = visit(w, dirfd(d), names.items[i], len + 1 + n, depth, device);
	}
	w->path[len ? len : 1] = 0;
	names_done(&names);
	(void)closedir(d);
	return r;
}

static int enter(struct walk *w, int dir, const char *name, const struct stat *seen, size_t len,
		 unsigned depth, dev_t parent_device)
{
	_cleanup_close_ int fd =
		openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || depth == DEPTH_MAX || fstat(fd, &st) < 0) {
		if (fd >= 0 || errno != ENOENT)
			unreadable(w);
		return 0;
	}
	/* Replaced meanwhile, or something was mounted on it: judged as what it is now. */
	if (st.st_dev != parent_device || st.st_dev != seen->st_dev || is_mount_root(fd)) {
		if (is_foreign(w, fd, st.st_dev) || (depth > 0 && !enter_device(w, st.st_dev)))
			return 0;
	}
	return walk_dir(w, TAKE_FD(fd), len, depth + 1, st.st_dev);
}

static int visit(struct walk *w, int dir, const char *name, size_t len, unsigned depth,
		 dev_t parent_device)
{
	struct hf_walk_entry e = {.path = w->path, .dir = dir, .name = name};
	int r;

	if (hf_scan_excluded(w->s, w->path))
		return 0;
	if (fstatat(dir, name, &e.st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0) {
		if (errno != ENOENT)
			unreadable(w);
		return 0;
	}
	r = hf_scan_tick(w->s, 1, w->path);
	if (r == 0)
		r = w->fn(w->userdata, &e);
	if (r == 0 && S_ISDIR(e.st.st_mode))
		r = enter(w, dir, name, &e.st, len, depth, parent_device);
	return r;
}

int hf_walk(struct hf_scan *s, const char *root, hf_walk_fn fn, void *userdata)
{
	_cleanup_free_ struct walk *w = calloc(1, sizeof(*w));
	_cleanup_close_ int parent = -1;
	char dir[PATH_SIZE], *slash;
	struct stat st;
	int r;

	if (!w)
		return -ENOMEM;
	if (!hf_strlcpy(dir, root, sizeof(dir)))
		return -ENAMETOOLONG;
	w->s = s;
	w->fn = fn;
	w->userdata = userdata;
	(void)hf_strlcpy(w->path, root, sizeof(w->path));
	/* The root itself may be reached through links (/bin), its last name is not followed. */
	r = hf_scan_lstat(s, root, &st);
	if (r == 0 && S_ISLNK(st.st_mode) && hf_streq(root, "/"))
		r = -ELOOP;
	if (r < 0) {
		if (r != -ENOENT)
			unreadable(w);
		return 0;
	}
	w->root_device = st.st_dev;
	(void)enter_device(w, st.st_dev);
	slash = strrchr(dir, '/');
	if (slash == dir)
		slash[1] = 0;
	else
		*slash = 0;
	parent = hf_scan_open(s, dir, O_RDONLY | O_DIRECTORY);
	if (parent < 0) {
		unreadable(w);
		return 0;
	}
	slash = strrchr(w->path, '/');
	return visit(w, parent, slash[1] ? slash + 1 : ".", strlen(w->path), 0, st.st_dev);
}

int hf_walk_open(const struct hf_walk_entry *e)
{
	_cleanup_close_ int fd =
		openat(e->dir, e->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_dev != e->st.st_dev || st.st_ino != e->st.st_ino)
		return -ESTALE;
	return TAKE_FD(fd);
}
