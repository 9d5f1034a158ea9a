/* SPDX-License-Identifier: Apache-2.0 */
/* Golden copies of what people see. */
#include "selftests/unit/test_util.h"

#include <time.h>

#include "base/clock.h"
#include "tools/ctl/ctl.h"
#include "tools/ctl/view.h"

#define S(text) ((char *)(text))
/* 2026-01-02T14:03:11.207Z */
#define LOST_AT (UINT64_C(1767362591207) * 1000000)
#define HOUR_NS (3600 * HF_NS_PER_S)

static char *text;
static size_t text_len;

static struct hf_term begin(void)
{
	struct hf_term t = {.now_ns = LOST_AT + 2 * HOUR_NS + 720 * HF_NS_PER_S};

	text = NULL;
	t.f = open_memstream(&text, &text_len);
	assert_non_null(t.f);
	return t;
}

static void end(const struct hf_term *t, const char *want)
{
	assert_int_equal(fclose(t->f), 0);
	assert_string_equal(text, want);
	free(text);
}

struct sample {
	Bus__AgentStatus a;
	Bus__Session s;
	Bus__Outage o;
	Bus__Telemetry t;
	Bus__Program programs[3], *programp[3];
	Bus__WatchdogStatus w;
	Bus__Component c, *cp;
	Bus__ExitRecord x;
};

static void make_sample(struct sample *m)
{
	bus__agent_status__init(&m->a);
	bus__session__init(&m->s);
	bus__outage__init(&m->o);
	bus__telemetry__init(&m->t);
	bus__watchdog_status__init(&m->w);
	bus__component__init(&m->c);
	bus__exit_record__init(&m->x);
	for (size_t i = 0; i < 3; i++) {
		bus__program__init(&m->programs[i]);
		m->programs[i].name = S(i == 2 ? "skb_drop" : "tcp");
		m->programs[i].attached = i != 2;
		m->programp[i] = &m->programs[i];
	}
	m->programs[2].reason = S("off by configuration");
	m->a.pid = 812;
	m->a.version = S("1.4.2");
	m->a.state = S("online");
	m->a.authorized = S("authorized");
	m->a.endpoint = S("https://portal.example:443");
	m->a.kernel_assist = S("ebpf");
	m->a.state_since_unix_ns = LOST_AT;
	m->a.session = &m->s;
	m->a.last_outage = &m->o;
	m->a.telemetry = &m->t;
	m->s.tls_version = S("TLSv1.3");
	m->s.tls_resumed = true;
	m->s.local = S("10.0.0.5:51822");
	m->s.peer = S("192.0.2.10:443");
	m->s.rtt_us = 800;
	m->s.epoch = 41;
	m->o.began_unix_ns = LOST_AT;
	m->o.restored_unix_ns = LOST_AT + 4 * HF_NS_PER_MS;
	m->o.outage_us = 4000;
	m->o.detect_us = 300;
	m->o.cause = S("peer_reset");
	m->o.detected_by = S("kernel");
	m->o.detail = S("reset from 192.0.2.10, 312 bytes unacknowledged");
	m->t.generated = 18204;
	m->t.programs = m->programp;
	m->t.n_programs = 3;
	m->w.pid = 790;
	m->w.version = S("1.4.2");
	m->w.previous_version = S("1.4.1");
	m->cp = &m->c;
	m->w.components = &m->cp;
	m->w.n_components = 1;
	m->c.name = S("agent");
	m->c.version = S("1.4.2");
	m->c.pid = 812;
	m->c.state = S("running");
	m->c.since_unix_ns = LOST_AT;
	m->c.restarts = 1;
	m->c.last_exit = &m->x;
	m->x.cause = S("killed_by_operator");
	m->x.signal = 9;
	m->x.by_pid = 77;
	m->x.by_comm = S("kill");
	m->x.exit_to_exec_us = 3000;
}

