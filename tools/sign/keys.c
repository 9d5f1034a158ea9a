/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-sign keys sign: changes the list of release keys, and signs it.
 *
 * With a change the list gets the next version and loses its signatures; without one a signature is
 * added. So the first of k holders of root keys changes and signs, the others only sign.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "tools/sign/sign.h"
#include "userspace/release/text.h"

#define ROOTS_MAX HF_KEYLIST_ROOTS_MAX

/* A change in the order of the command line; --environment, --from and --until go before --add. */
struct keys_sign {
	const char *path;
	const char *secrets[HF_KEYLIST_SIGNATURES_MAX];
	size_t n_secrets;
	const char *passphrase_file;
	struct hf_keylist *list;
	bool changed;
	bool expires_given;
	uint64_t now_s;
	uint64_t from_s, until_s; /* of keys that are added next */
	char environment[HF_MANIFEST_WORD_MAX];
};

enum option_id {
	OPT_KEY = 256,
	OPT_PASSPHRASE,
	OPT_ROOT,
	OPT_DROP_ROOT,
	OPT_THRESHOLD,
	OPT_EXPIRES,
	OPT_ENVIRONMENT,
	OPT_FROM,
	OPT_UNTIL,
	OPT_ADD,
	OPT_DROP,
	OPT_REVOKE,
};

static const struct option options[] = {
	{"key", required_argument, NULL, OPT_KEY},
	{"passphrase-file", required_argument, NULL, OPT_PASSPHRASE},
	{"root", required_argument, NULL, OPT_ROOT},
	{"drop-root", required_argument, NULL, OPT_DROP_ROOT},
	{"threshold", required_argument, NULL, OPT_THRESHOLD},
	{"expires", required_argument, NULL, OPT_EXPIRES},
	{"environment", required_argument, NULL, OPT_ENVIRONMENT},
	{"from", required_argument, NULL, OPT_FROM},
	{"until", required_argument, NULL, OPT_UNTIL},
	{"add", required_argument, NULL, OPT_ADD},
	{"drop", required_argument, NULL, OPT_DROP},
	{"revoke", required_argument, NULL, OPT_REVOKE},
	{},
};

static int parse_id(const char *s, uint8_t id[static HF_KEY_ID_SIZE])
{
	if (hf_key_id_parse(s, id) < 0)
		return hf_sign_fail(HF_SIGN_USAGE,
				    "'%s' is no key id of 16 upper-case hexadecimal digits", s);
	return HF_SIGN_OK;
}

/* Every table's entries start with an id. */
static size_t find_at(const void *table, size_t n, size_t size, const uint8_t *id)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (memcmp((const uint8_t *)table + i * size, id, HF_KEY_ID_SIZE) == 0)
			break;
	return i;
}

static int drop_from(void *table, size_t *n, size_t size, const char *s, const char *what)
{
	uint8_t id[HF_KEY_ID_SIZE], *p = table;
	int code = parse_id(s, id);
	size_t at;

	if (code != HF_SIGN_OK)
		return code;
	at = find_at(table, *n, size, id);
	if (at == *n)
		return hf_sign_fail(HF_SIGN_BAD, "%s %s is not in the list", what, s);
	memmove(p + at * size, p + (at + 1) * size, (*n - at - 1) * size);
	(*n)--;
	return HF_SIGN_OK;
}

static int add_root(struct hf_keylist *l, const char *path)
{
	struct hf_public_key k;
	int code = hf_sign_load_public(path, &k);

	if (code != HF_SIGN_OK)
		return code;
	if (find_at(l->roots, l->n_roots, sizeof(*l->roots), k.id) < l->n_roots)
		return hf_sign_fail(HF_SIGN_BAD, "%s: this root key is in the list", path);
	if (l->n_roots == ROOTS_MAX)
		return hf_sign_fail(HF_SIGN_BAD, "no more than %u root keys", ROOTS_MAX);
	l->roots[l->n_roots++] = k;
	return HF_SIGN_OK;
}

