/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The status rule of an endpoint as a pure function: what is known of it and the time, in; status,
 * reason and the moment it changes by itself, out. All times are CLOCK_MONOTONIC of this portal,
 * so that no wall-clock step can mute or fake a transition. Silent.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tools/portal/store.h"

enum hf_status {
	HF_STATUS_NEVER_CONNECTED,
	HF_STATUS_PENDING,
	HF_STATUS_ONLINE,
	HF_STATUS_STALE,
	HF_STATUS_RECONNECTING,
	HF_STATUS_OFFLINE,
	HF_STATUS_POWERED_OFF,
	HF_STATUS_MISSING,
	HF_STATUS_SUSPENDED,
	HF_STATUS_REVOKED,
	HF_STATUS_UPDATING,
	_HF_STATUS_MAX,
};

const char *hf_status_name(enum hf_status s);
int hf_status_from_name(const char *name);

/* Missing: offline for so long that somebody should look whether the host still exists. */
#define HF_MISSING_AFTER_S (30u * 24 * 3600)

#define HF_REASON_SIZE     48

struct hf_presence_policy {
	uint32_t heartbeat_s;
	uint32_t max_offline_s; /* AGENT_MAX_OFFLINE_TIME */
};

struct hf_presence {
	enum hf_authorization authorization;
	bool ever_connected;
	bool linked;             /* a live registered connection */
	uint64_t last_proof_ns;  /* last message of the peer on the present link */
	uint64_t last_update_ns; /* last proof ever, or the portal's start if that is later */
	uint64_t offline_ns;     /* kept over a restart: since when it was offline already, or 0 */
	bool clone;              /* another machine came with this identity and is in quarantine */
	char lost[HF_REASON_SIZE];    /* why the link went: shown while reconnecting */
	char goodbye[HF_REASON_SIZE]; /* cause name of a clean goodbye, empty: none */
};

struct hf_verdict {
	enum hf_status status;
	char reason[HF_REASON_SIZE]; /* a cause name or one of the words in presence.c */
	uint64_t due_ns;             /* judge again then; UINT64_MAX: only an event changes it */
};

void hf_presence_judge(const struct hf_presence *p, const struct hf_presence_policy *policy,
		       uint64_t now_ns, struct hf_verdict *ret);

/* 2 × heartbeat + 5 s: what "last proof" may be old while online. */
uint64_t hf_presence_proof_window_ns(const struct hf_presence_policy *policy);

/* A half sentence for people, for any reason hf_presence_judge() gives. Never NULL. */
const char *hf_reason_text(const char *reason);
