/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I1 A session ends 12 hours after its last use, and with the process.
 * I2 The table of failed tries is bounded: an attacker with many addresses evicts others' counts,
 *    never grows it; each address still has its own small budget while it is in the table.
 */
#include "tools/portal/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/random.h"
#include "base/ratelimit.h"
#include "base/str.h"
#include "tools/portal/token.h"

#define SESSIONS_MAX     256u /* people with an open page */
#define SESSION_IDLE_NS  (12 * 3600 * HF_NS_PER_S)
#define ADDRESSES_MAX    1024u /* of which we remember failures */
#define TRIES_BURST      20u
#define TRY_INTERVAL_NS  (3 * HF_NS_PER_S) /* 20 a minute */
#define ADMIN_TOKEN_FILE "admin.token"

struct session {
	char id[HF_SESSION_HEX + 1]; /* empty: free */
	char csrf[HF_SESSION_HEX + 1];
	struct hf_principal who;
	uint64_t used_ns;
};

struct tries {
	uint64_t key;
	struct hf_ratelimit limit;
	bool blocked;
	uint64_t failed_ns;
};

struct hf_auth {
	struct hf_store *store;
	uint64_t salt;
	struct session sessions[SESSIONS_MAX];
	struct tries tries[ADDRESSES_MAX];
};

static const char *const role_names[] = {
	[HF_ROLE_NONE] = "none",
	[HF_ROLE_VIEWER] = "viewer",
	[HF_ROLE_OPERATOR] = "operator",
	[HF_ROLE_ADMIN] = "admin",
};

_Static_assert(HF_ARRAY_SIZE(role_names) == _HF_ROLE_MAX, "every role has a name");

const char *hf_role_name(enum hf_role r)
{
	return role_names[r];
}

enum hf_role hf_role_from_name(const char *name)
{
	for (unsigned r = HF_ROLE_VIEWER; r < _HF_ROLE_MAX; r++) {
		if (hf_streq(role_names[r], name))
			return (enum hf_role)r;
	}
	return HF_ROLE_NONE;
}

int hf_auth_new(struct hf_store *store, struct hf_auth **ret)
{
	struct hf_auth *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->store = store;
	hf_random_bytes(&a->salt, sizeof(a->salt));
	*ret = a;
	return 0;
}

struct hf_auth *hf_auth_free(struct hf_auth *a)
{
	if (!a)
		return NULL;
	hf_wipe(a, sizeof(*a));
	free(a);
	return NULL;
}

int hf_auth_bearer(struct hf_auth *a, const char *token, struct hf_principal *ret)
{
	struct hf_api_token_row row;
	struct hf_secret secret;
	int r;

	if (hf_secret_parse(token, &secret) < 0 || secret.kind != HF_SECRET_API)
		return -EACCES;
	r = hf_store_api_token_get(a->store, secret.id, &row);
	if (r == -ENOENT)
		return -EACCES;
	if (r < 0)
		return r;
	if (row.revoked_ns || !hf_equal_secret(row.secret_hash, secret.hash, HF_HASH_SIZE))
		return -EACCES;
	*ret = (struct hf_principal){.role = hf_role_from_name(row.role)};
	(void)hf_strlcpy(ret->name, row.name, sizeof(ret->name));
	return ret->role == HF_ROLE_NONE ? -EACCES : 0;
}

bool hf_cookie_value(const char *cookie, const char *name, char *dst, size_t size)
{
	size_t len = strlen(name);

	while (*cookie) {
		const char *end;

		cookie += strspn(cookie, " ;");
		end = cookie + strcspn(cookie, ";");
		if (strncmp(cookie, name, len) == 0 && cookie[len] == '=') {
			const char *value = cookie + len + 1;
			size_t n = (size_t)(end - value);

			if (n >= size)
				return false;
			memcpy(dst, value, n);
			dst[n] = '\0';
			return true;
		}
		cookie = end;
	}
	return false;
}

static struct session *find_session(struct hf_auth *a, const char *cookie)
{
	char id[HF_SESSION_HEX + 1];
	struct session *found = NULL;

	if (!hf_cookie_value(cookie, HF_SESSION_COOKIE, id, sizeof(id)) ||
	    strlen(id) != HF_SESSION_HEX)
		return NULL;
	for (size_t i = 0; i < SESSIONS_MAX; i++) {
		if (a->sessions[i].id[0] && hf_equal_secret(a->sessions[i].id, id, HF_SESSION_HEX))
			found = &a->sessions[i];
	}
	return found;
}

int hf_auth_cookie(struct hf_auth *a, const char *cookie, uint64_t now_ns, struct hf_principal *ret)
{
	struct session *s = find_session(a, cookie);

	if (!s)
		return -EACCES;
	if (now_ns > s->used_ns + SESSION_IDLE_NS) {
		hf_wipe(s, sizeof(*s));
		return -EACCES;
	}
	s->used_ns = now_ns;
	*ret = s->who;
	return 0;
}

