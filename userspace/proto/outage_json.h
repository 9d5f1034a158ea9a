/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.Outage and its parts as JSON: `holdfast outages --json`, the portal's GET /outages, and
 * "last_outage". Absent things are null. Silent, any thread, no state.
 */
#pragma once

#include <jansson.h>

#include "bus.pb-c.h"

/* {"id","began","detected_at","restored","cause","detected_by","detail","detect_ms","outage_ms",
 * "attempts_total","session_epoch","evidence":{…},"attempts":[…],"telemetry_gap"}.
 * New references; NULL on ENOMEM; json null for a NULL argument. */
json_t *hf_outage_json(const Bus__Outage *o);
json_t *hf_attempt_json(const Bus__Attempt *a);
json_t *hf_evidence_json(const Bus__Evidence *e);
json_t *hf_exit_record_json(const Bus__ExitRecord *x);
