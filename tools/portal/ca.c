/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates with OpenSSL's X509 interface: two CAs, one server certificate, endpoints' leaves.
 *
 * I1 A file appears whole or not at all (written beside and renamed); a key is written before the
 *    certificate that needs it, so that a kill in between is mended by making the pair anew.
 * I2 Nothing of a request but its public key reaches a certificate.
 */
#include "tools/portal/ca.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/random.h"
#include "base/str.h"

#define DAY_S       (24 * 3600L)
#define CA_DAYS     3650L /* endpoints pin it: a new one means a new fleet-wide trust anchor */
#define SERVER_DAYS 397L  /* the longest that browsers accept */
#define BACKDATE_S  3600L /* an endpoint's clock may be a little behind ours */
#define FILE_MAX    65536u

HF_DEFINE_CLEANUP(X509 *, X509_free);
HF_DEFINE_CLEANUP(X509_REQ *, X509_REQ_free);
HF_DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free);
HF_DEFINE_CLEANUP(BIO *, BIO_free_all);
HF_DEFINE_CLEANUP(X509_EXTENSION *, X509_EXTENSION_free);

struct hf_ca {
	X509 *cert;
	EVP_PKEY *key;
	char *pem;
	size_t pem_len;
};

struct hf_csr {
	X509_REQ *req;
	EVP_PKEY *key;
};

static int ssl_error(struct hf_err *err, int code, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	char text[160] = "no further detail";

	if (e)
		ERR_error_string_n(e, text, sizeof(text));
	ERR_clear_error();
	return hf_err_set(err, code, "%s: %s", what, text);
}

static int bio_to_file(int dirfd, const char *name, BIO *bio, mode_t mode, struct hf_err *err)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);
	int r = hf_write_file_atomic(dirfd, name, data, (size_t)len, mode);

	return r < 0 ? hf_err_set(err, r, "write '%s': %s", name, strerror(-r)) : 0;
}

static int write_key(int dirfd, const char *name, EVP_PKEY *key, struct hf_err *err)
{
	_cleanup_(BIO_free_allp) BIO *bio = BIO_new(BIO_s_secmem());

	if (!bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		return ssl_error(err, -EIO, "encode a private key");
	return bio_to_file(dirfd, name, bio, 0600, err);
}

static int write_cert(int dirfd, const char *name, X509 *cert, struct hf_err *err)
{
	_cleanup_(BIO_free_allp) BIO *bio = BIO_new(BIO_s_mem());

	if (!bio || PEM_write_bio_X509(bio, cert) != 1)
		return ssl_error(err, -EIO, "encode a certificate");
	return bio_to_file(dirfd, name, bio, 0644, err);
}

static int read_file(int dirfd, const char *name, char **ret, size_t *ret_len, struct hf_err *err)
{
	int r = hf_read_file(dirfd, name, FILE_MAX, ret, ret_len);

	return r < 0 ? hf_err_set(err, r, "read '%s': %s", name, strerror(-r)) : 0;
}

static int read_cert(int dirfd, const char *name, X509 **ret, struct hf_err *err)
{
	_cleanup_free_ char *data = NULL;
	_cleanup_(BIO_free_allp) BIO *bio = NULL;
	size_t len;
	int r;

	r = read_file(dirfd, name, &data, &len, err);
	if (r < 0)
		return r;
	bio = BIO_new_mem_buf(data, (int)len);
	*ret = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	return *ret ? 0 : ssl_error(err, -EBADMSG, name);
}

static int read_key(int dirfd, const char *name, EVP_PKEY **ret, struct hf_err *err)
{
	_cleanup_free_ char *data = NULL;
	_cleanup_(BIO_free_allp) BIO *bio = NULL;
	size_t len;
	int r;

	r = read_file(dirfd, name, &data, &len, err);
	if (r < 0)
		return r;
	bio = BIO_new_mem_buf(data, (int)len);
	*ret = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
	hf_wipe(data, len);
	return *ret ? 0 : ssl_error(err, -EBADMSG, name);
}

/* Both files of a pair, and they belong together. */
static int read_pair(int dirfd, const char *cert_name, const char *key_name, X509 **ret_cert,
		     EVP_PKEY **ret_key, struct hf_err *err)
{
	_cleanup_(X509_freep) X509 *cert = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
	int r;

	r = read_key(dirfd, key_name, &key, err);
	if (r == 0)
		r = read_cert(dirfd, cert_name, &cert, err);
	if (r < 0)
		return r;
	if (X509_check_private_key(cert, key) != 1)
		return ssl_error(err, -EKEYREJECTED, "certificate and key are not of one pair");
	*ret_cert = TAKE_PTR(cert);
	*ret_key = TAKE_PTR(key);
	return 0;
}

static int add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	_cleanup_(X509_EXTENSION_freep) X509_EXTENSION *ext = NULL;
	X509V3_CTX ctx;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	return ext && X509_add_ext(cert, ext, -1) == 1 ? 0 : -EIO;
}

