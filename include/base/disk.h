/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small state files without blocking the loop: a thread writes each one atomically (temporary file,
 * fsync, rename, fsync of the directory) or removes it, in the order asked, and tells the loop.
 * One thread a process (in the agent beside the spool's writer); the reason is fsync(2), which may
 * take seconds. Needs libsystemd, which whoever uses it links.
 *
 * Waiting jobs of one path are coalesced unless somebody waits for them (done): only the last
 * content matters. Bounds: HF_DISK_JOBS_MAX waiting jobs, HF_DISK_BYTES_MAX
 * each (-ENOBUFS, -EMSGSIZE).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"

#define HF_DISK_JOBS_MAX  300u /* every outage of the store at once, and the other files */
#define HF_DISK_BYTES_MAX (256u * 1024)
#define HF_DISK_PATH_MAX  96u
#define HF_DISK_LINGER_MS 20u

struct hf_disk;

typedef void (*hf_disk_done_fn)(int r, void *userdata);

/* dirfd: of the agent's state directory; borrowed for the life. event is referenced. */
int hf_disk_new(sd_event *event, int dirfd, struct hf_disk **ret);
/* Finishes what is queued, at most timeout_ms; then stops the thread. Calls no `done`. */
struct hf_disk *hf_disk_close(struct hf_disk *d, unsigned timeout_ms);
/* hf_disk_close() with two seconds. */
struct hf_disk *hf_disk_free(struct hf_disk *d);
HF_DEFINE_CLEANUP(struct hf_disk *, hf_disk_free);

/* data is copied (and wiped after use). done may be NULL; it is called from the loop, 0 or -errno. */
int hf_disk_write(struct hf_disk *d, const char *path, const void *data, size_t len, mode_t mode,
		  hf_disk_done_fn done, void *userdata);
/*
 * The first len bytes of fd (duplicated; read from offset 0) as the file's content. What fd has less
 * than len is -EPIPE.
 */
int hf_disk_copy(struct hf_disk *d, const char *path, int fd, uint64_t len, mode_t mode,
		 hf_disk_done_fn done, void *userdata);
/*
 * The same for a file that changes again soon, and whose change comes when its process is busy (an
 * outage's record and the dial that ends the outage): waits HF_DISK_LINGER_MS for a later content, or
 * until something that may not wait is asked for.
 */
int hf_disk_write_later(struct hf_disk *d, const char *path, const void *data, size_t len,
			mode_t mode);
/* A missing file is success. */
int hf_disk_unlink(struct hf_disk *d, const char *path, hf_disk_done_fn done, void *userdata);
/* Bytes handled so far (for the progress of the worker) and whether something waits. */
uint64_t hf_disk_progress(const struct hf_disk *d);
bool hf_disk_idle(const struct hf_disk *d);
