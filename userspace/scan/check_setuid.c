/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that give whoever runs them the rights of somebody else: setuid, setgid, capabilities. Those
 * of a package are told as information; the others need an explanation.
 */
#include "userspace/scan/checks.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "base/cleanup.h"
#include "userspace/scan/dpkg.h"
#include "userspace/scan/filecap.h"
#include "userspace/scan/walk.h"

/* A host has some thirty. */
#define HITS_MAX 4096u

struct hit {
	char *path;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	bool has_caps;
	struct hf_filecap caps;
};

struct search {
	struct hf_scan *s;
	struct hit *hits;
	size_t n;
	uint64_t left_out, expected;
};

static bool read_caps(const struct hf_walk_entry *e, struct hf_filecap *ret)
{
	unsigned char attribute[64];
	char path[4096 + 32];
	ssize_t n;

	/* By its directory's descriptor: there is no lgetxattrat() before Linux 6.13. */
	if (!hf_strf(path, sizeof(path), "/proc/self/fd/%d/%s", e->dir, e->name))
		return false;
	n = lgetxattr(path, "security.capability", attribute, sizeof(attribute));
	return n > 0 && hf_filecap_parse(attribute, (size_t)n, ret) == 0;
}

static int look(void *userdata, const struct hf_walk_entry *e)
{
	struct search *f = userdata;
	struct hf_check_state *c = &f->s->state[f->s->current];
	struct hit h = {.mode = e->st.st_mode, .uid = e->st.st_uid, .gid = e->st.st_gid};
	bool special;

	c->looked_at++;
	if (c->looked_at % 64 == 0)
		hf_scan_fraction_of(f->s, c->looked_at, f->expected);
	if (!S_ISREG(h.mode) || !(h.mode & (S_IXUSR | S_IXGRP | S_IXOTH)))
		return 0;
	special = h.mode & S_ISUID || (h.mode & S_ISGID && h.mode & S_IXGRP);
	h.has_caps = read_caps(e, &h.caps);
	if (!special && !h.has_caps)
		return 0;
	if (f->n == HITS_MAX) {
		f->left_out++;
		return 0;
	}
	h.path = strdup(e->path);
	if (!h.path)
		return -ENOMEM;
	f->hits[f->n++] = h;
	return 0;
}

static bool in_open_place(const char *path)
{
	static const char *const places[] = {"/tmp", "/var/tmp", "/dev/shm", "/home", "/run/user"};

	for (size_t i = 0; i < HF_ARRAY_SIZE(places); i++)
		if (hf_path_below(path, places[i]))
			return true;
	return false;
}

static void describe(const struct hit *h, char *dst, size_t size)
{
	char caps[512] = "";

	if (h->has_caps)
		hf_filecap_text(&h->caps, caps, sizeof(caps));
	(void)hf_strf(dst, size, "mode %04o, owner %u:%u%s%s", h->mode & 07777, h->uid, h->gid,
		      h->has_caps ? ", capabilities " : "", caps);
}

static void tell(struct hf_scan *s, const struct hit *h, const char *package, bool know_packages)
{
	bool as_root =
		(h->mode & S_ISUID && h->uid == 0) || (h->has_caps && hf_filecap_is_root(&h->caps));
	char text[640];

	describe(h, text, sizeof(text));
	if (h->mode & S_IWOTH)
		hf_scan_found(s, HF_SEVERITY_CRITICAL, "setuid.world_writable", h->path,
			      "take the write permission away now: chmod o-w",
			      "%s: everybody may change it", text);
	else if (in_open_place(h->path))
		hf_scan_found(
			s, as_root ? HF_SEVERITY_HIGH : HF_SEVERITY_MEDIUM, "setuid.open_place",
			h->path,
			"take the right away (chmod u-s,g-s; setcap -r) and find out who made it",
			"%s, in a place where users write", text);
	else if (*package)
		hf_scan_found(s, HF_SEVERITY_INFO, "setuid.packaged", h->path,
			      "none needed, unless nobody here uses it", "%s, of package %s", text,
			      package);
	else if (know_packages)
		hf_scan_found(
			s, as_root ? HF_SEVERITY_HIGH : HF_SEVERITY_MEDIUM, "setuid.unpackaged",
			h->path,
			"take the right away unless you put it there: chmod u-s,g-s; setcap -r",
			"%s, of no package", text);
	else
		hf_scan_found(s, HF_SEVERITY_LOW, "setuid.file", h->path,
			      "take the right away unless it is wanted", "%s", text);
}

static int tell_all(struct hf_scan *s, const struct search *f)
{
	_cleanup_free_ struct hf_dpkg_query *queries = calloc(f->n + 1, sizeof(*queries));
	int r;

	if (!queries)
		return -ENOMEM;
	for (size_t i = 0; i < f->n; i++)
		queries[i].path = f->hits[i].path;
	r = hf_dpkg_find(s, queries, f->n);
	if (r == -ECANCELED || r == -EPIPE)
		return r;
	for (size_t i = 0; i < f->n; i++)
		for (size_t j = 0; j < f->n; j++)
			if (queries[j].path == f->hits[i].path)
				tell(s, &f->hits[i], queries[j].package, r == 0);
	return 0;
}

/* Names on the file system, roughly: what a whole walk will meet. */
static uint64_t names_on(struct hf_scan *s)
{
	struct statvfs v;

	return fstatvfs(s->root, &v) == 0 && v.f_files > v.f_ffree ? v.f_files - v.f_ffree : 200000;
}

int hf_check_setuid(struct hf_scan *s)
{
	_cleanup_free_ struct hit *hits = calloc(HITS_MAX, sizeof(*hits));
	struct search f = {.s = s, .hits = hits};
	int r = hits ? 0 : -ENOMEM;

	f.expected = s->params.paths_n ? 5000 : names_on(s);
	if (s->params.paths_n == 0 && r == 0)
		r = hf_walk(s, "/", look, &f);
	for (size_t i = 0; i < s->params.paths_n && r == 0; i++)
		r = hf_walk(s, s->params.paths[i], look, &f);
	if (r == 0)
		r = tell_all(s, &f);
	if (f.left_out)
		hf_scan_partial(s, "%llu such files are not told", (unsigned long long)f.left_out);
	for (size_t i = 0; i < f.n; i++)
		free(f.hits[i].path);
	return r;
}
