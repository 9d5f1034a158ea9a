/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast release */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/bus.h"
#include "tools/ctl/view.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/release_json.h"

#define USAGE   "release {list|stage FILE [--wait]|rollback [COMPONENT]|keys FILE} [--json]"
#define POLL_MS 100
/* A watchdog that replaces itself on a busy host. */
#define AWAY_MS 30000u
/* Components' names and versions have less. */
#define NAME_SIZE 64

/* away_ms: how long the watchdog may be away, since it may be replacing itself. */
static int ask(struct hf_ctl *c, Bus__ReleaseRequest__Verb verb, const char *path,
	       const char *component, unsigned away_ms, Bus__Response **ret)
{
	uint64_t until_ns = hf_now_monotonic_ns() + away_ms * HF_NS_PER_MS;
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__ReleaseRequest what = BUS__RELEASE_REQUEST__INIT;
	struct hf_ctl_problem problem;
	int r;

	what.verb = verb;
	what.path = (char *)path;
	what.component = (char *)component;
	q.what_case = BUS__REQUEST__WHAT_RELEASE;
	q.release = &what;
	while ((r = hf_ctl_ask(c, HF_CTL_WATCHDOG, &q, HF_CTL_DEADLINE_MS, ret, &problem)) < 0 &&
	       problem.code == HF_CTL_UNREACHABLE && hf_now_monotonic_ns() < until_ns)
		(void)poll(NULL, 0, POLL_MS); /* a pause */
	if (r < 0)
		return hf_ctl_fail(problem.code, "release: %s", problem.text);
	if ((*ret)->what_case != BUS__RESPONSE__WHAT_RELEASES)
		return hf_ctl_fail_misfit(c, HF_CTL_WATCHDOG);
	return HF_CTL_OK;
}

static int show(struct hf_ctl *c, const Bus__Releases *m)
{
	c->out.now_ns = hf_now_realtime_ns();
	if (c->json)
		return hf_ctl_print_json(hf_releases_json(m));
	hf_view_releases(&c->out, m);
	return HF_CTL_OK;
}

static int list(struct hf_ctl *c)
{
	_cleanup_pb_ Bus__Response *m = NULL;
	int r = ask(c, BUS__RELEASE_REQUEST__VERB__LIST, "", "", 0, &m);

	return r == HF_CTL_OK ? show(c, m->releases) : r;
}

/* What the watchdog can open, wherever it stands. */
static char *absolute(const struct hf_ctl *c, const char *path)
{
	_cleanup_free_ char *here = NULL;

	if (*path == '/')
		return strdup(path);
	/* --dir has changed the working directory: back for a moment. */
	if (fchdir(c->cwd) < 0)
		return NULL;
	here = getcwd(NULL, 0);
	return here ? hf_asprintf("%s/%s", here, path) : NULL;
}

static const Bus__Release *find(const Bus__Releases *m, const char *component)
{
	for (size_t i = 0; i < m->n_items; i++)
		if (hf_streq(m->items[i]->component, component))
			return m->items[i];
	return NULL;
}

/* What is staged, as far as the watchdog has said; a next watchdog remembers no request. */
struct staging {
	const char *path;
	bool wait;
	uint64_t id;
	char component[NAME_SIZE], version[NAME_SIZE];
	char last[64]; /* the progress that was shown */
};

static void learn(struct staging *s, const Bus__Releases *m)
{
	if (!m->job || m->job->id != s->id || !*m->job->component)
		return;
	(void)hf_strlcpy(s->component, m->job->component, sizeof(s->component));
	(void)hf_strlcpy(s->version, m->job->version, sizeof(s->version));
}

static bool is_ours(const struct staging *s, const Bus__Releases *m)
{
	return m->job && m->job->id == s->id;
}

static bool is_over(const struct staging *s, const Bus__Releases *m)
{
	const Bus__Release *r = find(m, s->component);

	if (is_ours(s, m) && hf_streq(m->job->state, "refused"))
		return true;
	if (is_ours(s, m) && hf_streq(m->job->state, "verifying"))
		return false;
	if (!s->wait || !r)
		return true;
	return !hf_streq(r->phase, "staged") && !hf_streq(r->phase, "preflight") &&
	       !hf_streq(r->phase, "trial");
}

static void progress(const struct hf_ctl *c, struct staging *s, const Bus__Releases *m)
{
	const Bus__Release *r = find(m, s->component);
	char now[64];

	if (c->json || !c->out.tty)
		return;
	if (is_ours(s, m) && hf_streq(m->job->state, "verifying"))
		(void)hf_strf(now, sizeof(now), "verifying %u %%", m->job->percent);
	else if (r && hf_streq(r->phase, "trial") && r->probation_ms)
		(void)hf_strf(now, sizeof(now), "trial %u %%",
			      (unsigned)(r->healthy_ms * 100 / r->probation_ms));
	else
		(void)hf_strlcpy(now, r ? r->phase : "staged", sizeof(now));
	if (hf_streq(now, s->last))
		return;
	(void)hf_strlcpy(s->last, now, sizeof(s->last));
	(void)fprintf(stderr, "\r%-40s", now);
	(void)fflush(stderr);
}

