/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel to the portal: owns the session, the attempt beside it, their timers and the open
 * outage, and moves through the states of channel_table.h. Everything that happens becomes an event
 * of that table; everything done is one of its actions.
 *
 * The rest of the agent hands it evidence (kernel, netlink, resume) and configuration, and hears
 * about transitions. One loop thread; nothing here blocks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/disk.h"
#include "holdfast/config.h"
#include "holdfast/supervise.h"
#include "session.pb-c.h"
#include "userspace/agent/blackbox.h"
#include "userspace/agent/channel_table.h"
#include "userspace/agent/evidence.h"
#include "userspace/agent/identity.h"
#include "userspace/agent/outage.h"
#include "userspace/agent/session.h"

struct hf_channel;

struct hf_channel_callbacks {
	/* For status lines and the watchdog; after the transition. */
	void (*state_changed)(enum hf_ch_state from, enum hf_ch_state to, const char *why,
			      void *userdata);
	/* Telemetry may flow (welcome borrowed; its acks are the portal's positions) / no more. */
	void (*uplink)(const Session__Welcome *welcome, void *userdata); /* NULL: gone */
	void (*telemetry_ack)(const Session__TelemetryAck *ack, void *userdata);
	/* The portal's word on actions, while the uplink is there. -EBADMSG: malformed. */
	int (*action)(const char *type, const void *data, size_t len, void *userdata);
	void (*writable)(void *userdata);
	int (*streams)(Session__Hello *hello, void *userdata);
	/* The portal closed the connection because a message was too big; before uplink(NULL). */
	void (*too_big)(void *userdata);
	/* The kernel shall (no longer) report this socket. */
	void (*watch)(uint64_t cookie, bool on, void *userdata);
	/* The portal asks for a restart of the agent. */
	void (*restart)(void *userdata);
	/* After hf_channel_stop(): goodbye is said, the process may end. */
	void (*stopped)(void *userdata);
};

struct hf_channel_options {
	sd_event *event;
	int state_dirfd;
	const char *state_dir; /* path prefix of the identity's files for OpenSSL */
	struct hf_identity *identity;
	struct hf_outages *outages;
	struct hf_disk *disk;
	struct hf_blackbox *blackbox; /* NULL: none could be made */
	struct hf_self *self;
	const struct hf_config *config; /* borrowed until the next hf_channel_configure() */
};

/* All pointers are borrowed for the channel's life; callbacks are copied. */
int hf_channel_new(const struct hf_channel_options *o, const struct hf_channel_callbacks *cb,
		   void *userdata, struct hf_channel **ret);
struct hf_channel *hf_channel_free(struct hf_channel *ch);
HF_DEFINE_CLEANUP(struct hf_channel *, hf_channel_free);

/* Takes up what the predecessor left and dials if it can. */
void hf_channel_start(struct hf_channel *ch);
/* A new configuration; portal_changed: dial again with it. */
void hf_channel_configure(struct hf_channel *ch, const struct hf_config *config,
			  bool portal_changed);
/* Goodbye with this cause name, then `stopped`, within a second at the most. */
void hf_channel_stop(struct hf_channel *ch, const char *reason);

/*
 * The identity has a new enrolment. done (may be NULL) is called once with the first outcome: r 0
 * and the state reached, or -errno and one line why; the channel goes on trying in that case.
 */
void hf_channel_enroll(struct hf_channel *ch, void (*done)(int r, const char *text, void *userdata),
		       void *userdata);
/* The identity was reset. */
void hf_channel_forget(struct hf_channel *ch);

/* Evidence. event: packed bus.Event, borrowed. True: the socket is the channel's. */
bool hf_channel_kernel(struct hf_channel *ch, uint64_t cookie, const struct hf_kernel_fact *fact,
		       const uint8_t *event, size_t len);
struct hf_net_table;
void hf_channel_network_changed(struct hf_channel *ch, const struct hf_net_table *t);
/*
 * The host is about to sleep or to go down (the cause): says goodbye and stays away until
 * hf_channel_back(), a resume, or a minute has passed.
 */
void hf_channel_leave(struct hf_channel *ch, enum hf_cause cause);
void hf_channel_back(struct hf_channel *ch);
/* The host slept that long. */
void hf_channel_resumed(struct hf_channel *ch, uint64_t slept_ms);
/* The wall clock was set. */
void hf_channel_clock_set(struct hf_channel *ch);
void hf_channel_last_exit(struct hf_channel *ch, const struct hf_sup_last_exit *e);

/* What hf_self says has changed: tell the portal. */
void hf_channel_status_changed(struct hf_channel *ch);

/* -EPIPE while offline, -ENOBUFS: later (`writable`). */
int hf_channel_send_batch(struct hf_channel *ch, Session__TelemetryBatch *batch);
int hf_channel_send_action(struct hf_channel *ch, const char *type, ProtobufCMessage *body);
/* The portal's clock as its last word and CLOCK_BOOTTIME tell, whatever ours says; 0: no session. */
uint64_t hf_channel_portal_unix_ns(const struct hf_channel *ch);

/* What `status` shows. */
struct hf_channel_view {
	enum hf_ch_state state;
	const char *authorized; /* authorized pending suspended revoked unknown */
	char detail[320];
	uint64_t state_since_unix_ns;
	uint64_t next_attempt_ms; /* 0: none waits */
	uint64_t reconnects, tls_handshakes, tls_resumptions;
	bool up;
	uint64_t epoch, session_since_unix_ns;
	char local[64], peer[64], tls_version[16], proxy[128];
	bool tls_resumed;
	uint32_t rtt_us;
	int64_t clock_offset_ms;
	const char *endpoint; /* portal URL, "" none */
};
void hf_channel_view(const struct hf_channel *ch, struct hf_channel_view *ret);
