/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What agent and watchdog remember of actions, each in a journal of its own: one small file per
 * action below its state directory, replaced as a whole by the disk thread (base/disk.h), so that
 * a kill or a power cut leaves the old or the new record. Everything is in memory as well.
 *
 * A file that is no record any more (the disk lost it) still names its action: it is kept as
 * `indeterminate`, so that the action is never begun again. Only an action that is over and
 * HF_ACTION_KEEP_S past its expiry is forgotten, by the portal's clock and never by this host's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "action.pb-c.h"
#include "base/cleanup.h"
#include "base/disk.h"
#include "base/str.h"

struct hf_action_journal;

#define HF_ACTION_RECORD_MAX (8u * 1024) /* an envelope and some texts */

/*
 * dir: one component below dirfd, made if missing (0700). dirfd and disk are borrowed for the life.
 * Files that are neither records nor their attachments are removed.
 */
int hf_action_journal_open(int dirfd, const char *dir, struct hf_disk *disk,
			   struct hf_action_journal **ret);
struct hf_action_journal *hf_action_journal_free(struct hf_action_journal *j);
HF_DEFINE_CLEANUP(struct hf_action_journal *, hf_action_journal_free);

size_t hf_action_journal_count(const struct hf_action_journal *j);
/* Oldest first by id, which begins with its time. Borrowed until removed. NULL behind the last. */
Action__Record *hf_action_journal_at(const struct hf_action_journal *j, size_t i);
Action__Record *hf_action_journal_find(const struct hf_action_journal *j, const char *id);
/* Records that were not readable at the start. */
uint64_t hf_action_journal_damaged(const struct hf_action_journal *j);

/*
 * A new record in memory, on disk after hf_action_journal_save(). server_unix_ns: the portal's time
 * as known, 0 not; what may be forgotten by it makes room. -ENOSPC: HF_ACTION_JOURNAL_MAX are too
 * young. -EEXIST, -EINVAL (id is no UUID), -ENOMEM.
 */
int hf_action_journal_add(struct hf_action_journal *j, const char *id, uint64_t server_unix_ns,
			  Action__Record **ret);
/* Forgets it, also on disk with its attachments. */
void hf_action_journal_remove(struct hf_action_journal *j, Action__Record *r);

/* Writes the record; done (may be NULL) is called from the loop when it is durable, or -errno. */
int hf_action_journal_save(struct hf_action_journal *j, const Action__Record *r,
			   hf_disk_done_fn done, void *userdata);

/* Replace a text or bytes of a record; ENOMEM keeps the old. */
void hf_action_record_text(char **field, const char *text);
void hf_action_record_bytes(ProtobufCBinaryData *field, const void *data, size_t len);

/*
 * Files beside a record: suffix "result" or "artifact". path for hf_disk_write() and hf_disk_copy();
 * open gives a descriptor for reading, -ENOENT.
 */
void hf_action_attachment_path(const struct hf_action_journal *j, const char *id,
			       const char *suffix, char path[static HF_DISK_PATH_MAX]);
int hf_action_attachment_open(const struct hf_action_journal *j, const char *id,
			      const char *suffix);
void hf_action_attachments_drop(struct hf_action_journal *j, const Action__Record *r);

/* Pure. The file's bytes; name is the file's name. -EBADMSG. */
int hf_action_record_parse(const char *name, const void *data, size_t len, Action__Record **ret);
int hf_action_record_build(const Action__Record *r, struct hf_buf *ret);
/* True iff it is over, the portal knows, and HF_ACTION_KEEP_S passed since it expired. */
bool hf_action_record_old(const Action__Record *r, uint64_t server_unix_ns);
