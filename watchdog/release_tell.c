/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others hear of releases: components by RELEASE (the agent tells the portal), people and the bus
 * by views.
 */
#include "watchdog/release_internal.h"

#include <string.h>

#include "base/fd.h"
#include "base/str.h"
#include "watchdog/component.h"
#include "watchdog/release_host.h"
#include "watchdog/server.h"

/* ---- to components ------------------------------------------------------------------------------ */

static enum hf_sup_release_step step_of(uint32_t phase)
{
	static const enum hf_sup_release_step steps[] = {
		[HF_RELEASE_IDLE] = HF_SUP_RELEASE_RUNS,
		[HF_RELEASE_STAGED] = HF_SUP_RELEASE_STAGED,
		[HF_RELEASE_PREFLIGHT] = HF_SUP_RELEASE_PREFLIGHT,
		[HF_RELEASE_TRIAL] = HF_SUP_RELEASE_TRIAL,
		[HF_RELEASE_COMMITTED] = HF_SUP_RELEASE_COMMITTED,
		[HF_RELEASE_ROLLED_BACK] = HF_SUP_RELEASE_ROLLED_BACK,
		[HF_RELEASE_SAFE] = HF_SUP_RELEASE_SAFE,
	};
	_Static_assert(HF_ARRAY_SIZE(steps) == _HF_RELEASE_PHASE_MAX, "a step for each phase");

	return phase < _HF_RELEASE_PHASE_MAX ? steps[phase] : HF_SUP_RELEASE_ROLLED_BACK;
}

static void set_slot(const struct hf_release_slot *slot, char version[static HF_VERSION_MAX],
		     uint8_t hash[static HF_SHA256_SIZE])
{
	if (!slot)
		return;
	(void)hf_strlcpy(version, slot->version, HF_VERSION_MAX);
	memcpy(hash, slot->hash, HF_SHA256_SIZE);
}

_Static_assert(HF_SUP_RELEASE_VERSION_MAX == HF_VERSION_MAX, "one size");

/* A sentence may be longer than there is room. */
static void set_text(char dst[static HF_SUP_TEXT_MAX], const char *text)
{
	(void)hf_strlcpy(dst, text, HF_SUP_TEXT_MAX);
	for (size_t n = strlen(dst); n > 0 && !hf_utf8_valid(dst, n); n--)
		dst[n - 1] = 0;
}

static void fill_record(const struct hf_release *r, struct hf_sup_release *m)
{
	const struct hf_release_record *record = hf_release_store_record(r->store);
	uint64_t probation_ns = r->all->w->config.release.probation_s * HF_NS_PER_S;

	set_slot(hf_release_should_run(r), m->version, m->version_hash);
	m->security_epoch = record->security_epoch;
	m->step = step_of(r->distrusted ? HF_RELEASE_ROLLED_BACK : record->phase);
	if (record->candidate.version[0])
		set_slot(&record->candidate, m->candidate, m->candidate_hash);
	if (m->step == HF_SUP_RELEASE_TRIAL && probation_ns)
		m->percent = (uint32_t)(r->judge.healthy_ns >= probation_ns
						? 100
						: r->judge.healthy_ns * 100 / probation_ns);
	m->at_unix_ns = r->rollback.at_realtime_ns;
	if (m->step != HF_SUP_RELEASE_ROLLED_BACK && m->step != HF_SUP_RELEASE_SAFE)
		return;
	if (!m->candidate[0])
		(void)hf_strlcpy(m->candidate, r->rollback.from, sizeof(m->candidate));
	(void)hf_strlcpy(m->reason, r->rollback.reason, sizeof(m->reason));
	set_text(m->text, r->rollback.text);
}

