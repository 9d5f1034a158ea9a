/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors and whole files. All descriptors are O_CLOEXEC. Silent: returns -errno. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Closes fd if it is >= 0; keeps errno; returns -1, so that `fd = hf_close(fd)` forgets it. */
int hf_close(int fd);

/* Writes all of buf, retrying on EINTR and short writes. */
int hf_write_full(int fd, const void *buf, size_t len);
int hf_pwrite_full(int fd, const void *buf, size_t len, off_t off);
/* Reads until len bytes or end of file; returns the number read. */
ssize_t hf_read_full(int fd, void *buf, size_t len);

/*
 * Reads a whole regular file of at most max bytes. *ret_buf is owned by the caller and has a NUL
 * behind its last byte (not counted). -EFBIG above the cap.
 */
int hf_read_file(int dirfd, const char *path, size_t max, char **ret_buf, size_t *ret_len);

/*
 * Replaces path with buf so that a power cut leaves the old or the new content: temporary file in
 * the same directory, fsync, rename, fsync of the directory.
 */
int hf_write_file_atomic(int dirfd, const char *path, const void *buf, size_t len, mode_t mode);

/* mkdir -p below dirfd; existing directories keep their mode and owner. */
int hf_mkdir_p(int dirfd, const char *path, mode_t mode);

/* fsync of the directory itself. */
int hf_sync_dir(int dirfd, const char *path);

int hf_set_nonblock(int fd, bool on);

/* Number of open descriptors of this process (tests compare it at start and end). */
int hf_count_open_fds(void);
