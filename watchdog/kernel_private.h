/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the loader share: the object behind kernel_load.h and the tables of programs
 * and maps. kernel_load.c keeps its life, kernel_object.c makes it from BPF objects or pins,
 * kernel_maps.c writes its maps, kernel_text.c describes it to the agent.
 */
#pragma once

#include "kernel_load.h"

#include "base/str.h"
#include "kernel_pins.h"
#include "kernel_probe.h"

#define HF_KERNEL_MAGIC 0x4b524e4cu

/* The order of `holdfast status`. Two programs are variants of one: the kernel has either. */
enum program_id {
	PROGRAM_TCP_STATE,
	PROGRAM_TCP_RESET_SENT,
	PROGRAM_TCP_RESET_RECEIVED,
	PROGRAM_TCP_ERROR,
	PROGRAM_TCP_OWNER,
	PROGRAM_TCP_RETRANSMIT,
	PROGRAM_SKB_DROP,
	PROGRAM_PROC_EXIT,
	PROGRAM_PROC_SIGNAL,
	PROGRAM_PROC_OOM,
	PROGRAM_SNAPSHOT,
	PROGRAM_DROP_FLUSH,
	_PROGRAM_MAX,
};

struct hf_kernel_program_line {
	const char *name;       /* for people */
	const char *symbol;     /* in the object */
	const char *variant;    /* likewise, for kernels whose tracepoint has other arguments */
	const char *tracepoint; /* NULL: run by the loader itself */
	int min_args;
};

extern const struct hf_kernel_program_line hf_kernel_program_table[_PROGRAM_MAX];

enum map_id {
	MAP_RING_URGENT, /* = HF_RING_URGENT */
	MAP_RING_BULK,
	MAP_COUNTERS,
	MAP_POLICY,
	MAP_FILTER_NETNS,
	MAP_FILTER_CGROUP,
	MAP_FILTER_PORT,
	MAP_FILTER_UNIT,
	MAP_WATCHED_COOKIE,
	MAP_WATCHED_PROCESS,
	MAP_EXIT_VERDICT,
	MAP_DROP_COUNTS,
	_MAP_MAX,
};

struct hf_kernel_slot {
	struct hf_kernel_program pub;
	char reason[160];
	bool use_variant;
	int fd;      /* of the program, for its statistics */
	int link_fd; /* only where nothing could be pinned: it is what keeps the program attached */
};

struct hf_kernel {
	uint32_t magic;
	enum hf_kernel_assist assist;
	char reason[256];
	bool reopened;
	bool pinned;
	uint32_t ring_bytes[_HF_RING_MAX];
	uint32_t cpus;
	struct hf_pins pins;
	struct hf_kernel_features features;
	bool old_object; /* the one for kernels before 5.12 */
	struct hf_kernel_slot programs[_PROGRAM_MAX];
	int map_fd[_MAP_MAX];
	struct hf_buf names;                  /* "rst" and "drop" lines */
	struct hf_policy policy;              /* as it was written last */
	struct hf_kernel_filter_copy *filter; /* what was applied last; NULL: none */
};

/* Why a program is off: becomes its reason. */
void hf_kernel_switch_off(struct hf_kernel_slot *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* kernel_maps.c. The set that counts under these flags. */
static inline uint32_t hf_kernel_filter_bit(uint32_t flags)
{
	return flags & HF_POLICY_F_SET_B ? HF_FILTER_SET_B : HF_FILTER_SET_A;
}

/* Writes it as it is, but for what is the loader's own to fill in. */
int hf_kernel_write_policy(struct hf_kernel *k, const struct hf_policy *policy);
/* What the map has, after re-opening. */
int hf_kernel_read_policy(struct hf_kernel *k);
/* Puts n keys of size bytes into the set; on failure some may be in. */
int hf_kernel_members_add(struct hf_kernel *k, enum map_id map, const void *keys, size_t size,
			  size_t n, uint32_t bit);
/* Empties the set. */
int hf_kernel_members_clear(struct hf_kernel *k, enum map_id map, uint32_t bit);

/* kernel_filter.c. */
struct hf_kernel_filter_copy *hf_kernel_filter_copy_free(struct hf_kernel_filter_copy *c);

/* kernel_object.c. Takes over what libbpf prints. */
void hf_kernel_quiet(void);
/* Possible CPUs. */
uint32_t hf_kernel_cpus(void);
/* What libbpf said last of the program it would not load; "" if nothing. */
const char *hf_kernel_refusal(void);
/* Fills features, names, and which programs are out of the question. -ENOENT: no BTF. */
int hf_kernel_probe(struct hf_kernel *k);
/* Over everything that a set of pins depends on. */
/* Lets go of the memory that the objects in this program take. */
void hf_kernel_object_release(void);
uint64_t hf_kernel_schema(const struct hf_kernel *k);
/* Loads, fills, pins and attaches. */
int hf_kernel_load_fresh(struct hf_kernel *k, const struct hf_policy *policy);
/* Goes on with the pins of an earlier one. */
int hf_kernel_reopen(struct hf_kernel *k);
