/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast top: who resets, drops, fails and dies, live. The agent counts; this asks it again and
 * again and shows the difference. Elsewhere than on a terminal: one answer, or as many as asked for.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/bus.h"
#include "tools/ctl/screen.h"
#include "tools/ctl/top.h"
#include "userspace/proto/frame.h"

#define USAGE                                                                                 \
	"top [--by process|unit|peer] [--sort COLUMN] [--window all|1m|last] [--interval S] " \
	"[--count N] [--limit N] [--json]"
#define INTERVAL_MAX_MS 3600000u
/* A minute of answers at the shortest interval that gets a finer window. */
#define HISTORY_MAX 64u
#define MINUTE_MS   60000u

struct view {
	enum hf_top_by by;
	enum hf_top_sort sort;
	enum hf_top_window window;
	uint64_t interval_ms;
	uint32_t count; /* 0: no end */
	uint32_t limit; /* rows; 0: all */
	bool held;
	/* The last answers, newest at [n - 1]; of a minute, thinned out. */
	Bus__Response *history[HISTORY_MAX];
	size_t n;
	char problem[512]; /* why the newest is not newer; "" */
};

static void forget(struct view *v, size_t i)
{
	bus__response__free_unpacked(v->history[i], NULL);
	memmove(&v->history[i], &v->history[i + 1], (v->n - i - 1) * sizeof(v->history[0]));
	v->n--;
}

static void view_done(struct view *v)
{
	while (v->n > 0)
		forget(v, v->n - 1);
}

/* Takes m over. */
static void remember(struct view *v, Bus__Response *m)
{
	if (v->n > 0 && v->history[v->n - 1]->top->instance != m->top->instance)
		view_done(v);
	/* What is older than a minute is needed no more, but for the youngest of them. */
	while (v->n > 1 && v->history[1]->top->uptime_ms + MINUTE_MS <= m->top->uptime_ms)
		forget(v, 0);
	/* Short intervals: every other one of the older half goes. */
	if (v->n == HISTORY_MAX)
		for (size_t i = 1; i < v->n / 2; i++)
			forget(v, i);
	v->history[v->n++] = m;
}

static const Bus__Top *newest(const struct view *v)
{
	return v->n ? v->history[v->n - 1]->top : NULL;
}

/* What the newest answer is compared with; NULL: the agent's start. */
static const Bus__Top *base_of(const struct view *v)
{
	switch (v->window) {
	case HF_TOP_MINUTE:
		return v->n > 1 ? v->history[0]->top : NULL;
	case HF_TOP_LAST:
		return v->n > 1 ? v->history[v->n - 2]->top : NULL;
	case HF_TOP_ALL:
	case _HF_TOP_WINDOW_MAX:
		break;
	}
	return NULL;
}

static int ask(struct hf_ctl *c, struct view *v, struct hf_ctl_problem *p)
{
	Bus__Request request = BUS__REQUEST__INIT;
	Bus__TopRequest what = BUS__TOP_REQUEST__INIT;
	Bus__Response *m = NULL;
	int r;

	request.what_case = BUS__REQUEST__WHAT_TOP;
	request.top = &what;
	r = hf_ctl_ask(c, HF_CTL_AGENT, &request, HF_CTL_DEADLINE_MS, &m, p);
	if (r < 0)
		return r;
	if (m->what_case != BUS__RESPONSE__WHAT_TOP) {
		bus__response__free_unpacked(m, NULL);
		p->code = HF_CTL_BAD_NEWS;
		(void)hf_strlcpy(p->text, "the agent's answer fits no question of ours",
				 sizeof(p->text));
		return -EBADMSG;
	}
	remember(v, m);
	return 0;
}

static void print_snapshot(const struct hf_term *t, const struct view *v, size_t max_rows)
{
	struct hf_top_rows rows;

	hf_top_diff(newest(v), base_of(v), v->by, v->sort, &rows);
	hf_view_top(t, newest(v), &rows, v->by, v->sort, max_rows);
	hf_top_rows_done(&rows);
}

/* ---- elsewhere than on a terminal ----------------------------------------------------------------- */

