/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's part of actions with a portal and a watchdog made of callbacks: what it says to whom,
 * and what of it survives its own death.
 */
#include "userspace/agent/action.h"

#include "selftests/unit/agent/loop_util.h"

#include <sys/mman.h>

#include "action.pb-c.h"
#include "base/str.h"
#include "holdfast/action.h"
#include "holdfast/session.h"
#include "userspace/proto/frame.h"

#define HOST  "01900000-0000-7000-8000-00000000aaaa"
#define ID    "01900000-0000-7000-8000-000000000001"
#define ID_2  "01900000-0000-7000-8000-000000000002"
#define NOW   (UINT64_C(1800000000) * HF_NS_PER_S)
#define HEARD 64

struct fixture {
	struct hf_test_dir *dir;
	sd_event *event;
	struct hf_disk *disk;
	struct hf_config config;
	struct hf_agent_actions *a;
	bool no_watchdog;
	uint64_t portal_ns;
	/* "state accepted", "result succeeded", "time_ask", … and "ACTION", "ACTION_QUERY", … */
	char heard[HEARD][64];
	size_t n;
	char text[HF_ACTION_TEXT_MAX], reason[32];
	size_t json_len;
};

static void note(struct fixture *f, const char *what, const char *more)
{
	assert_true(f->n < HEARD);
	hf_strf(f->heard[f->n++], sizeof(f->heard[0]), "%s%s%s", what, more ? " " : "",
		more ? more : "");
}

static int on_send(const char *type, ProtobufCMessage *body, void *userdata)
{
	struct fixture *f = userdata;

	if (hf_streq(type, HF_MSG_STATE)) {
		note(f, type, ((Action__State *)body)->state);
	} else if (hf_streq(type, HF_MSG_RESULT)) {
		const Action__Result *m = (Action__Result *)body;

		note(f, type, m->state);
		hf_strlcpy(f->text, m->text, sizeof(f->text));
		hf_strlcpy(f->reason, m->reason, sizeof(f->reason));
		f->json_len = m->json.len;
	} else {
		note(f, type, NULL);
	}
	return 0;
}

static int on_blob(enum hf_sup_type type, const void *bytes, size_t len, void *userdata)
{
	struct fixture *f = userdata;

	(void)bytes;
	if (f->no_watchdog)
		return -ENOTCONN;
	assert_true(len <= HF_SUP_BLOB_MAX);
	note(f, hf_sup_type_name(type), NULL);
	return 0;
}

static int on_id(enum hf_sup_type type, const char *id, void *userdata)
{
	struct fixture *f = userdata;

	(void)id;
	if (f->no_watchdog)
		return -ENOTCONN;
	note(f, hf_sup_type_name(type), NULL);
	return 0;
}

static uint64_t on_time(void *userdata)
{
	return ((struct fixture *)userdata)->portal_ns;
}

static const struct hf_agent_actions_callbacks callbacks = {
	.send = on_send,
	.blob = on_blob,
	.id = on_id,
	.portal_unix_ns = on_time,
};

static void open_all(struct fixture *f)
{
	assert_ok(hf_disk_new(f->event, f->dir->fd, &f->disk));
	assert_ok(hf_agent_actions_new(f->event, f->dir->fd, f->disk, &f->config, &callbacks, f,
				       &f->a));
}

/* A kill after what was queued reached the disk. */
static void die(struct fixture *f)
{
	f->disk = hf_disk_free(f->disk);
	f->a = hf_agent_actions_free(f->a);
	f->n = 0;
	open_all(f);
}

static int setup(void **state)
{
	static char restart[] = "restart", scan[] = "scan";
	struct fixture *f = calloc(1, sizeof(*f));
	void *dir;

	if (hf_test_dir_setup(&dir) != 0 || sd_event_new(&f->event) < 0)
		return -1;
	f->dir = dir;
	f->portal_ns = NOW;
	f->config.actions.allow.items = calloc(2, sizeof(char *));
	f->config.actions.allow.items[0] = restart;
	f->config.actions.allow.items[1] = scan;
	f->config.actions.allow.n = 2;
	open_all(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	void *dir = f->dir;

	f->disk = hf_disk_free(f->disk);
	f->a = hf_agent_actions_free(f->a);
	sd_event_unref(f->event);
	free(f->config.actions.allow.items);
	free(f);
	return hf_test_dir_teardown(&dir);
}

/* Lets the disk thread's word arrive. */
static void settle(struct fixture *f)
{
	uint64_t end = hf_now_monotonic_ns() + HF_TEST_DEADLINE_NS;

	while (!hf_disk_idle(f->disk))
		assert_true(hf_now_monotonic_ns() < end);
	while (sd_event_run(f->event, 0) > 0)
		;
}

static void heard(struct fixture *f, const char *all)
{
	char got[HEARD * 64] = "";
	size_t len = 0;

	for (size_t i = 0; i < f->n; i++)
		len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s", i ? ", " : "",
					f->heard[i]);
	assert_string_equal(got, all);
	f->n = 0;
}

