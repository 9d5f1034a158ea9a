/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast scan */
#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/bus.h"
#include "tools/ctl/scan_local.h"
#include "tools/ctl/view_scan.h"
#include "userspace/proto/frame.h"

#define USAGE     "scan [--checks A,B] [--path P]... [--accept-baseline] [--local] [--json]"
#define PATHS_MAX 64
/* Four looks a second: as often as a scan has something to say. */
#define POLL_MS 250
/* After a cancel: what the watchdog gives a worker to end, and some. */
#define END_MS 20000u

static volatile int stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

/* One line on the terminal, on stderr: stdout is the answer. */
struct progress {
	struct hf_term term;
	bool shown;
};

static void show(void *userdata, unsigned percent, const char *text)
{
	struct progress *p = userdata;
	_cleanup_free_ char *safe = NULL;

	if (!p->term.tty)
		return;
	safe = hf_term_safe(text);
	if (p->term.width > 12)
		hf_term_truncate(safe, p->term.width - 8);
	(void)fprintf(p->term.f, "\r\033[K%3u %%  %s", percent, safe);
	(void)fflush(p->term.f);
	p->shown = true;
}

static void clear(struct progress *p)
{
	if (p->shown)
		(void)fputs("\r\033[K", p->term.f);
	p->shown = false;
}

/* ---- by the watchdog ----------------------------------------------------------------------------- */

static int ask(struct hf_ctl *c, Bus__ScanRequest *what, Bus__Response **ret,
	       struct hf_ctl_problem *problem)
{
	Bus__Request q = BUS__REQUEST__INIT;
	int r;

	q.what_case = BUS__REQUEST__WHAT_SCAN;
	q.scan = what;
	r = hf_ctl_ask(c, HF_CTL_WATCHDOG, &q, HF_CTL_DEADLINE_MS, ret, problem);
	if (r == 0 && (*ret)->what_case != BUS__RESPONSE__WHAT_SCAN) {
		problem->code = hf_ctl_fail_misfit(c, HF_CTL_WATCHDOG);
		problem->text[0] = 0; /* told */
		return -EPROTO;
	}
	return r;
}

/* Polls until it has ended. 0 with *ret its last state, or an exit code. */
static int follow(struct hf_ctl *c, uint64_t id, struct progress *p, Bus__Response **ret,
		  struct hf_ctl_problem *problem)
{
	uint64_t end_ns = UINT64_MAX;
	bool asked = false;

	for (;;) {
		Bus__ScanRequest what = BUS__SCAN_REQUEST__INIT;
		Bus__Response *m = NULL;
		int r;

		what.id = id;
		what.verb = BUS__SCAN_REQUEST__VERB__POLL;
		if (stop && !asked) {
			what.verb = BUS__SCAN_REQUEST__VERB__CANCEL;
			end_ns = hf_now_monotonic_ns() + END_MS * HF_NS_PER_MS;
			asked = true;
		}
		r = ask(c, &what, &m, problem);
		if (r < 0)
			return r;
		if (!hf_streq(m->scan->state, "running") || hf_now_monotonic_ns() > end_ns) {
			*ret = m;
			return 0;
		}
		show(p, m->scan->percent, m->scan->text);
		bus__response__free_unpacked(m, NULL);
		(void)poll(NULL, 0, POLL_MS); /* a pause, which a signal ends */
	}
}

static int by_watchdog(struct hf_ctl *c, const struct hf_scan_wish *w, struct progress *p,
		       struct hf_buf *out, struct hf_ctl_problem *problem)
{
	Bus__ScanRequest what = BUS__SCAN_REQUEST__INIT;
	_cleanup_pb_ Bus__Response *begun = NULL, *ended = NULL, *result = NULL;
	int r;

