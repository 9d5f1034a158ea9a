/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What rtnetlink says about this host's links, addresses and routes: a small table that is always
 * current, and a call after each burst of changes.
 *
 * Bounds: HF_NET_LINKS_MAX and HF_NET_ADDRS_MAX entries; a host with more is answered "unknown" for
 * those that did not fit, never "gone". A lost message (ENOBUFS) starts a new dump.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"

#define HF_NET_LINKS_MAX 256u
#define HF_NET_ADDRS_MAX 512u
/* Several messages belong to one change (address, its route, the link): looked at together. */
#define HF_NET_SETTLE_US 50000u

struct hf_netlink;

/* Pure: the table and its updates, for tests and the fuzzer. */
struct hf_net_link {
	int ifindex;
	bool up; /* administratively and by carrier */
	char name[16];
};

struct hf_net_addr {
	int ifindex;
	int family;
	uint8_t addr[16];
};

struct hf_net_table {
	struct hf_net_link links[HF_NET_LINKS_MAX];
	struct hf_net_addr addrs[HF_NET_ADDRS_MAX];
	size_t n_links, n_addrs;
	bool overflow; /* something did not fit: absence proves nothing */
	bool dumped;   /* links and addresses were read once */
	uint64_t changes;
};

/* Takes one datagram from the kernel. Malformed ones are ignored. Returns true if all was parsed. */
bool hf_net_table_feed(struct hf_net_table *t, const void *data, size_t len);

enum hf_net_state {
	HF_NET_FINE,
	HF_NET_LINK_DOWN,
	HF_NET_ADDRESS_GONE,
	HF_NET_UNKNOWN,
};
/* Of a local address in use. text: one sentence unless FINE. Loopback 127/8 belongs to lo. */
enum hf_net_state hf_net_table_check(const struct hf_net_table *t, const struct sockaddr *local,
				     char *text, size_t size);

/* -errno when rtnetlink cannot be used (then nothing is ever reported). */
int hf_netlink_new(sd_event *event, void (*changed)(void *userdata), void *userdata,
		   struct hf_netlink **ret);
struct hf_netlink *hf_netlink_free(struct hf_netlink *n);
HF_DEFINE_CLEANUP(struct hf_netlink *, hf_netlink_free);

const struct hf_net_table *hf_netlink_table(const struct hf_netlink *n);

/*
 * Which source address the kernel would use for peer now: 0, or -ENETUNREACH and the like. Asks by
 * connecting a UDP socket: no packet leaves.
 */
int hf_net_source_for(const struct sockaddr *peer, socklen_t len, struct sockaddr_storage *ret);
bool hf_net_same_address(const struct sockaddr *a, const struct sockaddr *b);
