/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: counters and gauges of the portal in the Prometheus text format. */
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/fleet.h"
#include "tools/portal/hub.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/server.h"
#include "tools/portal/writer.h"

struct out {
	struct hf_buf buf;
	int r;
};

static void line(struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void line(struct out *o, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (o->r == 0)
		o->r = hf_buf_append(&o->buf, text, strlen(text));
}

static void metric(struct out *o, const char *name, const char *type, const char *help,
		   uint64_t value)
{
	line(o, "# HELP holdfast_portal_%s %s\n# TYPE holdfast_portal_%s %s\n", name, help, name,
	     type);
	line(o, "holdfast_portal_%s %llu\n", name, (unsigned long long)value);
}

static void counters(struct out *o, const struct hf_counters *n)
{
	const struct {
		const char *name, *help;
		uint64_t value;
	} all[] = {
		{"connections_accepted_total", "TCP connections taken on.", n->accepted},
		{"connections_refused_total", "Connections closed at once, limit reached.",
		 n->accept_refused},
		{"accept_failed_total", "accept(2) failures, for example no descriptors.",
		 n->accept_failed},
		{"tls_handshakes_total", "TLS handshakes completed.", n->handshakes_ok},
		{"tls_handshakes_failed_total", "TLS handshakes that failed.",
		 n->handshakes_failed},
		{"tls_handshakes_timed_out_total", "TLS handshakes that took too long.",
		 n->handshakes_timed_out},
		{"http_malformed_total", "Requests that were not well-formed HTTP.",
		 n->bad_requests},
		{"http_timeouts_total", "Requests that took too long to arrive.",
		 n->header_timeouts},
		{"auth_failed_total", "Requests with a credential that is not valid.",
		 n->auth_failed},
		{"rate_limited_total", "Requests refused after too many failures.",
		 n->rate_limited},
		{"channels_refused_overload_total",
		 "Channels told to come back later for lack of places.", n->overload_refused},
		{"channels_opened_total", "WebSocket upgrades.", n->ws_opened},
		{"channels_closed_total", "WebSocket connections that ended.", n->ws_closed},
		{"channel_violations_total", "WebSocket protocol violations.", n->ws_violations},
		{"channel_timeouts_total", "Channels ended for silence.", n->ws_timeouts},
		{"opamp_received_total", "OpAMP messages received.", n->opamp_received},
		{"opamp_sent_total", "OpAMP messages sent.", n->opamp_sent},
		{"opamp_malformed_total", "OpAMP messages that could not be read.", n->opamp_bad},
		{"heartbeats_total", "Heartbeats answered.", n->heartbeats},
		{"enrolled_total", "Endpoints enrolled.", n->enrolled},
		{"channels_refused_total", "Channels and enrolments refused.", n->enroll_refused},
		{"certificates_issued_total", "Endpoint certificates signed.",
		 n->certificates_issued},
		{"links_made_total", "Endpoints registered.", n->links_made},
		{"links_lost_total", "Registered connections lost without a goodbye.",
		 n->links_lost},
		{"links_goodbye_total", "Registered connections ended by a goodbye.",
		 n->links_goodbye},
		{"links_superseded_total", "Connections replaced by a newer one.",
		 n->links_superseded},
		{"links_stale_total", "Late connections refused for an older epoch.",
		 n->links_stale},
		{"links_clone_total", "Connections refused as another machine's.", n->links_clone},
		{"telemetry_batches_total", "Telemetry batches stored.", n->batches},
		{"telemetry_batches_refused_total", "Telemetry batches not stored.",
		 n->batches_refused},
		{"events_stored_total", "Events stored.", n->events_stored},
		{"events_duplicate_total", "Events received again.", n->events_duplicate},
		{"events_gap_total", "Events that endpoints counted as lost.", n->events_gap},
		{"outages_stored_total", "Outage records stored.", n->outages_stored},
		{"outages_duplicate_total", "Outage records received again.", n->outages_duplicate},
		{"streams_dropped_total", "Event streams cut off for reading too slowly.",
		 n->sse_dropped},
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(all); i++)
		metric(o, all[i].name, "counter", all[i].help, all[i].value);
	line(o, "# HELP holdfast_portal_http_responses_total Answers by status class.\n"
		"# TYPE holdfast_portal_http_responses_total counter\n");
	for (unsigned i = 1; i < HF_ARRAY_SIZE(n->requests); i++)
		line(o, "holdfast_portal_http_responses_total{class=\"%uxx\"} %llu\n", i,
		     (unsigned long long)n->requests[i]);
	line(o, "# HELP holdfast_portal_transitions_total Status changes by new status.\n"
		"# TYPE holdfast_portal_transitions_total counter\n");
	for (unsigned i = 0; i < _HF_STATUS_MAX; i++)
		line(o, "holdfast_portal_transitions_total{status=\"%s\"} %llu\n",
		     hf_status_name((enum hf_status)i), (unsigned long long)n->transitions[i]);
}

static void gauges(struct out *o, struct hf_portal *p)
{
	size_t counts[_HF_STATUS_MAX];
	struct hf_server_stats s;
	struct hf_writer_stats w;

	hf_fleet_count(p, counts);
	hf_server_stats(p->server, &s);
	hf_writer_stats(p->writer, &w);
	line(o, "# HELP holdfast_portal_endpoints Endpoints by status.\n"
		"# TYPE holdfast_portal_endpoints gauge\n");
	for (unsigned i = 0; i < _HF_STATUS_MAX; i++)
		line(o, "holdfast_portal_endpoints{status=\"%s\"} %zu\n",
		     hf_status_name((enum hf_status)i), counts[i]);
	metric(o, "connections", "gauge", "Open connections.", s.connections);
	metric(o, "handshakes", "gauge", "TLS handshakes under way.", s.handshakes);
	metric(o, "channels", "gauge", "Open WebSocket connections.", s.websockets);
	metric(o, "accepting", "gauge", "1 while new connections are taken on.", s.accepting);
	metric(o, "streams", "gauge", "Open event streams of web pages.",
	       hf_hub_subscribers(p->hub));
	metric(o, "db_queue_jobs", "gauge", "Writes that wait for the database.", w.queued);
	metric(o, "db_queue_bytes", "gauge", "Memory that those writes hold.", w.queued_bytes);
	metric(o, "db_commits_total", "counter", "Transactions committed.", w.commits);
	metric(o, "db_jobs_total", "counter", "Writes made.", w.jobs);
	metric(o, "db_failed_total", "counter", "Writes that the database refused.", w.failed);
	metric(o, "db_refused_total", "counter", "Writes refused, queue full.", w.refused);
	metric(o, "db_last_commit_us", "gauge", "Duration of the last transaction.",
	       w.last_commit_us);
	metric(o, "uptime_seconds", "gauge", "Since the portal's start.",
	       (hf_now_monotonic_ns() - p->started_ns) / HF_NS_PER_S);
}

void hf_api_metrics(struct hf_portal *p, struct hf_request *rq)
{
	struct out o = {};

	counters(&o, &p->counters);
	gauges(&o, p);
	if (o.r < 0)
		hf_reply_error(rq->conn, o.r, "metrics");
	else
		hf_conn_reply(rq->conn, &(struct hf_reply){.status = 200,
							   .type = "text/plain; version=0.0.4; "
								   "charset=utf-8",
							   .body = o.buf.data,
							   .len = o.buf.len});
	hf_buf_done(&o.buf);
}
