/* SPDX-License-Identifier: Apache-2.0 */
/* Gathers what OpenMetrics tell from the agent's parts. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "userspace/agent/agent.h"
#include "userspace/agent/kernel_decode.h"
#include "userspace/agent/metrics_text.h"

/* A port that somebody else has: looked after this often, told once. */
#define RETRY_TICKS 10u

static uint64_t rss_bytes(void)
{
	_cleanup_free_ char *text = NULL;
	unsigned long long size, rss;
	size_t len;

	if (hf_read_file(AT_FDCWD, "/proc/self/statm", 4096, &text, &len) < 0 ||
	    sscanf(text, "%llu %llu", &size, &rss) != 2)
		return 0;
	return rss * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t cpu_us(void)
{
	struct rusage u;

	if (getrusage(RUSAGE_SELF, &u) < 0)
		return 0;
	return ((uint64_t)u.ru_utime.tv_sec + (uint64_t)u.ru_stime.tv_sec) * 1000000 +
	       (uint64_t)u.ru_utime.tv_usec + (uint64_t)u.ru_stime.tv_usec;
}

static int write_metrics(struct hf_buf *out, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);
	Bus__Program programs[HF_KERNEL_PROGRAMS_MAX], *pointers[HF_KERNEL_PROGRAMS_MAX];
	struct hf_metrics_server_stats server = {};
	struct hf_uploader_stats upload;
	struct hf_spool_stats spool;
	struct hf_channel_view view;
	Bus__Telemetry telemetry;
	struct hf_metrics_facts f = {
		.version = a->self.version,
		.kernel_assist = hf_events_assist(a->events),
		.started_unix_ns = a->self.started_unix_ns,
		.restarts = a->starts > 1 ? a->starts - 1 : 0,
		.watchdog = hf_supervise_connected(a->supervise),
		.cpu_us = cpu_us(),
		.rss_bytes = rss_bytes(),
		.telemetry = &telemetry,
		.tally = hf_events_tally(a->events),
		.channel = &view,
		.outages = &a->outages_seen,
		.spool = &spool,
		.upload = &upload,
	};

	if (a->metrics)
		hf_metrics_server_stats(a->metrics, &server);
	f.scrapes = server.answered;
	f.scrapes_refused = server.refused;
	hf_events_counts(a->events, &f.events_read, &f.events_malformed);
	hf_events_telemetry(a->events, &telemetry, programs, pointers, HF_ARRAY_SIZE(programs));
	hf_channel_view(a->channel, &view);
	hf_spool_stats(a->spool, &spool);
	hf_uploader_stats(a->uploader, &upload);
	hf_agent_count_outages(a);
	return hf_metrics_text(&f, out);
}

void hf_agent_count_outages(struct hf_agent *a)
{
	size_t n = hf_outages_count(a->outages), first = n;

	/* Back to the one that was counted last; what ended before our time is another agent's. */
	while (first > 0) {
		const Bus__Outage *o = hf_outages_at(a->outages, first - 1);

		if (hf_streq(o->id, a->outage_counted))
			break;
		first--;
	}
	for (; first < n; first++) {
		const Bus__Outage *o = hf_outages_at(a->outages, first);
		enum hf_cause cause;

		/* Not over: the newest one waits to be counted, an older one never will be. */
		if (o->restored_unix_ns == 0 && first + 1 == n)
			break;
		if (o->restored_unix_ns == 0)
			continue;
		(void)hf_strlcpy(a->outage_counted, o->id, sizeof(a->outage_counted));
		if (a->outages_skip)
			continue;
		cause = hf_cause_from_name(o->cause);
		a->outages_seen.count[cause]++;
		a->outages_seen.us[cause] += o->outage_us;
	}
}

void hf_agent_metrics_configure(struct hf_agent *a)
{
	int r;

	if (!a->metrics)
		return;
	r = hf_metrics_server_listen(a->metrics, a->config.telemetry.metrics_listen);
	if (r < 0 && !a->metrics_failed)
		hf_warn_r(r, "serve metrics at '%s', trying again",
			  a->config.telemetry.metrics_listen);
	if (r == 0 && a->metrics_failed)
		hf_notice("metrics are served at '%s' now", a->config.telemetry.metrics_listen);
	a->metrics_failed = r < 0;
}

void hf_agent_metrics_tick(struct hf_agent *a)
{
	hf_agent_count_outages(a);
	if (a->metrics_failed && a->ticks % RETRY_TICKS == 0)
		hf_agent_metrics_configure(a);
}

int hf_agent_metrics_start(struct hf_agent *a)
{
	int r;

	/* Those of earlier agents are not ours to count. */
	a->outages_skip = true;
	hf_agent_count_outages(a);
	a->outages_skip = false;
	r = hf_metrics_server_new(a->event, a->paths.metrics_sock, write_metrics, a, &a->metrics);
	if (r < 0) {
		hf_warn_r(r, "serve metrics at '%s', going on without", a->paths.metrics_sock);
		return 0;
	}
	hf_agent_metrics_configure(a);
	return 0;
}

void hf_agent_metrics_stop(struct hf_agent *a)
{
	a->metrics = hf_metrics_server_free(a->metrics);
}
