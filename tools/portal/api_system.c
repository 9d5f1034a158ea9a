/* SPDX-License-Identifier: Apache-2.0 */
/* /healthz, /readyz, /about. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/server.h"
#include "tools/portal/writer.h"
#include "userspace/proto/event_json.h"

/* The loop runs, or nobody would answer. */
void hf_api_healthz(struct hf_portal *p, struct hf_request *rq)
{
	(void)p;
	hf_reply_json(rq->conn, 200, json_pack("{s:s}", "status", "ok"));
}

void hf_api_readyz(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_writer_stats w;
	struct hf_server_stats s;
	int r = hf_store_ping(p->store);

	hf_writer_stats(p->writer, &w);
	hf_server_stats(p->server, &s);
	if (p->stopping) {
		hf_reply_problem(rq->conn, 503, "stopping", "the portal stops");
	} else if (r < 0) {
		hf_reply_problem(rq->conn, 503, "database", "the database cannot be read: %s",
				 strerror(-r));
	} else if (w.last_error < 0) {
		hf_reply_problem(rq->conn, 503, "database", "the database refuses writes: %s",
				 strerror(-w.last_error));
	} else {
		hf_reply_json(rq->conn, 200,
			      json_pack("{s:s, s:I}", "status", "ready", "connections",
					(json_int_t)s.connections));
	}
}

void hf_api_about(struct hf_portal *p, struct hf_request *rq)
{
	hf_reply_json(rq->conn, 200,
		      json_pack("{s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I}", "version", HF_VERSION,
				"environment", p->config.environment, "public_url", p->public_url,
				"started", hf_json_time(p->started_unix_ns), "schema",
				(json_int_t)hf_store_schema_version(), "heartbeat_s",
				(json_int_t)p->policy.heartbeat_s, "agent_max_offline_time_s",
				(json_int_t)p->policy.max_offline_s,
				"tunnel_status_check_interval_s",
				(json_int_t)p->config.tunnel_status_check_interval_s));
}
