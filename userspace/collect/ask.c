/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A question to a daemon. nng itself would bring threads and more system calls than a worker may
 * have; what it speaks on an ipc socket is short: both sides greet with eight bytes, and a message
 * is a byte 1, its length in eight bytes of network order, and the message, which of a request and
 * its answer begins with the request's number.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "userspace/collect/collect.h"

/* As much as a daemon answers at the most. */
#define ANSWER_MAX (2u << 20)
/* A daemon that is well answers within milliseconds. */
#define TIMEOUT_S 3
#define SP_REQ    0x30
#define SP_REP    0x31
/* The highest bit ends the list of hops, and ours is the only one. */
#define REQUEST_ID 0x80000001u

struct __attribute__((packed)) message_head {
	uint8_t type;
	uint64_t length;
	uint32_t id;
};

static int connect_to(const char *path)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval timeout = {.tv_sec = TIMEOUT_S};
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (fd < 0)
		return -errno;
	if (!hf_strlcpy(a.sun_path, path, sizeof(a.sun_path)))
		return -ENAMETOOLONG;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int read_exactly(int fd, void *dst, size_t len)
{
	ssize_t n = hf_read_full(fd, dst, len);

	if (n == -EAGAIN)
		return -ETIMEDOUT;
	return n < 0 ? (int)n : (size_t)n == len ? 0 : -ECONNRESET;
}

static int greet(int fd)
{
	static const uint8_t ours[8] = {0, 'S', 'P', 0, 0, SP_REQ};
	uint8_t theirs[8];
	int r = hf_write_full(fd, ours, sizeof(ours));

	if (r == 0)
		r = read_exactly(fd, theirs, sizeof(theirs));
	if (r == 0 && (memcmp(theirs, ours, 4) != 0 || theirs[5] != SP_REP))
		r = -EPROTO;
	return r;
}

int hf_collect_ask(const char *socket_path, const void *request, size_t len, struct hf_buf *answer)
{
	_cleanup_close_ int fd = connect_to(socket_path);
	struct message_head h = {
		.type = 1, .length = htobe64(len + sizeof(h.id)), .id = htobe32(REQUEST_ID)};
	uint64_t length;
	int r;

	if (fd < 0)
		return fd;
	r = greet(fd);
	if (r == 0)
		r = hf_write_full(fd, &h, sizeof(h));
	if (r == 0)
		r = hf_write_full(fd, request, len);
	if (r == 0)
		r = read_exactly(fd, &h, sizeof(h));
	if (r < 0)
		return r;
	length = be64toh(h.length);
	if (h.type != 1 || length < sizeof(h.id) || length > ANSWER_MAX ||
	    be32toh(h.id) != REQUEST_ID)
		return -EPROTO;
	length -= sizeof(h.id);
	r = hf_buf_reserve(answer, length + 1);
	if (r == 0)
		r = read_exactly(fd, answer->data + answer->len, length);
	if (r == 0)
		answer->len += length;
	return r;
}
