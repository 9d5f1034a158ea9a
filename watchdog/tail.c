/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping and passing on what components write to stderr. */
#include "watchdog/tail.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

/* One wakeup's share: a component that shouts must not keep the loop. */
#define READ_MAX (64 * 1024)

static int open_fifo(int dirfd, const char *name)
{
	struct stat st;
	int fd = openat(dirfd, name, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode)) {
		(void)hf_close(fd);
		return -EBADF;
	}
	return fd;
}

int hf_tail_open_writer(int dirfd, const char *name)
{
	return open_fifo(dirfd, name);
}

int hf_tail_open(struct hf_tail *t, int dirfd, const char *name)
{
	if (mkfifoat(dirfd, name, 0600) < 0 && errno != EEXIST)
		return -errno;
	t->fd = open_fifo(dirfd, name);
	return t->fd < 0 ? t->fd : 0;
}

void hf_tail_done(struct hf_tail *t)
{
	t->fd = hf_close(t->fd);
}

void hf_tail_feed(struct hf_tail *t, const char *data, size_t len,
		  void (*pass_on)(const struct hf_log_origin *o, const char *line, size_t len))
{
	for (size_t i = 0; i < len; i++) {
		char c = data[i];

		t->keep[t->at] = c;
		t->at = (t->at + 1) % HF_TAIL_KEEP;
		if (t->len < HF_TAIL_KEEP)
			t->len++;
		if (c != '\n')
			t->line[t->line_len++] = c;
		if (c == '\n' || t->line_len == sizeof(t->line)) {
			pass_on(&t->origin, t->line, t->line_len);
			t->line_len = 0;
		}
	}
}

void hf_tail_read(struct hf_tail *t)
{
	char buf[4096];

	for (size_t total = 0; total < READ_MAX;) {
		ssize_t n = read(t->fd, buf, sizeof(buf));

		if (n <= 0)
			return; /* EAGAIN: nothing more; there is no end of file, see tail.h */
		hf_tail_feed(t, buf, (size_t)n, hf_log_pass_on);
		total += (size_t)n;
	}
}

void hf_tail_text(const struct hf_tail *t, char dst[static HF_TAIL_KEEP + 1])
{
	size_t start = (t->at + HF_TAIL_KEEP - t->len) % HF_TAIL_KEEP, n = 0;
	bool cut = t->len == HF_TAIL_KEEP;

	for (size_t i = 0; i < t->len; i++) {
		char c = t->keep[(start + i) % HF_TAIL_KEEP];

		if (cut) {
			cut = c != '\n';
			continue;
		}
		if (c != '\n' && c != '\t' && ((unsigned char)c < 0x20 || c == 0x7f))
			c = '?';
		dst[n++] = c;
	}
	dst[n] = 0;
}

void hf_tail_clear(struct hf_tail *t)
{
	t->len = t->at = 0;
	t->line_len = 0;
}
