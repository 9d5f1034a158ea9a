/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to the local bus: status, outages, events, top, enroll, reset, config. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "userspace/agent/agent.h"
#include "userspace/agent/kernel_decode.h"

#define OUTAGES_DEFAULT 100u

char *hf_agent_config_text(void *userdata)
{
	const struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);
	struct hf_buf buf = {};

	if (hf_config_print(&hf_config_table, &a->config, &buf) < 0 ||
	    hf_buf_append(&buf, "", 1) < 0) {
		hf_buf_done(&buf);
		return NULL;
	}
	return (char *)buf.data;
}

/* The same without the explanations: this one travels. */
char *hf_agent_effective_config(void *userdata)
{
	char *text = hf_agent_config_text(userdata), *to = text;

	for (const char *line = text; line && *line;) {
		const char *end = strchrnul(line, '\n');
		size_t len = (size_t)(end - line) + (*end == '\n');
		const char *first = line + strspn(line, " \t");

		if (*first != '#' && *first != '\n') {
			memmove(to, line, len);
			to += len;
		}
		line += len;
	}
	if (to)
		*to = 0;
	return text;
}

static void answer_status(struct hf_agent *a, struct hf_bus_call *call)
{
	Bus__Response m = BUS__RESPONSE__INIT;
	Bus__AgentStatus s = BUS__AGENT_STATUS__INIT;
	Bus__Session session = BUS__SESSION__INIT;
	Bus__Telemetry telemetry;
	Bus__Program programs[HF_KERNEL_PROGRAMS_MAX], *pointers[HF_KERNEL_PROGRAMS_MAX];
	size_t n = hf_outages_count(a->outages);
	struct hf_channel_view v;

	hf_channel_view(a->channel, &v);
	s.pid = (uint32_t)getpid();
	s.version = (char *)a->self.version;
	s.state = (char *)hf_ch_state_name(v.state);
	s.authorized = (char *)v.authorized;
	s.instance_uid = (char *)hf_identity_uid_text(a->identity);
	s.endpoint = (char *)v.endpoint;
	s.kernel_assist = (char *)hf_events_assist(a->events);
	s.uptime_ms = (hf_now_monotonic_ns() - a->started_ns) / HF_NS_PER_MS;
	s.reconnects = v.reconnects;
	s.tls_handshakes = v.tls_handshakes;
	s.tls_resumed = v.tls_resumptions;
	s.last_outage = n ? hf_outages_at(a->outages, n - 1) : NULL;
	hf_events_telemetry(a->events, &telemetry, programs, pointers, HF_ARRAY_SIZE(programs));
	s.telemetry = &telemetry;
	s.state_detail = v.detail;
	s.state_since_unix_ns = v.state_since_unix_ns;
	s.next_attempt_ms = v.next_attempt_ms;
	if (v.up) {
		session.epoch = v.epoch;
		session.since_unix_ns = v.session_since_unix_ns;
		session.local = v.local;
		session.peer = v.peer;
		session.tls_version = v.tls_version;
		session.tls_resumed = v.tls_resumed;
		session.rtt_us = v.rtt_us;
		session.clock_offset_ms = v.clock_offset_ms;
		session.proxy = v.proxy;
		s.session = &session;
	}
	m.what_case = BUS__RESPONSE__WHAT_AGENT_STATUS;
	m.agent_status = &s;
	hf_bus_answer(call, &m);
}

static void answer_outages(struct hf_agent *a, struct hf_bus_call *call,
			   const Bus__OutagesRequest *q)
{
	Bus__Response m = BUS__RESPONSE__INIT;
	Bus__Outages list = BUS__OUTAGES__INIT;
	Bus__Outage *items[HF_OUTAGES_MAX];
	uint32_t limit = q->limit ? q->limit : OUTAGES_DEFAULT;
	size_t bytes = 0, first = hf_outages_count(a->outages);

	/* The newest that fit, oldest first. */
	while (first > 0 && list.n_items < limit) {
		Bus__Outage *o = hf_outages_at(a->outages, first - 1);
		size_t len = bus__outage__get_packed_size(o) + 8;

		if (o->detected_unix_ns < q->since_unix_ns || bytes + len > HF_BUS_ANSWER_MAX)
			break;
		bytes += len;
		first--;
		list.n_items++;
	}
	for (size_t i = 0; i < list.n_items; i++)
		items[i] = hf_outages_at(a->outages, first + i);
	list.items = items;
	m.what_case = BUS__RESPONSE__WHAT_OUTAGES;
	m.outages = &list;
	hf_bus_answer(call, &m);
}

