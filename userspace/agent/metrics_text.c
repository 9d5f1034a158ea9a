/* SPDX-License-Identifier: Apache-2.0 */
/* OpenMetrics: each family once, its samples together, counters end with _total. */
#include "userspace/agent/metrics_text.h"

#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "userspace/agent/channel_table.h"

struct out {
	struct hf_buf *buf;
	int r;
};

static void put(struct out *o, const char *text)
{
	if (o->r == 0)
		o->r = hf_buf_append(o->buf, text, strlen(text));
}

static void family(struct out *o, const char *name, const char *type, const char *unit,
		   const char *help)
{
	if (o->r == 0)
		o->r = hf_buf_appendf(o->buf, "# TYPE holdfast_%s %s\n", name, type);
	if (o->r == 0 && *unit)
		o->r = hf_buf_appendf(o->buf, "# UNIT holdfast_%s %s\n", name, unit);
	if (o->r == 0)
		o->r = hf_buf_appendf(o->buf, "# HELP holdfast_%s %s\n", name, help);
}

/* A label's value is any UTF-8 with three characters escaped; what is not UTF-8 becomes '?'. */
static void label_value(struct out *o, const char *s)
{
	while (*s && o->r == 0) {
		size_t n = 1;

		while (n < 4 && !hf_utf8_valid(s, n) && s[n])
			n++;
		if (!hf_utf8_valid(s, n)) {
			put(o, "?");
			s++;
			continue;
		}
		if (n == 1 && *s == '\n')
			put(o, "\\n");
		else if (n == 1 && (*s == '"' || *s == '\\'))
			o->r = hf_buf_appendf(o->buf, "\\%c", *s);
		else
			o->r = hf_buf_append(o->buf, s, n);
		s += n;
	}
}

/* name{label="value",label2="value2"}; no braces without labels. */
static void sample(struct out *o, const char *name, const char *label, const char *value,
		   const char *label2, const char *value2)
{
	put(o, "holdfast_");
	put(o, name);
	if (label) {
		put(o, "{");
		put(o, label);
		put(o, "=\"");
		label_value(o, value);
		if (label2) {
			put(o, "\",");
			put(o, label2);
			put(o, "=\"");
			label_value(o, value2);
		}
		put(o, "\"}");
	}
	put(o, " ");
}

static void number(struct out *o, uint64_t v)
{
	if (o->r == 0)
		o->r = hf_buf_appendf(o->buf, "%" PRIu64 "\n", v);
}

static void seconds_of_us(struct out *o, uint64_t us)
{
	if (o->r == 0)
		o->r = hf_buf_appendf(o->buf, "%" PRIu64 ".%06" PRIu64 "\n", us / 1000000,
				      us % 1000000);
}

static void signed_seconds_of_ms(struct out *o, int64_t ms)
{
	uint64_t abs_ms = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;

	if (o->r == 0)
		o->r = hf_buf_appendf(o->buf, "%s%" PRIu64 ".%03" PRIu64 "\n", ms < 0 ? "-" : "",
				      abs_ms / 1000, abs_ms % 1000);
}

struct plain {
	const char *name;
	bool counter;
	const char *unit, *help;
	uint64_t value;
};

static void plain(struct out *o, const struct plain *all, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char name[64];

		family(o, all[i].name, all[i].counter ? "counter" : "gauge", all[i].unit,
		       all[i].help);
		(void)hf_strf(name, sizeof(name), "%s%s", all[i].name,
			      all[i].counter ? "_total" : "");
		sample(o, name, NULL, NULL, NULL, NULL);
		number(o, all[i].value);
	}
}

/* ---- parts ------------------------------------------------------------------------------------ */

static void agent(struct out *o, const struct hf_metrics_facts *f)
{
	const struct plain numbers[] = {
		{"agent_restarts", true, "", "Restarts of the agent by the watchdog.", f->restarts},
		{"agent_watchdog_connected", false, "", "1 while the watchdog is reachable.",
		 f->watchdog},
		{"agent_resident_memory_bytes", false, "bytes", "Memory of the agent.",
		 f->rss_bytes},
		{"agent_scrapes", true, "", "Answers given here.", f->scrapes},
		{"agent_scrapes_refused", true, "",
		 "Connections here that were malformed, too slow or too many.", f->scrapes_refused},
	};

	family(o, "agent", "info", "", "The agent.");
	sample(o, "agent_info", "version", f->version, NULL, NULL);
	number(o, 1);
	family(o, "agent_start_time_seconds", "gauge", "seconds", "When the agent started.");
	sample(o, "agent_start_time_seconds", NULL, NULL, NULL, NULL);
	seconds_of_us(o, f->started_unix_ns / HF_NS_PER_US);
	family(o, "agent_cpu_seconds", "counter", "seconds", "Processor time of the agent.");
	sample(o, "agent_cpu_seconds_total", NULL, NULL, NULL, NULL);
	seconds_of_us(o, f->cpu_us);
	plain(o, numbers, HF_ARRAY_SIZE(numbers));
}

