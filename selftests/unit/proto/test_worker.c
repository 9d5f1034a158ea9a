/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of workers: what is not exactly one is refused, and what ours send never is. */
#include "holdfast/worker.h"

#include <sys/socket.h>

#include "../test_util.h"

static struct hf_worker_frame sound(void)
{
	return (struct hf_worker_frame){.protocol = HF_WORKER_PROTOCOL,
					.type = HF_WORKER_PROGRESS,
					.percent = 100,
					.work = 7,
					.text = "at /etc/passwd"};
}

static void frame_that_is_not_exact_is_refused(void **state)
{
	struct hf_worker_frame f = sound();
	char longer[sizeof(f) + 1] = {};

	(void)state;
	assert_ok(hf_worker_frame_check(&f, sizeof(f)));
	assert_err(hf_worker_frame_check(&f, sizeof(f) - 1), -EBADMSG);
	assert_err(hf_worker_frame_check(&f, 0), -EBADMSG);
	memcpy(longer, &f, sizeof(f));
	assert_err(hf_worker_frame_check(longer, sizeof(longer)), -EBADMSG);
	f = sound();
	f.protocol++;
	assert_err(hf_worker_frame_check(&f, sizeof(f)), -EBADMSG);
	f = sound();
	f.type = 0;
	assert_err(hf_worker_frame_check(&f, sizeof(f)), -EBADMSG);
	f = sound();
	f.type = _HF_WORKER_FRAME_MAX;
	assert_err(hf_worker_frame_check(&f, sizeof(f)), -EBADMSG);
	f = sound();
	f.percent = 101;
	assert_err(hf_worker_frame_check(&f, sizeof(f)), -EBADMSG);
}

static void worker_cannot_say_that_it_timed_out(void **state)
{
	struct hf_worker_frame f = sound();

	(void)state;
	f.type = HF_WORKER_DONE;
	f.outcome = HF_WORKER_CANCELLED;
	assert_ok(hf_worker_frame_check(&f, sizeof(f)));
	f.outcome = HF_WORKER_TIMED_OUT;
	assert_err(hf_worker_frame_check(&f, sizeof(f)), -EBADMSG);
}

static void text_is_one_terminated_line_of_utf8(void **state)
{
	struct hf_worker_frame f = sound();

	(void)state;
	memset(f.text, 'x', sizeof(f.text));
	assert_err(hf_worker_frame_check(&f, sizeof(f)), -EBADMSG);
	f = sound();
	f.text[2] = '\n';
	assert_err(hf_worker_frame_check(&f, sizeof(f)), -EBADMSG);
	f = sound();
	f.text[2] = '\x1b';
	assert_err(hf_worker_frame_check(&f, sizeof(f)), -EBADMSG);
	f = sound();
	f.text[2] = (char)0xff;
	assert_err(hf_worker_frame_check(&f, sizeof(f)), -EBADMSG);
}

static void whatever_is_sent_arrives_as_a_sound_frame(void **state)
{
	static const struct {
		const char *sent, *arrives;
	} rows[] = {
		{"plain", "plain"},
		{"new\nline \x1b[2J", "new?line ?[2J"},
		{"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
		{"\xff\xfe", "??"},
	};
	char longer[2 * HF_WORKER_TEXT_MAX];
	struct hf_worker_frame f;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		assert_ok(hf_worker_send_progress(pair[0], 250, i, rows[i].sent));
		assert_int_equal(recv(pair[1], &f, sizeof(f), 0), sizeof(f));
		assert_ok(hf_worker_frame_check(&f, sizeof(f)));
		assert_int_equal(f.percent, 100);
		assert_string_equal(f.text, rows[i].arrives);
	}
	/* A character of two bytes lies across the end. */
	memset(longer, 'a', sizeof(longer));
	memcpy(longer + HF_WORKER_TEXT_MAX - 2, "\xc3\xbc", 2);
	longer[sizeof(longer) - 1] = 0;
	assert_ok(hf_worker_send_done(pair[0], HF_WORKER_FAILED, longer));
	assert_int_equal(recv(pair[1], &f, sizeof(f), 0), sizeof(f));
	assert_ok(hf_worker_frame_check(&f, sizeof(f)));
	assert_int_equal(f.type, HF_WORKER_DONE);
	assert_int_equal(f.outcome, HF_WORKER_FAILED);
	assert_int_equal(strlen(f.text), HF_WORKER_TEXT_MAX - 2);
	(void)hf_close(pair[1]);
	assert_err(hf_worker_send_progress(pair[0], 1, 1, "x"), -EPIPE);
	(void)hf_close(pair[0]);
}

static void outcomes_are_named_like_action_states(void **state)
{
	(void)state;
	assert_string_equal(hf_worker_outcome_name(HF_WORKER_SUCCEEDED), "succeeded");
	assert_string_equal(hf_worker_outcome_name(HF_WORKER_FAILED), "failed");
	assert_string_equal(hf_worker_outcome_name(HF_WORKER_CANCELLED), "cancelled");
	assert_string_equal(hf_worker_outcome_name(HF_WORKER_TIMED_OUT), "timed_out");
	assert_string_equal(hf_worker_outcome_name(99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_that_is_not_exact_is_refused),
		cmocka_unit_test(worker_cannot_say_that_it_timed_out),
		cmocka_unit_test(text_is_one_terminated_line_of_utf8),
		cmocka_unit_test(whatever_is_sent_arrives_as_a_sound_frame),
		cmocka_unit_test(outcomes_are_named_like_action_states),
	};
	return HF_RUN_TESTS(tests);
}
