/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scan: the worker `scan` with what only root has (the list of loaded BPF programs, the baseline)
 * and with what it learned kept: <state>/watchdog/scan-baseline, replaced as a whole.
 */
#pragma once

#include "watchdog/worker.h"

/* About 300 000 watched files. The worker is told by its limit, the state directory by this. */
#define HF_SCAN_BASELINE_MAX    (32u << 20)
#define HF_SCAN_ORDER_PATHS_MAX 64u

struct hf_scan_order {
	const char *checks;       /* "setuid,baseline"; NULL or "": all */
	const char *const *paths; /* only below these */
	size_t paths_n;
	bool accept_baseline;                  /* what is there now becomes the baseline */
	uint64_t idle_limit_ns, hard_limit_ns; /* 0: the table's */
};

/* -EINVAL with a sentence: unknown form of a path or a check's name. Pure. */
int hf_scan_order_check(const struct hf_scan_order *o, struct hf_err *err);

struct hf_scan_run;

/*
 * As hf_worker_start(); on_progress and on_done are those of worker.h. A new baseline is on disk when
 * on_done comes, and *ret is valid until then; when it could not be written, reason says so though the scan succeeded.
 */
int hf_scan_begin(struct hf_watchdog *w, const struct hf_scan_order *o,
		  void (*on_progress)(void *userdata, uint32_t percent, const char *text),
		  void (*on_done)(void *userdata, enum hf_worker_outcome outcome, int result,
				  const char *reason),
		  void *userdata, struct hf_scan_run **ret, struct hf_err *err);
/* As hf_worker_cancel(): on_done comes, and says cancelled unless it was too late for that. */
void hf_scan_cancel(struct hf_scan_run *s);
