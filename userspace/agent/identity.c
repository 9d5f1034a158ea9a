/* SPDX-License-Identifier: Apache-2.0 */
/* Key, certificate request, certificate: libcrypto is used here only (and in net/tls_stream.c). */
#include "userspace/agent/identity.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/log.h"
#include "userspace/net/http.h"

#define IDENTITY_MAGIC 0x4e454449u
#define FILE_UID       "instance_uid"
#define FILE_URL       "portal"
#define FILE_TOKEN     "token"
#define FILE_CLIENT_CA "client_ca.pem"

struct hf_identity {
	unsigned magic;
	int dirfd;
	struct hf_disk *disk;
	EVP_PKEY *key;
	uint8_t uid[16];
	char uid_text[HF_UUID_TEXT_SIZE];
	bool enrolled;
	char endpoint_id[80];
	int64_t not_before, not_after;
	char url[HF_ID_URL_MAX];
	char url_replaces[HF_ID_URL_MAX]; /* what config.yml said when this URL was given */
	bool has_ca;
	char *token;

	/* An instance uid on its way to disk. */
	struct {
		unsigned writes; /* of the file, under way */
		bool active;
		uint8_t uid[16];
		hf_disk_done_fn done;
		void *userdata;
	} uid_next;

	/* A certificate on its way to disk. */
	struct {
		bool active;
		char endpoint_id[80];
		int64_t not_before, not_after;
		hf_disk_done_fn done;
		void *userdata;
	} storing;
};

static void pkey_freep(EVP_PKEY **k)
{
	EVP_PKEY_free(*k);
}

static void bio_freep(BIO **b)
{
	(void)BIO_free(*b); /* memory BIOs cannot fail to close */
}

static void x509_freep(X509 **x)
{
	X509_free(*x);
}

static void req_freep(X509_REQ **q)
{
	X509_REQ_free(*q);
}

static void forget_token(struct hf_identity *id)
{
	if (id->token)
		hf_wipe(id->token, strlen(id->token));
	free(id->token);
	id->token = NULL;
}

struct hf_identity *hf_identity_free(struct hf_identity *id)
{
	if (!id)
		return NULL;
	EVP_PKEY_free(id->key);
	forget_token(id);
	id->magic = 0;
	free(id);
	return NULL;
}

static int64_t asn1_time(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* Reads a PEM leaf: subject CN, validity, and whether it is of key. */
static int inspect_cert(EVP_PKEY *key, const void *pem, size_t len, char *cn, size_t cn_size,
			int64_t *ret_not_before, int64_t *ret_not_after)
{
	_cleanup_(bio_freep) BIO *bio = BIO_new_mem_buf(pem, (int)len);
	_cleanup_(x509_freep) X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

	ERR_clear_error();
	if (!x)
		return -EINVAL;
	if (X509_check_private_key(x, key) != 1) {
		ERR_clear_error();
		return -EKEYREJECTED;
	}
	if (X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, cn, (int)cn_size) <
	    0)
		cn[0] = 0;
	hf_sanitize(cn);
	*ret_not_before = asn1_time(X509_get0_notBefore(x));
	*ret_not_after = asn1_time(X509_get0_notAfter(x));
	return 0;
}

