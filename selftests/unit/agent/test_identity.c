/* SPDX-License-Identifier: Apache-2.0 */
/* Key, request, certificate and enrolment of an endpoint, over restarts and with bad input. */
#include "selftests/unit/agent/loop_util.h"

#include <sys/stat.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "userspace/agent/identity.h"

#define URL "wss://portal.example:4320/v1/opamp"

struct world {
	const struct hf_test_dir *dir;
	sd_event *event;
	struct hf_disk *disk;
	struct hf_identity *id;
	bool stored;
	int stored_r;
};

static void on_stored(int r, void *userdata)
{
	struct world *w = userdata;

	w->stored = true;
	w->stored_r = r;
}

static void open_world(struct world *w, void **state)
{
	struct hf_err err = {};

	*w = (struct world){.dir = *state};
	assert_ok(sd_event_new(&w->event));
	assert_ok(hf_disk_new(w->event, w->dir->fd, &w->disk));
	assert_ok(hf_identity_open(w->dir->fd, w->disk, &w->id, &err));
}

static void close_world(struct world *w)
{
	hf_disk_close(w->disk, 5000);
	hf_identity_free(w->id);
	sd_event_unref(w->event);
}

/* Signs pubkey with a throw-away CA; the caller frees *ret. */
static size_t make_cert(EVP_PKEY *pubkey, const char *cn, char **ret)
{
	EVP_PKEY *ca = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	BIO *bio = BIO_new(BIO_s_mem());
	char *pem;
	long len;

	assert_non_null(ca);
	assert_non_null(x);
	assert_non_null(bio);
	assert_int_equal(X509_set_version(x, 2), 1);
	assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x), 1), 1);
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), -60));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 86400));
	assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
						    (const unsigned char *)cn, -1, -1, 0),
			 1);
	assert_int_equal(X509_set_pubkey(x, pubkey), 1);
	assert_true(X509_sign(x, ca, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509(bio, x), 1);
	len = BIO_get_mem_data(bio, &pem);
	*ret = strndup(pem, (size_t)len);
	assert_non_null(*ret);
	(void)BIO_free(bio);
	X509_free(x);
	EVP_PKEY_free(ca);
	return (size_t)len;
}

/* The public key that the identity's request asks a certificate for. */
static EVP_PKEY *requested_key(const struct hf_identity *id)
{
	struct hf_buf csr = {};
	X509_REQ *req;
	EVP_PKEY *key;
	BIO *bio;

	assert_ok(hf_identity_csr(id, &csr));
	bio = BIO_new_mem_buf(csr.data, (int)csr.len);
	req = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
	assert_non_null(req);
	key = X509_REQ_get_pubkey(req);
	assert_int_equal(X509_REQ_verify(req, key), 1);
	X509_REQ_free(req);
	(void)BIO_free(bio);
	hf_buf_done(&csr);
	return key;
}

