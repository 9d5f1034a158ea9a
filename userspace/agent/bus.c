/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nng at work. Threads: nng's own run on_aio() and on_pipe() below, which touch only the call's
 * stage under the lock and the eventfd; everything else is the loop's.
 */
#include "userspace/agent/bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/reqrep0/rep.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "userspace/proto/bus_access.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/nng_guard.h"

#define BUS_MAGIC 0x53554221u
/* Everybody may connect; who may not use it is told so. */
#define SOCKET_MODE 0666

enum stage { CALL_RECEIVING, CALL_READY, CALL_HANDLED, CALL_SENDING };

struct hf_bus_call {
	struct hf_bus *bus;
	nng_ctx ctx;
	nng_aio *aio;
	nng_msg *msg; /* the request, while CALL_READY */
	enum stage stage;
	bool open;
};

struct hf_bus {
	unsigned magic;
	nng_socket rep, pub;
	bool rep_open, pub_open;
	int wake_fd;
	sd_event_source *source;
	pthread_mutex_t lock;
	struct hf_bus_call calls[HF_BUS_REQUESTS_MAX];
	int subscribers; /* under the lock */
	hf_bus_request_fn request;
	void *userdata;
	uint32_t own_uid;
	int64_t bus_gid; /* -1: there is no such group */
};

/* Any thread. */
static bool peer_permitted(const struct hf_bus *b, nng_pipe pipe)
{
	uint64_t uid = UINT32_MAX, gid = UINT32_MAX, pid = 0;

	if (nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_UID, &uid) != 0 ||
	    nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_GID, &gid) != 0)
		return false;
	(void)nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_PID, &pid); /* 0: its groups are unknown */
	return uid == 0 || uid == b->own_uid ||
	       hf_bus_in_group((uint32_t)gid, (pid_t)pid, b->bus_gid);
}

static void wake(struct hf_bus *b)
{

	(void)eventfd_write(b->wake_fd, 1); /* EAGAIN: the loop is awake anyway */
}

static void receive_next(struct hf_bus_call *c)
{
	c->stage = CALL_RECEIVING;
	nng_ctx_recv(c->ctx, c->aio);
}

/* nng's thread: a request came in, or an answer went out. */
static void on_aio(void *arg)
{
	struct hf_bus_call *c = arg;
	struct hf_bus *b = c->bus;
	int r = nng_aio_result(c->aio);

	if (r == NNG_ECLOSED || r == NNG_ECANCELED)
		return;
	(void)pthread_mutex_lock(&b->lock);
	if (c->stage == CALL_RECEIVING && r == 0) {
		c->msg = nng_aio_get_msg(c->aio);
		c->stage = CALL_READY;
		wake(b);
		(void)pthread_mutex_unlock(&b->lock);
		return;
	}
	if (c->stage == CALL_SENDING && r != 0) {
		/* The caller went away before its answer. */
		nng_msg_free(nng_aio_get_msg(c->aio));
		nng_aio_set_msg(c->aio, NULL);
	}
	c->stage = CALL_RECEIVING;
	(void)pthread_mutex_unlock(&b->lock);
	nng_ctx_recv(c->ctx, c->aio);
}

/* nng's thread. */
static void on_subscriber(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
	struct hf_bus *b = HF_CAST(arg, struct hf_bus, BUS_MAGIC);

	if (ev == NNG_PIPE_EV_ADD_PRE && !peer_permitted(b, pipe)) {
		(void)nng_pipe_close(pipe);
		return;
	}
	(void)pthread_mutex_lock(&b->lock);
	if (ev == NNG_PIPE_EV_ADD_POST)
		b->subscribers++;
	else if (ev == NNG_PIPE_EV_REM_POST && b->subscribers > 0)
		b->subscribers--;
	(void)pthread_mutex_unlock(&b->lock);
}

