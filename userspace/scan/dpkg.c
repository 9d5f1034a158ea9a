/* SPDX-License-Identifier: Apache-2.0 */
/* Reading dpkg's database; the only one that knows its files. */
#include "userspace/scan/dpkg.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define INFO_DIR "/var/lib/dpkg/info"
/* The list of a kernel's headers has a megabyte. */
#define FILE_MAX     (16u << 20)
#define PACKAGES_MAX 32768u

/* The value of a field in the stanza [p, end); its length, 0 when it is not there. */
static size_t field(const char *p, const char *end, const char *key, const char **ret)
{
	size_t n = strlen(key);

	for (const char *line = p; line < end;) {
		const char *eol = memchr(line, '\n', (size_t)(end - line));

		if (!eol)
			eol = end;
		if ((size_t)(eol - line) > n && strncmp(line, key, n) == 0) {
			for (line += n; line < eol && *line == ' ';)
				line++;
			*ret = line;
			return (size_t)(eol - line);
		}
		line = eol + 1;
	}
	return 0;
}

static bool next_stanza(const char **p, const char **begin, const char **end)
{
	while (**p == '\n')
		(*p)++;
	if (!**p)
		return false;
	*begin = *p;
	*end = strstr(*p, "\n\n");
	if (!*end)
		*end = *p + strlen(*p);
	*p = *end;
	return true;
}

bool hf_dpkg_status_next(const char **p, struct hf_dpkg_package *ret)
{
	const char *begin, *end, *value;

	while (next_stanza(p, &begin, &end)) {
		struct hf_dpkg_package k = {};
		size_t n = field(begin, end, "Package:", &value);

		if (n == 0 || n >= sizeof(k.name))
			continue;
		memcpy(k.name, value, n);
		k.name[n] = 0;
		/* Three words: what is wanted, whether it is broken, what is there. */
		n = field(begin, end, "Status:", &value);
		k.installed = n >= 13 && strncmp(value + n - 13, " ok installed", 13) == 0;
		k.gone = (n >= 13 && strncmp(value + n - 13, "not-installed", 13) == 0) ||
			 (n >= 12 && strncmp(value + n - 12, "config-files", 12) == 0);
		*ret = k;
		return true;
	}
	return false;
}

bool hf_dpkg_md5_line(const char *line, char md5[static HF_MD5_HEX + 1], char *path, size_t size)
{
	if (strspn(line, "0123456789abcdef") != HF_MD5_HEX || line[HF_MD5_HEX] != ' ' ||
	    line[HF_MD5_HEX + 1] != ' ' || !line[HF_MD5_HEX + 2] || line[HF_MD5_HEX + 2] == '/')
		return false;
	memcpy(md5, line, HF_MD5_HEX);
	md5[HF_MD5_HEX] = 0;
	return hf_strf(path, size, "/%s", line + HF_MD5_HEX + 2);
}

static bool same_package(const char *a, const char *b)
{
	size_t n = strcspn(a, ":");

	return n == strcspn(b, ":") && strncmp(a, b, n) == 0;
}

const char *hf_dpkg_diverted(char *const *lines, size_t n, const char *path, const char *package)
{
	/* Three lines each: the name, where it went, for whom (":" is the administrator). */
	for (size_t i = 0; i + 2 < n; i += 3)
		if (hf_streq(lines[i], path) && !same_package(lines[i + 2], package))
			return lines[i + 1];
	return path;
}

/* ---- the files ------------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The packages that have such a file, sorted. */
static int list(struct hf_scan *s, const char *ending, char ***ret, size_t *ret_n)
{
	char **names = calloc(PACKAGES_MAX, sizeof(*names));
	int fd = hf_scan_open(s, INFO_DIR, O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	size_t n = 0;

	if (!names || !d) {
		free(names);
		(void)hf_close(fd);
		return d ? -ENOMEM : -ENOENT;
	}
	for (struct dirent *e; n < PACKAGES_MAX && (e = readdir(d));) {
		size_t len = strlen(e->d_name);

		if (!hf_endswith(e->d_name, ending) || len - strlen(ending) >= HF_DPKG_NAME_MAX)
			continue;
		names[n] = strndup(e->d_name, len - strlen(ending));
		if (!names[n])
			break;
		n++;
	}
	(void)closedir(d);
	if (n)
		qsort(names, n, sizeof(*names), by_text);
	*ret = names;
	*ret_n = n;
	return 0;
}

int hf_dpkg_each(struct hf_scan *s, const char *ending,
		 int (*fn)(struct hf_scan *s, const char *package, char *text, void *arg),
		 void *arg)
{
	char **names = NULL;
	size_t n = 0;
	int r = list(s, ending, &names, &n);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r == 0; i++) {
		_cleanup_free_ char *text = NULL;
		char path[sizeof(INFO_DIR) + HF_DPKG_NAME_MAX + 16];
		size_t len;

		(void)hf_strf(path, sizeof(path), INFO_DIR "/%s%s", names[i], ending);
		r = hf_scan_tick(s, 1, path);
		if (r == 0 && hf_scan_read(s, path, FILE_MAX, &text, &len) == 0)
			r = fn(s, names[i], text, arg);
		else if (r == 0)
			s->state[s->current].unreadable++;
	}
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return r;
}

/* ---- looking files up ------------------------------------------------------------------------------- */

struct lookup {
	struct hf_dpkg_query *queries;
	size_t n;
	bool digests;
};

static int by_path(const void *a, const void *b)
{
	const struct hf_dpkg_query *x = a, *y = b;

	return strcmp(x->path, y->path);
}

static struct hf_dpkg_query *find_exact(const struct lookup *l, const char *path)
{
	const struct hf_dpkg_query key = {.path = path};

	return bsearch(&key, l->queries, l->n, sizeof(key), by_path);
}

/* Packages older than the merge of /bin into /usr/bin name their files without the /usr. */
static struct hf_dpkg_query *find(const struct lookup *l, const char *path)
{
	struct hf_dpkg_query *q = find_exact(l, path);
	char merged[4096];

	if (q || hf_startswith(path, "/usr/") ||
	    (!hf_startswith(path, "/bin/") && !hf_startswith(path, "/sbin/") &&
	     !hf_startswith(path, "/lib")))
		return q;
	return hf_strf(merged, sizeof(merged), "/usr%s", path) ? find_exact(l, merged) : NULL;
}

static int look_up(struct hf_scan *s, const char *package, char *text, void *arg)
{
	const struct lookup *l = arg;
	char *save = NULL;

	(void)s;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char md5[HF_MD5_HEX + 1] = "", path[4096];
		struct hf_dpkg_query *q;

		if (l->digests && !hf_dpkg_md5_line(line, md5, path, sizeof(path)))
			continue;
		q = find(l, l->digests ? path : line);
		if (!q)
			continue;
		(void)hf_strlcpy(q->package, package, sizeof(q->package));
		if (l->digests)
			(void)hf_strlcpy(q->md5, md5, sizeof(q->md5));
	}
	return 0;
}

int hf_dpkg_find(struct hf_scan *s, struct hf_dpkg_query *queries, size_t n)
{
	struct lookup l = {.queries = queries, .n = n};
	int r;

	if (n == 0)
		return 0;
	qsort(queries, n, sizeof(*queries), by_path);
	r = hf_dpkg_each(s, ".list", look_up, &l);
	l.digests = true;
	return r < 0 ? r : hf_dpkg_each(s, ".md5sums", look_up, &l);
}
