/* SPDX-License-Identifier: Apache-2.0 */
/* An event loop for unit tests, run until a fact holds, with a deadline. */
#pragma once

#include <stdbool.h>

#include <systemd/sd-event.h>

#include "base/clock.h"
#include "selftests/unit/test_util.h"

#define HF_TEST_DEADLINE_NS (10 * HF_NS_PER_S)

static inline void hf_test_run_until(sd_event *event, const bool *fact)
{
	uint64_t end = hf_now_monotonic_ns() + HF_TEST_DEADLINE_NS;

	while (!*fact) {
		assert_true(hf_now_monotonic_ns() < end);
		assert_ok(sd_event_run(event, 100000));
	}
}
