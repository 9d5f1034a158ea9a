/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watched files against their accepted state. The old state is read and the new one written in the
 * same walk. A file that became what its package installed is an upgrade and told as such.
 *
 * I1. A new baseline is complete or not there: after a cancel, an error or a full result it is
 *     emptied, and an empty one is not kept.
 * I2. Differences that were accepted before this scan are told in it; it is the next one's baseline
 *     that changes.
 */
#include "userspace/scan/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "userspace/scan/baseline.h"
#include "userspace/scan/digest.h"
#include "userspace/scan/dpkg.h"
#include "userspace/scan/walk.h"

/* An upgrade of a distribution changes as many; what is above is told without asking packages. */
#define CHANGES_MAX 20000u

struct change {
	char *path;
	char *evidence;
	enum hf_severity severity;
	const char *id;
	bool content; /* a package may explain it */
};

struct comparison {
	struct hf_scan *s;
	struct hf_baseline_reader old;
	bool compares;
	FILE *out; /* NULL: no new one is made */
	bool out_broken;
	char *line; /* of out */
	struct hf_baseline_entry now;
	struct change *changes;
	size_t n;
	uint64_t entries, changing;
};

/* ---- how bad is it ----------------------------------------------------------------------------- */

/* Who changes these gets in, or becomes root. */
static bool is_sensitive(const char *path)
{
	static const char *const places[] = {
		"/etc/passwd",
		"/etc/shadow",
		"/etc/group",
		"/etc/gshadow",
		"/etc/sudoers",
		"/etc/sudoers.d",
		"/etc/ssh",
		"/etc/pam.d",
		"/etc/security",
		"/etc/ld.so.preload",
		"/etc/ld.so.conf",
		"/etc/ld.so.conf.d",
		"/etc/crontab",
		"/etc/cron.d",
		"/etc/cron.daily",
		"/etc/cron.hourly",
		"/etc/cron.weekly",
		"/etc/cron.monthly",
		"/etc/systemd/system",
		"/etc/profile",
		"/etc/profile.d",
		"/etc/init.d",
		"/etc/holdfast",
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(places); i++)
		if (hf_path_below(path, places[i]))
			return true;
	return false;
}

static bool is_program(uint32_t mode)
{
	return S_ISREG(mode) && mode & 0111;
}

static const char fix[] =
	"find out who changed it; when it is right, holdfast scan --accept-baseline";

static void tell_change(struct hf_scan *s, const struct change *c)
{
	hf_scan_found(s, c->severity, c->id, c->path, fix, "%s", c->evidence);
}

static void changed(struct comparison *c, enum hf_severity severity, const char *id,
		    const char *path, bool content, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

static void changed(struct comparison *c, enum hf_severity severity, const char *id,
		    const char *path, bool content, const char *fmt, ...)
{
	struct change x = {.severity = severity, .id = id, .content = content};
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c->n < CHANGES_MAX) {
		x.path = strdup(path);
		x.evidence = strdup(text);
		if (x.path && x.evidence) {
			c->changes[c->n++] = x;
			return;
		}
		free(x.path);
		free(x.evidence);
	}
	hf_scan_found(c->s, severity, id, path, fix, "%s", text);
}

static void compare(struct comparison *c, const struct hf_baseline_entry *old,
		    const struct hf_baseline_entry *now)
{
	enum hf_severity severity =
		is_program(now->mode) || is_program(old->mode) || is_sensitive(now->path)
			? HF_SEVERITY_HIGH
			: HF_SEVERITY_MEDIUM;

	if (!hf_streq(old->digest, now->digest))
		changed(c, severity, "baseline.changed", now->path, true,
			"sha256 was %.16s…, is %.16s…; size was %llu, is %llu", old->digest,
			now->digest, (unsigned long long)old->size, (unsigned long long)now->size);
	if (old->mode != now->mode || old->uid != now->uid || old->gid != now->gid) {
		bool worse = now->mode & ~old->mode & (S_IWOTH | S_ISUID | S_ISGID) ||
			     (now->mode & S_IFMT) != (old->mode & S_IFMT);

		changed(c, worse ? HF_SEVERITY_HIGH : HF_SEVERITY_MEDIUM, "baseline.permissions",
			now->path, false, "was %06o %u:%u, is %06o %u:%u", old->mode, old->uid,
			old->gid, now->mode, now->uid, now->gid);
	}
}