static int set_serial(X509 *cert)
{
	uint8_t raw[16];
	_cleanup_free_ char *hex = NULL;
	BIGNUM *bn;
	int ok;

	hf_random_bytes(raw, sizeof(raw));
	raw[0] &= 0x7f; /* positive */
	raw[0] |= 0x40; /* and of one length */
	bn = BN_bin2bn(raw, sizeof(raw), NULL);
	ok = bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert));
	BN_free(bn);
	return ok ? 0 : -EIO;
}

struct leaf {
	const char *common_name;
	time_t life_s;
	uint64_t unix_ns;
	X509 *issuer; /* NULL: self-signed */
	EVP_PKEY *signer;
	EVP_PKEY *subject;
	const char *usage, *extended_usage, *alt_names;
	bool ca;
};

static int set_times(X509 *cert, const struct leaf *l)
{
	time_t now = (time_t)(l->unix_ns / HF_NS_PER_S);
	/* One that lives for minutes only would look old at once, and be renewed for ever. */
	time_t back = l->life_s / 10 < BACKDATE_S ? l->life_s / 10 : BACKDATE_S;
	time_t from = now - back, to = now + l->life_s;

	return ASN1_TIME_set(X509_getm_notBefore(cert), from) &&
			       ASN1_TIME_set(X509_getm_notAfter(cert), to)
		       ? 0
		       : -EIO;
}

static int set_names(X509 *cert, const struct leaf *l)
{
	X509_NAME *subject = X509_get_subject_name(cert);

	if (X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
				       (const unsigned char *)l->common_name, -1, -1, 0) != 1)
		return -EIO;
	return X509_set_issuer_name(cert, l->issuer ? X509_get_subject_name(l->issuer) : subject) ==
			       1
		       ? 0
		       : -EIO;
}

