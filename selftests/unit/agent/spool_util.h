/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A spool under test: a directory of its own, a disk that can be told to misbehave, and a reader
 * that plays the portal: it keeps what it got and insists that nothing comes twice.
 */
#pragma once

#include "selftests/unit/test_util.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "userspace/agent/spool.h"

#define WAIT_MS 10000

/* ---- the disk ------------------------------------------------------------------------------- */

static struct {
	_Atomic int refuse;       /* errno of every write, open for writing and sync */
	_Atomic int refuse_fsync; /* errno of every sync only */
	_Atomic unsigned
		kill_at;      /* SIGKILL at this operation, half way through a write; 0: never */
	unsigned n;           /* operations so far */
	pthread_mutex_t hold; /* a sync waits for it: the test holds it to stop the thread */
} disk = {.hold = PTHREAD_MUTEX_INITIALIZER};

static inline void disk_step(void)
{
	if (++disk.n == disk.kill_at)
		(void)raise(SIGKILL);
}

static inline ssize_t disk_pwrite(int fd, const void *buf, size_t len, off_t off)
{
	if (disk.refuse) {
		errno = disk.refuse;
		return -1;
	}
	if (++disk.n == disk.kill_at) {
		(void)!pwrite(fd, buf, len / 2, off);
		(void)raise(SIGKILL);
	}
	/* Short writes happen. */
	return pwrite(fd, buf, len > 3 ? len - 3 : len, off);
}

static inline int disk_fsync(int fd)
{
	(void)fd;
	(void)pthread_mutex_lock(&disk.hold);
	(void)pthread_mutex_unlock(&disk.hold);
	disk_step();
	if (disk.refuse || disk.refuse_fsync) {
		errno = disk.refuse ? disk.refuse : disk.refuse_fsync;
		return -1;
	}
	return 0; /* the page cache outlives a SIGKILL; real syncs only make the test slow */
}

static inline int disk_openat(int dirfd, const char *name, int flags, mode_t mode)
{
	disk_step();
	if (disk.refuse && (flags & O_ACCMODE) != O_RDONLY) {
		errno = disk.refuse;
		return -1;
	}
	return openat(dirfd, name, flags, mode);
}

static inline int disk_unlinkat(int dirfd, const char *name, int flags)
{
	disk_step();
	if (disk.refuse == EROFS) {
		errno = EROFS;
		return -1;
	}
	return unlinkat(dirfd, name, flags);
}

static const struct hf_spool_ops disk_ops = {disk_pwrite, disk_fsync, disk_openat, disk_unlinkat};

/* ---- the spool ------------------------------------------------------------------------------ */

struct spool_test {
	struct hf_test_dir *dir;
	struct hf_spool_config config;
	struct hf_spool *spool;
	uint64_t settled;
	bool in_memory; /* something was settled in memory */
	int disk_error, disk_changes;
	unsigned readable;
	char path[300];
};

static inline void on_settled(uint64_t ticket, bool on_disk, void *userdata)
{
	struct spool_test *t = userdata;

	assert_true(ticket > t->settled);
	t->settled = ticket;
	if (!on_disk)
		t->in_memory = true;
}

static inline void on_readable(void *userdata)
{
	((struct spool_test *)userdata)->readable++;
}

static inline void on_disk(int r, void *userdata)
{
	struct spool_test *t = userdata;

	t->disk_error = r;
	t->disk_changes++;
}

static inline int spool_try_open(struct spool_test *t, struct hf_spool **ret)
{
	static const struct hf_spool_callbacks cb = {on_settled, on_readable, on_disk};

	return hf_spool_open(&t->config, &cb, t, ret);
}

static inline void spool_open(struct spool_test *t)
{
	assert_null(t->spool);
	t->settled = 0;
	t->in_memory = false;
	assert_ok(spool_try_open(t, &t->spool));
}

static inline void spool_close(struct spool_test *t)
{
	t->spool = hf_spool_close(t->spool, WAIT_MS);
}

static inline void spool_reopen(struct spool_test *t)
{
	spool_close(t);
	spool_open(t);
}

/* In a forked child a failed assertion must end the child, not go on with the next test. */
static inline void child_init(void)
{
	(void)setenv("CMOCKA_TEST_ABORT", "1", 1);
}

static inline void spool_init(struct spool_test *t, void **state)
{
	*t = (struct spool_test){.dir = *state};
	(void)snprintf(t->path, sizeof(t->path), "%s/spool", t->dir->path);
	t->config = (struct hf_spool_config){
		.dir = t->path,
		.segment_bytes = 1024,
		.max_bytes = 1 << 20,
		.retry_ms = 20,
		.ops = &disk_ops,
	};
	disk.refuse = disk.refuse_fsync = 0;
	disk.kill_at = disk.n = 0;
}

