/* SPDX-License-Identifier: Apache-2.0 */
/* From raw records to what people read. */
#include "../test_util.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/str.h"
#include "userspace/agent/kernel_decode.h"

#define OFFSET INT64_C(1000000000000)

static const char info_text[] = "abi 1\nassist ebpf\nrst 1 NO_SOCKET\nrst 0 NOT_SPECIFIED\n"
				"rst 12 TCP_ABORT_ON_LINGER\ndrop 12 NETFILTER_DROP\n";

static struct hf_kernel_info *info;
static struct hf_decoded decoded;

static int setup(void **state)
{
	(void)state;
	return hf_kernel_info_parse(info_text, strlen(info_text), &info);
}

static int teardown(void **state)
{
	(void)state;
	info = hf_kernel_info_free(info);
	return 0;
}

static struct hf_conn_event conn(uint32_t kind)
{
	struct hf_conn_event e = {
		.header = {.boot_ns = 5000000000,
			   .seq = 7,
			   .kind = kind,
			   .cpu = 3,
			   .ring = HF_RING_BULK,
			   .len = sizeof(e),
			   .weight = 1},
		.owner = {.tgid = 812,
			  .uid = 33,
			  .start_ns = 1000,
			  .cgroup_id = 99,
			  .src = HF_OWNER_ACCEPT,
			  .comm = "nginx",
			  .cgroup_leaf = "nginx.service",
			  .cgroup_parent = "system.slice"},
		.conn = {.cookie = 77,
			 .netns = 4026531840,
			 .family = AF_INET,
			 .local_addr = {10, 0, 0, 5},
			 .peer_addr = {203, 0, 113, 7},
			 .local_port = 443,
			 .peer_port = 40112,
			 .state = 1,
			 .reason = HF_REASON_NONE},
	};

	return e;
}

static const Bus__Event *decode(const struct hf_conn_event *e)
{
	assert_ok(hf_kernel_decode(info, e, sizeof(*e), OFFSET, &decoded));
	return &decoded.event;
}

static void what_is_no_record_is_refused(void **state)
{
	struct hf_conn_event good = conn(HF_EVENT_CONN_CLOSED), e;
	size_t len;

	(void)state;
	for (len = 0; len < sizeof(good); len++)
		assert_err(hf_kernel_decode(info, &good, len, 0, &decoded), -EBADMSG);
	e = good, e.header.len--;
	assert_err(hf_kernel_decode(info, &e, sizeof(e), 0, &decoded), -EBADMSG);
	e = good, e.header.kind = HF_EVENT_NONE;
	assert_err(hf_kernel_decode(info, &e, sizeof(e), 0, &decoded), -EBADMSG);
	e = good, e.header.kind = _HF_EVENT_KIND_MAX;
	assert_err(hf_kernel_decode(info, &e, sizeof(e), 0, &decoded), -EBADMSG);
	e = good, e.header.kind = UINT32_MAX;
	assert_err(hf_kernel_decode(info, &e, sizeof(e), 0, &decoded), -EBADMSG);
	e = good, e.header.kind = HF_EVENT_PROC_EXIT; /* of another size */
	assert_err(hf_kernel_decode(info, &e, sizeof(e), 0, &decoded), -EBADMSG);
	e = good, e.header.ring = _HF_RING_MAX;
	assert_err(hf_kernel_decode(info, &e, sizeof(e), 0, &decoded), -EBADMSG);
	assert_ok(hf_kernel_decode(info, &good, sizeof(good), 0, &decoded));
}

static void enums_out_of_range_become_no_text(void **state)
{
	struct hf_conn_event e = conn(HF_EVENT_CONN_DROPPED);
	const Bus__Event *b;

	(void)state;
	e.owner.src = 99;
	e.conn.state = 200;
	e.conn.family = 77;
	e.conn.timeout_kind = 50;
	e.conn.closed_by = 50;
	e.conn.sk_err = 1 << 30;
	b = decode(&e);
	assert_string_equal(b->owner_src, "none");
	assert_string_equal(b->conn->state, "");
	assert_string_equal(b->local, "");
	assert_string_equal(b->peer, "");
	assert_string_equal(b->reason, "");
	assert_string_equal(b->conn->timeout, "");
	assert_string_equal(b->conn->closed_first, "");
	e = conn(HF_EVENT_CONN_RETRANSMIT);
	e.conn.sk_err = INT32_MIN;
	b = decode(&e);
	assert_string_equal(b->reason, "");
}

