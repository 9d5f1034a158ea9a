/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog's own update: a transaction like any other, with another judge. holdfast-launch takes
 * the tries and goes back when they are used up; the watchdog on trial says itself that it is healthy,
 * which it is while every component that should run does.
 *
 * It gives way to its successor as it does to an orphan's (main.c, I2): components and kernel programs
 * go on and are adopted. Under systemd it executes holdfast-launch in its place, so the unit's main
 * process stays the same; otherwise it ends with a code that holdfast-launch knows.
 */
#include "watchdog/release_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"
#include "watchdog/component.h"
#include "watchdog/machine.h"

#define SUCCESSOR_US 500000u

void hf_releases_know_self(struct hf_releases *all)
{
	struct hf_release *r = hf_releases_find(all, HF_RELEASE_WATCHDOG);
	const struct hf_release_record *record =
		r->store ? hf_release_store_record(r->store) : NULL;
	uint32_t pid = (uint32_t)getpid();

	r->was_executed = true;
	if (!record)
		return;
	if (record->candidate.version[0] && hf_release_is_process(r, &record->candidate, pid)) {
		r->executed = record->candidate;
		all->i_am_candidate = record->phase == HF_RELEASE_TRIAL;
		if (all->i_am_candidate)
			hf_notice("this watchdog, release %s, is on trial",
				  record->candidate.version);
	} else if (record->active.version[0] && hf_release_is_process(r, &record->active, pid)) {
		r->executed = record->active;
	}
	hf_release_judge_anew(r);
}

bool hf_releases_has_successor(const struct hf_releases *all)
{
	const struct hf_release *r = &all->item[all->n - 1];

	return all->w->launch_fd >= 0 && !all->i_am_candidate && hf_release_on_trial(r) &&
	       hf_release_store_record(r->store)->tries_left == HF_RELEASE_TRIES;
}

bool hf_releases_self_healthy(const struct hf_releases *all)
{
	const struct hf_watchdog *w = all->w;

	for (size_t i = 0; i < w->components; i++) {
		struct hf_component_health h;

		hf_component_health(w->component[i], &h);
		/* One that a person stopped is no sign of anything. */
		if (!h.healthy && !hf_component_stopped(w->component[i]))
			return false;
	}
	return true;
}

static int on_successor(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_releases *all = HF_CAST(userdata, struct hf_releases, RELEASES_MAGIC);

	(void)source;
	(void)usec;
	all->successor = sd_event_source_disable_unref(all->successor);
	if (all->w->stopping)
		return 0;
	hf_notice("giving way to release %s of the watchdog",
		  hf_release_slot_name(
			  hf_release_should_run(hf_releases_find(all, HF_RELEASE_WATCHDOG))));
	all->w->handing_over = true;
	all->w->succeeded = true;
	return sd_event_exit(all->w->event, 0);
}

void hf_releases_replace_self(struct hf_releases *all)
{
	if (all->w->stopping || all->w->handing_over)
		return;
	if (all->w->launch_fd < 0) {
		hf_notice(
			"this watchdog was not started by holdfast-launch: its own update waits for that");
		return;
	}
	/* Who waits for the word "staged" shall hear it from us. */
	if (all->successor)
		return;
	if (sd_event_add_time_relative(all->w->event, &all->successor, CLOCK_MONOTONIC,
				       SUCCESSOR_US, 10000, on_successor, all) < 0)
		(void)on_successor(NULL, 0, all);
}
