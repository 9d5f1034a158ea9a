/* SPDX-License-Identifier: Apache-2.0 */
/* The database: schema, uniqueness, racing reservations, cursors, retention. */
#include "selftests/unit/test_util.h"

#include <pthread.h>
#include <sys/stat.h>

#include "base/str.h"
#include "tools/portal/store.h"

struct fixture {
	struct hf_test_dir *dir;
	struct hf_store *s;
	char path[300];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct hf_err err = {};
	void *dir;

	if (hf_test_dir_setup(&dir) != 0)
		return -1;
	f->dir = dir;
	(void)hf_strf(f->path, sizeof(f->path), "%s/db", f->dir->path);
	if (hf_store_open(f->path, HF_STORE_WRITE, &f->s, &err) < 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	void *dir = f->dir;

	f->s = hf_store_close(f->s);
	free(f);
	return hf_test_dir_teardown(&dir);
}

static void the_file_is_private_and_opens_again(void **state)
{
	struct fixture *f = *state;
	_cleanup_(hf_store_closep) struct hf_store *reader = NULL;
	struct hf_err err = {};
	char value[16];
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_ok(hf_store_meta_set(f->s, "k", "v"));
	f->s = hf_store_close(f->s);
	assert_ok(hf_store_open(f->path, HF_STORE_WRITE, &f->s, &err));
	assert_ok(hf_store_open(f->path, HF_STORE_READ, &reader, &err));
	assert_ok(hf_store_meta_get(reader, "k", value, sizeof(value)));
	assert_string_equal(value, "v");
	assert_err(hf_store_meta_get(reader, "none", value, sizeof(value)), -ENOENT);
	assert_true(hf_store_meta_set(reader, "k", "w") < 0);
}

static void garbage_and_a_newer_schema_are_refused(void **state)
{
	struct fixture *f = *state;
	struct hf_store *s = NULL;
	struct hf_err err = {};
	char path[320];
	int fd;

	hf_test_write(f->dir, "garbage", "this is not a database, however long it may be, at all");
	(void)hf_strf(path, sizeof(path), "%s/garbage", f->dir->path);
	assert_err(hf_store_open(path, HF_STORE_WRITE, &s, &err), -EUCLEAN);
	(void)hf_strf(path, sizeof(path), "%s/none/db", f->dir->path);
	assert_err(hf_store_open(path, HF_STORE_WRITE, &s, &err), -ENOENT);
	(void)hf_strf(path, sizeof(path), "%s/newer", f->dir->path);
	assert_ok(hf_store_open(path, HF_STORE_WRITE, &s, &err));
	s = hf_store_close(s);
	/* SQLite's file format: the user version is the big-endian word at 60. */
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "\x00\x00\x27\x0f", 4, 60), 4);
	(void)hf_close(fd);
	assert_err(hf_store_open(path, HF_STORE_WRITE, &s, &err), -EPROTONOSUPPORT);
	assert_non_null(strstr(err.msg, "9999"));
	assert_null(s);
}

static struct hf_endpoint_row endpoint(uint8_t n)
{
	struct hf_endpoint_row row = {.authorization = HF_AUTH_AUTHORIZED,
				      .clock_offset_ms = -5,
				      .created_ns = 7,
				      .has_key = true,
				      .epoch = 3};

	row.id[0] = n;
	row.key_hash[0] = n;
	row.instance_uid[0] = (uint8_t)(n + 1);
	(void)hf_strf(row.name, sizeof(row.name), "host-%u", n);
	(void)hf_strlcpy(row.addresses[0], "10.0.0.1", sizeof(row.addresses[0]));
	(void)hf_strlcpy(row.addresses[1], "fe80::1", sizeof(row.addresses[1]));
	(void)hf_strlcpy(row.token_id, "0123456789abcdef", sizeof(row.token_id));
	return row;
}

static void an_endpoint_comes_back_as_it_was(void **state)
{
	struct fixture *f = *state;
	struct hf_endpoint_row row = endpoint(1), back;

	assert_ok(hf_store_endpoint_insert(f->s, &row));
	assert_err(hf_store_endpoint_insert(f->s, &row), -EEXIST);
	assert_ok(hf_store_endpoint_get(f->s, row.id, &back));
	assert_memory_equal(&row, &back, sizeof(row));
	row.authorization = HF_AUTH_SUSPENDED;
	row.addresses[1][0] = '\0';
	(void)hf_strlcpy(row.name, "Robert'); DROP TABLE endpoints;--", sizeof(row.name));
	assert_ok(hf_store_endpoint_update(f->s, &row));
	assert_ok(hf_store_endpoint_by_key(f->s, row.key_hash, &back));
	assert_string_equal(back.name, row.name);
	assert_string_equal(back.addresses[1], "");
	assert_int_equal(back.authorization, HF_AUTH_SUSPENDED);
}

