/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a token to an endpoint with a credential of its own, in one transaction of the writer:
 * reserve a use, make the endpoint, sign its certificate. Whatever fails undoes all of it.
 *
 * I1 A use is reserved by one conditional UPDATE before the endpoint exists: n racers on the last
 *    use make one endpoint.
 * I2 The same public key (or, without a key, the same token and instance uid) finds its endpoint
 *    again and uses nothing.
 * I3 An enrolled endpoint does not depend on its token any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "holdfast/session.h"
#include "tools/portal/ca.h"
#include "tools/portal/conn.h"
#include "tools/portal/fleet.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/token.h"
#include "tools/portal/writer.h"
#include "userspace/proto/frame.h"

#define RENEW_INTERVAL_NS (10 * HF_NS_PER_S) /* signing costs a core 0.2 ms: nobody needs more */

struct enrollment {
	struct hf_link *link;
	struct hf_portal *portal;
	Opamp__AgentToServer *message;
	Session__Hello *hello;
	struct hf_secret secret;
	struct hf_endpoint_row row; /* as it will be; as it is, when known */
	struct hf_csr *csr;         /* NULL: none asked for */
	uint8_t key_hash[HF_HASH_SIZE];
	bool wants_header, renewal;
	/* results of the transaction */
	bool known;
	enum hf_token_verdict verdict;
	char cert[HF_CERT_PEM_MAX];
	size_t cert_len;
	char header[8 + HF_SECRET_TEXT_MAX];
	struct hf_err err;
};

static void enrollment_free(struct enrollment *e)
{
	if (!e)
		return;
	hf_pb_freep(&e->message);
	hf_pb_freep(&e->hello);
	e->csr = hf_csr_free(e->csr);
	hf_wipe(e->header, sizeof(e->header));
	free(e);
}

/* ---- in the writer's thread ----------------------------------------------------------------- */

static int find_known(struct hf_store *s, struct enrollment *e)
{
	if (e->csr)
		return hf_store_endpoint_by_key(s, e->key_hash, &e->row);
	return hf_store_endpoint_by_token(s, e->secret.id, e->row.instance_uid, &e->row);
}

static int reserve(struct hf_store *s, struct enrollment *e)
{
	struct hf_token_row token;
	uint64_t now = hf_now_realtime_ns();
	int r = hf_store_token_get(s, e->secret.id, &token);

	if (r < 0 && r != -ENOENT)
		return r;
	e->verdict = hf_token_judge(r == 0 ? &token : NULL, &e->secret, now);
	if (e->verdict != HF_TOKEN_OK)
		return -EACCES;
	r = hf_store_token_reserve(s, token.id, now);
	if (r == -EDQUOT) /* cannot be: one writer; but the table's word counts, not ours */
		e->verdict = HF_TOKEN_EXHAUSTED;
	if (r < 0)
		return r == -EDQUOT ? -EACCES : r;
	if (token.pre_authorize) {
		e->row.authorization = HF_AUTH_AUTHORIZED;
		(void)hf_strf(e->row.authorization_by, sizeof(e->row.authorization_by), "token %s",
			      token.name[0] ? token.name : token.id);
	}
	(void)hf_strlcpy(e->row.group, token.group, sizeof(e->row.group));
	return 0;
}

static int give_certificate(struct hf_store *s, struct enrollment *e)
{
	int r = hf_ca_sign(e->portal->ca, e->csr, e->row.id, hf_now_realtime_ns(),
			   e->portal->config.certificate_life_s, e->cert, &e->cert_len,
			   &e->row.cert_expires_ns, &e->err);

	if (r < 0)
		return r;
	memcpy(e->row.key_hash, e->key_hash, HF_HASH_SIZE);
	e->row.has_key = true;
	return hf_store_endpoint_set_cert(s, e->row.id, e->key_hash, e->row.cert_expires_ns);
}

static int give_header(struct hf_store *s, struct enrollment *e)
{
	struct hf_secret secret;
	char id[33], text[HF_SECRET_TEXT_MAX];

	hf_hex_encode(id, e->row.id, HF_ID_SIZE);
	hf_secret_make(HF_SECRET_AGENT, id, 0, &secret, text);
	(void)hf_strf(e->header, sizeof(e->header), "Bearer %s", text);
	hf_wipe(text, sizeof(text));
	memcpy(e->row.bearer_hash, secret.hash, HF_HASH_SIZE);
	e->row.has_bearer = true;
	return hf_store_endpoint_set_bearer(s, e->row.id, secret.hash);
}

