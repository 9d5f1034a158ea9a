/* SPDX-License-Identifier: Apache-2.0 */
/* The answer of `holdfast status` and `holdfast component`: the answer first, then the proof. */
#include <stdarg.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/view.h"

#define DURATION_SIZE 32

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

/* A line is put together first, and made safe and wrapped as a whole. */
static void add(struct hf_buf *line, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct hf_buf *line, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (!text || hf_buf_append(line, text, strlen(text) + 1) < 0)
		hf_term_out_of_memory();
	line->len--; /* the NUL stays behind the text */
}

/* Prints and empties the line. */
static void put(const struct hf_term *t, const char *label, enum hf_term_style s,
		struct hf_buf *line)
{
	add(line, "%s", "");
	hf_term_fact(t, label, s, (const char *)line->data);
	hf_buf_done(line);
}

/* "● online     text": the answer, in one line. */
static void put_answer(const struct hf_term *t, const struct mark *m, const char *state,
		       const char *text)
{
	SAFE(shape, m->shape);
	SAFE(word, *state ? state : "unknown");
	SAFE(safe, text);
	size_t columns = hf_term_columns(word);

	(void)fprintf(t->f, "%s%s %s%*s%s ", hf_term_on(t, m->style), shape, word,
		      columns < 10 ? (int)(10 - columns) : 0, "", hf_term_off(t, m->style));
	hf_term_wrap(t, HF_TERM_PLAIN, safe, 3 + (columns < 10 ? 10 : columns), 14);
}

static void print_state(const struct hf_term *t, const Bus__AgentStatus *a)
{
	char since[HF_TERM_TIME_SIZE], lasted[DURATION_SIZE];
	struct hf_buf line = {};

	if (a->state_since_unix_ns) {
		uint64_t ns =
			t->now_ns > a->state_since_unix_ns ? t->now_ns - a->state_since_unix_ns : 0;

		hf_term_time(t, a->state_since_unix_ns, 0, since);
		duration_s(ns / HF_NS_PER_MS, lasted);
		add(&line, "since %s (%s)   ", since, lasted);
	}
	if (*a->endpoint)
		add(&line, "portal %s   ", a->endpoint);
	if (hf_streq(a->authorized, "pending"))
		add(&line, "not authorized yet: approve it in the portal");
	else if (!hf_streq(a->authorized, "unknown"))
		add(&line, "%s", a->authorized);
	add(&line, "%s", "");
	put_answer(t, mark_of(a->state), a->state, (const char *)line.data);
	hf_buf_done(&line);
	if (*a->state_detail && !hf_streq(a->state, "online"))
		hf_term_fact(t, "why", HF_TERM_PLAIN, a->state_detail);
	if (a->next_attempt_ms) {
		hf_format_duration(a->next_attempt_ms * HF_NS_PER_MS, lasted, sizeof(lasted));
		add(&line, "in %s", lasted);
		put(t, "next try", HF_TERM_PLAIN, &line);
	}
	if (hf_streq(a->state, "unenrolled"))
		hf_term_fact(t, "to do", HF_TERM_PLAIN, "holdfast enroll --portal URL --token -");
}

static void print_channel(const struct hf_term *t, const Bus__AgentStatus *a)
{
	const Bus__Session *s = a->session;
	const char *tls =
		hf_startswith(s->tls_version, "TLSv") ? s->tls_version + 4 : s->tls_version;
	char rtt[HF_TERM_DURATION_SIZE];
	struct hf_buf line = {};

	if (*tls)
		add(&line, "TLS %s%s, ", tls, s->tls_resumed ? " resumed" : "");
	if (a->tls_handshakes > 1)
		add(&line, "%llu of %llu handshakes resumed, ", (unsigned long long)a->tls_resumed,
		    (unsigned long long)a->tls_handshakes);
	add(&line, "%s → %s", s->local, s->peer);
	if (*s->proxy)
		add(&line, " by proxy %s", s->proxy);
	if (s->rtt_us) {
		hf_term_duration(s->rtt_us, rtt);
		add(&line, ", rtt %s", rtt);
	}
	add(&line, ", epoch %llu", (unsigned long long)s->epoch);
	/* Less is within what any two clocks differ. */
	if (s->clock_offset_ms > 2000 || s->clock_offset_ms < -2000)
		add(&line, ", clock %lld ms off the portal's", (long long)s->clock_offset_ms);
	put(t, "channel", HF_TERM_PLAIN, &line);
}

static void print_outage(const struct hf_term *t, const Bus__Outage *o)
{
	char when[HF_TERM_TIME_SIZE], lasted[HF_TERM_DURATION_SIZE];
	struct hf_buf line = {};

	hf_term_time(t, o->began_unix_ns ? o->began_unix_ns : o->detected_unix_ns, 0, when);
	hf_term_duration(o->outage_us, lasted);
	add(&line, "%s  %s  %s", when, o->restored_unix_ns ? lasted : "still out", o->cause);
	if (*o->detail)
		add(&line, ": %s", o->detail);
	if (*o->detected_by)
		add(&line, " (%s)", o->detected_by);
	put(t, "last outage", o->restored_unix_ns ? HF_TERM_PLAIN : HF_TERM_BAD, &line);
}

/* "11 of 12 programs (skb.drop off by configuration)" */
static void add_programs(struct hf_buf *line, Bus__Program *const *programs, size_t n)
{
	size_t attached = 0, named = 0;

	for (size_t i = 0; i < n; i++)
		attached += programs[i]->attached;
	if (n == 0)
		return;
	add(line, ", %zu of %zu programs", attached, n);
	for (size_t i = 0; i < n; i++)
		if (!programs[i]->attached)
			add(line, "%s%s: %s", named++ ? "; " : " (", programs[i]->name,
			    *programs[i]->reason ? programs[i]->reason : "off");
	if (named)
		add(line, ")");
}