static void a_deleted_endpoint_leaves_a_tombstone(void **state)
{
	struct fixture *f = *state;
	struct hf_endpoint_row row = endpoint(1), back;

	assert_ok(hf_store_endpoint_insert(f->s, &row));
	assert_ok(hf_store_endpoint_delete(f->s, row.id, 5));
	assert_err(hf_store_endpoint_delete(f->s, row.id, 5), -ENOENT);
	assert_err(hf_store_endpoint_get(f->s, row.id, &back), -ENOENT);
	assert_err(hf_store_endpoint_by_key(f->s, row.key_hash, &back), -ENOENT);
	assert_err(hf_store_endpoint_update(f->s, &row), -ENOENT);
	/* Its id is not free, its key is. */
	assert_err(hf_store_endpoint_insert(f->s, &row), -EEXIST);
	row.id[0] = 2;
	assert_ok(hf_store_endpoint_insert(f->s, &row));
}

static void one_key_is_one_endpoint(void **state)
{
	struct fixture *f = *state;
	struct hf_endpoint_row a = endpoint(1), b = endpoint(2);

	b.key_hash[0] = a.key_hash[0];
	assert_ok(hf_store_endpoint_insert(f->s, &a));
	assert_err(hf_store_endpoint_insert(f->s, &b), -EEXIST);
}

static void insert_token(struct hf_store *s, const char *id, uint64_t max_uses, uint64_t expires)
{
	struct hf_token_row row = {.max_uses = max_uses, .expires_ns = expires};

	(void)hf_strlcpy(row.id, id, sizeof(row.id));
	assert_ok(hf_store_token_insert(s, &row));
}

static void a_use_is_reserved_only_while_the_token_is_good(void **state)
{
	struct fixture *f = *state;
	struct hf_token_row row;

	insert_token(f->s, "two", 2, 100);
	assert_err(hf_store_token_reserve(f->s, "none", 50), -EDQUOT);
	assert_err(hf_store_token_reserve(f->s, "two", 100), -EDQUOT);
	assert_ok(hf_store_token_reserve(f->s, "two", 99));
	assert_ok(hf_store_token_reserve(f->s, "two", 99));
	assert_err(hf_store_token_reserve(f->s, "two", 99), -EDQUOT);
	assert_ok(hf_store_token_release(f->s, "two"));
	assert_ok(hf_store_token_reserve(f->s, "two", 99));
	assert_ok(hf_store_token_get(f->s, "two", &row));
	assert_int_equal(row.used, 2);
	assert_int_equal(row.last_used_ns, 99);
	insert_token(f->s, "any", 0, 100);
	for (unsigned i = 0; i < 50; i++)
		assert_ok(hf_store_token_reserve(f->s, "any", 1));
	assert_ok(hf_store_token_revoke(f->s, "any", 42));
	assert_err(hf_store_token_reserve(f->s, "any", 1), -EDQUOT);
	assert_ok(hf_store_token_revoke(f->s, "any", 43));
	assert_ok(hf_store_token_get(f->s, "any", &row));
	assert_int_equal(row.revoked_ns, 42);
	assert_err(hf_store_token_revoke(f->s, "none", 43), -ENOENT);
}

struct racer {
	const char *path;
	unsigned won;
	int error;
};

static void *race(void *arg)
{
	struct racer *r = arg;
	_cleanup_(hf_store_closep) struct hf_store *s = NULL;

	r->error = hf_store_open(r->path, HF_STORE_WRITE, &s, NULL);
	for (unsigned i = 0; r->error == 0 && i < 20; i++) {
		int got = hf_store_begin(s);

		if (got == 0)
			got = hf_store_token_reserve(s, "race", 1);
		if (got == 0)
			got = hf_store_commit(s);
		if (got == 0) {
			r->won++;
			continue;
		}
		hf_store_rollback(s);
		if (got != -EDQUOT)
			r->error = got;
	}
	return NULL;
}

