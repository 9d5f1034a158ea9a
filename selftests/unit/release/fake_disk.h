/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk in memory behind struct hf_io, for power cuts.
 *
 * Each file has the content that was synced and a list of later writes; each directory likewise its
 * entries. fake_stop_at(k) lets the k-th state-changing call and all that follow fail, the k-th write
 * after a part of it: the machine is off. fake_after_cut() makes the disk that would be found then:
 *
 * - of a file's unsynced writes each piece of 128 bytes is there or not, by itself; the file may have
 *   its new length and zeros where a piece is missing;
 * - a change of mode that was not synced is there or not;
 * - of the unsynced changes of names (create, mkdir, rename, remove) each is there or not, by itself
 *   and in any order of loss; a rename is whole or not at all, and is durable when one of its
 *   directories is synced; syncing a file does not sync its name.
 *
 * That is less than any journaling file system promises, so what survives here survives there.
 */
#pragma once

#include "selftests/unit/test_util.h"

#include "base/str.h"
#include "userspace/release/io.h"

#define FAKE_NODES  160
#define FAKE_OPS    512
#define FAKE_FDS    32
#define FAKE_PIECE  128u
#define FAKE_FD_MIN 1000 /* so that a real descriptor is never one of ours */

struct fake_entry {
	char name[64];
	int node; /* -1: free */
};

#define FAKE_ENTRIES 24

struct fake_dir {
	struct fake_entry e[FAKE_ENTRIES];
};

struct fake_node {
	bool used, is_dir;
	uint32_t mode, synced_mode;
	struct hf_buf data, synced; /* files */
	struct hf_buf dirty;        /* files: one byte per piece of data, 1: not synced */
	struct fake_dir dir, synced_dir;
};

/* A change of names that was not synced. node goes to `to`, and leaves `from`. */
struct fake_op {
	bool done;
	int from_dir, to_dir; /* -1: none */
	char from[64], to[64];
	int node;
};

struct fake_disk {
	struct hf_io io;
	struct fake_node nodes[FAKE_NODES];
	int fds[FAKE_FDS]; /* node, or -1 */
	struct fake_op ops[FAKE_OPS];
	unsigned n_ops;
	unsigned calls, stop_at; /* stop_at 0: never */
	bool off;
	uint64_t random;
};

static inline struct fake_disk *fake_of(const struct hf_io *io)
{
	return io->ctx;
}

static inline uint64_t fake_random(struct fake_disk *d)
{
	/* xorshift64: the same cuts in each run. */
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return d->random;
}

static inline int fake_entry_of(const struct fake_dir *dir, const char *name)
{
	for (int i = 0; i < FAKE_ENTRIES; i++)
		if (dir->e[i].node >= 0 && hf_streq(dir->e[i].name, name))
			return i;
	return -1;
}

static inline void fake_set(struct fake_dir *dir, const char *name, int node)
{
	int at = fake_entry_of(dir, name);

	for (int i = 0; at < 0 && i < FAKE_ENTRIES; i++)
		if (dir->e[i].node < 0)
			at = i;
	assert_true(at >= 0);
	dir->e[at].node = node;
	assert_true(hf_strlcpy(dir->e[at].name, name, sizeof(dir->e[at].name)));
}

static inline void fake_unset(struct fake_dir *dir, const char *name)
{
	int at = fake_entry_of(dir, name);

	if (at >= 0)
		dir->e[at].node = -1;
}

static inline int fake_new_node(struct fake_disk *d, bool is_dir)
{
	for (int i = 0; i < FAKE_NODES; i++) {
		struct fake_node *n = &d->nodes[i];

		if (n->used)
			continue;
		*n = (struct fake_node){.used = true, .is_dir = is_dir};
		n->mode = n->synced_mode = is_dir ? 0700 : 0600;
		for (int k = 0; k < FAKE_ENTRIES; k++)
			n->dir.e[k].node = n->synced_dir.e[k].node = -1;
		return i;
	}
	fail_msg("no more nodes");
	return -1;
}

static inline int fake_fd(struct fake_disk *d, int node)
{
	for (int i = 0; i < FAKE_FDS; i++)
		if (d->fds[i] < 0) {
			d->fds[i] = node;
			return FAKE_FD_MIN + i;
		}
	fail_msg("no more descriptors: a leak");
	return -1;
}

