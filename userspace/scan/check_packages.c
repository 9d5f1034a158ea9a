/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files against the digests their package came with. dpkg keeps MD5; that stops nobody who makes two
 * files of one digest, but does tell damage and every ordinary change. Configuration files are not
 * in that list: the baseline watches those.
 */
#include "userspace/scan/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "userspace/scan/digest.h"
#include "userspace/scan/dpkg.h"

#define STATUS_MAX     (64u << 20)
#define DIVERSIONS_MAX (1u << 20)
#define LINES_MAX      (3u * 4096)

struct verification {
	char **diversions;
	size_t diversions_n;
	char **unfinished; /* packages */
	size_t unfinished_n;
	uint64_t expected; /* files of all packages, guessed */
	uint64_t docs_missing, changing;
	char doc_path[256];
};

/* What installations for containers leave out on purpose (dpkg's path-exclude). */
static bool is_documentation(const char *path)
{
	static const char *const places[] = {"/usr/share/doc",   "/usr/share/man",
					     "/usr/share/info",  "/usr/share/locale",
					     "/usr/share/groff", "/usr/share/lintian",
					     "/usr/share/linda", "/usr/share/gnome/help",
					     "/usr/share/omf",   "/usr/share/bug"};

	for (size_t i = 0; i < HF_ARRAY_SIZE(places); i++)
		if (hf_path_below(path, places[i]))
			return true;
	return false;
}

static bool is_code(const char *path)
{
	static const char *const places[] = {"/bin",       "/sbin",      "/lib",         "/lib32",
					     "/lib64",     "/usr/bin",   "/usr/sbin",    "/usr/lib",
					     "/usr/lib32", "/usr/lib64", "/usr/libexec", "/boot"};

	for (size_t i = 0; i < HF_ARRAY_SIZE(places); i++)
		if (hf_path_below(path, places[i]))
			return true;
	return false;
}

static void missing(struct hf_scan *s, struct verification *v, const char *path,
		    const char *package)
{
	if (is_documentation(path)) {
		if (v->docs_missing++ == 0)
			(void)hf_strlcpy(v->doc_path, path, sizeof(v->doc_path));
		return;
	}
	hf_scan_found(s, is_code(path) ? HF_SEVERITY_MEDIUM : HF_SEVERITY_LOW, "packages.missing",
		      path, "install the package again: apt-get install --reinstall",
		      "package %s installed it, it is not there", package);
}

static int verify(struct hf_scan *s, struct verification *v, const char *path, const char *md5,
		  const char *package)
{
	struct hf_check_state *c = &s->state[s->current];
	_cleanup_close_ int fd = -1;
	char digest[HF_DIGEST_HEX_MAX];
	struct stat st;
	int r;

	c->looked_at++;
	if (c->looked_at % 16 == 0)
		hf_scan_fraction_of(s, c->looked_at, v->expected);
	fd = hf_scan_open(s, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd == -ENOENT || fd == -ENOTDIR) {
		missing(s, v, path, package);
		return 0;
	}
	if (fd == -ELOOP || (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))) {
		hf_scan_found(s, HF_SEVERITY_MEDIUM, "packages.not_a_file", path,
			      "install the package again: apt-get install --reinstall",
			      "package %s installed a file, there is a link or something else",
			      package);
		return 0;
	}
	if (fd < 0) {
		c->unreadable++;
		return 0;
	}
	r = hf_digest_file(s, fd, HF_DIGEST_MD5, path, digest);
	if (r == -ECANCELED || r == -EPIPE || r == -ENOTSUP)
		return r;
	if (r == -EAGAIN)
		v->changing++;
	else if (r < 0)
		c->unreadable++;
	else if (!hf_streq(digest, md5))
		hf_scan_found(s, is_code(path) ? HF_SEVERITY_HIGH : HF_SEVERITY_MEDIUM,
			      "packages.changed", path,
			      "find out who changed it; apt-get install --reinstall puts it right",
			      "md5 %s, package %s installed %s", digest, package, md5);
	return 0;
}

static bool is_unfinished(const struct verification *v, const char *package)
{
	size_t n = strcspn(package, ":");

	for (size_t i = 0; i < v->unfinished_n; i++)
		if (strlen(v->unfinished[i]) == n && strncmp(v->unfinished[i], package, n) == 0)
			return true;
	return false;
}

static bool asked_for(const struct hf_scan *s, const char *path)
{
	if (hf_scan_excluded(s, path))
		return false;
	for (size_t i = 0; i < s->params.paths_n; i++)
		if (hf_path_below(path, s->params.paths[i]))
			return true;
	return s->params.paths_n == 0;
}

