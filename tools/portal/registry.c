/* SPDX-License-Identifier: Apache-2.0 */
/* Hash table by id, array sorted by name, and the rules of who speaks for an endpoint. */
#include "tools/portal/registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/str.h"

struct hf_registry {
	struct hf_endpoint **buckets;
	size_t n_buckets; /* a power of two */
	struct hf_endpoint **sorted;
	size_t n, cap;
};

int hf_registry_new(struct hf_registry **ret)
{
	_cleanup_(hf_registry_freep) struct hf_registry *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->n_buckets = 256;
	g->buckets = calloc(g->n_buckets, sizeof(*g->buckets));
	if (!g->buckets)
		return -ENOMEM;
	*ret = TAKE_PTR(g);
	return 0;
}

static void endpoint_free(struct hf_endpoint *ep)
{
	free(ep->components);
	free(ep->clone);
	free(ep->health);
	free(ep->offer);
	free(ep);
}

struct hf_registry *hf_registry_free(struct hf_registry *g)
{
	if (!g)
		return NULL;
	for (size_t i = 0; i < g->n; i++)
		endpoint_free(g->sorted[i]);
	free(g->sorted);
	free(g->buckets);
	free(g);
	return NULL;
}

/* Ids are ours (random tail of a version 7 UUID), nobody can aim at a bucket. */
static size_t bucket_of(const struct hf_registry *g, const uint8_t *id)
{
	uint64_t tail;

	memcpy(&tail, id + 8, sizeof(tail));
	return (size_t)((tail * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (g->n_buckets - 1);
}

static void grow_buckets(struct hf_registry *g)
{
	size_t old_n = g->n_buckets;
	struct hf_endpoint **old = g->buckets, **grown;

	hf_assert(old_n > 0);
	grown = calloc(old_n * 2, sizeof(*grown));
	if (!grown)
		return; /* longer chains work too */
	g->buckets = grown;
	g->n_buckets = old_n * 2;
	for (size_t i = 0; i < old_n; i++) {
		while (old[i]) {
			struct hf_endpoint *ep = old[i];
			size_t b = bucket_of(g, ep->row.id);

			old[i] = ep->hash_next;
			ep->hash_next = g->buckets[b];
			g->buckets[b] = ep;
		}
	}
	free(old);
}

static int compare(const char *name, const uint8_t *id, const struct hf_endpoint *ep)
{
	int c = strcasecmp(name, ep->row.name);

	return c ? c : memcmp(id, ep->row.id, HF_ID_SIZE);
}

/* Index of the first element that is greater than (name, id). */
static size_t upper_bound(const struct hf_registry *g, const char *name, const uint8_t *id)
{
	size_t lo = 0, hi = g->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (compare(name, id, g->sorted[mid]) < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static void sorted_insert(struct hf_registry *g, struct hf_endpoint *ep)
{
	size_t i = upper_bound(g, ep->row.name, ep->row.id);

	memmove(&g->sorted[i + 1], &g->sorted[i], (g->n - i) * sizeof(*g->sorted));
	g->sorted[i] = ep;
	g->n++;
}

static void sorted_remove(struct hf_registry *g, struct hf_endpoint *ep)
{
	size_t i = upper_bound(g, ep->row.name, ep->row.id);

	hf_assert(i > 0 && g->sorted[i - 1] == ep);
	memmove(&g->sorted[i - 1], &g->sorted[i], (g->n - i) * sizeof(*g->sorted));
	g->n--;
}

int hf_registry_add(struct hf_registry *g, const struct hf_endpoint_row *row,
		    struct hf_endpoint **ret)
{
	struct hf_endpoint *ep;
	size_t b;

	if (hf_registry_find(g, row->id))
		return -EEXIST;
	if (g->n == g->cap) {
		size_t cap = g->cap ? g->cap * 2 : 64;
		struct hf_endpoint **grown = realloc(g->sorted, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		g->sorted = grown;
		g->cap = cap;
	}
	ep = calloc(1, sizeof(*ep));
	if (!ep)
		return -ENOMEM;
	ep->row = *row;
	ep->epoch = row->epoch;
	ep->seen_saved_ns = row->last_seen_ns;
	memcpy(ep->holder.machine_id_hash, row->machine_id_hash, HF_HASH_SIZE);
	memcpy(ep->holder.boot_id, row->boot_id, HF_ID_SIZE);
	ep->presence.authorization = row->authorization;
	ep->presence.ever_connected = row->last_seen_ns != 0;
	if (g->n >= g->n_buckets)
		grow_buckets(g);
	b = bucket_of(g, row->id);
	ep->hash_next = g->buckets[b];
	g->buckets[b] = ep;
	sorted_insert(g, ep);
	*ret = ep;
	return 0;
}

void hf_registry_remove(struct hf_registry *g, struct hf_endpoint *ep)
{
	struct hf_endpoint **p = &g->buckets[bucket_of(g, ep->row.id)];

	hf_assert(!ep->link && !ep->due && !ep->contender);
	while (*p != ep)
		p = &(*p)->hash_next;
	*p = ep->hash_next;
	sorted_remove(g, ep);
	endpoint_free(ep);
}

struct hf_endpoint *hf_registry_find(struct hf_registry *g, const uint8_t id[static HF_ID_SIZE])
{
	struct hf_endpoint *ep = g->buckets[bucket_of(g, id)];

	while (ep && memcmp(ep->row.id, id, HF_ID_SIZE) != 0)
		ep = ep->hash_next;
	return ep;
}

size_t hf_registry_count(const struct hf_registry *g)
{
	return g->n;
}

struct hf_endpoint *hf_registry_at(struct hf_registry *g, size_t i)
{
	hf_assert(i < g->n);
	return g->sorted[i];
}

size_t hf_registry_after(struct hf_registry *g, const char *name,
			 const uint8_t id[static HF_ID_SIZE])
{
	return upper_bound(g, name, id);
}

int hf_registry_rename(struct hf_registry *g, struct hf_endpoint *ep, const char *name)
{
	sorted_remove(g, ep);
	(void)hf_strlcpy(ep->row.name, name, sizeof(ep->row.name));
	sorted_insert(g, ep);
	return 0;
}

/* The link in place is alive: its peer gave a proof within the window. */
static bool link_lives(const struct hf_endpoint *ep, const struct hf_presence_policy *policy,
		       uint64_t now_ns)
{
	return ep->link &&
	       now_ns <= ep->presence.last_proof_ns + hf_presence_proof_window_ns(policy);
}

struct hf_endpoint *hf_registry_uid_taken(struct hf_registry *g,
					  const uint8_t uid[static HF_ID_SIZE],
					  const struct hf_endpoint *but)
{
	for (size_t i = 0; i < g->n; i++) {
		struct hf_endpoint *ep = g->sorted[i];

		if (ep != but && ep->link && memcmp(ep->row.instance_uid, uid, HF_ID_SIZE) == 0)
			return ep;
	}
	return NULL;
}

struct hf_endpoint *hf_registry_token_live(struct hf_registry *g, const char *token_id,
					   const uint8_t uid[static HF_ID_SIZE],
					   const struct hf_presence_policy *policy, uint64_t now_ns)
{
	for (size_t i = 0; i < g->n; i++) {
		struct hf_endpoint *ep = g->sorted[i];

		if (hf_streq(ep->row.token_id, token_id) &&
		    memcmp(ep->row.instance_uid, uid, HF_ID_SIZE) == 0 &&
		    link_lives(ep, policy, now_ns))
			return ep;
	}
	return NULL;
}

static enum hf_clone_verdict judge_claim(const struct hf_endpoint *ep,
					 const struct hf_link_claim *claim, bool lives)
{
	struct hf_origin suspect;

	if (!ep->clone)
		return hf_clone_judge(&ep->holder, lives, NULL, &claim->origin);
	memcpy(suspect.machine_id_hash, ep->clone->machine_id_hash, HF_HASH_SIZE);
	memcpy(suspect.boot_id, ep->clone->boot_id, HF_ID_SIZE);
	memcpy(suspect.run_id, ep->clone->run_id, HF_ID_SIZE);
	return hf_clone_judge(&ep->holder, lives, &suspect, &claim->origin);
}

/* What was told replaces what was known; the rest of the row stays for the next restart. */
static void take_origin(struct hf_endpoint *ep, const struct hf_origin *o)
{
	static const struct hf_origin none;

	if (memcmp(o->machine_id_hash, none.machine_id_hash, HF_HASH_SIZE) != 0)
		memcpy(ep->row.machine_id_hash, o->machine_id_hash, HF_HASH_SIZE);
	if (memcmp(o->boot_id, none.boot_id, HF_ID_SIZE) != 0)
		memcpy(ep->row.boot_id, o->boot_id, HF_ID_SIZE);
	memcpy(ep->holder.machine_id_hash, ep->row.machine_id_hash, HF_HASH_SIZE);
	memcpy(ep->holder.boot_id, ep->row.boot_id, HF_ID_SIZE);
	memcpy(ep->holder.run_id, o->run_id, HF_ID_SIZE);
}

enum hf_link_result hf_registry_link(struct hf_endpoint *ep, const struct hf_link_claim *claim,
				     const struct hf_presence_policy *policy, uint64_t now_ns,
				     struct hf_link **ret_old)
{
	bool lives = ep->link != claim->link && link_lives(ep, policy, now_ns);

	*ret_old = NULL;
	switch (judge_claim(ep, claim, lives)) {
	case HF_CLONE_YES:
		return HF_LINK_CLONE;
	case HF_CLONE_CONTEST:
		if (!claim->uncontested)
			return HF_LINK_CONTESTED;
		break;
	case HF_CLONE_NO:
		/* A plain agent says nothing of itself: a second one is known by the first's life. */
		if (lives && claim->epoch == 0 && !claim->uncontested)
			return HF_LINK_CONTESTED;
		/*
		 * A late arrival of the same process. After a restore from a backup the counter may
		 * be lower too, but then another process tells it.
		 */
		if (lives && claim->epoch && claim->epoch <= ep->epoch && !claim->uncontested)
			return HF_LINK_STALE;
		break;
	}
	if (ep->link != claim->link)
		*ret_old = ep->link;
	ep->link = claim->link;
	ep->epoch = claim->epoch ? claim->epoch : ep->epoch + 1;
	ep->row.epoch = ep->epoch;
	take_origin(ep, &claim->origin);
	ep->presence.linked = true;
	ep->presence.ever_connected = true;
	ep->presence.last_proof_ns = now_ns;
	ep->presence.last_update_ns = now_ns;
	ep->presence.offline_ns = 0;
	ep->presence.lost[0] = '\0';
	ep->presence.goodbye[0] = '\0';
	return HF_LINK_OK;
}

bool hf_registry_unlink(struct hf_endpoint *ep, struct hf_link *link, const char *reason,
			bool witnessed, uint64_t now_ns)
{
	if (ep->link != link)
		return false;
	ep->link = NULL;
	ep->presence.linked = false;
	if (witnessed)
		ep->presence.last_update_ns = now_ns;
	(void)hf_strlcpy(ep->presence.lost, reason, sizeof(ep->presence.lost));
	return true;
}

bool hf_registry_goodbye(struct hf_endpoint *ep, struct hf_link *link, const char *cause,
			 uint64_t now_ns)
{
	if (!hf_registry_unlink(ep, link, cause, true, now_ns))
		return false;
	(void)hf_strlcpy(ep->presence.goodbye, cause, sizeof(ep->presence.goodbye));
	return true;
}

void hf_registry_proof(struct hf_endpoint *ep, struct hf_link *link, uint64_t now_ns,
		       uint64_t unix_ns)
{
	if (ep->link != link)
		return;
	ep->presence.last_proof_ns = now_ns;
	ep->presence.last_update_ns = now_ns;
	ep->row.last_seen_ns = unix_ns;
}
