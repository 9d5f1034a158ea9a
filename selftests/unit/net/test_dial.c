/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dialling over loopback with a resolver of this file: getaddrinfo() is replaced, so that names can
 * be slow, wrong, dead or changed. A black hole is a listener whose queue is full. It is one file
 * because replacing getaddrinfo() holds for a whole program.
 */
#include "selftests/unit/test_util.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "userspace/net/dial.h"
#include "userspace/net/resolve.h"

/* ---- the resolver ---------------------------------------------------------------------------- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned calls;
	unsigned inside;
	bool blocked;
	int eai;
	const char *addresses; /* separated by spaces */
} dns = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		struct addrinfo **res)
{
	char copy[512], *word, *rest;
	struct addrinfo **tail = res;
	int eai;

	(void)node;
	(void)service;
	(void)hints;
	(void)pthread_mutex_lock(&dns.lock);
	dns.calls++;
	dns.inside++;
	while (dns.blocked)
		(void)pthread_cond_wait(&dns.changed, &dns.lock);
	dns.inside--;
	(void)pthread_cond_broadcast(&dns.changed);
	eai = dns.eai;
	(void)hf_strlcpy(copy, dns.addresses ? dns.addresses : "", sizeof(copy));
	(void)pthread_mutex_unlock(&dns.lock);
	*res = NULL;
	if (eai != 0)
		return eai;
	for (word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		struct {
			struct addrinfo ai;
			struct hf_address address;
		} *one = calloc(1, sizeof(*one));

		if (!one || hf_address_parse(word, &one->address) < 0)
			abort();
		one->ai.ai_family = one->address.sa.sa_family;
		one->ai.ai_addr = &one->address.sa;
		one->ai.ai_addrlen = one->address.len;
		*tail = &one->ai;
		tail = &one->ai.ai_next;
	}
	return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
	while (list) {
		struct addrinfo *next = list->ai_next;

		free(list);
		list = next;
	}
}

static void dns_says(const char *addresses, int eai)
{
	(void)pthread_mutex_lock(&dns.lock);
	dns.addresses = addresses;
	dns.eai = eai;
	dns.calls = 0;
	(void)pthread_mutex_unlock(&dns.lock);
}

static void dns_block(bool on)
{
	(void)pthread_mutex_lock(&dns.lock);
	dns.blocked = on;
	(void)pthread_cond_broadcast(&dns.changed);
	/* Threads that were let go have nothing of this test left to touch. */
	while (!on && dns.inside > 0)
		(void)pthread_cond_wait(&dns.changed, &dns.lock);
	(void)pthread_mutex_unlock(&dns.lock);
}

/* Abandoned lookups end by themselves and close a descriptor; the next test counts those. */
static void wait_for_lookup_threads(void)
{
	struct stat st;

	/* One link each for ".", ".." and a thread. */
	for (unsigned i = 0; i < 500; i++) {
		if (stat("/proc/self/task", &st) == 0 && st.st_nlink <= 3)
			return;
		(void)usleep(2000);
	}
	fail_msg("lookup threads never ended");
}

static unsigned dns_calls(void)
{
	unsigned n;

	(void)pthread_mutex_lock(&dns.lock);
	n = dns.calls;
	(void)pthread_mutex_unlock(&dns.lock);
	return n;
}

/* ---- servers --------------------------------------------------------------------------------- */

static int listen_on(const char *address, uint16_t *port, int backlog)
{
	struct hf_address a;
	socklen_t len;
	const int one = 1;
	int fd;

	assert_ok(hf_address_parse(address, &a));
	hf_address_set_port(&a, *port);
	fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(fd, &a.sa, a.len), 0);
	assert_int_equal(listen(fd, backlog), 0);
	len = sizeof(a.storage);
	assert_int_equal(getsockname(fd, &a.sa, &len), 0);
	*port = ntohs(a.in.sin_port);
	return fd;
}