static void handle_call(struct hf_bus *b, struct hf_bus_call *c, nng_msg *msg)
{
	_cleanup_pb_ Bus__Request *m = NULL;
	int r;

	if (!peer_permitted(b, nng_msg_get_pipe(msg))) {
		hf_bus_refuse(c, EPERM,
			      "permission denied: run as root or join group '" HF_BUS_GROUP "'");
		return;
	}
	r = hf_pb_unpack(&bus__request__descriptor, nng_msg_body(msg), nng_msg_len(msg), &m);
	if (r < 0 || m->what_case == BUS__REQUEST__WHAT__NOT_SET) {
		hf_bus_refuse(c, EBADMSG, "the request is not one this agent understands");
		return;
	}
	b->request(c, m, b->userdata);
}

static int on_wake(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct hf_bus *b = HF_CAST(userdata, struct hf_bus, BUS_MAGIC);
	uint64_t n;

	(void)s;
	(void)revents;
	(void)eventfd_read(fd, &n); /* only clears it */
	for (unsigned i = 0; i < HF_BUS_REQUESTS_MAX; i++) {
		struct hf_bus_call *c = &b->calls[i];
		nng_msg *msg = NULL;

		(void)pthread_mutex_lock(&b->lock);
		if (c->stage == CALL_READY) {
			msg = TAKE_PTR(c->msg);
			c->stage = CALL_HANDLED;
		}
		(void)pthread_mutex_unlock(&b->lock);
		if (!msg)
			continue;
		handle_call(b, c, msg);
		nng_msg_free(msg);
	}
	return 0;
}

void hf_bus_answer(struct hf_bus_call *c, Bus__Response *m)
{
	struct hf_bus *b = c->bus;
	struct hf_buf buf = {};
	nng_msg *msg = NULL;
	bool ok;

	hf_assert(c->stage == CALL_HANDLED);
	ok = hf_pb_pack(&m->base, &buf) >= 0 && nng_msg_alloc(&msg, 0) == 0 &&
	     nng_msg_append(msg, buf.data, buf.len) == 0;
	hf_buf_done(&buf);
	(void)pthread_mutex_lock(&b->lock);
	if (!ok) {
		/* Out of memory: the caller's own deadline ends its wait. */
		if (msg)
			nng_msg_free(msg);
		receive_next(c);
	} else {
		c->stage = CALL_SENDING;
		nng_aio_set_msg(c->aio, msg);
		nng_ctx_send(c->ctx, c->aio);
	}
	(void)pthread_mutex_unlock(&b->lock);
}

void hf_bus_refuse(struct hf_bus_call *c, int error, const char *fmt, ...)
{
	Bus__Response m = BUS__RESPONSE__INIT;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* cut is fine: text for people */
	va_end(ap);
	hf_sanitize(text);
	m.error = error;
	m.message = text;
	hf_bus_answer(c, &m);
}

void hf_bus_publish(struct hf_bus *b, const void *packed, size_t len)
{
	nng_msg *msg;
	int subscribers;

	if (!b->pub_open)
		return;
	(void)pthread_mutex_lock(&b->lock);
	subscribers = b->subscribers;
	(void)pthread_mutex_unlock(&b->lock);
	if (subscribers == 0 || nng_msg_alloc(&msg, 0) != 0)
		return;
	if (nng_msg_append(msg, packed, len) != 0 ||
	    nng_sendmsg(b->pub, msg, NNG_FLAG_NONBLOCK) != 0)
		nng_msg_free(msg);
}

static int errno_of(int nng_error)
{
	switch (nng_error) {
	case 0:
		return 0;
	case NNG_ENOMEM:
		return -ENOMEM;
	case NNG_EADDRINUSE:
		return -EADDRINUSE;
	case NNG_EPERM:
		return -EACCES;
	case NNG_ENOENT:
		return -ENOENT;
	}
	return nng_error & NNG_ESYSERR ? -(nng_error & ~NNG_ESYSERR) : -EIO;
}

