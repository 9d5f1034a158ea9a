/* SPDX-License-Identifier: Apache-2.0 */
/* Token bucket and aggregates. */
#include "userspace/agent/budget.h"

#include <string.h>

#include "base/clock.h"
#include "base/str.h"

void hf_budget_configure(struct hf_budget *b, uint64_t max_per_s, uint64_t burst)
{
	b->single.burst = burst > UINT32_MAX ? UINT32_MAX : (uint32_t)burst;
	b->single.interval_ns = HF_NS_PER_S / (max_per_s ? max_per_s : 1);
}

void hf_budget_init(struct hf_budget *b, uint64_t max_per_s, uint64_t burst)
{
	memset(b, 0, sizeof(*b));
	hf_budget_configure(b, max_per_s, burst);
}

static bool same(const struct hf_budget_group *g, const Bus__Event *e)
{
	return g->uid == e->uid && hf_streq(g->kind, e->kind) && hf_streq(g->comm, e->comm) &&
	       strncmp(g->unit, e->unit, sizeof(g->unit) - 1) == 0 &&
	       strncmp(g->peer, e->peer, sizeof(g->peer) - 1) == 0 &&
	       strncmp(g->reason, e->reason, sizeof(g->reason) - 1) == 0;
}

bool hf_budget_take(struct hf_budget *b, const Bus__Event *e, uint64_t now_ns)
{
	struct hf_budget_group *g = NULL;

	if (hf_ratelimit_take(&b->single, now_ns))
		return true;
	if (b->n == 0)
		b->window_began_ns = now_ns;
	for (size_t i = 0; i < b->n && i < HF_BUDGET_GROUPS_MAX && !g; i++) {
		if (same(&b->groups[i], e))
			g = &b->groups[i];
	}
	if (!g && b->n < HF_BUDGET_GROUPS_MAX) {
		g = &b->groups[b->n++];
		*g = (struct hf_budget_group){
			.pid = e->pid,
			.uid = e->uid,
			.first_unix_ns = e->time_unix_ns,
		};
		hf_strlcpy(g->kind, e->kind, sizeof(g->kind));
		hf_strlcpy(g->comm, e->comm, sizeof(g->comm));
		hf_strlcpy(g->unit, e->unit, sizeof(g->unit));
		hf_strlcpy(g->peer, e->peer, sizeof(g->peer));
		hf_strlcpy(g->reason, e->reason, sizeof(g->reason));
	}
	if (!g) {
		g = &b->groups[HF_BUDGET_GROUPS_MAX];
		if (b->n == HF_BUDGET_GROUPS_MAX) {
			b->n++;
			*g = (struct hf_budget_group){.first_unix_ns = e->time_unix_ns};
			hf_strlcpy(g->kind, "telemetry.loss", sizeof(g->kind));
			hf_strlcpy(g->reason, "budget", sizeof(g->reason));
		}
	}
	g->count++;
	if (g->pid != e->pid)
		g->pid = 0; /* several processes of one unit or name */
	g->last_unix_ns = e->time_unix_ns;
	return false;
}

bool hf_budget_due(const struct hf_budget *b, uint64_t now_ns)
{
	return b->n > 0 && now_ns - b->window_began_ns >= HF_BUDGET_WINDOW_MS * HF_NS_PER_MS;
}

void hf_budget_flush(struct hf_budget *b, uint64_t now_ns,
		     void (*emit)(Bus__Event *e, void *userdata), void *userdata)
{
	uint64_t window_ms = (now_ns - b->window_began_ns) / HF_NS_PER_MS;

	for (size_t i = 0; i < b->n; i++) {
		struct hf_budget_group *g = &b->groups[i];
		Bus__DropInfo drop = BUS__DROP_INFO__INIT;
		Bus__LossInfo loss = BUS__LOSS_INFO__INIT;
		Bus__Event e = BUS__EVENT__INIT;
		char detail[96];

		hf_strf(detail, sizeof(detail), "%llu more events like this within %llu s",
			(unsigned long long)g->count, (unsigned long long)(window_ms / 1000));
		e.time_unix_ns = g->last_unix_ns;
		e.kind = g->kind;
		e.ring = (char *)"aggregate";
		e.pid = g->pid;
		e.uid = g->uid;
		e.comm = g->comm;
		e.unit = g->unit;
		e.peer = g->peer;
		e.reason = g->reason;
		e.detail = detail;
		drop.count = g->count;
		drop.window_ms = window_ms;
		e.drop = &drop;
		if (i == HF_BUDGET_GROUPS_MAX) {
			loss.count = g->count;
			loss.cause = (char *)"budget";
			e.loss = &loss;
		}
		emit(&e, userdata);
	}
	b->n = 0;
	b->window_began_ns = now_ns;
}
