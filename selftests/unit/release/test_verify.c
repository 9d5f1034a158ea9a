/* SPDX-License-Identifier: Apache-2.0 */
/* Who may be installed: every refusal, one by one, and what stands in which order. */
#include "selftests/unit/release/keys_fixture.h"

#include "userspace/release/verify.h"

#define NOW (MADE + 30 * DAY)

/* A question whose answer is yes, in parts that a test changes before it asks. */
struct asked {
	struct hf_manifest m;
	struct hf_manifest_file file;
	struct hf_keylist keys;
	struct hf_release_host host;
	struct hf_release_state state;
	struct hf_release_question q;
	uint8_t signer;
	uint8_t signature[HF_SIGNATURE_SIZE];
	struct hf_buf text;
	struct hf_err err;
};

static struct asked a;

static void arrange(void)
{
	a = (struct asked){
		.m = {.product = "holdfast",
		      .component = "agent",
		      .version = "1.4.0",
		      .os = "linux",
		      .arch = "x86_64",
		      .distro = "debian-12",
		      .libc = "glibc-2.36",
		      .environment = "prod",
		      .security_epoch = 3,
		      .min_from_version = "1.2.0",
		      .created_s = MADE,
		      .expires_s = MADE + 200 * DAY},
		.file = {.path = "bin/a", .mode = 0555, .size = 1},
		.keys = test_list(),
		.host = {.product = "holdfast",
			 .os = "linux",
			 .arch = "x86_64",
			 .distro = "debian",
			 .distro_version = "12",
			 .libc = "glibc-2.36",
			 .environment = "prod"},
		.state = {.component = "agent", .version = "1.3.0", .security_epoch = 3},
		.signer = KEY_A,
	};
	a.q = (struct hf_release_question){
		.keys = &a.keys, .host = &a.host, .state = &a.state, .now_s = NOW};
}

/* Signs what is arranged and asks. */
static enum hf_refusal answer(void)
{
	struct hf_secret_key k = test_key(a.signer);
	enum hf_refusal refusal;

	a.m.files = &a.file;
	a.m.n_files = 1;
	memcpy(a.m.key_id, k.pub.id, HF_KEY_ID_SIZE);
	a.text.len = 0;
	assert_ok(hf_manifest_encode(&a.m, &a.text, NULL));
	assert_ok(hf_key_sign(&k, a.text.data, a.text.len, a.signature));
	a.q.manifest = &a.m;
	a.q.manifest_text = a.text.data;
	a.q.manifest_len = a.text.len;
	a.q.signature = a.signature;
	a.err = (struct hf_err){};
	refusal = hf_release_verify(&a.q, &a.err);
	assert_int_equal(a.err.code, refusal == HF_RELEASE_OK ? 0 : -EKEYREJECTED);
	hf_buf_done(&a.text);
	return refusal;
}