static void racers_never_share_a_use(void **state)
{
	struct fixture *f = *state;
	struct racer racers[4] = {};
	pthread_t threads[4];
	unsigned won = 0;

	insert_token(f->s, "race", 33, 100);
	for (unsigned i = 0; i < 4; i++) {
		racers[i].path = f->path;
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(racers[i].error, 0);
		won += racers[i].won;
	}
	assert_int_equal(won, 33);
}

static void tokens_page_from_the_newest(void **state)
{
	struct fixture *f = *state;
	struct hf_token_row rows[4];

	insert_token(f->s, "a", 0, 1);
	insert_token(f->s, "c", 0, 1);
	insert_token(f->s, "b", 0, 1);
	assert_int_equal(hf_store_tokens(f->s, "", rows, 2), 2);
	assert_string_equal(rows[0].id, "c");
	assert_string_equal(rows[1].id, "b");
	assert_int_equal(hf_store_tokens(f->s, "b", rows, 4), 1);
	assert_string_equal(rows[0].id, "a");
}

struct seen {
	uint64_t seqs[16];
	uint64_t last_time, last_row;
	unsigned n;
};

static int see_event(const struct hf_event_row *row, void *arg)
{
	struct seen *s = arg;

	s->seqs[s->n++] = row->seq;
	s->last_time = row->time_ns;
	s->last_row = row->rowid;
	assert_int_equal(row->packed_len, 3);
	assert_memory_equal(row->packed, "abc", 3);
	return 0;
}

static int put_event(struct hf_store *s, uint8_t ep, uint64_t seq, uint64_t at, const char *kind)
{
	struct hf_event_row row = {.stream_epoch = 1,
				   .seq = seq,
				   .time_ns = at,
				   .packed = (const uint8_t *)"abc",
				   .packed_len = 3};

	row.endpoint[0] = ep;
	(void)hf_strlcpy(row.kind, kind, sizeof(row.kind));
	return hf_store_event_insert(s, &row);
}

static void an_event_is_stored_once_and_found_by_each_filter(void **state)
{
	struct fixture *f = *state;
	const uint8_t one[HF_ID_SIZE] = {1};
	struct seen s = {};

	assert_int_equal(put_event(f->s, 1, 1, 10, "conn.reset_sent"), 1);
	assert_int_equal(put_event(f->s, 1, 1, 10, "conn.reset_sent"), 0);
	assert_int_equal(put_event(f->s, 2, 1, 30, "proc.exit"), 1);
	assert_int_equal(put_event(f->s, 1, 2, 20, "proc.exit"), 1);
	assert_int_equal(put_event(f->s, 1, 3, 20, "conn.closed"), 1);
	assert_ok(hf_store_events(f->s, &(struct hf_event_filter){.limit = 9}, see_event, &s));
	assert_int_equal(s.n, 4);
	s = (struct seen){};
	assert_ok(hf_store_events(f->s, &(struct hf_event_filter){.endpoint = one, .limit = 9},
				  see_event, &s));
	assert_int_equal(s.n, 3);
	assert_int_equal(s.seqs[0], 3);
	s = (struct seen){};
	assert_ok(hf_store_events(f->s, &(struct hf_event_filter){.kind = "conn.", .limit = 9},
				  see_event, &s));
	assert_int_equal(s.n, 2);
	s = (struct seen){};
	assert_ok(hf_store_events(f->s, &(struct hf_event_filter){.kind = "proc.exit", .limit = 9},
				  see_event, &s));
	assert_int_equal(s.n, 2);
	s = (struct seen){};
	assert_ok(hf_store_events(f->s, &(struct hf_event_filter){.kind = "proc.exi", .limit = 9},
				  see_event, &s));
	assert_int_equal(s.n, 0);
	s = (struct seen){};
	assert_ok(hf_store_events(f->s, &(struct hf_event_filter){.since_ns = 20, .limit = 2},
				  see_event, &s));
	assert_int_equal(s.n, 2);
	assert_ok(hf_store_events(f->s,
				  &(struct hf_event_filter){.before_time = s.last_time,
							    .before_rowid = s.last_row,
							    .limit = 9},
				  see_event, &s));
	assert_int_equal(s.n, 4); /* the rest, each once */
}

static int count_outage(const struct hf_outage_row *row, void *arg)
{
	(void)row;
	(*(unsigned *)arg)++;
	return 0;
}