static int verify_package(struct hf_scan *s, const char *package, char *text, void *arg)
{
	struct verification *v = arg;
	char *save = NULL;
	int r = 0;

	if (is_unfinished(v, package))
		return 0;
	for (char *line = strtok_r(text, "\n", &save); line && r == 0;
	     line = strtok_r(NULL, "\n", &save)) {
		char md5[HF_MD5_HEX + 1], path[4096];
		const char *real;

		if (!hf_dpkg_md5_line(line, md5, path, sizeof(path)))
			continue;
		real = hf_dpkg_diverted(v->diversions, v->diversions_n, path, package);
		if (asked_for(s, real)) {
			r = hf_scan_tick(s, 1, real);
			if (r == 0)
				r = verify(s, v, real, md5, package);
		}
	}
	return r;
}

static int read_diversions(struct hf_scan *s, struct verification *v)
{
	_cleanup_free_ char *text = NULL;
	char *save = NULL;
	size_t len;

	if (hf_scan_read(s, "/var/lib/dpkg/diversions", DIVERSIONS_MAX, &text, &len) < 0)
		return 0; /* none */
	v->diversions = calloc(LINES_MAX, sizeof(*v->diversions));
	if (!v->diversions)
		return -ENOMEM;
	for (char *line = strtok_r(text, "\n", &save); line && v->diversions_n < LINES_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		v->diversions[v->diversions_n] = strdup(line);
		if (!v->diversions[v->diversions_n])
			return -ENOMEM;
		v->diversions_n++;
	}
	return 0;
}

/* Their files are no package's yet, or no more: said once each, and not compared. */
static int read_status(struct hf_scan *s, struct verification *v)
{
	_cleanup_free_ char *text = NULL;
	struct hf_dpkg_package k;
	const char *p;
	size_t len;
	int r;

	r = hf_scan_read(s, "/var/lib/dpkg/status", STATUS_MAX, &text, &len);
	if (r < 0)
		return r;
	v->unfinished = calloc(LINES_MAX, sizeof(*v->unfinished));
	if (!v->unfinished)
		return -ENOMEM;
	for (p = text; hf_dpkg_status_next(&p, &k);) {
		v->expected += k.installed ? 150 : 0;
		if (k.installed || k.gone || v->unfinished_n == LINES_MAX)
			continue;
		hf_scan_found(s, HF_SEVERITY_LOW, "packages.unfinished", k.name,
			      "finish it: dpkg --configure -a, apt-get install -f",
			      "the package is not wholly installed, its files are not compared");
		v->unfinished[v->unfinished_n] = strdup(k.name);
		if (!v->unfinished[v->unfinished_n])
			return -ENOMEM;
		v->unfinished_n++;
	}
	return 0;
}

static void free_lines(char **lines, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(lines[i]);
	free(lines);
}

static bool has_rpm(const struct hf_scan *s)
{
	static const char *const places[] = {"/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages",
					     "/usr/lib/sysimage/rpm/rpmdb.sqlite"};
	struct stat st;

	for (size_t i = 0; i < HF_ARRAY_SIZE(places); i++)
		if (hf_scan_lstat(s, places[i], &st) == 0)
			return true;
	return false;
}

int hf_check_packages(struct hf_scan *s)
{
	struct verification v = {};
	int r = read_status(s, &v);

	if (r == 0)
		r = read_diversions(s, &v);
	if (r == 0)
		r = hf_dpkg_each(s, ".md5sums", verify_package, &v);
	if (r == -ENOENT) {
		hf_scan_not_checked(s, has_rpm(s)
					       ? "digests of rpm packages are not read by a scan; "
						 "rpm -Va compares them"
					       : "there is no database of packages");
		r = 0;
	}
	if (r == -ENOTSUP) {
		hf_scan_not_checked(s, "this libcrypto has no MD5, which dpkg's digests are");
		r = 0;
	}
	if (v.docs_missing)
		hf_scan_found(s, HF_SEVERITY_INFO, "packages.documentation_missing", v.doc_path,
			      "none needed on a host that was installed without documentation",
			      "%llu files of documentation are not there, this is the first",
			      (unsigned long long)v.docs_missing);
	if (v.changing)
		hf_scan_partial(s, "%llu files changed while they were read",
				(unsigned long long)v.changing);
	free_lines(v.diversions, v.diversions_n);
	free_lines(v.unfinished, v.unfinished_n);
	return r;
}
