/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool in order and in trouble: what was settled comes out once, or is inside a counted gap. It
 * is one file because every case is judged by the same record of what was appended and seen.
 */
#include "selftests/unit/agent/spool_util.h"

#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/random.h"

static struct seen seen;

static void records_come_back_in_order_by_priority(void **state)
{
	struct hf_spool_stream high, low;
	struct spool_test t;

	spool_init(&t, state);
	spool_open(&t);
	for (unsigned n = 1; n <= 50; n++) {
		put(&t, HF_SPOOL_LOW, n);
		put(&t, HF_SPOOL_HIGH, n);
	}
	WAIT_FOR(&t, t.settled == 100);
	assert_false(t.in_memory);
	high = current_stream(&t, HF_SPOOL_HIGH);
	low = current_stream(&t, HF_SPOOL_LOW);
	assert_int_not_equal(high.epoch, low.epoch);
	assert_int_equal(high.first_unacked, 1);
	assert_int_equal(high.last, 50);
	assert_int_equal(low.last, 50);
	read_all(&t, &seen);
	assert_int_equal(seen.records, 100);
	assert_int_equal(seen.gaps, 0);
	assert_seen(seen.high, 1, 50, 1);
	assert_seen(seen.low, 1, 50, 1);
	spool_close(&t);
}

static void empty_and_longest_records_are_records(void **state)
{
	static uint8_t big[HF_SPOOL_RECORD_MAX + 1];
	struct hf_spool_chunk c = {};
	struct spool_test t;
	uint64_t ticket = 0;

	spool_init(&t, state);
	t.config.segment_bytes = 64 << 10;
	spool_open(&t);
	assert_ok(hf_spool_append(t.spool, HF_SPOOL_LOW, NULL, 0, NULL));
	assert_ok(hf_spool_append(t.spool, HF_SPOOL_LOW, big, HF_SPOOL_RECORD_MAX, NULL));
	assert_err(hf_spool_append(t.spool, HF_SPOOL_LOW, big, HF_SPOOL_RECORD_MAX + 1, &ticket),
		   -EMSGSIZE);
	assert_int_equal(ticket, 3);
	WAIT_FOR(&t, t.settled == 3);
	assert_int_equal(hf_spool_read(t.spool, current_stream(&t, HF_SPOOL_LOW).epoch, 1, 10,
				       1 << 20, &c),
			 1);
	assert_int_equal(c.n_items, 2);
	assert_int_equal(c.items[0].len, 0);
	assert_int_equal(c.items[1].len, HF_SPOOL_RECORD_MAX);
	assert_int_equal(c.n_gaps, 1);
	assert_int_equal(c.gaps[0].first, 3);
	hf_spool_chunk_done(&c);
	spool_close(&t);
}

static void nothing_is_settled_before_it_is_synced(void **state)
{
	struct spool_test t;

	spool_init(&t, state);
	spool_open(&t);
	(void)pthread_mutex_lock(&disk.hold);
	put(&t, HF_SPOOL_HIGH, 1);
	for (unsigned i = 0; i < 5; i++)
		spool_turn(&t);
	assert_int_equal(t.settled, 0);
	assert_int_equal(current_stream(&t, HF_SPOOL_HIGH).last, 0);
	(void)pthread_mutex_unlock(&disk.hold);
	WAIT_FOR(&t, t.settled == 1);
	spool_close(&t);
}

static void low_records_gather_and_high_ones_do_not(void **state)
{
	struct hf_spool_stats st;
	struct spool_test t;

	spool_init(&t, state);
	t.config.linger_ms = 5000;
	spool_open(&t);
	for (unsigned n = 1; n <= 20; n++)
		put(&t, HF_SPOOL_LOW, n);
	for (unsigned i = 0; i < 3; i++)
		spool_turn(&t);
	assert_int_equal(t.settled, 0);
	put(&t, HF_SPOOL_HIGH, 1);
	WAIT_FOR(&t, t.settled == 21);
	hf_spool_stats(t.spool, &st);
	assert_true(st.syncs <= 5); /* one per segment of 1 KiB, not one per record */
	spool_close(&t);
}

static void a_reopened_spool_goes_on(void **state)
{
	struct hf_spool_stream before, after;
	struct spool_test t;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 30);
	before = current_stream(&t, HF_SPOOL_LOW);
	spool_reopen(&t);
	put_many(&t, HF_SPOOL_LOW, 31, 40);
	after = current_stream(&t, HF_SPOOL_LOW);
	assert_int_equal(after.epoch, before.epoch);
	assert_int_equal(after.first_unacked, 1);
	assert_int_equal(after.last, 40);
	read_all(&t, &seen);
	assert_seen(seen.low, 1, 40, 1);
	assert_int_equal(seen.gaps, 0);
	spool_close(&t);
}

static unsigned count_segments(const struct spool_test *t)
{
	DIR *d = opendir(t->path);
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += strlen(e->d_name) == 20;
	(void)closedir(d);
	return n;
}

