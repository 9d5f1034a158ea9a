/* SPDX-License-Identifier: Apache-2.0 */
/* Outage records as JSON. */
#include "userspace/proto/outage_json.h"

#include "base/str.h"
#include "userspace/proto/event_json.h"

json_t *hf_exit_record_json(const Bus__ExitRecord *x)
{
	json_t *o;

	if (!x)
		return json_null();
	o = json_object();
	hf_json_put(&o, "cause", hf_json_string(x->cause));
	hf_json_put(&o, "code", x->signal ? json_null() : json_integer(x->code));
	hf_json_put(&o, "signal", x->signal ? json_integer(x->signal) : json_null());
	hf_json_put(&o, "core", json_boolean(x->core));
	hf_json_put(&o, "by_pid", hf_json_u64_or_null(x->by_pid));
	hf_json_put(&o, "by_comm", hf_json_string(x->by_comm));
	hf_json_put(&o, "by_uid", x->by_pid ? hf_json_u64(x->by_uid) : json_null());
	hf_json_put(&o, "exit_to_exec_us", hf_json_u64_or_null(x->exit_to_exec_us));
	hf_json_put(&o, "exit_to_ready_us", hf_json_u64_or_null(x->exit_to_ready_us));
	hf_json_put(&o, "at", hf_json_time(x->at_unix_ns));
	hf_json_put(&o, "text", hf_json_string(x->text));
	hf_json_put(&o, "pid", hf_json_u64_or_null(x->pid));
	hf_json_put(&o, "from_kernel", json_boolean(x->from_kernel));
	return o;
}

json_t *hf_evidence_json(const Bus__Evidence *e)
{
	json_t *o;

	if (!e)
		return json_null();
	o = json_object();
	hf_json_put(&o, "kernel", e->kernel ? hf_event_json(e->kernel) : json_null());
	hf_json_put(&o, "err", hf_json_u64_or_null(e->err > 0 ? (uint64_t)e->err : 0));
	hf_json_put(&o, "err_name", hf_json_string(e->err_name));
	hf_json_put(&o, "tls", hf_json_string(e->tls));
	hf_json_put(&o, "dns", hf_json_string(e->dns));
	hf_json_put(&o, "proxy", hf_json_string(e->proxy));
	hf_json_put(&o, "netlink", hf_json_string(e->netlink));
	hf_json_put(&o, "close_code", hf_json_u64_or_null(e->close_code));
	hf_json_put(&o, "close_reason", hf_json_string(e->close_reason));
	hf_json_put(&o, "exit", hf_exit_record_json(e->exit));
	return o;
}

/* The phase that took no time because it was not reached is null, not 0. */
json_t *hf_attempt_json(const Bus__Attempt *a)
{
	json_t *o;

	if (!a)
		return json_null();
	o = json_object();
	hf_json_put(&o, "at", hf_json_time(a->at_unix_ns));
	hf_json_put(&o, "address", hf_json_string(a->address));
	hf_json_put(&o, "phase", hf_json_string(a->phase));
	hf_json_put(&o, "resolve_us", hf_json_u64_or_null(a->resolve_us));
	hf_json_put(&o, "connect_us", hf_json_u64_or_null(a->connect_us));
	hf_json_put(&o, "proxy_us", hf_json_u64_or_null(a->proxy_us));
	hf_json_put(&o, "tls_us", hf_json_u64_or_null(a->tls_us));
	hf_json_put(&o, "upgrade_us", hf_json_u64_or_null(a->upgrade_us));
	hf_json_put(&o, "hello_us", hf_json_u64_or_null(a->hello_us));
	hf_json_put(&o, "tls_resumed", json_boolean(a->tls_resumed));
	hf_json_put(&o, "error", hf_json_string(a->error));
	hf_json_put(&o, "cause", hf_json_string(a->cause));
	return o;
}

json_t *hf_outage_json(const Bus__Outage *out)
{
	json_t *o, *attempts;

	if (!out)
		return json_null();
	o = json_object();
	attempts = json_array();
	for (size_t i = 0; i < out->n_attempts; i++)
		hf_json_append(&attempts, hf_attempt_json(out->attempts[i]));
	hf_json_put(&o, "id", hf_json_string(out->id));
	hf_json_put(&o, "began", hf_json_time(out->began_unix_ns));
	hf_json_put(&o, "detected_at", hf_json_time(out->detected_unix_ns));
	hf_json_put(&o, "restored", hf_json_time(out->restored_unix_ns));
	hf_json_put(&o, "cause", hf_json_string(out->cause));
	hf_json_put(&o, "detected_by", hf_json_string(out->detected_by));
	hf_json_put(&o, "detail", hf_json_string(out->detail));
	hf_json_put(&o, "detect_ms", hf_json_us_as_ms(out->detect_us));
	/* Still out: how long is not known yet. */
	hf_json_put(&o, "outage_ms",
		    out->restored_unix_ns ? hf_json_us_as_ms(out->outage_us) : json_null());
	hf_json_put(&o, "attempts_total", hf_json_u64(out->attempts_total));
	hf_json_put(&o, "session_epoch", hf_json_u64_or_null(out->session_epoch));
	hf_json_put(&o, "evidence", hf_evidence_json(out->evidence));
	hf_json_put(&o, "attempts", attempts);
	hf_json_put(&o, "telemetry_gap", hf_json_string(out->telemetry_gap));
	return o;
}
