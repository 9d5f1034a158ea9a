/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What everybody may write where root looks for programs: the directories of PATH, the programs in
 * them, unit files and what these run. A directory on the way counts as well: who may rename it may
 * put another in its place, unless it is sticky.
 */
#include "userspace/scan/checks.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "userspace/scan/unitfile.h"
#include "userspace/scan/walk.h"

#define UNIT_FILE_MAX (256u * 1024)
#define PATH_TEXT_MAX 65536u

/* ---- unit files --------------------------------------------------------------------------------- */

bool hf_unit_path(const char *line, char *dst, size_t size)
{
	size_t n;

	line += strspn(line, " \t");
	if (hf_startswith(line, "Exec"))
		line = strchr(line, '=');
	else if (hf_startswith(line, "EnvironmentFile="))
		line = strchr(line, '=');
	else
		return false;
	if (!line)
		return false;
	line++;
	line += strspn(line, " \t-@:+!|"); /* systemd.service(5): special executable prefixes */
	if (*line == '"')
		line++;
	n = strcspn(line, " \t\"");
	if (*line != '/' || n >= size || memchr(line, '%', n) || memchr(line, '*', n))
		return false;
	memcpy(dst, line, n);
	dst[n] = 0;
	return true;
}

/* ---- judging ----------------------------------------------------------------------------------------- */

static int stat_of(const struct hf_scan *s, const char *path, struct stat *st)
{
	_cleanup_close_ int fd = hf_scan_open(s, path, O_PATH);

	if (fd < 0)
		return fd;
	return fstat(fd, st) < 0 ? -errno : 0;
}

/* A directory above path that everybody may write and that is not sticky. */
static bool open_above(const struct hf_scan *s, const char *path, char *dst, size_t size)
{
	char *slash;
	struct stat st;

	if (!hf_strlcpy(dst, path, size))
		return false;
	while ((slash = strrchr(dst, '/')) && slash != dst) {
		*slash = 0;
		if (stat_of(s, dst, &st) == 0 && st.st_mode & S_IWOTH && !(st.st_mode & S_ISVTX))
			return true;
	}
	return false;
}

/* A program or file that root uses because `user` (a unit, PATH) says so. */
static void judge(struct hf_scan *s, const char *path, const char *user)
{
	char above[4096];
	struct stat st;

	if (hf_scan_excluded(s, path) || stat_of(s, path, &st) < 0)
		return;
	s->state[s->current].looked_at++;
	if (st.st_mode & S_IWOTH && !S_ISCHR(st.st_mode))
		hf_scan_found(s, HF_SEVERITY_HIGH, "writable.used_by_root", path,
			      "take the permission away: chmod o-w",
			      "%s uses it, and everybody may write it (mode %04o)", user,
			      st.st_mode & 07777);
	if (open_above(s, path, above, sizeof(above)))
		hf_scan_found(s, HF_SEVERITY_HIGH, "writable.directory_above", above,
			      "take the permission away: chmod o-w, or chmod +t",
			      "'%s' is below it, which %s uses: everybody may put another there",
			      path, user);
}

static int look_at_unit(void *userdata, const struct hf_walk_entry *e)
{
	struct hf_scan *s = userdata;
	_cleanup_free_ char *text = NULL;
	char *save = NULL;
	size_t len;

	if (!S_ISREG(e->st.st_mode))
		return 0;
	judge(s, e->path, "systemd");
	if (hf_scan_read(s, e->path, UNIT_FILE_MAX, &text, &len) < 0)
		return 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char path[4096], who[512];

		if (!hf_unit_path(line, path, sizeof(path)))
			continue;
		(void)hf_strf(who, sizeof(who), "unit '%s'", e->name);
		judge(s, path, who);
	}
	return 0;
}

static int look_at_program(void *userdata, const struct hf_walk_entry *e)
{
	struct hf_scan *s = userdata;

	if (!S_ISREG(e->st.st_mode))
		return 0;
	s->state[s->current].looked_at++;
	if (e->st.st_mode & S_IWOTH)
		hf_scan_found(s, HF_SEVERITY_HIGH, "writable.program", e->path,
			      "take the permission away: chmod o-w",
			      "everybody may write it (mode %04o), and it is in PATH",
			      e->st.st_mode & 07777);
	return 0;
}

static int look_at_path_dir(struct hf_scan *s, const char *dir)
{
	struct stat st;
	int r;

	if (*dir != '/') {
		hf_scan_found(s, HF_SEVERITY_HIGH, "writable.relative_path", *dir ? dir : "\".\"",
			      "leave only absolute directories in PATH",
			      "PATH has a part that means the current directory");
		return 0;
	}
	r = stat_of(s, dir, &st);
	if (r < 0)
		return 0; /* not there: nothing is looked for in it */
	judge(s, dir, "PATH");
	if (st.st_uid != 0)
		hf_scan_found(s, HF_SEVERITY_MEDIUM, "writable.foreign_owner", dir,
			      "give it to root, or take it out of PATH",
			      "it is in PATH and belongs to uid %u", st.st_uid);
	/* /bin and the like are links into what PATH has as well. */
	if (hf_scan_lstat(s, dir, &st) < 0 || S_ISLNK(st.st_mode))
		return 0;
	return hf_walk(s, dir, look_at_program, s);
}

/* PATH as a login and systemd have it, and what /etc/environment makes of it. */
static void path_text(struct hf_scan *s, char *dst, size_t size)
{
	_cleanup_free_ char *text = NULL;
	char *save = NULL;
	size_t len;

	(void)hf_strlcpy(dst,
			 "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"
			 "/usr/local/games:/usr/games",
			 size);
	if (hf_scan_read(s, "/etc/environment", PATH_TEXT_MAX, &text, &len) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *value = line + strlen("PATH=");

		if (!hf_startswith(line, "PATH=") || !*value)
			continue;
		value += *value == '"' || *value == '\'';
		value[strcspn(value, "\"'")] = 0;
		(void)hf_strf(dst + strlen(dst), size - strlen(dst), ":%s", value);
	}
}

static int look_at_path(struct hf_scan *s)
{
	_cleanup_free_ char *path = calloc(1, 2 * PATH_TEXT_MAX);
	int r = path ? 0 : -ENOMEM;

	if (r == 0)
		path_text(s, path, PATH_TEXT_MAX);
	for (char *p = path; p && r == 0;) {
		char *end = strchr(p, ':');
		bool again = false;

		if (end)
			*end++ = 0;
		/* Each once; the text behind has not been cut up yet. */
		for (char *q = path; q < p; q += strlen(q) + 1)
			again |= hf_streq(q, p);
		if (!again)
			r = look_at_path_dir(s, p);
		p = end;
	}
	return r;
}

int hf_check_writable(struct hf_scan *s)
{
	static const char *const units[] = {"/etc/systemd/system",
					    "/run/systemd/system",
					    "/usr/local/lib/systemd/system",
					    "/usr/lib/systemd/system",
					    "/lib/systemd/system",
					    "/etc/cron.d",
					    "/etc/init.d"};
	const size_t n = HF_ARRAY_SIZE(units);
	struct stat st;
	int r = look_at_path(s);

	for (size_t i = 0; i < n && r == 0; i++) {
		hf_scan_fraction(s, 0.4 + 0.6 * (double)i / (double)n);
		/* /lib is /usr/lib on merged systems. */
		if (hf_streq(units[i], "/lib/systemd/system") &&
		    hf_scan_lstat(s, "/lib", &st) == 0 && S_ISLNK(st.st_mode))
			continue;
		r = hf_walk(s, units[i], look_at_unit, s);
	}
	return r;
}
