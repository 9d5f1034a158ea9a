/* SPDX-License-Identifier: Apache-2.0 */
/* The store of outage records over restarts, damage and its bound. */
#include "selftests/unit/agent/loop_util.h"

#include "userspace/agent/outage.h"

struct world {
	const struct hf_test_dir *dir;
	sd_event *event;
	struct hf_disk *disk;
	struct hf_outages *store;
	uint64_t n;
};

static struct world open_world(void **state)
{
	struct world w = {.dir = *state};

	assert_ok(sd_event_new(&w.event));
	assert_ok(hf_disk_new(w.event, w.dir->fd, &w.disk));
	assert_ok(hf_outages_open(w.dir->fd, w.disk, &w.store));
	return w;
}

static void close_world(struct world *w)
{
	hf_outages_free(w->store);
	hf_disk_close(w->disk, 5000);
	sd_event_unref(w->event);
}

static Bus__Outage *add(struct world *w, const char *cause, uint64_t restored)
{
	Bus__Outage *o = hf_outages_new_record(w->store);

	assert_non_null(o);
	hf_outage_set(&o->cause, cause);
	o->detected_unix_ns = ++w->n;
	o->restored_unix_ns = restored;
	hf_outages_changed(w->store, o);
	return o;
}

static void records_survive_a_restart_in_order(void **state)
{
	struct world w = open_world(state);
	char id[64];

	(void)add(&w, "peer_reset", 1);
	(void)snprintf(id, sizeof(id), "%s", add(&w, "blackhole", 0)->id);
	close_world(&w);

	w = open_world(state);
	assert_int_equal(hf_outages_count(w.store), 2);
	assert_string_equal(hf_outages_at(w.store, 0)->cause, "peer_reset");
	assert_string_equal(hf_outages_at(w.store, 1)->cause, "blackhole");
	assert_non_null(hf_outages_find(w.store, id));
	assert_null(hf_outages_at(w.store, 2));
	close_world(&w);
}

static void only_records_that_are_over_and_unacknowledged_are_sent(void **state)
{
	struct world w = open_world(state);
	Bus__Outage *a = add(&w, "peer_reset", 1), *b;

	(void)add(&w, "blackhole", 0);
	b = add(&w, "peer_closed", 3);
	assert_ptr_equal(hf_outages_next_unacked(w.store, NULL), a);
	assert_ptr_equal(hf_outages_next_unacked(w.store, a), b);
	assert_null(hf_outages_next_unacked(w.store, b));
	assert_true(hf_outages_ack(w.store, a->id));
	assert_true(hf_outages_ack(w.store, a->id)); /* twice */
	assert_false(hf_outages_ack(w.store, "not there"));
	assert_false(hf_outages_ack(w.store, "../../etc/passwd"));
	close_world(&w);

	w = open_world(state);
	assert_int_equal(hf_outages_count(w.store), 3);
	assert_string_equal(hf_outages_next_unacked(w.store, NULL)->cause, "peer_closed");
	close_world(&w);
}

static void damaged_files_are_counted_and_removed(void **state)
{
	const struct hf_test_dir *d = *state;
	struct world w = open_world(state);
	_cleanup_free_ char *data = NULL;
	char path[128], other[128];
	size_t len;

	(void)snprintf(path, sizeof(path), "outages/%s", add(&w, "peer_reset", 1)->id);
	(void)add(&w, "blackhole", 1);
	close_world(&w);

	/* A flipped bit; a record under another name; an empty file; a torn temporary file. */
	assert_ok(hf_read_file(d->fd, path, 65536, &data, &len));
	(void)snprintf(other, sizeof(other), "outages/%s", "01890000-0000-7000-8000-000000000000");
	assert_ok(hf_write_file_atomic(d->fd, other, data, len, 0600));
	data[len - 1] ^= 1;
	assert_ok(hf_write_file_atomic(d->fd, path, data, len, 0600));
	assert_ok(hf_write_file_atomic(d->fd, "outages/01890000-0000-7000-8000-000000000001", "", 0,
				       0600));
	hf_test_write(d, "outages/something.tmp", "x");

	w = open_world(state);
	assert_int_equal(hf_outages_count(w.store), 1);
	assert_int_equal(hf_outages_damaged(w.store), 3);
	assert_int_equal(faccessat(d->fd, other, F_OK, 0), -1);
	assert_int_equal(faccessat(d->fd, "outages/something.tmp", F_OK, 0), -1);
	close_world(&w);
}

static void the_store_is_bounded_and_acknowledged_ones_go_first(void **state)
{
	struct world w = open_world(state);
	char oldest[64], acked[64];

	(void)snprintf(oldest, sizeof(oldest), "%s", add(&w, "peer_reset", 1)->id);
	(void)snprintf(acked, sizeof(acked), "%s", add(&w, "peer_reset", 1)->id);
	assert_true(hf_outages_ack(w.store, acked));
	for (unsigned i = 2; i < HF_OUTAGES_MAX; i++)
		(void)add(&w, "peer_closed", 1);
	assert_int_equal(hf_outages_count(w.store), HF_OUTAGES_MAX);
	(void)add(&w, "blackhole", 1);
	assert_int_equal(hf_outages_count(w.store), HF_OUTAGES_MAX);
	assert_null(hf_outages_find(w.store, acked));
	assert_non_null(hf_outages_find(w.store, oldest));
	assert_int_equal(hf_outages_dropped(w.store), 0);
	(void)add(&w, "blackhole", 1);
	assert_null(hf_outages_find(w.store, oldest));
	assert_int_equal(hf_outages_dropped(w.store), 1);
	close_world(&w);
}

static void attempts_keep_the_first_and_the_last_half(void **state)
{
	struct world w = open_world(state);
	Bus__Outage *o = add(&w, "peer_reset", 1);

	for (uint64_t i = 1; i <= 100; i++) {
		Bus__Attempt a = BUS__ATTEMPT__INIT;

		a.connect_us = i;
		a.error = (char *)"refused";
		hf_outage_add_attempt(o, &a);
	}
	assert_int_equal(o->attempts_total, 100);
	assert_int_equal(o->n_attempts, HF_OUTAGE_ATTEMPTS_MAX);
	for (unsigned i = 0; i < HF_OUTAGE_ATTEMPTS_MAX / 2; i++) {
		assert_int_equal(o->attempts[i]->connect_us, i + 1);
		assert_int_equal(o->attempts[HF_OUTAGE_ATTEMPTS_MAX - 1 - i]->connect_us, 100 - i);
	}
	assert_string_equal(o->attempts[0]->error, "refused");
	close_world(&w);
}

static void setting_a_text_replaces_and_clears_it(void **state)
{
	struct world w = open_world(state);
	Bus__Outage *o = add(&w, "peer_reset", 1);

	hf_outage_set(&o->detail, "one");
	hf_outage_set(&o->detail, "two");
	assert_string_equal(o->detail, "two");
	hf_outage_set(&o->detail, "");
	assert_string_equal(o->detail, "");
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(records_survive_a_restart_in_order,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(
			only_records_that_are_over_and_unacknowledged_are_sent, hf_test_dir_setup,
			hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(damaged_files_are_counted_and_removed,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(the_store_is_bounded_and_acknowledged_ones_go_first,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(attempts_keep_the_first_and_the_last_half,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(setting_a_text_replaces_and_clears_it,
						hf_test_dir_setup, hf_test_dir_teardown),
	};
	return HF_RUN_TESTS(tests);
}
