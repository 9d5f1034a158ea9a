/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of release keys: its text, its signatures, and which list follows which.
 *
 * I1 what decodes, encodes to the same bytes, so that all signers signed one meaning.
 * I2 a root counts once, however often it signed.
 * I3 a list never gives way to an older one, nor to another of the same version: a revocation cannot
 *    be taken back by replaying the list before it.
 */
#include "userspace/release/keylist.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "userspace/release/text.h"

/* Every entry starts with its id, so that one comparison serves all tables. */
_Static_assert(offsetof(struct hf_public_key, id) == 0, "compare_ids");
_Static_assert(offsetof(struct hf_keylist_key, key.id) == 0, "compare_ids");
_Static_assert(offsetof(struct hf_keylist_revoked, id) == 0, "compare_ids");
_Static_assert(offsetof(struct hf_keylist_signature, id) == 0, "compare_ids");

/* By the bytes of the ids as they are written, the last first. */
static int compare_ids(const void *a, const void *b)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = HF_KEY_ID_SIZE; i-- > 0;)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

static const void *find(const void *table, size_t n, size_t size, const uint8_t *id)
{
	const uint8_t *p = table;

	for (size_t i = 0; i < n; i++, p += size)
		if (memcmp(p, id, HF_KEY_ID_SIZE) == 0)
			return p;
	return NULL;
}

static bool strictly_sorted(const void *table, size_t n, size_t size)
{
	const uint8_t *p = table;

	for (size_t i = 1; i < n; i++, p += size)
		if (compare_ids(p, p + size) >= 0)
			return false;
	return true;
}

const struct hf_keylist_key *hf_keylist_find(const struct hf_keylist *l,
					     const uint8_t id[static HF_KEY_ID_SIZE])
{
	return find(l->keys, l->n_keys, sizeof(*l->keys), id);
}

bool hf_keylist_is_revoked(const struct hf_keylist *l, const uint8_t id[static HF_KEY_ID_SIZE])
{
	return find(l->revoked, l->n_revoked, sizeof(*l->revoked), id);
}

static const char *fault_of(const struct hf_keylist *l)
{
	if (l->version == 0)
		return "version 0";
	if (l->expires_s <= l->created_s)
		return "an expiry that is not after the creation";
	if (l->n_roots == 0 || l->threshold == 0 || l->threshold > l->n_roots)
		return "a threshold that its roots cannot reach, or none";
	if (!strictly_sorted(l->roots, l->n_roots, sizeof(*l->roots)) ||
	    !strictly_sorted(l->keys, l->n_keys, sizeof(*l->keys)) ||
	    !strictly_sorted(l->revoked, l->n_revoked, sizeof(*l->revoked)) ||
	    !strictly_sorted(l->signatures, l->n_signatures, sizeof(*l->signatures)))
		return "ids that are there twice or not sorted";
	for (size_t i = 0; i < l->n_roots; i++)
		for (size_t k = 0; k < i; k++)
			if (memcmp(l->roots[i].point, l->roots[k].point, HF_KEY_SIZE) == 0)
				return "one root key under two ids"; /* it would count twice */
	for (size_t i = 0; i < l->n_keys; i++) {
		if (l->keys[i].until_s <= l->keys[i].from_s)
			return "a key that ends before it begins";
		if (find(l->roots, l->n_roots, sizeof(*l->roots), l->keys[i].key.id))
			return "a root key as a release key";
	}
	return NULL;
}

/* ---- decode ----------------------------------------------------------------------------------- */

static void take_id(struct hf_text *t, const char *s, uint8_t id[static HF_KEY_ID_SIZE])
{
	if (t->r == 0 && hf_key_id_parse(s, id) < 0)
		(void)hf_text_fault(t, "'%.64s' is no key id", s);
}

/* Makes room for one more; reports a fault and returns false when the table is full. */
static bool room(struct hf_text *t, const char *what, size_t n, size_t max)
{
	if (n < max)
		return true;
	(void)hf_text_fault(t, "more than %zu lines '%s'", max, what);
	return false;
}

