/* SPDX-License-Identifier: Apache-2.0 */
/* Making, parsing and judging of secrets. */
#include "tools/portal/token.h"

#include <errno.h>
#include <string.h>

#include <openssl/sha.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/str.h"

static const struct {
	const char *prefix;
	size_t id_len;
} kinds[] = {
	[HF_SECRET_ENROLL] = {"hfe_", 16},
	[HF_SECRET_API] = {"hfp_", 16},
	[HF_SECRET_AGENT] = {"hfa_", 32},
};

_Static_assert(HF_ARRAY_SIZE(kinds) == _HF_SECRET_KIND_MAX, "every kind has a form");

#define PREFIX_LEN 4

static bool all_hex(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	}
	return true;
}

void hf_hash_sha256(const void *data, size_t len, uint8_t hash[static HF_HASH_SIZE])
{
	(void)SHA256(data, len, hash); /* returns hash */
}

static void hash_secret(const char *secret, uint8_t hash[static HF_HASH_SIZE])
{
	hf_hash_sha256(secret, HF_SECRET_HEX, hash);
}

static int parse_as(const char *text, enum hf_secret_kind kind, struct hf_secret *ret)
{
	size_t id_len = kinds[kind].id_len;

	if (strlen(text) != PREFIX_LEN + id_len + 1 + HF_SECRET_HEX ||
	    text[PREFIX_LEN + id_len] != '_' || !all_hex(text + PREFIX_LEN, id_len) ||
	    !all_hex(text + PREFIX_LEN + id_len + 1, HF_SECRET_HEX))
		return -EINVAL;
	ret->kind = kind;
	memcpy(ret->id, text + PREFIX_LEN, id_len);
	ret->id[id_len] = '\0';
	hash_secret(text + PREFIX_LEN + id_len + 1, ret->hash);
	return 0;
}

int hf_secret_parse(const char *text, struct hf_secret *ret)
{
	for (unsigned k = 0; k < _HF_SECRET_KIND_MAX; k++) {
		if (hf_startswith(text, kinds[k].prefix))
			return parse_as(text, (enum hf_secret_kind)k, ret);
	}
	return -EINVAL;
}

void hf_secret_make(enum hf_secret_kind kind, const char *id, uint64_t unix_ns,
		    struct hf_secret *ret, char text[static HF_SECRET_TEXT_MAX])
{
	uint8_t raw[HF_SECRET_HEX / 2];
	char secret[HF_SECRET_HEX + 1];

	*ret = (struct hf_secret){.kind = kind};
	if (id) {
		hf_assert(strlen(id) == kinds[kind].id_len);
		(void)hf_strlcpy(ret->id, id, sizeof(ret->id));
	} else {
		hf_assert(kinds[kind].id_len == 16);
		(void)hf_strf(ret->id, sizeof(ret->id), "%012llx%04x",
			      (unsigned long long)(unix_ns / HF_NS_PER_MS) & 0xffffffffffffULL,
			      (unsigned)hf_random_below(0x10000));
	}
	hf_random_bytes(raw, sizeof(raw));
	hf_hex_encode(secret, raw, sizeof(raw));
	hash_secret(secret, ret->hash);
	(void)hf_strf(text, HF_SECRET_TEXT_MAX, "%s%s_%s", kinds[kind].prefix, ret->id, secret);
	hf_wipe(raw, sizeof(raw));
	hf_wipe(secret, sizeof(secret));
}

enum hf_token_verdict hf_token_judge(const struct hf_token_row *row, const struct hf_secret *secret,
				     uint64_t unix_ns)
{
	if (!row || !hf_equal_secret(row->secret_hash, secret->hash, HF_HASH_SIZE))
		return HF_TOKEN_UNKNOWN;
	if (row->revoked_ns)
		return HF_TOKEN_REVOKED;
	if (unix_ns >= row->expires_ns)
		return HF_TOKEN_EXPIRED;
	if (row->max_uses && row->used >= row->max_uses)
		return HF_TOKEN_EXHAUSTED;
	return HF_TOKEN_OK;
}

enum hf_cause hf_token_cause(enum hf_token_verdict v)
{
	switch (v) {
	case HF_TOKEN_UNKNOWN:
		return HF_CAUSE_TOKEN_UNKNOWN;
	case HF_TOKEN_EXPIRED:
		return HF_CAUSE_TOKEN_EXPIRED;
	case HF_TOKEN_EXHAUSTED:
		return HF_CAUSE_TOKEN_EXHAUSTED;
	case HF_TOKEN_REVOKED:
		return HF_CAUSE_TOKEN_REVOKED;
	case HF_TOKEN_OK:
	case _HF_TOKEN_MAX:
		break;
	}
	hf_assert(false);
}

bool hf_name_valid(const char *s, size_t size)
{
	size_t len = strlen(s);

	if (len >= size || !hf_utf8_valid(s, len))
		return false;
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return false;
	}
	return true;
}

int hf_token_make(const struct hf_token_request *rq, uint64_t unix_ns, struct hf_token_row *ret,
		  char text[static HF_SECRET_TEXT_MAX])
{
	struct hf_secret secret;

	if (rq->ttl_s == 0 || rq->ttl_s > HF_TOKEN_TTL_MAX_S || rq->max_uses > HF_TOKEN_USES_MAX ||
	    !hf_name_valid(rq->name, sizeof(ret->name)) ||
	    !hf_name_valid(rq->group, sizeof(ret->group)))
		return -EINVAL;
	hf_secret_make(HF_SECRET_ENROLL, NULL, unix_ns, &secret, text);
	*ret = (struct hf_token_row){
		.created_ns = unix_ns,
		.expires_ns = unix_ns + rq->ttl_s * HF_NS_PER_S,
		.max_uses = rq->max_uses,
		.pre_authorize = rq->pre_authorize,
	};
	(void)hf_strlcpy(ret->id, secret.id, sizeof(ret->id));
	(void)hf_strlcpy(ret->name, rq->name, sizeof(ret->name));
	(void)hf_strlcpy(ret->group, rq->group, sizeof(ret->group));
	(void)hf_strlcpy(ret->creator, rq->creator, sizeof(ret->creator));
	memcpy(ret->secret_hash, secret.hash, sizeof(ret->secret_hash));
	return 0;
}
