/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who this endpoint is: the private key (made here, P-256, 0600, never leaves), the certificate the
 * portal gave for it, the OpAMP instance uid, where the portal is, and an enrolment under way.
 *
 * Files in the state directory: key.pem, cert.pem, client_ca.pem, instance_uid, portal (URL and the
 * configured URL it replaces), portal_ca.pem, token (while enrolling). Loading happens at start, on
 * the loop's thread; writes go through the disk thread. A certificate is in use only once it and
 * its key are durable.
 *
 * Invariant: cert.pem is never older than key.pem. The key is made and durable before the first
 * request leaves; a key without a certificate means "enrolling", a certificate that is not of the
 * key is ignored with an error (somebody copied files).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/disk.h"
#include "base/err.h"
#include "base/random.h"
#include "base/str.h"
#include "holdfast/session.h"
#include "opamp.pb-c.h"

#define HF_ID_KEY       "key.pem"
#define HF_ID_CERT      "cert.pem"
#define HF_ID_PORTAL_CA "portal_ca.pem"
#define HF_ID_URL_MAX   512u
#define HF_ID_PEM_MAX   65536u /* a chain of a dozen certificates */

struct hf_identity;

/* Reads what is there; makes instance uid and key if they are missing (synchronously: at start). */
int hf_identity_open(int dirfd, struct hf_disk *disk, struct hf_identity **ret, struct hf_err *err);
struct hf_identity *hf_identity_free(struct hf_identity *id);
HF_DEFINE_CLEANUP(struct hf_identity *, hf_identity_free);

const uint8_t *hf_identity_uid(const struct hf_identity *id); /* 16 bytes */
const char *hf_identity_uid_text(const struct hf_identity *id);
/*
 * The server gave us another one. It is ours as soon as it is durable, so that who has heard it from
 * us once hears no other after a crash; done tells it. Where it cannot be stored (done: -errno) it is
 * ours until the next start.
 */
int hf_identity_set_uid(struct hf_identity *id, const uint8_t uid[static 16], hf_disk_done_fn done,
			void *userdata);

bool hf_identity_enrolled(const struct hf_identity *id);
/* "" if none. */
const char *hf_identity_url(const struct hf_identity *id, const char *configured);
bool hf_identity_has_ca(const struct hf_identity *id);
const char *hf_identity_token(const struct hf_identity *id); /* NULL none */
/* Subject CN of our certificate, "" if none. */
const char *hf_identity_endpoint_id(const struct hf_identity *id);
/* Wall clock, seconds; 0 without a certificate. */
int64_t hf_identity_cert_not_before(const struct hf_identity *id);
int64_t hf_identity_cert_not_after(const struct hf_identity *id);

/*
 * A new enrolment: remembers URL, token and CA durably. url is checked, ca_pem may be empty.
 * -EEXIST: already enrolled; -EINVAL with err.
 */
int hf_identity_enroll(struct hf_identity *id, const char *url, const char *configured,
		       const char *token, const void *ca_pem, size_t ca_len, struct hf_err *err);
/* PEM CSR of our key, appended. */
int hf_identity_csr(const struct hf_identity *id, struct hf_buf *ret);
/*
 * The portal's certificate: checked against our key, then stored; `done` when durable (from the
 * loop), the identity is enrolled from then on. -EKEYREJECTED: not of our key; -EINVAL: not PEM.
 */
int hf_identity_store(struct hf_identity *id, const Opamp__TLSCertificate *cert,
		      hf_disk_done_fn done, void *userdata, struct hf_err *err);
/* Forgets everything: new key, new instance uid; removes the files. */
int hf_identity_reset(struct hf_identity *id, struct hf_err *err);
