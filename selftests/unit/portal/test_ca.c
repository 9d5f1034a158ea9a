/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates: made once, renewed in time, signing only what may be signed. */
#include "selftests/unit/test_util.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/random.h"
#include "base/str.h"
#include "tools/portal/ca.h"

#define NOW (UINT64_C(1800000000) * HF_NS_PER_S)
#define DAY (UINT64_C(86400) * HF_NS_PER_S)

static const char *const names[] = {"portal.example", "127.0.0.1", "::1"};

static X509 *load_cert(struct hf_test_dir *d, const char *name)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	X509 *cert;
	BIO *bio;

	assert_ok(hf_read_file(d->fd, name, 65536, &text, &len));
	bio = BIO_new_mem_buf(text, (int)len);
	cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	BIO_free(bio);
	assert_non_null(cert);
	return cert;
}

static void the_first_run_makes_everything_and_the_second_nothing(void **state)
{
	static const char *const keys[] = {"ca.key", "server.key", "client-ca.key"};
	struct hf_test_dir *d = *state;
	struct hf_err err = {};
	struct stat st;
	X509 *ca, *server;

	assert_int_equal(hf_ca_prepare(d->fd, names, 3, true, NOW, &err), 1);
	assert_int_equal(hf_ca_prepare(d->fd, names, 3, true, NOW, &err), 0);
	for (size_t i = 0; i < HF_ARRAY_SIZE(keys); i++) {
		assert_int_equal(fstatat(d->fd, keys[i], &st, 0), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
	ca = load_cert(d, "ca.pem");
	server = load_cert(d, "server.pem");
	assert_int_equal(X509_verify(server, X509_get0_pubkey(ca)), 1);
	assert_int_equal(X509_check_ca(ca), 1);
	assert_int_equal(X509_check_ca(server), 0);
	assert_int_equal(X509_check_host(server, "portal.example", 0, 0, NULL), 1);
	assert_int_equal(X509_check_ip_asc(server, "127.0.0.1", 0), 1);
	assert_int_equal(X509_check_ip_asc(server, "::1", 0), 1);
	assert_int_equal(X509_check_host(server, "other.example", 0, 0, NULL), 0);
	X509_free(ca);
	X509_free(server);
}

static void the_server_certificate_follows_names_and_time_the_ca_stays(void **state)
{
	static const char *const more[] = {"portal.example", "new.example"};
	struct hf_test_dir *d = *state;
	_cleanup_free_ char *ca = NULL, *ca_after = NULL;
	size_t len;

	assert_int_equal(hf_ca_prepare(d->fd, names, 3, true, NOW, NULL), 1);
	assert_ok(hf_read_file(d->fd, "ca.pem", 65536, &ca, &len));
	assert_int_equal(hf_ca_prepare(d->fd, more, 2, true, NOW, NULL), 1);
	assert_int_equal(hf_ca_prepare(d->fd, more, 2, true, NOW + 200 * DAY, NULL), 0);
	assert_int_equal(hf_ca_prepare(d->fd, more, 2, true, NOW + 300 * DAY, NULL), 1);
	assert_ok(hf_read_file(d->fd, "ca.pem", 65536, &ca_after, &len));
	assert_string_equal(ca, ca_after);
}

static void a_kill_between_key_and_certificate_is_mended(void **state)
{
	struct hf_test_dir *d = *state;
	struct hf_err err = {};

	hf_test_write(d, "server.key", "half");
	assert_int_equal(hf_ca_prepare(d->fd, names, 3, true, NOW, &err), 1);
	assert_int_equal(unlinkat(d->fd, "client-ca.pem", 0), 0);
	assert_int_equal(hf_ca_prepare(d->fd, names, 3, true, NOW, &err), 0);
	/* A damaged CA is not replaced behind everybody's back. */
	hf_test_write(d, "ca.pem", "garbage");
	assert_true(hf_ca_prepare(d->fd, names, 3, true, NOW, &err) < 0);
	assert_non_null(strstr(err.msg, "portal CA"));
}

static void another_authority_may_sign_endpoints_and_keeps_its_key(void **state)
{
	struct hf_test_dir *d = *state;
	_cleanup_(hf_ca_freep) struct hf_ca *ca = NULL;
	_cleanup_free_ char *cert = NULL, *key = NULL, *leaf = NULL, *leaf_key = NULL;
	_cleanup_(hf_buf_done) struct hf_buf bundle = {};
	struct hf_err err = {};
	const char *pem;
	size_t len;

	assert_ok(hf_ca_prepare(d->fd, names, 3, true, NOW, NULL));
	assert_ok(hf_read_file(d->fd, "client-ca.pem", 65536, &cert, &len));
	assert_ok(hf_read_file(d->fd, "client-ca.key", 65536, &key, &len));
	assert_ok(hf_buf_appendf(&bundle, "%s%s", key, cert));
	hf_test_write(d, "corporate.pem", (const char *)bundle.data);
	assert_ok(hf_ca_open(d->fd, "corporate.pem", &ca, &err));
	pem = hf_ca_pem(ca, &len);
	assert_string_equal(pem, cert);
	ca = hf_ca_free(ca);
	/* A leaf is no authority. */
	assert_ok(hf_read_file(d->fd, "server.pem", 65536, &leaf, &len));
	assert_ok(hf_read_file(d->fd, "server.key", 65536, &leaf_key, &len));
	bundle.len = 0;
	assert_ok(hf_buf_appendf(&bundle, "%s%s", leaf_key, leaf));
	hf_test_write(d, "corporate.pem", (const char *)bundle.data);
	assert_err(hf_ca_open(d->fd, "corporate.pem", &ca, &err), -EKEYREJECTED);
	/* Where one is configured, none is made. */
	assert_int_equal(unlinkat(d->fd, "client-ca.pem", 0), 0);
	assert_ok(hf_ca_prepare(d->fd, names, 3, false, NOW, NULL));
	assert_int_equal(faccessat(d->fd, "client-ca.pem", F_OK, 0), -1);
}

static void names_that_are_none_are_refused(void **state)
{
	static const char *const evil[] = {"a,IP:1.2.3.4"}, *const empty[] = {""};
	struct hf_test_dir *d = *state;

	assert_err(hf_ca_prepare(d->fd, names, 0, true, NOW, NULL), -EINVAL);
	assert_err(hf_ca_prepare(d->fd, evil, 1, true, NOW, NULL), -EINVAL);
	assert_err(hf_ca_prepare(d->fd, empty, 1, true, NOW, NULL), -EINVAL);
}

static size_t make_csr(EVP_PKEY *key, EVP_PKEY *signer, char *dst, size_t size)
{
	X509_REQ *req = X509_REQ_new();
	BIO *bio = BIO_new(BIO_s_mem());
	int len;

	assert_int_equal(X509_REQ_set_pubkey(req, key), 1);
	assert_int_equal(
		X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_ASC,
					   (const unsigned char *)"somebody else", -1, -1, 0),
		1);
	assert_true(X509_REQ_sign(req, signer, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509_REQ(bio, req), 1);
	len = BIO_read(bio, dst, (int)size - 1);
	assert_true(len > 0);
	dst[len] = '\0';
	BIO_free(bio);
	X509_REQ_free(req);
	return (size_t)len;
}

static void a_request_becomes_a_certificate_for_the_id_we_say(void **state)
{
	struct hf_test_dir *d = *state;
	_cleanup_(hf_ca_freep) struct hf_ca *ca = NULL;
	_cleanup_(hf_csr_freep) struct hf_csr *csr = NULL;
	uint8_t id[HF_ID_SIZE], back[HF_ID_SIZE], hash[HF_HASH_SIZE];
	char csr_pem[4096], pem[HF_CERT_PEM_MAX];
	unsigned char *der = NULL;
	uint64_t expires, seen;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert, *issuer;
	size_t len;
	BIO *bio;
	int n;

	assert_ok(hf_ca_prepare(d->fd, names, 3, true, NOW, NULL));
	assert_ok(hf_ca_open(d->fd, NULL, &ca, NULL));
	len = make_csr(key, key, csr_pem, sizeof(csr_pem));
	assert_ok(hf_csr_parse(csr_pem, len, &csr, hash, NULL));
	hf_uuid_v7(id);
	assert_ok(hf_ca_sign(ca, csr, id, NOW, 90 * UINT64_C(86400), pem, &len, &expires, NULL));
	assert_int_equal(expires, NOW + 90 * DAY);
	bio = BIO_new_mem_buf(pem, (int)len);
	cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	issuer = load_cert(d, "client-ca.pem");
	assert_int_equal(X509_verify(cert, X509_get0_pubkey(issuer)), 1);
	assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(cert), key), 1);
	assert_int_equal(X509_check_purpose(cert, X509_PURPOSE_SSL_CLIENT, 0), 1);
	assert_int_equal(X509_check_purpose(cert, X509_PURPOSE_SSL_SERVER, 0), 0);
	n = i2d_X509(cert, &der);
	assert_ok(hf_ca_identify(der, (size_t)n, back, &seen));
	assert_memory_equal(id, back, HF_ID_SIZE);
	assert_int_equal(seen, expires);
	assert_err(hf_ca_identify(der, (size_t)n / 2, back, &seen), -EBADMSG);
	OPENSSL_free(der);
	der = NULL;
	n = i2d_X509(issuer, &der);
	assert_err(hf_ca_identify(der, (size_t)n, back, &seen), -EBADMSG); /* CN is no id */
	OPENSSL_free(der);
	X509_free(cert);
	X509_free(issuer);
	BIO_free(bio);
	EVP_PKEY_free(key);
}

