/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The join. What is nearer to the root cause wins: the host's own state (suspend, link, address)
 * over what the portal said over what the kernel saw of the connection over what the socket call
 * returned over a missing heartbeat.
 */
#include "userspace/agent/evidence.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "userspace/agent/failure.h"
#include "userspace/net/websocket.h"

static const char *const detectors[] = {
	[HF_BY_NONE] = "",
	[HF_BY_KERNEL] = "kernel",
	[HF_BY_SOCKET] = "socket",
	[HF_BY_HEARTBEAT] = "heartbeat",
	[HF_BY_KEEPALIVE] = "keepalive",
	[HF_BY_NETLINK] = "netlink",
	[HF_BY_CLOCK] = "clock",
	[HF_BY_PORTAL] = "portal",
};
_Static_assert(HF_ARRAY_SIZE(detectors) == _HF_BY_MAX, "a detector has no name");

const char *hf_detector_name(enum hf_detector d)
{
	hf_assert(d < _HF_BY_MAX);
	return detectors[d];
}

void hf_evidence_done(struct hf_evidence *e)
{
	free(e->kernel_event);
	*e = (struct hf_evidence){};
}

void hf_evidence_add_kernel(struct hf_evidence *e, const struct hf_kernel_fact *fact,
			    const uint8_t *event, size_t len)
{
	uint8_t *copy = NULL;

	if (fact->word == HF_KERNEL_SAID_SKB_DROP && strstr(fact->reason, "NETFILTER"))
		e->firewall_drop = true;
	if (fact->word < e->kernel.word)
		return;
	/* Of several equal words the first tells when it began. */
	if (fact->word == e->kernel.word && e->kernel.boot_ns <= fact->boot_ns)
		return;
	if (event && len > 0) {
		copy = malloc(len);
		if (copy)
			memcpy(copy, event, len);
	}
	free(e->kernel_event);
	e->kernel_event = copy;
	e->kernel_event_len = copy ? len : 0;
	e->kernel = *fact;
}

