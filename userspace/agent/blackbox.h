/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent was doing, kept where SIGKILL cannot take it: one page of a file, mapped shared.
 * The kernel keeps the page when the process dies and writes it out by itself; no fsync, no system
 * call on the hot path. After a power cut the page may be up to half a minute old or torn: it has a
 * checksum, and a torn one counts as none.
 *
 * Read once at start (the predecessor's), then written by this process only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct hf_blackbox;

/* Fixed layout: it is a file. */
struct hf_blackbox_record {
	uint8_t boot_id[16];
	uint64_t session_epoch;      /* of the session that is up; 0 none */
	uint64_t session_since_ns;   /* CLOCK_REALTIME */
	uint64_t last_alive_boot_ns; /* last proof of life of agent and session */
	uint64_t last_alive_real_ns;
	uint64_t server_unix_ns; /* what the portal's clock said, and our CLOCK_BOOTTIME then */
	uint64_t server_at_boot_ns;
	uint32_t pid;
	uint32_t stopped;   /* 1: ended on purpose, see reason */
	char reason[32];    /* cause name of the goodbye */
	char outage_id[40]; /* the outage that was open; "" none */
};

int hf_blackbox_open(int dirfd, const char *name, struct hf_blackbox **ret);
struct hf_blackbox *hf_blackbox_free(struct hf_blackbox *b);
HF_DEFINE_CLEANUP(struct hf_blackbox *, hf_blackbox_free);

/* The predecessor's; false if there was none or it is damaged. */
bool hf_blackbox_previous(const struct hf_blackbox *b, struct hf_blackbox_record *ret);
/* Replaces the record. */
void hf_blackbox_write(struct hf_blackbox *b, const struct hf_blackbox_record *r);