static void appeared(struct comparison *c, const struct hf_baseline_entry *now)
{
	enum hf_severity severity = is_sensitive(now->path) ? HF_SEVERITY_HIGH
				    : is_program(now->mode) ? HF_SEVERITY_MEDIUM
							    : HF_SEVERITY_LOW;

	changed(c, severity, "baseline.new", now->path, S_ISREG(now->mode),
		"was not there, is %06o %u:%u sha256 %.16s…", now->mode, now->uid, now->gid,
		now->digest);
}

static void vanished(struct comparison *c, const struct hf_baseline_entry *old)
{
	changed(c,
		is_program(old->mode) || is_sensitive(old->path) ? HF_SEVERITY_MEDIUM
								 : HF_SEVERITY_LOW,
		"baseline.missing", old->path, false, "was %06o %u:%u sha256 %.16s…, is not there",
		old->mode, old->uid, old->gid, old->digest);
}

/* ---- the walk ------------------------------------------------------------------------------------ */

static bool below_one_of(const char *path, char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (hf_path_below(path, list[i]))
			return true;
	return false;
}

/* Is the old entry one that this walk passes? */
static bool is_asked_for(const struct comparison *c, const char *path)
{
	const struct hf_scan_params *p = &c->s->params;

	return !hf_scan_excluded(c->s, path) && below_one_of(path, p->watched, p->watched_n) &&
	       (p->paths_n == 0 || below_one_of(path, p->paths, p->paths_n));
}

/* Old entries before path are not there any more; true if the present one is path. */
static int advance_to(struct comparison *c, const char *path, bool *ret_found)
{
	*ret_found = false;
	while (c->compares && c->old.has) {
		int order = path ? hf_path_compare(c->old.entry.path, path) : -1, r;

		if (order > 0)
			return 0;
		if (order == 0) {
			*ret_found = true;
			return 0;
		}
		if (is_asked_for(c, c->old.entry.path))
			vanished(c, &c->old.entry);
		r = hf_baseline_next(&c->old);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A link's target counts as its content. */
static int digest_of(struct comparison *c, const struct hf_walk_entry *e, char *dst)
{
	_cleanup_close_ int fd = -1;
	char target[4096];
	ssize_t n;

	(void)hf_strlcpy(dst, "-", HF_DIGEST_HEX_MAX);
	if (S_ISLNK(e->st.st_mode)) {
		n = readlinkat(e->dir, e->name, target, sizeof(target));
		return n < 0 ? -errno : hf_digest_text(target, (size_t)n, dst);
	}
	if (!S_ISREG(e->st.st_mode))
		return 0;
	fd = hf_walk_open(e);
	return fd < 0 ? fd : hf_digest_file(c->s, fd, HF_DIGEST_SHA256, e->path, dst);
}

static void write_out(struct comparison *c, const char *text)
{
	if (c->out && fputs(text, c->out) < 0)
		c->out_broken = true;
}

static int look(void *userdata, const struct hf_walk_entry *e)
{
	struct comparison *c = userdata;
	struct hf_check_state *state = &c->s->state[c->s->current];
	struct hf_baseline_entry *now = &c->now;
	bool known;
	int r;

	state->looked_at++;
	if (state->looked_at % 16 == 0)
		hf_scan_fraction_of(c->s, state->looked_at, 20000);
	now->mode = e->st.st_mode;
	now->uid = e->st.st_uid;
	now->gid = e->st.st_gid;
	now->size = S_ISREG(e->st.st_mode) ? (uint64_t)e->st.st_size : 0;
	(void)hf_strlcpy(now->path, e->path, sizeof(now->path));
	r = digest_of(c, e, now->digest);
	if (r == -ECANCELED || r == -EPIPE)
		return r;
	if (r == -ENOENT)
		return 0; /* gone meanwhile */
	if (r == -EAGAIN || r == -ESTALE)
		c->changing++;
	else if (r < 0)
		state->unreadable++;
	if (r < 0) {
		/* Neither the same nor another one: it keeps its place as it was. */
		r = advance_to(c, now->path, &known);
		if (r == 0 && known) {
			hf_baseline_format(&c->old.entry, c->line);
			write_out(c, c->line);
			c->entries++;
			r = hf_baseline_next(&c->old);
		}
		return r;
	}
	c->entries++;
	hf_baseline_format(now, c->line);
	write_out(c, c->line);
	r = advance_to(c, now->path, &known);
	if (r < 0)
		return r;
	if (known) {
		compare(c, &c->old.entry, now);
		return hf_baseline_next(&c->old);
	}
	/* What was not watched when the state was accepted is not new. */
	if (c->compares && below_one_of(now->path, c->old.watched, c->old.watched_n))
		appeared(c, now);
	return 0;
}

/* ---- explaining ------------------------------------------------------------------------------------ */

static bool is_as_packaged(struct hf_scan *s, const struct hf_dpkg_query *q, int *r)
{
	_cleanup_close_ int fd = -1;
	char digest[HF_DIGEST_HEX_MAX];

	if (!*q->md5)
		return false;
	fd = hf_scan_open(s, q->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return false;
	*r = hf_digest_file(s, fd, HF_DIGEST_MD5, q->path, digest);
	return *r == 0 && hf_streq(digest, q->md5);
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct change *)a)->path, ((const struct change *)b)->path);
}

