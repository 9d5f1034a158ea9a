/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The status rule (DESIGN section 9), first line that matches:
 *
 *   revoked, suspended                      say so, whatever the link does
 *   pending authorization                   pending (with or without a link: the channel is held)
 *   link, proof within 2 × heartbeat + 5 s  online
 *   link, proof later than that             stale, and from max_offline on offline
 *   no link, never had one                  never_connected
 *   no link, goodbye                        powered_off | updating | offline, at once
 *   no link, update within max_offline      reconnecting
 *   no link, older                          offline, and from 30 days on missing
 *
 * I1 Online needs all three: authorized, a live registered link, a recent proof.
 * I2 due_ns is never in the past and never later than the moment the answer changes.
 */
#include "tools/portal/presence.h"

#include <errno.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/str.h"
#include "holdfast/cause.h"

static const char *const status_names[] = {
	[HF_STATUS_NEVER_CONNECTED] = "never_connected",
	[HF_STATUS_PENDING] = "pending",
	[HF_STATUS_ONLINE] = "online",
	[HF_STATUS_STALE] = "stale",
	[HF_STATUS_RECONNECTING] = "reconnecting",
	[HF_STATUS_OFFLINE] = "offline",
	[HF_STATUS_POWERED_OFF] = "powered_off",
	[HF_STATUS_MISSING] = "missing",
	[HF_STATUS_SUSPENDED] = "suspended",
	[HF_STATUS_REVOKED] = "revoked",
	[HF_STATUS_UPDATING] = "updating",
};

_Static_assert(HF_ARRAY_SIZE(status_names) == _HF_STATUS_MAX, "every status has a name");

/* Reasons that are not causes of an outage. */
static const struct {
	const char *name;
	const char *text;
} reasons[] = {
	{"connected", "connected, heartbeats arrive"},
	{"awaiting_approval", "connected, waits for an administrator's approval"},
	{"awaiting_approval_offline", "not connected, waits for an administrator's approval"},
	{"enrolled_not_connected", "enrolled, has not connected yet"},
	{"heartbeat_late", "the connection is up but heartbeats are late"},
	{"heartbeat_missing", "the connection is up but nothing came within the offline limit"},
	{"link_lost", "the connection was lost without a goodbye"},
	{"no_update", "no sign of life within the offline limit"},
	{"missing", "no sign of life for 30 days"},
	{"suspended", "suspended by an administrator"},
	{"portal_restarted", "the portal restarted, the endpoint has not come back yet"},
	{"portal_disconnected", "the portal cut the connection on an administrator's word"},
	{"superseded", "a newer connection of the same endpoint took over"},
};

const char *hf_status_name(enum hf_status s)
{
	hf_assert(s < _HF_STATUS_MAX);
	return status_names[s];
}

int hf_status_from_name(const char *name)
{
	for (unsigned s = 0; s < _HF_STATUS_MAX; s++) {
		if (hf_streq(status_names[s], name))
			return (int)s;
	}
	return -EINVAL;
}

const char *hf_reason_text(const char *reason)
{
	enum hf_cause cause;

	for (size_t i = 0; i < HF_ARRAY_SIZE(reasons); i++) {
		if (hf_streq(reasons[i].name, reason))
			return reasons[i].text;
	}
	cause = hf_cause_from_name(reason);
	return hf_cause_text(cause);
}

uint64_t hf_presence_proof_window_ns(const struct hf_presence_policy *policy)
{
	return (2 * (uint64_t)policy->heartbeat_s + 5) * HF_NS_PER_S;
}

static void set(struct hf_verdict *v, enum hf_status status, const char *reason, uint64_t due_ns)
{
	v->status = status;
	(void)hf_strlcpy(v->reason, reason, sizeof(v->reason));
	v->due_ns = due_ns;
}

static void judge_linked(const struct hf_presence *p, const struct hf_presence_policy *policy,
			 uint64_t now_ns, struct hf_verdict *v)
{
	uint64_t window = hf_presence_proof_window_ns(policy);
	uint64_t limit = policy->max_offline_s * HF_NS_PER_S;

	/* A limit below the heartbeat window must not call a healthy link offline between beats. */
	if (limit < window)
		limit = window;
	if (now_ns <= p->last_proof_ns + window)
		set(v, HF_STATUS_ONLINE, p->clone ? "clone_detected" : "connected",
		    p->last_proof_ns + window + 1);
	else if (now_ns < p->last_proof_ns + limit)
		set(v, HF_STATUS_STALE, "heartbeat_late", p->last_proof_ns + limit);
	else
		set(v, HF_STATUS_OFFLINE, "heartbeat_missing", UINT64_MAX);
}

/* Offline or missing, after since_ns. */
static void judge_gone(const char *reason, uint64_t since_ns, uint64_t now_ns, struct hf_verdict *v)
{
	uint64_t missing = since_ns + HF_MISSING_AFTER_S * HF_NS_PER_S;

	if (now_ns >= missing)
		set(v, HF_STATUS_MISSING, "missing", UINT64_MAX);
	else
		set(v, HF_STATUS_OFFLINE, reason, missing);
}

static void judge_unlinked(const struct hf_presence *p, const struct hf_presence_policy *policy,
			   uint64_t now_ns, struct hf_verdict *v)
{
	uint64_t limit = p->last_update_ns + policy->max_offline_s * HF_NS_PER_S;

	if (!p->ever_connected)
		set(v, HF_STATUS_NEVER_CONNECTED, "enrolled_not_connected", UINT64_MAX);
	else if (hf_streq(p->goodbye, "host_shutdown"))
		set(v, HF_STATUS_POWERED_OFF, p->goodbye, UINT64_MAX);
	else if (hf_streq(p->goodbye, "agent_update") && now_ns < limit)
		set(v, HF_STATUS_UPDATING, p->goodbye, limit);
	else if (p->goodbye[0])
		judge_gone(p->goodbye, p->last_update_ns, now_ns, v);
	else if (p->offline_ns)
		judge_gone(p->lost[0] ? p->lost : "no_update", p->offline_ns, now_ns, v);
	else if (now_ns < limit)
		set(v, HF_STATUS_RECONNECTING, p->lost[0] ? p->lost : "link_lost", limit);
	else
		judge_gone("no_update", limit, now_ns, v);
}

void hf_presence_judge(const struct hf_presence *p, const struct hf_presence_policy *policy,
		       uint64_t now_ns, struct hf_verdict *ret)
{
	switch (p->authorization) {
	case HF_AUTH_REVOKED:
		set(ret, HF_STATUS_REVOKED, "revoked", UINT64_MAX);
		return;
	case HF_AUTH_SUSPENDED:
		set(ret, HF_STATUS_SUSPENDED, "suspended", UINT64_MAX);
		return;
	case HF_AUTH_PENDING:
		set(ret, HF_STATUS_PENDING,
		    p->linked ? "awaiting_approval" : "awaiting_approval_offline", UINT64_MAX);
		return;
	case HF_AUTH_AUTHORIZED:
	case _HF_AUTH_MAX:
		break;
	}
	if (p->linked)
		judge_linked(p, policy, now_ns, ret);
	else
		judge_unlinked(p, policy, now_ns, ret);
}