static void take_root(struct hf_text *t, struct hf_keylist *l)
{
	struct hf_public_key *k = &l->roots[l->n_roots];
	char *rest = t->value, *id;

	if (!room(t, "root", l->n_roots, HF_KEYLIST_ROOTS_MAX))
		return;
	(void)hf_text_take(t, "root"); /* faults stay in t */
	(void)hf_text_split(t, &rest, &id);
	take_id(t, id, k->id);
	(void)hf_text_hex(t, rest, k->point, sizeof(k->point));
	l->n_roots++;
}

static void take_key(struct hf_text *t, struct hf_keylist *l)
{
	struct hf_keylist_key *k = &l->keys[l->n_keys];
	char *rest = t->value, *id, *point, *from, *until;

	if (!room(t, "key", l->n_keys, HF_KEYLIST_KEYS_MAX))
		return;
	(void)hf_text_take(t, "key"); /* faults stay in t */
	(void)hf_text_split(t, &rest, &id);
	(void)hf_text_split(t, &rest, &point);
	(void)hf_text_split(t, &rest, &from);
	(void)hf_text_split(t, &rest, &until);
	take_id(t, id, k->key.id);
	(void)hf_text_hex(t, point, k->key.point, sizeof(k->key.point));
	(void)hf_text_time(t, from, &k->from_s);
	(void)hf_text_time(t, until, &k->until_s);
	(void)hf_text_word(t, rest, k->environment, sizeof(k->environment));
	l->n_keys++;
}

static void take_revoked(struct hf_text *t, struct hf_keylist *l)
{
	struct hf_keylist_revoked *k = &l->revoked[l->n_revoked];
	char *rest = t->value, *id;

	if (!room(t, "revoked", l->n_revoked, HF_KEYLIST_REVOKED_MAX))
		return;
	(void)hf_text_take(t, "revoked"); /* faults stay in t */
	(void)hf_text_split(t, &rest, &id);
	take_id(t, id, k->id);
	(void)hf_text_time(t, rest, &k->since_s);
	l->n_revoked++;
}

static void take_signature(struct hf_text *t, struct hf_keylist *l)
{
	struct hf_keylist_signature *k = &l->signatures[l->n_signatures];
	char *rest = t->value, *id;

	if (!room(t, "signature", l->n_signatures, HF_KEYLIST_SIGNATURES_MAX))
		return;
	(void)hf_text_take(t, "signature"); /* faults stay in t */
	(void)hf_text_split(t, &rest, &id);
	take_id(t, id, k->id);
	(void)hf_text_hex(t, rest, k->sig, sizeof(k->sig));
	l->n_signatures++;
}

static int take_all(struct hf_text *t, struct hf_keylist *l)
{
	uint64_t format = 0, threshold = 0;

	if (hf_text_take_number(t, "holdfast-keys", UINT32_MAX, &format) == 0 && format != 1)
		(void)hf_text_fault(t, "format %" PRIu64 ", this program knows 1", format);
	(void)hf_text_take_number(t, "version", UINT32_MAX, &l->version);
	(void)hf_text_take_time(t, "created", &l->created_s);
	(void)hf_text_take_time(t, "expires", &l->expires_s);
	(void)hf_text_take_number(t, "threshold", HF_KEYLIST_ROOTS_MAX, &threshold);
	l->threshold = (unsigned)threshold;
	while (hf_text_has(t, "root"))
		take_root(t, l);
	while (hf_text_has(t, "key"))
		take_key(t, l);
	while (hf_text_has(t, "revoked"))
		take_revoked(t, l);
	while (t->r == 0 && t->p < t->end)
		take_signature(t, l);
	return t->r;
}