static int audit_enrollment(struct hf_store *s, const struct enrollment *e)
{
	struct hf_audit_row row = {.at_ns = hf_now_realtime_ns()};

	(void)hf_strf(row.actor, sizeof(row.actor), "token %s", e->secret.id);
	(void)hf_strlcpy(row.action, "endpoint.enroll", sizeof(row.action));
	hf_uuid_format(e->row.id, row.object);
	(void)hf_strf(row.detail, sizeof(row.detail), "%s, %s", e->row.name,
		      hf_authorization_name(e->row.authorization));
	return hf_store_audit_insert(s, &row);
}

static int run_enroll(struct hf_store *s, void *arg)
{
	struct enrollment *e = arg;
	struct hf_endpoint_row made = e->row;
	int r = find_known(s, e);

	if (r < 0 && r != -ENOENT)
		return r;
	e->known = r == 0;
	if (e->known && e->row.authorization == HF_AUTH_REVOKED)
		return -EKEYREVOKED;
	if (!e->known) {
		e->row = made;
		r = reserve(s, e);
		if (r == 0)
			r = hf_store_endpoint_insert(s, &e->row);
		if (r == 0)
			r = audit_enrollment(s, e);
		if (r < 0)
			return r;
	}
	if (e->csr)
		return give_certificate(s, e);
	return e->wants_header ? give_header(s, e) : 0;
}

static int run_renew(struct hf_store *s, void *arg)
{
	struct enrollment *e = arg;

	return give_certificate(s, e);
}

/* As it is in the database now: a revocation may be on its way to us. */
static int run_reissue(struct hf_store *s, void *arg)
{
	struct enrollment *e = arg;
	int r = hf_store_endpoint_by_key(s, e->key_hash, &e->row);

	if (r < 0 || e->row.authorization == HF_AUTH_REVOKED)
		return r < 0 && r != -ENOENT ? r : -EKEYREVOKED;
	return give_certificate(s, e);
}

/* ---- in the loop ---------------------------------------------------------------------------- */

static void refuse_enrollment(struct hf_link *l, const struct enrollment *e, int r)
{
	l->portal->counters.enroll_refused++;
	if (r == -EACCES)
		hf_link_refuse(
			l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
			HF_WS_CLOSE_POLICY, hf_cause_name(hf_token_cause(e->verdict)));
	else if (r == -EKEYREVOKED)
		hf_link_refuse(
			l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
			HF_WS_CLOSE_POLICY, hf_cause_name(HF_CAUSE_REVOKED));
	else
		hf_link_refuse(
			l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_Unavailable,
			HF_WS_CLOSE_TRY_LATER, hf_cause_name(HF_CAUSE_PORTAL_OVERLOAD));
}

/* The offer and all it points to; valid while e lives. */
struct offer {
	Opamp__ConnectionSettingsOffers offers;
	Opamp__OpAMPConnectionSettings settings;
	Opamp__TLSCertificate certificate;
	Opamp__Headers headers;
	Opamp__Header header, *header_list[1];
};

static void fill_offer(struct enrollment *e, struct offer *o)
{
	static char authorization[] = "Authorization";
	size_t ca_len;
	const char *ca = hf_ca_pem(e->portal->ca, &ca_len);

	o->offers = (Opamp__ConnectionSettingsOffers)OPAMP__CONNECTION_SETTINGS_OFFERS__INIT;
	o->settings = (Opamp__OpAMPConnectionSettings)OPAMP__OP_AMPCONNECTION_SETTINGS__INIT;
	o->offers.opamp = &o->settings;
	if (e->cert_len) {
		o->certificate = (Opamp__TLSCertificate)OPAMP__TLSCERTIFICATE__INIT;
		o->certificate.cert = (ProtobufCBinaryData){e->cert_len, (uint8_t *)e->cert};
		o->certificate.ca_cert = (ProtobufCBinaryData){ca_len, (uint8_t *)ca};
		o->settings.certificate = &o->certificate;
	}
	if (e->header[0]) {
		o->header = (Opamp__Header)OPAMP__HEADER__INIT;
		o->header.key = authorization;
		o->header.value = e->header;
		o->header_list[0] = &o->header;
		o->headers = (Opamp__Headers)OPAMP__HEADERS__INIT;
		o->headers.n_headers = 1;
		o->headers.headers = o->header_list;
		o->settings.headers = &o->headers;
	}
}

