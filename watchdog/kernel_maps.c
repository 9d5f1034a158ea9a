/* SPDX-License-Identifier: Apache-2.0 */
/* The writes to the maps, and what the watchdog reads back of them. */
#include "kernel_private.h"

#include <errno.h>
#include <unistd.h>

#include <bpf/bpf.h>

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

int hf_kernel_set_policy(struct hf_kernel *k, const struct hf_policy *policy)
{
	struct hf_policy p = *policy;
	uint32_t zero = 0;

	p.guardian_tgid = (uint32_t)getpid();
	return update(k, MAP_POLICY, &zero, &p);
}

int hf_kernel_filter_netns(struct hf_kernel *k, uint32_t netns, bool on)
{
	return set_member(k, MAP_FILTER_NETNS, &netns, on);
}

int hf_kernel_filter_cgroup(struct hf_kernel *k, uint64_t cgroup_id, bool on)
{
	return set_member(k, MAP_FILTER_CGROUP, &cgroup_id, on);
}

int hf_kernel_filter_port(struct hf_kernel *k, uint16_t port, bool on)
{
	return set_member(k, MAP_FILTER_PORT, &port, on);
}

int hf_kernel_watch_socket(struct hf_kernel *k, uint64_t cookie, bool on)
{
	return set_member(k, MAP_WATCHED_COOKIE, &cookie, on);
}

static struct hf_process_key process_key(uint32_t tgid, uint64_t start_ns)
{
	return (struct hf_process_key){.tgid = tgid,
				       .start_tick_ns = start_ns - start_ns % HF_PROCESS_TICK_NS};
}

int hf_kernel_watch_process(struct hf_kernel *k, uint32_t tgid, uint64_t start_ns)
{
	struct hf_process_key key = process_key(tgid, start_ns);

	return set_member(k, MAP_WATCHED_PROCESS, &key, true);
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

	r = delete (k, MAP_WATCHED_PROCESS, &key);
	if (r < 0)
		return r;
	return delete (k, MAP_EXIT_VERDICT, &key);
}