static void wait_until(uint64_t until_ns)
{
	const struct timespec ts = {
		.tv_sec = (time_t)(until_ns / HF_NS_PER_S),
		.tv_nsec = (long)(until_ns % HF_NS_PER_S),
	};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static int print_all(struct hf_ctl *c, struct view *v)
{
	uint64_t next_ns = hf_now_monotonic_ns();
	struct hf_ctl_problem p;

	for (uint32_t i = 0; v->count == 0 || i < v->count; i++) {
		if (i > 0) {
			next_ns += v->interval_ms * HF_NS_PER_MS;
			wait_until(next_ns);
		}
		if (ask(c, v, &p) < 0)
			return hf_ctl_fail(p.code, "%s: %s", c->verb, p.text);
		c->out.now_ns = hf_now_realtime_ns();
		if (c->json) {
			int r = hf_ctl_print_json(
				hf_top_json(newest(v), base_of(v), v->sort, v->limit));

			if (r != HF_CTL_OK)
				return r;
		} else {
			if (i > 0)
				(void)fputc('\n', c->out.f);
			print_snapshot(&c->out, v, v->limit);
		}
		if (fflush(c->out.f) != 0)
			return HF_CTL_BAD_NEWS; /* main() says why */
	}
	return HF_CTL_OK;
}

/* ---- live ------------------------------------------------------------------------------------------ */

static void draw(struct hf_ctl *c, const struct view *v)
{
	char footer[160], *text = NULL;
	struct hf_term t;
	unsigned rows;
	size_t len;

	hf_term_init(&c->out, c->out.f); /* it may have another size by now */
	t = c->out;
	t.f = open_memstream(&text, &len);
	if (!t.f)
		hf_term_out_of_memory();
	rows = hf_screen_rows(&c->out);
	if (newest(v))
		/* Title, sums, what is missing, blank, header above; footer below. */
		print_snapshot(&t, v, rows > 7 ? rows - 6 : 1);
	if (fclose(t.f) != 0)
		hf_term_out_of_memory();
	(void)hf_strf(footer, sizeof(footer),
		      "p process  u unit  e peer  s/S sort  w window: %s  space %s  q quit",
		      hf_top_window_name(v->window), v->held ? "go on" : "hold");
	if (*v->problem)
		(void)hf_strf(footer, sizeof(footer), "%.150s", v->problem);
	if (t.width)
		hf_term_truncate(footer, t.width - 1);
	hf_screen_draw(&c->out, text, footer);
	free(text);
}

/* False: leave. */
static bool on_key(struct view *v, int key)
{
	switch (key) {
	case 'q':
	case 'Q':
	case 3: /* Ctrl-C where the terminal sends no signal */
	case 4: /* Ctrl-D */
		return false;
	case 'p':
		v->by = HF_TOP_PROCESS;
		break;
	case 'u':
		v->by = HF_TOP_UNIT;
		break;
	case 'e':
		v->by = HF_TOP_PEER;
		break;
	case 's':
		v->sort = (v->sort + 1) % _HF_TOP_SORT_MAX;
		break;
	case 'S':
		v->sort = (v->sort + _HF_TOP_SORT_MAX - 1) % _HF_TOP_SORT_MAX;
		break;
	case 'w':
		v->window = (v->window + 1) % _HF_TOP_WINDOW_MAX;
		break;
	case ' ':
		v->held = !v->held;
		break;
	}
	return true;
}

static int show_live(struct hf_ctl *c, struct view *v)
{
	uint64_t next_ns = hf_now_monotonic_ns();
	uint32_t asked = 0;
	struct hf_ctl_problem p;
	bool go_on = true;
	int r;

	/* Before the screen changes: that nobody answers belongs on the screen one has. */
	r = ask(c, v, &p);
	if (r < 0)
		return hf_ctl_fail(p.code, "%s: %s", c->verb, p.text);
	hf_screen_open(&c->out);
	while (go_on && !hf_screen_ended()) {
		int key;

		draw(c, v);
		asked++;
		if (v->count && asked >= v->count)
			break;
		next_ns += v->interval_ms * HF_NS_PER_MS;
		if (next_ns < hf_now_monotonic_ns())
			next_ns = hf_now_monotonic_ns();
		while ((key = hf_screen_key(next_ns)) != HF_SCREEN_TIMEOUT) {
			go_on = key != HF_SCREEN_ENDED && (key < 0 || on_key(v, key));
			if (!go_on)
				break;
			draw(c, v);
		}
		if (go_on && !v->held) {
			v->problem[0] = '\0';
			if (ask(c, v, &p) < 0)
				(void)hf_strf(v->problem, sizeof(v->problem),
					      "%.400s; trying again", p.text);
		}
	}
	hf_screen_close();
	return HF_CTL_OK;
}

/* Seconds, with a fraction. */
static int parse_interval(const char *text, uint64_t *ret_ms)
{
	char *end;
	double s;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	s = strtod(text, &end);
	if (*end || !(s >= 0.1) || s * 1000 > INTERVAL_MAX_MS)
		return -EINVAL;
	*ret_ms = (uint64_t)(s * 1000 + 0.5);
	return 0;
}

int hf_ctl_top(struct hf_ctl *c, int argc, char **argv)
{
	const char *by = NULL, *sort = NULL, *window = NULL, *interval = NULL, *count = NULL,
		   *limit = NULL;
	struct view v = {.interval_ms = 2000};
	const struct hf_ctl_option options[] = {
		{.name = "--by", .value = &by},         {.name = "--sort", .value = &sort},
		{.name = "--window", .value = &window}, {.name = "--interval", .value = &interval},
		{.name = "--count", .value = &count},   {.name = "--limit", .value = &limit},
	};
	int r;

	r = hf_ctl_parse(c, argc, argv, USAGE, options, HF_ARRAY_SIZE(options), NULL, 0, NULL);
	if (r != 0)
		return r;
	if (by && hf_top_parse_by(by, &v.by) < 0)
		return hf_ctl_usage(USAGE, "top: --by '%s' is not one of process, unit, peer", by);
	if (sort && hf_top_parse_sort(sort, &v.sort) < 0)
		return hf_ctl_usage(USAGE, "top: --sort '%s' is no column; see holdfast(1)", sort);
	if (window && hf_top_parse_window(window, &v.window) < 0)
		return hf_ctl_usage(USAGE, "top: --window '%s' is not one of all, 1m, last",
				    window);
	if (interval && parse_interval(interval, &v.interval_ms) < 0)
		return hf_ctl_usage(USAGE,
				    "top: --interval '%s' is no number of seconds from 0.1 "
				    "to 3600",
				    interval);
	if (count && (hf_parse_u32(count, &v.count) < 0 || v.count == 0))
		return hf_ctl_usage(USAGE, "top: --count '%s' is no number above 0", count);
	if (limit && (hf_parse_u32(limit, &v.limit) < 0 || v.limit == 0))
		return hf_ctl_usage(USAGE, "top: --limit '%s' is no number above 0", limit);
	/* Where nobody watches: what happened since the start, once; with an interval, what
	 * happened in each. */
	if (!c->out.tty || c->json) {
		if (!count && !interval)
			v.count = 1;
		if (!window && (v.count != 1))
			v.window = HF_TOP_LAST;
		r = print_all(c, &v);
	} else {
		r = show_live(c, &v);
	}
	view_done(&v);
	return r;
}