static void status_of_a_healthy_host(void **state)
{
	struct hf_term t = begin();
	struct sample m;

	(void)state;
	make_sample(&m);
	hf_view_status(&t, &m.a, NULL, &m.w, NULL);
	end(&t,
	    "● online     since 14:03:11 (2 h 12 min)   portal https://portal.example:443   authorized\n"
	    "  channel     TLS 1.3 resumed, 10.0.0.5:51822 → 192.0.2.10:443, rtt 0.8 ms, epoch 41\n"
	    "  last outage 14:03:11  4 ms  peer_reset: reset from 192.0.2.10, 312 bytes unacknowledged (kernel)\n"
	    "  kernel      ebpf, 2 of 3 programs (skb_drop: off by configuration), 0 lost of 18 204 events\n"
	    "  agent       1.4.2  pid 812   healthy 2 h 12 min   1 restart: SIGKILL from pid 77 'kill' (uid 0), back in 3 ms\n"
	    "  watchdog    1.4.2  pid 790   previous version 1.4.1 kept\n");
}

static void status_in_backoff_says_why_and_when_next(void **state)
{
	struct hf_term t = begin();
	struct sample m;

	(void)state;
	make_sample(&m);
	m.a.state = S("backoff");
	m.a.state_detail = S("portal_unreachable: nothing listens at 192.0.2.10:443");
	m.a.next_attempt_ms = 3200;
	m.a.session = NULL;
	m.o.restored_unix_ns = 0;
	m.t.lost = 12;
	m.c.last_exit = NULL;
	m.c.restarts = 0;
	hf_view_status(&t, &m.a, NULL, &m.w, NULL);
	end(&t,
	    "◌ backoff    since 14:03:11 (2 h 12 min)   portal https://portal.example:443   authorized\n"
	    "  why         portal_unreachable: nothing listens at 192.0.2.10:443\n"
	    "  next try    in 3.2 s\n"
	    "  last outage 14:03:11  still out  peer_reset: reset from 192.0.2.10, 312 bytes unacknowledged (kernel)\n"
	    "  kernel      ebpf, 2 of 3 programs (skb_drop: off by configuration), 12 lost of 18 204 events\n"
	    "  agent       1.4.2  pid 812   healthy 2 h 12 min\n"
	    "  watchdog    1.4.2  pid 790   previous version 1.4.1 kept\n");
}

static void status_of_a_new_host_says_what_to_do(void **state)
{
	Bus__AgentStatus a = BUS__AGENT_STATUS__INIT;
	struct hf_term t = begin();

	(void)state;
	a.state = S("unenrolled");
	a.version = S("1.4.2");
	a.pid = 5;
	a.kernel_assist = S("off");
	a.uptime_ms = 61000;
	hf_view_status(&t, &a, NULL, NULL, "watchdog: not running");
	end(&t, "○ unenrolled \n"
		"  to do       holdfast enroll --portal URL --token -\n"
		"  kernel      off\n"
		"  agent       1.4.2  pid 5   up 1 min 1 s\n"
		"  watchdog    watchdog: not running\n");
}

static void status_without_an_agent_shows_the_watchdogs_word(void **state)
{
	struct hf_term t = begin();
	struct sample m;

	(void)state;
	make_sample(&m);
	m.c.state = S("backoff");
	m.c.detail = S("crashed 5 times");
	m.c.pid = 0;
	m.c.since_unix_ns = 0;
	m.c.restarts = 5;
	m.x.signal = 11;
	m.x.by_pid = 0;
	m.x.core = true;
	m.x.cause = S("crashed");
	m.x.exit_to_exec_us = 0;
	hf_view_status(&t, NULL, "agent: not running", &m.w, NULL);
	end(&t, "■ unknown    agent: not running\n"
		"  agent       1.4.2   backoff (crashed 5 times)   5 restarts: SIGSEGV, core\n"
		"  watchdog    1.4.2  pid 790   previous version 1.4.1 kept\n");
}

