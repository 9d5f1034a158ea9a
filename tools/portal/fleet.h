/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The endpoints at work: registry and presence rule tied to timers, database and event stream.
 * Every change of status goes through hf_fleet_judge(), is logged, written at once and published.
 * One loop thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "tools/portal/registry.h"

struct hf_conn;
struct hf_portal;
struct hf_fleet;

/* Loads all endpoints and starts the sweep. */
int hf_fleet_new(struct hf_portal *p, struct hf_fleet **ret, struct hf_err *err);
struct hf_fleet *hf_fleet_free(struct hf_fleet *f);
HF_DEFINE_CLEANUP(struct hf_fleet *, hf_fleet_free);

/* Takes on an endpoint that was just stored. *ret borrowed. */
int hf_fleet_add(struct hf_portal *p, const struct hf_endpoint_row *row, struct hf_endpoint **ret);
/* Closes its link and forgets it; the database's part is the caller's. */
void hf_fleet_remove(struct hf_portal *p, struct hf_endpoint *ep);

/* Judges anew: on a change logs, stores, publishes; arms the timer for the next due time. */
void hf_fleet_judge(struct hf_portal *p, struct hf_endpoint *ep);
/* Something that the list shows changed: publishes it. */
void hf_fleet_publish(struct hf_portal *p, struct hf_endpoint *ep);
/* Writes the endpoint's row when the writer gets to it. */
void hf_fleet_save(struct hf_portal *p, struct hf_endpoint *ep);
/* The portal's policy with the endpoint's own heartbeat interval. */
struct hf_presence_policy hf_fleet_policy(const struct hf_portal *p, const struct hf_endpoint *ep);
/* What was offered and what became of it; null. */
json_t *hf_offer_json(const struct hf_offer_row *o);
/* The quarantine is lifted in the database: whoever comes next is the endpoint. */
void hf_fleet_clear_clone(struct hf_portal *p, struct hf_endpoint *ep);
/* The authorization that the database has now: tells the endpoint, closes revoked links. */
void hf_fleet_apply_authorization(struct hf_portal *p, struct hf_endpoint *ep,
				  enum hf_authorization a, const char *actor, uint64_t at_ns);
/* last_seen of those that changed: at the sweep and at the end. */
void hf_fleet_flush_seen(struct hf_portal *p);

/* Keeps it as the last outage unless it is older than the one known. */
void hf_endpoint_set_outage(struct hf_endpoint *ep, const struct hf_outage_row *row);

void hf_fleet_count(struct hf_portal *p, size_t counts[static _HF_STATUS_MAX]);
/* The object of DESIGN section 10. New reference; NULL on ENOMEM. */
json_t *hf_endpoint_json(struct hf_portal *p, const struct hf_endpoint *ep);
