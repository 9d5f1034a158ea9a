/* SPDX-License-Identifier: Apache-2.0 */
/* The destroy notifications of inet_diag: struct inet_diag_msg and a struct tcp_info behind it. */
#include "userspace/agent/sockdiag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/ratelimit.h"
#include "base/str.h"

#define SOCKDIAG_MAGIC 0x53444147u
/* A burst of some thousand closes between two wakeups. */
#define RECEIVE_BYTES  (1 << 20)
#define READS_PER_WAKE 64u

struct hf_sockdiag {
	unsigned magic;
	int fd;
	sd_event_source *io;
	void (*told)(struct hf_sockdiag_event *e, void *userdata);
	void *userdata;
	struct hf_ratelimit limit;
	struct hf_sockdiag_counts counts;
};

/* ---- one message ------------------------------------------------------------------------------ */

static void address(int family, const __be32 a[4], __be16 port, char dst[HF_SOCKDIAG_ADDR_MAX])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	char text[INET6_ADDRSTRLEN];

	if (family == AF_INET6 && memcmp(a, mapped, sizeof(mapped)) == 0) {
		family = AF_INET;
		a += 3;
	}
	if (!inet_ntop(family, a, text, sizeof(text)))
		text[0] = '\0';
	(void)hf_strf(dst, HF_SOCKDIAG_ADDR_MAX, family == AF_INET6 ? "[%s]:%u" : "%s:%u", text,
		      ntohs(port));
}

static void take_info(struct hf_sockdiag_event *ret, const void *data, size_t len)
{
	struct tcp_info i = {};

	/* Newer kernels say more than we know, older ones less. */
	memcpy(&i, data, len < sizeof(i) ? len : sizeof(i));
	ret->conn.bytes_sent = i.tcpi_bytes_acked;
	ret->conn.bytes_received = i.tcpi_bytes_received;
	ret->conn.srtt_us = i.tcpi_rtt;
	ret->conn.retransmits = i.tcpi_total_retrans;
	ret->conn.unacked = i.tcpi_unacked;
	ret->conn.unsent = i.tcpi_notsent_bytes;
}

static int take_message(const struct nlmsghdr *h, const uint8_t *body, size_t len,
			struct hf_sockdiag_event *ret)
{
	struct inet_diag_msg m;
	size_t at = NLMSG_ALIGN(sizeof(m));

	if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY || len < sizeof(m))
		return 0;
	memcpy(&m, body, sizeof(m));
	if (m.idiag_family != AF_INET && m.idiag_family != AF_INET6)
		return 0;
	memset(ret, 0, sizeof(*ret));
	bus__event__init(&ret->event);
	bus__conn_info__init(&ret->conn);
	address(m.idiag_family, m.id.idiag_src, m.id.idiag_sport, ret->local);
	address(m.idiag_family, m.id.idiag_dst, m.id.idiag_dport, ret->peer);
	ret->conn.cookie = (uint64_t)m.id.idiag_cookie[1] << 32 | m.id.idiag_cookie[0];
	ret->conn.state = (char *)"CLOSE";
	ret->event.kind = (char *)"conn.closed";
	ret->event.ring = (char *)"fallback";
	ret->event.owner_src = (char *)"none";
	ret->event.reason = (char *)"SOCKET_DESTROYED";
	ret->event.local = ret->local;
	ret->event.peer = ret->peer;
	ret->event.detail = ret->detail;
	ret->event.conn = &ret->conn;
	while (at + sizeof(struct nlattr) <= len) {
		struct nlattr a;

		memcpy(&a, body + at, sizeof(a));
		if (a.nla_len < sizeof(a) || a.nla_len > len - at)
			return -EBADMSG;
		if (a.nla_type == INET_DIAG_INFO)
			take_info(ret, body + at + NLA_HDRLEN, a.nla_len - NLA_HDRLEN);
		at += NLA_ALIGN(a.nla_len);
	}
	(void)hf_strf(
		ret->detail, sizeof(ret->detail),
		"sock_diag: a socket is gone; owner and reason are known to BPF programs only");
	/* Listeners and sockets that were never connected have no other side and no story. */
	return m.id.idiag_dport ? 1 : 0;
}

