/* SPDX-License-Identifier: Apache-2.0 */
/*
 * update and rollback of a component.
 *
 * An update pins a version: its bundle comes by the portal's offer and goes its own way (release.h);
 * the action waits and says what became of it. A rollback is done here.
 *
 * I1. Whether a rollback was done is told by what should run: the record names what did when it began. A
 *     watchdog that finds another release has nothing left to do.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "watchdog/action_internal.h"
#include "watchdog/release.h"

#define LOOK_MS 300u

/* False: there is no such component. */
static bool view_of(const struct hf_action_run *run, struct hf_release_view *v)
{
	const struct hf_releases *all = run->actions->w->releases;

	for (size_t i = 0; i < hf_releases_count(all); i++) {
		hf_releases_view(all, i, v);
		if (hf_streq(v->component, run->rec->component))
			return true;
	}
	return false;
}

static void end(struct hf_action_run *run, enum hf_action_state state, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void end(struct hf_action_run *run, enum hf_action_state state, const char *fmt, ...)
{
	char text[HF_SUP_TEXT_MAX], json[512] = "";
	struct hf_release_view v;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* Names and versions are words of a manifest's alphabet: nothing to escape. */
	if (view_of(run, &v) && v.record)
		(void)hf_strf(json, sizeof(json),
			      "{\"component\":\"%s\",\"phase\":\"%s\",\"version\":\"%s\"}",
			      v.component, hf_release_phase_name(v.record->phase),
			      v.record->active.version);
	hf_action_end(run, &(struct hf_action_outcome){.state = state,
						       .text = text,
						       .json = json[0] ? json : NULL,
						       .json_len = strlen(json),
						       .artifact = -1});
}

static uint64_t limit_ns(const struct hf_action_run *run)
{
	uint32_t s = run->body && run->body->hard_limit_s ? run->body->hard_limit_s
							  : run->spec->hard_limit_s;

	if (s > 10 * run->spec->hard_limit_s)
		s = 10 * run->spec->hard_limit_s;
	return s * HF_NS_PER_S;
}

static bool is_over_time(const struct hf_action_run *run)
{
	uint64_t now_ns = hf_now_realtime_ns(), began_ns = run->rec->started_unix_ns;

	return began_ns && now_ns > began_ns && now_ns - began_ns > limit_ns(run);
}

static bool has_component(const struct hf_actions *a, const char *name)
{
	for (size_t i = 0; name && i < hf_releases_count(a->w->releases); i++) {
		struct hf_release_view v;

		hf_releases_view(a->w->releases, i, &v);
		if (hf_streq(v.component, name))
			return true;
	}
	return false;
}

/* ---- rollback ------------------------------------------------------------------------------------- */

static enum hf_action_refusal check_rollback(struct hf_actions *a, const Action__Body *b)
{
	static const char *const names[] = {"component", NULL};

	return hf_action_params_only(b, names) && has_component(a, hf_action_param(b, "component"))
		       ? HF_ACTION_REFUSED_NONE
		       : HF_ACTION_REFUSED_BAD_PARAMS;
}

/* What should run, as a word. */
static void what_runs(const struct hf_release_view *v, char dst[static 2 * HF_SHA256_SIZE + 1])
{
	const struct hf_release_slot *slot = v->record ? hf_release_runs(v->record) : NULL;

	dst[0] = 0;
	if (slot)
		hf_hex_encode(dst, slot->hash, HF_SHA256_SIZE);
}

static void prepare_rollback(struct hf_action_run *run)
{
	const char *name = hf_action_param(run->body, "component");
	char hash[2 * HF_SHA256_SIZE + 1] = "";
	struct hf_release_view v;

	hf_action_record_text(&run->rec->component, name ? name : "");
	if (view_of(run, &v))
		what_runs(&v, hash);
	hf_action_record_text(&run->rec->release, hash);
}

/* Does the component run what it should? The watchdog does: it is we. */
static bool is_up(const struct hf_action_run *run)
{
	const struct hf_component *c = hf_watchdog_find(run->actions->w, run->rec->component);
	struct hf_component_health h;

	if (!c)
		return true;
	hf_component_health(c, &h);
	return h.healthy || hf_component_stopped(c);
}

static void look_rollback(struct hf_action_run *run)
{
	char hash[2 * HF_SHA256_SIZE + 1];
	struct hf_release_view v;

	if (!view_of(run, &v)) {
		end(run, HF_ACTION_FAILED, "there is no component '%s'", run->rec->component);
		return;
	}
	what_runs(&v, hash);
	if (!hf_streq(hash, run->rec->release) && is_up(run))
		end(run, HF_ACTION_SUCCEEDED, "%s runs %s", v.component, v.runs);
	else if (is_over_time(run))
		end(run, HF_ACTION_TIMED_OUT, "%s does not work after its rollback", v.component);
	else
		hf_action_arm(run, LOOK_MS, look_rollback);
}

static void begin_rollback(struct hf_action_run *run)
{
	char hash[2 * HF_SHA256_SIZE + 1] = "";
	struct hf_release_view v;
	struct hf_err err = {};

	if (view_of(run, &v))
		what_runs(&v, hash);
	/* I1 */
	if (hf_streq(hash, run->rec->release) &&
	    hf_releases_roll_back(run->actions->w->releases, run->rec->component,
				  "asked for by the portal", &err) < 0) {
		end(run, HF_ACTION_FAILED, "%s", err.msg);
		return;
	}
	hf_action_arm(run, LOOK_MS, look_rollback);
}

const struct hf_action_handler hf_action_rollback = {
	.kind = "rollback",
	.check = check_rollback,
	.prepare = prepare_rollback,
	.begin = begin_rollback,
	.resume = begin_rollback,
};

/* ---- update --------------------------------------------------------------------------------------- */

static enum hf_action_refusal check_update(struct hf_actions *a, const Action__Body *b)
{
	static const char *const names[] = {"component", "version", NULL};
	const char *version = hf_action_param(b, "version");

	return hf_action_params_only(b, names) &&
			       has_component(a, hf_action_param(b, "component")) && version &&
			       hf_version_valid(version)
		       ? HF_ACTION_REFUSED_NONE
		       : HF_ACTION_REFUSED_BAD_PARAMS;
}

static void prepare_update(struct hf_action_run *run)
{
	const char *name = hf_action_param(run->body, "component");
	const char *version = hf_action_param(run->body, "version");

	hf_action_record_text(&run->rec->component, name ? name : "");
	hf_action_record_text(&run->rec->release, version ? version : "");
}

static bool is_version(const struct hf_release_slot *slot, const struct hf_action_run *run)
{
	return hf_streq(slot->version, run->rec->release);
}

/* Its bundle was refused, or it was rolled back, since this action began. */
static bool has_failed(struct hf_action_run *run, const struct hf_release_view *v)
{
	struct hf_release_job_view job;

	hf_releases_job_view(run->actions->w->releases, &job);
	if (job.state == HF_RELEASE_JOB_REFUSED && hf_streq(job.component, v->component) &&
	    hf_streq(job.version, run->rec->release)) {
		end(run, HF_ACTION_FAILED, "%s %s is refused: %s: %s", v->component, job.version,
		    job.reason, job.text);
		return true;
	}
	if (v->rollback->at_realtime_ns > run->rec->started_unix_ns &&
	    hf_streq(v->rollback->from, run->rec->release)) {
		end(run, HF_ACTION_FAILED, "%s %s was rolled back: %s: %s", v->component,
		    v->rollback->from, v->rollback->reason, v->rollback->text);
		return true;
	}
	return false;
}

static void tell_progress(struct hf_action_run *run, const struct hf_release_view *v)
{
	struct hf_release_job_view job;
	char text[HF_SUP_TEXT_MAX];
	uint32_t percent = 0;

	hf_releases_job_view(run->actions->w->releases, &job);
	if (is_version(&v->record->candidate, run)) {
		(void)hf_strf(text, sizeof(text), "%s: healthy for %" PRIu64 " of %" PRIu64 " s",
			      hf_release_phase_name(v->record->phase), v->healthy_ms / 1000,
			      v->probation_ms / 1000);
		if (v->probation_ms)
			percent = (uint32_t)(v->healthy_ms * 100 / v->probation_ms);
	} else if (job.state == HF_RELEASE_JOB_VERIFYING) {
		(void)hf_strf(text, sizeof(text), "verifying %u %%", job.percent);
	} else {
		(void)hf_strf(text, sizeof(text), "waits for the portal's offer of %s",
			      run->rec->release);
	}
	hf_action_progress(run, percent > 99 ? 99 : percent, text);
}

static void look_update(struct hf_action_run *run)
{
	struct hf_release_view v;

	if (!view_of(run, &v) || !v.record) {
		end(run, HF_ACTION_FAILED, "there is no release store for '%s'",
		    run->rec->component);
		return;
	}
	if (is_version(&v.record->active, run) && v.record->phase != HF_RELEASE_SAFE) {
		end(run, HF_ACTION_SUCCEEDED, "%s %s is installed", v.component,
		    v.record->active.version);
		return;
	}
	if (has_failed(run, &v))
		return;
	if (is_over_time(run)) {
		end(run, HF_ACTION_TIMED_OUT, "%s %s was not installed in time", v.component,
		    run->rec->release);
		return;
	}
	tell_progress(run, &v);
	hf_action_arm(run, LOOK_MS, look_update);
}

const struct hf_action_handler hf_action_update = {
	.kind = "update",
	.check = check_update,
	.prepare = prepare_update,
	.begin = look_update,
	.resume = look_update,
};