static void strings_end_and_are_printable(void **state)
{
	struct hf_conn_event e = conn(HF_EVENT_CONN_CLOSED);
	const Bus__Event *b;

	(void)state;
	memset(e.owner.comm, 'x', sizeof(e.owner.comm));
	memset(e.owner.cgroup_leaf, 0xff, sizeof(e.owner.cgroup_leaf));
	memset(e.owner.cgroup_parent, '\x1b', sizeof(e.owner.cgroup_parent));
	b = decode(&e);
	assert_string_equal(b->comm, "xxxxxxxxxxxxxxx");
	assert_int_equal(strlen(b->cgroup), HF_CGROUP_LEAF_SIZE - 1 + HF_CGROUP_PARENT_SIZE);
	assert_null(strchr(b->cgroup, '\x1b'));
	assert_string_equal(b->unit, "");
}

static void the_header_and_the_owner_come_through(void **state)
{
	struct hf_conn_event e = conn(HF_EVENT_CONN_CLOSED);
	const Bus__Event *b;

	(void)state;
	e.header.flags = HF_EVENT_F_WATCHED;
	b = decode(&e);
	assert_string_equal(b->kind, "conn.closed");
	assert_string_equal(b->ring, "bulk");
	assert_int_equal(b->cpu, 3);
	assert_int_equal(b->seq, 7);
	assert_int_equal(b->boot_ns, 5000000000);
	assert_int_equal(b->time_unix_ns, 5000000000 + OFFSET);
	assert_int_equal(b->pid, 812);
	assert_int_equal(b->uid, 33);
	assert_int_equal(b->start_boot_ns, 1000);
	assert_string_equal(b->comm, "nginx");
	assert_string_equal(b->cgroup, "system.slice/nginx.service");
	assert_string_equal(b->unit, "nginx.service");
	assert_string_equal(b->container, "");
	assert_string_equal(b->owner_src, "accept");
	assert_int_equal(b->netns, 4026531840);
	assert_string_equal(b->local, "10.0.0.5:443");
	assert_string_equal(b->peer, "203.0.113.7:40112");
	assert_true(b->watched);
	assert_int_equal(b->conn->cookie, 77);
	assert_string_equal(b->conn->state, "ESTABLISHED");
	assert_null(b->exit);
	assert_null(b->loss);
}

static void ipv6_has_brackets(void **state)
{
	struct hf_conn_event e = conn(HF_EVENT_CONN_CLOSED);

	(void)state;
	e.conn.family = AF_INET6;
	assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", e.conn.local_addr), 1);
	assert_int_equal(inet_pton(AF_INET6, "::", e.conn.peer_addr), 1);
	assert_string_equal(decode(&e)->local, "[2001:db8::1]:443");
	assert_string_equal(decode(&e)->peer, "[::]:40112");
}

static void resets_are_named_by_the_kernel_or_by_what_was_found(void **state)
{
	const struct {
		uint32_t reason, header_flags, sock_flags, state, unread;
		const char *name, *detail;
	} table[] = {
		{12, 0, HF_SOCK_F_ABORTED, 1, 0, "TCP_ABORT_ON_LINGER",
		 "closed at once (linger 0)"},
		{HF_REASON_NONE, 0, HF_SOCK_F_ABORTED, 1, 0, "TCP_STATE",
		 "closed at once (linger 0)"},
		{HF_REASON_NONE, 0, HF_SOCK_F_ABORTED, 1, 1204, "TCP_ABORT_ON_CLOSE",
		 "closed with 1204 bytes unread"},
		{0, 0, HF_SOCK_F_ABORTED, 1, 1, "TCP_ABORT_ON_CLOSE", "closed with 1 byte unread"},
		{1, HF_EVENT_F_NO_SOCKET, 0, 7, 0, "NO_SOCKET",
		 "no such connection, nobody listens on port 443"},
		{HF_REASON_NONE, HF_EVENT_F_NO_SOCKET, 0, 7, 0, "NO_SOCKET",
		 "no such connection, nobody listens on port 443"},
		{HF_REASON_NONE, HF_EVENT_F_NO_SOCKET, 0, 10, 0, "",
		 "refused by the listener, 0 of 0 waiting"},
		{0, 0, 0, 1, 0, "NOT_SPECIFIED", "reset sent"},
		{4711, 0, 0, 1, 0, "", "reset sent"}, /* no name on this kernel */
	};
	size_t i;

	(void)state;
	for (i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_conn_event e = conn(HF_EVENT_CONN_RESET_SENT);

		e.header.flags = table[i].header_flags;
		e.conn.reason = table[i].reason;
		e.conn.sock_flags = table[i].sock_flags;
		e.conn.state = table[i].state;
		e.conn.unread_bytes = table[i].unread;
		assert_string_equal(decode(&e)->reason, table[i].name);
		assert_string_equal(decode(&e)->detail, table[i].detail);
	}
}

