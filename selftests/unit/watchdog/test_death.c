/* SPDX-License-Identifier: Apache-2.0 */
/* Why a process ended: every kind of evidence and its cause. */
#include "watchdog/death.h"

#include <signal.h>

#include "../test_util.h"

#define PID          4242u
#define EXITED(code) ((code) << 8)
#define CORE         0x80

static struct hf_exit_verdict verdict(int status, uint32_t by_pid, int sig)
{
	struct hf_exit_verdict v = {
		.sender = {.boot_ns = 90, .pid = by_pid, .uid = 1000, .signal = (uint32_t)sig},
		.boot_ns = 100,
		.start_ns = 10,
		.status = (uint32_t)status,
	};

	memcpy(v.sender.comm, "bash", 5);
	return v;
}

static void causes_follow_the_evidence(void **state)
{
	static const struct {
		int status;
		uint32_t by_pid; /* 0: the kernel */
		int by_sig;
		bool oom;
		enum hf_exit_cause cause;
		uint32_t want_by;
		int code, signal;
	} cases[] = {
		{EXITED(0), 0, 0, false, HF_EXIT_EXITED, 0, 0, 0},
		{EXITED(100), 0, 0, false, HF_EXIT_EXITED, 0, 100, 0},
		/* a handled SIGTERM leaves a sender behind, but the exit was its own */
		{EXITED(1), 77, SIGTERM, false, HF_EXIT_EXITED, 0, 1, 0},
		{SIGKILL, 77, SIGKILL, false, HF_EXIT_KILLED_BY_OPERATOR, 77, -1, SIGKILL},
		{SIGTERM, 77, SIGTERM, false, HF_EXIT_KILLED_BY_OPERATOR, 77, -1, SIGTERM},
		/* a fault's signal, sent by somebody: not a crash */
		{SIGSEGV, 77, SIGSEGV, false, HF_EXIT_KILLED_BY_OPERATOR, 77, -1, SIGSEGV},
		{SIGSEGV, 0, SIGSEGV, false, HF_EXIT_CRASHED, 0, -1, SIGSEGV},
		{SIGABRT, PID, SIGABRT, false, HF_EXIT_CRASHED, PID, -1, SIGABRT},
		{SIGKILL, PID, SIGKILL, false, HF_EXIT_SIGNALLED, PID, -1, SIGKILL},
		{SIGKILL, 0, SIGKILL, true, HF_EXIT_OOM, 0, -1, SIGKILL},
		{SIGKILL, 0, SIGKILL, false, HF_EXIT_SIGNALLED, 0, -1, SIGKILL},
		{SIGALRM, 0, SIGALRM, false, HF_EXIT_SIGNALLED, 0, -1, SIGALRM},
		/* the recorded sender is of another signal than the one that ended it */
		{SIGSEGV, 77, SIGTERM, false, HF_EXIT_CRASHED, 0, -1, SIGSEGV},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		struct hf_exit_verdict v =
			verdict(cases[i].status, cases[i].by_pid, cases[i].by_sig);
		struct hf_death_evidence e = {
			.pid = PID, .has_status = true, .status = cases[i].status, .verdict = &v};
		struct hf_death d;

		v.oom = cases[i].oom;
		hf_death_judge(&e, &d);
		if (d.cause != cases[i].cause || d.by_pid != cases[i].want_by ||
		    d.code != cases[i].code || d.signal != cases[i].signal) {
			print_error("case %zu: %s by %u code %d signal %d\n", i,
				    hf_exit_cause_name(d.cause), d.by_pid, d.code, d.signal);
			fail();
		}
		assert_int_equal(d.pid, PID);
		assert_true(d.from_kernel);
		assert_int_equal(d.at_boot_ns, 100);
		assert_int_equal(d.exit_to_exec_us, 0);
	}
}

static void killers_name_is_told(void **state)
{
	struct hf_exit_verdict v = verdict(SIGKILL, 77, SIGKILL);
	struct hf_death_evidence e = {
		.pid = PID, .has_status = true, .status = SIGKILL, .verdict = &v};
	struct hf_death d;

	(void)state;
	hf_death_judge(&e, &d);
	assert_string_equal(d.by_comm, "bash");
	assert_int_equal(d.by_uid, 1000);
	assert_string_equal(d.text, "killed by SIGKILL from pid 77 'bash', uid 1000");
}

static void unterminated_or_hostile_comm_is_harmless(void **state)
{
	struct hf_exit_verdict v = verdict(SIGKILL, 77, SIGKILL);
	struct hf_death_evidence e = {
		.pid = PID, .has_status = true, .status = SIGKILL, .verdict = &v};
	struct hf_death d;

	(void)state;
	memset(v.sender.comm, '\n', sizeof(v.sender.comm));
	hf_death_judge(&e, &d);
	assert_string_equal(d.by_comm, "???????????????");
}

static void without_the_kernel_the_sender_is_unknown_and_said_so(void **state)
{
	struct hf_death_evidence e = {
		.pid = PID, .has_status = true, .status = SIGKILL, .seen_boot_ns = 555};
	struct hf_death d;

	(void)state;
	hf_death_judge(&e, &d);
	assert_int_equal(d.cause, HF_EXIT_SIGNALLED);
	assert_int_equal(d.by_pid, 0);
	assert_false(d.from_kernel);
	assert_int_equal(d.at_boot_ns, 555);
	assert_string_equal(d.text, "ended by SIGKILL, sender unknown");
}

static void adopted_process_has_its_status_from_the_verdict(void **state)
{
	struct hf_exit_verdict v = verdict(SIGSEGV | CORE, 0, SIGSEGV);
	struct hf_death_evidence e = {.pid = PID, .verdict = &v};
	struct hf_death d;

	(void)state;
	hf_death_judge(&e, &d);
	assert_int_equal(d.cause, HF_EXIT_CRASHED);
	assert_true(d.core);
	assert_string_equal(d.text, "ended by SIGSEGV from the kernel, core dumped");
	e.verdict = NULL;
	hf_death_judge(&e, &d);
	assert_int_equal(d.cause, HF_EXIT_UNKNOWN);
	assert_int_equal(d.code, -1);
	assert_string_equal(d.text, "ended unseen, status unknown");
}

static void our_own_intent_comes_first(void **state)
{
	struct hf_exit_verdict v = verdict(SIGKILL, 77, SIGKILL);
	struct hf_death_evidence e = {.pid = PID,
				      .has_status = true,
				      .status = SIGKILL,
				      .verdict = &v,
				      .intent = HF_EXIT_HUNG};
	struct hf_death d;

	(void)state;
	hf_death_judge(&e, &d);
	assert_int_equal(d.cause, HF_EXIT_HUNG);
	e.intent = HF_EXIT_STOPPED_BY_REQUEST;
	e.unanswered = true;
	hf_death_judge(&e, &d);
	assert_int_equal(d.cause, HF_EXIT_STOPPED_BY_REQUEST);
	assert_non_null(strstr(d.text, "SIGTERM did not help"));
	e.intent = HF_EXIT_LIMIT;
	hf_death_judge(&e, &d);
	assert_int_equal(d.cause, HF_EXIT_LIMIT);
	assert_int_equal(d.signal, SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(causes_follow_the_evidence),
		cmocka_unit_test(killers_name_is_told),
		cmocka_unit_test(unterminated_or_hostile_comm_is_harmless),
		cmocka_unit_test(without_the_kernel_the_sender_is_unknown_and_said_so),
		cmocka_unit_test(adopted_process_has_its_status_from_the_verdict),
		cmocka_unit_test(our_own_intent_comes_first),
	};
	return HF_RUN_TESTS(tests);
}