static int add_key(struct keys_sign *k, const char *path)
{
	struct hf_keylist *l = k->list;
	struct hf_keylist_key *entry;
	struct hf_public_key key;
	int code = hf_sign_load_public(path, &key);
	size_t at;

	if (code != HF_SIGN_OK)
		return code;
	if (hf_keylist_is_revoked(l, key.id))
		return hf_sign_fail(HF_SIGN_BAD, "%s: this key was revoked", path);
	/* An existing one gets the new dates and environment. */
	at = find_at(l->keys, l->n_keys, sizeof(*l->keys), key.id);
	if (at == HF_KEYLIST_KEYS_MAX)
		return hf_sign_fail(HF_SIGN_BAD, "no more than %u release keys",
				    HF_KEYLIST_KEYS_MAX);
	l->n_keys += at == l->n_keys;
	entry = &l->keys[at];
	*entry = (struct hf_keylist_key){.key = key, .from_s = k->from_s, .until_s = k->until_s};
	(void)hf_strlcpy(entry->environment, k->environment, sizeof(entry->environment));
	return HF_SIGN_OK;
}

static int revoke_key(struct keys_sign *k, const char *s)
{
	struct hf_keylist *l = k->list;
	uint8_t id[HF_KEY_ID_SIZE];
	int code = parse_id(s, id);

	if (code != HF_SIGN_OK)
		return code;
	if (hf_keylist_is_revoked(l, id))
		return hf_sign_fail(HF_SIGN_BAD, "key %s is revoked already", s);
	if (l->n_revoked == HF_KEYLIST_REVOKED_MAX)
		return hf_sign_fail(HF_SIGN_BAD, "no more than %u revoked keys",
				    HF_KEYLIST_REVOKED_MAX);
	memcpy(l->revoked[l->n_revoked].id, id, sizeof(id));
	l->revoked[l->n_revoked++].since_s = k->now_s;
	return HF_SIGN_OK;
}

static int set_threshold(struct hf_keylist *l, const char *s)
{
	uint32_t n;

	if (hf_parse_u32(s, &n) < 0 || n == 0 || n > ROOTS_MAX)
		return hf_sign_fail(HF_SIGN_USAGE, "'%s' is no threshold from 1 to %u", s,
				    ROOTS_MAX);
	l->threshold = n;
	return HF_SIGN_OK;
}

static int set_environment(struct keys_sign *k, const char *s)
{
	if (!hf_text_is_word(s, sizeof(k->environment)))
		return hf_sign_fail(HF_SIGN_USAGE, "'%s' is no environment", s);
	(void)hf_strlcpy(k->environment, s, sizeof(k->environment));
	return HF_SIGN_OK;
}

static int apply(struct keys_sign *k, enum option_id id, const char *arg)
{
	struct hf_keylist *l = k->list;

	if (id != OPT_KEY && id != OPT_PASSPHRASE && id != OPT_ENVIRONMENT && id != OPT_FROM &&
	    id != OPT_UNTIL)
		k->changed = true;
	switch (id) {
	case OPT_KEY:
		if (k->n_secrets == HF_ARRAY_SIZE(k->secrets))
			return hf_sign_fail(HF_SIGN_USAGE, "too many --key");
		k->secrets[k->n_secrets++] = arg;
		return HF_SIGN_OK;
	case OPT_PASSPHRASE:
		k->passphrase_file = arg;
		return HF_SIGN_OK;
	case OPT_ROOT:
		return add_root(l, arg);
	case OPT_DROP_ROOT:
		return drop_from(l->roots, &l->n_roots, sizeof(*l->roots), arg, "root key");
	case OPT_THRESHOLD:
		return set_threshold(l, arg);
	case OPT_EXPIRES:
		k->expires_given = true;
		return hf_sign_time(arg, k->now_s, &l->expires_s);
	case OPT_ENVIRONMENT:
		return set_environment(k, arg);
	case OPT_FROM:
		return hf_sign_time(arg, k->now_s, &k->from_s);
	case OPT_UNTIL:
		return hf_sign_time(arg, k->now_s, &k->until_s);
	case OPT_ADD:
		return add_key(k, arg);
	case OPT_DROP:
		return drop_from(l->keys, &l->n_keys, sizeof(*l->keys), arg, "release key");
	case OPT_REVOKE:
		return revoke_key(k, arg);
	}
	return hf_sign_fail(HF_SIGN_USAGE, HF_SIGN_OPTION_HELP);
}

