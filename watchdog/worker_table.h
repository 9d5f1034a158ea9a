/* SPDX-License-Identifier: Apache-2.0 */
/* The table of workers: which there are, and what each may do. */
#pragma once

#include "watchdog/worker.h"

/* As the configuration says now. How many lines there are. */
size_t hf_worker_table(const struct hf_config *c,
		       struct hf_worker_spec table[static HF_WORKERS_MAX]);

/* The configuration was read again: for the next start of each. */
void hf_worker_table_reload(struct hf_watchdog *w);