static void outages_are_a_table(void **state)
{
	Bus__Outage a = BUS__OUTAGE__INIT, b = BUS__OUTAGE__INIT, *items[] = {&a, &b};
	struct hf_term t = begin();

	(void)state;
	a.began_unix_ns = LOST_AT;
	a.restored_unix_ns = 1;
	a.outage_us = 4000;
	a.detect_us = 300;
	a.cause = S("peer_reset");
	a.detected_by = S("kernel");
	a.detail = S("reset from 192.0.2.10");
	b.detected_unix_ns = LOST_AT - 24 * HOUR_NS;
	b.detect_us = 700000;
	b.cause = S("blackhole");
	b.detected_by = S("kernel");
	b.detail = S("2 retransmits unanswered");
	b.telemetry_gap = S("12 events");
	hf_view_outages(&t, items, 2);
	hf_view_outages(&t, NULL, 0);
	end(&t,
	    "WHEN                     LASTED     CAUSE       SEEN BY  NOTICED  DETAIL\n"
	    "14:03:11.207             4 ms       peer_reset  kernel   0.3 ms   reset from 192.0.2.10\n"
	    "2026-01-01 14:03:11.207  still out  blackhole   kernel   700 ms   2 retransmits unanswered; telemetry lost: 12 events\n");
}

static void an_event_is_one_line(void **state)
{
	Bus__Event e = BUS__EVENT__INIT, x = BUS__EVENT__INIT, loss = BUS__EVENT__INIT;
	struct hf_term t = begin();

	(void)state;
	e.time_unix_ns = LOST_AT;
	e.kind = S("conn.reset_sent");
	e.pid = 812;
	e.comm = S("nginx");
	e.owner_src = S("accept");
	e.local = S("10.0.0.5:443");
	e.peer = S("203.0.113.7:40112");
	e.reason = S("TCP_CLOSE");
	e.detail = S("closed with 1204 bytes unread");
	e.unit = S("nginx.service");
	x.time_unix_ns = LOST_AT;
	x.kind = S("proc.exit");
	x.pid = 4410;
	x.comm = S("wor\033[2Jker");
	x.reason = S("SIGKILL");
	x.detail = S("SIGKILL from oom");
	x.because = S("pid 1 said so");
	loss.time_unix_ns = LOST_AT;
	loss.kind = S("telemetry.loss");
	loss.detail = S("3 events lost");
	hf_view_event(&t, &e);
	hf_view_event(&t, &x);
	hf_view_event(&t, &loss);
	end(&t,
	    "14:03:11.207  conn.reset_sent      nginx[812]              10.0.0.5:443 ← 203.0.113.7:40112      TCP_CLOSE: closed with 1204 bytes unread  nginx.service\n"
	    "14:03:11.207  proc.exit            wor?[2Jker[4410]        SIGKILL from oom, because pid 1 said so\n"
	    "14:03:11.207  telemetry.loss       -                       3 events lost\n");
}

static void an_event_is_cut_to_the_terminal_but_keeps_its_unit(void **state)
{
	Bus__Event x = BUS__EVENT__INIT;
	struct hf_term t = begin();

	(void)state;
	t.width = 100;
	x.time_unix_ns = LOST_AT;
	x.kind = S("proc.exit");
	x.pid = 4410;
	x.comm = S("worker");
	x.detail = S("a sentence that is much too long for this terminal");
	x.unit = S("app.service");
	hf_view_event(&t, &x);
	assert_int_equal(fflush(t.f), 0);
	assert_int_equal(hf_term_columns(text), 100 + 1);
	end(&t,
	    "14:03:11.207  proc.exit            worker[4410]            a sentence that is much too…  app.service\n");
}

static void a_joined_cause_is_never_cut(void **state)
{
	Bus__Event e = BUS__EVENT__INIT;
	struct hf_term t = begin();

	(void)state;
	t.width = 150;
	e.time_unix_ns = LOST_AT;
	e.kind = S("conn.reset_sent");
	e.pid = 812;
	e.comm = S("nginx");
	e.detail = S("closed with 1204 bytes unread after 3 min");
	e.because = S("pid 812 nginx was SIGKILLed by pid 77 3 ms before");
	hf_view_event(&t, &e);
	assert_int_equal(fflush(t.f), 0);
	assert_int_equal(hf_term_columns(text), 150 + 1);
	end(&t, "14:03:11.207  conn.reset_sent      nginx[812]              closed with 1204 bytes "
		"unread a…, because pid 812 nginx was SIGKILLed by pid 77 3 ms before\n");
}

