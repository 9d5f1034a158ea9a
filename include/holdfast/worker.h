/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a short-lived worker (holdfast-scan, holdfast-collect …) and the watchdog say to each other.
 *
 * A worker is born with these descriptors and nothing else. Its parameters are text on stdin, to the
 * end of file. Its result is whatever it has written to HF_WORKER_FD_RESULT when it says DONE. It
 * tells its progress in frames on a SOCK_SEQPACKET socket, one frame a packet; SIGTERM asks it to
 * stop, and it then says DONE with HF_WORKER_CANCELLED. A worker whose socket breaks (EPIPE) has
 * lost its watchdog and ends.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HF_WORKER_PROTOCOL 1u
#define HF_WORKER_TEXT_MAX 256u /* with NUL */

enum hf_worker_fd {
	HF_WORKER_FD_PARAMS = 0, /* read-only */
	HF_WORKER_FD_LOG = 2,    /* stdout too */
	HF_WORKER_FD_PROGRESS = 3,
	HF_WORKER_FD_RESULT = 4, /* an empty memfd */
	HF_WORKER_FD_INPUT = 5,  /* the first of what this kind of worker gets besides */
};

enum hf_worker_frame_type {
	HF_WORKER_PROGRESS = 1,
	HF_WORKER_DONE,
	_HF_WORKER_FRAME_MAX,
};

/* How a worker came to its end; its own word in DONE, the watchdog's to who started it. */
enum hf_worker_outcome {
	HF_WORKER_SUCCEEDED,
	HF_WORKER_FAILED,
	HF_WORKER_CANCELLED,
	HF_WORKER_TIMED_OUT, /* only the watchdog says so */
	_HF_WORKER_OUTCOME_MAX,
};

struct hf_worker_frame {
	uint32_t protocol; /* HF_WORKER_PROTOCOL */
	uint32_t type;     /* enum hf_worker_frame_type */
	uint32_t percent;  /* 0…100 */
	uint32_t outcome;  /* DONE: enum hf_worker_outcome */
	/* Work done so far in units of the worker's own. It lives as long as this grows. */
	uint64_t work;
	char text[HF_WORKER_TEXT_MAX]; /* what it looks at, or why it failed: UTF-8, one line */
};

/* -EBADMSG unless it is exactly one sound frame; packet needs no alignment. */
int hf_worker_frame_check(const void *packet, size_t len);

/* "succeeded", "failed", "cancelled", "timed_out": the names of action states; else "unknown" */
const char *hf_worker_outcome_name(unsigned outcome);

/*
 * The worker's side. Text is shortened and what is not UTF-8 or printable replaced. Both wait for
 * room in the socket; -EPIPE: the watchdog is gone.
 */
int hf_worker_send_progress(int fd, uint32_t percent, uint64_t work, const char *text);
int hf_worker_send_done(int fd, enum hf_worker_outcome outcome, const char *text);
