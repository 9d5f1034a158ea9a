/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the channel's files share: channel.c (life, transitions, actions), channel_dial.c (attempts
 * and what comes of them), channel_session.c (what the portal says, outages, the loss of a session),
 * channel_evidence.c (what kernel, netlink and TCP_INFO say). Nobody else includes it.
 *
 * I1. Only hf_channel_handle() moves the state.
 * I2. A function called from inside a session's or attempt's callback may end that object; whoever
 *     goes on afterwards looks again whether it is still there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/agent/attempt.h"
#include "userspace/agent/backoff.h"
#include "userspace/agent/channel.h"
#include "userspace/agent/loss.h"
#include "userspace/agent/portal_target.h"

#define HF_CHANNEL_MAGIC 0x4e414843u

struct hf_channel {
	unsigned magic;
	sd_event *event;
	struct hf_identity *identity;
	struct hf_outages *outages;
	struct hf_disk *disk;
	struct hf_blackbox *blackbox;
	struct hf_self *self;
	const struct hf_config *config;
	struct hf_target *target;
	struct hf_dialer *dialer;
	struct hf_loss *loss;
	struct hf_channel_callbacks cb;
	void *userdata;

	struct hf_machine machine;
	char why[320]; /* of the present state */
	uint64_t state_since_unix_ns;
	struct hf_backoff backoff;

	struct hf_attempt *attempt;
	uint64_t attempt_epoch;
	struct {
		struct hf_target *target; /* NULL: nothing is being tried */
		struct hf_dialer *dialer;
		struct hf_attempt *attempt;
		uint64_t epoch;
	} trial;                      /* of offered connection settings, beside everything else */
	uint32_t offered_heartbeat_s; /* by a plain OpAMP server; 0: none */
	Bus__Attempt *race; /* a racing attempt that failed: for the record, should it be opened */
	struct hf_failure failure;
	bool cert_refused;         /* the portal says that our certificate has expired */
	uint64_t renewal_asked_ns; /* monotonic; 0 never */
	uint32_t max_segment;      /* of the next dial */
	bool by_own_clock;     /* the portal's proven time did not fit its certificates: try ours */
	uint32_t safe_segment; /* what the present session was dialled with */

	struct hf_session *session;
	Session__Welcome *welcome; /* of the session; NULL on plain servers */
	uint64_t session_since_unix_ns;
	char local[64], peer[64];
	struct hf_evidence ev; /* about the present session */
	bool uplink_told;
	unsigned outages_in_flight;
	uint64_t reconnects, tls_handshakes, tls_resumptions;
	bool was_up; /* in this process */

	sd_event_source *retry, *suspect, *tcp_check, *goodbye, *ticket;
	uint64_t retry_at_ns; /* 0 not armed */
	bool tcp_check_armed;
	uint64_t wait_ms; /* what the portal asked for, for HOLD */
	uint32_t spread_ms;
	bool stopping;
	bool away; /* held since the host said that it leaves */

	uint64_t watched; /* cookie of a lost session, until its record is sealed */
	struct hf_blackbox_record box;
	void (*enroll_done)(int r, const char *text, void *userdata);
	void *enroll_userdata;
};

/* channel.c */
/* why: one line; NULL takes the verdict about the session. */
void hf_channel_handle(struct hf_channel *ch, enum hf_ch_event ev, const char *why);
void hf_channel_arm(sd_event_source *s, uint64_t in_ns);
void hf_channel_disarm(sd_event_source *s);
void hf_channel_disarm_retry(struct hf_channel *ch);
void hf_channel_write_box(struct hf_channel *ch);

/* channel_dial.c */
void hf_channel_dial(struct hf_channel *ch);
void hf_channel_drop_attempt(struct hf_channel *ch);
void hf_channel_drop_race(struct hf_channel *ch);
/* The first outcome of an enrolment that somebody waits for. */
void hf_channel_tell_enroll(struct hf_channel *ch, int r, const char *text);

/* The answer of an attempt is one we can work with; else f says why not. */
bool hf_channel_answer_fits(const struct hf_channel *ch, const struct hf_attempt_result *res,
			    uint64_t epoch, struct hf_failure *f);
/* What the attempt reached becomes the session (HF_DO_ADOPT happens inside). */
void hf_channel_take_link(struct hf_channel *ch, struct hf_attempt_result *res);
/* For the rate of resumed handshakes. */
void hf_channel_count_tls(struct hf_channel *ch, const struct hf_attempt_result *res);
int hf_channel_first_message(struct hf_channel *ch, uint64_t epoch, struct hf_buf *ret);
/* Everything of an attempt that is alike for the portal and for a trial. */
void hf_channel_attempt_options(struct hf_channel *ch, struct hf_attempt_options *o);

/* channel_settings.c: connection settings that a server offers. */
void hf_channel_offered(struct hf_channel *ch, const Opamp__ConnectionSettingsOffers *offer);
void hf_channel_drop_trial(struct hf_channel *ch);

/* channel_session.c */
extern const struct hf_session_callbacks hf_channel_session_callbacks;
/* Tells the owner when telemetry may begin or has to cease. */
void hf_channel_tell_uplink(struct hf_channel *ch);
/* Without an outage: the session was given up on purpose. */
void hf_channel_drop_session(struct hf_channel *ch);
/* Opens the outage of the present session with the evidence at hand, and drops the session. */
struct hf_verdict hf_channel_lose_session(struct hf_channel *ch);
void hf_channel_send_outages(struct hf_channel *ch);
void hf_channel_on_outage_finished(Bus__Outage *rec, void *userdata);
/* Asks for a new certificate when a third of its life or less is left. */
void hf_channel_renew_certificate(struct hf_channel *ch);
/* Seconds since 1970 by the portal's clock where it told it in this boot, else by ours. */
int64_t hf_channel_now_s(const struct hf_channel *ch);

/* channel_evidence.c */
void hf_channel_check_tcp_soon(struct hf_channel *ch);
void hf_channel_suspect_path_mtu(struct hf_channel *ch);
int hf_channel_on_suspect(sd_event_source *s, uint64_t usec, void *userdata);
int hf_channel_on_tcp_check(sd_event_source *s, uint64_t usec, void *userdata);
