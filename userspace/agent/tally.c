/* SPDX-License-Identifier: Apache-2.0 */
/* Counting by who. */
#include "userspace/agent/tally.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#define HALVED_EVERY_NS (60 * HF_NS_PER_S)
/* So that a single event still counts for something some minutes later. */
#define HEAT_OF_ONE 64u
#define HEAT_MAX    (1u << 30)

_Static_assert((HF_TALLY_SETS & (HF_TALLY_SETS - 1)) == 0, "a set is chosen by a mask");

static const char *const by_names[] = {
	[HF_TALLY_PROCESS] = "process",
	[HF_TALLY_UNIT] = "unit",
	[HF_TALLY_PEER] = "peer",
};
_Static_assert(HF_ARRAY_SIZE(by_names) == _HF_TALLY_BY_MAX, "every table has a name");

static const char *const column_names[] = {
	[HF_TALLY_RESETS_RECEIVED] = "resets_received",
	[HF_TALLY_RESETS_SENT] = "resets_sent",
	[HF_TALLY_FAILED] = "failed",
	[HF_TALLY_DROPPED] = "dropped",
	[HF_TALLY_PACKETS] = "packets_dropped",
	[HF_TALLY_CLOSED] = "closed",
	[HF_TALLY_EXITS] = "exits",
	[HF_TALLY_BAD_EXITS] = "bad_exits",
	[HF_TALLY_OOM] = "oom_kills",
	[HF_TALLY_UNSEEN] = "unseen",
};
_Static_assert(HF_ARRAY_SIZE(column_names) == _HF_TALLY_COLUMN_MAX, "every column has a name");

const char *hf_tally_by_name(enum hf_tally_by by)
{
	return by < _HF_TALLY_BY_MAX ? by_names[by] : "unknown";
}

const char *hf_tally_column_name(enum hf_tally_column column)
{
	return column < _HF_TALLY_COLUMN_MAX ? column_names[column] : "unknown";
}

struct hf_tally *hf_tally_new(uint64_t seed)
{
	struct hf_tally *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->seed = seed;
	t->instance = (seed ^ seed >> 31) *
		      UINT64_C(0x9e3779b97f4a7c15); /* does not tell the seed's low bits */
	return t;
}

struct hf_tally *hf_tally_free(struct hf_tally *t)
{
	free(t);
	return NULL;
}

/* ---- rows ------------------------------------------------------------------------------------- */

struct key {
	char name[sizeof(((struct hf_tally_row *)NULL)->name)];
	const char *unit;
	uint64_t start_boot_ns;
	uint32_t pid;
};

/* FNV-1a over what makes the key, from a secret start. */
static uint64_t hash_key(const struct hf_tally *t, const struct key *k)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ t->seed;

	for (const char *p = k->name; *p; p++)
		h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
	h = (h ^ k->pid) * UINT64_C(0x100000001b3);
	h = (h ^ k->start_boot_ns) * UINT64_C(0x100000001b3);
	return h ^ h >> 29;
}

/* What is left of a row's heat by now. */
static uint32_t heat_at(const struct hf_tally_row *r, uint64_t now_boot_ns)
{
	uint64_t halvings;

	/* The two rings are read one after the other: events come a little out of order. */
	if (now_boot_ns <= r->last_boot_ns)
		return r->heat;
	halvings = (now_boot_ns - r->last_boot_ns) / HALVED_EVERY_NS;
	return halvings >= 32 ? 0 : r->heat >> halvings;
}

static void fold(struct hf_tally_table *table, struct hf_tally_row *r)
{
	for (unsigned i = 0; i < _HF_TALLY_COLUMN_MAX; i++)
		table->other[i] += r->counts[i];
	table->folded++;
}

static struct hf_tally_row *find_row(struct hf_tally *t, struct hf_tally_table *table,
				     const struct key *k, uint64_t now_boot_ns)
{
	uint64_t hash = hash_key(t, k);
	struct hf_tally_row *set = table->row[hash & (HF_TALLY_SETS - 1)], *quietest = NULL;

	for (unsigned i = 0; i < HF_TALLY_WAYS; i++) {
		struct hf_tally_row *r = &set[i];

		if (r->id && r->hash == hash && r->pid == k->pid &&
		    r->start_boot_ns == k->start_boot_ns && hf_streq(r->name, k->name))
			return r;
		if (quietest && !quietest->id)
			continue;
		if (!quietest || !r->id || heat_at(r, now_boot_ns) < heat_at(quietest, now_boot_ns))
			quietest = r;
	}
	if (quietest->id)
		fold(table, quietest);
	*quietest = (struct hf_tally_row){
		.id = ++t->next_id,
		.hash = hash,
		.pid = k->pid,
		.start_boot_ns = k->start_boot_ns,
		.last_boot_ns = now_boot_ns,
	};
	(void)hf_strlcpy(quietest->name, k->name, sizeof(quietest->name));
	(void)hf_strlcpy(quietest->unit, k->unit, sizeof(quietest->unit));
	return quietest;
}

