/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and the event stream over nng. nng's threads run on_aio() and on_pipe(), which touch only
 * the call, atomics and an eventfd.
 *
 * Before nng dials, probe() asks the kernel whether anybody listens and whether we may: nng's own
 * dial either waits for the greeting of a daemon that may be stopped (10 s, whatever our deadline),
 * or hides the error and tries for ever.
 */
#include "tools/ctl/bus.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/req.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "userspace/proto/frame.h"

/* An answer holds at most about 900 KiB; the daemons see to that. */
#define ANSWER_MAX ((size_t)2 << 20)
/* Events between two looks of ours; nng allows no more. */
#define STREAM_QUEUE  8192
#define TICK_MS       100
#define QUESTIONS_MAX 2u

struct call {
	struct hf_ctl_question *question;
	nng_socket sock;
	nng_aio *aio;
	bool open;
	uint64_t until_ns;
	int wake_fd;   /* borrowed */
	bool sending;  /* on_aio()'s own */
	int nng_error; /* valid once done */
	atomic_bool done;
};

static int errno_of(int nng_error)
{
	switch (nng_error) {
	case 0:
		return 0;
	case NNG_ENOMEM:
		return -ENOMEM;
	case NNG_ETIMEDOUT:
		return -ETIMEDOUT;
	case NNG_ECONNREFUSED:
	case NNG_ENOENT:
	case NNG_EADDRINVAL:
		return -ECONNREFUSED;
	case NNG_EPERM:
		return -EACCES;
	case NNG_ECLOSED:
	case NNG_ECONNRESET:
	case NNG_ECONNSHUT:
	case NNG_ECONNABORTED:
		return -ECONNRESET;
	case NNG_EMSGSIZE:
		return -EMSGSIZE;
	default:
		return -EIO;
	}
}

static const char *daemon_name(enum hf_ctl_daemon d)
{
	switch (d) {
	case HF_CTL_AGENT:
		return "agent";
	case HF_CTL_WATCHDOG:
		return "watchdog";
	}
	return "";
}

/* Says why nobody answered, and what to do about it. */
static void explain(const struct hf_ctl *c, enum hf_ctl_daemon d, const char *sock, int r,
		    struct hf_ctl_problem *p)
{
	const char *name = daemon_name(d);

	p->code = HF_CTL_UNREACHABLE;
	switch (r) {
	case -EACCES:
	case -EPERM:
		p->code = HF_CTL_BAD_NEWS;
		(void)hf_strf(p->text, sizeof(p->text), "%s", HF_CTL_DENIED);
		return;
	case -ENOENT:
	case -ENOTDIR:
	case -ECONNREFUSED:
		(void)hf_strf(p->text, sizeof(p->text),
			      c->paths.installed
				      ? "the %s is not running (nothing listens on '%s'); start it "
					"with 'systemctl start holdfast'"
				      : "the %s is not running (nothing listens on '%s'); start it "
					"with 'make run', or name another instance with --dir",
			      name, sock);
		return;
	case -ETIMEDOUT:
		(void)hf_strf(p->text, sizeof(p->text), "the %s did not answer in time; %s", name,
			      c->paths.installed ? "see 'journalctl -u holdfast'"
						 : "see its log file");
		return;
	case -ECONNRESET:
		(void)hf_strf(p->text, sizeof(p->text),
			      "the %s ended while it was asked; see 'holdfast status'", name);
		return;
	case -EBADMSG:
	case -EMSGSIZE:
		(void)hf_strf(p->text, sizeof(p->text),
			      "the %s answered what is no answer; are holdfast and the %s of one "
			      "version?",
			      name, name);
		return;
	default:
		(void)hf_strf(p->text, sizeof(p->text), "the %s cannot be asked: %s; try again",
			      name, strerror(-r));
		return;
	}
}

/*
 * Why a connection cannot succeed: -errno; else 0. Makes no connection, which a daemon would have to
 * greet: a datagram socket passes the kernel's checks of path, right and owner, and is then told that
 * the types differ.
 */
static int probe(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;

	if (!hf_strlcpy(sa.sun_path, path, sizeof(sa.sun_path)))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 || errno == EPROTOTYPE)
		return 0;
	return -errno;
}

