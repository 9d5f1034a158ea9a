/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a taken-over component may send on supervise.sock: packets, each with a length byte pair
 * before it, through the gate, the permit table and the judgement of progress, as server.c does.
 * Beyond not crashing: what passed the gate has its exact size and terminated texts, and nothing
 * is permitted before HELLO.
 */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "holdfast/supervise.h"
#include "watchdog/hang.h"
#include "watchdog/permit.h"

static void one(struct hf_permit *permit, struct hf_hang *hang, const uint8_t *data, size_t len,
		uint64_t now_ns)
{
	_Alignas(uint64_t) unsigned char packet[HF_SUP_PACKET_MAX];
	const struct hf_sup_hdr *hdr = (const void *)packet;
	enum hf_conn_state before = permit->state;

	if (hf_sup_check(data, len) < 0)
		return;
	hf_assert(len <= sizeof(packet));
	memcpy(packet, data, len);
	hf_assert(len == hf_sup_size(hdr->type) && hdr->length == len);
	if (hf_permit_check(permit, (enum hf_sup_type)hdr->type) < 0) {
		hf_assert(permit->state == before);
		return;
	}
	hf_assert(before != HF_CONN_NEW || hdr->type == HF_SUP_HELLO);
	if (hdr->type == HF_SUP_HELLO)
		hf_assert(strlen(((const struct hf_sup_hello *)hdr)->component) < HF_SUP_NAME_MAX);
	if (hdr->type == HF_SUP_STATUS)
		hf_assert(strlen(((const struct hf_sup_text *)hdr)->text) < HF_SUP_TEXT_MAX);
	if (hdr->type == HF_SUP_PROGRESS &&
	    hf_hang_progress(hang, (const struct hf_sup_progress *)hdr, now_ns) == 0)
		hf_assert(hang->workers <= HF_SUP_WORKERS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct hf_hang_policy policy = HF_HANG_POLICY_DEFAULT;
	struct hf_permit permit = {};
	struct hf_hang hang;
	uint64_t now_ns = 1;

	hf_hang_begin(&hang, now_ns);
	while (size >= 2) {
		size_t len = (size_t)data[0] << 8 | data[1];

		data += 2;
		size -= 2;
		if (len > size)
			len = size;
		one(&permit, &hang, data, len, now_ns);
		(void)hf_hang_check(&hang, &policy, NULL, now_ns);
		data += len;
		size -= len;
		now_ns += HF_NS_PER_S;
	}
	return 0;
}
