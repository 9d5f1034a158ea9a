/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lookup thread. The object has two owners, the loop and the thread; the last one out frees it.
 *
 * I1  Everything in the object but refs is written by the thread before it signals the eventfd and
 *     read by the loop after; nothing is shared at the same time.
 * I2  At most HF_RESOLVE_THREADS_MAX threads exist, so that a dead DNS server under a retrying
 *     agent cannot pile threads up.
 */
#include "userspace/net/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

/* getaddrinfo() loads name service modules, some of which are generous with the stack. */
#define STACK_SIZE (1u << 20)

struct hf_resolve {
	atomic_uint refs;
	int fd;
	int eai;
	int sys_errno;
	struct hf_addresses found;
	char host[256];
};

static atomic_uint threads;

static void unref(struct hf_resolve *r)
{
	if (atomic_fetch_sub(&r->refs, 1) > 1)
		return;
	(void)hf_close(r->fd);
	free(r);
}

static void keep(struct hf_resolve *r, const struct addrinfo *ai)
{
	struct hf_address *a = &r->found.list[r->found.n];

	if (r->found.n == HF_ADDRESSES_MAX || ai->ai_addrlen > sizeof(a->storage) ||
	    (ai->ai_family != AF_INET && ai->ai_family != AF_INET6))
		return;
	*a = (struct hf_address){.len = ai->ai_addrlen};
	memcpy(&a->storage, ai->ai_addr, ai->ai_addrlen);
	r->found.n++;
}

static void *lookup(void *arg)
{
	/*
	 * No AI_ADDRCONFIG: it does not count loopback, and an address of a family that is not
	 * there fails in connect(2) at once.
	 */
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
	struct hf_resolve *r = arg;
	struct addrinfo *list = NULL;

	(void)pthread_setname_np(pthread_self(), "hf-resolve");
	errno = 0;
	r->eai = getaddrinfo(r->host, NULL, &hints, &list);
	r->sys_errno = errno;
	if (r->eai == 0) {
		for (const struct addrinfo *ai = list; ai; ai = ai->ai_next)
			keep(r, ai);
		freeaddrinfo(list);
	}
	/* Fails for a counter overflow only, and this is the first write. */
	(void)eventfd_write(r->fd, 1);
	unref(r);
	atomic_fetch_sub(&threads, 1);
	return NULL;
}

static int start_thread(struct hf_resolve *r)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all;
	int e;

	/* Signals are the loop's. */
	(void)sigfillset(&all);
	e = pthread_attr_init(&attr);
	if (e != 0)
		return -e;
	e = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (e == 0)
		e = pthread_attr_setstacksize(&attr, STACK_SIZE);
	if (e == 0)
		e = pthread_attr_setsigmask_np(&attr, &all);
	if (e == 0)
		e = pthread_create(&thread, &attr, lookup, r);
	(void)pthread_attr_destroy(&attr);
	return -e;
}

int hf_resolve_start(const char *host, struct hf_resolve **ret)
{
	struct hf_resolve *r;
	int e;

	if (strlen(host) >= sizeof(r->host))
		return -EINVAL;
	if (atomic_fetch_add(&threads, 1) >= HF_RESOLVE_THREADS_MAX) {
		atomic_fetch_sub(&threads, 1);
		return -EAGAIN;
	}
	r = calloc(1, sizeof(*r));
	e = r ? 0 : -ENOMEM;
	if (e == 0) {
		atomic_init(&r->refs, 2);
		(void)hf_strlcpy(r->host, host, sizeof(r->host));
		r->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		e = r->fd < 0 ? -errno : start_thread(r);
	}
	if (e < 0) {
		atomic_fetch_sub(&threads, 1);
		if (r) {
			atomic_store(&r->refs, 1);
			unref(r);
		}
		return e;
	}
	*ret = r;
	return 0;
}

struct hf_resolve *hf_resolve_free(struct hf_resolve *r)
{
	if (r)
		unref(r);
	return NULL;
}

int hf_resolve_fd(const struct hf_resolve *r)
{
	return r->fd;
}

const char *hf_resolve_host(const struct hf_resolve *r)
{
	return r->host;
}

int hf_resolve_result(struct hf_resolve *r, struct hf_addresses *ret, int *ret_errno)
{
	eventfd_t ignored;

	(void)eventfd_read(r->fd, &ignored);
	*ret_errno = r->eai == EAI_SYSTEM ? r->sys_errno : 0;
	if (r->eai == EAI_SYSTEM)
		return EAI_FAIL;
	if (r->eai == 0 && r->found.n == 0)
		return EAI_NODATA;
	if (r->eai == 0)
		*ret = r->found;
	return r->eai;
}

/* ---- addresses ------------------------------------------------------------------------------- */

int hf_address_parse(const char *text, struct hf_address *ret)
{
	struct hf_address a = {};
	char bare[INET6_ADDRSTRLEN];
	size_t len = strcspn(text, "%");

	if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1) {
		a.in.sin_family = AF_INET;
		a.len = sizeof(a.in);
		*ret = a;
		return 0;
	}
	if (len >= sizeof(bare))
		return -EINVAL;
	memcpy(bare, text, len);
	bare[len] = '\0';
	if (inet_pton(AF_INET6, bare, &a.in6.sin6_addr) != 1)
		return -EINVAL;
	a.in6.sin6_family = AF_INET6;
	a.len = sizeof(a.in6);
	if (text[len] == '%') {
		uint32_t index = if_nametoindex(text + len + 1);

		/* An interface that is not there (yet) is for connect(2) to say. */
		if (index == 0 && hf_parse_u32(text + len + 1, &index) < 0)
			index = 0;
		a.in6.sin6_scope_id = index;
	}
	*ret = a;
	return 0;
}

bool hf_address_equal(const struct hf_address *a, const struct hf_address *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	if (a->sa.sa_family == AF_INET)
		return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	return a->in6.sin6_scope_id == b->in6.sin6_scope_id &&
	       memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0;
}

void hf_address_set_port(struct hf_address *a, uint16_t port)
{
	if (a->sa.sa_family == AF_INET)
		a->in.sin_port = htons(port);
	else
		a->in6.sin6_port = htons(port);
}

void hf_address_format(const struct sockaddr *sa, socklen_t len, char *dst, size_t size)
{
	char host[INET6_ADDRSTRLEN + IF_NAMESIZE + 1], port[8];

	if (getnameinfo(sa, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		(void)hf_strlcpy(dst, "?", size);
	else
		(void)hf_strf(dst, size, sa->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
			      port);
}

static bool contains(const struct hf_addresses *a, const struct hf_address *x)
{
	for (unsigned i = 0; i < a->n; i++)
		if (hf_address_equal(&a->list[i], x))
			return true;
	return false;
}

void hf_addresses_interleave(struct hf_addresses *a)
{
	struct hf_addresses out = {};
	unsigned at[2] = {0, 0};
	int family[2];

	if (a->n == 0)
		return;
	family[0] = a->list[0].sa.sa_family;
	family[1] = family[0] == AF_INET ? AF_INET6 : AF_INET;
	for (unsigned turn = 0; at[0] < a->n || at[1] < a->n; turn ^= 1) {
		while (at[turn] < a->n && a->list[at[turn]].sa.sa_family != family[turn])
			at[turn]++;
		if (at[turn] == a->n)
			continue;
		if (!contains(&out, &a->list[at[turn]]))
			out.list[out.n++] = a->list[at[turn]];
		at[turn]++;
	}
	*a = out;
}