static const char *socket_of(const struct hf_ctl *c, enum hf_ctl_daemon d)
{
	return d == HF_CTL_AGENT ? c->paths.agent_sock : c->paths.watchdog_sock;
}

static nng_duration left_ms(const struct call *k)
{
	uint64_t now = hf_now_monotonic_ns();

	return now >= k->until_ns ? 1 : (nng_duration)((k->until_ns - now) / HF_NS_PER_MS) + 1;
}

/* nng's thread. */
static void on_aio(void *arg)
{
	struct call *k = arg;
	int e = nng_aio_result(k->aio);

	if (e == 0 && k->sending) {
		k->sending = false;
		nng_aio_set_timeout(k->aio, left_ms(k));
		nng_recv_aio(k->sock, k->aio);
		return;
	}
	k->nng_error = e;
	atomic_store(&k->done, true);
	(void)eventfd_write(k->wake_fd, 1); /* two of them cannot overflow it */
}

/* 0 when it is under way, or nng's error. */
static int start_call(const char *url, struct call *k)
{
	struct hf_buf packed = {};
	nng_msg *msg = NULL;
	int e;

	e = nng_req0_open(&k->sock);
	if (e != 0)
		return e;
	k->open = true;
	/* Never ask twice: a second enrolment or restart is no repetition of the first. */
	e = nng_socket_set_ms(k->sock, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
	if (e == 0)
		e = nng_socket_set_size(k->sock, NNG_OPT_RECVMAXSZ, ANSWER_MAX);
	if (e == 0)
		e = nng_aio_alloc(&k->aio, on_aio, k);
	if (e == 0)
		e = nng_dial(k->sock, url, NULL, NNG_FLAG_NONBLOCK);
	if (e == 0 && hf_pb_pack(&k->question->request->base, &packed) < 0)
		e = NNG_ENOMEM;
	if (e == 0)
		e = nng_msg_alloc(&msg, 0);
	if (e == 0)
		e = nng_msg_append(msg, packed.data, packed.len);
	if (packed.data)
		hf_wipe(packed.data, packed.len); /* it may have held a token */
	hf_buf_done(&packed);
	if (e != 0) {
		if (msg)
			nng_msg_free(msg);
		return e;
	}
	k->sending = true;
	nng_aio_set_msg(k->aio, msg);
	nng_aio_set_timeout(k->aio, left_ms(k));
	nng_send_aio(k->sock, k->aio);
	return 0;
}

static void wait_for_all(const struct call *calls, size_t n, int wake_fd,
			 void (*tick)(void *userdata), void *userdata)
{
	for (;;) {
		struct pollfd p = {.fd = wake_fd, .events = POLLIN};
		bool all = true;
		eventfd_t count;

		for (size_t i = 0; i < n; i++)
			all = all && atomic_load(&calls[i].done);
		if (all)
			return;
		/* Every call has a timeout of its own, so this ends. */
		if (poll(&p, 1, tick ? TICK_MS : -1) > 0)
			(void)eventfd_read(wake_fd, &count); /* only clears it */
		if (tick)
			tick(userdata);
	}
}

/* The answer, or why it is none, into the question. */
static void finish_call(const struct hf_ctl *c, struct call *k)
{
	struct hf_ctl_question *q = k->question;
	const char *sock = socket_of(c, q->daemon);
	_cleanup_pb_ Bus__Response *m = NULL;
	nng_msg *msg = NULL;
	int r = errno_of(k->nng_error);

	if (k->aio) {
		nng_aio_stop(k->aio);
		/* After a failed send it is ours again. */
		msg = nng_aio_get_msg(k->aio);
	}
	if (r == 0)
		r = hf_pb_unpack(&bus__response__descriptor, nng_msg_body(msg), nng_msg_len(msg),
				 &m);
	if (r == 0 && m->error == 0) {
		q->response = TAKE_PTR(m);
	} else if (r == 0 && m->error != EPERM && m->error != EACCES) {
		q->problem.code = HF_CTL_BAD_NEWS;
		if (*m->message)
			(void)hf_strlcpy(q->problem.text, m->message, sizeof(q->problem.text));
		else
			(void)hf_strf(q->problem.text, sizeof(q->problem.text), "%s: %s",
				      daemon_name(q->daemon), strerror(m->error));
		r = m->error > 0 ? -m->error : -EIO;
	} else {
		r = r == 0 ? -EPERM : r;
		explain(c, q->daemon, sock, r, &q->problem);
	}
	q->r = r;
	if (msg)
		nng_msg_free(msg);
	nng_aio_free(k->aio);
	if (k->open)
		(void)nng_close(k->sock);
}

void hf_ctl_ask_all(const struct hf_ctl *c, struct hf_ctl_question *questions, size_t n,
		    void (*tick)(void *userdata), void *userdata)
{
	struct call calls[QUESTIONS_MAX] = {};
	_cleanup_close_ int wake_fd = eventfd(0, EFD_CLOEXEC);

	hf_assert(n <= QUESTIONS_MAX);
	for (size_t i = 0; i < n; i++) {
		struct hf_ctl_question *q = &questions[i];
		struct call *k = &calls[i];
		int r = wake_fd < 0 ? -EMFILE : probe(socket_of(c, q->daemon));

		*k = (struct call){.question = q, .wake_fd = wake_fd};
		q->response = NULL;
		k->until_ns = hf_now_monotonic_ns() + q->deadline_ms * HF_NS_PER_MS;
		q->r = r;
		if (r < 0)
			explain(c, q->daemon, socket_of(c, q->daemon), r, &q->problem);
		else
			k->nng_error = start_call(q->daemon == HF_CTL_AGENT ? c->paths.agent_url
									    : c->paths.watchdog_url,
						  k);
		if (r < 0 || k->nng_error != 0)
			atomic_store(&k->done, true);
	}
	wait_for_all(calls, n, wake_fd, tick, userdata);
	for (size_t i = 0; i < n; i++)
		if (questions[i].r == 0)
			finish_call(c, &calls[i]);
}

int hf_ctl_ask(const struct hf_ctl *c, enum hf_ctl_daemon daemon, Bus__Request *q,
	       unsigned deadline_ms, Bus__Response **ret, struct hf_ctl_problem *ret_problem)
{
	struct hf_ctl_question question = {
		.daemon = daemon,
		.request = q,
		.deadline_ms = deadline_ms,
	};

	hf_ctl_ask_all(c, &question, 1, NULL, NULL);
	if (question.r < 0)
		*ret_problem = question.problem;
	else
		*ret = question.response;
	return question.r;
}

int hf_ctl_ask_or_fail(const struct hf_ctl *c, enum hf_ctl_daemon daemon, Bus__Request *q,
		       unsigned deadline_ms, Bus__Response **ret)
{
	struct hf_ctl_problem p;

	if (hf_ctl_ask(c, daemon, q, deadline_ms, ret, &p) < 0)
		return hf_ctl_fail(p.code, "%s: %s", c->verb, p.text);
	return HF_CTL_OK;
}

int hf_ctl_fail_misfit(const struct hf_ctl *c, enum hf_ctl_daemon daemon)
{
	struct hf_ctl_problem p;

	explain(c, daemon, socket_of(c, daemon), -EBADMSG, &p);
	return hf_ctl_fail(HF_CTL_BAD_NEWS, "%s: %s", c->verb, p.text);
}

/* ---- the stream ----------------------------------------------------------------------------- */

struct hf_ctl_stream {
	nng_socket sock;
	atomic_int pipes;       /* set by nng's thread, as is the next */
	atomic_uint generation; /* connections so far; counted before the first event of each */
	unsigned seen;          /* the one that was told of */
	bool gone;              /* told of */
	Bus__Event *kept;       /* came by a connection that has not been told of yet */
};

static void on_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
	struct hf_ctl_stream *s = arg;

	(void)pipe;
	if (ev == NNG_PIPE_EV_ADD_PRE)
		atomic_fetch_add(&s->generation, 1);
	else if (ev == NNG_PIPE_EV_ADD_POST)
		atomic_fetch_add(&s->pipes, 1);
	else if (ev == NNG_PIPE_EV_REM_POST)
		atomic_fetch_sub(&s->pipes, 1);
}

