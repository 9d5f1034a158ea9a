/* SPDX-License-Identifier: Apache-2.0 */
/* Real certificates for tests: any key, digest, validity and issuer, as PEM files of a directory. */
#pragma once

#include "selftests/unit/test_util.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "base/str.h"

struct test_cert {
	X509 *cert;
	EVP_PKEY *key;
};

struct test_cert_spec {
	const char *cn;
	const char *san;                /* "DNS:a,IP:127.0.0.1"; NULL: none */
	const struct test_cert *issuer; /* NULL: self-signed */
	bool ca;
	long from_s, to_s; /* relative to now; both 0: yesterday to next month */
	unsigned rsa_bits; /* 0: P-256 */
	const EVP_MD *md;  /* NULL: SHA-256 */
	long serial;
};

static inline void test_cert_extension(X509 *cert, const struct test_cert *issuer, int nid,
				       const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx(&ctx, issuer->cert, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(ext);
	assert_int_equal(X509_add_ext(cert, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

static inline struct test_cert test_cert_make(struct test_cert_spec spec)
{
	struct test_cert c = {.cert = X509_new()};
	const struct test_cert *issuer = spec.issuer ? spec.issuer : &c;
	X509_NAME *name;

	c.key = spec.rsa_bits ? EVP_RSA_gen(spec.rsa_bits) : EVP_EC_gen("P-256");
	assert_non_null(c.cert);
	assert_non_null(c.key);
	if (spec.from_s == 0 && spec.to_s == 0) {
		spec.from_s = -86400;
		spec.to_s = 30L * 86400;
	}
	(void)X509_set_version(c.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(c.cert), spec.serial ? spec.serial : 1);
	X509_gmtime_adj(X509_getm_notBefore(c.cert), spec.from_s);
	X509_gmtime_adj(X509_getm_notAfter(c.cert), spec.to_s);
	name = X509_get_subject_name(c.cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)spec.cn, -1,
				   -1, 0);
	X509_set_issuer_name(c.cert, X509_get_subject_name(issuer->cert));
	X509_set_pubkey(c.cert, c.key);
	test_cert_extension(c.cert, issuer, NID_basic_constraints,
			    spec.ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
	test_cert_extension(c.cert, issuer, NID_subject_key_identifier, "hash");
	if (spec.san)
		test_cert_extension(c.cert, issuer, NID_subject_alt_name, spec.san);
	assert_true(X509_sign(c.cert, issuer->key, spec.md ? spec.md : EVP_sha256()) > 0);
	return c;
}

static inline void test_cert_free(struct test_cert *c)
{
	X509_free(c->cert);
	EVP_PKEY_free(c->key);
}

/* <name>.pem (with the chain behind it) and <name>.key */
static inline void test_cert_write(const struct hf_test_dir *d, const char *name,
				   const struct test_cert *c, const struct test_cert *chain)
{
	char path[600];
	FILE *f;

	(void)hf_strf(path, sizeof(path), "%s/%s.pem", d->path, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, c->cert), 1);
	if (chain)
		assert_int_equal(PEM_write_X509(f, chain->cert), 1);
	(void)fclose(f);
	(void)hf_strf(path, sizeof(path), "%s/%s.key", d->path, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL), 1);
	(void)fclose(f);
}

static inline void test_crl_write(const struct hf_test_dir *d, const char *name,
				  const struct test_cert *ca, long revoked_serial,
				  long next_update_s)
{
	X509_CRL *crl = X509_CRL_new();
	X509_REVOKED *rev = X509_REVOKED_new();
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	ASN1_TIME *last = ASN1_TIME_adj(NULL, time(NULL), 0, -3600);
	ASN1_TIME *next = ASN1_TIME_adj(NULL, time(NULL), 0, next_update_s);
	char path[600];
	FILE *f;

	X509_CRL_set_version(crl, 1);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->cert));
	X509_CRL_set1_lastUpdate(crl, last);
	X509_CRL_set1_nextUpdate(crl, next);
	ASN1_INTEGER_set(serial, revoked_serial);
	X509_REVOKED_set_serialNumber(rev, serial);
	X509_REVOKED_set_revocationDate(rev, last);
	X509_CRL_add0_revoked(crl, rev);
	assert_true(X509_CRL_sign(crl, ca->key, EVP_sha256()) > 0);
	(void)hf_strf(path, sizeof(path), "%s/%s", d->path, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509_CRL(f, crl), 1);
	(void)fclose(f);
	ASN1_INTEGER_free(serial);
	ASN1_TIME_free(last);
	ASN1_TIME_free(next);
	X509_CRL_free(crl);
}

/* "sha256/…" of a certificate's SubjectPublicKeyInfo. */
static inline void test_cert_pin(const struct test_cert *c, char dst[static 64])
{
	unsigned char *der = NULL, digest[32];
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(c->cert), &der);

	assert_true(len > 0);
	assert_int_equal(EVP_Digest(der, (size_t)len, digest, NULL, EVP_sha256(), NULL), 1);
	OPENSSL_free(der);
	memcpy(dst, "sha256/", 7);
	(void)hf_base64_encode(dst + 7, digest, 32);
}
