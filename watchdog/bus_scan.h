/* SPDX-License-Identifier: Apache-2.0 */
/* `holdfast scan`: start, ask how far, cancel, fetch the result. */
#pragma once

#include "base/cleanup.h"
#include "base/err.h"
#include "bus.pb-c.h"
#include "watchdog/watchdog.h"

struct hf_bus_scan;

int hf_bus_scan_new(struct hf_watchdog *w, struct hf_bus_scan **ret);
/* The workers are gone before. Takes NULL, returns NULL. */
struct hf_bus_scan *hf_bus_scan_free(struct hf_bus_scan *b);
HF_DEFINE_CLEANUP(struct hf_bus_scan *, hf_bus_scan_free);

/* Fills ret, whose strings are borrowed until the next turn of the loop. -errno with err. */
int hf_bus_scan_answer(struct hf_bus_scan *b, const Bus__ScanRequest *q, Bus__ScanState *ret,
		       struct hf_err *err);