static void print_kernel(const struct hf_term *t, const Bus__AgentStatus *a,
			 const Bus__WatchdogStatus *w)
{
	const Bus__Telemetry *tm = a->telemetry;
	char lost[HF_TERM_NUMBER_SIZE], generated[HF_TERM_NUMBER_SIZE];
	struct hf_buf line = {};

	add(&line, "%s", *a->kernel_assist ? a->kernel_assist : "unknown");
	if (tm && tm->n_programs)
		add_programs(&line, tm->programs, tm->n_programs);
	else if (w)
		add_programs(&line, w->programs, w->n_programs);
	if (tm) {
		hf_term_number(tm->lost, lost);
		hf_term_number(tm->generated, generated);
		add(&line, ", %s lost of %s events", lost, generated);
	}
	if (tm && tm->blind_ms) {
		char blind[DURATION_SIZE];

		hf_format_duration(tm->blind_ms * HF_NS_PER_MS, blind, sizeof(blind));
		add(&line, ", blind for %s", blind);
	}
	put(t, "kernel", tm && tm->lost ? HF_TERM_WARN : HF_TERM_PLAIN, &line);
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
static void add_restarts(struct hf_buf *line, const Bus__Component *c)
{
	char how[HF_VIEW_EXIT_SIZE], back[HF_TERM_DURATION_SIZE];

	if (!c->restarts && !c->last_exit)
		return;
	add(line, "   %llu restart%s", (unsigned long long)c->restarts, plural(c->restarts));
	if (!c->last_exit)
		return;
	hf_view_exit_text(c->last_exit, how);
	add(line, ": %s", how);
	if (c->last_exit->exit_to_exec_us) {
		hf_term_duration(c->last_exit->exit_to_exec_us, back);
		add(line, ", back in %s", back);
	}
}

void hf_view_component_line(const struct hf_term *t, const Bus__Component *c)
{
	bool good = hf_streq(c->state, "running");
	struct hf_buf line = {};

	add(&line, "%s  ", *c->version ? c->version : "-");
	if (c->pid)
		add(&line, "pid %u  ", c->pid);
	add(&line, " %s", good ? "healthy" : c->state);
	if (c->since_unix_ns && t->now_ns > c->since_unix_ns) {
		char since[DURATION_SIZE];

		duration_s((t->now_ns - c->since_unix_ns) / HF_NS_PER_MS, since);
		add(&line, " %s", since);
	}
	if (!good && *c->detail)
		add(&line, " (%s)", c->detail);
	add_restarts(&line, c);
	put(t, c->name, good ? HF_TERM_PLAIN : HF_TERM_BAD, &line);
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
	char up[DURATION_SIZE];
	struct hf_buf line = {};

	duration_s(a->uptime_ms, up);
	add(&line, "%s  pid %u   up %s", a->version, a->pid, up);
	put(t, "agent", HF_TERM_PLAIN, &line);
}

static void print_watchdog(const struct hf_term *t, const Bus__WatchdogStatus *w)
{
	struct hf_buf line = {};

	add(&line, "%s  pid %u", w->version, w->pid);
	if (*w->previous_version)
		add(&line, "   previous version %s kept", w->previous_version);
	put(t, "watchdog", HF_TERM_PLAIN, &line);
}

void hf_view_status(const struct hf_term *t, const Bus__AgentStatus *agent, const char *agent_error,
		    const Bus__WatchdogStatus *watchdog, const char *watchdog_error)
{
	if (agent) {
		print_state(t, agent);
		if (agent->session)
			print_channel(t, agent);
		if (agent->last_outage)
			print_outage(t, agent->last_outage);
		print_kernel(t, agent, watchdog);
		if (!find_component(watchdog, "agent"))
			print_agent_alone(t, agent);
	} else {
		put_answer(t, mark_of(""), "", agent_error);
	}
	for (size_t i = 0; watchdog && i < watchdog->n_components; i++)
		hf_view_component_line(t, watchdog->components[i]);
	for (size_t i = 0; watchdog && i < watchdog->n_releases; i++)
		hf_view_release_line(t, watchdog->releases[i]);
	if (watchdog)
		print_watchdog(t, watchdog);
	else
		hf_term_fact(t, "watchdog", HF_TERM_BAD, watchdog_error);
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
	struct hf_buf line = {};

	hf_view_component_line(t, c);
	if (*c->status_text)
		hf_term_fact(t, "says", HF_TERM_PLAIN, c->status_text);
	if (*c->detail)
		hf_term_fact(t, "why", HF_TERM_PLAIN, c->detail);
	if (c->rss_bytes) {
		add(&line, "%.1f MiB", (double)c->rss_bytes / (1 << 20));
		put(t, "memory", HF_TERM_PLAIN, &line);
	}
	if (*c->confinement)
		hf_term_fact(t, "confined", HF_TERM_PLAIN, c->confinement);
	if (c->last_exit) {
		char when[HF_TERM_TIME_SIZE];

		hf_term_time(t, c->last_exit->at_unix_ns, 3, when);
		add(&line, "%s  pid %u  %s", when, c->last_exit->pid, c->last_exit->text);
		put(t, "last exit", HF_TERM_PLAIN, &line);
	}
	/* Its last words, each line made safe for itself. */
	if (*c->last_stderr) {
		_cleanup_free_ char *copy = strdup(c->last_stderr);
		char *rest = copy, *one;

		while (copy && (one = strsep(&rest, "\n")))
			if (*one)
				hf_term_fact(t, "stderr", HF_TERM_PLAIN, one);
	}
}
