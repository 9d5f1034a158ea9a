/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outage that is open, or was just over: from the first evidence to the sealed record.
 *
 *	begin → (attempts, evidence) → sealed, 5 ms after it was noticed
 *	      → restored             → finished once both happened: ready to be sent
 *
 * I1. At most one record is open. A new loss seals and finishes the one before it first.
 * I2. A record is on disk from the moment it begins, and again whenever it changes: an agent killed
 *     in an outage leaves it to its successor, who goes on with it.
 * I3. Durations come from CLOCK_BOOTTIME only; wall-clock stamps are for showing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "bus.pb-c.h"
#include "holdfast/supervise.h"
#include "userspace/agent/blackbox.h"
#include "userspace/agent/evidence.h"
#include "userspace/agent/outage.h"

struct hf_loss;

/* finished: rec is over and sealed (borrowed). From the loop or from inside the calls below. */
int hf_loss_new(sd_event *event, struct hf_outages *store,
		void (*finished)(Bus__Outage *rec, void *userdata), void *userdata,
		struct hf_loss **ret);
struct hf_loss *hf_loss_free(struct hf_loss *l);
HF_DEFINE_CLEANUP(struct hf_loss *, hf_loss_free);

/*
 * A session is gone. ev is consumed (emptied). cookie: its socket, so that late evidence finds it.
 * Returns the verdict as far as it is known now: the redial does not wait for the seal.
 */
struct hf_verdict hf_loss_begin(struct hf_loss *l, struct hf_evidence *ev, uint64_t cookie,
				uint64_t session_epoch);
/* Evidence that came after the loss. True if it was for the record that is not sealed yet. */
bool hf_loss_late_kernel(struct hf_loss *l, uint64_t cookie, const struct hf_kernel_fact *fact,
			 const uint8_t *event, size_t len);
/* The socket whose evidence is awaited; 0 none. */
uint64_t hf_loss_cookie(const struct hf_loss *l);
void hf_loss_attempt(struct hf_loss *l, const Bus__Attempt *a);
/* What the failed attempt adds to the evidence: tls, dns, proxy texts. "" or NULL none. */
void hf_loss_hint(struct hf_loss *l, const char *tls, const char *dns, const char *proxy);
/* What was found out later: an open record of cause `from` becomes one of cause `to`. */
void hf_loss_amend(struct hf_loss *l, enum hf_cause from, enum hf_cause to, const char *detail);
void hf_loss_restored(struct hf_loss *l);

/*
 * The agent's own death, or the host's: opens a record if the predecessor had a session or an open
 * record. The watchdog's word (hf_loss_last_exit) may come later; until then, at most two seconds,
 * the record is not sealed.
 */
void hf_loss_from_predecessor(struct hf_loss *l, const struct hf_blackbox_record *b,
			      const uint8_t boot_id[static 16]);
void hf_loss_last_exit(struct hf_loss *l, const struct hf_sup_last_exit *e);
/* Closes the book: seals what is open (the process ends; the record stays for the successor). */
void hf_loss_stop(struct hf_loss *l);

/* The record that is open (not restored), else NULL. */
const Bus__Outage *hf_loss_open(const struct hf_loss *l);
/* Cause name of the last loss, "" if there was none in this process. */
const char *hf_loss_last_cause(const struct hf_loss *l);

/* Pure: what a predecessor's end means. */
enum hf_cause hf_loss_cause_of_exit(const struct hf_sup_last_exit *e, const char *goodbye);
