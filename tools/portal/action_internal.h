/* SPDX-License-Identifier: Apache-2.0 */
/* What action.c (queue, key, time) and action_words.c (what endpoints say) share. For nobody else. */
#pragma once

#include "holdfast/action.h"
#include "tools/portal/action.h"

typedef struct sd_event_source sd_event_source;

struct hf_act {
	struct hf_act *next; /* of the endpoint, oldest first */
	struct hf_action_row row;
	unsigned history;
	bool delivered; /* on the present connection */
	bool storing;   /* its result is on its way to the database */
	bool leaving;   /* it will take the agent away, and it said so */
};

struct hf_actions {
	struct hf_portal *portal;
	struct hf_action_key *key;
	sd_event_source *expiry, *key_watch;
	size_t n;
};

struct hf_act *hf_act_find(const struct hf_endpoint *ep, const uint8_t id[static HF_ID_SIZE]);
void hf_act_drop(struct hf_actions *a, struct hf_endpoint *ep, struct hf_act *x);
void hf_act_publish(struct hf_actions *a, const struct hf_action_row *row);
/*
 * The one way in which a state, its reason or its text changes; text NULL keeps it. x may be gone
 * afterwards: true then, it is over.
 */
bool hf_act_set(struct hf_actions *a, struct hf_endpoint *ep, struct hf_act *x,
		enum hf_action_state state, const char *reason, const char *text);
/* Sends what may go, and says of the rest why it waits. */
void hf_act_kick(struct hf_actions *a, struct hf_endpoint *ep);
