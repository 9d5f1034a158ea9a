/* SPDX-License-Identifier: Apache-2.0 */
/* The rtnetlink listener. */
#include "userspace/agent/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define NETLINK_MAGIC     0x4c54454eu
#define DATAGRAM_MAX      32768u /* the kernel's dump buffers are at most this long */
#define READS_PER_WAKE    64u
#define TIMER_ACCURACY_US 1000u /* 0 would mean 250 ms */

enum dump { DUMP_NONE, DUMP_LINKS, DUMP_ADDRS };

struct hf_netlink {
	unsigned magic;
	int fd;
	sd_event_source *io, *settle;
	bool settling;
	enum dump dump;
	uint32_t seq;
	struct hf_net_table table;
	void (*changed)(void *userdata);
	void *userdata;
};

/* ---- table ------------------------------------------------------------------------------------ */

static struct hf_net_link *find_link(struct hf_net_table *t, int ifindex)
{
	for (size_t i = 0; i < t->n_links; i++) {
		if (t->links[i].ifindex == ifindex)
			return &t->links[i];
	}
	return NULL;
}

static void feed_link(struct hf_net_table *t, const struct nlmsghdr *h)
{
	const struct ifinfomsg *ifi = NLMSG_DATA(h);
	struct hf_net_link *l;
	const struct rtattr *a;
	int len; /* signed: RTA_NEXT may go below zero by the last attribute's padding */

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*ifi)))
		return;
	l = find_link(t, ifi->ifi_index);
	if (h->nlmsg_type == RTM_DELLINK) {
		/* Messages about bridge ports come as DELLINK of AF_BRIDGE: the link itself stays. */
		if (l && ifi->ifi_family == AF_UNSPEC) {
			*l = t->links[--t->n_links];
			t->changes++;
		}
		return;
	}
	if (ifi->ifi_family != AF_UNSPEC)
		return;
	if (!l) {
		if (t->n_links >= HF_NET_LINKS_MAX) {
			t->overflow = true;
			return;
		}
		l = &t->links[t->n_links++];
		*l = (struct hf_net_link){.ifindex = ifi->ifi_index};
	}
	l->up = (ifi->ifi_flags & IFF_UP) && (ifi->ifi_flags & IFF_LOWER_UP);
	len = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*ifi)));
	for (a = IFLA_RTA(ifi); RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		if (a->rta_type == IFLA_IFNAME && RTA_PAYLOAD(a) > 0) {
			hf_strf(l->name, sizeof(l->name), "%.*s", (int)RTA_PAYLOAD(a) - 1,
				(const char *)RTA_DATA(a));
			hf_sanitize(l->name);
		}
	}
	t->changes++;
}

static void feed_addr(struct hf_net_table *t, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *ifa = NLMSG_DATA(h);
	const struct rtattr *a, *local = NULL;
	struct hf_net_addr want;
	size_t bytes;
	int len; /* as above */

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*ifa)))
		return;
	if (ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6)
		return;
	bytes = ifa->ifa_family == AF_INET ? 4 : 16;
	len = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*ifa)));
	for (a = IFA_RTA(ifa); RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		/* On point-to-point links IFA_ADDRESS is the peer's; IFA_LOCAL is ours. */
		if (a->rta_type == IFA_LOCAL || (a->rta_type == IFA_ADDRESS && !local))
			local = a;
	}
	if (!local || RTA_PAYLOAD(local) != bytes)
		return;
	want = (struct hf_net_addr){.ifindex = (int)ifa->ifa_index, .family = ifa->ifa_family};
	memcpy(want.addr, RTA_DATA(local), bytes);
	for (size_t i = 0; i < t->n_addrs; i++) {
		if (memcmp(&t->addrs[i], &want, sizeof(want)) != 0)
			continue;
		if (h->nlmsg_type == RTM_DELADDR) {
			t->addrs[i] = t->addrs[--t->n_addrs];
			t->changes++;
		}
		return;
	}
	if (h->nlmsg_type == RTM_DELADDR)
		return;
	if (t->n_addrs >= HF_NET_ADDRS_MAX) {
		t->overflow = true;
		return;
	}
	t->addrs[t->n_addrs++] = want;
	t->changes++;
}