static void online(struct fixture *f)
{
	hf_agent_actions_online(f->a, HOST, "keys", 4);
}

static void say(struct fixture *f, const char *type, ProtobufCMessage *m)
{
	struct hf_buf buf = {};

	assert_ok(hf_pb_pack(m, &buf));
	assert_ok(hf_agent_actions_message(f->a, type, buf.data, buf.len));
	hf_buf_done(&buf);
}

struct order {
	const char *id, *inner, *kind, *endpoint;
	uint64_t expires;
	bool known;
	size_t pad;
};

static void deliver(struct fixture *f, const struct order *o)
{
	static uint8_t pad[8192];
	Action__Body b = ACTION__BODY__INIT;
	Action__Envelope e = ACTION__ENVELOPE__INIT;
	Action__Deliver d = ACTION__DELIVER__INIT;
	struct hf_buf body = {}, envelope = {};

	b.action_id = (char *)(o->inner ? o->inner : o->id ? o->id : ID);
	b.endpoint_id = (char *)(o->endpoint ? o->endpoint : HOST);
	b.kind = (char *)(o->kind ? o->kind : "restart");
	b.issued_unix_ns = NOW;
	b.expires_unix_ns = o->expires ? o->expires : NOW + 60 * HF_NS_PER_S;
	assert_ok(hf_pb_pack(&b.base, &body));
	e.body = (ProtobufCBinaryData){body.len, body.data};
	e.signature = (ProtobufCBinaryData){o->pad, pad};
	assert_ok(hf_pb_pack(&e.base, &envelope));
	d.action_id = (char *)(o->id ? o->id : ID);
	d.envelope = (ProtobufCBinaryData){envelope.len, envelope.data};
	d.known = o->known;
	say(f, HF_MSG_ACTION, &d.base);
	hf_buf_done(&body);
	hf_buf_done(&envelope);
}

static void cancel(struct fixture *f)
{
	Action__Cancel m = ACTION__CANCEL__INIT;

	m.action_id = (char *)ID;
	say(f, HF_MSG_CANCEL, &m.base);
}

static void confirm(struct fixture *f)
{
	Action__ResultAck m = ACTION__RESULT_ACK__INIT;

	m.action_id = (char *)ID;
	say(f, HF_MSG_RESULT_ACK, &m.base);
}

static void watchdog_says(struct fixture *f, enum hf_action_state state, size_t result)
{
	struct hf_sup_action_state m = {.id = ID, .state = state, .result_bytes = result};
	int fd = result ? memfd_create("result", MFD_CLOEXEC) : -1;

	if (fd >= 0)
		assert_int_equal(ftruncate(fd, (off_t)result), 0);
	hf_strlcpy(m.text, "as told", sizeof(m.text));
	hf_agent_actions_state(f->a, &m, fd, -1);
	if (fd >= 0)
		close(fd);
}

/* Takes ID up to this state; nothing is left in heard. */
static void bring_to(struct fixture *f, enum hf_action_state state)
{
	online(f);
	deliver(f, &(struct order){});
	settle(f);
	if (state != HF_ACTION_ACCEPTED)
		watchdog_says(f, HF_ACTION_RUNNING, 0);
	if (hf_action_state_final(state))
		watchdog_says(f, state, 0);
	settle(f);
	f->n = 0;
}

static void is_local_state(struct fixture *f, const char *state)
{
	Bus__Actions *list = hf_agent_actions_list(f->a, 1);

	assert_non_null(list);
	assert_int_equal(list->n_items, 1);
	assert_string_equal(list->items[0]->state, state);
	bus__actions__free_unpacked(list, NULL);
}

/* ---- the way there --------------------------------------------------------------------------- */

