/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The component's state table: one cell per state and input, an empty cell ignores the input.
 *
 * I1. A process exists exactly in the states of hf_state_has_process(). SPAWN is never asked for
 *     while one exists. (Prevents two agents on one channel.)
 * I2. It never gives up: every state without a process but `stopped` has a deadline.
 * I3. A stop that was asked for is never undone by a failure: want_up decides at every exit.
 */
#include "watchdog/machine.h"

#include <stddef.h>

#include "base/assert.h"
#include "base/cleanup.h"

struct step {
	struct hf_machine *m;
	const struct hf_machine_policy *policy;
	const struct hf_machine_arg *arg;
	uint64_t now_ns;
};

typedef unsigned (*cell_fn)(const struct step *s);

static const char *const state_names[] = {
	[HF_STATE_STOPPED] = "stopped", [HF_STATE_STARTING] = "starting",
	[HF_STATE_RUNNING] = "running", [HF_STATE_STOPPING] = "stopping",
	[HF_STATE_BACKOFF] = "backoff", [HF_STATE_HUNG] = "hung",
	[HF_STATE_HELD] = "held",
};
_Static_assert(HF_ARRAY_SIZE(state_names) == _HF_STATE_MAX, "every state has a name");

static const char *const input_names[] = {
	[HF_INPUT_START] = "start",
	[HF_INPUT_STOP] = "stop",
	[HF_INPUT_RESTART] = "restart",
	[HF_INPUT_SPAWNED] = "spawned",
	[HF_INPUT_SPAWN_FAILED] = "spawn-failed",
	[HF_INPUT_READY] = "ready",
	[HF_INPUT_EXIT] = "exit",
	[HF_INPUT_HANG] = "hang",
	[HF_INPUT_LIMIT] = "limit",
	[HF_INPUT_TIMER] = "timer",
	[HF_INPUT_ADOPT] = "adopt",
};
_Static_assert(HF_ARRAY_SIZE(input_names) == _HF_INPUT_MAX, "every input has a name");

const char *hf_state_name(enum hf_state state)
{
	return state_names[state];
}

const char *hf_input_name(enum hf_input input)
{
	return input_names[input];
}

bool hf_state_has_process(enum hf_state state)
{
	switch (state) {
	case HF_STATE_STARTING:
	case HF_STATE_RUNNING:
	case HF_STATE_STOPPING:
	case HF_STATE_HUNG:
		return true;
	case HF_STATE_STOPPED:
	case HF_STATE_BACKOFF:
	case HF_STATE_HELD:
	case _HF_STATE_MAX:
		break;
	}
	return false;
}

/* The only writer of state. after_ns 0: the state has no deadline. */
static void enter(const struct step *s, enum hf_state state, uint64_t after_ns)
{
	s->m->state = state;
	s->m->since_ns = s->now_ns;
	s->m->deadline_ns = after_ns ? s->now_ns + after_ns : 0;
}

static unsigned spawn(const struct step *s)
{
	s->m->want_up = true;
	s->m->was_ready = false;
	s->m->starts++;
	/* Until the process exists, uptime is zero: a failed start can never look settled. */
	s->m->started_at_ns = s->now_ns;
	enter(s, HF_STATE_STARTING, s->policy->ready_ns);
	return HF_ACTION_SPAWN;
}

/* The delay before the next start: doubling, capped, then ±20 % so that hosts do not beat time. */
static uint64_t next_delay(const struct step *s)
{
	uint64_t delay = s->policy->backoff_min_ns;
	uint64_t jitter_permille = 800 + (s->arg ? s->arg->random : 200) % 401;

	for (unsigned i = 0; i < s->m->failures && delay < s->policy->backoff_max_ns; i++)
		delay *= 2;
	if (delay > s->policy->backoff_max_ns)
		delay = s->policy->backoff_max_ns;
	/* 32 doublings pass every cap: the exponent itself must not run away. */
	if (s->m->failures < 32)
		s->m->failures++;
	return delay / 1000 * jitter_permille;
}

static unsigned back_off(const struct step *s)
{
	enter(s, HF_STATE_BACKOFF, next_delay(s));
	return 0;
}

static unsigned stopped(const struct step *s)
{
	enter(s, HF_STATE_STOPPED, 0);
	return 0;
}

static unsigned terminate(const struct step *s, bool want_up)
{
	s->m->want_up = want_up;
	s->m->blamed = false;
	enter(s, HF_STATE_STOPPING, s->policy->stop_ns);
	return HF_ACTION_TERM;
}

static unsigned stop(const struct step *s)
{
	return terminate(s, false);
}

static unsigned restart(const struct step *s)
{
	return terminate(s, true);
}

static unsigned limit(const struct step *s)
{
	unsigned actions = terminate(s, true);

	s->m->blamed = true;
	return actions;
}

static unsigned want_up(const struct step *s)
{
	s->m->want_up = true;
	s->m->blamed = false; /* a person's word: start at once */
	return 0;
}

static unsigned want_down(const struct step *s)
{
	s->m->want_up = false;
	return 0;
}

static unsigned want_nothing(const struct step *s)
{
	s->m->want_up = false;
	return stopped(s);
}

