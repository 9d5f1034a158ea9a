/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan and collect: actions that are a worker's.
 *
 * I1. A worker ends with its watchdog, so there is nothing to resume: what a predecessor had begun
 *     has failed. For the same reason the end of our own work says nothing of an action; the next
 *     watchdog does.
 */
#include "watchdog/action_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "watchdog/collect.h"
#include "watchdog/scan.h"

struct wish {
	struct hf_scan_order order;
	const char *paths[HF_SCAN_ORDER_PATHS_MAX];
	char checks[257];
};

static bool add_check(struct wish *w, const char *name)
{
	size_t n = strlen(w->checks);

	return hf_strf(w->checks + n, sizeof(w->checks) - n, "%s%s", n ? "," : "", name);
}

/* False: a parameter that a scan does not have. w is borrowed by its own order, as b is. */
static bool parse(const Action__Body *b, struct wish *w)
{
	*w = (struct wish){};
	w->order.checks = w->checks;
	w->order.paths = w->paths;
	for (size_t i = 0; i < b->n_params; i++) {
		const Action__Param *p = b->params[i];

		if (hf_streq(p->name, "checks")) {
			if (!add_check(w, p->value))
				return false;
		} else if (hf_streq(p->name, "paths")) {
			if (w->order.paths_n == HF_SCAN_ORDER_PATHS_MAX)
				return false;
			w->paths[w->order.paths_n++] = p->value;
		} else if (hf_streq(p->name, "accept_baseline")) {
			if (!hf_streq(p->value, "true") && !hf_streq(p->value, "false"))
				return false;
			w->order.accept_baseline = hf_streq(p->value, "true");
		} else {
			return false;
		}
	}
	return hf_scan_order_check(&w->order, NULL) == 0;
}

static enum hf_action_refusal check_scan(struct hf_actions *a, const Action__Body *b)
{
	struct wish w;

	(void)a;
	return parse(b, &w) ? HF_ACTION_REFUSED_NONE : HF_ACTION_REFUSED_BAD_PARAMS;
}

static enum hf_action_state state_of(enum hf_worker_outcome outcome)
{
	switch (outcome) {
	case HF_WORKER_SUCCEEDED:
		return HF_ACTION_SUCCEEDED;
	case HF_WORKER_FAILED:
		return HF_ACTION_FAILED;
	case HF_WORKER_CANCELLED:
		return HF_ACTION_CANCELLED;
	case HF_WORKER_TIMED_OUT:
		return HF_ACTION_TIMED_OUT;
	case _HF_WORKER_OUTCOME_MAX:
		break;
	}
	return HF_ACTION_FAILED;
}

static void end(struct hf_action_run *run, enum hf_worker_outcome outcome, const char *json,
		size_t json_len, int artifact, const char *text)
{
	run->worker = NULL;
	/* I1 */
	if (outcome == HF_WORKER_CANCELLED && !run->cancel) {
		(void)hf_close(artifact);
		return;
	}
	hf_action_end(run, &(struct hf_action_outcome){.state = state_of(outcome),
						       .text = text,
						       .json = json_len ? json : NULL,
						       .json_len = json_len,
						       .artifact = artifact});
}

static uint64_t idle_ns(const struct hf_action_run *run)
{
	return run->body->idle_limit_s * HF_NS_PER_S;
}

static uint64_t hard_ns(const struct hf_action_run *run)
{
	return run->body->hard_limit_s * HF_NS_PER_S;
}

static void on_progress(void *userdata, uint32_t percent, const char *text)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);

	hf_action_progress(run, percent, text);
}

/* ---- scan ------------------------------------------------------------------------------------------ */

static void on_scan_done(void *userdata, enum hf_worker_outcome outcome, int result,
			 const char *reason)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);
	_cleanup_free_ char *json = NULL;
	_cleanup_close_ int fd = result;
	ssize_t n = 0;

	if (fd >= 0) {
		json = malloc(HF_ACTION_RESULT_MAX);
		n = json ? hf_read_full(fd, json, HF_ACTION_RESULT_MAX) : -ENOMEM;
	}
	if (n < 0)
		end(run, HF_WORKER_FAILED, NULL, 0, -1, "its result cannot be read");
	else
		end(run, outcome, json, (size_t)n, -1, reason);
}

static void begin_scan(struct hf_action_run *run)
{
	struct hf_scan_run *scan = NULL;
	struct hf_err err = {};
	struct wish w;

	if (!parse(run->body, &w)) {
		end(run, HF_WORKER_FAILED, NULL, 0, -1, "its parameters are not right");
		return;
	}
	w.order.idle_limit_ns = idle_ns(run);
	w.order.hard_limit_ns = hard_ns(run);
	if (hf_scan_begin(run->actions->w, &w.order, on_progress, on_scan_done, run, &scan, &err) <
	    0)
		end(run, HF_WORKER_FAILED, NULL, 0, -1, err.msg);
	else
		run->worker = scan;
}

static void cancel_scan(struct hf_action_run *run)
{
	if (run->worker)
		hf_scan_cancel(run->worker);
}

/* ---- collect ----------------------------------------------------------------------------------------- */

static void on_collect_done(void *userdata, enum hf_worker_outcome outcome, int archive,
			    const char *json, const char *reason)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);

	end(run, outcome, json, strlen(json), archive, reason);
}

static void begin_collect(struct hf_action_run *run)
{
	struct hf_collect_run *collect = NULL;
	struct hf_err err = {};

	if (hf_collect_begin(run->actions->w, idle_ns(run), hard_ns(run), on_progress,
			     on_collect_done, run, &collect, &err) < 0)
		end(run, HF_WORKER_FAILED, NULL, 0, -1, err.msg);
	else
		run->worker = collect;
}

static void cancel_collect(struct hf_action_run *run)
{
	if (run->worker)
		hf_collect_cancel(run->worker);
}

static enum hf_action_refusal check_collect(struct hf_actions *a, const Action__Body *b)
{
	(void)a;
	return b->n_params == 0 ? HF_ACTION_REFUSED_NONE : HF_ACTION_REFUSED_BAD_PARAMS;
}

const struct hf_action_handler hf_action_scan = {
	.kind = "scan",
	.check = check_scan,
	.begin = begin_scan,
	.cancel = cancel_scan,
};

const struct hf_action_handler hf_action_collect = {
	.kind = "collect",
	.check = check_collect,
	.begin = begin_collect,
	.cancel = cancel_collect,
};