static void accepted_is_said_when_it_is_on_disk_and_then_handed_over(void **state)
{
	struct fixture *f = *state;

	online(f);
	heard(f, "ACTION_KEYS");
	deliver(f, &(struct order){});
	heard(f, "");
	settle(f);
	heard(f, "state accepted, ACTION");
	watchdog_says(f, HF_ACTION_RUNNING, 0);
	heard(f, "state running");
	watchdog_says(f, HF_ACTION_SUCCEEDED, 7);
	heard(f, "result succeeded");
	assert_int_equal(f->json_len, 7);
	assert_string_equal(f->text, "as told");
	confirm(f);
	heard(f, "ACTION_FORGET");
	confirm(f);
	heard(f, "");
	is_local_state(f, "succeeded");
}

static void a_hundred_duplicates_are_one_action(void **state)
{
	struct fixture *f = *state;

	online(f);
	f->n = 0;
	for (unsigned i = 0; i < 50; i++)
		deliver(f, &(struct order){});
	heard(f, ""); /* before the disk's word: nobody hears anything */
	settle(f);
	heard(f, "state accepted, ACTION");
	for (unsigned i = 0; i < 25; i++) {
		deliver(f, &(struct order){.known = i % 2});
		heard(f, "state accepted, ACTION"); /* the watchdog knows its id */
	}
	watchdog_says(f, HF_ACTION_RUNNING, 0);
	f->n = 0;
	for (unsigned i = 0; i < 25; i++) {
		deliver(f, &(struct order){.known = i % 2});
		heard(f, "state running, ACTION_QUERY"); /* never handed over again */
	}
}

static void without_a_watchdog_it_waits_and_goes_when_there_is_one(void **state)
{
	struct fixture *f = *state;

	f->no_watchdog = true;
	online(f);
	deliver(f, &(struct order){});
	settle(f);
	heard(f, "state accepted");
	f->no_watchdog = false;
	hf_agent_actions_watchdog(f->a);
	heard(f, "ACTION_KEYS, ACTION");
}

static void the_portals_time_is_fetched_when_the_watchdog_wants_it(void **state)
{
	struct fixture *f = *state;
	struct hf_sup_action_nonce wanted = {.time_wanted = 1}, good = {}, bad = {.error = -EXDEV};

	bring_to(f, HF_ACTION_ACCEPTED);
	hf_agent_actions_nonce(f->a, &wanted);
	heard(f, "time_ask");
	assert_ok(hf_agent_actions_message(f->a, HF_MSG_TIME, "proof", 5));
	heard(f, "ACTION_TIME");
	hf_agent_actions_nonce(f->a, &good);
	heard(f, "ACTION");
	hf_agent_actions_nonce(f->a, &bad);
	heard(f, "");
}

static void what_cannot_be_is_refused_here_and_remembered(void **state)
{
	static const struct {
		struct order order;
		const char *state, *reason;
	} rows[] = {
		{{.kind = "stop"}, "rejected", "not_allowed"},
		{{.kind = "explode"}, "rejected", "unknown_kind"},
		{{.endpoint = ID_2}, "rejected", "wrong_endpoint"},
		{{.inner = ID_2}, "rejected", "malformed"},
		{{.expires = NOW}, "expired", "expired"},
		{{.pad = HF_ACTION_ENVELOPE_MAX}, "rejected", "oversized"},
	};
	struct fixture *f = *state;
	char id[HF_ACTION_ID_SIZE], want[64];

	online(f);
	f->n = 0;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		struct order o = rows[i].order;

		hf_strf(id, sizeof(id), "01900000-0000-7000-8000-0000000001%02zu", i);
		o.id = id;
		hf_strf(want, sizeof(want), "result %s", rows[i].state);
		deliver(f, &o);
		heard(f, "");
		settle(f);
		heard(f, want);
		assert_string_equal(f->reason, rows[i].reason);
		/* Again, although it would be right now: the same answer. */
		deliver(f, &(struct order){.id = id});
		heard(f, want);
	}
	die(f);
	online(f);
	heard(f, "ACTION_KEYS, result rejected, result rejected, result rejected, result rejected, "
		 "result expired, result rejected");
}