#define SET(field, value) (void)snprintf(field, sizeof(field), "%s", value)
/* arrange(), one change, and what comes of it. */
#define CASE(want, ...)                                                                   \
	do {                                                                              \
		enum hf_refusal got_;                                                     \
		arrange();                                                                \
		__VA_ARGS__;                                                              \
		got_ = answer();                                                          \
		if (got_ != HF_RELEASE_##want)                                            \
			print_error("%s: %s '%s'\n", #__VA_ARGS__, hf_refusal_name(got_), \
				    a.err.msg);                                           \
		assert_int_equal(got_, HF_RELEASE_##want);                                \
	} while (0)

static void what_fits_is_installed(void **state)
{
	(void)state;
	CASE(OK, );
	CASE(OK, a.state.version = NULL);
	CASE(OK, SET(a.m.environment, "any"));
	CASE(OK, a.m.security_epoch = 4);
}

static void keys_are_judged(void **state)
{
	(void)state;
	CASE(NO_KEYS, a.q.keys = NULL);
	CASE(KEY_EARLY, a.q.now_s = MADE - DAY); /* within the slack */
	CASE(CLOCK, a.q.now_s = MADE - DAY - 1);
	CASE(CLOCK, a.q.now_s = 0);
	CASE(KEYS_EXPIRED, a.keys.expires_s = NOW);
	CASE(OK, a.keys.expires_s = NOW + 1);
	CASE(KEYS_EXPIRED, a.q.now_s = UINT64_C(1) << 40);
	CASE(KEY_UNKNOWN, a.signer = KEY_STRANGER);
	CASE(KEY_UNKNOWN, a.signer = ROOT_A); /* a root signs lists only */
	CASE(KEY_REVOKED, a.signer = KEY_REVOKED);
	CASE(KEY_REVOKED, a.signer = KEY_REVOKED; a.keys.n_keys = 3);
	CASE(KEY_EARLY, a.signer = KEY_B);
	CASE(KEY_EARLY, a.signer = KEY_B; a.q.now_s = MADE + 100 * DAY - 1);
	CASE(OK, a.signer = KEY_B; a.q.now_s = MADE + 100 * DAY);
	CASE(OK, a.signer = KEY_B; a.q.now_s = MADE + 200 * DAY - 1);
	CASE(KEY_EXPIRED, a.signer = KEY_B; a.q.now_s = MADE + 200 * DAY);
	CASE(KEY_SCOPE, a.signer = KEY_DEV);
	CASE(KEY_SCOPE, a.signer = KEY_DEV; SET(a.m.environment, "any"));
	CASE(OK, a.signer = KEY_DEV; SET(a.m.environment, "dev"); SET(a.host.environment, "dev"));
}

static void nothing_signed_can_be_changed(void **state)
{
	struct hf_secret_key k = test_key(KEY_A);
	struct hf_manifest *changed;

	(void)state;
	CASE(OK, );
	/* The same question again, with the text's bits flipped one by one. */
	assert_ok(hf_manifest_encode(&a.m, &a.text, NULL));
	assert_ok(hf_key_sign(&k, a.text.data, a.text.len, a.signature));
	a.q.manifest_text = a.text.data;
	a.q.manifest_len = a.text.len;
	assert_int_equal(hf_release_verify(&a.q, NULL), HF_RELEASE_OK);
	for (size_t bit = 0; bit < 8 * a.text.len; bit += 5) {
		a.text.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (hf_manifest_decode(a.text.data, a.text.len, &changed, NULL) == 0) {
			enum hf_refusal refusal;

			a.q.manifest = changed;
			refusal = hf_release_verify(&a.q, NULL);
			/* The key's own id may have been hit. */
			assert_true(refusal == HF_RELEASE_SIGNATURE ||
				    refusal == HF_RELEASE_KEY_UNKNOWN);
			(void)hf_manifest_free(changed);
		}
		a.text.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	a.q.manifest = &a.m;
	for (size_t bit = 0; bit < 8 * sizeof(a.signature); bit += 7) {
		a.signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(hf_release_verify(&a.q, NULL), HF_RELEASE_SIGNATURE);
		a.signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(hf_release_verify(&a.q, NULL), HF_RELEASE_OK);
	memset(a.m.key_id, 0, sizeof(a.m.key_id));
	assert_int_equal(hf_release_verify(&a.q, NULL), HF_RELEASE_UNSIGNED);
	hf_buf_done(&a.text);
}

static void another_host_is_named(void **state)
{
	(void)state;
	CASE(PRODUCT, SET(a.m.product, "other"));
	CASE(COMPONENT, SET(a.m.component, "watchdog"));
	CASE(OS, SET(a.m.os, "freebsd"));
	CASE(ARCH, SET(a.m.arch, "aarch64"));
	assert_string_equal(a.err.msg, "another architecture: 'aarch64', here is 'x86_64'");
	CASE(ENVIRONMENT, SET(a.m.environment, "dev"));
	CASE(ENVIRONMENT, SET(a.host.environment, ""));
}

static void distributions_are_matched_by_name_and_version(void **state)
{
	(void)state;
	CASE(OK, SET(a.m.distro, "any"));
	CASE(OK, SET(a.m.distro, "debian"));
	CASE(OK, SET(a.m.distro, "any"); SET(a.host.distro, ""));
	CASE(OK, SET(a.host.distro_version, "12.9"));
	CASE(OK, SET(a.m.distro, "ubuntu-24.04"); SET(a.host.distro, "ubuntu");
	     SET(a.host.distro_version, "24.04"));
	CASE(DISTRO, SET(a.m.distro, "ubuntu-24.04"));
	CASE(DISTRO, SET(a.host.distro_version, "13"));
	CASE(DISTRO, SET(a.host.distro_version, "120"));
	CASE(DISTRO, SET(a.host.distro_version, "1"));
	CASE(DISTRO, SET(a.host.distro_version, ""));
	CASE(DISTRO, SET(a.host.distro, ""));
	CASE(DISTRO, SET(a.m.distro, "debianish"));
	CASE(DISTRO, SET(a.m.distro, "debian-"); SET(a.host.distro_version, ""));
	CASE(DISTRO, SET(a.m.distro, "rhel"));
}

static void the_c_library_may_be_newer(void **state)
{
	(void)state;
	CASE(OK, SET(a.m.libc, "any"));
	CASE(OK, SET(a.m.libc, "any"); SET(a.host.libc, ""));
	CASE(OK, SET(a.host.libc, "glibc-2.41"));
	CASE(OK, SET(a.host.libc, "glibc-3.0"));
	CASE(LIBC, SET(a.host.libc, "glibc-2.35"));
	CASE(LIBC, SET(a.host.libc, "glibc-1.99"));
	CASE(LIBC, SET(a.host.libc, "glibc-2.9")); /* 9 is less than 36 */
	CASE(LIBC, SET(a.host.libc, "musl-2.36"));
	CASE(LIBC, SET(a.host.libc, ""));
	CASE(LIBC, SET(a.m.libc, "glibc"));
	CASE(LIBC, SET(a.m.libc, "glibc-2"));
	CASE(LIBC, SET(a.m.libc, "glibc-x.y"));
}

static void time_is_judged(void **state)
{
	(void)state;
	CASE(EXPIRED, a.q.now_s = MADE + 200 * DAY);
	CASE(OK, a.q.now_s = MADE + 200 * DAY - 1);
	CASE(CLOCK, a.m.created_s = NOW + DAY + 1);
	CASE(OK, a.m.created_s = NOW + DAY);
}

static void older_ones_are_refused(void **state)
{
	(void)state;
	CASE(DOWNGRADE, a.state.version = "1.4.1");
	CASE(DOWNGRADE, SET(a.m.version, "1.3.0-rc.1"));
	CASE(OK, a.state.version = "1.4.1"; a.q.origin = HF_RELEASE_BY_ADMIN);
	CASE(SAME_VERSION, a.state.version = "1.4.0");
	CASE(SAME_VERSION, a.state.version = "1.4.0+rebuilt");
	CASE(OK, a.state.version = "1.4.0"; a.q.origin = HF_RELEASE_BY_ADMIN);
	CASE(FROM_VERSION, a.state.version = "1.1.9");
	CASE(FROM_VERSION, a.state.version = "1.1.9"; a.q.origin = HF_RELEASE_BY_ADMIN);
	CASE(OK, a.state.version = "1.2.0");
	CASE(FROM_VERSION, a.state.version = "1.2.0-rc.1");
}

static void nobody_gets_below_the_security_epoch(void **state)
{
	(void)state;
	CASE(SECURITY_EPOCH, a.m.security_epoch = 2);
	CASE(SECURITY_EPOCH, a.m.security_epoch = 2; a.q.origin = HF_RELEASE_BY_ADMIN);
	CASE(SECURITY_EPOCH, a.m.security_epoch = 2; a.state.version = NULL);
	CASE(SECURITY_EPOCH, a.m.security_epoch = 2; SET(a.m.version, "9.0.0"));
}

static void what_failed_here_is_not_tried_again_by_itself(void **state)
{
	uint8_t bad[2][HF_RELEASE_BAD_SIZE] = {}, hash[HF_SHA256_SIZE];

	(void)state;
	CASE(OK, );
	assert_ok(hf_manifest_encode(&a.m, &a.text, NULL));
	assert_ok(hf_sha256(a.text.data, a.text.len, hash));
	memcpy(bad[1], hash, sizeof(bad[1]));
	hf_buf_done(&a.text);
	CASE(KNOWN_BAD, a.state.bad = bad; a.state.n_bad = 2);
	CASE(OK, a.state.bad = bad; a.state.n_bad = 1);
	CASE(OK, a.state.bad = bad; a.state.n_bad = 2; a.q.origin = HF_RELEASE_BY_ADMIN);
	CASE(SAME, memcpy(a.state.manifest_hash, hash, sizeof(hash)));
	CASE(SAME, memcpy(a.state.manifest_hash, hash, sizeof(hash));
	     a.q.origin = HF_RELEASE_BY_ADMIN);
}

static void the_signature_comes_before_anything_else(void **state)
{
	(void)state;
	CASE(KEY_UNKNOWN, a.signer = KEY_STRANGER; SET(a.m.arch, "aarch64");
	     a.m.security_epoch = 0);
	CASE(PRODUCT, SET(a.m.product, "x"); SET(a.m.arch, "aarch64"); a.m.security_epoch = 0);
	CASE(EXPIRED, SET(a.m.product, "x"); a.q.now_s = MADE + 200 * DAY);
}

static void every_refusal_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (unsigned i = 0; i < _HF_RELEASE_MAX; i++) {
		assert_true(strlen(hf_refusal_text(i)) > 2);
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(hf_refusal_name(i), hf_refusal_name(k));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_fits_is_installed),
		cmocka_unit_test(keys_are_judged),
		cmocka_unit_test(nothing_signed_can_be_changed),
		cmocka_unit_test(another_host_is_named),
		cmocka_unit_test(distributions_are_matched_by_name_and_version),
		cmocka_unit_test(the_c_library_may_be_newer),
		cmocka_unit_test(time_is_judged),
		cmocka_unit_test(older_ones_are_refused),
		cmocka_unit_test(nobody_gets_below_the_security_epoch),
		cmocka_unit_test(what_failed_here_is_not_tried_again_by_itself),
		cmocka_unit_test(the_signature_comes_before_anything_else),
		cmocka_unit_test(every_refusal_has_a_name_of_its_own),
	};

	return HF_RUN_TESTS(tests);
}
