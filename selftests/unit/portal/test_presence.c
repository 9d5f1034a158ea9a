/* SPDX-License-Identifier: Apache-2.0 */
/* The status rule cell by cell, with a clock of its own. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"
#include "tools/portal/presence.h"

#define S  HF_NS_PER_S
#define T0 (1000 * S)

static const struct hf_presence_policy policy = {.heartbeat_s = 20, .max_offline_s = 600};

/* clang-format off: one cell a line */
static const struct cell {
	const char *what;
	struct hf_presence p;
	uint64_t at_s; /* after T0 */
	enum hf_status status;
	const char *reason;
	uint64_t due_s; /* after T0; UINT64_MAX: never */
} cells[] = {
#define LINKED .ever_connected = true, .linked = true, .last_proof_ns = T0, .last_update_ns = T0
#define GONE   .ever_connected = true, .last_update_ns = T0
#define AUTH   .authorization = HF_AUTH_AUTHORIZED
	/* Authorization comes first, whatever the link does. */
	{"revoked, linked",
	 {.authorization = HF_AUTH_REVOKED, LINKED},
	 1,
	 HF_STATUS_REVOKED,
	 "revoked",
	 UINT64_MAX},
	{"revoked, gone",
	 {.authorization = HF_AUTH_REVOKED, GONE},
	 9999,
	 HF_STATUS_REVOKED,
	 "revoked",
	 UINT64_MAX},
	{"suspended, linked",
	 {.authorization = HF_AUTH_SUSPENDED, LINKED},
	 1,
	 HF_STATUS_SUSPENDED,
	 "suspended",
	 UINT64_MAX},
	{"suspended, gone",
	 {.authorization = HF_AUTH_SUSPENDED, GONE},
	 9999,
	 HF_STATUS_SUSPENDED,
	 "suspended",
	 UINT64_MAX},
	{"pending, linked",
	 {.authorization = HF_AUTH_PENDING, LINKED},
	 1,
	 HF_STATUS_PENDING,
	 "awaiting_approval",
	 UINT64_MAX},
	{"pending, late proof",
	 {.authorization = HF_AUTH_PENDING, LINKED},
	 500,
	 HF_STATUS_PENDING,
	 "awaiting_approval",
	 UINT64_MAX},
	{"pending, gone",
	 {.authorization = HF_AUTH_PENDING, GONE},
	 1,
	 HF_STATUS_PENDING,
	 "awaiting_approval_offline",
	 UINT64_MAX},
	{"pending, never",
	 {.authorization = HF_AUTH_PENDING},
	 1,
	 HF_STATUS_PENDING,
	 "awaiting_approval_offline",
	 UINT64_MAX},
	/* Authorized and linked: the age of the last proof. */
	{"proof now", {AUTH, LINKED}, 0, HF_STATUS_ONLINE, "connected", 45},
	{"proof at the edge", {AUTH, LINKED}, 45, HF_STATUS_ONLINE, "connected", 45},
	{"proof late", {AUTH, LINKED}, 46, HF_STATUS_STALE, "heartbeat_late", 600},
	{"proof late, one before the limit",
	 {AUTH, LINKED},
	 599,
	 HF_STATUS_STALE,
	 "heartbeat_late",
	 600},
	{"no proof within the limit",
	 {AUTH, LINKED},
	 600,
	 HF_STATUS_OFFLINE,
	 "heartbeat_missing",
	 UINT64_MAX},
	/* A link wins over what was said before it. */
	{"goodbye of the link before",
	 {AUTH, LINKED, .offline_ns = T0},
	 1,
	 HF_STATUS_ONLINE,
	 "connected",
	 45},
	/* Authorized, no link. */
	{"never connected",
	 {AUTH},
	 1,
	 HF_STATUS_NEVER_CONNECTED,
	 "enrolled_not_connected",
	 UINT64_MAX},
	{"just lost", {AUTH, GONE}, 0, HF_STATUS_RECONNECTING, "link_lost", 600},
	{"just lost, reason known",
	 {AUTH, GONE, .lost = "peer_reset"},
	 0,
	 HF_STATUS_RECONNECTING,
	 "peer_reset",
	 600},
	{"lost, one before the limit", {AUTH, GONE}, 599, HF_STATUS_RECONNECTING, "link_lost", 600},
	{"lost, at the limit",
	 {AUTH, GONE, .lost = "peer_reset"},
	 600,
	 HF_STATUS_OFFLINE,
	 "no_update",
	 600 + HF_MISSING_AFTER_S},
	{"lost, 30 days",
	 {AUTH, GONE},
	 600 + HF_MISSING_AFTER_S,
	 HF_STATUS_MISSING,
	 "missing",
	 UINT64_MAX},
	{"was offline before our start",
	 {AUTH, GONE, .offline_ns = T0, .lost = "no_update"},
	 5,
	 HF_STATUS_OFFLINE,
	 "no_update",
	 HF_MISSING_AFTER_S},
	/* Clean goodbyes count at once. */
	{"shut down",
	 {AUTH, GONE, .goodbye = "host_shutdown"},
	 0,
	 HF_STATUS_POWERED_OFF,
	 "host_shutdown",
	 UINT64_MAX},
	{"shut down long ago",
	 {AUTH, GONE, .goodbye = "host_shutdown"},
	 9999,
	 HF_STATUS_POWERED_OFF,
	 "host_shutdown",
	 UINT64_MAX},
	{"stopped",
	 {AUTH, GONE, .goodbye = "agent_stopped"},
	 0,
	 HF_STATUS_OFFLINE,
	 "agent_stopped",
	 HF_MISSING_AFTER_S},
	{"suspended host",
	 {AUTH, GONE, .goodbye = "host_suspend"},
	 0,
	 HF_STATUS_OFFLINE,
	 "host_suspend",
	 HF_MISSING_AFTER_S},
	{"updating",
	 {AUTH, GONE, .goodbye = "agent_update"},
	 0,
	 HF_STATUS_UPDATING,
	 "agent_update",
	 600},
	{"update does not come back",
	 {AUTH, GONE, .goodbye = "agent_update"},
	 600,
	 HF_STATUS_OFFLINE,
	 "agent_update",
	 HF_MISSING_AFTER_S},
};