static void what_is_acknowledged_is_removed_and_numbers_go_on(void **state)
{
	struct hf_spool_stream s;
	struct spool_test t;
	uint64_t epoch;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 100);
	assert_true(count_segments(&t) > 10);
	epoch = current_stream(&t, HF_SPOOL_LOW).epoch;
	assert_ok(hf_spool_ack(t.spool, epoch, 100));
	WAIT_FOR(&t, count_segments(&t) <= 1);
	assert_int_equal(current_stream(&t, HF_SPOOL_LOW).first_unacked, 101);
	spool_reopen(&t);
	/* Even the file that was growing is superfluous now. */
	WAIT_FOR(&t, count_segments(&t) == 0);
	spool_reopen(&t);
	put_many(&t, HF_SPOOL_LOW, 101, 102);
	s = current_stream(&t, HF_SPOOL_LOW);
	assert_int_equal(s.epoch, epoch);
	assert_int_equal(s.first_unacked, 101);
	assert_int_equal(s.last, 102);
	read_all(&t, &seen);
	assert_int_equal(seen.records, 2);
	assert_seen(seen.low, 101, 102, 1);
	spool_close(&t);
}

static void acknowledgements_of_nonsense_do_nothing(void **state)
{
	struct hf_spool_chunk c = {};
	struct spool_test t;
	uint64_t epoch;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 10);
	epoch = current_stream(&t, HF_SPOOL_LOW).epoch;
	assert_err(hf_spool_ack(t.spool, epoch + 1, 5), -ENOENT);
	assert_err(hf_spool_resume(t.spool, 0, 5), -ENOENT);
	assert_err(hf_spool_give_up(t.spool, epoch, 11), -ENOENT);
	assert_err(hf_spool_read(t.spool, epoch, 0, 1, 1, &c), -ENOENT);
	assert_err(hf_spool_read(t.spool, epoch + 1, 1, 1, 1, &c), -ENOENT);
	assert_int_equal(hf_spool_read(t.spool, epoch, 11, 1, 1, &c), 0);
	assert_int_equal(hf_spool_read(t.spool, epoch, UINT64_MAX, 1, 1, &c), 0);
	assert_ok(hf_spool_ack(t.spool, epoch, 5));
	assert_ok(hf_spool_ack(t.spool, epoch, 3));
	assert_int_equal(current_stream(&t, HF_SPOOL_LOW).first_unacked, 6);
	assert_ok(hf_spool_ack(t.spool, epoch, UINT64_MAX));
	assert_int_equal(current_stream(&t, HF_SPOOL_LOW).first_unacked, 11);
	hf_spool_chunk_done(&c);
	spool_close(&t);
}

/* ---- a SIGKILL anywhere --------------------------------------------------------------------- */

enum { KILL_RECORDS = 30 };

/* Appends, acknowledges, reports each settled ticket; dies at some operation. */
static void victim(struct spool_test *t, int report)
{
	bool acked = false;

	spool_open(t);
	for (unsigned n = 1; n <= KILL_RECORDS; n++) {
		uint64_t ticket;

		put(t, HF_SPOOL_LOW, n);
		ticket = put(t, HF_SPOOL_HIGH, n);
		while (t->settled < ticket)
			spool_turn(t);
		assert_int_equal(write(report, &t->settled, sizeof(t->settled)),
				 sizeof(t->settled));
		if (n == KILL_RECORDS / 2 && !acked) {
			acked = true;
			(void)hf_spool_ack(t->spool, current_stream(t, HF_SPOOL_LOW).epoch, 10);
			(void)hf_spool_ack(t->spool, current_stream(t, HF_SPOOL_HIGH).epoch, 12);
		}
	}
	spool_close(t);
	_exit(0);
}

static void wipe(struct spool_test *t)
{
	(void)nftw(t->path, hf_test_remove_one_, 8, FTW_DEPTH | FTW_PHYS);
}

