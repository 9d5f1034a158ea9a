/* SPDX-License-Identifier: Apache-2.0 */
/* The list of release keys: its text, k of n signatures, and which list may follow which. */
#include "selftests/unit/release/keys_fixture.h"

static struct hf_buf text_of(struct hf_keylist *l)
{
	struct hf_buf out = {};

	assert_ok(hf_keylist_encode(l, true, &out, NULL));
	return out;
}

static void a_list_comes_back(void **state)
{
	struct hf_keylist l = test_list();
	_cleanup_free_ struct hf_keylist *back = NULL;
	struct hf_buf text;
	struct hf_err err = {};

	(void)state;
	test_sign_list(&l, ROOT_C);
	test_sign_list(&l, ROOT_A);
	text = text_of(&l);
	assert_ok(hf_keylist_decode(text.data, text.len, &back, &err));
	assert_int_equal(back->version, 5);
	assert_int_equal(back->threshold, 2);
	assert_int_equal(back->n_roots, 3);
	assert_int_equal(back->n_keys, 4);
	assert_int_equal(back->n_revoked, 1);
	assert_int_equal(back->n_signatures, 2);
	assert_memory_equal(back, &l, sizeof(l));
	assert_non_null(hf_keylist_find(back, test_key(KEY_B).pub.id));
	assert_null(hf_keylist_find(back, test_key(KEY_STRANGER).pub.id));
	assert_true(hf_keylist_is_revoked(back, test_key(KEY_REVOKED).pub.id));
	assert_false(hf_keylist_is_revoked(back, test_key(KEY_A).pub.id));
	assert_int_equal(hf_keylist_judge(back, NULL, &err), HF_RELEASE_OK);
	hf_buf_done(&text);
}

