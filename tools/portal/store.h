/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The portal's database: one SQLite file in WAL mode. A struct hf_store is one connection with its
 * prepared statements and belongs to one thread; the loop has one for reading, the writer thread
 * (writer.h) has the only one that writes while the portal runs. Functions here are synchronous,
 * silent, and return 0 or -errno: -ENOSPC disk full, -EBUSY locked beyond the busy timeout, -EEXIST
 * constraint, -EUCLEAN damaged file, -ENOENT no such row.
 *
 * All times are Unix nanoseconds, all ids are 16 raw bytes. Strings in structs are NUL-terminated
 * and cut to their field; what a peer sent was validated as UTF-8 before.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/random.h"

#define HF_ID_SIZE   16
#define HF_HASH_SIZE 32

struct hf_store;

enum hf_store_mode { HF_STORE_READ, HF_STORE_WRITE };

/* WRITE creates the file (0600), migrates it to this version's schema; refuses a newer one. */
int hf_store_open(const char *path, enum hf_store_mode mode, struct hf_store **ret,
		  struct hf_err *err);
struct hf_store *hf_store_close(struct hf_store *s);
HF_DEFINE_CLEANUP(struct hf_store *, hf_store_close);

/* The text of the last failure on this connection; borrowed until the next call. */
const char *hf_store_error(const struct hf_store *s);
unsigned hf_store_schema_version(void);

int hf_store_begin(struct hf_store *s);
int hf_store_commit(struct hf_store *s);
void hf_store_rollback(struct hf_store *s);
int hf_store_savepoint(struct hf_store *s);
int hf_store_savepoint_release(struct hf_store *s);
void hf_store_savepoint_undo(struct hf_store *s);
/* A write that must succeed when the disk takes writes again; for /readyz. */
int hf_store_probe(struct hf_store *s);
/* Reads one row: the read side of /readyz. */
int hf_store_ping(struct hf_store *s);

/* ---- meta: key and value -------------------------------------------------------------------- */
int hf_store_meta_get(struct hf_store *s, const char *key, char *dst, size_t size);
int hf_store_meta_set(struct hf_store *s, const char *key, const char *value);

/* ---- endpoints ------------------------------------------------------------------------------ */
enum hf_authorization {
	HF_AUTH_PENDING,
	HF_AUTH_AUTHORIZED,
	HF_AUTH_SUSPENDED,
	HF_AUTH_REVOKED,
	_HF_AUTH_MAX,
};

const char *hf_authorization_name(enum hf_authorization a);
int hf_authorization_from_name(const char *name);

#define HF_ENDPOINT_ADDRESSES 8 /* as many as a list row can show; the rest is in the session */

/* What is kept of an endpoint between connections and over a restart. */
struct hf_endpoint_row {
	uint8_t id[HF_ID_SIZE];
	uint8_t instance_uid[HF_ID_SIZE];
	enum hf_authorization authorization;
	uint64_t authorization_changed_ns;
	char authorization_by[64]; /* actor of the last change */
	char name[96];
	char hostname[96];
	char environment[32];
	char group[64];
	char version[48];
	char os[32], arch[16], distro[64], kernel[64], kernel_assist[16];
	char addresses[HF_ENDPOINT_ADDRESSES][46];
	uint8_t key_hash[HF_HASH_SIZE];    /* SHA-256 of the certificate's SubjectPublicKeyInfo */
	uint8_t bearer_hash[HF_HASH_SIZE]; /* of its own header secret */
	bool has_key, has_bearer;
	bool credential_seen; /* it came back with its own certificate or header */
	char token_id[17];    /* the enrolment token it came with */
	uint8_t machine_id_hash[HF_HASH_SIZE];
	uint8_t boot_id[HF_ID_SIZE];
	uint64_t epoch; /* highest connection epoch seen */
	int64_t clock_offset_ms;
	uint64_t cert_expires_ns;
	uint64_t created_ns;
	uint64_t last_seen_ns; /* 0: never connected */
	char status[24];       /* at the last transition */
	char reason[48];
	uint64_t status_since_ns;
};