static void say(struct hf_verdict *v, enum hf_cause cause, enum hf_detector by, bool lone,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void say(struct hf_verdict *v, enum hf_cause cause, enum hf_detector by, bool lone,
		const char *fmt, ...)
{
	va_list ap;

	v->cause = cause;
	v->by = by;
	v->lone = lone;
	va_start(ap, fmt);
	(void)vsnprintf(v->detail, sizeof(v->detail), fmt, ap); /* cut is fine: text for people */
	va_end(ap);
	hf_sanitize(v->detail);
}

static bool judge_host(const struct hf_evidence *e, struct hf_verdict *v)
{
	if (e->leaving == HF_CAUSE_HOST_SUSPEND || e->leaving == HF_CAUSE_HOST_SHUTDOWN) {
		say(v, e->leaving, HF_BY_CLOCK, true, "this host %s, and said so before",
		    e->leaving == HF_CAUSE_HOST_SUSPEND ? "went to sleep" : "shut down");
		return true;
	}
	if (e->suspended) {
		char slept[32];

		hf_format_duration(e->suspended_ms * HF_NS_PER_MS, slept, sizeof(slept));
		say(v, HF_CAUSE_HOST_SUSPEND, HF_BY_CLOCK, true,
		    "this host was suspended for %s and the connection did not survive it", slept);
		return true;
	}
	switch (e->net) {
	case HF_NET_SAID_NOTHING:
		return false;
	case HF_NET_SAID_LINK_DOWN:
		say(v, HF_CAUSE_LINK_DOWN, HF_BY_NETLINK, true, "%s", e->net_text);
		return true;
	case HF_NET_SAID_ADDRESS_LOST:
		say(v, HF_CAUSE_ADDRESS_LOST, HF_BY_NETLINK, true, "%s", e->net_text);
		return true;
	case HF_NET_SAID_NO_ROUTE:
		say(v, HF_CAUSE_NO_ROUTE, HF_BY_NETLINK, true, "%s", e->net_text);
		return true;
	}
	return false;
}

static bool judge_portal(const struct hf_evidence *e, struct hf_verdict *v)
{
	if (e->portal_said) {
		say(v, e->portal_cause, HF_BY_PORTAL, false, "the portal said: %s",
		    e->portal_text[0] ? e->portal_text : hf_cause_text(e->portal_cause));
		return true;
	}
	if (e->close_code) {
		enum hf_cause c = hf_close_cause(e->close_code, e->close_reason);

		/* Too big concerns one message of ours, and the next will be smaller. */
		say(v, c, HF_BY_PORTAL,
		    c == HF_CAUSE_PEER_CLOSED || e->close_code == HF_WS_CLOSE_TOO_BIG,
		    "the portal closed the connection with code %u%s%s", e->close_code,
		    e->close_reason[0] ? ": " : "", e->close_reason);
		return true;
	}
	if (e->violation) {
		say(v, HF_CAUSE_PROTOCOL_ERROR, HF_BY_SOCKET, false,
		    "the portal broke the protocol, closed with code %u%s%s", e->violation,
		    e->violation_text[0] ? ": " : "", e->violation_text);
		return true;
	}
	if (e->registry_lost) {
		say(v, HF_CAUSE_REGISTRY_LOST, HF_BY_HEARTBEAT, true,
		    "the portal answered the heartbeat but no longer knew this connection");
		return true;
	}
	return false;
}

static void judge_kernel_timeout(const struct hf_evidence *e, struct hf_verdict *v)
{
	const struct hf_kernel_fact *k = &e->kernel;
	bool idle = hf_streq(k->timeout, "keepalive");
	enum hf_detector by =
		idle || hf_streq(k->timeout, "user_timeout") ? HF_BY_KEEPALIVE : HF_BY_KERNEL;

	if (e->firewall_drop)
		say(v, HF_CAUSE_LOCAL_FIREWALL, HF_BY_KERNEL, true,
		    "a firewall on this host dropped our packets (%s) until the kernel gave up",
		    k->reason[0] ? k->reason : "netfilter");
	else
		say(v, HF_CAUSE_BLACKHOLE, by, true,
		    idle ? "the kernel gave the connection up: keepalive probes were not answered (%s)"
			 : "the kernel gave the connection up: data was not acknowledged (%s, %u bytes, %u retransmits)",
		    k->timeout[0] ? k->timeout : "timeout", k->unacked, k->retransmits);
}

static bool judge_kernel(const struct hf_evidence *e, struct hf_verdict *v)
{
	const struct hf_kernel_fact *k = &e->kernel;
	const char *reason = k->reason[0] ? k->reason : "no reason";

	switch (k->word) {
	case HF_KERNEL_SAID_NOTHING:
	case _HF_KERNEL_SAID_MAX:
		return false;
	case HF_KERNEL_SAID_RESET_RECEIVED:
		say(v, HF_CAUSE_PEER_RESET, HF_BY_KERNEL, true,
		    "the other side reset the connection (%u bytes unacknowledged, %u unread)",
		    k->unacked, k->unread);
		return true;
	case HF_KERNEL_SAID_RESET_SENT:
		say(v, HF_CAUSE_LOCAL_RESET, HF_BY_KERNEL, true,
		    "this host reset the connection: %s (%u bytes unacknowledged, %u unread)",
		    reason, k->unacked, k->unread);
		return true;
	case HF_KERNEL_SAID_DROPPED:
		switch (k->err) {
		case ECONNABORTED:
			say(v, HF_CAUSE_LOCAL_RESET, HF_BY_KERNEL, true,
			    "this host aborted the connection");
			return true;
		case EHOSTUNREACH:
		case ENETUNREACH:
			say(v, HF_CAUSE_NO_ROUTE, HF_BY_KERNEL, true,
			    "the network says the portal cannot be reached: %s", strerror(k->err));
			return true;
		case ECONNRESET:
			say(v, HF_CAUSE_PEER_RESET, HF_BY_KERNEL, true,
			    "the other side reset the connection (%u bytes unacknowledged, %u unread)",
			    k->unacked, k->unread);
			return true;
		}
		judge_kernel_timeout(e, v);
		return true;
	case HF_KERNEL_SAID_CLOSED:
		if (k->closed_by_local)
			return false; /* what we did ourselves explains nothing */
		say(v, HF_CAUSE_PEER_CLOSED, HF_BY_KERNEL, true,
		    "the other side closed the connection without a close frame (%u bytes unacknowledged)",
		    k->unacked);
		return true;
	case HF_KERNEL_SAID_SKB_DROP:
	case HF_KERNEL_SAID_RETRANSMIT:
		/* Alone they are no end; with a deadline that passed they say why. */
		if (!e->suspect_over && !e->heartbeat_missed && e->err == 0)
			return false;
		if (e->firewall_drop)
			say(v, HF_CAUSE_LOCAL_FIREWALL, HF_BY_KERNEL, true,
			    "a firewall on this host drops our packets (%s)", reason);
		else if (e->pmtu)
			say(v, HF_CAUSE_PMTU_BLACKHOLE, HF_BY_KERNEL, true,
			    "large packets vanish while small ones pass: %u bytes unacknowledged after %u retransmits",
			    k->unacked, k->retransmits);
		else
			say(v, HF_CAUSE_BLACKHOLE, HF_BY_KERNEL, true,
			    "our packets vanish: %u bytes unacknowledged after %u retransmits, no answer to the probe",
			    k->unacked, k->retransmits);
		return true;
	}
	return false;
}

static bool judge_socket(const struct hf_evidence *e, struct hf_verdict *v)
{
	switch (e->err) {
	case 0:
		break;
	case ECONNRESET:
		say(v, HF_CAUSE_PEER_RESET, HF_BY_SOCKET, true,
		    "the other side reset the connection");
		return true;
	case ECONNABORTED:
		say(v, HF_CAUSE_LOCAL_RESET, HF_BY_SOCKET, true,
		    "this host aborted the connection");
		return true;
	case ETIMEDOUT:
		say(v, HF_CAUSE_BLACKHOLE, HF_BY_KEEPALIVE, true,
		    "the kernel gave the connection up: nothing was acknowledged any more");
		return true;
	case EHOSTUNREACH:
	case ENETUNREACH:
		say(v, HF_CAUSE_NO_ROUTE, HF_BY_SOCKET, true,
		    "the network says the portal cannot be reached: %s", strerror(e->err));
		return true;
	case ENETDOWN:
		say(v, HF_CAUSE_LINK_DOWN, HF_BY_SOCKET, true, "the network interface is down");
		return true;
	case EPERM:
	case EACCES:
		say(v, HF_CAUSE_LOCAL_FIREWALL, HF_BY_SOCKET, true,
		    "this host does not let us send: %s", strerror(e->err));
		return true;
	case EPIPE:
		say(v, HF_CAUSE_PEER_CLOSED, HF_BY_SOCKET, true,
		    "the other side had closed the connection");
		return true;
	default: /* an errno of the kernel, any of them */
		say(v, HF_CAUSE_UNKNOWN, HF_BY_SOCKET, true, "the connection failed: %s",
		    strerror(e->err));
		return true;
	}
	switch (e->tls) {
	case HF_TLS_EOF:
	case HF_TLS_CLOSED:
		say(v, HF_CAUSE_PEER_CLOSED, HF_BY_SOCKET, true,
		    "the other side closed the connection without a close frame");
		return true;
	case HF_TLS_OK:
		return false;
	case HF_TLS_IO:
	case HF_TLS_CERT_EXPIRED:
	case HF_TLS_CERT_NOT_YET_VALID:
	case HF_TLS_CERT_UNTRUSTED:
	case HF_TLS_CERT_NAME:
	case HF_TLS_CERT_REVOKED:
	case HF_TLS_PIN_MISMATCH:
	case HF_TLS_INTERCEPTED:
	case HF_TLS_WEAK_CRYPTO:
	case HF_TLS_ALERT:
	case HF_TLS_PROTOCOL:
	case HF_TLS_INTERNAL:
	case _HF_TLS_FAILURE_MAX:
		break;
	}
	say(v,
	    e->tls == HF_TLS_ALERT || e->tls == HF_TLS_PROTOCOL ? HF_CAUSE_PROTOCOL_ERROR
								: HF_CAUSE_UNKNOWN,
	    HF_BY_SOCKET, false, "TLS failed on the established connection: %s", e->tls_text);
	return true;
}

static void judge_silence(const struct hf_evidence *e, struct hf_verdict *v)
{
	enum hf_detector by = e->heartbeat_missed ? HF_BY_HEARTBEAT : HF_BY_SOCKET;

	if (!e->heartbeat_missed && !e->suspect_over)
		say(v, HF_CAUSE_UNKNOWN, HF_BY_SOCKET, true, "no evidence says why");
	else if (e->tcp_acked)
		say(v, HF_CAUSE_PORTAL_TIMEOUT, HF_BY_HEARTBEAT, true,
		    e->through_proxy
			    ? "the proxy acknowledges our packets but no answer of the portal comes through it"
			    : "the portal's host acknowledges our packets but the portal does not answer");
	else if (e->pmtu)
		say(v, HF_CAUSE_PMTU_BLACKHOLE, by, true,
		    "large packets vanish while small ones pass: no answer from the portal");
	else
		say(v, HF_CAUSE_BLACKHOLE, by, true,
		    "no answer from the portal and no acknowledgement of our packets");
}

void hf_evidence_judge(const struct hf_evidence *e, struct hf_verdict *v)
{
	uint64_t began = e->noticed_boot_ns;

	*v = (struct hf_verdict){};
	if (!judge_host(e, v) && !judge_portal(e, v) && !judge_kernel(e, v) && !judge_socket(e, v))
		judge_silence(e, v);

	/* The kernel's stamp is when it happened; silence began with the last thing we heard. */
	if (e->kernel.word != HF_KERNEL_SAID_NOTHING && e->kernel.boot_ns < began)
		began = e->kernel.boot_ns;
	else if ((e->heartbeat_missed || e->suspect_over || v->cause == HF_CAUSE_BLACKHOLE) &&
		 e->last_heard_boot_ns && e->last_heard_boot_ns < began)
		began = e->last_heard_boot_ns;
	v->began_boot_ns = began;
}
