/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the next watchdog must know: the components' processes and how often they were started.
 *
 * One file with two slots, written in turn, each with generation and checksum: a watchdog killed
 * in the middle of a write leaves the other slot. Written without fsync, on the path of a restart:
 * processes do not outlive a power cut, and a lost count of restarts is no harm.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "holdfast/supervise.h"
#include "watchdog/death.h"

/* The agent, and the workers of DESIGN section 2 with room for engines to come. */
#define HF_RECORDS_MAX 8u

struct hf_record {
	char name[HF_SUP_NAME_MAX];
	char version[HF_SUP_VERSION_MAX];
	uint32_t pid;      /* 0: none */
	uint32_t ready;    /* it had said READY */
	uint64_t start_ns; /* with pid, its identity: CLOCK_BOOTTIME in ticks of /proc */
	uint64_t starts;
	uint32_t failures;
	uint32_t want_up;  /* 0: a person stopped it */
	uint32_t stopping; /* it was being stopped */
	uint32_t died;     /* last_exit is filled in */
	struct hf_death last_exit;
};

struct hf_records;

/* path below dirfd; created 0600. A file that is damaged or of another build reads as empty. */
int hf_records_open(int dirfd, const char *path, struct hf_records **ret);
struct hf_records *hf_records_free(struct hf_records *r);
HF_DEFINE_CLEANUP(struct hf_records *, hf_records_free);

/*
 * The record of that name as the previous watchdog left it, or NULL. Processes are forgotten when
 * the file is of another boot. Borrowed until the next save.
 */
const struct hf_record *hf_records_find(const struct hf_records *r, const char *name);

/* Replaces (or adds) one record and writes. -ENOSPC: too many. */
int hf_records_save(struct hf_records *r, const struct hf_record *record);