int hf_ctl_stream_open(const struct hf_ctl *c, struct hf_ctl_stream **ret,
		       struct hf_ctl_problem *ret_problem)
{
	struct hf_ctl_stream *s = NULL;
	uint64_t until_ns = hf_now_monotonic_ns() + HF_CTL_DEADLINE_MS * HF_NS_PER_MS;
	int e, r;

	r = probe(c->paths.events_sock);
	if (r == 0)
		s = calloc(1, sizeof(*s));
	e = s ? nng_sub0_open(&s->sock) : NNG_ENOMEM;
	if (r < 0 || e != 0) {
		free(s);
		r = r < 0 ? r : errno_of(e);
		explain(c, HF_CTL_AGENT, c->paths.events_sock, r, ret_problem);
		return r;
	}
	e = nng_socket_set(s->sock, NNG_OPT_SUB_SUBSCRIBE, "", 0);
	/* A burst of a few thousand events, while we print, is not lost. */
	if (e == 0)
		e = nng_socket_set_int(s->sock, NNG_OPT_RECVBUF, STREAM_QUEUE);
	if (e == 0)
		e = nng_pipe_notify(s->sock, NNG_PIPE_EV_ADD_PRE, on_pipe, s);
	if (e == 0)
		e = nng_pipe_notify(s->sock, NNG_PIPE_EV_ADD_POST, on_pipe, s);
	if (e == 0)
		e = nng_pipe_notify(s->sock, NNG_PIPE_EV_REM_POST, on_pipe, s);
	if (e == 0) {
		(void)nng_socket_set_ms(s->sock, NNG_OPT_RECONNMINT, 100);
		(void)nng_socket_set_ms(s->sock, NNG_OPT_RECONNMAXT, 1000);
		e = nng_dial(s->sock, c->paths.events_url, NULL, NNG_FLAG_NONBLOCK);
	}
	/* Connected before the recent ones are asked for: nothing falls in between. */
	while (e == 0 && atomic_load(&s->pipes) == 0) {
		if (hf_now_monotonic_ns() > until_ns)
			e = NNG_ETIMEDOUT;
		else
			(void)poll(NULL, 0, 2); /* a pause */
	}
	if (e != 0) {
		explain(c, HF_CTL_AGENT, c->paths.events_sock, errno_of(e), ret_problem);
		hf_ctl_stream_close(s);
		return errno_of(e);
	}
	s->seen = atomic_load(&s->generation);
	*ret = s;
	return 0;
}