static void a_kill_at_any_operation_loses_nothing_that_was_settled(void **state)
{
	struct spool_test t;
	bool finished = false;

	for (unsigned k = 1; !finished; k++) {
		struct hf_spool_stats st;
		uint64_t settled = 0, ticket;
		unsigned low_acked, high_acked;
		int report[2], status;
		pid_t pid;

		spool_init(&t, state);
		wipe(&t);
		assert_int_equal(pipe2(report, O_CLOEXEC), 0);
		pid = fork();
		if (pid == 0) {
			child_init();
			disk.kill_at = k;
			victim(&t, report[1]);
		}
		assert_true(pid > 0);
		(void)close(report[1]);
		while (read(report[0], &ticket, sizeof(ticket)) == sizeof(ticket))
			settled = ticket;
		(void)close(report[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		finished = WIFEXITED(status);
		if (!finished)
			assert_int_equal(WTERMSIG(status), SIGKILL);

		spool_open(&t);
		read_all(&t, &seen);
		/* The acknowledgement may or may not have been written down. */
		low_acked = (unsigned)current_stream(&t, HF_SPOOL_LOW).first_unacked - 1;
		high_acked = (unsigned)current_stream(&t, HF_SPOOL_HIGH).first_unacked - 1;
		assert_true(low_acked <= 10 && high_acked <= 12);
		assert_seen(seen.low, low_acked + 1, (unsigned)settled / 2, 1);
		assert_seen(seen.high, high_acked + 1, (unsigned)settled / 2, 1);
		for (unsigned n = 1; n <= KILL_RECORDS; n++)
			assert_true(seen.low[n] <= 1 && seen.high[n] <= 1);
		assert_int_equal(seen_lost(&seen), 0);
		hf_spool_stats(t.spool, &st);
		assert_int_equal(st.corrupt_bytes, 0);
		/* And it goes on working. */
		put_many(&t, HF_SPOOL_LOW, 1000, 1003);
		read_all(&t, &seen);
		assert_seen(seen.low, 1000, 1003, 1);
		assert_int_equal(seen_lost(&seen), 0);
		spool_close(&t);
		if (k > 2000)
			fail_msg("the victim never finished");
	}
}

/* ---- damage --------------------------------------------------------------------------------- */

/* The names of the segments, oldest first. */
static size_t list_segments(const struct spool_test *t, char names[][24], size_t max)
{
	struct dirent **entries;
	int n = scandir(t->path, &entries, NULL, alphasort);
	size_t count = 0;

	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		if (strlen(entries[i]->d_name) == 20 && count < max)
			(void)snprintf(names[count++], 24, "%.23s", entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return count;
}

static void segment_path(const struct spool_test *t, const char *name, char dst[400])
{
	(void)snprintf(dst, 400, "%s/%s", t->path, name);
}

static void a_torn_tail_is_cut_at_every_length(void **state)
{
	struct spool_test t;
	char names[4][24], path[400];
	char bytes[2048];
	ssize_t len;
	int fd;

	spool_init(&t, state);
	t.config.segment_bytes = 4096;
	t.config.max_bytes = 1 << 20;
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 3);
	spool_close(&t);
	assert_int_equal(list_segments(&t, names, 4), 1);
	segment_path(&t, names[0], path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = read(fd, bytes, sizeof(bytes));
	(void)close(fd);
	assert_in_range(len, 3 * 124, 1000);

	for (ssize_t cut = 0; cut < len; cut++) {
		struct hf_spool_stats st;
		unsigned whole = cut < 56 ? 0 : (unsigned)(cut - 56) / 124;

		wipe(&t);
		assert_int_equal(mkdir(t.path, 0700), 0);
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_int_equal(write(fd, bytes, (size_t)cut), cut);
		(void)close(fd);
		spool_open(&t);
		read_all(&t, &seen);
		assert_int_equal(seen.records, whole);
		if (whole)
			assert_seen(seen.low, 1, whole, 1);
		assert_int_equal(seen_lost(&seen), 0);
		hf_spool_stats(t.spool, &st);
		assert_int_equal(st.torn_bytes, cut < 56 ? cut : (cut - 56) % 124);
		put_many(&t, HF_SPOOL_LOW, 10, 10);
		assert_int_equal(current_stream(&t, HF_SPOOL_LOW).last, whole + 1);
		spool_close(&t);
	}
}

static void flip(const char *path, off_t off)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t c;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, off), 1);
	c ^= 0x10;
	assert_int_equal(pwrite(fd, &c, 1, off), 1);
	(void)close(fd);
}

static void a_damaged_record_is_a_gap_of_one(void **state)
{
	struct hf_spool_stats st;
	struct spool_test t;
	char names[20][24], path[400];

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 40);
	spool_close(&t);
	assert_true(list_segments(&t, names, 20) >= 5);
	segment_path(&t, names[1], path);
	/* The third record of the second segment; each of its bytes would do. */
	for (off_t off = 0; off < 124; off += 13) {
		flip(path, 56 + 2 * 124 + off);
		spool_open(&t);
		read_all(&t, &seen);
		assert_int_equal(seen.records, 39);
		assert_int_equal(seen.lost[HF_SPOOL_GAP_CORRUPT], 1);
		assert_int_equal(seen_lost(&seen), 1);
		hf_spool_stats(t.spool, &st);
		assert_int_equal(st.dropped[HF_SPOOL_GAP_CORRUPT], 1);
		assert_int_equal(st.corrupt_bytes, 124);
		spool_close(&t);
		flip(path, 56 + 2 * 124 + off);
	}
}

static void a_segment_with_a_damaged_header_is_a_gap_of_its_records(void **state)
{
	struct spool_test t;
	char names[20][24], path[400];
	unsigned each;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 40);
	spool_close(&t);
	assert_true(list_segments(&t, names, 20) >= 5);
	segment_path(&t, names[2], path);
	each = (1024 - 56) / 124;
	flip(path, 20);
	spool_open(&t);
	read_all(&t, &seen);
	assert_int_equal(seen.records, 40 - each);
	assert_int_equal(seen.lost[HF_SPOOL_GAP_CORRUPT], each);
	spool_close(&t);
}

static void removed_files_are_a_gap(void **state)
{
	struct hf_spool_stats st;
	struct spool_test t;
	char names[20][24], path[400];
	unsigned each = (1024 - 56) / 124;
	size_t n;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 40);
	/* So that the positions know how far it went. */
	assert_ok(hf_spool_ack(t.spool, current_stream(&t, HF_SPOOL_LOW).epoch, each));
	WAIT_FOR(&t, count_segments(&t) == 5);
	spool_close(&t);
	n = list_segments(&t, names, 20);
	segment_path(&t, names[1], path);
	assert_int_equal(unlink(path), 0);
	segment_path(&t, names[n - 1], path);
	assert_int_equal(unlink(path), 0);
	spool_open(&t);
	read_all(&t, &seen);
	assert_int_equal(seen.lost[HF_SPOOL_GAP_CORRUPT], 2 * each - 2);
	hf_spool_stats(t.spool, &st);
	assert_int_equal(st.dropped[HF_SPOOL_GAP_CORRUPT], 2 * each - 2);
	assert_int_equal(seen.records + seen_lost(&seen), 40 - each);
	/* The numbers of what was in the last file are not used again. */
	put_many(&t, HF_SPOOL_LOW, 41, 41);
	assert_int_equal(current_stream(&t, HF_SPOOL_LOW).last, 41);
	spool_close(&t);
}

