/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file operations of the release store, as a table, so that a test can stand between the store
 * and the disk: stop at any one of them, lose or tear what was not synced, and start again from what
 * would be left. hf_io_real is the kernel's.
 *
 * A name is one component, never a path: there is no link to follow on the way. Directories and
 * files are descriptors (of the table's own kind). All return 0 or more, or -errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct hf_io_stat {
	bool is_file, is_dir;
	uint32_t mode;
	uint64_t size;
};

/* What a directory may have before we refuse to look: the largest is a release's. */
#define HF_IO_NAMES_MAX 4096u

struct hf_io_names {
	char **names; /* sorted; without "." and ".." */
	size_t n;
};

struct hf_io {
	/* These change nothing. Links are not followed: -ELOOP. */
	int (*open_dir)(const struct hf_io *io, int dir, const char *name);
	int (*open_file)(const struct hf_io *io, int dir, const char *name, bool write);
	void (*close)(const struct hf_io *io, int fd);
	ssize_t (*read)(const struct hf_io *io, int fd, void *buf, size_t len, uint64_t at);
	int (*stat)(const struct hf_io *io, int fd, struct hf_io_stat *ret);
	int (*list)(const struct hf_io *io, int dir, struct hf_io_names *ret);

	/* These do. */
	int (*create)(const struct hf_io *io, int dir, const char *name); /* -EEXIST; 0600 */
	int (*write)(const struct hf_io *io, int fd, const void *buf, size_t len, uint64_t at);
	int (*sync)(const struct hf_io *io, int fd); /* of a file or a directory */
	int (*chmod)(const struct hf_io *io, int fd, uint32_t mode);
	int (*mkdir)(const struct hf_io *io, int dir, const char *name); /* 0700 */
	int (*rename)(const struct hf_io *io, int from_dir, const char *from, int to_dir,
		      const char *to); /* -EEXIST: never replaces */
	int (*remove)(const struct hf_io *io, int dir, const char *name, bool is_dir);
	void *ctx;
};

extern const struct hf_io hf_io_real;

void hf_io_names_done(struct hf_io_names *n);

/* Removes what is called name and all below it; nothing there is success. */
int hf_io_remove_tree(const struct hf_io *io, int dir, const char *name);
/* A new file with this content and mode, synced; the directory is not. */
int hf_io_write_file(const struct hf_io *io, int dir, const char *name, const void *data,
		     size_t len, uint32_t mode);
/* A whole file of at most max bytes; *ret is owned by the caller. -EFBIG. */
int hf_io_read_file(const struct hf_io *io, int dir, const char *name, size_t max, uint8_t **ret,
		    size_t *ret_len);
