/* SPDX-License-Identifier: Apache-2.0 */
/* Stop and wait: one chunk, one answer. At 192 KiB a chunk that fills any link but a very long one. */
#include "userspace/agent/action_upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "holdfast/action.h"
#include "holdfast/session.h"

static void send_chunk(struct hf_action_upload *u, bool with_data, hf_upload_send send,
		       void *userdata, uint64_t now_ns)
{
	Action__Artifact m = ACTION__ARTIFACT__INIT;
	_cleanup_free_ uint8_t *data = NULL;
	size_t want = HF_ACTION_CHUNK_MAX;
	ssize_t n = 0;
	int r;

	if (u->total - u->offset < want)
		want = (size_t)(u->total - u->offset);
	if (with_data) {
		data = malloc(want);
		n = data ? pread(u->fd, data, want, (off_t)u->offset) : -1;
		/* A file that shrank sends nothing: the portal's limit of time ends it. */
		if (n < 0)
			n = 0;
	}
	m.action_id = u->id;
	m.total_bytes = u->total;
	m.offset = u->offset;
	m.data = (ProtobufCBinaryData){.data = data, .len = (size_t)n};
	m.sha256 = (ProtobufCBinaryData){.data = u->sha256, .len = sizeof(u->sha256)};
	r = send(HF_MSG_ARTIFACT, &m.base, userdata);
	u->blocked = r < 0;
	u->asking = r == 0;
	u->asked_ns = now_ns;
}

int hf_upload_begin(struct hf_action_upload *u, const char *id, int fd, int result, uint64_t total,
		    const uint8_t sha256[static 32], hf_upload_send send, void *userdata,
		    uint64_t now_ns)
{
	if (u->id[0])
		return hf_streq(u->id, id) ? 0 : -EBUSY;
	*u = (struct hf_action_upload){.fd = -1, .result = -1, .total = total};
	u->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (result >= 0)
		u->result = fcntl(result, F_DUPFD_CLOEXEC, 3);
	if (u->fd < 0 || (result >= 0 && u->result < 0)) {
		int r = -errno;

		hf_upload_end(u);
		return r;
	}
	(void)hf_strlcpy(u->id, id, sizeof(u->id));
	memcpy(u->sha256, sha256, sizeof(u->sha256));
	hf_upload_again(u, send, userdata, now_ns);
	return 0;
}

void hf_upload_again(struct hf_action_upload *u, hf_upload_send send, void *userdata,
		     uint64_t now_ns)
{
	if (u->id[0])
		send_chunk(u, false, send, userdata, now_ns);
}

void hf_upload_end(struct hf_action_upload *u)
{
	if (u->id[0] || u->fd > 0) {
		(void)hf_close(u->fd);
		(void)hf_close(u->result);
	}
	*u = (struct hf_action_upload){.fd = -1, .result = -1};
}

int hf_upload_acked(struct hf_action_upload *u, const Action__ArtifactAck *ack, hf_upload_send send,
		    void *userdata, uint64_t now_ns)
{
	if (!u->id[0] || !hf_streq(ack->action_id, u->id))
		return 0;
	if (ack->refused[0] || ack->offset > u->total)
		return -ECANCELED;
	if (ack->done)
		return 1;
	/* It has everything and is not content: the digest is wrong, and would be again. */
	if (ack->offset == u->total)
		return -ECANCELED;
	u->offset = ack->offset;
	send_chunk(u, true, send, userdata, now_ns);
	return 0;
}
