/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding, making, killing and removing cgroup v2 directories. Silent; nothing here is required.
 */
#include "watchdog/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* More processes than a component can have (RLIMIT_NPROC); 20 bytes a line. */
#define PROCS_FILE_MAX 65536
/* What forks while it is being killed is caught in the next round. */
#define KILL_ROUNDS 8
/* Deeper than systemd, containers and a container within them nest. */
#define LEVELS_MAX 16

static int open_dir_at(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Where version 2 is mounted: alone, or beside version 1. NULL: nowhere. */
static const char *v2_mount(void)
{
	static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	struct statfs fs;

	for (size_t i = 0; i < HF_ARRAY_SIZE(mounts); i++)
		if (statfs(mounts[i], &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
			return mounts[i];
	return NULL;
}

static int open_root(void)
{
	const char *mount = v2_mount();

	return mount ? open_dir_at(AT_FDCWD, mount) : -EOPNOTSUPP;
}

/* Our own cgroup, relative to the root: "." for the root itself. */
static int own_path(char dst[static PATH_MAX])
{
	_cleanup_free_ char *text = NULL;
	char *line, *end;
	size_t len;
	int r;

	r = hf_read_file(AT_FDCWD, "/proc/self/cgroup", PROCS_FILE_MAX, &text, &len);
	if (r < 0)
		return r;
	line = strstr(text, "0::/");
	if (!line || (line != text && line[-1] != '\n'))
		return -EOPNOTSUPP;
	line += strlen("0::/");
	end = strchrnul(line, '\n');
	*end = 0;
	return hf_strlcpy(dst, *line ? line : ".", PATH_MAX) ? 0 : -ENAMETOOLONG;
}

static bool run_by_systemd(void)
{
	return getenv("INVOCATION_ID") && getenv("NOTIFY_SOCKET");
}

static int make_dir(int base, const char *name)
{
	if (mkdirat(base, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	return open_dir_at(base, name);
}

static int write_at(int dir, const char *file, const char *text)
{
	_cleanup_close_ int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return hf_write_full(fd, text, strlen(text));
}

static bool base_name(char dst[static NAME_MAX], const char *instance)
{
	return hf_strf(dst, NAME_MAX, "holdfast-%s", instance);
}

static int open_base(const char *instance, const char **why)
{
	_cleanup_close_ int root = -1, own = -1, leaf = -1;
	char path[PATH_MAX], name[NAME_MAX];
	int r;

	*why = "no cgroup v2 hierarchy";
	root = open_root();
	if (root < 0)
		return root;
	r = own_path(path);
	if (r < 0)
		return r;
	*why = "own cgroup cannot be opened";
	own = open_dir_at(root, path);
	if (own < 0)
		return own;
	*why = "no right to make cgroups";
	if (run_by_systemd()) {
		/* A watchdog that systemd started again may sit in the leaf already. */
		leaf = make_dir(own, "watchdog");
		if (leaf < 0)
			return leaf;
		r = write_at(leaf, "cgroup.procs", "0");
		return r < 0 ? r : TAKE_FD(own);
	}
	if (!base_name(name, instance))
		return -ENAMETOOLONG;
	return make_dir(own, name);
}

int hf_cgroup_open_base(const char *instance, const char **why)
{
	int r = open_base(instance, why);

	if (r >= 0)
		*why = "";
	return r;
}

int hf_cgroup_open_component(int base_dir, const char *component)
{
	return make_dir(base_dir, component);
}

void hf_cgroup_limit_memory(int base_dir, int cgroup_dir, uint64_t bytes)
{
	char text[24];

	(void)write_at(base_dir, "cgroup.subtree_control", "+memory");
	(void)hf_strf(text, sizeof(text), "%" PRIu64, bytes);
	(void)write_at(cgroup_dir, "memory.max", text);
}

uint64_t hf_cgroup_ooms(int cgroup_dir)
{
	_cleanup_free_ char *text = NULL;
	const char *line;
	size_t len;

	if (hf_read_file(cgroup_dir, "memory.events", 4096, &text, &len) < 0)
		return 0;
	line = strstr(text, "\noom ");
	return line ? strtoull(line + strlen("\noom "), NULL, 10) : 0;
}

int hf_cgroup_each(int cgroup_dir, void (*fn)(uint32_t pid, void *arg), void *arg)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	/* hf_read_file() takes regular files of a known size only as an upper bound. */
	r = hf_read_file(cgroup_dir, "cgroup.procs", PROCS_FILE_MAX, &text, &len);
	if (r < 0)
		return r;
	for (char *p = text; *p;) {
		unsigned long pid = strtoul(p, &p, 10);

		if (pid > 0 && pid <= INT32_MAX)
			fn((uint32_t)pid, arg);
		while (*p && (*p < '0' || *p > '9'))
			p++;
	}
	return 0;
}

static void kill_one(uint32_t pid, void *arg)
{
	unsigned *n = arg;

	(*n)++;
	(void)kill((pid_t)pid, SIGKILL); /* gone already is as good */
}

/*
 * By pid and in rounds, not by cgroup.kill: once that was used on a cgroup, Linux 6.18 kills every
 * process that CLONE_INTO_CGROUP ever starts in it again (measured; its kill counter is compared
 * with that of the parent's cgroup).
 */
int hf_cgroup_kill(int cgroup_dir)
{
	int r = 0;

	for (int round = 0; round < KILL_ROUNDS; round++) {
		unsigned n = 0;

		r = hf_cgroup_each(cgroup_dir, kill_one, &n);
		if (r < 0 || n == 0)
			break;
	}
	return r;
}

/* The number behind a key at a line's start; 0 if it is not there. */
static uint64_t read_keyed(const char *dir, const char *file, const char *key)
{
	_cleanup_free_ char *text = NULL;
	char path[PATH_MAX];
	size_t len;

	if (!hf_strf(path, sizeof(path), "%s/%s", dir, file) ||
	    hf_read_file(AT_FDCWD, path, PROCS_FILE_MAX, &text, &len) < 0)
		return 0;
	for (char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (hf_startswith(line, key))
			return strtoull(line + strlen(key), NULL, 10);
	}
	return 0;
}

static bool file_says(const char *dir, const char *file, const char *word)
{
	_cleanup_free_ char *text = NULL;
	char path[PATH_MAX];
	size_t len;

	return hf_strf(path, sizeof(path), "%s/%s", dir, file) &&
	       hf_read_file(AT_FDCWD, path, 256, &text, &len) == 0 && hf_startswith(text, word);
}

enum hierarchy {
	HIERARCHY_V2,
	HIERARCHY_V1_CPU,
	HIERARCHY_V1_FREEZER,
};

/* Walks from the process's cgroup up to the root of one hierarchy. */
static void walk_up(const char *mount, const char *cgroup, enum hierarchy kind,
		    uint64_t *throttled_ns, bool *frozen)
{
	char dir[PATH_MAX];
	size_t root = strlen(mount);

	if (!hf_strf(dir, sizeof(dir), "%s%s", mount, cgroup))
		return;
	for (int level = 0; level < LEVELS_MAX; level++) {
		char *slash;

		switch (kind) {
		case HIERARCHY_V2:
			*throttled_ns += read_keyed(dir, "cpu.stat", "throttled_usec ") * 1000;
			*frozen |= read_keyed(dir, "cgroup.events", "frozen ") == 1;
			break;
		case HIERARCHY_V1_CPU:
			*throttled_ns += read_keyed(dir, "cpu.stat", "throttled_time ");
			break;
		case HIERARCHY_V1_FREEZER:
			*frozen |= file_says(dir, "freezer.state", "FR"); /* FROZEN, FREEZING */
			break;
		}
		slash = strrchr(dir, '/');
		if (!slash || (size_t)(slash - dir) < root || dir[root] == 0)
			return;
		*slash = 0;
	}
}

/* Is the word one of the list's, which has commas between them? */
static bool lists(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (strncmp(p, word, n) == 0 && (p[n] == 0 || p[n] == ','))
			return true;
	}
	return false;
}

void hf_cgroup_hardship(uint32_t pid, uint64_t *ret_throttled_ns, bool *ret_frozen)
{
	_cleanup_free_ char *text = NULL;
	char path[64], *save = NULL;
	uint64_t throttled_ns = 0;
	bool frozen = false;
	size_t len;

	(void)hf_strf(path, sizeof(path), "/proc/%u/cgroup", pid);
	if (hf_read_file(AT_FDCWD, path, PROCS_FILE_MAX, &text, &len) < 0)
		text = NULL;
	/* Lines of hierarchy:controllers:path */
	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *controllers = strchr(line, ':'), *cgroup;

		cgroup = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!cgroup)
			continue;
		*controllers++ = 0;
		*cgroup++ = 0;
		if (!*controllers && v2_mount())
			walk_up(v2_mount(), cgroup, HIERARCHY_V2, &throttled_ns, &frozen);
		else if (lists(controllers, "cpu"))
			walk_up("/sys/fs/cgroup/cpu", cgroup, HIERARCHY_V1_CPU, &throttled_ns,
				&frozen);
		else if (lists(controllers, "freezer"))
			walk_up("/sys/fs/cgroup/freezer", cgroup, HIERARCHY_V1_FREEZER,
				&throttled_ns, &frozen);
	}
	*ret_throttled_ns = throttled_ns;
	*ret_frozen = frozen;
}

void hf_cgroup_remove(int base_dir, const char *component)
{
	(void)unlinkat(base_dir, component, AT_REMOVEDIR); /* EBUSY: somebody lives there */
}

void hf_cgroup_remove_base(const char *instance)
{
	_cleanup_close_ int root = -1, own = -1;
	char path[PATH_MAX], name[NAME_MAX];

	if (run_by_systemd())
		return; /* systemd's */
	root = open_root();
	if (root < 0 || own_path(path) < 0 || !base_name(name, instance))
		return;
	own = open_dir_at(root, path);
	if (own >= 0)
		(void)unlinkat(own, name, AT_REMOVEDIR);
}
