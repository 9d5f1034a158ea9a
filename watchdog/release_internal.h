/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What release.c (stores, what is executed), release_trial.c (preflight, probation, rollback),
 * release_stage.c (bundles and the package), release_canary.c and release_own.c (the watchdog itself)
 * share. For nobody else.
 */
#pragma once

#include <sys/stat.h>

#include "watchdog/release.h"
#include "watchdog/release_job.h"
#include "watchdog/release_judge.h"
#include "watchdog/release_store.h"

#define RELEASES_MAGIC 0x52454c53u
#define RELEASE_MAGIC  0x52454c45u

/* A program of the store that was verified, kept open. */
struct hf_release_open {
	int fd; /* -1: none */
	struct hf_release_slot slot;
	struct stat st; /* when it was verified: another ctime, and it is verified again */
};

struct hf_release_preflight {
	int pidfd, err_fd; /* -1: none */
	pid_t pid;
	sd_event_source *exit_source, *timer;
};

struct hf_release {
	unsigned magic;
	struct hf_releases *all;
	const char *component;          /* "agent" */
	const char *program;            /* "holdfast-agent": bin/ of it in a release */
	struct hf_component *c;         /* NULL: the watchdog itself */
	struct hf_release_store *store; /* NULL: none, and why */
	char error[HF_ERR_MSG_MAX];

	struct hf_release_open open;
	int packaged_fd;                 /* the package's program, when that is what runs */
	struct hf_release_slot executed; /* version "": the package's own */
	bool was_executed;
	/* A rollback or a try could not be written down: the active version runs, whatever the
	 * record says. */
	bool distrusted;
	enum hf_release_reason owed; /* … and this rollback is still to be written down */

	struct hf_release_judge judge;
	bool expects_portal; /* at the beginning of a trial */
	uint64_t saved_ms;   /* healthy time that is on disk */
	sd_event_source *tick;
	uint64_t canary_due_ns;
	struct hf_release_preflight preflight;
	struct hf_release_rollback rollback;
};

struct hf_releases {
	unsigned magic;
	struct hf_watchdog *w;
	int dir; /* -1: none */
	char packaged_version[HF_VERSION_MAX];
	uint8_t boot_id[16];
	struct hf_release item[HF_COMPONENTS_MAX + 1];
	size_t n;
	bool begun;
	bool i_am_candidate;        /* this very watchdog is on trial */
	sd_event_source *successor; /* it gives way in a moment */
	uint64_t sick_since_ns;     /* on trial ourselves: what we watch is not well; 0: it is */

	struct hf_release_job *job;
	bool collecting; /* the job only tidies up */
	struct {
		uint64_t id;
		enum hf_release_job_state state;
		unsigned percent;
		bool by_admin;
		char path[4096];
		char component[HF_MANIFEST_WORD_MAX], version[HF_VERSION_MAX];
		char reason[32], text[HF_ERR_MSG_MAX];
	} request;
};

/* ---- release.c ---------------------------------------------------------------------------------- */

struct hf_release *hf_releases_find(struct hf_releases *all, const char *component);
/* "bin/holdfast-agent" */
#define HF_RELEASE_PROGRAM_MAX 64
void hf_release_program_path(const struct hf_release *r, char dst[static HF_RELEASE_PROGRAM_MAX]);
/* What should run, as far as it may be trusted; NULL: the package's own. */
const struct hf_release_slot *hf_release_should_run(const struct hf_release *r);
bool hf_release_on_trial(const struct hf_release *r);
/* Is this process an execution of the slot's program? */
bool hf_release_is_process(const struct hf_release *r, const struct hf_release_slot *slot,
			   uint32_t pid);
int hf_release_event(struct hf_release *r, enum hf_release_event event,
		     enum hf_release_reason reason);
const char *hf_release_slot_name(const struct hf_release_slot *slot);

/* ---- release_trial.c ---------------------------------------------------------------------------- */

/* The active version gets its word: a new judge for what runs from now on. */
void hf_release_judge_anew(struct hf_release *r);
/* The version that runs is given up. True: another one is to run. Writes, logs, remembers, tells. */
bool hf_release_give_up(struct hf_release *r, enum hf_release_reason why, const char *text);
/* Writes down what could not be written before. */
void hf_release_pay(struct hf_release *r);
void hf_release_remember(struct hf_release *r, const char *from, const char *to, const char *reason,
			 const char *text);
void hf_release_recall(struct hf_release *r);
/* The next staged release begins, if nothing is under way. */
void hf_releases_next(struct hf_releases *all);
void hf_release_preflight_end(struct hf_release *r);
void hf_release_switch(struct hf_release *r, const char *reason);
int hf_release_on_tick(sd_event_source *source, uint64_t usec, void *userdata);
void hf_release_arm_tick(struct hf_release *r);

/* ---- release_tell.c ----------------------------------------------------------------------------- */

/* To every component that is connected: how far r is. */
void hf_release_tell_all(struct hf_release *r);

/* ---- release_stage.c ---------------------------------------------------------------------------- */

void hf_release_take_packaged(struct hf_release *r);
/* Removes what no record speaks of, in a child. */
void hf_releases_collect(struct hf_releases *all);

/* ---- release_canary.c --------------------------------------------------------------------------- */

bool hf_release_has_canaries(const struct hf_release *r);
void hf_release_send_canary(struct hf_release *r, uint64_t now_ns);

/* ---- release_own.c ------------------------------------------------------------------------------ */

/* Which of its releases this watchdog is. */
void hf_releases_know_self(struct hf_releases *all);
/* The watchdog's candidate takes its place; does not return when it works. */
void hf_releases_replace_self(struct hf_releases *all);
/* A trial of another watchdog was decided, and it was not started yet. */
bool hf_releases_has_successor(const struct hf_releases *all);
bool hf_releases_self_healthy(const struct hf_releases *all);