static int sign_with_all(struct keys_sign *k)
{
	for (size_t i = 0; i < k->n_secrets; i++) {
		_cleanup_(hf_key_wipe) struct hf_secret_key secret = {};
		struct hf_err err = {};
		int code = hf_sign_load_secret(k->secrets[i], k->passphrase_file, &secret);

		if (code != HF_SIGN_OK)
			return code;
		if (hf_keylist_find(k->list, secret.pub.id))
			return hf_sign_fail(HF_SIGN_BAD, "%s: a release key does not sign the list",
					    k->secrets[i]);
		if (hf_keylist_sign(k->list, &secret, &err) < 0)
			return hf_sign_fail_file(k->path, &err);
	}
	return HF_SIGN_OK;
}

static void tell(const struct hf_sign *s, const struct keys_sign *k, bool complete)
{
	const struct hf_keylist *l = k->list;

	if (s->json)
		hf_sign_print_json(json_pack("{s:s,s:I,s:i,s:i,s:b,s:o}", "file", k->path,
					     "version", (json_int_t)l->version, "threshold",
					     (int)l->threshold, "signatures", (int)l->n_signatures,
					     "complete", complete, "expires",
					     hf_sign_json_time(l->expires_s)));
	else
		(void)printf("%s: version %llu, %zu of %u signatures%s\n", k->path,
			     (unsigned long long)l->version, l->n_signatures, l->threshold,
			     complete ? "" : "; more root keys must sign");
}

static int finish(const struct hf_sign *s, struct keys_sign *k)
{
	struct hf_buf text = {};
	struct hf_err err = {};
	int code;

	if (k->changed) {
		k->list->version++;
		k->list->created_s = k->now_s;
		k->list->n_signatures = 0;
		if (!k->expires_given && k->list->version == 1)
			k->list->expires_s = k->now_s + UINT64_C(365) * 86400;
	} else if (k->n_secrets == 0) {
		return hf_sign_fail(HF_SIGN_USAGE,
				    "neither a change nor a --key; " HF_SIGN_OPTION_HELP);
	}
	code = sign_with_all(k);
	if (code == HF_SIGN_OK && hf_keylist_encode(k->list, true, &text, &err) < 0)
		code = hf_sign_fail_file(k->path, &err);
	if (code == HF_SIGN_OK)
		code = hf_sign_replace(k->path, &text, 0644);
	hf_buf_done(&text);
	if (code == HF_SIGN_OK)
		tell(s, k, hf_keylist_judge(k->list, NULL, NULL) == HF_RELEASE_OK);
	return code;
}

/* getopt_long() takes the options in their order; the list's name has to be known before. */
static const char *only_operand(int argc, char **argv)
{
	const char *found = NULL;

	for (int i = 1; i < argc; i++) {
		if (!hf_startswith(argv[i], "--")) {
			if (found)
				return NULL;
			found = argv[i];
		} else if (!strchr(argv[i], '=')) {
			i++; /* each option has a value */
		}
	}
	return found;
}

int hf_sign_keys(const struct hf_sign *s, int argc, char **argv)
{
	_cleanup_free_ struct hf_keylist *list = NULL;
	struct keys_sign k = {.environment = HF_MANIFEST_ANY, .now_s = hf_sign_now()};
	int c, code = HF_SIGN_OK;

	k.path = only_operand(argc, argv);
	if (!k.path)
		return hf_sign_fail(HF_SIGN_USAGE, "one LIST is needed; " HF_SIGN_OPTION_HELP);
	k.from_s = k.now_s;
	k.until_s = k.now_s + UINT64_C(365) * 86400;
	if (access(k.path, F_OK) == 0)
		code = hf_sign_load_list(k.path, &list);
	else
		list = calloc(1, sizeof(*list));
	if (code == HF_SIGN_OK && !list)
		code = hf_sign_fail(HF_SIGN_BAD, "out of memory");
	if (code != HF_SIGN_OK)
		return code;
	k.list = list;
	if (list->version == 0)
		list->threshold = 1;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		code = c < OPT_KEY ? hf_sign_fail(HF_SIGN_USAGE, HF_SIGN_OPTION_HELP)
				   : apply(&k, (enum option_id)c, optarg);
		if (code != HF_SIGN_OK)
			return code;
	}
	return finish(s, &k);
}
