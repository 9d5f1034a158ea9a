/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest's text: one spelling, and a reason for each thing it may not say. */
#include "selftests/unit/test_util.h"

#include "base/str.h"
#include "userspace/release/manifest.h"
#include "userspace/release/text.h"

#define D1 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define D2 "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

static const char good[] = "holdfast-manifest 1\n"
			   "product holdfast\n"
			   "component agent\n"
			   "version 1.4.0\n"
			   "os linux\n"
			   "arch x86_64\n"
			   "distro debian-12\n"
			   "libc glibc-2.36\n"
			   "environment prod\n"
			   "security-epoch 3\n"
			   "min-from-version 1.2.0\n"
			   "created 2026-01-02T03:04:05Z\n"
			   "expires 2027-01-02T03:04:05Z\n"
			   "key 0123456789ABCDEF\n"
			   "file 0555 1234 " D1 " bin/holdfast-agent\n"
			   "file 0444 0 " D2 " share/doc/a\n";

static void a_good_one_has_all_its_values(void **state)
{
	_cleanup_(hf_manifest_freep) struct hf_manifest *m = NULL;
	static const uint8_t key[] = {0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
	struct hf_err err = {};

	(void)state;
	assert_ok(hf_manifest_decode(good, sizeof(good) - 1, &m, &err));
	assert_string_equal(m->product, "holdfast");
	assert_string_equal(m->component, "agent");
	assert_string_equal(m->version, "1.4.0");
	assert_string_equal(m->os, "linux");
	assert_string_equal(m->arch, "x86_64");
	assert_string_equal(m->distro, "debian-12");
	assert_string_equal(m->libc, "glibc-2.36");
	assert_string_equal(m->environment, "prod");
	assert_int_equal(m->security_epoch, 3);
	assert_string_equal(m->min_from_version, "1.2.0");
	assert_int_equal(m->created_s, 1767323045);
	assert_int_equal(m->expires_s, 1767323045 + 365 * 86400);
	assert_memory_equal(m->key_id, key, sizeof(key));
	assert_int_equal(m->n_files, 2);
	assert_string_equal(m->files[0].path, "bin/holdfast-agent");
	assert_int_equal(m->files[0].mode, 0555);
	assert_int_equal(m->files[0].size, 1234);
	assert_int_equal(m->files[0].sha256[1], 0x23);
	assert_string_equal(m->files[1].path, "share/doc/a");
	assert_int_equal(m->payload_bytes, 1234);
}

/* The good one with `from` replaced by `to`; the first fault must contain `why`. */
static const struct {
	const char *from, *to, *why;
} wrong[] = {
	{"holdfast-manifest 1\n", "", "line 1: 'holdfast-manifest' was expected"},
	{"holdfast-manifest 1", "holdfast-manifest 2", "line 1: manifest format 2"},
	{"holdfast-manifest 1", "holdfast-keys 1", "line 1: 'holdfast-manifest' was expected"},
	{"product holdfast\n", "", "line 2: 'product' was expected"},
	{"product holdfast\n", "product holdfast\nproduct holdfast\n", "line 3: 'component'"},
	{"product holdfast", "product", "line 2: 'product' was expected"},
	{"product holdfast", "product ", "line 2: 'product' has 0 characters"},
	{"product holdfast", "product  holdfast", "is no word"},
	{"product holdfast", "product hold fast", "is no word"},
	{"product holdfast", "product -rf", "is no word"},
	{"product holdfast", "product hold\tfast", "no printable ASCII"},
	{"product holdfast", "product hold\xc3\xa4", "no printable ASCII"},
	{"product holdfast\n", "product holdfast\r\n", "no printable ASCII"},
	{"product holdfast", "product aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "is no word of 1 to 31"},
	{"component agent", "component ../x", "is no word"},
	{"component agent", "component .hidden", "is no word"},
	{"component agent", "Component agent", "'component' was expected"},
	{"version 1.4.0", "version 1.4", "'1.4' is no semantic version"},
	{"version 1.4.0", "version 1.4.0/../..", "is no semantic version"},
	{"version 1.4.0", "version 01.4.0", "is no semantic version"},
	{"os linux\narch x86_64\n", "arch x86_64\nos linux\n", "line 5: 'os' was expected"},
	{"security-epoch 3", "security-epoch -3", "is no number"},
	{"security-epoch 3", "security-epoch 03", "is no number"},
	{"security-epoch 3", "security-epoch +3", "is no number"},
	{"security-epoch 3", "security-epoch 1000000001", "is no number from 0 to 1000000000"},
	{"security-epoch 3", "security-epoch 99999999999999999999", "is no number"},
	{"min-from-version 1.2.0", "min-from-version x", "is no semantic version"},
	{"created 2026-01-02T03:04:05Z", "created 2026-01-02 03:04:05Z", "is no time"},
	{"created 2026-01-02T03:04:05Z", "created 2026-02-30T03:04:05Z", "is no time"},
	{"created 2026-01-02T03:04:05Z", "created 2026-1-02T03:04:05Z", "is no time"},
	{"created 2026-01-02T03:04:05Z", "created 2026-01-02T03:04:05+00:00", "is no time"},
	{"created 2026-01-02T03:04:05Z", "created 1969-12-31T23:59:59Z", "is no time"},
	{"created 2026-01-02T03:04:05Z", "created 2026-01-02T03:04:60Z", "is no time"},
	{"expires 2027", "expires 2025", "an expiry that is not after the creation"},
	{"expires 2027", "expires 2026", "an expiry that is not after the creation"},
	{"key 0123456789ABCDEF", "key 0123456789abcdef", "is no key id"},
	{"key 0123456789ABCDEF", "key 0123456789ABCDE", "is no key id"},
	{"key 0123456789ABCDEF", "key 0123456789ABCDEFF", "is no key id"},
	{"0555 1234", "0755 1234", "a mode that is neither 0444 nor 0555"},
	{"0555 1234", "04555 1234", "a setuid, setgid or sticky bit"},
	{"0555 1234", "02555 1234", "a setuid, setgid or sticky bit"},
	{"0555 1234", "01555 1234", "a setuid, setgid or sticky bit"},
	{"0555 1234", "00555 1234", "not in its canonical form"},
	{"0555 1234", "555 1234", "is no mode"},
	{"0555 1234", "0558 1234", "is no mode"},
	{"0555 1234", "0x555 1234", "is no mode"},
	{"0555 1234", "-0555 1234", "is no mode"},
	{"0555 1234", "0555  1234", "a word is missing"},
	{"0555 1234", "0555 01234", "is no number"},
	{"0555 1234", "0555 268435457", "is no number"},
	{D1, "0123", "is not 32 bytes in hexadecimal"},
	{D1, "g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "is not 32 bytes"},
	{D1, "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", "canonical form"},
	{" bin/holdfast-agent", "", "an empty path"},
	{"bin/holdfast-agent", "/bin/holdfast-agent", "an absolute path"},
	{"bin/holdfast-agent", "../holdfast-agent", "a component that is '.' or '..'"},
	{"bin/holdfast-agent", "bin/../../etc/passwd", "a component that is '.' or '..'"},
	{"bin/holdfast-agent", "bin/..", "a component that is '.' or '..'"},
	{"bin/holdfast-agent", "./bin", "a component that is '.' or '..'"},
	{"bin/holdfast-agent", "bin//holdfast-agent", "an empty component"},
	{"bin/holdfast-agent", "bin/", "an empty component"},
	{"bin/holdfast-agent", ".manifest", "a component that is no word"},
	{"bin/holdfast-agent", "bin/.x", "a component that is no word"},
	{"bin/holdfast-agent", "bin/-x", "a component that is no word"},
	{"bin/holdfast-agent", "bin/a b", "a component that is no word"},
	{"bin/holdfast-agent", "bin/a\\b", "a component that is no word"},
	{"bin/holdfast-agent", "a/b/c/d/e/f/g/h/i", "a path that is too deep"},
	{"bin/holdfast-agent", "share/doc/a", "a path that is there twice"},
	{"bin/holdfast-agent", "share/doc/b", "paths that are not sorted"},
	{"bin/holdfast-agent", "share/doc", "a path that passes through another file"},
	{"bin/holdfast-agent", "share", "a path that passes through another file"},
	{"share/doc/a\n", "share/doc/a", "the line has no end"},
	{"share/doc/a\n", "share/doc/a\n\n", "line 17: 'file' was expected"},
	{"share/doc/a\n", "share/doc/a\nx", "line 17: 'file' was expected"},
	{"share/doc/a\n", "share/doc/a \n", "a component that is no word"},
	{"file 0555 1234 " D1 " bin/holdfast-agent\nfile 0444 0 " D2 " share/doc/a\n", "",
	 "no file"},
};

static char *replaced(const char *from, const char *to, size_t *ret_len)
{
	const char *at = strstr(good, from);
	char *text;

	assert_non_null(at);
	text = hf_asprintf("%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
	assert_non_null(text);
	*ret_len = strlen(text);
	return text;
}

static void each_fault_has_its_reason(void **state)
{
	struct hf_manifest *m = NULL;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(wrong); i++) {
		size_t len;
		_cleanup_free_ char *text = replaced(wrong[i].from, wrong[i].to, &len);
		struct hf_err err = {};
		int r = hf_manifest_decode(text, len, &m, &err);

		if (r != -EBADMSG || !strstr(err.msg, wrong[i].why))
			print_error("'%s' for '%s': %d '%s', expected '%s'\n", wrong[i].to,
				    wrong[i].from, r, err.msg, wrong[i].why);
		assert_err(r, -EBADMSG);
		assert_non_null(strstr(err.msg, wrong[i].why));
		assert_null(m);
	}
}

static void every_truncation_is_refused(void **state)
{
	struct hf_manifest *m = NULL;
	size_t last_file = (size_t)(strstr(good, "file 0444") - good);

	(void)state;
	for (size_t len = 0; len < sizeof(good) - 1; len++) {
		/* On the heap, so that a byte read behind the end is seen. */
		_cleanup_free_ char *copy = malloc(len + 1);
		int r;

		assert_non_null(copy);
		memcpy(copy, good, len);
		copy = realloc(copy, len ? len : 1);
		r = hf_manifest_decode(copy, len, &m, NULL);
		/* Less one file is a manifest too; its signature tells. */
		if (len == last_file) {
			assert_ok(r);
			m = hf_manifest_free(m);
		} else {
			assert_err(r, -EBADMSG);
		}
	}
}

static void every_accepted_bit_flip_is_another_manifest_in_canonical_form(void **state)
{
	unsigned accepted = 0;

	(void)state;
	for (size_t bit = 0; bit < 8 * (sizeof(good) - 1); bit++) {
		_cleanup_(hf_manifest_freep) struct hf_manifest *m = NULL;
		struct hf_buf again = {};
		char text[sizeof(good)];

		memcpy(text, good, sizeof(good));
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
		if (hf_manifest_decode(text, sizeof(good) - 1, &m, NULL) < 0)
			continue;
		accepted++;
		assert_ok(hf_manifest_encode(m, &again, NULL));
		assert_int_equal(again.len, sizeof(good) - 1);
		assert_memory_equal(again.data, text, again.len);
		assert_memory_not_equal(again.data, good, again.len);
		hf_buf_done(&again);
	}
	assert_true(accepted > 100); /* digits, letters of words */
}

static void a_nul_is_no_end(void **state)
{
	struct hf_manifest *m = NULL;
	char text[sizeof(good)];

	(void)state;
	memcpy(text, good, sizeof(good));
	*strstr(text, "share") = '\0';
	assert_err(hf_manifest_decode(text, sizeof(good) - 1, &m, NULL), -EBADMSG);
	memcpy(text, good, sizeof(good));
	assert_err(hf_manifest_decode(text, sizeof(good), &m, NULL), -EBADMSG);
	assert_null(m);
}

static void sizes_are_capped(void **state)
{
	_cleanup_free_ char *big = calloc(1, HF_MANIFEST_SIZE_MAX + 1);
	_cleanup_free_ struct hf_manifest_file *files =
		calloc(HF_MANIFEST_FILES_MAX + 1, sizeof(*files));
	_cleanup_(hf_manifest_freep) struct hf_manifest *m = NULL, *none = NULL;
	struct hf_buf out = {};
	struct hf_err err = {};

	(void)state;
	assert_non_null(big);
	assert_non_null(files);
	assert_err(hf_manifest_decode(big, HF_MANIFEST_SIZE_MAX + 1, &none, NULL), -EFBIG);
	assert_ok(hf_manifest_decode(good, sizeof(good) - 1, &m, NULL));
	free(m->files);
	m->files = TAKE_PTR(files);
	for (size_t i = 0; i <= HF_MANIFEST_FILES_MAX; i++) {
		(void)hf_strf(m->files[i].path, HF_MANIFEST_PATH_MAX, "f%05zu", i);
		m->files[i].mode = 0444;
	}
	m->n_files = HF_MANIFEST_FILES_MAX;
	assert_ok(hf_manifest_encode(m, &out, &err));
	/* One more line than is allowed. */
	assert_ok(hf_buf_appendf(&out, "file 0444 0 " D1 " g\n"));
	assert_err(hf_manifest_decode(out.data, out.len, &none, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "more than 1024 files"));
	m->n_files++;
	assert_err(hf_manifest_encode(m, &out, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "too many files"));
	m->n_files = 3;
	for (size_t i = 0; i < 3; i++)
		m->files[i].size = HF_MANIFEST_FILE_MAX;
	assert_err(hf_manifest_encode(m, &out, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "too large together"));
	hf_buf_done(&out);
}

static void encode_refuses_what_decode_would(void **state)
{
	_cleanup_(hf_manifest_freep) struct hf_manifest *m = NULL;
	struct hf_buf out = {};
	struct hf_err err = {};

	(void)state;
	assert_ok(hf_manifest_decode(good, sizeof(good) - 1, &m, NULL));
	m->files[0].mode = 04555;
	assert_err(hf_manifest_encode(m, &out, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "setuid"));
	m->files[0].mode = 0555;
	(void)hf_strlcpy(m->arch, "x86 64", sizeof(m->arch));
	assert_err(hf_manifest_encode(m, &out, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "arch 'x86 64' is no word"));
	(void)hf_strlcpy(m->arch, "x86_64", sizeof(m->arch));
	(void)hf_strlcpy(m->files[0].path, "z", sizeof(m->files[0].path));
	assert_err(hf_manifest_encode(m, &out, &err), -EINVAL);
	hf_manifest_sort(m);
	assert_ok(hf_manifest_encode(m, &out, &err));
	hf_buf_done(&out);
}

static void key_ids_are_as_minisign_shows_them(void **state)
{
	static const uint8_t id[] = {0xe7, 0x62, 0x0f, 0x18, 0x42, 0xb4, 0xe8, 0x1f};
	char text[HF_KEY_ID_TEXT_SIZE];
	uint8_t back[HF_KEY_ID_SIZE];

	(void)state;
	hf_key_id_format(id, text);
	assert_string_equal(text, "1FE8B442180F62E7");
	assert_ok(hf_key_id_parse(text, back));
	assert_memory_equal(back, id, sizeof(id));
	assert_err(hf_key_id_parse("1fe8b442180f62e7", back), -EINVAL);
	assert_err(hf_key_id_parse("", back), -EINVAL);
}

static void times_have_one_spelling(void **state)
{
	char text[HF_TEXT_TIME_SIZE];
	uint64_t s = 7;

	(void)state;
	assert_ok(hf_text_parse_time("1970-01-01T00:00:00Z", &s));
	assert_int_equal(s, 0);
	assert_ok(hf_text_parse_time("9999-12-31T23:59:59Z", &s));
	assert_int_equal(s, HF_TEXT_TIME_MAX);
	hf_text_format_time(s, text);
	assert_string_equal(text, "9999-12-31T23:59:59Z");
	hf_text_format_time(UINT64_MAX, text);
	assert_string_equal(text, "9999-12-31T23:59:59Z");
	s = 7;
	assert_err(hf_text_parse_time("", &s), -EINVAL);
	assert_err(hf_text_parse_time("2026-01-02T03:04:05Zx", &s), -EINVAL);
	assert_err(hf_text_parse_time(" 2026-01-02T03:04:05Z", &s), -EINVAL);
	assert_int_equal(s, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_one_has_all_its_values),
		cmocka_unit_test(each_fault_has_its_reason),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(every_accepted_bit_flip_is_another_manifest_in_canonical_form),
		cmocka_unit_test(a_nul_is_no_end),
		cmocka_unit_test(sizes_are_capped),
		cmocka_unit_test(encode_refuses_what_decode_would),
		cmocka_unit_test(key_ids_are_as_minisign_shows_them),
		cmocka_unit_test(times_have_one_spelling),
	};

	return HF_RUN_TESTS(tests);
}
