/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All endpoints in memory, and which connection speaks for each: identity → link + epoch. Presence
 * lives here; the database keeps what must survive a restart (store.h). One loop thread; silent.
 *
 * I1 At most one link per endpoint. A newcomer with a higher epoch wins.
 * I2 A link leaves by (link, epoch): the old connection's end never unregisters the new one.
 * I3 Heartbeats are answered from here, so that an endpoint learns when we no longer know it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "tools/portal/clone.h"
#include "tools/portal/presence.h"
#include "tools/portal/store.h"

struct hf_registry;
struct hf_link; /* opaque: the session that registered */
struct hf_act;
typedef struct sd_event_source sd_event_source;

#define HF_COMPONENTS_MAX 8 /* agent, watchdog, workers; more would not fit a row of the page */

struct hf_component_info {
	char name[24], version[32], state[16];
	uint64_t restarts;
};

#define HF_HEALTH_MAX \
	32 /* nodes of an agent's health tree; a collector has one per pipeline part */

/* One node of the tree that an agent reports; node 0 is the agent itself. */
struct hf_health_node {
	char name[48];
	int parent; /* index, -1 for node 0 */
	bool healthy;
	uint64_t start_ns;
	char status[48], error[160];
};

struct hf_outage_info {
	uint8_t id[HF_ID_SIZE];
	uint64_t began_ns, detected_ns, restored_ns;
	uint64_t detect_us, outage_us;
	char cause[32], detected_by[16], detail[192];
};

struct hf_endpoint {
	struct hf_endpoint_row row;
	struct hf_presence presence;
	struct hf_verdict verdict;
	struct hf_link *link; /* NULL: none */
	uint64_t epoch;       /* of the link, or the last one's */
	char remote[64];      /* address the link comes from */
	char tls_version[16];
	uint32_t rtt_us;
	uint64_t lost_events;
	bool sequence_known; /* OpAMP sequence number of its last message, for gaps */
	uint64_t sequence;
	bool has_outage;
	struct hf_outage_info outage;
	unsigned n_components;
	struct hf_component_info
		*components; /* HF_COMPONENTS_MAX of them, allocated on first use */
	unsigned n_health;
	struct hf_health_node *health; /* HF_HEALTH_MAX of them, allocated on first use */
	bool config_known;             /* the database has its effective configuration */
	bool full_state_wanted;        /* a gap was seen; the next answer says so */
	uint8_t config_hash[HF_HASH_SIZE];
	struct hf_offer_row *offer; /* connection settings for it; NULL: none */
	uint8_t offer_hash[HF_HASH_SIZE];
	uint64_t seen_saved_ns;     /* last_seen as the database has it */
	struct hf_origin holder;    /* who has it, or had it last */
	struct hf_clone_row *clone; /* who else came with its identity; NULL: nobody */
	struct hf_link *contender;  /* waits until the holder has answered or not (contest.c) */
	sd_event_source *due;       /* the owner's timer (fleet.c) */
	struct hf_act *actions;     /* that are not over (action.c) */
	struct hf_endpoint *hash_next;
};

int hf_registry_new(struct hf_registry **ret);
struct hf_registry *hf_registry_free(struct hf_registry *r);
HF_DEFINE_CLEANUP(struct hf_registry *, hf_registry_free);

/* *ret borrowed; stays valid until removed. -EEXIST, -ENOMEM. */
int hf_registry_add(struct hf_registry *g, const struct hf_endpoint_row *row,
		    struct hf_endpoint **ret);
void hf_registry_remove(struct hf_registry *g, struct hf_endpoint *ep);
struct hf_endpoint *hf_registry_find(struct hf_registry *g, const uint8_t id[static HF_ID_SIZE]);
size_t hf_registry_count(const struct hf_registry *g);

/* Another endpoint than but with a link and this instance uid; NULL: none. Looks at each. */
struct hf_endpoint *hf_registry_uid_taken(struct hf_registry *g,
					  const uint8_t uid[static HF_ID_SIZE],
					  const struct hf_endpoint *but);
/* Who enrolled with this token under this uid and has a link that lives; NULL: nobody. */
struct hf_endpoint *hf_registry_token_live(struct hf_registry *g, const char *token_id,
					   const uint8_t uid[static HF_ID_SIZE],
					   const struct hf_presence_policy *policy,
					   uint64_t now_ns);

/* Sorted by (name, id), so that a cursor stays true while rows come and go. */
struct hf_endpoint *hf_registry_at(struct hf_registry *g, size_t i);
/* Index of the first endpoint behind (name, id). */
size_t hf_registry_after(struct hf_registry *g, const char *name,
			 const uint8_t id[static HF_ID_SIZE]);
/* Gives it a new name and its new place. */
int hf_registry_rename(struct hf_registry *g, struct hf_endpoint *ep, const char *name);

enum hf_link_result {
	HF_LINK_OK,
	HF_LINK_STALE,     /* an older connection of the same process arrived late: close it 4001 */
	HF_LINK_CONTESTED, /* differs from a holder that seems to live: ask that one first */
	HF_LINK_CLONE,     /* another machine with the same identity */
};

struct hf_link_claim {
	struct hf_link *link;
	uint64_t epoch; /* 0: a plain OpAMP agent has none, the newest wins */
	struct hf_origin origin;
	bool uncontested; /* the holder was asked and did not answer */
};

/*
 * Registers the claim if it wins. *ret_old is the link that lost its place (NULL: none); the caller
 * closes it 4001. The endpoint's epoch is then the claim's, or one more than before for epoch 0.
 */
enum hf_link_result hf_registry_link(struct hf_endpoint *ep, const struct hf_link_claim *claim,
				     const struct hf_presence_policy *policy, uint64_t now_ns,
				     struct hf_link **ret_old);
/*
 * Only if link still is the endpoint's (I2); true then. reason: see presence.h. witnessed: the peer
 * itself ended the connection (FIN, RST, close frame), so that it was alive until now_ns; a timeout
 * proves nothing and the offline limit runs from the last proof.
 */
bool hf_registry_unlink(struct hf_endpoint *ep, struct hf_link *link, const char *reason,
			bool witnessed, uint64_t now_ns);
/* A clean goodbye: the link is no longer registered and its end changes nothing. */
bool hf_registry_goodbye(struct hf_endpoint *ep, struct hf_link *link, const char *cause,
			 uint64_t now_ns);
/* The link's peer showed that it lives. */
void hf_registry_proof(struct hf_endpoint *ep, struct hf_link *link, uint64_t now_ns,
		       uint64_t unix_ns);
