/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent gets: descriptors, and a text about the running kernel and the programs. */
#include "kernel_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <bpf/bpf.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

int hf_kernel_ring_fd(const struct hf_kernel *k, enum hf_ring_id ring)
{
	hf_assert(ring < _HF_RING_MAX);
	return k->map_fd[MAP_RING_URGENT + (int)ring] < 0 ? -ENOSYS
							  : k->map_fd[MAP_RING_URGENT + (int)ring];
}

int hf_kernel_counters_fd(const struct hf_kernel *k)
{
	return k->map_fd[MAP_COUNTERS] < 0 ? -ENOSYS : k->map_fd[MAP_COUNTERS];
}

static uint64_t missed(const struct hf_kernel_slot *p)
{
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);

	if (p->fd < 0 || bpf_obj_get_info_by_fd(p->fd, &info, &len) < 0)
		return 0;
	return info.recursion_misses;
}

uint64_t hf_kernel_program_missed(const struct hf_kernel *k, size_t i)
{
	return i < _PROGRAM_MAX ? missed(&k->programs[i]) : 0;
}

uint64_t hf_kernel_recursion_misses(const struct hf_kernel *k)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < _PROGRAM_MAX; i++)
		sum += missed(&k->programs[i]);
	return sum;
}

static int describe(const struct hf_kernel *k, struct hf_buf *b)
{
	uint8_t boot_id[16] = {0};
	char hex[2 * sizeof(boot_id) + 1];
	int i, r;

	(void)hf_boot_id(boot_id); /* zeros: the reader compares, nothing more */
	hf_hex_encode(hex, boot_id, sizeof(boot_id));
	r = hf_buf_appendf(b, "abi %u\nassist %s\nboot_id %s\ncpus %u\n", HF_EVENT_ABI,
			   hf_kernel_assist_name(k->assist), hex, k->cpus);
	if (!r && k->reason[0])
		r = hf_buf_appendf(b, "reason %s\n", k->reason);
	if (!r && k->assist != HF_KERNEL_ASSIST_OFF)
		r = hf_buf_appendf(b, "ring urgent %u\nring bulk %u\n",
				   k->ring_bytes[HF_RING_URGENT], k->ring_bytes[HF_RING_BULK]);
	for (i = 0; !r && i < _PROGRAM_MAX; i++) {
		const struct hf_kernel_slot *p = &k->programs[i];
		uint64_t n = missed(p);

		r = hf_buf_appendf(b, "program %s %s%s%s\n", p->pub.name,
				   p->pub.attached ? "on" : "off", p->reason[0] ? " " : "",
				   p->pub.attached ? "" : p->reason);
		if (!r && n)
			r = hf_buf_appendf(b, "missed %s %llu\n", p->pub.name,
					   (unsigned long long)n);
	}
	if (!r && k->names.len)
		r = hf_buf_append(b, k->names.data, k->names.len);
	return r;
}

int hf_kernel_text_fd(const struct hf_kernel *k)
{
	_cleanup_(hf_buf_done) struct hf_buf b = {0};
	_cleanup_close_ int fd = -1;
	int r;

	r = describe(k, &b);
	if (r < 0)
		return r;
	if (b.len > HF_KERNEL_TEXT_MAX)
		return -EMSGSIZE;
	fd = memfd_create("holdfast-kernel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	r = hf_write_full(fd, b.data, b.len);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return -errno;
	return TAKE_FD(fd);
}
