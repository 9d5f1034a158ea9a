/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, digests, and minisign's files; what the real minisign says of them is in the e2e tests. */
#include "selftests/unit/release/keys_fixture.h"

#include <sys/mman.h>

#include "base/str.h"
#include "userspace/release/blake2b.h"
#include "userspace/release/minisign.h"

/* RFC 8032 section 7.1, test 2. */
static void signs_as_rfc8032(void **state)
{
	static const uint8_t id[HF_KEY_ID_SIZE] = {1};
	uint8_t seed[HF_KEY_SIZE], point[HF_KEY_SIZE], want[HF_SIGNATURE_SIZE],
		sig[HF_SIGNATURE_SIZE];
	struct hf_secret_key k;

	(void)state;
	assert_ok(hf_hex_decode(
		seed, 32, "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"));
	assert_ok(hf_hex_decode(
		point, 32, "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"));
	assert_ok(
		hf_hex_decode(want, 64,
			      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
			      "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"));
	assert_ok(hf_key_from_seed(id, seed, &k));
	assert_memory_equal(k.pub.point, point, 32);
	assert_ok(hf_key_sign(&k, "\x72", 1, sig));
	assert_memory_equal(sig, want, 64);
	assert_true(hf_key_verify(&k.pub, "\x72", 1, sig));
}

