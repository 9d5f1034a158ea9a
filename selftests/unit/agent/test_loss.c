/* SPDX-License-Identifier: Apache-2.0 */
/* The life of an outage record: joined evidence, the agent's own death, a reboot. */
#include "selftests/unit/agent/loop_util.h"

#include "userspace/agent/loss.h"
#include "userspace/agent/outage.h"

static const uint8_t boot[16] = {1}, other_boot[16] = {2};

struct world {
	const struct hf_test_dir *dir;
	sd_event *event;
	struct hf_disk *disk;
	struct hf_outages *store;
	struct hf_loss *loss;
	bool finished;
	Bus__Outage *rec;
	unsigned n_finished;
};

static void on_finished(Bus__Outage *rec, void *userdata)
{
	struct world *w = userdata;

	w->finished = true;
	w->rec = rec;
	w->n_finished++;
}

static void open_world(struct world *w, void **state)
{
	*w = (struct world){.dir = *state};
	assert_ok(sd_event_new(&w->event));
	assert_ok(hf_disk_new(w->event, w->dir->fd, &w->disk));
	assert_ok(hf_outages_open(w->dir->fd, w->disk, &w->store));
	assert_ok(hf_loss_new(w->event, w->store, on_finished, w, &w->loss));
}

static void close_world(struct world *w)
{
	hf_loss_free(w->loss);
	hf_outages_free(w->store);
	hf_disk_close(w->disk, 5000);
	sd_event_unref(w->event);
}

static struct hf_evidence reset_seen_by_the_socket(void)
{
	return (struct hf_evidence){.noticed_boot_ns = hf_now_boottime_ns(), .err = ECONNRESET};
}

static void evidence_within_five_milliseconds_is_joined(void **state)
{
	struct world w;
	struct hf_evidence ev = reset_seen_by_the_socket();
	const struct hf_kernel_fact fact = {
		.word = HF_KERNEL_SAID_RESET_RECEIVED,
		.boot_ns = ev.noticed_boot_ns - 300 * HF_NS_PER_US,
		.unacked = 9,
	};
	struct hf_verdict v;

	open_world(&w, state);
	v = hf_loss_begin(w.loss, &ev, 77, 5);
	assert_int_equal(v.cause, HF_CAUSE_PEER_RESET);
	assert_int_equal(v.by, HF_BY_SOCKET);
	assert_true(v.lone);
	assert_int_equal(hf_loss_cookie(w.loss), 77);
	/* Restored before the kernel's record is even read. */
	hf_loss_restored(w.loss);
	assert_false(w.finished);
	assert_false(hf_loss_late_kernel(w.loss, 78, &fact, NULL, 0));
	assert_true(hf_loss_late_kernel(w.loss, 77, &fact, NULL, 0));
	hf_test_run_until(w.event, &w.finished);
	assert_string_equal(w.rec->cause, "peer_reset");
	assert_string_equal(w.rec->detected_by, "kernel");
	assert_non_null(strstr(w.rec->detail, "9 bytes unacknowledged"));
	assert_int_equal(w.rec->detect_us, 300);
	assert_int_equal(w.rec->session_epoch, 5);
	assert_int_equal(w.rec->evidence->err, ECONNRESET);
	assert_string_equal(w.rec->evidence->err_name, "ECONNRESET");
	assert_true(w.rec->restored_unix_ns >= w.rec->detected_unix_ns);
	/* Too late now. */
	assert_false(hf_loss_late_kernel(w.loss, 77, &fact, NULL, 0));
	assert_int_equal(hf_loss_cookie(w.loss), 0);
	close_world(&w);
}

/* The race for a new connection won: closing the old one with unread bytes sends a reset. */
static void what_our_own_close_sends_explains_nothing(void **state)
{
	struct world w;
	struct hf_evidence ev = {
		.noticed_boot_ns = hf_now_boottime_ns(),
		.suspect_over = true,
		.kernel = {.word = HF_KERNEL_SAID_RETRANSMIT, .retransmits = 2, .unacked = 3800},
	};
	const struct hf_kernel_fact closing = {
		.word = HF_KERNEL_SAID_RESET_SENT,
		.boot_ns = ev.noticed_boot_ns + 100 * HF_NS_PER_US,
		.reason = "TCP_ABORT_ON_CLOSE",
		.unread = 36,
	};

	ev.kernel.boot_ns = ev.noticed_boot_ns - 300 * HF_NS_PER_MS;
	open_world(&w, state);
	(void)hf_loss_begin(w.loss, &ev, 77, 5);
	hf_loss_restored(w.loss);
	assert_true(hf_loss_late_kernel(w.loss, 77, &closing, NULL, 0));
	hf_test_run_until(w.event, &w.finished);
	assert_string_equal(w.rec->cause, "blackhole");
	close_world(&w);
}

