/* SPDX-License-Identifier: Apache-2.0 */
/* The status document. */
#include "userspace/proto/status_json.h"

#include "base/str.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/outage_json.h"
#include "userspace/proto/release_json.h"

static json_t *error_json(const char *error)
{
	json_t *o = json_object();

	hf_json_put(&o, "error", json_string_nocheck(error && *error ? error : "no answer"));
	return o;
}

static json_t *session_json(const Bus__Session *s)
{
	json_t *o;

	if (!s)
		return json_null();
	o = json_object();
	hf_json_put(&o, "epoch", hf_json_u64(s->epoch));
	hf_json_put(&o, "since", hf_json_time(s->since_unix_ns));
	hf_json_put(&o, "local", hf_json_string(s->local));
	hf_json_put(&o, "peer", hf_json_string(s->peer));
	hf_json_put(&o, "tls_version", hf_json_string(s->tls_version));
	hf_json_put(&o, "tls_resumed", json_boolean(s->tls_resumed));
	hf_json_put(&o, "rtt_us", hf_json_u64_or_null(s->rtt_us));
	hf_json_put(&o, "clock_offset_ms", json_integer(s->clock_offset_ms));
	hf_json_put(&o, "proxy", hf_json_string(s->proxy));
	return o;
}

/* The kernel counts what a program missed; only the watchdog may ask it. */
static uint64_t missed_by(const Bus__WatchdogStatus *w, const char *name)
{
	for (size_t i = 0; w && i < w->n_programs; i++)
		if (hf_streq(w->programs[i]->name, name))
			return w->programs[i]->missed;
	return 0;
}

static json_t *programs_json(Bus__Program *const *programs, size_t n, const Bus__WatchdogStatus *w)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *o = json_object();

		hf_json_put(&o, "name", hf_json_string(programs[i]->name));
		hf_json_put(&o, "attached", json_boolean(programs[i]->attached));
		hf_json_put(&o, "reason", hf_json_string(programs[i]->reason));
		hf_json_put(&o, "missed", hf_json_u64(missed_by(w, programs[i]->name)));
		hf_json_append(&a, o);
	}
	return a;
}

/* The agent knows the programs from the watchdog; before it was told, the watchdog's own list. */
static json_t *telemetry_json(const Bus__Telemetry *t, const Bus__WatchdogStatus *w)
{
	json_t *o, *programs;

	if (!t)
		return json_null();
	o = json_object();
	programs = t->n_programs || !w ? programs_json(t->programs, t->n_programs, w)
				       : programs_json(w->programs, w->n_programs, w);
	hf_json_put(&o, "generated", hf_json_u64(t->generated));
	hf_json_put(&o, "delivered", hf_json_u64(t->delivered));
	hf_json_put(&o, "in_ring", hf_json_u64(t->in_ring));
	hf_json_put(&o, "lost", hf_json_u64(t->lost));
	hf_json_put(&o, "filtered", hf_json_u64(t->filtered));
	hf_json_put(&o, "throttled", hf_json_u64(t->throttled));
	hf_json_put(&o, "spooled", hf_json_u64(t->spooled));
	hf_json_put(&o, "acked", hf_json_u64(t->acked));
	hf_json_put(&o, "blind_ms", hf_json_u64(t->blind_ms));
	hf_json_put(&o, "programs", programs);
	return o;
}

static json_t *agent_json(const Bus__AgentStatus *a)
{
	json_t *o = json_object();

	hf_json_put(&o, "pid", hf_json_u64(a->pid));
	hf_json_put(&o, "version", hf_json_string(a->version));
	hf_json_put(&o, "state", hf_json_string(a->state));
	hf_json_put(&o, "state_detail", hf_json_string(a->state_detail));
	hf_json_put(&o, "state_since", hf_json_time(a->state_since_unix_ns));
	hf_json_put(&o, "next_attempt_ms", hf_json_u64_or_null(a->next_attempt_ms));
	hf_json_put(&o, "authorized", json_boolean(hf_streq(a->authorized, "authorized")));
	hf_json_put(&o, "authorization", hf_json_string(a->authorized));
	hf_json_put(&o, "instance_uid", hf_json_string(a->instance_uid));
	hf_json_put(&o, "endpoint", hf_json_string(a->endpoint));
	hf_json_put(&o, "kernel_assist", hf_json_string(a->kernel_assist));
	hf_json_put(&o, "uptime_s", hf_json_ms_as_s(a->uptime_ms));
	hf_json_put(&o, "session", session_json(a->session));
	hf_json_put(&o, "reconnects", hf_json_u64(a->reconnects));
	hf_json_put(&o, "tls_handshakes", hf_json_u64(a->tls_handshakes));
	hf_json_put(&o, "tls_resumed", hf_json_u64(a->tls_resumed));
	hf_json_put(&o, "last_outage", hf_outage_json(a->last_outage));
	return o;
}

json_t *hf_component_json(const Bus__Component *c)
{
	json_t *o = json_object();

	hf_json_put(&o, "name", hf_json_string(c->name));
	hf_json_put(&o, "pid", hf_json_u64_or_null(c->pid));
	hf_json_put(&o, "version", hf_json_string(c->version));
	hf_json_put(&o, "state", hf_json_string(c->state));
	hf_json_put(&o, "detail", hf_json_string(c->detail));
	hf_json_put(&o, "since", hf_json_time(c->since_unix_ns));
	hf_json_put(&o, "restarts", hf_json_u64(c->restarts));
	hf_json_put(&o, "last_exit", hf_exit_record_json(c->last_exit));
	hf_json_put(&o, "status", hf_json_string(c->status_text));
	hf_json_put(&o, "rss_bytes", hf_json_u64_or_null(c->rss_bytes));
	hf_json_put(&o, "last_stderr", hf_json_string(c->last_stderr));
	hf_json_put(&o, "confinement", hf_json_string(c->confinement));
	return o;
}

static json_t *watchdog_json(const Bus__WatchdogStatus *w)
{
	json_t *o = json_object(), *components = json_array(), *releases = json_array();

	for (size_t i = 0; i < w->n_components; i++)
		hf_json_append(&components, hf_component_json(w->components[i]));
	hf_json_put(&o, "pid", hf_json_u64(w->pid));
	hf_json_put(&o, "version", hf_json_string(w->version));
	hf_json_put(&o, "uptime_s", hf_json_ms_as_s(w->uptime_ms));
	hf_json_put(&o, "kernel_assist", hf_json_string(w->kernel_assist));
	hf_json_put(&o, "previous_version", hf_json_string(w->previous_version));
	hf_json_put(&o, "components", components);
	for (size_t i = 0; i < w->n_releases; i++)
		hf_json_append(&releases, hf_release_json(w->releases[i]));
	hf_json_put(&o, "releases", releases);
	hf_json_put(&o, "programs", programs_json(w->programs, w->n_programs, w));
	return o;
}

json_t *hf_status_json(const Bus__AgentStatus *agent, const char *agent_error,
		       const Bus__WatchdogStatus *watchdog, const char *watchdog_error)
{
	json_t *o = json_object();

	hf_json_put(&o, "agent", agent ? agent_json(agent) : error_json(agent_error));
	hf_json_put(&o, "watchdog",
		    watchdog ? watchdog_json(watchdog) : error_json(watchdog_error));
	hf_json_put(&o, "telemetry",
		    agent ? telemetry_json(agent->telemetry, watchdog) : error_json(agent_error));
	return o;
}
