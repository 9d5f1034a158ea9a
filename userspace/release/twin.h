/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The twin records of a component: which release runs, and how far an update is. They are the single
 * source of truth, 512 bytes each, in the files state.a and state.b of the component's directory,
 * with a generation number and a CRC-32C, and are written in turn, never both: whatever was torn,
 * the other one is whole.
 *
 * The watchdog writes them; holdfast-launch reads those of the component `watchdog`. This part of
 * the library needs no libcrypto.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/release/io.h"
#include "userspace/release/manifest.h"

#define HF_TWIN_SIZE 512u
/* A release that failed here is known by the first bytes of its manifest's hash. */
#define HF_RELEASE_BAD_SIZE 16u
/* The oldest is forgotten: the ninth failure in a row is no accident of one release. */
#define HF_RELEASE_BAD_MAX 8u

/* One release. version "": none. */
struct hf_release_slot {
	char version[HF_VERSION_MAX];
	uint8_t hash[HF_SHA256_SIZE]; /* of the manifest's text */
	uint64_t security_epoch;
};

/* Numbers are on disk. */
enum hf_release_phase {
	HF_RELEASE_IDLE = 0,
	HF_RELEASE_STAGED = 1,
	HF_RELEASE_PREFLIGHT = 2,
	HF_RELEASE_TRIAL = 3,
	HF_RELEASE_COMMITTED = 4,
	HF_RELEASE_ROLLED_BACK = 5,
	HF_RELEASE_SAFE = 6,
	_HF_RELEASE_PHASE_MAX,
};

struct hf_release_record {
	uint64_t generation; /* set by hf_twin_save() */
	/* enum hf_release_phase; a value of a later version may be read. */
	uint32_t phase;
	uint32_t tries_left;   /* of the candidate */
	uint32_t refunds_left; /* tries that a power cut may give back */
	uint32_t reason;       /* of the last rollback: the state table's own numbers */
	char component[HF_MANIFEST_WORD_MAX];
	struct hf_release_slot active, previous, candidate;
	uint64_t security_epoch; /* the floor */
	uint64_t healthy_ms;     /* monotonic time the candidate was healthy in its trial */
	uint64_t changed_s;      /* wall clock, for people */
	uint8_t boot_id[16];     /* of the boot that wrote it */
	uint8_t bad[HF_RELEASE_BAD_MAX][HF_RELEASE_BAD_SIZE]; /* newest first; zeros: none */
};

void hf_twin_encode(const struct hf_release_record *r, uint8_t dst[static HF_TWIN_SIZE]);
/* -EBADMSG: torn, damaged, or of another format. */
int hf_twin_decode(const uint8_t src[static HF_TWIN_SIZE], struct hf_release_record *ret);

struct hf_twin {
	const struct hf_io *io; /* borrowed */
	int dir;                /* borrowed */
	int newest;             /* 0 or 1; -1: no valid one */
	uint64_t generation;    /* of the newest */
};

/*
 * Reads both and gives the newest valid one. -ENOENT: there is none, and never was; -EBADMSG: there
 * is one, and none is whole. t can be used for saving after these two as well. A sector that cannot
 * be read counts as damaged; any other error is returned.
 */
int hf_twin_load(struct hf_twin *t, const struct hf_io *io, int dir, struct hf_release_record *ret);
/* Writes over the older one and reads it back. On failure the newest stands as it was. */
int hf_twin_save(struct hf_twin *t, struct hf_release_record *r);
