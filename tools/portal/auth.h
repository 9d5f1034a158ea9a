/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may use the API: bearer tokens (database), sessions of the web page (memory, a cookie), and a
 * limit of failed tries per address. One loop thread; logs nothing but what main needs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "tools/portal/store.h"

enum hf_role { HF_ROLE_NONE, HF_ROLE_VIEWER, HF_ROLE_OPERATOR, HF_ROLE_ADMIN, _HF_ROLE_MAX };

const char *hf_role_name(enum hf_role r);
/* HF_ROLE_NONE for a name that is no role. */
enum hf_role hf_role_from_name(const char *name);

#define HF_SESSION_COOKIE "holdfast_session"
#define HF_CSRF_HEADER    "Holdfast-CSRF"
#define HF_SESSION_HEX    64u /* digits of a session id and of its CSRF value */

struct hf_principal {
	enum hf_role role; /* HF_ROLE_NONE: nobody */
	char name[64];
	bool by_cookie; /* then unsafe methods need csrf */
	char csrf[HF_SESSION_HEX + 1];
};

struct hf_auth;

int hf_auth_new(struct hf_store *store, struct hf_auth **ret);
struct hf_auth *hf_auth_free(struct hf_auth *a);
HF_DEFINE_CLEANUP(struct hf_auth *, hf_auth_free);

/* 0, -EACCES (unknown, wrong, revoked), or the database's error. */
int hf_auth_bearer(struct hf_auth *a, const char *token, struct hf_principal *ret);
/* cookie: the whole Cookie header. -EACCES: no live session in it. */
int hf_auth_cookie(struct hf_auth *a, const char *cookie, uint64_t now_ns,
		   struct hf_principal *ret);

/* Opens a session for who bearer() admitted; id is the cookie's value. */
void hf_auth_login(struct hf_auth *a, const struct hf_principal *who, uint64_t now_ns,
		   char id[static HF_SESSION_HEX + 1], char csrf[static HF_SESSION_HEX + 1]);
void hf_auth_logout(struct hf_auth *a, const char *cookie);

/* False: this address failed too often of late. address: any text that names it. */
bool hf_auth_may_try(struct hf_auth *a, const char *address, uint64_t now_ns);
void hf_auth_failed(struct hf_auth *a, const char *address, uint64_t now_ns);

/* Constant time. */
bool hf_auth_csrf_ok(const struct hf_principal *who, const char *header);

/* The value of `name` in a Cookie header; false when absent or too long. */
bool hf_cookie_value(const char *cookie, const char *name, char *dst, size_t size);

/* Makes the admin token unless there is one: writes its text to admin.token below dirfd (0600). */
int hf_auth_bootstrap(struct hf_store *writable, int dirfd, uint64_t unix_ns, struct hf_err *err);
