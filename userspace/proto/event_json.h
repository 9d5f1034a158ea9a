/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.Event as JSON: `holdfast events --json`, the portal's GET /events. Flat: the keys of DESIGN
 * section 10 are always there, null when the event has no such thing; then what its kind adds.
 * Text that is not UTF-8 has the bad bytes replaced. Silent, any thread, no state.
 */
#pragma once

#include <jansson.h>

#include "bus.pb-c.h"

/* New reference; NULL on ENOMEM. */
json_t *hf_event_json(const Bus__Event *e);

/* For the other writers of JSON: null for 0, NULL and "". New references; NULL on ENOMEM. */
json_t *hf_json_time(uint64_t unix_ns);  /* RFC 3339, nanoseconds, UTC */
json_t *hf_json_string(const char *s);   /* bad UTF-8 replaced by U+FFFD */
json_t *hf_json_u64(uint64_t v);         /* 0 is 0 */
json_t *hf_json_u64_or_null(uint64_t v); /* 0 is null */
json_t *hf_json_ms(uint64_t us);         /* milliseconds with fraction */
