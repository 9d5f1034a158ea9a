/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dialer's state machine. What it dials is a list of candidate addresses that may grow while
 * it dials (an address remembered comes first, DNS's answer later); attempts run staggered until
 * one wins.
 *
 * States: idle -> resolving and/or connecting -> proxying -> idle.
 *
 * I1  One deadline covers everything; without it a proxy that stalls would hold the agent forever.
 * I2  Each socket that was announced by socket_made ends in exactly one of: the result's fd, or
 *     socket_gone.
 * I3  finish() is the only way out, once per dial; after the callback nothing of the dialer is
 *     touched, since the owner may have freed it or dialled again.
 * I4  A lookup belongs to the dialer, not to the dial: a later dial of the same name joins it
 *     instead of starting another thread, and a late answer is kept.
 */
#include "userspace/net/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "userspace/net/proxy.h"
#include "userspace/net/resolve.h"

#define DIALER_MAGIC 0x6469616cu

/* RFC 8305 section 5: Connection Attempt Delay. */
#define ATTEMPT_DELAY_MS 250u
/* How long DNS may be silent before an address that worked once is tried beside it. */
#define DNS_PATIENCE_MS 2000u
#define CACHE_MS        1000u
/* An answer nobody waited for any more: good for the next attempt, whose back-off is <= 60 s. */
#define LATE_ANSWER_MS   60000u
#define LAST_GOOD_MAX    8u
#define KEEPALIVE_PROBES 3

struct attempt {
	struct hf_dialer *dialer;
	int fd;
	uint64_t cookie;
	struct hf_address address;
	sd_event_source *io;
};

struct last_good {
	char host[256];
	struct hf_address address; /* len 0: none */
	uint64_t stored;
};

struct hf_dialer {
	unsigned magic;
	sd_event *event;
	uint64_t cache_ms;

	/* The lookup, which may outlive a dial, and its latest answer. */
	struct hf_resolve *lookup;
	sd_event_source *lookup_io;
	char answer_host[256];
	struct hf_addresses answer;
	uint64_t answer_until_ns;
	struct last_good last_good[LAST_GOOD_MAX];
	uint64_t stored;

	/* The dial. */
	bool running, in_start, waiting_for_dns;
	bool dns_asked; /* by this dial, or DNS is not needed */
	bool has_proxy;
	struct hf_dial_options options;
	struct hf_url proxy;
	const char *host; /* of url or proxy */
	uint16_t port;
	uint64_t phase_began_ns;
	struct hf_addresses candidates;
	unsigned next; /* candidate */
	struct attempt attempts[HF_ADDRESSES_MAX];
	unsigned live;
	int error; /* the most telling errno of failed attempts */
	struct hf_proxy_talk *talk;
	sd_event_source *talk_io, *deadline, *stagger, *patience, *deferred;
	struct hf_dial_result result;
};

static void finish(struct hf_dialer *d, enum hf_dial_failure failure, int code, const char *fmt,
		   ...) __attribute__((format(printf, 4, 5)));
static void ask_dns(struct hf_dialer *d);
static void start_next(struct hf_dialer *d);

const char *hf_dial_phase_name(enum hf_dial_phase p)
{
	static const char *const names[] = {
		[HF_DIAL_RESOLVE] = "resolve",
		[HF_DIAL_TCP] = "tcp",
		[HF_DIAL_PROXY] = "proxy",
		[HF_DIAL_DONE] = "done",
	};

	_Static_assert(HF_ARRAY_SIZE(names) == _HF_DIAL_PHASE_MAX, "a phase has no name");
	return names[p];
}

const char *hf_dial_failure_name(enum hf_dial_failure f)
{
	static const char *const names[] = {
		[HF_DIAL_OK] = "ok",
		[HF_DIAL_DNS] = "dns",
		[HF_DIAL_CONNECT] = "connect",
		[HF_DIAL_TIMEOUT] = "timeout",
		[HF_DIAL_PROXY_REFUSED] = "proxy_refused",
		[HF_DIAL_PROXY_AUTH] = "proxy_auth",
		[HF_DIAL_PROXY_TIMEOUT] = "proxy_timeout",
		[HF_DIAL_PROXY_PROTOCOL] = "proxy_protocol",
		[HF_DIAL_CANCELLED] = "cancelled",
	};

	_Static_assert(HF_ARRAY_SIZE(names) == _HF_DIAL_FAILURE_MAX, "a failure has no name");
	return names[f];
}

/* ---- what is remembered ---------------------------------------------------------------------- */

static struct last_good *last_good_find(struct hf_dialer *d, const char *host)
{
	for (unsigned i = 0; i < LAST_GOOD_MAX; i++)
		if (d->last_good[i].address.len > 0 && hf_streq(d->last_good[i].host, host))
			return &d->last_good[i];
	return NULL;
}

void hf_dialer_remember(struct hf_dialer *d, const char *host, const struct sockaddr *sa,
			socklen_t len)
{
	struct last_good *g = last_good_find(d, host);
	struct hf_address a = {.len = len};

	if (strlen(host) >= sizeof(g->host) || len > sizeof(a.storage) ||
	    (sa->sa_family != AF_INET && sa->sa_family != AF_INET6))
		return;
	if (!g) {
		g = &d->last_good[0];
		for (unsigned i = 1; i < LAST_GOOD_MAX; i++)
			if (d->last_good[i].stored < g->stored)
				g = &d->last_good[i];
	}
	memcpy(&a.storage, sa, len);
	(void)hf_strlcpy(g->host, host, sizeof(g->host));
	g->address = a;
	g->stored = ++d->stored;
}

void hf_dialer_set_cache_ms(struct hf_dialer *d, uint64_t max_age_ms)
{
	d->cache_ms = max_age_ms;
}

/* ---- small helpers --------------------------------------------------------------------------- */

static int add_timer(struct hf_dialer *d, clockid_t clock, uint64_t in_ms, const char *name,
		     sd_event_time_handler_t handler, sd_event_source **ret)
{
	uint64_t now = clock == CLOCK_BOOTTIME ? hf_now_boottime_ns() : hf_now_monotonic_ns();
	int r;

	*ret = sd_event_source_unref(*ret);
	/* Accuracy 1 µs: 0 would mean 250 ms. */
	r = sd_event_add_time(d->event, ret, clock, now / 1000 + in_ms * 1000, 1, handler, d);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(*ret, name);
	return 0;
}

/* The time spent in the phase that ends, and the next one begins. */
static void enter_phase(struct hf_dialer *d, enum hf_dial_phase phase)
{
	uint64_t now = hf_now_monotonic_ns(), spent_us = (now - d->phase_began_ns) / HF_NS_PER_US;

	switch (d->result.phase) {
	case HF_DIAL_RESOLVE:
		d->result.resolve_us += spent_us;
		break;
	case HF_DIAL_TCP:
		d->result.connect_us += spent_us;
		break;
	case HF_DIAL_PROXY:
		d->result.proxy_us += spent_us;
		break;
	case HF_DIAL_DONE:
	case _HF_DIAL_PHASE_MAX:
		break;
	}
	d->result.phase = phase;
	d->phase_began_ns = now;
}

static void attempt_close(struct attempt *a)
{
	struct hf_dialer *d = a->dialer;

	if (a->fd < 0)
		return;
	a->io = sd_event_source_unref(a->io);
	a->fd = hf_close(a->fd);
	d->live--;
	if (d->options.socket_gone)
		d->options.socket_gone(a->cookie, d->options.userdata);
}

static void drop_sources(struct hf_dialer *d)
{
	d->talk_io = sd_event_source_unref(d->talk_io);
	d->deadline = sd_event_source_unref(d->deadline);
	d->stagger = sd_event_source_unref(d->stagger);
	d->patience = sd_event_source_unref(d->patience);
	d->deferred = sd_event_source_unref(d->deferred);
	d->talk = hf_proxy_talk_free(d->talk);
	d->waiting_for_dns = false;
}

static void forget_secrets(struct hf_dialer *d)
{
	hf_wipe(&d->proxy, sizeof(d->proxy));
	hf_wipe(d->options.url.userinfo, sizeof(d->options.url.userinfo));
}

/* ---- the end --------------------------------------------------------------------------------- */

static void deliver(struct hf_dialer *d)
{
	struct hf_dial_result res = d->result;
	void (*done)(struct hf_dial_result *, void *) = d->options.done;
	void *userdata = d->options.userdata;

	drop_sources(d);
	d->running = false;
	d->result.fd = -1;
	done(&res, userdata);
	(void)hf_close(res.fd);
}

static int on_deferred(sd_event_source *source, void *userdata)
{
	(void)source;
	deliver(HF_CAST(userdata, struct hf_dialer, DIALER_MAGIC));
	return 0;
}

static void finish(struct hf_dialer *d, enum hf_dial_failure failure, int code, const char *fmt,
		   ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(d->result.error, sizeof(d->result.error), fmt, ap);
	va_end(ap);
	hf_sanitize(d->result.error);
	d->result.failure = failure;
	d->result.code = code;
	enter_phase(d, failure == HF_DIAL_OK ? HF_DIAL_DONE : d->result.phase);
	for (unsigned i = 0; i < HF_ADDRESSES_MAX; i++)
		attempt_close(&d->attempts[i]);
	if (failure != HF_DIAL_OK)
		d->result.fd = hf_close(d->result.fd);
	drop_sources(d);
	forget_secrets(d);
	/* hf_dial_start() arranges for the callback itself. */
	if (!d->in_start)
		deliver(d);
}

/* A socket that lost after it had won the race: the proxy said no. I2. */
static void finish_after_connect(struct hf_dialer *d, enum hf_dial_failure failure, int code,
				 const char *text)
{
	if (failure != HF_DIAL_OK && d->options.socket_gone)
		d->options.socket_gone(d->result.cookie, d->options.userdata);
	finish(d, failure, code, "%s", text);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_dialer *d = HF_CAST(userdata, struct hf_dialer, DIALER_MAGIC);
	unsigned long long ms = d->options.timeout_ms;

	(void)source;
	(void)usec;
	switch (d->result.phase) {
	case HF_DIAL_RESOLVE:
		finish(d, HF_DIAL_DNS, EAI_AGAIN, "%s: no answer from the resolver within %llu ms",
		       d->host, ms);
		break;
	case HF_DIAL_TCP:
		finish(d, d->has_proxy ? HF_DIAL_PROXY_TIMEOUT : HF_DIAL_TIMEOUT, ETIMEDOUT,
		       "%s%s: no answer within %llu ms", d->has_proxy ? "proxy " : "",
		       d->result.address, ms);
		break;
	case HF_DIAL_PROXY:
		finish_after_connect(d, HF_DIAL_PROXY_TIMEOUT, ETIMEDOUT,
				     "the proxy accepted the connection and then said nothing");
		break;
	case HF_DIAL_DONE:
	case _HF_DIAL_PHASE_MAX:
		hf_assert(false);
	}
	return 0;
}

/* ---- the proxy ------------------------------------------------------------------------------- */

static int on_talk(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_dialer *d = HF_CAST(userdata, struct hf_dialer, DIALER_MAGIC);
	struct hf_proxy_verdict v;
	int r = hf_proxy_talk_step(d->talk, fd, &v);

	(void)revents;
	if (r == 0)
		(void)sd_event_source_set_io_events(source, hf_proxy_talk_events(d->talk));
	else
		finish_after_connect(d, v.failure, v.code, v.text);
	return 0;
}

static void start_talk(struct hf_dialer *d)
{
	int r;

	enter_phase(d, HF_DIAL_PROXY);
	r = hf_proxy_talk_new(&d->options.url, d->proxy.userinfo, &d->talk);
	if (r == 0)
		r = sd_event_add_io(d->event, &d->talk_io, d->result.fd, EPOLLOUT, on_talk, d);
	if (r < 0)
		finish_after_connect(d, HF_DIAL_CONNECT, -r, strerror(-r));
	else
		(void)sd_event_source_set_description(d->talk_io, "dial-proxy");
}

/* ---- connecting ------------------------------------------------------------------------------ */

/* Errors that speak of this host's address families tell less than what a peer or path did. */
static bool is_telling(int error)
{
	return error != 0 && error != ENETUNREACH && error != EADDRNOTAVAIL &&
	       error != EAFNOSUPPORT;
}

static void note_error(struct hf_dialer *d, int error)
{
	if (d->error == 0 || is_telling(error) || !is_telling(d->error))
		d->error = error;
}

static void all_failed(struct hf_dialer *d)
{
	enum hf_dial_failure f = d->error == ETIMEDOUT ? HF_DIAL_TIMEOUT : HF_DIAL_CONNECT;
	unsigned n = d->candidates.n;
	char more[48] = "";

	if (d->has_proxy && d->error == ETIMEDOUT)
		f = HF_DIAL_PROXY_TIMEOUT;
	else if (d->has_proxy && (d->error == ECONNREFUSED || d->error == ECONNRESET))
		f = HF_DIAL_PROXY_REFUSED;
	if (n > 1)
		(void)hf_strf(more, sizeof(more), " (and %u more address%s)", n - 1,
			      n > 2 ? "es" : "");
	finish(d, f, d->error, "%s%s: %s%s", d->has_proxy ? "proxy " : "", d->result.address,
	       strerror(d->error), more);
}

static void attempt_won(struct attempt *a)
{
	struct hf_dialer *d = a->dialer;
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);

	d->stagger = sd_event_source_unref(d->stagger);
	d->patience = sd_event_source_unref(d->patience);
	d->waiting_for_dns = false;
	a->io = sd_event_source_unref(a->io);
	d->result.fd = TAKE_FD(a->fd);
	d->live--;
	for (unsigned i = 0; i < HF_ADDRESSES_MAX; i++)
		attempt_close(&d->attempts[i]);
	d->result.cookie = a->cookie;
	hf_address_format(&a->address.sa, a->address.len, d->result.address,
			  sizeof(d->result.address));
	if (getsockname(d->result.fd, (struct sockaddr *)&local, &len) == 0)
		hf_address_format((struct sockaddr *)&local, len, d->result.local,
				  sizeof(d->result.local));
	hf_dialer_remember(d, d->host, &a->address.sa, a->address.len);
	if (d->has_proxy)
		start_talk(d);
	else
		finish(d, HF_DIAL_OK, 0, "%s", "");
}