static void kernel(struct out *o, const struct hf_metrics_facts *f)
{
	static const char *const assists[] = {"ebpf", "partial", "off"};
	const Bus__Telemetry *t = f->telemetry;
	const struct plain numbers[] = {
		{"kernel_records_generated", true, "",
		 "Records the kernel programs tried to write.", t->generated},
		{"kernel_records_delivered", true, "", "Records that the agent has read.",
		 t->delivered},
		{"kernel_records_lost", true, "", "Records for which there was no room.", t->lost},
		{"kernel_records_filtered", true, "", "Events left out by the policy.",
		 t->filtered},
		{"kernel_records_throttled", true, "",
		 "Events left out because their cgroup was too loud.", t->throttled},
		{"kernel_ring_records", false, "", "Records not read yet.", t->in_ring},
		{"kernel_events_read", true, "", "Records read by this agent.", f->events_read},
		{"kernel_events_malformed", true, "", "Records that could not be decoded.",
		 f->events_malformed},
	};

	family(o, "kernel_assist", "stateset", "", "How much the kernel programs help.");
	for (size_t i = 0; i < HF_ARRAY_SIZE(assists); i++) {
		sample(o, "kernel_assist", "holdfast_kernel_assist", assists[i], NULL, NULL);
		number(o, hf_streq(assists[i], f->kernel_assist));
	}
	family(o, "kernel_program_attached", "gauge", "", "1 where the program is attached.");
	for (size_t i = 0; i < t->n_programs; i++) {
		sample(o, "kernel_program_attached", "program", t->programs[i]->name, NULL, NULL);
		number(o, t->programs[i]->attached);
	}
	family(o, "kernel_blind_seconds", "counter", "seconds",
	       "Time of this boot during which nobody read what the kernel recorded.");
	sample(o, "kernel_blind_seconds_total", NULL, NULL, NULL, NULL);
	seconds_of_us(o, t->blind_ms * 1000);
	plain(o, numbers, HF_ARRAY_SIZE(numbers));
}

static void unit_counts(struct out *o, const char *unit,
			const uint64_t counts[static _HF_TALLY_COLUMN_MAX], bool all)
{
	for (unsigned c = 0; c < _HF_TALLY_COLUMN_MAX; c++) {
		if (!counts[c] && !all)
			continue;
		sample(o, "unit_events_total", "unit", unit, "what",
		       hf_tally_column_name((enum hf_tally_column)c));
		number(o, counts[c]);
	}
}

static void events(struct out *o, const struct hf_metrics_facts *f)
{
	const struct hf_tally_table *units = &f->tally->table[HF_TALLY_UNIT];

	family(o, "events", "counter", "", "Events by kind and reason.");
	for (size_t i = 0; i < f->tally->reasons; i++) {
		const struct hf_tally_reason *r = &f->tally->reason[i];

		sample(o, "events_total", "kind", r->kind, "reason", r->reason);
		number(o, r->events);
	}
	family(o, "unit_events", "counter", "",
	       "Events by unit (or cgroup); units that made room for others are (others).");
	for (unsigned i = 0; i < HF_TALLY_ROWS; i++) {
		const struct hf_tally_row *r = &units->row[i / HF_TALLY_WAYS][i % HF_TALLY_WAYS];

		if (r->id)
			unit_counts(o, *r->name ? r->name : "(unknown)", r->counts, false);
	}
	unit_counts(o, "(others)", units->other, true);
	family(o, "labels_folded", "counter", "",
	       "How often something went into another's series because there were too many.");
	sample(o, "labels_folded_total", "label", "unit", NULL, NULL);
	number(o, units->folded);
	sample(o, "labels_folded_total", "label", "reason", NULL, NULL);
	number(o, f->tally->reasons_folded);
}

