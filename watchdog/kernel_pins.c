/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pins: where they are, that the file system is there, which are of another schema and go. Only
 * below <root>/<instance>; whatever else is in a bpffs is somebody else's.
 */
#include "kernel_pins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define BPFFS "/sys/fs/bpf"

static void closedirp(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}

int hf_pins_init(struct hf_pins *p, const char *root, const char *instance, uint64_t schema)
{
	size_t n = strspn(instance,
			  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

	/* bpffs refuses dots itself; a slash would leave our directory. */
	if (!n || instance[n])
		return -EINVAL;
	if (!hf_strf(p->instance, sizeof(p->instance), "%s/%s", root, instance) ||
	    !hf_strf(p->final, sizeof(p->final), "%s/%s/%016llx", root, instance,
		     (unsigned long long)schema) ||
	    !hf_strf(p->fresh, sizeof(p->fresh), "%s/%s/new-%016llx", root, instance,
		     (unsigned long long)schema))
		return -ENAMETOOLONG;
	return 0;
}

static bool is_bpffs(const char *path)
{
	struct statfs s;

	return statfs(path, &s) == 0 && s.f_type == BPF_FS_MAGIC;
}

/* The file system that root is on, or would be on when its missing parts are made. */
static bool on_bpffs(const char *root)
{
	char path[HF_PINS_PATH_MAX];
	char *slash;

	if (!hf_strlcpy(path, root, sizeof(path)))
		return false;
	while (access(path, F_OK) < 0) {
		slash = strrchr(path, '/');
		if (!slash || slash == path)
			return false;
		*slash = '\0';
	}
	return is_bpffs(path);
}

int hf_pins_ensure_bpffs(const char *root, bool *ret_mounted)
{
	*ret_mounted = false;
	if (on_bpffs(root))
		return 0;
	if (!hf_startswith(root, BPFFS "/"))
		return -ENOTSUP;
	if (mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return -errno;
	*ret_mounted = true;
	return 0;
}

bool hf_pins_exist(const struct hf_pins *p)
{
	return access(p->final, F_OK) == 0;
}

/* One level deep: a set holds only pins. */
static int remove_set(int dirfd, const char *name)
{
	_cleanup_(closedirp) DIR *d = NULL;
	struct dirent *e;
	int fd, r = 0;

	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		r = -errno;
		(void)hf_close(fd);
		return r;
	}
	while ((e = readdir(d))) {
		if (hf_streq(e->d_name, ".") || hf_streq(e->d_name, ".."))
			continue;
		if (unlinkat(fd, e->d_name, 0) < 0 && errno != ENOENT)
			r = -errno;
	}
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
		r = -errno;
	return r;
}

static int remove_path(const char *path)
{
	int r = remove_set(AT_FDCWD, path);

	return r == -ENOENT ? 0 : r;
}

int hf_pins_begin(const struct hf_pins *p)
{
	int r;

	r = hf_mkdir_p(AT_FDCWD, p->instance, 0700);
	if (r < 0)
		return r;
	r = remove_path(p->fresh);
	if (r < 0)
		return r;
	if (mkdir(p->fresh, 0700) < 0)
		return -errno;
	return 0;
}

int hf_pins_finish(const struct hf_pins *p)
{
	if (rename(p->fresh, p->final) < 0)
		return -errno;
	return 0;
}

void hf_pins_abort(const struct hf_pins *p)
{
	(void)remove_path(p->fresh); /* what stays is removed by the next begin */
}

int hf_pins_remove_others(const struct hf_pins *p)
{
	const char *keep = strrchr(p->final, '/') + 1;
	_cleanup_(closedirp) DIR *d = opendir(p->instance);
	struct dirent *e;
	int r, n = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((e = readdir(d))) {
		if (hf_streq(e->d_name, ".") || hf_streq(e->d_name, "..") ||
		    hf_streq(e->d_name, keep))
			continue;
		r = remove_set(dirfd(d), e->d_name);
		if (r < 0)
			return r;
		n++;
	}
	return n;
}

int hf_pins_remove_all(const struct hf_pins *p)
{
	int r = hf_pins_remove_others(p);

	if (r < 0)
		return r;
	r = remove_path(p->final);
	if (r < 0)
		return r;
	if (rmdir(p->instance) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}
