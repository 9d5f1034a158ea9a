/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fallback where no BPF program runs: the kernel tells over NETLINK_SOCK_DIAG each TCP socket
 * that it destroys in our network namespace, to anybody, with the numbers of its life. What it does
 * not tell: who owned it, why it ended. So these are conn.closed events of ring "fallback", reason
 * SOCKET_DESTROYED, with no owner.
 *
 * Bounds: HF_SOCKDIAG_PER_S events a second, the rest is counted; what the socket's buffer could not
 * hold is counted as one overrun each time the kernel says so.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "bus.pb-c.h"

#define HF_SOCKDIAG_PER_S      200u
#define HF_SOCKDIAG_ADDR_MAX   56u
#define HF_SOCKDIAG_DETAIL_MAX 128u

/* One message decoded; the event points into it. */
struct hf_sockdiag_event {
	Bus__Event event;
	Bus__ConnInfo conn;
	char local[HF_SOCKDIAG_ADDR_MAX], peer[HF_SOCKDIAG_ADDR_MAX];
	char detail[HF_SOCKDIAG_DETAIL_MAX];
};

/*
 * Takes the next message off a datagram of the kernel's: *data and *len move on. 1: ret is filled in
 * (all but time and netns); 0: nothing in it for us; -EBADMSG: the rest is garbage.
 */
int hf_sockdiag_parse(const void **data, size_t *len, struct hf_sockdiag_event *ret);

struct hf_sockdiag;

/* told: borrowed for the call. -errno when this kernel does not offer it. */
int hf_sockdiag_new(sd_event *event, void (*told)(struct hf_sockdiag_event *e, void *userdata),
		    void *userdata, struct hf_sockdiag **ret);
struct hf_sockdiag *hf_sockdiag_free(struct hf_sockdiag *s);
HF_DEFINE_CLEANUP(struct hf_sockdiag *, hf_sockdiag_free);

struct hf_sockdiag_counts {
	uint64_t told, skipped, overruns, malformed;
};
void hf_sockdiag_counts(const struct hf_sockdiag *s, struct hf_sockdiag_counts *ret);
