/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judgement of silence.
 *
 * I1. Only a process that could run between two samples is called hung: with one sample alone
 *     nothing is known, so the first late check never convicts.
 * I2. A late check of ours excuses the component: silence measured by a clock that jumped, or by a
 *     watchdog that did not run itself, proves nothing.
 */
#include "watchdog/hang.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

/* A check that comes later than this was not on time: a wakeup takes microseconds on a sane host. */
#define OUR_LATENESS_NS HF_NS_PER_S

static const char *const names[] = {
	[HF_LIVE_OK] = "ok",
	[HF_LIVE_LATE] = "late",
	[HF_LIVE_STARVED] = "starved of CPU",
	[HF_LIVE_BLOCKED] = "blocked in the kernel (D state)",
	[HF_LIVE_STOPPED] = "stopped by a signal or the freezer",
	[HF_LIVE_TRACED] = "held by a debugger",
	[HF_LIVE_HUNG] = "hung",
};
_Static_assert(HF_ARRAY_SIZE(names) == _HF_LIVE_MAX, "every liveness has a name");

const char *hf_liveness_name(enum hf_liveness l)
{
	return names[l];
}

static void rearm(struct hf_hang *h, uint64_t now_ns)
{
	h->packet_ns = now_ns;
	for (unsigned i = 0; i < HF_SUP_WORKERS_MAX; i++)
		h->moved_ns[i] = now_ns;
	h->sampled = false;
}

void hf_hang_begin(struct hf_hang *h, uint64_t now_ns)
{
	*h = (struct hf_hang){.stuck_worker = -1};
	rearm(h, now_ns);
}

int hf_hang_progress(struct hf_hang *h, const struct hf_sup_progress *p, uint64_t now_ns)
{
	if (p->workers > HF_SUP_WORKERS_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < p->workers; i++)
		if (i >= h->workers || p->counter[i] != h->counter[i]) {
			h->counter[i] = p->counter[i];
			h->moved_ns[i] = now_ns;
		}
	h->workers = p->workers;
	h->packet_ns = now_ns;
	return 0;
}

/* The oldest sign of life that counts, and whose it is. */
static uint64_t silent_since(const struct hf_hang *h, int *ret_worker)
{
	uint64_t since = h->packet_ns;

	*ret_worker = -1;
	for (unsigned i = 0; i < h->workers; i++)
		if (h->moved_ns[i] < since) {
			since = h->moved_ns[i];
			*ret_worker = (int)i;
		}
	return since;
}

/* Late begins half an expectation after the packet was due. */
static uint64_t late_after(const struct hf_hang_policy *p)
{
	return p->expect_ns + p->expect_ns / 2;
}

bool hf_hang_needs_sample(const struct hf_hang *h, const struct hf_hang_policy *p, uint64_t now_ns)
{
	int worker;

	/* Somebody who holds it is watched until he lets go. */
	return h->liveness == HF_LIVE_STOPPED || h->liveness == HF_LIVE_TRACED ||
	       now_ns - silent_since(h, &worker) >= late_after(p);
}

/* What the process did since the previous sample. */
static enum hf_liveness excuse(const struct hf_hang *h, const struct hf_proc_sample *s)
{
	uint64_t window, wait, throttled, cpu;

	if (s->traced)
		return HF_LIVE_TRACED;
	if (s->stopped)
		return HF_LIVE_STOPPED;
	if (s->uninterruptible)
		return HF_LIVE_BLOCKED;
	if (!h->sampled || s->at_ns <= h->sample.at_ns)
		return HF_LIVE_LATE;
	window = s->at_ns - h->sample.at_ns;
	/* Threads come and go: a sum that shrank says nothing. */
	wait = s->wait_ns > h->sample.wait_ns ? s->wait_ns - h->sample.wait_ns : 0;
	cpu = s->cpu_ns > h->sample.cpu_ns ? s->cpu_ns - h->sample.cpu_ns : 0;
	throttled = s->throttled_ns > h->sample.throttled_ns
			    ? s->throttled_ns - h->sample.throttled_ns
			    : 0;
	/* Runnable for most of the time and running for the smaller part of that. */
	if (wait >= window / 2 && wait > cpu)
		return HF_LIVE_STARVED;
	if (throttled >= window / 4)
		return HF_LIVE_STARVED;
	return HF_LIVE_HUNG;
}

static enum hf_liveness finish(struct hf_hang *h, enum hf_liveness l, uint64_t due_ns)
{
	h->liveness = l;
	h->due_ns = due_ns;
	return l;
}

enum hf_liveness hf_hang_check(struct hf_hang *h, const struct hf_hang_policy *p,
			       const struct hf_proc_sample *sample, uint64_t now_ns)
{
	uint64_t since, silent_ns, excused_ns;
	enum hf_liveness l;

	if (h->due_ns && now_ns > h->due_ns + OUR_LATENESS_NS)
		rearm(h, now_ns);
	since = silent_since(h, &h->stuck_worker);
	h->silent_since_ns = since;
	silent_ns = now_ns - since;
	l = sample ? excuse(h, sample) : HF_LIVE_LATE;
	if (silent_ns < late_after(p) && l != HF_LIVE_STOPPED && l != HF_LIVE_TRACED) {
		h->sampled = false; /* a sample is good for one silence only */
		return finish(h, HF_LIVE_OK, since + late_after(p));
	}
	if (sample) {
		h->sample = *sample;
		h->sampled = true;
	}
	switch (l) {
	case HF_LIVE_TRACED:
	case HF_LIVE_STOPPED:
		rearm(h, now_ns);
		h->excused_ns = now_ns;
		return finish(h, l, now_ns + p->expect_ns);
	case HF_LIVE_STARVED:
	case HF_LIVE_BLOCKED:
		h->excused_ns = now_ns;
		if (silent_ns >= p->stretch_ns)
			return finish(h, HF_LIVE_HUNG, now_ns + p->expect_ns);
		return finish(h, l, now_ns + p->expect_ns);
	case HF_LIVE_HUNG:
		excused_ns = h->excused_ns > since ? h->excused_ns : since;
		if (now_ns - excused_ns >= p->deadline_ns)
			return finish(h, HF_LIVE_HUNG, now_ns + p->expect_ns);
		return finish(h, HF_LIVE_LATE, excused_ns + p->deadline_ns);
	case HF_LIVE_OK:
	case HF_LIVE_LATE:
	case _HF_LIVE_MAX:
		break;
	}
	/* The first sample, or none: the second one comes at the deadline, a little later at most. */
	if (silent_ns < p->deadline_ns)
		return finish(h, HF_LIVE_LATE, since + p->deadline_ns);
	return finish(h, HF_LIVE_LATE, now_ns + p->expect_ns / 2);
}