static inline int fake_node_of(const struct fake_disk *d, int fd)
{
	assert_true(fd >= FAKE_FD_MIN && fd < FAKE_FD_MIN + FAKE_FDS);
	assert_true(d->fds[fd - FAKE_FD_MIN] >= 0);
	return d->fds[fd - FAKE_FD_MIN];
}

static inline unsigned fake_open_count(const struct fake_disk *d)
{
	unsigned n = 0;

	for (int i = 0; i < FAKE_FDS; i++)
		n += d->fds[i] >= 0;
	return n;
}

/* Whether the machine still runs; counts the call. */
static inline bool fake_runs(struct fake_disk *d)
{
	d->calls++;
	if (d->stop_at && d->calls >= d->stop_at)
		d->off = true;
	return !d->off;
}

static inline int fake_lookup(struct fake_disk *d, int dir, const char *name)
{
	struct fake_node *n = &d->nodes[fake_node_of(d, dir)];
	int at;

	assert_null(strchr(name, '/'));
	if (d->off)
		return -EIO;
	if (!n->is_dir)
		return -ENOTDIR;
	at = fake_entry_of(&n->dir, name);
	return at < 0 ? -ENOENT : n->dir.e[at].node;
}

static inline int fake_open_dir(const struct hf_io *io, int dir, const char *name)
{
	struct fake_disk *d = fake_of(io);
	int node = fake_lookup(d, dir, name);

	if (node < 0)
		return node;
	return d->nodes[node].is_dir ? fake_fd(d, node) : -ENOTDIR;
}

static inline int fake_open_file(const struct hf_io *io, int dir, const char *name, bool write)
{
	struct fake_disk *d = fake_of(io);
	int node = fake_lookup(d, dir, name);

	if (node < 0)
		return node;
	return write && d->nodes[node].is_dir ? -EISDIR : fake_fd(d, node);
}

static inline void fake_close(const struct hf_io *io, int fd)
{
	struct fake_disk *d = fake_of(io);

	(void)fake_node_of(d, fd);
	d->fds[fd - FAKE_FD_MIN] = -1;
}

static inline ssize_t fake_read(const struct hf_io *io, int fd, void *buf, size_t len, uint64_t at)
{
	struct fake_disk *d = fake_of(io);
	struct fake_node *n = &d->nodes[fake_node_of(d, fd)];

	if (d->off)
		return -EIO;
	if (n->is_dir)
		return -EISDIR;
	if (at >= n->data.len)
		return 0;
	if (len > n->data.len - at)
		len = n->data.len - at;
	memcpy(buf, n->data.data + at, len);
	return (ssize_t)len;
}

static inline int fake_stat(const struct hf_io *io, int fd, struct hf_io_stat *ret)
{
	struct fake_disk *d = fake_of(io);
	struct fake_node *n = &d->nodes[fake_node_of(d, fd)];

	if (d->off)
		return -EIO;
	*ret = (struct hf_io_stat){
		.is_file = !n->is_dir, .is_dir = n->is_dir, .mode = n->mode, .size = n->data.len};
	return 0;
}

static inline int fake_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static inline int fake_list(const struct hf_io *io, int dir, struct hf_io_names *ret)
{
	struct fake_disk *d = fake_of(io);
	struct fake_node *n = &d->nodes[fake_node_of(d, dir)];

	if (d->off)
		return -EIO;
	ret->names = calloc(FAKE_ENTRIES, sizeof(*ret->names));
	ret->n = 0;
	for (int i = 0; i < FAKE_ENTRIES; i++)
		if (n->dir.e[i].node >= 0)
			ret->names[ret->n++] = strdup(n->dir.e[i].name);
	qsort(ret->names, ret->n, sizeof(*ret->names), fake_compare);
	return 0;
}

static inline void fake_remember(struct fake_disk *d, int from_dir, const char *from, int to_dir,
				 const char *to, int node)
{
	struct fake_op *op = &d->ops[d->n_ops++];

	assert_true(d->n_ops < FAKE_OPS);
	*op = (struct fake_op){.from_dir = from_dir, .to_dir = to_dir, .node = node};
	(void)hf_strlcpy(op->from, from ? from : "", sizeof(op->from));
	(void)hf_strlcpy(op->to, to ? to : "", sizeof(op->to));
}