static void requests_with_other_keys_or_signatures_are_refused(void **state)
{
	EVP_PKEY *p256 = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256"),
		 *p384 = EVP_EC_gen("P-384"), *rsa = EVP_RSA_gen(2048);
	uint8_t hash[HF_HASH_SIZE];
	struct hf_csr *csr = NULL;
	struct hf_err err = {};
	char pem[4096];
	size_t len;

	(void)state;
	assert_err(hf_csr_parse("", 0, &csr, hash, &err), -EBADMSG);
	assert_err(hf_csr_parse("garbage", 7, &csr, hash, &err), -EBADMSG);
	len = make_csr(p384, p384, pem, sizeof(pem));
	assert_err(hf_csr_parse(pem, len, &csr, hash, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "P-256"));
	len = make_csr(rsa, rsa, pem, sizeof(pem));
	assert_err(hf_csr_parse(pem, len, &csr, hash, &err), -EBADMSG);
	len = make_csr(p256, other, pem, sizeof(pem));
	assert_err(hf_csr_parse(pem, len, &csr, hash, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "not signed"));
	len = make_csr(p256, p256, pem, sizeof(pem));
	assert_err(hf_csr_parse(pem, len / 2, &csr, hash, &err), -EBADMSG);
	assert_err(hf_csr_parse(pem, HF_CSR_PEM_MAX + 1, &csr, hash, &err), -EBADMSG);
	assert_null(csr);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(other);
	EVP_PKEY_free(p384);
	EVP_PKEY_free(rsa);
}

#define WITH_DIR(t) cmocka_unit_test_setup_teardown(t, hf_test_dir_setup, hf_test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DIR(the_first_run_makes_everything_and_the_second_nothing),
		WITH_DIR(the_server_certificate_follows_names_and_time_the_ca_stays),
		WITH_DIR(a_kill_between_key_and_certificate_is_mended),
		WITH_DIR(another_authority_may_sign_endpoints_and_keeps_its_key),
		WITH_DIR(names_that_are_none_are_refused),
		WITH_DIR(a_request_becomes_a_certificate_for_the_id_we_say),
		cmocka_unit_test(requests_with_other_keys_or_signatures_are_refused),
	};

	return HF_RUN_TESTS(tests);
}
