/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outage records: made at every loss, kept on disk until the portal has acknowledged them and then
 * as this host's own history. The store owns the records; a caller changes one through the pointer
 * and calls hf_outages_changed().
 *
 * One file each, `outages/<id>`: magic, checksum, acknowledged?, packed bus.Outage. Bounds:
 * HF_OUTAGES_MAX records; beyond it the oldest acknowledged goes first, then the oldest, counted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/disk.h"
#include "bus.pb-c.h"

#define HF_OUTAGES_MAX         256u
#define HF_OUTAGE_ATTEMPTS_MAX 16u /* of one record: the first half and the last half */
#define HF_OUTAGE_FILE_MAX     65536u

struct hf_outages;

/* Reads the directory (created when missing) below dirfd. Damaged files are removed and counted. */
int hf_outages_open(int dirfd, struct hf_disk *disk, struct hf_outages **ret);
struct hf_outages *hf_outages_free(struct hf_outages *o);
HF_DEFINE_CLEANUP(struct hf_outages *, hf_outages_free);

/* A new, empty record with an id, owned by the store. NULL on ENOMEM. Not on disk yet. */
Bus__Outage *hf_outages_new_record(struct hf_outages *o);
/* Written (again) in the background. */
void hf_outages_changed(struct hf_outages *o, const Bus__Outage *rec);
/* Sets a string field: `hf_outage_set(&rec->cause, "peer_reset")`. Keeps the old one on ENOMEM. */
void hf_outage_set(char **field, const char *text);
/* Appends a copy of the attempt within the bound. */
void hf_outage_add_attempt(Bus__Outage *rec, const Bus__Attempt *a);

Bus__Outage *hf_outages_find(struct hf_outages *o, const char *id);
/* Index 0 is the oldest; NULL past the end. */
Bus__Outage *hf_outages_at(struct hf_outages *o, size_t i);
size_t hf_outages_count(const struct hf_outages *o);
/* The next one after `after` (NULL: from the start) that is over and not acknowledged. */
Bus__Outage *hf_outages_next_unacked(struct hf_outages *o, const Bus__Outage *after);
/* The portal has it. False: no such record. */
bool hf_outages_ack(struct hf_outages *o, const char *id);
/*
 * Pure: the content of the file `name`. *ret is the caller's (bus__outage__free_unpacked). -EBADMSG
 * when it is damaged, -ENOMEM.
 */
int hf_outage_parse(const char *name, const void *data, size_t len, Bus__Outage **ret,
		    bool *ret_acked);
uint64_t hf_outages_dropped(const struct hf_outages *o);
uint64_t hf_outages_damaged(const struct hf_outages *o);