static int on_connect(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct attempt *a = userdata;
	struct hf_dialer *d = HF_CAST(a->dialer, struct hf_dialer, DIALER_MAGIC);
	socklen_t len = sizeof(int);
	int error = 0;

	(void)source;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == 0 && (revents & EPOLLOUT)) {
		attempt_won(a);
		return 0;
	}
	note_error(d, error ? error : ECONNREFUSED);
	attempt_close(a);
	start_next(d);
	return 0;
}

static void set_options(const struct hf_dial_options *o, int fd)
{
	const int one = 1, idle = (int)o->keepalive_idle_s, probes = KEEPALIVE_PROBES;

	/* Each is an improvement, none a condition: a kernel that refuses one still connects. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (o->user_timeout_ms > 0)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &o->user_timeout_ms,
				 sizeof(o->user_timeout_ms));
	if (o->max_segment > 0)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &o->max_segment,
				 sizeof(o->max_segment));
	if (o->keepalive_idle_s > 0) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
		(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof(one));
		(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
		(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	}
}

static struct attempt *free_slot(struct hf_dialer *d)
{
	for (unsigned i = 0; i < HF_ADDRESSES_MAX; i++)
		if (d->attempts[i].fd < 0)
			return &d->attempts[i];
	hf_assert(false);
}

/* 0 or -errno; a socket that was announced is taken back. */
static int attempt_start(struct hf_dialer *d, const struct hf_address *address)
{
	struct attempt *a = free_slot(d);
	socklen_t len = sizeof(a->cookie);
	int r;

	hf_address_format(&address->sa, address->len, d->result.address, sizeof(d->result.address));
	a->fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0)
		return -errno;
	a->address = *address;
	a->cookie = 0;
	(void)getsockopt(a->fd, SOL_SOCKET, SO_COOKIE, &a->cookie, &len);
	d->live++;
	set_options(&d->options, a->fd);
	if (d->options.socket_made)
		d->options.socket_made(a->cookie, d->options.userdata);
	r = connect(a->fd, &address->sa, address->len) < 0 && errno != EINPROGRESS ? -errno : 0;
	if (r == 0)
		r = sd_event_add_io(d->event, &a->io, a->fd, EPOLLOUT, on_connect, a);
	if (r < 0) {
		attempt_close(a);
		return r;
	}
	/* The handshake starts before anything else of this loop. */
	(void)sd_event_source_set_priority(a->io, SD_EVENT_PRIORITY_NORMAL - 10);
	(void)sd_event_source_set_description(a->io, "dial-connect");
	return 0;
}