static void every_way_to_end_has_words(void **state)
{
	static const struct {
		const char *cause;
		int code, signal;
		unsigned by_pid;
		const char *want;
	} cases[] = {
		{"exited", 3, 0, 0, "exit code 3"},
		{"signalled", -1, 15, 0, "SIGTERM"},
		{"killed_by_operator", -1, 9, 77, "SIGKILL from pid 77 'kill' (uid 0)"},
		{"oom", -1, 9, 0, "out of memory"},
		{"crashed", -1, 11, 0, "SIGSEGV"},
		{"hung", -1, 9, 1, "hung, killed by the watchdog"},
		{"limit", -1, 9, 1, "over its limit, killed by the watchdog"},
		{"stopped_by_request", 0, 0, 0, "stopped by request"},
		{"unknown", 0, 0, 0, "unknown"},
		{"", 0, 0, 0, "unknown"},
		{"signalled", -1, 63, 0, "signal 63"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		Bus__ExitRecord x = BUS__EXIT_RECORD__INIT;
		char s[HF_VIEW_EXIT_SIZE];

		x.cause = S(cases[i].cause);
		x.code = cases[i].code;
		x.signal = cases[i].signal;
		x.by_pid = cases[i].by_pid;
		x.by_comm = S("kill");
		hf_view_exit_text(&x, s);
		assert_string_equal(s, cases[i].want);
	}
}

static void components_are_a_table(void **state)
{
	struct hf_term t = begin();
	struct sample m;

	(void)state;
	make_sample(&m);
	hf_view_components(&t, &m.cp, 1);
	end(&t,
	    "NAME   STATE    SINCE     PID  VERSION  RESTARTS  LAST EXIT\n"
	    "agent  running  14:03:11  812  1.4.2    1         SIGKILL from pid 77 'kill' (uid 0)\n");
}

static void a_component_shows_its_last_words(void **state)
{
	struct hf_term t = begin();
	struct sample m;

	(void)state;
	make_sample(&m);
	m.c.state = S("backoff");
	m.c.detail = S("starts again in 2 s");
	m.c.pid = 0;
	m.c.rss_bytes = 3 << 19;
	m.c.last_stderr = S("assertion failed\n\033[31mgoodbye\n");
	m.x.pid = 812;
	m.x.at_unix_ns = LOST_AT;
	m.x.text = S("killed by SIGKILL");
	hf_view_component(&t, &m.c);
	end(&t,
	    "  agent       1.4.2   backoff 2 h 12 min (starts again in 2 s)   1 restart: SIGKILL from pid 77 'kill' (uid 0), back in 3 ms\n"
	    "  why         starts again in 2 s\n"
	    "  memory      1.5 MiB\n"
	    "  last exit   14:03:11.207  pid 812  killed by SIGKILL\n"
	    "  stderr      assertion failed\n"
	    "  stderr      ?[31mgoodbye\n");
}

static void a_request_for_a_component_has_an_end(void **state)
{
	static const struct {
		Bus__ComponentRequest__Verb verb;
		const char *state;
		unsigned pid;
		bool want;
	} cases[] = {
		{BUS__COMPONENT_REQUEST__VERB__START, "starting", 9, false},
		{BUS__COMPONENT_REQUEST__VERB__START, "backoff", 0, false},
		{BUS__COMPONENT_REQUEST__VERB__START, "running", 812, true},
		{BUS__COMPONENT_REQUEST__VERB__STOP, "stopping", 812, false},
		{BUS__COMPONENT_REQUEST__VERB__STOP, "stopped", 0, true},
		{BUS__COMPONENT_REQUEST__VERB__RESTART, "running", 812, false}, /* not begun */
		{BUS__COMPONENT_REQUEST__VERB__RESTART, "starting", 9, false},
		{BUS__COMPONENT_REQUEST__VERB__RESTART, "running", 9, true},
		{BUS__COMPONENT_REQUEST__VERB__SHOW, "held", 0, true},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		Bus__Component c = BUS__COMPONENT__INIT;

		c.state = S(cases[i].state);
		c.pid = cases[i].pid;
		assert_int_equal(hf_component_settled(cases[i].verb, 812, &c), cases[i].want);
	}
}

static void a_failed_enrolment_says_what_to_do_once(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"enrol: token_expired: the token ended at 12:00",
		 "token_expired: the token ended at 12:00; make a new token in the portal"},
		{"enrol: cert_untrusted: self-signed",
		 "cert_untrusted: self-signed; give the portal's CA with --ca FILE"},
		{"enrol: another enrolment is under way; wait for it",
		 "another enrolment is under way; wait for it"},
		{"enrol: token_expiredish: x", "token_expiredish: x; see 'holdfast status'"},
		{"", "; see 'holdfast status'"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *s = hf_enroll_complaint(cases[i].text);

		assert_string_equal(s, cases[i].want);
	}
}