static int tell_all(struct comparison *c)
{
	_cleanup_free_ struct hf_dpkg_query *queries = calloc(c->n + 1, sizeof(*queries));
	size_t n = 0;
	int r;

	if (!queries)
		return -ENOMEM;
	for (size_t i = 0; i < c->n; i++)
		if (c->changes[i].content)
			queries[n++].path = c->changes[i].path;
	r = hf_dpkg_find(c->s, queries, n);
	if (r == -ECANCELED || r == -EPIPE)
		return r;
	/* Both in the same order. */
	if (c->n)
		qsort(c->changes, c->n, sizeof(*c->changes), by_path);
	for (size_t i = 0, j = 0; i < c->n; i++) {
		struct change *x = &c->changes[i];
		int e = 0;

		while (j < n && strcmp(queries[j].path, x->path) < 0)
			j++;
		if (x->content && j < n && hf_streq(queries[j].path, x->path) &&
		    is_as_packaged(c->s, &queries[j], &e))
			hf_scan_found(c->s, HF_SEVERITY_LOW, "baseline.upgraded", x->path,
				      "accept it: holdfast scan --accept-baseline",
				      "%s; it is what package %s installed", x->evidence,
				      queries[j].package);
		else
			tell_change(c->s, x);
		if (e == -ECANCELED || e == -EPIPE)
			return e;
	}
	return 0;
}

/* ---- the whole --------------------------------------------------------------------------------------- */

static int compare_paths(const void *a, const void *b)
{
	return hf_path_compare(*(char *const *)a, *(char *const *)b);
}

static int begin_out(struct comparison *c)
{
	struct hf_scan_params *p = &c->s->params;
	_cleanup_close_ int copy = -1;
	char text[4 * 4096 + 1];

	/* A part of the files makes no whole. */
	if (!p->keep_baseline || (p->have_baseline && !p->accept) || p->paths_n)
		return 0;
	copy = fcntl(c->s->baseline_out, F_DUPFD_CLOEXEC, 3);
	c->out = copy < 0 ? NULL : fdopen(copy, "w");
	if (!c->out)
		return -errno;
	(void)TAKE_FD(copy);
	write_out(c, "holdfast-baseline 1\n");
	for (size_t i = 0; i < p->watched_n; i++) {
		hf_baseline_escape(p->watched[i], text);
		write_out(c, "watch ");
		write_out(c, text);
		write_out(c, "\n");
	}
	return 0;
}

