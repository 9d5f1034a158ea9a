/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer tokens, cookie sessions, failed tries. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"
#include "base/str.h"
#include "tools/portal/auth.h"
#include "tools/portal/token.h"

#define S HF_NS_PER_S

struct fixture {
	struct hf_test_dir *dir;
	struct hf_store *store;
	struct hf_auth *auth;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[300];
	void *dir;

	if (hf_test_dir_setup(&dir) != 0)
		return -1;
	f->dir = dir;
	(void)hf_strf(path, sizeof(path), "%s/db", f->dir->path);
	*state = f;
	if (hf_store_open(path, HF_STORE_WRITE, &f->store, NULL) < 0)
		return -1;
	return hf_auth_new(f->store, &f->auth);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	void *dir = f->dir;

	f->auth = hf_auth_free(f->auth);
	f->store = hf_store_close(f->store);
	free(f);
	return hf_test_dir_teardown(&dir);
}

static void the_admin_token_is_made_once_and_admits(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *text = NULL, *again = NULL;
	struct hf_principal who;
	size_t len;

	assert_ok(hf_auth_bootstrap(f->store, f->dir->fd, 5, NULL));
	assert_ok(hf_read_file(f->dir->fd, "admin.token", 1000, &text, &len));
	assert_ok(hf_auth_bootstrap(f->store, f->dir->fd, 6, NULL));
	assert_ok(hf_read_file(f->dir->fd, "admin.token", 1000, &again, &len));
	assert_string_equal(text, again);
	text[strcspn(text, "\n")] = '\0';
	assert_ok(hf_auth_bearer(f->auth, text, &who));
	assert_int_equal(who.role, HF_ROLE_ADMIN);
	assert_false(who.by_cookie);
	text[strlen(text) - 1] ^= 1;
	assert_err(hf_auth_bearer(f->auth, text, &who), -EACCES);
	assert_err(hf_auth_bearer(f->auth, "", &who), -EACCES);
}

static void an_enrolment_token_is_no_api_token(void **state)
{
	struct fixture *f = *state;
	struct hf_principal who;

	assert_err(
		hf_auth_bearer(f->auth,
			       "hfe_0123456789abcdef_"
			       "0000000000000000000000000000000000000000000000000000000000000000",
			       &who),
		-EACCES);
}

static void a_session_lives_until_it_is_idle_or_closed(void **state)
{
	struct fixture *f = *state;
	const struct hf_principal me = {.role = HF_ROLE_OPERATOR, .name = "me"};
	char id[HF_SESSION_HEX + 1], csrf[HF_SESSION_HEX + 1], cookie[200];
	struct hf_principal who;

	hf_auth_login(f->auth, &me, 10 * S, id, csrf);
	(void)hf_strf(cookie, sizeof(cookie), "a=b; holdfast_session=%s; c=d", id);
	assert_ok(hf_auth_cookie(f->auth, cookie, 11 * S, &who));
	assert_int_equal(who.role, HF_ROLE_OPERATOR);
	assert_true(who.by_cookie);
	assert_true(hf_auth_csrf_ok(&who, csrf));
	assert_false(hf_auth_csrf_ok(&who, NULL));
	assert_false(hf_auth_csrf_ok(&who, id));
	assert_true(
		hf_auth_csrf_ok(&me, NULL)); /* a bearer token cannot be sent by a foreign page */
	assert_err(hf_auth_cookie(f->auth, "holdfast_session=", 11 * S, &who), -EACCES);
	assert_ok(hf_auth_cookie(f->auth, cookie, 12 * 3600 * S, &who));
	assert_err(hf_auth_cookie(f->auth, cookie, 24 * 3600 * S + S, &who), -EACCES);
	hf_auth_login(f->auth, &me, 10 * S, id, csrf);
	(void)hf_strf(cookie, sizeof(cookie), "holdfast_session=%s", id);
	hf_auth_logout(f->auth, cookie);
	assert_err(hf_auth_cookie(f->auth, cookie, 11 * S, &who), -EACCES);
}

static void sessions_are_bounded_and_the_idlest_goes(void **state)
{
	struct fixture *f = *state;
	const struct hf_principal me = {.role = HF_ROLE_VIEWER};
	char first[HF_SESSION_HEX + 1], last[HF_SESSION_HEX + 1], csrf[HF_SESSION_HEX + 1],
		cookie[200];
	struct hf_principal who;

	hf_auth_login(f->auth, &me, S, first, csrf);
	for (uint64_t i = 0; i < 256; i++)
		hf_auth_login(f->auth, &me, (2 + i) * S, last, csrf);
	(void)hf_strf(cookie, sizeof(cookie), "holdfast_session=%s", first);
	assert_err(hf_auth_cookie(f->auth, cookie, 300 * S, &who), -EACCES);
	(void)hf_strf(cookie, sizeof(cookie), "holdfast_session=%s", last);
	assert_ok(hf_auth_cookie(f->auth, cookie, 300 * S, &who));
}

static void cookies_are_found_by_their_whole_name(void **state)
{
	char value[8];

	(void)state;
	assert_true(hf_cookie_value("x=1; k=2", "k", value, sizeof(value)));
	assert_string_equal(value, "2");
	assert_true(hf_cookie_value("k=", "k", value, sizeof(value)));
	assert_string_equal(value, "");
	assert_false(hf_cookie_value("kk=2; xk=3", "k", value, sizeof(value)));
	assert_false(hf_cookie_value("", "k", value, sizeof(value)));
	assert_false(hf_cookie_value(";;; ; k", "k", value, sizeof(value)));
	assert_false(hf_cookie_value("k=12345678", "k", value, sizeof(value)));
}

static void too_many_failures_block_one_address_for_a_while(void **state)
{
	struct fixture *f = *state;
	unsigned failed = 0;

	while (hf_auth_may_try(f->auth, "192.0.2.1", 100 * S) && failed < 1000) {
		hf_auth_failed(f->auth, "192.0.2.1", 100 * S);
		failed++;
	}
	assert_int_equal(failed, 21); /* a burst of 20, and the one too many */
	assert_true(hf_auth_may_try(f->auth, "192.0.2.2", 100 * S));
	assert_false(hf_auth_may_try(f->auth, "192.0.2.1", 102 * S));
	assert_true(hf_auth_may_try(f->auth, "192.0.2.1", 103 * S));
}

static void roles_are_ordered_and_named(void **state)
{
	(void)state;
	assert_true(HF_ROLE_NONE < HF_ROLE_VIEWER && HF_ROLE_VIEWER < HF_ROLE_OPERATOR &&
		    HF_ROLE_OPERATOR < HF_ROLE_ADMIN);
	assert_int_equal(hf_role_from_name("operator"), HF_ROLE_OPERATOR);
	assert_int_equal(hf_role_from_name("none"), HF_ROLE_NONE);
	assert_int_equal(hf_role_from_name("root"), HF_ROLE_NONE);
}

#define WITH_AUTH(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_AUTH(the_admin_token_is_made_once_and_admits),
		WITH_AUTH(an_enrolment_token_is_no_api_token),
		WITH_AUTH(a_session_lives_until_it_is_idle_or_closed),
		WITH_AUTH(sessions_are_bounded_and_the_idlest_goes),
		cmocka_unit_test(cookies_are_found_by_their_whole_name),
		WITH_AUTH(too_many_failures_block_one_address_for_a_while),
		cmocka_unit_test(roles_are_ordered_and_named),
	};

	return HF_RUN_TESTS(tests);
}
