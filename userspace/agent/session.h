/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OpAMP session on an established link: sequence numbers, status compression, heartbeats, and
 * what the portal says, taken apart and handed on. With a server that lacks our capability it is a
 * plain OpAMP agent, and WebSocket pings stand in for the registry's proof.
 *
 * It reports; the channel decides. `lost` is the last callback and comes at most once; the session
 * may be freed inside any callback.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "opamp.pb-c.h"
#include "session.pb-c.h"
#include "userspace/agent/heartbeat.h"
#include "userspace/agent/host.h"
#include "userspace/agent/link.h"
#include "userspace/agent/settings.h"

struct hf_session;

/* What became of the connection settings that a server offered. */
struct hf_settings_report {
	uint8_t hash[HF_SETTINGS_HASH_MAX];
	size_t hash_len; /* 0: none were offered */
	enum hf_settings_status status;
	char error[160];
};

/* A part of us in the health tree; strings are borrowed until the message is built. */
struct hf_part_health {
	const char *name;
	bool healthy;
	const char *status;
	const char *error; /* "" none */
};

#define HF_PARTS_MAX 8u

/* What the agent says about itself; borrowed, read whenever a message is built. */
struct hf_self {
	const struct hf_host *host;
	const uint8_t *instance_uid; /* 16 bytes */
	uint8_t run_id[16];          /* random, of this process: the portal tells copies by it */
	const char *version;
	const char *environment;
	const char *kernel_assist; /* changes when the watchdog reconnects */
	uint64_t started_unix_ns;
	uint64_t lost_events;
	const char *last_error; /* "" healthy */
	/* Fills the health tree below us, returns how many; NULL: the agent alone. */
	size_t (*parts)(struct hf_part_health ret[static HF_PARTS_MAX], void *userdata);
	struct hf_settings_report settings;
	uint64_t sequence_num;                     /* of the last AgentToServer of this process */
	char *(*effective_config)(void *userdata); /* malloc'ed YAML without secrets; NULL none */
	bool config_sent; /* since it changed: the largest part is not repeated with each dial */
	void *userdata;
};

struct hf_hello {
	struct hf_self *self;
	uint64_t epoch;
	uint64_t attempt_started_boot_ns;
	const char *last_close; /* cause name or "" */
	const void *csr;        /* PEM; NULL none */
	size_t csr_len;
	/* Fills Hello.streams; may be NULL. */
	int (*streams)(Session__Hello *hello, void *userdata);
	void *userdata;
};

/* The first message of a connection, appended. Counts self->sequence_num up. */
int hf_session_first_message(const struct hf_hello *h, struct hf_buf *ret);
/*
 * AgentDisconnect and a close frame on an open link that becomes no session. What the socket takes at
 * once is sent; the link may be freed right after it.
 */
void hf_session_part(struct hf_self *self, struct hf_link *link, const char *reason);

struct hf_session_loss {
	const struct hf_link_end *end; /* NULL: the link did not end, we judged it dead */
	bool heartbeat_missed;
	bool tcp_acked;
	bool registry_lost;
};

struct hf_session_callbacks {
	void (*proof)(void *userdata);
	void (*authorization)(const char *authorization, void *userdata); /* changed */
	void (*lost)(const struct hf_session_loss *loss, void *userdata);
	void (*hold)(const Session__Hold *hold, void *userdata);
	void (*server_error)(const Opamp__ServerErrorResponse *e, void *userdata);
	void (*telemetry_ack)(const Session__TelemetryAck *ack, void *userdata);
	void (*outage_ack)(const char *id, void *userdata);
	/* A message of HF_CAP_ACTION. -EBADMSG: it is counted as malformed. */
	int (*action)(const char *type, const void *data, size_t len, void *userdata);
	void (*offer)(const Opamp__ConnectionSettingsOffers *offer, void *userdata);
	void (*new_uid)(const uint8_t uid[static 16], void *userdata);
	void (*restart)(void *userdata); /* ServerToAgentCommand */
	void (*asked)(void *userdata);   /* a heartbeat left */
	/* The send queue has room again. */
	void (*writable)(void *userdata);
};

struct hf_session_options {
	sd_event *event;
	struct hf_self *self;
	uint64_t epoch;
	const Session__Welcome *welcome; /* NULL: plain OpAMP server; borrowed for the call */
	uint32_t heartbeat_s;            /* ours, where the portal says none */
	uint32_t heartbeat_timeout_s;
	uint64_t hello_sent_boot_ns, answered_boot_ns;
};

/* link is consumed on success. */
int hf_session_new(const struct hf_session_options *o, struct hf_link *link,
		   const struct hf_session_callbacks *cb, void *userdata, struct hf_session **ret);
struct hf_session *hf_session_free(struct hf_session *s);
HF_DEFINE_CLEANUP(struct hf_session *, hf_session_free);

/* A message that came before the session existed (the attempt's answer). */
void hf_session_handle(struct hf_session *s, const Opamp__ServerToAgent *m);

/* Asks the registry now. */
void hf_session_probe(struct hf_session *s);
/* Something of the status changed: it goes out with the next message. */
void hf_session_status_changed(struct hf_session *s);
/* -ENOBUFS: later (`writable`), -EPIPE: no longer. */
int hf_session_send(struct hf_session *s, const char *capability, const char *type,
		    ProtobufCMessage *body);
/* Tells what became of offered settings (hf_self.settings). */
void hf_session_report_settings(struct hf_session *s);
/* Asks for a certificate (renewal). */
int hf_session_send_csr(struct hf_session *s, const void *csr, size_t len);
/* Goodbye with the reason, AgentDisconnect, close frame; `lost` follows when the peer has closed. */
void hf_session_goodbye(struct hf_session *s, const char *reason);
void hf_session_poke(struct hf_session *s);

uint64_t hf_session_epoch(const struct hf_session *s);
uint64_t hf_session_cookie(const struct hf_session *s);
const struct hf_link *hf_session_link(const struct hf_session *s);
const char *hf_session_authorization(
	const struct hf_session *s); /* "authorized" on plain servers */
bool hf_session_plain(const struct hf_session *s);
uint32_t hf_session_rtt_us(const struct hf_session *s);
int64_t hf_session_clock_offset_ms(const struct hf_session *s); /* portal − here */
uint64_t hf_session_server_unix_ns(const struct hf_session *s, uint64_t *ret_at_boot_ns);
uint64_t hf_session_malformed(const struct hf_session *s);
