/* SPDX-License-Identifier: Apache-2.0 */
/* OpenMetrics: the text, and who may read it how. */
#include "selftests/unit/agent/loop_util.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/str.h"
#include "userspace/agent/metrics_server.h"
#include "userspace/agent/metrics_text.h"

#define S(s) ((char *)(s))

/* ---- the text ------------------------------------------------------------------------------------- */

struct facts {
	struct hf_metrics_facts f;
	Bus__Telemetry telemetry;
	Bus__Program program, *programs[1];
	struct hf_channel_view view;
	struct hf_metrics_outages outages;
	struct hf_spool_stats spool;
	struct hf_uploader_stats upload;
	struct hf_tally *tally;
};

static void make_facts(struct facts *m)
{
	memset(m, 0, sizeof(*m));
	bus__telemetry__init(&m->telemetry);
	bus__program__init(&m->program);
	m->program.name = S("tcp.state");
	m->program.attached = true;
	m->programs[0] = &m->program;
	m->telemetry.programs = m->programs;
	m->telemetry.n_programs = 1;
	m->tally = hf_tally_new(1);
	assert_non_null(m->tally);
	m->f = (struct hf_metrics_facts){
		.version = "0.1.0",
		.kernel_assist = "ebpf",
		.telemetry = &m->telemetry,
		.tally = m->tally,
		.channel = &m->view,
		.outages = &m->outages,
		.spool = &m->spool,
		.upload = &m->upload,
	};
}

/* Caller frees. */
static char *text_of(struct facts *m)
{
	struct hf_buf b = {};

	assert_ok(hf_metrics_text(&m->f, &b));
	assert_ok(hf_buf_append(&b, "", 1));
	return (char *)b.data;
}

static void assert_line(const char *text, const char *line)
{
	_cleanup_free_ char *framed = hf_asprintf("\n%s\n", line);

	if (strstr(text, framed))
		return;
	print_error("no line '%s' in:\n%s", line, text);
	fail();
}

static void numbers_stand_in_their_units(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct facts m;

	(void)state;
	make_facts(&m);
	m.f.restarts = 3;
	m.f.cpu_us = 1500001;
	m.telemetry.lost = 7;
	m.telemetry.blind_ms = 1234;
	m.view.state = HF_CH_ONLINE;
	m.view.up = true;
	m.view.rtt_us = 800;
	m.view.clock_offset_ms = -1500;
	m.outages.count[HF_CAUSE_PEER_RESET] = 2;
	m.outages.us[HF_CAUSE_PEER_RESET] = 4100;
	m.spool.dropped[HF_SPOOL_GAP_SPOOL_FULL] = 9;
	text = text_of(&m);
	assert_line(text, "holdfast_agent_info{version=\"0.1.0\"} 1");
	assert_line(text, "holdfast_agent_restarts_total 3");
	assert_line(text, "holdfast_agent_cpu_seconds_total 1.500001");
	assert_line(text, "holdfast_kernel_records_lost_total 7");
	assert_line(text, "holdfast_kernel_blind_seconds_total 1.234000");
	assert_line(text, "holdfast_kernel_assist{holdfast_kernel_assist=\"ebpf\"} 1");
	assert_line(text, "holdfast_kernel_assist{holdfast_kernel_assist=\"off\"} 0");
	assert_line(text, "holdfast_kernel_program_attached{program=\"tcp.state\"} 1");
	assert_line(text, "holdfast_channel_up 1");
	assert_line(text, "holdfast_channel_state{holdfast_channel_state=\"online\"} 1");
	assert_line(text, "holdfast_channel_rtt_seconds 0.000800");
	assert_line(text, "holdfast_channel_clock_offset_seconds -1.500");
	assert_line(text, "holdfast_channel_outages_total{cause=\"peer_reset\"} 2");
	assert_line(text, "holdfast_channel_outage_seconds_total{cause=\"peer_reset\"} 0.004100");
	assert_line(text, "holdfast_channel_outages_total{cause=\"blackhole\"} 0");
	assert_true(hf_endswith(text, "\n# EOF\n"));
	hf_tally_free(m.tally);
}

