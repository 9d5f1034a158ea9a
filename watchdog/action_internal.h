/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What action.c (order, journal, reports) and the kinds (action_component.c, action_worker.c …)
 * share. For nobody else.
 *
 * A kind is one line of the table in action.c. Its begin() starts the work and returns; later, once,
 * it calls hf_action_end(). Progress goes through hf_action_progress().
 */
#pragma once

#include <systemd/sd-event.h>

#include "action.pb-c.h"
#include "base/ratelimit.h"
#include "userspace/proto/action_journal.h"
#include "watchdog/action.h"
#include "watchdog/action_verify.h"
#include "watchdog/component.h"

#define HF_ACTION_RUN_MAGIC 0x4152554eu

struct hf_action_run;
struct hf_way_back;

struct hf_actions {
	unsigned magic;
	struct hf_watchdog *w;
	struct hf_disk *disk;
	struct hf_action_journal *journal;
	struct hf_action_trust trust;
	struct hf_action_time time;
	struct hf_action_run *runs;
	unsigned n_runs;
	struct hf_way_back *way_back;
	struct hf_ratelimit refusal_log;
	bool locked; /* the stored key is damaged: no other is believed until a person says so */
};

struct hf_action_handler {
	const char *kind;
	/* Are the parameters right? NULL: it takes none. Pure. */
	enum hf_action_refusal (*check)(struct hf_actions *a, const Action__Body *b);
	/* Fills what the record must say before it begins; NULL: nothing. */
	void (*prepare)(struct hf_action_run *run);
	/* Begins; the record is durable. */
	void (*begin)(struct hf_action_run *run);
	/* A predecessor had begun it: NULL: it ended with that watchdog (then it has failed). */
	void (*resume)(struct hf_action_run *run);
	/* Asked to stop: NULL: it is too late for that once it began. hf_action_end() comes. */
	void (*cancel)(struct hf_action_run *run);
	/* A component's state changed; NULL: of no interest. */
	void (*changed)(struct hf_action_run *run, const struct hf_component *c);
	/* The agent has told the portal of it (it asked again). NULL: of no interest. */
	void (*announced)(struct hf_action_run *run);
};

enum hf_run_step {
	HF_RUN_WAITING, /* its turn has not come; on disk as accepted, or about to be */
	HF_RUN_WRITING, /* the disk thread writes that it begins */
	HF_RUN_GOING,
	HF_RUN_ENDING, /* the outcome is on its way to the disk */
};

/* An action that is not over, or whose outcome is being written. */
struct hf_action_run {
	unsigned magic;
	struct hf_actions *actions;
	const struct hf_action_handler *handler;
	const struct hf_action_kind *spec;
	struct hf_action_run *next; /* in the order of arrival */
	Action__Record *rec;        /* of the journal */
	Action__Body *body;         /* NULL: resumed */
	enum hf_run_step step;
	bool durable; /* the record was written once */
	bool cancel;
	uint32_t percent;
	char text[HF_SUP_TEXT_MAX];
	uint64_t told_ns; /* progress: when it was last passed on */
	int write_error;
	/* the outcome, while step is ENDING */
	char *json;
	size_t json_len;
	int artifact; /* -1: none */
	uint64_t hashed;
	struct hf_digest *digest;
	sd_event_source *slice;
	/* the kind's own */
	sd_event_source *timer; /* CLOCK_MONOTONIC, made by hf_action_arm() */
	void (*on_timer)(struct hf_action_run *run);
	bool leaving; /* the agent will be stopped by it, and has been told */
	bool asked;   /* the component was asked */
	void *worker;
};

struct hf_action_outcome {
	enum hf_action_state state; /* a final one */
	enum hf_action_refusal refusal;
	const char *text;
	const void *json; /* copied */
	size_t json_len;
	int artifact; /* consumed; -1: none */
};

void hf_action_progress(struct hf_action_run *run, uint32_t percent, const char *text);
/* Tells the agent at once. */
void hf_action_tell(struct hf_action_run *run);
/* Once. run is gone some time later; the kind must not use it any more. */
void hf_action_end(struct hf_action_run *run, const struct hf_action_outcome *o);
/* One timer per run; fn gets the run. after_ms 0 disarms. */
void hf_action_arm(struct hf_action_run *run, uint64_t after_ms,
		   void (*fn)(struct hf_action_run *run));

/* ---- action.c, for action_end.c ------------------------------------------------------------------ */

void hf_action_run_drop(struct hf_action_run *run);
/* Begins what may begin now. */
void hf_actions_schedule(struct hf_actions *a);

/* ---- action_end.c, for action.c ------------------------------------------------------------------ */

/* The agent's connection, NULL: none. */
struct hf_peer *hf_action_agent(const struct hf_actions *a);
void hf_action_text(char dst[static HF_SUP_TEXT_MAX], const char *text);
void hf_action_tell_plain(struct hf_peer *peer, const char *id, enum hf_action_state state,
			  enum hf_action_refusal refusal);
/* run NULL: it is over. peer NULL: nobody to tell. */
void hf_action_tell_record(const struct hf_actions *a, struct hf_peer *peer,
			   const Action__Record *r, const struct hf_action_run *run);
/* Without a result of its own; the text is the refusal's. */
void hf_action_end_plain(struct hf_action_run *run, enum hf_action_state state,
			 enum hf_action_refusal refusal);

/* ---- action_component.c -------------------------------------------------------------------------- */

extern const struct hf_action_handler hf_action_start, hf_action_stop, hf_action_restart;
int hf_action_way_back_open(struct hf_actions *a);
void hf_action_way_back_close(struct hf_actions *a);
void hf_action_way_back_drop(struct hf_actions *a, const char *component);

/* ---- action_release.c ---------------------------------------------------------------------------- */

extern const struct hf_action_handler hf_action_update, hf_action_rollback;

/* ---- action_worker.c ------------------------------------------------------------------------------ */

extern const struct hf_action_handler hf_action_scan, hf_action_collect;
