/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent tells of its state: the health tree, its effective configuration, what became of
 * connection settings. OpAMP compresses by leaving out what did not change: what is absent stays.
 *
 * I1 A configuration is masked before it is stored, and never kept in memory.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "base/str.h"
#include "tools/portal/fleet.h"
#include "tools/portal/link.h"
#include "tools/portal/mask.h"
#include "tools/portal/portal.h"
#include "tools/portal/writer.h"
#include "userspace/proto/frame.h"

#define HEALTH_DEPTH_MAX 4u           /* agent, pipeline, component, one more */
#define CONFIG_FILES_MAX 16u          /* a collector with includes; ours has one */
#define CONFIG_BYTES_MAX (256u << 10) /* of one file; a message is 1 MiB at most */

/* ---- health --------------------------------------------------------------------------------- */

static void add_health(struct hf_health_node *nodes, unsigned *n, const char *name, int parent,
		       unsigned depth, const Opamp__ComponentHealth *h)
{
	struct hf_health_node *to;
	int self = (int)*n;

	if (*n >= HF_HEALTH_MAX || depth > HEALTH_DEPTH_MAX)
		return;
	to = &nodes[(*n)++];
	*to = (struct hf_health_node){
		.parent = parent, .healthy = h->healthy, .start_ns = h->start_time_unix_nano};
	(void)hf_link_take(to->name, sizeof(to->name), name);
	(void)hf_link_take(to->status, sizeof(to->status), h->status);
	(void)hf_link_take(to->error, sizeof(to->error), h->last_error);
	for (size_t i = 0; i < h->n_component_health_map; i++) {
		const Opamp__ComponentHealthEntry *e = h->component_health_map[i];

		if (e->value && e->key[0])
			add_health(nodes, n, e->key, self, depth + 1, e->value);
	}
}

static bool take_health(struct hf_endpoint *ep, const Opamp__ComponentHealth *h)
{
	struct hf_health_node nodes[HF_HEALTH_MAX] = {};
	unsigned n = 0;

	add_health(nodes, &n, "", -1, 0, h);
	if (!ep->health)
		ep->health = calloc(HF_HEALTH_MAX, sizeof(*ep->health));
	if (!ep->health)
		return false;
	if (n == ep->n_health && memcmp(nodes, ep->health, n * sizeof(*nodes)) == 0)
		return false;
	memcpy(ep->health, nodes, n * sizeof(*nodes));
	ep->n_health = n;
	return true;
}

/* ---- effective configuration ---------------------------------------------------------------- */

struct config_job {
	uint8_t endpoint[HF_ID_SIZE];
	struct hf_config_row rows[CONFIG_FILES_MAX];
	struct hf_buf bodies[CONFIG_FILES_MAX];
	size_t n, bytes;
};

static void config_job_free(struct config_job *j)
{
	for (size_t i = 0; i < j->n; i++)
		hf_buf_done(&j->bodies[i]);
	free(j);
}

static int run_config(struct hf_store *s, void *arg)
{
	const struct config_job *j = arg;

	return hf_store_config_set(s, j->endpoint, j->rows, j->n);
}

static void done_config(int r, void *arg)
{
	(void)r; /* counted by the writer; the next change or full report tells it again */
	config_job_free(arg);
}

static int add_file(struct config_job *j, const Opamp__AgentConfigEntry *e, uint64_t now_ns)
{
	const Opamp__AgentConfigFile *f = e->value;
	struct hf_config_row *row = &j->rows[j->n];
	struct hf_buf *body = &j->bodies[j->n];
	const char *text = (const char *)f->body.data;
	size_t len = f->body.len < CONFIG_BYTES_MAX ? f->body.len : CONFIG_BYTES_MAX;
	unsigned masked = 0;
	int r;

	*row = (struct hf_config_row){.changed_ns = now_ns};
	(void)hf_link_take(row->name, sizeof(row->name), e->key);
	(void)hf_link_take(row->type, sizeof(row->type), f->content_type);
	j->n++;
	/* A cut may have split a character; what is no text at all is not shown. */
	for (unsigned i = 0; i < 4 && len > 0 && !hf_utf8_valid(text, len); i++)
		len--;
	r = len > 0 && hf_utf8_valid(text, len) ? hf_mask_config(text, len, body, &masked) : 0;
	if (r < 0)
		return r;
	row->masked = masked;
	row->body = body->data ? (const char *)body->data : "";
	row->len = body->len;
	j->bytes += body->len;
	return 0;
}

static void hash_config(const struct config_job *j, uint8_t hash[static HF_HASH_SIZE])
{
	_cleanup_(hf_buf_done) struct hf_buf all = {};
	int r = 0;

	for (size_t i = 0; i < j->n && r == 0; i++) {
		r = hf_buf_append(&all, j->rows[i].name, strlen(j->rows[i].name) + 1);
		if (r == 0)
			r = hf_buf_append(&all, j->rows[i].body, j->rows[i].len);
	}
	if (r == 0)
		hf_hash_sha256(all.data, all.len, hash);
	else
		memset(hash, 0, HF_HASH_SIZE); /* taken for a change: one write more */
}

static void take_config(struct hf_portal *p, struct hf_endpoint *ep,
			const Opamp__AgentConfigMap *map)
{
	struct config_job *j = calloc(1, sizeof(*j));
	uint64_t now_ns = hf_now_realtime_ns();
	uint8_t hash[HF_HASH_SIZE];
	int r = 0;

	if (!j)
		return;
	memcpy(j->endpoint, ep->row.id, HF_ID_SIZE);
	for (size_t i = 0; i < map->n_config_map && j->n < CONFIG_FILES_MAX && r == 0; i++) {
		if (map->config_map[i]->value)
			r = add_file(j, map->config_map[i], now_ns);
	}
	hash_config(j, hash);
	if (r < 0 || (ep->config_known && memcmp(hash, ep->config_hash, HF_HASH_SIZE) == 0) ||
	    hf_writer_submit(p->writer, run_config, done_config, j, sizeof(*j) + j->bytes) < 0) {
		config_job_free(j);
		return;
	}
	memcpy(ep->config_hash, hash, HF_HASH_SIZE);
	ep->config_known = true;
}

bool hf_link_report(struct hf_link *l, const Opamp__AgentToServer *m)
{
	struct hf_endpoint *ep = l->ep;
	bool changed = false;

	if (!ep)
		return false;
	if (m->health)
		changed |= take_health(ep, m->health);
	if (m->effective_config && m->effective_config->config_map)
		take_config(l->portal, ep, m->effective_config->config_map);
	if (m->connection_settings_status)
		changed |= hf_offer_answered(l->portal, ep, m->connection_settings_status);
	return changed;
}
