/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signed actions, key chains and proofs of time as an agent might bring them, and the journal's
 * files as a disk might return them. The first byte chooses.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "userspace/proto/action_journal.h"
#include "watchdog/action_verify.h"

#define HOST "01900000-0000-7000-8000-00000000aaaa"
#define ID   "01900000-0000-7000-8000-000000000001"
#define NOW  UINT64_C(1800000000000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_action(const uint8_t *data, size_t size)
{
	const struct hf_action_trust t = {.pinned = true, .endpoint_id = HOST};
	static const char *const names[] = {"component", NULL};
	Action__Body *b = NULL;

	/* Nobody has signed for this key: whatever comes, it is refused. */
	hf_assert(hf_action_verify(&t, NOW, data, size, &b) != HF_ACTION_REFUSED_NONE);
	if (!b)
		return;
	(void)hf_action_param(b, "component");
	(void)hf_action_params_only(b, names);
	action__body__free_unpacked(b, NULL);
}

static void one_chain(const uint8_t *data, size_t size, bool pinned)
{
	struct hf_action_trust t = {.pinned = pinned, .endpoint_id = HOST}, before = t;
	struct hf_err err = {};

	if (hf_action_trust_take(&t, data, size, &err) < 1)
		hf_assert(memcmp(&t, &before, sizeof(t)) == 0);
	else
		hf_assert(!pinned && t.n_old < HF_ACTION_KEYS_MAX);
}

static void one_record(const uint8_t *data, size_t size)
{
	Action__Record *r = NULL;
	struct hf_buf again = {};

	if (hf_action_record_parse(ID, data, size, &r) < 0)
		return;
	(void)hf_action_record_old(r, NOW);
	hf_assert(hf_action_record_build(r, &again) == 0);
	hf_buf_done(&again);
	action__record__free_unpacked(r, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_action_trust t = {.pinned = true, .endpoint_id = HOST};
	struct hf_action_time time = {.asked_boot_ns = 1};

	if (size == 0)
		return 0;
	switch (data[0] % 5) {
	case 0:
		one_action(data + 1, size - 1);
		break;
	case 1:
		one_chain(data + 1, size - 1, false);
		break;
	case 2:
		one_chain(data + 1, size - 1, true);
		break;
	case 3:
		hf_assert(hf_action_time_take(&time, &t, data + 1, size - 1, 2) < 0);
		break;
	case 4:
		one_record(data + 1, size - 1);
		break;
	}
	return 0;
}