static void a_record_is_not_finished_while_the_outage_lasts(void **state)
{
	struct world w;
	struct hf_evidence ev = reset_seen_by_the_socket();
	Bus__Attempt a = BUS__ATTEMPT__INIT;
	uint64_t end;

	open_world(&w, state);
	(void)hf_loss_begin(w.loss, &ev, 77, 5);
	end = hf_now_monotonic_ns() + 20 * HF_NS_PER_MS;
	while (hf_now_monotonic_ns() < end)
		assert_ok(sd_event_run(w.event, 1000));
	assert_false(w.finished);
	assert_non_null(hf_loss_open(w.loss));
	assert_string_equal(hf_loss_last_cause(w.loss), "peer_reset");
	hf_loss_attempt(w.loss, &a);
	hf_loss_hint(w.loss, "tls says no", NULL, "");
	hf_loss_restored(w.loss);
	assert_true(w.finished);
	assert_null(hf_loss_open(w.loss));
	assert_int_equal(w.rec->n_attempts, 1);
	assert_string_equal(w.rec->evidence->tls, "tls says no");
	assert_true(w.rec->outage_us >= 20000);
	close_world(&w);
}

static void a_second_loss_finishes_the_first_record(void **state)
{
	struct world w;
	struct hf_evidence ev = reset_seen_by_the_socket();

	open_world(&w, state);
	(void)hf_loss_begin(w.loss, &ev, 1, 5);
	hf_loss_restored(w.loss);
	ev = (struct hf_evidence){.noticed_boot_ns = hf_now_boottime_ns(), .tls = HF_TLS_EOF};
	(void)hf_loss_begin(w.loss, &ev, 2, 6);
	assert_int_equal(w.n_finished, 1);
	assert_string_equal(w.rec->cause, "peer_reset");
	assert_string_equal(hf_loss_open(w.loss)->cause, "peer_closed");
	assert_int_equal(hf_outages_count(w.store), 2);
	close_world(&w);
}

static struct hf_sup_last_exit exit_record(enum hf_exit_cause cause, int code)
{
	return (struct hf_sup_last_exit){
		.cause = cause,
		.pid = 100,
		.code = code,
		.signal = 9,
		.by_pid = 4711,
		.by_comm = "kill",
		.from_kernel = 1,
		.at_boot_ns = hf_now_boottime_ns() - HF_NS_PER_S,
	};
}

static void each_end_of_the_agent_has_its_cause(void **state)
{
	static const struct {
		enum hf_exit_cause exit;
		int code;
		const char *goodbye;
		enum hf_cause cause;
	} table[] = {
		{HF_EXIT_KILLED_BY_OPERATOR, -1, "", HF_CAUSE_AGENT_KILLED},
		{HF_EXIT_OOM, -1, "", HF_CAUSE_AGENT_OOM},
		{HF_EXIT_LIMIT, -1, "", HF_CAUSE_AGENT_OOM},
		{HF_EXIT_CRASHED, -1, "", HF_CAUSE_AGENT_CRASH},
		{HF_EXIT_SIGNALLED, -1, "", HF_CAUSE_AGENT_CRASH},
		{HF_EXIT_HUNG, -1, "", HF_CAUSE_AGENT_HANG},
		{HF_EXIT_STOPPED_BY_REQUEST, 0, "agent_update", HF_CAUSE_AGENT_UPDATE},
		{HF_EXIT_STOPPED_BY_REQUEST, 0, "", HF_CAUSE_AGENT_STOPPED},
		{HF_EXIT_EXITED, 0, "agent_stopped", HF_CAUSE_AGENT_STOPPED},
		{HF_EXIT_EXITED, 0, "", HF_CAUSE_AGENT_STOPPED},
		{HF_EXIT_EXITED, 111, "", HF_CAUSE_AGENT_CRASH},
		{HF_EXIT_UNKNOWN, 0, "", HF_CAUSE_UNKNOWN},
		{_HF_EXIT_MAX, 0, "", HF_CAUSE_UNKNOWN},
		{(enum hf_exit_cause)4000, 0, "garbage", HF_CAUSE_UNKNOWN},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_sup_last_exit e = exit_record(table[i].exit, table[i].code);

		assert_int_equal(hf_loss_cause_of_exit(&e, table[i].goodbye), table[i].cause);
	}
}

