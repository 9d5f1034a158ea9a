/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and the event stream over nng. */
#include "tools/ctl/bus.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/req.h>

#include "base/str.h"
#include "userspace/proto/frame.h"

/* An answer holds at most about 900 KiB; the daemons see to that. */
#define ANSWER_MAX (2u << 20)

static int errno_of(int nng_error)
{
	switch (nng_error) {
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
static void explain(const struct hf_ctl *c, enum hf_ctl_daemon d, int r, struct hf_ctl_problem *p)
{
	const char *name = daemon_name(d);
	const char *sock = d == HF_CTL_AGENT ? c->paths.agent_sock : c->paths.watchdog_sock;

	p->code = HF_CTL_UNREACHABLE;
	switch (r) {
	case -EACCES:
		(void)hf_strf(
			p->text, sizeof(p->text),
			"%s: permission denied on '%s'; run it as root or as a member of group "
			"holdfast",
			name, sock);
		return;
	case -ECONNREFUSED:
		/* A directory one may not look into hides the socket. */
		if (access(c->paths.run_dir, X_OK) < 0 && errno == EACCES) {
			explain(c, d, -EACCES, p);
			return;
		}
		(void)hf_strf(p->text, sizeof(p->text),
			      c->paths.installed
				      ? "%s: not running (nothing listens on '%s'); start it with "
					"'systemctl start holdfast'"
				      : "%s: not running (nothing listens on '%s'); start it with "
					"'make run', or name another instance with --dir",
			      name, sock);
		return;
	case -ETIMEDOUT:
		(void)hf_strf(p->text, sizeof(p->text), "%s: no answer in time; %s", name,
			      c->paths.installed ? "see 'journalctl -u holdfast'"
						 : "see its log file");
		return;
	default:
		(void)hf_strf(p->text, sizeof(p->text), "%s: %s; try again", name, strerror(-r));
		return;
	}
}

static int exchange(const char *url, Bus__Request *q, unsigned deadline_ms, Bus__Response **ret)
{
	struct hf_buf packed = {};
	nng_socket sock;
	void *data = NULL;
	size_t len = 0;
	int r, e;

	r = hf_pb_pack(&q->base, &packed);
	if (r < 0)
		return r;
	e = nng_req0_open(&sock);
	if (e != 0) {
		hf_buf_done(&packed);
		return errno_of(e);
	}
	(void)nng_socket_set_ms(sock, NNG_OPT_RECVTIMEO, (nng_duration)deadline_ms);
	(void)nng_socket_set_ms(sock, NNG_OPT_SENDTIMEO, (nng_duration)deadline_ms);
	(void)nng_socket_set_size(sock, NNG_OPT_RECVMAXSZ, ANSWER_MAX);
	e = nng_dial(sock, url, NULL, 0);
	if (e == 0)
		e = nng_send(sock, packed.data, packed.len, 0);
	if (e == 0)
		e = nng_recv(sock, &data, &len, NNG_FLAG_ALLOC);
	if (e == 0) {
		r = hf_pb_unpack(&bus__response__descriptor, data, len, ret);
		nng_free(data, len);
	}
	(void)nng_close(sock);
	if (packed.data)
		hf_wipe(packed.data, packed.len); /* it may have held a token */
	hf_buf_done(&packed);
	return e ? errno_of(e) : r;
}

int hf_ctl_ask(const struct hf_ctl *c, enum hf_ctl_daemon daemon, Bus__Request *q,
	       unsigned deadline_ms, Bus__Response **ret, struct hf_ctl_problem *ret_problem)
{
	_cleanup_pb_ Bus__Response *m = NULL;
	int r;

	r = exchange(daemon == HF_CTL_AGENT ? c->paths.agent_url : c->paths.watchdog_url, q,
		     deadline_ms, &m);
	if (r < 0) {
		explain(c, daemon, r, ret_problem);
		return r;
	}
	if (m->error) {
		ret_problem->code = HF_CTL_BAD_NEWS;
		if (m->message && *m->message)
			(void)hf_strlcpy(ret_problem->text, m->message, sizeof(ret_problem->text));
		else
			(void)hf_strf(ret_problem->text, sizeof(ret_problem->text), "%s: %s",
				      daemon_name(daemon), strerror(m->error));
		return -m->error < 0 ? -m->error : -EIO;
	}
	*ret = TAKE_PTR(m);
	return 0;
}

int hf_ctl_ask_or_fail(const struct hf_ctl *c, enum hf_ctl_daemon daemon, Bus__Request *q,
		       unsigned deadline_ms, Bus__Response **ret)
{
	struct hf_ctl_problem p;

	if (hf_ctl_ask(c, daemon, q, deadline_ms, ret, &p) < 0)
		return hf_ctl_fail(p.code, "%s", p.text);
	return HF_CTL_OK;
}

/* ---- the stream ----------------------------------------------------------------------------- */

struct hf_ctl_stream {
	nng_socket sock;
	atomic_int pipes; /* set by nng's thread */
	bool was_there;   /* the first connection may take nng a moment */
	bool gone;
};

static void on_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
	struct hf_ctl_stream *s = arg;

	(void)pipe;
	if (ev == NNG_PIPE_EV_ADD_POST)
		atomic_fetch_add(&s->pipes, 1);
	else if (ev == NNG_PIPE_EV_REM_POST)
		atomic_fetch_sub(&s->pipes, 1);
}

int hf_ctl_stream_open(const struct hf_ctl *c, struct hf_ctl_stream **ret,
		       struct hf_ctl_problem *ret_problem)
{
	struct hf_ctl_stream *s = calloc(1, sizeof(*s));
	int e;

	e = s ? nng_sub0_open(&s->sock) : NNG_ENOMEM;
	if (e != 0) {
		free(s);
		explain(c, HF_CTL_AGENT, errno_of(e), ret_problem);
		return errno_of(e);
	}
	e = nng_socket_set(s->sock, NNG_OPT_SUB_SUBSCRIBE, "", 0);
	/* A burst of a few thousand events, while we print, is not lost. */
	if (e == 0)
		e = nng_socket_set_int(s->sock, NNG_OPT_RECVBUF, 8192);
	if (e == 0)
		e = nng_pipe_notify(s->sock, NNG_PIPE_EV_ADD_POST, on_pipe, s);
	if (e == 0)
		e = nng_pipe_notify(s->sock, NNG_PIPE_EV_REM_POST, on_pipe, s);
	if (e == 0) {
		(void)nng_socket_set_ms(s->sock, NNG_OPT_RECONNMINT, 100);
		(void)nng_socket_set_ms(s->sock, NNG_OPT_RECONNMAXT, 1000);
		e = nng_dial(s->sock, c->paths.events_url, NULL, 0);
	}
	if (e != 0) {
		explain(c, HF_CTL_AGENT, errno_of(e), ret_problem);
		hf_ctl_stream_close(s);
		return errno_of(e);
	}
	*ret = s;
	return 0;
}

struct hf_ctl_stream *hf_ctl_stream_close(struct hf_ctl_stream *s)
{
	if (!s)
		return NULL;
	(void)nng_close(s->sock);
	free(s);
	return NULL;
}

int hf_ctl_stream_next(struct hf_ctl_stream *s, unsigned wait_ms, Bus__Event **ret)
{
	bool connected = atomic_load(&s->pipes) > 0;
	void *data = NULL;
	size_t len = 0;
	int e, r;

	/* First, since a busy stream never falls quiet. */
	s->was_there |= connected;
	if (s->was_there && s->gone == connected) {
		s->gone = !connected;
		return connected ? HF_CTL_STREAM_BACK : HF_CTL_STREAM_GONE;
	}
	(void)nng_socket_set_ms(s->sock, NNG_OPT_RECVTIMEO, (nng_duration)wait_ms);
	e = nng_recv(s->sock, &data, &len, NNG_FLAG_ALLOC);
	if (e == NNG_ETIMEDOUT || e == NNG_EINTR)
		return HF_CTL_STREAM_QUIET;
	if (e != 0)
		return errno_of(e);
	r = hf_pb_unpack(&bus__event__descriptor, data, len, ret);
	nng_free(data, len);
	return r < 0 ? HF_CTL_STREAM_QUIET : HF_CTL_STREAM_EVENT;
}
