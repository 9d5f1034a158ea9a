/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far an update is, as one pure table over the twin record: nothing here reads a clock, a file
 * or a process. The store (release_store.h) writes the result down before anything is done by it;
 * release_trial.c sends the events.
 */
#pragma once

#include <stdint.h>

#include "userspace/release/twin.h"

#define HF_RELEASE_TRIES   3u
#define HF_RELEASE_REFUNDS 3u

enum hf_release_event {
	HF_RELEASE_EV_STAGE,            /* a verified release is in the store; with a slot */
	HF_RELEASE_EV_CANCEL,           /* it is not wanted any more */
	HF_RELEASE_EV_PREFLIGHT,        /* its self-test is about to be run */
	HF_RELEASE_EV_PREFLIGHT_OK,     /* … and went well: the next start is its trial */
	HF_RELEASE_EV_PREFLIGHT_FAILED, /* … and did not */
	HF_RELEASE_EV_START,            /* what runs is about to be executed */
	HF_RELEASE_EV_HEALTHY,          /* it has been healthy for the time of probation */
	HF_RELEASE_EV_FAILED,           /* the judge blames the version that runs; with a reason */
	HF_RELEASE_EV_ROLLBACK,         /* a person or the portal wants the version before */
	HF_RELEASE_EV_RECOVER,          /* a new watchdog found this record */
	HF_RELEASE_EV_ADOPT,            /* the first release of a store, with a slot: no trial */
	HF_RELEASE_EV_GIVE_BACK,        /* the last try ended by no fault of the version */
	_HF_RELEASE_EV_MAX,
};

/* Numbers are on disk (reason of the record). */
#define HF_RELEASE_REASONS(X)        \
	X(NONE, "none")              \
	X(EXEC, "exec_failed")       \
	X(NOT_READY, "not_ready")    \
	X(CRASHES, "crashes")        \
	X(HANGS, "hangs")            \
	X(CANARY, "canary_lost")     \
	X(LIMIT, "limit")            \
	X(DIGEST, "digest_mismatch") \
	X(PREFLIGHT, "preflight")    \
	X(TRIES, "tries_used_up")    \
	X(ASKED, "asked")            \
	X(UNKNOWN, "unknown_state")  \
	X(RECORDS, "records_lost")   \
	X(PORTAL, "portal_lost")

enum hf_release_reason {
#define X(id, name) HF_RELEASE_WHY_##id,
	HF_RELEASE_REASONS(X)
#undef X
		_HF_RELEASE_WHY_MAX,
};

struct hf_release_input {
	enum hf_release_event event;
	const struct hf_release_slot *slot; /* STAGE, ADOPT */
	enum hf_release_reason reason;      /* FAILED */
	uint8_t boot_id[16];                /* START */
};

/*
 * The record after the event. 1: it changed, and has to be on disk before it is acted upon; 0:
 * nothing to do; -EPERM: not in this phase; -ENOENT: there is no version to go back to. The record
 * is written only on 1.
 */
int hf_release_step(struct hf_release_record *r, const struct hf_release_input *in);

/* What is to be executed, or NULL: nothing of the store, but what the package installed. */
const struct hf_release_slot *hf_release_runs(const struct hf_release_record *r);

const char *hf_release_phase_name(uint32_t phase); /* "unknown" for a later version's */
const char *hf_release_reason_name(uint32_t reason);
