/* SPDX-License-Identifier: Apache-2.0 */
/* What os-release says; which list of keys is trusted. */
#include "selftests/unit/release/keys_fixture.h"
#include "selftests/unit/test_util.h"

#include "base/str.h"
#include "watchdog/release_host.h"

static void os_release_is_read_as_it_is_written(void **state)
{
	static const struct {
		const char *text, *id, *version;
	} cases[] = {
		{"", "", ""},
		{"ID", "", ""},
		{"ID=", "", ""},
		{"ID=debian\nVERSION_ID=\"12\"\n", "debian", "12"},
		{"VERSION_ID='9.4'\nPRETTY=x\nID=\"rhel\"", "rhel", "9.4"},
		{"ID_LIKE=debian\nVERSION=\"12\"\n", "", ""},
		{"ID=0123456789012345678901234567890123456789\n", "", ""},
		{"\n\n=\nID=a\n", "a", ""},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(cases); i++) {
		struct hf_release_host h = {};

		hf_release_host_distro(cases[i].text, strlen(cases[i].text), &h);
		assert_string_equal(h.distro, cases[i].id);
		assert_string_equal(h.distro_version, cases[i].version);
	}
}

static void this_host_has_facts(void **state)
{
	struct hf_release_host h;

	(void)state;
	hf_release_host("dev", &h);
	assert_string_equal(h.product, "holdfast");
	assert_string_equal(h.os, "linux");
	assert_string_equal(h.environment, "dev");
	assert_true(h.arch[0]);
	assert_true(hf_startswith(h.libc, "glibc-"));
}

/* The fixture's list in its version, signed by its roots, as text. */
static void write_list(const struct hf_test_dir *d, const char *name, uint64_t version)
{
	struct hf_keylist l = test_list();
	struct hf_buf text = {};

	l.version = version;
	test_sign_list(&l, ROOT_A);
	test_sign_list(&l, ROOT_B);
	assert_ok(hf_keylist_encode(&l, true, &text, NULL));
	assert_ok(hf_buf_append(&text, "", 1));
	hf_test_write(d, name, (const char *)text.data);
	hf_buf_done(&text);
}

static enum hf_refusal take(const struct hf_test_dir *d, const char *etc, const char *name,
			    struct hf_err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;

	assert_ok(hf_read_file(d->fd, name, HF_KEYLIST_SIZE_MAX, &text, &len));
	return hf_release_keys_take(d->fd, etc, text, len, err);
}

static uint64_t trusted(const struct hf_test_dir *d, const char *etc)
{
	_cleanup_free_ struct hf_keylist *l = NULL;
	struct hf_err err = {};

	assert_int_equal(hf_release_keys_load(d->fd, etc, &l, &err), HF_RELEASE_OK);
	return l->version;
}

static void the_newest_list_that_is_vouched_for_counts(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_free_ char *etc = hf_asprintf("%s/etc", d->path);
	_cleanup_free_ struct hf_keylist *l = NULL;
	struct hf_err err = {};

	assert_int_equal(hf_release_keys_load(d->fd, etc, &l, &err), HF_RELEASE_NO_KEYS);
	assert_int_equal(err.code, -ENOENT);
	write_list(d, "next", 5);
	/* The first one is never a stranger's. */
	assert_int_equal(take(d, etc, "next", &err), HF_RELEASE_NO_KEYS);
	write_list(d, "etc", 3);
	assert_int_equal(trusted(d, etc), 3);
	assert_int_equal(take(d, etc, "next", &err), HF_RELEASE_OK);
	assert_int_equal(trusted(d, etc), 5);
	write_list(d, "older", 4);
	assert_int_equal(take(d, etc, "older", &err), HF_RELEASE_KEYS_OLDER);
	assert_int_equal(trusted(d, etc), 5);
	write_list(d, "etc", 6); /* by a package */
	assert_int_equal(trusted(d, etc), 6);
	hf_test_write(d, "etc", "garbage");
	assert_int_equal(trusted(d, etc), 5);
	hf_test_write(d, "keys", "garbage as well");
	assert_int_equal(hf_release_keys_load(d->fd, etc, &l, &err), HF_RELEASE_NO_KEYS);
	assert_null(l);
}

#define WITH_DIR(test) \
	cmocka_unit_test_setup_teardown(test, hf_test_dir_setup, hf_test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(os_release_is_read_as_it_is_written),
		cmocka_unit_test(this_host_has_facts),
		WITH_DIR(the_newest_list_that_is_vouched_for_counts),
	};

	return HF_RUN_TESTS(tests);
}
