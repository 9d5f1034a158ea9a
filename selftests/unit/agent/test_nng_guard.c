/* SPDX-License-Identifier: Apache-2.0 */
/* The listener of the local bus against callers that leave at once. */
#include "userspace/proto/nng_guard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

#include "selftests/unit/test_util.h"

#define CALLERS 200

static void connect_and_leave(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	(void)close(fd);
}

static void callers_that_leave_at_once_do_not_end_the_listener(void **state)
{
	char dir[] = "/tmp/hf-nng-XXXXXX", path[64], url[80], answer[8];
	nng_socket rep, req;
	size_t n = sizeof(answer);
	void *request;
	size_t len;

	(void)state;
	hf_nng_guard();
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/s", dir);
	(void)snprintf(url, sizeof(url), "ipc://%s", path);
	assert_int_equal(nng_rep0_open(&rep), 0);
	assert_int_equal(nng_listen(rep, url, NULL, 0), 0);
	for (int i = 0; i < CALLERS; i++)
		connect_and_leave(path);

	assert_int_equal(nng_req0_open(&req), 0);
	assert_int_equal(nng_socket_set_ms(req, NNG_OPT_RECVTIMEO, 5000), 0);
	assert_int_equal(nng_socket_set_ms(req, NNG_OPT_SENDTIMEO, 5000), 0);
	assert_int_equal(nng_socket_set_ms(rep, NNG_OPT_RECVTIMEO, 5000), 0);
	assert_int_equal(nng_dial(req, url, NULL, NNG_FLAG_NONBLOCK), 0);
	assert_int_equal(nng_send(req, (void *)"still?", 6, 0), 0);
	assert_int_equal(nng_recv(rep, (void *)&request, &len, NNG_FLAG_ALLOC), 0);
	assert_int_equal(nng_send(rep, request, len, NNG_FLAG_ALLOC), 0);
	assert_int_equal(nng_recv(req, answer, &n, 0), 0);
	assert_int_equal(n, 6);
	assert_memory_equal(answer, "still?", 6);

	(void)nng_close(req);
	(void)nng_close(rep);
	nng_fini(); /* its threads' descriptors */
	(void)unlink(path);
	(void)rmdir(dir);
}

/* Its own callers rely on the rest of what sendmsg() says. */
static void a_closed_peer_is_a_reset(void **state)
{
	char byte = 0;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(sendmsg(pair[0], &m, MSG_NOSIGNAL), 1);
	(void)close(pair[1]);
	assert_int_equal(sendmsg(pair[0], &m, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(sendmsg(-1, &m, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EBADF);
	(void)close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(callers_that_leave_at_once_do_not_end_the_listener),
		cmocka_unit_test(a_closed_peer_is_a_reset),
	};

	return HF_RUN_TESTS(tests);
}