/* Dispatches until cond, with a deadline. */
#define WAIT_FOR(t, cond)                                                         \
	do {                                                                      \
		uint64_t _until = hf_now_monotonic_ns() + WAIT_MS * HF_NS_PER_MS; \
		while (!(cond)) {                                                 \
			if (hf_now_monotonic_ns() > _until)                       \
				fail_msg("waited in vain for " #cond);            \
			spool_turn(t);                                            \
		}                                                                 \
	} while (0)

static inline void spool_turn(struct spool_test *t)
{
	struct pollfd p = {.fd = hf_spool_fd(t->spool), .events = POLLIN};

	(void)poll(&p, 1, 20);
	hf_spool_dispatch(t->spool);
}

/* A record whose content says which one it is: "H17" padded to len. */
static inline uint64_t put_sized(struct spool_test *t, enum hf_spool_priority prio, unsigned n,
				 size_t len)
{
	char text[HF_SPOOL_RECORD_MAX + 1];
	uint64_t ticket = 0;
	int used = snprintf(text, sizeof(text), "%c%u", prio == HF_SPOOL_HIGH ? 'H' : 'L', n);

	memset(text + used, ' ', len - (size_t)used);
	assert_ok(hf_spool_append(t->spool, prio, text, len, &ticket));
	return ticket;
}

static inline uint64_t put(struct spool_test *t, enum hf_spool_priority prio, unsigned n)
{
	return put_sized(t, prio, n, 100);
}

/* Records from..to, settled. */
static inline void put_many(struct spool_test *t, enum hf_spool_priority prio, unsigned from,
			    unsigned to)
{
	uint64_t ticket = 0;

	for (unsigned n = from; n <= to; n++)
		ticket = put(t, prio, n);
	WAIT_FOR(t, t->settled >= ticket);
}

/* ---- the portal ----------------------------------------------------------------------------- */

#define SEEN_MAX 20000

struct seen {
	unsigned high[SEEN_MAX], low[SEEN_MAX]; /* how often record n came */
	uint64_t lost[_HF_SPOOL_GAP_REASON_MAX];
	uint64_t records, gaps;
};

static inline uint64_t seen_lost(const struct seen *seen)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < _HF_SPOOL_GAP_REASON_MAX; i++)
		n += seen->lost[i];
	return n;
}

/* One stream from `from` to its end; checks that records and gaps cover it without a hole. */
static inline uint64_t read_stream(struct spool_test *t, uint64_t epoch, uint64_t from,
				   uint64_t last, struct seen *seen)
{
	struct hf_spool_chunk c = {};
	uint64_t next = from;

	while (next <= last) {
		uint64_t seq;
		size_t g = 0;
		int r = hf_spool_read(t->spool, epoch, next, 7, 600, &c);

		/* 0: the writer has not come to it yet, on a busy host. */
		if (r == -EAGAIN || r == 0) {
			unsigned before = t->readable;

			WAIT_FOR(t, t->readable > before ||
					    hf_spool_read(t->spool, epoch, next, 7, 600, &c) == 1);
			continue;
		}
		/* The writer may have had to drop the whole stream since the caller saw it. */
		if (r == -ENOENT && next == from)
			break;
		assert_int_equal(r, 1);
		assert_int_equal(c.epoch, epoch);
		assert_int_equal(c.first, next);
		seq = c.first;
		for (size_t i = 0; i <= c.n_items; i++) {
			while (g < c.n_gaps && c.gaps[g].first == seq) {
				seen->lost[c.gaps[g].reason] += c.gaps[g].last - seq + 1;
				seen->gaps++;
				seq = c.gaps[g++].last + 1;
			}
			if (i < c.n_items) {
				const char *text = (const char *)c.data.data + c.items[i].off;
				unsigned n = (unsigned)atoi(text + 1);

				assert_int_equal(c.items[i].seq, seq++);
				assert_true(n < SEEN_MAX);
				(*text == 'H' ? seen->high : seen->low)[n]++;
				seen->records++;
			}
		}
		assert_int_equal(g, c.n_gaps);
		assert_int_equal(seq, c.last + 1);
		next = seq;
	}
	hf_spool_chunk_done(&c);
	return next - 1;
}

/* All that is not acknowledged, of all streams. */
static inline void read_all(struct spool_test *t, struct seen *seen)
{
	struct hf_spool_stream streams[HF_SPOOL_STREAMS_MAX];
	size_t n = hf_spool_streams(t->spool, streams);

	memset(seen, 0, sizeof(*seen));
	for (size_t i = 0; i < n; i++)
		(void)read_stream(t, streams[i].epoch, streams[i].first_unacked, streams[i].last,
				  seen);
}

/* Records from..to exactly `times` each. */
static inline void assert_seen(const unsigned *which, unsigned from, unsigned to, unsigned times)
{
	for (unsigned n = from; n <= to; n++)
		if (which[n] != times)
			fail_msg("record %u came %u times, expected %u", n, which[n], times);
}

/* The current stream of a priority: the last one listed of it. */
static inline struct hf_spool_stream current_stream(struct spool_test *t,
						    enum hf_spool_priority prio)
{
	struct hf_spool_stream streams[HF_SPOOL_STREAMS_MAX], found = {};
	size_t n = hf_spool_streams(t->spool, streams);

	for (size_t i = 0; i < n; i++)
		if (streams[i].prio == prio)
			found = streams[i];
	assert_true(found.epoch != 0);
	return found;
}
