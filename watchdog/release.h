/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The releases of this host: which version of a component is executed, and how an update goes from
 * staged over its trial to committed or rolled back. On disk it is release_store.h, as a table
 * release_state.h, as a judgement release_judge.h; here it meets processes, time and people.
 *
 * One transaction at a time: while one version is on trial, the next staged one waits.
 *
 * Everything that decides what runs is on disk before it is acted upon. On the path from an exit to
 * the next exec the disk is touched only by a trial (its try) and by a rollback.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "holdfast/supervise.h"
#include "watchdog/death.h"
#include "watchdog/release_state.h"
#include "watchdog/watchdog.h"

struct hf_release;
struct hf_releases;
struct hf_component;

/* The watchdog itself in the store. */
#define HF_RELEASE_WATCHDOG "watchdog"

/*
 * Opens the stores and takes in what the package brought. Without a store (read-only, noexec, damaged
 * beyond repair) the package's programs run, and staging is refused with the reason. Before any
 * component is made; takes as long as reading the programs once.
 */
int hf_releases_new(struct hf_watchdog *w, struct hf_releases **ret);
struct hf_releases *hf_releases_free(struct hf_releases *all);
HF_DEFINE_CLEANUP(struct hf_releases *, hf_releases_free);
/* Components are there: goes on with what had begun. */
void hf_releases_begin(struct hf_releases *all);
/* The configuration was read again. */
void hf_releases_reconfigure(struct hf_releases *all);

/* ---- for component.c ---------------------------------------------------------------------------- */

/* c's own, NULL if it has none. c is borrowed until hf_releases_free(). */
struct hf_release *hf_releases_attach(struct hf_releases *all, struct hf_component *c,
				      const char *component, const char *program);

/*
 * What to execute now, as a descriptor whose content was verified (borrowed until the next call), and
 * its version. A trial's try is taken. Never fails where the package's program is there.
 */
int hf_release_program(struct hf_release *r, const char **ret_version, struct hf_err *err);
/* exec() of it failed. True: another version is chosen, try again at once. */
bool hf_release_exec_failed(struct hf_release *r, const char *why);
/* The process ended. True: another version is to run now. */
bool hf_release_ended(struct hf_release *r, const struct hf_death *d, bool was_ready,
		      bool own_limit);
/* Not READY in time, though it moves. True: its version is given up; end the process. */
bool hf_release_not_ready(struct hf_release *r, const char *why);
/* A process of an earlier watchdog was adopted. True: it is not of the version that should run. */
bool hf_release_adopted(struct hf_release *r, uint32_t pid);
/* It says READY (once a process), or said hello to a new watchdog. */
void hf_release_canary_seen(struct hf_release *r, uint64_t nonce);
/* After WELCOME: the component asked for everything once more. */
void hf_releases_tell(struct hf_releases *all, struct hf_component *to);

/* ---- for people, actions and offers ------------------------------------------------------------- */

enum hf_release_job_state {
	HF_RELEASE_JOB_NONE,
	HF_RELEASE_JOB_VERIFYING, /* and unpacking; percent */
	HF_RELEASE_JOB_STAGED,    /* what follows is the component's phase */
	HF_RELEASE_JOB_REFUSED,
	_HF_RELEASE_JOB_MAX,
};
const char *hf_release_job_state_name(enum hf_release_job_state state);

/* The last request to stage something. */
struct hf_release_job_view {
	uint64_t id; /* counts up; 0: there was none */
	enum hf_release_job_state state;
	unsigned percent;
	const char *component, *version;
	const char
		*reason;  /* refused: one word (hf_refusal_name(), or "bundle", "store", "busy") */
	const char *text; /* one sentence */
};

struct hf_release_rollback {
	uint64_t at_realtime_ns; /* 0: there was none */
	char from[HF_VERSION_MAX], to[HF_VERSION_MAX];
	char reason[32]; /* hf_release_reason_name() */
	char text[HF_SUP_TEXT_MAX];
};

struct hf_release_view {
	const char *component;
	const struct hf_release_record *record; /* NULL: there is no store */
	const char *error;                      /* why there is none, or "" */
	const char *runs;                       /* version of what was executed last, or "" */
	bool packaged;                          /* … from the package's directory */
	uint64_t healthy_ms, probation_ms;
	const struct hf_release_rollback *rollback;
};

size_t hf_releases_count(const struct hf_releases *all);
/* Pointers are borrowed until the next turn of the loop. */
void hf_releases_view(const struct hf_releases *all, size_t i, struct hf_release_view *ret);
void hf_releases_job_view(const struct hf_releases *all, struct hf_release_job_view *ret);

struct hf_release_keys_view {
	const char *state; /* "ok", "expired", "none", "untrusted" */
	uint64_t version, created_s, expires_s;
	size_t keys;
	char text[HF_ERR_MSG_MAX];
};
void hf_releases_keys_view(const struct hf_releases *all, struct hf_release_keys_view *ret);

/*
 * Verifies and stages the bundle in this file, in a child process; what came of it is in the job's
 * view, and its trial follows by itself. by_admin: by the word of root on this host (verify.h says
 * what that allows). -EBUSY: another one is being staged; -ENODEV: no store; err says it all.
 */
int hf_releases_stage(struct hf_releases *all, const char *path, bool by_admin, struct hf_err *err);
/* The version before runs again, or a candidate is given up. -ENOENT: there is none to go back to. */
int hf_releases_roll_back(struct hf_releases *all, const char *component, const char *who,
			  struct hf_err *err);
/* A newer list of release keys. */
int hf_releases_take_keys(struct hf_releases *all, const char *path, struct hf_err *err);
