/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The action key: Ed25519, made at the portal's first run, in `action.key` (0600) of its state
 * directory together with the public halves of those before it. A new one is signed by the old, so
 * that an endpoint that slept through several of them still finds its way from the one it trusts.
 * Silent; err says what failed.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "action.pb-c.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"
#include "tools/portal/store.h"

#define HF_ACTION_KEY_FILE "action.key"

struct hf_action_key;

/* Reads the file, makes it if there is none. -EBADMSG: it is damaged (no other is made then). */
int hf_action_key_open(int dirfd, uint64_t unix_ns, struct hf_action_key **ret, struct hf_err *err);
struct hf_action_key *hf_action_key_free(struct hf_action_key *k);
HF_DEFINE_CLEANUP(struct hf_action_key *, hf_action_key_free);

/* Adds a new key to the file, under a lock; whoever has it open reads it again. */
int hf_action_key_rotate(int dirfd, uint64_t unix_ns, struct hf_err *err);

/* 16 hex digits of the present key's id. */
void hf_action_key_id(const struct hf_action_key *k, char dst[static 17]);
uint64_t hf_action_key_created_ns(const struct hf_action_key *k);
size_t hf_action_key_count(const struct hf_action_key *k);

/* Appends packed action.Keys for this endpoint. */
int hf_action_key_chain(const struct hf_action_key *k, const uint8_t endpoint[static HF_ID_SIZE],
			struct hf_buf *ret);
/* Appends packed action.Envelope; fills b's key_id. -EMSGSIZE: larger than an endpoint takes. */
int hf_action_key_seal(const struct hf_action_key *k, Action__Body *b, struct hf_buf *ret);
/* Appends packed action.Time. */
int hf_action_key_stamp(const struct hf_action_key *k, const uint8_t endpoint[static HF_ID_SIZE],
			const ProtobufCBinaryData *nonce, uint64_t unix_ns, struct hf_buf *ret);
