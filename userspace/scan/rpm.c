/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading rpm's database. librpm is looked for when a scan meets such a database, not linked: it is
 * on every host that has one, and a host of Debian's needs it not. What is called of it has been the
 * same since rpm 4.14.
 *
 * I1. Nothing of ours is written: the database is opened read-only and no lock is taken. The worker
 *     could not write either; of root by hand sqlite makes its -wal and -shm, as for `rpm -q`.
 * I2. No macro of the host is expanded: those can run programs, and we read every file.
 */
#include "userspace/scan/rpm.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <rpm/header.h>
#include <rpm/rpmdb.h>
#include <rpm/rpmfiles.h>
#include <rpm/rpmlog.h>
#include <rpm/rpmmacro.h>
#include <rpm/rpmpgp.h>
#include <rpm/rpmts.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* More files than any package has; a header that says more is broken. */
#define FILES_MAX 1000000
/* A server's; for the progress only. */
#define PACKAGES_GUESS 600

typedef int visit_fn(struct hf_scan *s, const struct hf_rpm_file *f, void *arg);

/* Where distributions keep it, and how librpm calls its form. */
static const struct place {
	const char *dir, *file, *backend;
} places[] = {
	{"/usr/lib/sysimage/rpm", "rpmdb.sqlite", "sqlite"},
	{"/var/lib/rpm", "rpmdb.sqlite", "sqlite"},
	{"/usr/lib/sysimage/rpm", "Packages.db", "ndb"},
	{"/var/lib/rpm", "Packages.db", "ndb"},
	/* Older than 4.16, which calls it bdb and has no other; since then it is read-only. */
	{"/var/lib/rpm", "Packages", "bdb_ro"},
};

/* A version each of the same few functions. */
static const char *const libraries[] = {"librpm.so.10", "librpm.so.9", "librpm.so.8"};
static const char *const io_libraries[] = {"librpmio.so.10", "librpmio.so.9", "librpmio.so.8"};

#define FUNCTIONS(X)         \
	X(rpmtsCreate)       \
	X(rpmtsFree)         \
	X(rpmtsSetVSFlags)   \
	X(rpmtsOpenDB)       \
	X(rpmtsInitIterator) \
	X(rpmdbNextIterator) \
	X(rpmdbFreeIterator) \
	X(headerGetAsString) \
	X(rpmfilesNew)       \
	X(rpmfilesFree)      \
	X(rpmfilesFC)        \
	X(rpmfilesFN)        \
	X(rpmfilesFMode)     \
	X(rpmfilesFState)    \
	X(rpmfilesFFlags)    \
	X(rpmfilesVFlags)    \
	X(rpmfilesFDigest)   \
	X(rpmDefineMacro)    \
	X(rpmlogClose)       \
	X(rpmlogSetMask)     \
	X(rpmlogGetNrecs)    \
	X(rpmlogMessage)

/* One pointer for each, of its own type and name. */
static struct {
	bool loaded;
#define POINTER(name) __typeof__(&name) name;
	FUNCTIONS(POINTER)
#undef POINTER
} lib;

static const struct place *find_place(const struct hf_scan *s)
{
	char path[128];
	struct stat st;

	for (size_t i = 0; i < HF_ARRAY_SIZE(places); i++) {
		(void)hf_strf(path, sizeof(path), "%s/%s", places[i].dir, places[i].file);
		if (hf_scan_lstat(s, path, &st) == 0 && S_ISREG(st.st_mode))
			return &places[i];
	}
	return NULL;
}

bool hf_rpm_exists(const struct hf_scan *s)
{
	return find_place(s) != NULL;
}