static int make_key(struct hf_identity *id, struct hf_err *err)
{
	_cleanup_(pkey_freep) EVP_PKEY *key = EVP_EC_gen("P-256");
	_cleanup_(bio_freep) BIO *bio = BIO_new(BIO_s_mem());
	char *pem;
	long len;
	int r;

	if (!key || !bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		return hf_err_set(err, -ENOMEM, "make a key: OpenSSL refused");
	len = BIO_get_mem_data(bio, &pem);
	r = hf_write_file_atomic(id->dirfd, HF_ID_KEY, pem, (size_t)len, 0600);
	hf_wipe(pem, (size_t)len);
	if (r < 0)
		return hf_err_set(err, r, "write '%s': %s", HF_ID_KEY, strerror(-r));
	EVP_PKEY_free(id->key);
	id->key = TAKE_PTR(key);
	return 0;
}

static int load_key(struct hf_identity *id, struct hf_err *err)
{
	_cleanup_free_ char *pem = NULL;
	_cleanup_(bio_freep) BIO *bio = NULL;
	size_t len;
	int r;

	r = hf_read_file(id->dirfd, HF_ID_KEY, HF_ID_PEM_MAX, &pem, &len);
	if (r == -ENOENT)
		return make_key(id, err);
	if (r < 0)
		return hf_err_set(err, r, "read '%s': %s", HF_ID_KEY, strerror(-r));
	bio = BIO_new_mem_buf(pem, (int)len);
	id->key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
	hf_wipe(pem, len);
	ERR_clear_error();
	if (!id->key)
		return hf_err_set(err, -EINVAL,
				  "'%s' is not a private key; remove it to make a new identity",
				  HF_ID_KEY);
	return 0;
}

static int make_uid(struct hf_identity *id, struct hf_err *err)
{
	int r;

	hf_uuid_v7(id->uid);
	hf_uuid_format(id->uid, id->uid_text);
	r = hf_write_file_atomic(id->dirfd, FILE_UID, id->uid_text, strlen(id->uid_text), 0600);
	if (r < 0)
		return hf_err_set(err, r, "write '%s': %s", FILE_UID, strerror(-r));
	return 0;
}

static int load_uid(struct hf_identity *id, struct hf_err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	r = hf_read_file(id->dirfd, FILE_UID, 64, &text, &len);
	if (r >= 0) {
		text[strcspn(text, "\r\n")] = 0;
		r = hf_uuid_parse(text, id->uid);
	}
	if (r < 0) {
		if (r != -ENOENT)
			hf_warn_r(r, "'%s' cannot be used, making a new one", FILE_UID);
		return make_uid(id, err);
	}
	hf_uuid_format(id->uid, id->uid_text);
	return 0;
}

static void load_cert(struct hf_identity *id)
{
	_cleanup_free_ char *pem = NULL;
	size_t len;
	int r;

	r = hf_read_file(id->dirfd, HF_ID_CERT, HF_ID_PEM_MAX, &pem, &len);
	if (r == -ENOENT)
		return;
	if (r >= 0)
		r = inspect_cert(id->key, pem, len, id->endpoint_id, sizeof(id->endpoint_id),
				 &id->not_before, &id->not_after);
	if (r < 0) {
		hf_error("certificate '%s' cannot be used (%s), enrol again", HF_ID_CERT,
			 r == -EKEYREJECTED ? "it is not of our key" : strerror(-r));
		return;
	}
	id->enrolled = true;
}

static void load_portal(struct hf_identity *id)
{
	_cleanup_free_ char *text = NULL, *token = NULL;
	char *line;
	size_t len;

	if (hf_read_file(id->dirfd, FILE_URL, 2 * HF_ID_URL_MAX, &text, &len) >= 0) {
		line = strchr(text, '\n');
		if (line)
			*line++ = 0;
		hf_strlcpy(id->url, text, sizeof(id->url));
		if (line) {
			line[strcspn(line, "\n")] = 0;
			hf_strlcpy(id->url_replaces, line, sizeof(id->url_replaces));
		}
	}
	if (!id->enrolled &&
	    hf_read_file(id->dirfd, FILE_TOKEN, HF_ENROLL_TOKEN_MAX, &token, &len) >= 0 && len > 0)
		id->token = TAKE_PTR(token);
	id->has_ca = faccessat(id->dirfd, HF_ID_PORTAL_CA, R_OK, 0) == 0;
}

int hf_identity_open(int dirfd, struct hf_disk *disk, struct hf_identity **ret, struct hf_err *err)
{
	_cleanup_(hf_identity_freep) struct hf_identity *id = calloc(1, sizeof(*id));
	int r;

	if (!id)
		return hf_err_set(err, -ENOMEM, "out of memory");
	id->magic = IDENTITY_MAGIC;
	id->dirfd = dirfd;
	id->disk = disk;
	r = load_uid(id, err);
	if (r < 0)
		return r;
	r = load_key(id, err);
	if (r < 0)
		return r;
	load_cert(id);
	load_portal(id);
	*ret = TAKE_PTR(id);
	return 0;
}

const uint8_t *hf_identity_uid(const struct hf_identity *id)
{
	return id->uid;
}

const char *hf_identity_uid_text(const struct hf_identity *id)
{
	return id->uid_text;
}

static void on_uid_stored(int r, void *userdata)
{
	struct hf_identity *id = HF_CAST(userdata, struct hf_identity, IDENTITY_MAGIC);

	id->uid_next.writes--;
	if (id->uid_next.writes > 0 || !id->uid_next.active)
		return; /* a later one is under way, or reset meanwhile */
	id->uid_next.active = false;
	memcpy(id->uid, id->uid_next.uid, 16);
	hf_uuid_format(id->uid, id->uid_text);
	id->uid_next.done(r, id->uid_next.userdata);
}

int hf_identity_set_uid(struct hf_identity *id, const uint8_t uid[static 16], hf_disk_done_fn done,
			void *userdata)
{
	char text[HF_UUID_TEXT_SIZE];
	int r;

	hf_uuid_format(uid, text);
	r = hf_disk_write(id->disk, FILE_UID, text, strlen(text), 0600, on_uid_stored, id);
	if (r < 0)
		return r;
	id->uid_next.writes++;
	id->uid_next.active = true;
	memcpy(id->uid_next.uid, uid, 16);
	id->uid_next.done = done;
	id->uid_next.userdata = userdata;
	return 0;
}

bool hf_identity_enrolled(const struct hf_identity *id)
{
	return id->enrolled;
}

const char *hf_identity_url(const struct hf_identity *id, const char *configured)
{
	/* An administrator who changes config.yml later means it. */
	if (id->url[0] && (!configured[0] || hf_streq(configured, id->url_replaces)))
		return id->url;
	return configured;
}

bool hf_identity_has_ca(const struct hf_identity *id)
{
	return id->has_ca;
}

const char *hf_identity_token(const struct hf_identity *id)
{
	return id->token;
}

const char *hf_identity_endpoint_id(const struct hf_identity *id)
{
	return id->endpoint_id;
}

int64_t hf_identity_cert_not_before(const struct hf_identity *id)
{
	return id->not_before;
}

int64_t hf_identity_cert_not_after(const struct hf_identity *id)
{
	return id->not_after;
}

static bool is_certificate(const void *pem, size_t len)
{
	_cleanup_(bio_freep) BIO *bio = BIO_new_mem_buf(pem, (int)len);
	_cleanup_(x509_freep) X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

	ERR_clear_error();
	return x;
}

static bool token_is_sane(const char *token)
{
	size_t n = strlen(token);

	if (n == 0 || n > HF_ENROLL_TOKEN_MAX)
		return false;
	/* It goes into a header: visible ASCII without a space. */
	for (size_t i = 0; i < n; i++) {
		if (token[i] <= ' ' || token[i] > '~')
			return false;
	}
	return true;
}

int hf_identity_enroll(struct hf_identity *id, const char *url, const char *configured,
		       const char *token, const void *ca_pem, size_t ca_len, struct hf_err *err)
{
	_cleanup_free_ char *text = NULL, *copy = NULL;
	struct hf_url parsed;
	int r;

	if (id->enrolled)
		return hf_err_set(err, -EEXIST,
				  "already enrolled as '%s'; use 'holdfast reset' first",
				  id->endpoint_id);
	if (strlen(url) >= HF_ID_URL_MAX || strpbrk(url, "\r\n") || hf_url_parse(url, &parsed) < 0)
		return hf_err_set(err, -EINVAL, "portal URL '%.100s' is not a valid wss:// URL",
				  url);
	if (!parsed.tls)
		return hf_err_set(err, -EINVAL, "portal URL '%.100s' is not encrypted: use wss://",
				  url);
	if (!token_is_sane(token))
		return hf_err_set(
			err, -EINVAL,
			"the token is empty, too long or has characters that no token has");
	if (ca_len > HF_ID_PEM_MAX || (ca_len > 0 && !is_certificate(ca_pem, ca_len)))
		return hf_err_set(err, -EINVAL, "the CA given is not a PEM certificate");
	copy = strdup(token);
	text = hf_asprintf("%s\n%s\n", url, configured);
	if (!copy || !text)
		return hf_err_set(err, -ENOMEM, "out of memory");

	if (ca_len > 0) {
		/* The TLS context reads it by path right afterwards: written here and now, once. */
		r = hf_write_file_atomic(id->dirfd, HF_ID_PORTAL_CA, ca_pem, ca_len, 0600);
		if (r < 0)
			return hf_err_set(err, r, "write '%s': %s", HF_ID_PORTAL_CA, strerror(-r));
		id->has_ca = true;
	}
	r = hf_disk_write(id->disk, FILE_TOKEN, token, strlen(token), 0600, NULL, NULL);
	if (r >= 0)
		r = hf_disk_write(id->disk, FILE_URL, text, strlen(text), 0600, NULL, NULL);
	if (r < 0)
		return hf_err_set(err, r, "store the enrolment: %s", strerror(-r));
	forget_token(id);
	id->token = TAKE_PTR(copy);
	hf_strlcpy(id->url, url, sizeof(id->url));
	hf_strlcpy(id->url_replaces, configured, sizeof(id->url_replaces));
	return 0;
}

int hf_identity_csr(const struct hf_identity *id, struct hf_buf *ret)
{
	_cleanup_(req_freep) X509_REQ *req = X509_REQ_new();
	_cleanup_(bio_freep) BIO *bio = BIO_new(BIO_s_mem());
	X509_NAME *name;
	char *pem;
	long len;

	if (!req || !bio)
		return -ENOMEM;
	name = X509_REQ_get_subject_name(req);
	/* The portal puts its own endpoint id there; ours only makes the request readable. */
	if (X509_REQ_set_version(req, 0) != 1 ||
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
				       (const unsigned char *)id->uid_text, -1, -1, 0) != 1 ||
	    X509_REQ_set_pubkey(req, id->key) != 1 ||
	    X509_REQ_sign(req, id->key, EVP_sha256()) <= 0 ||
	    PEM_write_bio_X509_REQ(bio, req) != 1) {
		ERR_clear_error();
		return -EIO;
	}
	len = BIO_get_mem_data(bio, &pem);
	return hf_buf_append(ret, pem, (size_t)len);
}