static int on_stagger(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_dialer *d = HF_CAST(userdata, struct hf_dialer, DIALER_MAGIC);

	(void)source;
	(void)usec;
	d->stagger = sd_event_source_unref(d->stagger);
	start_next(d);
	return 0;
}

/* Starts the next attempt, or asks DNS for more, or waits, or gives up: whatever is left. */
static void start_next(struct hf_dialer *d)
{
	int r;

	d->stagger = sd_event_source_unref(d->stagger);
	while (d->next < d->candidates.n) {
		if (d->result.phase == HF_DIAL_RESOLVE)
			enter_phase(d, HF_DIAL_TCP);
		r = attempt_start(d, &d->candidates.list[d->next++]);
		if (r < 0) {
			note_error(d, -r);
			continue;
		}
		if (d->next < d->candidates.n || !d->dns_asked) {
			r = add_timer(d, CLOCK_MONOTONIC, ATTEMPT_DELAY_MS, "dial-stagger",
				      on_stagger, &d->stagger);
			if (r < 0)
				finish(d, HF_DIAL_CONNECT, -r, "%s", strerror(-r));
		}
		return;
	}
	if (!d->dns_asked)
		ask_dns(d);
	else if (d->live == 0 && !d->waiting_for_dns)
		all_failed(d);
}

