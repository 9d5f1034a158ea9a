/* SPDX-License-Identifier: Apache-2.0 */
/* The table. A cell left out is {NOTHING, SAME}: the event means nothing in that state. */
#include "userspace/agent/channel_table.h"

#include "base/assert.h"
#include "base/cleanup.h"

struct cell {
	enum hf_ch_action action;
	enum hf_ch_state next; /* 0 (UNENROLLED) is reached by WIPE only, so 0 here means SAME */
};

#define GO(a, n)                     \
	{                            \
		HF_DO_##a, HF_CH_##n \
	}

/* What every living state does alike. */
#define ALWAYS [HF_EV_STOP] = GO(STOP, STOPPED), [HF_EV_RESET] = GO(WIPE, UNENROLLED)

/* What a state does that holds a session or an attempt. */
#define ENGAGED                                                                                  \
	ALWAYS, [HF_EV_CONFIGURED] = GO(REDIAL, NEXT_DIAL), [HF_EV_REVOKED] = GO(HALT, REVOKED), \
		[HF_EV_HOLD] = GO(HOLD, HELD)

/* What a state does that only waits. */
#define WAITING ALWAYS, [HF_EV_CONFIGURED] = GO(DIAL, NEXT_DIAL), [HF_EV_DUE] = GO(DIAL, NEXT_DIAL)

/* clang-format off */
static const struct cell table[_HF_CH_STATE_MAX][_HF_EV_MAX] = {
	[HF_CH_UNENROLLED] = {
		ALWAYS,
		[HF_EV_CONFIGURED]   = GO(DIAL, NEXT_DIAL),
	},
	[HF_CH_ENROLLING] = {
		ENGAGED,
		[HF_EV_KICK]	     = GO(REDIAL, NEXT_DIAL),
		[HF_EV_ENROLLED]     = GO(REDIAL, CONNECTING),
		[HF_EV_UP]	     = GO(ADOPT, NEXT_UP), /* an OpAMP server that gives no certificates */
		[HF_EV_FAILED]	     = GO(WAIT, BACKOFF),
		[HF_EV_CLOCK]	     = GO(WAIT, CLOCK_BAD),
	},
	[HF_CH_PENDING] = {
		ENGAGED,
		[HF_EV_KICK]	     = GO(PROBE, SUSPECT),
		[HF_EV_LOST]	     = GO(LOSE, BACKOFF),
		[HF_EV_SUSPICION]    = GO(PROVE, SUSPECT),
		[HF_EV_AUTH_CHANGED] = GO(UPDATE, NEXT_UP),
		[HF_EV_MOVED]	     = GO(MOVE, CONNECTING),
	},
	[HF_CH_CONNECTING] = {
		ENGAGED,
		[HF_EV_KICK]	     = GO(REDIAL, NEXT_DIAL),
		[HF_EV_ENROLLED]     = GO(REDIAL, CONNECTING), /* a new certificate for an expired one */
		[HF_EV_UP]	     = GO(ADOPT, NEXT_UP),
		[HF_EV_FAILED]	     = GO(WAIT, BACKOFF),
		[HF_EV_CLOCK]	     = GO(WAIT, CLOCK_BAD),
		[HF_EV_MOVED]	     = GO(MOVE, CONNECTING),
	},
	[HF_CH_ONLINE] = {
		ENGAGED,
		[HF_EV_KICK]	     = GO(PROBE, SUSPECT),
		[HF_EV_LOST]	     = GO(LOSE, BACKOFF),
		[HF_EV_SUSPICION]    = GO(PROVE, SUSPECT),
		[HF_EV_AUTH_CHANGED] = GO(UPDATE, NEXT_UP),
		[HF_EV_MOVED]	     = GO(MOVE, CONNECTING),
	},
	[HF_CH_SUSPECT] = {
		ENGAGED,
		[HF_EV_DUE]	     = GO(RERACE, NEXT_SAME),
		[HF_EV_KICK]	     = GO(RERACE, NEXT_SAME),
		[HF_EV_UP]	     = GO(ADOPT, NEXT_UP),
		[HF_EV_LOST]	     = GO(OVERTAKE, NEXT_RACE),
		[HF_EV_PROOF]	     = GO(CALM, NEXT_UP),
		[HF_EV_SUSPECT_OVER] = GO(OVERTAKE, NEXT_RACE),
		[HF_EV_AUTH_CHANGED] = GO(UPDATE, NEXT_SAME),
		[HF_EV_MOVED]	     = GO(MOVE, CONNECTING),
	},
	[HF_CH_BACKOFF] = {
		WAITING,
		[HF_EV_KICK]	     = GO(DIAL, NEXT_DIAL),
		[HF_EV_MOVED]	     = GO(MOVE, CONNECTING),
	},
	[HF_CH_HELD]	  = { WAITING },
	[HF_CH_REVOKED]	  = { WAITING },
	[HF_CH_CLOCK_BAD] = {
		WAITING,
		[HF_EV_KICK]	     = GO(DIAL, NEXT_DIAL),
	},
	[HF_CH_STOPPED]	  = {},
};

