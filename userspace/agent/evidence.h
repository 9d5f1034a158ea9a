/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a session was lost: everything that was seen about it, joined into one verdict.
 *
 * Evidence comes from several sides in any order: the kernel's record about our socket, the
 * socket's own error, TLS, a close frame, netlink, the heartbeat. The redial does not wait for it;
 * the verdict is made when the record is sealed, HF_EVIDENCE_JOIN_NS after the loss was noticed.
 * Pure: no clock, no I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/cause.h"
#include "userspace/net/tls_stream.h"

#define HF_EVIDENCE_JOIN_NS UINT64_C(5000000) /* DESIGN section 6 */

enum hf_detector {
	HF_BY_NONE,
	HF_BY_KERNEL,
	HF_BY_SOCKET,
	HF_BY_HEARTBEAT,
	HF_BY_KEEPALIVE,
	HF_BY_NETLINK,
	HF_BY_CLOCK,
	HF_BY_PORTAL,
	_HF_BY_MAX,
};

const char *hf_detector_name(enum hf_detector d);

/* The kernel's word about our socket, as the ring reader decoded it. */
enum hf_kernel_word {
	HF_KERNEL_SAID_NOTHING,
	HF_KERNEL_SAID_RETRANSMIT, /* the weakest: a later one replaces an earlier weaker one */
	HF_KERNEL_SAID_SKB_DROP,
	HF_KERNEL_SAID_CLOSED,
	HF_KERNEL_SAID_DROPPED,
	HF_KERNEL_SAID_RESET_SENT,
	HF_KERNEL_SAID_RESET_RECEIVED,
	_HF_KERNEL_SAID_MAX,
};

struct hf_kernel_fact {
	enum hf_kernel_word word;
	uint64_t boot_ns;
	int err; /* positive errno, 0 none */
	uint32_t unacked, unread, retransmits;
	char reason[48];  /* the kernel's name of it, "" none */
	char timeout[16]; /* rto keepalive user_timeout syn zero_window, "" none */
	bool closed_by_local;
};

enum hf_net_word {
	HF_NET_SAID_NOTHING,
	HF_NET_SAID_LINK_DOWN,
	HF_NET_SAID_ADDRESS_LOST,
	HF_NET_SAID_NO_ROUTE
};

struct hf_evidence {
	uint64_t noticed_boot_ns;    /* when the agent noticed; the reader's clock */
	uint64_t last_heard_boot_ns; /* the last byte from the portal */

	struct hf_kernel_fact kernel;
	bool pmtu;             /* a racing dial found that large segments vanish */
	bool firewall_drop;    /* a skb.drop of our socket named netfilter */
	uint8_t *kernel_event; /* packed bus.Event, owned; NULL none */
	size_t kernel_event_len;

	int err; /* of the socket, positive */
	enum hf_tls_failure tls;
	char tls_text[192];
	uint16_t close_code; /* received */
	char close_reason[124];
	uint16_t violation; /* close code that we sent for what came; 0 none */
	char violation_text[128];

	enum hf_net_word net;
	char net_text[128];

	bool heartbeat_missed; /* no answer of the registry in time */
	bool tcp_acked;        /* though its kernel acknowledged what we sent */
	bool through_proxy;    /* it is the proxy's kernel that acknowledges */
	bool suspect_over;     /* no proof within the suspect deadline */
	bool registry_lost;
	enum hf_cause leaving; /* announced: the host sleeps or goes down; HF_CAUSE_UNKNOWN no */
	bool suspended;        /* CLOCK_BOOTTIME ran ahead of CLOCK_MONOTONIC */
	uint64_t suspended_ms;
	bool held;                  /* the portal asked to come back later */
	enum hf_cause portal_cause; /* named by the portal (hold, revoked …), with portal_said */
	bool portal_said;
	char portal_text[128];
};

struct hf_verdict {
	enum hf_cause cause;
	enum hf_detector by;
	bool lone; /* nothing says that the portal or many endpoints are hit: dial at once */
	uint64_t began_boot_ns;
	char detail[256];
};

/* Frees what it owns and empties it. */
void hf_evidence_done(struct hf_evidence *e);
/* Keeps the stronger word. Takes a copy of event (packed, len bytes; NULL none). */
void hf_evidence_add_kernel(struct hf_evidence *e, const struct hf_kernel_fact *fact,
			    const uint8_t *event, size_t len);

void hf_evidence_judge(const struct hf_evidence *e, struct hf_verdict *ret);
