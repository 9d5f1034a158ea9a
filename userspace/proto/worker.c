/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between workers and the watchdog. */
#include "holdfast/worker.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/str.h"

static const char *const outcome_names[] = {
	[HF_WORKER_SUCCEEDED] = "succeeded",
	[HF_WORKER_FAILED] = "failed",
	[HF_WORKER_CANCELLED] = "cancelled",
	[HF_WORKER_TIMED_OUT] = "timed_out",
};
_Static_assert(HF_ARRAY_SIZE(outcome_names) == _HF_WORKER_OUTCOME_MAX, "every outcome has a name");

const char *hf_worker_outcome_name(unsigned outcome)
{
	return outcome < _HF_WORKER_OUTCOME_MAX ? outcome_names[outcome] : "unknown";
}

static bool is_line(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	return hf_utf8_valid(text, len);
}

int hf_worker_frame_check(const void *packet, size_t len)
{
	struct hf_worker_frame f;
	size_t n;

	if (len != sizeof(f))
		return -EBADMSG;
	memcpy(&f, packet, sizeof(f));
	if (f.protocol != HF_WORKER_PROTOCOL || f.type == 0 || f.type >= _HF_WORKER_FRAME_MAX ||
	    f.percent > 100 || f.outcome >= HF_WORKER_TIMED_OUT)
		return -EBADMSG;
	n = strnlen(f.text, sizeof(f.text));
	return n == sizeof(f.text) || !is_line(f.text, n) ? -EBADMSG : 0;
}

static void set_text(struct hf_worker_frame *f, const char *text)
{
	size_t n;

	if (!hf_strlcpy(f->text, text, sizeof(f->text))) {
		/* Not in the middle of a character. */
		n = strlen(f->text);
		while (n > 0 && ((unsigned char)f->text[n - 1] & 0xc0) == 0x80)
			n--;
		if (n > 0 && (unsigned char)f->text[n - 1] >= 0xc0)
			n--;
		memset(f->text + n, 0, sizeof(f->text) - n);
	}
	if (!is_line(f->text, strlen(f->text)))
		hf_sanitize(f->text);
}

static int send_frame(int fd, const struct hf_worker_frame *f)
{
	for (;;) {
		if (send(fd, f, sizeof(*f), MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return errno == ECONNRESET ? -EPIPE : -errno;
	}
}

int hf_worker_send_progress(int fd, uint32_t percent, uint64_t work, const char *text)
{
	struct hf_worker_frame f = {
		.protocol = HF_WORKER_PROTOCOL,
		.type = HF_WORKER_PROGRESS,
		.percent = percent > 100 ? 100 : percent,
		.work = work,
	};

	set_text(&f, text);
	return send_frame(fd, &f);
}

int hf_worker_send_done(int fd, enum hf_worker_outcome outcome, const char *text)
{
	struct hf_worker_frame f = {
		.protocol = HF_WORKER_PROTOCOL,
		.type = HF_WORKER_DONE,
		.percent = outcome == HF_WORKER_SUCCEEDED ? 100 : 0,
		.outcome = (uint32_t)outcome,
	};

	set_text(&f, text);
	return send_frame(fd, &f);
}