static void without_a_session_there_is_no_round_trip(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct facts m;

	(void)state;
	make_facts(&m);
	m.view.state = HF_CH_BACKOFF;
	text = text_of(&m);
	assert_line(text, "holdfast_channel_up 0");
	assert_null(strstr(text, "rtt_seconds"));
	hf_tally_free(m.tally);
}

static void label_values_are_escaped_and_utf8(void **state)
{
	static const struct {
		const char *unit, *want;
	} cases[] = {
		{"a\"b\\c.service", "a\\\"b\\\\c.service"},
		{"a\nb", "a\\nb"},
		{"b\xc3\xa4h", "b\xc3\xa4h"},
		{"\xff\xc3x", "??x"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *text = NULL, *line = NULL;
		Bus__Event e = BUS__EVENT__INIT;
		struct facts m;

		make_facts(&m);
		e.kind = S("conn.failed");
		e.unit = S(cases[i].unit);
		hf_tally_add(m.tally, &e);
		text = text_of(&m);
		line = hf_asprintf("holdfast_unit_events_total{unit=\"%s\",what=\"failed\"} 1",
				   cases[i].want);
		assert_line(text, line);
		hf_tally_free(m.tally);
	}
}

/* Whatever happens on the host, the text has an end. */
static void a_flood_of_names_is_bounded(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct facts m;
	size_t lines = 0;

	(void)state;
	make_facts(&m);
	for (unsigned i = 0; i < 20000; i++) {
		Bus__Event e = BUS__EVENT__INIT;
		char unit[64], reason[32];

		(void)snprintf(unit, sizeof(unit), "run-%u.scope", i);
		(void)snprintf(reason, sizeof(reason), "R%u", i);
		e.kind = S("conn.failed");
		e.unit = unit;
		e.reason = reason;
		hf_tally_add(m.tally, &e);
	}
	text = text_of(&m);
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	assert_in_range(lines, HF_TALLY_ROWS, HF_TALLY_ROWS + HF_TALLY_REASONS + 400);
	assert_non_null(
		strstr(text, "holdfast_unit_events_total{unit=\"(others)\",what=\"failed\"}"));
	hf_tally_free(m.tally);
}

/* ---- the server ------------------------------------------------------------------------------------ */

struct server {
	sd_event *event;
	struct hf_metrics_server *s;
	char path[300];
	unsigned made;
	int r;
};

static int write_text(struct hf_buf *out, void *userdata)
{
	struct server *m = userdata;

	m->made++;
	if (m->r < 0)
		return m->r;
	return hf_buf_appendf(out, "# EOF\n");
}

static void start(struct server *m, void **state)
{
	const struct hf_test_dir *d = *state;

	memset(m, 0, sizeof(*m));
	(void)snprintf(m->path, sizeof(m->path), "%s/metrics.sock", d->path);
	assert_ok(sd_event_new(&m->event));
	assert_ok(hf_metrics_server_new(m->event, m->path, write_text, m, &m->s));
}

static void stop(struct server *m)
{
	m->s = hf_metrics_server_free(m->s);
	sd_event_unref(m->event);
	assert_int_equal(access(m->path, F_OK), -1);
}

static int dial(const struct server *m)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(hf_strlcpy(sa.sun_path, m->path, sizeof(sa.sun_path)));
	assert_ok(connect(fd, (const struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Runs the loop until the server has closed; what it said is in dst. */
static void hear(const struct server *m, int fd, char *dst, size_t size)
{
	uint64_t end = hf_now_monotonic_ns() + HF_TEST_DEADLINE_NS;
	size_t len = 0;

	for (;;) {
		ssize_t n;

		assert_true(hf_now_monotonic_ns() < end);
		assert_ok(sd_event_run(m->event, 1000));
		n = recv(fd, dst + len, size - 1 - len, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			break;
		if (n > 0)
			len += (size_t)n;
	}
	dst[len] = '\0';
	(void)hf_close(fd);
}

static void asked(struct server *m, const char *request, char *dst, size_t size)
{
	int fd = dial(m);

	say(fd, request);
	hear(m, fd, dst, size);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"

static void get_of_metrics_is_answered_and_closed(void **state)
{
	struct server m;
	char got[1024];
	struct stat st;

	start(&m, state);
	assert_ok(stat(m.path, &st));
	assert_int_equal(st.st_mode & 0777, 0660);
	asked(&m, GET("/metrics"), got, sizeof(got));
	assert_true(hf_startswith(got, "HTTP/1.1 200 OK\r\nContent-Type: "
				       "application/openmetrics-text; version=1.0.0; "
				       "charset=utf-8\r\nContent-Length: 6\r\n"));
	assert_true(hf_endswith(got, "Connection: close\r\n\r\n# EOF\n"));
	asked(&m, "HEAD /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", got, sizeof(got));
	assert_true(hf_startswith(got, "HTTP/1.1 200 "));
	assert_true(hf_endswith(got, "\r\n\r\n"));
	stop(&m);
}

static void anything_else_is_refused_by_its_number(void **state)
{
	static const struct {
		const char *request, *want;
	} cases[] = {
		{GET("/"), "HTTP/1.1 404 "},
		{GET("/metrics/../etc/passwd"), "HTTP/1.1 404 "},
		{"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405 "},
		{"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 413 "},
		{"GET /metrics HTTP/2.0\r\nHost: x\r\n\r\n", "HTTP/1.1 505 "},
		{"\x16\x03\x01\x02\x01\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /metrics\r\n\r\n", "HTTP/1.1 400 "},
	};
	struct hf_metrics_server_stats stats;
	struct server m;

	start(&m, state);
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		char got[1024];

		asked(&m, cases[i].request, got, sizeof(got));
		if (!hf_startswith(got, cases[i].want))
			print_error("%s\n%s\n", cases[i].request, got);
		assert_true(hf_startswith(got, cases[i].want));
	}
	hf_metrics_server_stats(m.s, &stats);
	assert_int_equal(stats.refused, HF_ARRAY_SIZE(cases));
	assert_int_equal(stats.answered, 0);
	assert_int_equal(m.made, 0);
	stop(&m);
}

static void a_text_that_cannot_be_made_is_503(void **state)
{
	struct server m;
	char got[1024];

	start(&m, state);
	m.r = -ENOMEM;
	asked(&m, GET("/metrics"), got, sizeof(got));
	assert_true(hf_startswith(got, "HTTP/1.1 503 "));
	m.r = 0;
	asked(&m, GET("/metrics"), got, sizeof(got));
	assert_true(hf_startswith(got, "HTTP/1.1 200 "));
	stop(&m);
}

static void slow_ones_make_room_for_those_who_ask(void **state)
{
	int slow[HF_METRICS_CONNECTIONS_MAX + 4];
	struct hf_metrics_server_stats stats;
	struct server m;
	char got[1024];

	start(&m, state);
	for (size_t i = 0; i < HF_ARRAY_SIZE(slow); i++) {
		slow[i] = dial(&m);
		say(slow[i], "GET /metr");
		for (unsigned k = 0; k < 4; k++)
			assert_ok(sd_event_run(m.event, 0));
	}
	asked(&m, GET("/metrics"), got, sizeof(got));
	assert_true(hf_startswith(got, "HTTP/1.1 200 "));
	hf_metrics_server_stats(m.s, &stats);
	assert_int_equal(stats.refused, HF_ARRAY_SIZE(slow) + 1 - HF_METRICS_CONNECTIONS_MAX);
	/* The oldest went. */
	hear(&m, slow[0], got, sizeof(got));
	assert_string_equal(got, "");
	for (size_t i = 1; i < HF_ARRAY_SIZE(slow); i++)
		(void)hf_close(slow[i]);
	stop(&m);
}

static void asking_often_costs_one_text(void **state)
{
	uint64_t begun = hf_now_monotonic_ns();
	struct server m;
	char got[1024];
	uint64_t passed;

	start(&m, state);
	for (unsigned i = 0; i < 20; i++)
		asked(&m, GET("/metrics"), got, sizeof(got));
	passed = (hf_now_monotonic_ns() - begun) / HF_NS_PER_MS;
	assert_in_range(m.made, 1, passed / HF_METRICS_FRESH_MS + 1);
	stop(&m);
}

/* A port that nobody has at the moment. */
static uint16_t free_port(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_ok(bind(fd, (const struct sockaddr *)&sa, sizeof(sa)));
	assert_ok(getsockname(fd, (struct sockaddr *)&sa, &len));
	(void)hf_close(fd);
	return ntohs(sa.sin_port);
}

static void the_port_is_the_loopbacks_only(void **state)
{
	static const char *const refused[] = {"0.0.0.0:9464",   "[::]:9464",
					      "192.0.2.1:9464", "127.evil.example:9464",
					      "metrics.sock",   "127.0.0.1:0"};
	struct server m;

	start(&m, state);
	for (size_t i = 0; i < HF_ARRAY_SIZE(refused); i++)
		assert_err(hf_metrics_server_listen(m.s, refused[i]), -EINVAL);
	assert_ok(hf_metrics_server_listen(m.s, ""));
	stop(&m);
}

static void on_the_port_the_host_must_be_the_loopback(void **state)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static const struct {
		const char *host, *want;
	} cases[] = {
		{"localhost:9464", "HTTP/1.1 200 "},
		{"127.0.0.1", "HTTP/1.1 200 "},
		{"rebound.example", "HTTP/1.1 421 "},
	};
	char address[32], request[128], got[1024];
	struct server m;

	start(&m, state);
	sa.sin_port = htons(free_port());
	(void)snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(sa.sin_port));
	assert_ok(hf_metrics_server_listen(m.s, address));
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_ok(connect(fd, (const struct sockaddr *)&sa, sizeof(sa)));
		(void)snprintf(request, sizeof(request),
			       "GET /metrics HTTP/1.1\r\nHost: %s\r\n\r\n", cases[i].host);
		say(fd, request);
		hear(&m, fd, got, sizeof(got));
		assert_true(hf_startswith(got, cases[i].want));
	}
	/* Another address: nobody listens at the former one. */
	assert_ok(hf_metrics_server_listen(m.s, ""));
	{
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_int_equal(connect(fd, (const struct sockaddr *)&sa, sizeof(sa)), -1);
		(void)hf_close(fd);
	}
	stop(&m);
}

static void hosts_of_the_loopback(void **state)
{
	static const struct {
		const char *host;
		bool want;
	} cases[] = {
		{"localhost", true},
		{"LOCALHOST:9464", true},
		{"127.0.0.1:9464", true},
		{"127.9.9.9", true},
		{"[::1]", true},
		{"[::1]:9464", true},
		{"[::1].example", false},
		{"[::2]", false},
		{"localhost.example", false},
		{"127.0.0.1.nip.io", false},
		{"10.0.0.1", false},
		{"", false},
		{NULL, false},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++)
		assert_int_equal(hf_metrics_host_is_loopback(cases[i].host), cases[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_stand_in_their_units),
		cmocka_unit_test(without_a_session_there_is_no_round_trip),
		cmocka_unit_test(label_values_are_escaped_and_utf8),
		cmocka_unit_test(a_flood_of_names_is_bounded),
		cmocka_unit_test_setup_teardown(get_of_metrics_is_answered_and_closed,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(anything_else_is_refused_by_its_number,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(a_text_that_cannot_be_made_is_503,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(slow_ones_make_room_for_those_who_ask,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(asking_often_costs_one_text, hf_test_dir_setup,
						hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(the_port_is_the_loopbacks_only, hf_test_dir_setup,
						hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(on_the_port_the_host_must_be_the_loopback,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test(hosts_of_the_loopback),
	};
	return HF_RUN_TESTS(tests);
}
