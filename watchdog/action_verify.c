/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I1. Nothing of a body is acted upon before its signature is right; what is read of an unsigned
 *     one is the key's id, for the refusal's name.
 * I2. A signature is over a prefix with its purpose: an action is never a key, a key never a time.
 */
#include "watchdog/action_verify.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "base/str.h"
#include "userspace/proto/frame.h"

/* The longest that is signed: an envelope's body. */
#define SIGNED_MAX (HF_ACTION_ENVELOPE_MAX + 32)

static bool signature_ok(const struct hf_public_key *key, const char *purpose,
			 const ProtobufCBinaryData *what, const ProtobufCBinaryData *signature)
{
	uint8_t text[SIGNED_MAX];
	size_t n = strlen(purpose) + 1; /* its NUL separates */
	bool ok;

	if (signature->len != HF_SIGNATURE_SIZE || what->len > sizeof(text) - n)
		return false;
	memcpy(text, purpose, n);
	if (what->len)
		memcpy(text + n, what->data, what->len);
	ok = hf_key_verify(key, text, n + what->len, signature->data);
	hf_crypto_rest();
	return ok;
}

static bool uuid_ok(const char *text)
{
	uint8_t id[16];
	char canonical[HF_UUID_TEXT_SIZE];

	if (hf_uuid_parse(text, id) < 0)
		return false;
	hf_uuid_format(id, canonical);
	return hf_streq(canonical, text);
}

/* ---- keys ------------------------------------------------------------------------------------- */

struct chain {
	struct hf_public_key key[HF_ACTION_KEYS_MAX];
	bool first_of_all[HF_ACTION_KEYS_MAX]; /* names no predecessor */
	uint8_t previous[HF_ACTION_KEYS_MAX][HF_KEY_ID_SIZE];
	size_t n;
};

static int read_chain(const Action__Keys *m, struct chain *c)
{
	if (m->n_chain == 0 || m->n_chain > HF_ACTION_KEYS_MAX || !uuid_ok(m->endpoint_id))
		return -EBADMSG;
	for (size_t i = 0; i < m->n_chain; i++) {
		_cleanup_pb_ Action__Key *k = NULL;
		const ProtobufCBinaryData *link = &m->chain[i]->link;

		if (hf_pb_unpack(&action__key__descriptor, link->data, link->len, &k) < 0 ||
		    k->key_id.len != HF_KEY_ID_SIZE || k->point.len != HF_KEY_SIZE ||
		    (k->previous_key_id.len != HF_KEY_ID_SIZE && k->previous_key_id.len != 0))
			return -EBADMSG;
		memcpy(c->key[i].id, k->key_id.data, HF_KEY_ID_SIZE);
		memcpy(c->key[i].point, k->point.data, HF_KEY_SIZE);
		c->first_of_all[i] = k->previous_key_id.len == 0;
		if (k->previous_key_id.len)
			memcpy(c->previous[i], k->previous_key_id.data, HF_KEY_ID_SIZE);
	}
	c->n = m->n_chain;
	return 0;
}

static bool link_ok(const Action__Keys *m, size_t i, const struct hf_public_key *signer)
{
	return signature_ok(signer, HF_ACTION_SIGN_KEY, &m->chain[i]->link,
			    &m->chain[i]->signature);
}

/* From index `from` on every key is signed by the one before it. */
static bool continues(const Action__Keys *m, const struct chain *c, size_t from)
{
	for (size_t i = from; i < c->n; i++) {
		if (c->first_of_all[i] ||
		    memcmp(c->previous[i], c->key[i - 1].id, HF_KEY_ID_SIZE) != 0 ||
		    !link_ok(m, i, &c->key[i - 1]))
			return false;
	}
	return true;
}

static void pin(struct hf_action_trust *t, const Action__Keys *m, const struct chain *c)
{
	*t = (struct hf_action_trust){.pinned = true, .key = c->key[c->n - 1], .n_old = c->n - 1};
	(void)hf_strlcpy(t->endpoint_id, m->endpoint_id, sizeof(t->endpoint_id));
	for (size_t i = 0; i + 1 < c->n; i++)
		memcpy(t->old[i], c->key[i].id, HF_KEY_ID_SIZE);
}

