/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notices that the wall clock was set, and that the host slept: a timer on CLOCK_REALTIME that the
 * kernel cancels in both cases (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET), and the distance between
 * CLOCK_BOOTTIME and CLOCK_MONOTONIC, which grows only in sleep.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"

#define HF_SLEPT_MIN_MS 1000u /* shorter sleeps disturb nothing */

struct hf_clockwatch;

struct hf_clockwatch_callbacks {
	void (*set)(void *userdata);
	void (*resumed)(uint64_t slept_ms, void *userdata);
};

/*
 * Pure: something other than a certificate says that the wall clock is wrong by more than five
 * minutes: it is before this product existed, or contradicts what the portal's clock said (0 never)
 * at a CLOCK_BOOTTIME of this boot (0: of an earlier boot, then only going back is proof).
 */
bool hf_clock_is_bad(uint64_t server_unix_ns, uint64_t server_at_boot_ns, uint64_t now_unix_ns,
		     uint64_t now_boot_ns);

int hf_clockwatch_new(sd_event *event, const struct hf_clockwatch_callbacks *cb, void *userdata,
		      struct hf_clockwatch **ret);
struct hf_clockwatch *hf_clockwatch_free(struct hf_clockwatch *w);
HF_DEFINE_CLEANUP(struct hf_clockwatch *, hf_clockwatch_free);