static void count(struct hf_tally *t, enum hf_tally_by by, const struct key *k, uint64_t boot_ns,
		  const uint64_t add[static _HF_TALLY_COLUMN_MAX], uint64_t weight)
{
	struct hf_tally_row *r = find_row(t, &t->table[by], k, boot_ns);
	uint64_t heat = heat_at(r, boot_ns) + HEAT_OF_ONE * (weight < 1024 ? weight : 1024);

	r->heat = (uint32_t)(heat < HEAT_MAX ? heat : HEAT_MAX);
	if (boot_ns > r->last_boot_ns)
		r->last_boot_ns = boot_ns;
	for (unsigned i = 0; i < _HF_TALLY_COLUMN_MAX; i++)
		r->counts[i] += add[i];
}

/* ---- reasons ---------------------------------------------------------------------------------- */

static struct hf_tally_reason *find_reason(struct hf_tally *t, const char *kind, const char *reason)
{
	struct hf_tally_reason *r;

	for (size_t i = 0; i < t->reasons; i++) {
		r = &t->reason[i];
		if (strncmp(r->reason, reason, sizeof(r->reason) - 1) == 0 &&
		    hf_streq(r->kind, kind))
			return r;
	}
	/* The last rows are for the `other` of each kind: there are fewer kinds than that. */
	if (t->reasons >= HF_TALLY_REASONS - (hf_streq(reason, "other") ? 0 : 32))
		return NULL;
	r = &t->reason[t->reasons];
	if (!hf_strlcpy(r->kind, kind, sizeof(r->kind)))
		return NULL; /* no kind of ours */
	(void)hf_strlcpy(r->reason, reason, sizeof(r->reason));
	t->reasons++;
	return r;
}

static void count_reason(struct hf_tally *t, const Bus__Event *e, uint64_t weight)
{
	const char *reason = e->loss && *e->loss->cause ? e->loss->cause : e->reason;
	struct hf_tally_reason *r = find_reason(t, e->kind, reason);

	if (!r) {
		t->reasons_folded += weight;
		r = find_reason(t, e->kind, "other");
	}
	if (r)
		r->events += weight;
}

/* ---- events ----------------------------------------------------------------------------------- */

/* Which columns an event counts in. False: in none. */
static bool columns_of(const Bus__Event *e, uint64_t add[static _HF_TALLY_COLUMN_MAX],
		       uint64_t weight)
{
	static const struct {
		const char *kind;
		enum hf_tally_column column;
	} kinds[] = {
		{"conn.reset_received", HF_TALLY_RESETS_RECEIVED},
		{"conn.reset_sent", HF_TALLY_RESETS_SENT},
		{"conn.failed", HF_TALLY_FAILED},
		{"conn.dropped", HF_TALLY_DROPPED},
		{"conn.closed", HF_TALLY_CLOSED},
		{"skb.drop", HF_TALLY_PACKETS},
		{"proc.exit", HF_TALLY_EXITS},
		{"proc.oom", HF_TALLY_OOM},
		{"telemetry.loss", HF_TALLY_UNSEEN},
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(kinds); i++) {
		if (!hf_streq(e->kind, kinds[i].kind))
			continue;
		add[kinds[i].column] = weight;
		if (e->exit && (e->exit->code != 0 || e->exit->signal != 0))
			add[HF_TALLY_BAD_EXITS] = weight;
		return true;
	}
	return false;
}

static void key_of_process(const Bus__Event *e, struct key *k)
{
	*k = (struct key){.unit = "", .pid = e->pid, .start_boot_ns = e->start_boot_ns};
	if (!e->pid)
		return;
	k->unit = e->unit;
	(void)hf_strlcpy(k->name, e->comm, sizeof(k->name));
}

static void key_of_unit(const Bus__Event *e, struct key *k)
{
	const char *name = *e->unit ? e->unit : e->cgroup;
	size_t len = strlen(name);

	*k = (struct key){.unit = ""};
	/* Of a long path the end tells more. */
	if (!*e->unit && len >= sizeof(k->name))
		name += len - sizeof(k->name) + 1;
	(void)hf_strlcpy(k->name, name, sizeof(k->name));
}

