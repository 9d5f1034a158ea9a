/* SPDX-License-Identifier: Apache-2.0 */
/* A collection: the worker `collect`, which makes an archive of logs and state without secrets. */
#pragma once

#include "watchdog/worker.h"

/* As hf_worker_cancel(); valid until on_done. */
struct hf_collect_run;
void hf_collect_cancel(struct hf_collect_run *c);

/*
 * As hf_worker_start(). on_done: archive is a sealed memfd (.tar.gz), owned by the callee, -1 unless
 * it succeeded; json is the manifest as one JSON object, borrowed, "" when there is none.
 */
int hf_collect_begin(struct hf_watchdog *w, uint64_t idle_limit_ns, uint64_t hard_limit_ns,
		     void (*on_progress)(void *userdata, uint32_t percent, const char *text),
		     void (*on_done)(void *userdata, enum hf_worker_outcome outcome, int archive,
				     const char *json, const char *reason),
		     void *userdata, struct hf_collect_run **ret, struct hf_err *err);
