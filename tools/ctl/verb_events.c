/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast events: the agent's recent events, then with --follow its stream. The stream is opened
 * before the recent ones are asked for, so that nothing falls in between; what is in both is shown
 * once.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/bus.h"
#include "tools/ctl/view.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"

#define USAGE \
	"events [--follow] [--kind K]... [--pid P] [--unit U] [--since T] [--limit N] [--json]"
#define KINDS_MAX 16
/* Like tail(1): enough to see where one is. */
#define FOLLOW_FIRST 10
#define SEEN_MAX     4096

static const char *const all_kinds[] = {
	"conn.failed", "conn.reset_received", "conn.reset_sent", "conn.dropped",
	"conn.closed", "conn.retransmit",     "proc.exit",       "proc.oom",
	"skb.drop",    "telemetry.loss",
};

/*
 * A new agent may read its ring a moment after it answers, and tells its subscribers from when its
 * side of the connection stands: what it has is asked for once more.
 */
#define RECHECK_NS (500 * HF_NS_PER_MS)
/* The two rings are read one after the other, so events come a little out of order. */
#define DISORDER_NS HF_NS_PER_S

/* What makes an event this event; its wall-clock time differs a little when it is read again. */
struct key {
	uint64_t boot_ns, seq;
	uint32_t cpu;
	char ring[9];
};

struct query {
	Bus__EventsRequest q;
	const char *kinds[KINDS_MAX];
	size_t n_kinds;
	bool follow;
	struct key seen[SEEN_MAX]; /* the last ones shown, for what comes by both ways */
	size_t n_seen;
	uint64_t newest_ns;  /* wall clock, as the next two */
	uint64_t first_ns;   /* what is older and was not shown at the start was not asked for */
	uint64_t resume_ns;  /* catching up goes back to here */
	uint64_t recheck_ns; /* monotonic; 0: no need */
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

/* A misspelt kind would be followed for ever. */
static bool is_kind(const char *text)
{
	for (size_t i = 0; i < HF_ARRAY_SIZE(all_kinds); i++)
		if (hf_streq(all_kinds[i], text))
			return true;
	return false;
}

static struct key key_of(const Bus__Event *e)
{
	struct key k = {};