static void files_removed_under_it_are_a_gap_too(void **state)
{
	struct spool_test t;
	char names[20][24], path[400];

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 40);
	assert_true(list_segments(&t, names, 20) >= 5);
	segment_path(&t, names[1], path);
	assert_int_equal(unlink(path), 0);
	read_all(&t, &seen);
	assert_int_equal(seen.records + seen.lost[HF_SPOOL_GAP_CORRUPT], 40);
	assert_int_equal(seen.lost[HF_SPOOL_GAP_CORRUPT], (1024 - 56) / 124);
	spool_close(&t);
}

static void write_text(const struct spool_test *t, const char *name, const char *text)
{
	char path[400];
	int fd;

	segment_path(t, name, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

static void garbage_in_the_directory_does_no_harm(void **state)
{
	struct hf_spool_stats st;
	struct spool_test t;
	char path[400], big[200];

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 10);
	spool_close(&t);
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	write_text(&t, "README", "not ours");
	write_text(&t, "00000000000000zz.seg", "not a number");
	write_text(&t, "0000000000000FFF.seg", "not our spelling");
	write_text(&t, "00000000000000ff.seg", big);
	write_text(&t, "0000000000000100.seg", "");
	write_text(&t, "positions", "nothing of use");
	segment_path(&t, "0000000000000101.seg", path);
	assert_int_equal(mkdir(path, 0700), 0);
	segment_path(&t, "0000000000000102.seg", path);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	segment_path(&t, "0000000000000103.seg", path);
	assert_int_equal(mkfifo(path, 0600), 0);

	spool_open(&t);
	hf_spool_stats(t.spool, &st);
	assert_int_equal(st.corrupt_bytes, sizeof(big) - 1);
	put_many(&t, HF_SPOOL_LOW, 11, 12);
	read_all(&t, &seen);
	assert_int_equal(seen.records, 12);
	assert_int_equal(seen_lost(&seen), 0);
	segment_path(&t, "README", path);
	assert_int_equal(access(path, F_OK), 0);
	segment_path(&t, "00000000000000ff.seg", path);
	WAIT_FOR(&t, access(path, F_OK) < 0);
	spool_close(&t);
}

static void damaged_positions_cost_nothing_but_repetition(void **state)
{
	struct spool_test t;
	char path[400];

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 40);
	assert_ok(hf_spool_ack(t.spool, current_stream(&t, HF_SPOOL_LOW).epoch, 20));
	WAIT_FOR(&t, count_segments(&t) <= 4);
	spool_close(&t);
	segment_path(&t, "positions", path);
	flip(path, 40);
	flip(path, 4096 + 40);
	spool_open(&t);
	read_all(&t, &seen);
	assert_seen(seen.low, 21, 40, 1);
	assert_int_equal(seen_lost(&seen), 0);
	assert_int_equal(current_stream(&t, HF_SPOOL_LOW).last, 40);
	spool_close(&t);
}

static void a_lost_directory_is_a_new_stream(void **state)
{
	struct spool_test t;
	uint64_t epoch;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 10);
	epoch = current_stream(&t, HF_SPOOL_LOW).epoch;
	spool_close(&t);
	wipe(&t);
	spool_open(&t);
	assert_int_not_equal(current_stream(&t, HF_SPOOL_LOW).epoch, epoch);
	assert_int_equal(current_stream(&t, HF_SPOOL_LOW).last, 0);
	spool_close(&t);
}

static void a_directory_lost_while_running_is_survived(void **state)
{
	struct spool_test t;
	uint64_t epoch;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 20);
	epoch = current_stream(&t, HF_SPOOL_LOW).epoch;
	wipe(&t);
	put_many(&t, HF_SPOOL_LOW, 21, 40);
	WAIT_FOR(&t, t.disk_changes >= 2 && t.disk_error == 0);
	put_many(&t, HF_SPOOL_LOW, 41, 60);
	assert_int_not_equal(current_stream(&t, HF_SPOOL_LOW).epoch, epoch);
	read_all(&t, &seen);
	assert_int_equal(seen.records + seen.lost[HF_SPOOL_GAP_CORRUPT], 60);
	assert_seen(seen.low, 28, 60, 1);
	spool_reopen(&t);
	read_all(&t, &seen);
	assert_seen(seen.low, 28, 60, 1);
	spool_close(&t);
}

static void a_second_opener_is_turned_away(void **state)
{
	struct hf_spool *second = NULL;
	struct spool_test t;

	spool_init(&t, state);
	spool_open(&t);
	assert_err(spool_try_open(&t, &second), -EBUSY);
	assert_null(second);
	spool_reopen(&t);
	spool_close(&t);
}

static void bad_configurations_are_refused(void **state)
{
	struct hf_spool *s = NULL;
	struct spool_test t;

	spool_init(&t, state);
	t.config.max_bytes = 2048;
	assert_err(spool_try_open(&t, &s), -EINVAL);
	spool_init(&t, state);
	t.config.dir = NULL;
	assert_err(spool_try_open(&t, &s), -EINVAL);
	spool_init(&t, state);
	t.config.segment_bytes = 10;
	assert_err(spool_try_open(&t, &s), -EINVAL);
}

/* ---- a disk that refuses -------------------------------------------------------------------- */

