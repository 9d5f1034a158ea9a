/* SPDX-License-Identifier: Apache-2.0 */
/* Releases, as the bus's messages have them. */
#include "watchdog/bus_release.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

static Bus__ReleaseVersion *fill_version(const struct hf_release_slot *slot, Bus__ReleaseVersion *m,
					 char hash[static 2 * HF_SHA256_SIZE + 1])
{
	if (!slot->version[0])
		return NULL;
	bus__release_version__init(m);
	hf_hex_encode(hash, slot->hash, HF_SHA256_SIZE);
	m->version = (char *)slot->version;
	m->hash = hash;
	m->security_epoch = slot->security_epoch;
	return m;
}

static void fill_rollback(const struct hf_release_rollback *b, Bus__ReleaseRollback *m)
{
	bus__release_rollback__init(m);
	m->at_unix_ns = b->at_realtime_ns;
	m->from = (char *)b->from;
	m->to = (char *)b->to;
	m->reason = (char *)b->reason;
	m->text = (char *)b->text;
}

static void fill_one(const struct hf_releases *all, size_t i, struct hf_bus_releases *ret)
{
	static const uint8_t none[HF_RELEASE_BAD_SIZE];
	Bus__Release *m = &ret->item[i];
	struct hf_release_view v;

	hf_releases_view(all, i, &v);
	bus__release__init(m);
	ret->items[i] = m;
	m->component = (char *)v.component;
	m->error = (char *)v.error;
	m->runs = (char *)v.runs;
	m->packaged = v.packaged;
	m->healthy_ms = v.healthy_ms;
	m->probation_ms = v.probation_ms;
	if (v.rollback->at_realtime_ns) {
		fill_rollback(v.rollback, &ret->of[i].rollback);
		m->last_rollback = &ret->of[i].rollback;
	}
	if (!v.record)
		return;
	m->phase = (char *)hf_release_phase_name(v.record->phase);
	m->active = fill_version(&v.record->active, &ret->of[i].version[0], ret->of[i].hash[0]);
	m->previous = fill_version(&v.record->previous, &ret->of[i].version[1], ret->of[i].hash[1]);
	m->candidate =
		fill_version(&v.record->candidate, &ret->of[i].version[2], ret->of[i].hash[2]);
	m->tries_left = v.record->tries_left;
	m->security_epoch = v.record->security_epoch;
	m->changed_unix_s = v.record->changed_s;
	m->bad = ret->of[i].bads;
	for (size_t k = 0; k < HF_RELEASE_BAD_MAX; k++) {
		if (memcmp(v.record->bad[k], none, sizeof(none)) == 0)
			continue;
		hf_hex_encode(ret->of[i].bad[m->n_bad], v.record->bad[k], HF_RELEASE_BAD_SIZE);
		ret->of[i].bads[m->n_bad] = ret->of[i].bad[m->n_bad];
		m->n_bad++;
	}
}

void hf_bus_fill_releases(const struct hf_releases *all, struct hf_bus_releases *ret)
{
	struct hf_release_job_view job;

	bus__releases__init(&ret->m);
	for (size_t i = 0; i < hf_releases_count(all); i++)
		fill_one(all, i, ret);
	ret->m.n_items = hf_releases_count(all);
	ret->m.items = ret->items;

	hf_releases_job_view(all, &job);
	if (!job.id)
		return;
	bus__release_job__init(&ret->job);
	ret->job.id = job.id;
	ret->job.state = (char *)hf_release_job_state_name(job.state);
	ret->job.percent = job.percent;
	ret->job.component = (char *)job.component;
	ret->job.version = (char *)job.version;
	ret->job.reason = (char *)job.reason;
	ret->job.text = (char *)job.text;
	ret->m.job = &ret->job;
}

void hf_bus_fill_release_keys(const struct hf_releases *all, struct hf_bus_releases *ret)
{
	hf_releases_keys_view(all, &ret->keys_view);
	bus__release_keys__init(&ret->keys);
	ret->keys.state = (char *)ret->keys_view.state;
	ret->keys.version = ret->keys_view.version;
	ret->keys.created_unix_s = ret->keys_view.created_s;
	ret->keys.expires_unix_s = ret->keys_view.expires_s;
	ret->keys.keys = (uint32_t)ret->keys_view.keys;
	ret->keys.text = ret->keys_view.text;
	ret->m.keys = &ret->keys;
}

int hf_bus_release_request(struct hf_releases *all, const Bus__ReleaseRequest *q, char *text,
			   size_t size)
{
	struct hf_err err = {};
	int r = -EOPNOTSUPP;

	switch (q->verb) {
	case BUS__RELEASE_REQUEST__VERB__LIST:
		return 0;
	case BUS__RELEASE_REQUEST__VERB__STAGE:
		r = hf_releases_stage(all, q->path, true, &err);
		break;
	case BUS__RELEASE_REQUEST__VERB__ROLLBACK:
		r = hf_releases_roll_back(all, q->component, "asked on this host", &err);
		break;
	case BUS__RELEASE_REQUEST__VERB__KEYS:
		r = hf_releases_take_keys(all, q->path, &err);
		break;
	case _BUS__RELEASE_REQUEST__VERB_IS_INT_SIZE:
	default: /* a newer client's verb: protobuf enums are open */
		(void)hf_err_set(&err, r, "this watchdog does not know that release request");
	}
	(void)hf_strlcpy(text, err.msg, size);
	return r < 0 ? -r : 0;
}