/* ---- names ----------------------------------------------------------------------------------- */

static bool is_candidate(const struct hf_dialer *d, const struct hf_address *a)
{
	for (unsigned i = 0; i < d->candidates.n; i++)
		if (hf_address_equal(&d->candidates.list[i], a))
			return true;
	return false;
}

static void add_candidates(struct hf_dialer *d, const struct hf_addresses *a)
{
	for (unsigned i = 0; i < a->n && d->candidates.n < HF_ADDRESSES_MAX; i++) {
		struct hf_address *c = &d->candidates.list[d->candidates.n];

		if (is_candidate(d, &a->list[i]))
			continue;
		*c = a->list[i];
		hf_address_set_port(c, d->port);
		d->candidates.n++;
	}
}

/* The address that worked last joins the candidates; false if there is none or it was tried. */
static bool add_last_good(struct hf_dialer *d)
{
	const struct last_good *g = last_good_find(d, d->host);
	struct hf_addresses one = {.n = 1};
	unsigned before = d->candidates.n;

	if (!g)
		return false;
	one.list[0] = g->address;
	add_candidates(d, &one);
	return d->candidates.n > before;
}

static void dns_failed(struct hf_dialer *d, int eai, const char *text)
{
	if (add_last_good(d)) {
		d->result.used_last_good = true;
		start_next(d);
	} else if (d->candidates.n == 0) {
		finish(d, HF_DIAL_DNS, eai, "%s%s: %s", d->has_proxy ? "proxy " : "", d->host,
		       text);
	} else if (d->live == 0) {
		all_failed(d);
	}
}

