/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.Event as JSON: `holdfast events --json`, the portal's GET /events. Flat: the keys of DESIGN
 * section 10 are always there, null when the event has no such thing; then what its kind adds.
 * Text that is not UTF-8 has the bad bytes replaced. Silent, any thread, no state.
 */
#pragma once

#include <jansson.h>

#include "bus.pb-c.h"

/* For json_dumps(): 0.3 is written 0.3, not 0.29999999999999999. */
#define HF_JSON_FLAGS (JSON_COMPACT | JSON_REAL_PRECISION(15))

/* New reference; NULL on ENOMEM. */
json_t *hf_event_json(const Bus__Event *e);

/*
 * For the other writers of JSON. hf_json_put() takes over value; when it is NULL (ENOMEM) *o is
 * freed and NULL, and every later put is a no-op: a writer checks once, by returning o.
 */
void hf_json_put(json_t **o, const char *key, json_t *value);
void hf_json_append(json_t **array, json_t *value);
/* New references; NULL on ENOMEM. */
json_t *hf_json_time(uint64_t unix_ns);  /* RFC 3339, nanoseconds, UTC; 0 is null */
json_t *hf_json_string(const char *s);   /* NULL and "" are null */
json_t *hf_json_u64(uint64_t v);         /* 0 is 0 */
json_t *hf_json_u64_or_null(uint64_t v); /* 0 is null */
json_t *hf_json_us_as_ms(uint64_t us);   /* with fraction */
json_t *hf_json_ms_as_s(uint64_t ms);    /* with fraction */