int hf_action_trust_take(struct hf_action_trust *t, const void *keys, size_t len,
			 struct hf_err *err)
{
	_cleanup_pb_ Action__Keys *m = NULL;
	struct chain c = {};
	size_t at = 0;

	if (hf_pb_unpack(&action__keys__descriptor, keys, len, &m) < 0 || read_chain(m, &c) < 0)
		return hf_err_set(err, -EBADMSG, "the portal's action keys are not well-formed");
	if (!t->pinned) {
		/* The oldest we are shown may have had a predecessor: it is believed as it is. */
		if ((c.first_of_all[0] && !link_ok(m, 0, &c.key[0])) || !continues(m, &c, 1))
			return hf_err_set(err, -EKEYREJECTED,
					  "the portal's action keys do not sign each other");
		pin(t, m, &c);
		return 1;
	}
	if (!hf_streq(m->endpoint_id, t->endpoint_id))
		return hf_err_set(err, -EXDEV,
				  "the portal calls this host %.36s, it was enrolled as %.36s: "
				  "enrol it again if that is right",
				  m->endpoint_id, t->endpoint_id);
	while (at < c.n && memcmp(&c.key[at], &t->key, sizeof(t->key)) != 0)
		at++;
	if (at == c.n || !continues(m, &c, at + 1))
		return hf_err_set(err, -EKEYREJECTED,
				  "the portal's action keys do not continue the trusted one: enrol "
				  "this host again if that is right");
	if (at == c.n - 1)
		return 0;
	pin(t, m, &c);
	return 1;
}

/* ---- time ------------------------------------------------------------------------------------- */

bool hf_action_time_ask(struct hf_action_time *t, uint64_t boot_ns)
{
	if (t->unix_ns && boot_ns - t->at_boot_ns < HF_ACTION_TIME_LIFE_NS)
		return false;
	/* The one that is out may be answered any moment: another would make that answer worthless. */
	if (t->asked_boot_ns && boot_ns - t->asked_boot_ns < HF_ACTION_NONCE_LIFE_NS / 2)
		return true;
	hf_random_bytes(t->nonce, sizeof(t->nonce));
	t->asked_boot_ns = boot_ns ? boot_ns : 1;
	return true;
}

int hf_action_time_take(struct hf_action_time *t, const struct hf_action_trust *trust,
			const void *proof, size_t len, uint64_t boot_ns)
{
	_cleanup_pb_ Action__Time *m = NULL;
	_cleanup_pb_ Action__Stamp *s = NULL;

	if (hf_pb_unpack(&action__time__descriptor, proof, len, &m) < 0)
		return -EBADMSG;
	if (!trust->pinned ||
	    !signature_ok(&trust->key, HF_ACTION_SIGN_TIME, &m->stamp, &m->signature))
		return -EKEYREJECTED;
	if (hf_pb_unpack(&action__stamp__descriptor, m->stamp.data, m->stamp.len, &s) < 0)
		return -EBADMSG;
	if (!hf_streq(s->endpoint_id, trust->endpoint_id))
		return -EKEYREJECTED;
	if (!t->asked_boot_ns || s->nonce.len != sizeof(t->nonce) ||
	    memcmp(s->nonce.data, t->nonce, sizeof(t->nonce)) != 0 ||
	    boot_ns - t->asked_boot_ns > HF_ACTION_NONCE_LIFE_NS || !s->unix_ns)
		return -ETIME;
	t->asked_boot_ns = 0;
	/* It never runs backwards: what was expired stays so. */
	if (s->unix_ns > hf_action_time_now(t, boot_ns)) {
		t->unix_ns = s->unix_ns;
		t->at_boot_ns = boot_ns;
	} else {
		t->unix_ns = hf_action_time_now(t, boot_ns);
		t->at_boot_ns = boot_ns;
	}
	return 0;
}

uint64_t hf_action_time_now(const struct hf_action_time *t, uint64_t boot_ns)
{
	return t->unix_ns ? t->unix_ns + (boot_ns - t->at_boot_ns) : 0;
}

/* ---- actions ---------------------------------------------------------------------------------- */

static bool is_old(const struct hf_action_trust *t, const ProtobufCBinaryData *id)
{
	for (size_t i = 0; i < t->n_old; i++)
		if (id->len == HF_KEY_ID_SIZE && memcmp(t->old[i], id->data, HF_KEY_ID_SIZE) == 0)
			return true;
	return false;
}