static void answer_events(struct hf_agent *a, struct hf_bus_call *call, const Bus__EventsRequest *q)
{
	Bus__Response m = BUS__RESPONSE__INIT;
	Bus__Events *list = hf_recent_query(hf_events_recent(a->events), q, HF_BUS_ANSWER_MAX);

	if (!list) {
		hf_bus_refuse(call, ENOMEM, "out of memory");
		return;
	}
	m.what_case = BUS__RESPONSE__WHAT_EVENTS;
	m.events = list;
	hf_bus_answer(call, &m);
	bus__events__free_unpacked(list, NULL);
}

static void answer_top(struct hf_agent *a, struct hf_bus_call *call)
{
	Bus__Response m = BUS__RESPONSE__INIT;
	Bus__Top *top = hf_tally_answer(hf_events_tally(a->events),
					hf_events_realtime_offset_ns(a->events));
	Bus__Program programs[HF_KERNEL_PROGRAMS_MAX], *pointers[HF_KERNEL_PROGRAMS_MAX];
	Bus__Telemetry telemetry;

	if (!top) {
		hf_bus_refuse(call, ENOMEM, "out of memory");
		return;
	}
	hf_events_telemetry(a->events, &telemetry, programs, pointers, HF_ARRAY_SIZE(programs));
	top->lost = telemetry.lost;
	top->throttled = telemetry.throttled;
	top->now_unix_ns = hf_now_realtime_ns();
	top->uptime_ms = (hf_now_monotonic_ns() - a->started_ns) / HF_NS_PER_MS;
	top->since_unix_ns = top->now_unix_ns - top->uptime_ms * HF_NS_PER_MS;
	m.what_case = BUS__RESPONSE__WHAT_TOP;
	m.top = top;
	hf_bus_answer(call, &m);
	bus__top__free_unpacked(top, NULL);
}

static void answer_actions(struct hf_agent *a, struct hf_bus_call *call,
			   const Bus__ActionsRequest *q)
{
	Bus__Response m = BUS__RESPONSE__INIT;
	Bus__Actions *list = hf_agent_actions_list(a->actions, q->limit);

	if (!list) {
		hf_bus_refuse(call, ENOMEM, "out of memory");
		return;
	}
	m.what_case = BUS__RESPONSE__WHAT_ACTIONS;
	m.actions = list;
	hf_bus_answer(call, &m);
	bus__actions__free_unpacked(list, NULL);
}

static void on_enrolled(int r, const char *text, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);
	struct hf_bus_call *call = TAKE_PTR(a->enroll_call);
	Bus__Response m = BUS__RESPONSE__INIT;
	Bus__EnrollResult result = BUS__ENROLL_RESULT__INIT;
	struct hf_channel_view v;

	if (!call)
		return;
	if (r < 0) {
		hf_bus_refuse(call, -r, "enrol: %s", text);
		return;
	}
	hf_channel_view(a->channel, &v);
	result.state = (char *)hf_ch_state_name(v.state);
	result.instance_uid = (char *)hf_identity_uid_text(a->identity);
	result.message = v.detail;
	m.what_case = BUS__RESPONSE__WHAT_ENROLL;
	m.enroll = &result;
	hf_bus_answer(call, &m);
}

