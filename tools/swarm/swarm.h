/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-swarm: many simulated endpoints in one process against one portal. TLS, WebSocket, OpAMP
 * and backoff are the agent's own modules; what an endpoint would say of a host is made up. One loop
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"
#include "userspace/net/http.h"

typedef struct sd_event sd_event;

struct hf_sim;
struct hf_tls_context;

#define HF_SWARM_BUCKET_MS 100u
#define HF_SWARM_BUCKETS   36000u /* an hour; what comes later is counted in the last one */
#define HF_SWARM_MAX       50000u /* endpoints: a process has 65535 ports to one address */

struct hf_swarm_options {
	unsigned count;
	const char *url;
	const char *ca_file;
	const char *token;     /* NULL: identities are in state_dir already */
	const char *state_dir; /* keys and certificates; NULL: own headers, one TLS context */
	const char *environment;
	unsigned start_per_s; /* first dials */
	unsigned immediate_per_minute;
	unsigned heartbeat_s;       /* 0: the portal's */
	unsigned events_per_minute; /* telemetry of each endpoint */
	unsigned duration_s;        /* 0: until a signal */
	bool json;
};

struct hf_swarm_stats {
	uint64_t dials, refused, connected, handshakes, resumed, onlines, losses, holds, enrolled;
	uint64_t heartbeats, missed, events, acked, superseded, errors;
	/* By the moment the backoff had chosen, so that a busy machine draws no peaks of its own. */
	uint32_t dials_at[HF_SWARM_BUCKETS];
	uint32_t arrivals_at[HF_SWARM_BUCKETS]; /* those that the portal's host took */
	uint32_t onlines_at[HF_SWARM_BUCKETS];  /* welcomed */
};

struct hf_swarm {
	struct hf_swarm_options o;
	sd_event *event;
	struct hf_url url;
	struct sockaddr_storage address;
	socklen_t address_len;
	struct hf_tls_context *tls; /* shared; NULL with certificates */
	struct hf_sim **sims;
	unsigned online;
	bool all_online, stopping;
	uint64_t started_ns;
	struct hf_swarm_stats stats;
};

/* ---- report.c ------------------------------------------------------------------------------- */
void hf_swarm_count(struct hf_swarm *s, uint32_t *buckets, uint64_t at_ns);
/* An endpoint was welcomed or lost: tells when all of them are there, and when the first is lost. */
void hf_swarm_online(struct hf_swarm *s, int delta);
void hf_swarm_report(struct hf_swarm *s);

/* ---- identity.c ----------------------------------------------------------------------------- */
/* "<state_dir>/<index>.<suffix>" */
void hf_swarm_path(const struct hf_swarm *s, unsigned index, const char *suffix, char *dst,
		   size_t size);
/* Makes the key unless it is there; appends a PEM request. */
int hf_swarm_csr(const struct hf_swarm *s, unsigned index, struct hf_buf *ret, struct hf_err *err);
int hf_swarm_store_cert(const struct hf_swarm *s, unsigned index, const void *pem, size_t len);
bool hf_swarm_has_cert(const struct hf_swarm *s, unsigned index);

/* ---- sim.c ---------------------------------------------------------------------------------- */
/* Dials first after delay_ns. */
int hf_sim_new(struct hf_swarm *s, unsigned index, uint64_t delay_ns, struct hf_sim **ret);
struct hf_sim *hf_sim_free(struct hf_sim *m);
