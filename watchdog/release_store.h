/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The releases of one component on disk:
 *
 *	<releases>/<component>/state.a, state.b         the twin records, the single truth
 *	<releases>/<component>/<version>-<hash12>/      a release, complete and immutable
 *	<releases>/<component>/.staging/                one that is being unpacked; worth nothing
 *
 * A release is unpacked, synced and read back in .staging, renamed, the directory synced, and only
 * then does a record speak of it. Every change of state is on disk before the caller acts by it.
 *
 *	<releases>/<component>/packaged                 hash of the package's release that was staged last
 *
 * Calls take as long as the disk does: the watchdog unpacks, checks and removes in a child process
 * (release_job.h), and does nothing but write a record itself. One writer at a time: for `watchdog`
 * that is holdfast-launch until it executes, and then the watchdog.
 */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "userspace/release/bundle.h"
#include "userspace/release/io.h"
#include "userspace/release/twin.h"
#include "watchdog/release_state.h"

struct hf_release_store;

/*
 * Opens (or makes) the store of a component below `releases`, and recovers: what runs is checked
 * file by file; a release that is not whole gives way to the one before, and if no record is left,
 * the best release that is whole takes its place. io and releases are borrowed.
 */
int hf_release_store_open(const struct hf_io *io, int releases, const char *component,
			  struct hf_release_store **ret, struct hf_err *err);
struct hf_release_store *hf_release_store_free(struct hf_release_store *s);
HF_DEFINE_CLEANUP(struct hf_release_store *, hf_release_store_free);

/* Borrowed until the next call. */
const struct hf_release_record *hf_release_store_record(const struct hf_release_store *s);
/* hf_release_runs() of it: NULL is the package's own. */
const struct hf_release_slot *hf_release_store_runs(const struct hf_release_store *s);

/* Unpacks a verified bundle and records it as staged. -EEXIST: it is the active one. -EPERM: there
 * is another update under way. On failure everything is as it was, but for .staging. */
int hf_release_store_stage(struct hf_release_store *s, const struct hf_bundle *b,
			   struct hf_err *err);
/* All of it but the record, which the caller writes then with STAGE and *ret. Good in a child process
 * that has a copy of s. */
int hf_release_store_prepare(struct hf_release_store *s, const struct hf_bundle *b,
			     struct hf_release_slot *ret, struct hf_err *err);
/* hf_release_step(), on disk when it returns; on failure to write, nothing has happened. */
int hf_release_store_event(struct hf_release_store *s, const struct hf_release_input *in);
/* Writes down how long the candidate has been healthy; for the trial. */
int hf_release_store_progress(struct hf_release_store *s, uint64_t healthy_ms);

/* A directory descriptor of io; the caller closes it. */
int hf_release_store_open_release(const struct hf_release_store *s,
				  const struct hf_release_slot *slot);
/* Whether the release is there as its manifest says, byte for byte. */
int hf_release_store_check(const struct hf_release_store *s, const struct hf_release_slot *slot,
			   struct hf_err *err);
/*
 * Opens one program of a release ("bin/holdfast-agent") if it is, byte for byte, what its manifest
 * says: whoever executes this descriptor executes what was checked. The store is root's alone and
 * nothing in it is writable, so nobody but root can change the file afterwards.
 */
int hf_release_store_open_program(const struct hf_release_store *s,
				  const struct hf_release_slot *slot, const char *program,
				  int *ret_fd, struct hf_err *err);
/* That error says that the release is not whole, rather than that we lack memory or descriptors. */
bool hf_release_store_lost(int r);

/* Was this the package's release when it was last looked at? */
bool hf_release_store_is_packaged(const struct hf_release_store *s,
				  const uint8_t hash[static HF_SHA256_SIZE]);
int hf_release_store_set_packaged(struct hf_release_store *s,
				  const uint8_t hash[static HF_SHA256_SIZE]);

/* In a child process: the same files by another table, which has to be about the same descriptors. */
void hf_release_store_use_io(struct hf_release_store *s, const struct hf_io *io);
/* Borrowed: the component's directory, of io. */
int hf_release_store_dir(const struct hf_release_store *s);
/* Removes releases that the record does not speak of. */
int hf_release_store_collect(struct hf_release_store *s);
