/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telemetry from a stranger: deflated (first byte odd) or plain OTLP. Events that come out survive
 * another round unchanged, and become JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "userspace/proto/batch.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/otlp_codec.h"

static void again(Bus__Events *events)
{
	static const struct hf_otlp_resource resource = {.hostname = "h"};
	_cleanup_pb_ Bus__Events *back = NULL;
	struct hf_buf otlp = {}, one = {}, two = {};
	int n;

	n = hf_otlp_encode((const Bus__Event *const *)events->items, events->n_items, &resource,
			   64 << 20, &otlp);
	hf_assert(n == (int)events->n_items);
	hf_assert(hf_otlp_decode(otlp.data, otlp.len, &back) == 0);
	hf_assert(hf_pb_pack(&events->base, &one) == 0 && hf_pb_pack(&back->base, &two) == 0);
	hf_assert(one.len == two.len && (one.len == 0 || memcmp(one.data, two.data, one.len) == 0));
	hf_buf_done(&otlp);
	hf_buf_done(&one);
	hf_buf_done(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_pb_ Bus__Events *events = NULL;
	char boot[40] = "";
	int r;

	if (size == 0)
		return 0;
	if (data[0] & 1)
		r = hf_otlp_decode_deflated(data + 1, size - 1, HF_BATCH_INFLATED_MAX, &events,
					    boot, sizeof(boot));
	else
		r = hf_otlp_decode(data + 1, size - 1, &events);
	if (r < 0)
		return 0;
	hf_assert(memchr(boot, 0, sizeof(boot)));
	for (size_t i = 0; i < events->n_items; i++) {
		json_t *v = hf_event_json(events->items[i]);

		hf_assert(v);
		json_decref(v);
	}
	again(events);
	return 0;
}
