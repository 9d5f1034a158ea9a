/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel's states and what each event does in each of them: one table, no I/O, no clock
 * reading. channel.c performs the actions.
 *
 * I1. Only hf_machine_step() changes the state, and it reports old and new: no silent transition.
 * I2. At most one session and one attempt exist. An attempt beside a session exists only in
 *     SUSPECT (the race); HF_DO_ADOPT and HF_DO_OVERTAKE are the only ways out of that.
 * I3. Every state but STOPPED and UNENROLLED has a timer or a peer that leads out of it: the
 *     channel never gives up.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum hf_ch_state {
	HF_CH_UNENROLLED, /* no portal, or neither certificate nor token */
	HF_CH_ENROLLING,  /* an attempt with the token runs */
	HF_CH_PENDING,    /* session up, not authorized yet */
	HF_CH_CONNECTING, /* an attempt with the certificate runs */
	HF_CH_ONLINE,
	HF_CH_SUSPECT, /* session up but doubted: ping and race run */
	HF_CH_BACKOFF, /* waits for its own timer */
	HF_CH_HELD,    /* the portal said wait */
	HF_CH_REVOKED,
	HF_CH_CLOCK_BAD,
	HF_CH_STOPPED,
	_HF_CH_STATE_MAX,

	/* Only as "next": decided by what the machine knows. */
	HF_CH_NEXT_DIAL = 100, /* CONNECTING with a certificate, else ENROLLING */
	HF_CH_NEXT_UP,         /* ONLINE when authorized, else PENDING */
	HF_CH_NEXT_RACE,       /* CONNECTING while the race's attempt runs, else BACKOFF */
	HF_CH_NEXT_SAME,
};

enum hf_ch_event {
	HF_EV_CONFIGURED, /* portal and credentials are known, or have changed */
	HF_EV_DUE,        /* the waiting time is over */
	HF_EV_KICK,       /* the network changed, the host woke up */
	HF_EV_ENROLLED,   /* the certificate is stored */
	HF_EV_UP,         /* the attempt got its welcome */
	HF_EV_FAILED,     /* the attempt failed; trying again may help */
	HF_EV_HOLD,       /* retry-after, Hold message, refused token */
	HF_EV_REVOKED,
	HF_EV_CLOCK,        /* certificates cannot be judged with this clock */
	HF_EV_LOST,         /* the session is gone */
	HF_EV_SUSPICION,    /* evidence that the session may be dead */
	HF_EV_PROOF,        /* the portal's registry answered */
	HF_EV_SUSPECT_OVER, /* no proof in time */
	HF_EV_AUTH_CHANGED, /* pending, authorized, suspended */
	HF_EV_MOVED,        /* the server of offered settings has taken us */
	HF_EV_STOP,
	HF_EV_RESET, /* forget the identity */
	_HF_EV_MAX,
};

enum hf_ch_action {
	HF_DO_NOTHING,
	HF_DO_DIAL,     /* start an attempt */
	HF_DO_REDIAL,   /* drop session and attempt, start an attempt */
	HF_DO_WAIT,     /* arm the retry timer by the backoff */
	HF_DO_LOSE,     /* drop the session, open an outage, arm the retry timer */
	HF_DO_ADOPT,    /* the attempt's connection becomes the session; the old one is dropped */
	HF_DO_MOVE,     /* an offered server took us: leave the old one without an outage */
	HF_DO_PROVE,    /* ping with a deadline and start a racing attempt */
	HF_DO_PROBE,    /* ping with a deadline; the racing attempt follows at DUE */
	HF_DO_RERACE,   /* start the racing attempt again */
	HF_DO_CALM,     /* the session lives: cancel race and deadline */
	HF_DO_OVERTAKE, /* drop the session, open an outage, go on with the race */
	HF_DO_UPDATE,   /* authorization changed */
	HF_DO_HOLD,     /* drop everything, wait as long as the portal said */
	HF_DO_HALT,     /* drop everything, ask again after a long time */
	HF_DO_STOP,     /* say goodbye, drop everything */
	HF_DO_WIPE,     /* say goodbye, drop everything, forget identity */
	_HF_DO_MAX,
};

struct hf_machine {
	enum hf_ch_state state;
	uint64_t since_ns;
	bool enrolled;   /* a certificate is stored */
	bool authorized; /* as the portal said last */
	bool racing;     /* an attempt runs */
};

struct hf_step {
	enum hf_ch_state from, to;
	enum hf_ch_action action;
};

void hf_machine_init(struct hf_machine *m, bool enrolled, uint64_t now_ns);
struct hf_step hf_machine_step(struct hf_machine *m, enum hf_ch_event ev, uint64_t now_ns);

const char *hf_ch_state_name(enum hf_ch_state s);
const char *hf_ch_event_name(enum hf_ch_event e);
const char *hf_ch_action_name(enum hf_ch_action a);