static void refusal_and_recovery(void **state, int write_error, int sync_error)
{
	struct hf_spool_stats st;
	struct hf_spool_stream before;
	struct spool_test t;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 20);
	put_many(&t, HF_SPOOL_HIGH, 1, 20);
	before = current_stream(&t, HF_SPOOL_LOW);
	assert_false(t.in_memory);

	disk.refuse = write_error;
	disk.refuse_fsync = sync_error;
	put_many(&t, HF_SPOOL_LOW, 21, 40);
	put_many(&t, HF_SPOOL_HIGH, 21, 30);
	assert_true(t.in_memory);
	assert_int_equal(t.disk_error, write_error ? -write_error : -sync_error);
	hf_spool_stats(t.spool, &st);
	assert_int_equal(st.disk_error, t.disk_error);
	assert_true(st.memory_bytes > 0);
	/* Sent from memory, under numbers that no later process will use for something else. */
	assert_int_not_equal(current_stream(&t, HF_SPOOL_LOW).epoch, before.epoch);
	read_all(&t, &seen);
	assert_seen(seen.low, 1, 40, 1);
	assert_seen(seen.high, 1, 30, 1);
	assert_int_equal(seen_lost(&seen), 0);

	disk.refuse = disk.refuse_fsync = 0;
	WAIT_FOR(&t, t.disk_error == 0);
	t.in_memory = false;
	put_many(&t, HF_SPOOL_LOW, 41, 50);
	assert_false(t.in_memory);
	hf_spool_stats(t.spool, &st);
	assert_int_equal(st.memory_bytes, 0);
	assert_int_equal(st.disk_error, 0);
	spool_reopen(&t);
	read_all(&t, &seen);
	assert_seen(seen.low, 1, 50, 1);
	assert_seen(seen.high, 1, 30, 1);
	assert_int_equal(seen_lost(&seen), 0);
	/* The stream whose numbers went out early is not continued. */
	put_many(&t, HF_SPOOL_LOW, 51, 51);
	assert_int_equal(current_stream(&t, HF_SPOOL_LOW).last, 1);
	spool_close(&t);
}

static void a_full_disk_is_survived(void **state)
{
	refusal_and_recovery(state, ENOSPC, 0);
}

static void a_disk_that_became_read_only_is_survived(void **state)
{
	refusal_and_recovery(state, EROFS, 0);
}

static void a_sync_that_fails_is_not_believed_later(void **state)
{
	refusal_and_recovery(state, 0, EIO);
}

static void a_disk_that_refuses_from_the_start_is_survived(void **state)
{
	struct spool_test t;

	spool_init(&t, state);
	disk.refuse = ENOSPC;
	spool_open(&t);
	WAIT_FOR(&t, t.disk_error == -ENOSPC);
	put_many(&t, HF_SPOOL_HIGH, 1, 10);
	assert_true(t.in_memory);
	read_all(&t, &seen);
	assert_seen(seen.high, 1, 10, 1);
	disk.refuse = 0;
	WAIT_FOR(&t, t.disk_error == 0);
	spool_reopen(&t);
	read_all(&t, &seen);
	assert_seen(seen.high, 1, 10, 1);
	spool_close(&t);
}

static void what_is_in_memory_at_the_end_is_written_if_the_disk_is_back(void **state)
{
	struct spool_test t;

	spool_init(&t, state);
	t.config.retry_ms = 3600 * 1000;
	spool_open(&t);
	disk.refuse = ENOSPC;
	put_many(&t, HF_SPOOL_HIGH, 1, 10);
	disk.refuse = 0;
	spool_reopen(&t);
	read_all(&t, &seen);
	assert_seen(seen.high, 1, 10, 1);
	spool_close(&t);
}

static void memory_is_bounded_and_what_is_dropped_is_counted(void **state)
{
	struct hf_spool_stats st;
	struct spool_test t;

	spool_init(&t, state);
	t.config.memory_bytes = 16 << 10;
	spool_open(&t);
	disk.refuse = ENOSPC;
	put_many(&t, HF_SPOOL_HIGH, 1, 20);
	for (unsigned n = 1; n <= 1000; n += 20) {
		put_many(&t, HF_SPOOL_LOW, n, n + 19);
		hf_spool_stats(t.spool, &st);
		assert_true(st.memory_bytes <= 16 << 10);
	}
	read_all(&t, &seen);
	assert_seen(seen.high, 1, 20, 1);
	assert_seen(seen.low, 960, 1000, 1);
	assert_int_equal(seen.records + seen.lost[HF_SPOOL_GAP_MEMORY_FULL], 1020);
	assert_int_equal(seen_lost(&seen), seen.lost[HF_SPOOL_GAP_MEMORY_FULL]);
	hf_spool_stats(t.spool, &st);
	assert_int_equal(st.dropped[HF_SPOOL_GAP_MEMORY_FULL], seen.lost[HF_SPOOL_GAP_MEMORY_FULL]);
	disk.refuse = 0;
	WAIT_FOR(&t, t.disk_error == 0);
	spool_reopen(&t);
	read_all(&t, &seen);
	assert_int_equal(seen.records + seen.lost[HF_SPOOL_GAP_MEMORY_FULL], 1020);
	spool_close(&t);
}

