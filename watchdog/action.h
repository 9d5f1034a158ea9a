/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actions of the portal, at the place where they are done: the agent hands over the signed bytes,
 * this module verifies them itself, writes down that it begins, does it, and remembers what became
 * of it. Which kind does what is a table in action.c.
 *
 *	(unknown) → accepted → running → succeeded | failed | timed_out | cancelled
 *	    └→ rejected, expired   └→ cancelled, expired
 *
 * An action is begun once: its record is durable before anything is done, and an id with a record
 * is never begun again. A watchdog that was killed in between finds out what had been done.
 * One loop thread beside the disk thread.
 */
#pragma once

#include "base/cleanup.h"
#include "watchdog/watchdog.h"

struct hf_actions;
struct hf_peer;

/* After the components: what a predecessor had begun goes on from here. */
int hf_actions_new(struct hf_watchdog *w, struct hf_actions **ret);
struct hf_actions *hf_actions_free(struct hf_actions *a);
HF_DEFINE_CLEANUP(struct hf_actions *, hf_actions_free);

/*
 * A checked and permitted packet HF_SUP_ACTION…. 0, or -errno for DENIED: -EOPNOTSUPP no actions
 * here (a NULL), -EPERM this component may not.
 */
int hf_actions_packet(struct hf_actions *a, struct hf_peer *peer, const void *packet);

/* A component's state changed. a may be NULL. */
void hf_actions_component_changed(struct hf_actions *a, const struct hf_component *c);

/* A person on this host started or stopped it: what an action had planned for it is off. */
void hf_actions_person(struct hf_actions *a, const struct hf_component *c);

/* The host is enrolled anew: the next key the agent brings is believed. 0 or -errno. */
int hf_actions_forget_trust(struct hf_actions *a);