static void key_and_uid_are_made_once_and_private(void **state)
{
	const struct hf_test_dir *d = *state;
	struct world w;
	EVP_PKEY *first, *second;
	char uid[HF_UUID_TEXT_SIZE];
	struct stat st;

	open_world(&w, state);
	assert_false(hf_identity_enrolled(w.id));
	first = requested_key(w.id);
	(void)snprintf(uid, sizeof(uid), "%s", hf_identity_uid_text(w.id));
	assert_int_equal(uid[14], '7');
	assert_int_equal(EVP_PKEY_get_bits(first), 256);
	assert_int_equal(fstatat(d->fd, HF_ID_KEY, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	close_world(&w);

	open_world(&w, state);
	second = requested_key(w.id);
	assert_int_equal(EVP_PKEY_eq(first, second), 1);
	assert_string_equal(hf_identity_uid_text(w.id), uid);
	EVP_PKEY_free(first);
	EVP_PKEY_free(second);
	close_world(&w);
}

static void an_enrolment_survives_a_restart_before_its_answer(void **state)
{
	struct world w;
	struct hf_err err = {};

	open_world(&w, state);
	assert_ok(hf_identity_enroll(w.id, URL, "", "hfe_token", NULL, 0, &err));
	close_world(&w);
	open_world(&w, state);
	assert_string_equal(hf_identity_token(w.id), "hfe_token");
	assert_string_equal(hf_identity_url(w.id, ""), URL);
	assert_false(hf_identity_enrolled(w.id));
	close_world(&w);
}

static void a_certificate_ends_the_enrolment_and_wipes_the_token(void **state)
{
	const struct hf_test_dir *d = *state;
	Opamp__TLSCertificate cert = OPAMP__TLSCERTIFICATE__INIT;
	_cleanup_free_ char *pem = NULL;
	struct hf_err err = {};
	struct world w;
	EVP_PKEY *key;

	open_world(&w, state);
	assert_ok(hf_identity_enroll(w.id, URL, "", "hfe_token", NULL, 0, &err));
	key = requested_key(w.id);
	cert.cert.len = make_cert(key, "endpoint-1", &pem);
	cert.cert.data = (uint8_t *)pem;
	cert.ca_cert = cert.cert;
	assert_ok(hf_identity_store(w.id, &cert, on_stored, &w, &err));
	/* Not before it is durable. */
	assert_false(hf_identity_enrolled(w.id));
	hf_test_run_until(w.event, &w.stored);
	assert_int_equal(w.stored_r, 0);
	assert_true(hf_identity_enrolled(w.id));
	assert_null(hf_identity_token(w.id));
	assert_err(hf_identity_enroll(w.id, URL, "", "again", NULL, 0, &err), -EEXIST);
	close_world(&w);
	EVP_PKEY_free(key);

	open_world(&w, state);
	assert_true(hf_identity_enrolled(w.id));
	assert_string_equal(hf_identity_endpoint_id(w.id), "endpoint-1");
	assert_true(hf_identity_cert_not_after(w.id) > hf_identity_cert_not_before(w.id));
	assert_int_equal(faccessat(d->fd, "token", F_OK, 0), -1);
	close_world(&w);
}

static void a_certificate_of_another_key_is_refused(void **state)
{
	Opamp__TLSCertificate cert = OPAMP__TLSCERTIFICATE__INIT;
	_cleanup_free_ char *pem = NULL;
	EVP_PKEY *stranger = EVP_EC_gen("P-256");
	struct hf_err err = {};
	struct world w;

	open_world(&w, state);
	cert.cert.len = make_cert(stranger, "endpoint-1", &pem);
	cert.cert.data = (uint8_t *)pem;
	assert_err(hf_identity_store(w.id, &cert, on_stored, &w, &err), -EKEYREJECTED);
	cert.cert.data = (uint8_t *)"-----BEGIN CERTIFICATE-----\ngarbage";
	cert.cert.len = 35;
	assert_err(hf_identity_store(w.id, &cert, on_stored, &w, &err), -EINVAL);
	cert.cert.len = 0;
	assert_err(hf_identity_store(w.id, &cert, on_stored, &w, &err), -EINVAL);
	assert_false(hf_identity_enrolled(w.id));
	close_world(&w);

	/* Copied into place by somebody: not used. */
	assert_ok(hf_write_file_atomic(((struct hf_test_dir *)*state)->fd, HF_ID_CERT, pem,
				       strlen(pem), 0600));
	open_world(&w, state);
	assert_false(hf_identity_enrolled(w.id));
	close_world(&w);
	EVP_PKEY_free(stranger);
}

static void what_an_enrolment_may_not_be(void **state)
{
	static const struct {
		const char *url, *token;
	} bad[] = {
		{"", "t"},
		{"portal.example", "t"},
		{"ws://portal.example/v1/opamp", "t"},
		{"http://portal.example/", "t"},
		{"wss://portal.example/\r\nX: y", "t"},
		{URL, ""},
		{URL, "two words"},
		{URL, "new\nline"},
		{URL, "\xff"},
	};
	char longest[HF_ENROLL_TOKEN_MAX + 2];
	struct hf_err err = {};
	struct world w;

	open_world(&w, state);
	for (size_t i = 0; i < HF_ARRAY_SIZE(bad); i++) {
		assert_err(hf_identity_enroll(w.id, bad[i].url, "", bad[i].token, NULL, 0, &err),
			   -EINVAL);
		assert_true(err.msg[0]);
	}
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = 0;
	assert_err(hf_identity_enroll(w.id, URL, "", longest, NULL, 0, &err), -EINVAL);
	assert_err(hf_identity_enroll(w.id, URL, "", "t", "no pem", 6, &err), -EINVAL);
	assert_null(hf_identity_token(w.id));
	assert_string_equal(hf_identity_url(w.id, ""), "");
	close_world(&w);
}

static void a_portal_changed_in_the_configuration_later_wins(void **state)
{
	struct hf_err err = {};
	struct world w;

	open_world(&w, state);
	assert_ok(hf_identity_enroll(w.id, URL, "wss://first/", "t", NULL, 0, &err));
	assert_string_equal(hf_identity_url(w.id, "wss://first/"), URL);
	assert_string_equal(hf_identity_url(w.id, "wss://second/"), "wss://second/");
	close_world(&w);
	open_world(&w, state);
	assert_string_equal(hf_identity_url(w.id, "wss://first/"), URL);
	assert_string_equal(hf_identity_url(w.id, "wss://second/"), "wss://second/");
	close_world(&w);
}

static void a_reset_makes_another_endpoint(void **state)
{
	struct hf_err err = {};
	char uid[HF_UUID_TEXT_SIZE];
	EVP_PKEY *first, *second;
	struct world w;

	open_world(&w, state);
	first = requested_key(w.id);
	(void)snprintf(uid, sizeof(uid), "%s", hf_identity_uid_text(w.id));
	assert_ok(hf_identity_enroll(w.id, URL, "", "t", NULL, 0, &err));
	assert_ok(hf_identity_reset(w.id, &err));
	assert_null(hf_identity_token(w.id));
	close_world(&w);
	open_world(&w, state);
	second = requested_key(w.id);
	assert_int_equal(EVP_PKEY_eq(first, second), 0);
	assert_string_not_equal(hf_identity_uid_text(w.id), uid);
	assert_null(hf_identity_token(w.id));
	assert_string_equal(hf_identity_url(w.id, ""), "");
	close_world(&w);
	EVP_PKEY_free(first);
	EVP_PKEY_free(second);
}

static void a_given_uid_is_ours_once_it_is_durable(void **state)
{
	static const uint8_t first[16] = {1},
			     given[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	char before[HF_UUID_TEXT_SIZE];
	struct world w;

	open_world(&w, state);
	(void)snprintf(before, sizeof(before), "%s", hf_identity_uid_text(w.id));
	assert_ok(hf_identity_set_uid(w.id, first, on_stored, &w));
	assert_ok(hf_identity_set_uid(w.id, given, on_stored, &w));
	assert_string_equal(hf_identity_uid_text(w.id), before);
	hf_test_run_until(w.event, &w.stored);
	assert_ok(w.stored_r);
	/* Never the one that another followed at once. */
	assert_memory_equal(hf_identity_uid(w.id), given, 16);
	close_world(&w);
	open_world(&w, state);
	assert_memory_equal(hf_identity_uid(w.id), given, 16);
	close_world(&w);
}

static void a_given_uid_does_not_outlive_a_reset(void **state)
{
	static const uint8_t given[16] = {7};
	char after[HF_UUID_TEXT_SIZE];
	struct hf_err err = {};
	struct world w;

	open_world(&w, state);
	assert_ok(hf_identity_set_uid(w.id, given, on_stored, &w));
	assert_ok(hf_identity_reset(w.id, &err));
	(void)snprintf(after, sizeof(after), "%s", hf_identity_uid_text(w.id));
	close_world(&w); /* with what was queued */
	assert_false(w.stored);
	open_world(&w, state);
	assert_string_equal(hf_identity_uid_text(w.id), after);
	close_world(&w);
}

static void a_damaged_key_is_an_error_not_a_new_identity(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_disk *disk;
	struct hf_identity *id;
	struct hf_err err = {};
	sd_event *event;

	hf_test_write(d, HF_ID_KEY, "not a key");
	assert_ok(sd_event_new(&event));
	assert_ok(hf_disk_new(event, d->fd, &disk));
	assert_err(hf_identity_open(d->fd, disk, &id, &err), -EINVAL);
	assert_non_null(strstr(err.msg, HF_ID_KEY));
	hf_disk_free(disk);
	sd_event_unref(event);
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, hf_test_dir_setup, hf_test_dir_teardown)
	const struct CMUnitTest tests[] = {
		IN_DIR(key_and_uid_are_made_once_and_private),
		IN_DIR(an_enrolment_survives_a_restart_before_its_answer),
		IN_DIR(a_certificate_ends_the_enrolment_and_wipes_the_token),
		IN_DIR(a_certificate_of_another_key_is_refused),
		IN_DIR(what_an_enrolment_may_not_be),
		IN_DIR(a_portal_changed_in_the_configuration_later_wins),
		IN_DIR(a_reset_makes_another_endpoint),
		IN_DIR(a_given_uid_is_ours_once_it_is_durable),
		IN_DIR(a_given_uid_does_not_outlive_a_reset),
		IN_DIR(a_damaged_key_is_an_error_not_a_new_identity),
	};
	return HF_RUN_TESTS(tests);
}