static void on_stored(int r, void *userdata)
{
	struct hf_identity *id = HF_CAST(userdata, struct hf_identity, IDENTITY_MAGIC);

	if (!id->storing.active)
		return; /* reset meanwhile */
	id->storing.active = false;
	if (r >= 0) {
		id->enrolled = true;
		hf_strlcpy(id->endpoint_id, id->storing.endpoint_id, sizeof(id->endpoint_id));
		id->not_before = id->storing.not_before;
		id->not_after = id->storing.not_after;
		forget_token(id);
		(void)hf_disk_unlink(id->disk, FILE_TOKEN, NULL, NULL); /* worthless now */
	}
	id->storing.done(r, id->storing.userdata);
}

int hf_identity_store(struct hf_identity *id, const Opamp__TLSCertificate *cert,
		      hf_disk_done_fn done, void *userdata, struct hf_err *err)
{
	int64_t not_before, not_after;
	char cn[sizeof(id->endpoint_id)];
	int r;

	if (cert->cert.len == 0 || cert->cert.len > HF_ID_PEM_MAX ||
	    cert->ca_cert.len > HF_ID_PEM_MAX)
		return hf_err_set(err, -EINVAL, "the portal's certificate is empty or too long");
	r = inspect_cert(id->key, cert->cert.data, cert->cert.len, cn, sizeof(cn), &not_before,
			 &not_after);
	if (r == -EKEYREJECTED)
		return hf_err_set(err, r, "the portal's certificate is not of our key");
	if (r < 0)
		return hf_err_set(err, r, "the portal's certificate is not PEM");
	if (cert->ca_cert.len > 0) {
		r = hf_disk_write(id->disk, FILE_CLIENT_CA, cert->ca_cert.data, cert->ca_cert.len,
				  0600, NULL, NULL);
		if (r < 0)
			return hf_err_set(err, r, "store '%s': %s", FILE_CLIENT_CA, strerror(-r));
	}
	r = hf_disk_write(id->disk, HF_ID_CERT, cert->cert.data, cert->cert.len, 0600, on_stored,
			  id);
	if (r < 0)
		return hf_err_set(err, r, "store '%s': %s", HF_ID_CERT, strerror(-r));
	id->storing.active = true;
	hf_strlcpy(id->storing.endpoint_id, cn, sizeof(id->storing.endpoint_id));
	id->storing.not_before = not_before;
	id->storing.not_after = not_after;
	id->storing.done = done;
	id->storing.userdata = userdata;
	return 0;
}

