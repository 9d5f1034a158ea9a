/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one component as a state machine: pure, no clock, no process, no I/O. The caller
 * (watchdog/component.c) feeds inputs with the time and does the actions that come back.
 *
 *   stopped   no process, none wanted
 *   starting  executed, has not said READY
 *   running   READY
 *   stopping  asked to end (SIGTERM, SIGCONT), SIGKILL at the deadline
 *   backoff   no process; the next start waits for the deadline
 *   hung      judged hung, SIGKILL sent, its end is awaited
 *   held      no process; it said that only a person can help (exit code 100): tried again at a
 *             slow pace, and at once after a start, restart or reload
 *
 * All times are CLOCK_MONOTONIC nanoseconds: neither a wall-clock step nor a suspend counts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

enum hf_state {
	HF_STATE_STOPPED,
	HF_STATE_STARTING,
	HF_STATE_RUNNING,
	HF_STATE_STOPPING,
	HF_STATE_BACKOFF,
	HF_STATE_HUNG,
	HF_STATE_HELD,
	_HF_STATE_MAX,
};

enum hf_input {
	HF_INPUT_START,        /* a person wants it */
	HF_INPUT_STOP,         /* a person, or the watchdog's own end */
	HF_INPUT_RESTART,      /* a person */
	HF_INPUT_SPAWNED,      /* the action SPAWN succeeded */
	HF_INPUT_SPAWN_FAILED, /* the action SPAWN failed */
	HF_INPUT_READY,        /* it said READY */
	HF_INPUT_EXIT,         /* its process is gone */
	HF_INPUT_HANG,         /* the judge's word */
	HF_INPUT_LIMIT, /* it uses more than it may: ended in order, then restarted as after a failure */
	HF_INPUT_TIMER, /* deadline_ns has passed */
	HF_INPUT_ADOPT, /* at start: its process was found running */
	_HF_INPUT_MAX,
};

/* What the caller must do now, in this order. */
enum hf_action {
	HF_ACTION_TERM = 1 << 0,  /* tell it to stop: STOP, SIGTERM, SIGCONT */
	HF_ACTION_KILL = 1 << 1,  /* SIGKILL to all of it */
	HF_ACTION_SPAWN = 1 << 2, /* start a process, then feed SPAWNED or SPAWN_FAILED */
};

struct hf_machine_policy {
	uint64_t settle_ns;      /* READY, and up for so long: the next start is immediate */
	uint64_t healthy_ns;     /* up for so long: earlier failures are forgotten */
	uint64_t ready_ns;       /* READY is expected within */
	uint64_t stop_ns;        /* from SIGTERM to SIGKILL */
	uint64_t kill_again_ns;  /* SIGKILL did not help yet */
	uint64_t backoff_min_ns; /* doubles with every failure */
	uint64_t backoff_max_ns;
	uint64_t held_ns;
};

/* DESIGN section 7. */
#define HF_MACHINE_POLICY_DEFAULT                                                       \
	(struct hf_machine_policy)                                                      \
	{                                                                               \
		.settle_ns = 60 * HF_NS_PER_S, .healthy_ns = 600 * HF_NS_PER_S,         \
		.ready_ns = 30 * HF_NS_PER_S, .stop_ns = 10 * HF_NS_PER_S,              \
		.kill_again_ns = 5 * HF_NS_PER_S, .backoff_min_ns = 100 * HF_NS_PER_MS, \
		.backoff_max_ns = 30 * HF_NS_PER_S, .held_ns = 60 * HF_NS_PER_S,        \
	}

/* Zero-initialise: stopped. Members are for reading; hf_machine_input() writes them. */
struct hf_machine {
	enum hf_state state;
	bool want_up;           /* a process is wanted once the present one is gone */
	bool was_ready;         /* the present process said READY */
	bool blamed;            /* stopping: its end counts as a failure of its own */
	unsigned failures;      /* exponent of the next delay */
	uint64_t since_ns;      /* when state was entered */
	uint64_t started_at_ns; /* of the present process */
	uint64_t deadline_ns;   /* TIMER is due; 0: none */
	uint64_t starts;        /* processes ever started, by this and earlier watchdogs */
};

struct hf_machine_arg {
	int exit_code; /* EXIT: -1 when ended by a signal */
	bool ready;    /* ADOPT: it had said READY */
	bool alive;    /* TIMER in starting: not READY, but it makes progress or is excused */
	uint64_t started_at_ns; /* ADOPT */
	uint32_t random;        /* any number, for the jitter of a delay */
};

/* Component exit code: trying again is of no use until somebody changes something. */
#define HF_EXIT_CODE_PERMANENT 100

/* arg may be NULL for inputs that need none. Returns a set of enum hf_action. */
unsigned hf_machine_input(struct hf_machine *m, const struct hf_machine_policy *policy,
			  enum hf_input input, const struct hf_machine_arg *arg, uint64_t now_ns);

/* True if a process of it exists in this state. */
bool hf_state_has_process(enum hf_state state);
const char *hf_state_name(enum hf_state state);
const char *hf_input_name(enum hf_input input);