/* tmpfs that is really full: no injected error, the kernel's own. */
static void on_a_full_tmpfs(struct spool_test *t)
{
	struct hf_spool_stats st;
	uint64_t epoch;

	t->config.ops = NULL;
	t->config.segment_bytes = 16 << 10;
	t->config.max_bytes = 4 << 20;
	t->config.memory_bytes = 1 << 20;
	spool_open(t);
	for (unsigned n = 1; n <= 4000; n += 50)
		put_many(t, HF_SPOOL_LOW, n, n + 49);
	assert_int_equal(t->disk_error, -ENOSPC);
	assert_true(t->in_memory);
	read_all(t, &seen);
	assert_seen(seen.low, 1, 4000, 1);
	assert_int_equal(seen_lost(&seen), 0);
	/* An acknowledgement makes room, and the spool notices at once. */
	epoch = 0;
	for (;;) {
		struct hf_spool_stream streams[HF_SPOOL_STREAMS_MAX];
		size_t n = hf_spool_streams(t->spool, streams);

		for (size_t i = 0; i < n && !epoch; i++)
			if (streams[i].prio == HF_SPOOL_LOW)
				epoch = streams[i].epoch;
		assert_ok(hf_spool_ack(t->spool, epoch, streams[1].last));
		break;
	}
	t->config.retry_ms = 0;
	WAIT_FOR(t, t->disk_error == 0);
	hf_spool_stats(t->spool, &st);
	assert_int_equal(st.memory_bytes, 0);
	spool_reopen(t);
	read_all(t, &seen);
	assert_seen(seen.low, 3999, 4000, 1);
	assert_int_equal(seen_lost(&seen), 0);
	spool_close(t);
}

static void a_full_tmpfs_is_survived(void **state)
{
	struct spool_test t;
	int status;
	pid_t pid;

	spool_init(&t, state);
	pid = fork();
	if (pid == 0) {
		child_init();
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("spool", t.dir->path, "tmpfs", 0, "size=320k") < 0)
			_exit(HF_TEST_SKIPPED);
		on_a_full_tmpfs(&t);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == HF_TEST_SKIPPED) {
		print_message("skipped: may not mount a tmpfs here\n");
		skip();
	}
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- bounds --------------------------------------------------------------------------------- */

static void a_full_spool_drops_the_oldest_low_records_first(void **state)
{
	struct hf_spool_stats st;
	struct spool_test t;

	spool_init(&t, state);
	t.config.max_bytes = 8 << 10;
	spool_open(&t);
	put_many(&t, HF_SPOOL_HIGH, 1, 20);
	for (unsigned n = 1; n <= 500; n += 10) {
		put_many(&t, HF_SPOOL_LOW, n, n + 9);
		hf_spool_stats(t.spool, &st);
		assert_true(st.disk_bytes <= (8 << 10) + 1024);
	}
	read_all(&t, &seen);
	assert_seen(seen.high, 1, 20, 1);
	assert_seen(seen.low, 490, 500, 1);
	assert_int_equal(seen.low[1], 0);
	assert_int_equal(seen.records + seen.lost[HF_SPOOL_GAP_SPOOL_FULL], 520);
	assert_int_equal(seen_lost(&seen), seen.lost[HF_SPOOL_GAP_SPOOL_FULL]);
	hf_spool_stats(t.spool, &st);
	assert_int_equal(st.dropped[HF_SPOOL_GAP_SPOOL_FULL], seen.lost[HF_SPOOL_GAP_SPOOL_FULL]);

	/* The reason survives a restart. */
	spool_reopen(&t);
	read_all(&t, &seen);
	assert_int_equal(seen.lost[HF_SPOOL_GAP_SPOOL_FULL], seen_lost(&seen));
	assert_int_equal(seen.records + seen_lost(&seen), 520);

	/* Then the high ones have to go. */
	put_many(&t, HF_SPOOL_HIGH, 21, 520);
	read_all(&t, &seen);
	assert_seen(seen.high, 510, 520, 1);
	assert_int_equal(seen.high[1], 0);
	assert_int_equal(seen.records + seen_lost(&seen), 1020);
	spool_close(&t);
}

static void a_full_queue_is_a_gap_of_exactly_what_was_refused(void **state)
{
	static const uint8_t record[100] = "L1";
	unsigned taken = 0, refused = 0;
	struct hf_spool_stats st;
	struct spool_test t;

	spool_init(&t, state);
	t.config.queue_bytes = 4096;
	spool_open(&t);
	(void)pthread_mutex_lock(&disk.hold);
	for (unsigned i = 0; i < 200; i++) {
		int r = hf_spool_append(t.spool, HF_SPOOL_LOW, record, sizeof(record), NULL);

		assert_true(r == 0 || r == -ENOBUFS);
		taken += r == 0;
		refused += r < 0;
	}
	assert_true(refused > 100);
	(void)pthread_mutex_unlock(&disk.hold);
	WAIT_FOR(&t, t.settled == 200);
	read_all(&t, &seen);
	assert_int_equal(seen.records, taken);
	assert_int_equal(seen.lost[HF_SPOOL_GAP_QUEUE_FULL], refused);
	hf_spool_stats(t.spool, &st);
	assert_int_equal(st.dropped[HF_SPOOL_GAP_QUEUE_FULL], refused);
	spool_reopen(&t);
	read_all(&t, &seen);
	assert_int_equal(seen.lost[HF_SPOOL_GAP_QUEUE_FULL], refused);
	spool_close(&t);
}

static void streams_are_bounded(void **state)
{
	struct hf_spool_stream streams[HF_SPOOL_STREAMS_MAX];
	struct spool_test t;
	unsigned n = 1;

	spool_init(&t, state);
	/* Each incident leaves a stream that no later process continues. */
	for (unsigned i = 0; i < 2 * HF_SPOOL_STREAMS_MAX; i++) {
		spool_open(&t);
		put_many(&t, HF_SPOOL_LOW, n, n + 4);
		disk.refuse = ENOSPC;
		put_many(&t, HF_SPOOL_LOW, n + 5, n + 9);
		disk.refuse = 0;
		n += 10;
		WAIT_FOR(&t, t.disk_error == 0);
		assert_true(hf_spool_streams(t.spool, streams) <= HF_SPOOL_STREAMS_MAX);
		spool_close(&t);
	}
	spool_open(&t);
	read_all(&t, &seen);
	assert_seen(seen.low, n - 30, n - 1, 1);
	spool_close(&t);
}