static void every_truncation_and_bit_flip_is_refused(void **state)
{
	struct hf_keylist l = test_list();
	struct hf_keylist *back = NULL;
	struct hf_buf text;
	unsigned decoded = 0;

	(void)state;
	test_sign_list(&l, ROOT_A);
	test_sign_list(&l, ROOT_B);
	text = text_of(&l);
	for (size_t len = 0; len < text.len; len++) {
		if (hf_keylist_decode(text.data, len, &back, NULL) < 0)
			continue;
		/* Whole lines are missing: the signatures are too few then. */
		assert_int_not_equal(hf_keylist_judge(back, &l, NULL), HF_RELEASE_OK);
		free(back);
		decoded++;
	}
	assert_true(decoded > 0 && decoded < 20);
	decoded = 0;
	for (size_t bit = 0; bit < 8 * text.len; bit += 3) {
		text.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (hf_keylist_decode(text.data, text.len, &back, NULL) == 0) {
			assert_int_not_equal(hf_keylist_judge(back, &l, NULL), HF_RELEASE_OK);
			free(back);
			decoded++;
		}
		text.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(decoded > 50);
	hf_buf_done(&text);
}

#define ROOT_LINE "root 0107060504030201 "

static void each_fault_has_its_reason(void **state)
{
	static const struct {
		const char *from, *to, *why;
	} wrong[] = {
		{"holdfast-keys 1", "holdfast-keys 2", "format 2"},
		{"holdfast-keys 1", "holdfast-manifest 1", "'holdfast-keys' was expected"},
		{"version 5", "version 0", "version 0"},
		{"version 5", "version 4294967296", "is no number"},
		{"version 5\n", "", "'version' was expected"},
		{"expires 2027", "expires 2025", "an expiry that is not after"},
		{"threshold 2", "threshold 0", "a threshold that its roots cannot reach"},
		{"threshold 2", "threshold 4", "a threshold that its roots cannot reach"},
		{"threshold 2", "threshold 17", "is no number from 0 to 16"},
		{ROOT_LINE, "root 0907060504030201 ", "twice or not sorted"},
		{ROOT_LINE, "root 0207060504030202 ", "twice or not sorted"},
		{ROOT_LINE, "root 01070605040302 ", "is no key id"},
		{ROOT_LINE, "root  ", "a word is missing"},
		{ROOT_LINE, "root 0107060504030201 00", "is not 32 bytes"},
		{ROOT_LINE, "boot 0107060504030201 ", "'signature' was expected"},
		{"key 0407060504030204", "key 0107060504030201", "a root key as a release key"},
		{" any\n", " a b\n", "is no word"},
		{" any\n", "\n", "is no word"},
		{" prod\n", " \n", "is no word"},
		{"revoked 07", "revoked 7", "is no key id"},
		{"revoked ", "revoke ", "'signature' was expected"},
		{"signature 01", "signature 03", "twice or not sorted"},
		{"signature 0107060504030201", "signature 0207060504030202", "twice or not sorted"},
		{"signature ", "\nsignature ", "'signature' was expected"},
	};
	struct hf_keylist l = test_list();
	struct hf_keylist *back = NULL;
	struct hf_buf text;

	(void)state;
	test_sign_list(&l, ROOT_A);
	test_sign_list(&l, ROOT_B);
	text = text_of(&l);
	assert_ok(hf_buf_append(&text, "", 1));
	for (size_t i = 0; i < HF_ARRAY_SIZE(wrong); i++) {
		const char *good = (char *)text.data, *at = strstr(good, wrong[i].from);
		_cleanup_free_ char *bad = NULL;
		struct hf_err err = {};
		int r;

		assert_non_null(at);
		bad = hf_asprintf("%.*s%s%s", (int)(at - good), good, wrong[i].to,
				  at + strlen(wrong[i].from));
		r = hf_keylist_decode(bad, strlen(bad), &back, &err);
		if (r != -EBADMSG || !strstr(err.msg, wrong[i].why))
			print_error("'%s' for '%s': %d '%s'\n", wrong[i].to, wrong[i].from, r,
				    err.msg);
		assert_err(r, -EBADMSG);
		assert_non_null(strstr(err.msg, wrong[i].why));
	}
	hf_buf_done(&text);
}

static void one_key_under_two_ids_counts_once(void **state)
{
	struct hf_keylist l = test_list();
	struct hf_buf out = {};
	struct hf_err err = {};

	(void)state;
	memcpy(l.roots[1].point, l.roots[0].point, HF_KEY_SIZE);
	assert_err(hf_keylist_encode(&l, false, &out, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "one root key under two ids"));
	hf_buf_done(&out);
}

static void tables_are_capped(void **state)
{
	struct hf_keylist l = test_list();
	struct hf_keylist *back = NULL;
	struct hf_buf body = {};
	struct hf_err err = {};
	char *huge;

	(void)state;
	assert_ok(hf_keylist_encode(&l, false, &body, &err));
	for (unsigned i = 0; i < HF_KEYLIST_REVOKED_MAX; i++)
		assert_ok(hf_buf_appendf(&body, "revoked F%015X 2026-01-02T03:04:05Z\n", i));
	assert_err(hf_keylist_decode(body.data, body.len, &back, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "more than 256 lines 'revoked'"));
	huge = calloc(1, HF_KEYLIST_SIZE_MAX + 1);
	assert_non_null(huge);
	assert_err(hf_keylist_decode(huge, HF_KEYLIST_SIZE_MAX + 1, &back, &err), -EFBIG);
	free(huge);
	hf_buf_done(&body);
}

/* Signs with these roots, and asks whether the list may follow the trusted one. */
static enum hf_refusal judged(struct hf_keylist l, struct hf_keylist *trusted, const uint8_t *by,
			      size_t n)
{
	l.n_signatures = 0;
	for (size_t i = 0; i < n; i++)
		test_sign_list(&l, by[i]);
	return hf_keylist_judge(&l, trusted, NULL);
}

#define BY(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void two_of_three_roots_must_sign(void **state)
{
	struct hf_keylist trusted = test_list(), next = test_list();

	(void)state;
	next.version = 6;
	assert_int_equal(judged(next, &trusted, NULL, 0), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, &trusted, BY(ROOT_A)), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_A)), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, KEY_A)), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, &trusted, BY(KEY_A, KEY_B)), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B)), HF_RELEASE_OK);
	assert_int_equal(judged(next, &trusted, BY(ROOT_B, ROOT_C)), HF_RELEASE_OK);
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B, ROOT_C)), HF_RELEASE_OK);
	assert_int_equal(judged(next, NULL, BY(ROOT_A)), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, NULL, BY(ROOT_A, ROOT_C)), HF_RELEASE_OK);
	/* Who lowers the threshold has to reach the old one. */
	next.threshold = 1;
	assert_int_equal(judged(next, &trusted, BY(ROOT_A)), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B)), HF_RELEASE_OK);
	/* Who raises it has to reach the new one. */
	next.threshold = 3;
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B)), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B, ROOT_C)), HF_RELEASE_OK);
}