/* Is what was asked for in place, or on its way there? */
static int verdict(struct hf_ctl *c, const struct staging *s, const Bus__Releases *m)
{
	const Bus__Release *r = find(m, s->component);
	int code = show(c, m);

	if (is_ours(s, m) && hf_streq(m->job->state, "refused"))
		return hf_ctl_fail(HF_CTL_BAD_NEWS, "release stage: %s: %s: %s", s->path,
				   m->job->reason, m->job->text);
	if (!r)
		return hf_ctl_fail(HF_CTL_BAD_NEWS,
				   "release stage: %s: the watchdog has forgotten it", s->path);
	if (!s->wait ||
	    (r->active && hf_streq(r->active->version, s->version) && !hf_streq(r->phase, "safe")))
		return code;
	return hf_ctl_fail(HF_CTL_BAD_NEWS, "release stage: %s %s is %s: %s: %s", s->component,
			   s->version, r->phase,
			   r->last_rollback ? r->last_rollback->reason : "gone",
			   r->last_rollback ? r->last_rollback->text : "");
}

static int stage(struct hf_ctl *c, const char *path, bool wait)
{
	struct staging s = {.path = path, .wait = wait};
	_cleanup_free_ char *full = absolute(c, path);
	_cleanup_pb_ Bus__Response *m = NULL;
	int r;

	if (!full)
		return hf_ctl_fail(HF_CTL_BAD_NEWS, "release stage: %s: %s", path, strerror(errno));
	r = ask(c, BUS__RELEASE_REQUEST__VERB__STAGE, full, "", 0, &m);
	if (r != HF_CTL_OK)
		return r;
	s.id = m->releases->job ? m->releases->job->id : 0;
	/* The watchdog gives up by itself after ten minutes. */
	for (learn(&s, m->releases); !is_over(&s, m->releases); learn(&s, m->releases)) {
		progress(c, &s, m->releases);
		bus__response__free_unpacked(TAKE_PTR(m), NULL);
		(void)poll(NULL, 0, POLL_MS); /* a pause */
		r = ask(c, BUS__RELEASE_REQUEST__VERB__LIST, "", "", AWAY_MS, &m);
		if (r != HF_CTL_OK)
			return r;
	}
	if (*s.last)
		(void)fprintf(stderr, "\r%40s\r", "");
	return verdict(c, &s, m->releases);
}

static int change(struct hf_ctl *c, Bus__ReleaseRequest__Verb verb, const char *path,
		  const char *component)
{
	_cleanup_free_ char *full = *path ? absolute(c, path) : strdup("");
	_cleanup_pb_ Bus__Response *m = NULL;
	int r;

	if (!full)
		return hf_ctl_fail(HF_CTL_BAD_NEWS, "%s: %s", path, strerror(errno));
	r = ask(c, verb, full, component, 0, &m);
	return r == HF_CTL_OK ? show(c, m->releases) : r;
}

int hf_ctl_release(struct hf_ctl *c, int argc, char **argv)
{
	bool wait = false;
	const struct hf_ctl_option options[] = {{.name = "--wait", .flag = &wait}};
	const char *words[2] = {"list", ""};
	size_t n = 0;
	int r;

	r = hf_ctl_parse(c, argc, argv, USAGE, options, HF_ARRAY_SIZE(options), words,
			 HF_ARRAY_SIZE(words), &n);
	if (r != 0)
		return r;
	if (wait && !hf_streq(words[0], "stage"))
		return hf_ctl_usage(USAGE, "release: --wait is for stage");
	if (hf_streq(words[0], "list") && n < 2)
		return list(c);
	if (hf_streq(words[0], "stage") && n == 2)
		return stage(c, words[1], wait);
	if (hf_streq(words[0], "rollback"))
		return change(c, BUS__RELEASE_REQUEST__VERB__ROLLBACK, "",
			      n == 2 ? words[1] : "agent");
	if (hf_streq(words[0], "keys") && n == 2)
		return change(c, BUS__RELEASE_REQUEST__VERB__KEYS, words[1], "");
	if (hf_streq(words[0], "stage") || hf_streq(words[0], "keys"))
		return hf_ctl_usage(USAGE, "release %s: which FILE?", words[0]);
	return hf_ctl_usage(USAGE, "release: '%s' is not one of list, stage, rollback, keys",
			    words[0]);
}