/* ---- the portal's memory -------------------------------------------------------------------- */

static void a_portal_restored_from_a_backup_gets_a_gap_and_the_rest_again(void **state)
{
	struct hf_spool_stats st;
	struct spool_test t;
	uint64_t epoch;
	unsigned each = (1024 - 56) / 124;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 100);
	epoch = current_stream(&t, HF_SPOOL_LOW).epoch;
	assert_ok(hf_spool_ack(t.spool, epoch, 3 * each + 2));
	assert_int_equal(hf_spool_resume(t.spool, epoch, 5), 0);
	assert_int_equal(current_stream(&t, HF_SPOOL_LOW).first_unacked, 6);
	read_all(&t, &seen);
	assert_int_equal(seen.lost[HF_SPOOL_GAP_PORTAL_RESTORED], 3 * each - 5);
	assert_int_equal(seen_lost(&seen), 3 * each - 5);
	assert_seen(seen.low, 3 * each + 1, 100, 1);
	hf_spool_stats(t.spool, &st);
	assert_int_equal(st.dropped[HF_SPOOL_GAP_PORTAL_RESTORED], 3 * each - 5);
	assert_int_equal(st.acked, 5);
	/* Acknowledged, it is forgotten. */
	assert_ok(hf_spool_ack(t.spool, epoch, 100));
	read_all(&t, &seen);
	assert_int_equal(seen.records + seen_lost(&seen), 0);
	spool_close(&t);
}

static void everything_deleted_and_forgotten_by_the_portal_is_a_gap(void **state)
{
	struct spool_test t;
	uint64_t epoch;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 50);
	epoch = current_stream(&t, HF_SPOOL_LOW).epoch;
	assert_ok(hf_spool_ack(t.spool, epoch, 50));
	WAIT_FOR(&t, count_segments(&t) <= 1);
	spool_reopen(&t);
	assert_int_equal(hf_spool_resume(t.spool, epoch, 0), 0);
	read_all(&t, &seen);
	assert_int_equal(seen_lost(&seen), 50);
	assert_int_equal(seen.lost[HF_SPOOL_GAP_PORTAL_RESTORED], 50);
	spool_close(&t);
}

static void a_portal_that_has_more_than_we_makes_a_new_epoch(void **state)
{
	struct hf_spool_stream s;
	struct spool_test t;
	uint64_t epoch;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 40);
	epoch = current_stream(&t, HF_SPOOL_LOW).epoch;
	assert_ok(hf_spool_ack(t.spool, epoch, 10));
	assert_int_equal(hf_spool_resume(t.spool, epoch, 41), 1);
	s = current_stream(&t, HF_SPOOL_LOW);
	assert_int_not_equal(s.epoch, epoch);
	assert_int_equal(s.first_unacked, 1);
	assert_int_equal(s.last, 30);
	read_all(&t, &seen);
	assert_seen(seen.low, 11, 40, 1);
	assert_int_equal(seen_lost(&seen), 0);
	put_many(&t, HF_SPOOL_LOW, 41, 45);
	/* And so it stays, with the positions or without. */
	spool_reopen(&t);
	assert_int_equal(current_stream(&t, HF_SPOOL_LOW).epoch, s.epoch);
	assert_int_equal(current_stream(&t, HF_SPOOL_LOW).last, 35);
	read_all(&t, &seen);
	assert_seen(seen.low, 11, 45, 1);
	assert_int_equal(seen_lost(&seen), 0);
	assert_ok(hf_spool_ack(t.spool, s.epoch, 5));
	read_all(&t, &seen);
	assert_seen(seen.low, 11, 15, 0);
	assert_seen(seen.low, 16, 45, 1);
	spool_close(&t);
}

static void a_record_given_up_is_a_gap(void **state)
{
	struct spool_test t;
	uint64_t epoch;

	spool_init(&t, state);
	spool_open(&t);
	put_many(&t, HF_SPOOL_LOW, 1, 20);
	epoch = current_stream(&t, HF_SPOOL_LOW).epoch;
	assert_ok(hf_spool_give_up(t.spool, epoch, 7));
	assert_ok(hf_spool_give_up(t.spool, epoch, 8));
	assert_ok(hf_spool_give_up(t.spool, epoch, 20));
	read_all(&t, &seen);
	assert_int_equal(seen.lost[HF_SPOOL_GAP_REFUSED], 3);
	assert_int_equal(seen.records, 17);
	assert_int_equal(seen.low[7] + seen.low[8] + seen.low[20], 0);
	spool_close(&t);
}

/* ---- everything at once --------------------------------------------------------------------- */

/* Seeded, so that a failure can be had again: HF_SEED=n. */
static uint64_t seed;

static uint64_t below(uint64_t bound)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % bound;
}

