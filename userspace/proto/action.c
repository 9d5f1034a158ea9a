/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of actions: states, refusals, kinds. Pure. */
#include "holdfast/action.h"

#include "base/cleanup.h"
#include "base/str.h"

static const struct {
	const char *name;
	bool final;
} states[] = {
#define X(id, n, f) [HF_ACTION_##id] = {n, f},
	HF_ACTION_STATES(X)
#undef X
};
_Static_assert(HF_ARRAY_SIZE(states) == _HF_ACTION_STATE_MAX, "every state has a name");

static const struct {
	const char *name, *text;
} refusals[] = {
#define X(id, n, t) [HF_ACTION_REFUSED_##id] = {n, t},
	HF_ACTION_REFUSALS(X)
#undef X
};
_Static_assert(HF_ARRAY_SIZE(refusals) == _HF_ACTION_REFUSED_MAX, "every refusal has a name");

/* A host that sleeps must not lose what is not urgent; a stop from yesterday surprises people. */
const struct hf_action_kind hf_action_kinds[] = {
	{"start", true, true, 3600, 120},
	{"stop", true, true, 3600, 120},
	{"restart", true, true, 3600, 120},
	{"update", true, true, HF_ACTION_TTL_MAX_S, 3600},
	{"rollback", true, true, HF_ACTION_TTL_MAX_S, 3600},
	{"scan", false, false, 24 * 3600, 4 * 3600},
	{"doctor", false, false, 24 * 3600, 600},
	{"collect", false, false, 24 * 3600, 600},
	{},
};

const char *hf_action_state_name(unsigned state)
{
	return state < _HF_ACTION_STATE_MAX ? states[state].name : "unknown";
}

enum hf_action_state hf_action_state_from_name(const char *name)
{
	for (unsigned i = 0; i < _HF_ACTION_STATE_MAX; i++)
		if (hf_streq(states[i].name, name))
			return (enum hf_action_state)i;
	return HF_ACTION_UNKNOWN;
}

bool hf_action_state_final(unsigned state)
{
	return state < _HF_ACTION_STATE_MAX && states[state].final;
}

const char *hf_action_refusal_name(unsigned refusal)
{
	return refusal < _HF_ACTION_REFUSED_MAX ? refusals[refusal].name : "";
}

const char *hf_action_refusal_text(unsigned refusal)
{
	return refusal < _HF_ACTION_REFUSED_MAX ? refusals[refusal].text : "";
}

const struct hf_action_kind *hf_action_kind_find(const char *name)
{
	for (const struct hf_action_kind *k = hf_action_kinds; k->name; k++)
		if (hf_streq(k->name, name))
			return k;
	return NULL;
}