/* Stays loaded: the process is a scan and ends with it. */
static int load(char why[static HF_SCAN_NOTE_MAX])
{
	void *handle = NULL, *io = NULL;

	if (lib.loaded)
		return 0;
	for (size_t i = 0; i < HF_ARRAY_SIZE(libraries) && !handle; i++) {
		io = dlopen(io_libraries[i], RTLD_NOW);
		handle = io ? dlopen(libraries[i], RTLD_NOW) : NULL;
	}
	if (!handle) {
		(void)hf_strf(why, HF_SCAN_NOTE_MAX,
			      "there is a database of rpm, but no librpm to read it with");
		return -ELIBACC;
	}
#define LOOK_UP(name)                                                                         \
	do {                                                                                  \
		lib.name = (__typeof__(lib.name))dlsym(handle, #name);                        \
		if (!lib.name)                                                                \
			lib.name = (__typeof__(lib.name))dlsym(io, #name);                    \
		if (!lib.name) {                                                              \
			(void)hf_strf(why, HF_SCAN_NOTE_MAX, "the host's librpm has no %s()", \
				      #name);                                                 \
			return -ELIBACC;                                                      \
		}                                                                             \
	} while (0);
	FUNCTIONS(LOOK_UP)
#undef LOOK_UP
	lib.loaded = true;
	return 0;
}

/* Kinds by the numbers of OpenPGP, which is what a package's tag holds. */
static bool kind_of(int algorithm, enum hf_digest_kind *ret)
{
	switch (algorithm) {
	case PGPHASHALGO_MD5:
		*ret = HF_DIGEST_MD5;
		return true;
	case PGPHASHALGO_SHA256:
		*ret = HF_DIGEST_SHA256;
		return true;
	case PGPHASHALGO_SHA384:
		*ret = HF_DIGEST_SHA384;
		return true;
	case PGPHASHALGO_SHA512:
		*ret = HF_DIGEST_SHA512;
		return true;
	default:
		return false;
	}
}

static int each_file(struct hf_scan *s, rpmfiles files, int i, const char *package, visit_fn *fn,
		     void *arg)
{
	unsigned flags = (unsigned)lib.rpmfilesFFlags(files, i);
	struct hf_rpm_file f = {
		.package = package,
		.config = flags & RPMFILE_CONFIG,
		.may_miss = flags & RPMFILE_MISSINGOK,
		.is_doc = flags & RPMFILE_DOC,
	};
	char digest[HF_DIGEST_HEX_MAX];
	_cleanup_free_ char *path = NULL;
	const unsigned char *bytes;
	int algorithm = 0;
	size_t len = 0;

	/* Left out at installation, or replaced by another package's, which has its own digest. */
	if (flags & RPMFILE_GHOST || !S_ISREG(lib.rpmfilesFMode(files, i)) ||
	    lib.rpmfilesFState(files, i) != RPMFILE_STATE_NORMAL)
		return 0;
	path = lib.rpmfilesFN(files, i);
	if (!path || path[0] != '/')
		return 0;
	f.path = path;
	bytes = lib.rpmfilesFDigest(files, i, &algorithm, &len);
	if (bytes && lib.rpmfilesVFlags(files, i) & RPMVERIFY_FILEDIGEST) {
		f.unknown_kind = !kind_of(algorithm, &f.kind) || 2 * len >= sizeof(digest);
		if (!f.unknown_kind) {
			hf_hex_encode(digest, bytes, len);
			f.digest = digest;
		}
	}
	return fn(s, &f, arg);
}

static int each_package(struct hf_scan *s, Header h, visit_fn *fn, void *arg)
{
	_cleanup_free_ char *name = lib.headerGetAsString(h, RPMTAG_NEVRA);
	rpmfiles files = lib.rpmfilesNew(NULL, h, RPMTAG_BASENAMES,
					 RPMFI_NOHEADER | RPMFI_NOFILECLASS | RPMFI_NOFILEDEPS |
						 RPMFI_NOFILELANGS | RPMFI_NOFILECOLORS);
	int n = files ? (int)lib.rpmfilesFC(files) : 0;
	int r = hf_scan_tick(s, 1, name ? name : "a package");

	if (n < 0 || n > FILES_MAX)
		n = 0;
	for (int i = 0; i < n && r == 0; i++)
		r = each_file(s, files, i, name ? name : "?", fn, arg);
	(void)lib.rpmfilesFree(files);
	return r;
}

/* Where librpm shall read; the directory itself, as a test's root is none of its. */
static int set_database(const struct hf_scan *s, const struct place *p)
{
	_cleanup_close_ int fd = hf_scan_open(s, p->dir, O_PATH | O_DIRECTORY);
	char link[64], dir[4096], macro[4096 + 16];
	ssize_t n;

	if (fd < 0)
		return fd;
	(void)hf_strf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, dir, sizeof(dir) - 1);
	if (n < 0)
		return -errno;
	dir[n] = 0;
	/* It would be expanded. */
	if (strchr(dir, '%'))
		return -EINVAL;
	(void)hf_strf(macro, sizeof(macro), "_dbpath %s", dir);
	(void)lib.rpmDefineMacro(NULL, macro, RMIL_CMDLINE);
	(void)hf_strf(macro, sizeof(macro), "_db_backend %s", p->backend);
	(void)lib.rpmDefineMacro(NULL, macro, RMIL_CMDLINE);
	return 0;
}

/* What librpm complained of last, as one line. */
static int complaint(const struct place *p, int r, char why[static HF_SCAN_NOTE_MAX])
{
	const char *text = lib.rpmlogGetNrecs() > 0 ? lib.rpmlogMessage() : NULL;

	(void)hf_strf(why, HF_SCAN_NOTE_MAX, "librpm reads not all of %s/%s: %.100s", p->dir,
		      p->file, text ? text : "it does not say why");
	why[strcspn(why, "\n")] = 0;
	return r;
}

static int each_in(struct hf_scan *s, rpmts ts, uint64_t *seen, visit_fn *fn, void *arg)
{
	rpmdbMatchIterator it = lib.rpmtsInitIterator(ts, RPMDBI_PACKAGES, NULL, 0);
	Header h;
	int r = 0;

	/* An iterator over nothing is none at all, which the caller sees by what was seen. */
	while (it && r == 0 && (h = lib.rpmdbNextIterator(it))) {
		/* How many there are only the end tells. */
		hf_scan_fraction_of(s, (*seen)++, PACKAGES_GUESS);
		r = each_package(s, h, fn, arg);
	}
	(void)lib.rpmdbFreeIterator(it);
	return r;
}

int hf_rpm_each(struct hf_scan *s, visit_fn *fn, void *arg, char why[static HF_SCAN_NOTE_MAX])
{
	const struct place *p = find_place(s);
	uint64_t seen = 0;
	rpmts ts;
	int r;

	if (!p)
		return -ENOENT;
	r = load(why);
	if (r == 0)
		r = set_database(s, p);
	if (r < 0)
		return r;
	/* It keeps what it would print. */
	(void)lib.rpmlogSetMask(RPMLOG_UPTO(RPMLOG_EMERG));
	lib.rpmlogClose();
	ts = lib.rpmtsCreate();
	if (!ts)
		return -ENOMEM;
	/* Who signed a package was asked when it was installed; here nobody's key is trusted. */
	(void)lib.rpmtsSetVSFlags(ts, (rpmVSFlags)(RPMVSF_NOHDRCHK | RPMVSF_MASK_NODIGESTS |
						   RPMVSF_MASK_NOSIGNATURES));
	if (lib.rpmtsOpenDB(ts, O_RDONLY) != 0)
		r = complaint(p, -EIO, why);
	else
		r = each_in(s, ts, &seen, fn, arg);
	/* A broken one ends early, one of a form it does not know has nothing in it. */
	if (r == 0 && lib.rpmlogGetNrecs() > 0)
		r = complaint(p, seen ? -EUCLEAN : -EIO, why);
	if (r == 0 && seen == 0) {
		(void)hf_strf(why, HF_SCAN_NOTE_MAX, "librpm finds no package in %s/%s", p->dir,
			      p->file);
		r = -ENODATA;
	}
	(void)lib.rpmtsFree(ts);
	return r;
}
