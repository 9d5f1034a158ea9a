/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shapes of supervise.sock's messages, in one table used by both ends, so that neither can
 * accept what the other would not send.
 *
 * I1. A packet that passed hf_sup_check() may be read through its struct: length and every text's
 *     terminator are proven. (Prevents reading past a short packet of a taken-over component.)
 */
#include "holdfast/supervise.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

_Static_assert(sizeof(struct hf_sup_blob) <= HF_SUP_PACKET_MAX, "the longest message");

struct text_field {
	size_t offset, size;
};

struct shape {
	unsigned type;
	size_t size;
	const char *name;
	struct text_field text[5];
};

#define TEXT(type, member)                                                        \
	{                                                                         \
		offsetof(struct type, member), sizeof(((struct type *)0)->member) \
	}

static const struct shape shapes[] = {
	{HF_SUP_HELLO,
	 sizeof(struct hf_sup_hello),
	 "HELLO",
	 {TEXT(hf_sup_hello, component), TEXT(hf_sup_hello, version)}},
	{HF_SUP_READY, sizeof(struct hf_sup_hdr), "READY", {}},
	{HF_SUP_PROGRESS, sizeof(struct hf_sup_progress), "PROGRESS", {}},
	{HF_SUP_STATUS, sizeof(struct hf_sup_text), "STATUS", {TEXT(hf_sup_text, text)}},
	{HF_SUP_WATCH_SOCKET, sizeof(struct hf_sup_cookie), "WATCH_SOCKET", {}},
	{HF_SUP_UNWATCH_SOCKET, sizeof(struct hf_sup_cookie), "UNWATCH_SOCKET", {}},
	{HF_SUP_STOPPING, sizeof(struct hf_sup_text), "STOPPING", {TEXT(hf_sup_text, text)}},
	{HF_SUP_CANARY_SEEN, sizeof(struct hf_sup_canary), "CANARY_SEEN", {}},
	{HF_SUP_ACTION_KEYS, sizeof(struct hf_sup_blob), "ACTION_KEYS", {}},
	{HF_SUP_ACTION_TIME, sizeof(struct hf_sup_blob), "ACTION_TIME", {}},
	{HF_SUP_ACTION, sizeof(struct hf_sup_blob), "ACTION", {}},
	{HF_SUP_ACTION_CANCEL,
	 sizeof(struct hf_sup_action_id),
	 "ACTION_CANCEL",
	 {TEXT(hf_sup_action_id, id)}},
	{HF_SUP_ACTION_QUERY,
	 sizeof(struct hf_sup_action_id),
	 "ACTION_QUERY",
	 {TEXT(hf_sup_action_id, id)}},
	{HF_SUP_ACTION_FORGET,
	 sizeof(struct hf_sup_action_id),
	 "ACTION_FORGET",
	 {TEXT(hf_sup_action_id, id)}},
	{HF_SUP_SESSION, sizeof(struct hf_sup_session), "SESSION", {}},
	{HF_SUP_RELEASE,
	 sizeof(struct hf_sup_release),
	 "RELEASE",
	 {TEXT(hf_sup_release, component), TEXT(hf_sup_release, version),
	  TEXT(hf_sup_release, candidate), TEXT(hf_sup_release, reason),
	  TEXT(hf_sup_release, text)}},
	{HF_SUP_WELCOME,
	 sizeof(struct hf_sup_welcome),
	 "WELCOME",
	 {TEXT(hf_sup_welcome, watchdog_version)}},
	{HF_SUP_KERNEL, sizeof(struct hf_sup_kernel), "KERNEL", {}},
	{HF_SUP_LAST_EXIT,
	 sizeof(struct hf_sup_last_exit),
	 "LAST_EXIT",
	 {TEXT(hf_sup_last_exit, by_comm), TEXT(hf_sup_last_exit, text)}},
	{HF_SUP_STOP, sizeof(struct hf_sup_text), "STOP", {TEXT(hf_sup_text, text)}},
	{HF_SUP_RELOAD, sizeof(struct hf_sup_hdr), "RELOAD", {}},
	{HF_SUP_DENIED, sizeof(struct hf_sup_denied), "DENIED", {}},
	{HF_SUP_ACTION_NONCE,
	 sizeof(struct hf_sup_action_nonce),
	 "ACTION_NONCE",
	 {TEXT(hf_sup_action_nonce, text)}},
	{HF_SUP_ACTION_STATE,
	 sizeof(struct hf_sup_action_state),
	 "ACTION_STATE",
	 {TEXT(hf_sup_action_state, id), TEXT(hf_sup_action_state, text)}},
};