/* clang-format on */

static void every_cell_of_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cells); i++) {
		const struct cell *c = &cells[i];
		uint64_t due = c->due_s == UINT64_MAX ? UINT64_MAX : T0 + c->due_s * S;
		struct hf_verdict v;

		hf_presence_judge(&c->p, &policy, T0 + c->at_s * S, &v);
		if (v.status != c->status || strcmp(v.reason, c->reason) != 0)
			print_error("%s: %s (%s)\n", c->what, hf_status_name(v.status), v.reason);
		assert_int_equal(v.status, c->status);
		assert_string_equal(v.reason, c->reason);
		/* The due time of "online" is the first nanosecond that is late. */
		assert_true(v.due_ns == due ||
			    (c->status == HF_STATUS_ONLINE && v.due_ns == due + 1));
	}
}

static void the_status_changes_exactly_when_it_is_due(void **state)
{
	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cells); i++) {
		struct hf_verdict v, before, after;

		hf_presence_judge(&cells[i].p, &policy, T0 + cells[i].at_s * S, &v);
		if (v.due_ns == UINT64_MAX)
			continue;
		hf_presence_judge(&cells[i].p, &policy, v.due_ns - 1, &before);
		hf_presence_judge(&cells[i].p, &policy, v.due_ns, &after);
		assert_int_equal(before.status, v.status);
		assert_true(after.status != v.status);
	}
}

static void a_limit_below_the_heartbeat_never_calls_a_healthy_link_offline(void **state)
{
	const struct hf_presence_policy tight = {.heartbeat_s = 20, .max_offline_s = 2};
	const struct hf_presence p = {AUTH, LINKED};
	struct hf_verdict v;

	(void)state;
	hf_presence_judge(&p, &tight, T0 + 30 * S, &v);
	assert_int_equal(v.status, HF_STATUS_ONLINE);
	hf_presence_judge(&p, &tight, T0 + 46 * S, &v);
	assert_int_equal(v.status, HF_STATUS_OFFLINE);
}

static void names_go_both_ways_and_reasons_have_texts(void **state)
{
	(void)state;
	for (unsigned s = 0; s < _HF_STATUS_MAX; s++)
		assert_int_equal(hf_status_from_name(hf_status_name((enum hf_status)s)), s);
	assert_int_equal(hf_status_from_name("onlin"), -EINVAL);
	for (size_t i = 0; i < HF_ARRAY_SIZE(cells); i++)
		assert_true(strlen(hf_reason_text(cells[i].reason)) > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cell_of_the_table),
		cmocka_unit_test(the_status_changes_exactly_when_it_is_due),
		cmocka_unit_test(a_limit_below_the_heartbeat_never_calls_a_healthy_link_offline),
		cmocka_unit_test(names_go_both_ways_and_reasons_have_texts),
	};

	return HF_RUN_TESTS(tests);
}