int hf_keylist_decode(const void *text, size_t len, struct hf_keylist **ret, struct hf_err *err)
{
	_cleanup_free_ struct hf_keylist *l = NULL;
	struct hf_buf again = {};
	struct hf_text t;
	const char *fault;
	bool same;
	int r;

	if (len > HF_KEYLIST_SIZE_MAX)
		return hf_err_set(err, -EFBIG, "a list of %zu bytes, %zu are allowed", len,
				  HF_KEYLIST_SIZE_MAX);
	hf_text_init(&t, text, len, err);
	l = calloc(1, sizeof(*l));
	if (!l)
		return hf_err_set(err, -ENOMEM, "out of memory");
	r = take_all(&t, l);
	if (r < 0)
		return r;
	fault = fault_of(l); /* before encode, which sorts */
	if (fault)
		return hf_err_set(err, -EBADMSG, "the list has %s", fault);
	r = hf_keylist_encode(l, true, &again, err);
	same = r == 0 && again.len == len && memcmp(again.data, text, len) == 0;
	hf_buf_done(&again);
	if (r < 0)
		return r;
	if (!same)
		return hf_err_set(err, -EBADMSG, "the list is not in its canonical form");
	*ret = TAKE_PTR(l);
	return 0;
}

/* ---- encode ----------------------------------------------------------------------------------- */

static int append_entry(struct hf_buf *out, const char *what, const uint8_t *id, const void *data,
			size_t len)
{
	char id_text[HF_KEY_ID_TEXT_SIZE], hex[2 * HF_SIGNATURE_SIZE + 1];

	hf_key_id_format(id, id_text);
	hf_hex_encode(hex, data, len);
	return hf_buf_appendf(out, "%s %s %s", what, id_text, hex);
}

static int append_body(const struct hf_keylist *l, struct hf_buf *out)
{
	char a[HF_TEXT_TIME_SIZE], b[HF_TEXT_TIME_SIZE], id[HF_KEY_ID_TEXT_SIZE];
	int r;

	hf_text_format_time(l->created_s, a);
	hf_text_format_time(l->expires_s, b);
	r = hf_buf_appendf(out,
			   "holdfast-keys 1\nversion %" PRIu64
			   "\ncreated %s\nexpires %s\nthreshold %u\n",
			   l->version, a, b, l->threshold);
	for (size_t i = 0; i < l->n_roots && r == 0; i++) {
		r = append_entry(out, "root", l->roots[i].id, l->roots[i].point, HF_KEY_SIZE);
		if (r == 0)
			r = hf_buf_append(out, "\n", 1);
	}
	for (size_t i = 0; i < l->n_keys && r == 0; i++) {
		const struct hf_keylist_key *k = &l->keys[i];

		hf_text_format_time(k->from_s, a);
		hf_text_format_time(k->until_s, b);
		r = append_entry(out, "key", k->key.id, k->key.point, HF_KEY_SIZE);
		if (r == 0)
			r = hf_buf_appendf(out, " %s %s %s\n", a, b, k->environment);
	}
	for (size_t i = 0; i < l->n_revoked && r == 0; i++) {
		hf_key_id_format(l->revoked[i].id, id);
		hf_text_format_time(l->revoked[i].since_s, a);
		r = hf_buf_appendf(out, "revoked %s %s\n", id, a);
	}
	return r;
}

int hf_keylist_encode(struct hf_keylist *l, bool signatures, struct hf_buf *out, struct hf_err *err)
{
	size_t start = out->len;
	const char *fault;
	int r;

	qsort(l->roots, l->n_roots, sizeof(*l->roots), compare_ids);
	qsort(l->keys, l->n_keys, sizeof(*l->keys), compare_ids);
	qsort(l->revoked, l->n_revoked, sizeof(*l->revoked), compare_ids);
	qsort(l->signatures, l->n_signatures, sizeof(*l->signatures), compare_ids);
	fault = fault_of(l);
	for (size_t i = 0; i < l->n_keys && !fault; i++)
		if (!hf_text_is_word(l->keys[i].environment, HF_MANIFEST_WORD_MAX))
			fault = "an environment that is no word";
	if (fault)
		return hf_err_set(err, -EINVAL, "the list has %s", fault);

	r = append_body(l, out);
	for (size_t i = 0; signatures && i < l->n_signatures && r == 0; i++) {
		r = append_entry(out, "signature", l->signatures[i].id, l->signatures[i].sig,
				 HF_SIGNATURE_SIZE);
		if (r == 0)
			r = hf_buf_append(out, "\n", 1);
	}
	if (r < 0)
		return hf_err_set(err, r, "out of memory");
	if (out->len - start > HF_KEYLIST_SIZE_MAX)
		return hf_err_set(err, -EINVAL, "the list has more than %zu bytes",
				  HF_KEYLIST_SIZE_MAX);
	return 0;
}