bool hf_net_table_feed(struct hf_net_table *t, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len >= sizeof(struct nlmsghdr)) {
		struct nlmsghdr h;
		size_t step;

		memcpy(&h, p, sizeof(h));
		if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > len)
			return false;
		/* The kernel aligns; a copy would only serve a forger, whom the socket keeps out. */
		switch (h.nlmsg_type) {
		case RTM_NEWLINK:
		case RTM_DELLINK:
			feed_link(t, (const struct nlmsghdr *)p);
			break;
		case RTM_NEWADDR:
		case RTM_DELADDR:
			feed_addr(t, (const struct nlmsghdr *)p);
			break;
		case RTM_NEWROUTE:
		case RTM_DELROUTE:
			t->changes++; /* what it means is asked of the kernel, hf_net_source_for() */
			break;
		}
		step = NLMSG_ALIGN(h.nlmsg_len);
		if (step >= len)
			return true;
		p += step;
		len -= step;
	}
	return len == 0;
}

static bool split(const struct sockaddr *sa, int *family, uint8_t addr[static 16])
{
	memset(addr, 0, 16);
	if (sa->sa_family == AF_INET) {
		*family = AF_INET;
		memcpy(addr, &((const struct sockaddr_in *)sa)->sin_addr, 4);
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		const struct in6_addr *a6 = &((const struct sockaddr_in6 *)sa)->sin6_addr;

		if (IN6_IS_ADDR_V4MAPPED(a6)) {
			*family = AF_INET;
			memcpy(addr, &a6->s6_addr[12], 4);
		} else {
			*family = AF_INET6;
			memcpy(addr, a6, 16);
		}
		return true;
	}
	return false;
}

bool hf_net_same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	uint8_t x[16], y[16];
	int fx, fy;

	return split(a, &fx, x) && split(b, &fy, y) && fx == fy && memcmp(x, y, 16) == 0;
}

enum hf_net_state hf_net_table_check(const struct hf_net_table *t, const struct sockaddr *local,
				     char *text, size_t size)
{
	const struct hf_net_link *down = NULL;
	char shown[INET6_ADDRSTRLEN] = "?";
	uint8_t addr[16];
	bool found = false;
	int family;

	text[0] = 0;
	if (!t->dumped || !split(local, &family, addr))
		return HF_NET_UNKNOWN;
	(void)inet_ntop(family, addr, shown,
			sizeof(shown)); /* cannot fail: family and size are right */
	for (size_t i = 0; i < t->n_addrs; i++) {
		const struct hf_net_addr *a = &t->addrs[i];
		const struct hf_net_link *l;

		/* All of 127/8 is local by one entry, 127.0.0.1. */
		if (a->family != family ||
		    !(memcmp(a->addr, addr, 16) == 0 ||
		      (family == AF_INET && addr[0] == 127 && a->addr[0] == 127)))
			continue;
		found = true;
		l = find_link((struct hf_net_table *)t, a->ifindex);
		if (!l || l->up)
			return HF_NET_FINE;
		down = l;
	}
	if (down) {
		hf_strf(text, size, "interface %s, which has %s, is down", down->name, shown);
		return HF_NET_LINK_DOWN;
	}
	if (!found && !t->overflow) {
		hf_strf(text, size, "the address %s was removed from this host", shown);
		return HF_NET_ADDRESS_GONE;
	}
	return found ? HF_NET_FINE : HF_NET_UNKNOWN;
}

int hf_net_source_for(const struct sockaddr *peer, socklen_t len, struct sockaddr_storage *ret)
{
	_cleanup_close_ int fd =
		socket(peer->sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t n = sizeof(*ret);

	if (fd < 0)
		return -errno;
	if (connect(fd, peer, len) < 0)
		return -errno;
	if (getsockname(fd, (struct sockaddr *)ret, &n) < 0)
		return -errno;
	return 0;
}

/* ---- socket ----------------------------------------------------------------------------------- */

static int request_dump(struct hf_netlink *n, uint16_t type)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg ifi; /* as long as ifaddrmsg at least; zero is "all" for both */
	} req = {
		.h =
			{
				.nlmsg_len = sizeof(req),
				.nlmsg_type = type,
				.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
				.nlmsg_seq = ++n->seq,
			},
	};

	return send(n->fd, &req, sizeof(req), 0) < 0 ? -errno : 0;
}

static void start_dump(struct hf_netlink *n)
{
	n->table = (struct hf_net_table){.changes = n->table.changes + 1};
	n->dump = DUMP_LINKS;
	if (request_dump(n, RTM_GETLINK) < 0)
		n->dump = DUMP_NONE; /* answers stay "unknown" */
}