static void channel(struct out *o, const struct hf_metrics_facts *f)
{
	const struct hf_channel_view *v = f->channel;

	family(o, "channel_up", "gauge", "", "1 while this host is online at its portal.");
	sample(o, "channel_up", NULL, NULL, NULL, NULL);
	number(o, v->state == HF_CH_ONLINE || v->state == HF_CH_SUSPECT);
	family(o, "channel_state", "stateset", "", "State of the channel.");
	for (unsigned i = 0; i < _HF_CH_STATE_MAX; i++) {
		sample(o, "channel_state", "holdfast_channel_state",
		       hf_ch_state_name((enum hf_ch_state)i), NULL, NULL);
		number(o, v->state == (enum hf_ch_state)i);
	}
	family(o, "channel_reconnects", "counter", "", "Sessions after the first one.");
	sample(o, "channel_reconnects_total", NULL, NULL, NULL, NULL);
	number(o, v->reconnects);
	family(o, "channel_tls_handshakes", "counter", "", "TLS handshakes that were completed.");
	sample(o, "channel_tls_handshakes_total", NULL, NULL, NULL, NULL);
	number(o, v->tls_handshakes);
	family(o, "channel_tls_resumed", "counter", "", "TLS handshakes that a ticket shortened.");
	sample(o, "channel_tls_resumed_total", NULL, NULL, NULL, NULL);
	number(o, v->tls_resumptions);
	if (v->up) {
		family(o, "channel_rtt_seconds", "gauge", "seconds", "Round trip to the portal.");
		sample(o, "channel_rtt_seconds", NULL, NULL, NULL, NULL);
		seconds_of_us(o, v->rtt_us);
		family(o, "channel_clock_offset_seconds", "gauge", "seconds",
		       "This host's clock minus the portal's.");
		sample(o, "channel_clock_offset_seconds", NULL, NULL, NULL, NULL);
		signed_seconds_of_ms(o, v->clock_offset_ms);
	}
	/* All causes from the start: a counter that appears with its first event is missed by rate(). */
	family(o, "channel_outages", "counter", "", "Outages that are over, by cause.");
	for (unsigned c = 0; c < _HF_CAUSE_MAX; c++) {
		sample(o, "channel_outages_total", "cause", hf_cause_name((enum hf_cause)c), NULL,
		       NULL);
		number(o, f->outages->count[c]);
	}
	family(o, "channel_outage_seconds", "counter", "seconds",
	       "How long they lasted together, by cause.");
	for (unsigned c = 0; c < _HF_CAUSE_MAX; c++) {
		sample(o, "channel_outage_seconds_total", "cause", hf_cause_name((enum hf_cause)c),
		       NULL, NULL);
		seconds_of_us(o, f->outages->us[c]);
	}
}

static void spool(struct out *o, const struct hf_metrics_facts *f)
{
	const struct hf_spool_stats *s = f->spool;
	const struct plain numbers[] = {
		{"spool_appended", true, "", "Records put into the spool.", s->appended},
		{"spool_acked", true, "", "Records the portal has.", s->acked},
		{"spool_disk_bytes", false, "bytes", "Size on disk.", s->disk_bytes},
		{"spool_memory_bytes", false, "bytes", "Kept in memory because the disk refuses.",
		 s->memory_bytes},
		{"spool_segments", false, "", "Files.", s->segments},
		{"spool_write_errors", true, "", "Writes that failed.", s->write_errors},
		{"spool_disk_failing", false, "", "1 while the disk refuses.", s->disk_error != 0},
		{"upload_batches", true, "", "Batches sent to the portal.", f->upload->batches},
		{"upload_records", true, "", "Records sent, repeated ones included.",
		 f->upload->records},
		{"upload_bytes", true, "bytes", "Bytes sent, compressed.", f->upload->bytes},
	};

	family(o, "spool_dropped", "counter", "", "Records lost after they were read, by reason.");
	for (unsigned i = 0; i < _HF_SPOOL_GAP_REASON_MAX; i++) {
		sample(o, "spool_dropped_total", "reason",
		       hf_spool_gap_reason_name((enum hf_spool_gap_reason)i), NULL, NULL);
		number(o, s->dropped[i]);
	}
	plain(o, numbers, HF_ARRAY_SIZE(numbers));
}

int hf_metrics_text(const struct hf_metrics_facts *f, struct hf_buf *out)
{
	struct out o = {.buf = out};

	agent(&o, f);
	channel(&o, f);
	kernel(&o, f);
	events(&o, f);
	spool(&o, f);
	put(&o, "# EOF\n");
	return o.r;
}