static const char *const states[] = {
	[HF_CH_UNENROLLED] = "unenrolled", [HF_CH_ENROLLING] = "enrolling",
	[HF_CH_PENDING]	   = "pending",	   [HF_CH_CONNECTING] = "connecting",
	[HF_CH_ONLINE]	   = "online",	   [HF_CH_SUSPECT] = "suspect",
	[HF_CH_BACKOFF]	   = "backoff",	   [HF_CH_HELD] = "held",
	[HF_CH_REVOKED]	   = "revoked",	   [HF_CH_CLOCK_BAD] = "clock_bad",
	[HF_CH_STOPPED]	   = "stopped",
};
_Static_assert(HF_ARRAY_SIZE(states) == _HF_CH_STATE_MAX, "a state has no name");

static const char *const events[] = {
	[HF_EV_CONFIGURED] = "configured",     [HF_EV_DUE] = "due",
	[HF_EV_KICK]	   = "kick",	       [HF_EV_ENROLLED] = "enrolled",
	[HF_EV_UP]	   = "up",	       [HF_EV_FAILED] = "failed",
	[HF_EV_HOLD]	   = "hold",	       [HF_EV_REVOKED] = "revoked",
	[HF_EV_CLOCK]	   = "clock",	       [HF_EV_LOST] = "lost",
	[HF_EV_SUSPICION]  = "suspicion",      [HF_EV_PROOF] = "proof",
	[HF_EV_SUSPECT_OVER] = "suspect_over", [HF_EV_AUTH_CHANGED] = "auth_changed",
	[HF_EV_MOVED]	   = "moved",
	[HF_EV_STOP]	   = "stop",	       [HF_EV_RESET] = "reset",
};
_Static_assert(HF_ARRAY_SIZE(events) == _HF_EV_MAX, "an event has no name");

static const char *const actions[] = {
	[HF_DO_NOTHING] = "nothing",   [HF_DO_DIAL] = "dial",	  [HF_DO_REDIAL] = "redial",
	[HF_DO_WAIT]	= "wait",      [HF_DO_LOSE] = "lose",	  [HF_DO_ADOPT] = "adopt",	  [HF_DO_MOVE] = "move",
	[HF_DO_PROVE]	= "prove",     [HF_DO_PROBE]	= "probe",
	[HF_DO_RERACE] = "rerace", [HF_DO_CALM] = "calm",
	[HF_DO_OVERTAKE] = "overtake", [HF_DO_UPDATE] = "update", [HF_DO_HOLD] = "hold",
	[HF_DO_HALT]	= "halt",      [HF_DO_STOP] = "stop",	  [HF_DO_WIPE] = "wipe",
};
_Static_assert(HF_ARRAY_SIZE(actions) == _HF_DO_MAX, "an action has no name");
/* clang-format on */

const char *hf_ch_state_name(enum hf_ch_state s)
{
	hf_assert(s < _HF_CH_STATE_MAX);
	return states[s];
}

const char *hf_ch_event_name(enum hf_ch_event e)
{
	hf_assert(e < _HF_EV_MAX);
	return events[e];
}

const char *hf_ch_action_name(enum hf_ch_action a)
{
	hf_assert(a < _HF_DO_MAX);
	return actions[a];
}

void hf_machine_init(struct hf_machine *m, bool enrolled, uint64_t now_ns)
{
	*m = (struct hf_machine){
		.state = HF_CH_UNENROLLED,
		.since_ns = now_ns,
		.enrolled = enrolled,
	};
}

static enum hf_ch_state resolve(const struct hf_machine *m, const struct cell *c)
{
	if (c->action == HF_DO_NOTHING)
		return m->state;
	if (c->action == HF_DO_WIPE)
		return HF_CH_UNENROLLED;
	switch ((int)c->next) {
	case HF_CH_NEXT_DIAL:
		return m->enrolled ? HF_CH_CONNECTING : HF_CH_ENROLLING;
	case HF_CH_NEXT_UP:
		return m->authorized ? HF_CH_ONLINE : HF_CH_PENDING;
	case HF_CH_NEXT_RACE:
		return m->racing ? HF_CH_CONNECTING : HF_CH_BACKOFF;
	case HF_CH_NEXT_SAME:
		return m->state;
	}
	return c->next;
}

struct hf_step hf_machine_step(struct hf_machine *m, enum hf_ch_event ev, uint64_t now_ns)
{
	const struct cell *c;
	struct hf_step step;

	hf_assert(m->state < _HF_CH_STATE_MAX && ev < _HF_EV_MAX);
	c = &table[m->state][ev];
	step = (struct hf_step){.from = m->state, .to = resolve(m, c), .action = c->action};
	hf_assert(step.to < _HF_CH_STATE_MAX);
	if (step.to != step.from) {
		m->state = step.to;
		m->since_ns = now_ns;
	}
	return step;
}