static int make_cert(const struct leaf *l, X509 **ret)
{
	_cleanup_(X509_freep) X509 *cert = X509_new();
	X509 *issuer = l->issuer ? l->issuer : cert;
	int r;

	if (!cert || X509_set_version(cert, 2) != 1 || X509_set_pubkey(cert, l->subject) != 1)
		return -EIO;
	r = set_serial(cert);
	if (r == 0)
		r = set_times(cert, l);
	if (r == 0)
		r = set_names(cert, l);
	if (r == 0)
		r = add_extension(cert, issuer, NID_basic_constraints,
				  l->ca ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE");
	if (r == 0)
		r = add_extension(cert, issuer, NID_key_usage, l->usage);
	if (r == 0 && l->extended_usage)
		r = add_extension(cert, issuer, NID_ext_key_usage, l->extended_usage);
	if (r == 0)
		r = add_extension(cert, issuer, NID_subject_key_identifier, "hash");
	if (r == 0 && l->issuer)
		r = add_extension(cert, issuer, NID_authority_key_identifier, "keyid:always");
	if (r == 0 && l->alt_names)
		r = add_extension(cert, issuer, NID_subject_alt_name, l->alt_names);
	if (r < 0)
		return r;
	if (X509_sign(cert, l->signer, EVP_sha256()) == 0)
		return -EIO;
	*ret = TAKE_PTR(cert);
	return 0;
}

static int prepare_ca(int dirfd, const char *cert_name, const char *key_name, const char *title,
		      uint64_t unix_ns, X509 **ret_cert, EVP_PKEY **ret_key, struct hf_err *err)
{
	_cleanup_(X509_freep) X509 *cert = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
	char name[64];
	int r;

	r = read_pair(dirfd, cert_name, key_name, ret_cert, ret_key, err);
	if (r == 0)
		return 0;
	/* Only what was never finished is made anew; a damaged CA is somebody's to look at. */
	if (r != -ENOENT)
		return r;
	key = EVP_EC_gen("P-256");
	if (!key)
		return ssl_error(err, -EIO, "make a key");
	/* A number in the name tells two portals' CAs apart where both are listed. */
	(void)hf_strf(name, sizeof(name), "%s %08x", title,
		      (unsigned)hf_random_below(UINT64_C(1) << 32));
	r = make_cert(&(struct leaf){.common_name = name,
				     .life_s = CA_DAYS * DAY_S,
				     .unix_ns = unix_ns,
				     .signer = key,
				     .subject = key,
				     .usage = "critical,keyCertSign,cRLSign",
				     .ca = true},
		      &cert);
	if (r < 0)
		return ssl_error(err, r, "make a CA certificate");
	r = write_key(dirfd, key_name, key, err);
	if (r == 0)
		r = write_cert(dirfd, cert_name, cert, err);
	if (r < 0)
		return r;
	*ret_cert = TAKE_PTR(cert);
	*ret_key = TAKE_PTR(key);
	return 0;
}

static bool is_ip(const char *name)
{
	uint8_t raw[16];

	return inet_pton(AF_INET, name, raw) == 1 || inet_pton(AF_INET6, name, raw) == 1;
}

static int alt_names(const char *const *names, size_t n, struct hf_buf *out)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		/* They come from the configuration; a comma would begin another kind of name. */
		if (strpbrk(names[i], ",;\n") || !names[i][0])
			return -EINVAL;
		r = hf_buf_appendf(out, "%s%s:%s", out->len ? "," : "",
				   is_ip(names[i]) ? "IP" : "DNS", names[i]);
	}
	return r;
}

static bool covers(X509 *cert, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int ok = is_ip(names[i]) ? X509_check_ip_asc(cert, names[i], 0)
					 : X509_check_host(cert, names[i], 0, 0, NULL);

		if (ok != 1)
			return false;
	}
	return true;
}

static bool server_usable(int dirfd, X509 *ca, const char *const *names, size_t n, uint64_t unix_ns)
{
	_cleanup_(X509_freep) X509 *cert = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
	time_t limit = (time_t)(unix_ns / HF_NS_PER_S) + SERVER_DAYS * DAY_S / 3;

	if (read_pair(dirfd, "server.pem", "server.key", &cert, &key, NULL) < 0)
		return false;
	return covers(cert, names, n) && X509_check_issued(ca, cert) == X509_V_OK &&
	       X509_cmp_time(X509_get0_notAfter(cert), &limit) > 0;
}

static int make_server(int dirfd, X509 *ca, EVP_PKEY *ca_key, const char *const *names, size_t n,
		       uint64_t unix_ns, struct hf_err *err)
{
	_cleanup_(hf_buf_done) struct hf_buf alt = {};
	_cleanup_(X509_freep) X509 *cert = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *key = EVP_EC_gen("P-256");
	int r;

	if (!key)
		return ssl_error(err, -EIO, "make a key");
	r = alt_names(names, n, &alt);
	if (r < 0)
		return hf_err_set(err, r, "a name of the portal is not a host name or address");
	r = make_cert(&(struct leaf){.common_name = "Holdfast portal",
				     .life_s = SERVER_DAYS * DAY_S,
				     .unix_ns = unix_ns,
				     .issuer = ca,
				     .signer = ca_key,
				     .subject = key,
				     .usage = "critical,digitalSignature",
				     .extended_usage = "serverAuth",
				     .alt_names = (const char *)alt.data},
		      &cert);
	if (r < 0)
		return ssl_error(err, r, "make the server certificate");
	r = write_key(dirfd, "server.key", key, err);
	return r < 0 ? r : write_cert(dirfd, "server.pem", cert, err);
}

