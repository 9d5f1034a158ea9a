/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's part of actions: it takes them from the portal, writes them down before it says so,
 * hands the signed bytes to the watchdog, and brings the outcome back until the portal confirms.
 * It decides nothing that the watchdog does not decide again, and does nothing itself.
 *
 *	(new) → accepted → running → final → confirmed
 *	   └→ rejected, expired: refused here, also final
 *
 * A duplicate is answered with the known state. One loop thread; the disk thread writes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/disk.h"
#include "bus.pb-c.h"
#include "holdfast/config.h"
#include "holdfast/supervise.h"

struct hf_agent_actions;

struct hf_agent_actions_callbacks {
	/* To the portal. -EPIPE offline, -ENOBUFS: later (hf_agent_actions_writable()). */
	int (*send)(const char *type, ProtobufCMessage *body, void *userdata);
	/* To the watchdog; as hf_supervise_action_…(). */
	int (*blob)(enum hf_sup_type type, const void *bytes, size_t len, void *userdata);
	int (*id)(enum hf_sup_type type, const char *id, void *userdata);
	/* The portal's clock, whatever ours says; 0: not known. */
	uint64_t (*portal_unix_ns)(void *userdata);
};

/* All pointers are borrowed for the life; config may change its content. Callbacks are copied. */
int hf_agent_actions_new(sd_event *event, int state_dirfd, struct hf_disk *disk,
			 const struct hf_config *config,
			 const struct hf_agent_actions_callbacks *cb, void *userdata,
			 struct hf_agent_actions **ret);
struct hf_agent_actions *hf_agent_actions_free(struct hf_agent_actions *a);
HF_DEFINE_CLEANUP(struct hf_agent_actions *, hf_agent_actions_free);

/* The portal takes and gives actions now / no more. keys: packed action.Keys, may be empty. */
void hf_agent_actions_online(struct hf_agent_actions *a, const char *endpoint_id, const void *keys,
			     size_t keys_len);
void hf_agent_actions_offline(struct hf_agent_actions *a);
/* A message of HF_CAP_ACTION. -EBADMSG: not one of ours. */
int hf_agent_actions_message(struct hf_agent_actions *a, const char *type, const void *data,
			     size_t len);
void hf_agent_actions_writable(struct hf_agent_actions *a);

/* The watchdog welcomed us. */
void hf_agent_actions_watchdog(struct hf_agent_actions *a);
void hf_agent_actions_nonce(struct hf_agent_actions *a, const struct hf_sup_action_nonce *m);
/* Descriptors are borrowed; -1: none. */
void hf_agent_actions_state(struct hf_agent_actions *a, const struct hf_sup_action_state *m,
			    int result_fd, int artifact_fd);

/* For the bus, newest first, at most limit. Freed with bus__actions__free_unpacked(). NULL: ENOMEM */
Bus__Actions *hf_agent_actions_list(const struct hf_agent_actions *a, uint32_t limit);