static inline int fake_make(const struct hf_io *io, int dir, const char *name, bool is_dir)
{
	struct fake_disk *d = fake_of(io);
	int parent = fake_node_of(d, dir), node;

	if (!fake_runs(d))
		return -EIO;
	if (fake_lookup(d, dir, name) >= 0)
		return -EEXIST;
	node = fake_new_node(d, is_dir);
	fake_set(&d->nodes[parent].dir, name, node);
	fake_remember(d, -1, NULL, parent, name, node);
	return node;
}

static inline int fake_create(const struct hf_io *io, int dir, const char *name)
{
	int node = fake_make(io, dir, name, false);

	return node < 0 ? node : fake_fd(fake_of(io), node);
}

static inline int fake_mkdir(const struct hf_io *io, int dir, const char *name)
{
	int node = fake_make(io, dir, name, true);

	return node < 0 ? node : 0;
}

static inline void fake_grow(struct hf_buf *b, size_t len)
{
	static const uint8_t zeros[4096];

	while (b->len < len) {
		size_t more = len - b->len < sizeof(zeros) ? len - b->len : sizeof(zeros);

		assert_ok(hf_buf_append(b, zeros, more));
	}
}

static inline int fake_write(const struct hf_io *io, int fd, const void *buf, size_t len,
			     uint64_t at)
{
	struct fake_disk *d = fake_of(io);
	struct fake_node *n = &d->nodes[fake_node_of(d, fd)];
	bool was_off = d->off, runs = fake_runs(d);

	if (was_off)
		return -EIO;
	if (!runs)
		len = (size_t)(fake_random(d) % (len + 1)); /* the last write of this machine */
	if (len > 0) {
		fake_grow(&n->data, at + len);
		fake_grow(&n->dirty, (at + len + FAKE_PIECE - 1) / FAKE_PIECE);
		memcpy(n->data.data + at, buf, len);
		memset(n->dirty.data + at / FAKE_PIECE, 1,
		       (at + len - 1) / FAKE_PIECE - at / FAKE_PIECE + 1);
	}
	return runs ? 0 : -EIO;
}

static inline void fake_apply(struct fake_disk *d, struct fake_op *op)
{
	if (op->from_dir >= 0)
		fake_unset(&d->nodes[op->from_dir].synced_dir, op->from);
	if (op->to_dir >= 0)
		fake_set(&d->nodes[op->to_dir].synced_dir, op->to, op->node);
	op->done = true;
}

static inline int fake_sync(const struct hf_io *io, int fd)
{
	struct fake_disk *d = fake_of(io);
	int node = fake_node_of(d, fd);
	struct fake_node *n = &d->nodes[node];

	if (!fake_runs(d))
		return -EIO;
	n->synced_mode = n->mode;
	if (!n->is_dir) {
		n->synced.len = 0;
		assert_ok(hf_buf_append(&n->synced, n->data.data, n->data.len));
		n->dirty.len = 0;
	}
	for (unsigned i = 0; i < d->n_ops; i++)
		if (!d->ops[i].done && (d->ops[i].from_dir == node || d->ops[i].to_dir == node))
			fake_apply(d, &d->ops[i]);
	return 0;
}

static inline int fake_chmod(const struct hf_io *io, int fd, uint32_t mode)
{
	struct fake_disk *d = fake_of(io);

	if (!fake_runs(d))
		return -EIO;
	d->nodes[fake_node_of(d, fd)].mode = mode;
	return 0;
}

static inline int fake_rename(const struct hf_io *io, int from_dir, const char *from, int to_dir,
			      const char *to)
{
	struct fake_disk *d = fake_of(io);
	int a = fake_node_of(d, from_dir), b = fake_node_of(d, to_dir), node;

	if (!fake_runs(d))
		return -EIO;
	node = fake_lookup(d, from_dir, from);
	if (node < 0)
		return node;
	if (fake_lookup(d, to_dir, to) >= 0)
		return -EEXIST;
	fake_unset(&d->nodes[a].dir, from);
	fake_set(&d->nodes[b].dir, to, node);
	fake_remember(d, a, from, b, to, node);
	return 0;
}

