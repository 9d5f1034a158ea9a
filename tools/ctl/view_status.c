/* SPDX-License-Identifier: Apache-2.0 */
/* The answer of `holdfast status` and `holdfast component`: the answer first, then the proof. */
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/view.h"

#define DURATION_SIZE 32
#define LABEL_WIDTH   "11"

/* Each state has a shape as well as a colour. */
static const struct mark {
	const char *state, *shape;
	enum hf_term_style style;
} marks[] = {
	{"online", "●", HF_TERM_GOOD},     {"suspect", "◐", HF_TERM_WARN},
	{"connecting", "◌", HF_TERM_WARN}, {"enrolling", "◌", HF_TERM_WARN},
	{"backoff", "◌", HF_TERM_BAD},     {"held", "◌", HF_TERM_WARN},
	{"pending", "△", HF_TERM_WARN},    {"unenrolled", "○", HF_TERM_WARN},
	{"revoked", "✕", HF_TERM_BAD},     {"clock_bad", "■", HF_TERM_BAD},
	{"stopped", "□", HF_TERM_WARN},
};

static const struct mark *mark_of(const char *state)
{
	static const struct mark unknown = {"", "■", HF_TERM_BAD};

	for (size_t i = 0; i < HF_ARRAY_SIZE(marks); i++)
		if (hf_streq(marks[i].state, state))
			return &marks[i];
	return &unknown;
}

