/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an action as the portal sees it: one table of states and inputs, pure. What is done
 * with a transition (send, store, tell) is tools/portal/action.c.
 *
 * The portal never decides alone about an action that the endpoint may have: once it was sent, only
 * the endpoint's word ends it. So the portal never shows "expired" or "cancelled" for something that
 * was done.
 */
#pragma once

#include <stdbool.h>

#include "holdfast/action.h"

enum hf_action_input {
	HF_ACTION_IN_SEND,     /* it goes out on a connection */
	HF_ACTION_IN_ACCEPTED, /* the endpoint's words */
	HF_ACTION_IN_RUNNING,
	HF_ACTION_IN_FINAL,
	HF_ACTION_IN_UNKNOWN, /* the endpoint does not know it */
	HF_ACTION_IN_EXPIRE,  /* the time to deliver it is over */
	HF_ACTION_IN_CANCEL,  /* a person */
	HF_ACTION_IN_LEFT,    /* the agent said that it would leave because of it, and left */
	_HF_ACTION_IN_MAX,
};

const char *hf_action_input_name(enum hf_action_input in);

/*
 * The state after this input; the same: nothing changes. For FINAL `told` is the endpoint's final
 * state. A word that cannot be (final, or from a state without sense) changes nothing.
 */
enum hf_action_state hf_action_next(enum hf_action_state state, enum hf_action_input in,
				    enum hf_action_state told);
