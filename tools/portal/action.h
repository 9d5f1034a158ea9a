/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of actions: what was asked for, in the database before it is answered; sent to
 * authorized endpoints, disruptive ones one by one; followed until the endpoint's word ends it.
 * Those that are not over are in memory as well, in a list of their endpoint. One loop thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "action.pb-c.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"
#include "opamp.pb-c.h"
#include "tools/portal/registry.h"
#include "tools/portal/store.h"

struct hf_actions;
struct hf_link;
struct hf_portal;

#define HF_ACTIONS_PER_ENDPOINT \
	64u /* that are not over: a person clicks fewer, a script needs a limit */

/* Reads (or makes) the key and takes up what is not over. */
int hf_actions_new(struct hf_portal *p, struct hf_actions **ret, struct hf_err *err);
struct hf_actions *hf_actions_free(struct hf_actions *a);
HF_DEFINE_CLEANUP(struct hf_actions *, hf_actions_free);

/* ---- for the API ----------------------------------------------------------------------------- */

/*
 * 0, or why not: -ENOENT (endpoint), -EDQUOT too many wait there, -EUSERS too many wait at all,
 * -EPERM revoked.
 */
int hf_actions_may_add(struct hf_actions *a, const struct hf_endpoint *ep);
/* The row is in the database: takes it up. Consumes row->params. */
void hf_actions_add(struct hf_actions *a, struct hf_action_row *row);
/* Whether an envelope of it is small enough for an endpoint: 0, -EMSGSIZE, -EINVAL (params). */
int hf_actions_check(struct hf_actions *a, const struct hf_action_row *row);
/* As it is now, with what the database does not have yet; NULL: it is over or unknown. Borrowed. */
const struct hf_action_row *hf_actions_find(struct hf_actions *a,
					    const uint8_t endpoint[static HF_ID_SIZE],
					    const uint8_t id[static HF_ID_SIZE]);
/* True: it was not over, and is cancelled or asked to be. */
bool hf_actions_cancel(struct hf_actions *a, const uint8_t endpoint[static HF_ID_SIZE],
		       const uint8_t id[static HF_ID_SIZE]);
/* What lists and the event stream show. New reference, NULL on ENOMEM. */
json_t *hf_action_json(struct hf_portal *p, const struct hf_action_row *row);

struct hf_action_key;
const struct hf_action_key *hf_actions_key(const struct hf_actions *a);
/* A new key, which every connected endpoint is told. */
int hf_actions_rotate(struct hf_actions *a, struct hf_err *err);

/* ---- for the session ------------------------------------------------------------------------- */

/* It is registered, or its authorization changed. */
void hf_actions_linked(struct hf_portal *p, struct hf_endpoint *ep);
/* The link is gone (goodbye: with a word); what waits says so. */
void hf_actions_unlinked(struct hf_portal *p, struct hf_endpoint *ep, bool goodbye);
/* A message of HF_CAP_ACTION from the endpoint's link. -EBADMSG. */
int hf_actions_message(struct hf_link *l, const Opamp__CustomMessage *cm);
/* The endpoint is deleted: what waits is cancelled. */
void hf_actions_forget(struct hf_portal *p, struct hf_endpoint *ep);
/* Packed action.Keys for the welcome, appended. */
void hf_actions_keys(struct hf_portal *p, const struct hf_endpoint *ep, struct hf_buf *ret);

/* ---- action_artifact.c ----------------------------------------------------------------------- */

#define HF_ARTIFACTS_DIR "artifacts"

int hf_artifacts_open(struct hf_portal *p, struct hf_err *err);
/* A chunk of an archive; answers it. row is the action's, to which it belongs. */
void hf_artifact_chunk(struct hf_link *l, const struct hf_action_row *row,
		       const Action__Artifact *m);
/* The whole archive for reading, -ENOENT. */
int hf_artifact_read(struct hf_portal *p, const uint8_t id[static HF_ID_SIZE]);