static void failures_say_what_happened(void **state)
{
	const struct {
		int32_t err;
		uint16_t port;
		uint64_t age_ns;
		uint32_t retransmits;
		const char *reason, *detail;
	} table[] = {
		{ECONNREFUSED, 5, 300000, 0, "ECONNREFUSED", "refused by 203.0.113.7 after 300 us"},
		{ETIMEDOUT, 5, 3000000000, 2, "ETIMEDOUT",
		 "no answer from 203.0.113.7 after 3 s, 3 SYNs sent"},
		{EHOSTUNREACH, 5, 0, 0, "EHOSTUNREACH", "No route to host: 203.0.113.7"},
		{0, 5, 5000000000, 0, "CLOSED_BY_OWNER", "given up by its owner after 5 s"},
		{0, 0, 0, 0, "EADDRNOTAVAIL", "no free local port"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_conn_event e = conn(HF_EVENT_CONN_FAILED);

		e.conn.sk_err = table[i].err;
		e.conn.local_port = table[i].port;
		e.conn.age_ns = table[i].age_ns;
		e.conn.retransmits = table[i].retransmits;
		assert_string_equal(decode(&e)->reason, table[i].reason);
		assert_string_equal(decode(&e)->detail, table[i].detail);
	}
}

static void timeouts_are_told_apart(void **state)
{
	const struct {
		uint32_t kind;
		const char *name, *detail;
	} table[] = {
		{HF_TIMEOUT_RTO, "rto",
		 "6 retransmits unanswered by 203.0.113.7 with 312 bytes unacknowledged"},
		{HF_TIMEOUT_USER, "user_timeout",
		 "no acknowledgement for 13 s (TCP_USER_TIMEOUT) from 203.0.113.7 with 312 bytes "
		 "unacknowledged"},
		{HF_TIMEOUT_KEEPALIVE, "keepalive",
		 "3 keepalive probes unanswered by 203.0.113.7 with 312 bytes unacknowledged"},
		{HF_TIMEOUT_ZERO_WINDOW, "zero_window",
		 "window kept shut by 203.0.113.7 with 312 bytes unacknowledged"},
		{HF_TIMEOUT_NONE, "",
		 "Connection timed out: 203.0.113.7 with 312 bytes unacknowledged"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_conn_event e = conn(HF_EVENT_CONN_DROPPED);

		e.conn.sk_err = ETIMEDOUT;
		e.conn.timeout_kind = table[i].kind;
		e.conn.retransmits_now = 6;
		e.conn.probes_out = 3;
		e.conn.user_timeout_ms = 13000;
		e.conn.unacked_bytes = 312;
		assert_string_equal(decode(&e)->reason, "ETIMEDOUT");
		assert_string_equal(decode(&e)->conn->timeout, table[i].name);
		assert_string_equal(decode(&e)->detail, table[i].detail);
	}
}

static void a_received_reset_counts_what_was_left(void **state)
{
	struct hf_conn_event e = conn(HF_EVENT_CONN_RESET_RECEIVED);

	(void)state;
	e.conn.sk_err = ECONNRESET;
	e.conn.unacked_bytes = 312;
	e.conn.unread_bytes = 1;
	e.conn.age_ns = 1234567;
	assert_string_equal(decode(&e)->reason, "ECONNRESET");
	assert_string_equal(decode(&e)->detail,
			    "reset received from 203.0.113.7 with 312 bytes unacknowledged and 1 "
			    "byte unread");
	assert_int_equal(decode(&e)->conn->age_us, 1234);
	assert_int_equal(decode(&e)->conn->err, ECONNRESET);
	assert_string_equal(decode(&e)->conn->err_name, "ECONNRESET");
}

static void drops_are_counted_and_named(void **state)
{
	struct hf_conn_event e = conn(HF_EVENT_SKB_DROP);

	(void)state;
	e.conn.reason = 12;
	e.header.weight = 40;
	assert_string_equal(decode(&e)->reason, "NETFILTER_DROP");
	assert_string_equal(decode(&e)->detail, "40 packets dropped");
	assert_int_equal(decode(&e)->drop->count, 40);
	e.conn.reason = 12345;
	e.header.weight = 1;
	assert_string_equal(decode(&e)->reason, "");
	assert_string_equal(decode(&e)->detail, "1 packet dropped");
}

static struct hf_exit_event exit_event(uint32_t status)
{
	struct hf_exit_event e = {
		.header = {.kind = HF_EVENT_PROC_EXIT,
			   .ring = HF_RING_URGENT,
			   .len = sizeof(e),
			   .weight = 1},
		.owner = {.tgid = 4410, .src = HF_OWNER_SELF, .comm = "worker"},
		.exit = {.status = status,
			 .runtime_ns = 10920 * HF_NS_PER_S,
			 .ppid = 1,
			 .threads = 4},
	};

	return e;
}

static const Bus__Event *decode_exit(const struct hf_exit_event *e)
{
	assert_ok(hf_kernel_decode(info, e, sizeof(*e), 0, &decoded));
	return &decoded.event;
}

static void an_exit_is_code_or_signal(void **state)
{
	struct hf_exit_event e = exit_event(3 << 8);
	const Bus__Event *b = decode_exit(&e);

	(void)state;
	assert_int_equal(b->exit->code, 3);
	assert_int_equal(b->exit->signal, 0);
	assert_false(b->exit->core);
	assert_int_equal(b->exit->runtime_ms, 10920000);
	assert_int_equal(b->exit->ppid, 1);
	assert_int_equal(b->exit->threads, 4);
	assert_string_equal(b->reason, "");
	assert_string_equal(b->owner_src, "self");
	assert_string_equal(b->detail, "exited with status 3 after 3 h 2 min");

	e = exit_event(SIGSEGV | 0x80);
	e.exit.sender = (struct hf_sender){.boot_ns = 1, .si_code = 1, .signal = SIGSEGV};
	b = decode_exit(&e);
	assert_int_equal(b->exit->code, -1);
	assert_int_equal(b->exit->signal, SIGSEGV);
	assert_true(b->exit->core);
	assert_string_equal(b->reason, "SIGSEGV");
	assert_string_equal(b->detail, "SIGSEGV from the kernel, core dumped after 3 h 2 min");
}

static void the_sender_is_named(void **state)
{
	struct hf_exit_event e = exit_event(SIGKILL);
	const Bus__Event *b;

	(void)state;
	e.exit.sender = (struct hf_sender){
		.boot_ns = 1, .pid = 77, .uid = 1000, .signal = SIGKILL, .comm = "kill"};
	b = decode_exit(&e);
	assert_int_equal(b->exit->by_pid, 77);
	assert_int_equal(b->exit->by_uid, 1000);
	assert_string_equal(b->exit->by_comm, "kill");
	assert_string_equal(b->detail, "SIGKILL from pid 77 'kill' (uid 1000) after 3 h 2 min");
	e.exit.sender.pid = 4410;
	assert_string_equal(decode_exit(&e)->detail, "SIGKILL by itself after 3 h 2 min");
	e.exit.oom = 1;
	b = decode_exit(&e);
	assert_true(b->exit->oom);
	assert_string_equal(b->detail, "SIGKILL by the OOM killer after 3 h 2 min");
	/* Nobody was seen to send it. */
	e = exit_event(99);
	assert_string_equal(decode_exit(&e)->reason, "signal 99");
}

static void an_oom_victim_has_its_size(void **state)
{
	struct hf_oom_event e = {
		.header = {.kind = HF_EVENT_PROC_OOM, .len = sizeof(e), .weight = 1},
		.owner = {.tgid = 5, .src = HF_OWNER_SELF, .comm = "hog"},
		.oom = {.total_vm_kib = 100,
			.anon_rss_kib = 40,
			.file_rss_kib = 2,
			.shmem_rss_kib = 1,
			.oom_score_adj = -5,
			.invoker_pid = 9,
			.invoker_comm = "eater"},
	};

	(void)state;
	assert_ok(hf_kernel_decode(info, &e, sizeof(e), 0, &decoded));
	assert_int_equal(decoded.event.oom->rss_kb, 43);
	assert_int_equal(decoded.event.oom->total_vm_kb, 100);
	assert_int_equal(decoded.event.oom->oom_score_adj, -5);
	assert_string_equal(decoded.event.detail,
			    "chosen by the OOM killer, 43 kB resident; memory was asked for by "
			    "pid 9 'eater'");
}

static void losses_are_events_too(void **state)
{
	struct hf_loss_event e = {
		.header = {.kind = HF_EVENT_TELEMETRY_LOSS, .len = sizeof(e), .weight = 1},
		.loss = {.count = 90, .cause = HF_LOSS_THROTTLED, .kind = HF_EVENT_CONN_RESET_SENT},
	};

	(void)state;
	assert_ok(hf_kernel_decode(info, &e, sizeof(e), 0, &decoded));
	assert_string_equal(decoded.event.kind, "telemetry.loss");
	assert_string_equal(decoded.event.reason, "throttled");
	assert_int_equal(decoded.event.loss->count, 90);
	assert_string_equal(
		decoded.event.detail,
		"90 events withheld, the last a conn.reset_sent: too many from one cgroup");

	hf_kernel_decode_gap(HF_RING_BULK, 2, 11, 20, 500, OFFSET, &decoded);
	assert_string_equal(decoded.event.kind, "telemetry.loss");
	assert_string_equal(decoded.event.reason, "ring_full");
	assert_int_equal(decoded.event.cpu, 2);
	assert_int_equal(decoded.event.loss->count, 10);
	assert_int_equal(decoded.event.loss->first_seq, 11);
	assert_int_equal(decoded.event.loss->last_seq, 20);
	assert_int_equal(decoded.event.time_unix_ns, 500 + OFFSET);
	assert_string_equal(decoded.event.detail, "10 events lost: no room on the bulk ring");
}

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void units_and_containers_come_from_cgroup_names(void **state)
{
	static const struct {
		const char *leaf, *parent, *unit, *container;
	} table[] = {
		{"nginx.service", "system.slice", "nginx.service", ""},
		{"session-3.scope", "user-0.slice", "session-3.scope", ""},
		{"worker", "app.service", "app.service", ""},
		{"app.slice", "user@1000.service", "user@1000.service", ""},
		{"user.slice", "", "user.slice", ""},
		{"docker-" HEX64 ".scope", "system.slice", "docker-" HEX64 ".scope", HEX64},
		{HEX64, "docker", "", HEX64},
		{"payload", "libpod-" HEX64 ".scope", "libpod-" HEX64 ".scope", HEX64},
		{HEX64 "0", "docker", "", ""},
		{"", "", "", ""},
		{"hf-oom-1", "memory", "", ""},
	};
	char unit[HF_CGROUP_LEAF_SIZE], container[HF_CGROUP_LEAF_SIZE];
	size_t i;

	(void)state;
	for (i = 0; i < HF_ARRAY_SIZE(table); i++) {
		hf_cgroup_unit(table[i].leaf, table[i].parent, unit, sizeof(unit));
		assert_string_equal(unit, table[i].unit);
		hf_cgroup_container(table[i].leaf, table[i].parent, container, sizeof(container));
		assert_string_equal(container, table[i].container);
	}
}

static void every_kind_has_a_name_that_leads_back(void **state)
{
	uint32_t k;

	(void)state;
	for (k = HF_EVENT_NONE + 1; k < _HF_EVENT_KIND_MAX; k++) {
		assert_non_null(hf_event_kind_name(k));
		assert_int_equal(hf_event_kind_from_name(hf_event_kind_name(k)), k);
	}
	assert_null(hf_event_kind_name(HF_EVENT_NONE));
	assert_null(hf_event_kind_name(_HF_EVENT_KIND_MAX));
	assert_null(hf_event_kind_name(UINT32_MAX));
	assert_err(hf_event_kind_from_name("conn.unknown"), -EINVAL);
}

int main(void)
{
#define INFO(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		INFO(what_is_no_record_is_refused),
		INFO(enums_out_of_range_become_no_text),
		INFO(strings_end_and_are_printable),
		INFO(the_header_and_the_owner_come_through),
		INFO(ipv6_has_brackets),
		INFO(resets_are_named_by_the_kernel_or_by_what_was_found),
		INFO(failures_say_what_happened),
		INFO(timeouts_are_told_apart),
		INFO(a_received_reset_counts_what_was_left),
		INFO(drops_are_counted_and_named),
		INFO(an_exit_is_code_or_signal),
		INFO(the_sender_is_named),
		INFO(an_oom_victim_has_its_size),
		INFO(losses_are_events_too),
		INFO(units_and_containers_come_from_cgroup_names),
		INFO(every_kind_has_a_name_that_leads_back),
	};

	return HF_RUN_TESTS(tests);
}