	k.boot_ns = e->boot_ns;
	k.seq = e->seq;
	k.cpu = e->cpu;
	(void)hf_strlcpy(k.ring, e->ring, sizeof(k.ring));
	return k;
}

static bool same(const struct key *a, const struct key *b)
{
	return a->seq == b->seq && a->boot_ns == b->boot_ns && a->cpu == b->cpu &&
	       hf_streq(a->ring, b->ring);
}

/* True if it was shown before; remembers it otherwise. */
static bool seen_before(struct query *q, const Bus__Event *e)
{
	struct key k = key_of(e);
	size_t have = q->n_seen < SEEN_MAX ? q->n_seen : SEEN_MAX;

	for (size_t i = 0; i < have; i++)
		if (same(&q->seen[i], &k))
			return true;
	q->seen[q->n_seen++ % SEEN_MAX] = k;
	return false;
}

/* The same choice as the agent makes for recent events. */
static bool wanted(const struct query *q, const Bus__Event *e)
{
	bool kind = q->n_kinds == 0;

	for (size_t i = 0; i < q->n_kinds && !kind; i++)
		kind = hf_streq(e->kind, q->kinds[i]);
	return kind && e->time_unix_ns >= q->q.since_unix_ns && (!q->q.pid || e->pid == q->q.pid) &&
	       (!*q->q.unit || hf_streq(e->unit, q->q.unit));
}

static int show(struct hf_ctl *c, struct query *q, const Bus__Event *e)
{
	if (q->follow && seen_before(q, e))
		return HF_CTL_OK;
	if (e->time_unix_ns > q->newest_ns)
		q->newest_ns = e->time_unix_ns;
	if (c->json)
		return hf_ctl_print_json(hf_event_json(e));
	if (q->follow)
		c->out.now_ns = hf_now_realtime_ns();
	hf_view_event(&c->out, e);
	return HF_CTL_OK;
}

static int show_all(struct hf_ctl *c, struct query *q, const Bus__Response *m)
{
	int r = HF_CTL_OK;

	if (m->what_case != BUS__RESPONSE__WHAT_EVENTS)
		return hf_ctl_fail_misfit(c, HF_CTL_AGENT);
	for (size_t i = 0; r == HF_CTL_OK && i < m->events->n_items; i++)
		r = show(c, q, m->events->items[i]);
	return r;
}

static int show_recent(struct hf_ctl *c, struct query *q)
{
	Bus__Request request = BUS__REQUEST__INIT;
	_cleanup_pb_ Bus__Response *m = NULL;
	int r;

	request.what_case = BUS__REQUEST__WHAT_EVENTS;
	request.events = &q->q;
	r = hf_ctl_ask_or_fail(c, HF_CTL_AGENT, &request, HF_CTL_DEADLINE_MS, &m);
	return r == HF_CTL_OK ? show_all(c, q, m) : r;
}

/* What was missed while the agent was away. Not complained about: it is tried again. */
static int catch_up(struct hf_ctl *c, struct query *q)
{
	Bus__Request request = BUS__REQUEST__INIT;
	Bus__EventsRequest what = q->q;
	_cleanup_pb_ Bus__Response *m = NULL;
	struct hf_ctl_problem p;

	what.since_unix_ns = q->resume_ns;
	what.limit = 0;
	request.what_case = BUS__REQUEST__WHAT_EVENTS;
	request.events = &what;
	if (hf_ctl_ask(c, HF_CTL_AGENT, &request, HF_CTL_DEADLINE_MS, &m, &p) < 0) {
		q->recheck_ns = hf_now_monotonic_ns() + RECHECK_NS;
		return HF_CTL_OK;
	}
	return show_all(c, q, m);
}

static int begin_catching_up(struct hf_ctl *c, struct query *q)
{
	uint64_t back_ns = q->newest_ns > DISORDER_NS ? q->newest_ns - DISORDER_NS : 0;

	q->resume_ns = back_ns > q->first_ns ? back_ns : q->first_ns;
	q->recheck_ns = hf_now_monotonic_ns() + RECHECK_NS;
	return catch_up(c, q);
}

static int follow(struct hf_ctl *c, struct query *q, struct hf_ctl_stream *s)
{
	const struct sigaction action = {.sa_handler = on_signal};
	int r = HF_CTL_OK;

	/* Ctrl-C is how one leaves: no error. */
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	while (!stop && r == HF_CTL_OK) {
		_cleanup_pb_ Bus__Event *e = NULL;
		/* Short, because nng's wait does not end at a signal. */
		int news = hf_ctl_stream_next(s, 200, &e);

		switch (news) {
		case HF_CTL_STREAM_EVENT:
			if (wanted(q, e))
				r = show(c, q, e);
			break;
		case HF_CTL_STREAM_QUIET:
			break;
		case HF_CTL_STREAM_GONE:
			(void)hf_ctl_fail(0, "events: the agent went away; waiting for it");
			break;
		case HF_CTL_STREAM_BACK:
			(void)hf_ctl_fail(0, "events: the agent is back");
			r = begin_catching_up(c, q);
			break;
		default:
			return hf_ctl_fail(HF_CTL_UNREACHABLE, "events: %s; try again",
					   strerror(-news));
		}
		if (r == HF_CTL_OK && q->recheck_ns && hf_now_monotonic_ns() >= q->recheck_ns) {
			q->recheck_ns = 0;
			r = catch_up(c, q);
		}
		if (fflush(stdout) != 0)
			return HF_CTL_BAD_NEWS; /* main() says why */
	}
	return r;
}

static int run(struct hf_ctl *c, struct query *q)
{
	_cleanup_(hf_ctl_stream_closep) struct hf_ctl_stream *stream = NULL;
	int r;

	q->q.kinds = (char **)q->kinds;
	q->q.n_kinds = q->n_kinds;
	if (q->follow) {
		struct hf_ctl_problem p;

		if (hf_ctl_stream_open(c, &stream, &p) < 0)
			return hf_ctl_fail(p.code, "%s: %s", c->verb, p.text);
		if (!q->q.limit && !q->q.since_unix_ns)
			q->q.limit = FOLLOW_FIRST;
	}
	q->first_ns = hf_now_realtime_ns();
	r = show_recent(c, q);
	if (q->newest_ns)
		q->first_ns = q->newest_ns;
	else
		q->newest_ns = q->first_ns;
	q->resume_ns = q->first_ns;
	q->recheck_ns = hf_now_monotonic_ns() + RECHECK_NS;
	return r == HF_CTL_OK && q->follow ? follow(c, q, stream) : r;
}

int hf_ctl_events(struct hf_ctl *c, int argc, char **argv)
{
	const char *pid = NULL, *unit = NULL, *since = NULL, *limit = NULL;
	_cleanup_free_ struct query *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return hf_ctl_fail(HF_CTL_BAD_NEWS,
				   "out of memory; try again when the host has some");
	const struct hf_ctl_option options[] = {
		{.name = "--follow", .flag = &q->follow},
		{.name = "-f", .flag = &q->follow},
		{.name = "--kind", .list = q->kinds, .list_n = &q->n_kinds, .list_max = KINDS_MAX},
		{.name = "--pid", .value = &pid},
		{.name = "--unit", .value = &unit},
		{.name = "--since", .value = &since},
		{.name = "--limit", .value = &limit},
	};

	bus__events_request__init(&q->q);
	r = hf_ctl_parse(c, argc, argv, USAGE, options, HF_ARRAY_SIZE(options), NULL, 0, NULL);
	if (r != 0)
		return r;
	if (pid && (hf_parse_u32(pid, &q->q.pid) < 0 || q->q.pid == 0))
		return hf_ctl_usage(USAGE, "events: --pid '%s' is no process id", pid);
	for (size_t i = 0; i < q->n_kinds; i++)
		if (!is_kind(q->kinds[i]))
			return hf_ctl_usage(USAGE, "events: there is no kind '%s'; see holdfast(1)",
					    q->kinds[i]);
	if (limit && (hf_parse_u32(limit, &q->q.limit) < 0 || q->q.limit == 0))
		return hf_ctl_usage(USAGE, "events: --limit '%s' is no number above 0", limit);
	if (since && hf_ctl_parse_since(since, hf_now_realtime_ns(), &q->q.since_unix_ns) < 0)
		return hf_ctl_usage(USAGE,
				    "events: --since '%s' is no point in time (try 2h, 14:03 "
				    "or 2026-01-31)",
				    since);
	if (unit)
		q->q.unit = (char *)unit;
	return run(c, q);
}
