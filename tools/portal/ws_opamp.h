/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OpAMP session of one endpoint over one WebSocket (struct hf_link): admission, enrolment,
 * registration, heartbeats, telemetry. One loop thread.
 */
#pragma once

#include "tools/portal/registry.h"

struct hf_request;
struct hf_portal;

/* GET HF_OPAMP_PATH: admits and upgrades, or refuses with a status and Holdfast-Cause. */
void hf_opamp_upgrade(struct hf_portal *p, struct hf_request *rq);

/* POST HF_OPAMP_PATH: one message, one answer. */
void hf_opamp_post(struct hf_portal *p, struct hf_request *rq);

/* Tells the endpoint at once; closes the link of a revoked one. */
void hf_link_authorization_changed(struct hf_link *link);
/* Asks its peer for a sign of life. */
void hf_link_ping(struct hf_link *link);
/* Another link took over: close 4001. */
void hf_link_superseded(struct hf_link *link);
/* The endpoint was deleted: close as revoked. */
void hf_link_forget_endpoint(struct hf_link *link);
/* Cuts the connection: by a TCP reset, or by a close frame 1012. */
void hf_link_cut(struct hf_link *link, bool reset);