/* A listener that answers no SYN any more; fds[0] is the listener. */
static void black_hole(const char *address, uint16_t *port, int fds[4])
{
	struct hf_address a;

	fds[0] = listen_on(address, port, 0);
	assert_ok(hf_address_parse(address, &a));
	hf_address_set_port(&a, *port);
	for (unsigned i = 1; i < 4; i++) {
		fds[i] = socket(a.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(fds[i], &a.sa, a.len);
	}
}

static void close_all(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

/* ---- the dial -------------------------------------------------------------------------------- */

struct fixture {
	sd_event *event;
	struct hf_dialer *dialer;
	struct hf_dial_options options;
	struct hf_dial_result result;
	unsigned done, made, gone;
	uint64_t last_made;
	bool free_in_done;
	uint64_t took_ms;
};

static void on_made(uint64_t cookie, void *userdata)
{
	struct fixture *f = userdata;

	assert_true(cookie != 0 && cookie != f->last_made);
	f->last_made = cookie;
	f->made++;
}

static void on_gone(uint64_t cookie, void *userdata)
{
	struct fixture *f = userdata;

	assert_true(cookie != 0);
	f->gone++;
}

static void on_done(struct hf_dial_result *res, void *userdata)
{
	struct fixture *f = userdata;

	f->result = *res;
	res->fd = -1;
	f->done++;
	if (f->free_in_done)
		f->dialer = hf_dialer_free(f->dialer);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f || sd_event_new(&f->event) < 0 || hf_dialer_new(f->event, &f->dialer) < 0)
		return -1;
	f->result.fd = -1;
	f->options = (struct hf_dial_options){
		.timeout_ms = 4000,
		.socket_made = on_made,
		.socket_gone = on_gone,
		.done = on_done,
		.userdata = f,
	};
	dns_says("", EAI_NONAME);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	dns_block(false);
	wait_for_lookup_threads();
	hf_dialer_free(f->dialer);
	(void)hf_close(f->result.fd);
	sd_event_unref(f->event);
	free(f);
	return 0;
}

static void target(struct fixture *f, const char *host, uint16_t port)
{
	char url[300];

	(void)hf_strf(url, sizeof(url), "https://%s:%u/", host, port);
	assert_ok(hf_url_parse(url, &f->options.url));
}

/* Runs the loop until done or for at most ms. */
static void run(struct fixture *f, uint64_t ms)
{
	uint64_t end = hf_now_monotonic_ns() + ms * HF_NS_PER_MS;

	while (f->done == 0 && hf_now_monotonic_ns() < end)
		assert_ok(sd_event_run(f->event, 20000));
}

static void dial(struct fixture *f)
{
	uint64_t start = hf_now_monotonic_ns();

	(void)hf_close(f->result.fd);
	f->result.fd = -1;
	f->done = f->made = f->gone = 0;
	assert_ok(hf_dial_start(f->dialer, &f->options));
	assert_int_equal(f->done, 0);
	assert_err(hf_dial_start(f->dialer, &f->options), -EBUSY);
	run(f, f->options.timeout_ms + 1000);
	assert_int_equal(f->done, 1);
	f->took_ms = (hf_now_monotonic_ns() - start) / HF_NS_PER_MS;
	/* Every announced socket is the result or gone. */
	assert_int_equal(f->made, f->gone + (f->result.failure == HF_DIAL_OK));
	assert_int_equal(f->result.fd >= 0, f->result.failure == HF_DIAL_OK);
}

static void assert_failed(const struct fixture *f, enum hf_dial_failure failure, int code,
			  const char *text)
{
	if (f->result.failure != failure || f->result.code != code ||
	    !strstr(f->result.error, text))
		fail_msg("%s %d '%s', wanted %s %d '%s'", hf_dial_failure_name(f->result.failure),
			 f->result.code, f->result.error, hf_dial_failure_name(failure), code,
			 text);
}

static int option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void an_address_is_dialled_without_dns(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	int listener = listen_on("127.0.0.1", &port, 8);
	char want[64];
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	target(f, "127.0.0.1", port);
	f->options.user_timeout_ms = 13000;
	f->options.keepalive_idle_s = 10;
	f->options.max_segment = 1000;
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_int_equal(f->result.phase, HF_DIAL_DONE);
	assert_int_equal(dns_calls(), 0);
	(void)hf_strf(want, sizeof(want), "127.0.0.1:%u", port);
	assert_string_equal(f->result.address, want);
	assert_true(hf_startswith(f->result.local, "127.0.0.1:"));
	assert_string_not_equal(f->result.local, want);
	assert_int_equal(getsockopt(f->result.fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	assert_int_equal(f->result.cookie, cookie);
	assert_int_equal(f->last_made, cookie);
	assert_int_equal(option(f->result.fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option(f->result.fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 13000);
	assert_int_equal(option(f->result.fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(option(f->result.fd, IPPROTO_TCP, TCP_KEEPIDLE), 10);
	assert_int_equal(option(f->result.fd, IPPROTO_TCP, TCP_KEEPINTVL), 1);
	assert_true(option(f->result.fd, IPPROTO_TCP, TCP_MAXSEG) <= 1000);
	assert_true(fcntl(f->result.fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(f->result.fd, F_GETFD) & FD_CLOEXEC);
	assert_true(f->took_ms < 200);
	close(listener);
}

static void localhost_is_known_and_falls_back_to_ipv6(void **state)
{
	static const char *const addresses[] = {"127.0.0.1", "::1"};
	struct fixture *f = *state;

	for (unsigned i = 0; i < 2; i++) {
		uint16_t port = 0;
		int listener = listen_on(addresses[i], &port, 8);

		target(f, "localhost", port);
		dial(f);
		assert_int_equal(f->result.failure, HF_DIAL_OK);
		assert_int_equal(f->gone, i);
		assert_int_equal(dns_calls(), 0);
		assert_true(f->took_ms < 200);
		close(listener);
	}
}

static void a_closed_port_is_refused_from_the_loop_only(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;

	close(listen_on("127.0.0.1", &port, 8));
	target(f, "127.0.0.1", port);
	dial(f);
	assert_failed(f, HF_DIAL_CONNECT, ECONNREFUSED, "Connection refused");
	assert_int_equal(f->result.phase, HF_DIAL_TCP);
	assert_int_equal(f->gone, 1);
}

static void the_dialer_may_be_freed_or_reused_in_the_callback(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	int listener = listen_on("127.0.0.1", &port, 8);

	f->free_in_done = true;
	target(f, "127.0.0.1", port);
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	close(listener);
	assert_ok(hf_dialer_new(f->event, &f->dialer));
	dial(f);
	assert_failed(f, HF_DIAL_CONNECT, ECONNREFUSED, "refused");
	f->free_in_done = false;
	assert_ok(hf_dialer_new(f->event, &f->dialer));
}

static void a_silent_address_is_overtaken_after_250_ms(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	int hole[4], listener;

	black_hole("127.0.0.2", &port, hole);
	listener = listen_on("127.0.0.1", &port, 8);
	dns_says("127.0.0.2 127.0.0.1", 0);
	target(f, "he.test", port);
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_true(hf_startswith(f->result.address, "127.0.0.1:"));
	assert_true(f->took_ms >= 250 && f->took_ms < 900);
	assert_int_equal(f->made, 2);
	assert_int_equal(f->gone, 1);
	close_all(hole, 4);
	close(listener);
}

static void a_refusing_address_is_left_at_once(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	int listener = listen_on("127.0.0.1", &port, 8);

	dns_says("127.0.0.3 127.0.0.4 127.0.0.1", 0);
	target(f, "he.test", port);
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_int_equal(f->made, 3);
	assert_true(f->took_ms < 200);
	close(listener);
	/* Now nobody is there. */
	hf_dialer_set_cache_ms(f->dialer, 0);
	dial(f);
	assert_failed(f, HF_DIAL_CONNECT, ECONNREFUSED, "(and 2 more addresses)");
}

static void a_black_hole_ends_at_the_deadline(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	int hole[4];

	black_hole("127.0.0.2", &port, hole);
	target(f, "127.0.0.2", port);
	f->options.timeout_ms = 300;
	dial(f);
	assert_failed(f, HF_DIAL_TIMEOUT, ETIMEDOUT, "no answer within 300 ms");
	assert_int_equal(f->result.phase, HF_DIAL_TCP);
	assert_true(f->result.connect_us >= 290000 && f->result.connect_us < 900000);
	close_all(hole, 4);
}

static void dns_failures_are_named(void **state)
{
	static const int codes[] = {EAI_NONAME, EAI_AGAIN, EAI_FAIL, EAI_NODATA};
	struct fixture *f = *state;

	target(f, "gone.test", 443);
	for (unsigned i = 0; i < HF_ARRAY_SIZE(codes); i++) {
		dns_says("", codes[i]);
		dial(f);
		assert_failed(f, HF_DIAL_DNS, codes[i], "gone.test: ");
		assert_int_equal(f->result.phase, HF_DIAL_RESOLVE);
		assert_int_equal(dns_calls(), 1);
	}
	/* An answer without an address. */
	dns_says("", 0);
	dial(f);
	assert_failed(f, HF_DIAL_DNS, EAI_NODATA, "gone.test: ");
}

static void a_hanging_resolver_ends_at_the_deadline_and_is_joined_later(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	int listener = listen_on("127.0.0.1", &port, 8);

	dns_says("127.0.0.1", 0);
	dns_block(true);
	target(f, "slow.test", port);
	f->options.timeout_ms = 200;
	for (unsigned i = 0; i < 3; i++) {
		dial(f);
		assert_failed(f, HF_DIAL_DNS, EAI_AGAIN, "no answer from the resolver");
		assert_int_equal(dns_calls(), 1);
	}
	/* It comes back while nobody waits; the next dial has its answer. */
	dns_block(false);
	f->done = 0;
	run(f, 100);
	assert_int_equal(f->done, 0);
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_int_equal(dns_calls(), 1);
	close(listener);
}

static void hanging_lookups_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct hf_resolve *r[HF_RESOLVE_THREADS_MAX], *more;

	dns_block(true);
	for (unsigned i = 0; i < HF_RESOLVE_THREADS_MAX; i++)
		assert_ok(hf_resolve_start("x", &r[i]));
	assert_err(hf_resolve_start("x", &more), -EAGAIN);
	target(f, "slow.test", 443);
	dial(f);
	assert_failed(f, HF_DIAL_DNS, EAI_AGAIN, "too many lookups hang");
	assert_true(f->took_ms < 200);
	/* Abandoned ones count until they end. */
	for (unsigned i = 0; i < HF_RESOLVE_THREADS_MAX; i++)
		hf_resolve_free(r[i]);
	assert_err(hf_resolve_start("x", &more), -EAGAIN);
	dns_block(false);
	for (unsigned i = 0; i < 200; i++) {
		if (hf_resolve_start("x", &more) == 0) {
			hf_resolve_free(more);
			return;
		}
		(void)usleep(10000);
	}
	fail_msg("the threads never ended");
}

static void an_address_that_worked_is_used_when_dns_is_down(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	int listener = listen_on("127.0.0.1", &port, 8);

	hf_dialer_set_cache_ms(f->dialer, 0);
	target(f, "p.test", port);
	dns_says("127.0.0.1", 0);
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_false(f->result.used_last_good);
	dns_says("", EAI_AGAIN);
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_true(f->result.used_last_good);
	/* Another name gains nothing. */
	target(f, "q.test", port);
	dial(f);
	assert_failed(f, HF_DIAL_DNS, EAI_AGAIN, "q.test");
	/* One given by the caller, say from before a restart. */
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	hf_dialer_remember(f->dialer, "q.test", (struct sockaddr *)&in, sizeof(in));
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_true(f->result.used_last_good);
	/* A resolver that hangs is not waited for beyond two seconds. */
	dns_block(true);
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_true(f->result.used_last_good);
	assert_true(f->took_ms >= 2000 && f->took_ms < 2900);
	close(listener);
}

static void a_redial_asks_dns_only_if_it_must(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	int listener = listen_on("127.0.0.1", &port, 8), hole[4];

	hf_dialer_set_cache_ms(f->dialer, 0);
	dns_says("127.0.0.1", 0);
	target(f, "p.test", port);
	f->options.redial = true;
	dial(f);
	assert_int_equal(dns_calls(), 1);
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_int_equal(dns_calls(), 1);
	assert_false(f->result.used_last_good);
	/* The portal has moved; the old address refuses. */
	close(listener);
	listener = listen_on("127.0.0.2", &port, 8);
	dns_says("127.0.0.2", 0);
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_int_equal(dns_calls(), 1);
	assert_true(hf_startswith(f->result.address, "127.0.0.2:"));
	assert_true(f->took_ms < 200);
	/* Moved again; the old address is silent. */
	close(listener);
	black_hole("127.0.0.2", &port, hole);
	listener = listen_on("127.0.0.4", &port, 8);
	dns_says("127.0.0.4", 0);
	dial(f);
	assert_int_equal(f->result.failure, HF_DIAL_OK);
	assert_true(hf_startswith(f->result.address, "127.0.0.4:"));
	assert_true(f->took_ms >= 250 && f->took_ms < 900);
	close_all(hole, 4);
	close(listener);
}

static void a_fresh_answer_is_reused(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	int listener = listen_on("127.0.0.1", &port, 8);

	dns_says("127.0.0.1", 0);
	target(f, "p.test", port);
	dial(f);
	dial(f);
	assert_int_equal(dns_calls(), 1);
	target(f, "q.test", port);
	dial(f);
	assert_int_equal(dns_calls(), 2);
	hf_dialer_set_cache_ms(f->dialer, 0);
	target(f, "p.test", port);
	dial(f);
	assert_int_equal(dns_calls(), 3);
	dial(f);
	assert_int_equal(dns_calls(), 4);
	close(listener);
}

static void a_cancelled_dial_says_nothing_and_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	int hole[4], fds;

	/* The loop opens its timers on the first use and keeps them. */
	target(f, "127.0.0.1", 1);
	assert_ok(hf_dial_start(f->dialer, &f->options));
	hf_dial_cancel(f->dialer);
	f->made = f->gone = 0;
	fds = hf_count_open_fds();
	dns_block(true);
	target(f, "slow.test", 443);
	assert_ok(hf_dial_start(f->dialer, &f->options));
	run(f, 50);
	hf_dial_cancel(f->dialer);
	hf_dial_cancel(f->dialer);
	dns_block(false);
	black_hole("127.0.0.2", &port, hole);
	target(f, "127.0.0.2", port);
	assert_ok(hf_dial_start(f->dialer, &f->options));
	run(f, 50);
	hf_dial_cancel(f->dialer);
	assert_int_equal(f->made, 1);
	assert_int_equal(f->gone, 1);
	/* Finished, but the callback has not come yet. */
	close_all(hole, 4);
	assert_ok(hf_dial_start(f->dialer, &f->options));
	hf_dial_cancel(f->dialer);
	run(f, 100);
	wait_for_lookup_threads();
	run(f, 100);
	assert_int_equal(f->done, 0);
	assert_int_equal(hf_count_open_fds(), fds);
}

/* ---- proxies --------------------------------------------------------------------------------- */

struct proxy {
	int listener;
	const char *answer; /* NULL: says nothing */
	bool reset;
	char request[2048];
	pthread_t thread;
};

/* Takes one connection, one request, gives one answer and waits for the end. */
static void *proxy_main(void *arg)
{
	struct proxy *p = arg;
	int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
	struct timeval limit = {.tv_sec = 3};
	size_t len = 0;
	char byte;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	while (len < sizeof(p->request) - 1 && !strstr(p->request, "\r\n\r\n")) {
		if (read(fd, p->request + len, 1) != 1)
			break;
		len++;
	}
	if (p->reset) {
		struct linger l = {.l_onoff = 1};

		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	} else if (p->answer) {
		/* In two parts, so that the dialer meets half a header. */
		size_t n = strlen(p->answer);

		(void)!write(fd, p->answer, n / 2);
		(void)usleep(20000);
		(void)!write(fd, p->answer + n / 2, n - n / 2);
		if (hf_startswith(p->answer, "HTTP"))
			(void)!read(fd, &byte, 1);
	} else {
		(void)!read(fd, &byte, 1);
	}
	close(fd);
	return NULL;
}

static void proxies_are_answered_or_explained(void **state)
{
	static const struct {
		const char *userinfo, *answer;
		bool reset;
		enum hf_dial_failure failure;
		int code;
		const char *text;
	} table[] = {
		{"", "HTTP/1.1 200 Connection established\r\n\r\nhello", false, HF_DIAL_OK, 0, ""},
		{"", "HTTP/1.0 200 OK\r\nContent-Length: 9\r\nVia: x\r\n\r\nhello", false,
		 HF_DIAL_OK, 0, ""},
		{"u:p@", "HTTP/1.1 204 x\r\n\r\nhello", false, HF_DIAL_OK, 0, ""},
		{"", "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a\"\r\n\r\n", false,
		 HF_DIAL_PROXY_AUTH, 407,
		 "asks for a user and password (Basic), none is configured"},
		{"u:p@", "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a\"\r\n\r\n", false,
		 HF_DIAL_PROXY_AUTH, 407, "refused the configured user and password (Basic)"},
		{"u:p@",
		 "HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n"
		 "Proxy-Authenticate: Digest realm=\"a\", nonce=\"Basic\"\r\n\r\n",
		 false, HF_DIAL_PROXY_AUTH, 407,
		 "asks for Negotiate, NTLM, Digest; only Basic is supported"},
		{"", "HTTP/1.1 407 x\r\n\r\n", false, HF_DIAL_PROXY_AUTH, 407, "no scheme named"},
		{"", "HTTP/1.1 403 Filtered \x1b[31m\r\n\r\n", false, HF_DIAL_PROXY_PROTOCOL, 0,
		 "not an HTTP proxy"},
		{"", "HTTP/1.1 403 Filtered\r\nContent-Length: 100\r\n\r\n", false,
		 HF_DIAL_PROXY_REFUSED, 403, "answered 403 Filtered"},
		{"", "HTTP/1.1 502 \r\n\r\n", false, HF_DIAL_PROXY_REFUSED, 502, "502 Bad Gateway"},
		{"", "HTTP/1.1 101 Up\r\n\r\n", false, HF_DIAL_PROXY_PROTOCOL, 101, "with 101"},
		{"", "SSH-2.0-x\r\n\r\n", false, HF_DIAL_PROXY_PROTOCOL, 0, "not an HTTP proxy"},
		{"", "", false, HF_DIAL_PROXY_PROTOCOL, 0,
		 "closed the connection without an answer"},
		{"", NULL, true, HF_DIAL_PROXY_REFUSED, ECONNRESET, "reset"},
		{"", NULL, false, HF_DIAL_PROXY_TIMEOUT, ETIMEDOUT, "said nothing"},
	};
	struct fixture *f = *state;

	target(f, "portal.test", 4320);
	for (unsigned i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct proxy p = {.answer = table[i].answer, .reset = table[i].reset};
		uint16_t port = 0;
		char url[100], buf[16];

		p.listener = listen_on("127.0.0.1", &port, 8);
		(void)hf_strf(url, sizeof(url), "%s%s127.0.0.1:%u", i % 2 ? "" : "http://",
			      table[i].userinfo, port);
		f->options.proxy = url;
		f->options.timeout_ms = 600;
		assert_int_equal(pthread_create(&p.thread, NULL, proxy_main, &p), 0);
		dial(f);
		assert_failed(f, table[i].failure, table[i].code, table[i].text);
		/* The portal's name is the proxy's to resolve. */
		assert_int_equal(dns_calls(), 0);
		if (f->result.failure == HF_DIAL_OK) {
			ssize_t n = 0;

			for (unsigned k = 0; k < 50 && n < 5; k++) {
				n = recv(f->result.fd, buf, sizeof(buf), MSG_PEEK);
				(void)usleep(2000);
			}
			assert_int_equal(n, 5);
			assert_memory_equal(buf, "hello", 5);
			assert_true(f->result.proxy_us >= 15000);
		}
		f->result.fd = hf_close(f->result.fd);
		assert_int_equal(pthread_join(p.thread, NULL), 0);
		close(p.listener);
		assert_true(hf_startswith(p.request, "CONNECT portal.test:4320 HTTP/1.1\r\n"
						     "Host: portal.test:4320\r\n"));
		assert_int_equal(strstr(p.request, "\r\nProxy-Authorization: Basic dTpw\r\n") !=
					 NULL,
				 *table[i].userinfo != '\0');
	}
}

static void a_proxy_that_cannot_be_reached_is_told_from_the_portal(void **state)
{
	struct fixture *f = *state;
	uint16_t port = 0;
	char url[100];
	int hole[4];

	target(f, "portal.test", 443);
	close(listen_on("127.0.0.1", &port, 8));
	(void)hf_strf(url, sizeof(url), "127.0.0.1:%u", port);
	f->options.proxy = url;
	dial(f);
	assert_failed(f, HF_DIAL_PROXY_REFUSED, ECONNREFUSED, "proxy 127.0.0.1:");
	f->options.proxy = "http://proxy.test:3128";
	dial(f);
	assert_failed(f, HF_DIAL_DNS, EAI_NONAME, "proxy proxy.test: ");
	port = 0;
	black_hole("127.0.0.2", &port, hole);
	(void)hf_strf(url, sizeof(url), "127.0.0.2:%u", port);
	f->options.proxy = url;
	f->options.timeout_ms = 200;
	dial(f);
	assert_failed(f, HF_DIAL_PROXY_TIMEOUT, ETIMEDOUT, "proxy 127.0.0.2:");
	close_all(hole, 4);
}

static void a_proxy_that_is_no_http_url_is_refused_at_once(void **state)
{
	static const char *const table[] = {"https://p:1", "socks5://p:1", "http://", "p:0", "p p"};
	struct fixture *f = *state;

	target(f, "127.0.0.1", 1);
	for (unsigned i = 0; i < HF_ARRAY_SIZE(table); i++) {
		f->options.proxy = table[i];
		assert_err(hf_dial_start(f->dialer, &f->options), -EINVAL);
	}
}

/* ---- without a dial -------------------------------------------------------------------------- */

static void no_proxy_lists_match_as_is_the_custom(void **state)
{
	static const struct {
		const char *list, *host;
		bool match;
	} table[] = {
		{NULL, "a", false},
		{"", "a", false},
		{"*", "a", true},
		{"b, *", "1.2.3.4", true},
		{"example.com", "example.com", true},
		{"example.com", "EXAMPLE.com.", true},
		{"example.com", "sub.example.com", true},
		{"example.com", "notexample.com", false},
		{"example.com", "example.com.evil", false},
		{".example.com", "sub.example.com", true},
		{".example.com", "example.com", true},
		{".", "a", false},
		{"a b\tc,,d", "d", true},
		{"a b\tc,,d", "c", true},
		{"10.0.0.0/8", "10.255.0.1", true},
		{"10.0.0.0/8", "11.0.0.1", false},
		{"10.0.0.0/33", "10.0.0.0", false},
		{"10.0.0.0/x", "10.0.0.0", false},
		{"10.0.0.128/25", "10.0.0.129", true},
		{"10.0.0.128/25", "10.0.0.1", false},
		{"0.0.0.0/0", "9.9.9.9", true},
		{"0.0.0.0/0", "::1", false},
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.10", false},
		{"0.2.1", "192.0.2.1", false},
		{"2001:db8::/32", "2001:db8:1::5", true},
		{"2001:db8::/32", "2001:db9::5", false},
		{"[::1]", "::1", true},
		{"::1", "0:0:0:0:0:0:0:1", true},
		{"10.0.0.0/8", "10.example.com", false},
	};

	(void)state;
	for (unsigned i = 0; i < HF_ARRAY_SIZE(table); i++)
		if (hf_no_proxy_matches(table[i].list, table[i].host) != table[i].match)
			fail_msg("'%s' '%s'", table[i].list, table[i].host);
}

static void families_alternate_and_doubles_go(void **state)
{
	static const struct {
		const char *in, *out;
	} table[] = {
		{"::1 ::2 ::3 1.1.1.1", "::1 1.1.1.1 ::2 ::3"},
		{"1.1.1.1 1.1.1.2 ::1", "1.1.1.1 ::1 1.1.1.2"},
		{"1.1.1.1 1.1.1.1 ::1 ::1 1.1.1.1", "1.1.1.1 ::1"},
		{"::1", "::1"},
		{"1.1.1.1 1.1.1.2", "1.1.1.1 1.1.1.2"},
		{"", ""},
	};

	(void)state;
	for (unsigned i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct hf_addresses a = {};
		char copy[200], got[200] = "", *word, *rest;

		(void)hf_strlcpy(copy, table[i].in, sizeof(copy));
		for (word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
			assert_ok(hf_address_parse(word, &a.list[a.n++]));
		hf_addresses_interleave(&a);
		for (unsigned k = 0; k < a.n; k++) {
			size_t n = strlen(got);
			char text[INET6_ADDRSTRLEN];
			const void *raw = a.list[k].sa.sa_family == AF_INET
						  ? (const void *)&a.list[k].in.sin_addr
						  : (const void *)&a.list[k].in6.sin6_addr;

			(void)inet_ntop(a.list[k].sa.sa_family, raw, text, sizeof(text));
			(void)hf_strf(got + n, sizeof(got) - n, "%s%s", k ? " " : "", text);
		}
		assert_string_equal(got, table[i].out);
	}
}

static void addresses_are_read_and_written(void **state)
{
	struct hf_address a;
	char text[64];

	(void)state;
	assert_err(hf_address_parse("", &a), -EINVAL);
	assert_err(hf_address_parse("1.2.3", &a), -EINVAL);
	assert_err(hf_address_parse("1.2.3.4:5", &a), -EINVAL);
	assert_err(hf_address_parse("p.test", &a), -EINVAL);
	assert_err(hf_address_parse("%lo", &a), -EINVAL);
	assert_ok(hf_address_parse("fe80::1%lo", &a));
	assert_int_equal(a.in6.sin6_scope_id, 1);
	hf_address_set_port(&a, 443);
	hf_address_format(&a.sa, a.len, text, sizeof(text));
	assert_string_equal(text, "[fe80::1%lo]:443");
	assert_ok(hf_address_parse("192.0.2.1", &a));
	hf_address_set_port(&a, 1);
	hf_address_format(&a.sa, a.len, text, sizeof(text));
	assert_string_equal(text, "192.0.2.1:1");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(an_address_is_dialled_without_dns),
		T(localhost_is_known_and_falls_back_to_ipv6),
		T(a_closed_port_is_refused_from_the_loop_only),
		T(the_dialer_may_be_freed_or_reused_in_the_callback),
		T(a_silent_address_is_overtaken_after_250_ms),
		T(a_refusing_address_is_left_at_once),
		T(a_black_hole_ends_at_the_deadline),
		T(dns_failures_are_named),
		T(a_hanging_resolver_ends_at_the_deadline_and_is_joined_later),
		T(hanging_lookups_are_bounded),
		T(an_address_that_worked_is_used_when_dns_is_down),
		T(a_redial_asks_dns_only_if_it_must),
		T(a_fresh_answer_is_reused),
		T(a_cancelled_dial_says_nothing_and_leaves_nothing),
		T(proxies_are_answered_or_explained),
		T(a_proxy_that_cannot_be_reached_is_told_from_the_portal),
		T(a_proxy_that_is_no_http_url_is_refused_at_once),
		cmocka_unit_test(no_proxy_lists_match_as_is_the_custom),
		cmocka_unit_test(families_alternate_and_doubles_go),
		cmocka_unit_test(addresses_are_read_and_written),
	};

	return HF_RUN_TESTS(tests);
}
