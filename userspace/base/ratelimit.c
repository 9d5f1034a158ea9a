/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token bucket.
 *
 * I1 tokens <= burst: a long pause buys one burst, not the sum of the pause.
 * I2 a clock that goes back gives nothing and takes nothing.
 * I3 fractions of an interval are kept, so that the long-term rate is exact.
 */
#include "base/ratelimit.h"

static void refill(struct hf_ratelimit *l, uint64_t now_ns)
{
	uint64_t n;

	if (!l->started) {
		l->started = true;
		l->tokens = l->burst;
		l->refilled_at_ns = now_ns;
		return;
	}
	if (now_ns <= l->refilled_at_ns)
		return;
	if (l->interval_ns == 0) {
		l->tokens = l->burst;
		l->refilled_at_ns = now_ns;
		return;
	}
	n = (now_ns - l->refilled_at_ns) / l->interval_ns;
	if (n >= l->burst - l->tokens) {
		l->tokens = l->burst;
		l->refilled_at_ns = now_ns;
	} else {
		l->tokens += n;
		l->refilled_at_ns += n * l->interval_ns;
	}
}

bool hf_ratelimit_take(struct hf_ratelimit *l, uint64_t now_ns)
{
	if (l->tokens > l->burst)
		l->tokens = l->burst;
	refill(l, now_ns);
	if (l->tokens == 0) {
		l->refused++;
		return false;
	}
	l->tokens--;
	return true;
}

uint64_t hf_ratelimit_refused(struct hf_ratelimit *l)
{
	uint64_t n = l->refused;

	l->refused = 0;
	return n;
}
