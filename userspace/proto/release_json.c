/* SPDX-License-Identifier: Apache-2.0 */
/* Releases as JSON. */
#include "userspace/proto/release_json.h"

#include "base/clock.h"
#include "userspace/proto/event_json.h"

static json_t *version_json(const Bus__ReleaseVersion *v)
{
	json_t *o;

	if (!v)
		return json_null();
	o = json_object();
	hf_json_put(&o, "version", hf_json_string(v->version));
	hf_json_put(&o, "hash", hf_json_string(v->hash));
	hf_json_put(&o, "security_epoch", hf_json_u64(v->security_epoch));
	return o;
}

static json_t *rollback_json(const Bus__ReleaseRollback *b)
{
	json_t *o;

	if (!b)
		return json_null();
	o = json_object();
	hf_json_put(&o, "at", hf_json_time(b->at_unix_ns));
	hf_json_put(&o, "from", hf_json_string(b->from));
	hf_json_put(&o, "to", hf_json_string(b->to));
	hf_json_put(&o, "reason", hf_json_string(b->reason));
	hf_json_put(&o, "text", hf_json_string(b->text));
	return o;
}

json_t *hf_release_json(const Bus__Release *r)
{
	json_t *o = json_object(), *bad = json_array();

	hf_json_put(&o, "component", hf_json_string(r->component));
	hf_json_put(&o, "phase", hf_json_string(r->phase));
	hf_json_put(&o, "active", version_json(r->active));
	hf_json_put(&o, "previous", version_json(r->previous));
	hf_json_put(&o, "candidate", version_json(r->candidate));
	hf_json_put(&o, "tries_left", hf_json_u64(r->tries_left));
	hf_json_put(&o, "healthy_s", hf_json_ms_as_s(r->healthy_ms));
	hf_json_put(&o, "probation_s", hf_json_ms_as_s(r->probation_ms));
	hf_json_put(&o, "security_epoch", hf_json_u64(r->security_epoch));
	hf_json_put(&o, "changed", hf_json_time(r->changed_unix_s * HF_NS_PER_S));
	hf_json_put(&o, "runs", hf_json_string(r->runs));
	hf_json_put(&o, "packaged", json_boolean(r->packaged));
	hf_json_put(&o, "last_rollback", rollback_json(r->last_rollback));
	for (size_t i = 0; i < r->n_bad; i++)
		hf_json_append(&bad, hf_json_string(r->bad[i]));
	hf_json_put(&o, "bad", bad);
	hf_json_put(&o, "error", hf_json_string(r->error));
	return o;
}

static json_t *keys_json(const Bus__ReleaseKeys *k)
{
	json_t *o;

	if (!k)
		return json_null();
	o = json_object();
	hf_json_put(&o, "state", hf_json_string(k->state));
	hf_json_put(&o, "version", hf_json_u64_or_null(k->version));
	hf_json_put(&o, "created", hf_json_time(k->created_unix_s * HF_NS_PER_S));
	hf_json_put(&o, "expires", hf_json_time(k->expires_unix_s * HF_NS_PER_S));
	hf_json_put(&o, "keys", hf_json_u64(k->keys));
	hf_json_put(&o, "text", hf_json_string(k->text));
	return o;
}

static json_t *job_json(const Bus__ReleaseJob *j)
{
	json_t *o;

	if (!j)
		return json_null();
	o = json_object();
	hf_json_put(&o, "id", hf_json_u64(j->id));
	hf_json_put(&o, "state", hf_json_string(j->state));
	hf_json_put(&o, "percent", hf_json_u64(j->percent));
	hf_json_put(&o, "component", hf_json_string(j->component));
	hf_json_put(&o, "version", hf_json_string(j->version));
	hf_json_put(&o, "reason", hf_json_string(j->reason));
	hf_json_put(&o, "text", hf_json_string(j->text));
	return o;
}

json_t *hf_releases_json(const Bus__Releases *m)
{
	json_t *o = json_object(), *items = json_array();

	for (size_t i = 0; i < m->n_items; i++)
		hf_json_append(&items, hf_release_json(m->items[i]));
	hf_json_put(&o, "items", items);
	hf_json_put(&o, "keys", keys_json(m->keys));
	hf_json_put(&o, "job", job_json(m->job));
	return o;
}