static struct hf_endpoint *endpoint_of(struct enrollment *e)
{
	struct hf_portal *p = e->portal;
	struct hf_endpoint *ep = hf_registry_find(p->registry, e->row.id);

	if (!ep && hf_fleet_add(p, &e->row, &ep) < 0)
		return NULL;
	memcpy(ep->row.key_hash, e->row.key_hash, HF_HASH_SIZE);
	memcpy(ep->row.bearer_hash, e->row.bearer_hash, HF_HASH_SIZE);
	ep->row.has_key = e->row.has_key;
	ep->row.has_bearer = e->row.has_bearer;
	ep->row.cert_expires_ns = e->row.cert_expires_ns;
	return ep;
}

static void done_enroll(int r, void *arg)
{
	struct enrollment *e = arg;
	struct hf_link *l = e->link;
	struct hf_endpoint *ep;
	struct offer offer;

	if (r < 0 && r != -EACCES && r != -EKEYREVOKED)
		hf_error_r(r, "Enrol '%s'%s%s", e->row.name, e->err.msg[0] ? ": " : "", e->err.msg);
	if (r < 0) {
		refuse_enrollment(l, e, r);
	} else {
		ep = endpoint_of(e);
		if (!e->known) {
			e->portal->counters.enrolled++;
			hf_notice("Endpoint '%s' enrolled, %s", e->row.name,
				  hf_authorization_name(e->row.authorization));
		}
		e->portal->counters.certificates_issued += e->cert_len != 0;
		if (ep && l->conn) {
			fill_offer(e, &offer);
			hf_conn_ws_pause(l->conn, false);
			if (e->hello && e->cert_len)
				hf_link_introduce(l, ep, e->message, e->hello, &offer.offers);
			else
				hf_link_go_live(l, ep, e->message, e->hello,
						e->cert_len || e->header[0] ? &offer.offers : NULL);
		}
	}
	hf_link_poll_done(l);
	hf_link_unref_job(l);
	enrollment_free(e);
}

static const ProtobufCBinaryData *csr_of(const Opamp__AgentToServer *m)
{
	if (!m->connection_settings_request || !m->connection_settings_request->opamp ||
	    !m->connection_settings_request->opamp->certificate_request)
		return NULL;
	return &m->connection_settings_request->opamp->certificate_request->csr;
}

static void fill_row(struct hf_link *l, struct enrollment *e)
{
	struct hf_endpoint_row *row = &e->row;
	uint64_t now = hf_now_realtime_ns();

	hf_uuid_v7(row->id);
	memcpy(row->instance_uid, hf_link_uid(l), HF_ID_SIZE);
	row->authorization = HF_AUTH_PENDING;
	if (l->portal->config.auto_authorize) {
		row->authorization = HF_AUTH_AUTHORIZED;
		(void)hf_strlcpy(row->authorization_by, "auto_authorize",
				 sizeof(row->authorization_by));
	}
	row->authorization_changed_ns = now;
	row->created_ns = now;
	(void)hf_strlcpy(row->token_id, l->token_id, sizeof(row->token_id));
	(void)hf_link_describe(row, e->message, e->hello);
	(void)hf_strlcpy(row->name, row->hostname, sizeof(row->name));
	if (!row->name[0]) {
		char uid[HF_UUID_TEXT_SIZE];

		hf_uuid_format(l->uid, uid);
		(void)hf_strf(row->name, sizeof(row->name), "agent-%.8s", uid);
	}
}

/*
 * A plain agent is known again by token and uid. If one of that name is there already, its header
 * must not be replaced before it is clear who this is.
 */
static bool contested(struct hf_link *l, const Opamp__AgentToServer *m)
{
	struct hf_portal *p = l->portal;
	struct hf_endpoint *ep;

	if (l->uncontested)
		return false;
	ep = hf_registry_token_live(p->registry, l->token_id, hf_link_uid(l), &p->policy,
				    hf_now_monotonic_ns());
	if (ep)
		hf_contest_start(l, ep, m, NULL, NULL);
	return ep != NULL;
}

