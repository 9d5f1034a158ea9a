/* SPDX-License-Identifier: Apache-2.0 */
/* The table. KEEP: nothing changes. TOLD: what the endpoint said. */
#include "tools/portal/action_table.h"

#include "base/assert.h"
#include "base/cleanup.h"

#define KEEP (-1)
#define TOLD (-2)

/* States that are not in it are final: nothing changes them. clang-format off */
static const struct row {
	int next[_HF_ACTION_IN_MAX];
} rows[_HF_ACTION_STATE_MAX] = {
	/* A word of the endpoint about a queued one: the portal lost what it knew. */
	[HF_ACTION_QUEUED] = {{
		[HF_ACTION_IN_SEND] = HF_ACTION_SENT,
		[HF_ACTION_IN_ACCEPTED] = HF_ACTION_ACCEPTED,
		[HF_ACTION_IN_RUNNING] = HF_ACTION_RUNNING,
		[HF_ACTION_IN_FINAL] = TOLD,
		[HF_ACTION_IN_UNKNOWN] = KEEP,
		[HF_ACTION_IN_EXPIRE] = HF_ACTION_EXPIRED,
		[HF_ACTION_IN_CANCEL] = HF_ACTION_CANCELLED,
		[HF_ACTION_IN_LEFT] = KEEP,
	}},
	[HF_ACTION_SENT] = {{
		[HF_ACTION_IN_SEND] = KEEP,
		[HF_ACTION_IN_ACCEPTED] = HF_ACTION_ACCEPTED,
		[HF_ACTION_IN_RUNNING] = HF_ACTION_RUNNING,
		[HF_ACTION_IN_FINAL] = TOLD,
		[HF_ACTION_IN_UNKNOWN] = HF_ACTION_QUEUED,
		[HF_ACTION_IN_EXPIRE] = KEEP,
		[HF_ACTION_IN_CANCEL] = KEEP,
		[HF_ACTION_IN_LEFT] = KEEP,
	}},
	[HF_ACTION_ACCEPTED] = {{
		[HF_ACTION_IN_SEND] = KEEP,
		[HF_ACTION_IN_ACCEPTED] = KEEP,
		[HF_ACTION_IN_RUNNING] = HF_ACTION_RUNNING,
		[HF_ACTION_IN_FINAL] = TOLD,
		[HF_ACTION_IN_UNKNOWN] = HF_ACTION_INDETERMINATE,
		[HF_ACTION_IN_EXPIRE] = KEEP,
		[HF_ACTION_IN_CANCEL] = KEEP,
		[HF_ACTION_IN_LEFT] = KEEP,
	}},
	[HF_ACTION_RUNNING] = {{
		[HF_ACTION_IN_SEND] = KEEP,
		[HF_ACTION_IN_ACCEPTED] = KEEP,
		[HF_ACTION_IN_RUNNING] = KEEP,
		[HF_ACTION_IN_FINAL] = TOLD,
		[HF_ACTION_IN_UNKNOWN] = HF_ACTION_INDETERMINATE,
		[HF_ACTION_IN_EXPIRE] = KEEP,
		[HF_ACTION_IN_CANCEL] = KEEP,
		[HF_ACTION_IN_LEFT] = HF_ACTION_SUCCEEDED,
	}},
};
/* clang-format on */

static const char *const names[] = {
	[HF_ACTION_IN_SEND] = "send",       [HF_ACTION_IN_ACCEPTED] = "accepted",
	[HF_ACTION_IN_RUNNING] = "running", [HF_ACTION_IN_FINAL] = "final",
	[HF_ACTION_IN_UNKNOWN] = "unknown", [HF_ACTION_IN_EXPIRE] = "expire",
	[HF_ACTION_IN_CANCEL] = "cancel",   [HF_ACTION_IN_LEFT] = "left",
};
_Static_assert(HF_ARRAY_SIZE(names) == _HF_ACTION_IN_MAX, "every input has a name");

const char *hf_action_input_name(enum hf_action_input in)
{
	return in < _HF_ACTION_IN_MAX ? names[in] : "unknown";
}

enum hf_action_state hf_action_next(enum hf_action_state state, enum hf_action_input in,
				    enum hf_action_state told)
{
	int next;

	hf_assert(state < _HF_ACTION_STATE_MAX && in < _HF_ACTION_IN_MAX);
	if (hf_action_state_final(state) || state == HF_ACTION_UNKNOWN)
		return state;
	next = rows[state].next[in];
	if (next == TOLD)
		return hf_action_state_final(told) ? told : state;
	return next == KEEP ? state : (enum hf_action_state)next;
}