static void dump_done(struct hf_netlink *n)
{
	if (n->dump == DUMP_LINKS) {
		n->dump = DUMP_ADDRS;
		if (request_dump(n, RTM_GETADDR) < 0)
			n->dump = DUMP_NONE;
	} else if (n->dump == DUMP_ADDRS) {
		n->dump = DUMP_NONE;
		n->table.dumped = true;
	}
}

static bool ends_dump(const struct hf_netlink *n, const void *data, size_t len)
{
	const struct nlmsghdr *h = data;

	/* RTA and NLMSG macros want an int, the datagram is at most 32 KiB. */
	for (int left = (int)len; NLMSG_OK(h, (unsigned)left); h = NLMSG_NEXT(h, left)) {
		if ((h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) &&
		    h->nlmsg_seq == n->seq)
			return true;
	}
	return false;
}

static int on_settled(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_netlink *n = HF_CAST(userdata, struct hf_netlink, NETLINK_MAGIC);

	(void)s;
	(void)usec;
	n->settling = false;
	n->changed(n->userdata);
	return 0;
}

static void settle_soon(struct hf_netlink *n)
{
	/* Not extended by further messages: a busy host must not postpone it for ever. */
	if (n->settling)
		return;
	if (sd_event_source_set_time(n->settle,
				     hf_now_monotonic_ns() / HF_NS_PER_US + HF_NET_SETTLE_US) < 0 ||
	    sd_event_source_set_enabled(n->settle, SD_EVENT_ONESHOT) < 0)
		return;
	n->settling = true;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct hf_netlink *n = HF_CAST(userdata, struct hf_netlink, NETLINK_MAGIC);
	static uint8_t buf[DATAGRAM_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	uint64_t before = n->table.changes;

	(void)s;
	(void)revents;
	for (unsigned i = 0; i < READS_PER_WAKE; i++) {
		struct sockaddr_nl from = {};
		struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
		struct msghdr m = {
			.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = &iov,
			.msg_iovlen = 1,
		};
		ssize_t len = recvmsg(fd, &m, MSG_DONTWAIT);

		if (len < 0) {
			if (errno == ENOBUFS) { /* messages were lost */
				start_dump(n);
				continue;
			}
			break;
		}
		if (from.nl_pid != 0 || (m.msg_flags & MSG_TRUNC))
			continue;                                     /* not from the kernel */
		(void)hf_net_table_feed(&n->table, buf, (size_t)len); /* malformed: ignored */
		if (n->dump != DUMP_NONE && ends_dump(n, buf, (size_t)len)) {
			dump_done(n);
			before = n->dump == DUMP_NONE ? n->table.changes - 1 : n->table.changes;
		}
	}
	if (n->table.changes != before && n->dump == DUMP_NONE)
		settle_soon(n);
	return 0;
}

int hf_netlink_new(sd_event *event, void (*changed)(void *userdata), void *userdata,
		   struct hf_netlink **ret)
{
	_cleanup_(hf_netlink_freep) struct hf_netlink *n = calloc(1, sizeof(*n));
	struct sockaddr_nl sa = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
			     RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	int r;

	if (!n)
		return -ENOMEM;
	n->magic = NETLINK_MAGIC;
	n->changed = changed;
	n->userdata = userdata;
	n->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (n->fd < 0)
		return -errno;
	if (bind(n->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	r = sd_event_add_io(event, &n->io, n->fd, EPOLLIN, on_io, n);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(n->io, "rtnetlink"); /* for debugging only */
	r = sd_event_add_time(event, &n->settle, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_US, on_settled,
			      n);
	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(n->settle, SD_EVENT_OFF);
	if (r < 0)
		return r;
	start_dump(n);
	*ret = TAKE_PTR(n);
	return 0;
}

struct hf_netlink *hf_netlink_free(struct hf_netlink *n)
{
	if (!n)
		return NULL;
	sd_event_source_disable_unref(n->io);
	sd_event_source_disable_unref(n->settle);
	if (n->fd > 0)
		(void)hf_close(n->fd);
	n->magic = 0;
	free(n);
	return NULL;
}

const struct hf_net_table *hf_netlink_table(const struct hf_netlink *n)
{
	return &n->table;
}