static void status_fits_a_narrow_terminal(void **state)
{
	struct hf_term t = begin();
	struct sample m;

	(void)state;
	make_sample(&m);
	t.width = 60;
	m.a.endpoint =
		S("wss://a-very-long-name-of-a-portal.somewhere.in.the.internal.example/v1/opamp");
	hf_view_status(&t, &m.a, NULL, NULL, "the watchdog is not running");
	end(&t, "● online     since 14:03:11 (2 h 12 min)   portal\n"
		"              wss://a-very-long-name-of-a-portal.somewhere.i\n"
		"              n.the.internal.example/v1/opamp   authorized\n"
		"  channel     TLS 1.3 resumed, 10.0.0.5:51822 →\n"
		"              192.0.2.10:443, rtt 0.8 ms, epoch 41\n"
		"  last outage 14:03:11  4 ms  peer_reset: reset from\n"
		"              192.0.2.10, 312 bytes unacknowledged (kernel)\n"
		"  kernel      ebpf, 2 of 3 programs (skb_drop: off by\n"
		"              configuration), 0 lost of 18 204 events\n"
		"  agent       1.4.2  pid 812   up 0 s\n"
		"  watchdog    the watchdog is not running\n");
}

static void status_of_empty_messages_is_whole(void **state)
{
	Bus__AgentStatus a = BUS__AGENT_STATUS__INIT;
	Bus__WatchdogStatus w = BUS__WATCHDOG_STATUS__INIT;
	Bus__Component c = BUS__COMPONENT__INIT, *cp = &c;
	struct hf_term t = begin();

	(void)state;
	w.components = &cp;
	w.n_components = 1;
	hf_view_status(&t, &a, NULL, &w, NULL);
	end(&t, "■ unknown    \n"
		"  kernel      unknown\n"
		"  agent         pid 0   up 0 s\n"
		"              -\n"
		"  watchdog      pid 0\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_of_a_healthy_host),
		cmocka_unit_test(status_in_backoff_says_why_and_when_next),
		cmocka_unit_test(status_of_a_new_host_says_what_to_do),
		cmocka_unit_test(status_without_an_agent_shows_the_watchdogs_word),
		cmocka_unit_test(outages_are_a_table),
		cmocka_unit_test(an_event_is_one_line),
		cmocka_unit_test(an_event_is_cut_to_the_terminal_but_keeps_its_unit),
		cmocka_unit_test(a_joined_cause_is_never_cut),
		cmocka_unit_test(every_way_to_end_has_words),
		cmocka_unit_test(components_are_a_table),
		cmocka_unit_test(a_component_shows_its_last_words),
		cmocka_unit_test(a_request_for_a_component_has_an_end),
		cmocka_unit_test(a_failed_enrolment_says_what_to_do_once),
		cmocka_unit_test(status_fits_a_narrow_terminal),
		cmocka_unit_test(status_of_empty_messages_is_whole),
	};

	(void)setenv("TZ", "UTC", 1);
	tzset();
	return HF_RUN_TESTS(tests);
}
