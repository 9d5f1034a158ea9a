/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judging a version. Silent and pure.
 *
 * I1 time counts only between two looks that both found it healthy, on CLOCK_MONOTONIC: neither a
 *    wall clock's step nor a suspend nor a power cut passes or fails a version.
 * I2 what is not seen does not count: a canary is lost only while the process could have seen it.
 */
#include "watchdog/release_judge.h"

#include <signal.h>
#include <string.h>

#include "base/assert.h"
#include "base/cleanup.h"

#define FAST_ENDS 2u
#define FAST_NS   (60 * HF_NS_PER_S)
#define SLOW_ENDS 3u
#define SLOW_NS   (600 * HF_NS_PER_S)
#define HANGS     2u
/* Two looks that lie further apart were no observation: the loop was held up. */
#define LOOK_MAX_NS         (10 * HF_NS_PER_S)
#define EXIT_CODE_PERMANENT 100

/* A program gets these from somebody else; what it does to itself has other numbers. */
static bool is_from_outside(int signal)
{
	return signal == SIGKILL || signal == SIGTERM || signal == SIGINT || signal == SIGHUP ||
	       signal == SIGQUIT;
}

enum hf_release_blame hf_release_blame(const struct hf_death *d, bool was_ready, bool own_limit)
{
	switch (d->cause) {
	case HF_EXIT_EXITED:
		/* A SIGTERM of an operator, obeyed, looks like this as well. */
		if (d->code == 0)
			return HF_BLAME_UNKNOWN;
		return d->code == EXIT_CODE_PERMANENT ? HF_BLAME_PERMANENT : HF_BLAME_CRASH;
	case HF_EXIT_SIGNALLED:
		/* Without the kernel's programs nobody knows who sent it. */
		return is_from_outside(d->signal) ? HF_BLAME_NOBODY : HF_BLAME_CRASH;
	case HF_EXIT_CRASHED:
		return HF_BLAME_CRASH;
	case HF_EXIT_HUNG:
		return was_ready ? HF_BLAME_HANG : HF_BLAME_NOT_READY;
	case HF_EXIT_LIMIT:
		return HF_BLAME_LIMIT;
	case HF_EXIT_OOM:
		return own_limit ? HF_BLAME_LIMIT : HF_BLAME_NOBODY;
	case HF_EXIT_KILLED_BY_OPERATOR:
	case HF_EXIT_STOPPED_BY_REQUEST:
		return HF_BLAME_NOBODY;
	case HF_EXIT_UNKNOWN:
	case _HF_EXIT_MAX:
		break;
	}
	return HF_BLAME_UNKNOWN;
}

void hf_release_judge_begin(struct hf_release_judge *j, bool trial, uint64_t healthy_ns,
			    bool expects_portal)
{
	*j = (struct hf_release_judge){
		.trial = trial, .healthy_ns = healthy_ns, .expects_portal = expects_portal};
}

static bool within(const struct hf_release_judge *j, unsigned ends, uint64_t ns, uint64_t now_ns)
{
	uint64_t first_ns = j->ends_ns[ends - 1];

	return first_ns && now_ns - first_ns <= ns;
}

static void note_end(struct hf_release_judge *j, uint64_t now_ns)
{
	memmove(&j->ends_ns[1], &j->ends_ns[0], sizeof(j->ends_ns) - sizeof(j->ends_ns[0]));
	j->ends_ns[0] = now_ns ? now_ns : 1;
}

static enum hf_release_reason judge_trial(struct hf_release_judge *j, enum hf_release_blame blame,
					  uint64_t now_ns)
{
	switch (blame) {
	case HF_BLAME_CRASH:
		return within(j, FAST_ENDS, FAST_NS, now_ns) ||
				       within(j, SLOW_ENDS, SLOW_NS, now_ns)
			       ? HF_RELEASE_WHY_CRASHES
			       : HF_RELEASE_WHY_NONE;
	case HF_BLAME_PERMANENT:
		return HF_RELEASE_WHY_CRASHES;
	case HF_BLAME_HANG:
		return ++j->hangs >= HANGS ? HF_RELEASE_WHY_HANGS : HF_RELEASE_WHY_NONE;
	case HF_BLAME_LIMIT:
		return HF_RELEASE_WHY_LIMIT;
	case HF_BLAME_NOT_READY:
		return HF_RELEASE_WHY_NOT_READY;
	case HF_BLAME_NOBODY:
	case HF_BLAME_UNKNOWN:
	case _HF_BLAME_MAX:
		break;
	}
	return HF_RELEASE_WHY_NONE;
}

