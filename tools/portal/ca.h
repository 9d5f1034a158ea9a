/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The portal's own certificates. In its directory, made at the first run, keys 0600:
 *
 *   ca.pem, ca.key                 signs server.pem; what endpoints and browsers trust
 *   server.pem, server.key         the portal's name(s); renewed by itself before it ends or when
 *                                  the names change
 *   client-ca.pem, client-ca.key   signs endpoints' requests
 *
 * All P-256 and SHA-256. Silent; err says what failed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "tools/portal/store.h"

struct hf_ca;

#define HF_CERT_PEM_MAX     4096u /* a P-256 leaf is 700 bytes */
#define HF_CSR_PEM_MAX      8192u
#define HF_SERVER_NAMES_MAX 32u

/*
 * Makes what is missing below dirfd, renews server.pem when less than a third of its life is left
 * at unix_ns or names differ. names: DNS names and IP literals. with_client_ca false: somebody else's
 * is configured. Returns 1 if server.pem is new.
 */
int hf_ca_prepare(int dirfd, const char *const *names, size_t n_names, bool with_client_ca,
		  uint64_t unix_ns, struct hf_err *err);

/* Loads the client CA: from bundle (certificate and key in one PEM), or NULL: the one made here. */
int hf_ca_open(int dirfd, const char *bundle, struct hf_ca **ret, struct hf_err *err);
struct hf_ca *hf_ca_free(struct hf_ca *ca);
HF_DEFINE_CLEANUP(struct hf_ca *, hf_ca_free);

/* PEM of the client CA's certificate; borrowed. */
const char *hf_ca_pem(const struct hf_ca *ca, size_t *ret_len);

/*
 * A certificate request of a stranger: PEM, self-signed, P-256. Its names are ignored, identity is
 * ours to give. hash is SHA-256 of the SubjectPublicKeyInfo. -EBADMSG with the reason in err.
 */
struct hf_csr;
int hf_csr_parse(const void *pem, size_t len, struct hf_csr **ret,
		 uint8_t hash[static HF_HASH_SIZE], struct hf_err *err);
struct hf_csr *hf_csr_free(struct hf_csr *csr);
HF_DEFINE_CLEANUP(struct hf_csr *, hf_csr_free);

/* Signs: CN = the id's UUID text, client authentication only, life_s from unix_ns. */
int hf_ca_sign(struct hf_ca *ca, const struct hf_csr *csr, const uint8_t id[static HF_ID_SIZE],
	       uint64_t unix_ns, uint64_t life_s, char pem[static HF_CERT_PEM_MAX], size_t *ret_len,
	       uint64_t *ret_expires_ns, struct hf_err *err);

/* SHA-256 of the SubjectPublicKeyInfo of a certificate, as hf_csr_parse() gives it. -EBADMSG. */
int hf_ca_key_hash(const uint8_t *der, size_t len, uint8_t hash[static HF_HASH_SIZE]);

/* Who a verified client certificate speaks for. -EBADMSG: its CN is no endpoint id. */
int hf_ca_identify(const uint8_t *der, size_t len, uint8_t ret_id[static HF_ID_SIZE],
		   uint64_t *ret_expires_ns);