static int on_lookup(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_dialer *d = HF_CAST(userdata, struct hf_dialer, DIALER_MAGIC);
	_cleanup_(hf_resolve_freep) struct hf_resolve *lookup = TAKE_PTR(d->lookup);
	bool waited = d->waiting_for_dns;
	struct hf_addresses found;
	int eai, error;

	(void)source;
	(void)fd;
	(void)revents;
	d->lookup_io = sd_event_source_unref(d->lookup_io);
	d->waiting_for_dns = false;
	d->patience = sd_event_source_unref(d->patience);
	eai = hf_resolve_result(lookup, &found, &error);
	if (eai == 0) {
		hf_addresses_interleave(&found);
		d->answer = found;
		(void)hf_strlcpy(d->answer_host, hf_resolve_host(lookup), sizeof(d->answer_host));
		d->answer_until_ns = hf_now_monotonic_ns() +
				     (waited ? d->cache_ms : LATE_ANSWER_MS) * HF_NS_PER_MS;
	}
	if (!waited)
		return 0;
	if (eai != 0) {
		dns_failed(d, eai, error ? strerror(error) : gai_strerror(eai));
		return 0;
	}
	d->result.used_last_good = false;
	add_candidates(d, &found);
	start_next(d);
	return 0;
}

static int on_patience(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_dialer *d = HF_CAST(userdata, struct hf_dialer, DIALER_MAGIC);

	(void)source;
	(void)usec;
	d->patience = sd_event_source_unref(d->patience);
	/* The lookup goes on; its answer still joins. */
	if (add_last_good(d)) {
		d->result.used_last_good = true;
		start_next(d);
	}
	return 0;
}

