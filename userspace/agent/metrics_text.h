/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's numbers as OpenMetrics 1.0 text. Pure: facts in, text out.
 *
 * Cardinality is bounded by what the facts are bounded by: kinds and reasons by HF_TALLY_REASONS,
 * units by HF_TALLY_ROWS with `(others)` for the rest, causes and states by their tables, programs
 * by HF_KERNEL_PROGRAMS_MAX. Processes and peers are no labels: strangers choose how many there are.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "bus.pb-c.h"
#include "holdfast/cause.h"
#include "userspace/agent/channel.h"
#include "userspace/agent/spool.h"
#include "userspace/agent/tally.h"
#include "userspace/agent/uploader.h"

#define HF_METRICS_CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Outages that ended while this agent was there, by cause. */
struct hf_metrics_outages {
	uint64_t count[_HF_CAUSE_MAX];
	uint64_t us[_HF_CAUSE_MAX];
};

struct hf_metrics_facts {
	const char *version;
	const char *kernel_assist; /* ebpf partial off */
	uint64_t started_unix_ns;
	uint64_t restarts;                 /* of this component, by the watchdog */
	bool watchdog;                     /* it is connected */
	uint64_t cpu_us, rss_bytes;        /* of this process */
	uint64_t scrapes, scrapes_refused; /* of the server, this one not counted */
	uint64_t events_read, events_malformed;
	const Bus__Telemetry *telemetry;
	const struct hf_tally *tally;
	const struct hf_channel_view *channel;
	const struct hf_metrics_outages *outages;
	const struct hf_spool_stats *spool;
	const struct hf_uploader_stats *upload;
};

/* Appends the whole text with its `# EOF`. -ENOMEM: out has a part of it. */
int hf_metrics_text(const struct hf_metrics_facts *f, struct hf_buf *out);