int hf_store_endpoint_insert(struct hf_store *s, const struct hf_endpoint_row *row);
/* Everything but id, created_ns and the credentials. -ENOENT. */
int hf_store_endpoint_update(struct hf_store *s, const struct hf_endpoint_row *row);
int hf_store_endpoint_get(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			  struct hf_endpoint_row *ret);
/* Deleted endpoints keep a tombstone: their certificate stays refused. */
int hf_store_endpoint_delete(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			     uint64_t now_ns);
int hf_store_endpoint_by_key(struct hf_store *s, const uint8_t hash[static HF_HASH_SIZE],
			     struct hf_endpoint_row *ret);
/* The endpoint that enrolled with this token and has no credential of its own. */
int hf_store_endpoint_by_token(struct hf_store *s, const char *token_id,
			       const uint8_t uid[static HF_ID_SIZE], struct hf_endpoint_row *ret);
int hf_store_endpoint_set_cert(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			       const uint8_t hash[static HF_HASH_SIZE], uint64_t expires_ns);
int hf_store_endpoint_set_bearer(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
				 const uint8_t hash[static HF_HASH_SIZE]);
int hf_store_endpoint_credential_seen(struct hf_store *s, const uint8_t id[static HF_ID_SIZE]);
int hf_store_endpoint_seen(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			   uint64_t seen_ns);
/* Calls fn for each that is not deleted; a negative result stops and is returned. */
int hf_store_endpoints(struct hf_store *s, int (*fn)(const struct hf_endpoint_row *row, void *arg),
		       void *arg);
int hf_store_transition(struct hf_store *s, const uint8_t id[static HF_ID_SIZE], uint64_t at_ns,
			const char *status, const char *reason);

/* ---- clones: who else came with an endpoint's identity -------------------------------------- */
struct hf_clone_row {
	uint8_t endpoint[HF_ID_SIZE];
	uint64_t since_ns, last_ns;
	uint64_t attempts;
	char address[64];
	char hostname[96];
	/* As its Hello told; zeros: not told. */
	uint8_t machine_id_hash[HF_HASH_SIZE];
	uint8_t boot_id[HF_ID_SIZE];
	uint8_t run_id[HF_ID_SIZE];
};

/* One per endpoint: inserts or replaces. */
int hf_store_clone_set(struct hf_store *s, const struct hf_clone_row *row);
int hf_store_clone_clear(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE]);
int hf_store_clones(struct hf_store *s, int (*fn)(const struct hf_clone_row *row, void *arg),
		    void *arg);

/* ---- effective configurations, masked ------------------------------------------------------- */
struct hf_config_row {
	char name[64];
	char type[48];
	uint64_t changed_ns;
	uint64_t masked;  /* values replaced by *** */
	const char *body; /* UTF-8; borrowed during the callback or the insert */
	size_t len;
};

/* Replaces all of the endpoint's: an effective configuration is always told whole. */
int hf_store_config_set(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			const struct hf_config_row *rows, size_t n);
int hf_store_config_get(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			int (*fn)(const struct hf_config_row *row, void *arg), void *arg);
/* Calls fn with each endpoint that has one. */
int hf_store_config_owners(struct hf_store *s, int (*fn)(const uint8_t *endpoint, void *arg),
			   void *arg);

/* ---- connection settings offered to endpoints ----------------------------------------------- */
#define HF_DESTINATION_MAX 256

enum hf_offer_state {
	HF_OFFER_WAITING, /* not sent yet */
	HF_OFFER_SENT,
	HF_OFFER_APPLYING, /* the endpoint's words from here on */
	HF_OFFER_APPLIED,
	HF_OFFER_FAILED,
	_HF_OFFER_MAX,
};

struct hf_offer_row {
	uint8_t endpoint[HF_ID_SIZE];
	uint64_t heartbeat_s;                 /* 0: the portal's */
	char destination[HF_DESTINATION_MAX]; /* "": unchanged */
	uint64_t offered_ns, changed_ns;
	enum hf_offer_state state;
	char error[128];
};

int hf_store_offer_set(struct hf_store *s, const struct hf_offer_row *row);
int hf_store_offer_clear(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE]);
int hf_store_offers(struct hf_store *s, int (*fn)(const struct hf_offer_row *row, void *arg),
		    void *arg);