static void answer_enroll(struct hf_agent *a, struct hf_bus_call *call, const Bus__EnrollRequest *q)
{
	const char *url = q->portal_url[0] ? q->portal_url : a->config.portal.url;
	struct hf_err err = {};
	int r;

	if (a->stopping) {
		hf_bus_refuse(call, ESHUTDOWN, "enrol: the agent is stopping");
		return;
	}
	if (a->enroll_call) {
		hf_bus_refuse(call, EBUSY, "enrol: another enrolment is under way; wait for it");
		return;
	}
	r = hf_identity_enroll(a->identity, url, a->config.portal.url, q->token, q->ca_pem.data,
			       q->ca_pem.len, &err);
	if (r < 0) {
		hf_bus_refuse(call, -r, "enrol: %s", err.msg);
		return;
	}
	hf_notice("enrolment at '%s' asked for", url);
	a->enroll_call = call;
	hf_channel_enroll(a->channel, on_enrolled, a);
}

static void answer_reset(struct hf_agent *a, struct hf_bus_call *call)
{
	Bus__Response m = BUS__RESPONSE__INIT;
	struct hf_err err = {};
	int r = hf_identity_reset(a->identity, &err);

	/* Also after a failure half way: what is left must not be used. */
	hf_channel_forget(a->channel);
	if (r < 0) {
		hf_error("reset: %s", err.msg);
		hf_bus_refuse(call, -r, "reset: %s", err.msg);
		return;
	}
	hf_notice("identity reset by request; this host has to be enrolled again");
	m.message = (char *)"identity removed; enrol this host again";
	hf_bus_answer(call, &m);
}

static void answer_config(struct hf_agent *a, struct hf_bus_call *call, const Bus__ConfigRequest *q)
{
	Bus__Response m = BUS__RESPONSE__INIT;
	Bus__ConfigResult result = BUS__CONFIG_RESULT__INIT;
	_cleanup_free_ char *text = NULL;
	struct hf_err err = {};
	int r;

	if (q->verb == BUS__CONFIG_REQUEST__VERB__RELOAD) {
		r = hf_agent_reload(a, &err);
		if (r < 0) {
			hf_bus_refuse(call, -r, "%s", err.msg);
			return;
		}
	}
	text = hf_agent_config_text(a);
	if (!text) {
		hf_bus_refuse(call, ENOMEM, "out of memory");
		return;
	}
	result.yaml = text;
	m.what_case = BUS__RESPONSE__WHAT_CONFIG;
	m.config = &result;
	hf_bus_answer(call, &m);
}

void hf_agent_request(struct hf_bus_call *call, const Bus__Request *m, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	switch (m->what_case) {
	case BUS__REQUEST__WHAT_STATUS:
		answer_status(a, call);
		return;
	case BUS__REQUEST__WHAT_OUTAGES:
		answer_outages(a, call, m->outages);
		return;
	case BUS__REQUEST__WHAT_EVENTS:
		answer_events(a, call, m->events);
		return;
	case BUS__REQUEST__WHAT_TOP:
		answer_top(a, call);
		return;
	case BUS__REQUEST__WHAT_ENROLL:
		answer_enroll(a, call, m->enroll);
		return;
	case BUS__REQUEST__WHAT_RESET:
		answer_reset(a, call);
		return;
	case BUS__REQUEST__WHAT_CONFIG:
		answer_config(a, call, m->config);
		return;
	case BUS__REQUEST__WHAT_COMPONENT:
	case BUS__REQUEST__WHAT_STOP:
	case BUS__REQUEST__WHAT_RELEASE:
	case BUS__REQUEST__WHAT_SCAN:
	case BUS__REQUEST__WHAT_TRUST:
		hf_bus_refuse(call, ENOTSUP, "ask the watchdog for that, not the agent");
		return;
	case BUS__REQUEST__WHAT_ACTIONS:
		answer_actions(a, call, m->actions);
		return;
	case BUS__REQUEST__WHAT__NOT_SET:
	case _BUS__REQUEST__WHAT__CASE_IS_INT_SIZE:
		break;
	}
	hf_bus_refuse(call, EBADMSG, "the request is not one this agent understands");
}