static void a_signature_under_a_wrong_id_does_not_count(void **state)
{
	struct hf_keylist trusted = test_list(), next = test_list();

	(void)state;
	next.version = 6;
	test_sign_list(&next, ROOT_A);
	next.signatures[1] = next.signatures[0];
	memcpy(next.signatures[1].id, test_key(ROOT_B).pub.id, HF_KEY_ID_SIZE);
	next.n_signatures = 2;
	assert_int_equal(hf_keylist_judge(&next, &trusted, NULL), HF_RELEASE_KEYS_ROOTS);
}

static void roots_rotate_with_the_word_of_both_sides(void **state)
{
	struct hf_keylist trusted = test_list(), next = test_list();
	enum { NEW_A = 11, NEW_B };

	(void)state;
	next.version = 6;
	next.n_roots = 2;
	next.roots[0] = test_key(NEW_A).pub;
	next.roots[1] = test_key(NEW_B).pub;
	assert_int_equal(judged(next, &trusted, BY(NEW_A, NEW_B)), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B)), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B, NEW_A)), HF_RELEASE_KEYS_ROOTS);
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B, NEW_A, NEW_B)), HF_RELEASE_OK);
}

static void an_older_list_never_comes_back(void **state)
{
	struct hf_keylist trusted = test_list(), next = test_list();

	(void)state;
	/* The list from before the revocation, perfectly signed. */
	next.version = 4;
	next.n_revoked = 0;
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B)), HF_RELEASE_KEYS_OLDER);
	next.version = 5;
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B)), HF_RELEASE_KEYS_FORKED);
	assert_int_equal(judged(trusted, &trusted, BY(ROOT_B, ROOT_C)), HF_RELEASE_OK);
	next.version = 6;
	assert_int_equal(judged(next, &trusted, BY(ROOT_A, ROOT_B)), HF_RELEASE_OK);
}

static void a_changed_list_loses_its_signatures(void **state)
{
	struct hf_keylist trusted = test_list(), next = test_list();

	(void)state;
	next.version = 6;
	test_sign_list(&next, ROOT_A);
	test_sign_list(&next, ROOT_B);
	next.n_revoked = 0;
	assert_int_equal(hf_keylist_judge(&next, &trusted, NULL), HF_RELEASE_KEYS_ROOTS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_comes_back),
		cmocka_unit_test(every_truncation_and_bit_flip_is_refused),
		cmocka_unit_test(each_fault_has_its_reason),
		cmocka_unit_test(one_key_under_two_ids_counts_once),
		cmocka_unit_test(tables_are_capped),
		cmocka_unit_test(two_of_three_roots_must_sign),
		cmocka_unit_test(a_signature_under_a_wrong_id_does_not_count),
		cmocka_unit_test(roots_rotate_with_the_word_of_both_sides),
		cmocka_unit_test(an_older_list_never_comes_back),
		cmocka_unit_test(a_changed_list_loses_its_signatures),
	};

	return HF_RUN_TESTS(tests);
}