static void a_signature_is_of_one_key_and_one_text(void **state)
{
	struct hf_secret_key k = test_key(1), other = test_key(2);
	uint8_t sig[HF_SIGNATURE_SIZE];

	(void)state;
	assert_ok(hf_key_sign(&k, "abc", 3, sig));
	assert_true(hf_key_verify(&k.pub, "abc", 3, sig));
	assert_false(hf_key_verify(&k.pub, "abd", 3, sig));
	assert_false(hf_key_verify(&k.pub, "abc", 2, sig));
	assert_false(hf_key_verify(&k.pub, "", 0, sig));
	assert_false(hf_key_verify(&other.pub, "abc", 3, sig));
	for (size_t bit = 0; bit < 8 * sizeof(sig); bit++) {
		sig[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(hf_key_verify(&k.pub, "abc", 3, sig));
		sig[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	memset(k.pub.point, 0xff, sizeof(k.pub.point)); /* no point of the curve */
	assert_false(hf_key_verify(&k.pub, "abc", 3, sig));
}

static void new_keys_differ(void **state)
{
	struct hf_secret_key a, b;

	(void)state;
	assert_ok(hf_key_generate(&a));
	assert_ok(hf_key_generate(&b));
	assert_memory_not_equal(a.pub.id, b.pub.id, sizeof(a.pub.id));
	assert_memory_not_equal(a.pub.point, b.pub.point, sizeof(a.pub.point));
	hf_key_wipe(&a);
	for (size_t i = 0; i < sizeof(a); i++)
		assert_int_equal(((uint8_t *)&a)[i], 0);
}

static void blake2b_agrees_with_the_library_and_with_b2sum(void **state)
{
	uint8_t data[600], ours[64], theirs[64];
	char hex[65];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t len = 0; len <= sizeof(data); len++) {
		_cleanup_(hf_digest_freep) struct hf_digest *d = NULL;

		hf_blake2b(ours, 64, data, len);
		assert_ok(hf_digest_new(HF_DIGEST_BLAKE2B512, &d));
		assert_ok(hf_digest_add(d, data, len));
		assert_ok(hf_digest_end(d, theirs));
		assert_memory_equal(ours, theirs, 64);
	}
	hf_blake2b(ours, 32, "abc", 3);
	hf_hex_encode(hex, ours, 32);
	assert_string_equal(hex,
			    "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

static void a_public_key_comes_back(void **state)
{
	struct hf_secret_key k = test_key(3);
	struct hf_public_key back;
	struct hf_buf out = {};

	(void)state;
	assert_ok(hf_minisign_format_public(&k.pub, "a key", &out));
	assert_ok(hf_minisign_parse_public((char *)out.data, out.len, &back, NULL));
	assert_memory_equal(&back, &k.pub, sizeof(back));
	for (size_t len = 0; len < out.len - 1; len++) /* the last byte is the LF */
		assert_err(hf_minisign_parse_public((char *)out.data, len, &back, NULL), -EBADMSG);
	assert_ok(hf_buf_appendf(&out, "more\n"));
	assert_err(hf_minisign_parse_public((char *)out.data, out.len, &back, NULL), -EBADMSG);
	out.len = 0;
	assert_err(hf_minisign_format_public(&k.pub, "two\nlines", &out), -EINVAL);
	hf_buf_done(&out);
}

/* Made by minisign 0.11 -G -W. */
static void a_key_of_minisign_is_read(void **state)
{
	static const char public_text[] =
		"untrusted comment: minisign public key 163103E50B0E3192\nRWSSMQ4L5QMxFjdDmd3YbFFnArZU++t3VXVtvI14kxueP1ebFeUwAHsa\n";
	static const char secret_text[] =
		"untrusted comment: minisign encrypted secret key\n"
		"RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAkjEOC+UD"
		"MRZwF1uwR8msT9dl8ovRXkWFLiDiIJ4sTM1BZSrJrXq0vDdDmd3YbFFnArZU++t3VXVtvI14kxueP1eb"
		"FeUwAHsaAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
	struct hf_secret_key secret;
	struct hf_public_key public;
	struct hf_err err = {};
	char id[HF_KEY_ID_TEXT_SIZE];

	(void)state;
	assert_ok(hf_minisign_parse_public(public_text, strlen(public_text), &public, &err));
	assert_ok(hf_minisign_parse_secret(secret_text, strlen(secret_text), NULL, &secret, &err));
	assert_memory_equal(&secret.pub, &public, sizeof(public));
	hf_key_id_format(public.id, id);
	assert_string_equal(id, "163103E50B0E3192");
}

static void a_secret_key_comes_back_with_its_passphrase_only(void **state)
{
	struct hf_secret_key k = test_key(3), back = {};
	struct hf_buf out = {};
	struct hf_err err = {};
	char *text;

	(void)state;
	assert_ok(hf_minisign_format_secret(&k, "c", NULL, HF_MINISIGN_KDF_INTERACTIVE, &out));
	assert_ok(hf_minisign_parse_secret((char *)out.data, out.len, NULL, &back, &err));
	assert_memory_equal(&back, &k, sizeof(k));

	out.len = 0;
	assert_ok(hf_minisign_format_secret(&k, "c", "secret", HF_MINISIGN_KDF_INTERACTIVE, &out));
	text = (char *)out.data;
	memset(&back, 0, sizeof(back));
	assert_err(hf_minisign_parse_secret(text, out.len, NULL, &back, &err), -ENOKEY);
	assert_err(hf_minisign_parse_secret(text, out.len, "Secret", &back, &err), -EKEYREJECTED);
	assert_err(hf_minisign_parse_secret(text, out.len, "", &back, &err), -EKEYREJECTED);
	assert_string_equal(err.msg, "wrong passphrase");
	assert_int_equal(back.seed[0], 0);
	assert_ok(hf_minisign_parse_secret(text, out.len, "secret", &back, &err));
	assert_memory_equal(&back, &k, sizeof(k));
	hf_buf_done(&out);
}

static void a_damaged_secret_key_is_refused(void **state)
{
	struct hf_secret_key k = test_key(3), back;
	struct hf_buf out = {};
	uint8_t blob[158];
	size_t len = sizeof(blob);
	char *data;

	(void)state;
	assert_ok(hf_minisign_format_secret(&k, "c", NULL, HF_MINISIGN_KDF_INTERACTIVE, &out));
	data = strchr((char *)out.data, '\n') + 1;
	assert_ok(hf_base64_decode(blob, &len, data, strlen(data) - 1));
	assert_int_equal(len, sizeof(blob));
	for (size_t i = 0; i < sizeof(blob); i++) {
		char text[512];
		size_t n;
		int r;

		blob[i] ^= 1;
		n = (size_t)snprintf(text, sizeof(text), "untrusted comment: x\n");
		n += hf_base64_encode(text + n, blob, sizeof(blob));
		r = hf_minisign_parse_secret(text, n, NULL, &back, NULL);
		/* Without a passphrase salt and cost mean nothing. */
		if (i >= 6 && i < 54)
			assert_ok(r);
		else
			assert_err(r, -EBADMSG);
		blob[i] ^= 1;
	}
	/* "Sc" with a cost that is out of bounds takes no memory. */
	memcpy(blob + 2, "Sc", 2);
	memset(blob + 38, 0xff, 16);
	{
		char text[512];
		size_t n = (size_t)snprintf(text, sizeof(text), "untrusted comment: x\n");

		n += hf_base64_encode(text + n, blob, sizeof(blob));
		assert_err(hf_minisign_parse_secret(text, n, "p", &back, NULL), -EBADMSG);
	}
	hf_buf_done(&out);
}

static int memory_file(const void *data, size_t len)
{
	int fd = memfd_create("signed", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_ok(hf_write_full(fd, data, len));
	return fd;
}

static void a_detached_signature_is_of_one_file_and_one_comment(void **state)
{
	struct hf_secret_key k = test_key(3), other = test_key(4);
	_cleanup_close_ int fd = memory_file("content", 7), changed = memory_file("Content", 7);
	char comment[HF_MINISIGN_COMMENT_MAX] = "untouched", *text, *at;
	struct hf_buf out = {};
	struct hf_err err = {};

	(void)state;
	assert_ok(hf_minisign_sign(&k, fd, "made on a Friday", &out, &err));
	assert_ok(hf_buf_append(&out, "", 1));
	text = (char *)out.data;
	out.len--;
	assert_err(hf_minisign_verify(&k.pub, changed, text, out.len, comment, &err),
		   -EKEYREJECTED);
	assert_string_equal(err.msg, "the signature is not of this file");
	assert_err(hf_minisign_verify(&other.pub, fd, text, out.len, comment, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.msg, "signed by key 0307060504030203, not by 0407060504030204"));
	for (size_t len = 0; len < out.len - 1; len++)
		assert_err(hf_minisign_verify(&k.pub, fd, text, len, comment, &err), -EBADMSG);
	at = strstr(text, "Friday");
	*at = 'f';
	assert_err(hf_minisign_verify(&k.pub, fd, text, out.len, comment, &err), -EKEYREJECTED);
	assert_string_equal(err.msg, "the trusted comment was changed");
	*at = 'F';
	assert_string_equal(comment, "untouched");
	assert_ok(hf_minisign_verify(&k.pub, fd, text, out.len, comment, &err));
	assert_string_equal(comment, "made on a Friday");
	hf_buf_done(&out);
}

static void a_legacy_signature_is_refused(void **state)
{
	struct hf_secret_key k = test_key(3);
	_cleanup_close_ int fd = memory_file("content", 7);
	char comment[HF_MINISIGN_COMMENT_MAX], *line;
	uint8_t blob[74];
	size_t len = sizeof(blob);
	struct hf_buf out = {};
	struct hf_err err = {};

	(void)state;
	assert_ok(hf_minisign_sign(&k, fd, "c", &out, &err));
	line = strchr((char *)out.data, '\n') + 1;
	assert_ok(hf_base64_decode(blob, &len, line, strcspn(line, "\n")));
	assert_memory_equal(blob, "ED", 2);
	blob[1] = 'd';
	(void)hf_base64_encode(line, blob, sizeof(blob));
	line[100] = '\n';
	assert_err(hf_minisign_verify(&k.pub, fd, (char *)out.data, out.len, comment, &err),
		   -EBADMSG);
	assert_non_null(strstr(err.msg, "legacy"));
	hf_buf_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signs_as_rfc8032),
		cmocka_unit_test(a_signature_is_of_one_key_and_one_text),
		cmocka_unit_test(new_keys_differ),
		cmocka_unit_test(blake2b_agrees_with_the_library_and_with_b2sum),
		cmocka_unit_test(a_public_key_comes_back),
		cmocka_unit_test(a_key_of_minisign_is_read),
		cmocka_unit_test(a_secret_key_comes_back_with_its_passphrase_only),
		cmocka_unit_test(a_damaged_secret_key_is_refused),
		cmocka_unit_test(a_detached_signature_is_of_one_file_and_one_comment),
		cmocka_unit_test(a_legacy_signature_is_refused),
	};

	return HF_RUN_TESTS(tests);
}