/* ---- enrolment tokens ----------------------------------------------------------------------- */
struct hf_token_row {
	char id[17]; /* 16 hex digits */
	char name[64];
	uint8_t secret_hash[HF_HASH_SIZE];
	uint64_t created_ns, expires_ns, revoked_ns, last_used_ns;
	uint64_t max_uses; /* 0: any number */
	uint64_t used;
	char group[64];
	char creator[64];
	bool pre_authorize;
};

int hf_store_token_insert(struct hf_store *s, const struct hf_token_row *row);
int hf_store_token_get(struct hf_store *s, const char *id, struct hf_token_row *ret);
int hf_store_token_revoke(struct hf_store *s, const char *id, uint64_t now_ns);
/* Takes one use iff the token is valid at now_ns: one statement, so racers cannot share a use. */
int hf_store_token_reserve(struct hf_store *s, const char *id, uint64_t now_ns);
int hf_store_token_release(struct hf_store *s, const char *id);
/* True if somebody enrolled with it who has not yet shown a credential of their own. */
int hf_store_token_has_unproven(struct hf_store *s, const char *id, bool *ret);
/* Newest first, ids below `before` (empty: all). Returns the number, at most max. */
int hf_store_tokens(struct hf_store *s, const char *before, struct hf_token_row *ret, size_t max);

/* ---- API tokens ----------------------------------------------------------------------------- */
struct hf_api_token_row {
	char id[17];
	char name[64];
	char role[16];
	uint8_t secret_hash[HF_HASH_SIZE];
	uint64_t created_ns, revoked_ns;
};

int hf_store_api_token_insert(struct hf_store *s, const struct hf_api_token_row *row);
/* -ENOENT: there is none. */
int hf_store_api_token_revoke(struct hf_store *s, const char *id, uint64_t now_ns);
int hf_store_api_token_get(struct hf_store *s, const char *id, struct hf_api_token_row *ret);

/* ---- telemetry ------------------------------------------------------------------------------ */
struct hf_event_row {
	uint8_t endpoint[HF_ID_SIZE];
	uint64_t rowid; /* cursor */
	uint64_t stream_epoch, seq;
	uint64_t time_ns;
	char kind[32];
	uint32_t pid;
	char unit[96];
	const uint8_t *packed; /* bus.Event; borrowed during the callback or the insert */
	size_t packed_len;
};

/* 1 stored, 0 was there already: (endpoint, stream epoch, seq) is unique. */
int hf_store_event_insert(struct hf_store *s, const struct hf_event_row *row);

struct hf_event_filter {
	const uint8_t *endpoint; /* NULL: all */
	const char *kind;        /* NULL: all; a prefix when it ends with '.' */
	const char *unit;
	uint32_t pid;                       /* 0: all */
	uint64_t since_ns;                  /* event time, inclusive */
	uint64_t before_time, before_rowid; /* cursor: strictly older than this; 0: none */
	unsigned limit;
};

int hf_store_events(struct hf_store *s, const struct hf_event_filter *f,
		    int (*fn)(const struct hf_event_row *row, void *arg), void *arg);

struct hf_stream_row {
	uint64_t epoch, acked;
};

/* Highest contiguous sequence committed; 0 when the stream is unknown. */
int hf_store_stream_get(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			uint64_t stream_epoch, uint64_t *ret_acked);
int hf_store_stream_set(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			uint64_t stream_epoch, uint64_t acked, uint64_t now_ns);
int hf_store_gap_insert(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			uint64_t stream_epoch, uint64_t first, uint64_t last, const char *reason,
			uint64_t now_ns);

/* ---- outages -------------------------------------------------------------------------------- */
struct hf_outage_row {
	uint8_t id[HF_ID_SIZE];
	uint8_t endpoint[HF_ID_SIZE];
	uint64_t began_ns, detected_ns, restored_ns;
	uint64_t detect_us, outage_us;
	char cause[32];
	char detected_by[16];
	char detail[192];
	const uint8_t *packed; /* bus.Outage; borrowed during the callback or the insert */
	size_t packed_len;
};

/* 1 stored, 0 known already (the same id again changes nothing). */
int hf_store_outage_insert(struct hf_store *s, const struct hf_outage_row *row, uint64_t now_ns);

struct hf_outage_filter {
	const uint8_t *endpoint;
	const char *cause;
	uint64_t since_ns;     /* began at or after */
	uint64_t before_began; /* cursor, with before_id; 0: none */
	const uint8_t *before_id;
	unsigned limit;
};