int hf_keylist_sign(struct hf_keylist *l, const struct hf_secret_key *root, struct hf_err *err)
{
	struct hf_keylist_signature s;
	struct hf_buf body = {};
	size_t at;
	int r;

	r = hf_keylist_encode(l, false, &body, err);
	if (r == 0 && hf_key_sign(root, body.data, body.len, s.sig) < 0)
		r = hf_err_set(err, -EIO, "cannot sign");
	hf_buf_done(&body);
	if (r < 0)
		return r;
	memcpy(s.id, root->pub.id, sizeof(s.id));
	for (at = 0; at < l->n_signatures; at++)
		if (memcmp(l->signatures[at].id, s.id, sizeof(s.id)) == 0)
			break;
	if (at == HF_KEYLIST_SIGNATURES_MAX)
		return hf_err_set(err, -ENOSPC, "the list has %u signatures already",
				  HF_KEYLIST_SIGNATURES_MAX);
	l->signatures[at] = s;
	l->n_signatures += at == l->n_signatures;
	qsort(l->signatures, l->n_signatures, sizeof(*l->signatures), compare_ids);
	return 0;
}

/* ---- judge ------------------------------------------------------------------------------------ */

/* How many of these roots signed the body. */
static unsigned count_signers(const struct hf_keylist *signed_list, const struct hf_buf *body,
			      const struct hf_keylist *roots_of)
{
	unsigned n = 0;

	for (size_t i = 0; i < roots_of->n_roots; i++) {
		const struct hf_public_key *root = &roots_of->roots[i];
		const struct hf_keylist_signature *s;

		s = find(signed_list->signatures, signed_list->n_signatures, sizeof(*s), root->id);
		n += s && hf_key_verify(root, body->data, body->len, s->sig);
	}
	return n;
}

static bool same_body(struct hf_keylist *a, const struct hf_buf *body)
{
	struct hf_buf other = {};
	bool same;

	same = hf_keylist_encode(a, false, &other, NULL) == 0 && other.len == body->len &&
	       memcmp(other.data, body->data, body->len) == 0;
	hf_buf_done(&other);
	return same;
}

static enum hf_refusal judge(struct hf_keylist *next, struct hf_keylist *trusted,
			     const struct hf_buf *body, struct hf_err *err)
{
	unsigned n;

	if (trusted) {
		n = count_signers(next, body, trusted);
		if (n < trusted->threshold) {
			(void)hf_err_set(err, -EKEYREJECTED,
					 "%u of the trusted root keys signed the list, %u must", n,
					 trusted->threshold);
			return HF_RELEASE_KEYS_ROOTS;
		}
	}
	n = count_signers(next, body, next);
	if (n < next->threshold) {
		(void)hf_err_set(err, -EKEYREJECTED,
				 "%u of its own root keys signed the list, %u must", n,
				 next->threshold);
		return HF_RELEASE_KEYS_ROOTS;
	}
	if (trusted && next->version < trusted->version) {
		(void)hf_err_set(err, -EKEYREJECTED,
				 "the list has version %" PRIu64 ", the trusted one %" PRIu64,
				 next->version, trusted->version);
		return HF_RELEASE_KEYS_OLDER;
	}
	if (trusted && next->version == trusted->version && !same_body(trusted, body)) {
		(void)hf_err_set(err, -EKEYREJECTED,
				 "the trusted list has version %" PRIu64 " too, and says otherwise",
				 next->version);
		return HF_RELEASE_KEYS_FORKED;
	}
	return HF_RELEASE_OK;
}

enum hf_refusal hf_keylist_judge(struct hf_keylist *next, struct hf_keylist *trusted,
				 struct hf_err *err)
{
	struct hf_buf body = {};
	enum hf_refusal refusal = HF_RELEASE_KEYS_ROOTS;

	if (hf_keylist_encode(next, false, &body, err) == 0)
		refusal = judge(next, trusted, &body, err);
	hf_buf_done(&body);
	return refusal;
}