static void in_any_order_of_trouble_nothing_is_lost_uncounted(void **state)
{
	static unsigned got_low[SEEN_MAX], got_high[SEEN_MAX];
	uint64_t lost = 0, low = 0, high = 0, appended;
	struct spool_test t;
	struct seen *s = &seen;

	spool_init(&t, state);
	t.config.max_bytes = 16 << 10;
	t.config.memory_bytes = 16 << 10;
	t.config.retry_ms = 1;
	seed = getenv("HF_SEED") ? strtoull(getenv("HF_SEED"), NULL, 10) : hf_random_below(1 << 30);
	print_message("HF_SEED=%" PRIu64 "\n", seed);
	memset(got_low, 0, sizeof(got_low));
	memset(got_high, 0, sizeof(got_high));
	spool_open(&t);
	for (unsigned step = 0; step < 600; step++) {
		struct hf_spool_stream streams[HF_SPOOL_STREAMS_MAX];
		size_t n;

		switch (below(8)) {
		case 0:
			disk.refuse = below(2) ? ENOSPC : EIO;
			break;
		case 1:
			disk.refuse = 0;
			break;
		case 2:
			/* A restart: only with a disk, or memory is lost by design. */
			disk.refuse = 0;
			spool_reopen(&t);
			break;
		case 3:
			/* The portal takes some of some stream. */
			n = hf_spool_streams(t.spool, streams);
			n = below(n);
			memset(s, 0, sizeof(*s));
			if (streams[n].first_unacked > streams[n].last)
				break;
			streams[n].last = read_stream(
				&t, streams[n].epoch, streams[n].first_unacked,
				streams[n].first_unacked +
					below(streams[n].last - streams[n].first_unacked + 1),
				s);
			if (hf_spool_ack(t.spool, streams[n].epoch, streams[n].last) == -ENOENT)
				break; /* dropped before anything of it was read */
			lost += seen_lost(s);
			for (unsigned i = 0; i < SEEN_MAX; i++) {
				got_low[i] += s->low[i];
				got_high[i] += s->high[i];
			}
			break;
		default:
			for (uint64_t k = below(20); k > 0; k--) {
				if (below(3))
					put(&t, HF_SPOOL_LOW, (unsigned)low++);
				else
					put(&t, HF_SPOOL_HIGH, (unsigned)high++);
			}
			break;
		}
		spool_turn(&t);
	}
	disk.refuse = 0;
	spool_reopen(&t);
	/* Behind it are the marks of streams that had to go at the start. */
	put_many(&t, HF_SPOOL_LOW, (unsigned)low, (unsigned)low);
	low++;
	read_all(&t, s);
	lost += seen_lost(s);
	appended = low + high;
	for (unsigned i = 0; i < SEEN_MAX; i++) {
		got_low[i] += s->low[i];
		got_high[i] += s->high[i];
		if (got_low[i] > 1 || got_high[i] > 1)
			fail_msg("record %u came %u and %u times", i, got_low[i], got_high[i]);
		appended -= got_low[i] + got_high[i];
	}
	assert_int_equal(appended, lost);
	spool_close(&t);
}

#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, hf_test_dir_setup, hf_test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DIR(records_come_back_in_order_by_priority),
		WITH_DIR(empty_and_longest_records_are_records),
		WITH_DIR(nothing_is_settled_before_it_is_synced),
		WITH_DIR(low_records_gather_and_high_ones_do_not),
		WITH_DIR(a_reopened_spool_goes_on),
		WITH_DIR(what_is_acknowledged_is_removed_and_numbers_go_on),
		WITH_DIR(acknowledgements_of_nonsense_do_nothing),
		WITH_DIR(a_kill_at_any_operation_loses_nothing_that_was_settled),
		WITH_DIR(a_torn_tail_is_cut_at_every_length),
		WITH_DIR(a_damaged_record_is_a_gap_of_one),
		WITH_DIR(a_segment_with_a_damaged_header_is_a_gap_of_its_records),
		WITH_DIR(removed_files_are_a_gap),
		WITH_DIR(files_removed_under_it_are_a_gap_too),
		WITH_DIR(garbage_in_the_directory_does_no_harm),
		WITH_DIR(damaged_positions_cost_nothing_but_repetition),
		WITH_DIR(a_lost_directory_is_a_new_stream),
		WITH_DIR(a_directory_lost_while_running_is_survived),
		WITH_DIR(a_second_opener_is_turned_away),
		WITH_DIR(bad_configurations_are_refused),
		WITH_DIR(a_full_disk_is_survived),
		WITH_DIR(a_disk_that_became_read_only_is_survived),
		WITH_DIR(a_sync_that_fails_is_not_believed_later),
		WITH_DIR(a_disk_that_refuses_from_the_start_is_survived),
		WITH_DIR(what_is_in_memory_at_the_end_is_written_if_the_disk_is_back),
		WITH_DIR(memory_is_bounded_and_what_is_dropped_is_counted),
		WITH_DIR(a_full_tmpfs_is_survived),
		WITH_DIR(a_full_spool_drops_the_oldest_low_records_first),
		WITH_DIR(a_full_queue_is_a_gap_of_exactly_what_was_refused),
		WITH_DIR(streams_are_bounded),
		WITH_DIR(a_portal_restored_from_a_backup_gets_a_gap_and_the_rest_again),
		WITH_DIR(everything_deleted_and_forgotten_by_the_portal_is_a_gap),
		WITH_DIR(a_portal_that_has_more_than_we_makes_a_new_epoch),
		WITH_DIR(a_record_given_up_is_a_gap),
		WITH_DIR(in_any_order_of_trouble_nothing_is_lost_uncounted),
	};

	return HF_RUN_TESTS(tests);
}