static unsigned spawned(const struct step *s)
{
	s->m->started_at_ns = s->now_ns;
	enter(s, HF_STATE_STARTING, s->policy->ready_ns);
	return 0;
}

static unsigned spawn_failed(const struct step *s)
{
	return s->m->want_up ? back_off(s) : stopped(s);
}

static unsigned ready(const struct step *s)
{
	s->m->was_ready = true;
	enter(s, HF_STATE_RUNNING, s->policy->healthy_ns);
	return 0;
}

static unsigned died(const struct step *s)
{
	if (!s->m->want_up)
		return stopped(s);
	if (s->arg && s->arg->exit_code == HF_EXIT_CODE_PERMANENT) {
		enter(s, HF_STATE_HELD, s->policy->held_ns);
		return 0;
	}
	/* One that never worked is no loss to hurry for, however low settle_s was set. */
	if (s->m->was_ready && s->now_ns - s->m->started_at_ns >= s->policy->settle_ns)
		return spawn(s);
	return back_off(s);
}

/* It ended because we asked: no failure of its own, unless we asked for its fault. */
static unsigned ended(const struct step *s)
{
	if (s->m->blamed)
		return died(s);
	return s->m->want_up ? spawn(s) : stopped(s);
}

static unsigned hang(const struct step *s)
{
	enter(s, HF_STATE_HUNG, s->policy->kill_again_ns);
	return HF_ACTION_KILL;
}

/* No READY in time. What moves or cannot be judged yet is given the same time again. */
static unsigned not_ready(const struct step *s)
{
	if (!s->arg || !s->arg->alive)
		return hang(s);
	s->m->deadline_ns = s->now_ns + s->policy->ready_ns;
	return 0;
}

static unsigned kill_again(const struct step *s)
{
	s->m->deadline_ns = s->now_ns + s->policy->kill_again_ns;
	return HF_ACTION_KILL;
}

static unsigned healthy(const struct step *s)
{
	s->m->failures = 0;
	s->m->deadline_ns = 0;
	return 0;
}

static unsigned adopt(const struct step *s)
{
	s->m->want_up = true;
	s->m->was_ready = s->arg->ready;
	if (s->arg->ready)
		enter(s, HF_STATE_RUNNING, s->policy->healthy_ns);
	else
		enter(s, HF_STATE_STARTING, s->policy->ready_ns);
	s->m->started_at_ns = s->arg->started_at_ns;
	return 0;
}

/* clang-format off */
static const cell_fn table[_HF_STATE_MAX][_HF_INPUT_MAX] = {
	[HF_STATE_STOPPED] = {
		[HF_INPUT_START] = spawn,
		[HF_INPUT_RESTART] = spawn,
		[HF_INPUT_ADOPT] = adopt,
	},
	[HF_STATE_STARTING] = {
		[HF_INPUT_STOP] = stop,
		[HF_INPUT_RESTART] = restart,
		[HF_INPUT_SPAWNED] = spawned,
		[HF_INPUT_SPAWN_FAILED] = spawn_failed,
		[HF_INPUT_READY] = ready,
		[HF_INPUT_EXIT] = died,
		[HF_INPUT_HANG] = hang,
		[HF_INPUT_LIMIT] = limit,
		[HF_INPUT_TIMER] = not_ready,
	},
	[HF_STATE_RUNNING] = {
		[HF_INPUT_STOP] = stop,
		[HF_INPUT_RESTART] = restart,
		[HF_INPUT_EXIT] = died,
		[HF_INPUT_HANG] = hang,
		[HF_INPUT_LIMIT] = limit,
		[HF_INPUT_TIMER] = healthy,
	},
	[HF_STATE_STOPPING] = {
		[HF_INPUT_START] = want_up,
		[HF_INPUT_STOP] = want_down,
		[HF_INPUT_RESTART] = want_up,
		[HF_INPUT_EXIT] = ended,
		[HF_INPUT_TIMER] = kill_again,
	},
	[HF_STATE_BACKOFF] = {
		[HF_INPUT_START] = spawn,
		[HF_INPUT_STOP] = want_nothing,
		[HF_INPUT_RESTART] = spawn,
		[HF_INPUT_TIMER] = spawn,
	},
	[HF_STATE_HUNG] = {
		[HF_INPUT_START] = want_up,
		[HF_INPUT_STOP] = want_down,
		[HF_INPUT_RESTART] = want_up,
		[HF_INPUT_EXIT] = died,
		[HF_INPUT_TIMER] = kill_again,
	},
	[HF_STATE_HELD] = {
		[HF_INPUT_START] = spawn,
		[HF_INPUT_STOP] = want_nothing,
		[HF_INPUT_RESTART] = spawn,
		[HF_INPUT_TIMER] = spawn,
	},
};
/* clang-format on */

unsigned hf_machine_input(struct hf_machine *m, const struct hf_machine_policy *policy,
			  enum hf_input input, const struct hf_machine_arg *arg, uint64_t now_ns)
{
	const struct step s = {.m = m, .policy = policy, .arg = arg, .now_ns = now_ns};
	cell_fn cell;

	hf_assert(m->state < _HF_STATE_MAX && input < _HF_INPUT_MAX);
	hf_assert(input != HF_INPUT_ADOPT || arg);
	cell = table[m->state][input];
	return cell ? cell(&s) : 0;
}