int hf_sockdiag_parse(const void **data, size_t *len, struct hf_sockdiag_event *ret)
{
	const uint8_t *p = *data;
	struct nlmsghdr h;
	size_t step;

	if (*len < sizeof(h))
		return -EBADMSG;
	memcpy(&h, p, sizeof(h));
	if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > *len)
		return -EBADMSG;
	step = NLMSG_ALIGN(h.nlmsg_len);
	if (step > *len)
		step = *len;
	*data = p + step;
	*len -= step;
	return take_message(&h, p + NLMSG_HDRLEN, h.nlmsg_len - NLMSG_HDRLEN, ret);
}

/* ---- the socket ------------------------------------------------------------------------------- */

static void take_datagram(struct hf_sockdiag *s, const void *data, size_t len)
{
	struct hf_sockdiag_event e;

	while (len) {
		int r = hf_sockdiag_parse(&data, &len, &e);

		if (r < 0) {
			s->counts.malformed++;
			return;
		}
		if (r == 0)
			continue;
		if (!hf_ratelimit_take(&s->limit, hf_now_monotonic_ns())) {
			s->counts.skipped++;
			continue;
		}
		s->counts.told++;
		s->told(&e, s->userdata);
	}
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_sockdiag *s = HF_CAST(userdata, struct hf_sockdiag, SOCKDIAG_MAGIC);
	uint8_t buf[8192];

	(void)source;
	(void)revents;
	for (unsigned i = 0; i < READS_PER_WAKE; i++) {
		struct sockaddr_nl from = {};
		socklen_t from_len = sizeof(from);
		ssize_t n = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from,
				     &from_len);

		if (n < 0 && errno == ENOBUFS) {
			s->counts.overruns++;
			continue;
		}
		if (n <= 0)
			break;
		if (from.nl_pid == 0) /* the kernel */
			take_datagram(s, buf, (size_t)n);
	}
	return 0;
}

int hf_sockdiag_new(sd_event *event, void (*told)(struct hf_sockdiag_event *e, void *userdata),
		    void *userdata, struct hf_sockdiag **ret)
{
	_cleanup_(hf_sockdiag_freep) struct hf_sockdiag *s = calloc(1, sizeof(*s));
	static const int groups[] = {SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY};
	const struct sockaddr_nl sa = {.nl_family = AF_NETLINK};
	const int bytes = RECEIVE_BYTES;
	int r;

	if (!s)
		return -ENOMEM;
	s->magic = SOCKDIAG_MAGIC;
	s->told = told;
	s->userdata = userdata;
	s->limit.burst = HF_SOCKDIAG_PER_S;
	s->limit.interval_ns = HF_NS_PER_S / HF_SOCKDIAG_PER_S;
	s->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	if (s->fd < 0)
		return -errno;
	if (bind(s->fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	/* Capped by net.core.rmem_max for us; overruns are counted. */
	(void)setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	for (size_t i = 0; i < HF_ARRAY_SIZE(groups); i++)
		if (setsockopt(s->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
			       sizeof(groups[i])) < 0)
			return -errno;
	r = sd_event_add_io(event, &s->io, s->fd, EPOLLIN, on_io, s);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(s->io, "sock_diag"); /* for debugging only */
	*ret = TAKE_PTR(s);
	return 0;
}

struct hf_sockdiag *hf_sockdiag_free(struct hf_sockdiag *s)
{
	if (!s)
		return NULL;
	sd_event_source_disable_unref(s->io);
	if (s->fd > 0)
		(void)hf_close(s->fd);
	s->magic = 0;
	free(s);
	return NULL;
}

void hf_sockdiag_counts(const struct hf_sockdiag *s, struct hf_sockdiag_counts *ret)
{
	*ret = s->counts;
}
