/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpAMP over plain HTTP: the agent polls, each request is one AgentToServer and each answer one
 * ServerToAgent. The link of such an endpoint outlives its requests: it is registered with the first
 * poll and ends when none came for twice the proof window, so that status, contest and offers work as
 * on a WebSocket.
 *
 * I1 While a poll is under way the link has its connection, between polls none.
 * I2 A poll is answered exactly once: when its message was handled and nothing is awaited from the
 *    database (hf_link_poll_done()).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "tools/portal/conn.h"
#include "tools/portal/fleet.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/router.h"
#include "tools/portal/ws_opamp.h"
#include "userspace/proto/frame.h"

#define PROTOBUF           "application/x-protobuf"
#define EXPIRY_ACCURACY_US 100000

static int on_expiry(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_link *l = HF_CAST(userdata, struct hf_link, HF_LINK_MAGIC);

	(void)source;
	(void)usec;
	if (!l->conn)
		hf_link_on_ended(l, HF_CONN_END_TIMEOUT);
	return 0;
}

static int arm_expiry(struct hf_link *l)
{
	const struct hf_presence_policy policy =
		l->ep ? hf_fleet_policy(l->portal, l->ep) : l->portal->policy;
	uint64_t at_us =
		(hf_now_monotonic_ns() + 2 * hf_presence_proof_window_ns(&policy)) / HF_NS_PER_US;
	int r;

	if (!l->expiry)
		return sd_event_add_time(l->portal->event, &l->expiry, CLOCK_MONOTONIC, at_us,
					 EXPIRY_ACCURACY_US, on_expiry, l);
	r = sd_event_source_set_time(l->expiry, at_us);
	return r < 0 ? r : sd_event_source_set_enabled(l->expiry, SD_EVENT_ONESHOT);
}

void hf_link_poll_done(struct hf_link *l)
{
	struct hf_conn *conn = l->conn;
	struct hf_reply reply = {.status = 200, .type = PROTOBUF};

	if (!l->polling || !conn || l->state == HF_LINK_ENROLLING || l->state == HF_LINK_CONTESTING)
		return;
	if (l->reply.len == 0 && l->state != HF_LINK_CLOSING) {
		Opamp__ServerToAgent nothing = OPAMP__SERVER_TO_AGENT__INIT;

		hf_link_send(l, &nothing);
	}
	l->portal->counters.opamp_sent++;
	reply.body = l->reply.data;
	reply.len = l->reply.len;
	hf_conn_reply(conn, &reply);
	l->reply.len = 0;
	l->conn = hf_conn_unref(conn);
	/* Refused, gone by a goodbye, or nothing can watch over it: this was the last poll. */
	if (l->state == HF_LINK_CLOSING || !l->ep || arm_expiry(l) < 0)
		hf_link_on_ended(l, HF_CONN_END_LOCAL);
}

/* The endpoint's link of earlier polls, if this is its agent. */
static struct hf_link *find_link(struct hf_portal *p, const struct hf_link *l,
				 const Opamp__AgentToServer *m)
{
	struct hf_endpoint *ep;

	if (m->instance_uid.len != HF_ID_SIZE)
		return NULL;
	if (l->credential == HF_CREDENTIAL_TOKEN)
		ep = hf_registry_token_live(p->registry, l->token_id, m->instance_uid.data,
					    &p->policy, hf_now_monotonic_ns());
	else
		ep = hf_registry_find(p->registry, l->credential_id);
	if (!ep || !ep->link || !ep->link->polling || ep->link->conn ||
	    memcmp(ep->row.instance_uid, m->instance_uid.data, HF_ID_SIZE) != 0)
		return NULL;
	return ep->link;
}

static void poll(struct hf_portal *p, struct hf_request *rq, struct hf_link *fresh)
{
	_cleanup_pb_ Opamp__AgentToServer *m = NULL;
	struct hf_link *l;

	p->counters.opamp_received++;
	if (hf_pb_unpack(&opamp__agent_to_server__descriptor, rq->msg->body, rq->msg->body_len,
			 &m) < 0) {
		p->counters.opamp_bad++;
		hf_reply_problem(rq->conn, 400, "malformed", "the body is not an OpAMP message");
		free(fresh);
		return;
	}
	l = find_link(p, fresh, m);
	if (l)
		free(fresh);
	else
		l = fresh;
	l->conn = hf_conn_ref(rq->conn);
	hf_link_take_message(l, &m);
	hf_link_poll_done(l);
}

void hf_opamp_post(struct hf_portal *p, struct hf_request *rq)
{
	const char *type = hf_http_header(rq->msg, "Content-Type");
	const char *encoding = hf_http_header(rq->msg, "Content-Encoding");
	struct hf_link *l;

	if (!type || !hf_streq(type, PROTOBUF) || encoding) {
		hf_reply_problem(rq->conn, 415, "media_type",
				 "the body must be " PROTOBUF " without a content coding");
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		hf_reply_error(rq->conn, -ENOMEM, "take the message");
		return;
	}
	l->magic = HF_LINK_MAGIC;
	l->portal = p;
	l->polling = true;
	if (hf_link_admit(p, rq, l))
		poll(p, rq, l);
	else
		free(l);
}
