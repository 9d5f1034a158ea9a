/* SPDX-License-Identifier: Apache-2.0 */
/* config.yml becomes what the kernel is told. */
#include "selftests/unit/test_util.h"

#include "watchdog/policy.h"

static struct hf_kernel_filter filter_of(const char *text, struct hf_config *c)
{
	struct hf_kernel_filter f;
	struct hf_err err = {};

	if (hf_config_load_text(&hf_config_table, "config.yml", text, strlen(text), c, NULL, NULL,
				&err) < 0)
		fail_msg("%s", err.msg);
	hf_policy_from_config(c, &f);
	return f;
}

static void the_defaults_are_the_kernels(void **state)
{
	struct hf_kernel_filter f, want;
	struct hf_config c = {};

	(void)state;
	f = filter_of("", &c);
	hf_kernel_filter_default(&want);
	/* These two are recorded whatever is said. */
	want.kinds &= ~HF_POLICY_KIND(HF_EVENT_CONN_RETRANSMIT);
	assert_int_equal(f.kinds, want.kinds);
	assert_int_equal(f.closed_one_in, want.closed_one_in);
	assert_int_equal(f.burst, want.burst);
	assert_int_equal(f.per_s, want.per_s);
	assert_int_equal(f.drop_window_ms, want.drop_window_ms);
	assert_false(f.exit_bad_only);
	assert_false(f.own_netns);
	assert_int_equal(f.ports.mode, HF_KERNEL_ALL);
	assert_int_equal(f.units.mode, HF_KERNEL_ALL);
	assert_int_equal(f.cgroups.mode, HF_KERNEL_ALL);
	assert_int_equal(f.drop_reasons.mode, HF_KERNEL_ALL);
	hf_config_done(&hf_config_table, &c);
}

static void every_key_arrives(void **state)
{
	struct hf_kernel_filter f;
	struct hf_config c = {};

	(void)state;
	f = filter_of("telemetry:\n"
		      "  kinds: [conn.closed, skb.drop]\n"
		      "  closed_one_in: 10\n"
		      "  exits: bad\n"
		      "  ports: [443, 8080]\n"
		      "  units_except: [noisy.service]\n"
		      "  cgroups: [/system.slice]\n"
		      "  drop_reasons: [NETFILTER_DROP]\n"
		      "  drop_window_ms: 5000\n"
		      "  cgroup_events_per_s: 7\n"
		      "  cgroup_burst: 0\n"
		      "kernel:\n  netns: own\n",
		      &c);
	assert_int_equal(f.kinds,
			 HF_POLICY_KIND(HF_EVENT_CONN_CLOSED) | HF_POLICY_KIND(HF_EVENT_SKB_DROP));
	assert_int_equal(f.closed_one_in, 10);
	assert_true(f.exit_bad_only);
	assert_true(f.own_netns);
	assert_int_equal(f.ports.mode, HF_KERNEL_ONLY);
	assert_int_equal(f.ports.n, 2);
	assert_string_equal(f.ports.names[1], "8080");
	assert_int_equal(f.units.mode, HF_KERNEL_EXCEPT);
	assert_string_equal(f.units.names[0], "noisy.service");
	assert_int_equal(f.cgroups.mode, HF_KERNEL_ONLY);
	assert_int_equal(f.drop_reasons.mode, HF_KERNEL_ONLY);
	assert_string_equal(f.drop_reasons.names[0], "NETFILTER_DROP");
	assert_int_equal(f.drop_window_ms, 5000);
	assert_int_equal(f.per_s, 7);
	assert_int_equal(f.burst, 0);
	hf_config_done(&hf_config_table, &c);
}

/* What the file allows the kernel's side knows. */
static void every_kind_of_the_file_has_a_number(void **state)
{
	static const char *const kinds[] = {"conn.failed",     "conn.reset_received",
					    "conn.reset_sent", "conn.dropped",
					    "conn.closed",     "proc.exit",
					    "proc.oom",        "skb.drop",
					    "telemetry.loss"};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(kinds); i++) {
		struct hf_config c = {};
		char text[64];

		(void)snprintf(text, sizeof(text), "telemetry:\n  kinds: [%s]\n", kinds[i]);
		assert_int_not_equal(filter_of(text, &c).kinds, 0);
		hf_config_done(&hf_config_table, &c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_defaults_are_the_kernels),
		cmocka_unit_test(every_key_arrives),
		cmocka_unit_test(every_kind_of_the_file_has_a_number),
	};
	return HF_RUN_TESTS(tests);
}