int hf_ca_prepare(int dirfd, const char *const *names, size_t n_names, bool with_client_ca,
		  uint64_t unix_ns, struct hf_err *err)
{
	_cleanup_(X509_freep) X509 *ca = NULL, *client_ca = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *ca_key = NULL, *client_key = NULL;
	int r;

	if (n_names == 0 || n_names > HF_SERVER_NAMES_MAX)
		return hf_err_set(err, -EINVAL, "the portal needs 1 to %u names",
				  HF_SERVER_NAMES_MAX);
	r = prepare_ca(dirfd, "ca.pem", "ca.key", "Holdfast portal CA", unix_ns, &ca, &ca_key, err);
	if (r < 0)
		return hf_err_wrap(err, "portal CA");
	if (with_client_ca)
		r = prepare_ca(dirfd, "client-ca.pem", "client-ca.key", "Holdfast endpoint CA",
			       unix_ns, &client_ca, &client_key, err);
	if (r < 0)
		return hf_err_wrap(err, "endpoint CA");
	if (server_usable(dirfd, ca, names, n_names, unix_ns))
		return 0;
	r = make_server(dirfd, ca, ca_key, names, n_names, unix_ns, err);
	return r < 0 ? r : 1;
}

/* The certificate alone: a bundle's key goes to nobody. */
static int encode_pem(struct hf_ca *ca)
{
	_cleanup_(BIO_free_allp) BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long len;

	if (!bio || PEM_write_bio_X509(bio, ca->cert) != 1)
		return -EIO;
	len = BIO_get_mem_data(bio, &data);
	ca->pem = strndup(data, (size_t)len);
	ca->pem_len = (size_t)len;
	return ca->pem ? 0 : -ENOMEM;
}

int hf_ca_open(int dirfd, const char *bundle, struct hf_ca **ret, struct hf_err *err)
{
	_cleanup_(hf_ca_freep) struct hf_ca *ca = calloc(1, sizeof(*ca));
	int r;

	if (!ca)
		return hf_err_set(err, -ENOMEM, "out of memory");
	r = read_pair(dirfd, bundle ? bundle : "client-ca.pem", bundle ? bundle : "client-ca.key",
		      &ca->cert, &ca->key, err);
	if (r < 0)
		return hf_err_wrap(err, "endpoint CA");
	if (X509_check_ca(ca->cert) != 1)
		return hf_err_set(err, -EKEYREJECTED,
				  "endpoint CA: the certificate may not sign others");
	r = encode_pem(ca);
	if (r < 0)
		return ssl_error(err, r, "endpoint CA");
	*ret = TAKE_PTR(ca);
	return 0;
}

struct hf_ca *hf_ca_free(struct hf_ca *ca)
{
	if (!ca)
		return NULL;
	X509_free(ca->cert);
	EVP_PKEY_free(ca->key);
	free(ca->pem);
	free(ca);
	return NULL;
}

const char *hf_ca_pem(const struct hf_ca *ca, size_t *ret_len)
{
	*ret_len = ca->pem_len;
	return ca->pem;
}

static bool is_p256(EVP_PKEY *key)
{
	char group[32];

	return EVP_PKEY_is_a(key, "EC") &&
	       EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1 &&
	       hf_streq(group, "prime256v1");
}

static int hash_key(EVP_PKEY *key, uint8_t hash[static HF_HASH_SIZE])
{
	unsigned char *der = NULL;
	int len = i2d_PUBKEY(key, &der);

	if (len <= 0)
		return -EBADMSG;
	(void)SHA256(der, (size_t)len, hash); /* returns hash */
	OPENSSL_free(der);
	return 0;
}

