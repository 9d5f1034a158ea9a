/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files against the digests their package came with. dpkg keeps MD5; that stops nobody who makes two
 * files of one digest, but does tell damage and every ordinary change. rpm keeps SHA-256 (MD5 in
 * packages of old). Configuration files are not in dpkg's list, and in rpm's are found at the lowest
 * rank but one: the baseline watches those. A host may have both databases.
 */
#include "userspace/scan/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "userspace/scan/digest.h"
#include "userspace/scan/dpkg.h"
#include "userspace/scan/rpm.h"

#define STATUS_MAX     (64u << 20)
#define DIVERSIONS_MAX (1u << 20)
#define LINES_MAX      (3u * 4096)

struct verification {
	char **diversions;
	size_t diversions_n;
	char **unfinished; /* packages */
	size_t unfinished_n;
	uint64_t expected; /* files of all packages, guessed */
	uint64_t docs_missing, changing, unknown_kind;
	char doc_path[256];
};

#define FIX_DPKG "apt-get install --reinstall"
#define FIX_RPM  "dnf reinstall, or zypper install --force"

/* What a file should be. All borrowed. */
struct expected {
	const char *path, *package;
	const char *digest; /* NULL: it only has to be there */
	enum hf_digest_kind kind;
	const char *fix_missing, *fix_changed;
	bool config, may_miss, is_doc;
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

static void missing(struct hf_scan *s, struct verification *v, const struct expected *e)
{
	if (e->may_miss)
		return;
	if (e->is_doc || is_documentation(e->path)) {
		if (v->docs_missing++ == 0)
			(void)hf_strlcpy(v->doc_path, e->path, sizeof(v->doc_path));
		return;
	}
	hf_scan_found(s, is_code(e->path) && !e->config ? HF_SEVERITY_MEDIUM : HF_SEVERITY_LOW,
		      "packages.missing", e->path, e->fix_missing,
		      "package %s installed it, it is not there", e->package);
}

static void changed(struct hf_scan *s, const struct expected *e, const char *digest)
{
	if (e->config)
		hf_scan_found(s, HF_SEVERITY_LOW, "packages.config_changed", e->path,
			      "none needed if an administrator changed it",
			      "%s %s, package %s installed %s", hf_digest_name(e->kind), digest,
			      e->package, e->digest);
	else
		hf_scan_found(s, is_code(e->path) ? HF_SEVERITY_HIGH : HF_SEVERITY_MEDIUM,
			      "packages.changed", e->path, e->fix_changed,
			      "%s %s, package %s installed %s", hf_digest_name(e->kind), digest,
			      e->package, e->digest);
}

static int verify(struct hf_scan *s, struct verification *v, const struct expected *e)
{
	struct hf_check_state *c = &s->state[s->current];
	_cleanup_close_ int fd = -1;
	char digest[HF_DIGEST_HEX_MAX];
	struct stat st;
	int r;

	c->looked_at++;
	fd = hf_scan_open(s, e->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd == -ENOENT || fd == -ENOTDIR) {
		missing(s, v, e);
		return 0;
	}
	if (fd == -ELOOP || (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))) {
		hf_scan_found(s, e->config ? HF_SEVERITY_LOW : HF_SEVERITY_MEDIUM,
			      "packages.not_a_file", e->path, e->fix_missing,
			      "package %s installed a file, there is a link or something else",
			      e->package);
		return 0;
	}
	if (fd < 0) {
		c->unreadable++;
		return 0;
	}
	if (!e->digest)
		return 0;
	r = hf_digest_file(s, fd, e->kind, e->path, digest);
	if (r == -ECANCELED || r == -EPIPE || r == -ENOTSUP)
		return r;
	if (r == -EAGAIN)
		v->changing++;
	else if (r < 0)
		c->unreadable++;
	else if (!hf_streq(digest, e->digest))
		changed(s, e, digest);
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
			const struct expected e = {
				.path = real,
				.package = package,
				.digest = md5,
				.kind = HF_DIGEST_MD5,
				.fix_missing = "install the package again: " FIX_DPKG,
				.fix_changed =
					"find out who changed it; " FIX_DPKG " puts it right",
			};

			if (s->state[s->current].looked_at % 16 == 0)
				hf_scan_fraction_of(s, s->state[s->current].looked_at, v->expected);
			r = hf_scan_tick(s, 1, real);
			if (r == 0)
				r = verify(s, v, &e);
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

static int check_dpkg(struct hf_scan *s, struct verification *v)
{
	int r = read_status(s, v);

	if (r == 0)
		r = read_diversions(s, v);
	return r == 0 ? hf_dpkg_each(s, ".md5sums", verify_package, v) : r;
}

static int verify_rpm(struct hf_scan *s, const struct hf_rpm_file *f, void *arg)
{
	struct verification *v = arg;
	const struct expected e = {
		.path = f->path,
		.package = f->package,
		.digest = f->digest,
		.kind = f->kind,
		.fix_missing = "install the package again: " FIX_RPM,
		.fix_changed = "find out who changed it (rpm -V); " FIX_RPM " puts it right",
		.config = f->config,
		.may_miss = f->may_miss,
		.is_doc = f->is_doc,
	};
	int r;

	if (!asked_for(s, f->path))
		return 0;
	r = hf_scan_tick(s, 1, f->path);
	if (r < 0)
		return r;
	v->unknown_kind += f->unknown_kind;
	r = verify(s, v, &e);
	/* A package of old with MD5, where the rules forbid that: the others can be compared. */
	if (r == -ENOTSUP) {
		v->unknown_kind++;
		r = 0;
	}
	return r;
}

/* The database that cannot be read is not one without findings: said in the check's state. */
static int check_rpm(struct hf_scan *s, struct verification *v, bool also_dpkg)
{
	char why[HF_SCAN_NOTE_MAX] = "the database of rpm cannot be read";
	int r = hf_rpm_each(s, verify_rpm, v, why);

	if (r == -ECANCELED || r == -EPIPE || r >= 0)
		return r;
	/* A host of dpkg's has none, or an empty one by rpm as a tool. */
	if (also_dpkg && (r == -ENOENT || r == -ENODATA))
		return 0;
	if (r == -ENOENT)
		hf_scan_not_checked(s, "there is no database of packages");
	else if (also_dpkg || r == -EUCLEAN)
		hf_scan_partial(s, "%s", why);
	else
		hf_scan_not_checked(s, "%s", why);
	return 0;
}

int hf_check_packages(struct hf_scan *s)
{
	struct verification v = {};
	int r = check_dpkg(s, &v);
	bool dpkg = r != -ENOENT;

	if (r == -ENOTSUP) {
		hf_scan_not_checked(s, "this libcrypto has no MD5, which dpkg's digests are");
		r = 0;
	}
	if (r == 0 || r == -ENOENT)
		r = check_rpm(s, &v, dpkg);
	if (v.docs_missing)
		hf_scan_found(s, HF_SEVERITY_INFO, "packages.documentation_missing", v.doc_path,
			      "none needed on a host that was installed without documentation",
			      "%llu files of documentation are not there, this is the first",
			      (unsigned long long)v.docs_missing);
	if (v.unknown_kind)
		hf_scan_partial(s, "%llu files have digests of a kind that cannot be made here",
				(unsigned long long)v.unknown_kind);
	if (v.changing)
		hf_scan_partial(s, "%llu files changed while they were read",
				(unsigned long long)v.changing);
	free_lines(v.diversions, v.diversions_n);
	free_lines(v.unfinished, v.unfinished_n);
	return r;
}
