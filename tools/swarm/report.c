/* SPDX-License-Identifier: Apache-2.0 */
/* Counting by tenths of a second, and the lines on stdout. */
#include "tools/swarm/swarm.h"

#include <stdio.h>

#include "base/clock.h"

static uint64_t elapsed_ms(const struct hf_swarm *s)
{
	return (hf_now_monotonic_ns() - s->started_ns) / HF_NS_PER_MS;
}

void hf_swarm_count(struct hf_swarm *s, uint32_t *buckets, uint64_t at_ns)
{
	uint64_t i = (at_ns - s->started_ns) / HF_NS_PER_MS / HF_SWARM_BUCKET_MS;

	buckets[i < HF_SWARM_BUCKETS ? i : HF_SWARM_BUCKETS - 1]++;
}

static void tell(struct hf_swarm *s, const char *event)
{
	if (s->o.json)
		(void)printf("{\"event\":\"%s\",\"ms\":%llu,\"online\":%u}\n", event,
			     (unsigned long long)elapsed_ms(s), s->online);
	else
		(void)printf("%8.1f s  %s (%u online)\n", (double)elapsed_ms(s) / 1000, event,
			     s->online);
	(void)fflush(stdout); /* a reader that left is no reason to stop */
}

void hf_swarm_online(struct hf_swarm *s, int delta)
{
	s->online = (unsigned)((int)s->online + delta);
	if (s->stopping)
		return;
	if (s->online == s->o.count && !s->all_online) {
		s->all_online = true;
		tell(s, "all_online");
	} else if (s->online < s->o.count && s->all_online) {
		s->all_online = false;
		tell(s, "first_lost");
	}
}

static void print_buckets(const char *name, const uint32_t *buckets, uint64_t n)
{
	(void)printf(",\"%s\":[", name);
	for (uint64_t i = 0; i < n; i++)
		(void)printf("%s%u", i ? "," : "", buckets[i]);
	(void)printf("]");
}

void hf_swarm_report(struct hf_swarm *s)
{
	const struct hf_swarm_stats *n = &s->stats;
	const struct {
		const char *name;
		uint64_t value;
	} all[] = {
		{"dials", n->dials},         {"refused", n->refused},
		{"connected", n->connected}, {"handshakes", n->handshakes},
		{"resumed", n->resumed},     {"onlines", n->onlines},
		{"losses", n->losses},       {"holds", n->holds},
		{"enrolled", n->enrolled},   {"heartbeats", n->heartbeats},
		{"missed", n->missed},       {"events", n->events},
		{"acked", n->acked},         {"superseded", n->superseded},
		{"errors", n->errors},
	};
	uint64_t ms = elapsed_ms(s), buckets = ms / HF_SWARM_BUCKET_MS + 1;

	if (buckets > HF_SWARM_BUCKETS)
		buckets = HF_SWARM_BUCKETS;
	if (!s->o.json) {
		for (size_t i = 0; i < HF_ARRAY_SIZE(all); i++)
			(void)printf("%-12s %llu\n", all[i].name, (unsigned long long)all[i].value);
		return;
	}
	(void)printf("{\"event\":\"report\",\"ms\":%llu,\"count\":%u,\"bucket_ms\":%u",
		     (unsigned long long)ms, s->o.count, HF_SWARM_BUCKET_MS);
	for (size_t i = 0; i < HF_ARRAY_SIZE(all); i++)
		(void)printf(",\"%s\":%llu", all[i].name, (unsigned long long)all[i].value);
	print_buckets("dials_at", n->dials_at, buckets);
	print_buckets("arrivals_at", n->arrivals_at, buckets);
	print_buckets("onlines_at", n->onlines_at, buckets);
	(void)printf("}\n");
	(void)fflush(stdout); /* likewise */
}
