/* SPDX-License-Identifier: Apache-2.0 */
/* The OpAMP session, seen by its parts: admit.c, ws_opamp.c, describe.c, enroll.c, telemetry.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "opamp.pb-c.h"
#include "session.pb-c.h"
#include "tools/portal/conn.h"
#include "tools/portal/registry.h"
#include "tools/portal/token.h"

#define HF_LINK_MAGIC       0x6c696e6bu
#define HF_LINK_STREAMS_MAX 16u /* streams an agent may announce; it has two */

struct hf_portal;
struct hf_request;
typedef struct sd_event_source sd_event_source;

enum hf_link_credential {
	HF_CREDENTIAL_CERTIFICATE,
	HF_CREDENTIAL_HEADER, /* its own hfa_ header */
	HF_CREDENTIAL_TOKEN,  /* an enrolment token */
	HF_CREDENTIAL_EXPIRED, /* an expired certificate: good for the next one, by proof of its key */
};

enum hf_link_state {
	HF_LINK_NEW,        /* upgraded, no message yet */
	HF_LINK_ENROLLING,  /* the first message came, the database decides */
	HF_LINK_CONTESTING, /* the endpoint's holder is asked first (contest.c) */
	HF_LINK_LIVE,       /* registered */
	HF_LINK_CLOSING,    /* a close frame is out, or the connection ended */
};

struct hf_link {
	unsigned magic;
	struct hf_portal *portal;
	struct hf_conn *conn; /* referenced; NULL once it ended */
	enum hf_link_state state;
	enum hf_link_credential credential;
	uint8_t credential_id[HF_ID_SIZE]; /* endpoint of a certificate or header */
	char token_id[17];
	struct hf_secret secret; /* of the token: proved again in the transaction */
	uint64_t cert_expires_ns;
	uint8_t uid[HF_ID_SIZE];
	uint8_t new_uid[HF_ID_SIZE]; /* what we gave it instead */
	bool uid_given;              /* new_uid was offered and is not in use yet */
	uint64_t flags;              /* of its last message */
	bool has_uid, has_hello, offered_heartbeat, goodbye;
	bool uncontested; /* the endpoint's holder was asked and is no more */
	uint64_t capabilities;
	uint64_t epoch;         /* of its Hello; 0: none */
	struct hf_endpoint *ep; /* while LIVE; NULL after the endpoint was deleted */
	unsigned jobs;          /* writer jobs that will call back */
	struct hf_stream_row first_unacked[HF_LINK_STREAMS_MAX]; /* acked is first_unacked here */
	size_t n_streams;
	uint64_t renewed_ns;
	const char *lost_reason; /* set before we cut it ourselves */
	/*
	 * Plain HTTP: the link stays registered between polls, without a connection. What is sent
	 * meanwhile waits for the next poll (one message: encodings of protobuf may be appended).
	 */
	bool polling;
	struct hf_buf reply;
	sd_event_source *expiry;
	struct hf_contest *contest; /* while CONTESTING */
};

/* OpAMP capability bits (specification, AgentCapabilities and ServerCapabilities). */
#define HF_OPAMP_REPORTS_EFFECTIVE_CONFIG    0x4u
#define HF_OPAMP_ACCEPTS_CONNECTION_SETTINGS 0x100u
#define HF_OPAMP_REPORTS_HEARTBEAT           0x2000u
#define HF_OPAMP_SERVER_CAPABILITIES         (0x1u | 0x4u | 0x20u | 0x40u)
#define HF_OPAMP_REPORT_FULL_STATE           0x1u
#define HF_OPAMP_REQUEST_INSTANCE_UID        0x1u /* AgentToServerFlags */

void hf_link_ref_job(struct hf_link *l);
/* Frees the link when its connection ended and this was the last job. */
void hf_link_unref_job(struct hf_link *l);

/* Sends m with the link's instance uid and our capabilities filled in. */
void hf_link_send(struct hf_link *l, Opamp__ServerToAgent *m);
void hf_link_send_custom(struct hf_link *l, const char *capability, const char *type,
			 ProtobufCMessage *body);
/* ServerErrorResponse, then a close frame: both name the reason. */
void hf_link_refuse(struct hf_link *l, Opamp__ServerErrorResponseType type, uint16_t code,
		    const char *reason);

/* Makes the link speak for ep: registers it and answers the first message. */
void hf_link_go_live(struct hf_link *l, struct hf_endpoint *ep, Opamp__AgentToServer *m,
		     Session__Hello *hello, Opamp__ConnectionSettingsOffers *offers);
/*
 * Answers a Holdfast agent that just got its certificate: welcome and offers, but it is not
 * registered, since it comes back with the certificate at once.
 */
void hf_link_introduce(struct hf_link *l, struct hf_endpoint *ep, Opamp__AgentToServer *m,
		       Session__Hello *hello, Opamp__ConnectionSettingsOffers *offers);
