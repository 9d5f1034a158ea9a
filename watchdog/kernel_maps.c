/* SPDX-License-Identifier: Apache-2.0 */
/* The writes to the maps, and what the watchdog reads back of them. */
#include "kernel_private.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/cleanup.h"
#include "base/clock.h"

void hf_kernel_default_policy(struct hf_policy *ret)
{
	*ret = (struct hf_policy){
		.kinds = HF_POLICY_KINDS_DEFAULT,
		/* A cgroup may fill an eighth of the bulk ring at once, then 500 events a second. */
		.bucket_burst = 600,
		.bucket_interval_ns = 2 * HF_NS_PER_MS,
		.mark_interval_ns = HF_NS_PER_S,
		.drop_window_ns = HF_NS_PER_S,
	};
}

static int update(const struct hf_kernel *k, enum map_id map, const void *key, const void *value)
{
	if (k->map_fd[map] < 0)
		return -ENOSYS;
	return bpf_map_update_elem(k->map_fd[map], key, value, BPF_ANY) < 0 ? -errno : 0;
}

/* Removing what is not there is done already. */
static int delete (const struct hf_kernel *k, enum map_id map, const void *key)
{
	if (k->map_fd[map] < 0)
		return -ENOSYS;
	return bpf_map_delete_elem(k->map_fd[map], key) < 0 && errno != ENOENT ? -errno : 0;
}

static int set_member(const struct hf_kernel *k, enum map_id map, const void *key, bool on)
{
	uint32_t one = 1;

	return on ? update(k, map, key, &one) : delete (k, map, key);
}

/* ---- sets of the filter maps ------------------------------------------------------------------- */

static int set_bits(const struct hf_kernel *k, enum map_id map, const void *key, uint32_t on,
		    uint32_t off)
{
	uint32_t value = 0, now;

	if (k->map_fd[map] < 0)
		return -ENOSYS;
	if (bpf_map_lookup_elem(k->map_fd[map], key, &value) < 0 && errno != ENOENT)
		return -errno;
	now = (value | on) & ~off;
	if (now == value)
		return 0;
	return now ? update(k, map, key, &now) : delete (k, map, key);
}

int hf_kernel_members_add(struct hf_kernel *k, enum map_id map, const void *keys, size_t size,
			  size_t n, uint32_t bit)
{
	int r = 0;

	for (size_t i = 0; !r && i < n; i++)
		r = set_bits(k, map, (const char *)keys + i * size, bit, 0);
	return r;
}

/*
 * Keys are taken down first: walking on from one that was just deleted starts again from the
 * beginning.
 */
int hf_kernel_members_clear(struct hf_kernel *k, enum map_id map, uint32_t bit)
{
	/* The largest filter map: two full sets of the longest keys. */
	const size_t room = 2 * HF_FILTER_CGROUP_MAX;
	_cleanup_free_ char *keys = calloc(room, HF_CGROUP_LEAF_SIZE);
	char *last = NULL;
	size_t n = 0;
	int r = 0;

	if (!keys)
		return -ENOMEM;
	if (k->map_fd[map] < 0)
		return -ENOSYS;
	while (n < room &&
	       bpf_map_get_next_key(k->map_fd[map], last, keys + n * HF_CGROUP_LEAF_SIZE) == 0)
		last = keys + n++ * HF_CGROUP_LEAF_SIZE;
	for (size_t i = 0; !r && i < n; i++)
		r = set_bits(k, map, keys + i * HF_CGROUP_LEAF_SIZE, 0, bit);
	return r;
}

/* ---- policy ------------------------------------------------------------------------------------ */

int hf_kernel_write_policy(struct hf_kernel *k, const struct hf_policy *policy)
{
	struct hf_policy p = *policy;
	uint32_t zero = 0;
	int r;

	p.guardian_tgid = (uint32_t)getpid();
	p.watched_cookies = k->policy.watched_cookies;
	p.watched_tgids = k->policy.watched_tgids;
	r = update(k, MAP_POLICY, &zero, &p);
	if (!r)
		k->policy = p;
	return r;
}

int hf_kernel_read_policy(struct hf_kernel *k)
{
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(k->map_fd[MAP_POLICY], &zero, &k->policy) < 0)
		return -errno;
	return 0;
}

int hf_kernel_set_policy(struct hf_kernel *k, const struct hf_policy *policy)
{
	struct hf_policy p = *policy;

	p.flags = (p.flags & ~HF_POLICY_F_SET_B) | (k->policy.flags & HF_POLICY_F_SET_B);
	return hf_kernel_write_policy(k, &p);
}

/* The bits of what is watched, as they are in k->policy now. */
static int write_bits(struct hf_kernel *k)
{
	struct hf_policy p = k->policy;

	return hf_kernel_write_policy(k, &p);
}

/* One more or less in the set that counts. */
static int change_member(struct hf_kernel *k, enum map_id map, const void *key, bool on)
{
	uint32_t bit = hf_kernel_filter_bit(k->policy.flags);

	return set_bits(k, map, key, on ? bit : 0, on ? 0 : bit);
}

