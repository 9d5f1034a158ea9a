/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actions: names and numbers that portal, agent and watchdog share. The messages are in
 * action.proto, the life of an action is drawn in packaging/doc/architecture.md.
 *
 *	queued → sent → accepted → running → succeeded | failed | timed_out | cancelled
 *	   └──────┴────────┴→ cancelled | expired | rejected          └→ indeterminate
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In front of the signed bytes, with their NUL: a signature is good for one purpose. */
#define HF_ACTION_SIGN_BODY "holdfast action/1"
#define HF_ACTION_SIGN_KEY  "holdfast action key/1"
#define HF_ACTION_SIGN_TIME "holdfast action time/1"

/* Caps. An envelope travels in one packet of supervise.sock (HF_SUP_BLOB_MAX). */
#define HF_ACTION_ENVELOPE_MAX    3840u
#define HF_ACTION_PARAMS_MAX      32u   /* names and values; a scan's paths are the longest list */
#define HF_ACTION_PARAM_NAME_MAX  32u   /* bytes without NUL */
#define HF_ACTION_PARAM_VALUE_MAX 512u  /* bytes without NUL */
#define HF_ACTION_PARAMS_BYTES    2048u /* all names and values together */
#define HF_ACTION_TEXT_MAX        256u  /* with NUL */
#define HF_ACTION_KIND_MAX        16u   /* with NUL */
#define HF_ACTION_ID_SIZE         37u   /* UUID text with NUL */
#define HF_ACTION_KEY_ID_SIZE     8u
#define HF_ACTION_NONCE_SIZE      16u
#define HF_ACTION_KEYS_MAX        16u           /* links of a chain: older endpoints enrol again */
#define HF_ACTION_RESULT_MAX      (192u * 1024) /* a result's JSON; one message of the channel */
#define HF_ACTION_ARTIFACT_MAX    (32u << 20)
#define HF_ACTION_CHUNK_MAX       (192u * 1024)

/* How late by the portal's clock an action may start at the most after it was made. */
#define HF_ACTION_TTL_MAX_S (7u * 24 * 3600)
/* How long both sides remember an action that has ended. */
#define HF_ACTION_KEEP_S (7u * 24 * 3600)
/* Remembered actions of one endpoint; while all are young, new ones are refused (`busy`). */
#define HF_ACTION_JOURNAL_MAX 1024u

/* name, final */
#define HF_ACTION_STATES(X)             \
	X(UNKNOWN, "unknown", false)    \
	X(QUEUED, "queued", false)      \
	X(SENT, "sent", false)          \
	X(ACCEPTED, "accepted", false)  \
	X(RUNNING, "running", false)    \
	X(SUCCEEDED, "succeeded", true) \
	X(FAILED, "failed", true)       \
	X(TIMED_OUT, "timed_out", true) \
	X(CANCELLED, "cancelled", true) \
	X(EXPIRED, "expired", true)     \
	X(REJECTED, "rejected", true)   \
	X(INDETERMINATE, "indeterminate", true)

/* Numbers are on disk and on supervise.sock: add at the end only. UNKNOWN: never heard of it. */
enum hf_action_state {
#define X(id, name, final) HF_ACTION_##id,
	HF_ACTION_STATES(X)
#undef X
		_HF_ACTION_STATE_MAX,
};

/* name, what it says to people */
#define HF_ACTION_REFUSALS(X)                                                             \
	X(NONE, "", "")                                                                   \
	X(MALFORMED, "malformed", "it is not a signed action")                            \
	X(OVERSIZED, "oversized", "it is larger than an action may be")                   \
	X(NO_KEY, "no_key", "this host has no action key of the portal yet")              \
	X(UNKNOWN_KEY, "unknown_key", "it is signed with a key this host does not know")  \
	X(OLD_KEY, "old_key", "it is signed with a key that was replaced")                \
	X(BAD_SIGNATURE, "bad_signature", "the signature is not of this action")          \
	X(WRONG_ENDPOINT, "wrong_endpoint", "it is for another endpoint")                 \
	X(NO_TIME, "no_time", "the time of the portal is not known")                      \
	X(EXPIRED, "expired", "its time to start is over")                                \
	X(UNKNOWN_KIND, "unknown_kind", "this host does not know this kind of action")    \
	X(NOT_ALLOWED, "not_allowed", "the configuration of this host does not allow it") \
	X(BAD_PARAMS, "bad_params", "its parameters are not right")                       \
	X(BUSY, "busy", "too many actions are remembered or running")                     \
	X(JOURNAL, "journal", "the journal cannot be written")                            \
	X(LOST, "lost", "what became of it is not known any more")

/* Numbers are on disk and on supervise.sock: add at the end only. */
enum hf_action_refusal {
#define X(id, name, text) HF_ACTION_REFUSED_##id,
	HF_ACTION_REFUSALS(X)
#undef X
		_HF_ACTION_REFUSED_MAX,
};

/* "unknown" resp. "" for a value out of range. */
const char *hf_action_state_name(unsigned state);
const char *hf_action_refusal_name(unsigned refusal);
const char *hf_action_refusal_text(unsigned refusal);
/* HF_ACTION_UNKNOWN for a name of no state. */
enum hf_action_state hf_action_state_from_name(const char *name);
bool hf_action_state_final(unsigned state);

/*
 * The kinds. Disruptive ones run one at a time and after those asked for before them; the others
 * run beside them, one of each kind.
 */
struct hf_action_kind {
	const char *name;
	bool disruptive;
	bool component;        /* takes the parameter `component` */
	uint32_t ttl_s;        /* delivery, unless the request says otherwise */
	uint32_t hard_limit_s; /* execution, likewise */
};

/* NULL: no such kind. hf_action_kinds ends with a NULL name. */
const struct hf_action_kind *hf_action_kind_find(const char *name);
extern const struct hf_action_kind hf_action_kinds[];

#define HF_ACTION_IDLE_LIMIT_S 60u
/* A stop of the agent is undone after this, unless the parameter back_after_s says otherwise. */
#define HF_ACTION_BACK_AFTER_S     600u
#define HF_ACTION_BACK_AFTER_MAX_S (24u * 3600)