int hf_store_outages(struct hf_store *s, const struct hf_outage_filter *f,
		     int (*fn)(const struct hf_outage_row *row, void *arg), void *arg);
/* The newest of each endpoint, for the list page after a restart. */
int hf_store_last_outages(struct hf_store *s, int (*fn)(const struct hf_outage_row *row, void *arg),
			  void *arg);

/* ---- actions -------------------------------------------------------------------------------- */
#define HF_IDEMPOTENCY_MAX 129 /* with NUL */

struct hf_action_row {
	uint8_t id[HF_ID_SIZE]; /* UUIDv7: order of creation */
	uint8_t endpoint[HF_ID_SIZE];
	char kind[16];
	char *params;    /* a JSON object as text; owned by whoever holds the row */
	unsigned state;  /* enum hf_action_state */
	char reason[64]; /* why it waits, or the name of a refusal */
	char text[256];  /* what it is doing, or how it ended */
	uint32_t percent;
	uint32_t idle_limit_s, hard_limit_s, ttl_s;
	uint64_t created_ns, expires_ns, started_ns, finished_ns, changed_ns;
	char actor[64];
	char idempotency[HF_IDEMPOTENCY_MAX]; /* "": none */
	bool cancel;                          /* asked for */
	bool inferred; /* it was announced and the endpoint left: its own word may still come */
	uint64_t artifact_bytes;
	uint8_t artifact_sha256[HF_HASH_SIZE];
};

/* -EEXIST: this endpoint has one with this idempotency key. Writes the first line of its history. */
int hf_store_action_insert(struct hf_store *s, const struct hf_action_row *row);
/*
 * Everything that changes. history: also a line of it. result: NULL keeps the one that is stored.
 */
int hf_store_action_update(struct hf_store *s, const struct hf_action_row *row, bool history,
			   const void *result, size_t result_len);
/* ret->params is the caller's to free. -ENOENT. */
int hf_store_action_get(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			struct hf_action_row *ret);
int hf_store_action_by_key(struct hf_store *s, const uint8_t endpoint[static HF_ID_SIZE],
			   const char *idempotency, struct hf_action_row *ret);
/* The result's JSON as text, owned by the caller; NULL with 0: none. */
int hf_store_action_result(struct hf_store *s, const uint8_t id[static HF_ID_SIZE], char **ret,
			   size_t *ret_len);

struct hf_action_filter {
	const uint8_t *endpoint; /* NULL: all */
	const char *kind;        /* NULL: all */
	bool active;             /* only those that are not over, oldest first */
	const uint8_t *before;   /* cursor: older than this id; NULL: from the newest */
	unsigned limit;
};

/* row's params are borrowed during the callback. */
int hf_store_actions(struct hf_store *s, const struct hf_action_filter *f,
		     int (*fn)(const struct hf_action_row *row, void *arg), void *arg);

struct hf_action_step {
	uint64_t at_ns;
	unsigned state;
	char reason[64];
};

int hf_store_action_history(struct hf_store *s, const uint8_t id[static HF_ID_SIZE],
			    int (*fn)(const struct hf_action_step *step, void *arg), void *arg);

/* ---- audit ---------------------------------------------------------------------------------- */
struct hf_audit_row {
	uint64_t id; /* cursor, given by the store */
	uint64_t at_ns;
	char actor[64];
	char address[64];
	char action[48];
	char object[64];
	char detail[256];
};

int hf_store_audit_insert(struct hf_store *s, const struct hf_audit_row *row);
/* Newest first, ids below before (0: all). */
int hf_store_audit(struct hf_store *s, uint64_t before, unsigned limit,
		   int (*fn)(const struct hf_audit_row *row, void *arg), void *arg);

/* ---- retention ------------------------------------------------------------------------------ */
struct hf_retention {
	uint64_t events_before_ns, outages_before_ns, audit_before_ns, actions_before_ns;
	uint64_t events_max_rows;
	unsigned slice; /* rows deleted at most per table and call */
};

/* Returns the number of rows deleted; call again while it equals what a slice allows. */
int hf_store_expire(struct hf_store *s, const struct hf_retention *r);