static void the_portals_clock_decides_and_not_ours(void **state)
{
	struct fixture *f = *state;

	/* This machine's own clock is years away from NOW in either direction. */
	online(f);
	f->n = 0;
	f->portal_ns = NOW + 59 * HF_NS_PER_S;
	deliver(f, &(struct order){});
	settle(f);
	heard(f, "state accepted, ACTION");
	f->portal_ns = NOW + 60 * HF_NS_PER_S;
	deliver(f, &(struct order){.id = ID_2});
	settle(f);
	heard(f, "result expired");
}

static void a_disk_that_refuses_means_rejected_and_never_handed_over(void **state)
{
	struct fixture *f = *state;

	online(f);
	f->n = 0;
	assert_int_equal(unlinkat(f->dir->fd, "actions", AT_REMOVEDIR), 0);
	deliver(f, &(struct order){});
	settle(f);
	heard(f, "result rejected");
	assert_string_equal(f->reason, "journal");
	/* The portal did not hear it and sends again, and the disk is well: it is new. */
	assert_int_equal(mkdirat(f->dir->fd, "actions", 0700), 0);
	deliver(f, &(struct order){});
	settle(f);
	heard(f, "state accepted, ACTION");
}

static void garbage_is_told_apart(void **state)
{
	struct fixture *f = *state;
	Action__Deliver d = ACTION__DELIVER__INIT;

	online(f);
	f->n = 0;
	assert_err(hf_agent_actions_message(f->a, HF_MSG_ACTION, "\xff", 1), -EBADMSG);
	assert_err(hf_agent_actions_message(f->a, HF_MSG_RESULT_ACK, "\x0a\xff", 2), -EBADMSG);
	assert_ok(hf_agent_actions_message(f->a, "of a newer portal", "\xff", 1));
	d.action_id = (char *)"../../etc/passwd";
	say(f, HF_MSG_ACTION, &d.base);
	heard(f, "result rejected");
	assert_string_equal(f->reason, "malformed");
}

/* ---- death ----------------------------------------------------------------------------------- */

