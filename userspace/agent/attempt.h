/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection attempt: resolve → TCP → (proxy) → TLS → upgrade → hello, one deadline over all of
 * it, each phase timed. Ends with a link whose portal has answered, or with a hf_failure.
 *
 * An attempt with a token ends when the portal has answered with a certificate.
 *
 * I1. `done` is called exactly once, unless the attempt is freed before, and never from inside
 *     hf_attempt_start(). The attempt may be freed inside it.
 * I2. Each socket is announced before connect(2) and, if it does not become the session's, again
 *     when it is gone: the watch list never leaks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "bus.pb-c.h"
#include "opamp.pb-c.h"
#include "session.pb-c.h"
#include "userspace/agent/failure.h"
#include "userspace/agent/link.h"
#include "userspace/net/dial.h"

/* Segments that fit where a tunnel is on the path and ICMP is swallowed (IPv6's minimum MTU). */
#define HF_ATTEMPT_SAFE_MSS    1220u
#define HF_ATTEMPT_DEADLINE_MS 20000u /* DESIGN section 6: one deadline covers it all */

struct hf_attempt;

struct hf_attempt_result {
	bool ok;
	struct hf_failure failure;    /* when not ok */
	struct hf_link *link;         /* when ok: the callback's to take (set NULL), else freed */
	Opamp__ServerToAgent *answer; /* when ok: borrowed; the message that completed it */
	Session__Welcome *welcome; /* when ok; NULL: a server without our session capability; valid
				       * until the attempt is freed */
	bool certificate;          /* answer carries the certificate of an enrolment */
	Bus__Attempt record;       /* strings borrowed from the attempt */
	char local[64];
	uint64_t started_ns; /* monotonic */
	uint64_t hello_sent_boot_ns, answered_boot_ns;
};

struct hf_attempt_options {
	sd_event *event;
	struct hf_dialer *dialer;   /* borrowed; nobody else's while the attempt lives */
	struct hf_tls_context *tls; /* borrowed for the link's life */
	const struct hf_url *url;
	const char *proxy;   /* NULL none */
	const char *token;   /* enrolment; NULL none */
	const char *headers; /* as of hf_link_options; borrowed for the attempt's life */
	/* The first message asks for a certificate: an answer that brings it ends the attempt too. */
	bool wants_certificate;
	uint32_t max_segment;
	uint32_t deadline_ms; /* 0: HF_ATTEMPT_DEADLINE_MS */
	uint32_t user_timeout_ms;
	uint32_t keepalive_idle_s;
	bool clock_bad; /* see hf_failure_from_tls() */
	/* Appends the first message; called when the upgrade is done. */
	int (*first_message)(struct hf_buf *ret, void *userdata);
	void (*socket_made)(uint64_t cookie, void *userdata);
	void (*socket_gone)(uint64_t cookie, void *userdata);
	void (*done)(struct hf_attempt_result *res, void *userdata);
	void *userdata;
};

/* Strings are copied. -errno: nothing was started. */
int hf_attempt_start(const struct hf_attempt_options *o, struct hf_attempt **ret);
/* Cancels without calling `done`. Takes NULL; returns NULL. */
struct hf_attempt *hf_attempt_free(struct hf_attempt *a);
HF_DEFINE_CLEANUP(struct hf_attempt *, hf_attempt_free);

enum hf_phase hf_attempt_phase(const struct hf_attempt *a);
/* Address under way or "". */
const char *hf_attempt_address(const struct hf_attempt *a);
/* The kernel said something about a socket of this attempt: look at it now. */
void hf_attempt_poke(struct hf_attempt *a, uint64_t cookie);
