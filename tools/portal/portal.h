/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The portal process: what its modules share. Made once by main.c, parts start in the order of its
 * table and end in reverse. Everything but the writer's jobs runs in the loop's thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "base/ratelimit.h"
#include "holdfast/action.h"
#include "holdfast/config.h"
#include "tools/portal/presence.h"
#include "tools/portal/store.h"

typedef struct sd_event sd_event;
typedef struct sd_event_source sd_event_source;

/* Counted where it happens, shown by metrics.c. */
struct hf_counters {
	uint64_t accepted, accept_refused, accept_failed;
	uint64_t handshakes_ok, handshakes_failed, handshakes_timed_out;
	uint64_t requests[6]; /* by status class: [2] is 2xx … */
	uint64_t bad_requests, header_timeouts;
	uint64_t ws_opened, ws_closed, ws_violations, ws_timeouts;
	uint64_t opamp_received, opamp_sent, opamp_bad;
	uint64_t heartbeats;
	uint64_t enrolled, enroll_refused, certificates_issued;
	uint64_t links_made, links_lost, links_superseded, links_stale, links_clone, links_goodbye;
	uint64_t events_stored, events_duplicate, events_gap, batches, batches_refused;
	uint64_t outages_stored, outages_duplicate;
	uint64_t auth_failed, rate_limited, overload_refused;
	uint64_t sse_dropped;
	uint64_t transitions[_HF_STATUS_MAX];
	uint64_t actions_made, actions_sent, actions_over[_HF_ACTION_STATE_MAX];
};

struct hf_portal {
	sd_event *event;
	struct hf_portal_config config;
	char config_path[64];
	char state_dir[64];
	int state_fd; /* the state directory */
	char public_url[300];
	struct hf_presence_policy policy;
	uint64_t started_ns; /* monotonic */
	uint64_t started_unix_ns;
	bool stopping;

	struct hf_writer *writer;
	struct hf_store *store; /* the loop's reading connection */
	struct hf_registry *registry;
	struct hf_ca *ca;
	struct hf_tls_context *tls;
	/* Replaced ones whose streams may still live; each lasted the better part of a year. */
	struct hf_tls_context *old_tls[8];
	size_t n_old_tls;
	sd_event_source *certificate_check;
	struct hf_auth *auth;
	struct hf_hub *hub;
	struct hf_fleet *fleet;
	struct hf_actions *actions;
	struct hf_server *server;
	struct hf_counters counters;
};