static const struct shape *find_shape(unsigned type)
{
	for (size_t i = 0; i < HF_ARRAY_SIZE(shapes); i++)
		if (shapes[i].type == type)
			return &shapes[i];
	return NULL;
}

size_t hf_sup_size(unsigned type)
{
	const struct shape *s = find_shape(type);

	return s ? s->size : 0;
}

const char *hf_sup_type_name(unsigned type)
{
	const struct shape *s = find_shape(type);

	return s ? s->name : "unknown";
}

int hf_sup_check(const void *packet, size_t len)
{
	struct hf_sup_hdr hdr;
	const struct shape *s;

	if (len < sizeof(hdr) || len > HF_SUP_PACKET_MAX)
		return -EBADMSG;
	memcpy(&hdr, packet, sizeof(hdr));
	if (hdr.protocol != HF_SUP_PROTOCOL)
		return -EPROTONOSUPPORT;
	s = find_shape(hdr.type);
	if (!s || hdr.length != len || s->size != len)
		return -EBADMSG;
	for (size_t i = 0; i < HF_ARRAY_SIZE(s->text); i++) {
		const char *text = (const char *)packet + s->text[i].offset;
		size_t n = strnlen(text, s->text[i].size);

		if (s->text[i].size && (n == s->text[i].size || !hf_utf8_valid(text, n)))
			return -EBADMSG;
	}
	if (s->size == sizeof(struct hf_sup_blob)) {
		uint32_t n;

		memcpy(&n, (const char *)packet + offsetof(struct hf_sup_blob, length), sizeof(n));
		if (n > HF_SUP_BLOB_MAX)
			return -EBADMSG;
	}
	return 0;
}

static const char *const cause_names[] = {
	[HF_EXIT_UNKNOWN] = "unknown",
	[HF_EXIT_EXITED] = "exited",
	[HF_EXIT_SIGNALLED] = "signalled",
	[HF_EXIT_KILLED_BY_OPERATOR] = "killed_by_operator",
	[HF_EXIT_OOM] = "oom",
	[HF_EXIT_CRASHED] = "crashed",
	[HF_EXIT_HUNG] = "hung",
	[HF_EXIT_LIMIT] = "limit",
	[HF_EXIT_STOPPED_BY_REQUEST] = "stopped_by_request",
};
_Static_assert(HF_ARRAY_SIZE(cause_names) == _HF_EXIT_MAX, "every cause has a name");

const char *hf_exit_cause_name(unsigned cause)
{
	return cause < _HF_EXIT_MAX ? cause_names[cause] : "unknown";
}

static const char *const step_names[] = {
	[HF_SUP_RELEASE_RUNS] = "runs",           [HF_SUP_RELEASE_VERIFYING] = "verifying",
	[HF_SUP_RELEASE_REFUSED] = "refused",     [HF_SUP_RELEASE_STAGED] = "staged",
	[HF_SUP_RELEASE_PREFLIGHT] = "preflight", [HF_SUP_RELEASE_TRIAL] = "trial",
	[HF_SUP_RELEASE_COMMITTED] = "committed", [HF_SUP_RELEASE_ROLLED_BACK] = "rolled_back",
	[HF_SUP_RELEASE_SAFE] = "safe",
};
_Static_assert(HF_ARRAY_SIZE(step_names) == _HF_SUP_RELEASE_MAX, "every step has a name");

const char *hf_sup_release_step_name(unsigned step)
{
	return step < _HF_SUP_RELEASE_MAX ? step_names[step] : "unknown";
}

uint64_t hf_sup_canary_nonce(const char *comm)
{
	uint64_t nonce = 0;

	if (!hf_startswith(comm, HF_CANARY_PREFIX))
		return 0;
	comm += strlen(HF_CANARY_PREFIX);
	if (strlen(comm) != HF_CANARY_DIGITS)
		return 0;
	for (; *comm; comm++) {
		const char *digits = "0123456789abcdef", *at = strchr(digits, *comm);

		if (!at)
			return 0;
		nonce = nonce << 4 | (uint64_t)(at - digits);
	}
	return nonce;
}

static const char *const assist_names[] = {
	[HF_SUP_ASSIST_OFF] = "off",
	[HF_SUP_ASSIST_PARTIAL] = "partial",
	[HF_SUP_ASSIST_EBPF] = "ebpf",
};
_Static_assert(HF_ARRAY_SIZE(assist_names) == _HF_SUP_ASSIST_MAX, "every level has a name");

const char *hf_sup_assist_name(unsigned assist)
{
	return assist < _HF_SUP_ASSIST_MAX ? assist_names[assist] : "unknown";
}
