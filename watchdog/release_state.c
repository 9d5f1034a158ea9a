/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state table of a release. Silent and pure.
 *
 * I1 the active release changes in two places only: a commit and a rollback. While a candidate is on
 *    trial the active one stays as it is, so that losing the trial needs no copying back.
 * I2 a try is taken before each start of a candidate; a machine that dies in it has lost the try. A
 *    reboot gives one back, a bounded number of times: three power cuts are no fault of a version.
 * I3 the floor of the security epoch rises at a commit only, and never above what the previous
 *    version has: automatic rollback is always legal.
 * I4 an unknown phase goes back to the active release.
 * I5 what failed or was rolled back by hand is known as bad and is not installed again by an offer;
 *    what gave way to another one, or was without its portal (perhaps the portal's fault), is not.
 */
#include "watchdog/release_state.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/cleanup.h"

enum action {
	REFUSE,
	NOTHING,
	STAGE,
	DROP,     /* forget the candidate */
	TEST,     /* begin the preflight */
	RETEST,   /* the preflight was interrupted */
	TRY,      /* the trial begins */
	REJECT,   /* the candidate failed its preflight */
	TAKE_TRY, /* a start in the trial */
	COMMIT,
	UNDO,      /* the candidate failed its trial */
	BACK,      /* to the previous version, by someone's word */
	LATE,      /* the active version failed long after its trial */
	ALTERNATE, /* both fail: the other one now */
	SETTLE,    /* one of both is well after all */
	FORGET,    /* unknown phase */
	ADOPT,     /* nothing to go back to, so nothing to try */
	GIVE_BACK,
	_ACTION_MAX,
};

/* clang-format off */
static const uint8_t table[_HF_RELEASE_PHASE_MAX][_HF_RELEASE_EV_MAX] = {
	/*                         STAGE   CANCEL  PREFL.  OK      P.FAIL  START     HEALTHY  FAILED     ROLLBACK   RECOVER  ADOPT   GIVE_BACK */
	[HF_RELEASE_IDLE]        = {STAGE, REFUSE, REFUSE, REFUSE, REFUSE, NOTHING,  NOTHING, LATE,      BACK,      NOTHING, ADOPT,  NOTHING},
	[HF_RELEASE_STAGED]      = {STAGE, DROP,   TEST,   REFUSE, REFUSE, NOTHING,  NOTHING, NOTHING,   DROP,      NOTHING, REFUSE, NOTHING},
	[HF_RELEASE_PREFLIGHT]   = {REFUSE, DROP,  REFUSE, TRY,    REJECT, NOTHING,  NOTHING, NOTHING,   DROP,      RETEST,  REFUSE, NOTHING},
	[HF_RELEASE_TRIAL]       = {REFUSE, UNDO,  REFUSE, REFUSE, REFUSE, TAKE_TRY, COMMIT,  UNDO,      UNDO,      NOTHING, REFUSE, GIVE_BACK},
	[HF_RELEASE_COMMITTED]   = {STAGE, REFUSE, REFUSE, REFUSE, REFUSE, NOTHING,  NOTHING, LATE,      BACK,      NOTHING, ADOPT,  NOTHING},
	[HF_RELEASE_ROLLED_BACK] = {STAGE, REFUSE, REFUSE, REFUSE, REFUSE, NOTHING,  NOTHING, LATE,      BACK,      NOTHING, ADOPT,  NOTHING},
	[HF_RELEASE_SAFE]        = {STAGE, REFUSE, REFUSE, REFUSE, REFUSE, NOTHING,  SETTLE,  ALTERNATE, ALTERNATE, NOTHING, ADOPT,  NOTHING},
};
/* clang-format on */

static const char *const phase_names[] = {
	[HF_RELEASE_IDLE] = "idle",           [HF_RELEASE_STAGED] = "staged",
	[HF_RELEASE_PREFLIGHT] = "preflight", [HF_RELEASE_TRIAL] = "trial",
	[HF_RELEASE_COMMITTED] = "committed", [HF_RELEASE_ROLLED_BACK] = "rolled_back",
	[HF_RELEASE_SAFE] = "safe",
};
_Static_assert(HF_ARRAY_SIZE(phase_names) == _HF_RELEASE_PHASE_MAX, "a name for each");

static const char *const reason_names[] = {
#define X(id, name) [HF_RELEASE_WHY_##id] = name,
	HF_RELEASE_REASONS(X)
#undef X
};
_Static_assert(HF_ARRAY_SIZE(reason_names) == _HF_RELEASE_WHY_MAX, "a name for each");

const char *hf_release_phase_name(uint32_t phase)
{
	return phase < _HF_RELEASE_PHASE_MAX ? phase_names[phase] : "unknown";
}

const char *hf_release_reason_name(uint32_t reason)
{
	return reason < _HF_RELEASE_WHY_MAX ? reason_names[reason] : "unknown";
}

static bool is_there(const struct hf_release_slot *s)
{
	return s->version[0] != '\0';
}

const struct hf_release_slot *hf_release_runs(const struct hf_release_record *r)
{
	if (r->phase == HF_RELEASE_TRIAL && is_there(&r->candidate))
		return &r->candidate;
	return is_there(&r->active) ? &r->active : NULL;
}

static void add_bad(struct hf_release_record *r, const struct hf_release_slot *s)
{
	if (memcmp(r->bad[0], s->hash, sizeof(r->bad[0])) == 0)
		return;
	memmove(r->bad[1], r->bad[0], sizeof(r->bad) - sizeof(r->bad[0]));
	memcpy(r->bad[0], s->hash, sizeof(r->bad[0]));
}

/* An administrator may install again what failed: it gets a clean sheet. */
static void remove_bad(struct hf_release_record *r, const struct hf_release_slot *s)
{
	for (unsigned i = 0; i < HF_RELEASE_BAD_MAX; i++) {
		if (memcmp(r->bad[i], s->hash, sizeof(r->bad[i])) != 0)
			continue;
		memmove(r->bad[i], r->bad[i + 1], (HF_RELEASE_BAD_MAX - 1 - i) * sizeof(r->bad[0]));
		memset(r->bad[HF_RELEASE_BAD_MAX - 1], 0, sizeof(r->bad[0]));
		return;
	}
}

static void drop_candidate(struct hf_release_record *r, enum hf_release_phase phase,
			   enum hf_release_reason reason)
{
	memset(&r->candidate, 0, sizeof(r->candidate));
	r->phase = phase;
	r->reason = reason;
	r->tries_left = 0;
	r->refunds_left = 0;
	r->healthy_ms = 0;
}

static void swap_active(struct hf_release_record *r)
{
	struct hf_release_slot s = r->active;

	r->active = r->previous;
	r->previous = s;
}

static bool may_go_back(const struct hf_release_record *r)
{
	return is_there(&r->previous) && r->previous.security_epoch >= r->security_epoch;
}

static int take_try(struct hf_release_record *r, const struct hf_release_input *in)
{
	bool rebooted = memcmp(r->boot_id, in->boot_id, sizeof(r->boot_id)) != 0;

	/* The first start of a trial has nothing to give back. */
	if (rebooted && r->tries_left < HF_RELEASE_TRIES && r->refunds_left > 0) {
		r->tries_left++;
		r->refunds_left--;
	}
	if (r->tries_left == 0) {
		add_bad(r, &r->candidate);
		drop_candidate(r, HF_RELEASE_ROLLED_BACK, HF_RELEASE_WHY_TRIES);
		return 1;
	}
	r->tries_left--;
	memcpy(r->boot_id, in->boot_id, sizeof(r->boot_id));
	return 1;
}

static int commit(struct hf_release_record *r)
{
	uint64_t floor = r->candidate.security_epoch;

	r->previous = r->active;
	r->active = r->candidate;
	if (is_there(&r->previous) && r->previous.security_epoch < floor)
		floor = r->previous.security_epoch;
	if (floor > r->security_epoch)
		r->security_epoch = floor;
	drop_candidate(r, HF_RELEASE_COMMITTED, HF_RELEASE_WHY_NONE);
	return 1;
}

/* The active version fails: the one before, if there is one that it may go to; else both fail. */
static int late(struct hf_release_record *r, enum hf_release_reason reason)
{
	bool both = r->phase == HF_RELEASE_ROLLED_BACK || !may_go_back(r);

	if (!is_there(&r->active))
		return 0; /* the package's own; there is nothing to choose */
	if (!both)
		add_bad(r, &r->active);
	if (may_go_back(r))
		swap_active(r);
	r->phase = both ? HF_RELEASE_SAFE : HF_RELEASE_ROLLED_BACK;
	r->reason = reason;
	return 1;
}

static int back(struct hf_release_record *r)
{
	if (!may_go_back(r))
		return -ENOENT;
	add_bad(r, &r->active);
	swap_active(r);
	r->phase = HF_RELEASE_ROLLED_BACK;
	r->reason = HF_RELEASE_WHY_ASKED;
	return 1;
}

static int adopt(struct hf_release_record *r, const struct hf_release_slot *slot)
{
	hf_assert(slot && is_there(slot));
	if (is_there(&r->active))
		return -EPERM;
	drop_candidate(r, HF_RELEASE_COMMITTED, HF_RELEASE_WHY_NONE);
	r->active = *slot;
	remove_bad(r, slot);
	return 1;
}

static int act(struct hf_release_record *r, enum action action, const struct hf_release_input *in)
{
	switch (action) {
	case REFUSE:
		return -EPERM;
	case NOTHING:
		return 0;
	case STAGE:
		hf_assert(in->slot && is_there(in->slot));
		drop_candidate(r, HF_RELEASE_STAGED, HF_RELEASE_WHY_NONE);
		r->candidate = *in->slot;
		r->tries_left = HF_RELEASE_TRIES;
		r->refunds_left = HF_RELEASE_REFUNDS;
		remove_bad(r, in->slot);
		return 1;
	case DROP:
		drop_candidate(r, HF_RELEASE_IDLE, HF_RELEASE_WHY_ASKED);
		return 1;
	case TEST:
		r->phase = HF_RELEASE_PREFLIGHT;
		return 1;
	case RETEST:
		/* Whoever takes the watchdog down in its preflight does so three times at most. */
		if (r->tries_left > 1) {
			r->tries_left--;
			r->phase = HF_RELEASE_STAGED;
			return 1;
		}
		add_bad(r, &r->candidate);
		drop_candidate(r, HF_RELEASE_ROLLED_BACK, HF_RELEASE_WHY_TRIES);
		return 1;
	case TRY:
		r->phase = HF_RELEASE_TRIAL;
		r->tries_left = HF_RELEASE_TRIES;
		return 1;
	case REJECT:
		add_bad(r, &r->candidate);
		drop_candidate(r, HF_RELEASE_ROLLED_BACK, HF_RELEASE_WHY_PREFLIGHT);
		return 1;
	case TAKE_TRY:
		return take_try(r, in);
	case COMMIT:
		return commit(r);
	case UNDO:
		if (in->event != HF_RELEASE_EV_CANCEL &&
		    (in->event != HF_RELEASE_EV_FAILED || in->reason != HF_RELEASE_WHY_PORTAL))
			add_bad(r, &r->candidate); /* I5 */
		drop_candidate(r, HF_RELEASE_ROLLED_BACK,
			       in->event == HF_RELEASE_EV_FAILED ? in->reason
								 : HF_RELEASE_WHY_ASKED);
		return 1;
	case BACK:
		return back(r);
	case LATE:
		return late(r, in->reason);
	case ALTERNATE:
		if (!may_go_back(r))
			return 0;
		swap_active(r);
		return 1;
	case SETTLE:
		r->phase = HF_RELEASE_IDLE;
		return 1;
	case FORGET:
		drop_candidate(r, HF_RELEASE_ROLLED_BACK, HF_RELEASE_WHY_UNKNOWN);
		return 1;
	case ADOPT:
		return adopt(r, in->slot);
	case GIVE_BACK:
		if (r->tries_left >= HF_RELEASE_TRIES)
			return 0;
		r->tries_left++;
		return 1;
	case _ACTION_MAX:
		break;
	}
	hf_assert(false);
}

int hf_release_step(struct hf_release_record *r, const struct hf_release_input *in)
{
	struct hf_release_record next = *r;
	enum action action = FORGET;
	int result;

	hf_assert(in->event < _HF_RELEASE_EV_MAX);
	if (r->phase < _HF_RELEASE_PHASE_MAX)
		action = table[r->phase][in->event];
	result = act(&next, action, in);
	if (result > 0)
		*r = next;
	return result;
}