void hf_auth_login(struct hf_auth *a, const struct hf_principal *who, uint64_t now_ns,
		   char id[static HF_SESSION_HEX + 1], char csrf[static HF_SESSION_HEX + 1])
{
	struct session *s = &a->sessions[0];
	uint8_t raw[HF_SESSION_HEX / 2];

	/* A free place, else the one unused for longest. */
	for (size_t i = 1; i < SESSIONS_MAX && s->id[0]; i++) {
		if (!a->sessions[i].id[0] || a->sessions[i].used_ns < s->used_ns)
			s = &a->sessions[i];
	}
	*s = (struct session){.who = *who, .used_ns = now_ns};
	hf_random_bytes(raw, sizeof(raw));
	hf_hex_encode(s->id, raw, sizeof(raw));
	hf_random_bytes(raw, sizeof(raw));
	hf_hex_encode(s->csrf, raw, sizeof(raw));
	s->who.by_cookie = true;
	memcpy(s->who.csrf, s->csrf, sizeof(s->who.csrf));
	memcpy(id, s->id, sizeof(s->id));
	memcpy(csrf, s->csrf, sizeof(s->csrf));
	hf_wipe(raw, sizeof(raw));
}

void hf_auth_logout(struct hf_auth *a, const char *cookie)
{
	struct session *s = find_session(a, cookie);

	if (s)
		hf_wipe(s, sizeof(*s));
}

bool hf_auth_csrf_ok(const struct hf_principal *who, const char *header)
{
	if (!who->by_cookie)
		return true;
	return header && strlen(header) == HF_SESSION_HEX &&
	       hf_equal_secret(header, who->csrf, HF_SESSION_HEX);
}

static struct tries *tries_of(struct hf_auth *a, const char *address)
{
	uint64_t h = a->salt ^ UINT64_C(0xcbf29ce484222325);

	for (; *address; address++)
		h = (h ^ (unsigned char)*address) * UINT64_C(0x100000001b3);
	h ^= h >> 29;
	if (a->tries[h % ADDRESSES_MAX].key != h)
		a->tries[h % ADDRESSES_MAX] = (struct tries){
			.key = h,
			.limit = {.burst = TRIES_BURST, .interval_ns = TRY_INTERVAL_NS},
		};
	return &a->tries[h % ADDRESSES_MAX];
}

bool hf_auth_may_try(struct hf_auth *a, const char *address, uint64_t now_ns)
{
	struct tries *t = tries_of(a, address);

	if (!t->blocked)
		return true;
	if (now_ns < t->failed_ns + TRY_INTERVAL_NS)
		return false;
	t->blocked = false;
	return true;
}

void hf_auth_failed(struct hf_auth *a, const char *address, uint64_t now_ns)
{
	struct tries *t = tries_of(a, address);

	t->failed_ns = now_ns;
	t->blocked = !hf_ratelimit_take(&t->limit, now_ns);
}

int hf_auth_bootstrap(struct hf_store *writable, int dirfd, uint64_t unix_ns, struct hf_err *err)
{
	struct hf_api_token_row row = {.name = "admin", .role = "admin", .created_ns = unix_ns};
	char text[HF_SECRET_TEXT_MAX + 1] = "", known[32];
	struct hf_secret secret;
	int r;

	r = hf_store_meta_get(writable, "admin_token", known, sizeof(known));
	if (r != -ENOENT)
		return r < 0 ? hf_err_set(err, r, "read the database: %s", hf_store_error(writable))
			     : 0;
	hf_secret_make(HF_SECRET_API, NULL, unix_ns, &secret, text);
	(void)hf_strlcpy(row.id, secret.id, sizeof(row.id));
	memcpy(row.secret_hash, secret.hash, sizeof(row.secret_hash));
	(void)hf_strlcpy(text + strlen(text), "\n", 2);
	/* The file first: a token that only the database knows would lock everybody out. */
	r = hf_write_file_atomic(dirfd, ADMIN_TOKEN_FILE, text, strlen(text), 0600);
	hf_wipe(text, sizeof(text));
	if (r < 0)
		return hf_err_set(err, r, "write '" ADMIN_TOKEN_FILE "': %s", strerror(-r));
	r = hf_store_begin(writable);
	if (r == 0)
		r = hf_store_api_token_insert(writable, &row);
	if (r == 0)
		r = hf_store_meta_set(writable, "admin_token", row.id);
	if (r == 0)
		r = hf_store_commit(writable);
	if (r < 0) {
		hf_store_rollback(writable);
		return hf_err_set(err, r, "store the admin token: %s", hf_store_error(writable));
	}
	return 0;
}