static int start_lookup(struct hf_dialer *d)
{
	int r;

	if (d->lookup && hf_streq(hf_resolve_host(d->lookup), d->host))
		return 0;
	d->lookup_io = sd_event_source_unref(d->lookup_io);
	d->lookup = hf_resolve_free(d->lookup);
	r = hf_resolve_start(d->host, &d->lookup);
	if (r < 0)
		return r;
	r = sd_event_add_io(d->event, &d->lookup_io, hf_resolve_fd(d->lookup), EPOLLIN, on_lookup,
			    d);
	if (r < 0) {
		d->lookup = hf_resolve_free(d->lookup);
		return r;
	}
	(void)sd_event_source_set_description(d->lookup_io, "dial-lookup");
	return 0;
}

static void ask_dns(struct hf_dialer *d)
{
	int r = start_lookup(d);

	d->dns_asked = true;
	if (r < 0) {
		dns_failed(d, EAI_AGAIN,
			   r == -EAGAIN ? "too many lookups hang, none started" : strerror(-r));
		return;
	}
	d->waiting_for_dns = true;
	if (last_good_find(d, d->host))
		(void)add_timer(d, CLOCK_MONOTONIC, DNS_PATIENCE_MS, "dial-dns-patience",
				on_patience, &d->patience);
}

/* Names that need no lookup; RFC 6761 section 6.3 fixes localhost. */
static bool known_host(const char *host, struct hf_addresses *ret)
{
	*ret = (struct hf_addresses){.n = 1};
	if (hf_address_parse(host, &ret->list[0]) == 0)
		return true;
	if (strcasecmp(host, "localhost") != 0 && strcasecmp(host, "localhost.") != 0)
		return false;
	ret->n = 2;
	return hf_address_parse("127.0.0.1", &ret->list[0]) == 0 &&
	       hf_address_parse("::1", &ret->list[1]) == 0;
}

