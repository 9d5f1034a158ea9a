/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The permit table. A request has a set of states and may be good for once only; anything that
 * only the watchdog says, or that nobody knows, has no line and is refused.
 */
#include "watchdog/permit.h"

#include <errno.h>
#include <stddef.h>

#include "base/assert.h"
#include "base/cleanup.h"

#define IN(state) (1u << HF_CONN_##state)

struct line {
	enum hf_sup_type request;
	uint32_t states;
	bool once;
};

static const struct line lines[] = {
	{HF_SUP_HELLO, IN(NEW), true},
	{HF_SUP_READY, IN(GREETED), true},
	{HF_SUP_PROGRESS, IN(GREETED) | IN(READY) | IN(STOPPING), false},
	{HF_SUP_STATUS, IN(GREETED) | IN(READY) | IN(STOPPING), false},
	{HF_SUP_WATCH_SOCKET, IN(GREETED) | IN(READY), false},
	{HF_SUP_UNWATCH_SOCKET, IN(GREETED) | IN(READY) | IN(STOPPING), false},
	{HF_SUP_STOPPING, IN(GREETED) | IN(READY), true},
	{HF_SUP_CANARY_SEEN, IN(READY), false},
	{HF_SUP_SESSION, IN(GREETED) | IN(READY) | IN(STOPPING), false},
	{HF_SUP_ACTION_KEYS, IN(READY), false},
	{HF_SUP_ACTION_TIME, IN(READY), false},
	{HF_SUP_ACTION, IN(READY), false},
	{HF_SUP_ACTION_CANCEL, IN(READY) | IN(STOPPING), false},
	{HF_SUP_ACTION_QUERY, IN(READY), false},
	{HF_SUP_ACTION_FORGET, IN(READY) | IN(STOPPING), false},
};
_Static_assert(HF_ARRAY_SIZE(lines) <= 32, "one bit each in hf_permit.used");

int hf_permit_check(struct hf_permit *p, enum hf_sup_type request)
{
	for (size_t i = 0; i < HF_ARRAY_SIZE(lines); i++) {
		if (lines[i].request != request)
			continue;
		hf_assert(p->state < _HF_CONN_MAX);
		if (!(lines[i].states & (1u << p->state)))
			return -EPERM;
		if (lines[i].once && (p->used & (1u << i)))
			return -EPERM;
		if (request == HF_SUP_WATCH_SOCKET && p->watches >= HF_PERMIT_WATCHES_MAX)
			return -ENOSPC;
		p->used |= 1u << i;
		if (request == HF_SUP_HELLO)
			p->state = HF_CONN_GREETED;
		else if (request == HF_SUP_READY)
			p->state = HF_CONN_READY;
		else if (request == HF_SUP_STOPPING)
			p->state = HF_CONN_STOPPING;
		return 0;
	}
	return -EPERM;
}