enum hf_release_reason hf_release_judge_end(struct hf_release_judge *j, enum hf_release_blame blame,
					    uint64_t now_ns)
{
	hf_assert(blame < _HF_BLAME_MAX);
	hf_release_judge_canaries_forget(j);
	j->tick_ns = 0;
	if (blame == HF_BLAME_NOBODY || blame == HF_BLAME_UNKNOWN)
		return HF_RELEASE_WHY_NONE;
	/* A hang is no crash: each has its own count on trial. */
	if (!j->trial || blame == HF_BLAME_CRASH)
		note_end(j, now_ns);
	if (j->trial)
		return judge_trial(j, blame, now_ns);
	return within(j, HF_RELEASE_LATE_ENDS, HF_RELEASE_LATE_NS, now_ns) ? HF_RELEASE_WHY_CRASHES
									   : HF_RELEASE_WHY_NONE;
}

/* ---- canaries ----------------------------------------------------------------------------------- */

bool hf_release_judge_canary_sent(struct hf_release_judge *j, uint64_t nonce, uint64_t now_ns)
{
	hf_assert(nonce);
	for (size_t i = 0; i < HF_CANARIES_MAX; i++) {
		if (j->canary[i].nonce)
			continue;
		j->canary[i].nonce = nonce;
		j->canary[i].due_ns = now_ns + HF_CANARY_WAIT_NS;
		return true;
	}
	return false;
}

void hf_release_judge_canary_cancel(struct hf_release_judge *j, uint64_t nonce)
{
	for (size_t i = 0; i < HF_CANARIES_MAX; i++)
		if (j->canary[i].nonce == nonce)
			j->canary[i].nonce = 0;
}

void hf_release_judge_canary_seen(struct hf_release_judge *j, uint64_t nonce)
{
	for (size_t i = 0; i < HF_CANARIES_MAX; i++) {
		if (!nonce || j->canary[i].nonce != nonce)
			continue;
		j->canary[i].nonce = 0;
		j->canaries_seen++;
		j->canaries_lost = 0;
	}
}

void hf_release_judge_canaries_forget(struct hf_release_judge *j)
{
	memset(j->canary, 0, sizeof(j->canary));
	j->canaries_lost = 0;
}

static void count_lost(struct hf_release_judge *j, uint64_t now_ns)
{
	for (size_t i = 0; i < HF_CANARIES_MAX; i++) {
		if (!j->canary[i].nonce || now_ns < j->canary[i].due_ns)
			continue;
		j->canary[i].nonce = 0;
		j->canaries_lost++;
	}
}

/* ---- looks -------------------------------------------------------------------------------------- */

enum hf_release_reason hf_release_judge_look(struct hf_release_judge *j,
					     const struct hf_release_look *l, uint64_t now_ns)
{
	uint64_t passed_ns = j->tick_ns && now_ns > j->tick_ns ? now_ns - j->tick_ns : 0;

	if (!l->healthy || passed_ns > LOOK_MAX_NS) {
		/* I2: it may be starved or stopped, and that is judged elsewhere. */
		hf_release_judge_canaries_forget(j);
		j->tick_ns = l->healthy ? now_ns : 0;
		return HF_RELEASE_WHY_NONE;
	}
	j->tick_ns = now_ns;
	j->healthy_ns += passed_ns;
	if (l->connected)
		j->had_portal = true;
	if (l->canaries)
		count_lost(j, now_ns);
	if (!j->trial)
		return HF_RELEASE_WHY_NONE;
	if (j->canaries_lost >= HF_CANARY_LOST)
		return HF_RELEASE_WHY_CANARY;
	if (!j->expects_portal || j->had_portal)
		return HF_RELEASE_WHY_NONE;
	j->without_portal_ns += passed_ns;
	return j->without_portal_ns >= l->portal_ns ? HF_RELEASE_WHY_PORTAL : HF_RELEASE_WHY_NONE;
}

bool hf_release_judge_passed(const struct hf_release_judge *j, const struct hf_release_look *l,
			     uint64_t probation_ns)
{
	if (!l->healthy || j->healthy_ns < probation_ns)
		return false;
	if (l->canaries && (j->canaries_seen == 0 || j->canaries_lost > 0))
		return false;
	return !j->expects_portal || j->had_portal;
}
