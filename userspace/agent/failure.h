/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why one connection attempt failed: from what resolver, socket, TLS, HTTP and the portal said to
 * a cause of holdfast/cause.h, one sentence, and what the channel should do about it. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/cause.h"
#include "userspace/net/dial.h"
#include "userspace/net/tls_stream.h"

enum hf_phase {
	HF_PHASE_RESOLVE,
	HF_PHASE_TCP,
	HF_PHASE_PROXY,
	HF_PHASE_TLS,
	HF_PHASE_UPGRADE,
	HF_PHASE_HELLO,
	HF_PHASE_ONLINE,
	_HF_PHASE_MAX,
};

const char *hf_phase_name(enum hf_phase p);

struct hf_failure {
	enum hf_cause cause;
	enum hf_phase phase;
	int err;                 /* positive errno, 0 none */
	uint16_t close_code;     /* WebSocket, 0 none */
	uint64_t retry_after_ms; /* the portal's wish or ours; 0 none */
	uint32_t spread_ms;      /* the portal's window for this wait; 0 none */
	char text[256];          /* one sentence: what failed and why */
	char tls[192];           /* as TLS said it; "" none */
	char dns[128];
	char proxy[128];
};

/* What the channel does after it. */
enum hf_remedy {
	HF_REMEDY_RETRY,
	HF_REMEDY_HOLD,
	HF_REMEDY_REVOKED,
	HF_REMEDY_CLOCK,
	_HF_REMEDY_MAX,
};

enum hf_remedy hf_failure_remedy(const struct hf_failure *f);

/* host is the portal's name for the sentence. */
void hf_failure_from_dial(struct hf_failure *f, const struct hf_dial_result *res, const char *host);

struct hf_tls_report {
	enum hf_tls_failure failure;
	int err;
	int alert; /* number of the fatal alert received, with HF_TLS_ALERT */
	const char *error;
};

/*
 * clock_bad: something other than the certificate also says that this host's clock is wrong, so an
 * expired or not yet valid certificate is no proof against the portal.
 */
void hf_failure_from_tls(struct hf_failure *f, const struct hf_tls_report *t, enum hf_phase phase,
			 bool clock_bad);

struct hf_http_report {
	unsigned status;
	const char *cause;       /* Holdfast-Cause, NULL none */
	const char *retry_after; /* seconds or NULL */
	bool by_token;           /* the request carried an enrolment token */
	bool via_proxy;
	bool bad_accept; /* 101 with a wrong Sec-WebSocket-Accept or missing headers */
};

void hf_failure_from_http(struct hf_failure *f, const struct hf_http_report *h);

/* A close frame received while the attempt still waited for its welcome, or a violation of ours. */
void hf_failure_from_close(struct hf_failure *f, uint16_t code, const char *reason);

/* The deadline of the whole attempt, in this phase. */
struct hf_stall {
	enum hf_phase phase;
	const char *address; /* "" before TCP */
	bool unacked;        /* TCP_INFO: our segments are not acknowledged */
	bool any_acked;      /* but earlier ones were */
	uint64_t waited_ms;
};

void hf_failure_from_stall(struct hf_failure *f, const struct hf_stall *s);

/* Anything else, in one go. */
void hf_failure_set(struct hf_failure *f, enum hf_cause cause, enum hf_phase phase, const char *fmt,
		    ...) __attribute__((format(printf, 4, 5)));

/*
 * What a close code and its reason mean, for attempts and sessions alike. A reason that begins with
 * a cause's name decides ("revoked: by admin"), except that it may not claim what only this host
 * can know.
 */
enum hf_cause hf_close_cause(uint16_t code, const char *reason);