static void a_death_leaves_each_state_as_it_was(void **state)
{
	/* Final: the result is the watchdog's to give. */
	static const struct {
		enum hf_action_state before;
		const char *after;
	} rows[] = {
		{HF_ACTION_ACCEPTED, "ACTION_KEYS, state accepted, ACTION"},
		{HF_ACTION_RUNNING, "ACTION_KEYS, state running, ACTION_QUERY"},
		{HF_ACTION_SUCCEEDED, "ACTION_KEYS, ACTION_QUERY"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		bring_to(f, rows[i].before);
		die(f);
		online(f);
		/* In the order of online(): keys, states, then what is handed over. */
		heard(f, rows[i].after);
	}
}

static void a_death_before_the_disk_has_it_leaves_nothing(void **state)
{
	struct fixture *f = *state;

	online(f);
	assert_int_equal(unlinkat(f->dir->fd, "actions", AT_REMOVEDIR), 0);
	deliver(f, &(struct order){});
	die(f);
	online(f);
	heard(f, "ACTION_KEYS");
}

static void the_result_is_said_again_until_it_is_confirmed(void **state)
{
	struct fixture *f = *state;

	bring_to(f, HF_ACTION_FAILED);
	for (unsigned i = 0; i < 3; i++) {
		hf_agent_actions_offline(f->a);
		online(f);
		heard(f, "ACTION_KEYS, ACTION_QUERY");
		watchdog_says(f, HF_ACTION_FAILED, 5);
		heard(f, "result failed");
		assert_int_equal(f->json_len, 5);
	}
	confirm(f);
	settle(f);
	die(f);
	online(f);
	heard(f, "ACTION_KEYS");
	/* The confirmation may have been lost on its way to the watchdog. */
	hf_agent_actions_watchdog(f->a);
	heard(f, "ACTION_KEYS, ACTION_FORGET");
	/* A portal that lost it hears it again. */
	deliver(f, &(struct order){});
	heard(f, "ACTION_QUERY");
	watchdog_says(f, HF_ACTION_FAILED, 0);
	heard(f, "result failed");
}

/* ---- what the watchdog does not know ------------------------------------------------------------ */

static void one_that_ran_and_nobody_knows_is_indeterminate(void **state)
{
	struct fixture *f = *state;

	bring_to(f, HF_ACTION_RUNNING);
	watchdog_says(f, HF_ACTION_UNKNOWN, 0);
	heard(f, "result indeterminate");
	assert_string_equal(f->reason, "lost");
	/* What comes later changes nothing any more. */
	watchdog_says(f, HF_ACTION_RUNNING, 0);
	heard(f, "");
	is_local_state(f, "indeterminate");
}

static void one_that_was_not_begun_stays_accepted(void **state)
{
	struct fixture *f = *state;

	bring_to(f, HF_ACTION_ACCEPTED);
	watchdog_says(f, HF_ACTION_UNKNOWN, 0);
	heard(f, "");
	is_local_state(f, "accepted");
}

static void a_lost_journal_asks_the_watchdog_and_never_begins(void **state)
{
	struct fixture *f = *state;

	online(f);
	f->n = 0;
	deliver(f, &(struct order){.known = true});
	heard(f, "ACTION_QUERY");
	watchdog_says(f, HF_ACTION_UNKNOWN, 0);
	heard(f, "state unknown");
	deliver(f, &(struct order){.known = true});
	heard(f, "ACTION_QUERY");
	watchdog_says(f, HF_ACTION_SUCCEEDED, 4);
	heard(f, "result succeeded");
}

static void a_torn_record_asks_the_watchdog_and_never_begins(void **state)
{
	struct fixture *f = *state;
	int fd;

	bring_to(f, HF_ACTION_ACCEPTED);
	fd = openat(f->dir->fd, "actions/" ID, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_true(fd >= 0);
	close(fd);
	die(f);
	online(f);
	heard(f, "ACTION_KEYS, state running, ACTION_QUERY");
	watchdog_says(f, HF_ACTION_UNKNOWN, 0);
	heard(f, "result indeterminate");
}

/* ---- cancelling ----------------------------------------------------------------------------------- */

static void a_cancellation_before_it_came_is_final(void **state)
{
	struct fixture *f = *state;

	online(f);
	f->n = 0;
	cancel(f);
	heard(f, "result cancelled");
}

static void a_cancellation_while_it_is_written_is_never_handed_over(void **state)
{
	struct fixture *f = *state;

	online(f);
	f->n = 0;
	deliver(f, &(struct order){});
	cancel(f);
	heard(f, "");
	settle(f);
	heard(f, "result cancelled");
}

static void a_cancellation_later_is_the_watchdogs_to_answer(void **state)
{
	struct fixture *f = *state;

	bring_to(f, HF_ACTION_RUNNING);
	cancel(f);
	heard(f, "ACTION_CANCEL");
	/* It was done before it heard of it. */
	watchdog_says(f, HF_ACTION_SUCCEEDED, 0);
	heard(f, "result succeeded");
	cancel(f);
	heard(f, "ACTION_QUERY"); /* and stays so */
}

static void a_cancellation_of_what_the_watchdog_never_got(void **state)
{
	struct fixture *f = *state;

	f->no_watchdog = true;
	online(f);
	deliver(f, &(struct order){});
	settle(f);
	cancel(f);
	heard(f, "state accepted");
	f->no_watchdog = false;
	hf_agent_actions_watchdog(f->a);
	heard(f, "ACTION_KEYS, ACTION_CANCEL");
	watchdog_says(f, HF_ACTION_UNKNOWN, 0);
	heard(f, "result cancelled");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(accepted_is_said_when_it_is_on_disk_and_then_handed_over),
		T(a_hundred_duplicates_are_one_action),
		T(without_a_watchdog_it_waits_and_goes_when_there_is_one),
		T(the_portals_time_is_fetched_when_the_watchdog_wants_it),
		T(what_cannot_be_is_refused_here_and_remembered),
		T(the_portals_clock_decides_and_not_ours),
		T(a_disk_that_refuses_means_rejected_and_never_handed_over),
		T(garbage_is_told_apart),
		T(a_death_leaves_each_state_as_it_was),
		T(a_death_before_the_disk_has_it_leaves_nothing),
		T(the_result_is_said_again_until_it_is_confirmed),
		T(one_that_ran_and_nobody_knows_is_indeterminate),
		T(one_that_was_not_begun_stays_accepted),
		T(a_lost_journal_asks_the_watchdog_and_never_begins),
		T(a_torn_record_asks_the_watchdog_and_never_begins),
		T(a_cancellation_before_it_came_is_final),
		T(a_cancellation_while_it_is_written_is_never_handed_over),
		T(a_cancellation_later_is_the_watchdogs_to_answer),
		T(a_cancellation_of_what_the_watchdog_never_got),
	};
	return HF_RUN_TESTS(tests);
}