	what.verb = BUS__SCAN_REQUEST__VERB__START;
	what.checks = (char *)(w->checks ? w->checks : "");
	what.paths = (char **)w->paths;
	what.n_paths = w->paths_n;
	what.accept_baseline = w->accept;
	r = ask(c, &what, &begun, problem);
	if (r < 0)
		return r;
	r = follow(c, begun->scan->id, p, &ended, problem);
	/* One that had begun ended with its watchdog: not the case in which we scan ourselves. */
	problem->code = HF_CTL_BAD_NEWS;
	if (r < 0)
		return r;
	if (!hf_streq(ended->scan->state, "succeeded")) {
		(void)hf_strf(problem->text, sizeof(problem->text), "scan: %s%s%s",
			      ended->scan->state, *ended->scan->text ? ": " : "",
			      ended->scan->text);
		return -EIO;
	}
	if (*ended->scan->text)
		(void)hf_ctl_fail(0, "scan: %s", ended->scan->text);
	what = (Bus__ScanRequest)BUS__SCAN_REQUEST__INIT;
	what.verb = BUS__SCAN_REQUEST__VERB__RESULT;
	what.id = begun->scan->id;
	r = ask(c, &what, &result, problem);
	if (r == 0)
		r = hf_buf_append(out, result->scan->result.data, result->scan->result.len);
	return r;
}

/* ---- the verb -------------------------------------------------------------------------------------- */

static int run(struct hf_ctl *c, const struct hf_scan_wish *w, bool local, struct hf_buf *out)
{
	struct hf_ctl_problem problem = {};
	struct progress p = {};
	char why[256] = "";
	int r = -ECONNREFUSED;

	hf_term_init(&p.term, stderr);
	if (!local)
		r = by_watchdog(c, w, &p, out, &problem);
	if (local || (r < 0 && problem.code == HF_CTL_UNREACHABLE)) {
		if (!local)
			(void)hf_ctl_fail(0, "scan: no watchdog answers: scanning with your own "
					     "rights, without baseline");
		problem.code = HF_CTL_BAD_NEWS;
		r = hf_scan_local(c, w, &stop, show, &p, out, why);
		if (r < 0)
			(void)hf_strf(problem.text, sizeof(problem.text), "scan: %s",
				      r == -ECANCELED ? "cancelled" : why);
	}
	clear(&p);
	if (r < 0)
		return *problem.text ? hf_ctl_fail(problem.code, "%s", problem.text) : problem.code;
	return HF_CTL_OK;
}

int hf_ctl_scan(struct hf_ctl *c, int argc, char **argv)
{
	const char *checks = NULL, *paths[PATHS_MAX];
	bool accept = false, local = false;
	size_t paths_n = 0;
	const struct hf_ctl_option options[] = {
		{.name = "--checks", .value = &checks},
		{.name = "--path", .list = paths, .list_n = &paths_n, .list_max = PATHS_MAX},
		{.name = "--accept-baseline", .flag = &accept},
		{.name = "--local", .flag = &local},
	};
	struct sigaction action = {.sa_handler = on_signal};
	struct hf_buf out = {};
	json_t *result;
	int r;

	r = hf_ctl_parse(c, argc, argv, USAGE, options, HF_ARRAY_SIZE(options), NULL, 0, NULL);
	if (r != 0)
		return r;
	if (accept && (local || paths_n))
		return hf_ctl_usage(USAGE,
				    "scan: --accept-baseline is for all watched files and by "
				    "the watchdog, without --path and --local");
	for (size_t i = 0; i < paths_n; i++)
		if (*paths[i] != '/')
			return hf_ctl_usage(USAGE, "scan: --path '%s' is not absolute", paths[i]);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	r = run(c,
		&(struct hf_scan_wish){
			.checks = checks, .paths = paths, .paths_n = paths_n, .accept = accept},
		local, &out);
	result = r == HF_CTL_OK && out.len
			 ? json_loadb((const char *)out.data, out.len, JSON_ALLOW_NUL, NULL)
			 : NULL;
	hf_buf_done(&out);
	if (r != HF_CTL_OK)
		return r;
	if (!result)
		return hf_ctl_fail(HF_CTL_BAD_NEWS, "scan: its result cannot be read");
	r = hf_view_scan_is_bad(result) ? HF_CTL_BAD_NEWS : HF_CTL_OK;
	if (!c->json) {
		hf_view_scan(&c->out, result);
		json_decref(result);
		return r;
	}
	return hf_ctl_print_json(result) == HF_CTL_OK ? r : HF_CTL_BAD_NEWS;
}