void hf_enroll_start(struct hf_link *l, Opamp__AgentToServer *m, Session__Hello *hello)
{
	struct enrollment *e;
	const ProtobufCBinaryData *csr = csr_of(m);
	int r = -ENOMEM;

	if (!hello && contested(l, m)) {
		hf_pb_freep(&m);
		return;
	}
	e = calloc(1, sizeof(*e));
	if (!e) {
		hf_pb_freep(&m);
		hf_pb_freep(&hello);
		refuse_enrollment(l, NULL, r);
		return;
	}
	e->link = l;
	e->portal = l->portal;
	e->message = m;
	e->hello = hello;
	e->secret = l->secret;
	e->wants_header = !csr && (l->capabilities & HF_OPAMP_ACCEPTS_CONNECTION_SETTINGS);
	if (csr && hf_csr_parse(csr->data, csr->len, &e->csr, e->key_hash, &e->err) < 0) {
		l->portal->counters.opamp_bad++;
		hf_link_refuse(
			l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
			HF_WS_CLOSE_POLICY, e->err.msg);
		enrollment_free(e);
		return;
	}
	fill_row(l, e);
	r = hf_writer_submit(l->portal->writer, run_enroll, done_enroll, e, sizeof(*e));
	if (r < 0) {
		refuse_enrollment(l, e, r);
		enrollment_free(e);
		return;
	}
	hf_link_ref_job(l);
	hf_conn_ws_pause(l->conn, true);
}

void hf_enroll_reissue(struct hf_link *l, struct hf_endpoint *ep, Opamp__AgentToServer *m,
		       Session__Hello *hello)
{
	struct enrollment *e = calloc(1, sizeof(*e));
	const ProtobufCBinaryData *csr = csr_of(m);
	int r = -ENOMEM;

	if (e) {
		e->link = l;
		e->portal = l->portal;
		e->message = m;
		e->hello = hello;
		e->row = ep->row;
		e->known = true;
		r = csr ? hf_csr_parse(csr->data, csr->len, &e->csr, e->key_hash, &e->err)
			: -ENOENT;
		/* The handshake proved the key of the certificate: only for that one. */
		if (r >= 0 && memcmp(e->key_hash, ep->row.key_hash, HF_HASH_SIZE) != 0)
			r = -EKEYREJECTED;
		if (r >= 0)
			r = hf_writer_submit(l->portal->writer, run_reissue, done_enroll, e,
					     sizeof(*e));
	} else {
		hf_pb_freep(&m);
		hf_pb_freep(&hello);
	}
	if (r >= 0) {
		hf_link_ref_job(l);
		hf_conn_ws_pause(l->conn, true);
		return;
	}
	if (r == -ENOMEM)
		refuse_enrollment(l, e, r);
	else
		hf_link_refuse(
			l, OPAMP__SERVER_ERROR_RESPONSE_TYPE__ServerErrorResponseType_BadRequest,
			HF_WS_CLOSE_POLICY, hf_cause_name(HF_CAUSE_CERT_EXPIRED));
	enrollment_free(e);
}

static void done_renew(int r, void *arg)
{
	struct enrollment *e = arg;
	struct hf_link *l = e->link;
	Opamp__ServerToAgent reply = OPAMP__SERVER_TO_AGENT__INIT;
	struct offer offer;

	if (r < 0) {
		hf_error_r(r, "Renew the certificate of '%s'%s%s", e->row.name,
			   e->err.msg[0] ? ": " : "", e->err.msg);
	} else {
		(void)endpoint_of(e); /* deleted meanwhile: the update had found no row */
		e->portal->counters.certificates_issued++;
		fill_offer(e, &offer);
		reply.connection_settings = &offer.offers;
		hf_link_send(l, &reply);
	}
	hf_link_unref_job(l);
	enrollment_free(e);
}

void hf_enroll_renew(struct hf_link *l, const ProtobufCBinaryData *csr)
{
	uint64_t now_ns = hf_now_monotonic_ns();
	struct enrollment *e;

	if (!l->ep || (l->renewed_ns && now_ns < l->renewed_ns + RENEW_INTERVAL_NS))
		return;
	e = calloc(1, sizeof(*e));
	if (!e)
		return;
	e->link = l;
	e->portal = l->portal;
	e->row = l->ep->row;
	e->renewal = true;
	if (hf_csr_parse(csr->data, csr->len, &e->csr, e->key_hash, &e->err) < 0) {
		hf_warn("Endpoint '%s': certificate request refused: %s", e->row.name, e->err.msg);
		l->portal->counters.opamp_bad++;
		enrollment_free(e);
		return;
	}
	l->renewed_ns = now_ns;
	if (hf_writer_submit(l->portal->writer, run_renew, done_renew, e, sizeof(*e)) < 0) {
		enrollment_free(e);
		return;
	}
	hf_link_ref_job(l);
}