int hf_kernel_filter_netns(struct hf_kernel *k, uint32_t netns, bool on)
{
	return change_member(k, MAP_FILTER_NETNS, &netns, on);
}

int hf_kernel_filter_cgroup(struct hf_kernel *k, uint64_t cgroup_id, bool on)
{
	return change_member(k, MAP_FILTER_CGROUP, &cgroup_id, on);
}

int hf_kernel_filter_port(struct hf_kernel *k, uint16_t port, bool on)
{
	return change_member(k, MAP_FILTER_PORT, &port, on);
}

/*
 * Adds or removes a watch. The bits of the policy are set before a member comes and cleared after
 * it has gone, so that programs never overlook one.
 */
static int set_watch(struct hf_kernel *k, enum map_id map, __u64 *bits, const void *key,
		     uint64_t (*bit_of)(const void *key), bool on)
{
	struct hf_process_key at; /* the longer key of the two */
	__u64 before = *bits;
	const void *from = NULL;
	int r;

	_Static_assert(sizeof(at) >= sizeof(uint64_t), "room for a cookie");
	if (on) {
		*bits |= bit_of(key);
		if (*bits != before) {
			r = write_bits(k);
			if (r < 0)
				return r;
		}
		return set_member(k, map, key, true);
	}
	r = set_member(k, map, key, false);
	if (r < 0)
		return r;
	for (*bits = 0; bpf_map_get_next_key(k->map_fd[map], from, &at) == 0; from = &at)
		*bits |= bit_of(&at);
	return *bits == before ? 0 : write_bits(k);
}

static uint64_t bit_of_cookie(const void *key)
{
	return HF_WATCH_BIT(*(const uint64_t *)key);
}

static uint64_t bit_of_process(const void *key)
{
	return HF_WATCH_BIT(((const struct hf_process_key *)key)->tgid);
}

int hf_kernel_watch_socket(struct hf_kernel *k, uint64_t cookie, bool on)
{
	return set_watch(k, MAP_WATCHED_COOKIE, &k->policy.watched_cookies, &cookie, bit_of_cookie,
			 on);
}

static struct hf_process_key process_key(uint32_t tgid, uint64_t start_ns)
{
	return (struct hf_process_key){.tgid = tgid,
				       .start_tick_ns = start_ns - start_ns % HF_PROCESS_TICK_NS};
}

int hf_kernel_watch_process(struct hf_kernel *k, uint32_t tgid, uint64_t start_ns)
{
	struct hf_process_key key = process_key(tgid, start_ns);

	return set_watch(k, MAP_WATCHED_PROCESS, &k->policy.watched_tgids, &key, bit_of_process,
			 true);
}

int hf_kernel_lookup_exit(struct hf_kernel *k, uint32_t tgid, uint64_t start_ns,
			  struct hf_exit_verdict *ret)
{
	struct hf_process_key key = process_key(tgid, start_ns);
	struct hf_exit_verdict v;

	if (k->map_fd[MAP_EXIT_VERDICT] < 0)
		return -ENOSYS;
	if (bpf_map_lookup_elem(k->map_fd[MAP_EXIT_VERDICT], &key, &v) < 0)
		return -errno;
	*ret = v;
	return 0;
}

int hf_kernel_forget_process(struct hf_kernel *k, uint32_t tgid, uint64_t start_ns)
{
	struct hf_process_key key = process_key(tgid, start_ns);
	int r;

	r = set_watch(k, MAP_WATCHED_PROCESS, &k->policy.watched_tgids, &key, bit_of_process,
		      false);
	if (r < 0)
		return r;
	return delete (k, MAP_EXIT_VERDICT, &key);
}

static int run_flush(const struct hf_kernel *k, const struct hf_drop_key *key)
{
	const uint64_t args[] = {key->cgroup_id, (uint64_t)key->reason << 32 | key->netns};
	LIBBPF_OPTS(bpf_test_run_opts, o, .ctx_in = args, .ctx_size_in = sizeof(args));

	return bpf_prog_test_run_opts(k->programs[PROGRAM_DROP_FLUSH].fd, &o) < 0 ? -errno : 0;
}

int hf_kernel_flush_drops(struct hf_kernel *k)
{
	const int map = k->map_fd[MAP_DROP_COUNTS];
	struct hf_drop_key at, next;
	struct hf_drop_count n;
	const void *from = NULL;
	uint64_t now;
	int told = 0, r;

	if (!(k->policy.kinds & HF_POLICY_KIND(HF_EVENT_SKB_DROP)) ||
	    k->programs[PROGRAM_DROP_FLUSH].fd < 0)
		return 0;
	now = hf_now_boottime_ns();
	/* The kernel evicts and moves entries meanwhile: a walk has an end of its own. */
	for (unsigned i = 0; i < 2 * HF_DROP_COUNTS_MAX; i++) {
		if (bpf_map_get_next_key(map, from, &next) < 0)
			break;
		at = next;
		from = &at;
		if (bpf_map_lookup_elem(map, &at, &n) < 0 || !n.count || n.told_ns > now ||
		    now - n.told_ns < k->policy.drop_window_ns)
			continue;
		r = run_flush(k, &at);
		if (r < 0)
			return r;
		told++;
	}
	return told;
}