/* The other side: its address, with the port where we called it (there it names a service). */
static void key_of_peer(const Bus__Event *e, struct key *k)
{
	char *colon;

	*k = (struct key){.unit = ""};
	(void)hf_strlcpy(k->name, e->peer, sizeof(k->name));
	colon = strrchr(k->name, ':');
	if (colon && !hf_streq(e->owner_src, "connect"))
		*colon = '\0';
}

void hf_tally_add(struct hf_tally *t, const Bus__Event *e)
{
	uint64_t add[_HF_TALLY_COLUMN_MAX] = {}, weight = 1;
	struct key k;

	if (e->loss)
		weight = e->loss->count;
	else if (e->drop && e->drop->count)
		weight = e->drop->count;
	count_reason(t, e, weight);
	if (!columns_of(e, add, weight))
		return;
	for (unsigned i = 0; i < _HF_TALLY_COLUMN_MAX; i++)
		t->totals[i] += add[i];
	key_of_process(e, &k);
	count(t, HF_TALLY_PROCESS, &k, e->boot_ns, add, weight);
	key_of_unit(e, &k);
	count(t, HF_TALLY_UNIT, &k, e->boot_ns, add, weight);
	key_of_peer(e, &k);
	count(t, HF_TALLY_PEER, &k, e->boot_ns, add, weight);
}

/* ---- the answer ------------------------------------------------------------------------------- */

static bool put_counts(const uint64_t *counts, uint64_t **ret, size_t *ret_n)
{
	*ret = malloc(_HF_TALLY_COLUMN_MAX * sizeof(**ret));
	if (!*ret)
		return false;
	memcpy(*ret, counts, _HF_TALLY_COLUMN_MAX * sizeof(**ret));
	*ret_n = _HF_TALLY_COLUMN_MAX;
	return true;
}

static Bus__TopRow *answer_row(const struct hf_tally_row *from, int64_t realtime_offset_ns)
{
	Bus__TopRow *r = malloc(sizeof(*r));

	if (!r)
		return NULL;
	bus__top_row__init(r);
	r->name = strdup(from->name);
	r->unit = strdup(from->unit);
	if (!r->name || !r->unit || !put_counts(from->counts, &r->counts, &r->n_counts)) {
		/* The initial strings are not ours to free; NULL is. */
		bus__top_row__free_unpacked(r, NULL);
		return NULL;
	}
	r->pid = from->pid;
	r->id = from->id;
	r->last_unix_ns = from->last_boot_ns + (uint64_t)realtime_offset_ns;
	return r;
}

static Bus__TopTable *answer_table(const struct hf_tally_table *from, enum hf_tally_by by,
				   int64_t realtime_offset_ns)
{
	Bus__TopTable *t = malloc(sizeof(*t));

	if (!t)
		return NULL;
	bus__top_table__init(t);
	t->by = strdup(by_names[by]);
	t->rows = calloc(HF_TALLY_ROWS, sizeof(Bus__TopRow *));
	if (!t->by || !t->rows || !put_counts(from->other, &t->other, &t->n_other))
		goto fail;
	t->folded = from->folded;
	for (unsigned i = 0; i < HF_TALLY_ROWS; i++) {
		const struct hf_tally_row *r = &from->row[i / HF_TALLY_WAYS][i % HF_TALLY_WAYS];

		if (!r->id)
			continue;
		t->rows[t->n_rows] = answer_row(r, realtime_offset_ns);
		if (!t->rows[t->n_rows])
			goto fail;
		t->n_rows++;
	}
	return t;
fail:
	bus__top_table__free_unpacked(t, NULL);
	return NULL;
}

Bus__Top *hf_tally_answer(const struct hf_tally *t, int64_t realtime_offset_ns)
{
	Bus__Top *top = malloc(sizeof(*top));

	if (!top)
		return NULL;
	bus__top__init(top);
	top->instance = t->instance;
	top->columns = calloc(_HF_TALLY_COLUMN_MAX, sizeof(char *));
	top->tables = calloc(_HF_TALLY_BY_MAX, sizeof(Bus__TopTable *));
	if (!top->columns || !top->tables || !put_counts(t->totals, &top->totals, &top->n_totals))
		goto fail;
	for (unsigned i = 0; i < _HF_TALLY_COLUMN_MAX; i++) {
		top->columns[i] = strdup(column_names[i]);
		if (!top->columns[i])
			goto fail;
		top->n_columns++;
	}
	for (unsigned i = 0; i < _HF_TALLY_BY_MAX; i++) {
		top->tables[i] =
			answer_table(&t->table[i], (enum hf_tally_by)i, realtime_offset_ns);
		if (!top->tables[i])
			goto fail;
		top->n_tables++;
	}
	return top;
fail:
	bus__top__free_unpacked(top, NULL);
	return NULL;
}
