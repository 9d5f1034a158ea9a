/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers of the router's table, one file per resource, and what they share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "tools/portal/router.h"
#include "tools/portal/store.h"

/* api_endpoints.c */
void hf_api_endpoints_list(struct hf_portal *p, struct hf_request *rq);
void hf_api_endpoint_get(struct hf_portal *p, struct hf_request *rq);
void hf_api_endpoint_patch(struct hf_portal *p, struct hf_request *rq);
void hf_api_endpoint_delete(struct hf_portal *p, struct hf_request *rq);
void hf_api_endpoint_authorize(struct hf_portal *p, struct hf_request *rq);
void hf_api_endpoint_suspend(struct hf_portal *p, struct hf_request *rq);
void hf_api_endpoint_revoke(struct hf_portal *p, struct hf_request *rq);
void hf_api_endpoint_disconnect(struct hf_portal *p, struct hf_request *rq);
/* offer.c */
void hf_api_connection_set(struct hf_portal *p, struct hf_request *rq);
void hf_api_connection_clear(struct hf_portal *p, struct hf_request *rq);
void hf_api_endpoint_config(struct hf_portal *p, struct hf_request *rq);
/* api_endpoints.c */
void hf_api_fleet(struct hf_portal *p, struct hf_request *rq);
/* api_tokens.c */
void hf_api_tokens_list(struct hf_portal *p, struct hf_request *rq);
void hf_api_tokens_create(struct hf_portal *p, struct hf_request *rq);
void hf_api_token_revoke(struct hf_portal *p, struct hf_request *rq);
/* api_telemetry.c */
void hf_api_events_list(struct hf_portal *p, struct hf_request *rq);
void hf_api_outages_list(struct hf_portal *p, struct hf_request *rq);
void hf_api_audit_list(struct hf_portal *p, struct hf_request *rq);
/* api_session.c */
void hf_api_session_open(struct hf_portal *p, struct hf_request *rq);
void hf_api_session_get(struct hf_portal *p, struct hf_request *rq);
void hf_api_session_close(struct hf_portal *p, struct hf_request *rq);
void hf_api_stream(struct hf_portal *p, struct hf_request *rq);
/* api_actions.c */
void hf_api_action_create(struct hf_portal *p, struct hf_request *rq);
void hf_api_endpoint_actions(struct hf_portal *p, struct hf_request *rq);
void hf_api_actions_list(struct hf_portal *p, struct hf_request *rq);
void hf_api_action_get(struct hf_portal *p, struct hf_request *rq);
void hf_api_action_artifact(struct hf_portal *p, struct hf_request *rq);
void hf_api_action_cancel(struct hf_portal *p, struct hf_request *rq);
void hf_api_action_key_get(struct hf_portal *p, struct hf_request *rq);
void hf_api_action_key_rotate(struct hf_portal *p, struct hf_request *rq);
/* api_system.c */
void hf_api_healthz(struct hf_portal *p, struct hf_request *rq);
void hf_api_readyz(struct hf_portal *p, struct hf_request *rq);
void hf_api_about(struct hf_portal *p, struct hf_request *rq);
/* openapi.c */
void hf_api_openapi(struct hf_portal *p, struct hf_request *rq);
/* metrics.c */
void hf_api_metrics(struct hf_portal *p, struct hf_request *rq);
/* ui.c */
void hf_ui_asset(struct hf_portal *p, struct hf_request *rq);

/* ---- shared (api.c) ------------------------------------------------------------------------- */
#define HF_LIST_LIMIT_DEFAULT 100u
#define HF_LIST_LIMIT_MAX     1000u

/* The body as a JSON object; answers 400 and returns NULL otherwise. Without a body: {}. */
json_t *hf_api_body(struct hf_request *rq);
/*
 * Query parameter: 1 present (dst filled), 0 absent, answers 400 and returns -EINVAL when it is
 * malformed or too long.
 */
int hf_api_query(struct hf_request *rq, const char *key, char *dst, size_t size);
/* limit= with its default and cap; answers 400 and returns -EINVAL. */
int hf_api_limit(struct hf_request *rq, unsigned *ret);
/* A time: RFC 3339, or a duration before now ("15m"). As hf_api_query(). */
int hf_api_since(struct hf_request *rq, const char *key, uint64_t *ret_ns);
/* id as a UUID. As hf_api_query(). */
int hf_api_query_id(struct hf_request *rq, const char *key, uint8_t ret[static HF_ID_SIZE]);
/* {"items":[…],"next":cursor|null}. Consumes items. next NULL or "": no more. */
void hf_api_list(struct hf_request *rq, json_t *items, const char *next);
/* Fills who, from where, when; action and object are the caller's. */
void hf_api_audit_row(const struct hf_request *rq, const char *action, const char *object,
		      struct hf_audit_row *ret);
