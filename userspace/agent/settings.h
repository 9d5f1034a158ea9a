/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection settings that a server offered (OpAMP, ConnectionSettingsOffers): checked, and kept in
 * the file `settings` of the state directory once a connection made with them was answered. They
 * replace the portal of the configuration until an administrator changes that.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/disk.h"
#include "base/err.h"
#include "opamp.pb-c.h"
#include "userspace/agent/identity.h"

#define HF_SETTINGS_HASH_MAX 64u
#define HF_SETTINGS_HEADERS  8u    /* a server needs one, for a credential */
#define HF_SETTINGS_TEXT_MAX 4096u /* all headers together */

/* ConnectionSettingsStatuses of the specification. */
enum hf_settings_status {
	HF_SETTINGS_UNSET,
	HF_SETTINGS_APPLIED,
	HF_SETTINGS_APPLYING,
	HF_SETTINGS_FAILED,
};

struct hf_settings {
	uint8_t hash[HF_SETTINGS_HASH_MAX];
	size_t hash_len;
	char url[HF_ID_URL_MAX];      /* "": as before */
	char replaces[HF_ID_URL_MAX]; /* portal.url at the time */
	char *headers;                /* "Name: value\r\n"…; NULL none; secret */
	char *ca_pem;                 /* NULL: as before */
	char proxy[512];              /* "": as before; secret */
	uint32_t heartbeat_s;         /* 0: as before */
};

/* Wipes and frees what s holds; s is empty afterwards. */
void hf_settings_done(struct hf_settings *s);

/*
 * Takes an offer apart. 1: there is something to try, 0: nothing but what applies to the present
 * connection (certificate, heartbeat interval), -EINVAL or -ENOTSUP with why it cannot be used.
 */
int hf_settings_parse(const Opamp__ConnectionSettingsOffers *offer, const char *configured_url,
		      struct hf_settings *ret, struct hf_err *err);

/* -ENOENT: there are none; -EINVAL: the file is none of ours. */
int hf_settings_load(int dirfd, struct hf_settings *ret);
/* done (may be NULL) is called from the loop when they are durable. */
int hf_settings_save(const struct hf_settings *s, struct hf_disk *disk, hf_disk_done_fn done,
		     void *userdata);
int hf_settings_remove(struct hf_disk *disk);
