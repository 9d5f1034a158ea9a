/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where to dial and with what: the portals in order, the proxy for each, the TLS context with the
 * present credentials, and what makes the next dial fast or possible (session ticket, addresses that
 * worked), kept over a restart. Also counts the connection epoch.
 *
 * Files in the state directory: epoch, ticket, last_good, settings.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/disk.h"
#include "base/err.h"
#include "holdfast/config.h"
#include "userspace/agent/identity.h"
#include "userspace/agent/settings.h"
#include "userspace/net/dial.h"
#include "userspace/net/tls_stream.h"

struct hf_target;

int hf_target_new(int state_dirfd, const char *state_dir, struct hf_identity *identity,
		  struct hf_disk *disk, struct hf_dialer *dialer, struct hf_target **ret);
struct hf_target *hf_target_free(struct hf_target *t);
HF_DEFINE_CLEANUP(struct hf_target *, hf_target_free);

/*
 * A target that tries what was offered, beside base: it dials the offered settings and nothing else,
 * writes nothing and counts no epochs. s is moved into it.
 */
int hf_target_new_trial(const struct hf_target *base, struct hf_settings *s,
			struct hf_dialer *dialer, struct hf_target **ret);
/*
 * The trial went well: its settings and TLS context are t's from now on. trial is left empty. No
 * stream of t's is alive.
 */
void hf_target_adopt(struct hf_target *t, struct hf_target *trial);
const struct hf_settings *hf_target_settings(const struct hf_target *t);

/* A portal is named, by enrolment or configuration. */
bool hf_target_known(const struct hf_target *t, const struct hf_config *c);
/* The URL as people wrote it, "" none. */
const char *hf_target_text(const struct hf_target *t, const struct hf_config *c);

/*
 * For the next attempt: picks URL and proxy, makes the TLS context if credentials or configuration
 * changed since. *ret_tls is borrowed until the next call with idle: no stream of ours is alive.
 */
int hf_target_prepare(struct hf_target *t, const struct hf_config *c, bool with_certificate,
		      bool idle, struct hf_tls_context **ret_tls, struct hf_err *err);
/* What time certificates are verified for, seconds since 1970; 0: the wall clock's. */
void hf_target_set_time(struct hf_target *t, int64_t unix_s);
const struct hf_url *hf_target_url(const struct hf_target *t);
const char *hf_target_proxy(const struct hf_target *t);   /* NULL none */
const char *hf_target_headers(const struct hf_target *t); /* NULL none */
/* Without user and password; "" none. */
const char *hf_target_proxy_shown(const struct hf_target *t);
/* The present portal failed: the next prepare takes the next one. */
void hf_target_next(struct hf_target *t);
/* address ("ip:port") answered. */
void hf_target_connected(struct hf_target *t, const char *address);
void hf_target_credentials_changed(struct hf_target *t);
void hf_target_save_ticket(struct hf_target *t);
void hf_target_forget(struct hf_target *t);

/* Grows with every call, over restarts as well. */
uint64_t hf_target_next_epoch(struct hf_target *t);