static int put_outage(struct hf_store *s, uint8_t id, uint8_t ep, uint64_t began)
{
	struct hf_outage_row row = {.began_ns = began,
				    .cause = "peer_reset",
				    .packed = (const uint8_t *)"x",
				    .packed_len = 1};

	row.id[0] = id;
	row.endpoint[0] = ep;
	return hf_store_outage_insert(s, &row, began);
}

static void outages_are_unique_by_id_and_the_last_of_each_is_known(void **state)
{
	struct fixture *f = *state;
	unsigned n = 0;

	assert_int_equal(put_outage(f->s, 1, 1, 10), 1);
	assert_int_equal(put_outage(f->s, 1, 1, 99), 0);
	assert_int_equal(put_outage(f->s, 2, 1, 20), 1);
	assert_int_equal(put_outage(f->s, 3, 2, 5), 1);
	assert_ok(hf_store_outages(f->s, &(struct hf_outage_filter){.limit = 9}, count_outage, &n));
	assert_int_equal(n, 3);
	n = 0;
	assert_ok(hf_store_last_outages(f->s, count_outage, &n));
	assert_int_equal(n, 2);
	n = 0;
	assert_ok(hf_store_outages(f->s,
				   &(struct hf_outage_filter){.cause = "blackhole", .limit = 9},
				   count_outage, &n));
	assert_int_equal(n, 0);
}

static void positions_only_grow(void **state)
{
	struct fixture *f = *state;
	const uint8_t ep[HF_ID_SIZE] = {1};
	uint64_t acked = 77;

	assert_ok(hf_store_stream_get(f->s, ep, 5, &acked));
	assert_int_equal(acked, 0);
	assert_ok(hf_store_stream_set(f->s, ep, 5, 100, 1));
	assert_ok(hf_store_stream_set(f->s, ep, 5, 50, 1));
	assert_ok(hf_store_stream_get(f->s, ep, 5, &acked));
	assert_int_equal(acked, 100);
}

static void retention_deletes_by_age_and_by_rows_in_slices(void **state)
{
	struct fixture *f = *state;
	struct hf_retention keep = {.events_before_ns = 100, .events_max_rows = 1000, .slice = 30};
	struct seen s = {};

	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(put_event(f->s, 1, i + 1, i < 50 ? 50 : 150, "proc.exit"), 1);
	assert_int_equal(hf_store_expire(f->s, &keep), 30);
	assert_int_equal(hf_store_expire(f->s, &keep), 20);
	assert_int_equal(hf_store_expire(f->s, &keep), 0);
	keep.events_max_rows = 10;
	assert_int_equal(hf_store_expire(f->s, &keep), 30);
	assert_int_equal(hf_store_expire(f->s, &keep), 10);
	assert_ok(hf_store_events(f->s, &(struct hf_event_filter){.limit = 16}, see_event, &s));
	assert_int_equal(s.n, 10);
	assert_int_equal(s.seqs[9], 91);
}

static void a_savepoint_undoes_only_its_own(void **state)
{
	struct fixture *f = *state;
	char value[8];

	assert_ok(hf_store_begin(f->s));
	assert_ok(hf_store_meta_set(f->s, "kept", "1"));
	assert_ok(hf_store_savepoint(f->s));
	assert_ok(hf_store_meta_set(f->s, "undone", "1"));
	hf_store_savepoint_undo(f->s);
	assert_ok(hf_store_commit(f->s));
	assert_ok(hf_store_meta_get(f->s, "kept", value, sizeof(value)));
	assert_err(hf_store_meta_get(f->s, "undone", value, sizeof(value)), -ENOENT);
}

#define WITH_DB(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DB(the_file_is_private_and_opens_again),
		WITH_DB(garbage_and_a_newer_schema_are_refused),
		WITH_DB(an_endpoint_comes_back_as_it_was),
		WITH_DB(a_deleted_endpoint_leaves_a_tombstone),
		WITH_DB(one_key_is_one_endpoint),
		WITH_DB(a_use_is_reserved_only_while_the_token_is_good),
		WITH_DB(racers_never_share_a_use),
		WITH_DB(tokens_page_from_the_newest),
		WITH_DB(an_event_is_stored_once_and_found_by_each_filter),
		WITH_DB(outages_are_unique_by_id_and_the_last_of_each_is_known),
		WITH_DB(positions_only_grow),
		WITH_DB(retention_deletes_by_age_and_by_rows_in_slices),
		WITH_DB(a_savepoint_undoes_only_its_own),
	};

	return HF_RUN_TESTS(tests);
}