/* The reason in an OpAMP error and, where the agent has our session, a Hold; then a close frame. */
void hf_link_hold(struct hf_link *l, const char *reason, uint32_t retry_after_ms,
		  uint32_t window_ms, uint16_t code);
/* A message, decoded and not empty-handed: what its kind asks for happens. May take *m. */
void hf_link_take_message(struct hf_link *l, Opamp__AgentToServer **m);
/* Looks at certificate, header, token; false: refused, and that was answered. */
bool hf_link_admit(struct hf_portal *p, struct hf_request *rq, struct hf_link *l);
/* http_opamp.c: answers the poll under way, if there is one and nothing is awaited. May free l. */
void hf_link_poll_done(struct hf_link *l);
/* By the endpoint's heartbeat: when to ping, when to give up. */
void hf_link_set_silence(struct hf_link *l);
/* The uid that it has or shall have. */
const uint8_t *hf_link_uid(const struct hf_link *l);
/* How long a fleet that lost us may take to come back: its size over half of the accept budget. */
uint32_t hf_link_spread_ms(const struct hf_portal *p);
/* What the WebSocket tells (conn.h); userdata is the link. */
void hf_link_on_message(void *userdata, bool binary, const uint8_t *data, size_t len);
void hf_link_on_pong(void *userdata);
/* The portal stops: tells how to come back, then closes. */
void hf_link_on_stopping(void *userdata);
void hf_link_on_ended(void *userdata, enum hf_conn_end how);
/* With a limit: strangers may be refused as often as they like. */
void hf_link_log_refusal(const char *peer, const char *reason);

/* ---- describe.c ----------------------------------------------------------------------------- */
/* Copies what the description says into the row; true if something changed. */
bool hf_link_describe(struct hf_endpoint_row *row, const Opamp__AgentToServer *m,
		      const Session__Hello *hello);
/*
 * Copies a stranger's text: cut to its field, valid UTF-8, without control characters. True if it
 * changed dst; an empty value leaves it.
 */
bool hf_link_take(char *dst, size_t size, const char *value);
/* Components and kernel assist of a heartbeat; true if something changed. */
bool hf_link_take_presence(struct hf_endpoint *ep, const Session__Presence *presence);

/* ---- report.c ------------------------------------------------------------------------------- */
/* Health, effective configuration, what became of an offer; true if the endpoint's page changes. */
bool hf_link_report(struct hf_link *l, const Opamp__AgentToServer *m);

/* ---- offer.c -------------------------------------------------------------------------------- */
/* Sends the endpoint's connection settings, if it has any that it has not answered yet. */
void hf_offer_send(struct hf_link *l);
/* What the agent says of them. True if that is news. */
bool hf_offer_answered(struct hf_portal *p, struct hf_endpoint *ep,
		       const Opamp__ConnectionSettingsStatus *status);
void hf_offer_hash(Opamp__ConnectionSettingsOffers *offers, uint8_t hash[static HF_HASH_SIZE]);

/* ---- contest.c ------------------------------------------------------------------------------ */
/* l differs from ep's holder, which is asked; l waits. m, hello, offers are copied. */
void hf_contest_start(struct hf_link *l, struct hf_endpoint *ep, const Opamp__AgentToServer *m,
		      const Session__Hello *hello, const Opamp__ConnectionSettingsOffers *offers);
/* The holder's connection answered a ping, or is gone. */
void hf_contest_answered(struct hf_endpoint *ep);
void hf_contest_holder_gone(struct hf_endpoint *ep);
/* The waiting link ended by itself. */
void hf_contest_abandon(struct hf_link *l);
/* Refuses l for a long time, remembers and reports it. hello may be NULL. */
void hf_contest_quarantine(struct hf_link *l, struct hf_endpoint *ep, const Session__Hello *hello);
/* What a Hello says of where it runs. */
void hf_link_origin(const Session__Hello *hello, struct hf_origin *ret);

/* ---- enroll.c ------------------------------------------------------------------------------- */
/* First message of a connection with a token. Consumes m and hello. */
void hf_enroll_start(struct hf_link *l, Opamp__AgentToServer *m, Session__Hello *hello);
/* First message of a connection whose certificate has expired. Consumes m and hello. */
void hf_enroll_reissue(struct hf_link *l, struct hf_endpoint *ep, Opamp__AgentToServer *m,
		       Session__Hello *hello);
/* A live endpoint asks for a (new) certificate. */
void hf_enroll_renew(struct hf_link *l, const ProtobufCBinaryData *csr);

/* ---- telemetry.c ---------------------------------------------------------------------------- */
/* Consumes b. */
void hf_telemetry_batch(struct hf_link *l, Session__TelemetryBatch *b);
void hf_telemetry_outage(struct hf_link *l, const Opamp__CustomMessage *cm);
