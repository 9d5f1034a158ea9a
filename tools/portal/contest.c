/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A newcomer differs from who holds the endpoint (clone.h), and the holder seems to live. A host that
 * lost power and booted within the proof window looks the same as a copied disk, so the holder is
 * asked: a ping on its connection. A pong convicts the newcomer; a reset (a rebooted host knows
 * nothing of the old connection), an end or silence for CONTEST_NS gives it the endpoint.
 *
 * I1 One contender per endpoint; a later one takes the waiting place, the earlier is closed.
 * I2 Who is convicted is remembered in the database until an operator authorizes the endpoint anew,
 *    and held for a long time: nobody flaps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "holdfast/session.h"
#include "tools/portal/conn.h"
#include "tools/portal/fleet.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/writer.h"
#include "tools/portal/ws_opamp.h"
#include "userspace/proto/frame.h"

#define CONTEST_NS          (3 * HF_NS_PER_S) /* a ping's answer, as the agent itself allows it */
#define HOLD_RETRY_MS       300000u           /* nothing changes without a person */
#define HOLD_WINDOW_MS      60000u
#define AUDIT_INTERVAL_NS   (3600 * HF_NS_PER_S) /* one line an hour while it keeps trying */
#define CONTEST_ACCURACY_US 10000

struct hf_contest {
	struct hf_link *link;
	struct hf_endpoint *ep;
	sd_event_source *timer;
	Opamp__AgentToServer *message;
	Session__Hello *hello;
	Opamp__ConnectionSettingsOffers *offers;
};

static struct hf_contest *contest_free(struct hf_contest *c)
{
	if (!c)
		return NULL;
	c->timer = sd_event_source_disable_unref(c->timer);
	hf_pb_freep(&c->message);
	hf_pb_freep(&c->hello);
	hf_pb_freep(&c->offers);
	free(c);
	return NULL;
}

/* Takes the contest off its link and endpoint; the caller frees it. */
static struct hf_contest *detach(struct hf_link *l)
{
	struct hf_contest *c = l->contest;

	if (!c)
		return NULL;
	hf_assert(c->ep->contender == l);
	c->ep->contender = NULL;
	l->contest = NULL;
	return c;
}

/* A plain agent with nothing but a token: it has no endpoint yet. */
static bool enrolling(const struct hf_link *l, const struct hf_contest *c)
{
	return l->credential == HF_CREDENTIAL_TOKEN && !c->hello;
}

static void enroll(struct hf_link *l, struct hf_contest *c)
{
	l->state = HF_LINK_ENROLLING;
	hf_enroll_start(l, TAKE_PTR(c->message), NULL);
}

/* The holder is no more: the contender is the endpoint. */
static void win(struct hf_link *l)
{
	struct hf_contest *c = detach(l);

	if (!c)
		return;
	l->uncontested = true;
	l->state = HF_LINK_NEW;
	if (l->conn)
		hf_conn_ws_pause(l->conn, false);
	if (enrolling(l, c))
		enroll(l, c);
	else
		hf_link_go_live(l, c->ep, c->message, c->hello, c->offers);
	(void)contest_free(c);
	hf_link_poll_done(l);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_contest *c = userdata;

	(void)source;
	(void)usec;
	hf_info("Endpoint '%s': the connection in place does not answer, a newer one takes over",
		c->ep->row.name);
	win(c->link);
	return 0;
}

static void start_failed(struct hf_link *l)
{
	hf_link_hold(l, hf_cause_name(HF_CAUSE_PORTAL_OVERLOAD), 5000, 5000, HF_WS_CLOSE_TRY_LATER);
}

void hf_contest_start(struct hf_link *l, struct hf_endpoint *ep, const Opamp__AgentToServer *m,
		      const Session__Hello *hello, const Opamp__ConnectionSettingsOffers *offers)
{
	struct hf_contest *c;

	if (ep->contender) { /* I1 */
		struct hf_link *earlier = ep->contender;

		(void)contest_free(detach(earlier));
		hf_link_superseded(earlier);
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		start_failed(l);
		return;
	}
	c->link = l;
	c->ep = ep;
	c->message = hf_pb_dup((ProtobufCMessage *)&m->base);
	c->hello = hello ? hf_pb_dup((ProtobufCMessage *)&hello->base) : NULL;
	c->offers = offers ? hf_pb_dup((ProtobufCMessage *)&offers->base) : NULL;
	if (!c->message || (hello && !c->hello) || (offers && !c->offers) ||
	    sd_event_add_time_relative(l->portal->event, &c->timer, CLOCK_MONOTONIC,
				       CONTEST_NS / HF_NS_PER_US, CONTEST_ACCURACY_US, on_timeout,
				       c) < 0) {
		(void)contest_free(c);
		start_failed(l);
		return;
	}
	(void)sd_event_source_set_description(c->timer, "contest"); /* only a name */
	l->contest = c;
	l->state = HF_LINK_CONTESTING;
	ep->contender = l;
	hf_conn_ws_pause(l->conn, true);
	hf_link_ping(ep->link);
}

void hf_contest_answered(struct hf_endpoint *ep)
{
	struct hf_link *l = ep->contender;
	struct hf_contest *c;

	if (!l)
		return;
	c = detach(l);
	if (enrolling(l, c)) {
		/* Two agents from one image: the later one is an endpoint of its own. */
		hf_uuid_v7(l->new_uid);
		l->uid_given = true;
		enroll(l, c);
	} else {
		hf_contest_quarantine(l, ep, c->hello);
	}
	(void)contest_free(c);
	hf_link_poll_done(l);
}

