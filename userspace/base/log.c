/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where log messages go. stderr is the journal iff JOURNAL_STREAM names its device and inode; a
 * child whose stderr was redirected inherits the variable but not the file.
 *
 * I1 logging changes neither errno nor any state of the caller, and never blocks on the journal:
 *    a full socket buffer sends the line to stderr instead.
 * I2 one message is one write or one datagram, so that threads and processes do not mix lines.
 */
#include "base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "userspace/base/log_format.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static _Atomic int max_level = HF_LOG_INFO;
static const char *program = "holdfast";
static struct sockaddr_un journal_addr;
static int journal_fd = -1;

int hf_log_level_from_name(const char *name)
{
	for (int i = HF_LOG_ERROR; i <= HF_LOG_DEBUG; i++)
		if (hf_streq(name, hf_log_level_name((enum hf_log_level)i)))
			return i;
	return -EINVAL;
}

void hf_log_use_journal(const char *socket_path)
{
	journal_fd = hf_close(journal_fd);
	if (!socket_path)
		return;
	journal_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (!hf_strlcpy(journal_addr.sun_path, socket_path, sizeof(journal_addr.sun_path)))
		return;
	/* Not connected: a journal that was restarted is found again by its path. */
	journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char ours[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return false;
	(void)hf_strf(ours, sizeof(ours), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return hf_streq(stream, ours);
}

void hf_log_init(const char *name)
{
	const char *level = getenv("HOLDFAST_LOG");

	program = name;
	if (level) {
		int r = hf_log_level_from_name(level);

		if (r >= 0)
			max_level = r;
	}
	hf_log_use_journal(stderr_is_journal() ? JOURNAL_SOCKET : NULL);
}

void hf_log_set_level(enum hf_log_level level)
{
	max_level = (int)level;
}

enum hf_log_level hf_log_level(void)
{
	return (enum hf_log_level)max_level;
}

/* as NULL: ourselves. */
static bool send_datagram(const struct hf_buf *b, const struct ucred *as)
{
	union {
		struct cmsghdr header; /* for its alignment */
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control = {};
	struct iovec v = {.iov_base = b->data, .iov_len = b->len};
	struct msghdr m = {
		.msg_name = &journal_addr,
		.msg_namelen = sizeof(journal_addr),
		.msg_iov = &v,
		.msg_iovlen = 1,
	};

	if (as) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		control.header = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof(*as)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_CREDENTIALS,
		};
		memcpy(CMSG_DATA(&control.header), as, sizeof(*as));
	}
	return sendmsg(journal_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static bool send_to_journal(const char *name, const struct ucred *as, enum hf_log_level level,
			    const char *text, const struct hf_log_field *fields)
{
	struct hf_buf out = {};
	bool sent = false;

	if (journal_fd < 0)
		return false;
	if (hf_log_format_journal(&out, name, level, text, fields) == 0)
		sent = (as && send_datagram(&out, as)) || send_datagram(&out, NULL);
	hf_buf_done(&out);
	return sent;
}

static void write_to_stderr(enum hf_log_level level, const char *text,
			    const struct hf_log_field *fields)
{
	struct hf_buf out = {};

	/* Without memory or without a reader of stderr there is nowhere left to say it. */
	if (hf_log_format_line(&out, hf_now_realtime_ns(), program, getpid(), level, text,
			       fields) == 0)
		(void)hf_write_full(STDERR_FILENO, out.data, out.len);
	hf_buf_done(&out);
}

static void emit(enum hf_log_level level, const struct hf_log_field *fields, const char *text)
{
	if (!send_to_journal(program, NULL, level, text, fields))
		write_to_stderr(level, text, fields);
}

static void pass_on_to_stderr(const char *line, size_t len)
{
	struct iovec v[2] = {{(void *)line, len}, {(void *)"\n", 1}};

	/* Our own stderr failing is not this line's business. */
	(void)!writev(STDERR_FILENO, v, 2);
}

void hf_log_pass_on(const struct hf_log_origin *o, const char *line, size_t len)
{
	const struct ucred as = {.pid = o->pid, .uid = o->uid, .gid = o->gid};
	struct hf_log_field fields[HF_LOG_FIELDS_MAX + 1] = {};
	char copy[HF_LOG_TEXT_MAX + 128]; /* a whole text and what stands before it */
	struct hf_log_line parsed;
	size_t n = 0;

	if (journal_fd >= 0 && o->name && len < sizeof(copy)) {
		memcpy(copy, line, len);
		copy[len] = 0;
		hf_log_parse_line(copy, &parsed);
		while (n < HF_LOG_FIELDS_MAX - 1 && o->fields && o->fields[n].key) {
			fields[n] = o->fields[n];
			n++;
		}
		if (parsed.cause)
			fields[n] = (struct hf_log_field){"HOLDFAST_CAUSE", parsed.cause};
		if (send_to_journal(o->name, o->pid ? &as : NULL, parsed.level, parsed.text,
				    fields))
			return;
	}
	pass_on_to_stderr(line, len);
}

void hf_logv(enum hf_log_level level, const struct hf_log_field *fields, const char *fmt,
	     va_list ap)
{
	char text[HF_LOG_TEXT_MAX];
	int saved = errno;

	if ((int)level > max_level)
		return;
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		(void)hf_strlcpy(text, fmt, sizeof(text));
	emit(level, fields, text);
	errno = saved;
}

void hf_log(enum hf_log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	hf_logv(level, NULL, fmt, ap);
	va_end(ap);
}

void hf_log_fields(enum hf_log_level level, const struct hf_log_field *fields, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	hf_logv(level, fields, fmt, ap);
	va_end(ap);
}

int(hf_log_r)(enum hf_log_level level, int r, const char *fmt, ...)
{
	char text[HF_LOG_TEXT_MAX], reason[128];
	int saved = errno;
	va_list ap;
	size_t len;

	if ((int)level > max_level)
		return r;
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		(void)hf_strlcpy(text, fmt, sizeof(text));
	va_end(ap);
	len = strlen(text);
	(void)hf_strf(text + len, sizeof(text) - len, ": %s",
		      strerror_r(abs(r), reason, sizeof(reason)));
	emit(level, NULL, text);
	errno = saved;
	return r;
}

int hf_log_oom(void)
{
	hf_log(HF_LOG_ERROR, "out of memory");
	return -ENOMEM;
}