static int listen_on(nng_socket s, const char *url)
{
	nng_listener l;
	int r;

	r = nng_listener_create(&l, s, url);
	if (r == 0)
		r = nng_listener_set_int(l, NNG_OPT_IPC_PERMISSIONS, SOCKET_MODE);
	if (r == 0)
		r = nng_listener_set_size(l, NNG_OPT_RECVMAXSZ, HF_BUS_REQUEST_MAX);
	if (r == 0)
		r = nng_listener_start(l, 0);
	return errno_of(r);
}

static int open_requests(struct hf_bus *b, const char *url)
{
	int r;

	hf_nng_guard();
	if (nng_rep0_open(&b->rep) != 0)
		return -ENOMEM;
	b->rep_open = true;
	for (unsigned i = 0; i < HF_BUS_REQUESTS_MAX; i++) {
		struct hf_bus_call *c = &b->calls[i];

		c->bus = b;
		if (nng_aio_alloc(&c->aio, on_aio, c) != 0)
			return -ENOMEM;
		if (nng_ctx_open(&c->ctx, b->rep) != 0)
			return -ENOMEM;
		c->open = true;
	}
	r = listen_on(b->rep, url);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < HF_BUS_REQUESTS_MAX; i++)
		receive_next(&b->calls[i]);
	return 0;
}

static int open_events(struct hf_bus *b, const char *url)
{
	if (nng_pub0_open(&b->pub) != 0)
		return -ENOMEM;
	b->pub_open = true;
	(void)nng_socket_set_int(b->pub, NNG_OPT_SENDBUF, 1024); /* default 16: a burst is larger */
	if (nng_pipe_notify(b->pub, NNG_PIPE_EV_ADD_PRE, on_subscriber, b) != 0 ||
	    nng_pipe_notify(b->pub, NNG_PIPE_EV_ADD_POST, on_subscriber, b) != 0 ||
	    nng_pipe_notify(b->pub, NNG_PIPE_EV_REM_POST, on_subscriber, b) != 0)
		return -EIO;
	return listen_on(b->pub, url);
}

int hf_bus_new(sd_event *event, const char *request_url, const char *events_url,
	       hf_bus_request_fn request, void *userdata, struct hf_bus **ret)
{
	_cleanup_(hf_bus_freep) struct hf_bus *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->magic = BUS_MAGIC;
	b->request = request;
	b->userdata = userdata;
	b->own_uid = getuid();
	(void)pthread_mutex_init(&b->lock, NULL);
	b->bus_gid = hf_bus_group();
	b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->wake_fd < 0)
		return -errno;
	r = sd_event_add_io(event, &b->source, b->wake_fd, EPOLLIN, on_wake, b);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(b->source, "bus"); /* for debugging only */
	r = open_requests(b, request_url);
	if (r < 0)
		return r;
	r = open_events(b, events_url);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

struct hf_bus *hf_bus_free(struct hf_bus *b)
{
	if (!b)
		return NULL;
	sd_event_source_disable_unref(b->source);
	/* Closing cancels and waits for the callbacks; only then the calls may go. */
	for (unsigned i = 0; i < HF_BUS_REQUESTS_MAX; i++) {
		if (b->calls[i].open)
			(void)nng_ctx_close(b->calls[i].ctx);
		if (b->calls[i].aio) {
			nng_aio_stop(b->calls[i].aio);
			nng_aio_free(b->calls[i].aio);
		}
		if (b->calls[i].msg)
			nng_msg_free(b->calls[i].msg);
	}
	if (b->rep_open)
		(void)nng_close(b->rep);
	if (b->pub_open)
		(void)nng_close(b->pub);
	if (b->wake_fd > 0)
		(void)hf_close(b->wake_fd);
	(void)pthread_mutex_destroy(&b->lock);
	b->magic = 0;
	free(b);
	return NULL;
}
