/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file tree as a component sees it: all of the host's, read-only, but for its own directories.
 * Runs in the child, between clone and exec, of a process with threads: see spawn.c, I1.
 *
 * I1. A slave of the host's tree, not private: what is unmounted there goes away here as well, so
 *     that a component never keeps a disk busy. What is mounted there later is as writable here as
 *     the host made it, for a user that is not root.
 * I2. Before Linux 5.12 each mount is changed by its path. A path on another machine's file system
 *     may never answer, and the watchdog waits for us: those stay as they are.
 * I3. A directory that the host itself has read-only stays so.
 */
#include "watchdog/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

/* linux/mount.h and sys/mount.h do not go together in every libc; these are the kernel's ABI. */
#define SETATTR_RDONLY 0x1u
#define AT_SUBTREE     0x8000u
#define STATFS_RDONLY  0x1
/* A line is longer only by the options of its file system, which come last. */
#define LINE_MAX_BYTES 16384

struct setattr {
	uint64_t set, clear, propagation, userns_fd;
};

static int set_attributes(const char *path, const struct setattr *a)
{
	return syscall(SYS_mount_setattr, AT_FDCWD, path, AT_SUBTREE, a, sizeof(*a)) < 0 ? -errno
											 : 0;
}

/* Each writable directory becomes a mount of its own, which can differ from what is around it. */
static int split_off(const struct hf_confine *c, bool writable[static HF_CONFINE_WRITABLE_MAX])
{
	struct statfs fs;

	if (syscall(SYS_unshare, CLONE_NEWNS) < 0)
		return -errno;
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return -errno;
	for (size_t i = 0; i < c->writables; i++) {
		const char *path = c->writable[i];

		if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0)
			return -errno;
		writable[i] = statfs(path, &fs) == 0 && !(fs.f_flags & STATFS_RDONLY); /* I3 */
	}
	return 0;
}

int hf_confine_view(const struct hf_confine *c)
{
	static const struct setattr off = {.set = SETATTR_RDONLY}, on = {.clear = SETATTR_RDONLY};
	bool writable[HF_CONFINE_WRITABLE_MAX] = {};
	int r;

	/* Asked for nothing, a kernel that knows the call does nothing; nothing is made before. */
	r = set_attributes("/", &(struct setattr){});
	if (r == -ENOSYS || r == -EPERM)
		return hf_confine_view_one_by_one(c);
	r = split_off(c, writable);
	if (r == 0)
		r = set_attributes("/", &off);
	for (size_t i = 0; i < c->writables && r == 0; i++)
		if (writable[i])
			r = set_attributes(c->writable[i], &on);
	return r;
}

/* ---- one by one ---------------------------------------------------------------------------------- */

/* Ends the field at the next blank; NULL at the end of the line. */
static char *next_field(char **at)
{
	char *field = *at, *end;

	if (!field || !*field)
		return NULL;
	end = strchr(field, ' ');
	if (end)
		*end = 0;
	*at = end ? end + 1 : NULL;
	return field;
}

/* The kernel writes blanks, line ends and backslashes as \ooo. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = 0;
}

static unsigned long option_flags(const char *options)
{
	static const struct {
		const char *name;
		unsigned long flag;
	} known[] = {
		{"ro", MS_RDONLY},
		{"nosuid", MS_NOSUID},
		{"nodev", MS_NODEV},
		{"noexec", MS_NOEXEC},
	};
	unsigned long flags = 0;

	while (options && *options) {
		size_t n = strcspn(options, ",");

		for (size_t i = 0; i < HF_ARRAY_SIZE(known); i++)
			if (strlen(known[i].name) == n && memcmp(options, known[i].name, n) == 0)
				flags |= known[i].flag;
		options += n;
		options += *options == ',';
	}
	return flags;
}

static bool is_remote(const char *type)
{
	static const char *const kinds[] = {"nfs",  "cifs",   "smb",     "fuse",     "9p",
					    "ceph", "afs",    "coda",    "autofs",   "gfs",
					    "ocfs", "lustre", "gluster", "virtiofs", "orangefs"};

	for (size_t i = 0; i < HF_ARRAY_SIZE(kinds); i++)
		if (hf_startswith(type, kinds[i]))
			return true;
	return false;
}

/* ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [TAG:VALUE …] - TYPE SOURCE SUPER-OPTIONS */
int hf_mount_line_parse(char *line, struct hf_mount_line *ret)
{
	char *at = line, *field, *path = NULL, *options = NULL;

	for (int i = 0; i < 6; i++) {
		field = next_field(&at);
		if (!field)
			return -EINVAL;
		path = i == 4 ? field : path;
		options = i == 5 ? field : options;
	}
	do
		field = next_field(&at);
	while (field && !hf_streq(field, "-"));
	field = next_field(&at);
	if (!field || *path != '/')
		return -EINVAL;
	unescape(path);
	*ret = (struct hf_mount_line){path, option_flags(options), is_remote(field)};
	return 0;
}

static int protect(char *line)
{
	struct hf_mount_line m;
	int r;

	r = hf_mount_line_parse(line, &m);
	if (r < 0 || m.remote || (m.flags & MS_RDONLY))
		return r;
	if (mount(NULL, m.path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | m.flags, NULL) == 0)
		return 0;
	/* Hidden under another mount, or gone meanwhile: then it cannot be reached either. */
	return errno == EINVAL || errno == ENOENT || errno == EACCES ? 0 : -errno;
}

/* Calls protect() for each line of the file, whatever reads bring. */
static int protect_all(int fd)
{
	char buf[LINE_MAX_BYTES + 1];
	size_t have = 0;
	bool rest = false; /* of a line whose beginning was handled */
	int r = 0;

	for (;;) {
		ssize_t n = read(fd, buf + have, LINE_MAX_BYTES - have);
		char *line = buf, *end;

		if (n < 0)
			return -errno;
		if (n == 0)
			return r;
		have += (size_t)n;
		buf[have] = 0;
		while ((end = strchr(line, '\n'))) {
			*end = 0;
			if (!rest && r == 0)
				r = protect(line);
			rest = false;
			line = end + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have + 1);
		if (have == LINE_MAX_BYTES) {
			if (!rest && r == 0)
				r = protect(buf);
			rest = true;
			have = 0;
		}
	}
}

static int make_writable(const char *path)
{
	unsigned long flags = MS_REMOUNT | MS_BIND;
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return -errno;
	/* The same numbers in both. */
	flags |= (unsigned long)fs.f_flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC);
	return mount(NULL, path, NULL, flags, NULL) < 0 ? -errno : 0;
}

int hf_confine_view_one_by_one(const struct hf_confine *c)
{
	bool writable[HF_CONFINE_WRITABLE_MAX] = {};
	int fd, r;

	r = split_off(c, writable);
	if (r < 0)
		return r;
	fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = protect_all(fd);
	(void)close(fd);
	/* Whatever failed: a component that cannot write its state is of no use. */
	for (size_t i = 0; i < c->writables; i++) {
		int e = writable[i] ? make_writable(c->writable[i]) : 0;

		r = r < 0 ? r : e;
	}
	return r;
}