static void start_with_what_is_known(struct hf_dialer *d)
{
	struct hf_addresses known;

	if (known_host(d->host, &known)) {
		d->dns_asked = true;
		add_candidates(d, &known);
	} else if (d->answer_until_ns > hf_now_monotonic_ns() &&
		   hf_streq(d->answer_host, d->host)) {
		d->dns_asked = true;
		add_candidates(d, &d->answer);
	} else if (d->options.redial) {
		(void)add_last_good(d);
	}
	start_next(d);
}

/* ---- life ------------------------------------------------------------------------------------ */

int hf_dialer_new(sd_event *event, struct hf_dialer **ret)
{
	struct hf_dialer *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->magic = DIALER_MAGIC;
	d->event = sd_event_ref(event);
	d->cache_ms = CACHE_MS;
	d->result.fd = -1;
	for (unsigned i = 0; i < HF_ADDRESSES_MAX; i++) {
		d->attempts[i].dialer = d;
		d->attempts[i].fd = -1;
	}
	*ret = d;
	return 0;
}

struct hf_dialer *hf_dialer_free(struct hf_dialer *d)
{
	if (!d)
		return NULL;
	hf_dial_cancel(d);
	sd_event_source_unref(d->lookup_io);
	hf_resolve_free(d->lookup);
	sd_event_unref(d->event);
	d->magic = 0;
	free(d);
	return NULL;
}

static int take_proxy(struct hf_dialer *d, const char *proxy)
{
	char with_scheme[1024];
	int r;

	d->has_proxy = proxy && *proxy;
	if (!d->has_proxy)
		return 0;
	/* The custom of http_proxy allows "host:port". */
	if (!hf_strf(with_scheme, sizeof(with_scheme), "%s%s",
		     strstr(proxy, "://") ? "" : "http://", proxy))
		return -EINVAL;
	r = hf_url_parse(with_scheme, &d->proxy);
	hf_wipe(with_scheme, sizeof(with_scheme));
	return r < 0 || d->proxy.tls ? -EINVAL : 0;
}

int hf_dial_start(struct hf_dialer *d, const struct hf_dial_options *o)
{
	int r;

	if (d->running)
		return -EBUSY;
	r = take_proxy(d, o->proxy);
	if (r < 0) {
		forget_secrets(d);
		return r;
	}
	d->options = *o;
	d->options.proxy = NULL;
	d->host = d->has_proxy ? d->proxy.host : d->options.url.host;
	d->port = d->has_proxy ? d->proxy.port : d->options.url.port;
	d->result = (struct hf_dial_result){.fd = -1, .phase = HF_DIAL_RESOLVE};
	d->phase_began_ns = hf_now_monotonic_ns();
	d->candidates.n = d->next = 0;
	d->error = 0;
	d->dns_asked = d->waiting_for_dns = false;
	/* BOOTTIME: after a suspend the deadline is over at once. */
	r = add_timer(d, CLOCK_BOOTTIME, o->timeout_ms, "dial-deadline", on_deadline, &d->deadline);
	if (r < 0)
		return r;
	d->running = d->in_start = true;
	start_with_what_is_known(d);
	d->in_start = false;
	if (d->deadline)
		return 0;
	/* Finished already; the callback comes from the loop. */
	r = sd_event_add_defer(d->event, &d->deferred, on_deferred, d);
	if (r < 0)
		d->running = false;
	return r < 0 ? r : 0;
}

void hf_dial_cancel(struct hf_dialer *d)
{
	if (!d->running)
		return;
	for (unsigned i = 0; i < HF_ADDRESSES_MAX; i++)
		attempt_close(&d->attempts[i]);
	if (d->result.fd >= 0 && d->options.socket_gone)
		d->options.socket_gone(d->result.cookie, d->options.userdata);
	d->result.fd = hf_close(d->result.fd);
	drop_sources(d);
	forget_secrets(d);
	d->running = false;
}
