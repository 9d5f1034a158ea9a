/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of packed events. */
#include "userspace/agent/recent.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "userspace/proto/frame.h"

#define DEFAULT_LIMIT 1000u

struct item {
	uint8_t *data;
	size_t len;
};

struct hf_recent {
	struct item items[HF_RECENT_MAX];
	size_t first, n, bytes;
};

struct hf_recent *hf_recent_new(void)
{
	return calloc(1, sizeof(struct hf_recent));
}

static void drop_first(struct hf_recent *r)
{
	struct item *i = &r->items[r->first];

	r->bytes -= i->len;
	free(i->data);
	*i = (struct item){};
	r->first = (r->first + 1) % HF_RECENT_MAX;
	r->n--;
}

struct hf_recent *hf_recent_free(struct hf_recent *r)
{
	while (r && r->n > 0)
		drop_first(r);
	free(r);
	return NULL;
}

void hf_recent_add(struct hf_recent *r, const void *packed, size_t len)
{
	struct item *i;
	uint8_t *copy;

	if (len == 0 || len > HF_RECENT_BYTES_MAX)
		return;
	copy = malloc(len);
	if (!copy)
		return;
	memcpy(copy, packed, len);
	while (r->n > 0 && (r->n == HF_RECENT_MAX || r->bytes + len > HF_RECENT_BYTES_MAX))
		drop_first(r);
	i = &r->items[(r->first + r->n) % HF_RECENT_MAX];
	*i = (struct item){.data = copy, .len = len};
	r->n++;
	r->bytes += len;
}

size_t hf_recent_count(const struct hf_recent *r)
{
	return r->n;
}

bool hf_recent_matches(const Bus__Event *e, const Bus__EventsRequest *q)
{
	bool kind = q->n_kinds == 0;

	if (e->time_unix_ns < q->since_unix_ns)
		return false;
	if (q->pid && e->pid != q->pid)
		return false;
	if (q->unit[0] && !hf_streq(e->unit, q->unit))
		return false;
	for (size_t i = 0; i < q->n_kinds && !kind; i++)
		kind = hf_streq(e->kind, q->kinds[i]);
	return kind;
}

Bus__Events *hf_recent_query(const struct hf_recent *r, const Bus__EventsRequest *q,
			     size_t max_bytes)
{
	size_t limit = q->limit && q->limit < HF_RECENT_MAX ? q->limit
		       : q->limit                           ? HF_RECENT_MAX
							    : DEFAULT_LIMIT;
	Bus__Events *ret = calloc(1, sizeof(*ret));
	size_t bytes = 0;

	if (!ret)
		return NULL;
	bus__events__init(ret);
	ret->items = calloc(limit, sizeof(ret->items[0]));
	if (!ret->items) {
		free(ret);
		return NULL;
	}
	/* From the newest backwards, so that the limit keeps the newest; turned round below. */
	for (size_t i = r->n; i > 0 && ret->n_items < limit; i--) {
		const struct item *it = &r->items[(r->first + i - 1) % HF_RECENT_MAX];
		Bus__Event *e;

		if (bytes + it->len > max_bytes)
			break;
		e = bus__event__unpack(NULL, it->len, it->data);
		if (!e)
			continue;
		if (!hf_recent_matches(e, q)) {
			bus__event__free_unpacked(e, NULL);
			continue;
		}
		bytes += it->len;
		ret->items[ret->n_items++] = e;
	}
	for (size_t i = 0; i < ret->n_items / 2; i++) {
		Bus__Event *e = ret->items[i];

		ret->items[i] = ret->items[ret->n_items - 1 - i];
		ret->items[ret->n_items - 1 - i] = e;
	}
	return ret;
}
