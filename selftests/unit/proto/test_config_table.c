/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of config.yml and portal.yml: forms, defaults as documented, cross checks. */
#include "selftests/unit/test_util.h"

#include "holdfast/config.h"
#include "userspace/proto/config_check.h"

#define PIN "sha256/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static void forms(void **state)
{
	static const struct {
		const char *(*check)(const char *);
		const char *text;
		bool good;
	} rows[] = {
		{hf_check_environment, "Prod", false},
		{hf_check_environment, "a b", false},
		{hf_check_environment, "prod", true},
		{hf_check_environment, "dev-2_x", true},
		{hf_check_portal_url, "portal", false},
		{hf_check_portal_url, "ws://p", false},
		{hf_check_portal_url, "http://p", false},
		{hf_check_portal_url, "WSS://p", false},
		{hf_check_portal_url, "wss://", false},
		{hf_check_portal_url, "wss:///x", false},
		{hf_check_portal_url, "wss://p:0", false},
		{hf_check_portal_url, "wss://p:65536", false},
		{hf_check_portal_url, "wss://p:", false},
		{hf_check_portal_url, "wss://p:1x", false},
		{hf_check_portal_url, "wss://user@p", false},
		{hf_check_portal_url, "wss://[::1", false},
		{hf_check_portal_url, "wss://[::g]/", false},
		{hf_check_portal_url, "wss://[::1]x/", false},
		{hf_check_portal_url, "wss://p/a b", false},
		{hf_check_portal_url, "wss://p/#x", false},
		{hf_check_portal_url, "wss://-p/", false},
		{hf_check_portal_url, "wss://p/\xc3\xa4", false},
		{hf_check_portal_url, "wss://p", true},
		{hf_check_portal_url, "https://p.example.com:443/v1/opamp?x=1", true},
		{hf_check_portal_url, "wss://127.0.0.1:4320/v1/opamp", true},
		{hf_check_portal_url, "wss://[2001:db8::1]:4320/", true},
		{hf_check_portal_url, "wss://[::1]", true},
		{hf_check_public_url, "wss://p", false},
		{hf_check_public_url, "https://p:4320", true},
		{hf_check_proxy, "proxy:3128", false},
		{hf_check_proxy, "https://proxy:3128", false},
		{hf_check_proxy, "http://proxy", false},
		{hf_check_proxy, "http://proxy:3128/x", false},
		{hf_check_proxy, "http://@proxy:3128", false},
		{hf_check_proxy, "http://:pw@proxy:3128", false},
		{hf_check_proxy, "http://a@b@proxy:3128", false},
		{hf_check_proxy, "http://a/b@proxy:3128", false},
		{hf_check_proxy, "http://proxy:3128", true},
		{hf_check_proxy, "http://proxy:3128/", true},
		{hf_check_proxy, "http://user:p%40ss@[::1]:3128", true},
		{hf_check_no_proxy, "a b", false},
		{hf_check_no_proxy, "a,b", false},
		{hf_check_no_proxy, ".example.com", true},
		{hf_check_no_proxy, "10.0.0.0/8", true},
		{hf_check_no_proxy, "[::1]", true},
		{hf_check_pin, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", false},
		{hf_check_pin, "sha256/", false},
		{hf_check_pin, "sha256/AAEC", false},
		{hf_check_pin, "sha256/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", false},
		{hf_check_pin, "sha256/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIj", false},
		{hf_check_pin, PIN, true},
		{hf_check_absolute_path, "/", true},
		{hf_check_absolute_path, "/etc/a b", true},
		{hf_check_absolute_path, "etc", false},
		{hf_check_absolute_path, "/etc/", false},
		{hf_check_absolute_path, "//etc", false},
		{hf_check_absolute_path, "/etc/..", false},
		{hf_check_absolute_path, "/etc/../x", false},
		{hf_check_absolute_path, "/etc\nx", false},
		{hf_check_user, "-x", false},
		{hf_check_user, "a b", false},
		{hf_check_user, "../x", false},
		{hf_check_user, "4294967295", false},
		{hf_check_user, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
		{hf_check_user, "holdfast", true},
		{hf_check_user, "65534", true},
		{hf_check_listen, "4320", false},
		{hf_check_listen, ":4320", false},
		{hf_check_listen, "::1:4320", false},
		{hf_check_listen, "[127.0.0.1]:4320", false},
		{hf_check_listen, "0.0.0.0:99999", false},
		{hf_check_listen, "0.0.0.0:4320", true},
		{hf_check_listen, "[::]:0", true},
		{hf_check_loopback_listen, "0.0.0.0:9464", false},
		{hf_check_loopback_listen, "[::]:9464", false},
		{hf_check_loopback_listen, "metrics.sock", false},
		{hf_check_loopback_listen, "/run/holdfast/metrics.sock", false},
		{hf_check_loopback_listen, "127.evil.example:9464", false},
		{hf_check_loopback_listen, "127.0.0.1:0", false},
		{hf_check_loopback_listen, "127.0.0.1:9464", true},
		{hf_check_loopback_listen, "[::1]:9464", true},
		{hf_check_loopback_listen, "localhost:9464", true},
		{hf_check_port, "0", false},
		{hf_check_port, "65536", false},
		{hf_check_port, "http", false},
		{hf_check_port, "443", true},
		{hf_check_unit, "", false},
		{hf_check_unit, "a/b", false},
		{hf_check_unit, ".hidden", false},
		{hf_check_unit, "getty@tty1.service", true},
		{hf_check_unit, "dev-disk-by\\x2dlabel.swap", true},
		{hf_check_drop_reason, "netfilter", false},
		{hf_check_drop_reason, "NETFILTER_DROP", true},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		if ((rows[i].check(rows[i].text) == NULL) != rows[i].good)
			fail_msg("row %zu: '%s'", i, rows[i].text);
	}
}

static void host_and_port_split(void **state)
{
	char host[16] = "old";
	uint16_t port = 7;

	(void)state;
	assert_err(hf_config_split_host_port("", host, sizeof(host), &port), -EINVAL);
	assert_err(hf_config_split_host_port("host", host, sizeof(host), &port), -EINVAL);
	assert_err(hf_config_split_host_port("a-name-too-long.x:1", host, sizeof(host), &port),
		   -EINVAL);
	assert_string_equal(host, "old");
	assert_int_equal(port, 7);
	assert_ok(hf_config_split_host_port("[::1]:65535", host, sizeof(host), &port));
	assert_string_equal(host, "::1");
	assert_int_equal(port, 65535);
	assert_ok(hf_config_split_host_port("portal:80", host, sizeof(host), &port));
	assert_string_equal(host, "portal");
	assert_int_equal(port, 80);
}

static void tables_are_sound(void **state)
{
	struct hf_err err = {};

	(void)state;
	if (hf_config_table_check(&hf_config_table, &err) < 0)
		fail_msg("config.yml: %s", err.msg);
	if (hf_config_table_check(&hf_portal_config_table, &err) < 0)
		fail_msg("portal.yml: %s", err.msg);
}

static int load(const char *text, struct hf_config *c, struct hf_err *err)
{
	return hf_config_load_text(&hf_config_table, "config.yml", text, strlen(text), c, NULL,
				   NULL, err);
}

static int load_portal(const char *text, struct hf_portal_config *c, struct hf_err *err)
{
	return hf_config_load_text(&hf_portal_config_table, "portal.yml", text, strlen(text), c,
				   NULL, NULL, err);
}

static void documented_defaults(void **state)
{
	struct hf_config c = {};
	struct hf_err err = {};

	(void)state;
	assert_ok(load("", &c, &err));
	assert_string_equal(c.environment, "prod");
	assert_string_equal(c.portal.url, "");
	assert_int_equal(c.portal.urls.n, 0);
	assert_int_equal(c.channel.heartbeat_s, 20);
	assert_int_equal(c.channel.heartbeat_timeout_s, 10);
	assert_int_equal(c.channel.connect_timeout_s, 20);
	assert_int_equal(c.channel.immediate_per_minute, 20);
	assert_int_equal(c.channel.backoff_cap_s, 60);
	assert_int_equal(c.channel.keepalive_s, 10);
	assert_int_equal(c.channel.user_timeout_s, 13);
	assert_int_equal(c.telemetry.max_events_per_s, 50);
	assert_int_equal(c.telemetry.burst, 1000);
	assert_int_equal(c.telemetry.spool_max_bytes, 64 << 20);
	assert_int_equal(c.telemetry.kinds.n, 7);
	assert_int_equal(c.telemetry.closed_one_in, 1);
	assert_int_equal(c.telemetry.cgroup_events_per_s, 500);
	assert_int_equal(c.telemetry.cgroup_burst, 600);
	assert_int_equal(c.restart.settle_s, 60);
	assert_int_equal(c.restart.backoff_cap_s, 30);
	assert_string_equal(c.component.agent.user, "holdfast");
	assert_string_equal(c.scan.user, "holdfast-scan");
	assert_int_equal(c.scan.memory_max_bytes, 256 << 20);
	assert_int_equal(c.scan.cpu_max_percent, 50);
	assert_int_equal(c.scan.paths.n, 3);
	assert_string_equal(c.scan.paths.items[2], "/usr/sbin");
	assert_int_equal(c.scan.exclude.n, 0);
	assert_int_equal(c.hang.expect_ms, 1000);
	assert_int_equal(c.hang.deadline_ms, 3000);
	assert_int_equal(c.hang.stretch_ms, 30000);
	assert_int_equal(c.kernel.mode, HF_CONFIG_KERNEL_AUTO);
	assert_int_equal(c.kernel.urgent_ring_bytes, 256 << 10);
	assert_int_equal(c.kernel.bulk_ring_bytes, 1 << 20);
	assert_int_equal(hf_config_log_level(c.log.level), HF_LOG_INFO);
	hf_config_done(&hf_config_table, &c);
}

static void documented_portal_defaults(void **state)
{
	struct hf_portal_config c = {};
	struct hf_err err = {};

	(void)state;
	assert_ok(load_portal("", &c, &err));
	assert_string_equal(c.environment, "prod");
	assert_int_equal(c.listen.n, 1);
	assert_string_equal(c.listen.items[0], "0.0.0.0:4320");
	assert_int_equal(c.agent_max_offline_time_s, 600);
	assert_int_equal(c.tunnel_status_check_interval_s, 60);
	assert_int_equal(c.heartbeat_s, 20);
	assert_false(c.auto_authorize);
	assert_int_equal(hf_config_log_level(c.log.level), HF_LOG_INFO);
	hf_config_done(&hf_portal_config_table, &c);
}

static void portal_environment_overrides_the_file(void **state)
{
	struct hf_portal_config c = {};
	struct hf_err err = {};

	(void)state;
	assert_int_equal(setenv("AGENT_MAX_OFFLINE_TIME", "30", 1), 0);
	assert_int_equal(setenv("TUNNEL_STATUS_CHECK_INTERVAL", "5", 1), 0);
	assert_ok(load_portal("agent_max_offline_time_s: 900\nlog: {level: debug}\n", &c, &err));
	assert_int_equal(c.agent_max_offline_time_s, 30);
	assert_int_equal(c.tunnel_status_check_interval_s, 5);
	assert_int_equal(hf_config_log_level(c.log.level), HF_LOG_DEBUG);
	assert_int_equal(setenv("AGENT_MAX_OFFLINE_TIME", "soon", 1), 0);
	assert_err(load_portal("", &c, &err), -EINVAL);
	assert_string_equal(err.msg, "environment variable AGENT_MAX_OFFLINE_TIME: expected a "
				     "number of seconds from 1 to 2592000, got 'soon'");
	assert_int_equal(unsetenv("AGENT_MAX_OFFLINE_TIME"), 0);
	assert_int_equal(unsetenv("TUNNEL_STATUS_CHECK_INTERVAL"), 0);
	hf_config_done(&hf_portal_config_table, &c);
}

static void what_does_not_fit_together_is_refused(void **state)
{
	static const char *const rows[][2] = {
		{"hang: {expect_ms: 3000}\n",
		 "config.yml:1: hang.expect_ms (3000) must be less than hang.deadline_ms (3000)"},
		{"hang: {stretch_ms: 1000}\n",
		 "config.yml:1: hang.deadline_ms (3000) must be less than hang.stretch_ms (1000)"},
		{"channel: {user_timeout_s: 10}\n",
		 "config.yml:1: channel.keepalive_s (10) must be less than channel.user_timeout_s "
		 "(10)"},
		{"kernel: {bulk_ring_bytes: 1000000}\n",
		 "config.yml:1: kernel.bulk_ring_bytes (1000000) must be a power of two"},
		{"kernel: {urgent_ring_bytes: 100000}\n",
		 "config.yml:1: kernel.urgent_ring_bytes (100000) must be a power of two"},
		{"telemetry:\n  ports_except: [1]\n  ports: [2]\n",
		 "config.yml:3: telemetry.ports_except: expected either this or telemetry.ports, "
		 "got both"},
		{"portal:\n  pins: [sha256/x]\n",
		 "config.yml:2: portal.pins: expected a pin as sha256/ and the base64 of 32 bytes, "
		 "got 'sha256/x'"},
		{"portal:\n  proxy: http://user:secret@x\n",
		 "config.yml:2: portal.proxy: expected a proxy such as "
		 "http://proxy.example.com:3128, got something else (not shown)"},
	};
	struct hf_portal_config p = {};
	struct hf_config c = {};
	struct hf_err err = {};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		assert_err(load(rows[i][0], &c, &err), -EINVAL);
		assert_string_equal(err.msg, rows[i][1]);
	}
	assert_err(load_portal("tls: {key_file: k}\n", &p, &err), -EINVAL);
	assert_string_equal(err.msg,
			    "portal.yml:1: tls.cert_file and tls.key_file go together: set "
			    "both or none");
	assert_null(c.environment);
}

static void actions_are_allowed_by_the_list(void **state)
{
	struct hf_config c = {};
	struct hf_err err = {};

	(void)state;
	assert_ok(load("", &c, &err));
	assert_false(hf_config_allows(&c, ""));
	assert_false(hf_config_allows(&c, "update"));
	assert_false(hf_config_allows(&c, "rollback"));
	assert_true(hf_config_allows(&c, "start"));
	assert_true(hf_config_allows(&c, "collect"));
	assert_err(load("actions: {allow: [fly]}\n", &c, &err), -EINVAL);
	assert_ok(load("actions: {allow: [update]}\n", &c, &err));
	assert_true(hf_config_allows(&c, "update"));
	assert_false(hf_config_allows(&c, "start"));
	assert_ok(load("actions: {allow: []}\n", &c, &err));
	assert_false(hf_config_allows(&c, "start"));
	hf_config_done(&hf_config_table, &c);
}

static void an_agent_needs_a_portal(void **state)
{
	struct hf_config c = {};
	struct hf_err err = {};

	(void)state;
	assert_ok(load("", &c, &err));
	assert_err(hf_config_require_portal(&c, &err), -EINVAL);
	assert_string_equal(err.msg, "portal.url is not set: there is no portal to connect to "
				     "(holdfast enroll sets it)");
	assert_ok(load("portal: {url: 'wss://p/v1/opamp', pins: ['" PIN "']}\n", &c, &err));
	assert_ok(hf_config_require_portal(&c, &err));
	hf_config_done(&hf_config_table, &c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms),
		cmocka_unit_test(host_and_port_split),
		cmocka_unit_test(tables_are_sound),
		cmocka_unit_test(documented_defaults),
		cmocka_unit_test(documented_portal_defaults),
		cmocka_unit_test(portal_environment_overrides_the_file),
		cmocka_unit_test(what_does_not_fit_together_is_refused),
		cmocka_unit_test(actions_are_allowed_by_the_list),
		cmocka_unit_test(an_agent_needs_a_portal),
	};

	/* A developer's own setting must not change what the tests see. */
	(void)unsetenv("HOLDFAST_LOG");
	return HF_RUN_TESTS(tests);
}