static enum hf_action_refusal why_not_signed(const struct hf_action_trust *t, const Action__Body *b)
{
	if (b->key_id.len == HF_KEY_ID_SIZE &&
	    memcmp(b->key_id.data, t->key.id, HF_KEY_ID_SIZE) == 0)
		return HF_ACTION_REFUSED_BAD_SIGNATURE;
	return is_old(t, &b->key_id) ? HF_ACTION_REFUSED_OLD_KEY : HF_ACTION_REFUSED_UNKNOWN_KEY;
}

static bool params_ok(const Action__Body *b)
{
	size_t total = 0;

	if (b->n_params > HF_ACTION_PARAMS_MAX)
		return false;
	for (size_t i = 0; i < b->n_params; i++) {
		size_t name = strlen(b->params[i]->name), value = strlen(b->params[i]->value);

		if (name == 0 || name > HF_ACTION_PARAM_NAME_MAX ||
		    value > HF_ACTION_PARAM_VALUE_MAX || strpbrk(b->params[i]->value, "\n\r"))
			return false;
		total += name + value;
	}
	return total <= HF_ACTION_PARAMS_BYTES;
}

static bool shape_ok(const Action__Body *b)
{
	size_t kind = strlen(b->kind);

	return uuid_ok(b->action_id) && kind > 0 && kind < HF_ACTION_KIND_MAX &&
	       b->key_id.len == HF_KEY_ID_SIZE && b->issued_unix_ns &&
	       b->expires_unix_ns > b->issued_unix_ns &&
	       b->expires_unix_ns - b->issued_unix_ns <= HF_ACTION_TTL_MAX_S * HF_NS_PER_S;
}

enum hf_action_refusal hf_action_verify(const struct hf_action_trust *t, uint64_t server_unix_ns,
					const void *envelope, size_t len, Action__Body **ret_body)
{
	_cleanup_pb_ Action__Envelope *e = NULL;
	_cleanup_pb_ Action__Body *b = NULL;
	enum hf_action_refusal why = HF_ACTION_REFUSED_NONE;

	if (len > HF_ACTION_ENVELOPE_MAX)
		return HF_ACTION_REFUSED_OVERSIZED;
	if (hf_pb_unpack(&action__envelope__descriptor, envelope, len, &e) < 0 ||
	    hf_pb_unpack(&action__body__descriptor, e->body.data, e->body.len, &b) < 0)
		return HF_ACTION_REFUSED_MALFORMED;
	if (!t->pinned)
		why = HF_ACTION_REFUSED_NO_KEY;
	else if (!signature_ok(&t->key, HF_ACTION_SIGN_BODY, &e->body, &e->signature))
		why = why_not_signed(t, b);
	else if (!shape_ok(b))
		why = HF_ACTION_REFUSED_MALFORMED;
	else if (!hf_streq(b->endpoint_id, t->endpoint_id))
		why = HF_ACTION_REFUSED_WRONG_ENDPOINT;
	else if (!hf_action_kind_find(b->kind))
		why = HF_ACTION_REFUSED_UNKNOWN_KIND;
	else if (!params_ok(b))
		why = HF_ACTION_REFUSED_BAD_PARAMS;
	else if (!server_unix_ns)
		why = HF_ACTION_REFUSED_NO_TIME;
	else if (server_unix_ns >= b->expires_unix_ns)
		why = HF_ACTION_REFUSED_EXPIRED;
	*ret_body = TAKE_PTR(b);
	return why;
}

const char *hf_action_param(const Action__Body *b, const char *name)
{
	const char *value = NULL;

	for (size_t i = 0; i < b->n_params; i++) {
		if (!hf_streq(b->params[i]->name, name))
			continue;
		if (value)
			return NULL;
		value = b->params[i]->value;
	}
	return value;
}

bool hf_action_params_only(const Action__Body *b, const char *const *names)
{
	for (size_t i = 0; i < b->n_params; i++) {
		const char *const *n = names;

		while (*n && !hf_streq(*n, b->params[i]->name))
			n++;
		if (!*n)
			return false;
	}
	return true;
}