/* I1 */
static void end_out(struct comparison *c, bool good)
{
	if (!c->out)
		return;
	(void)fprintf(c->out, "end %llu\n", (unsigned long long)c->entries);
	if (fflush(c->out) != 0 || ferror(c->out))
		c->out_broken = true;
	(void)fclose(c->out);
	if (good && !c->out_broken) {
		c->s->baseline_word = c->s->params.have_baseline ? "renewed" : "created";
		return;
	}
	(void)!ftruncate(c->s->baseline_out, 0);
	if (c->out_broken)
		hf_scan_partial(c->s,
				"the new baseline has no room: watch less, or leave something "
				"out (scan.paths, scan.exclude)");
}

static int walk_all(struct comparison *c)
{
	struct hf_scan_params *p = &c->s->params;
	char *last = NULL;
	bool found;
	int r = 0;

	for (size_t i = 0; i < p->watched_n && r == 0; i++) {
		if (last && hf_path_below(p->watched[i], last))
			continue; /* walked already */
		last = p->watched[i];
		if (p->paths_n == 0 || below_one_of(last, p->paths, p->paths_n)) {
			r = hf_walk(c->s, last, look, c);
			continue;
		}
		for (size_t j = 0; j < p->paths_n && r == 0; j++)
			if (hf_path_below(p->paths[j], last))
				r = hf_walk(c->s, p->paths[j], look, c);
	}
	return r < 0 ? r : advance_to(c, NULL, &found);
}

static void sort_paths(char **paths, size_t n)
{
	if (n)
		qsort(paths, n, sizeof(*paths), compare_paths);
}

static int run(struct comparison *c)
{
	struct hf_scan_params *p = &c->s->params;
	int r = begin_out(c);

	if (r == 0 && p->have_baseline) {
		r = hf_baseline_open(&c->old, c->s->baseline_in);
		c->compares = r == 0;
	}
	if (r == -EBADMSG) {
		hf_scan_not_checked(c->s, "the kept baseline is damaged; holdfast scan "
					  "--accept-baseline makes a new one");
		r = c->out ? 0 : -EBADMSG;
	}
	if (r == 0)
		r = walk_all(c);
	if (r == 0)
		r = tell_all(c);
	return r;
}

int hf_check_baseline(struct hf_scan *s)
{
	struct comparison *c;
	int r;

	if (!s->params.have_baseline && !s->params.keep_baseline) {
		hf_scan_not_checked(s, "there is no watchdog that keeps a baseline");
		return 0;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->s = s;
	c->changes = calloc(CHANGES_MAX, sizeof(*c->changes));
	c->line = malloc(HF_BASELINE_LINE_MAX);
	sort_paths(s->params.watched, s->params.watched_n);
	sort_paths(s->params.paths, s->params.paths_n);
	s->baseline_word = s->params.have_baseline ? "compared" : "not_compared";
	r = c->changes && c->line ? run(c) : -ENOMEM;
	if (r == -EBADMSG) {
		s->baseline_word = "damaged";
		hf_scan_not_checked(s, "the kept baseline is damaged; holdfast scan "
				       "--accept-baseline makes a new one");
	}
	end_out(c, r == 0);
	if (c->changing)
		hf_scan_partial(s, "%llu files changed while they were read",
				(unsigned long long)c->changing);
	for (size_t i = 0; i < c->n; i++) {
		free(c->changes[i].path);
		free(c->changes[i].evidence);
	}
	hf_baseline_close(&c->old);
	free(c->changes);
	free(c->line);
	free(c);
	return r == -EBADMSG ? 0 : r;
}