int hf_csr_parse(const void *pem, size_t len, struct hf_csr **ret,
		 uint8_t hash[static HF_HASH_SIZE], struct hf_err *err)
{
	_cleanup_(hf_csr_freep) struct hf_csr *csr = NULL;
	_cleanup_(BIO_free_allp) BIO *bio = NULL;

	if (len == 0 || len > HF_CSR_PEM_MAX)
		return hf_err_set(err, -EBADMSG, "certificate request of %zu bytes", len);
	csr = calloc(1, sizeof(*csr));
	bio = BIO_new_mem_buf(pem, (int)len);
	if (!csr || !bio)
		return hf_err_set(err, -ENOMEM, "out of memory");
	csr->req = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
	if (!csr->req)
		return ssl_error(err, -EBADMSG, "certificate request is not PEM");
	csr->key = X509_REQ_get_pubkey(csr->req);
	if (!csr->key)
		return ssl_error(err, -EBADMSG, "certificate request without a usable key");
	if (!is_p256(csr->key))
		return hf_err_set(err, -EBADMSG, "certificate request's key is not P-256");
	if (X509_REQ_verify(csr->req, csr->key) != 1)
		return ssl_error(err, -EBADMSG, "certificate request is not signed by its key");
	if (hash_key(csr->key, hash) < 0)
		return ssl_error(err, -EBADMSG, "certificate request's key");
	*ret = TAKE_PTR(csr);
	return 0;
}

struct hf_csr *hf_csr_free(struct hf_csr *csr)
{
	if (!csr)
		return NULL;
	X509_REQ_free(csr->req);
	EVP_PKEY_free(csr->key);
	free(csr);
	return NULL;
}

int hf_ca_sign(struct hf_ca *ca, const struct hf_csr *csr, const uint8_t id[static HF_ID_SIZE],
	       uint64_t unix_ns, uint64_t life_s, char pem[static HF_CERT_PEM_MAX], size_t *ret_len,
	       uint64_t *ret_expires_ns, struct hf_err *err)
{
	_cleanup_(X509_freep) X509 *cert = NULL;
	_cleanup_(BIO_free_allp) BIO *bio = NULL;
	char name[HF_UUID_TEXT_SIZE];
	int r, len;

	hf_uuid_format(id, name);
	r = make_cert(&(struct leaf){.common_name = name,
				     .life_s = (time_t)life_s,
				     .unix_ns = unix_ns,
				     .issuer = ca->cert,
				     .signer = ca->key,
				     .subject = csr->key,
				     .usage = "critical,digitalSignature",
				     .extended_usage = "clientAuth"},
		      &cert);
	if (r < 0)
		return ssl_error(err, r, "sign a certificate");
	bio = BIO_new(BIO_s_mem());
	if (!bio || PEM_write_bio_X509(bio, cert) != 1)
		return ssl_error(err, -EIO, "encode a certificate");
	len = BIO_read(bio, pem, (int)HF_CERT_PEM_MAX - 1);
	if (len <= 0 || BIO_pending(bio) > 0)
		return hf_err_set(err, -EMSGSIZE, "encode a certificate: too long");
	pem[len] = '\0';
	*ret_len = (size_t)len;
	*ret_expires_ns = (unix_ns / HF_NS_PER_S + life_s) * HF_NS_PER_S;
	return 0;
}

int hf_ca_key_hash(const uint8_t *der, size_t len, uint8_t hash[static HF_HASH_SIZE])
{
	_cleanup_(X509_freep) X509 *cert = NULL;
	unsigned char *spki = NULL;
	int n;

	if (len > INT_MAX)
		return -EBADMSG;
	cert = d2i_X509(NULL, &der, (long)len);
	n = cert ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &spki) : -1;
	if (n <= 0)
		return -EBADMSG;
	(void)SHA256(spki, (size_t)n, hash); /* returns hash */
	OPENSSL_free(spki);
	return 0;
}

int hf_ca_identify(const uint8_t *der, size_t len, uint8_t ret_id[static HF_ID_SIZE],
		   uint64_t *ret_expires_ns)
{
	_cleanup_(X509_freep) X509 *cert = NULL;
	char name[HF_UUID_TEXT_SIZE + 1];
	struct tm tm;
	time_t t;

	if (len > INT_MAX)
		return -EBADMSG;
	cert = d2i_X509(NULL, &der, (long)len);
	if (!cert || X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name,
					       sizeof(name)) != HF_UUID_TEXT_SIZE - 1)
		return -EBADMSG;
	if (hf_uuid_parse(name, ret_id) < 0 || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1)
		return -EBADMSG;
	t = timegm(&tm);
	*ret_expires_ns = t > 0 ? (uint64_t)t * HF_NS_PER_S : 0;
	return 0;
}