static void a_killed_agent_names_its_killer_and_the_time_it_died(void **state)
{
	struct world w;
	struct hf_blackbox_record b = {
		.session_epoch = 9,
		.last_alive_boot_ns = hf_now_boottime_ns() - 10 * HF_NS_PER_S,
	};
	struct hf_sup_last_exit e = exit_record(HF_EXIT_KILLED_BY_OPERATOR, -1);

	memcpy(b.boot_id, boot, sizeof(boot));
	open_world(&w, state);
	hf_loss_from_predecessor(w.loss, &b, boot);
	assert_non_null(hf_loss_open(w.loss));
	/* Online again before the watchdog has told us how we died. */
	hf_loss_restored(w.loss);
	assert_false(w.finished);
	hf_loss_last_exit(w.loss, &e);
	assert_true(w.finished);
	assert_string_equal(w.rec->cause, "agent_killed");
	assert_string_equal(w.rec->detected_by, "kernel");
	assert_non_null(strstr(w.rec->detail, "4711"));
	assert_int_equal(w.rec->session_epoch, 9);
	assert_int_equal(w.rec->evidence->exit->by_pid, 4711);
	assert_string_equal(w.rec->evidence->exit->by_comm, "kill");
	assert_true(w.rec->outage_us >= 1000000 && w.rec->outage_us < 5000000);
	/* A watchdog that says it twice changes nothing. */
	hf_loss_last_exit(w.loss, &e);
	assert_int_equal(w.n_finished, 1);
	close_world(&w);
}

static void an_agent_that_was_offline_makes_no_outage_by_dying(void **state)
{
	struct world w;
	struct hf_blackbox_record b = {.last_alive_boot_ns = hf_now_boottime_ns()};
	struct hf_sup_last_exit e = exit_record(HF_EXIT_KILLED_BY_OPERATOR, -1);

	memcpy(b.boot_id, boot, sizeof(boot));
	open_world(&w, state);
	hf_loss_from_predecessor(w.loss, &b, boot);
	hf_loss_last_exit(w.loss, &e);
	hf_loss_restored(w.loss);
	assert_int_equal(hf_outages_count(w.store), 0);
	assert_int_equal(w.n_finished, 0);
	close_world(&w);
}

static void an_outage_outlives_the_agent_that_began_it(void **state)
{
	struct world w;
	struct hf_evidence ev = reset_seen_by_the_socket();
	struct hf_blackbox_record b = {};
	struct hf_sup_last_exit e = exit_record(HF_EXIT_CRASHED, -1);

	open_world(&w, state);
	(void)hf_loss_begin(w.loss, &ev, 1, 5);
	(void)snprintf(b.outage_id, sizeof(b.outage_id), "%s", hf_loss_open(w.loss)->id);
	close_world(&w);

	memcpy(b.boot_id, boot, sizeof(boot));
	open_world(&w, state);
	hf_loss_from_predecessor(w.loss, &b, boot);
	hf_loss_last_exit(w.loss, &e);
	hf_loss_restored(w.loss);
	assert_true(w.finished);
	assert_string_equal(w.rec->id, b.outage_id);
	assert_string_equal(w.rec->cause, "peer_reset");
	assert_int_equal(hf_outages_count(w.store), 1);
	close_world(&w);
}

static void a_reboot_without_goodbye_is_unknown_with_one_a_shutdown(void **state)
{
	for (unsigned stopped = 0; stopped < 2; stopped++) {
		struct world w;
		struct hf_blackbox_record b = {
			.session_epoch = 9,
			.last_alive_boot_ns = UINT64_MAX / 2, /* of a boot that ran longer */
			.last_alive_real_ns = hf_now_realtime_ns() - 60 * HF_NS_PER_S,
			.stopped = stopped,
		};

		(void)snprintf(b.reason, sizeof(b.reason), "host_shutdown");
		memcpy(b.boot_id, other_boot, sizeof(boot));
		open_world(&w, state);
		hf_loss_from_predecessor(w.loss, &b, boot);
		hf_loss_restored(w.loss);
		hf_test_run_until(w.event, &w.finished);
		assert_string_equal(w.rec->cause, stopped ? "host_shutdown" : "unknown");
		assert_int_equal(w.rec->began_unix_ns, b.last_alive_real_ns);
		assert_true(w.rec->outage_us >= 60000000 && w.rec->outage_us < 70000000);
		close_world(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(evidence_within_five_milliseconds_is_joined,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(what_our_own_close_sends_explains_nothing,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(a_record_is_not_finished_while_the_outage_lasts,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(a_second_loss_finishes_the_first_record,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test(each_end_of_the_agent_has_its_cause),
		cmocka_unit_test_setup_teardown(
			a_killed_agent_names_its_killer_and_the_time_it_died, hf_test_dir_setup,
			hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(an_agent_that_was_offline_makes_no_outage_by_dying,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(an_outage_outlives_the_agent_that_began_it,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(
			a_reboot_without_goodbye_is_unknown_with_one_a_shutdown, hf_test_dir_setup,
			hf_test_dir_teardown),
	};
	return HF_RUN_TESTS(tests);
}
