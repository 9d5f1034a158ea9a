/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The upload of one archive to the portal in chunks: the portal says which offset it wants next, so
 * that a lost connection costs a chunk and not the archive. One at a time. Pure but for pread().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "action.pb-c.h"

struct hf_action_upload {
	char id[40]; /* "": none */
	int fd;      /* owned */
	int result;  /* owned, -1: none: what is sent when the archive is there */
	uint64_t total;
	uint8_t sha256[32];
	uint64_t offset; /* wanted by the portal */
	bool asking;     /* its answer is awaited */
	bool blocked;    /* the send queue was full */
	uint64_t asked_ns;
};

/* send: -EPIPE, -ENOBUFS as the channel's. */
typedef int (*hf_upload_send)(const char *type, ProtobufCMessage *body, void *userdata);

/* fd and result are duplicated. -EBUSY: another one is under way. Asks for the offset. */
int hf_upload_begin(struct hf_action_upload *u, const char *id, int fd, int result, uint64_t total,
		    const uint8_t sha256[static 32], hf_upload_send send, void *userdata,
		    uint64_t now_ns);
/* Asks again where to go on: a new connection, room in the queue, or no answer for long. */
void hf_upload_again(struct hf_action_upload *u, hf_upload_send send, void *userdata,
		     uint64_t now_ns);
/* Closes what it holds; empty afterwards. Any state. */
void hf_upload_end(struct hf_action_upload *u);
/*
 * The portal's answer. 1: the archive is there, 0: goes on (or not of this upload), -ECANCELED: the
 * portal takes no more of it.
 */
int hf_upload_acked(struct hf_action_upload *u, const Action__ArtifactAck *ack, hf_upload_send send,
		    void *userdata, uint64_t now_ns);
