/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `holdfast status --json` and `holdfast component … --json`, the shapes of DESIGN section 10.
 * Silent, any thread, no state.
 */
#pragma once

#include <jansson.h>

#include "bus.pb-c.h"

/*
 * The whole document. A daemon that did not answer is NULL and has its error text, which becomes
 * {"error":"…"} in its place (and for "telemetry", which is the agent's). New reference; NULL on
 * ENOMEM.
 */
json_t *hf_status_json(const Bus__AgentStatus *agent, const char *agent_error,
		       const Bus__WatchdogStatus *watchdog, const char *watchdog_error);
json_t *hf_component_json(const Bus__Component *c);