int hf_identity_reset(struct hf_identity *id, struct hf_err *err)
{
	static const char *const files[] = {HF_ID_CERT, FILE_CLIENT_CA, FILE_TOKEN, FILE_URL,
					    HF_ID_PORTAL_CA};
	int r;

	/* Rare and asked for by a person, who should hear the truth: done here and now. */
	for (size_t i = 0; i < HF_ARRAY_SIZE(files); i++) {
		if (unlinkat(id->dirfd, files[i], 0) < 0 && errno != ENOENT)
			return hf_err_set(err, -errno, "remove '%s': %s", files[i],
					  strerror(errno));
		/* A write still queued must not bring it back. */
		(void)hf_disk_unlink(id->disk, files[i], NULL, NULL);
	}
	r = make_key(id, err);
	if (r < 0)
		return r;
	r = make_uid(id, err);
	if (r < 0)
		return r;
	forget_token(id);
	/* A uid still queued must not take the new one's place. */
	if (id->uid_next.writes > 0)
		(void)hf_disk_write(id->disk, FILE_UID, id->uid_text, strlen(id->uid_text), 0600,
				    NULL, NULL);
	id->uid_next.active = false;
	id->storing.active = false;
	id->enrolled = false;
	id->has_ca = false;
	id->url[0] = id->url_replaces[0] = id->endpoint_id[0] = 0;
	id->not_before = id->not_after = 0;
	return 0;
}
