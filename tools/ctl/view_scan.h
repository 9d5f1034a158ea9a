/* SPDX-License-Identifier: Apache-2.0 */
/* A scan's result for people. Pure. */
#pragma once

#include <jansson.h>

#include "tools/ctl/term.h"

/* The findings, the worst first, and what was not looked at. */
void hf_view_scan(const struct hf_term *t, const json_t *result);
/* Is there a finding that is high or critical (told or left out)? */
bool hf_view_scan_is_bad(const json_t *result);