/* A request to stage something for it that came to nothing, or is under way. */
static void fill_request(const struct hf_release *r, struct hf_sup_release *m)
{
	const struct hf_releases *all = r->all;

	if (!hf_streq(all->request.component, r->component) ||
	    (all->request.state != HF_RELEASE_JOB_VERIFYING &&
	     all->request.state != HF_RELEASE_JOB_REFUSED))
		return;
	m->step = all->request.state == HF_RELEASE_JOB_VERIFYING ? HF_SUP_RELEASE_VERIFYING
								 : HF_SUP_RELEASE_REFUSED;
	m->percent = all->request.percent;
	(void)hf_strlcpy(m->candidate, all->request.version, sizeof(m->candidate));
	memset(m->candidate_hash, 0, sizeof(m->candidate_hash));
	(void)hf_strlcpy(m->reason, all->request.reason, sizeof(m->reason));
	set_text(m->text, all->request.text);
}

static void tell(const struct hf_release *r, struct hf_component *to)
{
	struct hf_sup_release m = {.hdr = hf_peer_header(HF_SUP_RELEASE)};

	(void)hf_strlcpy(m.component, r->component, sizeof(m.component));
	if (r->store)
		fill_record(r, &m);
	fill_request(r, &m);
	hf_component_tell(to, &m);
}

void hf_release_tell_all(struct hf_release *r)
{
	for (size_t i = 0; i < r->all->n; i++)
		if (r->all->item[i].c)
			tell(r, r->all->item[i].c);
}

void hf_releases_tell(struct hf_releases *all, struct hf_component *to)
{
	for (size_t i = 0; i < all->n; i++)
		tell(&all->item[i], to);
}

/* ---- to people ---------------------------------------------------------------------------------- */

size_t hf_releases_count(const struct hf_releases *all)
{
	return all ? all->n : 0;
}

void hf_releases_view(const struct hf_releases *all, size_t i, struct hf_release_view *ret)
{
	const struct hf_release *r = &all->item[i];

	*ret = (struct hf_release_view){
		.component = r->component,
		.record = r->store ? hf_release_store_record(r->store) : NULL,
		.error = r->error,
		.runs = r->was_executed ? r->executed.version : "",
		.packaged = r->was_executed && !r->executed.version[0],
		.healthy_ms = hf_release_on_trial(r) ? r->judge.healthy_ns / HF_NS_PER_MS : 0,
		.probation_ms = all->w->config.release.probation_s * 1000,
		.rollback = &r->rollback,
	};
}

const char *hf_release_job_state_name(enum hf_release_job_state state)
{
	static const char *const names[] = {
		[HF_RELEASE_JOB_NONE] = "none",
		[HF_RELEASE_JOB_VERIFYING] = "verifying",
		[HF_RELEASE_JOB_STAGED] = "staged",
		[HF_RELEASE_JOB_REFUSED] = "refused",
	};
	_Static_assert(HF_ARRAY_SIZE(names) == _HF_RELEASE_JOB_MAX, "a name for each");

	return names[state];
}

void hf_releases_job_view(const struct hf_releases *all, struct hf_release_job_view *ret)
{
	*ret = (struct hf_release_job_view){
		.id = all->request.id,
		.state = all->request.state,
		.percent = all->request.percent,
		.component = all->request.component,
		.version = all->request.version,
		.reason = all->request.reason,
		.text = all->request.text,
	};
}

void hf_releases_keys_view(const struct hf_releases *all, struct hf_release_keys_view *ret)
{
	_cleanup_free_ struct hf_keylist *keys = NULL;
	struct hf_err err = {};
	enum hf_refusal refusal = HF_RELEASE_NO_KEYS;

	*ret = (struct hf_release_keys_view){.state = "none"};
	if (all->dir >= 0)
		refusal = hf_release_keys_load(all->dir, all->w->paths.release_keys, &keys, &err);
	(void)hf_strlcpy(ret->text, err.msg, sizeof(ret->text));
	if (refusal != HF_RELEASE_OK) {
		ret->state =
			refusal == HF_RELEASE_NO_KEYS && err.code == -ENOENT ? "none" : "untrusted";
		return;
	}
	ret->version = keys->version;
	ret->created_s = keys->created_s;
	ret->expires_s = keys->expires_s;
	ret->keys = keys->n_keys;
	ret->state = hf_now_realtime_ns() / HF_NS_PER_S < keys->expires_s ? "ok" : "expired";
}
