/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets that admit somebody. A secret's text is `<kind>_<id>_<secret>`: the id finds the row, the
 * secret proves it; only the SHA-256 of the secret is kept. Silent.
 *
 *   hfe_  enrolment token: an endpoint may enrol       id: 16 hex digits, secret: 64
 *   hfp_  API token: a person or program uses the API   likewise
 *   hfa_  an endpoint's own header, offered to OpAMP agents that cannot take a certificate;
 *         id: the endpoint's, 32 hex digits
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/cause.h"
#include "tools/portal/store.h"

#define HF_SECRET_HEX 64u
/* kind, '_', up to 32 hex digits, '_', secret, NUL */
#define HF_SECRET_TEXT_MAX (4 + 32 + 1 + HF_SECRET_HEX + 1)

enum hf_secret_kind { HF_SECRET_ENROLL, HF_SECRET_API, HF_SECRET_AGENT, _HF_SECRET_KIND_MAX };

struct hf_secret {
	enum hf_secret_kind kind;
	char id[33];
	uint8_t hash[HF_HASH_SIZE]; /* of the secret part */
};

/* Takes a stranger's text apart. -EINVAL: not of this form. */
int hf_secret_parse(const char *text, struct hf_secret *ret);
/*
 * Makes a new one. id NULL: 16 hex digits, of which the first 12 are the time in milliseconds so
 * that ids sort by age. text is the only copy of the secret: hand it out and wipe it.
 */
void hf_secret_make(enum hf_secret_kind kind, const char *id, uint64_t unix_ns,
		    struct hf_secret *ret, char text[static HF_SECRET_TEXT_MAX]);

void hf_hash_sha256(const void *data, size_t len, uint8_t hash[static HF_HASH_SIZE]);

/* Whether an enrolment token may be used now. */
enum hf_token_verdict {
	HF_TOKEN_OK,
	HF_TOKEN_UNKNOWN,
	HF_TOKEN_EXPIRED,
	HF_TOKEN_EXHAUSTED,
	HF_TOKEN_REVOKED,
	_HF_TOKEN_MAX,
};

/* row NULL: there is none. The order of the checks: unknown, revoked, expired, exhausted. */
enum hf_token_verdict hf_token_judge(const struct hf_token_row *row, const struct hf_secret *secret,
				     uint64_t unix_ns);
enum hf_cause hf_token_cause(enum hf_token_verdict v);

/* Bounds of a token request. */
#define HF_TOKEN_TTL_DEFAULT_S (24u * 3600)
#define HF_TOKEN_TTL_MAX_S     (365u * 24 * 3600)
#define HF_TOKEN_USES_MAX      1000000u

struct hf_token_request {
	const char *name;    /* may be empty */
	const char *group;   /* may be empty */
	const char *creator; /* actor */
	uint64_t ttl_s;
	uint64_t max_uses; /* 0: any number */
	bool pre_authorize;
};

/* Fills row and the text to hand out. -EINVAL: out of bounds. Inserting the row is the caller's. */
int hf_token_make(const struct hf_token_request *rq, uint64_t unix_ns, struct hf_token_row *ret,
		  char text[static HF_SECRET_TEXT_MAX]);

/* Printable, at most size-1 bytes of valid UTF-8 without control characters. */
bool hf_name_valid(const char *s, size_t size);