struct hf_ctl_stream *hf_ctl_stream_close(struct hf_ctl_stream *s)
{
	if (!s)
		return NULL;
	(void)nng_close(s->sock);
	if (s->kept)
		bus__event__free_unpacked(s->kept, NULL);
	free(s);
	return NULL;
}

int hf_ctl_stream_next(struct hf_ctl_stream *s, unsigned wait_ms, Bus__Event **ret)
{
	unsigned now = atomic_load(&s->generation);
	Bus__Event *event = NULL;
	void *data = NULL;
	size_t len = 0;
	int e, r;

	/* First, since a busy stream never falls quiet. */
	if (now != s->seen) {
		s->seen = now;
		s->gone = false;
		return HF_CTL_STREAM_BACK;
	}
	if (s->kept) {
		*ret = TAKE_PTR(s->kept);
		return HF_CTL_STREAM_EVENT;
	}
	if (atomic_load(&s->pipes) == 0 && !s->gone) {
		s->gone = true;
		return HF_CTL_STREAM_GONE;
	}
	(void)nng_socket_set_ms(s->sock, NNG_OPT_RECVTIMEO, (nng_duration)wait_ms);
	e = nng_recv(s->sock, &data, &len, NNG_FLAG_ALLOC);
	if (e == NNG_ETIMEDOUT || e == NNG_EINTR)
		return HF_CTL_STREAM_QUIET;
	if (e != 0)
		return errno_of(e);
	r = hf_pb_unpack(&bus__event__descriptor, data, len, &event);
	nng_free(data, len);
	if (r < 0)
		return HF_CTL_STREAM_QUIET;
	/* What a new connection brings comes after the word that there is one. */
	if (atomic_load(&s->generation) != s->seen) {
		s->kept = event;
		return HF_CTL_STREAM_QUIET;
	}
	*ret = event;
	return HF_CTL_STREAM_EVENT;
}