void hf_contest_holder_gone(struct hf_endpoint *ep)
{
	if (ep->contender)
		win(ep->contender);
}

void hf_contest_abandon(struct hf_link *l)
{
	(void)contest_free(detach(l));
}

void hf_link_origin(const Session__Hello *hello, struct hf_origin *ret)
{
	*ret = (struct hf_origin){};
	if (!hello)
		return;
	if (hello->machine_id_hash.len == HF_HASH_SIZE)
		memcpy(ret->machine_id_hash, hello->machine_id_hash.data, HF_HASH_SIZE);
	if (hello->boot_id.len == HF_ID_SIZE)
		memcpy(ret->boot_id, hello->boot_id.data, HF_ID_SIZE);
	if (hello->run_id.len == HF_ID_SIZE)
		memcpy(ret->run_id, hello->run_id.data, HF_ID_SIZE);
}

/* ---- quarantine ----------------------------------------------------------------------------- */

struct clone_job {
	struct hf_clone_row row;
	struct hf_audit_row audit;
	bool audited;
};

static int run_clone(struct hf_store *s, void *arg)
{
	const struct clone_job *j = arg;
	int r = hf_store_clone_set(s, &j->row);

	return r == 0 && j->audited ? hf_store_audit_insert(s, &j->audit) : r;
}

static void done_clone(int r, void *arg)
{
	(void)r; /* the writer tells of a full disk; memory holds it meanwhile */
	free(arg);
}

static void store_clone(struct hf_link *l, const struct hf_endpoint *ep, bool audited)
{
	struct clone_job *j = calloc(1, sizeof(*j));

	if (!j)
		return;
	j->row = *ep->clone;
	j->audited = audited;
	j->audit.at_ns = ep->clone->last_ns;
	(void)hf_strlcpy(j->audit.actor, "portal", sizeof(j->audit.actor));
	(void)hf_strlcpy(j->audit.address, hf_conn_address(l->conn), sizeof(j->audit.address));
	(void)hf_strlcpy(j->audit.action, "endpoint.clone_detected", sizeof(j->audit.action));
	hf_uuid_format(ep->row.id, j->audit.object);
	(void)hf_strf(j->audit.detail, sizeof(j->audit.detail), "%s: '%s' at %s uses its identity",
		      ep->row.name, ep->clone->hostname, ep->clone->address);
	if (hf_writer_submit(l->portal->writer, run_clone, done_clone, j, sizeof(*j)) < 0)
		free(j);
}

/* Who it is: true if this is news and not just another try of the same. */
static bool note_clone(struct hf_link *l, struct hf_endpoint *ep, const Session__Hello *hello)
{
	struct hf_clone_row *c = ep->clone;
	struct hf_origin o;
	uint64_t now = hf_now_realtime_ns();
	bool news;

	hf_link_origin(hello, &o);
	news = c->attempts == 0 ||
	       memcmp(c->machine_id_hash, o.machine_id_hash, HF_HASH_SIZE) != 0 ||
	       memcmp(c->boot_id, o.boot_id, HF_ID_SIZE) != 0 ||
	       now > c->last_ns + AUDIT_INTERVAL_NS;
	if (c->attempts == 0)
		c->since_ns = now;
	c->attempts++;
	c->last_ns = now;
	memcpy(c->endpoint, ep->row.id, HF_ID_SIZE);
	memcpy(c->machine_id_hash, o.machine_id_hash, HF_HASH_SIZE);
	memcpy(c->boot_id, o.boot_id, HF_ID_SIZE);
	memcpy(c->run_id, o.run_id, HF_ID_SIZE);
	(void)hf_strlcpy(c->address, hf_conn_address(l->conn), sizeof(c->address));
	(void)hf_strlcpy(c->hostname, hello ? hello->hostname : "", sizeof(c->hostname));
	/* A cut may have split a character. */
	while (*c->hostname && !hf_utf8_valid(c->hostname, strlen(c->hostname)))
		c->hostname[strlen(c->hostname) - 1] = '\0';
	hf_sanitize(c->hostname);
	return news;
}

void hf_contest_quarantine(struct hf_link *l, struct hf_endpoint *ep, const Session__Hello *hello)
{
	struct hf_portal *p = l->portal;
	bool news;

	p->counters.links_clone++;
	if (!ep->clone)
		ep->clone = calloc(1, sizeof(*ep->clone));
	if (ep->clone) {
		news = note_clone(l, ep, hello);
		if (news)
			hf_warn("Endpoint '%s': '%s' at %s uses its identity too and is held",
				ep->row.name, ep->clone->hostname, ep->clone->address);
		store_clone(l, ep, news);
		ep->presence.clone = true;
		if (!ep->link)
			(void)hf_strlcpy(ep->presence.lost, hf_cause_name(HF_CAUSE_CLONE_DETECTED),
					 sizeof(ep->presence.lost));
		hf_fleet_judge(p, ep);
		hf_fleet_publish(p, ep);
	}
	hf_link_hold(l, hf_cause_name(HF_CAUSE_CLONE_DETECTED), HOLD_RETRY_MS, HOLD_WINDOW_MS,
		     HF_WS_CLOSE_POLICY);
}
