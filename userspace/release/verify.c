/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy of installation. Silent and pure: no clock, no file, no state.
 *
 * I1 nothing of a manifest is believed before its signature was verified by a key of the trusted
 *    list.
 * I2 the first reason found is the one that is told; the order is the order of the table, from who
 *    says it, over whether it is for us, to whether it is newer.
 */
#include "userspace/release/verify.h"

#include <errno.h>
#include <inttypes.h>

#include "base/assert.h"
#include "userspace/release/keylist.h"
#include "userspace/release/text.h"

static const struct {
	const char *name, *text;
} refusals[] = {
#define X(id, name, text) [HF_RELEASE_##id] = {name, text},
	HF_REFUSALS(X)
#undef X
};
_Static_assert(HF_ARRAY_SIZE(refusals) == _HF_RELEASE_MAX, "a name for each");

const char *hf_refusal_name(enum hf_refusal refusal)
{
	hf_assert(refusal < _HF_RELEASE_MAX);
	return refusals[refusal].name;
}

const char *hf_refusal_text(enum hf_refusal refusal)
{
	hf_assert(refusal < _HF_RELEASE_MAX);
	return refusals[refusal].text;
}

/* Sets the sentence; the details follow the refusal's text. */
#define refuse(id, err, fmt, ...)                                                     \
	({                                                                            \
		(void)hf_err_set((err), -EKEYREJECTED, "%s" fmt, hf_refusal_text(id), \
				 ##__VA_ARGS__);                                      \
		(id);                                                                 \
	})

static enum hf_refusal check_key_time(const struct hf_release_question *q,
				      const struct hf_keylist_key *k, const char *id,
				      struct hf_err *err)
{
	char time[HF_TEXT_TIME_SIZE];

	if (q->now_s < k->from_s) {
		hf_text_format_time(k->from_s, time);
		return refuse(HF_RELEASE_KEY_EARLY, err, ": key %s is valid from %s", id, time);
	}
	if (q->now_s >= k->until_s) {
		hf_text_format_time(k->until_s, time);
		return refuse(HF_RELEASE_KEY_EXPIRED, err, ": key %s was valid until %s", id, time);
	}
	return HF_RELEASE_OK;
}

enum hf_refusal hf_release_verify_signature(const struct hf_release_question *q, struct hf_err *err)
{
	static const uint8_t none[HF_KEY_ID_SIZE];
	const struct hf_manifest *m = q->manifest;
	const struct hf_keylist_key *k;
	char id[HF_KEY_ID_TEXT_SIZE], time[HF_TEXT_TIME_SIZE];
	enum hf_refusal refusal;

	if (!q->keys)
		return refuse(HF_RELEASE_NO_KEYS, err, "");
	/* A clock that is behind would let expired keys live; one that is ahead only refuses. */
	if (q->now_s + HF_RELEASE_CLOCK_SLACK_S < q->keys->created_s) {
		hf_text_format_time(q->keys->created_s, time);
		return refuse(HF_RELEASE_CLOCK, err, ": the list was made on %s", time);
	}
	if (q->now_s >= q->keys->expires_s) {
		hf_text_format_time(q->keys->expires_s, time);
		return refuse(HF_RELEASE_KEYS_EXPIRED, err, " on %s", time);
	}
	if (memcmp(m->key_id, none, sizeof(none)) == 0)
		return refuse(HF_RELEASE_UNSIGNED, err, "");
	hf_key_id_format(m->key_id, id);
	/* Revoked first: a revoked key may have left the list, and this is the better reason. */
	if (hf_keylist_is_revoked(q->keys, m->key_id))
		return refuse(HF_RELEASE_KEY_REVOKED, err, ": %s", id);
	k = hf_keylist_find(q->keys, m->key_id);
	if (!k)
		return refuse(HF_RELEASE_KEY_UNKNOWN, err, ": %s", id);
	refusal = check_key_time(q, k, id, err);
	if (refusal != HF_RELEASE_OK)
		return refusal;
	if (!hf_key_verify(&k->key, q->manifest_text, q->manifest_len, q->signature))
		return refuse(HF_RELEASE_SIGNATURE, err, " (key %s)", id);
	if (!hf_streq(k->environment, HF_MANIFEST_ANY) && !hf_streq(k->environment, m->environment))
		return refuse(HF_RELEASE_KEY_SCOPE, err,
			      ": key %s is for '%s', the release for '%s'", id, k->environment,
			      m->environment);
	return HF_RELEASE_OK;
}

/* "debian" fits any of its versions, "debian-12" also 12.9. */
static bool distro_fits(const char *wanted, const struct hf_release_host *h)
{
	size_t len = strlen(h->distro), rest;

	if (hf_streq(wanted, HF_MANIFEST_ANY))
		return true;
	if (len == 0 || strncmp(wanted, h->distro, len) != 0)
		return false;
	if (!wanted[len])
		return true;
	if (wanted[len] != '-')
		return false;
	rest = strlen(wanted + len + 1);
	return rest > 0 && strncmp(h->distro_version, wanted + len + 1, rest) == 0 &&
	       (h->distro_version[rest] == '\0' || h->distro_version[rest] == '.');
}

/* "glibc-2.36" to family and numbers. */
static bool split_libc(const char *s, size_t *ret_family, uint64_t ret_number[static 2])
{
	const char *dash = strchr(s, '-'), *dot = dash ? strchr(dash, '.') : NULL;
	char major[16];

	if (!dot || (size_t)(dot - dash - 1) >= sizeof(major))
		return false;
	memcpy(major, dash + 1, (size_t)(dot - dash - 1));
	major[dot - dash - 1] = '\0';
	*ret_family = (size_t)(dash - s);
	return hf_parse_u64(major, &ret_number[0]) == 0 &&
	       hf_parse_u64(dot + 1, &ret_number[1]) == 0;
}

static bool libc_fits(const char *wanted, const struct hf_release_host *h)
{
	uint64_t need[2], have[2];
	size_t need_len, have_len;

	if (hf_streq(wanted, HF_MANIFEST_ANY))
		return true;
	if (!split_libc(wanted, &need_len, need) || !split_libc(h->libc, &have_len, have) ||
	    need_len != have_len || memcmp(wanted, h->libc, need_len) != 0)
		return false;
	return have[0] > need[0] || (have[0] == need[0] && have[1] >= need[1]);
}

static enum hf_refusal check_host(const struct hf_release_question *q, struct hf_err *err)
{
	const struct hf_manifest *m = q->manifest;
	const struct hf_release_host *h = q->host;

	if (!hf_streq(m->product, h->product))
		return refuse(HF_RELEASE_PRODUCT, err, ": '%s', here is '%s'", m->product,
			      h->product);
	if (!hf_streq(m->component, q->state->component))
		return refuse(HF_RELEASE_COMPONENT, err, ": '%s', here is '%s'", m->component,
			      q->state->component);
	if (!hf_streq(m->os, h->os))
		return refuse(HF_RELEASE_OS, err, ": '%s', here is '%s'", m->os, h->os);
	if (!hf_streq(m->arch, h->arch))
		return refuse(HF_RELEASE_ARCH, err, ": '%s', here is '%s'", m->arch, h->arch);
	if (!distro_fits(m->distro, h))
		return refuse(HF_RELEASE_DISTRO, err, ": '%s', here is '%s' version '%s'",
			      m->distro, h->distro, h->distro_version);
	if (!libc_fits(m->libc, h))
		return refuse(HF_RELEASE_LIBC, err, ": '%s', here is '%s'", m->libc, h->libc);
	if (!hf_streq(m->environment, HF_MANIFEST_ANY) && !hf_streq(m->environment, h->environment))
		return refuse(HF_RELEASE_ENVIRONMENT, err, ": '%s', here is '%s'", m->environment,
			      h->environment);
	return HF_RELEASE_OK;
}

static bool known_bad(const struct hf_release_state *s, const uint8_t hash[static HF_SHA256_SIZE])
{
	for (size_t i = 0; i < s->n_bad; i++)
		if (memcmp(s->bad[i], hash, HF_RELEASE_BAD_SIZE) == 0)
			return true;
	return false;
}

/* The order of versions, against what is installed. */
static enum hf_refusal check_order(const struct hf_release_question *q,
				   const uint8_t hash[static HF_SHA256_SIZE], struct hf_err *err)
{
	const struct hf_manifest *m = q->manifest;
	const struct hf_release_state *s = q->state;
	int order;

	if (m->security_epoch < s->security_epoch)
		return refuse(HF_RELEASE_SECURITY_EPOCH, err,
			      ": %" PRIu64 ", at least %" PRIu64 " is wanted", m->security_epoch,
			      s->security_epoch);
	if (known_bad(s, hash) && q->origin != HF_RELEASE_BY_ADMIN)
		return refuse(HF_RELEASE_KNOWN_BAD, err, ": %s", m->version);
	if (!s->version)
		return HF_RELEASE_OK;
	if (memcmp(s->manifest_hash, hash, HF_SHA256_SIZE) == 0)
		return refuse(HF_RELEASE_SAME, err, ": %s", m->version);
	order = hf_version_compare(m->version, s->version);
	if (order < 0 && q->origin != HF_RELEASE_BY_ADMIN)
		return refuse(HF_RELEASE_DOWNGRADE, err, ": %s, installed is %s", m->version,
			      s->version);
	if (order == 0 && q->origin != HF_RELEASE_BY_ADMIN)
		return refuse(HF_RELEASE_SAME_VERSION, err, ": %s", m->version);
	if (hf_version_compare(s->version, m->min_from_version) < 0)
		return refuse(HF_RELEASE_FROM_VERSION, err,
			      ": %s is installed, %s wants at least %s", s->version, m->version,
			      m->min_from_version);
	return HF_RELEASE_OK;
}

enum hf_refusal hf_release_verify_times(const struct hf_release_question *q, struct hf_err *err)
{
	const struct hf_manifest *m = q->manifest;
	char time[HF_TEXT_TIME_SIZE];

	if (q->now_s + HF_RELEASE_CLOCK_SLACK_S < m->created_s) {
		hf_text_format_time(m->created_s, time);
		return refuse(HF_RELEASE_CLOCK, err, ": the release was made on %s", time);
	}
	if (q->now_s >= m->expires_s) {
		hf_text_format_time(m->expires_s, time);
		return refuse(HF_RELEASE_EXPIRED, err, " on %s", time);
	}
	return HF_RELEASE_OK;
}

enum hf_refusal hf_release_verify_fit(const struct hf_release_question *q, struct hf_err *err)
{
	enum hf_refusal refusal = check_host(q, err);
	uint8_t hash[HF_SHA256_SIZE];

	if (refusal != HF_RELEASE_OK)
		return refusal;
	if (hf_sha256(q->manifest_text, q->manifest_len, hash) < 0)
		return refuse(HF_RELEASE_SIGNATURE, err, " (no SHA-256)"); /* fails closed */
	return check_order(q, hash, err);
}

enum hf_refusal hf_release_verify(const struct hf_release_question *q, struct hf_err *err)
{
	enum hf_refusal refusal = hf_release_verify_signature(q, err);

	if (refusal == HF_RELEASE_OK)
		refusal = hf_release_verify_times(q, err);
	if (refusal == HF_RELEASE_OK)
		refusal = hf_release_verify_fit(q, err);
	return refusal;
}