static void duration_s(uint64_t ms, char dst[static DURATION_SIZE])
{
	/* "2 h 12 min" is enough for how long something has been so. */
	hf_format_duration((ms >= 1000 ? ms / 1000 * 1000 : ms) * HF_NS_PER_MS, dst, DURATION_SIZE);
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* A daemon's text, made safe; lives until the end of the block. */
#define SAFE(name, text) _cleanup_free_ char *name = hf_term_safe(text)

static void label(const struct hf_term *t, const char *name)
{
	(void)fprintf(t->f, "  %s%-" LABEL_WIDTH "s%s ", hf_term_on(t, HF_TERM_DIM), name,
		      hf_term_off(t, HF_TERM_DIM));
}

static void print_state(const struct hf_term *t, const Bus__AgentStatus *a)
{
	const struct mark *m = mark_of(a->state);
	SAFE(state, *a->state ? a->state : "unknown");
	SAFE(endpoint, a->endpoint);
	SAFE(authorized, a->authorized);
	SAFE(detail, a->state_detail);
	char since[HF_TERM_TIME_SIZE], lasted[DURATION_SIZE];

	(void)fprintf(t->f, "%s%s %-10s%s ", hf_term_on(t, m->style), m->shape, state,
		      hf_term_off(t, m->style));
	if (a->state_since_unix_ns) {
		uint64_t ns =
			t->now_ns > a->state_since_unix_ns ? t->now_ns - a->state_since_unix_ns : 0;

		hf_term_time(t, a->state_since_unix_ns, 0, since);
		duration_s(ns / HF_NS_PER_MS, lasted);
		(void)fprintf(t->f, "since %s (%s)", since, lasted);
	}
	if (*endpoint)
		(void)fprintf(t->f, "   portal %s", endpoint);
	if (hf_streq(a->authorized, "pending"))
		(void)fprintf(t->f, "   not authorized yet: approve it in the portal");
	else if (*authorized && !hf_streq(authorized, "unknown"))
		(void)fprintf(t->f, "   %s", authorized);
	(void)fputc('\n', t->f);
	if (*detail && !hf_streq(a->state, "online")) {
		label(t, "why");
		(void)fprintf(t->f, "%s\n", detail);
	}
	if (a->next_attempt_ms) {
		hf_format_duration(a->next_attempt_ms * HF_NS_PER_MS, lasted, sizeof(lasted));
		label(t, "next try");
		(void)fprintf(t->f, "in %s\n", lasted);
	}
	if (hf_streq(a->state, "unenrolled")) {
		label(t, "to do");
		(void)fprintf(t->f, "holdfast enroll --portal URL --token -\n");
	}
}

static void print_channel(const struct hf_term *t, const Bus__Session *s)
{
	SAFE(tls, hf_startswith(s->tls_version, "TLSv") ? s->tls_version + 4 : s->tls_version);
	SAFE(local, s->local);
	SAFE(peer, s->peer);
	SAFE(proxy, s->proxy);
	char rtt[DURATION_SIZE];

	label(t, "channel");
	if (*tls)
		(void)fprintf(t->f, "TLS %s%s, ", tls, s->tls_resumed ? " resumed" : "");
	(void)fprintf(t->f, "%s → %s", local, peer);
	if (*proxy)
		(void)fprintf(t->f, " by proxy %s", proxy);
	if (s->rtt_us) {
		hf_format_duration(s->rtt_us * HF_NS_PER_US, rtt, sizeof(rtt));
		(void)fprintf(t->f, ", rtt %s", rtt);
	}
	(void)fprintf(t->f, ", epoch %llu", (unsigned long long)s->epoch);
	/* Less is within what any two clocks differ. */
	if (s->clock_offset_ms > 2000 || s->clock_offset_ms < -2000)
		(void)fprintf(t->f, ", clock %lld ms off the portal's",
			      (long long)s->clock_offset_ms);
	(void)fputc('\n', t->f);
}

static void print_outage(const struct hf_term *t, const Bus__Outage *o)
{
	SAFE(cause, o->cause);
	SAFE(detail, o->detail);
	SAFE(by, o->detected_by);
	char when[HF_TERM_TIME_SIZE], lasted[DURATION_SIZE];

	hf_term_time(t, o->began_unix_ns ? o->began_unix_ns : o->detected_unix_ns, 0, when);
	hf_format_duration(o->outage_us * HF_NS_PER_US, lasted, sizeof(lasted));
	label(t, "last outage");
	(void)fprintf(t->f, "%s  %s  %s", when, o->restored_unix_ns ? lasted : "still out", cause);
	if (*detail)
		(void)fprintf(t->f, ": %s", detail);
	if (*by)
		(void)fprintf(t->f, " (%s)", by);
	(void)fputc('\n', t->f);
}

/* "11 of 12 programs (skb.drop off by configuration)" */
static void print_programs(const struct hf_term *t, Bus__Program *const *programs, size_t n)
{
	size_t attached = 0, named = 0;

	for (size_t i = 0; i < n; i++)
		attached += programs[i]->attached;
	if (n == 0)
		return;
	(void)fprintf(t->f, ", %zu of %zu programs", attached, n);
	for (size_t i = 0; i < n; i++) {
		SAFE(name, programs[i]->name);
		SAFE(reason, *programs[i]->reason ? programs[i]->reason : "off");

		if (!programs[i]->attached)
			(void)fprintf(t->f, "%s%s: %s", named++ ? "; " : " (", name, reason);
	}
	if (named)
		(void)fputc(')', t->f);
}

static void print_kernel(const struct hf_term *t, const Bus__AgentStatus *a,
			 const Bus__WatchdogStatus *w)
{
	const Bus__Telemetry *tm = a->telemetry;
	SAFE(assist, *a->kernel_assist ? a->kernel_assist : "unknown");
	char lost[HF_TERM_NUMBER_SIZE], generated[HF_TERM_NUMBER_SIZE];

	label(t, "kernel");
	(void)fprintf(t->f, "%s", assist);
	if (tm && tm->n_programs)
		print_programs(t, tm->programs, tm->n_programs);
	else if (w)
		print_programs(t, w->programs, w->n_programs);
	if (tm) {
		enum hf_term_style s = tm->lost ? HF_TERM_WARN : HF_TERM_PLAIN;

		hf_term_number(tm->lost, lost);
		hf_term_number(tm->generated, generated);
		(void)fprintf(t->f, ", %s%s lost of %s events%s", hf_term_on(t, s), lost, generated,
			      hf_term_off(t, s));
		if (tm->blind_ms) {
			char blind[DURATION_SIZE];

			hf_format_duration(tm->blind_ms * HF_NS_PER_MS, blind, sizeof(blind));
			(void)fprintf(t->f, ", blind for %s", blind);
		}
	}
	(void)fputc('\n', t->f);
}

static const char *signal_name(int sig, char *dst, size_t size)
{
	const char *abbrev = sigabbrev_np(sig);

	if (abbrev)
		(void)hf_strf(dst, size, "SIG%s", abbrev);
	else
		(void)hf_strf(dst, size, "signal %d", sig);
	return dst;
}

void hf_view_exit_text(const Bus__ExitRecord *x, char dst[static HF_VIEW_EXIT_SIZE])
{
	SAFE(cause, x->cause);
	SAFE(comm, x->by_comm);
	char sig[32];

	if (hf_streq(x->cause, "oom"))
		(void)hf_strlcpy(dst, "out of memory", HF_VIEW_EXIT_SIZE);
	else if (hf_streq(x->cause, "hung") || hf_streq(x->cause, "limit") ||
		 hf_streq(x->cause, "stopped_by_request"))
		(void)hf_strlcpy(dst,
				 hf_streq(x->cause, "hung") ? "hung, killed by the watchdog"
				 : hf_streq(x->cause, "limit")
					 ? "over its limit, killed by the watchdog"
					 : "stopped by request",
				 HF_VIEW_EXIT_SIZE);
	else if (x->signal && x->by_pid)
		(void)hf_strf(dst, HF_VIEW_EXIT_SIZE, "%s from pid %u '%s' (uid %u)",
			      signal_name(x->signal, sig, sizeof(sig)), x->by_pid, comm, x->by_uid);
	else if (x->signal)
		(void)hf_strf(dst, HF_VIEW_EXIT_SIZE, "%s%s",
			      signal_name(x->signal, sig, sizeof(sig)), x->core ? ", core" : "");
	else if (hf_streq(x->cause, "exited"))
		(void)hf_strf(dst, HF_VIEW_EXIT_SIZE, "exit code %d", x->code);
	else
		(void)hf_strlcpy(dst, *cause ? cause : "unknown", HF_VIEW_EXIT_SIZE);
}

/* "1 restart: SIGKILL from pid 77 'kill' (uid 0), back in 3 ms" */
static void print_restarts(const struct hf_term *t, const Bus__Component *c)
{
	char how[HF_VIEW_EXIT_SIZE], back[DURATION_SIZE];

	if (!c->restarts && !c->last_exit)
		return;
	(void)fprintf(t->f, "   %llu restart%s", (unsigned long long)c->restarts,
		      plural(c->restarts));
	if (!c->last_exit)
		return;
	hf_view_exit_text(c->last_exit, how);
	(void)fprintf(t->f, ": %s", how);
	if (c->last_exit->exit_to_exec_us) {
		hf_format_duration(c->last_exit->exit_to_exec_us * HF_NS_PER_US, back,
				   sizeof(back));
		(void)fprintf(t->f, ", back in %s", back);
	}
}

static void print_component(const struct hf_term *t, const Bus__Component *c)
{
	SAFE(name, c->name);
	SAFE(version, *c->version ? c->version : "-");
	SAFE(state, hf_streq(c->state, "running") ? "healthy" : c->state);
	SAFE(detail, c->detail);
	bool good = hf_streq(c->state, "running");
	enum hf_term_style s = good ? HF_TERM_PLAIN : HF_TERM_BAD;

	label(t, name);
	(void)fprintf(t->f, "%s  ", version);
	if (c->pid)
		(void)fprintf(t->f, "pid %u  ", c->pid);
	(void)fprintf(t->f, " %s%s%s", hf_term_on(t, s), state, hf_term_off(t, s));
	if (c->since_unix_ns && t->now_ns > c->since_unix_ns) {
		char since[DURATION_SIZE];

		duration_s((t->now_ns - c->since_unix_ns) / HF_NS_PER_MS, since);
		(void)fprintf(t->f, " %s", since);
	}
	if (!good && *detail)
		(void)fprintf(t->f, " (%s)", detail);
	print_restarts(t, c);
	(void)fputc('\n', t->f);
}

static const Bus__Component *find_component(const Bus__WatchdogStatus *w, const char *name)
{
	for (size_t i = 0; w && i < w->n_components; i++)
		if (hf_streq(w->components[i]->name, name))
			return w->components[i];
	return NULL;
}

/* Without a watchdog, what the agent says of itself. */
static void print_agent_alone(const struct hf_term *t, const Bus__AgentStatus *a)
{
	SAFE(version, a->version);
	char up[DURATION_SIZE];

	duration_s(a->uptime_ms, up);
	label(t, "agent");
	(void)fprintf(t->f, "%s  pid %u   up %s\n", version, a->pid, up);
}

static void print_watchdog(const struct hf_term *t, const Bus__WatchdogStatus *w)
{
	SAFE(version, w->version);
	SAFE(previous, w->previous_version);

	label(t, "watchdog");
	(void)fprintf(t->f, "%s  pid %u", version, w->pid);
	if (*previous)
		(void)fprintf(t->f, "   previous version %s kept", previous);
	(void)fputc('\n', t->f);
}

void hf_view_status(const struct hf_term *t, const Bus__AgentStatus *agent, const char *agent_error,
		    const Bus__WatchdogStatus *watchdog, const char *watchdog_error)
{
	if (agent) {
		print_state(t, agent);
		if (agent->session)
			print_channel(t, agent->session);
		if (agent->last_outage)
			print_outage(t, agent->last_outage);
		print_kernel(t, agent, watchdog);
		if (!find_component(watchdog, "agent"))
			print_agent_alone(t, agent);
	} else {
		SAFE(why, agent_error);

		(void)fprintf(t->f, "%s■ %-10s%s %s\n", hf_term_on(t, HF_TERM_BAD), "unknown",
			      hf_term_off(t, HF_TERM_BAD), why);
	}
	for (size_t i = 0; watchdog && i < watchdog->n_components; i++)
		print_component(t, watchdog->components[i]);
	if (watchdog) {
		print_watchdog(t, watchdog);
	} else {
		SAFE(why, watchdog_error);

		label(t, "watchdog");
		(void)fprintf(t->f, "%s%s%s\n", hf_term_on(t, HF_TERM_BAD), why,
			      hf_term_off(t, HF_TERM_BAD));
	}
}

void hf_view_components(const struct hf_term *t, Bus__Component *const *items, size_t n)
{
	static const char *const headers[] = {"NAME",    "STATE",    "SINCE",    "PID",
					      "VERSION", "RESTARTS", "LAST EXIT"};
	struct hf_term_table table;

	hf_term_table_init(&table, HF_ARRAY_SIZE(headers), headers);
	for (size_t i = 0; i < n; i++) {
		const Bus__Component *c = items[i];
		char since[HF_TERM_TIME_SIZE], how[HF_VIEW_EXIT_SIZE] = "";
		bool good = hf_streq(c->state, "running");

		hf_term_time(t, c->since_unix_ns, 0, since);
		if (c->last_exit)
			hf_view_exit_text(c->last_exit, how);
		hf_term_table_row(&table);
		hf_term_table_cell(&table, 0, HF_TERM_BOLD, "%s", c->name);
		hf_term_table_cell(&table, 1, good ? HF_TERM_GOOD : HF_TERM_WARN, "%s", c->state);
		hf_term_table_cell(&table, 2, HF_TERM_PLAIN, "%s", since);
		if (c->pid)
			hf_term_table_cell(&table, 3, HF_TERM_PLAIN, "%u", c->pid);
		else
			hf_term_table_cell(&table, 3, HF_TERM_PLAIN, "-");
		hf_term_table_cell(&table, 4, HF_TERM_PLAIN, "%s", *c->version ? c->version : "-");
		hf_term_table_cell(&table, 5, HF_TERM_PLAIN, "%llu",
				   (unsigned long long)c->restarts);
		hf_term_table_cell(&table, 6, HF_TERM_PLAIN, "%s", *how ? how : "-");
	}
	hf_term_table_print(&table, t);
	hf_term_table_done(&table);
}

void hf_view_component(const struct hf_term *t, const Bus__Component *c)
{
	SAFE(text, c->status_text);
	SAFE(detail, c->detail);
	char when[HF_TERM_TIME_SIZE];

	print_component(t, c);
	if (*text) {
		label(t, "says");
		(void)fprintf(t->f, "%s\n", text);
	}
	if (*detail) {
		label(t, "why");
		(void)fprintf(t->f, "%s\n", detail);
	}
	if (c->rss_bytes) {
		label(t, "memory");
		(void)fprintf(t->f, "%.1f MiB\n", (double)c->rss_bytes / (1 << 20));
	}
	if (c->last_exit) {
		SAFE(sentence, c->last_exit->text);

		hf_term_time(t, c->last_exit->at_unix_ns, 3, when);
		label(t, "last exit");
		(void)fprintf(t->f, "%s  pid %u  %s\n", when, c->last_exit->pid, sentence);
	}
	/* Its last words, each line made safe for itself. */
	if (c->last_stderr && *c->last_stderr) {
		_cleanup_free_ char *copy = strdup(c->last_stderr);
		char *rest = copy, *line;

		while (copy && (line = strsep(&rest, "\n"))) {
			SAFE(safe, line);

			if (!*safe)
				continue;
			label(t, "stderr");
			(void)fprintf(t->f, "%s\n", safe);
		}
	}
}
