/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A component's stdout and stderr: the last 4 KiB are kept, whole lines are passed on to where our
 * own log goes, as its lines. The channel is a FIFO in the watchdog's state directory, opened for reading and writing
 * by both sides: it has no end while one of them lives, so a component's write neither fails
 * (SIGPIPE) nor waits (O_NONBLOCK) when the watchdog is away, and the next watchdog reads on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/log.h"

#define HF_TAIL_KEEP 4096u /* enough for an assertion and a sanitizer's first lines */

struct hf_tail {
	int fd;
	char keep[HF_TAIL_KEEP];
	size_t at, len;  /* ring: next byte to write, bytes in it */
	char line[2048]; /* the begun line; longer ones are passed on in pieces */
	size_t line_len;
	/* Set by the owner, which keeps them; pid 0 when the process has ended. */
	struct hf_log_origin origin;
};

/* Makes the FIFO when missing and opens it. t->fd polls readable. */
int hf_tail_open(struct hf_tail *t, int dirfd, const char *name);
/* A descriptor for a new process's stdout and stderr; owned by the caller. -errno. */
int hf_tail_open_writer(int dirfd, const char *name);
void hf_tail_done(struct hf_tail *t);

/* Takes what is there, 64 KiB at most. */
void hf_tail_read(struct hf_tail *t);
/* Feeds bytes (what hf_tail_read() does; for tests). pass_on is called per line, without '\n'. */
void hf_tail_feed(struct hf_tail *t, const char *data, size_t len,
		  void (*pass_on)(const struct hf_log_origin *o, const char *line, size_t len));
/* The kept text, oldest first, NUL-terminated; begins at a line's start when it was cut. */
void hf_tail_text(const struct hf_tail *t, char dst[static HF_TAIL_KEEP + 1]);
/* A new process begins: its predecessor's words are no longer its own. */
void hf_tail_clear(struct hf_tail *t);
