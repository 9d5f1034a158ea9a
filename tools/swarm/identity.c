/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and certificates of simulated endpoints, one file each: a later run finds them again. */
#include "tools/swarm/swarm.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

static void pkey_freep(EVP_PKEY **k)
{
	EVP_PKEY_free(*k);
}

static void req_freep(X509_REQ **q)
{
	X509_REQ_free(*q);
}

static void bio_freep(BIO **b)
{
	(void)BIO_free(*b); /* a memory BIO has nothing to flush */
}

void hf_swarm_path(const struct hf_swarm *s, unsigned index, const char *suffix, char *dst,
		   size_t size)
{
	(void)hf_strf(dst, size, "%s/%u.%s", s->o.state_dir, index, suffix);
}

static int write_pem(const struct hf_swarm *s, unsigned index, const char *suffix, const void *data,
		     size_t len)
{
	_cleanup_close_ int fd = -1;
	char path[256];
	ssize_t n;

	/* No fsync: what a power cut takes is enrolled again. */
	hf_swarm_path(s, index, suffix, path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	n = write(fd, data, len);
	return n < 0 ? -errno : (size_t)n < len ? -ENOSPC : 0;
}

static int load_key(const struct hf_swarm *s, unsigned index, EVP_PKEY **ret)
{
	_cleanup_(bio_freep) BIO *bio = NULL;
	char path[256];

	hf_swarm_path(s, index, "key", path, sizeof(path));
	bio = BIO_new_file(path, "r");
	if (!bio)
		return -ENOENT;
	*ret = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	return *ret ? 0 : -EINVAL;
}

static int make_key(const struct hf_swarm *s, unsigned index, EVP_PKEY **ret)
{
	_cleanup_(pkey_freep) EVP_PKEY *key = EVP_EC_gen("P-256");
	_cleanup_(bio_freep) BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long len;
	int r;

	if (!key || !bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		return -ENOMEM;
	len = BIO_get_mem_data(bio, &data);
	r = write_pem(s, index, "key", data, (size_t)len);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(key);
	return 0;
}

int hf_swarm_csr(const struct hf_swarm *s, unsigned index, struct hf_buf *ret, struct hf_err *err)
{
	_cleanup_(pkey_freep) EVP_PKEY *key = NULL;
	_cleanup_(req_freep) X509_REQ *req = X509_REQ_new();
	_cleanup_(bio_freep) BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long len;
	int r = load_key(s, index, &key);

	if (r == -ENOENT)
		r = make_key(s, index, &key);
	if (r < 0)
		return hf_err_set(err, r, "key of endpoint %u in '%s': %s", index, s->o.state_dir,
				  strerror(-r));
	if (!req || !bio || X509_REQ_set_version(req, 0) != 1 ||
	    X509_REQ_set_pubkey(req, key) != 1 || X509_REQ_sign(req, key, EVP_sha256()) <= 0 ||
	    PEM_write_bio_X509_REQ(bio, req) != 1)
		return hf_err_set(err, -ENOMEM, "make a certificate request");
	len = BIO_get_mem_data(bio, &data);
	return hf_buf_append(ret, data, (size_t)len);
}

int hf_swarm_store_cert(const struct hf_swarm *s, unsigned index, const void *pem, size_t len)
{
	return write_pem(s, index, "crt", pem, len);
}

bool hf_swarm_has_cert(const struct hf_swarm *s, unsigned index)
{
	char path[256];

	hf_swarm_path(s, index, "crt", path, sizeof(path));
	return access(path, R_OK) == 0;
}