static inline int fake_remove(const struct hf_io *io, int dir, const char *name, bool is_dir)
{
	struct fake_disk *d = fake_of(io);
	int parent = fake_node_of(d, dir), node;

	if (!fake_runs(d))
		return -EIO;
	node = fake_lookup(d, dir, name);
	if (node < 0)
		return node;
	if (d->nodes[node].is_dir && !is_dir)
		return -EISDIR;
	for (int i = 0; is_dir && i < FAKE_ENTRIES; i++)
		if (d->nodes[node].dir.e[i].node >= 0)
			return -ENOTEMPTY;
	fake_unset(&d->nodes[parent].dir, name);
	fake_remember(d, parent, name, -1, NULL, node);
	return 0;
}

/* An empty disk; node 0 is its root. */
static inline struct fake_disk *fake_disk_new(void)
{
	struct fake_disk *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	d->io = (struct hf_io){
		.open_dir = fake_open_dir,
		.open_file = fake_open_file,
		.close = fake_close,
		.read = fake_read,
		.stat = fake_stat,
		.list = fake_list,
		.create = fake_create,
		.write = fake_write,
		.sync = fake_sync,
		.chmod = fake_chmod,
		.mkdir = fake_mkdir,
		.rename = fake_rename,
		.remove = fake_remove,
		.ctx = d,
	};
	for (int i = 0; i < FAKE_FDS; i++)
		d->fds[i] = -1;
	d->random = 88172645463325252;
	assert_int_equal(fake_new_node(d, true), 0);
	return d;
}

static inline struct fake_disk *fake_disk_free(struct fake_disk *d)
{
	for (int i = 0; d && i < FAKE_NODES; i++) {
		hf_buf_done(&d->nodes[i].data);
		hf_buf_done(&d->nodes[i].synced);
		hf_buf_done(&d->nodes[i].dirty);
	}
	free(d);
	return NULL;
}

static inline int fake_root(struct fake_disk *d)
{
	return fake_fd(d, 0);
}

/* How much of what was not synced is found after the cut. */
enum fake_cut { FAKE_NOTHING, FAKE_EVERYTHING, FAKE_SOME };

static inline bool fake_kept(struct fake_disk *d, enum fake_cut cut)
{
	return cut == FAKE_EVERYTHING || (cut == FAKE_SOME && (fake_random(d) & 1));
}

static inline void fake_file_after_cut(struct fake_disk *d, const struct fake_node *old,
				       struct fake_node *n, enum fake_cut cut)
{
	size_t len = old->synced.len;

	if (old->data.len > len && fake_kept(d, cut))
		len = old->data.len;
	assert_ok(hf_buf_append(&n->data, old->synced.data, old->synced.len));
	fake_grow(&n->data, len);
	for (size_t i = 0; i < old->dirty.len; i++) {
		size_t at = i * FAKE_PIECE, end = at + FAKE_PIECE;

		if (!old->dirty.data[i] || at >= len || !fake_kept(d, cut))
			continue;
		if (end > len)
			end = len;
		if (end > old->data.len)
			end = old->data.len;
		memcpy(n->data.data + at, old->data.data + at, end - at);
	}
	assert_ok(hf_buf_append(&n->synced, n->data.data, n->data.len));
}

/* The disk that is found when the power is back; seed chooses what FAKE_SOME keeps. */
static inline struct fake_disk *fake_after_cut(struct fake_disk *d, enum fake_cut cut,
					       uint64_t seed)
{
	struct fake_disk *n = fake_disk_new();
	struct fake_disk *copy = calloc(1, sizeof(*copy));

	assert_non_null(copy);
	memcpy(copy, d, sizeof(*copy)); /* buffers are borrowed */
	copy->random = (seed + 1) * 0x9e3779b97f4a7c15;
	for (unsigned i = 0; i < copy->n_ops; i++)
		if (!copy->ops[i].done && fake_kept(copy, cut))
			fake_apply(copy, &copy->ops[i]);
	for (int i = 0; i < FAKE_NODES; i++) {
		const struct fake_node *old = &copy->nodes[i];
		struct fake_node *node = &n->nodes[i];

		if (!old->used)
			continue;
		node->used = true;
		node->is_dir = old->is_dir;
		node->mode = node->synced_mode =
			fake_kept(copy, cut) ? old->mode : old->synced_mode;
		node->dir = node->synced_dir = old->synced_dir;
		if (!old->is_dir)
			fake_file_after_cut(copy, old, node, cut);
	}
	n->random = copy->random | 1;
	free(copy);
	return n;
}
